//! What is wrong with a Dockerfile, and where: the message that users of BuildKit know, and the lines it is about.

use fluyt_model::{Error, Kind};

/// Lines of a file, the first one is 1; both ends count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lines {
    /// The first line.
    pub first: u32,
    /// The last line.
    pub last: u32,
}

/// A failure that knows its place in the Dockerfile.
#[derive(Debug)]
pub struct Fault {
    /// What happened.
    pub error: Error,
    /// Where, if it is about lines of the Dockerfile.
    pub lines: Option<Lines>,
}

/// The result of what a Dockerfile may make fail.
pub type Result<T, E = Fault> = std::result::Result<T, E>;

impl Fault {
    /// A mistake in the Dockerfile, its place not known yet.
    pub fn new(message: impl Into<String>) -> Self {
        Self { error: Error::new(Kind::Invalid, message), lines: None }
    }

    /// Adds the place, unless it is known already.
    #[must_use]
    pub fn at(mut self, lines: Lines) -> Self {
        self.lines.get_or_insert(lines);
        self
    }

    /// Puts `text` before the message.
    #[must_use]
    pub fn prefixed(self, text: &str) -> Self {
        let hint = self.error.hint().map(str::to_owned);
        let mut error = Error::new(self.error.kind(), format!("{text}{}", self.error.chain()));
        if let Some(hint) = hint {
            error = error.with_hint(hint);
        }
        Self { error, lines: self.lines }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self { error, lines: None }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.error.chain())
    }
}

/// How many lines around the place an excerpt shows.
const AROUND: u32 = 2;

/// The lines of `text` around `lines` as people are shown them, the ones meant marked by `>>>`.
#[must_use]
pub fn excerpt(name: &str, text: &str, lines: Lines) -> String {
    const RULE: &str = "--------------------\n";
    // The end of the last line begins another one, as editors have it.
    let all: Vec<&str> = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
    let total = u32::try_from(all.len()).unwrap_or(u32::MAX);
    if lines.first == 0 || lines.first > total {
        return String::new();
    }
    let last = lines.last.clamp(lines.first, total);
    let most = if lines.first == last { 2 * AROUND } else { AROUND };
    let (mut from, mut to, mut shown) = (lines.first, last, 0);
    while shown < most {
        if from > 1 {
            from -= 1;
            shown += 1;
        }
        if to < total {
            to += 1;
            shown += 1;
        }
        shown += 1;
    }
    let mut out = format!("{name}:{}\n{RULE}", lines.first);
    for number in from..=to {
        let mark = if (lines.first..=last).contains(&number) { ">>>" } else { "   " };
        let line = all.get(number as usize - 1).unwrap_or(&"");
        out.push_str(&format!("{number:>4} | {mark} {line}\n"));
    }
    out.push_str(RULE);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_marks_the_place() {
        let text = "FROM a\nRUNN x\nRUN y\n";
        let shown = excerpt("Dockerfile", text, Lines { first: 2, last: 2 });
        assert_eq!(
            shown,
            "Dockerfile:2\n--------------------\n   1 |     FROM a\n   2 | >>> RUNN x\n   3 |     RUN y\n   4 |     \n--------------------\n"
        );
        assert_eq!(excerpt("x", text, Lines { first: 9, last: 9 }), "");
    }
}
