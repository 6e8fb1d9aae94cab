//! What a user is told, and asked, before something runs that was written by somebody else.

use fluyt_compose::{Options, Project, load};
use fluyt_model::{Error, Result};

use super::{Called, files};
use crate::cli::terminal;

/// Tells where a project from somewhere else lies and which variables of the user's get into it, and asks whether that is
/// meant, if somebody is there who can be asked.
///
/// # Errors
/// The user does not agree.
pub fn agreed(called: &Called<'_>, options: &Options, project: &Project) -> Result<()> {
    let Some(first) = options.files.first().map(|f| f.to_string_lossy()).filter(|f| files::is_remote(f))
    else {
        return Ok(());
    };
    if called.global.text("progress") != "quiet" {
        eprintln!("Your compose stack {first:?} is stored in {:?}", project.directory.display().to_string());
    }
    let variables = load::variables(options, called.source())?;
    if variables.is_empty() || called.parsed.has("yes") && called.parsed.on("yes") {
        return Ok(());
    }
    let mut rows = vec![["VARIABLE", "VALUE", "SOURCE", "REQUIRED", "DEFAULT"].map(str::to_owned)];
    for variable in variables {
        let given = project.environment.get(&variable.name);
        let (value, source) = match given {
            Some(value) => (value.clone(), "environment"),
            None if !variable.default.is_empty() => (variable.default.clone(), "compose file"),
            None => ("<unset>".to_owned(), "none"),
        };
        let required = if variable.required { "yes" } else { "no" };
        rows.push([variable.name, value, source.to_owned(), required.to_owned(), variable.default]);
    }
    eprintln!("\nFound the following variables in configuration:");
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0) + 3;
    let widths = [0, 1, 2, 3].map(width);
    for row in &rows {
        let line: String =
            row.iter().zip(widths.iter().chain([&0])).map(|(text, w)| format!("{text:w$}")).collect();
        eprintln!("{}", line.trim_end());
    }
    if terminal::stdin_is_terminal() && !terminal::confirm("\nDo you want to proceed with these variables?") {
        return Err(Error::invalid("operation cancelled by user").with_hint("-y goes on without asking"));
    }
    Ok(())
}
