//! Go's `fmt`: Print, Println and Printf over [`Value`]s, with all verbs and flags that JSON-like values can meet.
//!
//! Absent: `%p` (values have no addresses) and the binary and hexadecimal notations of floats.

use crate::Value;
use crate::float::format_float;
use crate::quote::{quote_rune, quote_with};

/// Widths and precisions beyond this are refused, as Go refuses them.
const MAX_NUMBER: i64 = 1_000_000;

/// Go's `fmt.Sprint`: a space between operands when neither is a string.
pub fn sprint(args: &[Value]) -> String {
    let mut p = Printer::default();
    for (i, arg) in args.iter().enumerate() {
        if i > 0 && arg.as_str().is_none() && args[i - 1].as_str().is_none() {
            p.out.push(' ');
        }
        p.print(arg, 'v', 0);
    }
    p.out
}

/// `fmt.Sprintln`: always a space between operands, and a line feed.
pub(crate) fn sprintln(args: &[Value]) -> String {
    let mut p = Printer::default();
    for (i, arg) in args.iter().enumerate() {
        if i > 0 {
            p.out.push(' ');
        }
        p.print(arg, 'v', 0);
    }
    p.out.push('\n');
    p.out
}

/// Go's `fmt.Sprintf`; mistakes show in the output (`%!d(string=hi)`).
pub fn sprintf(format: &str, args: &[Value]) -> String {
    let mut p = Printer::default();
    let mut directives = Directives { format, args, next: 0, reordered: false };
    while let Some(percent) = directives.format.find('%') {
        p.out.push_str(&directives.format[..percent]);
        directives.format = &directives.format[percent + 1..];
        directives.one(&mut p);
    }
    p.out.push_str(directives.format);
    directives.extra(&mut p);
    p.out
}

#[derive(Clone, Default)]
struct Flags {
    sharp: bool,
    zero: bool,
    plus: bool,
    minus: bool,
    space: bool,
    width: Option<usize>,
    precision: Option<usize>,
    /// `%+v`
    plus_v: bool,
    /// `%#v`
    sharp_v: bool,
}

/// What is left of a format string and its arguments.
struct Directives<'a> {
    format: &'a str,
    args: &'a [Value],
    next: usize,
    reordered: bool,
}

impl Directives<'_> {
    /// One directive, after its `%`.
    fn one(&mut self, p: &mut Printer) {
        p.flags = Flags::default();
        let mut good_index = true;
        self.flags(&mut p.flags);
        self.index(&mut good_index);
        self.width(p);
        let dot = self.format.starts_with('.');
        if dot {
            self.format = &self.format[1..];
            self.index(&mut good_index);
            self.precision(p);
        }
        self.index(&mut good_index);
        let Some(verb) = self.format.chars().next() else {
            p.out.push_str("%!(NOVERB)");
            return;
        };
        self.format = &self.format[verb.len_utf8()..];
        if verb == '%' {
            p.out.push('%');
        } else if !good_index {
            p.out.push_str(&format!("%!{verb}(BADINDEX)"));
        } else if let Some(arg) = self.args.get(self.next) {
            self.next += 1;
            if verb == 'v' {
                p.flags.sharp_v = std::mem::take(&mut p.flags.sharp);
                p.flags.plus_v = std::mem::take(&mut p.flags.plus);
            }
            p.print(arg, verb, 0);
        } else {
            p.out.push_str(&format!("%!{verb}(MISSING)"));
        }
    }

    fn flags(&mut self, flags: &mut Flags) {
        while let Some(c) = self.format.chars().next() {
            match c {
                '#' => flags.sharp = true,
                '0' => flags.zero = true,
                '+' => flags.plus = true,
                '-' => flags.minus = true,
                ' ' => flags.space = true,
                _ => break,
            }
            self.format = &self.format[1..];
        }
    }

    /// An explicit argument index, `[n]`.
    fn index(&mut self, good: &mut bool) {
        let Some(body) = self.format.strip_prefix('[') else { return };
        self.reordered = true;
        let Some((number, rest)) = body.split_once(']') else {
            *good = false;
            self.format = body;
            return;
        };
        self.format = rest;
        match number.parse::<usize>() {
            Ok(n) if (1..=self.args.len()).contains(&n) => self.next = n - 1,
            _ => *good = false,
        }
    }

    /// A number from the format, or the next argument for `*`; `Err` if the argument is unfit.
    fn number(&mut self) -> Result<Option<i64>, ()> {
        if let Some(rest) = self.format.strip_prefix('*') {
            self.format = rest;
            let arg = self.args.get(self.next);
            self.next += 1;
            let n = arg.and_then(Value::as_int).filter(|n| (-MAX_NUMBER..=MAX_NUMBER).contains(n));
            return n.map(Some).ok_or(());
        }
        let len = self.format.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.format.split_at(len);
        if len == 0 {
            return Ok(None);
        }
        self.format = rest;
        digits.parse().ok().filter(|n| *n <= MAX_NUMBER).map(Some).ok_or(())
    }

    fn width(&mut self, p: &mut Printer) {
        match self.number() {
            Err(()) => p.out.push_str("%!(BADWIDTH)"),
            Ok(None) => {}
            Ok(Some(n)) => {
                if n < 0 {
                    p.flags.minus = true;
                    p.flags.zero = false;
                }
                p.flags.width = usize::try_from(n.unsigned_abs()).ok();
            }
        }
    }

    fn precision(&mut self, p: &mut Printer) {
        match self.number() {
            Err(()) => p.out.push_str("%!(BADPREC)"),
            Ok(None) => p.flags.precision = Some(0),
            Ok(Some(n)) if n < 0 => p.out.push_str("%!(BADPREC)"),
            Ok(Some(n)) => p.flags.precision = usize::try_from(n).ok(),
        }
    }

    fn extra(&self, p: &mut Printer) {
        if self.reordered || self.next >= self.args.len() {
            return;
        }
        p.flags = Flags::default();
        p.out.push_str("%!(EXTRA ");
        for (i, arg) in self.args[self.next..].iter().enumerate() {
            if i > 0 {
                p.out.push_str(", ");
            }
            p.out.push_str(&arg.type_name());
            if !matches!(arg, Value::Nil) {
                p.out.push('=');
                p.print(arg, 'v', 0);
            }
        }
        p.out.push(')');
    }
}

#[derive(Default)]
struct Printer {
    out: String,
    flags: Flags,
}

impl Printer {
    /// Appends `text`, padded to the width.
    fn pad(&mut self, text: &str) {
        let missing = self.flags.width.unwrap_or(0).saturating_sub(text.chars().count());
        let fill = if self.flags.zero && !self.flags.minus { "0" } else { " " };
        if self.flags.minus {
            self.out.push_str(text);
        }
        self.out.push_str(&fill.repeat(missing));
        if !self.flags.minus {
            self.out.push_str(text);
        }
    }

    fn pad_without_zeros(&mut self, text: &str) {
        let zero = std::mem::take(&mut self.flags.zero);
        self.pad(text);
        self.flags.zero = zero;
    }

    /// One operand; `depth` is 0 for an argument and grows inside containers.
    fn print(&mut self, v: &Value, verb: char, depth: usize) {
        if verb == 'T' && depth == 0 {
            let name = v.type_name().into_owned();
            return self.string(&name, 's', v);
        }
        match v {
            Value::Nil if depth > 0 && self.flags.sharp_v => self.out.push_str("interface {}(nil)"),
            Value::Nil if depth > 0 => self.out.push_str("<nil>"),
            Value::Nil if verb == 'v' => self.pad("<nil>"),
            Value::Nil => self.out.push_str(&format!("%!{verb}(<nil>)")),
            Value::NilPointer(name) if self.flags.sharp_v => self.out.push_str(&format!("({name})(nil)")),
            Value::NilPointer(_) if verb == 'v' => self.pad("<nil>"),
            Value::NilPointer(name) => self.out.push_str(&format!("%!{verb}({name}=<nil>)")),
            Value::Bool(b) if matches!(verb, 't' | 'v') => self.pad(if *b { "true" } else { "false" }),
            Value::Bool(_) => self.bad_verb(v, verb, depth),
            Value::Int(n) => self.integer(*n < 0, n.unsigned_abs(), verb, v),
            Value::Byte(n) if self.flags.sharp_v => self.out.push_str(&format!("{n:#x}")),
            Value::Uint(n) if self.flags.sharp_v => self.out.push_str(&format!("{n:#x}")),
            Value::Byte(n) => self.integer(false, u64::from(*n), verb, v),
            Value::Uint(n) => self.integer(false, *n, verb, v),
            Value::Float(f) => self.float(*f, verb, v),
            Value::Str(s) => self.string(s, verb, v),
            Value::List(_) | Value::Map(_) => self.container(v, verb, depth),
            Value::Struct(s) => self.structure(s, v, verb, depth),
            Value::Func(f) => {
                let name = f.type_name();
                self.pad(&name);
            }
        }
    }

    fn bad_verb(&mut self, v: &Value, verb: char, depth: usize) {
        self.out.push_str(&format!("%!{verb}({}=", v.type_name()));
        self.print(v, 'v', depth);
        self.out.push(')');
    }

    fn container(&mut self, v: &Value, verb: char, depth: usize) {
        let sharp = self.flags.sharp_v;
        let (open, close, between) = if sharp { ("{", "}", ", ") } else { ("[", "]", " ") };
        if sharp {
            self.out.push_str(&v.type_name());
        } else if matches!(v, Value::Map(_)) {
            self.out.push_str("map");
        }
        self.out.push_str(open);
        match v {
            Value::List(l) => {
                for (i, item) in l.items.iter().enumerate() {
                    self.out.push_str(if i > 0 { between } else { "" });
                    self.print(item, verb, depth + 1);
                }
            }
            Value::Map(m) => {
                for (i, (key, item)) in m.entries.iter().enumerate() {
                    self.out.push_str(if i > 0 { between } else { "" });
                    self.print(&Value::str(key.as_str()), verb, depth + 1);
                    self.out.push(':');
                    self.print(item, verb, depth + 1);
                }
            }
            _ => {}
        }
        self.out.push_str(close);
    }

    fn structure(&mut self, s: &crate::Struct, v: &Value, verb: char, depth: usize) {
        let text = s.methods.get("String").filter(|_| !self.flags.sharp_v && "vsxXq".contains(verb));
        if let Some(Ok(text)) = text.map(|f| (f.run)(&crate::Template::new(""), &[])) {
            return self.string(text.as_str().unwrap_or_default(), verb, v);
        }
        if s.type_name.starts_with('*') && depth == 0 {
            self.out.push('&');
        }
        if self.flags.sharp_v {
            self.out.push_str(s.type_name.trim_start_matches('*'));
        }
        self.out.push('{');
        for (i, (name, field)) in s.fields.iter().enumerate() {
            if i > 0 {
                self.out.push_str(if self.flags.sharp_v { ", " } else { " " });
            }
            if self.flags.plus_v || self.flags.sharp_v {
                self.out.push_str(name);
                self.out.push(':');
            }
            self.print(field, verb, depth + 1);
        }
        self.out.push('}');
    }

    fn string(&mut self, s: &str, verb: char, v: &Value) {
        let cut: String;
        let s = match self.flags.precision {
            Some(n) if "vsq".contains(verb) => {
                cut = s.chars().take(n).collect();
                &cut
            }
            _ => s,
        };
        match verb {
            'v' if self.flags.sharp_v => self.pad(&quote_with(s, '"', false)),
            'v' | 's' => self.pad(s),
            'x' | 'X' => {
                let text = self.hex(s.as_bytes(), verb == 'X');
                self.pad(&text);
            }
            'q' if self.flags.sharp && can_backquote(s) => self.pad(&format!("`{s}`")),
            'q' => self.pad(&quote_with(s, '"', self.flags.plus)),
            _ => self.bad_verb(v, verb, 0),
        }
    }

    fn hex(&self, bytes: &[u8], upper: bool) -> String {
        let prefix = match (self.flags.sharp, upper) {
            (false, _) => "",
            (true, false) => "0x",
            (true, true) => "0X",
        };
        let bytes = &bytes[..self.flags.precision.unwrap_or(bytes.len()).min(bytes.len())];
        let mut out = String::new();
        for (i, b) in bytes.iter().enumerate() {
            let first = i == 0;
            if self.flags.space && !first {
                out.push(' ');
            }
            if first || self.flags.space {
                out.push_str(prefix);
            }
            out.push_str(&if upper { format!("{b:02X}") } else { format!("{b:02x}") });
        }
        out
    }

    fn integer(&mut self, negative: bool, n: u64, verb: char, v: &Value) {
        let digits = match verb {
            'v' | 'd' => n.to_string(),
            'b' => format!("{n:b}"),
            'o' | 'O' => format!("{n:o}"),
            'x' => format!("{n:x}"),
            'X' => format!("{n:X}"),
            'c' => return self.pad(&rune(negative, n).to_string()),
            'q' => return self.pad(&quote_rune(rune(negative, n), self.flags.plus)),
            'U' => return self.unicode(negative, n),
            _ => return self.bad_verb(v, verb, 0),
        };
        let sign = match (negative, self.flags.plus, self.flags.space) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        };
        let mut wanted = self.flags.precision;
        if wanted == Some(0) && n == 0 {
            return self.pad_without_zeros("");
        }
        if wanted.is_none() && self.flags.zero && !self.flags.minus {
            wanted = self.flags.width.map(|w| w.saturating_sub(sign.len()));
        }
        let digits = format!("{digits:0>width$}", width = wanted.unwrap_or(0));
        let prefix = match verb {
            'O' => "0o",
            _ if !self.flags.sharp => "",
            'b' => "0b",
            'o' if !digits.starts_with('0') => "0",
            'x' => "0x",
            'X' => "0X",
            _ => "",
        };
        self.pad_without_zeros(&format!("{sign}{prefix}{digits}"));
    }

    fn unicode(&mut self, negative: bool, n: u64) {
        let n = if negative { n.wrapping_neg() } else { n };
        let width = self.flags.precision.unwrap_or(4).max(4);
        let mut text = format!("U+{n:0>width$X}");
        if self.flags.sharp
            && let Some(c) = u32::try_from(n).ok().and_then(char::from_u32)
            && crate::quote::is_print(c)
        {
            text.push_str(&format!(" '{c}'"));
        }
        self.pad_without_zeros(&text);
    }

    fn float(&mut self, f: f64, verb: char, v: &Value) {
        let (kind, default) = match verb {
            'v' => ('g', None),
            'g' | 'G' => (verb, None),
            'e' | 'E' | 'f' | 'F' => (verb, Some(6)),
            _ => return self.bad_verb(v, verb, 0),
        };
        let text = format_float(f, kind, self.flags.precision.or(default));
        let plus = self.flags.plus;
        let (sign, body) = match text.strip_prefix(['-', '+']) {
            Some(body) if text.starts_with('-') => ("-", body),
            Some(body) => ("+", body),
            None => ("", text.as_str()),
        };
        let sign = match sign {
            "-" => "-",
            _ if plus => "+",
            _ if self.flags.space => " ",
            // An infinity shows its sign always.
            other => other,
        };
        if !f.is_finite() {
            return self.pad_without_zeros(&format!("{sign}{body}"));
        }
        if self.flags.zero && !self.flags.minus {
            let width = self.flags.width.unwrap_or(0).saturating_sub(sign.len());
            self.out.push_str(&format!("{sign}{body:0>width$}"));
            return;
        }
        self.pad(&format!("{sign}{body}"));
    }
}

fn rune(negative: bool, n: u64) -> char {
    u32::try_from(n).ok().filter(|_| !negative).and_then(char::from_u32).unwrap_or('\u{fffd}')
}

fn can_backquote(s: &str) -> bool {
    s.chars().all(|c| c == '\t' || (c >= ' ' && !matches!(c, '`' | '\x7f' | '\u{feff}' | '\u{fffd}')))
}
