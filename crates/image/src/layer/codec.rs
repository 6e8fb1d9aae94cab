//! Takes the compression off a stream, recognised by its first bytes, on a thread of its own.
//!
//! [`Decoder`] inflates; [`Pipeline`] runs it ahead of its reader, so that inflating and hashing overlap with
//! writing files. gzip, zstd, bzip2 and xz are read, each with any number of members; lz4 is recognised and refused.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use fluyt_model::{Error, Result};

use super::Limits;
use crate::digest::{Algorithm, Digest, Hasher};

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// bzip2: read only, and never in a layer.
    Bzip2,
    /// xz: read only, and never in a layer.
    Xz,
}

impl Compression {
    /// Recognises a compression by the first bytes of a stream (six suffice).
    ///
    /// # Errors
    /// `Kind::Unsupported` for one that is known but not read.
    pub fn detect(start: &[u8]) -> Result<Self> {
        if start.starts_with(b"\x1f\x8b") {
            return Ok(Self::Gzip);
        }
        if start.starts_with(b"\x28\xb5\x2f\xfd") {
            return Ok(Self::Zstd);
        }
        // A skippable frame may come first: 0x184D2A50 to 0x184D2A5F, little endian.
        if start.len() >= 4 && start[0] & 0xf0 == 0x50 && start[1..4] == [0x2a, 0x4d, 0x18] {
            return Ok(Self::Zstd);
        }
        if start.starts_with(b"BZh") && start.get(3).is_none_or(|level| (b'1'..=b'9').contains(level)) {
            return Ok(Self::Bzip2);
        }
        if start.starts_with(b"\xfd7zXZ\0") {
            return Ok(Self::Xz);
        }
        if start.starts_with(b"\x04\x22\x4d\x18") {
            return Err(Error::unsupported("unsupported compression: lz4")
                .with_hint("gzip, zstd, bzip2 and xz are read; compress the data anew with one of them"));
        }
        Ok(Self::None)
    }

    /// Whether a layer may be compressed so (layer.md knows gzip and zstd only).
    #[must_use]
    pub fn fits_layers(self) -> bool {
        !matches!(self, Self::Bzip2 | Self::Xz)
    }
}

/// A reader of a stream without its compression.
pub enum Decoder<R: BufRead> {
    /// The stream as it is.
    Plain(R),
    /// gzip.
    Gzip(Box<flate2::bufread::MultiGzDecoder<R>>),
    /// Zstandard.
    Zstd(Box<zstd::stream::read::Decoder<'static, R>>),
    /// bzip2.
    Bzip2(Box<bzip2::bufread::MultiBzDecoder<R>>),
    /// xz.
    Xz(Box<lzma_rust2::XzReader<R>>),
}

/// The largest window that a zstd frame may ask for, as a power of two (128 MiB).
const ZSTD_WINDOW_LOG: u32 = 27;
/// The most memory that an xz block may ask for, in KiB; `xz -9` needs 64 MiB.
const XZ_MEMORY_KIB: u32 = 256 << 10;

impl<R: Read> Decoder<BufReader<R>> {
    /// Recognises the compression of `input` and takes it off.
    ///
    /// # Errors
    /// `Kind::Unsupported`; the errors of the stream.
    pub fn detect(input: R) -> Result<Self> {
        let (buffered, compression) = peek(input)?;
        Self::new(buffered, compression)
    }
}

/// Looks at the first bytes of a stream.
///
/// # Errors
/// As [`Compression::detect`]; the errors of the stream.
pub fn peek<R: Read>(input: R) -> Result<(BufReader<R>, Compression)> {
    let mut buffered = BufReader::with_capacity(128 * 1024, input);
    // A pipe may deliver its first bytes one by one, so ask for them through a short-lived exact read.
    let start = loop {
        match buffered.fill_buf() {
            Ok(start) => break start,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io("reading the stream", e)),
        }
    };
    let compression = Compression::detect(start)?;
    Ok((buffered, compression))
}

impl<R: BufRead> Decoder<R> {
    /// Takes `compression` off `input`.
    ///
    /// # Errors
    /// When the decoder cannot be set up.
    pub fn new(input: R, compression: Compression) -> Result<Self> {
        Ok(match compression {
            Compression::None => Self::Plain(input),
            Compression::Gzip => Self::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)
                    .map_err(|e| Error::internal("setting up the zstd decoder").with_source(e))?;
                decoder
                    .window_log_max(ZSTD_WINDOW_LOG)
                    .map_err(|e| Error::internal("setting up the zstd decoder").with_source(e))?;
                Self::Zstd(Box::new(decoder))
            }
            Compression::Bzip2 => Self::Bzip2(Box::new(bzip2::bufread::MultiBzDecoder::new(input))),
            Compression::Xz => {
                Self::Xz(Box::new(lzma_rust2::XzReader::new_mem_limit(input, true, XZ_MEMORY_KIB)))
            }
        })
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(r) => r.read(buffer),
            Self::Gzip(r) => r.read(buffer).map_err(damaged),
            Self::Zstd(r) => r.read(buffer).map_err(damaged),
            Self::Bzip2(r) => r.read(buffer).map_err(damaged),
            Self::Xz(r) => r.read(buffer).map_err(damaged),
        }
    }
}

/// Some report damage as `Other`.
fn damaged(e: io::Error) -> io::Error {
    match e.kind() {
        io::ErrorKind::Other => io::Error::new(io::ErrorKind::InvalidData, e),
        _ => e,
    }
}

/// Counts what is read, also for other threads.
pub struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R> Counted<R> {
    /// Counts into `count`.
    pub fn new(inner: R, count: Arc<AtomicU64>) -> Self {
        Self { inner, count }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.count.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Bytes in one buffer of the pipeline.
const CHUNK: usize = 256 * 1024;
/// Buffers in flight.
const DEPTH: usize = 8;

type Message = io::Result<Vec<u8>>;

/// The reading end of a decoder that runs on another thread; hashes what comes out there too.
pub struct Pipeline {
    full: Receiver<Message>,
    empty: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    ended: bool,
}

/// What the decoding thread found out: the digest of the uncompressed stream.
pub type DecodeThread<'scope> = std::thread::ScopedJoinHandle<'scope, Digest>;

impl Pipeline {
    /// Starts decoding `input` on a thread of `scope`, within `limits`. `read` counts the compressed bytes taken.
    ///
    /// # Errors
    /// `Kind::Unsupported` for an unknown compression; the errors of the stream.
    pub fn start<'scope, R: Read + Send + 'scope>(
        scope: &'scope std::thread::Scope<'scope, '_>,
        input: R,
        read: Arc<AtomicU64>,
        algorithm: Algorithm,
        limits: Limits,
    ) -> Result<(Self, DecodeThread<'scope>)> {
        let mut decoder = Decoder::detect(Counted::new(input, Arc::clone(&read)))?;
        let (full_tx, full) = sync_channel::<Message>(DEPTH);
        let (empty, empty_rx) = sync_channel::<Vec<u8>>(DEPTH + 1);
        let thread = scope.spawn(move || {
            let mut hasher = Hasher::new(algorithm);
            let mut total = 0_u64;
            loop {
                let mut buffer = empty_rx.try_recv().unwrap_or_default();
                let result = fill_buffer(&mut decoder, &mut buffer);
                hasher.update(&buffer);
                total += buffer.len() as u64;
                let bomb = over_limit(total, read.load(Ordering::Relaxed), &limits);
                let ended = buffer.is_empty();
                if (!ended && full_tx.send(Ok(buffer)).is_err()) || ended && result.is_ok() {
                    break;
                }
                if let Err(e) = result.and(bomb) {
                    let _ = full_tx.send(Err(e));
                    break;
                }
            }
            hasher.finish()
        });
        Ok((Self { full, empty, current: Vec::new(), at: 0, ended: false }, thread))
    }
}

fn fill_buffer(decoder: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.resize(CHUNK, 0);
    let mut have = 0;
    let result = loop {
        if have == CHUNK {
            break Ok(());
        }
        match decoder.read(&mut buffer[have..]) {
            Ok(0) => break Ok(()),
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => break Err(e),
        }
    };
    buffer.truncate(have);
    result
}

fn over_limit(total: u64, read: u64, limits: &Limits) -> io::Result<()> {
    let refuse = |why: String| {
        let error = Error::new(fluyt_model::Kind::Exhausted, why).with_hint(
            "the archive looks made to fill the disk; if it is genuine, repack it in smaller layers",
        );
        Err(io::Error::other(error))
    };
    if total > limits.total {
        return refuse(format!("the uncompressed archive is larger than {} bytes", limits.total));
    }
    if total > Limits::RATIO_FROM && total / limits.ratio > read {
        return refuse(format!("the archive is compressed more than {} times", limits.ratio));
    }
    Ok(())
}

impl BufRead for Pipeline {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.len() && !self.ended {
            let used = std::mem::take(&mut self.current);
            if used.capacity() > 0 {
                let _ = self.empty.try_send(used);
            }
            self.at = 0;
            match self.full.recv() {
                Ok(Ok(buffer)) => self.current = buffer,
                Ok(Err(e)) => {
                    self.ended = true;
                    return Err(e);
                }
                Err(_) => self.ended = true,
            }
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

impl Read for Pipeline {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let have = self.fill_buf()?;
        let n = have.len().min(buffer.len());
        buffer[..n].copy_from_slice(&have[..n]);
        self.consume(n);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read_all(bytes: &[u8], limits: Limits) -> Result<(Vec<u8>, Digest)> {
        std::thread::scope(|scope| {
            let (mut pipe, thread) =
                Pipeline::start(scope, bytes, Arc::default(), Algorithm::Sha256, limits)?;
            let mut out = Vec::new();
            pipe.read_to_end(&mut out).map_err(|e| Error::io("x", e))?;
            drop(pipe);
            Ok((out, thread.join().unwrap()))
        })
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_compression_comes_off() {
        let plain: Vec<u8> = (0..3_000_000_u32).flat_map(|n| n.to_le_bytes()).collect();
        let (first, second) = plain.split_at(1_000_001);
        let zstd = |b: &[u8]| zstd::stream::encode_all(b, 1).unwrap();
        for packed in [
            plain.clone(),
            gzip(&plain),
            [gzip(first), gzip(second)].concat(),
            zstd(&plain),
            [zstd(first), zstd(second)].concat(),
        ] {
            let (out, digest) = read_all(&packed, Limits::default()).unwrap();
            assert!(out == plain);
            assert_eq!(digest, Digest::of(&plain));
        }
        assert!(read_all(b"", Limits::default()).unwrap().0.is_empty());
    }

    #[test]
    fn damage_and_foreign_formats_are_refused() {
        let packed = gzip(&[7; 100_000]);
        assert!(read_all(&packed[..packed.len() - 9], Limits::default()).is_err());
        assert!(read_all(&[&packed[..], b"garbage"].concat(), Limits::default()).is_err());
        for broken in [&b"BZh91AY"[..], b"\xfd7zXZ\0\0"] {
            assert!(read_all(broken, Limits::default()).is_err());
        }
        let e = read_all(b"\x04\x22\x4d\x18xx", Limits::default()).unwrap_err();
        assert!(e.to_string().contains("lz4"));
    }

    #[test]
    fn bzip2_and_xz_come_off() {
        // `printf 'hello\n' | bzip2` and `| xz`, as those programs write it.
        const BZIP2: &[u8] = &[
            0x42, 0x5a, 0x68, 0x39, 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, 0xc1, 0xc0, 0x80, 0xe2, 0x00, 0x00,
            0x01, 0x41, 0x00, 0x00, 0x10, 0x02, 0x44, 0xa0, 0x00, 0x30, 0xcd, 0x00, 0xc3, 0x46, 0x29, 0x97,
            0x17, 0x72, 0x45, 0x38, 0x50, 0x90, 0xc1, 0xc0, 0x80, 0xe2,
        ];
        const XZ: &[u8] = &[
            0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00, 0x21, 0x01,
            0x16, 0x00, 0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00, 0x05, 0x68, 0x65, 0x6c, 0x6c, 0x6f,
            0x0a, 0x00, 0x00, 0x00, 0xa5, 0x60, 0x97, 0xf1, 0x94, 0xf6, 0xfd, 0xe0, 0x00, 0x01, 0x1e, 0x06,
            0xc1, 0x2f, 0xa4, 0x1d, 0x1f, 0xb6, 0xf3, 0x7d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x04, 0x59, 0x5a,
        ];
        for packed in [BZIP2, XZ] {
            assert_eq!(read_all(packed, Limits::default()).unwrap().0, b"hello\n");
            let twice = [packed, packed].concat();
            assert_eq!(read_all(&twice, Limits::default()).unwrap().0, b"hello\nhello\n");
            for end in 1..packed.len() {
                assert!(
                    read_all(&packed[..end], Limits::default()).map_or(true, |(out, _)| out != b"hello\n")
                );
            }
        }
    }

    #[test]
    fn limits_stop_bombs() {
        let limits = Limits { total: 1 << 20, ..Limits::default() };
        assert!(read_all(&gzip(&vec![0; 4 << 20]), limits).unwrap_err().chain().contains("larger than"));
        assert!(over_limit(Limits::RATIO_FROM + 1, 1000, &Limits::default()).is_err());
        assert!(over_limit(Limits::RATIO_FROM - 1, 1000, &Limits::default()).is_ok());
    }
}
