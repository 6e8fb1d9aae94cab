//! create, start, stop, kill, restart, pause, wait, rename, update, rm; restart policies and health checks; ps, inspect, top,
//! stats and events.

use std::time::Instant;

use fluyt_testkit::host::BOX;
use fluyt_testkit::wait::until;

use crate::{host, stay};

#[test]
fn create_start_wait_rm() {
    let host = host!();
    let id = host.ok_words(&["create", "--name", "c1", BOX, "sh", "-c", "echo hi; exit 5"]);
    assert_eq!(host.field("c1", "{{.State.Status}}"), "created");
    assert_eq!(host.ok("start c1"), "c1");
    assert_eq!(host.ok("wait c1"), "5");
    assert_eq!(
        host.field("c1", "{{.State.Status}} {{.State.ExitCode}} {{.State.Running}}"),
        "exited 5 false"
    );
    let outcome = host.run("start -a c1");
    assert_eq!((outcome.code, outcome.text()), (5, "hi"));
    assert_eq!(host.ok("logs c1"), "hi\nhi");
    assert_eq!(host.ok_words(&["rm", &id]), id);
    host.fails(1, "c1", "inspect c1");
}

#[test]
fn stop_asks_then_kills() {
    let host = host!();
    host.ok_words(&[
        "run",
        "-d",
        "--name",
        "stubborn",
        BOX,
        "sh",
        "-c",
        "trap '' TERM; while :; do sleep 0.1; done",
    ]);
    let started = Instant::now();
    host.ok("stop -t 1 stubborn");
    let took = started.elapsed().as_secs_f64();
    assert!((0.9..15.0).contains(&took), "{took}");
    assert_eq!(host.field("stubborn", "{{.State.ExitCode}}"), "137");
    host.ok("stop stubborn");
    let script = "trap 'exit 9' USR1; while :; do sleep 0.1; done";
    host.ok_words(&["run", "-d", "--name", "usr1", "--stop-signal", "USR1", BOX, "sh", "-c", script]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    host.ok("stop usr1");
    assert_eq!(host.field("usr1", "{{.State.ExitCode}}"), "9");
}

#[test]
fn kill_sends_any_signal() {
    let host = host!();
    let script = "trap 'echo hup' HUP; echo ready; while :; do sleep 0.1; done";
    host.ok_words(&["run", "-d", "--name", "c1", BOX, "sh", "-c", script]);
    until("the trap", 20, || host.ok("logs c1").contains("ready").then_some(()));
    host.ok("kill -s HUP c1");
    until("the signal", 20, || host.ok("logs c1").contains("hup").then_some(()));
    host.fails(1, "NOSUCH", "kill -s NOSUCH c1");
    host.ok("kill c1");
    host.wait_for("c1", "{{.State.Status}} {{.State.ExitCode}}", "exited 137");
    host.fails(1, "not running", "kill c1");
}

#[test]
fn pause_freezes() {
    let host = host!();
    host.ok_words(&["run", "-d", "--name", "c1", BOX, "sh", "-c", "while :; do echo x; sleep 0.05; done"]);
    host.ok("pause c1");
    assert_eq!(
        host.field("c1", "{{.State.Status}} {{.State.Paused}} {{.State.Running}}"),
        "paused true true"
    );
    let before = host.ok("logs c1").len();
    std::thread::sleep(std::time::Duration::from_millis(400));
    assert_eq!(host.ok("logs c1").len(), before, "nothing is written while paused");
    host.fails(1, "paused", "pause c1");
    host.ok("unpause c1");
    until("output", 20, || (host.ok("logs c1").len() > before).then_some(()));
    host.ok("pause c1");
    host.ok("rm -f c1");
}

#[test]
fn restart_keeps_the_writable_layer() {
    let host = host!();
    let script = "echo start >> /log; trap 'exit 0' TERM; sleep 1000 & wait";
    host.ok_words(&["run", "-d", "--name", "c1", BOX, "sh", "-c", script]);
    until("the first start", 20, || (host.run("exec c1 cat /log").text() == "start").then_some(()));
    host.ok("restart -t 5 c1");
    until("the second start", 20, || (host.run("exec c1 cat /log").text() == "start\nstart").then_some(()));
    assert_eq!(host.field("c1", "{{.RestartCount}}"), "0", "a restart by hand does not count");
    host.ok("rm -f c1");
}

#[test]
fn restart_policies() {
    let host = host!();
    host.ok("run -d --name failing --restart on-failure:2 box false");
    host.wait_for("failing", "{{.State.Status}} {{.RestartCount}}", "exited 2");
    host.ok("run -d --name content --restart on-failure box true");
    host.wait_for("content", "{{.State.Status}} {{.RestartCount}}", "exited 0");
    stay(&host, "--name always --restart always");
    let pid = host.field("always", "{{.State.Pid}}");
    let killed = std::process::Command::new("kill").args(["-9", &pid]).status().expect("kill");
    assert!(killed.success());
    until("the restart", 30, || {
        let now = host.field("always", "{{.State.Running}} {{.State.Pid}}");
        (now.starts_with("true") && !now.ends_with(&format!(" {pid}"))).then_some(())
    });
    host.ok("stop -t 2 always");
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(host.field("always", "{{.State.Status}}"), "exited", "what was stopped by hand stays so");
    host.ok("rm -f always failing content");
}

#[test]
fn health_checks_change_the_status() {
    let host = host!();
    let flags = "--health-interval=300ms --health-timeout=2s --health-retries=2";
    let mut words = vec!["run", "-d", "--name", "h1", "--health-cmd", "cat /ok"];
    words.extend(flags.split(' '));
    words.extend([BOX, "sh", "-c", crate::STAY]);
    host.ok_words(&words);
    assert_eq!(host.field("h1", "{{.State.Health.Status}}"), "starting");
    host.wait_for("h1", "{{.State.Health.Status}}", "unhealthy");
    let log =
        host.field("h1", "{{(index .State.Health.Log 0).ExitCode}} {{(index .State.Health.Log 0).Output}}");
    assert!(log.starts_with("1 ") && log.contains("/ok"), "{log}");
    host.ok("exec h1 touch /ok");
    host.wait_for("h1", "{{.State.Health.Status}} {{.State.Health.FailingStreak}}", "healthy 0");
    let listed = host.ok_words(&["ps", "--format", "{{.Status}}"]);
    assert!(listed.contains("(healthy)"), "{listed}");
    assert_eq!(host.ok("ps -q --filter health=unhealthy"), "");
    host.ok("rm -f h1");
}

#[test]
fn ps_shows_filters_and_formats() {
    let host = host!();
    stay(&host, "--name up --label tier=front");
    host.ok("create --name made --label tier=back box true");
    assert_eq!(host.run_words(&["run", "--name", "done", BOX, "sh", "-c", "exit 3"]).code, 3);
    let names = |line: &str| {
        let mut words: Vec<&str> = line.split(' ').collect();
        words.extend(["--format", "{{.Names}}"]);
        let mut names: Vec<String> = host.ok_words(&words).lines().map(str::to_owned).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(names("ps"), "up");
    assert_eq!(names("ps -a"), "done made up");
    assert_eq!(names("ps -a -f status=exited"), "done");
    assert_eq!(names("ps -a -f exited=3"), "done");
    assert_eq!(names("ps -a -f label=tier"), "made up");
    assert_eq!(names("ps -a -f label=tier=back"), "made");
    assert_eq!(names("ps -a -f name=o"), "done");
    assert_eq!(names("ps -a -f ancestor=box"), "done made up");
    assert_eq!(names("ps -n 1"), "done");
    let json = host.ok_words(&["ps", "--format", "json"]);
    let row: serde_json::Value = serde_json::from_str(&json).expect("one JSON object a line");
    assert_eq!((row["Names"].as_str(), row["State"].as_str()), (Some("up"), Some("running")));
    let table = host.ok("ps -a");
    assert!(table.starts_with("CONTAINER ID   IMAGE"), "{table}");
    assert!(table.contains("Exited (3)") && table.contains("Created"), "{table}");
    host.fails(1, "nonsense", "ps -f nonsense=1");
    host.ok("rm -f up");
}

#[test]
fn rename_and_names_of_the_dead() {
    let host = host!();
    stay(&host, "--name old");
    host.ok("rename old new");
    host.fails(1, "old", "inspect old");
    assert_eq!(host.field("new", "{{.Name}}"), "/new");
    host.ok("create --name other box true");
    host.fails(1, "other", "rename new other");
    host.fails(1, "running", "rm new");
    host.ok("rm -f new");
    host.ok("create --name new box true");
}

#[test]
fn rm_refuses_what_runs() {
    let host = host!();
    stay(&host, "--name c1");
    host.fails(1, "running", "rm c1");
    assert_eq!(host.ok("rm -f c1"), "c1");
    host.fails(1, "absent", "rm absent");
    host.ok("rm -f absent");
    host.ok("create --name a1 box true");
    let outcome = host.run("rm a1 absent");
    assert_eq!((outcome.code, outcome.text()), (1, "a1"), "the others are still removed");
}

#[test]
fn top_stats_and_inspect_tell_the_same_pid() {
    let host = host!();
    stay(&host, "--name c1");
    let pid = host.field("c1", "{{.State.Pid}}");
    let table = host.ok("top c1");
    let header = table.lines().next().unwrap_or_default();
    assert!(header.contains("PID") && header.contains("CMD"), "{table}");
    if !host.is_reference() {
        assert!(table.lines().skip(1).any(|l| l.split_whitespace().any(|w| w == pid)), "{pid}: {table}");
    }
    let stats =
        host.ok_words(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}", "c1"]);
    assert!(stats.starts_with("c1 2 ") && stats.contains(" / "), "{stats}");
    host.ok("rm -f c1");
}

#[test]
fn update_changes_limits_of_the_living() {
    let host = host!();
    stay(&host, "--name c1 --memory 64m");
    host.ok("update --memory 96m --memory-swap 96m c1");
    assert_eq!(host.field("c1", "{{.HostConfig.Memory}}"), (96 << 20).to_string());
    let script =
        "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; true";
    assert_eq!(host.ok_words(&["exec", "c1", "sh", "-c", script]), (96 << 20).to_string());
    host.ok("update --restart on-failure:3 c1");
    assert_eq!(host.field("c1", "{{.HostConfig.RestartPolicy.Name}}"), "on-failure");
    host.fails(1, "absent", "update --memory 96m absent");
    host.ok("rm -f c1");
}

#[test]
fn events_are_told_in_order() {
    let host = host!();
    host.ok("volume create v1");
    stay(&host, "--name e1 -v v1:/data:ro");
    host.fails(1, "", "exec e1 false");
    host.ok("rm -f e1");
    host.ok("tag box other:1");
    host.ok("rmi other:1");
    host.ok("volume prune -af");
    // Docker's limits have whole seconds.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let line = "{{.Type}} {{.Action}} {{.Actor.Attributes.exitCode}} {{.Actor.Attributes.destination}} \
                {{.Actor.Attributes.reclaimed}}";
    let text = host.ok_words(&["events", "--since", "10m", "--until", "0s", "--format", line]);
    let mut at = 0;
    for event in [
        "volume create",
        "container create",
        "network connect",
        "volume mount <no value> /data",
        "container start",
        "container exec_create: false",
        "container exec_start: false",
        "container exec_die 1",
        "container kill",
        "container die 137",
        "network disconnect",
        "volume unmount",
        "container destroy",
        "image tag",
        "image untag",
        "volume destroy",
        "volume prune",
    ] {
        let found = text.lines().skip(at).position(|l| l.starts_with(event));
        at += found.unwrap_or_else(|| panic!("{event} is missing after line {at}: {text}")) + 1;
    }
    let execs = ["events", "--since", "10m", "--until", "0s", "--filter", "event=exec_start"];
    let line = host.ok_words(&execs);
    assert!(line.contains("execID=") && line.contains("image=box") && line.contains("name=e1"), "{line}");
}

#[test]
fn attach_sees_what_comes() {
    let host = host!();
    let script = "while read line; do echo \"got $line\"; [ \"$line\" = end ] && exit 4; done";
    host.ok_words(&["run", "-d", "-i", "--name", "c1", BOX, "sh", "-c", script]);
    let outcome = host.run_with_input(&["attach", "c1"], b"one\nend\n");
    assert_eq!((outcome.code, outcome.text()), (4, "got one\ngot end"), "{outcome:?}");
    host.fails(1, "stopped container", "attach c1");
}

#[test]
fn prune_removes_only_the_dead() {
    let host = host!();
    stay(&host, "--name living");
    let dead = host.ok("create box true");
    let said = host.ok("container prune -f");
    assert!(said.contains(&dead) && said.contains("Total reclaimed space"), "{said}");
    assert_eq!(host.ok_words(&["ps", "-a", "--format", "{{.Names}}"]), "living");
    let used = host.ok_words(&["system", "df", "--format", "{{.Type}} {{.TotalCount}}"]);
    assert!(used.contains("Containers 1"), "{used}");
    host.ok("rm -f living");
}
