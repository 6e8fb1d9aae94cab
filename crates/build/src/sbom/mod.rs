//! What is in a root file system: packages by the records that package managers leave, as an SPDX 2.3 document.
//!
//! Looked at: dpkg (also as distroless images have it), apk, Python distributions, Node packages. Not looked at: RPM's
//! databases, Go and Rust binaries, files that belong to no package.

mod records;
mod spdx;
mod walk;

use fluyt_model::Result;

use crate::solve::tree::Root;

pub use spdx::document;
pub use walk::{Entry, each};

/// A package.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// The type of its address: `deb`, `apk`, `pypi`, `npm`.
    pub kind: &'static str,
    /// Its name; an npm package's has its scope.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it is built for, where that is said.
    pub architecture: String,
    /// The package that it was built from, where that is another one.
    pub source: String,
    /// Its licence as stated.
    pub license: String,
    /// Who maintains it.
    pub maintainer: String,
    /// The file that says so.
    pub found_in: String,
}

/// The distribution of a root file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// `debian`, `alpine`.
    pub id: String,
    /// `12`, `3.20.1`.
    pub version: String,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// What the whole is.
    pub distribution: Distribution,
    /// Sorted, each once.
    pub packages: Vec<Package>,
}

/// Looks for packages.
///
/// # Errors
/// I/O errors.
pub fn scan(root: &Root) -> Result<Inventory> {
    let release =
        root.text("/etc/os-release").or_else(|| root.text("/usr/lib/os-release")).unwrap_or_default();
    let mut found = Inventory { distribution: records::release(&release), packages: Vec::new() };
    for path in ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"] {
        // One is often a link to the other's directory.
        if let Some(text) = root.text(path).filter(|_| found.packages.is_empty()) {
            found.packages.extend(records::apk(&text, path));
        }
    }
    if let Some(text) = root.text("/var/lib/dpkg/status") {
        found.packages.extend(records::dpkg(&text, "/var/lib/dpkg/status"));
    }
    for name in root.names("/var/lib/dpkg/status.d").unwrap_or_default() {
        let path = format!("/var/lib/dpkg/status.d/{name}");
        if let Some(text) = root.text(&path).filter(|_| !name.ends_with(".md5sums")) {
            found.packages.extend(records::dpkg(&text, &path));
        }
    }
    let mut paths = Vec::new();
    each(root, &mut |entry| {
        if entry.regular && records::is_record(&entry.path) {
            paths.push(entry.path.clone());
        }
        Ok(())
    })?;
    for path in paths {
        let Some(text) = root.text(&path) else { continue };
        found.packages.extend(records::of_file(&path, &text));
    }
    found.packages.sort();
    found.packages.dedup_by(|a, b| {
        (a.kind, &a.name, &a.version, &a.architecture) == (b.kind, &b.name, &b.version, &b.architecture)
    });
    Ok(found)
}
