//! The real docker client against `fluyt engine`: containers, commands in them, logs, events, files.

use std::process::{Command, Stdio};

use fluyt_testkit::host::{Outcome, finish};
use fluyt_testkit::{Host, skip, wait};

use crate::engines::Engine;
use crate::host;

/// Docker's client, and the engine that it asks.
struct Docker<'h> {
    host: &'h Host,
    engine: Engine,
}

impl<'h> Docker<'h> {
    /// None (said as a skip) where there is no client, or where Docker itself is under test.
    fn start(host: &'h Host) -> Option<Self> {
        if host.is_reference()
            || Command::new("docker").arg("--version").stdout(Stdio::null()).status().is_err()
        {
            skip("needs docker's client, and our engine");
            return None;
        }
        Some(Self { host, engine: Engine::start(host, &[]) })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_CONFIG", self.host.scratch().join("docker-config")).env_remove("DOCKER_HOST");
        command.arg("-H").arg(format!("unix://{}", self.engine.socket().display())).args(words);
        command
    }

    fn outcome(&self, words: &[&str], input: &[u8]) -> Outcome {
        finish(&mut self.command(words), input, 60)
    }

    /// Asserts success; what was written.
    #[track_caller]
    fn ok(&self, line: &str) -> String {
        self.words(&line.split_whitespace().collect::<Vec<_>>())
    }

    #[track_caller]
    fn words(&self, words: &[&str]) -> String {
        self.outcome(words, b"").success()
    }

    /// A container that answers to `docker stop`, by this name.
    fn runs(&self, name: &str) {
        let script = "trap 'exit 0' TERM; echo begun; while true; do sleep 0.1; done";
        self.words(&["run", "-d", "--name", name, "box", "sh", "-c", script]);
    }
}

#[test]
fn what_runs_is_attached_from_its_first_byte_to_its_end() {
    let host = host!();
    let Some(docker) = Docker::start(&host) else { return };
    let both = docker.outcome(&["run", "--rm", "box", "sh", "-c", "echo out; echo err >&2; exit 7"], b"");
    assert_eq!((both.code, both.stdout.as_str(), both.stderr.as_str()), (7, "out\n", "err\n"), "{both:?}");
    let input = vec![b'x'; 300_000];
    let counted = docker.outcome(&["run", "--rm", "-i", "box", "sh", "-c", "wc -c"], &input);
    assert_eq!((counted.code, counted.text()), (0, "300000"), "{counted:?}");
    let missing = docker.outcome(&["run", "--rm", "box", "no-such-program"], b"");
    assert_eq!(missing.code, 127, "{missing:?}");
    assert!(missing.stderr.contains("executable file not found"), "{missing:?}");
    let unknown = docker.outcome(&["run", "--pull", "never", "no-such-image"], b"");
    assert_eq!(unknown.code, 125, "{unknown:?}");
    assert!(unknown.stderr.contains("No such image: no-such-image:latest"), "{unknown:?}");
    assert_eq!(docker.ok("ps -aq"), "", "--rm has removed all of them");
}

#[test]
fn a_container_lives_its_whole_life() {
    let host = host!();
    let Some(docker) = Docker::start(&host) else { return };
    docker.runs("web");
    let again = docker.outcome(&["create", "--name", "web", "box", "true"], b"");
    assert!(again.stderr.contains("Conflict. The container name \"/web\" is already in use by"), "{again:?}");
    assert!(docker.ok("ps --format {{.Names}}={{.Status}}").starts_with("web=Up "));
    wait::until("its first line", 20, || (docker.ok("logs web") == "begun").then_some(()));
    assert!(docker.ok("top web").contains("sleep 0.1"));
    assert!(docker.ok("stats --no-stream --format {{.PIDs}} web").parse::<u32>().expect("a number") >= 1);
    docker.ok("pause web");
    assert!(docker.ok("ps").contains("(Paused)"));
    let paused = docker.outcome(&["exec", "web", "true"], b"");
    assert!(paused.code != 0 && paused.stderr.contains("is paused"), "{paused:?}");
    docker.ok("unpause web");
    docker.ok("update --memory 64m --memory-swap 64m web");
    assert_eq!(docker.ok("inspect -f {{.HostConfig.Memory}} web"), "67108864");
    docker.ok("rename web site");
    docker.ok("restart -t 5 site");
    assert_eq!(docker.ok("inspect -f {{.State.Running}} site"), "true");
    let refused = docker.outcome(&["rm", "site"], b"");
    assert!(refused.code == 1 && refused.stderr.contains("cannot remove"), "{refused:?}");
    docker.ok("stop -t 5 site");
    assert_eq!(docker.ok("wait site"), "0");
    assert_eq!(docker.ok("start site"), "site");
    docker.ok("kill site");
    assert_eq!(docker.ok("inspect -f {{.State.ExitCode}} site"), "137");
    let dead = docker.outcome(&["kill", "site"], b"");
    assert!(dead.stderr.contains("is not running"), "{dead:?}");
    docker.ok("container prune -f");
    assert_eq!(docker.ok("ps -aq"), "");
}

#[test]
fn commands_have_their_streams_and_their_exit_codes() {
    let host = host!();
    let Some(docker) = Docker::start(&host) else { return };
    docker.runs("cmds");
    let both = docker.outcome(&["exec", "cmds", "sh", "-c", "echo out; echo err >&2; exit 9"], b"");
    assert_eq!((both.code, both.stdout.as_str(), both.stderr.as_str()), (9, "out\n", "err\n"), "{both:?}");
    let input = vec![b'y'; 200_000];
    let counted = docker.outcome(&["exec", "-i", "cmds", "wc", "-c"], &input);
    assert_eq!((counted.code, counted.text()), (0, "200000"), "{counted:?}");
    let set = docker.words(&["exec", "-e", "A=b", "-w", "/tmp", "cmds", "sh", "-c", "echo $A; pwd"]);
    assert_eq!(set, "b\n/tmp");
    let missing = docker.outcome(&["exec", "cmds", "no-such-program"], b"");
    assert!(matches!(missing.code, 126 | 127), "{missing:?}");
    docker.ok("exec -d cmds touch /tmp/made");
    wait::until("what runs apart", 20, || {
        (docker.outcome(&["exec", "cmds", "test", "-e", "/tmp/made"], b"").code == 0).then_some(())
    });
    docker.ok("rm -f cmds");
}

#[test]
fn logs_and_events_are_followed_to_their_end() {
    let host = host!();
    let Some(docker) = Docker::start(&host) else { return };
    let script = "for i in 1 2 3 4 5; do echo line $i; sleep 0.1; done; echo last >&2";
    docker.words(&["run", "-d", "--name", "talks", "box", "sh", "-c", script]);
    let followed = docker.outcome(&["logs", "-f", "talks"], b"");
    assert_eq!(followed.stdout.lines().count(), 5, "{followed:?}");
    assert_eq!(followed.stderr, "last\n", "{followed:?}");
    let tail = docker.outcome(&["logs", "--tail", "2", "-t", "talks"], b"");
    assert!(tail.stdout.trim_end().ends_with("Z line 5") && tail.stderr.ends_with("Z last\n"), "{tail:?}");
    docker.ok("wait talks");
    docker.ok("rm talks");
    // The end of this second, as clients send whole ones: the engine waits for it.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let until = (now.as_secs() + 1).to_string();
    let events = docker.words(&[
        "events",
        "--since",
        "1h",
        "--until",
        &until,
        "--filter",
        "type=container",
        "--format",
        "{{.Action}} {{.Actor.Attributes.name}}",
    ]);
    assert_eq!(events, "create talks\nstart talks\ndie talks\ndestroy talks");
}

#[test]
fn files_go_in_and_out() {
    let host = host!();
    let Some(docker) = Docker::start(&host) else { return };
    docker.ok("create --name files box true");
    let file = host.scratch().write("in.txt", "what was put there");
    let place = file.display().to_string();
    docker.words(&["cp", &place, "files:/tmp/in.txt"]);
    assert_eq!(docker.ok("diff files"), "C /tmp\nA /tmp/in.txt");
    let back = host.scratch().join("back");
    docker.words(&["cp", "files:/tmp", &back.display().to_string()]);
    assert_eq!(std::fs::read_to_string(back.join("in.txt")).expect("copied"), "what was put there");
    let missing = docker.outcome(&["cp", "files:/no/such", "-"], b"");
    assert!(missing.stderr.contains("Could not find the file /no/such in container files"), "{missing:?}");
    let exported = host.scratch().join("all.tar");
    docker.words(&["export", "-o", &exported.display().to_string(), "files"]);
    let listed = finish(Command::new("tar").arg("tf").arg(&exported), b"", 60).success();
    assert!(listed.lines().any(|line| line.trim_start_matches("./") == "tmp/in.txt"), "{listed}");
    docker.ok("rm files");
}

#[test]
fn the_engine_may_be_killed_while_containers_and_commands_go_on() {
    let host = host!();
    let Some(mut docker) = Docker::start(&host) else { return };
    docker.runs("stays");
    docker.words(&[
        "exec",
        "-d",
        "stays",
        "sh",
        "-c",
        "while ! test -e /go; do sleep 0.1; done; touch /tmp/went",
    ]);
    docker.engine.signal(rustix::process::Signal::KILL);
    docker.engine.ended();
    docker.engine = Engine::at(&host, &host.scratch().join("next.sock"), &[]);
    assert!(docker.ok("ps --format {{.Status}}").starts_with("Up "));
    docker.ok("exec stays touch /go");
    wait::until("a command that outlived the engine", 20, || {
        (docker.outcome(&["exec", "stays", "test", "-e", "/tmp/went"], b"").code == 0).then_some(())
    });
    // The new engine waits for what the old one started.
    let mut waiting = docker.command(&["wait", "stays"]);
    let waiting = waiting.stdout(Stdio::piped()).spawn().expect("docker's client");
    docker.ok("stop -t 5 stays");
    let waited = waiting.wait_with_output().expect("its output");
    assert_eq!(String::from_utf8_lossy(&waited.stdout), "0\n");
    docker.ok("rm stays");
}

#[test]
fn a_session_that_waits_is_connected_by_whoever_starts_the_container() {
    let host = host!();
    let Some(docker) = Docker::start(&host) else { return };
    docker.ok("create -i --name later box cat");
    // Docker's client attaches to stopped containers only to start them: this is another client.
    let mut stream = docker.engine.connect();
    let ask = "POST /containers/later/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n";
    std::io::Write::write_all(&mut stream, ask.as_bytes()).expect("sent");
    let mut reader = std::io::BufReader::new(stream.try_clone().expect("a socket"));
    let (status, _) = crate::engines::head(&mut reader);
    assert_eq!(status, 101);
    std::io::Write::write_all(&mut stream, b"typed before the start\n").expect("sent");
    stream.shutdown(std::net::Shutdown::Write).expect("a socket");
    // Not the engine: the command line, on its own.
    host.ok("start later");
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut text).expect("the output");
    assert_eq!(String::from_utf8_lossy(&text[8..]), "typed before the start\n");
    docker.ok("rm -f later");
}
