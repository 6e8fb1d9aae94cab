//! `run`, `create` and `start`.

use std::path::Path;

use fluyt_docker_api::lower;
use fluyt_docker_api::types::{ContainerConfig, CreateRequest};
use fluyt_engine::{CreateRequest as Request, Engine, RemoveOptions, StartOptions};
use fluyt_image::oci::Platform;
use fluyt_model::error::IoContext;
use fluyt_model::sandbox::Phase;
use fluyt_model::{Error, Kind, Result};

use super::attach::{self, Wanted};
use super::{Cli, archives, registry, trust};
use crate::cli::create::{self, ThisHost};
use crate::cli::fail::{Failure, Outcome, for_each};
use crate::cli::flags::{Arity, Command, NONE, Parsed, switch, text};
use crate::cli::terminal::keys::DetachKeys;
use crate::cli::{print_line, terminal};

/// `fluyt start`.
pub const START: Command = Command {
    name: "start",
    arguments: "CONTAINER [CONTAINER...]",
    about: "Start one or more stopped containers",
    flags: &[&[
        switch('a', "attach", "Attach STDOUT/STDERR and forward signals"),
        text(NONE, "detach-keys", "Override the key sequence for detaching a container"),
        switch('i', "interactive", "Attach container's STDIN"),
    ]],
    arity: Arity::AtLeast(1),
    interspersed: true,
};

/// Runs `fluyt run`.
pub fn run(cli: &Cli, flags: &Parsed) -> Outcome {
    let mut request = create::request(flags, &ThisHost).map_err(|why| usage("run", why))?;
    let keys = DetachKeys::parse(flags.text("detach-keys"))?;
    let detach = flags.on("detach");
    let config = &mut request.config;
    if detach {
        if flags.changed("attach") {
            return Err(
                Error::invalid("conflicting options: cannot specify both --attach and --detach").into()
            );
        }
        (config.attach_stdin, config.attach_stdout, config.attach_stderr) = (false, false, false);
        config.stdin_once = false;
    } else {
        terminal::check_tty(config.attach_stdin, config.tty)?;
    }
    let wanted = Wanted {
        stdin: config.attach_stdin,
        stdout: config.attach_stdout,
        stderr: config.attach_stderr,
        tty: config.tty,
        keys,
        sig_proxy: flags.on("sig-proxy"),
        removes: request.host_config.auto_remove,
    };
    let attached = wanted.stdin || wanted.stdout || wanted.stderr;
    let auto_remove = wanted.removes;
    let engine = cli.engine()?;
    let id = make(engine, flags, request)?;
    let options = StartOptions {
        attach: attached,
        stdin: wanted.stdin,
        size: if wanted.tty { terminal::size() } else { None },
        caller_removes: attached && auto_remove,
    };
    let started = engine.start(&id, options);
    if let Some(complaint) = engine.apparmor_complaint_once() {
        eprintln!("WARNING: {complaint}");
    }
    match started {
        Err(error) => {
            if auto_remove {
                remove_failed(engine, &id);
            }
            Err(error.into())
        }
        Ok(None) => {
            print_line(&id)?;
            Ok(0)
        }
        Ok(Some(attach)) => attach::follow(engine, &id, attach, wanted),
    }
}

/// Runs `fluyt create`.
pub fn create(cli: &Cli, flags: &Parsed) -> Outcome {
    let request = create::request(flags, &ThisHost).map_err(|why| usage("create", why))?;
    let id = make(cli.engine()?, flags, request)?;
    print_line(&id)?;
    Ok(0)
}

fn usage(command: &str, why: String) -> Failure {
    Failure::Error(Error::invalid(why).with_hint(format!("see 'fluyt {command} --help'")))
}

/// Makes the container and writes its id to `--cidfile`.
fn make(engine: &Engine, flags: &Parsed, mut request: CreateRequest) -> Result<String> {
    let pull = flags.text("pull");
    if !matches!(pull, "always" | "missing" | "never") {
        return Err(Error::invalid(format!(
            "invalid pull option: '{pull}': must be one of \"always\", \"missing\" or \"never\""
        )));
    }
    let cidfile = flags.given("cidfile");
    if let Some(path) = cidfile {
        check_cidfile(path)?;
    }
    let platform = flags.given("platform").filter(|text| !text.is_empty()).map(str::to_owned);
    if request.host_config.network_mode == "host" && !request.host_config.port_bindings.is_empty() {
        eprintln!("WARNING: Published ports are discarded when using host network mode");
    }
    let name = request.config.image.clone();
    let policy = flags.given("signature-policy");
    let image = image_for(engine, &name, pull, platform.as_deref(), policy, flags.on("quiet"))?;
    trust::check(engine, policy, &name, &image)?;
    let defaults = defaults(engine, &image)?;
    if request.config.tty
        && let Some((rows, columns)) = terminal::size()
    {
        request.host_config.console_size = [rows, columns];
    }
    let spec = lower::container(&request, &defaults, image.id.as_str())?;
    trust::check_mounts(engine, policy, &spec)?;
    request.config = lower::with_image(&request.config, &defaults);
    let document =
        serde_json::to_value(&request).map_err(|e| Error::internal("the create request").with_source(e))?;
    let id = engine.create(Request {
        name: flags.given("name").filter(|n| !n.is_empty()).map(str::to_owned),
        spec,
        document,
    })?;
    if let Some(path) = cidfile
        && let Err(error) = std::fs::write(path, &id).about(|| format!("container ID file {path}"))
    {
        remove_failed(engine, &id);
        return Err(error);
    }
    Ok(id)
}

fn check_cidfile(path: &str) -> Result<()> {
    if Path::new(path).exists() {
        return Err(Error::conflict(format!(
            "container ID file found, make sure the other container isn't running or delete {path}"
        )));
    }
    Ok(())
}

/// The image's own configuration, in the shape of a container's.
pub fn defaults(engine: &Engine, image: &fluyt_image::Image) -> Result<ContainerConfig> {
    #[derive(serde::Deserialize)]
    struct Config {
        #[serde(default)]
        config: Option<ContainerConfig>,
    }
    let raw = engine.images().raw_config(&image.id)?;
    let parsed: Config = serde_json::from_str(&raw)
        .map_err(|e| Error::corrupt(format!("configuration of image {}", image.id)).with_source(e))?;
    Ok(parsed.config.unwrap_or_default())
}

/// The image, pulled if `--pull` says so.
fn image_for(
    engine: &Engine,
    name: &str,
    pull: &str,
    platform: Option<&str>,
    policy: Option<&str>,
    quiet: bool,
) -> Result<fluyt_image::Image> {
    let local = || local_image(engine, name, platform);
    if pull != "always" {
        match local() {
            Err(error) if error.kind() == Kind::NotFound && pull == "missing" => {
                if !quiet {
                    eprintln!("Unable to find image '{}' locally", archives::with_tag(name));
                }
            }
            other => return other,
        }
    }
    registry::pull_one(engine, name, platform, policy, registry::Where::Stderr { quiet })?;
    local()
}

/// The image that is here for a platform, which need not be the one that the name stands for.
pub fn local_image(engine: &Engine, name: &str, platform: Option<&str>) -> Result<fluyt_image::Image> {
    match platform {
        Some(wanted) => engine.images().resolve_for(name, &Platform::parse(wanted)?, &fluyt_image::Silent),
        None => engine.images().resolve(name),
    }
}

/// A container that never ran leaves nothing behind; its failure is what the user hears about.
fn remove_failed(engine: &Engine, id: &str) {
    if let Err(error) = engine.remove(id, RemoveOptions { force: true, volumes: true })
        && error.kind() != Kind::NotFound
    {
        crate::cli::fail::print(&error);
    }
}

/// Runs `fluyt start`.
pub fn start(cli: &Cli, flags: &Parsed) -> Outcome {
    let engine = cli.engine()?;
    let (attach, interactive) = (flags.on("attach"), flags.on("interactive"));
    if !attach && !interactive {
        let outcome = for_each(&flags.args, |name| {
            engine.start(name, StartOptions::default()).map(|_| Some(name.to_owned()))
        });
        return outcome.map_err(|_| Failure::Code(1));
    }
    let [name] = flags.args.as_slice() else {
        return Err(Failure::Coded(
            Error::invalid("you cannot start and attach multiple containers at once"),
            1,
        ));
    };
    let keys = DetachKeys::parse(flags.text("detach-keys"))?;
    let view = engine.container(name).map_err(|e| Failure::Coded(e, 1))?;
    let (tty, open) = attach::io_of(&view);
    let stdin = interactive && open;
    terminal::check_tty(stdin, tty)?;
    let running = matches!(view.status.phase, Phase::Running | Phase::Paused);
    let removes = view.spec.auto_remove && !running;
    let wanted = Wanted { stdin, stdout: true, stderr: true, tty, keys, sig_proxy: true, removes };
    let session = if running {
        engine.attach(&view.id, stdin)?
    } else {
        let size = if tty { terminal::size() } else { None };
        let options = StartOptions { attach: true, stdin, size, caller_removes: removes };
        let failed = || Error::internal("the engine started the container without attaching to it");
        engine.start(&view.id, options)?.ok_or_else(failed)?
    };
    attach::follow(engine, &view.id, session, wanted)
}
