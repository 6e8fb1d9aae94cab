//! A child that fails while its parent prepares the network: what is reported is the child's reason.

use std::os::fd::AsFd;

use fluyt_runtime::{Launch, Rootfs, launch};

#[test]
fn the_childs_reason_is_told_not_what_its_death_broke() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("rootfs");
    std::fs::create_dir(&root).expect("its root");
    let id = format!("fluyt-early-{}", std::process::id());
    let spec = serde_json::json!({
        "ociVersion": "1.2.0",
        "root": { "path": "rootfs" },
        "process": { "cwd": "/", "args": ["/bin/true"], "user": { "uid": 0, "gid": 0 } },
        "mounts": [{ "destination": "/data", "type": "bind", "source": "/no/such/source", "options": ["bind"] }],
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "network" }],
        },
    });
    let spec = serde_json::from_value(spec).expect("a configuration");
    let starting = launch(Launch::new(&id, spec, dir.path(), Rootfs::Dir(root))).expect("the child is born");
    let ended = fluyt_sys::clone::wait_exit(starting.pidfd().as_fd(), 10_000).expect("poll");
    assert!(ended, "the child fails by itself");
    let error = starting.netns().expect_err("its namespaces are gone with it");
    assert!(error.chain().contains("/no/such/source"), "{}", error.chain());
}
