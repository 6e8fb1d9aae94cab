//! Completes a layer from those below it, where its archive relies on them: parents that it does not describe
//! get the owner, mode, attributes and time they have below, and hard links to lower files get a copy.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use rustix::fs::{AtFlags, FileType, Mode};

use super::copy;
use super::extract::{Extracted, Found, kind_at, open_path_in, open_root, show, split};

/// Completes the layer at `fs` from `lowers`, topmost first. Returns whether its content depends on
/// what is below it.
pub(crate) fn complete(fs: &Path, found: &Extracted, lowers: &[PathBuf]) -> Result<bool> {
    if found.implicit.is_empty() && found.missing.is_empty() {
        return Ok(false);
    }
    let lowers: Vec<OwnedFd> = lowers.iter().map(|path| open_root(path)).collect::<Result<_>>()?;
    let root = open_root(fs)?;
    for (path, target) in &found.missing {
        link_or_copy(&root, path, target, &lowers)
            .map_err(|e| e.context(format!("entry {:?}: hard link to {:?}", show(path), show(target))))?;
    }
    // Deepest first, so that a parent's time is set after its children's.
    for path in found.implicit.iter().rev() {
        let Some(lower) = find(&lowers, path)? else { continue };
        let Ok(own) = open_path_in(&root, path) else { continue };
        let stat = rustix::fs::fstat(&lower).about(|| show(path))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            copy::metadata(&lower, &own, &stat)
                .map_err(|e| e.context(format!("directory {:?}", show(path))))?;
        }
    }
    Ok(true)
}

fn link_or_copy(root: &OwnedFd, path: &[u8], target: &[u8], lowers: &[OwnedFd]) -> Result<()> {
    let (parent, name) = split(path).ok_or_else(|| Error::invalid("a hard link in place of the root"))?;
    let (target_parent, target_name) =
        split(target).ok_or_else(|| Error::invalid("a hard link to the root"))?;
    let dir = copy::open_dir_in(root, parent).about(|| show(parent))?;
    // An entry later in the archive may have brought the target after all.
    if let Ok(target_dir) = copy::open_dir_in(root, target_parent)
        && matches!(kind_at(&target_dir, target_name), Ok(Found::Other))
    {
        return rustix::fs::linkat(&target_dir, target_name, &dir, name, AtFlags::empty())
            .about(|| "creating it");
    }
    let lower = find(lowers, target)?
        .ok_or_else(|| Error::invalid("the target is neither in this layer nor in one below"))?;
    match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(e) => return Err(Error::io("replacing an earlier entry", e.into())),
    }
    copy::file(&lower, &dir, name)
}

/// What `path` is in the layers `lowers` (topmost first), merged; `None` where nothing is or it was removed.
pub(crate) fn find(lowers: &[OwnedFd], path: &[u8]) -> Result<Option<OwnedFd>> {
    for lower in lowers {
        match look(lower, path)? {
            Look::Here(found) => return Ok(Some(found)),
            Look::Hidden => return Ok(None),
            Look::Below => {}
        }
    }
    Ok(None)
}

enum Look {
    Here(OwnedFd),
    Hidden,
    Below,
}

/// Walks `path` part by part in one layer, so that whiteouts and opaque parents are seen.
fn look(lower: &OwnedFd, path: &[u8]) -> Result<Look> {
    let mut at = open_path_in(lower, b"").about(|| "a layer")?;
    let mut opaque = false;
    for part in path.split(|b| *b == b'/').filter(|p| !p.is_empty()) {
        opaque = opaque || copy::is_opaque(&at);
        let next = rustix::fs::openat(
            &at,
            part,
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC,
            Mode::empty(),
        );
        at = match next {
            Ok(next) => next,
            Err(rustix::io::Errno::NOENT) => return Ok(if opaque { Look::Hidden } else { Look::Below }),
            Err(rustix::io::Errno::NOTDIR) => return Ok(Look::Hidden),
            Err(e) => return Err(Error::io(show(path), e.into())),
        };
        let stat = rustix::fs::fstat(&at).about(|| show(path))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0 {
            return Ok(Look::Hidden);
        }
    }
    Ok(Look::Here(at))
}
