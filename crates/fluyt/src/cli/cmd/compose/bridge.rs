//! `fluyt compose bridge`: projects become files of something else by images that transform them. An image gets the project
//! as `/in/compose.yaml` and writes to `/out`.

use std::path::{Path, PathBuf};

use fluyt_compose::document::{Node, Value};
use fluyt_compose::{Project, plan};
use fluyt_docker_api::api::{CreateContainer, Filters, ListImages, RemoveContainer};
use fluyt_docker_api::types::CreateRequest;
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};

use super::Called;
use super::project::word;
use crate::cli::cmd::{registry, run};
use crate::cli::create;
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, NONE, list, switch, text};
use crate::cli::{print_line, print_text};

/// The image that is taken when none is named.
const DEFAULT: &str = "docker/compose-bridge-kubernetes";
/// What such images are labelled with.
const LABEL: &str = "com.docker.compose.bridge=transformation";

/// Commands of `bridge`.
pub const COMMANDS: &[(&Command, super::Run)] = &[(&CONVERT, convert)];

/// Commands of `bridge transformations`.
pub const TRANSFORMATIONS: &[(&Command, super::Run)] = &[(&CREATE, make), (&LIST, listed)];

/// `fluyt compose bridge convert`.
const CONVERT: Command = Command {
    name: "convert",
    arguments: "",
    about: "Convert compose files to Kubernetes manifests, Helm charts, or another model",
    flags: &[&[
        text('o', "output", "The output directory for the Kubernetes resources").default("out"),
        text(NONE, "templates", "Directory containing transformation templates"),
        list(
            't',
            "transformation",
            "Transformation to apply to compose model (default: docker/compose-bridge-kubernetes)",
        ),
    ]],
    arity: Arity::None,
    interspersed: true,
};

/// `fluyt compose bridge transformations create`.
const CREATE: Command = Command {
    name: "create",
    arguments: "PATH",
    about: "Create a new transformation",
    flags: &[&[text(
        'f',
        "from",
        "Existing transformation to copy (default: docker/compose-bridge-kubernetes)",
    )]],
    arity: Arity::Exactly(1),
    interspersed: true,
};

/// `fluyt compose bridge transformations list`.
const LIST: Command = Command {
    name: "list",
    arguments: "",
    about: "List available transformations",
    flags: &[&[
        text(NONE, "format", "Format the output. Values: [table | json]").default("table"),
        switch('q', "quiet", "Only display transformer names"),
    ]],
    arity: Arity::None,
    interspersed: true,
};

fn absolute(path: &str) -> Result<PathBuf> {
    std::path::absolute(path).about(|| path.to_owned())
}

fn convert(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let project = with_everything(called, called.load(&called.options()?)?)?;
    let out = absolute(parsed.text("output"))?;
    std::fs::create_dir_all(&out).about(|| out.display().to_string())?;
    let input = std::env::temp_dir().join(format!("fluyt-compose-bridge-{}", std::process::id()));
    std::fs::create_dir_all(&input).about(|| input.display().to_string())?;
    let transformed = (|| -> Outcome {
        let file = input.join("compose.yaml");
        std::fs::write(&file, project.yaml()).about(|| file.display().to_string())?;
        let mut images = parsed.list("transformation");
        if images.is_empty() {
            images.push(word(DEFAULT));
        }
        for image in images {
            let mut words = vec![word("--rm"), word("-e"), word("LICENSE_AGREEMENT=true")];
            words.extend([word("-u"), rustix::process::getuid().as_raw().to_string()]);
            words.extend([word("-v"), format!("{}:/in", input.display())]);
            words.extend([word("-v"), format!("{}:/out", out.display())]);
            if let Some(templates) = parsed.given("templates").filter(|t| !t.is_empty()) {
                words.extend([word("-v"), format!("{}:/templates", absolute(templates)?.display())]);
            }
            words.push(image);
            let code = called.call(&create::RUN, run::run, &words)?;
            if code != 0 {
                return Ok(code);
            }
        }
        Ok(0)
    })();
    let _ = std::fs::remove_dir_all(&input);
    transformed
}

/// The project with what its images, secrets and configs say.
fn with_everything(called: &Called<'_>, mut project: Project) -> Result<Project> {
    let docker = called.docker()?;
    for service in plan::in_order(&project.clone()) {
        let Some(image) = project.image(service) else { continue };
        let mut ports: Vec<String> = Vec::new();
        match docker.image_inspect(&image, "") {
            Ok(found) => {
                let exposed = found.config.exposed_ports.keys();
                ports.extend(exposed.map(|p| p.to_string().split('/').next().unwrap_or_default().to_owned()));
            }
            Err(_) => eprintln!(
                "WARN: image {image} for service {service} not found locally; Dockerfile-exposed ports will not be included"
            ),
        }
        project.expose(service, &image, ports);
    }
    for section in ["secrets", "configs"] {
        let names: Vec<String> = project.names(section).into_iter().map(str::to_owned).collect();
        for name in names {
            let object = project.tree.get(section).and_then(|s| s.get(&name)).cloned();
            let Some(object) = object else { continue };
            let content = match (object.get_str("environment"), object.get_str("file")) {
                (Some(variable), _) => project.environment.get(variable).cloned().unwrap_or_default(),
                (_, Some(file)) => std::fs::read_to_string(file).about(|| file.to_owned())?,
                _ => continue,
            };
            let place = project.tree.map_mut().and_then(|m| m.get_mut(section)).and_then(Node::map_mut);
            if let Some(map) = place.and_then(|m| m.get_mut(&name)).and_then(Node::map_mut) {
                map.set("content", Default::default(), Node::new(Value::Str(content), Default::default()));
            }
        }
    }
    Ok(project)
}

fn listed(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let mut filters = Filters::default();
    filters.add("label", LABEL);
    let images = called.docker()?.image_list(&ListImages { filters, ..ListImages::default() })?;
    let name = |image: &fluyt_docker_api::types::ImageSummary| {
        image.repo_tags.first().cloned().unwrap_or_else(|| image.id.clone())
    };
    if parsed.on("quiet") {
        images.iter().try_for_each(|image| print_line(&name(image)))?;
        return Ok(0);
    }
    if parsed.text("format") == "json" {
        print_line(
            &serde_json::to_string(&images).map_err(|e| Error::internal("writing JSON").with_source(e))?,
        )?;
        return Ok(0);
    }
    let mut rows = vec![["IMAGE ID", "REPO", "TAGS"].map(str::to_owned)];
    for image in &images {
        let tag = image.repo_tags.first().cloned().unwrap_or_else(|| word("<none>:<none>"));
        let (repository, tag) = tag.rsplit_once(':').unwrap_or((&tag, "<none>"));
        let id: String = image.id.trim_start_matches("sha256:").chars().take(12).collect();
        rows.push([id, repository.to_owned(), tag.to_owned()]);
    }
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0) + 3;
    let widths = [width(0), width(1)];
    let lines = rows.iter().map(|[id, repo, tag]| format!("{id:0$}{repo:1$}{tag}\n", widths[0], widths[1]));
    print_text(&lines.collect::<String>())?;
    Ok(0)
}

fn make(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let out = absolute(&parsed.args[0])?;
    if out.exists() {
        return Err(Error::conflict(format!("output folder {} already exists", out.display())).into());
    }
    let image = parsed.given("from").filter(|f| !f.is_empty()).unwrap_or(DEFAULT);
    let docker = called.docker()?;
    if docker.image_inspect(image, "").is_err() {
        called.call(&registry::PULL, registry::pull, &[word("--quiet"), word(image)])?;
    }
    let mut request = CreateRequest::default();
    image.clone_into(&mut request.config.image);
    let wanted = CreateContainer { request, ..CreateContainer::default() };
    let made = docker.container_create(wanted)?.id;
    let copied = templates(called, &made, &out);
    docker.container_remove(&made, RemoveContainer { force: true, volumes: true, link: false })?;
    copied?;
    let dockerfile = "FROM docker/compose-bridge-transformer\nLABEL com.docker.compose.bridge=transformation\nCOPY templates /templates\n";
    let path = out.join("Dockerfile");
    std::fs::write(&path, dockerfile).about(|| path.display().to_string())?;
    print_line(&format!("Transformer created in {:?}", out.display().to_string()))?;
    Ok(0)
}

/// Copies the templates of an image into a new directory.
fn templates(called: &Called<'_>, container: &str, out: &Path) -> Result<()> {
    let (_, archive) = called.docker()?.container_get_archive(container, "/templates")?;
    let mut bytes = Vec::new();
    archive(&mut bytes)?;
    std::fs::create_dir_all(out).about(|| out.display().to_string())?;
    tar::Archive::new(bytes.as_slice()).unpack(out).about(|| out.display().to_string())
}
