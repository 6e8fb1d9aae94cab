//! `--call`: what a Dockerfile says of itself, without a build: checks, arguments, targets; as text or as JSON.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fluyt_build::dockerfile::fault::{Lines, excerpt};
use fluyt_build::dockerfile::lint::{Lint, Warning};
use fluyt_build::dockerfile::{Dockerfile, Fault};
use fluyt_build::plan::{BaseImage, Inputs, Options, OutlineMount, outline, plan, targets};
use fluyt_engine::Engine;
use fluyt_image::{ImageConfig, Platform};
use fluyt_model::Result;
use serde_json::{Map, Value, json};

use super::context::Gathered;
use super::wanted::Wanted;
use super::{Stopped, show};
use crate::cli::format::tabs::{Style, align};
use crate::cli::print_text;

/// Columns as wide as they need be, so many blanks apart.
const fn columns(padding: usize) -> Style {
    Style { min_width: 0, padding }
}

type Outcome = std::result::Result<(), Stopped>;

/// Adds what is not empty.
fn put(object: &mut Map<String, Value>, name: &str, text: &str) {
    if !text.is_empty() {
        object.insert(name.to_owned(), text.into());
    }
}

fn location(lines: Lines) -> Value {
    json!({"ranges": [{"start": {"line": lines.first}, "end": {"line": lines.last}}]})
}

fn source(gathered: &Gathered) -> String {
    STANDARD.encode(gathered.text.as_bytes())
}

/// `--call=targets`
pub fn show_targets(wanted: &Wanted, gathered: &Gathered, file: &Dockerfile) -> Outcome {
    let all = targets(file);
    if wanted.json {
        let list = all.iter().map(|target| {
            let mut object = Map::new();
            put(&mut object, "name", &target.name);
            if target.default {
                object.insert("default".to_owned(), true.into());
            }
            put(&mut object, "description", &target.description);
            put(&mut object, "base", &target.base);
            put(&mut object, "platform", &target.platform);
            object.insert("location".to_owned(), location(target.lines));
            Value::Object(object)
        });
        return show(&json!({"targets": list.collect::<Vec<_>>(), "sources": [source(gathered)]}));
    }
    let mut text = "TARGET\tDESCRIPTION\n".to_owned();
    for target in &all {
        let name = match (target.name.as_str(), target.default) {
            ("", true) => "(default)".to_owned(),
            (name, true) => format!("{name} (default)"),
            (name, false) => name.to_owned(),
        };
        text.push_str(&format!("{name}\t{}\n", target.description));
    }
    Ok(print_text(&align(&text, columns(1)))?)
}

/// `--call=outline`
pub fn show_outline(wanted: &Wanted, gathered: &Gathered, file: &Dockerfile) -> Outcome {
    let found = outline(file, &wanted.options)?;
    if wanted.json {
        let args: Vec<Value> = found
            .args
            .iter()
            .map(|arg| {
                let mut object = Map::new();
                object.insert("name".to_owned(), arg.name.as_str().into());
                put(&mut object, "description", &arg.description);
                put(&mut object, "value", &arg.value);
                object.insert("location".to_owned(), location(arg.lines));
                Value::Object(object)
            })
            .collect();
        let mounts = |list: &[OutlineMount]| -> Vec<Value> {
            let one = |mount: &OutlineMount| {
                let mut value = json!({"name": mount.name, "location": location(mount.lines)});
                if mount.required {
                    value["required"] = true.into();
                }
                value
            };
            list.iter().map(one).collect()
        };
        let mut object = Map::new();
        put(&mut object, "name", &found.name);
        put(&mut object, "description", &found.description);
        let lists = [("args", args), ("secrets", mounts(&found.secrets)), ("ssh", mounts(&found.ssh))];
        for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            object.insert(name.to_owned(), list.into());
        }
        object.insert("sources".to_owned(), json!([source(gathered)]));
        return show(&Value::Object(object));
    }
    let mut text = String::new();
    if !found.name.is_empty() || !found.description.is_empty() {
        let name = if found.name.is_empty() { "(default)" } else { &found.name };
        let mut head = format!("TARGET:\t{name}\n");
        if !found.description.is_empty() {
            head.push_str(&format!("DESCRIPTION:\t{}\n", found.description));
        }
        text.push_str(&align(&head, columns(1)));
        text.push('\n');
    }
    if !found.args.is_empty() {
        let rows = found.args.iter().map(|arg| format!("{}\t{}\t{}\n", arg.name, arg.value, arg.description));
        table(&mut text, "BUILD ARG\tVALUE\tDESCRIPTION", rows);
    }
    for (head, list) in [("SECRET\tREQUIRED", &found.secrets), ("SSH\tREQUIRED", &found.ssh)] {
        if !list.is_empty() {
            let word = |required| if required { "true" } else { "" };
            table(&mut text, head, list.iter().map(|m| format!("{}\t{}\n", m.name, word(m.required))));
        }
    }
    Ok(print_text(&text)?)
}

fn table(text: &mut String, head: &str, rows: impl Iterator<Item = String>) {
    let whole = format!("{head}\n{}", rows.collect::<String>());
    text.push_str(&align(&whole, columns(3)));
    text.push('\n');
}

/// `--check`: nothing is built, nothing is fetched. Without a target every stage is looked at.
pub fn check(
    engine: &Engine,
    wanted: &Wanted,
    gathered: &Gathered,
    file: std::result::Result<Dockerfile, Fault>,
    mut lint: Lint,
) -> Outcome {
    let options = Options { all_stages: wanted.options.target.is_empty(), ..wanted.options.clone() };
    let fault = match file {
        Ok(file) => {
            let mut find = |name: &str, platform: &Platform| stand_in(engine, name, platform);
            let inputs = Inputs { base: &mut find, ignore: &gathered.ignore };
            plan(&file, &options, inputs, &mut lint).err()
        }
        Err(fault) => Some(fault),
    };
    let warnings = lint.warnings();
    if wanted.json {
        show(&as_json(gathered, &warnings, fault.as_ref()))?;
    } else {
        print_text(&as_text(gathered, &warnings))?;
        match &fault {
            Some(fault) => eprint!("{}", error_text(gathered, fault, !warnings.is_empty())),
            None if warnings.is_empty() => print_text("Check complete, no warnings found.\n")?,
            None => {}
        }
    }
    let found = !warnings.is_empty() || fault.is_some();
    if found && !wanted.ignore_status { Err(Stopped::Code(1)) } else { Ok(()) }
}

/// A base image as it is here, or one of which nothing is known.
fn stand_in(engine: &Engine, name: &str, platform: &Platform) -> Result<BaseImage> {
    let reference = fluyt_model::reference::Reference::parse_untagged(name)?.or_latest().to_string();
    Ok(match engine.images().resolve(name) {
        Ok(image) => {
            BaseImage { reference, manifest: image.manifest, config: image.config, layers: image.layers }
        }
        Err(_) => BaseImage {
            manifest: fluyt_image::Digest::of(reference.as_bytes()),
            reference,
            config: ImageConfig {
                os: platform.os.clone(),
                architecture: platform.architecture.clone(),
                ..ImageConfig::default()
            },
            layers: Vec::new(),
        },
    })
}

fn as_text(gathered: &Gathered, warnings: &[Warning]) -> String {
    let mut text = match warnings.len() {
        0 => String::new(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        n => format!("Check complete, {n} warnings have been found!\n"),
    };
    for warning in warnings {
        let url = warning.rule.url();
        let url = if url.is_empty() { url } else { format!(" - {url}") };
        text.push_str(&format!("\nWARNING: {}{url}\n{}\n", warning.rule.name(), warning.message));
        text.push_str(&excerpt(&gathered.name, &gathered.text, warning.lines));
    }
    text
}

fn error_text(gathered: &Gathered, fault: &Fault, after_warnings: bool) -> String {
    let mut text = if after_warnings { "\n".to_owned() } else { String::new() };
    text.push_str(&format!("ERROR: {fault}\n"));
    if let Some(lines) = fault.lines {
        text.push_str(&excerpt(&gathered.name, &gathered.text, lines));
    }
    text
}

fn as_json(gathered: &Gathered, warnings: &[Warning], fault: Option<&Fault>) -> Value {
    let list: Vec<Value> = warnings
        .iter()
        .map(|warning| {
            let mut object = Map::new();
            object.insert("ruleName".to_owned(), warning.rule.name().into());
            put(&mut object, "description", warning.rule.about());
            put(&mut object, "url", &warning.rule.url());
            put(&mut object, "detail", &warning.message);
            object.insert("location".to_owned(), location(warning.lines));
            Value::Object(object)
        })
        .collect();
    let file = json!({"filename": gathered.name, "language": "Dockerfile", "data": source(gathered)});
    let mut all = BTreeMap::from([("warnings", Value::from(list)), ("sources", json!([file]))]);
    if let Some(fault) = fault {
        let place = fault.lines.map_or_else(|| json!({}), location);
        all.insert("buildError", json!({"message": fault.to_string(), "location": place}));
    }
    json!(all)
}
