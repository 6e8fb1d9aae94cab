//! `context create`, `export`, `import`, `inspect`, `ls`, `rm`, `show`, `update`, `use`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use fluyt_docker_api::remote::tls::Material;
use fluyt_docker_api::remote::{Dialer, Host};
use fluyt_gotmpl::Value as TemplateValue;
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};
use serde::Serialize;

use super::Cli;
use super::system::json;
use crate::cli::context::store::{DEFAULT, DOCKER, Meta, Store, check_name};
use crate::cli::context::{config, no_directory};
use crate::cli::fail::{Failure, Outcome, for_each, print};
use crate::cli::flags::{Arity, Command, Flag, NONE, Parsed, many, switch, text, values};
use crate::cli::format::{self, Layout, Row};
use crate::cli::{print_line, print_text, terminal};
use fluyt_docker_api::filter::boolean;

const DESCRIPTION: Flag = text(NONE, "description", "Description of the context");
const ENDPOINT: Flag = many(
    NONE,
    "docker",
    "stringToString",
    values::any,
    "Set the docker endpoint: host=, ca=, cert=, key=, skip-tls-verify=, from=",
);

/// `fluyt context create`.
pub const CREATE: Command = Command {
    name: "create",
    arguments: "CONTEXT",
    about: "Create a context",
    flags: &[&[DESCRIPTION, ENDPOINT, text(NONE, "from", "Create context from a named context")]],
    arity: Arity::Exactly(1),
    interspersed: true,
};

/// `fluyt context update`.
pub const UPDATE: Command = Command {
    name: "update",
    arguments: "CONTEXT",
    about: "Update a context",
    flags: &[&[DESCRIPTION, ENDPOINT]],
    arity: Arity::Exactly(1),
    interspersed: true,
};

/// `fluyt context ls`.
pub const LS: Command = Command {
    name: "ls",
    arguments: "",
    about: "List contexts",
    flags: &[&[text(NONE, "format", super::list::FORMAT), switch('q', "quiet", "Only show context names")]],
    arity: Arity::None,
    interspersed: true,
};

/// `fluyt context inspect`.
pub const INSPECT: Command = Command {
    name: "inspect",
    arguments: "[CONTEXT] [CONTEXT...]",
    about: "Display detailed information on one or more contexts",
    flags: &[&[text(
        'f',
        "format",
        "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.",
    )]],
    arity: Arity::AtLeast(0),
    interspersed: true,
};

/// `fluyt context rm`.
pub const RM: Command = Command {
    name: "rm",
    arguments: "CONTEXT [CONTEXT...]",
    about: "Remove one or more contexts",
    flags: &[&[switch('f', "force", "Force the removal of a context in use")]],
    arity: Arity::AtLeast(1),
    interspersed: true,
};

/// `fluyt context show`.
pub const SHOW: Command = Command {
    name: "show",
    arguments: "",
    about: "Print the name of the current context",
    flags: &[],
    arity: Arity::None,
    interspersed: true,
};

/// `fluyt context use`.
pub const USE: Command = Command {
    name: "use",
    arguments: "CONTEXT",
    about: "Set the current context",
    flags: &[],
    arity: Arity::Exactly(1),
    interspersed: true,
};

/// `fluyt context export`.
pub const EXPORT: Command = Command {
    name: "export",
    arguments: "CONTEXT [FILE|-]",
    about: "Export a context to a tar archive FILE or a tar stream on STDOUT",
    flags: &[],
    arity: Arity::Between(1, 2),
    interspersed: true,
};

/// `fluyt context import`.
pub const IMPORT: Command = Command {
    name: "import",
    arguments: "CONTEXT FILE|-",
    about: "Import a context from a tar file",
    flags: &[],
    arity: Arity::Exactly(2),
    interspersed: true,
};

const LAYOUT: Layout = Layout {
    type_name: "*formatter.clientContextContext",
    headers: &[
        ("Current", ""),
        ("Description", "DESCRIPTION"),
        ("DockerEndpoint", "DOCKER ENDPOINT"),
        ("Error", "ERROR"),
        ("Name", "NAME"),
    ],
    table: "table {{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}",
    quiet: "{{.Name}}",
};

/// The longest archive that is imported.
const MAX_IMPORT: u64 = 10 << 20;

/// What the default context is: options and environment, or this process.
fn default_meta(cli: &Cli) -> Result<(Meta, Option<Material>)> {
    let Some(endpoint) = cli.options().default_endpoint()? else {
        return Ok((Meta::new(DEFAULT, "", &format!("local://{}", cli.root().display()), false), None));
    };
    let skip = endpoint.tls.as_ref().is_some_and(|tls| tls.skip_verify);
    Ok((Meta::new(DEFAULT, "", &endpoint.host.to_string(), skip), endpoint.tls))
}

fn find(cli: &Cli, name: &str) -> Result<Meta> {
    if name == DEFAULT { Ok(default_meta(cli)?.0) } else { cli.options().store()?.get(name) }
}

/// A name and a content.
type PemFile = (String, Vec<u8>);

fn pem_files(tls: &Material) -> Vec<PemFile> {
    [("ca.pem", &tls.ca), ("cert.pem", &tls.cert), ("key.pem", &tls.key)]
        .into_iter()
        .filter_map(|(name, bytes)| Some((name.to_owned(), bytes.clone()?)))
        .collect()
}

/// The files with certificates of a context, by endpoint.
fn tls_of(cli: &Cli, name: &str) -> Result<BTreeMap<String, Vec<PemFile>>> {
    let mut found = BTreeMap::new();
    if name == DEFAULT {
        if let Some(tls) = default_meta(cli)?.1 {
            found.insert(DOCKER.to_owned(), pem_files(&tls));
        }
        return Ok(found);
    }
    let store = cli.options().store()?;
    for (endpoint, names) in store.tls_files(name)? {
        let files = names.into_iter().map(|file| {
            let bytes = store.tls_file(name, &endpoint, &file)?;
            Ok((file, bytes))
        });
        let files = files.collect::<Result<Vec<_>>>()?;
        found.insert(endpoint, files);
    }
    Ok(found)
}

/// What `--docker` says.
struct Wanted {
    host: String,
    skip_verify: bool,
    files: Vec<(String, Vec<u8>)>,
}

/// Reads `host=…,ca=…` and makes sure that it can be used.
fn wanted(cli: &Cli, flags: &Parsed) -> Result<Option<Wanted>> {
    if !flags.changed("docker") {
        return Ok(None);
    }
    let failed = |e: Error| e.context("unable to create docker endpoint config");
    let mut given: BTreeMap<&str, &str> = BTreeMap::new();
    for pair in flags.all("docker").flat_map(|text| text.split(',')).filter(|p| !p.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| Error::invalid(format!("{pair} must be formatted as key=value")))?;
        if !["from", "host", "ca", "cert", "key", "skip-tls-verify"].contains(&key) {
            return Err(failed(Error::invalid(format!("unrecognized config key: {key}"))));
        }
        given.insert(key, value);
    }
    if let Some(from) = given.get("from") {
        let meta = find(cli, from)?;
        let (host, skip_verify) = meta.endpoint()?;
        return Ok(Some(Wanted { host: host.to_owned(), skip_verify, files: Vec::new() }));
    }
    let skip_verify = match given.get("skip-tls-verify") {
        None => false,
        Some(text) => boolean(text).ok_or_else(|| {
            failed(Error::invalid(format!("skip-tls-verify: parsing {text:?}: invalid syntax")))
        })?,
    };
    let path = |key: &str| given.get(key).filter(|p| !p.is_empty()).map(Path::new);
    let tls = Material::read(path("ca"), path("cert"), path("key"), skip_verify).map_err(failed)?;
    let any_tls = tls != Material::default();
    let host = given.get("host").copied().unwrap_or_default();
    if !host.is_empty() {
        let parsed = Host::parse(host, any_tls).map_err(failed)?;
        let config = if any_tls { Some(tls.config().map_err(failed)?) } else { None };
        let _ = Dialer::new(parsed, config);
    }
    Ok(Some(Wanted { host: host.to_owned(), skip_verify, files: pem_files(&tls) }))
}

fn check_new(store: &Store, name: &str) -> Result<()> {
    check_name(name)?;
    match store.get(name) {
        Ok(_) => Err(Error::conflict(format!("context {name:?} already exists"))),
        Err(e) if e.kind() == Kind::NotFound => Ok(()),
        Err(e) => Err(e.context("error while getting existing contexts")),
    }
}

/// Runs `fluyt context create`.
pub fn create(cli: &Cli, flags: &Parsed) -> Outcome {
    let (store, name) = (cli.options().store()?, flags.args[0].as_str());
    check_new(&store, name)?;
    let from = flags.text("from");
    let description = flags.text("description");
    match wanted(cli, flags)? {
        Some(_) if !from.is_empty() => {
            return Err(Error::invalid("cannot use --docker flag when --from is set").into());
        }
        Some(endpoint) => {
            store.put(&Meta::new(name, description, &endpoint.host, endpoint.skip_verify))?;
            store.put_tls(name, DOCKER, &endpoint.files)?;
        }
        None => {
            let from = if from.is_empty() { cli.options().name()? } else { from.to_owned() };
            let mut meta = find(cli, &from)?;
            if from == DEFAULT && cli.options().default_endpoint()?.is_none() {
                meta.set_endpoint("", false);
            }
            name.clone_into(&mut meta.name);
            meta.describe(description);
            let tls = tls_of(cli, &from)?;
            store.put(&meta)?;
            for (endpoint, files) in &tls {
                store.put_tls(name, endpoint, files)?;
            }
        }
    }
    print_line(name)?;
    eprintln!("Successfully created context {name:?}");
    Ok(0)
}

/// Runs `fluyt context update`.
pub fn update(cli: &Cli, flags: &Parsed) -> Outcome {
    let (store, name) = (cli.options().store()?, flags.args[0].as_str());
    check_name(name)?;
    let mut meta = store.get(name)?;
    meta.describe(flags.text("description"));
    let endpoint = wanted(cli, flags)?;
    if let Some(endpoint) = &endpoint {
        meta.set_endpoint(&endpoint.host, endpoint.skip_verify);
    }
    store.put(&meta)?;
    if let Some(endpoint) = &endpoint {
        store.put_tls(name, DOCKER, &endpoint.files)?;
    }
    print_line(name)?;
    eprintln!("Successfully updated context {name:?}");
    Ok(0)
}

/// Runs `fluyt context ls`.
pub fn ls(cli: &Cli, flags: &Parsed) -> Outcome {
    let current = cli.options().name()?;
    let mut rows = Vec::new();
    let row = |name: &str, description: &str, host: &str, error: &str| {
        let short = format::tabs::ellipsis(error, 45);
        let current = TemplateValue::Bool(name == current);
        let row = Row::default().with("Name", name).with("Description", description);
        (
            name.to_owned(),
            row.with("DockerEndpoint", host).with("Error", short).with_value("Current", current),
        )
    };
    let (meta, _) = default_meta(cli)?;
    let about = if cli.options().default_endpoint()?.is_some() {
        "Current DOCKER_HOST based configuration"
    } else {
        "This machine, without a daemon"
    };
    rows.push(row(DEFAULT, about, meta.endpoint()?.0, ""));
    let metas = match cli.options().store() {
        Ok(store) => store.list()?,
        Err(_) => Vec::new(),
    };
    for meta in &metas {
        rows.push(match meta.endpoint() {
            Ok((host, _)) => row(&meta.name, meta.description(), host, ""),
            Err(e) => row(&meta.name, meta.description(), "", &e.chain()),
        });
    }
    if !rows.iter().any(|(name, _)| *name == current) {
        let error = find(cli, &current).err().map(|e| e.chain()).unwrap_or_default();
        rows.push(row(&current, "", "", &error));
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let template = format::choose(&LAYOUT, flags.text("format"), flags.on("quiet"));
    print_text(&format::render(&LAYOUT, template, rows.into_iter().map(|(_, row)| row))?)?;
    if std::env::var("DOCKER_HOST").is_ok_and(|v| !v.is_empty()) {
        eprintln!(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use a context, either set the \
             global --context flag, or unset DOCKER_HOST environment variable."
        );
    }
    Ok(0)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    #[serde(flatten)]
    meta: Meta,
    #[serde(rename = "TLSMaterial")]
    tls: BTreeMap<String, Vec<String>>,
    storage: Storage,
}

#[derive(Serialize)]
struct Storage {
    #[serde(rename = "MetadataPath")]
    meta: String,
    #[serde(rename = "TLSPath")]
    tls: String,
}

fn inspected(cli: &Cli, name: &str) -> Result<Inspected> {
    let meta = find(cli, name)?;
    let tls = tls_of(cli, name)?.into_iter();
    let tls = tls.map(|(endpoint, files)| (endpoint, files.into_iter().map(|(file, _)| file).collect()));
    let storage = if name == DEFAULT {
        Storage { meta: "<IN MEMORY>".to_owned(), tls: "<IN MEMORY>".to_owned() }
    } else {
        let store = cli.options().store()?;
        let shown = |path: std::path::PathBuf| path.display().to_string();
        Storage { meta: shown(store.meta_dir(name)), tls: shown(store.tls_dir(name)) }
    };
    Ok(Inspected { meta, tls: tls.collect(), storage })
}

/// Runs `fluyt context inspect`.
pub fn inspect(cli: &Cli, flags: &Parsed) -> Outcome {
    let names = if flags.args.is_empty() { vec![cli.options().name()?] } else { flags.args.clone() };
    let mut found = Vec::new();
    let mut failed = false;
    for name in &names {
        match inspected(cli, name) {
            Ok(one) => found.push(one),
            Err(e) => {
                print(&e);
                failed = true;
            }
        }
    }
    let text = match flags.text("format") {
        "" => {
            let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            super::inspect::printed(&found, formatter)? + "\n"
        }
        "json" => super::inspect::printed(&found, serde_json::ser::CompactFormatter)? + "\n",
        template => {
            let template = format::parse(template).map_err(|e| Failure::Coded(e, 64))?;
            let mut text = String::new();
            for one in &found {
                let value = TemplateValue::from_json_struct(&json(one)?, "contextWithTLSListing");
                text.push_str(&template.execute(&value).map_err(format::bad_template)?);
                text.push('\n');
            }
            text
        }
    };
    print_text(&text)?;
    if failed { Err(Failure::Code(1)) } else { Ok(0) }
}

/// Runs `fluyt context rm`.
pub fn rm(cli: &Cli, flags: &Parsed) -> Outcome {
    let (store, force) = (cli.options().store()?, flags.on("force"));
    let current = cli.options().name()?;
    for_each(&flags.args, |name| {
        if name == DEFAULT {
            return Err(Error::invalid("context \"default\" cannot be removed"));
        }
        if name == current && !force {
            return Err(Error::conflict(format!("context {name:?} is in use, set -f flag to force remove")));
        }
        if !force && !store.has(name) {
            return Err(Error::not_found(format!("context {name:?} does not exist")));
        }
        if name == current {
            set_current(cli, None)?;
        }
        store.remove(name)?;
        Ok(Some(name.to_owned()))
    })
}

fn set_current(cli: &Cli, name: Option<&str>) -> Result<()> {
    config::set_current_context(&cli.options().config_dir().ok_or_else(no_directory)?, name)
}

/// Runs `fluyt context show`.
pub fn show(cli: &Cli, _: &Parsed) -> Outcome {
    print_line(&cli.options().name()?)?;
    Ok(0)
}

/// Runs `fluyt context use`.
pub fn switch_to(cli: &Cli, flags: &Parsed) -> Outcome {
    let name = flags.args[0].as_str();
    if name != DEFAULT {
        check_name(name)?;
        cli.options().store()?.get(name)?;
    }
    set_current(cli, Some(name).filter(|n| *n != DEFAULT))?;
    print_line(name)?;
    eprintln!("Current context is now {name:?}");
    if name != DEFAULT && std::env::var("DOCKER_HOST").is_ok_and(|v| !v.is_empty()) {
        eprintln!(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use {name:?}, either set the \
             global --context flag, or unset DOCKER_HOST environment variable."
        );
    }
    Ok(0)
}

/// Runs `fluyt context export`.
pub fn export(cli: &Cli, flags: &Parsed) -> Outcome {
    let name = flags.args[0].as_str();
    if name != DEFAULT {
        check_name(name)?;
    }
    let archive = archive_of(cli, name)?;
    let usual = format!("{name}.dockercontext");
    match flags.args.get(1).map_or(usual.as_str(), String::as_str) {
        "-" if terminal::stdout_is_terminal() => {
            return Err(
                Error::invalid("cowardly refusing to export to a terminal, specify a file path").into()
            );
        }
        "-" => std::io::stdout().lock().write_all(&archive).about(|| "standard output")?,
        path => {
            let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            file.and_then(|mut file| file.write_all(&archive)).about(|| path.to_owned())?;
            eprintln!("Written file {path:?}");
        }
    }
    Ok(0)
}

fn archive_of(cli: &Cli, name: &str) -> Result<Vec<u8>> {
    let failed =
        |e: std::io::Error| Error::internal(format!("the archive of context {name:?}")).with_source(e);
    let meta = json(&find(cli, name)?)?.to_string();
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |path: &str, mode: u32, bytes: Option<&[u8]>| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(if bytes.is_some() {
            tar::EntryType::Regular
        } else {
            tar::EntryType::Directory
        });
        header.set_mode(mode);
        header.set_mtime(0);
        header.set_size(bytes.map_or(0, |b| b.len() as u64));
        builder.append_data(&mut header, path, bytes.unwrap_or_default())
    };
    add("meta.json", 0o644, Some(meta.as_bytes())).map_err(failed)?;
    add("tls", 0o700, None).map_err(failed)?;
    for (endpoint, files) in tls_of(cli, name)? {
        add(&format!("tls/{endpoint}"), 0o700, None).map_err(failed)?;
        for (file, bytes) in files {
            add(&format!("tls/{endpoint}/{file}"), 0o600, Some(&bytes)).map_err(failed)?;
        }
    }
    builder.into_inner().map_err(failed)
}

/// Runs `fluyt context import`.
pub fn import(cli: &Cli, flags: &Parsed) -> Outcome {
    let (name, source) = (flags.args[0].as_str(), flags.args[1].as_str());
    let store = cli.options().store()?;
    check_new(&store, name)?;
    let mut bytes = Vec::new();
    let mut input: Box<dyn Read> = match source {
        "-" => Box::new(std::io::stdin().lock()),
        path => Box::new(std::fs::File::open(path).about(|| path.to_owned())?),
    };
    (&mut input).take(MAX_IMPORT + 1).read_to_end(&mut bytes).about(|| source.to_owned())?;
    if bytes.len() as u64 > MAX_IMPORT {
        return Err(Error::invalid(format!("{source}: too large for a context")).into());
    }
    if bytes.starts_with(b"PK\x03\x04") {
        return Err(Error::unsupported(format!("{source}: zip archives cannot be imported"))
            .with_hint("export the context again: `context export` writes tar archives")
            .into());
    }
    let (mut meta, tls) = unpack(&bytes, source)?;
    name.clone_into(&mut meta.name);
    meta.endpoint()?;
    store.put(&meta)?;
    for (endpoint, files) in &tls {
        store.put_tls(name, endpoint, files)?;
    }
    print_line(name)?;
    eprintln!("Successfully imported context {name:?}");
    Ok(0)
}

type TlsFiles = BTreeMap<String, Vec<(String, Vec<u8>)>>;

/// What an exported context holds. Its names become names of files here, so that they are looked at closely.
fn unpack(bytes: &[u8], source: &str) -> Result<(Meta, TlsFiles)> {
    let invalid = |why: &str| Error::invalid(format!("{source}: {why}"));
    let (mut meta, mut tls) = (None, TlsFiles::new());
    let mut archive = tar::Archive::new(bytes);
    for entry in archive.entries().about(|| source.to_owned())? {
        let mut entry = entry.map_err(|e| invalid("not an exported context").with_source(e))?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path().map_err(|e| invalid("not an exported context").with_source(e))?;
        let path = path.to_string_lossy().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).about(|| source.to_owned())?;
        if path == "meta.json" {
            let found: Meta = serde_json::from_slice(&content)
                .map_err(|e| invalid("meta.json is not what it should be").with_source(e))?;
            meta = Some(found);
            continue;
        }
        let plain = |part: &&str| !matches!(*part, "" | "." | "..") && !part.contains(['\\', '\0']);
        match path.split('/').collect::<Vec<_>>().as_slice() {
            ["tls", endpoint, file] if plain(endpoint) && plain(file) => {
                tls.entry((*endpoint).to_owned()).or_default().push(((*file).to_owned(), content));
            }
            _ => return Err(invalid(&format!("{path}: unexpected context file"))),
        }
    }
    let meta = meta.ok_or_else(|| invalid("invalid context: no metadata found"))?;
    Ok((meta, tls))
}
