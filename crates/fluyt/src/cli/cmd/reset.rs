//! `system reset`: the whole data root goes, with everything that belongs to it on the host.

use fluyt_model::Error;

use super::Cli;
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, Parsed, switch};
use crate::cli::terminal;

/// `fluyt system reset`.
pub const RESET: Command = Command {
    name: "reset",
    arguments: "",
    about: "Remove all containers, images, volumes and networks, and the data root itself",
    flags: &[&[switch('f', "force", "Do not prompt for confirmation")]],
    arity: Arity::None,
    interspersed: true,
};

/// Runs `fluyt system reset`.
pub fn reset(cli: &Cli, flags: &Parsed) -> Outcome {
    cli.only_here()?;
    if !flags.on("force") {
        if !terminal::stdin_is_terminal() {
            return Err(Error::invalid("nobody is there to confirm the removal of the whole data root")
                .with_hint(format!("`fluyt --root {} system reset --force`", cli.root().display()))
                .into());
        }
        let question = format!(
            "WARNING! This will remove everything in {}:\n  - all containers, running ones too\n  - all images\n  \
             - all volumes with their data\n  - all networks\nAre you sure you want to continue?",
            cli.root().display()
        );
        if !terminal::confirm(&question) {
            return Ok(0);
        }
    }
    fluyt_engine::reset(cli.root())?;
    Ok(0)
}
