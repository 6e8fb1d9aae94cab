//! Which volumes a list shows.

use fluyt_engine::VolumeView;
use fluyt_model::Result;

use crate::filter::Filters;

/// Filters of `volume ls`.
pub const FILTERS: &[&str] = &["dangling", "driver", "label", "label!", "name"];

/// Leaves the volumes that the filters let pass.
///
/// # Errors
/// A `dangling` that is no boolean.
pub fn select(views: &mut Vec<VolumeView>, filters: &Filters) -> Result<()> {
    let dangling = filters.boolean("dangling")?;
    views.retain(|v| {
        filters.exact("driver", if v.spec.driver.is_empty() { "local" } else { &v.spec.driver })
            && filters.labels(&v.spec.labels)
            && filters.any("name", |part| v.spec.name.contains(part))
            && dangling.is_none_or(|wanted| wanted == v.used_by.is_empty())
    });
    Ok(())
}
