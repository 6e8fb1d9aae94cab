//! `-v`, `--mount`, `--tmpfs`, `--volumes-from` and the image's volumes, as one ordered list of mounts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fluyt_model::sandbox::{IdMaps, MountSource, MountSpec};
use fluyt_model::{Error, Result};

use crate::types::{ContainerConfig, HostConfig, Mount};

/// All mounts of a container: parents before what lies inside them.
pub(super) fn all(config: &ContainerConfig, host: &HostConfig) -> Result<Vec<MountSpec>> {
    let mut mounts: Vec<MountSpec> = Vec::new();
    for from in host.volumes_from.iter() {
        mounts.push(volumes_from(from)?);
    }
    for text in host.binds.iter() {
        add(&mut mounts, bind(text, &host.volume_driver)?)?;
    }
    for mount in host.mounts.iter() {
        add(&mut mounts, structured(mount)?)?;
    }
    for (target, options) in host.tmpfs.iter() {
        let options = options.split(',').filter(|o| !o.is_empty()).map(str::to_owned).collect();
        add(&mut mounts, plain(target, MountSource::Tmpfs { options })?)?;
    }
    for target in config.volumes.keys() {
        let taken = mounts.iter().any(|m| same(&m.target, target));
        if !taken {
            mounts.push(plain(target, volume("", &host.volume_driver))?);
        }
    }
    Ok(mounts)
}

fn add(mounts: &mut Vec<MountSpec>, mount: MountSpec) -> Result<()> {
    let taken = |m: &MountSpec| {
        same(&m.target, &mount.target) && !matches!(m.source, MountSource::VolumesFrom { .. })
    };
    if mounts.iter().any(taken) {
        return Err(Error::invalid(format!("Duplicate mount point: {}", mount.target)));
    }
    mounts.push(mount);
    Ok(())
}

fn same(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}

fn plain(target: &str, source: MountSource) -> Result<MountSpec> {
    if !target.starts_with('/') {
        return Err(Error::invalid(format!("invalid mount path: '{target}' mount path must be absolute")));
    }
    if same(target, "") {
        return Err(Error::invalid(format!("invalid specification: destination can't be '{target}'")));
    }
    Ok(MountSpec {
        target: target.to_owned(),
        source,
        read_only: false,
        propagation: String::new(),
        non_recursive: false,
        recursive_read_only: false,
        idmap: None,
        no_idmap: false,
    })
}

fn volume(name: &str, driver: &str) -> MountSource {
    MountSource::Volume {
        name: name.to_owned(),
        no_copy: false,
        subpath: String::new(),
        driver: driver.to_owned(),
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
    }
}

fn volumes_from(text: &str) -> Result<MountSpec> {
    let (container, mode) = text.split_once(':').unwrap_or((text, "rw"));
    let read_only = match mode {
        "" | "rw" | "z" | "Z" => false,
        "ro" => true,
        other => return Err(Error::invalid(format!("invalid mode for volumes-from: {other}"))),
    };
    Ok(MountSpec {
        target: String::new(),
        source: MountSource::VolumesFrom { container: container.to_owned() },
        read_only,
        propagation: String::new(),
        non_recursive: false,
        recursive_read_only: false,
        idmap: None,
        no_idmap: false,
    })
}

/// `[source:]target[:options]`.
fn bind(text: &str, driver: &str) -> Result<MountSpec> {
    let invalid = || Error::invalid(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => ("", target, ""),
        [source, target] if target.starts_with('/') => (source, target, ""),
        [target, options] if target.starts_with('/') => ("", target, options),
        [source, target, options] => (source, target, options),
        _ => return Err(invalid()),
    };
    if parts.len() > 1 && source.is_empty() && parts[0].is_empty() {
        return Err(invalid());
    }
    let by_path = source.starts_with('/');
    if !by_path && !source.is_empty() {
        check_volume_name(source)?;
    }
    let source = if by_path {
        MountSource::Bind { path: PathBuf::from(source), create: true }
    } else {
        volume(source, driver)
    };
    let mut mount = plain(target, source)?;
    for option in options.split(',').filter(|o| !o.is_empty()) {
        apply(&mut mount, option)
            .ok_or_else(|| Error::invalid(format!("invalid mode: {options} in '{text}'")))?;
    }
    Ok(mount)
}

fn check_volume_name(name: &str) -> Result<()> {
    fluyt_model::id::check_name("volume", name).map_err(|_| {
        Error::invalid(format!(
            "\"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed"
        ))
        .with_hint("if you intended to pass a host directory, use an absolute path")
    })
}

fn apply(mount: &mut MountSpec, option: &str) -> Option<()> {
    match option {
        "ro" => mount.read_only = true,
        // SELinux relabelling and consistency hints change nothing where they mean nothing.
        "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" | "default" => {}
        "nocopy" => match &mut mount.source {
            MountSource::Volume { no_copy, .. } => *no_copy = true,
            _ => return None,
        },
        "rshared" | "rslave" | "rprivate" | "shared" | "slave" | "private" => {
            option.clone_into(&mut mount.propagation)
        }
        "norecurse" => mount.non_recursive = true,
        "noidmap" => mount.no_idmap = true,
        other => {
            mount.idmap = Some(idmap(other.strip_prefix("idmap=").or((other == "idmap").then_some(""))?)?)
        }
    }
    Some(())
}

/// `uids=IN-DISK-COUNT#…;gids=…`: as Podman writes it; empty: disk id 0 … are seen as they are.
fn idmap(text: &str) -> Option<IdMaps> {
    let mut maps = IdMaps::default();
    for part in text.split(';').filter(|p| !p.is_empty()) {
        let (which, list) = part.split_once('=')?;
        let mut triples = Vec::new();
        for triple in list.split('#') {
            let numbers: Vec<u32> =
                triple.split('-').map(str::parse).collect::<std::result::Result<_, _>>().ok()?;
            let [inside, disk, count] = numbers[..] else { return None };
            triples.push((inside, disk, count));
        }
        match which {
            "uids" => maps.uids = triples,
            "gids" => maps.gids = triples,
            _ => return None,
        }
    }
    Some(maps)
}

fn structured(mount: &Mount) -> Result<MountSpec> {
    let invalid =
        |why: &str| Error::invalid(format!("invalid mount config for type \"{}\": {why}", mount.kind));
    if mount.target.is_empty() {
        return Err(invalid("field Target must not be empty"));
    }
    let bind = mount.bind_options.clone().unwrap_or_default();
    let source = match mount.kind.as_str() {
        "bind" => {
            if mount.source.is_empty() {
                return Err(invalid("field Source must not be empty"));
            }
            if !mount.source.starts_with('/') {
                return Err(invalid(&format!(
                    "invalid mount path: '{}' mount path must be absolute",
                    mount.source
                )));
            }
            MountSource::Bind { path: PathBuf::from(&mount.source), create: bind.create_mountpoint }
        }
        "volume" => {
            let options = mount.volume_options.clone().unwrap_or_default();
            if !mount.source.is_empty() {
                check_volume_name(&mount.source)?;
            }
            let driver = options.driver_config.unwrap_or_default();
            MountSource::Volume {
                name: mount.source.clone(),
                no_copy: options.no_copy,
                subpath: options.subpath,
                driver: driver.name,
                options: driver.options.into_inner(),
                labels: options.labels.into_inner(),
            }
        }
        "tmpfs" => {
            if !mount.source.is_empty() {
                return Err(invalid("field Source must not be specified"));
            }
            MountSource::Tmpfs { options: tmpfs_options(mount) }
        }
        "image" if mount.source.is_empty() => return Err(invalid("field Source must not be empty")),
        "image" => MountSource::Image {
            image: mount.source.clone(),
            subpath: mount.image_options.clone().unwrap_or_default().subpath,
        },
        other => {
            return Err(Error::invalid(format!("mount type unknown: \"{other}\""))
                .with_hint("use bind, volume, tmpfs or image"));
        }
    };
    let mut lowered = plain(&mount.target, source)?;
    let writable_image = mount.image_options.as_ref().is_some_and(|i| i.read_write);
    lowered.read_only = mount.read_only || (mount.kind == "image" && !writable_image);
    lowered.propagation = bind.propagation;
    lowered.non_recursive = bind.non_recursive;
    lowered.recursive_read_only = bind.read_only_force_recursive;
    lowered.no_idmap = bind.idmap == "false";
    if !bind.idmap.is_empty() && !lowered.no_idmap {
        let text = if matches!(bind.idmap.as_str(), "true" | "auto") { "" } else { &bind.idmap };
        lowered.idmap =
            Some(idmap(text).ok_or_else(|| invalid(&format!("cannot read idmap {}", bind.idmap)))?);
    }
    Ok(lowered)
}

fn tmpfs_options(mount: &Mount) -> Vec<String> {
    let Some(options) = &mount.tmpfs_options else { return Vec::new() };
    let mut text = Vec::new();
    if options.size_bytes > 0 {
        text.push(format!("size={}", options.size_bytes));
    }
    if options.mode != 0 {
        text.push(format!("mode={:o}", options.mode));
    }
    text.extend(options.options.iter().map(|pair| pair.join("=")));
    text
}
