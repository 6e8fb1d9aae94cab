//! The systemd cgroup driver, against a real systemd: process 1 of namespaces made for the test, with a part of the cgroup
//! tree to itself. Only on a machine with cgroup v2 alone that is ours whole (the virtual one).

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fluyt_testkit::scratch::Scratch;
use fluyt_testkit::wait::until;
use serde_json::json;

use crate::bundle::{Bundle, Said};

/// A running systemd.
struct Systemd {
    /// `unshare`, which waits for it.
    child: Child,
    /// Its process id here.
    pid: u32,
    /// Its part of the cgroup tree.
    cgroup: PathBuf,
    _scratch: Scratch,
}

impl Systemd {
    fn start() -> Option<Self> {
        const PROGRAM: &str = "/lib/systemd/systemd";
        if std::env::var_os("FLUYT_VM").is_none() || !Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
        {
            fluyt_testkit::skip("a systemd of its own is for the virtual machine");
            return None;
        }
        if !Path::new(PROGRAM).exists() {
            fluyt_testkit::skip("systemd is not installed");
            return None;
        }
        let scratch = Scratch::new("systemd");
        let cgroup = PathBuf::from(format!("/sys/fs/cgroup/fluyt-systemd-{}", std::process::id()));
        std::fs::create_dir_all(cgroup.join("helpers")).expect("a cgroup");
        // No unit but an empty default target: nothing of this machine is started.
        let script = format!(
            "set -e; echo 0 > {cgroup}/cgroup.procs; exec unshare --cgroup sh -ec '\
             mount --make-rprivate /; mount -t proc proc /proc; mount -t tmpfs tmpfs /run; \
             umount -l /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; mkdir /run/units; \
             printf \"[Unit]\\nDescription=nothing\\nDefaultDependencies=no\\n\" > /run/units/default.target; \
             export container=fluyt-test SYSTEMD_UNIT_PATH=/run/systemd/system.control:/run/systemd/transient:/run/units; \
             exec {PROGRAM} --system --log-target=console --show-status=no'",
            cgroup = cgroup.display()
        );
        let log = std::fs::File::create(scratch.join("log")).expect("a file");
        let child = Command::new("unshare")
            .args(["--pid", "--mount", "--uts", "--fork", "--kill-child", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("util-linux");
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let pid = until("systemd's process", 30, || {
            std::fs::read_to_string(&children).ok()?.split_whitespace().next()?.parse().ok()
        });
        let systemd = Self { child, pid, cgroup, _scratch: scratch };
        let socket = format!("/proc/{pid}/root/run/systemd/private");
        until("systemd to listen", 30, || Path::new(&socket).exists().then_some(()));
        Some(systemd)
    }

    /// The command in systemd's namespaces and in its part of the cgroup tree.
    fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("sh");
        let enter = format!(
            "echo 0 > {}/helpers/cgroup.procs; exec nsenter -t {} -p -m -C -- sh -c 'cd \"$0\" && exec \"$@\"' \"$@\"",
            self.cgroup.display(),
            self.pid
        );
        // A new mount namespace begins at its root.
        let directory = command.get_current_dir().unwrap_or_else(|| Path::new("/"));
        inside.args(["-c", &enter, "sh"]).arg(directory).arg(command.get_program()).args(command.get_args());
        inside.stdin(Stdio::null());
        inside
    }

    fn runtime(&self, bundle: &Bundle, args: &[&str]) -> Said {
        let mut words = vec!["--systemd-cgroup"];
        words.extend(args);
        let command = bundle.command(&words);
        // Containers inherit the streams of `run -d`: files, which unlike pipes nobody waits for.
        let (out, err) = (bundle.scratch.join("out"), bundle.scratch.join("err"));
        let file = |p: &Path| std::fs::File::create(p).expect("a file");
        let mut command = self.inside(&command);
        command.stdout(file(&out)).stderr(file(&err));
        let status = command.status().expect("util-linux");
        let text = |p: &Path| String::from_utf8_lossy(&std::fs::read(p).expect("output")).into_owned();
        Said { code: status.code().unwrap_or(-1), out: text(&out), err: text(&err) }
    }

    fn systemctl(&self, words: &[&str]) -> String {
        let mut command = Command::new("systemctl");
        command.arg("--no-pager").args(words);
        let output = self.inside(&command).output().expect("systemctl");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn property(&self, unit: &str, name: &str) -> String {
        self.systemctl(&["show", "-P", name, unit])
    }

    fn cgroup_file(&self, path: &str) -> String {
        let path = self.cgroup.join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Process 1 of the namespace is dead, its children are being killed.
        let _ = std::fs::write(self.cgroup.join("cgroup.kill"), "1");
        for _ in 0..200 {
            remove_groups(&self.cgroup);
            if !self.cgroup.exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// Removes empty cgroups from the leaves up.
fn remove_groups(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(dir);
}

/// A bundle that sleeps, with limits, in a scope of the slice.
fn limited(path: &str) -> Option<Bundle> {
    let mut bundle = Bundle::new()?;
    bundle.spec["linux"]["cgroupsPath"] = json!(path.replace("ID", &bundle.id));
    bundle.spec["process"]["args"] = json!(["/bin/sleep", "1000"]);
    bundle.spec["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
    bundle.spec["linux"]["resources"]["pids"] = json!({"limit": 17});
    bundle.spec["linux"]["resources"]["cpu"] = json!({"shares": 512, "quota": 50_000, "period": 100_000});
    bundle.write_config();
    Some(bundle)
}

#[test]
fn a_container_is_a_scope_with_its_limits_as_properties() {
    let Some(systemd) = Systemd::start() else { return };
    let Some(bundle) = limited("machine-test.slice:fluyt:ID") else { return };
    let id = bundle.id.clone();
    systemd.runtime(&bundle, &["run", "-d", &id]).ok();
    let unit = format!("fluyt-{id}.scope");
    let place = format!("machine.slice/machine-test.slice/{unit}");
    for (property, wanted) in [
        ("ActiveState", "active".to_owned()),
        ("Slice", "machine-test.slice".to_owned()),
        ("ControlGroup", format!("/{place}")),
        ("Delegate", "yes".to_owned()),
        ("MemoryMax", (64 << 20).to_string()),
        ("TasksMax", "17".to_owned()),
        ("CPUQuotaPerSecUSec", "500ms".to_owned()),
    ] {
        assert_eq!(systemd.property(&unit, property), wanted, "{property}");
    }
    let files = |memory: u64, pids: &str| {
        assert_eq!(systemd.cgroup_file(&format!("{place}/memory.max")), memory.to_string());
        assert_eq!(systemd.cgroup_file(&format!("{place}/pids.max")), pids);
        assert_eq!(systemd.cgroup_file(&format!("{place}/cpu.max")), "50000 100000");
    };
    files(64 << 20, "17");
    assert!(!systemd.cgroup_file(&format!("{place}/cgroup.procs")).is_empty(), "the process is in it");

    // A reload and a change of another property by the administrator keep the limits, those of an update too.
    systemd.runtime(&bundle, &["update", "--memory", "50331648", "--pids-limit", "33", &id]).ok();
    assert_eq!(systemd.property(&unit, "MemoryMax"), "50331648");
    assert_eq!(systemd.property(&unit, "TasksMax"), "33");
    systemd.systemctl(&["daemon-reload"]);
    systemd.systemctl(&["set-property", "--runtime", &unit, "IOWeight=200", "CPUWeight=50"]);
    files(50_331_648, "33");

    // What is executed in it belongs to it.
    let said = systemd.runtime(&bundle, &["exec", &id, "/bin/sh", "-c", "cat /proc/self/cgroup"]).ok();
    assert_eq!(said, "0::/", "seen from its own cgroup namespace");
    systemd.runtime(&bundle, &["kill", &id, "KILL"]).ok();
    until("the scope's end", 20, || {
        systemd.runtime(&bundle, &["delete", "--force", &id]);
        (systemd.property(&unit, "ActiveState") == "inactive").then_some(())
    });
    assert!(!systemd.cgroup.join(&place).exists(), "the cgroup is gone");
    assert_eq!(systemd.systemctl(&["list-units", "--failed", "--plain", "--no-legend"]), "");
}

#[test]
fn scopes_without_a_path_and_bad_paths() {
    let Some(systemd) = Systemd::start() else { return };
    let Some(mut bundle) = limited("") else { return };
    let id = bundle.id.clone();
    systemd.runtime(&bundle, &["run", "-d", &id]).ok();
    let unit = format!("fluyt-{id}.scope");
    assert_eq!(systemd.property(&unit, "ControlGroup"), format!("/system.slice/{unit}"));
    // The process ends by itself: systemd drops the scope, and deleting works all the same.
    systemd.runtime(&bundle, &["kill", &id, "KILL"]).ok();
    until("the end", 20, || (systemd.property(&unit, "ActiveState") == "inactive").then_some(()));
    systemd.runtime(&bundle, &["delete", "--force", &id]).ok();
    for (path, needle) in [
        ("nonsense", "slice:prefix:name"),
        ("a/b.slice:x:y", "invalid slice name"),
        ("a--b.slice:x:y", "invalid slice name"),
    ] {
        bundle.spec["linux"]["cgroupsPath"] = json!(path);
        bundle.write_config();
        let said = systemd.runtime(&bundle, &["run", "-d", &id]);
        assert!(said.code != 0 && said.err.contains(needle), "{path}: {}", said.err);
    }
    // A command that cannot be started leaves no scope behind.
    bundle.spec["linux"]["cgroupsPath"] = json!("system.slice:fluyt:broken");
    bundle.spec["process"]["args"] = json!(["/absent"]);
    bundle.write_config();
    assert_ne!(systemd.runtime(&bundle, &["run", "-d", &id]).code, 0);
    until("no scope", 20, || {
        (systemd.property("fluyt-broken.scope", "ActiveState") == "inactive").then_some(())
    });
    assert!(!systemd.cgroup.join("system.slice/fluyt-broken.scope").exists());
}
