//! Archives from images, and images from root file systems: `save` and `import`.

use std::fs::File;
use std::io::stdin;

use fluyt_image::{ImportOptions, Instruction, Platform, SaveOptions};
use fluyt_model::error::IoContext;
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Kind, Result};

use super::Cli;
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, NONE, Parsed, list, text};
use crate::cli::output::to_output;
use crate::cli::print_line;
use crate::cli::progress::Report;

/// `fluyt save`.
pub const SAVE: Command = Command {
    name: "save",
    arguments: "IMAGE [IMAGE...]",
    about: "Save one or more images to a tar archive (streamed to STDOUT by default)",
    flags: &[&[
        text('o', "output", "Write to a file, instead of STDOUT"),
        text(NONE, "platform", "Save only the given platform variant"),
    ]],
    arity: Arity::AtLeast(1),
    interspersed: true,
};

/// `fluyt import`.
pub const IMPORT: Command = Command {
    name: "import",
    arguments: "file|- [REPOSITORY[:TAG]]",
    about: "Import the contents from a tarball to create a filesystem image",
    flags: &[&[
        list('c', "change", "Apply Dockerfile instruction to the created image"),
        text('m', "message", "Set commit message for imported image"),
        text(NONE, "platform", "Set platform if server is multi-platform capable"),
    ]],
    arity: Arity::Between(1, 2),
    interspersed: true,
};

/// Runs `fluyt save`.
pub fn save(cli: &Cli, flags: &Parsed) -> Outcome {
    if let Some(remote) = cli.remote()? {
        return super::remotely::save(remote, flags);
    }
    let engine = cli.engine()?;
    let platform = flags.given("platform").map(Platform::parse).transpose()?;
    let names: Vec<&str> = flags.args.iter().map(String::as_str).collect();
    // A name that finds nothing must not leave an empty file.
    let mut found = Vec::new();
    for name in &names {
        match engine.images().resolve(name) {
            Ok(image) => found.push(image.id.to_string()),
            // A repository without the tag `latest` stands for all its tags.
            Err(e)
                if e.kind() == Kind::NotFound
                    && Reference::parse_untagged(name).is_ok_and(|r| r.is_name_only()) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let options = SaveOptions { platform, ..SaveOptions::default() };
    let report = Report::on_stderr(flags.text("output").is_empty());
    to_output(flags.given("output"), |out| engine.images().save(&names, out, &options, &report).map(|_| ()))?;
    for id in found {
        engine.emit_image("save", &id, &id);
    }
    Ok(0)
}

/// Runs `fluyt import`.
pub fn import(cli: &Cli, flags: &Parsed) -> Outcome {
    if let Some(remote) = cli.remote()? {
        return super::remotely::import(remote, flags);
    }
    let engine = cli.engine()?;
    let source = flags.args[0].as_str();
    if source.starts_with("http://") || source.starts_with("https://") {
        return Err(Error::unsupported(format!("{source}: importing from a URL is not supported"))
            .with_hint("download it first, or pipe it: curl URL | fluyt import -")
            .into());
    }
    let reference = flags.args.get(1).map(|name| Reference::parse(name)).transpose()?;
    let message = flags.given("message").map_or_else(|| format!("Imported from {source}"), str::to_owned);
    let options = ImportOptions {
        reference: reference.clone(),
        changes: flags.all("change").map(Instruction::parse).collect::<Result<_>>()?,
        message,
        platform: flags.given("platform").map(Platform::parse).transpose()?,
    };
    super::trust::check_archive(&["tarball"], "the archive")?;
    let report = Report::on_stderr(false);
    let image = if source == "-" {
        engine.images().import(stdin().lock(), &options, &report)?
    } else {
        let file = File::open(source).about(|| source.to_owned())?;
        engine.images().import(file, &options, &report).map_err(|e| e.context(source))?
    };
    let id = image.id.to_string();
    engine.emit_image("import", &id, &reference.map_or_else(|| id.clone(), |r| r.familiar()));
    print_line(&id)?;
    Ok(0)
}
