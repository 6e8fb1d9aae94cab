//! What a lowered pod needs on the machine, and the pod itself with its members.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use fluyt_engine::pod::{ExitPolicy, PodRemoveOptions, PodRequest, PodSpec, Share};
use fluyt_engine::{CreateRequest, Engine, RemoveOptions, StartOptions, VolumeSpec, WaitCondition};
use fluyt_model::error::IoContext;
use fluyt_model::sandbox::{Namespace, Namespaces, RestartPolicy, SandboxSpec, UserNamespace};
use fluyt_model::{Error, Kind, Result};
use fluyt_pod::lower::{FileNeed, InitKind, Lowered, Member, PathKind, PathNeed, Problem, VolumeNeed};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};

use super::document;

/// Sees to it that everything that the pod mounts is there.
///
/// # Errors
/// A path of the machine is not what it has to be; a volume cannot be made.
pub fn needs(engine: &Engine, lowered: &Lowered) -> std::result::Result<(), Problem> {
    for need in &lowered.paths {
        path(need)?;
    }
    for need in &lowered.volumes {
        volume(engine, need).map_err(|e| Problem {
            kind: e.kind(),
            ..Problem::new("", format!("volume {}: {}", need.name, e.chain()))
        })?;
    }
    Ok(())
}

fn path(need: &PathNeed) -> std::result::Result<(), Problem> {
    let shown = need.path.display();
    let wrong = |message: String| Problem::new(need.field.clone(), message);
    let failed = |e: std::io::Error| wrong(format!("{shown}: {e}"));
    match need.kind {
        PathKind::DirectoryOrCreate => {
            DirBuilder::new().recursive(true).mode(0o755).create(&need.path).map_err(failed)?;
        }
        PathKind::FileOrCreate if !need.path.exists() => {
            OpenOptions::new().write(true).create_new(true).mode(0o644).open(&need.path).map_err(failed)?;
        }
        _ => {}
    }
    let found = match std::fs::metadata(&need.path) {
        Ok(found) => found.file_type(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(wrong(format!("{shown} does not exist"))
                .missing()
                .hint("make it first, or use type: DirectoryOrCreate or FileOrCreate"));
        }
        Err(e) => return Err(failed(e)),
    };
    let (fine, what) = match need.kind {
        PathKind::Any => (true, ""),
        PathKind::Directory | PathKind::DirectoryOrCreate => (found.is_dir(), "a directory"),
        PathKind::File | PathKind::FileOrCreate => (found.is_file(), "a file"),
        PathKind::Socket => (found.is_socket(), "a socket"),
        PathKind::CharDevice => (found.is_char_device(), "a character device"),
        PathKind::BlockDevice => (found.is_block_device(), "a block device"),
    };
    if fine { Ok(()) } else { Err(wrong(format!("{shown} is not {what}"))) }
}

fn volume(engine: &Engine, need: &VolumeNeed) -> Result<()> {
    if need.of_pod {
        // What an earlier pod of the name left is not this pod's.
        engine.volume_remove(&need.name, true)?;
    }
    let view = engine.volume_create(VolumeSpec {
        name: need.name.clone(),
        options: need.options.clone(),
        ..VolumeSpec::default()
    })?;
    let root = &view.mountpoint;
    if let Some(mode) = need.mode {
        std::fs::set_permissions(root, Permissions::from_mode(mode)).about(|| root.display().to_string())?;
    }
    if need.group.is_some() && need.options.is_empty() {
        std::os::unix::fs::chown(root, None, need.group).about(|| root.display().to_string())?;
        if let Some(mode) = need.mode {
            // A change of owners takes the set-group-id bit away.
            std::fs::set_permissions(root, Permissions::from_mode(mode))
                .about(|| root.display().to_string())?;
        }
    }
    need.files.as_deref().map_or(Ok(()), |files| fill(root, files))
}

/// Makes the files of a volume what they should be. Each is replaced whole, so that who reads it while it runs sees the old one
/// or the new one. Nothing outside of the volume is touched, whatever links somebody put into it.
fn fill(root: &Path, files: &[FileNeed]) -> Result<()> {
    let about = || root.display().to_string();
    let top = File::open(root).about(about)?;
    let wanted: Vec<&str> = files.iter().map(|f| f.path.split('/').next().unwrap_or_default()).collect();
    for entry in std::fs::read_dir(root).about(about)? {
        let entry = entry.about(about)?;
        if wanted.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let path = entry.path();
        let done = if entry.file_type().is_ok_and(|t| t.is_dir()) {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        done.about(|| path.display().to_string())?;
    }
    for file in files {
        write(&top, file).map_err(|e| Error::io(root.join(&file.path).display().to_string(), e))?;
    }
    Ok(())
}

fn write(top: &File, need: &FileNeed) -> std::io::Result<()> {
    let mut directory: OwnedFd = top.try_clone()?.into();
    let (parents, name) = need.path.rsplit_once('/').unwrap_or(("", &need.path));
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    for part in parents.split('/').filter(|p| !p.is_empty()) {
        match rustix::fs::mkdirat(&directory, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        directory = rustix::fs::openat2(&directory, part, flags, Mode::empty(), inside)?;
    }
    let fresh = format!(".{name}.fluyt-new");
    match rustix::fs::unlinkat(&directory, &fresh, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(e) => return Err(e.into()),
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat2(&directory, &fresh, flags, Mode::from_raw_mode(0o600), inside)?;
    let mut file = File::from(file);
    file.write_all(&need.bytes)?;
    file.set_permissions(Permissions::from_mode(need.mode))?;
    rustix::fs::renameat(&directory, &fresh, &directory, name)?;
    Ok(())
}

/// A pod that was made.
#[derive(Debug, Default)]
pub struct Made {
    /// Its id.
    pub id: String,
    /// The ids of its containers.
    pub containers: Vec<String>,
    /// The ids of those that run before, and what becomes of them.
    pub init: Vec<(String, InitKind)>,
}

/// The pod's own part of what the engine is asked for.
///
/// # Errors
/// It asks for what pods cannot have.
pub fn pod(engine: &Engine, lowered: &Lowered) -> Result<String> {
    if lowered.sandbox.namespaces.user != UserNamespace::Host {
        return Err(Error::unsupported("a pod cannot have a user namespace of its own yet")
            .with_hint("leave out hostUsers, --userns and the annotation io.podman.annotations.userns"));
    }
    let mut sandbox = lowered.sandbox.clone();
    if sandbox.namespaces.network == Namespace::Host {
        sandbox.networks.clear();
        sandbox.ports.clear();
    }
    engine.pod_create(PodRequest {
        name: Some(lowered.name.clone()),
        spec: PodSpec {
            sandbox,
            share: Share { pid: lowered.share_pid, ..Share::default() },
            infra_name: lowered.infra_name.clone(),
            exit_policy: ExitPolicy::Stop,
            // A member without a policy takes over the pod's: what runs before the others must not.
            restart: if lowered.init.is_empty() { lowered.restart } else { RestartPolicy::default() },
            ..PodSpec::default()
        },
        document: serde_json::json!({ "create_command": std::env::args().collect::<Vec<_>>() }),
    })
}

/// Makes the members of the pod `id`. The pod goes again if one cannot be made.
///
/// # Errors
/// One cannot be made.
pub fn members(engine: &Engine, id: &str, lowered: &Lowered, replace: bool) -> Result<Made> {
    let mut made = Made { id: id.to_owned(), ..Made::default() };
    let all = lowered.init.iter().chain(&lowered.members);
    let done = all.into_iter().try_for_each(|member| -> Result<()> {
        let container = one(engine, id, member, replace)?;
        match member.init {
            Some(kind) => made.init.push((container, kind)),
            None => made.containers.push(container),
        }
        Ok(())
    });
    match done {
        Ok(()) => Ok(made),
        Err(e) => {
            let how = PodRemoveOptions { force: true, volumes: true, ..PodRemoveOptions::default() };
            // The failure is what the user hears about.
            let _ = engine.pod_remove(id, how);
            Err(e)
        }
    }
}

fn one(engine: &Engine, pod: &str, member: &Member, replace: bool) -> Result<String> {
    if replace {
        let how = RemoveOptions { force: true, volumes: true };
        match engine.container(&member.name) {
            Ok(view) if view.name == member.name => engine.remove(&view.id, how)?,
            Err(e) if e.kind() != Kind::NotFound => return Err(e),
            _ => {}
        }
    }
    let document = serde_json::to_value(document::of(member, pod))
        .map_err(|e| Error::internal("the container's document").with_source(e))?;
    let spec = SandboxSpec {
        namespaces: Namespaces::of_pod(),
        containers: vec![member.spec.clone()],
        labels: member.labels.clone(),
        annotations: member.annotations.clone(),
        auto_remove: member.auto_remove,
        pod: pod.to_owned(),
        ..SandboxSpec::default()
    };
    engine.create(CreateRequest { name: Some(member.name.clone()), spec, document })
}

/// Starts a pod: what runs before, one after another, then the rest at once. What could not be started, each with its container.
///
/// # Errors
/// Something that runs before the others failed.
pub fn start(engine: &Engine, made: &Made) -> Result<Vec<String>> {
    for (id, kind) in &made.init {
        engine
            .start(id, StartOptions::default())
            .map_err(|e| e.context(format!("starting init container {id}")))?;
        let code = engine.wait(id, WaitCondition::NotRunning)?;
        if code != 0 {
            let name = engine.container(id).map_or_else(|_| id.clone(), |view| view.name.clone());
            return Err(Error::conflict(format!(
                "init container {name} exited with code {code}: the others of its pod are not started"
            ))
            .with_hint(format!("`fluyt logs {name}` shows what it said")));
        }
        if *kind == InitKind::Once {
            engine.remove(id, RemoveOptions { force: true, volumes: true })?;
        }
    }
    let mut wrong = Vec::new();
    for id in &made.containers {
        if let Err(e) = engine.start(id, StartOptions::default()) {
            let hint = e.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            wrong.push(format!("starting container {id}: {}{hint}", e.chain()));
        }
    }
    Ok(wrong)
}
