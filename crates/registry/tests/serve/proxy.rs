//! The pull-through cache, its upstream a registry of the same kind.

use std::time::{Duration, Instant};

use fluyt_image::Digest;
use fluyt_registry::server::{self, Bounds, CollectOptions};

use crate::support::{Served, noise};

fn cache_of(upstream: &Served, ttl: u64) -> Served {
    let url = format!("http://{}", upstream.address);
    let dir = tempfile::tempdir().expect("works");
    let path = dir.path().join("registry.json");
    std::fs::write(&path, serde_json::json!({"proxy": {"url": url, "ttl": ttl}}).to_string()).expect("works");
    Served::on(dir, |options| options.config = Some(path))
}

#[test]
fn what_was_fetched_once_is_served_without_the_upstream() {
    let mut upstream = Served::new();
    let layer = noise(1, 2_000_000);
    let (_, digest) = upstream.image("a/b", "x", &layer);
    let cache = cache_of(&upstream, 0);
    let blob = format!("/v2/a/b/blobs/{}", Digest::of(&layer));
    for _ in 0..2 {
        let manifest = cache.ask("GET", "/v2/a/b/manifests/x");
        assert_eq!(manifest.is(200).header("docker-content-digest"), digest.as_str());
        assert!(manifest.find("warning").is_none());
        assert!(cache.ask("GET", &blob).is(200).body == layer);
        cache.ask("GET", &format!("/v2/a/b/blobs/{}", Digest::of(b"{}"))).is(200);
    }
    assert_eq!(cache.ask("GET", "/v2/a/b/tags/list").is(200).json()["tags"][0], "x");
    cache.ask("GET", "/v2/a/b/manifests/none").is(404);
    cache.ask("GET", &format!("/v2/a/b/blobs/{}", Digest::of(b"none"))).refuses(404, "BLOB_UNKNOWN");
    cache.ask("POST", "/v2/a/b/blobs/uploads/").refuses(405, "UNSUPPORTED");
    upstream.end();
    let manifest = cache.ask("GET", "/v2/a/b/manifests/x");
    assert!(manifest.is(200).header("warning").starts_with("299 - \"may be out of date"), "{manifest:?}");
    cache.ask("GET", &format!("/v2/a/b/manifests/{digest}")).is(200);
    assert!(cache.ask("GET", &blob).is(200).body == layer);
    assert_eq!(cache.ask("GET", "/v2/a/b/tags/list").is(200).json()["tags"][0], "x");
    cache.ask("GET", "/v2/a/b/manifests/other").refuses(502, "UNAVAILABLE");
    let started = Instant::now();
    cache.ask("GET", "/v2/a/b/manifests/x").is(200);
    assert!(started.elapsed() < Duration::from_secs(1), "an upstream that failed is left alone for a while");
}

#[test]
fn a_tag_that_moved_is_noticed_when_its_time_is_over() {
    let upstream = Served::new();
    upstream.image("a", "x", b"one");
    let (patient, eager) = (cache_of(&upstream, 3600), cache_of(&upstream, 0));
    let digest = |cache: &Served| {
        cache.ask("GET", "/v2/a/manifests/x").is(200).header("docker-content-digest").to_owned()
    };
    let old = digest(&patient);
    assert_eq!(digest(&eager), old);
    let (_, new) = upstream.image("a", "x", b"two");
    assert_eq!(digest(&patient), old);
    assert_eq!(digest(&eager), new.as_str());
}

#[test]
fn many_who_want_one_blob_share_a_transfer() {
    let upstream = Served::new();
    let layer = noise(2, 3_000_000);
    upstream.image("a", "x", &layer);
    let cache = cache_of(&upstream, 60);
    let path = format!("/v2/a/blobs/{}", Digest::of(&layer));
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| assert!(cache.ask("GET", &path).is(200).body == layer));
        }
    });
    assert_eq!(cache.ask("HEAD", &path).is(200).header("content-length"), "3000000");
}

#[test]
fn an_upstream_that_sends_wrong_bytes_is_not_believed() {
    let upstream = Served::new();
    let layer = noise(3, 100_000);
    upstream.image("a", "x", &layer);
    let digest = Digest::of(&layer);
    let file = upstream.root().join("blobs/sha256").join(digest.hex());
    let mut damaged = layer.clone();
    damaged[50_000] ^= 1;
    std::fs::write(file, damaged).unwrap();
    let cache = cache_of(&upstream, 60);
    let path = format!("/v2/a/blobs/{digest}");
    let answer = cache.ask("GET", &path);
    assert!(answer.status != 200 || answer.body.len() < layer.len(), "never whole");
    let cached = cache.root().join("blobs/sha256").join(digest.hex());
    assert!(!cached.exists(), "and never kept");
}

#[test]
fn what_is_beyond_the_bounds_is_forgotten_and_fetched_again() {
    let upstream = Served::new();
    let layers = [noise(4, 100_000), noise(5, 100_000)];
    upstream.image("a", "x", &layers[0]);
    upstream.image("b", "x", &layers[1]);
    let cache = cache_of(&upstream, 3600);
    let path = |at: usize| format!("/v2/{}/blobs/{}", ["a", "b"][at], Digest::of(&layers[at]));
    let fetch = |at: usize| {
        cache.ask("GET", &format!("/v2/{}/manifests/x", ["a", "b"][at])).is(200);
        assert!(cache.ask("GET", &path(at)).is(200).body == layers[at]);
    };
    let here = || {
        let file = |at: usize| cache.root().join("blobs/sha256").join(Digest::of(&layers[at]).hex());
        [file(0).exists(), file(1).exists()]
    };
    fetch(0);
    fetch(1);
    let trim = |size: u64| {
        let bounds = Bounds { size: Some(size), age: None };
        server::trim(&cache.root(), &bounds, Duration::ZERO).expect("trimmed")
    };
    assert_eq!(trim(1_000_000).manifests, 0);
    assert_eq!(here(), [true, true]);
    let swept = trim(150_000);
    assert_eq!(swept.manifests, 1);
    // The cache may still hold what it has just fetched; the next collection takes it then.
    let until = |wanted: usize| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while here().iter().filter(|there| **there).count() != wanted {
            assert!(Instant::now() < deadline, "{:?}", here());
            let options = CollectOptions { grace: Duration::ZERO, ..CollectOptions::default() };
            server::collect(&cache.root(), &options).expect("collected");
        }
    };
    until(1);
    let gone = here().iter().position(|there| !there).expect("one is gone");
    fetch(gone);
    let old = Bounds { size: None, age: Some(Duration::from_secs(3600)) };
    assert_eq!(server::trim(&cache.root(), &old, Duration::ZERO).expect("trimmed").manifests, 0);
    assert_eq!(trim(0).manifests, 2);
    until(0);
}
