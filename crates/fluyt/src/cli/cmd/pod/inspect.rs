//! `pod inspect`.

use fluyt_gotmpl::Value;
use fluyt_model::Kind;

use super::{FAILED, LATEST, chosen, document, failed};
use crate::cli::cmd::Cli;
use crate::cli::cmd::inspect::printed;
use crate::cli::cmd::system::json;
use crate::cli::fail::{self, Failure, Outcome};
use crate::cli::flags::{Arity, Command, Parsed, text};
use crate::cli::{format, print_text};

/// `fluyt pod inspect`.
pub const INSPECT: Command = Command {
    name: "inspect",
    arguments: "POD [POD...]",
    about: "Display detailed information on one or more pods",
    flags: &[&[LATEST, text('f', "format", "Format output using a Go template, or json").default("json")]],
    arity: Arity::AtLeast(0),
    interspersed: true,
};

/// Runs `fluyt pod inspect`.
pub fn inspect(cli: &Cli, flags: &Parsed) -> Outcome {
    let engine = cli.engine().map_err(failed)?;
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in chosen(engine, flags).map_err(failed)? {
        match engine.pod(&name) {
            Ok(pod) => found.push(document::inspect(&pod)),
            Err(e) if e.kind() == Kind::NotFound => missing.push(e),
            Err(e) => return Err(failed(e)),
        }
    }
    let text = match flags.text("format") {
        "json" | "" => {
            printed(&found, serde_json::ser::PrettyFormatter::with_indent(b"    ")).map_err(failed)? + "\n"
        }
        template => {
            let template = format::parse(template).map_err(failed)?;
            let mut text = String::new();
            for one in &found {
                let value = Value::from_json_struct(&json(one).map_err(failed)?, "*define.InspectPodData");
                text.push_str(&template.execute(&value).map_err(|e| failed(format::bad_template(e)))?);
                text.push('\n');
            }
            text
        }
    };
    print_text(&text)?;
    missing.iter().for_each(fail::print);
    if missing.is_empty() { Ok(0) } else { Err(Failure::Code(FAILED)) }
}
