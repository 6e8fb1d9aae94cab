//! What happens after `pivot_root` and before the identity changes: masks, read-only paths, kernel parameters,
//! scheduling, labels.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use fluyt_model::error::{Error, IoContext, Result};
use fluyt_sys::mount::{self as attr, Attr};
use fluyt_sys::task;
use rustix::fs::{FileType, OFlags};

use super::mounts::{clone_tree, file_system};
use super::root::{Root, attach, clean};
use crate::procfs::Proc;
use crate::spec::{IoPriority, Personality, Process, Scheduler};

/// Hides paths: directories behind one empty read-only tmpfs, files behind the null device.
pub(crate) fn mask(root: &Root, paths: &[PathBuf], null: &OwnedFd, label: &str) -> Result<()> {
    let mut empty: Option<OwnedFd> = None;
    for (i, path) in paths.iter().enumerate() {
        if paths[..i].iter().any(|p| clean(p) == clean(path)) {
            continue;
        }
        let Some(target) = existing(root, path)? else { continue };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&target).about(|| "masked path")?.st_mode);
        let cover = match (kind, &empty) {
            (FileType::Directory, None) => empty_directory(label)?,
            (FileType::Directory, Some(first)) => clone_tree(first.as_fd(), Path::new(""), false)?,
            _ => clone_tree(null.as_fd(), Path::new(""), false)?,
        };
        attach(cover.as_fd(), target.as_fd()).about(|| format!("masking {}", path.display()))?;
        if kind == FileType::Directory && empty.is_none() {
            // Only an attached mount can be cloned on kernels before 6.15.
            empty = Some(cover);
        }
    }
    Ok(())
}

fn empty_directory(label: &str) -> Result<OwnedFd> {
    let mut data = vec!["size=0k".to_owned(), "nr_inodes=2".to_owned()];
    if !label.is_empty() && selinux_enabled() {
        data.push(format!("context={label}"));
    }
    let fd = file_system("tmpfs", "tmpfs", &data)?;
    attr::setattr(fd.as_fd(), &Attr { set: attr::RDONLY, ..Attr::default() }, false).about(|| "mask")?;
    Ok(fd)
}

/// Makes paths read-only.
pub(crate) fn read_only(root: &Root, paths: &[PathBuf]) -> Result<()> {
    for path in paths {
        let Some(target) = existing(root, path)? else { continue };
        let about = || format!("making {} read-only", path.display());
        let tree = clone_tree(target.as_fd(), Path::new(""), true)?;
        attr::setattr(tree.as_fd(), &Attr { set: attr::RDONLY, ..Attr::default() }, false).about(about)?;
        attach(tree.as_fd(), target.as_fd()).about(about)?;
    }
    Ok(())
}

fn existing(root: &Root, path: &Path) -> Result<Option<OwnedFd>> {
    match root.open(&clean(path), OFlags::PATH) {
        Ok(fd) => Ok(Some(fd)),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(e) => Err(Error::io(path.display().to_string(), e)),
    }
}

/// Writes kernel parameters through the verified handle; the namespaces that they belong to are the caller's by now.
pub(crate) fn sysctl(proc: &Proc, parameters: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in parameters {
        // "net.ipv4.conf.eth0/1.x": with dots as separators a slash stands for a dot, as sysctl(8) has it.
        let path = if name.contains('.') {
            name.replace('/', "\0").replace('.', "/").replace('\0', ".")
        } else {
            name.clone()
        };
        proc.write(&format!("sys/{path}"), value.as_bytes())
            .map_err(|e| e.context(format!("sysctl {name}")))?;
    }
    Ok(())
}

/// A new session keyring that the container's root may use.
pub(crate) fn keyring(id: &str) -> Result<()> {
    let name = CString::new(format!("_ses.{id}")).map_err(|_| Error::invalid("container id has a NUL"))?;
    let key = match task::join_session_keyring(&name) {
        Ok(key) => key,
        // Kernels without keys, and containers in containers whose filter refuses the call.
        Err(e)
            if matches!(e.kind(), std::io::ErrorKind::Unsupported | std::io::ErrorKind::PermissionDenied) =>
        {
            return Ok(());
        }
        Err(e) => return Err(Error::io("joining a session keyring", e)),
    };
    const USER_SEARCH: u32 = 0x0008_0000;
    let permissions = task::key_permissions(key).about(|| "session keyring")?;
    task::set_key_permissions(key, permissions | USER_SEARCH).about(|| "session keyring")
}

/// Scheduling policy, I/O priority, execution domain.
pub(crate) fn scheduling(process: &Process) -> Result<()> {
    if let Some(s) = &process.scheduler {
        scheduler(s)?;
    }
    if let Some(IoPriority { class, priority }) = &process.io_priority {
        let class_number = match class.as_str() {
            "IOPRIO_CLASS_RT" => 1,
            "IOPRIO_CLASS_BE" | "" => 2,
            "IOPRIO_CLASS_IDLE" => 3,
            other => return Err(Error::invalid(format!("ioPriority class {other:?}"))),
        };
        let level = u32::try_from(*priority).ok().filter(|p| *p < 8);
        let level =
            level.ok_or_else(|| Error::invalid(format!("ioPriority priority {priority} is not 0 to 7")))?;
        task::ioprio_set(class_number, level).about(|| format!("ioPriority {class} {priority}"))?;
    }
    Ok(())
}

fn scheduler(s: &Scheduler) -> Result<()> {
    let policy = match s.policy.as_str() {
        "SCHED_OTHER" => 0,
        "SCHED_FIFO" => 1,
        "SCHED_RR" => 2,
        "SCHED_BATCH" => 3,
        "SCHED_ISO" => 4,
        "SCHED_IDLE" => 5,
        "SCHED_DEADLINE" => 6,
        other => return Err(Error::invalid(format!("scheduler policy {other:?}"))),
    };
    let mut flags = 0;
    for flag in &s.flags {
        flags |= match flag.as_str() {
            "SCHED_FLAG_RESET_ON_FORK" => 1,
            "SCHED_FLAG_RECLAIM" => 2,
            "SCHED_FLAG_DL_OVERRUN" => 4,
            "SCHED_FLAG_KEEP_POLICY" => 8,
            "SCHED_FLAG_KEEP_PARAMS" => 0x10,
            "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
            "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
            other => return Err(Error::invalid(format!("scheduler flag {other:?}"))),
        };
    }
    let priority = u32::try_from(s.priority).map_err(|_| Error::invalid("scheduler priority is negative"))?;
    let attr = task::SchedAttr {
        policy,
        flags,
        nice: s.nice,
        priority,
        runtime: s.runtime,
        deadline: s.deadline,
        period: s.period,
    };
    task::sched_setattr(&attr).map_err(|e| {
        let mut about = format!("scheduler {}", s.policy);
        if s.policy == "SCHED_DEADLINE" && e.kind() == std::io::ErrorKind::PermissionDenied {
            about.push_str(": process scheduler can't be used together with AllowedCPUs");
        }
        Error::io(about, e)
    })
}

/// The execution domain.
pub(crate) fn personality(p: &Personality) -> Result<()> {
    let mut persona = match p.domain.as_str() {
        "LINUX" | "" => 0,
        "LINUX32" => 8,
        other => return Err(Error::invalid(format!("personality domain {other:?}"))),
    };
    for flag in &p.flags {
        persona |= match flag.as_str() {
            "UNAME26" => 0x0002_0000,
            "ADDR_NO_RANDOMIZE" => 0x0004_0000,
            "FDPIC_FUNCPTRS" => 0x0008_0000,
            "MMAP_PAGE_ZERO" => 0x0010_0000,
            "ADDR_COMPAT_LAYOUT" => 0x0020_0000,
            "READ_IMPLIES_EXEC" => 0x0040_0000,
            "ADDR_LIMIT_32BIT" => 0x0080_0000,
            "SHORT_INODE" => 0x0100_0000,
            "WHOLE_SECONDS" => 0x0200_0000,
            "STICKY_TIMEOUTS" => 0x0400_0000,
            "ADDR_LIMIT_3GB" => 0x0800_0000,
            other => return Err(Error::invalid(format!("personality flag {other:?}"))),
        };
    }
    task::personality(persona).about(|| "personality")
}

/// Labels that the next exec takes on.
pub(crate) fn labels(proc: &Proc, process: &Process) -> Result<()> {
    if !process.apparmor_profile.is_empty() {
        let data = format!("exec {}", process.apparmor_profile);
        let enabled =
            std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|t| t.first() == Some(&b'Y'));
        if !enabled && proc.file("thread-self/attr/apparmor/exec", OFlags::WRONLY).is_err() {
            return Err(Error::unsupported("apparmor: config provided but apparmor not supported"));
        }
        proc.write("thread-self/attr/apparmor/exec", data.as_bytes())
            .or_else(|_| proc.write("thread-self/attr/exec", data.as_bytes()))
            .map_err(|e| e.context(format!("apparmor profile {}", process.apparmor_profile)))?;
    }
    if !process.selinux_label.is_empty() {
        if !selinux_enabled() {
            return Err(Error::unsupported(
                "selinux label is specified in config, but selinux is disabled or not supported",
            ));
        }
        proc.write("thread-self/attr/exec", process.selinux_label.as_bytes())
            .map_err(|e| e.context(format!("selinux label {}", process.selinux_label)))?;
    }
    Ok(())
}

/// Whether SELinux is in force (its file system is mounted).
pub(crate) fn selinux_enabled() -> bool {
    const SELINUX_MAGIC: i64 = 0xf97c_ff8c;
    rustix::fs::statfs("/sys/fs/selinux").is_ok_and(|s| s.f_type == SELINUX_MAGIC)
}
