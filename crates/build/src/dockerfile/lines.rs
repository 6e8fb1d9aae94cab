//! The lines of a Dockerfile: parser directives, comments, continuations, here-documents, flags of instructions.
//!
//! What an instruction's words mean is `parse`'s business.

use super::expand::{Env, Lexer};
use super::fault::{Fault, Lines, Result};

/// A file attached to an instruction: `<<NAME … NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it.
    pub name: String,
    /// Variables in it are expanded (its name was not quoted).
    pub expand: bool,
    /// Tabs at the beginning of its lines are left out (`<<-`).
    pub chomp: bool,
    /// The text.
    pub content: String,
}

impl Heredoc {
    /// The text, without leading tabs where they are to be left out.
    #[must_use]
    pub fn text(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// One instruction as it is written, continuations joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The first word.
    pub keyword: String,
    /// The words with `--` behind it, quotes taken off.
    pub flags: Vec<String>,
    /// All the rest, trimmed.
    pub rest: String,
    /// The whole, continuations joined.
    pub original: String,
    /// Here-documents, in order.
    pub heredocs: Vec<Heredoc>,
    /// Where it is.
    pub lines: Lines,
    /// The comment lines right before it.
    pub comments: Vec<String>,
}

/// A Dockerfile as lines.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// The instructions.
    pub lines: Vec<Line>,
    /// The escape character.
    pub escape: char,
    /// `# syntax=`.
    pub syntax: Option<String>,
    /// `# check=`.
    pub check: Option<String>,
    /// Lines where an empty continuation line stands.
    pub empty_continuations: Vec<u32>,
}

/// The longest line.
const LONGEST: usize = 64 * 1024 - 1;

/// Splits the text of a Dockerfile.
///
/// # Errors
/// The first mistake, with its lines.
pub fn split(text: &str) -> Result<File> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    Splitter {
        rest: text.split_inclusive('\n'),
        number: 0,
        file: File { escape: '\\', ..File::default() },
        directives_over: false,
        escape_given: false,
    }
    .run()
}

struct Splitter<'a> {
    rest: std::str::SplitInclusive<'a, char>,
    number: u32,
    file: File,
    directives_over: bool,
    escape_given: bool,
}

impl<'a> Splitter<'a> {
    fn next(&mut self) -> Result<Option<&'a str>> {
        let Some(line) = self.rest.next() else { return Ok(None) };
        self.number += 1;
        if line.len() > LONGEST {
            return Err(self
                .fault(format!("dockerfile line greater than max allowed size of {LONGEST}"), self.number));
        }
        Ok(Some(line))
    }

    fn fault(&self, message: impl Into<String>, first: u32) -> Fault {
        Fault::new(message).at(Lines { first, last: self.number })
    }

    fn run(mut self) -> Result<File> {
        let mut comments: Vec<String> = Vec::new();
        while let Some(line) = self.next()? {
            let line = line.trim_end_matches(['\r', '\n']).trim_start();
            if let Some(comment) = line.strip_prefix('#') {
                if self.directive(comment)? {
                    continue;
                }
                match comment.trim() {
                    "" => comments.clear(),
                    comment => comments.push(comment.to_owned()),
                }
                continue;
            }
            self.directives_over = true;
            if line.is_empty() {
                continue;
            }
            let first = self.number;
            let text = self.continued(line)?;
            let made = self.instruction(text, first, std::mem::take(&mut comments));
            let line = made.map_err(|e| e.at(Lines { first, last: self.number }))?;
            self.file.lines.push(line);
        }
        if self.file.lines.is_empty() {
            return Err(self.fault("file with no instructions", self.number.max(1)));
        }
        Ok(self.file)
    }

    /// Takes `comment` as a parser directive if it is one: only comments before everything else are.
    fn directive(&mut self, comment: &str) -> Result<bool> {
        if self.directives_over {
            return Ok(false);
        }
        let known = comment.trim_start().split_once('=').and_then(|(name, value)| {
            let (name, value) = (name.trim_end().to_lowercase(), value.trim());
            let known = matches!(name.as_str(), "syntax" | "escape" | "check");
            (known && !value.is_empty()).then_some((name, value))
        });
        let Some((name, value)) = known else {
            self.directives_over = true;
            return Ok(false);
        };
        let twice = |name: &str| Fault::new(format!("only one {name} parser directive can be used"));
        let lines = Lines { first: self.number, last: self.number };
        let again = match name.as_str() {
            "syntax" => self.file.syntax.replace(value.to_owned()).is_some(),
            "check" => self.file.check.replace(value.to_owned()).is_some(),
            _ => {
                let set = match value {
                    "\\" => '\\',
                    "`" => '`',
                    other => {
                        let message = format!("invalid escape token '{other}' does not match ` or \\");
                        return Err(Fault::new(message).at(lines));
                    }
                };
                let again = self.escape_given;
                self.escape_given = true;
                self.file.escape = set;
                again
            }
        };
        if again { Err(twice(&name).at(lines)) } else { Ok(true) }
    }

    /// Joins the lines that `line` continues on.
    fn continued(&mut self, line: &str) -> Result<String> {
        let (piece, mut goes_on) = self.without_continuation(line);
        let mut text = piece.to_owned();
        let mut empty_line = false;
        while goes_on {
            let Some(line) = self.next()? else { break };
            let line = line.trim_end_matches(['\r', '\n']);
            if line.trim_start().starts_with('#') {
                continue;
            }
            if line.trim().is_empty() {
                empty_line = true;
                continue;
            }
            let (piece, more) = self.without_continuation(line);
            text.push_str(piece);
            goes_on = more;
        }
        if empty_line {
            self.file.empty_continuations.push(self.number);
        }
        Ok(text)
    }

    /// The line without the escape character at its end, and whether there was one.
    fn without_continuation<'l>(&self, line: &'l str) -> (&'l str, bool) {
        let trimmed = line.trim_end_matches([' ', '\t']);
        match trimmed.strip_suffix(self.file.escape) {
            // Two of them are one that is meant.
            Some(before) if !before.ends_with(self.file.escape) => (before, true),
            _ => (line, false),
        }
    }

    fn instruction(&mut self, text: String, first: u32, comments: Vec<String>) -> Result<Line> {
        let escape = self.file.escape;
        let mut line = Line { comments, ..words(&text, escape) };
        line.original = text;
        super::parse::syntax(&line, escape)?;
        if takes_heredocs(&line, escape) && line.original.contains("<<") {
            for mut heredoc in heredocs_of(&line.original)? {
                heredoc.content = self.heredoc(&heredoc, first)?;
                line.heredocs.push(heredoc);
            }
        }
        line.lines = Lines { first, last: self.number };
        Ok(line)
    }

    fn heredoc(&mut self, heredoc: &Heredoc, first: u32) -> Result<String> {
        let mut content = String::new();
        while let Some(line) = self.next()? {
            let bare = line.trim_end_matches(['\r', '\n']);
            let bare = if heredoc.chomp { bare.trim_start_matches('\t') } else { bare };
            if bare == heredoc.name {
                return Ok(content);
            }
            content.push_str(line);
        }
        Err(self.fault("unterminated heredoc", first))
    }
}

/// The keyword, the flags and the rest of an instruction.
pub fn words(text: &str, escape: char) -> Line {
    let text = text.trim();
    let (keyword, rest) = match text.find(is_blank) {
        Some(at) => (&text[..at], text[at..].trim_start_matches(is_blank)),
        None => (text, ""),
    };
    let (flags, rest) = flags(rest, escape);
    Line { keyword: keyword.to_owned(), flags, rest: rest.trim().to_owned(), ..Line::default() }
}

/// The blanks between words.
pub(super) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{b}' | '\u{c}' | '\r')
}

/// Splits at blanks.
pub fn at_blanks(text: &str) -> Vec<String> {
    text.split(is_blank).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Takes the words that begin with `--` off the beginning of `text`; a lone `--` ends them.
fn flags(text: &str, escape: char) -> (Vec<String>, &str) {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while rest.starts_with("--") {
        let mut word = String::new();
        let mut quote = None;
        let mut end = rest.len();
        let mut quoted = false;
        let mut chars = rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match quote {
                None if c.is_whitespace() => {
                    end = at;
                    break;
                }
                None if matches!(c, '\'' | '"') => {
                    quote = Some(c);
                    quoted = true;
                }
                Some(q) if c == q => quote = None,
                _ if c == escape => word.extend(chars.next().map(|(_, c)| c)),
                _ => word.push(c),
            }
        }
        rest = rest[end..].trim_start();
        if word == "--" {
            return (found, rest);
        }
        if quoted || !word.is_empty() {
            found.push(word);
        }
    }
    (found, rest)
}

/// Whether the instruction may have here-documents: RUN, COPY and ADD, unless their words are a JSON list.
fn takes_heredocs(line: &Line, escape: char) -> bool {
    let keyword = line.keyword.to_lowercase();
    if keyword == "onbuild" {
        // Only one step down: there is no ONBUILD of an ONBUILD.
        let inner = words(&line.rest, escape);
        return !inner.keyword.eq_ignore_ascii_case("onbuild") && takes_heredocs(&inner, escape);
    }
    matches!(keyword.as_str(), "add" | "copy" | "run") && json_list(&line.rest).is_none()
}

/// The here-documents that a line asks for, still empty.
fn heredocs_of(line: &str) -> Result<Vec<Heredoc>> {
    let lexer = Lexer { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Lexer::new('\\') };
    // A line that cannot be split, because a shell's quotes go over several lines, has none.
    let words = lexer.expand(line, &Env::default()).map(|e| e.words).unwrap_or_default();
    let mut found = Vec::new();
    for word in words {
        found.extend(heredoc_of(&word)?);
    }
    Ok(found)
}

/// The here-document that one word asks for: `<<NAME`, `<<-NAME`, `3<<NAME`, with quotes for no expansion.
///
/// # Errors
/// The quotes of its name are broken.
pub fn heredoc_of(word: &str) -> Result<Option<Heredoc>> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let Some(rest) = rest.strip_prefix("<<") else { return Ok(None) };
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let lexer = Lexer { keep_unset: true, ..Lexer::new('\\') };
    let words = lexer.expand(rest, &Env::default())?.words;
    let [name] = &words[..] else { return Ok(None) };
    let raw = Lexer { raw_quotes: true, ..lexer }.expand(rest, &Env::default())?.words.concat();
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    let expand = quotes(name) == quotes(&raw);
    Ok(Some(Heredoc { name: name.clone(), expand, chomp, content: String::new() }))
}

/// What a text in brackets is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    /// A list of strings.
    Strings(Vec<String>),
    /// A list with something else in it.
    Mixed,
}

/// Reads a JSON list; `None` when the text is none.
#[must_use]
pub fn json_list(text: &str) -> Option<Json> {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return None;
    }
    let values: Vec<serde_json::Value> = serde_json::from_str(text).ok()?;
    let mut strings = Vec::with_capacity(values.len());
    for value in values {
        match value {
            serde_json::Value::String(text) => strings.push(text),
            _ => return Some(Json::Mixed),
        }
    }
    Some(Json::Strings(strings))
}

/// Splits at blanks outside of quotes; quotes and escapes stay in the words.
#[must_use]
pub fn quoted_words(text: &str, escape: char) -> Vec<String> {
    let mut found = Vec::new();
    let mut word = String::new();
    let mut inside = false;
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                if inside && !word.is_empty() {
                    found.push(std::mem::take(&mut word));
                }
                inside = false;
                continue;
            }
            None if matches!(c, '\'' | '"') => quote = Some(c),
            Some(q) if c == q => quote = None,
            _ if c == escape && quote != Some('\'') => {
                inside = true;
                // At the very end it escapes nothing.
                let Some(next) = chars.next() else { break };
                word.push(c);
                word.push(next);
                continue;
            }
            _ => {}
        }
        inside = true;
        word.push(c);
    }
    if !word.is_empty() {
        found.push(word);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        split(text).unwrap()
    }

    fn rests(text: &str) -> Vec<String> {
        file(text).lines.into_iter().map(|l| format!("{} {}", l.keyword, l.rest)).collect()
    }

    #[test]
    fn lines_continue_over_comments() {
        let text = "FROM x\nRUN a \\\n  # not this\n  b \\ \n\n  c\nCMD z";
        let file = file(text);
        assert_eq!(file.lines[1].rest, "a   b   c");
        assert_eq!(file.lines[1].lines, Lines { first: 2, last: 6 });
        assert_eq!(file.empty_continuations, [6]);
        assert_eq!(file.lines[2].lines, Lines { first: 7, last: 7 });
        assert_eq!(rests("FROM x\nRUN a \\\\\nCMD y"), ["FROM x", "RUN a \\\\", "CMD y"]);
        assert_eq!(rests("FROM x\r\nRUN a \\\r\n b\r\n"), ["FROM x", "RUN a  b"]);
        assert_eq!(rests("FROM x\nRUN a \\"), ["FROM x", "RUN a"]);
        assert_eq!(rests("\u{feff}FROM x"), ["FROM x"]);
    }

    #[test]
    fn directives_come_first() {
        let f = file("# escape=`\n# syntax = docker/dockerfile:1\n# check=skip=all\nFROM x\nRUN a `\n b\n");
        assert_eq!((f.escape, f.syntax.as_deref()), ('`', Some("docker/dockerfile:1")));
        assert_eq!(f.check.as_deref(), Some("skip=all"));
        assert_eq!(f.lines[1].rest, "a  b");
        let late = file("# a comment\n# escape=`\nFROM x\nRUN a `\nRUN b\n");
        assert_eq!((late.escape, late.lines.len()), ('\\', 3));
        let error = |text: &str| split(text).unwrap_err().to_string();
        assert!(error("# escape=x\nFROM y").contains("invalid escape token 'x'"));
        assert_eq!(error("# escape=`\n# escape=`\nFROM y"), "only one escape parser directive can be used");
        assert_eq!(error("# syntax=a\n# SYNTAX=b\nFROM y"), "only one syntax parser directive can be used");
        assert_eq!(error("# nothing\n\n"), "file with no instructions");
        assert_eq!(error(""), "file with no instructions");
    }

    #[test]
    fn comments_belong_to_the_next_instruction() {
        let f = file("# one\n#\n# two\nFROM x\n# three\nARG a\n");
        assert_eq!(f.lines[0].comments, ["two"]);
        assert_eq!(f.lines[1].comments, ["three"]);
    }

    #[test]
    fn flags_stand_before_the_rest() {
        let line = words("COPY --from=a --chown=\"b c\" --x='y' -- --not /to", '\\');
        assert_eq!(line.flags, ["--from=a", "--chown=b c", "--x=y"]);
        assert_eq!(line.rest, "--not /to");
        assert_eq!(words("RUN --a", '\\').flags, ["--a"]);
        assert_eq!(words("RUN -x --a", '\\').rest, "-x --a");
        assert_eq!(words("RUN --a=b\\ c d", '\\').flags, ["--a=b c"]);
    }

    #[test]
    fn heredocs_are_attached() {
        let f = file(
            "FROM x\nRUN <<EOF\necho a\n  b\nEOF\nCOPY <<one <<-\"two\" /to/\n1\none\n\t2\n\ttwo\nRUN x\n",
        );
        assert_eq!(f.lines[1].heredocs[0].content, "echo a\n  b\n");
        assert_eq!(f.lines[1].lines, Lines { first: 2, last: 5 });
        let both = &f.lines[2].heredocs;
        assert_eq!((both[0].content.as_str(), both[0].expand), ("1\n", true));
        assert_eq!((both[1].text().as_str(), both[1].expand, both[1].chomp), ("2\n", false, true));
        assert_eq!(f.lines.len(), 4);
        assert_eq!(file("FROM x\nRUN cat <<< word\nRUN y").lines.len(), 3);
        assert_eq!(file("FROM x\nRUN [\"<<EOF\"]\nRUN y").lines.len(), 3);
        assert_eq!(file("FROM x\nRUN << EOF cat\nx\nEOF\n").lines[1].heredocs[0].content, "x\n");
        assert_eq!(file("FROM x\nONBUILD RUN <<EOF\nx\nEOF\n").lines[1].heredocs.len(), 1);
        let e = split("FROM x\nRUN <<EOF\nnever\n").unwrap_err();
        assert_eq!(
            (e.to_string().as_str(), e.lines),
            ("unterminated heredoc", Some(Lines { first: 2, last: 3 }))
        );
    }

    #[test]
    fn words_in_quotes_stay_together() {
        assert_eq!(quoted_words(r#"a="b c" d='e "f' g\ h"#, '\\'), [r#"a="b c""#, r#"d='e "f'"#, r"g\ h"]);
        assert_eq!(quoted_words("a \"\" b\\", '\\'), ["a", "\"\"", "b"]);
    }
}
