//! A registry of our own: `registry serve`, `registry gc`.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use fluyt_docker_api::transfer;
use fluyt_model::quantity::human_size;
use fluyt_model::{Error, Result};
use fluyt_registry::server::{self, Bounds, CollectOptions, LogFormat, ServeOptions};
use fluyt_sys::signals::Signals;

use super::Cli;
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, NONE, Parsed, int, one, switch, text, values};
use crate::cli::print_line;

/// SIGINT and SIGTERM, by their numbers on every architecture of Linux.
const ENDING: [i32; 2] = [2, 15];
/// SIGHUP: logs have been rotated.
const HANGUP: i32 = 1;

/// `fluyt registry serve`.
pub const SERVE: Command = Command {
    name: "serve",
    arguments: "",
    about: "Serve a registry from the data root",
    flags: &[&[
        text(NONE, "access-log", "File for a line about each request; - for standard error"),
        one(NONE, "access-log-format", "format", log_format, "Format of these lines: combined or json")
            .default("combined"),
        text(NONE, "addr", "Address to listen on").default("127.0.0.1:5000"),
        one(
            NONE,
            "cache-age",
            "duration",
            values::duration,
            "Forget what of the cache nobody has asked for for so long",
        ),
        one(
            NONE,
            "cache-size",
            "bytes",
            values::bytes,
            "Keep so many bytes in the cache, the most recently used",
        ),
        text(NONE, "config", "Configuration file: rights, tokens, cache, collection"),
        text(NONE, "htpasswd", "File with users and their bcrypt hashes"),
        int(NONE, "max-connections", "Connections served at once; more wait"),
        text(NONE, "metrics", "Address where counters for Prometheus are shown, at /metrics"),
        text(NONE, "proxy", "Cache the registry with this URL"),
        one(NONE, "proxy-ttl", "duration", values::duration, "How long a cached tag is believed"),
        switch(NONE, "read-only", "Refuse everything that changes something"),
        text(NONE, "tls-cert", "PEM file with the certificate chain"),
        text(NONE, "tls-key", "PEM file with the certificate's key"),
    ]],
    arity: Arity::None,
    interspersed: true,
};

/// `fluyt registry gc`.
pub const GC: Command = Command {
    name: "gc",
    arguments: "",
    about: "Remove what no manifest in the registry needs, also while it serves",
    flags: &[&[
        one(
            NONE,
            "cache-age",
            "duration",
            values::duration,
            "Also what of a cache nobody has asked for for so long",
        ),
        one(NONE, "cache-size", "bytes", values::bytes, "Also what of a cache is more than so many bytes"),
        switch(NONE, "dry-run", "Only count what would be taken out of repositories"),
        one(NONE, "grace", "duration", values::duration, "How long something must be unused").default("1h"),
        switch(NONE, "untagged", "Remove manifests without a tag, too"),
    ]],
    arity: Arity::None,
    interspersed: true,
};

/// Runs `fluyt registry serve` until it is told to end.
pub fn serve(cli: &Cli, flags: &Parsed) -> Outcome {
    cli.only_here()?;
    let path = |name: &str| flags.given(name).map(PathBuf::from);
    // Before the first thread, so that all of them leave these signals to the loop below.
    let signals = Signals::block(&ENDING)?;
    let hangups = Signals::block(&[HANGUP])?;
    let log = if flags.text("access-log-format") == "json" { LogFormat::Json } else { LogFormat::Combined };
    let bound = server::bind(ServeOptions {
        root: cli.root().to_owned(),
        address: flags.text("addr").to_owned(),
        tls: tls(path("tls-cert"), path("tls-key"))?,
        htpasswd: path("htpasswd"),
        config: path("config"),
        proxy: flags.given("proxy").map(str::to_owned),
        proxy_ttl: flags.changed("proxy-ttl").then(|| duration(flags, "proxy-ttl")),
        cache: bounds(flags),
        access_log: path("access-log").map(|path| (path, log)),
        metrics: flags.given("metrics").map(str::to_owned),
        max_connections: usize::try_from(flags.int("max-connections")).ok().filter(|n| *n > 0),
        read_only: flags.on("read-only"),
        settings: transfer::settings()?,
    })?;
    print_line(&format!("registry: listening on {}", bound.address))?;
    if let Some(address) = bound.metrics {
        print_line(&format!("registry: counters at http://{address}/metrics"))?;
    }
    reopen_at(hangups, bound.reopener())?;
    bound.serve(signals.as_fd())?;
    // Taken, or they would have their usual effect as soon as they are no longer held back.
    while signals.next()?.is_some() {}
    Ok(0)
}

/// Does it at every SIGHUP. The thread lives as long as the process.
fn reopen_at(hangups: Signals, reopen: impl Fn() + Send + 'static) -> Result<()> {
    let wait = move || {
        loop {
            let mut fds = [rustix::event::PollFd::new(&hangups, rustix::event::PollFlags::IN)];
            let _ = rustix::event::poll(&mut fds, None);
            if hangups.next().is_ok_and(|signal| signal.is_some()) {
                reopen();
            }
        }
    };
    let spawned = std::thread::Builder::new().name("registry-hangup".to_owned()).spawn(wait);
    spawned.map(drop).map_err(|e| Error::io("starting a thread", e))
}

fn log_format(text: &str) -> std::result::Result<(), String> {
    if matches!(text, "combined" | "json") { Ok(()) } else { Err("must be combined or json".to_owned()) }
}

fn duration(flags: &Parsed, name: &str) -> Duration {
    Duration::from_nanos(u64::try_from(flags.nanos(name)).unwrap_or(0))
}

fn bounds(flags: &Parsed) -> Bounds {
    Bounds {
        size: flags.changed("cache-size").then(|| u64::try_from(flags.bytes("cache-size")).unwrap_or(0)),
        age: flags.changed("cache-age").then(|| duration(flags, "cache-age")),
    }
}

fn tls(certificate: Option<PathBuf>, key: Option<PathBuf>) -> Result<Option<(PathBuf, PathBuf)>> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        (None, None) => Ok(None),
        _ => Err(Error::invalid("--tls-cert and --tls-key are given together or not at all")),
    }
}

/// Runs `fluyt registry gc`.
pub fn gc(cli: &Cli, flags: &Parsed) -> Outcome {
    cli.only_here()?;
    let options = CollectOptions {
        grace: Duration::from_nanos(u64::try_from(flags.nanos("grace")).unwrap_or(0)),
        untagged: flags.on("untagged"),
        dry_run: flags.on("dry-run"),
    };
    let bounds = bounds(flags);
    let mut swept = server::Swept::default();
    if bounds != Bounds::default() && !options.dry_run {
        swept = server::trim(cli.root(), &bounds, options.grace)?;
    }
    let rest = server::collect(cli.root(), &options)?;
    swept.manifests += rest.manifests;
    swept.links += rest.links;
    swept.blobs += rest.blobs;
    swept.bytes += rest.bytes;
    print_line(&format!("Manifests: {}", swept.manifests))?;
    print_line(&format!("Blobs in repositories: {}", swept.links))?;
    if !options.dry_run {
        print_line(&format!("Blobs removed: {}", swept.blobs))?;
        print_line(&format!("Total reclaimed space: {}", human_size(swept.bytes as f64)))?;
    }
    Ok(0)
}
