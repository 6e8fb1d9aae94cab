//! Verbs on containers that exist: `kill`, `delete`, `state`, `list`, `ps`, `pause`, `resume`.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use fluyt_model::error::{Error, IoContext, Kind, Result};
use fluyt_runtime::hooks;
use fluyt_runtime::spec::Spec;
use serde::Serialize;
use serde_json::json;

use super::args::{Flag, Parsed, switch, value};
use super::state::{Container, Dir, Record, Status};
use super::{Context, print};

pub(super) static KILL: [Flag; 1] = [switch("all", Some('a'), "signal every process of the container")];
pub(super) static DELETE: [Flag; 1] = [switch("force", Some('f'), "kill it first if it still runs")];
pub(super) static LIST: [Flag; 2] =
    [value("format", Some('f'), "table or json"), switch("quiet", Some('q'), "print only ids")];
pub(super) static PS: [Flag; 1] = [value("format", Some('f'), "table or json")];

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// `kill`.
pub(super) fn kill(context: &Context, parsed: &Parsed) -> Result<i32> {
    let (id, signal) = match parsed.rest.as_slice() {
        [id] => (id, SIGTERM),
        [id, signal] => {
            // Signal 0 sends nothing and asks whether one could.
            let number = if signal == "0" { Some(0) } else { fluyt_sys::signal::number(signal) };
            (id, number.ok_or_else(|| Error::invalid(format!("unknown signal {signal:?}")))?)
        }
        other => return Err(Error::invalid(format!("kill: 1 or 2 arguments required, got {}", other.len()))),
    };
    let container = Container::load(&context.root, id)?;
    // Succeeds on a stopped container: what it left behind is what --all is for. And without a pid namespace of its own
    // the end of init does not end the others.
    if parsed.on("all") && signal == 0 {
        return Ok(0);
    }
    if parsed.on("all") || signal == SIGKILL && !own_pids(&container.dir.spec().unwrap_or_default()) {
        return container.cgroup().kill(signal).map(|()| 0);
    }
    if container.status() == Status::Stopped {
        return Err(Error::conflict("container not running"));
    }
    signal_init(&container, signal)?;
    if signal == SIGKILL && container.cgroup().is_frozen().unwrap_or(false) {
        // A frozen process on version 1 cannot die.
        let _ = container.cgroup().thaw();
    }
    Ok(0)
}

pub(super) fn signal_init(container: &Container, signal: i32) -> Result<()> {
    let gone = || Error::conflict("container not running");
    let pid = rustix::process::Pid::from_raw(container.record.pid).ok_or_else(gone)?;
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).map_err(|_| gone())?;
    // The descriptor pins the process; now the start time proves that it is the right one.
    if !container.is_alive() {
        return Err(gone());
    }
    fluyt_sys::signal::send(pidfd.as_fd(), signal).about(|| format!("signal {signal} to the container"))
}

/// `delete`.
pub(super) fn delete(context: &Context, parsed: &Parsed) -> Result<i32> {
    let id = parsed.id("delete")?;
    let force = parsed.on("force");
    let dir = match Dir::existing(&context.root, id) {
        Ok(dir) => dir,
        Err(e) if force && e.kind() == Kind::NotFound => return Ok(0),
        Err(e) => return Err(e),
    };
    let record = match dir.record() {
        Ok(record) => record,
        // A creation that was cut off before it wrote anything.
        Err(_) if force => return dir.remove().map(|()| 0),
        Err(e) => return Err(e),
    };
    let container = Container { dir, record };
    match container.status() {
        Status::Stopped => {}
        Status::Created => end(&container)?,
        _ if force => end(&container)?,
        other => {
            return Err(Error::conflict(format!(
                "cannot delete container {id} that is not stopped: {}",
                other.name()
            )));
        }
    }
    let spec = container.dir.spec().unwrap_or_default();
    let cgroup = container.cgroup();
    if force || !own_pids(&spec) {
        // Without a pid namespace of its own the end of init does not end the others.
        cgroup.kill(SIGKILL)?;
    }
    cgroup.delete()?;
    fluyt_runtime::remove_resctrl(&spec, id);
    container.dir.remove()?;
    poststop(context, &spec, &container.record);
    Ok(0)
}

/// Whether the container has a pid namespace of its own.
fn own_pids(spec: &Spec) -> bool {
    spec.linux().namespaces.iter().any(|n| n.kind == "pid" && n.path.as_os_str().is_empty())
}

/// Kills a container and waits for its end, at most ten seconds.
fn end(container: &Container) -> Result<()> {
    let cgroup = container.cgroup();
    let _ = signal_init(container, SIGKILL);
    if cgroup.is_frozen().unwrap_or(false) {
        let _ = cgroup.thaw();
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut pause = Duration::from_micros(100);
    while container.is_alive() {
        if Instant::now() > deadline {
            return Err(Error::new(Kind::Timeout, format!("container {} does not die", container.record.id)));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
    Ok(())
}

/// Runs the poststop hooks; their failures are warnings.
pub(super) fn poststop(context: &Context, spec: &Spec, record: &Record) {
    let Some(h) = spec.hooks.as_ref().filter(|h| !h.poststop.is_empty()) else { return };
    let state = fluyt_runtime::spec::State {
        oci_version: record.oci_version.clone(),
        id: record.id.clone(),
        status: "stopped".to_owned(),
        pid: 0,
        bundle: record.bundle.clone(),
        annotations: record.annotations.clone(),
    };
    for e in hooks::run_all("poststop", &h.poststop, &state) {
        context.warn(&e);
    }
}

/// A container as `state` and `list` print it; scripts rely on the order of the fields.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Description<'a> {
    oci_version: &'a str,
    id: &'a str,
    pid: i32,
    status: &'static str,
    bundle: &'a Path,
    rootfs: &'a Path,
    created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    owner: String,
}

fn describe(container: &Container) -> Description<'_> {
    let status = container.status();
    let r = &container.record;
    Description {
        oci_version: &r.oci_version,
        id: &r.id,
        pid: if status == Status::Stopped { 0 } else { r.pid },
        status: status.name(),
        bundle: &r.bundle,
        rootfs: &r.rootfs,
        created: &r.created,
        annotations: &r.annotations,
        owner: owner(r.uid),
    }
}

fn owner(uid: u32) -> String {
    if uid == 0 {
        return "root".to_owned();
    }
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = text.lines().find_map(|l| {
        let mut fields = l.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
    });
    found.unwrap_or_else(|| format!("#{uid}"))
}

/// `state`.
pub(super) fn state(context: &Context, parsed: &Parsed) -> Result<i32> {
    let container = Container::load(&context.root, parsed.id("state")?)?;
    let text = serde_json::to_string_pretty(&describe(&container))
        .map_err(|e| Error::internal("state").with_source(e))?;
    print(&format!("{text}\n")).map(|()| 0)
}

/// `list`.
pub(super) fn list(context: &Context, parsed: &Parsed) -> Result<i32> {
    if context.root_given && !context.root.is_dir() {
        return Err(Error::not_found(format!("open {}: no such file or directory", context.root.display())));
    }
    let containers = Container::list(&context.root)?;
    if parsed.on("quiet") {
        let ids: String = containers.iter().map(|c| format!("{}\n", c.record.id)).collect();
        return print(&ids).map(|()| 0);
    }
    match parsed.get("format").unwrap_or("table") {
        "json" => {
            let all: Vec<_> = containers.iter().map(describe).collect();
            let text = if all.is_empty() { Ok("null".to_owned()) } else { serde_json::to_string(&all) };
            print(&text.map_err(|e| Error::internal("list").with_source(e))?).map(|()| 0)
        }
        "table" => {
            let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
            for c in &containers {
                let status = c.status();
                let pid = if status == Status::Stopped { 0 } else { c.record.pid };
                rows.push([
                    c.record.id.clone(),
                    pid.to_string(),
                    status.name().to_owned(),
                    c.record.bundle.display().to_string(),
                    c.record.created.clone(),
                    owner(c.record.uid),
                ]);
            }
            print(&table(&rows)).map(|()| 0)
        }
        other => Err(Error::invalid(format!("invalid format option {other:?}"))),
    }
}

fn table(rows: &[[String; 6]]) -> String {
    let width = |i: usize| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0).max(8) + 3;
    let widths: Vec<usize> = (0..6).map(width).collect();
    let line = |r: &[String; 6]| {
        let cells: String = r.iter().zip(&widths).map(|(c, w)| format!("{c:<w$}")).collect();
        format!("{}\n", cells.trim_end())
    };
    rows.iter().map(line).collect()
}

/// `ps`.
pub(super) fn ps(context: &Context, parsed: &Parsed) -> Result<i32> {
    let (id, options) =
        parsed.rest.split_first().ok_or_else(|| Error::invalid("ps: at least 1 argument required, got 0"))?;
    // Flags may stand behind the container, as long as they are ours.
    let mut format = parsed.get("format").unwrap_or("table").to_owned();
    let mut options: Vec<String> = options.to_vec();
    if let [flag, value, ..] = options.as_slice()
        && (flag == "--format" || flag == "-f" && (value == "json" || value == "table"))
    {
        format = value.clone();
        options.drain(..2);
    }
    let container = Container::load(&context.root, id)?;
    let pids = container.cgroup().pids()?;
    match format.as_str() {
        "json" => print(&format!("{}\n", json!(pids))).map(|()| 0),
        "table" => {
            if options.is_empty() {
                options.push("-ef".to_owned());
            }
            let output = std::process::Command::new("ps").args(&options).output().about(|| "ps")?;
            if !output.status.success() {
                return Err(Error::invalid(format!(
                    "ps: {}",
                    String::from_utf8_lossy(&output.stderr).trim()
                )));
            }
            let text = String::from_utf8_lossy(&output.stdout);
            let mut lines = text.lines();
            let title = lines.next().unwrap_or_default();
            let column = title.split_whitespace().position(|w| w == "PID");
            let column = column.ok_or_else(|| Error::invalid("couldn't find PID field in ps output"))?;
            let ours = |l: &&str| {
                let pid = l.split_whitespace().nth(column).and_then(|p| p.parse().ok());
                pid.is_some_and(|p: i32| pids.contains(&p))
            };
            let rows: String = lines.filter(ours).map(|l| format!("{l}\n")).collect();
            print(&format!("{title}\n{rows}")).map(|()| 0)
        }
        other => Err(Error::invalid(format!("invalid format option {other:?}"))),
    }
}

/// `pause`.
pub(super) fn pause(context: &Context, parsed: &Parsed) -> Result<i32> {
    let container = Container::load(&context.root, parsed.id("pause")?)?;
    container.expect(&[Status::Running, Status::Created], "pause")?;
    container.cgroup().freeze().map(|()| 0)
}

/// `resume`.
pub(super) fn resume(context: &Context, parsed: &Parsed) -> Result<i32> {
    let container = Container::load(&context.root, parsed.id("resume")?)?;
    if container.status() != Status::Paused {
        return Err(Error::conflict("container not paused"));
    }
    container.cgroup().thaw().map(|()| 0)
}
