//! `logs`, and what `up` in the foreground shares with it: the output of several containers, each line behind the name of
//! its container.
//!
//! A thread a container, because each log is a blocking stream; they end when their stream ends or the flag is set.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fluyt_compose::plan::Container;
use fluyt_docker_api::api::{Docker, LogsOf, Next, Stream, Wait};
use fluyt_model::Result;

use super::Called;
use super::display::colors;
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
pub struct Printer {
    color: bool,
    prefix: bool,
    timestamps: bool,
    /// In the order in which they were heard of, which chooses their colours. Held while a line is written.
    names: Mutex<Vec<String>>,
}

impl Printer {
    /// By the options of a command, for these names.
    pub fn of(called: &Called<'_>, names: &[String]) -> Self {
        let parsed = called.parsed;
        let color = colors(&called.ansi(), terminal::stdout_is_terminal());
        Self {
            color: color && !parsed.on("no-color"),
            prefix: !parsed.on("no-log-prefix"),
            timestamps: parsed.on("timestamps"),
            names: Mutex::new(names.to_vec()),
        }
    }

    fn painted(&self, place: usize, text: &str) -> String {
        match self.color {
            true => format!("\x1b[{}m{text}\x1b[0m", COLORS[place % COLORS.len()]),
            false => text.to_owned(),
        }
    }

    fn names(&self) -> MutexGuard<'_, Vec<String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of a name, and the width of the longest; a new name gets a place.
    fn place(names: &mut Vec<String>, name: &str) -> (usize, usize) {
        let place = names.iter().position(|n| n == name).unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        });
        (place, names.iter().map(|n| n.chars().count()).max().unwrap_or(0))
    }

    /// A line of a container.
    ///
    /// # Errors
    /// Nobody reads it.
    pub fn line(&self, stream: Stream, name: &str, stamp: i64, line: &[u8]) -> std::io::Result<()> {
        let mut names = self.names();
        let (place, width) = Self::place(&mut names, name);
        let mut text = Vec::new();
        if self.prefix {
            text.extend_from_slice(self.painted(place, &format!("{name:width$}  | ")).as_bytes());
        }
        if self.timestamps {
            text.extend_from_slice(time::rfc3339_nano_fixed(stamp).as_bytes());
            text.push(b' ');
        }
        text.extend_from_slice(line.strip_suffix(b"\r\n").or(line.strip_suffix(b"\n")).unwrap_or(line));
        text.push(b'\n');
        match stream {
            Stream::Stderr => std::io::stderr().lock().write_all(&text),
            Stream::Stdout => {
                let mut out = std::io::stdout().lock();
                out.write_all(&text).and_then(|()| out.flush())
            }
        }
    }

    /// What has become of a container.
    pub fn status(&self, name: &str, what: &str) {
        let mut names = self.names();
        let (place, _) = Self::place(&mut names, name);
        let text = self.painted(place, &format!("{name} {what}"));
        let mut out = std::io::stdout().lock();
        // Whether anybody reads is found out by the next line.
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
}

/// The name of a container without its project, if it has the usual one: `web-1`.
pub fn short(project: &str, name: &str, service: &str, number: &str) -> String {
    let usual = format!("{project}-{service}-{number}");
    match name == usual {
        true => format!("{service}-{number}"),
        false => name.to_owned(),
    }
}

fn short_of(project: &str, container: &Container) -> String {
    short(project, &container.name, &container.service, &container.number.to_string())
}

/// One container's log; the time of its last line.
///
/// # Errors
/// The log cannot be read.
pub fn follow(
    docker: &dyn Docker,
    id: &str,
    wanted: LogsOf,
    name: &str,
    printer: &Printer,
    stop: &AtomicBool,
) -> Result<Option<i64>> {
    let mut last = None;
    let mut logs = docker.container_logs(id, wanted)?;
    let wait = Wait { timeout: Some(LOOK), unless_gone: None };
    loop {
        match logs.lines.next(wait)? {
            Next::Item(line) => {
                last = Some(line.time);
                if printer.line(line.stream, name, line.time, &line.line).is_err() {
                    stop.store(true, Ordering::Relaxed);
                    return Ok(last);
                }
            }
            Next::Idle if stop.load(Ordering::Relaxed) => return Ok(last),
            Next::Idle => {}
            Next::End => return Ok(last),
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
    let names: Vec<String> = containers.iter().map(|c| short_of(&found.name, c)).collect();
    let printer = Printer::of(called, &names);
    let stop = AtomicBool::new(false);
    if !wanted.follow {
        for (n, container) in containers.iter().enumerate() {
            follow(docker, &container.id, wanted, &names[n], &printer, &stop)?;
        }
        return Ok(0);
    }
    std::thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = containers
            .iter()
            .enumerate()
            .map(|(n, container)| {
                let (name, printer, stop, id) = (&names[n], &printer, &stop, container.id.as_str());
                scope.spawn(move || follow(docker, id, wanted, name, printer, stop))
            })
            .collect();
        threads.into_iter().try_for_each(|t| t.join().unwrap_or(Ok(None)).map(drop))
    })?;
    Ok(0)
}
