//! Docker's own client against the socket of an engine: networks, volumes, the system.

use serde_json::Value;

use fluyt_testkit::host::BOX;

use crate::docker_client_images::Docker;
use crate::{host, ours_only};

#[test]
fn networks() {
    let host = host!();
    ours_only!(host);
    let Some(docker) = Docker::start(&host) else { return };
    let line = "network create --label l=1 --subnet 10.232.0.0/24 --ip-range 10.232.0.128/25 --gateway 10.232.0.9 \
                --aux-address taken=10.232.0.130 one";
    let id = docker.ok(line);
    let seen: Value = serde_json::from_str(&docker.ok("network inspect one")).unwrap();
    assert_eq!(seen[0]["Id"].as_str(), Some(id.trim()));
    assert_eq!(seen[0]["IPAM"]["Config"][0]["Gateway"], "10.232.0.9");
    assert_eq!(seen[0]["IPAM"]["Config"][0]["AuxiliaryAddresses"]["taken"], "10.232.0.130");
    assert_eq!(docker.ok("network ls --filter label=l=1 --format {{.Name}}"), "one\n");
    docker.fails("already exists", "network create one");
    docker.fails("network none-such not found", "network inspect none-such");
    docker.fails("pre-defined network and cannot be removed", "network rm bridge");
    docker.fails("This node is not a swarm manager", "network create -d overlay over");
    docker.ok(&format!("run -d --name cc {BOX} sleep 1000"));
    docker.ok("network connect --ip 10.232.0.200 --alias called one cc");
    let seen: Value = serde_json::from_str(&docker.ok("inspect cc")).unwrap();
    let plug = &seen[0]["NetworkSettings"]["Networks"]["one"];
    assert_eq!(plug["IPAddress"], "10.232.0.200");
    assert_eq!(plug["IPAMConfig"]["IPv4Address"], "10.232.0.200", "{plug}");
    docker.fails("already exists in network", "network connect one cc");
    docker.fails("has active endpoints", "network rm one");
    docker.ok("network disconnect one cc");
    docker.fails("is not connected to network one", "network disconnect one cc");
    docker.ok("rm -f cc");
    assert!(docker.ok("network prune -f").contains("one"));
    assert_eq!(docker.ok("network ls -q --filter name=^one$"), "");
}

#[test]
fn volumes() {
    let host = host!();
    ours_only!(host);
    let Some(docker) = Docker::start(&host) else { return };
    assert_eq!(docker.ok("volume create --label k=v -o type=tmpfs -o device=tmpfs data"), "data\n");
    let seen: Value = serde_json::from_str(&docker.ok("volume inspect data")).unwrap();
    assert_eq!((&seen[0]["Driver"], &seen[0]["Options"]["type"]), (&"local".into(), &"tmpfs".into()));
    docker.fails("no such volume", "volume inspect none-such");
    docker.fails("plugin", "volume create -d no-such-driver other");
    docker.ok(&format!("create --name user -v data:/d -v /anonymous {BOX} true"));
    docker.fails("volume is in use", "volume rm data");
    assert_eq!(docker.ok("volume ls -q --filter dangling=true"), "");
    docker.ok("rm user");
    // Only the anonymous one goes, unless all are asked for.
    docker.ok("volume prune -f");
    assert_eq!(docker.ok("volume ls -q"), "data\n");
    let all = docker.engine().ask("POST", "/v1.41/volumes/prune", "");
    assert!(all.text().contains("\"VolumesDeleted\":[\"data\"]"), "{}", all.text());
    docker.ok("volume rm -f data");
}

#[test]
fn the_system_tells_of_itself() {
    let host = host!();
    ours_only!(host);
    let Some(docker) = Docker::start(&host) else { return };
    docker.ok(&format!("run --name cc {BOX} true"));
    assert_eq!(docker.ok("info --format {{.Containers}}/{{.ContainersStopped}}/{{.Images}}"), "1/1/1\n");
    assert_eq!(docker.ok("version --format {{.Server.Os}}"), "linux\n");
    let used = docker.ok("system df");
    assert!(used.contains("Images") && used.contains("Build Cache"), "{used}");
    assert!(docker.ok("system df -v").contains("Local Volumes space usage"));
    let engine = docker.engine();
    let ping = engine.ask("GET", "/_ping", "");
    assert_eq!(ping.status, 200);
    for wanted in
        ["api-version: 1.", "ostype: linux", "docker-experimental: false", "cache-control: no-cache"]
    {
        assert!(ping.head.iter().any(|line| line.starts_with(wanted)), "{wanted}: {:?}", ping.head);
    }
    let some: Value =
        serde_json::from_slice(&engine.ask("GET", "/v1.50/system/df?type=volume", "").body).unwrap();
    assert!(some["Volumes"].is_array() && some["Images"].is_null(), "{some}");
    assert_eq!(engine.ask("GET", "/system/df?type=nonsense", "").status, 400);
    assert_eq!(engine.ask("GET", "/plugins", "").text().trim(), "[]");
    for (method, path, status) in [
        ("GET", "/swarm", 503),
        ("GET", "/services", 503),
        ("GET", "/nodes", 503),
        ("GET", "/tasks", 503),
        ("GET", "/secrets", 503),
        ("POST", "/configs/create", 503),
        ("POST", "/swarm/leave", 503),
        ("POST", "/swarm/init", 501),
        ("POST", "/plugins/pull", 501),
        ("GET", "/plugins/none/json", 404),
    ] {
        let answer = engine.ask(method, path, "");
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        let said: Value = serde_json::from_slice(&answer.body).unwrap();
        assert!(said["message"].as_str().is_some_and(|m| !m.is_empty()), "{path}: {said}");
    }
    let pruned = docker.ok("system prune -af --volumes");
    assert!(pruned.contains("Deleted Containers") && pruned.contains("Total reclaimed space"), "{pruned}");
    host.load_box();
}
