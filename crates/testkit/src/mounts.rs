//! A mount namespace for one test: its own `/run`, where services put their sockets.
//!
//! The namespace belongs to the calling thread and to what it starts, and dies with them: the machine sees nothing of it.

use std::process::Command;

use rustix::thread::UnshareFlags;

/// Moves the calling thread into a mount namespace of its own with an empty `/run`. Before the test's
/// [`Host`](crate::Host) is made, so that this sees the same `/run` before and after.
///
/// # Panics
/// Without the right to make namespaces: these tests need root.
#[expect(
    deprecated,
    reason = "the unsafe twin is for flags that part descriptor tables; these are not among them"
)]
pub fn isolate() {
    rustix::thread::unshare(UnshareFlags::NEWNS).expect("these tests need root (CAP_SYS_ADMIN)");
    run(&["mount", "--make-rprivate", "/"]);
    run(&["mount", "-t", "tmpfs", "-o", "mode=755", "run", "/run"]);
}

/// Runs a command of this test's machine that has to succeed.
///
/// # Panics
/// It fails.
pub fn run(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).output();
    let output = output.unwrap_or_else(|e| panic!("{words:?}: {e}"));
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}
