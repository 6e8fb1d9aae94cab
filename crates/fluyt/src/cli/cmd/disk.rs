//! What takes room, and making some: `rmi`, `system df`, `system fsck`.

use fluyt_docker_api::api::{DiskUseOf, ImageDeleted, RemoveImage};
use fluyt_docker_api::types::{ContainerSummary, ImageSummary, Volume};
use fluyt_model::{Kind, Result};
use serde_json::json;

use super::Cli;
use super::system::{json, print_formatted};
use crate::cli::fail::{Failure, Outcome};
use crate::cli::flags::{Arity, Command, NONE, Parsed, list, switch, text};
use crate::cli::format::{self, rows};
use crate::cli::{fail, print_line, print_text, time};

/// `fluyt rmi`.
pub const RMI: Command = Command {
    name: "rmi",
    arguments: "IMAGE [IMAGE...]",
    about: "Remove one or more images",
    flags: &[&[
        switch('f', "force", "Force removal of the image"),
        switch(NONE, "no-prune", "Do not delete untagged parents"),
        list(NONE, "platform", "Remove only the given platform variant"),
    ]],
    arity: Arity::AtLeast(1),
    interspersed: true,
};

/// `fluyt system df`.
pub const DF: Command = Command {
    name: "df",
    arguments: "",
    about: "Show disk usage",
    flags: &[&[
        text(NONE, "format", super::list::FORMAT),
        switch('v', "verbose", "Show detailed information on space usage"),
    ]],
    arity: Arity::None,
    interspersed: true,
};

/// `fluyt system fsck`.
pub const FSCK: Command = Command {
    name: "fsck",
    arguments: "",
    about: "Check that the data root is consistent",
    flags: &[&[switch(NONE, "repair", "Remove what is damaged or belongs to nothing")]],
    arity: Arity::None,
    interspersed: true,
};

/// Runs `fluyt rmi`.
pub fn rmi(cli: &Cli, flags: &Parsed) -> Outcome {
    let docker = cli.docker()?;
    let force = flags.on("force");
    let how = RemoveImage { force, no_prune: flags.on("no-prune"), platforms: flags.list("platform") };
    let mut failed = false;
    for name in &flags.args {
        match docker.image_remove(name, &how) {
            Ok(removed) => {
                for line in removed.iter().flat_map(removal) {
                    print_line(&line)?;
                }
            }
            Err(e) if force && e.kind() == Kind::NotFound => fail::print(&e),
            Err(e) => {
                fail::print(&e);
                failed = true;
            }
        }
    }
    if failed { Err(Failure::Code(1)) } else { Ok(0) }
}

/// What a removal did, in Docker's words.
pub fn removal(done: &ImageDeleted) -> impl Iterator<Item = String> {
    let line = |word: &str, what: &str| (!what.is_empty()).then(|| format!("{word}: {what}"));
    line("Untagged", &done.untagged).into_iter().chain(line("Deleted", &done.deleted))
}

/// Runs `fluyt system df`.
pub fn df(cli: &Cli, flags: &Parsed) -> Outcome {
    let usage = cli.docker()?.disk_usage(DiskUseOf::default())?;
    let format = flags.text("format");
    let positive = |n: i64| u64::try_from(n).unwrap_or(0);
    if flags.on("verbose") {
        if !matches!(format, "" | "table") {
            let document = json!({"Images": json(&usage.images)?, "Containers": json(&usage.containers)?, "Volumes": json(&usage.volumes)?, "BuildCache": json(&usage.build_cache)?});
            print_formatted(format, &document)?;
            return Ok(0);
        }
        let tables = verbose_tables(&usage.images, &usage.containers, &usage.volumes)?;
        print_text(&(tables + &super::builder::details(&usage.build_cache)?))?;
        return Ok(0);
    }
    let up = |c: &&ContainerSummary| matches!(c.state.as_str(), "running" | "paused" | "restarting");
    let sizes =
        |all: &mut dyn Iterator<Item = &ContainerSummary>| all.map(|c| positive(c.size_rw)).sum::<u64>();
    let volume = |v: &Volume| v.usage_data.as_ref().map_or((0, 0), |u| (positive(u.size), u.ref_count));
    let in_use: u64 = usage
        .images
        .iter()
        .filter(|i| i.containers != 0 && i.size >= 0 && i.shared_size >= 0)
        .map(|i| positive(i.size - i.shared_size))
        .sum();
    let layers = positive(usage.layers_size);
    let rows = [
        rows::disk_usage(
            "Images",
            usage.images.len(),
            usage.images.iter().filter(|i| i.containers > 0).count(),
            layers,
            layers.saturating_sub(in_use),
        ),
        rows::disk_usage(
            "Containers",
            usage.containers.len(),
            usage.containers.iter().filter(up).count(),
            sizes(&mut usage.containers.iter()),
            sizes(&mut usage.containers.iter().filter(|c| !up(c))),
        ),
        rows::disk_usage(
            "Local Volumes",
            usage.volumes.len(),
            usage.volumes.iter().filter(|v| volume(v).1 > 0).count(),
            usage.volumes.iter().map(|v| volume(v).0).sum(),
            usage.volumes.iter().filter(|v| volume(v).1 == 0).map(|v| volume(v).0).sum(),
        ),
        super::builder::summary(&usage.build_cache),
    ];
    let template = format::choose(&rows::DISK_USAGE, format, false);
    print_text(&format::render(&rows::DISK_USAGE, template, rows)?)?;
    Ok(0)
}

/// The sections of `system df -v` but the build cache's.
fn verbose_tables(
    images: &[ImageSummary],
    containers: &[ContainerSummary],
    volumes: &[Volume],
) -> Result<String> {
    const IMAGES: &str = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}";
    const CONTAINERS: &str = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}";
    let now = time::now();
    let image_rows = images.iter().flat_map(|i| rows::image(i, false, true, now).into_iter().take(1));
    let container_rows = containers.iter().map(|c| rows::container(c, true, now));
    Ok(format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\n",
        format::render(&rows::IMAGES, IMAGES, image_rows)?,
        format::render(&rows::CONTAINERS, CONTAINERS, container_rows)?,
        format::render(&rows::VOLUMES, rows::VOLUMES_USAGE, volumes.iter().map(rows::volume))?,
    ))
}

/// Runs `fluyt system fsck`: 0 if all is well (or has been repaired), 1 if not.
pub fn fsck(cli: &Cli, flags: &Parsed) -> Outcome {
    let repair = flags.on("repair");
    let health = cli.engine()?.fsck(repair)?;
    for (problem, repaired) in &health.problems {
        print_line(&format!("{}: {problem}", if *repaired { "repaired" } else { "problem" }))?;
    }
    for (leftover, removed) in &health.leftovers {
        print_line(&format!("{}: {leftover}", if *removed { "removed" } else { "left over" }))?;
    }
    if !health.is_sound() {
        return Err(Failure::Code(1));
    }
    print_line("consistent")?;
    Ok(0)
}
