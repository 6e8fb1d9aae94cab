//! `mounts`: kinds, options, places that try to escape.

use crate::bundle::Bundle;
use serde_json::json;

#[test]
fn tmpfs_with_options() {
    let Some(mut b) = Bundle::new() else { return };
    b.mount(json!({"destination": "/made/here", "type": "tmpfs", "source": "t",
        "options": ["nosuid", "nodev", "noexec", "ro", "size=64k", "mode=700"]}));
    let out = b.sh(
        "grep /made/here /proc/mounts; stat -c %a /made/here; touch /made/here/x 2>/dev/null || echo refused",
    );
    assert!(
        out.contains("ro,nosuid,nodev,noexec") && out.contains("size=64k") && out.ends_with("700\nrefused"),
        "{out}"
    );
}

#[test]
fn tmpfs_copies_up() {
    let Some(mut b) = Bundle::new() else { return };
    let dir = b.rootfs().join("data/sub");
    std::fs::create_dir_all(&dir).expect("dir");
    std::fs::write(dir.join("f"), "kept").expect("file");
    std::os::unix::fs::symlink("sub/f", b.rootfs().join("data/l")).expect("link");
    b.mount(json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}));
    assert_eq!(b.sh("cat /data/l; echo; echo new > /data/sub/f; stat -f -c %T /data"), "kept\ntmpfs");
    assert_eq!(std::fs::read_to_string(dir.join("f")).expect("file"), "kept");
}

#[test]
fn bind_of_directories_and_files() {
    let Some(mut b) = Bundle::new() else { return };
    std::fs::create_dir_all(b.scratch.join("src/sub")).expect("dir");
    std::fs::write(b.scratch.join("src/f"), "content").expect("file");
    // A relative source starts at the bundle.
    b.mount(json!({"destination": "/d", "source": "src", "type": "bind", "options": ["rbind", "ro"]}));
    b.mount(
        json!({"destination": "/etc/f", "source": b.scratch.join("src/f"), "options": ["bind", "rprivate"]}),
    );
    assert_eq!(
        b.sh("cat /d/f /etc/f; touch /d/x 2>/dev/null || echo refused; echo y >> /etc/f"),
        "contentcontentrefused"
    );
    assert_eq!(std::fs::read_to_string(b.scratch.join("src/f")).expect("file"), "contenty\n");
}

#[test]
fn recursive_attributes() {
    let Some(mut b) = Bundle::new() else { return };
    let src = b.scratch.join("src");
    std::fs::create_dir_all(src.join("sub")).expect("dir");
    // Two mounts in the container: the inner one is below the outer.
    b.mount(json!({"destination": "/o", "source": src, "options": ["rbind", "rro", "rnosuid"]}));
    let out = b.sh("grep ' /o ' /proc/mounts | cut -d' ' -f4; touch /o/sub/x 2>/dev/null || echo refused");
    assert!(out.starts_with("ro,nosuid") && out.ends_with("refused"), "{out}");
}

#[test]
fn a_link_in_the_root_does_not_lead_out() {
    let Some(mut b) = Bundle::new() else { return };
    let outside = b.scratch.join("outside");
    std::fs::create_dir(&outside).expect("dir");
    std::os::unix::fs::symlink(&outside, b.rootfs().join("escape")).expect("link");
    std::os::unix::fs::symlink("../../../../../../..", b.rootfs().join("up")).expect("link");
    b.mount(json!({"destination": "/escape", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]}));
    b.mount(json!({"destination": "/up/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["size=2m"]}));
    let out = b.sh("df | grep tmpfs | grep -E '1024|2048' | wc -l; touch /escape/inside");
    assert_eq!(out, "2");
    assert!(std::fs::read_dir(&outside).expect("dir").next().is_none(), "something was made outside");
}

#[test]
fn proc_cannot_be_covered_or_redirected() {
    let Some(mut b) = Bundle::new() else { return };
    b.mount(json!({"destination": "/proc/sys", "type": "tmpfs", "source": "tmpfs"}));
    let said = b.script("true").run();
    assert_ne!(said.code, 0, "a tmpfs over /proc/sys");
    let Some(mut b) = Bundle::new() else { return };
    std::fs::remove_dir(b.rootfs().join("proc")).expect("rmdir");
    std::os::unix::fs::symlink("/tmp", b.rootfs().join("proc")).expect("link");
    assert_ne!(b.script("true").run().code, 0, "proc behind a link");
}

#[test]
fn mapped_mounts() {
    let Some(mut b) = Bundle::new() else { return };
    let src = b.scratch.join("src");
    std::fs::create_dir_all(&src).expect("dir");
    std::fs::write(src.join("f"), "x").expect("file");
    std::os::unix::fs::chown(src.join("f"), Some(1000), Some(1000)).expect("chown");
    let map = json!([{"containerID": 1000, "hostID": 3000, "size": 10}]);
    b.mount(json!({"destination": "/m", "source": src, "options": ["bind"], "uidMappings": map, "gidMappings": map}));
    let said = b.script("stat -c %u:%g /m/f").run();
    if said.err.contains("mapping the ids") {
        fluyt_testkit::skip("the file system of the temporary directory cannot be mapped");
        return;
    }
    assert_eq!(said.ok(), "3000:3000");
}

#[test]
fn propagation_of_the_root() {
    let Some(mut b) = Bundle::new() else { return };
    for (name, word) in [("rshared", "shared:"), ("rprivate", ""), ("runbindable", "unbindable")] {
        b.spec["linux"]["rootfsPropagation"] = json!(name);
        let out = b.sh("grep ' / / ' /proc/self/mountinfo || grep ' / ' /proc/self/mountinfo | head -1");
        let has = if word.is_empty() { !out.contains("shared:") } else { out.contains(word) };
        assert!(has, "{name}: {out}");
    }
}

#[test]
fn cgroup_mount_shows_only_the_own_group() {
    let Some(mut b) = Bundle::new() else { return };
    b.mount(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}));
    let out = b.sh(
        "d=/sys/fs/cgroup; test -d $d/pids && d=$d/pids; cat $d/cgroup.procs | head -1; cat /proc/self/cgroup | grep -v ':/$' | wc -l",
    );
    assert_eq!(out, "1\n0");
}

#[test]
fn configured_devices() {
    let Some(mut b) = Bundle::new() else { return };
    b.spec["linux"]["devices"] = json!([
        {"path": "/dev/kmsg2", "type": "c", "major": 1, "minor": 11, "fileMode": 0o640, "uid": 3, "gid": 4},
        {"path": "/dev/sub/pipe", "type": "p", "fileMode": 0o600},
    ]);
    let out = b.sh("stat -c '%a %u %g %t:%T' /dev/kmsg2; stat -c %F /dev/sub/pipe; cat /dev/kmsg2 2>/dev/null || echo refused");
    assert_eq!(out, "640 3 4 1:b\nfifo\nrefused", "the node is there, the device rules forbid it");
}
