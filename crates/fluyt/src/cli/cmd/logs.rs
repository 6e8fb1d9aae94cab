//! `logs`.

use std::io::Write;

use fluyt_docker_api::api::{LogsOf, Next, Stream, Wait};
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};

use super::Cli;
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, NONE, Parsed, switch, text};
use crate::cli::time;

/// `fluyt logs`.
pub const LOGS: Command = Command {
    name: "logs",
    arguments: "CONTAINER",
    about: "Fetch the logs of a container",
    flags: &[&[
        switch(NONE, "details", "Show extra details provided to logs"),
        switch('f', "follow", "Follow log output"),
        text(
            NONE,
            "since",
            "Show logs since timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
        ),
        text('n', "tail", "Number of lines to show from the end of the logs").default("all"),
        switch('t', "timestamps", "Show timestamps"),
        text(
            NONE,
            "until",
            "Show logs before a timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
        ),
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
};

/// Runs `fluyt logs`.
pub fn logs(cli: &Cli, flags: &Parsed) -> Outcome {
    let now = time::now();
    let point = |name: &str| flags.given(name).map(|text| time::parse(text, now)).transpose();
    let options = LogsOf {
        follow: flags.on("follow"),
        tail: tail(flags.text("tail"))?,
        since: point("since")?,
        until: point("until")?,
        stdout: true,
        stderr: true,
        details: flags.on("details"),
    };
    let (timestamps, details) = (flags.on("timestamps"), flags.on("details"));
    let mut logs = cli.docker()?.container_logs(&flags.args[0], options)?;
    let mut sink = Sink::default();
    while let Next::Item(line) = logs.lines.next(Wait::FOREVER)? {
        let mut prefix = String::new();
        if timestamps {
            prefix = time::rfc3339_nano_fixed(line.time) + " ";
        }
        if details {
            let all: Vec<String> = line.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
            prefix.push_str(&all.join(","));
            prefix.push(' ');
        }
        sink.put(line.stream, prefix.as_bytes(), &line.line, options.follow)?;
    }
    sink.flush()?;
    Ok(0)
}

/// Reads `--tail`: a number, or all for anything that is none, as Docker does.
fn tail(text: &str) -> Result<Option<u64>> {
    match text.parse::<i64>() {
        Ok(lines) => Ok(u64::try_from(lines).ok()),
        Err(_) if text == "all" => Ok(None),
        Err(_) => Err(Error::invalid(format!("invalid value for --tail: {text:?}"))
            .with_hint("give a number of lines, or all")),
    }
}

/// Output in large pieces; the order between the two streams is kept.
#[derive(Default)]
struct Sink {
    buffer: Vec<u8>,
    stream: Option<Stream>,
}

impl Sink {
    fn put(&mut self, stream: Stream, prefix: &[u8], line: &[u8], at_once: bool) -> Result<()> {
        if self.stream != Some(stream) {
            self.flush()?;
            self.stream = Some(stream);
        }
        self.buffer.extend_from_slice(prefix);
        self.buffer.extend_from_slice(line);
        if at_once || self.buffer.len() > 128 * 1024 {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let done = match self.stream {
            Some(Stream::Stderr) => std::io::stderr().lock().write_all(&self.buffer),
            _ => {
                let mut out = std::io::stdout().lock();
                out.write_all(&self.buffer).and_then(|()| out.flush())
            }
        };
        self.buffer.clear();
        done.about(|| "standard output")
    }
}
