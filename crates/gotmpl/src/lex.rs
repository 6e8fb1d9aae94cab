//! Cuts a template's text into tokens. It knows delimiters, trim markers and comments; it knows no grammar.
//!
//! All tokens are made at once. After an error token nothing but the end follows.

use crate::quote::quote_rune_name;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Error,
    Bool,
    Char,
    CharConstant,
    Complex,
    Assign,
    Declare,
    Eof,
    Field,
    Identifier,
    LeftDelim,
    LeftParen,
    Number,
    Pipe,
    RawString,
    RightDelim,
    RightParen,
    Space,
    String,
    Text,
    Variable,
    Block,
    Break,
    Continue,
    Dot,
    Define,
    Else,
    End,
    If,
    Nil,
    Range,
    Template,
    With,
}

impl Kind {
    fn is_keyword(self) -> bool {
        matches!(
            self,
            Self::Block
                | Self::Break
                | Self::Continue
                | Self::Dot
                | Self::Define
                | Self::Else
                | Self::End
                | Self::If
                | Self::Nil
                | Self::Range
                | Self::Template
                | Self::With
        )
    }
}

/// One token: its kind, its text (for an error: the message), where it starts and on which line (from 1).
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub kind: Kind,
    pub text: String,
    pub pos: usize,
    pub line: usize,
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            Kind::Eof => f.write_str("EOF"),
            Kind::Error => f.write_str(&self.text),
            k if k.is_keyword() => write!(f, "<{}>", self.text),
            _ if self.text.len() > 10 => {
                let head: String = self.text.chars().take(10).collect();
                write!(f, "{}...", crate::quote::quote(&head))
            }
            _ => f.write_str(&crate::quote::quote(&self.text)),
        }
    }
}

/// What may vary between templates.
pub(crate) struct Rules<'a> {
    pub left: &'a str,
    pub right: &'a str,
    /// `break` and `continue` are keywords unless functions have these names.
    pub break_keyword: bool,
    pub continue_keyword: bool,
}

/// The tokens of `input`, ended by one `Eof`.
pub(crate) fn lex(input: &str, rules: &Rules<'_>) -> Vec<Token> {
    let mut lexer =
        Lexer { input, rules, pos: 0, start: 0, line: 1, start_line: 1, parens: 0, tokens: Vec::new() };
    if let Err(message) = lexer.run() {
        let (pos, line) = (lexer.start, lexer.start_line);
        lexer.tokens.push(Token { kind: Kind::Error, text: message, pos, line });
    }
    let (pos, line) = (lexer.pos, lexer.start_line);
    lexer.tokens.push(Token { kind: Kind::Eof, text: String::new(), pos, line });
    lexer.tokens
}

struct Lexer<'a> {
    input: &'a str,
    rules: &'a Rules<'a>,
    pos: usize,
    start: usize,
    line: usize,
    start_line: usize,
    parens: usize,
    tokens: Vec<Token>,
}

type Step = Result<(), String>;

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.input[self.pos..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        if c == '\n' {
            self.line += 1;
        }
        Some(c)
    }

    /// Moves on by `n` bytes, counting lines.
    fn skip(&mut self, n: usize) {
        self.line += self.input[self.pos..self.pos + n].matches('\n').count();
        self.pos += n;
    }

    fn emit(&mut self, kind: Kind) {
        let text = self.input[self.start..self.pos].to_owned();
        self.tokens.push(Token { kind, text, pos: self.start, line: self.start_line });
        self.ignore();
    }

    fn ignore(&mut self) {
        self.start = self.pos;
        self.start_line = self.line;
    }

    fn run(&mut self) -> Step {
        while let Some(at) = self.rest().find(self.rules.left) {
            self.text_before(at);
            self.left_delim()?;
        }
        self.skip(self.rest().len());
        if self.pos > self.start {
            self.emit(Kind::Text);
        }
        Ok(())
    }

    fn text_before(&mut self, len: usize) {
        let text = &self.rest()[..len];
        let keep = if has_left_trim(&self.rest()[len + self.rules.left.len()..]) {
            text.trim_end_matches(is_space).len()
        } else {
            len
        };
        self.skip(keep);
        if keep > 0 {
            self.emit(Kind::Text);
        }
        self.skip(len - keep);
        self.ignore();
    }

    fn left_delim(&mut self) -> Step {
        let left = self.rules.left.len();
        let marker = if has_left_trim(&self.rest()[left..]) { 2 } else { 0 };
        if self.rest()[left + marker..].starts_with("/*") {
            self.skip(left + marker);
            self.ignore();
            return self.comment();
        }
        self.skip(left);
        self.emit(Kind::LeftDelim);
        self.skip(marker);
        self.ignore();
        self.parens = 0;
        while !self.inside_action()? {}
        Ok(())
    }

    fn comment(&mut self) -> Step {
        let end = self.rest()[2..].find("*/").ok_or("unclosed comment")?;
        self.skip(end + 4);
        let (delim, trim) = self.at_right_delim();
        if !delim {
            return Err("comment ends before closing delimiter".into());
        }
        self.close(trim);
        self.ignore();
        Ok(())
    }

    fn close(&mut self, trim: bool) {
        self.skip(self.rules.right.len() + if trim { 2 } else { 0 });
        if trim {
            let rest = self.rest();
            self.skip(rest.len() - rest.trim_start_matches(is_space).len());
        }
    }

    fn at_right_delim(&self) -> (bool, bool) {
        let rest = self.rest();
        if has_right_trim(rest) && rest[2..].starts_with(self.rules.right) {
            return (true, true);
        }
        (rest.starts_with(self.rules.right), false)
    }

    /// One token inside an action; true at its end.
    fn inside_action(&mut self) -> Result<bool, String> {
        let (delim, trim) = self.at_right_delim();
        if delim {
            if self.parens > 0 {
                return Err("unclosed left paren".into());
            }
            if trim {
                self.skip(2);
                self.ignore();
            }
            self.skip(self.rules.right.len());
            self.emit(Kind::RightDelim);
            if trim {
                let rest = self.rest();
                self.skip(rest.len() - rest.trim_start_matches(is_space).len());
                self.ignore();
            }
            return Ok(true);
        }
        let Some(c) = self.peek() else { return Err("unclosed action".into()) };
        self.token(c)?;
        Ok(false)
    }

    fn token(&mut self, c: char) -> Step {
        match c {
            c if is_space(c) => self.space(),
            '+' | '-' | '0'..='9' => return self.number(),
            '.' if self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => return self.number(),
            c if is_alphanumeric(c) => return self.identifier(),
            _ => {
                self.next();
                return self.punctuation(c);
            }
        }
        Ok(())
    }

    fn punctuation(&mut self, c: char) -> Step {
        match c {
            '=' => self.emit(Kind::Assign),
            ':' if self.next() == Some('=') => self.emit(Kind::Declare),
            ':' => return Err("expected :=".into()),
            '|' => self.emit(Kind::Pipe),
            '"' => return self.quoted('"', Kind::String, "unterminated quoted string"),
            '\'' => return self.quoted('\'', Kind::CharConstant, "unterminated character constant"),
            '`' => return self.raw_string(),
            '$' => return self.field_or_variable(Kind::Variable),
            '.' => return self.field_or_variable(Kind::Field),
            '(' => {
                self.parens += 1;
                self.emit(Kind::LeftParen);
            }
            ')' if self.parens == 0 => return Err("unexpected right paren".into()),
            ')' => {
                self.parens -= 1;
                self.emit(Kind::RightParen);
            }
            c if c.is_ascii_graphic() => self.emit(Kind::Char),
            c => return Err(format!("unrecognized character in action: {}", quote_rune_name(Some(c)))),
        }
        Ok(())
    }

    /// A run of spaces, but for the last one if it belongs to a trim marker.
    fn space(&mut self) {
        let rest = self.rest();
        let mut len = rest.len() - rest.trim_start_matches(is_space).len();
        let last = &rest[len - 1..];
        if has_right_trim(last) && last[2..].starts_with(self.rules.right) {
            len -= 1;
        }
        if len > 0 {
            self.skip(len);
            self.emit(Kind::Space);
        }
    }

    fn take_while(&mut self, f: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&f) {
            self.next();
        }
    }

    fn accept(&mut self, set: &str) -> bool {
        let hit = self.peek().is_some_and(|c| set.contains(c));
        if hit {
            self.next();
        }
        hit
    }

    fn terminated(&self) -> Step {
        let next = self.peek();
        let good = match next {
            None => true,
            Some(c) => is_space(c) || ".,|:)(".contains(c) || self.rest().starts_with(self.rules.right),
        };
        if good { Ok(()) } else { Err(format!("bad character {}", quote_rune_name(next))) }
    }

    fn identifier(&mut self) -> Step {
        self.take_while(is_alphanumeric);
        self.terminated()?;
        let kind = match &self.input[self.start..self.pos] {
            "block" => Kind::Block,
            "break" if self.rules.break_keyword => Kind::Break,
            "continue" if self.rules.continue_keyword => Kind::Continue,
            "define" => Kind::Define,
            "else" => Kind::Else,
            "end" => Kind::End,
            "if" => Kind::If,
            "nil" => Kind::Nil,
            "range" => Kind::Range,
            "template" => Kind::Template,
            "with" => Kind::With,
            "true" | "false" => Kind::Bool,
            _ => Kind::Identifier,
        };
        self.emit(kind);
        Ok(())
    }

    fn field_or_variable(&mut self, kind: Kind) -> Step {
        if self.terminated().is_ok() {
            self.emit(if kind == Kind::Field { Kind::Dot } else { kind });
            return Ok(());
        }
        self.take_while(is_alphanumeric);
        self.terminated()?;
        self.emit(kind);
        Ok(())
    }

    fn quoted(&mut self, end: char, kind: Kind, error: &str) -> Step {
        loop {
            match self.next() {
                Some('\\') if !matches!(self.peek(), None | Some('\n')) => {
                    self.next();
                }
                None | Some('\n' | '\\') => return Err(error.into()),
                Some(c) if c == end => break,
                Some(_) => {}
            }
        }
        self.emit(kind);
        Ok(())
    }

    fn raw_string(&mut self) -> Step {
        let len = self.rest().find('`').ok_or("unterminated raw quoted string")?;
        self.skip(len + 1);
        self.emit(Kind::RawString);
        Ok(())
    }

    fn number(&mut self) -> Step {
        let bad =
            |l: &Self| Err(format!("bad number syntax: {}", crate::quote::quote(&l.input[l.start..l.pos])));
        if !self.scan_number() {
            return bad(self);
        }
        if !matches!(self.peek(), Some('+' | '-')) {
            self.emit(Kind::Number);
            return Ok(());
        }
        if !self.scan_number() || !self.input[..self.pos].ends_with('i') {
            return bad(self);
        }
        self.emit(Kind::Complex);
        Ok(())
    }

    fn scan_number(&mut self) -> bool {
        self.accept("+-");
        let mut digits = "0123456789_";
        if self.accept("0") {
            if self.accept("xX") {
                digits = "0123456789abcdefABCDEF_";
            } else if self.accept("oO") {
                digits = "01234567_";
            } else if self.accept("bB") {
                digits = "01_";
            }
        }
        self.take_while(|c| digits.contains(c));
        if self.accept(".") {
            self.take_while(|c| digits.contains(c));
        }
        let exponent = match digits.len() {
            11 => "eE",
            23 => "pP",
            _ => "",
        };
        if self.accept(exponent) {
            self.accept("+-");
            self.take_while(|c| c.is_ascii_digit() || c == '_');
        }
        self.accept("i");
        if self.peek().is_some_and(is_alphanumeric) {
            self.next();
            return false;
        }
        true
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_alphanumeric(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn has_left_trim(s: &str) -> bool {
    let b = s.as_bytes();
    b.len() >= 2 && b[0] == b'-' && is_space(b[1] as char)
}

fn has_right_trim(s: &str) -> bool {
    let b = s.as_bytes();
    b.len() >= 2 && is_space(b[0] as char) && b[1] == b'-'
}
