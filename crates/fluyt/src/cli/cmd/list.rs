//! `ps`.

use fluyt_docker_api::api::ListContainers;
use fluyt_docker_api::select::containers;
use fluyt_docker_api::types::ContainerSummary;
use fluyt_model::id;

use super::Cli;
use crate::cli::fail::Outcome;
use crate::cli::filter::Filters;
use crate::cli::flags::{Arity, Command, NONE, Parsed, int, many, switch, text, values};
use crate::cli::format::{self, rows};
use crate::cli::{print_text, time};

/// Help of `--format`.
pub const FORMAT: &str = "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.";

/// `fluyt ps`.
pub const PS: Command = Command {
    name: "ps",
    arguments: "",
    about: "List containers",
    flags: &[&[
        switch('a', "all", "Show all containers (default shows just running)"),
        many('f', "filter", "filter", values::filter, "Filter output based on conditions provided"),
        text(NONE, "format", FORMAT),
        int('n', "last", "Show n last created containers (includes all states)").default("-1"),
        switch('l', "latest", "Show the latest created container (includes all states)"),
        switch(NONE, "no-trunc", "Don't truncate output"),
        switch('p', "pod", "Print the ID and name of the pod that containers are members of"),
        switch('q', "quiet", "Only display container IDs"),
        switch('s', "size", "Display total file sizes"),
    ]],
    arity: Arity::None,
    interspersed: true,
};

/// Runs `fluyt ps`.
pub fn ps(cli: &Cli, flags: &Parsed) -> Outcome {
    let docker = cli.docker()?;
    let last = if flags.on("latest") { 1 } else { flags.int("last") };
    let format = flags.text("format");
    let wanted = ListContainers {
        all: flags.on("all"),
        limit: usize::try_from(last).ok().filter(|last| *last > 0),
        size: flags.on("size") || format.contains(".Size"),
        filters: Filters::parse(flags.all("filter"), containers::FILTERS)?,
    };
    show(&docker.container_list(&wanted)?, flags, format, time::now())
}

fn show(summaries: &[ContainerSummary], flags: &Parsed, format: &str, now: i64) -> Outcome {
    let trunc = !flags.on("no-trunc");
    let mut template = format::choose(&rows::CONTAINERS, format, flags.on("quiet"));
    if template == rows::CONTAINERS.table && flags.on("size") {
        template = rows::CONTAINERS_WITH_SIZE;
    }
    let with_pods;
    if flags.on("pod") && template.starts_with("table") {
        with_pods = format!("{template}\t{{{{.Pod}}}}\t{{{{.PodName}}}}");
        template = &with_pods;
    }
    let pods = template.contains(".Pod");
    let rows = summaries.iter().map(|summary| {
        let row = rows::container(summary, trunc, now);
        let pod = if trunc { id::short(&summary.pod) } else { &summary.pod };
        if pods { row.with("Pod", pod).with("PodName", summary.pod_name.clone()) } else { row }
    });
    print_text(&format::render(&rows::CONTAINERS, template, rows)?)?;
    Ok(0)
}
