//! Points in time as people give and read them. The only place of the façade that reads the clock and
//! the local time zone.

use fluyt_model::{Error, Result, quantity};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Now, in nanoseconds since 1970.
pub fn now() -> i64 {
    Timestamp::now().as_nanosecond().try_into().unwrap_or(i64::MAX)
}

fn at(nanos: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or_default()
}

/// Go's `time.Time.String`, local: `2026-11-21 14:28:57 +0000 UTC`.
pub fn go_string(nanos: i64) -> String {
    let local = at(nanos).to_zoned(TimeZone::system());
    let fraction = nanos.rem_euclid(1_000_000_000);
    let fraction = if fraction == 0 {
        String::new()
    } else {
        format!(".{fraction:09}").trim_end_matches('0').to_owned()
    };
    format!("{}{fraction} {}", local.strftime("%Y-%m-%d %H:%M:%S"), local.strftime("%z %Z"))
}

/// RFC 3339 in local time, to the second: `2026-11-21T14:28:57Z`.
pub fn rfc3339_local(nanos: i64) -> String {
    zone(&at(nanos).to_zoned(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
}

/// RFC 3339 in local time with nine digits, as `events` prints.
pub fn rfc3339_nano_local(nanos: i64) -> String {
    let local = at(nanos).to_zoned(TimeZone::system());
    let fraction = nanos.rem_euclid(1_000_000_000);
    zone(&format!("{}.{fraction:09}{}", local.strftime("%Y-%m-%dT%H:%M:%S"), local.strftime("%:z")))
}

/// RFC 3339 in UTC with as many digits as are needed, as documents hold it; 0 is Go's zero time.
pub fn rfc3339_nano(nanos: i64) -> String {
    if nanos == 0 {
        return "0001-01-01T00:00:00Z".to_owned();
    }
    let fraction = nanos.rem_euclid(1_000_000_000);
    let seconds = at(nanos).strftime("%Y-%m-%dT%H:%M:%S").to_string();
    if fraction == 0 {
        return seconds + "Z";
    }
    format!("{seconds}.{}Z", format!("{fraction:09}").trim_end_matches('0'))
}

/// RFC 3339 in UTC to the second.
pub fn rfc3339_seconds(nanos: i64) -> String {
    at(nanos).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// RFC 3339 in UTC with exactly nine digits, as `logs --timestamps` prints.
pub fn rfc3339_nano_fixed(nanos: i64) -> String {
    format!("{}.{:09}Z", at(nanos).strftime("%Y-%m-%dT%H:%M:%S"), nanos.rem_euclid(1_000_000_000))
}

fn zone(text: &str) -> String {
    text.strip_suffix("+00:00").map_or_else(|| text.to_owned(), |bare| format!("{bare}Z"))
}

/// Reads `--since` and `--until`: a duration before `now` (`10m`), seconds since 1970 with an optional fraction, or a
/// date with as much of a time and a zone as the user cares to give (local where the zone is missing).
///
/// # Errors
/// `Invalid`, naming the text.
pub fn parse(text: &str, now: i64) -> Result<i64> {
    let bad = || {
        Error::invalid(format!("invalid value for a time: {text:?}")).with_hint(
            "give a duration such as 10m, a date such as 2026-01-02T15:04:05, or seconds since 1970",
        )
    };
    if let Ok(duration) = quantity::parse_duration(text) {
        return Ok(now - duration);
    }
    if let Some(nanos) = unix(text) {
        return Ok(nanos);
    }
    if let Ok(stamp) = text.parse::<Timestamp>() {
        return i64::try_from(stamp.as_nanosecond()).map_err(|_| bad());
    }
    let (utc, bare) = text.strip_suffix('Z').map_or((false, text), |bare| (true, bare));
    let full = match bare.len() {
        10 => format!("{bare}T00:00:00"),
        13 => format!("{bare}:00:00"),
        16 => format!("{bare}:00"),
        _ => bare.to_owned(),
    };
    let civil: jiff::civil::DateTime = full.parse().map_err(|_| bad())?;
    let zone = if utc { TimeZone::UTC } else { TimeZone::system() };
    let zoned = civil.to_zoned(zone).map_err(|_| bad())?;
    i64::try_from(zoned.timestamp().as_nanosecond()).map_err(|_| bad())
}

/// Nanoseconds since 1970 of a time as RFC 3339 writes it, if that is what it is.
#[must_use]
pub fn stamp(text: &str) -> Option<i64> {
    i64::try_from(text.parse::<Timestamp>().ok()?.as_nanosecond()).ok()
}

/// `seconds[.fraction]` since 1970.
fn unix(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) || fraction.len() > 9 {
        return None;
    }
    let seconds: i64 = seconds.parse().ok()?;
    let nanos: i64 = format!("{fraction:0<9}").parse().ok()?;
    // Times beyond those that can be counted are as far away as these.
    Some(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read() {
        let now = 1_700_000_000_000_000_000;
        for (text, nanos) in [
            ("10m", now - 600_000_000_000),
            ("1136073845", 1_136_073_845_000_000_000),
            ("1136073845.000000001", 1_136_073_845_000_000_001),
            ("99999999999", i64::MAX),
            ("2006-01-02T15:04:05Z", 1_136_214_245_000_000_000),
            ("2006-01-02T15:04:05.5+01:00", 1_136_210_645_500_000_000),
            ("2006-01-02T15:04Z", 1_136_214_240_000_000_000),
            ("2006-01-02Z", 1_136_160_000_000_000_000),
        ] {
            assert_eq!(parse(text, now).unwrap(), nanos, "{text}");
        }
        for bad in ["", "x", "2006-13-01", "1.x"] {
            assert!(parse(bad, now).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_print() {
        let nanos = 1_136_214_245_500_000_000;
        assert_eq!(rfc3339_nano(nanos), "2006-01-02T15:04:05.5Z");
        assert_eq!(rfc3339_nano_fixed(nanos), "2006-01-02T15:04:05.500000000Z");
        assert_eq!(rfc3339_nano(0), "0001-01-01T00:00:00Z");
    }
}
