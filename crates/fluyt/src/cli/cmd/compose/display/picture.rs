//! A board as lines of a terminal, as docker compose draws it. Pure.

use std::time::Duration;

use fluyt_compose::execute::State;
use fluyt_model::quantity::human_size;

use super::board::{Board, Row};

/// What turns while something is being done, ten pictures a second.
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
/// How much of a part is done.
const FILLED: [&str; 9] = ["⠀", "⡀", "⣀", "⣄", "⣤", "⣦", "⣶", "⣷", "⣿"];
const GREEN: &str = "32";
const YELLOW: &str = "33";
const RED: &str = "31";
const BLUE: &str = "34";

/// The room that there is, and how it may be used.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// What is done: `up`, `down`.
    pub operation: &'a str,
    /// Columns of the terminal.
    pub columns: usize,
    /// Its rows.
    pub rows: usize,
    /// Whether colours are wanted.
    pub color: bool,
    /// Since the display began.
    pub now: Duration,
}

/// The lines.
pub fn picture(board: &Board, frame: &Frame<'_>) -> Vec<String> {
    let (done, all) = board.count();
    let mut lines = vec![cut(&format!("[+] {} {done}/{all}", frame.operation), frame.columns)];
    let room = frame.rows.saturating_sub(2).max(1);
    let rows: Vec<&Row> = board.rows().collect();
    let shown = if rows.len() > room { room.saturating_sub(1) } else { rows.len() };
    let parts: Vec<(String, String)> = rows[..shown].iter().map(|row| parts(board, row)).collect();
    let sized = |n: usize| width(&rows[n].thing) + width(&parts[n].0) + width(&parts[n].1);
    let before = (0..shown).map(sized).max().unwrap_or(0);
    for (n, row) in rows[..shown].iter().enumerate() {
        lines.push(line(row, &parts[n], before.saturating_sub(sized(n)), frame));
    }
    if shown < rows.len() {
        lines.push(cut(&format!(" ... {} more", rows.len() - shown), frame.columns));
    }
    lines
}

fn line(row: &Row, (bars, sizes): &(String, String), pad: usize, frame: &Frame<'_>) -> String {
    let (sign, color) = match row.state {
        State::Working => {
            let turn = usize::try_from(frame.now.as_millis() / 100).unwrap_or(0) % SPINNER.len();
            (SPINNER[turn], BLUE)
        }
        State::Done => ("✔", GREEN),
        State::Warning => ("!", YELLOW),
        State::Failed => ("✘", RED),
    };
    let timer = format!("{:.1}s", row.ended.unwrap_or(frame.now).saturating_sub(row.began).as_secs_f64());
    // A space, the sign, a space; one before the status; one before the timer.
    let room = frame.columns.saturating_sub(3 + 1 + 1 + timer.len());
    let thing = cut(&row.thing, room);
    let mut left = room.saturating_sub(width(&thing));
    let mut take = |text: &str| {
        let text = cut(text, left);
        left -= width(&text);
        text
    };
    let (bars, sizes, pad) = (take(bars), take(sizes), take(&" ".repeat(pad)));
    let status = take(&row.text);
    let details = if row.details.is_empty() { String::new() } else { take(&format!(" {}", row.details)) };
    let paint = |code: &str, text: &str| match frame.color && !text.is_empty() {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_owned(),
    };
    let status_color = if row.state == State::Working { "0" } else { color };
    format!(
        " {} {thing}{}{sizes}{pad} {}{details}{} {}",
        paint(color, sign),
        paint(GREEN, &bars),
        paint(status_color, &status),
        " ".repeat(left),
        paint(BLUE, &timer)
    )
}

/// How far the parts of a thing have come: as bars, and in bytes.
fn parts(board: &Board, row: &Row) -> (String, String) {
    if row.state != State::Working {
        return Default::default();
    }
    let (mut bars, mut current, mut total, mut known) = (String::new(), 0, 0, true);
    for part in board.parts(&row.thing) {
        let done = part.state != State::Working;
        known &= done || part.total > 0;
        current += part.current;
        total += part.total;
        let filled = match part.current.saturating_mul(FILLED.len() as u64 - 1).checked_div(part.total) {
            _ if done => FILLED.len() - 1,
            Some(filled) => usize::try_from(filled).unwrap_or(0).min(FILLED.len() - 1),
            None => 0,
        };
        bars.push_str(FILLED[filled]);
    }
    if bars.is_empty() {
        return Default::default();
    }
    let sizes = match known && total > 0 {
        true => format!(" {:>7} / {:<7}", human_size(current as f64), human_size(total as f64)),
        false => String::new(),
    };
    (format!(" [{bars}]"), sizes)
}

/// Columns of a text: names, words and what the pictures above are made of take one each.
fn width(text: &str) -> usize {
    text.chars().count()
}

fn cut(text: &str, columns: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(columns).collect()
}

#[cfg(test)]
mod tests {
    use fluyt_compose::execute::Event;

    use super::*;

    fn frame(columns: usize, rows: usize) -> Frame<'static> {
        Frame { operation: "up", columns, rows, color: false, now: Duration::from_millis(1250) }
    }

    fn board() -> Board {
        let mut board = Board::default();
        board.note(&Event::new("Network n", State::Done, "Created"), Duration::from_millis(50));
        board.note(&Event::new("Container shop-a-1", State::Working, "Starting"), Duration::from_millis(50));
        board
            .note(&Event::new("Container b", State::Failed, "Error").details("no such file"), Duration::ZERO);
        board
    }

    #[test]
    fn rows_stand_under_one_another() {
        let lines = picture(&board(), &frame(60, 24));
        assert_eq!(lines[0], "[+] up 2/3");
        assert_eq!(lines[1], " ✔ Network n          Created                           0.0s");
        assert_eq!(lines[2], " ⠹ Container shop-a-1 Starting                          1.2s");
        assert_eq!(lines[3], " ✘ Container b        Error no such file                0.0s");
        assert!(lines.iter().all(|l| l.chars().count() <= 60));
    }

    #[test]
    fn little_room_is_enough() {
        for columns in 0..40 {
            for rows in 0..6 {
                let lines = picture(&board(), &frame(columns, rows));
                assert!(lines.len() <= rows.max(3), "{rows} rows: {lines:?}");
                assert!(lines.iter().all(|l| l.chars().count() <= columns.max(10)), "{columns}: {lines:?}");
            }
        }
        assert_eq!(picture(&board(), &frame(60, 4))[2], " ... 2 more");
    }

    #[test]
    fn layers_are_bars_of_their_image() {
        let mut board = Board::default();
        board.note(&Event::new("Image x", State::Working, "Pulling"), Duration::ZERO);
        let part = |thing: &'static str, current, total| Event {
            parent: "Image x",
            current,
            total,
            ..Event::new(thing, State::Working, "Downloading")
        };
        board.note(&part("l1", 500_000, 1_000_000), Duration::ZERO);
        board.note(&part("l2", 0, 3_000_000), Duration::ZERO);
        let lines = picture(&board, &frame(70, 24));
        assert!(lines[1].contains("Image x [⣤⠀]   500kB / 4MB     Pulling"), "{lines:?}");
        assert_eq!(lines.len(), 2);
    }
}
