//! `pod ps`.

use fluyt_docker_api::time;
use fluyt_engine::pod::PodView;
use fluyt_model::quantity::human_duration;
use fluyt_model::{Error, Result, id};
use serde::Serialize;

use super::{LATEST, document, failed};
use crate::cli::cmd::Cli;
use crate::cli::cmd::inspect::printed;
use crate::cli::fail::Outcome;
use crate::cli::filter::Filters;
use crate::cli::flags::{Arity, Command, NONE, Parsed, many, switch, text, values};
use crate::cli::format::{self, Layout, Row};
use crate::cli::print_text;

/// `fluyt pod ps`.
pub const PS: Command = Command {
    name: "ps",
    arguments: "",
    about: "List pods",
    flags: &[&[
        switch(NONE, "ctr-ids", "Display the container IDs"),
        switch(NONE, "ctr-names", "Display the container names"),
        switch(NONE, "ctr-status", "Display the container status"),
        many('f', "filter", "filter", values::filter, "Filter output based on conditions provided"),
        text(NONE, "format", "Format output as JSON or using a Go template"),
        LATEST,
        switch(NONE, "no-trunc", "Do not truncate pod and container IDs"),
        switch(NONE, "noheading", "Do not print headers"),
        switch(NONE, "ns", "Display the namespaces that the containers of the pod share"),
        switch('q', "quiet", "Only display pod IDs"),
        text(NONE, "sort", "Sort output by created, id, name, or number").default("created"),
    ]],
    arity: Arity::None,
    interspersed: true,
};

const FILTERS: &[&str] = &[
    "ctr-ids",
    "ctr-names",
    "ctr-number",
    "ctr-status",
    "id",
    "label",
    "label!",
    "name",
    "network",
    "status",
    "until",
];

const LAYOUT: Layout = Layout {
    type_name: "pods.ListPodReporter",
    headers: &[
        ("Cgroup", "CGROUP"),
        ("ContainerIds", "IDS"),
        ("ContainerNames", "NAMES"),
        ("ContainerStatuses", "STATUS"),
        ("Created", "CREATED"),
        ("ID", "POD ID"),
        ("Id", "POD ID"),
        ("InfraID", "INFRA ID"),
        ("InfraId", "INFRA ID"),
        ("Labels", "LABELS"),
        ("Name", "NAME"),
        ("Namespace", "NAMESPACES"),
        ("Networks", "NETWORKS"),
        ("NumberOfContainers", "# OF CONTAINERS"),
        ("Status", "STATUS"),
    ],
    table: "table {{.ID}}\t{{.Name}}\t{{.Status}}\t{{.Created}}\t{{.InfraID}}",
    quiet: "{{.ID}}",
};

/// Runs `fluyt pod ps`.
pub fn ps(cli: &Cli, flags: &Parsed) -> Outcome {
    let engine = cli.engine().map_err(failed)?;
    let filters = Filters::parse(flags.all("filter"), FILTERS).map_err(failed)?;
    let now = time::now();
    let mut pods = engine.pods().map_err(failed)?;
    if flags.on("latest") {
        pods.truncate(1);
    }
    let until = filters.time("until", now).map_err(failed)?;
    pods.retain(|pod| passes(pod, &filters) && until.is_none_or(|at| pod.created < at));
    sort(&mut pods, flags.text("sort")).map_err(failed)?;
    let text = shown(&pods, flags, now).map_err(failed)?;
    print_text(&text)?;
    Ok(0)
}

fn shown(pods: &[PodView], flags: &Parsed, now: i64) -> Result<String> {
    let format = flags.text("format");
    if format == "json" {
        let all: Vec<PodSummary> = pods.iter().map(summary).collect();
        return Ok(printed(&all, serde_json::ser::PrettyFormatter::with_indent(b"  "))? + "\n");
    }
    let mut table = LAYOUT.table.to_owned();
    let details =
        [("ctr-ids", "ContainerIds"), ("ctr-names", "ContainerNames"), ("ctr-status", "ContainerStatuses")];
    for (_, field) in details.iter().filter(|(flag, _)| flags.on(flag)) {
        table.push_str(&format!("\t{{{{.{field}}}}}"));
    }
    if !details.iter().any(|(flag, _)| flags.on(flag)) {
        table.push_str("\t{{.NumberOfContainers}}");
    }
    if flags.on("ns") {
        table.push_str("\t{{.Namespace}}");
    }
    let template = match (format, flags.on("quiet")) {
        ("" | "table", true) => LAYOUT.quiet,
        ("" | "table", false) => &table,
        (other, _) => other,
    };
    let trunc = !flags.on("no-trunc");
    let text = format::render(&LAYOUT, template, pods.iter().map(|pod| row(pod, trunc, now)))?;
    if flags.on("noheading") && template.starts_with("table") {
        return Ok(text.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap_or_default());
    }
    Ok(text)
}

fn passes(pod: &PodView, filters: &Filters) -> bool {
    let members = document::members(pod);
    filters.id("id", &pod.id)
        && filters.any("name", |n| Filters::name_matches(&pod.name, n))
        && filters.labels(&pod.spec.sandbox.labels)
        && filters.any("status", |s| s.eq_ignore_ascii_case(pod.phase.as_str()))
        && filters.any("network", |n| pod.spec.sandbox.networks.iter().any(|a| a.network == n))
        && filters.any("ctr-number", |n| n.parse() == Ok(members.len()))
        && filters.any("ctr-names", |n| members.iter().any(|m| Filters::name_matches(&m.name, n)))
        && filters.any("ctr-ids", |n| members.iter().any(|m| m.id.starts_with(n)))
        && filters.any("ctr-status", |s| members.iter().any(|m| m.state == s))
}

fn sort(pods: &mut [PodView], by: &str) -> Result<()> {
    match by {
        // As they come: newest first.
        "created" => {}
        "id" => pods.sort_by(|a, b| a.id.cmp(&b.id)),
        "name" => pods.sort_by(|a, b| a.name.cmp(&b.name)),
        "number" => pods.sort_by_key(|pod| pod.members.len()),
        "status" => pods.sort_by_key(|pod| pod.phase.as_str()),
        other => {
            return Err(Error::invalid(format!("{other} is not a valid choice for --sort"))
                .with_hint("use created, id, name, number or status"));
        }
    }
    Ok(())
}

fn row(pod: &PodView, trunc: bool, now: i64) -> Row {
    let short = |full: &str| if trunc { id::short(full).to_owned() } else { full.to_owned() };
    let members = document::members(pod);
    let joined =
        |of: &dyn Fn(&document::Member) -> String| members.iter().map(of).collect::<Vec<_>>().join(",");
    let networks: Vec<&str> = pod.spec.sandbox.networks.iter().map(|a| a.network.as_str()).collect();
    Row::default()
        .with("Cgroup", pod.cgroup.clone())
        .with("ContainerIds", joined(&|m| short(&m.id)))
        .with("ContainerNames", joined(&|m| m.name.clone()))
        .with("ContainerStatuses", joined(&|m| m.state.clone()))
        .with("Created", human_duration(now - pod.created) + " ago")
        .with("ID", short(&pod.id))
        .with("Id", short(&pod.id))
        .with("InfraID", short(&pod.infra_id))
        .with("InfraId", short(&pod.infra_id))
        .with_labels(&pod.spec.sandbox.labels)
        .with("Name", pod.name.clone())
        .with("Namespace", document::shared(pod).join(","))
        .with("Networks", networks.join(","))
        .with("NumberOfContainers", members.len().to_string())
        .with("Status", pod.phase.as_str())
}

/// A pod of `pod ps --format json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PodSummary {
    cgroup: String,
    containers: Vec<SummaryMember>,
    created: String,
    id: String,
    infra_id: String,
    name: String,
    namespace: &'static str,
    networks: Vec<String>,
    status: &'static str,
    labels: std::collections::BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SummaryMember {
    id: String,
    names: String,
    status: String,
}

fn summary(pod: &PodView) -> PodSummary {
    let member = |m: document::Member| SummaryMember { id: m.id, names: m.name, status: m.state };
    PodSummary {
        cgroup: pod.cgroup.rsplit_once('/').map(|(parent, _)| parent.to_owned()).unwrap_or_default(),
        containers: document::members(pod).into_iter().map(member).collect(),
        created: time::rfc3339_nano(pod.created),
        id: pod.id.clone(),
        infra_id: pod.infra_id.clone(),
        name: pod.name.clone(),
        namespace: "",
        networks: pod.spec.sandbox.networks.iter().map(|a| a.network.clone()).collect(),
        status: pod.phase.as_str(),
        labels: pod.spec.sandbox.labels.clone(),
    }
}
