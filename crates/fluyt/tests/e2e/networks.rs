//! Networks and published ports, in a network namespace of the test's own.

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use fluyt_testkit::host::BOX;
use fluyt_testkit::wait::{http_get, until};
use fluyt_testkit::{Host, mounts};

use crate::{host, ours_only, stay};

/// Starts a web server that answers `text`, with `run`'s flags, and waits until it listens.
fn web(host: &Host, flags: &str, text: &str) -> String {
    let script = format!("echo {text} > /var/www/index.html; exec httpd -f -p 80 -h /var/www");
    let mut words = vec!["run", "-d", "--init"];
    words.extend(flags.split_whitespace());
    words.extend([BOX, "sh", "-c", &script]);
    let id = host.ok_words(&words);
    let probe = ["exec", id.as_str(), "wget", "-qO", "/dev/null", "http://127.0.0.1/"];
    until(&format!("{text}'s server to listen"), 20, || (host.run_words(&probe).code == 0).then_some(()));
    id
}

/// The host's address of a published port, as `port` tells it.
fn published(host: &Host, name: &str, port: &str) -> String {
    let all = host.ok(&format!("port {name} {port}"));
    all.lines().next().unwrap_or_default().to_owned()
}

fn answers(address: &str, text: &str) {
    until(&format!("{address} to answer {text}"), 20, || http_get(address, "/").filter(|a| a.contains(text)));
}

#[test]
fn the_default_bridge_gives_address_route_and_names() {
    let host = host!();
    let seen = host.sh("", "ip -4 addr show eth0 | grep -c inet; ip route | grep -c default; cat /etc/resolv.conf | grep -c nameserver");
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[..2], ["1", "1"], "{seen}");
    let id = stay(&host, "--name c1");
    let address = host.field("c1", "{{.NetworkSettings.Networks.bridge.IPAddress}}");
    assert!(host.ok("exec c1 cat /etc/hosts").contains(&format!("{address}\t{}", &id[..12])));
    assert_eq!(host.sh("", &format!("ping -c 1 -W 5 {address} > /dev/null && echo reached")), "reached");
    host.ok("rm -f c1");
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    let host = host!();
    web(&host, "--name w1 -p 80", "everywhere");
    let address = published(&host, "w1", "80/tcp");
    let port = address.rsplit(':').next().expect("a port").to_owned();
    answers(&format!("127.0.0.1:{port}"), "everywhere");
    answers(&format!("192.0.2.2:{port}"), "everywhere");
    let from_another = format!("wget -qO- http://192.0.2.2:{port}/");
    assert_eq!(host.sh("", &from_another), "everywhere", "from another container by the host's address");
    let own = host.ok_words(&["exec", "w1", "wget", "-qO-", &format!("http://192.0.2.2:{port}/")]);
    assert_eq!(own, "everywhere", "from itself by the host's address");
    assert!(host.ok_words(&["ps", "--format", "{{.Ports}}"]).contains(&format!("0.0.0.0:{port}->80/tcp")));
    host.ok("rm -f w1");
    assert!(http_get(&format!("127.0.0.1:{port}"), "/").is_none(), "closed with the container");
}

#[test]
fn a_port_can_be_bound_to_one_address() {
    let host = host!();
    web(&host, "--name w1 -p 127.0.0.1::80", "loopback");
    let address = published(&host, "w1", "80");
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    answers(&address, "loopback");
    let elsewhere = address.replace("127.0.0.1", "192.0.2.2");
    assert!(http_get(&elsewhere, "/").is_none(), "not on another address");
    host.ok("rm -f w1");
}

#[test]
fn ports_ranges_and_all_exposed() {
    let host = host!();
    let id = host.ok("create -p 18080-18081:80-81 -p 18053:53/udp box true");
    host.ok(&format!("rm {id}"));
    web(&host, "--name w1 -P --expose 80 --expose 53/udp", "exposed");
    let all = host.ok("port w1");
    assert!(all.contains("80/tcp -> 0.0.0.0:") && all.contains("53/udp -> 0.0.0.0:"), "{all}");
    let port = published(&host, "w1", "80").rsplit(':').next().expect("a port").to_owned();
    answers(&format!("127.0.0.1:{port}"), "exposed");
    host.fails(1, "81", "port w1 81");
    host.ok("rm -f w1");
}

/// Not a test: the server of the next one, run inside a container from this very (static) executable.
#[test]
#[ignore = "a server for another test"]
fn udp_echo_server() {
    let socket = UdpSocket::bind("0.0.0.0:9").expect("a socket");
    let mut buffer = [0; 1500];
    while let Ok((size, peer)) = socket.recv_from(&mut buffer) {
        let _ = socket.send_to(&buffer[..size], peer);
    }
}

#[test]
fn udp_is_published_too() {
    let host = host!();
    let program = std::env::current_exe().expect("this program");
    let bind = format!("{}:/server:ro", program.display());
    let mut words = vec!["run", "-d", "--init", "--name", "u1", "-p", "127.0.0.1:19999:9/udp", "-v", &bind];
    words.extend([BOX, "/server", "--exact", "networks::udp_echo_server", "--ignored"]);
    host.ok_words(&words);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a time-out");
    until("an echo", 20, || {
        let mut buffer = [0; 16];
        let _ = socket.send_to(b"hello", "127.0.0.1:19999");
        socket.recv(&mut buffer).ok().filter(|n| &buffer[..*n] == b"hello")
    });
    host.ok("rm -f u1");
}

#[test]
fn a_port_in_use_is_said_and_nothing_stays() {
    let host = host!();
    if host.is_reference() {
        return fluyt_testkit::skip("the reference keeps the container that could not start");
    }
    let taken = TcpListener::bind("0.0.0.0:18090").expect("a free port");
    host.fails(125, "18090", "run -d --rm -p 18090:80 box sleep 100");
    drop(taken);
    web(&host, "--name one -p 18090:80", "one");
    let outcome = host.fails(125, "18090", "run -d --rm --name two -p 18090:80 box sleep 100");
    assert!(
        outcome.stderr.contains("one") || outcome.stderr.contains("publish=18090"),
        "the way to the holder is told: {outcome:?}"
    );
    assert_eq!(host.ok_words(&["ps", "-a", "--format", "{{.Names}}"]), "one");
    answers("127.0.0.1:18090", "one");
    host.ok("rm -f one");
}

#[test]
fn names_and_aliases_on_a_network_of_ones_own() {
    let host = host!();
    host.ok("network create net");
    web(&host, "--name w1 --network net --network-alias alias", "by-name");
    let id = host.field("w1", "{{.Id}}");
    for name in ["w1", "alias", &id[..12]] {
        let script = format!("for i in 1 2 3 4 5; do wget -qO- http://{name}/ && break; sleep 0.3; done");
        assert_eq!(host.sh("--network net", &script), "by-name", "{name}");
    }
    assert_ne!(host.sh_outcome("--network net", "nslookup absent.invalid").code, 0);
    assert_ne!(
        host.sh_outcome("", "timeout 3 wget -qO- http://w1/; exit $?").code,
        0,
        "not on another network"
    );
    host.ok("rm -f w1");
    host.ok("network rm net");
}

#[test]
fn networks_are_apart() {
    let host = host!();
    host.ok("network create left");
    host.ok("network create right");
    web(&host, "--name w1 --network left", "left");
    let address = host.field("w1", "{{.NetworkSettings.Networks.left.IPAddress}}");
    let script = format!("timeout 3 wget -qO- http://{address}/; exit $?");
    assert_ne!(host.sh_outcome("--network right", &script).code, 0, "isolated");
    assert_eq!(host.sh("--network left", &script), "left");
    stay(&host, "--name both --network right");
    host.ok("network connect --alias second left both");
    let seen = host.ok_words(&["exec", "both", "wget", "-qO-", "http://w1/"]);
    assert_eq!(seen, "left", "connected at run time");
    assert_eq!(
        host.ok_words(&["exec", "w1", "sh", "-c", "ping -c 1 -W 5 second > /dev/null && echo ok"]),
        "ok"
    );
    host.ok("network disconnect left both");
    assert_ne!(
        host.run_words(&["exec", "both", "timeout", "3", "wget", "-qO-", &format!("http://{address}/")]).code,
        0
    );
    host.fails(1, "left", "network rm left");
    host.ok("rm -f w1 both");
    host.ok("network rm left right");
}

#[test]
fn an_internal_network_has_no_way_out() {
    let host = host!();
    host.ok("network create --internal inside");
    web(&host, "--name w1 --network inside", "internal");
    assert_eq!(host.sh("--network inside", "timeout 8 wget -qO- http://w1/; exit $?"), "internal");
    assert_eq!(host.sh("--network inside", "ip route | grep -c default || true"), "0");
    assert_ne!(host.sh_outcome("--network inside", "ping -c 1 -W 2 192.0.2.2").code, 0);
    host.ok("rm -f w1");
    host.ok("network rm inside");
}

#[test]
fn host_none_and_a_containers_network() {
    let host = host!();
    assert_eq!(host.sh("--network none", "ls /sys/class/net"), "lo");
    let own = std::fs::read_link("/proc/thread-self/ns/net").expect("a namespace");
    if !host.is_reference() {
        assert_eq!(host.sh("--network host", "readlink /proc/self/ns/net"), own.to_string_lossy());
    }
    web(&host, "--name w1", "shared");
    assert_eq!(host.sh("--network container:w1", "wget -qO- http://127.0.0.1/"), "shared");
    host.fails(125, "absent", "run --rm --network container:absent box true");
    host.fails(125, "absent", "run --rm --network absent box true");
    host.fails(125, "", "run --rm --network host -h name --network none box true");
    host.ok("rm -f w1");
}

#[test]
fn addresses_subnets_and_their_errors() {
    let host = host!();
    host.ok("network create --subnet 10.77.0.0/24 --gateway 10.77.0.254 --label a=b sub");
    let script = "ip -4 addr show eth0 | grep -o '10.77.0.7/24'; ip route | grep -o 'via 10.77.0.254'";
    assert_eq!(host.sh("--network sub --ip 10.77.0.7", script), "10.77.0.7/24\nvia 10.77.0.254");
    stay(&host, "--name c1 --network sub --ip 10.77.0.9");
    let outcome = host.fails(125, "in use", "run --rm --network sub --ip 10.77.0.9 box true");
    assert!(host.is_reference() || outcome.stderr.contains("10.77.0.9"), "{outcome:?}");
    host.fails(125, "10.99.0.9", "run --rm --network sub --ip 10.99.0.9 box true");
    host.fails(1, "10.77.0", "network create --subnet 10.77.0.0/25 overlapping");
    host.fails(1, "10.88.0.0/99", "network create --subnet 10.88.0.0/99 bad");
    host.fails(1, "sub", "network create sub");
    host.fails(1, "nonsense", "network create -d nonsense xx");
    host.fails(1, "absent", "network rm absent");
    host.fails(1, "absent", "network inspect absent");
    let shown = host.ok_words(&[
        "network",
        "inspect",
        "-f",
        "{{(index .IPAM.Config 0).Subnet}} {{.Labels.a}}",
        "sub",
    ]);
    assert_eq!(shown, "10.77.0.0/24 b");
    assert_eq!(host.ok("network ls -q -f label=a=b").lines().count(), 1);
    host.ok("rm -f c1");
    host.ok("network rm sub");
}

#[test]
fn many_networks_fit() {
    let host = host!();
    let mut subnets = std::collections::BTreeSet::new();
    for n in 0..20 {
        host.ok(&format!("network create n{n}"));
        subnets.insert(host.ok_words(&[
            "network",
            "inspect",
            "-f",
            "{{(index .IPAM.Config 0).Subnet}}",
            &format!("n{n}"),
        ]));
    }
    assert_eq!(subnets.len(), 20, "{subnets:?}");
    assert!(!subnets.iter().any(|s| s.starts_with("192.0.2.")), "the host's own routes are avoided");
    assert_eq!(host.sh("--network n19", "ip route | grep -c default"), "1");
    host.ok("network prune -f");
    assert_eq!(host.ok("network ls -q").lines().count(), 3, "bridge, host, none");
}

#[test]
fn dns_flags_are_written_down() {
    let host = host!();
    let seen = host.sh("--dns 9.9.9.9 --dns-search example.org --dns-option ndots:3", "cat /etc/resolv.conf");
    for line in ["nameserver 9.9.9.9", "search example.org", "options ndots:3"] {
        assert!(seen.lines().any(|l| l == line), "{line}: {seen}");
    }
}

#[test]
fn ipv6_on_request() {
    let host = host!();
    ours_only!(host);
    host.ok("network create --ipv6 --subnet fd00:77::/64 six");
    web(&host, "--name w1 --network six", "six");
    let seen = host.ok_words(&["exec", "w1", "sh", "-c", "ip -6 addr show eth0 | grep -c fd00:77"]);
    assert_eq!(seen, "1");
    let address = host.field("w1", "{{.NetworkSettings.Networks.six.GlobalIPv6Address}}");
    assert_eq!(
        host.sh("--network six", &format!("ping -6 -c 1 -W 5 {address} > /dev/null && echo ok")),
        "ok"
    );
    host.ok("rm -f w1");
    host.ok("network rm six");
}

#[test]
fn the_address_survives_a_restart_of_others_and_is_given_back() {
    let host = host!();
    let first = host.sh("", "ip -4 addr show eth0 | grep -o 'inet [0-9.]*'");
    for _ in 0..3 {
        assert!(!host.sh("", "ip -4 addr show eth0 | grep -o 'inet [0-9.]*'").is_empty());
    }
    stay(&host, "--name a1");
    stay(&host, "--name b1");
    let of = |name: &str| host.field(name, "{{.NetworkSettings.Networks.bridge.IPAddress}}");
    assert_ne!(of("a1"), of("b1"));
    assert!(first.starts_with("inet "));
    host.ok("restart -t 2 a1");
    assert_ne!(of("a1"), of("b1"));
    host.ok("rm -f a1 b1");
}

/// An `ip` command in this test's network namespace.
fn ip(line: &str) {
    mounts::run(&["ip"].into_iter().chain(line.split(' ')).collect::<Vec<_>>());
}

#[test]
fn macvlan_containers_are_on_the_wire() {
    let host = host!();
    ours_only!(host);
    // The other end of the wire is a router.
    ip("address add 198.51.100.1/24 dev uplink-peer");
    host.fails(1, "parent", "network create -d macvlan wire");
    host.fails(1, "sideways", "network create -d macvlan -o parent=uplink -o macvlan_mode=sideways wire");
    host.ok(
        "network create -d macvlan -o parent=uplink --subnet 198.51.100.0/24 --gateway 198.51.100.1 wire",
    );
    let seen = host.inspect("wire");
    assert_eq!(
        (seen["Driver"].as_str(), seen["Options"]["parent"].as_str()),
        (Some("macvlan"), Some("uplink")),
        "{seen}"
    );
    stay(&host, "--name aa --network wire --ip 198.51.100.40 --mac-address 02:00:00:00:00:07");
    stay(&host, "--name bb --network wire");
    let address = |name: &str| host.field(name, "{{.NetworkSettings.Networks.wire.IPAddress}}");
    assert_eq!(address("aa"), "198.51.100.40");
    let of_b = address("bb");
    assert!(of_b.starts_with("198.51.100.") && of_b != "198.51.100.1" && of_b != "198.51.100.40", "{of_b}");
    let link = host.ok_words(&["exec", "aa", "ip", "-o", "link", "show", "eth0"]);
    assert!(link.contains("02:00:00:00:00:07"), "{link}");
    let route = host.ok("exec aa ip route");
    assert!(route.contains("default via 198.51.100.1"), "{route}");
    // Each other, by address and by name, and the router.
    for target in [of_b.as_str(), "bb", "198.51.100.1"] {
        let outcome = host.run(&format!("exec aa ping -c 1 -W 5 {target}"));
        assert_eq!(outcome.code, 0, "{target}: {outcome:?}");
    }
    // At run time.
    host.ok("network disconnect wire bb");
    assert_ne!(host.run(&format!("exec aa ping -c 1 -W 1 {of_b}")).code, 0);
    host.ok("network connect --ip 198.51.100.60 wire bb");
    assert_eq!(host.run("exec aa ping -c 1 -W 5 198.51.100.60").code, 0);
    host.fails(1, "wire", "network rm wire");
    // A second network on the same parent that overlaps is refused; a port cannot be published on the wire.
    host.fails(1, "198.51.100", "network create -d macvlan -o parent=uplink --subnet 198.51.100.0/25 more");
    host.ok("restart -t 1 aa");
    assert_eq!(host.run("exec aa ping -c 1 -W 5 198.51.100.60").code, 0);
    host.ok("rm -f aa bb");
    host.ok("network rm wire");
    ip("address del 198.51.100.1/24 dev uplink-peer");
}

#[test]
fn macvlan_that_is_private_and_a_parent_that_is_missing() {
    let host = host!();
    ours_only!(host);
    // The parent is looked for when a container starts: a link may come and go.
    let said = host.run("network create -d macvlan -o parent=nowhere0 --subnet 198.51.100.0/24 gone");
    if said.code == 0 {
        let outcome = host.fails(125, "nowhere0", "run --rm --network gone box true");
        assert!(outcome.stderr.contains("ip link"), "{outcome:?}");
        host.ok("network rm gone");
    } else {
        assert!(said.stderr.contains("nowhere0"), "{said:?}");
    }
    assert_eq!(host.ok("ps -aq"), "");
    // Private: on the wire, and apart from each other.
    ip("address add 198.51.100.1/24 dev uplink-peer");
    host.ok("network create -d macvlan -o parent=uplink -o macvlan_mode=private --subnet 198.51.100.0/24 --gateway 198.51.100.1 apart");
    stay(&host, "--name aa --network apart --ip 198.51.100.40");
    let outcome = host.run("run --rm --network apart box ping -c 1 -W 5 198.51.100.1");
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_ne!(host.run("run --rm --network apart box ping -c 1 -W 1 198.51.100.40").code, 0);
    host.ok("rm -f aa");
    host.ok("network rm apart");
    ip("address del 198.51.100.1/24 dev uplink-peer");
}

#[test]
fn a_published_port_is_reached_over_the_loopback_of_ipv6() {
    let host = host!();
    ours_only!(host);
    let filter = "/proc/sys/net/bridge/bridge-nf-call-ip6tables";
    if std::path::Path::new(filter).exists() {
        // Where bridged packets pass the host's firewall, the kernel drops the answers (ARCHITECTURE.md).
        std::fs::write(filter, "0").expect("a parameter of the test's own namespace");
    }
    if !std::path::Path::new("/proc/net/if_inet6").exists() {
        return fluyt_testkit::skip("no IPv6");
    }
    host.ok("network create --ipv6 six");
    for (name, network, flags) in [("w1", "six", "-p 80"), ("w2", "six", "-p [::1]::80")] {
        web(&host, &format!("--name {name} --network {network} {flags}"), name);
        let address = published(&host, name, "80/tcp");
        let port = address.rsplit(':').next().expect("a port").to_owned();
        answers(&format!("[::1]:{port}"), name);
        if name == "w2" {
            assert!(http_get(&format!("127.0.0.1:{port}"), "/").is_none(), "bound to ::1 alone");
        }
    }
    host.ok("rm -f w1 w2");
}
