//! Number literals of templates: what a literal can stand for. Complex numbers are refused.

use crate::quote::{quote, unquote_char};

/// A literal with every reading that it allows.
#[derive(Clone, Debug)]
pub(crate) struct Number {
    pub text: String,
    pub int: Option<i64>,
    pub float: Option<f64>,
}

impl Number {
    /// Reads a character constant (`'a'`).
    pub fn from_char(text: &str) -> Result<Self, String> {
        let n = unquote_char(text)?;
        Ok(Self { text: text.into(), int: Some(i64::from(n)), float: Some(f64::from(n)) })
    }

    /// Reads a number. Errors are Go's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut n = Self { text: text.into(), int: None, float: None };
        if let Some((negative, magnitude)) = parse_int(text) {
            let value = if negative { -i128::from(magnitude) } else { i128::from(magnitude) };
            n.int = i64::try_from(value).ok();
            if n.int.is_some() || !negative {
                n.float = Some(value as f64);
                return Ok(n);
            }
        }
        let Some(f) = parse_float(text) else {
            return Err(format!("illegal number syntax: {}", quote(text)));
        };
        if !text.contains(['.', 'e', 'E', 'p', 'P']) {
            return Err(format!("integer overflow: {}", quote(text)));
        }
        n.float = Some(f);
        if f as i64 as f64 == f {
            n.int = Some(f as i64);
        }
        Ok(n)
    }

    /// Whether the literal, standing alone, is a float: it has a point or an exponent and is no hex integer.
    pub fn is_float_constant(&self) -> bool {
        let hex_int = self.text.len() > 2
            && (self.text.starts_with("0x") || self.text.starts_with("0X"))
            && !self.text.contains(['p', 'P']);
        self.float.is_some()
            && !hex_int
            && !self.text.starts_with('\'')
            && self.text.contains(['.', 'e', 'E', 'p', 'P'])
    }
}

/// Sign and magnitude of an integer literal in Go's syntax (prefixes, underscores between digits).
fn parse_int(text: &str) -> Option<(bool, u64)> {
    let (negative, body) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = body.to_ascii_lowercase();
    let (radix, digits, prefixed) = if let Some(d) = lower.strip_prefix("0x") {
        (16, d, true)
    } else if let Some(d) = lower.strip_prefix("0b") {
        (2, d, true)
    } else if let Some(d) = lower.strip_prefix("0o") {
        (8, d, true)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..], true)
    } else {
        (10, lower.as_str(), false)
    };
    let plain = without_underscores(digits, prefixed)?;
    if plain.starts_with(['+', '-']) {
        return None;
    }
    u64::from_str_radix(&plain, radix).ok().map(|n| (negative, n))
}

fn without_underscores(digits: &str, prefixed: bool) -> Option<String> {
    let misplaced = digits.ends_with('_') || digits.contains("__") || (!prefixed && digits.starts_with('_'));
    if misplaced { None } else { Some(digits.replace('_', "")) }
}

fn parse_float(text: &str) -> Option<f64> {
    let unsigned = text.trim_start_matches(['+', '-']);
    let lower = unsigned.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0x") {
        let value = parse_hex_float(hex)?;
        return Some(if text.starts_with('-') { -value } else { value });
    }
    if text.contains('_') || !lower.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    text.parse().ok().filter(|f: &f64| f.is_finite())
}

fn parse_hex_float(hex: &str) -> Option<f64> {
    let (mantissa, exponent) = hex.split_once('p')?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}").replace('_', "");
    let value = u64::from_str_radix(&digits, 16).ok()? as f64;
    Some(value * 2f64.powi(exponent - 4 * i32::try_from(fraction.len()).ok()?))
}
