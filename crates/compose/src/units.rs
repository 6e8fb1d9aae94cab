//! Durations and amounts of bytes as Compose files write them and as Go prints them.

/// Nanoseconds of `1m30s`, `1.5h`, `500ms`, `2d`, `1w`; a lone `0` too.
///
/// # Errors
/// It is not a duration; the sentence says what it must be.
pub fn duration(text: &str) -> Result<i64, String> {
    let wrong = || "must be a duration such as 1m30s (units: ns, us, ms, s, m, h, d, w)".to_owned();
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let factor = match &rest[..unit] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "d" => 86_400e9,
            "w" => 604_800e9,
            _ => return Err(wrong()),
        };
        total += number * factor;
        rest = &rest[unit..];
    }
    if total >= i64::MAX as f64 {
        return Err("must be shorter than 292 years".to_owned());
    }
    let nanoseconds = total.round() as i64;
    Ok(if negative { -nanoseconds } else { nanoseconds })
}

/// As Go prints a duration: `1m30s`, `1.5s`, `100ms`, `0s`.
pub fn go_duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let n = nanoseconds.unsigned_abs();
    if n == 0 {
        return "0s".to_owned();
    }
    let fraction = |value: u64, unit: u64, name: &str| {
        let (whole, rest) = (value / unit, value % unit);
        let digits = unit.ilog10() as usize;
        let rest = format!("{rest:0digits$}");
        let rest = rest.trim_end_matches('0');
        if rest.is_empty() { format!("{sign}{whole}{name}") } else { format!("{sign}{whole}.{rest}{name}") }
    };
    match n {
        ..1_000 => format!("{sign}{n}ns"),
        1_000..1_000_000 => fraction(n, 1_000, "µs"),
        1_000_000..1_000_000_000 => fraction(n, 1_000_000, "ms"),
        _ => {
            let (hours, minutes) = (n / 3_600_000_000_000, n / 60_000_000_000 % 60);
            let seconds = n % 60_000_000_000;
            let (whole, rest) = (seconds / 1_000_000_000, seconds % 1_000_000_000);
            let rest = format!("{rest:09}");
            let rest = rest.trim_end_matches('0');
            let seconds = if rest.is_empty() { format!("{whole}s") } else { format!("{whole}.{rest}s") };
            match (hours, minutes) {
                (0, 0) => format!("{sign}{seconds}"),
                (0, _) => format!("{sign}{minutes}m{seconds}"),
                _ => format!("{sign}{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

/// Bytes of `512`, `-1`, `512m`, `1.5GiB`, `64 KB`: every unit is a power of 1024.
///
/// # Errors
/// It is not an amount; the sentence says what it must be.
pub fn bytes(text: &str) -> Result<i64, String> {
    let wrong = || "must be a number of bytes such as 512m or 2g".to_owned();
    if let Ok(number) = text.parse::<i64>() {
        return Ok(number);
    }
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(wrong)?;
    let number: f64 = text[..end].parse().map_err(|_| wrong())?;
    let unit = text[end..].strip_prefix(' ').unwrap_or(&text[end..]).to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(wrong()),
    };
    let total = number * 1024f64.powi(power);
    if total >= i64::MAX as f64 { Err(wrong()) } else { Ok(total as i64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, printed) in [
            ("90s", "1m30s"),
            ("1.5s", "1.5s"),
            ("100ms", "100ms"),
            ("1h", "1h0m0s"),
            ("2d", "48h0m0s"),
            ("1500us", "1.5ms"),
            ("0", "0s"),
            ("1m30s", "1m30s"),
        ] {
            assert_eq!(duration(text).map(go_duration), Ok(printed.to_owned()), "{text}");
        }
        for text in ["", "10", "5 s", "1x", "s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn amounts() {
        for (text, number) in [
            ("512", 512),
            ("1k", 1024),
            ("1.5g", 1_610_612_736),
            ("64MB", 67_108_864),
            ("2 GiB", 2 << 30),
            ("-1", -1),
        ] {
            assert_eq!(bytes(text), Ok(number), "{text}");
        }
        for text in ["", "m", "12x", "1,5g"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
