//! System call filters in the kernel, not only in the interpreter of the unit tests.

use crate::bundle::Bundle;
use serde_json::json;

#[test]
fn calls_fail_as_the_filter_says() {
    for nnp in [true, false] {
        let Some(mut b) = Bundle::new() else { return };
        b.spec["process"]["noNewPrivileges"] = json!(nnp);
        b.spec["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [
                {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
                {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]},
            ],
        });
        let out = b.sh("mkdir /tmp/x 2>&1 || true; kill -USR1 1 2>&1 || true; kill -0 1 && echo alive; grep ^Seccomp: /proc/self/status | cut -f2");
        assert!(out.contains("No space left on device"), "{out}");
        assert!(
            out.contains("Operation not permitted") && out.contains("alive") && out.ends_with('2'),
            "{out}"
        );
    }
}

/// A profile may be older than the calls by which the runtime itself tidies up.
#[test]
fn a_created_container_needs_no_new_calls_behind_its_filter() {
    for nnp in [true, false] {
        let Some(mut b) = Bundle::new() else { return };
        b.spec["process"]["noNewPrivileges"] = json!(nnp);
        let new =
            ["close_range", "openat2", "clone3", "signalfd4", "pidfd_open", "faccessat2", "mount_setattr"];
        b.spec["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": new, "action": "SCMP_ACT_ERRNO"}],
        });
        b.script("true");
        b.write_config();
        b.runtime(&["create", &b.id]).ok();
        b.runtime(&["start", &b.id]).ok();
    }
}

#[test]
fn killing_actions_kill() {
    let Some(mut b) = Bundle::new() else { return };
    b.spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}],
    });
    let out = b.sh("mkdir /tmp/x || echo code $?");
    assert!(out.contains("code 159"), "{out}");
}

#[test]
fn exec_gets_the_filter_too() {
    let Some(mut b) = Bundle::new() else { return };
    b.spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
    });
    b.start_sleeping();
    assert!(b.exec("mkdir /tmp/x 2>&1 || true").contains("No space left"));
}

#[test]
fn the_listener_gets_its_descriptor_and_the_state() {
    let Some(mut b) = Bundle::new() else { return };
    let path = b.scratch.join("agent.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("socket");
    b.spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": path,
        "listenerMetadata": "meta",
        "syscalls": [{"names": ["chroot"], "action": "SCMP_ACT_NOTIFY"}],
    });
    b.start_sleeping();
    let (connection, _) = listener.accept().expect("connection");
    let mut buffer = [0u8; 65536];
    let (n, fds) =
        fluyt_sys::pass::receive(std::os::fd::AsFd::as_fd(&connection), &mut buffer).expect("message");
    let state: serde_json::Value = serde_json::from_slice(&buffer[..n]).expect("json");
    assert_eq!((fds.len(), &state["metadata"], &state["state"]["id"]), (1, &json!("meta"), &json!(b.id)));
    assert_eq!(state["fds"], json!(["seccompFd"]));
}
