//! Looking things up for a start: users in the image, devices and namespaces of the host.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use fluyt_model::sandbox::DeviceSpec;
use fluyt_model::{Error, Kind, Result};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use crate::lower::HostDevice;

/// Accounts files longer than this are not read further, bytes.
const MAX_ACCOUNTS: u64 = 4 << 20;

/// The file at `path` in the merged view of `layers` (top first), without mounting them.
///
/// A layer's own symbolic links are followed inside that layer.
#[must_use]
pub fn merged_file(layers: &[PathBuf], path: &str) -> Option<String> {
    for layer in layers {
        let Ok(root) =
            rustix::fs::openat(CWD, layer, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        else {
            continue;
        };
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let find = |flags| rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), inside);
        let Ok(found) = find(OFlags::PATH).map(File::from) else {
            // A link that leads nowhere in here hides what is below.
            if find(OFlags::PATH | OFlags::NOFOLLOW).is_ok() {
                return None;
            }
            continue;
        };
        // A whiteout is a device: the file is gone from here downwards. No device is opened: whatever it does then, it
        // would do to this machine.
        if !found.metadata().is_ok_and(|m| m.is_file()) {
            return None;
        }
        let file = File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).ok()?;
        let mut bytes = Vec::new();
        file.take(MAX_ACCOUNTS).read_to_end(&mut bytes).ok()?;
        return Some(String::from_utf8_lossy(&bytes).into_owned());
    }
    None
}

/// A user as a process needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Additional group ids.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: String,
}

/// Finds `wanted` (`user[:group]`, names or numbers) and the additional `groups` in the accounts files.
///
/// # Errors
/// `Invalid`, with Docker's sentence, for a name that is in neither file.
pub fn account(wanted: &str, groups: &[String], passwd: &str, group: &str) -> Result<Account> {
    let (user, named_group) = wanted.split_once(':').map_or((wanted, None), |(u, g)| (u, Some(g)));
    let user = if user.is_empty() { "0" } else { user };
    let number = user.parse::<u32>().ok();
    let line = passwd
        .lines()
        .map(|l| l.split(':').collect::<Vec<_>>())
        .find(|f| f.len() >= 6 && (f[0] == user || number.is_some_and(|n| f[2].parse() == Ok(n))));
    let (name, uid, own_gid, home) = match (&line, number) {
        (Some(f), _) => {
            let id = |text: &str| {
                text.parse::<u32>().map_err(|_| Error::corrupt(format!("/etc/passwd: user {user}: {text}")))
            };
            (f[0], number.map_or_else(|| id(f[2]), Ok)?, id(f[3])?, f[5])
        }
        (None, Some(uid)) => ("", uid, 0, "/"),
        (None, None) => {
            return Err(Error::invalid(format!(
                "unable to find user {user}: no matching entries in passwd file"
            )));
        }
    };
    let gid = match named_group.filter(|g| !g.is_empty()) {
        Some(g) => group_id(g, group)?,
        None => own_gid,
    };
    let mut all = Vec::new();
    // A group given on purpose replaces the ones that the accounts files would add.
    if named_group.is_none() && !name.is_empty() {
        all.extend(group.lines().map(|l| l.split(':').collect::<Vec<_>>()).filter_map(|f| {
            let member = f.get(3)?.split(',').any(|m| m == name);
            member.then(|| f[2].parse::<u32>().ok())?
        }));
    }
    for g in groups {
        all.push(group_id(g, group)?);
    }
    // With its own group among them, giving up that one does not open what is closed to it (CVE-2022-2989).
    all.push(gid);
    all.sort_unstable();
    all.dedup();
    let home = if home.is_empty() { "/" } else { home };
    Ok(Account { uid, gid, groups: all, home: home.to_owned() })
}

fn group_id(wanted: &str, group: &str) -> Result<u32> {
    let by_name =
        group.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|f| f.len() >= 3 && f[0] == wanted);
    by_name.and_then(|f| f[2].parse().ok()).or_else(|| wanted.parse().ok()).ok_or_else(|| {
        Error::invalid(format!("unable to find group {wanted}: no matching entries in group file"))
    })
}

/// The devices that `spec` names: one node, or all nodes below a directory.
///
/// # Errors
/// The path does not exist or is no device.
pub fn devices(spec: &DeviceSpec) -> Result<Vec<HostDevice>> {
    let about = |e: std::io::Error| {
        Error::io(
            format!(
                "error gathering device information while adding custom device \"{}\"",
                spec.host_path.display()
            ),
            e,
        )
    };
    let metadata = std::fs::metadata(&spec.host_path).map_err(about)?;
    if metadata.is_dir() {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&spec.host_path).map_err(about)? {
            let name = entry.map_err(about)?.file_name();
            let inner = DeviceSpec {
                host_path: spec.host_path.join(&name),
                container_path: spec.container_path.join(&name),
                permissions: spec.permissions.clone(),
            };
            match devices(&inner) {
                Ok(more) => found.extend(more),
                Err(e) if matches!(e.kind(), Kind::Invalid | Kind::NotFound) => {}
                Err(e) => return Err(e),
            }
        }
        return Ok(found);
    }
    device(&spec.host_path, &spec.container_path, &spec.permissions).map(|d| vec![d]).ok_or_else(|| {
        Error::invalid(format!(
            "error gathering device information while adding custom device \"{}\": not a device node",
            spec.host_path.display()
        ))
    })
}

fn device(host: &Path, container: &Path, access: &str) -> Option<HostDevice> {
    let metadata = std::fs::metadata(host).ok()?;
    let kind = match metadata.file_type() {
        t if t.is_char_device() => 'c',
        t if t.is_block_device() => 'b',
        _ => return None,
    };
    let number = metadata.rdev();
    Some(HostDevice {
        path: container.to_owned(),
        source: host.to_owned(),
        kind,
        major: i64::from(rustix::fs::major(number)),
        minor: i64::from(rustix::fs::minor(number)),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        access: access.to_owned(),
    })
}

/// Every device of the host, for a privileged container; terminals and what the container has itself are left out.
#[must_use]
pub fn all_devices() -> Vec<HostDevice> {
    const OWN: [&str; 14] = [
        "pts", "shm", "fd", "mqueue", "console", "null", "zero", "full", "random", "urandom", "tty", "ptmx",
        "stdin", "core",
    ];
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::from("/dev")];
    // Bounded: /dev is a small file system, but it is the host's.
    while let Some(dir) = pending.pop().filter(|_| found.len() < 4096) {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            if dir == Path::new("/dev")
                && name.to_str().is_some_and(|n| OWN.contains(&n) || n.starts_with('.'))
            {
                continue;
            }
            match entry.file_type() {
                Ok(t) if t.is_dir() => pending.push(path),
                Ok(t) if t.is_symlink() => {}
                Ok(_) => found.extend(device(&path, &path, "rwm")),
                Err(_) => {}
            }
        }
    }
    found
}

/// Major and minor number of the block device at `path`.
///
/// # Errors
/// It does not exist or is no block device.
pub fn block_device(path: &Path) -> Result<(i64, i64)> {
    device(path, path, "")
        .filter(|d| d.kind == 'b')
        .map(|d| (d.major, d.minor))
        .ok_or_else(|| Error::invalid(format!("{}: not a block device", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::inotify;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/var/www:/bin/false\n";
    const GROUP: &str = "root:x:0:\nwww:x:33:\nlogs:x:44:web,root\n";

    fn find(user: &str, groups: &[&str]) -> Result<Account> {
        account(user, &groups.iter().map(|g| (*g).to_owned()).collect::<Vec<_>>(), PASSWD, GROUP)
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        let web = find("web", &[]).unwrap();
        assert_eq!(
            (web.uid, web.gid, &web.groups[..], web.home.as_str()),
            (33, 33, &[33, 44][..], "/var/www")
        );
        assert_eq!(find("33", &[]).unwrap(), web);
        let root = find("", &[]).unwrap();
        assert_eq!((&root.groups[..], root.home.as_str()), (&[0, 44][..], "/root"));
        let stranger = find("1234:55", &[]).unwrap();
        assert_eq!((stranger.uid, stranger.gid, stranger.home.as_str()), (1234, 55, "/"));
        assert_eq!(find("web:logs", &["www"]).unwrap().groups, [33, 44]);
    }

    #[test]
    fn accounts_come_from_the_topmost_regular_file() {
        let dir = tempfile::tempdir().unwrap();
        let layers = ["top", "bottom"].map(|name| dir.path().join(name));
        layers.iter().for_each(|layer| std::fs::create_dir_all(layer.join("etc")).unwrap());
        let find = || merged_file(&layers, "etc/passwd");
        assert_eq!(find(), None);
        std::fs::write(layers[1].join("etc/passwd"), "below").unwrap();
        assert_eq!(find().as_deref(), Some("below"));
        let top = layers[0].join("etc/passwd");
        std::os::unix::fs::symlink("/etc/none", &top).unwrap();
        assert_eq!(find(), None);
        std::fs::remove_file(&top).unwrap();
        std::os::unix::fs::symlink("/etc/other", &top).unwrap();
        std::fs::write(layers[0].join("etc/other"), "linked").unwrap();
        assert_eq!(find().as_deref(), Some("linked"));
        std::fs::remove_file(&top).unwrap();
        rustix::fs::mknodat(CWD, &top, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        let events = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&events, &top, inotify::WatchFlags::OPEN).unwrap();
        assert_eq!(find(), None);
        let opened = rustix::io::read(&events, &mut [0; 64]);
        assert_eq!(opened.unwrap_err(), rustix::io::Errno::AGAIN, "it was opened");
    }

    #[test]
    fn strangers_by_name_are_refused() {
        assert!(find("nobody", &[]).unwrap_err().to_string().contains("unable to find user nobody"));
        assert!(find("web:nope", &[]).unwrap_err().to_string().contains("unable to find group nope"));
    }
}
