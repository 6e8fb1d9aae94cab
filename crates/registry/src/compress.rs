//! Layers that lie uncompressed in the store (from `load` and `import`) as gzip for a push, as Docker does.
//!
//! The same layer gives the same bytes each time: one level, no time stamp, no name.

use std::io::{BufReader, Read, Write};

use fluyt_image::layer::gzip::Gzip;
use fluyt_image::oci::{self, MAX_DOCUMENT};
use fluyt_image::{Blobs, Descriptor, Digest, Outcome, Progress};
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use serde_json::Value;

/// As gzip(1) does by default: nearly the best size at a fraction of its price.
const LEVEL: u32 = 6;

/// The manifest with every uncompressed layer as gzip; `None` when nothing has to change, or it is an index.
///
/// # Errors
/// `Kind::NotFound` when a layer is not here; I/O errors.
pub(crate) fn manifest(blobs: &Blobs, digest: &Digest, progress: &dyn Progress) -> Result<Option<Digest>> {
    let bytes = blobs.read_small(digest, MAX_DOCUMENT)?;
    let bad = |e: serde_json::Error| Error::corrupt(format!("manifest {digest}")).with_source(e);
    let mut document: Value = serde_json::from_slice(&bytes).map_err(bad)?;
    let Some(layers) = document.get_mut("layers").and_then(Value::as_array_mut) else { return Ok(None) };
    let mut changed = false;
    for layer in layers {
        let descriptor: Descriptor = serde_json::from_value(layer.clone()).map_err(bad)?;
        let media_type = match descriptor.media_type.as_str() {
            oci::OCI_LAYER => oci::OCI_LAYER_GZIP,
            oci::DOCKER_LAYER => oci::DOCKER_LAYER_GZIP,
            _ => continue,
        };
        // A layer that is only in the registry can only be mounted as it is.
        if !blobs.has(&descriptor.digest) {
            continue;
        }
        let (packed, size) = gzip(blobs, &descriptor, progress)?;
        layer["mediaType"] = media_type.into();
        layer["digest"] = packed.as_str().into();
        layer["size"] = size.into();
        changed = true;
    }
    if !changed {
        return Ok(None);
    }
    blobs.put_bytes(&serde_json::to_vec(&document).map_err(bad)?).map(Some)
}

fn gzip(blobs: &Blobs, layer: &Descriptor, progress: &dyn Progress) -> Result<(Digest, u64)> {
    let item = format!("Compressing {}", layer.digest);
    progress.begin(&item, Some(layer.size));
    let result = compress(blobs, layer, &item, progress);
    progress.finish(&item, if result.is_ok() { Outcome::Done } else { Outcome::Failed });
    result
}

fn compress(blobs: &Blobs, layer: &Descriptor, item: &str, progress: &dyn Progress) -> Result<(Digest, u64)> {
    let mut input = BufReader::with_capacity(128 << 10, blobs.open(&layer.digest)?);
    let ingest = blobs.ingest(None, None, "")?;
    let mut encoder = Gzip::new(ingest, LEVEL);
    let mut buffer = vec![0; 128 << 10];
    loop {
        let n = input.read(&mut buffer).about(|| format!("blob {}", layer.digest))?;
        if n == 0 {
            break;
        }
        encoder.write_all(&buffer[..n]).map_err(|e| encoder.get_ref().write_error(e))?;
        progress.advance(item, n as u64);
    }
    let ingest = encoder.finish().about(|| format!("compressing layer {}", layer.digest))?;
    let size = ingest.offset();
    Ok((ingest.commit()?, size))
}
