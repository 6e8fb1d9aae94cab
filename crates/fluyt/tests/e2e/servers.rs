//! Real servers from Debian packages.

use std::fs;
use std::time::Duration;

use fluyt_testkit::wait::{free_port, http_get, until};
use fluyt_testkit::{Host, debian};

use crate::PROGRAM;

/// The packages of the one image that these tests and those of real Compose projects share.
const PACKAGES: [&str; 5] =
    ["nginx-light", "postgresql", "python3-psycopg2", "python3-redis", "redis-server"];

/// A host with the image `debian`, or none (said as a skip) where it cannot be made.
pub(crate) fn debian_host(own_network: bool) -> Option<Host> {
    if std::env::var_os("FLUYT_VM").is_some() {
        // debootstrap has no network there; unpacking 300 MB by emulation would prove nothing more.
        fluyt_testkit::skip("servers run on the host");
        return None;
    }
    let archive = debian::root_file_system(&PACKAGES)?;
    let host = if own_network { Host::new(PROGRAM)? } else { Host::on_the_machines_network(PROGRAM)? };
    host.ok_words(&["import", "-c", r#"CMD ["bash"]"#, archive.to_str().expect("a path"), "debian:servers"]);
    Some(host)
}

#[test]
fn nginx_serves_on_a_published_port() {
    let Some(host) = debian_host(true) else { return };
    let port = free_port();
    let publish = format!("127.0.0.1:{port}:80");
    let site = host.scratch().write("site/index.html", "hello from nginx\n");
    let bind = format!("{}:/var/www/html:ro", site.parent().expect("a directory").display());
    host.ok_words(&[
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        &publish,
        "-v",
        &bind,
        "debian:servers",
        "nginx",
        "-g",
        "daemon off; error_log stderr; ",
    ]);
    let answer =
        until("nginx", 30, || http_get(&format!("127.0.0.1:{port}"), "/").filter(|a| a.contains("200 OK")));
    assert!(answer.contains("hello from nginx"), "{answer}");
    host.ok_words(&["exec", "web", "nginx", "-s", "reload"]);
    for _ in 0..50 {
        assert!(http_get(&format!("127.0.0.1:{port}"), "/").is_some_and(|a| a.contains("hello")));
    }
    host.ok("stop -t 10 web");
    assert_eq!(host.field("web", "{{.State.ExitCode}}"), "0");
    host.ok("rm web");
}

#[test]
fn postgres_keeps_its_data_through_kill_9() {
    let Some(host) = debian_host(true) else { return };
    let script = "set -e; export PATH=$PATH:$(echo /usr/lib/postgresql/*/bin); chown postgres /data; chmod 700 /data; \
                  test -s /data/PG_VERSION || setpriv --reuid postgres --regid postgres --clear-groups initdb -D /data -A trust > /dev/null; \
                  exec setpriv --reuid postgres --regid postgres --clear-groups postgres -D /data -c listen_addresses=";
    let start = |name: &str| {
        host.ok_words(&[
            "run",
            "-d",
            "--name",
            name,
            "-v",
            "pgdata:/data",
            "--shm-size",
            "256m",
            "debian:servers",
            "bash",
            "-c",
            script,
        ]);
        until("postgres", 60, || {
            let outcome = host.run_words(&["exec", "-u", "postgres", name, "psql", "-Atc", "select 1"]);
            (outcome.text() == "1").then_some(())
        });
    };
    let sql = |name: &str, text: &str| host.ok_words(&["exec", "-u", "postgres", name, "psql", "-Atc", text]);
    start("first");
    sql("first", "create table t (n int)");
    sql("first", "insert into t select generate_series(1, 10000)");
    host.ok("kill -s KILL first");
    assert_eq!(host.ok("wait first"), "137");
    host.ok("rm first");
    start("second");
    assert_eq!(sql("second", "select count(*), sum(n) from t"), "10000|50005000");
    host.ok("stop -t 30 second");
    assert_eq!(host.field("second", "{{.State.ExitCode}}"), "0", "SIGTERM ends postgres in order");
    host.ok("rm second");
    host.ok("volume rm pgdata");
}

#[test]
fn redis_is_reached_by_name() {
    let Some(host) = debian_host(true) else { return };
    host.ok("network create app");
    host.ok_words(&[
        "run",
        "-d",
        "--name",
        "cache",
        "--network",
        "app",
        "debian:servers",
        "redis-server",
        "--bind",
        "0.0.0.0",
        "--protected-mode",
        "no",
        "--dir",
        "/tmp",
    ]);
    let client = |words: &[&str]| {
        let mut all = vec!["run", "--rm", "--network", "app", "debian:servers", "redis-cli", "-h", "cache"];
        all.extend(words);
        host.run_words(&all)
    };
    until("redis", 30, || (client(&["ping"]).text() == "PONG").then_some(()));
    assert_eq!(client(&["set", "key", "value"]).text(), "OK");
    assert_eq!(client(&["get", "key"]).text(), "value");
    let pid = host.field("cache", "{{.State.Pid}}");
    host.ok("restart -t 5 cache");
    assert_ne!(host.field("cache", "{{.State.Pid}}"), pid);
    until("redis after its restart", 30, || (client(&["ping"]).text() == "PONG").then_some(()));
    host.ok("rm -f cache");
    host.ok("network rm app");
}

#[test]
fn apt_get_update_works_through_nat() {
    let Some(host) = debian_host(false) else { return };
    // The image gets the machine's own package sources and whatever proxy its apt is told to use.
    let mut words: Vec<String> = ["run", "--rm", "--name", "apt"].map(str::to_owned).to_vec();
    let mirror = debian::mirror().expect("the image was made from it");
    let sources = host.scratch().write("sources.list", format!("deb {mirror} bookworm main\n"));
    words.push("-v".into());
    words.push(format!("{}:/etc/apt/sources.list:ro", sources.display()));
    for name in ["http_proxy", "https_proxy", "no_proxy"] {
        if std::env::var_os(name).is_some() {
            words.extend(["-e".to_owned(), name.to_owned()]);
        }
    }
    for entry in fs::read_dir("/etc/apt/apt.conf.d").into_iter().flatten().flatten() {
        if fs::read_to_string(entry.path()).is_ok_and(|t| t.to_lowercase().contains("proxy")) {
            let path = entry.path().display().to_string();
            words.extend(["-v".to_owned(), format!("{path}:{path}:ro")]);
        }
    }
    words.extend(["debian:servers", "apt-get", "update"].map(str::to_owned));
    let mut command = host.command(&words);
    let outcome = fluyt_testkit::host::finish(&mut command, b"", 120);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("Reading package lists"), "{outcome:?}");
    std::thread::sleep(Duration::from_millis(10));
}
