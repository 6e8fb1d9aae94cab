//! Pressure stall information: how much of the time tasks of a group waited for a resource.

/// What the kernel says about one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// At least one task waited.
    pub some: PressureLine,
    /// All tasks waited at once.
    pub full: PressureLine,
}

/// Shares of time in percent, and the sum.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PressureLine {
    /// Over the last 10 seconds.
    pub avg10: f64,
    /// Over the last minute.
    pub avg60: f64,
    /// Over the last five minutes.
    pub avg300: f64,
    /// Microseconds altogether.
    pub total: u64,
}

impl Pressure {
    /// Reads a `*.pressure` file; what is missing is zero.
    pub(super) fn parse(text: &str) -> Self {
        let line = |name: &str| {
            let rest = text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("");
            let value =
                |key: &str| rest.split_whitespace().find_map(|w| w.strip_prefix(key)?.strip_prefix('='));
            let share = |key: &str| value(key).and_then(|v| v.parse().ok()).unwrap_or(0.0);
            PressureLine {
                avg10: share("avg10"),
                avg60: share("avg60"),
                avg300: share("avg300"),
                total: value("total").and_then(|v| v.parse().ok()).unwrap_or(0),
            }
        };
        Self { some: line("some"), full: line("full") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_missing_ones_are_zero() {
        let p = Pressure::parse("some avg10=1.50 avg60=0.25 avg300=0.00 total=77\n");
        assert_eq!((p.some.avg10, p.some.avg60, p.some.total), (1.5, 0.25, 77));
        assert_eq!(p.full, PressureLine::default());
    }
}
