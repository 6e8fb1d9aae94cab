//! Projects of several files against what the reference implementation makes of them.

use std::path::{Path, PathBuf};

use fluyt_compose::load::Environment;
use fluyt_compose::{Options, Source, load};

const FILES: &[(&str, &str)] = &[
    (
        "/p/a.yaml",
        r#"x-common: &common
  restart: always
  labels: {team: core}
services:
  web:
    <<: *common
    image: web:1
    command: old words
    environment: [A=1, B=2]
    ports: ["80:80", "81:81"]
    volumes: ["./one:/data", "named:/n"]
    logging: {driver: syslog, options: {tag: x}}
    depends_on: [db]
    dns: 1.1.1.1
    tmpfs: /run
    extra_hosts: {h: 10.0.0.1}
    cap_add: [NET_ADMIN]
    healthcheck: {test: curl x, interval: 90s}
    deploy: {resources: {limits: {cpus: "0.5", memory: 64m}}}
  db:
    image: db
volumes: {named: {}}
"#,
    ),
    (
        "/p/b.yaml",
        r#"services:
  web:
    command: [new, words]
    environment: {B: 3, C: }
    ports: ["81:81", "82:82/udp"]
    volumes: ["./two:/data:ro"]
    logging: {driver: local}
    depends_on: {db: {condition: service_healthy, restart: true}}
    dns: [8.8.8.8]
    extra_hosts: ["h=10.0.0.2"]
    cap_add: !override [SYS_TIME]
    tmpfs: !reset []
    healthcheck: {retries: 3}
    labels: [own=1]
"#,
    ),
    (
        "/p/c.yaml",
        r#"include:
  - path: sub/inc.yaml
services:
  app:
    extends: {file: sub/base.yaml, service: base}
    environment: {OWN: 2}
    networks: [shared]
"#,
    ),
    (
        "/p/sub/base.yaml",
        r#"services:
  base:
    build: .
    env_file: base.env
    volumes: ["./data:/d"]
    environment: {BASE: 1}
"#,
    ),
    (
        "/p/sub/base.env",
        r#"FROM_FILE=yes
"#,
    ),
    (
        "/p/sub/inc.yaml",
        r#"services:
  tool:
    image: tool:${TAG:-none}
    volumes: ["./t:/t"]
networks: {shared: {name: common}}
"#,
    ),
    (
        "/p/sub/.env",
        r#"TAG=7
"#,
    ),
];

struct Files;

impl Source for Files {
    fn read(&self, path: &Path) -> std::io::Result<String> {
        let found = FILES.iter().find(|(name, _)| Path::new(name) == path);
        found.map(|(_, text)| (*text).to_owned()).ok_or(std::io::ErrorKind::NotFound.into())
    }

    fn is_file(&self, path: &Path) -> bool {
        FILES.iter().any(|(name, _)| Path::new(name) == path)
    }

    fn is_directory(&self, path: &Path) -> bool {
        [Path::new("/p"), Path::new("/p/sub")].contains(&path)
    }
}

fn yaml(files: &[&str]) -> String {
    let mut options = Options::new("/p", Environment::new());
    options.name = Some("p".to_owned());
    options.files = files.iter().map(PathBuf::from).collect();
    load(&options, &Files).unwrap_or_else(|e| panic!("{}", e.chain())).yaml()
}

#[test]
fn two_files_are_merged_by_the_rules_of_each_attribute() {
    let expected = r#"name: p
services:
  db:
    image: db
    networks:
      default: null
  web:
    cap_add:
      - SYS_TIME
    command:
      - new
      - words
    depends_on:
      db:
        condition: service_healthy
        restart: true
        required: true
    deploy:
      resources:
        limits:
          cpus: 0.5
          memory: "67108864"
    dns:
      - 1.1.1.1
      - 8.8.8.8
    environment:
      A: "1"
      B: "3"
      C: null
    extra_hosts:
      - h=10.0.0.1
      - h=10.0.0.2
    healthcheck:
      test:
        - CMD-SHELL
        - curl x
      interval: 1m30s
      retries: 3
    image: web:1
    labels:
      own: "1"
      team: core
    logging:
      driver: local
    networks:
      default: null
    ports:
      - mode: ingress
        target: 80
        published: "80"
        protocol: tcp
      - mode: ingress
        target: 81
        published: "81"
        protocol: tcp
      - mode: ingress
        target: 82
        published: "82"
        protocol: udp
    restart: always
    volumes:
      - type: bind
        source: /p/two
        target: /data
        read_only: true
        bind: {}
      - type: volume
        source: named
        target: /n
        volume: {}
networks:
  default:
    name: p_default
volumes:
  named:
    name: p_named
x-common:
  labels:
    team: core
  restart: always
"#;
    assert_eq!(yaml(&["a.yaml", "b.yaml"]), expected);
}

#[test]
fn services_are_extended_and_files_included_with_paths_of_their_own() {
    let expected = r#"name: p
services:
  app:
    build:
      context: /p/sub
      dockerfile: Dockerfile
    environment:
      BASE: "1"
      FROM_FILE: "yes"
      OWN: "2"
    networks:
      shared: null
    volumes:
      - type: bind
        source: /p/sub/data
        target: /d
        bind: {}
  tool:
    image: tool:7
    networks:
      default: null
    volumes:
      - type: bind
        source: /p/sub/t
        target: /t
        bind: {}
networks:
  default:
    name: p_default
  shared:
    name: common
"#;
    assert_eq!(yaml(&["c.yaml"]), expected);
}

#[test]
fn a_hash_covers_what_containers_are_made_of_and_nothing_else() {
    let hash = |yaml: &'static str| {
        struct One(&'static str);
        impl Source for One {
            fn read(&self, _: &Path) -> std::io::Result<String> {
                Ok(self.0.to_owned())
            }
            fn is_file(&self, path: &Path) -> bool {
                path.ends_with("compose.yaml")
            }
            fn is_directory(&self, _: &Path) -> bool {
                false
            }
        }
        let project = load(&Options::new("/p", Environment::new()), &One(yaml)).expect("a valid file");
        project.hash("a").expect("a service")
    };
    let plain = hash("services: {a: {image: x}}");
    assert_eq!(
        plain,
        hash("services: {a: {image: x, scale: 3, profiles: [], depends_on: [b]}, b: {image: y}}")
    );
    assert_eq!(plain, hash("services: {a: {image: x, build: ., pull_policy: always, x-own: 1}}"));
    assert_ne!(plain, hash("services: {a: {image: x, environment: {A: 1}}}"));
    assert_ne!(plain, hash("services: {a: {image: z}}"));
    // The hash of {"command":null,"entrypoint":null,"image":"x","networks":{"default":null}}, as Go marshals it.
    assert_eq!(plain, "d5457d0b2799957b606d2ac4ed52d85a1e75799490e56229948300b9a59e8953");
}
