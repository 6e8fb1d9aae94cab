//! Files of projects, from disk and from the standard input.

use std::io::Read;
use std::path::Path;

use fluyt_compose::Source;

/// This machine's files; `-` is the standard input.
pub struct Disk;

impl Source for Disk {
    fn read(&self, path: &Path) -> std::io::Result<String> {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin().lock().read_to_string(&mut text)?;
            return Ok(text);
        }
        std::fs::read_to_string(path)
    }

    fn is_file(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|m| !m.is_dir())
    }

    fn is_directory(&self, path: &Path) -> bool {
        path.is_dir()
    }
}
