//! `-o FILE`: data that goes to a file or to standard output.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};

/// Writes to a file, which appears only when it is complete, or to standard output, which must not be a terminal.
///
/// # Errors
/// Those of `write`; the file cannot be made.
pub fn to_output(
    path: Option<&str>,
    write: impl FnOnce(&mut (dyn Write + Send)) -> Result<()>,
) -> Result<()> {
    let Some(path) = path.filter(|p| *p != "-") else {
        if std::io::stdout().is_terminal() {
            return Err(Error::invalid("cowardly refusing to save to a terminal")
                .with_hint("use the -o flag or redirect"));
        }
        let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout());
        write(&mut out)?;
        return out.flush().about(|| "standard output");
    };
    let target = Path::new(path);
    if target.is_dir() {
        return Err(Error::invalid(format!("{path} is a directory")).with_hint("name a file in it"));
    }
    // What is no regular file (a pipe, /dev/stdout) cannot be replaced.
    if target.exists() && !target.is_file() {
        let file = File::options().write(true).open(target).about(|| path.to_owned())?;
        return write_file(file, path, write);
    }
    let temporary = PathBuf::from(format!("{path}.{}.tmp", std::process::id()));
    let file = File::create(&temporary).about(|| path.to_owned())?;
    let done = write_file(file, path, write)
        .and_then(|()| std::fs::rename(&temporary, target).about(|| path.to_owned()));
    if done.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    done
}

fn write_file(
    file: File,
    path: &str,
    write: impl FnOnce(&mut (dyn Write + Send)) -> Result<()>,
) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, file);
    write(&mut out)?;
    out.flush().about(|| path.to_owned())
}
