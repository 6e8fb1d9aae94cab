//! Volumes: directories that outlive containers, with the `local` driver's mounts.

use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result, id};

use crate::Engine;
use crate::api::{Pruned, VolumeSpec, VolumeView};
use crate::container::create::random;
use crate::records::VolumeRecord;

impl Engine {
    /// Makes a volume, or returns the one that has the name.
    ///
    /// # Errors
    /// `Invalid` for a bad name or option, `Conflict` if one of that name has other options.
    pub fn volume_create(&self, mut spec: VolumeSpec) -> Result<VolumeView> {
        let anonymous = spec.name.is_empty();
        if anonymous {
            spec.name = id::from_random(random()?);
        }
        id::check_name("volume", &spec.name)?;
        if spec.driver.is_empty() {
            spec.driver = "local".to_owned();
        }
        let volume = self.volume_make(spec.clone(), anonymous)?;
        if volume.spec.options != spec.options && !spec.options.is_empty() {
            return Err(Error::conflict(format!("volume {} exists already with other options", spec.name)));
        }
        self.volume_view(volume)
    }

    pub(crate) fn volume_make(&self, spec: VolumeSpec, anonymous: bool) -> Result<VolumeRecord> {
        if spec.driver != "local" {
            return Err(Error::new(
                Kind::NotFound,
                format!("error looking up volume plugin {}: plugin not found", spec.driver),
            )
            .with_hint(
                "the driver `local` mounts anything the kernel can: -o type=nfs -o o=addr=… -o device=…",
            ));
        }
        check_options(&spec)?;
        let data = self.paths.volume(&spec.name).join("_data");
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&data)
            .about(|| data.display().to_string())?;
        let record = VolumeRecord { spec, created: fluyt_monitor::state::now(), anonymous };
        let volume = self.records().write(|tx| self.records().ensure_volume(tx, &record))?;
        if volume.created == record.created {
            self.emit_volume("create", &volume);
        }
        Ok(volume)
    }

    /// The directory with a volume's data.
    pub(crate) fn volume_data(&self, volume: &VolumeRecord) -> Result<PathBuf> {
        let data = self.paths.volume(&volume.spec.name).join("_data");
        std::fs::create_dir_all(&data).about(|| data.display().to_string())?;
        Ok(data)
    }

    /// All volumes, by name.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn volumes(&self) -> Result<Vec<VolumeView>> {
        self.records().volumes()?.into_iter().map(|v| self.volume_view(v)).collect()
    }

    /// One volume.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn volume(&self, name: &str) -> Result<VolumeView> {
        let record = self.records().read(|tx| self.records().volume(tx, name))?;
        self.volume_view(record)
    }

    fn volume_view(&self, record: VolumeRecord) -> Result<VolumeView> {
        let used_by = self.records().read(|tx| self.records().users_of_volume(tx, &record.spec.name))?;
        let mountpoint = self.paths.volume(&record.spec.name).join("_data");
        Ok(VolumeView {
            spec: record.spec,
            created: record.created,
            mountpoint,
            anonymous: record.anonymous,
            used_by,
        })
    }

    /// Removes a volume that no container uses, with its data.
    ///
    /// # Errors
    /// `Conflict` while it is in use; `NotFound`, unless `force`.
    pub fn volume_remove(&self, name: &str, force: bool) -> Result<()> {
        let taken = self.records().write(|tx| {
            let volume = self.records().volume(tx, name)?;
            let users = self.records().users_of_volume(tx, name)?;
            if let Some(user) = users.first() {
                return Err(Error::conflict(format!("remove {name}: volume is in use - [{user}]"))
                    .with_hint("remove the container first, or `fluyt rm -v` both"));
            }
            self.records().delete_volume(tx, name)?;
            Ok(volume)
        });
        match taken {
            Err(e) if e.kind() == Kind::NotFound && force => Ok(()),
            Err(e) => Err(e),
            Ok(volume) => {
                self.discard(&self.paths.volume(name))?;
                self.emit_volume("destroy", &volume);
                Ok(())
            }
        }
    }

    /// Removes unused volumes: anonymous ones, or with `all` every one that `keep` does not hold.
    ///
    /// # Errors
    /// One cannot be removed.
    pub fn prune_volumes(&self, all: bool, keep: &dyn Fn(&VolumeView) -> bool) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        for view in self.volumes()? {
            if !view.used_by.is_empty() || (!all && !view.anonymous) || keep(&view) {
                continue;
            }
            let bytes = disk_use(&self.paths.volume(&view.spec.name));
            match self.volume_remove(&view.spec.name, false) {
                // Somebody began to use it meanwhile.
                Err(e) if e.kind() == Kind::Conflict => continue,
                other => other?,
            }
            pruned.bytes += bytes;
            pruned.removed.push(view.spec.name);
        }
        Ok(pruned)
    }
}

fn check_options(spec: &VolumeSpec) -> Result<()> {
    let known = ["type", "o", "device", "size"];
    if let Some(option) = spec.options.keys().find(|k| !known.contains(&k.as_str())) {
        return Err(Error::invalid(format!("create {}: invalid option: \"{option}\"", spec.name))
            .with_hint("the local driver knows type, o, device and size"));
    }
    let has = |k: &str| spec.options.get(k).is_some_and(|v| !v.is_empty());
    if has("type") && !has("device") {
        return Err(Error::invalid(format!("create {}: missing device in volume options", spec.name)));
    }
    Ok(())
}

/// What a volume with options is, as a mount: type, source, options. `None` for a plain directory.
pub(crate) fn driver_mount(spec: &VolumeSpec) -> Option<(String, PathBuf, Vec<String>)> {
    let device = spec.options.get("device").filter(|d| !d.is_empty())?;
    let kind = spec.options.get("type").cloned().unwrap_or_default();
    let mut options: Vec<String> =
        spec.options.get("o").into_iter().flat_map(|o| o.split(',')).map(str::to_owned).collect();
    let bind = kind == "none" || kind.is_empty() || options.iter().any(|o| o == "bind" || o == "rbind");
    if kind.starts_with("nfs") {
        // The kernel wants the server's address; mount.nfs would have put it there.
        if let Some(host) = device.split_once(':').map(|(h, _)| h)
            && !options.iter().any(|o| o.starts_with("addr="))
        {
            options.push(format!("addr={host}"));
        }
    }
    Some((if bind { "bind".to_owned() } else { kind }, PathBuf::from(device), options))
}

/// Bytes that the files below `path` take up on the disk; what cannot be read counts nothing.
pub(crate) fn disk_use(path: &std::path::Path) -> u64 {
    fluyt_image::usage::disk_usage(path).unwrap_or(0)
}
