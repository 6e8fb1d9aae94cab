//! What is followed: logs, events, statistics, the end of a container.

use std::time::{Duration, Instant};

use fluyt_engine::{Followed, LogLine, LogReader, Patience, Stats, Waiter};
use fluyt_model::{Kind, Result};

use super::Local;
use crate::api::{EventsOf, Follow, Next, Wait, Waited};
use crate::filter::Filters;
use crate::types::{ContainerStats, EventMessage};
use crate::{render, select, time};

/// Time between two samples.
const INTERVAL: Duration = Duration::from_secs(1);

impl<'a> From<Wait<'a>> for Patience<'a> {
    fn from(wait: Wait<'a>) -> Self {
        Self { timeout: wait.timeout, unless_gone: wait.unless_gone }
    }
}

fn next<T, U>(followed: Followed<T>, map: impl FnOnce(T) -> U) -> Next<U> {
    match followed {
        Followed::Item(item) => Next::Item(map(item)),
        Followed::Nothing => Next::Idle,
        Followed::End => Next::End,
    }
}

/// Lines of a log.
pub(super) struct Lines {
    pub reader: LogReader,
    pub details: bool,
}

impl Follow<LogLine> for Lines {
    fn next(&mut self, wait: Wait<'_>) -> Result<Next<LogLine>> {
        let details = self.details;
        Ok(next(self.reader.next_within(wait.into())?, |mut line| {
            if !details {
                line.attributes.clear();
            }
            line
        }))
    }
}

/// Events that pass the filters.
pub(super) struct Events {
    reader: fluyt_engine::EventReader,
    filters: Filters,
}

impl Events {
    pub fn open(local: &Local, wanted: &EventsOf) -> Result<Self> {
        wanted.filters.check(select::events::FILTERS)?;
        // What has been is read; what comes is followed, unless the end lies behind us.
        let follow = wanted.until.is_none_or(|until| until > time::now());
        let reader = local.engine()?.events(wanted.since, wanted.until, follow)?;
        Ok(Self { reader, filters: wanted.filters.clone() })
    }
}

impl Follow<EventMessage> for Events {
    fn next(&mut self, wait: Wait<'_>) -> Result<Next<EventMessage>> {
        loop {
            match self.reader.next_within(wait.into())? {
                Followed::Item(event) if !select::events::passes(&event, &self.filters) => {}
                other => return Ok(next(other, render::event)),
            }
        }
    }
}

/// Samples of one container.
pub(super) struct Samples {
    local: Local,
    id: String,
    name: String,
    last: Option<Stats>,
    due: Instant,
    /// How many more; `None`: as long as the container is there.
    left: Option<u32>,
}

impl Samples {
    pub fn new(local: &Local, id: String, name: String, stream: bool) -> Self {
        Self { local: local.clone(), id, name, last: None, due: Instant::now(), left: (!stream).then_some(1) }
    }

    /// Takes a sample to compare the first that is shown with.
    pub fn prime(&mut self) -> Result<()> {
        self.last = self.sample()?;
        if self.last.is_some() {
            self.due = Instant::now() + INTERVAL;
        }
        Ok(())
    }

    /// `None` if the container does not run.
    fn sample(&self) -> Result<Option<Stats>> {
        match self.local.engine()?.stats(&self.id) {
            Ok(stats) if stats.pids == 0 && stats.memory == 0 && stats.cpu_total == 0 => Ok(None),
            Ok(stats) => Ok(Some(stats)),
            Err(e) if e.kind() == Kind::Conflict => Ok(None),
            Err(e) => Err(e),
        }
    }
}

impl Follow<ContainerStats> for Samples {
    fn next(&mut self, wait: Wait<'_>) -> Result<Next<ContainerStats>> {
        if self.left == Some(0) {
            return Ok(Next::End);
        }
        let pause = self.due.saturating_duration_since(Instant::now());
        if !pause.is_zero() && !Patience::from(wait).pause(pause)? {
            return Ok(Next::Idle);
        }
        let now = match self.sample() {
            Ok(now) => now,
            Err(e) if e.kind() == Kind::NotFound => return Ok(Next::End),
            Err(e) => return Err(e),
        };
        self.left = self.left.map(|n| n - 1);
        self.due = Instant::now() + INTERVAL;
        let document = render::stats(&self.id, &self.name, self.last.as_ref(), now.as_ref());
        self.last = now;
        Ok(Next::Item(document))
    }
}

/// The end of a container: one item.
pub(super) struct Ending {
    pub local: Local,
    pub waiter: Waiter,
    pub told: bool,
}

impl Follow<Waited> for Ending {
    fn next(&mut self, wait: Wait<'_>) -> Result<Next<Waited>> {
        if self.told {
            return Ok(Next::End);
        }
        let local = &self.local;
        let removed = |id: &str| match local.engine()?.is_recorded(id) {
            Ok(recorded) => Ok(!recorded),
            Err(e) => Err(e),
        };
        let found = self.waiter.within(&removed, wait.into())?;
        self.told = matches!(found, Followed::Item(_));
        Ok(next(found, |code| Waited { code: code.into(), error: String::new() }))
    }
}
