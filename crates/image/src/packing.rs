//! Archives of layers as somebody wants them: another compression than the usual one, or another level of it.

use std::path::Path;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};

use crate::archive::commit::pack_with;
use crate::archive::save::Encoder;
use crate::blobs::{Blobs, Ingest};
use crate::digest::Digest;
use crate::layer::codec::{Compression, Decoder};
use crate::layer::gzip::Gzip;
use crate::layer::unpack::LayerRef;
use crate::lease::Lease;
use crate::oci::Descriptor;
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
    /// own, keep it unless `packing` forces them.
    ///
    /// # Errors
    /// As [`Store::compressed_layers`].
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
            match &sources[missing[at]] {
                Some(source) => again(&blobs, source, packing),
                None => make(&blobs, &layer.path(root), &layer.diff_id, packing),
            }
        });
        for (at, blob) in missing.into_iter().zip(made) {
            found[at] = Some(blob?);
        }
        found.into_iter().map(|d| d.ok_or_else(|| Error::internal("a layer without a blob"))).collect()
    }
}

/// Writes an archive that is here with another compression.
fn again(blobs: &Blobs, source: &Digest, packing: Packing) -> Result<Descriptor> {
    let mut input = Decoder::detect(blobs.open(source)?)?;
    let mut output = encoder(blobs.ingest(None, None, "")?, packing)?;
    std::io::copy(&mut input, &mut output).about(|| format!("packing {source} anew"))?;
    let ingest = output.finish().about(|| "writing the layer")?;
    described(blobs, ingest.commit()?, packing)
}

fn make(blobs: &Blobs, dir: &Path, diff_id: &Digest, packing: Packing) -> Result<Descriptor> {
    let (blob, found) = pack_with(encoder(blobs.ingest(None, None, "")?, packing)?, dir)?;
    if found != *diff_id {
        return Err(Error::corrupt(format!("layer {diff_id}: its directory has been changed"))
            .with_hint("run `fluyt builder prune`, then build again"));
    }
    described(blobs, blob, packing)
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

fn described(blobs: &Blobs, blob: Digest, packing: Packing) -> Result<Descriptor> {
    let size = blobs.size(&blob)?;
    Ok(Descriptor::new(packing.compression.layer_type(), blob, size))
}
