//! One blob from a registry into the store: resumed where an earlier transfer stopped, verified, fetched once even
//! when several processes want it.

use std::io::{Read, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fluyt_image::{Blobs, Descriptor, Ingest, Outcome, Progress};
use fluyt_model::{Error, Kind, Result};
use ureq::http::StatusCode;

use crate::board::Board;
use crate::http::{Answer, Ask, read_error};
use crate::ranges::{SEGMENT, Segments};
use crate::refusal;
use crate::remote::{Remote, Scope, may_pass};

/// How often a transfer that makes progress may break off before it is given up.
const MAX_BREAKS: u32 = 200;
/// How often another process's transfer is looked at.
const POLL: Duration = Duration::from_millis(50);

/// What is fetched from where.
pub(crate) struct Download<'a> {
    pub remote: &'a Remote,
    pub repository: &'a str,
    pub blobs: &'a Blobs,
    pub descriptor: &'a Descriptor,
    pub progress: &'a dyn Progress,
    /// The name of the item in the progress.
    pub item: String,
    /// Set when the whole operation has failed elsewhere.
    pub stop: &'a AtomicBool,
    /// Told what has arrived, for readers that do not wait for the end.
    pub board: Option<&'a Board>,
}

/// What the progress has been told.
#[derive(Default)]
struct Told {
    bytes: u64,
    done: bool,
    /// Several connections have failed: one will do.
    alone: bool,
}

/// How one try ended short of the blob's end.
pub(crate) enum Break {
    /// Worth another try; true if bytes have arrived.
    Again(Error, bool),
    /// Not worth it.
    Final(Error),
}

impl From<Error> for Break {
    fn from(e: Error) -> Self {
        Self::Final(e)
    }
}

impl Download<'_> {
    /// Fetches the blob unless it is here.
    ///
    /// # Errors
    /// What the registry or the network does; `Kind::Corrupt` for wrong content.
    pub fn run(&self) -> Result<Outcome> {
        self.progress.begin(&self.item, Some(self.descriptor.size));
        let mut told = Told::default();
        let result = self.fetch(&mut told);
        if !told.done {
            self.progress.finish(&self.item, *result.as_ref().unwrap_or(&Outcome::Failed));
        }
        result
    }

    fn fetch(&self, told: &mut Told) -> Result<Outcome> {
        let digest = &self.descriptor.digest;
        let (mut failures, mut breaks) = (0, 0);
        loop {
            if self.blobs.has(digest) {
                return Ok(Outcome::Exists);
            }
            let Some(ingest) = self.claim(told)? else { continue };
            let error = match self.transfer(ingest, told) {
                Ok(()) => return Ok(Outcome::Done),
                Err(Break::Final(e)) => return Err(e),
                Err(Break::Again(e, true)) => {
                    failures = 0;
                    e
                }
                Err(Break::Again(e, false)) => e,
            };
            failures += 1;
            breaks += 1;
            let hung_twice = error.kind() == Kind::Timeout && failures >= 2;
            if failures >= self.remote.settings.attempts || breaks >= MAX_BREAKS || hung_twice {
                return Err(error);
            }
            std::thread::sleep(self.remote.pause(failures));
            self.check_stop()?;
        }
    }

    fn check_stop(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::new(Kind::Unavailable, "given up because another part failed"));
        }
        Ok(())
    }

    /// The right to write this blob. While another process has it and makes progress, waits; `None` then means to
    /// look again.
    fn claim(&self, told: &mut Told) -> Result<Option<Ingest>> {
        let (digest, size) = (&self.descriptor.digest, self.descriptor.size);
        let key = digest.as_str();
        let mut seen = self.blobs.part_size(key);
        let mut since = Instant::now();
        loop {
            if let Some(ingest) = self.blobs.ingest_alone(Some(digest), Some(size), key)? {
                // It may have become complete between the look and the lock.
                return Ok(Some(ingest).filter(|_| !self.blobs.has(digest)));
            }
            if self.blobs.has(digest) {
                return Ok(None);
            }
            let now = self.blobs.part_size(key);
            if now != seen {
                seen = now;
                since = Instant::now();
                self.report(now.unwrap_or(0), told);
            } else if since.elapsed() > self.remote.settings.read_timeout * 2 {
                // The other one hangs or is stopped: go on without it.
                return self.blobs.ingest(Some(digest), Some(size), "").map(Some);
            }
            std::thread::sleep(POLL);
            self.check_stop()?;
        }
    }

    /// Tells the progress about bytes beyond those it knows of.
    fn report(&self, have: u64, told: &mut Told) {
        if have > told.bytes {
            self.progress.advance(&self.item, have - told.bytes);
            told.bytes = have;
        }
    }

    /// Tells of what has been written.
    fn written(&self, have: u64, told: &mut Told) {
        self.report(have, told);
        if let Some(board) = self.board {
            board.arrived(&self.descriptor.digest, have);
        }
    }

    fn transfer(&self, mut ingest: Ingest, told: &mut Told) -> Result<(), Break> {
        let size = self.descriptor.size;
        if let Some(board) = self.board {
            board.begun(&self.descriptor.digest, ingest.reader()?, ingest.offset());
        }
        if ingest.offset() < size || size == 0 {
            let before = ingest.offset();
            let read = self.request(&mut ingest).and_then(|answer| self.copy(answer, &mut ingest, told));
            if let Err(e) = read {
                ingest.keep();
                let moved = ingest.offset() > before;
                return Err(match e {
                    Break::Again(e, _) => Break::Again(e, moved),
                    e => e,
                });
            }
        }
        self.written(ingest.offset(), told);
        // Readers need not wait for the disk.
        if ingest.verify().is_ok() {
            self.progress.finish(&self.item, Outcome::Done);
            told.done = true;
            if let Some(board) = self.board {
                board.verified(&self.descriptor.digest);
            }
        }
        match ingest.commit() {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == Kind::Corrupt => {
                let host = self.remote.host();
                Err(Break::Again(e.context(format!("registry {host} sent wrong data")), false))
            }
            Err(e) => Err(Break::Final(e)),
        }
    }

    pub(crate) fn what(&self) -> String {
        format!("blob {}", self.descriptor.digest)
    }

    /// Asks for what is missing; on return the ingest stands where the answer's body begins.
    fn request(&self, ingest: &mut Ingest) -> Result<Answer, Break> {
        for _ in 0..2 {
            let offset = ingest.offset();
            let mut ask = Ask::get(self.url(), self.what());
            if offset > 0 {
                ask = ask.header("range", format!("bytes={offset}-"));
            }
            let answer = self.send(&mut ask)?;
            match answer.status {
                StatusCode::PARTIAL_CONTENT if range_of(&answer).is_some_and(|(at, _)| at == offset) => {
                    return Ok(answer);
                }
                StatusCode::OK => {
                    if offset > 0 {
                        self.restart(ingest)?;
                    }
                    return Ok(answer);
                }
                // The range is not what this server can give: all of it, then.
                StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if offset > 0 => {
                    self.restart(ingest)?;
                }
                _ => return Err(self.refused(answer)),
            }
        }
        Err(Break::Final(Error::new(
            Kind::Unavailable,
            format!("registry {}: {} is answered with a wrong range", self.remote.host(), self.what()),
        )))
    }

    /// From the first byte again.
    fn restart(&self, ingest: &mut Ingest) -> Result<()> {
        // First, so that nobody reads what the file does not have any more.
        if let Some(board) = self.board {
            board.arrived(&self.descriptor.digest, 0);
        }
        ingest.restart()
    }

    pub(crate) fn url(&self) -> String {
        self.remote.url(&format!("{}/blobs/{}", self.repository, self.descriptor.digest))
    }

    /// One request for the blob; a failure that may pass is told apart.
    pub(crate) fn send(&self, ask: &mut Ask<'_>) -> Result<Answer, Break> {
        self.remote.authorised(Some(&Scope::pull(self.repository)), ask).map_err(|e| {
            if matches!(e.kind(), Kind::Unavailable | Kind::Timeout) {
                Break::Again(e, false)
            } else {
                Break::Final(e)
            }
        })
    }

    pub(crate) fn refused(&self, answer: Answer) -> Break {
        let status = answer.status;
        let wait = crate::remote::retry_after(&answer);
        let error = refusal::of(answer, &self.what());
        if !may_pass(status) || wait.is_some_and(|w| w > self.remote.settings.longest_pause) {
            return Break::Final(error);
        }
        if let Some(wait) = wait {
            std::thread::sleep(wait);
        }
        Break::Again(error, false)
    }

    fn copy(&self, answer: Answer, ingest: &mut Ingest, told: &mut Told) -> Result<(), Break> {
        let settings = &self.remote.settings;
        let ranges = answer.status == StatusCode::PARTIAL_CONTENT
            || answer.header("accept-ranges").is_some_and(|r| r.trim() == "bytes");
        let may_split = ranges && settings.connections > 1 && !told.alone;
        let began = Instant::now();
        let size = self.descriptor.size;
        let segments = OnceLock::new();
        std::thread::scope(|scope| {
            let result = self.copy_until(answer, ingest, told, &segments, |have| {
                let slow = began.elapsed() >= settings.split_after && size - have >= settings.split_from;
                if may_split && slow && segments.get().is_none() {
                    let segments = segments.get_or_init(|| Segments::new(have + SEGMENT, size));
                    for _ in 0..settings.connections {
                        scope.spawn(move || segments.fetch(self));
                    }
                }
            });
            if let Some(segments) = segments.get() {
                segments.end();
            }
            result
        })
    }

    /// Copies from the first connection, and then what others have fetched, if they have begun.
    fn copy_until(
        &self,
        answer: Answer,
        ingest: &mut Ingest,
        told: &mut Told,
        segments: &OnceLock<Segments>,
        mut split: impl FnMut(u64),
    ) -> Result<(), Break> {
        let url = answer.url.clone();
        let mut reader = answer.reader();
        let mut buffer = vec![0; 128 << 10];
        let size = self.descriptor.size;
        loop {
            self.check_stop()?;
            let mut most = buffer.len();
            if let Some(segments) = segments.get() {
                match segments.base.checked_sub(ingest.offset()) {
                    Some(0) if segments.work() => {
                        drop(reader);
                        return self.collect(segments, ingest, told);
                    }
                    Some(left) if left > 0 => most = most.min(usize::try_from(left).unwrap_or(most)),
                    // The others come too late.
                    _ => segments.end(),
                }
            }
            let n = match reader.read(&mut buffer[..most]) {
                Ok(0) if ingest.offset() < size => {
                    let text = format!("got {} of {size} bytes", ingest.offset());
                    let e = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, text);
                    return Err(Break::Again(read_error(&url, &self.what(), e), false));
                }
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(e) => return Err(Break::Again(read_error(&url, &self.what(), e), false)),
            };
            self.put(&buffer[..n], ingest, told)?;
            split(ingest.offset());
        }
    }

    fn collect(&self, segments: &Segments, ingest: &mut Ingest, told: &mut Told) -> Result<(), Break> {
        let result = segments.collect(|bytes| {
            self.check_stop()?;
            self.put(bytes, ingest, told)
        });
        told.alone |= result.is_err();
        result
    }

    fn put(&self, bytes: &[u8], ingest: &mut Ingest, told: &mut Told) -> Result<(), Break> {
        match ingest.write_all(bytes) {
            Ok(()) => {
                self.written(ingest.offset(), told);
                Ok(())
            }
            Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
                let host = self.remote.host();
                Err(Break::Final(Error::corrupt(format!("registry {host} sent wrong data: {e}"))))
            }
            Err(e) => Err(Break::Final(ingest.write_error(e))),
        }
    }
}

/// The positions of the first and the last byte of a partial answer, as far as it says.
pub(crate) fn range_of(answer: &Answer) -> Option<(u64, Option<u64>)> {
    let text = answer.header("content-range")?.trim().strip_prefix("bytes ")?;
    let (first, rest) = text.split_once('-')?;
    let last = rest.split('/').next().and_then(|last| last.trim().parse().ok());
    Some((first.trim().parse().ok()?, last))
}
