//! From units to services: what all kinds share. Each kind's own part is in the module of its name.

mod build;
mod container;
mod kube;
mod names;
mod network;
mod pod;
mod storage;
mod users;
mod volume;

use std::collections::BTreeMap;

use fluyt_model::{Error, Result};

use crate::install::{self, Link};
use crate::keys::{self, Key, Rule};
use crate::kind::Kind;
use crate::unit::Unit;
use crate::words;

use names::Names;

/// The keys of `[Unit]` that name other units.
const DEPENDENCIES: &[&str] = &[
    "After",
    "Before",
    "BindsTo",
    "Conflicts",
    "OnFailure",
    "OnSuccess",
    "PartOf",
    "PropagatesReloadTo",
    "PropagatesStopTo",
    "ReloadPropagatedFrom",
    "Requires",
    "Requisite",
    "StopPropagatedFrom",
    "Upholds",
    "Wants",
];

/// What the translation may know of the machine.
pub trait Machine {
    /// Whether a file is there.
    fn exists(&self, path: &str) -> bool;
}

/// How services are made.
pub struct Options<'a> {
    /// The program that the services call: an absolute path.
    pub program: &'a str,
    /// For a user's systemd, not the system's.
    pub user: bool,
    /// The machine.
    pub machine: &'a dyn Machine,
}

/// A service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its unit, with the name of its file.
    pub unit: Unit,
    /// The links that its `[Install]` asks for.
    pub links: Vec<Link>,
}

/// What became of a unit.
#[derive(Debug)]
pub struct Made {
    /// The unit's file name.
    pub name: String,
    /// The service, or why there is none.
    pub service: Result<Service>,
    /// What the unit's author should know.
    pub warnings: Vec<String>,
}

/// Makes the services of all units that belong together.
#[must_use]
pub fn generate(units: &[Unit], options: &Options<'_>) -> Vec<Made> {
    let names = Names::of(units);
    let made = units.iter().filter_map(|unit| Some((unit, Kind::of(&unit.name)?))).map(|(unit, kind)| {
        let mut service = unit.clone();
        service.name = format!("{}.service", kind.service(unit));
        let mut lowering = Lowering { unit, kind, service, names: &names, options, warnings: Vec::new() };
        let outcome = lowering.all();
        let Lowering { service, warnings, .. } = lowering;
        let service = outcome.map(|()| Service { links: install::links(&service), unit: service });
        Made { name: unit.name.clone(), service, warnings }
    });
    made.collect()
}

/// One unit on its way.
struct Lowering<'a> {
    unit: &'a Unit,
    kind: Kind,
    service: Unit,
    names: &'a Names,
    options: &'a Options<'a>,
    warnings: Vec<String>,
}

impl<'a> Lowering<'a> {
    fn all(&mut self) -> Result<()> {
        for key in ["User", "Group", "DynamicUser"].iter().filter(|key| self.unit.has("Service", key)) {
            self.warnings.push(format!(
                "Warning: using key {key} in the Service group is not supported: fluyt has to run as the unit's user"
            ));
        }
        self.check_keys(self.kind.section(), self.kind.keys())?;
        self.check_keys("Quadlet", keys::QUADLET)?;
        self.names.translate(&mut self.service, DEPENDENCIES)?;
        // Before what the unit says, so that an empty value there takes it away. A user's systemd has no such target.
        if self.unit.boolean("Quadlet", "DefaultDependencies").unwrap_or(true) && !self.options.user {
            for key in ["After", "Wants"] {
                self.service.prepend("Unit", key, "network-online.target");
            }
        }
        if !self.unit.path.is_empty() {
            self.service.add("Unit", "SourcePath", self.unit.path.clone());
        }
        self.service.add("Unit", "RequiresMountsFor", "%t/containers");
        self.service.rename(self.kind.section(), &format!("X-{}", self.kind.section()));
        self.service.rename("Quadlet", "X-Quadlet");
        match self.kind {
            Kind::Container => self.container(),
            Kind::Volume => self.volume(),
            Kind::Network => self.network(),
            Kind::Image => self.image(),
            Kind::Build => self.build(),
            Kind::Pod => self.pod(),
            Kind::Kube => self.kube(),
            Kind::Artifact => Err(Error::unsupported("fluyt has no artifacts")
                .with_hint("put the files into an image and mount that: Mount=type=image,source=…")),
        }
    }

    /// Finds keys that nobody knows.
    fn check_keys(&self, section: &str, keys: &[Key]) -> Result<()> {
        let unknown = self.unit.entries(section).find(|entry| keys.iter().all(|key| key.name != entry.key));
        let Some(entry) = unknown else { return Ok(()) };
        let place = format!("in {}, line {}", entry.file, entry.line);
        let error = Error::invalid(format!("unsupported key '{}' in group '{section}' {place}", entry.key));
        Err(match keys::nearest(keys, &entry.key) {
            Some(near) => error.with_hint(format!("did you mean {near}?")),
            None => error,
        })
    }

    /// The section of this kind.
    fn section(&self) -> &'static str {
        self.kind.section()
    }

    /// The last value of a key of this kind's section, if it is not empty.
    fn text(&self, key: &str) -> Option<&'a str> {
        self.unit.text(self.section(), key)
    }

    fn boolean(&self, key: &str) -> Option<bool> {
        self.unit.boolean(self.section(), key)
    }

    fn values(&self, key: &str) -> Vec<&'a str> {
        self.unit.all(self.section(), key)
    }

    /// The words of all values of a key.
    fn words(&self, key: &str) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for value in self.values(key) {
            all.extend(words::list(value).map_err(|why| self.wrong(key, why))?);
        }
        Ok(all)
    }

    /// The arguments of all values of a key; a value that cannot be read is left out, with a warning.
    fn arguments(&mut self, key: &str) -> Vec<String> {
        let mut all = Vec::new();
        for value in self.values(key) {
            match words::arguments(value) {
                Ok(words) => all.extend(words),
                Err(why) => self.warn(key, &why),
            }
        }
        all
    }

    fn warn(&mut self, key: &str, why: &str) {
        let warning = format!("{}: {key}: {why}", self.place(key));
        self.warnings.push(warning);
    }

    /// File and line of a key.
    fn place(&self, key: &str) -> String {
        match self.unit.entries(self.section()).rev().find(|entry| entry.key == key) {
            Some(entry) => format!("{}, line {}", entry.file, entry.line),
            None => self.unit.path.clone(),
        }
    }

    /// What is wrong with a key.
    fn wrong(&self, key: &str, why: impl std::fmt::Display) -> Error {
        Error::invalid(format!("{why} ({})", self.place(key)))
    }

    /// The beginning of each command line.
    fn command(&mut self) -> Vec<String> {
        let mut command = vec![self.options.program.to_owned()];
        command.extend(self.values("ContainersConfModule").iter().map(|module| format!("--module={module}")));
        command.extend(self.arguments("GlobalArgs"));
        command
    }

    /// Puts a command line into the service.
    fn run(&mut self, key: &str, command: &[String]) {
        self.service.add("Service", key, words::join(command));
    }

    /// Says something of the service unless the unit does.
    fn default(&mut self, key: &str, value: &str) {
        if !self.service.has("Service", key) {
            self.service.add("Service", key, value);
        }
    }

    /// Starts after another service and not without it.
    fn require(&mut self, service: &str) {
        self.service.add("Unit", "Requires", service);
        self.service.add("Unit", "After", service);
    }

    /// A path as the unit says it, from the unit's directory on if it is relative and systemd does not fill it in.
    fn absolute(&self, path: &str) -> String {
        if path.starts_with('/') || starts_with_specifier(path) {
            return path.to_owned();
        }
        let directory = self.unit.path.rsplit_once('/').map_or("", |(directory, _)| directory);
        clean(&format!("{directory}/{path}"))
    }

    /// The arguments that the table of keys makes of the unit.
    fn keyed(&mut self, command: &mut Vec<String>) -> Result<()> {
        for key in self.kind.keys() {
            match key.rule {
                Rule::Own => self.own(key.name, command)?,
                Rule::Words(flag) => {
                    add_each(command, flag, self.words(key.name)?);
                }
                Rule::Lower(flag) => {
                    let words = self.words(key.name)?;
                    add_each(command, flag, words.iter().map(|word| word.to_ascii_lowercase()));
                }
                Rule::Arguments(flag) => add_each(command, flag, self.arguments(key.name)),
                Rule::Prefixed(flag, prefix) => {
                    let arguments = self.arguments(key.name);
                    add_each(command, flag, arguments.iter().map(|value| format!("{prefix}{value}")));
                }
                Rule::Pairs(flag) => self.pairs(key.name, flag, command),
                Rule::Verbatim => command.extend(self.arguments(key.name)),
                rule => self.simple(key.name, rule, command),
            }
        }
        Ok(())
    }

    fn simple(&self, key: &str, rule: Rule, command: &mut Vec<String>) {
        let text = self.text(key);
        match rule {
            Rule::Text(flag) => add_each(command, flag, text),
            Rule::Glued(prefix) => command.extend(text.map(|value| format!("{prefix}{value}"))),
            Rule::Even(prefix) => {
                let value = self.unit.last(self.section(), key);
                command.extend(value.map(|value| format!("{prefix}{value}")));
            }
            Rule::Within(flag, prefix) => {
                add_each(command, flag, text.map(|value| format!("{prefix}{value}")));
            }
            Rule::Each(flag) => add_each(command, flag, self.values(key)),
            Rule::Switch(flag) => command.extend(self.boolean(key).map(|on| switch(flag, on))),
            Rule::If(words) if self.boolean(key) == Some(true) => {
                command.extend(words.iter().map(|word| (*word).to_owned()));
            }
            _ => {}
        }
    }

    fn pairs(&mut self, key: &str, flag: &str, command: &mut Vec<String>) {
        let mut pairs = BTreeMap::new();
        for argument in self.arguments(key) {
            let name = argument.split_once('=').map_or(argument.as_str(), |(name, _)| name).to_owned();
            pairs.insert(name, argument);
        }
        add_each(command, flag, pairs.into_values());
    }

    /// The keys that take a thought.
    fn own(&mut self, key: &str, command: &mut Vec<String>) -> Result<()> {
        match (self.kind, key) {
            (_, "Network") => self.networks(command),
            (Kind::Volume | Kind::Network | Kind::Pod, "VolumeName" | "NetworkName" | "PodName") => {
                self.named(command);
                Ok(())
            }
            (_, "Volume") => self.volumes(command),
            (_, "UserNS") => self.user_namespace(command),
            (Kind::Container, _) => self.of_container(key, command),
            (Kind::Volume, _) => self.of_volume(key, command),
            (Kind::Network, _) => self.subnets(command),
            (Kind::Image, _) => self.pulled(command),
            (Kind::Build, _) => self.context(command),
            (Kind::Pod, _) => {
                let policy = self.text("ExitPolicy").unwrap_or("stop");
                command.extend(["--exit-policy".to_owned(), policy.to_owned()]);
                Ok(())
            }
            (Kind::Kube, _) => self.of_kube(key, command),
            (Kind::Artifact, _) => Ok(()),
        }
    }

    /// The name of what a volume, network or pod unit makes.
    fn named(&self, command: &mut Vec<String>) {
        let name = self.kind.resource(self.unit).unwrap_or_default();
        if self.kind == Kind::Pod {
            command.extend(["--infra-name".to_owned(), format!("{name}-infra"), "--name".to_owned()]);
            command.push(name);
        }
    }

    fn networks(&mut self, command: &mut Vec<String>) -> Result<()> {
        for network in self.values("Network") {
            let (name, options) =
                network.split_once(':').map_or((network, None), |(name, options)| (name, Some(options)));
            let joins = Kind::of(name) == Some(Kind::Container);
            if !joins && Kind::of(name) != Some(Kind::Network) {
                command.extend(["--network".to_owned(), network.to_owned()]);
                continue;
            }
            let other = self.names.get(name).ok_or_else(|| {
                self.wrong("Network", format!("requested Quadlet unit {name} was not found"))
            })?;
            let resource = other
                .resource
                .as_deref()
                .ok_or_else(|| self.wrong("Network", format!("cannot get the resource name of {name}")))?;
            self.require(&other.service);
            command.push("--network".to_owned());
            command.push(match (joins, options) {
                (true, Some(_)) => {
                    let why = "extra options are not supported when joining another container's network";
                    return Err(self.wrong("Network", why));
                }
                (true, None) => format!("container:{resource}"),
                (false, Some(options)) => format!("{resource}:{options}"),
                (false, None) => resource.to_owned(),
            });
        }
        Ok(())
    }

    /// The name of an image: that of an image or build unit, or itself.
    fn image_source(&mut self, name: &str, key: &str) -> Result<String> {
        if !matches!(Kind::of(name), Some(Kind::Image | Kind::Build)) {
            return Ok(name.to_owned());
        }
        let other = self
            .names
            .get(name)
            .ok_or_else(|| self.wrong(key, format!("requested Quadlet image {name} was not found")))?;
        let resource = other
            .resource
            .clone()
            .ok_or_else(|| self.wrong(key, format!("cannot get the resource name of {name}")))?;
        self.require(&other.service);
        Ok(resource)
    }

    /// A service that runs once and counts as there afterwards.
    fn once(&mut self, stays: bool) {
        self.default("SyslogIdentifier", "%N");
        self.default("Type", "oneshot");
        if stays {
            self.default("RemainAfterExit", "yes");
        }
    }

    /// Units that run containers end their main process first, then the rest of the group.
    fn kill_mode(&mut self) -> Result<()> {
        match self.unit.last("Service", "KillMode") {
            None => self.service.add("Service", "KillMode", "mixed"),
            Some("mixed" | "control-group") => {}
            Some(other) => return Err(Error::invalid(format!("invalid KillMode '{other}'"))),
        }
        Ok(())
    }

    /// Whether the service runs once, as its type says.
    fn is_once(&self) -> Result<bool> {
        match self.unit.last("Service", "Type") {
            None | Some("notify") => Ok(false),
            Some("oneshot") => Ok(true),
            Some(other) => Err(Error::invalid(format!("invalid service Type '{other}'"))),
        }
    }
}

/// `flag value` for each value.
fn add_each<S: Into<String>>(command: &mut Vec<String>, flag: &str, values: impl IntoIterator<Item = S>) {
    for value in values {
        command.extend([flag.to_owned(), value.into()]);
    }
}

fn switch(flag: &str, on: bool) -> String {
    if on { flag.to_owned() } else { format!("{flag}=false") }
}

/// Whether systemd fills in the beginning: `%h`, but not `%%`.
fn starts_with_specifier(path: &str) -> bool {
    path.starts_with('%') && !path.starts_with("%%") && path.len() > 1
}

/// A path without `.`, `..` and doubled slashes.
fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests;
