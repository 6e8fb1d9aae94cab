//! What a build leaves for other machines: its results as records over layers, as a manifest or for an image.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use fluyt_image::Packing;
use fluyt_image::oci::OCI_MANIFEST;
use fluyt_image::{Descriptor, Digest, LayerRef, Lease, Manifest, Store};
use fluyt_model::{Error, Result};

use super::document::{Document, MEDIA_TYPE, Record};
use super::import::{Import, Imports, Kept};

/// How much of a build is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// What the result stands on.
    #[default]
    Min,
    /// All stages.
    Max,
}

/// What a solver has done, for whoever exports it. Several solves may add to one.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Mutex<Entries>,
}

#[derive(Clone, Debug, Default)]
struct Entries {
    made: Vec<Made>,
    results: Vec<Vec<LayerRef>>,
}

/// A vertex that had its turn, or need not have.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its definition key, if it has one.
    pub definition: Option<Digest>,
    /// Its result; none when something after it was cached.
    pub layers: Option<Vec<LayerRef>>,
    /// What it is called.
    pub note: String,
}

/// A result to export.
struct Entry<'a> {
    keys: Vec<Digest>,
    layers: Vec<Layer>,
    note: String,
    /// Where blobs come from that are not here.
    import: Option<&'a Import>,
}

#[derive(Clone)]
enum Layer {
    Here(LayerRef),
    There(Kept),
}

impl Layer {
    fn diff_id(&self) -> &Digest {
        match self {
            Self::Here(layer) => &layer.diff_id,
            Self::There(kept) => &kept.diff_id,
        }
    }
}

/// A cache, ready to be stored somewhere.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The manifest, which is in the store.
    pub manifest: Descriptor,
    /// Its document and its layers, which are in the store unless the place has them.
    pub blobs: Vec<Descriptor>,
    /// How many results it has.
    pub records: usize,
}

impl Ledger {
    /// Notes what was made, and what came of it in the end.
    pub fn note(&self, made: Vec<Made>, results: &[Vec<LayerRef>]) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.made.extend(made);
        entries.results.extend_from_slice(results);
    }

    /// The records that belong into the configuration of an image of these layers; `None` when there are none.
    ///
    /// # Errors
    /// Those of the record file.
    pub fn inline(
        &self,
        store: &Store,
        lease: &Lease,
        image: &[LayerRef],
    ) -> Result<Option<serde_json::Value>> {
        let mut records = Vec::new();
        for entry in self.entries(store, lease, &Imports::default(), Mode::Max)? {
            let ids: Vec<&Digest> = entry.layers.iter().map(Layer::diff_id).collect();
            if ids.len() <= image.len() && ids.iter().zip(image).all(|(id, layer)| **id == layer.diff_id) {
                records.push(Record {
                    keys: entry.keys,
                    layers: (0..ids.len()).collect(),
                    note: told(&entry.note),
                });
            }
        }
        if records.is_empty() {
            return Ok(None);
        }
        let document = serde_json::to_value(Document::new(Vec::new(), records));
        document.map(Some).map_err(|e| Error::internal("writing a build cache").with_source(e))
    }

    /// Makes the manifest of a cache in the store. `has` tells which blobs its place has already: such a one is not
    /// fetched from another cache only to be sent there.
    ///
    /// # Errors
    /// A layer that has been changed; I/O errors; what the origin of a layer says.
    pub fn export(
        &self,
        store: &Store,
        lease: &Lease,
        imports: &Imports,
        mode: Mode,
        packing: Packing,
        has: &dyn Fn(&Import, &Digest) -> bool,
    ) -> Result<Exported> {
        let entries = self.entries(store, lease, imports, mode)?;
        let blobs = lease.blobs();
        let mut places: HashMap<Digest, usize> = HashMap::new();
        let mut diff_ids: Vec<Digest> = Vec::new();
        let mut here: Vec<(usize, LayerRef)> = Vec::new();
        let mut descriptors: Vec<Option<Descriptor>> = Vec::new();
        let mut records = Vec::new();
        for entry in entries {
            let mut places_of = Vec::new();
            for layer in &entry.layers {
                let next = diff_ids.len();
                let at = *places.entry(layer.diff_id().clone()).or_insert(next);
                places_of.push(at);
                if at < next {
                    continue;
                }
                diff_ids.push(layer.diff_id().clone());
                descriptors.push(None);
                match layer {
                    Layer::Here(layer) => here.push((at, layer.clone())),
                    Layer::There(kept) => {
                        if let Some(import) = entry.import
                            && !has(import, &kept.blob.digest)
                        {
                            import.fetch(&blobs, &kept.blob)?;
                        }
                        descriptors[at] = Some(kept.blob.clone());
                    }
                }
            }
            records.push(Record { keys: entry.keys, layers: places_of, note: told(&entry.note) });
        }
        let layers: Vec<LayerRef> = here.iter().map(|(_, layer)| layer.clone()).collect();
        for ((at, _), blob) in here.iter().zip(store.packed_layers(lease, &layers, packing, &|_| true)?) {
            descriptors[*at] = Some(blob);
        }
        let descriptors: Vec<Descriptor> = descriptors.into_iter().flatten().collect();
        write(lease, Document::new(diff_ids, records), descriptors)
    }

    /// The results, with all keys that lead to them.
    fn entries<'a>(
        &self,
        store: &Store,
        lease: &Lease,
        imports: &'a Imports,
        mode: Mode,
    ) -> Result<Vec<Entry<'a>>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut found: Vec<Entry<'a>> = Vec::new();
        for made in entries.made {
            let layers = match (made.layers, &made.definition) {
                (Some(layers), _) => Some(layers),
                (None, Some(key)) => store.cache_find(lease, key)?,
                (None, None) => None,
            };
            let entry = match (layers, &made.definition) {
                (Some(layers), definition) => {
                    let mut keys = store.cache_keys(&layers, &made.note)?;
                    keys.extend(definition.clone());
                    // What came from another cache goes on with all the keys that it had there.
                    if let Some((_, more, kept, _)) = definition.as_ref().and_then(|key| imports.look(key))
                        && kept.iter().map(|kept| &kept.diff_id).eq(layers.iter().map(|layer| &layer.diff_id))
                    {
                        keys.extend(
                            more.iter().filter(|key| !keys.contains(key)).cloned().collect::<Vec<_>>(),
                        );
                    }
                    let layers = layers.into_iter().map(Layer::Here).collect();
                    Entry { keys, layers, note: made.note, import: None }
                }
                (None, Some(key)) => {
                    let Some((import, keys, kept, note)) = imports.look(key) else { continue };
                    let layers = kept.into_iter().map(Layer::There).collect();
                    Entry { keys: keys.to_vec(), layers, note: note.to_owned(), import: Some(import) }
                }
                (None, None) => continue,
            };
            let stands_on = |result: &Vec<LayerRef>| {
                entry.layers.len() <= result.len()
                    && entry.layers.iter().zip(result).all(|(a, b)| *a.diff_id() == b.diff_id)
            };
            if !entry.keys.is_empty() && (mode == Mode::Max || entries.results.iter().any(stands_on)) {
                found.push(entry);
            }
        }
        Ok(found)
    }
}

fn write(lease: &Lease, document: Document, layers: Vec<Descriptor>) -> Result<Exported> {
    let bad = |e: serde_json::Error| Error::internal("writing a build cache").with_source(e);
    let blobs = lease.blobs();
    let records = document.records.len();
    let bytes = serde_json::to_vec(&document).map_err(bad)?;
    let config = Descriptor::new(MEDIA_TYPE, blobs.put_bytes(&bytes)?, bytes.len() as u64);
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(OCI_MANIFEST.to_owned()),
        artifact_type: None,
        config: config.clone(),
        layers: layers.clone(),
        annotations: std::collections::BTreeMap::new(),
    };
    let bytes = serde_json::to_vec(&manifest).map_err(bad)?;
    let manifest = Descriptor::new(OCI_MANIFEST, blobs.put_bytes(&bytes)?, bytes.len() as u64);
    let blobs = std::iter::once(config).chain(layers).collect();
    Ok(Exported { manifest, blobs, records })
}

/// What others are told of a step: where it stands and its instruction. The rest of its name has the values of arguments in
/// it, which may be nobody else's business.
fn told(note: &str) -> String {
    let place = note.strip_prefix('[').and_then(|rest| rest.find("] ")).map_or(0, |at| at + "[] ".len());
    let instruction = note[place..].split(' ').next().unwrap_or_default();
    format!("{}{instruction}", &note[..place])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_that_leave_the_machine_have_no_values() {
        for (note, expected) in [
            ("[2/4] RUN curl -H s3cr3t", "[2/4] RUN"),
            ("[base 1/2] COPY --from=x /a /b", "[base 1/2] COPY"),
            ("RUN x", "RUN"),
            ("[broken", "[broken"),
            ("", ""),
        ] {
            assert_eq!(told(note), expected);
        }
    }
}
