//! Containers of pods.

use std::collections::BTreeMap;

use fluyt_model::Amount;

use super::{Lifecycle, Probe, Security};

objects! {
    /// A container.
    Container {
        /// Its name in the pod.
        name: String,
        /// Its image.
        image: String,
        /// `Always`, `IfNotPresent`, `Never`.
        image_pull_policy: String,
        /// Instead of the image's entry point.
        command: Vec<String>,
        /// Instead of the image's arguments.
        args: Vec<String>,
        /// Working directory.
        working_dir: String,
        /// Ports that it listens on.
        ports: Vec<ContainerPort>,
        /// Variables.
        env: Vec<EnvVar>,
        /// Where more variables are.
        env_from: Vec<EnvFrom>,
        /// What it uses and may use.
        resources: Resources,
        /// What it mounts.
        volume_mounts: Vec<VolumeMount>,
        /// When it is restarted.
        liveness_probe: Option<Probe>,
        /// When it gets requests.
        readiness_probe: Option<Probe>,
        /// When it has started.
        startup_probe: Option<Probe>,
        /// What is done after its start and before its end.
        lifecycle: Option<Lifecycle>,
        /// Privileges.
        security_context: Option<Security>,
        /// For init containers: `Always` makes it run beside the others.
        restart_policy: String,
        /// Input stays open.
        stdin: bool,
        /// Input ends with the first who attaches.
        stdin_once: bool,
        /// A terminal.
        tty: bool,
    }

    /// A port that a container listens on.
    ContainerPort {
        /// A name for it.
        name: String,
        /// The port.
        container_port: i64,
        /// The same on the machine.
        host_port: i64,
        /// On this address of the machine only.
        #[serde(rename = "hostIP")]
        host_ip: String,
        /// `TCP`, `UDP`, `SCTP`.
        protocol: String,
    }

    /// A variable.
    EnvVar {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
        /// Where its value is.
        value_from: Option<EnvSource>,
    }

    /// Where the value of a variable is.
    EnvSource {
        /// A key of a ConfigMap.
        config_map_key_ref: Option<KeyRef>,
        /// A key of a Secret.
        secret_key_ref: Option<KeyRef>,
        /// A field of the pod.
        field_ref: Option<FieldRef>,
        /// A limit or request of a container.
        resource_field_ref: Option<ResourceFieldRef>,
    }

    /// A key of a ConfigMap or a Secret.
    KeyRef {
        /// The object.
        name: String,
        /// The key.
        key: String,
        /// It may be missing.
        optional: Option<bool>,
    }

    /// A field of the pod.
    FieldRef {
        /// `v1`.
        api_version: String,
        /// Its path, as `metadata.name`.
        field_path: String,
    }

    /// A limit or request of a container.
    ResourceFieldRef {
        /// The container; empty: this one.
        container_name: String,
        /// Which, as `limits.memory`.
        resource: String,
        /// In which units.
        divisor: Option<Amount>,
    }

    /// Where more variables are.
    EnvFrom {
        /// Put before each name.
        prefix: String,
        /// A ConfigMap.
        config_map_ref: Option<NamedRef>,
        /// A Secret.
        secret_ref: Option<NamedRef>,
    }

    /// An object by its name.
    NamedRef {
        /// The name.
        name: String,
        /// It may be missing.
        optional: Option<bool>,
    }

    /// What a container uses and may use.
    Resources {
        /// At most.
        limits: BTreeMap<String, Amount>,
        /// At least.
        requests: BTreeMap<String, Amount>,
    }

    /// Where a volume is mounted.
    VolumeMount {
        /// The volume of the pod.
        name: String,
        /// Where.
        mount_path: String,
        /// Not writable.
        read_only: bool,
        /// A path in the volume.
        sub_path: String,
        /// The same, with `$(VARIABLES)`.
        sub_path_expr: String,
        /// `None`, `HostToContainer`, `Bidirectional`.
        mount_propagation: String,
        /// `Disabled`, `IfPossible`, `Enabled`.
        recursive_read_only: String,
    }
}
