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
