//! The machine's files, as the search for units sees them.

use std::io;
use std::path::{Path, PathBuf};

use fluyt_quadlet::Machine;
use fluyt_quadlet::find::Files;

/// This machine.
pub struct Disk;

impl Files for Disk {
    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        let names =
            std::fs::read_dir(directory)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.collect())
    }

    fn real(&self, path: &Path) -> io::Result<PathBuf> {
        path.canonicalize()
    }

    fn is_directory(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }
}

impl Machine for Disk {
    fn exists(&self, path: &str) -> bool {
        Path::new(path).exists()
    }
}
