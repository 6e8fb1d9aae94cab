//! The parsed form of a template. Each node prints itself as Go prints it in error messages.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use crate::number::Number;

/// A node with its byte position in the source, so that an error can say where it happened.
pub(crate) trait Located: Display {
    /// Byte offset in the template's text.
    fn pos(&self) -> usize;
}

/// The text that a tree was parsed from.
#[derive(Debug)]
pub(crate) struct Source {
    /// The name under which the text was parsed.
    pub name: String,
    pub text: String,
}

/// One named template.
#[derive(Debug)]
pub(crate) struct Tree {
    pub source: Arc<Source>,
    pub root: Vec<Node>,
}

/// What stands between and inside the delimiters, at statement level.
#[derive(Debug)]
pub(crate) enum Node {
    Text(String),
    Action(Action),
    If(Branch),
    With(Branch),
    Range(Branch),
    Template(TemplateCall),
    Break,
    Continue,
    /// `{{end}}`: ends a list, never executed.
    End,
    /// `{{else}}`: ends a list, never executed.
    Else,
}

impl Node {
    /// The node as parse errors name it.
    pub fn keyword(&self) -> &'static str {
        match self {
            Self::End => "{{end}}",
            Self::Else => "{{else}}",
            _ => "action",
        }
    }
}

/// `{{pipeline}}`
#[derive(Debug)]
pub(crate) struct Action {
    pub pos: usize,
    pub pipe: Pipe,
}

/// `{{if|with|range pipeline}} … {{else}} … {{end}}`
#[derive(Debug)]
pub(crate) struct Branch {
    pub pipe: Pipe,
    pub list: Vec<Node>,
    pub otherwise: Option<Vec<Node>>,
}

/// `{{template "name" pipeline}}`
#[derive(Debug)]
pub(crate) struct TemplateCall {
    pub pos: usize,
    pub name: String,
    pub pipe: Option<Pipe>,
}

/// `$a, $b := command | command`
#[derive(Debug)]
pub(crate) struct Pipe {
    pub pos: usize,
    pub assign: bool,
    pub decls: Vec<String>,
    pub cmds: Vec<Command>,
}

/// Operands in a row; the first may be a function or a method.
#[derive(Debug)]
pub(crate) struct Command {
    pub pos: usize,
    pub args: Vec<Operand>,
}

/// One operand with its position.
#[derive(Debug)]
pub(crate) struct Operand {
    pub pos: usize,
    pub kind: OperandKind,
}

/// What an operand is.
#[derive(Debug)]
pub(crate) enum OperandKind {
    Ident(String),
    Field(Vec<String>),
    /// The variable's name with its `$`, then fields.
    Variable(Vec<String>),
    Chain(Box<Operand>, Vec<String>),
    Pipe(Pipe),
    Dot,
    Nil,
    Bool(bool),
    Number(Number),
    Str {
        quoted: String,
        text: String,
    },
}

impl Located for Action {
    fn pos(&self) -> usize {
        self.pos
    }
}

impl Display for Action {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{{{{{}}}}}", self.pipe)
    }
}

impl Located for TemplateCall {
    fn pos(&self) -> usize {
        self.pos
    }
}

impl Display for TemplateCall {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{{{{template {}", crate::quote::quote(&self.name))?;
        if let Some(pipe) = &self.pipe {
            write!(f, " {pipe}")?;
        }
        f.write_str("}}")
    }
}

impl Located for Pipe {
    fn pos(&self) -> usize {
        self.pos
    }
}

impl Display for Pipe {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.decls.is_empty() {
            f.write_str(&self.decls.join(", "))?;
            f.write_str(if self.assign { " = " } else { " := " })?;
        }
        for (i, cmd) in self.cmds.iter().enumerate() {
            if i > 0 {
                f.write_str(" | ")?;
            }
            write!(f, "{cmd}")?;
        }
        Ok(())
    }
}

impl Located for Command {
    fn pos(&self) -> usize {
        self.pos
    }
}

impl Display for Command {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, arg) in self.args.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            match &arg.kind {
                OperandKind::Pipe(pipe) => write!(f, "({pipe})")?,
                _ => write!(f, "{arg}")?,
            }
        }
        Ok(())
    }
}

impl Located for Operand {
    fn pos(&self) -> usize {
        self.pos
    }
}

impl Display for Operand {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            OperandKind::Ident(name) => f.write_str(name),
            OperandKind::Field(names) => names.iter().try_for_each(|n| write!(f, ".{n}")),
            OperandKind::Variable(names) => f.write_str(&names.join(".")),
            OperandKind::Chain(head, names) => {
                match &head.kind {
                    OperandKind::Pipe(pipe) => write!(f, "({pipe})")?,
                    _ => write!(f, "{head}")?,
                }
                names.iter().try_for_each(|n| write!(f, ".{n}"))
            }
            OperandKind::Pipe(pipe) => write!(f, "{pipe}"),
            OperandKind::Dot => f.write_str("."),
            OperandKind::Nil => f.write_str("nil"),
            OperandKind::Bool(b) => write!(f, "{b}"),
            OperandKind::Number(n) => f.write_str(&n.text),
            OperandKind::Str { quoted, .. } => f.write_str(quoted),
        }
    }
}
