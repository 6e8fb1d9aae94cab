//! What the calls on the way of every start cost. Wide limits: the machine may be busy; the medians are printed.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use common::*;
use fluyt_net::{Firewall, attach, ensure_bridge, reserve};
use fluyt_testkit::netns::Namespace;
use fluyt_testkit::wait::patience;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn timed<T>(into: &mut Vec<Duration>, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    into.push(start.elapsed());
    done
}

#[test]
fn a_start_costs_little() {
    const ROUNDS: u8 = 40;
    let w = World::new();
    let net = bridge("fy-a", 1);
    ensure_bridge(&w.scope, &net).unwrap();
    let mut firewall = Firewall::open().unwrap();
    let namespaces: Vec<Namespace> = (0..ROUNDS).map(|_| Namespace::new()).collect();
    let mut times: [Vec<Duration>; 5] = std::array::from_fn(|_| Vec::new());
    for (n, namespace) in (2_u8..).zip(&namespaces) {
        let endpoint = w.endpoint(&net, n);
        let container = Container { namespace: Namespace::new(), endpoint: endpoint.clone() };
        let mapping = container.mapping(None, 9000 + u16::from(n));
        timed(&mut times[0], || firewall.ensure_bridge(&w.scope, &net)).unwrap();
        timed(&mut times[1], || attach(&endpoint, namespace.as_fd())).unwrap();
        let held = timed(&mut times[2], || reserve(&mapping)).unwrap();
        timed(&mut times[3], || firewall.publish(&w.scope, "c", std::slice::from_ref(&mapping))).unwrap();
        timed(&mut times[4], || firewall.unpublish(&w.scope, "c", &[mapping])).unwrap();
        drop(held);
    }
    let names = ["ensure_bridge", "attach", "reserve", "publish", "unpublish"];
    for (name, times) in names.into_iter().zip(times) {
        let median = median(times);
        eprintln!("{name:14} {median:?}");
        assert!(median < Duration::from_millis(patience(20)), "{name}: {median:?}");
    }
}
