//! A bundle with a busybox root, and the runtime run on it. Dropped, it asserts that nothing is left behind.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use fluyt_testkit::scratch::{Scratch, mounts_below};
use serde_json::{Value, json};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A bundle with its own state directory and cgroup.
pub struct Bundle {
    pub scratch: Scratch,
    pub spec: Value,
    pub id: String,
}

/// What a command said.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// The output of a command that must have succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.out, self.err);
        self.out.trim_end().to_owned()
    }

    /// Asserts the exit code and a part of the error.
    #[track_caller]
    pub fn fails(self, code: i32, needle: &str) {
        assert!(self.code == code && self.err.contains(needle), "{}: {}{}", self.code, self.out, self.err);
    }
}

impl From<Output> for Said {
    fn from(o: Output) -> Self {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        Self { code: o.status.code().unwrap_or(-1), out: text(&o.stdout), err: text(&o.stderr) }
    }
}

impl Bundle {
    /// A bundle, or `None` (with a word to the runner) where this user cannot run containers.
    pub fn new() -> Option<Self> {
        if !fluyt_testkit::is_root() || !Path::new("/bin/busybox").exists() {
            fluyt_testkit::skip("needs root and /bin/busybox (busybox-static)");
            return None;
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("fluyt-rt-{}-{number}", std::process::id());
        let scratch = Scratch::new(&id);
        let root = scratch.join("rootfs");
        for dir in ["bin", "proc", "dev", "sys", "tmp", "etc", "mnt"] {
            std::fs::create_dir_all(root.join(dir)).expect("rootfs");
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox");
        let list = Command::new("/bin/busybox").arg("--list").output().expect("busybox --list");
        for applet in String::from_utf8_lossy(&list.stdout).lines().filter(|a| *a != "busybox") {
            let _ = std::os::unix::fs::symlink("busybox", root.join("bin").join(applet));
        }
        let spec = spec(&id);
        Some(Self { scratch, spec, id })
    }

    pub fn rootfs(&self) -> PathBuf {
        self.scratch.join("rootfs")
    }

    /// Sets `process.args` to a shell script.
    pub fn script(&mut self, script: &str) -> &mut Self {
        self.spec["process"]["args"] = json!(["/bin/sh", "-ec", script]);
        self
    }

    pub fn mount(&mut self, mount: Value) -> &mut Self {
        self.spec["mounts"].as_array_mut().expect("mounts").push(mount);
        self
    }

    pub fn namespace(&mut self, namespace: Value) -> &mut Self {
        let list = self.spec["linux"]["namespaces"].as_array_mut().expect("namespaces");
        list.retain(|n| n["type"] != namespace["type"]);
        list.push(namespace);
        self
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut c = match std::env::var("FLUYT_TEST_RUNTIME") {
            Ok(other) => Command::new(other),
            Err(_) => {
                let mut c = Command::new(env!("CARGO_BIN_EXE_fluyt"));
                c.arg("runtime");
                c
            }
        };
        c.arg("--root").arg(self.scratch.join("state")).args(args).current_dir(self.scratch.path());
        c.stdin(Stdio::null());
        c
    }

    /// One command of the runtime.
    pub fn runtime(&self, args: &[&str]) -> Said {
        // Containers inherit the streams of `create`: files, which unlike pipes nobody waits for.
        let (out, err) = (self.scratch.join("out"), self.scratch.join("err"));
        let file = |p: &Path| std::fs::File::create(p).expect("output file");
        let status = self.command(args).stdout(file(&out)).stderr(file(&err)).status().expect("runtime");
        let text = |p: &Path| String::from_utf8_lossy(&std::fs::read(p).expect("output")).into_owned();
        Said { code: status.code().unwrap_or(-1), out: text(&out), err: text(&err) }
    }

    pub fn write_config(&self) {
        let text = serde_json::to_vec_pretty(&self.spec).expect("json");
        std::fs::write(self.scratch.join("config.json"), text).expect("config.json");
    }

    /// Runs the container to its end.
    pub fn run(&self) -> Said {
        self.write_config();
        self.runtime(&["run", &self.id])
    }

    /// Runs a script in the container and gives its output.
    #[track_caller]
    pub fn sh(&mut self, script: &str) -> String {
        self.script(script);
        self.run().ok()
    }

    /// Starts a container that sleeps; the caller deletes it, or the drop does.
    #[track_caller]
    pub fn start_sleeping(&mut self) {
        self.spec["process"]["args"] = json!(["/bin/sleep", "1000"]);
        self.write_config();
        self.runtime(&["run", "-d", &self.id]).ok();
    }

    #[track_caller]
    pub fn exec(&self, script: &str) -> String {
        self.runtime(&["exec", &self.id, "/bin/sh", "-ec", script]).ok()
    }

    pub fn state(&self) -> Value {
        serde_json::from_str(&self.runtime(&["state", &self.id]).ok()).expect("state")
    }

    pub fn status(&self) -> String {
        self.state()["status"].as_str().expect("status").to_owned()
    }

    /// The cgroup directories of this container that exist.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = vec![];
        let top = PathBuf::from("/sys/fs/cgroup");
        let hierarchies = std::fs::read_dir(&top).expect("cgroup").flatten().map(|e| e.path());
        for dir in hierarchies.chain([top.clone()]) {
            let own = dir.join("fluyt-test").join(&self.id);
            if own.is_dir() {
                found.push(own);
            }
        }
        found
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = self.runtime(&["delete", "--force", &self.id]);
        if std::thread::panicking() {
            return;
        }
        assert!(self.cgroups().is_empty(), "left behind: {:?}", self.cgroups());
        // The common parent goes with its last child.
        for dir in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(dir.path().join("fluyt-test"));
        }
        let _ = std::fs::remove_dir("/sys/fs/cgroup/fluyt-test");
        assert!(mounts_below(self.scratch.path()).is_empty(), "mounts left behind");
        let state = self.scratch.join("state").join(&self.id);
        assert!(!state.exists(), "state left behind");
    }
}

fn spec(id: &str) -> Value {
    let caps = json!([
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_KILL",
        "CAP_SETUID",
        "CAP_SETGID",
        "CAP_NET_BIND_SERVICE"
    ]);
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/bin", "HOME=/"],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs"},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {
            "cgroupsPath": format!("/fluyt-test/{id}"),
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                {"type": "cgroup"},
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware", "/proc/acpi"],
            "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
