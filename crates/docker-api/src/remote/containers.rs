//! Containers.

use std::io::{Read, Write};

use fluyt_model::{Error, Kind, Result};
use serde::Deserialize;

use super::client::{Answer, Request, decode, segment};
use super::follow::{Documents, Once};
use super::logs::LogLines;
use super::session::{Session, Subject};
use super::{Remote, stat, timestamp};
use crate::api::*;
use crate::types::{ContainerInspect, ContainerStats, ContainerSummary, CreateResponse, List, UpdateConfig};

/// `/containers/{name}/{action}`.
fn on<'a>(method: &'static str, name: &str, action: &str) -> Request<'a> {
    Request::new(method, format!("/containers/{}{action}", segment(name)))
}

/// A body whose bytes are wanted as they come.
pub(super) fn output(mut answer: Answer) -> Output {
    Box::new(move |sink: &mut (dyn Write + Send)| {
        let mut piece = vec![0; 128 << 10];
        loop {
            let broken = |e| Error::new(Kind::Unavailable, "the daemon's archive").with_source(e);
            match answer.read(&mut piece).map_err(broken)? {
                0 => return Ok(()),
                n => sink.write_all(&piece[..n]).map_err(|e| Error::io("the archive", e))?,
            }
        }
    })
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct TopDocument {
    titles: List<String>,
    processes: List<List<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ChangeDocument {
    kind: u8,
    path: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct WaitDocument {
    status_code: i64,
    error: Option<WaitError>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct WaitError {
    message: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct UpdateDocument {
    warnings: List<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct PruneDocument {
    containers_deleted: List<String>,
    space_reclaimed: u64,
}

/// What a daemon says of a command that it could not start, by which Docker's client knows the exit code too.
pub(super) fn command_failure(error: Error) -> Error {
    let text = error.to_string().to_ascii_lowercase();
    let has = |part: &str| text.contains(part);
    if matches!(error.kind(), Kind::NotFound | Kind::Conflict | Kind::Unavailable) {
        error
    } else if has("executable file not found") || has("no such file or directory") {
        error.with_kind(Kind::CommandNotFound)
    } else if has("permission denied") || has("is a directory") || has("exec format error") {
        error.with_kind(Kind::CommandNotExecutable)
    } else {
        error
    }
}

impl Remote {
    fn stopping(&self, name: &str, action: &str, how: &StopContainer) -> Result<Answer> {
        let timeout = how.timeout.map(|t| t.to_string());
        let request = on("POST", name, action).given("signal", &how.signal).maybe("t", timeout.as_deref());
        self.client.call(request)
    }

    fn does(&self, request: Request<'_>) -> Result<()> {
        self.client.call(request)?.done()
    }
}

impl Containers for Remote {
    fn container_list(&self, wanted: &ListContainers) -> Result<Vec<ContainerSummary>> {
        let limit = wanted.limit.map(|n| n.to_string());
        let request = Request::new("GET", "/containers/json")
            .flag("all", wanted.all)
            .maybe("limit", limit.as_deref())
            .flag("size", wanted.size)
            .filters(&wanted.filters);
        self.client.call(request)?.json()
    }

    fn container_create(&self, wanted: CreateContainer) -> Result<CreateResponse> {
        let request = Request::new("POST", "/containers/create")
            .given("name", &wanted.name)
            .given("platform", &wanted.platform)
            .json(&wanted.request)?;
        self.client.call(request)?.json()
    }

    fn container_inspect(&self, name: &str, size: bool) -> Result<ContainerInspect> {
        self.client.call(on("GET", name, "/json").flag("size", size))?.json()
    }

    fn container_top(&self, name: &str, ps_args: &[String]) -> Result<Processes> {
        let request = on("GET", name, "/top").given("ps_args", &ps_args.join(" "));
        let found: TopDocument = self.client.call(request)?.json()?;
        let processes = found.processes.into_inner().into_iter().map(List::into_inner).collect();
        Ok(Processes { titles: found.titles.into_inner(), processes })
    }

    fn container_logs(&self, name: &str, wanted: LogsOf) -> Result<Logs> {
        let (since, until) = (wanted.since.map(timestamp), wanted.until.map(timestamp));
        let tail = wanted.tail.map_or("all".to_owned(), |n| n.to_string());
        let request = on("GET", name, "/logs")
            .flag("follow", wanted.follow)
            .flag("stdout", wanted.stdout)
            .flag("stderr", wanted.stderr)
            .maybe("since", since.as_deref())
            .maybe("until", until.as_deref())
            .flag("timestamps", true)
            .flag("details", wanted.details)
            .query("tail", &tail);
        // Daemons say only since 1.42 whether there are frames.
        let tty = if self.speaks(42)? { None } else { Some(self.container_inspect(name, false)?.config.tty) };
        let answer = self.client.call(request)?;
        let framed = answer.header("content-type").is_some_and(|t| t.ends_with("multiplexed-stream"));
        let tty = tty.unwrap_or(!framed);
        Ok(Logs { tty, lines: Box::new(LogLines::new(answer, tty, wanted.details)) })
    }

    fn container_changes(&self, name: &str) -> Result<Vec<Change>> {
        let found: List<ChangeDocument> = self.client.call(on("GET", name, "/changes"))?.json()?;
        let kind = |kind: u8| match kind {
            0 => 'C',
            1 => 'A',
            _ => 'D',
        };
        Ok(found.into_inner().into_iter().map(|c| Change { kind: kind(c.kind), path: c.path }).collect())
    }

    fn container_export(&self, name: &str) -> Result<Output> {
        Ok(output(self.client.call(on("GET", name, "/export"))?))
    }

    fn container_stats(&self, name: &str, wanted: StatsOf) -> Result<Box<dyn Follow<ContainerStats>>> {
        let request =
            on("GET", name, "/stats").switch("stream", wanted.stream).flag("one-shot", wanted.one_shot);
        Ok(Box::new(Documents::new(self.client.call(request)?)))
    }

    fn container_resize(&self, name: &str, rows: u16, columns: u16) -> Result<()> {
        let request = on("POST", name, "/resize");
        self.does(request.query("h", &rows.to_string()).query("w", &columns.to_string()))
    }

    fn container_start(&self, name: &str, how: &StartContainer) -> Result<bool> {
        let answer = self.client.call(on("POST", name, "/start")).map_err(command_failure)?;
        let started = answer.status() != 304;
        answer.done()?;
        if let Some((rows, columns)) = how.size {
            // The size was in the create request too; a container that has ended already needs none.
            let _ = self.container_resize(name, rows, columns);
        }
        Ok(started)
    }

    fn container_stop(&self, name: &str, how: &StopContainer) -> Result<bool> {
        let answer = self.stopping(name, "/stop", how)?;
        let stopped = answer.status() != 304;
        answer.done()?;
        Ok(stopped)
    }

    fn container_restart(&self, name: &str, how: &StopContainer) -> Result<()> {
        self.stopping(name, "/restart", how)?.done()
    }

    fn container_kill(&self, name: &str, signal: &str) -> Result<()> {
        self.does(on("POST", name, "/kill").given("signal", signal))
    }

    fn container_update(&self, name: &str, config: &UpdateConfig) -> Result<Vec<String>> {
        let found: UpdateDocument = self.client.call(on("POST", name, "/update").json(config)?)?.json()?;
        Ok(found.warnings.into_inner())
    }

    fn container_rename(&self, name: &str, new: &str) -> Result<()> {
        self.does(on("POST", name, "/rename").query("name", new))
    }

    fn container_pause(&self, name: &str) -> Result<()> {
        self.does(on("POST", name, "/pause"))
    }

    fn container_unpause(&self, name: &str) -> Result<()> {
        self.does(on("POST", name, "/unpause"))
    }

    fn container_attach(&self, name: &str, how: AttachContainer) -> Result<AttachedContainer> {
        let found = self.container_inspect(name, false)?;
        let (tty, open_stdin) = (found.config.tty, found.config.open_stdin);
        let request = on("POST", &found.id, "/attach")
            .flag("logs", how.logs)
            .flag("stream", how.stream)
            .flag("stdin", how.stdin)
            .flag("stdout", how.stdout)
            .flag("stderr", how.stderr)
            .given("detachKeys", &how.detach_keys);
        let connection = self.client.hijack(request)?;
        let session = Session::new(self, Subject::Container(found.id), connection, tty);
        Ok(AttachedContainer { tty, open_stdin, session: Box::new(session) })
    }

    fn container_wait(&self, name: &str, condition: WaitCondition) -> Result<Box<dyn Follow<Waited>>> {
        let condition = match condition {
            WaitCondition::NotRunning => "not-running",
            WaitCondition::NextExit => "next-exit",
            WaitCondition::Removed => "removed",
        };
        let answer = self.client.call(on("POST", name, "/wait").query("condition", condition))?;
        Ok(Box::new(Once::new(answer, |bytes: &[u8]| {
            let found: WaitDocument = decode(bytes)?;
            Ok(Waited { code: found.status_code, error: found.error.unwrap_or_default().message })
        })))
    }

    fn container_remove(&self, name: &str, how: RemoveContainer) -> Result<()> {
        let request =
            on("DELETE", name, "").flag("force", how.force).flag("v", how.volumes).flag("link", how.link);
        self.does(request)
    }

    fn container_stat(&self, name: &str, path: &str) -> Result<PathStat> {
        let request = on("HEAD", name, "/archive").query("path", path);
        let answer = self.client.call(request).map_err(|e| match e.kind() {
            // The answer to HEAD has no sentence in it.
            Kind::NotFound => match self.container_inspect(name, false) {
                Err(e) => e,
                Ok(_) => Error::not_found(format!("Could not find the file {path} in container {name}")),
            },
            _ => e,
        })?;
        stat::parse(answer.header("x-docker-container-path-stat"))
    }

    fn container_get_archive(&self, name: &str, path: &str) -> Result<(PathStat, Output)> {
        let answer = self.client.call(on("GET", name, "/archive").query("path", path))?;
        let found = stat::parse(answer.header("x-docker-container-path-stat"))?;
        Ok((found, output(answer)))
    }

    fn container_put_archive(
        &self,
        name: &str,
        how: &PutArchive,
        mut archive: &mut (dyn Read + Send),
    ) -> Result<()> {
        let request = on("PUT", name, "/archive")
            .query("path", &how.path)
            .flag("noOverwriteDirNonDir", how.no_overwrite_dir_non_dir)
            .flag("copyUIDGID", how.copy_uid_gid)
            .stream("application/x-tar", &mut archive);
        self.does(request)
    }

    fn container_prune(&self, filters: &Filters) -> Result<Pruned> {
        let request = Request::new("POST", "/containers/prune").filters(filters);
        let found: PruneDocument = self.client.call(request)?.json()?;
        Ok(Pruned { deleted: found.containers_deleted.into_inner(), space: found.space_reclaimed })
    }
}
