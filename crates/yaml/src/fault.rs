//! What is wrong in a file and where, for people: message, line, column, the line itself, and what to do.

use fluyt_model::{Error, Kind};

use crate::{Files, Pos};

/// The result of a step of loading.
pub type Outcome<T> = Result<T, Fault>;

/// One thing that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub pos: Pos,
    /// What.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// What kind of error it is.
    pub kind: Kind,
}

impl Fault {
    /// Something invalid at a place.
    pub fn new(pos: Pos, message: impl Into<String>) -> Self {
        Self { pos, message: message.into(), hint: None, kind: Kind::Invalid }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the kind.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// `file:line:column: message` and the line with a mark under the column.
    pub fn render(&self, files: &Files) -> String {
        let Some(path) = files.path(self.pos.file).filter(|_| self.pos.line > 0) else {
            return self.message.clone();
        };
        let Pos { line, column, .. } = self.pos;
        let mut text = format!("{}:{line}:{column}: {}", path.display(), self.message);
        if let Some(excerpt) = files.line(self.pos) {
            let excerpt: String = excerpt.chars().take(160).collect();
            let before: String = excerpt
                .chars()
                .take(column.saturating_sub(1) as usize)
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            text.push_str(&format!("\n{line:>5} | {excerpt}\n      | {before}^"));
        }
        text
    }
}

/// All that is wrong, as one error: each fault on its own, the hint of the first as the hint.
pub fn to_error(faults: &[Fault], files: &Files) -> Error {
    const SHOWN: usize = 20;
    let Some(first) = faults.first() else {
        return Error::internal("a file is wrong, but nothing was found wrong in it");
    };
    let mut text = first.render(files);
    for fault in faults.iter().skip(1).take(SHOWN - 1) {
        text.push('\n');
        text.push_str(&fault.render(files));
        if let Some(hint) = &fault.hint {
            text.push_str(&format!("\n      = {hint}"));
        }
    }
    if faults.len() > SHOWN {
        text.push_str(&format!("\nand {} more", faults.len() - SHOWN));
    }
    let error = Error::new(first.kind, text);
    match &first.hint {
        Some(hint) => error.with_hint(hint.clone()),
        None => error,
    }
}

/// The word of `known` that was probably meant by `word`.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = match word.chars().count() {
        0..=2 => 1,
        3..=6 => 2,
        _ => 3,
    };
    let lower = word.to_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|candidate| (distance(&lower, candidate), candidate))
        .filter(|(d, candidate)| *d <= limit && *d < candidate.chars().count())
        .min_by_key(|(d, _)| *d)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours that make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_that_was_meant() {
        let known = ["image", "ports", "volumes", "depends_on", "tty"];
        assert_eq!(did_you_mean("imagee", known), Some("image"));
        assert_eq!(did_you_mean("depend_on", known), Some("depends_on"));
        assert_eq!(did_you_mean("depends-on", known), Some("depends_on"));
        assert_eq!(did_you_mean("prots", known), Some("ports"));
        assert_eq!(did_you_mean("zzz", known), None);
    }
}
