//! `process`: identity, rights, limits, scheduling.

use crate::bundle::Bundle;
use serde_json::json;

#[test]
fn user_groups_and_umask() {
    let Some(mut b) = Bundle::new() else { return };
    b.spec["process"]["user"] = json!({"uid": 1000, "gid": 100, "umask": 0o027, "additionalGids": [5, 7]});
    let out = b.sh("id -u; id -g; id -G; umask; pwd");
    assert_eq!(out, "1000\n100\n100 5 7\n0027\n/");
}

#[test]
fn capabilities_are_exactly_those_given() {
    let Some(mut b) = Bundle::new() else { return };
    let set = json!(["CAP_CHOWN", "CAP_KILL"]);
    b.spec["process"]["capabilities"] = json!({"bounding": set, "effective": set, "permitted": set, "inheritable": set, "ambient": ["CAP_KILL"]});
    b.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    let out = b.sh("grep ^Cap /proc/self/status | cut -f2");
    assert_eq!(
        out.lines().collect::<Vec<_>>(),
        ["0000000000000021", "0000000000000020", "0000000000000020", "0000000000000021", "0000000000000020"]
    );
    b.spec["process"]["capabilities"] = json!(null);
    assert_eq!(b.sh("grep ^CapBnd /proc/self/status | cut -f2"), "0000000000000000");
}

#[test]
fn no_new_privileges() {
    let Some(mut b) = Bundle::new() else { return };
    assert_eq!(b.sh("grep NoNewPrivs /proc/self/status | cut -f2"), "1");
    b.spec["process"]["noNewPrivileges"] = json!(false);
    assert_eq!(b.sh("grep NoNewPrivs /proc/self/status | cut -f2"), "0");
}

#[test]
fn limits_and_scores() {
    let Some(mut b) = Bundle::new() else { return };
    b.spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
    b.spec["process"]["oomScoreAdj"] = json!(500);
    assert_eq!(b.sh("ulimit -n; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj"), "100\n200\n0\n500");
    b.spec["process"]["rlimits"] = json!([{"type": "RLIMIT_FOO", "soft": 1, "hard": 1}]);
    b.run().fails(1, "RLIMIT_FOO");
}

#[test]
fn scheduling() {
    let Some(mut b) = Bundle::new() else { return };
    b.spec["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
    b.spec["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0});
    let out = b.sh("grep ^policy /proc/self/sched 2>/dev/null | tr -dc 0-9; echo; cut -d' ' -f19 /proc/$$/stat; ionice -p $$");
    assert!(out.ends_with("5\nidle"), "{out}");
}

#[test]
fn personality_and_keyring() {
    let Some(mut b) = Bundle::new() else { return };
    b.spec["linux"]["personality"] = json!({"domain": "LINUX32"});
    assert_eq!(b.sh("uname -m"), "i686");
}

#[test]
fn the_working_directory_is_made_and_home_is_found() {
    let Some(mut b) = Bundle::new() else { return };
    std::fs::write(b.rootfs().join("etc/passwd"), "a:x:7:7::/home/seven:/bin/sh\n").expect("passwd");
    b.spec["process"]["cwd"] = json!("/deep/down");
    b.spec["process"]["env"] = json!(["PATH=/bin"]);
    b.spec["process"]["user"] = json!({"uid": 7, "gid": 7});
    assert_eq!(b.sh("pwd; echo $HOME"), "/deep/down\n/home/seven");
}

#[test]
fn a_terminal_goes_to_the_console_socket() {
    let Some(mut b) = Bundle::new() else { return };
    use std::io::Read;
    b.spec["process"]["terminal"] = json!(true);
    b.spec["process"]["consoleSize"] = json!({"height": 33, "width": 77});
    b.script(
        "test -t 0 && stty size && tty && stat -c %t:%T /dev/console >/dev/null && echo done; sleep 0.2",
    );
    b.write_config();
    let path = b.scratch.join("console.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("socket");
    let id = b.id.clone();
    b.runtime(&["create", "--console-socket", path.to_str().expect("utf-8"), &id]).ok();
    let (connection, _) = listener.accept().expect("connection");
    let mut buffer = [0u8; 4096];
    let (_, mut fds) =
        fluyt_sys::pass::receive(std::os::fd::AsFd::as_fd(&connection), &mut buffer).expect("message");
    let mut master = std::fs::File::from(fds.pop().expect("a descriptor"));
    b.runtime(&["start", &id]).ok();
    let mut text = Vec::new();
    // The end of a terminal is an error (EIO).
    let _ = master.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.contains("33 77") && text.contains("/dev/pts/0") && text.contains("done"), "{text}");
}
