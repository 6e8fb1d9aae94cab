//! What can be known to be wrong with a configuration before anything is made.

use fluyt_model::error::{Error, Result};

use crate::spec::Spec;

/// Checks an id: what runc accepts, so that it is a safe file and cgroup name.
///
/// # Errors
/// `Invalid` with the characters that are allowed.
pub fn id(id: &str) -> Result<()> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-' | b'.');
    if id.is_empty() {
        return Err(Error::invalid("container id cannot be empty"));
    }
    if id == "." || id == ".." || id.len() > 1024 || !id.bytes().all(ok) {
        return Err(Error::invalid(format!("invalid container id {id:?}"))
            .with_hint("letters, digits and the characters _ + - . are allowed"));
    }
    Ok(())
}

pub(crate) fn spec(spec: &Spec, container: &str) -> Result<()> {
    id(container)?;
    version(&spec.oci_version)?;
    let linux = spec.linux();
    let has = |kind: &str| linux.namespaces.iter().any(|n| n.kind == kind);
    let is_new =
        |kind: &str| linux.namespaces.iter().any(|n| n.kind == kind && n.path.as_os_str().is_empty());
    if !spec.hostname.is_empty() && !has("uts") {
        return Err(Error::invalid("unable to set hostname without a private UTS namespace"));
    }
    if !spec.domainname.is_empty() && !has("uts") {
        return Err(Error::invalid("unable to set domainname without a private UTS namespace"));
    }
    let restricted = !linux.masked_paths.is_empty() || !linux.readonly_paths.is_empty();
    if !has("mount") && restricted {
        return Err(Error::invalid("unable to restrict sys entries without a private MNT namespace"));
    }
    let mapped = !linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty();
    if mapped && !has("user") {
        return Err(Error::invalid(
            "user namespace mappings specified, but user namespace isn't enabled in the config",
        ));
    }
    if is_new("user") && (linux.uid_mappings.is_empty() || linux.gid_mappings.is_empty()) {
        return Err(Error::invalid("a new user namespace needs uidMappings and gidMappings"));
    }
    if !linux.time_offsets.is_empty() && !is_new("time") {
        return Err(Error::invalid(
            "time namespace offsets specified, but time namespace isn't enabled in the config",
        ));
    }
    if let Some(policy) = &linux.memory_policy {
        crate::numa::parse(policy)?;
    }
    net_devices(spec, &has)?;
    sysctls(spec, &has)?;
    mounts(spec)?;
    if let Some(p) = &spec.process {
        process(p)?;
    }
    if let Some(h) = &spec.hooks {
        for list in [
            &h.prestart,
            &h.create_runtime,
            &h.create_container,
            &h.start_container,
            &h.poststart,
            &h.poststop,
        ] {
            crate::hooks::validate(list)?;
        }
    }
    Ok(())
}

/// The process part, as `exec` needs it too.
pub(crate) fn process(p: &crate::spec::Process) -> Result<()> {
    if p.args.is_empty() {
        return Err(Error::invalid("process.args must not be empty"));
    }
    if !p.cwd.is_absolute() {
        return Err(Error::invalid(format!("cwd must be an absolute path, not {:?}", p.cwd)));
    }
    crate::rlimit::validate(&p.rlimits)
}

fn version(text: &str) -> Result<()> {
    let mut parts = text.split(['.', '-', '+']);
    let major = parts.next().and_then(|p| p.parse::<u32>().ok());
    let minor = parts.next().and_then(|p| p.parse::<u32>().ok());
    match (major, minor) {
        (Some(1), Some(_)) => Ok(()),
        (Some(_), Some(_)) => Err(Error::unsupported(format!("ociVersion {text:?} is not 1.x"))),
        _ => Err(Error::invalid(format!("ociVersion {text:?} is not a version"))),
    }
}

/// Devices can only be moved into a network namespace that is not the caller's.
fn net_devices(spec: &Spec, has: &dyn Fn(&str) -> bool) -> Result<()> {
    let devices = &spec.linux().net_devices;
    if !devices.is_empty() && !has("network") {
        return Err(Error::invalid("unable to move network devices without a private NET namespace"));
    }
    for (name, device) in devices {
        let new = if device.name.is_empty() { name } else { &device.name };
        if let Some(bad) = [name, new].into_iter().find(|n| !crate::netdev::is_name(n)) {
            return Err(Error::invalid(format!("invalid network device name {bad:?}")));
        }
    }
    Ok(())
}

fn mounts(spec: &Spec) -> Result<()> {
    for m in &spec.mounts {
        if m.destination.as_os_str().is_empty() {
            return Err(Error::invalid("a mount has no destination"));
        }
        if m.uid_mappings.is_empty() != m.gid_mappings.is_empty() {
            return Err(Error::invalid(format!(
                "mount {:?}: uidMappings and gidMappings go together",
                m.destination
            )));
        }
    }
    Ok(())
}

/// Only kernel parameters that belong to a namespace of the container may be set.
fn sysctls(spec: &Spec, has: &dyn Fn(&str) -> bool) -> Result<()> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    for (name, value) in &spec.linux().sysctl {
        let dotted = name.replace('/', ".");
        let name = if name.contains('.') { name.as_str() } else { dotted.as_str() };
        let need = if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
            "ipc"
        } else if name.starts_with("net.") {
            "network"
        } else if name == "kernel.domainname" || name == "kernel.hostname" {
            "uts"
        } else if name.starts_with("user.") {
            "user"
        } else {
            return Err(Error::invalid(format!("sysctl {name:?} is not in a separate kernel namespace")));
        };
        if !has(need) {
            return Err(Error::invalid(format!(
                "sysctl {name:?} is not allowed in the hosts {need} namespace"
            )));
        }
        if name == "kernel.hostname" && !spec.hostname.is_empty() {
            return Err(Error::invalid("sysctl kernel.hostname conflicts with hostname"));
        }
        if name == "kernel.domainname" && !spec.domainname.is_empty() && *value != spec.domainname {
            return Err(Error::invalid("sysctl kernel.domainname conflicts with domainname"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_safe_names() {
        for good in ["a", "A-b_c.d+1"] {
            assert!(id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "\u{e9}"] {
            assert!(id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn versions_of_the_first_major_are_accepted() {
        for good in ["1.0.0", "1.0.2-dev", "1.2.1"] {
            assert!(version(good).is_ok(), "{good}");
        }
        assert!(version("2.0.0").is_err());
        assert!(version("").is_err());
    }
}
