//! Results as files: a directory or an archive, one directory in it for each platform when there are several, with
//! what is said about them beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use fluyt_build::attest::Subject;
use fluyt_build::sbom;
use fluyt_build::solve::{files, select, tree, whole};
use fluyt_image::digest::{Algorithm, Hasher};
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};

use super::output::Export;
use super::outputs::Files;

/// Writes the files of all goals into a directory.
pub fn local(export: &Export<'_>, dest: &Path, layout: &Files) -> Result<()> {
    std::fs::create_dir_all(dest).about(|| dest.display().to_string())?;
    let several = export.plan.goals.len() > 1;
    let split = layout.split.unwrap_or(several);
    if several && !split {
        no_clashes(export)?;
    }
    if layout.delete {
        clear(dest, Path::new(""), &kept(export, split)?)?;
    }
    for (at, goal) in export.plan.goals.iter().enumerate() {
        let name = goal.platform.to_string().replace('/', "_");
        let dir = if split { dest.join(&name) } else { dest.to_owned() };
        std::fs::create_dir_all(&dir).about(|| dir.display().to_string())?;
        export.with_tree(&export.solved.goals[at], &|root| {
            let source = select::Source { root, ignore: None, anonymous: false };
            let action = whole("/");
            files::copy(&source, &select::select(&source, &action)?, &tree::open_dir(&dir)?, &action, None)?;
            attestations(export, at, root, &dir, (layout, (several && !split).then_some(&name)))
        })?;
        if split && let Some(epoch) = goal.epoch {
            set_time(&dir, epoch)?;
        }
    }
    Ok(())
}

/// The files of all goals, by their paths in the output.
fn kept(export: &Export<'_>, split: bool) -> Result<BTreeSet<PathBuf>> {
    let kept = std::cell::RefCell::new(BTreeSet::new());
    for (at, goal) in export.plan.goals.iter().enumerate() {
        let name = goal.platform.to_string().replace('/', "_");
        let base = if split { PathBuf::from(name) } else { PathBuf::new() };
        export.with_tree(&export.solved.goals[at], &|root| {
            sbom::each(root, &mut |entry| {
                kept.borrow_mut().insert(base.join(entry.path.trim_start_matches('/')));
                Ok(())
            })
        })?;
    }
    Ok(kept.into_inner())
}

/// Removes what is below `path` of the output and has no place in it, or another kind than there. Follows no link.
/// Directories that will be empty are made again with the files.
fn clear(dest: &Path, path: &Path, kept: &BTreeSet<PathBuf>) -> Result<()> {
    let dir = dest.join(path);
    for entry in std::fs::read_dir(&dir).about(|| dir.display().to_string())? {
        let entry = entry.about(|| dir.display().to_string())?;
        let (path, place) = (path.join(entry.file_name()), entry.path());
        let about = || place.display().to_string();
        let below = kept.range::<PathBuf, _>(&path..).find(|kept| **kept != path);
        if !entry.file_type().about(about)?.is_dir() {
            if !kept.contains(&path) {
                std::fs::remove_file(&place).about(about)?;
            }
        } else if below.is_some_and(|kept| kept.starts_with(&path)) {
            clear(dest, &path, kept)?;
        } else {
            std::fs::remove_dir_all(&place).about(about)?;
        }
    }
    Ok(())
}

/// Writes the files of all goals as an archive.
pub fn tar(export: &Export<'_>, dest: &str, layout: &Files) -> Result<()> {
    let store = export.engine.images();
    let mut out = writer(dest)?;
    let several = export.plan.goals.len() > 1;
    let said = !export.wanted.attests.is_empty();
    let dirs: Vec<PathBuf> = if several || said || layout.split == Some(true) {
        // The archive is one walk: what it is to hold is put together first.
        let staged = store.new_layer()?;
        local(export, &staged.fs(), layout)?;
        if let Some(epoch) = export.plan.goals.first().and_then(|goal| goal.epoch) {
            set_time(&staged.fs(), epoch)?;
        }
        fluyt_image::rootfs::export(&[staged.fs()], &mut out)?.flush().about(|| dest.to_owned())?;
        return Ok(());
    } else {
        export.solved.goals[0].iter().rev().map(|layer| layer.path(store.root())).collect()
    };
    fluyt_image::rootfs::export(&tree::distinct(dirs), &mut out)?.flush().about(|| dest.to_owned())
}

/// Where a stream goes; `-`: standard output.
pub fn writer(dest: &str) -> Result<Box<dyn Write>> {
    if dest == "-" {
        if crate::cli::terminal::stdout_is_terminal() {
            return Err(Error::invalid(
                "dest file is required for a tar exporter. refusing to write to console",
            ));
        }
        return Ok(Box::new(std::io::stdout().lock()));
    }
    Ok(Box::new(std::io::BufWriter::new(std::fs::File::create(dest).about(|| dest.to_owned())?)))
}

/// Writes what is said of a goal beside its files.
fn attestations(
    export: &Export<'_>,
    at: usize,
    root: &tree::Root,
    dir: &Path,
    (layout, platform): (&Files, Option<&String>),
) -> Result<()> {
    let said = export.attestations(at, &[], false)?;
    if said.is_empty() {
        return Ok(());
    }
    let subjects = subjects(root)?;
    for attestation in said {
        let mut name = format!("{}{}", layout.prefix, attestation.file);
        if let Some(platform) = platform {
            name = match name.rsplit_once('.') {
                Some((stem, extension)) => format!("{stem}.{platform}.{extension}"),
                None => format!("{name}.{platform}"),
            };
        }
        let path = dir.join(&name);
        let about = || path.display().to_string();
        // Nothing of the result is written through: a link of this name would lead out of it.
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(about(), e)),
            _ => {}
        }
        let mut file =
            std::fs::File::options().write(true).create_new(true).mode(0o600).open(&path).about(about)?;
        file.write_all(&attestation.statement(&subjects, true)).about(about)?;
        drop(file);
        if let Some(epoch) = export.plan.goals[at].epoch {
            set_time(&path, epoch)?;
        }
    }
    Ok(())
}

/// The regular files of a tree with their digests.
fn subjects(root: &tree::Root) -> Result<Vec<Subject>> {
    let mut found = Vec::new();
    let mut buffer = vec![0; 256 * 1024];
    sbom::each(root, &mut |entry| {
        if !entry.regular {
            return Ok(());
        }
        let fd = root.open(&entry.path, rustix::fs::OFlags::RDONLY).about(|| entry.path.clone())?;
        let mut file = std::fs::File::from(fd);
        let mut hasher = Hasher::new(Algorithm::Sha256);
        loop {
            let n = std::io::Read::read(&mut file, &mut buffer).about(|| entry.path.clone())?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
        }
        found.push(Subject::new(entry.path.trim_start_matches('/').to_owned(), &hasher.finish()));
        Ok(())
    })?;
    Ok(found)
}

/// Refuses files that several goals would write into one directory.
fn no_clashes(export: &Export<'_>) -> Result<()> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (at, goal) in export.plan.goals.iter().enumerate() {
        let mut paths = Vec::new();
        let paths = std::cell::RefCell::new(&mut paths);
        export.with_tree(&export.solved.goals[at], &|root| {
            sbom::each(root, &mut |entry| {
                paths.borrow_mut().push(entry.path.clone());
                Ok(())
            })
        })?;
        for path in paths.into_inner().drain(..) {
            if let Some(other) = seen.insert(path.clone(), at) {
                let other = &export.plan.goals[other].platform;
                return Err(Error::conflict(format!(
                    "cannot overwrite {path} from {other} with {} when split option is disabled",
                    goal.platform
                )));
            }
        }
    }
    Ok(())
}

fn set_time(path: &Path, epoch: i64) -> Result<()> {
    let time = rustix::fs::Timespec { tv_sec: epoch, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .about(|| path.display().to_string())
}
