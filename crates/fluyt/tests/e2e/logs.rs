//! `logs`: what was written, when, how much of it, and how it is kept.

use fluyt_testkit::host::BOX;
use fluyt_testkit::wait::until;

use crate::{host, stay};

#[test]
fn streams_tail_and_time() {
    let host = host!();
    host.ok_words(&[
        "run",
        "--name",
        "c1",
        BOX,
        "sh",
        "-c",
        "for i in 1 2 3 4 5; do echo line $i; done; sleep 0.1; echo err >&2",
    ]);
    let all = host.run("logs c1");
    assert_eq!((all.stdout.lines().count(), all.stderr.as_str()), (5, "err\n"));
    assert_eq!(host.run("logs --tail 2 c1").stdout, "line 5\n");
    assert_eq!(host.run("logs -n 0 c1").stdout, "");
    let stamped = host.run("logs -t c1").stdout;
    let first = stamped.lines().next().expect("a line");
    assert!(first.starts_with("20") && first.ends_with("Z line 1"), "{first}");
    assert_eq!(host.run("logs --since 1h c1").stdout.lines().count(), 5);
    assert_eq!(host.run("logs --until 1h c1").stdout, "");
    host.fails(1, "absent", "logs absent");
    host.fails(1, "nonsense", "logs --since nonsense c1");
    host.ok("rm c1");
}

#[test]
fn follow_ends_with_the_container() {
    let host = host!();
    host.ok_words(&[
        "run",
        "-d",
        "--name",
        "c1",
        BOX,
        "sh",
        "-c",
        "for i in 1 2 3; do echo $i; sleep 0.3; done",
    ]);
    assert_eq!(host.ok("logs -f c1"), "1\n2\n3");
    host.ok("rm c1");
}

#[test]
fn a_line_without_an_end_and_long_lines_are_kept() {
    let host = host!();
    host.ok_words(&[
        "run",
        "--name",
        "c1",
        BOX,
        "sh",
        "-c",
        "head -c 100000 /dev/zero | tr '\\0' y; echo; printf end",
    ]);
    let text = host.run("logs c1").stdout;
    assert_eq!(text.len(), 100_001 + 3);
    assert!(text.ends_with("\nend"));
    host.ok("rm c1");
}

#[test]
fn rotation_keeps_the_newest() {
    let host = host!();
    host.ok_words(&[
        "run",
        "--name",
        "c1",
        "--log-opt",
        "max-size=20k",
        "--log-opt",
        "max-file=2",
        BOX,
        "sh",
        "-c",
        "seq 1 20000",
    ]);
    let text = host.run("logs c1").stdout;
    assert_eq!(text.lines().last(), Some("20000"));
    assert!(text.len() < 60_000, "{}", text.len());
    let numbers: Vec<u32> = text.lines().filter_map(|l| l.parse().ok()).collect();
    assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1), "no gap within what is kept");
    host.ok("rm c1");
}

#[test]
fn drivers() {
    let host = host!();
    assert_eq!(host.ok("run --name quiet --log-driver none box echo x"), "x");
    let outcome = host.run("logs quiet");
    assert!(outcome.code == 1 || outcome.stdout.is_empty(), "{outcome:?}");
    host.ok("run --name local --log-driver local box echo kept");
    assert_eq!(host.ok("logs local"), "kept");
    host.fails(125, "nonsense", "run --rm --log-driver nonsense box true");
    host.ok("rm quiet local");
}

#[test]
fn output_goes_on_without_a_reader() {
    let host = host!();
    stay(&host, "--name idle");
    host.ok_words(&[
        "run",
        "-d",
        "--name",
        "busy",
        BOX,
        "sh",
        "-c",
        "dd if=/dev/zero bs=64k count=100 2>/dev/null | tr '\\0' 'x' | fold -w 99; echo end; sleep 1000",
    ]);
    until("the last line", 60, || host.run("logs -n 1 busy").text().ends_with("end").then_some(()));
    host.ok("rm -f busy idle");
}
