//! `build`, and the cache that builds leave: `builder du`, `builder prune`.

use fluyt_image::{CacheRecord, Digest};
use fluyt_model::Result;

use super::Cli;
use crate::cli::create::devices::check_ulimit;
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, NONE, Parsed, list, many, one, switch, text, values};
use crate::cli::{print_line, print_text, terminal};

pub use crate::cli::build::build;

/// `fluyt build`.
pub const BUILD: Command = Command {
    name: "build",
    arguments: "PATH | URL | -",
    about: "Start a build",
    flags: &[&[
        list(NONE, "add-host", "Add a custom host-to-IP mapping (format: \"host:ip\")"),
        list(
            NONE,
            "allow",
            "Allow extra privileged entitlement (e.g., \"network.host\", \"security.insecure\")",
        ),
        list(NONE, "annotation", "Add annotation to the image").hidden(),
        list(NONE, "attest", "Attestation parameters (format: \"type=sbom,generator=image\")").hidden(),
        list(NONE, "build-arg", "Set build-time variables"),
        list(NONE, "build-context", "Additional build contexts (e.g., name=path)"),
        text(NONE, "builder", "Override the configured builder instance").hidden(),
        list(
            NONE,
            "cache-from",
            "External cache sources (e.g., \"user/app:cache\", \"type=local,src=path/to/dir\")",
        ),
        list(
            NONE,
            "cache-to",
            "Cache export destinations (e.g., \"user/app:cache\", \"type=local,dest=path/to/dir\")",
        ),
        text(NONE, "call", "Set method for evaluating build (\"check\", \"outline\", \"targets\")")
            .default("build"),
        text(NONE, "cgroup-parent", "Set the parent cgroup for the \"RUN\" instructions during build"),
        switch(NONE, "check", "Shorthand for \"--call=check\""),
        text('f', "file", "Name of the Dockerfile (default: \"PATH/Dockerfile\")"),
        text(NONE, "iidfile", "Write the image ID to a file"),
        list(NONE, "label", "Set metadata for an image"),
        switch(NONE, "load", "Shorthand for \"--output=type=docker\""),
        text(NONE, "metadata-file", "Write build result metadata to a file"),
        text(NONE, "network", "Set the networking mode for the \"RUN\" instructions during build")
            .default("default"),
        switch(NONE, "no-cache", "Do not use cache when building the image"),
        list(NONE, "no-cache-filter", "Do not cache specified stages"),
        list('o', "output", "Output destination (format: \"type=local,dest=path\")"),
        list(NONE, "platform", "Set target platform for build"),
        switch(NONE, "print-graph", "Print the operations of the build as JSON instead of building"),
        text(
            NONE,
            "progress",
            "Set type of progress output (\"auto\", \"plain\", \"quiet\", \"rawjson\", \"tty\")",
        )
        .default("auto"),
        text(NONE, "provenance", "Shorthand for \"--attest=type=provenance\""),
        switch(NONE, "pull", "Always attempt to pull all referenced images"),
        switch(NONE, "push", "Shorthand for \"--output=type=registry,unpack=false\""),
        switch('q', "quiet", "Suppress the build output and print image ID on success"),
        switch(NONE, "rm", "Remove intermediate containers after a successful build")
            .default("true")
            .hidden(),
        switch(NONE, "force-rm", "Always remove intermediate containers").hidden(),
        text(NONE, "sbom", "Shorthand for \"--attest=type=sbom\""),
        list(NONE, "secret", "Secret to expose to the build (format: \"id=mysecret[,src=/local/secret]\")"),
        one(NONE, "shm-size", "bytes", values::bytes, "Shared memory size for build containers").default("0"),
        list(
            NONE,
            "ssh",
            "SSH agent socket or keys to expose to the build (format: \"default|<id>[=<socket>]\")",
        ),
        list('t', "tag", "Image identifier (format: \"[registry/]repository[:tag]\")"),
        text(NONE, "target", "Set the target build stage to build"),
        many(NONE, "ulimit", "ulimit", check_ulimit, "Ulimit options"),
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
};

/// `fluyt builder du`.
pub const DU: Command = Command {
    name: "du",
    arguments: "",
    about: "Disk usage of the build cache",
    flags: &[&[switch(NONE, "verbose", "Provide a more verbose output")]],
    arity: Arity::None,
    interspersed: true,
};

/// `fluyt builder prune`.
pub const PRUNE: Command = Command {
    name: "prune",
    arguments: "",
    about: "Remove build cache",
    flags: &[&[
        switch('a', "all", "Remove all build cache, not just dangling ones"),
        list(NONE, "filter", "Provide filter values (e.g., \"until=24h\")"),
        switch('f', "force", "Do not prompt for confirmation"),
        one(NONE, "keep-storage", "bytes", values::bytes, "Amount of disk space to keep for cache")
            .default("0"),
    ]],
    arity: Arity::None,
    interspersed: true,
};

/// Runs `fluyt builder du`.
pub fn du(cli: &Cli, flags: &Parsed) -> Outcome {
    let store = cli.engine()?.images();
    let records = results(store.cache_list()?);
    let mut text = String::new();
    let mut total = 0;
    if !flags.on("verbose") {
        text.push_str(&format!("{:<25} {:<12} {:<12} {}\n", "ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED"));
    }
    for record in &records {
        let size = record.layers.last().map_or(0, |layer| layer.size);
        total += size;
        let shown = size_text(size);
        let age = fluyt_image::time::now() - record.used;
        if flags.on("verbose") {
            text.push_str(&format!(
                "ID:\t\t{}\nReclaimable:\ttrue\nSize:\t\t{shown}\nDescription:\t{}\nUsage count:\t{}\nLast used:\t{age} seconds ago\n\n",
                record.key.short(),
                record.note,
                record.uses
            ));
        } else {
            text.push_str(&format!(
                "{:<25} {:<12} {shown:<12} {age} seconds ago\n",
                record.key.short(),
                "true"
            ));
        }
    }
    text.push_str(&format!("Total:\t\t{}\n", size_text(total)));
    print_text(&text)?;
    Ok(0)
}

/// One record for each result: several keys may lead to it.
fn results(records: Vec<CacheRecord>) -> Vec<CacheRecord> {
    let mut seen: Vec<Vec<Digest>> = Vec::new();
    records
        .into_iter()
        .filter(|record| {
            let layers: Vec<Digest> = record.layers.iter().map(|layer| layer.key.clone()).collect();
            let fresh = !seen.contains(&layers);
            seen.push(layers);
            fresh
        })
        .collect()
}

/// Runs `fluyt builder prune`.
pub fn prune(cli: &Cli, flags: &Parsed) -> Outcome {
    const QUESTION: &str = "WARNING! This will remove all build cache. Are you sure you want to continue?";
    if !flags.on("force") && !terminal::confirm(QUESTION) {
        return Ok(0);
    }
    let engine = cli.engine()?;
    let store = engine.images();
    let mut until = None;
    for filter in flags.all("filter") {
        match filter.split_once('=') {
            Some(("until" | "unused-for", age)) => {
                let nanos = fluyt_model::quantity::parse_duration(age)?;
                until = Some(fluyt_image::time::now() - nanos / 1_000_000_000);
            }
            _ => {
                return Err(fluyt_model::Error::invalid(format!("invalid filter {filter:?}"))
                    .with_hint("until=DURATION is known")
                    .into());
            }
        }
    }
    let keep = u64::try_from(flags.bytes("keep-storage")).unwrap_or(0);
    let keys = doomed(store.cache_list()?, until, keep);
    store.cache_remove(&keys)?;
    let mut freed = 0;
    if until.is_none() && keep == 0 {
        freed += remove_mounts(&cli.root().join("build").join("mounts"))?;
    }
    freed += engine.collect()?;
    for key in &keys {
        print_line(key.short())?;
    }
    print_line(&format!("Total:\t{}", size_text(freed)))?;
    Ok(0)
}

/// The keys that go: not used since `until`, or the oldest beyond `keep` bytes.
fn doomed(records: Vec<CacheRecord>, until: Option<i64>, keep: u64) -> Vec<Digest> {
    let mut kept = 0;
    let mut seen: std::collections::BTreeSet<Digest> = std::collections::BTreeSet::new();
    let mut doomed = Vec::new();
    for record in records {
        if until.is_some_and(|until| record.used > until) {
            continue;
        }
        let size: u64 =
            record.layers.iter().filter(|layer| seen.insert(layer.key.clone())).map(|layer| layer.size).sum();
        kept += size;
        if keep == 0 || kept > keep {
            doomed.push(record.key);
        }
    }
    doomed
}

/// Removes the directories of cache mounts that no build uses; how many bytes that gave back.
fn remove_mounts(dir: &std::path::Path) -> Result<u64> {
    use fluyt_model::error::IoContext;
    let mut freed = 0;
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(lock) = std::fs::File::open(&path) else { continue };
        if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        freed += fluyt_image::usage::disk_usage(&path)?;
        std::fs::remove_dir_all(&path).about(|| path.display().to_string())?;
    }
    Ok(freed)
}

#[allow(clippy::cast_precision_loss)]
fn size_text(bytes: u64) -> String {
    fluyt_model::quantity::human_size(bytes as f64)
}
