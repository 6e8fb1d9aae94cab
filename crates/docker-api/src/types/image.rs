//! Images.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ContainerConfig, Empty, GraphDriver, HealthConfig, List, Map, PortSet, is_false};

/// `docker inspect` of an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageInspect {
    /// `sha256:…` of its configuration.
    pub id: String,
    /// `name:tag`.
    pub repo_tags: Vec<String>,
    /// `name@digest`.
    pub repo_digests: Vec<String>,
    /// Always empty.
    pub parent: String,
    /// Of `commit` or `import`.
    pub comment: String,
    /// RFC 3339.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created: String,
    /// Of the tool that made it.
    pub docker_version: String,
    /// Its author.
    pub author: String,
    /// What its containers run.
    pub config: ImageConfig,
    /// `amd64`, …
    pub architecture: String,
    /// `v8`, …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// `linux`.
    pub os: String,
    /// Windows only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Bytes of its unpacked layers.
    pub size: i64,
    /// Where they are.
    pub graph_driver: GraphDriver,
    /// The layers.
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    /// What only this host knows.
    pub metadata: ImageMetadata,
}

/// An image's own configuration: as in the OCI image specification, with Docker's additions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// `user[:group]`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Ports its containers listen on.
    #[serde(skip_serializing_if = "PortSet::is_empty")]
    pub exposed_ports: PortSet,
    /// Environment.
    #[serde(skip_serializing_if = "List::is_vacant")]
    pub env: List<String>,
    /// The command.
    #[serde(skip_serializing_if = "List::is_vacant")]
    pub entrypoint: List<String>,
    /// Its arguments.
    #[serde(skip_serializing_if = "List::is_vacant")]
    pub cmd: List<String>,
    /// Paths that get a volume.
    #[serde(skip_serializing_if = "Map::is_vacant")]
    pub volumes: Map<Empty>,
    /// Working directory.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(skip_serializing_if = "Map::is_vacant")]
    pub labels: Map<String>,
    /// Signal of `stop`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Windows only.
    #[serde(skip_serializing_if = "is_false")]
    pub args_escaped: bool,
    /// Health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// Build triggers.
    #[serde(skip_serializing_if = "List::is_vacant")]
    pub on_build: List<String>,
    /// Shell of the shell forms.
    #[serde(skip_serializing_if = "List::is_vacant")]
    pub shell: List<String>,
}

/// The part of a container's definition that an image made from it keeps.
impl From<&ContainerConfig> for ImageConfig {
    fn from(c: &ContainerConfig) -> Self {
        Self {
            user: c.user.clone(),
            exposed_ports: c.exposed_ports.clone(),
            env: c.env.clone(),
            entrypoint: c.entrypoint.clone(),
            cmd: c.cmd.clone(),
            volumes: c.volumes.clone(),
            working_dir: c.working_dir.clone(),
            labels: c.labels.clone(),
            stop_signal: c.stop_signal.clone(),
            args_escaped: c.args_escaped,
            healthcheck: c.healthcheck.clone(),
            on_build: c.on_build.clone(),
            shell: c.shell.clone(),
        }
    }
}

/// The layers of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Diff ids, the base first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
}

/// What only this host knows of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageMetadata {
    /// RFC 3339.
    pub last_tag_time: String,
}

/// An image in `GET /images/json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageSummary {
    /// Containers made from it; -1: not counted.
    pub containers: i64,
    /// Seconds since 1970.
    pub created: i64,
    /// `sha256:…`.
    pub id: String,
    /// Labels.
    pub labels: Map<String>,
    /// Always empty.
    pub parent_id: String,
    /// `name@digest`.
    pub repo_digests: Vec<String>,
    /// `name:tag`.
    pub repo_tags: Vec<String>,
    /// Bytes shared with other images; -1: not counted.
    pub shared_size: i64,
    /// Bytes of its unpacked layers.
    pub size: i64,
    /// What its names lead to; only where it is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifests: Option<Vec<ManifestSummary>>,
}

/// A manifest that the name of an image leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ManifestSummary {
    /// Its digest.
    #[serde(rename = "ID")]
    pub id: String,
    /// How the index names it.
    pub descriptor: ManifestDescriptor,
    /// Whether all of it is here.
    pub available: bool,
    /// What it takes.
    pub size: ManifestSize,
    /// `image`, `attestation` or `unknown`.
    pub kind: String,
    /// Of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_data: Option<ImageData>,
    /// Of an attestation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attestation_data: Option<AttestationData>,
}

/// An OCI descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManifestDescriptor {
    /// What it is.
    pub media_type: String,
    /// Its digest.
    pub digest: String,
    /// Bytes.
    pub size: i64,
    /// Metadata.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<DistributionPlatform>,
}

/// What a manifest takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ManifestSize {
    /// With unpacked layers.
    pub total: i64,
    /// Its documents and packed layers.
    pub content: i64,
}

/// An image behind a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageData {
    /// What it is for.
    pub platform: DistributionPlatform,
    /// Containers made from it.
    pub containers: List<String>,
    /// What its unpacked layers take.
    pub size: UnpackedSize,
}

/// Bytes of unpacked layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UnpackedSize {
    /// On the disk.
    pub unpacked: i64,
}

/// An attestation behind a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AttestationData {
    /// The digest of the manifest that it is about.
    #[serde(rename = "For")]
    pub about: String,
}

/// What an image is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DistributionPlatform {
    /// `amd64`.
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// `v8`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Windows only.
    #[serde(rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
}

/// A step in an image's history, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HistoryItem {
    /// Of `commit` or `import`.
    pub comment: String,
    /// Seconds since 1970.
    pub created: i64,
    /// The instruction.
    pub created_by: String,
    /// The image's id, or `<missing>`.
    pub id: String,
    /// Bytes of the layer.
    pub size: i64,
    /// `name:tag` of the image.
    pub tags: List<String>,
}
