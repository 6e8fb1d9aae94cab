//! Namespaces: new, joined, shared, mapped.

use crate::bundle::Bundle;
use serde_json::json;

#[test]
fn new_ones_are_apart_and_configured() {
    let Some(mut b) = Bundle::new() else { return };
    b.spec["domainname"] = json!("nis");
    let out = b.sh(
        "hostname; cat /proc/sys/kernel/domainname; echo $$; ls /sys/class/net; cat /sys/class/net/lo/flags",
    );
    assert_eq!(out, "box\nnis\n1\nlo\n0x9");
}

#[test]
fn joined_by_path() {
    let Some(mut a) = Bundle::new() else { return };
    a.spec["hostname"] = json!("first");
    a.start_sleeping();
    let pid = a.state()["pid"].as_i64().expect("pid");
    let Some(mut b) = Bundle::new() else { return };
    for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")] {
        b.namespace(json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")}));
    }
    b.spec["hostname"] = json!("");
    let out = b.sh(
        "hostname; ps | grep -c '[s]leep 1000'; for n in net ipc uts pid; do readlink /proc/self/ns/$n; done",
    );
    let theirs: Vec<String> = ["net", "ipc", "uts", "pid"]
        .iter()
        .map(|n| std::fs::read_link(format!("/proc/{pid}/ns/{n}")).expect("ns").display().to_string())
        .collect();
    assert_eq!(out, format!("first\n1\n{}", theirs.join("\n")));
}

#[test]
fn user_namespace_with_mappings() {
    let Some(mut b) = Bundle::new() else { return };
    b.namespace(json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    b.spec["linux"]["uidMappings"] = map.clone();
    b.spec["linux"]["gidMappings"] = map;
    std::os::unix::fs::chown(b.rootfs(), Some(100_000), Some(100_000)).expect("chown");
    let out = b.sh("id -u; cat /proc/self/uid_map | tr -s ' '; stat -c %t:%T /dev/null; echo x > /dev/null; touch /new; grep CapEff /proc/self/status | cut -f2");
    assert!(out.starts_with("0\n 0 100000 65536\n1:3\n"), "{out}");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(b.rootfs().join("new")).expect("file").uid(), 100_000);
}

#[test]
fn exec_into_a_user_namespace() {
    let Some(mut b) = Bundle::new() else { return };
    b.namespace(json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    b.spec["linux"]["uidMappings"] = map.clone();
    b.spec["linux"]["gidMappings"] = map;
    b.start_sleeping();
    assert_eq!(b.exec("id -u; cat /proc/self/uid_map | tr -s ' '; test $(readlink /proc/self/ns/mnt) = $(readlink /proc/1/ns/mnt) && echo same"), "0\n 0 100000 65536\nsame");
}

#[test]
fn time_namespace_with_offsets() {
    let Some(mut b) = Bundle::new() else { return };
    b.namespace(json!({"type": "time"}));
    b.spec["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000, "nanosecs": 0}});
    let out = b.sh("cut -d. -f1 /proc/uptime; tr -s ' ' < /proc/self/timens_offsets");
    let uptime: u64 = out.lines().next().and_then(|l| l.parse().ok()).expect("uptime");
    assert!(uptime >= 1_000_000 && out.contains("boottime 1000000 0"), "{out}");
    b.start_sleeping();
    let uptime: u64 = b.exec("cut -d. -f1 /proc/uptime").parse().expect("uptime");
    assert!(uptime >= 1_000_000, "exec joins the time namespace: {uptime}");
}

#[test]
fn kernel_parameters_of_namespaces() {
    let Some(mut b) = Bundle::new() else { return };
    b.spec["linux"]["sysctl"] =
        json!({"net.ipv4.ip_forward": "1", "kernel.shmmax": "123456", "kernel.domainname": "d"});
    assert_eq!(
        b.sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax /proc/sys/kernel/domainname"),
        "1\n123456\nd"
    );
    b.spec["linux"]["sysctl"] = json!({"vm.swappiness": "1"});
    b.run().fails(1, "vm.swappiness");
}

#[test]
fn without_a_pid_namespace_delete_ends_everything() {
    let Some(mut b) = Bundle::new() else { return };
    b.spec["linux"]["namespaces"].as_array_mut().expect("list").retain(|n| n["type"] != "pid");
    b.spec["process"]["args"] = json!(["/bin/sh", "-c", "sleep 1000 & exec sleep 1000"]);
    b.write_config();
    let id = b.id.clone();
    b.runtime(&["run", "-d", &id]).ok();
    b.runtime(&["delete", "--force", &id]).ok();
}
