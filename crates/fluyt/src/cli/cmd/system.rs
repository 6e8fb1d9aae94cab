//! `version`, `info`, `events`.

use std::collections::BTreeMap;

use fluyt_docker_api::api::{EventsOf, Next, System, Wait};
use fluyt_docker_api::render::API_VERSION;
use fluyt_docker_api::select::events as select;
use fluyt_docker_api::types::{EventMessage, SystemInfo};
use fluyt_gotmpl::Value as TemplateValue;
use fluyt_model::quantity::bytes_size;
use fluyt_model::{Error, Result};
use serde_json::{Value, json};

use super::Cli;
use crate::cli::fail::{Failure, Outcome};
use crate::cli::filter::Filters;
use crate::cli::flags::{Arity, Command, NONE, Parsed, many, text, values};
use crate::cli::format;
use crate::cli::{print_line, print_text, render, time};

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

/// Runs `fluyt version`. Without a daemon there is one program; both halves of Docker's document are it.
pub fn version(cli: &Cli, flags: &Parsed) -> Outcome {
    let client = render::version();
    let server = match cli.remote()? {
        Some(remote) => Some((remote.version()?, remote.client().host().to_string())),
        None => None,
    };
    match flags.text("format") {
        "" => {
            let daemon = match &server {
                None => "no daemon".to_owned(),
                Some((_, host)) => host.clone(),
            };
            let mut text = format!(
                "fluyt version {}\n API version:  {API_VERSION} ({daemon})\n OS/Arch:      linux/{}\n Kernel:       {}\n",
                client.version, client.arch, client.kernel_version
            );
            if let Some((server, _)) = &server {
                text.push_str(&format!(
                    "\nServer: {}\n Version:      {}\n API version:  {} (minimum version {})\n OS/Arch:      {}/{}\n Kernel:       {}\n",
                    server.platform.name,
                    server.version,
                    server.api_version,
                    server.min_api_version,
                    server.os,
                    server.arch,
                    server.kernel_version
                ));
            }
            print_text(&text)?;
        }
        format => {
            let context = cli.options().name()?;
            let own = json!({
                "Platform": {"Name": "fluyt"},
                "Version": client.version, "ApiVersion": API_VERSION, "DefaultAPIVersion": API_VERSION,
                "APIVersion": API_VERSION, "GitCommit": "", "GoVersion": "", "Os": "linux", "Arch": client.arch,
                "BuildTime": "", "Context": context,
            });
            let server = server.map_or(client, |(server, _)| server);
            let api_version = server.api_version.clone();
            let mut server = json(&server)?;
            server["APIVersion"] = json!(api_version);
            print_formatted(format, &json!({"Client": own, "Server": server}))?;
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
    let document = cli.docker()?.info()?;
    match flags.text("format") {
        "" => print_text(&info_text(&document))?,
        format => print_formatted(format, &json(&document)?)?,
    }
    for warning in document.warnings.iter() {
        eprintln!("{warning}");
    }
    Ok(0)
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

/// Runs `fluyt events`.
pub fn events(cli: &Cli, flags: &Parsed) -> Outcome {
    let filters = Filters::parse(flags.all("filter"), select::FILTERS)?;
    let now = time::now();
    let point = |name: &str| flags.given(name).map(|text| time::parse(text, now)).transpose();
    let (since, until) = (point("since")?, point("until")?);
    let template = match flags.text("format") {
        "" | "json" => None,
        text => Some(format::parse(text).map_err(|e| Failure::Coded(e, 64))?),
    };
    let mut stream = cli.docker()?.events(&EventsOf { since, until, filters })?;
    while let Next::Item(message) = stream.next(Wait::FOREVER)? {
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
