//! Collection, with others pushing meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fluyt_image::Digest;
use fluyt_image::gc::PARTIAL_AGE;
use fluyt_image::remove::nobody;
use fluyt_registry::server::{CollectOptions, Swept, collect};
use serde_json::json;

use crate::support::{INDEX, MANIFEST, Served, blobs_in, image_manifest, noise};

fn all_at_once() -> CollectOptions {
    CollectOptions { grace: Duration::ZERO, untagged: true, dry_run: false }
}

#[test]
fn what_a_tag_leads_to_stays_and_the_rest_goes() {
    let registry = Served::new();
    let (manifest, digest) = registry.image("a", "kept", b"kept layer");
    let (_, untagged) = registry.image("a", "", b"other layer");
    registry.blob("a", b"nobody's");
    let child = json!({"mediaType": MANIFEST, "digest": digest.as_str(), "size": manifest.to_string().len()});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]});
    registry.manifest("a", "index", &index);
    registry.ask("DELETE", "/v2/a/manifests/kept").is(202);
    let mut signature = image_manifest(&Digest::of(b"{}"), 2, &Digest::of(b"kept layer"), 10);
    signature["subject"] = child;
    let signature = registry.manifest("a", "", &signature);
    let trial = collect(&registry.root(), &CollectOptions { dry_run: true, ..all_at_once() }).unwrap();
    assert_eq!(trial, Swept { manifests: 1, links: 2, blobs: 0, bytes: 0 });
    registry.ask("GET", &format!("/v2/a/manifests/{untagged}")).is(200);
    let kept = CollectOptions { grace: Duration::from_secs(3600), ..all_at_once() };
    assert_eq!(collect(&registry.root(), &kept).unwrap(), Swept::default(), "within the grace");
    let swept = collect(&registry.root(), &all_at_once()).unwrap();
    assert_eq!((swept.manifests, swept.links, swept.blobs), (1, 2, 3));
    registry.ask("GET", &format!("/v2/a/manifests/{untagged}")).is(404);
    for key in ["index", digest.as_str(), signature.as_str()] {
        registry.ask("GET", &format!("/v2/a/manifests/{key}")).is(200);
    }
    registry.ask("GET", &format!("/v2/a/blobs/{}", Digest::of(b"kept layer"))).is(200);
    assert_eq!(collect(&registry.root(), &all_at_once()).unwrap(), Swept::default(), "nothing more to do");
}

#[test]
fn the_image_store_s_collection_leaves_the_registry_s_blobs() {
    let registry = Served::new();
    registry.image("a", "x", b"layer");
    let before = blobs_in(&registry.root());
    let store = fluyt_image::Store::open(&registry.root()).unwrap();
    store.collect(&nobody, PARTIAL_AGE).unwrap();
    assert_eq!(blobs_in(&registry.root()), before);
    registry.ask("GET", "/v2/a/manifests/x").is(200);
}

#[test]
fn pushes_go_on_while_collections_run() {
    let registry = Served::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Without any grace a blob may go before its manifest comes, but never one that a manifest needs.
            let options = CollectOptions { grace: Duration::from_secs(2), ..all_at_once() };
            while !done.load(Ordering::Relaxed) {
                collect(&registry.root(), &options).unwrap();
            }
        });
        let pushers: Vec<_> = (0..3)
            .map(|p: u64| {
                let registry = &registry;
                scope.spawn(move || {
                    for n in 0..15 {
                        registry.image("shared", &format!("t{p}-{n}"), &noise(p * 100 + n % 4, 20_000));
                    }
                })
            })
            .collect();
        for pusher in pushers {
            pusher.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    let tags = registry.ask("GET", "/v2/shared/tags/list").is(200).json();
    let tags = tags["tags"].as_array().unwrap();
    assert_eq!(tags.len(), 45);
    for tag in tags {
        let manifest = registry.ask("GET", &format!("/v2/shared/manifests/{}", tag.as_str().unwrap()));
        let manifest = manifest.is(200).json();
        let layer = manifest["layers"][0]["digest"].as_str().unwrap();
        registry.ask("GET", &format!("/v2/shared/blobs/{layer}")).is(200);
    }
}
