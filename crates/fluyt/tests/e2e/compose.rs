//! `fluyt compose`: projects of busybox containers, from `up` to `down`.

use std::fs;
use std::path::Path;

use fluyt_testkit::Host;
use fluyt_testkit::wait::{http_get, until};

use crate::{host, ours_only};

const STAY: &str = "trap 'exit 0' TERM; sleep 1000 & wait";

/// A project in the host's scratch directory; `up`, `ps`, … are its commands.
pub(crate) struct Shop<'h> {
    pub(crate) host: &'h Host,
    pub(crate) file: String,
    /// The words before `compose`: another engine, if there are any.
    before: Vec<String>,
}

impl<'h> Shop<'h> {
    pub(crate) fn new(host: &'h Host, yaml: &str) -> Self {
        Self::at(host, &[], yaml)
    }

    /// On another engine.
    pub(crate) fn at(host: &'h Host, before: &[&str], yaml: &str) -> Self {
        let directory = host.scratch().path().join("shop");
        fs::create_dir_all(&directory).expect("a directory");
        let file = directory.join("compose.yaml");
        let before = before.iter().map(|w| (*w).to_owned()).collect();
        let shop = Self { host, file: file.display().to_string(), before };
        shop.write(yaml);
        shop
    }

    pub(crate) fn write(&self, yaml: &str) {
        fs::write(&self.file, yaml.replace("STAY", &format!("{STAY:?}"))).expect("a file");
    }

    pub(crate) fn words<'a>(&'a self, line: &'a str) -> Vec<&'a str> {
        let before = self.before.iter().map(String::as_str);
        let own = ["compose", "-f", &self.file, "-p", "shop"];
        before.chain(own).chain(line.split_whitespace()).collect()
    }

    /// Writes a file beside the project's.
    pub(crate) fn beside(&self, name: &str, text: &str) {
        let path = Path::new(&self.file).with_file_name(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    pub(crate) fn ok(&self, line: &str) -> String {
        self.host.ok_words(&self.words(line))
    }

    pub(crate) fn fails(&self, code: i32, needle: &str, line: &str) -> String {
        let outcome = self.host.fails_words(code, needle, &self.words(line));
        format!("{}{}", outcome.stdout, outcome.stderr)
    }
}

const SHOP: &str = "
services:
  web:
    image: box
    command: [sh, -c, \"mkdir -p /var/www; cp /run/secrets/key /var/www/index.html; exec httpd -f -p 80 -h /var/www\"]
    init: true
    ports: [\"127.0.0.1::80\"]
    secrets: [key]
    depends_on:
      db: {condition: service_healthy}
      job: {condition: service_completed_successfully}
  db:
    image: box
    init: true
    command: [sh, -c, \"touch /data/ready; echo db is there; sleep 1000\"]
    volumes: [\"data:/data\"]
    healthcheck: {test: [CMD, test, -e, /data/ready], interval: 100ms, retries: 50}
  job:
    image: box
    command: [sh, -c, \"echo job done\"]
volumes:
  data:
secrets:
  key: {file: ./key}
";

#[test]
fn a_project_comes_up_in_order_and_goes_down_without_a_trace() {
    let host = host!();
    ours_only!(host);
    let shop = Shop::new(&host, SHOP);
    fs::write(Path::new(&shop.file).with_file_name("key"), "sesame").expect("a file");
    let plan = shop.ok("up --dry-run");
    assert!(plan.contains("wait until db is healthy"), "{plan}");
    assert_eq!(host.ok("ps -aq"), "", "a dry run does nothing");
    shop.ok("up -d");
    let address = shop.ok("port web 80");
    until("the web server to answer", 20, || http_get(&address, "/").filter(|a| a.contains("sesame")));
    assert_eq!(host.field("shop-job-1", "{{.State.ExitCode}}"), "0");
    let services = shop.ok("ps --services");
    assert_eq!(services, "db\nweb");
    assert!(shop.ok("logs db").contains("db-1  | db is there"));
    assert_eq!(shop.ok("exec db ls /data"), "ready");
    assert!(shop.ok("ls").contains("running(2)"));
    let labels = "{{index .Config.Labels \"com.docker.compose.project\"}} {{index .Config.Labels \"com.docker.compose.container-number\"}}";
    assert_eq!(host.field("shop-web-1", labels), "shop 1");
    shop.ok("down -v");
    assert_eq!(host.ok("ps -aq"), "");
    assert_eq!(host.ok("volume ls -q"), "");
    assert!(!host.ok("network ls").contains("shop"));
}

const PAIR: &str = "
services:
  a:
    image: box
    command: [sh, -c, STAY]
    volumes: [/kept]
  b:
    image: box
    command: [sh, -c, STAY]
";

#[test]
fn what_has_not_changed_stays_and_what_has_is_made_anew() {
    let host = host!();
    ours_only!(host);
    let shop = Shop::new(&host, PAIR);
    shop.ok("up -d");
    let id = |name: &str| host.field(name, "{{.Id}}");
    let (a, b) = (id("shop-a-1"), id("shop-b-1"));
    assert_eq!(shop.ok("up --dry-run"), "", "an unchanged project plans nothing");
    shop.ok("up -d");
    assert_eq!((id("shop-a-1"), id("shop-b-1")), (a.clone(), b.clone()));
    shop.ok("exec a touch /kept/file");
    shop.write(&PAIR.replacen("image: box", "image: box\n    environment: {X: 1}", 1));
    let plan = shop.ok("up --dry-run");
    assert!(plan.contains("the configuration of a has changed") && !plan.contains("shop-b"), "{plan}");
    shop.ok("up -d");
    assert_ne!(id("shop-a-1"), a);
    assert_eq!(id("shop-b-1"), b, "the other one is left alone");
    assert_eq!(shop.ok("exec a ls /kept"), "file", "anonymous volumes move on");
    assert_eq!(shop.ok("exec a env").lines().find(|l| l.starts_with("X=")), Some("X=1"));
    shop.ok("up -d --scale b=3");
    assert_eq!(host.ok("ps -q --filter label=com.docker.compose.service=b").lines().count(), 3);
    shop.ok("up -d");
    assert_eq!(host.ok("ps -aq --filter label=com.docker.compose.service=b").lines().count(), 1);
    shop.write(&PAIR[..PAIR.find("  b:").expect("service b")]);
    shop.ok("up -d --remove-orphans");
    assert_eq!(host.ok("ps -aq").lines().count(), 1);
    shop.ok("down -v");
    assert_eq!(host.ok("volume ls -q"), "", "nothing anonymous is left");
}

#[test]
fn a_dependency_that_fails_says_why() {
    let host = host!();
    ours_only!(host);
    let shop = Shop::new(
        &host,
        "
services:
  web:
    image: box
    command: [sh, -c, STAY]
    depends_on: {db: {condition: service_healthy}}
  db:
    image: box
    command: [sh, -c, \"echo no disk here; trap 'exit 0' TERM; sleep 1000 & wait\"]
    healthcheck: {test: [CMD-SHELL, \"echo disk missing; exit 3\"], interval: 100ms, retries: 2}
",
    );
    let said = shop.fails(1, "container shop-db-1 is unhealthy", "up -d");
    assert!(
        said.contains("its last health check exited with 3") && said.contains("| disk missing"),
        "{said}"
    );
    assert!(said.contains("| no disk here"), "{said}");
    shop.write(
        "
services:
  web:
    image: box
    depends_on: {db: {condition: service_completed_successfully}}
  db:
    image: box
    command: [sh, -c, \"echo broken; exit 7\"]
",
    );
    let said = shop.fails(1, "didn't complete successfully: exit 7", "up -d");
    assert!(said.contains("| broken"), "{said}");
    shop.ok("down");
}

#[test]
fn one_off_containers_stops_and_starts() {
    let host = host!();
    ours_only!(host);
    let shop = Shop::new(&host, PAIR);
    assert_eq!(shop.ok("run --rm -T --no-deps a echo once"), "once");
    assert_eq!(host.ok("ps -aq"), "", "--rm leaves nothing");
    let name = shop.ok("run -d -e Y=2 a sh -c env");
    assert!(name.starts_with("shop-a-run-"), "{name}");
    until("the container to end", 20, || (host.field(&name, "{{.State.Status}}") == "exited").then_some(()));
    assert!(host.ok(&format!("logs {name}")).contains("Y=2"));
    shop.ok("up -d");
    shop.ok("stop a");
    assert_eq!(shop.ok("ps --services"), "b");
    shop.ok("start a");
    shop.ok("restart b");
    shop.ok("pause b");
    assert!(shop.ok("ps b").contains("Paused"));
    shop.ok("unpause b");
    shop.ok("kill a");
    until("a to end", 20, || (host.field("shop-a-1", "{{.State.Running}}") == "false").then_some(()));
    shop.ok("rm -f a");
    assert!(host.run("inspect shop-a-1").code != 0);
    shop.ok("down -v");
    assert_eq!(host.ok("ps -aq"), "", "containers of run go too");
}

#[test]
fn a_project_in_the_foreground_ends_with_its_containers() {
    let host = host!();
    ours_only!(host);
    let shop = Shop::new(
        &host,
        "
services:
  long:
    image: box
    command: [sh, -c, STAY]
  short:
    image: box
    command: [sh, -c, \"echo short says this; sleep 1; exit 3\"]
",
    );
    let outcome = host.run_words(&shop.words("up --exit-code-from short"));
    assert_eq!(outcome.code, 3, "{}{}", outcome.stdout, outcome.stderr);
    assert!(outcome.stdout.contains("short-1  | short says this"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("short-1 exited with code 3"), "{}", outcome.stdout);
    assert_eq!(host.ok("ps -q"), "", "all have been stopped");
    shop.ok("down");
}

#[test]
fn a_wrong_file_is_shown_where_it_is_wrong() {
    let host = host!();
    ours_only!(host);
    let shop = Shop::new(&host, "services:\n  web:\n    imagee: box\n");
    let said = shop.fails(1, "compose.yaml:3:5: services.web has no attribute \"imagee\"", "up -d");
    assert!(said.contains("    3 |     imagee: box\n      |     ^"), "{said}");
    assert!(said.contains("did you mean image?"), "{said}");
    shop.write("services:\n  web:\n    image: box\n    command: [echo, $$HOME, '${WHO:-you}']\n");
    let yaml = shop.ok("config");
    assert!(yaml.contains("- $$HOME") && yaml.contains("- you"), "{yaml}");
    assert_eq!(shop.ok("config --services"), "web");
    assert_eq!(shop.ok("config --hash web").split(' ').nth(1).map(str::len), Some(64));
}

#[test]
fn what_is_not_the_projects_is_left_alone() {
    let host = host!();
    ours_only!(host);
    let yaml = "services:\n  a:\n    image: box\n    command: [sh, -c, STAY]\n    volumes: [/data]\n    stop_grace_period: 1s\n";
    let shop = Shop::new(&host, yaml);
    shop.ok("up -d");
    // A container of `run` is nobody's to stop.
    shop.ok("run -d --name once a sleep 600");
    shop.ok("restart -t 1");
    shop.ok("stop -t 1");
    assert_eq!(host.field("once", "{{.State.Running}}"), "true");
    // New anonymous volumes when they are asked for, the old ones otherwise.
    shop.ok("start");
    shop.ok("exec -T a touch /data/kept");
    shop.ok("up -d --force-recreate");
    assert_eq!(shop.ok("exec -T a ls /data"), "kept");
    shop.ok("up -d --force-recreate -V");
    assert_eq!(shop.ok("exec -T a ls /data"), "");
    // Somebody else is in the project's network: what can go goes, and the rest is told of.
    host.ok("run -d --name guest --network shop_default box sleep 600");
    let outcome = host.run_words(&shop.words("down -t 1"));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stderr.contains("still in use"), "{outcome:?}");
    assert_eq!(host.ok("ps -aq --filter name=shop"), "");
    host.ok("rm -f guest");
    shop.ok("down");
    assert_eq!(host.ok("network ls -q --filter name=shop"), "");
}
