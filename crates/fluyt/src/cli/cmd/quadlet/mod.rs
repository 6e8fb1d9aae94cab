//! `fluyt quadlet`: installs, lists, shows and removes Quadlet units, and shows what the generator makes of them.

mod apps;
mod install;
mod remove;
mod systemd;

use std::path::{Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use fluyt_quadlet::find::{self, Files};
use fluyt_quadlet::{Kind, Options, Unit};
use regex_lite::Regex;

use super::Cli;
use crate::cli::fail::{Failure, Outcome};
use crate::cli::flags::{Arity, Command, NONE, Parsed, many, switch, text, values};
use crate::cli::format::{self, Layout, Row};
use crate::cli::{fail, print_line, print_text};
use crate::quadlet::{self, Disk};

pub use install::{INSTALL, install};
pub use remove::{RM, rm};

/// `fluyt quadlet list`.
pub const LIST: Command = Command {
    name: "list",
    arguments: "",
    about: "List installed units",
    flags: &[&[
        many('f', "filter", "filter", values::filter, "Provide filter values (name, status or pod)"),
        text(NONE, "format", super::list::FORMAT),
        switch('n', "noheading", "Do not print headers"),
    ]],
    arity: Arity::None,
    interspersed: true,
};

/// `fluyt quadlet print`.
pub const PRINT: Command = Command {
    name: "print",
    arguments: "UNIT",
    about: "Print a unit",
    flags: &[],
    arity: Arity::Exactly(1),
    interspersed: true,
};

/// `fluyt quadlet generate`.
pub const GENERATE: Command = Command {
    name: "generate",
    arguments: "[UNIT...]",
    about: "Print the services that the installed units, or those in the named files, become",
    flags: &[&[
        text('o', "output", "Write the services and their links into this directory"),
        switch(NONE, "user", "For a user's systemd instead of the system's"),
    ]],
    arity: Arity::AtLeast(0),
    interspersed: true,
};

/// `fluyt generate systemd`, which Quadlet has taken the place of.
pub const GENERATE_SYSTEMD: Command = Command {
    name: "systemd",
    arguments: "CONTAINER|POD",
    about: "Replaced by Quadlet",
    // Podman's, so that whoever still calls it hears about its end and not about a flag.
    flags: &[&[
        switch('f', "files", "").hidden(),
        switch('n', "name", "").hidden(),
        switch(NONE, "new", "").hidden(),
        switch(NONE, "no-header", "").hidden(),
        switch(NONE, "template", "").hidden(),
        text('t', "stop-timeout", "").hidden(),
        text(NONE, "restart-policy", "").hidden(),
        text(NONE, "restart-sec", "").hidden(),
        text(NONE, "format", "").hidden(),
    ]],
    arity: Arity::AtLeast(0),
    interspersed: true,
};

const UNITS: Layout = Layout {
    type_name: "entities.ListQuadlet",
    headers: &[
        ("App", "APPLICATION"),
        ("Name", "NAME"),
        ("Path", "PATH ON DISK"),
        ("Pod", "POD"),
        ("Status", "STATUS"),
        ("UnitName", "UNIT NAME"),
    ],
    table: "table {{.Name}}\t{{.UnitName}}\t{{.Path}}\t{{.Status}}\t{{.App}}\t{{.Pod}}",
    quiet: "{{.Name}}",
};

/// Whether the units of a user are meant: only root has the system's.
fn of_user() -> bool {
    !rustix::process::getuid().is_root()
}

/// Where units are installed.
fn install_directory() -> Result<PathBuf> {
    let whose = quadlet::whose(of_user());
    let first =
        whose.directories.as_deref().and_then(|list| list.split(':').next()).filter(|d| !d.is_empty());
    match first {
        Some(directory) => Ok(PathBuf::from(directory)),
        None => whose
            .install_directory()
            .ok_or_else(|| Error::not_found("neither XDG_CONFIG_HOME nor HOME is set")),
    }
}

/// The file of a unit by its name.
fn path_of(name: &str) -> Result<PathBuf> {
    if Kind::of(name).is_none() || name.contains('/') {
        return Err(Error::invalid(format!("{name:?} is not the file name of a unit"))
            .with_hint("units are called NAME.container, .volume, .network, .image, .build, .pod or .kube"));
    }
    let directories = find::directories(&Disk, &quadlet::whose(of_user()))?;
    directories
        .iter()
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| Error::not_found(format!("no unit {name}")).with_hint("see 'fluyt quadlet list'"))
}

/// The name of the service of the unit in a file, with the unit.
fn service_of(path: &Path) -> Result<(String, Unit)> {
    let shown = path.display().to_string();
    let text = Disk.read(path).about(|| shown.clone())?;
    let unit = Unit::parse(&shown, &text)?;
    let kind = Kind::of(&unit.name).ok_or_else(|| Error::invalid(format!("{shown}: not a unit's name")))?;
    Ok((format!("{}.service", kind.service(&unit)), unit))
}

/// The paths of all units.
fn all_paths() -> Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for directory in find::directories(&Disk, &quadlet::whose(of_user()))? {
        let mut names = Disk.names(&directory).unwrap_or_default();
        names.sort_unstable();
        let new = |name: &String| {
            Kind::of(name).is_some() && paths.iter().all(|path| path.file_name() != Some(name.as_ref()))
        };
        let found: Vec<PathBuf> =
            names.iter().filter(|name| new(name)).map(|name| directory.join(name)).collect();
        paths.extend(found.into_iter().filter(|path| path.is_file()));
    }
    Ok(paths)
}

/// One line of the list.
#[derive(Default)]
struct Listed {
    name: String,
    service: String,
    path: String,
    status: String,
    app: String,
    pod: String,
}

impl Listed {
    fn row(&self) -> Row {
        Row::default()
            .with("Name", self.name.clone())
            .with("UnitName", self.service.clone())
            .with("Path", self.path.clone())
            .with("Status", self.status.clone())
            .with("App", self.app.clone())
            .with("Pod", self.pod.clone())
    }
}

/// Runs `fluyt quadlet list`.
pub fn list(cli: &Cli, flags: &Parsed) -> Outcome {
    cli.only_here()?;
    let filters = flags.all("filter").map(Filter::parse).collect::<Result<Vec<_>>>()?;
    let apps = apps::Apps::read(&install_directory()?);
    let mut units = Vec::new();
    for path in all_paths()? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let app = apps.of(&name).unwrap_or_default().to_owned();
        let mut listed = Listed { name, path: path.display().to_string(), app, ..Listed::default() };
        match service_of(&path) {
            Ok((service, unit)) => {
                listed.service = service;
                listed.pod = unit.text("Container", "Pod").unwrap_or_default().to_owned();
            }
            Err(error) => listed.status = error.chain(),
        }
        units.push(listed);
    }
    let services: Vec<&str> =
        units.iter().map(|unit| unit.service.as_str()).filter(|s| !s.is_empty()).collect();
    let states = systemd::states(&services)?;
    for unit in units.iter_mut().filter(|unit| !unit.service.is_empty()) {
        unit.status = states.get(&unit.service).map_or("Not loaded".to_owned(), systemd::State::shown);
    }
    units.retain(|unit| filters.iter().all(|filter| filter.takes(unit, &filters)));
    let template = format::choose(&UNITS, flags.text("format"), false);
    let text = if template == "json" {
        let values = units.iter().map(|unit| {
            serde_json::json!({ "Name": unit.name, "UnitName": unit.service, "Path": unit.path,
                "Status": unit.status, "App": unit.app, "Pod": unit.pod })
        });
        let list = serde_json::Value::Array(values.collect());
        serde_json::to_string_pretty(&list).map_err(|e| Error::internal(e.to_string()))? + "\n"
    } else {
        format::render(&UNITS, template, units.iter().map(Listed::row))?
    };
    let without_head = flags.on("noheading") && template.starts_with("table");
    print_text(if without_head { text.split_once('\n').map_or("", |(_, rest)| rest) } else { &text })?;
    Ok(0)
}

/// A filter: several of one name are alternatives.
struct Filter {
    name: String,
    value: Regex,
}

impl Filter {
    fn parse(text: &str) -> Result<Self> {
        let (name, value) =
            text.split_once('=').ok_or_else(|| Error::invalid(format!("invalid filter {text:?}")))?;
        if !matches!(name, "name" | "status" | "pod") {
            return Err(
                Error::invalid(format!("{name} is not a valid filter")).with_hint("use name, status or pod")
            );
        }
        let value = Regex::new(value).map_err(|e| Error::invalid(format!("filter {text:?}: {e}")))?;
        Ok(Self { name: name.to_owned(), value })
    }

    fn takes(&self, unit: &Listed, all: &[Self]) -> bool {
        let field = match self.name.as_str() {
            "name" => &unit.name,
            "status" => &unit.status,
            _ => &unit.pod,
        };
        all.iter().filter(|other| other.name == self.name).any(|other| other.value.is_match(field))
    }
}

/// Runs `fluyt quadlet print`.
pub fn print(cli: &Cli, flags: &Parsed) -> Outcome {
    cli.only_here()?;
    let path = path_of(&flags.args[0])?;
    print_text(&Disk.read(&path).about(|| path.display().to_string())?)?;
    Ok(0)
}

/// Runs `fluyt quadlet generate`.
pub fn generate(_cli: &Cli, flags: &Parsed) -> Outcome {
    let user = flags.on("user") || of_user();
    let (units, wrong) = if flags.args.is_empty() {
        find::units(&Disk, &find::directories(&Disk, &quadlet::whose(user))?)
    } else {
        let mut units = Vec::new();
        for name in &flags.args {
            let path = std::path::absolute(name).about(|| name.clone())?;
            if Kind::of(&path.to_string_lossy()).is_none() {
                return Err(Error::invalid(format!("{name}: not the file name of a unit")).into());
            }
            units.push(service_of(&path)?.1);
        }
        (units, Vec::new())
    };
    let mut failed = !wrong.is_empty();
    wrong.iter().for_each(fail::print);
    let program = quadlet::program();
    for made in fluyt_quadlet::generate(&units, &Options { program: &program, user, machine: &Disk }) {
        made.warnings.iter().for_each(|warning| eprintln!("{warning}"));
        match made.service {
            Err(error) => {
                fail::print(&error.context(format!("converting {:?}", made.name)));
                failed = true;
            }
            Ok(service) => match flags.given("output") {
                None => print_text(&quadlet::shown(&service))?,
                Some(output) => {
                    quadlet::write(Path::new(output), &service)?;
                    print_line(&Path::new(output).join(&service.unit.name).display().to_string())?;
                }
            },
        }
    }
    if failed { Err(Failure::Code(1)) } else { Ok(0) }
}

/// Runs `fluyt generate systemd`.
pub fn generate_systemd(_cli: &Cli, _flags: &Parsed) -> Outcome {
    Err(Error::unsupported("generate systemd has been replaced by Quadlet")
        .with_hint("write a NAME.container unit and 'fluyt quadlet install' it: see docs/quadlet.md")
        .into())
}
