//! Where a data root keeps what. See ARCHITECTURE.md, "Data root".

use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fluyt_model::Result;
use fluyt_model::error::IoContext;
use fluyt_net::Scope;

/// The data root that is used when none is named.
pub const DEFAULT_ROOT: &str = "/var/lib/fluyt";

/// A data root and its run directory.
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
    run: PathBuf,
    suffix: String,
}

impl Paths {
    /// The paths of the data root `root`, which is made absolute but need not exist.
    ///
    /// # Errors
    /// The current directory is gone.
    pub fn new(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root).about(|| root.display().to_string())?;
        let suffix = if root == Path::new(DEFAULT_ROOT) { String::new() } else { hash(&root) };
        let run = match suffix.as_str() {
            "" => PathBuf::from("/run/fluyt"),
            suffix => PathBuf::from(format!("/run/fluyt-{suffix}")),
        };
        Ok(Self { root, run, suffix })
    }

    /// The root itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What tells this root's links and tables from another root's.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope::new(self.suffix.clone())
    }

    /// Parent of the cgroups of this root's containers.
    #[must_use]
    pub fn cgroup_parent(&self) -> String {
        match self.suffix.as_str() {
            "" => "/fluyt".to_owned(),
            suffix => format!("/fluyt-{suffix}"),
        }
    }

    /// The event journal.
    #[must_use]
    pub fn events(&self) -> PathBuf {
        self.root.join("events.jsonl")
    }

    /// All containers.
    #[must_use]
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// One container.
    #[must_use]
    pub fn container(&self, id: &str) -> PathBuf {
        self.root.join("containers").join(id)
    }

    /// All pods.
    #[must_use]
    pub fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// One pod: its state, and the name files of its members.
    #[must_use]
    pub fn pod(&self, id: &str) -> PathBuf {
        self.root.join("pods").join(id)
    }

    /// One pod's run directory: what holds its namespaces.
    #[must_use]
    pub fn pod_run(&self, id: &str) -> PathBuf {
        self.run.join("pods").join(id)
    }

    /// What is being removed.
    #[must_use]
    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// A volume's own directory; its data is in `_data` inside.
    #[must_use]
    pub fn volume(&self, name: &str) -> PathBuf {
        self.root.join("volumes").join(name)
    }

    /// The run directory of the root.
    #[must_use]
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// One container's run directory: its monitor's lock and socket.
    #[must_use]
    pub fn run_of(&self, id: &str) -> PathBuf {
        self.run.join(id)
    }

    /// Makes a directory in the run directory, which is its owner's alone; does nothing where it is already. Others may pass
    /// through the run directory itself, in which an administrator may have put a socket for them.
    pub(crate) fn make_run(&self, directory: &Path) -> Result<()> {
        let make = |path: &Path, mode: u32| std::fs::DirBuilder::new().mode(mode).create(path);
        let made = match make(directory, 0o700) {
            Err(e) if e.kind() == ErrorKind::NotFound => match make(&self.run, 0o711) {
                Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(e),
                _ => make(directory, 0o700),
            },
            other => other,
        };
        match made {
            // It may be of an earlier version.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))
            }
            other => other,
        }
        .about(|| directory.display().to_string())
    }

    /// The names that can be resolved on a network.
    #[must_use]
    pub fn names(&self, network: &str) -> PathBuf {
        self.run.join("networks").join(network)
    }
}

/// Six hexadecimal digits of FNV-1a over the path: short enough for an interface name.
fn hash(path: &Path) -> String {
    let hash = path
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    format!("{:06x}", (hash ^ (hash >> 24) ^ (hash >> 48)) & 0x00ff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_roots_share_nothing() {
        let (a, b) = (Paths::new(Path::new("/a")).unwrap(), Paths::new(Path::new("/b")).unwrap());
        assert_ne!(a.run(), b.run());
        assert_ne!(a.cgroup_parent(), b.cgroup_parent());
        assert_eq!(Paths::new(Path::new(DEFAULT_ROOT)).unwrap().run(), Path::new("/run/fluyt"));
    }
}
