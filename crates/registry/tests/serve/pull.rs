//! Blobs as they are fetched, and the protocol around them.

use std::io::{Read, Write};

use fluyt_image::Digest;

use crate::support::{Served, noise};

#[test]
fn a_blob_comes_back_whole_and_in_ranges() {
    let registry = Served::new();
    registry.ask("GET", "/v2/").is(200);
    let bytes = noise(1, 300_000);
    let digest = registry.blob("a/b", &bytes);
    let path = format!("/v2/a/b/blobs/{digest}");
    let answer = registry.ask("GET", &path);
    assert_eq!(answer.is(200).body, bytes);
    assert_eq!(answer.header("docker-content-digest"), digest.as_str());
    assert_eq!(answer.header("content-length"), "300000");
    let head = registry.ask("HEAD", &path);
    assert_eq!((head.is(200).header("content-length"), head.body.len()), ("300000", 0));
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=1000-200999", 1000, 200_999),
        ("bytes=299999-", 299_999, 299_999),
        ("bytes=-7", 299_993, 299_999),
        ("bytes=5-9999999", 5, 299_999),
    ] {
        let answer = registry.send("GET", &path, &[("Range", range)], b"");
        assert_eq!(answer.is(206).body, bytes[first..=last], "{range}");
        assert_eq!(answer.header("content-range"), format!("bytes {first}-{last}/300000"));
    }
    let answer = registry.send("GET", &path, &[("Range", "bytes=300000-")], b"");
    assert_eq!(answer.refuses(416, "RANGE_INVALID").header("content-range"), "bytes */300000");
    let etag = registry.ask("HEAD", &path).header("etag").to_owned();
    registry.send("GET", &path, &[("If-None-Match", &etag)], b"").is(304);
    registry.send("GET", &path, &[("If-None-Match", "\"x\"")], b"").is(200);
    let other = [("Range", "bytes=1-2"), ("If-Range", "\"x\"")];
    registry.send("GET", &path, &other, b"").is(200);
}

#[test]
fn what_is_not_there_is_refused_with_its_code() {
    let registry = Served::new();
    let absent = Digest::of(b"absent");
    registry.blob("a", b"here");
    registry.ask("GET", &format!("/v2/a/blobs/{absent}")).refuses(404, "BLOB_UNKNOWN");
    registry.ask("GET", "/v2/a/blobs/sha256:00").refuses(400, "DIGEST_INVALID");
    registry.ask("GET", "/v2/a/blobs/md5:00").refuses(400, "DIGEST_INVALID");
    registry.ask("GET", &format!("/v2/A/blobs/{absent}")).refuses(400, "NAME_INVALID");
    registry.ask("GET", &format!("/v2/a/../b/blobs/{absent}")).refuses(400, "NAME_INVALID");
    registry.ask("DELETE", &format!("/v2/a/blobs/{absent}")).refuses(404, "BLOB_UNKNOWN");
    registry.ask("GET", "/v2/a/manifests/none").refuses(404, "MANIFEST_UNKNOWN");
    registry.ask("GET", "/v2/none/manifests/none").refuses(404, "NAME_UNKNOWN");
    registry.ask("GET", "/v2/a/manifests/-x").refuses(400, "TAG_INVALID");
    registry.ask("PATCH", "/v2/").refuses(405, "UNSUPPORTED");
    registry.ask("GET", "/nowhere").is(404);
    let here = Digest::of(b"here");
    registry.ask("GET", &format!("/v2/b/blobs/{here}")).refuses(404, "BLOB_UNKNOWN");
}

#[test]
fn a_deleted_blob_is_gone_from_its_repository_alone() {
    let registry = Served::new();
    let digest = registry.blob("a", b"shared");
    registry.blob("b", b"shared");
    registry.ask("DELETE", &format!("/v2/a/blobs/{digest}")).is(202);
    registry.ask("HEAD", &format!("/v2/a/blobs/{digest}")).is(404);
    registry.ask("GET", &format!("/v2/b/blobs/{digest}")).is(200);
}

#[test]
fn one_connection_serves_many_requests() {
    let registry = Served::new();
    let digest = registry.blob("a", b"four");
    let mut stream = registry.connect();
    let request = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n");
    // Two at once, then one that is refused and still leaves the connection usable.
    stream.write_all(request.repeat(2).as_bytes()).unwrap();
    let put = "PUT /v2/a/manifests/x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n{{{";
    stream.write_all(put.as_bytes()).unwrap();
    let last = request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    stream.write_all(last.as_bytes()).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let text = String::from_utf8(all).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3, "{text}");
    assert_eq!(text.matches("four").count(), 3);
    assert!(text.contains("MANIFEST_INVALID") && text.ends_with("four"));
}

#[test]
fn broken_requests_end_their_connection_only() {
    let registry = Served::new();
    registry.raw(b"NONSENSE\r\n\r\n").is(400);
    registry.raw(b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n").is(400);
    registry.raw(b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n").is(501);
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    registry.raw(long.as_bytes()).is(431);
    let mut cut = registry.connect();
    cut.write_all(b"GET /v2/ HT").unwrap();
    drop(cut);
    registry.ask("GET", "/v2/").is(200);
}

#[test]
fn a_read_only_registry_refuses_changes() {
    let mut registry = Served::new();
    let digest = registry.blob("a", b"x");
    registry.end();
    let dir = std::mem::replace(&mut registry.dir, tempfile::tempdir().unwrap());
    let registry = Served::on(dir, |options| options.read_only = true);
    registry.ask("GET", &format!("/v2/a/blobs/{digest}")).is(200);
    registry.ask("POST", "/v2/a/blobs/uploads/").refuses(405, "UNSUPPORTED");
    registry.ask("DELETE", &format!("/v2/a/blobs/{digest}")).refuses(405, "UNSUPPORTED");
}
