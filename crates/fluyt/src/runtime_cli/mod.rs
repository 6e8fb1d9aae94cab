//! `fluyt runtime …` and `fluyt-runc`: the OCI runtime behind runc's command line, for Docker, Podman and containerd.
//!
//! No clap here: this is the hottest path of the program. What containers are is in `fluyt_runtime`; here are flags, the
//! state directory and the words of errors.

mod args;
mod create;
mod events;
mod exec;
mod features;
mod foreground;
mod manage;
mod spec;
mod state;
mod unsupported;
mod update;

use std::io::Write;
use std::path::{Path, PathBuf};

use args::{Flag, Parsed, switch, value};
use fluyt_model::error::{Error, IoContext, Result};
use fluyt_runtime::CgroupDriver;

static GLOBAL: [Flag; 10] = [
    value("root", None, "directory of the containers' state (default /run/fluyt/runtime)"),
    value("log", None, "file that gets log messages (default: standard error)"),
    value("log-format", None, "text or json"),
    switch("debug", None, "log more"),
    switch("systemd-cgroup", None, "let systemd make the cgroups; cgroupsPath is slice:prefix:name"),
    value("cgroup-manager", None, "cgroupfs (default), systemd or disabled, as crun has it"),
    value("rootless", None, "accepted for compatibility"),
    value("criu", None, "accepted for compatibility"),
    switch("version", Some('v'), "print the version"),
    switch("help", Some('h'), "print this"),
];

/// What the global flags say.
pub(super) struct Context {
    pub(super) root: PathBuf,
    pub(super) driver: CgroupDriver,
    /// Whether the state directory was named, and not the default one taken.
    pub(super) root_given: bool,
    /// Whether to tell what is done.
    pub(super) debug: bool,
    log: Option<PathBuf>,
    json: bool,
}

/// One verb: name, flags, whether flags end at the first argument, one line of help, the function.
type Verb = (&'static str, &'static [Flag], bool, &'static str, fn(&Context, &Parsed) -> Result<i32>);

static VERBS: [Verb; 17] = [
    ("checkpoint", &unsupported::FLAGS, false, "not supported", unsupported::checkpoint),
    ("create", &create::FLAGS, false, "create a container", create::create),
    ("delete", &manage::DELETE, false, "delete a container that has stopped", manage::delete),
    ("events", &events::FLAGS, false, "show events and statistics", events::events),
    ("exec", &exec::FLAGS, true, "run another process in a container", exec::exec),
    ("features", &[], false, "show what this runtime can do", features::features),
    ("kill", &manage::KILL, false, "send a signal to a container's init process", manage::kill),
    ("list", &manage::LIST, false, "list containers", manage::list),
    ("pause", &[], false, "stop all processes of a container", manage::pause),
    ("ps", &manage::PS, true, "list the processes of a container", manage::ps),
    ("restore", &unsupported::FLAGS, false, "not supported", unsupported::restore),
    ("resume", &[], false, "let the processes of a paused container go on", manage::resume),
    ("run", &create::FLAGS, false, "create and start a container", create::run),
    ("spec", &spec::FLAGS, false, "write a configuration to start from", spec::spec),
    ("start", &[], false, "start a created container", create::start),
    ("state", &[], false, "show the state of a container", manage::state),
    ("update", &update::FLAGS, false, "change the limits of a container", update::update),
];

/// Runs one command; `args` are those after the program's name. The exit code comes back.
#[must_use]
pub fn main(args: &[String]) -> i32 {
    let (global, context) = match globals(args) {
        Ok(found) => found,
        Err(e) => {
            eprintln!("{}", e.chain());
            return 1;
        }
    };
    if global.on("version") {
        return shown(print(&version()));
    }
    let Some((name, rest)) = global.rest.split_first().filter(|_| !global.on("help")) else {
        return shown(print(&help()));
    };
    if name == "help" {
        return shown(print(&help()));
    }
    let Some(verb) = VERBS.iter().find(|v| v.0 == name) else {
        let about = format!("No help topic for '{name}'");
        return context.fail(&Error::invalid(about).with_hint(format!("{} --help", program())));
    };
    if rest.iter().take_while(|a| *a != "--" && a.starts_with('-')).any(|a| a == "--help" || a == "-h") {
        return shown(print(&verb_help(verb)));
    }
    let done = Parsed::new(rest, verb.1, verb.2).and_then(|parsed| (verb.4)(&context, &parsed));
    match done {
        Ok(code) => code,
        Err(e) => {
            let code = context.fail(&e.context(format!("fluyt {name} failed")));
            // As runc: an exec that fails must not look like a program that ends with 1.
            if name == "exec" { 255 } else { code }
        }
    }
}

fn globals(args: &[String]) -> Result<(Parsed, Context)> {
    let parsed = Parsed::new(args, &GLOBAL, true)?;
    let root = match parsed.get("root") {
        Some(root) => std::path::absolute(root).about(|| root.to_owned())?,
        None => PathBuf::from("/run/fluyt/runtime"),
    };
    let driver = match parsed.get("cgroup-manager") {
        None if parsed.on("systemd-cgroup") => CgroupDriver::Systemd,
        None | Some("cgroupfs") => CgroupDriver::Cgroupfs,
        Some("systemd") => CgroupDriver::Systemd,
        Some("disabled") => CgroupDriver::Disabled,
        Some(other) => return Err(Error::invalid(format!("unknown cgroup manager {other:?}"))),
    };
    let json = match parsed.get("log-format") {
        None | Some("text") => false,
        Some("json") => true,
        Some(other) => return Err(Error::invalid(format!("unknown log-format {other:?}"))),
    };
    let log = parsed.get("log").filter(|l| !l.is_empty()).map(PathBuf::from);
    let root_given = parsed.get("root").is_some();
    let debug = parsed.on("debug");
    Ok((parsed, Context { root, driver, root_given, debug, log, json }))
}

impl Context {
    /// Reports an error the way runc does, so that whoever called shows its text; the exit code comes back.
    fn fail(&self, e: &Error) -> i32 {
        let mut text = e.chain();
        if let Some(hint) = e.hint() {
            text.push_str(" (");
            text.push_str(hint);
            text.push(')');
        }
        self.log("error", &text);
        1
    }

    /// A message that does not end the command.
    pub(super) fn warn(&self, e: &Error) {
        self.log("warning", &e.chain());
    }

    /// What is being done, for `--debug`.
    pub(super) fn debug(&self, text: &str) {
        if self.debug {
            self.log("debug", text);
        }
    }

    pub(super) fn log(&self, level: &str, text: &str) {
        let line = self.line(level, text);
        match &self.log {
            Some(path) => {
                let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
                let written = file.and_then(|mut f| f.write_all(line.as_bytes()));
                if written.is_err() || level == "error" {
                    eprintln!("{text}");
                }
            }
            None => eprint!("{line}"),
        }
    }

    fn line(&self, level: &str, text: &str) -> String {
        let quoted = serde_json::Value::from(text).to_string();
        let time = now();
        if self.json {
            format!("{{\"level\":\"{level}\",\"msg\":{quoted},\"time\":\"{time}\"}}\n")
        } else {
            format!("time=\"{time}\" level={level} msg={quoted}\n")
        }
    }
}

/// The time as RFC 3339 in UTC.
pub(super) fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// Prints on standard output.
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).about(|| "standard output")
}

fn shown(result: Result<()>) -> i32 {
    i32::from(result.is_err())
}

/// Whether this is called by the name that stands for the runtime alone.
fn as_runc() -> bool {
    std::env::args_os().next().is_some_and(|a| Path::new(&a).file_name().is_some_and(|n| n == "fluyt-runc"))
}

/// How this runtime is called, for the help.
fn program() -> &'static str {
    if as_runc() { "fluyt-runc" } else { "fluyt runtime" }
}

fn version() -> String {
    let (name, version) = (if as_runc() { "fluyt-runc" } else { "fluyt" }, env!("CARGO_PKG_VERSION"));
    format!("{name} version {version}\ncommit: v{version}\nspec: {}\n", spec::OCI_VERSION)
}

fn flag_lines(flags: &[Flag], out: &mut String) {
    for f in flags {
        let short = f.short.map(|c| format!(", -{c}")).unwrap_or_default();
        let argument = if f.value { " VALUE" } else { "" };
        out.push_str(&format!("   {:<34} {}\n", format!("--{}{short}{argument}", f.name), f.help));
    }
}

fn help() -> String {
    let name = program();
    let mut out = format!(
        "NAME:\n   {name} - Open Container Initiative runtime\n\nUSAGE:\n   {name} [global options] COMMAND [options] [arguments]\n\nCOMMANDS:\n",
    );
    for v in &VERBS {
        out.push_str(&format!("   {:<10} {}\n", v.0, v.3));
    }
    out.push_str("\nGLOBAL OPTIONS:\n");
    flag_lines(&GLOBAL, &mut out);
    out
}

fn verb_help(verb: &Verb) -> String {
    let mut out = format!("NAME:\n   {} {} - {}\n\nOPTIONS:\n", program(), verb.0, verb.3);
    flag_lines(verb.1, &mut out);
    out
}

/// The process's child joins what it starts: it must run from a file that nobody can write.
pub(super) fn seal() -> Result<fluyt_sys::exe::Held> {
    fluyt_sys::exe::seal().about(|| "running from a sealed executable")
}

/// The absolute path of a bundle.
fn bundle(parsed: &Parsed) -> Result<PathBuf> {
    let path = parsed.get("bundle").filter(|b| !b.is_empty()).unwrap_or(".");
    std::fs::canonicalize(Path::new(path)).about(|| format!("bundle {path}"))
}
