//! One container -> a container of a pod.

use std::collections::BTreeMap;

use fluyt_model::Amount;
use fluyt_model::sandbox::{ContainerSpec, HealthCheck, OnFailure, RestartCondition, Seccomp, Stdin};

use super::{Look, Part, mounts};
use crate::annotations;
use crate::objects::{
    Capabilities, Container, EnvVar, ExecAction, Lifecycle, Probe, Profile, Resources, SeLinux, Security,
    Volume,
};

/// The path that programs are looked for in when nobody says anything.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a container becomes.
pub(super) struct Made {
    pub(super) container: Container,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) warnings: Vec<String>,
}

/// Makes it; its volumes are added to `volumes`.
pub(super) fn container(
    part: Part<'_>,
    short: &str,
    pod: &str,
    volumes: &mut Vec<Volume>,
    look: Look<'_>,
) -> Made {
    let default = ContainerSpec::default();
    let spec = part.sandbox.containers.first().unwrap_or(&default);
    let (process, image) = (&spec.process, part.image);
    let mut made =
        Made { container: Container::default(), annotations: words(part, spec, short), warnings: Vec::new() };
    let mounted = mounts::mounts(part, spec, pod, volumes, look);
    if !mounted.from.is_empty() {
        made.annotations.insert(format!("{}/{short}", annotations::VOLUMES_FROM), mounted.from.join(";"));
    }
    if !spec.devices.is_empty() && !spec.security.privileged {
        made.warnings.push(format!("container {}: its devices are left out", part.name));
    }
    let (command, args) = command(part);
    let (liveness, readiness) = match &spec.health {
        Some(check)
            if check.on_failure != OnFailure::Nothing
                || spec.restart.condition == RestartCondition::OnUnhealthy =>
        {
            (Some(probe(check)), None)
        }
        Some(check) => (None, Some(probe(check))),
        None => (None, None),
    };
    made.container = Container {
        name: short.to_owned(),
        image: spec.image.clone(),
        command,
        args,
        working_dir: match process.cwd.as_str() {
            "/" if image.working_dir.is_empty() => String::new(),
            cwd if cwd == image.working_dir => String::new(),
            cwd => cwd.to_owned(),
        },
        env: env(spec, &image.env),
        resources: resources(spec),
        volume_mounts: mounted.mounts,
        liveness_probe: liveness,
        readiness_probe: readiness,
        lifecycle: lifecycle(spec, &image.stop_signal),
        security_context: security(part, spec, &mut made.warnings),
        stdin: process.stdin != Stdin::Null,
        stdin_once: process.stdin == Stdin::Once,
        tty: process.tty,
        ..Container::default()
    };
    made
}

/// Program and arguments, as far as they are not the image's.
fn command(part: Part<'_>) -> (Vec<String>, Vec<String>) {
    let image = part.image;
    let written = |words: &[String]| words.iter().map(|word| kept(word)).collect::<Vec<_>>();
    let own = if part.cmd == image.cmd { Vec::new() } else { written(part.cmd) };
    match part.entrypoint {
        [] => (own, Vec::new()),
        entrypoint if entrypoint == image.entrypoint => (Vec::new(), own),
        entrypoint => (written(entrypoint), written(part.cmd)),
    }
}

/// A text that reads back as it is: what would look like a reference is marked.
fn kept(text: &str) -> String {
    if text.contains("$(") || text.contains("$$") { text.replace('$', "$$") } else { text.to_owned() }
}

/// The variables that the image does not have, and that are not everybody's. What looks like a reference is kept as it is.
fn env(spec: &ContainerSpec, image: &[String]) -> Vec<EnvVar> {
    let everybodys = [format!("PATH={DEFAULT_PATH}"), "TERM=xterm".to_owned()];
    let own = spec.process.env.iter().filter(|line| !image.contains(line) && !everybodys.contains(line));
    own.map(|line| {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        EnvVar { name: name.to_owned(), value: kept(value), value_from: None }
    })
    .collect()
}

fn resources(spec: &ContainerSpec) -> Resources {
    let limits = &spec.resources;
    let mut made = Resources::default();
    if let Some(bytes) = limits.memory.filter(|bytes| *bytes > 0) {
        made.limits.insert("memory".to_owned(), Amount::bytes(bytes));
    }
    let quota = limits.cpu_quota.filter(|quota| *quota > 0).map(|quota| {
        let period = limits.cpu_period.and_then(|p| i64::try_from(p).ok()).filter(|p| *p > 0);
        quota.saturating_mul(1000) / period.unwrap_or(100_000)
    });
    let milli = limits.nano_cpus.map(|nano| nano / 1_000_000).or(quota);
    if let Some(milli) = milli.filter(|milli| *milli > 0) {
        made.limits.insert("cpu".to_owned(), Amount::milli(milli));
    }
    if let Some(bytes) = limits.memory_reservation.filter(|bytes| *bytes > 0) {
        made.requests.insert("memory".to_owned(), Amount::bytes(bytes));
    }
    if let Some(shares) = limits.cpu_shares.and_then(|s| i64::try_from(s).ok()).filter(|s| *s > 0) {
        made.requests.insert("cpu".to_owned(), Amount::milli((shares * 1000 + 1023) / 1024));
    }
    made
}

fn probe(check: &HealthCheck) -> Probe {
    let seconds = |nanos: u64| i64::try_from(nanos.div_ceil(1_000_000_000)).unwrap_or(i64::MAX);
    Probe {
        exec: Some(ExecAction { command: check.args.clone() }),
        initial_delay_seconds: seconds(check.start_period),
        timeout_seconds: seconds(check.timeout),
        period_seconds: seconds(check.interval),
        failure_threshold: i64::from(check.retries),
        ..Probe::default()
    }
}

fn lifecycle(spec: &ContainerSpec, image: &str) -> Option<Lifecycle> {
    let signal = spec.stop.signal.as_str();
    (!signal.is_empty() && signal != image)
        .then(|| Lifecycle { stop_signal: signal.to_owned(), ..Lifecycle::default() })
}

fn security(part: Part<'_>, spec: &ContainerSpec, warnings: &mut Vec<String>) -> Option<Security> {
    let own = &spec.security;
    let named = |names: &[String]| -> Vec<String> {
        names.iter().map(|n| if n == "ALL" { n.clone() } else { format!("CAP_{n}") }).collect()
    };
    let capabilities = Capabilities { add: named(&own.cap_add), drop: named(&own.cap_drop) };
    let mut security = Security {
        privileged: own.privileged.then_some(true),
        allow_privilege_escalation: own.no_new_privileges.then_some(false),
        capabilities: (capabilities != Capabilities::default()).then_some(capabilities),
        read_only_root_filesystem: own.read_only_root.then_some(true),
        proc_mount: match &own.masked_paths {
            Some(paths) if paths.is_empty() => "Unmasked".to_owned(),
            _ => String::new(),
        },
        se_linux_options: selinux(&own.selinux),
        ..Security::default()
    };
    match &own.seccomp {
        Seccomp::Default => {}
        Seccomp::Unconfined => {
            security.seccomp_profile = Some(Profile { kind: "Unconfined".to_owned(), ..Profile::default() });
        }
        Seccomp::Profile(_) => {
            warnings.push(format!("container {}: its seccomp profile is left out", part.name));
        }
    }
    if !own.apparmor.is_empty() {
        security.app_armor_profile = Some(match own.apparmor.as_str() {
            "unconfined" => Profile { kind: "Unconfined".to_owned(), ..Profile::default() },
            name => Profile { kind: "Localhost".to_owned(), localhost_profile: name.to_owned() },
        });
    }
    if spec.process.user != part.image.user && !spec.process.user.is_empty() {
        let (user, group) = spec.process.user.split_once(':').unwrap_or((&spec.process.user, ""));
        security.run_as_user = user.parse().ok();
        security.run_as_group = group.parse().ok();
        let of_image = user == part.image.user.split(':').next().unwrap_or_default();
        if (security.run_as_user.is_none() && !of_image)
            || (!group.is_empty() && security.run_as_group.is_none())
        {
            warnings.push(format!(
                "container {}: the user {:?} is left out, because Kubernetes takes numbers",
                part.name, spec.process.user
            ));
        }
    }
    (security != Security::default()).then_some(security)
}

fn selinux(parts: &[String]) -> Option<SeLinux> {
    let mut options = SeLinux::default();
    for (key, value) in parts.iter().filter_map(|part| part.split_once(':')) {
        match key {
            "user" => value.clone_into(&mut options.user),
            "role" => value.clone_into(&mut options.role),
            "type" => value.clone_into(&mut options.kind),
            "level" => value.clone_into(&mut options.level),
            "filetype" => value.clone_into(&mut options.file_type),
            _ => {}
        }
    }
    if parts.iter().any(|part| part == "disable") {
        "spc_t".clone_into(&mut options.kind);
    }
    (options != SeLinux::default()).then_some(options)
}

/// What Kubernetes has no field for.
fn words(part: Part<'_>, spec: &ContainerSpec, short: &str) -> BTreeMap<String, String> {
    let mut words = BTreeMap::new();
    let mut set = |name: &str, value: String| words.insert(format!("{name}/{short}"), value);
    if spec.init {
        set(annotations::INIT, "TRUE".to_owned());
    }
    if part.sandbox.auto_remove {
        set(annotations::AUTO_REMOVE, "TRUE".to_owned());
    }
    if let Some(limit) = spec.resources.pids_limit.filter(|limit| *limit != 0) {
        set(annotations::PIDS_LIMIT, limit.to_string());
    }
    for (name, value) in [
        (annotations::CPUSET, &spec.resources.cpuset_cpus),
        (annotations::MEMORY_NODES, &spec.resources.cpuset_mems),
    ] {
        if !value.is_empty() {
            set(name, value.clone());
        }
    }
    for name in [annotations::AUTO_UPDATE, annotations::AUTO_UPDATE_AUTH] {
        if let Some(value) = part.sandbox.labels.get(name) {
            set(name, value.clone());
        }
    }
    if !spec.process.rlimits.is_empty() {
        let number = |n: u64| if n == u64::MAX { "-1".to_owned() } else { n.to_string() };
        let one = |(name, soft, hard): &(String, u64, u64)| {
            format!("{}={}:{}", name.to_lowercase(), number(*soft), number(*hard))
        };
        let limits: Vec<String> = spec.process.rlimits.iter().map(one).collect();
        words.insert(annotations::ULIMIT.to_owned(), limits.join(","));
    }
    words
}
