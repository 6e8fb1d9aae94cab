//! `$NAME` and `${NAME…}` in values: `:-`, `-`, `:?`, `?`, `:+`, `+`, nested to a bound, `$$` for a dollar.
//! Keys are left alone.

use std::collections::BTreeMap;

use crate::document::{Files, Node, Pos, Value};
use crate::fault::{Fault, Outcome};

/// How deeply defaults may contain variables that have defaults.
const DEPTH: usize = 32;

/// Variables and their values.
pub type Environment = BTreeMap<String, String>;

/// Why a text could not be filled in, and the part of it that is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// The part of the text.
    pub part: String,
}

/// A variable that a file refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Whether the file cannot be used without it.
    pub required: bool,
    /// What stands for it when it is not set.
    pub default: String,
    /// What stands for it when it is set.
    pub alternate: String,
}

/// Fills in texts, and gathers what is not set.
pub struct Interpolator<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    /// Names that were not set and had no default.
    pub unset: Vec<String>,
    /// Every reference that was met.
    pub met: Vec<Variable>,
}

impl<'a> Interpolator<'a> {
    /// With a way to find values.
    pub fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup, unset: Vec::new(), met: Vec::new() }
    }

    /// Fills in every value of a tree; what is wrong is added to `faults`.
    pub fn tree(&mut self, node: &mut Node, files: &Files, faults: &mut Vec<Fault>) {
        match &mut node.value {
            Value::Str(text) if text.contains('$') => match self.text(text) {
                Ok(filled) => *text = filled,
                Err(problem) => faults.push(fault(&problem, node.pos, files)),
            },
            Value::List(items) => items.iter_mut().for_each(|item| self.tree(item, files, faults)),
            Value::Map(map) => map.iter_mut().for_each(|entry| self.tree(&mut entry.node, files, faults)),
            _ => {}
        }
    }

    /// Fills in one text.
    ///
    /// # Errors
    /// A reference is malformed, or a required variable is missing.
    pub fn text(&mut self, text: &str) -> Result<String, Problem> {
        self.fill(text, 0)
    }

    fn fill(&mut self, text: &str, depth: usize) -> Result<String, Problem> {
        if depth > DEPTH {
            return Err(Problem {
                message: format!("variables are nested more than {DEPTH} deep"),
                hint: None,
                part: text.to_owned(),
            });
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            let tail = &rest[at + 1..];
            if let Some(after) = tail.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some(inside) = tail.strip_prefix('{') {
                let end = closing(inside).ok_or_else(|| not_closed(&rest[at..]))?;
                out.push_str(&self.braced(&inside[..end], depth)?);
                rest = &inside[end + 1..];
            } else {
                let length = name_length(tail);
                if length == 0 {
                    out.push('$');
                } else {
                    out.push_str(&self.plain(&tail[..length]));
                }
                rest = &tail[length..];
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    fn plain(&mut self, name: &str) -> String {
        self.met.push(Variable { name: name.to_owned(), ..Variable::default() });
        (self.lookup)(name).unwrap_or_else(|| {
            if !self.unset.iter().any(|n| n == name) {
                self.unset.push(name.to_owned());
            }
            String::new()
        })
    }

    /// What stands between the braces.
    fn braced(&mut self, inside: &str, depth: usize) -> Result<String, Problem> {
        let (name, rest) = inside.split_at(name_length(inside));
        let whole = || format!("${{{inside}}}");
        if name.is_empty() {
            let hint =
                "a name begins with a letter or _ ; write $$ for a dollar that is meant as such".to_owned();
            return Err(Problem {
                message: format!("{} has no variable name", whole()),
                hint: Some(hint),
                part: whole(),
            });
        }
        if rest.is_empty() {
            return Ok(self.plain(name));
        }
        let (or_empty, operator) = rest.strip_prefix(':').map_or((false, rest), |r| (true, r));
        let value = (self.lookup)(name);
        let there = value.as_ref().is_some_and(|v| !or_empty || !v.is_empty());
        let mut met = Variable { name: name.to_owned(), ..Variable::default() };
        let Some(kind) = operator.chars().next().filter(|c| "-+?".contains(*c)) else {
            let hint = format!("after {name} can stand :- - :? ? :+ or +, as in ${{{name}:-default}}");
            return Err(Problem {
                message: format!("{} is not understood", whole()),
                hint: Some(hint),
                part: whole(),
            });
        };
        let word = &operator[1..];
        match kind {
            '-' => {
                word.clone_into(&mut met.default);
                self.met.push(met);
                if there { Ok(value.unwrap_or_default()) } else { self.fill(word, depth + 1) }
            }
            '+' => {
                word.clone_into(&mut met.alternate);
                self.met.push(met);
                if there { self.fill(word, depth + 1) } else { Ok(value.unwrap_or_default()) }
            }
            _ => {
                met.required = true;
                self.met.push(met);
                if there {
                    return Ok(value.unwrap_or_default());
                }
                let reason = self.fill(word, depth + 1)?;
                let message = match reason.as_str() {
                    "" => format!("required variable {name} is missing a value"),
                    reason => format!("required variable {name} is missing a value: {reason}"),
                };
                let hint = format!("set {name} in the environment or in .env");
                Err(Problem { message, hint: Some(hint), part: whole() })
            }
        }
    }
}

/// A problem of a text, at the place in the file where the part to blame stands.
pub fn fault(problem: &Problem, pos: Pos, files: &Files) -> Fault {
    let pos = files.find(pos, &problem.part);
    let fault = Fault::new(pos, problem.message.clone());
    match &problem.hint {
        Some(hint) => fault.hint(hint.clone()),
        None => fault,
    }
}

/// Fills in one text from an environment.
///
/// # Errors
/// As [`Interpolator::text`].
pub fn substitute(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, Problem> {
    Interpolator::new(lookup).text(text)
}

/// The same as a result that is placed.
///
/// # Errors
/// As [`Interpolator::text`].
pub fn placed(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    pos: Pos,
    files: &Files,
) -> Outcome<String> {
    substitute(text, lookup).map_err(|p| fault(&p, pos, files))
}

fn not_closed(part: &str) -> Problem {
    let hint = "close it with }, or write $$ for a dollar that is meant as such".to_owned();
    let part: String = part.chars().take(40).collect();
    Problem { message: format!("{part} is not closed"), hint: Some(hint), part }
}

fn name_length(text: &str) -> usize {
    if !text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return 0;
    }
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len())
}

/// Where the brace that was opened before `inside` closes.
fn closing(inside: &str) -> Option<usize> {
    let mut depth = 1;
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str) -> Result<String, String> {
        let lookup = |name: &str| match name {
            "FOO" => Some("first".to_owned()),
            "BAR" => Some(String::new()),
            _ => None,
        };
        substitute(text, &lookup).map_err(|p| p.message)
    }

    #[test]
    fn every_operator() {
        for (text, filled) in [
            ("ok $FOO", "ok first"),
            ("${FOO}x", "firstx"),
            ("$$FOO ${BAR}", "$FOO "),
            ("${BAR:-d}", "d"),
            ("${BAR-d}", ""),
            ("${NONE:-d}", "d"),
            ("${NONE-d}", "d"),
            ("${FOO:+set}", "set"),
            ("${BAR:+set}", ""),
            ("${BAR+set}", "set"),
            ("${NONE+set}", ""),
            ("${FOO:?no}", "first"),
            ("${BAR?no}", ""),
            ("${NONE:-${BAR:-$FOO}}", "first"),
            ("${NONE:-{\"a\":1}}", "{\"a\":1}"),
            ("${NONE:--x}", "-x"),
            ("${NONE:-a:-b}", "a:-b"),
            ("$1 $? $ 5$", "$1 $? $ 5$"),
            ("${NONE:-http://x?y=1}", "http://x?y=1"),
        ] {
            assert_eq!(fill(text), Ok(filled.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(
            fill("${BAR:?no bar}"),
            Err("required variable BAR is missing a value: no bar".to_owned())
        );
        assert_eq!(fill("${NONE?}"), Err("required variable NONE is missing a value".to_owned()));
        assert_eq!(fill("${}"), Err("${} has no variable name".to_owned()));
        assert_eq!(fill("a ${FOO"), Err("${FOO is not closed".to_owned()));
        assert_eq!(fill("${FOO!x}"), Err("${FOO!x} is not understood".to_owned()));
    }
}
