//! `fluyt compose alpha`: what docker compose tries out, and old words for what has become a command.

use fluyt_compose::document::write;
use fluyt_compose::draw::{self, Viz};
use fluyt_docker_api::types::ContainerInspect;
use fluyt_model::{Error, Kind, Result};

use super::{Called, Run, publish, up, watch};
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, NONE, int, switch, text};
use crate::cli::print_text;

/// Commands of `alpha`.
pub const COMMANDS: &[(&Command, Run)] = &[
    (&DRY_RUN, dry_run),
    (&GENERATE, generate),
    (&publish::PUBLISH, publish::publish),
    (&up::SCALE, up::scale),
    (&VIZ, viz),
    (&watch::WATCH, watch::watch),
];

/// `fluyt compose alpha dry-run`.
const DRY_RUN: Command = Command {
    name: "dry-run",
    arguments: "-- [COMMAND...]",
    about: "Dry run command allows you to test a command without applying changes",
    flags: &[],
    arity: Arity::AtLeast(0),
    interspersed: false,
};

/// `fluyt compose alpha viz`.
const VIZ: Command = Command {
    name: "viz",
    arguments: "",
    about: "Generate a graphviz graph from your compose file",
    flags: &[&[
        switch(NONE, "image", "Include service's image name in output graph"),
        int(NONE, "indentation-size", "Number of tabs or spaces to use for indentation").default("1"),
        switch(NONE, "networks", "Include service's attached networks in output graph"),
        switch(NONE, "ports", "Include service's exposed ports in output graph"),
        switch(NONE, "spaces", "Indent with spaces instead of tabs"),
    ]],
    arity: Arity::None,
    interspersed: true,
};

/// `fluyt compose alpha generate`.
const GENERATE: Command = Command {
    name: "generate",
    arguments: "CONTAINER [CONTAINER...]",
    about: "Generate a Compose file from existing containers",
    flags: &[&[
        text(NONE, "format", "Format the output. Values: [yaml | json]").default("yaml"),
        text(NONE, "name", "Project name to set in the Compose file"),
        text(NONE, "project-dir", "Directory to use for the project"),
    ]],
    arity: Arity::AtLeast(1),
    interspersed: true,
};

fn dry_run(called: &Called<'_>) -> Outcome {
    let mut words = vec!["--dry-run".to_owned()];
    words.extend(super::said(called.global));
    words.extend(called.parsed.args.iter().cloned());
    called.call(&super::COMPOSE, super::compose, &words)
}

fn viz(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let size = parsed.int("indentation-size");
    let Ok(count) = usize::try_from(size) else {
        return Err(Error::invalid(format!("invalid indentation size: {size}")).into());
    };
    let project = called.load(&called.options()?)?;
    let how = Viz {
        networks: parsed.on("networks"),
        ports: parsed.on("ports"),
        images: parsed.on("image"),
        indentation: if parsed.on("spaces") { " " } else { "\t" }.repeat(count),
    };
    print_text(&draw::viz(&project, &how))?;
    Ok(0)
}

fn generate(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let docker = called.docker()?;
    let find = |name: &String| -> Result<ContainerInspect> {
        docker.container_inspect(name, false).map_err(|e| match e.kind() {
            Kind::NotFound => {
                Error::not_found(format!("no container(s) found with the following name(s): {name}"))
                    .with_hint("fluyt ps -a lists them")
            }
            _ => e,
        })
    };
    let containers = parsed.args.iter().map(find).collect::<Result<Vec<_>>>()?;
    let internal = |name: &str| docker.network_inspect(name).is_ok_and(|n| n.internal);
    let file = draw::generate(parsed.text("name"), &containers, &internal);
    let content = match parsed.text("format") {
        "json" => write::json_pretty(&file),
        "yaml" => write::yaml(&file),
        other => {
            return Err(Error::invalid(format!("unsupported format {other:?}"))
                .with_hint("use yaml or json")
                .into());
        }
    };
    print_text(&content)?;
    Ok(0)
}
