//! Which containers a list shows.

use fluyt_engine::{ContainerView, Engine};
use fluyt_model::sandbox::{HealthStatus, Phase};
use fluyt_model::{Error, Result};

use crate::filter::{Filters, glob, is_id};
use crate::render;

/// Filters of `ps`.
pub const FILTERS: &[&str] = &[
    "ancestor", "before", "expose", "exited", "health", "id", "is-task", "label", "label!", "name",
    "network", "pod", "publish", "since", "status", "volume",
];

/// The containers that `ps` shows: those that run, or `all`; at most `last` (0: no limit) of them, the newest first.
///
/// # Errors
/// `Invalid` for values that no container can have; `NotFound` for a `before` or `since` that is not there.
pub fn select<'a>(
    engine: &Engine,
    views: &'a [ContainerView],
    filters: &Filters,
    all: bool,
    last: usize,
) -> Result<Vec<&'a ContainerView>> {
    check(filters)?;
    let all = all || last > 0 || filters.has("status") || filters.has("exited");
    let window = Window::of(views, filters)?;
    let chosen = views
        .iter()
        .filter(|v| all || is_up(v))
        .filter(|v| window.contains(v) && passes(v, filters) && passes_ancestor(engine, v, filters));
    Ok(chosen.take(if last > 0 { last } else { usize::MAX }).collect())
}

/// Whether its process lives.
#[must_use]
pub fn is_up(view: &ContainerView) -> bool {
    matches!(view.status.phase, Phase::Running | Phase::Paused | Phase::Restarting)
}

/// Refuses values that no container can have.
fn check(filters: &Filters) -> Result<()> {
    const HEALTH: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];
    const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
    for state in filters.values("status") {
        if !STATES.contains(&state.as_str()) {
            return Err(Error::invalid(format!("invalid filter 'status={state}'"))
                .with_hint(format!("it is one of {}", STATES.join(", "))));
        }
    }
    for code in filters.values("exited") {
        if code.parse::<i32>().is_err() {
            return Err(Error::invalid(format!("invalid filter 'exited={code}'")).with_hint("it is a number"));
        }
    }
    if let Some(other) = filters.values("health").iter().find(|value| !HEALTH.contains(&value.as_str())) {
        return Err(Error::invalid(format!("Unrecognised filter value for health: {other}"))
            .with_hint("it is none, starting, healthy or unhealthy"));
    }
    filters.boolean("is-task").map(drop)
}

/// What `before` and `since` leave: creation times, exclusive.
struct Window {
    after: i64,
    before: i64,
}

impl Window {
    fn of(views: &[ContainerView], filters: &Filters) -> Result<Self> {
        let created = |name: &str| -> Result<Option<i64>> {
            let Some(wanted) = filters.values(name).first() else { return Ok(None) };
            let found = views.iter().find(|v| v.name == *wanted || is_id(&v.id, wanted));
            match found {
                Some(view) => Ok(Some(view.created)),
                None => Err(Error::not_found(format!("No such container: {wanted}"))),
            }
        };
        Ok(Self {
            after: created("since")?.unwrap_or(i64::MIN),
            before: created("before")?.unwrap_or(i64::MAX),
        })
    }

    fn contains(&self, view: &ContainerView) -> bool {
        view.created > self.after && view.created < self.before
    }
}

/// Everything but `ancestor` and the window.
fn passes(view: &ContainerView, filters: &Filters) -> bool {
    let status = &view.status;
    let health = match &status.health {
        None => "none",
        Some(health) if health.status == HealthStatus::Starting => "starting",
        Some(health) => health.status.as_str(),
    };
    let ended = status.finished_at != 0 && !is_up(view);
    let networks = || {
        let request = render::document(view);
        view.endpoints
            .iter()
            .flat_map(|e| [e.network.clone(), e.network_id.clone()])
            .chain(request.networking_config.endpoints_config.keys().cloned())
            .chain([request.host_config.network_mode.clone()])
            .collect::<Vec<_>>()
    };
    filters.id("id", &view.id)
        && filters.any("name", |n| Filters::name_matches(&view.name, n.strip_prefix('/').unwrap_or(n)))
        && filters.labels(&view.spec.labels)
        && filters.exact("status", status.phase.as_str())
        && filters.any("exited", |code| ended && code.parse() == Ok(status.exit_code))
        && filters.exact("health", health)
        && filters.any("is-task", |value| value == "false")
        && (!filters.has("network") || {
            let networks = networks();
            filters.any("network", |n| {
                networks.iter().any(|have| have == n || (n.len() >= 12 && have.starts_with(n)))
            })
        })
        && filters.any("pod", |p| {
            !view.spec.pod.is_empty() && (view.spec.pod_name == p || is_id(&view.spec.pod, p))
        })
        && filters.any("volume", |v| {
            view.mounts.iter().any(|m| m.name == v || m.target == v || m.source.as_os_str() == v)
        })
        && filters.any("publish", |p| {
            view.status.ports.iter().any(|port| port_matches(port.container_port, port.protocol.as_str(), p))
        })
        && filters.any("expose", |p| {
            render::document(view)
                .config
                .exposed_ports
                .keys()
                .any(|port| port_matches(port.port, port.proto.as_str(), p))
        })
}

/// Whether `port/proto` is in `first[-last][/proto]`.
fn port_matches(port: u16, proto: &str, wanted: &str) -> bool {
    let (range, wanted_proto) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(a), Ok(b)) if (a..=b).contains(&port))
        && wanted_proto == proto
}

/// Whether the container's image is one of `ancestor`, by name or by id.
fn passes_ancestor(engine: &Engine, view: &ContainerView, filters: &Filters) -> bool {
    let Some(container) = view.spec.containers.first() else { return filters.is_empty() };
    filters.any("ancestor", |wanted| {
        let bare = container.image_id.strip_prefix("sha256:").unwrap_or(&container.image_id);
        container.image == wanted
            || glob(wanted, &container.image)
            || is_id(bare, wanted.strip_prefix("sha256:").unwrap_or(wanted))
            || engine.images().resolve(wanted).is_ok_and(|image| image.id.hex() == bare)
    })
}
