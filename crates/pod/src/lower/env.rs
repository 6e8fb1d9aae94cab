//! Variables: the image's, those of ConfigMaps and Secrets, the container's own, with values from wherever they are.

use fluyt_model::Amount;

use super::expand::expand;
use super::{Facts, Lowering, Problem, Subject};
use crate::objects::{Container, EnvFrom, EnvSource, FieldRef, KeyRef, ResourceFieldRef};

/// Variables in their order, each once; later values take the place of earlier ones.
#[derive(Default)]
pub(super) struct Variables(Vec<(String, String)>);

impl Variables {
    fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some(slot) => slot.1 = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// The value of a variable.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// `NAME=value`.
    pub(super) fn lines(&self) -> Vec<String> {
        self.0.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

/// All variables of a container.
pub(super) fn variables(
    pod: Subject<'_>,
    container: &Container,
    image: &[String],
    facts: &Facts<'_>,
) -> Lowering<Variables> {
    let mut own = Variables::default();
    for (index, from) in container.env_from.iter().enumerate() {
        add_from(from, facts, &mut own).map_err(|p| p.below(&format!("envFrom[{index}]")))?;
    }
    for (index, variable) in container.env.iter().enumerate() {
        let path = format!("env[{index}]");
        if variable.name.is_empty() {
            return Err(Problem::new(path, "the variable does not have a name"));
        }
        if variable.name.contains(['=', '\0']) {
            return Err(Problem::new(
                path + ".name",
                format!("{:?} is not a name of a variable", variable.name),
            ));
        }
        let value = match &variable.value_from {
            Some(_) if !variable.value.is_empty() => {
                return Err(Problem::new(
                    path,
                    format!("{} has both a value and a valueFrom", variable.name),
                )
                .hint("take one of them away"));
            }
            Some(source) => source_value(pod, container, source, facts)
                .map_err(|p| Problem {
                    message: format!("cannot set env {}: {}", variable.name, p.message),
                    ..p
                })
                .map_err(|p| p.below(&(path + ".valueFrom")))?,
            None => Some(expand(&variable.value, &|name| own.get(name))),
        };
        if let Some(value) = value {
            own.set(&variable.name, value);
        }
    }
    let mut all = Variables::default();
    for line in image {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        all.set(name, value.to_owned());
    }
    for (name, value) in own.0 {
        all.set(&name, value);
    }
    Ok(all)
}

fn add_from(from: &EnvFrom, facts: &Facts<'_>, into: &mut Variables) -> Lowering<()> {
    if let Some(map) = &from.config_map_ref {
        match facts.config_maps.get(&map.name) {
            Some(found) => {
                for (key, value) in &found.data {
                    into.set(&format!("{}{key}", from.prefix), value.clone());
                }
            }
            None if map.optional == Some(true) => {}
            None => return Err(no_config_map(&map.name).below("configMapRef")),
        }
    }
    if let Some(secret) = &from.secret_ref {
        match facts.secrets.get(&secret.name) {
            Some(found) => {
                for (key, value) in found {
                    let text = String::from_utf8_lossy(value).into_owned();
                    into.set(&format!("{}{key}", from.prefix), text);
                }
            }
            None if secret.optional == Some(true) => {}
            None => return Err(no_secret(&secret.name).below("secretRef")),
        }
    }
    Ok(())
}

pub(super) fn no_config_map(name: &str) -> Problem {
    Problem::new("", format!("configmap {name} not found")).missing().hint(
        "put it into the same stream, or give its file with --configmap; `optional: true` goes without it",
    )
}

pub(super) fn no_secret(name: &str) -> Problem {
    Problem::new("", format!("no such secret {name}"))
        .missing()
        .hint("play the Secret before, or in the same stream; `optional: true` goes without it")
}

fn source_value(
    pod: Subject<'_>,
    container: &Container,
    source: &EnvSource,
    facts: &Facts<'_>,
) -> Lowering<Option<String>> {
    if let Some(key) = &source.config_map_key_ref {
        let map = facts.config_maps.get(&key.name);
        let value = map.and_then(|map| map.data.get(&key.key)).cloned();
        return wanted(key, value, map.is_some(), "configmap", no_config_map)
            .map_err(|p| p.below("configMapKeyRef"));
    }
    if let Some(key) = &source.secret_key_ref {
        let secret = facts.secrets.get(&key.name);
        let value = secret.and_then(|secret| secret.get(&key.key));
        let value = value.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        return wanted(key, value, secret.is_some(), "secret", no_secret)
            .map_err(|p| p.below("secretKeyRef"));
    }
    if let Some(field) = &source.field_ref {
        return field_value(pod, field, facts).map(Some).map_err(|p| p.below("fieldRef.fieldPath"));
    }
    if let Some(field) = &source.resource_field_ref {
        return resource_value(pod, container, field, facts)
            .map(Some)
            .map_err(|p| p.below("resourceFieldRef"));
    }
    Err(Problem::new("", "valueFrom does not say where from")
        .hint("it takes configMapKeyRef, secretKeyRef, fieldRef or resourceFieldRef"))
}

fn wanted(
    key: &KeyRef,
    value: Option<String>,
    there: bool,
    what: &str,
    none: fn(&str) -> Problem,
) -> Lowering<Option<String>> {
    match value {
        Some(value) => Ok(Some(value)),
        None if key.optional == Some(true) => Ok(None),
        None if there => {
            Err(Problem::new("", format!("key {} not found in {what} {}", key.key, key.name)).missing())
        }
        None => Err(none(&key.name)),
    }
}

/// A field of the pod.
pub(super) fn field_value(pod: Subject<'_>, field: &FieldRef, facts: &Facts<'_>) -> Lowering<String> {
    let path = field.field_path.as_str();
    let keyed = |what: &str| {
        let inner = path.strip_prefix(what)?.strip_prefix("['")?.strip_suffix("']")?;
        (!inner.is_empty()).then_some(inner)
    };
    if let Some(key) = keyed("metadata.labels") {
        return Ok(pod.metadata.labels.get(key).cloned().unwrap_or_default());
    }
    if let Some(key) = keyed("metadata.annotations") {
        return Ok(pod.annotations.get(key).cloned().unwrap_or_default());
    }
    match path {
        "metadata.name" => Ok(pod.name.to_owned()),
        "metadata.uid" => Ok(facts.uid.to_owned()),
        "metadata.namespace" if pod.metadata.namespace.is_empty() => Ok("default".to_owned()),
        "metadata.namespace" => Ok(pod.metadata.namespace.clone()),
        "metadata.labels" => Ok(listed(&pod.metadata.labels)),
        "metadata.annotations" => Ok(listed(pod.annotations)),
        "spec.nodeName" => Ok(facts.machine.hostname.clone()),
        "spec.serviceAccountName" => Ok("default".to_owned()),
        "status.podIP" | "status.podIPs" | "status.hostIP" | "status.hostIPs" => {
            Err(Problem::new("", format!("{path} is not known before the pod runs")).unsupported())
        }
        _ => Err(Problem::new("", format!("fieldPath {path} is either not valid or not supported")).hint(
            "there are metadata.name, .namespace, .uid, .labels['KEY'], .annotations['KEY'] and spec.nodeName",
        )),
    }
}

/// `key="value"`, a line each, as files of the downward API have it.
fn listed(words: &std::collections::BTreeMap<String, String>) -> String {
    let lines: Vec<String> = words.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// A limit or request of a container, as a number of its divisor.
pub(super) fn resource_value(
    pod: Subject<'_>,
    container: &Container,
    field: &ResourceFieldRef,
    facts: &Facts<'_>,
) -> Lowering<String> {
    let all = || pod.spec.containers.iter().chain(&pod.spec.init_containers);
    let of = match field.container_name.as_str() {
        "" => container,
        name => all()
            .find(|c| c.name == name)
            .ok_or_else(|| Problem::new("containerName", format!("the pod has no container {name:?}")))?,
    };
    let (bound, resource) = field.resource.split_once('.').unwrap_or(("", ""));
    let machine = match resource {
        "memory" => Amount::bytes(facts.machine.memory),
        "cpu" => Amount::milli(facts.machine.cpus * 1000),
        _ => return Err(unknown(field)),
    };
    let positive = |amount: Option<&Amount>| amount.copied().filter(|a| !a.is_zero());
    let limit = positive(of.resources.limits.get(resource)).unwrap_or(machine);
    let amount = match bound {
        "limits" => limit,
        "requests" => positive(of.resources.requests.get(resource)).unwrap_or(limit),
        _ => return Err(unknown(field)),
    };
    let divisor = field.divisor.filter(|d| !d.is_zero()).unwrap_or(Amount::milli(1000));
    let fine: &[&str] = match resource {
        "cpu" => &["1", "1m"],
        _ => &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"],
    };
    if !fine.contains(&divisor.to_string().as_str()) {
        return Err(Problem::new("divisor", format!("divisor value {divisor} is not valid"))
            .hint(format!("use one of {}", fine.join(", "))));
    }
    Ok(amount.per(divisor).unwrap_or_default().to_string())
}

fn unknown(field: &ResourceFieldRef) -> Problem {
    Problem::new("resource", format!("resource {} is either not valid or not supported", field.resource))
        .hint("there are limits.cpu, limits.memory, requests.cpu and requests.memory")
}
