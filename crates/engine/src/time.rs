//! RFC 3339 times as logs hold them.

/// Nanoseconds since the epoch of a time in UTC (`…Z`); `None` for anything else.
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        bytes
            .get(from..to)?
            .iter()
            .try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if bytes.last() != Some(&b'Z') || marks.iter().any(|(at, mark)| bytes.get(*at) != Some(mark)) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let secs = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    let fraction = &bytes[19..bytes.len() - 1];
    let nanos = match fraction.split_first() {
        None => 0,
        Some((b'.', digits)) if (1..=9).contains(&digits.len()) => {
            number(20, 20 + digits.len())? * 10_i64.pow(u32::try_from(9 - digits.len()).ok()?)
        }
        Some(_) => return None,
    };
    Some((days(year, month, day) * 86_400 + secs) * 1_000_000_000 + nanos)
}

/// The number of a day counted from 1970-01-01 (proleptic Gregorian calendar).
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_monitor_writes_is_read_back() {
        for time in [0, 1, 951_782_400_000_000_000, 1_700_000_000_123_456_789, 4_102_444_799_000_000_001] {
            assert_eq!(parse(&fluyt_monitor::log::rfc3339(time)), Some(time));
        }
        for bad in
            ["", "Z", "2023-11-14", "2023-11-14T22:13:20", "2023-11-14T22:13:20.Z", "x023-11-14T22:13:20Z"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
