//! Runs the commands of a build with our own runtime, and fetches its files.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fluyt_build::{Cancel, ExecStep, Executor, Fetch, Fetched, Output, StepSource, Validators};
use fluyt_engine::{Engine, MountView, StepRequest};
use fluyt_model::Result;
use fluyt_model::error::IoContext;
use fluyt_model::sandbox::{
    ContainerSpec, HostEntry, MountSource, MountSpec, Namespace, Namespaces, NetworkAttachment, ProcessSpec,
    Resources, SandboxSpec, Seccomp, Security,
};
use fluyt_monitor::step::{Secret, TreeMount};
use fluyt_registry::{FileAnswer, FileAsk, Settings, fetch_file};
use rustix::event::{PollFd, PollFlags, poll};

/// How long it may take until a cancelled build is noticed.
const LOOK: Duration = Duration::from_millis(50);

/// See [`Executor`].
#[derive(Clone, Debug, Default)]
pub struct Runner {
    /// The data root.
    pub root: PathBuf,
    /// The parent of the cgroups of steps; empty: the engine's.
    pub cgroup_parent: String,
    /// Limits of each step.
    pub resources: Resources,
}

impl Executor for Runner {
    fn run(&self, step: &ExecStep, output: &(dyn Fn(Output, &[u8]) + Sync), cancel: &Cancel) -> Result<i32> {
        if !step.platform.is_empty() {
            super::binfmt::check(&step.platform)?;
        }
        let engine = Engine::open(&self.root)?;
        let mut request = request(step, self)?;
        for name in &step.optional_devices {
            if fluyt_engine::has_device(name)? {
                request.spec.containers.iter_mut().for_each(|c| c.cdi_devices.push(name.clone()));
            } else {
                output(Output::Stderr, format!("optional device {name} is not here\n").as_bytes());
            }
        }
        let mut running = engine.step(request)?;
        let mut streams: Vec<(Output, Box<dyn Stream>)> = Vec::new();
        streams.extend(running.stdout.take().map(|s| (Output::Stdout, Box::new(s) as Box<dyn Stream>)));
        streams.extend(running.stderr.take().map(|s| (Output::Stderr, Box::new(s) as Box<dyn Stream>)));
        let mut buffer = vec![0; 64 * 1024];
        let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() };
        while !streams.is_empty() {
            if cancel.is_cancelled() {
                running.kill();
            }
            let mut fds: Vec<PollFd<'_>> =
                streams.iter().map(|(_, s)| PollFd::from_borrowed_fd(s.as_fd(), PollFlags::IN)).collect();
            // Whoever holds the streams may outlive a step's process that was killed.
            fds.extend(running.ending().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            let _ = poll(&mut fds, Some(&timeout));
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            if ready.len() > streams.len() && ready[streams.len()] {
                running.hear()?;
            }
            for at in (0..streams.len()).rev().filter(|at| ready[*at]) {
                match streams[at].1.read(&mut buffer) {
                    Ok(0) | Err(_) => drop(streams.remove(at)),
                    Ok(n) => output(streams[at].0, &buffer[..n]),
                }
            }
        }
        running.wait()
    }
}

/// A pipe that can be polled.
trait Stream: Read + AsFd {}
impl<T: Read + AsFd> Stream for T {}

/// Lowers a step to the sandbox contract.
fn request(step: &ExecStep, runner: &Runner) -> Result<StepRequest> {
    let mut request = StepRequest {
        lower: step.layers.clone(),
        overlay: (step.upper.clone(), step.work.clone(), step.mountpoint.clone()),
        dir: step.dir.clone(),
        memory: step.dir.join("secrets"),
        ..StepRequest::default()
    };
    let mut mounts = Vec::new();
    for mount in &step.mounts {
        let view = MountView {
            target: mount.target.clone(),
            rw: !mount.read_only,
            kind: "bind".to_owned(),
            propagation: "rprivate".to_owned(),
            ..MountView::default()
        };
        let source = match &mount.source {
            StepSource::Host(path) => path.clone(),
            StepSource::Layers { layers, upper, mountpoint, path } => {
                request.trees.push(TreeMount {
                    layers: layers.clone(),
                    upper: upper.clone(),
                    target: mountpoint.clone(),
                });
                mountpoint.join(path.trim_start_matches('/'))
            }
            StepSource::Secret(content, owner) => {
                let name = request.secrets.len().to_string();
                let path = request.memory.join(&name);
                request.secrets.push(Secret { name, content: content.clone(), owner: *owner });
                path
            }
            StepSource::Tmpfs(size) => {
                let mut options = vec!["exec".to_owned()];
                if *size > 0 {
                    options.push(format!("size={size}"));
                }
                mounts.push(MountSpec {
                    target: mount.target.clone(),
                    source: MountSource::Tmpfs { options },
                    read_only: mount.read_only,
                    propagation: String::new(),
                    non_recursive: false,
                    recursive_read_only: false,
                    idmap: None,
                    no_idmap: false,
                });
                request.mounts.push(MountView {
                    kind: "tmpfs".to_owned(),
                    propagation: String::new(),
                    ..view
                });
                continue;
            }
        };
        request.mounts.push(MountView { source, ..view });
    }
    if !request.secrets.is_empty() {
        std::fs::create_dir(&request.memory).about(|| request.memory.display().to_string())?;
    }
    request.spec = sandbox(step, mounts, runner);
    Ok(request)
}

fn sandbox(step: &ExecStep, mounts: Vec<MountSpec>, runner: &Runner) -> SandboxSpec {
    let network = match step.network.as_str() {
        "host" => Namespace::Host,
        "none" => Namespace::None,
        _ => Namespace::Private,
    };
    let name = match step.network.as_str() {
        "" | "default" => "bridge",
        name => name,
    };
    let plug = NetworkAttachment { network: name.to_owned(), ..NetworkAttachment::default() };
    let unlimited = |limit: u64| if limit == u64::MAX { libc_infinity() } else { limit };
    let container = ContainerSpec {
        process: ProcessSpec {
            args: step.args.clone(),
            env: step.env.clone(),
            cwd: step.cwd.clone(),
            user: step.user.clone(),
            rlimits: step
                .ulimits
                .iter()
                .map(|(name, soft, hard)| (name.to_uppercase(), unlimited(*soft), unlimited(*hard)))
                .collect(),
            ..ProcessSpec::default()
        },
        mounts,
        cdi_devices: step.devices.clone(),
        resources: runner.resources.clone(),
        security: Security {
            privileged: step.insecure,
            seccomp: if step.insecure { Seccomp::Unconfined } else { Seccomp::Default },
            ..Security::default()
        },
        ..ContainerSpec::default()
    };
    SandboxSpec {
        hostname: step.hostname.clone(),
        networks: if network == Namespace::Private { vec![plug] } else { Vec::new() },
        namespaces: Namespaces { network, ..Namespaces::default() },
        extra_hosts: step
            .hosts
            .iter()
            .map(|(name, address)| HostEntry { name: name.clone(), address: address.clone() })
            .collect(),
        shm_size: step.shm_size,
        cgroup_parent: runner.cgroup_parent.clone(),
        containers: vec![container],
        annotations: BTreeMap::new(),
        ..SandboxSpec::default()
    }
}

/// What the kernel calls no limit.
fn libc_infinity() -> u64 {
    u64::MAX
}

/// See [`Fetch`].
pub struct Fetcher;

impl Fetch for Fetcher {
    fn http(&self, url: &str, known: &Validators, file: &Path) -> Result<Fetched> {
        let mut settings = Settings::default();
        for path in ["/etc/docker/daemon.json", "/etc/fluyt/registries.json"] {
            settings.read_file(Path::new(path))?;
        }
        let ask = FileAsk { url, etag: &known.etag, modified: &known.modified };
        Ok(match fetch_file(&settings, ask, file)? {
            FileAnswer::Unchanged => Fetched::Unchanged,
            FileAnswer::Fetched { name, time, etag, modified } => {
                Fetched::File { name, time, validators: Validators { etag, modified } }
            }
        })
    }
}
