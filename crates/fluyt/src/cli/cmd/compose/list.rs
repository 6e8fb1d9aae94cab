//! `ps`, `ls`, `images`, `port`, `top`, `volumes`, `events`, `stats`, `version`.

use std::collections::BTreeMap;

use fluyt_compose::labels;
use fluyt_compose::plan::Container;
use fluyt_docker_api::api::{EventsOf, Filters, ListContainers, Next, Wait};
use fluyt_docker_api::types::ContainerSummary;
use fluyt_gotmpl::{Value, to_json};
use fluyt_model::{Error, Result};

use super::Called;
use super::project::word;
use crate::cli::cmd::stats;
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, Flag, NONE, int, list, switch, text};
use crate::cli::format::tabs::{TABLE, align};
use crate::cli::format::{self, Row, rows};
use crate::cli::{print_line, print_text, time};

const fn services(name: &'static str, about: &'static str, flags: &'static [&'static [Flag]]) -> Command {
    Command { name, arguments: "[SERVICE...]", about, flags, arity: Arity::AtLeast(0), interspersed: true }
}

/// `fluyt compose ps`.
pub const PS: Command = services(
    "ps",
    "List containers",
    &[&[
        switch('a', "all", "Show all stopped containers (including those created by the run command)"),
        text(NONE, "filter", "Filter services by a property (supported filters: status)"),
        text(NONE, "format", super::super::list::FORMAT).default("table"),
        switch(NONE, "no-trunc", "Don't truncate output"),
        switch(NONE, "orphans", "Include orphaned services (not declared by project)").default("true"),
        switch('q', "quiet", "Only display IDs"),
        switch(NONE, "services", "Display services"),
        list(
            NONE,
            "status",
            "Filter services by status. Values: [paused | restarting | removing | running | dead | created | exited]",
        ),
    ]],
);

/// `fluyt compose ls`.
pub const LS: Command = Command {
    name: "ls",
    arguments: "",
    about: "List running compose projects",
    flags: &[&[
        switch('a', "all", "Show all Compose projects"),
        list(NONE, "filter", "Filter output based on conditions provided"),
        text(NONE, "format", "Format the output. Values: [table | json]").default("table"),
        switch('q', "quiet", "Only display project names"),
    ]],
    arity: Arity::None,
    interspersed: true,
};

/// `fluyt compose images`.
pub const IMAGES: Command = services(
    "images",
    "List images used by the created containers",
    &[&[
        text(NONE, "format", "Format the output. Values: [table | json]").default("table"),
        switch('q', "quiet", "Only display IDs"),
    ]],
);

/// `fluyt compose port`.
pub const PORT: Command = Command {
    name: "port",
    arguments: "SERVICE PRIVATE_PORT",
    about: "Print the public port for a port binding",
    flags: &[&[
        int(NONE, "index", "Index of the container if service has multiple replicas").default("0"),
        text(NONE, "protocol", "tcp or udp").default("tcp"),
    ]],
    arity: Arity::Exactly(2),
    interspersed: true,
};

/// `fluyt compose top`.
pub const TOP: Command = services("top", "Display the running processes", &[]);

/// `fluyt compose volumes`.
pub const VOLUMES: Command = services(
    "volumes",
    "List volumes",
    &[&[
        text(NONE, "format", "Format the output. Values: [table | json]").default("table"),
        switch('q', "quiet", "Only display volume names"),
    ]],
);

/// `fluyt compose events`.
pub const EVENTS: Command = services(
    "events",
    "Receive real time events from containers",
    &[&[
        switch(NONE, "json", "Output events as a stream of json objects"),
        text(NONE, "since", "Show all events created since timestamp"),
        text(NONE, "until", "Stream events until this timestamp"),
    ]],
);

/// `fluyt compose stats`.
pub const STATS: Command = services(
    "stats",
    "Display a live stream of container(s) resource usage statistics",
    &[&[
        switch('a', "all", "Show all containers (default shows just running)"),
        text(NONE, "format", super::super::list::FORMAT),
        switch(NONE, "no-stream", "Disable streaming stats and only pull the first result"),
        switch(NONE, "no-trunc", "Do not truncate output"),
    ]],
);

/// `fluyt compose version`.
pub const VERSION: Command = Command {
    name: "version",
    arguments: "",
    about: "Show the Compose version information",
    flags: &[&[
        text('f', "format", "Format the output. Values: [pretty | json]"),
        switch(NONE, "short", "Shows only Compose's version number"),
    ]],
    arity: Arity::None,
    interspersed: true,
};

fn table(rows: &[Vec<String>]) -> String {
    let text: String = rows.iter().map(|row| format!("{}\n", row.join("\t"))).collect();
    align(&text, TABLE)
}

/// Summaries of a project's containers.
fn summaries(called: &Called<'_>, project: &str) -> Result<Vec<ContainerSummary>> {
    let mut filters = Filters::default();
    filters.add("label", &format!("{}={project}", labels::PROJECT));
    called.docker()?.container_list(&ListContainers { all: true, filters, ..ListContainers::default() })
}

/// Runs `fluyt compose ps`.
///
/// # Errors
/// There is no such service; the format is wrong.
pub fn ps(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let found = called.found()?;
    found.containers(&parsed.args)?;
    let mut status = parsed.list("status");
    if let Some(filter) = parsed.given("filter").filter(|f| !f.is_empty()) {
        match filter.split_once('=') {
            Some(("status", value)) => status.push(value.to_owned()),
            _ => {
                return Err(Error::invalid(format!("unknown filter {filter:?}"))
                    .with_hint("use status=…")
                    .into());
            }
        }
    }
    let all = parsed.on("all") || !status.is_empty();
    let label = |c: &ContainerSummary, key: &str| c.labels.get(key).cloned().unwrap_or_default();
    let known = |service: &str| {
        found
            .project
            .as_ref()
            .is_none_or(|p| p.service(service).is_some() || p.disabled.contains_key(service))
    };
    let mut list: Vec<ContainerSummary> = summaries(called, &found.name)?
        .into_iter()
        .filter(|c| all || matches!(c.state.as_str(), "running" | "restarting" | "paused"))
        .filter(|c| status.is_empty() || status.contains(&c.state))
        .filter(|c| parsed.on("all") || !label(c, labels::ONE_OFF).eq_ignore_ascii_case("true"))
        .filter(|c| parsed.args.is_empty() || parsed.args.contains(&label(c, labels::SERVICE)))
        .filter(|c| parsed.on("orphans") || known(&label(c, labels::SERVICE)))
        .collect();
    list.sort_by(|a, b| a.names.first().cmp(&b.names.first()));
    if parsed.on("quiet") {
        for container in &list {
            print_line(&container.id)?;
        }
        return Ok(0);
    }
    if parsed.on("services") {
        let mut names: Vec<String> = list.iter().map(|c| label(c, labels::SERVICE)).collect();
        names.sort();
        names.dedup();
        names.iter().try_for_each(|n| print_line(n))?;
        return Ok(0);
    }
    let now = time::now();
    let mut out = Vec::new();
    for container in &list {
        out.push(row(called, container, &found.name, !parsed.on("no-trunc"), now)?);
    }
    let layout = &LAYOUT;
    let template = format::choose(layout, parsed.text("format"), false);
    print_text(&format::render(layout, template, out)?)?;
    Ok(0)
}

const LAYOUT: format::Layout = format::Layout {
    type_name: "*formatter.ContainerContext",
    headers: &[
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("ExitCode", "EXIT CODE"),
        ("Health", "HEALTH"),
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("Name", "NAME"),
        ("Names", "NAMES"),
        ("Networks", "NETWORKS"),
        ("Ports", "PORTS"),
        ("Project", "PROJECT"),
        ("Publishers", "PUBLISHERS"),
        ("RunningFor", "CREATED"),
        ("Service", "SERVICE"),
        ("Size", "SIZE"),
        ("State", "STATE"),
        ("Status", "STATUS"),
    ],
    table: "table {{.Name}}\t{{.Image}}\t{{.Command}}\t{{.Service}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}",
    quiet: "{{.ID}}",
};

fn row(called: &Called<'_>, c: &ContainerSummary, project: &str, trunc: bool, now: i64) -> Result<Row> {
    let label = |key: &str| c.labels.get(key).cloned().unwrap_or_default();
    let name = c.names.first().map(|n| n.trim_start_matches('/').to_owned()).unwrap_or_default();
    let inspected = called.docker()?.container_inspect(&c.id, false);
    let (code, health) = inspected
        .map(|i| (i.state.exit_code, i.state.health.map(|h| h.status).unwrap_or_default()))
        .unwrap_or_default();
    let health = if health == "none" { String::new() } else { health };
    let publishers = c.ports.iter().map(|p| {
        Value::map([
            ("URL".to_owned(), Value::from(p.ip.clone())),
            ("TargetPort".to_owned(), Value::from(i64::from(p.private_port))),
            ("PublishedPort".to_owned(), Value::from(i64::from(p.public_port))),
            ("Protocol".to_owned(), Value::from(p.kind.clone())),
        ])
    });
    Ok(rows::container(c, trunc, now)
        .with("Name", name)
        .with("Service", label(labels::SERVICE))
        .with("Project", project)
        .with("Health", health)
        .with_value("ExitCode", Value::from(code))
        .with_value("Publishers", Value::list(publishers.collect())))
}

/// Runs `fluyt compose ls`.
///
/// # Errors
/// The engine does not answer.
pub fn ls(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let mut filters = Filters::default();
    filters.add("label", labels::PROJECT);
    let list = called.docker()?.container_list(&ListContainers {
        all: parsed.on("all"),
        filters,
        ..ListContainers::default()
    })?;
    let names: Vec<String> =
        parsed.all("filter").filter_map(|f| f.strip_prefix("name=").map(str::to_owned)).collect();
    let mut projects: BTreeMap<String, (BTreeMap<String, usize>, Vec<String>)> = BTreeMap::new();
    for container in &list {
        let label = |key: &str| container.labels.get(key).cloned().unwrap_or_default();
        let name = label(labels::PROJECT);
        if !names.is_empty() && !names.iter().any(|n| name.contains(n.as_str())) {
            continue;
        }
        let entry = projects.entry(name).or_default();
        *entry.0.entry(container.state.clone()).or_default() += 1;
        for file in label(labels::CONFIG_FILES).split(',').filter(|f| !f.is_empty()) {
            if !entry.1.iter().any(|f| f == file) {
                entry.1.push(file.to_owned());
            }
        }
    }
    if parsed.on("quiet") {
        projects.keys().try_for_each(|name| print_line(name))?;
        return Ok(0);
    }
    let status = |states: &BTreeMap<String, usize>| {
        states.iter().map(|(state, n)| format!("{state}({n})")).collect::<Vec<_>>().join(", ")
    };
    if parsed.text("format") == "json" {
        let all: Vec<serde_json::Value> = projects
            .iter()
            .map(|(name, (states, files))| serde_json::json!({"Name": name, "Status": status(states), "ConfigFiles": files.join(",")}))
            .collect();
        print_line(&serde_json::Value::Array(all).to_string())?;
        return Ok(0);
    }
    let mut rows = vec![["NAME", "STATUS", "CONFIG FILES"].map(str::to_owned).to_vec()];
    rows.extend(
        projects.iter().map(|(name, (states, files))| vec![name.clone(), status(states), files.join(",")]),
    );
    print_text(&table(&rows))?;
    Ok(0)
}

/// Runs `fluyt compose images`.
///
/// # Errors
/// There is no such service.
pub fn images(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let found = called.found()?;
    let docker = called.docker()?;
    let mut rows =
        vec![["CONTAINER", "REPOSITORY", "TAG", "PLATFORM", "IMAGE ID", "SIZE"].map(str::to_owned).to_vec()];
    let mut json = Vec::new();
    for container in found.containers(&parsed.args)? {
        let now = docker.container_inspect(&container.id, false)?;
        let Ok(image) = docker.image_inspect(&now.image, "") else { continue };
        if parsed.on("quiet") {
            print_line(&image.id)?;
            continue;
        }
        let name = &now.config.image;
        let (repository, tag) = match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository.to_owned(), tag.to_owned()),
            _ => (name.clone(), "latest".to_owned()),
        };
        let id: String = image.id.trim_start_matches("sha256:").chars().take(12).collect();
        let platform = format!("{}/{}", image.os, image.architecture);
        json.push(serde_json::json!({"ContainerName": container.name, "Repository": repository, "Tag": tag, "Platform": platform, "ID": image.id, "Size": image.size}));
        let size = fluyt_model::quantity::human_size(image.size as f64);
        rows.push(vec![container.name.clone(), repository, tag, platform, id, size]);
    }
    if parsed.on("quiet") {
        return Ok(0);
    }
    if parsed.text("format") == "json" {
        print_line(&serde_json::Value::Array(json).to_string())?;
    } else {
        print_text(&table(&rows))?;
    }
    Ok(0)
}

/// Runs `fluyt compose port`.
///
/// # Errors
/// The port is not published.
pub fn port(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let found = called.found()?;
    let (service, port) = (&parsed.args[0], &parsed.args[1]);
    let container = found.one(service, parsed.int("index"))?;
    let now = called.docker()?.container_inspect(&container.id, false)?;
    let (port, protocol) = port.split_once('/').unwrap_or((port, parsed.text("protocol")));
    let wanted = format!("{port}/{protocol}");
    let bindings = now.network_settings.ports.iter().find(|(p, _)| p.to_string() == wanted).map(|(_, b)| b);
    let binding = bindings.and_then(|b| b.first()).filter(|b| !b.host_port.is_empty()).ok_or_else(|| {
        Error::not_found(format!("no port {wanted} for container {}", container.name))
            .with_hint("publish it: ports in the Compose file")
    })?;
    print_line(&format!("{}:{}", binding.host_ip, binding.host_port))?;
    Ok(0)
}

/// Runs `fluyt compose top`.
///
/// # Errors
/// There is no such service.
pub fn top(called: &Called<'_>) -> Outcome {
    let found = called.found()?;
    let mut out: Vec<Vec<String>> = Vec::new();
    for container in found.containers(&called.parsed.args)?.into_iter().filter(|c| c.is_up()) {
        let processes = called.docker()?.container_top(&container.id, &[])?;
        if out.is_empty() {
            let mut titles = vec![word("SERVICE"), word("#")];
            titles.extend(processes.titles);
            out.push(titles);
        }
        for process in processes.processes {
            let mut row = vec![container.service.clone(), container.number.to_string()];
            row.extend(process);
            out.push(row);
        }
    }
    print_text(&table(&out))?;
    Ok(0)
}

/// Runs `fluyt compose volumes`.
///
/// # Errors
/// There is no such service.
pub fn volumes(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let found = called.found()?;
    let used: Vec<String> =
        found.containers(&parsed.args)?.iter().flat_map(|c| c.volumes.values().cloned()).collect();
    let mut filters = Filters::default();
    filters.add("label", &format!("{}={}", labels::PROJECT, found.name));
    let mut list = called.docker()?.volume_list(&filters)?.volumes;
    list.retain(|v| parsed.args.is_empty() || used.contains(&v.name));
    list.sort_by(|a, b| a.name.cmp(&b.name));
    if parsed.on("quiet") {
        list.iter().try_for_each(|v| print_line(&v.name))?;
        return Ok(0);
    }
    if parsed.text("format") == "json" {
        for volume in &list {
            print_line(&serde_json::to_string(volume).map_err(|e| Error::internal(e.to_string()))?)?;
        }
        return Ok(0);
    }
    let mut rows = vec![["DRIVER", "VOLUME NAME"].map(str::to_owned).to_vec()];
    rows.extend(list.into_iter().map(|v| vec![v.driver, v.name]));
    print_text(&table(&rows))?;
    Ok(0)
}

/// Runs `fluyt compose events`.
///
/// # Errors
/// The engine does not answer.
pub fn events(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let found = called.found()?;
    let now = time::now();
    let point = |name: &str| parsed.given(name).map(|text| time::parse(text, now)).transpose();
    let mut filters = Filters::default();
    filters.add("label", &format!("{}={}", labels::PROJECT, found.name));
    filters.add("type", "container");
    let wanted = EventsOf { since: point("since")?, until: point("until")?, filters };
    let mut stream = called.docker()?.events(&wanted)?;
    while let Next::Item(event) = stream.next(Wait::FOREVER)? {
        let attributes = &event.actor.attributes;
        let get = |key: &str| attributes.get(key).cloned().unwrap_or_default();
        let service = get(labels::SERVICE);
        if !parsed.args.is_empty() && !parsed.args.contains(&service) {
            continue;
        }
        let own: BTreeMap<&String, &String> =
            attributes.iter().filter(|(key, _)| !key.starts_with("com.docker.compose.")).collect();
        let stamp = time::rfc3339_nano_local(event.time_nano);
        if parsed.on("json") {
            let line = serde_json::json!({"time": stamp, "type": "container", "action": event.action, "id": event.actor.id, "service": service, "attributes": own});
            print_line(&line.to_string())?;
        } else {
            let own: Vec<String> = own.iter().map(|(k, v)| format!("{k}={v}")).collect();
            print_line(&format!(
                "{stamp} container {} {} ({})",
                event.action,
                event.actor.id,
                own.join(", ")
            ))?;
        }
    }
    Ok(0)
}

/// Runs `fluyt compose stats`.
///
/// # Errors
/// There is no such service.
pub fn stats(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let found = called.found()?;
    let up = |c: &&Container| parsed.on("all") || c.is_up();
    let names: Vec<String> =
        found.containers(&parsed.args)?.into_iter().filter(up).map(|c| c.name.clone()).collect();
    if names.is_empty() {
        return Ok(0);
    }
    let mut words: Vec<String> = Vec::new();
    for flag in ["no-stream", "no-trunc", "all"] {
        if parsed.on(flag) {
            words.push(format!("--{flag}"));
        }
    }
    if let Some(format) = parsed.given("format") {
        words.extend([word("--format"), word(format)]);
    }
    words.extend(names);
    called.call(&stats::STATS, stats::stats, &words)
}

/// Runs `fluyt compose version`.
///
/// # Errors
/// Standard output cannot be written.
pub fn version(called: &Called<'_>) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    let text = match (called.parsed.on("short"), called.parsed.text("format")) {
        (true, _) => version.to_owned(),
        (_, "json") => to_json(&Value::map([("version".to_owned(), Value::from(version.to_owned()))])),
        _ => format!("fluyt compose version {version} (as Docker Compose {})", labels::OUR_VERSION),
    };
    print_line(&text)?;
    Ok(0)
}
