//! An OCI image layout as a directory (image-layout.md): documents and blobs beside an image store.
//!
//! ```text
//! DIR/oci-layout           {"imageLayoutVersion": "1.0.0"}
//! DIR/index.json           what is in it, each under a tag
//! DIR/blobs/sha256/HEX
//! ```
//! Files appear by rename, blobs before the index, so a reader sees whole ones. Writers of one directory take turns.
//! Nothing is ever removed.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use rustix::fs::{FlockOperation, flock};

use crate::archive::REF_NAME;
use crate::blobs::{Blobs, random_name};
use crate::digest::Digest;
use crate::oci::{Descriptor, Index, MAX_DOCUMENT, OCI_INDEX};

/// The file that says what the directory is, and its content.
const MARK: (&str, &str) = ("oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");

/// A layout.
#[derive(Clone, Debug)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// The layout in a directory, which need not exist.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The file of a blob.
    #[must_use]
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    /// Whether a blob is there.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.blob(digest).is_file()
    }

    /// What is in it.
    ///
    /// # Errors
    /// `NotFound` when there is no layout; `Corrupt`.
    pub fn index(&self) -> Result<Index> {
        let path = self.dir.join("index.json");
        let file = File::open(&path).about(|| path.display().to_string())?;
        let mut bytes = Vec::new();
        file.take(MAX_DOCUMENT).read_to_end(&mut bytes).about(|| path.display().to_string())?;
        serde_json::from_slice(&bytes).map_err(|e| Error::corrupt(path.display().to_string()).with_source(e))
    }

    /// What has a tag.
    ///
    /// # Errors
    /// `NotFound`; as [`Layout::index`].
    pub fn tagged(&self, tag: &str) -> Result<Descriptor> {
        let found = self
            .index()?
            .manifests
            .into_iter()
            .find(|d| d.annotations.get(REF_NAME).is_some_and(|t| t == tag));
        found.ok_or_else(|| Error::not_found(format!("{}: there is no {tag} in it", self.dir.display())))
    }

    /// Brings a blob into a store, verified; nothing if it is there.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` when it is not what its name says.
    pub fn fetch(&self, blobs: &Blobs, blob: &Descriptor) -> Result<()> {
        if blobs.has(&blob.digest) {
            return Ok(());
        }
        let path = self.blob(&blob.digest);
        // Opening what is no file may wait forever.
        if !self.has(&blob.digest) {
            return Err(Error::not_found(format!("{}: there is no such blob", path.display())));
        }
        let mut file = File::open(&path).about(|| path.display().to_string())?;
        let mut ingest = blobs.ingest(Some(&blob.digest), Some(blob.size), "")?;
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let n = file.read(&mut buffer).about(|| path.display().to_string())?;
            if n == 0 {
                break;
            }
            ingest
                .write_all(&buffer[..n])
                .map_err(|e| ingest.write_error(e).context(path.display().to_string()))?;
        }
        ingest.commit().map(drop).map_err(|e| e.context(path.display().to_string()))
    }

    /// Writes a blob of a store, unless it is there.
    ///
    /// # Errors
    /// I/O errors; `NotFound` when the store does not have it.
    pub fn put(&self, blobs: &Blobs, digest: &Digest) -> Result<()> {
        let path = self.blob(digest);
        if path.is_file() {
            return Ok(());
        }
        let parent = path.parent().unwrap_or(&self.dir);
        std::fs::create_dir_all(parent).about(|| parent.display().to_string())?;
        let part = parent.join(format!(".{}", random_name()?));
        let about = || part.display().to_string();
        let written = File::create_new(&part).about(about).and_then(|mut file| {
            std::io::copy(&mut blobs.open(digest)?, &mut file).about(about)?;
            rustix::fs::fdatasync(&file).about(about)?;
            std::fs::rename(&part, &path).about(|| path.display().to_string())
        });
        if written.is_err() {
            let _ = std::fs::remove_file(&part);
        }
        written
    }

    /// Gives `document`, which is there, a tag; what had it has none any more.
    ///
    /// # Errors
    /// I/O errors; `Corrupt` when the index that is there cannot be read.
    pub fn tag(&self, document: &Descriptor, tag: &str) -> Result<()> {
        std::fs::create_dir_all(&self.dir).about(|| self.dir.display().to_string())?;
        let lock = File::open(&self.dir).about(|| self.dir.display().to_string())?;
        flock(&lock, FlockOperation::LockExclusive).about(|| self.dir.display().to_string())?;
        let mut index = match self.index() {
            Ok(index) => index,
            Err(e) if e.kind() == fluyt_model::Kind::NotFound => Index {
                schema_version: 2,
                media_type: Some(OCI_INDEX.to_owned()),
                manifests: Vec::new(),
                annotations: std::collections::BTreeMap::new(),
            },
            Err(e) => return Err(e),
        };
        index.manifests.retain(|d| d.annotations.get(REF_NAME).is_none_or(|t| t != tag));
        let mut entry = document.clone();
        entry.annotations.insert(REF_NAME.to_owned(), tag.to_owned());
        index.manifests.push(entry);
        let text =
            serde_json::to_vec(&index).map_err(|e| Error::internal("writing an index").with_source(e))?;
        self.replace(MARK.0, MARK.1.as_bytes())?;
        self.replace("index.json", &text)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let part = self.dir.join(format!(".{name}-{}", random_name()?));
        std::fs::write(&part, bytes).about(|| part.display().to_string())?;
        let path = self.dir.join(name);
        std::fs::rename(&part, &path).about(|| path.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_go_out_and_come_back_verified() {
        let dir = tempfile::tempdir().unwrap();
        let store = |name: &str| {
            let root = dir.path().join(name);
            std::fs::create_dir_all(root.join("ingest")).unwrap();
            Blobs::new(&root, None)
        };
        let (from, to) = (store("from"), store("to"));
        let layout = Layout::new(&dir.path().join("layout"));
        assert_eq!(layout.index().unwrap_err().kind(), fluyt_model::Kind::NotFound);
        let digest = from.put_bytes(b"content").unwrap();
        let blob = Descriptor::new("text/plain", digest.clone(), 7);
        layout.put(&from, &digest).unwrap();
        layout.tag(&blob, "one").unwrap();
        layout.tag(&blob, "two").unwrap();
        layout.tag(&blob, "one").unwrap();
        assert_eq!(layout.index().unwrap().manifests.len(), 2);
        assert_eq!(layout.tagged("one").unwrap().digest, digest);
        assert!(layout.tagged("three").is_err());
        layout.fetch(&to, &blob).unwrap();
        assert!(to.has(&digest));
        std::fs::write(layout.blob(&digest), b"CONTENT").unwrap();
        let other = store("other");
        assert_eq!(layout.fetch(&other, &blob).unwrap_err().kind(), fluyt_model::Kind::Corrupt);
        assert!(!other.has(&digest));
        // Nothing but the layout's own files is left.
        let mut names: Vec<_> = crate::gc::names_in(&dir.path().join("layout")).unwrap();
        names.sort();
        assert_eq!(names, ["blobs", "index.json", "oci-layout"]);
    }
}
