//! Images of services: which are pulled, which are built; `build`, `pull`, `push`.

use std::collections::BTreeMap;

use fluyt_compose::document::Node;
use fluyt_compose::view::View;
use fluyt_compose::{Project, plan};
use fluyt_docker_api::api::{Docker, PullImage, Quiet};
use fluyt_model::{Error, Kind, Result};

use super::Called;
use super::project::word;
use crate::cli::cmd::{build, registry};
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, Flag, NONE, list, switch, text};

const DRY_RUN: Flag = switch(NONE, "dry-run", "Execute command in dry run mode");

/// `fluyt compose build`.
pub const BUILD: Command = Command {
    name: "build",
    arguments: "[SERVICE...]",
    about: "Build or rebuild services",
    flags: &[&[
        list(NONE, "build-arg", "Set build-time variables for services"),
        text(NONE, "builder", "Set builder to use").hidden(),
        switch(NONE, "no-cache", "Do not use cache when building the image"),
        switch(NONE, "pull", "Always attempt to pull a newer version of the image"),
        switch(NONE, "push", "Push service images"),
        text(NONE, "provenance", "Add a provenance attestation"),
        switch('q', "quiet", "Suppress the build output"),
        text(NONE, "sbom", "Add a SBOM attestation"),
        list(NONE, "ssh", "Set SSH authentications used when building service images"),
        switch(NONE, "with-dependencies", "Also build dependencies (transitively)"),
        switch(NONE, "print", "Print the calls of build"),
        DRY_RUN,
    ]],
    arity: Arity::AtLeast(0),
    interspersed: true,
};

/// `fluyt compose pull`.
pub const PULL: Command = Command {
    name: "pull",
    arguments: "[SERVICE...]",
    about: "Pull service images",
    flags: &[&[
        switch(NONE, "ignore-buildable", "Ignore images that can be built"),
        switch(NONE, "ignore-pull-failures", "Pull what it can and ignores images with pull failures"),
        switch(NONE, "include-deps", "Also pull services declared as dependencies"),
        text(NONE, "policy", "Apply pull policy (\"missing\"|\"always\")"),
        switch('q', "quiet", "Pull without printing progress information"),
        DRY_RUN,
    ]],
    arity: Arity::AtLeast(0),
    interspersed: true,
};

/// `fluyt compose push`.
pub const PUSH: Command = Command {
    name: "push",
    arguments: "[SERVICE...]",
    about: "Push service images",
    flags: &[&[
        switch(NONE, "ignore-push-failures", "Push what it can and ignores images with push failures"),
        switch(NONE, "include-deps", "Also push images of services declared as dependencies"),
        switch('q', "quiet", "Push without printing progress information"),
        DRY_RUN,
    ]],
    arity: Arity::AtLeast(0),
    interspersed: true,
};

/// How images are got before containers are made of them.
#[derive(Clone, Debug, Default)]
pub struct Getting {
    /// Everything that can be built is built.
    pub build: bool,
    /// Nothing is built.
    pub no_build: bool,
    /// `always`, `missing`, `never`, `build`; empty: as the services say.
    pub pull: String,
    /// Builds say only what comes out.
    pub quiet_build: bool,
    /// Pulls say nothing.
    pub quiet_pull: bool,
    /// Nothing is done, but what would be is printed.
    pub dry_run: bool,
}

/// Pulls and builds what the services of a project need; the ids of their images.
///
/// # Errors
/// A pull or a build fails; an image is missing and must not be got.
pub fn get(called: &Called<'_>, project: &Project, getting: &Getting) -> Result<BTreeMap<String, String>> {
    let docker = called.docker()?;
    let mut ids = BTreeMap::new();
    let mut done: Vec<String> = Vec::new();
    for service in plan::in_order(project) {
        let Some(node) = project.service(service) else { continue };
        let Some(image) = project.image(service) else { continue };
        let here = id_of(docker, &image)?;
        let buildable = node.get("build").is_some();
        let policy = match getting.pull.as_str() {
            "" | "policy" => node.text("pull_policy"),
            given => given.to_owned(),
        };
        let want_build = buildable
            && !getting.no_build
            && (getting.build
                || policy == "build"
                || here.is_none() && policy != "always"
                || here.is_none() && node.get("image").is_none());
        let stale = policy == "always" || refresh(&policy);
        if done.contains(&image) {
            // Another service has the same image.
        } else if want_build {
            if getting.dry_run {
                println!(
                    "build image {image}  # {}",
                    if getting.build { "asked to build" } else { "there is no such image" }
                );
            } else {
                one_build(called, project, service, node, &image, getting.quiet_build)?;
            }
        } else if policy != "never"
            && (here.is_none() || stale && !(buildable && node.get("image").is_none()))
        {
            if getting.dry_run {
                println!(
                    "pull image {image}  # {}",
                    if here.is_none() { "there is no such image" } else { "asked to pull" }
                );
            } else {
                one_pull(called, &image, &node.text("platform"), getting.quiet_pull).or_else(|e| {
                    if here.is_some() && refresh(&policy) {
                        Ok(())
                    } else {
                        Err(e.context(format!("service {service}")))
                    }
                })?;
            }
        } else if here.is_none() && policy == "never" {
            return Err(Error::not_found(format!(
                "service {service}: there is no image {image}, and pull_policy is never"
            ))
            .with_hint(format!("pull it: fluyt pull {image}")));
        }
        done.push(image.clone());
        if let Some(id) = id_of(docker, &image)? {
            ids.insert(service.to_owned(), id);
        }
    }
    Ok(ids)
}

fn refresh(policy: &str) -> bool {
    matches!(policy, "refresh" | "daily" | "weekly") || policy.starts_with("every_")
}

fn id_of(docker: &dyn Docker, image: &str) -> Result<Option<String>> {
    match docker.image_inspect(image, "") {
        Ok(found) => Ok(Some(found.id)),
        Err(e) if e.kind() == Kind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn one_pull(called: &Called<'_>, image: &str, platform: &str, quiet: bool) -> Result<()> {
    if called.cli.remote()?.is_some() {
        let wanted =
            PullImage { reference: image.to_owned(), platform: platform.to_owned(), ..PullImage::default() };
        eprintln!(" pulling {image}");
        return called.docker()?.image_pull(&wanted, &Quiet);
    }
    let platform = Some(platform).filter(|p| !p.is_empty());
    registry::pull_one(called.cli.engine()?, image, platform, None, registry::Where::Stderr { quiet })
}

/// The words of a build of a service.
pub fn build_words(project: &Project, service: &str, node: &Node, image: &str) -> Result<Vec<String>> {
    let Some(build) = node.get("build") else {
        return Err(Error::invalid(format!("service {service} has no build")));
    };
    let mut words: Vec<String> = Vec::new();
    let mut add = |flag: &str, value: String| words.extend([word(flag), value]);
    add("--tag", image.to_owned());
    build.texts("tags").into_iter().for_each(|t| add("--tag", t));
    let context = build.text("context");
    if !build.text("dockerfile").is_empty() {
        let file = build.text("dockerfile");
        let remote = context.contains("://") || context.starts_with("git@");
        let file = if file.starts_with('/') || remote { file } else { format!("{context}/{file}") };
        add("--file", file);
    }
    for (name, value) in build.entries("args") {
        add("--build-arg", value.scalar().map_or(name.to_owned(), |v| format!("{name}={v}")));
    }
    build.dict("labels").into_iter().for_each(|(k, v)| add("--label", format!("{k}={v}")));
    build.texts("cache_from").into_iter().for_each(|c| add("--cache-from", c));
    build.texts("cache_to").into_iter().for_each(|c| add("--cache-to", c));
    build.texts("no_cache_filter").into_iter().for_each(|c| add("--no-cache-filter", c));
    build.texts("extra_hosts").into_iter().for_each(|h| add("--add-host", h));
    build.texts("entitlements").into_iter().for_each(|e| add("--allow", e));
    for (name, source) in build.dict("additional_contexts") {
        let source = match source.strip_prefix("service:") {
            Some(other) => format!("docker-image://{}", project.image(other).unwrap_or_default()),
            None => source,
        };
        add("--build-context", format!("{name}={source}"));
    }
    for (id, path) in build.dict("ssh") {
        add("--ssh", if path.is_empty() { id } else { format!("{id}={path}") });
    }
    for secret in build.items("secrets") {
        let source = secret.text("source");
        let object = project.tree.get("secrets").and_then(|s| s.get(&source));
        let target = secret.text("target");
        let id =
            if target.is_empty() || target.starts_with("/run/secrets/") { source.clone() } else { target };
        let (file, variable) = object.map(|o| (o.text("file"), o.text("environment"))).unwrap_or_default();
        add(
            "--secret",
            if file.is_empty() { format!("id={id},env={variable}") } else { format!("id={id},src={file}") },
        );
    }
    for (flag, key) in
        [("--network", "network"), ("--target", "target"), ("--provenance", "provenance"), ("--sbom", "sbom")]
    {
        Some(build.text(key)).filter(|t| !t.is_empty()).into_iter().for_each(|t| add(flag, t));
    }
    if build.amount("shm_size") > 0 {
        add("--shm-size", build.amount("shm_size").to_string());
    }
    for (name, limit) in build.entries("ulimits") {
        let both = limit.scalar().unwrap_or_else(|| format!("{}:{}", limit.text("soft"), limit.text("hard")));
        add("--ulimit", format!("{name}={both}"));
    }
    let platforms = build.texts("platforms");
    let platform = node.text("platform");
    if !platform.is_empty() {
        add("--platform", platform);
    } else if !platforms.is_empty() {
        add("--platform", platforms.join(","));
    }
    for (key, flag) in [("no_cache", "--no-cache"), ("pull", "--pull")] {
        if build.flag(key) {
            words.push(word(flag));
        }
    }
    words.push(context);
    Ok(words)
}

fn one_build(
    called: &Called<'_>,
    project: &Project,
    service: &str,
    node: &Node,
    image: &str,
    quiet: bool,
) -> Result<()> {
    let mut words = build_words(project, service, node, image)?;
    if quiet {
        words.insert(0, word("--quiet"));
    }
    built(called, project, service, node, words)
}

fn built(called: &Called<'_>, _: &Project, service: &str, node: &Node, mut words: Vec<String>) -> Result<()> {
    let inline = node.get("build").map(|b| b.text("dockerfile_inline")).filter(|t| !t.is_empty());
    let mut kept = None;
    if let Some(text) = inline {
        let path =
            std::env::temp_dir().join(format!("fluyt-compose-{}-{service}.Dockerfile", std::process::id()));
        std::fs::write(&path, text).map_err(|e| Error::io(path.display().to_string(), e))?;
        words.splice(0..0, [word("--file"), path.display().to_string()]);
        kept = Some(path);
    }
    let outcome = called.call(&build::BUILD, build::build, &words);
    if let Some(path) = kept {
        let _ = std::fs::remove_file(path);
    }
    match outcome {
        Ok(0) => Ok(()),
        Ok(code) => Err(Error::internal(format!("the build of service {service} ended with {code}"))),
        Err(crate::cli::fail::Failure::Error(e) | crate::cli::fail::Failure::Coded(e, _)) => {
            Err(e.context(format!("service {service}")))
        }
        Err(_) => Err(Error::invalid(format!("the build of service {service} is not understood"))),
    }
}

/// Builds services.
///
/// # Errors
/// A build fails.
pub fn build(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let mut options = called.options()?;
    options.services = parsed.args.clone();
    let project = called.load(&options)?;
    let wanted = |service: &str| {
        parsed.args.is_empty() || parsed.on("with-dependencies") || parsed.args.iter().any(|a| a == service)
    };
    for service in plan::in_order(&project) {
        let Some(node) = project.service(service).filter(|n| n.get("build").is_some() && wanted(service))
        else {
            continue;
        };
        let image = project.image(service).unwrap_or_default();
        let mut words = build_words(&project, service, node, &image)?;
        let mut more: Vec<String> = Vec::new();
        parsed.all("build-arg").for_each(|a| more.extend([word("--build-arg"), word(a)]));
        parsed.all("ssh").for_each(|a| more.extend([word("--ssh"), word(a)]));
        for flag in ["provenance", "sbom"] {
            parsed.given(flag).into_iter().for_each(|v| more.extend([format!("--{flag}"), word(v)]));
        }
        for flag in ["no-cache", "pull", "quiet", "push"] {
            if parsed.on(flag) {
                more.push(format!("--{flag}"));
            }
        }
        let at = words.len() - 1;
        words.splice(at..at, more);
        if called.dry_run() || parsed.on("print") {
            crate::cli::print_line(&format!("build image {image}  # fluyt build {}", words.join(" ")))?;
            continue;
        }
        built(called, &project, service, node, words)?;
    }
    Ok(0)
}

/// Pulls images of services.
///
/// # Errors
/// A pull fails.
pub fn pull(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let mut options = called.options()?;
    options.services = parsed.args.clone();
    let project = called.load(&options)?;
    let docker = called.docker()?;
    let mut done: Vec<String> = Vec::new();
    let mut failed = None;
    for service in plan::in_order(&project) {
        let Some(node) = project.service(service) else { continue };
        let named =
            parsed.args.is_empty() || parsed.on("include-deps") || parsed.args.iter().any(|a| a == service);
        let own = node.get("image").is_some();
        let buildable = node.get("build").is_some();
        if !named || !own || (buildable && parsed.on("ignore-buildable")) {
            continue;
        }
        let image = node.text("image");
        let missing_only = parsed.text("policy") == "missing"
            || node.text("pull_policy") == "missing" && parsed.text("policy").is_empty();
        if done.contains(&image) || (missing_only && id_of(docker, &image)?.is_some()) {
            continue;
        }
        if called.dry_run() {
            crate::cli::print_line(&format!("pull image {image}"))?;
        } else if let Err(e) = one_pull(called, &image, &node.text("platform"), parsed.on("quiet")) {
            if buildable || parsed.on("ignore-pull-failures") {
                eprintln!("WARN: service {service}: {}", e.chain());
            } else {
                failed.get_or_insert(e.context(format!("service {service}")));
            }
        }
        done.push(image);
    }
    failed.map_or(Ok(0), |e| Err(e.into()))
}

/// Pushes images of services.
///
/// # Errors
/// A push fails.
pub fn push(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let mut options = called.options()?;
    options.services = parsed.args.clone();
    let project = called.load(&options)?;
    for service in plan::in_order(&project) {
        let Some(node) = project.service(service) else { continue };
        let named =
            parsed.args.is_empty() || parsed.on("include-deps") || parsed.args.iter().any(|a| a == service);
        if !named || node.get("build").is_none() || node.get("image").is_none() {
            continue;
        }
        let image = node.text("image");
        if called.dry_run() {
            crate::cli::print_line(&format!("push image {image}"))?;
            continue;
        }
        let mut words = vec![image];
        if parsed.on("quiet") {
            words.insert(0, word("--quiet"));
        }
        match called.call(&registry::PUSH, registry::push, &words) {
            Err(_) if parsed.on("ignore-push-failures") => {}
            other => {
                other?;
            }
        }
    }
    Ok(0)
}
