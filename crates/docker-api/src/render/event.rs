//! Events.

use fluyt_engine::Event;

use crate::types::{Actor, EventMessage};

/// An event as Docker's document.
#[must_use]
pub fn event(event: Event) -> EventMessage {
    let legacy = matches!(event.kind.as_str(), "container" | "image");
    let text = |wanted: bool, text: &str| if wanted { text.to_owned() } else { String::new() };
    EventMessage {
        status: text(legacy, &event.action),
        id: text(legacy, &event.id),
        from: text(event.kind == "container", event.attributes.get("image").map_or("", String::as_str)),
        action: event.action,
        actor: Actor { id: event.id, attributes: event.attributes },
        kind: event.kind,
        scope: "local".to_owned(),
        time: event.time.div_euclid(1_000_000_000),
        time_nano: event.time,
    }
}
