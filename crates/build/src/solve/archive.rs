//! Local archives that `ADD` unpacks: tar, plain or compressed with gzip, bzip2, xz or zstd.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::Path;

use fluyt_image::Limits;
use fluyt_image::layer::codec::{Compression, Decoder};
use fluyt_image::layer::unpack::extract_archive;
use fluyt_model::Result;
use fluyt_model::error::IoContext;

use super::tree::fd_path;

/// Whether a file is an archive that is unpacked; it stands at its beginning afterwards.
///
/// # Errors
/// It cannot be read.
pub fn is_archive(file: &mut File) -> Result<bool> {
    let mut head = Vec::new();
    file.by_ref().take(512).read_to_end(&mut head).about(|| "reading the archive")?;
    file.seek(SeekFrom::Start(0)).about(|| "reading the archive")?;
    if matches!(Compression::detect(&head), Err(_) | Ok(Compression::None)) {
        return Ok(is_tar(&head));
    }
    // A compressed file is an archive only if there is one inside.
    let reader = std::io::BufReader::new(file.try_clone().about(|| "reading the archive")?);
    let mut inside = Vec::new();
    let read = Decoder::detect(reader).map(|decoder| decoder.take(512).read_to_end(&mut inside));
    file.seek(SeekFrom::Start(0)).about(|| "reading the archive")?;
    Ok(matches!(read, Ok(Ok(_))) && is_tar(&inside))
}

fn is_tar(head: &[u8]) -> bool {
    head.len() >= 512 && &head[257..262] == b"ustar"
}

/// Unpacks an archive below an open directory.
///
/// # Errors
/// It is damaged, or would write outside.
pub fn unpack(file: File, dir: &OwnedFd) -> Result<()> {
    extract_archive(file, Path::new(&fd_path(dir)), Limits::default()).map(drop)
}
