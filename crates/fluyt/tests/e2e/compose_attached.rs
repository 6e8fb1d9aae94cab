//! `fluyt compose up` in the foreground, and what a terminal shows.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use fluyt_testkit::wait::until;
use rustix::process::{Pid, Signal, kill_process};

use crate::compose::Shop;
use crate::screen::OnTerminal;
use crate::{host, ours_only};

/// A program that runs, and what it has written so far.
struct Running {
    child: Child,
    out: Arc<Mutex<String>>,
    err: Arc<Mutex<String>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

fn text(of: &Mutex<String>) -> String {
    of.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Running {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program");
        let (out, err) = (Arc::<Mutex<String>>::default(), Arc::<Mutex<String>>::default());
        let pipes: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("a pipe")), Box::new(child.stderr.take().expect("a pipe"))];
        let kept = [Arc::clone(&out), Arc::clone(&err)];
        let readers = pipes.into_iter().zip(kept).map(|(mut pipe, kept)| {
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                    let text = String::from_utf8_lossy(&buffer[..n]);
                    kept.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
                }
            })
        });
        let readers = readers.collect();
        Self { child, out, err, readers }
    }

    fn up(shop: &Shop<'_>, line: &str) -> Self {
        Self::start(shop.host.command(shop.words(line)))
    }

    fn says(&self, needle: &str) {
        until(&format!("{needle:?} to be said"), 30, || {
            let all = text(&self.out) + &text(&self.err);
            all.contains(needle).then_some(())
        });
    }

    fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("told");
    }

    /// Waits for its end: the code, and what it has written.
    fn end(mut self) -> (Option<i32>, String, String) {
        let status = until("the program to end", 60, || self.child.try_wait().ok().flatten());
        self.readers.drain(..).for_each(|r| r.join().expect("a reader"));
        (status.code(), text(&self.out), text(&self.err))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const TWO: &str = "
services:
  web:
    image: box
    command: [sh, -c, \"trap 'echo web goes; exit 0' TERM; echo web is there; sleep 1000 & wait\"]
    depends_on: {db: {condition: service_healthy}}
  db:
    image: box
    command: [sh, -c, \"trap 'echo db goes; exit 0' TERM; echo db is there; echo aside >&2; touch /ready; sleep 1000 & wait\"]
    healthcheck: {test: [CMD, test, -e, /ready], interval: 100ms, retries: 50}
";

#[test]
fn an_interrupt_stops_in_order() {
    let host = host!();
    ours_only!(host);
    let shop = Shop::new(&host, TWO);
    let up = Running::up(&shop, "up");
    up.says("web-1  | web is there");
    up.interrupt();
    let (code, out, err) = up.end();
    assert_eq!(code, Some(130), "{out}\n{err}");
    let place = |text: &str, needle: &str| {
        text.find(needle).unwrap_or_else(|| panic!("no {needle:?} in\n{out}\n--\n{err}"))
    };
    assert!(out.starts_with("Attaching to db-1, web-1\n"), "{out}");
    // Each container's lines come in their order; whose come first among several is nobody's promise.
    for line in ["db-1   | db is there", "db-1   | db goes"] {
        place(&out, line);
    }
    assert!(place(&out, "web-1  | web goes") < place(&out, "web-1 exited with code 0"), "{out}");
    place(&err, "db-1   | aside");
    place(&err, "Gracefully Stopping...");
    let (web, db) = (" Container shop-web-1 Stopped", " Container shop-db-1 Stopping");
    assert!(place(&err, web) < place(&err, db), "dependents first: {err}");
    place(&err, " Network shop_default Created");
    place(&err, " Container shop-db-1 Healthy");
    assert!(!err.contains("Started"), "what containers say tells that they run: {err}");
    assert_eq!(host.ok("ps -q"), "");
    // What is there is started again; what ended before is not shown again.
    let up = Running::up(&shop, "up --no-log-prefix --timestamps");
    up.says("Z web is there");
    up.interrupt();
    let (_, out, _) = up.end();
    assert_eq!(out.matches("web is there").count(), 1, "{out}");
    assert_eq!(out.matches("web goes").count(), 1, "{out}");
    assert!(!out.contains(" | "), "{out}");
    shop.ok("down");
}

#[test]
fn a_second_interrupt_kills() {
    let host = host!();
    ours_only!(host);
    let shop = Shop::new(
        &host,
        "
services:
  deaf:
    image: box
    command: [sh, -c, \"trap '' TERM; echo cannot hear; while :; do sleep 0.1; done\"]
    stop_grace_period: 5m
",
    );
    let up = Running::up(&shop, "up");
    up.says("cannot hear");
    up.interrupt();
    up.says("press Ctrl+C again to force");
    up.says("Stopping");
    up.interrupt();
    let (code, out, err) = up.end();
    assert_eq!(code, Some(130), "{out}\n{err}");
    assert!(out.contains("deaf-1 exited with code 137"), "{out}");
    shop.ok("down");
}

const ENDING: &str = "
services:
  long:
    image: box
    command: [sh, -c, \"trap 'exit 9' TERM; touch /ready; sleep 1000 & wait\"]
    healthcheck: {test: [CMD, test, -e, /ready], interval: 100ms, retries: 50}
  well:
    image: box
    depends_on: {long: {condition: service_healthy}}
    command: [sh, -c, \"echo well\"]
  badly:
    image: box
    command: [sh, -c, \"echo badly; while ! test -e /go; do sleep 0.1; done; exit 4\"]
";

#[test]
fn the_end_of_one_container_ends_all_if_asked() {
    let host = host!();
    ours_only!(host);
    let shop = Shop::new(&host, ENDING);
    let up = Running::up(&shop, "up --abort-on-container-failure");
    up.says("well-1 exited with code 0");
    up.says("badly");
    shop.ok("exec -T badly touch /go");
    let (code, out, err) = up.end();
    assert_eq!(code, Some(4), "{out}\n{err}");
    assert!(err.contains("Aborting on container exit..."), "{err}");
    assert!(out.contains("long-1 exited with code 9"), "{out}");

    let (code, out, err) = Running::up(&shop, "up --abort-on-container-exit well long").end();
    assert_eq!(code, Some(0), "{out}\n{err}");
    let (code, out, err) = Running::up(&shop, "up --exit-code-from long well long").end();
    assert_eq!(code, Some(9), "the code of the service that was asked for: {out}\n{err}");
    shop.fails(1, "--detach cannot be combined with", "up -d --abort-on-container-exit");
    shop.fails(1, "no such service: none", "up --exit-code-from none");
    shop.fails(1, "cannot attach to services not included in up: none", "up --attach none");
    shop.ok("down -t 1");
}

#[test]
fn only_what_is_asked_for_is_shown() {
    let host = host!();
    ours_only!(host);
    let shop = Shop::new(&host, TWO);
    let up = Running::up(&shop, "--ansi always --progress tty up --no-attach db");
    up.says("web is there");
    up.interrupt();
    let (_, out, _) = up.end();
    assert!(out.starts_with("Attaching to web-1\n") && !out.contains("db is there"), "{out}");
    assert!(out.contains("\x1b[36mweb-1  | \x1b[0mweb is there"), "colours where they are forced: {out:?}");
    // A service by its name, and what it depends on beside it.
    let up = Running::up(&shop, "up web");
    up.says("web is there");
    up.interrupt();
    let (_, out, _) = up.end();
    assert!(!out.contains("db is there"), "{out}");
    shop.ok("stop");
    let up = Running::up(&shop, "up --attach-dependencies web");
    up.says("db-1   | db is there");
    up.says("web-1  | web is there");
    up.interrupt();
    up.end();
    shop.ok("down");
}

#[test]
fn a_container_that_restarts_is_followed() {
    let host = host!();
    ours_only!(host);
    let shop = Shop::new(
        &host,
        "
services:
  again:
    image: box
    restart: on-failure:2
    command: [sh, -c, \"echo x >> /n; echo turn $$(wc -l < /n); exit 5\"]
",
    );
    let (code, out, err) = Running::up(&shop, "up").end();
    assert_eq!(code, Some(0), "{out}\n{err}");
    for turn in 1..=3 {
        assert_eq!(out.matches(&format!("again-1  | turn {turn}\n")).count(), 1, "turn {turn}: {out}");
    }
    assert_eq!(out.matches("again-1 exited with code 5 (restarting)").count(), 2, "{out}");
    assert!(out.ends_with("again-1 exited with code 5\n"), "{out}");
    shop.ok("down");
}

#[test]
fn a_terminal_shows_rows_that_change() {
    let host = host!();
    ours_only!(host);
    let shop = Shop::new(&host, TWO);
    let (code, screen) = OnTerminal::start(host.command(shop.words("up -d")), 80, 24).finish();
    let text = screen.text();
    assert_eq!((code, screen.cursor), (Some(0), true), "{text}");
    assert_eq!(text.matches("[+] up").count(), 1, "one picture is left:\n{text}");
    assert!(text.contains("[+] up 3/3"), "{text}");
    for row in ["✔ Network shop_default", "✔ Container shop-db-1", "✔ Container shop-web-1"] {
        assert_eq!(text.matches(row).count(), 1, "{row}:\n{text}");
    }
    assert!(text.contains("Started") && text.contains("Healthy"), "{text}");
    let (_, screen) = OnTerminal::start(host.command(shop.words("up -d")), 80, 24).finish();
    assert_eq!(screen.text().matches("Running").count(), 2, "{}", screen.text());
    until("web to hear", 30, || shop.ok("logs web").contains("web is there").then_some(()));
    // Plain lines, JSON, nothing: where they are asked for.
    let plain = host.run_words(&shop.words("stop web"));
    assert_eq!(plain.stderr, " Container shop-web-1 Stopping\n Container shop-web-1 Stopped\n", "{plain:?}");
    assert_eq!(plain.stdout, "");
    let mut words = shop.words("start");
    words.splice(1..1, ["--progress", "json"]);
    let json = host.run_words(&words);
    assert!(
        json.stderr.lines().any(|l| l == r#"{"id":"Container shop-web-1","status":"Done","text":"Started"}"#),
        "{json:?}"
    );
    words.splice(1..3, ["--progress", "quiet"]);
    words.pop();
    words.extend(["down", "-t", "1"]);
    assert_eq!(host.run_words(&words).stderr, "");
    let narrow = OnTerminal::start(host.command(shop.words("up -d")), 20, 4).finish();
    assert_eq!(narrow.0, Some(0), "{}", narrow.1.text());
    shop.ok("down -t 1");
}

#[test]
fn services_that_do_not_need_each_other_start_and_stop_at_once() {
    let host = host!();
    ours_only!(host);
    // Each waits for all others to run; each stops when all others stop.
    let shop = Shop::new(
        &host,
        "
x-one: &one
  image: box
  volumes: [\"meet:/meet\"]
  stop_grace_period: 60s
  command: [sh, -c, \"trap 'touch /meet/gone-$$(hostname); while test $$(ls /meet/gone-* | wc -l) -lt 3; do sleep 0.05; done; exit 0' TERM; touch /meet/ready-$$(hostname); sleep 1000 & wait; wait\"]
services:
  a: *one
  b: *one
  c: *one
volumes: {meet: {}}
",
    );
    shop.ok("up -d");
    until("all three to be ready", 30, || {
        (shop.ok("exec -T a ls /meet").lines().filter(|l| l.starts_with("ready-")).count() == 3).then_some(())
    });
    shop.ok("stop");
    for name in ["a", "b", "c"] {
        let code = host.field(&format!("shop-{name}-1"), "{{.State.ExitCode}}");
        assert_eq!(code, "0", "{name} has seen the others stop");
    }
    shop.ok("down -v");
}

#[test]
fn a_check_that_fails_is_named_with_what_it_said() {
    let host = host!();
    ours_only!(host);
    let shop = Shop::new(
        &host,
        "
services:
  web:
    image: box
    depends_on: {db: {condition: service_healthy}}
  db:
    image: box
    command: [sh, -c, \"for n in $$(seq 20); do echo line $$n; done; trap 'exit 0' TERM; sleep 1000 & wait\"]
    healthcheck: {test: [CMD-SHELL, \"echo no table guests; exit 2\"], interval: 100ms, retries: 2}
",
    );
    let (code, screen) = OnTerminal::start(host.command(shop.words("up -d")), 100, 30).finish();
    let text = screen.text();
    assert_eq!((code, screen.cursor), (Some(1), true), "{text}");
    assert!(text.contains("✘ Container shop-db-1"), "{text}");
    for said in [
        "container shop-db-1 is unhealthy",
        "its last health check exited with 2",
        "  | no table guests",
        "its last output:",
        "  | line 20",
        "fluyt compose logs db shows all of it",
    ] {
        assert!(text.contains(said), "{said}:\n{text}");
    }
    assert!(!text.contains("  | line 9\n"), "only the last ten lines:\n{text}");
    assert_eq!(host.field("shop-web-1", "{{.State.Status}}"), "created");
    // A dependency that need not be well is told of and left.
    shop.write(
        &std::fs::read_to_string(&shop.file)
            .expect("the file")
            .replace("service_healthy}", "service_healthy, required: false}"),
    );
    let outcome = host.run_words(&shop.words("up -d"));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stderr.contains("Skipped: optional dependency \"db\" is unhealthy"), "{outcome:?}");
    shop.ok("down -t 1");
}
