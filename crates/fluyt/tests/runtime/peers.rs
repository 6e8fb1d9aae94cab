//! Podman, Docker and containerd with this runtime as theirs. Each runs, executes in and removes a container.
//!
//! A peer that is not installed is named and left out. Daemons are our own, with roots in the scratch directory, and are
//! ended by their pid.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fluyt_testkit::wait::patience;

use crate::bundle::{Bundle, Said};

/// The runtime under the name that makes it one.
fn runtime(b: &Bundle) -> PathBuf {
    let path = b.scratch.join("fluyt-runc");
    symlink(env!("CARGO_BIN_EXE_fluyt"), &path).expect("symlink");
    path
}

fn installed(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).exists()));
    if !found {
        fluyt_testkit::skip(&format!("{program} is not installed"));
    }
    found
}

/// Runs a command with at most half a minute, of a machine that is not emulated.
fn run(program: &str, prefix: &[String], line: &str) -> Said {
    let mut c = Command::new("timeout");
    c.args([&patience(30).to_string(), program]).args(prefix).args(line.split(' ')).stdin(Stdio::null());
    c.output().expect("timeout").into()
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

fn archive(b: &Bundle) -> String {
    let path = b.scratch.join("rootfs.tar");
    let done =
        Command::new("tar").arg("-C").arg(b.rootfs()).arg("-cf").arg(&path).arg(".").status().expect("tar");
    assert!(done.success());
    path.display().to_string()
}

#[test]
fn podman() {
    let Some(b) = Bundle::new() else { return };
    if !installed("podman") {
        return;
    }
    let dir = |name: &str| b.scratch.join(name).display().to_string();
    let prefix = strings(&[
        "--root",
        &dir("pod"),
        "--runroot",
        &dir("podrun"),
        "--storage-driver",
        "vfs",
        "--runtime",
        &runtime(&b).display().to_string(),
        "--cgroup-manager",
        "cgroupfs",
        "--events-backend",
        "file",
    ]);
    let p = |line: &str| run("podman", &prefix, line);
    // The limits that podman asks for by default need a privilege that not every machine's root has.
    let flags = "--network none --ulimit nofile=1024:1024 --ulimit nproc=1000:1000";
    p(&format!("import {} box", archive(&b))).ok();
    assert_eq!(p(&format!("run --rm {flags} box /bin/echo hello")).ok(), "hello");
    assert_eq!(p(&format!("run --rm {flags} box /bin/nope")).code, 127);
    p(&format!("run -d --name s {flags} box /bin/sleep 1000")).ok();
    assert_eq!(p("exec s /bin/cat /proc/1/comm").ok(), "sleep");
    p("pause s").ok();
    p("unpause s").ok();
    p("rm -f -t 0 s").ok();
}

/// A Docker daemon of our own.
struct Daemon {
    child: Child,
    socket: String,
    containerd: String,
}

impl Daemon {
    fn start(b: &Bundle) -> Option<Self> {
        let dir = b.scratch.join("d");
        std::fs::create_dir_all(&dir).expect("dir");
        let path = |name: &str| dir.join(name).display().to_string();
        let log = std::fs::File::create(path("log")).expect("log");
        let child = Command::new("dockerd")
            .args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")])
            .args(["-H", &format!("unix://{}", path("sock")), "--storage-driver", "vfs", "--bridge", "none"])
            .args(["--iptables=false", "--ip6tables=false"])
            .args(["--add-runtime", &format!("fluyt={}", runtime(b).display())])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("dockerd");
        let daemon =
            Self { child, socket: path("sock"), containerd: path("exec/containerd/containerd.sock") };
        let deadline = Instant::now() + Duration::from_secs(patience(30));
        while run("docker", &daemon.prefix(), "version").code != 0 {
            if Instant::now() > deadline {
                let text = std::fs::read_to_string(path("log")).unwrap_or_default();
                fluyt_testkit::skip(&format!(
                    "dockerd does not start here: {}",
                    text.lines().last().unwrap_or("")
                ));
                return None;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(daemon)
    }

    fn prefix(&self) -> Vec<String> {
        strings(&["-H", &format!("unix://{}", self.socket)])
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Whether this kernel has AppArmor and nobody who could give it a profile.
fn cannot_load_profiles() -> bool {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    let parser = ["/sbin", "/usr/sbin"].iter().any(|dir| Path::new(dir).join("apparmor_parser").exists());
    enabled.is_ok_and(|e| e.starts_with('Y')) && !parser
}

#[test]
fn docker_and_containerd() {
    let Some(b) = Bundle::new() else { return };
    if !installed("dockerd") || !installed("docker") {
        return;
    }
    let Some(daemon) = Daemon::start(&b) else { return };
    let prefix = daemon.prefix();
    let d = |line: &str| run("docker", &prefix, line);
    d(&format!("import {} box", archive(&b))).ok();
    let mut flags = "--runtime fluyt --network none".to_owned();
    if cannot_load_profiles() {
        // Docker does not run containers on such a machine otherwise.
        flags.push_str(" --security-opt apparmor=unconfined");
    }
    assert_eq!(d(&format!("run --rm {flags} box /bin/echo hello")).ok(), "hello");
    assert_eq!(d(&format!("run --rm -t {flags} box /bin/tty")).ok(), "/dev/pts/0");
    assert_eq!(d(&format!("run --rm {flags} box /bin/nope")).code, 127);
    assert_eq!(d(&format!("run --rm {flags} box /etc")).code, 126);
    d(&format!("run -d --name box1 {flags} --memory 50m box /bin/sleep 1000")).ok();
    assert_eq!(d("exec box1 /bin/cat /proc/1/comm").ok(), "sleep");
    d("pause box1").ok();
    d("unpause box1").ok();
    d("update --memory 60m --memory-swap 60m box1").ok();
    d("rm -f box1").ok();
    if installed("ctr") && Path::new(&daemon.containerd).exists() {
        containerd(&b, &daemon.containerd);
    }
}

fn containerd(b: &Bundle, socket: &str) {
    let prefix = strings(&["-a", socket, "-n", "fluyt-test"]);
    let c = |line: &str| run("ctr", &prefix, line);
    let flags =
        format!("--rootfs --runc-binary {} {}", b.scratch.join("fluyt-runc").display(), b.rootfs().display());
    assert_eq!(c(&format!("run --rm {flags} one /bin/echo hello")).ok(), "hello");
    c(&format!("run -d {flags} two /bin/sleep 1000")).ok();
    assert_eq!(c("tasks exec --exec-id e two /bin/cat /proc/1/comm").ok(), "sleep");
    c("tasks kill -s KILL two").ok();
    std::thread::sleep(Duration::from_millis(500));
    c("tasks rm two");
    c("containers rm two").ok();
}
