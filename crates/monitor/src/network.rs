//! The container's plugs: bridges ensured, links attached, ports published, the resolver opened.
//!
//! Runs between clone and exec, while the child mounts. What it decides nothing about: addresses and ports come
//! from the engine's plan.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use std::path::Path;

use fluyt_model::error::IoContext;
use fluyt_model::sandbox::PortMapping;
use fluyt_model::{Error, Kind, Result};
use fluyt_net::{Firewall, Reservation, Scope};
use fluyt_runtime::Starting;
use rustix::fs::FlockOperation;

use crate::spec::{MonitorSpec, NetworkPlan};

/// What a container holds while it is plugged in.
#[derive(Default)]
pub struct Wired {
    /// The published ports as they were chosen.
    pub ports: Vec<PortMapping>,
    /// Bound sockets that keep others from taking them.
    pub reserved: Vec<Reservation>,
    /// The resolver.
    pub dns: Option<fluyt_net::dns::Server>,
    /// The network namespace.
    pub netns: Option<OwnedFd>,
}

impl Wired {
    /// Plugs the container in.
    ///
    /// # Errors
    /// A port is taken, an address clashes, the kernel objects. Nothing stays behind on the host.
    pub fn up(spec: &MonitorSpec, starting: &Starting, firewall: &mut Option<Firewall>) -> Result<Self> {
        let plan = &spec.network;
        if plan.joined {
            return Self::join(spec, starting);
        }
        if !plan.own {
            return Ok(Self::default());
        }
        let netns = starting.netns()?;
        plug(plan, &netns, firewall)?;
        let dns = plan
            .dns
            .as_ref()
            .map(|config| fluyt_net::dns::Server::open(netns.as_fd(), config))
            .transpose()?;
        let (ports, reserved) = choose(plan)?;
        publish(plan, &spec.id, &ports, firewall)?;
        Ok(Self { netns: Some(netns), dns, ports, reserved })
    }

    /// A pod's part for one member: beside its siblings, each as good as the other.
    fn join(spec: &MonitorSpec, starting: &Starting) -> Result<Self> {
        let (plan, netns) = (&spec.network, starting.netns()?);
        // A sibling's program may have the port for itself: then that is who answers.
        let dns = plan.dns.as_ref().and_then(|c| fluyt_net::dns::Server::open_beside(netns.as_fd(), c).ok());
        // They lead into the pod in any case; this keeps others on the host from taking them.
        let reserved =
            plan.ports.iter().filter_map(|p| fluyt_net::reserve_beside(&lowered(p)).ok()).collect();
        Ok(Self { ports: plan.ports.clone(), reserved, dns, netns: Some(netns) })
    }

    /// Takes back what the host knows of it, after a start that failed.
    pub fn down(self, spec: &MonitorSpec, firewall: &mut Option<Firewall>) {
        // The failure of the start is what is reported; what stays here is found by the next reconciliation.
        let _ = unpublish(spec, &self.ports, firewall);
    }
}

/// Makes the bridges and the links of a plan.
fn plug(plan: &NetworkPlan, netns: &OwnedFd, firewall: &mut Option<Firewall>) -> Result<()> {
    let scope = Scope::new(plan.scope.clone());
    for bridge in &plan.bridges {
        connected(firewall)?.ensure_bridge(&scope, bridge)?;
    }
    if plan.endpoints.is_empty() {
        fluyt_net::loopback_up(netns.as_fd())?;
    }
    for plug in &plan.endpoints {
        fluyt_net::attach(&plug.endpoint, netns.as_fd())?;
    }
    Ok(())
}

/// The ports as they were chosen, and what holds them.
pub type Published = (Vec<PortMapping>, Vec<Reservation>);

/// Takes the host's side of a plan's ports, which are not published yet.
///
/// # Errors
/// A port is taken.
pub fn choose(plan: &NetworkPlan) -> Result<Published> {
    let (mut ports, mut reserved) = (Vec::new(), Vec::new());
    for wanted in &plan.ports {
        let (port, reservation) = reserve(wanted)?;
        reserved.push(reservation);
        ports.push(port);
    }
    Ok((ports, reserved))
}

/// Publishes chosen ports in the name of `owner`.
fn publish(
    plan: &NetworkPlan,
    owner: &str,
    ports: &[PortMapping],
    firewall: &mut Option<Firewall>,
) -> Result<()> {
    if ports.is_empty() {
        return Ok(());
    }
    connected(firewall)?.publish(&Scope::new(plan.scope.clone()), owner, &mappings(plan, ports))
}

/// Plugs in the network namespace `netns` of a pod, without any container, and publishes its ports, which were chosen before,
/// in the name of `owner`.
///
/// # Errors
/// An address clashes, the kernel objects.
pub fn set_up(plan: &NetworkPlan, owner: &str, netns: &OwnedFd) -> Result<()> {
    let mut firewall = None;
    plug(plan, netns, &mut firewall)?;
    publish(plan, owner, &plan.ports, &mut firewall)
}

/// Takes the ports of a plan back that `owner` published.
///
/// # Errors
/// The kernel objects.
pub fn take_back(plan: &NetworkPlan, owner: &str) -> Result<()> {
    let scope = Scope::new(plan.scope.clone());
    Firewall::open()?.unpublish(&scope, owner, &mappings(plan, &plan.ports))
}

/// The connection to the firewall, opened when it is first needed.
fn connected(firewall: &mut Option<Firewall>) -> Result<&mut Firewall> {
    match firewall {
        Some(open) => Ok(open),
        none => Ok(none.insert(Firewall::open()?)),
    }
}

/// Which data root's links and tables the container's are.
pub fn scope(spec: &MonitorSpec) -> Scope {
    Scope::new(spec.network.scope.clone())
}

/// Binds the host's side of `wanted`, choosing a port from its range.
fn reserve(wanted: &PortMapping) -> Result<(PortMapping, Reservation)> {
    let last = wanted.host_port_end.max(wanted.host_port);
    let mut refused = Error::new(Kind::Conflict, "no port to choose from");
    for host_port in wanted.host_port..=last {
        let candidate = PortMapping { host_port, host_port_end: 0, ..wanted.clone() };
        match fluyt_net::reserve(&lowered(&candidate)) {
            Ok(reservation) => {
                return Ok((PortMapping { host_port: reservation.port, ..candidate }, reservation));
            }
            Err(e) => refused = e,
        }
    }
    Err(refused)
}

fn lowered(port: &PortMapping) -> fluyt_net::PortMapping {
    fluyt_net::PortMapping {
        host_ip: port.host_ip,
        host_port: port.host_port,
        container_port: port.container_port,
        protocol: port.protocol,
        target_v4: None,
        target_v6: None,
    }
}

/// The published ports with the addresses they lead to: those of the first plug.
fn mappings(plan: &NetworkPlan, ports: &[PortMapping]) -> Vec<fluyt_net::PortMapping> {
    let addresses = plan.endpoints.first().map(|p| p.endpoint.addresses.as_slice()).unwrap_or_default();
    let v4 = addresses.iter().find_map(|c| if let IpAddr::V4(a) = c.addr() { Some(a) } else { None });
    let v6 = addresses.iter().find_map(|c| if let IpAddr::V6(a) = c.addr() { Some(a) } else { None });
    ports.iter().map(|p| fluyt_net::PortMapping { target_v4: v4, target_v6: v6, ..lowered(p) }).collect()
}

/// Takes the published ports back.
///
/// # Errors
/// The kernel objects.
pub fn unpublish(spec: &MonitorSpec, ports: &[PortMapping], firewall: &mut Option<Firewall>) -> Result<()> {
    if ports.is_empty() || !spec.network.own {
        return Ok(());
    }
    connected(firewall)?.unpublish(&scope(spec), &spec.id, &mappings(&spec.network, ports))
}

/// Takes the container's addresses out of the names of its networks: who asks learns that it is not there.
///
/// # Errors
/// A file cannot be replaced; the engine writes it anew at the next start on that network.
pub fn withdraw(spec: &MonitorSpec) -> Result<()> {
    let own: Vec<String> = spec
        .network
        .endpoints
        .iter()
        .flat_map(|p| &p.endpoint.addresses)
        .map(|c| c.addr().to_string())
        .collect();
    if own.is_empty() {
        return Ok(());
    }
    for path in spec.network.dns.iter().flat_map(|dns| &dns.names) {
        let about = || path.display().to_string();
        let _writing = names_lock(path)?;
        let text = match std::fs::read_to_string(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.about(about)?,
        };
        let mut changed = String::with_capacity(text.len());
        for line in text.lines() {
            match line.split_once(' ') {
                Some((address, names)) if own.iter().any(|a| a == address) => {
                    names.split(' ').for_each(|name| changed.push_str(&format!("- {name}\n")));
                }
                _ => changed.push_str(&format!("{line}\n")),
            }
        }
        let temporary = path.with_extension(std::process::id().to_string());
        std::fs::write(&temporary, changed).about(about)?;
        std::fs::rename(&temporary, path).about(about)?;
    }
    Ok(())
}

/// Held by whoever writes the names of a network.
///
/// # Errors
/// The directory is missing.
pub fn names_lock(names: &Path) -> Result<File> {
    let dir = names.parent().unwrap_or(names);
    let file = File::open(dir).about(|| dir.display().to_string())?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive).about(|| dir.display().to_string())?;
    Ok(file)
}
