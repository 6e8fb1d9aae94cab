//! Repair with the real kernel: whatever is broken, one round puts it right and the next one finds nothing to do.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use fluyt_net::{Desired, ensure_bridge, forward_guards, host_routes, reconcile};

#[test]
fn whatever_is_broken_is_put_right() {
    let w = World::new();
    let net = bridge("fy-a", 1);
    let desired = |published| Desired { bridges: vec![net.clone(), bridge("fy-b", 2)], published };
    assert!(!reconcile(&w.scope, &desired(Vec::new())).unwrap().is_empty());
    let again = reconcile(&w.scope, &desired(Vec::new())).unwrap();
    assert!(again.is_empty(), "{again}");
    ensure_bridge(&w.scope, &net).unwrap();
    let a = w.container(&net, 2);
    let all = desired(vec![("a".to_owned(), vec![a.mapping(None, 8080), a.mapping(Some("127.0.0.1"), 81)])]);
    let table = w.scope.table();
    let damages = [
        ("nft", "flush ruleset".to_owned()),
        ("nft", format!("flush chain inet {table} forward")),
        ("nft", format!("delete element inet {table} egress {{ fy-a }}")),
        ("nft", format!("add element inet {table} dnat4 {{ udp . 99 : 10.0.0.1 . 99 }}")),
        ("ip", "addr del 172.29.1.1/24 dev fy-a".to_owned()),
        ("ip", "addr add 172.29.1.9/24 dev fy-a".to_owned()),
        ("ip", "link set fy-a down".to_owned()),
        ("ip", "link del fy-b".to_owned()),
    ];
    for (program, damage) in damages {
        let before = reconcile(&w.scope, &all).unwrap();
        let again = reconcile(&w.scope, &all).unwrap();
        assert!(again.is_empty(), "after\n{before}comes\n{again}");
        tool(program, &damage);
        let plan = reconcile(&w.scope, &all).unwrap();
        assert!(!plan.is_empty(), "{damage} is noticed");
    }
    reconcile(&w.scope, &all).unwrap();
    w.outside.run(|| assert!(ask(HOST, 8080).is_some()));
    let gone = reconcile(&w.scope, &Desired::default()).unwrap();
    assert!(gone.to_string().contains("remove bridge fy-a"), "{gone}");
    assert!(!tool("ip", "link").contains("fy-"));
}

#[test]
fn guards_and_routes_of_the_host_are_seen() {
    let _w = World::new();
    assert!(forward_guards().unwrap().is_empty());
    tool("nft", "add table ip filter");
    tool("nft", "add chain ip filter FORWARD { type filter hook forward priority 0 ; policy drop ; }");
    assert_eq!(forward_guards().unwrap(), ["ip filter FORWARD"]);
    ip("route add 10.0.0.0/8 via 192.0.2.9");
    let routes: Vec<String> = host_routes().unwrap().iter().map(ToString::to_string).collect();
    for route in ["192.0.2.0/24", "10.0.0.0/8", "2001:db8::/64"] {
        assert!(routes.iter().any(|r| r == route), "{route} in {routes:?}");
    }
}
