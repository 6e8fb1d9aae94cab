//! An engine that ends, in order or not: containers do not notice, and clients go on with the next one.

use std::io::{BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::engines::{Engine, chunk, head, send};
use crate::{host, ours_only};

/// Counts aloud for ever, and ends at once when it is told to.
const COUNT: &str = "trap 'exit 7' TERM; i=0; while :; do echo line $i; i=$((i+1)); sleep 0.02; done";

/// Makes and starts a container over the API.
fn begin(engine: &Engine, name: &str) {
    let body = serde_json::json!({"Image": "box", "Cmd": ["sh", "-c", COUNT]});
    let made = engine.ask("POST", &format!("/containers/create?name={name}"), &body.to_string());
    assert_eq!(made.status, 201, "{made:?}");
    let started = engine.ask("POST", &format!("/containers/{name}/start"), "");
    assert_eq!(started.status, 204, "{started:?}");
}

/// The answer to a request that goes on: what reads its chunks.
fn follow(engine: &Engine, path: &str) -> BufReader<UnixStream> {
    let mut stream = engine.connect();
    send(&mut stream, "GET", path, "");
    let mut reader = BufReader::new(stream);
    let (status, lines) = head(&mut reader);
    assert_eq!(status, 200, "{lines:?}");
    reader
}

/// Lines of a log of both streams, with their times, as far as they came: `wanted`, or until the end.
fn lines(reader: &mut BufReader<UnixStream>, wanted: usize) -> Vec<(String, u64)> {
    let mut text = Vec::new();
    let mut found = Vec::new();
    while found.len() < wanted {
        let Some(piece) = chunk(reader) else { break };
        text.extend(piece);
        // Frames of eight bytes and a length, each with a line.
        while let Some(size) = text.get(4..8).map(|n| u32::from_be_bytes(n.try_into().expect("four"))) {
            let end = 8 + usize::try_from(size).expect("small");
            let Some(line) = text.get(8..end) else { break };
            let line = String::from_utf8(line.to_vec()).expect("text");
            let (time, said) = line.trim_end().split_once(' ').expect("a time");
            let number = said.strip_prefix("line ").and_then(|n| n.parse().ok()).expect("a number");
            found.push((time.to_owned(), number));
            text.drain(..end);
        }
    }
    found
}

#[test]
fn killed_it_leaves_containers_and_logs_and_the_next_one_goes_on() {
    let host = host!();
    ours_only!(host);
    let mut first = Engine::start(&host, &[]);
    begin(&first, "talker");
    let path = "/containers/talker/logs?follow=1&stdout=1&stderr=1&timestamps=1";
    let mut log = follow(&first, path);
    let before = lines(&mut log, 20);
    let mut waiting = first.connect();
    send(&mut waiting, "POST", "/containers/talker/wait", "");
    let pid = host.field("talker", "{{.State.Pid}}");
    first.signal(Signal::KILL);
    assert_eq!(first.ended(), None);
    let rest = log.read_to_end(&mut Vec::new());
    assert!(rest.is_ok(), "the stream is cut: {rest:?}");
    assert_eq!(host.field("talker", "{{.State.Running}} {{.State.Pid}}"), format!("true {pid}"));

    let second = Engine::start(&host, &[]);
    // Docker's clients go on from the last time they have seen; what has that time they have.
    let (last, _) = before.last().expect("some lines").clone();
    let mut log = follow(&second, &format!("{path}&since={last}"));
    let after = lines(&mut log, 40);
    let all = before.iter().chain(after.iter().filter(|(time, _)| *time > last)).map(|(_, n)| *n);
    let all: Vec<u64> = all.collect();
    assert!(
        all.len() > 50 && all.iter().enumerate().all(|(at, n)| at as u64 == *n),
        "a gap or a duplicate: {all:?}"
    );

    let mut waiting = second.connect();
    send(&mut waiting, "POST", "/containers/talker/wait", "");
    let mut waiting = BufReader::new(waiting);
    assert_eq!(head(&mut waiting).0, 200, "the head comes while it runs");
    assert_eq!(second.ask("POST", "/containers/talker/stop?t=20", "").status, 204);
    let said = String::from_utf8(chunk(&mut waiting).expect("an answer")).expect("text");
    assert!(said.contains("\"StatusCode\":7"), "{said}");
    assert!(lines(&mut log, usize::MAX).len() < 1_000_000, "the log ends with the container");
    assert_eq!(second.ask("DELETE", "/containers/talker", "").status, 204);
}

#[test]
fn told_to_end_it_ends_what_would_go_on_and_nothing_else() {
    let host = host!();
    ours_only!(host);
    let mut engine = Engine::start(&host, &[]);
    begin(&engine, "talker");
    let mut log = follow(&engine, "/containers/talker/logs?follow=1&stdout=1&timestamps=1");
    lines(&mut log, 3);
    let mut events = follow(&engine, "/events");
    let mut attached = engine.connect();
    attached
        .write_all(
            b"POST /containers/talker/attach?stream=1&stdout=1&stdin=1 HTTP/1.1\r\nHost: d\r\n\
              Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n",
        )
        .expect("sent");
    let mut attached = BufReader::new(attached);
    assert_eq!(head(&mut attached).0, 101);
    let mut waiting = engine.connect();
    send(&mut waiting, "POST", "/containers/talker/wait", "");
    let mut waiting = BufReader::new(waiting);
    assert_eq!(head(&mut waiting).0, 200);

    let began = Instant::now();
    engine.signal(Signal::TERM);
    assert_eq!(engine.ended(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    for (what, stream) in
        [("logs", &mut log), ("events", &mut events), ("attach", &mut attached), ("wait", &mut waiting)]
    {
        let ended = stream.read_to_end(&mut Vec::new());
        assert!(ended.is_ok(), "{what}: {ended:?}");
    }
    assert_eq!(host.field("talker", "{{.State.Running}}"), "true");
    host.ok("rm -f talker");
}
