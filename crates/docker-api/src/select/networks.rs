//! Which networks a list shows.

use fluyt_engine::NetworkView;
use fluyt_model::{Error, Result};

use crate::filter::Filters;

/// Filters of `network ls`.
pub const FILTERS: &[&str] = &["dangling", "driver", "id", "label", "label!", "name", "scope", "type"];

/// Leaves the networks that the filters let pass.
///
/// # Errors
/// A `dangling` that is no boolean, an unknown `type`.
pub fn select(views: &mut Vec<NetworkView>, filters: &Filters) -> Result<()> {
    let dangling = filters.boolean("dangling")?;
    if let Some(other) =
        filters.values("type").iter().find(|kind| !matches!(kind.as_str(), "builtin" | "custom"))
    {
        return Err(
            Error::invalid(format!("invalid filter 'type={other}'")).with_hint("it is builtin or custom")
        );
    }
    views.retain(|n| {
        filters.exact("driver", &n.spec.driver)
            && filters.id("id", &n.id)
            && filters.labels(&n.spec.labels)
            && filters.matches("name", &n.spec.name)
            && filters.exact("scope", "local")
            && filters.any("type", |kind| (kind == "builtin") == is_builtin(&n.spec.name))
            && dangling.is_none_or(|wanted| wanted == (n.endpoints.is_empty() && !is_builtin(&n.spec.name)))
    });
    Ok(())
}

/// Networks that are always there.
#[must_use]
pub fn is_builtin(name: &str) -> bool {
    matches!(name, "bridge" | "host" | "none")
}
