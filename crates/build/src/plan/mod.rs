//! From a parsed Dockerfile to a graph and the configuration of the image that comes of it.
//!
//! Pure: base images are asked for through [`Inputs::base`], the rest is in [`Options`]. Only what the target needs is
//! planned, so a stage nobody needs is not even resolved.

mod args;
mod circles;
mod copy;
mod expose;
mod outline;
mod run;
mod several;
mod stage;

use std::collections::BTreeMap;

use fluyt_image::{Digest, ImageConfig, LayerRef, Platform};
use fluyt_model::Error;

use crate::dockerfile::fault::Result;
use crate::dockerfile::lint::Lint;
use crate::dockerfile::{Dockerfile, Env};
use crate::graph::{Graph, Id, Tree};
use crate::ignore::Ignore;

pub use outline::{Outline, OutlineArg, OutlineMount, Target, outline, targets};
pub use several::{Goal, Joined, plan_for};
pub(crate) use stage::rfc3339;

/// What the caller wants.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--target`; empty: the last stage.
    pub target: String,
    /// Stages that the target does not need are planned as well: a check looks at all of them.
    pub all_stages: bool,
    /// `--label`.
    pub labels: Vec<(String, String)>,
    /// The cache is not asked.
    pub no_cache: bool,
    /// The cache is not asked for these stages.
    pub no_cache_stages: Vec<String>,
    /// What the image is for.
    pub platform: Platform,
    /// What this machine is.
    pub build_platform: Platform,
    /// It was asked for, or is one of several: it stands in the names of steps.
    pub several_platforms: bool,
    /// `--network`.
    pub network: String,
    /// `--add-host`.
    pub hosts: Vec<(String, String)>,
    /// `--shm-size` in bytes.
    pub shm_size: u64,
    /// `--ulimit`.
    pub ulimits: Vec<(String, u64, u64)>,
    /// `--build-context`, by name.
    pub contexts: BTreeMap<String, NamedContext>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            build_args: BTreeMap::new(),
            target: String::new(),
            all_stages: false,
            labels: Vec::new(),
            no_cache: false,
            no_cache_stages: Vec::new(),
            platform: Platform::host(),
            build_platform: Platform::host(),
            several_platforms: false,
            network: String::new(),
            hosts: Vec::new(),
            shm_size: 0,
            ulimits: Vec::new(),
            contexts: BTreeMap::new(),
        }
    }
}

/// What `--build-context NAME=…` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory; the caller knows it under the context's name.
    Directory,
    /// `docker-image://`
    Image(String),
    /// `target:`, another stage.
    Stage(String),
}

/// A base image as the caller found it.
#[derive(Clone, Debug)]
pub struct BaseImage {
    /// Its full reference.
    pub reference: String,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// Its configuration.
    pub config: ImageConfig,
    /// Its unpacked layers, lowest first.
    pub layers: Vec<LayerRef>,
}

/// Finds a base image.
pub type FindBase<'a> = &'a mut dyn FnMut(&str, &Platform) -> std::result::Result<BaseImage, Error>;

/// What planning needs of the world.
pub struct Inputs<'a> {
    /// Finds base images.
    pub base: FindBase<'a>,
    /// What of the context is left out, for a check.
    pub ignore: &'a Ignore,
}

/// What is to be built.
#[derive(Debug)]
pub struct Plan {
    /// The operations.
    pub graph: Graph,
    /// Base images by the vertex that stands for them.
    pub images: BTreeMap<Id, BaseImage>,
    /// The root file system.
    pub result: Tree,
    /// The configuration of the image: `rootfs` and times are filled in after the build.
    pub config: ImageConfig,
    /// `SOURCE_DATE_EPOCH`, in seconds.
    pub epoch: Option<i64>,
    /// The name of the stage that is built; empty when it has none.
    pub target: String,
}

/// Plans the build of a Dockerfile.
///
/// # Errors
/// The first mistake, with its lines; what the search for a base image met.
pub fn plan<'a>(
    file: &'a Dockerfile,
    options: &'a Options,
    inputs: Inputs<'a>,
    lint: &'a mut Lint,
) -> Result<Plan> {
    stage::Planner::new(file, options, inputs, lint)?.run()
}

/// The environment that every stage starts from.
pub(crate) fn global_env(file: &Dockerfile, options: &Options) -> Result<Env> {
    args::global(file, options, true)
}
