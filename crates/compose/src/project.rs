//! A loaded project: its tree, in order and complete, and the outputs that are made of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::document::{Map, Node, Pos, Value, write};
use crate::load::{Environment, natural_order};
use crate::schema::{FILE, Shape};

/// A project, loaded.
#[derive(Clone, Debug)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: PathBuf,
    /// Its files, absolute.
    pub files: Vec<PathBuf>,
    /// The variables that its files were filled in with.
    pub environment: Environment,
    /// Every profile that its files name.
    pub all_profiles: Vec<String>,
    /// Everything of it, in the canonical form and order; services that take no part are not in it.
    pub tree: Node,
    /// The services that take no part, by name.
    pub disabled: BTreeMap<String, Node>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Project {
    fn section(&self, key: &str) -> impl Iterator<Item = (&str, &Node)> {
        self.tree
            .get(key)
            .and_then(Node::map)
            .into_iter()
            .flat_map(Map::iter)
            .map(|e| (e.key.as_str(), &e.node))
    }

    /// Names of services, sorted.
    pub fn services(&self) -> Vec<&str> {
        self.section("services").map(|(name, _)| name).collect()
    }

    /// The tree of a service.
    pub fn service(&self, name: &str) -> Option<&Node> {
        self.tree.get("services")?.get(name)
    }

    /// Names of networks, volumes, models, …, sorted.
    pub fn names(&self, section: &str) -> Vec<&str> {
        self.section(section).map(|(name, _)| name).collect()
    }

    /// The image of a service: its own, or the name that a build is given.
    pub fn image(&self, service: &str) -> Option<String> {
        let node = self.service(service)?;
        match node.get_str("image") {
            Some(image) => Some(image.to_owned()),
            None => node.get("build").map(|_| format!("{}-{service}", self.name)),
        }
    }

    /// The project as YAML, as `docker compose config` prints it.
    pub fn yaml(&self) -> String {
        let mut tree = self.tree.clone();
        natural_order(&Shape::Object(&FILE), &mut tree);
        write::yaml(&services_always(tree))
    }

    /// The project as JSON, as `docker compose config --format json` prints it.
    pub fn json(&self) -> String {
        let mut tree = services_always(self.tree.clone());
        if let Some(map) = tree.map_mut() {
            map.remove("models");
            each(map, "services", as_json_service);
            each(map, "networks", |network| {
                if network.get("ipam").is_none() {
                    insert_before(
                        network,
                        "ipam",
                        &["external", "internal", "attachable", "labels", "enable_ipv4", "enable_ipv6"],
                        empty(),
                    );
                }
                network.retain(|e| !e.key.starts_with("x-"));
            });
            for section in ["volumes", "secrets", "configs"] {
                each(map, section, |object| object.retain(|e| !e.key.starts_with("x-")));
            }
            map.sort_by(|a, b| a.key.cmp(&b.key));
        }
        write::json_pretty(&tree)
    }

    /// The hash of what containers of a service are made of: a container with another one is made anew. The same as the
    /// reference implementation's, so that both know each other's containers.
    pub fn hash(&self, service: &str) -> Option<String> {
        let mut node = self.service(service)?.clone();
        let map = node.map_mut()?;
        for key in ["build", "pull_policy", "scale", "depends_on", "profiles"] {
            map.remove(key);
        }
        if let Some(deploy) = map.get_mut("deploy").and_then(Node::map_mut) {
            deploy.remove("replicas");
        }
        as_json_service(map);
        Some(hex(&Sha256::digest(write::json(&node).as_bytes())))
    }

    /// The hash of what a network or volume is made of.
    pub fn hash_of_network(&self, name: &str) -> Option<String> {
        let mut node = self.tree.get("networks")?.get(name)?.clone();
        let map = node.map_mut()?;
        if map.get("ipam").is_none() {
            insert_before(
                map,
                "ipam",
                &["external", "internal", "attachable", "labels", "enable_ipv4", "enable_ipv6"],
                empty(),
            );
        }
        map.retain(|e| !e.key.starts_with("x-"));
        Some(hex(&Sha256::digest(write::json(&node).as_bytes())))
    }

    /// The same of a volume.
    pub fn hash_of_volume(&self, name: &str) -> Option<String> {
        let mut node = self.tree.get("volumes")?.get(name)?.clone();
        let map = node.map_mut()?;
        map.retain(|e| !e.key.starts_with("x-"));
        let named = |d: &Node| matches!(&d.value, Value::Str(driver) if !driver.is_empty());
        if !map.get("driver").is_some_and(named) {
            map.remove("driver");
            let local = Node::new(Value::Str("local".to_owned()), Pos::default());
            insert_before(map, "driver", &["driver_opts", "external", "labels"], local);
        }
        Some(hex(&Sha256::digest(write::json(&node).as_bytes())))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn empty() -> Node {
    Node::new(Value::Map(Map::default()), Pos::default())
}

fn each(map: &mut Map, key: &str, change: impl Fn(&mut Map)) {
    if let Some(section) = map.get_mut(key).and_then(Node::map_mut) {
        section.iter_mut().filter_map(|e| e.node.map_mut()).for_each(change);
    }
}

/// A project without services says so.
fn services_always(mut tree: Node) -> Node {
    if let Some(map) = tree.map_mut()
        && map.get("services").is_none()
    {
        let at = usize::from(map.get("name").is_some());
        map.insert_at(
            at,
            crate::document::Entry { key: "services".to_owned(), pos: Pos::default(), node: empty() },
        );
    }
    tree
}

fn insert_before(map: &mut Map, key: &str, later: &[&str], node: Node) {
    let at = map
        .iter()
        .position(|e| later.contains(&e.key.as_str()) || e.key.starts_with("x-"))
        .unwrap_or(map.len());
    map.insert_at(at, crate::document::Entry { key: key.to_owned(), pos: Pos::default(), node });
}

/// JSON has a few attributes even if nothing was said about them, and no extensions.
fn as_json_service(service: &mut Map) {
    let null = || Node::new(Value::Null, Pos::default());
    let attrs: Vec<&str> = crate::schema::SERVICE.attrs.iter().map(|a| a.name).collect();
    for key in ["command", "entrypoint"] {
        if service.get(key).is_none() {
            let place = attrs.iter().position(|a| *a == key).unwrap_or(0);
            insert_before(service, key, &attrs[place + 1..], null());
        }
    }
    strip_extensions(service);
    if let Some(deploy) = service.get_mut("deploy").and_then(Node::map_mut) {
        let order = ["resources", "restart_policy", "placement", "endpoint_mode"];
        for key in ["resources", "placement"] {
            if deploy.get(key).is_none() {
                let place = order.iter().position(|a| *a == key).unwrap_or(0);
                insert_before(deploy, key, &order[place + 1..], empty());
            }
        }
    }
    if let Some(Node { value: Value::List(items), .. }) =
        service.get_mut("develop").and_then(Node::map_mut).and_then(|d| d.get_mut("watch"))
    {
        for trigger in items.iter_mut().filter_map(Node::map_mut) {
            if trigger.get("exec").is_none() {
                let mut hook = Map::default();
                hook.set("command", Pos::default(), null());
                let later = ["include", "ignore", "initial_sync"];
                insert_before(trigger, "exec", &later, Node::new(Value::Map(hook), Pos::default()));
            }
        }
    }
    for rate in
        ["device_read_bps", "device_read_iops", "device_write_bps", "device_write_iops", "weight_device"]
    {
        if let Some(Node { value: Value::List(items), .. }) =
            service.get_mut("blkio_config").and_then(Node::map_mut).and_then(|b| b.get_mut(rate))
        {
            for item in items.iter_mut().filter_map(Node::map_mut) {
                let renamed: Map = std::mem::take(item)
                    .into_iter()
                    .map(|mut e| {
                        e.key = match e.key.as_str() {
                            "path" => "Path".to_owned(),
                            "rate" => "Rate".to_owned(),
                            "weight" => "Weight".to_owned(),
                            _ => e.key,
                        };
                        e
                    })
                    .collect();
                *item = renamed;
            }
        }
    }
}

/// Takes `x-` keys out of everything that is not keyed by users.
fn strip_extensions(map: &mut Map) {
    map.retain(|e| !e.key.starts_with("x-"));
    for entry in map.iter_mut() {
        if matches!(
            entry.key.as_str(),
            "environment" | "labels" | "annotations" | "sysctls" | "options" | "driver_opts"
        ) {
            continue;
        }
        strip_in(&mut entry.node);
    }
}

fn strip_in(node: &mut Node) {
    match &mut node.value {
        Value::Map(map) => strip_extensions(map),
        Value::List(items) => items.iter_mut().for_each(strip_in),
        _ => {}
    }
}

impl Project {
    /// Keeps only these services; nobody waits for the others any more.
    pub fn keep_only(&mut self, names: &[String]) {
        let Some(services) = self.tree.map_mut().and_then(|m| m.get_mut("services")).and_then(Node::map_mut)
        else {
            return;
        };
        for entry in std::mem::take(services) {
            if names.contains(&entry.key) {
                services.push(entry);
            } else {
                self.disabled.insert(entry.key, entry.node);
            }
        }
        for entry in services.iter_mut() {
            if let Some(on) =
                entry.node.map_mut().and_then(|m| m.get_mut("depends_on")).and_then(Node::map_mut)
            {
                on.retain(|e| names.contains(&e.key));
            }
        }
    }
}

impl Project {
    /// A project of which nothing is known but its name.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            directory: PathBuf::new(),
            files: Vec::new(),
            environment: Environment::new(),
            all_profiles: Vec::new(),
            tree: empty(),
            disabled: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }
}

impl Project {
    /// Gives a service another image.
    pub fn set_image(&mut self, service: &str, image: &str) {
        let services = self.tree.map_mut().and_then(|m| m.get_mut("services")).and_then(Node::map_mut);
        if let Some(node) =
            services.and_then(|m| m.get_mut(service)).and_then(Node::map_mut).and_then(|m| m.get_mut("image"))
        {
            node.value = Value::Str(image.to_owned());
        }
    }

    /// Gives an attribute of a service a text.
    pub fn set_text(&mut self, service: &str, key: &str, text: &str) {
        let services = self.tree.map_mut().and_then(|m| m.get_mut("services")).and_then(Node::map_mut);
        if let Some(map) = services.and_then(|m| m.get_mut(service)).and_then(Node::map_mut) {
            map.set(key, Pos::default(), Node::text(text, Pos::default()));
        }
    }

    /// Says of a service which image it has and which ports it listens on, besides those that it says itself.
    pub fn expose(&mut self, service: &str, image: &str, mut ports: Vec<String>) {
        let Some(node) = self.service(service) else { return };
        let own = node.get("expose").and_then(Node::list).unwrap_or_default().iter().filter_map(Node::scalar);
        ports.extend(own);
        let published = node.get("ports").and_then(Node::list).unwrap_or_default().iter();
        ports.extend(published.filter_map(|p| p.get("target")?.scalar()));
        ports.sort();
        ports.dedup();
        let items = ports.into_iter().map(|p| Node::text(p, Pos::default())).collect();
        let services = self.tree.map_mut().and_then(|m| m.get_mut("services")).and_then(Node::map_mut);
        if let Some(map) = services.and_then(|m| m.get_mut(service)).and_then(Node::map_mut) {
            map.set("image", Pos::default(), Node::text(image, Pos::default()));
            map.set("expose", Pos::default(), Node::new(Value::List(items), Pos::default()));
        }
    }

    /// Gives a service a variable.
    pub fn set_variable(&mut self, service: &str, name: &str, value: &str) {
        let services = self.tree.map_mut().and_then(|m| m.get_mut("services")).and_then(Node::map_mut);
        let Some(map) = services.and_then(|m| m.get_mut(service)).and_then(Node::map_mut) else { return };
        if map.get("environment").and_then(Node::map).is_none() {
            map.remove("environment");
            let attrs: Vec<&str> = crate::schema::SERVICE.attrs.iter().map(|a| a.name).collect();
            let place = attrs.iter().position(|a| *a == "environment").unwrap_or(0);
            insert_before(map, "environment", &attrs[place + 1..], empty());
        }
        if let Some(variables) = map.get_mut("environment").and_then(Node::map_mut) {
            variables.set(name, Pos::default(), Node::text(value, Pos::default()));
            variables.sort_by(|a, b| a.key.cmp(&b.key));
        }
    }

    /// Only these services, as they are: nothing is done about the others, and what these say of them stays.
    #[must_use]
    pub fn only(&self, names: &[String]) -> Self {
        let mut project = self.clone();
        let services = project.tree.map_mut().and_then(|m| m.get_mut("services")).and_then(Node::map_mut);
        if let Some(services) = services {
            for entry in std::mem::take(services) {
                if names.contains(&entry.key) {
                    services.push(entry);
                } else {
                    project.disabled.insert(entry.key, entry.node);
                }
            }
        }
        project
    }

    /// Leaves nothing but the images of services, for a file that is laid over the others.
    pub fn only_images(&mut self) {
        let Some(root) = self.tree.map_mut() else { return };
        root.retain(|e| e.key == "services");
        each(root, "services", |service| service.retain(|e| e.key == "image"));
    }
}
