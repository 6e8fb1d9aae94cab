//! `pod logs`, `pod stats`, `pod top`: what the members do.

use std::io::Write;
use std::sync::Mutex;

use fluyt_docker_api::api::{Docker, LogLine, LogsOf, Next, Stream, Wait};
use fluyt_engine::ContainerView;
use fluyt_engine::pod::PodView;
use fluyt_model::error::IoContext;
use fluyt_model::sandbox::Phase;
use fluyt_model::{Error, Kind, Result, id};

use super::{ALL, LATEST, failed, single};
use crate::cli::cmd::Cli;
use crate::cli::cmd::stats::{self, Chosen};
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, NONE, Parsed, int, switch, text};
use crate::cli::format::{Layout, tabs};
use crate::cli::{print_text, time};

/// `fluyt pod logs`.
pub const LOGS: Command = Command {
    name: "logs",
    arguments: "POD",
    about: "Fetch the logs of the containers of a pod",
    flags: &[&[
        switch(NONE, "color", "Give the containers different colors"),
        text('c', "container", "Show only the logs of this container of the pod"),
        switch('f', "follow", "Follow log output"),
        LATEST,
        switch('n', "names", "Output container names instead of container IDs"),
        text(NONE, "since", "Show logs since a timestamp, or relative (e.g. 42m)"),
        int(NONE, "tail", "Number of lines of each container to show from the end").default("-1"),
        switch('t', "timestamps", "Show timestamps"),
        text(NONE, "until", "Show logs until a timestamp, or relative (e.g. 42m)"),
    ]],
    arity: Arity::AtMost(1),
    interspersed: true,
};

/// `fluyt pod stats`.
pub const STATS: Command = Command {
    name: "stats",
    arguments: "[POD...]",
    about: "Display a live stream of resource usage statistics of the containers of pods",
    flags: &[&[
        ALL,
        text(NONE, "format", "Format output as JSON or using a Go template"),
        LATEST,
        switch(NONE, "no-reset", "Do not clear the screen between intervals"),
        switch(NONE, "no-stream", "Disable streaming stats and only pull the first result"),
    ]],
    arity: Arity::AtLeast(0),
    interspersed: true,
};

/// `fluyt pod top`.
pub const TOP: Command = Command {
    name: "top",
    arguments: "POD [FORMAT-DESCRIPTORS|ARGS...]",
    about: "Display the running processes of the containers of a pod",
    flags: &[&[LATEST]],
    arity: Arity::AtLeast(0),
    interspersed: false,
};

/// One terminal color after the other.
const COLORS: [&str; 6] = ["31", "32", "33", "34", "35", "36"];

/// Runs `fluyt pod logs`.
pub fn logs(cli: &Cli, flags: &Parsed) -> Outcome {
    write_logs(cli, flags).map_err(failed)?;
    Ok(0)
}

fn write_logs(cli: &Cli, flags: &Parsed) -> Result<()> {
    let pod = single(cli.engine()?, flags, flags.args.first())?;
    let now = time::now();
    let point = |name: &str| flags.given(name).map(|text| time::parse(text, now)).transpose();
    let wanted = LogsOf {
        follow: flags.on("follow"),
        stdout: true,
        stderr: true,
        since: point("since")?,
        until: point("until")?,
        tail: u64::try_from(flags.int("tail")).ok(),
        details: false,
    };
    let only = flags.given("container");
    let of: Vec<&ContainerView> = pod
        .members
        .iter()
        .filter(|m| only.is_none_or(|name| m.name == name || (!name.is_empty() && m.id.starts_with(name))))
        .collect();
    if let (Some(name), true) = (only, of.is_empty()) {
        return Err(Error::not_found(format!("container {name} is not in pod {}", pod.name)));
    }
    let head = |n: usize, view: &ContainerView| {
        let name = if flags.on("names") { view.name.as_str() } else { id::short(&view.id) };
        match (pod.members.len() > 1, flags.on("color")) {
            (false, _) => String::new(),
            (true, false) => format!("{name} "),
            (true, true) => format!("\x1b[{}m{name}\x1b[0m ", COLORS[n % COLORS.len()]),
        }
    };
    let (docker, stamps) = (cli.docker()?, flags.on("timestamps"));
    if wanted.follow {
        let out = Mutex::new(());
        return std::thread::scope(|scope| {
            let threads: Vec<_> = of
                .iter()
                .enumerate()
                .map(|(n, view)| {
                    let (head, out, id) = (head(n, view), &out, view.id.as_str());
                    scope.spawn(move || {
                        each_line(docker, id, wanted, |line| {
                            let _one = out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                            put(&head, stamps, &line)
                        })
                    })
                })
                .collect();
            threads.into_iter().try_for_each(|t| t.join().unwrap_or(Ok(())))
        });
    }
    let mut lines = Vec::new();
    for (n, view) in of.iter().enumerate() {
        each_line(docker, &view.id, wanted, |line| {
            lines.push((n, line));
            Ok(())
        })?;
    }
    // Stable: what one container wrote stays in its order.
    lines.sort_by_key(|(_, line)| line.time);
    lines.iter().try_for_each(|(n, line)| put(&head(*n, of[*n]), stamps, line))
}

fn each_line(
    docker: &dyn Docker,
    id: &str,
    wanted: LogsOf,
    mut each: impl FnMut(LogLine) -> Result<()>,
) -> Result<()> {
    let mut logs = docker.container_logs(id, wanted)?;
    while let Next::Item(line) = logs.lines.next(Wait::FOREVER)? {
        each(line)?;
    }
    Ok(())
}

fn put(head: &str, stamps: bool, line: &LogLine) -> Result<()> {
    let mut text = head.as_bytes().to_vec();
    if stamps {
        text.extend_from_slice(time::rfc3339_nano_fixed(line.time).as_bytes());
        text.push(b' ');
    }
    text.extend_from_slice(&line.line);
    let done = match line.stream {
        Stream::Stderr => std::io::stderr().lock().write_all(&text),
        Stream::Stdout => {
            let mut out = std::io::stdout().lock();
            out.write_all(&text).and_then(|()| out.flush())
        }
    };
    done.about(|| "standard output")
}

const LAYOUT: Layout = Layout {
    type_name: "*pods.PodStats",
    headers: &[
        ("BlockIO", "BLOCK IO"),
        ("CID", "CID"),
        ("CPU", "CPU %"),
        ("CPUPerc", "CPU %"),
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("Mem", "MEM %"),
        ("MemPerc", "MEM %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("Name", "NAME"),
        ("NetIO", "NET IO"),
        ("PIDS", "PIDS"),
        ("PIDs", "PIDS"),
        ("Pod", "POD"),
    ],
    table: "table {{.Pod}}\t{{.CID}}\t{{.Name}}\t{{.CPU}}\t{{.MemUsage}}\t{{.Mem}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDS}}",
    quiet: "{{.CID}}",
};

/// Runs `fluyt pod stats`.
pub fn stats(cli: &Cli, flags: &Parsed) -> Outcome {
    let engine = cli.engine().map_err(failed)?;
    let pods = || -> Result<Vec<PodView>> {
        if flags.args.is_empty() {
            let mut pods = engine.pods()?;
            if flags.on("latest") {
                pods.truncate(1);
            } else if !flags.on("all") {
                pods.retain(|pod| pod.members.iter().any(is_up));
            }
            return Ok(pods);
        }
        flags.args.iter().map(|name| engine.pod(name)).collect()
    };
    let wanted = || {
        let all = pods()?.into_iter().flat_map(|pod| {
            let short = id::short(&pod.id).to_owned();
            pod.members.into_iter().map(move |m| Chosen {
                id: m.id.clone(),
                name: m.name.clone(),
                pod: short.clone(),
            })
        });
        Ok(all.collect())
    };
    let how = stats::Shown {
        layout: &LAYOUT,
        format: flags.text("format"),
        once: flags.on("no-stream"),
        clear: !flags.on("no-reset"),
        trunc: true,
    };
    stats::show(cli.docker().map_err(failed)?, &how, &wanted).map_err(failed)?;
    Ok(0)
}

fn is_up(view: &ContainerView) -> bool {
    matches!(view.status.phase, Phase::Running | Phase::Paused)
}

/// Runs `fluyt pod top`.
pub fn top(cli: &Cli, flags: &Parsed) -> Outcome {
    print_text(&processes(cli, flags).map_err(failed)?)?;
    Ok(0)
}

fn processes(cli: &Cli, flags: &Parsed) -> Result<String> {
    let engine = cli.engine()?;
    let (name, descriptors) = match (flags.on("latest"), flags.args.split_first()) {
        (true, _) => (None, &flags.args[..]),
        (false, Some((name, rest))) => (Some(name), rest),
        (false, None) => (None, &[][..]),
    };
    let pod = single(engine, flags, name)?;
    let mut args: Vec<String> = descriptors.to_vec();
    if args.first().is_some_and(|first| !first.starts_with('-')) {
        // Podman's own words for columns are those of ps for the most part.
        args = vec!["-eo".to_owned(), args.join(",")];
        if !args[1].split(',').any(|column| column == "pid") {
            return Err(Error::invalid("the columns must have pid among them")
                .with_hint(format!("`fluyt pod top {} pid,{}`", pod.name, args[1])));
        }
    }
    let mut out: Vec<Vec<String>> = Vec::new();
    for member in pod.members.iter().filter(|m| is_up(m)) {
        match engine.top(&member.id, &args) {
            // It has ended meanwhile.
            Err(e) if matches!(e.kind(), Kind::Conflict | Kind::NotFound) && args.is_empty() => {}
            table => {
                let (titles, rows) = table?;
                if out.is_empty() {
                    out.push(titles);
                }
                out.extend(rows);
            }
        }
    }
    let text: String = out.iter().map(|row| row.join("\t") + "\n").collect();
    Ok(tabs::align(&text, tabs::TABLE))
}
