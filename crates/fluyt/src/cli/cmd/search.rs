//! `search`: repositories of Docker's hub, or of a registry that is named before the term.

use fluyt_docker_api::api::{SearchImages, SearchResult};
use fluyt_model::Error;

use super::Cli;
use crate::cli::fail::Outcome;
use crate::cli::filter::Filters;
use crate::cli::flags::{Arity, Command, NONE, Parsed, int, many, switch, text, values};
use crate::cli::format::{self, Layout, Row, tabs::ellipsis};
use crate::cli::print_text;

/// `fluyt search`.
pub const SEARCH: Command = Command {
    name: "search",
    arguments: "TERM",
    about: "Search a registry for images",
    flags: &[&[
        many('f', "filter", "filter", values::filter, "Filter output based on conditions provided"),
        text(NONE, "format", "Pretty-print search using a Go template"),
        int(NONE, "limit", "Max number of search results"),
        switch(NONE, "no-trunc", "Don't truncate output"),
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
};

const RESULTS: Layout = Layout {
    type_name: "*search.context",
    headers: &[
        ("Description", "DESCRIPTION"),
        ("IsAutomated", "AUTOMATED"),
        ("IsOfficial", "OFFICIAL"),
        ("Name", "NAME"),
        ("StarCount", "STARS"),
    ],
    table: "table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
    quiet: "{{.Name}}",
};

/// Runs `fluyt search`.
pub fn search(cli: &Cli, flags: &Parsed) -> Outcome {
    let limit = flags.int("limit");
    let wanted = SearchImages {
        term: flags.args[0].clone(),
        limit: Some(
            u32::try_from(limit)
                .map_err(|_| Error::invalid(format!("limit {limit} is outside the range of [1, 100]")))?,
        ),
        filters: Filters::parse(flags.all("filter"), &["stars", "is-official", "is-automated"])?,
        ..SearchImages::default()
    };
    let found = cli.docker()?.image_search(&wanted)?;
    let rows: Vec<Row> = found.iter().map(|r| row(r, !flags.on("no-trunc"))).collect();
    let template = format::choose(&RESULTS, flags.text("format"), false);
    print_text(&format::render(&RESULTS, template, rows)?)?;
    Ok(0)
}

fn row(found: &SearchResult, trunc: bool) -> Row {
    let description = found.description.replace(['\n', '\r'], " ");
    let mark = |set: bool| if set { "[OK]" } else { "" };
    Row::default()
        .with("Name", found.name.clone())
        .with("Description", if trunc { ellipsis(&description, 45) } else { description })
        .with("StarCount", found.star_count.to_string())
        .with("IsOfficial", mark(found.is_official))
        .with("IsAutomated", mark(found.is_automated))
}
