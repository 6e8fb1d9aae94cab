//! The Docker-compatible command line.

mod archive;
mod build;
mod cmd;
pub mod context;
pub mod create;
pub mod fail;
pub mod flags;
pub mod format;
mod output;
mod progress;
pub mod terminal;
mod tree;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use fluyt_docker_api::{filter, render, time};
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};

use context::Options;

/// Prints a line on standard output.
///
/// # Errors
/// Standard output cannot be written.
pub fn print_line(line: &str) -> Result<()> {
    print_text(&format!("{line}\n"))
}

/// Prints on standard output.
///
/// # Errors
/// Standard output cannot be written.
pub fn print_text(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).about(|| "standard output")
}

/// The data root that is used when none is named.
const DEFAULT_ROOT: &str = "/var/lib/fluyt";

/// Runs the command that `words` (without the program's own name) ask for; returns the exit code.
pub fn main(words: impl IntoIterator<Item = OsString>) -> i32 {
    let words: Vec<String> = match words.into_iter().map(OsString::into_string).collect() {
        Ok(words) => words,
        Err(word) => {
            let error = Error::invalid(format!("argument {}: not UTF-8", word.to_string_lossy()));
            fail::print(&error);
            return 125;
        }
    };
    match globals(&words) {
        Ok(Start::Command { root, options, rest }) => {
            // Never dropped: closing the record file tidily would cost every command a checkpoint and its two
            // syncs, and the process ends right after this.
            let cli = std::mem::ManuallyDrop::new(cmd::Cli::new(root, *options));
            tree::dispatch(&cli, cmd::ROOT, rest)
        }
        Ok(Start::Version) => {
            let _ = print_line(&format!("fluyt version {}", env!("CARGO_PKG_VERSION")));
            0
        }
        Err(error) => {
            fail::print(&error);
            125
        }
    }
}

/// What the words before the command say.
enum Start<'a> {
    /// Run what the rest asks for.
    Command {
        /// The data root.
        root: PathBuf,
        /// Which daemon is spoken to.
        options: Box<Options>,
        /// From the command's word on.
        rest: &'a [String],
    },
    /// Print the version.
    Version,
}

/// Reads the options before the command.
fn globals(words: &[String]) -> Result<Start<'_>> {
    let mut root = std::env::var_os("FLUYT_ROOT").filter(|r| !r.is_empty()).map(PathBuf::from);
    let mut options = Box::<Options>::default();
    let mut rest = words;
    while let Some((word, after)) = rest.split_first() {
        let (name, glued) = split(word);
        match name {
            "-v" | "--version" => return Ok(Start::Version),
            "-D" | "--debug" => rest = after,
            "--tls" => (options.tls, rest) = (Some(boolean(name, glued)?), after),
            "--tlsverify" => (options.tls_verify, rest) = (Some(boolean(name, glued)?), after),
            "--root" | "-l" | "--log-level" | "-H" | "--host" | "-c" | "--context" | "--config"
            | "--tlscacert" | "--tlscert" | "--tlskey" => {
                let (value, after) = match (glued, after.split_first()) {
                    (Some(value), _) => (value.to_owned(), after),
                    (None, Some((value, after))) => (value.clone(), after),
                    (None, None) => return Err(Error::invalid(format!("flag needs an argument: {name}"))),
                };
                let path = || Some(PathBuf::from(&value));
                match name {
                    "--root" => root = path(),
                    "--config" => options.config = path(),
                    "--tlscacert" => options.ca = path(),
                    "--tlscert" => options.cert = path(),
                    "--tlskey" => options.key = path(),
                    "-c" | "--context" => options.context = Some(value).filter(|v| !v.is_empty()),
                    "-H" | "--host" if options.host.is_some() => {
                        return Err(Error::invalid("specify only one -H"));
                    }
                    "-H" | "--host" => options.host = Some(value).filter(|v| !v.is_empty()),
                    _ => {}
                }
                rest = after;
            }
            _ => break,
        }
    }
    let root = root.unwrap_or_else(|| PathBuf::from(DEFAULT_ROOT));
    let root = std::path::absolute(&root).about(|| root.display().to_string())?;
    Ok(Start::Command { root, options, rest })
}

/// `--name=value`, and `-Hvalue` as short flags may be written.
fn split(word: &str) -> (&str, Option<&str>) {
    if word.starts_with("--") {
        return word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
    }
    match word.get(..2) {
        Some(name @ ("-H" | "-c" | "-l")) if word.len() > 2 => {
            let value = &word[2..];
            (name, Some(value.strip_prefix('=').unwrap_or(value)))
        }
        _ => (word, None),
    }
}

fn boolean(name: &str, text: Option<&str>) -> Result<bool> {
    let Some(text) = text else { return Ok(true) };
    fluyt_docker_api::filter::boolean(text)
        .ok_or_else(|| Error::invalid(format!("invalid argument {text:?} for {name:?} flag")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_root_stands_before_the_command() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let root_of = |line: &str| match globals(&words(line)) {
            Ok(Start::Command { root, options, rest }) => {
                let host = options.host.map(|host| format!("{host} ")).unwrap_or_default();
                format!("{host}{} {}", root.display(), rest.join(" "))
            }
            Ok(Start::Version) => "version".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(root_of("--root /a -D ps -a"), "/a ps -a");
        assert_eq!(root_of("--root=/a -l debug ps"), "/a ps");
        assert_eq!(root_of("-v"), "version");
        assert_eq!(root_of("--root"), "flag needs an argument: --root");
        assert_eq!(root_of("--root /a -H tcp://x ps"), "tcp://x /a ps");
        assert_eq!(root_of("--root /a -Htcp://x --tls=0 ps -c"), "tcp://x /a ps -c");
        assert_eq!(root_of("-H a -H b ps"), "specify only one -H");
        assert_eq!(root_of("--tls=x ps"), "invalid argument \"x\" for \"--tls\" flag");
    }
}
