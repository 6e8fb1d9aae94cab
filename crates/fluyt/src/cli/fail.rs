//! How a command ends: the one table from error kinds to exit codes, and the one place that prints errors.

use std::io::Write;

use fluyt_model::{Error, Kind};

/// Why a command does not end with 0.
#[derive(Debug)]
pub enum Failure {
    /// It failed; `context` decides about the exit code.
    Error(Error),
    /// It failed with this exit code.
    Coded(Error, i32),
    /// Everything is said; only the exit code is left (a container's own, for example).
    Code(i32),
    /// The command line is not understood: a sentence, the usage, the exit code.
    Usage {
        /// What is wrong.
        sentence: String,
        /// What would be right.
        usage: String,
        /// 125 for flags, 1 for arguments, as with Docker.
        code: i32,
    },
}

/// The result of a command: its exit code.
pub type Outcome = Result<i32, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Which commands fail with which codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// `run`, `start`, `exec`: 126 and 127 are the command's, 125 is ours.
    Process,
    /// All others.
    Plain,
}

/// The exit code of a failed command.
pub fn exit_code(kind: Kind, context: Context) -> i32 {
    match (context, kind) {
        (Context::Process, Kind::CommandNotFound) => 127,
        (Context::Process, Kind::CommandNotExecutable) => 126,
        (Context::Process, _) => 125,
        (Context::Plain, _) => 1,
    }
}

/// The exit code of an outcome; a failure is printed.
pub fn report_outcome(outcome: Outcome, context: Context) -> i32 {
    outcome.unwrap_or_else(|failure| report(failure, context))
}

/// Prints what there is to print and returns the exit code.
pub fn report(failure: Failure, context: Context) -> i32 {
    match failure {
        // Whoever read our output has gone; there is nobody to tell.
        Failure::Error(error) if is_broken_pipe(&error) => 141,
        Failure::Error(error) => {
            print(&error);
            exit_code(error.kind(), context)
        }
        Failure::Coded(error, code) => {
            print(&error);
            code
        }
        Failure::Code(code) => code,
        Failure::Usage { sentence, usage, code } => {
            let _ = write!(std::io::stderr(), "{sentence}\n\n{usage}\n");
            code
        }
    }
}

fn is_broken_pipe(error: &Error) -> bool {
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return io.kind() == std::io::ErrorKind::BrokenPipe && error.to_string().starts_with("standard");
        }
        next = cause.source();
    }
    false
}

/// Prints an error with its causes and its hint.
pub fn print(error: &Error) {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "fluyt: {}", error.chain());
    if let Some(hint) = error.hint() {
        let _ = writeln!(err, "hint: {hint}");
    }
}

/// Prints an error without the program's name in front, as `inspect` does.
pub fn print_bare(error: &Error) {
    let _ = writeln!(std::io::stderr().lock(), "{}", error.chain());
}

/// Does `action` for each name, prints what it returns, goes on after failures, and fails if one failed.
///
/// # Errors
/// `Failure::Code(1)` after the errors have been printed.
pub fn for_each<'a>(
    names: impl IntoIterator<Item = &'a String>,
    mut action: impl FnMut(&str) -> fluyt_model::Result<Option<String>>,
) -> Outcome {
    let mut failed = false;
    for name in names {
        match action(name) {
            Ok(Some(line)) => super::print_line(&line)?,
            Ok(None) => {}
            Err(error) => {
                print(&error);
                failed = true;
            }
        }
    }
    if failed { Err(Failure::Code(1)) } else { Ok(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        for (kind, context, code) in [
            (Kind::CommandNotFound, Context::Process, 127),
            (Kind::CommandNotExecutable, Context::Process, 126),
            (Kind::NotFound, Context::Process, 125),
            (Kind::CommandNotFound, Context::Plain, 1),
            (Kind::Invalid, Context::Plain, 1),
        ] {
            assert_eq!(exit_code(kind, context), code);
        }
    }
}
