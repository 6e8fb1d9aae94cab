//! Repositories as sources of files, fetched by the `git` program: one commit of one reference, with its submodules.

use std::path::{Path, PathBuf};
use std::process::Command;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};

use crate::gitref::is_commit;

/// What is wanted of a repository.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// Its address.
    pub remote: &'a str,
    /// Branch, tag or commit; empty: the remote's `HEAD`.
    pub reference: &'a str,
    /// The commit (or tag object) that it must be, or the beginning of its name; empty: any.
    pub checksum: &'a str,
    /// Submodules are left out.
    pub without_submodules: bool,
    /// The socket of the agent that has the keys; `None`: the one of this process.
    pub agent: Option<&'a Path>,
}

/// Variables by which `git` takes another repository than the one of its directory.
const LOCAL: [&str; 13] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

/// A `git` for which nothing holds of the repository that this process may have been started for, as by a hook.
#[must_use]
pub fn command() -> Command {
    let mut command = Command::new("git");
    for name in LOCAL {
        command.env_remove(name);
    }
    command
}

/// What a reference leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The commit.
    pub commit: String,
    /// Its whole name at the remote; empty for a commit.
    name: String,
}

impl Wanted<'_> {
    fn git(&self, dir: Option<&Path>, args: &[&str]) -> Result<String> {
        let mut command = command();
        command.args(args).env("GIT_TERMINAL_PROMPT", "0").stdin(std::process::Stdio::null());
        if let Some(dir) = dir {
            command.current_dir(dir);
        }
        if std::env::var_os("GIT_SSH_COMMAND").is_none() {
            // Nobody is there to answer.
            command.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes");
        }
        if let Some(agent) = self.agent {
            command.env("SSH_AUTH_SOCK", agent);
        }
        let output = command
            .output()
            .map_err(|e| Error::io("git", e).with_hint("install git: repositories are fetched by it"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).replace(self.remote, &shown(self.remote));
        let message = format!("failed to fetch remote {}: {}", shown(self.remote), said.trim());
        Err(Error::new(Kind::Unavailable, message))
    }

    /// Asks the remote which commit is meant.
    ///
    /// # Errors
    /// `git` is not installed or fails; `NotFound` for a reference that is not there, `Corrupt` for another commit.
    pub fn resolve(&self) -> Result<Resolved> {
        if !self.checksum.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::invalid(format!(
                "invalid checksum {} for Git URL, expected hex commit hash",
                self.checksum
            )));
        }
        if is_commit(self.reference) {
            self.check(&[self.reference])?;
            return Ok(Resolved { commit: self.reference.to_owned(), name: String::new() });
        }
        if self.reference.starts_with('-') {
            return Err(self.missing());
        }
        let asked = if self.reference.is_empty() { "HEAD" } else { self.reference };
        let answer = self.git(None, &["ls-remote", "--", self.remote, asked, &format!("{asked}^{{}}")])?;
        let lines: Vec<(&str, &str)> = answer.lines().filter_map(|line| line.split_once('\t')).collect();
        let places = ["refs/heads/", "refs/tags/", "refs/", ""].map(|prefix| format!("{prefix}{asked}"));
        let id_of = |name: &str| lines.iter().find(|(_, other)| *other == name).map(|(id, _)| *id);
        let (name, id) =
            places.iter().find_map(|name| Some((name, id_of(name)?))).ok_or_else(|| self.missing())?;
        let commit = id_of(&format!("{name}^{{}}")).unwrap_or(id);
        self.check(&[commit, id])?;
        Ok(Resolved { commit: commit.to_owned(), name: name.clone() })
    }

    fn missing(&self) -> Error {
        Error::not_found(format!(
            "{}: repository does not contain ref {}",
            shown(self.remote),
            self.reference
        ))
    }

    fn check(&self, ids: &[&str]) -> Result<()> {
        let wanted = self.checksum.to_ascii_lowercase();
        if ids.iter().any(|id| id.starts_with(&wanted)) {
            return Ok(());
        }
        let (remote, found) = (shown(self.remote), ids.first().unwrap_or(&""));
        Err(Error::corrupt(format!("{remote}: expected checksum to match {}, got {found}", self.checksum)))
    }

    /// Checks what was resolved out into the directory `dir`.
    ///
    /// # Errors
    /// `git` fails; `Unavailable` when the reference has moved since.
    pub fn checkout(&self, resolved: &Resolved, dir: &Path) -> Result<()> {
        let git = |args: &[&str]| self.git(Some(dir), args);
        let format =
            if resolved.commit.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
        git(&["init", "-q", format])?;
        git(&["remote", "add", "origin", &shown(self.remote)])?;
        let what = match resolved.name.as_str() {
            "" => resolved.commit.clone(),
            name if name.starts_with("refs/tags/") => format!("+{name}:{name}"),
            name => name.to_owned(),
        };
        let shallow = ["fetch", "-q", "--depth=1", "--no-tags", "--", self.remote, &what];
        if let Err(e) = git(&shallow) {
            // Plain file servers know nothing of depth, others give no commit by its name: then all of it is taken.
            let all = ["fetch", "-q", "--tags", "--", self.remote, "+refs/heads/*:refs/remotes/origin/*"];
            let again: &[&str] = if resolved.name.is_empty() {
                &all
            } else {
                &["fetch", "-q", "--no-tags", "--", self.remote, &what]
            };
            git(again).map_err(|_| e)?;
        }
        let found = if resolved.name.is_empty() { resolved.commit.as_str() } else { "FETCH_HEAD" };
        git(&["-c", "advice.detachedHead=false", "checkout", "-q", "--detach", found])?;
        let commit = git(&["rev-parse", "HEAD"])?;
        if commit != resolved.commit {
            let message =
                format!("{}: {} moved to {commit} while it was fetched", shown(self.remote), self.reference);
            return Err(Error::new(Kind::Unavailable, message).with_hint("build again"));
        }
        if !self.without_submodules {
            let update = ["submodule", "update", "-q", "--init", "--recursive", "--depth=1"];
            let known = credentials(self.remote);
            let with: Vec<&str> = known.iter().flat_map(|known| ["-c", known.as_str()]).collect();
            let shallow = [&with, &update[..]].concat();
            git(&shallow).or_else(|_| git(&shallow[..shallow.len() - 1])).map(drop)?;
        }
        Ok(())
    }
}

/// An address without the password in it, or without a user who may be a token. Users of SSH are neither.
fn shown(remote: &str) -> String {
    let Some((scheme, rest)) = remote.split_once("://") else { return remote.to_owned() };
    let host = rest.split('/').next().unwrap_or_default();
    let password = host.rsplit_once('@').is_some_and(|(who, _)| who.contains(':'));
    let secret = password || scheme.starts_with("http");
    if secret { crate::attest::without_credentials(remote) } else { remote.to_owned() }
}

/// What makes `git` use the credentials of an address wherever the address without them stands, as in what is relative
/// to it; `None` when there are none.
fn credentials(remote: &str) -> Option<String> {
    let bare = shown(remote);
    let host = |address: &str| {
        let (scheme, rest) = address.split_once("://")?;
        Some(format!("{scheme}://{}/", rest.split('/').next()?))
    };
    (bare != remote).then(|| Some(format!("url.{}.insteadOf={}", host(remote)?, host(&bare)?)))?
}

/// Removes what `git` itself keeps in a checkout, in submodules too.
///
/// # Errors
/// It cannot be removed.
pub fn forget(dir: &Path) -> Result<()> {
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        let about = || dir.display().to_string();
        for entry in std::fs::read_dir(&dir).about(about)? {
            let entry = entry.about(about)?;
            let (path, kind) = (entry.path(), entry.file_type().about(about)?);
            match (entry.file_name() == ".git", kind.is_dir()) {
                (true, true) => std::fs::remove_dir_all(&path).about(|| path.display().to_string())?,
                (true, false) => std::fs::remove_file(&path).about(|| path.display().to_string())?,
                (false, true) => todo.push(path),
                (false, false) => {}
            }
        }
    }
    Ok(())
}

/// Gives everything in a checkout the time of its commit.
///
/// # Errors
/// There is no commit; a time cannot be set.
pub fn set_times(dir: &Path) -> Result<()> {
    let text = Wanted::default().git(Some(dir), &["log", "-1", "--format=%ct"])?;
    let seconds: u64 =
        text.parse().map_err(|_| Error::corrupt(format!("{text:?} is no time of a commit")))?;
    let time = rustix::fs::Timespec { tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX), tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let about = || path.display().to_string();
        if path.symlink_metadata().about(about)?.is_dir() {
            for entry in std::fs::read_dir(&path).about(about)? {
                todo.push(entry.about(about)?.path());
            }
        }
        rustix::fs::utimensat(rustix::fs::CWD, &path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
            .about(about)?;
    }
    Ok(())
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

    /// A repository with a branch, a plain tag, an annotated one and a submodule; a function that asks `git` in it.
    fn repository(dir: &Path) -> (String, impl Fn(&str) -> String) {
        let origin = dir.join("origin");
        std::fs::create_dir_all(&origin).expect("made");
        let script = "git init -q -b main && git config user.name n && git config user.email e@example.org && \
                      git config uploadpack.allowAnySHA1InWant true && \
                      echo one > file && git add file && git commit -qm one && git tag plain && \
                      mkdir sub && echo two > sub/file && git add sub && git commit -qm two && git tag -am noted noted && \
                      git branch topic && echo three > file && git commit -qam three";
        let made = Command::new("sh").args(["-ec", script]).current_dir(&origin).output().expect("sh");
        assert!(made.status.success(), "{made:?}");
        let remote = format!("file://{}", origin.display());
        let ask = move |name: &str| {
            let out =
                Command::new("git").args(["rev-parse", name]).current_dir(&origin).output().expect("git");
            String::from_utf8_lossy(&out.stdout).trim().to_owned()
        };
        (remote, ask)
    }

    #[test]
    fn references_lead_to_commits() {
        let dir = tempfile::tempdir().expect("a directory");
        let (remote, ask) = repository(dir.path());
        let one = ask("plain");
        for (number, (reference, commit)) in [
            ("", "main"),
            ("main", "main"),
            ("topic", "topic"),
            ("refs/heads/topic", "topic"),
            ("heads/topic", "topic"),
            ("plain", "plain"),
            ("noted", "noted^{commit}"),
            ("refs/tags/noted", "noted^{commit}"),
            (one.as_str(), "plain"),
        ]
        .into_iter()
        .enumerate()
        {
            let wanted = Wanted { remote: &remote, reference, ..Wanted::default() };
            let resolved = wanted.resolve().unwrap_or_else(|e| panic!("{reference}: {e}"));
            assert_eq!(resolved.commit, ask(commit), "{reference}");
            let copy = dir.path().join(number.to_string());
            std::fs::create_dir(&copy).expect("made");
            wanted.checkout(&resolved, &copy).unwrap_or_else(|e| panic!("{reference}: {e}"));
            let head = wanted.git(Some(&copy), &["rev-parse", "HEAD"]).expect("a head");
            assert_eq!((head, copy.join("file").is_file()), (ask(commit), true), "{reference}");
        }
        for reference in ["nowhere", "refs/heads/plain", "--upload-pack=x", &one[..8]] {
            let wanted = Wanted { remote: &remote, reference, ..Wanted::default() };
            let error = wanted.resolve().expect_err(reference).to_string();
            assert!(error.contains("does not contain ref"), "{reference}: {error}");
        }
    }

    #[test]
    fn a_checksum_is_of_the_commit_or_the_tag() {
        let dir = tempfile::tempdir().expect("a directory");
        let (remote, ask) = repository(dir.path());
        let (tag, commit, other) = (ask("noted"), ask("noted^{commit}"), ask("plain"));
        let check = |checksum: &str| {
            Wanted { remote: &remote, reference: "noted", checksum, ..Wanted::default() }.resolve()
        };
        for fine in [&tag, &commit, &commit[..7], &commit.to_uppercase()] {
            assert_eq!(check(fine).expect(fine).commit, commit);
        }
        let error = check(&other).expect_err("another commit").to_string();
        assert!(error.contains("expected checksum to match") && error.contains(&commit), "{error}");
        assert!(check("no hex").expect_err("no hex").to_string().contains("expected hex commit hash"));
        let own = Wanted { remote: &remote, reference: &other, checksum: &commit, ..Wanted::default() };
        assert!(own.resolve().is_err(), "a commit that is not its own checksum");
    }

    #[test]
    fn the_callers_own_repository_is_left_alone() {
        // Each of them would be another repository.
        let asked = Command::new("git").args(["rev-parse", "--local-env-vars"]).output().expect("git");
        let names = String::from_utf8_lossy(&asked.stdout).into_owned();
        // Configuration that is given for a single command is the caller's will, and switches off replacements.
        let kept = |name: &&str| name.starts_with("GIT_CONFIG") || *name == "GIT_NO_REPLACE_OBJECTS";
        for name in names.lines().filter(|name| !kept(name)) {
            assert!(LOCAL.contains(&name), "{name}");
        }
    }

    #[test]
    fn what_git_keeps_is_forgotten_everywhere() {
        let dir = tempfile::tempdir().expect("a directory");
        for file in [".git/HEAD", "sub/.git", "sub/file", ".gitmodules"] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            std::fs::write(path, "x").expect("written");
        }
        forget(dir.path()).expect("forgotten");
        let left = |file: &str| dir.path().join(file).exists();
        assert_eq!([".git", "sub/.git", "sub/file", ".gitmodules"].map(left), [false, false, true, true]);
    }

    #[test]
    fn passwords_are_not_shown() {
        for (remote, expected) in [
            ("https://me:secret@h.example/r.git", "https://xxxxx:xxxxx@h.example/r.git"),
            ("https://token@h.example/r.git", "https://xxxxx@h.example/r.git"),
            ("ssh://me@h.example:22/r.git", "ssh://me@h.example:22/r.git"),
            ("ssh://me:secret@h.example:22/r.git", "ssh://xxxxx:xxxxx@h.example:22/r.git"),
            ("https://h.example/a@b:c", "https://h.example/a@b:c"),
            ("me@h.example:r.git", "me@h.example:r.git"),
        ] {
            assert_eq!(shown(remote), expected);
        }
        let known = "url.https://token@h.example/.insteadOf=https://xxxxx@h.example/";
        assert_eq!(credentials("https://token@h.example/a/r.git").as_deref(), Some(known));
        assert_eq!(credentials("https://h.example/a/r.git"), None);
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
