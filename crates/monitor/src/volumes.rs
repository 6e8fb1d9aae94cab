//! Volumes that are file systems of their own (nfs, a disk, tmpfs): mounted once on the host, at the volume's `_data`, while
//! any container uses them.
//!
//! Containers then bind them as any other volume: all see the same files, a disk needs no right in the container's device
//! cgroup, and a network file system is reached from the host's network. The monitors of the containers agree by locks
//! beside `_data`: each holds a shared one on `users` as long as its container lives; who mounts or unmounts holds `guard`.
//! A monitor that is killed leaves the mount to the next user, or to the removal of the volume.

use std::fs::File;
use std::path::{Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use rustix::fs::{AtFlags, CWD, FlockOperation, StatxAttributes, StatxFlags, flock, statx};
use rustix::mount::UnmountFlags;
use serde::{Deserialize, Serialize};

/// A volume and what is mounted for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeMount {
    /// The volume's name.
    pub name: String,
    /// Its directory, which has `_data` in it.
    pub directory: PathBuf,
    /// Type of the file system.
    pub kind: String,
    /// Its source: a device, `server:/path`, …
    pub source: String,
    /// Its options.
    pub options: Vec<String>,
}

/// A volume in use; dropped, the last user unmounts it.
#[derive(Debug)]
pub struct Held {
    directory: PathBuf,
    users: File,
}

/// Mounts what is not mounted yet, and keeps all of it mounted as long as the result lives.
///
/// # Errors
/// A file system cannot be mounted; the volume is named, and what the kernel said.
pub fn hold(volumes: &[VolumeMount]) -> Result<Vec<Held>> {
    volumes.iter().map(hold_one).collect()
}

fn hold_one(volume: &VolumeMount) -> Result<Held> {
    let directory = &volume.directory;
    let _guard = locked(directory, "guard", FlockOperation::LockExclusive)?;
    let users = locked(directory, "users", FlockOperation::LockShared)?;
    let data = directory.join("_data");
    if !is_mounted(&data)? {
        fluyt_runtime::mount_on(&volume.kind, &volume.source, &volume.options, &data)
            .map_err(|e| refused(volume, e))?;
    }
    Ok(Held { directory: directory.clone(), users })
}

fn refused(volume: &VolumeMount, e: Error) -> Error {
    let kind = &volume.kind;
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let server = volume.options.iter().find(|o| o.starts_with("addr=") || o.starts_with("ip="));
    let hint = if known.lines().any(|l| l.split_whitespace().next_back() == Some(kind)) {
        let question = server.map_or("", |_| "is the server up, and does it offer what is mounted? ");
        format!("{question}`fluyt volume inspect {}` shows its type, device and options", volume.name)
    } else {
        format!(
            "this kernel has no file system {kind:?}: load its module (`modprobe {kind}`) or mount the directory otherwise and bind it"
        )
    };
    let from = server.map_or_else(String::new, |s| format!(" ({s})"));
    e.context(format!("volume {}: mounting {kind} {}{from}", volume.name, volume.source)).with_hint(hint)
}

/// Unmounts what nobody uses any more, before a volume is removed. A plain directory is left as it is.
///
/// # Errors
/// `Conflict` while a container uses it.
pub fn release(directory: &Path, name: &str) -> Result<()> {
    let data = directory.join("_data");
    if !data.exists() || !is_mounted(&data)? {
        return Ok(());
    }
    let _guard = locked(directory, "guard", FlockOperation::LockExclusive)?;
    let users = lock_file(directory, "users")?;
    if flock(&users, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Err(Error::conflict(format!("volume {name} is still mounted for a running container")));
    }
    unmount(&data)
}

impl Drop for Held {
    fn drop(&mut self) {
        let Ok(_guard) = locked(&self.directory, "guard", FlockOperation::LockExclusive) else { return };
        // Only the last user gets it.
        if flock(&self.users, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // What cannot be unmounted now is met again by the next user or by the removal of the volume.
            let _ = unmount(&self.directory.join("_data"));
        }
    }
}

fn unmount(data: &Path) -> Result<()> {
    if is_mounted(data)? {
        rustix::mount::unmount(data, UnmountFlags::DETACH)
            .about(|| format!("unmounting {}", data.display()))?;
    }
    Ok(())
}

/// Whether something is mounted on `path` itself.
fn is_mounted(path: &Path) -> Result<bool> {
    // Not to be sent to a server that is away: what the kernel knows is enough.
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let found = statx(CWD, path, flags, StatxFlags::TYPE).about(|| path.display().to_string())?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

fn lock_file(directory: &Path, name: &str) -> Result<File> {
    let path = directory.join(name);
    let opened = File::options().create(true).truncate(false).read(true).write(true).open(&path);
    opened.about(|| path.display().to_string())
}

fn locked(directory: &Path, name: &str, operation: FlockOperation) -> Result<File> {
    let file = lock_file(directory, name)?;
    loop {
        match flock(&file, operation) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::io(directory.join(name).display().to_string(), e.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_user_unmounts() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("_data");
        std::fs::create_dir(&data).unwrap();
        let volume = VolumeMount {
            name: "v".into(),
            directory: dir.path().into(),
            kind: "tmpfs".into(),
            source: "tmpfs".into(),
            options: vec!["size=1m".into(), "nosuid".into()],
        };
        let one = hold(std::slice::from_ref(&volume)).unwrap();
        std::fs::write(data.join("file"), "x").unwrap();
        let two = hold(std::slice::from_ref(&volume)).unwrap();
        assert!(release(dir.path(), "v").is_err(), "it is in use");
        drop(one);
        assert!(data.join("file").exists());
        drop(two);
        assert!(!data.join("file").exists() && !is_mounted(&data).unwrap());
        release(dir.path(), "v").unwrap();
        let bad = VolumeMount { kind: "nonsensefs".into(), ..volume };
        let e = hold(&[bad]).unwrap_err();
        assert!(e.chain().contains("volume v") && e.chain().contains("nonsensefs"), "{}", e.chain());
    }
}
