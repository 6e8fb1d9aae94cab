//! `container prune`, `image prune`, `network prune`, `volume prune`, `system prune`.

use fluyt_docker_api::api::{Docker, PruneBuilds};
use fluyt_docker_api::select::prune::{FILTERS, IMAGE_FILTERS, VOLUME_FILTERS};
use fluyt_model::Result;
use fluyt_model::quantity::human_size;

use super::Cli;
use super::disk::removal;
use crate::cli::fail::Outcome;
use crate::cli::filter::Filters;
use crate::cli::flags::{Arity, Command, Flag, NONE, Parsed, many, switch, values};
use crate::cli::{print_text, terminal};

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
fn filters_of(flags: &Parsed, known: &[&str]) -> Result<Filters> {
    Filters::parse(flags.all("filter"), known)
}

/// Whether the user agrees, by `--force` or by answering.
fn agreed(flags: &Parsed, warning: &str) -> bool {
    flags.on("force") || terminal::confirm(&format!("WARNING! {warning}\nAre you sure you want to continue?"))
}

fn report(title: &str, removed: &[String], reclaimed: Option<u64>) -> Result<()> {
    let mut text = String::new();
    if !removed.is_empty() {
        text = format!("{title}:\n{}\n\n", removed.join("\n"));
    }
    if let Some(bytes) = reclaimed {
        text.push_str(&format!("Total reclaimed space: {}\n", human_size(bytes as f64)));
    }
    print_text(&text)
}

/// Runs `fluyt container prune`.
pub fn containers(cli: &Cli, flags: &Parsed) -> Outcome {
    let filters = filters_of(flags, FILTERS)?;
    if !agreed(flags, "This will remove all stopped containers.") {
        return Ok(0);
    }
    let pruned = cli.docker()?.container_prune(&filters)?;
    report("Deleted Containers", &pruned.deleted, Some(pruned.space))?;
    Ok(0)
}

/// Runs `fluyt network prune`.
pub fn networks(cli: &Cli, flags: &Parsed) -> Outcome {
    let filters = filters_of(flags, FILTERS)?;
    if !agreed(flags, "This will remove all custom networks not used by at least one container.") {
        return Ok(0);
    }
    report("Deleted Networks", &cli.docker()?.network_prune(&filters)?, None)?;
    Ok(0)
}

/// Runs `fluyt volume prune`.
pub fn volumes(cli: &Cli, flags: &Parsed) -> Outcome {
    let mut filters = filters_of(flags, VOLUME_FILTERS)?;
    let all = flags.on("all") || filters.boolean("all")?.unwrap_or(false);
    let which = if all { "all local volumes" } else { "anonymous local volumes" };
    if !agreed(flags, &format!("This will remove {which} not used by at least one container.")) {
        return Ok(0);
    }
    filters.take("all");
    if all {
        filters.add("all", "true");
    }
    let pruned = cli.docker()?.volume_prune(&filters)?;
    report("Deleted Volumes", &pruned.deleted, Some(pruned.space))?;
    Ok(0)
}

/// Runs `fluyt image prune`.
pub fn images(cli: &Cli, flags: &Parsed) -> Outcome {
    let mut filters = filters_of(flags, IMAGE_FILTERS)?;
    let all = flags.on("all") || filters.boolean("dangling")? == Some(false);
    let which = if all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    };
    if !agreed(flags, &format!("This will remove {which}.")) {
        return Ok(0);
    }
    let (removed, bytes) = prune_images(cli.docker()?, all, &mut filters)?;
    report("Deleted Images", &removed, Some(bytes))?;
    Ok(0)
}

fn prune_images(docker: &dyn Docker, all: bool, filters: &mut Filters) -> Result<(Vec<String>, u64)> {
    filters.take("dangling");
    filters.add("dangling", if all { "false" } else { "true" });
    let pruned = docker.image_prune(filters)?;
    Ok((pruned.images_deleted.iter().flat_map(removal).collect(), pruned.space_reclaimed))
}

/// Runs `fluyt system prune`.
pub fn system(cli: &Cli, flags: &Parsed) -> Outcome {
    let filters = filters_of(flags, FILTERS)?;
    let by_label = filters.has("label") || filters.has("label!");
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
    if !by_label {
        items.push(if all { "all build cache" } else { "unused build cache" });
    }
    let list: String = items.iter().map(|item| format!("\n  - {item}")).collect();
    if !agreed(flags, &format!("This will remove:{list}\n")) {
        return Ok(0);
    }
    let docker = cli.docker()?;
    let containers = docker.container_prune(&filters)?;
    report("Deleted Containers", &containers.deleted, None)?;
    report("Deleted Networks", &docker.network_prune(&filters)?, None)?;
    let mut bytes = containers.space;
    if with_volumes {
        // Volumes are pruned by their labels only.
        let mut own = filters.clone();
        own.take("until");
        let volumes = docker.volume_prune(&own)?;
        report("Deleted Volumes", &volumes.deleted, None)?;
        bytes += volumes.space;
    }
    let (images, freed) = prune_images(docker, all, &mut filters.clone())?;
    report("Deleted Images", &images, None)?;
    bytes += freed;
    if !by_label {
        let cache = docker.build_prune(&PruneBuilds { all, filters, ..PruneBuilds::default() })?;
        report("Deleted build cache objects", &cache.deleted, None)?;
        bytes += cache.space;
    }
    print_text(&format!("Total reclaimed space: {}\n", human_size(bytes as f64)))?;
    Ok(0)
}
