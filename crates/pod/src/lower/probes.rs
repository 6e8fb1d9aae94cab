//! Probes -> the one health check that a container has.
//!
//! Requests and connections are made inside the container by programs of its image, as Podman makes them. The liveness probe
//! is the check; the startup probe gives it time; without both, the readiness probe is.

use fluyt_model::sandbox::{HealthCheck, OnFailure};

use super::{Lowering, Problem};
use crate::objects::{Container, HttpAction, IntOrText, Probe};

const SECOND: u64 = 1_000_000_000;

/// The check, whether the container is stopped when it fails, and what of the probes has no effect.
#[derive(Default)]
pub(super) struct Check {
    pub(super) health: Option<HealthCheck>,
    pub(super) fatal: bool,
    pub(super) warnings: Vec<Problem>,
}

/// The check of a container.
pub(super) fn check(container: &Container) -> Lowering<Check> {
    let read = |probe: &Option<Probe>, field: &str| -> Lowering<Option<HealthCheck>> {
        let probe = probe.as_ref().filter(|p| has_action(p));
        probe.map(|p| health(p, container).map_err(|e| e.below(field))).transpose()
    };
    let live = read(&container.liveness_probe, "livenessProbe")?;
    let started = read(&container.startup_probe, "startupProbe")?;
    let ready = read(&container.readiness_probe, "readinessProbe")?;
    let mut check = Check { fatal: live.is_some() || started.is_some(), ..Check::default() };
    let dropped = |field: &str, why: &str| Problem::new(field, why.to_owned());
    check.health = match (live, started) {
        (Some(mut live), Some(started)) => {
            if live.args != started.args {
                check.warnings.push(dropped(
                    "startupProbe",
                    "only its time counts: what is checked while the container starts is the liveness probe",
                ));
            }
            live.start_period = patience(&started);
            live.start_interval = started.interval;
            Some(live)
        }
        (Some(live), None) => Some(live),
        (None, Some(mut started)) => {
            started.start_period = patience(&started);
            Some(started)
        }
        (None, None) => ready.clone(),
    };
    if ready.is_some() && check.fatal {
        check.warnings.push(dropped("readinessProbe", "it has no effect beside another probe"));
    }
    Ok(check)
}

/// How long a startup probe waits.
fn patience(probe: &HealthCheck) -> u64 {
    probe.start_period + probe.interval * u64::from(probe.retries)
}

fn has_action(probe: &Probe) -> bool {
    probe.exec.is_some() || probe.http_get.is_some() || probe.tcp_socket.is_some()
}

fn health(probe: &Probe, container: &Container) -> Lowering<HealthCheck> {
    for (field, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        if !(0..=i64::from(i32::MAX)).contains(&value) {
            return Err(Problem::new(field, format!("{value} is not a number of seconds or times")));
        }
    }
    let seconds = |value: i64, default: u64| match u64::try_from(value) {
        Ok(0) | Err(_) => default * SECOND,
        Ok(value) => value * SECOND,
    };
    let interval = seconds(probe.period_seconds, 10);
    Ok(HealthCheck {
        args: command(probe, container)?,
        interval,
        timeout: seconds(probe.timeout_seconds, 1),
        retries: u32::try_from(probe.failure_threshold).ok().filter(|n| *n > 0).unwrap_or(3),
        start_period: seconds(probe.initial_delay_seconds, 0),
        start_interval: interval,
        on_failure: OnFailure::Nothing,
    })
}

fn command(probe: &Probe, container: &Container) -> Lowering<Vec<String>> {
    let seconds = probe.timeout_seconds.max(1);
    if let Some(exec) = &probe.exec {
        if exec.command.is_empty() {
            return Err(Problem::new("exec.command", "there is no command"));
        }
        return Ok(exec.command.clone());
    }
    let line = match (&probe.http_get, &probe.tcp_socket) {
        (Some(http), _) => {
            let port = port(&http.port, container).map_err(|p| p.below("httpGet"))?;
            http_line(http, port, seconds).map_err(|p| p.below("httpGet"))?
        }
        (None, Some(tcp)) => {
            let port = port(&tcp.port, container).map_err(|p| p.below("tcpSocket"))?;
            let host = if tcp.host.is_empty() { "localhost" } else { &tcp.host };
            format!("exec nc -z -w {seconds} {} {port}", quoted(host))
        }
        (None, None) => return Err(Problem::new("", "the probe says nothing that is checked")),
    };
    Ok(vec!["/bin/sh".to_owned(), "-c".to_owned(), line])
}

/// curl, or wget where there is none.
fn http_line(http: &HttpAction, port: u16, seconds: i64) -> Lowering<String> {
    let scheme = match http.scheme.to_uppercase().as_str() {
        "" | "HTTP" => "http",
        "HTTPS" => "https",
        _ => {
            return Err(Problem::new("scheme", format!("{:?} is not a scheme", http.scheme))
                .hint("use HTTP or HTTPS"));
        }
    };
    let host = if http.host.is_empty() { "localhost" } else { &http.host };
    let slash = if http.path.starts_with('/') { "" } else { "/" };
    let url = quoted(&format!("{scheme}://{host}:{port}{slash}{}", http.path));
    let (mut curl, mut wget) = (String::new(), String::new());
    for header in &http.http_headers {
        let header = quoted(&format!("{}: {}", header.name, header.value));
        curl.push_str(&format!(" -H {header}"));
        wget.push_str(&format!(" --header {header}"));
    }
    if scheme == "https" {
        curl.push_str(" -k");
        wget.push_str(" --no-check-certificate");
    }
    Ok(format!(
        "if command -v curl >/dev/null 2>&1; then exec curl -fsS -m {seconds} -o /dev/null{curl} {url}; else exec wget -q -T {seconds} -O /dev/null{wget} {url}; fi"
    ))
}

fn port(port: &IntOrText, container: &Container) -> Lowering<u16> {
    let number = match port {
        IntOrText::Int(number) => u16::try_from(*number).ok(),
        IntOrText::Text(name) => name.parse().ok().or_else(|| {
            let named = container.ports.iter().find(|p| p.name == *name)?;
            u16::try_from(named.container_port).ok()
        }),
    };
    number.filter(|n| *n != 0).ok_or_else(|| {
        Problem::new("port", format!("unknown port: {port}"))
            .hint("give a number, or the name of one of the container's ports")
    })
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}
