//! A pod -> what the sandbox contract asks for. Pure: images, ConfigMaps, Secrets and the machine come in as facts, and what has
//! to be made first (volumes with their files, paths of the machine) comes out as needs.

mod env;
mod expand;
mod member;
mod network;
mod probes;
mod problem;
mod resources;
mod security;
mod volumes;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use fluyt_model::sandbox::{
    ContainerSpec, LogSpec, Namespace, PortMapping, RestartCondition, RestartPolicy, SandboxSpec,
    UserNamespace,
};

use crate::annotations;
use crate::objects::{ConfigMap, Meta, PodSpec};
use crate::stream::PodOf;

pub use problem::Problem;
pub(crate) use volumes::EMPTY_DIR;
pub use volumes::{FileNeed, PathKind, PathNeed, VolumeNeed, pod_volumes};

/// The result of lowering.
pub type Lowering<T> = Result<T, Problem>;

/// A pod to be lowered.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its labels and annotations, for fields that refer to them.
    pub metadata: &'a Meta,
    /// Its annotations and those of what asks for it.
    pub annotations: &'a BTreeMap<String, String>,
    /// What it is.
    pub spec: &'a PodSpec,
}

impl PodOf {
    /// The pod without its file.
    #[must_use]
    pub fn subject(&self) -> Subject<'_> {
        Subject {
            name: &self.name,
            metadata: &self.metadata,
            annotations: &self.annotations,
            spec: &self.spec,
        }
    }
}

/// What an image says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// Its id.
    pub id: String,
    /// The program.
    pub entrypoint: Vec<String>,
    /// Its arguments.
    pub cmd: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// `user[:group]`.
    pub user: String,
    /// Working directory.
    pub working_dir: String,
    /// Paths that get a volume.
    pub volumes: Vec<String>,
    /// How its program is asked to end.
    pub stop_signal: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// What the machine is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Bytes of memory.
    pub memory: i64,
    /// Processors.
    pub cpus: i64,
    /// Its name.
    pub hostname: String,
}

/// What a pod is lowered with.
pub struct Facts<'a> {
    /// ConfigMaps by name.
    pub config_maps: &'a BTreeMap<String, ConfigMap>,
    /// Secrets by name: bytes by key.
    pub secrets: &'a BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Images, as the pod names them.
    pub images: &'a BTreeMap<String, ImageFacts>,
    /// The machine.
    pub machine: &'a Machine,
    /// The pod's id; empty as long as it has none.
    pub uid: &'a str,
    /// The text of a seccomp profile by its path, relative to wherever profiles are.
    pub profile: &'a dyn Fn(&str) -> fluyt_model::Result<String>,
}

/// What whoever plays a pod wants beside it.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Ports, before those of the pod.
    pub publish: Vec<PortMapping>,
    /// Ports of containers are published under the same number.
    pub publish_all: bool,
    /// Names of containers are not preceded by the pod's.
    pub no_pod_prefix: bool,
    /// No /etc/hosts is made.
    pub no_hosts: bool,
    /// A user namespace, as on command lines.
    pub userns: Option<String>,
    /// Where output goes.
    pub log: LogSpec,
}

/// What becomes of an init container that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitKind {
    /// It is removed.
    Once,
    /// It runs at each start of the pod.
    Always,
}

/// A container of a lowered pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its name on the machine.
    pub name: String,
    /// Its name in the pod.
    pub short: String,
    /// The program, before its arguments.
    pub entrypoint: Vec<String>,
    /// The arguments.
    pub cmd: Vec<String>,
    /// All the rest.
    pub spec: ContainerSpec,
    /// Labels: the image's and the pod's.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// It is removed when it has ended.
    pub auto_remove: bool,
    /// It runs before the others.
    pub init: Option<InitKind>,
}

/// A lowered pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lowered {
    /// Its name.
    pub name: String,
    /// The sandbox, without containers and without networks.
    pub sandbox: SandboxSpec,
    /// Members see one another's processes.
    pub share_pid: bool,
    /// The name of its sandbox; empty: any.
    pub infra_name: String,
    /// The policy of its members.
    pub restart: RestartPolicy,
    /// Further names of it on networks.
    pub aliases: Vec<String>,
    /// Volumes that have to be there.
    pub volumes: Vec<VolumeNeed>,
    /// Paths of the machine that have to be there.
    pub paths: Vec<PathNeed>,
    /// Containers that run before the others.
    pub init: Vec<Member>,
    /// Containers.
    pub members: Vec<Member>,
    /// What has no effect.
    pub warnings: Vec<Problem>,
}

/// An image that has to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageNeed {
    /// Its name.
    pub name: String,
    /// Whether it is fetched.
    pub pull: Pull,
    /// The field that names it.
    pub path: String,
}

/// When an image is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// Always.
    Always,
    /// If it is not here.
    Missing,
    /// Never.
    Never,
    /// If it is not here, or the registry has another one and answers.
    Newer,
}

/// The images of a pod, each once, in their order.
///
/// # Errors
/// A container has no image, or its pull policy has no meaning.
pub fn images(spec: &PodSpec) -> Lowering<Vec<ImageNeed>> {
    let mut needs: Vec<ImageNeed> = Vec::new();
    let mut add = |name: &str, policy: &str, path: String| -> Lowering<()> {
        let pull = pull_policy(name, policy).map_err(|p| p.below(&path))?;
        if !needs.iter().any(|need| need.name == name) {
            needs.push(ImageNeed { name: name.to_owned(), pull, path });
        }
        Ok(())
    };
    for (index, volume) in spec.volumes.iter().enumerate() {
        if let Some(image) = &volume.image {
            let path = format!("spec.volumes[{index}].image");
            if image.reference.is_empty() {
                return Err(Problem::new(path, "the volume has no reference of an image"));
            }
            add(&image.reference, &image.pull_policy, path)?;
        }
    }
    for (list, containers) in [("initContainers", &spec.init_containers), ("containers", &spec.containers)] {
        for (index, container) in containers.iter().enumerate() {
            let path = format!("spec.{list}[{index}]");
            if container.image.is_empty() {
                return Err(Problem::new(
                    path,
                    format!("container {:?} is missing the required 'image' field", container.name),
                )
                .hint("name its image, as in `image: docker.io/library/nginx:1.29`"));
            }
            add(&container.image, &container.image_pull_policy, path)?;
        }
    }
    Ok(needs)
}

fn pull_policy(image: &str, policy: &str) -> Lowering<Pull> {
    Ok(match policy.to_lowercase().as_str() {
        "always" => Pull::Always,
        "ifnotpresent" | "missing" => Pull::Missing,
        "never" => Pull::Never,
        "newer" | "ifnewer" => Pull::Newer,
        "" => {
            let last = image.rsplit('/').next().unwrap_or(image);
            let moving = !image.contains('@') && (!last.contains(':') || last.ends_with(":latest"));
            if moving { Pull::Newer } else { Pull::Missing }
        }
        _ => {
            return Err(Problem::new("imagePullPolicy", format!("{policy:?} is not a pull policy"))
                .hint("use Always, IfNotPresent or Never"));
        }
    })
}

/// Lowers a pod.
///
/// # Errors
/// Something of it contradicts itself, refers to what is not there, or cannot be had on one machine.
pub fn lower(pod: Subject<'_>, wishes: &Wishes, facts: &Facts<'_>) -> Lowering<Lowered> {
    check_names(pod)?;
    let mut sandbox = SandboxSpec {
        hostname: network::hostname(pod, facts.machine),
        ports: network::ports(pod.spec, wishes)?,
        dns: network::dns(pod.spec)?,
        extra_hosts: network::hosts(pod.spec, wishes)?,
        sysctls: security::sysctls(pod.spec)?,
        labels: pod.metadata.labels.clone(),
        annotations: pod.annotations.clone(),
        ..SandboxSpec::default()
    };
    let host = |on: bool| if on { Namespace::Host } else { Namespace::Private };
    sandbox.namespaces.network = host(pod.spec.host_network);
    sandbox.namespaces.uts = host(pod.spec.host_network);
    sandbox.namespaces.pid = host(pod.spec.host_pid);
    sandbox.namespaces.ipc = host(pod.spec.host_ipc);
    sandbox.namespaces.user = user_namespace(pod, wishes)?;
    let resolved = volumes::resolve(pod, facts)?;
    let restart = restart_policy(&pod.spec.restart_policy)?;
    let mut lowered = Lowered {
        name: pod.name.to_owned(),
        sandbox,
        share_pid: pod.spec.share_process_namespace == Some(true) || pod.spec.host_pid,
        infra_name: pod.annotations.get(annotations::INFRA_NAME).cloned().unwrap_or_default(),
        restart,
        aliases: pod.spec.containers.iter().map(|c| c.name.clone()).collect(),
        volumes: resolved.needs.clone(),
        paths: resolved.paths.clone(),
        ..Lowered::default()
    };
    let kind = init_kind(pod)?;
    for (list, containers) in
        [("initContainers", &pod.spec.init_containers), ("containers", &pod.spec.containers)]
    {
        for (index, container) in containers.iter().enumerate() {
            let sidecar = list == "initContainers" && container.restart_policy == "Always";
            let init = (list == "initContainers" && !sidecar).then_some(kind);
            let maker = member::Maker { pod, wishes, facts, volumes: &resolved, container, restart, init };
            let path = format!("spec.{list}[{index}]");
            let (member, warnings) = maker.make().map_err(|p| p.below(&path))?;
            lowered.warnings.extend(warnings.into_iter().map(|p| p.below(&path)));
            if init.is_some() { &mut lowered.init } else { &mut lowered.members }.push(member);
        }
    }
    Ok(lowered)
}

/// Each container has a name, and no two have the same.
fn check_names(pod: Subject<'_>) -> Lowering<()> {
    let mut seen: Vec<&str> = Vec::new();
    if pod.annotations.contains_key(annotations::VOLUMES_FROM) {
        return Err(Problem::new(
            "metadata.annotations",
            format!("{} needs a container behind it", annotations::VOLUMES_FROM),
        )
        .hint(format!("write {}/CONTAINER", annotations::VOLUMES_FROM)));
    }
    for (list, containers) in
        [("initContainers", &pod.spec.init_containers), ("containers", &pod.spec.containers)]
    {
        for (index, container) in containers.iter().enumerate() {
            let path = format!("spec.{list}[{index}].name");
            if container.name.is_empty() {
                return Err(Problem::new(path, "the container does not have a name")
                    .hint("the names of a pod's containers tell them apart"));
            }
            let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if !container.name.chars().all(fine) {
                return Err(Problem::new(path, format!("{:?} is not a name of a container", container.name))
                    .hint("use lower case letters, digits and -"));
            }
            if seen.contains(&container.name.as_str()) {
                return Err(Problem::new(
                    path,
                    format!("the pod {:?} has two containers of the name {:?}", pod.name, container.name),
                )
                .hint("give one of them another name"));
            }
            seen.push(&container.name);
        }
    }
    Ok(())
}

fn restart_policy(text: &str) -> Lowering<RestartPolicy> {
    let condition = match text {
        "" | "Always" => RestartCondition::Always,
        "OnFailure" => RestartCondition::OnFailure,
        "Never" => RestartCondition::No,
        other => {
            return Err(Problem::new("spec.restartPolicy", format!("{other:?} is not a restart policy"))
                .hint("use Always, OnFailure or Never"));
        }
    };
    Ok(RestartPolicy { condition, max_retries: 0 })
}

fn init_kind(pod: Subject<'_>) -> Lowering<InitKind> {
    match pod.annotations.get(annotations::INIT_CONTAINER_TYPE).map(String::as_str) {
        None | Some("" | "once") => Ok(InitKind::Once),
        Some("always") => Ok(InitKind::Always),
        Some(other) => Err(Problem::new(
            "metadata.annotations",
            format!("{}: {other:?} is neither once nor always", annotations::INIT_CONTAINER_TYPE),
        )),
    }
}

fn user_namespace(pod: Subject<'_>, wishes: &Wishes) -> Lowering<UserNamespace> {
    let (path, text) = match &wishes.userns {
        Some(text) => ("", text.as_str()),
        None => match annotations::of(pod.annotations, annotations::USERNS, pod.name) {
            Some(text) => ("metadata.annotations", text),
            None if pod.spec.host_users == Some(false) => ("spec.hostUsers", "auto"),
            None => ("", "host"),
        },
    };
    let (mode, options) = text.split_once(':').unwrap_or((text, ""));
    match mode {
        "" | "host" => Ok(UserNamespace::Host),
        "auto" | "private" => {
            let mut size = 0;
            for option in options.split(',').filter(|o| !o.is_empty()) {
                size = option.strip_prefix("size=").and_then(|n| n.parse().ok()).ok_or_else(|| {
                    Problem::new(path, format!("user namespace {text:?}: unknown option {option:?}"))
                        .hint("auto takes size=N")
                })?;
            }
            Ok(UserNamespace::Auto { size })
        }
        _ => Err(Problem::new(path, format!("the user namespace {text:?} cannot be had for a pod"))
            .unsupported()
            .hint("use host or auto")),
    }
}
