//! https: whom to trust, whom to be. Needs Debian's registry, openssl, and a name for 127.0.0.1 in /etc/hosts that
//! is not `localhost` (to which certificates do not matter).

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use fluyt_image::Silent;
use fluyt_model::{Kind, Result};
use fluyt_registry::{PullOptions, Pulled, PushOptions, Registry, Settings};
use support::{Distribution, Place, image, noise, reference};

/// A name of this machine's that resolves to 127.0.0.1.
fn name() -> Option<String> {
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let names =
        hosts.lines().filter_map(|l| l.trim().strip_prefix("127.0.0.1")).flat_map(str::split_whitespace);
    let mut usable = names.filter(|n| *n != "localhost" && !n.contains('_'));
    let found = usable.next().map(str::to_owned);
    if found.is_none() {
        eprintln!("skipped: /etc/hosts has no further name for 127.0.0.1");
    }
    found
}

fn openssl(dir: &Path, line: &str) -> bool {
    let status = Command::new("openssl")
        .args(line.split(' '))
        .current_dir(dir)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|s| s.success())
}

/// `ca.crt`, and `server` and `client` with `.crt` and `.key`; false without openssl.
fn make_certificates(dir: &Path, name: &str) -> bool {
    const NEW: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    std::fs::write(dir.join("ext"), format!("subjectAltName=DNS:{name}\n")).expect("written");
    let sign = "-CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext";
    openssl(dir, &format!("req -x509 {NEW} -keyout ca.key -out ca.crt -subj /CN=ca -days 2"))
        && ["server", "client"].iter().all(|who| {
            openssl(dir, &format!("req {NEW} -keyout {who}.key -out {who}.csr -subj /CN={who}"))
                && openssl(dir, &format!("x509 -req -in {who}.csr {sign} -out {who}.crt"))
        })
}

/// A registry on https and a directory with the certificates; `client` if it wants one of those too.
fn start(client: bool) -> Option<(Distribution, tempfile::TempDir)> {
    let name = name()?;
    let files = tempfile::tempdir().expect("a directory");
    if !make_certificates(files.path(), &name) {
        eprintln!("skipped: openssl makes no certificates");
        return None;
    }
    let path = |file: &str| files.path().join(file).display().to_string();
    let mut tls =
        format!("  tls:\n    certificate: {}\n    key: {}\n", path("server.crt"), path("server.key"));
    if client {
        tls.push_str(&format!("    clientcas:\n      - {}\n", path("ca.crt")));
    }
    let dir = tempfile::tempdir().expect("a directory");
    Some((Distribution::start_in(dir, &name, &tls, "")?, files))
}

fn round_trip(place: &Place, settings: &Settings, host: &str) -> Result<Pulled> {
    let one = image(&place.blobs(), "amd64", &[noise(1, 1000)]);
    let name = reference(&format!("{host}/app"));
    let registry = Registry::new(settings.clone());
    registry.push(&place.blobs(), &one.digest, &name, &PushOptions::default(), &Silent)?;
    let there = Place::new();
    Ok(registry.pull(&there.blobs(), &name, &PullOptions::default(), &Silent, |_| Ok(()))?.0)
}

#[test]
fn a_certificate_has_to_be_trusted() {
    let Some((server, files)) = start(false) else { return };
    let place = Place::new();
    let plain = place.settings();
    let e = round_trip(&place, &plain, &server.host).expect_err("unknown authority");
    assert_eq!(e.kind(), Kind::Unavailable);
    let hint = e.hint().unwrap_or_default();
    assert!(hint.contains("certs.d") && hint.contains("insecure-registries"), "{}: {hint}", e.chain());

    let certs = place.dir.path().join("certs.d");
    let own = certs.join(&server.host);
    std::fs::create_dir_all(&own).expect("made");
    std::fs::copy(files.path().join("ca.crt"), own.join("ca.crt")).expect("copied");
    let trusting = Settings { certificate_dirs: vec![certs], ..plain.clone() };
    round_trip(&place, &trusting, &server.host).expect("the authority is known");

    let system = Settings { system_authorities: vec![files.path().join("ca.crt")], ..plain.clone() };
    round_trip(&place, &system, &server.host).expect("the system knows the authority");

    let insecure = Settings { insecure: vec![server.host.clone()], ..plain.clone() };
    round_trip(&place, &insecure, &server.host).expect("nothing is verified");

    let port = server.host.split_once(':').expect("a port").1;
    round_trip(&place, &plain, &format!("127.0.0.1:{port}")).expect("loopback is insecure, https too");
}

#[test]
fn a_client_certificate_is_presented() {
    let Some((server, files)) = start(true) else { return };
    let place = Place::new();
    let certs = place.dir.path().join("certs.d");
    let own = certs.join(&server.host);
    std::fs::create_dir_all(&own).expect("made");
    std::fs::copy(files.path().join("ca.crt"), own.join("ca.crt")).expect("copied");
    let settings = Settings { certificate_dirs: vec![certs], ..place.settings() };
    let e = round_trip(&place, &settings, &server.host).expect_err("no client certificate");
    assert!(e.chain().contains(&server.host), "{}", e.chain());
    std::fs::copy(files.path().join("client.crt"), own.join("client.cert")).expect("copied");
    let e = round_trip(&place, &settings, &server.host).expect_err("no key");
    assert!(e.to_string().contains("client.key is missing"), "{e}");
    std::fs::copy(files.path().join("client.key"), own.join("client.key")).expect("copied");
    round_trip(&place, &settings, &server.host).expect("the client is known");
}

#[test]
fn plain_http_needs_consent() {
    let Some(name) = name() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let Some(server) = Distribution::start_in(dir, &name, "", "") else { return };
    let place = Place::new();
    let e = round_trip(&place, &place.settings(), &server.host).expect_err("not https");
    assert!(e.hint().is_some_and(|h| h.contains("insecure-registries")), "{}: {:?}", e.chain(), e.hint());
    let insecure = Settings { insecure: vec![server.host.clone()], ..place.settings() };
    round_trip(&place, &insecure, &server.host).expect("http is allowed");
}
