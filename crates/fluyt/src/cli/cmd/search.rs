//! `search`: repositories of Docker's hub, or of a registry that is named before the term.

use fluyt_docker_api::transfer;
use fluyt_model::Error;
use fluyt_registry::{FoundRepository, Registry};

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

/// Results when nobody says how many, and at most.
const LIMITS: (i64, i64) = (25, 100);

/// Runs `fluyt search`.
pub fn search(_: &Cli, flags: &Parsed) -> Outcome {
    let limit = match flags.int("limit") {
        0 => LIMITS.0,
        n if (1..=LIMITS.1).contains(&n) => n,
        n => {
            return Err(Error::invalid(format!("limit {n} is outside the range of [1, {}]", LIMITS.1)).into());
        }
    };
    let filters = Filters::parse(flags.all("filter"), &["stars", "is-official", "is-automated"])?;
    let mut stars = 0;
    for text in filters.values("stars") {
        let number =
            text.parse::<i64>().map_err(|_| Error::invalid(format!("invalid filter 'stars={text}'")))?;
        stars = stars.max(number);
    }
    let registry = Registry::new(transfer::settings()?);
    let found = registry.search(&flags.args[0], u32::try_from(limit).unwrap_or(25))?;
    let shown = found.iter().filter(|r| {
        r.star_count >= stars
            && filters.exact("is-official", if r.is_official { "true" } else { "false" })
            && filters.exact("is-automated", if r.is_automated { "true" } else { "false" })
    });
    let rows: Vec<Row> = shown.map(|r| row(r, !flags.on("no-trunc"))).collect();
    let template = format::choose(&RESULTS, flags.text("format"), false);
    print_text(&format::render(&RESULTS, template, rows)?)?;
    Ok(0)
}

fn row(found: &FoundRepository, trunc: bool) -> Row {
    let description = found.description.replace(['\n', '\r'], " ");
    let mark = |set: bool| if set { "[OK]" } else { "" };
    Row::default()
        .with("Name", found.name.clone())
        .with("Description", if trunc { ellipsis(&description, 45) } else { description })
        .with("StarCount", found.star_count.to_string())
        .with("IsOfficial", mark(found.is_official))
        .with("IsAutomated", mark(found.is_automated))
}
