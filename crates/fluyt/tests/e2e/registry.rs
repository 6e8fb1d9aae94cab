//! push and pull against a real registry, and registries that misbehave.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use fluyt_testkit::host::BOX;
use fluyt_testkit::registry::Registry;

use crate::{host, ours_only};

#[test]
fn what_is_pushed_can_be_pulled() {
    let host = host!();
    let Some(registry) = Registry::start() else { return };
    let name = format!("{}/team/box:1", registry.address());
    let id = host.ok("images -q --no-trunc box");
    host.ok(&format!("tag box {name}"));
    let said = host.ok(&format!("push {name}"));
    assert!(said.contains("digest: sha256:"), "{said}");
    host.ok(&format!("rmi {name} box"));
    let said = host.ok(&format!("pull {name}"));
    assert!(said.contains("Digest: sha256:") && said.contains(&name), "{said}");
    assert_eq!(host.ok(&format!("images -q --no-trunc {name}")), id, "the same image");
    assert_eq!(host.ok(&format!("run --rm {name} echo pulled")), "pulled");
    let digest = host.ok_words(&["image", "inspect", "-f", "{{index .RepoDigests 0}}", &name]);
    host.ok(&format!("rmi {name}"));
    host.ok(&format!("pull -q {digest}"));
    assert_eq!(host.ok(&format!("run --rm {digest} echo by-digest")), "by-digest");
    host.ok("image prune -a -f");
    assert_eq!(host.ok(&format!("run --rm {name} echo on-demand")), "on-demand", "run pulls what is missing");
}

#[test]
fn what_is_not_there_is_said() {
    let host = host!();
    let Some(registry) = Registry::start() else { return };
    let address = registry.address();
    host.fails(1, "absent", &format!("pull {address}/absent:1"));
    host.fails(125, "absent", &format!("run --rm {address}/absent:1 true"));
    host.fails(1, "absent", &format!("push {address}/absent:1"));
    assert_eq!(host.ok("ps -aq"), "");
    let _ = BOX;
}

/// A server that gives every request the same answer; its address. It ends with the test's process.
fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer);
                if answer.is_empty() {
                    std::thread::sleep(Duration::from_secs(600));
                }
                let _ = stream.write_all(answer.as_bytes());
            });
        }
    });
    address
}

#[test]
fn a_registry_that_answers_badly_is_named_with_the_reason() {
    let host = host!();
    ours_only!(host);
    let answer = |status: &str, more: &str| -> &'static str {
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n{more}\r\n").leak()
    };
    for (status, more, needle) in [
        ("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", "login"),
        ("403 Forbidden", "", "denied"),
        ("404 Not Found", "", "not found"),
        ("429 Too Many Requests", "Retry-After: 1\r\n", "429"),
        ("500 Internal Server Error", "", "500"),
    ] {
        let address = answering(answer(status, more));
        let started = Instant::now();
        let outcome = host.fails(1, needle, &format!("pull {address}/x:1"));
        assert!(outcome.stderr.contains(&address), "{status}: the registry is named: {outcome:?}");
        assert!(started.elapsed().as_secs() < 60, "{status}");
    }
    let nobody = format!("127.0.0.1:{}", fluyt_testkit::wait::free_port());
    host.fails(1, &nobody, &format!("pull {nobody}/x:1"));
    assert_eq!(host.ok_words(&["images", "--format", "{{.Repository}}"]), "box");
}

#[test]
fn a_registry_that_hangs_does_not_hang_us() {
    let host = host!();
    ours_only!(host);
    let address = answering("");
    let line = format!("pull {address}/x:1");
    let mut command = host.command(line.split(' '));
    let outcome = fluyt_testkit::host::finish(&mut command, b"", 100);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stderr.contains(&address), "{outcome:?}");
}

/// Sends a request with a body to a registry; the whole answer.
fn exchange(address: &str, head: &str, body: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).expect("the registry");
    let length = body.len();
    write!(stream, "{head} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n")
        .expect("sent");
    let kinds = "application/vnd.oci.image.index.v1+json";
    let accept = format!(
        "{kinds}, application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
    );
    write!(stream, "Accept: {accept}\r\nContent-Type: {kinds}\r\n\r\n{body}").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn an_index_stays_an_index_and_what_is_up_to_date_is_not_fetched() {
    let host = host!();
    ours_only!(host);
    let Some(registry) = Registry::start() else { return };
    let address = registry.address();
    let described = |tag: &str, architecture: &str| {
        let answer = exchange(address, &format!("GET /v2/team/multi/manifests/{tag}"), "");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
        let header = |name: &str| {
            let line = head.lines().find(|l| l.to_lowercase().starts_with(name)).expect(name);
            line.split_once(": ").expect("a value").1.to_owned()
        };
        let (kind, digest) = (header("content-type:"), header("docker-content-digest:"));
        let platform = serde_json::json!({"os": "linux", "architecture": architecture});
        serde_json::json!({"mediaType": kind, "digest": digest, "size": body.len(), "platform": platform})
    };
    host.ok_words(&["run", "--name", "other", BOX, "touch", "/other"]);
    host.ok("commit other other");
    host.ok("rm other");
    for (image, tag) in [("box", "one"), ("other", "two")] {
        host.ok(&format!("tag {image} {address}/team/multi:{tag}"));
        host.ok(&format!("push -q {address}/team/multi:{tag}"));
    }
    let ours = if cfg!(target_arch = "aarch64") { ["arm64", "amd64"] } else { ["amd64", "arm64"] };
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [described("one", ours[0]), described("two", ours[1])],
    });
    let put = exchange(address, "PUT /v2/team/multi/manifests/both", &index.to_string());
    assert!(put.starts_with("HTTP/1.1 201"), "{put}");
    // What is here could be pushed anywhere: of the second image nothing is to be here.
    host.ok(&format!("rmi other {address}/team/multi:two"));
    let name = format!("{address}/team/multi:both");
    let first = host.ok(&format!("pull {name}"));
    assert!(first.contains("Status: Downloaded newer image for"), "{first}");
    let second = host.ok(&format!("pull {name}"));
    assert!(second.contains("Status: Image is up to date for"), "{second}");
    // Pushed to where all of its images are, it is the same index; elsewhere only what is here can be pushed.
    host.ok(&format!("tag {name} {address}/team/multi:again"));
    host.ok(&format!("push {address}/team/multi:again"));
    let again = exchange(address, "GET /v2/team/multi/manifests/again", "");
    assert!(again.ends_with(&index.to_string()), "{again}");
    host.ok(&format!("tag {name} {address}/else/single:1"));
    let said = host.run(&format!("push {address}/else/single:1"));
    assert!(said.code == 0 && said.stderr.contains("only the one for"), "{said:?}");
    let single = exchange(address, "GET /v2/else/single/manifests/1", "");
    assert!(single.contains("\"layers\"") && !single.contains("\"manifests\""), "{single}");
    assert_eq!(host.ok(&format!("run --rm {address}/else/single:1 echo whole")), "whole");
    // The flag for one command.
    host.ok(&format!("pull --tls-verify=false -q {name}"));
    host.ok(&format!("push --tls-verify=false -q {address}/else/single:1"));
}
