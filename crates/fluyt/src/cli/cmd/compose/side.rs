//! Things that are done side by side, each in its order.

use std::sync::{Condvar, Mutex, PoisonError};

use fluyt_model::{Error, Result};

/// Does things side by side, at most `limit` at once, each after those that it needs; `work` is given places in the list.
/// After a failure nothing further begins.
///
/// # Errors
/// The first failure in the list's order.
pub fn side_by_side(
    limit: usize,
    after: &[Vec<usize>],
    work: &(dyn Fn(usize) -> Result<()> + Sync),
) -> Result<()> {
    struct State {
        begun: Vec<bool>,
        done: Vec<bool>,
        failed: Vec<Option<Error>>,
    }
    let count = after.len();
    let state = Mutex::new(State {
        begun: vec![false; count],
        done: vec![false; count],
        failed: (0..count).map(|_| None).collect(),
    });
    let changed = Condvar::new();
    let next = || -> Option<usize> {
        let mut now = state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if now.failed.iter().any(Option::is_some) || now.begun.iter().all(|b| *b) {
                return None;
            }
            let free = |n: &usize| !now.begun[*n] && after[*n].iter().all(|a| now.done[*a]);
            if let Some(n) = (0..count).find(free) {
                now.begun[n] = true;
                return Some(n);
            }
            // What it needs is being done: a circle was refused when the project was loaded.
            if now.begun.iter().zip(&now.done).all(|(begun, done)| begun == done) {
                return None;
            }
            now = changed.wait(now).unwrap_or_else(PoisonError::into_inner);
        }
    };
    let worker = || {
        while let Some(n) = next() {
            let result = work(n);
            let mut now = state.lock().unwrap_or_else(PoisonError::into_inner);
            now.done[n] = true;
            now.failed[n] = result.err();
            drop(now);
            changed.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..limit.min(count) {
            scope.spawn(worker);
        }
        worker();
    });
    let failed = state.into_inner().unwrap_or_else(PoisonError::into_inner).failed;
    failed.into_iter().flatten().next().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn what_is_needed_is_done_before_and_no_more_than_the_limit_at_once() {
        let order = Mutex::new(Vec::new());
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let after = vec![vec![2], vec![], vec![1], vec![], vec![0]];
        let work = |n: usize| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            order.lock().unwrap().push(n);
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        };
        side_by_side(2, &after, &work).unwrap();
        let order = order.into_inner().unwrap();
        let place = |n: usize| order.iter().position(|m| *m == n).unwrap();
        assert!(
            order.len() == 5 && place(1) < place(2) && place(2) < place(0) && place(0) < place(4),
            "{order:?}"
        );
        assert!(most.into_inner() <= 2);
    }

    #[test]
    fn after_a_failure_nothing_begins() {
        let count = AtomicUsize::new(0);
        let after = vec![vec![], vec![0], vec![1]];
        let work = |n: usize| {
            count.fetch_add(1, Ordering::SeqCst);
            if n == 1 { Err(Error::internal("broken")) } else { Ok(()) }
        };
        assert_eq!(side_by_side(8, &after, &work).unwrap_err().to_string(), "broken");
        assert_eq!(count.load(Ordering::SeqCst), 2);
        assert!(side_by_side(1, &[], &work).is_ok());
    }
}
