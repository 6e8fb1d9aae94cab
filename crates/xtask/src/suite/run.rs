//! Runs tests, one process each, and counts.
//!
//! A process per test is what lets a test enter namespaces, set its umask or crash without harming its neighbours.
//! A test that cannot run here prints a line `skipped: REASON` and returns; it is counted as skipped, with its reason.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::build::Binary;
use crate::{Failure, Result};

/// One test.
#[derive(Clone, Debug)]
pub struct Test {
    /// Its executable.
    pub binary: Binary,
    /// Its name within the executable.
    pub name: String,
}

/// How a test ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It passed.
    Passed,
    /// It cannot run here, and says why.
    Skipped(String),
    /// It failed; what it printed.
    Failed(String),
}

/// How many ended how.
#[derive(Clone, Default, Debug)]
pub struct Count {
    /// Passed.
    pub passed: usize,
    /// Names of those that failed.
    pub failed: Vec<String>,
    /// Names and reasons of those that were skipped.
    pub skipped: Vec<String>,
}

/// How to run them.
pub struct Manner {
    /// At the same time.
    pub jobs: usize,
    /// A test that takes longer has failed.
    pub timeout: Duration,
    /// Stands before each name in what is printed: the machine.
    pub label: &'static str,
}

impl Count {
    /// Adds another count.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
    }

    fn note(&mut self, name: String, verdict: Verdict) {
        match verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Failed(_) => self.failed.push(name),
            Verdict::Skipped(why) => self.skipped.push(format!("{name}: {why}")),
        }
    }
}

/// The tests of an executable that match `filter` (a part of `binary::test`), without ignored ones.
///
/// # Errors
/// The executable does not list its tests.
pub fn list(binary: &Binary, filter: &str) -> Result<Vec<Test>> {
    let names = |extra: &[&str]| -> Result<Vec<String>> {
        let output = Command::new(&binary.path)
            .args(["--list", "--format", "terse"])
            .args(extra)
            .current_dir(&binary.directory)
            .stdin(Stdio::null())
            .output()
            .map_err(|e| Failure::new(format!("{}: {e}", binary.path.display())))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().filter_map(|l| l.strip_suffix(": test")).map(str::to_owned).collect())
    };
    let ignored = names(&["--ignored"])?;
    let all = names(&[])?.into_iter().filter(|n| !ignored.contains(n));
    let tests = all.map(|name| Test { binary: binary.clone(), name });
    Ok(tests.filter(|t| t.title().contains(filter)).collect())
}

impl Test {
    /// `binary::test`.
    pub fn title(&self) -> String {
        format!("{}::{}", self.binary.name, self.name)
    }

    /// Tests that measure time have the machine to themselves.
    fn is_alone(&self) -> bool {
        self.name.split("::").any(|part| part.starts_with("alone_"))
    }
}

/// Runs `tests`, those named `alone_…` one by one at the end.
pub fn run(tests: Vec<Test>, manner: &Manner) -> Count {
    let (alone, together): (Vec<Test>, Vec<Test>) = tests.into_iter().partition(Test::is_alone);
    let mut count = run_pool(together, manner, manner.jobs);
    count.add(run_pool(alone, manner, 1));
    count
}

fn run_pool(tests: Vec<Test>, manner: &Manner, jobs: usize) -> Count {
    let queue = Mutex::new(VecDeque::from(tests));
    let count = Mutex::new(Count::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(test) = take(&queue) {
                    let started = Instant::now();
                    let verdict = run_one(&test, manner.timeout);
                    report(&test, &verdict, started.elapsed(), manner.label);
                    lock(&count).note(format!("{}{}", manner.label, test.title()), verdict);
                }
            });
        }
    });
    count.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn take(queue: &Mutex<VecDeque<Test>>) -> Option<Test> {
    lock(queue).pop_front()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn report(test: &Test, verdict: &Verdict, took: Duration, label: &str) {
    let (word, detail) = match verdict {
        Verdict::Passed => ("pass", String::new()),
        Verdict::Skipped(why) => ("skip", format!(": {why}")),
        Verdict::Failed(output) => ("FAIL", format!("\n{}", indent(output))),
    };
    println!("{word} [{:7.3} s] {label}{}{detail}", took.as_secs_f64(), test.title());
}

/// The last lines of a failed test's output, indented.
fn indent(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    let shown = &lines[lines.len().saturating_sub(120)..];
    shown.iter().map(|l| format!("    {l}")).collect::<Vec<_>>().join("\n")
}

fn run_one(test: &Test, timeout: Duration) -> Verdict {
    match attempt(test, timeout) {
        Ok(verdict) => verdict,
        Err(e) => Verdict::Failed(e.to_string()),
    }
}

fn attempt(test: &Test, timeout: Duration) -> Result<Verdict> {
    let fail = |e: std::io::Error| Failure::new(format!("{}: {e}", test.binary.path.display()));
    let mut output = temporary_file()?;
    let mut child = Command::new(&test.binary.path)
        .args([&test.name, "--exact", "--nocapture", "--test-threads=1"])
        .current_dir(&test.binary.directory)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(fail)?)
        .stderr(output.try_clone().map_err(fail)?)
        .spawn()
        .map_err(fail)?;
    let deadline = Instant::now() + timeout;
    let status = loop {
        match child.try_wait().map_err(fail)? {
            Some(status) => break Some(status),
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(3)),
            None => {
                child.kill().map_err(fail)?;
                child.wait().map_err(fail)?;
                break None;
            }
        }
    };
    let mut text = Vec::new();
    output.rewind().map_err(fail)?;
    output.read_to_end(&mut text).map_err(fail)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(match status {
        Some(status) if status.success() => skip_reason(&text).map_or(Verdict::Passed, Verdict::Skipped),
        Some(status) => Verdict::Failed(format!("{text}\n{status}")),
        None => Verdict::Failed(format!("{text}\nkilled after {} s", timeout.as_secs())),
    })
}

/// The reason of a test that says it cannot run here.
fn skip_reason(output: &str) -> Option<String> {
    output
        .lines()
        .find_map(|l| l.split_once("skipped: "))
        .filter(|(before, _)| before.is_empty() || before.ends_with(' '))
        .map(|(_, why)| why.to_owned())
}

/// A file that has no name any more.
fn temporary_file() -> Result<File> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path: PathBuf = std::env::temp_dir().join(format!("fluyt-test-{}-{number}", std::process::id()));
    let fail = |e: std::io::Error| Failure::new(format!("{}: {e}", path.display()));
    let file = File::options().read(true).write(true).create_new(true).open(&path).map_err(fail)?;
    std::fs::remove_file(Path::new(&path)).map_err(fail)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Test {
        let path = std::env::temp_dir().join(format!("fluyt-runner-{}-{}", std::process::id(), script.len()));
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("executable");
        let binary = Binary { package: "x".into(), name: "x".into(), path, directory: "/".into() };
        Test { binary, name: "t".into() }
    }

    #[test]
    fn the_verdict_is_the_exit_status_and_what_is_said() {
        let verdict = |script: &str| {
            let test = shell(script);
            let verdict = run_one(&test, Duration::from_millis(700));
            std::fs::remove_file(&test.binary.path).expect("removed");
            verdict
        };
        assert_eq!(verdict("exit 0"), Verdict::Passed);
        assert_eq!(verdict("echo 'skipped: no root'"), Verdict::Skipped("no root".into()));
        assert!(matches!(verdict("echo broken; exit 3"), Verdict::Failed(o) if o.contains("broken")));
        assert!(matches!(verdict("sleep 30; exit 0;"), Verdict::Failed(o) if o.contains("killed")));
    }
}
