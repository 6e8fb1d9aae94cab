//! The documents of the OCI runtime specification 1.3 (`config.json`), as far as Linux is concerned.
//!
//! Reading is tolerant as the specification asks: unknown fields are ignored, `null` is the default. Values that only the
//! kernel can judge stay strings and numbers here; what they mean is decided where they are used. Nothing is validated.

mod linux;
mod process;
mod resources;
mod seccomp;

pub use linux::*;
pub use process::*;
pub use resources::*;
pub use seccomp::*;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

/// Declares a document whose fields are all optional when read and left out when they have their default.
macro_rules! wire {
    ($($(#[$m:meta])* pub struct $name:ident { $($(#[$fm:meta])* $f:ident: $t:ty,)* })*) => { $(
        $(#[$m])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name { $(
            $(#[$fm])*
            #[serde(
                default,
                deserialize_with = "crate::spec::nullable",
                skip_serializing_if = "crate::spec::is_default"
            )]
            pub $f: $t,
        )* }
    )* };
}
pub(crate) use wire;

pub(crate) fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    d: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

wire! {
/// The whole `config.json`.
pub struct Spec {
    /// The version of the specification that the document follows.
    oci_version: String,
    /// Where the root file system is.
    root: Option<Root>,
    /// Mounts besides the root, in order.
    mounts: Vec<Mount>,
    /// What to run; a container can be created, but not started, without it.
    process: Option<Process>,
    /// The host name inside.
    hostname: String,
    /// The NIS domain name inside.
    domainname: String,
    /// Programs to run at points of the life cycle.
    hooks: Option<Hooks>,
    /// Arbitrary metadata.
    annotations: BTreeMap<String, String>,
    /// Everything that only Linux has.
    linux: Option<Linux>,
}

/// The root file system.
pub struct Root {
    /// Absolute, or relative to the bundle.
    path: PathBuf,
    /// Whether it is read-only inside.
    readonly: bool,
}

/// One mount.
pub struct Mount {
    /// Where, in the container.
    destination: PathBuf,
    /// The file system type; `bind` or `none` for bind mounts.
    #[serde(rename = "type")]
    kind: String,
    /// A device, a name, or the path to bind (relative to the bundle).
    source: PathBuf,
    /// Options as in fstab.
    options: Vec<String>,
    /// Users: mapping of the mount itself.
    uid_mappings: Vec<IdMapping>,
    /// Groups: mapping of the mount itself.
    gid_mappings: Vec<IdMapping>,
}

/// Programs to run at points of the life cycle.
pub struct Hooks {
    /// Deprecated: after the namespaces exist, before `pivot_root`; in the runtime's namespaces.
    prestart: Vec<Hook>,
    /// Like `prestart`, after it.
    create_runtime: Vec<Hook>,
    /// Before `pivot_root`, in the container's namespaces.
    create_container: Vec<Hook>,
    /// After `pivot_root`, before the process is executed, in the container's namespaces.
    start_container: Vec<Hook>,
    /// After the process was started, in the runtime's namespaces.
    poststart: Vec<Hook>,
    /// After the container was deleted, in the runtime's namespaces.
    poststop: Vec<Hook>,
}

/// One hook.
pub struct Hook {
    /// An absolute path.
    path: PathBuf,
    /// The arguments, with the program's name.
    args: Vec<String>,
    /// The whole environment, `NAME=value`.
    env: Vec<String>,
    /// Seconds after which it is killed and counts as failed.
    timeout: Option<i64>,
}
}

/// The state that hooks get on stdin and that `state` prints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The version of the specification.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// `creating`, `created`, `running` or `stopped`.
    pub status: String,
    /// The init process in the runtime's pid namespace, when there is one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pid: i32,
    /// The absolute path of the bundle.
    pub bundle: PathBuf,
    /// The annotations of the configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Spec {
    /// The Linux part, or an empty one.
    #[must_use]
    pub fn linux(&self) -> &Linux {
        static EMPTY: std::sync::OnceLock<Linux> = std::sync::OnceLock::new();
        self.linux.as_ref().unwrap_or_else(|| EMPTY.get_or_init(Linux::default))
    }

    /// Takes the rules of the system call filter out: most of a configuration is these, and copies seldom need them.
    #[must_use]
    pub fn take_rules(&mut self) -> Vec<SyscallRule> {
        let seccomp = self.linux.as_mut().and_then(|l| l.seccomp.as_mut());
        seccomp.map(|s| std::mem::take(&mut s.syscalls)).unwrap_or_default()
    }

    /// Puts them back.
    pub fn put_rules(&mut self, rules: Vec<SyscallRule>) {
        if let Some(seccomp) = self.linux.as_mut().and_then(|l| l.seccomp.as_mut()) {
            seccomp.syscalls = rules;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_unknown_fields_are_tolerated() {
        let text = r#"{"ociVersion":"1.2.0","mounts":null,"future":{"a":1},"process":{"args":["a"],"user":{"uid":1},
            "capabilities":{"bounding":null}},"linux":{"namespaces":[{"type":"pid"},{"type":"other"}]}}"#;
        let spec: Spec = serde_json::from_str(text).expect("valid");
        assert!(spec.mounts.is_empty());
        assert_eq!(spec.process.as_ref().map(|p| p.user.uid), Some(1));
        assert_eq!(spec.linux().namespaces.len(), 2);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut spec = Spec { oci_version: "1.2.0".into(), hostname: "h".into(), ..Spec::default() };
        spec.linux = Some(Linux { cgroups_path: "/a".into(), ..Linux::default() });
        let text = serde_json::to_string(&spec).expect("serialises");
        assert_eq!(serde_json::from_str::<Spec>(&text).expect("valid"), spec);
        assert!(text.contains("cgroupsPath"), "{text}");
    }
}
