//! Every file of a tree, by its path: links are not followed, what the kernel makes up is left out.

use std::os::unix::ffi::OsStrExt;

use fluyt_model::Result;
use fluyt_model::error::IoContext;

use crate::solve::tree::{Root, fd_path};

/// Directories that hold no files of an image.
const KERNELS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// A file that is no directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Absolute; names that are not UTF-8 are passed over.
    pub path: String,
    /// A regular file, no link or device.
    pub regular: bool,
}

/// Calls `visit` for each file, directory by directory, in the order of their names.
///
/// # Errors
/// I/O errors; those of `visit`.
pub fn each(root: &Root, visit: &mut dyn FnMut(&Entry) -> Result<()>) -> Result<()> {
    let mut open = vec![String::new()];
    while let Some(dir) = open.pop() {
        crate::solve::tree::check_depth(&dir)?;
        let fd = root.dir(&dir)?;
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(fd_path(&fd)).about(|| dir.clone())? {
            let entry = entry.about(|| dir.clone())?;
            let Ok(name) = std::str::from_utf8(entry.file_name().as_bytes()).map(str::to_owned) else {
                continue;
            };
            entries.push((format!("{dir}/{name}"), entry.file_type().about(|| dir.clone())?));
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let mut below = Vec::new();
        for (path, kind) in entries {
            if !kind.is_dir() {
                visit(&Entry { path, regular: kind.is_file() })?;
            } else if !KERNELS.contains(&path.as_str()) {
                below.push(path);
            }
        }
        open.extend(below.into_iter().rev());
    }
    Ok(())
}
