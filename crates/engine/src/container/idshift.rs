//! The owners in a tar stream changed as it passes: between a container's ids and the host's.
//!
//! An archive is blocks of 512 bytes: a header says how many blocks of content follow. Only headers are touched.

use std::io::{Read, Write};

const BLOCK: usize = 512;

/// Changes (user, group); what it does not know stays.
pub(crate) type Change<'a> = &'a (dyn Fn(u64, u64) -> (u64, u64) + Send + Sync);

/// What follows in the stream.
#[derive(Default)]
struct Position {
    /// Blocks of content until the next header.
    content: u64,
    /// The next block goes on with the map of a sparse file.
    sparse: bool,
}

impl Position {
    /// One block has passed; it is changed if it is a header.
    fn block(&mut self, block: &mut [u8; BLOCK], change: Change<'_>) {
        if self.sparse {
            const MORE: usize = 504;
            self.sparse = block[MORE] != 0;
            return;
        }
        if self.content > 0 {
            self.content -= 1;
            return;
        }
        if block.iter().all(|b| *b == 0) {
            return;
        }
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        self.content = header.entry_size().unwrap_or(0).div_ceil(BLOCK as u64);
        if let Some(gnu) = header.as_gnu()
            && header.entry_type().is_gnu_sparse()
        {
            self.sparse = gnu.is_extended();
        }
        if header.entry_type().is_pax_global_extensions() || header.entry_type().is_pax_local_extensions() {
            return;
        }
        if let (Ok(uid), Ok(gid)) = (header.uid(), header.gid()) {
            let (uid, gid) = change(uid, gid);
            header.set_uid(uid);
            header.set_gid(gid);
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
    }
}

/// Changes owners in what is written.
pub(crate) struct Shifted<'a, S> {
    stream: S,
    change: Change<'a>,
    position: Position,
    buffer: Vec<u8>,
}

impl<'a, S> Shifted<'a, S> {
    pub(crate) fn new(stream: S, change: Change<'a>) -> Self {
        Self { stream, change, position: Position::default(), buffer: Vec::new() }
    }
}

impl<S: Write> Write for Shifted<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        let whole = self.buffer.len() / BLOCK * BLOCK;
        for block in self.buffer[..whole].as_chunks_mut::<BLOCK>().0 {
            self.position.block(block, self.change);
        }
        self.stream.write_all(&self.buffer[..whole])?;
        self.buffer.drain(..whole);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

impl<S: Read> Read for Shifted<'_, S> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.buffer.is_empty() {
            let mut block = [0; BLOCK];
            let mut filled = 0;
            while filled < BLOCK {
                match self.stream.read(&mut block[filled..]) {
                    Ok(0) => break,
                    Ok(n) => filled += n,
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
            if filled == BLOCK {
                self.position.block(&mut block, self.change);
            }
            self.buffer.extend_from_slice(&block[..filled]);
        }
        let n = self.buffer.len().min(out.len());
        out[..n].copy_from_slice(&self.buffer[..n]);
        self.buffer.drain(..n);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_owners_change() {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in [("a", vec![1; 1500]), ("b", vec![]), (&"long/".repeat(40), vec![2; 512])] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_uid(3);
            header.set_gid(4);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, &content[..]).unwrap();
        }
        let plain = archive.into_inner().unwrap();
        let far = 0x2000_0000;
        let up = |uid, gid| (uid + far, gid + far);
        let down = |uid, gid| (uid - far, gid - far);
        let mut shifted = Vec::new();
        // In odd portions, as writers do.
        let mut writer = Shifted::new(&mut shifted, &up);
        plain.chunks(700).for_each(|part| writer.write_all(part).unwrap());
        let owners: Vec<_> = tar::Archive::new(&shifted[..])
            .entries()
            .unwrap()
            .map(|e| e.map(|e| (e.header().uid().unwrap(), e.header().gid().unwrap())).unwrap())
            .collect();
        assert_eq!(owners, [(far + 3, far + 4); 3]);
        let mut back = Vec::new();
        Shifted::new(&shifted[..], &down).read_to_end(&mut back).unwrap();
        let contents = |bytes: &[u8]| {
            let mut archive = tar::Archive::new(bytes);
            let entries = archive.entries().unwrap().map(|e| {
                let mut e = e.unwrap();
                let mut content = Vec::new();
                e.read_to_end(&mut content).unwrap();
                (e.path().unwrap().into_owned(), e.header().uid().unwrap(), content)
            });
            entries.collect::<Vec<_>>()
        };
        assert_eq!(contents(&back), contents(&plain));
    }
}
