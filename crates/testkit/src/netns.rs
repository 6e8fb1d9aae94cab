//! Network namespaces for tests: each test moves its own thread into a fresh one and makes more for its peers.
//!
//! A network namespace belongs to a thread, so tests that run side by side in one process do not meet. Nothing has
//! to be cleaned up: a namespace and all its links and rules die with its last thread and descriptor.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// A network namespace.
pub struct Namespace {
    file: File,
}

impl Namespace {
    /// A fresh one, empty but for its loopback link, which is down.
    #[must_use]
    pub fn new() -> Self {
        let maker = thread::spawn(isolate);
        maker.join().expect("the thread that makes a network namespace ends")
    }

    /// Runs `work` in a thread inside the namespace and waits for it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                self.enter();
                work()
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts `work` in a thread inside the namespace; the thread ends with the test's process at the latest.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let file = self.file.try_clone().expect("a descriptor can be duplicated");
        thread::spawn(move || {
            Self { file }.enter();
            work()
        })
    }

    fn enter(&self) {
        move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("a test may enter a network namespace that it made");
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Moves the calling thread into a fresh network namespace and returns it.
///
/// # Panics
/// Without the right to make namespaces: these tests need root.
#[must_use]
#[expect(
    deprecated,
    reason = "the unsafe twin is for flags that part descriptor tables; this one is not among them"
)]
pub fn isolate() -> Namespace {
    rustix::thread::unshare(UnshareFlags::NEWNET).expect("network tests need root (CAP_SYS_ADMIN)");
    Namespace { file: File::open("/proc/thread-self/ns/net").expect("/proc is mounted") }
}
