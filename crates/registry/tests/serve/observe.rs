//! The access log and the counters of a registry at work.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use fluyt_registry::server::LogFormat;

use crate::support::{Served, ask_at};

#[test]
fn requests_are_written_down_and_counted() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("access.log");
    let mut page = None;
    let mut served = Served::with_address_of_counters(
        |options| {
            options.access_log = Some((log.clone(), LogFormat::Json));
            options.metrics = Some("127.0.0.1:0".to_owned());
        },
        &mut page,
    );
    let page = page.expect("an address");
    served.blob("a", b"content");
    served.ask("GET", "/v2/a/manifests/none?x=1").is(404);
    let lines = [
        "fluyt_registry_requests_total{method=\"POST\",route=\"upload\",code=\"201\"} 1",
        "fluyt_registry_requests_total{method=\"GET\",route=\"manifest\",code=\"404\"} 1",
        "fluyt_registry_request_duration_seconds_count{route=\"manifest\"} 1",
    ];
    // A request is counted when its answer is on its way, which its client may have by then.
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let counters = ask_at(page, "GET", "/metrics");
        assert!(counters.is(200).header("content-type").starts_with("text/plain"));
        let text = String::from_utf8_lossy(&counters.body).into_owned();
        if lines.iter().all(|line| text.lines().any(|l| l == *line)) {
            break;
        }
        assert!(Instant::now() < until, "{text}");
        std::thread::sleep(Duration::from_millis(10));
    }
    ask_at(page, "GET", "/v2/").is(404);
    ask_at(page, "POST", "/metrics").is(405);
    served.end();
    assert!(TcpStream::connect(page).is_err(), "the counters end with the registry");
    let lines: Vec<serde_json::Value> = std::fs::read_to_string(&log)
        .expect("a log")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        (lines[1]["target"].as_str(), lines[1]["status"].as_u64()),
        (Some("/v2/a/manifests/none?x=1"), Some(404))
    );
}
