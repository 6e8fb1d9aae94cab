//! Who the process is: ids, groups, capabilities.

use fluyt_model::error::{Error, IoContext, Result};
use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::thread::{self, CapabilitySet, CapabilitySets};

use crate::spec::{Capabilities, User};

/// Capability names by number.
pub(crate) const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

fn number(name: &str) -> Option<usize> {
    let upper = name.to_ascii_uppercase();
    NAMES.iter().position(|n| *n == upper || n.strip_prefix("CAP_") == Some(&upper))
}

/// The bits of a list of names. Unknown names are ignored, as the specification asks.
#[must_use]
pub(crate) fn bits(names: &[String]) -> u64 {
    names.iter().filter_map(|n| number(n)).fold(0, |set, n| set | 1 << n)
}

/// The specification wants a word about names that mean nothing here.
fn unknown(wanted: &Capabilities) -> Vec<String> {
    let lists =
        [&wanted.bounding, &wanted.effective, &wanted.inheritable, &wanted.permitted, &wanted.ambient];
    let mut names: Vec<&str> = Vec::new();
    for name in lists.into_iter().flatten().filter(|n| number(n).is_none()) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Vec::new();
    }
    vec![format!("ignoring unknown or unavailable capabilities: {}", names.join(" "))]
}

fn set(bits: u64) -> CapabilitySet {
    CapabilitySet::from_bits_retain(bits)
}

/// Becomes the user with exactly the capabilities given (none without `capabilities`).
///
/// What the caller itself does not hold cannot be given and is left out, as the specification allows; ambient
/// capabilities that cannot be raised (not inheritable, or not permitted) come back as warnings, like names that are not known.
pub(crate) fn assume(user: &User, capabilities: Option<&Capabilities>) -> Result<Vec<String>> {
    let none = Capabilities::default();
    let wanted = capabilities.unwrap_or(&none);
    let own = thread::capabilities(None).about(|| "own capabilities")?;
    drop_bounding(bits(&wanted.bounding), own)?;
    thread::set_keep_capabilities(true).about(|| "keeping capabilities")?;
    change_ids(user)?;
    thread::set_keep_capabilities(false).about(|| "keeping capabilities")?;

    let held = own.permitted.bits();
    let permitted = bits(&wanted.permitted) & held;
    let sets = CapabilitySets {
        effective: set(bits(&wanted.effective) & permitted),
        permitted: set(permitted),
        inheritable: set(bits(&wanted.inheritable) & held),
    };
    thread::set_capabilities(None, sets).about(|| "setting capabilities")?;
    thread::clear_ambient_capability_set().about(|| "ambient capabilities")?;
    let mut warnings = unknown(wanted);
    for number in each(bits(&wanted.ambient)) {
        if let Err(e) = thread::configure_capability_in_ambient_set(set(1 << number), true) {
            warnings.push(format!("can't raise ambient capability {}: {e}", NAMES[number]));
        }
    }
    Ok(warnings)
}

fn each(bits: u64) -> impl Iterator<Item = usize> {
    (0..NAMES.len()).filter(move |n| bits & (1 << n) != 0)
}

fn drop_bounding(keep: u64, own: CapabilitySets) -> Result<()> {
    if !own.effective.contains(CapabilitySet::SETPCAP) {
        return Ok(());
    }
    for number in 0..64 {
        if keep & (1 << number) != 0 {
            continue;
        }
        match thread::remove_capability_from_bounding_set(set(1 << number)) {
            Ok(()) => {}
            // One past the last that this kernel has.
            Err(Errno::INVAL) => break,
            Err(e) => return Err(Error::io("dropping a capability from the bounding set", e.into())),
        }
    }
    Ok(())
}

fn change_ids(user: &User) -> Result<()> {
    let groups: Vec<Gid> = user.additional_gids.iter().map(|g| Gid::from_raw(*g)).collect();
    match thread::set_thread_groups(&groups) {
        Ok(()) => {}
        // A user namespace whose groups are frozen (setgroups: deny); nothing to do if nothing is asked.
        Err(Errno::PERM) if groups.is_empty() => {}
        Err(e) => return Err(Error::io("setting supplementary groups", e.into())),
    }
    let gid = Gid::from_raw(user.gid);
    thread::set_thread_res_gid(gid, gid, gid).about(|| format!("setgid {}", user.gid))?;
    let uid = Uid::from_raw(user.uid);
    thread::set_thread_res_uid(uid, uid, uid).about(|| format!("setuid {}", user.uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_bits_and_unknown_ones_nothing() {
        assert_eq!(bits(&["CAP_CHOWN".into(), "kill".into(), "CAP_FUTURE".into()]), 0b10_0001);
        assert_eq!(each(0b10_0001).collect::<Vec<_>>(), [0, 5]);
    }
}
