//! Images and what registries say of them: parameters, results, operations.

use std::io::Read;

use fluyt_model::Result;
use serde::{Deserialize, Serialize};

use super::{Filters, Output, Progress, Pruned};
pub use crate::types::image::DistributionPlatform;
use crate::types::image::ManifestSummary;
use crate::types::{ContainerConfig, HistoryItem, ImageInspect, ImageSummary, List};

/// Credentials for one registry, as clients send them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    /// User.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Password.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// Base64 of `user:password`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth: String,
    /// Ignored.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub email: String,
    /// The registry.
    #[serde(rename = "serveraddress", skip_serializing_if = "String::is_empty")]
    pub server_address: String,
    /// Instead of a password.
    #[serde(rename = "identitytoken", skip_serializing_if = "String::is_empty")]
    pub identity_token: String,
    /// A bearer token.
    #[serde(rename = "registrytoken", skip_serializing_if = "String::is_empty")]
    pub registry_token: String,
}

/// Which images are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListImages {
    /// Intermediate ones too.
    pub all: bool,
    /// With what they share with others.
    pub shared_size: bool,
    /// With the manifests of an index.
    pub manifests: bool,
    /// `before`, `dangling`, `label`, `reference`, `since`, `until`.
    pub filters: Filters,
}

/// An image to be fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullImage {
    /// `name[:tag|@digest]`.
    pub reference: String,
    /// All tags of the name.
    pub all_tags: bool,
    /// `os[/arch[/variant]]`; empty: this machine's.
    pub platform: String,
    /// Credentials; `None`: those that the engine's side knows.
    pub auth: Option<AuthConfig>,
    /// A policy of signatures, instead of the machine's (an extension).
    pub signature_policy: Option<String>,
}

/// An image to be sent away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushImage {
    /// The repository.
    pub name: String,
    /// The tag; empty: all tags of the repository.
    pub tag: String,
    /// Only this one of an index; empty: all of it.
    pub platform: String,
    /// Credentials; `None`: those that the engine's side knows.
    pub auth: Option<AuthConfig>,
}

/// An archive of a file system that becomes an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportImage {
    /// A URL from which it is fetched; empty: it comes with the call.
    pub url: String,
    /// Name of the image; empty: none.
    pub repository: String,
    /// Its tag; empty: `latest`.
    pub tag: String,
    /// Comment in its history.
    pub message: String,
    /// Dockerfile instructions for its configuration.
    pub changes: Vec<String>,
    /// `os[/arch[/variant]]`; empty: this machine's.
    pub platform: String,
}

/// A container to be made an image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommitContainer {
    /// The container.
    pub container: String,
    /// Name of the image; empty: none.
    pub repository: String,
    /// Its tag.
    pub tag: String,
    /// Comment in its history.
    pub comment: String,
    /// Author.
    pub author: String,
    /// Freeze the container meanwhile.
    pub pause: bool,
    /// Dockerfile instructions for its configuration.
    pub changes: Vec<String>,
    /// Configuration that is laid over the container's own.
    pub config: Option<ContainerConfig>,
}

/// How an image is removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoveImage {
    /// Although stopped containers use it, or it has several names.
    pub force: bool,
    /// Keep untagged parents.
    pub no_prune: bool,
    /// Only these of an index.
    pub platforms: Vec<String>,
}

/// One thing that a removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageDeleted {
    /// A name that is gone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub untagged: String,
    /// An image that is gone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deleted: String,
}

/// What a prune of images did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImagesPruned {
    /// Each thing.
    pub images_deleted: List<ImageDeleted>,
    /// Bytes that came free.
    pub space_reclaimed: u64,
}

/// A repository that a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SearchResult {
    /// Its name.
    pub name: String,
    /// What it says of itself.
    pub description: String,
    /// Stars.
    pub star_count: i64,
    /// By Docker.
    pub is_official: bool,
    /// Always false now.
    pub is_automated: bool,
}

/// What is looked for in a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchImages {
    /// `[registry/]text`.
    pub term: String,
    /// At most so many; `None`: as many as the registry likes.
    pub limit: Option<u32>,
    /// `is-official`, `is-automated`, `stars`.
    pub filters: Filters,
    /// Credentials.
    pub auth: Option<AuthConfig>,
}

/// What a registry has under a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DistributionInspect {
    /// The document behind the name.
    pub descriptor: DistributionDescriptor,
    /// What it has images for.
    pub platforms: List<DistributionPlatform>,
}

/// A document in a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DistributionDescriptor {
    /// Media type.
    pub media_type: String,
    /// Digest.
    pub digest: String,
    /// Bytes.
    pub size: i64,
}

/// What can be asked of and about images. An unknown one is `NotFound`.
#[allow(clippy::missing_errors_doc)] // each: `NotFound`, and what the sentence says
pub trait Images {
    /// The images, newest first.
    fn image_list(&self, wanted: &ListImages) -> Result<Vec<ImageSummary>>;

    /// All about one. `platform` chooses from an index; empty: this machine's.
    fn image_inspect(&self, name: &str, platform: &str) -> Result<ImageInspect>;

    /// The manifests that its names lead to.
    fn image_manifests(&self, name: &str) -> Result<Vec<ManifestSummary>> {
        Err(fluyt_model::Error::unsupported(format!("the manifests of {name} cannot be asked for here")))
    }

    /// How it was made, newest step first.
    fn image_history(&self, name: &str, platform: &str) -> Result<Vec<HistoryItem>>;

    /// Fetches one, or all of a repository.
    fn image_pull(&self, wanted: &PullImage, progress: &dyn Progress) -> Result<()>;

    /// Sends one away, or all of a repository.
    fn image_push(&self, wanted: &PushImage, progress: &dyn Progress) -> Result<()>;

    /// Makes one of an archive of a file system; its id. `archive` is what the caller sends, if it has no URL.
    fn image_import(
        &self,
        wanted: &ImportImage,
        archive: &mut (dyn Read + Send),
        progress: &dyn Progress,
    ) -> Result<String>;

    /// Gives one another name.
    fn image_tag(&self, name: &str, repository: &str, tag: &str) -> Result<()>;

    /// Removes a name, and the image with its last one. `Conflict` if containers use it.
    fn image_remove(&self, name: &str, how: &RemoveImage) -> Result<Vec<ImageDeleted>>;

    /// Looks for repositories.
    fn image_search(&self, wanted: &SearchImages) -> Result<Vec<SearchResult>>;

    /// Removes unused ones. Filters: `dangling`, `until`, `label`, `label!`.
    fn image_prune(&self, filters: &Filters) -> Result<ImagesPruned>;

    /// Makes one of a container; its id.
    fn image_commit(&self, wanted: &CommitContainer) -> Result<String>;

    /// An archive of images, for these platforms of them (none: all that are here).
    fn image_save(&self, names: &[String], platforms: &[String]) -> Result<Output>;

    /// Takes images from an archive, for these platforms (none: all).
    fn image_load(
        &self,
        archive: &mut (dyn Read + Send),
        platforms: &[String],
        quiet: bool,
        progress: &dyn Progress,
    ) -> Result<()>;
}

/// What can be asked of registries.
#[allow(clippy::missing_errors_doc)]
pub trait Distribution {
    /// What a registry has under a name. `Unauthorized`, `NotFound`.
    fn distribution_inspect(&self, name: &str, auth: Option<&AuthConfig>) -> Result<DistributionInspect>;
}

/// What a prune of the build cache did; here because [`Pruned`] says the same.
pub type CachePruned = Pruned;
