//! `run`: exit codes, streams, environment, identity, terminals, names.

use std::time::Instant;

use fluyt_testkit::host::BOX;

use crate::{host, stay};

#[test]
fn the_exit_code_is_the_programs_own() {
    let host = host!();
    for code in [0, 1, 42, 255] {
        let outcome = host.sh_outcome("", &format!("exit {code}"));
        assert_eq!(outcome.code, code, "{outcome:?}");
    }
    assert_eq!(host.sh_outcome("--init", "kill -9 $$").code, 137, "killed by SIGKILL");
    assert_eq!(host.sh_outcome("--init", "kill -TERM $$").code, 143, "killed by SIGTERM");
}

#[test]
fn a_command_that_cannot_run_is_126_or_127() {
    let host = host!();
    host.fails(127, "no-such-program", "run --rm box no-such-program");
    host.fails(127, "/no/such/program", "run --rm box /no/such/program");
    host.fails(126, "not-a-program", "run --rm box /etc/not-a-program");
    host.fails(126, "/etc", "run --rm box /etc");
    assert_eq!(host.ok("ps -aq"), "", "nothing is left of what never ran");
}

#[test]
fn the_streams_are_apart() {
    let host = host!();
    let outcome = host.sh_outcome("", "echo out; echo err >&2");
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn stdin_is_forwarded_when_asked_for() {
    let host = host!();
    let input = "line\n".repeat(50_000);
    let outcome = host.run_with_input(&["run", "--rm", "-i", BOX, "wc", "-c"], input.as_bytes());
    assert_eq!(outcome.success().trim(), "250000");
    let outcome = host.run_with_input(&["run", "--rm", BOX, "wc", "-c"], b"unseen");
    assert_eq!(outcome.success().trim(), "0");
}

#[test]
fn large_output_arrives_whole() {
    let host = host!();
    let outcome =
        host.sh_outcome("", "dd if=/dev/zero bs=64k count=160 2>/dev/null | tr '\\0' x; echo end >&2");
    assert_eq!((outcome.code, outcome.stdout.len()), (0, 160 * 65536));
    assert_eq!(outcome.stderr, "end\n");
}

#[test]
fn the_environment_is_image_then_file_then_flags() {
    let host = host!();
    let file = host
        .scratch()
        .write("env", "# comment\nFROM_FILE=file\nBOTH=file\n\nWITH_SPACES=a b  c\nCALLER_SET\n");
    let flags = format!("--env-file {} -e BOTH=flag -e EMPTY= -e CALLER_UNSET", file.display());
    let mut command = host.command(["run", "--rm"]);
    command
        .args(flags.split_whitespace())
        .args([BOX, "env"])
        .env("CALLER_SET", "yes")
        .env_remove("CALLER_UNSET");
    let text = fluyt_testkit::host::finish(&mut command, b"", 60).success();
    let lines: Vec<&str> = text.lines().collect();
    for wanted in
        ["FROM_FILE=file", "BOTH=flag", "EMPTY=", "WITH_SPACES=a b  c", "CALLER_SET=yes", "HOME=/root"]
    {
        assert!(lines.contains(&wanted), "{wanted}: {lines:?}");
    }
    assert!(!text.contains("CALLER_UNSET"), "{text}");
    assert!(lines.iter().any(|l| l.starts_with("PATH=/usr/local/sbin")), "{lines:?}");
    assert!(lines.iter().any(|l| l.starts_with("HOSTNAME=")), "{lines:?}");
}

#[test]
fn a_user_is_a_number_or_a_name_of_the_image() {
    let host = host!();
    assert_eq!(host.sh("-u 1234:5678", "id -u; id -g; echo $HOME"), "1234\n5678\n/");
    assert_eq!(host.sh("-u user", "id -u; id -g; id -G; echo $HOME"), "1000\n1000\n1000 2000\n/home");
    assert_eq!(host.sh("-u user:www", "id -g"), "33");
    assert_eq!(host.sh("-u www --group-add 77 --group-add extra", "id -G"), "33 77 2000");
    host.fails(125, "nobody-here", "run --rm -u nobody-here box true");
}

#[test]
fn the_working_directory_is_made_when_missing() {
    let host = host!();
    assert_eq!(host.sh("-w /new/place", "pwd"), "/new/place");
    assert_eq!(host.sh("-w /tmp", "pwd"), "/tmp");
    host.fails(125, "relative", "run --rm -w relative box true");
}

#[test]
fn the_entrypoint_comes_before_the_command() {
    let host = host!();
    assert_eq!(host.ok("run --rm --entrypoint echo box a b"), "a b");
    assert_eq!(host.ok_words(&["run", "--rm", "--entrypoint", "", BOX, "echo", "plain"]), "plain");
    let id = host.ok("create box true");
    host.ok_words(&[
        "commit",
        "-c",
        r#"ENTRYPOINT ["echo", "entry"]"#,
        "-c",
        r#"CMD ["default"]"#,
        &id,
        "entry",
    ]);
    assert_eq!(host.ok("run --rm entry"), "entry default");
    assert_eq!(host.ok("run --rm entry given"), "entry given");
    assert_eq!(
        host.ok("run --rm --entrypoint echo entry"),
        "",
        "another entrypoint drops the image's command"
    );
    host.ok_words(&["rm", &id]);
}

#[test]
fn the_host_name_is_the_short_id_unless_given() {
    let host = host!();
    let name = host.sh("", "hostname");
    assert!(name.len() == 12 && name.chars().all(|c| c.is_ascii_hexdigit()), "{name}");
    assert_eq!(host.sh("-h web --domainname example.org", "cat /proc/sys/kernel/hostname"), "web");
    let hosts = host.sh("--hostname web --add-host db:10.9.8.7", "cat /etc/hosts");
    assert!(hosts.contains("10.9.8.7\tdb"), "{hosts}");
    assert!(hosts.lines().any(|l| l.ends_with("web")), "{hosts}");
    assert!(hosts.contains("127.0.0.1\tlocalhost"), "{hosts}");
}

#[test]
fn a_terminal_is_given_with_t() {
    let host = host!();
    assert_eq!(host.sh("-t", "test -t 1 && echo terminal $TERM"), "terminal xterm\r");
    assert_eq!(host.sh_outcome("", "test -t 1").code, 1);
    let outcome = host.sh_outcome("-t", "echo to-stderr >&2");
    assert_eq!(
        (outcome.stdout.trim(), outcome.stderr.as_str()),
        ("to-stderr", ""),
        "one stream on a terminal"
    );
}

#[test]
fn a_detached_container_prints_its_id_and_runs_on() {
    let host = host!();
    let started = Instant::now();
    let id = stay(&host, "--name quiet");
    assert!(started.elapsed().as_secs() < 30);
    assert!(id.len() == 64 && id.chars().all(|c| c.is_ascii_hexdigit()), "{id}");
    assert_eq!(host.field("quiet", "{{.State.Running}} {{.Id}}"), format!("true {id}"));
    assert_eq!(host.field(&id[..12], "{{.Name}}"), "/quiet");
    assert_eq!(host.ok("stop -t 5 quiet"), "quiet");
    assert_eq!(host.field("quiet", "{{.State.Status}} {{.State.ExitCode}}"), "exited 0");
}

#[test]
fn rm_removes_after_the_end_even_detached() {
    let host = host!();
    host.ok("run -d --rm --name gone box sleep 0.3");
    fluyt_testkit::wait::until("the container to be removed", 20, || {
        host.ok("ps -aq").is_empty().then_some(())
    });
    let volumes = host.ok("volume ls -q");
    assert_eq!(volumes, "");
}

#[test]
fn the_id_is_written_to_a_file_once() {
    let host = host!();
    let file = host.scratch().join("cid");
    let id = host.ok(&format!("run -d --cidfile {} box true", file.display()));
    assert_eq!(std::fs::read_to_string(&file).expect("written").trim(), id);
    host.fails(125, "cid", &format!("run -d --cidfile {} box true", file.display()));
}

#[test]
fn a_name_is_taken_once() {
    let host = host!();
    host.ok("create --name one box true");
    host.fails(125, "one", "run --name one box true");
    host.fails(1, "one", "create --name one box true");
    host.fails(125, "bad/name", "run --name bad/name box true");
    assert_eq!(host.ok_words(&["ps", "-a", "--format", "{{.Names}}"]), "one");
}

#[test]
fn a_signal_to_the_client_reaches_the_program() {
    let host = host!();
    let script = "trap 'echo caught; exit 7' TERM; echo ready; while :; do sleep 0.1; done";
    let mut child = host
        .command(["run", "--rm", "--name", "sig", BOX, "sh", "-c", script])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("started");
    let mut output = std::io::BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut output, &mut line).expect("a line");
    assert_eq!(line, "ready\n");
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    let deadline = Instant::now() + std::time::Duration::from_secs(fluyt_testkit::wait::patience(20));
    let status = fluyt_testkit::host::wait_child(&mut child, deadline).expect("it ends");
    assert_eq!(status.code(), Some(7));
    line.clear();
    std::io::BufRead::read_line(&mut output, &mut line).expect("a line");
    assert_eq!(line, "caught\n");
}

#[test]
fn init_reaps_orphans_and_forwards_signals() {
    let host = host!();
    let script = "(sleep 0.1 &) ; sleep 0.6; ps -o stat,comm | grep -c '^Z' || true; cat /proc/1/comm";
    let text = host.sh("--init", script);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "0", "no zombies");
    assert_ne!(lines[1], "sh", "the first process is an init");
    host.ok_words(&["run", "-d", "--init", "--name", "i1", BOX, "sleep", "1000"]);
    let started = Instant::now();
    host.ok("stop -t 30 i1");
    assert!(started.elapsed().as_secs() < 20, "SIGTERM kills sleep behind an init");
    assert_eq!(host.field("i1", "{{.State.ExitCode}}"), "143");
}

#[test]
fn pull_never_says_what_is_missing() {
    let host = host!();
    host.fails(125, "missing/image", "run --rm --pull never missing/image true");
    assert_eq!(host.ok("run --rm --pull never box echo here"), "here");
    assert_eq!(host.ok("ps -aq"), "");
}

#[test]
fn namespaces_can_be_shared() {
    let host = host!();
    let id = stay(&host, "--name other --ipc shareable");
    let of_other = |kind: &str| host.ok_words(&["exec", &id, "readlink", &format!("/proc/self/ns/{kind}")]);
    for (flag, kind) in [("--pid", "pid"), ("--ipc", "ipc"), ("--network", "net")] {
        let own = host.sh(&format!("{flag} container:other"), &format!("readlink /proc/self/ns/{kind}"));
        assert_eq!(own, of_other(kind), "{flag}");
    }
    for (flag, kind) in [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts")] {
        let own = host.sh(&format!("{flag} host"), &format!("readlink /proc/self/ns/{kind}"));
        let ours = std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace");
        if !host.is_reference() {
            assert_eq!(own, ours.to_string_lossy(), "{flag}");
        }
    }
    host.ok("rm -f other");
}
