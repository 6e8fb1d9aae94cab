//! The progress of a build on a terminal: drawn anew ten times a second, in place, by a thread of its own.
//!
//! Every picture is one write that leaves the cursor visible below it, so that the terminal is as it should be at any
//! moment at which the process may end.

mod board;
mod colors;
mod picture;
mod width;

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use board::{Board, Key, Outcome};
pub use colors::Colors;
use picture::{Line, Size};

/// The time between pictures.
const RATE: Duration = Duration::from_millis(100);

/// A display that lives.
pub struct Live {
    shared: Arc<Shared>,
    drawer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    board: Mutex<State>,
    changed: Condvar,
}

struct State {
    board: Board,
    ended: bool,
}

impl Live {
    /// Begins to show a build of so many operations.
    pub fn start(total: usize) -> Self {
        let board = Board::new(total, Instant::now());
        let shared =
            Arc::new(Shared { board: Mutex::new(State { board, ended: false }), changed: Condvar::new() });
        let theirs = Arc::clone(&shared);
        let drawer = std::thread::spawn(move || draw(&theirs));
        Self { shared, drawer: Mutex::new(Some(drawer)) }
    }

    /// Changes what is shown.
    pub fn update(&self, change: impl FnOnce(&mut Board)) {
        let mut state = self.shared.board.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state.board);
    }

    /// Draws the last picture, with everything in it; nothing is drawn after that.
    pub fn finish(&self) {
        self.shared.board.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.shared.changed.notify_all();
        if let Some(drawer) = self.drawer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A thread that failed has nothing to say that could be shown.
            let _ = drawer.join();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.finish();
    }
}

fn draw(shared: &Shared) {
    let colors = Colors::from_env(&|name| std::env::var(name).ok());
    let mut screen = Screen::default();
    let mut state = shared.board.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let ended = state.ended;
        let size = size();
        let lines = picture::draw(&mut state.board, Instant::now(), size, ended);
        drop(state);
        let bytes = screen.paint(&lines, size, &colors);
        // Nobody can be told that standard error is closed.
        let _ = std::io::stderr().lock().write_all(&bytes);
        if ended {
            return;
        }
        state = shared.board.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.ended {
            let waited = shared.changed.wait_timeout(state, RATE);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The size of the terminal at standard error.
fn size() -> Size {
    match rustix::termios::tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Size { columns: usize::from(size.ws_col), rows: usize::from(size.ws_row) }
        }
        _ => Size { columns: 80, rows: 24 },
    }
}

/// What is on the terminal now.
#[derive(Default)]
struct Screen {
    /// The columns that each line of the last picture takes.
    widths: Vec<usize>,
}

impl Screen {
    /// The bytes that turn the last picture into this one.
    fn paint(&mut self, lines: &[Line], size: Size, colors: &Colors) -> Vec<u8> {
        let mut out = String::from("\x1b[?25l\r");
        // A terminal that became narrower has broken lines that were longer.
        let rows: usize = self.widths.iter().map(|width| width.div_ceil(size.columns).max(1)).sum();
        let up = rows.min(size.rows.saturating_sub(1));
        if up > 0 {
            out.push_str(&format!("\x1b[{up}A"));
        }
        self.widths.clear();
        for line in lines {
            let (before, after) = colors.around(line.kind);
            out.push_str(&format!("{before}{}{after}\x1b[K\n", line.text));
            self.widths.push(width::of(&line.text));
        }
        out.push_str("\x1b[J\x1b[?25h");
        out.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picture::Kind;

    #[test]
    fn a_picture_is_painted_over_the_last_one() {
        let mut screen = Screen::default();
        let size = Size { columns: 20, rows: 10 };
        let line = |text: &str| Line { text: text.to_owned(), kind: Kind::Plain };
        let none = Colors::default();
        let first = screen.paint(&[line("a"), line("b")], size, &none);
        assert_eq!(first, b"\x1b[?25l\ra\x1b[K\nb\x1b[K\n\x1b[J\x1b[?25h");
        let second = screen.paint(&[line("0123456789")], size, &none);
        assert!(second.starts_with(b"\x1b[?25l\r\x1b[2A"));
        // Ten columns on a terminal that has only four left are three rows.
        let third = screen.paint(&[line("x")], Size { columns: 4, rows: 10 }, &none);
        assert!(third.starts_with(b"\x1b[?25l\r\x1b[3A"));
    }
}
