//! Planning without a machine: every base image exists and is empty but for its configuration.
#![allow(dead_code)]

use fluyt_build::dockerfile::lint::{Lint, Warning};
use fluyt_build::dockerfile::{Fault, parse};
use fluyt_build::ignore::Ignore;
use fluyt_build::plan::{BaseImage, Inputs, Options, Plan, plan};
use fluyt_image::{Digest, ImageConfig, LayerRef, Platform};

/// Options that do not depend on the machine.
pub fn options() -> Options {
    let platform = Platform::parse("linux/amd64").expect("a platform");
    Options { platform: platform.clone(), build_platform: platform, ..Options::default() }
}

/// Plans `text`; base images have one layer, a PATH and whatever `change` adds.
pub fn planned_with(
    text: &str,
    options: &Options,
    ignore: &Ignore,
    change: impl Fn(&str, &mut ImageConfig),
) -> (Result<Plan, Fault>, Vec<Warning>) {
    let mut lint = Lint::default();
    let file = match parse(text, &mut lint) {
        Ok(file) => file,
        Err(fault) => return (Err(fault), lint.warnings()),
    };
    let mut find = |name: &str, platform: &Platform| {
        let mut config = ImageConfig {
            os: platform.os.clone(),
            architecture: platform.architecture.clone(),
            ..ImageConfig::default()
        };
        config.config.env.push("PATH=/bin".to_owned());
        change(name, &mut config);
        let digest = Digest::of(name.as_bytes());
        let layer = LayerRef { diff_id: digest.clone(), key: digest.clone(), link: "X".to_owned(), size: 0 };
        Ok(BaseImage { reference: name.to_owned(), manifest: digest, config, layers: vec![layer] })
    };
    let planned = plan(&file, options, Inputs { base: &mut find, ignore }, &mut lint);
    (planned, lint.warnings())
}

/// Plans `text` with nothing special.
pub fn planned(text: &str) -> Result<Plan, Fault> {
    planned_with(text, &options(), &Ignore::default(), |_, _| {}).0
}

/// The rules that `text` breaks.
pub fn rules(text: &str) -> Vec<String> {
    let (_, warnings) = planned_with(text, &options(), &Ignore::default(), |_, _| {});
    warnings.into_iter().map(|w| w.rule.name().to_owned()).collect()
}
