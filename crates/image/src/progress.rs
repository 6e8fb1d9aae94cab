//! How long operations tell what they are doing. No terminal code: a caller draws what it is told.

/// How an item of work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// Nothing had to be done: it was there already.
    Exists,
    /// It failed; the error is returned by the operation itself.
    Failed,
}

/// Receives what a long operation does. Items may overlap, and calls may come from several threads.
///
/// An item is named by a short text that is unique within the operation, by convention
/// `verb digest-or-name`, for instance `Extracting sha256:…`.
pub trait Progress: Sync {
    /// Work on `item` begins; `total` is its size in bytes when that is known.
    fn begin(&self, item: &str, total: Option<u64>);
    /// `bytes` more of `item` are done.
    fn advance(&self, item: &str, bytes: u64);
    /// Work on `item` ended.
    fn finish(&self, item: &str, outcome: Outcome);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: &str, _: u64) {}
    fn finish(&self, _: &str, _: Outcome) {}
}
