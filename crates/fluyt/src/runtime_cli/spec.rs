//! `spec`: a configuration to start from, the same defaults as other runtimes give.

use fluyt_model::error::{Error, IoContext, Result};
use serde_json::{Value, json};

use super::args::{Flag, Parsed, switch, value};
use super::{Context, bundle};

/// The version of the specification that is written here and understood.
pub(super) const OCI_VERSION: &str = "1.3.0";

pub(super) static FLAGS: [Flag; 2] = [
    value("bundle", Some('b'), "directory of the bundle"),
    switch("rootless", None, "for a user without privileges"),
];

/// `spec`.
pub(super) fn spec(_: &Context, parsed: &Parsed) -> Result<i32> {
    let path = bundle(parsed)?.join("config.json");
    if path.exists() {
        return Err(Error::conflict(format!("File {} exists. Remove it first", path.display())));
    }
    let mut document = default();
    if !fluyt_runtime::is_unified() {
        // On version 1 a container sees its groups as the host does, as with other runtimes.
        if let Some(list) = document["linux"]["namespaces"].as_array_mut() {
            list.retain(|n| n["type"] != "cgroup");
        }
    }
    if parsed.on("rootless") {
        rootless(&mut document);
    }
    let text =
        serde_json::to_string_pretty(&document).map_err(|e| Error::internal("config.json").with_source(e))?;
    std::fs::write(&path, text + "\n").about(|| path.display().to_string()).map(|()| 0)
}

fn default() -> Value {
    let caps = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    json!({
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "fluyt",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                {"type": "cgroup"},
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
            ],
        },
    })
}

/// What a user without privileges can have: ids mapped to its own, no network namespace, no cgroup limits.
fn rootless(document: &mut Value) {
    let map = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
    let linux = &mut document["linux"];
    linux["uidMappings"] = map(rustix::process::geteuid().as_raw());
    linux["gidMappings"] = map(rustix::process::getegid().as_raw());
    linux["resources"] = Value::Null;
    linux["namespaces"] = json!([
        {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}, {"type": "user"},
    ]);
    if let Some(mounts) = document["mounts"].as_array_mut() {
        mounts.retain(|m| m["destination"] != "/sys" && m["destination"] != "/sys/fs/cgroup");
        for m in mounts.iter_mut() {
            if let Some(options) = m["options"].as_array_mut() {
                options.retain(|o| o != "gid=5");
            }
        }
        mounts.push(json!({"destination": "/sys", "type": "none", "source": "/sys",
            "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]}));
    }
    document["process"]["rlimits"] = json!([]);
}
