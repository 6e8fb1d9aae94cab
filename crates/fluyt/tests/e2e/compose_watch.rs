//! `compose watch`, projects from repositories and registries, `compose publish`, providers and models.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use fluyt_testkit::host::finish;
use fluyt_testkit::wait::{free_port, until};
use fluyt_testkit::{Host, Outcome};

use crate::engines::Engine;
use crate::served::Served;
use crate::{host, ours_only};

const STAY: &str = "trap 'exit 0' TERM; sleep 1000 & wait";

/// A project's directory.
struct Shop<'h> {
    host: &'h Host,
    directory: PathBuf,
}

impl<'h> Shop<'h> {
    fn new(host: &'h Host, yaml: &str) -> Self {
        let directory = host.scratch().path().join("shop");
        fs::create_dir_all(&directory).expect("a directory");
        let shop = Self { host, directory };
        shop.write("compose.yaml", &yaml.replace("STAY", &format!("{STAY:?}")));
        shop
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.directory.join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn command(&self, line: &str) -> Command {
        let words = ["compose", "-p", "shop"].into_iter().chain(line.split_whitespace());
        let mut command = self.host.command(words);
        command.current_dir(&self.directory).env("XDG_CACHE_HOME", self.host.scratch().join("cache"));
        command.env("GIT_TERMINAL_PROMPT", "0");
        command
    }

    fn run(&self, line: &str) -> Outcome {
        finish(&mut self.command(line), b"", 60)
    }

    #[track_caller]
    fn ok(&self, line: &str) -> String {
        self.run(line).success()
    }

    #[track_caller]
    fn fails(&self, needle: &str, line: &str) {
        let outcome = self.run(line);
        assert_ne!(outcome.code, 0, "{line}: {outcome:?}");
        assert!(format!("{}{}", outcome.stdout, outcome.stderr).contains(needle), "{line}: {outcome:?}");
    }

    fn has(&self, service: &str, script: &str) -> Option<String> {
        let words = ["exec", &format!("shop-{service}-1"), "sh", "-c", script].map(str::to_owned);
        let outcome = finish(&mut self.host.command(words), b"", 60);
        (outcome.code == 0).then(|| outcome.text().to_owned())
    }
}

impl Drop for Shop<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.ok("down -v -t 1");
        }
    }
}

/// A `watch` that ends with this value.
struct Watching {
    child: Child,
    output: Option<ChildStdout>,
}

impl Watching {
    fn start(shop: &Shop<'_>, line: &str) -> Self {
        let mut child = shop.command(line).stdout(Stdio::piped()).spawn().expect("the program");
        let mut output = child.stdout.take().expect("its output");
        // It says so once everything is watched.
        let mut said = Vec::new();
        let mut byte = [0];
        while !String::from_utf8_lossy(&said).contains("Watch enabled") {
            assert_eq!(output.read(&mut byte).expect("output"), 1, "{}", String::from_utf8_lossy(&said));
            said.push(byte[0]);
        }
        Self { child, output: Some(output) }
    }

    /// Ends it; what it has said.
    fn end(mut self) -> String {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
        let mut said = String::new();
        self.output.take().expect("its output").read_to_string(&mut said).expect("read");
        said
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const WATCHED: &str = "
services:
  web:
    image: box
    command: [sh, -c, STAY]
    develop:
      watch:
        - {action: sync, path: ./src, target: /app, ignore: ['*.tmp', vendor/], initial_sync: true}
        - {action: sync+restart, path: ./etc, target: /etc/app, include: '*.conf'}
        - {action: sync+exec, path: ./one, target: /one, exec: {command: [sh, -c, 'cat /one > /seen; echo seen it']}}
";

#[test]
fn files_are_synced_while_they_change() {
    let host = host!();
    ours_only!(host);
    let shop = Shop::new(&host, WATCHED);
    shop.write("src/first", "1");
    shop.write("src/sub/second", "2");
    shop.write("src/skipped.tmp", "x");
    shop.write("etc/app.conf", "a=1");
    shop.write("one", "1");
    let watching = Watching::start(&shop, "watch");
    let has = |script: &str| shop.has("web", script);
    let becomes = |script: &str, wanted: &str| {
        until(&format!("{script} to give {wanted:?}"), 20, || has(script).filter(|out| out == wanted));
    };
    // What there was is there from the beginning.
    assert_eq!(has("cat /app/first /app/sub/second; ls /app").as_deref(), Some("12first\nsub"));
    shop.write("src/first", "changed");
    becomes("cat /app/first", "changed");
    shop.write("src/new/deep/file", "new");
    becomes("cat /app/new/deep/file", "new");
    fs::remove_file(shop.directory.join("src/first")).expect("removed");
    becomes("test -e /app/first || echo gone", "gone");
    fs::rename(shop.directory.join("src/new"), shop.directory.join("src/moved")).expect("renamed");
    becomes("cat /app/moved/deep/file; test -e /app/new || echo gone", "newgone");
    shop.write("src/vendor/x", "1");
    shop.write("src/a.tmp", "1");
    shop.write("src/last", "1");
    becomes("cat /app/last", "1");
    assert_eq!(has("ls /app | grep -c -e vendor -e tmp || true").as_deref(), Some("0"));
    // A file of its own, and a command after it.
    shop.write("one", "two");
    becomes("cat /seen", "two");
    let started = host.field("shop-web-1", "{{.State.StartedAt}}");
    shop.write("etc/other.txt", "not included");
    shop.write("etc/app.conf", "a=2");
    until("the container to be restarted", 20, || {
        Some(host.field("shop-web-1", "{{.State.StartedAt}} {{.State.Running}}"))
            .filter(|s| !s.starts_with(&started) && s.ends_with("true"))
    });
    becomes("cat /etc/app/app.conf; ls /etc/app", "a=2app.conf");
    let said = watching.end();
    assert!(said.contains("Syncing service \"web\" after") && said.contains("seen it"), "{said}");
    assert!(said.contains("service(s) [\"web\"] restarted"), "{said}");
}

#[test]
fn up_watches_as_well() {
    let host = host!();
    ours_only!(host);
    let yaml = "services: {web: {image: box, command: [sh, -c, STAY], develop: {watch: [{action: sync, path: ./src, target: /app, initial_sync: true}]}}}";
    let shop = Shop::new(&host, yaml);
    shop.write("src/a", "1");
    let watching = Watching::start(&shop, "up --watch");
    assert_eq!(shop.has("web", "cat /app/a").as_deref(), Some("1"));
    shop.write("src/a", "2");
    until("the change", 20, || shop.has("web", "cat /app/a").filter(|a| a == "2"));
    watching.end();
    shop.fails("--watch cannot be combined", "up -d --watch");
}

const BUILT: &str = "
services:
  web:
    build: {context: ./web}
    command: [sh, -c, STAY]
    develop:
      watch:
        - {action: rebuild, path: ./web}
  other:
    image: box
    command: [sh, -c, STAY]
";

#[test]
fn a_service_is_built_anew_and_the_others_stay() {
    let host = host!();
    ours_only!(host);
    let shop = Shop::new(&host, BUILT);
    shop.write("web/Dockerfile", "FROM box\nCOPY version /version\n");
    shop.write("web/.dockerignore", "notes\n");
    shop.write("web/version", "1");
    let plan = shop.ok("watch --dry-run");
    assert!(plan.contains("watch ") && host.ok("ps -aq").is_empty(), "{plan}");
    let watching = Watching::start(&shop, "watch --quiet");
    let other = host.field("shop-other-1", "{{.Id}}");
    assert_eq!(shop.has("web", "cat /version").as_deref(), Some("1"));
    let image = host.field("shop-web-1", "{{.Image}}");
    shop.write("web/notes", "not in the context");
    shop.write("web/version", "2");
    until("the new version", 40, || shop.has("web", "cat /version").filter(|v| v == "2"));
    until("the old image to go", 20, || (!host.ok("images -aq --no-trunc").contains(&image)).then_some(()));
    assert_eq!(host.field("shop-other-1", "{{.Id}}"), other);
    // What cannot be built leaves the service as it is, and the watch goes on.
    shop.write("web/Dockerfile", "FROM box\nCOPY missing /\n");
    shop.write("web/version", "3");
    std::thread::sleep(std::time::Duration::from_millis(300));
    shop.write("web/Dockerfile", "FROM box\nCOPY version /version\n");
    until("the third version", 40, || shop.has("web", "cat /version").filter(|v| v == "3"));
    let said = watching.end();
    assert!(said.contains("Rebuilding service(s) [\"web\"] after changes were detected..."), "{said}");
    shop.fails("none of the selected services is configured for watch", "watch other");
}

#[test]
fn files_are_synced_at_a_daemon() {
    let host = host!();
    ours_only!(host);
    let engine = Engine::start(&host, &[]);
    let shop = Shop::new(
        &host,
        "
services:
  web:
    image: box
    user: '1234:55'
    command: [sh, -c, STAY]
    develop: {watch: [{action: sync, path: ./src, target: /app}]}
",
    );
    shop.write("src/a", "1");
    let place = format!("unix://{}", engine.socket().display());
    let mut command = shop.host.command(["-H", &place, "compose", "-p", "shop", "watch"]);
    let mut child = command.current_dir(&shop.directory).stdout(Stdio::piped()).spawn().expect("the program");
    let mut output = child.stdout.take().expect("its output");
    let mut said = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&said).contains("Watch enabled") {
        assert_eq!(output.read(&mut byte).expect("output"), 1, "{}", String::from_utf8_lossy(&said));
        said.push(byte[0]);
    }
    let watching = Watching { child, output: Some(output) };
    shop.write("src/b", "2");
    let all = "cat /app/b; stat -c %u:%g /app/b";
    until("the file with its owner", 20, || shop.has("web", all).filter(|o| o == "21234:55"));
    fs::remove_file(shop.directory.join("src/b")).expect("removed");
    until("the file to go", 20, || shop.has("web", "test ! -e /app/b"));
    drop(watching);
}

/// A server of files that ends with this value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A repository with a project in it, served as plain files; its address.
fn repository(host: &Host, script: &str) -> (Server, String) {
    let dir = host.scratch().join("repos");
    fs::create_dir_all(dir.join("work")).expect("made");
    let script = format!(
        "git init -q -b main; git config user.name n; git config user.email e@example.org; {script}; \
         git add .; git commit -qm one; git clone -q --bare . ../shop.git; cd ../shop.git; git update-server-info"
    );
    let made = Command::new("sh").args(["-ec", &script]).current_dir(dir.join("work")).output().expect("sh");
    assert!(made.status.success(), "{made:?}");
    let port = free_port();
    let mut command = Command::new("busybox");
    command.args(["httpd", "-f", "-p", &format!("127.0.0.1:{port}"), "-h"]).arg(&dir);
    let server = Server(command.spawn().expect("busybox"));
    until("the server to listen", 20, || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    (server, format!("http://127.0.0.1:{port}/shop.git"))
}

#[test]
fn projects_of_repositories_are_read() {
    let host = host!();
    ours_only!(host);
    let (server, address) = repository(
        &host,
        "printf 'services:\\n  a: {image: box, env_file: a.env, extends: {file: base.yaml, service: base}}\\n' > compose.yaml; \
         printf 'services:\\n  base: {image: other, labels: {from: repository}}\\n' > base.yaml; \
         echo A=remote > a.env; echo 'SURPRISE=yes' > .env; \
         mkdir sub out; printf 'services:\\n  c: {image: \"box:${SURPRISE:-none}\"}\\n' > sub/compose.yaml; \
         ln -s /etc/passwd out/compose.yaml; \
         printf 'services:\\n  e: {image: box, env_file: ../../../../../../../../../../../../../../../../../../../../etc/hostname}\\n' > escape.yaml",
    );
    let shop = Shop::new(&host, &format!("include: ['{address}#main']\nservices: {{own: {{image: box}}}}\n"));
    let text = shop.ok("config");
    assert!(
        text.contains("A: remote") && text.contains("from: repository") && text.contains("own:"),
        "{text}"
    );
    let first = shop.ok(&format!("-f {address}#main:sub config"));
    assert!(first.contains("image: box:none"), "variables of the repository are not the user's: {first}");
    fs::write(shop.directory.join(".env"), "SURPRISE=mine\n").expect("written");
    let own = shop.ok(&format!("-f {address}#main:sub config"));
    assert!(own.contains("image: box:mine"), "{own}");
    shop.fails("leads out of the repository", &format!("-f {address}#main:out config"));
    shop.fails("is not part of what was fetched", &format!("-f {address}#main:escape.yaml config"));
    shop.fails("does not contain ref", &format!("-f {address}#nowhere config"));
    drop(server);
    let old = shop.run(&format!("-f {address}#main:sub config"));
    assert_eq!(old.code, 0, "{old:?}");
    assert!(old.stderr.contains("as it was fetched the last time"), "{old:?}");
    fs::write(shop.directory.join("compose.yaml"), "services: {own: {image: box}}\n").expect("written");
}

#[test]
fn a_project_is_published_and_brought_up_from_its_registry() {
    let host = host!();
    ours_only!(host);
    let registry = Served::start(&host, &[]);
    let shop = Shop::new(
        &host,
        "
services:
  a:
    image: box
    command: [sh, -c, STAY]
    env_file: a.env
    environment: {API_TOKEN: very-secret}
    extends: {file: base.yaml, service: base}
",
    );
    shop.write("base.yaml", "services: {base: {image: box, labels: {from: base}}}\n");
    shop.write("a.env", "A=published\n");
    let name = format!("{}/team/app:v1", registry.address);
    let declined = shop.run(&format!("publish {name}"));
    assert_ne!(declined.code, 0);
    assert!(declined.stderr.contains("literal value for \"API_TOKEN\""), "{declined:?}");
    for version in ["", "--oci-version 1.0", "--oci-version 1.1"] {
        shop.ok(&format!("publish -y --with-env {version} {name}"));
        let text = shop.ok(&format!("-f oci://{name} config"));
        assert!(text.contains("A: published") && text.contains("from: base"), "{text}");
    }
    let cache = host.scratch().join("cache");
    fs::write(shop.directory.join("a.env"), "A=elsewhere\n").expect("written");
    shop.ok(&format!("-f oci://{name} up -d -y"));
    assert_eq!(shop.has("a", "echo $A").as_deref(), Some("published"));
    shop.ok(&format!("-f oci://{name} down -t 1"));
    let files = |dir: &Path| fs::read_dir(dir).map(Iterator::count).unwrap_or(0);
    assert!(files(&cache.join("fluyt/compose/oci")) == 1);
    let image = format!("{}/library/plain:1", registry.address);
    host.ok(&format!("tag box {image}"));
    host.ok(&format!("push {image}"));
    shop.fails("is not a Compose project", &format!("-f oci://{image} config"));
    shop.write(
        "compose.yaml",
        &format!("services: {{a: {{image: '{image}', command: [sh, -c, {STAY:?}]}}}}\n"),
    );
    shop.ok(&format!("publish -y --app {name}-app"));
    let pinned = shop.ok(&format!("-f oci://{name}-app config --images"));
    assert!(pinned.contains("@sha256:"), "{pinned}");
}

const PROVIDED: &str = "
services:
  app:
    image: box
    command: [sh, -c, STAY]
    depends_on: [db]
    models: [llm]
  db:
    provider: {type: testcloud, options: {size: 3, name: [x, y]}}
models:
  llm: {model: ai/small}
";

const CLOUD: &str = r#"#!/bin/sh
echo "$@" >> "$CLOUD_LOG"
case "$*" in
  "compose metadata") echo '{"description": "test", "up": {"parameters": [{"name": "size"}, {"name": "name"}]}, "down": {"parameters": []}, "stop": {"parameters": []}}';;
  *" up "*)
    if [ -e "$CLOUD_LOG.fail" ]; then echo '{"type":"error","message":"no credit"}'; exit 1; fi
    echo '{"type":"info","message":"making it"}'
    echo '{"type":"setenv","message":"URL=cloud://db"}'
    echo '{"type":"rawsetenv","message":"PLAIN=raw"}';;
esac
"#;

#[test]
fn providers_are_called_and_give_variables() {
    let host = host!();
    ours_only!(host);
    let shop = Shop::new(&host, PROVIDED);
    let bin = host.scratch().join("bin");
    fs::create_dir_all(&bin).expect("made");
    fs::write(bin.join("testcloud"), CLOUD).expect("written");
    fs::set_permissions(bin.join("testcloud"), fs::Permissions::from_mode(0o755)).expect("executable");
    let log = host.scratch().join("cloud.log");
    let run = |line: &str| {
        let mut command = shop.command(line);
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
        command.env("PATH", path).env("CLOUD_LOG", &log).env("MODEL_RUNNER_HOST", "http://127.0.0.1:1");
        finish(&mut command, b"", 60)
    };
    let said = || fs::read_to_string(&log).unwrap_or_default();
    let missing = shop.run("up -d");
    assert!(missing.code != 0 && missing.stderr.contains("no program for provider"), "{missing:?}");
    let plan = run("up --dry-run").success();
    assert!(plan.contains("call provider testcloud: up") && said().is_empty(), "{plan}");
    let _ = run("up -d").success();
    assert!(said().contains("compose --project-name=shop up --name=x --name=y --size=3 db"), "{}", said());
    let variables = "echo $DB_URL $PLAIN $LLM_MODEL $LLM_URL";
    assert_eq!(
        shop.has("app", variables).as_deref(),
        Some("cloud://db raw ai/small http://127.0.0.1:1/engines/v1/")
    );
    let id = host.field("shop-app-1", "{{.Id}}");
    let _ = run("up -d --wait").success();
    assert_eq!(host.field("shop-app-1", "{{.Id}}"), id, "the same variables are the same container");
    let _ = run("stop -t 1").success();
    assert!(said().contains("compose --project-name=shop stop db"), "{}", said());
    fs::write(host.scratch().join("cloud.log.fail"), "").expect("written");
    let failed = run("up -d");
    assert!(failed.code != 0 && failed.stderr.contains("no credit"), "{failed:?}");
    let _ = run("down -t 1").success();
    assert!(said().contains("compose --project-name=shop down db"), "{}", said());
    shop.write("compose.yaml", "services: {app: {image: box}}\n");
}

const HOOKED: &str = "
services:
  web:
    image: box
    scale: 2
    command: [sh, -c, STAY]
    environment: {WHO: service}
    volumes: ['data:/data']
    pre_start:
      - {command: [sh, -c, 'echo $$WHO >> /data/log; echo first hook']}
      - {command: [sh, -c, 'echo $$WHO >> /data/log; exit $$CODE'], environment: {WHO: hook, CODE: '0'}}
volumes: {data: {}}
";

#[test]
fn hooks_run_before_the_first_container() {
    let host = host!();
    ours_only!(host);
    let shop = Shop::new(&host, HOOKED);
    let said = shop.run("up -d");
    assert!(said.code == 0 && said.stderr.contains("first hook"), "{said:?}");
    assert_eq!(shop.has("web", "cat /data/log").as_deref(), Some("service\nhook"));
    shop.ok("up -d --scale web=3");
    assert_eq!(shop.has("web", "cat /data/log | wc -l").as_deref(), Some("2"), "not for more containers");
    assert_eq!(host.ok("ps -aq").lines().count(), 3, "containers of hooks go");
    shop.ok("stop -t 1");
    let broken = HOOKED.replace("STAY", &format!("{STAY:?}")).replace("CODE: '0'", "CODE: '3'");
    shop.write("compose.yaml", &broken);
    let failed = shop.run("up -d");
    assert!(failed.code != 0 && failed.stderr.contains("pre_start[1] exited with code 3"), "{failed:?}");
    assert_eq!(host.ok("ps -q").lines().count(), 0, "nothing starts");
    assert_eq!(host.ok("ps -aq --filter label=com.docker.compose.hook=pre_start").lines().count(), 1);
    shop.ok("down -v -t 1");
    assert_eq!(host.ok("ps -aq"), "", "what a hook left goes with the project");
}
