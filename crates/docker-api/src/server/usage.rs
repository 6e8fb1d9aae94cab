//! `GET /system/df` since 1.52: sums by kind, with the objects only if they are asked for. Pure.

use serde::Serialize;

use crate::types::{BuildCacheEntry, ContainerSummary, DiskUsage, ImageSummary, Volume};

/// The sums of one kind.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Usage<T> {
    #[serde(skip_serializing_if = "crate::types::is_zero")]
    active_count: i64,
    #[serde(skip_serializing_if = "crate::types::is_zero")]
    total_count: i64,
    #[serde(skip_serializing_if = "crate::types::is_zero")]
    reclaimable: i64,
    #[serde(skip_serializing_if = "crate::types::is_zero")]
    total_size: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    items: Vec<T>,
}

impl<T: Clone> Usage<T> {
    /// Sums of objects of which `is_active` are in use and each has its own `size`.
    fn of(items: &[T], verbose: bool, is_active: impl Fn(&T) -> bool, size: impl Fn(&T) -> i64) -> Self {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        Self {
            active_count: count(items.iter().filter(|item| is_active(item)).count()),
            total_count: count(items.len()),
            reclaimable: items.iter().filter(|item| !is_active(item)).map(&size).sum(),
            total_size: items.iter().map(size).sum(),
            items: if verbose { items.to_vec() } else { Vec::new() },
        }
    }
}

/// All kinds that were asked for.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Usages {
    #[serde(skip_serializing_if = "Option::is_none")]
    image_usage: Option<Usage<ImageSummary>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_usage: Option<Usage<ContainerSummary>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volume_usage: Option<Usage<Volume>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_cache_usage: Option<Usage<BuildCacheEntry>>,
}

/// The sums of a document that has the objects. What was not asked for is `null` there, and left out here.
pub fn sums(usage: &DiskUsage, verbose: bool) -> Usages {
    let own = |image: &ImageSummary| image.size - image.shared_size.max(0);
    let images = || {
        let sums = Usage::of(&usage.images, verbose, |image| image.containers > 0, own);
        // Layers that several images have count once.
        Usage { total_size: usage.layers_size, ..sums }
    };
    let up = |c: &ContainerSummary| matches!(c.state.as_str(), "running" | "paused" | "restarting");
    let containers = || Usage::of(&usage.containers, verbose, up, |c| c.size_rw);
    let data = |volume: &Volume| volume.usage_data.as_ref().map_or((0, 0), |u| (u.ref_count, u.size.max(0)));
    let volumes = || Usage::of(&usage.volumes, verbose, |v| data(v).0 > 0, |v| data(v).1);
    let cached = |entry: &BuildCacheEntry| if entry.shared { 0 } else { entry.size };
    let cache = || Usage::of(&usage.build_cache, verbose, |entry| entry.in_use, cached);
    Usages {
        image_usage: (!usage.images.is_null()).then(images),
        container_usage: (!usage.containers.is_null()).then(containers),
        volume_usage: (!usage.volumes.is_null()).then(volumes),
        build_cache_usage: (!usage.build_cache.is_null()).then(cache),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::List;

    #[test]
    fn sums_count_what_is_in_use() {
        let image = |size, shared_size, containers| ImageSummary {
            size,
            shared_size,
            containers,
            ..ImageSummary::default()
        };
        let usage = DiskUsage {
            layers_size: 25,
            images: vec![image(10, 5, 1), image(20, 5, 0)].into(),
            volumes: List::from(Vec::new()),
            ..DiskUsage::default()
        };
        let text = |verbose| serde_json::to_value(sums(&usage, verbose)).unwrap();
        assert_eq!(
            text(false),
            serde_json::json!({
                "ImageUsage": {"ActiveCount": 1, "TotalCount": 2, "Reclaimable": 15, "TotalSize": 25},
                "VolumeUsage": {},
            })
        );
        assert_eq!(text(true)["ImageUsage"]["Items"].as_array().map(Vec::len), Some(2));
    }
}
