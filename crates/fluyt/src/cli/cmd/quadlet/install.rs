//! `quadlet install`: files, directories, addresses and `.quadlets` collections of several units in one file.

use std::path::{Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use fluyt_quadlet::Kind;
use fluyt_registry::{FileAnswer, FileAsk};

use super::apps::Apps;
use super::{install_directory, systemd};
use crate::cli::cmd::Cli;
use crate::cli::fail::{self, Failure, Outcome};
use crate::cli::flags::{Arity, Command, NONE, Parsed, switch};
use crate::cli::print_line;

/// `fluyt quadlet install`.
pub const INSTALL: Command = Command {
    name: "install",
    arguments: "PATH|URL [PATH|URL...]",
    about: "Install a unit, with its files, or a directory of units",
    flags: &[&[
        switch(NONE, "reload-systemd", "Have systemd read the units").default("true"),
        switch('r', "replace", "Replace units that are there already"),
    ]],
    arity: Arity::AtLeast(1),
    interspersed: true,
};

/// Something to be installed.
struct Item {
    name: String,
    content: Vec<u8>,
}

/// Runs `fluyt quadlet install`.
pub fn install(cli: &Cli, flags: &Parsed) -> Outcome {
    cli.only_here()?;
    let directory = install_directory()?;
    std::fs::create_dir_all(&directory).about(|| directory.display().to_string())?;
    let mut apps = Apps::read(&directory);
    let (app, sources) = sources(&flags.args)?;
    let mut failed = false;
    for (index, source) in sources.iter().enumerate() {
        let items = match read(source) {
            Ok(items) => items,
            Err(error) => {
                fail::print(&error);
                failed = true;
                continue;
            }
        };
        for item in items {
            // The first is what it is all about; the others may be any files that it needs.
            let needed = index == 0 && !Path::new(&flags.args[0]).is_dir();
            match put(&directory, &mut apps, &app, &item, flags.on("replace"), needed) {
                Ok(path) => print_line(&path.display().to_string())?,
                Err(error) => {
                    fail::print(&error);
                    failed = true;
                }
            }
        }
    }
    if flags.on("reload-systemd") {
        systemd::reload()?;
    }
    if failed { Err(Failure::Code(1)) } else { Ok(0) }
}

/// The application's file and what belongs to it: all files of a directory that is named first.
fn sources(named: &[String]) -> Result<(String, Vec<String>)> {
    let first = &named[0];
    let path = Path::new(first.trim_end_matches('/'));
    let base = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let base = base.split(['?', '#']).next().unwrap_or_default().to_owned();
    if is_url(first) || !path.is_dir() {
        let base = base.strip_suffix(".quadlets").unwrap_or(&base);
        return Ok((format!(".{base}.app"), named.to_vec()));
    }
    let real = path.canonicalize().about(|| first.clone())?;
    let base = real.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut files: Vec<String> = std::fs::read_dir(path)
        .about(|| first.clone())?
        .filter_map(|entry| Some(entry.ok()?.path().display().to_string()))
        .collect();
    files.sort_unstable();
    files.extend(named[1..].iter().cloned());
    Ok((format!(".{base}.app"), files))
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

fn read(source: &str) -> Result<Vec<Item>> {
    let item = if is_url(source) {
        download(source)?
    } else {
        let path = Path::new(source);
        if path.is_dir() {
            return Err(
                Error::invalid(format!("{source}: a directory")).with_hint("name it first, or its files")
            );
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Item { name, content: std::fs::read(path).about(|| source.to_owned())? }
    };
    if item.name.ends_with(".quadlets") {
        return split(source, &String::from_utf8_lossy(&item.content));
    }
    Ok(vec![item])
}

fn download(url: &str) -> Result<Item> {
    let directory = std::env::temp_dir().join(format!("fluyt-quadlet-{}", std::process::id()));
    std::fs::create_dir(&directory).about(|| directory.display().to_string())?;
    let path = directory.join("file");
    let ask = FileAsk { url, ..FileAsk::default() };
    let settings = fluyt_docker_api::transfer::settings()?;
    let fetched = fluyt_registry::fetch_file(&settings, ask, &path).and_then(|answer| {
        let said = match answer {
            FileAnswer::Fetched { name, .. } => name,
            FileAnswer::Unchanged => None,
        };
        let last =
            || url.split(['?', '#']).next().unwrap_or(url).rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Item {
            name: said.unwrap_or_else(last),
            content: std::fs::read(&path).about(|| path.display().to_string())?,
        })
    });
    // What is left there is nobody's business.
    let _ = std::fs::remove_dir_all(&directory);
    fetched
}

/// The units of a collection: parts with a line `---` between them, each with a comment `# FileName=NAME`.
fn split(source: &str, text: &str) -> Result<Vec<Item>> {
    let mut parts = vec![String::new()];
    for line in text.lines() {
        if line.trim() == "---" {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push_str(line);
            part.push('\n');
        }
    }
    let mut items = Vec::new();
    for (number, part) in (1..).zip(&parts).filter(|(_, part)| !part.trim().is_empty()) {
        let wrong = |why: &str| Error::invalid(format!("{source}, part {number}: {why}"));
        let lines = || part.lines().map(str::trim);
        let named = |line: &str| {
            let comment = line.strip_prefix('#')?.trim();
            comment.strip_prefix("FileName=").map(|name| name.trim().to_owned())
        };
        let name = lines()
            .find_map(named)
            .ok_or_else(|| wrong("no name").with_hint("begin the part with '# FileName=NAME'"))?;
        if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
            return Err(wrong(&format!("FileName={name} is not the name of a file")));
        }
        let section = |line: &str| {
            let section = line.strip_prefix('[')?.strip_suffix(']')?;
            Kind::ALL.into_iter().find(|kind| kind.section() == section)
        };
        let kind = lines()
            .find_map(section)
            .ok_or_else(|| wrong("no section that says what the unit is, as [Container]"))?;
        items.push(Item {
            name: format!("{name}.{}", kind.extension()),
            content: part.trim_start().as_bytes().to_vec(),
        });
    }
    if items.is_empty() {
        return Err(Error::invalid(format!("{source}: no units")));
    }
    Ok(items)
}

/// Writes one file, whole or not at all.
fn put(
    directory: &Path,
    apps: &mut Apps,
    app: &str,
    item: &Item,
    replace: bool,
    unit_wanted: bool,
) -> Result<PathBuf> {
    let name = &item.name;
    if unit_wanted && Kind::of(name).is_none() {
        return Err(Error::invalid(format!("{name}: not a unit"))
            .with_hint("units are called NAME.container, .volume, .network, .image, .build, .pod or .kube"));
    }
    let path = directory.join(name);
    if path.exists() && !replace {
        return Err(
            Error::conflict(format!("a unit {name} is installed already")).with_hint("--replace replaces it")
        );
    }
    let temporary = directory.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = std::fs::write(&temporary, &item.content)
        .and_then(|()| std::fs::rename(&temporary, &path))
        .about(|| path.display().to_string());
    if let Err(error) = written {
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    apps.add(app, name)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collections_are_taken_apart() {
        let text = "# FileName=web\n[Container]\nImage=x\n---\n# FileName=data\n[Volume]\n\n---\n\n";
        let items = split("a.quadlets", text).unwrap();
        let names: Vec<_> = items.iter().map(|item| item.name.as_str()).collect();
        assert_eq!(names, ["web.container", "data.volume"]);
        assert_eq!(items[0].content, b"# FileName=web\n[Container]\nImage=x\n");
        for (text, why) in [
            ("[Container]\n", "part 1: no name"),
            ("# FileName=a/b\n[Container]\n", "not the name of a file"),
            ("# FileName=a\n[Unit]\n", "no section"),
            ("---\n", "no units"),
        ] {
            let error = split("a.quadlets", text).err().unwrap().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
