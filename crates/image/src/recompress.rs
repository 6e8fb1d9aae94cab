//! Archives of layers in a compression that is asked for: from the archive that is here, or from the layer's files.
//!
//! What is made here is not remembered as the archive of its layer, so that images keep theirs.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use fluyt_model::{Error, Result};

use crate::archive::save::Encoder;
use crate::blobs::{Blobs, Ingest};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::layer::codec::{Compression, Decoder};
use crate::layer::pack;
use crate::layer::unpack::LayerRef;
use crate::layer::walk::Stack;
use crate::lease::Lease;
use crate::oci::{Descriptor, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD};
use crate::store::Store;

impl Compression {
    /// The media type of a layer that is compressed so.
    #[must_use]
    pub fn layer_type(self) -> &'static str {
        match self {
            Self::Gzip => OCI_LAYER_GZIP,
            Self::Zstd => OCI_LAYER_ZSTD,
            _ => OCI_LAYER,
        }
    }
}

impl Store {
    /// The archives of layers: those that are here as they are, unless `force`; the others compressed as asked for.
    ///
    /// # Errors
    /// I/O errors; `Kind::Corrupt` when a layer's directory has been changed.
    pub fn archives_of(
        &self,
        lease: &Lease,
        layers: &[LayerRef],
        (compression, force): (Compression, bool),
    ) -> Result<Vec<Descriptor>> {
        if compression == Compression::Gzip && !force {
            return self.compressed_layers(lease, layers);
        }
        let mut found: Vec<Option<Descriptor>> = Vec::with_capacity(layers.len());
        let mut sources: Vec<(usize, Option<Descriptor>)> = Vec::new();
        for (at, layer) in layers.iter().enumerate() {
            let known = self.known_blob(lease, &layer.diff_id)?;
            let fits = |d: &Descriptor| !force || compression_of(&d.media_type) == Some(compression);
            if known.as_ref().is_some_and(fits) {
                found.push(known);
            } else {
                found.push(None);
                sources.push((at, known));
            }
        }
        let (next, made) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let (root, blobs) = (self.root(), lease.blobs());
        let work = || {
            while let Some((at, known)) = sources.get(next.fetch_add(1, Ordering::Relaxed)) {
                let layer = &layers[*at];
                let blob = match known {
                    Some(known) => transcoded(&blobs, known, compression),
                    None => packed(&blobs, &layer.path(root), compression),
                };
                let blob = blob.and_then(|(blob, diff_id)| {
                    if diff_id == layer.diff_id { Ok(blob) } else { Err(changed(&layer.diff_id)) }
                });
                made.lock().unwrap_or_else(PoisonError::into_inner).push((*at, blob));
            }
        };
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(sources.len());
        std::thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(work);
            }
            work();
        });
        for (at, blob) in made.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let digest = blob?;
            let size = blobs.size(&digest)?;
            found[at] = Some(Descriptor::new(compression.layer_type(), digest, size));
        }
        found.into_iter().map(|d| d.ok_or_else(|| Error::internal("a layer without a blob"))).collect()
    }
}

fn compression_of(media_type: &str) -> Option<Compression> {
    match media_type {
        t if t.ends_with("gzip") => Some(Compression::Gzip),
        t if t.ends_with("zstd") => Some(Compression::Zstd),
        t if t.ends_with("tar") => Some(Compression::None),
        _ => None,
    }
}

fn changed(diff_id: &Digest) -> Error {
    Error::corrupt(format!("layer {diff_id}: its directory or its archive has been changed"))
        .with_hint("run `fluyt builder prune`, then build again")
}

/// A writer that knows the digest of what went through it.
struct Hashing<W> {
    inner: W,
    hasher: Hasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

fn begin(blobs: &Blobs, compression: Compression) -> Result<Hashing<Encoder<Ingest>>> {
    let inner = Encoder::new(blobs.ingest(None, None, "")?, compression)?;
    Ok(Hashing { inner, hasher: Hasher::new(Algorithm::Sha256) })
}

fn end(done: Hashing<Encoder<Ingest>>) -> Result<(Digest, Digest)> {
    let diff_id = done.hasher.finish();
    let ingest = done.inner.finish().map_err(|e| Error::io("writing the layer", e))?;
    Ok((ingest.commit()?, diff_id))
}

fn packed(blobs: &Blobs, dir: &Path, compression: Compression) -> Result<(Digest, Digest)> {
    let out = begin(blobs, compression)?;
    end(pack::pack(&Stack::open(&[dir.to_owned()])?.raw(), out, &|_| false)?)
}

fn transcoded(blobs: &Blobs, from: &Descriptor, compression: Compression) -> Result<(Digest, Digest)> {
    let mut input = Decoder::detect(blobs.open(&from.digest)?)?;
    let mut out = begin(blobs, compression)?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return end(out),
            Ok(n) => out.write_all(&buffer[..n]).map_err(|e| Error::io("writing the layer", e))?,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io(format!("layer {}", from.digest), e)),
        }
    }
}
