//! Repositories as sources of files, fetched by the `git` program: one commit of one reference, with its submodules.

use std::path::{Path, PathBuf};
use std::process::Command;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};

/// Checks `reference` (empty: the remote's `HEAD`) out into the directory `dir`. Its commit must begin with `expected`;
/// submodules of another one are not even asked for.
///
/// # Errors
/// `git` is not installed; `Unavailable`, with what it said, when it fails; `Corrupt` for another commit.
pub fn checkout(remote: &str, reference: &str, expected: &str, dir: &Path) -> Result<()> {
    let git = |args: &[&str]| -> Result<String> {
        let output = Command::new("git")
            .args(args)
            .current_dir(dir)
            .env("GIT_TERMINAL_PROMPT", "0")
            .output()
            .map_err(|e| Error::io("git", e).with_hint("install git: repositories are fetched by it"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Error::new(Kind::Unavailable, format!("failed to fetch remote {remote}: {said}")))
    };
    let reference = if reference.is_empty() { "HEAD" } else { reference };
    git(&["init", "-q"])?;
    git(&["fetch", "-q", "--depth=1", "--", remote, reference])?;
    git(&["checkout", "-q", "FETCH_HEAD"])?;
    let commit = git(&["rev-parse", "HEAD"])?;
    if !commit.starts_with(expected) {
        return Err(Error::corrupt(format!("{remote}: expected checksum to match {expected}, got {commit}")));
    }
    git(&["submodule", "update", "-q", "--init", "--recursive", "--depth=1"]).map(drop)
}

/// Removes what `git` itself keeps in a checkout.
///
/// # Errors
/// It cannot be removed.
pub fn forget(dir: &Path) -> Result<()> {
    let own = dir.join(".git");
    std::fs::remove_dir_all(&own).about(|| own.display().to_string())
}

/// The directory `subdir` of a checkout. A repository may hold links: one that leads out of it is refused.
///
/// # Errors
/// `NotFound`; `Invalid` for a place outside the checkout, or a file.
pub fn subdirectory(dir: &Path, subdir: &str) -> Result<PathBuf> {
    let asked = dir.join(subdir.trim_start_matches('/'));
    let about = || format!("directory {subdir} of the repository");
    let (base, place) = (dir.canonicalize().about(about)?, asked.canonicalize().about(about)?);
    if !place.starts_with(&base) || !place.is_dir() {
        return Err(Error::invalid(format!("{} is no directory in it", about())));
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_checked_out_and_another_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let (origin, copy) = (dir.path().join("origin"), dir.path().join("copy"));
        std::fs::create_dir_all(&origin).expect("made");
        std::fs::create_dir_all(&copy).expect("made");
        let script = "git init -q && echo one > file && git add file && \
                      git -c user.name=n -c user.email=e@example.org commit -qm one && git rev-parse HEAD";
        let made = Command::new("sh").args(["-c", script]).current_dir(&origin).output().expect("sh");
        let commit = String::from_utf8_lossy(&made.stdout).trim().to_owned();
        let remote = format!("file://{}", origin.display());
        checkout(&remote, "", &commit[..12], &copy).expect("checked out");
        assert_eq!(std::fs::read_to_string(copy.join("file")).expect("there"), "one\n");
        forget(&copy).expect("forgotten");
        assert!(!copy.join(".git").exists());
        let other = dir.path().join("other");
        std::fs::create_dir_all(&other).expect("made");
        let error = checkout(&remote, "", "0000000", &other).expect_err("another commit").to_string();
        assert!(error.contains(&remote) && error.contains(&commit), "{error}");
        let error = checkout(&remote, "absent", "", &other).expect_err("no such branch").to_string();
        assert!(error.contains(&remote), "{error}");
    }

    #[test]
    fn a_subdirectory_stays_in_the_checkout() {
        let dir = tempfile::tempdir().expect("a directory");
        let inside = dir.path().join("a/b");
        std::fs::create_dir_all(&inside).expect("made");
        std::os::unix::fs::symlink("/etc", dir.path().join("out")).expect("linked");
        std::os::unix::fs::symlink("a/b", dir.path().join("in")).expect("linked");
        let inside = inside.canonicalize().expect("there");
        assert_eq!(subdirectory(dir.path(), "/a/b").expect("inside"), inside);
        assert_eq!(subdirectory(dir.path(), "in").expect("a link inside"), inside);
        for outside in ["out", "../", "a/../../"] {
            let error = subdirectory(dir.path(), outside).expect_err(outside).to_string();
            assert!(error.contains(outside), "{error}");
        }
        assert!(subdirectory(dir.path(), "absent").expect_err("absent").to_string().contains("absent"));
    }
}
