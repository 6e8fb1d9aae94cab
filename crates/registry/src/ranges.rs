//! A large blob over several connections, where one alone is slow: while the first goes on, others fetch what comes
//! later, in segments; when the first reaches what they have, they do the rest.
//!
//! ```text
//! |--- first connection ---|-- segment 0 --|-- segment 1 --|-- … --|
//! 0            begin       base                                   size
//! ```
//! Segments are kept in memory until it is their turn, at most [`WINDOW`] of them, so what is on disk is always the
//! blob's beginning without gaps: it can be hashed, read and resumed as any other. A server that does not keep to
//! ranges loses nothing, the first connection simply goes on.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use fluyt_model::{Error, Kind, Result};
use ureq::http::StatusCode;

use crate::download::{Break, Download, range_of};
use crate::http::{Ask, read_error};

/// Bytes of one segment.
pub(crate) const SEGMENT: u64 = 4 << 20;
/// Segments in memory, fetched or being fetched.
const WINDOW: u64 = 8;

/// The segments of one blob.
pub(crate) struct Segments {
    /// Where the first one begins.
    pub base: u64,
    size: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The next one that nobody fetches.
    next: u64,
    /// Those below this are written.
    written: u64,
    fetched: BTreeMap<u64, Vec<u8>>,
    /// A server has answered with a range.
    confirmed: bool,
    over: bool,
    failed: Option<Error>,
}

impl Segments {
    /// Those of a blob of `size` bytes from `base` on.
    pub fn new(base: u64, size: u64) -> Self {
        Self { base, size, state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self) -> u64 {
        (self.size - self.base).div_ceil(SEGMENT)
    }

    /// First and last byte of a segment.
    fn bounds(&self, index: u64) -> (u64, u64) {
        let start = self.base + index * SEGMENT;
        (start, (start + SEGMENT).min(self.size) - 1)
    }

    /// Whether the first connection may stop at the base.
    pub fn work(&self) -> bool {
        let state = self.lock();
        state.confirmed && state.failed.is_none()
    }

    /// Ends the fetching.
    pub fn end(&self) {
        self.lock().over = true;
        self.changed.notify_all();
    }

    fn is_over(&self) -> bool {
        self.lock().over
    }

    /// Fetches segments until none is left; to be run by several threads.
    pub fn fetch(&self, download: &Download<'_>) {
        while let Some(index) = self.claim() {
            let result = self.fetch_one(download, index);
            let mut state = self.lock();
            match result {
                Ok(bytes) => {
                    state.fetched.insert(index, bytes);
                }
                Err(e) => {
                    state.over = true;
                    state.failed.get_or_insert(e);
                }
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    fn claim(&self) -> Option<u64> {
        let mut state = self.lock();
        loop {
            if state.over || state.next >= self.count() {
                return None;
            }
            if state.next < state.written + WINDOW {
                state.next += 1;
                return Some(state.next - 1);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn fetch_one(&self, download: &Download<'_>, index: u64) -> Result<Vec<u8>> {
        let settings = &download.remote.settings;
        for attempt in 1.. {
            let error = match self.try_one(download, index) {
                Ok(bytes) => return Ok(bytes),
                Err(Break::Final(e)) => return Err(e),
                Err(Break::Again(e, _)) => e,
            };
            if attempt >= settings.attempts || error.kind() == Kind::Timeout || self.is_over() {
                return Err(error);
            }
            std::thread::sleep(download.remote.pause(attempt));
        }
        Err(Error::internal("unreachable: the last attempt returns"))
    }

    fn try_one(&self, download: &Download<'_>, index: u64) -> Result<Vec<u8>, Break> {
        let (first, last) = self.bounds(index);
        let mut ask =
            Ask::get(download.url(), download.what()).header("range", format!("bytes={first}-{last}"));
        let answer = download.send(&mut ask)?;
        match answer.status {
            StatusCode::PARTIAL_CONTENT if range_of(&answer) == Some((first, Some(last))) => {}
            status if status.is_success() => {
                return Err(Break::Final(Error::new(Kind::Unavailable, "the registry gives no ranges")));
            }
            _ => return Err(download.refused(answer)),
        }
        self.lock().confirmed = true;
        let length = usize::try_from(last - first + 1).unwrap_or(usize::MAX);
        let url = answer.url.clone();
        let mut reader = answer.reader();
        let mut bytes = vec![0; length];
        let mut have = 0;
        while have < length {
            if self.is_over() || download.stop.load(Ordering::Relaxed) {
                return Err(Break::Final(Error::new(Kind::Unavailable, "not needed any more")));
            }
            let step = (have + (128 << 10)).min(length);
            match reader.read(&mut bytes[have..step]) {
                Ok(0) => {
                    let e = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                    return Err(Break::Again(read_error(&url, &download.what(), e), false));
                }
                Ok(n) => have += n,
                Err(e) => return Err(Break::Again(read_error(&url, &download.what(), e), false)),
            }
        }
        Ok(bytes)
    }

    /// The segments in order, each given to `write` as soon as it is here.
    pub fn collect(&self, mut write: impl FnMut(&[u8]) -> Result<(), Break>) -> Result<(), Break> {
        for index in 0..self.count() {
            let bytes = {
                let mut state = self.lock();
                loop {
                    if let Some(bytes) = state.fetched.remove(&index) {
                        break bytes;
                    }
                    if let Some(e) = state.failed.take() {
                        return Err(Break::Again(e, true));
                    }
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            };
            write(&bytes)?;
            self.lock().written = index + 1;
            self.changed.notify_all();
        }
        Ok(())
    }
}
