//! Containers.

use std::path::PathBuf;
use std::sync::Arc;

use crate::types::inspect::{HostConfigSummary, NetworkSettingsSummary};
use crate::types::{
    ContainerInspect, ContainerState, ContainerSummary, CreateRequest, EndpointIpamConfig, EndpointSettings,
    GraphDriver, Health, HealthcheckResult, HostConfig, List, Map, MountPoint, NetworkSettings, PortBinding,
    PortMap, PortNumber, PortSummary, Proto,
};
use fluyt_engine::{ContainerView, EndpointView, MountView, Recorded};
use fluyt_model::id;
use fluyt_model::quantity::human_duration;
use fluyt_model::sandbox::{
    ContainerSpec, HealthStatus, MASKED_PATHS, Namespace, NetworkAttachment, Phase, PortMapping, Protocol,
    READ_ONLY_PATHS, RestartCondition, SandboxStatus,
};

use super::endpoint;
use crate::time;

/// Docker's create request that the container was made from, with the image's defaults filled in. A container that
/// came from another façade has none; then it is derived from the contract.
pub fn document(view: &ContainerView) -> Arc<CreateRequest> {
    view.made(|| request(view))
}

fn request(recorded: &Recorded) -> CreateRequest {
    let spec = recorded.spec.containers.first().unwrap_or_else(|| no_spec());
    if let Some(mut request) = recorded.document::<CreateRequest>()
        && !request.config.image.is_empty()
    {
        as_updated(&mut request.host_config, spec);
        return request;
    }
    let mut request = CreateRequest::default();
    request.config.image.clone_from(&spec.image);
    request.config.cmd = spec.process.args.clone().into();
    request.config.env = spec.process.env.clone().into();
    request.config.user.clone_from(&spec.process.user);
    request.config.working_dir.clone_from(&spec.process.cwd);
    request.config.tty = spec.process.tty;
    request.config.labels = recorded.spec.labels.clone().into();
    request.host_config.restart_policy.name = spec.restart.condition.as_str().to_owned();
    request.host_config.auto_remove = recorded.spec.auto_remove;
    request
}

/// Brings what `update` can change up to date: the contract is newer than the request.
fn as_updated(host: &mut HostConfig, spec: &ContainerSpec) {
    fn set(old: &mut i64, new: Option<i64>) {
        if let Some(new) = new {
            *old = new;
        }
    }
    let (limits, now) = (&mut host.resources, &spec.resources);
    set(&mut limits.memory, now.memory);
    set(&mut limits.memory_swap, now.memory_swap);
    set(&mut limits.memory_reservation, now.memory_reservation);
    limits.nano_cpus = now.nano_cpus.unwrap_or(0);
    set(&mut limits.cpu_shares, now.cpu_shares.and_then(|v| v.try_into().ok()));
    set(&mut limits.cpu_quota, now.cpu_quota);
    set(&mut limits.cpu_period, now.cpu_period.and_then(|v| v.try_into().ok()));
    limits.cpuset_cpus.clone_from(&now.cpuset_cpus);
    limits.cpuset_mems.clone_from(&now.cpuset_mems);
    limits.pids_limit = now.pids_limit.or(limits.pids_limit);
    if spec.restart.condition != RestartCondition::No || !host.restart_policy.name.is_empty() {
        host.restart_policy.name = spec.restart.condition.as_str().to_owned();
        host.restart_policy.maximum_retry_count = spec.restart.max_retries.into();
    }
}

/// The only container of a Docker sandbox.
fn first(view: &ContainerView) -> &ContainerSpec {
    view.spec.containers.first().unwrap_or_else(|| no_spec())
}

fn no_spec() -> &'static ContainerSpec {
    static EMPTY: std::sync::OnceLock<ContainerSpec> = std::sync::OnceLock::new();
    EMPTY.get_or_init(ContainerSpec::default)
}

/// `Up 3 hours (healthy)`, `Exited (0) 2 minutes ago`; `now` in nanoseconds since 1970.
fn status_text(status: &SandboxStatus, now: i64) -> String {
    let up = || human_duration(now - status.started_at);
    let down = || human_duration(now - status.finished_at);
    match status.phase {
        Phase::Created => "Created".to_owned(),
        Phase::Removing => "Removal In Progress".to_owned(),
        Phase::Dead => "Dead".to_owned(),
        Phase::Exited if status.finished_at == 0 => "Created".to_owned(),
        Phase::Exited => format!("Exited ({}) {} ago", status.exit_code, down()),
        Phase::Restarting => format!("Restarting ({}) {} ago", status.exit_code, down()),
        Phase::Paused => format!("Up {} (Paused)", up()),
        Phase::Running => match &status.health {
            None => format!("Up {}", up()),
            Some(health) if health.status == HealthStatus::Starting => {
                format!("Up {} (health: starting)", up())
            }
            Some(health) => format!("Up {} ({})", up(), health.status.as_str()),
        },
    }
}

/// `State` of `inspect`.
fn state(status: &SandboxStatus) -> ContainerState {
    let alive = matches!(status.phase, Phase::Running | Phase::Paused | Phase::Restarting);
    ContainerState {
        status: status.phase.as_str().to_owned(),
        running: alive,
        paused: status.phase == Phase::Paused,
        restarting: status.phase == Phase::Restarting,
        oom_killed: status.oom_killed,
        dead: status.phase == Phase::Dead,
        pid: if alive { i64::from(status.pid) } else { 0 },
        exit_code: i64::from(status.exit_code),
        error: status.error.clone(),
        started_at: time::rfc3339_nano(status.started_at),
        finished_at: time::rfc3339_nano(status.finished_at),
        health: status.health.as_ref().map(|health| Health {
            status: health.status.as_str().to_owned(),
            failing_streak: i64::from(health.failing_streak),
            log: health
                .log
                .iter()
                .map(|r| HealthcheckResult {
                    start: time::rfc3339_nano(r.start),
                    end: time::rfc3339_nano(r.end),
                    exit_code: i64::from(r.exit_code),
                    output: r.output.clone(),
                })
                .collect(),
        }),
    }
}

/// A row of `GET /containers/json`; `size` is (writable layer, all).
pub fn summary(view: &ContainerView, size: Option<(u64, u64)>, now: i64) -> ContainerSummary {
    let request = document(view);
    let spec = first(view);
    let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let (rw, all) = size.unwrap_or_default();
    let image_id = if spec.image_id.starts_with("sha256:") {
        spec.image_id.clone()
    } else {
        format!("sha256:{}", spec.image_id)
    };
    ContainerSummary {
        id: view.id.clone(),
        names: vec![format!("/{}", view.name)].into(),
        image: spec.image.clone(),
        image_id,
        command: command(&spec.process.args),
        created: view.created.div_euclid(1_000_000_000),
        ports: port_list(view, &request),
        size_rw: bytes(rw),
        size_root_fs: bytes(all),
        labels: view.spec.labels.clone().into(),
        state: view.status.phase.as_str().to_owned(),
        status: status_text(&view.status, now),
        host_config: HostConfigSummary {
            network_mode: asked_mode(view, &request),
            annotations: Map::null_if_empty(view.spec.annotations.clone()),
        },
        network_settings: NetworkSettingsSummary { networks: networks(view, &request) },
        mounts: mounts(view, &request),
        pod: view.spec.pod.clone(),
        pod_name: view.spec.pod_name.clone(),
    }
}

/// `docker inspect` of a container.
pub fn inspect(view: &ContainerView, size: Option<(u64, u64)>) -> ContainerInspect {
    let request = document(view);
    let spec = first(view);
    let text = |path: &PathBuf| path.display().to_string();
    let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let (path, args) = match spec.process.args.split_first() {
        Some((path, args)) => (path.clone(), args.to_vec()),
        None => (String::new(), Vec::new()),
    };
    let mut config = request.config.clone();
    if config.hostname.is_empty() && view.spec.namespaces.uts == Namespace::Private {
        config.hostname = id::short(&view.id).to_owned();
    }
    if config.labels.is_null() {
        config.labels = Map::empty();
    }
    let mut host_config = request.host_config.clone();
    if host_config.log_config.config.is_null() {
        host_config.log_config.config = Map::empty();
    }
    if host_config.network_mode.is_empty() {
        host_config.network_mode = asked_mode(view, &request);
    }
    if host_config.log_config.kind.is_empty() {
        host_config.log_config.kind = "json-file".to_owned();
    }
    if host_config.shm_size == 0 {
        host_config.shm_size = 64 << 20;
    }
    spell_out(&mut host_config, view);
    ContainerInspect {
        id: view.id.clone(),
        created: time::rfc3339_nano(view.created),
        path,
        args: args.into(),
        state: state(&view.status),
        image: spec.image_id.clone(),
        resolv_conf_path: text(&view.paths.resolv_conf),
        hostname_path: text(&view.paths.hostname),
        hosts_path: text(&view.paths.hosts),
        log_path: text(&view.paths.log),
        name: format!("/{}", view.name),
        restart_count: i64::from(view.status.restart_count),
        driver: "overlay2".to_owned(),
        platform: "linux".to_owned(),
        app_armor_profile: fluyt_engine::apparmor_profile(&spec.security),
        exec_ids: List::null(),
        host_config,
        graph_driver: graph_driver(view),
        size_rw: size.map(|(rw, _)| bytes(rw)),
        size_root_fs: size.map(|(_, all)| bytes(all)),
        mounts: mounts(view, &request),
        network_settings: network_settings(view, &request),
        config,
        ..ContainerInspect::default()
    }
}

/// Writes down what was left to the defaults, as Docker's engine does when it creates a container.
fn spell_out(host: &mut HostConfig, view: &ContainerView) {
    let namespaces = &view.spec.namespaces;
    if host.cgroupns_mode.is_empty() {
        host.cgroupns_mode = if namespaces.cgroup == Namespace::Host { "host" } else { "private" }.to_owned();
    }
    if host.ipc_mode.is_empty() {
        host.ipc_mode = "private".to_owned();
    }
    if host.runtime.is_empty() {
        host.runtime = "fluyt".to_owned();
    }
    let limits = &mut host.resources;
    if limits.memory > 0 && limits.memory_swap == 0 {
        limits.memory_swap = limits.memory.saturating_mul(2);
    }
    limits.oom_kill_disable.get_or_insert(false);
    for list in [&mut host.cap_add, &mut host.cap_drop] {
        for name in list.iter_mut() {
            *name = canonical_capability(name);
        }
    }
    if !host.privileged {
        let owned = |paths: &[&str]| List::from(paths.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>());
        if host.masked_paths.is_null() {
            host.masked_paths = owned(&MASKED_PATHS);
        }
        if host.readonly_paths.is_null() {
            host.readonly_paths = owned(&READ_ONLY_PATHS);
        }
    }
}

fn canonical_capability(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    if upper == "ALL" || upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") }
}

fn graph_driver(view: &ContainerView) -> GraphDriver {
    let lower: Vec<String> = view.paths.lower.iter().map(|p| p.display().to_string()).collect();
    let merged = view.paths.dir.join("merged");
    let entries = [
        ("LowerDir", lower.join(":")),
        ("MergedDir", merged.display().to_string()),
        ("UpperDir", view.paths.upper.display().to_string()),
        ("WorkDir", view.paths.work.display().to_string()),
    ];
    GraphDriver {
        data: entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        name: "overlay2".to_owned(),
    }
}

/// All mounts but those of `--tmpfs`, which Docker shows among the host's part only.
fn mounts(view: &ContainerView, request: &CreateRequest) -> Vec<MountPoint> {
    let shown = view.mounts.iter().filter(|m| !request.host_config.tmpfs.contains_key(&m.target));
    shown.map(|m| mount(m, request)).collect()
}

/// What the user asked of a mount is its mode; what it became, the rest.
fn mount(view: &MountView, request: &CreateRequest) -> MountPoint {
    let mode = request
        .host_config
        .binds
        .iter()
        .filter_map(|bind| {
            let mut parts = bind.splitn(3, ':').skip(1);
            (parts.next() == Some(view.target.as_str())).then(|| parts.next().unwrap_or("").to_owned())
        })
        .next();
    // Anonymous volumes of the image or of `Volumes` have no mode.
    let asked = mode.is_some() || request.host_config.mounts.iter().any(|m| m.target == view.target);
    let default = if view.kind == "volume" && asked { "z" } else { "" };
    let mode = mode.filter(|mode| !mode.is_empty());
    MountPoint {
        kind: view.kind.clone(),
        name: view.name.clone(),
        source: view.source.display().to_string(),
        destination: view.target.clone(),
        driver: view.driver.clone(),
        mode: mode.unwrap_or_else(|| default.to_owned()),
        rw: view.rw,
        propagation: view.propagation.clone(),
    }
}

/// The command as one line: arguments with blanks stand in quotes.
fn command(args: &[String]) -> String {
    let mut line = args.first().cloned().unwrap_or_default();
    for arg in args.iter().skip(1) {
        line.push(' ');
        if arg.contains(' ') {
            line.extend(["'", arg.as_str(), "'"]);
        } else {
            line.push_str(arg);
        }
    }
    line
}

/// The network mode as it was asked for: what was left open is `default`.
fn asked_mode(view: &ContainerView, request: &CreateRequest) -> String {
    match (request.host_config.network_mode.as_str(), network_mode(view, request)) {
        ("" | "default", mode) if mode == "bridge" => "default".to_owned(),
        (_, mode) => mode,
    }
}

fn network_mode(view: &ContainerView, request: &CreateRequest) -> String {
    match (&view.spec.namespaces.network, request.host_config.network_mode.as_str()) {
        (_, mode) if !matches!(mode, "" | "default") => mode.to_owned(),
        (Namespace::Host, _) => "host".to_owned(),
        (Namespace::Container(other), _) => format!("container:{other}"),
        _ => "bridge".to_owned(),
    }
}

fn networks(view: &ContainerView, request: &CreateRequest) -> Map<EndpointSettings> {
    let asked = &request.networking_config.endpoints_config;
    let mut map: Map<EndpointSettings> = Map::empty();
    let of = |name: &str, id: &str| {
        let known = asked.get(name).or_else(|| asked.get(id));
        let known = known.or_else(|| if name == "bridge" { asked.get("default") } else { None });
        let plugged =
            || view.spec.networks.iter().find(|a| a.network == name || a.network == id).map(attached);
        known.cloned().or_else(plugged)
    };
    for got in view.endpoints.iter() {
        // A stopped container keeps its addresses, but nobody answers there.
        let got = &if is_up(view) { got.clone() } else { unplugged(got) };
        map.insert(got.network.clone(), endpoint(of(&got.network, &got.network_id).as_ref(), got));
    }
    // Plugged in, and never started since.
    for attachment in &view.spec.networks {
        let name = attachment.network.as_str();
        let known = view.endpoints.iter().any(|e| e.network == name || e.network_id == name);
        if !known && !map.contains_key(name) {
            map.insert(name.to_owned(), of(name, name).unwrap_or_default());
        }
    }
    if map.is_vacant() {
        // Networks without an address of their own still show, as with Docker.
        let mode = network_mode(view, request);
        if !mode.starts_with("container:") {
            let settings = asked.get(&mode).cloned().unwrap_or_default();
            map.insert(mode, settings);
        }
    }
    map
}

/// What was asked for when the container was plugged in after it was made.
fn attached(attachment: &NetworkAttachment) -> EndpointSettings {
    let text = |address: Option<String>| address.unwrap_or_default();
    let ipam = EndpointIpamConfig {
        ipv4_address: text(attachment.ipv4.map(|a| a.to_string())),
        ipv6_address: text(attachment.ipv6.map(|a| a.to_string())),
        ..EndpointIpamConfig::default()
    };
    let links = attachment.links.iter().map(|(name, alias)| format!("{name}:{alias}")).collect();
    EndpointSettings {
        ipam_config: Some(ipam).filter(|ipam| *ipam != EndpointIpamConfig::default()),
        links: List::null_if_empty(links),
        aliases: List::null_if_empty(attachment.aliases.clone()),
        mac_address: text(attachment.mac.clone()),
        driver_opts: Map::null_if_empty(attachment.driver_opts.clone()),
        gw_priority: attachment.gateway_priority.into(),
        ..EndpointSettings::default()
    }
}

fn unplugged(endpoint: &EndpointView) -> EndpointView {
    EndpointView {
        network: endpoint.network.clone(),
        network_id: endpoint.network_id.clone(),
        dns_names: endpoint.dns_names.clone(),
        aliases: endpoint.aliases.clone(),
        ..EndpointView::default()
    }
}

fn proto(protocol: Protocol) -> Proto {
    match protocol {
        Protocol::Tcp => Proto::Tcp,
        Protocol::Udp => Proto::Udp,
        Protocol::Sctp => Proto::Sctp,
    }
}

/// Host addresses of a published port: every address means both families.
fn host_ips(port: &PortMapping) -> Vec<String> {
    match port.host_ip {
        Some(ip) => vec![ip.to_string()],
        None => vec!["0.0.0.0".to_owned(), "::".to_owned()],
    }
}

fn is_up(view: &ContainerView) -> bool {
    matches!(view.status.phase, Phase::Running | Phase::Paused)
}

fn port_map(view: &ContainerView, request: &CreateRequest) -> PortMap {
    let mut map = PortMap::new();
    if !is_up(view) {
        return map;
    }
    for port in request.config.exposed_ports.keys() {
        map.insert(*port, List::null());
    }
    for port in &view.status.ports {
        let key = PortNumber { port: port.container_port, proto: proto(port.protocol) };
        let list = map.entry(key).or_default();
        for host_ip in host_ips(port) {
            list.push(PortBinding { host_ip, host_port: port.host_port.to_string() });
        }
    }
    map
}

fn port_list(view: &ContainerView, request: &CreateRequest) -> Vec<PortSummary> {
    let mut list = Vec::new();
    for (port, bindings) in port_map(view, request) {
        let one = |ip: &str, public_port: u16| PortSummary {
            ip: ip.to_owned(),
            private_port: port.port,
            public_port,
            kind: port.proto.as_str().to_owned(),
        };
        if bindings.is_vacant() {
            list.push(one("", 0));
        }
        list.extend(bindings.iter().map(|b| one(&b.host_ip, b.host_port.parse().unwrap_or(0))));
    }
    list
}

fn network_settings(view: &ContainerView, request: &CreateRequest) -> NetworkSettings {
    let networks = networks(view, request);
    let up = is_up(view);
    let mut settings = NetworkSettings {
        sandbox_id: if up { view.id.clone() } else { String::new() },
        sandbox_key: if up && view.status.pid > 0 {
            format!("/proc/{}/ns/net", view.status.pid)
        } else {
            String::new()
        },
        ports: port_map(view, request),
        ..NetworkSettings::default()
    };
    if let Some(bridge) = networks.get("bridge") {
        settings.endpoint_id.clone_from(&bridge.endpoint_id);
        settings.gateway.clone_from(&bridge.gateway);
        settings.global_ipv6_address.clone_from(&bridge.global_ipv6_address);
        settings.global_ipv6_prefix_len = bridge.global_ipv6_prefix_len;
        settings.ip_address.clone_from(&bridge.ip_address);
        settings.ip_prefix_len = bridge.ip_prefix_len;
        settings.ipv6_gateway.clone_from(&bridge.ipv6_gateway);
        settings.mac_address.clone_from(&bridge.mac_address);
    }
    settings.networks = networks;
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use fluyt_model::sandbox::Health as SandboxHealth;

    #[test]
    fn statuses_read_as_dockers_do() {
        let second = 1_000_000_000;
        let now = 1_000_000 * second;
        let status = |phase, exit_code, health| SandboxStatus {
            phase,
            exit_code,
            health,
            started_at: now - 3600 * second,
            finished_at: now - 120 * second,
            ..SandboxStatus::default()
        };
        let health = |status| Some(SandboxHealth { status, ..SandboxHealth::default() });
        for (status, text) in [
            (status(Phase::Created, 0, None), "Created"),
            (status(Phase::Running, 0, None), "Up About an hour"),
            (
                status(Phase::Running, 0, health(HealthStatus::Starting)),
                "Up About an hour (health: starting)",
            ),
            (status(Phase::Running, 0, health(HealthStatus::Unhealthy)), "Up About an hour (unhealthy)"),
            (status(Phase::Paused, 0, None), "Up About an hour (Paused)"),
            (status(Phase::Exited, 137, None), "Exited (137) 2 minutes ago"),
            (status(Phase::Restarting, 1, None), "Restarting (1) 2 minutes ago"),
        ] {
            assert_eq!(status_text(&status, now), text);
        }
    }

    #[test]
    fn published_ports_show_both_families() {
        let document = serde_json::json!({"Image": "i", "ExposedPorts": {"80/tcp": {}, "90/udp": {}}});
        let ports = vec![PortMapping { host_port: 8080, container_port: 80, ..PortMapping::default() }];
        let view = ContainerView {
            recorded: Recorded::imagined(&"a".repeat(64), &document).into(),
            status: SandboxStatus { phase: Phase::Running, ports, ..SandboxStatus::default() }.into(),
            ..ContainerView::default()
        };
        let ports = summary(&view, None, 0).ports;
        let text = |p: &PortSummary| format!("{}:{}->{}/{}", p.ip, p.public_port, p.private_port, p.kind);
        let mut texts: Vec<String> = ports.iter().map(text).collect();
        texts.sort();
        assert_eq!(texts, ["0.0.0.0:8080->80/tcp", ":0->90/udp", ":::8080->80/tcp"]);
        assert_eq!(inspect(&view, None).network_settings.ports.len(), 2);
    }
}
