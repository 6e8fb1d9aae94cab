//! Root file systems of real Debian packages, made by debootstrap and kept under the target directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Scratch;

/// Where this machine gets its packages, from its apt configuration.
#[must_use]
pub fn mirror() -> Option<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let more = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    files.extend(more.map(|e| e.path()));
    files.sort();
    let texts: Vec<String> = files.iter().filter_map(|f| fs::read_to_string(f).ok()).collect();
    texts.iter().find_map(|t| mirror_in(t))
}

/// The first address of a Debian archive in a sources file of either format.
fn mirror_in(text: &str) -> Option<String> {
    let active = text.lines().filter(|l| !l.trim_start().starts_with('#'));
    let uses = active.filter(|l| l.starts_with("deb ") || l.starts_with("URIs:"));
    let addresses = uses.flat_map(|l| l.split_whitespace().skip(1)).filter(|w| w.contains("://"));
    addresses.map(|a| a.trim_end_matches('/').to_owned()).find(|a| a.ends_with("/debian"))
}

/// A tar archive of Debian bookworm with `packages`, made once; none (said as a skip) where it cannot be made.
#[must_use]
pub fn root_file_system(packages: &[&str]) -> Option<PathBuf> {
    let directory = cache();
    let mut names = packages.to_vec();
    names.sort_unstable();
    let name =
        format!("debian-bookworm-{}.tar", if names.is_empty() { "base".to_owned() } else { names.join("-") });
    let path = directory.join(name);
    if path.exists() {
        return Some(path);
    }
    // Tests that need the same image at the same time wait for the first of them to make it.
    let _ = fs::create_dir_all(&directory);
    let lock = fs::File::create(directory.join("lock")).ok();
    if let Some(lock) = &lock {
        let _ = rustix::fs::flock(lock, rustix::fs::FlockOperation::LockExclusive);
    }
    if path.exists() {
        return Some(path);
    }
    match make(&names, &path) {
        Ok(()) => Some(path),
        Err(why) => {
            crate::skip(&why);
            None
        }
    }
}

/// `target/images` of the workspace.
fn cache() -> PathBuf {
    let own = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    own.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target")).join("images")
}

fn make(packages: &[&str], path: &Path) -> Result<(), String> {
    let run = |command: &mut Command| {
        let output =
            command.output().map_err(|e| format!("{}: {e}", command.get_program().to_string_lossy()))?;
        if output.status.success() {
            return Ok(());
        }
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let said = lines[lines.len().saturating_sub(3)..].join(" / ");
        Err(format!("{} failed: {said}", command.get_program().to_string_lossy()))
    };
    let mirror = mirror().ok_or("apt's configuration names no Debian archive")?;
    fs::create_dir_all(cache()).map_err(|e| format!("{}: {e}", cache().display()))?;
    let scratch = Scratch::new("debootstrap");
    let root = scratch.join("root");
    let include = packages.join(",");
    // In a PID namespace of its own: a daemon that a package starts while it is installed ends with it.
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "debootstrap", "--variant=minbase", "--merged-usr"]);
    if !include.is_empty() {
        command.arg(format!("--include={include}"));
    }
    command.arg("bookworm").arg(&root).arg(mirror).env("DEBIAN_FRONTEND", "noninteractive");
    run(&mut command)?;
    let half = path.with_extension(format!("tar.{}", std::process::id()));
    let unneeded = [
        "var/cache/apt/*",
        "var/lib/apt/lists/*",
        "usr/share/doc/*",
        "usr/share/locale/*",
        "usr/share/man/*",
    ];
    run(Command::new("tar")
        .args(unneeded.map(|path| format!("--exclude=./{path}")))
        .args(["--numeric-owner", "-cf"])
        .arg(&half)
        .arg("-C")
        .arg(&root)
        .arg("."))?;
    fs::rename(&half, path).map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_read_from_both_formats() {
        let list = "# deb http://a.example/debian x\ndeb http://b.example/debian/ bookworm main\n";
        assert_eq!(mirror_in(list).as_deref(), Some("http://b.example/debian"));
        let sources = "Types: deb\nURIs: http://c.example/debian\nSuites: bookworm\n";
        assert_eq!(mirror_in(sources).as_deref(), Some("http://c.example/debian"));
        assert_eq!(mirror_in("deb https://d.example/node nodistro main\n"), None);
    }
}
