//! The sandbox of a pod: set up, held, taken down.

use std::fs::File;
use std::path::Path;

use fluyt_model::error::IoContext;
use fluyt_model::sandbox::Namespace;
use fluyt_model::{Error, Kind, Result};
use fluyt_monitor::network;
use fluyt_monitor::spec::NetworkPlan;
use fluyt_runtime::Cgroup;
use fluyt_sys::clone;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};

use super::PodRecord;
use super::state::{SandboxState, is_pin};
use crate::api::Health;
use crate::container::remove::delete_tree;
use crate::container::start::is_mount_point;
use crate::records::ContainerRecord;
use crate::system::old_enough;
use crate::{Engine, lower};

/// Stack of the thread that makes namespaces, bytes.
const STACK: usize = 128 * 1024;

impl PodRecord {
    /// The sandbox in the words of those who plug containers into networks.
    pub(crate) fn as_container(&self) -> ContainerRecord {
        let mut spec = self.spec.sandbox.clone();
        if spec.hostname.is_empty() {
            spec.hostname.clone_from(&self.name);
        }
        ContainerRecord {
            id: self.id.clone(),
            name: self.name.clone(),
            created: self.created,
            spec,
            ..ContainerRecord::default()
        }
    }

    /// The host name that members see.
    pub(crate) fn hostname(&self) -> String {
        let own = &self.spec.sandbox.hostname;
        if own.is_empty() { self.name.clone() } else { own.clone() }
    }

    /// Whether the pod has a network namespace of its own.
    pub(crate) fn owns_network(&self) -> bool {
        self.spec.infra
            && self.spec.share.network
            && self.spec.sandbox.namespaces.network == Namespace::Private
    }

    /// The namespaces that are made for it and need no process: file name, `CLONE_NEW*` flag.
    fn own_namespaces(&self) -> Vec<(&'static str, u64)> {
        let (share, from) = (&self.spec.share, &self.spec.sandbox.namespaces);
        let own = |n: &Namespace| matches!(n, Namespace::Private | Namespace::Shareable);
        [
            ("net", clone::NEWNET, share.network && own(&from.network)),
            ("ipc", clone::NEWIPC, share.ipc && own(&from.ipc)),
            ("uts", clone::NEWUTS, share.uts && own(&from.uts)),
        ]
        .into_iter()
        .filter_map(|(file, flag, wanted)| wanted.then_some((file, flag)))
        .collect()
    }
}

/// The lock of a pod: shared by those who start members, exclusive for those who make or remove its sandbox.
fn lock(dir: &Path, how: FlockOperation) -> Result<File> {
    let about = || dir.display().to_string();
    let file = File::open(dir).about(about)?;
    rustix::fs::flock(&file, how).about(about)?;
    Ok(file)
}

impl Engine {
    /// Path of the control group above a pod's members; empty if they have none in common.
    pub(crate) fn pod_cgroup(&self, pod: &PodRecord) -> String {
        if !pod.spec.infra {
            return String::new();
        }
        let parent = match pod.spec.sandbox.cgroup_parent.trim_matches('/') {
            "" => self.paths.cgroup_parent(),
            parent => format!("/{parent}"),
        };
        format!("{parent}/{}", pod.id)
    }

    /// Whether the pod with this full id has its sandbox.
    pub(crate) fn pod_is_up(&self, id: &str) -> bool {
        let run = self.paths.pod_run(id);
        run.is_dir() && SandboxState::load(&self.paths, id).is_ok_and(|state| state.is_up(&run))
    }

    /// Sees to it that a pod has its sandbox, and keeps it there as long as the returned lock is held.
    ///
    /// # Errors
    /// `NotFound` if the pod was removed; a port that is taken (`Conflict`); what the kernel refuses.
    pub(crate) fn hold_sandbox(&self, pod: &PodRecord) -> Result<Option<File>> {
        const ATTEMPTS: u32 = 100;
        if !pod.spec.infra {
            return Ok(None);
        }
        let dir = self.paths.pod(&pod.id);
        for _ in 0..ATTEMPTS {
            let held = lock(&dir, FlockOperation::LockShared)?;
            if self.pod_is_up(&pod.id) {
                return Ok(Some(held));
            }
            drop(held);
            let _alone = lock(&dir, FlockOperation::LockExclusive)?;
            // Removed while the lock was waited for.
            self.records().pod(&pod.id)?;
            if !self.pod_is_up(&pod.id) {
                self.not_out_of_sight(pod)?;
                self.set_up(pod)?;
            }
        }
        Err(Error::conflict(format!("pod {} is taken down again and again", pod.name)))
    }

    /// What holds the namespaces of a sandbox cannot be seen from another mount namespace. Members that run there must not be
    /// taken for left-overs.
    fn not_out_of_sight(&self, pod: &PodRecord) -> Result<()> {
        let state = SandboxState::load(&self.paths, &pod.id)?;
        if !state.up || !state.init_lives() {
            return Ok(());
        }
        match self.records().members(&pod.id)?.iter().find(|m| self.is_running(&m.id)) {
            None => Ok(()),
            Some(member) => Err(Error::conflict(format!(
                "the namespaces of pod {} are not held here, while its container {} runs",
                pod.name, member.name
            ))
            .with_hint(format!(
                "it was started in another mount namespace, or they were unmounted: `fluyt pod stop {}` first",
                pod.name
            ))),
        }
    }

    /// Takes the sandbox of a pod down, unless a member runs or is being started. Whether it is down.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub(crate) fn release_sandbox(&self, pod: &PodRecord) -> Result<bool> {
        let dir = self.paths.pod(&pod.id);
        let _alone = match lock(&dir, FlockOperation::LockExclusive) {
            Err(e) if e.kind() == Kind::NotFound => return Ok(true),
            other => other?,
        };
        if self.records().members(&pod.id)?.iter().any(|m| self.is_running(&m.id)) {
            return Ok(false);
        }
        let mut state = SandboxState::load(&self.paths, &pod.id)?;
        let was_up = state.up;
        if was_up {
            state.up = false;
            state.finished_at = fluyt_monitor::state::now();
            state.save(&self.paths, &pod.id)?;
        }
        self.clear(pod, &state)?;
        if was_up {
            state.network = NetworkPlan::default();
            state.save(&self.paths, &pod.id)?;
            self.tell_networks(pod)?;
            self.emit_pod("stop", pod);
        }
        Ok(true)
    }

    /// Finds, and with `repair` removes, what interrupted work has left of pods that are not recorded.
    pub(crate) fn check_pods(&self, repair: bool, health: &mut Health) -> Result<()> {
        for (parent, what) in
            [(self.paths.pods(), "pods"), (self.paths.run().join("pods"), "run directory: pods")]
        {
            for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
                let id = entry.file_name().to_string_lossy().into_owned();
                if self.records().read(|tx| self.records().has_pod(tx, &id))? || !old_enough(&entry.path()) {
                    continue;
                }
                health.leftovers.push((format!("{what}/{id}: belongs to no pod"), repair));
                if repair {
                    unmount_below(&entry.path())?;
                    delete_tree(&entry.path())?;
                }
            }
        }
        Ok(())
    }

    /// Makes the sandbox. The pod's lock is held.
    fn set_up(&self, pod: &PodRecord) -> Result<()> {
        let old = SandboxState::load(&self.paths, &pod.id)?;
        self.clear(pod, &old)?;
        let mut state = SandboxState { finished_at: old.finished_at, ..SandboxState::default() };
        if let Err(e) = self.build(pod, &mut state) {
            // The failure is what the caller hears about; what stays is met by the next attempt.
            let _ = self.clear(pod, &state);
            return Err(e.context(format!("pod {}", pod.name)));
        }
        state.up = true;
        state.started_at = fluyt_monitor::state::now();
        state.save(&self.paths, &pod.id)?;
        self.tell_networks(pod)?;
        self.emit_pod("start", pod);
        Ok(())
    }

    fn build(&self, pod: &PodRecord, state: &mut SandboxState) -> Result<()> {
        let run = self.paths.pod_run(&pod.id);
        self.make_pod_run(&run)?;
        let cgroup = Cgroup::at(&self.pod_cgroup(pod))?;
        let mut devices = std::collections::BTreeMap::new();
        for path in lower::limited_devices(&pod.spec.resources) {
            devices.insert(path.clone(), crate::lookup::block_device(path)?);
        }
        cgroup.make(&lower::resources(&pod.spec.resources, &devices))?;
        let namespaces = pod.own_namespaces();
        state.pins = namespaces.iter().map(|(file, _)| (*file).to_owned()).collect();
        pin(pod, &namespaces, &run)?;
        if state.pins.iter().any(|p| p == "ipc") {
            let size = if pod.spec.sandbox.shm_size == 0 { 64 << 20 } else { pod.spec.sandbox.shm_size };
            mount_shm(&run.join("shm"), size)?;
        }
        if pod.spec.share.network {
            self.wire(pod, &run, state)?;
        }
        self.start_init(pod, &run, state)
    }

    fn make_pod_run(&self, run: &Path) -> Result<()> {
        const ATTEMPTS: u32 = 16;
        for attempt in 1..=ATTEMPTS {
            self.paths.make_run(run.parent().unwrap_or(run))?;
            match self.paths.make_run(run) {
                // The last of the other pods has taken the directory of all with it.
                Err(e) if e.kind() == Kind::NotFound && attempt < ATTEMPTS => {}
                done => return done,
            }
        }
        Ok(())
    }

    /// Plugs the sandbox in, and writes the files that tell its members names.
    fn wire(&self, pod: &PodRecord, run: &Path, state: &mut SandboxState) -> Result<()> {
        let record = pod.as_container();
        let plugged = if pod.owns_network() { self.plug_in(&record)? } else { Vec::new() };
        let dir = self.paths.pod(&pod.id);
        state.network = self.network_files(&record, &dir, &plugged)?;
        super::names::keep_base(&dir)?;
        if !state.network.own {
            return Ok(());
        }
        let path = run.join("net");
        let netns = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .about(|| path.display().to_string())?;
        // Those who hold the ports from now on are the monitors of the members.
        let (ports, _reserved) = network::choose(&state.network)?;
        state.network.ports = ports;
        // Before they are published: whoever finds this half done takes them back.
        state.save(&self.paths, &pod.id)?;
        network::set_up(&state.network, &pod.id, &netns)
    }

    /// Removes whatever there is of a sandbox. The pod's lock is held, and `state` says that it is not up.
    pub(super) fn clear(&self, pod: &PodRecord, state: &SandboxState) -> Result<()> {
        if !state.network.ports.is_empty() {
            match network::take_back(&state.network, &pod.id) {
                // After a boot there is no table.
                Err(e) if e.kind() != Kind::NotFound => return Err(e),
                _ => {}
            }
        }
        let run = self.paths.pod_run(&pod.id);
        if run.exists() {
            self.end_init(pod, state);
            unmount_below(&run)?;
            let path = self.pod_cgroup(pod);
            if !path.is_empty() {
                let cgroup = Cgroup::at(&path)?;
                if cgroup.is_populated() {
                    // Left by members whose monitors were killed.
                    let _ = cgroup.thaw();
                    cgroup.kill(9)?;
                }
                cgroup.delete()?;
            }
            delete_tree(&run)?;
            // Other pods may be up.
            let _ = std::fs::remove_dir(run.parent().unwrap_or(&run));
        }
        Ok(())
    }
}

/// Makes the namespaces, held by files in `run`. They are made by a thread of its own, which then ends: what it enters is
/// entered by nobody else.
fn pin(pod: &PodRecord, namespaces: &[(&'static str, u64)], run: &Path) -> Result<()> {
    if namespaces.is_empty() {
        return Ok(());
    }
    let flags = namespaces.iter().fold(0, |all, (_, flag)| all | flag);
    for (file, _) in namespaces {
        let path = run.join(file);
        File::create(&path).about(|| path.display().to_string())?;
    }
    let sandbox = &pod.spec.sandbox;
    let work = || -> Result<()> {
        clone::unshare(flags).about(|| format!("namespaces of pod {}", pod.name))?;
        for (file, _) in namespaces {
            let (source, target) = (format!("/proc/thread-self/ns/{file}"), run.join(file));
            rustix::mount::mount_bind(&source, &target).about(|| target.display().to_string())?;
        }
        if flags & clone::NEWUTS != 0 {
            let name = pod.hostname();
            rustix::system::sethostname(name.as_bytes()).about(|| format!("host name {name}"))?;
            if !sandbox.domainname.is_empty() {
                rustix::system::setdomainname(sandbox.domainname.as_bytes())
                    .about(|| format!("domain name {}", sandbox.domainname))?;
            }
        }
        for (key, value) in &sandbox.sysctls {
            let path = Path::new("/proc/sys").join(key.replace('.', "/"));
            std::fs::write(&path, value).about(|| format!("sysctl {key}={value}"))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("fluyt-pod".to_owned()).stack_size(STACK);
        let thread = thread.spawn_scoped(scope, work).about(|| "a thread")?;
        thread.join().unwrap_or_else(|_| Err(Error::internal("the thread that makes namespaces failed")))
    })
}

/// Mounts memory for /dev/shm on the host, to be shown to all members.
fn mount_shm(dir: &Path, size: u64) -> Result<()> {
    let about = || dir.display().to_string();
    std::fs::create_dir_all(dir).about(about)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options = std::ffi::CString::new(format!("mode=1777,size={size}")).expect("no NUL in it");
    rustix::mount::mount("shm", dir, "tmpfs", flags, Some(options.as_c_str())).about(about)
}

/// Takes down what is mounted in a pod's run directory.
pub(crate) fn unmount_below(run: &Path) -> Result<()> {
    for entry in std::fs::read_dir(run).about(|| run.display().to_string())?.flatten() {
        let path = entry.path();
        let mounted = if path.is_dir() { is_mount_point(&path)? } else { is_pin(&path) };
        if mounted {
            rustix::mount::unmount(&path, UnmountFlags::DETACH).about(|| path.display().to_string())?;
        }
    }
    Ok(())
}
