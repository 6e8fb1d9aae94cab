//! The user's terminal: raw mode, size, detach keys, and the pump between it and a container.

pub use fluyt_docker_api::keys;
pub mod pump;

use std::io::{BufRead, IsTerminal, Write, stderr, stdin, stdout};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use rustix::termios::{self, OptionalActions, Termios};

/// Whether standard input is a terminal.
pub fn stdin_is_terminal() -> bool {
    stdin().is_terminal()
}

/// Whether standard output is a terminal.
pub fn stdout_is_terminal() -> bool {
    stdout().is_terminal()
}

/// Whether standard error is a terminal.
pub fn stderr_is_terminal() -> bool {
    stderr().is_terminal()
}

/// Rows and columns of the terminal at standard output (or input), if there is one.
pub fn size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(stdout()).or_else(|_| termios::tcgetwinsize(stdin())).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Columns for help texts.
pub fn columns() -> usize {
    size().map_or(80, |(_, columns)| usize::from(columns))
}

/// Raw mode of the terminal at standard input; the mode before comes back when this is dropped.
///
/// The process never ends by `exit` while one is alive: commands return their code.
#[derive(Debug)]
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Enters raw mode; `None` if standard input is no terminal.
    ///
    /// # Errors
    /// The terminal refuses.
    pub fn enter() -> Result<Option<Self>> {
        if !stdin_is_terminal() {
            return Ok(None);
        }
        let before = termios::tcgetattr(stdin()).about(|| "the terminal's mode")?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(stdin(), OptionalActions::Now, &raw).about(|| "the terminal's mode")?;
        Ok(Some(Self { before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

/// Refuses `-t` with an input that is no terminal, in Docker's words.
///
/// # Errors
/// `Invalid`.
pub fn check_tty(attach_stdin: bool, tty: bool) -> Result<()> {
    if attach_stdin && tty && !stdin_is_terminal() {
        return Err(Error::invalid("the input device is not a TTY")
            .with_hint("leave out -t when standard input is a pipe or a file"));
    }
    Ok(())
}

/// Asks a yes-or-no question on standard error; anything but `y` or `yes` is no.
pub fn confirm(question: &str) -> bool {
    let _ = write!(stderr(), "{question} [y/N] ");
    let mut answer = String::new();
    if stdin().lock().read_line(&mut answer).is_err() {
        return false;
    }
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// Reads a line without showing it, if standard input is a terminal.
///
/// # Errors
/// Standard input cannot be read.
pub fn read_secret(prompt: &str) -> Result<String> {
    let _ = write!(stderr(), "{prompt}");
    let before = termios::tcgetattr(stdin()).ok();
    if let Some(before) = &before {
        let mut silent = before.clone();
        silent.local_modes.remove(termios::LocalModes::ECHO);
        termios::tcsetattr(stdin(), OptionalActions::Now, &silent).about(|| "the terminal's mode")?;
    }
    let mut line = String::new();
    let read = stdin().lock().read_line(&mut line);
    if let Some(before) = &before {
        let _ = termios::tcsetattr(stdin(), OptionalActions::Now, before);
        let _ = writeln!(stderr());
    }
    read.about(|| "standard input")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
