//! Archives that are unpacked, by `ADD` and as contexts: tar, plain or compressed with gzip, bzip2, xz or zstd.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::Path;

use fluyt_image::Limits;
use fluyt_image::digest::Hasher;
use fluyt_image::layer::codec::{Compression, Decoder};
use fluyt_image::layer::reader::TarReader;
use fluyt_image::layer::unpack::extract_files;
use fluyt_model::Result;
use fluyt_model::error::IoContext;

use super::tree::fd_path;

/// The bytes by which a file is known.
const HEAD: u64 = 512;

/// Whether something that begins so may be an archive: a tar, or something compressed.
#[must_use]
pub fn may_be(head: &[u8]) -> bool {
    is_tar(head) || !matches!(Compression::detect(head), Err(_) | Ok(Compression::None))
}

/// Whether a file is an archive that is unpacked; it stands at its beginning afterwards.
///
/// # Errors
/// It cannot be read.
pub fn is_archive(file: &mut File) -> Result<bool> {
    let mut head = Vec::new();
    file.by_ref().take(HEAD).read_to_end(&mut head).about(|| "reading the archive")?;
    file.seek(SeekFrom::Start(0)).about(|| "reading the archive")?;
    if !may_be(&head) || is_tar(&head) {
        return Ok(is_tar(&head));
    }
    // A compressed file is an archive only if there is one inside.
    let reader = BufReader::new(file.try_clone().about(|| "reading the archive")?);
    let mut inside = Vec::new();
    let read = Decoder::detect(reader).map(|decoder| decoder.take(HEAD).read_to_end(&mut inside));
    file.seek(SeekFrom::Start(0)).about(|| "reading the archive")?;
    Ok(matches!(read, Ok(Ok(_))) && is_tar(&inside))
}

/// A header of tar: its mark, or, in old ones, the sum of its bytes.
fn is_tar(head: &[u8]) -> bool {
    let Some(head) = head.get(..512) else { return false };
    if &head[257..262] == b"ustar" {
        return true;
    }
    let written = std::str::from_utf8(&head[148..156]).unwrap_or_default();
    let Ok(written) = u32::from_str_radix(written.trim_matches(['\0', ' ']), 8) else { return false };
    let byte = |(at, byte): (usize, &u8)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) };
    head.iter().enumerate().map(byte).sum::<u32>() == written && head[0] != 0
}

/// Unpacks an archive below an open directory.
///
/// # Errors
/// It is damaged, or would write outside.
pub fn unpack(file: impl Read + Send, dir: &OwnedFd) -> Result<()> {
    extract_files(file, Path::new(&fd_path(dir)), Limits::default()).map(drop)
}

/// A file that is hashed while it is read.
pub struct Hashing {
    /// The file.
    pub file: File,
    /// What has been read.
    pub hasher: Hasher,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

/// The paths of an archive's members.
///
/// # Errors
/// It is damaged.
pub fn members(mut file: File) -> Result<Vec<String>> {
    file.seek(SeekFrom::Start(0)).about(|| "reading the archive")?;
    let mut reader = TarReader::new(BufReader::new(Decoder::detect(BufReader::new(file))?));
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        found.push(String::from_utf8_lossy(&entry.path).into_owned());
    }
    Ok(found)
}
