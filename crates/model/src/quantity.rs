//! Byte sizes, durations and CPU counts as people type and read them: Docker's grammars and Docker's output.
//!
//! Pure functions; nothing here reads a clock.

use crate::{Error, Result};

const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Reads a size with binary units: `512m`, `1.5g`, `64KiB`, `10 b`, `4096`. Returns bytes, rounded down.
///
/// # Errors
/// `Invalid`, with Docker's wording.
pub fn parse_bytes(text: &str) -> Result<i64> {
    let (number, suffix) = match text.split_once(' ') {
        Some(parts) => parts,
        None => {
            let last = text.rfind(|c: char| c.is_ascii_digit() || c == '.');
            let last = last.ok_or_else(|| invalid(format!("invalid size: '{text}'")))?;
            text.split_at(last + 1)
        }
    };
    let size: f64 = number
        .parse()
        .map_err(|_| invalid(format!("strconv.ParseFloat: parsing \"{number}\": invalid syntax")))?;
    if size.is_nan() || size < 0.0 {
        return Err(invalid(format!("invalid size: '{text}'")));
    }
    let suffix = suffix.to_ascii_lowercase();
    let factor = match suffix.as_str() {
        "" | "b" => 1.0,
        _ => {
            let power = suffix.chars().next().and_then(|c| "kmgtp".find(c));
            let tail = suffix.get(1..).unwrap_or_default();
            match power {
                Some(power) if matches!(tail, "" | "b" | "ib") => 1024_f64.powi(power as i32 + 1),
                _ => return Err(invalid(format!("invalid suffix: '{suffix}'"))),
            }
        }
    };
    Ok((size * factor) as i64)
}

/// A size in decimal units with four significant digits, as `docker images` prints: `1.234GB`.
#[must_use]
pub fn human_size(bytes: f64) -> String {
    human_size_with(bytes, 4)
}

/// A size in decimal units with `digits` significant digits: `1.23GB`.
#[must_use]
pub fn human_size_with(bytes: f64, digits: usize) -> String {
    scaled(bytes, 1000.0, &DECIMAL, digits)
}

/// A size in binary units with four significant digits, as `docker stats` prints: `1.234GiB`.
#[must_use]
pub fn bytes_size(bytes: f64) -> String {
    scaled(bytes, 1024.0, &BINARY, 4)
}

fn scaled(mut size: f64, base: f64, units: &[&str; 9], digits: usize) -> String {
    let mut unit = 0;
    while size >= base && unit + 1 < units.len() {
        size /= base;
        unit += 1;
    }
    let mut text = significant(size, digits);
    // Rounding may reach the next unit: 999.96 kB is 1 MB.
    if unit + 1 < units.len() && text.parse::<f64>().is_ok_and(|rounded| rounded >= base) {
        text = "1".to_owned();
        unit += 1;
    }
    text + units[unit]
}

/// `value` with at most `digits` significant digits, without trailing zeros.
fn significant(value: f64, digits: usize) -> String {
    let whole = if value.abs() < 1.0 { 1 } else { value.abs().log10().floor() as usize + 1 };
    let mut text = format!("{value:.*}", digits.saturating_sub(whole));
    if text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    text
}

/// Reads a number of CPUs (`1.5`, `0.001`, `3/2`, `5e-1`) as billionths.
///
/// # Errors
/// `Invalid`, with Docker's wording: not a number, or finer than a billionth.
pub fn parse_cpus(text: &str) -> Result<i64> {
    let bad = || invalid(format!("failed to parse {text} as a rational number"));
    let (upper, lower) = text.split_once('/').map_or((text, "1"), |(a, b)| (a, b));
    let (mantissa, scale) = decimal(upper).ok_or_else(bad)?;
    let divisor: i128 = lower.parse().ok().filter(|d| *d > 0).ok_or_else(bad)?;
    let exponent = 9 + scale;
    let power = |n: u32| 10_i128.checked_pow(n).ok_or_else(bad);
    let (numerator, denominator) = if exponent >= 0 {
        (mantissa.checked_mul(power(exponent.unsigned_abs())?).ok_or_else(bad)?, divisor)
    } else {
        (mantissa, divisor.checked_mul(power(exponent.unsigned_abs())?).ok_or_else(bad)?)
    };
    if numerator % denominator != 0 {
        return Err(invalid("value is too precise"));
    }
    i64::try_from(numerator / denominator).map_err(|_| bad())
}

/// Splits `-12.5e3` into an integer and a power of ten.
fn decimal(text: &str) -> Option<(i128, i32)> {
    let (number, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok().filter(|e| e.abs() < 30)?),
        None => (text, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) || number.bytes().all(|b| !b.is_ascii_digit()) {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    Some((digits.parse().ok()?, exponent - i32::try_from(fraction.len()).ok()?))
}

/// Reads a duration in Go's grammar (`1m30s`, `500ms`, `1.5h`, `-2s`, `0`) as nanoseconds.
///
/// # Errors
/// `Invalid`, with Go's wording.
pub fn parse_duration(text: &str) -> Result<i64> {
    duration(text, unit_nanos)
}

/// The same with days and weeks: `2d`, `1w12h`.
///
/// # Errors
/// As [`parse_duration`].
pub fn parse_long_duration(text: &str) -> Result<i64> {
    duration(text, |unit| match unit {
        "d" => Some(24 * 3600 * NANOS_PER_SECOND),
        "w" => Some(7 * 24 * 3600 * NANOS_PER_SECOND),
        unit => unit_nanos(unit),
    })
}

fn duration(text: &str, unit_nanos: impl Fn(&str) -> Option<i64>) -> Result<i64> {
    let bad = || invalid(format!("time: invalid duration \"{text}\""));
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total = 0_f64;
    let mut exact = 0_i64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        if number.is_empty() || number == "." || number.matches('.').count() > 1 {
            return Err(bad());
        }
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        if unit.is_empty() {
            return Err(invalid(format!("time: missing unit in duration \"{text}\"")));
        }
        let factor = unit_nanos(unit)
            .ok_or_else(|| invalid(format!("time: unknown unit \"{unit}\" in duration \"{text}\"")))?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad())? };
        exact = whole.checked_mul(factor).and_then(|n| exact.checked_add(n)).ok_or_else(bad)?;
        if !fraction.is_empty() {
            total += format!("0.{fraction}").parse::<f64>().map_err(|_| bad())? * factor as f64;
        }
        rest = tail;
    }
    let nanos = exact.checked_add(total.round() as i64).ok_or_else(bad)?;
    Ok(if negative { -nanos } else { nanos })
}

fn unit_nanos(unit: &str) -> Option<i64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => NANOS_PER_SECOND,
        "m" => 60 * NANOS_PER_SECOND,
        "h" => 3600 * NANOS_PER_SECOND,
        _ => return None,
    })
}

/// Prints nanoseconds as Go prints a duration: `1h0m0s`, `1m30s`, `1.5s`, `500ms`, `0s`.
#[must_use]
pub fn format_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let second = NANOS_PER_SECOND.unsigned_abs();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < second {
        let (unit, name) = match nanos {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{sign}{}{name}", fraction(nanos, unit));
    }
    let seconds = fraction(nanos % (60 * second), second);
    let minutes = nanos / (60 * second);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / unit` in decimal, exactly; `unit` is a power of ten.
fn fraction(value: u64, unit: u64) -> String {
    let (whole, rest) = (value / unit, value % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    format!("{whole}.{rest:0width$}").trim_end_matches('0').to_owned()
}

/// How long ago or how long, for people: `Less than a second`, `About a minute`, `3 weeks`.
#[must_use]
pub fn human_duration(nanos: i64) -> String {
    let seconds = nanos / NANOS_PER_SECOND;
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::invalid(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_dockers_do() {
        for (text, bytes) in [
            ("0", 0),
            ("32", 32),
            ("32b", 32),
            ("32B", 32),
            ("32k", 32 << 10),
            ("32KB", 32 << 10),
            ("32kib", 32 << 10),
            ("32 kb", 32 << 10),
            ("512m", 512 << 20),
            ("1.5g", 3 << 29),
            ("2T", 2 << 40),
            ("1p", 1 << 50),
            (".5k", 512),
            ("1e3", 1000),
        ] {
            assert_eq!(parse_bytes(text).unwrap(), bytes, "{text}");
        }
        for (text, message) in [
            ("", "invalid size: ''"),
            ("hello", "invalid size: 'hello'"),
            ("-32", "invalid size: '-32'"),
            ("32mm", "invalid suffix: 'mm'"),
            ("32bb", "invalid suffix: 'bb'"),
            ("32kbb", "invalid suffix: 'kbb'"),
            ("1 x", "invalid suffix: 'x'"),
            (" 32", "strconv.ParseFloat: parsing \"\": invalid syntax"),
        ] {
            assert_eq!(parse_bytes(text).unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn sizes_print_as_dockers_do() {
        for (bytes, decimal, binary) in [
            (0.0, "0B", "0B"),
            (999.0, "999B", "999B"),
            (1000.0, "1kB", "1000B"),
            (1024.0, "1.024kB", "1KiB"),
            (1_234_567.0, "1.235MB", "1.177MiB"),
            (3_420_000_000.0, "3.42GB", "3.185GiB"),
            (999_999.0, "1MB", "976.6KiB"),
        ] {
            assert_eq!(human_size(bytes), decimal);
            assert_eq!(bytes_size(bytes), binary);
        }
        assert_eq!(human_size_with(4_430_000.0, 3), "4.43MB");
        assert_eq!(human_size_with(999_600.0, 3), "1MB");
    }

    #[test]
    fn cpus_are_exact() {
        for (text, nano) in [
            ("1", 1_000_000_000),
            ("1.5", 1_500_000_000),
            ("0.000000001", 1),
            ("3/2", 1_500_000_000),
            ("5e-1", 500_000_000),
            (".5", 500_000_000),
            ("-1", -1_000_000_000),
        ] {
            assert_eq!(parse_cpus(text).unwrap(), nano, "{text}");
        }
        assert_eq!(parse_cpus("x").unwrap_err().to_string(), "failed to parse x as a rational number");
        assert_eq!(parse_cpus("0.0000000001").unwrap_err().to_string(), "value is too precise");
        for bad in ["", ".", "1/0", "1.2.3", "1e99"] {
            assert!(parse_cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_go_both_ways() {
        for (text, nanos, printed) in [
            ("0", 0, "0s"),
            ("1m30s", 90_000_000_000, "1m30s"),
            ("500ms", 500_000_000, "500ms"),
            ("1.5h", 5_400_000_000_000, "1h30m0s"),
            ("-2s", -2_000_000_000, "-2s"),
            ("1.5s", 1_500_000_000, "1.5s"),
            ("10us", 10_000, "10µs"),
            ("7ns", 7, "7ns"),
            ("1h", 3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(parse_duration(text).unwrap(), nanos, "{text}");
            assert_eq!(format_duration(nanos), printed);
        }
        for (text, message) in [
            ("", "time: invalid duration \"\""),
            ("x", "time: invalid duration \"x\""),
            ("1", "time: missing unit in duration \"1\""),
            ("1y", "time: unknown unit \"y\" in duration \"1y\""),
            ("1.2.3s", "time: invalid duration \"1.2.3s\""),
        ] {
            assert_eq!(parse_duration(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn durations_for_people() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (45, "45 seconds"),
            (60, "About a minute"),
            (180, "3 minutes"),
            (3600, "About an hour"),
            (3 * 3600, "3 hours"),
            (40 * 3600, "40 hours"),
            (50 * 3600, "2 days"),
            (15 * 24 * 3600, "2 weeks"),
            (90 * 24 * 3600, "3 months"),
            (800 * 24 * 3600, "2 years"),
        ] {
            assert_eq!(human_duration(seconds * NANOS_PER_SECOND), text);
        }
    }
}
