//! Making a container: everything it refers to is checked, its volumes exist, its record is written.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fluyt_image::{Digest, Image};
use fluyt_model::error::IoContext;
use fluyt_model::sandbox::{MountSource, MountSpec, Namespace, Namespaces, SandboxSpec, UserNamespace};
use fluyt_model::{Error, Kind, Result, id};
use rustix::rand::GetRandomFlags;

use crate::api::{CreateRequest, MountView, VolumeSpec};
use crate::container::ids;
use crate::records::{ContainerRecord, VolumeRecord};
use crate::volume::takes_files;
use crate::{Engine, lower, names};

/// How often a made-up name is tried again when it is taken.
const NAME_ATTEMPTS: u32 = 16;

/// The empty file by which programs know that they are in a container; Docker's name, since it is what they look for.
pub(crate) const MARK: &str = "/.dockerenv";

impl Engine {
    /// Makes a container; it is not started. Returns its id.
    ///
    /// # Errors
    /// `NotFound` for an image, network, container or mount source that does not exist, `Conflict` for a name
    /// that is taken, `Invalid` for limits that cannot work. Nothing is left behind.
    pub fn create(&self, mut request: CreateRequest) -> Result<String> {
        self.adopt(&mut request.spec)?;
        if let Some(name) = &request.name {
            id::check_name("container", name)?;
        }
        self.check(&request.spec)?;
        let image = self.store.image(&Digest::parse(&request.spec.containers[0].image_id)?)?;
        let lower = self.store.snapshot_lowers(&image);
        let mut record = ContainerRecord {
            id: id::from_random(random()?),
            created: fluyt_monitor::state::now(),
            spec: request.spec,
            document: request.document,
            lower,
            ..ContainerRecord::default()
        };
        if !record.spec.containers[0].log.options.is_empty() {
            // A template or a pattern that is wrong is told now, not at the first start.
            super::log_spec::resolved(&record, "")?;
        }
        record.mounts = self.mounts(&record.spec, &image)?;
        let dir = self.paths.container(&record.id);
        for sub in ["upper", "work", "rootfs"] {
            let path = dir.join(sub);
            std::fs::create_dir_all(&path).about(|| path.display().to_string())?;
        }
        let mark = dir.join("upper").join(MARK.trim_start_matches('/'));
        std::fs::File::create(&mark).about(|| mark.display().to_string())?;
        if let Err(e) = self.insert(&mut record, request.name) {
            // Nothing refers to the directory yet.
            let _ = std::fs::remove_dir_all(&dir);
            self.drop_anonymous(&record);
            return Err(e);
        }
        self.emit_container("create", &record, &[]);
        Ok(record.id)
    }

    fn insert(&self, record: &mut ContainerRecord, name: Option<String>) -> Result<()> {
        let made_up = name.is_none();
        let image = Digest::parse(&record.spec.containers[0].image_id)?;
        for attempt in 0..NAME_ATTEMPTS {
            record.name = match &name {
                Some(name) => name.clone(),
                None => {
                    names::make_up(u64::from_ne_bytes(*random()?.first_chunk().expect("32 bytes")), attempt)
                }
            };
            let inserted = self.records().write(|tx| {
                // Read again where nobody can remove it: the layers must stay from here on.
                self.store.image(&image)?;
                for mounted in record.mounts.iter().filter(|m| !m.image.is_empty()) {
                    self.store.image(&Digest::parse(&mounted.image)?)?;
                }
                if record.spec.namespaces.user != UserNamespace::Host {
                    let others = self.records().containers_in(tx)?;
                    let start = u32::from_str_radix(self.paths.scope().suffix(), 16).unwrap_or(0);
                    record.user_maps = ids::choose(&record.spec.namespaces.user, &others, start)?;
                }
                self.records().insert_container(tx, record)
            });
            match inserted {
                Err(e) if made_up && e.kind() == Kind::Conflict => {}
                done => return done,
            }
        }
        Err(Error::new(Kind::Exhausted, "no free name could be made up").with_hint("give one with --name"))
    }

    /// Checks what can be checked before anything is written.
    fn check(&self, spec: &SandboxSpec) -> Result<()> {
        let [container] = &spec.containers[..] else {
            return Err(Error::unsupported("a sandbox with other than one container"));
        };
        lower::validate(&container.resources, &lower::online_cpus)?;
        fluyt_monitor::log::check(&container.log)?;
        if !container.stop.signal.is_empty() {
            signal(&container.stop.signal)?;
        }
        check_user_namespace(&spec.namespaces)?;
        if let UserNamespace::Container(name) = &spec.namespaces.user {
            self.records().container(name)?;
        }
        for namespace in
            [&spec.namespaces.network, &spec.namespaces.pid, &spec.namespaces.ipc, &spec.namespaces.uts]
        {
            if let Namespace::Container(name) = namespace {
                self.records().container(name)?;
            }
        }
        if !spec.networks.is_empty() {
            self.ensure_predefined()?;
        }
        self.records().read(|tx| {
            for attachment in &spec.networks {
                let network = self.records().network(tx, &attachment.network)?;
                let asks_address = attachment.ipv4.is_some() || attachment.ipv6.is_some();
                if asks_address && network.spec.name == crate::network::DEFAULT_NETWORK {
                    return Err(Error::invalid(
                        "user specified IP address is supported on user defined networks only",
                    ));
                }
            }
            Ok(())
        })
    }

    /// Names the volumes, makes those that do not exist, fills new ones from the image, checks the binds.
    fn mounts(&self, spec: &SandboxSpec, image: &Image) -> Result<Vec<MountView>> {
        let container = &spec.containers[0];
        let mut views: Vec<MountView> = Vec::new();
        for mount in &container.mounts {
            if let MountSource::VolumesFrom { container } = &mount.source {
                let other = self.records().container(container)?;
                for inherited in other.mounts.into_iter().filter(|m| m.kind != "tmpfs") {
                    let rw = inherited.rw && !mount.read_only;
                    views.push(MountView { rw, anonymous: false, ..inherited });
                }
            }
        }
        for mount in &container.mounts {
            let Some(view) = self.mount(mount, image)? else { continue };
            views.retain(|v| v.target != view.target);
            views.push(view);
        }
        Ok(views)
    }

    fn mount(&self, mount: &MountSpec, image: &Image) -> Result<Option<MountView>> {
        let view = MountView {
            target: mount.target.clone(),
            rw: !mount.read_only,
            propagation: mount.propagation.clone(),
            ..MountView::default()
        };
        Ok(Some(match &mount.source {
            MountSource::VolumesFrom { .. } => return Ok(None),
            MountSource::Bind { path, create } => {
                self.check_bind(path, *create)?;
                let propagation =
                    if view.propagation.is_empty() { "rprivate".to_owned() } else { view.propagation };
                MountView { kind: "bind".into(), source: path.clone(), propagation, ..view }
            }
            MountSource::Tmpfs { .. } => MountView { kind: "tmpfs".into(), ..view },
            MountSource::Image { image, subpath } => {
                let found = self.store.resolve(image)?;
                MountView {
                    kind: "image".into(),
                    name: image.clone(),
                    image: found.id.to_string(),
                    lower: self.store.subtree(&found, subpath)?,
                    links: link_names(&self.store.snapshot_lowers(&found)).collect(),
                    ..view
                }
            }
            MountSource::Volume { name, no_copy, subpath, driver, options, labels } => {
                let spec = VolumeSpec {
                    name: name.clone(),
                    driver: driver.clone(),
                    options: options.clone(),
                    labels: labels.clone(),
                };
                let (volume, fresh) = self.volume_ensure(spec)?;
                let data = self.volume_data(&volume)?;
                if fresh && !no_copy && takes_files(&volume.spec) {
                    self.store.copy_up(image, &mount.target, &data)?;
                }
                let source = match subpath.as_str() {
                    "" => data,
                    inner => sub_directory(&data, inner)?,
                };
                MountView {
                    kind: "volume".into(),
                    name: volume.spec.name.clone(),
                    source,
                    driver: volume.spec.driver.clone(),
                    anonymous: volume.anonymous && name.is_empty(),
                    ..view
                }
            }
        }))
    }

    fn check_bind(&self, path: &PathBuf, create: bool) -> Result<()> {
        if path.starts_with(self.paths.root())
            && path.components().count() == self.paths.root().components().count()
        {
            return Err(Error::invalid(format!("bind source {} is fluyt's own data root", path.display())));
        }
        match std::fs::metadata(path) {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && create => {
                std::fs::create_dir_all(path).about(|| path.display().to_string())
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::invalid(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                path.display()
            ))
            .with_hint("create it first, or use -v, which creates a missing directory")),
            Err(e) => Err(Error::io(path.display().to_string(), e)),
        }
    }

    /// Forgets the anonymous volumes that were made for a container that could not be made.
    fn drop_anonymous(&self, record: &ContainerRecord) {
        for mount in record.mounts.iter().filter(|m| m.anonymous) {
            // Unused volumes are found by prune in any case.
            let _ = self.volume_remove(&mount.name, true);
        }
    }

    /// The volume that `spec` names, made if it does not exist; the flag says that it was made now.
    pub(crate) fn volume_ensure(&self, mut spec: VolumeSpec) -> Result<(VolumeRecord, bool)> {
        let anonymous = spec.name.is_empty();
        if anonymous {
            spec.name = id::from_random(random()?);
        }
        if spec.driver.is_empty() {
            spec.driver = "local".to_owned();
        }
        let existing = self.records().read(|tx| match self.records().volume(tx, &spec.name) {
            Ok(volume) => Ok(Some(volume)),
            Err(e) if e.kind() == Kind::NotFound => Ok(None),
            Err(e) => Err(e),
        })?;
        match existing {
            Some(volume) => {
                let data = self.paths.volume(&spec.name).join("_data");
                let empty = std::fs::read_dir(&data).is_ok_and(|mut d| d.next().is_none());
                Ok((volume, empty))
            }
            None => Ok((self.volume_make(spec, anonymous)?, true)),
        }
    }
}

/// What a user namespace of its own cannot be combined with.
fn check_user_namespace(wanted: &Namespaces) -> Result<()> {
    if wanted.user == UserNamespace::Host {
        return Ok(());
    }
    if let UserNamespace::Mapped { uids, gids } = &wanted.user
        && (ids::outside(uids, 0).is_none() || ids::outside(gids, 0).is_none())
    {
        return Err(Error::invalid(
            "the mappings of the user namespace leave out id 0, the container's root",
        )
        .with_hint("begin with 0:HOSTID:COUNT"));
    }
    let shared = |namespace: &Namespace| match (namespace, &wanted.user) {
        (Namespace::Host, _) => true,
        (Namespace::Container(other), UserNamespace::Container(user)) => other != user,
        (Namespace::Container(_), _) => true,
        _ => false,
    };
    if shared(&wanted.pid) {
        return Err(Error::invalid(
            "a container with a user namespace of its own cannot share the process namespace of somebody else",
        )
        .with_hint("leave out --pid or --userns"));
    }
    Ok(())
}

/// The short names of layers, from their paths.
pub(crate) fn link_names(lower: &[PathBuf]) -> impl Iterator<Item = String> + '_ {
    lower.iter().filter_map(|path| path.file_name()).map(|n| n.to_string_lossy().into_owned())
}

/// A directory inside a volume, never outside of it.
fn sub_directory(data: &std::path::Path, inner: &str) -> Result<PathBuf> {
    let about = || format!("volume subpath {inner} in {}", data.display());
    let path = data.join(inner.trim_start_matches('/'));
    let real = path.canonicalize().about(about)?;
    let base = data.canonicalize().about(about)?;
    if real.starts_with(&base) {
        Ok(real)
    } else {
        Err(Error::invalid(format!("{}: leads outside of the volume", about())))
    }
}

/// 32 random bytes.
pub(crate) fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty()).about(|| "random numbers")?;
    Ok(bytes)
}

/// The number of a signal by name or number.
pub(crate) fn signal(name: &str) -> Result<i32> {
    fluyt_sys::signal::number(name).ok_or_else(|| Error::invalid(format!("invalid signal: {name}")))
}

/// The attributes of every event of a container.
pub(crate) fn attributes(record: &ContainerRecord) -> BTreeMap<String, String> {
    let mut attributes = record.spec.labels.clone();
    let image = record.spec.containers.first().map(|c| c.image.clone()).unwrap_or_default();
    attributes.insert("image".to_owned(), image);
    attributes.insert("name".to_owned(), record.name.clone());
    attributes
}
