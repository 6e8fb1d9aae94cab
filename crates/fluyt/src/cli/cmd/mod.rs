//! The commands, each with its flags beside it, and the tree that leads to them.

mod archives;
mod attach;
mod build;
mod builder;
mod compose;
mod content;
mod context;
mod dial;
mod disk;
mod engine;
mod engine_guard;
mod engine_handler;
mod exec;
mod files;
mod images;
mod imagetools;
mod inspect;
mod kube;
mod lifecycle;
mod list;
mod logs;
mod manifest;
mod meta;
mod networks;
mod pod;
mod prune;
mod quadlet;
mod registry;
mod remotely;
mod reset;
mod resume;
mod run;
mod save;
mod search;
mod serve;
mod session;
mod signing;
mod stats;
mod system;
pub mod trust;
mod volumes;

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use fluyt_docker_api::api::Docker;
use fluyt_docker_api::local::Local;
use fluyt_docker_api::remote::dial::Stream;
use fluyt_docker_api::remote::{Dialer, Host, Remote};
use fluyt_engine::Engine;
use fluyt_model::{Error, Result};

use super::context::Options;
use super::tree::{Node, group, plain, process};

/// Pulls an image that a build needs.
///
/// # Errors
/// What the registry says.
pub fn pull_for_build(
    engine: &Engine,
    name: &str,
    platform: Option<&str>,
    policy: Option<&str>,
    quiet: bool,
) -> Result<()> {
    registry::pull_one(engine, name, platform, policy, registry::Where::Stderr { quiet })
}

/// Pushes a document that was built, which the image of the store with its name is told of; Docker's line about it.
///
/// # Errors
/// What the registry says.
pub fn push_for_build(
    engine: &Engine,
    reference: &fluyt_model::reference::Reference,
    target: &fluyt_image::Digest,
    image: Option<&fluyt_image::Image>,
) -> Result<String> {
    fluyt_docker_api::transfer::push_built(engine, reference, target, image)
}

/// The client of all registries.
///
/// # Errors
/// A settings file that is not valid.
pub fn registry_for_build() -> Result<fluyt_registry::Registry> {
    fluyt_docker_api::transfer::client(true, None)
}

/// What the program is.
pub const ABOUT: &str = "Containers, images and networks in one program, without a daemon";

/// The options before the command, as help shows them.
pub const GLOBAL_OPTIONS: &str = "\nGlobal Options:
      --config string      Location of client config files (default \"~/.docker\", or the variable DOCKER_CONFIG)
  -c, --context string     Name of the context to use to connect to a daemon (overrides DOCKER_HOST and \"context use\")
  -H, --host string        Daemon to speak to instead of this machine's data root: unix://, tcp:// or ssh://
      --root string        Data root (default \"/var/lib/fluyt\", or the variable FLUYT_ROOT)
      --tls                Use TLS; implied by --tlsverify
      --tlscacert string   Trust certs signed only by this CA
      --tlscert string     Path to TLS certificate file
      --tlskey string      Path to TLS key file
      --tlsverify          Use TLS and verify the remote
  -v, --version            Print version information and quit
      --help               Print usage
";

/// The socket of `fluyt engine` when it is told no other.
pub(crate) const ENGINE_SOCKET: &str = "/run/fluyt.sock";

/// What every command gets: where the data root is, which daemon is named, and the engine once it is asked for.
pub struct Cli {
    root: PathBuf,
    options: Options,
    /// The daemon that is named, if one is; looked for once.
    remote: OnceCell<Option<Remote>>,
    engine: OnceCell<Engine>,
    local: OnceCell<Local>,
}

impl Cli {
    /// For a data root, or for a daemon that the options (or the environment) name.
    pub fn new(root: PathBuf, options: Options) -> Self {
        let (remote, engine, local) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Self { root, options, remote, engine, local }
    }

    /// The data root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What was said about daemons.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The daemon, if one is named.
    ///
    /// # Errors
    /// What names it is malformed.
    pub fn remote(&self) -> Result<Option<&Remote>> {
        if let Some(remote) = self.remote.get() {
            return Ok(remote.as_ref());
        }
        let remote = self.options.remote()?;
        Ok(self.remote.get_or_init(|| remote).as_ref())
    }

    /// Docker's operations: of the daemon that is named, else of this process.
    ///
    /// # Errors
    /// What names the daemon is malformed; the data root cannot be opened.
    pub fn docker(&self) -> Result<&dyn Docker> {
        match self.remote()? {
            Some(remote) => Ok(remote),
            None => Ok(self.local()?),
        }
    }

    /// The operations of this process, whatever is named.
    ///
    /// # Errors
    /// The data root cannot be opened.
    pub fn local(&self) -> Result<&Local> {
        if let Some(local) = self.local.get() {
            return Ok(local);
        }
        let local = Local::open(&self.root)?;
        Ok(self.local.get_or_init(|| local))
    }

    /// The engine of the data root, opened when first needed, for what can be done on the machine itself only.
    ///
    /// # Errors
    /// `Unsupported` when a daemon is named; the data root cannot be opened.
    pub fn engine(&self) -> Result<&Engine> {
        self.only_here()?;
        self.own_engine()
    }

    /// Refuses when a daemon is named: what follows is about this machine's data root.
    ///
    /// # Errors
    /// `Unsupported`; what names the daemon is malformed.
    pub fn only_here(&self) -> Result<()> {
        let Some(remote) = self.remote()? else { return Ok(()) };
        let host = remote.client().host();
        let text = format!("this command works on a machine's own data root, and {host} is named");
        Err(Error::unsupported(text).with_hint(
            "run it on that machine, or leave out --host, --context, DOCKER_HOST and DOCKER_CONTEXT",
        ))
    }

    /// The same, whatever is named: for what monitors run, whose environment is that of whoever started a container.
    ///
    /// # Errors
    /// The data root cannot be opened.
    pub fn own_engine(&self) -> Result<&Engine> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let engine = Engine::open(&self.root)?;
        Ok(self.engine.get_or_init(|| engine))
    }
}

/// A connection to the engine that serves this machine's data root; where none runs, to one in this process.
///
/// # Errors
/// The data root cannot be opened.
fn engine_socket(cli: &Cli) -> Result<Stream> {
    match Dialer::new(Host::Unix(PathBuf::from(ENGINE_SOCKET)), None).dial() {
        // The usual engine serves the usual data root.
        Ok(stream) if cli.root() == Path::new(super::DEFAULT_ROOT) => Ok(stream),
        _ => engine::within(cli),
    }
}

/// `fluyt build`, for the tests of its flags.
#[cfg(test)]
pub fn build_command() -> &'static super::flags::Command {
    &build::BUILD
}

/// What a daemon tells of long work, on standard output.
pub fn remote_display() -> remotely::Display {
    remotely::Display::on_stdout()
}

pub use remotely::auth_for;

/// The commands below a command that reads its words itself, for completions and manual pages.
pub fn below(command: &'static crate::cli::flags::Command) -> Vec<crate::cli::flags::Node> {
    if command.name == compose::COMPOSE.name {
        return compose::tree();
    }
    Vec::new()
}

/// All words after `fluyt`.
pub const ROOT: &[Node] = &[
    process(&super::create::RUN, run::run),
    plain(&list::PS, list::ps),
    process(&exec::EXEC, exec::exec),
    plain(&super::create::CREATE, run::create),
    process(&run::START, run::start),
    plain(&lifecycle::STOP, lifecycle::stop),
    plain(&lifecycle::KILL, lifecycle::kill),
    plain(&lifecycle::RESTART, lifecycle::restart),
    plain(&lifecycle::PAUSE, lifecycle::pause),
    plain(&lifecycle::UNPAUSE, lifecycle::unpause),
    plain(&lifecycle::RM, lifecycle::rm),
    plain(&lifecycle::WAIT, lifecycle::wait),
    plain(&lifecycle::RENAME, lifecycle::rename),
    plain(&lifecycle::UPDATE, lifecycle::update),
    plain(&logs::LOGS, logs::logs),
    plain(&attach::ATTACH, attach::attach),
    plain(&inspect::INSPECT, inspect::inspect),
    plain(&files::TOP, files::top),
    plain(&files::PORT, files::port),
    plain(&content::DIFF, content::diff),
    plain(&content::CP, content::cp),
    plain(&content::EXPORT, content::export),
    plain(&content::COMMIT, content::commit),
    plain(&stats::STATS, stats::stats),
    plain(&build::BUILD, build::build),
    plain(&compose::COMPOSE, compose::compose),
    plain(&images::IMAGES, images::images),
    plain(&images::HISTORY, images::history),
    plain(&images::TAG, images::tag),
    plain(&disk::RMI, disk::rmi),
    plain(&archives::LOAD, archives::load),
    plain(&save::SAVE, save::save),
    plain(&save::IMPORT, save::import),
    plain(&registry::PULL, registry::pull),
    plain(&registry::PUSH, registry::push),
    plain(&registry::LOGIN, registry::login),
    plain(&registry::LOGOUT, registry::logout),
    plain(&search::SEARCH, search::search),
    plain(&system::EVENTS, system::events),
    plain(&system::INFO, system::info),
    plain(&system::VERSION, system::version),
    plain(&engine::ENGINE, engine::engine),
    group("builder", "Manage builds", BUILDER),
    group("buildx", "Manage builds", BUILDX).hidden(),
    group("container", "Manage containers", CONTAINER),
    group("context", "Manage contexts", CONTEXT),
    group("generate", "Describe what is there in other words", GENERATE).hidden(),
    group("image", "Manage images", IMAGE),
    group("imagetools", "Work on images in registries", IMAGETOOLS).hidden(),
    group("kube", "Play, take down and generate Kubernetes YAML", kube::KUBE),
    group("manifest", "Manage image manifests and manifest lists", MANIFEST),
    group("network", "Manage networks", NETWORK),
    group("pod", "Manage pods", pod::POD),
    group("quadlet", "Manage Quadlet units of systemd", QUADLET),
    group("play", "Play containers, pods or volumes from a structured file", kube::PLAY).hidden(),
    group("registry", "Serve a registry", REGISTRY),
    group("volume", "Manage volumes", VOLUME),
    group("system", "Manage the data root", SYSTEM),
    plain(&meta::COMPLETION, meta::completion),
    plain(&meta::MAN, meta::man).hidden(),
];

const CONTAINER: &[Node] = &[
    plain(&attach::ATTACH, attach::attach),
    plain(&content::COMMIT, content::commit),
    plain(&content::CP, content::cp),
    plain(&super::create::CREATE, run::create),
    plain(&content::DIFF, content::diff),
    process(&exec::EXEC, exec::exec),
    plain(&content::EXPORT, content::export),
    plain(&inspect::CONTAINER, inspect::container),
    plain(&lifecycle::KILL, lifecycle::kill),
    plain(&logs::LOGS, logs::logs),
    plain(&list::PS, list::ps).called("ls").or(&["list", "ps"]),
    plain(&lifecycle::PAUSE, lifecycle::pause),
    plain(&files::PORT, files::port),
    plain(&prune::CONTAINERS, prune::containers),
    plain(&lifecycle::REAP, lifecycle::reap).hidden(),
    plain(&lifecycle::RENAME, lifecycle::rename),
    plain(&lifecycle::RESTART, lifecycle::restart),
    plain(&lifecycle::REVIVE, lifecycle::revive).hidden(),
    plain(&lifecycle::RM, lifecycle::rm).or(&["remove"]),
    process(&super::create::RUN, run::run),
    process(&run::START, run::start),
    plain(&stats::STATS, stats::stats),
    plain(&lifecycle::STOP, lifecycle::stop),
    plain(&files::TOP, files::top),
    plain(&lifecycle::UNPAUSE, lifecycle::unpause),
    plain(&lifecycle::UPDATE, lifecycle::update),
    plain(&lifecycle::WAIT, lifecycle::wait),
];

const CONTEXT: &[Node] = &[
    plain(&context::CREATE, context::create),
    plain(&context::EXPORT, context::export),
    plain(&context::IMPORT, context::import),
    plain(&context::INSPECT, context::inspect),
    plain(&context::LS, context::ls).or(&["list"]),
    plain(&context::RM, context::rm).or(&["remove"]),
    plain(&context::SHOW, context::show),
    plain(&context::UPDATE, context::update),
    plain(&context::USE, context::switch_to),
];

const BUILDER: &[Node] = &[
    plain(&build::BUILD, build::build).or(&["b"]),
    plain(&builder::DU, builder::du),
    plain(&builder::PRUNE, builder::prune),
];

const BUILDX: &[Node] = &[
    plain(&build::BUILD, build::build).or(&["b"]),
    plain(&builder::DU, builder::du),
    group("imagetools", "Work on images in registries", IMAGETOOLS),
    plain(&builder::PRUNE, builder::prune),
];

const GENERATE: &[Node] = &[
    plain(&kube::GENERATE, kube::generate).called("kube"),
    plain(&quadlet::GENERATE_SYSTEMD, quadlet::generate_systemd),
];

const IMAGETOOLS: &[Node] =
    &[plain(&imagetools::CREATE, imagetools::create), plain(&imagetools::INSPECT, imagetools::inspect)];

const MANIFEST: &[Node] = &[
    plain(&manifest::ADD, manifest::add),
    plain(&manifest::ANNOTATE, manifest::annotate),
    plain(&manifest::CREATE, manifest::create),
    plain(&manifest::EXISTS, manifest::exists),
    plain(&manifest::INSPECT, manifest::inspect),
    plain(&manifest::PUSH, manifest::push),
    plain(&manifest::REMOVE, manifest::remove),
    plain(&manifest::RM, manifest::rm),
];

const IMAGE: &[Node] = &[
    plain(&build::BUILD, build::build),
    plain(&images::HISTORY, images::history),
    plain(&save::IMPORT, save::import),
    plain(&inspect::IMAGE, inspect::image),
    plain(&archives::LOAD, archives::load),
    plain(&images::IMAGES, images::images).called("ls").or(&["list"]),
    plain(&prune::IMAGES, prune::images),
    plain(&registry::PULL, registry::pull),
    plain(&registry::PUSH, registry::push),
    plain(&disk::RMI, disk::rmi).called("rm").or(&["remove"]),
    plain(&save::SAVE, save::save),
    plain(&signing::GENERATE, signing::generate),
    plain(&signing::SIGN, signing::sign),
    plain(&signing::VERIFY, signing::verify),
    plain(&images::TAG, images::tag),
];

const NETWORK: &[Node] = &[
    plain(&networks::CONNECT, networks::connect),
    plain(&networks::CREATE, networks::create),
    plain(&networks::DISCONNECT, networks::disconnect),
    plain(&inspect::NETWORK, inspect::network),
    plain(&networks::LS, networks::ls).or(&["list"]),
    plain(&prune::NETWORKS, prune::networks),
    plain(&networks::RM, networks::rm).or(&["remove"]),
];

const QUADLET: &[Node] = &[
    plain(&quadlet::GENERATE, quadlet::generate),
    plain(&quadlet::INSTALL, quadlet::install),
    plain(&quadlet::LIST, quadlet::list).or(&["ls"]),
    plain(&quadlet::PRINT, quadlet::print).or(&["cat"]),
    plain(&quadlet::RM, quadlet::rm).or(&["remove"]),
];

const REGISTRY: &[Node] = &[plain(&serve::SERVE, serve::serve), plain(&serve::GC, serve::gc)];

const VOLUME: &[Node] = &[
    plain(&volumes::CREATE, volumes::create),
    plain(&inspect::VOLUME, inspect::volume),
    plain(&volumes::LS, volumes::ls).or(&["list"]),
    plain(&prune::VOLUMES, prune::volumes),
    plain(&volumes::RM, volumes::rm).or(&["remove"]),
];

const SYSTEM: &[Node] = &[
    plain(&disk::DF, disk::df),
    plain(&dial::DIAL, dial::dial_stdio).hidden(),
    plain(&system::EVENTS, system::events),
    plain(&disk::FSCK, disk::fsck),
    plain(&reset::RESET, reset::reset),
    plain(&resume::RESUME, resume::resume),
    plain(&system::INFO, system::info),
    plain(&prune::SYSTEM, prune::system),
];
