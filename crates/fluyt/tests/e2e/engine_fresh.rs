//! An engine that has answered before, while others change what it answered about: it remembers, and is never behind.

use std::io::BufReader;
use std::time::Duration;

use crate::engines::{Answer, Engine, answer, send};
use crate::{host, ours_only};

/// A container's document over the API.
fn document(engine: &Engine, name: &str) -> serde_json::Value {
    let answer = engine.ask("GET", &format!("/containers/{name}/json"), "");
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_slice(&answer.body).expect("JSON")
}

/// Names and states of all containers, by name.
fn list(engine: &Engine) -> Vec<(String, String)> {
    let answer = engine.ask("GET", "/containers/json?all=1", "");
    let all: Vec<serde_json::Value> = serde_json::from_slice(&answer.body).expect("JSON");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let mut found: Vec<_> = all.iter().map(|c| (text(&c["Names"][0]), text(&c["State"]))).collect();
    found.sort();
    found
}

/// Lets what was just written come to rest: from then on the engine trusts what it has read.
fn rest() {
    std::thread::sleep(Duration::from_millis(250));
}

#[test]
fn what_others_change_shows_at_once() {
    let host = host!();
    ours_only!(host);
    let engine = Engine::start(&host, &[]);
    let id = host.ok("run -d --name one --memory 64m box sleep 1000");
    host.ok("create --name two box true");
    rest();
    let own = |name: &str, state: &str| (format!("/{name}"), state.to_owned());
    for _ in 0..3 {
        assert_eq!(list(&engine), [own("one", "running"), own("two", "created")]);
        assert_eq!(document(&engine, "one")["HostConfig"]["Memory"], 64 << 20);
        assert_eq!(document(&engine, "one")["State"]["Status"], "running");
    }
    host.ok("update --memory 80m --memory-swap 160m one");
    assert_eq!(document(&engine, "one")["HostConfig"]["Memory"], 80 << 20);
    host.ok("pause one");
    assert_eq!(document(&engine, "one")["State"]["Status"], "paused");
    host.ok("unpause one");
    assert_eq!(document(&engine, "one")["State"]["Status"], "running");
    host.ok("rename one uno");
    assert_eq!(engine.ask("GET", "/containers/one/json", "").status, 404);
    assert_eq!(document(&engine, "uno")["Id"], id.as_str());
    assert_eq!(list(&engine)[1].0, "/uno");
    rest();
    document(&engine, "uno");
    host.ok("kill uno");
    host.ok("wait uno");
    assert_eq!(document(&engine, "uno")["State"]["ExitCode"], 137);
    // Another one of the same name, then none.
    host.ok("rm uno");
    assert_eq!(engine.ask("GET", "/containers/uno/json", "").status, 404);
    let other = host.ok("create --name uno --label a=b box true");
    assert_eq!(document(&engine, "uno")["Id"], other.as_str());
    assert_eq!(document(&engine, "uno")["Config"]["Labels"]["a"], "b");
    host.ok("rm uno two");
    assert!(list(&engine).is_empty());
}

#[test]
fn a_killed_monitor_is_noticed() {
    let host = host!();
    ours_only!(host);
    let engine = Engine::start(&host, &[]);
    host.ok("run -d --name one box sleep 1000");
    rest();
    assert_eq!(document(&engine, "one")["State"]["Running"], true);
    assert_eq!(document(&engine, "one")["State"]["Running"], true);
    let pid = document(&engine, "one")["State"]["Pid"].as_i64().expect("a number");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let monitor = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)).expect("a parent");
    let monitor = monitor.parse().ok().and_then(rustix::process::Pid::from_raw).expect("a process");
    rustix::process::kill_process(monitor, rustix::process::Signal::KILL).expect("it is ours");
    fluyt_testkit::wait::until("the engine to see it", 20, || {
        (document(&engine, "one")["State"]["Running"] == false).then_some(())
    });
    host.ok("rm -f one");
}

/// Waits for a container's end; the answer must come within a few seconds.
fn wait(engine: &Engine, name: &str) -> Answer {
    let mut stream = engine.connect();
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    send(&mut stream, "POST", &format!("/containers/{name}/wait"), "");
    answer(&mut BufReader::new(stream))
}

fn rounds(engine: &Engine, who: usize) {
    let body = r#"{"Image": "box", "Cmd": ["sh", "-c", "exit 3"], "HostConfig": {"NetworkMode": "none"}}"#;
    for round in 0..12 {
        let name = format!("c{who}-{round}");
        let made = engine.ask("POST", &format!("/containers/create?name={name}"), body);
        assert_eq!(made.status, 201, "{made:?}");
        let started = engine.ask("POST", &format!("/containers/{name}/start"), "");
        assert_eq!(started.status, 204, "{started:?}");
        let ended = wait(engine, &name);
        assert!(ended.text().contains("\"StatusCode\":3"), "{name}: {ended:?}");
        assert_eq!(engine.ask("DELETE", &format!("/containers/{name}"), "").status, 204);
    }
}

/// The wait comes when the container is about to end, has ended, or its monitor is just leaving.
#[test]
fn no_wait_misses_an_end_that_is_under_way() {
    let host = host!();
    ours_only!(host);
    let engine = Engine::start(&host, &[]);
    std::thread::scope(|scope| {
        for who in 0..3 {
            let engine = &engine;
            scope.spawn(move || rounds(engine, who));
        }
    });
}
