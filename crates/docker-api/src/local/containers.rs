//! Containers.

use std::io::Read;

use fluyt_engine::{
    ContainerView, CopyOptions, Engine, LogOptions, RemoveOptions, StartOptions, StopOptions, UpdateRequest,
};
use fluyt_model::sandbox::{Phase, Stdin};
use fluyt_model::{Error, Kind, Result};

use super::attach::{Logged, Session, Told, Wants};
use super::create::name_conflict;
use super::follow::{Ending, Lines, Samples};
use super::{Held, Local, create};
use crate::api::*;
use crate::select::{self, prune::Keep};
use crate::types::{
    ContainerInspect, ContainerStats, ContainerSummary, CreateRequest, CreateResponse, List, UpdateConfig,
};
use crate::{lower, render, time};

/// Whether a container has a terminal, and whether its standard input is open.
fn io_of(view: &ContainerView) -> (bool, bool) {
    view.spec.containers.first().map_or((false, false), |c| (c.process.tty, c.process.stdin != Stdin::Null))
}

fn is_up(view: &ContainerView) -> bool {
    matches!(view.status.phase, Phase::Running | Phase::Paused | Phase::Restarting)
}

fn not_running(view: &ContainerView) -> Error {
    Error::conflict(format!("container {} is not running", view.id))
        .with_hint(format!("`fluyt start {}` starts it", view.name))
}

impl Local {
    fn found(&self, name: &str) -> Result<(Held, ContainerView)> {
        let engine = self.engine()?;
        let view = find(&engine, name)?;
        Ok((engine, view))
    }
}

impl Local {
    /// Removes a link, given as `container/alias`.
    fn unlink(&self, path: &str) -> Result<()> {
        let (name, alias) = path
            .split_once('/')
            .ok_or_else(|| Error::invalid(format!("{path}: a link is named CONTAINER/ALIAS")))?;
        let (engine, view) = self.found(name)?;
        let mut request = CreateRequest::clone(&render::document(&view));
        let of = |link: &str| link.rsplit(':').next() == Some(alias);
        let mut links = std::mem::take(&mut request.host_config.links).into_inner();
        links.retain(|link| !of(link));
        request.host_config.links = links.into();
        let document =
            serde_json::to_value(&request).map_err(|e| Error::internal("the container").with_source(e))?;
        engine.unlink(&view.id, alias, document)
    }
}

/// A container by name; clients may write names with the slash that they are shown with.
fn find(engine: &Engine, name: &str) -> Result<ContainerView> {
    engine.container(bare(name))
}

fn bare(name: &str) -> &str {
    name.strip_prefix('/').unwrap_or(name)
}

fn stop_options(how: &StopContainer) -> StopOptions {
    StopOptions { signal: Some(how.signal.clone()).filter(|signal| !signal.is_empty()), timeout: how.timeout }
}

impl Containers for Local {
    fn container_list(&self, wanted: &ListContainers) -> Result<Vec<ContainerSummary>> {
        wanted.filters.check(select::containers::FILTERS)?;
        let engine = self.engine()?;
        let now = time::now();
        let views = engine.list()?;
        let last = wanted.limit.unwrap_or(0);
        let chosen = select::containers::select(&engine, &views, &wanted.filters, wanted.all, last)?;
        let mut summaries = Vec::with_capacity(chosen.len());
        for view in chosen {
            let size = if wanted.size { Some(engine.size(view)?) } else { None };
            summaries.push(render::summary(view, size, now));
        }
        name_links(&views, &mut summaries);
        Ok(summaries)
    }

    fn container_create(&self, wanted: CreateContainer) -> Result<CreateResponse> {
        create::create(&*self.engine()?, wanted)
    }

    fn container_inspect(&self, name: &str, size: bool) -> Result<ContainerInspect> {
        let (engine, view) = self.found(name)?;
        let size = if size { Some(engine.size(&view)?) } else { None };
        let mut document = render::inspect(&view, size);
        document.exec_ids = List::null_if_empty(engine.execs_of(&view.id));
        Ok(document)
    }

    fn container_top(&self, name: &str, ps_args: &[String]) -> Result<Processes> {
        let (engine, view) = self.found(name)?;
        if !is_up(&view) {
            return Err(not_running(&view));
        }
        let (titles, processes) = engine.top(&view.id, ps_args)?;
        Ok(Processes { titles, processes })
    }

    fn container_logs(&self, name: &str, wanted: LogsOf) -> Result<Logs> {
        let (engine, view) = self.found(name)?;
        let options = LogOptions {
            follow: wanted.follow,
            tail: wanted.tail,
            since: wanted.since,
            until: wanted.until,
            stdout: wanted.stdout,
            stderr: wanted.stderr,
        };
        if !wanted.follow {
            wait_for_words(&engine, &view);
        }
        let reader = engine.logs(&view.id, options)?;
        Ok(Logs { tty: io_of(&view).0, lines: Box::new(Lines { reader, details: wanted.details }) })
    }

    fn container_changes(&self, name: &str) -> Result<Vec<Change>> {
        self.engine()?.diff(bare(name))
    }

    fn container_export(&self, name: &str) -> Result<Output> {
        let (engine, view) = self.found(name)?;
        Ok(Box::new(move |out| {
            let mut out = out;
            engine.export(&view.id, &mut out)
        }))
    }

    fn container_stats(&self, name: &str, wanted: StatsOf) -> Result<Box<dyn Follow<ContainerStats>>> {
        let view = find(&*self.engine()?, name)?;
        let up = is_up(&view);
        let mut samples = Samples::new(self, view.id.clone(), view.name.clone(), wanted.stream);
        if !wanted.stream && !wanted.one_shot && up {
            samples.prime()?;
        }
        Ok(Box::new(samples))
    }

    fn container_resize(&self, name: &str, rows: u16, columns: u16) -> Result<()> {
        let (engine, view) = self.found(name)?;
        if !is_up(&view) {
            return Err(not_running(&view));
        }
        engine.resize(&view.id, rows, columns)
    }

    fn container_start(&self, name: &str, how: &StartContainer) -> Result<bool> {
        let (engine, view) = self.found(name)?;
        match view.status.phase {
            Phase::Running | Phase::Restarting => return Ok(false),
            Phase::Paused => {
                return Err(Error::conflict("cannot start a paused container, try unpause instead"));
            }
            _ => {}
        }
        let slots = self.shared.hub.take(&view.id);
        let options = StartOptions {
            attach: !slots.is_empty(),
            stdin: slots.first().is_some_and(|slot| slot.stdin),
            size: how.size,
            caller_removes: slots.iter().any(|slot| slot.removes),
        };
        let others: Vec<bool> = slots.iter().skip(1).map(|slot| slot.stdin).collect();
        let started = match engine.start_new(&view.id, options, &others) {
            Ok(started) => started,
            Err(error) => {
                self.shared.hub.put_back(&view.id, slots);
                // Not one that somebody else has started meanwhile.
                if view.spec.auto_remove && !engine.is_running(&view.id) {
                    let options = RemoveOptions { force: true, volumes: true };
                    match engine.remove(&view.id, options) {
                        // Its monitor may have been quicker. The failure to start is what the caller hears about.
                        Ok(()) | Err(_) => {}
                    }
                }
                return Err(error);
            }
        };
        let new = started.is_some();
        let mut slots = slots.into_iter();
        for session in started.unwrap_or_default() {
            if let Some(slot) = slots.next() {
                slot.fill(Ok(session));
            }
        }
        // Somebody else has started it. That one cannot be attached is what its session hears.
        for slot in slots {
            slot.fill(engine.attach_quietly(&view.id, slot.stdin));
        }
        Ok(new)
    }

    fn container_stop(&self, name: &str, how: &StopContainer) -> Result<bool> {
        let (engine, view) = self.found(name)?;
        if !is_up(&view) {
            return Ok(false);
        }
        engine.stop(&view.id, &stop_options(how))?;
        Ok(true)
    }

    fn container_restart(&self, name: &str, how: &StopContainer) -> Result<()> {
        let (engine, view) = self.found(name)?;
        engine.restart(&view.id, &stop_options(how))
    }

    fn container_kill(&self, name: &str, signal: &str) -> Result<()> {
        let (engine, view) = self.found(name)?;
        engine.kill(&view.id, if signal.is_empty() { "KILL" } else { signal }).map_err(|e| {
            if e.kind() != Kind::Conflict || is_up(&view) {
                return e;
            }
            Error::conflict(format!("cannot kill container: {name}: container {} is not running", view.id))
                .with_hint(format!("`fluyt start {}` starts it", view.name))
        })
    }

    fn container_update(&self, name: &str, config: &UpdateConfig) -> Result<Vec<String>> {
        let (engine, view) = self.found(name)?;
        let named = !config.restart_policy.name.is_empty();
        let restart = if named { Some(lower::restart_policy(&config.restart_policy)?) } else { None };
        let request = UpdateRequest { resources: lower::resources(&config.resources), restart };
        engine.update(&view.id, &request)?;
        Ok(Vec::new())
    }

    fn container_rename(&self, name: &str, new: &str) -> Result<()> {
        let (engine, view) = self.found(name)?;
        let new = bare(new);
        engine.rename(&view.id, new).map_err(|e| match name_conflict(&engine, new) {
            Some(conflict)
                if e.kind() == Kind::Conflict && engine.container(new).is_ok_and(|o| o.id != view.id) =>
            {
                Error::conflict(format!("Error when allocating new name: {conflict}"))
            }
            _ => e,
        })
    }

    fn container_pause(&self, name: &str) -> Result<()> {
        let (engine, view) = self.found(name)?;
        match view.status.phase {
            Phase::Running => engine.pause(&view.id),
            Phase::Paused => Err(Error::conflict(format!("Container {} is already paused", view.id))),
            Phase::Restarting => Err(restarting(&view)),
            _ => Err(not_running(&view)),
        }
    }

    fn container_unpause(&self, name: &str) -> Result<()> {
        let (engine, view) = self.found(name)?;
        if view.status.phase != Phase::Paused {
            return Err(Error::internal(format!("Container {} is not paused", view.id)));
        }
        engine.unpause(&view.id)
    }

    fn container_attach(&self, name: &str, how: AttachContainer) -> Result<AttachedContainer> {
        let (engine, view) = self.found(name)?;
        let (tty, open_stdin) = io_of(&view);
        let stdin = how.stdin && open_stdin;
        let wants = Wants { stdout: how.stdout, stderr: how.stderr };
        match view.status.phase {
            Phase::Paused => {
                return Err(Error::conflict(format!(
                    "container {name} is paused, unpause the container before attach"
                )));
            }
            Phase::Restarting => {
                return Err(Error::conflict(format!(
                    "container {name} is restarting, wait until the container is running"
                )));
            }
            _ => {}
        }
        let session = if !how.stream {
            Session::over(wants)
        } else if view.status.phase == Phase::Running {
            match engine.attach_quietly(&view.id, stdin) {
                Ok(attach) => Session::live(attach, wants),
                // It has just ended.
                Err(e) if e.kind() == Kind::Conflict => {
                    Session::waiting(self, &view.id, stdin, how.removes, wants)?
                }
                Err(e) => return Err(e),
            }
        } else {
            Session::waiting(self, &view.id, stdin, how.removes, wants)?
        };
        engine.tell_of(&view, "attach");
        let told = Told { local: self.clone(), container: view.id.clone(), action: "detach", exec: None };
        let session = session.telling(told);
        let logged = if how.logs { Some(logged(&engine, &view, &how)?) } else { None };
        Ok(AttachedContainer { tty, open_stdin, session: Box::new(session.after(logged)) })
    }

    fn container_wait(&self, name: &str, condition: WaitCondition) -> Result<Box<dyn Follow<Waited>>> {
        let waiter = self.engine()?.waiter(bare(name), condition)?;
        Ok(Box::new(Ending { local: self.clone(), waiter, told: false }))
    }

    fn container_remove(&self, name: &str, how: RemoveContainer) -> Result<()> {
        if how.link {
            return self.unlink(bare(name));
        }
        let (engine, view) = self.found(name)?;
        if is_up(&view) && !how.force {
            let (state, first) = match view.status.phase {
                Phase::Paused => ("paused", "unpause and then stop"),
                Phase::Restarting => ("restarting", "stop"),
                _ => ("running", "stop"),
            };
            return Err(Error::conflict(format!(
                "cannot remove container \"{name}\": container is {state}: {first} the container before removing or force remove"
            ))
            .with_hint(format!("`fluyt rm -f {}`", view.name)));
        }
        engine.remove(&view.id, RemoveOptions { force: how.force, volumes: how.volumes })
    }

    fn container_stat(&self, name: &str, path: &str) -> Result<PathStat> {
        let (engine, view) = self.found(name)?;
        engine.path_stat(&view.id, path)
    }

    fn container_get_archive(&self, name: &str, path: &str) -> Result<(PathStat, Output)> {
        let (engine, view) = self.found(name)?;
        let stat = engine.path_stat(&view.id, path)?;
        let path = path.to_owned();
        let output: Output = Box::new(move |out| engine.copy_out(&view.id, &path, false, out).map(drop));
        Ok((stat, output))
    }

    fn container_put_archive(
        &self,
        name: &str,
        how: &PutArchive,
        archive: &mut (dyn Read + Send),
    ) -> Result<()> {
        let (engine, view) = self.found(name)?;
        let options = CopyOptions {
            keep_owner: how.copy_uid_gid,
            no_overwrite_dir_non_dir: how.no_overwrite_dir_non_dir,
        };
        engine.copy_in(&view.id, &how.path, archive, options)
    }

    fn container_prune(&self, filters: &Filters) -> Result<Pruned> {
        filters.check(select::prune::FILTERS)?;
        let keep = Keep::new(filters.clone(), time::now())?;
        let pruned = self.engine()?.prune_containers(&|view| keep.container(view))?;
        Ok(Pruned { deleted: pruned.removed, space: pruned.bytes })
    }
}

/// The names that linked containers have in those that link to them: `/web/db`.
fn name_links(views: &[ContainerView], summaries: &mut [ContainerSummary]) {
    for view in views {
        // Links on networks of one's own are no names of the other.
        let links = view.spec.networks.iter().filter(|a| a.network == "bridge").flat_map(|a| &a.links);
        for (target, alias) in links {
            let target = bare(target);
            let own = format!("/{target}");
            let linked = |s: &&mut ContainerSummary| s.id == *target || s.names.first() == Some(&own);
            if let Some(summary) = summaries.iter_mut().find(linked) {
                summary.names.push(format!("/{}/{alias}", view.name));
            }
        }
    }
}

fn restarting(view: &ContainerView) -> Error {
    Error::conflict(format!("Container {} is restarting, wait until the container is running", view.id))
}

/// So long after its start a container without a word is given time for one, ns: a start is answered as soon as the
/// program runs, and who starts a container and reads its log at once (scripts, tests) is used to slower ones.
const FIRST_WORD: i64 = 100_000_000;

/// Waits until a container that was just started has logged something or has ended; not for long, and no other one.
fn wait_for_words(engine: &Engine, view: &ContainerView) {
    let log = &view.paths.log;
    let young = || time::now().saturating_sub(view.status.started_at) < FIRST_WORD;
    let silent = || !log.as_os_str().is_empty() && std::fs::metadata(log).is_ok_and(|file| file.len() == 0);
    for _ in 0..50 {
        if !(young() && silent() && engine.is_running(&view.id)) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// What a container has logged until now. What comes later comes from the container itself.
fn logged(engine: &Engine, view: &ContainerView, how: &AttachContainer) -> Result<Logged> {
    let until = Some(time::now());
    let options = LogOptions { stdout: how.stdout, stderr: how.stderr, until, ..LogOptions::default() };
    engine.logs(&view.id, options).map(Logged::new)
}
