//! Builds trees out of tokens, with Go's grammar and Go's error texts. It evaluates nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ast::{Action, Branch, Command, Node, Operand, OperandKind, Pipe, Source, TemplateCall, Tree};
use crate::lex::{Kind, Rules, Token, lex};
use crate::number::Number;
use crate::quote::{quote, unquote};

/// Nested parentheses and control structures that a template may have (each costs native stack).
const MAX_DEPTH: usize = 200;

/// Parses `source`; each `define` and `block` and the text itself is one tree.
pub(crate) fn parse(
    source: Arc<Source>,
    rules: &Rules<'_>,
    known: &dyn Fn(&str) -> bool,
) -> Result<BTreeMap<String, Tree>, String> {
    let tokens = lex(&source.text, rules);
    let mut parser = Parser {
        source,
        tokens,
        next: 0,
        seen: 0,
        known,
        vars: vec!["$".into()],
        action_line: 0,
        range_depth: 0,
        depth: 0,
        trees: BTreeMap::new(),
    };
    let root = parser.top()?;
    let name = parser.source.name.clone();
    parser.add(name, root)?;
    Ok(parser.trees)
}

/// Whether a tree holds nothing but space and comments, so that it does not replace another of its name.
pub(crate) fn is_empty(root: &[Node]) -> bool {
    root.iter().all(|n| matches!(n, Node::Text(t) if t.chars().all(char::is_whitespace)))
}

struct Parser<'a> {
    source: Arc<Source>,
    tokens: Vec<Token>,
    next: usize,
    /// How many tokens have been looked at: errors name the line of the last one.
    seen: usize,
    known: &'a dyn Fn(&str) -> bool,
    vars: Vec<String>,
    action_line: usize,
    range_depth: usize,
    depth: usize,
    trees: BTreeMap<String, Tree>,
}

type Parsed<T> = Result<T, String>;

impl Parser<'_> {
    fn take(&mut self) -> Token {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn peek(&mut self) -> Token {
        // The last token is the end, which repeats.
        let at = self.next.min(self.tokens.len() - 1);
        self.seen = self.seen.max(at);
        self.tokens[at].clone()
    }

    fn take_non_space(&mut self) -> Token {
        loop {
            let token = self.take();
            if token.kind != Kind::Space {
                return token;
            }
        }
    }

    fn peek_non_space(&mut self) -> Token {
        let token = self.take_non_space();
        self.next -= 1;
        token
    }

    fn error<T>(&self, message: impl std::fmt::Display) -> Parsed<T> {
        Err(format!("template: {}:{}: {message}", self.source.name, self.tokens[self.seen].line))
    }

    fn unexpected<T>(&self, token: &Token, context: &str) -> Parsed<T> {
        if token.kind != Kind::Error {
            return self.error(format!("unexpected {token} in {context}"));
        }
        let mut extra = String::new();
        if self.action_line != 0 && self.action_line != token.line {
            extra = format!(" in action started at {}:{}", self.source.name, self.action_line);
            if token.text.ends_with(" action") {
                extra.replace_range(..10, "");
            }
        }
        self.error(format!("{token}{extra}"))
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Parsed<Token> {
        let token = self.take_non_space();
        if token.kind == kind { Ok(token) } else { self.unexpected(&token, context) }
    }

    fn add(&mut self, name: String, root: Vec<Node>) -> Parsed<()> {
        if let Some(old) = self.trees.get(&name)
            && !is_empty(&old.root)
        {
            if is_empty(&root) {
                return Ok(());
            }
            return self.error(format!("template: multiple definition of template {}", quote(&name)));
        }
        self.trees.insert(name, Tree { source: self.source.clone(), root });
        Ok(())
    }

    fn top(&mut self) -> Parsed<Vec<Node>> {
        let mut root = Vec::new();
        loop {
            let token = self.peek();
            match token.kind {
                Kind::Eof => return Ok(root),
                Kind::LeftDelim => {
                    let back = self.next;
                    self.take();
                    if self.take_non_space().kind == Kind::Define {
                        self.definition()?;
                        continue;
                    }
                    self.next = back;
                }
                _ => {}
            }
            match self.text_or_action()? {
                n @ (Node::End | Node::Else) => return self.error(format!("unexpected {}", n.keyword())),
                n => root.push(n),
            }
        }
    }

    fn definition(&mut self) -> Parsed<()> {
        let context = "define clause";
        let token = self.take_non_space();
        let name = self.template_name(&token, context)?;
        self.expect(Kind::RightDelim, context)?;
        let root = self.sub_tree(context)?;
        self.add(name, root)
    }

    /// A list up to its `end`, with variables and ranges of its own.
    fn sub_tree(&mut self, context: &str) -> Parsed<Vec<Node>> {
        let vars = std::mem::replace(&mut self.vars, vec!["$".into()]);
        let ranges = std::mem::take(&mut self.range_depth);
        let line = std::mem::take(&mut self.action_line);
        let (list, end) = self.item_list()?;
        if !matches!(end, Node::End) {
            return self.error(format!("unexpected {} in {context}", end.keyword()));
        }
        self.vars = vars;
        self.range_depth = ranges;
        self.action_line = line;
        Ok(list)
    }

    fn item_list(&mut self) -> Parsed<(Vec<Node>, Node)> {
        if self.depth >= MAX_DEPTH {
            return self.error("max expression depth exceeded");
        }
        self.depth += 1;
        let mut list = Vec::new();
        while self.peek_non_space().kind != Kind::Eof {
            match self.text_or_action()? {
                n @ (Node::End | Node::Else) => {
                    self.depth -= 1;
                    return Ok((list, n));
                }
                n => list.push(n),
            }
        }
        self.error("unexpected EOF")
    }

    fn text_or_action(&mut self) -> Parsed<Node> {
        let token = self.take_non_space();
        match token.kind {
            Kind::Text => Ok(Node::Text(token.text)),
            Kind::LeftDelim => {
                self.action_line = token.line;
                let node = self.action()?;
                self.action_line = 0;
                Ok(node)
            }
            _ => self.unexpected(&token, "input"),
        }
    }

    fn action(&mut self) -> Parsed<Node> {
        let token = self.take_non_space();
        match token.kind {
            Kind::Block => self.block(),
            Kind::Break => self.loop_exit("{{break}}", Node::Break),
            Kind::Continue => self.loop_exit("{{continue}}", Node::Continue),
            Kind::Else => self.otherwise(),
            Kind::End => self.expect(Kind::RightDelim, "end").map(|_| Node::End),
            Kind::If => self.control("if").map(Node::If),
            Kind::Range => self.control("range").map(Node::Range),
            Kind::With => self.control("with").map(Node::With),
            Kind::Template => self.template_call(),
            _ => {
                self.next -= 1;
                let pipe = self.pipeline("command", Kind::RightDelim)?;
                Ok(Node::Action(Action { pos: token.pos, pipe }))
            }
        }
    }

    fn loop_exit(&mut self, name: &str, node: Node) -> Parsed<Node> {
        self.expect(Kind::RightDelim, name)?;
        if self.range_depth == 0 {
            return self.error(format!("{name} outside {{{{range}}}}"));
        }
        Ok(node)
    }

    fn otherwise(&mut self) -> Parsed<Node> {
        if !matches!(self.peek_non_space().kind, Kind::If | Kind::With) {
            self.expect(Kind::RightDelim, "else")?;
        }
        Ok(Node::Else)
    }

    fn control(&mut self, context: &str) -> Parsed<Branch> {
        let vars = self.vars.len();
        let pipe = self.pipeline(context, Kind::RightDelim)?;
        let looping = usize::from(context == "range");
        self.range_depth += looping;
        let (list, end) = self.item_list()?;
        self.range_depth -= looping;
        let otherwise = if matches!(end, Node::Else) { Some(self.else_list(context)?) } else { None };
        self.vars.truncate(vars);
        Ok(Branch { pipe, list, otherwise })
    }

    /// What follows `{{else`: a list, or for `else if` and `else with` one nested control structure.
    fn else_list(&mut self, context: &str) -> Parsed<Vec<Node>> {
        let chained = match self.peek().kind {
            Kind::If => context == "if",
            Kind::With => context == "with",
            _ => false,
        };
        if chained {
            self.take();
            if self.depth >= MAX_DEPTH {
                return self.error("max expression depth exceeded");
            }
            self.depth += 1;
            let branch = self.control(context)?;
            self.depth -= 1;
            return Ok(vec![if context == "if" { Node::If(branch) } else { Node::With(branch) }]);
        }
        let (list, end) = self.item_list()?;
        if !matches!(end, Node::End) {
            return self.error(format!("expected end; found {}", end.keyword()));
        }
        Ok(list)
    }

    fn block(&mut self) -> Parsed<Node> {
        let context = "block clause";
        let token = self.take_non_space();
        let name = self.template_name(&token, context)?;
        let pipe = self.pipeline(context, Kind::RightDelim)?;
        let root = self.sub_tree(context)?;
        self.add(name.clone(), root)?;
        Ok(Node::Template(TemplateCall { pos: token.pos, name, pipe: Some(pipe) }))
    }

    fn template_call(&mut self) -> Parsed<Node> {
        let context = "template clause";
        let token = self.take_non_space();
        let name = self.template_name(&token, context)?;
        let mut pipe = None;
        if self.take_non_space().kind != Kind::RightDelim {
            self.next -= 1;
            pipe = Some(self.pipeline(context, Kind::RightDelim)?);
        }
        Ok(Node::Template(TemplateCall { pos: token.pos, name, pipe }))
    }

    fn template_name(&mut self, token: &Token, context: &str) -> Parsed<String> {
        if !matches!(token.kind, Kind::String | Kind::RawString) {
            return self.unexpected(token, context);
        }
        unquote(&token.text).map_or_else(|| self.error("invalid syntax"), Ok)
    }

    fn pipeline(&mut self, context: &str, end: Kind) -> Parsed<Pipe> {
        let pos = self.peek_non_space().pos;
        let mut pipe = Pipe { pos, assign: false, decls: Vec::new(), cmds: Vec::new() };
        self.declarations(&mut pipe, context)?;
        loop {
            let token = self.take_non_space();
            match token.kind {
                k if k == end => break,
                Kind::Bool
                | Kind::CharConstant
                | Kind::Complex
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::RawString
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => {
                    self.next -= 1;
                    pipe.cmds.push(self.command()?);
                }
                _ => return self.unexpected(&token, context),
            }
        }
        self.check(&pipe, context)?;
        Ok(pipe)
    }

    fn declarations(&mut self, pipe: &mut Pipe, context: &str) -> Parsed<()> {
        loop {
            let back = self.next;
            let var = self.peek_non_space();
            if var.kind != Kind::Variable {
                return Ok(());
            }
            self.take_non_space();
            let op = self.peek_non_space();
            let comma = op.kind == Kind::Char && op.text == ",";
            if !comma && !matches!(op.kind, Kind::Assign | Kind::Declare) {
                self.next = back;
                return Ok(());
            }
            self.take_non_space();
            pipe.assign = op.kind == Kind::Assign;
            pipe.decls.push(var.text.clone());
            self.vars.push(var.text);
            if !comma {
                return Ok(());
            }
            if context != "range" || pipe.decls.len() >= 2 {
                return self.error(format!("too many declarations in {context}"));
            }
            if !matches!(self.peek_non_space().kind, Kind::Variable | Kind::RightDelim | Kind::RightParen) {
                return self.error("range can only initialize variables");
            }
        }
    }

    fn check(&self, pipe: &Pipe, context: &str) -> Parsed<()> {
        if pipe.cmds.is_empty() {
            return self.error(format!("missing value for {context}"));
        }
        for (i, cmd) in pipe.cmds.iter().enumerate().skip(1) {
            use OperandKind as K;
            if matches!(cmd.args[0].kind, K::Bool(_) | K::Dot | K::Nil | K::Number(_) | K::Str { .. }) {
                return self.error(format!("non executable command in pipeline stage {}", i + 1));
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Parsed<Command> {
        let mut cmd = Command { pos: self.peek_non_space().pos, args: Vec::new() };
        loop {
            self.peek_non_space();
            cmd.args.extend(self.operand()?);
            let token = self.take();
            match token.kind {
                Kind::Space => {}
                Kind::RightDelim | Kind::RightParen => {
                    self.next -= 1;
                    break;
                }
                Kind::Pipe => break,
                _ => return self.unexpected(&token, "operand"),
            }
        }
        if cmd.args.is_empty() {
            return self.error("empty command");
        }
        Ok(cmd)
    }

    fn operand(&mut self) -> Parsed<Option<Operand>> {
        let Some(head) = self.term()? else { return Ok(None) };
        let first = self.peek();
        if first.kind != Kind::Field {
            return Ok(Some(head));
        }
        let mut names = Vec::new();
        while self.peek().kind == Kind::Field {
            names.push(self.take().text[1..].to_owned());
        }
        use OperandKind as K;
        let kind = match head.kind {
            K::Field(mut all) => {
                all.append(&mut names);
                K::Field(all)
            }
            K::Variable(mut all) => {
                all.append(&mut names);
                K::Variable(all)
            }
            K::Bool(_) | K::Str { .. } | K::Number(_) | K::Nil | K::Dot => {
                return self.error(format!("unexpected . after term {}", quote(&head.to_string())));
            }
            _ => K::Chain(Box::new(head), names),
        };
        Ok(Some(Operand { pos: first.pos, kind }))
    }

    fn term(&mut self) -> Parsed<Option<Operand>> {
        use OperandKind as K;
        let token = self.take_non_space();
        let kind = match token.kind {
            Kind::Identifier if (self.known)(&token.text) => K::Ident(token.text),
            Kind::Identifier => return self.error(format!("function {} not defined", quote(&token.text))),
            Kind::Dot => K::Dot,
            Kind::Nil => K::Nil,
            Kind::Variable if self.vars.contains(&token.text) => K::Variable(vec![token.text]),
            Kind::Variable => return self.error(format!("undefined variable {}", quote(&token.text))),
            Kind::Field => K::Field(vec![token.text[1..].to_owned()]),
            Kind::Bool => K::Bool(token.text == "true"),
            Kind::CharConstant => K::Number(Number::from_char(&token.text).or_else(|e| self.error(e))?),
            Kind::Number | Kind::Complex => K::Number(Number::parse(&token.text).or_else(|e| self.error(e))?),
            Kind::LeftParen => K::Pipe(self.parenthesized()?),
            Kind::String | Kind::RawString => match unquote(&token.text) {
                Some(text) => K::Str { quoted: token.text, text },
                None => return self.error("invalid syntax"),
            },
            _ => {
                self.next -= 1;
                return Ok(None);
            }
        };
        Ok(Some(Operand { pos: token.pos, kind }))
    }

    fn parenthesized(&mut self) -> Parsed<Pipe> {
        if self.depth >= MAX_DEPTH {
            return self.error("max expression depth exceeded");
        }
        self.depth += 1;
        let pipe = self.pipeline("parenthesized pipeline", Kind::RightParen)?;
        self.depth -= 1;
        Ok(pipe)
    }
}
