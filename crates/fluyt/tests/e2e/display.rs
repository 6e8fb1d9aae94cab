//! The progress of a build on a terminal.

use fluyt_testkit::Host;

use crate::screen::OnTerminal;
use crate::{host, ours_only};

fn build(host: &Host, name: &str, dockerfile: &str, columns: u16, rows: u16) -> OnTerminal {
    host.scratch().write(&format!("{name}/Dockerfile"), dockerfile);
    let dir = host.scratch().join(name).display().to_string();
    OnTerminal::start(host.command(["build", "--no-cache", "-t", name, &dir]), columns, rows)
}

const STEPS: &str = "FROM box\nRUN --network=none for i in 1 2 3 4 5 6 7 8 9; do echo line $i; sleep 0.05; done\n\
    RUN --network=none printf 'wide \\033[31m%060d\\r' 7; echo done\nRUN --network=none true\nLABEL a=b\n";

#[test]
fn a_build_ends_with_one_whole_picture() {
    let host = host!();
    ours_only!(host);
    for (columns, rows) in [(80, 24), (30, 8), (16, 4)] {
        let (code, screen) = build(&host, &format!("whole{columns}"), STEPS, columns, rows).finish();
        let text = screen.text();
        assert_eq!((code, screen.cursor), (Some(0), true), "{text}");
        // Drawn over many times, there is one of it.
        assert_eq!(text.matches("[+] Build").count(), 1, "{columns}x{rows}:\n{text}");
        assert!(!text.contains(" => # "), "no windows at the end:\n{text}");
        assert!(text.lines().all(|line| line.chars().count() < usize::from(columns)), "{text}");
        if columns == 80 {
            assert!(text.contains("FINISHED"), "{text}");
            for step in ["[1/4] FROM", "[2/4] RUN", "[3/4] RUN", "[4/4] RUN", "exporting to image"] {
                assert_eq!(text.matches(step).count(), 1, "{step}:\n{text}");
            }
            assert!(text.contains(" => => naming to docker.io/library/whole80:latest done"), "{text}");
        }
    }
}

#[test]
fn what_runs_is_seen_and_can_be_stopped() {
    let host = host!();
    ours_only!(host);
    let text = "FROM box\nRUN --network=none echo first; echo second; sleep 1000\n";
    let shown = build(&host, "stopped", text, 120, 12);
    shown.wait_for(" => => # second");
    let now = shown.screen().text();
    assert!(now.contains("[+] Building") && now.contains(" => [2/2] RUN"), "{now}");
    let pid = rustix::process::Pid::from_child(&shown.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
    let (code, screen) = shown.finish();
    let text = screen.text();
    assert_eq!((code, screen.cursor), (Some(1), true), "{text}");
    assert!(text.contains(" => CANCELED [2/2] RUN") && text.contains("the build was cancelled"), "{text}");
    assert_eq!(text.matches("[+] Building").count(), 1, "{text}");
}

#[test]
fn a_failure_is_told_below_the_picture() {
    let host = host!();
    ours_only!(host);
    let text = "FROM box\nRUN --network=none echo the reason; exit 7\n";
    let (code, screen) = build(&host, "failed", text, 100, 20).finish();
    let text = screen.text();
    assert_eq!(code, Some(1), "{text}");
    let places: Vec<Option<usize>> =
        [" => ERROR [2/2] RUN", " > [2/2] RUN", "\nthe reason", "Dockerfile:2", "exit code: 7"]
            .iter()
            .map(|needle| text.find(needle))
            .collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}\n{text}");
}

#[test]
fn the_form_is_chosen() {
    let host = host!();
    ours_only!(host);
    host.scratch().write("form/Dockerfile", "FROM scratch\nLABEL a=b\n");
    let dir = host.scratch().join("form").display().to_string();
    host.fails_words(1, "standard error is no terminal", &["build", "--progress", "tty", &dir]);
    let mut command = host.command(["build", &dir]);
    command.env("BUILDKIT_PROGRESS", "plain");
    let outcome = fluyt_testkit::host::finish(&mut command, b"", 60);
    assert!(outcome.stderr.starts_with("#1 [internal] load build definition"), "{outcome:?}");
    let mut command = host.command(["build", &dir]);
    command.env("BUILDKIT_PROGRESS", "rawjson");
    let outcome = fluyt_testkit::host::finish(&mut command, b"", 60);
    assert!(outcome.stderr.starts_with('{'), "{outcome:?}");
}
