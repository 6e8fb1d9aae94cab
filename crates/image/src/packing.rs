//! Archives of layers as somebody wants them: another compression than the usual one, or another level of it.

use std::path::Path;

use fluyt_model::{Error, Result};

use crate::archive::commit::{pack_with, repack};
use crate::archive::save::Encoder;
use crate::blobs::{Blobs, Ingest};
use crate::digest::Digest;
use crate::layer::codec::{Compression, Decoder};
use crate::layer::gzip::Gzip;
use crate::layer::unpack::LayerRef;
use crate::lease::Lease;
use crate::oci::{Descriptor, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD};
use crate::store::Store;

/// How the archives of layers are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// The compression of layers that are made.
    pub compression: Compression,
    /// gzip: 0 to 9, Zstandard: 1 to 22; `None`: the usual one.
    pub level: Option<u32>,
    /// Layers that came with an archive get this one too.
    pub force: bool,
}

impl Default for Packing {
    fn default() -> Self {
        Self { compression: Compression::Gzip, level: None, force: false }
    }
}

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

impl Packing {
    fn fits(self, blob: &Descriptor) -> bool {
        let (gzip, zstd) = (blob.media_type.ends_with("gzip"), blob.media_type.ends_with("zstd"));
        match self.compression {
            Compression::Gzip => gzip,
            Compression::Zstd => zstd,
            _ => !gzip && !zstd,
        }
    }
}

impl Store {
    /// The archives of layers as `packing` says. Those for which `foreign` holds, which came with an archive of their
    /// own, keep it unless `packing` forces them. What is made here is not remembered as the archive of its layer, so that
    /// images keep theirs.
    ///
    /// # Errors
    /// As [`Store::compressed_layers`]; `Kind::Corrupt` when a layer's directory or archive has been changed.
    pub fn packed_layers(
        &self,
        lease: &Lease,
        layers: &[LayerRef],
        packing: Packing,
        foreign: &dyn Fn(&LayerRef) -> bool,
    ) -> Result<Vec<Descriptor>> {
        if packing == Packing::default() {
            return self.compressed_layers(lease, layers);
        }
        let mut found: Vec<Option<Descriptor>> = Vec::with_capacity(layers.len());
        let mut sources: Vec<Option<Digest>> = Vec::with_capacity(layers.len());
        for layer in layers {
            let known = self.known_blob(lease, &layer.diff_id)?;
            let kept = foreign(layer) && !packing.force;
            // What somebody else wrote can only be had from what they wrote.
            sources.push(known.as_ref().filter(|_| foreign(layer)).map(|blob| blob.digest.clone()));
            // At which level a blob was made is not known.
            found.push(known.filter(|blob| kept || packing.level.is_none() && packing.fits(blob)));
        }
        let missing: Vec<usize> = (0..layers.len()).filter(|at| found[*at].is_none()).collect();
        let (blobs, root) = (lease.blobs(), self.root());
        let made = crate::cache::at_once(missing.len(), &|at| {
            let layer = &layers[missing[at]];
            make(&blobs, layer, root, sources[missing[at]].as_ref(), packing)
        });
        for (at, blob) in missing.into_iter().zip(made) {
            found[at] = Some(blob?);
        }
        found.into_iter().map(|d| d.ok_or_else(|| Error::internal("a layer without a blob"))).collect()
    }
}

/// Writes the archive of `layer` as `packing` says: from the archive `source`, or from its directory.
fn make(
    blobs: &Blobs,
    layer: &LayerRef,
    root: &Path,
    source: Option<&Digest>,
    packing: Packing,
) -> Result<Descriptor> {
    let encoder = encoder(blobs.ingest(None, None, "")?, packing)?;
    let (blob, found) = match source {
        Some(source) => repack(encoder, Decoder::detect(blobs.open(source)?)?, source)?,
        None => pack_with(encoder, &layer.path(root))?,
    };
    if found != layer.diff_id {
        let what = if source.is_some() { "archive" } else { "directory" };
        return Err(Error::corrupt(format!("layer {}: its {what} has been changed", layer.diff_id))
            .with_hint("run `fluyt builder prune`, then build again"));
    }
    let size = blobs.size(&blob)?;
    Ok(Descriptor::new(packing.compression.layer_type(), blob, size))
}

fn encoder(ingest: Ingest, packing: Packing) -> Result<Encoder<Ingest>> {
    Ok(match (packing.compression, packing.level) {
        (Compression::Gzip, Some(level)) => Encoder::Gzip(Box::new(Gzip::new(ingest, level.min(9)))),
        (Compression::Zstd, Some(level)) => {
            let level = i32::try_from(level.clamp(1, 22)).unwrap_or(22);
            let encoder = zstd::stream::write::Encoder::new(ingest, level);
            let encoder =
                encoder.map_err(|e| Error::internal("setting up the zstd encoder").with_source(e))?;
            Encoder::Zstd(Box::new(encoder))
        }
        (compression, _) => Encoder::new(ingest, compression)?,
    })
}
