//! `volume create`, `ls`, `rm`.

use fluyt_docker_api::select::volumes as select;
use fluyt_docker_api::types::{Map, VolumeCreate};
use fluyt_model::{Error, Kind};

use super::Cli;
use crate::cli::create::key_values;
use crate::cli::fail::{Outcome, for_each};
use crate::cli::filter::Filters;
use crate::cli::flags::{Arity, Command, NONE, Parsed, int, list, many, switch, text, values};
use crate::cli::format::{self, rows};
use crate::cli::{print_line, print_text};

/// `fluyt volume create`.
pub const CREATE: Command = Command {
    name: "create",
    arguments: "[VOLUME]",
    about: "Create a volume",
    flags: &[&[
        text('d', "driver", "Specify volume driver name").default("local"),
        int(NONE, "gid", "Group that the volume belongs to"),
        switch(NONE, "ignore", "Do not fail if the volume exists already"),
        many(NONE, "label", "list", values::label, "Set metadata for a volume"),
        text(NONE, "name", "Specify volume name").hidden(),
        list('o', "opt", "Set driver specific options"),
        int(NONE, "uid", "User that the volume belongs to"),
    ]],
    arity: Arity::AtMost(1),
    interspersed: true,
};

/// `fluyt volume ls`.
pub const LS: Command = Command {
    name: "ls",
    arguments: "",
    about: "List volumes",
    flags: &[&[
        many('f', "filter", "filter", values::filter, "Provide filter values (e.g. \"dangling=true\")"),
        text(NONE, "format", super::list::FORMAT),
        switch('q', "quiet", "Only display volume names"),
    ]],
    arity: Arity::None,
    interspersed: true,
};

/// `fluyt volume rm`.
pub const RM: Command = Command {
    name: "rm",
    arguments: "VOLUME [VOLUME...]",
    about: "Remove one or more volumes",
    flags: &[&[switch('f', "force", "Force the removal of one or more volumes")]],
    arity: Arity::AtLeast(1),
    interspersed: true,
};

/// Runs `fluyt volume create`.
pub fn create(cli: &Cli, flags: &Parsed) -> Outcome {
    if flags.changed("name") && !flags.args.is_empty() {
        return Err(Error::invalid(
            "conflicting options: either specify --name or provide positional arg, not both",
        )
        .into());
    }
    let name = flags.args.first().map_or_else(|| flags.text("name"), String::as_str);
    if flags.on("ignore")
        && let Ok(there) = cli.docker()?.volume_inspect(name)
    {
        print_line(&there.name)?;
        return Ok(0);
    }
    let wanted = VolumeCreate {
        name: name.to_owned(),
        driver: flags.text("driver").to_owned(),
        driver_opts: options(flags),
        labels: key_values(flags.all("label")),
    };
    print_line(&cli.docker()?.volume_create(&wanted)?.name)?;
    Ok(0)
}

/// The driver's options, with the owner that Podman has flags for.
fn options(flags: &Parsed) -> Map<String> {
    let mut options = key_values(flags.all("opt"));
    for id in ["uid", "gid"].into_iter().filter(|id| flags.changed(id)) {
        let mount = options.entry("o".to_owned()).or_default();
        let comma = if mount.is_empty() { "" } else { "," };
        mount.push_str(&format!("{comma}{id}={}", flags.int(id)));
    }
    options
}

/// Runs `fluyt volume ls`.
pub fn ls(cli: &Cli, flags: &Parsed) -> Outcome {
    let filters = Filters::parse(flags.all("filter"), select::FILTERS)?;
    let mut found = cli.docker()?.volume_list(&filters)?;
    found.volumes.sort_by(|a, b| a.name.cmp(&b.name));
    let template = format::choose(&rows::VOLUMES, flags.text("format"), flags.on("quiet"));
    print_text(&format::render(&rows::VOLUMES, template, found.volumes.iter().map(rows::volume))?)?;
    for warning in &found.warnings {
        eprintln!("WARNING: {warning}");
    }
    Ok(0)
}

/// Runs `fluyt volume rm`.
pub fn rm(cli: &Cli, flags: &Parsed) -> Outcome {
    let docker = cli.docker()?;
    let force = flags.on("force");
    for_each(&flags.args, |name| match docker.volume_remove(name, force) {
        Ok(()) => Ok(Some(name.to_owned())),
        Err(e) if force && e.kind() == Kind::NotFound => Ok(Some(name.to_owned())),
        Err(e) => Err(e),
    })
}
