//! The program as its users meet it: the real binary, real containers, Docker's semantics.
//!
//! Every test has a data root and a network namespace for itself and asserts, by [`Host`]'s drop, that nothing is left
//! of it: no mount, process, cgroup, link, rule or socket. With `FLUYT_REFERENCE=docker` the same tests run against
//! Docker (in a network namespace that its daemon shares), to tell a wrong test from a wrong program.
#![forbid(unsafe_code)]

mod archives;
mod build;
mod build_cache;
mod build_files;
mod build_guards;
mod build_kills;
mod build_races;
mod build_real;
mod build_room;
mod build_sources;
mod build_web;
mod buildkit;
mod compose;
mod compose_attached;
mod compose_peers;
mod compose_real;
mod compose_remote;
mod compose_watch;
mod crash;
mod display;
mod docker_client;
mod docker_client_images;
mod docker_client_objects;
mod engine_fresh;
mod engine_input;
mod engine_kill;
mod engines;
mod errors;
mod exec;
mod files;
mod images;
mod kube_play;
mod lifecycle;
mod limits;
mod loggers;
mod logs;
mod manifests;
mod networks;
mod outputs;
mod parity;
mod pods;
mod quadlet;
mod registry;
mod remote;
mod replay;
mod reset;
mod run;
mod screen;
mod security;
mod served;
mod servers;
mod signing;
mod tokens;
mod users;
mod volumes;

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_fluyt");

/// A host with busybox loaded, or the end of the test when this user cannot have one.
macro_rules! host {
    () => {
        match fluyt_testkit::Host::with_box(crate::PROGRAM) {
            Some(host) => host,
            None => return,
        }
    };
}
use host;

/// The end of a test whose subject Docker does not have, or has otherwise.
macro_rules! ours_only {
    ($host:expr) => {
        if $host.is_reference() {
            return fluyt_testkit::skip("Docker differs on purpose");
        }
    };
}
use ours_only;

/// A container that stays until it is stopped, and ends at once then.
const STAY: &str = "trap 'exit 0' TERM; sleep 1000 & wait";

/// Starts a container that stays; its id.
fn stay(host: &fluyt_testkit::Host, flags: &str) -> String {
    let mut words = vec!["run", "-d"];
    words.extend(flags.split_whitespace());
    words.extend([fluyt_testkit::host::BOX, "sh", "-c", STAY]);
    host.ok_words(&words)
}
