//! A registry of our own: `registry serve`, `registry gc`.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use fluyt_model::quantity::human_size;
use fluyt_model::{Error, Result};
use fluyt_registry::server::{self, CollectOptions, ServeOptions};
use fluyt_sys::signals::Signals;

use super::Cli;
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, NONE, Parsed, one, switch, text, values};
use crate::cli::print_line;

/// SIGINT and SIGTERM, by their numbers on every architecture of Linux.
const ENDING: [i32; 2] = [2, 15];

/// `fluyt registry serve`.
pub const SERVE: Command = Command {
    name: "serve",
    arguments: "",
    about: "Serve a registry from the data root",
    flags: &[&[
        text(NONE, "addr", "Address to listen on").default("127.0.0.1:5000"),
        text(NONE, "config", "Configuration file: rights, tokens, cache, collection"),
        text(NONE, "htpasswd", "File with users and their bcrypt hashes"),
        text(NONE, "proxy", "Cache the registry with this URL"),
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
        switch(NONE, "dry-run", "Only count what would be taken out of repositories"),
        one(NONE, "grace", "duration", values::duration, "How long something must be unused").default("1h"),
        switch(NONE, "untagged", "Remove manifests without a tag, too"),
    ]],
    arity: Arity::None,
    interspersed: true,
};

/// Runs `fluyt registry serve` until it is told to end.
pub fn serve(cli: &Cli, flags: &Parsed) -> Outcome {
    let path = |name: &str| flags.given(name).map(PathBuf::from);
    // Before the first thread, so that all of them leave these signals to the loop below.
    let signals = Signals::block(&ENDING)?;
    let bound = server::bind(ServeOptions {
        root: cli.root().to_owned(),
        address: flags.text("addr").to_owned(),
        tls: tls(path("tls-cert"), path("tls-key"))?,
        htpasswd: path("htpasswd"),
        config: path("config"),
        proxy: flags.given("proxy").map(str::to_owned),
        read_only: flags.on("read-only"),
        settings: super::registry::settings()?,
    })?;
    print_line(&format!("registry: listening on {}", bound.address))?;
    bound.serve(signals.as_fd())?;
    // Taken, or they would have their usual effect as soon as they are no longer held back.
    while signals.next()?.is_some() {}
    Ok(0)
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
    let options = CollectOptions {
        grace: Duration::from_nanos(u64::try_from(flags.nanos("grace")).unwrap_or(0)),
        untagged: flags.on("untagged"),
        dry_run: flags.on("dry-run"),
    };
    let swept = server::collect(cli.root(), &options)?;
    print_line(&format!("Manifests: {}", swept.manifests))?;
    print_line(&format!("Blobs in repositories: {}", swept.links))?;
    if !options.dry_run {
        print_line(&format!("Blobs removed: {}", swept.blobs))?;
        print_line(&format!("Total reclaimed space: {}", human_size(swept.bytes as f64)))?;
    }
    Ok(0)
}
