//! `stats`.

use std::collections::HashMap;
use std::time::Duration;

use fluyt_engine::{ContainerView, Engine, Stats};
use fluyt_model::quantity::{bytes_size, human_size_with};
use fluyt_model::sandbox::Phase;
use fluyt_model::{Kind, Result, id};

use super::Cli;
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, NONE, Parsed, switch, text};
use crate::cli::format::{self, Row, rows};
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
    let engine = cli.engine()?;
    let template = format::choose(&rows::STATS, flags.text("format"), false);
    let once = flags.on("no-stream");
    let clear = !once && template.starts_with("table") && crate::cli::terminal::stdout_is_terminal();
    let mut before: HashMap<String, Stats> = HashMap::new();
    // A first look, so that the first line shown has something to compare with.
    sample(engine, &wanted(engine, flags)?, &mut before)?;
    std::thread::sleep(SHORT);
    loop {
        let views = wanted(engine, flags)?;
        let rows = sample(engine, &views, &mut before)?
            .into_iter()
            .map(|(view, pair)| row(view, pair.as_ref(), !flags.on("no-trunc")));
        let mut text = format::render(&rows::STATS, template, rows)?;
        if clear {
            text = format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"));
        }
        print_text(&text)?;
        // As with Docker, watching named containers goes on when they stop.
        if once {
            return Ok(0);
        }
        std::thread::sleep(INTERVAL);
    }
}

fn wanted(engine: &Engine, flags: &Parsed) -> Result<Vec<ContainerView>> {
    if !flags.args.is_empty() {
        return flags.args.iter().map(|name| engine.container(name)).collect();
    }
    let all = flags.on("all");
    let up = |v: &ContainerView| matches!(v.status.phase, Phase::Running | Phase::Paused);
    Ok(engine.list()?.into_iter().filter(|v| all || up(v)).collect())
}

type Pair = (Stats, Stats);

/// Each container with its sample and the one before it, if it runs.
fn sample<'a>(
    engine: &Engine,
    views: &'a [ContainerView],
    before: &mut HashMap<String, Stats>,
) -> Result<Vec<(&'a ContainerView, Option<Pair>)>> {
    let mut out = Vec::with_capacity(views.len());
    for view in views {
        let pair = match engine.stats(&view.id) {
            Ok(now) => {
                let last = before.insert(view.id.clone(), now.clone());
                Some((last.unwrap_or_else(|| now.clone()), now))
            }
            Err(e) if matches!(e.kind(), Kind::Conflict | Kind::NotFound) => None,
            Err(e) => return Err(e),
        };
        out.push((view, pair));
    }
    Ok(out)
}

/// Share of one processor, in percent: 200 is two whole ones.
fn cpu_percent(before: &Stats, now: &Stats) -> f64 {
    let used = now.cpu_total.saturating_sub(before.cpu_total) as f64;
    let machine = now.machine_cpu.saturating_sub(before.machine_cpu) as f64;
    if machine > 0.0 { used / machine * f64::from(now.online_cpus) * 100.0 } else { 0.0 }
}

fn row(view: &ContainerView, pair: Option<&Pair>, trunc: bool) -> Row {
    let full = view.id.as_str();
    let row = Row::default()
        .with("Container", view.name.clone())
        .with("Name", view.name.clone())
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
    let memory = now.memory.saturating_sub(now.inactive_file) as f64;
    let limit = now.memory_limit as f64;
    let percent = if limit > 0.0 { memory / limit * 100.0 } else { 0.0 };
    let sum = |at: usize| now.networks.iter().map(|(_, counters)| counters[at]).sum::<u64>() as f64;
    let pair = |a: f64, b: f64| format!("{} / {}", human_size_with(a, 3), human_size_with(b, 3));
    row.with("CPUPerc", format!("{:.2}%", cpu_percent(before, now)))
        .with("MemUsage", format!("{} / {}", bytes_size(memory), bytes_size(limit)))
        .with("MemPerc", format!("{percent:.2}%"))
        .with("NetIO", pair(sum(0), sum(4)))
        .with("BlockIO", pair(now.blkio.0 as f64, now.blkio.1 as f64))
        .with("PIDs", now.pids.to_string())
}
