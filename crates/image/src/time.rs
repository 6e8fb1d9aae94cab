//! The clock of the store, in seconds since the epoch: all that images and records need.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in seconds since the epoch.
#[must_use]
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(0))
}

/// Now, as RFC 3339 in UTC with nanoseconds.
#[must_use]
pub fn now_rfc3339() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    fluyt_model::time::rfc3339(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// The seconds since the epoch that an RFC 3339 time names; `None` when it is malformed.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    fluyt_model::time::parse(text).map(|nanos| nanos.div_euclid(1_000_000_000))
}
