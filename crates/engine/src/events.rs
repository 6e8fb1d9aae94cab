//! The event journal: one JSON object a line, appended by everybody, followed by whoever listens.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use fluyt_model::Result;
use fluyt_model::error::IoContext;
use fluyt_monitor::state::Subject;

use crate::api::{ContainerView, Event};
use crate::container::create::attributes;
use crate::notice::{Followed, Notices, Patience, Woken};
use crate::records::{ContainerRecord, NetworkRecord, VolumeRecord};
use crate::{Engine, Paths};

/// How often the journal is looked at when nobody tells of a change: notices can be lost where a file system has none.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Reads the journal.
pub struct EventReader {
    path: PathBuf,
    /// The older part, read first.
    older: Option<BufReader<File>>,
    file: Option<BufReader<File>>,
    line: Vec<u8>,
    since: i64,
    until: Option<i64>,
    follow: bool,
    /// Tells of what is written, once the end of a followed journal was met.
    notices: Option<Notices>,
}

impl Engine {
    /// Appends an event. One that cannot be written is lost: what it tells of has happened all the same.
    pub fn emit(&self, event: &Event) {
        let subject =
            Subject { kind: event.kind.clone(), id: event.id.clone(), attributes: event.attributes.clone() };
        let _ = fluyt_monitor::state::emit(&self.paths.events(), &[(&event.action, &subject)]);
    }

    pub(crate) fn emit_container(&self, action: &str, record: &ContainerRecord, more: &[(&str, &str)]) {
        let mut all = attributes(record);
        all.extend(more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        self.emit(&Event {
            kind: "container".into(),
            action: action.into(),
            id: record.id.clone(),
            attributes: all,
            time: 0,
        });
    }

    /// Tells of something that happened to a container that was just looked at.
    pub fn tell_of(&self, view: &ContainerView, action: &str) {
        let mut attributes = view.spec.labels.clone();
        let image = view.spec.containers.first().map(|c| c.image.clone()).unwrap_or_default();
        attributes.extend([("image".to_owned(), image), ("name".to_owned(), view.name.clone())]);
        let (kind, action, id) = ("container".to_owned(), action.to_owned(), view.id.clone());
        self.emit(&Event { kind, action, id, attributes, time: 0 });
    }

    /// Tells of something that happened to a container; of one that has gone nothing is told.
    pub fn tell_container(&self, id: &str, action: &str, more: &[(&str, &str)]) {
        if let Ok(record) = self.records().container(id) {
            self.emit_container(action, &record, more);
        }
    }

    pub(crate) fn emit_network(&self, action: &str, network: &NetworkRecord, container: Option<&str>) {
        let subject = network_subject(network, container);
        let _ = fluyt_monitor::state::emit(&self.paths.events(), &[(action, &subject)]);
    }

    pub(crate) fn emit_volume(&self, action: &str, volume: &VolumeRecord) {
        let all = BTreeMap::from([("driver".to_owned(), volume.spec.driver.clone())]);
        let id = volume.spec.name.clone();
        self.emit(&Event { kind: "volume".into(), action: action.into(), id, attributes: all, time: 0 });
    }

    /// Tells of something that happened to an image; its labels are told too, as long as it is there.
    pub fn emit_image(&self, action: &str, id: &str, name: &str) {
        let labels = self.images().resolve(id).map(|image| image.config.config.labels).unwrap_or_default();
        self.emit_image_with(action, id, name, &labels);
    }

    /// The same of one whose labels are known.
    pub(crate) fn emit_image_with(
        &self,
        action: &str,
        id: &str,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) {
        let mut attributes = labels.clone();
        attributes.insert("name".to_owned(), name.to_owned());
        let subject = Subject { kind: "image".to_owned(), id: id.to_owned(), attributes };
        let _ = fluyt_monitor::state::emit(&self.paths.events(), &[(action, &subject)]);
    }

    /// Tells of a clearance of everything unused of one kind, and the bytes that came free.
    pub fn emit_prune(&self, kind: &str, bytes: u64) {
        let attributes = BTreeMap::from([("reclaimed".to_owned(), bytes.to_string())]);
        let subject = Subject { kind: kind.to_owned(), id: String::new(), attributes };
        let _ = fluyt_monitor::state::emit(&self.paths.events(), &[("prune", &subject)]);
    }

    /// Opens the journal: events not before `since` (default: from now on) and not after `until`; with `follow` it
    /// goes on as they come.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn events(&self, since: Option<i64>, until: Option<i64>, follow: bool) -> Result<EventReader> {
        let since = since.unwrap_or_else(fluyt_monitor::state::now);
        Ok(EventReader { until, follow, ..read(&self.paths, since) })
    }
}

/// The events since a moment that have been written down.
pub(crate) fn read(paths: &Paths, since: i64) -> EventReader {
    let path = paths.events();
    let older = File::open(path.with_extension("jsonl.1")).ok().map(BufReader::new);
    EventReader {
        path,
        older,
        file: None,
        line: Vec::new(),
        since,
        until: None,
        follow: false,
        notices: None,
    }
}

/// The networks and volumes that a container takes up when it starts, as the events of that name them.
pub(crate) fn companions<'a>(
    record: &ContainerRecord,
    networks: impl Iterator<Item = &'a NetworkRecord>,
) -> Vec<Subject> {
    let volumes = record.mounts.iter().filter(|m| m.kind == "volume").map(|mount| Subject {
        kind: "volume".to_owned(),
        id: mount.name.clone(),
        attributes: BTreeMap::from([
            ("container".to_owned(), record.id.clone()),
            ("destination".to_owned(), mount.target.clone()),
            ("driver".to_owned(), mount.driver.clone()),
            ("propagation".to_owned(), mount.propagation.clone()),
            ("read/write".to_owned(), mount.rw.to_string()),
        ]),
    });
    networks.map(|network| network_subject(network, Some(&record.id))).chain(volumes).collect()
}

/// A network, as events name it.
pub(crate) fn network_subject(network: &NetworkRecord, container: Option<&str>) -> Subject {
    let mut attributes = BTreeMap::from([
        ("name".to_owned(), network.spec.name.clone()),
        ("type".to_owned(), network.spec.driver.clone()),
    ]);
    attributes.extend(container.map(|c| ("container".to_owned(), c.to_owned())));
    Subject { kind: "network".to_owned(), id: network.id.clone(), attributes }
}

impl EventReader {
    /// The next event; `None` at the end, or when `until` has passed.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn next_event(&mut self) -> Result<Option<Event>> {
        loop {
            match self.next_within(Patience::ENDLESS)? {
                Followed::Item(event) => return Ok(Some(event)),
                Followed::Nothing => {}
                Followed::End => return Ok(None),
            }
        }
    }

    /// The next event; when following, waits for it as long as `patience` lasts.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn next_within(&mut self, patience: Patience<'_>) -> Result<Followed<Event>> {
        let mut idle = false;
        loop {
            if self.read_line()? {
                let event: Option<Event> = serde_json::from_slice(&self.line).ok();
                self.line.clear();
                // A line torn by a full disk is passed over.
                let Some(event) = event else { continue };
                if self.until.is_some_and(|until| event.time > until) {
                    return Ok(Followed::End);
                }
                if event.time >= self.since {
                    return Ok(Followed::Item(event));
                }
                continue;
            }
            let over = self.until.is_some_and(|until| fluyt_monitor::state::now() > until);
            if !self.follow || over {
                return Ok(Followed::End);
            }
            if idle && self.wait(patience)? == Woken::Enough {
                return Ok(Followed::Nothing);
            }
            // The first time round, the notices begin before the last look.
            idle = self.notices.is_some();
            if !idle {
                let notices = Notices::new()?;
                notices.add(&self.path)?;
                if let Some(root) = self.path.parent().filter(|_| !self.path.exists()) {
                    notices.add(root)?;
                }
                self.notices = Some(notices);
            }
        }
    }

    fn wait(&self, patience: Patience<'_>) -> Result<Woken> {
        let Some(notices) = &self.notices else { return Ok(Woken::Look) };
        let left = self.until.map(|until| until.saturating_sub(fluyt_monitor::state::now()).max(0));
        let left = left.map(|ns| Duration::from_nanos(ns.unsigned_abs().saturating_add(1_000_000)));
        notices.wait(Some(left.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN)), patience)
    }

    fn read_line(&mut self) -> Result<bool> {
        let about = || self.path.display().to_string();
        if let Some(older) = &mut self.older {
            older.read_until(b'\n', &mut self.line).about(about)?;
            if self.line.last() == Some(&b'\n') {
                return Ok(true);
            }
            self.older = None;
            self.line.clear();
        }
        if self.file.is_none() {
            self.file = File::open(&self.path).ok().map(BufReader::new);
        }
        let Some(file) = &mut self.file else { return Ok(false) };
        file.read_until(b'\n', &mut self.line).about(about)?;
        if self.line.last() == Some(&b'\n') {
            return Ok(true);
        }
        let inode = file.get_ref().metadata().about(about)?.ino();
        if std::fs::metadata(&self.path).is_ok_and(|m| m.ino() != inode) {
            // The journal was started anew; the old part has been read to its end.
            self.file = None;
            self.notices = None;
            self.line.clear();
        }
        Ok(false)
    }
}
