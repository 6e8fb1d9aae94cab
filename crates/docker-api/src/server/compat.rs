//! How documents looked in older versions of the API. Pure: handlers see the newest form only.

use serde_json::Value;

use super::version::ApiVersion;
use crate::select::networks::is_builtin;
use crate::types::{
    ContainerConfig, ContainerInspect, ContainerSummary, CreateRequest, EventMessage, Resources,
};

/// An event: 1.52 dropped the fields that said the same twice.
pub fn event(event: &mut EventMessage, version: ApiVersion) {
    if version.0 >= 52 {
        event.status.clear();
        event.id.clear();
        event.from.clear();
    }
}

/// A row of the list of containers.
pub fn summary(summary: &mut ContainerSummary, version: ApiVersion) {
    if version.0 < 46 {
        summary.host_config.annotations = crate::types::Map::null();
    }
}

/// A container before 1.52. Until 1.44 the short id was among the aliases on networks of one's own.
pub fn inspect_before_52(document: &mut ContainerInspect, version: ApiVersion) {
    if version.0 >= 45 {
        return;
    }
    let short = document.id.get(..12).unwrap_or_default().to_owned();
    let networks = document.network_settings.networks.iter_mut();
    for (_, endpoint) in networks.filter(|(name, _)| !is_builtin(name)) {
        if !endpoint.aliases.contains(&short) {
            endpoint.aliases.push(short.clone());
        }
    }
}

/// A container since 1.52, which dropped what `NetworkSettings` says of the default network once more, and the
/// container-wide MAC address.
pub fn inspect_since_52(document: &mut Value) {
    const GONE: [&str; 14] = [
        "Bridge",
        "HairpinMode",
        "LinkLocalIPv6Address",
        "LinkLocalIPv6PrefixLen",
        "SecondaryIPAddresses",
        "SecondaryIPv6Addresses",
        "EndpointID",
        "Gateway",
        "GlobalIPv6Address",
        "GlobalIPv6PrefixLen",
        "IPAddress",
        "IPPrefixLen",
        "IPv6Gateway",
        "MacAddress",
    ];
    if let Some(Value::Object(settings)) = document.get_mut("NetworkSettings") {
        settings.retain(|name, _| !GONE.contains(&name.as_str()));
    }
}

/// The configuration of an image: until 1.50 the fields of containers that images do not have were there too, empty.
pub fn image_config(document: &mut Value, version: ApiVersion) {
    if version.0 >= 50 {
        return;
    }
    let Ok(Value::Object(all)) = serde_json::to_value(ContainerConfig::default()) else { return };
    if let Some(Value::Object(config)) = document.get_mut("Config") {
        for (name, value) in all {
            config.entry(name).or_insert(value);
        }
    }
}

/// A create request by the rules of its version; what is warned of, or the sentence by which it is refused.
pub fn create(request: &mut CreateRequest, version: ApiVersion) -> Result<Vec<String>, String> {
    let mut warnings = Vec::new();
    let host = &mut request.host_config;
    let endpoints = &mut request.networking_config.endpoints_config;
    if version.0 < 40 {
        host.cgroupns_mode.clear();
        for mount in host.mounts.iter_mut() {
            if let Some(bind) = &mut mount.bind_options {
                bind.non_recursive = false;
            }
        }
        host.resources.device_requests = crate::types::List::null();
    }
    if version.0 < 44 {
        if endpoints.len() > 1 {
            let names: Vec<&str> = endpoints.keys().map(String::as_str).collect();
            return Err(format!(
                "Container cannot be created with multiple network endpoints: {}",
                names.join(", ")
            ));
        }
        if request.config.mac_address.is_empty() {
            for endpoint in endpoints.values_mut() {
                endpoint.mac_address.clear();
            }
        }
        if let Some(health) = &mut request.config.healthcheck {
            health.start_interval = 0;
        }
    } else if !request.config.mac_address.is_empty() {
        if version.0 >= 52 {
            return Err(
                "container-wide MAC address no longer supported; use endpoint-specific MAC address instead"
                    .to_owned(),
            );
        }
        warnings.push(
            "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
                .to_owned(),
        );
    }
    if version.0 < 45 {
        for mount in host.mounts.iter() {
            if mount.volume_options.as_ref().is_some_and(|o| !o.subpath.is_empty()) {
                return Err("VolumeOptions.Subpath needs API v1.45 or newer".to_owned());
            }
        }
    }
    if version.0 < 48 {
        for endpoint in endpoints.values_mut() {
            endpoint.gw_priority = 0;
        }
        if host.mounts.iter().any(|mount| mount.kind == "image") {
            return Err("Mount type \"Image\" needs API v1.48 or newer".to_owned());
        }
    }
    if host.resources.pids_limit.is_some_and(|limit| limit <= 0) {
        host.resources.pids_limit = None;
    }
    Ok(warnings)
}

/// Limits of an update: some were passed over in silence by older versions.
pub fn update(resources: &mut Resources, version: ApiVersion) {
    if version.0 < 40 {
        resources.pids_limit = None;
    }
    if version.0 < 55 {
        resources.blkio_weight_device = crate::types::List::null();
        resources.blkio_device_read_bps = crate::types::List::null();
        resources.blkio_device_write_bps = crate::types::List::null();
        resources.blkio_device_read_iops = crate::types::List::null();
        resources.blkio_device_write_iops = crate::types::List::null();
    }
    if resources.pids_limit.is_some_and(|limit| limit < 0) {
        resources.pids_limit = Some(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::EndpointSettings;
    use serde_json::json;

    #[test]
    fn what_1_52_dropped_is_there_before() {
        let mut old = EventMessage { status: "start".to_owned(), ..EventMessage::default() };
        event(&mut old, ApiVersion(51));
        assert_eq!(old.status, "start");
        event(&mut old, ApiVersion(52));
        assert_eq!(old.status, "");
        let mut document = json!({"NetworkSettings": {"IPAddress": "1.2.3.4", "Networks": {}}, "Config": {}});
        inspect_since_52(&mut document);
        assert_eq!(document["NetworkSettings"], json!({"Networks": {}}));
    }

    #[test]
    fn older_versions_have_what_they_had() {
        let mut document =
            ContainerInspect { id: "0123456789abcdef".to_owned(), ..ContainerInspect::default() };
        for name in ["bridge", "own"] {
            document.network_settings.networks.insert(name.to_owned(), EndpointSettings::default());
        }
        inspect_before_52(&mut document, ApiVersion(45));
        assert!(document.network_settings.networks["own"].aliases.is_empty());
        inspect_before_52(&mut document, ApiVersion(44));
        inspect_before_52(&mut document, ApiVersion(44));
        let networks = &document.network_settings.networks;
        assert!(networks["bridge"].aliases.is_empty());
        assert_eq!(*networks["own"].aliases, ["0123456789ab"]);
        let mut image = json!({"Config": {"Cmd": ["sh"]}});
        image_config(&mut image, ApiVersion(50));
        assert_eq!(image["Config"], json!({"Cmd": ["sh"]}));
        image_config(&mut image, ApiVersion(49));
        assert_eq!((&image["Config"]["Tty"], &image["Config"]["Cmd"]), (&json!(false), &json!(["sh"])));
    }

    #[test]
    fn requests_follow_the_rules_of_their_version() {
        let parse = |text: &str| serde_json::from_str::<CreateRequest>(text).unwrap();
        let mut two = parse(r#"{"Image":"a","NetworkingConfig":{"EndpointsConfig":{"a":{},"b":{}}}}"#);
        assert!(create(&mut two, ApiVersion(43)).unwrap_err().ends_with("endpoints: a, b"));
        assert!(create(&mut two, ApiVersion(44)).unwrap().is_empty());
        let mut mac = parse(r#"{"Image":"a","MacAddress":"02:00:00:00:00:01"}"#);
        assert!(create(&mut mac, ApiVersion(43)).unwrap().is_empty());
        assert_eq!(create(&mut mac, ApiVersion(44)).unwrap().len(), 1);
        assert!(create(&mut mac, ApiVersion(52)).is_err());
    }
}
