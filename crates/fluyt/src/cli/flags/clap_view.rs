//! The tables as `clap` commands, only to write completions and man pages: the parser itself is ours, because it has
//! to accept and refuse exactly what Docker's does.

use std::io::Write;
use std::path::Path;

use clap::{Arg, ArgAction};
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};

use super::{Command, Takes};

/// A node of the tree of commands: a word, what it does, and what is below it.
pub struct Node {
    /// The word.
    pub word: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// The command, unless it is only a group.
    pub command: Option<&'static Command>,
    /// Commands below it.
    pub below: Vec<Node>,
}

/// Writes the completion script for `shell` (bash, zsh or fish).
///
/// # Errors
/// An unknown shell.
pub fn completion(root: &Node, shell: &str, out: &mut dyn Write) -> Result<()> {
    use clap_complete::Shell;
    let shell = match shell {
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        other => {
            return Err(Error::invalid(format!("no completions for the shell {other:?}"))
                .with_hint("choose bash, zsh or fish"));
        }
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut view(root), "fluyt", &mut script);
    out.write_all(&script).about(|| "standard output")
}

/// Writes one man page for each command into `directory`.
///
/// # Errors
/// A file that cannot be written.
pub fn man_pages(root: &Node, directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).about(|| directory.display().to_string())?;
    pages(&view(root).disable_help_subcommand(true), "fluyt", directory)
}

fn pages(command: &clap::Command, title: &str, directory: &Path) -> Result<()> {
    let path = directory.join(format!("{title}.1"));
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone().display_name(title.to_owned()))
        .title(title)
        .render(&mut page)
        .about(|| title.to_owned())?;
    std::fs::write(&path, page).about(|| path.display().to_string())?;
    for below in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        pages(below, &format!("{title}-{}", below.get_name()), directory)?;
    }
    Ok(())
}

fn view(node: &Node) -> clap::Command {
    let mut command = clap::Command::new(node.word).about(node.about).disable_help_flag(true);
    if let Some(table) = node.command {
        for flag in table.flags().filter(|f| !f.hidden) {
            let mut arg = Arg::new(flag.long).long(flag.long).help(flag.help);
            if flag.short != '\0' {
                arg = arg.short(flag.short);
            }
            arg = match flag.takes {
                Takes::Bool | Takes::Maybe(_) => arg.action(ArgAction::SetTrue),
                Takes::One(kind, _) => arg.action(ArgAction::Set).value_name(kind),
                Takes::Many(kind, _) => arg.action(ArgAction::Append).value_name(kind),
            };
            command = command.arg(arg);
        }
        if !table.arguments.is_empty() {
            command = command.arg(Arg::new("ARGUMENTS").num_args(0..).value_name(table.arguments));
        }
    }
    command.subcommands(node.below.iter().map(view))
}
