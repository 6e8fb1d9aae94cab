//! `completion` and `man`.

use std::path::Path;

use super::{ABOUT, Cli, ROOT};
use crate::cli::fail::Outcome;
use crate::cli::flags::{self, Arity, Command, Parsed};
use crate::cli::tree;

/// `fluyt completion`.
pub const COMPLETION: Command = Command {
    name: "completion",
    arguments: "bash|zsh|fish",
    about: "Generate the autocompletion script for the specified shell",
    flags: &[],
    arity: Arity::Exactly(1),
    interspersed: true,
};

/// `fluyt man`.
pub const MAN: Command = Command {
    name: "man",
    arguments: "DIRECTORY",
    about: "Write the manual pages into a directory",
    flags: &[],
    arity: Arity::Exactly(1),
    interspersed: true,
};

/// Runs `fluyt completion`.
pub fn completion(_: &Cli, given: &Parsed) -> Outcome {
    let view = tree::view("fluyt", ABOUT, ROOT);
    flags::completion(&view, &given.args[0], &mut std::io::stdout().lock())?;
    Ok(0)
}

/// Runs `fluyt man`.
pub fn man(_: &Cli, given: &Parsed) -> Outcome {
    flags::man_pages(&tree::view("fluyt", ABOUT, ROOT), Path::new(&given.args[0]))?;
    Ok(0)
}
