//! What each part of a project says about the others, and what excludes what.

use crate::document::{Entry, Map, Node, Pos, Value};
use crate::fault::{Fault, did_you_mean};

/// What objects say that no object of their kind may say, whatever else there is.
pub fn objects(root: &Node, faults: &mut Vec<Fault>) {
    for entry in entries(root.get("volumes")) {
        external("volumes", entry, faults);
    }
    file_objects(root, "configs", &["file", "environment", "content"], faults);
    file_objects(root, "secrets", &["file", "environment"], faults);
    for service in entries(root.get("services")) {
        let path = format!("services.{}", service.key);
        for (n, volume) in items(service.node.get("volumes")).iter().enumerate() {
            mount(&format!("{path}.volumes[{n}]"), volume, faults);
        }
        for (n, port) in items(service.node.get("ports")).iter().enumerate() {
            if port.map().is_some() && port.get("target").is_none() {
                faults.push(
                    Fault::new(port.pos, format!("{path}.ports[{n}] has no target"))
                        .hint("target is the port in the container"),
                );
            }
        }
        for gpu in items(service.node.get("gpus")) {
            if let (Some(count), Some(_)) = (gpu.get("count"), gpu.get("device_ids")) {
                faults.push(
                    Fault::new(count.pos, format!("{path}.gpus has both count and device_ids"))
                        .hint("keep one of them"),
                );
            }
        }
    }
}

fn items(node: Option<&Node>) -> &[Node] {
    node.and_then(Node::list).unwrap_or_default()
}

fn entries(node: Option<&Node>) -> impl Iterator<Item = &Entry> {
    node.and_then(Node::map).into_iter().flat_map(Map::iter)
}

fn external(section: &str, entry: &Entry, faults: &mut Vec<Fault>) {
    if entry.node.get("external").is_none_or(|e| e.value != Value::Bool(true)) {
        return;
    }
    for other in entries(Some(&entry.node)) {
        if !["name", "external"].contains(&other.key.as_str()) && !other.key.starts_with("x-") {
            faults.push(
                Fault::new(
                    other.pos,
                    format!("{section}.{} is external, so {} cannot be given", entry.key, other.key),
                )
                .hint("remove it: what is external is made by somebody else"),
            );
        }
    }
}

fn file_objects(root: &Node, section: &str, keys: &[&str], faults: &mut Vec<Fault>) {
    for entry in entries(root.get(section)) {
        let given: Vec<&Entry> =
            entries(Some(&entry.node)).filter(|e| keys.contains(&e.key.as_str())).collect();
        let path = format!("{section}.{}", entry.key);
        let list = keys.join(", ");
        if let Some(second) = given.get(1) {
            faults.push(
                Fault::new(second.pos, format!("{path} has more than one of {list}"))
                    .hint("keep one of them"),
            );
        }
        let otherwise = entry.node.get("driver").is_some() || entry.node.get("external").is_some();
        if given.is_empty() && !otherwise {
            faults.push(
                Fault::new(entry.pos, format!("{path} has none of {list}"))
                    .hint("say where its content comes from"),
            );
        }
    }
}

fn mount(path: &str, volume: &Node, faults: &mut Vec<Fault>) {
    if volume.map().is_none() {
        return;
    }
    if volume.get("target").is_none() {
        faults.push(
            Fault::new(volume.pos, format!("{path} has no target"))
                .hint("target is the path in the container"),
        );
    }
    let kind = volume.get_str("type").unwrap_or_default();
    if matches!(kind, "bind" | "image") && volume.get("source").is_none() {
        faults.push(
            Fault::new(volume.pos, format!("{path} has no source"))
                .hint(format!("a mount of type {kind} needs one")),
        );
    }
    for other in ["bind", "volume", "tmpfs", "image"] {
        if let Some(entry) = volume.map().and_then(|m| m.entry(other))
            && other != kind
            && !kind.is_empty()
        {
            faults.push(
                Fault::new(entry.pos, format!("{path} is of type {kind}, so {other} means nothing to it"))
                    .hint(format!("remove {other}, or make its type {other}")),
            );
        }
    }
}

/// What services say about one another and about the rest of the project.
pub fn services(root: &Node, disabled: &Map, faults: &mut Vec<Fault>) {
    let check = Check { root, disabled };
    for entry in entries(root.get("services")) {
        check.service(entry, faults);
    }
    check.circles(faults);
    check.container_names(faults);
}

struct Check<'a> {
    root: &'a Node,
    disabled: &'a Map,
}

impl Check<'_> {
    fn has(&self, section: &str, name: &str) -> bool {
        self.root.get(section).is_some_and(|s| s.get(name).is_some())
    }

    fn unknown(&self, section: &str, what: &str, service: &str, name: &str, pos: Pos) -> Fault {
        let fault =
            Fault::new(pos, format!("service {service:?} refers to {what} {name:?}, which is not defined"));
        let known: Vec<&str> = entries(self.root.get(section)).map(|e| e.key.as_str()).collect();
        match did_you_mean(name, known.iter().copied()) {
            Some(meant) => fault.hint(format!("did you mean {meant}?")),
            None => fault.hint(format!("define it under {section}: in the top level")),
        }
    }

    fn service(&self, entry: &Entry, faults: &mut Vec<Fault>) {
        let (name, node) = (entry.key.as_str(), &entry.node);
        if ["image", "build", "provider"].iter().all(|key| node.get(key).is_none()) {
            faults.push(
                Fault::new(entry.pos, format!("service {name:?} has neither an image nor a build"))
                    .hint("say which image it runs (image:) or how it is built (build:)"),
            );
        }
        self.build(name, node, faults);
        self.network(name, node, faults);
        self.dependencies(name, node, faults);
        self.storage(name, node, faults);
        for model in entries(node.get("models")).filter(|m| !self.has("models", &m.key)) {
            faults.push(self.unknown("models", "model", name, &model.key, model.pos));
        }
        let first = items(node.get("healthcheck").and_then(|h| h.get("test"))).first();
        if let Some(first) = first
            && !first.str().is_some_and(|t| ["CMD", "CMD-SHELL", "NONE"].contains(&t))
        {
            faults.push(
                Fault::new(
                    first.pos,
                    format!("services.{name}.healthcheck.test must begin with CMD, CMD-SHELL or NONE"),
                )
                .hint("write [\"CMD\", …] for a command, or a text for a shell"),
            );
        }
        limits(name, node, faults);
        for trigger in items(node.get("develop").and_then(|d| d.get("watch"))) {
            let action = trigger.get_str("action").unwrap_or_default();
            if trigger.get("target").is_none() && !["rebuild", "restart"].contains(&action) {
                faults.push(
                    Fault::new(
                        trigger.pos,
                        format!("services.{name}.develop.watch: {action} needs a target"),
                    )
                    .hint("target is the path in the container that files are copied to"),
                );
            }
        }
    }

    fn build(&self, name: &str, node: &Node, faults: &mut Vec<Fault>) {
        let Some(build) = node.get("build") else { return };
        if let (Some(inline), Some(file)) = (build.get("dockerfile_inline"), build.get("dockerfile")) {
            faults.push(
                Fault::new(
                    inline.pos.max(file.pos),
                    format!("service {name:?} has both dockerfile and dockerfile_inline"),
                )
                .hint("keep one of them"),
            );
        }
        for context in entries(build.get("additional_contexts")) {
            let Some(target) = context.node.str().and_then(|t| t.strip_prefix("service:")) else { continue };
            let service =
                self.root.get("services").and_then(|s| s.get(target)).or_else(|| self.disabled.get(target));
            match service {
                None => faults.push(self.unknown("services", "service", name, target, context.node.pos)),
                Some(service) if service.get("build").is_none() => faults.push(
                    Fault::new(
                        context.node.pos,
                        format!("service {name:?} builds on service {target:?}, which is not built"),
                    )
                    .hint(format!("use its image: docker-image://IMAGE, or give {target} a build")),
                ),
                Some(_) => {}
            }
        }
        let platforms = items(build.get("platforms"));
        if let Some(platform) = node.get("platform")
            && !platforms.is_empty()
            && !platforms.iter().any(|p| p.value == platform.value)
        {
            faults.push(
                Fault::new(
                    platform.pos,
                    format!("service {name:?} runs on a platform that is not among build.platforms"),
                )
                .hint("add it to build.platforms"),
            );
        }
        for secret in items(build.get("secrets")) {
            let source = secret.get_str("source").unwrap_or_default();
            if !self.has("secrets", source) {
                faults.push(self.unknown("secrets", "build secret", name, source, secret.pos));
            }
        }
    }

    fn network(&self, name: &str, node: &Node, faults: &mut Vec<Fault>) {
        let networks: Vec<&Entry> = entries(node.get("networks")).collect();
        if let (Some(mode), Some(_)) = (node.get("network_mode"), networks.first()) {
            faults.push(
                Fault::new(mode.pos, format!("service {name:?} has both network_mode and networks"))
                    .hint("keep one of them"),
            );
        }
        for network in networks.iter().filter(|n| !self.has("networks", &n.key)) {
            faults.push(self.unknown("networks", "network", name, &network.key, network.pos));
        }
    }

    fn dependencies(&self, name: &str, node: &Node, faults: &mut Vec<Fault>) {
        for on in entries(node.get("depends_on")).filter(|on| !self.has("services", &on.key)) {
            let required = on.node.get("required").is_none_or(|r| r.value != Value::Bool(false));
            match self.disabled.entry(&on.key) {
                Some(_) if !required => {}
                Some(disabled) => {
                    let profiles: Vec<&str> =
                        items(disabled.node.get("profiles")).iter().filter_map(Node::str).collect();
                    faults.push(
                        Fault::new(
                            on.pos,
                            format!(
                                "service {name:?} depends on service {:?}, whose profiles are not active",
                                on.key
                            ),
                        )
                        .hint(format!("activate one with --profile {}", profiles.join(" or --profile "))),
                    );
                }
                None if !required && node.get("depends_on").is_none() => {}
                None => faults.push(self.unknown("services", "service", name, &on.key, on.pos)),
            }
        }
    }

    fn storage(&self, name: &str, node: &Node, faults: &mut Vec<Fault>) {
        let mut mounted: Vec<(String, String)> = Vec::new();
        let mut place = |target: &str, what: String, pos: Pos, faults: &mut Vec<Fault>| {
            if let Some((_, first)) = mounted.iter().find(|(t, _)| t == target) {
                faults.push(
                    Fault::new(
                        pos,
                        format!("services.{name}.{what}: {target} is mounted already by {first}"),
                    )
                    .hint("remove one of them"),
                );
            } else {
                mounted.push((target.to_owned(), what));
            }
        };
        for (n, tmpfs) in items(node.get("tmpfs")).iter().enumerate() {
            let target = tmpfs.str().unwrap_or_default().split(':').next().unwrap_or_default();
            place(target, format!("tmpfs[{n}]"), tmpfs.pos, faults);
        }
        for (n, volume) in items(node.get("volumes")).iter().enumerate() {
            let source = volume.get("source");
            if volume.get_str("type") == Some("volume")
                && let Some(source) = source
                && let Some(text) = source.str().filter(|t| !t.is_empty())
                && !self.has("volumes", text)
            {
                let mut fault = self.unknown("volumes", "volume", name, text, source.pos);
                if text.contains('/') {
                    fault = fault.hint(format!("a path of the host begins with ./ or /: ./{text}"));
                }
                faults.push(fault);
            }
            place(volume.get_str("target").unwrap_or_default(), format!("volumes[{n}]"), volume.pos, faults);
        }
        for (section, what) in [("configs", "config"), ("secrets", "secret")] {
            for reference in items(node.get(section)) {
                let source = reference.get_str("source").unwrap_or_default();
                if !self.has(section, source) {
                    faults.push(self.unknown(section, what, name, source, reference.pos));
                }
            }
        }
    }

    /// Services that need one another.
    fn circles(&self, faults: &mut Vec<Fault>) {
        let services: Vec<&Entry> = entries(self.root.get("services")).collect();
        let mut state: Vec<u8> = vec![0; services.len()];
        for start in 0..services.len() {
            if state[start] == 0 {
                let mut trail = Vec::new();
                if let Some(fault) = visit(&services, start, &mut state, &mut trail) {
                    faults.push(fault);
                    return;
                }
            }
        }
    }

    fn container_names(&self, faults: &mut Vec<Fault>) {
        let mut seen: Vec<(&str, &str)> = Vec::new();
        for entry in entries(self.root.get("services")) {
            let Some(node) = entry.node.get("container_name") else { continue };
            let name = node.str().unwrap_or_default();
            match seen.iter().find(|(n, _)| *n == name) {
                Some((_, other)) => faults.push(
                    Fault::new(
                        node.pos,
                        format!(
                            "services {other:?} and {:?} have the same container_name {name:?}",
                            entry.key
                        ),
                    )
                    .hint("names of containers are unique: change one of them"),
                ),
                None => seen.push((name, &entry.key)),
            }
        }
    }
}

fn visit(services: &[&Entry], at: usize, state: &mut [u8], trail: &mut Vec<usize>) -> Option<Fault> {
    state[at] = 1;
    trail.push(at);
    for on in entries(services[at].node.get("depends_on")) {
        let Some(next) = services.iter().position(|s| s.key == on.key) else { continue };
        if state[next] == 1 {
            let from = trail.iter().position(|t| *t == next).unwrap_or(0);
            let mut names: Vec<&str> = trail[from..].iter().map(|t| services[*t].key.as_str()).collect();
            names.push(&services[next].key);
            return Some(
                Fault::new(
                    on.pos,
                    format!("services depend on one another in a circle: {}", names.join(" -> ")),
                )
                .hint("take one dependency out of the circle"),
            );
        }
        if state[next] == 0
            && let Some(fault) = visit(services, next, state, trail)
        {
            return Some(fault);
        }
    }
    trail.pop();
    state[at] = 2;
    None
}

/// What can be said in two ways must be said alike.
fn limits(name: &str, node: &Node, faults: &mut Vec<Fault>) {
    let deploy = node.get("deploy");
    let resources = deploy.and_then(|d| d.get("resources"));
    let limit = |key: &str| resources.and_then(|r| r.get("limits")).and_then(|l| l.get(key));
    let reservation = |key: &str| resources.and_then(|r| r.get("reservations")).and_then(|l| l.get(key));
    let replicas = deploy.and_then(|d| d.get("replicas"));
    for (first, second, other) in [
        ("scale", "deploy.replicas", replicas),
        ("cpus", "deploy.resources.limits.cpus", limit("cpus")),
        ("mem_limit", "deploy.resources.limits.memory", limit("memory")),
        ("mem_reservation", "deploy.resources.reservations.memory", reservation("memory")),
        ("pids_limit", "deploy.resources.limits.pids", limit("pids")),
    ] {
        if let (Some(a), Some(b)) = (node.get(first), other)
            && a.value != b.value
        {
            faults.push(
                Fault::new(a.pos, format!("services.{name}: {first} and {second} have different values"))
                    .hint("remove one of them"),
            );
        }
    }
    let scale = node.get("scale").or(replicas);
    if let (Some(Node { value: Value::Int(n), .. }), Some(container)) = (scale, node.get("container_name"))
        && *n > 1
    {
        faults.push(
            Fault::new(container.pos, format!("services.{name} has container_name and {n} containers"))
                .hint("names of containers are unique: remove container_name"),
        );
    }
}
