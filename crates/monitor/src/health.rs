//! What a health check's results mean and when the next one is due. Pure: times come in as arguments.

use std::time::Duration;

use fluyt_model::sandbox::{Health, HealthCheck, HealthResult, HealthStatus};

/// So many results are kept.
pub const KEPT: usize = 5;
/// So many bytes of a check's output are kept.
pub const MAX_OUTPUT: usize = 4096;

/// How long to wait before the next check, `since_start` after the container's start.
#[must_use]
pub fn delay(check: &HealthCheck, health: &Health, since_start: Duration) -> Duration {
    let starting = health.status == HealthStatus::Starting;
    let nanos = if starting && since_start < Duration::from_nanos(check.start_period) {
        check.start_interval.min(check.interval)
    } else {
        check.interval
    };
    Duration::from_nanos(nanos)
}

/// The health after `result`, which came `since_start` after the container's start.
#[must_use]
pub fn record(
    check: &HealthCheck,
    mut health: Health,
    result: HealthResult,
    since_start: Duration,
) -> Health {
    let grace =
        health.status == HealthStatus::Starting && since_start < Duration::from_nanos(check.start_period);
    if result.exit_code == 0 {
        health.status = HealthStatus::Healthy;
        health.failing_streak = 0;
    } else if !grace {
        health.failing_streak += 1;
        if health.failing_streak >= check.retries {
            health.status = HealthStatus::Unhealthy;
        }
    }
    health.log.push(result);
    let surplus = health.log.len().saturating_sub(KEPT);
    health.log.drain(..surplus);
    health
}

#[cfg(test)]
mod tests {
    use fluyt_model::sandbox::OnFailure;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn check() -> HealthCheck {
        HealthCheck {
            args: vec![],
            interval: 30 * SECOND,
            timeout: SECOND,
            retries: 3,
            start_period: 10 * SECOND,
            start_interval: 5 * SECOND,
            on_failure: OnFailure::Nothing,
        }
    }

    fn result(exit_code: i32) -> HealthResult {
        HealthResult { exit_code, ..HealthResult::default() }
    }

    fn after(codes: &[i32], since_start: u64) -> Health {
        codes
            .iter()
            .fold(Health::default(), |h, c| record(&check(), h, result(*c), Duration::from_secs(since_start)))
    }

    #[test]
    fn failures_count_after_the_start_period_only() {
        assert_eq!(after(&[1, 1, 1, 1], 5).status, HealthStatus::Starting);
        assert_eq!(after(&[1, 1], 11).status, HealthStatus::Starting);
        assert_eq!(after(&[1, 1, 1], 11).status, HealthStatus::Unhealthy);
        assert_eq!(after(&[0, 1, 1, 1], 5).status, HealthStatus::Unhealthy);
    }

    #[test]
    fn one_success_heals() {
        let health = after(&[1, 1, 1, 1, 1, 1, 0], 11);
        assert_eq!((health.status, health.failing_streak), (HealthStatus::Healthy, 0));
        assert_eq!(health.log.len(), KEPT);
    }

    #[test]
    fn checks_are_denser_while_starting() {
        let d = |h: &Health, s| delay(&check(), h, Duration::from_secs(s)).as_secs();
        assert_eq!(d(&Health::default(), 1), 5);
        assert_eq!(d(&Health::default(), 10), 30);
        assert_eq!(d(&after(&[0], 1), 1), 30);
    }
}
