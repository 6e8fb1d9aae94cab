//! Reserving ports, and links of the host.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;

use common::*;
use fluyt_model::Kind;
use fluyt_net::{
    EndpointSpec, Link, MacvlanMode, PortMapping, Protocol, attach, ensure_bridge, publish, reserve,
};
use fluyt_testkit::netns::Namespace;

fn port(host_ip: Option<&str>, host_port: u16, protocol: Protocol) -> PortMapping {
    let host_ip = host_ip.map(|ip| ip.parse().unwrap());
    PortMapping { host_ip, host_port, container_port: 80, protocol, ..PortMapping::default() }
}

#[test]
fn a_port_is_had_once() {
    let _w = World::new();
    let held = reserve(&port(None, 8080, Protocol::Tcp)).unwrap();
    for ip in [None, Some("127.0.0.1"), Some("0.0.0.0"), Some("::")] {
        let e = reserve(&port(ip, 8080, Protocol::Tcp)).unwrap_err();
        assert_eq!(e.kind(), Kind::Conflict);
        assert!(e.to_string().starts_with("failed to bind host port "), "{e}");
        assert!(e.to_string().ends_with(":8080/tcp: address already in use"), "{e}");
        assert!(e.hint().is_some());
    }
    assert!(TcpListener::bind("0.0.0.0:8080").is_err(), "nobody else gets it");
    assert!(TcpListener::bind("[::]:8080").is_err());
    reserve(&port(None, 8080, Protocol::Udp)).unwrap();
    drop(held);
    reserve(&port(None, 8080, Protocol::Tcp)).unwrap();
    let other = UdpSocket::bind("127.0.0.1:5300").unwrap();
    assert_eq!(reserve(&port(None, 5300, Protocol::Udp)).unwrap_err().kind(), Kind::Conflict);
    drop(other);
    let e = reserve(&port(Some("203.0.113.7"), 1, Protocol::Tcp)).unwrap_err();
    assert_eq!((e.kind(), e.to_string().contains("203.0.113.7:1/tcp")), (Kind::Invalid, true));
}

#[test]
fn the_kernel_picks_a_port() {
    let _w = World::new();
    let picked = reserve(&port(None, 0, Protocol::Tcp)).unwrap();
    assert!(picked.port > 1024);
    assert!(TcpListener::bind(("0.0.0.0", picked.port)).is_err());
}

#[test]
fn a_lingering_connection_does_not_hold_the_port() {
    let _w = World::new();
    let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
    let client = TcpStream::connect("127.0.0.1:8080").unwrap();
    let (server, _) = listener.accept().unwrap();
    // The side that closes first lingers: the server's.
    drop(server);
    drop(listener);
    drop(client);
    let held = reserve(&port(None, 8080, Protocol::Tcp)).unwrap();
    assert_eq!(reserve(&port(None, 8080, Protocol::Tcp)).unwrap_err().kind(), Kind::Conflict);
    assert!(TcpStream::connect("127.0.0.1:8080").is_err(), "nobody listens");
    drop(held);
}

#[test]
fn a_stale_owner_is_replaced() {
    let w = World::new();
    let net = bridge("fy-a", 1);
    ensure_bridge(&w.scope, &net).unwrap();
    let (a, b) = (w.container(&net, 2), w.container(&net, 3));
    publish(&w.scope, "a", &[a.mapping(None, 8080)]).unwrap();
    b.namespace.run(|| ip("link set lo up"));
    // The monitor of `a` was killed; `b` got the port.
    publish(&w.scope, "b", &[b.mapping(None, 8080)]).unwrap();
    publish(&w.scope, "b", &[b.mapping(None, 8080)]).unwrap();
    fluyt_net::unpublish(&w.scope, "a", &[a.mapping(None, 8080)]).unwrap();
    assert!(tool("nft", "list ruleset").contains("comment \"b\" : 172.29.1.3"));
    assert!(ask("127.0.0.1", 8080).is_some());
}

#[test]
fn macvlan_links_sit_on_the_hosts_wire() {
    let w = World::new();
    let endpoint = |n: u8| EndpointSpec {
        link: Link::Macvlan { parent: "wire".into(), mode: MacvlanMode::Bridge },
        container_ifname: "eth0".into(),
        mac: None,
        addresses: vec![format!("192.0.2.{n}/24").parse().unwrap()],
        gateways: vec![OUTSIDE.parse().unwrap()],
        routes: Vec::new(),
        mtu: None,
        sysctls: vec![("net.ipv4.conf.IFNAME.log_martians".into(), "1".into())],
    };
    let (a, b) = (Namespace::new(), Namespace::new());
    attach(&endpoint(50), a.as_fd()).unwrap();
    attach(&endpoint(51), b.as_fd()).unwrap();
    b.run(|| serve(80));
    w.outside.run(|| serve(7000));
    a.run(|| {
        assert_eq!(ask("192.0.2.51", 80).as_deref(), Some("192.0.2.50"));
        assert_eq!(ask(OUTSIDE, 7000).as_deref(), Some("192.0.2.50"));
        assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/conf/eth0/log_martians").unwrap().trim(), "1");
        assert!(!tool("ip", "-6 addr show eth0").contains("inet6"), "no IPv6 without an address");
    });
    let missing = EndpointSpec {
        link: Link::Macvlan { parent: "nowhere".into(), mode: MacvlanMode::Bridge },
        ..endpoint(52)
    };
    let e = attach(&missing, a.as_fd()).unwrap_err();
    assert_eq!((e.kind(), e.to_string().contains("nowhere")), (Kind::NotFound, true));
}

#[test]
fn a_failed_attachment_leaves_nothing() {
    let w = World::new();
    let net = bridge("fy-a", 1);
    ensure_bridge(&w.scope, &net).unwrap();
    let namespace = Namespace::new();
    let mut endpoint = w.endpoint(&net, 2);
    endpoint.gateways = vec!["198.51.100.1".parse().unwrap()];
    let before = tool("ip", "-o link");
    let e = attach(&endpoint, namespace.as_fd()).unwrap_err();
    assert!(e.chain().contains("eth0") && e.chain().contains("route"), "{}", e.chain());
    let names =
        |text: &str| text.lines().map(|l| l.split(':').nth(1).unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&before), names(&tool("ip", "-o link")));
    namespace.run(|| assert_eq!(tool("ip", "-o link").lines().count(), 1, "only the loopback"));
    endpoint.gateways.clear();
    endpoint.sysctls = vec![("kernel.hostname".into(), "x".into())];
    assert_eq!(attach(&endpoint, namespace.as_fd()).unwrap_err().kind(), Kind::Invalid);
}
