//! One command of a build: `fluyt step`, started by a builder, alive as long as the command is.
//!
//! What is to be done arrives on standard input, length first; the pipe stays open. When it closes before the command
//! has ended, because the builder cancels or has been killed, the command is killed with all its descendants. The
//! outcome goes to descriptor 3, the command's output straight to standard output and error. Extra file trees and
//! secrets are mounted in a mount namespace of this process's own, so that they vanish with it.

use std::ffi::CString;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use fluyt_runtime::spec::Spec;
use fluyt_runtime::{Io, Launch, Rootfs, Running};
use fluyt_sys::clone;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags};
use serde::{Deserialize, Serialize};

use crate::network::Wired;
use crate::spec::MonitorSpec;

/// The descriptor on which the outcome is told.
pub const REPORT_FD: i32 = 3;
/// The descriptor whose lock says that the step lives. Nothing is read from it or written to it.
pub const CLAIM_FD: i32 = 4;
/// The longest order.
const MAX_ORDER: usize = 256 << 20;

/// What a step is to do.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Order {
    /// Id, directory, root file system and network; the rest of it is not used.
    pub spec: MonitorSpec,
    /// The OCI configuration.
    pub oci: Spec,
    /// File trees to mount before.
    pub trees: Vec<TreeMount>,
    /// An empty directory that gets the secrets; empty when there are none.
    pub memory: PathBuf,
    /// The secrets.
    pub secrets: Vec<Secret>,
}

/// Layers to mount on a directory.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct TreeMount {
    /// Lower directories, topmost first.
    pub layers: Vec<PathBuf>,
    /// Upper and work directory, if it can be written.
    pub upper: Option<(PathBuf, PathBuf)>,
    /// Where.
    pub target: PathBuf,
}

/// A file that must not reach the disk.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Secret {
    /// Its name in the directory of secrets.
    pub name: String,
    /// What is in it.
    pub content: Vec<u8>,
    /// Mode, owner, group.
    pub owner: (u32, u32, u32),
}

/// How it ended.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// The command's exit code.
    Exit(i32),
    /// It could not be started: the place of the error's kind in [`fluyt_model::Kind::ALL`], its text, its hint.
    Failed(usize, String, Option<String>),
}

/// `fluyt step`. Returns an exit code.
#[must_use]
pub fn main() -> i32 {
    let Some(report) = fluyt_sys::task::take_inherited(REPORT_FD) else {
        eprintln!("fluyt: step is started by fluyt itself");
        return 125;
    };
    // Held until the process ends, and by no other.
    let claim = fluyt_sys::task::take_inherited(CLAIM_FD);
    for fd in [Some(&report), claim.as_ref()].into_iter().flatten() {
        // It is open; nothing else can be wrong with it.
        let _ = rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC);
    }
    let _ = rustix::thread::set_name(c"fluyt-step");
    // Signals of the caller's terminal are the builder's business.
    let _ = rustix::process::setsid();
    let outcome = match order().and_then(|order| run(&order)) {
        Ok(code) => Report::Exit(code),
        Err(e) => {
            let kind = fluyt_model::Kind::ALL.iter().position(|k| *k == e.kind()).unwrap_or(0);
            Report::Failed(kind, e.chain(), e.hint().map(str::to_owned))
        }
    };
    let text = serde_json::to_vec(&outcome).unwrap_or_default();
    match std::fs::File::from(report).write_all(&text) {
        Ok(()) => 0,
        Err(_) => 125,
    }
}

fn order() -> Result<Order> {
    let about = || "the order of a step";
    let mut input = std::io::stdin().lock();
    let mut length = [0_u8; 4];
    input.read_exact(&mut length).about(about)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_ORDER {
        return Err(Error::invalid("the order of a step is too long"));
    }
    let mut text = vec![0; length];
    input.read_exact(&mut text).about(about)?;
    serde_json::from_slice(&text).map_err(|e| Error::internal(about()).with_source(e))
}

fn run(order: &Order) -> Result<i32> {
    clone::unshare(clone::NEWNS).about(|| "a mount namespace")?;
    let down = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", down).about(|| "propagation of /")?;
    for tree in &order.trees {
        mount_tree(tree)?;
    }
    if !order.secrets.is_empty() {
        mount_secrets(order)?;
    }
    let spec = &order.spec;
    let rootfs = spec.rootfs.overlay();
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let io = Io::Fds {
        stdin: null.about(|| "/dev/null")?,
        stdout: std::io::stdout().as_fd().try_clone_to_owned().about(|| "standard output")?,
        stderr: std::io::stderr().as_fd().try_clone_to_owned().about(|| "standard error")?,
    };
    let launch = Launch { io, ..Launch::new(spec.id.clone(), order.oci.clone(), spec.dir.clone(), rootfs) };
    let starting = fluyt_runtime::launch(launch)?;
    let mut firewall = None;
    let wired = Wired::up(spec, &starting, &mut firewall)?;
    let running = match starting.proceed() {
        Ok(running) => running,
        Err(e) => {
            wired.down(spec, &mut firewall);
            return Err(e);
        }
    };
    let code = wait(&running, wired.dns);
    // Nobody is left in it: the command's process id namespace ended with it.
    running.cgroup.delete()?;
    Ok(code)
}

/// Waits for the end of the command, and answers its questions about names meanwhile.
fn wait(running: &Running, mut dns: Option<fluyt_net::dns::Server>) -> i32 {
    let stdin = std::io::stdin();
    let mut alive = true;
    loop {
        if let Some(code) = crate::reap(running.pidfd.as_fd()) {
            return code;
        }
        let mut fds = vec![PollFd::new(&running.pidfd, PollFlags::IN)];
        if alive {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
        }
        fds.extend(dns.as_ref().map(|server| PollFd::new(server, PollFlags::IN)));
        let timeout = dns.as_ref().and_then(|server| server.timeout()).map(|left| rustix::event::Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        let _ = poll(&mut fds, timeout.as_ref());
        let closed = alive && !fds[1].revents().is_empty();
        drop(fds);
        if closed {
            alive = false;
            // Whatever of it has ended meanwhile needs no signal.
            let _ = fluyt_sys::signal::send(running.pidfd.as_fd(), 9);
            let _ = running.cgroup.kill(9);
        }
        if let Some(server) = &mut dns {
            server.run();
        }
    }
}

fn mount_tree(tree: &TreeMount) -> Result<()> {
    let (upper, work) = tree.upper.clone().unwrap_or_default();
    let overlay = fluyt_runtime::overlay(&Rootfs::Overlay {
        lower: tree.layers.clone(),
        upper,
        work,
        options: vec!["redirect_dir=off".to_owned(), "metacopy=off".to_owned()],
        target: tree.target.clone(),
        mapped: None,
    })?;
    attach(&overlay, &tree.target)
}

fn attach(mount: &OwnedFd, target: &Path) -> Result<()> {
    rustix::mount::move_mount(mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .about(|| target.display().to_string())
}

fn mount_secrets(order: &Order) -> Result<()> {
    let about = || order.memory.display().to_string();
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options = CString::new("mode=0700,size=64m").map_err(|_| Error::internal("an option with a NUL"))?;
    rustix::mount::mount("tmpfs", &order.memory, "tmpfs", flags, Some(options.as_c_str())).about(about)?;
    for secret in &order.secrets {
        let path = order.memory.join(&secret.name);
        let (mode, uid, gid) = secret.owner;
        let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = file.about(|| path.display().to_string())?;
        file.write_all(&secret.content).about(|| path.display().to_string())?;
        fchown(&file, Some(uid), Some(gid)).about(|| path.display().to_string())?;
        let mode = std::fs::Permissions::from_mode(mode);
        file.set_permissions(mode).about(|| path.display().to_string())?;
    }
    Ok(())
}
