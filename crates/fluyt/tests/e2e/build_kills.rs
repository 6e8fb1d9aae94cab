//! Builds that are cancelled or killed leave nothing but cache.

use std::process::{Child, Stdio};

use fluyt_testkit::Host;
use fluyt_testkit::wait::until;
use rustix::process::{Pid, Signal, kill_process};

use crate::{host, ours_only};

/// A context with a step that runs on until it is killed; `mark` is in the command line of its processes.
fn endless(host: &Host, mark: &str) -> String {
    let text = format!(
        "FROM box\nRUN echo before > /before\nRUN sleep {mark} & sleep {mark} & echo step is ready && wait\n"
    );
    host.scratch().write("endless/Dockerfile", text);
    host.scratch().join("endless").display().to_string()
}

/// The processes with this argument.
fn with(mark: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = line.split(|b| *b == 0);
        if words.next() == Some(b"sleep") && words.next() == Some(mark.as_bytes()) {
            found.push(pid);
        }
    }
    found
}

fn status(pid: i32, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    text.lines().find_map(|l| l.strip_prefix(field)).unwrap_or_default().trim_matches([':', '\t']).to_owned()
}

/// The process of the step that one of these processes is in.
fn step_of(pid: i32) -> i32 {
    let mut at = pid;
    while status(at, "Name") != "fluyt-step" {
        at = status(at, "PPid").parse().expect("a parent");
        assert!(at > 1, "no step above {pid}");
    }
    at
}

fn kill(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).expect("a process"), signal).expect("told");
}

/// Starts a build and waits until its step runs.
fn begin(host: &Host, dir: &str, mark: &str) -> Child {
    let mut command = host.command(["build", "--progress", "plain", dir]);
    let log = std::fs::File::create(host.scratch().join("log")).expect("a file");
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("started");
    until("the step to run", 30, || (with(mark).len() == 2).then_some(()));
    child
}

fn nothing_left(host: &Host, mark: &str) {
    until("the step's processes to end", 20, || with(mark).is_empty().then_some(()));
    let leaks = host.leaks();
    assert!(leaks.is_empty(), "{leaks}");
}

/// After the next build there is no work directory and no claim of the killed one.
fn cleared(host: &Host) {
    host.scratch().write("next/Dockerfile", "FROM box\nRUN echo next\n");
    host.ok_words(&["build", &host.scratch().join("next").display().to_string()]);
    for dir in ["ingest", "build/steps"] {
        let names: Vec<_> = std::fs::read_dir(host.root().join(dir)).expect(dir).flatten().collect();
        assert!(names.is_empty(), "{dir}: {names:?}");
    }
    host.ok("system fsck");
}

#[test]
fn a_cancelled_build_kills_its_steps() {
    let host = host!();
    ours_only!(host);
    let mark = format!("7{}1", std::process::id());
    let dir = endless(&host, &mark);
    for signal in [Signal::INT, Signal::TERM] {
        let mut child = begin(&host, &dir, &mark);
        kill(child.id().cast_signed(), signal);
        let ended = until("the build to end", 20, || child.try_wait().expect("waited"));
        assert!(!ended.success());
        let said = std::fs::read_to_string(host.scratch().join("log")).expect("the log");
        assert!(said.contains("cancel"), "{said}");
        assert!(with(&mark).is_empty(), "the step outlives the build");
        nothing_left(&host, &mark);
        let names: Vec<_> = std::fs::read_dir(host.root().join("ingest")).expect("there").flatten().collect();
        assert!(names.is_empty(), "{names:?}");
    }
    // What was done before is cached.
    host.scratch().write("endless/Dockerfile", "FROM box\nRUN echo before > /before\nRUN true\n");
    let said = host.run_words(&["build", "--progress", "plain", &dir]);
    assert_eq!(said.stderr.matches(" CACHED").count(), 1, "{said:?}");
}

#[test]
fn a_killed_builder_takes_its_steps_along() {
    let host = host!();
    ours_only!(host);
    let mark = format!("7{}2", std::process::id());
    let dir = endless(&host, &mark);
    let mut child = begin(&host, &dir, &mark);
    child.kill().expect("killed");
    child.wait().expect("ended");
    nothing_left(&host, &mark);
    cleared(&host);
}

#[test]
fn the_next_build_ends_what_lost_builder_and_step() {
    let host = host!();
    ours_only!(host);
    let mark = format!("7{}3", std::process::id());
    let dir = endless(&host, &mark);
    let mut child = begin(&host, &dir, &mark);
    let step = step_of(with(&mark)[0]);
    // Stopped, it cannot clear up when its builder goes.
    kill(step, Signal::STOP);
    child.kill().expect("killed");
    child.wait().expect("ended");
    kill(step, Signal::KILL);
    until("the step's process to end", 20, || status(step, "Name").is_empty().then_some(()));
    cleared(&host);
    nothing_left(&host, &mark);
}

#[test]
fn a_builder_whose_step_is_killed_fails_and_clears_up() {
    let host = host!();
    ours_only!(host);
    let mark = format!("7{}4", std::process::id());
    let dir = endless(&host, &mark);
    let mut child = begin(&host, &dir, &mark);
    kill(step_of(with(&mark)[0]), Signal::KILL);
    let ended = until("the build to end", 20, || child.try_wait().expect("waited"));
    assert_eq!(ended.code(), Some(1));
    assert!(with(&mark).is_empty(), "the step's command outlives the build");
    nothing_left(&host, &mark);
    cleared(&host);
}

#[test]
fn builds_at_once_do_not_disturb_each_other() {
    let host = host!();
    ours_only!(host);
    let text = "FROM box AS one\nRUN seq 1000 > /one\nFROM box AS two\nRUN seq 2000 > /two\n\
                FROM box\nCOPY --from=one /one /\nCOPY --from=two /two /\nRUN --mount=type=cache,target=/c,sharing=locked cat /one /two > /all\n\
                CMD wc -l < /all\n";
    host.scratch().write("same/Dockerfile", text);
    let dir = host.scratch().join("same").display().to_string();
    let children: Vec<Child> = (0..6)
        .map(|n| {
            let mut command = host.command(["build", "-q", "-t", &format!("same{n}"), &dir]);
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .expect("started")
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().expect("ended");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    for n in 0..6 {
        assert_eq!(host.ok(&format!("run --rm same{n}")), "3000");
    }
    let said = host.run_words(&["build", "--progress", "plain", &dir]);
    assert_eq!(said.stderr.matches(" CACHED").count(), 5, "{said:?}");
    host.ok("system fsck");
}
