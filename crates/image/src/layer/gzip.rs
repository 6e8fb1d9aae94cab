//! gzip on all processors, in blocks that are compressed independently and form one member.
//!
//! The same input gives the same bytes, however many processors there are: blocks have one length, and each ends where
//! a decoder may forget what came before (a sync flush). What fits into one block is compressed where it stands, without
//! a thread. Blocks compressed apart make about a thousandth more than a whole stream would.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Bytes of one block before compression.
const BLOCK: usize = 1 << 20;
/// Magic, deflate, no flags, no time, no extra flags, unknown system: nothing that could differ.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// A writer that compresses.
pub struct Gzip<W: Write> {
    output: W,
    level: Compression,
    block: Vec<u8>,
    sum: Crc,
    begun: bool,
    workers: Option<Workers>,
}

/// A block after compression.
struct Packed {
    bytes: io::Result<Vec<u8>>,
    sum: Crc,
    /// The block's memory, to be used again.
    spare: Vec<u8>,
}

struct Job {
    block: Vec<u8>,
    answer: SyncSender<Packed>,
}

/// Threads that end when this is dropped.
struct Workers {
    jobs: Sender<Job>,
    /// Answers in the order of the blocks.
    pending: VecDeque<Receiver<Packed>>,
    most: usize,
    spare: Vec<Vec<u8>>,
}

impl Workers {
    fn start(level: Compression) -> Self {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..count {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || {
                loop {
                    let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(Job { block, answer }) = job else { return };
                    // Nobody listens when the writer has failed.
                    let _ = answer.send(pack(block, level, FlushCompress::Sync));
                }
            });
        }
        Self { jobs, pending: VecDeque::new(), most: 2 * count, spare: Vec::new() }
    }
}

impl<W: Write> Gzip<W> {
    /// Compresses into `output` at a level from 1 to 9.
    pub fn new(output: W, level: u32) -> Self {
        Self {
            output,
            level: Compression::new(level),
            block: Vec::new(),
            sum: Crc::new(),
            begun: false,
            workers: None,
        }
    }

    /// What is written to.
    pub fn get_ref(&self) -> &W {
        &self.output
    }

    /// Writes the rest and the sums, and returns the output.
    ///
    /// # Errors
    /// Those of the output.
    pub fn finish(mut self) -> io::Result<W> {
        while self.collect()? {}
        let last = pack(std::mem::take(&mut self.block), self.level, FlushCompress::Finish);
        self.put(last)?;
        self.output.write_all(&self.sum.sum().to_le_bytes())?;
        self.output.write_all(&self.sum.amount().to_le_bytes())?;
        self.output.flush()?;
        Ok(self.output)
    }

    /// Writes a block that is compressed.
    fn put(&mut self, packed: Packed) -> io::Result<()> {
        if !self.begun {
            self.begun = true;
            self.output.write_all(&HEADER)?;
        }
        self.sum.combine(&packed.sum);
        self.output.write_all(&packed.bytes?)?;
        if let Some(workers) = &mut self.workers {
            workers.spare.push(packed.spare);
        }
        Ok(())
    }

    /// Waits for the oldest block and writes it; `false` when none is on its way.
    fn collect(&mut self) -> io::Result<bool> {
        let Some(first) = self.workers.as_mut().and_then(|w| w.pending.pop_front()) else { return Ok(false) };
        let packed = first.recv().map_err(|_| io::Error::other("a compressing thread failed"))?;
        self.put(packed)?;
        Ok(true)
    }

    /// Hands the full block over.
    fn hand_over(&mut self) -> io::Result<()> {
        let level = self.level;
        let workers = self.workers.get_or_insert_with(|| Workers::start(level));
        let spare = workers.spare.pop().unwrap_or_default();
        let block = std::mem::replace(&mut self.block, spare);
        self.block.clear();
        let (answer, result) = sync_channel(1);
        let sent = workers.jobs.send(Job { block, answer });
        sent.map_err(|_| io::Error::other("the compressing threads failed"))?;
        workers.pending.push_back(result);
        if workers.pending.len() > workers.most {
            self.collect()?;
        }
        Ok(())
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A block is handed over only when more follows: the last one ends the stream.
        if self.block.len() == BLOCK && !bytes.is_empty() {
            self.hand_over()?;
        }
        let n = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    /// Does nothing: what is written depends on the input alone, not on when somebody looks.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pack(block: Vec<u8>, level: Compression, flush: FlushCompress) -> Packed {
    let mut sum = Crc::new();
    sum.update(&block);
    let mut deflate = Compress::new(level, false);
    let mut out = Vec::with_capacity(block.len() / 2 + 1024);
    let bytes = loop {
        let from = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX).min(block.len());
        let status = deflate.compress_vec(&block[from..], &mut out, flush);
        let done = deflate.total_in() == block.len() as u64;
        match status {
            Ok(Status::StreamEnd) => break Ok(out),
            // Room is left over only when everything is flushed.
            Ok(Status::Ok) if flush != FlushCompress::Finish && done && out.len() < out.capacity() => {
                break Ok(out);
            }
            Ok(_) => out.reserve(out.capacity().max(4096)),
            Err(e) => break Err(io::Error::other(e)),
        }
    };
    Packed { bytes, sum, spare: block }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn packed(data: &[u8], step: usize) -> Vec<u8> {
        let mut gzip = Gzip::new(Vec::new(), 4);
        data.chunks(step).for_each(|piece| gzip.write_all(piece).unwrap());
        gzip.finish().unwrap()
    }

    fn words(length: usize) -> Vec<u8> {
        (0..)
            .flat_map(|n: u64| format!("{} ", n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 5000).into_bytes())
            .take(length)
            .collect()
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut x = 1_u64;
        let next = || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            Some(x.to_le_bytes())
        };
        std::iter::from_fn(next).flatten().take(length).collect()
    }

    #[test]
    fn any_length_comes_back_from_one_member() {
        for length in [0, 1, 1000, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 9 * BLOCK + 77] {
            for data in [words(length), noise(length), vec![0; length]] {
                let bytes = packed(&data, 100_000);
                let mut decoder = flate2::read::GzDecoder::new(&bytes[..]);
                let mut back = Vec::new();
                decoder.read_to_end(&mut back).unwrap();
                assert!(back == data, "{length}");
                assert!(decoder.into_inner().is_empty(), "one member and nothing after it");
            }
        }
    }

    #[test]
    fn the_bytes_depend_on_the_input_alone() {
        let data = words(5 * BLOCK + 12345);
        let first = packed(&data, 7);
        assert!(first == packed(&data, 1 << 22));
        let whole = {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::new(4));
            encoder.write_all(&data).unwrap();
            encoder.finish().unwrap()
        };
        assert!(first.len() < whole.len() + whole.len() / 50, "{} {}", first.len(), whole.len());
    }

    #[test]
    fn an_output_that_fails_is_reported() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut gzip = Gzip::new(Full(BLOCK), 4);
        let data = noise(20 * BLOCK);
        let failed = data.chunks(100_000).find_map(|piece| gzip.write_all(piece).err());
        assert_eq!(failed.map(|e| e.kind()), Some(io::ErrorKind::StorageFull));
    }
}
