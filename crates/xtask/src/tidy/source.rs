//! Rust source seen by the rules: code with strings and comments blanked, comments alone, functions with their lengths.
//!
//! Not a parser: it relies on the workspace being formatted by rustfmt, which another check ensures.

/// One source file, split into what is executed and what is said; both keep the line structure of the file.
pub struct Source {
    /// The code, with the contents of comments, strings and character literals replaced by spaces.
    pub code: Vec<String>,
    /// The comments, with everything else replaced by spaces.
    pub comments: Vec<String>,
}

/// A function and the number of lines from its signature to its closing brace.
pub struct Function {
    /// Its name.
    pub name: String,
    /// Line number of its signature, from 1.
    pub line: usize,
    /// Lines.
    pub length: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Code,
    LineComment,
    BlockComment(usize),
    Text,
    RawText(usize),
}

impl Source {
    /// Splits `text`.
    pub fn new(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let (mut code, mut comments) = (String::new(), String::new());
        let mut state = State::Code;
        let mut at = 0;
        while at < chars.len() {
            let (next, width) = step(state, &chars, at);
            let comment = |s: State| matches!(s, State::LineComment | State::BlockComment(_));
            let is_comment = comment(state) || comment(next);
            let is_code = state == State::Code && next == State::Code;
            for &c in &chars[at..at + width] {
                let keep = |wanted: bool| if wanted || c == '\n' { c } else { ' ' };
                code.push(keep(is_code && width == 1));
                comments.push(keep(is_comment));
            }
            (state, at) = (next, at + width);
        }
        Self {
            code: code.lines().map(str::to_owned).collect(),
            comments: comments.lines().map(str::to_owned).collect(),
        }
    }

    /// Blanks everything under `#[cfg(test)]`, so that what remains is what is shipped.
    pub fn drop_tests(&mut self) {
        let mut line = 0;
        while line < self.code.len() {
            if self.code[line].trim_start().starts_with("#[cfg(test)]") {
                let indent = indent_of(&self.code[line]);
                let end = self.end_of_item(line, indent);
                for gone in line..=end.min(self.code.len() - 1) {
                    self.code[gone].clear();
                    self.comments[gone].clear();
                }
                line = end;
            }
            line += 1;
        }
    }

    /// The last line of the item that begins at `start` with `indent`.
    fn end_of_item(&self, start: usize, indent: usize) -> usize {
        for line in start + 1..self.code.len() {
            let text = self.code[line].trim_end();
            if indent_of(text) != indent || text.is_empty() {
                continue;
            }
            if text.ends_with(';') || text.trim_start().starts_with('}') || text.ends_with('}') {
                return line;
            }
        }
        self.code.len() - 1
    }

    /// Lines that hold code.
    pub fn code_lines(&self) -> usize {
        self.code.iter().filter(|l| !l.trim().is_empty()).count()
    }

    /// Every function with a body.
    pub fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for (number, line) in self.code.iter().enumerate() {
            let Some(name) = function_name(line) else { continue };
            let indent = indent_of(line);
            let length = self.code[number..].iter().position(|l| {
                let text = l.trim_end();
                indent_of(text) == indent && (text.ends_with('}') || text.ends_with(';'))
            });
            let Some(length) = length else { continue };
            if self.code[number + length].trim_end().ends_with('}') {
                found.push(Function { name, line: number + 1, length: length + 1 });
            }
        }
        found
    }
}

/// The state after the token at `at`, and how many characters that token has.
fn step(state: State, chars: &[char], at: usize) -> (State, usize) {
    let rest = &chars[at..];
    let starts = |text: &str| text.chars().enumerate().all(|(i, c)| rest.get(i) == Some(&c));
    match state {
        State::Code if starts("//") => (State::LineComment, 2),
        State::Code if starts("/*") => (State::BlockComment(1), 2),
        State::Code if rest[0] == '"' => (State::Text, 1),
        State::Code => match raw_text(chars, at) {
            Some((hashes, width)) => (State::RawText(hashes), width),
            None => (State::Code, character_literal(rest).unwrap_or(1)),
        },
        State::LineComment if rest[0] == '\n' => (State::Code, 1),
        State::LineComment => (State::LineComment, 1),
        State::BlockComment(1) if starts("*/") => (State::Code, 2),
        State::BlockComment(depth) if starts("*/") => (State::BlockComment(depth - 1), 2),
        State::BlockComment(depth) if starts("/*") => (State::BlockComment(depth + 1), 2),
        State::BlockComment(depth) => (State::BlockComment(depth), 1),
        State::Text if rest[0] == '\\' => (State::Text, 2.min(rest.len())),
        State::Text if rest[0] == '"' => (State::Code, 1),
        State::Text => (State::Text, 1),
        State::RawText(hashes) => {
            let end = rest[0] == '"' && (1..=hashes).all(|i| rest.get(i) == Some(&'#'));
            if end { (State::Code, 1 + hashes) } else { (State::RawText(hashes), 1) }
        }
    }
}

/// `r"`, `r#"`, `br##"`: the number of hashes and the width of the opening.
fn raw_text(chars: &[char], at: usize) -> Option<(usize, usize)> {
    let identifier = |c: char| c.is_alphanumeric() || c == '_';
    if chars[at] != 'r'
        || (at > 0 && identifier(chars[at - 1]) && chars[at - 1] != 'b' && chars[at - 1] != 'c')
    {
        return None;
    }
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    (chars.get(at + 1 + hashes) == Some(&'"')).then_some((hashes, hashes + 2))
}

/// The width of a character literal at the start of `rest`; none for a lifetime.
fn character_literal(rest: &[char]) -> Option<usize> {
    if rest.first() != Some(&'\'') {
        return None;
    }
    if rest.get(1) == Some(&'\\') {
        return rest.iter().skip(3).position(|c| *c == '\'').map(|p| p + 4);
    }
    (rest.get(2) == Some(&'\'')).then_some(3)
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The function that a line of code begins to define.
fn function_name(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let known = |w: &str| {
        matches!(w, "pub" | "const" | "async" | "unsafe" | "extern" | "default") || w.starts_with("pub(")
    };
    let mut word = words.next()?;
    while known(word) || word == "in" || word.ends_with(')') && word.contains("::") {
        word = words.next()?;
    }
    if word != "fn" {
        return None;
    }
    let name = words.next()?;
    Some(name.split(['(', '<']).next().unwrap_or(name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_comments_are_not_code() {
        let source =
            Source::new("let a = \"x.unwrap()\"; // TODO: b\nlet c = 'x'; let d = r#\"}\"#; fn f<'a>() {}\n");
        assert!(!source.code[0].contains("unwrap"));
        assert!(source.comments[0].contains("TODO"));
        assert!(!source.code[1].contains("}\"") && source.code[1].contains("fn f<'a>() {}"));
    }

    #[test]
    fn functions_are_measured_with_their_signature() {
        let source = Source::new(
            "impl X {\n    pub(crate) fn long(\n        a: u8,\n    ) -> u8 {\n        a\n    }\n    fn one() {}\n    fn none();\n}\n",
        );
        let found: Vec<(String, usize)> =
            source.functions().into_iter().map(|f| (f.name, f.length)).collect();
        assert_eq!(found, [("long".to_owned(), 5), ("one".to_owned(), 1)]);
    }

    #[test]
    fn test_modules_are_not_shipped() {
        let mut source =
            Source::new("fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() { x.unwrap() }\n}\nfn c() {}\n");
        source.drop_tests();
        assert_eq!(source.code_lines(), 2);
    }
}
