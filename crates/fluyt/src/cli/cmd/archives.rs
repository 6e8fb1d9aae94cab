//! Images from archives: `load`; and what happened to images, as events.

use std::fs::File;
use std::io::stdin;
use std::path::Path;

use fluyt_image::Platform;
use fluyt_model::Error;
use fluyt_model::error::IoContext;
use fluyt_model::reference::Reference;

use super::Cli;
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, NONE, Parsed, switch, text};
use crate::cli::progress::Report;
use crate::cli::{print_line, terminal};

/// `fluyt load`.
pub const LOAD: Command = Command {
    name: "load",
    arguments: "",
    about: "Load an image from a tar archive or STDIN",
    flags: &[&[
        text('i', "input", "Read from tar archive file, instead of STDIN"),
        text(NONE, "platform", "Load only the given platform variant"),
        switch('q', "quiet", "Suppress the load output"),
    ]],
    arity: Arity::None,
    interspersed: true,
};

/// A name as Docker prints it, with its tag.
pub fn with_tag(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |r| r.familiar())
}

/// Runs `fluyt load`.
pub fn load(cli: &Cli, flags: &Parsed) -> Outcome {
    if let Some(remote) = cli.remote()? {
        return super::remotely::load(remote, flags);
    }
    let engine = cli.engine()?;
    let quiet = flags.on("quiet");
    let platform = flags.given("platform").map(Platform::parse).transpose()?;
    super::trust::check_archive(&["docker-archive", "oci-archive"], "the archive")?;
    let report = Report::on_stderr(quiet);
    let loaded = match flags.given("input") {
        Some(path) if path != "-" => {
            let local = Path::new(path);
            if local.is_dir() {
                engine.images().load_directory(local, platform.as_ref(), &report)
            } else {
                let file = File::open(local).about(|| path.to_owned())?;
                engine.images().load(file, platform.as_ref(), &report).map_err(|e| e.context(path))
            }
        }
        _ => {
            if terminal::stdin_is_terminal() {
                return Err(Error::invalid("requested load from stdin, but stdin is empty")
                    .with_hint("name a file: fluyt load -i FILE")
                    .into());
            }
            engine.images().load(stdin().lock(), platform.as_ref(), &report)
        }
    }?;
    for image in &loaded {
        engine.emit_image("load", &image.id.to_string(), &image.id.to_string());
        if let (Some(old), Some(name)) = (&image.replaced, &image.name) {
            print_line(&format!(
                "The image {} already exists, renaming the old one with ID {old} to empty string",
                name.familiar()
            ))?;
        }
        print_line(&image.to_string())?;
    }
    Ok(0)
}
