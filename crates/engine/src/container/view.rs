//! Containers as others see them: record and status together.

use std::sync::Arc;

use fluyt_image::Digest;
use fluyt_model::sandbox::{Namespace, Phase, RestartCondition};
use fluyt_model::{Error, Kind, Result};
use fluyt_monitor::watch;

use super::recorded::{Recorded, Sight};
use super::tell;
use crate::Engine;
use crate::api::ContainerView;

impl Engine {
    /// All containers, newest first.
    ///
    /// # Errors
    /// The records cannot be read.
    pub fn list(&self) -> Result<Vec<ContainerView>> {
        let all = self.all_sights()?;
        let mut views = Vec::with_capacity(all.len());
        for sight in all.iter() {
            if let Some(view) = self.whole_view(sight.clone())? {
                views.push(view);
            }
        }
        Ok(views)
    }

    /// What the records have of all containers, newest first.
    fn all_sights(&self) -> Result<Arc<[Sight]>> {
        self.records().read(|tx| {
            let mut sights = self.sights.borrow_mut();
            let sights = sights.at(self.store.db().version()?);
            if let Some(all) = sights.all() {
                return Ok(all);
            }
            let mut leases = self.records().leases(tx)?;
            let mut all: Vec<Sight> = Vec::new();
            self.records().each_container(tx, |id, name, created, text| {
                let recorded = self.memory.take(&self.paths, (id, name, created, text))?;
                let plugs = match plugs_of(&recorded) {
                    Some(own) if own == id => leases.remove(id),
                    // Other members have them too.
                    Some(pod) => leases.get(pod).cloned(),
                    None => None,
                };
                all.push((recorded, plugs.unwrap_or_default().into()));
                Ok(())
            })?;
            // Sorted here: sorting whole records, SQLite would put them into a temporary file.
            all.sort_by_key(|(recorded, _)| std::cmp::Reverse(recorded.created));
            self.memory.keep_only(&all);
            let all: Arc<[Sight]> = all.into();
            sights.set_all(&all);
            Ok(all)
        })
    }

    /// What the records have of the container that `name` stands for.
    fn sight(&self, name: &str) -> Result<Sight> {
        self.records().read(|tx| {
            let mut sights = self.sights.borrow_mut();
            let sights = sights.at(self.store.db().version()?);
            if let Some(sight) = sights.named(name) {
                return Ok(sight);
            }
            let row = self.records().container_row(tx, name)?;
            let recorded = self
                .memory
                .take(&self.paths, (&row.id, &row.name, row.created, &row.text))
                .map_err(|e| Error::corrupt(format!("the record of container {}", row.id)).with_source(e))?;
            let plugs = match plugs_of(&recorded) {
                Some(id) => self.records().leases_of(tx, id)?,
                None => Vec::new(),
            };
            let sight = (recorded, plugs.into());
            sights.name(name, &sight);
            Ok(sight)
        })
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
        let sight = self.sight(name)?;
        self.whole_view(sight)?.ok_or_else(|| Error::not_found(format!("No such container: {name}")))
    }

    /// `None` for what an interrupted removal has left, which goes away here.
    fn whole_view(&self, (recorded, endpoints): Sight) -> Result<Option<ContainerView>> {
        let mut status = match tell::corrected(|| recorded.last_status(), || self.is_running(&recorded.id)) {
            Err(e) if e.kind() == Kind::NotFound => return Ok(None),
            other => other?,
        };
        if status.started_at == 0 && !recorded.paths.dir.exists() {
            self.remove_run_dir(&recorded.id)?;
            self.records().delete_container(&recorded.id)?;
            self.memory.forget(&recorded.id);
            return Ok(None);
        }
        if status.phase == Phase::Exited && self.is_lost(&recorded) {
            // It is started again. If nobody is at it, because the watcher was killed too, somebody is from now on; if that
            // cannot be, the next look tries again.
            let status = Arc::make_mut(&mut status);
            status.phase = Phase::Restarting;
            status.finished_at = status.finished_at.max(status.started_at);
            let _ = watch::call(self.paths.root(), self.paths.run());
        }
        Ok(Some(ContainerView { recorded, status, endpoints }))
    }

    /// Whether a container's monitor was killed and its restart policy says that it should run.
    fn is_lost(&self, record: &Recorded) -> bool {
        let condition = record.spec.containers.first().map_or(RestartCondition::No, |c| c.restart.condition);
        condition != RestartCondition::No
            && record
                .last_status()
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

/// Whose plugs a container shows: its own, or those of its pod.
fn plugs_of(recorded: &Recorded) -> Option<&str> {
    if recorded.spec.namespaces.network == Namespace::Pod {
        Some(&recorded.spec.pod)
    } else {
        (!recorded.spec.networks.is_empty()).then_some(&recorded.id)
    }
}
