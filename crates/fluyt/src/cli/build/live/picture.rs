//! The lines of a picture: a header, the operations, and windows with the output of those that run. Pure.
//!
//! A picture that is drawn over never has more rows than the terminal; the last one has everything.

use std::time::Instant;

use super::board::{Board, Job, Outcome};
use super::width;

/// Rows of a window.
const WINDOW: usize = 6;
/// Columns that the name of an operation must have left to be worth showing.
const LEAST: usize = 12;

/// What a line is, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing special.
    Plain,
    /// Of an operation that is done.
    Done,
    /// Of one that was given up.
    Canceled,
    /// Of one that failed.
    Failed,
    /// Output.
    Log,
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Without colours.
    pub text: String,
    /// What it is.
    pub kind: Kind,
}

/// Of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Its width.
    pub columns: usize,
    /// Its height.
    pub rows: usize,
}

/// The picture of a board; `last`: it stays.
pub fn draw(board: &mut Board, now: Instant, size: Size, last: bool) -> Vec<Line> {
    if last {
        board.give_up(now);
    }
    // The last column stays free: there terminals differ in when they begin a new line.
    let columns = size.columns.saturating_sub(1).max(1);
    let (done, total) = board.counts();
    let seconds = now.saturating_duration_since(board.began).as_secs_f64();
    let end = if last && done == total { " FINISHED" } else { "" };
    let header = format!("[+] Building {seconds:.1}s ({done}/{total}){end}");
    let mut lines = vec![Line { text: width::cut(&header, columns).to_owned(), kind: Kind::Plain }];
    let rows = size.rows.saturating_sub(2);
    let windows = if last { Vec::new() } else { windows(board, rows) };
    let room =
        if last { usize::MAX } else { rows.saturating_sub(windows.iter().map(|(_, l)| l.len()).sum()) };
    for (at, first) in shown(board, room) {
        let job = &board.jobs[at];
        lines.extend(job_line(job, now, columns));
        if !first {
            continue;
        }
        for note in &job.notes {
            let text = format!(" => => {note}");
            lines.push(Line { text: width::cut(&text, columns).to_owned(), kind: Kind::Done });
        }
        for (_, window) in windows.iter().filter(|(window, _)| *window == at) {
            for line in window {
                let text = format!(" => => # {line}");
                lines.push(Line { text: width::cut(&text, columns).to_owned(), kind: Kind::Log });
            }
        }
    }
    if !last {
        lines.truncate(size.rows.saturating_sub(1).max(1));
    }
    lines
}

/// Which operations get a window, and what is in it: those that write most, as long as there is room.
fn windows(board: &Board, rows: usize) -> Vec<(usize, Vec<String>)> {
    let mut writing: Vec<usize> =
        (0..board.jobs.len()).filter(|at| board.jobs[*at].runs() && board.jobs[*at].written > 0).collect();
    writing.sort_by_key(|at| std::cmp::Reverse(board.jobs[*at].written));
    let running = board.jobs.iter().filter(|job| job.runs()).count();
    let mut free = rows.saturating_sub(running);
    let mut found = Vec::new();
    for at in writing {
        let lines = board.jobs[at].last_lines(WINDOW.min(free));
        if lines.is_empty() {
            continue;
        }
        free -= lines.len();
        found.push((at, lines));
    }
    found
}

/// The operations that fit into so many rows, with whether their notes do: all that run, and of the others the last.
fn shown(board: &Board, room: usize) -> Vec<(usize, bool)> {
    let mut left = room;
    let mut chosen = Vec::new();
    for (at, job) in board.jobs.iter().enumerate().rev().filter(|(_, job)| job.runs()) {
        if left > 0 {
            left -= 1;
            chosen.push((at, job.notes.is_empty() || left > 0));
        }
    }
    for (at, job) in board.jobs.iter().enumerate().rev().filter(|(_, job)| !job.runs()) {
        if left == 0 {
            break;
        }
        left -= 1;
        let notes = job.notes.len() <= left;
        if notes {
            left -= job.notes.len();
        }
        chosen.push((at, notes));
    }
    chosen.sort_unstable();
    chosen
}

fn job_line(job: &Job, now: Instant, columns: usize) -> Option<Line> {
    let (mark, kind) = match job.end {
        None => ("", Kind::Plain),
        Some((Outcome::Done, _)) => ("", Kind::Done),
        Some((Outcome::Cached, _)) => ("CACHED ", Kind::Done),
        Some((Outcome::Failed, _)) => ("ERROR ", Kind::Failed),
        Some((Outcome::Canceled, _)) => ("CANCELED ", Kind::Canceled),
    };
    let seconds = job.time(now).as_secs_f64();
    let timer = format!(" {:.1}s", if seconds < 0.05 { 0.0 } else { seconds });
    let left = columns.saturating_sub(4 + timer.len());
    if left < LEAST {
        // Too narrow for times.
        let text = format!(" => {mark}{}", job.name);
        return Some(Line { text: width::cut(&text, columns).to_owned(), kind });
    }
    let name = format!("{mark}{}", job.name);
    let name = width::cut(&name, left);
    let gap = left - width::of(name);
    Some(Line { text: format!(" => {name}{}{timer}", " ".repeat(gap)), kind })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::board::Key;
    use super::*;

    fn board(now: Instant) -> Board {
        let mut board = Board::new(30, now);
        for n in 0..20 {
            board.begin(Key::Vertex(n), &format!("[{n}/30] RUN step"), now);
            if n != 2 {
                board.end(&Key::Vertex(n), Outcome::Done, &[], now + Duration::from_secs(1));
            }
        }
        board.write(&Key::Vertex(2), b"one\ntwo\n");
        board
    }

    #[test]
    fn a_picture_fits_its_terminal() {
        let now = Instant::now();
        for rows in 1..30 {
            for columns in [1, 3, 8, 15, 20, 40, 200] {
                let lines = draw(&mut board(now), now, Size { columns, rows }, false);
                assert!(lines.len() < rows.max(2), "{rows} rows: {}", lines.len());
                assert!(lines.iter().all(|l| width::of(&l.text) < columns.max(2)), "{columns} columns");
            }
        }
    }

    #[test]
    fn what_runs_is_always_there() {
        let now = Instant::now();
        let lines = draw(&mut board(now), now + Duration::from_secs(3), Size { columns: 40, rows: 8 }, false);
        let texts: Vec<&str> = lines.iter().map(|l| l.text.as_str()).collect();
        assert_eq!(texts[0], "[+] Building 3.0s (19/30)");
        assert!(texts[1].starts_with(" => [2/30] RUN step") && texts[1].ends_with(" 3.0s"), "{texts:?}");
        assert_eq!(texts[2..4], [" => => # one", " => => # two"]);
        assert!(texts.last().unwrap().contains("[19/30]"));
    }

    #[test]
    fn the_last_picture_has_everything() {
        let now = Instant::now();
        let lines = draw(&mut board(now), now, Size { columns: 40, rows: 8 }, true);
        assert_eq!(lines.len(), 21);
        assert!(lines[3].text.starts_with(" => CANCELED [2/30]"));
        assert_eq!(lines[3].kind, Kind::Canceled);
    }
}
