//! Builds whose context changes under them, and builds at once that need the same result.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use fluyt_testkit::Host;
use fluyt_testkit::wait::until;

use crate::{host, ours_only};

/// A step that says in a cache mount that it runs, and ends when it finds `go` there.
const STEP: &str =
    "RUN --mount=type=cache,target=/c echo run >> /c/runs && until [ -e /c/go ]; do sleep 0.05; done\n";

/// Starts a build of `dir`, its output in the file `log`.
fn start(host: &Host, dir: &str, tag: &str, log: &str) -> Child {
    let dir = host.scratch().join(dir).display().to_string();
    let log = std::fs::File::create(host.scratch().join(log)).expect("a file");
    let mut command = host.command(["build", "--progress", "plain", "-t", tag, &dir]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("started")
}

fn said(host: &Host, log: &str) -> String {
    std::fs::read_to_string(host.scratch().join(log)).expect("the log")
}

/// The cache mount, once a step has written to it.
fn mount(host: &Host) -> PathBuf {
    until("the step to run", 30, || {
        let mounts = std::fs::read_dir(host.root().join("build/mounts")).ok()?;
        mounts.flatten().map(|entry| entry.path().join("data")).find(|data| data.join("runs").exists())
    })
}

fn runs(host: &Host) -> usize {
    std::fs::read_to_string(mount(host).join("runs")).expect("there").lines().count()
}

fn succeeds(host: &Host, mut child: Child, log: &str) {
    let ended = until("the build to end", 60, || child.try_wait().expect("waited"));
    assert!(ended.success(), "{}", said(host, log));
}

#[test]
fn a_file_that_changes_before_it_is_copied_is_not_found_as_what_it_was() {
    let host = host!();
    ours_only!(host);
    let text =
        format!("FROM box\n{STEP}COPY file gone* /to/\nRUN cp /to/file /again\nCMD cat /to/file /again\n");
    host.scratch().write("context/Dockerfile", text);
    host.scratch().write("context/file", "one\n");
    host.scratch().write("context/gone", "it will be\n");
    let child = start(&host, "context", "first", "log");
    let mount = mount(&host);
    host.scratch().write("context/file", "two\n");
    std::fs::remove_file(host.scratch().join("context/gone")).expect("removed");
    std::fs::write(mount.join("go"), "").expect("written");
    succeeds(&host, child, "log");
    assert_eq!(host.ok("run --rm first"), "two\ntwo");
    for (tag, content) in [("second", "one"), ("third", "two")] {
        host.scratch().write("context/file", format!("{content}\n"));
        succeeds(&host, start(&host, "context", tag, "log"), "log");
        assert_eq!(host.ok(&format!("run --rm {tag}")), format!("{content}\n{content}"));
    }
    assert_eq!(runs(&host), 1);
    host.ok("system fsck");
}

#[test]
fn what_two_builds_need_at_once_is_made_once() {
    let host = host!();
    ours_only!(host);
    host.scratch().write("one/Dockerfile", format!("FROM box\n{STEP}RUN echo one\n"));
    host.scratch().write("two/Dockerfile", format!("FROM box\nLABEL another=file\n{STEP}RUN echo two\n"));
    let first = start(&host, "one", "first", "log1");
    let mount = mount(&host);
    let second = start(&host, "two", "second", "log2");
    until("the second to wait", 30, || {
        said(&host, "log2").contains("waiting for another build").then_some(())
    });
    std::fs::write(mount.join("go"), "").expect("written");
    succeeds(&host, first, "log1");
    succeeds(&host, second, "log2");
    assert_eq!(runs(&host), 1, "{}", said(&host, "log2"));
    assert!(said(&host, "log2").contains(" CACHED"), "{}", said(&host, "log2"));
    let left = std::fs::read_dir(host.root().join("build/making")).expect("there").count();
    assert_eq!(left, 0);
}

#[test]
fn the_first_failure_ends_what_runs_beside_it() {
    let host = host!();
    ours_only!(host);
    let text = "FROM box AS long\nRUN --mount=type=cache,target=/c touch /c/runs && sleep 300\n\
                FROM box AS short\nRUN --mount=type=cache,target=/c until [ -e /c/runs ]; do sleep 0.05; done; exit 3\n\
                FROM box\nCOPY --from=long /etc /a\nCOPY --from=short /etc /b\n";
    host.scratch().write("fails/Dockerfile", text);
    let mut child = start(&host, "fails", "none", "log");
    let ended = until("the build to end", 60, || child.try_wait().expect("waited"));
    let said = said(&host, "log");
    assert_eq!(ended.code(), Some(1), "{said}");
    assert!(said.contains("exit code: 3") && said.contains("CANCELED"), "{said}");
}

#[test]
fn mounts_of_one_cache_in_one_step_are_one() {
    let host = host!();
    ours_only!(host);
    let text = "FROM box\nRUN --mount=type=cache,id=x,target=/a,sharing=locked --mount=type=cache,id=x,target=/b,sharing=locked \
                --mount=type=cache,id=x,target=/s --mount=type=cache,id=x,target=/p,sharing=private \
                touch /a/f && test -e /b/f && test -e /s/f && test -e /p/f\n";
    host.scratch().write("one/Dockerfile", text);
    succeeds(&host, start(&host, "one", "one", "log"), "log");
}

#[test]
fn who_waits_for_a_build_that_dies_does_its_work() {
    let host = host!();
    ours_only!(host);
    host.scratch().write("one/Dockerfile", format!("FROM box\n{STEP}"));
    let mut first = start(&host, "one", "first", "log1");
    let mount = mount(&host);
    let second = start(&host, "one", "second", "log2");
    until("the second to wait", 30, || {
        said(&host, "log2").contains("waiting for another build").then_some(())
    });
    first.kill().expect("killed");
    first.wait().expect("ended");
    until("the second to go on", 30, || (runs(&host) == 2).then_some(()));
    std::fs::write(mount.join("go"), "").expect("written");
    succeeds(&host, second, "log2");
    host.ok("system fsck");
}
