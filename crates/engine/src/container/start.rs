//! Starting a container: what its record says becomes the files that a monitor runs from, and a monitor.
//!
//! Everything here can be repeated: files are replaced, leases are kept. The monitor's lock decides who starts.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fluyt_model::error::IoContext;
use fluyt_model::sandbox::{
    MountSource, Namespace, NetworkAttachment, Phase, Ready, SandboxSpec, UserNamespace,
};
use fluyt_model::{Error, Kind, Result, id};
use fluyt_monitor::protocol::Request;
use fluyt_monitor::restart::{self, Ended, Series};
use fluyt_monitor::spec::{NetworkPlan, RootfsSpec};
use fluyt_monitor::{MonitorSpec, notify, watch};
use fluyt_net::resolvconf;
use rustix::fs::FlockOperation;
use rustix::mount::MountFlags;

use crate::api::{EndpointView, MountView, StartOptions};
use crate::container::create::attributes;
use crate::container::log_spec;
use crate::events::companions;
use crate::lower::{self, Resolved, ResolvedMount};
use crate::records::{ContainerRecord, NetworkRecord};
use crate::{Attach, Engine, apparmor, cdi, client, lookup, network, seal, volume};

/// Where the init program appears in containers that ask for one.
const INIT_PATH: &str = "/sbin/docker-init";

/// So many times, 2 ms apart, a removal waits for a start that is being prepared.
const REMOVAL_PATIENCE: u32 = 1000;

/// So many times, 1 ms apart, it is tried to reach a monitor that was just begun.
const MONITOR_PATIENCE: u32 = 5000;

/// A container's plug, with all that its links and names are made from.
pub(crate) struct Plugged {
    network: NetworkRecord,
    attachment: NetworkAttachment,
    endpoint: EndpointView,
}

impl Plugged {
    fn is_default(&self) -> bool {
        self.network.spec.name == network::DEFAULT_NETWORK
    }
}

/// Links on networks of one's own: the resolver looks the other's name up when it is asked, whether somebody has it yet
/// or not.
fn aliases(plugged: &[Plugged]) -> Vec<(String, String)> {
    let links = plugged.iter().filter(|p| !p.is_default()).flat_map(|p| &p.attachment.links);
    links.map(|(name, alias)| (alias.clone(), name.trim_start_matches('/').to_owned())).collect()
}

impl Engine {
    /// Starts a container; an attached stream comes back if it was asked for. Starting a running one does nothing.
    ///
    /// # Errors
    /// What the monitor met: a missing command (`CommandNotFound`), a port that is taken (`Conflict`), …
    pub fn start(&self, name: &str, options: StartOptions) -> Result<Option<Attach>> {
        match self.start_new(name, options, &[])? {
            Some(mut sessions) => Ok(sessions.pop()),
            None if options.attach => self.attach(name, options.stdin).map(Some),
            None => Ok(None),
        }
    }

    /// Starts a container as [`Engine::start`], with several sessions, each of which sees its first byte: one as `options`
    /// say, if they ask for one, and `others`, with or without input. The sessions come back in this order; `None`, and
    /// nothing is attached, if it runs already.
    ///
    /// # Errors
    /// As for [`Engine::start`].
    pub fn start_new(
        &self,
        name: &str,
        options: StartOptions,
        others: &[bool],
    ) -> Result<Option<Vec<Attach>>> {
        let record = self.records().container(name)?;
        let dir = self.paths.container(&record.id);
        let _starting = start_lock(&dir)?;
        if !dir.exists() {
            // It was removed while the lock was waited for.
            return Err(Error::not_found(format!("No such container: {name}")));
        }
        if self.runs_on(&record.id) {
            return Ok(None);
        }
        // A container whose monitor was killed may still have processes; two of it must never run.
        self.end_orphan(&record, Phase::Exited, false)?;
        self.start_required(&record)?;
        let _sandbox = self.member_sandbox(&record)?;
        let (mut monitor, socket) = self.prepared(&record, &dir)?;
        let others = match self.attached_early(&record, &mut monitor, others) {
            Ok(others) => others,
            Err(e) => {
                // It ends when nobody tells it to start.
                drop(socket);
                let _ = monitor.wait();
                return Err(e);
            }
        };
        let request = Request::Start {
            attach: options.attach,
            stdin: options.stdin,
            removes: options.caller_removes,
            size: options.size,
            restarts: 0,
        };
        match client::ask_on(socket, &request) {
            Ok((_, attach)) => {
                self.children.borrow_mut().push(monitor);
                Ok(Some(options.attach.then_some(attach).into_iter().chain(others).collect()))
            }
            Err(e) => {
                // It ends by itself; its pid must not linger in a caller that lives long.
                let _ = monitor.wait();
                Err(e)
            }
        }
    }

    /// Sessions with a monitor that waits to be told to start.
    fn attached_early(
        &self,
        record: &ContainerRecord,
        monitor: &mut Child,
        sessions: &[bool],
    ) -> Result<Vec<Attach>> {
        let run = self.paths.run_of(&record.id);
        let mut attached = Vec::new();
        for stdin in sessions {
            let mut tries = 0;
            attached.push(loop {
                match client::attach(&run, *stdin) {
                    // It does not listen yet.
                    Err(e) if e.kind() == Kind::Conflict && tries < MONITOR_PATIENCE => {
                        if matches!(monitor.try_wait(), Ok(Some(_))) {
                            return Err(e);
                        }
                        tries += 1;
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    other => break other?,
                }
            });
        }
        Ok(attached)
    }

    /// Starts a container again whose monitor was killed, if its restart policy says so: as if the monitor had met the end
    /// of the container. What is left of it is ended first. Does nothing for any other container.
    ///
    /// # Errors
    /// As for [`Engine::start`]. Once a new monitor has taken over, it goes on by the policy in spite of the error.
    pub fn revive(&self, id: &str) -> Result<()> {
        let record = match self.records().container(id) {
            Err(e) if e.kind() == Kind::NotFound => return Ok(()),
            other => other?,
        };
        let dir = self.paths.container(&record.id);
        let _starting = start_lock(&dir)?;
        let status = fluyt_monitor::state::load(&dir)?;
        if !dir.exists() || !watch::is_lost(&self.paths.run_of(&record.id), &status) {
            return Ok(());
        }
        let series = Series { count: status.restart_count, ..Series::default() };
        let killed = Ended { code: 137, ran: Duration::ZERO, by_user: false, unhealthy: false };
        let next = restart::decide(record.spec.containers[0].restart, series, killed);
        // Until the new monitor says otherwise, it is about to be started again: whoever is interrupted here, others go on.
        let phase = if next.is_some() { Phase::Restarting } else { Phase::Exited };
        self.end_orphan(&record, phase, false)?;
        self.emit_container("die", &record, &[("exitCode", "137")]);
        let Some((_, series)) = next else { return Ok(()) };
        let _sandbox = self.member_sandbox(&record)?;
        let (monitor, socket) = self.prepared(&record, &dir)?;
        self.children.borrow_mut().push(monitor);
        let request = Request::Start {
            attach: false,
            stdin: false,
            removes: false,
            size: None,
            restarts: series.count,
        };
        client::ask_on(socket, &request).map(drop)
    }

    /// A monitor that has everything it needs and waits to be told to start.
    fn prepared(&self, record: &ContainerRecord, dir: &Path) -> Result<(Child, UnixStream)> {
        self.prepare(record)?;
        let (socket, theirs) = fluyt_monitor::socket_pair()?;
        let passed = record.spec.containers[0].log.driver == "passthrough";
        Ok((self.spawn_monitor(dir, theirs, passed)?, socket))
    }

    /// Writes everything that a start needs.
    fn prepare(&self, record: &ContainerRecord) -> Result<()> {
        let dir = self.paths.container(&record.id);
        let run = self.paths.run_of(&record.id);
        self.paths.make_run(&run)?;
        let plugged = self.plug_in(record)?;
        let network = self.network_files(record, &dir, &plugged)?;
        let container = &record.spec.containers[0];
        let resolved = self.resolve(record, &dir)?;
        let mut oci = lower::oci(&record.spec, container, &resolved)?;
        if !container.cdi_devices.is_empty() {
            let directories = cdi::DIRECTORIES.map(Path::new);
            cdi::apply(&cdi::edits(&container.cdi_devices, &directories)?, &mut oci)?;
        }
        if let Some(process) = &mut oci.process {
            for p in plugged.iter().filter(|p| p.is_default()) {
                for (other, alias) in &p.attachment.links {
                    let linked = self.link_environment(&p.network, record, other, alias)?;
                    let known = |word: &String| process.env.iter().any(|have| same_variable(have, word));
                    let new: Vec<String> = linked.into_iter().filter(|word| !known(word)).collect();
                    process.env.extend(new);
                }
            }
        }
        if record.spec.notify.as_ref().is_some_and(|notify| notify.ready == Ready::Said) {
            notify::make_directory(&run)?;
            if let Some(process) = &mut oci.process {
                process.env.push(format!("NOTIFY_SOCKET={}/{}", notify::INSIDE, notify::SOCKET));
            }
        }
        write_json(&dir.join("config.json"), &oci)?;
        self.write_monitor(record, network, &plugged)
    }

    /// Writes `monitor.json` again, after a change that a running monitor should know of.
    pub(crate) fn write_monitor_spec(&self, record: &ContainerRecord) -> Result<()> {
        let plugged = self.plug_in(record)?;
        let network = self.network_files(record, &self.paths.container(&record.id), &plugged)?;
        self.write_monitor(record, network, &plugged)
    }

    fn write_monitor(
        &self,
        record: &ContainerRecord,
        network: NetworkPlan,
        plugged: &[Plugged],
    ) -> Result<()> {
        let dir = self.paths.container(&record.id);
        let container = &record.spec.containers[0];
        let predefined = self.predefined_network(record)?;
        let spec = MonitorSpec {
            id: record.id.clone(),
            root: self.paths.root().to_owned(),
            run_dir: self.paths.run_of(&record.id),
            rootfs: RootfsSpec {
                lower: record.lower.clone(),
                upper: dir.join("upper"),
                work: dir.join("work"),
                options: overlay_options(record.spec.auto_remove),
                target: dir.join("rootfs"),
                mapped: (record.spec.namespaces.user != UserNamespace::Host)
                    .then(|| self.paths.root().to_owned()),
            },
            tty: container.process.tty,
            stdin: container.process.stdin,
            console_size: container.process.console_size,
            log: log_spec::resolved(record, &host_name())?,
            log_path: self.log_path(record),
            restart: container.restart,
            health: container.health.clone(),
            stop: container.stop.clone(),
            network,
            volumes: self.volume_mounts(record)?,
            events: self.paths.events(),
            attributes: attributes(record),
            companions: companions(record, plugged.iter().map(|p| &p.network).chain(&predefined)),
            notify: record.spec.notify.clone(),
            auto_remove: record.spec.auto_remove,
            pod: self.pod_to_settle(record)?,
            dir: dir.clone(),
        };
        write_json(&dir.join("monitor.json"), &spec)
    }

    /// The network without addresses that a container is in, if it is: the host's, or none.
    fn predefined_network(&self, record: &ContainerRecord) -> Result<Option<NetworkRecord>> {
        let name = match record.spec.namespaces.network {
            Namespace::Host => "host",
            Namespace::Private if record.spec.networks.is_empty() => "none",
            _ => return Ok(None),
        };
        self.ensure_predefined()?;
        self.records().read(|tx| self.records().network(tx, name)).map(Some)
    }

    /// The log file of a container.
    pub(crate) fn log_path(&self, record: &ContainerRecord) -> PathBuf {
        log_path(&self.paths.container(&record.id), &record.id, &record.spec)
    }

    /// Gives the container its addresses.
    pub(crate) fn plug_in(&self, record: &ContainerRecord) -> Result<Vec<Plugged>> {
        if record.spec.networks.is_empty() {
            return Ok(Vec::new());
        }
        self.ensure_predefined()?;
        self.records().write(|tx| {
            let mut plugged = Vec::new();
            for attachment in &record.spec.networks {
                let network = self.records().network(tx, &attachment.network)?;
                let endpoint = self.lease(tx, record, &network, attachment)?;
                plugged.push(Plugged { network, attachment: attachment.clone(), endpoint });
            }
            Ok(plugged)
        })
    }

    /// Writes the container's name files and plans its links.
    pub(crate) fn network_files(
        &self,
        record: &ContainerRecord,
        dir: &Path,
        plugged: &[Plugged],
    ) -> Result<NetworkPlan> {
        let spec = &record.spec;
        let own = matches!(spec.namespaces.network, Namespace::Private);
        let hostname = self.hostname(record)?;
        let user_defined = plugged.iter().any(|p| !p.is_default());
        let mode = match (own, user_defined) {
            (false, _) => resolvconf::Mode::Host,
            (true, false) => resolvconf::Mode::Direct,
            (true, true) => resolvconf::Mode::Resolver,
        };
        if let Namespace::Container(other) = &spec.namespaces.network {
            self.share_name_files(other, dir)?;
        } else if spec.namespaces.network == Namespace::Pod {
            write(&dir.join("hostname"), &format!("{hostname}\n"))?;
            return self.member_plan(record);
        } else {
            let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
            let stub = std::fs::read_to_string("/run/systemd/resolve/resolv.conf").ok();
            let resolution = resolvconf::resolv_conf(&host, stub.as_deref(), &spec.dns, mode)?;
            write(&dir.join("resolv.conf"), &resolution.text)?;
            write(&dir.join("hostname"), &format!("{hostname}\n"))?;
            write(&dir.join("hosts"), &self.hosts(record, plugged, &hostname, own)?)?;
            return self.network_plan(record, plugged, &resolution, own);
        }
        Ok(NetworkPlan::default())
    }

    fn network_plan(
        &self,
        record: &ContainerRecord,
        plugged: &[Plugged],
        resolution: &resolvconf::Resolution,
        own: bool,
    ) -> Result<NetworkPlan> {
        let scope = self.paths.scope();
        let gateway = default_route(plugged);
        let mut plan = NetworkPlan {
            scope: scope.suffix().to_owned(),
            own,
            ports: record.spec.ports.clone(),
            ..NetworkPlan::default()
        };
        for (index, p) in plugged.iter().enumerate() {
            if p.network.spec.driver == "bridge" {
                plan.bridges.push(network::bridge(&p.network)?);
            }
            let leads_out = gateway == Some(index);
            plan.endpoints.push(network::plug(
                &scope,
                &record.id,
                &p.network,
                &p.attachment,
                &p.endpoint,
                index,
                leads_out,
            )?);
        }
        if own && resolution.resolver {
            plan.dns = Some(fluyt_net::dns::Config {
                names: plugged.iter().map(|p| self.paths.names(&p.network.id)).collect(),
                aliases: aliases(plugged),
                upstreams: resolution.upstreams.clone(),
                yield_port: record.spec.ports.iter().any(|p| p.container_port == 53),
            });
            for p in plugged.iter().filter(|p| !p.is_default()) {
                self.publish_names(&p.network)?;
            }
        }
        Ok(plan)
    }

    fn hosts(
        &self,
        record: &ContainerRecord,
        plugged: &[Plugged],
        hostname: &str,
        own: bool,
    ) -> Result<String> {
        let ips = |v4: Option<std::net::Ipv4Addr>, v6: Option<std::net::Ipv6Addr>| {
            [v4.map(std::net::IpAddr::V4), v6.map(std::net::IpAddr::V6)]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
        };
        let addresses: Vec<_> = plugged
            .iter()
            .flat_map(|p| ips(p.endpoint.ipv4.map(|(a, _)| a), p.endpoint.ipv6.map(|(a, _)| a)))
            .collect();
        let host_gateway: Vec<_> =
            plugged.iter().flat_map(|p| ips(p.endpoint.gateway4, p.endpoint.gateway6)).collect();
        let mut extra = record.spec.extra_hosts.clone();
        for p in plugged.iter().filter(|p| p.is_default()) {
            for (other, alias) in &p.attachment.links {
                extra.extend(self.link(&p.network, other, alias)?);
            }
        }
        let host_file = if own { None } else { std::fs::read_to_string("/etc/hosts").ok() };
        resolvconf::hosts(&resolvconf::Hosts {
            hostname,
            domain: &record.spec.domainname,
            addresses: &addresses,
            host_gateway: &host_gateway,
            extra: &extra,
            host_file: host_file.as_deref(),
        })
    }

    /// What a link on the default network tells by variables: the other's name, address, ports and variables.
    fn link_environment(
        &self,
        net: &NetworkRecord,
        record: &ContainerRecord,
        other: &str,
        alias: &str,
    ) -> Result<Vec<String>> {
        let target = self.records().container(other)?;
        let prefix = alias.replace('-', "_").to_uppercase();
        let mut words = vec![format!("{prefix}_NAME=/{}/{alias}", record.name)];
        let leases = self.records().leases_of_container(&target.id)?;
        let address = leases.iter().find(|e| e.network_id == net.id).and_then(|e| e.ipv4);
        let mut ports: Vec<_> =
            target.spec.ports.iter().map(|p| (p.container_port, p.protocol.as_str())).collect();
        ports.sort_unstable();
        ports.dedup();
        for (index, (port, proto)) in ports.iter().enumerate() {
            let Some((ip, _)) = address else { break };
            let url = format!("{proto}://{ip}:{port}");
            if index == 0 {
                words.push(format!("{prefix}_PORT={url}"));
            }
            let one = format!("{prefix}_PORT_{port}_{}", proto.to_uppercase());
            words.push(format!("{one}={url}"));
            words.push(format!("{one}_ADDR={ip}"));
            words.push(format!("{one}_PORT={port}"));
            words.push(format!("{one}_PROTO={proto}"));
        }
        let own = target.spec.containers.first().map(|c| c.process.env.clone()).unwrap_or_default();
        let told = own.iter().filter(|word| !word.starts_with("HOME=") && !word.starts_with("PATH="));
        words.extend(told.map(|word| format!("{prefix}_ENV_{word}")));
        Ok(words)
    }

    /// The lines of a link to another container of the default network, which has no resolver.
    fn link(
        &self,
        net: &NetworkRecord,
        other: &str,
        alias: &str,
    ) -> Result<Vec<fluyt_model::sandbox::HostEntry>> {
        let target = self.records().container(other)?;
        if !self.is_running(&target.id) {
            return Err(Error::conflict(format!("Cannot link to a non running container: {other}")));
        }
        let leases = self.records().leases_of_container(&target.id)?;
        let address = leases.iter().find(|e| e.network_id == net.id).and_then(|e| e.ipv4);
        Ok([alias, &target.name]
            .iter()
            .filter_map(|name| {
                Some(fluyt_model::sandbox::HostEntry {
                    name: (*name).to_owned(),
                    address: address?.0.to_string(),
                })
            })
            .collect())
    }

    /// A container in another's network namespace sees the other's name files.
    fn share_name_files(&self, other: &str, dir: &Path) -> Result<()> {
        let target = self.records().container(other)?;
        for file in ["resolv.conf", "hostname", "hosts"] {
            let own = self.paths.container(&target.id).join(file);
            let from = if file == "hostname" { own } else { self.name_file(&target, file) };
            let to = dir.join(file);
            std::fs::copy(&from, &to).about(|| from.display().to_string())?;
        }
        Ok(())
    }

    fn hostname(&self, record: &ContainerRecord) -> Result<String> {
        Ok(match (&record.spec.namespaces.uts, &record.spec.namespaces.network) {
            (Namespace::Host, _) => host_name(),
            (Namespace::Pod, _) => self.records().pod(&record.spec.pod)?.hostname(),
            _ if !record.spec.hostname.is_empty() => record.spec.hostname.clone(),
            (_, Namespace::Host) => host_name(),
            (_, Namespace::Container(other)) => self.hostname(&self.records().container(other)?)?,
            _ => id::short(&record.id).to_owned(),
        })
    }

    /// Looks up everything that the OCI configuration needs to know.
    pub(crate) fn resolve(&self, record: &ContainerRecord, dir: &Path) -> Result<Resolved> {
        let spec = &record.spec;
        let container = &spec.containers[0];
        let mut layers = vec![dir.join("upper")];
        layers.extend(record.lower.iter().cloned());
        let process = &container.process;
        let passwd = lookup::merged_file(&layers, "etc/passwd").unwrap_or_default();
        let group = lookup::merged_file(&layers, "etc/group").unwrap_or_default();
        let account = lookup::account(&process.user, &process.groups, &passwd, &group)?;
        let mut devices = Vec::new();
        if container.security.privileged {
            devices = lookup::all_devices();
        }
        for device in &container.devices {
            devices.extend(lookup::devices(device)?);
        }
        let init = container.init.then(|| INIT_PATH.to_owned());
        let mut resolved = Resolved {
            hostname: self.hostname(record)?,
            user: (account.uid, account.gid, account.groups),
            home: account.home,
            joined: self.joined(spec)?,
            mounts: self.resolved_mounts(record, dir)?,
            devices,
            cgroup: self.cgroup_path(record)?,
            shm_size: if spec.shm_size == 0 { 64 << 20 } else { spec.shm_size },
            apparmor: apparmor::profile(&container.security)?,
            init,
            shm: self.shm(record)?,
            user_maps: record.user_maps.clone(),
            ..Resolved::default()
        };
        for path in lower::limited_devices(&container.resources) {
            resolved.block_devices.insert(path.clone(), lookup::block_device(path)?);
        }
        Ok(resolved)
    }

    fn cgroup_path(&self, record: &ContainerRecord) -> Result<String> {
        let parent = match record.spec.cgroup_parent.as_str() {
            "" if !record.spec.pod.is_empty() => {
                let pod = self.records().pod(&record.spec.pod)?;
                Some(self.pod_cgroup(&pod)).filter(|path| pod.spec.share_parent && !path.is_empty())
            }
            "" => None,
            parent => Some(format!("/{}", parent.trim_matches('/'))),
        };
        let parent = parent.unwrap_or_else(|| self.paths.cgroup_parent());
        Ok(format!("{parent}/{}", record.id))
    }

    fn joined(&self, spec: &SandboxSpec) -> Result<std::collections::BTreeMap<&'static str, PathBuf>> {
        let wanted = &spec.namespaces;
        let mut joined = std::collections::BTreeMap::new();
        for (kind, file, from) in [
            ("network", "net", &wanted.network),
            ("pid", "pid", &wanted.pid),
            ("ipc", "ipc", &wanted.ipc),
            ("uts", "uts", &wanted.uts),
            ("cgroup", "cgroup", &wanted.cgroup),
        ] {
            match from {
                Namespace::Container(name) => {
                    let path = self.namespace_of(name, kind)?;
                    joined.insert(kind, path.with_file_name(file));
                }
                Namespace::Path(path) => drop(joined.insert(kind, path.clone())),
                Namespace::Pod => drop(joined.insert(kind, self.paths.pod_run(&spec.pod).join(file))),
                _ => {}
            }
        }
        match &wanted.user {
            UserNamespace::Container(name) => drop(joined.insert("user", self.namespace_of(name, "user")?)),
            UserNamespace::Path(path) => drop(joined.insert("user", path.clone())),
            _ => {}
        }
        Ok(joined)
    }

    /// The file of a running container's namespace.
    fn namespace_of(&self, name: &str, kind: &str) -> Result<PathBuf> {
        let other = self.records().container(name)?;
        let status = self.status(&other.id)?;
        if status.pid == 0 {
            return Err(Error::conflict(format!(
                "cannot join {kind} namespace of a non running container: {name}"
            ))
            .with_hint(format!("`fluyt start {name}` first")));
        }
        Ok(PathBuf::from(format!("/proc/{}/ns/{kind}", status.pid)))
    }

    /// The directory behind /dev/shm of a container that shares its IPC namespace; it is mounted on the host, because
    /// a mount of one container's namespace cannot be shown in another's.
    fn shm(&self, record: &ContainerRecord) -> Result<Option<PathBuf>> {
        match &record.spec.namespaces.ipc {
            Namespace::Shareable => {
                let size = if record.spec.shm_size == 0 { 64 << 20 } else { record.spec.shm_size };
                let dir = self.paths.run_of(&record.id).join("shm");
                let about = || dir.display().to_string();
                std::fs::create_dir_all(&dir).about(about)?;
                if !is_mount_point(&dir)? {
                    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
                    let options =
                        std::ffi::CString::new(format!("mode=1777,size={size}")).expect("no NUL in it");
                    rustix::mount::mount("shm", &dir, "tmpfs", flags, Some(options.as_c_str()))
                        .about(about)?;
                }
                Ok(Some(dir))
            }
            Namespace::Container(other) => {
                let target = self.records().container(other)?;
                let dir = match target.spec.namespaces.ipc {
                    Namespace::Pod => self.paths.pod_run(&target.spec.pod).join("shm"),
                    _ => self.paths.run_of(&target.id).join("shm"),
                };
                if !dir.exists() {
                    return Err(Error::conflict(format!(
                        "cannot join IPC namespace of container {other}: it is not shareable"
                    ))
                    .with_hint("start that container with --ipc shareable"));
                }
                Ok(Some(dir))
            }
            Namespace::Pod => Ok(Some(self.paths.pod_run(&record.spec.pod).join("shm"))),
            _ => Ok(None),
        }
    }

    fn resolved_mounts(&self, record: &ContainerRecord, dir: &Path) -> Result<Vec<ResolvedMount>> {
        let container = &record.spec.containers[0];
        let mut mounts = Vec::new();
        for file in ["resolv.conf", "hostname", "hosts"] {
            mounts.push(ResolvedMount {
                target: Path::new("/etc").join(file),
                // A step of a build has a directory that no record names.
                source: match record.spec.namespaces.network {
                    Namespace::Pod if file != "hostname" => self.name_file(record, file),
                    _ => dir.join(file),
                },
                read_only: container.security.read_only_root,
                ..ResolvedMount::default()
            });
        }
        if record.spec.notify.as_ref().is_some_and(|notify| notify.ready == Ready::Said) {
            // The monitor listens there, and passes on what is said to the service manager.
            let source = notify::directory(&self.paths.run_of(&record.id));
            mounts.push(ResolvedMount {
                target: notify::INSIDE.into(),
                source,
                read_only: true,
                ..ResolvedMount::default()
            });
        }
        if container.init {
            let source = std::env::current_exe().about(|| "/proc/self/exe")?;
            mounts.push(ResolvedMount {
                target: INIT_PATH.into(),
                source,
                read_only: true,
                ..ResolvedMount::default()
            });
        }
        for view in &record.mounts {
            let asked = container.mounts.iter().find(|m| m.target == view.target);
            let mut mount = ResolvedMount {
                target: PathBuf::from(&view.target),
                source: view.source.clone(),
                read_only: !view.rw,
                propagation: view.propagation.clone(),
                non_recursive: asked.is_some_and(|m| m.non_recursive),
                recursive_read_only: asked.is_some_and(|m| m.recursive_read_only),
                idmap: asked.and_then(|m| m.idmap.clone()),
                no_idmap: asked.is_some_and(|m| m.no_idmap),
                ..ResolvedMount::default()
            };
            if let (true, Some(MountSource::Tmpfs { options })) =
                (view.kind == "tmpfs", asked.map(|m| &m.source))
            {
                mount.kind = "tmpfs".to_owned();
                mount.options = ["nosuid", "nodev", "noexec"]
                    .into_iter()
                    .filter(|d| !options.iter().any(|o| o == d.strip_prefix("no").unwrap_or(d)))
                    .map(str::to_owned)
                    .chain(options.iter().cloned())
                    .collect();
            }
            if view.kind == "image" {
                self.image_mount(view, dir, &mut mount)?;
            }
            if view.kind == "volume" {
                let volume = self.records().read(|tx| self.records().volume(tx, &view.name))?;
                // Other file systems are mounted on the volume's directory by the monitor.
                if let Some((kind, source, options)) = volume::driver_mount(&volume.spec)
                    && kind == "bind"
                {
                    std::fs::metadata(&source).map_err(|e| {
                        Error::io(format!("volume {}: its device {}", view.name, source.display()), e)
                            .with_hint(format!("`fluyt volume inspect {}` shows its options", view.name))
                    })?;
                    mount.kind = String::new();
                    mount.source = source;
                    mount.options =
                        options.into_iter().filter(|o| !matches!(o.as_str(), "bind" | "rbind")).collect();
                }
            }
            mounts.retain(|m: &ResolvedMount| m.target != mount.target);
            mounts.push(mount);
        }
        Ok(mounts)
    }
}

impl Engine {
    /// An image as a mount: its only layer itself, or an overlay; with a writable layer in the container's directory, if
    /// it may be written to.
    fn image_mount(&self, view: &MountView, dir: &Path, mount: &mut ResolvedMount) -> Result<()> {
        if let ([only], false) = (&view.lower[..], view.rw) {
            mount.source = only.clone();
            return Ok(());
        }
        mount.kind = "overlay".to_owned();
        mount.source = PathBuf::from("overlay");
        mount.options = overlay_options(false);
        mount.options.extend(view.lower.iter().map(|path| format!("lowerdir+={}", path.display())));
        if view.rw {
            // Named after its place, which is unique among the container's mounts.
            let name = view.target.trim_matches('/').replace('_', "__").replace('/', "_");
            let own = dir.join("images").join(name);
            for (key, sub) in [("upperdir", "upper"), ("workdir", "work")] {
                let path = own.join(sub);
                std::fs::create_dir_all(&path).about(|| path.display().to_string())?;
                mount.options.push(format!("{key}={}", path.display()));
            }
        }
        Ok(())
    }
}

/// Options of a container's overlay. Layers are read file by file elsewhere, so they must not hold redirections; and a
/// container that is thrown away in any case may lose its writable layer in a crash.
pub(crate) fn overlay_options(thrown_away: bool) -> Vec<String> {
    let mut options = vec!["redirect_dir=off".to_owned(), "metacopy=off".to_owned()];
    if thrown_away {
        options.push("volatile".to_owned());
    }
    options
}

/// Whether two words of an environment set the same variable.
fn same_variable(one: &str, other: &str) -> bool {
    one.split('=').next() == other.split('=').next()
}

/// Whether something is mounted on `dir` itself.
pub(crate) fn is_mount_point(dir: &Path) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::metadata(path).map(|m| m.dev()).about(|| path.display().to_string());
    Ok(device(dir)? != device(dir.parent().unwrap_or(dir))?)
}

/// Which plug leads out: the highest priority, else the first one with a gateway.
fn default_route(plugged: &[Plugged]) -> Option<usize> {
    let candidates = plugged
        .iter()
        .enumerate()
        .filter(|(_, p)| p.endpoint.gateway4.is_some() || p.endpoint.gateway6.is_some());
    candidates
        .max_by_key(|(index, p)| (p.attachment.gateway_priority, std::cmp::Reverse(*index)))
        .map(|(index, _)| index)
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

impl Engine {
    fn spawn_monitor(&self, dir: &Path, socket: OwnedFd, passed: bool) -> Result<Child> {
        let about = || "fluyt monitor".to_owned();
        let sealed = seal::find(self.paths.run()).about(about)?;
        let log = OpenOptions::new().append(true).create(true).open(dir.join("monitor.log"));
        let log = log.about(|| dir.join("monitor.log").display().to_string())?;
        // The child has the descriptor too, under the same number, until its exec.
        let mut command = Command::new(format!("/proc/self/fd/{}", sealed.file.as_raw_fd()));
        command.arg0("fluyt").arg("monitor").arg(dir).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut fds = vec![(socket, fluyt_monitor::STARTER_FD)];
        // The monitor is in no hurry when it ends.
        fds.extend(sealed.mount.map(|mount| (mount, fluyt_monitor::SEAL_FD)));
        if passed {
            let own = [rustix::stdio::stdout(), rustix::stdio::stderr()];
            for (fd, number) in own.into_iter().zip(fluyt_monitor::PASSED_FDS) {
                fds.push((rustix::io::fcntl_dupfd_cloexec(fd, 3).about(about)?, number));
            }
        }
        fluyt_sys::spawn::with_fds(&mut command, fds).about(about)
    }

    /// Whether a start is being prepared right now, by this process or another.
    pub(crate) fn is_starting(&self, id: &str) -> bool {
        let Ok(dir) = File::open(self.paths.container(id)) else { return false };
        rustix::fs::flock(&dir, FlockOperation::NonBlockingLockShared).is_err()
    }
}

/// Held while a start is prepared, so that two of them do not write over one another, nor a removal takes away what is
/// being started.
/// The log of a container with that directory, if its driver has a file.
pub(crate) fn log_path(dir: &Path, id: &str, spec: &SandboxSpec) -> PathBuf {
    match spec.containers.first().map_or("", |c| c.log.driver.as_str()) {
        "" | "json-file" => dir.join(format!("{id}-json.log")),
        "local" => dir.join("container.log"),
        _ => PathBuf::new(),
    }
}

fn start_lock(dir: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).open(dir).about(|| dir.display().to_string())?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive).about(|| dir.display().to_string())?;
    Ok(file)
}

/// The same for a removal, which waits for a moment only: a start that hangs must not keep anybody from removing.
pub(crate) fn removal_lock(dir: &Path) -> Option<File> {
    let file = File::open(dir).ok()?;
    for _ in 0..REMOVAL_PATIENCE {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {
                std::thread::sleep(Duration::from_millis(2));
            }
            _ => return Some(file),
        }
    }
    None
}

pub(crate) fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string(value)
        .map_err(|e| Error::internal(path.display().to_string()).with_source(e))?;
    write(path, &text)
}

/// Replaces a file's text in place: a running container has this very inode mounted.
fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).about(|| path.display().to_string())
}
