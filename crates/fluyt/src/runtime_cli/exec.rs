//! `exec`: one more process in a container.

use fluyt_model::error::{Error, IoContext, Kind, Result};
use fluyt_runtime::spec::{Capabilities, Process, Spec};
use fluyt_runtime::{ExecRequest, exec as run_in};

use super::args::{Flag, Parsed, switch, value};
use super::create::{deliver, preserved, terminal_io};
use super::state::{Container, Status};
use super::{Context, foreground, seal};

pub(super) static FLAGS: [Flag; 20] = [
    value("console-socket", None, "unix socket that gets the master of the terminal"),
    value("cwd", None, "working directory in the container"),
    value("env", Some('e'), "NAME=value, may be repeated"),
    switch("tty", Some('t'), "allocate a terminal"),
    value("user", Some('u'), "UID[:GID]"),
    value("additional-gids", Some('g'), "more groups"),
    value("process", Some('p'), "process.json with everything"),
    switch("detach", Some('d'), "return when the process runs"),
    value("pid-file", None, "file that gets the pid"),
    value("process-label", None, "SELinux label"),
    value("apparmor", None, "AppArmor profile"),
    switch("no-new-privs", None, "forbid gaining privileges"),
    value("cap", Some('c'), "one more capability, may be repeated"),
    value("preserve-fds", None, "keep this many descriptors above standard error open"),
    value("cgroup", None, "a cgroup below the container's, CONTROLLERS:PATH or PATH"),
    switch("ignore-paused", None, "start in a paused container, too"),
    switch("no-subreaper", None, "accepted for compatibility"),
    value("pidfd-socket", None, "unix socket that gets a pidfd"),
    value("no-new-keyring", None, "accepted for compatibility"),
    switch("keep", None, "accepted for compatibility"),
];

/// `exec`.
pub(super) fn exec(context: &Context, parsed: &Parsed) -> Result<i32> {
    let (id, args) = parsed
        .rest
        .split_first()
        .ok_or_else(|| Error::invalid("exec: at least 1 argument required, got 0"))?;
    let seal = seal()?;
    let container = Container::load(&context.root, id)?;
    match container.status() {
        Status::Created | Status::Running => {}
        Status::Paused if parsed.on("ignore-paused") => {}
        Status::Paused => {
            return Err(Error::conflict(
                "cannot exec in a paused container (use --ignore-paused to override)",
            ));
        }
        Status::Stopped => return Err(Error::conflict("cannot exec in a stopped container")),
    }
    let spec = container.dir.spec()?;
    let process = process(parsed, args, &spec)?;
    let detach = parsed.on("detach");
    let socket = parsed.get("console-socket").filter(|s| !s.is_empty());
    let mut request = ExecRequest::new(container.record.pid, container.record.cgroup.clone(), process);
    request.io = terminal_io(request.process.terminal, socket, detach)?;
    request.seal = seal;
    request.target_start_time = Some(container.record.start_time);
    request.seccomp = spec.linux().seccomp.clone();
    request.personality = spec.linux().personality.clone();
    request.preserve_fds = preserved(parsed)?;
    request.memory_policy = spec.linux().memory_policy.clone();
    request.sub_cgroups = sub_cgroups(parsed)?;
    request.state = container.state(Status::Running);
    request.no_new_keyring = container.record.no_new_keyring;
    let affinity = request.process.exec_cpu_affinity.clone();
    let mut running = run_in(request).map_err(|e| match e.kind() {
        Kind::CommandNotFound | Kind::CommandNotExecutable => e.context("unable to start container process"),
        _ => e,
    })?;
    running.warnings.iter().for_each(|text| context.log("warning", text));
    if context.debug {
        let first = |p: &fluyt_runtime::spec::CpuAffinity| fluyt_runtime::affinity_mask(&p.initial);
        let set = affinity.as_ref().and_then(first);
        let mask = set.unwrap_or_else(|| fluyt_sys::task::affinity_mask(std::process::id()));
        context.debug(&format!("nsexec container setup: pid {} joins: affinity: {mask:#x}", running.pid));
        context.debug("child process in init(): in the namespaces and cgroups of the container");
        context.debug("setns_init: about to exec");
    }
    if let Err(e) = deliver(parsed, &mut running) {
        let _ = rustix::process::pidfd_send_signal(&running.pidfd, rustix::process::Signal::KILL);
        let _ = fluyt_sys::clone::reap(running.pid, true);
        return Err(e);
    }
    if detach { Ok(0) } else { foreground::wait(&running, running.console.as_ref()) }
}

/// `--cgroup PATH`, or `--cgroup CONTROLLERS:PATH` any number of times.
fn sub_cgroups(parsed: &Parsed) -> Result<Vec<(String, String)>> {
    let all: Vec<&str> = parsed.all("cgroup").collect();
    let mut out: Vec<(String, String)> = Vec::new();
    for text in &all {
        let (controllers, path) = match text.split_once(':') {
            Some(pair) => pair,
            None if all.len() == 1 => ("", *text),
            None => return Err(Error::invalid(format!("--cgroup {text:?} is not CONTROLLER:PATH"))),
        };
        for name in controllers.split(',') {
            if out.iter().any(|(listed, _)| listed == name) {
                return Err(Error::invalid(format!("--cgroup: controller {name} is given twice")));
            }
            out.push((name.to_owned(), path.to_owned()));
        }
    }
    Ok(out)
}

fn process(parsed: &Parsed, args: &[String], spec: &Spec) -> Result<Process> {
    if let Some(path) = parsed.get("process").filter(|p| !p.is_empty()) {
        let data = std::fs::read(path).about(|| path.to_owned())?;
        return serde_json::from_slice(&data).map_err(|e| Error::invalid(path).with_source(e));
    }
    let mut p =
        spec.process.clone().ok_or_else(|| Error::invalid("the container has no process to start from"))?;
    if args.is_empty() {
        return Err(Error::invalid("process args cannot be empty"));
    }
    p.args = args.to_vec();
    p.terminal = parsed.on("tty");
    if let Some(cwd) = parsed.get("cwd").filter(|c| !c.is_empty()) {
        p.cwd = cwd.into();
    }
    p.env.extend(parsed.all("env").map(str::to_owned));
    if let Some(profile) = parsed.get("apparmor") {
        p.apparmor_profile = profile.to_owned();
    }
    if let Some(label) = parsed.get("process-label") {
        p.selinux_label = label.to_owned();
    }
    if parsed.get("no-new-privs").is_some() {
        p.no_new_privileges = parsed.on("no-new-privs");
    }
    for cap in parsed.all("cap") {
        let sets = p.capabilities.get_or_insert_with(Capabilities::default);
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.push(cap.to_owned());
        }
        // Ambient ones must be inheritable, which is the configuration's to say.
        if !sets.inheritable.is_empty() {
            sets.ambient.push(cap.to_owned());
        }
    }
    if let Some(user) = parsed.get("user") {
        let (uid, gid) = user.split_once(':').map_or((user, None), |(u, g)| (u, Some(g)));
        let number = |s: &str| {
            s.parse::<u32>().map_err(|_| Error::invalid(format!("--user {user:?} is not UID[:GID]")))
        };
        p.user.uid = number(uid)?;
        if let Some(gid) = gid {
            p.user.gid = number(gid)?;
        }
    }
    for groups in parsed.all("additional-gids") {
        for g in groups.split(',') {
            let number = g
                .parse()
                .map_err(|_| Error::invalid(format!("--additional-gids {groups:?} is not a number")))?;
            p.user.additional_gids.push(number);
        }
    }
    Ok(p)
}
