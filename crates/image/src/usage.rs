//! How much disk things take: the numbers of `du`, each inode counted once.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use fluyt_model::Result;
use fluyt_model::error::IoContext;

/// The bytes on disk of a file or of a directory with everything in it, as `du -B1` counts; 0 when it is absent.
///
/// # Errors
/// I/O errors.
pub fn disk_usage(path: &Path) -> Result<u64> {
    let Ok(meta) = path.symlink_metadata() else { return Ok(0) };
    let mut total = meta.blocks() * 512;
    if !meta.is_dir() {
        return Ok(total);
    }
    let mut seen = HashSet::new();
    let mut open = vec![path.to_owned()];
    while let Some(dir) = open.pop() {
        let entries = match std::fs::read_dir(&dir) {
            // Removed meanwhile by somebody else.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.about(|| dir.display().to_string())?,
        };
        for entry in entries {
            let entry = entry.about(|| dir.display().to_string())?;
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                open.push(entry.path());
            } else if meta.nlink() > 1 && !seen.insert((meta.dev(), meta.ino())) {
                continue;
            }
            total += meta.blocks() * 512;
        }
    }
    Ok(total)
}
