//! Makes the table of system call numbers by name, as a static hash table, from the `syscalls` crate.
//!
//! One look-up gives the numbers of all architectures that the target's kernels run.

use std::fmt::Write as _;

/// x32 calls whose numbers differ from those of x86-64 (arch/x86/entry/syscalls/syscall_64.tbl).
const X32: [(&str, u32); 36] = [
    ("rt_sigaction", 512),
    ("rt_sigreturn", 513),
    ("ioctl", 514),
    ("readv", 515),
    ("writev", 516),
    ("recvfrom", 517),
    ("sendmsg", 518),
    ("recvmsg", 519),
    ("execve", 520),
    ("ptrace", 521),
    ("rt_sigpending", 522),
    ("rt_sigtimedwait", 523),
    ("rt_sigqueueinfo", 524),
    ("sigaltstack", 525),
    ("timer_create", 526),
    ("mq_notify", 527),
    ("kexec_load", 528),
    ("waitid", 529),
    ("set_robust_list", 530),
    ("get_robust_list", 531),
    ("vmsplice", 532),
    ("move_pages", 533),
    ("preadv", 534),
    ("pwritev", 535),
    ("rt_tgsigqueueinfo", 536),
    ("recvmmsg", 537),
    ("sendmmsg", 538),
    ("process_vm_readv", 539),
    ("process_vm_writev", 540),
    ("setsockopt", 541),
    ("getsockopt", 542),
    ("io_setup", 543),
    ("io_submit", 544),
    ("execveat", 545),
    ("preadv2", 546),
    ("pwritev2", 547),
];

/// Calls newer than the table of the crate; the same number everywhere since Linux 5.1.
const NEWER: [(&str, u32); 19] = [
    ("process_mrelease", 448),
    ("futex_waitv", 449),
    ("set_mempolicy_home_node", 450),
    ("cachestat", 451),
    ("fchmodat2", 452),
    ("map_shadow_stack", 453),
    ("futex_wake", 454),
    ("futex_wait", 455),
    ("futex_requeue", 456),
    ("statmount", 457),
    ("listmount", 458),
    ("lsm_get_self_attr", 459),
    ("lsm_set_self_attr", 460),
    ("lsm_list_modules", 461),
    ("mseal", 462),
    ("setxattrat", 463),
    ("getxattrat", 464),
    ("listxattrat", 465),
    ("removexattrat", 466),
];

const SLOTS: usize = 2048;
const NONE: u32 = u32::MAX;

fn hash(name: &str) -> usize {
    let h = name.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    ((h ^ (h >> 15)) as usize) % SLOTS
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    type Numbers = Vec<(&'static str, u32)>;
    let (native, compat): (Numbers, Numbers) = match target.as_str() {
        "aarch64" => (
            syscalls::aarch64::Sysno::iter().map(|s| (s.name(), s.id() as u32)).collect(),
            syscalls::arm::Sysno::iter().map(|s| (s.name(), s.id() as u32)).collect(),
        ),
        _ => (
            syscalls::x86_64::Sysno::iter().map(|s| (s.name(), s.id() as u32)).collect(),
            syscalls::x86::Sysno::iter().map(|s| (s.name(), s.id() as u32)).collect(),
        ),
    };
    let find =
        |list: &[(&str, u32)], name: &str| list.iter().find(|(n, _)| *n == name).map_or(NONE, |(_, nr)| *nr);
    let mut names: Vec<&str> = native.iter().chain(&compat).chain(&NEWER).map(|(n, _)| *n).collect();
    names.sort_unstable();
    names.dedup();
    let mut slots = vec![0u16; SLOTS];
    let mut text = String::from("static CALLS: &[(&str, [u32; 3])] = &[\n");
    for (i, name) in names.iter().enumerate() {
        let newer = find(&NEWER, name);
        let or_newer = |nr: u32| if nr == NONE { newer } else { nr };
        let (a, b) = (or_newer(find(&native, name)), or_newer(find(&compat, name)));
        let x32 = match find(&X32, name) {
            NONE => a,
            nr => nr,
        };
        let third = if target == "aarch64" || x32 == NONE { NONE } else { x32 | 0x4000_0000 };
        let _ = writeln!(text, "    ({name:?}, [{a}, {b}, {third}]),");
        let mut slot = hash(name);
        while slots[slot] != 0 {
            slot = (slot + 1) % SLOTS;
        }
        slots[slot] = u16::try_from(i + 1).expect("fewer calls than slots");
    }
    let _ = writeln!(text, "];\nstatic SLOTS: [u16; {SLOTS}] = {slots:?};");
    let out = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    std::fs::write(std::path::Path::new(&out).join("calls.rs"), text).expect("OUT_DIR is writable");
}
