//! Bad input: the right exit code, a message that names the thing, nothing left behind.

use std::process::Command;

use fluyt_testkit::host::{BOX, finish};

use crate::{PROGRAM, host, ours_only};

#[test]
fn unknown_things_are_named() {
    let host = host!();
    for line in [
        "start", "stop", "kill", "restart", "pause", "unpause", "wait", "logs", "port", "top", "inspect",
        "rm", "attach", "diff", "update",
    ] {
        let words = if line == "update" {
            "update --memory 100m absent".to_owned()
        } else {
            format!("{line} absent")
        };
        host.fails(1, "absent", &words);
    }
    host.fails(1, "absent", "image inspect absent");
    host.fails(1, "absent", "history absent");
    host.fails(1, "absent", "save -o image.tar absent");
    assert!(!host.scratch().join("image.tar").exists(), "no half archive is left");
}

#[test]
fn unknown_words_get_the_usage() {
    let host = host!();
    host.fails(125, "--no-such-flag", "run --no-such-flag box true");
    host.fails(1, "nonsense", "nonsense");
    let outcome = host.run("run");
    assert!(
        outcome.code != 0 && outcome.stderr.to_lowercase().contains("requires at least 1 argument"),
        "{outcome:?}"
    );
    let outcome = host.run("rm");
    assert!(
        outcome.code != 0 && outcome.stderr.to_lowercase().contains("requires at least 1 argument"),
        "{outcome:?}"
    );
}

#[test]
fn bad_values_of_run_are_named() {
    let host = host!();
    for (flags, needle) in [
        ("-p 99999:80", "99999"),
        ("-p 80:x", "x"),
        ("-v :/x", ":/x"),
        ("--mount type=nonsense,dst=/x", "nonsense"),
        ("--restart nonsense", "nonsense"),
        ("--restart always --rm", "restart"),
        ("--shm-size nonsense", "nonsense"),
        ("--cpuset-cpus 9999", "9999"),
        ("--env-file /no/such/env", "/no/such/env"),
        ("--ip 10.0.0.300", "10.0.0.300"),
        ("--log-opt nonsense=1", "nonsense"),
        ("--stop-signal NOSUCH", "NOSUCH"),
        ("--health-interval nonsense", "nonsense"),
        ("--pull nonsense", "nonsense"),
        ("--ulimit nosuch=1", "nosuch"),
        ("--pid container:absent", "absent"),
    ] {
        host.fails(125, needle, &format!("run {flags} box true"));
    }
    assert_eq!(host.ok("ps -aq"), "", "nothing is left");
    assert_eq!(host.ok("volume ls -q"), "");
}

#[test]
fn bad_references_are_refused_before_any_network() {
    let host = host!();
    for name in ["UPPER", "a/UPPER", "a//b", "x:bad:tag", "x@sha256:short", "-dash"] {
        let outcome = host.run_words(&["run", "--rm", "--", name, "true"]);
        assert_eq!(outcome.code, 125, "{outcome:?}");
        assert!(outcome.stderr.contains("invalid reference format"), "{outcome:?}");
    }
}

#[test]
fn an_ambiguous_prefix_is_refused() {
    let host = host!();
    let ids: Vec<String> = (0..17).map(|_| host.ok("create box true")).collect();
    let first = |id: &String| id.chars().next();
    let shared =
        ids.iter().enumerate().find_map(|(n, id)| ids[n + 1..].iter().find(|o| first(o) == first(id)));
    let prefix = &shared.expect("17 identifiers share a first digit")[..1];
    host.fails(1, prefix, &format!("inspect --type container {prefix}"));
    let mut words = vec!["rm"];
    words.extend(ids.iter().map(String::as_str));
    host.ok_words(&words);
}

#[test]
fn a_full_disk_is_said_and_survived() {
    let host = host!();
    ours_only!(host);
    std::fs::create_dir_all(host.scratch().join("small")).expect("made");
    let small = host.scratch().join("small");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=6m", "small"]).arg(&small).status();
    assert!(mounted.expect("mount").success());
    let root = small.join("root");
    let on_small = |words: &[&str], input: &[u8]| {
        let mut command = Command::new(PROGRAM);
        command.args(words).env("FLUYT_ROOT", &root);
        finish(&mut command, input, 60)
    };
    let noise: Vec<u8> = (0..9_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let layer = fluyt_testkit::images::tar(&[fluyt_testkit::images::Entry::File("big".into(), 0o644, noise)]);
    let archive = fluyt_testkit::images::docker_archive("big:1", &[layer], &serde_json::json!({}));
    let outcome = on_small(&["load"], &archive);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("No space left"), "{outcome:?}");
    assert_eq!(on_small(&["images", "-q"], b"").success(), "");
    assert_eq!(on_small(&["system", "fsck"], b"").code, 0);
    let _ = Command::new("umount").arg("-l").arg(&small).status();
}

#[test]
fn a_root_that_cannot_be_used_is_named() {
    let host = host!();
    ours_only!(host);
    let file = host.scratch().write("a-file", "x");
    let mut command = Command::new(PROGRAM);
    command.args(["--root", file.to_str().expect("a path"), "ps"]);
    let outcome = finish(&mut command, b"", 30);
    assert_ne!(outcome.code, 0);
    assert!(outcome.stderr.contains("a-file"), "{outcome:?}");
}

#[test]
fn two_roots_know_nothing_of_each_other() {
    let (first, second) = (host!(), host!());
    ours_only!(first);
    let id = crate::stay(&first, "--name c1");
    assert_eq!(second.ok("ps -aq"), "");
    let other = crate::stay(&second, "--name c1");
    assert_ne!(id, other);
    second.ok("rm -f c1");
    assert_eq!(first.field("c1", "{{.State.Running}}"), "true");
    first.ok("rm -f c1");
}

#[test]
fn a_closed_output_is_no_crash() {
    let host = host!();
    let line = format!(
        "{} run --rm {BOX} seq 1 100000 | head -n 1",
        if host.is_reference() { "docker" } else { PROGRAM }
    );
    let mut command = Command::new("sh");
    command.args(["-c", &line]).env("FLUYT_ROOT", host.root());
    let outcome = finish(&mut command, b"", 60);
    assert_eq!(outcome.text(), "1");
    assert!(!outcome.stderr.contains("panicked"), "{outcome:?}");
    fluyt_testkit::wait::until("the container to go", 30, || host.ok("ps -aq").is_empty().then_some(()));
}
