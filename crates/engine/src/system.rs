//! The data root as a whole: what it holds, what it takes up, whether it is in order.

use std::path::Path;

use fluyt_image::{CommitOptions, Digest, Image, Instruction, Removed, Silent};
use fluyt_model::reference::Reference;
use fluyt_model::sandbox::Phase;
use fluyt_model::{Error, Kind, Result};
use rusqlite::Connection;

use crate::Engine;
use crate::api::{Change, CommitRequest, DiskUse, Health, ImageUse, Info};
use crate::container::create::{MARK, link_names};
use crate::records::ContainerRecord;
use crate::volume::disk_use;

impl Engine {
    /// Removes an image's name, and the image when it has no other and nobody uses it.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while containers use it.
    pub fn remove_image(&self, name: &str, force: bool) -> Result<Vec<Removed>> {
        let image = self.store.resolve(name)?;
        let (id, labels) = (image.id.to_string(), &image.config.config.labels);
        let removed = self.store.remove_image(name, force, &|tx| self.image_users(tx))?;
        for step in &removed {
            match step {
                Removed::Untagged(_) => self.emit_image_with("untag", &id, &id, labels),
                // Nothing is known of it any more, its labels neither.
                Removed::Deleted(what) if *what == id => self.emit_image("delete", &id, &id),
                // A layer.
                Removed::Deleted(_) => {}
            }
        }
        Ok(removed)
    }

    /// Removes images without names, or with `all` every image that no container uses, unless `keep` holds it.
    ///
    /// # Errors
    /// The store cannot be changed.
    pub fn prune_images(&self, all: bool, keep: &dyn Fn(&Image) -> bool) -> Result<(Vec<Removed>, u64)> {
        let (removed, bytes) = self.store.prune_images(all, keep, &|tx| self.image_users(tx))?;
        let mut names = 0;
        for step in &removed {
            match step {
                Removed::Untagged(_) => names += 1,
                Removed::Deleted(id) => {
                    (0..std::mem::take(&mut names)).for_each(|_| self.emit_image("untag", id, id));
                    self.emit_image("delete", id, id);
                }
            }
        }
        self.emit_prune("image", bytes);
        Ok((removed, bytes))
    }

    fn image_users(&self, tx: &Connection) -> Result<Vec<fluyt_image::ImageUse>> {
        let records = self.records().containers_in(tx)?;
        let mut uses = Vec::new();
        for record in records {
            let running = self.is_running(&record.id);
            let own = record.spec.containers.first().map(|c| c.image_id.clone()).unwrap_or_default();
            let mounted = record.mounts.iter().filter(|m| !m.image.is_empty()).map(|m| m.image.clone());
            for image in std::iter::once(own).chain(mounted) {
                let (links, container) = (links(&record).collect(), record.id.clone());
                uses.push(fluyt_image::ImageUse { running, image, links, container });
            }
        }
        Ok(uses)
    }

    /// Which files of a container differ from its image.
    ///
    /// # Errors
    /// `NotFound`; its layers cannot be read.
    pub fn diff(&self, name: &str) -> Result<Vec<Change>> {
        let record = self.records().container(name)?;
        let upper = self.paths.container(&record.id).join("upper");
        let changes = fluyt_image::rootfs::changes(&upper, &record.lower)?;
        let changes = changes.into_iter().map(|c| Change { kind: c.kind.letter(), path: c.path }).collect();
        Ok(without(changes, &omitted(&record)))
    }

    /// Writes a container's files as a tar archive.
    ///
    /// # Errors
    /// `NotFound`; the archive cannot be written.
    pub fn export(&self, name: &str, out: &mut dyn std::io::Write) -> Result<()> {
        let record = self.records().container(name)?;
        let mut dirs = vec![self.paths.container(&record.id).join("upper")];
        dirs.extend(record.lower.iter().cloned());
        fluyt_image::rootfs::export(&dirs, out)?;
        self.emit_container("export", &record, &[]);
        Ok(())
    }

    /// Makes an image of what a container has become. Returns its id.
    ///
    /// # Errors
    /// `NotFound`; a change that cannot be read; the store cannot be written.
    pub fn commit(&self, name: &str, request: &CommitRequest) -> Result<String> {
        let record = self.records().container(name)?;
        let pause = request.pause && self.status(&record.id)?.phase == Phase::Running;
        let pause = pause
            && match self.pause(&record.id) {
                // It has ended meanwhile.
                Err(e) if e.kind() == Kind::Conflict && !self.is_running(&record.id) => false,
                done => done.map(|()| true)?,
            };
        let committed = self.commit_layer(&record, request);
        if pause && let Err(e) = self.unpause(&record.id) {
            // It may have been killed meanwhile.
            if self.is_running(&record.id) {
                return Err(e);
            }
        }
        let id = committed?;
        let reference = request.reference.as_deref().unwrap_or_default();
        let reference = fluyt_model::reference::Reference::parse(reference).map(|r| r.familiar());
        let reference = reference.unwrap_or_default();
        let more = [("comment", request.comment.as_str()), ("imageID", &id), ("imageRef", &reference)];
        self.emit_container("commit", &record, &more);
        Ok(id)
    }

    /// What the data root takes up.
    ///
    /// # Errors
    /// The records cannot be read.
    pub fn df(&self) -> Result<DiskUse> {
        let mut total = DiskUse::default();
        let users = self.records().read(|tx| self.image_users(tx))?;
        let used = users.iter().map(|u| Digest::parse(&u.image)).collect::<Result<Vec<_>>>()?;
        let usage = self.store.usage(&used)?;
        for (image, on_disk) in self.store.images()?.iter().zip(&usage.images) {
            let containers = users.iter().filter(|u| u.image == image.id.as_str()).count();
            total.images.push(ImageUse {
                id: image.id.to_string(),
                references: image.repo_tags(),
                created: image.created * 1_000_000_000,
                size: on_disk.size,
                shared: on_disk.shared,
                containers: u32::try_from(containers).unwrap_or(u32::MAX),
            });
        }
        total.build_cache = self.build_cache()?;
        // Layers that only the cache has are its own, not left-overs of images.
        let cached: u64 = crate::build_cache::layer_bytes(&total.build_cache);
        total.layers = (usage.total + usage.leftovers).saturating_sub(cached);
        total.images_reclaimable = usage.reclaimable.saturating_sub(cached);
        for record in self.records().containers()? {
            let running = self.is_running(&record.id);
            total.containers.push((record.id.clone(), disk_use(&self.paths.container(&record.id)), running));
        }
        for volume in self.volumes()? {
            let users = u32::try_from(volume.used_by.len()).unwrap_or(u32::MAX);
            total.volumes.push((
                volume.spec.name.clone(),
                disk_use(&self.paths.volume(&volume.spec.name)),
                users,
            ));
        }
        Ok(total)
    }

    /// What this engine and its machine are.
    ///
    /// # Errors
    /// The records cannot be read.
    pub fn info(&self) -> Result<Info> {
        let mut info = Info { root: self.paths.root().to_owned(), ..Info::default() };
        for view in self.list()? {
            let slot = match view.status.phase {
                Phase::Running | Phase::Restarting => &mut info.containers.0,
                Phase::Paused => &mut info.containers.1,
                _ => &mut info.containers.2,
            };
            *slot += 1;
        }
        info.images = u32::try_from(self.store.images()?.len()).unwrap_or(u32::MAX);
        let uname = rustix::system::uname();
        info.hostname = uname.nodename().to_string_lossy().into_owned();
        info.kernel = uname.release().to_string_lossy().into_owned();
        info.architecture = uname.machine().to_string_lossy().into_owned();
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let field = |key: &str| {
            let value = release.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
            value.unwrap_or_default().trim_matches('"').to_owned()
        };
        info.os = field("PRETTY_NAME");
        info.os_version = field("VERSION_ID");
        info.cpus = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
        info.memory = crate::container::stats::memory_of_machine()?;
        info.cgroup_version = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { 2 } else { 1 };
        Ok(info)
    }

    /// Looks for what is not in order, and with `repair` puts it in order.
    ///
    /// # Errors
    /// The data root cannot be read at all.
    pub fn fsck(&self, repair: bool) -> Result<Health> {
        let report = self.store.fsck(&|tx| self.image_users(tx), repair, &Silent)?;
        let mut health = Health::default();
        health.problems.extend(report.problems.into_iter().map(finding));
        health.leftovers.extend(report.leftovers.into_iter().map(finding));
        let records = self.records().containers()?;
        for record in &records {
            if !self.paths.container(&record.id).exists() {
                health.leftovers.push((format!("container {}: an interrupted removal", record.name), repair));
                if repair {
                    self.remove_run_dir(&record.id)?;
                    self.records().delete_container(&record.id)?;
                }
            }
        }
        for entry in std::fs::read_dir(self.paths.containers()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !records.iter().any(|r| r.id == name) && old_enough(&entry.path()) {
                health.leftovers.push((format!("containers/{name}: belongs to no container"), repair));
                if repair {
                    self.discard(&entry.path())?;
                }
            }
        }
        self.check_pods(repair, &mut health)?;
        for entry in std::fs::read_dir(self.paths.trash()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            health
                .leftovers
                .push((format!("trash/{}: an interrupted removal", name.to_string_lossy()), repair));
        }
        if repair {
            self.empty_trash()?;
        }
        for volume in self.records().volumes()? {
            if !self.paths.volume(&volume.spec.name).exists() {
                health.problems.push((format!("volume {}: its directory is gone", volume.spec.name), repair));
                if repair {
                    self.volume_data(&volume)?;
                }
            }
        }
        Ok(health)
    }

    /// Gives back what nobody needs: interrupted removals, unreferenced layers and blobs. Returns the bytes of the latter.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn collect(&self) -> Result<u64> {
        self.empty_trash()?;
        self.reclaim_steps()?;
        let done = self.store.collect(&|tx| self.image_users(tx), fluyt_image::gc::PARTIAL_AGE)?;
        Ok(done.bytes)
    }

    fn commit_layer(&self, record: &ContainerRecord, request: &CommitRequest) -> Result<String> {
        let base = self.store.image(&Digest::parse(&record.spec.containers[0].image_id)?)?;
        let changes =
            request.changes.iter().map(|text| Instruction::parse(text)).collect::<Result<Vec<_>>>()?;
        let config = request.config.clone().map(serde_json::from_value).transpose();
        let config = config.map_err(|e| Error::invalid("the container's configuration").with_source(e))?;
        let options = CommitOptions {
            reference: request.reference.as_deref().map(Reference::parse).transpose()?,
            author: request.author.clone(),
            comment: request.comment.clone(),
            changes,
            config,
            created_by: record.spec.containers[0].process.args.join(" "),
            omit: omitted(record),
        };
        let upper = self.paths.container(&record.id).join("upper");
        Ok(self.store.commit(&base, &upper, &options, &Silent)?.id.to_string())
    }
}

/// Places in the writable layer that are ours: made to mount on, and the mark of a container.
fn omitted(record: &ContainerRecord) -> Vec<String> {
    let own = [MARK, "/etc/resolv.conf", "/etc/hostname", "/etc/hosts", "/dev", "/proc", "/sys"];
    own.into_iter().map(str::to_owned).chain(record.mounts.iter().map(|m| m.target.clone())).collect()
}

/// The changes without those that were only made to mount on, and without directories that changed only by them.
fn without(mut changes: Vec<Change>, omitted: &[String]) -> Vec<Change> {
    let before = changes.len();
    changes.retain(|c| !omitted.contains(&c.path));
    if changes.len() == before {
        return changes;
    }
    let paths: Vec<String> = changes.iter().map(|c| c.path.clone()).collect();
    let parents: Vec<&str> =
        omitted.iter().filter_map(|p| p.rsplit_once('/').map(|(parent, _)| parent)).collect();
    changes.retain(|c| {
        let only_place = c.kind == 'C' && parents.contains(&c.path.as_str());
        let inside = format!("{}/", c.path);
        !only_place || paths.iter().any(|p| p.starts_with(&inside))
    });
    changes
}

/// The short names of the layers that a container stands on.
fn links(record: &ContainerRecord) -> impl Iterator<Item = String> + '_ {
    let mounted = record.mounts.iter().flat_map(|m| m.links.iter().cloned());
    link_names(&record.lower).chain(mounted)
}

/// One finding of the image store as a sentence, and whether it was repaired.
fn finding(found: fluyt_image::fsck::Finding) -> (String, bool) {
    let done = found.repaired.as_ref().map(|what| format!(" ({what})")).unwrap_or_default();
    (format!("{}: {}{done}", found.object, found.problem), found.repaired.is_some())
}

/// A directory that another process may be making a container in this very moment is left alone.
pub(crate) fn old_enough(path: &Path) -> bool {
    let age = std::fs::metadata(path).and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
    age.is_some_and(|age| age.as_secs() > 600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_to_mount_on_are_no_changes() {
        let change = |kind, path: &str| Change { kind, path: path.to_owned() };
        let omitted = ["/etc/hosts".to_owned(), "/data".to_owned()];
        let all =
            vec![change('C', "/etc"), change('A', "/etc/hosts"), change('A', "/data"), change('A', "/x")];
        assert_eq!(without(all, &omitted), [change('A', "/x")]);
        let more = vec![change('C', "/etc"), change('A', "/etc/hosts"), change('A', "/etc/new")];
        assert_eq!(without(more, &omitted), [change('C', "/etc"), change('A', "/etc/new")]);
    }
}
