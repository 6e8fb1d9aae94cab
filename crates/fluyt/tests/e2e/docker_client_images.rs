//! Docker's own client against the socket of an engine: images, registries, classic builds.

use std::path::Path;
use std::process::Command;

use fluyt_testkit::host::BOX;
use fluyt_testkit::host::finish;
use fluyt_testkit::{Host, skip};

use crate::engines::Engine;
use crate::served::Served;
use crate::{host, ours_only};

/// Docker's client, speaking to an engine.
pub(crate) struct Docker<'a> {
    host: &'a Host,
    engine: Engine,
}

impl<'a> Docker<'a> {
    /// With an engine over the data root of `host`; `None` where there is no client.
    pub(crate) fn start(host: &'a Host) -> Option<Self> {
        if Command::new("docker").arg("--version").output().is_err() {
            skip("docker's client is not installed");
            return None;
        }
        Some(Self { host, engine: Engine::start(host, &[]) })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(words);
        command.env("DOCKER_HOST", format!("unix://{}", self.engine.socket().display()));
        command.env("DOCKER_BUILDKIT", "0").env("HOME", self.host.scratch().path());
        command.env_remove("DOCKER_CONTEXT").env_remove("DOCKER_CONFIG");
        command
    }

    /// Runs a command with this input; code, output and errors.
    pub(crate) fn run(&self, line: &str, input: &[u8]) -> (i32, String, String) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let outcome = finish(&mut self.command(&words), input, 120);
        (outcome.code, outcome.stdout, outcome.stderr)
    }

    /// Runs a command that succeeds; its output.
    #[track_caller]
    pub(crate) fn ok(&self, line: &str) -> String {
        let (code, output, errors) = self.run(line, b"");
        assert_eq!(code, 0, "docker {line}: {output}{errors}");
        output
    }

    /// The same, word by word.
    #[track_caller]
    pub(crate) fn ok_words(&self, words: &[&str]) -> String {
        finish(&mut self.command(words), b"", 120).success()
    }

    /// Runs a command that fails and says this.
    #[track_caller]
    pub(crate) fn fails(&self, needle: &str, line: &str) {
        let (code, _, errors) = self.run(line, b"");
        assert!(code != 0 && errors.contains(needle), "docker {line}: {code}: {errors}");
    }

    /// A request by hand.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }
}

fn context(host: &Host, name: &str, files: &[(&str, &str)]) -> String {
    let dir = host.scratch().join(name);
    std::fs::create_dir_all(&dir).expect("a directory");
    for (file, text) in files {
        std::fs::write(dir.join(file), text).expect("a file");
    }
    dir.display().to_string()
}

#[test]
fn images_are_listed_named_saved_and_removed() {
    let host = host!();
    ours_only!(host);
    let Some(docker) = Docker::start(&host) else { return };
    let id = docker.ok(&format!("image inspect --format {{{{.Id}}}} {BOX}"));
    docker.ok(&format!("tag {BOX} other:1"));
    assert_eq!(docker.ok("images -q --no-trunc --filter reference=other"), id);
    assert!(docker.ok("history --no-trunc other:1").contains(id.trim()));
    let file = |name: &str| host.scratch().join(name).display().to_string();
    let (archive, files) = (file("saved.tar"), file("files.tar"));
    docker.ok(&format!("save -o {archive} other:1"));
    assert_eq!(docker.ok("rmi other:1"), "Untagged: other:1\n");
    docker.fails("No such image: other:1", "rmi other:1");
    assert_eq!(docker.ok(&format!("load -i {archive}")), "Loaded image: other:1\n");
    let (code, _, errors) = docker.run("load", b"no archive");
    assert!(code != 0 && !errors.is_empty(), "{errors}");
    // What is in use stays.
    docker.ok(&format!("run --name user {BOX} true"));
    docker.ok("rmi other:1");
    docker.fails("must be forced", &format!("rmi {}", id.trim()));
    // From a container, from a file system.
    docker.ok_words(&["commit", "-m", "said", "-c", "CMD [\"true\"]", "user", "made:1"]);
    assert_eq!(docker.ok("image inspect --format {{.Comment}} made:1"), "said\n");
    docker.ok(&format!("export -o {files} user"));
    let imported = docker.ok_words(&["import", "-c", "CMD [\"true\"]", &files, "made:2"]);
    assert!(imported.starts_with("sha256:"), "{imported}");
    docker.ok("run --rm made:2");
    docker.ok("rm user");
    let pruned = docker.ok("image prune -af");
    assert!(pruned.contains("untagged: made:1") && pruned.contains("Total reclaimed space"), "{pruned}");
    host.load_box();
}

#[test]
fn images_go_to_registries_and_come_from_them() {
    let host = host!();
    ours_only!(host);
    let Some(docker) = Docker::start(&host) else { return };
    let registry = Served::start(&host, &[]);
    let name = format!("{}/some/box:1", registry.address);
    docker.ok(&format!("tag {BOX} {name}"));
    let pushed = docker.ok(&format!("push {name}"));
    assert!(pushed.contains("Pushed") && pushed.contains("1: digest: sha256:"), "{pushed}");
    assert!(docker.ok(&format!("push {name}")).contains("Layer already exists"));
    docker.ok(&format!("rmi {name}"));
    let pulled = docker.ok(&format!("pull {name}"));
    assert!(pulled.contains("1: Pulling from some/box"), "{pulled}");
    assert!(pulled.contains(&format!("Status: Downloaded newer image for {name}")), "{pulled}");
    let again = docker.ok(&format!("pull {name}"));
    assert!(again.contains(&format!("Status: Image is up to date for {name}")), "{again}");
    assert!(!again.contains("Pull complete"), "{again}");
    assert_eq!(docker.ok(&format!("pull -q {name}")).trim(), name);
    docker.ok(&format!("pull -a {}/some/box", registry.address));
    docker.fails("not found", &format!("pull {}/some/box:none", registry.address));
    docker.fails("does not exist locally", &format!("push {}/some/none:1", registry.address));
    assert!(docker.ok(&format!("search {}/some", registry.address)).contains("some/box"));
    // What stands behind the name there.
    let answer = docker.engine().ask("GET", &format!("/v1.50/distribution/{name}/json"), "");
    let document: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(document["Platforms"][0]["os"], "linux", "{document}");
    assert!(document["Descriptor"]["digest"].as_str().unwrap().starts_with("sha256:"));
}

#[test]
fn credentials_are_tried_and_sent() {
    let host = host!();
    ours_only!(host);
    let Some(docker) = Docker::start(&host) else { return };
    let users = host.scratch().join("users");
    // `secret`, as `htpasswd -B` writes it.
    let line = "ann:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";
    std::fs::write(&users, line).unwrap();
    let registry = Served::start(&host, &["--htpasswd", &users.display().to_string()]);
    let name = format!("{}/a/box:1", registry.address);
    docker.ok(&format!("tag {BOX} {name}"));
    docker.fails("", &format!("push {name}"));
    docker.fails("unauthorized", &format!("login -u ann -p wrong {}", registry.address));
    assert!(docker.ok(&format!("login -u ann -p secret {}", registry.address)).contains("Login Succeeded"));
    assert!(docker.ok(&format!("push {name}")).contains("digest: sha256:"));
    docker.ok(&format!("rmi {name}"));
    docker.ok(&format!("pull -q {name}"));
    // What the engine's own user has logged in with serves that user, not the engine's clients.
    docker.ok(&format!("logout {}", registry.address));
    let words = ["login", "-u", "ann", "--password-stdin", &registry.address];
    assert_eq!(host.run_with_input(&words, b"secret").code, 0);
    docker.fails("", &format!("push {name}"));
    let dir = context(&host, "private", &[("Dockerfile", &format!("FROM {name}\n"))]);
    docker.ok(&format!("rmi {name}"));
    docker.fails("", &format!("pull {name}"));
    docker.fails("", &format!("build --pull {dir}"));
    host.ok(&format!("pull -q {name}"));
}

#[test]
fn classic_builds_say_what_dockers_builder_says() {
    let host = host!();
    ours_only!(host);
    let Some(docker) = Docker::start(&host) else { return };
    let dockerfile = format!(
        "FROM {BOX} AS base\nARG WHAT=x\nENV A=1\nRUN echo said $WHAT\nFROM base\nCOPY f /f\nLABEL l=1\nCMD [\"cat\", \"/f\"]\n"
    );
    let dir = context(&host, "one", &[("Dockerfile", &dockerfile), ("f", "content\n")]);
    let said = docker.ok(&format!("build -t made:1 -t made:2 --build-arg WHAT=it {dir}"));
    assert!(said.contains("Step 1/8 : FROM") && said.contains("Step 8/8 : CMD [\"cat\", \"/f\"]"), "{said}");
    assert!(said.contains("\nsaid it\n"), "{said}");
    assert!(said.contains("Successfully tagged made:1\nSuccessfully tagged made:2\n"), "{said}");
    let id = docker.ok("image inspect --format {{.Id}} made:1");
    let short = &id["sha256:".len()..][..12];
    assert!(said.contains(&format!(" ---> {short}\nSuccessfully built {short}\n")), "{said}");
    assert_eq!(docker.ok("run --rm made:2"), "content\n");
    // From the cache it is the same image, under whatever name.
    let again = docker.ok(&format!("build -t made:3 --build-arg WHAT=it {dir}"));
    assert_eq!(again.matches("Using cache").count(), 6, "{again}");
    assert_eq!(docker.ok("image inspect --format {{.Id}} made:3"), id);
    assert_eq!(docker.ok(&format!("build -q --build-arg WHAT=it {dir}")), id);
    // A target, labels, another file.
    docker.ok(&format!("build -t made:4 --target base --label k=v {dir}"));
    assert_eq!(docker.ok("image inspect --format {{.Config.Labels.k}} made:4"), "v\n");
}

#[test]
fn classic_builds_fail_as_dockers_do() {
    let host = host!();
    ours_only!(host);
    let Some(docker) = Docker::start(&host) else { return };
    let fails = format!("FROM {BOX}\nRUN exit 3\n");
    let dir =
        context(&host, "fails", &[("Dockerfile", &fails), ("Other", "FROM nosuch-image-of-this-test\n")]);
    let (code, _, errors) = docker.run(&format!("build {dir}"), b"");
    assert_eq!(code, 3, "{errors}");
    assert!(errors.contains("The command '/bin/sh -c exit 3' returned a non-zero code: 3"), "{errors}");
    let (code, _, errors) = docker.run("build -", b"FROMM x\n");
    assert!(code == 1 && errors.contains("unknown instruction: FROMM"), "{errors}");
    let engine = docker.engine();
    let empty = engine.ask("POST", "/build?version=2", "");
    assert_eq!(empty.status, 501, "{}", empty.text());
    let away = engine.ask("POST", "/build?dockerfile=..%2Fetc%2Fpasswd", "");
    assert!(matches!(away.status, 400 | 500), "{}", away.text());
    let squashed = engine.ask("POST", "/build?buildargs=%7B", "");
    assert_eq!(squashed.status, 400, "{}", squashed.text());
}

#[test]
fn a_dockerfile_outside_of_the_context_is_not_read() {
    let host = host!();
    ours_only!(host);
    let Some(docker) = Docker::start(&host) else { return };
    let secret = host.scratch().join("secret");
    std::fs::write(&secret, "FROM scratch\nLABEL leaked=yes\n").unwrap();
    let dir = context(&host, "links", &[("f", "")]);
    std::os::unix::fs::symlink(&secret, Path::new(&dir).join("Dockerfile")).unwrap();
    let archive = std::process::Command::new("tar").args(["-C", &dir, "-c", "."]).output().unwrap().stdout;
    let (code, output, errors) = docker.run("build -", &archive);
    assert!(code != 0, "{output}{errors}");
    assert!(errors.contains("Cannot locate specified Dockerfile"), "{errors}");
}

#[test]
fn steps_of_a_build_have_the_network_and_the_limits_that_are_asked_for() {
    let host = host!();
    ours_only!(host);
    let Some(docker) = Docker::start(&host) else { return };
    docker.ok("network create --subnet 10.231.7.0/24 mine");
    let dockerfile = format!("FROM {BOX}\nRUN ip -4 addr show eth0; grep given /etc/hosts\n");
    let dir = context(&host, "net", &[("Dockerfile", &dockerfile)]);
    let said = docker.ok(&format!("build --network mine --add-host given:10.9.8.7 --memory 64m {dir}"));
    assert!(said.contains("10.231.7.") && said.contains("10.9.8.7"), "{said}");
    docker.ok("network rm mine");
}
