//! Uploads in every form, cut and resumed.

use std::io::Write;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use fluyt_image::Digest;
use fluyt_image::digest::{Algorithm, Hasher};

use crate::support::{Served, noise};

fn get(registry: &Served, repository: &str, digest: &Digest) -> Vec<u8> {
    let answer = registry.ask("GET", &format!("/v2/{repository}/blobs/{digest}"));
    answer.is(200);
    answer.body
}

#[test]
fn in_one_put_behind_a_post() {
    let registry = Served::new();
    let (bytes, location) = (noise(1, 100_000), registry.upload("a"));
    let digest = Digest::of(&bytes);
    let answer = registry.send("PUT", &format!("{location}?digest={digest}"), &[], &bytes);
    assert_eq!(answer.is(201).header("location"), format!("/v2/a/blobs/{digest}"));
    assert_eq!(get(&registry, "a", &digest), bytes);
    registry.ask("GET", &location).refuses(404, "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn in_chunks_that_have_to_follow_each_other() {
    let registry = Served::new();
    let (bytes, location) = (noise(2, 3000), registry.upload("a"));
    let chunk =
        |range: &str, part: &[u8]| registry.send("PATCH", &location, &[("Content-Range", range)], part);
    assert_eq!(chunk("0-999", &bytes[..1000]).is(202).header("range"), "0-999");
    let refused = chunk("2000-2999", &bytes[2000..]);
    assert_eq!(refused.is(416).header("range"), "0-999");
    chunk("500-1499", &bytes[500..1500]).is(416);
    chunk("1000-1998", &bytes[1000..2000]).refuses(400, "SIZE_INVALID");
    chunk("nonsense", &bytes[1000..2000]).refuses(400, "BLOB_UPLOAD_INVALID");
    assert_eq!(registry.ask("GET", &location).is(204).header("range"), "0-999");
    assert_eq!(chunk("1000-1999", &bytes[1000..2000]).is(202).header("range"), "0-1999");
    let digest = Digest::of(&bytes);
    let last = format!("{location}?digest={digest}");
    registry.send("PUT", &last, &[("Content-Range", "2000-2999")], &bytes[2000..]).is(201);
    assert_eq!(get(&registry, "a", &digest), bytes);
}

#[test]
fn as_a_stream_of_unknown_length() {
    let registry = Served::new();
    let (bytes, location) = (noise(3, 70_000), registry.upload("a"));
    let mut request = format!(
        "PATCH {location} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    .into_bytes();
    for part in bytes.chunks(9999) {
        request.extend_from_slice(format!("{:x};ext=1\r\n", part.len()).as_bytes());
        request.extend_from_slice(part);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\nTrailer: x\r\n\r\n");
    assert_eq!(registry.raw(&request).is(202).header("range"), "0-69999");
    let digest = Digest::of(&bytes);
    registry.ask("PUT", &format!("{location}?digest={digest}")).is(201);
    assert_eq!(get(&registry, "a", &digest), bytes);
}

#[test]
fn a_wrong_digest_ends_the_upload_and_leaves_nothing() {
    let registry = Served::new();
    let wrong = Digest::of(b"other");
    let location = registry.upload("a");
    registry.send("PUT", &format!("{location}?digest={wrong}"), &[], b"bytes").refuses(400, "DIGEST_INVALID");
    registry.ask("GET", &location).is(404);
    registry
        .send("POST", &format!("/v2/a/blobs/uploads/?digest={wrong}"), &[], b"bytes")
        .refuses(400, "DIGEST_INVALID");
    let location = registry.upload("a");
    registry.send("PUT", &location, &[], b"bytes").refuses(400, "DIGEST_INVALID");
    registry.ask("HEAD", &format!("/v2/a/blobs/{wrong}")).is(404);
    registry.ask("DELETE", &location).is(204);
    registry.ask("DELETE", &location).refuses(404, "BLOB_UPLOAD_UNKNOWN");
    let ingest = registry.root().join("ingest");
    assert_eq!(std::fs::read_dir(ingest).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn other_algorithms_are_computed() {
    let registry = Served::new();
    let bytes = noise(4, 5000);
    let mut hasher = Hasher::new(Algorithm::Sha512);
    hasher.update(&bytes);
    let digest = hasher.finish();
    // Announced, and not.
    for begin in ["/v2/a/blobs/uploads/?digest-algorithm=sha512", "/v2/b/blobs/uploads/"] {
        let location = registry.ask("POST", begin).is(202).header("location").to_owned();
        registry.send("PATCH", &location, &[], &bytes).is(202);
        registry.ask("PUT", &format!("{location}?digest={digest}")).is(201);
    }
    assert_eq!(get(&registry, "b", &digest), bytes);
    registry.ask("POST", "/v2/a/blobs/uploads/?digest-algorithm=md5").refuses(400, "DIGEST_INVALID");
    let empty = Digest::of(b"");
    registry.send("POST", &format!("/v2/a/blobs/uploads/?digest={empty}"), &[], b"").is(201);
    assert_eq!(get(&registry, "a", &empty), b"");
}

#[test]
fn an_upload_cut_at_any_byte_goes_on_where_it_was_cut() {
    let registry = Served::new();
    let bytes = noise(5, 50_000);
    let digest = Digest::of(&bytes);
    // Not 1: an upload of nothing and one of a single byte both answer `0-0`, so the test could not tell when the byte is in.
    for cut in [0, 2, 4095, 8192, 8193, 40_000, 49_999] {
        let location = registry.upload("a");
        let mut stream = registry.connect();
        let head = format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&bytes[..cut]).unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
        drop(stream);
        let until = Instant::now() + Duration::from_secs(10);
        let expected = format!("0-{}", cut.saturating_sub(1));
        while registry.ask("GET", &location).is(204).header("range") != expected {
            assert!(Instant::now() < until, "{cut}: {:?}", registry.ask("GET", &location));
            std::thread::sleep(Duration::from_millis(5));
        }
        let range = format!("{cut}-49999");
        registry.send("PATCH", &location, &[("Content-Range", &range)], &bytes[cut..]).is(202);
        registry.ask("PUT", &format!("{location}?digest={digest}")).is(201);
        assert_eq!(get(&registry, "a", &digest), bytes);
        registry.ask("DELETE", &format!("/v2/a/blobs/{digest}")).is(202);
    }
}

#[test]
fn an_upload_survives_the_registry() {
    let registry = Served::new();
    let bytes = noise(6, 9000);
    let location = registry.upload("a");
    registry.send("PATCH", &location, &[], &bytes[..4000]).is(202);
    let registry = registry.restarted();
    assert_eq!(registry.ask("GET", &location).is(204).header("range"), "0-3999");
    let digest = Digest::of(&bytes);
    registry.send("PUT", &format!("{location}?digest={digest}"), &[], &bytes[4000..]).is(201);
    assert_eq!(get(&registry, "a", &digest), bytes);
}

#[test]
fn an_upload_belongs_to_its_repository() {
    let registry = Served::new();
    let location = registry.upload("a");
    let elsewhere = location.replace("/v2/a/", "/v2/b/");
    registry.ask("GET", &elsewhere).refuses(404, "BLOB_UPLOAD_UNKNOWN");
    registry.ask("GET", &location).is(204);
    registry.ask("GET", &elsewhere).refuses(404, "BLOB_UPLOAD_UNKNOWN");
    registry.ask("GET", "/v2/a/blobs/uploads/../../x").is(404);
}

#[test]
fn a_mount_makes_a_blob_of_another_repository_ones_own() {
    let registry = Served::new();
    let digest = registry.blob("from", b"mounted");
    let mount = |path: &str| registry.ask("POST", &format!("/v2/{path}"));
    let answer = mount(&format!("to/blobs/uploads/?mount={digest}&from=from"));
    assert_eq!(answer.is(201).header("location"), format!("/v2/to/blobs/{digest}"));
    assert_eq!(get(&registry, "to", &digest), b"mounted");
    mount(&format!("any/blobs/uploads/?mount={digest}")).is(201);
    mount(&format!("x/blobs/uploads/?mount={digest}&from=elsewhere")).is(202);
    let absent = Digest::of(b"absent");
    mount(&format!("x/blobs/uploads/?mount={absent}&from=from")).is(202);
    mount("x/blobs/uploads/?mount=nonsense&from=from").refuses(400, "DIGEST_INVALID");
}

#[test]
fn many_may_push_the_same_blob_at_once() {
    let registry = Served::new();
    let bytes = noise(7, 200_000);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (registry, bytes) = (&registry, &bytes);
            scope.spawn(move || registry.blob(&format!("r{}", n % 3), bytes));
        }
    });
    assert_eq!(get(&registry, "r0", &Digest::of(&bytes)), bytes);
}
