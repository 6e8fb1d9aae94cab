//! Others' clients that make projects and test containers, against `fluyt engine`: Debian's docker-compose (1.29) and
//! testcontainers for Python.

use std::path::{Path, PathBuf};
use std::process::Command;

use fluyt_testkit::host::{Outcome, finish};
use fluyt_testkit::wait::until;
use fluyt_testkit::{Host, skip};

use crate::engines::Engine;
use crate::served::installed;
use crate::{host, ours_only};

const PROJECT: &str = "version: '3.8'
services:
  web:
    build: .
    command: [sh, -c, \"trap 'exit 0' TERM; echo web is there; sleep 1000 & wait\"]
    environment: {COLOR: blue}
    volumes: ['data:/data']
    networks: [front, back]
    depends_on: [db]
  db:
    image: box
    command: [sh, -c, \"trap 'exit 0' TERM; echo db is there; sleep 1000 & wait\"]
    networks: {back: {aliases: [store]}}
    healthcheck: {test: [CMD, 'true'], interval: 1s}
volumes: {data: {}}
networks:
  front: {}
  back: {internal: true}
";

/// docker-compose over an engine of ours.
struct Old<'h> {
    host: &'h Host,
    engine: Engine,
    dir: PathBuf,
}

impl<'h> Old<'h> {
    fn outcome(&self, words: &[&str]) -> Outcome {
        let mut command = Command::new("docker-compose");
        command
            .args(["-p", "old"])
            .args(words)
            .current_dir(&self.dir)
            .env("DOCKER_HOST", format!("unix://{}", self.engine.socket().display()))
            .env("DOCKER_CONFIG", self.host.scratch().join("docker-config"))
            // Its own builder, not a `docker` that may be there or not.
            .env("COMPOSE_DOCKER_CLI_BUILD", "0")
            .env_remove("DOCKER_CONTEXT")
            .env_remove("DOCKER_TLS_VERIFY");
        finish(&mut command, b"", 120)
    }

    #[track_caller]
    fn ok(&self, line: &str) -> String {
        self.outcome(&line.split_whitespace().collect::<Vec<_>>()).success()
    }
}

#[test]
fn debians_docker_compose_keeps_a_project() {
    let host = host!();
    ours_only!(host);
    if !installed("docker-compose") {
        return;
    }
    let dir = host.scratch().join("old");
    host.scratch().write("old/docker-compose.yml", PROJECT);
    host.scratch().write("old/Dockerfile", "FROM box\nCOPY page /page\nRUN --network=none true\n");
    host.scratch().write("old/page", "the page\n");
    let engine = Engine::start(&host, &[]);
    let old = Old { host: &host, engine, dir };
    old.ok("up -d");
    let listed = old.ok("ps");
    assert!(listed.contains("old_web_1") && listed.contains("old_db_1"), "{listed}");
    assert_eq!(listed.matches(" Up").count(), 2, "{listed}");
    until("web to have said it", 30, || old.ok("logs --no-color web").contains("web is there").then_some(()));
    let logs = old.ok("logs --no-color");
    assert!(logs.contains("db_1   | db is there"), "{logs}");
    assert_eq!(old.ok("exec -T web cat /page"), "the page");
    let color = old.outcome(&["exec", "-T", "web", "sh", "-c", "echo $COLOR"]);
    assert_eq!(color.success(), "blue");
    assert_eq!(old.outcome(&["exec", "-T", "db", "sh", "-c", "exit 7"]).code, 7);
    old.ok("exec -T web nslookup store");
    assert_eq!(old.ok("run --rm --no-deps -T web cat /page"), "the page");
    assert_eq!(old.outcome(&["run", "--rm", "--no-deps", "-T", "web", "sh", "-c", "exit 5"]).code, 5);
    // It does not touch what has not changed.
    let id = old.ok("ps -q web");
    let again = old.outcome(&["up", "-d"]);
    assert!(again.stderr.contains("old_web_1 is up-to-date"), "{again:?}");
    old.ok("up -d --scale db=3");
    assert_eq!(old.ok("ps -q db").lines().count(), 3);
    old.ok("up -d --scale db=1");
    assert_eq!(old.ok("ps -q db").lines().count(), 1);
    assert_eq!(old.ok("ps -q web"), id);
    let began = host.field("old_web_1", "{{.State.StartedAt}}");
    old.ok("restart -t 5 web");
    assert_ne!(host.field("old_web_1", "{{.State.StartedAt}}"), began);
    host.scratch().write("old/page", "another page\n");
    let built = old.ok("build web");
    assert!(built.contains("Successfully built") && built.contains("old_web:latest"), "{built}");
    old.ok("up -d");
    assert_ne!(old.ok("ps -q web"), id, "another image, another container");
    assert_eq!(old.ok("exec -T web cat /page"), "another page");
    old.ok("pause db");
    assert_eq!(host.field("old_db_1", "{{.State.Status}}"), "paused");
    old.ok("unpause db");
    assert!(old.ok("top web").contains("sleep 1000"));
    assert!(old.ok("images").contains("old_web"));
    old.ok("stop -t 5");
    old.ok("start");
    old.ok("kill -s KILL db");
    old.ok("rm -f db");
    old.ok("down -v --rmi local -t 5");
    assert_eq!((host.ok("ps -aq"), host.ok("volume ls -q")), (String::new(), String::new()));
    assert!(!host.ok("network ls").contains("old_"));
}

const CONTAINERS: &str = r#"
import time, urllib.request
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.waiting_utils import wait_for_logs

serve = "sh -c 'mkdir -p /w; echo hello > /w/index.html; echo ready; exec httpd -f -p 80 -h /w'"
stay = "sh -c 'trap \"exit 0\" TERM; sleep 1000 & wait'"
with DockerContainer("box:latest").with_command(serve).with_exposed_ports(80).with_env("A", "b") as c:
    wait_for_logs(c, "ready", timeout=30)
    host, port = c.get_container_host_ip(), c.get_exposed_port(80)
    for n in range(100):
        try:
            print("http", urllib.request.urlopen(f"http://{host}:{port}/", timeout=5).read())
            break
        except OSError:
            time.sleep(0.1)
    else:
        raise SystemExit("no answer")
    print("exec", c.exec(["sh", "-c", "echo $A; exit 3"]))
    print("logs", c.get_logs())
with Network() as n:
    with DockerContainer("box:latest").with_command(stay).with_network(n).with_network_aliases("one"), \
         DockerContainer("box:latest").with_command(stay).with_network(n) as b:
        print("names", b.exec("nslookup one").exit_code, b.exec("ping -c 1 -W 5 one").exit_code)
print("all is well")
"#;

/// A Python with testcontainers, made once and kept beside the images of other tests; none (said as a skip) where there is no
/// Python, or no package index that answers.
fn python() -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"));
    let made = target.join("images/testcontainers");
    let python = made.join("bin/python3");
    if made.join("whole").exists() {
        return Some(python);
    }
    std::fs::create_dir_all(&target).ok()?;
    let ran = |program: &Path, words: &[&str]| {
        let mut command = Command::new(program);
        command.args(words).env("PIP_DISABLE_PIP_VERSION_CHECK", "1").env("PIP_NO_INPUT", "1");
        finish(&mut command, b"", 180).code == 0
    };
    let place = made.display().to_string();
    if !installed("python3") || !ran(Path::new("python3"), &["-m", "venv", "--clear", &place]) {
        skip("needs Python with venv");
        return None;
    }
    let words = ["-m", "pip", "install", "-q", "--timeout", "10", "--retries", "1", "testcontainers==4.15.0"];
    if !ran(&python, &words) {
        skip("no package index for Python answers");
        return None;
    }
    std::fs::write(made.join("whole"), "").ok()?;
    Some(python)
}

#[test]
fn testcontainers_for_python() {
    if std::env::var_os("FLUYT_VM").is_some() {
        return skip("fetches from a package index");
    }
    // Before the test has a network of its own.
    let Some(python) = python() else { return };
    let host = host!();
    ours_only!(host);
    let engine = Engine::start(&host, &[]);
    host.scratch().write("tc.py", CONTAINERS);
    let mut command = Command::new(python);
    command
        .arg(host.scratch().join("tc.py"))
        .env("DOCKER_HOST", format!("unix://{}", engine.socket().display()))
        .env("DOCKER_CONFIG", host.scratch().join("docker-config"))
        // Its collector is an image of Docker's registry.
        .env("TESTCONTAINERS_RYUK_DISABLED", "true");
    let outcome = finish(&mut command, b"", 120);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    for said in ["http b'hello\\n'", "exit_code=3", "names 0 0", "all is well"] {
        assert!(outcome.stdout.contains(said), "{said}: {outcome:?}");
    }
    assert_eq!(host.ok("ps -aq"), "");
}
