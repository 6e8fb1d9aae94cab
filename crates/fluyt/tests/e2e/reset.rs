//! `system reset`: nothing of a data root remains, on disk or on the host.

use crate::{host, ours_only, stay};

#[test]
fn a_reset_leaves_nothing_but_what_is_not_ours() {
    let host = host!();
    ours_only!(host);
    host.ok("network create other");
    stay(&host, "--name c1 --restart always --network other -p 80 -v data:/data --ipc shareable");
    stay(&host, "--name c2");
    let refused = host.fails(1, "--force", "system reset");
    assert!(refused.stderr.contains(&host.root().display().to_string()), "{refused:?}");
    assert_eq!(host.ok("ps -q").lines().count(), 2, "nothing was done");
    // A volume that is a mount: what is on the other side is not ours.
    let elsewhere = host.scratch().join("elsewhere");
    std::fs::create_dir(&elsewhere).expect("made");
    std::fs::write(elsewhere.join("data"), "theirs").expect("written");
    let bind = format!("volume create -o type=none -o o=bind -o device={} bound", elsewhere.display());
    host.ok(&bind);
    assert_eq!(host.sh("-v bound:/b", "cat /b/data"), "theirs");
    std::fs::write(host.root().join("mine"), "kept").expect("written");
    host.ok("system reset --force");
    let left: Vec<_> =
        std::fs::read_dir(host.root()).expect("the root").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["mine"], "what is not ours stays");
    assert!(elsewhere.join("data").exists());
    gone(&host);
    std::fs::remove_file(host.root().join("mine")).expect("removed");
    // It can be used again at once, and reset when it is empty.
    assert_eq!(host.ok("images -q"), "");
    host.ok("system reset -f");
    assert!(!host.root().exists());
    host.ok("system reset -f");
    assert!(!host.root().exists());
}

#[test]
fn what_a_root_deleted_by_hand_has_left_goes_too() {
    let host = host!();
    ours_only!(host);
    host.ok("network create other");
    stay(&host, "--name c1 --network other -p 80");
    stay(&host, "--name c2 --restart always");
    std::fs::remove_dir_all(host.root()).expect("deleted by hand");
    host.ok("system reset --force");
    gone(&host);
}

/// Nothing of the root is left on the host: no link, table, cgroup, run directory or process.
fn gone(host: &fluyt_testkit::Host) {
    let list = |program: &str, arguments: &[&str]| {
        let output = std::process::Command::new(program).args(arguments).output().expect(program);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    fluyt_testkit::wait::until("everything to be gone", 20, || {
        let links = list("ip", &["-brief", "link"]);
        let tables = list("nft", &["list", "tables"]);
        let clean = !links.contains("fy-")
            && !tables.contains(&host.scope().hash())
            && host.scope().cgroup_directories().is_empty()
            && !host.scope().run().exists()
            && host.leaks().is_empty();
        clean.then_some(())
    });
}
