//! From the flags of `run` and `create` to Docker's create request: a pure function of the words and of what
//! [`Host`] says about the client's surroundings.

mod csv;
pub mod devices;
mod files;
pub mod flags;
mod mounts;
pub mod network;
mod podman;
pub mod ports;
mod security;

use std::path::PathBuf;

use fluyt_docker_api::types::{
    ContainerConfig, CreateRequest, HealthConfig, HostConfig, IdMappings, List, LogConfig, Map, Resources,
    RestartPolicy,
};
use fluyt_model::quantity;

use super::flags::{Arity, Command, Parsed, values};

/// What the translation may know of the client's surroundings.
pub trait Host {
    /// A variable of the client's environment.
    fn env(&self, key: &str) -> Option<String>;
    /// All variables of the client's environment that are text.
    fn vars(&self) -> Vec<(String, String)>;
    /// A file.
    fn read(&self, path: &str) -> std::io::Result<Vec<u8>>;
    /// The working directory.
    fn cwd(&self) -> PathBuf;
}

/// The real surroundings.
pub struct ThisHost;

impl Host for ThisHost {
    fn env(&self, key: &str) -> Option<String> {
        std::env::var_os(key).map(|v| v.to_string_lossy().into_owned())
    }

    fn vars(&self) -> Vec<(String, String)> {
        let text = |value: std::ffi::OsString| value.into_string().ok();
        std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect()
    }

    fn read(&self, path: &str) -> std::io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn cwd(&self) -> PathBuf {
        std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"))
    }
}

/// `fluyt run`.
pub const RUN: Command = Command {
    name: "run",
    arguments: "IMAGE [COMMAND] [ARG...]",
    about: "Create and run a new container from an image",
    flags: &[
        flags::RUN,
        flags::CREATE,
        podman::FLAGS,
        flags::PROCESS,
        flags::SECURITY,
        flags::NETWORK,
        flags::STORAGE,
        flags::HEALTH,
        flags::LIMITS,
        flags::FIXED_LIMITS,
    ],
    arity: Arity::AtLeast(1),
    interspersed: false,
};

/// `fluyt create`.
pub const CREATE: Command = Command {
    name: "create",
    arguments: "IMAGE [COMMAND] [ARG...]",
    about: "Create a new container",
    flags: &[
        flags::CREATE,
        podman::FLAGS,
        flags::PROCESS,
        flags::SECURITY,
        flags::NETWORK,
        flags::STORAGE,
        flags::HEALTH,
        flags::LIMITS,
        flags::FIXED_LIMITS,
    ],
    arity: Arity::AtLeast(1),
    interspersed: false,
};

/// Translates the flags and arguments of [`RUN`] or [`CREATE`].
///
/// # Errors
/// Docker's sentence for what is wrong.
pub fn request(flags: &Parsed, host: &dyn Host) -> Result<CreateRequest, String> {
    let attach: Vec<String> = flags.all("attach").map(str::to_ascii_lowercase).collect();
    let attached = |stream: &str| attach.iter().any(|a| a == stream);
    let stdin = flags.on("interactive");
    let attach_stdin = stdin || attached("stdin");
    if let Some(mac) = flags.given("mac-address") {
        network::mac(mac)?;
    }
    let (volumes, binds) = mounts::volumes(flags.all("volume"), &host.cwd())?;
    let (mut exposed_ports, port_bindings) = ports::publish(flags.all("publish"))?;
    for text in flags.all("expose") {
        exposed_ports.extend(ports::expose(text)?.into_iter().map(|port| (port, Default::default())));
    }
    let env = environment(flags, host)?;
    let labels = labels(flags, host)?;
    let (network_mode, networking_config) = network::endpoints(flags)?;

    let config = ContainerConfig {
        hostname: flags.text("hostname").to_owned(),
        domainname: flags.text("domainname").to_owned(),
        user: flags.text("user").to_owned(),
        attach_stdin,
        attach_stdout: attach.is_empty() || attached("stdout"),
        attach_stderr: attach.is_empty() || attached("stderr"),
        exposed_ports,
        tty: flags.on("tty"),
        open_stdin: stdin,
        stdin_once: stdin && attach_stdin,
        env: List::null_if_empty(env),
        cmd: List::null_if_empty(flags.args[1..].to_vec()),
        healthcheck: health(flags)?,
        image: flags.args[0].clone(),
        volumes,
        working_dir: flags.text("workdir").to_owned(),
        entrypoint: flags.given("entrypoint").map_or_else(List::null, |e| vec![e.to_owned()].into()),
        labels,
        stop_signal: flags.text("stop-signal").to_owned(),
        stop_timeout: flags.changed("stop-timeout").then(|| flags.int("stop-timeout")),
        ..ContainerConfig::default()
    };
    let host_config = host_config(flags, host, binds, port_bindings, network_mode)?;
    let mut request = CreateRequest { config, host_config, networking_config };
    podman::apply(flags, host, &mut request)?;
    let host_config = &request.host_config;
    if host_config.auto_remove && !host_config.restart_policy.is_none() {
        return Err("conflicting options: cannot specify both --restart and --rm".to_owned());
    }
    Ok(request)
}

fn host_config(
    flags: &Parsed,
    host: &dyn Host,
    binds: Vec<String>,
    port_bindings: fluyt_docker_api::types::PortMap,
    network_mode: String,
) -> Result<HostConfig, String> {
    check_modes(flags)?;
    let security = security::read(flags.all("security-opt"), host)?;
    let owned = |name: &'static str| flags.text(name).to_owned();
    let some = |name: &'static str| List::null_if_empty(flags.list(name));
    let cwd = host.cwd();
    let extra_hosts = flags
        .all("add-host")
        .map(|text| values::extra_host_parts(text).map(|(name, address)| format!("{name}:{address}")))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(HostConfig {
        binds: List::null_if_empty(binds),
        container_id_file: owned("cidfile"),
        log_config: log_config(flags)?,
        network_mode,
        port_bindings,
        restart_policy: restart_policy(flags.text("restart"))?,
        auto_remove: flags.on("rm"),
        volume_driver: owned("volume-driver"),
        volumes_from: some("volumes-from"),
        annotations: key_values(flags.all("annotation")),
        cap_add: some("cap-add"),
        cap_drop: some("cap-drop"),
        cgroupns_mode: owned("cgroupns"),
        dns: flags.all("dns").map(|ip| ip.trim().to_owned()).collect(),
        dns_options: flags.list("dns-option").into(),
        dns_search: flags.all("dns-search").map(|d| d.trim_matches(' ').to_owned()).collect(),
        extra_hosts: List::null_if_empty(extra_hosts),
        group_add: some("group-add"),
        ipc_mode: owned("ipc"),
        links: some("link"),
        oom_score_adj: flags.int("oom-score-adj"),
        pid_mode: owned("pid"),
        privileged: flags.on("privileged"),
        publish_all_ports: flags.on("publish-all"),
        readonly_rootfs: flags.on("read-only"),
        security_opt: security.options,
        storage_opt: storage_opt(flags)?,
        tmpfs: mounts::tmpfs_map(flags.all("tmpfs")),
        uts_mode: owned("uts"),
        userns_mode: owned("userns"),
        id_mappings: id_mappings(flags),
        shm_size: flags.bytes("shm-size"),
        sysctls: key_values(flags.all("sysctl")),
        runtime: owned("runtime"),
        isolation: owned("isolation"),
        resources: resources(flags)?,
        mounts: flags.all("mount").map(|text| mounts::mount(text, &cwd)).collect::<Result<_, _>>()?,
        masked_paths: security.masked_paths,
        readonly_paths: security.readonly_paths,
        init: flags.changed("init").then(|| flags.on("init")),
        requires: comma_separated(flags.all("requires")).into(),
        ..HostConfig::default()
    })
}

/// The words of lists that are given one after the other or with commas.
pub fn comma_separated<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<String> {
    texts.flat_map(|text| text.split(',')).filter(|w| !w.is_empty()).map(str::to_owned).collect()
}

/// The limits that `run` and `update` share.
pub fn shared_limits(flags: &Parsed) -> Resources {
    Resources {
        blkio_weight: flags.text("blkio-weight").parse().unwrap_or(0),
        cpu_period: flags.int("cpu-period"),
        cpu_quota: flags.int("cpu-quota"),
        cpu_realtime_period: flags.int("cpu-rt-period"),
        cpu_realtime_runtime: flags.int("cpu-rt-runtime"),
        cpu_shares: flags.int("cpu-shares"),
        nano_cpus: quantity::parse_cpus(flags.text("cpus")).unwrap_or(0),
        cpuset_cpus: flags.text("cpuset-cpus").to_owned(),
        cpuset_mems: flags.text("cpuset-mems").to_owned(),
        memory: flags.bytes("memory"),
        memory_reservation: flags.bytes("memory-reservation"),
        memory_swap: flags.bytes("memory-swap"),
        pids_limit: flags.changed("pids-limit").then(|| flags.int("pids-limit")),
        ..Resources::default()
    }
}

fn resources(flags: &Parsed) -> Result<Resources, String> {
    let swappiness = flags.int("memory-swappiness");
    if swappiness != -1 && !(0..=100).contains(&swappiness) {
        return Err(format!("invalid value: {swappiness}. Valid memory swappiness range is 0-100"));
    }
    let (devices, cdi) = devices::devices(flags.all("device"))?;
    let mut requests = flags.all("gpus").map(devices::gpus).collect::<Result<Vec<_>, _>>()?;
    requests.extend(cdi);
    let mut ulimits = flags.all("ulimit").map(devices::ulimit).collect::<Result<Vec<_>, _>>()?;
    ulimits.reverse();
    ulimits.sort_by(|a, b| a.name.cmp(&b.name));
    ulimits.dedup_by(|later, first| later.name == first.name);
    Ok(Resources {
        cgroup_parent: flags.text("cgroup-parent").to_owned(),
        blkio_weight_device: flags
            .all("blkio-weight-device")
            .map(devices::weight)
            .collect::<Result<_, _>>()?,
        blkio_device_read_bps: flags.all("device-read-bps").map(devices::bps).collect::<Result<_, _>>()?,
        blkio_device_write_bps: flags.all("device-write-bps").map(devices::bps).collect::<Result<_, _>>()?,
        blkio_device_read_iops: flags.all("device-read-iops").map(devices::iops).collect::<Result<_, _>>()?,
        blkio_device_write_iops: flags
            .all("device-write-iops")
            .map(devices::iops)
            .collect::<Result<_, _>>()?,
        devices,
        device_cgroup_rules: List::null_if_empty(flags.list("device-cgroup-rule")),
        device_requests: List::null_if_empty(requests),
        memory_swappiness: (swappiness != -1).then_some(swappiness),
        oom_kill_disable: flags.changed("oom-kill-disable").then(|| flags.on("oom-kill-disable")),
        ulimits: ulimits.into(),
        cpu_count: flags.int("cpu-count"),
        cpu_percent: flags.int("cpu-percent"),
        io_maximum_iops: flags.text("io-maxiops").parse().unwrap_or(0),
        io_maximum_bandwidth: u64::try_from(flags.bytes("io-maxbandwidth")).unwrap_or(0),
        ..shared_limits(flags)
    })
}

fn id_mappings(flags: &Parsed) -> Option<IdMappings> {
    let maps = IdMappings { uid_map: flags.list("uidmap").into(), gid_map: flags.list("gidmap").into() };
    (flags.changed("uidmap") || flags.changed("gidmap")).then_some(maps)
}

fn check_modes(flags: &Parsed) -> Result<(), String> {
    let container = |mode: &str| mode.strip_prefix("container:").is_some_and(|id| !id.is_empty());
    let pid = flags.text("pid");
    if !matches!(pid, "" | "host" | "private") && !container(pid) {
        return Err("--pid: invalid PID mode".to_owned());
    }
    if !matches!(flags.text("uts"), "" | "host" | "private") {
        return Err("--uts: invalid UTS mode".to_owned());
    }
    let (user, _) = flags.text("userns").split_once(':').unwrap_or((flags.text("userns"), ""));
    if !matches!(user, "" | "host" | "private" | "auto" | "container" | "ns" | "keep-id" | "nomap") {
        return Err("--userns: invalid USER mode".to_owned());
    }
    if !matches!(flags.text("cgroupns"), "" | "host" | "private") {
        return Err("--cgroupns: invalid CGROUP mode".to_owned());
    }
    let ipc = flags.text("ipc");
    if !matches!(ipc, "" | "none" | "private" | "shareable" | "host") && !container(ipc) {
        return Err(format!("--ipc: invalid IPC mode: {ipc}"));
    }
    Ok(())
}

/// Reads `--restart name[:count]`.
pub fn restart_policy(text: &str) -> Result<RestartPolicy, String> {
    let wrong = |why: &str| format!("invalid restart policy format: {why}");
    let (name, count) = text.split_once(':').map_or((text, ""), |(n, c)| (n, c));
    if name.is_empty() && !text.is_empty() {
        return Err(wrong("no policy provided before colon"));
    }
    let maximum_retry_count = match count {
        "" => 0,
        count => count.parse().map_err(|_| wrong("maximum retry count must be an integer"))?,
    };
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count })
}

fn log_config(flags: &Parsed) -> Result<LogConfig, String> {
    let kind = flags.text("log-driver").to_owned();
    if kind == "none" && flags.changed("log-opt") {
        return Err(format!("invalid logging opts for driver {kind}"));
    }
    Ok(LogConfig { kind, config: key_values(flags.all("log-opt")) })
}

fn storage_opt(flags: &Parsed) -> Result<Map<String>, String> {
    if flags.all("storage-opt").any(|text| !text.contains('=')) {
        return Err("invalid storage option".to_owned());
    }
    Ok(key_values(flags.all("storage-opt")))
}

fn health(flags: &Parsed) -> Result<Option<HealthConfig>, String> {
    let command = flags.text("health-cmd");
    let config = HealthConfig {
        test: if command.is_empty() {
            List::null()
        } else {
            vec!["CMD-SHELL".to_owned(), command.to_owned()].into()
        },
        interval: flags.nanos("health-interval"),
        timeout: flags.nanos("health-timeout"),
        start_period: flags.nanos("health-start-period"),
        start_interval: flags.nanos("health-start-interval"),
        retries: flags.int("health-retries"),
    };
    let wanted = config != HealthConfig::default();
    if flags.on("no-healthcheck") {
        if wanted {
            return Err("--no-healthcheck conflicts with --health-* options".to_owned());
        }
        return Ok(Some(HealthConfig { test: vec!["NONE".to_owned()].into(), ..HealthConfig::default() }));
    }
    for (name, value) in [
        ("interval", config.interval),
        ("timeout", config.timeout),
        ("retries", config.retries),
        ("start-period", config.start_period),
        ("start-interval", config.start_interval),
    ] {
        if value < 0 {
            return Err(format!("--health-{name} cannot be negative"));
        }
    }
    Ok(wanted.then_some(config))
}

/// The environment from `--env-file` and `--env`; a bare key takes the client's value.
pub fn environment(flags: &Parsed, host: &dyn Host) -> Result<Vec<String>, String> {
    let lookup = |key: &str| host.env(key);
    let mut all = Vec::new();
    for path in flags.all("env-file") {
        all.extend(files::read(path, host, Some(&lookup)).map_err(|why| format!("--env-file: {why}"))?);
    }
    for text in flags.all("env") {
        all.push(match host.env(text) {
            Some(value) if !text.contains('=') => format!("{text}={value}"),
            _ => text.to_owned(),
        });
    }
    Ok(all)
}

fn labels(flags: &Parsed, host: &dyn Host) -> Result<Map<String>, String> {
    let mut all = Vec::new();
    for path in flags.all("label-file") {
        all.extend(files::read(path, host, None).map_err(|why| format!("--label-file: {why}"))?);
    }
    all.extend(flags.list("label"));
    Ok(key_values(all.iter().map(String::as_str)))
}

/// `key=value` texts as a map; a bare key gets an empty value.
pub fn key_values<'a>(texts: impl Iterator<Item = &'a str>) -> Map<String> {
    texts
        .map(|text| text.split_once('=').unwrap_or((text, "")))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// An I/O error as Go prints it.
fn go_errno(error: &std::io::Error) -> String {
    use std::io::ErrorKind as K;
    match error.kind() {
        K::NotFound => "no such file or directory".to_owned(),
        K::PermissionDenied => "permission denied".to_owned(),
        K::IsADirectory => "is a directory".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
