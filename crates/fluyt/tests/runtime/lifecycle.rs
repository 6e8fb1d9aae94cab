//! Verbs in order, out of order, and twice.

use crate::bundle::Bundle;
use serde_json::json;

#[test]
fn create_start_kill_delete() {
    let Some(mut b) = Bundle::new() else { return };
    b.spec["process"]["args"] = json!(["/bin/sleep", "1000"]);
    b.write_config();
    let id = b.id.clone();
    let pid_file = b.scratch.join("pid");
    b.runtime(&["create", "--pid-file", pid_file.to_str().expect("utf-8"), &id]).ok();
    let state = b.state();
    assert_eq!(state["status"], "created");
    assert_eq!(std::fs::read_to_string(pid_file).expect("pid file"), state["pid"].to_string());
    assert_ne!(b.runtime(&["create", &id]).code, 0, "the id is taken");
    b.runtime(&["start", &id]).ok();
    assert_eq!(b.status(), "running");
    assert_ne!(b.runtime(&["start", &id]).code, 0, "started twice");
    assert_ne!(b.runtime(&["delete", &id]).code, 0, "it runs");
    b.runtime(&["kill", &id, "KILL"]).ok();
    for _ in 0..200 {
        if b.status() == "stopped" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(b.status(), "stopped");
    assert_ne!(b.runtime(&["kill", &id, "KILL"]).code, 0, "nothing to kill");
    assert_ne!(b.runtime(&["exec", &id, "true"]).code, 0, "nothing to exec in");
    b.runtime(&["delete", &id]).ok();
    assert_ne!(b.runtime(&["state", &id]).code, 0);
}

#[test]
fn a_created_container_can_be_deleted() {
    let Some(mut b) = Bundle::new() else { return };
    b.script("true");
    b.write_config();
    let id = b.id.clone();
    b.runtime(&["create", &id]).ok();
    b.runtime(&["delete", &id]).ok();
}

#[test]
fn pause_and_resume() {
    let Some(mut b) = Bundle::new() else { return };
    b.start_sleeping();
    let id = b.id.clone();
    b.runtime(&["pause", &id]).ok();
    assert_eq!(b.status(), "paused");
    assert_ne!(b.runtime(&["exec", &id, "true"]).code, 0);
    b.runtime(&["resume", &id]).ok();
    assert_eq!(b.status(), "running");
    b.runtime(&["pause", &id]).ok();
    b.runtime(&["delete", "--force", &id]).ok();
}

#[test]
fn exec_is_as_restricted_as_the_container() {
    let Some(mut b) = Bundle::new() else { return };
    b.start_sleeping();
    let id = b.id.clone();
    assert_eq!(
        b.exec("hostname; ls /proc/self/fd | wc -l; grep NoNewPrivs /proc/self/status | cut -f2"),
        "box\n4\n1"
    );
    assert_eq!(b.runtime(&["exec", &id, "sh", "-c", "exit 7"]).code, 7);
    let out = b.runtime(&[
        "exec",
        "--user",
        "5:6",
        "--cwd",
        "/tmp",
        "-e",
        "X=y",
        "-g",
        "9",
        &id,
        "sh",
        "-c",
        "id -u; id -G; pwd; echo $X",
    ]);
    assert_eq!(out.ok(), "5\n6 9\n/tmp\ny");
    let process = b.scratch.join("p.json");
    let document = json!({"args": ["sh", "-c", "echo from file; id -u"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 3, "gid": 3}});
    std::fs::write(&process, document.to_string()).expect("process.json");
    assert_eq!(b.runtime(&["exec", "-p", process.to_str().expect("utf-8"), &id]).ok(), "from file\n3");
    let pid_file = b.scratch.join("exec.pid");
    b.runtime(&["exec", "-d", "--pid-file", pid_file.to_str().expect("utf-8"), &id, "sleep", "500"]).ok();
    let pid = std::fs::read_to_string(pid_file).expect("pid file");
    let listed = b.runtime(&["ps", "--format", "json", &id]).ok();
    assert!(listed.contains(pid.trim()), "{pid} in {listed}");
    if std::env::var_os("FLUYT_TEST_RUNTIME").is_none() {
        b.runtime(&["exec", &id, "nope"]).fails(255, "executable file not found in $PATH");
    }
}

#[test]
fn exec_into_a_container_that_divides_its_own_group() {
    let Some(mut b) = Bundle::new() else { return };
    if !std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return fluyt_testkit::skip("cgroup v1 has processes in every group");
    }
    b.mount(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev"]}));
    let divide = "cd /sys/fs/cgroup; mkdir own; echo 1 > own/cgroup.procs; echo +pids > cgroup.subtree_control; echo done > /tmp/done; exec sleep 1000";
    b.script(divide);
    b.write_config();
    let id = b.id.clone();
    b.runtime(&["run", "-d", &id]).ok();
    let done = b.rootfs().join("tmp/done");
    fluyt_testkit::wait::until("the divided group", 10, || done.exists().then_some(()));
    assert_eq!(b.exec("cat /proc/self/cgroup"), "0::/own");
    b.runtime(&["delete", "--force", &id]).ok();
}

#[test]
fn lists() {
    let Some(mut b) = Bundle::new() else { return };
    b.start_sleeping();
    assert_eq!(b.runtime(&["list", "-q"]).ok(), b.id);
    let all: serde_json::Value =
        serde_json::from_str(&b.runtime(&["list", "--format", "json"]).ok()).expect("json");
    assert_eq!(all[0]["id"], json!(b.id));
    assert!(b.runtime(&["list"]).ok().contains("running"));
}

#[test]
fn a_killed_runtime_leaves_no_container() {
    let Some(mut b) = Bundle::new() else { return };
    if std::env::var_os("FLUYT_TEST_RUNTIME").is_some() {
        return;
    }
    // Stuck in a hook, the runtime is killed: the init stage must not go on alone.
    b.spec["hooks"] = json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "5"]}]});
    b.script("sleep 1000");
    b.write_config();
    let id = b.id.clone();
    let mut child = b.command(&["run", &id]).spawn().expect("runtime");
    std::thread::sleep(std::time::Duration::from_millis(300));
    child.kill().expect("kill");
    child.wait().expect("wait");
    for _ in 0..100 {
        if b.status() == "stopped" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(b.status(), "stopped");
    b.runtime(&["delete", "--force", &id]).ok();
}

#[test]
fn spec_and_features_are_documents() {
    let Some(b) = Bundle::new() else { return };
    if std::env::var_os("FLUYT_TEST_RUNTIME").is_some() {
        return;
    }
    let features: serde_json::Value = serde_json::from_str(&b.runtime(&["features"]).ok()).expect("json");
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
    b.runtime(&["spec"]).ok();
    let spec: serde_json::Value =
        serde_json::from_slice(&std::fs::read(b.scratch.join("config.json")).expect("file")).expect("json");
    assert_eq!(spec["process"]["args"][0], "sh");
    b.runtime(&["spec"]).fails(1, "exists");
}

#[test]
fn exec_on_chosen_processors() {
    let Some(mut b) = Bundle::new() else { return };
    if std::env::var_os("FLUYT_TEST_RUNTIME").is_some() {
        return;
    }
    b.start_sleeping();
    let process = b.scratch.join("p.json");
    let document = json!({"args": ["grep", "Cpus_allowed_list", "/proc/self/status"], "cwd": "/", "env": ["PATH=/bin"],
        "user": {"uid": 0, "gid": 0}, "execCPUAffinity": {"initial": "0", "final": "0"}});
    std::fs::write(&process, document.to_string()).expect("process.json");
    let id = b.id.clone();
    let out = b.runtime(&["exec", "-p", process.to_str().expect("utf-8"), &id]).ok();
    assert_eq!(out.split_whitespace().last(), Some("0"), "{out}");
}
