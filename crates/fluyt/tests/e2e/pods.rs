//! Pods: a sandbox that containers share, with Podman's verbs and exit codes.

use fluyt_testkit::Host;
use fluyt_testkit::host::BOX;
use fluyt_testkit::wait::{free_port, http_get, until};
use serde_json::Value;

use crate::{STAY, host, ours_only};

/// Starts a member that stays; its id.
fn member(host: &Host, flags: &str) -> String {
    crate::stay(host, flags)
}

fn pod(host: &Host, name: &str) -> Value {
    let text = host.ok(&format!("pod inspect {name}"));
    let all: Value = serde_json::from_str(&text).expect("JSON");
    all[0].clone()
}

fn state(host: &Host, name: &str) -> String {
    pod(host, name)["State"].as_str().expect("a state").to_owned()
}

#[test]
fn members_share_a_sandbox() {
    let host = host!();
    ours_only!(host);
    let id = host.ok("pod create --name p1 --label a=b");
    assert_eq!((id.len(), state(&host, "p1").as_str()), (64, "Created"));
    host.fails(125, "name \"p1\" is in use: pod already exists", "pod create p1");
    let m1 = member(&host, "--pod p1 --name m1");
    assert_eq!(state(&host, "p1"), "Running");
    member(&host, "--pod p1 --name m2");
    // One network, one host name, one set of queues, one /dev/shm, one file of hosts.
    host.ok_words(&[
        "exec",
        "-d",
        "m1",
        "sh",
        "-c",
        "mkdir -p /w; echo shared > /w/index.html; httpd -f -p 80 -h /w",
    ]);
    let local = ["exec", "m2", "wget", "-qO-", "http://127.0.0.1/"];
    until("m1's server on m2's localhost", 20, || (host.run_words(&local).text() == "shared").then_some(()));
    assert_eq!(host.ok("exec m1 hostname"), "p1");
    host.ok_words(&["exec", "m1", "sh", "-c", "echo x > /dev/shm/f"]);
    assert_eq!(host.ok("exec m2 cat /dev/shm/f"), "x");
    for kind in ["net", "ipc", "uts"] {
        let of = |name: &str| host.ok(&format!("exec {name} readlink /proc/self/ns/{kind}"));
        assert_eq!(of("m1"), of("m2"), "{kind}");
    }
    let hosts = host.ok("exec m1 cat /etc/hosts");
    assert!(hosts.contains("127.0.0.1\tm2") && hosts.contains("\tp1\n"), "{hosts}");
    let pids = |name: &str| host.ok(&format!("exec {name} readlink /proc/self/ns/pid"));
    assert_ne!(pids("m1"), pids("m2"));
    // As listed.
    let table = host.ok("ps --pod");
    assert!(table.lines().next().is_some_and(|head| head.ends_with("POD ID         PODNAME")), "{table}");
    assert!(table.lines().skip(1).all(|line| line.ends_with("p1") && line.contains(&id[..12])), "{table}");
    assert_eq!(host.ok("ps -q --no-trunc --filter pod=p1").lines().count(), 2);
    assert_eq!(host.ok("pod ps --format {{.Name}}:{{.Status}}:{{.NumberOfContainers}}"), "p1:Running:3");
    let shown = pod(&host, "p1");
    assert_eq!(shown["SharedNamespaces"], serde_json::json!(["ipc", "net", "uts"]));
    assert_eq!((&shown["NumContainers"], &shown["Labels"]["a"]), (&Value::from(3), &Value::from("b")));
    assert!(host.field("m1", "{{.NetworkSettings.Networks.bridge.IPAddress}}").contains('.'));
    // Part of it ends, all of it ends, all of it comes back.
    host.ok("stop m1");
    assert_eq!(state(&host, "p1"), "Degraded");
    assert_eq!(host.ok("pod stop p1"), id);
    assert_eq!(state(&host, "p1"), "Exited");
    assert_eq!(host.ok("pod start p1"), id);
    assert_eq!(state(&host, "p1"), "Running");
    host.fails(125, "running or paused containers cannot be removed without force", "pod rm p1");
    assert_eq!(host.ok(&format!("pod rm -f {}", &id[..10])), id);
    host.fails(1, m1.as_str(), &format!("inspect {m1}"));
    host.fails(1, "no pod with name or ID p1 found: no such pod", "pod rm p1");
    host.ok("pod rm -i p1");
}

#[test]
fn ports_are_the_pods() {
    let host = host!();
    ours_only!(host);
    let port = free_port();
    host.ok(&format!("pod create --name p1 -p {port}:80"));
    let script = "mkdir -p /w; echo pod > /w/index.html; exec httpd -f -p 80 -h /w";
    host.ok_words(&["run", "-d", "--init", "--pod", "p1", "--name", "web", BOX, "sh", "-c", script]);
    let answer = || http_get(&format!("127.0.0.1:{port}"), "/").filter(|a| a.contains("pod")).map(drop);
    until("the published port", 20, answer);
    assert!(host.ok("port web").contains(&format!("80/tcp -> 0.0.0.0:{port}")));
    // The pod holds it as long as it is up: neither another pod nor a container gets it.
    host.ok(&format!("pod create --name p2 -p {port}:80"));
    host.fails(125, "address already in use", "pod start p2");
    host.fails_words(
        125,
        "address already in use",
        &["run", "--rm", "-p", &format!("{port}:80"), BOX, "true"],
    );
    until("the published port still", 20, answer);
    host.ok("pod stop -t 0 p1");
    assert!(http_get(&format!("127.0.0.1:{port}"), "/").is_none(), "closed with the pod");
    host.ok("pod start p2");
    host.ok("pod rm -f -a -t 0");
}

#[test]
fn what_a_pod_decides_its_members_cannot() {
    let host = host!();
    ours_only!(host);
    host.ok("pod create p1");
    for (flags, told) in [
        (
            "-p 90:90",
            "published or exposed ports must be defined when the pod is created: network cannot be configured when it is shared with a pod",
        ),
        ("--hostname x", "cannot set hostname when joining the pod UTS namespace"),
        ("--dns 192.0.2.53", "must be defined when the pod is created"),
        ("--userns auto", "cannot have a user namespace of its own"),
    ] {
        host.fails(125, told, &format!("run --pod p1 {flags} {BOX} true"));
    }
    host.fails(125, "no pod with name or ID nope found: no such pod", &format!("run --pod nope {BOX} true"));
    for (flags, told) in [
        (
            "--share foo",
            "invalid kernel namespace to share: foo. Options are: cgroup, ipc, net, pid, uts or none",
        ),
        ("--exit-policy foo", "invalid pod exit policy: \"foo\""),
        ("--infra=false -p 80", "you must have an infra container to publish port bindings to the host"),
        ("--sysctl kernel.panic=1", "is not allowed"),
        ("--network nope", "network nope not found"),
        ("-n a/b", "names must match"),
    ] {
        host.fails(125, told, &format!("pod create {flags}"));
    }
    host.fails(125, "you must provide at least one name or id", "pod start");
    host.fails(125, "no such pod", "pod inspect nope");
    host.fails(1, "", "pod exists nope");
    host.ok("pod exists p1");
    assert_eq!(host.ok("ps -aq"), "", "nothing was made");
    assert_eq!(host.ok("pod ps --format {{.Name}}"), "p1");
}

#[test]
fn a_shared_process_namespace_has_an_init_that_outlives_members() {
    let host = host!();
    ours_only!(host);
    host.ok("pod create --name p1 --share +pid");
    member(&host, "--pod p1 --name m1");
    member(&host, "--pod p1 --name m2");
    let pids = |name: &str| host.ok(&format!("exec {name} readlink /proc/self/ns/pid"));
    assert_eq!(pids("m1"), pids("m2"));
    let seen = host.ok("exec m1 ps");
    assert!(seen.contains("docker-init") && seen.matches("sleep 1000").count() >= 2, "{seen}");
    // Through the first process nothing of the host is reached.
    assert_eq!(
        host.ok_words(&[
            "exec",
            "m1",
            "sh",
            "-c",
            "ls /proc/1/root/ 2>/dev/null | grep -c -x -e bin -e usr -e home || true"
        ]),
        "0"
    );
    assert!(host.run_words(&["exec", "m1", "sh", "-c", "echo x >> /proc/1/exe"]).code != 0);
    host.ok("exec m1 kill -9 1");
    host.ok("rm -f -v m1");
    assert!(host.ok("exec m2 ps").contains("docker-init"));
    host.ok("pod rm -f -t 0 p1");
}

#[test]
fn the_sandbox_may_go_with_the_last_member() {
    let host = host!();
    ours_only!(host);
    host.ok("pod create --name p1 --exit-policy stop");
    host.ok_words(&["run", "-d", "--pod", "p1", "--name", "m1", BOX, "true"]);
    until("the pod to have ended", 20, || (state(&host, "p1") == "Exited").then_some(()));
    // So it does with one that removes itself, and comes back with the next.
    host.ok_words(&["rm", "m1"]);
    host.ok_words(&["run", "--rm", "--pod", "p1", BOX, "true"]);
    until("the pod to have ended again", 20, || (state(&host, "p1") == "Exited").then_some(()));
    let id = host.ok("pod prune -f");
    assert_eq!(id.len(), 64, "{id}");
    assert_eq!(host.ok("pod ps -q"), "");
}

#[test]
fn a_service_manager_can_watch_a_pod() {
    let host = host!();
    ours_only!(host);
    let file = host.scratch().path().join("pod.pid");
    host.ok(&format!("pod create --name p1 --exit-policy stop --infra-conmon-pidfile {}", file.display()));
    host.ok("pod start p1");
    let text = std::fs::read_to_string(&file).expect("a PID");
    let process = std::path::PathBuf::from(format!("/proc/{}", text.trim()));
    assert!(std::fs::read_to_string(process.join("cmdline")).is_ok_and(|line| line.contains("docker-init")));
    let id = host.ok_words(&["run", "--rm", "--pod", "p1", BOX, "readlink", "/proc/self/ns/pid"]);
    assert!(id.starts_with("pid:"), "{id}");
    until("its end with the last member", 20, || (!file.exists()).then_some(()));
    let gone = || std::fs::read_to_string(process.join("cmdline")).map_or(true, |line| line.is_empty());
    until("the process to end", 20, || gone().then_some(()));
    host.ok("pod rm p1");
}

#[test]
fn killed_monitors_leave_the_sandbox_and_it_is_found_again() {
    let host = host!();
    ours_only!(host);
    host.ok("pod create --name p1");
    member(&host, "--pod p1 --name m1");
    host.ok("exec m1 touch /dev/shm/mark");
    let pid = host.field("m1", "{{.State.Pid}}");
    let parent = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let monitor: i32 = parent
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|p| p.parse().ok())
        .expect("a parent");
    let killed =
        std::process::Command::new("kill").args(["-9", &monitor.to_string()]).status().expect("kill");
    assert!(killed.success());
    until("the pod to be degraded", 20, || (state(&host, "p1") == "Degraded").then_some(()));
    host.ok("pod start p1");
    assert_eq!(state(&host, "p1"), "Running");
    assert_eq!(host.ok("exec m1 ls /dev/shm"), "mark", "the same sandbox");
    host.ok("pod restart -t 0 p1");
    assert_eq!(host.ok("exec m1 ls /dev/shm"), "", "a new one");
    host.ok("pod rm -f -t 0 p1");
}

#[test]
fn whatever_is_killed_the_next_start_finds_its_way() {
    let host = host!();
    ours_only!(host);
    let port = free_port();
    host.ok(&format!("pod create --name p1 --share +pid -p {port}:80 -p 81"));
    host.ok_words(&["create", "--pod", "p1", "--name", "m1", BOX, "sh", "-c", STAY]);
    for milliseconds in [2, 6, 10, 15, 20, 30, 45, 70, 100, 150] {
        for verb in ["start", "stop"] {
            let mut words = vec!["pod", verb, "p1"];
            if verb == "stop" {
                words.extend(["-t", "0"]);
            }
            let mut command = host.command(&words);
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            let mut child = command.spawn().expect("fluyt");
            std::thread::sleep(std::time::Duration::from_millis(milliseconds));
            // It may have ended by now.
            let _ = child.kill();
            child.wait().expect("its end");
        }
    }
    host.ok("pod start p1");
    assert_eq!(state(&host, "p1"), "Running");
    host.ok("pod rm -f -t 0 p1");
}

#[test]
fn limits_hold_for_all_members_together() {
    let host = host!();
    ours_only!(host);
    let id = host.ok("pod create --name p1 --memory 64m --pids-limit 100 --shm-size 2m --sysctl net.ipv4.ip_unprivileged_port_start=7 --volume data:/d");
    let m1 = member(&host, "--pod p1 --name m1");
    let pid = host.field("m1", "{{.State.Pid}}");
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("groups");
    assert!(groups.contains(&format!("/{id}/{m1}")), "{groups}");
    let shown = pod(&host, "p1");
    let path = shown["CgroupPath"].as_str().expect("a path");
    let limit = [
        format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes"),
        format!("/sys/fs/cgroup{path}/memory.max"),
    ]
    .into_iter()
    .find_map(|file| std::fs::read_to_string(file).ok());
    assert_eq!(limit.as_deref().map(str::trim), Some("67108864"));
    assert_eq!(shown["memory_limit"], 67_108_864);
    assert_eq!(host.ok("exec m1 cat /proc/sys/net/ipv4/ip_unprivileged_port_start"), "7");
    assert!(host.ok("exec m1 df -k /dev/shm").contains("2048"));
    host.ok_words(&["exec", "m1", "sh", "-c", "echo kept > /d/f"]);
    member(&host, "--pod p1 --name m2");
    assert_eq!(host.ok("exec m2 cat /d/f"), "kept");
    host.ok("pod rm -f -t 0 p1");
}

#[test]
fn a_pod_and_its_members_have_names_on_networks() {
    let host = host!();
    ours_only!(host);
    host.ok("network create n1");
    host.ok("pod create --name p1 --network n1 --network-alias other");
    member(&host, "--pod p1 --name m1");
    member(&host, "--pod p1 --name m2");
    member(&host, "--network n1 --name outside");
    let address = host.field("m1", "{{.NetworkSettings.Networks.n1.IPAddress}}");
    let found = |from: &str, name: &str| {
        host.ok_words(&["exec", from, "nslookup", name, "127.0.0.11"]).contains(&address)
    };
    for name in ["p1", "other", "m1", "m2"] {
        assert!(found("outside", name), "{name}");
    }
    let outside = host.field("outside", "{{.NetworkSettings.Networks.n1.IPAddress}}");
    let asks =
        |from: &str| host.ok_words(&["exec", from, "nslookup", "outside", "127.0.0.11"]).contains(&outside);
    assert!(asks("m1") && asks("m2"));
    // Whoever answers goes; another does then.
    host.ok("rm -f m1");
    assert!(asks("m2"));
    host.fails(1, "has active endpoints", "network rm n1");
    host.ok("pod rm -f -t 0 p1");
    host.ok("rm -f outside");
    host.ok("network rm n1");
}

#[test]
fn members_start_after_whom_they_require() {
    let host = host!();
    ours_only!(host);
    host.ok("pod create p1");
    host.ok_words(&["create", "--pod", "p1", "--name", "db", BOX, "sh", "-c", STAY]);
    host.ok_words(&["create", "--pod", "p1", "--name", "web", "--requires", "db", BOX, "sh", "-c", STAY]);
    host.ok("pod start p1");
    let started = |name: &str| host.field(name, "{{.State.StartedAt}}");
    assert!(started("db") < started("web"));
    host.ok("pod stop p1");
    let ended = |name: &str| host.field(name, "{{.State.FinishedAt}}");
    assert!(ended("web") < ended("db"));
    host.ok("start web");
    assert_eq!(host.field("db", "{{.State.Running}}"), "true");
    host.ok("pod rm -f p1");
}

#[test]
fn a_new_pod_for_a_container_and_a_copy_of_both() {
    let host = host!();
    ours_only!(host);
    let port = free_port();
    host.ok_words(&[
        "run",
        "-d",
        "--pod",
        "new:p1",
        "-p",
        &format!("{port}:80"),
        "--name",
        "m1",
        BOX,
        "sh",
        "-c",
        STAY,
    ]);
    assert_eq!(pod(&host, "p1")["InfraConfig"]["PortBindings"]["80/tcp"][0]["HostPort"], port.to_string());
    host.ok("pod pause p1");
    assert_eq!(state(&host, "p1"), "Paused");
    host.ok("pod unpause p1");
    host.ok_words(&["exec", "m1", "sh", "-c", "true"]);
    host.ok("pod kill p1");
    assert_eq!(state(&host, "p1"), "Exited");
    host.ok("pod clone --start --destroy p1");
    assert_eq!(host.ok("pod ps --format {{.Name}}:{{.Status}}"), "p1-clone:Running");
    assert_eq!(host.ok("ps --format {{.Names}}"), "m1-clone");
    host.fails_words(
        125,
        "No such image",
        &["run", "--pull", "never", "--pod", "new:p3", "nosuchimage", "true"],
    );
    host.fails(1, "", "pod exists p3");
    host.ok("pod rm -f -t 0 -a");
}

#[test]
fn logs_stats_and_processes_of_a_pod() {
    let host = host!();
    ours_only!(host);
    host.ok("pod create p1");
    host.ok_words(&["run", "--pod", "p1", "--name", "one", BOX, "echo", "first"]);
    host.ok_words(&["run", "--pod", "p1", "--name", "two", BOX, "echo", "second"]);
    assert_eq!(host.ok("pod logs -n p1"), "one first\ntwo second");
    assert_eq!(host.ok("pod logs -c two p1").split(' ').nth(1), Some("second"));
    host.fails(125, "is not in pod p1", "pod logs -c nope p1");
    member(&host, "--pod p1 --name m1");
    let table = host.ok("pod stats --no-stream p1");
    assert!(table.starts_with("POD ") && table.contains("m1"), "{table}");
    assert!(host.ok("pod top p1").contains("sleep 1000"));
    host.ok("pod rm -f p1");
}
