//! `fluyt compose publish`: a project as an artifact in a registry.

use fluyt_compose::artifact::{self, Layer, Oci};
use fluyt_compose::{Project, plan, publish};
use fluyt_docker_api::transfer;
use fluyt_image::Silent;
use fluyt_model::error::IoContext;
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Kind, Result};
use fluyt_registry::Registry;
use serde_json::Value;

use super::Called;
use super::config::pin;
use super::display::Form;
use super::project::word;
use crate::cli::cmd::registry;
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, NONE, switch, text};
use crate::cli::{print_line, terminal, time};

/// `fluyt compose publish`.
pub const PUBLISH: Command = Command {
    name: "publish",
    arguments: "REPOSITORY[:TAG]",
    about: "Publish compose application",
    flags: &[&[
        switch(NONE, "app", "Published compose application (includes referenced images)"),
        switch(NONE, "dry-run", "Print what would be published"),
        switch(NONE, "insecure-registry", "Use insecure registry").hidden(),
        text(
            NONE,
            "oci-version",
            "OCI image/artifact specification version (automatically determined by default)",
        ),
        switch(NONE, "resolve-image-digests", "Pin image tags to digests"),
        switch(NONE, "with-env", "Include environment variables in the published OCI artifact"),
        switch('y', "yes", "Assume \"yes\" as answer to all prompts"),
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
};

/// Runs `fluyt compose publish`.
///
/// # Errors
/// The project cannot be published, its author does not agree, the registry does not take it.
pub fn publish(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let version = match parsed.text("oci-version") {
        "" => None,
        "1.0" => Some(Oci::V1_0),
        "1.1" => Some(Oci::V1_1),
        other => {
            return Err(Error::invalid(format!("unsupported OCI version: {other}"))
                .with_hint("use 1.0 or 1.1")
                .into());
        }
    };
    let to = Reference::parse_untagged(&parsed.args[0])?.or_latest();
    let mut options = called.options()?;
    options.profiles = vec![word("*")];
    options.resolve_environment = false;
    let mut project = called.load(&options)?;
    let prepared = publish::prepare(&project, called.source(), parsed.on("with-env"))?;
    for question in &prepared.questions {
        eprintln!("{question}");
        if !parsed.on("yes") && !called.dry_run() && !terminal::confirm("Are you ok to publish this?") {
            return Err(Error::invalid("operation cancelled by user")
                .with_hint("-y publishes without asking")
                .into());
        }
    }
    push_images(called, &project)?;
    let mut layers = prepared.layers;
    if parsed.on("with-env") {
        for (path, name) in &prepared.variables {
            let bytes = std::fs::read(path).about(|| path.display().to_string())?;
            layers.push(Layer::variables(name, bytes));
        }
    }
    let app = parsed.on("app");
    if app || parsed.on("resolve-image-digests") {
        pin(called, &mut project)?;
        let mut images = project.clone();
        images.only_images();
        layers.push(Layer::file("image-digests.yaml", images.yaml().into_bytes()));
    }
    if called.dry_run() {
        for layer in &layers {
            print_line(&format!("{}  # {}", layer.descriptor(), layer.media_type))?;
        }
        return Ok(0);
    }
    let registry = transfer::client(!parsed.on("insecure-registry"), None)?;
    let artifact = push(&registry, &to, &layers, version)?;
    if app {
        push_application(called, &registry, &to, &artifact, &project)?;
    }
    if called.form()? != Form::Quiet {
        eprintln!(" ✔ {} published", to.familiar());
    }
    Ok(0)
}

/// The images that are built here go first; those that cannot be pushed are somebody else's.
fn push_images(called: &Called<'_>, project: &Project) -> Result<()> {
    for service in plan::in_order(project) {
        let Some(node) = project.service(service) else { continue };
        let (Some(image), true) = (node.get_str("image"), node.get("build").is_some()) else { continue };
        if called.dry_run() {
            print_line(&format!("push image {image}"))?;
            continue;
        }
        let words = [word("--quiet"), word(image)];
        if called.call(&registry::PUSH, registry::push, &words).is_err() {
            eprintln!("WARN: service {service}: image {image} was not pushed");
        }
    }
    Ok(())
}

/// Puts the artifact into the registry: as version 1.1 has it, or 1.0 where that is not taken. Its manifest.
fn push(registry: &Registry, to: &Reference, layers: &[Layer], version: Option<Oci>) -> Result<Vec<u8>> {
    registry.put_blob(to, artifact::EMPTY_CONTENT)?;
    for layer in layers {
        registry.put_blob(to, &layer.bytes)?;
    }
    let created = time::rfc3339_seconds(time::now());
    let put = |oci: Oci| -> Result<Vec<u8>> {
        let manifest = artifact::manifest(layers, oci, &created);
        registry.put_document(to, artifact::MANIFEST, &manifest)?;
        Ok(manifest)
    };
    match put(version.unwrap_or(Oci::V1_1)) {
        Err(e)
            if version.is_none()
                && matches!(e.kind(), Kind::Invalid | Kind::NotFound | Kind::Unsupported) =>
        {
            put(Oci::V1_0)
        }
        other => other,
    }
}

/// Copies the images of services beside the artifact, and puts an index of them there that refers to it.
fn push_application(
    called: &Called<'_>,
    registry: &Registry,
    to: &Reference,
    artifact: &[u8],
    project: &Project,
) -> Result<()> {
    let mut images: Vec<Value> = Vec::new();
    called.cli.engine()?.images().undoing(|lease| {
        for service in project.services() {
            let Some(image) = project.image(service) else { continue };
            let from = Reference::parse_untagged(&image)?.or_latest();
            let document = registry.document(&from).map_err(|e| e.context(format!("service {service}")))?;
            registry.copy(&lease.blobs(), &from, &document.descriptor, to, &Silent)?;
            let descriptor = serde_json::to_value(&document.descriptor)
                .map_err(|e| Error::internal("writing JSON").with_source(e))?;
            if !images.contains(&descriptor) {
                images.push(descriptor);
            }
        }
        Ok(())
    })?;
    let index = artifact::application(&images, artifact);
    let name = Reference::parse_untagged(&to.name())?;
    registry.put_document(&name, artifact::INDEX, &index).map(drop)
}
