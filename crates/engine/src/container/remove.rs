//! Removing containers, so that a kill at any moment leaves either the container or nothing.
//!
//! ```text
//! containers/ID  ──rename──►  trash/ID  ──►  run directory deleted  ──►  record deleted  ──►  trash/ID deleted
//! ```
//! A record without a directory is what an interrupted removal leaves: whoever meets it deletes it.

use std::path::{Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::sandbox::Phase;
use fluyt_model::{Error, Kind, Result};

use crate::Engine;
use crate::api::{ContainerView, Pruned, RemoveOptions};
use crate::container::start::{is_mount_point, removal_lock};
use crate::records::ContainerRecord;
use crate::volume::disk_use;

impl Engine {
    /// Removes a container.
    ///
    /// # Errors
    /// `Conflict` if it runs and `force` is not given.
    pub fn remove(&self, name: &str, options: RemoveOptions) -> Result<()> {
        let record = self.records().container(name)?;
        let _starting = removal_lock(&self.paths.container(&record.id));
        if self.runs_on(&record.id) {
            if !options.force {
                return Err(Error::conflict(format!(
                    "cannot remove container \"{}\": container is running: stop the container before removing or force remove",
                    record.name
                ))
                .with_hint(format!("`fluyt rm -f {}`", record.name)));
            }
            match self.kill(&record.id, "KILL") {
                Err(e) if e.kind() != Kind::Conflict => return Err(e),
                _ => self.settle(&record.id),
            }
        }
        self.end_orphan(&record, Phase::Exited, true)?;
        self.erase(&record, options.volumes || record.spec.auto_remove)
    }

    /// The last act of a container that removes itself, by its monitor. Quiet if somebody else was quicker.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn reap(&self, id: &str) -> Result<()> {
        match self.records().container(id) {
            Ok(record) => self.erase(&record, true),
            Err(e) if e.kind() == Kind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// [`Engine::reap`], if the container has ended.
    ///
    /// # Errors
    /// As [`Engine::reap`].
    pub fn reap_if_over(&self, id: &str) -> Result<()> {
        match self.container(id) {
            Ok(view) if matches!(view.status.phase, Phase::Exited | Phase::Dead) => self.reap(id),
            Ok(_) => Ok(()),
            Err(e) if e.kind() == Kind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Whatever moment this is interrupted at: as long as the record is there, somebody meets it and goes on.
    fn erase(&self, record: &ContainerRecord, volumes: bool) -> Result<()> {
        let doomed = match self.hide(&self.paths.container(&record.id)) {
            Ok(doomed) => Some(doomed),
            // What is only half there is removed all the same.
            Err(e) if e.kind() == Kind::NotFound => None,
            Err(e) => return Err(e),
        };
        self.remove_run_dir(&record.id)?;
        let first = self.records().delete_container(&record.id)?;
        self.memory.forget(&record.id);
        if let Some(doomed) = doomed {
            delete_tree(&doomed)?;
        }
        for attachment in record.spec.networks.iter().filter(|a| a.network != crate::network::DEFAULT_NETWORK)
        {
            if let Ok(network) = self.records().read(|tx| self.records().network(tx, &attachment.network)) {
                self.publish_names(&network)?;
            }
        }
        if volumes {
            for mount in record.mounts.iter().filter(|m| m.anonymous) {
                match self.volume_remove(&mount.name, true) {
                    // Another container took it over with --volumes-from.
                    Err(e) if e.kind() == Kind::Conflict => {}
                    other => other?,
                }
            }
        }
        // Of several who remove it at once, the one who took the record away tells of it.
        if first {
            self.emit_container("destroy", record, &[]);
        }
        self.member_left(record)
    }

    /// Removes what a container has in the run directory.
    pub(crate) fn remove_run_dir(&self, id: &str) -> Result<()> {
        let run = self.paths.run_of(id);
        let shm = run.join("shm");
        if shm.exists() && is_mount_point(&shm)? {
            rustix::mount::unmount(&shm, rustix::mount::UnmountFlags::DETACH)
                .about(|| shm.display().to_string())?;
        }
        delete_tree(&run)
    }

    /// Makes a directory unreachable at once, and then deletes it.
    pub(crate) fn discard(&self, path: &Path) -> Result<()> {
        delete_tree(&self.hide(path)?)
    }

    /// Makes a directory unreachable at once; where it is now.
    fn hide(&self, path: &Path) -> Result<PathBuf> {
        let trash = self.paths.trash();
        let name = path.file_name().ok_or_else(|| Error::internal(path.display().to_string()))?;
        let doomed = trash.join(name);
        let moved = std::fs::rename(path, &doomed);
        if moved.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) && path.exists() {
            std::fs::create_dir_all(&trash).about(|| trash.display().to_string())?;
            std::fs::rename(path, &doomed).about(|| path.display().to_string())?;
        } else {
            moved.about(|| path.display().to_string())?;
        }
        Ok(doomed)
    }

    /// Deletes what interrupted removals have left behind.
    pub(crate) fn empty_trash(&self) -> Result<()> {
        for entry in std::fs::read_dir(self.paths.trash()).into_iter().flatten().flatten() {
            delete_tree(&entry.path())?;
        }
        Ok(())
    }

    /// Removes stopped containers that `keep` does not hold.
    ///
    /// # Errors
    /// One cannot be removed.
    pub fn prune_containers(&self, keep: &dyn Fn(&ContainerView) -> bool) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        for view in self.list()? {
            if self.is_running(&view.id) || view.status.phase == Phase::Restarting || keep(&view) {
                continue;
            }
            let bytes = disk_use(&view.paths.dir);
            match self.remove(&view.id, RemoveOptions::default()) {
                // Started or removed meanwhile.
                Err(e) if matches!(e.kind(), Kind::Conflict | Kind::NotFound) => continue,
                other => other?,
            }
            pruned.bytes += bytes;
            pruned.removed.push(view.id.clone());
        }
        self.empty_trash()?;
        self.emit_prune("container", pruned.bytes);
        Ok(pruned)
    }
}

/// Deletes a directory with all that is in it, if it is there.
pub(crate) fn delete_tree(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path.display().to_string(), e)),
        _ => Ok(()),
    }
}
