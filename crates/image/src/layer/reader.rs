//! Reads a tar archive entry by entry from a stream: ustar, GNU and pax, with long names and all sparse formats.
//!
//! Nothing is trusted and nothing is written: names are as the archive has them. Data is handed out in the
//! stream's own buffers, without a copy.

use std::io::{self, BufRead, Read};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};

use super::header::{BLOCK, Header, Pax, check_pieces, sparse_pieces};

/// The extended headers and GNU long names of one entry, in bytes all together.
const MAX_EXTENDED: u64 = 4 << 20;

/// The kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A hard link to `link`.
    HardLink,
    /// A symbolic link to `link`.
    Symlink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// What an archive says about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name as it stands in the archive.
    pub path: Vec<u8>,
    /// The target of links.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with set-id and sticky bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The time of modification: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// The apparent size of a file.
    pub size: u64,
    /// The numbers of a device.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// For a sparse file: where its data belongs, as offset and length.
    pub sparse: Option<Vec<(u64, u64)>>,
}

/// A reader of entries.
pub struct TarReader<R> {
    input: R,
    /// Data of the current entry not yet taken.
    remaining: u64,
    /// Padding after it.
    padding: u64,
    ended: bool,
}

impl<R: BufRead> TarReader<R> {
    /// Reads an archive from `input`.
    pub fn new(input: R) -> Self {
        Self { input, remaining: 0, padding: 0, ended: false }
    }

    /// The next entry; what was not taken of the one before is skipped. `None` at the end of the archive.
    ///
    /// # Errors
    /// `Kind::Corrupt` for a malformed or truncated archive; the errors of the stream.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        let mut pax = Pax::default();
        let (mut long_path, mut long_link) = (None, None);
        let mut extended = false;
        let mut room = MAX_EXTENDED;
        loop {
            self.skip_data()?;
            let Some(block) = self.read_block()? else {
                if extended {
                    return Err(Error::corrupt("the archive ends after an extended header"));
                }
                return Ok(None);
            };
            let header = Header(&block);
            header.verify()?;
            let size = header.size()?;
            match header.kind() {
                b'x' | b'X' => pax.parse(&self.read_extended(size, &mut room)?)?,
                // Global records describe the archive (git's commit id), not files.
                b'g' => self.set_data(size)?,
                b'L' => long_path = Some(trim_nul(self.read_extended(size, &mut room)?)),
                b'K' => long_link = Some(trim_nul(self.read_extended(size, &mut room)?)),
                _ => return self.entry(&header, pax, long_path, long_link).map(Some),
            }
            extended = header.kind() != b'g';
        }
    }

    /// The next piece of the current entry's data, empty at its end. Take it with [`TarReader::consume`].
    ///
    /// # Errors
    /// `Kind::Corrupt` when the archive ends too early; the errors of the stream.
    pub fn chunk(&mut self) -> Result<&[u8]> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let remaining = self.remaining;
        let chunk = fill(&mut self.input)?;
        if chunk.is_empty() {
            return Err(truncated());
        }
        let n = usize::try_from(remaining).unwrap_or(usize::MAX).min(chunk.len());
        Ok(&chunk[..n])
    }

    /// Takes `n` bytes of what [`TarReader::chunk`] showed.
    pub fn consume(&mut self, n: usize) {
        self.input.consume(n);
        self.remaining -= n as u64;
    }

    /// Reads the data of the current entry as a stream.
    pub fn data(&mut self) -> Data<'_, R> {
        Data(self)
    }

    /// Reads what follows the archive's end, which must be zeros.
    ///
    /// # Errors
    /// `Kind::Corrupt` when something else follows.
    pub fn finish(&mut self) -> Result<()> {
        self.skip_data()?;
        loop {
            let chunk = fill(&mut self.input)?;
            if chunk.is_empty() {
                return Ok(());
            }
            if chunk.iter().any(|b| *b != 0) {
                return Err(Error::corrupt("data follows the end of the archive"));
            }
            let n = chunk.len();
            self.input.consume(n);
        }
    }

    fn set_data(&mut self, size: u64) -> Result<()> {
        self.remaining = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        if size > i64::MAX as u64 { Err(Error::corrupt("an entry has an impossible length")) } else { Ok(()) }
    }

    fn skip_data(&mut self) -> Result<()> {
        let mut left = self.remaining + std::mem::take(&mut self.padding);
        self.remaining = 0;
        while left > 0 {
            let chunk = fill(&mut self.input)?;
            if chunk.is_empty() {
                return Err(truncated());
            }
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
            self.input.consume(n);
            left -= n as u64;
        }
        Ok(())
    }

    /// The next block that is no end mark; `None` at the end, marked or not.
    fn read_block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        if self.ended {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            let chunk = fill(&mut self.input)?;
            if chunk.is_empty() {
                self.ended = true;
                return if have == 0 { Ok(None) } else { Err(truncated()) };
            }
            let n = chunk.len().min(BLOCK - have);
            block[have..have + n].copy_from_slice(&chunk[..n]);
            self.input.consume(n);
            have += n;
        }
        if Header(&block).is_zero() {
            self.ended = true;
            return Ok(None);
        }
        Ok(Some(block))
    }

    /// The content of an extended header; `room` is how long it and those after it may be.
    fn read_extended(&mut self, size: u64, room: &mut u64) -> Result<Vec<u8>> {
        *room = room.checked_sub(size).ok_or_else(|| {
            Error::corrupt(format!("the extended headers of an entry have more than {MAX_EXTENDED} bytes"))
        })?;
        self.set_data(size)?;
        let mut bytes = Vec::new();
        while self.remaining > 0 {
            let chunk = self.chunk()?;
            bytes.extend_from_slice(chunk);
            let n = chunk.len();
            self.consume(n);
        }
        Ok(bytes)
    }

    fn entry(
        &mut self,
        header: &Header<'_>,
        mut pax: Pax,
        long_path: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry> {
        let path = pax.sparse_name.take().or(pax.path.take()).or(long_path).unwrap_or_else(|| header.path());
        let link = pax.link.take().or(long_link).unwrap_or_else(|| header.link());
        let kind = match header.kind() {
            0 | b'0' | b'7' if path.ends_with(b"/") => EntryKind::Directory,
            0 | b'0' | b'7' | b'S' => EntryKind::File,
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::Symlink,
            b'3' => EntryKind::Char,
            b'4' => EntryKind::Block,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            other => {
                let name = String::from_utf8_lossy(&path).into_owned();
                return Err(Error::unsupported(format!(
                    "entry {name:?} has the unknown type {:?}",
                    other as char
                )));
            }
        };
        let stored = pax.size.map_or_else(|| header.size(), Ok)?;
        let is_device = matches!(kind, EntryKind::Char | EntryKind::Block);
        let mut entry = Entry {
            kind,
            mode: header.mode()?,
            uid: pax.uid.map_or_else(|| header.uid(), Ok)?,
            gid: pax.gid.map_or_else(|| header.gid(), Ok)?,
            mtime: match pax.mtime {
                Some(time) => time,
                None => (header.mtime()?, 0),
            },
            size: stored,
            device: if is_device { header.device()? } else { (0, 0) },
            xattrs: Vec::new(),
            sparse: None,
            path,
            link,
        };
        // Only files have data; a length on a link is that of its target in some old archives.
        let has_data = matches!(kind, EntryKind::File);
        self.set_data(if has_data { stored } else { 0 })?;
        if has_data {
            self.read_sparse_map(header, &mut pax, &mut entry)?;
        } else {
            entry.size = 0;
        }
        entry.xattrs = pax.xattrs.into_iter().collect();
        Ok(entry)
    }

    fn read_sparse_map(&mut self, header: &Header<'_>, pax: &mut Pax, entry: &mut Entry) -> Result<()> {
        let (map, real) = if header.kind() == b'S' {
            let (mut pieces, mut more, real) = header.old_sparse()?;
            while more {
                let block = self.read_raw_block()?;
                pieces.extend(sparse_pieces(&block[..504])?);
                more = block[504] != 0;
                check_pieces(pieces.len())?;
            }
            (pieces, pax.sparse_size.unwrap_or(real))
        } else if pax.sparse_in_data {
            let real = pax.sparse_size.ok_or_else(|| Error::corrupt("a sparse file has no real size"))?;
            (self.read_inline_map()?, real)
        } else if let (Some(map), Some(real)) = (pax.sparse_map.take(), pax.sparse_size) {
            (map, real)
        } else {
            return Ok(());
        };
        check_pieces(map.len())?;
        let mut end = 0_u64;
        let mut sum = 0_u64;
        for (offset, length) in &map {
            let stop = offset.checked_add(*length).filter(|stop| *offset >= end && *stop <= real);
            end = stop.ok_or_else(|| Error::corrupt("a sparse file has an impossible map"))?;
            sum += length;
        }
        if sum != self.remaining {
            return Err(Error::corrupt("a sparse file's map does not fit its data"));
        }
        entry.size = real;
        entry.sparse = Some(map);
        Ok(())
    }

    /// A block between an old sparse header and its data, which the header's size does not count.
    fn read_raw_block(&mut self) -> Result<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        self.input.read_exact(&mut block).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => truncated(),
            _ => Error::io("reading the archive", e),
        })?;
        Ok(block)
    }

    /// The map of pax format 1.0: decimal lines at the start of the data, padded to a block.
    fn read_inline_map(&mut self) -> Result<Vec<(u64, u64)>> {
        let mut taken = 0_u64;
        let mut line = |reader: &mut Self| -> Result<u64> {
            let mut value = 0_u64;
            for digits in 0..=20 {
                let byte =
                    *reader.chunk()?.first().ok_or_else(|| Error::corrupt("a sparse file has no map"))?;
                reader.consume(1);
                taken += 1;
                match byte {
                    b'\n' if digits > 0 => return Ok(value),
                    b'0'..=b'9' if value <= u64::MAX / 20 => value = value * 10 + u64::from(byte - b'0'),
                    _ => break,
                }
            }
            Err(Error::corrupt("a sparse file has a malformed map"))
        };
        let count = usize::try_from(line(self)?).unwrap_or(usize::MAX);
        check_pieces(count)?;
        let mut map = Vec::new();
        for _ in 0..count {
            map.push((line(self)?, line(self)?));
        }
        let mut pad = (BLOCK as u64 - taken % BLOCK as u64) % BLOCK as u64;
        while pad > 0 {
            let n = self.chunk()?.len().min(usize::try_from(pad).expect("below a block"));
            if n == 0 {
                return Err(truncated());
            }
            self.consume(n);
            pad -= n as u64;
        }
        Ok(map)
    }
}

/// The data of an entry as a stream.
pub struct Data<'a, R>(&'a mut TarReader<R>);

impl<R: BufRead> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let chunk = self.0.chunk().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.chain()))?;
        let n = chunk.len().min(buffer.len());
        buffer[..n].copy_from_slice(&chunk[..n]);
        self.0.consume(n);
        Ok(n)
    }
}

fn fill<R: BufRead>(input: &mut R) -> Result<&[u8]> {
    // The borrow of a successful fill cannot be returned from inside a loop, so look first, then borrow again.
    loop {
        match input.fill_buf() {
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(stream_error(e)),
        }
    }
    input.fill_buf().about(|| "reading the archive")
}

/// An error of the stream below: damage is `Kind::Corrupt`, the rest I/O.
fn stream_error(e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
            Error::corrupt("the compressed data is damaged or truncated").with_source(e)
        }
        _ => match e.downcast::<Error>() {
            Ok(error) => error,
            Err(e) => Error::io("reading the archive", e),
        },
    }
}

fn truncated() -> Error {
    Error::corrupt("the archive is truncated")
}

fn trim_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = memchr::memchr(0, &bytes) {
        bytes.truncate(end);
    }
    bytes
}
