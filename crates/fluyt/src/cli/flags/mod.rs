//! One definition per flag: this table yields the parser, the help text, the man page and the completions.
//!
//! The tables are constants, so that a command that is not called costs nothing, and the parser accepts exactly what
//! Docker's does (clusters of short flags, `--flag=false`, values glued to short flags, no abbreviations).

mod clap_view;
mod help;
mod parse;
pub mod values;

pub use clap_view::{Node, completion, man_pages};
pub use help::{help, usage_line};
pub use parse::{Parsed, UsageError, parse};

/// Checks the text of one value; the error is the sentence behind `invalid argument "…" for "…" flag: `.
pub type Check = fn(&str) -> Result<(), String>;

/// What a flag takes.
#[derive(Clone, Copy, Debug)]
pub enum Takes {
    /// Nothing, or `=true` / `=false`.
    Bool,
    /// Nothing, or `=value`: a switch that may say more.
    Maybe(Check),
    /// One value; the last one given counts. The name of its type, as help shows it.
    One(&'static str, Check),
    /// Any number of values.
    Many(&'static str, Check),
}

/// A flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Without dashes.
    pub long: &'static str,
    /// One letter, or `'\0'`.
    pub short: char,
    /// What it takes.
    pub takes: Takes,
    /// Its value if it is not given.
    pub default: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Another name of this flag.
    pub alias_of: &'static str,
    /// Not in help.
    pub hidden: bool,
    /// Accepted with a warning that ends in this text.
    pub deprecated: &'static str,
}

impl Flag {
    const fn new(short: char, long: &'static str, takes: Takes, help: &'static str) -> Self {
        Self { long, short, takes, default: "", help, alias_of: "", hidden: false, deprecated: "" }
    }

    /// Sets the default.
    #[must_use]
    pub const fn default(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }

    /// Leaves it out of help.
    #[must_use]
    pub const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// Makes it another, hidden name of the flag `of`.
    #[must_use]
    pub const fn alias_of(mut self, of: &'static str) -> Self {
        self.alias_of = of;
        self.hidden = true;
        self
    }

    /// Accepts it, hidden, and warns.
    #[must_use]
    pub const fn deprecated(mut self, why: &'static str) -> Self {
        self.deprecated = why;
        self.hidden = true;
        self
    }
}

/// `'\0'`: no short form.
pub const NONE: char = '\0';

/// A switch.
pub const fn switch(short: char, long: &'static str, help: &'static str) -> Flag {
    Flag::new(short, long, Takes::Bool, help)
}

/// A switch that may say more, `--pull` and `--pull=newer`.
pub const fn maybe(short: char, long: &'static str, check: Check, help: &'static str) -> Flag {
    Flag::new(short, long, Takes::Maybe(check), help)
}

/// A text.
pub const fn text(short: char, long: &'static str, help: &'static str) -> Flag {
    Flag::new(short, long, Takes::One("string", values::any), help)
}

/// A value with its own type name and check.
pub const fn one(
    short: char,
    long: &'static str,
    kind: &'static str,
    check: Check,
    help: &'static str,
) -> Flag {
    Flag::new(short, long, Takes::One(kind, check), help)
}

/// A repeatable text.
pub const fn list(short: char, long: &'static str, help: &'static str) -> Flag {
    Flag::new(short, long, Takes::Many("list", values::any), help)
}

/// A repeatable value with its own type name and check.
pub const fn many(
    short: char,
    long: &'static str,
    kind: &'static str,
    check: Check,
    help: &'static str,
) -> Flag {
    Flag::new(short, long, Takes::Many(kind, check), help)
}

/// An integer.
pub const fn int(short: char, long: &'static str, help: &'static str) -> Flag {
    Flag::new(short, long, Takes::One("int", values::int), help)
}

/// How many positional arguments a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// None.
    None,
    /// Exactly so many.
    Exactly(usize),
    /// At least so many.
    AtLeast(usize),
    /// Not more than so many.
    AtMost(usize),
    /// Between, inclusive.
    Between(usize, usize),
}

/// A command.
#[derive(Debug)]
pub struct Command {
    /// The word that calls it.
    pub name: &'static str,
    /// Positional arguments, as printed: `CONTAINER [CONTAINER...]`.
    pub arguments: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// Its flags: groups, so that commands share them.
    pub flags: &'static [&'static [Flag]],
    /// How many positional arguments.
    pub arity: Arity,
    /// Whether flags may follow positional arguments.
    pub interspersed: bool,
}

impl Command {
    /// All flags.
    pub fn flags(&self) -> impl Iterator<Item = &'static Flag> {
        self.flags.iter().flat_map(|group| group.iter())
    }
}
