//! Docker's create request, lowered to the sandbox contract. Pure: the same request gives the same sandbox.
//!
//! The image's defaults come in as a `ContainerConfig` (an image's `config` object has the same fields).
//! Names of networks, volumes, users and other containers stay symbolic; the engine resolves them.

mod limits;
mod merge;
mod mounts;
mod network;
mod security;
mod users;

use fluyt_model::sandbox::{
    ContainerSpec, HealthCheck, LogSpec, Notify, OnFailure, ProcessSpec, Ready, RestartCondition,
    RestartPolicy as Restart, SandboxSpec, Stdin, StopSpec,
};
use fluyt_model::{Error, Result};

use crate::types::{ContainerConfig, CreateRequest, HealthConfig, HostConfig, RestartPolicy};

pub use limits::resources;
pub use merge::with_image;
pub use network::attachment;

const SECOND: u64 = 1_000_000_000;
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Lowers `request` for an image with the defaults `image` and the id `image_id`.
///
/// # Errors
/// `Invalid`, with Docker's sentence, for contradictions and for values that cannot be read.
pub fn container(request: &CreateRequest, image: &ContainerConfig, image_id: &str) -> Result<SandboxSpec> {
    let config = with_image(&request.config, image);
    let host = &request.host_config;
    let args = command(&config)?;
    check_choices(host)?;
    if let Some(health) = &config.healthcheck {
        check_health(health)?;
    }
    let namespaces = network::namespaces(host)?;
    network::check_conflicts(&config, host, &namespaces)?;
    let restart = restart_policy(&host.restart_policy)?;
    if host.auto_remove && restart.condition != RestartCondition::No {
        return Err(Error::conflict("conflicting options: cannot specify both --restart and --rm"));
    }
    let container = ContainerSpec {
        image: config.image.clone(),
        image_id: image_id.to_owned(),
        process: process(&config, request, args)?,
        mounts: mounts::all(&config, host)?,
        devices: security::devices(host),
        device_rules: host.resources.device_cgroup_rules.to_vec(),
        cdi_devices: security::cdi_devices(host)?,
        resources: limits::resources(&host.resources),
        security: security::security(host)?,
        restart,
        health: match &config.healthcheck {
            Some(check) => health(check, &config.shell, &host.health_on_failure)?,
            None => None,
        },
        log: LogSpec { driver: host.log_config.kind.clone(), options: (*host.log_config.config).clone() },
        stop: StopSpec { signal: config.stop_signal.clone(), timeout: config.stop_timeout },
        init: host.init.unwrap_or(false),
    };
    let checked = container.health.is_some();
    Ok(SandboxSpec {
        hostname: config.hostname.clone(),
        domainname: config.domainname.clone(),
        networks: network::attachments(&config, request)?,
        ports: network::ports(&config, host)?,
        dns: network::dns(host),
        extra_hosts: network::extra_hosts(host)?,
        namespaces,
        sysctls: (*host.sysctls).clone(),
        shm_size: u64::try_from(host.shm_size)
            .map_err(|_| Error::invalid("SHM size can not be less than 0"))?,
        cgroup_parent: host.resources.cgroup_parent.clone(),
        containers: vec![container],
        auto_remove: host.auto_remove,
        labels: (*config.labels).clone(),
        annotations: (*host.annotations).clone(),
        notify: notify(host, checked)?,
        pod: host.pod.clone(),
        pod_name: String::new(),
        requires: host.requires.to_vec(),
    })
}

/// Who is told when the container is up; `checked`: it has a health check.
fn notify(host: &HostConfig, checked: bool) -> Result<Option<Notify>> {
    let Some(wanted) = host.sd_notify.as_ref().filter(|wanted| !wanted.socket.is_empty()) else {
        return Ok(None);
    };
    let ready = match wanted.mode.as_str() {
        "conmon" => Ready::Started,
        "container" => Ready::Said,
        "healthy" if checked => Ready::Healthy,
        "healthy" => {
            return Err(Error::invalid("sdnotify policy \"healthy\" requires a healthcheck to be set")
                .with_hint("--health-cmd sets one"));
        }
        other => return Err(Error::invalid(format!("unknown sdnotify policy {other:?}"))),
    };
    if !wanted.socket.starts_with(['/', '@']) {
        let text = format!("NOTIFY_SOCKET={}: neither a path nor an abstract name", wanted.socket);
        return Err(Error::unsupported(text));
    }
    Ok(Some(Notify { socket: wanted.socket.clone(), ready }))
}

/// The names under which other engines know the one runtime that there is here.
const RUNTIMES: [&str; 4] = ["", "fluyt", "runc", "io.containerd.runc.v2"];

/// Refuses what other engines let one choose and what cannot be had here.
fn check_choices(host: &HostConfig) -> Result<()> {
    if !matches!(host.isolation.as_str(), "" | "default") {
        return Err(Error::invalid(format!(
            "invalid isolation ({:?}): linux only supports 'default'",
            host.isolation
        )));
    }
    if !RUNTIMES.contains(&host.runtime.as_str()) {
        return Err(Error::invalid(format!("unknown or invalid runtime name: {}", host.runtime))
            .with_hint("fluyt runs every container itself: leave out --runtime (for GPUs there is --gpus)"));
    }
    if !host.storage_opt.is_vacant() {
        return Err(Error::unsupported(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
        )
        .with_hint(
            "leave it out; --tmpfs PATH:size=SIZE and --mount type=tmpfs limit what is written there",
        ));
    }
    Ok(())
}

/// The limits that Docker sets to a health check's times: each nothing, or at least a millisecond.
fn check_health(health: &HealthConfig) -> Result<()> {
    for (name, value) in [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ] {
        if value != 0 && value < 1_000_000 {
            return Err(Error::invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
    }
    if health.retries < 0 {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    Ok(())
}

fn command(config: &ContainerConfig) -> Result<Vec<String>> {
    // A single empty string is how a client says "no entry point, not even the image's".
    let cleared = matches!(config.entrypoint.as_slice(), [only] if only.is_empty());
    let entrypoint: &[String] = if cleared { &[] } else { &config.entrypoint };
    let args: Vec<String> = entrypoint.iter().chain(config.cmd.iter()).cloned().collect();
    if args.is_empty() {
        return Err(Error::invalid("no command specified").with_hint(format!(
            "image {} has neither CMD nor ENTRYPOINT: give a command after its name",
            config.image
        )));
    }
    Ok(args)
}

fn process(config: &ContainerConfig, request: &CreateRequest, args: Vec<String>) -> Result<ProcessSpec> {
    let host = &request.host_config;
    let mut env = Vec::with_capacity(config.env.len() + 3);
    if !config.env.iter().any(|e| e.starts_with("PATH=")) {
        env.push(DEFAULT_PATH.to_owned());
    }
    if config.tty && !config.env.iter().any(|e| e.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    // `KEY` without a value takes the variable away; the client has filled in what it wanted to pass on.
    env.extend(config.env.iter().filter(|e| e.contains('=')).cloned());
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    Ok(ProcessSpec {
        args,
        env,
        cwd: config.working_dir.clone(),
        user: config.user.clone(),
        groups: host.group_add.to_vec(),
        tty: config.tty,
        stdin: match (config.open_stdin, config.stdin_once) {
            (false, _) => Stdin::Null,
            (true, false) => Stdin::Open,
            (true, true) => Stdin::Once,
        },
        console_size: (host.console_size[0], host.console_size[1]),
        rlimits: limits::rlimits(host)?,
        oom_score_adj: limits::oom_score_adj(host)?,
    })
}

/// Lowers a restart policy.
///
/// # Errors
/// `Invalid` for an unknown name or retries that make no sense.
pub fn restart_policy(policy: &RestartPolicy) -> Result<Restart> {
    let condition = match policy.name.as_str() {
        "" | "no" => RestartCondition::No,
        "on-failure" => RestartCondition::OnFailure,
        "always" => RestartCondition::Always,
        "unless-stopped" => RestartCondition::UnlessStopped,
        "on-unhealthy" => RestartCondition::OnUnhealthy,
        other => {
            return Err(Error::invalid(format!("invalid restart policy: unknown policy '{other}'"))
                .with_hint("use one of 'no', 'always', 'on-failure', 'unless-stopped' or 'on-unhealthy'"));
        }
    };
    let counts = matches!(condition, RestartCondition::OnFailure | RestartCondition::OnUnhealthy);
    if policy.maximum_retry_count != 0 && !counts {
        return Err(Error::invalid(
            "invalid restart policy: maximum retry count can only be used with 'on-failure' or 'on-unhealthy'",
        ));
    }
    let max_retries = u32::try_from(policy.maximum_retry_count)
        .map_err(|_| Error::invalid("invalid restart policy: maximum retry count cannot be negative"))?;
    Ok(Restart { condition, max_retries })
}

/// The check that `config` asks for; `None` if it asks for none or for `NONE`.
fn health(config: &HealthConfig, shell: &[String], on_failure: &str) -> Result<Option<HealthCheck>> {
    let args = match config.test.split_first() {
        Some((kind, rest)) if kind == "CMD" => rest.to_vec(),
        Some((kind, rest)) if kind == "CMD-SHELL" => {
            let default = ["/bin/sh".to_owned(), "-c".to_owned()];
            let shell = if shell.is_empty() { &default[..] } else { shell };
            shell.iter().cloned().chain([rest.join(" ")]).collect()
        }
        _ => return Ok(None),
    };
    let on_failure = match on_failure {
        "" | "none" => OnFailure::Nothing,
        "kill" => OnFailure::Kill,
        "stop" => OnFailure::Stop,
        other => return Err(Error::invalid(format!("invalid on-failure action for health check: {other}"))),
    };
    let or = |value: i64, default: u64| u64::try_from(value).ok().filter(|v| *v > 0).unwrap_or(default);
    let retries = u32::try_from(config.retries).ok().filter(|n| *n > 0).unwrap_or(3);
    Ok((!args.is_empty()).then(|| HealthCheck {
        args,
        interval: or(config.interval, 30 * SECOND),
        timeout: or(config.timeout, 30 * SECOND),
        retries,
        start_period: or(config.start_period, 0),
        start_interval: or(config.start_interval, 5 * SECOND),
        on_failure,
    }))
}

#[cfg(test)]
mod tests;
