//! Whether and when an ended container is started again. Pure: time comes in as durations.

use std::time::Duration;

use fluyt_model::sandbox::{RestartCondition, RestartPolicy};

/// The first pause before a restart; it doubles up to [`LONGEST_PAUSE`].
pub const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause before a restart.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A run that lasted this long makes the next pause a first one again.
pub const STABLE_AFTER: Duration = Duration::from_secs(10);

/// The memory of a series of restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// Restarts so far.
    pub count: u32,
    /// The pause that was made last; zero before the first.
    pub pause: Duration,
}

/// How a run ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Exit code.
    pub code: i32,
    /// How long it had run.
    pub ran: Duration,
    /// Somebody stopped or killed it on purpose.
    pub by_user: bool,
    /// The health check had it stopped.
    pub unhealthy: bool,
}

/// The pause before the next start and the series that includes it; `None`: it stays down.
#[must_use]
pub fn decide(policy: RestartPolicy, series: Series, ended: Ended) -> Option<(Duration, Series)> {
    if ended.by_user {
        return None;
    }
    let failed = ended.code != 0 || ended.unhealthy;
    let again = match policy.condition {
        RestartCondition::No => false,
        RestartCondition::Always | RestartCondition::UnlessStopped => true,
        RestartCondition::OnFailure | RestartCondition::OnUnhealthy => {
            failed && (policy.max_retries == 0 || series.count < policy.max_retries)
        }
    };
    if !again {
        return None;
    }
    let pause = if series.pause.is_zero() || ended.ran >= STABLE_AFTER {
        FIRST_PAUSE
    } else {
        (series.pause * 2).min(LONGEST_PAUSE)
    };
    Some((pause, Series { count: series.count + 1, pause }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(condition: RestartCondition, max_retries: u32) -> RestartPolicy {
        RestartPolicy { condition, max_retries }
    }

    fn ended(code: i32) -> Ended {
        Ended { code, ran: Duration::from_millis(5), by_user: false, unhealthy: false }
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_start_over_after_a_stable_run() {
        let mut series = Series::default();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            let (pause, next) = decide(policy(RestartCondition::Always, 0), series, ended(0)).unwrap();
            pauses.push(pause.as_millis());
            series = next;
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]);
        let stable = Ended { ran: STABLE_AFTER, ..ended(1) };
        let (pause, next) = decide(policy(RestartCondition::Always, 0), series, stable).unwrap();
        assert_eq!((pause, next.count), (FIRST_PAUSE, 13));
    }

    #[test]
    fn a_failure_is_retried_as_often_as_allowed() {
        let p = policy(RestartCondition::OnFailure, 2);
        assert!(decide(p, Series::default(), ended(0)).is_none());
        let (_, one) = decide(p, Series::default(), ended(1)).unwrap();
        let (_, two) = decide(p, one, ended(1)).unwrap();
        assert!(decide(p, two, ended(1)).is_none());
    }

    #[test]
    fn a_stop_by_hand_holds() {
        let by_hand = Ended { by_user: true, ..ended(1) };
        for c in [RestartCondition::Always, RestartCondition::UnlessStopped, RestartCondition::OnFailure] {
            assert!(decide(policy(c, 0), Series::default(), by_hand).is_none());
        }
    }

    #[test]
    fn an_unhealthy_container_counts_as_failed() {
        let sick = Ended { unhealthy: true, ..ended(0) };
        assert!(decide(policy(RestartCondition::OnUnhealthy, 0), Series::default(), sick).is_some());
        assert!(decide(policy(RestartCondition::OnUnhealthy, 0), Series::default(), ended(0)).is_none());
    }
}
