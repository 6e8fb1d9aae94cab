//! Threads for what has to be done now. They are kept for a moment, the one that worked last works next.
//!
//! Work that goes on for as long as somebody else likes steps aside: its thread no longer counts among those that do
//! what ends by itself, so that no number of such can keep all of them.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a thread without work waits for more.
const KEPT: Duration = Duration::from_secs(3);

/// What a thread does with a piece of work.
type Work<T> = Box<dyn Fn(T) + Send + Sync>;

/// Threads that all do the same to what they get.
pub(crate) struct Pool<T> {
    state: Mutex<State<T>>,
    work: Work<T>,
    name: String,
    stack: usize,
    most: usize,
    most_aside: usize,
}

struct State<T> {
    /// Work that waits as all threads are busy.
    queue: std::collections::VecDeque<T>,
    /// Threads without work, the one that had some last at the end.
    idle: Vec<Arc<Desk<T>>>,
    /// Threads that are here for work: idle, or busy with what ends by itself.
    threads: usize,
    /// Threads that have stepped aside.
    aside: usize,
}

/// A thread that has stepped aside; it counts among the others again when this is dropped.
pub(crate) struct Aside<T>(Arc<Pool<T>>);

impl<T> Drop for Aside<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.aside -= 1;
        state.threads += 1;
    }
}

/// Where a waiting thread finds its next work.
struct Desk<T> {
    work: Mutex<Option<T>>,
    wake: Condvar,
}

impl<T> Pool<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + 'static> Pool<T> {
    /// At most `most` threads of that name and stack, which do `work`, and `most_aside` that have stepped aside.
    pub fn new(name: &str, stack: usize, most: usize, most_aside: usize, work: Work<T>) -> Arc<Self> {
        let state = State { queue: Default::default(), idle: Vec::new(), threads: 0, aside: 0 };
        let (name, most) = (name.to_owned(), most.max(1));
        Arc::new(Self { state: Mutex::new(state), work, name, stack, most, most_aside })
    }

    /// Takes the calling thread, one of this pool's that works, out of the number of those that do what ends by
    /// itself; `None` when too many have done so, or no other thread can be had to go on with the rest.
    pub fn step_aside(self: &Arc<Self>) -> Option<Aside<T>> {
        let mut state = self.lock();
        if state.aside >= self.most_aside {
            return None;
        }
        state.aside += 1;
        state.threads -= 1;
        let (last, waits) = (state.threads == 0, !state.queue.is_empty());
        drop(state);
        let aside = Aside(Arc::clone(self));
        // One is always left: whether another can be made is known now, not when it is needed.
        if (last || waits) && !self.spawn() && self.lock().threads == 0 {
            return None;
        }
        Some(aside)
    }

    /// Whether work waits for threads, so that a thread that merely waits should let go.
    pub fn is_short(&self) -> bool {
        let state = self.lock();
        !state.queue.is_empty() || state.threads >= self.most
    }

    /// Has it done as soon as possible.
    pub fn submit(self: &Arc<Self>, item: T) {
        let mut state = self.lock();
        if let Some(desk) = state.idle.pop() {
            drop(state);
            *desk.work.lock().unwrap_or_else(PoisonError::into_inner) = Some(item);
            desk.wake.notify_one();
            return;
        }
        state.queue.push_back(item);
        drop(state);
        // If no thread can be had, those that work take it when they are done; without any, the next that comes
        // tries again.
        self.spawn();
    }

    /// One more thread, unless there are enough; whether there is now one more.
    fn spawn(self: &Arc<Self>) -> bool {
        let mut state = self.lock();
        if state.threads >= self.most {
            return false;
        }
        state.threads += 1;
        drop(state);
        let pool = Arc::clone(self);
        let spawned = std::thread::Builder::new()
            .name(self.name.clone())
            .stack_size(self.stack)
            .spawn(move || pool.run());
        if spawned.is_err() {
            self.lock().threads -= 1;
        }
        spawned.is_ok()
    }

    fn run(self: Arc<Self>) {
        let desk = Arc::new(Desk { work: Mutex::new(None), wake: Condvar::new() });
        loop {
            let mut state = self.lock();
            if state.threads > self.most {
                // It had stepped aside, and others have come meanwhile.
                state.threads -= 1;
                return;
            }
            if let Some(item) = state.queue.pop_front() {
                drop(state);
                (self.work)(item);
                continue;
            }
            state.idle.push(Arc::clone(&desk));
            drop(state);
            let Some(item) = self.wait(&desk) else { return };
            (self.work)(item);
        }
    }

    /// The next work of a thread that is listed as idle; `None` when it should end.
    fn wait(&self, desk: &Arc<Desk<T>>) -> Option<T> {
        loop {
            let found = desk.work.lock().unwrap_or_else(PoisonError::into_inner);
            let (mut found, _) = desk
                .wake
                .wait_timeout_while(found, KEPT, |work| work.is_none())
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(item) = found.take() {
                return Some(item);
            }
            drop(found);
            let mut state = self.lock();
            let Some(at) = state.idle.iter().position(|other| Arc::ptr_eq(other, desk)) else { break };
            // The last one stays while others are aside: there may be no thread to be had later.
            if state.threads > 1 || state.aside == 0 {
                state.idle.remove(at);
                state.threads -= 1;
                return None;
            }
        }
        // Somebody has taken the desk from the list and is about to put work on it.
        let found = desk.work.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found =
            desk.wake.wait_while(found, |work| work.is_none()).unwrap_or_else(PoisonError::into_inner);
        found.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn everything_is_done_by_few_threads_which_are_used_again() {
        let done = Arc::new(AtomicUsize::new(0));
        let names = Arc::new(Mutex::new(std::collections::HashSet::new()));
        let work = {
            let (done, names) = (Arc::clone(&done), Arc::clone(&names));
            move |_: usize| {
                names.lock().unwrap().insert(std::thread::current().id());
                done.fetch_add(1, Ordering::Relaxed);
            }
        };
        let pool = Pool::new("test", 64 << 10, 4, 0, Box::new(work));
        for item in 0..1000 {
            pool.submit(item);
        }
        let wait = std::time::Instant::now();
        while done.load(Ordering::Relaxed) < 1000 {
            assert!(wait.elapsed() < Duration::from_secs(30), "{} of 1000", done.load(Ordering::Relaxed));
            std::thread::yield_now();
        }
        assert!(names.lock().unwrap().len() <= 4);
    }
}
