//! `inspect`, of everything.

use fluyt_docker_api::api::Docker;
use fluyt_docker_api::types::{ContainerInspect, ImageInspect, NetworkInspect, Volume};
use fluyt_gotmpl::Value as TemplateValue;
use fluyt_model::{Error, Kind, Result};
use serde::Serialize;

use super::Cli;
use super::system::json;
use crate::cli::fail::{Failure, Outcome};
use crate::cli::flags::{Arity, Command, Flag, NONE, Parsed, switch, text};
use crate::cli::{fail, format, print_text};

const FORMAT: Flag = text(
    'f',
    "format",
    "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.",
);
const SIZE: Flag = switch('s', "size", "Display total file sizes if the type is container");

const fn of(
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
    flags: &'static [&'static [Flag]],
) -> Command {
    Command { name, arguments, about, flags, arity: Arity::AtLeast(1), interspersed: true }
}

/// `fluyt inspect`.
pub const INSPECT: Command = of(
    "inspect",
    "NAME|ID [NAME|ID...]",
    "Return low-level information on objects",
    &[&[FORMAT, SIZE, text(NONE, "type", "Only inspect objects of the given type")]],
);
/// `fluyt container inspect`.
pub const CONTAINER: Command = of(
    "inspect",
    "CONTAINER [CONTAINER...]",
    "Display detailed information on one or more containers",
    &[&[FORMAT, SIZE]],
);
/// `fluyt image inspect`.
pub const IMAGE: Command = of(
    "inspect",
    "IMAGE [IMAGE...]",
    "Display detailed information on one or more images",
    &[&[FORMAT, text(NONE, "platform", "Inspect a specific platform of the multi-platform image")]],
);
/// `fluyt network inspect`.
pub const NETWORK: Command = of(
    "inspect",
    "NETWORK [NETWORK...]",
    "Display detailed information on one or more networks",
    &[&[FORMAT, switch('v', "verbose", "Verbose output for diagnostics")]],
);
/// `fluyt volume inspect`.
pub const VOLUME: Command =
    of("inspect", "VOLUME [VOLUME...]", "Display detailed information on one or more volumes", &[&[FORMAT]]);

/// Kinds of objects that can be inspected here.
const TYPES: [&str; 4] = ["container", "image", "network", "volume"];

/// Runs `fluyt inspect`.
pub fn inspect(cli: &Cli, flags: &Parsed) -> Outcome {
    let kind = flags.text("type");
    if !kind.is_empty() && !TYPES.contains(&kind) {
        return Err(Error::invalid(format!(
            "unknown type: {kind:?}: must be one of \"{}\"",
            TYPES.join("\", \"")
        ))
        .into());
    }
    let docker = cli.docker()?;
    let size = flags.on("size");
    show(flags, |name| {
        let tried: &[&str] = if kind.is_empty() { &TYPES } else { &[kind] };
        for kind in tried {
            match one(docker, kind, name, size) {
                Err(e) if tried.len() > 1 && matches!(e.kind(), Kind::NotFound | Kind::Invalid) => {}
                Err(e) if e.kind() == Kind::NotFound => return Err(no_such(kind, name)),
                other => return other,
            }
        }
        Err(Error::not_found(format!("Error: No such object: {name}")))
    })
}

/// Runs `fluyt container inspect`.
pub fn container(cli: &Cli, flags: &Parsed) -> Outcome {
    let (docker, size) = (cli.docker()?, flags.on("size"));
    show(flags, |name| one(docker, "container", name, size).map_err(|e| rename(e, "container", name)))
}

/// Runs `fluyt image inspect`.
pub fn image(cli: &Cli, flags: &Parsed) -> Outcome {
    let docker = cli.docker()?;
    let platform = flags.text("platform");
    if !platform.is_empty() {
        return show(flags, |name| Ok(Document::Image(Box::new(docker.image_inspect(name, platform)?))));
    }
    show(flags, |name| one(docker, "image", name, false).map_err(|e| rename(e, "image", name)))
}

/// Runs `fluyt network inspect`.
pub fn network(cli: &Cli, flags: &Parsed) -> Outcome {
    let docker = cli.docker()?;
    show(flags, |name| one(docker, "network", name, false).map_err(|e| rename(e, "network", name)))
}

/// Runs `fluyt volume inspect`.
pub fn volume(cli: &Cli, flags: &Parsed) -> Outcome {
    let docker = cli.docker()?;
    show(flags, |name| one(docker, "volume", name, false).map_err(|e| rename(e, "volume", name)))
}

fn rename(error: Error, kind: &str, name: &str) -> Error {
    if error.kind() == Kind::NotFound { no_such(kind, name) } else { error }
}

/// Docker's sentences.
fn no_such(kind: &str, name: &str) -> Error {
    Error::not_found(format!("Error: No such {kind}: {name}"))
}

/// What can be inspected; it keeps the order of Docker's fields.
#[derive(Serialize)]
#[serde(untagged)]
enum Document {
    Container(Box<ContainerInspect>),
    Image(Box<ImageInspect>),
    Network(Box<NetworkInspect>),
    Volume(Box<Volume>),
}

fn one(docker: &dyn Docker, kind: &str, name: &str, size: bool) -> Result<Document> {
    Ok(match kind {
        "container" => Document::Container(Box::new(docker.container_inspect(name, size)?)),
        "image" => Document::Image(Box::new(docker.image_inspect(name, "")?)),
        "network" => Document::Network(Box::new(docker.network_inspect(name)?)),
        _ => Document::Volume(Box::new(docker.volume_inspect(name)?)),
    })
}

/// Prints what was found in the wanted format, then what was not, and fails if anything was not.
fn show(flags: &Parsed, find: impl Fn(&str) -> Result<Document>) -> Outcome {
    let format = flags.text("format");
    let template = match format {
        "" | "json" => None,
        text => Some(format::parse(text).map_err(|e| Failure::Coded(e, 64))?),
    };
    let (mut found, mut errors, mut text) = (Vec::new(), Vec::new(), String::new());
    for name in &flags.args {
        match (find(name), &template) {
            (Err(error), _) => errors.push(error),
            (Ok(document), None) => found.push(document),
            (Ok(document), Some(template)) => {
                let value = TemplateValue::from_json_struct(&json(&document)?, "document");
                match template.execute(&value) {
                    Ok(line) => text.push_str(&(line + "\n")),
                    Err(error) => errors.push(format::bad_template(error)),
                }
            }
        }
    }
    match (&template, format) {
        (Some(_), _) if text.is_empty() => text.push('\n'),
        (Some(_), _) => {}
        (None, "json") => text = printed(&found, serde_json::ser::CompactFormatter)? + "\n",
        (None, _) => {
            text = printed(&found, serde_json::ser::PrettyFormatter::with_indent(b"    "))? + "\n";
        }
    }
    print_text(&text)?;
    for error in &errors {
        fail::print_bare(error);
    }
    if errors.is_empty() { Ok(0) } else { Err(Failure::Code(1)) }
}

/// Documents as one JSON text.
pub fn printed<T: Serialize>(documents: &[T], formatter: impl serde_json::ser::Formatter) -> Result<String> {
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    documents.serialize(&mut serializer).map_err(|e| Error::internal("documents as JSON").with_source(e))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}
