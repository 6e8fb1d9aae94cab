//! Takes an archive of images apart: documents into memory, everything else straight into the content store.
//!
//! Nothing is spooled: a layer is written once, as the blob that it stays.

use std::collections::HashMap;
use std::io::{BufRead, Read, Write};
use std::path::Path;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};

use crate::blobs::Blobs;
use crate::digest::Digest;
use crate::layer::extract::{clean, show};
use crate::layer::reader::{EntryKind, TarReader};
use crate::oci;
use crate::progress::{Outcome, Progress};

/// The most bytes of documents that one archive may have.
const MAX_DOCUMENTS: u64 = 256 << 20;
/// The most entries of an archive of images.
const MAX_ENTRIES: u64 = 1 << 20;
/// How many links are followed from one name.
const MAX_LINKS: usize = 16;

/// The files of an archive of images.
pub(crate) struct Stage<'a> {
    blobs: &'a Blobs,
    progress: &'a dyn Progress,
    documents: HashMap<String, Vec<u8>>,
    stored: HashMap<String, Digest>,
    links: HashMap<String, String>,
    document_bytes: u64,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(blobs: &'a Blobs, progress: &'a dyn Progress) -> Self {
        Self {
            blobs,
            progress,
            documents: HashMap::new(),
            stored: HashMap::new(),
            links: HashMap::new(),
            document_bytes: 0,
        }
    }

    /// Takes a tar archive apart.
    pub(crate) fn read_tar(&mut self, input: impl BufRead) -> Result<()> {
        let mut archive = TarReader::new(input);
        let mut entries = 0;
        while let Some(entry) = archive.next_entry()? {
            entries += 1;
            if entries > MAX_ENTRIES {
                return Err(Error::new(
                    Kind::Exhausted,
                    "the archive has too many entries for one of images",
                ));
            }
            let about = |e: Error| e.context(format!("entry {:?}", show(&entry.path)));
            let name = String::from_utf8(clean(&entry.path).map_err(about)?)
                .map_err(|_| Error::invalid("a name that is not UTF-8"))
                .map_err(about)?;
            match entry.kind {
                EntryKind::Directory => {}
                EntryKind::File if entry.sparse.is_some() => {
                    return Err(about(Error::unsupported("sparse files in an archive of images")));
                }
                EntryKind::File => self.file(name, entry.size, archive.data()).map_err(about)?,
                EntryKind::Symlink | EntryKind::HardLink => {
                    let target = link_target(&name, &entry.link, entry.kind).map_err(about)?;
                    self.links.insert(name, target);
                }
                _ => {
                    return Err(about(Error::invalid("an archive of images has only files and directories")));
                }
            }
        }
        archive.finish()
    }

    /// Takes a directory apart that has the layout of such an archive.
    pub(crate) fn read_directory(&mut self, dir: &Path) -> Result<()> {
        let mut open = vec![(dir.to_owned(), String::new(), 0)];
        while let Some((path, prefix, depth)) = open.pop() {
            for entry in std::fs::read_dir(&path).about(|| path.display().to_string())? {
                let entry = entry.about(|| path.display().to_string())?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
                let kind = entry.file_type().about(|| entry.path().display().to_string())?;
                if kind.is_dir() && depth < 4 {
                    open.push((entry.path(), name, depth + 1));
                } else if kind.is_file() {
                    let file =
                        std::fs::File::open(entry.path()).about(|| entry.path().display().to_string())?;
                    let size = file.metadata().about(|| entry.path().display().to_string())?.len();
                    self.file(name, size, file)?;
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, name: String, size: u64, data: impl Read) -> Result<()> {
        let expected = blob_name(&name);
        // Blobs of a layout are documents or layers; small ones are kept at hand too.
        let document = expected.is_none() && is_document(&name);
        if document {
            let bytes = self.read_document(&name, size, data)?;
            self.documents.insert(name, bytes);
            return Ok(());
        }
        let item = match &expected {
            Some(digest) => format!("Loading {digest}"),
            None => format!("Loading {name}"),
        };
        self.progress.begin(&item, Some(size));
        let result = self.store(expected.as_ref(), size, data, &item);
        let outcome = match &result {
            Ok((_, true)) => Outcome::Exists,
            Ok(_) => Outcome::Done,
            Err(_) => Outcome::Failed,
        };
        self.progress.finish(&item, outcome);
        self.stored.insert(name, result?.0);
        Ok(())
    }

    fn store(
        &self,
        expected: Option<&Digest>,
        size: u64,
        mut data: impl Read,
        item: &str,
    ) -> Result<(Digest, bool)> {
        if let Some(digest) = expected
            && self.blobs.has(digest)
        {
            return Ok((digest.clone(), true));
        }
        let mut ingest = self.blobs.ingest(expected, Some(size), "")?;
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let n = match data.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
                    return Err(Error::corrupt(e.to_string()));
                }
                Err(e) => return Err(Error::io("reading the archive", e)),
            };
            ingest.write_all(&buffer[..n]).map_err(|e| ingest.write_error(e))?;
            self.progress.advance(item, n as u64);
        }
        Ok((ingest.commit()?, false))
    }

    fn read_document(&mut self, name: &str, size: u64, data: impl Read) -> Result<Vec<u8>> {
        self.document_bytes += size;
        if size > oci::MAX_DOCUMENT || self.document_bytes > MAX_DOCUMENTS {
            return Err(Error::new(Kind::Exhausted, format!("{name:?} is too large for a document")));
        }
        let mut bytes = Vec::new();
        data.take(size).read_to_end(&mut bytes).map_err(|e| match e.kind() {
            std::io::ErrorKind::InvalidData => Error::corrupt(e.to_string()),
            _ => Error::io(format!("{name:?}"), e),
        })?;
        Ok(bytes)
    }

    /// The name that `name` links to, or itself.
    fn follow(&self, name: &str) -> String {
        let mut name = name.to_owned();
        for _ in 0..MAX_LINKS {
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => break,
            }
        }
        name
    }

    /// A document of the archive, or `None`.
    pub(crate) fn document(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let name = self.follow(name);
        if let Some(bytes) = self.documents.get(&name) {
            return Ok(Some(bytes.clone()));
        }
        self.stored.get(&name).map(|digest| self.blobs.read_small(digest, oci::MAX_DOCUMENT)).transpose()
    }

    /// The blob that a file of the archive became, or `None` when there is no such file.
    pub(crate) fn blob(&self, name: &str) -> Result<Option<Digest>> {
        let name = self.follow(name);
        if let Some(digest) = self.stored.get(&name) {
            return Ok(Some(digest.clone()));
        }
        self.documents.get(&name).map(|bytes| self.blobs.put_bytes(bytes)).transpose()
    }
}

/// `blobs/ALGORITHM/HEX` names content by its digest.
fn blob_name(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
    Digest::parse(&format!("{algorithm}:{hex}")).ok()
}

fn is_document(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    last.ends_with(".json") || matches!(last, "json" | "VERSION" | "repositories" | "oci-layout")
}

fn link_target(name: &str, link: &[u8], kind: EntryKind) -> Result<String> {
    let link = std::str::from_utf8(link).map_err(|_| Error::invalid("a link that is not UTF-8"))?;
    let mut parts: Vec<&str> = match kind {
        EntryKind::Symlink => name.split('/').collect(),
        _ => vec![""],
    };
    parts.pop();
    if link.starts_with('/') {
        return Err(Error::invalid(format!("a link to {link:?}, outside the archive")));
    }
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts
                    .pop()
                    .ok_or_else(|| Error::invalid(format!("a link to {link:?}, outside the archive")))?;
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}
