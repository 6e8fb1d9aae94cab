//! What a build's process is told, and what nobody else on the machine is to read: its words, which carry the values of
//! build arguments and the addresses with passwords that a client gave (every user reads the command line of every
//! process), and secrets. It lies in memory, has no name in any directory, and goes with this process however that ends.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::cli;

/// The first word of a process that reads the others: `fluyt told FILE`.
pub const ROLE: &str = "told";

/// Bytes for a process of this user that was started here. Only for as long as this lives can they be read.
pub struct Hidden(OwnedFd);

impl Hidden {
    /// Keeps bytes.
    ///
    /// # Errors
    /// No memory, no descriptor is free.
    pub fn new(content: &[u8]) -> Result<Self> {
        let about = || "memory for a build's process";
        let mut file = File::from(memfd_create("build", MemfdFlags::CLOEXEC).about(about)?);
        file.write_all(content).about(about)?;
        Ok(Self(file.into()))
    }

    /// Keeps words for [`main`].
    ///
    /// # Errors
    /// As [`Hidden::new`]; a word with a zero byte.
    pub fn words<'a>(words: impl IntoIterator<Item = &'a OsStr>) -> Result<Self> {
        let mut content = Vec::new();
        for word in words {
            // It would be the end of the word.
            if word.as_bytes().contains(&0) {
                return Err(Error::invalid(format!("{}: a zero byte in it", word.to_string_lossy())));
            }
            content.extend_from_slice(word.as_bytes());
            content.push(0);
        }
        Self::new(&content)
    }

    /// Where a process that was started here finds them.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

/// The role [`ROLE`]: the command line with the words of a file.
pub fn main(args: &[String]) -> i32 {
    let path = args.first().map(String::as_str).unwrap_or_default();
    match std::fs::read(path).about(|| path.to_owned()) {
        Ok(text) => {
            let words = text.strip_suffix(&[0]).unwrap_or(&text).split(|byte| *byte == 0);
            cli::main(words.map(|word| OsStr::from_bytes(word).to_owned()).collect::<Vec<OsString>>())
        }
        Err(error) => {
            cli::fail::print(&error);
            125
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back_by_path_for_as_long_as_they_are_kept() {
        let kept = Hidden::words(["build", "--build-arg=A=x y", ""].map(OsStr::new)).unwrap();
        let path = kept.path();
        for _ in 0..2 {
            assert_eq!(std::fs::read(&path).unwrap(), b"build\0--build-arg=A=x y\0\0");
        }
        drop(kept);
        assert!(std::fs::read(&path).is_err());
        assert!(Hidden::words([OsStr::new("a\0b")]).is_err());
    }
}
