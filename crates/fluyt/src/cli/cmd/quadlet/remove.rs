//! `quadlet rm`.

use std::path::PathBuf;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind as ErrorKind, Result};
use fluyt_quadlet::Kind;

use super::apps::{self, Apps};
use super::{all_paths, install_directory, path_of, service_of, systemd};
use crate::cli::cmd::Cli;
use crate::cli::fail::{self, Failure, Outcome};
use crate::cli::flags::{Arity, Command, NONE, Parsed, switch};
use crate::cli::print_line;

/// `fluyt quadlet rm`.
pub const RM: Command = Command {
    name: "rm",
    arguments: "UNIT|APPLICATION [UNIT|APPLICATION...]",
    about: "Remove installed units, with everything that was installed together with them",
    flags: &[&[
        switch('a', "all", "Remove all units"),
        switch('f', "force", "Stop units that run"),
        switch('i', "ignore", "Do not fail for units that do not exist"),
        switch(NONE, "reload-systemd", "Have systemd read the units").default("true"),
    ]],
    arity: Arity::AtLeast(0),
    interspersed: true,
};

/// Runs `fluyt quadlet rm`.
pub fn rm(cli: &Cli, flags: &Parsed) -> Outcome {
    cli.only_here()?;
    let apps = Apps::read(&install_directory()?);
    let (wanted, mut failed) = wanted(&apps, flags)?;
    let mut stuck = Vec::new();
    for (name, path) in &wanted.units {
        if let Err(error) = settle(path, flags.on("force")) {
            fail::print(&error.context(format!("unit {name}")));
            stuck.push(name.clone());
        }
    }
    // An application whose unit stays keeps its other files.
    let stays = |app: &String| apps.files(app).iter().any(|file| stuck.contains(file));
    for (name, path) in wanted.units.iter().filter(|(name, _)| !stuck.contains(name)) {
        std::fs::remove_file(path).about(|| path.display().to_string())?;
        print_line(name)?;
    }
    let directory = install_directory()?;
    for app in wanted.apps.iter().filter(|app| !stays(app)) {
        let files = apps.files(app).iter().filter(|file| Kind::of(file).is_none()).chain([app]);
        for path in files.map(|file| directory.join(file)) {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(path.display().to_string(), error).into());
                }
                _ => {}
            }
        }
    }
    if flags.on("reload-systemd") {
        systemd::reload()?;
    }
    failed |= !stuck.is_empty();
    if failed { Err(Failure::Code(1)) } else { Ok(0) }
}

/// What is to be removed.
#[derive(Default)]
struct Wanted {
    units: Vec<(String, PathBuf)>,
    apps: Vec<String>,
}

/// The named units with all that belongs to their applications; whether one was not there.
fn wanted(apps: &Apps, flags: &Parsed) -> Result<(Wanted, bool)> {
    let mut names: Vec<String> = flags.args.clone();
    if flags.on("all") {
        let name = |path: PathBuf| Some(path.file_name()?.to_str()?.to_owned());
        names = all_paths()?.into_iter().filter_map(name).collect();
    } else if names.is_empty() {
        return Err(Error::invalid("which unit is to be removed?").with_hint("name it, or say --all"));
    }
    let mut wanted = Wanted::default();
    let mut failed = false;
    let mut index = 0;
    while let Some(name) = names.get(index).cloned() {
        index += 1;
        let app = if apps::is_app(&name) { Some(name.as_str()) } else { apps.of(&name) };
        if let Some(app) = app.filter(|app| !wanted.apps.iter().any(|a| a == app)) {
            wanted.apps.push(app.to_owned());
            let more =
                apps.files(app).iter().filter(|file| Kind::of(file).is_some() && !names.contains(file));
            let more: Vec<String> = more.cloned().collect();
            names.extend(more);
        }
        if apps::is_app(&name) && !apps.files(&name).is_empty() {
            continue;
        }
        match path_of(&name) {
            Ok(path) => wanted.units.push((name, path)),
            // It was named by an application, or is ignored.
            Err(error)
                if error.kind() == ErrorKind::NotFound
                    && (flags.on("ignore") || index > flags.args.len()) => {}
            Err(error) => {
                fail::print(&error);
                failed = true;
            }
        }
    }
    Ok((wanted, failed))
}

/// Makes sure that the unit's service does not run.
fn settle(path: &std::path::Path, force: bool) -> Result<()> {
    let Ok((service, _)) = service_of(path) else { return Ok(()) };
    let states = systemd::states(&[&service])?;
    match states.get(&service) {
        Some(state) if state.is_active() && !force => {
            Err(Error::conflict(format!("{service} is running")).with_hint("--force stops it"))
        }
        Some(state) if state.is_active() => systemd::stop(&service),
        _ => Ok(()),
    }
}
