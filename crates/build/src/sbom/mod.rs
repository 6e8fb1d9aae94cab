//! What is in a root file system: packages by the records that package managers leave, as an SPDX 2.3 document.
//!
//! Looked at: dpkg (also as distroless images have it), apk, RPM (in SQLite and `ndb`), Python distributions, Node
//! packages, Ruby's gems, Composer's packages of PHP, modules of Go programs, crates of Rust programs that list them. Not
//! looked at: RPM's older databases, Java archives, files that belong to no package.

mod binaries;
mod elf;
mod records;
mod rpm;
mod spdx;
mod walk;

use std::fs::File;

use fluyt_model::Result;
use rustix::fs::{FileType, Mode, OFlags};

use crate::solve::tree::{Root, fd_path, kind};

pub use spdx::document;
pub use walk::{Entry, each};

/// A package.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// The type of its address: `deb`, `apk`, `rpm`, `pypi`, `npm`, `gem`, `composer`, `golang`, `cargo`.
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

type Read = fn(&File, &str) -> Vec<Package>;

/// Where RPM's databases are.
const RPM: [(&str, Read); 4] = [
    ("/usr/lib/sysimage/rpm/rpmdb.sqlite", rpm::sqlite),
    ("/var/lib/rpm/rpmdb.sqlite", rpm::sqlite),
    ("/usr/lib/sysimage/rpm/Packages.db", rpm::ndb),
    ("/var/lib/rpm/Packages.db", rpm::ndb),
];

/// Opens a file if it is a regular one: to open a device is to use it.
fn regular(root: &Root, path: &str) -> Option<File> {
    let place = root.at(path, true).ok()?;
    let stat = rustix::fs::fstat(&place).ok()?;
    if kind(&stat) != FileType::RegularFile {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(fd_path(&place), flags, Mode::empty()).ok().map(File::from)
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
    for (path, read) in RPM {
        if let Some(file) = regular(root, path) {
            found.packages.extend(read(&file, path));
        }
    }
    let packages = &mut found.packages;
    each(root, &mut |entry| {
        if !entry.regular {
            return Ok(());
        }
        if records::is_record(&entry.path) {
            let text = root.text(&entry.path).unwrap_or_default();
            packages.extend(records::of_file(&entry.path, &text));
        } else if let Some(file) = regular(root, &entry.path) {
            packages.extend(binaries::of_program(&file, &entry.path));
        }
        Ok(())
    })?;
    found.packages.sort();
    found.packages.dedup_by(|a, b| {
        (a.kind, &a.name, &a.version, &a.architecture) == (b.kind, &b.name, &b.version, &b.architecture)
    });
    Ok(found)
}
