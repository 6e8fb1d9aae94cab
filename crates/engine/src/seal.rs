//! The sealed executable of this program: that of a living monitor where there is one, else a new one.

use std::io;
use std::path::Path;

use fluyt_sys::exe::{self, Sealed};

use crate::Paths;

/// So many run directories are looked at: those of containers that do not run are met too.
const LOOKED_AT: usize = 16;

/// A seal of this executable; `run` is the run directory of the data root.
pub(crate) fn find(run: &Path) -> io::Result<Sealed> {
    let dirs = std::fs::read_dir(run).into_iter().flatten().flatten().take(LOOKED_AT);
    let mut owners = dirs.filter_map(|dir| fluyt_monitor::owner(&dir.path())).filter(|pid| *pid != 0);
    // Monitors of an older version run from another file; one look at a monitor is enough to know.
    owners.next().and_then(exe::sealed_of).map_or_else(exe::sealed, Ok)
}

/// Makes sure that this process runs from a sealed executable before it becomes a process of a container.
///
/// # Errors
/// The kernel refuses.
pub fn seal(root: &Path) -> io::Result<()> {
    let paths = Paths::new(root).map_err(io::Error::other)?;
    exe::seal_by(|| find(paths.run())).map(drop)
}
