//! `info`: what this machine is, as far as a few files tell, and what its engine holds.

use std::fs;
use std::path::Path;

use fluyt_engine::{ContainerView, Engine};
use fluyt_model::Result;
use fluyt_model::sandbox::Phase;

use crate::time;
use crate::types::SystemInfo;
use crate::types::system::{PluginsInfo, RuntimeInfo, SwarmInfo};

/// What the engine knows, counted, and what its machine is.
///
/// # Errors
/// The records cannot be read.
pub fn info(engine: &Engine) -> Result<SystemInfo> {
    let mut info: SystemInfo = machine(engine.paths().root());
    let views: Vec<ContainerView> = engine.list()?;
    let count = |phases: &[Phase]| views.iter().filter(|v| phases.contains(&v.status.phase)).count() as i64;
    info.containers = views.len() as i64;
    info.containers_running = count(&[Phase::Running, Phase::Restarting]);
    info.containers_paused = count(&[Phase::Paused]);
    info.containers_stopped = info.containers - info.containers_running - info.containers_paused;
    info.images = engine.images().images()?.len() as i64;
    info.server_version = env!("CARGO_PKG_VERSION").to_owned();
    if let Some(complaint) = engine.apparmor_complaint() {
        info.warnings = vec![format!("WARNING: {complaint}")].into();
    }
    Ok(info)
}

/// Facts about the machine and the data root; the engine's own counts are left open.
fn machine(root: &Path) -> SystemInfo {
    let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect();
    let uname = rustix::system::uname();
    let text = |bytes: &std::ffi::CStr| bytes.to_string_lossy().into_owned();
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let env =
        |lower: &str, upper: &str| std::env::var(lower).or_else(|_| std::env::var(upper)).unwrap_or_default();
    let (name, version) = os_release();
    SystemInfo {
        driver: "overlay2".to_owned(),
        driver_status: vec![
            ["Backing Filesystem".to_owned(), file_system_of(root)],
            ["Native Overlay Diff".to_owned(), "true".to_owned()],
        ]
        .into(),
        plugins: PluginsInfo {
            volume: words(&["local"]),
            network: words(&["bridge", "host", "macvlan", "null"]),
            log: words(&["journald", "json-file", "local", "none", "syslog"]),
            ..PluginsInfo::default()
        },
        memory_limit: true,
        swap_limit: unified || Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists(),
        cpu_cfs_period: true,
        cpu_cfs_quota: true,
        cpu_shares: true,
        cpu_set: true,
        pids_limit: true,
        ipv4_forwarding: fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|v| v.trim() == "1"),
        oom_kill_disable: !unified,
        system_time: time::rfc3339_nano(time::now()),
        logging_driver: "json-file".to_owned(),
        cgroup_driver: "cgroupfs".to_owned(),
        cgroup_version: if unified { "2" } else { "1" }.to_owned(),
        kernel_version: text(uname.release()),
        operating_system: name,
        os_version: version,
        os_type: "linux".to_owned(),
        architecture: text(uname.machine()),
        index_server_address: "https://index.docker.io/v1/".to_owned(),
        ncpu: std::thread::available_parallelism().map_or(1, |n| n.get() as i64),
        mem_total: memory_total(),
        docker_root_dir: root.display().to_string(),
        http_proxy: env("http_proxy", "HTTP_PROXY"),
        https_proxy: env("https_proxy", "HTTPS_PROXY"),
        no_proxy: env("no_proxy", "NO_PROXY"),
        name: text(uname.nodename()),
        runtimes: [("fluyt".to_owned(), RuntimeInfo { path: "fluyt-runc".to_owned() })].into(),
        default_runtime: "fluyt".to_owned(),
        live_restore_enabled: true,
        swarm: SwarmInfo { local_node_state: "inactive".to_owned(), ..SwarmInfo::default() },
        init_binary: "fluyt".to_owned(),
        security_options: security_options().into(),
        cdi_spec_dirs: words(&["/etc/cdi", "/var/run/cdi"]),
        ..SystemInfo::default()
    }
}

fn security_options() -> Vec<String> {
    let mut options = Vec::new();
    if Path::new("/sys/module/apparmor/parameters/enabled").exists() {
        options.push("name=apparmor".to_owned());
    }
    options.push("name=seccomp,profile=builtin".to_owned());
    if Path::new("/sys/fs/selinux/enforce").exists() {
        options.push("name=selinux".to_owned());
    }
    options.push("name=cgroupns".to_owned());
    options
}

/// `PRETTY_NAME` and `VERSION_ID`.
fn os_release() -> (String, String) {
    let text = fs::read_to_string("/etc/os-release").or_else(|_| fs::read_to_string("/usr/lib/os-release"));
    let text = text.unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    (value("PRETTY_NAME"), value("VERSION_ID"))
}

/// `MemTotal` in bytes.
fn memory_total() -> i64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: i64 = line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0);
    kib * 1024
}

/// The type of the file system that holds the data root: the longest mount point above it.
fn file_system_of(root: &Path) -> String {
    let full = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut best = (0, "unknown");
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        if let (Some(point), Some(kind)) = (words.next(), words.next())
            && full.starts_with(point)
            && point.len() >= best.0
        {
            best = (point.len(), kind);
        }
    }
    match best.1 {
        "ext4" | "ext3" | "ext2" => "extfs".to_owned(),
        other => other.to_owned(),
    }
}
