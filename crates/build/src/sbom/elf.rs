//! Sections of ELF files, as far as they are needed to read what compilers write about themselves. Every offset is a claim
//! of the file: nothing beyond its end or a limit is read.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Sections that are looked at; programs have some thirty.
const MOST_SECTIONS: u64 = 1024;
/// Bytes of one section that are read.
const MOST_BYTES: u64 = 16 << 20;

/// A file that calls itself ELF.
pub struct Elf<'a> {
    file: &'a File,
    wide: bool,
    big: bool,
}

impl<'a> Elf<'a> {
    /// Looks at the first bytes of a file.
    #[must_use]
    pub fn open(file: &'a File) -> Option<Self> {
        let mut head = [0; 6];
        file.read_exact_at(&mut head, 0).ok()?;
        let fits = head.starts_with(b"\x7fELF") && matches!(head[4], 1 | 2) && matches!(head[5], 1 | 2);
        fits.then_some(Self { file, wide: head[4] == 2, big: head[5] == 2 })
    }

    /// An unsigned number of `size` bytes.
    fn number(&self, bytes: &[u8], at: usize, size: usize) -> Option<u64> {
        let part = bytes.get(at..at.checked_add(size)?)?;
        let fold = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(if self.big { part.iter().fold(0, fold) } else { part.iter().rev().fold(0, fold) })
    }

    fn bytes(&self, offset: u64, length: u64) -> Option<Vec<u8>> {
        let end = self.file.metadata().ok()?.len();
        let length = length.min(MOST_BYTES).min(end.checked_sub(offset)?);
        let mut found = vec![0; usize::try_from(length).ok()?];
        self.file.read_exact_at(&mut found, offset).ok()?;
        Some(found)
    }

    /// The content of the section with this name.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<Vec<u8>> {
        let head = self.bytes(0, 64)?;
        // e_shoff, e_shentsize, e_shnum, e_shstrndx; in a section's header sh_offset and sh_size.
        let (at, size, word, own) =
            if self.wide { (0x28, 0x3a, 8, (0x18, 0x20)) } else { (0x20, 0x2e, 4, (0x10, 0x14)) };
        let table = self.number(&head, at, word)?;
        let entry = self.number(&head, size, 2)?;
        let count = self.number(&head, size + 2, 2)?.min(MOST_SECTIONS);
        let names = self.number(&head, size + 4, 2)?;
        if table == 0 || entry < 40 {
            return None;
        }
        let headers = self.bytes(table, entry * count)?;
        let header = |index: u64| headers.get(usize::try_from(index * entry).ok()?..);
        let place =
            |header: &[u8]| Some((self.number(header, own.0, word)?, self.number(header, own.1, word)?));
        let (offset, length) = place(header(names)?)?;
        let texts = self.bytes(offset, length)?;
        (0..count).find_map(|index| {
            let header = header(index)?;
            let from = usize::try_from(self.number(header, 0, 4)?).ok()?;
            let text = texts.get(from..)?;
            let text = &text[..text.iter().position(|b| *b == 0)?];
            if text != name.as_bytes() {
                return None;
            }
            let (offset, length) = place(header)?;
            self.bytes(offset, length)
        })
    }
}
