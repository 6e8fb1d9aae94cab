//! Mirrors of `registries.conf` and `hosts.toml`, and policies: with servers of the tests' own that serve one image.

mod support;

use std::path::Path;
use std::sync::Arc;

use fluyt_image::{Blobs, Descriptor, Digest, Silent};
use fluyt_model::{Kind, Result};
use fluyt_registry::{PullOptions, Pulled, Registry, Settings, SignatureMode};
use fluyt_trust::{Payload, Policy, PrivateKey, Signature};
use support::{Distribution, Place, Server, as_registry, image, noise, reference, reply};

/// A server that has the image as `repository`, and the store it is in.
fn serving(repository: &'static str) -> (Server, Place, Descriptor) {
    let source = Place::new();
    let one = image(&source.blobs(), "amd64", &[noise(1, 1000)]);
    let (blobs, root): (Blobs, Digest) = (source.blobs(), one.digest.clone());
    let server = Server::start(move |request, _| as_registry(&blobs, repository, "1", &root, request));
    (server, source, one)
}

/// A server that is a registry and has nothing.
fn empty() -> Server {
    Server::start(|request, _| if request.target == "/v2/" { reply(200, "{}") } else { reply(404, "") })
}

fn pull(place: &Place, settings: &Settings, name: &str) -> Result<Pulled> {
    let registry = Registry::new(settings.clone());
    Ok(registry.pull(&place.blobs(), &reference(name), &PullOptions::default(), &Silent, |_| Ok(()))?.0)
}

fn with_conf(place: &Place, text: &str) -> Settings {
    let path = place.dir.path().join("registries.conf");
    std::fs::write(&path, text).expect("written");
    let mut settings = place.settings();
    settings.read_registries_conf(&|_| Some(path.clone().into_os_string())).expect("read");
    settings
}

#[test]
fn mirrors_of_registries_conf_are_asked_in_their_order_under_their_names() {
    let ((good, _source, one), bad) = (serving("hub/team/app"), empty());
    let place = Place::new();
    let settings = with_conf(
        &place,
        &format!(
            "[[registry]]\nprefix = 'reg.invalid/team'\nlocation = 'reg.invalid/team'\n\
             [[registry.mirror]]\nlocation = '{}/other'\n\
             [[registry.mirror]]\nlocation = '{}/never'\npull-from-mirror = 'digest-only'\n\
             [[registry.mirror]]\nlocation = '{}/hub/team'\n",
            bad.host, bad.host, good.host
        ),
    );
    let pulled = pull(&place, &settings, "reg.invalid/team/app:1").expect("pulled");
    assert_eq!(
        (pulled.reference.to_string().as_str(), &pulled.target.digest),
        ("reg.invalid/team/app:1", &one.digest)
    );
    assert_eq!((bad.count("/v2/other/app/manifests"), bad.count("never")), (1, 0));
    let by_digest = format!("reg.invalid/team/app@{}", one.digest);
    let again = Place::new();
    pull(&again, &settings, &by_digest).expect("pulled");
    assert_eq!(bad.count("/v2/never/app/manifests"), 1);
}

#[test]
fn a_location_replaces_a_prefix_and_a_blocked_one_is_refused() {
    let (good, _source, _) = serving("real/app");
    let place = Place::new();
    let text = format!(
        "[[registry]]\nprefix = 'reg.invalid'\nlocation = '{}/real'\n[[registry]]\nlocation = 'bad.invalid'\nblocked = true\n",
        good.host
    );
    let settings = with_conf(&place, &text);
    pull(&place, &settings, "reg.invalid/app:1").expect("pulled");
    let e = pull(&place, &settings, "bad.invalid/app:1").expect_err("blocked");
    assert!(e.kind() == Kind::PermissionDenied && e.to_string().contains("blocks"), "{e}");
}

#[test]
fn hosts_toml_names_mirrors_headers_and_paths() {
    let source = Place::new();
    let one = image(&source.blobs(), "amd64", &[noise(2, 1000)]);
    let (blobs, root) = (source.blobs(), one.digest.clone());
    let good = Server::start(move |request, _| {
        if request.header("x-key") != "open" {
            return reply(403, "");
        }
        let inner = request.target.replacen("/v2/cache", "/v2", 1);
        as_registry(&blobs, "app", "1", &root, &support::Seen { target: inner, ..request.clone() })
    });
    let resolver = empty();
    let place = Place::new();
    let dir = place.dir.path().join("hosts/reg.invalid");
    std::fs::create_dir_all(&dir).expect("a directory");
    let text = format!(
        "server = 'https://reg.invalid'\n\
         [host.'http://{}/only/content']\ncapabilities = ['pull']\n\
         [host.'http://{}/v2/cache']\noverride_path = true\ncapabilities = ['pull', 'resolve']\n\
         [host.'http://{}/v2/cache'.header]\nx-key = 'open'\n",
        resolver.host, good.host, good.host
    );
    std::fs::write(dir.join("hosts.toml"), text).expect("written");
    let settings = Settings { certificate_dirs: vec![place.dir.path().join("hosts")], ..place.settings() };
    let pulled = pull(&place, &settings, "reg.invalid/app:1").expect("pulled");
    assert_eq!(pulled.target.digest, one.digest);
    assert_eq!(resolver.seen().len(), 0, "what gives content only is not asked what a tag means");
    assert!(good.count("/v2/cache/app/manifests/1") > 0);
}

#[test]
fn the_server_of_hosts_toml_stands_for_the_registry() {
    let (good, _source, one) = serving("app");
    let place = Place::new();
    let dir = place.dir.path().join("hosts/reg.invalid");
    std::fs::create_dir_all(&dir).expect("a directory");
    std::fs::write(dir.join("hosts.toml"), format!("server = 'http://{}'\n", good.host)).expect("written");
    let settings = Settings { certificate_dirs: vec![place.dir.path().join("hosts")], ..place.settings() };
    assert_eq!(pull(&place, &settings, "reg.invalid/app:1").expect("pulled").target.digest, one.digest);
}

/// A policy that wants a signature of this key for everything.
fn wanting(key: &PrivateKey, dir: &Path) -> Arc<Policy> {
    let path = dir.join("key.pub");
    std::fs::write(&path, key.public().to_pem()).expect("written");
    let text = format!(
        r#"{{"default":[{{"type":"sigstoreSigned","keyPath":"{}","signedIdentity":{{"type":"matchRepository"}}}}]}}"#,
        path.display()
    );
    Arc::new(Policy::parse(&text, Path::new("/policy.json")).expect("a policy"))
}

#[test]
fn a_policy_lets_only_signed_images_in() {
    let Some(server) = Distribution::start(false) else { return };
    let here = Place::new();
    let (good, other) = (PrivateKey::generate().expect("a key"), PrivateKey::generate().expect("a key"));
    let one = image(&here.blobs(), "amd64", &[noise(3, 1000)]);
    let two = image(&here.blobs(), "arm64", &[noise(4, 1000)]);
    let both = support::index(&here.blobs(), &[one.clone(), two]);
    let plain = Registry::new(here.settings());
    for (name, digest) in [("app:1", &one.digest), ("multi:1", &both.digest)] {
        let name = reference(&format!("{}/{name}", server.host));
        plain.push(&here.blobs(), digest, &name, &Default::default(), &Silent).expect("pushed");
    }
    let strict = Settings { policy: Some(wanting(&good, here.dir.path())), ..here.settings() };
    let name = format!("{}/app:1", server.host);
    let repository = reference(&name);
    let there = Place::new();
    let e = pull(&there, &strict, &name).expect_err("not signed");
    assert!(e.kind() == Kind::PermissionDenied && e.to_string().contains("there is none"), "{e}");
    let sign = |key: &PrivateKey, repository: &str, digest: &Digest| {
        let payload = Payload {
            reference: format!("{}/{repository}", server.host),
            digest: digest.to_string(),
            annotations: Default::default(),
        };
        Signature::make(key, &payload).expect("signed")
    };
    let attach = |repository: &str, subject: &Descriptor, signature: &Signature, mode| {
        let name = reference(&format!("{}/{repository}:1", server.host));
        plain.attach_signature(&name, subject, signature, mode).expect("attached");
    };
    attach("app", &one, &sign(&other, "app", &one.digest), SignatureMode::Tag);
    let e = pull(&there, &strict, &name).expect_err("signed by another");
    assert!(e.to_string().contains("of another key"), "{e}");
    let signature = sign(&good, "app", &one.digest);
    attach("app", &one, &signature, SignatureMode::Tag);
    attach("app", &one, &signature, SignatureMode::Tag);
    assert_eq!(plain.signatures(&repository, &one.digest).expect("listed").len(), 2, "added once");
    let pulled = pull(&there, &strict, &name).expect("signed");
    assert!(pulled.signatures.contains(&signature));
    // An index that is signed vouches for the images in it.
    let multi = format!("{}/multi:1", server.host);
    assert!(pull(&there, &strict, &multi).is_err());
    attach("multi", &both, &sign(&good, "multi", &both.digest), SignatureMode::Referrers);
    pull(&there, &strict, &multi).expect("its index is signed, in the fallback's index of referrers");
}
