//! Caches to read from. Of each only its document is read; a layer is fetched when a key leads to it and the result is
//! needed.
//!
//! A cache that turns out to be broken, or to lie about its layers, is told of once and not asked again: the build goes
//! on without it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use fluyt_image::{Blobs, Descriptor, Digest, LayerRef, LayerSource, Lease, Store};
use fluyt_model::{Error, Result};

use super::document::Document;

/// Where the blobs of a cache come from.
pub trait Origin: Send + Sync {
    /// Puts a blob into `blobs`, verified; nothing if it is there.
    ///
    /// # Errors
    /// It cannot be had, or is another than it should be.
    fn fetch(&self, blobs: &Blobs, blob: &Descriptor) -> Result<()>;
}

/// A cache to read from.
pub struct Import {
    name: String,
    origin: Box<dyn Origin>,
    document: Document,
    /// The archives of the document's layers.
    blobs: Vec<Descriptor>,
    /// Key to record.
    keys: HashMap<Digest, usize>,
    /// Why it is not asked any more.
    broken: Mutex<Option<String>>,
}

/// A layer as a cache has it: the digest of its archive, and the archive compressed.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Of the archive.
    pub diff_id: Digest,
    /// Of the archive as it is stored.
    pub blob: Descriptor,
}

impl Import {
    /// The cache `name` of a document whose layers are these blobs of `origin`.
    ///
    /// # Errors
    /// `Corrupt` when there are not as many blobs as layers.
    pub fn new(
        name: &str,
        origin: Box<dyn Origin>,
        document: Document,
        blobs: Vec<Descriptor>,
    ) -> Result<Self> {
        if document.layers.len() != blobs.len() {
            return Err(Error::corrupt(format!(
                "build cache {name}: {} layers, {} blobs",
                document.layers.len(),
                blobs.len()
            )));
        }
        let mut keys = HashMap::new();
        for (at, record) in document.records.iter().enumerate() {
            for key in &record.keys {
                keys.entry(key.clone()).or_insert(at);
            }
        }
        Ok(Self { name: name.to_owned(), origin, document, blobs, keys, broken: Mutex::default() })
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many results it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.document.records.len()
    }

    /// Whether it knows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.document.records.is_empty()
    }

    /// Why it is not asked any more: the cache's name and what was wrong.
    #[must_use]
    pub fn broken(&self) -> Option<String> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What `key` leads to: all keys of the result, its layers, what made it. Fetches nothing.
    #[must_use]
    pub fn look(&self, key: &Digest) -> Option<(&[Digest], Vec<Kept>, &str)> {
        let record = &self.document.records[*self.keys.get(key)?];
        let kept =
            |at: &usize| Kept { diff_id: self.document.layers[*at].clone(), blob: self.blobs[*at].clone() };
        Some((&record.keys, record.layers.iter().map(kept).collect(), &record.note))
    }

    /// Fetches one blob of it.
    ///
    /// # Errors
    /// As [`Origin::fetch`].
    pub fn fetch(&self, blobs: &Blobs, blob: &Descriptor) -> Result<()> {
        self.origin.fetch(blobs, blob).map_err(|e| e.context(format!("build cache {}", self.name)))
    }

    /// The layers that `key` leads to, here and protected by `lease`; recorded, so that the next build has them.
    fn find(&self, store: &Store, lease: &Lease, key: &Digest) -> Result<Option<Vec<LayerRef>>> {
        let Some((_, kept, note)) = self.look(key) else { return Ok(None) };
        let blobs = lease.blobs();
        let unpacked = Mutex::new(Vec::new());
        let sources: Vec<LayerSource<'_>> = kept
            .iter()
            .enumerate()
            .map(|(at, layer)| {
                let (blobs, descriptor, unpacked) = (blobs.clone(), layer.blob.clone(), &unpacked);
                LayerSource {
                    descriptor: layer.blob.clone(),
                    diff_id: layer.diff_id.clone(),
                    open: Box::new(move || {
                        self.origin.fetch(&blobs, &descriptor)?;
                        unpacked.lock().unwrap_or_else(PoisonError::into_inner).push(at);
                        Ok(Box::new(blobs.open(&descriptor.digest)?))
                    }),
                }
            })
            .collect();
        let layers = store.unpack_layers(lease, &sources, &fluyt_image::Silent)?;
        drop(sources);
        // Only what was unpacked now is known to be the archive of its layer. Of a layer that was here already it is the
        // document's word, and what is pushed and saved later would be made of it.
        for at in unpacked.into_inner().unwrap_or_else(PoisonError::into_inner) {
            store.remember_blob(&kept[at].diff_id, &kept[at].blob)?;
        }
        // Under no other key that the document has beside this one: those are its word only, and builds that do not read
        // this cache would find it.
        store.cache_put(&[(key.clone(), layers.clone(), note.to_owned())])?;
        Ok(Some(layers))
    }
}

/// All caches to read from, in their order.
#[derive(Default)]
pub struct Imports {
    /// The first that knows a key is asked first.
    pub all: Vec<Import>,
}

impl Imports {
    /// The layers that a key leads to in one of them.
    #[must_use]
    pub fn find(&self, store: &Store, lease: &Lease, key: &Digest) -> Option<Vec<LayerRef>> {
        for import in self.all.iter().filter(|import| import.broken().is_none()) {
            match import.find(store, lease, key) {
                Ok(None) => {}
                Ok(found) => return found,
                Err(e) => {
                    let why = format!("build cache {}: {}", import.name, e.chain());
                    *import.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
                }
            }
        }
        None
    }

    /// What a key leads to in one of them, without fetching anything.
    #[must_use]
    pub fn look(&self, key: &Digest) -> Option<(&Import, &[Digest], Vec<Kept>, &str)> {
        self.all
            .iter()
            .filter(|import| import.broken().is_none())
            .find_map(|import| import.look(key).map(|(keys, kept, note)| (import, keys, kept, note)))
    }
}

#[cfg(test)]
mod tests {
    use fluyt_image::Silent;
    use fluyt_image::layer::writer::TarWriter;
    use fluyt_image::oci::OCI_LAYER;

    use super::*;
    use crate::cache::document::Record;

    /// Everything is here already.
    struct Here;

    impl Origin for Here {
        fn fetch(&self, _: &Blobs, _: &Descriptor) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_document_says_nothing_about_layers_that_are_here() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let lease = store.lease().unwrap();
        let archive = |name: &str| {
            let mut tar = TarWriter::new(Vec::new());
            tar.append_bytes(name, name.as_bytes(), 1).unwrap();
            let digest = lease.blobs().put_bytes(&tar.finish().unwrap()).unwrap();
            let size = store.blobs().size(&digest).unwrap();
            (digest.clone(), Descriptor::new(OCI_LAYER, digest, size))
        };
        let ((base, base_blob), (other, other_blob)) = (archive("base"), archive("other"));
        // The base's layer is here, its archive is not known any more.
        let blobs = lease.blobs();
        let source = LayerSource::blob(&blobs, &base_blob, &base);
        let here = store.unpack_layers(&lease, &[source], &Silent).unwrap();
        let key = Digest::of(b"key");
        let record = Record { keys: vec![key.clone()], layers: vec![0, 1], note: String::new() };
        let document = Document::new(vec![base, other.clone()], vec![record]);
        let import =
            Import::new("evil", Box::new(Here), document, vec![other_blob.clone(), other_blob]).unwrap();
        let found = import.find(&store, &lease, &key).unwrap().unwrap();
        assert_eq!(found[0].key, here[0].key);
        assert_eq!(store.layer_blob(&lease, &found[1]).unwrap().digest, other);
        assert!(store.layer_blob(&lease, &found[0]).is_ok_and(|blob| blob.digest != other));
    }
}
