//! `pod create`, `pod clone`, and the pod that `run --pod` asks for.

use std::path::Path;

use fluyt_docker_api::lower;
use fluyt_docker_api::types::{ContainerConfig, CreateRequest, List, Map, NetworkingConfig, PortMap};
use fluyt_engine::pod::{ExitPolicy, PodRemoveOptions, PodRequest, PodSpec, PodView, Share};
use fluyt_engine::{CreateRequest as MemberRequest, Engine};
use fluyt_model::error::IoContext;
use fluyt_model::sandbox::{Namespace, UserNamespace};
use fluyt_model::{Error, Kind, Result};

use super::document::Stored;
use super::failed;
use crate::cli::cmd::Cli;
use crate::cli::create::{self, ThisHost, flags as shared};
use crate::cli::fail::Outcome;
use crate::cli::flags::{
    self, Arity, Command, Flag, NONE, Parsed, UsageError, list, many, one, switch, text, values,
};
use crate::cli::print_line;

/// What the sandbox is made of, as `run` has it for a container.
const SANDBOX: &[Flag] = &[
    many(NONE, "add-host", "list", values::extra_host, "Add a custom host-to-IP mapping (host:ip)"),
    many(NONE, "dns", "list", values::dns_ip, "Set custom DNS servers"),
    list(NONE, "dns-option", "Set DNS options"),
    many(NONE, "dns-search", "list", values::dns_search, "Set custom DNS search domains"),
    one(NONE, "ip", "string", values::ip, "IPv4 address"),
    one(NONE, "ip6", "string", values::ip, "IPv6 address"),
    text(NONE, "mac-address", "MAC address"),
    many(NONE, "network", "network", create::network::check, "Connect the pod to a network"),
    many(NONE, "net", "network", create::network::check, "Connect the pod to a network").alias_of("network"),
    list(NONE, "network-alias", "Add network-scoped alias for the pod"),
    list('p', "publish", "Publish a port of the pod, or a range of ports, to the host"),
    many('v', "volume", "list", values::any, "Mount a volume into every container of the pod"),
    list(NONE, "volumes-from", "Mount the volumes of the containers into every container of the pod"),
];

/// What `create` and `clone` share.
const COMMON: &[Flag] = &[
    text(NONE, "cgroup-parent", "Parent of the pod's cgroup"),
    text('h', "hostname", "Host name of the pod"),
    text(NONE, "infra-command", "Kept and shown: a pod has no process of its own"),
    text(NONE, "infra-name", "Name under which the sandbox is shown"),
    many('l', "label", "list", values::label, "Set metadata on the pod"),
    list(NONE, "label-file", "Read in a line delimited file of labels"),
    text('n', "name", "Name of the pod"),
    text(NONE, "pid", "PID namespace to use, if it is shared (host, private)"),
    text(NONE, "restart", "Restart policy of containers that have none of their own"),
    one(NONE, "shm-size", "bytes", values::bytes, "Size of /dev/shm"),
    many(NONE, "sysctl", "map", values::sysctl, "Sysctl options"),
    text(NONE, "userns", "User namespace to use"),
    text(NONE, "uts", "UTS namespace to use, if it is shared (host, private)"),
];

/// Limits of all containers together that `run` has for one.
const DEVICE_LIMITS: &[Flag] = &[
    many(
        NONE,
        "blkio-weight-device",
        "list",
        create::devices::check_weight,
        "Block IO weight (relative device weight)",
    ),
    many(
        NONE,
        "device-read-bps",
        "list",
        create::devices::check_bps,
        "Limit read rate (bytes per second) from a device",
    ),
    many(
        NONE,
        "device-read-iops",
        "list",
        create::devices::check_iops,
        "Limit read rate (IO per second) from a device",
    ),
    many(
        NONE,
        "device-write-bps",
        "list",
        create::devices::check_bps,
        "Limit write rate (bytes per second) to a device",
    ),
    many(
        NONE,
        "device-write-iops",
        "list",
        create::devices::check_iops,
        "Limit write rate (IO per second) to a device",
    ),
];

/// `fluyt pod create`.
pub const CREATE: Command = Command {
    name: "create",
    arguments: "[NAME]",
    about: "Create a new pod; its ID is printed",
    flags: &[
        COMMON,
        SANDBOX,
        shared::LIMITS,
        DEVICE_LIMITS,
        &[
            text(
                NONE,
                "exit-policy",
                "What happens when the last container has ended (\"continue\", \"stop\")",
            )
            .default("continue"),
            switch(NONE, "infra", "Give the pod a sandbox that its containers share").default("true"),
            text(
                NONE,
                "infra-conmon-pidfile",
                "Write the PID of a process to the file that lives as long as the sandbox",
            ),
            text(NONE, "infra-image", "Kept and shown: a sandbox needs no image"),
            text(NONE, "pod-id-file", "Write the pod ID to the file"),
            switch(NONE, "replace", "If a pod with the same name exists, replace it"),
            text(
                NONE,
                "share",
                "Kernel namespaces that the containers share (cgroup, ipc, net, pid, uts, none; +NAME adds)",
            )
            .default("ipc,net,uts"),
            switch(NONE, "share-parent", "Put the containers below the pod's cgroup").default("true"),
        ],
    ],
    arity: Arity::AtMost(1),
    interspersed: true,
};

/// `fluyt pod clone`.
pub const CLONE: Command = Command {
    name: "clone",
    arguments: "POD [NAME]",
    about: "Create a copy of a pod and of its containers",
    flags: &[
        COMMON,
        shared::LIMITS,
        DEVICE_LIMITS,
        &[switch(NONE, "destroy", "Remove the original pod"), switch(NONE, "start", "Start the new pod")],
    ],
    arity: Arity::Between(1, 2),
    interspersed: true,
};

/// Flags that mean for a pod what they mean for a container, and that are read in the same way.
const PASSED: [&str; 40] = [
    "add-host",
    "blkio-weight",
    "blkio-weight-device",
    "cgroup-parent",
    "cpu-period",
    "cpu-quota",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "cpu-shares",
    "cpus",
    "cpuset-cpus",
    "cpuset-mems",
    "device-read-bps",
    "device-read-iops",
    "device-write-bps",
    "device-write-iops",
    "dns",
    "dns-option",
    "dns-search",
    "hostname",
    "ip",
    "ip6",
    "label",
    "label-file",
    "mac-address",
    "memory",
    "memory-reservation",
    "memory-swap",
    "network",
    "network-alias",
    "pid",
    "pids-limit",
    "publish",
    "restart",
    "shm-size",
    "sysctl",
    "userns",
    "uts",
    "volume",
    "volumes-from",
];

/// What of `run` is the pod's when it makes a new one.
const OF_NEW: [&str; 10] = [
    "add-host",
    "dns",
    "dns-option",
    "dns-search",
    "ip",
    "ip6",
    "mac-address",
    "network",
    "network-alias",
    "publish",
];

/// The sandbox that flags describe.
fn spec(flags: &Parsed, passed: &[&'static str]) -> Result<PodSpec> {
    let given = passed
        .iter()
        .filter(|name| flags.has(name))
        .flat_map(|name| flags.all(name).map(move |value| format!("--{name}={value}")));
    let mut words: Vec<String> = given.collect();
    // What a container would run: no part of the pod.
    words.extend(["pod", "true"].map(str::to_owned));
    let parsed =
        flags::parse(&create::CREATE, "fluyt pod create", &words).map_err(|e| Error::invalid(wrong(e)))?;
    let request = create::request(&parsed, &ThisHost).map_err(Error::invalid)?;
    let mut sandbox = lower::container(&request, &ContainerConfig::default(), "")?;
    let container = sandbox.containers.pop().unwrap_or_default();
    if sandbox.namespaces.user != UserNamespace::Host {
        return Err(Error::unsupported("a pod cannot have a user namespace of its own yet")
            .with_hint("leave out --userns; single containers outside of pods can have one"));
    }
    Ok(PodSpec {
        sandbox,
        resources: container.resources,
        mounts: container.mounts,
        restart: container.restart,
        ..PodSpec::default()
    })
}

fn wrong(e: UsageError) -> String {
    match e {
        UsageError::Flag(sentence) | UsageError::Arguments(sentence) => sentence,
        UsageError::Help => "no such flag".to_owned(),
    }
}

/// Reads `--share`.
fn share(text: &str) -> Result<Share> {
    let adds = text.starts_with('+');
    let mut share = if adds { Share::default() } else { Share::NONE };
    for word in text.trim_start_matches('+').split(',').map(|w| w.trim_start_matches('+')) {
        match word {
            "" => {}
            "none" => return Ok(Share::NONE),
            "cgroup" => share.cgroup = true,
            "ipc" => share.ipc = true,
            "net" => share.network = true,
            "pid" => share.pid = true,
            "uts" => share.uts = true,
            other => {
                return Err(Error::invalid(format!(
                    "invalid kernel namespace to share: {other}. Options are: cgroup, ipc, net, pid, uts or none"
                )));
            }
        }
    }
    Ok(share)
}

/// Runs `fluyt pod create`.
pub fn create(cli: &Cli, flags: &Parsed) -> Outcome {
    let id = made(cli, flags).map_err(failed)?;
    print_line(&id)?;
    Ok(0)
}

fn made(cli: &Cli, flags: &Parsed) -> Result<String> {
    let name = match (flags.args.first(), flags.given("name")) {
        (Some(_), Some(_)) => return Err(Error::invalid("the name of the pod is given twice")),
        (given, flag) => given.map(String::as_str).or(flag).map(str::to_owned),
    };
    let mut spec = spec(flags, &PASSED)?;
    spec.infra = flags.on("infra");
    spec.share = share(flags.text("share"))?;
    spec.share_parent = flags.on("share-parent");
    spec.infra_name = flags.text("infra-name").to_owned();
    spec.pid_file = match flags.given("infra-conmon-pidfile") {
        Some(path) => Some(std::path::absolute(path).about(|| path.to_owned())?),
        None => None,
    };
    spec.exit_policy = match flags.text("exit-policy") {
        "continue" => ExitPolicy::Continue,
        "stop" => ExitPolicy::Stop,
        other => return Err(Error::invalid(format!("invalid pod exit policy: {other:?}"))),
    };
    let id_file = flags.given("pod-id-file");
    if let Some(path) = id_file.filter(|path| Path::new(path).exists()) {
        return Err(Error::conflict(format!(
            "pod ID file found: make sure the other pod is not running or delete {path}"
        )));
    }
    let engine = cli.engine()?;
    if flags.on("replace") {
        let Some(name) = &name else {
            return Err(Error::invalid("cannot replace pod without --name being set"));
        };
        let how = PodRemoveOptions { force: true, volumes: true, ..PodRemoveOptions::default() };
        match engine
            .pod(name)
            .and_then(|old| if old.name == *name { engine.pod_remove(&old.id, how) } else { Ok(()) })
        {
            Err(e) if e.kind() != Kind::NotFound => return Err(e),
            _ => {}
        }
    }
    let stored = Stored {
        create_command: std::env::args().collect(),
        infra_image: flags.text("infra-image").to_owned(),
        infra_command: flags.text("infra-command").to_owned(),
    };
    let id = engine.pod_create(PodRequest { name, spec, document: stored.value()? })?;
    if let Some(path) = id_file
        && let Err(e) = std::fs::write(path, &id).about(|| format!("pod ID file {path}"))
    {
        // The failure is what the user hears about.
        let _ = engine.pod_remove(&id, PodRemoveOptions::default());
        return Err(e);
    }
    Ok(id)
}

/// What `run` and `create` do about `--pod`: the request becomes that of a member. The id of a pod that was made for it
/// comes back.
///
/// # Errors
/// A daemon is named; the pod cannot be made.
pub fn enter(cli: &Cli, flags: &Parsed, request: &mut CreateRequest) -> Result<Option<String>> {
    let mut pod = flags.text("pod").to_owned();
    if let Some(path) = flags.given("pod-id-file") {
        if !pod.is_empty() {
            return Err(Error::invalid("cannot specify both --pod and --pod-id-file"));
        }
        let text = std::fs::read_to_string(path).about(|| format!("pod ID file {path}"))?;
        pod = text.lines().next().unwrap_or_default().trim().to_owned();
    }
    if pod.is_empty() {
        return Ok(None);
    }
    let engine = cli.engine()?;
    let Some(name) = pod.strip_prefix("new:") else {
        request.host_config.pod = pod;
        return Ok(None);
    };
    let mut spec = spec(flags, &OF_NEW)?;
    spec.sandbox.hostname = std::mem::take(&mut request.config.hostname);
    let stored = Stored { create_command: std::env::args().collect(), ..Stored::default() };
    let name = (!name.is_empty()).then(|| name.to_owned());
    let id = engine.pod_create(PodRequest { name, spec, document: stored.value()? })?;
    let host = &mut request.host_config;
    host.pod.clone_from(&id);
    host.port_bindings = PortMap::default();
    host.network_mode = "default".to_owned();
    host.dns = List::default();
    host.dns_options = List::default();
    host.dns_search = List::default();
    host.extra_hosts = List::default();
    request.networking_config = NetworkingConfig::default();
    request.config.mac_address.clear();
    Ok(Some(id))
}

/// Runs `fluyt pod clone`.
pub fn clone(cli: &Cli, flags: &Parsed) -> Outcome {
    let id = cloned(cli, flags).map_err(failed)?;
    print_line(&id)?;
    Ok(0)
}

fn cloned(cli: &Cli, flags: &Parsed) -> Result<String> {
    let engine = cli.engine()?;
    let old = engine.pod(&flags.args[0])?;
    let changes = spec(flags, &PASSED)?;
    let mut new = old.spec.clone();
    new.resources = new.resources.changed_by(&changes.resources);
    let (sandbox, changed) = (&mut new.sandbox, changes.sandbox);
    if flags.changed("hostname") {
        sandbox.hostname = changed.hostname;
    }
    if flags.changed("shm-size") {
        sandbox.shm_size = changed.shm_size;
    }
    if flags.changed("cgroup-parent") {
        sandbox.cgroup_parent = changed.cgroup_parent;
    }
    if flags.changed("pid") {
        sandbox.namespaces.pid = changed.namespaces.pid;
    }
    if flags.changed("uts") {
        sandbox.namespaces.uts = changed.namespaces.uts;
    }
    if flags.changed("restart") {
        new.restart = changes.restart;
    }
    new.infra_name = flags.text("infra-name").to_owned();
    new.pid_file = None;
    sandbox.labels.extend(changed.labels);
    sandbox.sysctls.extend(changed.sysctls);
    let name = match flags.args.get(1).map(String::as_str).or(flags.given("name")) {
        Some(name) => name.to_owned(),
        None => free_name(&old.name, |name| engine.pod_exists(name))?,
    };
    let mut stored = Stored::of(&old);
    stored.create_command = std::env::args().collect();
    if flags.changed("infra-command") {
        flags.text("infra-command").clone_into(&mut stored.infra_command);
    }
    let id = engine.pod_create(PodRequest { name: Some(name), spec: new, document: stored.value()? })?;
    if let Err(e) = clone_members(engine, &old, &id) {
        // The failure is what the user hears about.
        let _ = engine.pod_remove(&id, PodRemoveOptions { force: true, ..PodRemoveOptions::default() });
        return Err(e);
    }
    if flags.on("destroy") {
        engine.pod_remove(&old.id, PodRemoveOptions { force: true, volumes: true, timeout: None })?;
    }
    if flags.on("start") {
        engine.pod_start(&id)?;
    }
    Ok(id)
}

fn clone_members(engine: &Engine, old: &PodView, pod: &str) -> Result<()> {
    for member in &old.members {
        let mut spec = member.spec.clone();
        pod.clone_into(&mut spec.pod);
        // Definite since the old one was made: what it has of the pod it takes over from the new one.
        let kept = |mounted: &fluyt_model::sandbox::MountSpec| !old.spec.mounts.contains(mounted);
        if let Some(container) = spec.containers.first_mut() {
            container.mounts.retain(kept);
        }
        if spec.namespaces.network == Namespace::Pod {
            spec.networks.clear();
        }
        let exists = |name: &str| match engine.container(name) {
            Err(e) if e.kind() == Kind::NotFound => Ok(false),
            found => found.map(|_| true),
        };
        let name = free_name(&member.name, exists)?;
        engine.create(MemberRequest {
            name: Some(name),
            spec,
            document: member.document().unwrap_or_default(),
        })?;
    }
    Ok(())
}

/// `NAME-clone`, or with a number behind it that nobody has.
fn free_name(name: &str, taken: impl Fn(&str) -> Result<bool>) -> Result<String> {
    const MOST: u32 = 10_000;
    for number in 0..MOST {
        let suffix = if number == 0 { String::new() } else { number.to_string() };
        let candidate = format!("{name}-clone{suffix}");
        if !taken(&candidate)? {
            return Ok(candidate);
        }
    }
    Err(Error::new(Kind::Exhausted, format!("{name} was cloned too often"))
        .with_hint("give the clone a name"))
}

/// Published ports as `pod inspect` shows them.
pub(super) fn bindings(spec: &PodSpec) -> Map<Vec<super::document::Binding>> {
    let mut all: Map<Vec<super::document::Binding>> = Map::empty();
    for port in &spec.sandbox.ports {
        let key = format!("{}/{}", port.container_port, port.protocol.as_str());
        let host_port = match (port.host_port, port.host_port_end) {
            (0, _) => String::new(),
            (first, last) if last > first => format!("{first}-{last}"),
            (first, _) => first.to_string(),
        };
        let host_ip = port.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
        all.entry(key).or_default().push(super::document::Binding { host_ip, host_port });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_as_podman_reads_them() {
        assert_eq!(share("ipc,net,uts").unwrap(), Share::default());
        assert_eq!(share("none").unwrap(), Share::NONE);
        assert_eq!(share("").unwrap(), Share::NONE);
        assert_eq!(share("+pid").unwrap(), Share { pid: true, ..Share::default() });
        assert_eq!(share("pid").unwrap(), Share { pid: true, ..Share::NONE });
        assert!(share("foo").unwrap_err().to_string().starts_with("invalid kernel namespace to share: foo."));
    }

    #[test]
    fn a_clone_gets_a_free_name() {
        assert_eq!(free_name("web", |_| Ok(false)).unwrap(), "web-clone");
        assert_eq!(free_name("web", |n| Ok(n != "web-clone2")).unwrap(), "web-clone2");
    }

    #[test]
    fn flags_of_a_pod_are_read_as_those_of_a_container() {
        let words: Vec<String> = [
            "--publish=8080:80",
            "--hostname=h",
            "--memory=100m",
            "--cpus=0.5",
            "--label=a=b",
            "--network=host",
            "x",
        ]
        .map(str::to_owned)
        .to_vec();
        let parsed = flags::parse(&CREATE, "fluyt pod create", &words).ok().unwrap();
        let spec = spec(&parsed, &PASSED).unwrap();
        assert_eq!(spec.sandbox.hostname, "h");
        assert_eq!(spec.sandbox.ports[0].host_port, 8080);
        assert_eq!(spec.resources.memory, Some(100 << 20));
        assert_eq!(spec.sandbox.labels.get("a").map(String::as_str), Some("b"));
        assert_eq!(spec.sandbox.namespaces.network, Namespace::Host);
        assert!(spec.sandbox.containers.is_empty());
        for name in PASSED {
            assert!(create::CREATE.flags().any(|f| f.long == name), "{name}");
        }
    }
}
