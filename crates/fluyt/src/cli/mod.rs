//! The Docker-compatible command line.

mod archive;
mod build;
mod cmd;
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
        Ok(Start::Command { root, rest }) => {
            // Never dropped: closing the record file tidily would cost every command a checkpoint and its two
            // syncs, and the process ends right after this.
            let cli = std::mem::ManuallyDrop::new(cmd::Cli::new(root));
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
        /// From the command's word on.
        rest: &'a [String],
    },
    /// Print the version.
    Version,
}

/// Reads the options before the command. Those that tell Docker's client where its daemon is have no meaning here.
fn globals(words: &[String]) -> Result<Start<'_>> {
    let mut root = std::env::var_os("FLUYT_ROOT").filter(|r| !r.is_empty()).map(PathBuf::from);
    let mut rest = words;
    while let Some((word, after)) = rest.split_first() {
        let (name, glued) = word.split_once('=').map_or((word.as_str(), None), |(n, v)| (n, Some(v)));
        match name {
            "-v" | "--version" => return Ok(Start::Version),
            "-D" | "--debug" | "--tls" | "--tlsverify" => rest = after,
            "--root" | "-l" | "--log-level" => {
                let (value, after) = match (glued, after.split_first()) {
                    (Some(value), _) => (value.to_owned(), after),
                    (None, Some((value, after))) => (value.clone(), after),
                    (None, None) => return Err(Error::invalid(format!("flag needs an argument: {name}"))),
                };
                if name == "--root" {
                    root = Some(PathBuf::from(value));
                }
                rest = after;
            }
            "-H" | "--host" | "-c" | "--context" => {
                return Err(Error::unsupported(format!("{name}: there is no daemon to talk to"))
                    .with_hint("choose another data root with --root or FLUYT_ROOT"));
            }
            _ => break,
        }
    }
    let root = root.unwrap_or_else(|| PathBuf::from(DEFAULT_ROOT));
    let root = std::path::absolute(&root).about(|| root.display().to_string())?;
    Ok(Start::Command { root, rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_root_stands_before_the_command() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let root_of = |line: &str| match globals(&words(line)) {
            Ok(Start::Command { root, rest }) => format!("{} {}", root.display(), rest.join(" ")),
            Ok(Start::Version) => "version".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(root_of("--root /a -D ps -a"), "/a ps -a");
        assert_eq!(root_of("--root=/a -l debug ps"), "/a ps");
        assert_eq!(root_of("-v"), "version");
        assert_eq!(root_of("--root"), "flag needs an argument: --root");
        assert_eq!(root_of("-H tcp://x ps"), "-H: there is no daemon to talk to");
    }
}
