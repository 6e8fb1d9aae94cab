//! Directories of layers that a killed process was making. Collection removes them too; this is for whoever is about to
//! make layers and does not collect.

use fluyt_model::Result;
use rustix::fs::{FlockOperation, flock};

use crate::gc::{names_in, remove_tree};
use crate::store::Store;

impl Store {
    /// Removes the directories of layers whose makers have ended without finishing them.
    ///
    /// # Errors
    /// I/O errors.
    pub fn clear_abandoned(&self) -> Result<()> {
        let dir = self.dir("ingest");
        for name in names_in(&dir)?.iter().filter(|name| name.starts_with("unpack-")) {
            let path = dir.join(name);
            let Ok(file) = std::fs::File::open(&path) else { continue };
            // Its maker holds the lock from before it has this name until the directory is gone or is a layer.
            // A command that is just being killed may still write there: what stays is for the next one.
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let _ = remove_tree(&path);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_being_made_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let layer = store.new_layer().unwrap();
        let dead = dir.path().join("ingest/unpack-0123");
        std::fs::create_dir_all(dead.join("fs/usr")).unwrap();
        std::fs::write(dir.path().join("ingest/part-x"), "").unwrap();
        store.clear_abandoned().unwrap();
        assert!(layer.fs().is_dir() && !dead.exists());
        assert!(dir.path().join("ingest/part-x").exists());
    }
}
