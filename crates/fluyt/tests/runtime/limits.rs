//! cgroups: limits arrive where the kernel enforces them.

use crate::bundle::Bundle;
use serde_json::json;

fn file(b: &Bundle, v1: (&str, &str), v2: &str) -> String {
    let dirs = b.cgroups();
    let dir = dirs.iter().find(|d| d.starts_with(format!("/sys/fs/cgroup/{}/", v1.0)));
    let path = dir.map_or_else(|| dirs[0].join(v2), |d| d.join(v1.1));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
}

#[test]
fn memory_cpu_and_pids() {
    let Some(mut b) = Bundle::new() else { return };
    b.spec["linux"]["resources"]["memory"] = json!({"limit": 64 << 20, "reservation": 32 << 20});
    b.spec["linux"]["resources"]["cpu"] =
        json!({"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0"});
    b.spec["linux"]["resources"]["pids"] = json!({"limit": 17});
    b.start_sleeping();
    assert_eq!(file(&b, ("memory", "memory.limit_in_bytes"), "memory.max"), (64 << 20).to_string());
    assert_eq!(file(&b, ("pids", "pids.max"), "pids.max"), "17");
    let quota = file(&b, ("cpu", "cpu.cfs_quota_us"), "cpu.max");
    assert!(quota == "50000" || quota == "50000 100000", "{quota}");
    assert_eq!(file(&b, ("cpuset", "cpuset.cpus"), "cpuset.cpus"), "0");
    assert_eq!(b.exec("grep Cpus_allowed_list /proc/self/status | cut -f2"), "0");
}

#[test]
fn a_process_over_the_memory_limit_dies() {
    let Some(mut b) = Bundle::new() else { return };
    b.spec["linux"]["resources"]["memory"] = json!({"limit": 16 << 20, "swap": 16 << 20});
    let said = b.script("dd if=/dev/zero of=/dev/null bs=64M count=1; echo survived").run();
    assert!(!said.out.contains("survived"), "{}", said.out);
}

#[test]
fn fork_bombs_end_at_the_limit() {
    let Some(mut b) = Bundle::new() else { return };
    b.spec["linux"]["resources"]["pids"] = json!({"limit": 8});
    let said = b.script("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 & done; echo all").run();
    assert!(!said.out.contains("all"), "{}", said.out);
}

#[test]
fn device_rules() {
    let Some(mut b) = Bundle::new() else { return };
    b.spec["process"]["capabilities"]["bounding"] = json!(["CAP_MKNOD", "CAP_SYSLOG"]);
    b.spec["process"]["capabilities"]["effective"] = json!(["CAP_MKNOD", "CAP_SYSLOG"]);
    b.spec["process"]["capabilities"]["permitted"] = json!(["CAP_MKNOD", "CAP_SYSLOG"]);
    let try_kmsg = "mknod /dev/k c 1 11; head -c0 /dev/null && echo null; (exec 3</dev/k) 2>/dev/null && echo kmsg; true";
    assert_eq!(b.sh(try_kmsg), "null");
    b.spec["linux"]["resources"]["devices"] = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]);
    assert_eq!(b.sh(try_kmsg), "null\nkmsg");
}

#[test]
fn update_changes_a_running_container() {
    let Some(mut b) = Bundle::new() else { return };
    b.start_sleeping();
    let id = b.id.clone();
    b.runtime(&[
        "update",
        "--memory",
        "50331648",
        "--pids-limit",
        "33",
        "--cpu-quota",
        "20000",
        "--cpu-period",
        "100000",
        &id,
    ])
    .ok();
    assert_eq!(file(&b, ("memory", "memory.limit_in_bytes"), "memory.max"), "50331648");
    assert_eq!(file(&b, ("pids", "pids.max"), "pids.max"), "33");
    let path = b.scratch.join("r.json");
    std::fs::write(&path, r#"{"pids":{"limit":44}}"#).expect("file");
    b.runtime(&["update", "-r", path.to_str().expect("utf-8"), &id]).ok();
    assert_eq!(file(&b, ("pids", "pids.max"), "pids.max"), "44");
    assert_eq!(
        file(&b, ("memory", "memory.limit_in_bytes"), "memory.max"),
        "50331648",
        "what is not named stays"
    );
}

#[test]
fn statistics() {
    let Some(mut b) = Bundle::new() else { return };
    b.start_sleeping();
    let id = b.id.clone();
    let line: serde_json::Value =
        serde_json::from_str(&b.runtime(&["events", "--stats", &id]).ok()).expect("json");
    assert_eq!(line["type"], "stats");
    assert_eq!(line["data"]["pids"]["current"], 1);
    assert!(line["data"]["memory"]["usage"]["usage"].as_u64().is_some_and(|u| u > 0), "{line}");
}
