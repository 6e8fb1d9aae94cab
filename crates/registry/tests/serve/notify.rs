//! Whoever asked to be told is told of every push, pull, mount and deletion, also when he was away for a while.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::Served;

/// The head and the body of a request.
fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text
                .lines()
                .find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let length: usize = length.expect("a length");
            if bytes.len() >= end + 4 + length {
                return Some((text[..end].to_owned(), bytes[end + 4..].to_vec()));
            }
        }
        match stream.read(&mut buffer) {
            Ok(n) if n > 0 => bytes.extend_from_slice(&buffer[..n]),
            _ => return None,
        }
    }
}

/// Listens; the first request is answered with an error. What the others brought, event by event.
fn listener() -> (String, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let url = format!("http://{}/events", listener.local_addr().expect("an address"));
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let mut first = true;
        for mut stream in listener.incoming().flatten() {
            while let Some((head, body)) = request(&mut stream) {
                let status = if std::mem::take(&mut first) { "500 Not Now" } else { "200 OK" };
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                if stream.write_all(answer.as_bytes()).is_err() || status.starts_with('5') {
                    continue;
                }
                let envelope: Value = serde_json::from_slice(&body).expect("JSON");
                for event in envelope["events"].as_array().expect("events") {
                    if tell.send((head.clone(), event.clone())).is_err() {
                        return;
                    }
                }
            }
        }
    });
    (url, told)
}

#[test]
fn pushes_pulls_mounts_and_deletions_are_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let (url, told) = listener();
    let (quiet, nothing) = listener();
    let config = dir.path().join("registry.json");
    let endpoints = json!([
        {"name": "all", "url": url, "backoff": 1, "headers": {"Authorization": "Bearer word"}},
        {"url": quiet, "backoff": 1, "ignore": {"mediatypes": ["application/octet-stream"], "actions": ["pull", "push"]}},
        {"url": "http://127.0.0.1:1/", "disabled": true},
    ]);
    std::fs::write(&config, json!({"notifications": {"endpoints": endpoints}}).to_string()).expect("written");
    let mut served = Served::with(|options| options.config = Some(config));
    let next = || told.recv_timeout(Duration::from_secs(30)).expect("an event");
    let blob = served.blob("team/a", b"content");
    let (head, event) = next();
    assert!(head.starts_with("POST /events ") && head.contains("Bearer word"), "{head}");
    assert!(head.contains("application/vnd.docker.distribution.events.v1+json"), "{head}");
    assert_eq!(
        (event["action"].as_str(), event["target"]["digest"].as_str()),
        (Some("push"), Some(blob.as_str()))
    );
    assert_eq!(
        (event["target"]["size"].as_u64(), event["request"]["method"].as_str()),
        (Some(7), Some("POST"))
    );
    served.ask("POST", &format!("/v2/team/b/blobs/uploads/?mount={blob}&from=team/a")).is(201);
    let (_, event) = next();
    assert_eq!(
        (event["action"].as_str(), event["target"]["fromRepository"].as_str()),
        (Some("mount"), Some("team/a"))
    );
    served.ask("GET", &format!("/v2/team/b/blobs/{blob}")).is(200);
    assert_eq!(next().1["action"], "pull");
    // Neither a look nor what is refused.
    served.ask("HEAD", &format!("/v2/team/b/blobs/{blob}")).is(200);
    served.ask("GET", "/v2/team/b/manifests/none").is(404);
    let (_, digest) = served.image("team/a", "1", b"layer");
    let mut seen = Vec::new();
    while seen.last() != Some(&"application/vnd.oci.image.manifest.v1+json".to_owned()) {
        let (_, event) = next();
        assert_eq!(event["action"], "push", "{event}");
        seen.push(event["target"]["mediaType"].as_str().expect("a type").to_owned());
        if seen.len() == 3 {
            assert_eq!(
                (event["target"]["tag"].as_str(), event["target"]["digest"].as_str()),
                (Some("1"), Some(digest.as_str()))
            );
            let url = event["target"]["url"].as_str().expect("an address");
            assert!(
                url.starts_with("http://") && url.ends_with(&format!("/v2/team/a/manifests/{digest}")),
                "{url}"
            );
        }
    }
    assert_eq!(seen.len(), 3);
    served.ask("GET", "/v2/team/a/manifests/1").is(200);
    assert_eq!(next().1["target"]["tag"], "1");
    served.ask("DELETE", "/v2/team/a/manifests/1").is(202);
    let (_, event) = next();
    assert_eq!((event["action"].as_str(), event["target"]["tag"].as_str()), (Some("delete"), Some("1")));
    // The other one was told of that alone: the mount was of a blob.
    let (_, event) = nothing.recv_timeout(Duration::from_secs(30)).expect("an event");
    assert_eq!(event["action"], "delete");
    served.end();
}

#[test]
fn the_longest_manifest_is_as_configured() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("registry.json");
    std::fs::write(&config, r#"{"max-manifest-size": 100}"#).expect("written");
    let served = Served::with(|options| options.config = Some(config));
    let long = vec![b' '; 101];
    let kind = [("Content-Type", crate::support::MANIFEST)];
    served.send("PUT", "/v2/a/manifests/1", &kind, &long).refuses(413, "SIZE_INVALID");
}
