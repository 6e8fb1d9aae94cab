//! Secrets that were played: files below the data root that only its owner can read.
//!
//! ```text
//! ROOT/kube/secrets/NAME   a Secret as JSON, 0600
//! ```

use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use fluyt_pod::objects::Secret;

/// The secrets of a data root.
pub struct Secrets {
    directory: PathBuf,
}

impl Secrets {
    /// Those of the data root `root`.
    pub fn of(root: &Path) -> Self {
        Self { directory: root.join("kube/secrets") }
    }

    /// A secret; none if there is none of that name.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn get(&self, name: &str) -> Result<Option<Secret>> {
        let path = self.directory.join(name);
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Ok(None);
        }
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|e| Error::corrupt(format!("{}: not a secret", path.display())).with_source(e)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(path.display().to_string(), e)),
        }
    }

    /// Keeps a secret, in the place of one of the same name.
    ///
    /// # Errors
    /// `Conflict` if that one is not to change; it cannot be written.
    pub fn put(&self, secret: &Secret) -> Result<()> {
        let name = &secret.metadata.name;
        if let Some(old) = self.get(name)?
            && old.immutable == Some(true)
            && old.bytes() != secret.bytes()
        {
            return Err(Error::conflict(format!("secret {name} is immutable and has another content"))
                .with_hint(format!(
                    "`fluyt kube down` with its file removes it, or give the new one another name than {name}"
                )));
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .about(|| self.directory.display().to_string())?;
        let bytes = serde_json::to_vec(secret).map_err(|e| Error::internal("the secret").with_source(e))?;
        let fresh = self.directory.join(format!(".{name}.{}", std::process::id()));
        let about = || fresh.display().to_string();
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)
            .about(about)?;
        file.write_all(&bytes).about(about)?;
        std::fs::rename(&fresh, self.directory.join(name)).about(about)
    }

    /// Forgets a secret; whether it was there.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, name: &str) -> Result<bool> {
        match std::fs::remove_file(self.directory.join(name)) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io(format!("secret {name}"), e)),
        }
    }

    /// The bytes of those of `names` that are there.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn bytes(&self, names: &[String]) -> Result<BTreeMap<String, BTreeMap<String, Vec<u8>>>> {
        let mut all = BTreeMap::new();
        for name in names {
            if let Some(secret) = self.get(name)? {
                all.insert(name.clone(), secret.bytes());
            }
        }
        Ok(all)
    }
}
