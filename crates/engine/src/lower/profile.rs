//! System call filters: the built-in profile, and profiles in Docker's format (which containers/common shares).
//!
//! The built-in one allows what ordinary programs need and leaves out what has broken containers open before:
//! loading modules, mounting, keyrings, tracing by BPF, io_uring, new user namespaces, vsock.

use fluyt_model::sandbox::{Seccomp as Choice, Security};
use fluyt_model::{Error, Result};
use fluyt_runtime::spec::{Seccomp, SyscallArg, SyscallRule};
use serde::Deserialize;

const ALLOW: &str = "SCMP_ACT_ALLOW";
const ERRNO: &str = "SCMP_ACT_ERRNO";
/// Every flag of clone(2) that makes a namespace.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const AF_VSOCK: u64 = 40;

/// Allowed for everybody, by what the calls are about.
const COMMON: &str = "
    accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64
    recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair
    access chdir chmod chown chown32 creat dup dup2 dup3 faccessat faccessat2 fadvise64 fadvise64_64 fallocate fchdir
    fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync flock fstat fstat64 fstatat64 fstatfs
    fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64 ioctl lchown lchown32 link linkat _llseek
    lseek lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 read readahead
    readlink readlinkat readv pread64 preadv preadv2 pwrite64 pwritev pwritev2 rename renameat renameat2 rmdir stat
    stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range syncfs truncate truncate64 umask unlink unlinkat
    utime utimensat utimensat_time64 utimes write writev close close_range copy_file_range sendfile sendfile64 splice tee
    vmsplice cachestat
    fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat llistxattr
    lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd
    eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch _newselect pipe pipe2 poll ppoll
    ppoll_time64 pselect6 pselect6_time64 select signalfd signalfd4
    brk madvise membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap mseal msync
    munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages map_shadow_stack process_mrelease
    futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake get_robust_list set_robust_list rseq
    get_thread_area set_thread_area set_tid_address restart_syscall
    execve execveat exit exit_group fork vfork wait4 waitid waitpid kill tgkill tkill pause prctl seccomp uname sysinfo
    getpgid getpgrp getpid getppid getsid gettid setpgid setsid pidfd_open pidfd_send_signal
    capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32
    getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32
    setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32
    getcpu getpriority setpriority getrlimit setrlimit ugetrlimit prlimit64 getrusage times ioprio_get ioprio_set
    sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler
    sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler sched_yield
    rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack sigprocmask sigreturn
    adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create timer_delete
    timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
    timerfd_gettime64 timerfd_settime timerfd_settime64
    ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink
    msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget
    getrandom io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit
    landlock_add_rule landlock_create_ruleset landlock_restrict_self lsm_get_self_attr lsm_list_modules
    lsm_set_self_attr process_vm_readv process_vm_writev ptrace arch_prctl modify_ldt
    riscv_flush_icache riscv_hwprobe arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls
";

/// Allowed for those who hold a capability.
const BY_CAPABILITY: [(&str, &str); 14] = [
    ("DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick listmount lookup_dcookie mount mount_setattr
         move_mount open_tree open_tree_attr perf_event_open quotactl quotactl_fd setdomainname sethostname setns statmount
         syslog umount umount2 unshare",
    ),
    ("SYS_BOOT", "reboot"),
    ("SYS_CHROOT", "chroot"),
    ("SYS_MODULE", "delete_module init_module finit_module"),
    ("SYS_PACCT", "acct"),
    ("SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("SYS_RAWIO", "iopl ioperm"),
    ("SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("SYS_TTY_CONFIG", "vhangup"),
    ("SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("SYSLOG", "syslog"),
    ("BPF", "bpf"),
    ("PERFMON", "perf_event_open"),
];

/// The filter that `security` asks for, for a container with these capabilities (without `CAP_`).
///
/// # Errors
/// `Invalid` if a profile given by the user cannot be read.
pub fn select(security: &Security, capabilities: &[&str]) -> Result<Option<Seccomp>> {
    match &security.seccomp {
        Choice::Unconfined => Ok(None),
        Choice::Default if security.privileged => Ok(None),
        Choice::Default => Ok(Some(builtin(capabilities))),
        Choice::Profile(text) => docker(text, capabilities).map(Some),
    }
}

fn architectures() -> Vec<String> {
    let names: &[&str] = match std::env::consts::ARCH {
        "x86_64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "aarch64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "riscv64" => &["SCMP_ARCH_RISCV64"],
        "s390x" => &["SCMP_ARCH_S390X", "SCMP_ARCH_S390"],
        "powerpc64" => &["SCMP_ARCH_PPC64LE"],
        _ => &[],
    };
    names.iter().map(|n| (*n).to_owned()).collect()
}

fn rule(names: &str, action: &str, errno: Option<u32>, args: Vec<SyscallArg>) -> SyscallRule {
    SyscallRule {
        names: names.split_whitespace().map(str::to_owned).collect(),
        action: action.to_owned(),
        errno_ret: errno,
        args,
    }
}

fn arg(value: u64, value_two: u64, op: &str) -> SyscallArg {
    SyscallArg { index: 0, value, value_two, op: op.to_owned() }
}

/// The built-in profile for a container with these capabilities.
#[must_use]
pub fn builtin(capabilities: &[&str]) -> Seccomp {
    let has = |name: &str| capabilities.contains(&name);
    let mut syscalls = vec![rule(COMMON, ALLOW, None, Vec::new())];
    syscalls.push(rule("socket", ALLOW, None, vec![arg(AF_VSOCK, 0, "SCMP_CMP_NE")]));
    // The personalities that programs ask for: Linux, 32 bits, short inodes, both; and the question which it is.
    for persona in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        syscalls.push(rule("personality", ALLOW, None, vec![arg(persona, 0, "SCMP_CMP_EQ")]));
    }
    for (capability, names) in BY_CAPABILITY {
        if has(capability) {
            syscalls.push(rule(names, ALLOW, None, Vec::new()));
        }
    }
    if !has("SYS_ADMIN") {
        syscalls.push(rule("clone", ALLOW, None, vec![arg(NAMESPACE_FLAGS, 0, "SCMP_CMP_MASKED_EQ")]));
        // Its flags are behind a pointer that a filter cannot follow; programs fall back to clone.
        syscalls.push(rule("clone3", ERRNO, Some(ENOSYS), Vec::new()));
    }
    Seccomp {
        default_action: ERRNO.to_owned(),
        default_errno_ret: Some(EPERM),
        architectures: architectures(),
        syscalls,
        ..Seccomp::default()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<ArchMap>>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    #[serde(default)]
    listener_path: String,
    #[serde(default)]
    listener_metadata: String,
    #[serde(default)]
    syscalls: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    name: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<SyscallArg>>,
    #[serde(default)]
    includes: Option<Condition>,
    #[serde(default)]
    excludes: Option<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

impl Condition {
    fn caps<'a>(&'a self, capabilities: &'a [&str]) -> impl Iterator<Item = bool> + 'a {
        self.caps.iter().flatten().map(|c| capabilities.contains(&c.strip_prefix("CAP_").unwrap_or(c)))
    }

    fn arch(&self) -> Option<bool> {
        let own = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        self.arches.as_ref().filter(|a| !a.is_empty()).map(|a| a.iter().any(|a| a == own))
    }
}

/// A profile in Docker's format, with its conditions decided for these capabilities and this machine.
fn docker(text: &str, capabilities: &[&str]) -> Result<Seccomp> {
    let profile: Profile = serde_json::from_str(text)
        .map_err(|e| Error::invalid("decoding seccomp profile failed").with_source(e))?;
    let applies = |rule: &Rule| {
        let (yes, no) = (rule.includes.as_ref(), rule.excludes.as_ref());
        yes.is_none_or(|c| c.caps(capabilities).all(|held| held) && c.arch() != Some(false))
            && no.is_none_or(|c| !c.caps(capabilities).any(|held| held) && c.arch() != Some(true))
            // Every kernel that fluyt runs on is newer than any that a profile asks for.
            && yes.is_none_or(|c| c.min_kernel.as_deref().is_none_or(|v| version(v) <= (5, 15)))
    };
    let syscalls = profile.syscalls.unwrap_or_default().into_iter().filter(applies).map(|r| SyscallRule {
        names: r
            .names
            .unwrap_or_default()
            .into_iter()
            .chain((!r.name.is_empty()).then_some(r.name))
            .collect(),
        action: r.action,
        errno_ret: r.errno_ret,
        args: r.args.unwrap_or_default(),
    });
    let syscalls = syscalls.collect();
    let own = architectures();
    let mapped =
        profile.arch_map.unwrap_or_default().into_iter().find(|m| own.first() == Some(&m.architecture));
    let architectures = match (profile.architectures.filter(|a| !a.is_empty()), mapped) {
        (Some(listed), _) => listed,
        (None, Some(m)) => {
            [m.architecture].into_iter().chain(m.sub_architectures.unwrap_or_default()).collect()
        }
        (None, None) => own,
    };
    Ok(Seccomp {
        default_action: profile.default_action,
        default_errno_ret: profile.default_errno_ret,
        architectures,
        flags: profile.flags,
        listener_path: profile.listener_path,
        listener_metadata: profile.listener_metadata,
        syscalls,
    })
}

fn version(text: &str) -> (u32, u32) {
    let mut parts = text.split('.').map(|p| p.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(profile: &Seccomp, name: &str) -> bool {
        profile.syscalls.iter().any(|r| r.action == ALLOW && r.names.iter().any(|n| n == name))
    }

    #[test]
    fn the_built_in_profile_follows_the_capabilities() {
        let plain = builtin(&["CHOWN", "SYS_CHROOT"]);
        assert!(allows(&plain, "read") && allows(&plain, "chroot"));
        for refused in
            ["mount", "bpf", "io_uring_setup", "keyctl", "add_key", "userfaultfd", "kexec_load", "clone3"]
        {
            assert!(!allows(&plain, refused), "{refused}");
        }
        assert!(allows(&builtin(&["SYS_ADMIN"]), "mount"));
    }

    #[test]
    fn a_docker_profile_is_decided_for_this_container() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
            "syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW"},{"name":"b","action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_BPF"]}},
            {"names":["c"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_BPF"]}},{"names":["d"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["s390"]}}]}"#;
        let with = docker(text, &["BPF"]).unwrap();
        assert!(allows(&with, "a") && allows(&with, "b") && !allows(&with, "c") && !allows(&with, "d"));
        let without = docker(text, &[]).unwrap();
        assert!(!allows(&without, "b") && allows(&without, "c"));
        assert!(docker("{", &[]).is_err());
    }
}
