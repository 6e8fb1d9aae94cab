//! `version`, `info`, `events`.

use std::collections::BTreeMap;

use fluyt_docker_api::types::system::{ComponentVersion, PlatformName};
use fluyt_docker_api::types::{Actor, EventMessage, SystemInfo, Version};
use fluyt_engine::{ContainerView, Engine, Event};
use fluyt_gotmpl::Value as TemplateValue;
use fluyt_model::quantity::bytes_size;
use fluyt_model::sandbox::Phase;
use fluyt_model::{Error, Result};
use serde_json::{Value, json};

use super::Cli;
use crate::cli::fail::{Failure, Outcome};
use crate::cli::filter::Filters;
use crate::cli::flags::{Arity, Command, NONE, Parsed, many, text, values};
use crate::cli::format;
use crate::cli::{print_line, print_text, time};

/// The Docker API whose documents these are.
const API_VERSION: &str = "1.50";

/// `fluyt version`.
pub const VERSION: Command = Command {
    name: "version",
    arguments: "",
    about: "Show the version information",
    flags: &[&[text('f', "format", "Format output using a custom template")]],
    arity: Arity::None,
    interspersed: true,
};

/// `fluyt info`.
pub const INFO: Command = Command {
    name: "info",
    arguments: "",
    about: "Display system-wide information",
    flags: &[&[text('f', "format", "Format output using a custom template")]],
    arity: Arity::None,
    interspersed: true,
};

/// `fluyt events`.
pub const EVENTS: Command = Command {
    name: "events",
    arguments: "",
    about: "Get real time events",
    flags: &[&[
        many('f', "filter", "filter", values::filter, "Filter output based on conditions provided"),
        text(NONE, "format", "Format output using a custom template"),
        text(NONE, "since", "Show all events created since timestamp"),
        text(NONE, "until", "Stream events until this timestamp"),
    ]],
    arity: Arity::None,
    interspersed: true,
};

/// Docker's name of this machine's architecture.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// This program's version as Docker's document.
fn version_document() -> Version {
    let version = env!("CARGO_PKG_VERSION");
    let details = [
        ("ApiVersion", API_VERSION.to_owned()),
        ("Arch", go_arch().to_owned()),
        ("KernelVersion", kernel()),
        ("MinAPIVersion", "1.24".to_owned()),
        ("Os", "linux".to_owned()),
    ];
    Version {
        platform: PlatformName { name: "fluyt".to_owned() },
        components: vec![ComponentVersion {
            name: "Engine".to_owned(),
            version: version.to_owned(),
            details: details.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        }],
        version: version.to_owned(),
        api_version: API_VERSION.to_owned(),
        min_api_version: "1.24".to_owned(),
        os: "linux".to_owned(),
        arch: go_arch().to_owned(),
        kernel_version: kernel(),
        ..Version::default()
    }
}

/// Runs `fluyt version`. There is one program; both halves of Docker's document are it.
pub fn version(_: &Cli, flags: &Parsed) -> Outcome {
    let server = version_document();
    match flags.text("format") {
        "" => print_text(&format!(
            "fluyt version {}\n API version:  {API_VERSION} (no daemon)\n OS/Arch:      linux/{}\n Kernel:       {}\n",
            server.version, server.arch, server.kernel_version
        ))?,
        format => {
            let client = json!({
                "Platform": {"Name": "fluyt"},
                "Version": server.version, "ApiVersion": API_VERSION, "DefaultAPIVersion": API_VERSION,
                "APIVersion": API_VERSION, "GitCommit": "", "GoVersion": "", "Os": "linux", "Arch": server.arch,
                "BuildTime": "", "Context": "default",
            });
            let mut server = json(&server)?;
            server["APIVersion"] = json!(API_VERSION);
            print_formatted(format, &json!({"Client": client, "Server": server}))?;
        }
    }
    Ok(0)
}

/// Any document as JSON.
///
/// # Errors
/// It has a key that is no text.
pub fn json<T: serde::Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::internal("a document").with_source(e))
}

/// A document by a template, or as JSON; a template that cannot be parsed ends with 64, as with Docker.
pub fn print_formatted(format: &str, document: &Value) -> Result<(), Failure> {
    if format == "json" {
        print_line(&document.to_string())?;
        return Ok(());
    }
    let template = format::parse(format).map_err(|e| Failure::Coded(e, 64))?;
    let text = template
        .execute(&TemplateValue::from_json_struct(document, "document"))
        .map_err(|e| Failure::Coded(format::bad_template(e), 64))?;
    print_line(&text)?;
    Ok(())
}

/// Runs `fluyt info`.
pub fn info(cli: &Cli, flags: &Parsed) -> Outcome {
    let engine = cli.engine()?;
    let document = info_document(cli, engine)?;
    match flags.text("format") {
        "" => print_text(&info_text(&document))?,
        format => print_formatted(format, &json(&document)?)?,
    }
    for warning in document.warnings.iter() {
        eprintln!("{warning}");
    }
    Ok(0)
}

/// What the engine knows, counted.
fn info_document(cli: &Cli, engine: &Engine) -> Result<SystemInfo> {
    let mut info: SystemInfo = super::host::info(cli.root());
    let views: Vec<ContainerView> = engine.list()?;
    let count = |phases: &[Phase]| views.iter().filter(|v| phases.contains(&v.status.phase)).count() as i64;
    info.containers = views.len() as i64;
    info.containers_running = count(&[Phase::Running, Phase::Restarting]);
    info.containers_paused = count(&[Phase::Paused]);
    info.containers_stopped = info.containers - info.containers_running - info.containers_paused;
    info.images = engine.images().images()?.len() as i64;
    info.server_version = env!("CARGO_PKG_VERSION").to_owned();
    if let Some(complaint) = engine.apparmor_complaint() {
        info.warnings = vec![format!("WARNING: {complaint}")].into();
    }
    Ok(info)
}

fn info_text(i: &SystemInfo) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(format!("Containers: {}", i.containers));
    line(format!(" Running: {}", i.containers_running));
    line(format!(" Paused: {}", i.containers_paused));
    line(format!(" Stopped: {}", i.containers_stopped));
    line(format!("Images: {}", i.images));
    line(format!("Server Version: {}", i.server_version));
    line(format!("Storage Driver: {}", i.driver));
    for [name, value] in i.driver_status.iter() {
        line(format!(" {name}: {value}"));
    }
    line(format!("Logging Driver: {}", i.logging_driver));
    line(format!("Cgroup Driver: {}", i.cgroup_driver));
    line(format!("Cgroup Version: {}", i.cgroup_version));
    line("Plugins:".to_owned());
    line(format!(" Volume: {}", i.plugins.volume.join(" ")));
    line(format!(" Network: {}", i.plugins.network.join(" ")));
    line(format!(" Log: {}", i.plugins.log.join(" ")));
    line("CDI spec directories:".to_owned());
    for dir in i.cdi_spec_dirs.iter() {
        line(format!(" {dir}"));
    }
    line(format!("Runtimes: {}", i.runtimes.keys().cloned().collect::<Vec<_>>().join(" ")));
    line(format!("Default Runtime: {}", i.default_runtime));
    line("Security Options:".to_owned());
    for option in i.security_options.iter() {
        let mut parts = option.split(',').filter_map(|part| part.split_once('='));
        line(format!(" {}", parts.next().map_or(option.as_str(), |(_, name)| name)));
        for (_, value) in parts.filter(|(key, _)| *key == "profile") {
            line(format!("  Profile: {value}"));
        }
    }
    line(format!("Kernel Version: {}", i.kernel_version));
    line(format!("Operating System: {}", i.operating_system));
    line(format!("OSType: {}", i.os_type));
    line(format!("Architecture: {}", i.architecture));
    line(format!("CPUs: {}", i.ncpu));
    line(format!("Total Memory: {}", bytes_size(i.mem_total as f64)));
    line(format!("Name: {}", i.name));
    line(format!("Docker Root Dir: {}", i.docker_root_dir));
    line(format!("Debug Mode: {}", i.debug));
    for (name, value) in
        [("HTTP Proxy", &i.http_proxy), ("HTTPS Proxy", &i.https_proxy), ("No Proxy", &i.no_proxy)]
    {
        if !value.is_empty() {
            line(format!("{name}: {value}"));
        }
    }
    line(format!("Experimental: {}", i.experimental_build));
    line(format!("Live Restore Enabled: {}", i.live_restore_enabled));
    out
}

/// Filters of `events`.
const EVENT_FILTERS: &[&str] =
    &["container", "event", "image", "label", "label!", "network", "type", "volume", "scope", "daemon"];

/// Runs `fluyt events`.
pub fn events(cli: &Cli, flags: &Parsed) -> Outcome {
    let filters = Filters::parse(flags.all("filter"), EVENT_FILTERS)?;
    let now = time::now();
    let point = |name: &str| flags.given(name).map(|text| time::parse(text, now)).transpose();
    let (since, until) = (point("since")?, point("until")?);
    let template = match flags.text("format") {
        "" | "json" => None,
        text => Some(format::parse(text).map_err(|e| Failure::Coded(e, 64))?),
    };
    let engine = cli.engine()?;
    // A point in the past ends the stream; one in the future is waited for.
    let mut reader = engine.events(since, until, until.is_none_or(|until| until > now))?;
    while let Some(event) = reader.next_event()? {
        if !event_passes(&event, &filters) {
            continue;
        }
        let message = message(event);
        match &template {
            Some(template) => {
                let value = TemplateValue::from_json_struct(&json(&message)?, "events.Message");
                print_line(&template.execute(&value).map_err(format::bad_template)?)?;
            }
            None if flags.text("format") == "json" => print_line(&json(&message)?.to_string())?,
            None => print_line(&event_line(&message))?,
        }
    }
    Ok(0)
}

fn event_passes(event: &Event, filters: &Filters) -> bool {
    let named = |kind: &str| {
        filters.any(kind, |wanted| {
            event.kind == kind
                && (event.id.starts_with(wanted)
                    || event.attributes.get("name").is_some_and(|name| name == wanted)
                    || (kind == "image" && event.id == wanted))
        })
    };
    let image = filters.any("image", |wanted| {
        event.attributes.get("image").or_else(|| event.attributes.get("name")).is_some_and(|have| {
            have == wanted
                || have.strip_suffix(":latest") == Some(wanted)
                || have.split(':').next() == Some(wanted)
        }) || event.id.starts_with(wanted)
    });
    filters.exact("type", &event.kind)
        && filters
            .any("event", |action| event.action == action || event.action.split(':').next() == Some(action))
        && filters.labels(&event.attributes)
        && named("container")
        && named("network")
        && named("volume")
        && image
        && filters.exact("scope", "local")
        && !filters.has("daemon")
}

/// An event as Docker's document.
fn message(event: Event) -> EventMessage {
    let legacy = matches!(event.kind.as_str(), "container" | "image");
    let text = |wanted: bool, text: &str| if wanted { text.to_owned() } else { String::new() };
    EventMessage {
        status: text(legacy, &event.action),
        id: text(legacy, &event.id),
        from: text(event.kind == "container", event.attributes.get("image").map_or("", String::as_str)),
        action: event.action,
        actor: Actor { id: event.id, attributes: event.attributes },
        kind: event.kind,
        scope: "local".to_owned(),
        time: event.time.div_euclid(1_000_000_000),
        time_nano: event.time,
    }
}

fn event_line(m: &EventMessage) -> String {
    let mut line =
        format!("{} {} {} {}", time::rfc3339_nano_local(m.time_nano), m.kind, m.action, m.actor.id);
    let attributes: &BTreeMap<String, String> = &m.actor.attributes;
    if !attributes.is_empty() {
        let list: Vec<String> = attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
        line.push_str(&format!(" ({})", list.join(", ")));
    }
    line
}
