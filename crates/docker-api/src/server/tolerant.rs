//! JSON as Go's library reads it, which is what clients were tried with: `null` leaves a field as it is, and names of
//! fields are found whatever the case of their letters (as far as clients make use of it: that of the first). Pure.

use fluyt_model::{Error, Result};
use serde_json::{Map, Value};

/// Fields that are maps: their keys are data. The values of the last few are structures again.
const MAPS: [&str; 15] = [
    "Labels",
    "Options",
    "DriverOpts",
    "Sysctls",
    "Tmpfs",
    "StorageOpt",
    "Annotations",
    "BuildArgs",
    "AuxiliaryAddresses",
    "Config",
    "Volumes",
    "ExposedPorts",
    "PortBindings",
    "EndpointsConfig",
    "Networks",
];
/// The first of [`MAPS`] whose values are structures.
const STRUCTURES_FROM: usize = 10;

/// One document, and nothing after it.
///
/// # Errors
/// `Invalid`.
pub fn parse(bytes: &[u8]) -> Result<Value> {
    let mut stream = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let mut document = match stream.next() {
        Some(Ok(document)) => document,
        Some(Err(e)) if e.is_eof() => return Err(Error::invalid("invalid JSON: unexpected EOF")),
        Some(Err(e)) => return Err(Error::invalid("invalid JSON").with_source(e)),
        None => return Err(Error::invalid("invalid JSON: got EOF while reading request body")),
    };
    if stream.next().is_some() {
        return Err(Error::invalid("unexpected content after JSON"));
    }
    structure(&mut document);
    Ok(document)
}

fn structure(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(structure),
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            add_capitalised(fields);
            for (name, value) in fields.iter_mut() {
                match MAPS.iter().position(|map| map == name) {
                    // A port without bindings is exposed, and that is what `null` says there.
                    Some(_) if name == "PortBindings" => bindings(value),
                    Some(at) if value.is_object() => map(value, at >= STRUCTURES_FROM),
                    _ => structure(value),
                }
            }
        }
        _ => {}
    }
}

/// Fields whose names begin with a small letter get the name with a capital, unless there is one. Plain values stay under
/// the old name, too: some documents have such names. Structures do not: twice at each level would be a thousand times in
/// ten.
fn add_capitalised(fields: &mut Map<String, Value>) {
    let small: Vec<String> =
        fields.keys().filter(|k| k.starts_with(|c: char| c.is_ascii_lowercase())).cloned().collect();
    for name in small {
        let mut capital = name.clone();
        capital[..1].make_ascii_uppercase();
        if fields.contains_key(&capital) {
            continue;
        }
        let plain = fields.get(&name).is_some_and(|value| !value.is_object() && !value.is_array());
        let value = if plain { fields.get(&name).cloned() } else { fields.remove(&name) };
        if let Some(value) = value {
            fields.insert(capital, value);
        }
    }
}

/// Bindings by port: those that are there are structures.
fn bindings(value: &mut Value) {
    let Value::Object(ports) = value else { return };
    ports.values_mut().for_each(structure);
}

/// Keys stay, as they are; without a value they have an empty one.
fn map(value: &mut Value, of_structures: bool) {
    let Value::Object(entries) = value else { return };
    for value in entries.values_mut() {
        match (&value, of_structures) {
            (Value::Null, true) => *value = Value::Object(Map::new()),
            (Value::Null, false) => *value = Value::String(String::new()),
            (_, true) => structure(value),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{CreateRequest, ExecOptions};

    #[test]
    fn nulls_and_small_letters_are_taken_as_go_takes_them() {
        let text = br#"{"Image":"a","Healthcheck":{"Test":["CMD","x"],"Interval":null},"Labels":{"a":null,"b":"c"},
            "HostConfig":{"NetworkMode":null,"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":null}]}},
            "NetworkingConfig":{"EndpointsConfig":{"n":null,"m":{"IPAMConfig":{"IPv4Address":"1.2.3.4","IPv6Address":null}}}}}"#;
        let request: CreateRequest = serde_json::from_value(parse(text).unwrap()).unwrap();
        assert_eq!(request.config.labels.len(), 2);
        assert_eq!(request.networking_config.endpoints_config.len(), 2);
        assert_eq!(request.host_config.port_bindings.len(), 1);
        let exec: ExecOptions =
            serde_json::from_value(parse(br#"{"Cmd":["a"],"detachKeys":"ctrl-p"}"#).unwrap()).unwrap();
        assert_eq!(exec.detach_keys, "ctrl-p");
    }

    #[test]
    fn deep_documents_stay_as_large_as_they_are() {
        let deep = format!("{}1{}", "{\"a\":".repeat(120), "}".repeat(120));
        let mut value = &parse(deep.as_bytes()).unwrap();
        let mut levels = 0;
        while let Some(inner) = value.get("A") {
            value = inner;
            levels += 1;
        }
        assert_eq!((levels, value), (120, &serde_json::json!(1)));
    }

    #[test]
    fn one_document_and_nothing_else() {
        for (text, why) in [
            ("", "got EOF"),
            ("{", "unexpected EOF"),
            ("{} {}", "unexpected content after JSON"),
            ("{} x", "unexpected content after JSON"),
            ("nonsense", "invalid JSON"),
        ] {
            assert!(parse(text.as_bytes()).unwrap_err().chain().contains(why), "{text}");
        }
    }
}
