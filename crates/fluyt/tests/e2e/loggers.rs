//! The log drivers `syslog` and `journald` against the real services.

use fluyt_testkit::host::BOX;
use fluyt_testkit::loggers::{Journald, Rsyslog};
use fluyt_testkit::wait::until;
use fluyt_testkit::{Host, is_root, mounts};

use crate::{PROGRAM, ours_only};

/// A host whose thread has a `/run` of its own, where services may listen.
fn private_host() -> Option<Host> {
    if !is_root() {
        fluyt_testkit::skip("needs root");
        return None;
    }
    mounts::isolate();
    Host::with_box(PROGRAM)
}

/// `run` with a log driver and its options.
fn logged(
    host: &Host,
    driver: &str,
    options: &[&str],
    flags: &[&str],
    script: &str,
) -> fluyt_testkit::Outcome {
    let mut words = vec!["run", "--log-driver", driver];
    for option in options {
        words.extend(["--log-opt", option]);
    }
    words.extend(flags);
    words.extend([BOX, "sh", "-c", script]);
    host.run_words(&words)
}

#[test]
fn syslog_by_every_transport_and_format() {
    let Some(host) = private_host() else { return };
    ours_only!(host);
    let Some(server) = Rsyslog::start() else { return };
    let (port, socket) = (server.port(), server.socket().display().to_string());
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("/proc").trim().to_owned();
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().expect("a clock").as_secs()).expect("small");
    let cases = [
        ("udp", "", "imudp", "0"),
        ("udp", "rfc3164", "imudp", "0"),
        ("udp", "rfc5424", "imudp", "1"),
        ("tcp", "", "imtcp", "0"),
        ("tcp", "rfc3164", "imtcp", "0"),
        ("tcp", "rfc5424micro", "imtcp", "1"),
        ("unixgram", "", "imuxsock", "0"),
        ("", "", "imuxsock", "0"),
    ];
    for (n, (transport, format, input, version)) in cases.into_iter().enumerate() {
        let address = match transport {
            "unixgram" => format!("syslog-address=unixgram://{socket}"),
            "" => String::new(),
            other => format!("syslog-address={other}://127.0.0.1:{port}"),
        };
        let format_option = format!("syslog-format={format}");
        let mut options = vec!["tag=case-{{.Name}}", "syslog-facility=local3"];
        options.extend(
            [address.as_str(), &format_option].into_iter().filter(|o| !o.ends_with('=') && !o.is_empty()),
        );
        let (name, script) = (format!("c{n}"), format!("echo out-{n}; echo err-{n} >&2"));
        let outcome = logged(&host, "syslog", &options, &["--rm", "--name", &name], &script);
        assert_eq!((outcome.code, outcome.stdout), (0, format!("out-{n}\n")), "{}", outcome.stderr);
        for (stream, severity) in [("out", "info"), ("err", "err")] {
            let fields = server.wait_for(&format!("{stream}-{n}"));
            let what = format!("{transport} {format}: {fields:?}");
            assert_eq!(fields[0], format!("local3.{severity}"), "{what}");
            assert_eq!(
                (fields[2].as_str(), fields[5].as_str()),
                (format!("case-c{n}").as_str(), version),
                "{what}"
            );
            assert!(fields[3].parse::<u32>().is_ok(), "the process id: {what}");
            assert!(
                fields[6].parse::<i64>().is_ok_and(|t| (now - 2..now + 600).contains(&t)),
                "the time: {what}"
            );
            assert_eq!(
                (fields[7].as_str(), fields[8].trim()),
                (input, format!("{stream}-{n}").as_str()),
                "{what}"
            );
            if !format.is_empty() {
                assert_eq!(fields[1], machine, "{what}");
            }
        }
    }
    assert_eq!(server.lines().len(), 2 * cases.len(), "one entry a line, none twice: {:?}", server.lines());
}

#[test]
fn syslog_tags_facilities_and_mistakes() {
    let Some(host) = private_host() else { return };
    ours_only!(host);
    let Some(mut server) = Rsyslog::start() else { return };
    let address = format!("syslog-address=udp://127.0.0.1:{}", server.port());
    let id = logged(&host, "syslog", &[&address], &["-d", "--name", "plain"], "echo plain-line").success();
    let fields = server.wait_for("plain-line");
    assert_eq!((fields[0].as_str(), fields[2].as_str()), ("daemon.info", &id[..12]));
    let tag = "tag={{.ImageName}}_{{.Name}}_{{upper .DaemonName}}";
    let done = logged(
        &host,
        "syslog",
        &[&address, tag, "syslog-facility=5"],
        &["--rm", "--name", "tagged"],
        "echo tagged-line",
    );
    assert_eq!(done.code, 0, "{done:?}");
    let fields = server.wait_for("tagged-line");
    assert_eq!((fields[0].as_str(), fields[2].as_str()), ("syslog.info", "box_tagged_FLUYT"));
    host.fails(1, "does not support reading", "logs plain");
    host.ok("rm plain");

    for (option, needle) in [
        ("syslog-facility=nope", "nope"),
        ("syslog-format=rfc1", "rfc1"),
        ("syslog-address=nowhere", "nowhere"),
        ("syslog-address=gopher://x", "gopher"),
        ("tag={{.Nonsense}}", "nonsense"),
        ("tag={{", "tag"),
    ] {
        let outcome = logged(&host, "syslog", &[option], &["--rm"], "true");
        assert_eq!(outcome.code, 125, "{outcome:?}");
        assert!(outcome.stderr.to_lowercase().contains(needle), "{outcome:?}");
    }
    server.stop();
    let nobody = format!("syslog-address=tcp://127.0.0.1:{}", server.port());
    let outcome = logged(&host, "syslog", &[&nobody], &["--rm"], "true");
    assert_eq!(outcome.code, 125, "{outcome:?}");
    assert!(outcome.stderr.contains(&nobody["syslog-address=".len()..]), "{outcome:?}");
    let outcome = logged(&host, "syslog", &[], &["--rm"], "true");
    assert!(outcome.code == 125 && outcome.stderr.contains("/dev/log"), "{outcome:?}");
    assert_eq!(host.ok("ps -aq"), "", "what could not start leaves nothing");
}

#[test]
fn syslog_loses_nothing_in_a_burst_and_finds_a_restarted_server() {
    let Some(host) = private_host() else { return };
    ours_only!(host);
    let Some(mut server) = Rsyslog::start() else { return };
    // Far more than the queue of a datagram socket holds.
    let outcome = logged(&host, "syslog", &["tag=burst"], &["--rm"], "seq 1 3000 | sed 's/^/number /'");
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let _ = server.wait_for("number 3000");
    assert_eq!(server.lines().iter().filter(|l| l.contains("number ")).count(), 3000);

    for (name, address) in
        [("local", String::new()), ("far", format!("syslog-address=tcp://127.0.0.1:{}", server.port()))]
    {
        let options: Vec<&str> = [address.as_str()].into_iter().filter(|a| !a.is_empty()).collect();
        let script = format!("n=0; while :; do n=$((n+1)); echo {name}-$n; sleep 0.1; done");
        let _ = logged(&host, "syslog", &options, &["-d", "--name", name], &script).success();
        let _ = server.wait_for(&format!("{name}-1"));
    }
    server.restart();
    let before = server.lines().len();
    for name in ["local", "far"] {
        until(&format!("{name} to go on"), 20, || {
            server.lines()[before..].iter().any(|l| l.contains(&format!("{name}-"))).then_some(())
        });
    }
    host.ok("rm -f local far");
}

#[test]
fn journald_has_the_fields_and_logs_reads_them_back() {
    let Some(host) = private_host() else { return };
    ours_only!(host);
    let Some(mut journal) = Journald::start() else { return };
    let options = ["tag={{.Name}}/x", "labels=com.example.a", "env-regex=^APP_"];
    let flags = ["--name", "c1", "--label", "com.example.a=1", "-e", "APP_MODE=fast", "-e", "OTHER=no"];
    let script = "for i in 1 2 3; do echo out $i; done; sleep 0.1; printf 'a\\tb\\001c\\n'; echo err >&2; \
                  head -c 40000 /dev/zero | tr '\\0' y; echo; printf end";
    let outcome = logged(&host, "journald", &options, &flags, script);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let id = host.field("c1", "{{.Id}}");
    let of_c1 = format!("CONTAINER_ID_FULL={id}");

    // Read back: everything as it was written, streams apart.
    let read = host.run("logs c1");
    let long = "y".repeat(40_000);
    assert_eq!(read.stdout, format!("out 1\nout 2\nout 3\na\tb\u{1}c\n{long}\nend"));
    assert_eq!(read.stderr, "err\n");

    // In the journal, as others read it.
    let text = journal.journalctl(&["-o", "json", "--all", "MESSAGE=out 2"]);
    for field in [
        format!("\"CONTAINER_ID\":\"{}\"", &id[..12]),
        format!("\"CONTAINER_ID_FULL\":\"{id}\""),
        "\"CONTAINER_NAME\":\"c1\"".to_owned(),
        "\"CONTAINER_TAG\":\"c1/x\"".to_owned(),
        "\"SYSLOG_IDENTIFIER\":\"c1/x\"".to_owned(),
        "\"IMAGE_NAME\":\"box\"".to_owned(),
        "\"PRIORITY\":\"6\"".to_owned(),
        "\"COM_EXAMPLE_A\":\"1\"".to_owned(),
        "\"APP_MODE\":\"fast\"".to_owned(),
    ] {
        assert!(text.contains(&field), "{field} is not in {text}");
    }
    assert!(!text.contains("OTHER"), "{text}");
    assert!(journal.journalctl(&["-o", "cat", "PRIORITY=3", &of_c1]).starts_with("err"));
    let parts = journal.journalctl(&[
        "-o",
        "cat",
        "--output-fields=CONTAINER_PARTIAL_ORDINAL",
        "CONTAINER_PARTIAL_MESSAGE=true",
        &of_c1,
    ]);
    assert_eq!(
        parts.lines().collect::<Vec<_>>(),
        ["1", "2", "1"],
        "two full parts of the long line, then the last without an end"
    );
    assert_eq!(
        journal.journalctl(&[
            "-o",
            "cat",
            "--output-fields=CONTAINER_PARTIAL_ORDINAL",
            "CONTAINER_PARTIAL_LAST=true",
            &of_c1
        ]),
        "3\n"
    );

    // The flags of `logs`.
    let details = host.run("logs --details --tail 1 c1").stdout;
    assert!(details.contains("APP_MODE=fast") && details.ends_with("end"), "{details}");
    assert_eq!(host.run("logs -n 0 c1").stdout, "");
    assert_eq!(host.run("logs --until 1h c1").stdout, "");
    assert_eq!(host.run("logs --since 1h c1").stdout, read.stdout);
    let stamped = host.run("logs -t c1").stdout;
    assert!(
        stamped.starts_with("20") && stamped.lines().next().is_some_and(|l| l.ends_with("Z out 1")),
        "{stamped}"
    );
    assert_eq!(host.run("logs -f c1").stdout, read.stdout, "following what has ended ends");
    host.ok("rm c1");

    // A service that comes back gets lines again, and a follower sees them to the end.
    let script = "n=0; while [ $n -lt 30 ]; do n=$((n+1)); echo tick $n; sleep 0.1; done";
    let _ = logged(&host, "journald", &[], &["-d", "--name", "c2"], script).success();
    until("the first line", 10, || host.run("logs c2").stdout.contains("tick 1\n").then_some(()));
    journal.restart();
    let followed = host.run("logs -f c2").stdout;
    assert!(followed.starts_with("tick 1\n") && followed.ends_with("tick 30\n"), "{followed}");
    host.ok("rm c2");
}

#[test]
fn journald_that_is_not_there_is_said() {
    let Some(host) = private_host() else { return };
    ours_only!(host);
    let outcome = logged(&host, "journald", &[], &["--rm"], "true");
    assert_eq!(outcome.code, 125, "{outcome:?}");
    assert!(
        outcome.stderr.contains("/run/systemd/journal/socket") && outcome.stderr.contains("journald"),
        "{outcome:?}"
    );
    assert_eq!(host.ok("ps -aq"), "");
}
