//! Providers' programs are called, and the program that knows models is asked.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fluyt_compose::provider::{self, Message, Metadata};
use fluyt_compose::view::View;
use fluyt_compose::{Project, socket};
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};

use super::Called;
use super::display::Form;
use crate::cli::print_line;

/// Where Docker's plug-ins lie besides the user's own.
const PLUGINS: [&str; 4] = [
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
];

/// Where an engine's socket is on other machines.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// Asks the providers of services for what these stand for, and gives services their variables: those of providers that
/// they depend on, and those of the models that they use.
///
/// # Errors
/// A provider is not there or fails; models cannot be asked for.
pub fn bring_up(called: &Called<'_>, project: &mut Project, quiet: bool) -> Result<()> {
    for service in provider::services(project) {
        if called.dry_run() {
            tell(project, &service, provider::Command::Up)?;
            continue;
        }
        let said = call(called, project, &service, provider::Command::Up, quiet)?;
        for warning in provider::inject(project, &service, &said) {
            eprintln!("WARN: {warning}");
        }
    }
    models(called, project)?;
    if socket::is_used(project) {
        let place =
            if called.cli.remote()?.is_some() { DOCKER_SOCKET } else { crate::cli::cmd::ENGINE_SOCKET };
        socket::give(project, place, &credentials()?);
    }
    Ok(())
}

/// What the user may log in with, as far as it lies in files.
fn credentials() -> Result<String> {
    let path = config_directory().map(|d| d.join("config.json"));
    let text = match path.as_ref().map(std::fs::read) {
        None => return Ok("{}".to_owned()),
        Some(Err(e)) if e.kind() == std::io::ErrorKind::NotFound => return Ok("{}".to_owned()),
        Some(other) => other.about(|| "config.json")?,
    };
    let config: serde_json::Value =
        serde_json::from_slice(&text).map_err(|e| Error::corrupt("config.json").with_source(e))?;
    let auths = config.get("auths").cloned().unwrap_or_else(|| serde_json::json!({}));
    Ok(serde_json::json!({ "auths": auths }).to_string())
}

fn tell(project: &Project, service: &str, command: provider::Command) -> Result<()> {
    let kind = project.service(service).and_then(provider::kind).unwrap_or_default();
    print_line(&format!("call provider {kind}: {}  # service {service} has a provider", command.word()))
}

/// Tells the providers of services (of all, if none is named) to pause or release what they have, dependents first.
///
/// # Errors
/// A provider is not there or fails; the others are told nevertheless.
pub fn let_go(
    called: &Called<'_>,
    project: &Project,
    services: &[String],
    command: provider::Command,
) -> Result<()> {
    let mut failed = None;
    let all = provider::services(project).into_iter().rev();
    for service in all.filter(|s| services.is_empty() || services.contains(s)) {
        let done = match called.dry_run() {
            true => tell(project, &service, command),
            false => call(called, project, &service, command, false).map(drop),
        };
        if let Err(e) = done {
            failed.get_or_insert(e);
        }
    }
    failed.map_or(Ok(()), Err)
}

fn call(
    called: &Called<'_>,
    project: &Project,
    service: &str,
    command: provider::Command,
    quiet: bool,
) -> Result<Vec<Message>> {
    let kind = project.service(service).and_then(provider::kind).unwrap_or_default();
    let about = |e: Error| e.context(format!("service {service}"));
    let program = program(&kind).map_err(about)?;
    let metadata = metadata(&program, project);
    if command == provider::Command::Stop && !metadata.stops() {
        return Ok(Vec::new());
    }
    let words = provider::words(project, service, &metadata, command).map_err(about)?;
    run(called, &program, project, service, &words, quiet).map_err(about)
}

/// The program of a provider: a plug-in of Docker's, or one of the user's path.
fn program(kind: &str) -> Result<PathBuf> {
    if kind == "compose" {
        return Err(Error::invalid("'compose' is not a valid provider type"));
    }
    let executable = |path: &PathBuf| {
        use std::os::unix::fs::PermissionsExt;
        path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if kind.contains('/') {
        return Some(PathBuf::from(kind)).filter(executable).ok_or_else(|| missing(kind));
    }
    let plugin = plugin_directories().into_iter().map(|d| d.join(format!("docker-{kind}")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own =
        std::env::split_paths(&path).filter(|d| d.is_absolute()).map(|d| d.join(kind)).collect::<Vec<_>>();
    plugin.chain(own).find(executable).ok_or_else(|| missing(kind))
}

fn config_directory() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    variable("DOCKER_CONFIG").or_else(|| variable("HOME").map(|h| h.join(".docker")))
}

fn plugin_directories() -> Vec<PathBuf> {
    config_directory().map(|c| c.join("cli-plugins")).into_iter().chain(PLUGINS.map(PathBuf::from)).collect()
}

fn missing(kind: &str) -> Error {
    Error::not_found(format!("there is no program for provider {kind:?}")).with_hint(format!(
        "install {kind} into your PATH, or docker-{kind} as a plug-in of Docker's command line"
    ))
}

fn command(program: &Path, project: &Project) -> Command {
    let mut command = Command::new(program);
    command.envs(&project.environment).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

fn metadata(program: &Path, project: &Project) -> Metadata {
    let output = command(program, project).args(["compose", "metadata"]).stderr(Stdio::null()).output();
    output.ok().filter(|o| o.status.success()).map(|o| Metadata::read(&o.stdout)).unwrap_or_default()
}

fn run(
    called: &Called<'_>,
    program: &Path,
    project: &Project,
    service: &str,
    words: &[String],
    quiet: bool,
) -> Result<Vec<Message>> {
    let about = || program.display().to_string();
    let mut child = command(program, project).args(words).spawn().about(about)?;
    let output = child.stdout.take().ok_or_else(|| Error::internal("a provider without output"))?;
    let quiet = quiet || called.form()? == Form::Quiet;
    let verbose = called.global.on("verbose");
    let said = listen(output, |message| match message {
        Message::Info(text) if !quiet => eprintln!(" {service}: {}", text.lines().next().unwrap_or_default()),
        Message::Debug(text) if verbose => eprintln!(" {service}: {text}"),
        _ => {}
    });
    if said.is_err() {
        // It may go on for long.
        let _ = child.kill();
    }
    let status = child.wait().about(about)?;
    let said = said?;
    if !status.success() {
        return Err(Error::internal(format!("the provider {} ended with {status}", about())));
    }
    if !quiet {
        let word = words.get(2).map(String::as_str).unwrap_or_default();
        eprintln!(" ✔ provider of {service}: {word}");
    }
    Ok(said)
}

/// What a provider says, until it closes its output or says that it failed.
fn listen(output: impl Read, mut each: impl FnMut(&Message)) -> Result<Vec<Message>> {
    let mut said = Vec::new();
    let mut output = BufReader::new(output);
    let mut line = String::new();
    loop {
        line.clear();
        if output.read_line(&mut line).about(|| "a provider's output")? == 0 {
            return Ok(said);
        }
        for value in serde_json::Deserializer::from_str(&line).into_iter::<serde_json::Value>() {
            let value = value.map_err(|e| {
                Error::invalid(format!("a provider said {:?}, which is no JSON", line.trim())).with_source(e)
            })?;
            let message = provider::message(&value)?;
            if let Message::Error(text) = message {
                return Err(Error::internal(text.trim().to_owned()));
            }
            each(&message);
            said.push(message);
        }
    }
}

/// Has models fetched and set up, and gives services their variables.
fn models(called: &Called<'_>, project: &mut Project) -> Result<()> {
    let used = provider::uses_models(project);
    if used.is_empty() {
        return Ok(());
    }
    if called.dry_run() {
        for (name, model) in &used {
            print_line(&format!("get model {}  # services use it as {name}", model.text("model")))?;
        }
        return Ok(());
    }
    // A runner that the user has started need not be asked through Docker's plug-in.
    if let Some(host) = std::env::var("MODEL_RUNNER_HOST").ok().filter(|h| !h.is_empty()) {
        provider::models(project, &format!("{}/engines/v1/", host.trim_end_matches('/')));
        return Ok(());
    }
    let plugin = program("model").map_err(|e| {
        e.context("'models' support requires Docker Model plugin").with_hint(
            "install docker-model, or say where models are answered: MODEL_RUNNER_HOST=http://HOST:12434",
        )
    })?;
    let ask = |words: &[&str]| -> Result<Vec<u8>> {
        let output = command(&plugin, project)
            .args(words)
            .stderr(Stdio::piped())
            .output()
            .about(|| plugin.display().to_string())?;
        match output.status.success() {
            true => Ok(output.stdout),
            false => {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                Err(Error::internal(format!("docker-model {}: {said}", words.join(" "))))
            }
        }
    };
    let json = |bytes: &[u8]| -> Result<serde_json::Value> {
        serde_json::from_slice(bytes).map_err(|e| Error::corrupt("an answer of docker-model").with_source(e))
    };
    let there = json(&ask(&["ls", "--json"])?)?;
    let tags: Vec<&str> = there
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|m| m["tags"].as_array())
        .flatten()
        .filter_map(|t| t.as_str())
        .collect();
    for model in used.values() {
        let name = model.text("model");
        if !tags.contains(&name.as_str()) {
            eprintln!(" pulling model {name}");
            ask(&["pull", &name])?;
        }
        let size = model.int("context_size").filter(|n| *n > 0).map(|n| n.to_string());
        let mut words = vec!["configure"];
        words.extend(size.iter().flat_map(|n| ["--context-size", n.as_str()]));
        words.push(&name);
        let flags = model.texts("runtime_flags");
        if !flags.is_empty() {
            words.push("--");
            words.extend(flags.iter().map(String::as_str));
        }
        ask(&words)?;
    }
    let status = json(&ask(&["status", "--json"])?)?;
    provider::models(project, status["endpoint"].as_str().unwrap_or_default());
    Ok(())
}
