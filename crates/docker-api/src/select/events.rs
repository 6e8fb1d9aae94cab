//! Which events somebody listens to.

use fluyt_engine::Event;

use crate::filter::Filters;

/// Filters of `events`.
pub const FILTERS: &[&str] =
    &["container", "event", "image", "label", "label!", "network", "type", "volume", "scope", "daemon"];

/// Whether the filters let an event pass.
#[must_use]
pub fn passes(event: &Event, filters: &Filters) -> bool {
    let named = |kind: &str| {
        filters.any(kind, |wanted| {
            event.kind == kind
                && (event.id.starts_with(wanted)
                    || event.attributes.get("name").is_some_and(|name| name == wanted)
                    || (kind == "image" && event.id == wanted))
        })
    };
    let image = filters.any("image", |wanted| {
        event.attributes.get("image").or_else(|| event.attributes.get("name")).is_some_and(|have| {
            have == wanted
                || have.strip_suffix(":latest") == Some(wanted)
                || have.split(':').next() == Some(wanted)
        }) || event.id.starts_with(wanted)
    });
    filters.exact("type", &event.kind)
        && filters
            .any("event", |action| event.action == action || event.action.split(':').next() == Some(action))
        && filters.labels(&event.attributes)
        && named("container")
        && named("network")
        && named("volume")
        && image
        && filters.exact("scope", "local")
        && !filters.has("daemon")
}
