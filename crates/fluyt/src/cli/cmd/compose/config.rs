//! `fluyt compose config`: the project as it was understood.

use fluyt_compose::{Project, load};
use fluyt_model::Error;
use fluyt_model::error::IoContext;

use super::Called;
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, NONE, switch, text};
use crate::cli::print_text;

/// `fluyt compose config`.
pub const CONFIG: Command = Command {
    name: "config",
    arguments: "[SERVICE...]",
    about: "Parse, resolve and render compose file in canonical format",
    flags: &[&[
        switch(NONE, "environment", "Print environment used for interpolation"),
        text(NONE, "format", "Format the output. Values: [yaml | json]").default("yaml"),
        text(NONE, "hash", "Print the service config hash, one per line"),
        switch(NONE, "images", "Print the image names, one per line"),
        switch(NONE, "lock-image-digests", "Produces an override file with image digests"),
        switch(NONE, "models", "Print the model names, one per line"),
        switch(NONE, "networks", "Print the network names, one per line"),
        switch(NONE, "no-consistency", "Don't check model consistency - warning: may produce invalid output"),
        switch(NONE, "no-env-resolution", "Don't resolve service env files"),
        switch(NONE, "no-interpolate", "Don't interpolate environment variables"),
        switch(NONE, "no-normalize", "Don't normalize compose model"),
        switch(NONE, "no-path-resolution", "Don't resolve file paths"),
        text('o', "output", "Save to file (default to stdout)"),
        switch(NONE, "profiles", "Print the profile names, one per line"),
        switch('q', "quiet", "Only validate the configuration, don't print anything"),
        switch(NONE, "resolve-image-digests", "Pin image tags to digests"),
        switch(NONE, "services", "Print the service names, one per line"),
        switch(NONE, "variables", "Print model variables and default values"),
        switch(NONE, "volumes", "Print the volume names, one per line"),
    ]],
    arity: Arity::AtLeast(0),
    interspersed: true,
};

/// Prints a project.
///
/// # Errors
/// Its files are missing or wrong; the output cannot be written.
pub fn config(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let mut options = called.options()?;
    options.services = parsed.args.clone();
    options.interpolate = !parsed.on("no-interpolate");
    options.normalize = !parsed.on("no-normalize");
    options.resolve_paths = !parsed.on("no-path-resolution");
    options.consistency = !parsed.on("no-consistency");
    options.resolve_environment = !parsed.on("no-env-resolution");
    let format = parsed.text("format");
    if !["yaml", "json"].contains(&format) {
        return Err(Error::invalid(format!("unsupported format {format:?}"))
            .with_hint("use yaml or json")
            .into());
    }
    if parsed.on("variables") {
        return variables(&load::variables(&options, called.source())?);
    }
    if parsed.on("environment") {
        let found = load::locate(&options, called.source())?;
        let lines: Vec<String> =
            found.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        return lines_out(parsed.on("quiet"), &lines);
    }
    let mut project = called.load(&options)?;
    let quiet = parsed.on("quiet");
    let names = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect::<Vec<_>>();
    for section in ["services", "volumes", "networks", "models"] {
        if parsed.on(section) {
            return lines_out(quiet, &names(project.names(section)));
        }
    }
    if parsed.on("profiles") {
        return lines_out(quiet, &project.all_profiles);
    }
    if parsed.on("images") {
        let images: Vec<String> = project.services().into_iter().filter_map(|s| project.image(s)).collect();
        return lines_out(quiet, &images);
    }
    if let Some(wanted) = parsed.given("hash") {
        let services = match wanted {
            "*" => names(project.services()),
            list => list.split(',').map(str::to_owned).collect(),
        };
        let mut lines = Vec::new();
        for service in services {
            let hash = project
                .hash(&service)
                .ok_or_else(|| Error::not_found(format!("no such service: {service}")))?;
            lines.push(format!("{service} {hash}"));
        }
        return lines_out(quiet, &lines);
    }
    if parsed.on("resolve-image-digests") || parsed.on("lock-image-digests") {
        pin(called, &mut project)?;
    }
    if parsed.on("lock-image-digests") {
        project.only_images();
    }
    let mut content = if format == "json" { project.json() } else { project.yaml() };
    if options.interpolate {
        content = content.replace('$', "$$");
    }
    if quiet {
        return Ok(0);
    }
    match parsed.given("output").filter(|o| !o.is_empty()) {
        Some(path) => std::fs::write(path, content).about(|| path.to_owned())?,
        None => print_text(&content)?,
    }
    Ok(0)
}

/// Names every image by its digest, as its registry has it now.
pub fn pin(called: &Called<'_>, project: &mut Project) -> Result<(), Error> {
    let services: Vec<String> = project.services().into_iter().map(str::to_owned).collect();
    for service in services {
        let image = project.service(&service).and_then(|n| n.get_str("image")).unwrap_or_default().to_owned();
        if image.is_empty() || image.contains('@') {
            continue;
        }
        let found = called
            .docker()?
            .distribution_inspect(&image, None)
            .map_err(|e| e.context(format!("service {service}")))?;
        project.set_image(&service, &format!("{image}@{}", found.descriptor.digest));
    }
    Ok(())
}

fn lines_out(quiet: bool, lines: &[String]) -> Outcome {
    if !quiet {
        print_text(&lines.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    }
    Ok(0)
}

fn variables(variables: &[load::Variable]) -> Outcome {
    let mut rows = vec![["NAME", "REQUIRED", "DEFAULT VALUE", "ALTERNATE VALUE"].map(str::to_owned)];
    rows.extend(
        variables
            .iter()
            .map(|v| [v.name.clone(), v.required.to_string(), v.default.clone(), v.alternate.clone()]),
    );
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0) + 4;
    let widths = [width(0), width(1), width(2)];
    let mut out = String::new();
    for [name, required, default, alternate] in &rows {
        let line = format!("{name:0$}{required:1$}{default:2$}{alternate}", widths[0], widths[1], widths[2]);
        out.push_str(line.trim_end());
        out.push('\n');
    }
    print_text(&out)?;
    Ok(0)
}
