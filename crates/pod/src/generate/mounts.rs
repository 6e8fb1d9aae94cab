//! What a container has mounted -> volumes of a pod.

use fluyt_model::sandbox::{ContainerSpec, MountSource, MountSpec};

use super::{Look, Part, volume_name};
use crate::lower::EMPTY_DIR;
use crate::objects::{ClaimSource, EmptyDir, HostPath, ImageSource, Volume, VolumeMount};

/// What a container's mounts become.
#[derive(Default)]
pub(super) struct Mounted {
    pub(super) mounts: Vec<VolumeMount>,
    /// Containers whose volumes are mounted.
    pub(super) from: Vec<String>,
}

/// Makes them; volumes that are there already are used again.
pub(super) fn mounts(
    part: Part<'_>,
    spec: &ContainerSpec,
    pod: &str,
    volumes: &mut Vec<Volume>,
    look: Look<'_>,
) -> Mounted {
    let mut made = Mounted::default();
    for mount in &spec.mounts {
        if let MountSource::VolumesFrom { container } = &mount.source {
            let name = container.strip_prefix(&format!("{pod}-")).unwrap_or(container);
            made.from.push(if mount.read_only { format!("{name}:ro") } else { name.to_owned() });
            continue;
        }
        if implied(part, spec, mount) {
            continue;
        }
        let volume = volume(mount, pod, volumes.len(), look);
        let same = |other: &Volume| {
            Volume { name: String::new(), ..other.clone() }
                == Volume { name: String::new(), ..volume.clone() }
        };
        // Two volumes in memory are never one and the same, unless the pod says so by the name.
        let shared = volume.empty_dir.is_none();
        let known = volumes.iter().find(|other| other.name == volume.name || (shared && same(other)));
        let name = known.map(|other| other.name.clone());
        let name = name.unwrap_or_else(|| {
            volumes.push(volume.clone());
            volume.name.clone()
        });
        made.mounts.push(VolumeMount {
            name,
            mount_path: mount.target.clone(),
            read_only: mount.read_only && volume.image.is_none(),
            sub_path: match &mount.source {
                MountSource::Volume { subpath, .. } | MountSource::Image { subpath, .. } => subpath.clone(),
                _ => String::new(),
            },
            mount_propagation: match mount.propagation.as_str() {
                "rslave" | "slave" => "HostToContainer",
                "rshared" | "shared" => "Bidirectional",
                _ => "",
            }
            .to_owned(),
            recursive_read_only: if mount.recursive_read_only { "Enabled".to_owned() } else { String::new() },
            ..VolumeMount::default()
        });
    }
    made
}

/// What comes by itself when the pod is played: volumes of the image, memory over a read-only root.
fn implied(part: Part<'_>, spec: &ContainerSpec, mount: &MountSpec) -> bool {
    match &mount.source {
        MountSource::Volume { name, .. } if name.is_empty() => part.image.volumes.contains(&mount.target),
        MountSource::Tmpfs { .. } => {
            spec.security.read_only_root && ["/run", "/tmp", "/var/tmp"].contains(&mount.target.as_str())
        }
        _ => false,
    }
}

/// `number` tells volumes of one name apart.
fn volume(mount: &MountSpec, pod: &str, number: usize, look: Look<'_>) -> Volume {
    match &mount.source {
        MountSource::Bind { path, .. } => Volume {
            name: format!("{}-host-{number}", volume_name(&path.to_string_lossy())),
            host_path: Some(HostPath { path: path.display().to_string(), kind: Some(look(path).to_owned()) }),
            ..Volume::default()
        },
        MountSource::Volume { name, labels, .. } => match labels.get(EMPTY_DIR) {
            Some(medium) => empty(volume_name(name.strip_prefix(&format!("{pod}-")).unwrap_or(name)), medium),
            None if name.is_empty() => empty(format!("{}-{number}", volume_name(&mount.target)), ""),
            None => Volume {
                name: format!("{}-pvc", volume_name(name)),
                persistent_volume_claim: Some(ClaimSource {
                    claim_name: name.clone(),
                    read_only: mount.read_only,
                }),
                ..Volume::default()
            },
        },
        MountSource::Image { image, .. } => Volume {
            name: format!("image-{number}"),
            image: Some(ImageSource { reference: image.clone(), ..ImageSource::default() }),
            ..Volume::default()
        },
        MountSource::Tmpfs { .. } | MountSource::VolumesFrom { .. } => {
            empty(format!("tmp-{number}"), "Memory")
        }
    }
}

fn empty(name: String, medium: &str) -> Volume {
    let empty_dir = Some(EmptyDir { medium: medium.to_owned(), ..EmptyDir::default() });
    Volume { name, empty_dir, ..Volume::default() }
}
