//! Floating-point numbers in Go's notations (`strconv.FormatFloat`). Rust supplies the correctly rounded digits.

/// Formats `f` as Go's `verb` (one of `e E f F g G`) does; `precision` `None` means as many digits as
/// identify the number.
pub(crate) fn format_float(f: f64, verb: char, precision: Option<usize>) -> String {
    if f.is_nan() {
        return "NaN".into();
    }
    if f.is_infinite() {
        return if f > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    let text = match verb {
        'e' | 'E' => exponential(f, precision),
        'f' | 'F' => precision.map_or_else(|| format!("{f}"), |p| format!("{f:.p$}")),
        _ => general(f, precision),
    };
    if matches!(verb, 'E' | 'G') { text.to_uppercase() } else { text }
}

/// `-d.ddde±dd`
fn exponential(f: f64, precision: Option<usize>) -> String {
    let text = precision.map_or_else(|| format!("{f:e}"), |p| format!("{f:.p$e}"));
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |d| ('-', d));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// `%e` for large and small exponents, `%f` otherwise, without trailing zeros.
fn general(f: f64, precision: Option<usize>) -> String {
    let precision = precision.map(|p| p.max(1));
    let text = precision.map_or_else(|| format!("{f:e}"), |p| format!("{f:.*e}", p - 1));
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i64 = exponent.parse().unwrap_or(0);
    let mut digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    while digits.len() > 1 && digits.ends_with('0') {
        digits.pop();
    }
    let count = i64::try_from(digits.len()).unwrap_or(i64::MAX);
    let limit = match precision {
        None => 6,
        Some(p) => {
            let p = i64::try_from(p).unwrap_or(i64::MAX);
            if p > count && count > exponent { count } else { p }
        }
    };
    let sign = if f.is_sign_negative() { "-" } else { "" };
    if exponent < -4 || exponent >= limit {
        let (head, tail) = digits.split_at(1);
        let point = if tail.is_empty() { "" } else { "." };
        let (mark, size) = if exponent < 0 { ('-', -exponent) } else { ('+', exponent) };
        return format!("{sign}{head}{point}{tail}e{mark}{size:02}");
    }
    format!("{sign}{}", plain(&digits, exponent))
}

/// Digits with the decimal point after the first one shifted by `exponent`.
fn plain(digits: &str, exponent: i64) -> String {
    if exponent < 0 {
        let zeros = usize::try_from(-exponent - 1).unwrap_or(0);
        return format!("0.{}{digits}", "0".repeat(zeros));
    }
    let whole = usize::try_from(exponent).unwrap_or(0) + 1;
    if digits.len() <= whole {
        return format!("{digits:0<whole$}");
    }
    format!("{}.{}", &digits[..whole], &digits[whole..])
}
