//! Manifests: kept as they came, refused when what they need is missing.

use fluyt_image::Digest;
use fluyt_image::digest::{Algorithm, Hasher};
use serde_json::json;

use crate::support::{INDEX, MANIFEST, Served, image_manifest};

#[test]
fn a_manifest_comes_back_byte_by_byte_by_tag_and_digest() {
    let registry = Served::new();
    let (manifest, _) = registry.image("a/b", "one", b"layer");
    // Other white space is another document.
    let bytes = serde_json::to_string_pretty(&manifest).unwrap() + "\n\n";
    let digest = Digest::of(bytes.as_bytes());
    let answer =
        registry.send("PUT", "/v2/a/b/manifests/two", &[("Content-Type", MANIFEST)], bytes.as_bytes());
    assert_eq!(answer.is(201).header("docker-content-digest"), digest.as_str());
    assert_eq!(answer.header("location"), format!("/v2/a/b/manifests/{digest}"));
    for key in ["two", digest.as_str()] {
        let path = format!("/v2/a/b/manifests/{key}");
        let answer = registry.ask("GET", &path);
        assert_eq!(answer.is(200).body, bytes.as_bytes());
        assert_eq!(answer.header("content-type"), MANIFEST);
        let head = registry.ask("HEAD", &path);
        assert_eq!(head.is(200).header("content-length"), bytes.len().to_string());
        let etag = head.header("etag").to_owned();
        registry.send("GET", &path, &[("If-None-Match", &etag)], b"").is(304);
    }
    let registry = registry.restarted();
    registry.ask("GET", "/v2/a/b/manifests/two").is(200);
}

#[test]
fn what_a_manifest_refers_to_has_to_be_there() {
    let registry = Served::new();
    let config = registry.blob("a", b"{}");
    let absent = Digest::of(b"absent");
    let put = |manifest: &serde_json::Value| {
        let kind = manifest["mediaType"].as_str().unwrap();
        registry.send("PUT", "/v2/a/manifests/x", &[("Content-Type", kind)], manifest.to_string().as_bytes())
    };
    let answer = put(&image_manifest(&config, 2, &absent, 1));
    answer.refuses(404, "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(answer.json()["errors"][0]["detail"]["digest"], absent.as_str());
    // In another repository is not here.
    registry.blob("b", b"absent");
    put(&image_manifest(&config, 2, &absent, 1)).refuses(404, "MANIFEST_BLOB_UNKNOWN");
    let child = json!({"mediaType": MANIFEST, "digest": absent.as_str(), "size": 6});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]});
    put(&index).refuses(404, "MANIFEST_BLOB_UNKNOWN");
    registry.ask("GET", "/v2/a/manifests/x").is(404);
    let mut foreign = image_manifest(&config, 2, &absent, 1);
    foreign["layers"][0]["mediaType"] = json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    put(&foreign).is(201);
    let subject = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "subject": child});
    assert_eq!(put(&subject).is(201).header("oci-subject"), absent.as_str());
}

#[test]
fn what_is_no_manifest_is_refused() {
    let registry = Served::new();
    let put = |bytes: &[u8]| registry.send("PUT", "/v2/a/manifests/x", &[("Content-Type", MANIFEST)], bytes);
    put(b"").refuses(400, "MANIFEST_INVALID");
    put(b"[]").refuses(400, "MANIFEST_INVALID");
    put(br#"{"schemaVersion":1}"#).refuses(400, "MANIFEST_INVALID");
    put(&vec![b' '; (4 << 20) + 1]).refuses(413, "SIZE_INVALID");
    let path = format!("/v2/a/manifests/{}", Digest::of(b"other"));
    registry.send("PUT", &path, &[("Content-Type", MANIFEST)], b"{}").refuses(400, "DIGEST_INVALID");
    registry.send("PUT", "/v2/a/manifests/a%20b", &[], b"{}").refuses(400, "TAG_INVALID");
}

#[test]
fn deleting_a_tag_leaves_the_manifest_and_deleting_that_takes_its_tags() {
    let registry = Served::new();
    let (_, digest) = registry.image("a", "one", b"layer");
    registry.image("a", "two", b"layer");
    registry.ask("DELETE", "/v2/a/manifests/one").is(202);
    registry.ask("GET", "/v2/a/manifests/one").refuses(404, "MANIFEST_UNKNOWN");
    registry.ask("GET", "/v2/a/manifests/two").is(200);
    registry.ask("DELETE", &format!("/v2/a/manifests/{digest}")).is(202);
    registry.ask("GET", "/v2/a/manifests/two").is(404);
    registry.ask("DELETE", &format!("/v2/a/manifests/{digest}")).refuses(404, "MANIFEST_UNKNOWN");
    registry.ask("DELETE", "/v2/a/manifests/two").refuses(404, "MANIFEST_UNKNOWN");
}

#[test]
fn several_tags_are_set_at_once() {
    let registry = Served::new();
    let (manifest, digest) = registry.image("a", "", b"layer");
    let path = format!("/v2/a/manifests/{digest}?tag=1&tag=1.2&tag=latest");
    let answer = registry.send("PUT", &path, &[("Content-Type", MANIFEST)], manifest.to_string().as_bytes());
    assert_eq!(answer.is(201).all("oci-tag"), ["1", "1.2", "latest"]);
    registry.ask("GET", "/v2/a/manifests/1.2").is(200);
    let path = format!("/v2/a/manifests/{digest}?tag=-");
    registry.send("PUT", &path, &[("Content-Type", MANIFEST)], manifest.to_string().as_bytes()).is(400);
}

#[test]
fn a_manifest_may_be_named_by_sha512() {
    let registry = Served::new();
    let (manifest, _) = registry.image("a", "x", b"layer");
    let bytes = manifest.to_string();
    let mut hasher = Hasher::new(Algorithm::Sha512);
    hasher.update(bytes.as_bytes());
    let path = format!("/v2/a/manifests/{}", hasher.finish());
    registry.send("PUT", &path, &[("Content-Type", MANIFEST)], bytes.as_bytes()).is(201);
    assert_eq!(registry.ask("GET", &path).is(200).body, bytes.as_bytes());
}
