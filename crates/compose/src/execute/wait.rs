//! Whether services are as others need them, and what to say when they never will be.

use std::time::{Duration, Instant};

use fluyt_docker_api::api::{Docker, LogsOf, Next, Wait};
use fluyt_docker_api::types::ContainerInspect;
use fluyt_model::{Error, Kind, Result};

use super::{Event, Executor, State, locked};
use crate::plan::Condition;

/// So many lines of a failed container are shown.
const LINES: u64 = 10;
/// How long a command that has closed its output may take to be over.
const ENDING: Duration = Duration::from_secs(10);

/// What has become of what was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// Nothing yet.
    NotYet,
    /// It is as it must be.
    Well,
    /// It never will be, and need not.
    Skipped,
}

impl Executor<'_> {
    /// Whether every container of a service is as it must be.
    ///
    /// # Errors
    /// One never will be, and it is required: the error has what it said last.
    pub(super) fn is_so(&self, service: &str, condition: Condition, required: bool) -> Result<Waited> {
        let mut end = Waited::Well;
        let ids: Vec<String> =
            locked(&self.ids).iter().filter(|((s, _), _)| s == service).map(|(_, id)| id.clone()).collect();
        for id in ids {
            let container = self.docker.container_inspect(&id, false)?;
            match judge(&container, condition) {
                Judged::Ready => {}
                Judged::NotYet => return Ok(Waited::NotYet),
                Judged::Never(why) if required => return Err(self.failed(service, &container, &why)),
                Judged::Never(why) => {
                    let thing = format!("Container {}", container.name.trim_start_matches('/'));
                    let text = format!("Skipped: optional dependency {service:?} {why}");
                    self.report.tell(&Event::new(&thing, State::Warning, &text));
                    end = Waited::Skipped;
                }
            }
        }
        Ok(end)
    }

    /// The failure of a dependency, with its last health check or its last lines.
    fn failed(&self, service: &str, container: &ContainerInspect, why: &str) -> Error {
        let name = container.name.trim_start_matches('/');
        let mut text = format!("dependency failed to start: container {name} {why}");
        let last = container.state.health.as_ref().and_then(|h| h.log.last());
        if let Some(last) = last.filter(|_| container.state.running) {
            text.push_str(&format!("\nits last health check exited with {}", last.exit_code));
            append(&mut text, &last.output);
        }
        if let Ok(lines) = last_lines(self.docker, &container.id)
            && !lines.is_empty()
        {
            text.push_str("\nits last output:");
            append(&mut text, &lines);
        }
        Error::new(Kind::Unavailable, text).with_hint(format!("fluyt compose logs {service} shows all of it"))
    }
}

fn append(text: &mut String, output: &str) {
    for line in output.trim_end().lines() {
        text.push_str("\n  | ");
        text.push_str(line);
    }
}

/// The last lines of a container.
fn last_lines(docker: &dyn Docker, id: &str) -> Result<String> {
    let wanted = LogsOf { stdout: true, stderr: true, tail: Some(LINES), ..LogsOf::default() };
    let mut logs = docker.container_logs(id, wanted)?;
    let mut text = Vec::new();
    while let Next::Item(line) = logs.lines.next(Wait::FOREVER)? {
        text.extend_from_slice(&line.line);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

enum Judged {
    Ready,
    NotYet,
    Never(String),
}

fn judge(container: &ContainerInspect, condition: Condition) -> Judged {
    let state = &container.state;
    let ended = matches!(state.status.as_str(), "exited" | "dead");
    let health = state.health.as_ref().map(|h| h.status.as_str()).filter(|s| *s != "none");
    match condition {
        Condition::Started => Judged::Ready,
        Condition::Completed if ended && state.exit_code == 0 => Judged::Ready,
        Condition::Completed if ended => {
            Judged::Never(format!("didn't complete successfully: exit {}", state.exit_code))
        }
        Condition::Completed => Judged::NotYet,
        _ if ended => Judged::Never(format!("exited ({})", state.exit_code)),
        _ if !state.running || state.restarting => Judged::NotYet,
        Condition::Healthy | Condition::RunningOrHealthy => match health {
            Some("healthy") => Judged::Ready,
            Some("unhealthy") => Judged::Never("is unhealthy".to_owned()),
            Some(_) => Judged::NotYet,
            None if condition == Condition::RunningOrHealthy => Judged::Ready,
            None => Judged::Never("has no healthcheck configured".to_owned()),
        },
    }
}

/// The exit code of a command whose output has been closed.
///
/// # Errors
/// The engine has lost it.
pub fn exec_code(docker: &dyn Docker, exec: &str) -> Result<i64> {
    let since = Instant::now();
    loop {
        let found = docker.exec_inspect(exec)?;
        if !found.running {
            return Ok(found.exit_code.map_or(0, i64::from));
        }
        if since.elapsed() > ENDING {
            return Err(Error::new(
                Kind::Timeout,
                "the hook has closed its output but does not end".to_owned(),
            ));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
