//! `kube play`: the objects of YAML files become volumes, secrets and pods.

use std::collections::BTreeMap;
use std::time::Duration;

use fluyt_docker_api::lower as docker;
use fluyt_docker_api::types::ContainerConfig;
use fluyt_engine::{Engine, NetworkSpec, VolumeSpec};
use fluyt_model::error::IoContext;
use fluyt_model::sandbox::{Namespace, NetworkAttachment, Phase, SandboxSpec};
use fluyt_model::{Error, Kind, Result};
use fluyt_pod::annotations;
use fluyt_pod::lower::{
    Facts, ImageFacts, ImageNeed, Lowered, Machine, Problem, Pull, Wishes, images, lower,
};
use fluyt_pod::objects::{Claim, EnvFrom, PodSpec};
use fluyt_pod::stream::PodOf;
use fluyt_sys::activation;
use fluyt_sys::signals::Signals;

use super::images::Wanted;
use super::make::{self, Made};
use super::secrets::Secrets;
use super::source::Sources;
use super::{down, failed};
use crate::cli::cmd::Cli;
use crate::cli::create::{self, ThisHost};
use crate::cli::fail::{Failure, Outcome};
use crate::cli::flags::{self, Arity, Command, NONE, Parsed, UsageError, list, many, switch, text};
use crate::cli::print_line;

/// The network of pods that ask for none.
const NETWORK: &str = "fluyt-default-kube-network";
/// Between two looks at pods whose end is waited for.
const LOOK: Duration = Duration::from_millis(200);

/// `fluyt kube play`.
pub const PLAY: Command = Command {
    name: "play",
    arguments: "KUBEFILE [KUBEFILE...]|URL|-",
    about: "Play pods, volumes and secrets of Kubernetes YAML",
    flags: &[&[
        list(NONE, "annotation", "Add annotations to pods and containers (key=value)"),
        text(NONE, "authfile", "Path of the authentication file").hidden(),
        switch(
            NONE,
            "build",
            "Build all images of the YAML for which there is a directory with a Containerfile",
        ),
        text(NONE, "cert-dir", "Directory with TLS certificates and keys").hidden(),
        list(NONE, "configmap", "Path of a YAML file with ConfigMaps"),
        text(NONE, "context-dir", "Directory in which --build looks"),
        text(NONE, "creds", "Credentials (USERNAME:PASSWORD) for the registry"),
        switch(NONE, "down", "Stop and remove the pods instead").hidden(),
        switch(NONE, "force", "Remove volumes as part of --down"),
        list(NONE, "ip", "Static IP addresses to assign to the pods"),
        text(NONE, "log-driver", "Logging driver for the containers"),
        list(NONE, "log-opt", "Logging driver options"),
        list(NONE, "mac-address", "Static MAC addresses to assign to the pods"),
        many(NONE, "network", "network", create::network::check, "Connect the pods to a network"),
        many(NONE, "net", "network", create::network::check, "Connect the pods to a network")
            .alias_of("network"),
        switch(NONE, "no-hosts", "Refuse hostAliases"),
        switch(NONE, "no-pod-prefix", "Do not put the pod's name before the containers' names"),
        switch(NONE, "no-trunc", "Accepted: nothing is truncated").hidden(),
        list('p', "publish", "Publish a port of a pod, or a range of ports, to the host"),
        switch(NONE, "publish-all", "Publish all ports that the YAML names, not only those with a hostPort"),
        switch('q', "quiet", "Suppress output when images are fetched"),
        switch(NONE, "replace", "Remove the pods of the YAML and make them anew"),
        text(NONE, "seccomp-profile-root", "Directory of seccomp profiles")
            .default("/var/lib/kubelet/seccomp"),
        switch(NONE, "service-container", "Run as a service: tell systemd, stay until the pods end").hidden(),
        text(NONE, "service-exit-code-propagation", "What the service's exit code says (none, any, all)")
            .hidden(),
        text(NONE, "signature-policy", "Path of a policy of signatures").hidden(),
        switch(NONE, "start", "Start the pods after making them").default("true"),
        switch(NONE, "tls-verify", "Require HTTPS and verify certificates of registries").default("true"),
        text(NONE, "userns", "User namespace to use"),
        switch('w', "wait", "Wait for the pods to end, then remove everything that was made"),
    ]],
    arity: Arity::AtLeast(1),
    interspersed: true,
};

/// Runs `fluyt kube play`.
pub fn play(cli: &Cli, flags: &Parsed) -> Outcome {
    let engine = cli.engine()?;
    if flags.on("force") && !flags.on("down") {
        return Err(failed(Error::invalid("--force may be specified only with --down")));
    }
    let mut sources = Sources::all(&flags.args).map_err(failed)?;
    if flags.on("down") {
        return down::teardown(cli, &sources, flags.on("force"));
    }
    for path in flags.all("configmap") {
        sources.config_maps(path).map_err(failed)?;
    }
    sources.warn();
    sources.stream.check().map_err(|problem| failed(problem.into()))?;
    let mut player = Player::new(cli, engine, flags, sources).map_err(failed)?;
    if flags.on("replace") {
        down::teardown(cli, &player.sources, false)?;
    }
    let propagation = Propagation::read(flags.text("service-exit-code-propagation")).map_err(failed)?;
    if flags.on("wait") {
        print_line("Use ctrl+c to clean up or wait for pods to exit")?;
    }
    let code = player.play()?;
    if !flags.on("wait") {
        return match code {
            0 if flags.on("service-container") => serve(engine, &player.made, propagation),
            code => Ok(code),
        };
    }
    // From here on an interrupt cleans up, it does not end us. Not earlier: containers would inherit that.
    let signals = Signals::block(&[SIGINT, SIGTERM])?;
    let interrupted = wait(engine, &player.made, &signals).map_err(failed)?;
    print_line(if interrupted {
        "\nCleaning up containers, pods, and volumes..."
    } else {
        "Cleaning up containers, pods, and volumes..."
    })?;
    down::teardown(cli, &player.sources, true)?;
    Ok(code)
}

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// Waits until nothing of the pods runs or is about to be restarted; whether the user interrupted it.
fn wait(engine: &Engine, pods: &[Made], signals: &Signals) -> Result<bool> {
    loop {
        if signals.next()?.is_some() {
            return Ok(true);
        }
        let mut alive = false;
        for pod in pods {
            match engine.pod(&pod.id) {
                Ok(view) => {
                    let lives = [Phase::Running, Phase::Restarting, Phase::Paused];
                    alive |= view.members.iter().any(|m| lives.contains(&m.status.phase));
                }
                Err(e) if e.kind() == Kind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        if !alive {
            return Ok(false);
        }
        std::thread::sleep(LOOK);
    }
}

/// What the exit code of a service says of its pods' containers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Propagation {
    None,
    Any,
    All,
}

impl Propagation {
    fn read(text: &str) -> Result<Self> {
        match text {
            "" | "none" => Ok(Self::None),
            "any" => Ok(Self::Any),
            "all" => Ok(Self::All),
            _ => Err(Error::invalid(format!("--service-exit-code-propagation: {text:?} is unknown"))
                .with_hint("use none, any or all")),
        }
    }

    fn code(self, codes: &[i32]) -> i32 {
        let failed = codes.iter().copied().find(|code| *code != 0);
        match self {
            Self::None => 0,
            Self::Any => failed.unwrap_or(0),
            Self::All if codes.iter().all(|code| *code != 0) => failed.unwrap_or(0),
            Self::All => 0,
        }
    }
}

/// As a service of systemd: tells it that everything is up and stays until the pods end, or until it is to end itself. Without
/// anybody to tell, it is done.
fn serve(engine: &Engine, pods: &[Made], propagation: Propagation) -> Outcome {
    if std::env::var_os("NOTIFY_SOCKET").is_none_or(|socket| socket.is_empty()) {
        return Ok(0);
    }
    let signals = Signals::block(&[SIGINT, SIGTERM])?;
    activation::notify("READY=1").about(|| "the service manager")?;
    if wait(engine, pods, &signals).map_err(failed)? {
        return Ok(0);
    }
    let mut codes = Vec::new();
    for pod in pods {
        let members = engine.pod(&pod.id).map(|view| view.members).unwrap_or_default();
        codes.extend(members.iter().map(|member| member.status.exit_code));
    }
    Ok(propagation.code(&codes))
}

/// What plays a stream.
struct Player<'a> {
    cli: &'a Cli,
    engine: &'a Engine,
    flags: &'a Parsed,
    sources: Sources,
    secrets: Secrets,
    wanted: Wanted,
    wishes: Wishes,
    /// Networks and ports that the command line asks for.
    asked: SandboxSpec,
    annotations: BTreeMap<String, String>,
    machine: Machine,
    images: BTreeMap<String, ImageFacts>,
    made: Vec<Made>,
}

impl<'a> Player<'a> {
    fn new(cli: &'a Cli, engine: &'a Engine, flags: &'a Parsed, sources: Sources) -> Result<Self> {
        let mut extra = BTreeMap::new();
        for text in flags.all("annotation") {
            let (key, value) = text
                .split_once('=')
                .ok_or_else(|| Error::invalid(format!("annotation {text:?} must include an '=' sign")))?;
            extra.insert(key.to_owned(), value.to_owned());
        }
        let asked = asked(flags)?;
        let log = asked.containers.first().map(|c| c.log.clone()).unwrap_or_default();
        let wishes = Wishes {
            publish: asked.ports.clone(),
            publish_all: flags.on("publish-all"),
            no_pod_prefix: flags.on("no-pod-prefix"),
            no_hosts: flags.on("no-hosts"),
            userns: flags.given("userns").map(str::to_owned),
            log,
        };
        Ok(Self {
            cli,
            engine,
            flags,
            sources,
            secrets: Secrets::of(cli.root()),
            wanted: Wanted::read(flags)?,
            wishes,
            asked,
            annotations: extra,
            machine: machine()?,
            images: BTreeMap::new(),
            made: Vec::new(),
        })
    }

    fn play(&mut self) -> Outcome {
        let claims = self.sources.stream.claims.clone();
        for claim in &claims {
            self.claim(claim).map_err(failed)?;
        }
        for secret in &self.sources.stream.secrets {
            self.secrets.put(secret).map_err(failed)?;
        }
        let pods = std::mem::take(&mut self.sources.stream.pods);
        let mut reports = Vec::new();
        let mut failure = None;
        for (index, pod) in pods.iter().enumerate() {
            match self.pod(index, pod) {
                Ok(report) => reports.push(report),
                Err(e) => {
                    failure = Some(e);
                    break;
                }
            }
        }
        self.sources.stream.pods = pods;
        let wrong = self.report(&reports)?;
        match (failure, wrong) {
            (Some(failure), _) => Err(failure),
            (None, 0) => Ok(0),
            (None, n) => Err(failed(Error::internal(format!("failed to start {n} containers")))),
        }
    }

    /// What Podman prints: volumes, secrets, pods with their containers. How many containers could not be started.
    fn report(&self, reports: &[(Made, Vec<String>)]) -> Result<usize> {
        let section = |title: &str, names: Vec<&str>| {
            if !names.is_empty() {
                print_line(title)?;
            }
            names.into_iter().try_for_each(print_line)
        };
        section("Volumes:", self.sources.stream.claims.iter().map(|c| c.metadata.name.as_str()).collect())?;
        section("Secrets:", self.sources.stream.secrets.iter().map(|s| s.metadata.name.as_str()).collect())?;
        let mut wrong = 0;
        for (made, errors) in reports {
            print_line("Pod:")?;
            print_line(&made.id)?;
            match made.containers.len() {
                0 => continue,
                1 => print_line("Container:")?,
                _ => print_line("Containers:")?,
            }
            for id in &made.containers {
                print_line(id)?;
            }
            if !errors.is_empty() {
                print_line("")?;
            }
            for error in errors {
                eprintln!("{error}");
            }
            wrong += errors.len();
            print_line("")?;
        }
        Ok(wrong)
    }

    fn claim(&self, claim: &Claim) -> Result<()> {
        let words = &claim.metadata.annotations;
        let get = |name: &str| words.get(name).map(String::as_str).filter(|v| !v.is_empty());
        let name = &claim.metadata.name;
        let mut options = BTreeMap::new();
        for (key, word) in [
            ("device", annotations::VOLUME_DEVICE),
            ("type", annotations::VOLUME_TYPE),
            ("o", annotations::VOLUME_OPTIONS),
        ] {
            if let Some(value) = get(word) {
                options.insert(key.to_owned(), value.to_owned());
            }
        }
        if get(annotations::VOLUME_IMAGE).is_some() {
            return Err(Error::unsupported(format!(
                "claim {name}: {} is not supported",
                annotations::VOLUME_IMAGE
            ))
            .with_hint("mount the image as a volume of the pod: `image: {reference: …}`"));
        }
        let id = |word: &str| {
            get(word).map(|text| {
                text.parse::<u32>()
                    .map_err(|_| Error::invalid(format!("claim {name}: {word}: {text:?} is not an id")))
            })
        };
        let (uid, gid) = (id(annotations::VOLUME_UID).transpose()?, id(annotations::VOLUME_GID).transpose()?);
        let archive = get(annotations::VOLUME_IMPORT)
            .map(|path| std::fs::File::open(path).about(|| format!("claim {name}: {path}")))
            .transpose()?;
        let existed = self.engine.volume(name).is_ok();
        let view = self.engine.volume_create(VolumeSpec {
            name: name.clone(),
            driver: get(annotations::VOLUME_DRIVER).unwrap_or("local").to_owned(),
            options,
            labels: claim.metadata.labels.clone(),
        })?;
        if !existed && (uid.is_some() || gid.is_some()) {
            std::os::unix::fs::chown(&view.mountpoint, uid, gid).about(|| format!("volume {name}"))?;
        }
        if let Some(archive) = archive {
            let filled = unpack(archive, &view.mountpoint);
            if let Err(e) = filled {
                if !existed {
                    // The failure is what the user hears about.
                    let _ = self.engine.volume_remove(name, true);
                }
                return Err(e.context(format!("filling the volume {name}")));
            }
        }
        Ok(())
    }

    fn pod(&mut self, index: usize, pod: &PodOf) -> std::result::Result<(Made, Vec<String>), Failure> {
        let mut pod = pod.clone();
        pod.annotations.extend(self.annotations.clone());
        let at = |player: &Self, problem: Problem| failed(player.sources.error(&pod.fault(problem)));
        let needs = images(&pod.spec).map_err(|p| at(self, p))?;
        let all: Vec<ImageNeed> = needs.into_iter().chain(mounted_images(&pod.annotations)).collect();
        if let Err((path, failure)) = self.wanted.all(self.cli, &all, &mut self.images) {
            return Err(match failure {
                Failure::Error(e) => {
                    let problem = Problem {
                        hint: e.hint().map(str::to_owned),
                        kind: e.kind(),
                        ..Problem::new(path, e.chain())
                    };
                    at(self, problem)
                }
                other => other,
            });
        }
        let secrets = self.secrets.bytes(&secret_names(&pod.spec)).map_err(failed)?;
        let profiles = self.flags.text("seccomp-profile-root").to_owned();
        let profile = move |path: &str| {
            let full = std::path::Path::new(&profiles).join(path);
            std::fs::read_to_string(&full).about(|| full.display().to_string())
        };
        let lowered = |uid: &str| -> std::result::Result<Lowered, Problem> {
            let facts = Facts {
                config_maps: &self.sources.stream.config_maps,
                secrets: &secrets,
                images: &self.images,
                machine: &self.machine,
                uid,
                profile: &profile,
            };
            let mut lowered = lower(pod.subject(), &self.wishes, &facts)?;
            self.networks(index, &mut lowered)?;
            Ok(lowered)
        };
        let first = lowered("").map_err(|p| at(self, p))?;
        for problem in &first.warnings {
            self.sources.warn_of(&pod.fault(problem.clone()));
        }
        if self.flags.on("replace") {
            down::forget(self.engine, &pod.name).map_err(failed)?;
        }
        self.ensure_network(&first).map_err(failed)?;
        let id = make::pod(self.engine, &first).map_err(failed)?;
        let undo = |failure: Failure| {
            let how = fluyt_engine::pod::PodRemoveOptions { force: true, volumes: true, timeout: None };
            // The failure is what the user hears about.
            let _ = self.engine.pod_remove(&id, how);
            failure
        };
        // Now that the pod has an id, fields can refer to it.
        let lowered = lowered(&id).map_err(|p| undo(at(self, p)))?;
        make::needs(self.engine, &lowered).map_err(|p| undo(at(self, p)))?;
        let made = make::members(self.engine, &id, &lowered, self.flags.on("replace")).map_err(failed)?;
        let wrong = if self.flags.on("start") {
            make::start(self.engine, &made).map_err(failed)?
        } else {
            Vec::new()
        };
        self.made.push(Made { id, ..Made::default() });
        Ok((made, wrong))
    }

    /// Plugs a pod into what the command line asks for, else into the network of all pods.
    fn networks(&self, index: usize, lowered: &mut Lowered) -> std::result::Result<(), Problem> {
        let given = self.flags.changed("network");
        let sandbox = &mut lowered.sandbox;
        if given {
            sandbox.namespaces.network = self.asked.namespaces.network.clone();
            sandbox.networks = self.asked.networks.clone();
        } else if sandbox.namespaces.network == Namespace::Private {
            sandbox.networks =
                vec![NetworkAttachment { network: NETWORK.to_owned(), ..NetworkAttachment::default() }];
        }
        let (ips, macs) = (self.flags.list("ip"), self.flags.list("mac-address"));
        let (ip, mac) = (ips.get(index), macs.get(index));
        let count = sandbox.networks.len();
        let Some(plug) = sandbox.networks.first_mut() else {
            return match (ip, mac) {
                (None, None) => Ok(()),
                _ => Err(Problem::new(
                    "",
                    "static addresses can only be set when the pod is on a bridge network",
                )),
            };
        };
        if count > 1 && (ip.is_some() || mac.is_some()) {
            return Err(Problem::new("", "static addresses cannot be set for more than one network")
                .hint("use --network name=NETWORK,ip=ADDRESS"));
        }
        match ip.map(|text| (text, text.parse::<std::net::IpAddr>())) {
            Some((_, Ok(std::net::IpAddr::V4(ip)))) => plug.ipv4 = Some(ip),
            Some((_, Ok(std::net::IpAddr::V6(ip)))) => plug.ipv6 = Some(ip),
            Some((text, Err(_))) => {
                return Err(Problem::new("", format!("--ip: {text:?} is not an address")));
            }
            None => {}
        }
        if let Some(mac) = mac {
            plug.mac = Some(create::network::mac(mac).map_err(|e| Problem::new("", e))?);
        }
        if plug.network != "bridge" {
            plug.aliases.extend(lowered.aliases.iter().cloned());
        }
        Ok(())
    }

    fn ensure_network(&self, lowered: &Lowered) -> Result<()> {
        if !lowered.sandbox.networks.iter().any(|plug| plug.network == NETWORK) {
            return Ok(());
        }
        match self.engine.network(NETWORK) {
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == Kind::NotFound => {}
            Err(e) => return Err(e),
        }
        let spec = NetworkSpec { name: NETWORK.to_owned(), ipv4: true, ..NetworkSpec::default() };
        match self.engine.network_create(spec) {
            // Somebody else was faster.
            Err(e) if e.kind() == Kind::Conflict && self.engine.network(NETWORK).is_ok() => Ok(()),
            done => done.map(drop),
        }
    }
}

/// Networks, ports and logging, as the flags of `run` of the same names have them.
fn asked(flags: &Parsed) -> Result<SandboxSpec> {
    let mut words: Vec<String> = Vec::new();
    for name in ["network", "publish", "log-driver", "log-opt"] {
        if flags.has(name) {
            words.extend(flags.all(name).map(|value| format!("--{name}={value}")));
        }
    }
    words.extend(["pod", "true"].map(str::to_owned));
    let parsed = flags::parse(&create::CREATE, "kube play", &words).map_err(|e| match e {
        UsageError::Flag(sentence) | UsageError::Arguments(sentence) => Error::invalid(sentence),
        UsageError::Help => Error::internal("the command line of a container"),
    })?;
    let request = create::request(&parsed, &ThisHost).map_err(Error::invalid)?;
    docker::container(&request, &ContainerConfig::default(), "")
}

/// The images whose volumes annotations ask for: they have to be here.
fn mounted_images(words: &BTreeMap<String, String>) -> Vec<ImageNeed> {
    let prefix = format!("{}/", annotations::IMAGE_VOLUMES);
    let lists = words.iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(_, value)| value);
    let names = lists.flat_map(|list| list.split(';')).filter(|name| !name.is_empty());
    names
        .map(|name| ImageNeed {
            name: name.to_owned(),
            pull: Pull::Never,
            path: "metadata.annotations".to_owned(),
        })
        .collect()
}

/// The secrets that a pod refers to.
fn secret_names(spec: &PodSpec) -> Vec<String> {
    let mut names = Vec::new();
    for container in spec.init_containers.iter().chain(&spec.containers) {
        let from = |from: &EnvFrom| from.secret_ref.as_ref().map(|s| s.name.clone());
        names.extend(container.env_from.iter().filter_map(from));
        let sources = container.env.iter().filter_map(|v| v.value_from.as_ref());
        names.extend(sources.filter_map(|s| s.secret_key_ref.as_ref()).map(|key| key.name.clone()));
    }
    for volume in &spec.volumes {
        names.extend(volume.secret.iter().map(|s| s.secret_name.clone()));
        let projections = volume.projected.iter().flat_map(|p| &p.sources);
        names.extend(projections.filter_map(|p| p.secret.as_ref()).map(|s| s.name.clone()));
    }
    names.sort();
    names.dedup();
    names
}

fn machine() -> Result<Machine> {
    let info = rustix::system::sysinfo();
    let bytes = u128::from(info.totalram) * u128::from(info.mem_unit.max(1));
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(Machine {
        memory: i64::try_from(bytes).unwrap_or(i64::MAX),
        cpus: i64::try_from(cpus).unwrap_or(1),
        hostname,
    })
}

/// Unpacks a tar archive into a volume.
fn unpack(archive: std::fs::File, into: &std::path::Path) -> Result<()> {
    let mut archive = tar::Archive::new(archive);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.unpack(into).about(|| into.display().to_string())
}
