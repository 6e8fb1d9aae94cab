//! The 512-byte tar header block and the extended records of pax, both parsed without trust.
//!
//! POSIX.1-2017 `pax`, "ustar Interchange Format" and "pax Extended Header"; GNU's base-256 numbers and old sparse
//! format. No I/O.

use std::collections::BTreeMap;

use fluyt_model::{Error, Result};

/// The size of a header, and what everything is padded to.
pub const BLOCK: usize = 512;

/// The most pieces of a sparse file.
const MAX_PIECES: usize = 1 << 20;
/// The most extended attributes of a file: file systems keep some hundred.
const MAX_XATTRS: usize = 4096;

/// Where the data of a sparse file belongs: offset and length of each piece.
pub type Pieces = Vec<(u64, u64)>;

/// One header block.
pub struct Header<'a>(pub &'a [u8; BLOCK]);

impl Header<'_> {
    /// Whether the block is all zeros: the mark of an archive's end.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|b| *b == 0)
    }

    /// Verifies the checksum (unsigned, or signed as some old programs wrote it).
    ///
    /// # Errors
    /// `Kind::Corrupt`.
    pub fn verify(&self) -> Result<()> {
        let stated = number(&self.0[148..156]).map_err(|_| not_tar())?;
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (at, byte) in self.0.iter().enumerate() {
            let byte = if (148..156).contains(&at) { b' ' } else { *byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        if stated == unsigned || stated == signed { Ok(()) } else { Err(not_tar()) }
    }

    /// The type flag.
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.0[156]
    }

    /// The name, with the prefix of POSIX headers before it.
    #[must_use]
    pub fn path(&self) -> Vec<u8> {
        let name = until_nul(&self.0[0..100]);
        let prefix = if &self.0[257..263] == b"ustar\0" { until_nul(&self.0[345..500]) } else { b"" };
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    /// The link target.
    #[must_use]
    pub fn link(&self) -> Vec<u8> {
        until_nul(&self.0[157..257]).to_vec()
    }

    /// Permission bits.
    ///
    /// # Errors
    /// `Kind::Corrupt` for a malformed number; so for the other numbers.
    pub fn mode(&self) -> Result<u32> {
        Ok(u32::try_from(number(&self.0[100..108])? & 0o7777).expect("masked"))
    }

    /// The owner's id.
    pub fn uid(&self) -> Result<u32> {
        id(number(&self.0[108..116])?)
    }

    /// The group's id.
    pub fn gid(&self) -> Result<u32> {
        id(number(&self.0[116..124])?)
    }

    /// The length of the data that follows.
    pub fn size(&self) -> Result<u64> {
        length(number(&self.0[124..136])?)
    }

    /// The time of modification in seconds.
    pub fn mtime(&self) -> Result<i64> {
        number(&self.0[136..148])
    }

    /// The numbers of a device.
    pub fn device(&self) -> Result<(u32, u32)> {
        Ok((id(number(&self.0[329..337])?)?, id(number(&self.0[337..345])?)?))
    }

    /// The part of an old GNU sparse map that is in this header: pieces, whether more blocks follow, real size.
    pub fn old_sparse(&self) -> Result<(Pieces, bool, u64)> {
        let pieces = sparse_pieces(&self.0[386..482])?;
        Ok((pieces, self.0[482] != 0, length(number(&self.0[483..495])?)?))
    }
}

/// The pieces in a run of 24-byte entries of an old GNU sparse map, up to the first empty entry.
pub fn sparse_pieces(bytes: &[u8]) -> Result<Pieces> {
    let mut pieces = Vec::new();
    for entry in bytes.chunks_exact(24) {
        if entry[0] == 0 && entry[12] == 0 {
            break;
        }
        pieces.push((length(number(&entry[..12])?)?, length(number(&entry[12..])?)?));
    }
    Ok(pieces)
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    &bytes[..end]
}

fn not_tar() -> Error {
    Error::corrupt("not a tar archive, or a damaged one (a header has a wrong checksum)")
}

fn bad_number() -> Error {
    Error::corrupt("a header has a malformed number")
}

fn id(n: i64) -> Result<u32> {
    u32::try_from(n).map_err(|_| Error::corrupt(format!("a header has the impossible id {n}")))
}

fn length(n: i64) -> Result<u64> {
    u64::try_from(n).map_err(|_| Error::corrupt(format!("a header has the impossible length {n}")))
}

/// An octal number between spaces and NULs, or a base-256 one when the first bit is set.
fn number(field: &[u8]) -> Result<i64> {
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (at, byte) in field.iter().enumerate() {
            let byte = if at == 0 && !negative { byte & 0x7f } else { *byte };
            value = (value << 8) | i128::from(byte);
            if value > i128::from(i64::MAX) || value < i128::from(i64::MIN) {
                return Err(bad_number());
            }
        }
        return i64::try_from(value).map_err(|_| bad_number());
    }
    let mut value = 0_i64;
    let mut seen_end = false;
    for byte in field.iter().skip_while(|b| **b == b' ' || **b == 0) {
        match byte {
            b'0'..=b'7' if !seen_end => {
                value = value.checked_mul(8).ok_or_else(bad_number)? + i64::from(byte - b'0');
            }
            b' ' | 0 => seen_end = true,
            _ => return Err(bad_number()),
        }
    }
    Ok(value)
}

/// What pax records say about the entry that follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pax {
    /// Replaces the name.
    pub path: Option<Vec<u8>>,
    /// Replaces the link target.
    pub link: Option<Vec<u8>>,
    /// Replaces the length of the data.
    pub size: Option<u64>,
    /// Replaces the owner.
    pub uid: Option<u32>,
    /// Replaces the group.
    pub gid: Option<u32>,
    /// Replaces the time of modification: seconds and nanoseconds.
    pub mtime: Option<(i64, u32)>,
    /// Extended attributes; of two of one name the later counts.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The map of a sparse file in GNU's pax formats 0.0 and 0.1.
    pub sparse_map: Option<Vec<(u64, u64)>>,
    /// The real size of a sparse file.
    pub sparse_size: Option<u64>,
    /// The real name of a sparse file.
    pub sparse_name: Option<Vec<u8>>,
    /// Whether the map stands before the data (format 1.0).
    pub sparse_in_data: bool,
    pending_offset: Option<u64>,
}

impl Pax {
    /// Adds the records of one extended header.
    ///
    /// # Errors
    /// `Kind::Corrupt` for a malformed record.
    pub fn parse(&mut self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            let (key, value, rest) = record(data)?;
            self.apply(key, value)?;
            data = rest;
        }
        Ok(())
    }

    fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        match key {
            b"path" => self.path = some_name(value)?,
            b"linkpath" => self.link = some_name(value)?,
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(u32::try_from(decimal(value)?).map_err(|_| malformed("uid"))?),
            b"gid" => self.gid = Some(u32::try_from(decimal(value)?).map_err(|_| malformed("gid"))?),
            b"mtime" => self.mtime = Some(time(value)?),
            b"GNU.sparse.name" => self.sparse_name = some_name(value)?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse_size = Some(decimal(value)?),
            b"GNU.sparse.major" => self.sparse_in_data = value == b"1",
            b"GNU.sparse.offset" => self.pending_offset = Some(decimal(value)?),
            b"GNU.sparse.numbytes" => {
                let offset = self.pending_offset.take().ok_or_else(|| malformed("GNU.sparse.numbytes"))?;
                let map = self.sparse_map.get_or_insert_default();
                map.push((offset, decimal(value)?));
                check_pieces(map.len())?;
            }
            b"GNU.sparse.map" => {
                let numbers: Vec<u64> = value.split(|b| *b == b',').map(decimal).collect::<Result<_>>()?;
                if !numbers.len().is_multiple_of(2) {
                    return Err(malformed("GNU.sparse.map"));
                }
                self.sparse_map = Some(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect());
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.insert(name.to_vec(), value.to_vec());
                    if self.xattrs.len() > MAX_XATTRS {
                        return Err(Error::corrupt("an entry has too many extended attributes"));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Refuses a sparse file that is nothing but pieces.
pub fn check_pieces(count: usize) -> Result<()> {
    if count > MAX_PIECES { Err(Error::corrupt("a sparse file has too many pieces")) } else { Ok(()) }
}

fn malformed(key: &str) -> Error {
    Error::corrupt(format!("a pax header has a malformed record ({key})"))
}

/// Splits `LENGTH KEY=VALUE\n` off `data`.
fn record(data: &[u8]) -> Result<(&[u8], &[u8], &[u8])> {
    let space = memchr::memchr(b' ', &data[..data.len().min(21)]).ok_or_else(|| malformed("length"))?;
    let length = decimal(&data[..space])?;
    let length = usize::try_from(length).ok().filter(|n| *n > space + 2 && *n <= data.len());
    let (line, rest) = data.split_at(length.ok_or_else(|| malformed("length"))?);
    let body = line[space + 1..].strip_suffix(b"\n").ok_or_else(|| malformed("no line end"))?;
    let equals = memchr::memchr(b'=', body).filter(|at| *at > 0).ok_or_else(|| malformed("no key"))?;
    Ok((&body[..equals], &body[equals + 1..], rest))
}

/// A name from a record; an empty value deletes an earlier one.
fn some_name(value: &[u8]) -> Result<Option<Vec<u8>>> {
    if value.contains(&0) {
        return Err(malformed("a name with a NUL"));
    }
    Ok(Some(value.to_vec()).filter(|v| !v.is_empty()))
}

fn decimal(text: &[u8]) -> Result<u64> {
    let digits =
        std::str::from_utf8(text).ok().filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()));
    digits
        .and_then(|t| t.parse::<u64>().ok())
        .filter(|n| i64::try_from(*n).is_ok())
        .ok_or_else(|| malformed("a number"))
}

fn time(text: &[u8]) -> Result<(i64, u32)> {
    let text = std::str::from_utf8(text).map_err(|_| malformed("time"))?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| malformed("time"))?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(malformed("time"));
    }
    let mut nanos = 0_u32;
    for at in 0..9 {
        nanos = nanos * 10 + fraction.as_bytes().get(at).map_or(0, |b| u32::from(b - b'0'));
    }
    if whole.starts_with('-') && nanos > 0 {
        return Ok((seconds - 1, 1_000_000_000 - nanos));
    }
    Ok((seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"0000644\0").unwrap(), 0o644);
        assert_eq!(number(b"   644 \0").unwrap(), 0o644);
        assert_eq!(number(b"\0\0\0\0\0\0\0\0").unwrap(), 0);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 1, 0]).unwrap(), 256);
        assert_eq!(number(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]).unwrap(), -2);
        assert!(number(&[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(number(b"99999999").is_err());
        assert!(number(b"64 4\0\0\0\0").is_err());
    }

    #[test]
    fn records_of_pax_are_strict() {
        let mut pax = Pax::default();
        pax.parse(b"12 path=abc\n22 SCHILY.xattr.u.a=x\n20 mtime=1.500000000\n").unwrap_err();
        let mut pax = Pax::default();
        pax.parse(b"12 path=abc\n13 mtime=1.5\n22 SCHILY.xattr.u.a=\0\n").unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"abc"[..]));
        assert_eq!(pax.mtime, Some((1, 500_000_000)));
        assert_eq!(pax.xattrs, BTreeMap::from([(b"u.a".to_vec(), b"\0".to_vec())]));
        for bad in
            [&b"x"[..], b"6 a=\n", b"99 path=abc\n", b"12 path=abcd", b"0 \n", b"7 =abc\n", b"12 path=a\0c\n"]
        {
            assert!(Pax::default().parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn attributes_are_bounded_and_the_last_of_a_name_counts() {
        let record = |name: &str, value: &str| {
            let body = format!(" SCHILY.xattr.{name}={value}\n");
            format!("{}{body}", body.len() + 2)
        };
        let mut pax = Pax::default();
        // Quadratic work on these would take minutes.
        let all: String = (0..150_000).map(|n| record(&format!("user.{}", n % 4096), "x")).collect();
        pax.parse(all.as_bytes()).unwrap();
        pax.parse(record("user.7", "y").as_bytes()).unwrap();
        assert_eq!((pax.xattrs.len(), &pax.xattrs[&b"user.7"[..]][..]), (4096, &b"y"[..]));
        assert!(pax.parse(record("user.more", "x").as_bytes()).is_err());
    }

    #[test]
    fn times_before_the_epoch_count_backwards() {
        assert_eq!(time(b"-1.25").unwrap(), (-2, 750_000_000));
        assert_eq!(time(b"5").unwrap(), (5, 0));
        assert!(time(b"1.x").is_err() && time(b"").is_err());
    }
}
