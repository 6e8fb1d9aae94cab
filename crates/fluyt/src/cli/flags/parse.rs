//! The parser: what the user typed, checked against a command's table.

use super::{Arity, Command, Flag, Takes};
use fluyt_docker_api::filter::boolean;

/// What the user gave a command.
#[derive(Debug)]
pub struct Parsed {
    command: &'static Command,
    given: Vec<(&'static Flag, String)>,
    /// Positional arguments.
    pub args: Vec<String>,
    /// Deprecated flags that were given: one warning each.
    pub warnings: Vec<String>,
}

/// Why a command line is not understood.
#[derive(Debug, PartialEq, Eq)]
pub enum UsageError {
    /// A flag: exit code 125, as with Docker.
    Flag(String),
    /// The number of arguments: exit code 1.
    Arguments(String),
    /// `--help` was asked for.
    Help,
}

/// Reads the words after the command's name, which the user called as `path` (`container ls`).
///
/// # Errors
/// See [`UsageError`].
pub fn parse(command: &'static Command, path: &str, words: &[String]) -> Result<Parsed, UsageError> {
    let mut parsed = Parsed { command, given: Vec::new(), args: Vec::new(), warnings: Vec::new() };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            parsed.args.extend(words.by_ref().cloned());
        } else if let Some(long) = word.strip_prefix("--") {
            parsed.long(long, word, &mut words)?;
        } else if let Some(cluster) = word.strip_prefix('-').filter(|c| !c.is_empty()) {
            parsed.cluster(cluster, &mut words)?;
        } else {
            parsed.args.push(word.clone());
            if !command.interspersed {
                parsed.args.extend(words.by_ref().cloned());
            }
        }
    }
    check_arity(command, path, parsed.args.len())?;
    Ok(parsed)
}

impl Parsed {
    fn long<'a>(
        &mut self,
        body: &str,
        word: &str,
        words: &mut impl Iterator<Item = &'a String>,
    ) -> Result<(), UsageError> {
        let (name, value) = body.split_once('=').map_or((body, None), |(n, v)| (n, Some(v)));
        if name.is_empty() || name.starts_with('-') {
            return Err(UsageError::Flag(format!("bad flag syntax: {word}")));
        }
        let Some(flag) = self.command.flags().find(|f| f.long == name) else {
            return Err(if name == "help" {
                UsageError::Help
            } else {
                UsageError::Flag(format!("unknown flag: --{name}"))
            });
        };
        let value = match (value, flag.takes) {
            (Some(value), _) => value.to_owned(),
            (None, Takes::Bool | Takes::Maybe(_)) => "true".to_owned(),
            (None, _) => words
                .next()
                .cloned()
                .ok_or_else(|| UsageError::Flag(format!("flag needs an argument: --{name}")))?,
        };
        self.set(flag, value)
    }

    fn cluster<'a>(
        &mut self,
        cluster: &str,
        words: &mut impl Iterator<Item = &'a String>,
    ) -> Result<(), UsageError> {
        let mut rest = cluster;
        while let Some(letter) = rest.chars().next() {
            rest = &rest[letter.len_utf8()..];
            let Some(flag) = self.command.flags().find(|f| f.short == letter && letter != '\0') else {
                return Err(if letter == 'h' {
                    UsageError::Help
                } else {
                    UsageError::Flag(format!("unknown shorthand flag: '{letter}' in -{cluster}"))
                });
            };
            if let Some(value) = rest.strip_prefix('=') {
                return self.set(flag, value.to_owned());
            }
            if matches!(flag.takes, Takes::Bool | Takes::Maybe(_)) {
                self.set(flag, "true".to_owned())?;
                continue;
            }
            let value = if rest.is_empty() { words.next().cloned() } else { Some(rest.to_owned()) };
            let value = value.ok_or_else(|| {
                UsageError::Flag(format!("flag needs an argument: '{letter}' in -{cluster}"))
            })?;
            return self.set(flag, value);
        }
        Ok(())
    }

    fn set(&mut self, flag: &'static Flag, value: String) -> Result<(), UsageError> {
        let checked = match flag.takes {
            Takes::Bool => boolean(&value)
                .map(|_| ())
                .ok_or_else(|| format!("strconv.ParseBool: parsing \"{value}\": invalid syntax")),
            Takes::Maybe(check) | Takes::One(_, check) | Takes::Many(_, check) => check(&value),
        };
        if let Err(why) = checked {
            let name = match flag.short {
                '\0' => format!("--{}", flag.long),
                short => format!("-{short}, --{}", flag.long),
            };
            return Err(UsageError::Flag(format!("invalid argument \"{value}\" for \"{name}\" flag: {why}")));
        }
        if !flag.deprecated.is_empty() {
            self.warnings.push(format!("Flag --{} has been deprecated, {}", flag.long, flag.deprecated));
        }
        let target = if flag.alias_of.is_empty() { flag } else { self.find(flag.alias_of) };
        self.given.push((target, value));
        Ok(())
    }

    fn find(&self, long: &str) -> &'static Flag {
        let found = self.command.flags().find(|f| f.long == long);
        debug_assert!(found.is_some(), "{} has no flag --{long}", self.command.name);
        const MISSING: Flag = super::switch('\0', "", "");
        found.unwrap_or(&MISSING)
    }

    /// Whether the command has such a flag at all.
    pub fn has(&self, long: &str) -> bool {
        self.command.flags().any(|f| f.long == long)
    }

    /// Whether the user gave the flag.
    pub fn changed(&self, long: &str) -> bool {
        debug_assert!(self.command.flags().any(|f| f.long == long), "no flag --{long}");
        self.given.iter().any(|(f, _)| f.long == long)
    }

    /// The value of a flag that takes one: the last given, or its default.
    pub fn text(&self, long: &str) -> &str {
        let flag = self.find(long);
        self.given.iter().rev().find(|(f, _)| f.long == long).map_or(flag.default, |(_, v)| v)
    }

    /// The value of a flag that takes one, if the user gave it.
    pub fn given(&self, long: &str) -> Option<&str> {
        self.changed(long).then(|| self.text(long))
    }

    /// Whether a switch is on.
    pub fn on(&self, long: &str) -> bool {
        boolean(self.text(long)).unwrap_or(false)
    }

    /// All values of a repeatable flag, in order.
    pub fn all<'a>(&'a self, long: &'a str) -> impl Iterator<Item = &'a str> {
        debug_assert!(self.command.flags().any(|f| f.long == long), "no flag --{long}");
        self.given.iter().filter(move |(f, _)| f.long == long).map(|(_, v)| v.as_str())
    }

    /// All values of a repeatable flag, as owned texts.
    pub fn list(&self, long: &str) -> Vec<String> {
        self.all(long).map(str::to_owned).collect()
    }

    /// An integer (checked when it was parsed); 0 without a default.
    pub fn int(&self, long: &str) -> i64 {
        self.text(long).parse().unwrap_or(0)
    }

    /// A size in bytes; 0 if not given.
    pub fn bytes(&self, long: &str) -> i64 {
        match self.text(long) {
            "-1" => -1,
            text => fluyt_model::quantity::parse_bytes(text).unwrap_or(0),
        }
    }

    /// A duration in nanoseconds; 0 if not given.
    pub fn nanos(&self, long: &str) -> i64 {
        fluyt_model::quantity::parse_duration(self.text(long)).unwrap_or(0)
    }
}

fn check_arity(command: &Command, path: &str, count: usize) -> Result<(), UsageError> {
    let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
    let want = match command.arity {
        Arity::None if count > 0 => "accepts no arguments".to_owned(),
        Arity::Exactly(n) if count != n => format!("requires {n} {}", plural(n)),
        Arity::AtLeast(n) if count < n => format!("requires at least {n} {}", plural(n)),
        Arity::AtMost(n) if count > n => format!("requires at most {n} {}", plural(n)),
        Arity::Between(a, b) if count < a || count > b => {
            format!("requires at least {a} and at most {b} {}", plural(b))
        }
        _ => return Ok(()),
    };
    Err(UsageError::Arguments(format!("fluyt: 'fluyt {path}' {want}")))
}
