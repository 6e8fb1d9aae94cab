//! Variables, quotes and escapes in the words of a Dockerfile: `$x`, `${x:-y}`, `${x%.gz}`, `${x/a/b}`, `"…"`, `'…'`.
//!
//! Docker's rules, not a shell's: no command substitution, no assignment, `?` and `*` only in the patterns of
//! `#`, `%` and `/`.

use std::collections::{BTreeMap, BTreeSet};

use super::fault::{Fault, Result};
use super::glob::Glob;

/// Values by name, in the order in which they were first set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Env {
    values: BTreeMap<String, String>,
    order: Vec<String>,
}

impl Env {
    /// From `NAME=value` lines; a later one replaces an earlier one.
    pub fn from_lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut env = Self::default();
        for line in lines {
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            env.set(name, value);
        }
        env
    }

    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Gives `name` a value.
    pub fn set(&mut self, name: &str, value: &str) {
        if self.values.insert(name.to_owned(), value.to_owned()).is_none() {
            self.order.push(name.to_owned());
        }
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    /// `NAME=value` lines, in order.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.order.iter().map(|name| format!("{name}={}", self.values[name])).collect()
    }
}

/// How words are read.
#[derive(Clone, Copy, Debug)]
pub struct Lexer {
    /// The escape character.
    pub escape: char,
    /// Quotes stay in the result.
    pub raw_quotes: bool,
    /// Escape characters stay in the result.
    pub raw_escapes: bool,
    /// Quotes mean nothing.
    pub no_quotes: bool,
    /// A variable that is not set stays as it is written.
    pub keep_unset: bool,
}

/// What came of a word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The word with its variables replaced.
    pub text: String,
    /// The same, split at blanks that were not quoted.
    pub words: Vec<String>,
    /// Variables that had a value.
    pub matched: BTreeSet<String>,
    /// Variables that had none.
    pub unmatched: BTreeSet<String>,
}

impl Lexer {
    /// The usual rules, with this escape character.
    #[must_use]
    pub fn new(escape: char) -> Self {
        Self { escape, raw_quotes: false, raw_escapes: false, no_quotes: false, keep_unset: false }
    }

    /// Expands `word`.
    ///
    /// # Errors
    /// The word, and what is wrong with it.
    pub fn expand(&self, word: &str, env: &Env) -> Result<Expanded> {
        let mut run = Run {
            lexer: *self,
            env,
            chars: word.chars().collect(),
            at: 0,
            raw_escapes: self.raw_escapes,
            found: Expanded::default(),
        };
        let (text, words) = run
            .until(None, self.raw_escapes)
            .map_err(|e| e.prefixed(&format!("failed to process {}: ", super::quoted(word))))?;
        Ok(Expanded { text, words, ..run.found })
    }
}

struct Run<'a> {
    lexer: Lexer,
    env: &'a Env,
    chars: Vec<char>,
    at: usize,
    raw_escapes: bool,
    found: Expanded,
}

/// Words as they are being split.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    open: String,
}

impl Words {
    fn push(&mut self, c: char) {
        if !c.is_whitespace() {
            self.open.push(c);
        } else if !self.open.is_empty() {
            self.done.push(std::mem::take(&mut self.open));
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.open.is_empty() {
            self.done.push(self.open);
        }
        self.done
    }
}

impl Run<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek();
        self.at += usize::from(c.is_some());
        c
    }

    /// Reads up to `stop`, which is consumed, or to the end.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<(String, Vec<String>)> {
        let before = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let read = self.until_inner(stop);
        self.raw_escapes = before;
        read
    }

    fn until_inner(&mut self, stop: Option<char>) -> Result<(String, Vec<String>)> {
        let mut text = String::new();
        let mut words = Words::default();
        while let Some(c) = self.peek() {
            if stop == Some(c) {
                self.at += 1;
                return Ok((text, words.finish()));
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|c| words.push(c));
                    text.push_str(&value);
                }
                '\'' | '"' if !self.lexer.no_quotes => {
                    let value = if c == '"' { self.double_quoted()? } else { self.single_quoted()? };
                    words.open.push_str(&value);
                    text.push_str(&value);
                }
                '<' => {
                    let value = self.heredoc_mark();
                    words.open.push_str(&value);
                    text.push_str(&value);
                }
                c if c == self.lexer.escape => {
                    self.at += 1;
                    if self.raw_escapes {
                        words.open.push(c);
                        text.push(c);
                    }
                    let Some(escaped) = self.next() else { break };
                    words.open.push(escaped);
                    text.push(escaped);
                }
                c => {
                    self.at += 1;
                    words.push(c);
                    text.push(c);
                }
            }
        }
        match stop {
            None => Ok((text, words.finish())),
            Some(stop) => {
                Err(Fault::new(format!("unexpected end of statement while looking for matching {stop}")))
            }
        }
    }

    fn single_quoted(&mut self) -> Result<String> {
        let mut text = String::new();
        self.at += 1;
        let raw = self.lexer.raw_quotes;
        if raw {
            text.push('\'');
        }
        loop {
            match self.next() {
                None => {
                    return Err(Fault::new(
                        "unexpected end of statement while looking for matching single-quote",
                    ));
                }
                Some('\'') => {
                    if raw {
                        text.push('\'');
                    }
                    return Ok(text);
                }
                Some(c) => text.push(c),
            }
        }
    }

    fn double_quoted(&mut self) -> Result<String> {
        let mut text = String::new();
        self.at += 1;
        let raw = self.lexer.raw_quotes;
        if raw {
            text.push('"');
        }
        loop {
            match self.peek() {
                None => {
                    return Err(Fault::new(
                        "unexpected end of statement while looking for matching double-quote",
                    ));
                }
                Some('"') => {
                    self.at += 1;
                    if raw {
                        text.push('"');
                    }
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.dollar()?),
                Some(mut c) => {
                    self.at += 1;
                    if c == self.lexer.escape {
                        if self.raw_escapes {
                            text.push(c);
                        }
                        match self.peek() {
                            // An escape at the very end says nothing; the missing quote is found next.
                            None => continue,
                            Some(next) if next == '"' || next == '$' || next == self.lexer.escape => {
                                self.at += 1;
                                c = next;
                            }
                            Some(_) => {}
                        }
                    }
                    text.push(c);
                }
            }
        }
    }

    /// `<<` and the blanks behind it belong together.
    fn heredoc_mark(&mut self) -> String {
        self.at += 1;
        if self.peek() != Some('<') {
            return "<".to_owned();
        }
        self.at += 1;
        let mut text = "<<".to_owned();
        while let Some(c @ ('\t' | '\r' | ' ')) = self.peek() {
            self.at += 1;
            text.push(c);
        }
        text
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = self.env.get(name).map(str::to_owned);
        let set = if value.is_some() { &mut self.found.matched } else { &mut self.found.unmatched };
        set.insert(name.to_owned());
        value
    }

    fn dollar(&mut self) -> Result<String> {
        self.at += 1;
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(match self.value(&name) {
                None if self.lexer.keep_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        self.at += 1;
        match self.peek() {
            None => return Err(Fault::new("syntax error: missing '}'")),
            Some('{' | '}' | ':') => return Err(Fault::new("syntax error: bad substitution")),
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            Some('}') => Ok(match self.value(&name) {
                None if self.lexer.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            Some(':') => match self.next() {
                Some(c @ ('-' | '+' | '?')) => self.modified(&name, c, true),
                Some(c) => self.unknown_modifier(&name, &format!(":{c}"), matches!(c, '#' | '%')),
                None => Err(Fault::new("syntax error: missing '}'")),
            },
            Some(c @ ('-' | '+' | '?' | '#' | '%')) => self.modified(&name, c, false),
            Some('/') => self.replaced(&name),
            Some(c) => Err(unsupported(&c.to_string())),
            None => Err(Fault::new("syntax error: missing '}'")),
        }
    }

    /// What only a shell understands (`${x:1:2}`) is an error, unless it is to be left to the shell.
    fn unknown_modifier(&mut self, name: &str, modifier: &str, always: bool) -> Result<String> {
        if always {
            return Err(unsupported(modifier));
        }
        let word = self.closing('}', false, "syntax error: missing '}'")?;
        if self.value(name).is_none() && self.lexer.keep_unset {
            return Ok(format!("${{{name}{modifier}{word}}}"));
        }
        Err(unsupported(modifier))
    }

    fn closing(&mut self, stop: char, raw: bool, missing: &str) -> Result<String> {
        match self.until(Some(stop), raw) {
            Ok((text, _)) => Ok(text),
            Err(_) if self.peek().is_none() => Err(Fault::new(missing.to_owned())),
            Err(e) => Err(e),
        }
    }

    fn modified(&mut self, name: &str, modifier: char, empty_is_unset: bool) -> Result<String> {
        let pattern = matches!(modifier, '#' | '%');
        let word = self.closing('}', pattern, "syntax error: missing '}'")?;
        let value = self.value(name);
        if value.is_none() && self.lexer.keep_unset {
            let colon = if empty_is_unset { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let missing = match &value {
            None => true,
            Some(value) => empty_is_unset && value.is_empty(),
        };
        match modifier {
            '-' => Ok(if missing { word } else { value.unwrap_or_default() }),
            '+' => Ok(if missing { String::new() } else { word }),
            '?' if missing => {
                let why = if value.is_none() { "unset" } else { "empty" };
                let why = if word.is_empty() { format!("is not allowed to be {why}") } else { word };
                Err(Fault::new(format!("{name}: {why}")))
            }
            '?' => Ok(value.unwrap_or_default()),
            _ => {
                let greedy = word.starts_with(modifier);
                let text = if greedy { &word[1..] } else { &word[..] };
                let glob = Glob::parse(text).map_err(|why| bad_pattern(text, &why))?;
                let value = value.unwrap_or_default();
                Ok(if modifier == '#' {
                    glob.without_prefix(&value, greedy)
                } else {
                    glob.without_suffix(&value, greedy)
                })
            }
        }
    }

    fn replaced(&mut self, name: &str) -> Result<String> {
        let all = self.peek() == Some('/');
        self.at += usize::from(all);
        let pattern = self.closing('/', true, "syntax error: missing '/' in ${}")?;
        let replacement = self.closing('}', true, "syntax error: missing '}'")?;
        let value = self.value(name);
        if value.is_none() && self.lexer.keep_unset {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        let glob = Glob::parse(&pattern).map_err(|why| bad_pattern(&pattern, &why))?;
        Ok(glob.replace(&value.unwrap_or_default(), &replacement, all))
    }

    /// A name, a number, or one of the shell's special parameters.
    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            if name.is_empty() && c.is_ascii_digit() {
                while let Some(c) = self.peek().filter(char::is_ascii_digit) {
                    self.at += 1;
                    name.push(c);
                }
                return name;
            }
            if name.is_empty() && matches!(c, '@' | '*' | '#' | '?' | '-' | '$' | '!') {
                self.at += 1;
                return c.to_string();
            }
            if !c.is_alphanumeric() && c != '_' {
                break;
            }
            self.at += 1;
            name.push(c);
        }
        name
    }
}

fn unsupported(modifier: &str) -> Fault {
    Fault::new(format!("unsupported modifier ({modifier}) in substitution"))
}

fn bad_pattern(pattern: &str, why: &str) -> Fault {
    Fault::new(format!("invalid pattern ({pattern}) in substitution: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> Env {
        Env::from_lines([
            "PWD=/home",
            "SHELL=bash",
            "KOREAN=한국어",
            "NULL=",
            "file=archive.tar.gz",
            "path=/a/b/c",
        ])
    }

    fn expand(word: &str) -> std::result::Result<String, String> {
        Lexer::new('\\').expand(word, &env()).map(|e| e.text).map_err(|e| e.to_string())
    }

    #[test]
    fn words_expand() {
        for (word, expected) in [
            ("hello", "hello"),
            ("he'll'o", "hello"),
            (r"he\'llo", "he'llo"),
            (r"abc\tdef", "abctdef"),
            (r#""abc\tdef""#, r"abc\tdef"),
            (r#""abc\\tdef""#, r"abc\tdef"),
            (r"'abc\tdef'", r"abc\tdef"),
            ("hello\\", "hello"),
            (r"hello\\", "hello\\"),
            (r"'hello\'", "hello\\"),
            ("$.", "$."),
            ("he$1x", "hex"),
            ("he$PWD", "/home"),
            (r"he\$PWD", "he$PWD"),
            (r"he\\$PWD", r"he\/home"),
            (r#""he\\$PWD""#, r"he\/home"),
            (r"\${}aaa", "${}aaa"),
            ("he${hi}xx", "hexx"),
            ("he${XXX:-000}xx", "he000xx"),
            ("he${PWD:-000}xx", "he/homexx"),
            ("he${XXX:-${YYY:-yyy}}xx", "heyyyxx"),
            ("he${PWD?}", "he/home"),
            ("he${NULL?}", "he"),
            ("he${PWD:+${SHELL}}xx", "hebashxx"),
            ("he${XXX:+000}xx", "hexx"),
            ("he${PWD:+${PWD}:}xx", "he/home:xx"),
            (r"he${XXX:-\$PWD:}xx", "he$PWD:xx"),
            ("'he${XX}'", "he${XX}"),
            ("\"he'$PWD'\"", "he'/home'"),
            ("'\"hello\"'", "\"hello\""),
            ("$KOREAN", "한국어"),
            ("${aaa}}", "}"),
            ("${aaa:-bbb {foo}", "bbb {foo"),
            ("$999aaa", "aaa"),
            ("${1:-bbb}", "bbb"),
            ("$@@@", "@@"),
            ("${#:-bbb}", "bbb"),
            ("${NULL-x}", ""),
            ("${NULL:-x}", "x"),
            ("${NULL+x}", "x"),
            ("${NULL:+x}", ""),
            ("${file%.gz}", "archive.tar"),
            ("${file%.*}", "archive.tar"),
            ("${file%%.*}", "archive"),
            ("${file#*.}", "tar.gz"),
            ("${file##*.}", "gz"),
            ("${path##*/}", "c"),
            ("${path/b/x}", "/a/x/c"),
            (r"${path/\//x}", "xa/b/c"),
            (r"${path//\//_}", "_a_b_c"),
            ("${file/tar*/zip}", "archive.zip"),
            ("${file//?/x}", "xxxxxxxxxxxxxx"),
            ("${file#x}", "archive.tar.gz"),
        ] {
            let found = expand(word);
            let expected = if word == "he$PWD" { "he/home" } else { expected };
            assert_eq!(found.as_deref(), Ok(expected), "{word}");
        }
    }

    #[test]
    fn broken_words_are_refused() {
        for (word, why) in [
            ("he'llo", "matching single-quote"),
            (r#""hello"#, "matching double-quote"),
            (r#""hello\""#, "matching double-quote"),
            ("${}", "bad substitution"),
            ("${{aaa}", "bad substitution"),
            ("${:}", "bad substitution"),
            ("${aaa", "missing '}'"),
            ("${aaa:-bbb", "missing '}'"),
            ("he${.}", "unsupported modifier (.)"),
            ("he${XXX:YYY}", "unsupported modifier (:Y)"),
            ("he${PWD:=000}xx", "unsupported modifier (:=)"),
            ("he${PWD:#x}", "unsupported modifier (:#)"),
            ("he${XXX?}", "XXX: is not allowed to be unset"),
            ("he${NULL:?}", "NULL: is not allowed to be empty"),
            ("he${XXX:?give it}", "XXX: give it"),
            ("${path/b}", "missing '/' in ${}"),
            (r"${file#\a}", "invalid pattern (\\a) in substitution: invalid escape '\\a'"),
        ] {
            let error = expand(word).unwrap_err();
            assert!(error.contains(why) && error.starts_with("failed to process \""), "{word}: {error}");
        }
    }

    #[test]
    fn words_are_split_at_blanks_that_are_not_quoted() {
        let words = |text: &str| Lexer::new('\\').expand(text, &Env::from_lines(["x=a b"])).unwrap().words;
        assert_eq!(words("a  b"), ["a", "b"]);
        assert_eq!(words("$x c"), ["a", "b", "c"]);
        assert_eq!(words("\"$x\" c"), ["a b", "c"]);
        assert_eq!(words(r"a\ b 'c d'"), ["a b", "c d"]);
    }

    #[test]
    fn what_was_used_is_known() {
        let lexer = Lexer { keep_unset: true, ..Lexer::new('\\') };
        let found = lexer.expand("$PWD ${nope} ${nada:-x} $none", &env()).unwrap();
        assert_eq!(found.text, "/home ${nope} ${nada:-x} $none");
        assert_eq!(found.matched.into_iter().collect::<Vec<_>>(), ["PWD"]);
        assert_eq!(found.unmatched.into_iter().collect::<Vec<_>>(), ["nada", "none", "nope"]);
    }

    #[test]
    fn the_escape_character_can_be_another() {
        let found = Lexer::new('`').expand(r"C:\dir`$x", &env()).unwrap();
        assert_eq!(found.text, r"C:\dir$x");
    }
}
