//! The part of a container that belongs to its host: limits, privileges, namespaces, devices, restarts.

use fluyt_docker_api::types::{
    DeviceMapping, DeviceRequest, EndpointSettings, HostConfig, List, LogConfig, Map, Resources,
    RestartPolicy, ThrottleDevice, Ulimit, WeightDevice,
};
use fluyt_model::{Error, Result};

use super::{Surroundings, mounts, network};
use crate::document::{Node, Value};
use crate::project::Project;
use crate::view::View;

/// The host's part, and the container's place in its networks.
pub fn host_config(
    project: &Project,
    service: &str,
    node: &Node,
    around: &Surroundings,
) -> Result<(HostConfig, Vec<(String, EndpointSettings)>)> {
    let (binds, mounts) = mounts::mounts(project, service, node, around)?;
    let shared = |key: &str| shared(service, &node.text(key), around);
    let mut networks = Vec::new();
    let network_mode = match node.text("network_mode") {
        mode if !mode.is_empty() => shared("network_mode")?,
        _ => {
            networks = network::endpoints(project, service, node, around);
            networks.first().map_or_else(|| "none".to_owned(), |(name, _)| name.clone())
        }
    };
    let security = node.texts("security_opt").into_iter();
    let host = HostConfig {
        binds: List::null_if_empty(binds),
        log_config: log_config(node),
        network_mode,
        port_bindings: network::bindings(node)?,
        restart_policy: restart(node),
        volumes_from: volumes_from(service, node, around)?.into(),
        annotations: Map::null_if_empty(node.dict("annotations")),
        cap_add: node.texts("cap_add").into(),
        cap_drop: node.texts("cap_drop").into(),
        cgroupns_mode: node.text("cgroup"),
        dns: node.texts("dns").into(),
        dns_options: node.texts("dns_opt").into(),
        dns_search: node.texts("dns_search").into(),
        extra_hosts: node.texts("extra_hosts").into_iter().map(|h| h.replacen('=', ":", 1)).collect(),
        group_add: node.texts("group_add").into(),
        ipc_mode: shared("ipc")?,
        oom_score_adj: node.int("oom_score_adj").unwrap_or(0),
        pid_mode: shared("pid")?,
        privileged: node.flag("privileged"),
        readonly_rootfs: node.flag("read_only"),
        security_opt: security.map(|o| o.replacen("seccomp:", "seccomp=", 1)).collect(),
        storage_opt: Map::null_if_empty(node.dict("storage_opt")),
        tmpfs: Map::null_if_empty(tmpfs(node)),
        uts_mode: shared("uts")?,
        userns_mode: node.text("userns_mode"),
        shm_size: node.amount("shm_size"),
        sysctls: Map::null_if_empty(node.dict("sysctls")),
        runtime: node.text("runtime"),
        isolation: node.text("isolation"),
        resources: resources(node),
        mounts: List::null_if_empty(mounts),
        init: node.maybe("init"),
        ..HostConfig::default()
    };
    Ok((host, networks))
}

/// `service:NAME` as `container:ID`.
fn shared(service: &str, mode: &str, around: &Surroundings) -> Result<String> {
    let Some(other) = mode.strip_prefix("service:") else { return Ok(mode.to_owned()) };
    match around.containers.get(other) {
        Some(id) => Ok(format!("container:{id}")),
        None => Err(Error::conflict(format!(
            "service {service} shares with service {other}, which has no container"
        ))
        .with_hint(format!("start {other} first"))),
    }
}

fn volumes_from(service: &str, node: &Node, around: &Surroundings) -> Result<Vec<String>> {
    node.texts("volumes_from")
        .into_iter()
        .map(|from| {
            if let Some(container) = from.strip_prefix("container:") {
                return Ok(container.to_owned());
            }
            let (name, mode) = from.split_once(':').map_or((from.as_str(), ""), |(n, m)| (n, m));
            let id = shared(service, &format!("service:{name}"), around)?;
            let id = id.trim_start_matches("container:");
            Ok(if mode.is_empty() { id.to_owned() } else { format!("{id}:{mode}") })
        })
        .collect()
}

fn log_config(node: &Node) -> LogConfig {
    match node.get("logging") {
        Some(logging) => LogConfig { kind: logging.text("driver"), config: logging.dict("options").into() },
        None => LogConfig::default(),
    }
}

/// `restart`, or what `deploy` says in its words.
fn restart(node: &Node) -> RestartPolicy {
    let text = node.text("restart");
    if !text.is_empty() {
        let (name, count) = text.split_once(':').unwrap_or((&text, ""));
        return RestartPolicy { name: name.to_owned(), maximum_retry_count: count.parse().unwrap_or(0) };
    }
    let Some(policy) = node.get("deploy").and_then(|d| d.get("restart_policy")) else {
        return RestartPolicy::default();
    };
    let name = match policy.text("condition").as_str() {
        "none" | "no" => "no",
        "on-failure" => "on-failure",
        "unless-stopped" => "unless-stopped",
        _ => "always",
    };
    let count = if name == "on-failure" { policy.int("max_attempts").unwrap_or(0) } else { 0 };
    RestartPolicy { name: name.to_owned(), maximum_retry_count: count }
}

fn tmpfs(node: &Node) -> std::collections::BTreeMap<String, String> {
    let texts = node.texts("tmpfs").into_iter();
    texts
        .map(|t| {
            t.split_once(':')
                .map_or((t.clone(), String::new()), |(path, options)| (path.to_owned(), options.to_owned()))
        })
        .collect()
}

fn resources(node: &Node) -> Resources {
    let deploy = node.get("deploy").and_then(|d| d.get("resources"));
    let limits = deploy.and_then(|d| d.get("limits"));
    let reservations = deploy.and_then(|d| d.get("reservations"));
    let cpus = limits.and_then(|l| l.number("cpus")).or_else(|| node.number("cpus")).unwrap_or(0.0);
    let or = |first: i64, second: i64| if first == 0 { second } else { first };
    let memory = or(node.amount("mem_limit"), limits.map_or(0, |l| l.amount("memory")));
    let pids = node.int("pids_limit").or_else(|| limits.and_then(|l| l.int("pids"))).filter(|n| *n != 0);
    let mut requests: Vec<DeviceRequest> = Vec::new();
    let devices = reservations.map(|r| r.items("devices")).unwrap_or_default();
    requests.extend(devices.iter().map(|d| request(d, &[])));
    requests.extend(node.items("gpus").iter().map(|d| request(d, &["gpu"])));
    let mut out = Resources {
        cpu_shares: node.int("cpu_shares").unwrap_or(0),
        memory,
        nano_cpus: (cpus * 1e9).round() as i64,
        cgroup_parent: node.text("cgroup_parent"),
        cpu_period: node.int("cpu_period").unwrap_or(0),
        cpu_quota: node.int("cpu_quota").unwrap_or(0),
        cpu_realtime_period: node.int("cpu_rt_period").unwrap_or(0),
        cpu_realtime_runtime: node.int("cpu_rt_runtime").unwrap_or(0),
        cpuset_cpus: node.text("cpuset"),
        devices: List::null_if_empty(node.items("devices").iter().map(device).collect()),
        device_cgroup_rules: List::null_if_empty(node.texts("device_cgroup_rules")),
        device_requests: List::null_if_empty(requests),
        memory_reservation: or(
            node.amount("mem_reservation"),
            reservations.map_or(0, |r| r.amount("memory")),
        ),
        memory_swap: node.amount("memswap_limit"),
        memory_swappiness: node.get("mem_swappiness").map(|_| node.amount("mem_swappiness")),
        oom_kill_disable: node.maybe("oom_kill_disable"),
        pids_limit: pids,
        ulimits: List::null_if_empty(node.entries("ulimits").into_iter().map(ulimit).collect()),
        cpu_count: node.int("cpu_count").unwrap_or(0),
        cpu_percent: node.number("cpu_percent").unwrap_or(0.0) as i64,
        ..Resources::default()
    };
    if let Some(blkio) = node.get("blkio_config") {
        let rates = |key: &str| -> List<ThrottleDevice> {
            let rate =
                |d: &Node| ThrottleDevice { path: d.text("path"), rate: d.amount("rate").unsigned_abs() };
            List::null_if_empty(blkio.items(key).iter().map(rate).collect())
        };
        let weight = |n: Option<i64>| u16::try_from(n.unwrap_or(0)).unwrap_or(0);
        out.blkio_weight = weight(blkio.int("weight"));
        let weights = blkio.items("weight_device").iter();
        let weights = weights.map(|d| WeightDevice { path: d.text("path"), weight: weight(d.int("weight")) });
        out.blkio_weight_device = List::null_if_empty(weights.collect());
        out.blkio_device_read_bps = rates("device_read_bps");
        out.blkio_device_read_iops = rates("device_read_iops");
        out.blkio_device_write_bps = rates("device_write_bps");
        out.blkio_device_write_iops = rates("device_write_iops");
    }
    out
}

fn device(device: &Node) -> DeviceMapping {
    let source = device.text("source");
    let target = device.text("target");
    let permissions = device.text("permissions");
    DeviceMapping {
        path_in_container: if target.is_empty() { source.clone() } else { target },
        path_on_host: source,
        cgroup_permissions: if permissions.is_empty() { "rwm".to_owned() } else { permissions },
    }
}

fn request(device: &Node, more: &[&str]) -> DeviceRequest {
    let mut capabilities = device.texts("capabilities");
    capabilities
        .extend(more.iter().map(|m| (*m).to_owned()).filter(|m| !device.texts("capabilities").contains(m)));
    DeviceRequest {
        driver: device.text("driver"),
        count: device.int("count").unwrap_or(0),
        device_ids: List::null_if_empty(device.texts("device_ids")),
        capabilities: vec![capabilities].into(),
        options: Map::null_if_empty(device.dict("options")),
    }
}

fn ulimit((name, node): (&str, &Node)) -> Ulimit {
    let (soft, hard) = match node.value {
        Value::Int(both) => (both, both),
        _ => (node.int("soft").unwrap_or(0), node.int("hard").unwrap_or(0)),
    };
    Ulimit { name: name.to_owned(), hard, soft }
}
