//! Containers as others see them: record and status together.

use fluyt_image::Digest;
use fluyt_model::sandbox::{Phase, RestartCondition};
use fluyt_model::{Kind, Result};
use fluyt_monitor::watch;

use crate::Engine;
use crate::api::{ContainerPaths, ContainerView};
use crate::records::ContainerRecord;

impl Engine {
    /// All containers, newest first.
    ///
    /// # Errors
    /// The records cannot be read.
    pub fn list(&self) -> Result<Vec<ContainerView>> {
        let mut views = Vec::new();
        for record in self.records().containers()? {
            if let Some(view) = self.whole_view(record)? {
                views.push(view);
            }
        }
        Ok(views)
    }

    /// Whether there is a record of the container with this full id.
    ///
    /// # Errors
    /// The records cannot be read.
    pub fn is_recorded(&self, id: &str) -> Result<bool> {
        match self.records().container(id) {
            Ok(record) => Ok(record.id == id),
            Err(e) if e.kind() == Kind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The image of each container, as an id; the order means nothing.
    ///
    /// # Errors
    /// The records cannot be read.
    pub fn container_images(&self) -> Result<Vec<String>> {
        self.records().container_images()
    }

    /// One container by name, id, or unambiguous beginning of an id.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn container(&self, name: &str) -> Result<ContainerView> {
        let record = self.records().container(name)?;
        self.whole_view(record)?
            .ok_or_else(|| fluyt_model::Error::not_found(format!("No such container: {name}")))
    }

    /// `None` for what an interrupted removal has left, which goes away here.
    fn whole_view(&self, record: ContainerRecord) -> Result<Option<ContainerView>> {
        let dir = self.paths.container(&record.id);
        let mut status = match self.status(&record.id) {
            Err(e) if e.kind() == Kind::NotFound => return Ok(None),
            other => other?,
        };
        if status.started_at == 0 && !dir.exists() {
            self.remove_run_dir(&record.id)?;
            self.records().delete_container(&record.id)?;
            return Ok(None);
        }
        if status.phase == Phase::Exited && self.is_lost(&record) {
            // It is started again. If nobody is at it, because the watcher was killed too, somebody is from now on; if that
            // cannot be, the next look tries again.
            status.phase = Phase::Restarting;
            status.finished_at = status.finished_at.max(status.started_at);
            let _ = watch::call(self.paths.root(), self.paths.run());
        }
        let endpoints = if record.spec.networks.is_empty() {
            Vec::new()
        } else {
            self.records().leases_of_container(&record.id)?
        };
        let paths = ContainerPaths {
            log: self.log_path(&record),
            resolv_conf: dir.join("resolv.conf"),
            hostname: dir.join("hostname"),
            hosts: dir.join("hosts"),
            lower: record.lower,
            upper: dir.join("upper"),
            work: dir.join("work"),
            dir,
        };
        let monitor_pid = fluyt_monitor::owner(&self.paths.run_of(&record.id)).unwrap_or(0);
        Ok(Some(ContainerView {
            id: record.id,
            name: record.name,
            created: record.created,
            spec: record.spec,
            status,
            document: record.document,
            endpoints,
            mounts: record.mounts,
            paths,
            monitor_pid,
        }))
    }

    /// Whether a container's monitor was killed and its restart policy says that it should run.
    fn is_lost(&self, record: &ContainerRecord) -> bool {
        let condition = record.spec.containers.first().map_or(RestartCondition::No, |c| c.restart.condition);
        condition != RestartCondition::No
            && fluyt_monitor::state::load(&self.paths.container(&record.id))
                .is_ok_and(|status| watch::is_lost(&self.paths.run_of(&record.id), &status))
    }

    /// Bytes that a container has written, and bytes that it sees in all.
    ///
    /// # Errors
    /// Its image's layers cannot be read.
    pub fn size(&self, view: &ContainerView) -> Result<(u64, u64)> {
        let written = fluyt_image::usage::content_size(&view.paths.upper)?;
        let image = view.spec.containers.first().map(|c| c.image_id.clone()).unwrap_or_default();
        let below = Digest::parse(&image).and_then(|id| self.store.image(&id)).map_or(0, |i| i.size);
        Ok((written, written + below))
    }
}
