//! `ARG`: platform arguments, those before the first stage, proxies.

use super::Options;
use crate::dockerfile::fault::Result;
use crate::dockerfile::{Dockerfile, Env, Lexer};

/// Arguments that exist without being declared and are not part of an image: proxies.
const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

/// The arguments that are there before anything is said.
pub fn predefined(options: &Options, target: &str) -> Env {
    let mut env = Env::default();
    for (prefix, platform) in [("BUILD", &options.build_platform), ("TARGET", &options.platform)] {
        env.set(&format!("{prefix}PLATFORM"), &platform.to_string());
        env.set(&format!("{prefix}OS"), &platform.os);
        env.set(&format!("{prefix}OSVERSION"), platform.os_version.as_deref().unwrap_or(""));
        env.set(&format!("{prefix}ARCH"), &platform.architecture);
        env.set(&format!("{prefix}VARIANT"), platform.variant.as_deref().unwrap_or(""));
    }
    env.set("TARGETSTAGE", target);
    let names: Vec<String> = env.names().map(str::to_owned).collect();
    for name in names {
        if let Some(value) = options.build_args.get(&name) {
            env.set(&name, value);
        }
    }
    env
}

/// The arguments before the first stage, expanded; `given`: with the values that the caller gives.
///
/// # Errors
/// A default that cannot be expanded.
pub fn global(file: &Dockerfile, options: &Options, given: bool) -> Result<Env> {
    let last = file.stages.last().map(|stage| stage.name.as_str()).unwrap_or_default();
    let target = match options.target.as_str() {
        "" if last.is_empty() => "default",
        "" => last,
        target => target,
    };
    let mut env = predefined(options, target);
    let lexer = Lexer::new(file.escape);
    for step in &file.meta_args {
        for arg in &step.args {
            let given = options.build_args.get(&arg.name).filter(|_| given);
            let value = match (given, &arg.value) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(text)) => Some(lexer.expand(text, &env).map_err(|e| e.at(step.lines))?.text),
                (None, None) => None,
            };
            if let Some(value) = value {
                env.set(&arg.name, &value);
            }
        }
    }
    Ok(env)
}

/// The proxies that were given, under their names in both cases.
pub fn proxies(options: &Options) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, value) in &options.build_args {
        if PROXIES.iter().any(|proxy| name.eq_ignore_ascii_case(proxy)) {
            lines.push(format!("{}={value}", name.to_uppercase()));
            lines.push(format!("{}={value}", name.to_lowercase()));
        }
    }
    lines.sort();
    lines.dedup();
    lines
}
