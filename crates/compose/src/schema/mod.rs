//! The Compose specification as one constant table: every attribute with its shape.
//!
//! From it come validation, the long form of short forms, merging, and the order in which things are printed (which is
//! the order that configuration hashes are made in, so it follows the reference implementation). The table holds no
//! code but checks of single texts; `load` interprets it.

mod checks;
mod service;
mod top;

pub use service::SERVICE;
pub use top::FILE;

/// What a value looks like.
#[derive(Debug)]
pub enum Shape {
    /// Whatever it is.
    Any,
    /// A text.
    Str,
    /// A text, or nothing.
    StrOrNull,
    /// A text or a number, kept as text.
    Scalar,
    /// A text that is checked; the error is what the text must be.
    Checked(fn(&str) -> Result<(), String>),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A boolean, or a text that says one.
    Bool,
    /// A boolean or a text, kept as text.
    BoolOrStr,
    /// A whole number between two bounds, or a text that says one.
    Int(i64, i64),
    /// A number, or a text that says one.
    Float,
    /// A number of bytes: `512m`; kept as a text of digits.
    Bytes,
    /// A duration: `1m30s`; kept as Go prints it.
    Duration,
    /// Permissions; kept as an octal text.
    Mode,
    /// A number of devices, or `all` (-1).
    Count,
    /// Nothing, a text split as a shell would, or a list of words.
    Command,
    /// The test of a health check.
    Test,
    /// A list of texts.
    Strings(Same),
    /// A text or a list of texts.
    OneOrMore(Same),
    /// A list of texts and numbers.
    Scalars(Same),
    /// A mapping, or a list of `key=value`, to texts.
    Dict(Unset),
    /// A mapping to texts.
    Options,
    /// A mapping to lists of texts.
    MultiOptions,
    /// Host names and their addresses.
    Hosts,
    /// `key=value` pairs or a mapping: contexts of a build.
    Contexts,
    /// Keys of ssh agents.
    Ssh,
    /// A mapping with known keys.
    Object(&'static Object),
    /// A mapping with known keys, or nothing.
    ObjectOrNull(&'static Object),
    /// A mapping from names to values.
    Map(&'static Shape),
    /// A list of names, or a mapping from names to objects that may be left empty.
    Named(&'static Object),
    /// A list of values.
    List(&'static Shape, Same),
    /// Dependencies: a list of services, or a mapping.
    DependsOn(&'static Object),
    /// A driver with its options: those of another driver mean nothing to it.
    Logging(&'static Object),
    /// A context, or an object.
    Build(&'static Object),
    /// A service, or an object.
    Extends(&'static Object),
    /// A path, or objects.
    EnvFiles(&'static Object),
    /// A name, or an object.
    FileRef(&'static Object),
    /// `source:target:permissions`, or an object.
    Device(&'static Object),
    /// `source:target:options`, or an object.
    Volume(&'static Object),
    /// Short forms that stand for several ports, and objects.
    Ports(&'static Object),
    /// A number, or soft and hard limits.
    Ulimit(&'static Object),
    /// `all`, or a list of objects.
    Gpus(&'static Object),
    /// A path, or an object.
    Include(&'static Object),
    /// A boolean, or an object with a name (deprecated).
    External,
}

/// When two items of a list are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Same {
    /// Never: all are kept.
    Never,
    /// When they are equal, which is an error.
    Forbidden,
    /// When they are equal up to `=`; the last one counts.
    Key,
    /// When this attribute is equal; the last one counts.
    Attr(&'static str),
    /// When what is published and where is equal.
    Port,
    /// When they are mounted at the same place, by default below this directory.
    Mount(&'static str),
    /// When they have the same subnet: then they are merged.
    Subnet,
}

/// What a key without a value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unset {
    /// An empty text.
    Empty,
    /// That it is to be looked up in the environment.
    Null,
}

/// A mapping with known keys.
#[derive(Debug)]
pub struct Object {
    /// Its attributes, in the order in which they are printed.
    pub attrs: &'static [Attr],
    /// What it must have once everything is merged.
    pub required: &'static [&'static str],
    /// Whether `x-` keys may be in it.
    pub extensions: bool,
}

/// An attribute.
#[derive(Debug)]
pub struct Attr {
    /// Its key.
    pub name: &'static str,
    /// What its value looks like.
    pub shape: Shape,
    /// Whether it is printed even if it is false, zero or empty.
    pub keep: bool,
}

impl Object {
    /// The attribute of a name.
    pub fn attr(&self, name: &str) -> Option<&'static Attr> {
        self.attrs.iter().find(|a| a.name == name)
    }
}

const fn attr(name: &'static str, shape: Shape) -> Attr {
    Attr { name, shape, keep: false }
}

const fn kept(name: &'static str, shape: Shape) -> Attr {
    Attr { name, shape, keep: true }
}

const fn object(attrs: &'static [Attr]) -> Object {
    Object { attrs, required: &[], extensions: true }
}

const fn closed(attrs: &'static [Attr]) -> Object {
    Object { attrs, required: &[], extensions: false }
}

impl Object {
    const fn needs(mut self, required: &'static [&'static str]) -> Self {
        self.required = required;
        self
    }
}
