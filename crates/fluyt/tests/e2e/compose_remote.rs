//! `fluyt compose` at an engine elsewhere, as it is at Docker's.

use std::path::Path;

use fluyt_testkit::Host;
use fluyt_testkit::host::finish;
use fluyt_testkit::wait::until;

use crate::compose::Shop;
use crate::engines::Engine;
use crate::{host, ours_only};

const PROJECT: &str = "
services:
  web:
    build: {context: ., dockerfile_inline: \"FROM box\\nCOPY page /page\\nLABEL of=compose\\n\"}
    command: [sh, -c, \"trap 'exit 0' TERM; cat /page /run/secrets/key /etc/shop.conf; sleep 1000 & wait\"]
    secrets: [key]
    configs: [{source: conf, target: /etc/shop.conf}]
    networks: [front, back]
    volumes: [\"data:/data\"]
    depends_on:
      db: {condition: service_healthy}
      job: {condition: service_completed_successfully}
  db:
    image: box
    command: [sh, -c, \"trap 'exit 0' TERM; touch /ready; sleep 1000 & wait\"]
    networks: [back]
    healthcheck: {test: [CMD, test, -e, /ready], interval: 100ms, retries: 100}
  job:
    image: box
    network_mode: none
    command: [sh, -c, \"echo job done\"]
networks:
  front:
  back: {internal: true}
volumes: {data: {}}
secrets:
  key: {file: ./key}
configs:
  conf: {content: \"port 80\\n\"}
";

/// A project's life at another engine.
fn a_life(host: &Host, place: &str) {
    let shop = Shop::at(host, &["-H", place], PROJECT);
    shop.beside("page", "the page\n");
    shop.beside("key", "the key\n");
    shop.ok("up -d");
    until("web to say all", 30, || shop.ok("logs web").contains("web-1  | port 80").then_some(()));
    let said = shop.ok("logs --no-log-prefix web");
    assert_eq!(said, "the page\nthe key\nport 80");
    assert_eq!(shop.ok("logs job"), "job-1  | job done");
    assert_eq!(shop.ok("ps --services"), "db\nweb");
    assert_eq!(
        shop.ok("up --dry-run").lines().filter(|l| !l.contains("shop-job-1")).count(),
        0,
        "nothing is to be done"
    );
    assert_eq!(shop.ok("exec -T web cat /page"), "the page");
    assert_eq!(host.run_words(&shop.words("exec -T web sh -c false")).code, 1);
    assert_eq!(shop.ok("run --rm -T --no-deps web cat /etc/shop.conf"), "port 80");
    shop.beside("given", "given\n");
    let given = Path::new(&shop.file).with_file_name("given").display().to_string();
    let taken = Path::new(&shop.file).with_file_name("taken").display().to_string();
    shop.ok(&format!("cp {given} web:/data/given"));
    shop.ok(&format!("cp web:/data/given {taken}"));
    assert_eq!(std::fs::read_to_string(&taken).expect("it was copied"), "given\n");
    let id = shop.ok("ps -q web");
    shop.write(
        &PROJECT
            .replace("port 80", "port 81")
            .replace("[front, back]", "[front, back]\n    environment: {A: b}"),
    );
    shop.ok("up -d");
    assert_ne!(shop.ok("ps -q web"), id, "a changed configuration makes it anew");
    assert_eq!(shop.ok("exec -T web cat /data/given"), "given");
    assert_eq!(shop.ok("exec -T web cat /etc/shop.conf"), "port 81");
    shop.ok("restart -t 5 web");
    shop.ok("stop -t 5");
    assert_eq!(shop.ok("ps --services"), "");
    shop.write(&PROJECT.replace("etc/shop.conf; sleep 1000 & wait", "etc/shop.conf; exit 3"));
    let mut command = host.command(shop.words("up --exit-code-from web web"));
    let outcome = finish(&mut command, b"", 60);
    assert_eq!(outcome.code, 3, "{outcome:?}");
    assert!(outcome.stdout.contains("web-1  | the page"), "{outcome:?}");
    assert!(outcome.stdout.contains("web-1 exited with code 3"), "{outcome:?}");
    shop.ok("down -v --rmi local -t 1");
    for line in ["ps -aq", "volume ls -q"] {
        let mut words = vec!["-H", place];
        words.extend(line.split(' '));
        assert_eq!(host.ok_words(&words), "", "{line}");
    }
    let networks = host.ok_words(&["-H", place, "network", "ls", "--format", "{{.Name}}"]);
    assert!(!networks.contains("shop"), "{networks}");
}

#[test]
fn a_project_at_our_engine() {
    let host = host!();
    ours_only!(host);
    let engine = Engine::start(&host, &[]);
    a_life(&host, &format!("unix://{}", engine.socket().display()));
}
