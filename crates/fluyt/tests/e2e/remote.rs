//! The command line at a daemon: the same verbs by a socket, by TLS and by ssh, and what names the daemon.

use std::process::{Command, Stdio};

use fluyt_testkit::host::finish;
use fluyt_testkit::{Host, Outcome, skip, wait};

use crate::engines::Engine;
use crate::served::installed;
use crate::{host, ours_only, stay};

/// Runs the program with `-H` before the words.
fn at(host: &Host, place: &str, line: &str) -> Outcome {
    with_input(host, place, &line.split_whitespace().collect::<Vec<_>>(), b"")
}

fn with_input(host: &Host, place: &str, words: &[&str], input: &[u8]) -> Outcome {
    let all: Vec<&str> = ["-H", place].into_iter().chain(words.iter().copied()).collect();
    host.run_with_input(&all, input)
}

/// What was printed, whatever the order of fields in it: docker sorts them where it passes documents on.
fn read(text: &str) -> Result<Vec<serde_json::Value>, String> {
    let values = serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>();
    let values: Result<Vec<_>, serde_json::Error> = values.collect();
    values.map_err(|_| text.to_owned())
}

fn fine(outcome: &Outcome) {
    assert_eq!(outcome.code, 0, "{outcome:?}");
}

fn place_of(engine: &Engine) -> String {
    format!("unix://{}", engine.socket().display())
}

#[test]
fn what_is_shown_is_the_same_here_by_a_socket_and_by_docker() {
    let host = host!();
    ours_only!(host);
    let engine = Engine::start(&host, &[]);
    let place = place_of(&engine);
    let id = stay(&host, "--name web -l tier=front -p 127.0.0.1:8099:80 -e A=b");
    host.ok("network create --label x=y lan");
    host.ok("volume create --label x=y data");
    host.ok("exec web sh -c echo hi > /tmp/new");
    host.ok("create --name idle box true");
    let short = &id[..12];
    let lines = [
        "ps -q".to_owned(),
        "ps -a --format {{.Names}},{{.Image}},{{.Command}},{{.Ports}},{{.State}},{{.Labels}},{{.Networks}}"
            .to_owned(),
        "ps -a -f name=idle --format {{.ID}}".to_owned(),
        "inspect web --format {{json.Config}}".to_owned(),
        format!("inspect {short} --format {{{{json.HostConfig}}}}"),
        "inspect web --format {{json.NetworkSettings.Ports}}".to_owned(),
        "inspect web --format {{.State.Status}}{{.State.Pid}}{{.Name}}".to_owned(),
        "port web".to_owned(),
        "diff web".to_owned(),
        "images --format {{.Repository}}:{{.Tag}},{{.ID}}".to_owned(),
        "image inspect box --format {{.Id}},{{.Architecture}}".to_owned(),
        "image inspect box --format {{json.RootFS}}".to_owned(),
        "history box --format {{.ID}},{{.CreatedBy}}".to_owned(),
        "network ls --format {{.Name}},{{.Driver}},{{.Scope}}".to_owned(),
        "network inspect lan --format {{json.IPAM}}{{json.Labels}}".to_owned(),
        "volume ls -q".to_owned(),
        "volume inspect data --format {{.Name}},{{.Driver}},{{.Labels}},{{.Mountpoint}}".to_owned(),
    ];
    let docker = installed("docker");
    for line in lines {
        let line = line.replace("{{json.", "{{json .");
        // Only templates have blanks in them, as their last word.
        let (first, template) =
            line.split_once(" --format ").map_or((line.as_str(), None), |(a, b)| (a, Some(b)));
        let mut words: Vec<&str> = first.split_whitespace().collect();
        words.extend(template.iter().flat_map(|t| ["--format", t]));
        let here = host.ok_words(&words);
        assert_eq!(with_input(&host, &place, &words, b"").success(), here, "{line}");
        if docker {
            let mut command = Command::new("docker");
            command
                .args(["-H", &place])
                .args(&words)
                .env("DOCKER_CONFIG", host.scratch().join("docker-config"));
            assert_eq!(read(&finish(&mut command, b"", 60).success()), read(&here), "docker {line}");
        }
    }
    for (code, line) in [
        (1, "inspect nobody"),
        (1, "logs nobody"),
        (1, "rm web"),
        (1, "start nobody"),
        (1, "network rm bridge"),
        (1, "rmi nothing"),
        (1, "exec idle true"),
        (1, "volume inspect nothing"),
    ] {
        let (here, there) = (host.run(line), at(&host, &place, line));
        assert_eq!((there.code, &there.stdout), (here.code, &here.stdout), "{line}: {here:?} {there:?}");
        assert_eq!(there.code, code, "{line}");
        let first = |o: &Outcome| o.stderr.lines().next().unwrap_or_default().to_owned();
        assert_eq!(first(&there), first(&here), "{line}");
    }
}

#[test]
fn a_container_lives_its_life_at_a_daemon() {
    let host = host!();
    ours_only!(host);
    let engine = Engine::start(&host, &[]);
    let place = place_of(&engine);
    let run = |words: &[&str], input: &[u8]| with_input(&host, &place, words, input);
    let script = "echo out; echo err >&2; exit 7";
    let done = run(&["run", "--rm", "box", "sh", "-c", script], b"");
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (7, "out\n", "err\n"));
    let missing = run(&["run", "--rm", "box", "no-such-program"], b"");
    assert_eq!(missing.code, 127, "{missing:?}");
    let none = run(&["run", "--rm", "--pull", "never", "nothing:here"], b"");
    assert_eq!(none.code, 125, "{none:?}");
    assert!(none.stderr.contains("No such image"), "{none:?}");
    let big = run(&["run", "--rm", "box", "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"], b"");
    assert_eq!((big.code, big.stdout.len()), (0, 3_000_000));

    let id = run(&["run", "-d", "--name", "web", "box", "sh", "-c", crate::STAY], b"").success();
    assert_eq!(host.field("web", "{{.Id}}"), id);
    let exec = run(&["exec", "-i", "web", "sh", "-c", "cat; echo e >&2; exit 5"], b"abc");
    assert_eq!((exec.code, exec.stdout.as_str(), exec.stderr.as_str()), (5, "abc", "e\n"));
    fine(&run(&["exec", "-d", "-e", "X=1", "-w", "/tmp", "web", "sh", "-c", "echo $X > made"], b""));
    wait::until("the detached command", 20, || {
        let seen = run(&["exec", "web", "cat", "/tmp/made"], b"");
        (seen.stdout == "1\n").then_some(())
    });

    let scratch = host.scratch().join("files");
    std::fs::create_dir_all(scratch.join("tree/sub")).expect("a directory");
    std::fs::write(scratch.join("tree/sub/f"), "hello").expect("a file");
    let tree = scratch.join("tree").display().to_string();
    let back = scratch.join("back").display().to_string();
    fine(&run(&["cp", &tree, "web:/opt"], b""));
    assert_eq!(run(&["exec", "web", "cat", "/opt/sub/f"], b"").success(), "hello");
    fine(&run(&["cp", "web:/opt", &back], b""));
    assert_eq!(std::fs::read_to_string(scratch.join("back/sub/f")).expect("copied"), "hello");
    let gone = run(&["cp", "web:/nowhere", &back], b"");
    assert_eq!(gone.code, 1, "{gone:?}");

    fine(&run(&["pause", "web"], b""));
    fine(&run(&["unpause", "web"], b""));
    fine(&run(&["rename", "web", "site"], b""));
    assert!(run(&["top", "site"], b"").success().contains("sleep"));
    assert!(run(&["stats", "--no-stream", "site"], b"").success().contains("site"));
    fine(&run(&["stop", "-t", "10", "site"], b""));
    assert_eq!(run(&["wait", "site"], b"").success(), "0");
    fine(&run(&["start", "site"], b""));
    fine(&run(&["kill", "site"], b""));
    assert_eq!(run(&["wait", "site"], b"").success(), "137");
    fine(&run(&["rm", "-f", "site"], b""));
    assert_eq!(run(&["ps", "-aq"], b"").success(), "");
}

#[test]
fn logs_and_events_are_followed_at_a_daemon() {
    let host = host!();
    ours_only!(host);
    let engine = Engine::start(&host, &[]);
    let place = place_of(&engine);
    let script = "echo one; echo two >&2; sleep 0.5; echo three";
    host.ok_words(&["create", "--name", "job", "box", "sh", "-c", script]);
    let attached = at(&host, &place, "start -a job");
    assert_eq!(
        (attached.code, attached.stdout.as_str(), attached.stderr.as_str()),
        (0, "one\nthree\n", "two\n")
    );
    fine(&at(&host, &place, "start job"));
    let followed = at(&host, &place, "logs -f job");
    assert_eq!((followed.code, followed.stdout.as_str()), (0, "one\nthree\none\nthree\n"));
    let here = host.run("logs -t -n 2 job");
    let there = at(&host, &place, "logs -t -n 2 job");
    assert_eq!((there.stdout, there.stderr), (here.stdout, here.stderr));
    let line = "events --since 1h --until 0s --filter container=job --format {{.Action}}";
    assert_eq!(at(&host, &place, line).success(), host.ok(line));
    fine(&at(&host, &place, "container prune -f"));
}

#[test]
fn images_go_to_a_daemon_and_come_back() {
    let host = host!();
    ours_only!(host);
    let engine = Engine::start(&host, &[]);
    let place = place_of(&engine);
    let run = |words: &[&str], input: &[u8]| with_input(&host, &place, words, input);
    let archive = host.scratch().join("box.tar").display().to_string();
    fine(&run(&["save", "-o", &archive, "box"], b""));
    fine(&run(&["tag", "box", "again:1"], b""));
    fine(&run(&["rmi", "again:1", "box"], b""));
    let loaded = run(&["load", "-i", &archive], b"").success();
    assert!(loaded.contains("Loaded image: box:latest"), "{loaded}");
    fine(&run(&["run", "--name", "made", "box", "sh", "-c", "echo hi > /made"], b""));
    let id = run(&["commit", "-m", "note", "made", "kept:1"], b"").success();
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(run(&["run", "--rm", "kept:1", "cat", "/made"], b"").success(), "hi");
    let flat = host.scratch().join("flat.tar").display().to_string();
    fine(&run(&["export", "-o", &flat, "made"], b""));
    fine(&run(&["import", &flat, "flat:1"], b""));
    assert_eq!(run(&["run", "--rm", "flat:1", "cat", "/made"], b"").success(), "hi");

    let context = host.scratch().join("context");
    std::fs::create_dir_all(&context).expect("a directory");
    std::fs::write(context.join("Dockerfile"), "FROM box\nARG WHO\nCOPY . /in/\nRUN echo $WHO > /who\n")
        .expect("a file");
    std::fs::write(context.join(".dockerignore"), "secret\n").expect("a file");
    std::fs::write(context.join("secret"), "x").expect("a file");
    std::fs::write(context.join("open"), "y").expect("a file");
    let path = context.display().to_string();
    let built = run(&["build", "-t", "built:1", "--build-arg", "WHO=me", &path], b"");
    assert_eq!(built.code, 0, "{built:?}");
    assert_eq!(
        run(&["run", "--rm", "built:1", "sh", "-c", "cat /who; ls /in"], b"").success(),
        "me\nDockerfile\nopen"
    );
    let failed = run(&["build", "-"], b"FROM box\nRUN exit 3\n");
    assert_eq!(failed.code, 1, "{failed:?}");
    let refused = run(&["build", "--secret", "id=x", &path], b"");
    assert!(refused.stderr.contains("--secret"), "{refused:?}");
    fine(&run(&["rm", "made"], b""));
}

#[test]
fn contexts_name_daemons_as_docker_keeps_them() {
    let host = host!();
    ours_only!(host);
    let engine = Engine::start(&host, &[]);
    let place = place_of(&engine);
    stay(&host, "--name here");
    // Another data root: what is seen there is not what is here.
    let empty = host.scratch().join("empty").display().to_string();
    let other = |words: &[&str]| {
        let all: Vec<&str> = ["--root", &empty].into_iter().chain(words.iter().copied()).collect();
        host.run_words(&all)
    };
    assert_eq!(other(&["context", "show"]).success(), "default");
    let endpoint = format!("host={place}");
    fine(&other(&["context", "create", "far", "--description", "a box", "--docker", &endpoint]));
    let twice = other(&["context", "create", "far", "--docker", &endpoint]);
    assert!(twice.code == 1 && twice.stderr.contains("context \"far\" already exists"), "{twice:?}");
    assert_eq!(other(&["-c", "far", "ps", "--format", "{{.Names}}"]).success(), "here");
    fine(&other(&["context", "use", "far"]));
    assert_eq!(other(&["ps", "--format", "{{.Names}}"]).success(), "here");
    assert_eq!(other(&["context", "ls", "-q"]).success(), "default\nfar");
    assert!(other(&["context", "ls"]).success().contains("far *"));
    let inspected = other(&["context", "inspect", "-f", "{{.Endpoints.docker.Host}}"]).success();
    assert_eq!(inspected, place);
    if installed("docker") {
        let mut docker = Command::new("docker");
        docker
            .args(["ps", "--format", "{{.Names}}"])
            .env("DOCKER_CONFIG", host.scratch().join("docker-config"));
        docker.env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
        assert_eq!(finish(&mut docker, b"", 60).success(), "here");
    }
    let in_use = other(&["context", "rm", "far"]);
    assert!(in_use.code == 1 && in_use.stderr.contains("is in use"), "{in_use:?}");
    let file = host.scratch().join("far.tar").display().to_string();
    fine(&other(&["context", "export", "far", &file]));
    fine(&other(&["context", "import", "near", &file]));
    fine(&other(&["context", "rm", "-f", "far"]));
    assert_eq!(other(&["context", "show"]).success(), "default");
    assert_eq!(other(&["-c", "near", "ps", "-q"]).success().len(), 12);
    for (words, sentence) in [
        (vec!["-c", "far", "ps"], "context \"far\": context not found"),
        (vec!["-c", "near", "-H", "unix:///x", "ps"], "cannot specify both --host and --context"),
        (
            vec!["-H", "unix:///nobody/here", "ps"],
            "Cannot connect to the Docker daemon at unix:///nobody/here",
        ),
        (vec!["-H", "gopher://x", "ps"], "invalid bind address format"),
        (vec!["-c", "near", "system", "fsck"], "works on a machine's own data root"),
    ] {
        let refused = other(&words);
        assert!(refused.code != 0 && refused.stderr.contains(sentence), "{words:?}: {refused:?}");
    }
    // Docker's order: the variable with the host before the one with the context.
    let mut command = host.command(["--root", &empty, "ps", "--format", "{{.Names}}"]);
    command.env("DOCKER_HOST", &place).env("DOCKER_CONTEXT", "nowhere");
    assert_eq!(finish(&mut command, b"", 60).success(), "here");
    let mut command = host.command(["--root", &empty, "ps"]);
    let refused = finish(command.env("DOCKER_CONTEXT", "nowhere"), b"", 60);
    assert!(refused.stderr.contains("context \"nowhere\""), "{refused:?}");
}

#[test]
fn a_daemon_behind_ssh_is_reached_whichever_program_it_has() {
    let host = host!();
    ours_only!(host);
    let engine = Engine::start(&host, &[]);
    stay(&host, "--name there");
    let bin = host.scratch().join("bin");
    std::fs::create_dir_all(&bin).expect("a directory");
    let seen = host.scratch().join("seen").display().to_string();
    // What ssh does: the words after the machine's name are a command there. It has no docker.
    let script = format!(
        "#!/bin/sh\necho \"$*\" >> {seen}\nwhile [ \"$1\" != -- ]; do shift; done\nshift 2\n\
         if [ \"$1\" = docker ]; then echo 'docker: not found' >&2; exit 127; fi\nshift\n\
         DOCKER_HOST={} FLUYT_ROOT={} exec {} \"$@\"\n",
        place_of(&engine),
        host.root().display(),
        crate::PROGRAM,
    );
    let ssh = bin.join("ssh");
    std::fs::write(&ssh, script).expect("a file");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&ssh, mode).expect("executable");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let run = |words: &[&str], input: &[u8]| {
        let all: Vec<&str> = ["-H", "ssh://me@box:22"].into_iter().chain(words.iter().copied()).collect();
        finish(host.command(all).env("PATH", &path), input, 60)
    };
    assert_eq!(run(&["ps", "--format", "{{.Names}}"], b"").success(), "there");
    let exec = run(&["exec", "-i", "there", "sh", "-c", "cat; exit 3"], b"over ssh");
    assert_eq!((exec.code, exec.stdout.as_str()), (3, "over ssh"));
    let words = std::fs::read_to_string(&seen).expect("it was called");
    assert!(
        words.starts_with("-l me -p 22 -o ConnectTimeout=30 -T -- box docker system dial-stdio"),
        "{words}"
    );
    std::fs::write(&ssh, "#!/bin/sh\necho 'box: no route' >&2\nexit 255\n").expect("a file");
    let lost = run(&["ps"], b"");
    assert!(lost.code == 1 && lost.stderr.contains("box: no route"), "{lost:?}");
}

#[test]
fn dial_stdio_needs_no_engine() {
    let host = host!();
    ours_only!(host);
    let request = b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = host.run_with_input(&["system", "dial-stdio"], request);
    assert!(answer.stdout.starts_with("HTTP/1.1 200") && answer.stdout.ends_with("OK"), "{answer:?}");
}

#[test]
fn tls_with_certificates_on_both_sides() {
    let host = host!();
    ours_only!(host);
    let dir = host.scratch().join("certs");
    std::fs::create_dir_all(&dir).expect("a directory");
    let Some(()) = certificates(&dir) else { return skip("openssl is not installed") };
    let file = |name: &str| dir.join(name).display().to_string();
    let (ca, cert, key) = (file("ca.pem"), file("server.pem"), file("server-key.pem"));
    let flags = [
        "--tlsverify",
        "--tlscacert",
        &ca,
        "--tlscert",
        &cert,
        "--tlskey",
        &key,
        "-H",
        "tcp://127.0.0.1:2376",
    ];
    let _engine = Engine::start(&host, &flags);
    stay(&host, "--name secret");
    let run = |words: &[&str], variables: &[(&str, &str)]| {
        let mut command = host.command(words);
        command.envs(variables.iter().copied());
        finish(&mut command, b"", 60)
    };
    let place = "tcp://127.0.0.1:2376";
    let names = ["ps", "--format", "{{.Names}}"];
    let (client, client_key) = (file("cert.pem"), file("key.pem"));
    let mut all = vec!["-H", place, "--tlsverify", "--tlscacert", &ca, "--tlscert", &client];
    all.extend(["--tlskey", &client_key]);
    all.extend(names);
    assert_eq!(run(&all, &[]).success(), "secret");
    let path = dir.display().to_string();
    let variables = [("DOCKER_HOST", place), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", path.as_str())];
    assert_eq!(run(&names, &variables).success(), "secret");
    // Several times: what comes after the handshake must not be waited for as if it were an answer.
    for _ in 0..5 {
        assert_eq!(run(&["exec", "secret", "sh", "-c", "exit 4"], &variables).code, 4);
    }
    // A context keeps copies of the files.
    let endpoint = format!("host={place},ca={ca},cert={client},key={client_key}");
    fine(&run(&["context", "create", "safe", "--docker", &endpoint], &[]));
    assert_eq!(run(&["-c", "safe", "ps", "--format", "{{.Names}}"], &[]).success(), "secret");
    let plain = run(&["-H", place, "ps"], &[]);
    assert_eq!(plain.code, 1, "{plain:?}");
    let nobody = run(&["-H", place, "--tls", "ps"], &[("DOCKER_CERT_PATH", "/nowhere")]);
    assert_eq!(nobody.code, 1, "{nobody:?}");
    std::fs::copy(dir.join("other.pem"), dir.join("ca.pem")).expect("copied");
    let stranger = run(&names, &variables);
    assert_eq!(stranger.code, 1, "{stranger:?}");
}

/// An authority, a certificate each for a server and a client, and another authority; none without openssl.
fn certificates(dir: &std::path::Path) -> Option<()> {
    let run = |line: &str| {
        let mut command = Command::new("openssl");
        command.args(line.split(' ')).current_dir(dir).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().ok().filter(std::process::ExitStatus::success).map(drop)
    };
    let fresh = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    run(&format!("req -x509 {fresh} -subj /CN=authority -keyout ca-key.pem -out ca.pem"))?;
    run(&format!("req -x509 {fresh} -subj /CN=other -keyout other-key.pem -out other.pem"))?;
    std::fs::write(dir.join("server.ext"), "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
        .ok()?;
    std::fs::write(dir.join("client.ext"), "subjectAltName=DNS:client\nextendedKeyUsage=clientAuth\n")
        .ok()?;
    for (name, key, out) in [("server", "server-key.pem", "server.pem"), ("client", "key.pem", "cert.pem")] {
        run(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {key} -out {name}.csr"
        ))?;
        run(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile {name}.ext -out {out}"
        ))?;
    }
    Some(())
}
