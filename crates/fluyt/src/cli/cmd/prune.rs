//! `container prune`, `image prune`, `network prune`, `volume prune`, `system prune`.

use fluyt_docker_api::select::prune::{self as select, FILTERS, IMAGE_FILTERS, Keep, VOLUME_FILTERS};
use fluyt_engine::{Engine, Pruned};
use fluyt_model::Result;
use fluyt_model::quantity::human_size;

use super::Cli;
use crate::cli::fail::Outcome;
use crate::cli::filter::Filters;
use crate::cli::flags::{Arity, Command, Flag, NONE, Parsed, many, switch, values};
use crate::cli::{print_text, terminal, time};

const FORCE: Flag = switch('f', "force", "Do not prompt for confirmation");
const FILTER: Flag =
    many(NONE, "filter", "filter", values::filter, "Provide filter values (e.g. \"until=<timestamp>\")");

const fn prune(about: &'static str, flags: &'static [&'static [Flag]]) -> Command {
    Command { name: "prune", arguments: "", about, flags, arity: Arity::None, interspersed: true }
}

/// `fluyt container prune`.
pub const CONTAINERS: Command = prune("Remove all stopped containers", &[&[FORCE, FILTER]]);
/// `fluyt network prune`.
pub const NETWORKS: Command = prune("Remove all unused networks", &[&[FORCE, FILTER]]);
/// `fluyt volume prune`.
pub const VOLUMES: Command = prune(
    "Remove unused local volumes",
    &[&[switch('a', "all", "Remove all unused volumes, not just anonymous ones"), FORCE, FILTER]],
);
/// `fluyt image prune`.
pub const IMAGES: Command = prune(
    "Remove unused images",
    &[&[switch('a', "all", "Remove all unused images, not just dangling ones"), FORCE, FILTER]],
);
/// `fluyt system prune`.
pub const SYSTEM: Command = prune(
    "Remove unused data",
    &[&[
        switch('a', "all", "Remove all unused images not just dangling ones"),
        FORCE,
        FILTER,
        switch(NONE, "volumes", "Prune anonymous volumes"),
    ]],
);

/// What to keep, by `--filter`.
fn keep_of(flags: &Parsed, known: &[&str]) -> Result<Keep> {
    Keep::new(Filters::parse(flags.all("filter"), known)?, time::now())
}

/// Whether the user agrees, by `--force` or by answering.
fn agreed(flags: &Parsed, warning: &str) -> bool {
    flags.on("force") || terminal::confirm(&format!("WARNING! {warning}\nAre you sure you want to continue?"))
}

fn report(title: &str, pruned: &Pruned, reclaimed: bool) -> Result<()> {
    let mut text = String::new();
    if !pruned.removed.is_empty() {
        text = format!("{title}:\n{}\n\n", pruned.removed.join("\n"));
    }
    if reclaimed {
        text.push_str(&format!("Total reclaimed space: {}\n", human_size(pruned.bytes as f64)));
    }
    print_text(&text)
}

/// Runs `fluyt container prune`.
pub fn containers(cli: &Cli, flags: &Parsed) -> Outcome {
    let keep = keep_of(flags, FILTERS)?;
    if !agreed(flags, "This will remove all stopped containers.") {
        return Ok(0);
    }
    report("Deleted Containers", &cli.engine()?.prune_containers(&|view| keep.container(view))?, true)?;
    Ok(0)
}

/// Runs `fluyt network prune`.
pub fn networks(cli: &Cli, flags: &Parsed) -> Outcome {
    let keep = keep_of(flags, FILTERS)?;
    if !agreed(flags, "This will remove all custom networks not used by at least one container.") {
        return Ok(0);
    }
    report("Deleted Networks", &cli.engine()?.prune_networks(&|view| keep.network(view))?, false)?;
    Ok(0)
}

/// Runs `fluyt volume prune`.
pub fn volumes(cli: &Cli, flags: &Parsed) -> Outcome {
    let keep = keep_of(flags, VOLUME_FILTERS)?;
    let all = flags.on("all") || keep.filters().boolean("all")?.unwrap_or(false);
    let which = if all { "all local volumes" } else { "anonymous local volumes" };
    if !agreed(flags, &format!("This will remove {which} not used by at least one container.")) {
        return Ok(0);
    }
    report("Deleted Volumes", &cli.engine()?.prune_volumes(all, &|view| keep.volume(view))?, true)?;
    Ok(0)
}

/// Runs `fluyt image prune`.
pub fn images(cli: &Cli, flags: &Parsed) -> Outcome {
    let keep = keep_of(flags, IMAGE_FILTERS)?;
    let all = flags.on("all") || keep.filters().boolean("dangling")? == Some(false);
    let which = if all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    };
    if !agreed(flags, &format!("This will remove {which}.")) {
        return Ok(0);
    }
    report("Deleted Images", &prune_images(cli.engine()?, all, &keep)?, true)?;
    Ok(0)
}

fn prune_images(engine: &Engine, all: bool, keep: &Keep) -> Result<Pruned> {
    let (removed, bytes) = select::images(engine, all, keep)?;
    Ok(Pruned { removed: removed.iter().map(ToString::to_string).collect(), bytes })
}

/// Runs `fluyt system prune`.
pub fn system(cli: &Cli, flags: &Parsed) -> Outcome {
    let keep = keep_of(flags, FILTERS)?;
    let (all, with_volumes) = (flags.on("all"), flags.on("volumes"));
    let mut items = vec!["all stopped containers", "all networks not used by at least one container"];
    if with_volumes {
        items.push("all anonymous volumes not used by at least one container");
    }
    items.push(if all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    });
    // Nothing in the cache has labels.
    if !keep.by_label() {
        items.push(if all { "all build cache" } else { "unused build cache" });
    }
    let list: String = items.iter().map(|item| format!("\n  - {item}")).collect();
    if !agreed(flags, &format!("This will remove:{list}\n")) {
        return Ok(0);
    }
    let engine = cli.engine()?;
    let containers = engine.prune_containers(&|view| keep.container(view))?;
    report("Deleted Containers", &containers, false)?;
    let networks = engine.prune_networks(&|view| keep.network(view))?;
    report("Deleted Networks", &networks, false)?;
    let mut bytes = containers.bytes + networks.bytes;
    if with_volumes {
        let volumes = engine.prune_volumes(false, &|view| keep.volume(view))?;
        report("Deleted Volumes", &volumes, false)?;
        bytes += volumes.bytes;
    }
    let images = prune_images(engine, all, &keep)?;
    report("Deleted Images", &images, false)?;
    bytes += images.bytes;
    if !keep.by_label() {
        let cache = select::cache(engine, all, &keep)?;
        report("Deleted build cache objects", &cache, false)?;
        bytes += cache.bytes;
    }
    print_text(&format!("Total reclaimed space: {}\n", human_size(bytes as f64)))?;
    Ok(0)
}
