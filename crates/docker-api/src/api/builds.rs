//! Builds: parameters and operations.

use std::collections::BTreeMap;
use std::io::Read;

use fluyt_model::Result;

use super::{AuthConfig, CachePruned, Filters, Progress};
use crate::types::Ulimit;

/// A build in the classic form (`POST /build`): a context, and what to make of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BuildImage {
    /// The Dockerfile in the context; empty: `Dockerfile`.
    pub dockerfile: String,
    /// Names of the image.
    pub tags: Vec<String>,
    /// `host:address` lines.
    pub extra_hosts: Vec<String>,
    /// A git repository, an archive or a Dockerfile by URL instead of the context that comes with the call.
    pub remote: String,
    /// Say only what comes out.
    pub quiet: bool,
    /// Do everything anew.
    pub no_cache: bool,
    /// Images whose cache may be used.
    pub cache_from: Vec<String>,
    /// Look for newer base images.
    pub pull: bool,
    /// Keep nothing of a failed step (there is never anything to keep).
    pub remove: bool,
    /// The same although it failed.
    pub force_remove: bool,
    /// `ARG`s; `None` takes nothing from the client.
    pub build_args: BTreeMap<String, Option<String>>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Bytes.
    pub memory: i64,
    /// Bytes, with swap.
    pub memory_swap: i64,
    /// Weight.
    pub cpu_shares: i64,
    /// CPUs.
    pub cpuset_cpus: String,
    /// Memory nodes.
    pub cpuset_mems: String,
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds.
    pub cpu_quota: i64,
    /// Parent cgroup.
    pub cgroup_parent: String,
    /// Bytes of /dev/shm.
    pub shm_size: i64,
    /// Resource limits.
    pub ulimits: Vec<Ulimit>,
    /// One layer.
    pub squash: bool,
    /// Network of `RUN` steps.
    pub network_mode: String,
    /// `os[/arch[/variant]]`.
    pub platform: String,
    /// The stage to build.
    pub target: String,
    /// `seccomp=…` and so on.
    pub security_opt: Vec<String>,
    /// Credentials by registry.
    pub auth: BTreeMap<String, AuthConfig>,
}

/// What a clearance of the build cache keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneBuilds {
    /// Everything, not only what nothing needs.
    pub all: bool,
    /// Bytes that are always kept.
    pub reserved_space: Option<u64>,
    /// Bytes that the cache may take at most.
    pub max_used_space: Option<u64>,
    /// Bytes of the disk that should be free.
    pub min_free_space: Option<u64>,
    /// `until`, `id`, `parent`, `type`, `description`, `inuse`, `shared`, `private`.
    pub filters: Filters,
}

/// A build whose context has been taken in; the image's id.
pub type Building = Box<dyn FnOnce(&dyn Progress) -> Result<String> + Send>;

/// What can be asked of the builder.
#[allow(clippy::missing_errors_doc)]
pub trait Builds {
    /// Builds; the image's id. `context` is a tar archive, compressed or not.
    fn build(
        &self,
        wanted: &BuildImage,
        context: &mut (dyn Read + Send),
        progress: &dyn Progress,
    ) -> Result<String>;

    /// Takes in the context of a build that is carried out later; what fails until then fails here.
    fn build_start(&self, wanted: BuildImage, context: &mut (dyn Read + Send)) -> Result<Building> {
        let _ = (wanted, context);
        Err(fluyt_model::Error::unsupported("builds over this connection are carried out at once"))
    }

    /// Clears the build cache.
    fn build_prune(&self, wanted: &PruneBuilds) -> Result<CachePruned>;
}
