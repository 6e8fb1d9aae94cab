//! Commands: what a step mounts is prepared, the command is run, what mounting left in the layer is taken away.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use fluyt_image::{Digest, LayerRef, NewLayer, Store};
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use super::Solver;
use super::agent::Forward;
use super::tree::{self, Root};
use super::turns::{lock_when_free, same_file};
use super::views::Views;
use crate::dockerfile::mount::Sharing;
use crate::executor::{Event, ExecStep, StepMount, StepSource};
use crate::graph::{Action, CopyAction, Exec, FileOp, Id, MountSource, SecretMount, Tree};

/// Files that the runtime mounts into every container.
const RUNTIME_FILES: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"];
/// Directories that the runtime mounts into every container.
const RUNTIME_DIRS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// How a cache mount is shared, what it begins with, and its mode and owner.
type CacheMount<'a> = (Sharing, (&'a Tree, &'a str), (u32, u32, u32));

/// What a step holds while it runs: cache directories in use.
#[derive(Default)]
struct Held {
    locks: Vec<File>,
    layers: Vec<NewLayer>,
    agents: Vec<Forward>,
    /// A context is not what had been seen of it.
    strayed: bool,
}

impl Solver<'_> {
    /// Runs a command. Whether the contexts it was given were what had been seen of them.
    pub(super) fn exec(
        &self,
        store: &Store,
        id: Id,
        exec: &Exec,
        layer: NewLayer,
    ) -> Result<(Vec<LayerRef>, bool)> {
        let base_tree = exec.base.clone().unwrap_or(Tree::Scratch);
        let (mut base, as_seen) = self.base_layers(store, &base_tree)?;
        let mut layers = self.dirs(&base);
        let mut held = Held { strayed: !as_seen, ..Held::default() };
        if layers.is_empty() {
            let empty = store.new_layer()?;
            layers.push(empty.mountpoint());
            held.layers.push(empty);
        }
        let before = tree::open_layers(&layers, &layer.mountpoint())?;
        let mut env = exec.env.clone();
        env.extend(exec.proxy_env.iter().cloned());
        let caches = self.cache_dirs(store, exec, &mut held)?;
        let mut mounts = Vec::new();
        for (number, mount) in exec.mounts.iter().enumerate() {
            let source = match &mount.source {
                MountSource::Tmpfs(size) => Some(StepSource::Tmpfs(*size)),
                MountSource::Bind { tree, path } => {
                    Some(self.bind(store, tree, path, mount.read_only, &mut held)?)
                }
                MountSource::Cache { id, tree, path, .. } => {
                    caches.get(&self.cache_name(id, (tree, path))).cloned().map(StepSource::Host)
                }
                MountSource::Secret(secret) => self.secret(secret, &mut env)?,
                MountSource::Ssh(agent) => {
                    let socket = layer.dir().join(format!("agent-{number}"));
                    self.agent(agent, &mount.target, socket, &mut env, &mut held)?
                }
                MountSource::Script { name, content } => {
                    let dir = layer.dir().join(format!("script-{number}"));
                    std::fs::create_dir(&dir).about(|| dir.display().to_string())?;
                    write(&dir.join(name), content.as_bytes(), 0o755)?;
                    Some(StepSource::Host(dir))
                }
            };
            if let Some(source) = source {
                mounts.push(StepMount { target: mount.target.clone(), read_only: mount.read_only, source });
            }
        }
        let stubs = self.stubs(&before, &mounts);
        drop(before);
        let hostname = if exec.hostname.is_empty() { "buildkitsandbox" } else { &exec.hostname };
        let step = ExecStep {
            layers,
            upper: layer.fs(),
            work: layer.work(),
            mountpoint: layer.mountpoint(),
            dir: layer.dir().to_owned(),
            args: exec.args.clone(),
            env,
            cwd: exec.cwd.clone(),
            user: exec.user.clone(),
            hostname: hostname.to_owned(),
            network: exec.network.clone(),
            insecure: exec.insecure,
            mounts,
            hosts: exec.hosts.clone(),
            shm_size: exec.shm_size,
            ulimits: exec.ulimits.clone(),
            devices: exec.devices.clone(),
            optional_devices: exec.optional_devices.clone(),
            platform: exec.platform.clone(),
        };
        let watch = self.world.watch;
        let output = |stream, bytes: &[u8]| watch.event(Event::Output(id, stream, bytes));
        let code = self.world.executor.run(&step, &output, &self.stop);
        let as_seen = !held.strayed;
        drop(held);
        if self.stop.is_cancelled() {
            return Err(Error::new(Kind::Unavailable, "the build was cancelled"));
        }
        let command = exec.args.join(" ");
        match code {
            Ok(0) => {}
            Ok(code) => return Err(failed(&command, code)),
            Err(e) => return Err(e.context(format!("process {command:?} could not be started"))),
        }
        remove_stubs(&layer.fs(), &stubs);
        base.push(store.publish_layer(self.lease, layer, exec.epoch)?);
        Ok((base, as_seen))
    }

    fn bind(
        &self,
        store: &Store,
        tree: &Tree,
        path: &str,
        read_only: bool,
        held: &mut Held,
    ) -> Result<StepSource> {
        // A context has rules about what exists in it: what may be seen is copied, once for all steps that look.
        let layers = match tree {
            Tree::Context(_) => {
                let (layers, as_seen) = self.context_layers(store, tree, path)?;
                held.strayed |= !as_seen;
                layers
            }
            tree => self.layers(tree),
        };
        let mut layers = self.dirs(&layers);
        let own = store.new_layer()?;
        // Links are followed here, inside the tree: the path is used on the host's side.
        let path = tree::open_layers(&layers, &own.mountpoint())?.real_path(path)?;
        // An overlay that is only read needs two layers.
        while layers.len() < 2 {
            let empty = own.dir().join(format!("empty-{}", layers.len()));
            std::fs::create_dir(&empty).about(|| empty.display().to_string())?;
            layers.push(empty);
        }
        let source = StepSource::Layers {
            layers,
            upper: (!read_only).then(|| (own.fs(), own.work())),
            mountpoint: own.mountpoint(),
            path,
        };
        held.layers.push(own);
        Ok(source)
    }

    /// What of a context is at a path, as a layer.
    fn context_layers(&self, store: &Store, tree: &Tree, path: &str) -> Result<(Vec<LayerRef>, bool)> {
        let bare = path.trim_matches('/');
        let above = bare.rsplit_once('/').map_or("", |(above, _)| above);
        let single = match tree {
            Tree::Context(name) => {
                let root = tree::open_dir(&super::context(self.world, name)?.path)?;
                root.at(path, true)
                    .and_then(|fd| rustix::fs::fstat(&fd))
                    .is_ok_and(|s| tree::kind(&s) != rustix::fs::FileType::Directory)
            }
            _ => false,
        };
        let target = if single { format!("/{above}/") } else { format!("/{bare}/") };
        let action = CopyAction { source: tree.clone(), target, ..super::whole(path) };
        let op =
            FileOp { base: Tree::Scratch, actions: vec![Action::Copy(action)], link: false, epoch: None };
        self.file(store, &op, store.new_layer()?)
    }

    /// What the directory of a cache mount is called.
    fn cache_name(&self, id: &str, (tree, path): (&Tree, &str)) -> String {
        // The number of a vertex says nothing: it is called by what it begins with.
        let name = match tree {
            Tree::Vertex(_) => format!("{id}\n{}\n{path:?}", super::chain(&self.layers(tree))),
            _ => format!("{id}\n{:?}", (tree, path)),
        };
        Digest::of(name.as_bytes()).short().to_owned()
    }

    /// The directories of a step's cache mounts, by their names. Each is locked once, as the strictest of its mounts
    /// demands, and in the order of the names: so no two steps, and no step alone, wait for each other in a circle.
    fn cache_dirs(&self, store: &Store, exec: &Exec, held: &mut Held) -> Result<BTreeMap<String, PathBuf>> {
        let strictness = |sharing: Sharing| match sharing {
            Sharing::Shared => 0,
            Sharing::Private => 1,
            Sharing::Locked => 2,
        };
        let mut wanted: BTreeMap<String, CacheMount<'_>> = BTreeMap::new();
        for mount in &exec.mounts {
            if let MountSource::Cache { id, sharing, tree, path, owner } = &mount.source {
                let name = self.cache_name(id, (tree, path));
                let known = wanted.entry(name).or_insert((*sharing, (tree, path), *owner));
                if strictness(*sharing) > strictness(known.0) {
                    known.0 = *sharing;
                }
            }
        }
        let mut found = BTreeMap::new();
        for (name, (sharing, from, owner)) in wanted {
            let dir = self.cache_dir(store, &name, sharing, from, owner, held)?;
            found.insert(name, dir);
        }
        Ok(found)
    }

    /// The directory of a cache mount, locked as its sharing demands.
    fn cache_dir(
        &self,
        store: &Store,
        name: &str,
        sharing: Sharing,
        from: (&Tree, &str),
        owner: (u32, u32, u32),
        held: &mut Held,
    ) -> Result<PathBuf> {
        let base = self.root.join("build").join("mounts");
        std::fs::create_dir_all(&base).about(|| base.display().to_string())?;
        for number in 0..1000 {
            let dir = base.join(format!("{name}-{number}"));
            let Some((lock, made)) = self.take_mount(&dir, sharing)? else { continue };
            let data = dir.join("data");
            if made || !data.is_dir() {
                self.fill_cache(store, &dir, &data, from, owner)?;
            }
            // When it was used last, for whoever makes room.
            let _ = lock.set_modified(std::time::SystemTime::now());
            held.locks.push(lock);
            return Ok(data);
        }
        Err(Error::new(Kind::Exhausted, format!("cache mount {name}: too many are in use at once")))
    }

    /// Makes and locks a cache mount's directory, and says whether it is new; `None` when another one has it for itself.
    fn take_mount(&self, dir: &Path, sharing: Sharing) -> Result<Option<(File, bool)>> {
        let about = || dir.display().to_string();
        for _ in 0..100 {
            let made = match std::fs::create_dir(dir) {
                Ok(()) => true,
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => false,
                Err(e) => return Err(Error::io(about(), e)),
            };
            let lock = match File::open(dir) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.about(about)?,
            };
            let taken = match sharing {
                Sharing::Shared => {
                    lock_when_free(&lock, FlockOperation::NonBlockingLockShared, &self.stop)?;
                    true
                }
                Sharing::Locked => {
                    lock_when_free(&lock, FlockOperation::NonBlockingLockExclusive, &self.stop)?;
                    true
                }

                Sharing::Private => free_soon(&lock),
            };
            if !taken {
                return Ok(None);
            }
            // Whoever makes room may have removed it before it was locked.
            if same_file(&lock, dir) {
                return Ok(Some((lock, made)));
            }
        }
        Err(Error::internal(format!("{}: it is removed again and again", dir.display())))
    }

    fn fill_cache(
        &self,
        store: &Store,
        dir: &Path,
        data: &Path,
        (tree, path): (&Tree, &str),
        (mode, uid, gid): (u32, u32, u32),
    ) -> Result<()> {
        // Others who share it may fill it at the same time.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let fresh = dir.join(format!("new-{}-{number}", std::process::id()));
        let about = || fresh.display().to_string();
        std::fs::create_dir(&fresh).about(about)?;
        if !matches!(tree, Tree::Scratch) {
            let action = CopyAction { source: tree.clone(), ..super::whole(path) };
            // What a cache mount begins with is in no key.
            self.copy(store, &tree::open_dir(&fresh)?, &action, None, &Views::default())?;
        }
        std::os::unix::fs::chown(&fresh, Some(uid), Some(gid)).about(about)?;
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(mode)).about(about)?;
        match rustix::fs::renameat_with(CWD, &fresh, CWD, data, RenameFlags::NOREPLACE) {
            // Somebody who shares it was faster.
            Err(Errno::EXIST) => std::fs::remove_dir_all(&fresh).about(about),
            other => other.about(about),
        }
    }

    fn secret(&self, secret: &SecretMount, env: &mut Vec<String>) -> Result<Option<StepSource>> {
        let Some(value) = self.world.secrets.get(&secret.id) else {
            return match secret.required {
                true => Err(Error::not_found(format!("secret {}: not found", secret.id))
                    .with_hint(format!("give it with --secret id={},src=FILE", secret.id))),
                false => Ok(None),
            };
        };
        if let Some(name) = &secret.env {
            env.push(format!("{name}={}", String::from_utf8_lossy(value)));
        }
        if !secret.file {
            return Ok(None);
        }
        Ok(Some(StepSource::Secret(value.clone(), secret.owner)))
    }

    fn agent(
        &self,
        agent: &SecretMount,
        target: &str,
        place: PathBuf,
        env: &mut Vec<String>,
        held: &mut Held,
    ) -> Result<Option<StepSource>> {
        let Some(socket) = self.world.agents.get(&agent.id) else {
            return match agent.required {
                true => Err(Error::not_found(format!("unset ssh forward key {}", agent.id))
                    .with_hint("give the agent with --ssh default")),
                false => Ok(None),
            };
        };
        if held.agents.is_empty() {
            env.push(format!("SSH_AUTH_SOCK={target}"));
        }
        held.agents.push(Forward::start(socket, place.clone(), agent.owner)?);
        Ok(Some(StepSource::Host(place)))
    }

    /// What mounting will leave in the layer: for each mount point that is not there, where it will be made (links lead
    /// there, those that lead to nothing too), and the topmost path that is missing.
    fn stubs(&self, before: &Root, mounts: &[StepMount]) -> Vec<(String, String)> {
        let own = RUNTIME_FILES.iter().chain(&RUNTIME_DIRS).copied();
        let targets = own.chain(mounts.iter().map(|mount| mount.target.as_str()));
        let lost = targets.filter_map(|target| before.missing(target).ok());
        lost.filter_map(|(place, top)| Some((place, top?))).collect()
    }
}

/// Locks a directory that nobody uses. Whoever only looks whether it is in use has it for a moment.
fn free_soon(lock: &File) -> bool {
    for pause in [0, 2, 10] {
        std::thread::sleep(std::time::Duration::from_millis(pause));
        if rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return true;
        }
    }
    false
}

fn failed(command: &str, code: i32) -> Error {
    let error = Error::new(
        Kind::Invalid,
        format!("process \"{command}\" did not complete successfully: exit code: {code}"),
    );
    match code {
        126 => {
            error.with_hint("126: the command exists but cannot be executed; look at its mode and its format")
        }
        127 => error
            .with_hint("127: the shell did not find the command; is its package installed, is it in PATH?"),
        137 => error.with_hint("137: it was killed; out of memory?"),
        _ => error,
    }
}

fn write(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let about = || path.display().to_string();
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path).about(about)?;
    std::io::Write::write_all(&mut file, content).about(about)?;
    file.set_permissions(std::fs::Permissions::from_mode(mode)).about(about)
}

/// Removes empty mount points that did not exist before, as far up as they did not. What the command made of the layer
/// meanwhile may be anything: every path is looked up inside it, through no link.
fn remove_stubs(upper: &Path, stubs: &[(String, String)]) {
    let Ok(root) = tree::open_dir(upper) else { return };
    for (target, top) in stubs {
        let mut at = target.trim_matches('/');
        let top = top.trim_matches('/');
        while remove_stub(&root, at) && at != top {
            let Some((above, _)) = at.rsplit_once('/') else { break };
            at = above;
        }
    }
}

/// Removes an empty file or directory; whether nothing is there now.
fn remove_stub(root: &Root, path: &str) -> bool {
    let (above, name) = path.rsplit_once('/').unwrap_or((".", path));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let dir = match rustix::fs::openat2(&root.0, above, flags, Mode::empty(), inside) {
        Ok(dir) => dir,
        Err(e) => return e == Errno::NOENT,
    };
    let removed = match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if tree::kind(&stat) == FileType::Directory => {
            rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR)
        }
        Ok(stat) if tree::kind(&stat) == FileType::RegularFile && stat.st_size == 0 => {
            rustix::fs::unlinkat(&dir, name, AtFlags::empty())
        }
        Ok(_) => return false,
        Err(e) => Err(e),
    };
    matches!(removed, Ok(()) | Err(Errno::NOENT))
}
