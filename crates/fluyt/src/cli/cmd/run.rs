//! `run`, `create` and `start`.

use std::path::Path;

use fluyt_docker_api::api::{CreateContainer, Docker, RemoveContainer, StartContainer, WaitCondition};
use fluyt_docker_api::types::CreateRequest;
use fluyt_engine::pod::PodRemoveOptions;
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};

use super::attach::{self, Keys, Wanted};
use super::registry::{self, Pulled};
use super::{Cli, archives, pod};
use crate::cli::create::{self, ThisHost};
use crate::cli::fail::{Failure, Outcome, for_each};
use crate::cli::flags::{Arity, Command, NONE, Parsed, switch, text};
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
    let keys = Keys::of(flags)?;
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
    let docker = cli.docker()?;
    let id = make(cli, docker, flags, request)?;
    let how = StartContainer { size: if wanted.tty { terminal::size() } else { None } };
    let end = if wanted.removes { WaitCondition::Removed } else { WaitCondition::NextExit };
    let connection = if attached { Some(attach::connect(cli, &id, &wanted, end)?) } else { None };
    let started = docker.container_start(&id, &how);
    if cli.remote()?.is_none()
        && let Some(complaint) = cli.local()?.engine()?.apparmor_complaint_once()
    {
        eprintln!("WARNING: {complaint}");
    }
    started?;
    match connection {
        None => {
            print_line(&id)?;
            Ok(0)
        }
        Some(mut connection) => {
            connection.begin()?;
            attach::follow(cli, docker, &id, connection, wanted)
        }
    }
}

/// Runs `fluyt create`.
pub fn create(cli: &Cli, flags: &Parsed) -> Outcome {
    let request = create::request(flags, &ThisHost).map_err(|why| usage("create", why))?;
    let id = make(cli, cli.docker()?, flags, request)?;
    print_line(&id)?;
    Ok(0)
}

fn usage(command: &str, why: String) -> Failure {
    Failure::Error(Error::invalid(why).with_hint(format!("see 'fluyt {command} --help'")))
}

/// Makes the container, and the pod for it if it asks for a new one.
fn make(cli: &Cli, docker: &dyn Docker, flags: &Parsed, mut request: CreateRequest) -> Result<String> {
    let fresh = pod::enter(cli, flags, &mut request)?;
    let made = make_alone(cli, docker, flags, request);
    if let (Err(_), Some(pod)) = (&made, fresh) {
        // The failure is what the user hears about.
        let _ = cli.engine()?.pod_remove(&pod, PodRemoveOptions::default());
    }
    made
}

/// Makes the container and writes its id to `--cidfile`.
fn make_alone(cli: &Cli, docker: &dyn Docker, flags: &Parsed, mut request: CreateRequest) -> Result<String> {
    let pull = flags.text("pull");
    if !matches!(pull, "always" | "missing" | "newer" | "never") {
        return Err(Error::invalid(format!(
            "invalid pull option: '{pull}': must be one of \"always\", \"missing\" or \"never\""
        )));
    }
    let daemon = cli.remote()?.is_some();
    if daemon {
        // The service manager and the cgroups are this machine's.
        request.host_config.sd_notify = None;
        if flags.text("cgroups") == "split" {
            request.host_config.resources.cgroup_parent = String::new();
        }
    } else if flags.text("cgroups") == "split" {
        fluyt_monitor::refuge::stand_aside(&request.host_config.resources.cgroup_parent)?;
    }
    let cidfile = flags.given("cidfile");
    if let Some(path) = cidfile {
        check_cidfile(path)?;
    }
    if request.config.tty
        && let Some((rows, columns)) = terminal::size()
    {
        request.host_config.console_size = [rows, columns];
    }
    let name = request.config.image.clone();
    let fetch = || {
        let pulled = Pulled {
            name: &name,
            platform: flags.given("platform").filter(|text| !text.is_empty()),
            policy: flags.given("signature-policy"),
        };
        let again = Again::of(flags)?;
        again.until_done(|| registry::pull_for(cli, &pulled, flags.on("quiet")))
    };
    match pull {
        "always" => fetch()?,
        // What is here will do where there is nothing to be had.
        "newer" => {
            if let Err(error) = fetch() {
                eprintln!("WARNING: {}", error.chain());
            }
        }
        _ => {}
    }
    if flags.on("replace") && flags.text("name").is_empty() {
        return Err(Error::invalid("cannot replace container without --name being set"));
    }
    if flags.on("replace") {
        let how = RemoveContainer { force: true, volumes: false, link: false };
        match docker.container_remove(flags.text("name"), how) {
            Err(error) if error.kind() != Kind::NotFound => return Err(error),
            _ => {}
        }
    }
    let wanted = CreateContainer {
        name: flags.text("name").to_owned(),
        platform: flags.text("platform").to_owned(),
        request,
        signature_policy: flags.given("signature-policy").map(str::to_owned),
    };
    let made = if pull == "missing" {
        match docker.container_create(wanted.clone()) {
            Err(error) if lacks_image(&error, &name) => {
                if !flags.on("quiet") {
                    eprintln!("Unable to find image '{}' locally", archives::with_tag(&name));
                }
                fetch()?;
                docker.container_create(wanted)
            }
            other => other,
        }
    } else {
        docker.container_create(wanted)
    }?;
    for warning in &made.warnings {
        eprintln!("WARNING: {warning}");
    }
    if let Some(path) = cidfile
        && let Err(error) = std::fs::write(path, &made.id).about(|| format!("container ID file {path}"))
    {
        remove_failed(docker, &made.id);
        return Err(error);
    }
    Ok(made.id)
}

/// How often a pull that fails is tried again.
struct Again {
    tries: u64,
    pause: std::time::Duration,
}

impl Again {
    fn of(flags: &Parsed) -> Result<Self> {
        let tries =
            u64::try_from(flags.int("retry")).map_err(|_| Error::invalid("--retry cannot be negative"))?;
        let pause = match flags.text("retry-delay") {
            "" => 1_000_000_000,
            text => fluyt_model::quantity::parse_duration(text)
                .ok()
                .and_then(|nanos| u64::try_from(nanos).ok())
                .ok_or_else(|| Error::invalid(format!("--retry-delay: {text:?} is not a duration")))?,
        };
        Ok(Self { tries, pause: std::time::Duration::from_nanos(pause) })
    }

    fn until_done(&self, mut work: impl FnMut() -> Result<()>) -> Result<()> {
        let mut left = self.tries;
        loop {
            match work() {
                Err(error)
                    if left > 0
                        && matches!(error.kind(), Kind::Unavailable | Kind::Timeout | Kind::RateLimited) =>
                {
                    left -= 1;
                    eprintln!("WARNING: {}; trying again", error.chain());
                    std::thread::sleep(self.pause);
                }
                other => return other,
            }
        }
    }
}

/// Whether a container could not be made because its image is not there: other things, other images too, can be missing.
fn lacks_image(error: &Error, name: &str) -> bool {
    let missing = error.to_string();
    let missing = missing.strip_prefix("No such image: ");
    error.kind() == Kind::NotFound && missing.is_some_and(|m| m == name || m == archives::with_tag(name))
}

fn check_cidfile(path: &str) -> Result<()> {
    if Path::new(path).exists() {
        return Err(Error::conflict(format!(
            "container ID file found, make sure the other container isn't running or delete {path}"
        )));
    }
    Ok(())
}

/// A container that never ran leaves nothing behind; its failure is what the user hears about.
fn remove_failed(docker: &dyn Docker, id: &str) {
    let how = RemoveContainer { force: true, volumes: true, link: false };
    if let Err(error) = docker.container_remove(id, how)
        && error.kind() != Kind::NotFound
    {
        crate::cli::fail::print(&error);
    }
}

/// Runs `fluyt start`.
pub fn start(cli: &Cli, flags: &Parsed) -> Outcome {
    let docker = cli.docker()?;
    let (attach, interactive) = (flags.on("attach"), flags.on("interactive"));
    if !attach && !interactive {
        let outcome = for_each(&flags.args, |name| {
            docker.container_start(name, &StartContainer::default()).map(|_| Some(name.to_owned()))
        });
        return outcome.map_err(|_| Failure::Code(1));
    }
    let [name] = flags.args.as_slice() else {
        return Err(Failure::Coded(
            Error::invalid("you cannot start and attach multiple containers at once"),
            1,
        ));
    };
    let keys = Keys::of(flags)?;
    let found = docker.container_inspect(name, false).map_err(|e| Failure::Coded(e, 1))?;
    let (tty, open) = attach::io_of(&found);
    let stdin = interactive && open;
    terminal::check_tty(stdin, tty)?;
    let running = found.state.running && !found.state.restarting;
    let removes = found.host_config.auto_remove && !running;
    let wanted = Wanted { stdin, stdout: true, stderr: true, tty, keys, sig_proxy: true, removes };
    let end = match (running, found.host_config.auto_remove) {
        (_, true) => WaitCondition::Removed,
        (true, false) => WaitCondition::NotRunning,
        (false, false) => WaitCondition::NextExit,
    };
    let mut connection = attach::connect(cli, &found.id, &wanted, end)?;
    if !running {
        let size = if tty { terminal::size() } else { None };
        docker.container_start(&found.id, &StartContainer { size })?;
        connection.begin()?;
    }
    attach::follow(cli, docker, &found.id, connection, wanted)
}
