//! What the callers of other runtimes rely on beyond the specification, and what newer versions of it added.

use std::time::Duration;

use crate::bundle::Bundle;
use serde_json::{Value, json};

/// A check of our own texts and extras, which a peer need not have.
fn with_peer() -> bool {
    std::env::var_os("FLUYT_TEST_RUNTIME").is_some()
}

#[test]
fn the_environment_has_each_name_once() {
    let Some(mut b) = Bundle::new() else { return };
    std::fs::write(b.rootfs().join("etc/passwd"), "root:x:0:0::/roots:/bin/sh\n").expect("passwd");
    b.spec["process"]["env"] = json!(["A=1", "PATH=/bin", "HOME=/x", "A=2", "HOME="]);
    b.spec["process"]["args"] = json!(["/bin/env"]);
    let mut lines: Vec<String> = b.run().ok().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["A=2", "HOME=/roots", "PATH=/bin"]);
}

#[test]
fn capabilities_of_exec_are_not_inheritable() {
    let Some(mut b) = Bundle::new() else { return };
    let caps = |b: &Bundle| -> Vec<String> {
        let text =
            b.runtime(&["exec", "--cap", "CAP_CHOWN", &b.id, "grep", "^Cap", "/proc/self/status"]).ok();
        text.lines().filter_map(|l| l.split_whitespace().nth(1)).map(|v| v[8..].to_owned()).collect()
    };
    b.spec["process"]["capabilities"] = json!({});
    b.start_sleeping();
    assert_eq!(caps(&b), ["00000000", "00000001", "00000001", "00000001", "00000000"]);
    b.runtime(&["delete", "--force", &b.id]).ok();
    let set = json!(["CAP_KILL", "CAP_CHOWN"]);
    b.spec["process"]["capabilities"] = json!({"bounding": set, "permitted": set, "inheritable": set});
    b.start_sleeping();
    assert_eq!(caps(&b)[4], "00000001", "ambient, for it is inheritable");
}

#[test]
fn an_ambient_capability_that_cannot_be_raised_is_a_warning() {
    let Some(mut b) = Bundle::new() else { return };
    let set = json!(["CAP_KILL", "CAP_CHOWN"]);
    b.spec["process"]["capabilities"] = json!({"bounding": set, "permitted": set, "effective": set, "inheritable": ["CAP_KILL"], "ambient": set});
    let said = b.script("grep ^CapAmb /proc/self/status | cut -f2").run();
    assert!(said.err.contains("can't raise ambient capability CAP_CHOWN: "), "{}", said.err);
    assert_eq!(said.ok(), "0000000000000020");
}

#[test]
fn a_capability_can_stand_for_the_right_to_execute() {
    let Some(mut b) = Bundle::new() else { return };
    let tool = b.rootfs().join("bin/busybox-of-root");
    std::fs::copy("/bin/busybox", &tool).expect("copy");
    std::fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o744)).expect("mode");
    let set = json!(["CAP_DAC_OVERRIDE"]);
    b.spec["process"]["capabilities"] =
        json!({"bounding": set, "permitted": set, "effective": set, "inheritable": set, "ambient": set});
    b.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    b.spec["process"]["args"] = json!(["/bin/busybox-of-root", "true"]);
    b.run().ok();
}

#[test]
fn a_container_is_not_confined_to_the_cpus_of_its_caller() {
    let Some(mut b) = Bundle::new() else { return };
    let all = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = |text: &str| text.lines().find(|l| l.starts_with("Cpus_allowed_list")).map(str::to_owned);
    b.script("cat /proc/self/status");
    b.write_config();
    let command = b.command(&["run", &b.id]);
    let args = command.get_args().map(ToOwned::to_owned);
    let mut confined = std::process::Command::new("taskset");
    confined.args(["-c", "0"]).arg(command.get_program()).args(args).current_dir(b.scratch.path());
    let Ok(output) = confined.output() else { return fluyt_testkit::skip("needs taskset (util-linux)") };
    assert_eq!(line(&String::from_utf8_lossy(&output.stdout)), line(&all));
}

#[test]
fn a_cgroup_in_use_is_refused_and_left_alone() {
    let Some(mut b) = Bundle::new() else { return };
    b.start_sleeping();
    let second = format!("{}-second", b.id);
    b.runtime(&["run", "-d", &second]).fails(1, "container's cgroup is not empty");
    assert_eq!(b.status(), "running");
    assert!(!b.cgroups().is_empty());
    b.runtime(&["delete", "--force", &second]).ok();
}

#[test]
fn exec_goes_into_groups_below_the_containers_only() {
    let Some(mut b) = Bundle::new() else { return };
    b.start_sleeping();
    let id = b.id.clone();
    b.runtime(&["exec", "--cgroup", "..", &id, "true"]).fails(255, "bad sub cgroup path");
    b.runtime(&["exec", "--cgroup", "missing", &id, "true"]).fails(255, " adding pid ");
    b.runtime(&["exec", "--cgroup", "what:/", &id, "true"]).fails(255, "unknown controller");
    let own = b.cgroups();
    for dir in &own {
        std::fs::create_dir(dir.join("sub")).expect("sub group");
    }
    // A new cpuset of version 1 has no CPUs: another controller, then.
    let old = std::path::Path::new("/sys/fs/cgroup/pids").exists();
    let sub = if old { "pids:sub" } else { "sub" };
    let text = b.runtime(&["exec", "--cgroup", sub, &id, "cat", "/proc/self/cgroup"]).ok();
    assert!(text.lines().any(|l| l.ends_with("/sub")), "{text}");
}

#[test]
fn the_end_of_a_container_without_pid_namespace_is_the_end_of_all_of_it() {
    let Some(mut b) = Bundle::new() else { return };
    b.spec["linux"]["namespaces"].as_array_mut().expect("list").retain(|n| n["type"] != "pid");
    b.start_sleeping();
    let id = b.id.clone();
    b.runtime(&["exec", "-d", &id, "sleep", "1000"]).ok();
    b.runtime(&["kill", &id, "0"]).ok();
    b.runtime(&["kill", &id, "KILL"]).ok();
    let pids = || b.runtime(&["ps", "--format", "json", &id]).out;
    for _ in 0..200 {
        if matches!(pids().trim(), "[]" | "null") {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(matches!(pids().trim(), "[]" | "null"), "{}", pids());
    b.runtime(&["kill", &id, "0"]).fails(1, "container not running");
}

#[test]
fn documents_have_their_fields_in_order() {
    let Some(mut b) = Bundle::new() else { return };
    b.start_sleeping();
    let (id, start) = (b.id.clone(), |text: String| text.split(':').next().map(str::to_owned));
    let list = b.runtime(&["list", "--format", "json"]).ok();
    assert_eq!(start(list), Some("[{\"ociVersion\"".to_owned()));
    let stats = b.runtime(&["events", "--stats", &id]).ok();
    assert!(stats.starts_with(&format!("{{\"type\":\"stats\",\"id\":\"{id}\",\"data\":{{")), "{stats}");
    let elsewhere = b.scratch.join("nowhere");
    let mut command = b.command(&[]);
    command.arg("--root").arg(elsewhere).arg("list");
    assert!(!command.output().expect("list").status.success(), "a root that was named and is not there");
}

#[test]
fn a_terminal_in_the_foreground_gives_plain_lines() {
    let Some(mut b) = Bundle::new() else { return };
    b.spec["process"]["terminal"] = json!(true);
    if with_peer() {
        return;
    }
    let out = b.script("echo a; echo b").run().out;
    assert_eq!(out, "a\nb\n");
}

#[test]
fn a_failing_poststart_hook_ends_the_container() {
    let Some(mut b) = Bundle::new() else { return };
    b.spec["hooks"] = json!({"poststart": [{"path": "/bin/true"}, {"path": "/bin/false"}]});
    b.script("sleep 1000").run().fails(1, "error running poststart hook #1:");
}

#[test]
fn hooks_in_the_container_start_where_it_is() {
    let Some(mut b) = Bundle::new() else { return };
    b.spec["process"]["env"] = json!(["PATH=/bin", "FROM=process"]);
    b.spec["hooks"] = json!({
        "createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "echo here > ./tmp/created"]}],
        "startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "echo $FROM > /tmp/started"]}],
    });
    assert_eq!(b.sh("cat /tmp/created /tmp/started"), "here\nprocess");
}

#[test]
fn the_filter_is_for_the_hooks_of_the_container_too() {
    let Some(mut b) = Bundle::new() else { return };
    b.spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL"}]});
    b.spec["process"]["rlimits"] = json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
    b.spec["hooks"] = json!({"startContainer": [{"path": "/bin/mkdir", "args": ["mkdir", "/tmp/x"]}]});
    b.run().fails(1, "bad system call");
}

#[test]
fn a_volatile_directory_takes_the_mode_of_the_one_below_or_the_default() {
    let Some(mut b) = Bundle::new() else { return };
    let old = b.rootfs().join("mnt");
    std::fs::set_permissions(&old, std::os::unix::fs::PermissionsExt::from_mode(0o710)).expect("mode");
    b.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"}));
    b.mount(json!({"destination": "/new", "type": "tmpfs", "source": "tmpfs"}));
    assert_eq!(b.sh("stat -c %a /mnt /new"), "710\n1777");
}

#[test]
fn a_path_is_masked_once_and_proc_is_no_link() {
    let Some(mut b) = Bundle::new() else { return };
    b.spec["linux"]["maskedPaths"] = json!(["/mnt", "/mnt", "/mnt/"]);
    assert_eq!(b.sh("grep -c ' /mnt ' /proc/mounts"), "1");
    std::fs::remove_dir(b.rootfs().join("proc")).expect("proc");
    std::os::unix::fs::symlink("tmp", b.rootfs().join("proc")).expect("link");
    b.script("true").run().fails(1, "must be mounted on ordinary directory");
}

#[test]
fn a_bind_mount_can_show_what_an_earlier_one_made() {
    for userns in [false, true] {
        let Some(mut b) = Bundle::new() else { return };
        let source = b.scratch.join("source");
        std::fs::create_dir(&source).expect("source");
        std::fs::write(source.join("file"), "seen\n").expect("file");
        let inside = |path: &str| b.rootfs().join(path).display().to_string();
        let (from, to) = (inside("mnt"), inside("tmp"));
        b.mount(json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["bind"]}));
        b.mount(json!({"destination": to, "type": "bind", "source": from, "options": ["rbind"]}));
        if userns {
            b.namespace(json!({"type": "user"}));
            let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
            b.spec["linux"]["uidMappings"] = map.clone();
            b.spec["linux"]["gidMappings"] = map;
        }
        assert_eq!(b.sh("cat /tmp/file"), "seen", "user namespace: {userns}");
    }
}

#[test]
fn few_descriptors_are_enough_for_many_mounts() {
    let Some(mut b) = Bundle::new() else { return };
    let source = b.scratch.join("source");
    std::fs::create_dir(&source).expect("source");
    for n in 0..30 {
        b.mount(json!({"destination": format!("/mnt/{n}"), "type": "bind", "source": source, "options": ["bind"]}));
    }
    b.namespace(json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    b.spec["linux"]["uidMappings"] = map.clone();
    b.spec["linux"]["gidMappings"] = map;
    b.spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 20, "hard": 20}]);
    assert_eq!(b.sh("ulimit -n"), "20");
}

#[test]
fn a_created_container_holds_no_descriptor_of_its_caller() {
    let Some(mut b) = Bundle::new() else { return };
    b.script("true");
    b.write_config();
    let held = b.scratch.join("held");
    let shell = "exec 9>held; exec \"$@\" </dev/null >/dev/null 2>&1";
    let command = b.command(&["create", &b.id]);
    let args = command.get_args().map(ToOwned::to_owned);
    let mut caller = std::process::Command::new("sh");
    caller.args(["-c", shell, "sh"]).arg(command.get_program()).args(args).current_dir(b.scratch.path());
    assert!(caller.status().expect("create").success());
    let fds = std::fs::read_dir(format!("/proc/{}/fd", b.state()["pid"])).expect("descriptors");
    let targets: Vec<_> = fds.flatten().filter_map(|e| std::fs::read_link(e.path()).ok()).collect();
    assert!(!targets.contains(&held), "{targets:?}");
}

#[test]
fn no_tasks_at_all_means_as_few_as_possible() {
    let Some(mut b) = Bundle::new() else { return };
    b.spec["linux"]["resources"]["pids"] = json!({"limit": 0});
    b.start_sleeping();
    let max = b.cgroups().into_iter().find_map(|d| std::fs::read_to_string(d.join("pids.max")).ok());
    assert_eq!(max.as_deref().map(str::trim), Some("1"));
    b.runtime(&["update", "--pids-limit", "-1", &b.id]).ok();
    let max = b.cgroups().into_iter().find_map(|d| std::fs::read_to_string(d.join("pids.max")).ok());
    assert_eq!(max.as_deref().map(str::trim), Some("max"));
}

#[test]
fn a_memory_policy_is_set_and_checked() {
    let Some(mut b) = Bundle::new() else { return };
    let show = "head -n 1 /proc/self/numa_maps | cut -d' ' -f2";
    b.spec["linux"]["memoryPolicy"] = json!({"mode": "MPOL_INTERLEAVE", "nodes": "0"});
    let said = b.script(show).run();
    if said.err.contains("not implemented") {
        return fluyt_testkit::skip("needs a kernel with NUMA support");
    }
    assert_eq!(said.ok(), "interleave:0");
    b.start_sleeping();
    assert_eq!(b.exec(show), "interleave:0");
    b.runtime(&["delete", "--force", &b.id]).ok();
    for (policy, text) in [
        (json!({}), "invalid memory policy"),
        (json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["bad"]}), "invalid memory policy flag"),
        (json!({"mode": "MPOL_DEFAULT", "nodes": "0-7"}), "requires 0 nodes but got 8"),
    ] {
        b.spec["linux"]["memoryPolicy"] = policy;
        b.run().fails(1, text);
    }
}

#[test]
fn network_devices_move_with_their_addresses() {
    let Some(mut b) = Bundle::new() else { return };
    // A network namespace of its own for the runtime: nothing of the host's is touched.
    b.spec["linux"]["netDevices"] = json!({"one": {"name": "eth7"}});
    b.script("ip -o addr show dev eth7; ip -o link show dev eth7");
    b.write_config();
    let setup = "ip link add one mtu 1400 type veth peer name two && ip addr add 10.9.8.7/24 dev one \
        && ip addr add 169.254.1.2/16 scope link dev one && exec \"$@\"";
    let command = b.command(&["run", &b.id]);
    let args = command.get_args().map(ToOwned::to_owned);
    let mut caller = std::process::Command::new("unshare");
    caller.args(["--net", "--", "sh", "-c", setup, "sh"]).arg(command.get_program()).args(args);
    let output = caller.current_dir(b.scratch.path()).output().expect("unshare");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if err.contains("Unknown device type") || err.contains("not found") {
        return fluyt_testkit::skip("needs ip (iproute2) and veth devices");
    }
    assert!(out.contains("10.9.8.7/24") && out.contains("mtu 1400") && out.contains("UP"), "{out}{err}");
    assert!(!out.contains("169.254.1.2"), "only addresses with global scope go along: {out}");
    b.spec["linux"]["netDevices"] = json!({"a/b": {}});
    b.run().fails(1, "a/b");
}

#[test]
fn a_time_namespace_belongs_to_the_user_namespace() {
    let Some(mut b) = Bundle::new() else { return };
    b.namespace(json!({"type": "user"}));
    b.namespace(json!({"type": "time"}));
    let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    b.spec["linux"]["uidMappings"] = map.clone();
    b.spec["linux"]["gidMappings"] = map;
    b.spec["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000, "nanosecs": 0}});
    b.start_sleeping();
    let show = "tr -s ' ' < /proc/self/timens_offsets | grep boot";
    assert_eq!(b.exec(show), "boottime 1000000 0");
}

#[test]
fn the_runtime_tells_what_it_is_and_what_it_is_not() {
    let Some(b) = Bundle::new() else { return };
    if with_peer() {
        return;
    }
    let features: Value = serde_json::from_str(&b.runtime(&["features"]).ok()).expect("json");
    assert_eq!(features["ociVersionMax"], "1.3.0");
    assert!(
        features["linux"]["memoryPolicy"]["modes"]
            .as_array()
            .is_some_and(|m| m.contains(&json!("MPOL_BIND")))
    );
    let version = b.runtime(&["--version"]).ok();
    let words: Vec<_> = version.lines().filter_map(|l| l.split(' ').next()).collect();
    assert_eq!(words, ["fluyt", "commit:", "spec:"]);
    b.runtime(&["checkpoint", &b.id]).fails(1, "not supported");
    b.runtime(&["nonsense"]).fails(1, "No help topic for 'nonsense'");
    let help = b.runtime(&["create", "--help"]).ok();
    assert!(help.contains("fluyt runtime create"), "{help}");
}

#[test]
fn debugging_goes_to_the_log() {
    let Some(mut b) = Bundle::new() else { return };
    b.script("true");
    b.write_config();
    let said = b.runtime(&["--debug", "--log", "log", "--log-format", "json", "run", &b.id]);
    assert_eq!(said.err, "");
    let log = std::fs::read_to_string(b.scratch.join("log")).expect("log");
    assert!(log.contains("\"level\":\"debug\""), "{log}");
}

#[test]
fn no_cgroups_where_none_are_wanted() {
    let Some(mut b) = Bundle::new() else { return };
    if with_peer() {
        return;
    }
    b.spec["process"]["args"] = json!(["/bin/sleep", "1000"]);
    b.write_config();
    std::fs::rename(b.scratch.join("config.json"), b.scratch.join("other.json")).expect("rename");
    b.runtime(&["--cgroup-manager", "disabled", "run", "--config", "other.json", "-d", &b.id]).ok();
    assert_eq!(b.cgroups(), Vec::<std::path::PathBuf>::new());
    assert_eq!(b.exec("echo in"), "in");
    b.runtime(&["kill", &b.id, "KILL"]).ok();
}

#[test]
fn a_created_container_ends_when_it_is_told_to() {
    let Some(mut b) = Bundle::new() else { return };
    b.script("true");
    b.write_config();
    b.runtime(&["create", &b.id]).ok();
    b.runtime(&["kill", &b.id, "TERM"]).ok();
    for _ in 0..200 {
        if b.status() == "stopped" {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(b.status(), "stopped");
}

#[test]
fn without_pivot_root_no_complete_procfs_is_left_to_copy() {
    let Some(mut b) = Bundle::new() else { return };
    let caps = json!(["CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SETFCAP", "CAP_SYS_CHROOT"]);
    b.spec["process"]["capabilities"] = json!({"bounding": caps, "effective": caps, "permitted": caps});
    b.spec["process"]["args"] = json!(["unshare", "-mrpf", "mount", "-t", "proc", "none", "/proc"]);
    b.write_config();
    let said = b.runtime(&["run", "--no-pivot", &b.id]);
    assert!(said.code != 0 && said.err.contains("ermission denied"), "{}{}", said.out, said.err);
}

#[test]
fn sockets_of_an_activation_are_announced() {
    let Some(mut b) = Bundle::new() else { return };
    b.script("echo $LISTEN_FDS $LISTEN_PID");
    b.write_config();
    let mut command = b.command(&["run", &b.id]);
    let output = command.env("LISTEN_FDS", "1").output().expect("run");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1 1\n");
}
