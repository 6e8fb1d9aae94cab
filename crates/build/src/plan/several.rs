//! One build for several platforms: a plan for each, joined to one graph in which what is the same is done once.

use std::collections::BTreeMap;

use fluyt_image::{ImageConfig, Platform};

use super::{BaseImage, Inputs, Options, Plan, plan};
use crate::dockerfile::Dockerfile;
use crate::dockerfile::fault::Result;
use crate::dockerfile::lint::Lint;
use crate::graph::{Graph, Id, Tree};

/// What is built for one platform.
#[derive(Debug)]
pub struct Goal {
    /// What was asked for.
    pub platform: Platform,
    /// The root file system.
    pub result: Tree,
    /// The configuration of the image: `rootfs` and times are filled in after the build.
    pub config: ImageConfig,
    /// `SOURCE_DATE_EPOCH`, in seconds.
    pub epoch: Option<i64>,
    /// The name of the stage that is built; empty when it has none.
    pub stage: String,
}

/// Plans for several platforms as one.
#[derive(Debug, Default)]
pub struct Joined {
    /// The operations of all.
    pub graph: Graph,
    /// Base images by the vertex that stands for them.
    pub images: BTreeMap<Id, BaseImage>,
    /// What is built, in the order in which it was asked for.
    pub goals: Vec<Goal>,
}

impl Joined {
    /// The root file systems of all goals.
    #[must_use]
    pub fn results(&self) -> Vec<Tree> {
        self.goals.iter().map(|goal| goal.result.clone()).collect()
    }

    fn add(&mut self, plan: Plan, platform: Platform) {
        let became = self.graph.absorb(plan.graph);
        for (id, image) in plan.images {
            self.images.entry(became[id]).or_insert(image);
        }
        let result = match plan.result {
            Tree::Vertex(id) => Tree::Vertex(became[id]),
            other => other,
        };
        self.goals.push(Goal {
            platform,
            result,
            config: plan.config,
            epoch: plan.epoch,
            stage: plan.target,
        });
    }
}

impl From<Plan> for Joined {
    fn from(plan: Plan) -> Self {
        let mut joined = Self::default();
        let platform = plan.config.platform();
        joined.add(plan, platform);
        joined
    }
}

/// Plans the build of a Dockerfile for each of `platforms`; without any, for that of the options.
///
/// # Errors
/// As [`plan`].
pub fn plan_for(
    file: &Dockerfile,
    options: &Options,
    platforms: &[Platform],
    inputs: Inputs<'_>,
    lint: &mut Lint,
) -> Result<Joined> {
    let mut joined = Joined::default();
    let own = [options.platform.clone()];
    let platforms = if platforms.is_empty() { &own } else { platforms };
    let several = platforms.len() > 1;
    let Inputs { base, ignore } = inputs;
    for platform in platforms {
        let options = Options {
            platform: platform.clone(),
            several_platforms: several || options.several_platforms,
            ..options.clone()
        };
        let inputs = Inputs { base: &mut *base, ignore };
        let planned = plan(file, &options, inputs, lint)?;
        joined.add(planned, platform.clone());
    }
    Ok(joined)
}
