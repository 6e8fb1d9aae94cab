//! `kill -9` of our own processes at any moment: nothing half-made that the next command does not see and clean.

use std::process::Stdio;
use std::time::{Duration, Instant};

use fluyt_testkit::Host;
use fluyt_testkit::host::BOX;
use fluyt_testkit::wait::until;

use crate::{PROGRAM, host, ours_only, stay};

/// Starts the program, kills it after `delay`; whether it was still running.
fn killed_after(host: &Host, words: &[&str], input: Option<&std::path::Path>, delay: Duration) -> bool {
    let mut command = host.command(words);
    let stdin = input.map_or_else(Stdio::null, |p| std::fs::File::open(p).expect("the input").into());
    let mut child =
        command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    let deadline = Instant::now() + delay;
    while Instant::now() < deadline {
        if child.try_wait().expect("waited").is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    child.kill().expect("killed");
    child.wait().expect("waited");
    true
}

/// What must hold after any crash.
fn consistent(host: &Host, when: &str) {
    let listed = host.run("ps -a");
    assert_eq!(listed.code, 0, "{when}: {listed:?}");
    let checked = host.run("system fsck");
    assert_eq!(checked.code, 0, "{when}: {checked:?}");
}

/// Delays from the first instruction to past the end of a normal run.
fn delays(full: Duration, count: u32) -> impl Iterator<Item = Duration> {
    (0..count).map(move |n| full * n / count)
}

#[test]
fn run_can_be_killed_anywhere() {
    let host = host!();
    ours_only!(host);
    let words = ["run", "-d", "--name", "victim", BOX, "sh", "-c", crate::STAY];
    let started = Instant::now();
    host.ok_words(&words);
    let full = started.elapsed();
    host.ok("rm -f victim");
    for delay in delays(full * 5 / 4, 25) {
        killed_after(&host, &words, None, delay);
        let when = format!("run killed after {delay:?}");
        consistent(&host, &when);
        let removed = host.run("rm -f victim");
        assert_eq!(removed.code, 0, "{when}: {removed:?}");
        assert_eq!(host.ok("ps -aq"), "", "{when}");
    }
    // Monitors that were just being started end by themselves, or with the removal.
    let leaks = host.leaks();
    assert!(leaks.more.iter().all(|l| !l.starts_with("process") && !l.starts_with("cgroup")), "{leaks}");
    host.ok_words(&words);
    host.ok("rm -f victim");
}

#[test]
fn a_foreground_run_with_rm_can_be_killed_anywhere() {
    let host = host!();
    ours_only!(host);
    let words = ["run", "--rm", BOX, "true"];
    let started = Instant::now();
    host.ok_words(&words);
    for delay in delays(started.elapsed() * 5 / 4, 25) {
        killed_after(&host, &words, None, delay);
        consistent(&host, &format!("run --rm killed after {delay:?}"));
    }
    // Those that were killed last may not have ended yet.
    until("no container left", 20, || {
        host.ok("container prune -f");
        host.ok("ps -aq").is_empty().then_some(())
    });
}

#[test]
fn stop_and_rm_can_be_killed_anywhere() {
    let host = host!();
    ours_only!(host);
    for (verb, flags) in [("stop", "-t 2"), ("rm", "-f")] {
        stay(&host, "--name c1");
        let started = Instant::now();
        host.ok(&format!("{verb} {flags} c1"));
        let full = started.elapsed();
        host.run("rm -f c1");
        for delay in delays(full, 10) {
            stay(&host, "--name c1");
            let line = format!("{verb} {flags} c1");
            killed_after(&host, &line.split(' ').collect::<Vec<_>>(), None, delay);
            let when = format!("{line} killed after {delay:?}");
            consistent(&host, &when);
            let removed = host.run("rm -f c1");
            assert_eq!(removed.code, 0, "{when}: {removed:?}");
        }
    }
}

#[test]
fn load_can_be_killed_anywhere() {
    let Some(host) = Host::new(PROGRAM) else { return };
    ours_only!(host);
    let layer = fluyt_testkit::images::tar(&fluyt_testkit::images::busybox_entries());
    let archive =
        fluyt_testkit::images::docker_archive("box:latest", &[layer], &serde_json::json!({"Cmd": ["true"]}));
    let file = host.scratch().write("box.tar", archive);
    let words = ["load"];
    let started = Instant::now();
    assert_eq!(host.ok(&format!("load -i {}", file.display())).lines().count(), 1);
    let full = started.elapsed();
    for delay in delays(full * 5 / 4, 20) {
        host.run("rmi -f box");
        killed_after(&host, &words, Some(&file), delay);
        let when = format!("load killed after {delay:?}");
        let checked = host.run("system fsck");
        assert_eq!(checked.code, 0, "{when}: {checked:?}");
        if !host.ok("images -q").is_empty() {
            assert_eq!(host.run("run --rm box true").code, 0, "{when}: an image that is listed works");
        }
    }
    host.ok(&format!("load -i {}", file.display()));
    assert_eq!(host.sh("", "echo whole"), "whole");
}

#[test]
fn pull_can_be_killed_anywhere() {
    let host = host!();
    ours_only!(host);
    let Some(registry) = fluyt_testkit::registry::Registry::start() else { return };
    let name = format!("{}/box:1", registry.address());
    host.ok(&format!("tag box {name}"));
    host.ok(&format!("push {name}"));
    host.ok(&format!("rmi box {name}"));
    let started = Instant::now();
    host.ok(&format!("pull {name}"));
    for delay in delays(started.elapsed() * 5 / 4, 12) {
        host.run(&format!("rmi -f {name}"));
        killed_after(&host, &["pull", &name], None, delay);
        let checked = host.run("system fsck");
        assert_eq!(checked.code, 0, "pull killed after {delay:?}: {checked:?}");
    }
    host.ok(&format!("pull {name}"));
    assert_eq!(host.ok(&format!("run --rm {name} echo whole")), "whole");
}

#[test]
fn a_container_goes_on_when_its_client_is_killed() {
    let host = host!();
    let mut child = host
        .command(["run", "--name", "c1", BOX, "sh", "-c", "while :; do echo tick; sleep 0.1; done"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("started");
    until("the container to run", 30, || {
        (host.run_words(&["inspect", "-f", "{{.State.Running}}", "c1"]).text() == "true").then_some(())
    });
    child.kill().expect("killed");
    child.wait().expect("waited");
    let before = host.ok("logs c1").len();
    until("more output", 20, || (host.ok("logs c1").len() > before).then_some(()));
    assert_eq!(host.field("c1", "{{.State.Status}}"), "running");
    host.ok("rm -f c1");
}

#[test]
fn a_killed_monitor_is_noticed_and_cleaned() {
    let host = host!();
    ours_only!(host);
    stay(&host, "--name c1");
    let pid: u32 = host.field("c1", "{{.State.Pid}}").parse().expect("a number");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let parent = stat.lines().find_map(|l| l.strip_prefix("PPid:")).expect("a parent").trim().to_owned();
    assert!(std::process::Command::new("kill").args(["-9", &parent]).status().expect("kill").success());
    until("the loss to be noticed", 20, || {
        let status = host.field("c1", "{{.State.Status}}");
        (status != "running").then_some(())
    });
    consistent(&host, "the monitor was killed");
    host.ok("rm -f c1");
    until("the orphan to be gone", 20, || {
        (!std::path::Path::new(&format!("/proc/{pid}/root/bin")).exists()).then_some(())
    });
}

/// Kills a process at once.
fn kill9(pid: &str) {
    assert!(std::process::Command::new("kill").args(["-9", pid]).status().expect("kill").success(), "{pid}");
}

/// The process id of the monitor of a running container.
fn monitor_of(host: &Host, name: &str) -> String {
    let pid = host.field(name, "{{.State.Pid}}");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    stat.lines().find_map(|l| l.strip_prefix("PPid:")).expect("a parent").trim().to_owned()
}

/// The process ids of the watchers of this data root.
fn watchers(host: &Host) -> Vec<String> {
    let root = host.root().display().to_string();
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = processes.map(|e| e.file_name().to_string_lossy().into_owned());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|b| *b == 0).map(String::from_utf8_lossy).collect();
        words.get(2).is_some_and(|w| w == "--watch") && words.get(3).is_some_and(|w| *w == root)
    })
    .collect()
}

/// Waits until all of `names` run with other first processes than `before`.
fn healed(host: &Host, names: &[&str], before: &[String]) {
    for (name, old) in names.iter().zip(before) {
        until("the container to be back", 30, || {
            let now = host.field(name, "{{.State.Status}} {{.State.Pid}}");
            (now.starts_with("running ") && now != format!("running {old}")).then_some(())
        });
        assert!(!std::path::Path::new(&format!("/proc/{old}/root/bin")).exists(), "{name} lives twice");
        assert_eq!(host.ok(&format!("exec {name} echo alive")), "alive");
    }
}

/// The one watcher of this data root, once it knows everybody.
fn watcher(host: &Host) -> String {
    let one = until("one watcher", 20, || match &watchers(host)[..] {
        [one] => Some(one.clone()),
        _ => None,
    });
    std::thread::sleep(Duration::from_millis(300));
    one
}

#[test]
fn a_container_with_a_restart_policy_survives_its_monitor_and_the_watcher() {
    let host = host!();
    ours_only!(host);
    assert!(watchers(&host).is_empty(), "nobody watches where nothing is to be watched");
    let names = ["c1", "c2", "c3"];
    for name in names {
        stay(&host, &format!("--name {name} --restart unless-stopped"));
    }
    let pids = |host: &Host| names.map(|n| host.field(n, "{{.State.Pid}}"));
    // One monitor.
    let (first, before) = (watcher(&host), pids(&host));
    kill9(&monitor_of(&host, "c1"));
    healed(&host, &names[..1], &before[..1]);
    assert_eq!(host.field("c1", "{{.RestartCount}}"), "1");
    assert_eq!(host.field("c2", "{{.RestartCount}} {{.State.Pid}}"), format!("0 {}", before[1]));
    // The watcher: the monitors start another one.
    kill9(&first);
    until("another watcher", 20, || watchers(&host).iter().any(|w| *w != first).then_some(()));
    // All monitors.
    let (_, before) = (watcher(&host), pids(&host));
    names.iter().for_each(|n| kill9(&monitor_of(&host, n)));
    healed(&host, &names, &before);
    // The watcher and a monitor: the monitors that are left do it.
    let (second, before) = (watcher(&host), pids(&host));
    kill9(&second);
    kill9(&monitor_of(&host, "c2"));
    until("its return without anybody asking", 30, || {
        let text = std::fs::read_to_string(host.root().join("events.jsonl")).expect("the journal");
        let id = host.field("c2", "{{.Id}}");
        let starts = text.lines().filter(|l| l.contains("\"start\"") && l.contains(&id)).count();
        (starts == 3).then_some(())
    });
    healed(&host, &names[1..2], &before[1..2]);
    // Everybody at once: the next command that looks.
    let (third, before) = (watcher(&host), pids(&host));
    let all = names.map(|n| monitor_of(&host, n));
    kill9(&third);
    all.iter().for_each(|pid| kill9(pid));
    host.ok("ps");
    healed(&host, &names, &before);
    // What is stopped in that moment stays so.
    kill9(&monitor_of(&host, "c3"));
    host.ok("stop -t 1 c3");
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(host.field("c3", "{{.State.Status}}"), "exited");
    host.ok("rm -f c1 c2 c3");
    until("the watcher to leave", 20, || watchers(&host).is_empty().then_some(()));
}

#[test]
fn commands_at_once_do_not_disturb_each_other() {
    let host = host!();
    let children: Vec<_> = (0..10)
        .map(|n| {
            let name = format!("n{n}");
            let mut command = host.command(["run", "-d", "--name", &name, BOX, "sh", "-c", crate::STAY]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("started")
        })
        .collect();
    for mut child in children {
        assert!(child.wait().expect("waited").success());
    }
    assert_eq!(host.ok("ps -q").lines().count(), 10);
    let addresses: std::collections::BTreeSet<String> = (0..10)
        .map(|n| host.field(&format!("n{n}"), "{{.NetworkSettings.Networks.bridge.IPAddress}}"))
        .collect();
    assert_eq!(addresses.len(), 10, "{addresses:?}");
    let removing: Vec<_> = (0..10)
        .map(|n| {
            let mut command = host.command(["rm".to_owned(), "-f".to_owned(), format!("n{n}")]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("started")
        })
        .collect();
    for mut child in removing {
        assert!(child.wait().expect("waited").success());
    }
    assert_eq!(host.ok("ps -aq"), "");
}
