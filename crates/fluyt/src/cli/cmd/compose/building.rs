//! Images that services are built to, and images that are pulled and pushed, several at once.
//!
//! A build is a process of its own: it reads signals and shows what it does in its own way. One alone has the terminal;
//! of several, what they say is shown behind the names of their services, on a terminal only how far they are.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use fluyt_compose::Project;
use fluyt_compose::document::Node;
use fluyt_compose::execute::{Event, Report, State};
use fluyt_compose::view::View;
use fluyt_docker_api::api::{Docker, PullImage, PushImage, Quiet};
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};

use super::super::Cli;
use super::Called;
use super::display::{Display, Form, Layers};
use super::project::word;
use super::side::side_by_side;
use crate::cli::cmd::content::apart;

/// So many builds at once if nobody says how many: each uses all processors by itself.
const BUILDS: usize = 4;
/// So many transfers at once if nobody says how many.
const TRANSFERS: usize = 8;

/// A build to be done.
pub struct Job<'p> {
    /// The service.
    pub service: &'p str,
    /// What comes of it.
    pub image: String,
    /// The words after `fluyt build`.
    pub words: Vec<String>,
    /// The Dockerfile, if it stands in the project's file.
    pub inline: Option<String>,
    /// Services whose images it builds on.
    pub after: Vec<String>,
}

/// An image to be pulled.
pub struct Pull {
    /// A service that needs it.
    pub service: String,
    /// Its name.
    pub image: String,
    /// For which platform; empty: the engine's.
    pub platform: String,
}

/// Pulls images side by side; `lenient` says which services may go without.
///
/// # Errors
/// The first that fails and must not.
pub fn pull(
    called: &Called<'_>,
    pulls: &[Pull],
    quiet: bool,
    display: &Display,
    lenient: &(dyn Fn(&str) -> bool + Sync),
) -> Result<()> {
    let docker = called.docker()?;
    let remote = called.cli.remote()?.is_some();
    let limit = called.parallel()?.unwrap_or(TRANSFERS);
    side_by_side(limit, &vec![Vec::new(); pulls.len()], &|n| {
        let Pull { service, image, platform } = &pulls[n];
        let thing = format!("Image {image}");
        display.tell(&Event::new(&thing, State::Working, "Pulling"));
        match one_pull(docker, remote, image, platform, (quiet, display)) {
            Ok(()) => display.tell(&Event::new(&thing, State::Done, "Pulled")),
            Err(e) => {
                let may = lenient(service);
                let state = if may { State::Warning } else { State::Failed };
                let chain = e.chain();
                display
                    .tell(&Event::new(&thing, state, if may { "Warning" } else { "Error" }).details(&chain));
                if !may {
                    return Err(e.context(format!("service {service}")));
                }
            }
        }
        Ok(())
    })
}

fn one_pull(
    docker: &dyn Docker,
    remote: bool,
    image: &str,
    platform: &str,
    (quiet, display): (bool, &Display),
) -> Result<()> {
    let wanted = PullImage {
        reference: image.to_owned(),
        platform: platform.to_owned(),
        // A daemon elsewhere does not know what this machine's user has.
        auth: if remote { crate::cli::cmd::auth_for(image)? } else { None },
        ..PullImage::default()
    };
    match quiet {
        true => docker.image_pull(&wanted, &Quiet),
        false => docker.image_pull(&wanted, &Layers::of(display, &format!("Image {image}"))),
    }
}

/// Pushes images side by side; `lenient` lets failures pass.
///
/// # Errors
/// The first that fails.
pub fn push(
    called: &Called<'_>,
    images: &[String],
    quiet: bool,
    lenient: bool,
    display: &Display,
) -> Result<()> {
    let docker = called.docker()?;
    let remote = called.cli.remote()?.is_some();
    let limit = called.parallel()?.unwrap_or(TRANSFERS);
    side_by_side(limit, &vec![Vec::new(); images.len()], &|n| {
        let image = &images[n];
        let thing = format!("Image {image}");
        display.tell(&Event::new(&thing, State::Working, "Pushing"));
        let (name, tag) = apart(image);
        let push = || -> Result<()> {
            let wanted = PushImage {
                name: name.to_owned(),
                tag: if tag.is_empty() { "latest" } else { tag }.to_owned(),
                auth: if remote { crate::cli::cmd::auth_for(image)? } else { None },
                ..PushImage::default()
            };
            match quiet {
                true => docker.image_push(&wanted, &Quiet),
                false => docker.image_push(&wanted, &Layers::of(display, &thing)),
            }
        };
        match push() {
            Ok(()) => display.tell(&Event::new(&thing, State::Done, "Pushed")),
            Err(e) => {
                let (state, text) = match lenient {
                    true => (State::Warning, "Warning"),
                    false => (State::Failed, "Error"),
                };
                let chain = e.chain();
                display.tell(&Event::new(&thing, state, text).details(&chain));
                if !lenient {
                    return Err(e.context(format!("image {image}")));
                }
            }
        }
        Ok(())
    })
}

impl<'p> Job<'p> {
    /// The build of a service.
    ///
    /// # Errors
    /// It has none.
    pub fn of(
        project: &'p Project,
        service: &'p str,
        node: &Node,
        image: &str,
        more: &[String],
    ) -> Result<Self> {
        let mut words = super::images::build_words(project, service, node, image)?;
        let at = words.len() - 1;
        words.splice(at..at, more.iter().cloned());
        let build = node.get("build");
        let inline = build.map(|b| b.text("dockerfile_inline")).filter(|t| !t.is_empty());
        if inline.is_some() {
            words.splice(0..0, [word("--file"), word("-")]);
        }
        let contexts = build.map(|b| b.dict("additional_contexts")).unwrap_or_default();
        let after = contexts.values().filter_map(|c| c.strip_prefix("service:").map(str::to_owned)).collect();
        Ok(Self { service, image: image.to_owned(), words, inline, after })
    }
}

/// Builds images side by side.
///
/// # Errors
/// The first build that fails; what it said has been shown.
pub fn build(called: &Called<'_>, jobs: &[Job<'_>], quiet: bool, display: &Display) -> Result<()> {
    let Some(first) = jobs.first() else { return Ok(()) };
    let base = words_before(called.cli);
    let form = display.form();
    if jobs.len() == 1 {
        return alone(&base, first, quiet, display);
    }
    let limit = called.parallel()?.unwrap_or(BUILDS);
    let place = |service: &String| jobs.iter().position(|j| j.service == service);
    let after: Vec<Vec<usize>> = jobs.iter().map(|j| j.after.iter().filter_map(place).collect()).collect();
    side_by_side(limit, &after, &|n| {
        let job = &jobs[n];
        let thing = format!("Image {}", job.image);
        display.tell(&Event::new(&thing, State::Working, "Building"));
        let built = among_others(&base, job, quiet || form == Form::Quiet, &thing, display);
        match &built {
            Ok(()) => display.tell(&Event::new(&thing, State::Done, "Built")),
            Err(e) => display.tell(&Event::new(&thing, State::Failed, "Error").details(&e.to_string())),
        }
        built
    })
}

/// The words before `build` by which another process of this program speaks to the same engine.
fn words_before(cli: &Cli) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["--root".into(), cli.root().into()];
    let options = cli.options();
    for (flag, value) in [("--host", &options.host), ("--context", &options.context)] {
        value.iter().for_each(|v| words.extend([flag.into(), v.into()]));
    }
    let paths = [
        ("--config", &options.config),
        ("--tlscacert", &options.ca),
        ("--tlscert", &options.cert),
        ("--tlskey", &options.key),
    ];
    for (flag, path) in paths {
        path.iter().for_each(|p| words.extend([flag.into(), p.into()]));
    }
    for (flag, value) in [("--tls", options.tls), ("--tlsverify", options.tls_verify)] {
        value.iter().for_each(|v| words.push(format!("{flag}={v}").into()));
    }
    words
}

fn command(base: &[OsString], job: &Job<'_>, progress: &str) -> Result<Command> {
    let program = std::env::current_exe().about(|| "/proc/self/exe")?;
    let mut command = Command::new(program);
    command.args(base).arg("build");
    if !job.words.iter().any(|w| w == "--quiet") {
        command.args(["--progress", progress]);
    }
    command.args(&job.words);
    command.stdin(if job.inline.is_some() { Stdio::piped() } else { Stdio::null() });
    Ok(command)
}

/// Hands a Dockerfile over that stands in the project's file.
fn hand_over(child: &mut std::process::Child, job: &Job<'_>) {
    if let (Some(text), Some(mut input)) = (&job.inline, child.stdin.take()) {
        // A build that ends before it has read it says why by itself.
        let _ = input.write_all(text.as_bytes());
    }
}

fn outcome(job: &Job<'_>, code: Option<i32>) -> Result<()> {
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(Error::internal(format!("service {}: the build failed ({code})", job.service))),
        None => Err(Error::internal(format!("service {}: the build was killed", job.service))),
    }
}

/// A build that has the terminal for itself.
fn alone(base: &[OsString], job: &Job<'_>, quiet: bool, display: &Display) -> Result<()> {
    // Two pictures in one place would be none.
    display.finish();
    let form = if quiet { Form::Quiet } else { display.form() };
    let mut command = command(base, job, form.of_build())?;
    if form == Form::Quiet {
        command.stdout(Stdio::null());
    }
    let mut child = command.spawn().about(|| "fluyt build")?;
    hand_over(&mut child, job);
    let status = child.wait().about(|| "waiting for fluyt build")?;
    outcome(job, status.code())?;
    display.tell(&Event::new(&format!("Image {}", job.image), State::Done, "Built"));
    Ok(())
}

/// A build among others.
fn among_others(base: &[OsString], job: &Job<'_>, quiet: bool, thing: &str, display: &Display) -> Result<()> {
    let form = if display.form() == Form::Json { "rawjson" } else { "plain" };
    let mut command = command(base, job, form)?;
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().about(|| "fluyt build")?;
    hand_over(&mut child, job);
    let rows = display.form() == Form::Tty;
    let mut kept = String::new();
    if let Some(output) = child.stderr.take() {
        for line in BufReader::new(output).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line);
            if display.form() == Form::Json {
                display.write(&format!("{line}\n"));
            } else if rows || quiet {
                kept.push_str(&format!("{} | {line}\n", job.service));
                if !line.trim().is_empty() {
                    display.tell(&Event::new(thing, State::Working, "Building").details(&line));
                }
            } else {
                display.write(&format!("{} | {line}\n", job.service));
            }
        }
    }
    let status = child.wait().about(|| "waiting for fluyt build")?;
    let built = outcome(job, status.code());
    if built.is_err() {
        display.write(&kept);
    }
    built
}
