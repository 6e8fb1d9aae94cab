//! Layers: tar archives in overlay form on disk, and back.
//!
//! - [`header`] and [`reader`] parse archives without trusting them; [`codec`] takes off compression, [`gzip`] puts it on.
//! - [`extract`] writes entries below one directory and nowhere else; [`unpack`] runs it for many layers at once.
//! - [`writer`] makes deterministic archives; `walk` reads directories, also merged ones; `pack` joins the two.

pub mod codec;
pub(crate) mod complete;
pub(crate) mod copy;
pub(crate) mod extract;
pub mod gzip;
pub mod header;
pub(crate) mod pack;
pub mod reader;
pub mod unpack;
pub(crate) mod walk;
pub mod writer;

/// Bounds on what one layer may contain, against archives made to fill a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes that the uncompressed archive may have.
    pub total: u64,
    /// The most entries.
    pub entries: u64,
    /// The most times that the uncompressed archive may be larger than what was read of the compressed one; looked
    /// at once more than [`Limits::RATIO_FROM`] bytes came out.
    pub ratio: u64,
}

impl Limits {
    /// Bytes that any layer may have, whatever its ratio.
    pub const RATIO_FROM: u64 = 1 << 30;
    /// The longest apparent size of a sparse file.
    pub const MAX_FILE: u64 = 1 << 44;
}

impl Default for Limits {
    fn default() -> Self {
        Self { total: 256 << 30, entries: 8_000_000, ratio: 250 }
    }
}
