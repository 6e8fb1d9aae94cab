//! Registries that refuse, stall, lie and break off.

mod support;

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fluyt_image::{Blobs, Descriptor, Outcome, Progress, Silent};
use fluyt_model::{Error, Kind, Result};
use fluyt_registry::{Arriving, Credentials, PullOptions, Pulled, PushOptions, Registry, Settings};
use support::{Place, Reply, Seen, Server, as_registry, image, noise, reference, reply};

const BIG: usize = 2 << 20;

/// An image with one small and one big layer, and where it is.
struct Source {
    place: Place,
    image: Descriptor,
    layers: Vec<Vec<u8>>,
}

impl Source {
    fn new() -> Self {
        let place = Place::new();
        let layers = vec![noise(11, 100), noise(12, BIG)];
        let image = image(&place.blobs(), "amd64", &layers);
        Self { place, image, layers }
    }
}

/// What a server thread may use of a source.
#[derive(Clone)]
struct Served {
    blobs: Blobs,
    root: Descriptor,
}

impl Served {
    fn of(source: &Source) -> Self {
        Self { blobs: source.place.store.blobs(), root: source.image.clone() }
    }

    fn answer(&self, request: &Seen) -> Reply {
        as_registry(&self.blobs, "app", "latest", &self.root.digest, request)
    }
}

fn is_big(request: &Seen, source: &Served) -> bool {
    request
        .target
        .rsplit_once("/blobs/")
        .and_then(|(_, d)| source.blobs.size(&d.parse().ok()?).ok())
        .is_some_and(|n| n == BIG as u64)
}

fn pull_with(place: &Place, settings: Settings, host: &str) -> Result<(Pulled, Vec<Vec<u8>>)> {
    let name = reference(&format!("{host}/app"));
    Registry::new(settings).pull(&place.blobs(), &name, &PullOptions::default(), &Silent, read_all)
}

fn pull(host: &str) -> Result<Vec<Vec<u8>>> {
    let place = Place::new();
    let settings = place.settings();
    pull_with(&place, settings, host).map(|(_, layers)| layers)
}

fn read_all(arriving: &Arriving<'_>) -> Result<Vec<Vec<u8>>> {
    let open = |i| -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        arriving.open_layer(i)?.read_to_end(&mut bytes).map_err(|e| Error::io("a layer", e))?;
        Ok(bytes)
    };
    (0..arriving.manifest.layers.len()).map(open).collect()
}

fn failure(handle: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> (Error, Server) {
    let server = Server::start(handle);
    let e = pull(&server.host).expect_err("it fails");
    assert!(e.chain().contains(&server.host), "the registry is named: {}", e.chain());
    assert!(e.hint().is_some(), "there is a next step: {}", e.chain());
    (e, server)
}

#[test]
fn a_token_is_fetched_once_and_renewed_when_refused() {
    let source = Source::new();
    let served = Served::of(&source);
    let tokens = Arc::new(AtomicUsize::new(0));
    let given = Arc::clone(&tokens);
    let host = Arc::new(std::sync::OnceLock::<String>::new());
    let known_host = Arc::clone(&host);
    let server = Server::start(move |request, _| {
        if request.target.starts_with("/token?") {
            assert!(request.target.contains("service=s%20v"), "{}", request.target);
            if !request.target.contains("scope=") {
                return reply(200, r#"{"token":"t0"}"#);
            }
            assert!(request.target.contains("scope=repository%3Aapp%3Apull"), "{}", request.target);
            let n = given.fetch_add(1, Ordering::SeqCst) + 1;
            return reply(200, format!(r#"{{"token":"t{n}","expires_in":300}}"#));
        }
        let challenge = format!(
            r#"Bearer realm="http://{}/token",service="s v",scope="repository:app:pull""#,
            known_host.get().map_or("", |h| h)
        );
        // The first token opens the manifest only.
        let good = match request.header("authorization") {
            "Bearer t1" => request.target.contains("/manifests/"),
            "Bearer t2" => true,
            _ => false,
        };
        if good { served.answer(request) } else { reply(401, "{}").with("www-authenticate", challenge) }
    });
    host.set(server.host.clone()).expect("set once");
    assert!(pull(&server.host).expect("pulled") == source.layers);
    assert_eq!(tokens.load(Ordering::SeqCst), 2, "{:?}", server.seen());
}

#[test]
fn an_identity_token_is_exchanged_by_post() {
    let source = Source::new();
    let served = Served::of(&source);
    let host = Arc::new(std::sync::OnceLock::<String>::new());
    let known_host = Arc::clone(&host);
    let server = Server::start(move |request, _| match request.header("authorization") {
        "Bearer good" => served.answer(request),
        "" if request.method == "POST" && request.target == "/token" => {
            let body = String::from_utf8_lossy(&request.body).into_owned();
            assert!(
                body.contains("grant_type=refresh_token") && body.contains("refresh_token=r%2Ft"),
                "{body}"
            );
            reply(200, r#"{"access_token":"good"}"#)
        }
        _ => {
            let realm = format!("Bearer realm=\"http://{}/token\"", known_host.get().map_or("", |h| h));
            reply(401, "").with("www-authenticate", realm)
        }
    });
    host.set(server.host.clone()).expect("set once");
    let place = Place::new();
    let config = serde_json::json!({"auths": {&server.host: {"identitytoken": "r/t"}}});
    std::fs::write(place.dir.path().join("config.json"), config.to_string()).expect("written");
    pull_with(&place, place.settings(), &server.host).expect("pulled");
}

/// Runs in a process of its own, whose PATH has the helper; see below.
#[test]
#[ignore = "started by another test"]
fn helper_child() {
    let source = Source::new();
    let served = Served::of(&source);
    let server = Server::start(move |request, _| match request.header("authorization") {
        // bob:builder
        "Basic Ym9iOmJ1aWxkZXI=" => served.answer(request),
        _ => reply(401, "").with("www-authenticate", "Basic realm=\"x\""),
    });
    let place = Place::new();
    let path = place.dir.path().join("config.json");
    let config = serde_json::json!({"credHelpers": {&server.host: "test"}, "stranger": 1});
    std::fs::write(&path, config.to_string()).expect("written");
    let registry = Registry::new(place.settings());
    let bob = Credentials::Password { username: "bob".into(), password: "builder".into() };
    assert_eq!(registry.credentials(&server.host).expect("asked"), None);
    assert_eq!(registry.login(&server.host, &bob).expect("logged in").warning, None);
    let kept = std::fs::read_to_string(&path).expect("read");
    assert!(kept.contains("stranger") && !kept.contains("Ym9i"), "the secret is in the helper only: {kept}");
    pull_with(&place, place.settings(), &server.host).expect("pulled with the helper's credentials");
    assert!(registry.logout(&server.host).expect("logged out"));
    assert_eq!(registry.credentials(&server.host).expect("asked"), None);
    std::fs::write(&path, r#"{"credsStore":"absent"}"#).expect("written");
    let e = registry.credentials("quay.io").expect_err("no such program");
    assert!(e.to_string().contains("docker-credential-absent") && e.hint().is_some(), "{e}");
}

#[test]
fn credentials_are_kept_by_a_helper() {
    let dir = tempfile::tempdir().expect("a directory");
    let kept = dir.path().join("kept");
    let script = format!(
        "#!/bin/sh\ncase $1 in\nstore) cat > {kept} ;;\nget) [ -s {kept} ] && cat {kept} || \
         {{ echo credentials not found in native keychain; exit 1; }} ;;\nerase) : > {kept} ;;\nesac\n",
        kept = kept.display()
    );
    let helper = dir.path().join("docker-credential-test");
    std::fs::write(&helper, script).expect("written");
    std::fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap_or_default());
    let output = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "helper_child", "--ignored", "--nocapture"])
        .env("PATH", path)
        .output()
        .expect("run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_endless_429_is_told_with_its_waiting_time() {
    let (e, server) = failure(|request, _| {
        if request.target == "/v2/" {
            return reply(200, "{}");
        }
        let text =
            r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit"}]}"#;
        reply(429, text).with("retry-after", "3600")
    });
    assert_eq!(e.kind(), Kind::RateLimited);
    assert!(e.chain().contains("pull rate limit") && e.hint().is_some_and(|h| h.contains("3600 s")), "{e:?}");
    assert_eq!(server.count("manifests"), 1, "an hour is not waited for");
}

#[test]
fn a_short_429_and_5xx_are_waited_for() {
    let source = Source::new();
    let served = Served::of(&source);
    let server = Server::start(move |request, earlier| match (request.target.as_str(), earlier) {
        (t, 0) if t.contains("/manifests/") => reply(429, "slow down").with("retry-after", "1"),
        (t, 1) if t.contains("/manifests/") => reply(503, ""),
        (t, 0 | 1) if t.contains("/blobs/") => reply(500, "oops"),
        _ => served.answer(request),
    });
    let start = Instant::now();
    assert!(pull(&server.host).expect("pulled") == source.layers);
    assert!(start.elapsed() >= Duration::from_secs(1), "Retry-After is respected");
}

#[test]
fn an_endless_500_is_given_up() {
    let (e, server) =
        failure(
            |request, _| {
                if request.target == "/v2/" { reply(200, "{}") } else { reply(500, "<html>broken</html>") }
            },
        );
    assert_eq!(e.kind(), Kind::Unavailable);
    assert!(e.chain().contains("500"), "{}", e.chain());
    assert_eq!(server.count("manifests"), 5);
}

#[test]
fn a_hang_is_a_timeout_that_says_what_was_wanted() {
    let place = Place::new();
    let quick = Settings { read_timeout: Duration::from_millis(300), ..place.settings() };
    for hanging in ["/v2/", "/v2/app/manifests/latest"] {
        let server = Server::start(move |request, _| {
            let hang = if request.target == hanging { Some(Duration::from_secs(10)) } else { None };
            Reply { hang, ..reply(200, "{}") }
        });
        let start = Instant::now();
        let e = pull_with(&place, quick.clone(), &server.host).expect_err("it hangs");
        assert_eq!(e.kind(), Kind::Timeout, "{}", e.chain());
        let wanted = if hanging == "/v2/" { "the API version" } else { "manifest 127.0.0.1" };
        assert!(e.chain().contains(&server.host) && e.chain().contains(wanted), "{}", e.chain());
        assert!(e.hint().is_some());
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    }
}

#[test]
fn a_body_that_stalls_is_a_timeout() {
    let source = Source::new();
    let served = Served::of(&source);
    let server = Server::start(move |request, earlier| {
        let reply = served.answer(request);
        if is_big(request, &served) {
            let hang = (earlier > 0).then_some(Duration::from_secs(10));
            // Promises more than it sends, and keeps the connection for the next request.
            let half = reply.body[..BIG / 2].to_vec();
            return Reply { body: half, hang, ..reply }.with("content-length", BIG.to_string());
        }
        reply
    });
    let place = Place::new();
    let quick = Settings { read_timeout: Duration::from_millis(300), ..place.settings() };
    let start = Instant::now();
    let e = pull_with(&place, quick, &server.host).expect_err("it stalls");
    assert!(matches!(e.kind(), Kind::Timeout | Kind::Unavailable), "{}", e.chain());
    assert!(e.chain().contains("blob sha256:"), "{}", e.chain());
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn nobody_there_is_told_at_once() {
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let start = Instant::now();
    let e = pull(&format!("127.0.0.1:{port}")).expect_err("refused");
    assert_eq!(e.kind(), Kind::Unavailable);
    assert!(e.chain().contains("refused") && e.hint().is_some(), "{}", e.chain());
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_broken_transfer_goes_on_where_it_stopped() {
    let source = Source::new();
    let served = Served::of(&source);
    let server = Server::start(move |request, earlier| {
        let reply = served.answer(request);
        if is_big(request, &served) && earlier < 3 { reply.cut(BIG / 4) } else { reply }
    });
    assert!(pull(&server.host).expect("pulled") == source.layers);
    let ranges: Vec<String> =
        server.seen().iter().map(|s| s.header("range").to_owned()).filter(|r| !r.is_empty()).collect();
    assert_eq!(
        ranges,
        [format!("bytes={}-", BIG / 4), format!("bytes={}-", BIG / 2), format!("bytes={}-", 3 * BIG / 4)]
    );
}

#[test]
fn a_later_process_resumes_and_a_server_without_ranges_starts_over() {
    let source = Source::new();
    for with_ranges in [true, false] {
        let served = Served::of(&source);
        let broken = Server::start({
            let served = served.clone();
            move |request, _| {
                let reply = served.answer(request);
                match (is_big(request, &served), request.header("range")) {
                    (true, "") => reply.cut(BIG / 2),
                    (true, _) => support::reply(404, ""),
                    _ => reply,
                }
            }
        });
        let place = Place::new();
        pull_with(&place, place.settings(), &broken.host).expect_err("half of it");
        let whole = Server::start(move |request, _| {
            let mut request = request.clone();
            if !with_ranges {
                request.headers.remove("range");
            }
            served.answer(&request)
        });
        let (_, layers) = pull_with(&place, place.settings(), &whole.host).expect("the rest");
        assert!(layers == source.layers);
        assert!(whole.seen().iter().any(|s| s.header("range") == format!("bytes={}-", BIG / 2)));
        let left = std::fs::read_dir(place.store.root().join("ingest")).expect("listed").count();
        assert_eq!(left, 0, "nothing is left behind");
    }
}

#[test]
fn two_pulls_at_once_fetch_a_blob_once() {
    let source = Source::new();
    let served = Served::of(&source);
    let server = Server::start(move |request, _| {
        if is_big(request, &served) {
            std::thread::sleep(Duration::from_millis(300));
        }
        served.answer(request)
    });
    let place = Place::new();
    let blobs = [place.store.lease().expect("a lease"), place.store.lease().expect("a lease")];
    let name = reference(&format!("{}/app", server.host));
    let settings = place.settings();
    std::thread::scope(|scope| {
        for lease in &blobs {
            let (name, settings) = (name.clone(), settings.clone());
            scope.spawn(move || {
                Registry::new(settings)
                    .pull(&lease.blobs(), &name, &PullOptions::default(), &Silent, read_all)
                    .expect("pulled")
            });
        }
    });
    let big = format!("/blobs/{}", fluyt_image::Digest::of(&source.layers[1]));
    assert_eq!(server.count(&big), 1);
}

#[test]
fn wrong_bytes_are_refused() {
    let source = Source::new();
    let served = Served::of(&source);
    let (e, _server) = failure({
        let served = served.clone();
        move |request, _| {
            let mut reply = served.answer(request);
            if is_big(request, &served) {
                reply.body[77] ^= 1;
            }
            reply
        }
    });
    assert_eq!(e.kind(), Kind::Corrupt, "{}", e.chain());
    // More than was promised.
    let server = Server::start(move |request, _| {
        let mut reply = served.answer(request);
        if is_big(request, &served) {
            reply.body.push(0);
        }
        reply
    });
    assert_eq!(pull(&server.host).expect_err("too much").kind(), Kind::Corrupt);
}

#[test]
fn a_wrong_manifest_is_refused() {
    let source = Source::new();
    let served = Served::of(&source);
    let wrong = source.image.digest.clone();
    let server = Server::start(move |request, _| {
        let mut reply = served.answer(request);
        if request.target.contains("/manifests/") {
            reply.body.push(b' ');
        }
        reply
    });
    let place = Place::new();
    for name in [format!("{}/app", server.host), format!("{}/app@{wrong}", server.host)] {
        let e = Registry::new(place.settings())
            .pull(&place.blobs(), &reference(&name), &PullOptions::default(), &Silent, read_all)
            .expect_err("altered");
        assert_eq!(e.kind(), Kind::Corrupt, "{}", e.chain());
    }
}

#[test]
fn redirects_are_followed_without_the_credentials() {
    let source = Source::new();
    let served = Served::of(&source);
    let storage = Server::start({
        let served = served.clone();
        move |request, _| {
            assert_eq!(request.header("authorization"), "", "credentials leaked to another host");
            served.answer(request)
        }
    });
    let elsewhere = storage.host.clone();
    let server = Server::start(move |request, _| match request.header("authorization") {
        "" => reply(401, "").with("www-authenticate", "Basic realm=\"x\""),
        _ if request.target.contains("/blobs/") => {
            reply(307, "").with("location", format!("http://{elsewhere}{}", request.target))
        }
        _ => served.answer(request),
    });
    let place = Place::new();
    let config = serde_json::json!({"auths": {&server.host: {"auth": "YTpi"}}});
    std::fs::write(place.dir.path().join("config.json"), config.to_string()).expect("written");
    let (_, layers) = pull_with(&place, place.settings(), &server.host).expect("pulled");
    assert!(layers == source.layers);
    assert_eq!(storage.count("/blobs/"), 3);
}

#[test]
fn an_endless_redirect_ends() {
    let server = Server::start(|request, _| {
        if request.target == "/v2/" {
            reply(200, "{}")
        } else {
            reply(302, "").with("location", request.target.clone())
        }
    });
    assert!(pull(&server.host).expect_err("a circle").chain().contains("too many redirects"));
}

#[test]
fn schema_1_and_strange_artifacts_are_refused_by_name() {
    let server = Server::start(|request, _| match request.target.as_str() {
        "/v2/" => reply(200, "{}"),
        _ => reply(200, r#"{"schemaVersion":1,"name":"app"}"#)
            .with("content-type", "application/vnd.docker.distribution.manifest.v1+prettyjws"),
    });
    let e = pull(&server.host).expect_err("schema 1");
    assert_eq!(e.kind(), Kind::Unsupported);
    assert!(e.to_string().contains("schema 1") && e.to_string().contains("/app"), "{e}");
}

#[test]
fn a_registry_that_refuses_the_first_request_may_serve_others() {
    let source = Source::new();
    let served = Served::of(&source);
    for status in [403, 404] {
        let served = served.clone();
        let server = Server::start(move |request, _| match request.target.as_str() {
            "/v2/" => reply(status, ""),
            _ => served.answer(request),
        });
        assert!(pull(&server.host).expect("pulled") == source.layers);
        let closed = Server::start(move |_, _| reply(status, ""));
        let kind = if status == 403 { Kind::PermissionDenied } else { Kind::NotFound };
        assert_eq!(pull(&closed.host).expect_err("refused").kind(), kind);
    }
    let odd = Server::start(|_, _| reply(418, ""));
    assert!(pull(&odd.host).expect_err("a teapot").to_string().contains("is not a registry"));
}

#[test]
fn a_denied_pull_is_worded_as_docker_does() {
    let server = Server::start(|request, _| match request.target.as_str() {
        "/v2/" => reply(200, "{}"),
        _ => reply(
            403,
            r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#,
        ),
    });
    let e = pull(&server.host).expect_err("denied");
    assert_eq!(e.kind(), Kind::PermissionDenied);
    let text = e.chain();
    assert!(
        text.starts_with(&format!(
            "pull access denied for {}/app, repository does not exist or may require",
            server.host
        )),
        "{text}"
    );
    assert!(text.contains("requested access to the resource is denied"), "{text}");
}

#[test]
fn a_mirror_is_tried_first_and_may_fail() {
    let source = Source::new();
    let served = Served::of(&source);
    let broken =
        Server::start(|request, _| if request.target == "/v2/" { reply(200, "{}") } else { reply(404, "") });
    let good = Server::start({
        let served = served.clone();
        move |request, _| served.answer(request)
    });
    let place = Place::new();
    let name = reference("example.invalid/app");
    let mut settings = place.settings();
    let urls = vec![format!("http://{}", broken.host), format!("http://{}/", good.host)];
    settings.mirrors.insert("example.invalid".into(), urls);
    let (pulled, layers) = Registry::new(settings)
        .pull(&place.blobs(), &name, &PullOptions::default(), &Silent, read_all)
        .expect("pulled");
    assert!(layers == source.layers && broken.count("manifests") == 1);
    assert_eq!(pulled.reference.to_string(), "example.invalid/app:latest");
}

#[test]
fn an_upload_that_breaks_goes_on_in_pieces() {
    let here = Place::new();
    let layer = noise(21, BIG);
    let one = image(&here.blobs(), "amd64", std::slice::from_ref(&layer));
    let have = Arc::new(std::sync::Mutex::new(Vec::<u8>::new()));
    let got = Arc::clone(&have);
    let digest = fluyt_image::Digest::of(&layer).to_string();
    let server = Server::start(move |request, _| {
        let big = request.target.contains(&digest.replace(':', "%3A")) || request.target.contains(&digest);
        match request.method.as_str() {
            "HEAD" if big => reply(404, ""),
            "HEAD" => reply(200, ""),
            "POST" => reply(202, "").with("location", "/v2/app/blobs/uploads/u1?state=a"),
            "PUT" if request.target.contains("/manifests/") => reply(201, ""),
            // The storage fails after half of the data.
            "PUT" if request.body.len() == BIG => {
                got.lock().expect("no panic").extend(&request.body[..BIG / 2]);
                reply(500, "disk trouble")
            }
            "GET" if request.target.contains("/uploads/u1") => reply(204, "")
                .with("location", "/v2/app/blobs/uploads/u1?state=b")
                .with("range", format!("0-{}", got.lock().expect("no panic").len() - 1)),
            "PATCH" => {
                assert_eq!(request.header("content-range"), format!("{}-{}", BIG / 2, BIG - 1));
                got.lock().expect("no panic").extend(&request.body);
                reply(202, "").with("location", "/v2/app/blobs/uploads/u1?state=c")
            }
            "PUT" => {
                assert!(request.target.contains("state=c&digest=sha256%3A"), "{}", request.target);
                reply(201, "")
            }
            _ => reply(200, "{}"),
        }
    });
    let name = reference(&format!("{}/app", server.host));
    Registry::new(here.settings())
        .push(&here.blobs(), &one.digest, &name, &PushOptions::default(), &Silent)
        .expect("pushed");
    assert!(*have.lock().expect("no panic") == layer);
}

#[test]
fn progress_adds_up() {
    #[derive(Default)]
    struct Sum(AtomicUsize, AtomicUsize);
    impl Progress for Sum {
        fn begin(&self, _: &str, _: Option<u64>) {}
        fn advance(&self, _: &str, bytes: u64) {
            self.0.fetch_add(bytes as usize, Ordering::SeqCst);
        }
        fn finish(&self, _: &str, outcome: Outcome) {
            assert_eq!(outcome, Outcome::Done);
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    let source = Source::new();
    let served = Served::of(&source);
    let server = Server::start(move |request, earlier| {
        let reply = served.answer(request);
        if is_big(request, &served) && earlier == 0 { reply.cut(BIG / 2) } else { reply }
    });
    let place = Place::new();
    let sum = Sum::default();
    let name = reference(&format!("{}/app", server.host));
    Registry::new(place.settings())
        .pull(&place.blobs(), &name, &PullOptions::default(), &sum, read_all)
        .expect("pulled");
    assert_eq!((sum.0.into_inner(), sum.1.into_inner()), (BIG + 100, 2));
}

#[test]
fn names_are_resolved_in_a_static_binary() {
    let source = Source::new();
    let served = Served::of(&source);
    let server = Server::start(move |request, _| served.answer(request));
    let host = server.host.replace("127.0.0.1", "localhost");
    assert!(pull(&host).expect("localhost is in /etc/hosts") == source.layers);
}
