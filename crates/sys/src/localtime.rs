//! The machine's time zone, for formats that carry local time without saying the zone (RFC 3164).
//!
//! No calendar here: only how far local time is ahead of UTC at an instant.

/// Seconds that local time is ahead of UTC at `seconds` since the epoch; 0 where the zone is not known.
#[must_use]
pub fn offset(seconds: i64) -> i64 {
    // SAFETY: a `tm` is plain numbers and one pointer; all zeroes is a valid value of it.
    let mut broken_down: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to values that live through the call; `localtime_r` keeps neither.
    let known = unsafe { libc::localtime_r(&raw const seconds, &raw mut broken_down) };
    if known.is_null() { 0 } else { broken_down.tm_gmtoff }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_less_than_a_day() {
        assert!(offset(1_700_000_000).abs() < 86_400);
    }
}
