//! `system resume`: what should run, runs again. For the time after a boot, or after processes were killed.

use super::Cli;
use crate::cli::fail::{self, Failure, Outcome};
use crate::cli::flags::{Arity, Command, Parsed};
use crate::cli::print_line;

/// `fluyt system resume`.
pub const RESUME: Command = Command {
    name: "resume",
    arguments: "",
    about: "Start the containers whose restart policy says that they should run",
    flags: &[],
    arity: Arity::None,
    interspersed: true,
};

/// Runs `fluyt system resume`: prints the names of what it started; 1 if something could not be started.
pub fn resume(cli: &Cli, _flags: &Parsed) -> Outcome {
    let mut failed = false;
    for (name, outcome) in cli.engine()?.resume()? {
        match outcome {
            Ok(()) => print_line(&name)?,
            Err(e) => {
                fail::print(&e.context(format!("container {name}")));
                failed = true;
            }
        }
    }
    if failed { Err(Failure::Code(1)) } else { Ok(0) }
}
