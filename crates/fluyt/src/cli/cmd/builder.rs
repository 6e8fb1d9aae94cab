//! `builder du` and `builder prune`: what the build cache takes, and making room in it.

use fluyt_docker_api::api::{Docker, PruneBuilds};
use fluyt_docker_api::filter::Filters;
use fluyt_docker_api::render::cache::parents;
use fluyt_docker_api::select::cache::Wanted;
use fluyt_docker_api::types::BuildCacheEntry;
use fluyt_engine::build_cache::{CacheEntry, Limits, private_bytes};
use fluyt_gotmpl::Value;
use fluyt_model::quantity::{human_duration, human_size};
use fluyt_model::{Error, Result};

use super::Cli;
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, Flag, NONE, Parsed, list, one, switch, text, values};
use crate::cli::format::{self, Layout, Row, rows};
use crate::cli::{print_line, print_text, terminal, time};

const FILTER: Flag = list(NONE, "filter", "Provide filter values (e.g., \"until=24h\")");

/// `fluyt builder du`.
pub const DU: Command = Command {
    name: "du",
    arguments: "",
    about: "Disk usage of the build cache",
    flags: &[&[
        FILTER,
        text(NONE, "format", super::list::FORMAT),
        switch(NONE, "verbose", "Provide a more verbose output"),
    ]],
    arity: Arity::None,
    interspersed: true,
};

/// `fluyt builder prune`.
pub const PRUNE: Command = Command {
    name: "prune",
    arguments: "",
    about: "Remove build cache",
    flags: &[&[
        switch('a', "all", "Remove all unused build cache, not just dangling ones"),
        FILTER,
        switch('f', "force", "Do not prompt for confirmation"),
        one(NONE, "keep-storage", "bytes", values::bytes, "Amount of disk space to keep for cache")
            .default("0"),
        one(
            NONE,
            "max-used-space",
            "bytes",
            values::bytes,
            "Maximum amount of disk space allowed to keep for cache",
        )
        .default("0"),
        one(NONE, "min-free-space", "bytes", values::bytes, "Target amount of free disk space after pruning")
            .default("0"),
        one(
            NONE,
            "reserved-space",
            "bytes",
            values::bytes,
            "Amount of disk space always allowed to keep for cache",
        )
        .default("0"),
        switch(NONE, "verbose", "Provide a more verbose output"),
    ]],
    arity: Arity::None,
    interspersed: true,
};

/// Columns of `builder du`.
const USE: Layout = Layout {
    type_name: "*du.diskusageContext",
    headers: &[
        ("CreatedAt", "CREATED AT"),
        ("Description", "DESCRIPTION"),
        ("ID", "ID"),
        ("InUse", "IN USE"),
        ("LastUsedAt", "LAST USED AT"),
        ("LastUsedSince", "LAST ACCESSED"),
        ("Mutable", "MUTABLE"),
        ("Parents", "PARENTS"),
        ("Reclaimable", "RECLAIMABLE"),
        ("Shared", "SHARED"),
        ("Size", "SIZE"),
        ("Type", "TYPE"),
        ("UsageCount", "USAGE COUNT"),
    ],
    table: "table {{.ID}}\t{{.Reclaimable}}\t{{.Size}}\t{{.LastUsedSince}}",
    quiet: "{{.ID}}",
};

fn row(entry: &CacheEntry, now: i64) -> Row {
    let stamp = |seconds: i64| time::rfc3339_nano(seconds * 1_000_000_000);
    Row::default()
        .with("CreatedAt", stamp(entry.created))
        .with("Description", entry.description.clone())
        .with("ID", entry.id.clone())
        .with_value("InUse", Value::from(entry.in_use))
        .with("LastUsedAt", stamp(entry.used))
        .with("LastUsedSince", since(entry.used, now))
        .with_value("Mutable", Value::from(entry.mutable))
        .with_value("Parents", Value::from(&serde_json::Value::from(parents(entry))))
        .with_value("Reclaimable", Value::from(!entry.in_use))
        .with_value("Shared", Value::from(entry.shared))
        .with("Size", human_size(entry.size as f64))
        .with("Type", entry.kind.clone())
        .with_value("UsageCount", Value::from(i64::try_from(entry.uses).unwrap_or(i64::MAX)))
}

fn since(then: i64, now: i64) -> String {
    format!("{} ago", human_duration(now.saturating_sub(then * 1_000_000_000)))
}

/// Runs `fluyt builder du`.
pub fn du(cli: &Cli, flags: &Parsed) -> Outcome {
    let wanted = Wanted::read(flags.all("filter"))?;
    let mut entries = cli.engine()?.build_cache()?;
    entries.retain(|entry| wanted.names(entry));
    let (now, format) = (time::now(), flags.text("format"));
    if flags.on("verbose") && format.is_empty() {
        print_text(&verbose(&entries, now))?;
    } else {
        let template = format::choose(&USE, format, false);
        print_text(&format::render(&USE, template, entries.iter().map(|entry| row(entry, now)))?)?;
    }
    if matches!(format, "" | "table") {
        print_text(&totals(&entries))?;
    }
    Ok(0)
}

fn verbose(entries: &[CacheEntry], now: i64) -> String {
    let mut text = String::new();
    for entry in entries {
        text.push_str(&format!("ID:\t\t{}\n", entry.id));
        if !entry.parent.is_empty() {
            text.push_str(&format!("Parents:\t{}\n", entry.parent));
        }
        text.push_str(&format!(
            "Created at:\t{}\nMutable:\t{}\nReclaimable:\t{}\nShared:\t\t{}\nSize:\t\t{}\nDescription:\t{}\nUsage count:\t{}\n\
             Last used:\t{}\nType:\t\t{}\n\n",
            time::rfc3339_nano(entry.created * 1_000_000_000),
            entry.mutable,
            !entry.in_use,
            entry.shared,
            human_size(entry.size as f64),
            entry.description,
            entry.uses,
            since(entry.used, now),
            entry.kind,
        ));
    }
    text
}

/// What all of it takes: with images and without.
fn totals(entries: &[CacheEntry]) -> String {
    let private = private_bytes(entries);
    let free: Vec<CacheEntry> = entries.iter().filter(|e| !e.in_use).cloned().collect();
    let shared: u64 = entries.iter().filter(|e| e.shared).map(|e| e.size).sum();
    let mut text = String::new();
    if shared > 0 {
        text.push_str(&format!(
            "Shared:\t\t{}\nPrivate:\t{}\n",
            human_size(shared as f64),
            human_size(private as f64)
        ));
    }
    text.push_str(&format!(
        "Reclaimable:\t{}\nTotal:\t\t{}\n",
        human_size(private_bytes(&free) as f64),
        human_size((private + shared) as f64)
    ));
    text
}

/// Runs `fluyt builder prune`.
pub fn prune(cli: &Cli, flags: &Parsed) -> Outcome {
    let all = flags.on("all");
    let question = if all {
        "WARNING! This will remove all build cache. Are you sure you want to continue?"
    } else {
        "WARNING! This will remove all dangling build cache. Are you sure you want to continue?"
    };
    let wanted = Wanted::read(flags.all("filter"))?;
    let size = |name: &str| u64::try_from(flags.bytes(name)).unwrap_or(0);
    let limits = Limits {
        reserved: size("reserved-space").max(size("keep-storage")),
        max_used: size("max-used-space"),
        min_free: size("min-free-space"),
    };
    if limits.max_used > 0 && limits.reserved > limits.max_used {
        return Err(Error::invalid("--reserved-space is more than --max-used-space").into());
    }
    if !flags.on("force") && !terminal::confirm(question) {
        return Ok(0);
    }
    if let Some(remote) = cli.remote()? {
        return prune_at(remote, flags, &limits);
    }
    let names = |entry: &CacheEntry| (all || !entry.shared) && wanted.names(entry);
    let engine = cli.engine()?;
    let pruned = engine.prune_build_cache(&names, limits)?;
    for id in &pruned.removed {
        print_line(id)?;
    }
    print_line(&format!("Total:\t{}", human_size(pruned.bytes as f64)))?;
    Ok(0)
}

/// The same at a daemon.
fn prune_at(docker: &dyn Docker, flags: &Parsed, limits: &Limits) -> Outcome {
    const FILTERS: [&str; 8] = ["description", "id", "inuse", "parent", "private", "shared", "type", "until"];
    let some = |bytes: u64| Some(bytes).filter(|n| *n > 0);
    let wanted = PruneBuilds {
        all: flags.on("all"),
        reserved_space: some(limits.reserved),
        max_used_space: some(limits.max_used),
        min_free_space: some(limits.min_free),
        filters: Filters::parse(flags.all("filter"), &FILTERS)?,
    };
    let pruned = docker.build_prune(&wanted)?;
    for id in &pruned.deleted {
        print_line(id)?;
    }
    print_line(&format!("Total:\t{}", human_size(pruned.space as f64)))?;
    Ok(0)
}

/// The row of `system df`.
pub fn summary(entries: &[BuildCacheEntry]) -> Row {
    let used = entries.iter().filter(|e| e.in_use).count();
    let free = own_bytes(entries.iter().filter(|e| !e.in_use));
    rows::disk_usage("Build Cache", entries.len(), used, own_bytes(entries.iter()), free)
}

/// What entries take that no image has too.
fn own_bytes<'a>(entries: impl Iterator<Item = &'a BuildCacheEntry>) -> u64 {
    entries.filter(|e| !e.shared).map(|e| u64::try_from(e.size).unwrap_or(0)).sum()
}

/// The section of `system df -v`.
///
/// # Errors
/// None that a user could cause.
pub fn details(entries: &[BuildCacheEntry]) -> Result<String> {
    const TABLE: &str = "table {{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}";
    const LAYOUT: Layout = Layout {
        type_name: "*formatter.buildCacheContext",
        headers: &[
            ("CacheType", "CACHE TYPE"),
            ("CreatedSince", "CREATED"),
            ("ID", "CACHE ID"),
            ("LastUsedSince", "LAST USED"),
            ("Shared", "SHARED"),
            ("Size", "SIZE"),
            ("UsageCount", "USAGE"),
        ],
        table: TABLE,
        quiet: "{{.ID}}",
    };
    let seconds = |stamp: &str| time::stamp(stamp).unwrap_or(0) / 1_000_000_000;
    let now = time::now();
    let lines = entries.iter().map(|entry| {
        Row::default()
            .with("CacheType", entry.kind.clone())
            .with("CreatedSince", since(seconds(&entry.created_at), now))
            .with("ID", entry.id.clone())
            .with("LastUsedSince", since(entry.last_used_at.as_deref().map_or(0, seconds), now))
            .with_value("Shared", Value::from(entry.shared))
            .with("Size", human_size(entry.size as f64))
            .with("UsageCount", entry.usage_count.to_string())
    });
    let table = format::render(&LAYOUT, TABLE, lines)?;
    Ok(format!("Build cache usage: {}\n\n{table}", human_size(own_bytes(entries.iter()) as f64)))
}
