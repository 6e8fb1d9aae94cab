//! The Docker-compatible command line.

pub mod create;
pub mod fail;
pub mod filter;
pub mod flags;
pub mod format;
pub mod render;
pub mod terminal;
pub mod time;

use std::io::Write;

use fluyt_model::Result;
use fluyt_model::error::IoContext;

/// Prints a line on standard output.
///
/// # Errors
/// Standard output cannot be written.
pub fn print_line(line: &str) -> Result<()> {
    print_text(&format!("{line}\n"))
}

/// Prints on standard output.
///
/// # Errors
/// Standard output cannot be written.
pub fn print_text(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).about(|| "standard output")
}
