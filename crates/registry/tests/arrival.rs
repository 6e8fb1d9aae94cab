//! Layers are read while they arrive, and what is read is right however the transfer goes.

mod support;

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fluyt_image::{Blobs, Descriptor, Silent};
use fluyt_model::{Error, Kind, Result};
use fluyt_registry::{Arriving, PullOptions, Registry, Settings};
use support::{Gate, Place, Reply, Seen, Server, as_registry, image, noise, reference};

const BIG: usize = 2 << 20;

/// An image of one layer in a store of its own.
struct Source {
    _place: Place,
    blobs: Blobs,
    image: Descriptor,
    layer: Vec<u8>,
}

impl Source {
    fn new(seed: u64) -> Self {
        Self::sized(seed, BIG)
    }

    fn sized(seed: u64, size: usize) -> Self {
        let place = Place::new();
        let layer = noise(seed, size);
        let image = image(&place.blobs(), "amd64", std::slice::from_ref(&layer));
        Self { blobs: place.store.blobs(), _place: place, image, layer }
    }

    /// A server of it; `alter` may change the answers about the layer: the request, how many came before it, the answer.
    fn served(&self, alter: impl Fn(&Seen, usize, Reply) -> Reply + Send + Sync + 'static) -> Server {
        let (blobs, root) = (self.blobs.clone(), self.image.digest.clone());
        let layer = format!("/blobs/{}", fluyt_image::Digest::of(&self.layer));
        Server::start(move |request, earlier| {
            let reply = as_registry(&blobs, "app", "latest", &root, request);
            if request.target.ends_with(&layer) { alter(request, earlier, reply) } else { reply }
        })
    }
}

fn pull<T>(place: &Place, server: &Server, unpack: impl FnMut(&Arriving<'_>) -> Result<T>) -> Result<T> {
    pull_with(place, place.settings(), server, unpack)
}

fn pull_with<T>(
    place: &Place,
    settings: Settings,
    server: &Server,
    unpack: impl FnMut(&Arriving<'_>) -> Result<T>,
) -> Result<T> {
    let name = reference(&format!("{}/app", server.host));
    Registry::new(settings)
        .pull(&place.blobs(), &name, &PullOptions::default(), &Silent, unpack)
        .map(|(_, out)| out)
}

fn read_all(arriving: &Arriving<'_>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    arriving.open_layer(0)?.read_to_end(&mut bytes).map_err(|e| Error::io("the layer", e))?;
    Ok(bytes)
}

#[test]
fn a_layer_is_read_before_its_download_ends() {
    let source = Source::new(31);
    let gate = Gate::default();
    let held = gate.clone();
    let server = source.served(move |_, _, reply| reply.held(BIG / 2, &held));
    let place = Place::new();
    let got = pull(&place, &server, |arriving| {
        let mut layer = arriving.open_layer(0)?;
        let mut bytes = vec![0; BIG / 2];
        layer.read_exact(&mut bytes).map_err(|e| Error::io("the first half", e))?;
        // The server sends the second half only now.
        gate.open();
        layer.read_to_end(&mut bytes).map_err(|e| Error::io("the second half", e))?;
        Ok(bytes)
    });
    assert!(got.expect("pulled") == source.layer);
}

#[test]
fn a_reader_goes_on_over_a_broken_connection() {
    let source = Source::new(32);
    let server = source.served(|_, earlier, reply| if earlier < 2 { reply.cut(BIG / 4) } else { reply });
    let place = Place::new();
    let calls = AtomicUsize::new(0);
    let got = pull(&place, &server, |arriving| {
        calls.fetch_add(1, Ordering::SeqCst);
        read_all(arriving)
    });
    assert!(got.expect("pulled") == source.layer);
    assert_eq!(calls.into_inner(), 1);
}

#[test]
fn what_was_read_of_a_transfer_that_began_again_does_not_count() {
    // Once half of it and no ranges after that; once all of it, but damaged.
    for damaged in [false, true] {
        let source = Source::new(33);
        let whole = source.layer.clone();
        let server = source.served(move |_, earlier, mut reply| match (earlier, damaged) {
            (0, false) => reply.cut(BIG / 2),
            (0, true) => {
                reply.body[BIG / 3] ^= 1;
                reply
            }
            _ => support::reply(200, whole.clone()),
        });
        let place = Place::new();
        let calls = AtomicUsize::new(0);
        let got = pull(&place, &server, |arriving| {
            calls.fetch_add(1, Ordering::SeqCst);
            read_all(arriving)
        });
        assert!(got.expect("pulled") == source.layer);
        assert!(calls.into_inner() <= 2);
        assert!(place.blobs().has(&fluyt_image::Digest::of(&source.layer)));
    }
}

#[test]
fn a_layer_that_stays_wrong_fails_the_pull_although_all_of_it_was_read() {
    let source = Source::new(34);
    let server = source.served(|_, _, mut reply| {
        reply.body[BIG - 1] ^= 1;
        reply
    });
    let place = Place::new();
    let e = pull(&place, &server, read_all).expect_err("wrong data");
    assert_eq!(e.kind(), Kind::Corrupt, "{}", e.chain());
    assert!(!place.blobs().has(&fluyt_image::Digest::of(&source.layer)));
}

#[test]
fn a_failure_to_unpack_ends_the_download() {
    let source = Source::new(35);
    let gate = Gate::default();
    let held = gate.clone();
    let server = source.served(move |_, _, reply| reply.held(BIG / 2, &held));
    let place = Place::new();
    let e = pull(&place, &server, |arriving| {
        arriving.open_layer(0)?.read_exact(&mut [0; 100]).map_err(|e| Error::io("the layer", e))?;
        gate.open();
        Err::<(), _>(Error::invalid("no archive"))
    });
    let e = e.expect_err("it is not unpacked");
    assert!(e.chain().contains("no archive"), "{}", e.chain());
}

/// More than three segments beyond what the first connection brings before others begin.
const HUGE: usize = 18 << 20;

/// Splits at once.
fn hasty(place: &Place) -> Settings {
    Settings { split_from: 1 << 20, split_after: Duration::ZERO, connections: 3, ..place.settings() }
}

#[test]
fn a_large_blob_comes_over_several_connections_where_one_is_slow() {
    let source = Source::sized(36, HUGE);
    let gate = Gate::default();
    let (held, parts) = (gate.clone(), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&parts);
    let server = source.served(move |request, _, reply| {
        if request.header("range").is_empty() {
            // The first connection stands still until others work.
            return reply.held(1 << 20, &held);
        }
        // One of the others breaks once.
        let number = seen.fetch_add(1, Ordering::SeqCst);
        if number >= 4 {
            // Somebody has come to a second segment, so a first one is complete.
            held.open();
        }
        if number == 1 { reply.cut(1 << 20) } else { reply }
    });
    let place = Place::new();
    let got = pull_with(&place, hasty(&place), &server, read_all);
    assert!(got.expect("pulled") == source.layer);
    assert!(parts.load(Ordering::SeqCst) >= 5);
    assert!(gate.wait());
}

#[test]
fn a_server_that_only_says_it_has_ranges_serves_over_one_connection() {
    let source = Source::sized(37, HUGE);
    let whole = source.layer.clone();
    let server =
        source.served(move |_, _, _| support::reply(200, whole.clone()).with("accept-ranges", "bytes"));
    let place = Place::new();
    let got = pull_with(&place, hasty(&place), &server, read_all);
    assert!(got.expect("pulled") == source.layer);
}

#[test]
fn a_segment_that_stays_missing_is_fetched_over_one_connection() {
    let source = Source::sized(38, HUGE);
    let server = source.served(move |request, _, reply| {
        let range = request.header("range");
        let segment = range.strip_prefix("bytes=").is_some_and(|r| !r.ends_with('-'));
        // Some are given, so that the first connection stops, then none.
        if segment && !range.starts_with("bytes=4") { support::reply(503, "busy") } else { reply }
    });
    let place = Place::new();
    let settings = Settings { attempts: 2, ..hasty(&place) };
    let got = pull_with(&place, settings, &server, read_all);
    assert!(got.expect("pulled") == source.layer);
}

#[test]
fn whoever_waits_for_a_blob_takes_over_when_the_other_dies() {
    let source = Source::new(39);
    let server = source.served(|_, _, reply| reply);
    let place = Place::new();
    let digest = fluyt_image::Digest::of(&source.layer);
    // Another process has the first half and is at work.
    let blobs = place.blobs();
    let mut other = blobs.ingest(Some(&digest), Some(BIG as u64), digest.as_str()).expect("an ingest");
    std::io::Write::write_all(&mut other, &source.layer[..BIG / 2]).expect("written");
    std::thread::scope(|scope| {
        let (root, server) = (place.store.root().to_owned(), &server);
        let waiting = scope.spawn(move || pull(&place_at(&root), server, read_all));
        // It has asked for all that comes before the layer.
        let began = std::time::Instant::now();
        while server.count("/blobs/") == 0 && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(server.count(digest.as_str()), 0, "it waits");
        // A killed process leaves its part and loses its lock.
        other.keep();
        drop(other);
        assert!(waiting.join().expect("no panic").expect("pulled") == source.layer);
    });
    let ranges: Vec<String> = server
        .seen()
        .iter()
        .filter(|s| s.target.ends_with(digest.as_str()))
        .map(|s| s.header("range").to_owned())
        .collect();
    assert_eq!(ranges, [format!("bytes={}-", BIG / 2)], "it went on where the other had stopped");
}

/// The same store as another process sees it.
fn place_at(root: &std::path::Path) -> Place {
    let store = fluyt_image::Store::open(root).expect("a store");
    let lease = store.lease().expect("a lease");
    Place { dir: tempfile::tempdir().expect("a directory"), store, lease }
}
