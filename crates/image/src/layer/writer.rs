//! Writes tar archives that depend only on what is in them: ustar headers, pax records only where ustar cannot say
//! it, times in whole seconds, no names of users, holes kept where they are most of a file (GNU sparse 1.0).

use std::io::{self, Read, Write};

use super::header::BLOCK;
use super::reader::{Entry, EntryKind};

/// What can be said in the eight octal digits of an id.
const MAX_ID: u32 = 0o777_7777;
/// What can be said in the twelve octal digits of a size.
const MAX_SIZE: u64 = 0o777_7777_7777;

/// A writer of entries.
pub struct TarWriter<W> {
    output: W,
    buffer: Vec<u8>,
}

/// Bytes read from a file at once.
const COPY: usize = 256 << 10;

impl<W: Write> TarWriter<W> {
    /// Writes to `output`.
    pub fn new(output: W) -> Self {
        Self { output, buffer: Vec::new() }
    }

    /// Writes one entry. For a file `data` must yield exactly `entry.size` bytes, or, with a sparse map, the bytes
    /// of its pieces one after another.
    ///
    /// # Errors
    /// Those of the output and of `data`; `UnexpectedEof` when `data` is too short.
    pub fn append(&mut self, entry: &Entry, data: &mut dyn Read) -> io::Result<()> {
        let map = entry.sparse.as_deref().map(sparse_map);
        let pieces: u64 = entry.sparse.iter().flatten().map(|(_, length)| length).sum();
        let stored = match (&map, entry.kind) {
            (Some(map), _) => map.len() as u64 + pieces,
            (None, EntryKind::File) => entry.size,
            _ => 0,
        };
        let pax = pax_records(entry, stored, map.is_some());
        if !pax.is_empty() {
            let mut header = [0; BLOCK];
            let name = entry.path.rsplit(|b| *b == b'/').find(|p| !p.is_empty()).unwrap_or(b"x");
            let name = [b"PaxHeaders.0/", &name[..name.len().min(80)]].concat();
            header[..name.len()].copy_from_slice(&name);
            octal(&mut header[100..108], 0o644);
            octal(&mut header[108..116], 0);
            octal(&mut header[116..124], 0);
            octal(&mut header[124..136], pax.len() as u64);
            octal(&mut header[136..148], 0);
            self.block(header, b'x')?;
            self.padded(&pax)?;
        }
        self.block(main_header(entry, stored), type_flag(entry.kind))?;
        if let Some(map) = &map {
            self.output.write_all(map)?;
        }
        self.copy(data, stored - map.map_or(0, |m| m.len() as u64))?;
        self.pad(stored)
    }

    /// Writes a file from memory.
    ///
    /// # Errors
    /// Those of the output.
    pub fn append_bytes(&mut self, path: &str, bytes: &[u8], mtime: i64) -> io::Result<()> {
        self.append_stream(path, bytes.len() as u64, &mut &*bytes, mtime)
    }

    /// Writes a plain file of `size` bytes.
    ///
    /// # Errors
    /// As [`TarWriter::append`].
    pub fn append_stream(
        &mut self,
        path: &str,
        size: u64,
        data: &mut dyn Read,
        mtime: i64,
    ) -> io::Result<()> {
        let entry = Entry { size, mtime: (mtime, 0), ..plain(path.as_bytes(), EntryKind::File, 0o644) };
        self.append(&entry, data)
    }

    /// Writes a directory owned by root.
    ///
    /// # Errors
    /// Those of the output.
    pub fn append_directory(&mut self, path: &str, mtime: i64) -> io::Result<()> {
        let entry = Entry { mtime: (mtime, 0), ..plain(path.as_bytes(), EntryKind::Directory, 0o755) };
        self.append(&entry, &mut io::empty())
    }

    /// Writes the end mark and returns the output.
    ///
    /// # Errors
    /// Those of the output.
    pub fn finish(mut self) -> io::Result<W> {
        self.output.write_all(&[0; 2 * BLOCK])?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn block(&mut self, mut header: [u8; BLOCK], kind: u8) -> io::Result<()> {
        header[156] = kind;
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].fill(b' ');
        let sum: u64 = header.iter().map(|b| u64::from(*b)).sum();
        octal(&mut header[148..155], sum);
        self.output.write_all(&header)
    }

    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes)?;
        self.pad(bytes.len() as u64)
    }

    fn pad(&mut self, written: u64) -> io::Result<()> {
        let over = usize::try_from(written % BLOCK as u64).expect("below a block");
        if over == 0 { Ok(()) } else { self.output.write_all(&[0; BLOCK][over..]) }
    }

    fn copy(&mut self, data: &mut dyn Read, size: u64) -> io::Result<()> {
        let mut left = size;
        self.buffer.resize(COPY, 0);
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(COPY);
            let n = match data.read(&mut self.buffer[..most]) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            self.output.write_all(&self.buffer[..n])?;
            left -= n as u64;
        }
        if left == 0 {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was read"))
    }
}

/// An entry owned by root at the epoch.
#[must_use]
pub fn plain(path: &[u8], kind: EntryKind, mode: u32) -> Entry {
    Entry {
        path: path.to_vec(),
        link: Vec::new(),
        kind,
        mode,
        uid: 0,
        gid: 0,
        mtime: (0, 0),
        size: 0,
        device: (0, 0),
        xattrs: Vec::new(),
        sparse: None,
    }
}

fn type_flag(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::File => b'0',
        EntryKind::HardLink => b'1',
        EntryKind::Symlink => b'2',
        EntryKind::Char => b'3',
        EntryKind::Block => b'4',
        EntryKind::Directory => b'5',
        EntryKind::Fifo => b'6',
    }
}

/// The name as it is written: directories end in a slash.
fn written_path(entry: &Entry) -> Vec<u8> {
    let mut path = entry.path.clone();
    if entry.kind == EntryKind::Directory && !path.ends_with(b"/") {
        path.push(b'/');
    }
    path
}

fn main_header(entry: &Entry, stored: u64) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let path = written_path(entry);
    let n = path.len().min(100);
    header[..n].copy_from_slice(&path[..n]);
    octal(&mut header[100..108], entry.mode.into());
    octal(&mut header[108..116], entry.uid.min(MAX_ID).into());
    octal(&mut header[116..124], entry.gid.min(MAX_ID).into());
    octal(&mut header[124..136], stored.min(MAX_SIZE));
    octal(&mut header[136..148], u64::try_from(entry.mtime.0).unwrap_or(0).min(MAX_SIZE));
    let n = entry.link.len().min(100);
    header[157..157 + n].copy_from_slice(&entry.link[..n]);
    if matches!(entry.kind, EntryKind::Char | EntryKind::Block) {
        octal(&mut header[329..337], entry.device.0.into());
        octal(&mut header[337..345], entry.device.1.into());
    }
    header
}

fn pax_records(entry: &Entry, stored: u64, sparse: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let path = written_path(entry);
    if sparse {
        record(&mut out, b"GNU.sparse.major", b"1");
        record(&mut out, b"GNU.sparse.minor", b"0");
        record(&mut out, b"GNU.sparse.name", &path);
        record(&mut out, b"GNU.sparse.realsize", entry.size.to_string().as_bytes());
    }
    for (key, value) in &entry.xattrs {
        record(&mut out, &[b"SCHILY.xattr.", key.as_slice()].concat(), value);
    }
    if entry.gid > MAX_ID {
        record(&mut out, b"gid", entry.gid.to_string().as_bytes());
    }
    if entry.link.len() > 100 {
        record(&mut out, b"linkpath", &entry.link);
    }
    if u64::try_from(entry.mtime.0).is_ok_and(|t| t > MAX_SIZE) || entry.mtime.0 < 0 {
        record(&mut out, b"mtime", entry.mtime.0.to_string().as_bytes());
    }
    if path.len() > 100 {
        record(&mut out, b"path", &path);
    }
    if stored > MAX_SIZE {
        record(&mut out, b"size", stored.to_string().as_bytes());
    }
    if entry.uid > MAX_ID {
        record(&mut out, b"uid", entry.uid.to_string().as_bytes());
    }
    out
}

/// `LENGTH KEY=VALUE\n`, the length counting itself.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let body = key.len() + value.len() + 3;
    let mut length = body + 1;
    while body + length.to_string().len() != length {
        length = body + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// The map that stands before the data of a sparse file. It ends with an empty piece at the file's end.
fn sparse_map(pieces: &[(u64, u64)]) -> Vec<u8> {
    let mut map = format!("{}\n", pieces.len()).into_bytes();
    for (offset, length) in pieces {
        map.extend_from_slice(format!("{offset}\n{length}\n").as_bytes());
    }
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    for (at, byte) in field[..digits].iter_mut().rev().enumerate() {
        *byte = b'0' + u8::try_from((value >> (3 * at)) & 7).expect("three bits");
    }
    field[digits] = 0;
}

#[cfg(test)]
mod tests {
    use super::super::reader::TarReader;
    use super::*;
    use proptest::prelude::*;

    fn round_trip(entry: &Entry, data: &[u8]) -> (Entry, Vec<u8>) {
        let mut writer = TarWriter::new(Vec::new());
        writer.append(entry, &mut &*data).unwrap();
        let bytes = writer.finish().unwrap();
        assert_eq!(bytes.len() % BLOCK, 0);
        let mut reader = TarReader::new(&bytes[..]);
        let got = reader.next_entry().unwrap().unwrap();
        let mut out = Vec::new();
        reader.data().read_to_end(&mut out).unwrap();
        assert!(reader.next_entry().unwrap().is_none());
        reader.finish().unwrap();
        (got, out)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            path in "[a-zA-Z0-9é .=\n]{1,80}(/[a-z]{1,90}){0,3}",
            link in "[a-z/.]{0,200}",
            kind in 0_usize..6,
            mode in 0_u32..0o10000,
            ids in (any::<u32>(), any::<u32>()),
            mtime in -5_000_000_000_i64..50_000_000_000_i64,
            data in proptest::collection::vec(any::<u8>(), 0..2000),
            value in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            use EntryKind as K;
            let kind = [K::File, K::HardLink, K::Symlink, K::Char, K::Directory, K::Fifo][kind];
            let mut entry = plain(path.as_bytes(), kind, mode);
            (entry.uid, entry.gid) = ids;
            entry.mtime.0 = mtime;
            entry.link = if matches!(kind, K::HardLink | K::Symlink) { link.into_bytes() } else { Vec::new() };
            entry.xattrs = vec![(b"user.x".to_vec(), value)];
            let data = if kind == K::File { data } else { Vec::new() };
            entry.size = data.len() as u64;
            let (mut got, out) = round_trip(&entry, &data);
            if kind == K::Directory {
                prop_assert_eq!(got.path.pop(), Some(b'/'));
            }
            prop_assert_eq!(got, entry);
            prop_assert_eq!(out, data);
        }
    }

    #[test]
    fn sparse_maps_round_trip() {
        let mut entry = plain(b"s", EntryKind::File, 0o600);
        entry.size = 1 << 40;
        entry.sparse = Some(vec![(0, 5), (1 << 30, 3), (1 << 40, 0)]);
        let (got, data) = round_trip(&entry, b"abcdefgh");
        assert_eq!(got, entry);
        assert_eq!(data, b"abcdefgh");
    }
}
