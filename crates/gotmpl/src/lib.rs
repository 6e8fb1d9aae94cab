//! Go's text/template over JSON-like values, for Docker's `--format` and for Helm charts.
//!
//! Templates behave, print and fail as they do in Go, with the same error texts. Data are [`Value`]s: JSON's, plus
//! typed maps and lists, structs, and methods and functions that the caller supplies. Pure: no I/O, no clock.
//!
//! Deliberately absent: complex numbers, channels, pointers' addresses. Nesting is limited more tightly than in
//! Go (200 levels of control structures and parentheses, 150 of template calls), so that no template can
//! exhaust the native stack. Strings are UTF-8: a slice that cuts a character yields U+FFFD.
#![forbid(unsafe_code)]

mod ast;
mod builtin;
mod docker;
mod eval;
mod exec;
mod float;
mod format;
mod function;
mod json;
mod lex;
mod number;
mod parse;
mod quote;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use docker::docker_functions;
pub use format::{sprint, sprintf};
pub use function::{Function, Functions, Param, Signature};
pub use json::to_json;
pub use quote::quote;
pub use value::{Elem, List, Map, Shape, Struct, Value};

use ast::{Source, Tree};

/// Why a template cannot be parsed or executed: Go's message, with its `template: NAME:LINE` in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    pub(crate) fn new(message: String) -> Self {
        Self(message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// What a key that a map lacks evaluates to (Go's `missingkey` option).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingKey {
    /// Nothing, which prints as `<no value>` (Go's `default` and `invalid`).
    #[default]
    Invalid,
    /// The zero value of the map's element type.
    Zero,
    /// An error.
    Error,
}

/// A set of named templates, one of which bears the set's own name.
#[derive(Debug)]
pub struct Template {
    name: String,
    left: String,
    right: String,
    pub(crate) missing_key: MissingKey,
    pub(crate) functions: Arc<Functions>,
    pub(crate) trees: BTreeMap<String, Tree>,
}

impl Template {
    /// An empty set. Docker's command line names its templates with the empty string.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            left: "{{".into(),
            right: "}}".into(),
            missing_key: MissingKey::default(),
            functions: Arc::default(),
            trees: BTreeMap::new(),
        }
    }

    /// Adds functions; one with the name of a built-in function replaces it.
    #[must_use]
    pub fn with_functions(mut self, functions: Functions) -> Self {
        Arc::make_mut(&mut self.functions).extend(functions);
        self
    }

    /// Sets what a missing map key evaluates to.
    #[must_use]
    pub fn with_missing_key(mut self, missing_key: MissingKey) -> Self {
        self.missing_key = missing_key;
        self
    }

    /// Sets the delimiters; an empty one stands for the default.
    #[must_use]
    pub fn with_delimiters(mut self, left: &str, right: &str) -> Self {
        self.left = if left.is_empty() { "{{" } else { left }.to_owned();
        self.right = if right.is_empty() { "}}" } else { right }.to_owned();
        self
    }

    /// Parses `text` as the template that bears the set's name, with all that it defines.
    ///
    /// # Errors
    /// Go's message about the first mistake in `text`.
    pub fn parse(&mut self, text: &str) -> Result<(), Error> {
        let name = self.name.clone();
        self.parse_as(&name, text)
    }

    /// Parses `text` as the template `name`. Definitions replace earlier ones unless they are empty.
    ///
    /// # Errors
    /// Go's message about the first mistake in `text`.
    pub fn parse_as(&mut self, name: &str, text: &str) -> Result<(), Error> {
        let source = Arc::new(Source { name: name.to_owned(), text: text.to_owned() });
        let known = |f: &str| self.functions.contains_key(f) || builtin::signature(f).is_some();
        let rules = lex::Rules {
            left: &self.left,
            right: &self.right,
            break_keyword: !known("break"),
            continue_keyword: !known("continue"),
        };
        for (name, tree) in parse::parse(source, &rules, &known).map_err(Error)? {
            if !parse::is_empty(&tree.root) || !self.trees.contains_key(&name) {
                self.trees.insert(name, tree);
            }
        }
        Ok(())
    }

    /// Whether a template of this name is defined.
    #[must_use]
    pub fn defines(&self, name: &str) -> bool {
        self.trees.contains_key(name)
    }

    /// Executes the template that bears the set's name.
    ///
    /// # Errors
    /// Go's message, with position and the node that failed.
    pub fn execute(&self, data: &Value) -> Result<String, Error> {
        self.execute_template(&self.name, data)
    }

    /// Executes the template `name`.
    ///
    /// # Errors
    /// Go's message, with position and the node that failed.
    pub fn execute_template(&self, name: &str, data: &Value) -> Result<String, Error> {
        let mut out = String::new();
        if name != self.name && !self.trees.contains_key(name) {
            let (name, own) = (quote::quote(name), quote::quote(&self.name));
            return Err(Error(format!("template: no template {name} associated with template {own}")));
        }
        exec::execute(self, name, data, &mut out)?;
        Ok(out)
    }

    /// Executes the template that bears the set's name into `out`, which keeps what was written before an error.
    ///
    /// # Errors
    /// Go's message, with position and the node that failed.
    pub fn execute_to(&self, data: &Value, out: &mut dyn fmt::Write) -> Result<(), Error> {
        exec::execute(self, &self.name, data, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str, data: &Value) -> Result<String, String> {
        let mut template = Template::new("").with_functions(docker_functions());
        template.parse(text).and_then(|()| template.execute(data)).map_err(|e| e.to_string())
    }

    #[test]
    fn a_struct_refuses_what_it_lacks() {
        let json = serde_json::json!({"ID": "abc", "Labels": {"a": "b"}});
        let data = Value::from_json_struct(&json, "*formatter.ContainerContext");
        assert_eq!(render("{{.ID}} {{.Labels.zz}}", &data), Ok("abc <no value>".into()));
        assert_eq!(
            render("{{.Nope}}", &data),
            Err("template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope in type \
                 *formatter.ContainerContext"
                .into())
        );
    }

    #[test]
    fn shapes_give_go_types() {
        let json = serde_json::json!({"Config": {"Labels": {"a": "b"}, "Env": ["A=1"]}, "Health": null});
        let data = Value::from_json_with(&json, &|path| match path {
            ["Config", "Labels" | "Env"] => Shape::Strings,
            [] => Shape::Struct("container.State".into()),
            ["Health"] => Shape::Struct("*container.Health".into()),
            _ => Shape::Any,
        });
        assert_eq!(
            render("[{{index .Config.Labels \"x\"}}]{{printf \"%T\" .Config.Env}}", &data).expect("renders"),
            "[][]string"
        );
        assert_eq!(render("{{.Health}}", &data).expect("renders"), "<nil>");
        assert!(
            render("{{.Health.Status}}", &data)
                .expect_err("fails")
                .ends_with("nil pointer evaluating *container.Health.Status")
        );
    }

    #[test]
    fn what_was_written_before_an_error_stays() {
        let mut template = Template::new("t");
        template.parse("a{{len 3}}").expect("renders");
        let mut out = String::new();
        let error = template.execute_to(&Value::Nil, &mut out).expect_err("fails").to_string();
        assert_eq!(out, "a");
        assert_eq!(error, "template: t:1:3: executing \"t\" at <len 3>: error calling len: len of type int");
    }

    #[test]
    fn functions_can_execute_other_templates() {
        let include = Function::with_template(Signature::fixed(&[Param::Str, Param::Any]), |t, args| {
            let text = t.execute_template(args[0].as_str().unwrap_or_default(), &args[1]);
            text.map(Value::from).map_err(|e| e.to_string())
        });
        let mut template = Template::new("main").with_functions([("include".to_owned(), include)].into());
        template.parse_as("helpers", "{{define \"name\"}}<{{.}}>{{end}}").expect("renders");
        template.parse("{{include \"name\" 3 | printf \"%s!\"}}").expect("renders");
        assert_eq!(template.execute(&Value::Nil).expect("renders"), "<3>!");
        assert!(template.defines("name") && !template.defines("other"));
    }

    #[test]
    fn other_delimiters() {
        let mut template = Template::new("").with_delimiters("<<", ">>");
        template.parse("{{x}} << .a ->>  b").expect("renders");
        assert_eq!(template.execute(&Value::map([("a", Value::Int(1))])).expect("renders"), "{{x}} 1b");
    }

    #[test]
    fn no_template_exhausts_the_stack() {
        let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        assert!(
            render(&format!("{{{{{}}}}}", deep("(", ")")), &Value::Nil).expect_err("fails").contains("depth")
        );
        assert!(render(&deep("{{if 1}}", "{{end}}"), &Value::Nil).expect_err("fails").contains("depth"));
        let chained = format!("{{{{if 0}}}}{}{{{{end}}}}", "{{else if 0}}".repeat(100_000));
        assert!(render(&chained, &Value::Nil).expect_err("fails").contains("depth"));
        let recursive = "{{define \"r\"}}{{if 1}}{{template \"r\" .}}{{end}}{{end}}{{template \"r\" .}}";
        assert!(
            render(recursive, &Value::Nil).expect_err("fails").contains("exceeded maximum template depth")
        );
    }
}
