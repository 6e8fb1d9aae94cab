//! Volumes of pods.

use fluyt_model::Amount;

use super::{FieldRef, ResourceFieldRef};

objects! {
    /// A volume: a name and one source.
    Volume {
        /// Its name in the pod.
        name: String,
        /// A path of the machine.
        host_path: Option<HostPath>,
        /// A directory that lives as long as the pod.
        empty_dir: Option<EmptyDir>,
        /// A volume that outlives pods.
        persistent_volume_claim: Option<ClaimSource>,
        /// Files of a ConfigMap.
        config_map: Option<ConfigSource>,
        /// Files of a Secret.
        secret: Option<SecretSource>,
        /// An image.
        image: Option<ImageSource>,
        /// Files that say what the pod is.
        #[serde(rename = "downwardAPI")]
        downward_api: Option<DownwardSource>,
        /// Several of those in one.
        projected: Option<Projected>,
    }

    /// A path of the machine.
    HostPath {
        /// The path.
        path: String,
        /// What has to be there: `DirectoryOrCreate`, `Directory`, `FileOrCreate`, `File`, `Socket`, `CharDevice`,
        /// `BlockDevice`; empty: nothing is asked.
        #[serde(rename = "type")]
        kind: Option<String>,
    }

    /// A directory that lives as long as the pod.
    EmptyDir {
        /// `Memory`, or empty: the disk.
        medium: String,
        /// At most so much.
        size_limit: Option<Amount>,
    }

    /// A volume that outlives pods.
    ClaimSource {
        /// Its name.
        claim_name: String,
        /// Not writable.
        read_only: bool,
    }

    /// Files of a ConfigMap.
    ConfigSource {
        /// Which.
        name: String,
        /// Only these keys.
        items: Vec<Item>,
        /// Permissions; none: 0644.
        default_mode: Option<i64>,
        /// It may be missing.
        optional: Option<bool>,
    }

    /// Files of a Secret.
    SecretSource {
        /// Which.
        secret_name: String,
        /// The same, among projections.
        name: String,
        /// Only these keys.
        items: Vec<Item>,
        /// Permissions; none: 0644.
        default_mode: Option<i64>,
        /// It may be missing.
        optional: Option<bool>,
    }

    /// A key and the file that it becomes.
    Item {
        /// The key.
        key: String,
        /// The file, below the volume.
        path: String,
        /// Its permissions; none: the volume's.
        mode: Option<i64>,
    }

    /// An image.
    ImageSource {
        /// Its name.
        reference: String,
        /// `Always`, `IfNotPresent`, `Never`.
        pull_policy: String,
    }

    /// Files that say what the pod is.
    DownwardSource {
        /// The files.
        items: Vec<DownwardItem>,
        /// Permissions; none: 0644.
        default_mode: Option<i64>,
    }

    /// A file that says something about the pod.
    DownwardItem {
        /// The file, below the volume.
        path: String,
        /// A field of the pod.
        field_ref: Option<FieldRef>,
        /// A limit or request of a container.
        resource_field_ref: Option<ResourceFieldRef>,
        /// Its permissions; none: the volume's.
        mode: Option<i64>,
    }

    /// Several sources in one volume.
    Projected {
        /// The sources.
        sources: Vec<Projection>,
        /// Permissions; none: 0644.
        default_mode: Option<i64>,
    }

    /// One of several sources.
    Projection {
        /// Files of a ConfigMap.
        config_map: Option<ConfigSource>,
        /// Files of a Secret.
        secret: Option<SecretSource>,
        /// Files that say what the pod is.
        #[serde(rename = "downwardAPI")]
        downward_api: Option<DownwardSource>,
    }
}
