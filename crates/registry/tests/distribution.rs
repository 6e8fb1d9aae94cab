//! Against a real registry, when Debian's is installed.

mod support;

use std::io::Read;

use fluyt_image::{Digest, Platform, Silent};
use fluyt_model::Kind;
use fluyt_registry::{Arriving, Credentials, PullOptions, PushOptions, Registry};
use support::{Distribution, Place, image, index, noise, reference};

fn read_all(arriving: &Arriving<'_>) -> fluyt_model::Result<Vec<Vec<u8>>> {
    (0..arriving.manifest.layers.len())
        .map(|i| {
            let mut bytes = Vec::new();
            arriving.open_layer(i)?.read_to_end(&mut bytes).expect("read");
            Ok(bytes)
        })
        .collect()
}

#[test]
fn an_index_goes_there_and_comes_back() {
    let Some(server) = Distribution::start(false) else { return };
    let here = Place::new();
    let layers = vec![noise(1, 3 << 20), noise(2, 1), noise(3, 100_000), noise(3, 100_000)];
    let amd = image(&here.blobs(), "amd64", &layers);
    let arm = image(&here.blobs(), "arm64", &[noise(4, 10)]);
    let both = index(&here.blobs(), &[arm.clone(), amd.clone()]);
    let registry = Registry::new(here.settings());
    let name = reference(&format!("{}/team/app:v1", server.host));
    let pushed =
        registry.push(&here.blobs(), &both.digest, &name, &PushOptions::default(), &Silent).expect("pushed");
    assert_eq!(pushed.line(), format!("v1: digest: {} size: {}", both.digest, both.size));
    assert_eq!(registry.tags(&name).expect("tags"), ["v1"]);
    assert_eq!(registry.resolve(&name).expect("resolved"), Some(both.digest.clone()));

    let there = Place::new();
    let platform = Platform::parse("linux/amd64").expect("a platform");
    let options = PullOptions { platform: Some(platform), ..PullOptions::default() };
    let (pulled, got) = Registry::new(there.settings())
        .pull(&there.blobs(), &name, &options, &Silent, read_all)
        .expect("pulled");
    assert_eq!(
        (pulled.target.digest.clone(), pulled.manifest.digest.clone()),
        (both.digest.clone(), amd.digest)
    );
    assert!(got == layers, "the layers are the same");
    assert_eq!(
        pulled.status_line(),
        format!("Status: Downloaded newer image for {}/team/app:v1", server.host)
    );
    assert_eq!(pulled.digest_line(), format!("Digest: {}", both.digest));

    let again = PullOptions { known: Some(both.digest.clone()), ..options };
    let (pulled, _) = Registry::new(there.settings())
        .pull(&there.blobs(), &name, &again, &Silent, read_all)
        .expect("pulled");
    assert!(pulled.up_to_date && pulled.status_line().contains("Image is up to date for"));

    let by_digest = name.with_digest(arm.digest.as_str()).expect("a digest");
    let (pulled, _) = registry
        .pull(&there.blobs(), &by_digest, &PullOptions::default(), &Silent, read_all)
        .expect("a single image of another platform is pulled by default");
    assert_eq!(pulled.config.architecture, "arm64");
    let wrong = PullOptions { platform: Platform::parse("linux/s390x").ok(), ..PullOptions::default() };
    let e = registry.pull(&there.blobs(), &name, &wrong, &Silent, read_all).expect_err("no such platform");
    assert_eq!(e.kind(), Kind::NotFound);
    assert!(e.hint().is_some_and(|h| h.contains("linux/amd64")), "{:?}", e.hint());
    let e = registry.pull(&there.blobs(), &by_digest, &wrong, &Silent, read_all).expect_err("wrong platform");
    assert!(e.to_string().contains("linux/arm64"), "{e}");
}

#[test]
fn unknown_names_and_tags_are_named() {
    let Some(server) = Distribution::start(false) else { return };
    let here = Place::new();
    let registry = Registry::new(here.settings());
    let name = reference(&format!("{}/nobody/nothing:1", server.host));
    let e =
        registry.pull(&here.blobs(), &name, &PullOptions::default(), &Silent, read_all).expect_err("unknown");
    assert_eq!(e.kind(), Kind::NotFound);
    assert!(
        e.chain().contains("nobody/nothing:1 not found") && e.chain().contains("manifest unknown"),
        "{}",
        e.chain()
    );
    assert_eq!(registry.tags(&name).expect_err("unknown").kind(), Kind::NotFound);
}

#[test]
fn blobs_are_mounted_from_another_repository() {
    let Some(server) = Distribution::start(false) else { return };
    let here = Place::new();
    let layer = noise(7, 50_000);
    let one = image(&here.blobs(), "amd64", std::slice::from_ref(&layer));
    let registry = Registry::new(here.settings());
    let to = |name: &str| reference(&format!("{}/{name}", server.host));
    registry.push(&here.blobs(), &one.digest, &to("a"), &PushOptions::default(), &Silent).expect("pushed");
    // Without the layer here, only a mount can make it be there.
    std::fs::remove_file(here.blobs().path(&Digest::of(&layer))).expect("removed");
    let nowhere = registry.push(&here.blobs(), &one.digest, &to("b"), &PushOptions::default(), &Silent);
    assert_eq!(nowhere.expect_err("no layer").kind(), Kind::NotFound);
    let options = PushOptions { mount_from: vec!["missing".into(), "a".into()], ..PushOptions::default() };
    let pushed = registry.push(&here.blobs(), &one.digest, &to("b"), &options, &Silent).expect("mounted");
    assert_eq!(pushed.target.digest, one.digest);
}

#[test]
fn a_password_is_verified_kept_used_and_forgotten() {
    let Some(server) = Distribution::start(true) else { return };
    let here = Place::new();
    let one = image(&here.blobs(), "amd64", &[noise(9, 1000)]);
    let name = reference(&format!("{}/private", server.host));
    let push = |registry: &Registry| {
        registry.push(&here.blobs(), &one.digest, &name, &PushOptions::default(), &Silent)
    };
    let e = push(&Registry::new(here.settings())).expect_err("anonymous");
    assert_eq!(e.kind(), Kind::Unauthorized);
    assert!(e.hint().is_some_and(|h| h.contains(&format!("fluyt login {}", server.host))));
    let password = |p: &str| Credentials::Password { username: "alice".into(), password: p.into() };
    let registry = Registry::new(here.settings());
    let e = registry.login(&server.host, &password("wrong")).expect_err("a wrong password");
    assert_eq!(e.kind(), Kind::Unauthorized);
    assert!(!here.dir.path().join("config.json").exists());
    let done = registry.login(&format!("http://{}/", server.host), &password("secret")).expect("logged in");
    assert!(done.warning.is_some_and(|w| w.contains("config.json")));
    push(&Registry::new(here.settings())).expect("the kept credentials are used");
    assert!(registry.logout(&server.host).expect("logged out"));
    assert!(!registry.logout(&server.host).expect("nothing to do"));
    assert_eq!(push(&Registry::new(here.settings())).expect_err("anonymous").kind(), Kind::Unauthorized);
}

#[test]
fn layers_without_compression_are_pushed_as_gzip() {
    let Some(server) = Distribution::start(false) else { return };
    let here = Place::new();
    let layer = vec![b'a'; 1 << 20];
    let one = image(&here.blobs(), "amd64", std::slice::from_ref(&layer));
    let bytes = here.blobs().read_small(&one.digest, 1 << 20).expect("read");
    let plain = String::from_utf8(bytes).expect("text").replace(".tar+gzip", ".tar");
    let plain = here.blobs().put_bytes(plain.as_bytes()).expect("stored");
    let registry = Registry::new(here.settings());
    let name = reference(&format!("{}/plain", server.host));
    let push = |digest| registry.push(&here.blobs(), digest, &name, &PushOptions::default(), &Silent);
    let pushed = push(&plain).expect("pushed");
    assert_ne!(pushed.target.digest, plain);
    assert_eq!(push(&plain).expect("pushed again").target, pushed.target, "the same each time");
    let there = Place::new();
    let (pulled, got) = Registry::new(there.settings())
        .pull(&there.blobs(), &name, &PullOptions::default(), &Silent, read_all)
        .expect("pulled");
    assert_eq!(pulled.target.digest, pushed.target.digest);
    assert!(pulled.document.layers[0].media_type.ends_with("+gzip") && got[0].len() < 10_000);
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&got[0][..]).read_to_end(&mut unpacked).expect("gzip");
    assert!(unpacked == layer);
    let by_digest = name.with_digest(plain.as_str()).expect("a digest");
    let kept =
        registry.push(&here.blobs(), &plain, &by_digest, &PushOptions::default(), &Silent).expect("pushed");
    assert_eq!(kept.target.digest, plain, "by digest nothing is changed");
}
