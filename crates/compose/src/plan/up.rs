//! The plan of `up`, `create`, `scale`.

use std::collections::{BTreeMap, BTreeSet};

use fluyt_model::{Error, Result};

use super::{Action, Condition, Container, Network, Observed, Plan};
use crate::document::Node;
use crate::lower::{container_name, is_external, network_of, resource_name};
use crate::project::Project;
use crate::view::View;

/// When containers are made anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recreate {
    /// When they are not as the files say.
    #[default]
    Diverged,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Up {
    /// The services that were named; the others are there because these need them. Empty: all.
    pub services: Vec<String>,
    /// For those services.
    pub recreate: Recreate,
    /// For the services that they need.
    pub recreate_dependencies: Recreate,
    /// Numbers of containers that are not those of the files.
    pub scale: BTreeMap<String, u32>,
    /// Containers of services that are not in the files are removed.
    pub remove_orphans: bool,
    /// Containers that are made anew get new anonymous volumes.
    pub renew_anonymous_volumes: bool,
    /// Containers are not started.
    pub no_start: bool,
    /// In the end the services run and are healthy.
    pub wait: bool,
}

/// The plan after which the project is as its files say.
///
/// # Errors
/// An external network or volume is not there; a service has a `container_name` and more than one container.
pub fn up(project: &Project, observed: &Observed, wanted: &Up) -> Result<Plan> {
    let mut planner = Planner {
        project,
        observed,
        wanted,
        plan: Plan::default(),
        networks: BTreeMap::new(),
        volumes: BTreeMap::new(),
        renewed: BTreeSet::new(),
        gone: BTreeMap::new(),
        made: BTreeMap::new(),
        started: BTreeMap::new(),
        remade: BTreeSet::new(),
        hooked: BTreeMap::new(),
    };
    if wanted.remove_orphans {
        planner.orphans();
    }
    planner.networks()?;
    planner.volumes()?;
    for service in in_order(project) {
        planner.service(service)?;
    }
    if wanted.wait {
        let own = |s: &&str| project.service(s).is_some_and(|n| n.get("provider").is_none());
        for service in in_order(project).into_iter().filter(own) {
            planner.wait_for(service, Condition::RunningOrHealthy, true, "asked to wait");
        }
    }
    Ok(planner.plan)
}

/// The services, each after those that it depends on, otherwise by name.
pub fn in_order(project: &Project) -> Vec<&str> {
    fn visit<'p>(project: &'p Project, name: &'p str, out: &mut Vec<&'p str>, seen: &mut BTreeSet<&'p str>) {
        if !seen.insert(name) {
            return;
        }
        if let Some(node) = project.service(name) {
            for (on, _) in node.entries("depends_on") {
                visit(project, on, out, seen);
            }
            out.push(name);
        }
    }
    let (mut out, mut seen) = (Vec::new(), BTreeSet::new());
    for name in project.services() {
        visit(project, name, &mut out, &mut seen);
    }
    out
}

struct Planner<'a> {
    project: &'a Project,
    observed: &'a Observed,
    wanted: &'a Up,
    plan: Plan,
    /// Steps that make networks and volumes, by key.
    networks: BTreeMap<String, usize>,
    volumes: BTreeMap<String, usize>,
    /// Names of networks that are made anew.
    renewed: BTreeSet<String>,
    /// Steps that removed containers which were in the way, by id.
    gone: BTreeMap<String, usize>,
    /// The steps after which each service's containers are there under their names.
    made: BTreeMap<String, Vec<usize>>,
    /// The last steps of each service's containers.
    started: BTreeMap<String, Vec<usize>>,
    /// Services some container of which is made anew.
    remade: BTreeSet<String>,
    /// Services whose hooks run before they start, and the step that runs them.
    hooked: BTreeMap<String, Option<usize>>,
}

impl Planner<'_> {
    fn orphans(&mut self) {
        for container in &self.observed.containers {
            let known = self.project.service(&container.service).is_some()
                || self.project.disabled.contains_key(&container.service);
            if !known {
                let cause = format!("the files have no service {}", container.service);
                self.remove(container, &cause, false);
            }
        }
    }

    /// Stops and removes a container; the step after which it is gone.
    fn remove(&mut self, container: &Container, cause: &str, volumes: bool) -> usize {
        let (id, name) = (container.id.clone(), container.name.clone());
        let mut after = Vec::new();
        if container.is_up() {
            let service = container.service.clone();
            let stop = Action::StopContainer { id: id.clone(), name: name.clone(), service };
            after.push(self.plan.add(stop, cause, []));
        }
        let step = self.plan.add(Action::RemoveContainer { id: id.clone(), name, volumes }, cause, after);
        self.gone.insert(id, step);
        step
    }

    /// Keys of networks that services use.
    fn used_networks(&self) -> BTreeSet<String> {
        let services = self.project.services().into_iter().filter_map(|s| self.project.service(s));
        services.flat_map(|node| network_of(self.project, node)).map(|(key, _)| key).collect()
    }

    fn networks(&mut self) -> Result<()> {
        for key in self.used_networks() {
            let name = resource_name(self.project, "networks", &key);
            let found = self.observed.network(&name);
            if is_external(self.project, "networks", &key) {
                let predefined = ["bridge", "host", "none"].contains(&name.as_str());
                if found.is_none() && !predefined {
                    return Err(Error::not_found(format!(
                        "network {name} is external, but there is none of that name"
                    ))
                    .with_hint(format!("make it: fluyt network create {name}")));
                }
                continue;
            }
            let Some(found) = found.cloned() else {
                let step = self.plan.add(Action::CreateNetwork(key.clone()), "there is no such network", []);
                self.networks.insert(key, step);
                continue;
            };
            let hash = self.project.hash_of_network(&key).unwrap_or_default();
            if found.key.is_empty() || found.hash.is_empty() || found.hash == hash {
                continue;
            }
            self.renew(&key, &found)?;
        }
        Ok(())
    }

    /// A network is made anew. Nobody may be in it meanwhile: containers that this plan makes anew go before, the
    /// project's others leave it and come back.
    fn renew(&mut self, key: &str, network: &Network) -> Result<()> {
        let name = network.name.clone();
        let own = |id: &String| self.observed.containers.iter().any(|c| c.id == *id);
        let strangers: Vec<&str> =
            network.members.iter().filter(|(id, _)| !own(id)).map(|(_, name)| name.as_str()).collect();
        if let Some(first) = strangers.first() {
            return Err(Error::conflict(format!(
                "network {name} has to be made anew, but containers that are not of this project are in it: {}",
                strangers.join(", ")
            ))
            .with_hint(format!("take them out first: fluyt network disconnect {name} {first}")));
        }
        let cause = format!("network {name} has another configuration than before");
        let (mut after, mut back) = (Vec::new(), Vec::new());
        for container in self.observed.containers.iter().filter(|c| c.networks.contains_key(&name)) {
            if let Some(gone) = self.gone.get(&container.id) {
                after.push(*gone);
            } else if self.project.service(&container.service).is_some() && !container.one_off {
                after.push(self.remove(container, &cause, false));
            } else {
                let (id, name) = (container.id.clone(), container.name.clone());
                let network = network.name.clone();
                after.push(self.plan.add(Action::Disconnect { network, id, name }, cause.clone(), []));
                back.push(container);
            }
        }
        let removed = self.plan.add(Action::RemoveNetwork(name.clone()), cause.clone(), after);
        let made = self.plan.add(Action::CreateNetwork(key.to_owned()), cause.clone(), [removed]);
        for container in back {
            let aliases = if container.one_off { Vec::new() } else { vec![container.service.clone()] };
            let (id, name) = (container.id.clone(), container.name.clone());
            let connect = Action::Connect { network: key.to_owned(), id, name, aliases };
            self.plan.add(connect, cause.clone(), [made]);
        }
        self.networks.insert(key.to_owned(), made);
        self.renewed.insert(name);
        Ok(())
    }

    fn volumes(&mut self) -> Result<()> {
        for key in self.project.names("volumes") {
            let name = resource_name(self.project, "volumes", key);
            if self.observed.volume(&name).is_some() {
                continue;
            }
            if is_external(self.project, "volumes", key) {
                if self.uses_volume(key) {
                    return Err(Error::not_found(format!(
                        "volume {name} is external, but there is none of that name"
                    ))
                    .with_hint(format!("make it: fluyt volume create {name}")));
                }
                continue;
            }
            if self.uses_volume(key) {
                let step = self.plan.add(Action::CreateVolume(key.to_owned()), "there is no such volume", []);
                self.volumes.insert(key.to_owned(), step);
            }
        }
        Ok(())
    }

    fn uses_volume(&self, key: &str) -> bool {
        let services = self.project.services().into_iter().filter_map(|s| self.project.service(s));
        services
            .flat_map(|node| node.items("volumes"))
            .any(|v| v.text("type") == "volume" && v.text("source") == key)
    }

    fn scale(&self, service: &str, node: &Node) -> Result<u32> {
        let given = self.wanted.scale.get(service).copied();
        let written = node.int("scale").or_else(|| node.get("deploy").and_then(|d| d.int("replicas")));
        let scale = given.or_else(|| written.and_then(|n| u32::try_from(n).ok())).unwrap_or(1);
        let name = node.text("container_name");
        if scale > 1 && !name.is_empty() {
            return Err(Error::invalid(format!(
                "service {service} has container_name {name}, so it cannot have {scale} containers"
            ))
            .with_hint("remove container_name: names of containers are unique"));
        }
        Ok(scale)
    }

    fn service(&mut self, service: &str) -> Result<()> {
        let Some(node) = self.project.service(service) else { return Ok(()) };
        // It is no container: its provider has been asked before.
        if node.get("provider").is_some() {
            return Ok(());
        }
        let scale = self.scale(service, node)? as usize;
        let there: Vec<Container> = self.observed.of(service).into_iter().cloned().collect();
        let there: Vec<Container> =
            there.into_iter().filter(|c| !self.gone.contains_key(&c.id) || self.was_member(c)).collect();
        let reasons: Vec<Option<String>> = there.iter().map(|c| self.reason(service, node, c)).collect();
        // Those that are not as they should be go first when there are too many, then the newest.
        let mut order: Vec<usize> = (0..there.len()).collect();
        order.sort_by_key(|i| {
            (reasons[*i].is_some() && self.recreate(service) != Recreate::Never, there[*i].number)
        });
        let mut kept: Vec<usize> = Vec::new();
        for i in order {
            // A run that was interrupted has left two of one number: one of them goes however many are wanted.
            let taken = kept.iter().any(|k| there[*k].number == there[i].number);
            if kept.len() < scale && !taken {
                kept.push(i);
            } else if !self.gone.contains_key(&there[i].id) {
                let cause = match taken {
                    true => format!("service {service} has two containers of number {}", there[i].number),
                    false => format!("service {service} has {} containers, {scale} are wanted", there.len()),
                };
                self.remove(&there[i], &cause, false);
            }
        }
        let runs = |i: &usize| there[*i].is_up() && reasons[*i].is_none();
        if !kept.iter().any(runs) && !node.items("pre_start").is_empty() {
            self.hooked.insert(service.to_owned(), None);
        }
        let before = self.before(service, node);
        kept.sort_unstable();
        let missing = scale.saturating_sub(kept.len());
        let mut last: Vec<usize> = Vec::new();
        for i in kept {
            last.extend(self.existing(service, &there[i], reasons[i].as_deref(), &before));
        }
        let highest = there.iter().map(|c| c.number).max().unwrap_or(0);
        for n in 0..missing {
            let number = highest + 1 + u32::try_from(n).unwrap_or(0);
            let cause = format!("service {service} has {} of {scale} containers", there.len());
            let create =
                Action::CreateContainer { service: service.to_owned(), number, replaces: None, aside: false };
            let created = self.plan.add(create, &cause, before.create.iter().copied());
            self.made.entry(service.to_owned()).or_default().push(created);
            last.push(self.start(service, number, &cause, created, &before));
        }
        self.started.insert(service.to_owned(), last);
        Ok(())
    }

    /// Whether a container was removed only because its network is made anew.
    fn was_member(&self, container: &Container) -> bool {
        container.networks.keys().any(|name| self.renewed.contains(name))
    }

    fn recreate(&self, service: &str) -> Recreate {
        let named = self.wanted.services.is_empty() || self.wanted.services.iter().any(|s| s == service);
        if named { self.wanted.recreate } else { self.wanted.recreate_dependencies }
    }

    /// Why a container must be made anew.
    fn reason(&self, service: &str, node: &Node, container: &Container) -> Option<String> {
        if self.was_member(container) && self.gone.contains_key(&container.id) {
            return Some("its network is made anew".to_owned());
        }
        match self.recreate(service) {
            Recreate::Never => return None,
            Recreate::Always => return Some("asked to make it anew".to_owned()),
            Recreate::Diverged => {}
        }
        if container.hash != self.project.hash(service).unwrap_or_default() {
            return Some(format!("the configuration of {service} has changed"));
        }
        if let Some(image) = self.observed.images.get(service)
            && !container.image.is_empty()
            && *image != container.image
        {
            let name = self.project.image(service).unwrap_or_default();
            return Some(format!("{name} is another image now"));
        }
        for (_, name) in network_of(self.project, node) {
            let there = self.observed.network(&name);
            let id = container.networks.get(&name);
            let differs =
                there.is_some_and(|n| id.is_some_and(|id| !id.is_empty() && !n.id.is_empty() && *id != n.id));
            if id.is_none() || there.is_none() || differs {
                return Some(format!("it is not in network {name}"));
            }
        }
        for volume in node.items("volumes").iter().filter(|v| v.text("type") == "volume") {
            let source = volume.text("source");
            let name = resource_name(self.project, "volumes", &source);
            let mounted = container.volumes.get(&volume.text("target"));
            if !source.is_empty() && mounted.is_some_and(|m| *m != name) {
                return Some(format!("it does not have volume {name}"));
            }
        }
        shares_with(node)
            .into_iter()
            .find(|other| self.remade.contains(other))
            .map(|other| format!("it shares with {other}, which is made anew"))
    }

    /// What must be done before containers of a service are made, and before they are started.
    fn before(&mut self, service: &str, node: &Node) -> Before {
        let mut create: Vec<usize> = Vec::new();
        for (key, _) in network_of(self.project, node) {
            create.extend(self.networks.get(&key));
        }
        for volume in node.items("volumes") {
            create.extend(self.volumes.get(&volume.text("source")));
        }
        let mut start = Vec::new();
        for (on, how) in node.entries("depends_on") {
            let condition = match how.text("condition").as_str() {
                "service_healthy" => Condition::Healthy,
                "service_completed_successfully" => Condition::Completed,
                _ => Condition::Started,
            };
            let required = how.maybe("required") != Some(false);
            if self.project.service(on).is_none_or(|n| n.get("provider").is_some()) {
                continue;
            }
            let steps = self.started.get(on).cloned().unwrap_or_default();
            if condition == Condition::Started {
                start.extend(&steps);
            }
            if condition != Condition::Started {
                self.needs(service, on, condition, required, &mut start);
            }
        }
        let links = node.texts("links").into_iter();
        let links = links.map(|l| l.split(':').next().unwrap_or_default().to_owned());
        for other in shares_with(node).into_iter().chain(links) {
            create.extend(self.made.get(&other).into_iter().flatten());
        }
        Before { create, start }
    }

    fn needs(
        &mut self,
        service: &str,
        on: &str,
        condition: Condition,
        required: bool,
        start: &mut Vec<usize>,
    ) {
        // A wait is planned only where somebody is started after it: see `start`.
        let found = self
            .plan
            .steps
            .iter()
            .position(|s| s.action == Action::Wait { service: on.to_owned(), condition, required });
        match found {
            Some(step) => start.push(step),
            None if self.will_start(service) => {
                let cause = format!("{service} depends on it");
                let after = self.started.get(on).cloned().unwrap_or_default();
                let action = Action::Wait { service: on.to_owned(), condition, required };
                start.push(self.plan.add(action, cause, after));
            }
            None => {}
        }
    }

    /// Whether a container of a service will be started.
    fn will_start(&self, service: &str) -> bool {
        if self.wanted.no_start {
            return false;
        }
        let Some(node) = self.project.service(service) else { return false };
        let there = self.observed.of(service);
        let scale = self.scale(service, node).unwrap_or(1) as usize;
        there.len() < scale
            || there.iter().any(|c| {
                !c.is_up() || self.gone.contains_key(&c.id) || self.reason(service, node, c).is_some()
            })
            || node
                .entries("depends_on")
                .iter()
                .any(|(on, how)| how.flag("restart") && self.remade.contains(*on))
    }

    /// The last step of a container that is there, if anything is done to it.
    fn existing(
        &mut self,
        service: &str,
        container: &Container,
        reason: Option<&str>,
        before: &Before,
    ) -> Option<usize> {
        let number = container.number;
        let Some(reason) = reason else {
            return self.keep(service, container, before);
        };
        self.remade.insert(service.to_owned());
        let create = |aside: bool| Action::CreateContainer {
            service: service.to_owned(),
            number,
            replaces: Some(container.id.clone()),
            aside,
        };
        let removed_already = self.gone.get(&container.id).copied();
        let named = if let Some(gone) = removed_already {
            self.plan.add(create(false), reason, before.create.iter().copied().chain([gone]))
        } else {
            let created = self.plan.add(create(true), reason, before.create.iter().copied());
            let mut after = created;
            if container.is_up() {
                let stop = Action::StopContainer {
                    id: container.id.clone(),
                    name: container.name.clone(),
                    service: service.to_owned(),
                };
                after = self.plan.add(stop, reason, [created]);
            }
            let volumes = self.wanted.renew_anonymous_volumes;
            let remove =
                Action::RemoveContainer { id: container.id.clone(), name: container.name.clone(), volumes };
            let removed = self.plan.add(remove, reason, [after]);
            let after = self.gone_before(service, container).into_iter().chain([removed]);
            self.plan.add(Action::RenameContainer { service: service.to_owned(), number }, reason, after)
        };
        self.made.entry(service.to_owned()).or_default().push(named);
        if self.wanted.no_start {
            return Some(named);
        }
        Some(self.start(service, number, reason, named, before))
    }

    fn keep(&mut self, service: &str, container: &Container, before: &Before) -> Option<usize> {
        if self.wanted.no_start {
            return None;
        }
        let number = container.number;
        let mut after = self.gone_before(service, container);
        if is_aside(&container.name, &container_name(self.project, service, number)) {
            let rename = Action::RenameContainer { service: service.to_owned(), number };
            after = vec![self.plan.add(rename, "it was made to take another's place", after)];
        }
        let start = Action::StartContainer { service: service.to_owned(), number };
        if !container.is_up() {
            let cause = format!("it is {}", container.state);
            let after = self.hooks(service, number, before.start.iter().copied().chain(after).collect());
            return Some(self.plan.add(start, cause, after));
        }
        let node = self.project.service(service)?;
        let on = node
            .entries("depends_on")
            .into_iter()
            .find(|(on, how)| how.flag("restart") && self.remade.contains(*on))?
            .0
            .to_owned();
        let cause = format!("it restarts with {on}, which is made anew");
        let stop = Action::StopContainer {
            id: container.id.clone(),
            name: container.name.clone(),
            service: service.to_owned(),
        };
        let stopped = self.plan.add(stop, &cause, before.start.iter().copied());
        Some(self.plan.add(start, cause, [stopped]))
    }

    /// Removals of other containers that have the number of this one.
    fn gone_before(&self, service: &str, container: &Container) -> Vec<usize> {
        let same = self.observed.of(service).into_iter().filter(|c| c.number == container.number);
        same.filter(|c| c.id != container.id).filter_map(|c| self.gone.get(&c.id).copied()).collect()
    }

    fn start(&mut self, service: &str, number: u32, cause: &str, created: usize, before: &Before) -> usize {
        if self.wanted.no_start {
            return created;
        }
        let action = Action::StartContainer { service: service.to_owned(), number };
        let after = self.hooks(service, number, before.start.iter().copied().chain([created]).collect());
        self.plan.add(action, cause, after)
    }

    /// What a start comes after: with the hooks of the service, if none of its containers runs.
    fn hooks(&mut self, service: &str, number: u32, mut after: Vec<usize>) -> Vec<usize> {
        match self.hooked.get(service).copied() {
            None => {}
            Some(Some(step)) => after.push(step),
            Some(None) => {
                let action = Action::PreStart { service: service.to_owned(), number };
                let step = self.plan.add(action, "none of its containers runs", after.iter().copied());
                self.hooked.insert(service.to_owned(), Some(step));
                after.push(step);
            }
        }
        after
    }

    fn wait_for(&mut self, service: &str, condition: Condition, required: bool, cause: &str) {
        let completes =
            self.project.services().into_iter().filter_map(|s| self.project.service(s)).any(|n| {
                n.entries("depends_on").iter().any(|(on, how)| {
                    *on == service && how.text("condition") == "service_completed_successfully"
                })
            });
        let condition = if completes { Condition::Completed } else { condition };
        let after = self.started.get(service).cloned().unwrap_or_default();
        self.plan.add(Action::Wait { service: service.to_owned(), condition, required }, cause, after);
    }
}

/// Whether a container has the name for the meantime that a run which was interrupted has left it.
fn is_aside(name: &str, wanted: &str) -> bool {
    name.strip_suffix(wanted)
        .and_then(|before| before.strip_suffix('_'))
        .is_some_and(|id| id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The services whose namespaces or volumes containers of a service have: theirs must be there before.
fn shares_with(node: &Node) -> Vec<String> {
    let modes = ["network_mode", "ipc", "pid", "uts", "cgroup"].map(|key| node.text(key));
    let modes = modes.iter().filter_map(|mode| mode.strip_prefix("service:").map(str::to_owned));
    let from = node.texts("volumes_from").into_iter();
    let from = from.map(|v| v.split(':').next().unwrap_or_default().to_owned());
    modes.chain(from).collect()
}

/// See [`Planner::before`].
struct Before {
    create: Vec<usize>,
    start: Vec<usize>,
}
