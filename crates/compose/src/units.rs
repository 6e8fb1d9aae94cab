//! Durations and amounts of bytes as Compose files write them and as Go prints them.

use fluyt_model::quantity;

pub use fluyt_model::quantity::format_duration as go_duration;

/// Nanoseconds of `1m30s`, `1.5h`, `500ms`, `2d`, `1w`; a lone `0` too.
///
/// # Errors
/// It is not a duration, or one of more than 292 years; the sentence says what it must be.
pub fn duration(text: &str) -> Result<i64, String> {
    quantity::parse_long_duration(text)
        .map_err(|_| "must be a duration such as 1m30s (units: ns, us, ms, s, m, h, d, w)".to_owned())
}

/// Bytes of `512`, `-1`, `512m`, `1.5GiB`, `64 KB`: every unit is a power of 1024.
///
/// # Errors
/// It is not an amount; the sentence says what it must be.
pub fn bytes(text: &str) -> Result<i64, String> {
    // A negative number is one that says "as much as you like".
    let amount = text.parse::<i64>().or_else(|_| quantity::parse_bytes(text)).ok();
    amount.filter(|n| *n != i64::MAX).ok_or_else(|| "must be a number of bytes such as 512m or 2g".to_owned())
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
