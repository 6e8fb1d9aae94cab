//! `up` in the foreground and `logs`: the output of several containers, each line behind the name of its container.
//!
//! A thread a container, because each log is a blocking stream; they end when their stream ends or the flag is set.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fluyt_compose::Project;
use fluyt_compose::execute::{How, observe};
use fluyt_compose::plan::{self, Container};
use fluyt_docker_api::api::{Docker, LogsOf, Next, StopContainer, Stream, Wait};
use fluyt_model::Result;
use fluyt_sys::signals::Signals;

use super::Called;
use super::up::{Work, shown};
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, NONE, int, switch, text};
use crate::cli::{terminal, time};

/// `fluyt compose logs`.
pub const LOGS: Command = Command {
    name: "logs",
    arguments: "[SERVICE...]",
    about: "View output from containers",
    flags: &[&[
        switch('f', "follow", "Follow log output"),
        int(NONE, "index", "index of the container if service has multiple replicas").default("0"),
        switch(NONE, "no-color", "Produce monochrome output"),
        switch(NONE, "no-log-prefix", "Don't print prefix in logs"),
        text(
            NONE,
            "since",
            "Show logs since timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m for 42 minutes)",
        ),
        text('n', "tail", "Number of lines to show from the end of the logs for each container")
            .default("all"),
        switch('t', "timestamps", "Show timestamps"),
        text(
            NONE,
            "until",
            "Show logs before a timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m for 42 minutes)",
        ),
    ]],
    arity: Arity::AtLeast(0),
    interspersed: true,
};

/// How often followers look whether they should end.
const LOOK: Duration = Duration::from_millis(100);

/// The colours of names, in turn.
const COLORS: [&str; 10] = ["36", "33", "32", "35", "34", "36;1", "33;1", "32;1", "35;1", "34;1"];

/// Puts lines behind names.
struct Printer {
    width: usize,
    color: bool,
    prefix: bool,
    timestamps: bool,
    out: Mutex<()>,
}

impl Printer {
    fn of(called: &Called<'_>, names: &[String]) -> Self {
        let parsed = called.parsed;
        let ansi = match called.global.text("ansi") {
            "never" => false,
            "always" => true,
            _ => terminal::stdout_is_terminal(),
        };
        Self {
            width: names.iter().map(|n| n.chars().count()).max().unwrap_or(0),
            color: ansi && !parsed.on("no-color"),
            prefix: !parsed.on("no-log-prefix"),
            timestamps: parsed.on("timestamps"),
            out: Mutex::new(()),
        }
    }

    fn head(&self, name: &str, color: usize) -> String {
        if !self.prefix {
            return String::new();
        }
        let width = self.width;
        match self.color {
            true => format!("\x1b[{}m{name:width$}  | \x1b[0m", COLORS[color % COLORS.len()]),
            false => format!("{name:width$}  | "),
        }
    }

    fn line(&self, stream: Stream, head: &str, stamp: i64, line: &[u8]) -> std::io::Result<()> {
        let mut text = head.as_bytes().to_vec();
        if self.timestamps {
            text.extend_from_slice(time::rfc3339_nano_fixed(stamp).as_bytes());
            text.push(b' ');
        }
        text.extend_from_slice(line.strip_suffix(b"\r\n").or(line.strip_suffix(b"\n")).unwrap_or(line));
        text.push(b'\n');
        let _one = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        match stream {
            Stream::Stderr => std::io::stderr().lock().write_all(&text),
            Stream::Stdout => {
                let mut out = std::io::stdout().lock();
                out.write_all(&text).and_then(|()| out.flush())
            }
        }
    }
}

/// The name of a container without its project: `web-1`.
fn short(project: &str, container: &Container) -> String {
    let name = container.name.strip_prefix(&format!("{project}-"));
    name.unwrap_or(&container.name).to_owned()
}

/// One container's log.
fn follow(
    docker: &dyn Docker,
    id: &str,
    wanted: LogsOf,
    head: &str,
    printer: &Printer,
    stop: &AtomicBool,
) -> Result<()> {
    let mut logs = docker.container_logs(id, wanted)?;
    let wait = Wait { timeout: Some(LOOK), unless_gone: None };
    loop {
        match logs.lines.next(wait)? {
            Next::Item(line) => {
                if printer.line(line.stream, head, line.time, &line.line).is_err() {
                    stop.store(true, Ordering::Relaxed);
                    return Ok(());
                }
            }
            Next::Idle if stop.load(Ordering::Relaxed) => return Ok(()),
            Next::Idle => {}
            Next::End => return Ok(()),
        }
    }
}

/// Runs `fluyt compose logs`.
///
/// # Errors
/// There is no such service; a log cannot be read.
pub fn logs(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let found = called.found()?;
    let docker = called.docker()?;
    let index = parsed.int("index");
    let containers: Vec<&Container> = found
        .containers(&parsed.args)?
        .into_iter()
        .filter(|c| index == 0 || i64::from(c.number) == index)
        .collect();
    let now = time::now();
    let point = |name: &str| parsed.given(name).map(|text| time::parse(text, now)).transpose();
    let wanted = LogsOf {
        follow: parsed.on("follow"),
        stdout: true,
        stderr: true,
        since: point("since")?,
        until: point("until")?,
        tail: parsed.text("tail").parse().ok(),
        details: false,
    };
    let names: Vec<String> = containers.iter().map(|c| short(&found.name, c)).collect();
    let printer = Printer::of(called, &names);
    let stop = AtomicBool::new(false);
    let head = |n: usize| printer.head(&names[n], n);
    if !wanted.follow {
        for (n, container) in containers.iter().enumerate() {
            follow(docker, &container.id, wanted, &head(n), &printer, &stop)?;
        }
        return Ok(0);
    }
    std::thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = containers
            .iter()
            .enumerate()
            .map(|(n, container)| {
                let (head, printer, stop, id) = (head(n), &printer, &stop, container.id.as_str());
                scope.spawn(move || follow(docker, id, wanted, &head, printer, stop))
            })
            .collect();
        threads.into_iter().try_for_each(|t| t.join().unwrap_or(Ok(())))
    })?;
    Ok(0)
}

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// `up` in the foreground: containers are started, their output is shown until they have ended or the user ends it.
///
/// # Errors
/// As `up -d`.
pub fn up(called: &Called<'_>, project: &Project, work: &Work, how: How) -> Outcome {
    let docker = called.docker()?;
    let since = time::now();
    let services = shown(called, project);
    let timeout = how.timeout;
    work.run(called, project, how)?;
    let observed = observe(docker, &project.name, Some(project))?;
    let mut containers: Vec<&Container> =
        observed.containers.iter().filter(|c| !c.one_off && project.service(&c.service).is_some()).collect();
    containers.sort_by(|a, b| (&a.service, a.number).cmp(&(&b.service, b.number)));
    // From here on an interrupt stops the containers, not us.
    let signals = Signals::block(&[SIGINT, SIGTERM])?;
    let stop = AtomicBool::new(false);
    let names: Vec<String> = containers.iter().map(|c| short(&project.name, c)).collect();
    let printer = Printer::of(called, &names);
    let wanted = LogsOf { follow: true, stdout: true, stderr: true, since: Some(since), ..LogsOf::default() };
    std::thread::scope(|scope| {
        for (n, container) in containers.iter().enumerate().filter(|(_, c)| services.contains(&c.service)) {
            let (head, printer, stop, id) =
                (printer.head(&names[n], n), &printer, &stop, container.id.as_str());
            scope.spawn(move || {
                if let Err(e) = follow(docker, id, wanted, &head, printer, stop) {
                    eprintln!("WARN: {}", e.chain());
                }
            });
        }
        let outcome = watch(called, docker, &containers, &signals, timeout, &printer, &names);
        stop.store(true, Ordering::Relaxed);
        outcome
    })
}

/// Waits for the end: of all containers, of one where that ends all, or by the user.
fn watch(
    called: &Called<'_>,
    docker: &dyn Docker,
    containers: &[&Container],
    signals: &Signals,
    timeout: Option<i64>,
    printer: &Printer,
    names: &[String],
) -> Outcome {
    let parsed = called.parsed;
    let from = parsed.given("exit-code-from").filter(|s| !s.is_empty());
    let any = parsed.on("abort-on-container-exit") || from.is_some();
    let failure = parsed.on("abort-on-container-failure");
    let mut ended: Vec<Option<i64>> = vec![None; containers.len()];
    loop {
        if signals.next()?.is_some() {
            eprintln!("Gracefully stopping... (press Ctrl+C again to force)");
            stop_all(docker, containers, timeout, signals)?;
            return Ok(130);
        }
        for (n, container) in
            containers.iter().enumerate().filter(|(n, _)| ended[*n].is_none()).collect::<Vec<_>>()
        {
            let Ok(now) = docker.container_inspect(&container.id, false) else {
                ended[n] = Some(0);
                continue;
            };
            if matches!(now.state.status.as_str(), "exited" | "dead") {
                let code = now.state.exit_code;
                ended[n] = Some(code);
                let _ = printer.line(
                    Stream::Stdout,
                    "",
                    0,
                    format!("{} exited with code {code}", names[n]).as_bytes(),
                );
                if any || (failure && code != 0) {
                    eprintln!("Aborting on container exit...");
                    stop_all(docker, containers, timeout, signals)?;
                    return Ok(exit_code(docker, containers, from, code));
                }
            }
        }
        if ended.iter().all(Option::is_some) {
            return Ok(0);
        }
        std::thread::sleep(LOOK);
    }
}

fn exit_code(docker: &dyn Docker, containers: &[&Container], from: Option<&str>, first: i64) -> i32 {
    let code = match from {
        Some(service) => containers
            .iter()
            .filter(|c| c.service == service)
            .find_map(|c| docker.container_inspect(&c.id, false).ok())
            .map_or(1, |c| c.state.exit_code),
        None => first,
    };
    i32::try_from(code).unwrap_or(1)
}

/// Stops containers, those that others depend on last; a second signal kills them.
fn stop_all(
    docker: &dyn Docker,
    containers: &[&Container],
    timeout: Option<i64>,
    signals: &Signals,
) -> Result<()> {
    let observed = plan::Observed {
        containers: containers.iter().map(|c| (*c).clone()).collect(),
        ..Default::default()
    };
    let order = plan::down(None, &observed, &plan::Down::default());
    for step in &order.steps {
        if let plan::Action::StopContainer { id, .. } = &step.action {
            if signals.next()?.is_some() {
                let _ = docker.container_kill(id, "KILL");
                continue;
            }
            let how = StopContainer { signal: String::new(), timeout };
            if let Err(e) = docker.container_stop(id, &how) {
                eprintln!("WARN: {}", e.chain());
            }
        }
    }
    Ok(())
}
