//! Walks a tree over data and writes text. Knows statements, variables and control flow; operands are `eval`'s.

use std::fmt::Write;

use crate::ast::{Branch, Located, Node, Pipe, TemplateCall, Tree};
use crate::quote::quote;
use crate::{Elem, Error, Template, Value};

/// Templates that may call one another in a row; each level costs native stack.
const MAX_TEMPLATE_DEPTH: usize = 150;

/// A value with its static type, as far as it matters: Go's `reflect.Value`.
#[derive(Clone, Debug)]
pub(crate) enum Dyn {
    /// No value at all: a missing map key, untyped nil.
    Invalid,
    /// A value whose static type is its own.
    Val(Value),
    /// A value in an interface.
    Iface(Value),
}

impl Dyn {
    /// What a caller's data is: a nil has no type.
    pub fn of(v: Value) -> Self {
        if matches!(v, Value::Nil) { Self::Invalid } else { Self::Val(v) }
    }

    /// The element of a container with this element type.
    pub fn element(v: Value, elem: Elem) -> Self {
        match elem {
            Elem::Any => Self::Iface(v),
            Elem::Str => Self::Val(v),
        }
    }

    /// The value without its static type.
    pub fn value(&self) -> Value {
        match self {
            Self::Invalid => Value::Nil,
            Self::Val(v) | Self::Iface(v) => v.clone(),
        }
    }

    /// Takes the value out of an interface; an empty interface holds no value.
    pub fn concrete(self) -> Self {
        match self {
            Self::Iface(v) => Self::of(v),
            other => other,
        }
    }

    /// The value as the escaping functions print it: nothing prints as `<no value>`.
    pub fn printable(&self) -> Value {
        match self.value() {
            Value::Nil => Value::str("<no value>"),
            v => v,
        }
    }

    /// The name of the static type.
    pub fn type_name(&self) -> String {
        match self {
            Self::Invalid => "<nil>".into(),
            Self::Iface(_) => "interface {}".into(),
            Self::Val(v) => v.type_name().into_owned(),
        }
    }

    /// Go's `%v` of a `reflect.Value`.
    pub fn show(&self) -> String {
        match self {
            Self::Invalid => "<invalid reflect.Value>".into(),
            Self::Val(v) | Self::Iface(v) => crate::format::sprint(std::slice::from_ref(v)),
        }
    }
}

/// Why a walk ends early.
pub(crate) enum Stop {
    Break,
    Continue,
    Error(Error),
}

pub(crate) type Walk<T = ()> = Result<T, Stop>;

/// The state of one execution.
pub(crate) struct State<'a, 'w> {
    pub template: &'a Template,
    pub name: &'a str,
    pub tree: &'a Tree,
    pub at: Option<&'a dyn Located>,
    pub vars: Vec<(&'a str, Dyn)>,
    out: &'w mut dyn Write,
    depth: usize,
}

/// Executes the tree `name` of `template`.
pub(crate) fn execute(
    template: &Template,
    name: &str,
    data: &Value,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let Some((name, tree)) = template.trees.get_key_value(name) else {
        return Err(Error::new(format!(
            "template: {name}: {} is an incomplete or empty template",
            quote(name)
        )));
    };
    let dot = Dyn::of(data.clone());
    let mut state = State { template, name, tree, at: None, vars: vec![("$", dot.clone())], out, depth: 0 };
    match state.list(&dot, &tree.root) {
        Err(Stop::Error(e)) => Err(e),
        _ => Ok(()),
    }
}

impl<'a> State<'a, '_> {
    /// An error at the current node.
    pub fn error<T>(&self, message: impl std::fmt::Display) -> Walk<T> {
        let text = match self.at {
            None => format!("template: {}: {message}", self.name),
            Some(node) => {
                let before = self.tree.source.text.get(..node.pos()).unwrap_or_default();
                let line = 1 + before.matches('\n').count();
                let column = before.len() - before.rfind('\n').map_or(0, |i| i + 1);
                let (source, name) = (&self.tree.source.name, quote(self.name));
                format!("template: {source}:{line}:{column}: executing {name} at <{node}>: {message}")
            }
        };
        Err(Stop::Error(Error::new(text)))
    }

    fn write(&mut self, text: &str) -> Walk {
        self.out
            .write_str(text)
            .map_err(|_| Stop::Error(Error::new("template: the output cannot be written".into())))
    }

    fn list(&mut self, dot: &Dyn, nodes: &'a [Node]) -> Walk {
        nodes.iter().try_for_each(|node| self.node(dot, node))
    }

    fn node(&mut self, dot: &Dyn, node: &'a Node) -> Walk {
        match node {
            Node::Text(text) => self.write(text),
            Node::Action(action) => {
                self.at = Some(action);
                let value = self.pipe(dot, &action.pipe)?;
                if !action.pipe.decls.is_empty() {
                    return Ok(());
                }
                self.at = Some(action);
                self.print(action, &value)
            }
            Node::If(branch) => self.branch(dot, branch, false),
            Node::With(branch) => self.branch(dot, branch, true),
            Node::Range(branch) => {
                let mark = self.vars.len();
                let result = self.range(dot, branch, mark);
                self.vars.truncate(mark);
                result
            }
            Node::Template(call) => self.call_template(dot, call),
            Node::Break => Err(Stop::Break),
            Node::Continue => Err(Stop::Continue),
            Node::End | Node::Else => Ok(()),
        }
    }

    fn print(&mut self, node: &dyn Located, value: &Dyn) -> Walk {
        match value {
            Dyn::Invalid => self.write("<no value>"),
            Dyn::Val(v @ Value::Func(_)) | Dyn::Iface(v @ Value::Func(_)) => {
                self.error(format!("can't print {node} of type {}", v.type_name()))
            }
            Dyn::Val(Value::Str(s)) => self.write(s),
            Dyn::Val(v) | Dyn::Iface(v) => self.write(&crate::format::sprint(std::slice::from_ref(v))),
        }
    }

    fn branch(&mut self, dot: &Dyn, branch: &'a Branch, with: bool) -> Walk {
        let mark = self.vars.len();
        let value = self.pipe(dot, &branch.pipe)?;
        let result = if value.value().truth() {
            self.list(if with { &value } else { dot }, &branch.list)
        } else {
            branch.otherwise.as_deref().map_or(Ok(()), |list| self.list(dot, list))
        };
        self.vars.truncate(mark);
        result
    }

    /// One round of a range; false if it broke off.
    fn round(&mut self, branch: &'a Branch, index: Dyn, item: Dyn) -> Walk<bool> {
        let decls = &branch.pipe.decls;
        let mark = self.vars.len();
        let values = if decls.len() > 1 { vec![index, item.clone()] } else { vec![item.clone()] };
        if branch.pipe.assign {
            for (name, value) in decls.iter().zip(values) {
                self.set_var(name, value)?;
            }
        } else {
            // The pipeline pushed its variables; they are on top.
            for (i, value) in (mark - decls.len()..mark).zip(values) {
                self.vars[i].1 = value;
            }
        }
        let result = self.list(&item, &branch.list);
        self.vars.truncate(mark);
        match result {
            Err(Stop::Break) => Ok(false),
            Ok(()) | Err(Stop::Continue) => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn range(&mut self, dot: &Dyn, branch: &'a Branch, mark: usize) -> Walk {
        let over = self.pipe(dot, &branch.pipe)?;
        let two = branch.pipe.decls.len() > 1;
        let mut empty = true;
        match over.value() {
            v @ (Value::Int(_) | Value::Uint(_) | Value::Byte(_)) => {
                if two {
                    return self
                        .error(format!("can't use {} to iterate over more than one variable", over.show()));
                }
                let count = v.as_int().unwrap_or(i64::MAX);
                for i in 0..count {
                    empty = false;
                    if !self.round(branch, Dyn::Invalid, Dyn::Val(Value::Int(i)))? {
                        break;
                    }
                }
            }
            Value::List(list) => {
                for (i, item) in list.items.iter().enumerate() {
                    empty = false;
                    let index = Value::Int(i64::try_from(i).unwrap_or(i64::MAX));
                    if !self.round(branch, Dyn::Val(index), Dyn::element(item.clone(), list.elem))? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for (key, item) in &map.entries {
                    empty = false;
                    let key = Dyn::Val(Value::str(key.as_str()));
                    if !self.round(branch, key, Dyn::element(item.clone(), map.elem))? {
                        break;
                    }
                }
            }
            Value::Nil => {}
            _ => return self.error(format!("range can't iterate over {}", over.show())),
        }
        match &branch.otherwise {
            Some(list) if empty => {
                self.vars.truncate(mark + branch.pipe.decls.len());
                self.list(dot, list)
            }
            _ => Ok(()),
        }
    }

    fn call_template(&mut self, dot: &Dyn, call: &'a TemplateCall) -> Walk {
        self.at = Some(call);
        let Some((name, tree)) = self.template.trees.get_key_value(&call.name) else {
            return self.error(format!("template {} not defined", quote(&call.name)));
        };
        if self.depth >= MAX_TEMPLATE_DEPTH {
            return self.error(format!("exceeded maximum template depth ({MAX_TEMPLATE_DEPTH})"));
        }
        let dot = match &call.pipe {
            Some(pipe) => self.pipe(dot, pipe)?,
            None => Dyn::Invalid,
        };
        let mut inner = State {
            template: self.template,
            name,
            tree,
            at: self.at,
            vars: vec![("$", dot.clone())],
            out: &mut *self.out,
            depth: self.depth + 1,
        };
        inner.list(&dot, &tree.root)
    }

    /// Evaluates a pipeline and sets its variables.
    pub fn pipe(&mut self, dot: &Dyn, pipe: &'a Pipe) -> Walk<Dyn> {
        self.at = Some(pipe);
        let mut value = None;
        for cmd in &pipe.cmds {
            value = Some(self.command(dot, cmd, value)?.concrete());
        }
        let value = value.unwrap_or(Dyn::Invalid);
        for name in &pipe.decls {
            if pipe.assign {
                self.set_var(name, value.clone())?;
            } else {
                self.vars.push((name, value.clone()));
            }
        }
        Ok(value)
    }

    fn set_var(&mut self, name: &str, value: Dyn) -> Walk {
        match self.vars.iter_mut().rev().find(|(n, _)| *n == name) {
            Some(var) => {
                var.1 = value;
                Ok(())
            }
            None => self.error(format!("undefined variable: {name}")),
        }
    }
}
