//! Every attribute of a service, down to the last one in the table, changes what is created, or is here with the reason
//! why it is data for somebody else.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::load::{Environment, Options, Source};
use crate::schema::{SERVICE, Shape};

struct One(String);

impl Source for One {
    fn read(&self, path: &Path) -> std::io::Result<String> {
        match path.to_str() {
            Some("/p/compose.yaml") => Ok(self.0.clone()),
            Some("/p/x.env" | "/p/x.raw") => Ok("FROM=\"file\"\n".to_owned()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        }
    }

    fn is_file(&self, path: &Path) -> bool {
        matches!(path.to_str(), Some("/p/compose.yaml" | "/p/x.env" | "/p/x.raw"))
    }

    fn is_directory(&self, _: &Path) -> bool {
        false
    }
}

const REST: &str = "
  b: {image: y}
networks: {n: {}, m: {}}
volumes: {v: {}}
secrets: {s: {environment: S}, t: {environment: S}}
configs: {c: {content: text}, d: {content: text}}
models: {m: {model: ai/m}}
";

/// What is created for a service that says this, but for the hash and what else only describes it.
fn created(service: &str) -> String {
    let image =
        if service.starts_with("image:") || service.starts_with("extends:") { "" } else { "image: x, " };
    let text = format!("services:\n  a: {{{image}{service}}}{REST}");
    let mut options = Options::new("/p", Environment::from([("S".to_owned(), "secret".to_owned())]));
    options.profiles = vec!["*".to_owned()];
    let mut project =
        crate::load(&options, &One(text)).unwrap_or_else(|e| panic!("{service}: {}", e.chain()));
    crate::socket::give(&mut project, "/run/engine.sock", "{}");
    let around = Surroundings {
        containers: [("b".to_owned(), "id-of-b".to_owned())].into(),
        ..Surroundings::default()
    };
    let mut lowered =
        container(&project, "a", 1, &around).unwrap_or_else(|e| panic!("{service}: {}", e.chain()));
    lowered.create.request.config.labels.remove(labels::CONFIG_HASH);
    lowered.create.request.config.labels.remove(labels::DEPENDS_ON);
    format!("{lowered:?}")
}

/// Attributes that change nothing of a container by themselves, and who they are for.
const DATA: &[(&str, &str)] = &[
    ("profiles", "whether the service takes part"),
    ("attach", "whether `up` shows its output"),
    ("build", "how its image is built: see `build_words`"),
    ("develop", "what `watch` does"),
    ("depends_on", "the order of the plan"),
    ("scale", "how many containers the plan has"),
    ("provider", "services that are no containers"),
    ("pull_policy", "when its image is pulled"),
    ("pull_refresh_after", "when its image is pulled"),
    ("models", "become variables when their endpoint is known"),
    ("pre_start", "containers of their own, before it starts"),
    ("post_start", "commands in it, once it runs"),
    ("pre_stop", "commands in it, before it stops"),
    ("credential_spec", "credentials of Windows containers"),
    ("deploy.mode", "clusters; jobs and global services are one container here"),
    ("deploy.replicas", "how many containers the plan has"),
    ("deploy.labels", "labels of a service of a cluster, not of its containers"),
    ("deploy.update_config", "clusters"),
    ("deploy.rollback_config", "clusters"),
    ("deploy.placement", "clusters"),
    ("deploy.endpoint_mode", "clusters"),
    ("deploy.restart_policy.delay", "clusters: the engine has its own delays"),
    ("deploy.restart_policy.window", "clusters: the engine has its own"),
    ("deploy.resources.reservations.cpus", "clusters: the engine cannot reserve processors"),
    ("deploy.resources.reservations.generic_resources", "clusters"),
    ("env_file.required", "whether the file may be missing"),
    ("extends.file", "where the other service is: tests of `extends`"),
    ("ports.name", "a name for people"),
    ("ports.mode", "clusters: every port is published on this machine"),
    ("ports.app_protocol", "a hint for others"),
    ("networks.priority", "which network is first: see the test of more than one"),
    ("volumes.type", "asked by each of the others"),
];

/// An attribute: without it, with it.
const EFFECTS: &[(&str, &str, &str)] = &[
    ("annotations", "", "annotations: {k: v}"),
    ("blkio_config.weight", "", "blkio_config: {weight: 300}"),
    ("blkio_config.weight_device.path", "", "blkio_config: {weight_device: [{path: /dev/a, weight: 1}]}"),
    (
        "blkio_config.weight_device.weight",
        "blkio_config: {weight_device: [{path: /dev/a, weight: 1}]}",
        "blkio_config: {weight_device: [{path: /dev/a, weight: 2}]}",
    ),
    ("cap_add", "", "cap_add: [NET_ADMIN]"),
    ("cap_drop", "", "cap_drop: [ALL]"),
    ("cgroup_parent", "", "cgroup_parent: g"),
    ("cgroup", "", "cgroup: host"),
    ("cpu_count", "", "cpu_count: 2"),
    ("cpu_percent", "", "cpu_percent: 50"),
    ("cpu_period", "", "cpu_period: 100"),
    ("cpu_quota", "", "cpu_quota: 100"),
    ("cpu_rt_period", "", "cpu_rt_period: 100"),
    ("cpu_rt_runtime", "", "cpu_rt_runtime: 100"),
    ("cpus", "", "cpus: 1.5"),
    ("cpuset", "", "cpuset: '0'"),
    ("cpu_shares", "", "cpu_shares: 5"),
    ("command", "", "command: [x]"),
    (
        "configs.source",
        "configs: [{source: c, target: /c}]",
        "configs: [{source: d, target: /c}, {source: c, target: /e}]",
    ),
    ("configs.target", "configs: [c]", "configs: [{source: c, target: /else}]"),
    ("configs.uid", "configs: [c]", "configs: [{source: c, uid: '5'}]"),
    ("configs.gid", "configs: [c]", "configs: [{source: c, gid: '5'}]"),
    ("configs.mode", "configs: [c]", "configs: [{source: c, mode: 0400}]"),
    ("container_name", "", "container_name: mine"),
    ("deploy.resources.limits.cpus", "", "deploy: {resources: {limits: {cpus: 1}}}"),
    ("deploy.resources.limits.memory", "", "deploy: {resources: {limits: {memory: 10m}}}"),
    ("deploy.resources.limits.pids", "", "deploy: {resources: {limits: {pids: 5}}}"),
    ("deploy.resources.reservations.memory", "", "deploy: {resources: {reservations: {memory: 10m}}}"),
    (
        "deploy.resources.reservations.devices.capabilities",
        "",
        "deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}",
    ),
    (
        "deploy.resources.reservations.devices.driver",
        "deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}",
        "deploy: {resources: {reservations: {devices: [{capabilities: [gpu], driver: cdi}]}}}",
    ),
    (
        "deploy.resources.reservations.devices.count",
        "deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}",
        "deploy: {resources: {reservations: {devices: [{capabilities: [gpu], count: 2}]}}}",
    ),
    (
        "deploy.resources.reservations.devices.device_ids",
        "deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}",
        "deploy: {resources: {reservations: {devices: [{capabilities: [gpu], device_ids: [a]}]}}}",
    ),
    (
        "deploy.resources.reservations.devices.options",
        "deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}",
        "deploy: {resources: {reservations: {devices: [{capabilities: [gpu], options: {a: b}}]}}}",
    ),
    ("deploy.restart_policy.condition", "", "deploy: {restart_policy: {condition: on-failure}}"),
    (
        "deploy.restart_policy.max_attempts",
        "deploy: {restart_policy: {condition: on-failure}}",
        "deploy: {restart_policy: {condition: on-failure, max_attempts: 3}}",
    ),
    ("device_cgroup_rules", "", "device_cgroup_rules: ['c 1:3 mr']"),
    ("devices.source", "", "devices: [/dev/a]"),
    ("devices.target", "devices: [/dev/a]", "devices: ['/dev/a:/dev/b']"),
    ("devices.permissions", "devices: [/dev/a]", "devices: ['/dev/a:/dev/a:r']"),
    ("dns", "", "dns: 1.1.1.1"),
    ("dns_opt", "", "dns_opt: [x]"),
    ("dns_search", "", "dns_search: x"),
    ("domainname", "", "domainname: x"),
    ("entrypoint", "", "entrypoint: [x]"),
    ("environment", "", "environment: {A: b}"),
    ("env_file.path", "", "env_file: x.env"),
    ("env_file.format", "env_file: x.env", "env_file: [{path: x.env, format: raw}]"),
    ("expose", "", "expose: ['80']"),
    ("extends.service", "", "extends: {service: b}"),
    ("external_links", "", "external_links: ['o:p']"),
    ("extra_hosts", "", "extra_hosts: ['h:1.2.3.4']"),
    ("group_add", "", "group_add: [g]"),
    ("gpus.capabilities", "gpus: all", "gpus: [{capabilities: [compute], count: all}]"),
    ("gpus.driver", "gpus: all", "gpus: [{driver: x, count: all}]"),
    ("gpus.count", "gpus: all", "gpus: [{count: 2}]"),
    ("gpus.device_ids", "gpus: all", "gpus: [{device_ids: [a]}]"),
    ("gpus.options", "gpus: all", "gpus: [{options: {a: b}, count: all}]"),
    ("hostname", "", "hostname: h"),
    ("healthcheck.test", "", "healthcheck: {test: x}"),
    ("healthcheck.timeout", "healthcheck: {test: x}", "healthcheck: {test: x, timeout: 5s}"),
    ("healthcheck.interval", "healthcheck: {test: x}", "healthcheck: {test: x, interval: 5s}"),
    ("healthcheck.retries", "healthcheck: {test: x}", "healthcheck: {test: x, retries: 5}"),
    ("healthcheck.start_period", "healthcheck: {test: x}", "healthcheck: {test: x, start_period: 5s}"),
    ("healthcheck.start_interval", "healthcheck: {test: x}", "healthcheck: {test: x, start_interval: 5s}"),
    ("healthcheck.disable", "", "healthcheck: {disable: true}"),
    ("image", "", "image: z"),
    ("init", "", "init: true"),
    ("ipc", "", "ipc: 'service:b'"),
    ("isolation", "", "isolation: x"),
    ("labels", "", "labels: {k: v}"),
    ("label_file", "", "label_file: x.env"),
    ("links", "", "links: ['b:other']"),
    ("logging.driver", "", "logging: {driver: none}"),
    ("logging.options", "", "logging: {driver: local, options: {a: b}}"),
    ("mem_limit", "", "mem_limit: 10m"),
    ("mem_reservation", "", "mem_reservation: 10m"),
    ("memswap_limit", "", "memswap_limit: 10m"),
    ("mem_swappiness", "", "mem_swappiness: 10"),
    ("mac_address", "", "mac_address: '02:00:00:00:00:01'"),
    ("network_mode", "", "network_mode: host"),
    ("networks.aliases", "networks: {n: {}}", "networks: {n: {aliases: [x]}}"),
    ("networks.driver_opts", "networks: {n: {}}", "networks: {n: {driver_opts: {a: b}}}"),
    ("networks.gw_priority", "networks: {n: {}}", "networks: {n: {gw_priority: 5}}"),
    ("networks.interface_name", "networks: {n: {}}", "networks: {n: {interface_name: eth7}}"),
    ("networks.ipv4_address", "networks: {n: {}}", "networks: {n: {ipv4_address: 10.0.0.9}}"),
    ("networks.ipv6_address", "networks: {n: {}}", "networks: {n: {ipv6_address: '2001:db8::9'}}"),
    ("networks.link_local_ips", "networks: {n: {}}", "networks: {n: {link_local_ips: [169.254.1.1]}}"),
    ("networks.mac_address", "networks: {n: {}}", "networks: {n: {mac_address: '02:00:00:00:00:01'}}"),
    ("oom_kill_disable", "", "oom_kill_disable: true"),
    ("oom_score_adj", "", "oom_score_adj: 5"),
    ("pid", "", "pid: host"),
    ("pids_limit", "", "pids_limit: 5"),
    ("platform", "", "platform: linux/arm64"),
    ("ports.host_ip", "ports: ['80:80']", "ports: ['127.0.0.1:80:80']"),
    ("ports.target", "", "ports: ['80']"),
    ("ports.published", "ports: ['80']", "ports: ['8080:80']"),
    ("ports.protocol", "ports: ['80']", "ports: ['80/udp']"),
    ("privileged", "", "privileged: true"),
    ("read_only", "", "read_only: true"),
    ("restart", "", "restart: always"),
    ("runtime", "", "runtime: r"),
    (
        "secrets.source",
        "secrets: [{source: s, target: x}]",
        "secrets: [{source: s, target: x}, {source: t, target: y}]",
    ),
    ("secrets.target", "secrets: [s]", "secrets: [{source: s, target: /else}]"),
    ("secrets.uid", "secrets: [s]", "secrets: [{source: s, uid: '5'}]"),
    ("secrets.gid", "secrets: [s]", "secrets: [{source: s, gid: '5'}]"),
    ("secrets.mode", "secrets: [s]", "secrets: [{source: s, mode: 0400}]"),
    ("security_opt", "", "security_opt: [no-new-privileges]"),
    ("shm_size", "", "shm_size: 10m"),
    ("stdin_open", "", "stdin_open: true"),
    ("stop_grace_period", "", "stop_grace_period: 5s"),
    ("stop_signal", "", "stop_signal: SIGINT"),
    ("storage_opt", "", "storage_opt: {size: 1G}"),
    ("sysctls", "", "sysctls: {a: 1}"),
    ("tmpfs", "", "tmpfs: /t"),
    ("tty", "", "tty: true"),
    ("ulimits.soft", "ulimits: {nofile: {soft: 1, hard: 9}}", "ulimits: {nofile: {soft: 2, hard: 9}}"),
    ("ulimits.hard", "ulimits: {nofile: {soft: 1, hard: 9}}", "ulimits: {nofile: {soft: 1, hard: 8}}"),
    ("use_api_socket", "", "use_api_socket: true"),
    ("user", "", "user: '5'"),
    ("userns_mode", "", "userns_mode: host"),
    ("uts", "", "uts: host"),
    ("volumes.source", "volumes: [/t]", "volumes: ['v:/t']"),
    ("volumes.target", "volumes: ['v:/t']", "volumes: ['v:/u']"),
    ("volumes.read_only", "volumes: ['v:/t']", "volumes: ['v:/t:ro']"),
    (
        "volumes.consistency",
        "volumes: [{type: tmpfs, target: /t}]",
        "volumes: [{type: tmpfs, target: /t, consistency: cached}]",
    ),
    ("volumes.bind.selinux", "volumes: ['/h:/t']", "volumes: ['/h:/t:z']"),
    ("volumes.bind.propagation", "volumes: ['/h:/t']", "volumes: ['/h:/t:rshared']"),
    (
        "volumes.bind.create_host_path",
        "volumes: [{type: bind, source: /h, target: /t}]",
        "volumes: [{type: bind, source: /h, target: /t, bind: {create_host_path: false}}]",
    ),
    (
        "volumes.bind.recursive",
        "volumes: [{type: bind, source: /h, target: /t}]",
        "volumes: [{type: bind, source: /h, target: /t, bind: {recursive: disabled}}]",
    ),
    ("volumes.volume.nocopy", "volumes: ['v:/t']", "volumes: ['v:/t:nocopy']"),
    (
        "volumes.volume.subpath",
        "volumes: ['v:/t']",
        "volumes: [{type: volume, source: v, target: /t, volume: {subpath: x}}]",
    ),
    (
        "volumes.volume.labels",
        "volumes: [{type: volume, target: /t}]",
        "volumes: [{type: volume, target: /t, volume: {labels: {a: b}}}]",
    ),
    (
        "volumes.tmpfs.size",
        "volumes: [{type: tmpfs, target: /t}]",
        "volumes: [{type: tmpfs, target: /t, tmpfs: {size: 10m}}]",
    ),
    (
        "volumes.tmpfs.mode",
        "volumes: [{type: tmpfs, target: /t}]",
        "volumes: [{type: tmpfs, target: /t, tmpfs: {mode: 511}}]",
    ),
    (
        "volumes.image.subpath",
        "volumes: [{type: image, source: i, target: /t}]",
        "volumes: [{type: image, source: i, target: /t, image: {subpath: x}}]",
    ),
    ("volumes_from", "", "volumes_from: [b]"),
    ("working_dir", "", "working_dir: /w"),
];

/// Every attribute below a shape that has none below itself.
fn leaves(shape: &Shape, path: &str, out: &mut Vec<String>) {
    match shape {
        Shape::Object(object)
        | Shape::ObjectOrNull(object)
        | Shape::Named(object)
        | Shape::DependsOn(object)
        | Shape::Logging(object)
        | Shape::Build(object)
        | Shape::Extends(object)
        | Shape::EnvFiles(object)
        | Shape::FileRef(object)
        | Shape::Device(object)
        | Shape::Volume(object)
        | Shape::Ports(object)
        | Shape::Ulimit(object)
        | Shape::Gpus(object)
        | Shape::Include(object) => {
            for attr in object.attrs {
                let below =
                    if path.is_empty() { attr.name.to_owned() } else { format!("{path}.{}", attr.name) };
                leaves(&attr.shape, &below, out);
            }
        }
        Shape::Map(inner) | Shape::List(inner, _) => leaves(inner, path, out),
        _ => out.push(path.to_owned()),
    }
}

#[test]
fn every_attribute_changes_what_is_created_or_is_data_for_a_reason() {
    let mut all = Vec::new();
    leaves(&Shape::Object(&SERVICE), "", &mut all);
    assert!(all.len() > 150, "{}", all.len());
    let effects: BTreeSet<&str> = EFFECTS.iter().map(|(path, ..)| *path).collect();
    let is_data = |path: &str| {
        DATA.iter().any(|(data, _)| {
            path == *data || path.strip_prefix(data).is_some_and(|rest| rest.starts_with('.'))
        })
    };
    // The rates of all four kinds are lowered by the same words.
    let rates = |path: &str| path.starts_with("blkio_config.device_");
    let missing: Vec<&String> =
        all.iter().filter(|p| !effects.contains(p.as_str()) && !is_data(p) && !rates(p)).collect();
    assert!(missing.is_empty(), "neither an effect nor a reason: {missing:?}");
    let mut silent = Vec::new();
    for (path, without, with) in EFFECTS {
        assert!(all.iter().any(|p| p == path), "{path} is no attribute");
        if created(without) == created(with) {
            silent.push(*path);
        }
    }
    assert!(silent.is_empty(), "change nothing of the container: {silent:?}");
}

#[test]
fn rates_of_devices_are_lowered() {
    for rate in ["device_read_bps", "device_read_iops", "device_write_bps", "device_write_iops"] {
        let one = created(&format!("blkio_config: {{{rate}: [{{path: /dev/a, rate: 10}}]}}"));
        assert_ne!(one, created(""), "{rate}");
        for other in ["path: /dev/b, rate: 10", "path: /dev/a, rate: 20"] {
            assert_ne!(one, created(&format!("blkio_config: {{{rate}: [{{{other}}}]}}")), "{rate} {other}");
        }
    }
    let first = |text: &str| created(text).find("p_m").cmp(&created(text).find("p_n"));
    assert_ne!(
        first("networks: {n: {priority: 5}, m: {}}"),
        first("networks: {n: {}, m: {priority: 5}}"),
        "the network of the highest priority is first"
    );
}
