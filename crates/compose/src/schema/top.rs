//! A whole file, and the objects beside services: networks, volumes, secrets, configs, models.

use super::Shape::*;
use super::{Attr, Object, Same, Unset, attr, closed, kept, object, service};

/// A Compose file.
pub const FILE: Object = object(&[
    attr("name", Str),
    attr("version", Scalar),
    attr("include", List(&Include(&INCLUDE), Same::Never)),
    attr("services", Map(&ObjectOrNull(&service::SERVICE))),
    attr("networks", Map(&ObjectOrNull(&NETWORK))),
    attr("volumes", Map(&ObjectOrNull(&VOLUME))),
    attr("secrets", Map(&Object(&SECRET))),
    attr("configs", Map(&Object(&CONFIG))),
    attr("models", Map(&Object(&MODEL))),
]);

/// A file to be included.
pub const INCLUDE: Object = closed(&[
    attr("path", OneOrMore(Same::Never)),
    attr("project_directory", Str),
    attr("env_file", OneOrMore(Same::Never)),
])
.needs(&["path"]);

/// A network.
pub const NETWORK: Object = object(&[
    attr("name", Str),
    attr("driver", Str),
    attr("driver_opts", Options),
    attr("ipam", Object(&IPAM)),
    attr("external", External),
    attr("internal", Bool),
    attr("attachable", Bool),
    attr("labels", Dict(Unset::Empty)),
    kept("enable_ipv4", Bool),
    kept("enable_ipv6", Bool),
]);

const IPAM: Object = object(&[
    attr("driver", Str),
    attr("config", List(&Object(&POOL), Same::Subnet)),
    attr("options", Options),
]);

const POOL: Object = object(&[
    attr("subnet", Str),
    attr("gateway", Str),
    attr("ip_range", Str),
    attr("aux_addresses", Options),
]);

/// A volume.
pub const VOLUME: Object = object(&[
    attr("name", Str),
    attr("driver", Str),
    attr("driver_opts", Options),
    attr("external", External),
    attr("labels", Dict(Unset::Empty)),
]);

/// A secret.
pub const SECRET: Object = object(&[
    attr("name", Str),
    attr("file", Str),
    attr("environment", Str),
    attr("external", External),
    attr("labels", Dict(Unset::Empty)),
    attr("driver", Str),
    attr("driver_opts", Options),
    attr("template_driver", Str),
]);

/// A config.
pub const CONFIG: Object = object(&[
    attr("name", Str),
    attr("file", Str),
    attr("environment", Str),
    attr("content", Str),
    attr("external", External),
    attr("labels", Dict(Unset::Empty)),
    attr("template_driver", Str),
]);

const MODEL_ATTRS: &[Attr] = &[
    attr("name", Str),
    attr("model", Str),
    attr("context_size", Int(0, i64::MAX)),
    attr("runtime_flags", Strings(Same::Never)),
];

/// A model.
pub const MODEL: Object = object(MODEL_ATTRS).needs(&["model"]);
