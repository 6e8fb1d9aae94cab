//! A project from other sides: its dependencies as a graph for graphviz, and files made of containers that are there.
//! Pure.

use std::collections::BTreeMap;

use fluyt_docker_api::types::ContainerInspect;
use serde_json::{Map, Value, json};

use crate::document::{self, Node};
use crate::labels;
use crate::project::Project;
use crate::units;
use crate::view::View;

/// What of services is drawn.
#[derive(Clone, Debug, Default)]
pub struct Viz {
    /// Their networks.
    pub networks: bool,
    /// Their ports.
    pub ports: bool,
    /// Their images.
    pub images: bool,
    /// What lines begin with.
    pub indentation: String,
}

/// The graph of a project's dependencies in the language of graphviz.
pub fn viz(project: &Project, how: &Viz) -> String {
    let indent = &how.indentation;
    let mut out = format!("digraph {:?} {{\n{indent}layout=dot;\n", project.name);
    for service in project.services() {
        let Some(node) = project.service(service) else { continue };
        let mut label = format!("<font point-size=\"15\">{service}</font>");
        let mut part = |title: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                let lines = lines.join("<br/>");
                label.push_str(&format!(
                    "<font point-size=\"10\"><br/><br/><b>{title}:</b><br/>{lines}</font>"
                ));
            }
        };
        if how.networks {
            part("Networks", node.entries("networks").into_iter().map(|(name, _)| name.to_owned()).collect());
        }
        if how.ports {
            part("Ports", node.items("ports").iter().map(port).collect());
        }
        if how.images {
            part("Image", project.image(service).into_iter().collect());
        }
        out.push_str(&format!("{indent}{service:?} [style=\"filled\" label=<{label}>];\n"));
    }
    out.push('\n');
    for service in project.services() {
        let on = project.service(service).map(|n| n.entries("depends_on")).unwrap_or_default();
        for (other, _) in on {
            out.push_str(&format!("{indent}{service:?} -> {other:?};\n"));
        }
    }
    out.push_str("}\n");
    out
}

fn port(port: &Node) -> String {
    let address = Some(port.text("host_ip")).filter(|a| !a.is_empty()).map(|a| format!("{a}:"));
    let (address, published, target) =
        (address.unwrap_or_default(), port.text("published"), port.text("target"));
    format!("{address}{published}:{target} ({}, {})", port.text("protocol"), port.text("mode"))
}

/// A project of containers that are there; `internal` says it of a network by name.
pub fn generate(name: &str, containers: &[ContainerInspect], internal: &dyn Fn(&str) -> bool) -> Node {
    let mut services: BTreeMap<String, Value> = BTreeMap::new();
    let (mut networks, mut volumes) = (Map::new(), Map::new());
    for container in containers {
        let own = container.name.trim_start_matches('/').to_owned();
        let service = container.config.labels.get(labels::SERVICE).cloned().unwrap_or(own);
        if let Some(again) = services.get_mut(&service) {
            again["scale"] = json!(again["scale"].as_u64().unwrap_or(1) + 1);
            continue;
        }
        let value = self::service(container, &mut networks, &mut volumes, internal);
        services.insert(service, value);
    }
    let mut file = Map::new();
    if !name.is_empty() {
        file.insert("name".to_owned(), json!(name));
    }
    file.insert("services".to_owned(), json!(services));
    for (key, section) in [("networks", networks), ("volumes", volumes)] {
        if !section.is_empty() {
            file.insert(key.to_owned(), Value::Object(section));
        }
    }
    // JSON is YAML.
    let documents = document::read(&Value::Object(file).to_string(), 0).unwrap_or_default();
    documents.into_iter().next().unwrap_or_else(|| Project::named("").tree)
}

fn service(
    container: &ContainerInspect,
    networks: &mut Map<String, Value>,
    volumes: &mut Map<String, Value>,
    internal: &dyn Fn(&str) -> bool,
) -> Value {
    let config = &container.config;
    let mut service = Map::new();
    let mut put = |key: &str, value: Value| {
        let empty = value.is_null()
            || value.as_array().is_some_and(Vec::is_empty)
            || value == json!({})
            || value == "";
        if !empty {
            service.insert(key.to_owned(), value);
        }
    };
    put("image", json!(config.image));
    // A dollar is one, not the beginning of a variable.
    let dollars = |text: &str| text.replace('$', "$$");
    let words = |list: &[String]| json!(list.iter().map(|w| dollars(w)).collect::<Vec<_>>());
    put("entrypoint", words(&config.entrypoint));
    put("command", words(&config.cmd));
    let pair = |text: &String| text.split_once('=').map(|(k, v)| (k.to_owned(), json!(dollars(v))));
    put("environment", Value::Object(config.env.iter().filter_map(pair).collect()));
    let foreign =
        |key: &str| !key.starts_with("com.docker.compose.") && !key.starts_with("desktop.docker.io");
    let labels = config.labels.iter().filter(|(key, _)| foreign(key));
    put("labels", Value::Object(labels.map(|(k, v)| (k.clone(), json!(dollars(v)))).collect()));
    put("user", json!(config.user));
    put("working_dir", json!(config.working_dir));
    put("healthcheck", health(container));
    let policy = &container.host_config.restart_policy;
    if !matches!(policy.name.as_str(), "" | "no") {
        put("restart", json!(policy.name));
    }
    let mut ports = Vec::new();
    for (port, bindings) in container.host_config.port_bindings.iter() {
        let text = port.to_string();
        let (target, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
        for binding in bindings.iter() {
            let mut one = json!({"target": target.parse::<u32>().unwrap_or(0), "protocol": protocol});
            for (key, value) in [("published", &binding.host_port), ("host_ip", &binding.host_ip)] {
                if !value.is_empty() {
                    one[key] = json!(value);
                }
            }
            ports.push(one);
        }
    }
    put("ports", json!(ports));
    let mut mounts = Vec::new();
    for mount in &container.mounts {
        let source = if mount.kind == "volume" { &mount.name } else { &mount.source };
        if !matches!(mount.kind.as_str(), "volume" | "bind") {
            continue;
        }
        let mut one = json!({"type": mount.kind, "source": source, "target": mount.destination});
        if !mount.rw {
            one["read_only"] = json!(true);
        }
        mounts.push(one);
        if mount.kind == "volume" {
            volumes.insert(mount.name.clone(), json!({"name": mount.name, "external": true}));
        }
    }
    put("volumes", json!(mounts));
    let mut places = Map::new();
    for (name, place) in container.network_settings.networks.iter() {
        if matches!(name.as_str(), "host" | "none" | "bridge") {
            continue;
        }
        let aliases: Vec<&String> =
            place.aliases.iter().filter(|a| !container.id.starts_with(a.as_str())).collect();
        places
            .insert(name.clone(), if aliases.is_empty() { Value::Null } else { json!({"aliases": aliases}) });
        networks.insert(name.clone(), if internal(name) { json!({"internal": true}) } else { Value::Null });
    }
    put("networks", Value::Object(places));
    let mode = container.host_config.network_mode.as_str();
    if matches!(mode, "host" | "none") {
        put("network_mode", json!(mode));
    }
    Value::Object(service)
}

fn health(container: &ContainerInspect) -> Value {
    let Some(health) = &container.config.healthcheck else { return Value::Null };
    let mut out = Map::new();
    if !health.test.is_empty() {
        out.insert("test".to_owned(), json!(health.test.iter().collect::<Vec<_>>()));
    }
    for (key, nanos) in [
        ("interval", health.interval),
        ("timeout", health.timeout),
        ("start_period", health.start_period),
        ("start_interval", health.start_interval),
    ] {
        if nanos > 0 {
            out.insert(key.to_owned(), json!(units::go_duration(nanos)));
        }
    }
    if health.retries > 0 {
        out.insert("retries".to_owned(), json!(health.retries));
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::load::{Environment, Options, Source};

    struct One(String);

    impl Source for One {
        fn read(&self, _: &Path) -> std::io::Result<String> {
            Ok(self.0.clone())
        }

        fn is_file(&self, path: &Path) -> bool {
            path == Path::new("/p/compose.yaml")
        }

        fn is_directory(&self, _: &Path) -> bool {
            false
        }
    }

    fn load(text: &str) -> Project {
        crate::load(&Options::new("/p", Environment::new()), &One(text.to_owned())).unwrap()
    }

    #[test]
    fn dependencies_are_drawn() {
        let project =
            load("services: {a: {image: x, ports: ['127.0.0.1:80:8080'], depends_on: [b]}, b: {image: y}}");
        let how = Viz { networks: true, ports: true, images: true, indentation: "\t".to_owned() };
        let text = viz(&project, &how);
        for part in [
            "digraph \"p\" {\n\tlayout=dot;\n",
            "127.0.0.1:80:8080 (tcp, ingress)",
            "<b>Image:</b><br/>y</font>",
            "\t\"a\" -> \"b\";\n}\n",
            "<b>Networks:</b><br/>default",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn files_of_containers_can_be_loaded() {
        let text = r#"{"Id": "abcdef", "Name": "/web", "Config": {"Image": "box", "Env": ["A=$b"], "Cmd": ["sh", "-c", "x"],
            "Labels": {"com.docker.compose.service": "w", "own": "1"}, "Healthcheck": {"Test": ["CMD", "true"], "Interval": 90000000000}},
            "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}, "RestartPolicy": {"Name": "always"}, "NetworkMode": "lan"},
            "Mounts": [{"Type": "volume", "Name": "data", "Destination": "/d", "RW": false}],
            "NetworkSettings": {"Networks": {"lan": {"Aliases": ["abcdef", "db"]}}}}"#;
        let container: ContainerInspect = serde_json::from_str(text).unwrap();
        let node = generate("p", &[container.clone(), container], &|_| true);
        let yaml = document::write::yaml(&node);
        let project = load(&yaml);
        let service = project.service("w").unwrap();
        assert_eq!(service.dict("environment")["A"], "$b");
        assert_eq!((service.text("image").as_str(), service.text("restart").as_str()), ("box", "always"));
        assert_eq!(service.int("scale"), Some(2));
        assert_eq!(service.items("ports")[0].text("published"), "8080");
        assert!(service.items("volumes")[0].flag("read_only"));
        assert_eq!(service.get("healthcheck").unwrap().text("interval"), "1m30s");
        assert_eq!(service.dict("labels").len(), 1);
        assert!(yaml.contains("internal: true"), "{yaml}");
    }
}
