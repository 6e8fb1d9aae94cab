//! Privileges, confinement and devices.

use std::path::PathBuf;

use fluyt_model::sandbox::{DeviceSpec, Seccomp, Security};
use fluyt_model::{Error, Result};

use crate::types::HostConfig;

pub(super) fn security(host: &HostConfig) -> Result<Security> {
    let list = |l: &crate::types::List<String>| (!l.is_null()).then(|| l.to_vec());
    let mut security = Security {
        privileged: host.privileged,
        cap_add: capabilities(&host.cap_add)?,
        cap_drop: capabilities(&host.cap_drop)?,
        read_only_root: host.readonly_rootfs,
        masked_paths: list(&host.masked_paths),
        read_only_paths: list(&host.readonly_paths),
        ..Security::default()
    };
    for option in host.security_opt.iter() {
        apply(&mut security, option)?;
    }
    Ok(security)
}

fn apply(security: &mut Security, option: &str) -> Result<()> {
    let invalid = || {
        Error::invalid(format!("invalid --security-opt: \"{option}\"")).with_hint(
            "known: seccomp=, apparmor=, label=, no-new-privileges, systempaths=unconfined, mask=, unmask=",
        )
    };
    // The old form has a colon; a profile in JSON has both, so the first of either counts.
    let (key, value) = match option.find(['=', ':']) {
        Some(at) => (&option[..at], &option[at + 1..]),
        None => (option, ""),
    };
    match (key, value) {
        ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
        ("no-new-privileges", "false") => security.no_new_privileges = false,
        ("seccomp", "unconfined") => security.seccomp = Seccomp::Unconfined,
        ("seccomp", "builtin" | "default") => security.seccomp = Seccomp::Default,
        ("seccomp", profile) if profile.starts_with('{') => {
            security.seccomp = Seccomp::Profile(profile.to_owned())
        }
        ("apparmor", profile) => profile.clone_into(&mut security.apparmor),
        ("label", label) => security.selinux.push(label.to_owned()),
        ("systempaths", "unconfined") => {
            security.masked_paths = Some(Vec::new());
            security.read_only_paths = Some(Vec::new());
        }
        ("mask", paths) => {
            let masked = security.masked_paths.get_or_insert_with(default_masked);
            masked.extend(paths.split(':').map(str::to_owned));
        }
        ("unmask", "ALL") => {
            security.masked_paths = Some(Vec::new());
            security.read_only_paths = Some(Vec::new());
        }
        ("unmask", paths) => {
            let unmasked: Vec<&str> = paths.split(':').collect();
            security
                .masked_paths
                .get_or_insert_with(default_masked)
                .retain(|p| !unmasked.contains(&p.as_str()));
            security
                .read_only_paths
                .get_or_insert_with(default_read_only)
                .retain(|p| !unmasked.contains(&p.as_str()));
        }
        _ => return Err(invalid()),
    }
    Ok(())
}

fn default_masked() -> Vec<String> {
    fluyt_model::sandbox::MASKED_PATHS.iter().map(|p| (*p).to_owned()).collect()
}

fn default_read_only() -> Vec<String> {
    fluyt_model::sandbox::READ_ONLY_PATHS.iter().map(|p| (*p).to_owned()).collect()
}

/// Names without `CAP_`, upper case, checked.
fn capabilities(names: &[String]) -> Result<Vec<String>> {
    names
        .iter()
        .map(|name| {
            let upper = name.to_ascii_uppercase();
            let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
            if bare == "ALL" || fluyt_model::sandbox::CAPABILITIES.contains(&bare) {
                Ok(bare.to_owned())
            } else {
                Err(Error::invalid(format!("invalid capability: \"{name}\"")))
            }
        })
        .collect()
}

pub(super) fn devices(host: &HostConfig) -> Vec<DeviceSpec> {
    host.resources
        .devices
        .iter()
        .map(|d| DeviceSpec {
            host_path: PathBuf::from(&d.path_on_host),
            container_path: PathBuf::from(if d.path_in_container.is_empty() {
                &d.path_on_host
            } else {
                &d.path_in_container
            }),
            permissions: if d.cgroup_permissions.is_empty() {
                "rwm".into()
            } else {
                d.cgroup_permissions.clone()
            },
        })
        .collect()
}

/// Devices of one request at most.
const MAX_DEVICES: i64 = 1024;

/// Devices by CDI name: asked for as such, or as "GPUs", which CDI names by vendor.
pub(super) fn cdi_devices(host: &HostConfig) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for request in host.resources.device_requests.iter() {
        if !(-1..=MAX_DEVICES).contains(&request.count) {
            return Err(Error::invalid(format!(
                "invalid count of devices {}: -1 for all, or at most {MAX_DEVICES}",
                request.count
            )));
        }
        let gpu = request.capabilities.iter().any(|set| set.iter().any(|c| c == "gpu"));
        match request.driver.as_str() {
            "cdi" => names.extend(request.device_ids.iter().cloned()),
            "" | "nvidia" if gpu && !request.device_ids.is_empty() => {
                names.extend(request.device_ids.iter().map(|id| format!("nvidia.com/gpu={id}")));
            }
            "" | "nvidia" if gpu && request.count == -1 => names.push("nvidia.com/gpu=all".to_owned()),
            "" | "nvidia" if gpu => names.extend((0..request.count).map(|n| format!("nvidia.com/gpu={n}"))),
            other => {
                return Err(Error::invalid(format!(
                    "could not select device driver \"{other}\" with capabilities: {:?}",
                    *request.capabilities
                ))
                .with_hint("devices are injected by CDI: name them vendor/class=name"));
            }
        }
    }
    Ok(names)
}
