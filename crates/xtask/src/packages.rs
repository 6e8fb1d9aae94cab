//! What the two commands need from Debian: the one list, and the one line that says what is missing.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{Failure, Result};

const LIST: &str = include_str!("packages.txt");

/// The packages whose proof is absent.
pub fn missing() -> Vec<&'static str> {
    entries().filter(|(_, proof)| !is_there(proof)).map(|(name, _)| name).collect()
}

/// `missing: a b (apt-get install -y a b)`, or none.
pub fn complaint() -> Option<String> {
    let names = missing().join(" ");
    (!names.is_empty()).then(|| format!("missing: {names} (apt-get install -y {names})"))
}

/// Installs what is missing.
///
/// # Errors
/// apt-get fails; it has said why.
pub fn install() -> Result<()> {
    let names = missing();
    if names.is_empty() {
        return Ok(());
    }
    for arguments in
        [vec!["update", "-q"], [vec!["install", "-qy", "--no-install-recommends"], names].concat()]
    {
        let status = Command::new("apt-get")
            .args(&arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .status()
            .map_err(|e| Failure::new(format!("apt-get: {e}")))?;
        if !status.success() {
            return Err(Failure::new(format!("apt-get {} failed", arguments.join(" "))));
        }
    }
    Ok(())
}

fn entries() -> impl Iterator<Item = (&'static str, &'static str)> {
    LIST.lines().filter(|l| !l.starts_with('#')).filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?, words.next()?))
    })
}

/// A program by name, a file by path, or one file of a directory by a pattern with `*`.
fn is_there(proof: &str) -> bool {
    if proof.contains('*') {
        let (directory, pattern) = proof.rsplit_once('/').unwrap_or(("", proof));
        let parts: Vec<&str> = pattern.split('*').collect();
        return fs::read_dir(directory).into_iter().flatten().flatten().any(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with(parts[0]) && parts.iter().all(|p| name.contains(p))
        });
    }
    if proof.starts_with('/') {
        return Path::new(proof).exists();
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    path.split(':').chain(usual).any(|d| Path::new(d).join(proof).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_has_a_proof() {
        assert!(entries().count() > 10);
        assert!(is_there("sh") && is_there("/etc/*asswd") && !is_there("no-such-program"));
    }
}
