//! `features`: what this runtime can do, as the specification's features document.

use fluyt_model::error::{Error, Result};
use fluyt_runtime::features as f;
use serde_json::json;

use super::args::Parsed;
use super::{Context, print, spec::OCI_VERSION};

/// `features`.
pub(super) fn features(_: &Context, _: &Parsed) -> Result<i32> {
    let document = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": f::HOOKS,
        "mountOptions": f::mount_options(),
        "linux": {
            "namespaces": f::NAMESPACES,
            "capabilities": f::capabilities(),
            "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": false, "rdma": true},
            "seccomp": {
                "enabled": true,
                "actions": f::SECCOMP_ACTIONS,
                "operators": f::SECCOMP_OPERATORS,
                "archs": f::SECCOMP_ARCHS,
                "knownFlags": f::SECCOMP_FLAGS,
                "supportedFlags": f::SECCOMP_FLAGS,
            },
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": true, "schemata": true, "monitoring": true},
            "memoryPolicy": {"modes": f::memory_policy_modes(), "flags": f::memory_policy_flags()},
            "netDevices": {"enabled": true},
            "mountExtensions": {"idmap": {"enabled": true}},
        },
        "annotations": {"org.fluyt.version": env!("CARGO_PKG_VERSION")},
        "potentiallyUnsafeConfigAnnotations": [],
    });
    let text =
        serde_json::to_string_pretty(&document).map_err(|e| Error::internal("features").with_source(e))?;
    print(&format!("{text}\n")).map(|()| 0)
}
