//! What the display knows: a row for each thing, in the order in which they were first heard of. Pure: times are since
//! the display began.

use std::time::Duration;

use fluyt_compose::execute::{Event, State};

/// A thing that something is done to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub thing: String,
    /// What it is a part of; empty: nothing.
    pub parent: String,
    /// How far it has come.
    pub state: State,
    /// In a word.
    pub text: String,
    /// And in more.
    pub details: String,
    /// Bytes that are done.
    pub current: u64,
    /// Of so many; 0: not known.
    pub total: u64,
    /// When it was first heard of.
    pub began: Duration,
    /// When it had come to an end, if it has.
    pub ended: Option<Duration>,
}

/// All rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Board {
    rows: Vec<Row>,
}

impl Board {
    /// Takes note of an event.
    pub fn note(&mut self, event: &Event<'_>, now: Duration) {
        let over = event.state != State::Working;
        let Some(row) = self.rows.iter_mut().find(|r| r.thing == event.thing) else {
            self.rows.push(Row {
                thing: event.thing.to_owned(),
                parent: event.parent.to_owned(),
                state: event.state,
                text: event.text.to_owned(),
                details: event.details.to_owned(),
                current: event.current,
                total: event.total,
                began: now,
                ended: over.then_some(now),
            });
            return;
        };
        // Images share layers: the first one tells.
        if row.parent != event.parent {
            return;
        }
        if over && row.state != event.state {
            row.ended = Some(now);
        } else if !over {
            row.ended = None;
        }
        row.state = event.state;
        event.text.clone_into(&mut row.text);
        event.details.clone_into(&mut row.details);
        row.current = row.current.max(event.current);
        row.total = row.total.max(event.total);
    }

    /// Rows that are no part of another.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|r| r.parent.is_empty())
    }

    /// The parts of a thing.
    pub fn parts(&self, thing: &str) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |r| r.parent == thing)
    }

    /// How many things have come to an end, and how many there are.
    pub fn count(&self) -> (usize, usize) {
        (self.rows().filter(|r| r.state != State::Working).count(), self.rows().count())
    }

    /// Whether nothing has been told yet.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_one_row() {
        let mut board = Board::default();
        let at = Duration::from_millis;
        board.note(&Event::new("Container a", State::Working, "Creating"), at(0));
        board.note(&Event::new("Container b", State::Working, "Creating"), at(1));
        board.note(&Event::new("Container a", State::Done, "Created"), at(5));
        assert_eq!(board.count(), (1, 2));
        board.note(&Event::new("Container a", State::Working, "Starting"), at(6));
        assert_eq!(board.count(), (0, 2));
        board.note(&Event::new("Container a", State::Done, "Started"), at(9));
        let row = board.rows().next().expect("the first");
        assert_eq!((row.text.as_str(), row.began, row.ended), ("Started", at(0), Some(at(9))));
    }

    #[test]
    fn what_is_done_never_becomes_less() {
        let mut board = Board::default();
        let part = |current, total| Event {
            parent: "Image x",
            current,
            total,
            ..Event::new("layer", State::Working, "Downloading")
        };
        board.note(&part(50, 100), Duration::ZERO);
        board.note(&part(10, 0), Duration::ZERO);
        board.note(&Event { parent: "Image y", ..Event::new("layer", State::Done, "Done") }, Duration::ZERO);
        let row = board.parts("Image x").next().expect("the layer");
        assert_eq!((row.current, row.total, row.state), (50, 100, State::Working));
        assert_eq!(board.parts("Image y").count(), 0);
    }
}
