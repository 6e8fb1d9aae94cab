//! Where the blobs of a pull stand: what is to be fetched, how much of each is here, what failed. Layers are read from
//! here while they arrive, so that unpacking does not wait for the end of a download, nor for the disk.
//!
//! A reader sees the end of a layer only when its content has been verified. What it has seen until then may still
//! turn out to be wrong: a transfer that has to begin again makes every reader of its earlier bytes fail and is noted
//! ([`Board::disturbed`]), so that the caller can unpack once more from what is then whole.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use fluyt_image::{Blobs, Descriptor, Digest, Outcome};
use fluyt_model::{Error, Result};

/// Who is done, who failed.
#[derive(Default)]
pub(crate) struct Board {
    state: Mutex<State>,
    changed: Condvar,
    /// Set when the pull has failed: whoever fetches gives up.
    pub stop: AtomicBool,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Descriptor>,
    arrivals: HashMap<Digest, Arrival>,
    failed: Option<Error>,
    disturbed: bool,
}

/// How much of a blob is here.
#[derive(Default)]
struct Arrival {
    /// What it is being written to; `None` until the first byte, and when another process fetches it.
    file: Option<Arc<File>>,
    /// Bytes that are here, from the beginning.
    have: u64,
    /// How often its transfer has begun again.
    round: u32,
    /// All of it is here, and it is what it should be.
    whole: bool,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a blob to be fetched, once.
    pub fn enqueue(&self, blob: &Descriptor) {
        let mut state = self.lock();
        if !state.queue.iter().any(|d| d.digest == blob.digest) {
            state.queue.push_back(blob.clone());
        }
    }

    /// Whether any of what is to be fetched is not here yet.
    pub fn lacks_any(&self, blobs: &Blobs) -> bool {
        self.lock().queue.iter().any(|l| !blobs.has(&l.digest))
    }

    /// The next blob to fetch.
    pub fn next(&self) -> Option<Descriptor> {
        if self.stop.load(Ordering::Relaxed) { None } else { self.lock().queue.pop_front() }
    }

    /// The result of fetching a blob.
    pub fn report(&self, digest: &Digest, result: Result<Outcome>) {
        match result {
            Ok(_) => self.verified(digest),
            Err(e) => self.fail(e),
        }
    }

    /// Gives the pull up. The first failure is the cause of the others.
    pub fn fail(&self, e: Error) {
        self.stop.store(true, Ordering::Relaxed);
        self.lock().failed.get_or_insert(e);
        self.changed.notify_all();
    }

    /// Stops the pull without a failure of its own.
    pub fn give_up(&self) {
        self.stop.store(true, Ordering::Relaxed);
        // Under the lock, so that nobody who looked a moment ago misses it.
        drop(self.lock());
        self.changed.notify_all();
    }

    /// What made the pull fail.
    pub fn take_failure(&self) -> Option<Error> {
        self.lock().failed.take()
    }

    /// Whether a reader saw bytes that were thrown away afterwards.
    pub fn disturbed(&self) -> bool {
        self.lock().disturbed
    }

    /// A transfer writes to `file`, which has `have` bytes already. It goes on with the one before if that wrote to the
    /// same file.
    pub fn begun(&self, digest: &Digest, file: File, have: u64) {
        let mut state = self.lock();
        let arrival = state.arrivals.entry(digest.clone()).or_default();
        let goes_on = arrival.file.as_ref().is_some_and(|before| same_file(before, &file));
        if !goes_on || have < arrival.have {
            arrival.round += 1;
            arrival.file = Some(Arc::new(file));
        }
        arrival.have = have;
        drop(state);
        self.changed.notify_all();
    }

    /// The transfer has `have` bytes now.
    pub fn arrived(&self, digest: &Digest, have: u64) {
        let mut state = self.lock();
        let Some(arrival) = state.arrivals.get_mut(digest) else { return };
        if have < arrival.have {
            arrival.round += 1;
        }
        arrival.have = have;
        drop(state);
        self.changed.notify_all();
    }

    /// All of the blob is here and is what it should be.
    pub fn verified(&self, digest: &Digest) {
        self.lock().arrivals.entry(digest.clone()).or_default().whole = true;
        self.changed.notify_all();
    }

    /// Reads a layer from its beginning, as far as it is here, waiting for the rest.
    ///
    /// # Errors
    /// When its download, or another one, has failed before its first byte.
    pub fn open(self: &Arc<Self>, blobs: &Blobs, digest: &Digest) -> Result<Layer> {
        let mut state = self.lock();
        loop {
            if let Some(e) = &state.failed {
                return Err(Error::new(e.kind(), format!("layer {digest} was not downloaded")));
            }
            match state.arrivals.get(digest) {
                Some(Arrival { file: Some(file), round, .. }) => {
                    let (file, round) = (Arc::clone(file), *round);
                    let board = Arc::clone(self);
                    let digest = digest.clone();
                    return Ok(Layer(Source::Arriving { board, digest, file, round, at: 0 }));
                }
                // It was here before, or another process has fetched it.
                Some(Arrival { whole: true, .. }) => {
                    drop(state);
                    return blobs.open(digest).map(|file| Layer(Source::Whole(file)));
                }
                _ if self.stop.load(Ordering::Relaxed) => return Err(given_up(digest)),
                _ => {}
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until more than `at` bytes of a blob are here: how many; `at` itself at its end.
    fn wait_beyond(&self, digest: &Digest, round: u32, at: u64) -> io::Result<u64> {
        let mut state = self.lock();
        loop {
            let Some(arrival) = state.arrivals.get(digest) else {
                return Err(io::Error::other(given_up(digest)));
            };
            if arrival.round != round {
                state.disturbed = true;
                return Err(io::Error::other(format!("the download of layer {digest} began again")));
            }
            if arrival.have > at || arrival.whole {
                return Ok(arrival.have);
            }
            if state.failed.is_some() || self.stop.load(Ordering::Relaxed) {
                return Err(io::Error::other(given_up(digest)));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// An open file keeps its inode number from being given to another.
fn same_file(one: &File, other: &File) -> bool {
    let id = |file: &File| file.metadata().ok().map(|m| (m.dev(), m.ino()));
    id(one).is_some_and(|one| id(other) == Some(one))
}

fn given_up(digest: &Digest) -> Error {
    Error::new(fluyt_model::Kind::Unavailable, format!("layer {digest} was not downloaded"))
}

/// A layer, as it is in its registry (compressed, mostly).
#[derive(Debug)]
pub struct Layer(Source);

enum Source {
    /// All of it is in the store.
    Whole(File),
    /// It is being downloaded.
    Arriving {
        board: Arc<Board>,
        digest: Digest,
        file: Arc<File>,
        /// The transfer that this reads from.
        round: u32,
        /// Bytes read so far.
        at: u64,
    },
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Whole(_) => "Whole",
            Self::Arriving { .. } => "Arriving",
        })
    }
}

impl Read for Layer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Source::Whole(file) => file.read(buffer),
            Source::Arriving { board, digest, file, round, at } => {
                let have = board.wait_beyond(digest, *round, *at)?;
                let most = usize::try_from(have - *at).unwrap_or(usize::MAX).min(buffer.len());
                if most == 0 {
                    return Ok(0);
                }
                let n = file.read_at(&mut buffer[..most], *at)?;
                if n == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                *at += n as u64;
                Ok(n)
            }
        }
    }
}
