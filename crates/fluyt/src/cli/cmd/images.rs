//! `images`, `history`, `tag`.

use fluyt_docker_api::api::ListImages;
use fluyt_docker_api::select::images as select;

use super::Cli;
use crate::cli::fail::Outcome;
use crate::cli::filter::Filters;
use crate::cli::flags::{Arity, Command, NONE, Parsed, many, switch, text, values};
use crate::cli::format::{self, rows};
use crate::cli::{print_text, time};

/// `fluyt images`.
pub const IMAGES: Command = Command {
    name: "images",
    arguments: "[REPOSITORY[:TAG]]",
    about: "List images",
    flags: &[&[
        switch('a', "all", "Show all images (default hides intermediate images)"),
        switch(NONE, "digests", "Show digests"),
        many('f', "filter", "filter", values::filter, "Filter output based on conditions provided"),
        text(NONE, "format", super::list::FORMAT),
        switch(NONE, "no-trunc", "Don't truncate output"),
        switch('q', "quiet", "Only show image IDs"),
        switch(NONE, "tree", "List multi-platform images as a tree").hidden(),
    ]],
    arity: Arity::AtMost(1),
    interspersed: true,
};

/// `fluyt history`.
pub const HISTORY: Command = Command {
    name: "history",
    arguments: "IMAGE",
    about: "Show the history of an image",
    flags: &[&[
        text(NONE, "format", super::list::FORMAT),
        switch('H', "human", "Print sizes and dates in human readable format").default("true"),
        switch(NONE, "no-trunc", "Don't truncate output"),
        text(NONE, "platform", "Show history for the given platform"),
        switch('q', "quiet", "Only show image IDs"),
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
};

/// `fluyt tag`.
pub const TAG: Command = Command {
    name: "tag",
    arguments: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    about: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    flags: &[],
    arity: Arity::Exactly(2),
    interspersed: true,
};

/// Runs `fluyt images`.
pub fn images(cli: &Cli, flags: &Parsed) -> Outcome {
    let docker = cli.docker()?;
    let now = time::now();
    let pattern = flags.args.first().map(|pattern| format!("reference={pattern}"));
    let filters = Filters::parse(flags.all("filter").chain(pattern.as_deref()), select::FILTERS)?;
    let digests = flags.on("digests") || flags.text("format").contains(".Digest");
    let wanted = ListImages { all: flags.on("all"), filters, ..ListImages::default() };
    let rows = docker.image_list(&wanted)?;
    let trunc = !flags.on("no-trunc");
    let mut template = format::choose(&rows::IMAGES, flags.text("format"), flags.on("quiet"));
    if template == rows::IMAGES.table && flags.on("digests") {
        template = rows::IMAGES_WITH_DIGESTS;
    }
    let quiet = template == rows::IMAGES.quiet;
    let all = rows.iter().flat_map(|summary| {
        let mut rows = rows::image(summary, digests, trunc, now);
        // An id is an id, however many names it has.
        if quiet {
            rows.truncate(1);
        }
        rows
    });
    print_text(&format::render(&rows::IMAGES, template, all)?)?;
    Ok(0)
}

/// Runs `fluyt history`.
pub fn history(cli: &Cli, flags: &Parsed) -> Outcome {
    let items = cli.docker()?.image_history(&flags.args[0], flags.text("platform"))?;
    let now = time::now();
    let mut template = format::choose(&rows::HISTORY, flags.text("format"), flags.on("quiet"));
    let human = flags.on("human");
    if template == rows::HISTORY.table && !human {
        template = rows::HISTORY_PLAIN;
    }
    let trunc = !flags.on("no-trunc");
    print_text(&format::render(
        &rows::HISTORY,
        template,
        items.iter().map(|item| rows::history(item, trunc, human, now)),
    )?)?;
    Ok(0)
}

/// Runs `fluyt tag`.
pub fn tag(cli: &Cli, flags: &Parsed) -> Outcome {
    let (repository, tag) = super::content::apart(&flags.args[1]);
    cli.docker()?.image_tag(&flags.args[0], repository, tag)?;
    Ok(0)
}
