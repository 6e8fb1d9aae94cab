//! Volumes of a pod: what each is on the machine, and what has to be made for it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fluyt_model::sandbox::{DeviceSpec, MountSource, MountSpec};

use super::env::{field_value, no_config_map, no_secret, resource_value};
use super::{Facts, Lowering, Problem, Subject};
use crate::objects::{
    ConfigSource, Container, DownwardSource, EmptyDir, HostPath, Item, PodSpec, Projected, SecretSource,
    Volume, VolumeMount,
};

/// The label of a mount of an emptyDir; its value is the medium.
pub(crate) const EMPTY_DIR: &str = "io.fluyt.kube.empty-dir";

/// A file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileNeed {
    /// Its path below the volume; no part of it is `..`.
    pub path: String,
    /// Its permissions.
    pub mode: u32,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// A volume that has to be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeNeed {
    /// Its name on the machine.
    pub name: String,
    /// Options of its driver.
    pub options: BTreeMap<String, String>,
    /// It begins empty with the pod and goes with it.
    pub of_pod: bool,
    /// Permissions of its root; none: as they are.
    pub mode: Option<u32>,
    /// The group of its root.
    pub group: Option<u32>,
    /// Its files, if it has given ones.
    pub files: Option<Vec<FileNeed>>,
}

/// What has to be at a path of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// Anything.
    Any,
    /// A directory, which is made with mode 0755 if nothing is there.
    DirectoryOrCreate,
    /// A directory.
    Directory,
    /// A file, which is made with mode 0644 if nothing is there.
    FileOrCreate,
    /// A file.
    File,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// A path of the machine that has to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathNeed {
    /// The path.
    pub path: PathBuf,
    /// What it has to be.
    pub kind: PathKind,
    /// The field that names it.
    pub field: String,
}

/// What a volume is on the machine.
#[derive(Clone, Debug)]
enum Place {
    Path(PathBuf),
    Device(PathBuf),
    Named { name: String, read_only: bool },
    Image(String),
    Missing,
}

/// The volumes of a pod on the machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Resolved {
    places: BTreeMap<String, Place>,
    pub(super) needs: Vec<VolumeNeed>,
    pub(super) paths: Vec<PathNeed>,
}

/// The volumes that were made for a pod: those that go with it, and those that are kept.
#[must_use]
pub fn pod_volumes(pod: &str, spec: &PodSpec) -> (Vec<String>, Vec<String>) {
    let (mut own, mut kept) = (Vec::new(), Vec::new());
    for volume in &spec.volumes {
        if volume.empty_dir.is_some() || volume.downward_api.is_some() || volume.projected.is_some() {
            own.push(own_name(pod, &volume.name));
        } else if let Some(claim) = &volume.persistent_volume_claim {
            kept.push(claim.claim_name.clone());
        } else if let Some(map) = &volume.config_map {
            kept.push(file_volume(&map.name, &map.items, map.default_mode));
        } else if let Some(secret) = &volume.secret {
            kept.push(file_volume(secret_name(secret), &secret.items, secret.default_mode));
        }
    }
    (own, kept)
}

fn own_name(pod: &str, volume: &str) -> String {
    format!("{pod}-{volume}")
}

fn secret_name(secret: &SecretSource) -> &str {
    if secret.secret_name.is_empty() { &secret.name } else { &secret.secret_name }
}

/// The name of the volume that shows a ConfigMap or a Secret: its own for all of it as it is, another one for each choice of
/// keys and permissions, so that two choices do not end up in one volume.
fn file_volume(name: &str, items: &[Item], mode: Option<i64>) -> String {
    if items.is_empty() && mode.is_none_or(|mode| mode == 0o644) {
        return name.to_owned();
    }
    // FNV-1a: a name that is the same every time, nothing more.
    let text = items.iter().fold(format!("{mode:?}"), |text, item| {
        format!("{text}\0{}\0{}\0{:?}", item.key, item.path, item.mode)
    });
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{name}-{:08x}", hash >> 32)
}

/// What the volumes of a pod are.
pub(super) fn resolve(pod: Subject<'_>, facts: &Facts<'_>) -> Lowering<Resolved> {
    let mut resolved = Resolved::default();
    for (index, volume) in pod.spec.volumes.iter().enumerate() {
        let path = format!("spec.volumes[{index}]");
        if volume.name.is_empty() {
            return Err(Problem::new(path, "the volume does not have a name"));
        }
        if resolved.places.contains_key(&volume.name) {
            return Err(Problem::new(
                path + ".name",
                format!("the pod has two volumes of the name {:?}", volume.name),
            ));
        }
        let place = resolved.place(pod, volume, &path, facts).map_err(|p| p.below(&path))?;
        resolved.places.insert(volume.name.clone(), place);
    }
    Ok(resolved)
}

impl Resolved {
    fn place(&mut self, pod: Subject<'_>, volume: &Volume, path: &str, facts: &Facts<'_>) -> Lowering<Place> {
        if let Some(host) = &volume.host_path {
            return self.host_path(host, path).map_err(|p| p.below("hostPath"));
        }
        if let Some(empty) = &volume.empty_dir {
            return self.empty_dir(pod, volume, empty).map_err(|p| p.below("emptyDir"));
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            if claim.claim_name.is_empty() {
                return Err(Problem::new("persistentVolumeClaim", "the volume does not say which claim"));
            }
            return Ok(Place::Named { name: claim.claim_name.clone(), read_only: claim.read_only });
        }
        if let Some(map) = &volume.config_map {
            let files = config_files(map, None, facts).map_err(|p| p.below("configMap"))?;
            return Ok(self.files(file_volume(&map.name, &map.items, map.default_mode), files, false));
        }
        if let Some(secret) = &volume.secret {
            let files = secret_files(secret, None, facts).map_err(|p| p.below("secret"))?;
            let name = file_volume(secret_name(secret), &secret.items, secret.default_mode);
            return Ok(self.files(name, files, false));
        }
        if let Some(image) = &volume.image {
            return Ok(Place::Image(image.reference.clone()));
        }
        let own = own_name(pod.name, &volume.name);
        if let Some(downward) = &volume.downward_api {
            let files = downward_files(pod, downward, None, facts).map_err(|p| p.below("downwardAPI"))?;
            return Ok(self.files(own, Some(files), true));
        }
        if let Some(projected) = &volume.projected {
            let files = projected_files(pod, projected, facts).map_err(|p| p.below("projected"))?;
            return Ok(self.files(own, Some(files), true));
        }
        Err(Problem::new("", format!("volume {:?} has no source that is supported here", volume.name))
            .unsupported()
            .hint("there are hostPath, emptyDir, persistentVolumeClaim, configMap, secret, image, downwardAPI and projected"))
    }

    fn files(&mut self, name: String, files: Option<Vec<FileNeed>>, of_pod: bool) -> Place {
        let Some(files) = files else { return Place::Missing };
        if !self.needs.iter().any(|need| need.name == name) {
            let need = VolumeNeed { name: name.clone(), of_pod, files: Some(files), ..VolumeNeed::default() };
            self.needs.push(need);
        }
        Place::Named { name, read_only: true }
    }

    fn host_path(&mut self, host: &HostPath, path: &str) -> Lowering<Place> {
        let kind = match host.kind.as_deref().unwrap_or_default() {
            "" => PathKind::Any,
            "DirectoryOrCreate" => PathKind::DirectoryOrCreate,
            "Directory" => PathKind::Directory,
            "FileOrCreate" => PathKind::FileOrCreate,
            "File" => PathKind::File,
            "Socket" => PathKind::Socket,
            "CharDevice" => PathKind::CharDevice,
            "BlockDevice" => PathKind::BlockDevice,
            other => {
                return Err(Problem::new("type", format!("{other:?} is not a type of hostPath")).hint(
                    "use Directory, DirectoryOrCreate, File, FileOrCreate, Socket, CharDevice or BlockDevice",
                ));
            }
        };
        if !host.path.starts_with('/') {
            return Err(Problem::new("path", format!("{:?} is not an absolute path", host.path))
                .hint("begin it with /"));
        }
        let place = PathBuf::from(&host.path);
        self.paths.push(PathNeed { path: place.clone(), kind, field: format!("{path}.hostPath.path") });
        Ok(match kind {
            PathKind::CharDevice | PathKind::BlockDevice => Place::Device(place),
            _ => Place::Path(place),
        })
    }

    fn empty_dir(&mut self, pod: Subject<'_>, volume: &Volume, empty: &EmptyDir) -> Lowering<Place> {
        let mut options = BTreeMap::new();
        match empty.medium.as_str() {
            "" => {}
            "Memory" => {
                let mut o = "mode=1777".to_owned();
                if let Some(size) = empty.size_limit.filter(|size| !size.is_zero()) {
                    o.push_str(&format!(",size={}", size.value()));
                }
                for (key, value) in [("type", "tmpfs"), ("device", "tmpfs"), ("o", &o)] {
                    options.insert(key.to_owned(), value.to_owned());
                }
            }
            other => {
                return Err(Problem::new("medium", format!("{other:?} is not a medium"))
                    .hint("use Memory, or leave it out for the disk"));
            }
        }
        let name = own_name(pod.name, &volume.name);
        let group = pod.spec.security_context.as_ref().and_then(|s| s.fs_group);
        self.needs.push(VolumeNeed {
            name: name.clone(),
            mode: options.is_empty().then_some(if group.is_some() { 0o2777 } else { 0o777 }),
            options,
            of_pod: true,
            group: group.and_then(|g| u32::try_from(g).ok()),
            files: None,
        });
        Ok(Place::Named { name, read_only: false })
    }

    /// What tells a volume of a pod from one that is kept: it is made before, so that these labels are nobody's but the mount's.
    fn marks(&self, name: &str) -> BTreeMap<String, String> {
        let Some(need) = self.needs.iter().find(|need| need.name == name && need.files.is_none()) else {
            return BTreeMap::new();
        };
        let medium = if need.options.is_empty() { "" } else { "Memory" };
        BTreeMap::from([(EMPTY_DIR.to_owned(), medium.to_owned())])
    }

    /// What a container mounts: mounts and devices.
    pub(super) fn mounts(
        &self,
        container: &Container,
        expanded: &dyn Fn(&str) -> String,
    ) -> Lowering<(Vec<MountSpec>, Vec<DeviceSpec>)> {
        let (mut mounts, mut devices): (Vec<MountSpec>, Vec<DeviceSpec>) = (Vec::new(), Vec::new());
        for (index, mount) in container.volume_mounts.iter().enumerate() {
            let path = format!("volumeMounts[{index}]");
            let Some(place) = self.places.get(&mount.name) else {
                return Err(Problem::new(path + ".name", format!("the pod has no volume {:?}", mount.name))
                    .hint("add it to spec.volumes"));
            };
            match self.mount(place, mount, expanded).map_err(|p| p.below(&path))? {
                Mounted::Nothing => {}
                Mounted::Device(device) => devices.push(device),
                Mounted::Mount(mounted) => {
                    let same = |m: &MountSpec| {
                        m.target.trim_end_matches('/') == mounted.target.trim_end_matches('/')
                    };
                    if mounts.iter().any(same) {
                        return Err(Problem::new(
                            path + ".mountPath",
                            format!("something else is mounted at {} already", mounted.target),
                        ));
                    }
                    mounts.push(*mounted);
                }
            }
        }
        Ok((mounts, devices))
    }

    fn mount(
        &self,
        place: &Place,
        mount: &VolumeMount,
        expanded: &dyn Fn(&str) -> String,
    ) -> Lowering<Mounted> {
        let (target, mut read_only) = target(mount)?;
        let sub_path = sub_path(mount, expanded)?;
        let source = match place {
            Place::Missing => return Ok(Mounted::Nothing),
            Place::Device(path) => {
                return Ok(Mounted::Device(DeviceSpec {
                    host_path: path.clone(),
                    container_path: PathBuf::from(target),
                    permissions: "rwm".to_owned(),
                }));
            }
            Place::Path(path) => {
                let path = if sub_path.is_empty() { path.clone() } else { path.join(&sub_path) };
                MountSource::Bind { path, create: !sub_path.is_empty() }
            }
            Place::Named { name, read_only: always } => {
                read_only |= always;
                MountSource::Volume {
                    name: name.clone(),
                    // A claim's volume begins with what the image has there, as volumes do.
                    no_copy: self.needs.iter().any(|need| need.name == *name),
                    subpath: sub_path,
                    driver: String::new(),
                    options: BTreeMap::new(),
                    labels: self.marks(name),
                }
            }
            Place::Image(image) => {
                read_only = true;
                MountSource::Image { image: image.clone(), subpath: sub_path }
            }
        };
        let recursive = match mount.recursive_read_only.as_str() {
            "" | "Disabled" | "IfPossible" => false,
            "Enabled" => true,
            other => {
                return Err(Problem::new("recursiveReadOnly", format!("{other:?} is not one of its values"))
                    .hint("use Disabled, IfPossible or Enabled"));
            }
        };
        let propagation = match mount.mount_propagation.as_str() {
            "" => "",
            "None" => "private",
            "HostToContainer" => "rslave",
            "Bidirectional" => "rshared",
            other => {
                return Err(Problem::new(
                    "mountPropagation",
                    format!("{other:?} is not a kind of propagation"),
                )
                .hint("use None, HostToContainer or Bidirectional"));
            }
        };
        let bind = matches!(source, MountSource::Bind { .. });
        Ok(Mounted::Mount(Box::new(MountSpec {
            propagation: if bind { propagation.to_owned() } else { String::new() },
            recursive_read_only: recursive,
            ..plain(&target, source, read_only)
        })))
    }
}

enum Mounted {
    Nothing,
    Device(DeviceSpec),
    Mount(Box<MountSpec>),
}

/// A mount without anything special.
pub(super) fn plain(target: &str, source: MountSource, read_only: bool) -> MountSpec {
    MountSpec {
        target: target.to_owned(),
        source,
        read_only,
        propagation: String::new(),
        non_recursive: false,
        recursive_read_only: false,
        idmap: None,
        no_idmap: false,
    }
}

/// Where something is mounted. Podman takes options behind a colon.
fn target(mount: &VolumeMount) -> Lowering<(String, bool)> {
    let (target, options) = mount.mount_path.split_once(':').unwrap_or((&mount.mount_path, ""));
    if !target.starts_with('/') || target.trim_end_matches('/').is_empty() {
        return Err(Problem::new("mountPath", format!("{target:?} is not an absolute path below /")));
    }
    let mut read_only = mount.read_only;
    for option in options.split(',').filter(|o| !o.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" | "z" | "Z" => {}
            other => {
                return Err(Problem::new("mountPath", format!("unknown option {other:?} behind the colon")));
            }
        }
    }
    Ok((target.to_owned(), read_only))
}

fn sub_path(mount: &VolumeMount, expanded: &dyn Fn(&str) -> String) -> Lowering<String> {
    let (field, path) = match (mount.sub_path.as_str(), mount.sub_path_expr.as_str()) {
        (path, "") => ("subPath", path.to_owned()),
        ("", expr) => ("subPathExpr", expanded(expr)),
        _ => return Err(Problem::new("subPathExpr", "there is a subPath, too")),
    };
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(Problem::new(field, format!("{path:?} leads out of the volume"))
            .hint("it is a path inside the volume, without .. and without a / before it"));
    }
    Ok(path)
}

fn mode(field: &str, mode: Option<i64>, default: u32) -> Lowering<u32> {
    match mode {
        None => Ok(default),
        Some(mode @ 0..=0o777) => Ok(u32::try_from(mode).unwrap_or(default)),
        Some(mode) => Err(Problem::new(field, format!("{mode} is not between 0 and 0777"))
            .hint("write it in octal, as 0400")),
    }
}

fn config_files(
    map: &ConfigSource,
    outer: Option<u32>,
    facts: &Facts<'_>,
) -> Lowering<Option<Vec<FileNeed>>> {
    let default = mode("defaultMode", map.default_mode, outer.unwrap_or(0o644))?;
    match facts.config_maps.get(&map.name) {
        Some(found) => {
            picked(&found.bytes(), &map.items, default, map.optional, &format!("configmap {}", map.name))
                .map(Some)
        }
        None if map.optional == Some(true) => Ok(None),
        None => Err(no_config_map(&map.name)),
    }
}

fn secret_files(
    secret: &SecretSource,
    outer: Option<u32>,
    facts: &Facts<'_>,
) -> Lowering<Option<Vec<FileNeed>>> {
    let default = mode("defaultMode", secret.default_mode, outer.unwrap_or(0o644))?;
    let name = secret_name(secret);
    match facts.secrets.get(name) {
        Some(found) => {
            picked(found, &secret.items, default, secret.optional, &format!("secret {name}")).map(Some)
        }
        None if secret.optional == Some(true) => Ok(None),
        None => Err(no_secret(name)),
    }
}

/// The keys that are wanted, as files.
fn picked(
    found: &BTreeMap<String, Vec<u8>>,
    items: &[Item],
    default: u32,
    optional: Option<bool>,
    what: &str,
) -> Lowering<Vec<FileNeed>> {
    if items.is_empty() {
        let file = |(key, bytes): (&String, &Vec<u8>)| {
            Ok(FileNeed { path: inner_path("", key)?, mode: default, bytes: bytes.clone() })
        };
        return found.iter().map(file).collect();
    }
    let mut files = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let field = format!("items[{index}]");
        let Some(bytes) = found.get(&item.key) else {
            if optional == Some(true) {
                continue;
            }
            return Err(Problem::new(field + ".key", format!("{what} has no key {:?}", item.key)).missing());
        };
        files.push(FileNeed {
            path: inner_path(&format!("{field}.path"), &item.path)?,
            mode: mode(&format!("{field}.mode"), item.mode, default)?,
            bytes: bytes.clone(),
        });
    }
    Ok(files)
}

/// A path that stays inside.
fn inner_path(field: &str, path: &str) -> Lowering<String> {
    let bad = |part: &str| part.is_empty() || part == ".." || part == ".";
    if path.contains('\0') || path.split('/').any(bad) {
        return Err(Problem::new(field, format!("{path:?} is not a path inside the volume")));
    }
    Ok(path.to_owned())
}

fn downward_files(
    pod: Subject<'_>,
    downward: &DownwardSource,
    outer: Option<u32>,
    facts: &Facts<'_>,
) -> Lowering<Vec<FileNeed>> {
    let default = mode("defaultMode", downward.default_mode, outer.unwrap_or(0o644))?;
    let mut files = Vec::new();
    for (index, item) in downward.items.iter().enumerate() {
        let field = format!("items[{index}]");
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(of), None) => field_value(pod, of, facts),
            (None, Some(of)) => {
                let named = pod.spec.containers.iter().find(|c| c.name == of.container_name);
                match named {
                    Some(container) => resource_value(pod, container, of, facts),
                    None => Err(Problem::new(
                        "containerName",
                        format!("the pod has no container {:?}", of.container_name),
                    )),
                }
            }
            _ => Err(Problem::new("", "the file says neither fieldRef nor resourceFieldRef")),
        };
        files.push(FileNeed {
            path: inner_path(&format!("{field}.path"), &item.path)?,
            mode: mode(&format!("{field}.mode"), item.mode, default)?,
            bytes: text.map_err(|p| p.below(&field))?.into_bytes(),
        });
    }
    Ok(files)
}

fn projected_files(pod: Subject<'_>, projected: &Projected, facts: &Facts<'_>) -> Lowering<Vec<FileNeed>> {
    let default = Some(mode("defaultMode", projected.default_mode, 0o644)?);
    let mut files: Vec<FileNeed> = Vec::new();
    for (index, source) in projected.sources.iter().enumerate() {
        let field = format!("sources[{index}]");
        let more = match (&source.config_map, &source.secret, &source.downward_api) {
            (Some(map), ..) => config_files(map, default, facts).map_err(|p| p.below("configMap")),
            (_, Some(secret), _) => secret_files(secret, default, facts).map_err(|p| p.below("secret")),
            (.., Some(downward)) => {
                downward_files(pod, downward, default, facts).map(Some).map_err(|p| p.below("downwardAPI"))
            }
            _ => Err(Problem::new("", "no source that is supported here")
                .unsupported()
                .hint("there are configMap, secret and downwardAPI")),
        };
        for file in more.map_err(|p| p.below(&field))?.unwrap_or_default() {
            files.retain(|other| other.path != file.path);
            files.push(file);
        }
    }
    Ok(files)
}
