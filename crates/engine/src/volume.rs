//! Volumes: directories that outlive containers, with the `local` driver's mounts.

use std::net::{IpAddr, ToSocketAddrs};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result, id};
use fluyt_monitor::volumes::VolumeMount;

use crate::Engine;
use crate::api::{Pruned, VolumeSpec, VolumeView};
use crate::container::create::random;
use crate::records::{ContainerRecord, VolumeRecord};

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
        let (uid, gid) = owner(&spec)?;
        let record = VolumeRecord { spec, created: fluyt_monitor::state::now(), anonymous };
        let volume = self.records().write(|tx| self.records().ensure_volume(tx, &record))?;
        if volume.created == record.created {
            if uid.is_some() || gid.is_some() {
                std::os::unix::fs::chown(&data, uid, gid).about(|| data.display().to_string())?;
            }
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

    /// What a container's monitor has to mount before the container starts.
    pub(crate) fn volume_mounts(&self, record: &ContainerRecord) -> Result<Vec<VolumeMount>> {
        let mut mounts: Vec<VolumeMount> = Vec::new();
        for view in record.mounts.iter().filter(|m| m.kind == "volume") {
            let volume = self.records().read(|tx| self.records().volume(tx, &view.name))?;
            let Some((kind, source, options)) = driver_mount(&volume.spec).filter(|(k, ..)| k != "bind")
            else {
                continue;
            };
            if mounts.iter().any(|m| m.name == view.name) {
                continue;
            }
            let options = with_address(&view.name, &kind, &source.to_string_lossy(), options)?;
            mounts.push(VolumeMount {
                name: view.name.clone(),
                directory: self.paths.volume(&view.name),
                kind,
                source: source.display().to_string(),
                options,
            });
        }
        Ok(mounts)
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
            // What a killed monitor left mounted is not this volume's own data: it must not be deleted with it.
            fluyt_monitor::volumes::release(&self.paths.volume(name), name)?;
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
        self.emit_prune("volume", pruned.bytes);
        Ok(pruned)
    }
}

fn check_options(spec: &VolumeSpec) -> Result<()> {
    // The last two are Podman's: whether an empty volume takes the files of an image.
    let known = ["type", "o", "device", "size", "copy", "nocopy"];
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

/// The owner that the options of a plain directory name, as Podman's do: `o=uid=1000,gid=1000`.
fn owner(spec: &VolumeSpec) -> Result<(Option<u32>, Option<u32>)> {
    let (mut uid, mut gid) = (None, None);
    if driver_mount(spec).is_none() {
        for option in spec.options.get("o").into_iter().flat_map(|o| o.split(',')) {
            let (place, text) = match option.split_once('=') {
                Some(("uid", text)) => (&mut uid, text),
                Some(("gid", text)) => (&mut gid, text),
                _ => continue,
            };
            let bad = |_| Error::invalid(format!("create {}: {option}: not an id", spec.name));
            *place = Some(text.parse().map_err(bad)?);
        }
    }
    Ok((uid, gid))
}

/// Whether an empty volume takes the files that an image has at its place: not if it is a file system of its own.
pub(crate) fn takes_files(spec: &VolumeSpec) -> bool {
    driver_mount(spec).is_none() && !spec.options.contains_key("nocopy")
}

/// What a volume with options is, as a mount: type, source, options. `None` for a plain directory.
pub(crate) fn driver_mount(spec: &VolumeSpec) -> Option<(String, PathBuf, Vec<String>)> {
    let device = spec.options.get("device").filter(|d| !d.is_empty())?;
    let kind = spec.options.get("type").cloned().unwrap_or_default();
    let options: Vec<String> = (spec.options.get("o").into_iter())
        .flat_map(|o| o.split(','))
        .filter(|o| !o.is_empty())
        .map(str::to_owned)
        .collect();
    let bind = kind == "none" || kind.is_empty() || options.iter().any(|o| o == "bind" || o == "rbind");
    Some((if bind { "bind".to_owned() } else { kind }, PathBuf::from(device), options))
}

/// The options of a network file system with its server's address as a number, which is all that the kernel takes:
/// `mount.nfs` and `mount.cifs` would have looked it up.
fn with_address(name: &str, kind: &str, device: &str, mut options: Vec<String>) -> Result<Vec<String>> {
    let host = match kind {
        "nfs" | "nfs4" => device.rsplit_once(":/").map_or("", |(host, _)| host),
        "cifs" | "smb3" => device.trim_start_matches('/').split('/').next().unwrap_or_default(),
        _ => return Ok(options),
    };
    let given = options.iter_mut().find_map(|o| {
        let key = ["addr=", "ip="].into_iter().find(|k| o.starts_with(k))?;
        Some((key, o))
    });
    let wanted = given.as_ref().map_or(host, |(key, option)| &option[key.len()..]);
    let wanted = wanted.trim_start_matches('[').trim_end_matches(']');
    if wanted.is_empty() {
        return Err(Error::invalid(format!("volume {name}: {kind} needs its server's address"))
            .with_hint("give -o o=addr=SERVER, or -o device=SERVER:/path"));
    }
    if given.is_some() && wanted.parse::<IpAddr>().is_ok() {
        return Ok(options);
    }
    let found = (wanted, 0).to_socket_addrs().about(|| format!("volume {name}: server {wanted}"))?.next();
    let address =
        found.ok_or_else(|| Error::not_found(format!("volume {name}: server {wanted} has no address")))?;
    match given {
        Some((key, option)) => *option = format!("{key}{}", address.ip()),
        None => options.push(format!("addr={}", address.ip())),
    }
    Ok(options)
}

/// Bytes that the files below `path` take up on the disk; what cannot be read counts nothing.
pub(crate) fn disk_use(path: &std::path::Path) -> u64 {
    fluyt_image::usage::disk_usage(path).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_volume_has_an_owner_and_may_stay_empty() {
        let spec = |options: &[(&str, &str)]| VolumeSpec {
            options: options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..VolumeSpec::default()
        };
        assert_eq!(owner(&spec(&[("o", "uid=7,gid=8")])).unwrap(), (Some(7), Some(8)));
        assert_eq!(owner(&spec(&[("o", "gid=8"), ("device", "/d")])).unwrap(), (None, None));
        assert!(owner(&spec(&[("o", "uid=me")])).is_err());
        assert!(takes_files(&spec(&[("o", "uid=7")])) && !takes_files(&spec(&[("nocopy", "")])));
        assert!(!takes_files(&spec(&[("device", "/d")])));
    }

    #[test]
    fn servers_get_addresses() {
        let of = |kind: &str, device: &str, o: &[&str]| {
            with_address("v", kind, device, o.iter().map(|o| (*o).to_owned()).collect())
        };
        assert_eq!(of("nfs", ":/x", &["addr=192.0.2.1", "rw"]).unwrap(), ["addr=192.0.2.1", "rw"]);
        assert_eq!(of("nfs4", "192.0.2.1:/x", &["rw"]).unwrap(), ["rw", "addr=192.0.2.1"]);
        assert_eq!(of("nfs", "[2001:db8::1]:/x", &[]).unwrap(), ["addr=2001:db8::1"]);
        assert_eq!(of("cifs", "//192.0.2.9/share", &[]).unwrap(), ["addr=192.0.2.9"]);
        assert_eq!(of("ext4", "/dev/sda", &["rw"]).unwrap(), ["rw"]);
        assert!(of("nfs", ":/x", &[]).unwrap_err().to_string().contains("address"));
    }
}
