//! `stats`.

use std::collections::HashMap;
use std::time::Duration;

use fluyt_docker_api::api::{Docker, ListContainers, Next, StatsOf, Wait};
use fluyt_docker_api::types::stats::NetworkStats;
use fluyt_docker_api::types::{ContainerStats, ContainerSummary};
use fluyt_model::quantity::{bytes_size, human_size_with};
use fluyt_model::{Kind, Result, id};

use super::Cli;
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, NONE, Parsed, switch, text};
use crate::cli::format::{self, Layout, Row, rows};
use crate::cli::print_text;

/// Time between two samples.
const INTERVAL: Duration = Duration::from_secs(1);
/// Time over which the only sample of `--no-stream` is taken.
const SHORT: Duration = Duration::from_millis(250);

/// `fluyt stats`.
pub const STATS: Command = Command {
    name: "stats",
    arguments: "[CONTAINER...]",
    about: "Display a live stream of container(s) resource usage statistics",
    flags: &[&[
        switch('a', "all", "Show all containers (default shows just running)"),
        text(NONE, "format", super::list::FORMAT),
        switch(NONE, "no-stream", "Disable streaming stats and only pull the first result"),
        switch(NONE, "no-trunc", "Do not truncate output"),
    ]],
    arity: Arity::AtLeast(0),
    interspersed: true,
};

/// Runs `fluyt stats`.
pub fn stats(cli: &Cli, flags: &Parsed) -> Outcome {
    let docker = cli.docker()?;
    let how = Shown {
        layout: &rows::STATS,
        format: flags.text("format"),
        once: flags.on("no-stream"),
        clear: true,
        trunc: !flags.on("no-trunc"),
    };
    show(docker, &how, &|| wanted(docker, flags))?;
    Ok(0)
}

/// How use is shown.
pub struct Shown<'a> {
    /// The columns.
    pub layout: &'a Layout,
    /// The format as given.
    pub format: &'a str,
    /// One sample only.
    pub once: bool,
    /// A terminal is cleared between samples.
    pub clear: bool,
    /// Ids are shortened.
    pub trunc: bool,
}

/// Shows the use of the containers that `wanted` names, again and again.
///
/// # Errors
/// A container is not there; a template is wrong.
pub fn show(docker: &dyn Docker, how: &Shown<'_>, wanted: &dyn Fn() -> Result<Vec<Chosen>>) -> Result<()> {
    let template = format::choose(how.layout, how.format, false);
    let once = how.once;
    let clear =
        how.clear && !once && template.starts_with("table") && crate::cli::terminal::stdout_is_terminal();
    let mut before: HashMap<String, ContainerStats> = HashMap::new();
    // A first look, so that the first line shown has something to compare with.
    sample(docker, &wanted()?, &mut before)?;
    std::thread::sleep(SHORT);
    loop {
        let chosen = wanted()?;
        let rows = sample(docker, &chosen, &mut before)?
            .into_iter()
            .map(|(chosen, pair)| row(chosen, pair.as_ref(), how.trunc));
        let mut text = format::render(how.layout, template, rows)?;
        if clear {
            text = format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"));
        }
        print_text(&text)?;
        // As with Docker, watching named containers goes on when they stop.
        if once {
            return Ok(());
        }
        std::thread::sleep(INTERVAL);
    }
}

/// A container whose use is shown.
pub struct Chosen {
    /// Full id.
    pub id: String,
    /// Name.
    pub name: String,
    /// The pod that it is shown in, as it is shown; empty: none.
    pub pod: String,
}

fn wanted(docker: &dyn Docker, flags: &Parsed) -> Result<Vec<Chosen>> {
    let bare = |name: &str| name.strip_prefix('/').unwrap_or(name).to_owned();
    if !flags.args.is_empty() {
        let one = |name: &String| {
            let found = docker.container_inspect(name, false)?;
            Ok(Chosen { name: bare(&found.name), id: found.id, pod: String::new() })
        };
        return flags.args.iter().map(one).collect();
    }
    let all = flags.on("all");
    let list = docker.container_list(&ListContainers { all, ..ListContainers::default() })?;
    let up = |c: &ContainerSummary| all || matches!(c.state.as_str(), "running" | "paused");
    let name = |c: &ContainerSummary| c.names.first().map(|n| bare(n)).unwrap_or_default();
    let one = |c: ContainerSummary| Chosen { name: name(&c), id: c.id, pod: String::new() };
    Ok(list.into_iter().filter(up).map(one).collect())
}

type Pair = (ContainerStats, ContainerStats);

/// Each container with its sample and the one before it, if it runs.
fn sample<'a>(
    docker: &dyn Docker,
    chosen: &'a [Chosen],
    before: &mut HashMap<String, ContainerStats>,
) -> Result<Vec<(&'a Chosen, Option<Pair>)>> {
    let mut out = Vec::with_capacity(chosen.len());
    for one in chosen {
        let now = match docker.container_stats(&one.id, StatsOf { stream: false, one_shot: true }) {
            Ok(mut stream) => stream.next(Wait::FOREVER)?,
            Err(e) if matches!(e.kind(), Kind::Conflict | Kind::NotFound) => Next::End,
            Err(e) => return Err(e),
        };
        let pair = match now {
            // Of a container that does not run there is a sample of nothing.
            Next::Item(now) if now.cpu_stats.system_cpu_usage > 0 => {
                let last = before.insert(one.id.clone(), now.clone());
                Some((last.unwrap_or_else(|| now.clone()), now))
            }
            _ => None,
        };
        out.push((one, pair));
    }
    Ok(out)
}

/// Share of one processor, in percent: 200 is two whole ones.
fn cpu_percent(before: &ContainerStats, now: &ContainerStats) -> f64 {
    let (before, now) = (&before.cpu_stats, &now.cpu_stats);
    let used = now.cpu_usage.total_usage.saturating_sub(before.cpu_usage.total_usage) as f64;
    let machine = now.system_cpu_usage.saturating_sub(before.system_cpu_usage) as f64;
    if machine > 0.0 { used / machine * f64::from(now.online_cpus) * 100.0 } else { 0.0 }
}

/// What is in use without the cache that would be given up first.
fn memory_of(stats: &ContainerStats) -> u64 {
    let memory = &stats.memory_stats;
    let cache = memory.stats.get("total_inactive_file").or_else(|| memory.stats.get("inactive_file"));
    memory.usage.saturating_sub(cache.copied().unwrap_or(0))
}

fn row(chosen: &Chosen, pair: Option<&Pair>, trunc: bool) -> Row {
    let row = columns(chosen, pair, trunc);
    if chosen.pod.is_empty() {
        return row;
    }
    // Podman's names of columns, beside Docker's.
    let same = [("CID", "ID"), ("CPU", "CPUPerc"), ("Mem", "MemPerc"), ("PIDS", "PIDs")];
    same.into_iter().fold(row.with("Pod", chosen.pod.clone()), |row, (new, old)| row.with_same(new, old))
}

fn columns(chosen: &Chosen, pair: Option<&Pair>, trunc: bool) -> Row {
    let full = chosen.id.as_str();
    let row = Row::default()
        .with("Container", chosen.name.clone())
        .with("Name", chosen.name.clone())
        .with("ID", if trunc { id::short(full) } else { full });
    let Some((before, now)) = pair else {
        return row
            .with("CPUPerc", "--")
            .with("MemUsage", "-- / --")
            .with("MemPerc", "--")
            .with("NetIO", "--")
            .with("BlockIO", "--")
            .with("PIDs", "--");
    };
    let memory = memory_of(now) as f64;
    let limit = now.memory_stats.limit as f64;
    let percent = if limit > 0.0 { memory / limit * 100.0 } else { 0.0 };
    let sum = |of: fn(&NetworkStats) -> u64| now.networks.values().map(of).sum::<u64>() as f64;
    let moved = |op: &str| {
        let entries = now.blkio_stats.io_service_bytes_recursive.iter();
        entries.filter(|e| e.op.eq_ignore_ascii_case(op)).map(|e| e.value).sum::<u64>() as f64
    };
    let pair = |a: f64, b: f64| format!("{} / {}", human_size_with(a, 3), human_size_with(b, 3));
    row.with("CPUPerc", format!("{:.2}%", cpu_percent(before, now)))
        .with("MemUsage", format!("{} / {}", bytes_size(memory), bytes_size(limit)))
        .with("MemPerc", format!("{percent:.2}%"))
        .with("NetIO", pair(sum(|n| n.rx_bytes), sum(|n| n.tx_bytes)))
        .with("BlockIO", pair(moved("read"), moved("write")))
        .with("PIDs", now.pids_stats.current.to_string())
}
