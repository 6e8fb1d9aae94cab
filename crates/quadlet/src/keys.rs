//! The keys of each section and what becomes of them. The order is that of the arguments.

/// A key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What becomes of it.
    pub rule: Rule,
}

/// What becomes of a key's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The last value, if it is not empty, behind this flag.
    Text(&'static str),
    /// The last value, if it is not empty, in one word with this text before it.
    Glued(&'static str),
    /// The last value, empty or not, in one word with this text before it.
    Even(&'static str),
    /// The last value, if it is not empty, behind the flag and in one word with a text before it.
    Within(&'static str, &'static str),
    /// Each value behind this flag.
    Each(&'static str),
    /// Each word of the values behind this flag.
    Words(&'static str),
    /// The same in lower case.
    Lower(&'static str),
    /// Each argument of the values behind this flag: escapes are resolved.
    Arguments(&'static str),
    /// Each argument of the values, with a text before it, behind this flag.
    Prefixed(&'static str, &'static str),
    /// This flag if the last value is true, and the flag with `=false` if it is not.
    Switch(&'static str),
    /// These words if the last value is true.
    If(&'static [&'static str]),
    /// `NAME=VALUE` behind this flag for each name, in the order of names.
    Pairs(&'static str),
    /// The arguments of all values as they are.
    Verbatim,
    /// Its kind's own code does it, at this place.
    Own,
    /// It is not about the command line.
    Apart,
}

use Rule::{
    Apart, Arguments, Each, Even, Glued, If, Lower, Own, Pairs, Prefixed, Switch, Text, Verbatim, Within,
    Words,
};

const fn key(name: &'static str, rule: Rule) -> Key {
    Key { name, rule }
}

const SECURITY: &str = "--security-opt";

/// `[Container]`.
pub const CONTAINER: &[Key] = &[
    key("LogDriver", Text("--log-driver")),
    key("LogOpt", Words("--log-opt")),
    key("CgroupsMode", Own),
    key("Entrypoint", Even("--entrypoint=")),
    key("Timezone", Text("--tz")),
    key("PidsLimit", Text("--pids-limit")),
    key("ShmSize", Text("--shm-size")),
    key("WorkingDir", Text("--workdir")),
    key("IP", Text("--ip")),
    key("IP6", Text("--ip6")),
    key("HostName", Text("--hostname")),
    key("StopSignal", Text("--stop-signal")),
    key("StopTimeout", Text("--stop-timeout")),
    key("Pull", Text("--pull")),
    key("Memory", Text("--memory")),
    key("Retry", Text("--retry")),
    key("RetryDelay", Text("--retry-delay")),
    key("NetworkAlias", Each("--network-alias")),
    key("Ulimit", Each("--ulimit")),
    key("DNS", Each("--dns")),
    key("DNSOption", Each("--dns-option")),
    key("DNSSearch", Each("--dns-search")),
    key("GroupAdd", Each("--group-add")),
    key("AddHost", Each("--add-host")),
    key("Tmpfs", Each("--tmpfs")),
    key("RunInit", Switch("--init")),
    key("EnvironmentHost", Switch("--env-host")),
    key("HttpProxy", Switch("--http-proxy")),
    key("ReadOnlyTmpfs", Own),
    key("Network", Own),
    key("Notify", Own),
    key("NoNewPrivileges", If(&["--security-opt=no-new-privileges"])),
    key("SecurityLabelDisable", If(&[SECURITY, "label=disable"])),
    key("SecurityLabelNested", If(&[SECURITY, "label=nested"])),
    key("SecurityLabelType", Within(SECURITY, "label=type:")),
    key("SecurityLabelFileType", Within(SECURITY, "label=filetype:")),
    key("SecurityLabelLevel", Within(SECURITY, "label=level:")),
    key("AppArmor", Within(SECURITY, "apparmor=")),
    key("AddDevice", Own),
    key("SeccompProfile", Within(SECURITY, "seccomp=")),
    key("DropCapability", Lower("--cap-drop")),
    key("AddCapability", Lower("--cap-add")),
    key("Sysctl", Words("--sysctl")),
    key("ReadOnly", Switch("--read-only")),
    key("VolatileTmp", Own),
    key("User", Own),
    key("UserNS", Own),
    key("Volume", Own),
    key("AutoUpdate", Own),
    key("ExposeHostPort", Own),
    key("PublishPort", Each("--publish")),
    key("Environment", Pairs("--env")),
    key("Label", Pairs("--label")),
    key("Annotation", Pairs("--annotation")),
    key("Mask", Prefixed(SECURITY, "mask=")),
    key("Unmask", Prefixed(SECURITY, "unmask=")),
    key("EnvironmentFile", Own),
    key("Secret", Arguments("--secret")),
    key("Mount", Own),
    key("HealthCmd", Text("--health-cmd")),
    key("HealthInterval", Text("--health-interval")),
    key("HealthOnFailure", Text("--health-on-failure")),
    key("HealthLogDestination", Text("--health-log-destination")),
    key("HealthMaxLogCount", Text("--health-max-log-count")),
    key("HealthMaxLogSize", Text("--health-max-log-size")),
    key("HealthRetries", Text("--health-retries")),
    key("HealthStartPeriod", Text("--health-start-period")),
    key("HealthTimeout", Text("--health-timeout")),
    key("HealthStartupCmd", Text("--health-startup-cmd")),
    key("HealthStartupInterval", Text("--health-startup-interval")),
    key("HealthStartupRetries", Text("--health-startup-retries")),
    key("HealthStartupSuccess", Text("--health-startup-success")),
    key("HealthStartupTimeout", Text("--health-startup-timeout")),
    key("Pod", Own),
    key("PodmanArgs", Verbatim),
    key("Image", Own),
    key("Exec", Own),
    key("ContainerName", Apart),
    key("ContainersConfModule", Apart),
    key("GIDMap", Apart),
    key("GlobalArgs", Apart),
    key("Group", Apart),
    key("ReloadCmd", Apart),
    key("ReloadSignal", Apart),
    key("RemapGid", Apart),
    key("RemapUid", Apart),
    key("RemapUidSize", Apart),
    key("RemapUsers", Apart),
    key("Rootfs", Apart),
    key("ServiceName", Apart),
    key("StartWithPod", Apart),
    key("SubGIDMap", Apart),
    key("SubUIDMap", Apart),
    key("UIDMap", Apart),
];

/// `[Volume]`.
pub const VOLUME: &[Key] = &[
    key("UID", Text("--uid")),
    key("GID", Text("--gid")),
    key("Driver", Text("--driver")),
    key("Copy", Own),
    key("Device", Within("--opt", "device=")),
    key("Type", Own),
    key("Options", Own),
    key("Label", Pairs("--label")),
    key("PodmanArgs", Verbatim),
    key("VolumeName", Own),
    key("ContainersConfModule", Apart),
    key("GlobalArgs", Apart),
    key("Group", Apart),
    key("Image", Apart),
    key("ServiceName", Apart),
    key("User", Apart),
];

/// `[Network]`.
pub const NETWORK: &[Key] = &[
    key("DisableDNS", Switch("--disable-dns")),
    key("Internal", Switch("--internal")),
    key("IPv6", Switch("--ipv6")),
    key("Driver", Text("--driver")),
    key("IPAMDriver", Text("--ipam-driver")),
    key("InterfaceName", Text("--interface-name")),
    key("DNS", Each("--dns")),
    key("Subnet", Own),
    key("Options", Pairs("--opt")),
    key("Label", Pairs("--label")),
    key("PodmanArgs", Verbatim),
    key("NetworkName", Own),
    key("ContainersConfModule", Apart),
    key("Gateway", Apart),
    key("GlobalArgs", Apart),
    key("IPRange", Apart),
    key("NetworkDeleteOnStop", Apart),
    key("ServiceName", Apart),
];

/// `[Image]`.
pub const IMAGE: &[Key] = &[
    key("Arch", Text("--arch")),
    key("AuthFile", Text("--authfile")),
    key("CertDir", Text("--cert-dir")),
    key("Creds", Text("--creds")),
    key("DecryptionKey", Text("--decryption-key")),
    key("OS", Text("--os")),
    key("Policy", Text("--policy")),
    key("Variant", Text("--variant")),
    key("Retry", Text("--retry")),
    key("RetryDelay", Text("--retry-delay")),
    key("AllTags", Switch("--all-tags")),
    key("TLSVerify", Switch("--tls-verify")),
    key("PodmanArgs", Verbatim),
    key("Image", Own),
    key("ContainersConfModule", Apart),
    key("GlobalArgs", Apart),
    key("ImageTag", Apart),
    key("ServiceName", Apart),
];

/// `[Build]`.
pub const BUILD: &[Key] = &[
    key("Pull", Glued("--pull=")),
    key("Arch", Text("--arch")),
    key("AuthFile", Text("--authfile")),
    key("IgnoreFile", Text("--ignorefile")),
    key("Target", Text("--target")),
    key("Variant", Text("--variant")),
    key("Retry", Text("--retry")),
    key("RetryDelay", Text("--retry-delay")),
    key("TLSVerify", Switch("--tls-verify")),
    key("ForceRM", Switch("--force-rm")),
    key("DNS", Each("--dns")),
    key("DNSOption", Each("--dns-option")),
    key("DNSSearch", Each("--dns-search")),
    key("GroupAdd", Each("--group-add")),
    key("ImageTag", Each("--tag")),
    key("BuildArg", Pairs("--build-arg")),
    key("Environment", Pairs("--env")),
    key("Label", Pairs("--label")),
    key("Annotation", Pairs("--annotation")),
    key("Network", Own),
    key("Secret", Arguments("--secret")),
    key("Volume", Own),
    key("SetWorkingDirectory", Own),
    key("File", Text("--file")),
    key("PodmanArgs", Verbatim),
    key("ContainersConfModule", Apart),
    key("GlobalArgs", Apart),
    key("ServiceName", Apart),
];

/// `[Pod]`.
pub const POD: &[Key] = &[
    key("ExitPolicy", Own),
    key("UserNS", Own),
    key("PublishPort", Each("--publish")),
    key("Label", Pairs("--label")),
    key("Network", Own),
    key("IP", Text("--ip")),
    key("IP6", Text("--ip6")),
    key("ShmSize", Text("--shm-size")),
    key("NetworkAlias", Each("--network-alias")),
    key("DNS", Each("--dns")),
    key("DNSOption", Each("--dns-option")),
    key("DNSSearch", Each("--dns-search")),
    key("AddHost", Each("--add-host")),
    key("HostName", Text("--hostname")),
    key("Volume", Own),
    key("PodName", Own),
    key("PodmanArgs", Verbatim),
    key("ContainersConfModule", Apart),
    key("GIDMap", Apart),
    key("GlobalArgs", Apart),
    key("RemapGid", Apart),
    key("RemapUid", Apart),
    key("RemapUidSize", Apart),
    key("RemapUsers", Apart),
    key("ServiceName", Apart),
    key("StopTimeout", Apart),
    key("SubGIDMap", Apart),
    key("SubUIDMap", Apart),
    key("UIDMap", Apart),
];

/// `[Kube]`.
pub const KUBE: &[Key] = &[
    key("ExitCodePropagation", Glued("--service-exit-code-propagation=")),
    key("LogDriver", Text("--log-driver")),
    key("LogOpt", Words("--log-opt")),
    key("UserNS", Own),
    key("Network", Own),
    key("AutoUpdate", Own),
    key("ConfigMap", Own),
    key("PublishPort", Each("--publish")),
    key("PodmanArgs", Verbatim),
    key("Yaml", Own),
    key("ContainersConfModule", Apart),
    key("GlobalArgs", Apart),
    key("KubeDownForce", Apart),
    key("RemapGid", Apart),
    key("RemapUid", Apart),
    key("RemapUidSize", Apart),
    key("RemapUsers", Apart),
    key("ServiceName", Apart),
    key("SetWorkingDirectory", Apart),
];

/// `[Artifact]`.
pub const ARTIFACT: &[Key] = &[
    key("Artifact", Apart),
    key("AuthFile", Apart),
    key("CertDir", Apart),
    key("ContainersConfModule", Apart),
    key("Creds", Apart),
    key("DecryptionKey", Apart),
    key("GlobalArgs", Apart),
    key("PodmanArgs", Apart),
    key("Quiet", Apart),
    key("Retry", Apart),
    key("RetryDelay", Apart),
    key("ServiceName", Apart),
    key("TLSVerify", Apart),
];

/// `[Quadlet]`, in every kind of unit.
pub const QUADLET: &[Key] = &[key("DefaultDependencies", Apart)];

/// The key that `name` was probably meant to be.
#[must_use]
pub fn nearest(keys: &[Key], name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let near = keys.iter().map(|key| (distance(&key.name.to_ascii_lowercase(), &name), key.name)).min()?;
    // A transposition counts twice.
    (near.0 <= 2.max(name.len() / 3) && near.0 * 2 < near.1.len()).then_some(near.1)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substitute = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn no_key_stands_twice_in_a_section() {
        for kind in Kind::ALL {
            let mut names: Vec<_> = kind.keys().iter().map(|key| key.name).collect();
            names.sort_unstable();
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{kind:?}");
        }
    }

    #[test]
    fn near_keys_are_found() {
        assert_eq!(nearest(CONTAINER, "Imgae"), Some("Image"));
        assert_eq!(nearest(CONTAINER, "publishport"), Some("PublishPort"));
        assert_eq!(nearest(CONTAINER, "BOGUS"), None);
        assert_eq!(nearest(QUADLET, "DefaultDependency"), Some("DefaultDependencies"));
    }
}
