//! `exec`: another process in a running container.

use fluyt_testkit::host::BOX;

use crate::{host, stay};

#[test]
fn exit_codes_and_streams() {
    let host = host!();
    stay(&host, "--name c1 -e FROM_RUN=1 -w /tmp");
    assert_eq!(host.run("exec c1 sh -c exit\\ 3").code, 127, "words are not split again");
    assert_eq!(host.run_words(&["exec", "c1", "sh", "-c", "exit 3"]).code, 3);
    let outcome = host.run_words(&["exec", "c1", "sh", "-c", "echo out; echo err >&2; pwd; echo $FROM_RUN"]);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n/tmp\n1\n", "err\n"));
    // Docker says 127 since version 23.
    let missing = if host.is_reference() { 126 } else { 127 };
    assert_eq!(host.run("exec c1 no-such-program").code, missing);
    assert_eq!(host.run("exec c1 /etc/not-a-program").code, 126);
    assert_eq!(
        host.ok_words(&[
            "exec",
            "-e",
            "A=b c1",
            "-w",
            "/etc",
            "-u",
            "user",
            "c1",
            "sh",
            "-c",
            "echo $A $PWD $(id -u)"
        ]),
        "b c1 /etc 1000"
    );
    let outcome = host.run_with_input(&["exec", "-i", "c1", "cat"], b"through");
    assert_eq!(outcome.success(), "through");
    assert_eq!(host.ok_words(&["exec", "-t", "c1", "sh", "-c", "test -t 1 && echo tty"]), "tty\r");
    host.ok("rm -f c1");
}

#[test]
fn a_detached_exec_runs_on() {
    let host = host!();
    stay(&host, "--name c1");
    assert_eq!(host.ok_words(&["exec", "-d", "c1", "sh", "-c", "sleep 0.2; echo done > /tmp/done"]), "");
    fluyt_testkit::wait::until("the file", 20, || {
        (host.run("exec c1 cat /tmp/done").text() == "done").then_some(())
    });
    host.ok("rm -f c1");
}

#[test]
fn a_process_shares_the_containers_world() {
    let host = host!();
    stay(&host, "--name c1 --pids-limit 50 --cap-drop ALL");
    for kind in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        let link = format!("/proc/self/ns/{kind}");
        let first = host.ok_words(&["exec", "c1", "readlink", &link]);
        let script = format!("readlink {link}; readlink /proc/1/ns/{kind} 2>/dev/null || true");
        let text = host.ok_words(&["exec", "c1", "sh", "-c", &script]);
        assert!(text.lines().all(|l| l == first), "{kind}: {text}");
    }
    let capabilities = host.ok_words(&["exec", "c1", "sh", "-c", "grep CapEff /proc/self/status"]);
    assert!(capabilities.ends_with("0000000000000000"), "{capabilities}");
    if !host.is_reference() {
        let capabilities =
            host.ok_words(&["exec", "--privileged", "c1", "sh", "-c", "grep CapEff /proc/self/status"]);
        assert!(!capabilities.ends_with("0000000000000000"), "{capabilities}");
    }
    host.ok("rm -f c1");
}

#[test]
fn not_into_what_does_not_run() {
    let host = host!();
    host.fails(1, "absent", "exec absent true");
    host.ok("create --name made box true");
    host.fails(1, "not running", "exec made true");
    stay(&host, "--name p1");
    host.ok("pause p1");
    host.fails(1, "paused", "exec p1 true");
    host.ok("unpause p1");
    host.ok("exec p1 true");
    host.ok("rm -f p1 made");
}

#[test]
fn no_descriptor_of_the_host_leaks_in() {
    let host = host!();
    let script = "ls -l /proc/self/fd | grep -e '->' | grep -v /proc/ | sed 's/.* -> //' | sort -u";
    let seen = host.sh("", script);
    assert!(seen.lines().all(|l| l.starts_with("pipe:") || l == "/dev/null"), "{seen}");
    stay(&host, "--name c1");
    let seen = host.ok_words(&["exec", "c1", "sh", "-c", script]);
    assert!(seen.lines().all(|l| l.starts_with("pipe:") || l == "/dev/null"), "{seen}");
    host.ok("rm -f c1");
}

#[test]
fn many_at_once() {
    let host = host!();
    stay(&host, "--name c1");
    let children: Vec<_> = (0..8)
        .map(|n| {
            let script = format!("echo {n}; exit {n}");
            let mut command = host.command(["exec", "c1", "sh", "-c", &script]);
            command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
            (n, command.spawn().expect("started"))
        })
        .collect();
    for (n, child) in children {
        let output = child.wait_with_output().expect("ended");
        assert_eq!(
            (output.status.code(), String::from_utf8_lossy(&output.stdout).trim()),
            (Some(n), n.to_string().as_str())
        );
    }
    host.ok_words(&["rm", "-f", "c1"]);
    assert_eq!(host.ok_words(&["images", "-q", BOX]).lines().count(), 1);
}
