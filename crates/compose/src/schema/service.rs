//! A service and the objects in it.

use super::Shape::*;
use super::{Object, Same, Unset, attr, checks, closed, kept, object};

const ANY: (i64, i64) = (i64::MIN, i64::MAX);
const NATURAL: (i64, i64) = (0, i64::MAX);

/// A service.
pub const SERVICE: Object = object(&[
    attr("profiles", Strings(Same::Key)),
    attr("annotations", Dict(Unset::Empty)),
    kept("attach", Bool),
    attr("build", Build(&BUILD)),
    attr("develop", ObjectOrNull(&DEVELOP)),
    attr("blkio_config", Object(&BLKIO)),
    attr("cap_add", Strings(Same::Key)),
    attr("cap_drop", Strings(Same::Key)),
    attr("cgroup_parent", Str),
    attr("cgroup", OneOf(&["host", "private"])),
    attr("cpu_count", Int(NATURAL.0, NATURAL.1)),
    attr("cpu_percent", Float),
    attr("cpu_period", Int(ANY.0, ANY.1)),
    attr("cpu_quota", Int(ANY.0, ANY.1)),
    attr("cpu_rt_period", Int(ANY.0, ANY.1)),
    attr("cpu_rt_runtime", Int(ANY.0, ANY.1)),
    attr("cpus", Float),
    attr("cpuset", Str),
    attr("cpu_shares", Int(ANY.0, ANY.1)),
    kept("command", Command),
    attr("configs", List(&FileRef(&FILE_REF), Same::Mount(""))),
    attr("container_name", Checked(checks::container_name)),
    attr("credential_spec", Object(&CREDENTIAL_SPEC)),
    attr("depends_on", DependsOn(&DEPENDENCY)),
    attr("deploy", ObjectOrNull(&DEPLOY)),
    attr("device_cgroup_rules", Strings(Same::Forbidden)),
    attr("devices", List(&Device(&DEVICE), Same::Attr("target"))),
    attr("dns", OneOrMore(Same::Key)),
    attr("dns_opt", Strings(Same::Key)),
    attr("dns_search", OneOrMore(Same::Key)),
    attr("domainname", Str),
    kept("entrypoint", Command),
    attr("provider", Object(&PROVIDER)),
    attr("environment", Dict(Unset::Null)),
    attr("env_file", EnvFiles(&ENV_FILE)),
    attr("expose", Scalars(Same::Key)),
    attr("extends", Extends(&EXTENDS)),
    attr("external_links", Strings(Same::Forbidden)),
    attr("extra_hosts", Hosts),
    attr("group_add", Scalars(Same::Forbidden)),
    attr("gpus", Gpus(&DEVICE_REQUEST)),
    attr("hostname", Str),
    attr("healthcheck", Object(&HEALTHCHECK)),
    attr("image", Str),
    kept("init", Bool),
    attr("ipc", Str),
    attr("isolation", Str),
    attr("labels", Dict(Unset::Empty)),
    attr("label_file", OneOrMore(Same::Never)),
    attr("links", Strings(Same::Key)),
    attr("logging", Logging(&LOGGING)),
    attr("mem_limit", Bytes),
    attr("mem_reservation", Bytes),
    attr("memswap_limit", Bytes),
    attr("mem_swappiness", Bytes),
    attr("mac_address", Str),
    attr("models", Named(&MODEL_OF_SERVICE)),
    attr("network_mode", Str),
    attr("networks", Named(&NETWORK_OF_SERVICE)),
    attr("oom_kill_disable", Bool),
    attr("oom_score_adj", Int(-1000, 1000)),
    attr("pid", StrOrNull),
    attr("pids_limit", Int(ANY.0, ANY.1)),
    attr("platform", Str),
    attr("ports", Ports(&PORT)),
    attr("privileged", Bool),
    attr("pull_policy", Checked(checks::pull_policy)),
    attr("pull_refresh_after", Str),
    attr("read_only", Bool),
    attr("restart", Checked(checks::restart)),
    attr("runtime", Str),
    kept("scale", Int(NATURAL.0, NATURAL.1)),
    attr("secrets", List(&FileRef(&FILE_REF), Same::Mount("/run/secrets"))),
    attr("security_opt", Strings(Same::Forbidden)),
    attr("shm_size", Bytes),
    attr("stdin_open", Bool),
    kept("stop_grace_period", Duration),
    attr("stop_signal", Str),
    attr("storage_opt", Options),
    attr("sysctls", Dict(Unset::Empty)),
    attr("tmpfs", OneOrMore(Same::Key)),
    attr("tty", Bool),
    attr("ulimits", Map(&Ulimit(&ULIMIT))),
    attr("use_api_socket", Bool),
    attr("user", Str),
    attr("userns_mode", Str),
    attr("uts", Str),
    attr("volumes", List(&Volume(&VOLUME), Same::Attr("target"))),
    attr("volumes_from", Strings(Same::Forbidden)),
    attr("working_dir", Str),
    attr("pre_start", List(&Object(&PRE_START), Same::Never)),
    attr("post_start", List(&Object(&HOOK), Same::Never)),
    attr("pre_stop", List(&Object(&HOOK), Same::Never)),
]);

/// How a service's image is built.
pub const BUILD: Object = object(&[
    attr("context", Str),
    attr("dockerfile", Str),
    attr("dockerfile_inline", Str),
    attr("entitlements", Strings(Same::Never)),
    attr("args", Dict(Unset::Null)),
    attr("provenance", BoolOrStr),
    attr("sbom", BoolOrStr),
    attr("ssh", Ssh),
    attr("labels", Dict(Unset::Empty)),
    attr("cache_from", Strings(Same::Never)),
    attr("cache_to", Strings(Same::Never)),
    attr("no_cache", Bool),
    attr("no_cache_filter", OneOrMore(Same::Never)),
    attr("additional_contexts", Contexts),
    attr("pull", Bool),
    attr("extra_hosts", Hosts),
    attr("isolation", Str),
    attr("network", Str),
    attr("target", Str),
    attr("secrets", List(&FileRef(&FILE_REF), Same::Never)),
    attr("shm_size", Bytes),
    attr("tags", Strings(Same::Key)),
    attr("ulimits", Map(&Ulimit(&ULIMIT))),
    attr("platforms", Strings(Same::Never)),
    attr("privileged", Bool),
]);

/// What a service is on a network.
pub const NETWORK_OF_SERVICE: Object = object(&[
    attr("aliases", Strings(Same::Key)),
    attr("driver_opts", Options),
    attr("gw_priority", Int(ANY.0, ANY.1)),
    attr("interface_name", Str),
    attr("ipv4_address", Str),
    attr("ipv6_address", Str),
    attr("link_local_ips", Strings(Same::Key)),
    attr("mac_address", Str),
    attr("priority", Int(ANY.0, ANY.1)),
]);

/// A command in the life of a container.
pub const HOOK: Object = object(&[
    kept("command", Command),
    attr("user", Str),
    attr("privileged", Bool),
    attr("working_dir", Str),
    attr("environment", Dict(Unset::Null)),
])
.needs(&["command"]);

const PRE_START: Object = object(&[
    kept("command", Command),
    attr("image", Str),
    attr("user", Str),
    attr("privileged", Bool),
    attr("working_dir", Str),
    attr("environment", Dict(Unset::Null)),
    attr("per_replica", Bool),
]);

const MODEL_OF_SERVICE: Object = object(&[attr("endpoint_var", Str), attr("model_var", Str)]);

const DEVELOP: Object = object(&[attr("watch", List(&Object(&TRIGGER), Same::Never))]);

const TRIGGER: Object = object(&[
    kept("path", Checked(checks::not_blank)),
    kept("action", OneOf(&["rebuild", "sync", "restart", "sync+restart", "sync+exec"])),
    attr("target", Str),
    attr("exec", Object(&HOOK)),
    attr("include", OneOrMore(Same::Never)),
    attr("ignore", OneOrMore(Same::Never)),
    attr("initial_sync", Bool),
])
.needs(&["path", "action"]);

const BLKIO: Object = closed(&[
    attr("weight", Int(0, 1000)),
    attr("weight_device", List(&Object(&BLKIO_WEIGHT), Same::Never)),
    attr("device_read_bps", List(&Object(&BLKIO_RATE), Same::Never)),
    attr("device_read_iops", List(&Object(&BLKIO_RATE), Same::Never)),
    attr("device_write_bps", List(&Object(&BLKIO_RATE), Same::Never)),
    attr("device_write_iops", List(&Object(&BLKIO_RATE), Same::Never)),
]);

const BLKIO_WEIGHT: Object = closed(&[kept("path", Str), kept("weight", Int(0, 1000))]);
const BLKIO_RATE: Object = closed(&[kept("path", Str), kept("rate", Bytes)]);

const FILE_REF: Object = object(&[
    attr("source", Str),
    attr("target", Str),
    attr("uid", Str),
    attr("gid", Str),
    kept("mode", Mode),
]);

const CREDENTIAL_SPEC: Object = object(&[attr("config", Str), attr("file", Str), attr("registry", Str)]);

const DEPENDENCY: Object = object(&[
    attr("condition", OneOf(&["service_started", "service_healthy", "service_completed_successfully"])),
    attr("restart", Bool),
    kept("required", Bool),
])
.needs(&["condition"]);

const DEPLOY: Object = object(&[
    attr("mode", OneOf(&["replicated", "global", "replicated-job", "global-job"])),
    kept("replicas", Int(NATURAL.0, NATURAL.1)),
    attr("labels", Dict(Unset::Empty)),
    attr("update_config", Object(&UPDATE)),
    attr("rollback_config", Object(&UPDATE)),
    attr("resources", Object(&RESOURCES)),
    attr("restart_policy", Object(&RESTART_POLICY)),
    attr("placement", Object(&PLACEMENT)),
    attr("endpoint_mode", Str),
]);

const UPDATE: Object = object(&[
    kept("parallelism", Int(NATURAL.0, NATURAL.1)),
    attr("delay", Duration),
    attr("failure_action", Str),
    attr("monitor", Duration),
    attr("max_failure_ratio", Float),
    attr("order", OneOf(&["start-first", "stop-first"])),
]);

const RESOURCES: Object =
    object(&[attr("limits", Object(&LIMITS)), attr("reservations", Object(&RESERVATIONS))]);

const LIMITS: Object = object(&[attr("cpus", Float), attr("memory", Bytes), attr("pids", Int(ANY.0, ANY.1))]);

const RESERVATIONS: Object = object(&[
    attr("cpus", Float),
    attr("memory", Bytes),
    attr("devices", List(&Object(&DEVICE_REQUEST_REQUIRED), Same::Never)),
    attr("generic_resources", List(&Object(&GENERIC_RESOURCE), Same::Never)),
]);

const GENERIC_RESOURCE: Object = object(&[attr("discrete_resource_spec", Object(&DISCRETE))]);
const DISCRETE: Object = object(&[kept("kind", Str), kept("value", Int(ANY.0, ANY.1))]);

const RESTART_POLICY: Object = object(&[
    attr("condition", Str),
    kept("delay", Duration),
    kept("max_attempts", Int(NATURAL.0, NATURAL.1)),
    kept("window", Duration),
]);

const PLACEMENT: Object = object(&[
    attr("constraints", Strings(Same::Never)),
    attr("preferences", List(&Object(&PREFERENCE), Same::Never)),
    attr("max_replicas_per_node", Int(NATURAL.0, NATURAL.1)),
]);

const PREFERENCE: Object = object(&[attr("spread", Str)]);

const DEVICE: Object =
    object(&[attr("source", Str), attr("target", Str), attr("permissions", Str)]).needs(&["source"]);

const DEVICE_REQUEST: Object = object(&[
    attr("capabilities", Strings(Same::Forbidden)),
    attr("driver", Str),
    attr("count", Count),
    attr("device_ids", Strings(Same::Forbidden)),
    attr("options", Dict(Unset::Empty)),
]);

const DEVICE_REQUEST_REQUIRED: Object = Object { required: &["capabilities"], ..DEVICE_REQUEST };

const PROVIDER: Object = object(&[attr("type", Str), attr("options", MultiOptions)]).needs(&["type"]);

const ENV_FILE: Object =
    closed(&[attr("path", Str), kept("required", Bool), attr("format", Str)]).needs(&["path"]);

const EXTENDS: Object = closed(&[attr("file", Str), attr("service", Str)]).needs(&["service"]);

const HEALTHCHECK: Object = object(&[
    attr("test", Test),
    kept("timeout", Duration),
    kept("interval", Duration),
    kept("retries", Int(NATURAL.0, NATURAL.1)),
    kept("start_period", Duration),
    kept("start_interval", Duration),
    attr("disable", Bool),
]);

const LOGGING: Object = object(&[attr("driver", Str), attr("options", Options)]);

const PORT: Object = object(&[
    attr("name", Str),
    attr("mode", Str),
    attr("host_ip", Checked(checks::address)),
    attr("target", Int(0, 65535)),
    attr("published", Scalar),
    attr("protocol", Str),
    attr("app_protocol", Str),
]);

const ULIMIT: Object =
    object(&[kept("soft", Int(-1, i64::MAX)), kept("hard", Int(-1, i64::MAX))]).needs(&["soft", "hard"]);

const VOLUME: Object = object(&[
    attr("type", OneOf(&["bind", "volume", "tmpfs", "cluster", "npipe", "image"])),
    attr("source", Str),
    attr("target", Str),
    attr("read_only", Bool),
    attr("consistency", Str),
    kept("bind", Object(&VOLUME_BIND)),
    kept("volume", Object(&VOLUME_VOLUME)),
    kept("tmpfs", Object(&VOLUME_TMPFS)),
    kept("image", Object(&VOLUME_IMAGE)),
])
.needs(&["type"]);

const VOLUME_BIND: Object = object(&[
    attr("selinux", OneOf(&["z", "Z"])),
    attr("propagation", OneOf(&["rprivate", "private", "rshared", "shared", "rslave", "slave"])),
    kept("create_host_path", Bool),
    attr("recursive", OneOf(&["enabled", "disabled", "writable", "readonly"])),
]);

const VOLUME_VOLUME: Object =
    object(&[attr("labels", Dict(Unset::Empty)), attr("nocopy", Bool), attr("subpath", Str)]);

const VOLUME_TMPFS: Object = object(&[attr("size", Bytes), attr("mode", Int(0, 0o7777))]);
const VOLUME_IMAGE: Object = object(&[attr("subpath", Str)]);
