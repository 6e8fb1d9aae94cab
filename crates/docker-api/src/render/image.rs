//! Images.

use fluyt_image::{Image, Store};
use fluyt_model::{Error, Result};

use crate::time;
use crate::types::image::ImageMetadata;
use crate::types::{GraphDriver, HistoryItem, ImageConfig, ImageInspect, ImageSummary, List, RootFs};

/// An image as a row of `GET /images/json`.
#[must_use]
pub fn image_summary(image: &Image) -> ImageSummary {
    ImageSummary {
        containers: -1,
        created: image.created,
        id: image.id.to_string(),
        labels: image.config.config.labels.clone().into(),
        parent_id: image.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
        repo_digests: image.repo_digests(),
        repo_tags: image.repo_tags(),
        shared_size: -1,
        manifests: None,
        size: i64::try_from(image.size).unwrap_or(i64::MAX),
    }
}

/// An image as `inspect` shows it.
///
/// # Errors
/// Its configuration cannot be read.
pub fn image(store: &Store, image: &Image) -> Result<ImageInspect> {
    #[derive(serde::Deserialize)]
    struct Raw {
        #[serde(default)]
        config: Option<ImageConfig>,
        #[serde(default)]
        docker_version: String,
    }
    let raw: Raw = serde_json::from_str(&store.raw_config(&image.id)?)
        .map_err(|e| Error::corrupt(format!("configuration of image {}", image.id)).with_source(e))?;
    let lowers = store.snapshot_lowers(image);
    let (upper, rest) = match lowers.split_first() {
        Some((upper, rest)) => (upper.display().to_string(), rest),
        None => (String::new(), &[][..]),
    };
    let lower: Vec<String> = rest.iter().map(|p| p.display().to_string()).collect();
    let mut data = vec![("UpperDir".to_owned(), upper)];
    if !lower.is_empty() {
        data.push(("LowerDir".to_owned(), lower.join(":")));
    }
    Ok(ImageInspect {
        id: image.id.to_string(),
        repo_tags: image.repo_tags(),
        repo_digests: image.repo_digests(),
        parent: image.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
        comment: image.config.comment.clone(),
        created: image.config.created.clone().unwrap_or_default(),
        docker_version: raw.docker_version,
        author: image.config.author.clone(),
        config: raw.config.unwrap_or_default(),
        architecture: image.config.architecture.clone(),
        variant: image.config.variant.clone().unwrap_or_default(),
        os: image.config.os.clone(),
        os_version: image.config.os_version.clone().unwrap_or_default(),
        size: i64::try_from(image.size).unwrap_or(i64::MAX),
        graph_driver: GraphDriver { data: data.into_iter().collect(), name: "overlay2".to_owned() },
        root_fs: RootFs {
            kind: "layers".to_owned(),
            layers: image.config.rootfs.diff_ids.iter().map(ToString::to_string).collect(),
        },
        metadata: ImageMetadata { last_tag_time: time::rfc3339_nano(image.added * 1_000_000_000) },
    })
}

/// The steps of an image, the newest first, with the sizes of the layers that they made.
#[must_use]
pub fn image_history(image: &Image) -> Vec<HistoryItem> {
    let mut layers = image.layers.iter();
    let mut items: Vec<HistoryItem> = image
        .config
        .history
        .iter()
        .map(|step| HistoryItem {
            comment: step.comment.clone(),
            created: step.created.as_deref().and_then(|text| time::parse(text, 0).ok()).unwrap_or(0)
                / 1_000_000_000,
            created_by: step.created_by.clone(),
            id: "<missing>".to_owned(),
            size: if step.empty_layer {
                0
            } else {
                layers.next().map_or(0, |layer| i64::try_from(layer.size).unwrap_or(i64::MAX))
            },
            tags: List::null(),
        })
        .collect();
    // Layers that no step tells of.
    items.extend(layers.map(|layer| HistoryItem {
        id: "<missing>".to_owned(),
        created: image.created,
        size: i64::try_from(layer.size).unwrap_or(i64::MAX),
        ..HistoryItem::default()
    }));
    items.reverse();
    if let Some(newest) = items.first_mut() {
        newest.id = image.id.to_string();
        newest.tags = List::null_if_empty(image.repo_tags());
    }
    items
}
