//! Contexts of builds: repositories, archives, single files.

use std::io::Read;
use std::path::{Path, PathBuf};

use fluyt_build::git;
use fluyt_build::gitref::GitRef;
use fluyt_build::solve::archive;
use fluyt_image::NewLayer;
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};

/// The longest Dockerfile or ignore file.
const MAX_DOCKERFILE: u64 = 16 << 20;

/// Checks a repository out; the directory of it that is wanted. `keep` is whether its history stays, unless it says so
/// itself.
///
/// # Errors
/// What git says.
pub fn from_repository(git: &GitRef, keep: bool, agent: Option<&Path>, into: &NewLayer) -> Result<PathBuf> {
    let source = git::Wanted {
        remote: &git.remote,
        reference: if git.by_commit { &git.checksum } else { &git.reference },
        checksum: &git.checksum,
        without_submodules: git.submodules == Some(false),
        agent,
    };
    let dir = into.fs();
    source.checkout(&source.resolve()?, &dir)?;
    if git.commit_times {
        git::set_times(&dir)?;
    }
    if !git.keep_git_dir.unwrap_or(keep) {
        git::forget(&dir)?;
    }
    git::subdirectory(&dir, &git.subdir)
}

/// What a stream turned out to be.
pub enum Stream {
    /// An archive; it is unpacked.
    Archive,
    /// Something else.
    Text(String),
}

/// Unpacks a stream if it is an archive, compressed or not.
///
/// # Errors
/// A damaged archive, one that would write outside.
pub fn unpacked(input: &mut dyn Read, into: &NewLayer) -> Result<Stream> {
    let mut head = Vec::new();
    (&mut *input).take(512).read_to_end(&mut head).about(|| "the context")?;
    if !archive::may_be(&head) {
        let mut all = head.as_slice().chain(input);
        return read_text(&mut all, "standard input").map(Stream::Text);
    }
    let path = into.dir().join("context.tar");
    let about = || path.display().to_string();
    let mut file = std::fs::File::create(&path).about(about)?;
    std::io::copy(&mut head.as_slice().chain(input), &mut file).about(about)?;
    let root = std::fs::File::open(into.fs()).about(|| into.fs().display().to_string())?;
    archive::unpack(std::fs::File::open(&path).about(about)?, &root.into())
        .map_err(|e| e.context("unpacking the context"))?;
    Ok(Stream::Archive)
}

/// The whole text of a Dockerfile.
///
/// # Errors
/// It is too long, or no text.
pub fn read_text(input: &mut dyn Read, name: &str) -> Result<String> {
    let mut bytes = Vec::new();
    input.take(MAX_DOCKERFILE + 1).read_to_end(&mut bytes).about(|| name.to_owned())?;
    if bytes.len() as u64 > MAX_DOCKERFILE {
        return Err(Error::invalid(format!("{name}: too long for such a file")));
    }
    String::from_utf8(bytes).map_err(|_| Error::invalid(format!("{name}: not UTF-8")))
}
