//! Images of services: which are pulled, which are built; `build`, `pull`, `push`.

use std::collections::BTreeMap;

use fluyt_compose::document::Node;
use fluyt_compose::execute::{Event, Report, State};
use fluyt_compose::view::View;
use fluyt_compose::{Project, plan};
use fluyt_docker_api::api::Docker;
use fluyt_model::{Error, Kind, Result};

use super::Called;
use super::building::{self, Job, Pull};
use super::display::Display;
use super::project::word;
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

/// What is to be done for the image of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Nothing,
    Build,
    Pull,
}

impl Getting {
    fn way(&self, service: &str, node: &Node, image: &str, here: bool) -> Result<(Way, String)> {
        let buildable = node.get("build").is_some();
        let policy = match self.pull.as_str() {
            "" | "policy" => node.text("pull_policy"),
            given => given.to_owned(),
        };
        let nameless = node.get("image").is_none();
        let build = buildable
            && !self.no_build
            && (self.build || policy == "build" || !here && (policy != "always" || nameless));
        if build {
            return Ok((Way::Build, policy));
        }
        let stale = policy == "always" || refresh(&policy);
        if policy != "never" && (!here || stale && !(buildable && nameless)) {
            return Ok((Way::Pull, policy));
        }
        if !here {
            return Err(Error::not_found(format!(
                "service {service}: there is no image {image}, and pull_policy is never"
            ))
            .with_hint(format!("pull it: fluyt pull {image}")));
        }
        Ok((Way::Nothing, policy))
    }
}

/// Pulls and builds what the services of a project need; the ids of their images.
///
/// # Errors
/// A pull or a build fails; an image is missing and must not be got.
pub fn get(
    called: &Called<'_>,
    project: &Project,
    getting: &Getting,
    display: &Display,
) -> Result<BTreeMap<String, String>> {
    let docker = called.docker()?;
    let (mut pulls, mut jobs, mut lenient) = (Vec::new(), Vec::new(), Vec::new());
    let mut ids: BTreeMap<String, Option<String>> = BTreeMap::new();
    for service in plan::in_order(project) {
        let Some(node) = project.service(service).filter(|n| n.get("provider").is_none()) else { continue };
        let Some(image) = project.image(service) else { continue };
        if ids.contains_key(&image) {
            continue;
        }
        let here = id_of(docker, &image)?;
        let (way, policy) = getting.way(service, node, &image, here.is_some())?;
        match way {
            Way::Nothing => {}
            Way::Build => jobs.push(Job::of(project, service, node, &image, &[])?),
            Way::Pull => {
                if here.is_some() && refresh(&policy) {
                    lenient.push(service.to_owned());
                }
                let platform = node.text("platform");
                pulls.push(Pull { service: service.to_owned(), image: image.clone(), platform });
            }
        }
        // What is got anew is looked up again.
        ids.insert(image, here.filter(|_| way == Way::Nothing));
    }
    if getting.dry_run {
        let missing = |image: &str| matches!(id_of(docker, image), Ok(None));
        for Pull { image, .. } in &pulls {
            let cause = if missing(image) { "there is no such image" } else { "asked to pull" };
            println!("pull image {image}  # {cause}");
        }
        for Job { image, .. } in &jobs {
            let cause = if getting.build { "asked to build" } else { "there is no such image" };
            println!("build image {image}  # {cause}");
        }
    } else {
        building::pull(called, &pulls, getting.quiet_pull, display, &|s| lenient.iter().any(|l| l == s))?;
        building::build(called, &jobs, getting.quiet_build, display)?;
    }
    for (image, id) in ids.iter_mut().filter(|(_, id)| id.is_none()) {
        *id = id_of(docker, image)?;
    }
    let of_service = |service: &str| {
        let id = ids.get(&project.image(service)?)?.clone()?;
        Some((service.to_owned(), id))
    };
    Ok(project.services().into_iter().filter_map(of_service).collect())
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

/// Builds services.
///
/// # Errors
/// A build fails.
pub fn build(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let mut options = called.options()?;
    options.services = parsed.args.clone();
    let project = called.load(&options)?;
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
    let mut jobs: Vec<Job<'_>> = Vec::new();
    let order = plan::in_order(&project);
    let named = |service: &str| {
        parsed.args.is_empty() || parsed.on("with-dependencies") || parsed.args.iter().any(|a| a == service)
    };
    let mut wanted: Vec<&str> = order.iter().copied().filter(|s| named(s)).collect();
    // What a build stands on is built with it.
    let mut n = 0;
    while n < wanted.len() {
        let contexts = project.service(wanted[n]).and_then(|s| s.get("build"));
        for source in contexts.map(|b| b.dict("additional_contexts")).unwrap_or_default().values() {
            let on = source.strip_prefix("service:").and_then(|on| order.iter().find(|s| **s == on));
            wanted.extend(on.filter(|on| !wanted.contains(on)).copied());
        }
        n += 1;
    }
    for service in order.into_iter().filter(|s| wanted.contains(s)) {
        let Some(node) = project.service(service).filter(|n| n.get("build").is_some()) else { continue };
        let image = project.image(service).unwrap_or_default();
        jobs.push(Job::of(&project, service, node, &image, &more)?);
    }
    if called.dry_run() || parsed.on("print") {
        for Job { image, words, .. } in &jobs {
            crate::cli::print_line(&format!("build image {image}  # fluyt build {}", words.join(" ")))?;
        }
        return Ok(0);
    }
    if jobs.is_empty() {
        eprintln!("WARN: no services to build");
    }
    building::build(called, &jobs, parsed.on("quiet"), &called.display("build")?)?;
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
    let display = called.display("pull")?;
    let mut pulls: Vec<Pull> = Vec::new();
    for service in plan::in_order(&project) {
        let Some(node) = project.service(service) else { continue };
        let named =
            parsed.args.is_empty() || parsed.on("include-deps") || parsed.args.iter().any(|a| a == service);
        let buildable = node.get("build").is_some();
        if !named || node.get("image").is_none() {
            continue;
        }
        let image = node.text("image");
        let thing = format!("Image {image}");
        let skipped = |why: &str| display.tell(&Event::new(&thing, State::Done, &format!("Skipped {why}")));
        let policy = match parsed.text("policy") {
            "" => node.text("pull_policy"),
            given => given.to_owned(),
        };
        if buildable && parsed.on("ignore-buildable") || policy == "build" {
            skipped("- Image can be built");
        } else if pulls.iter().any(|p| p.image == image) {
            // Another service has the same image.
        } else if policy == "never" {
            skipped("- No image to be pulled");
        } else if policy == "missing" && id_of(docker, &image)?.is_some() {
            skipped("- Image is already present locally");
        } else if called.dry_run() {
            crate::cli::print_line(&format!("pull image {image}"))?;
        } else {
            pulls.push(Pull { service: service.to_owned(), image, platform: node.text("platform") });
        }
    }
    let lenient = |service: &str| {
        let buildable = project.service(service).is_some_and(|n| n.get("build").is_some());
        buildable || parsed.on("ignore-pull-failures")
    };
    building::pull(called, &pulls, parsed.on("quiet"), &display, &lenient)?;
    Ok(0)
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
    let mut images: Vec<String> = Vec::new();
    for service in plan::in_order(&project) {
        let Some(node) = project.service(service) else { continue };
        let named =
            parsed.args.is_empty() || parsed.on("include-deps") || parsed.args.iter().any(|a| a == service);
        if !named || node.get("build").is_none() || node.get("image").is_none() {
            continue;
        }
        let tags = node.get("build").map(|b| b.texts("tags")).unwrap_or_default();
        for image in std::iter::once(node.text("image")).chain(tags) {
            if !images.contains(&image) {
                images.push(image);
            }
        }
    }
    if called.dry_run() {
        images.iter().try_for_each(|image| crate::cli::print_line(&format!("push image {image}")))?;
        return Ok(0);
    }
    let display = called.display("push")?;
    building::push(called, &images, parsed.on("quiet"), parsed.on("ignore-push-failures"), &display)?;
    Ok(0)
}
