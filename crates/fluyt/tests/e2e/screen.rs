//! A terminal for tests: a pseudo-terminal, and what a person would see on it.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use fluyt_testkit::wait;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

/// The screen: lines that have scrolled away, then those that are there.
#[derive(Clone, Debug, Default)]
pub struct Screen {
    columns: usize,
    rows: usize,
    lines: Vec<Vec<char>>,
    /// The row in `lines`, and the column.
    at: (usize, usize),
    /// Whether the cursor can be seen.
    pub cursor: bool,
    pending: Vec<u8>,
}

impl Screen {
    fn new(columns: usize, rows: usize) -> Self {
        Self { columns, rows, lines: vec![Vec::new()], cursor: true, ..Self::default() }
    }

    /// Everything that was and is on it.
    pub fn text(&self) -> String {
        let line = |line: &Vec<char>| line.iter().collect::<String>().trim_end().to_owned();
        self.lines.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.pending) {
            Ok(text) => text.len(),
            Err(e) => e.valid_up_to(),
        };
        let text = String::from_utf8_lossy(&self.pending[..whole]).into_owned();
        let mut rest = text.as_str();
        while let Some(c) = rest.chars().next() {
            let next = match self.sequence(rest) {
                Some(length) => length,
                // A sequence that has not arrived whole.
                None if c == '\x1b' => break,
                None => {
                    self.put(c);
                    c.len_utf8()
                }
            };
            rest = &rest[next..];
        }
        let used = whole - rest.len();
        self.pending.drain(..used);
    }

    /// Obeys an escape sequence at the beginning of the text; its length.
    fn sequence(&mut self, text: &str) -> Option<usize> {
        let body = text.strip_prefix("\x1b[")?;
        let end = body.find(|c: char| ('@'..='~').contains(&c))?;
        let (parameters, last) = (&body[..end], body.as_bytes()[end]);
        let number = parameters.parse::<usize>().unwrap_or(1);
        match last {
            // Not above the screen.
            b'A' => {
                let top = self.lines.len().saturating_sub(self.rows);
                self.at.0 = self.at.0.saturating_sub(number).max(top);
            }
            b'K' => {
                let (row, column) = self.at;
                self.lines[row].truncate(column);
            }
            b'J' => {
                let (row, column) = self.at;
                self.lines[row].truncate(column);
                self.lines.truncate(row + 1);
            }
            b'h' | b'l' if parameters == "?25" => self.cursor = last == b'h',
            b'm' => {}
            other => panic!("the terminal does not know {parameters:?} {:?}", char::from(other)),
        }
        Some(2 + end + 1)
    }

    fn put(&mut self, c: char) {
        match c {
            '\r' => self.at.1 = 0,
            '\n' => {
                self.at.0 += 1;
                if self.at.0 == self.lines.len() {
                    self.lines.push(Vec::new());
                }
            }
            c => {
                if self.at.1 == self.columns {
                    self.put('\r');
                    self.put('\n');
                }
                let (row, column) = self.at;
                let line = &mut self.lines[row];
                while line.len() <= column {
                    line.push(' ');
                }
                line[column] = c;
                self.at.1 += 1;
            }
        }
    }
}

/// A program whose standard error is a terminal.
pub struct OnTerminal {
    /// The program.
    pub child: Child,
    screen: Arc<Mutex<Screen>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl OnTerminal {
    /// Starts it on a terminal of this size.
    pub fn start(mut command: Command, columns: u16, rows: u16) -> Self {
        let (ours, theirs) = pair(columns, rows);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(theirs));
        command.env("TERM", "xterm").env_remove("NO_COLOR").env_remove("BUILDKIT_PROGRESS");
        let child = command.spawn().expect("the program");
        // The command holds the other end too; it would keep the terminal open.
        drop(command);
        let screen = Arc::new(Mutex::new(Screen::new(usize::from(columns), usize::from(rows))));
        let theirs = Arc::clone(&screen);
        let reader = std::thread::spawn(move || {
            let mut file = std::fs::File::from(ours);
            let mut buffer = [0; 4096];
            // A terminal that nobody has open any more fails to be read.
            while let Ok(n @ 1..) = file.read(&mut buffer) {
                theirs.lock().unwrap_or_else(PoisonError::into_inner).feed(&buffer[..n]);
            }
        });
        Self { child, screen, reader: Some(reader) }
    }

    /// What is on the terminal now.
    pub fn screen(&self) -> Screen {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it shows something.
    pub fn wait_for(&self, needle: &str) {
        wait::until(&format!("{needle:?} on the terminal"), 60, || {
            self.screen().text().contains(needle).then_some(())
        });
    }

    /// Waits for the end; the exit code and the last screen.
    pub fn finish(mut self) -> (Option<i32>, Screen) {
        let status = self.child.wait().expect("an end");
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader");
        }
        (status.code(), self.screen())
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pair(columns: u16, rows: u16) -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = rustix::pty::openpt(flags).expect("a terminal");
    rustix::pty::grantpt(&ours).expect("a terminal");
    rustix::pty::unlockpt(&ours).expect("a terminal");
    let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, flags).expect("its other end");
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(theirs.as_fd(), size).expect("its size");
    (ours, theirs)
}
