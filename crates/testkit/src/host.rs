//! The program under test on a host of its own: a data root, a network namespace, and the promise that both are clean
//! at the end.
//!
//! With `FLUYT_REFERENCE=docker` the same calls go to Docker's client instead, so that a test whose expectation is
//! wrong fails there too. Leaks are then not looked for.

use std::ffi::OsStr;
use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::leaks::{Scope, Snapshot, sweep};
use crate::{Scratch, images, is_root, netns, wait};

/// The image that [`Host::with_box`] loads: busybox.
pub const BOX: &str = "box";

/// A host for one test.
pub struct Host {
    program: PathBuf,
    reference: bool,
    scope: Scope,
    scratch: Scratch,
    before: Snapshot,
    pristine: bool,
    _network: Option<netns::Namespace>,
}

/// How a command ended.
#[derive(Clone)]
pub struct Outcome {
    /// The exit code; 128 + N for signal N.
    pub code: i32,
    /// What it wrote.
    pub stdout: String,
    /// What it complained.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
    command: String,
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\nexit code {}\nstdout: {}\nstderr: {}",
            self.command, self.code, self.stdout, self.stderr
        )
    }
}

impl Outcome {
    /// Stdout without its last newlines.
    #[must_use]
    pub fn text(&self) -> &str {
        self.stdout.trim_end_matches('\n')
    }

    /// Asserts success and returns what was written.
    ///
    /// # Panics
    /// Another exit code than 0.
    #[must_use]
    pub fn success(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.text().to_owned()
    }
}

impl Host {
    /// A host with an empty data root, in a network namespace of its own with an address and a default route; none
    /// (said as a skip) when this user cannot have one.
    #[must_use]
    pub fn new(program: &str) -> Option<Self> {
        Self::make(program, true)
    }

    /// The same in the machine's own network, for tests that need the world outside.
    #[must_use]
    pub fn on_the_machines_network(program: &str) -> Option<Self> {
        Self::make(program, false)
    }

    /// [`Host::new`] with the image [`BOX`].
    #[must_use]
    pub fn with_box(program: &str) -> Option<Self> {
        let host = Self::new(program)?;
        host.load_box();
        Some(host)
    }

    fn make(program: &str, own_network: bool) -> Option<Self> {
        if !is_root() {
            crate::skip("needs root");
            return None;
        }
        let reference = std::env::var("FLUYT_REFERENCE").ok();
        let own_network = own_network && reference.is_none();
        let network = own_network.then(own_network_namespace);
        let scratch = Scratch::new("host");
        let scope = Scope { root: scratch.join("root"), own_network };
        let before = scope.snapshot();
        let program = reference.clone().unwrap_or_else(|| program.to_owned()).into();
        let host = Self {
            program,
            reference: reference.is_some(),
            scope,
            scratch,
            before,
            pristine: true,
            _network: network,
        };
        host.clean();
        Some(host)
    }

    /// Whether the reference program runs instead of ours.
    #[must_use]
    pub fn is_reference(&self) -> bool {
        self.reference
    }

    /// The data root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.scope.root
    }

    /// What belongs to this host, for a leak check within a test.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// A directory for the test's files.
    #[must_use]
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Says that this test leaves things on purpose (it kills and inspects); no leak check at the end.
    pub fn allow_leaks(&mut self) {
        self.pristine = false;
    }

    /// A command of the program with this host's data root.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("FLUYT_ROOT", &self.scope.root).env_remove("FLUYT_LOG");
        if !self.reference {
            // Where a daemon is, a test says itself.
            for name in ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"] {
                command.env_remove(name);
            }
        }
        command.env("DOCKER_CONFIG", self.scratch.join("docker-config")).current_dir(self.scratch.path());
        command
    }

    /// Runs the program to its end; one string, split at blanks.
    pub fn run(&self, line: &str) -> Outcome {
        self.run_words(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs the program to its end.
    pub fn run_words(&self, words: &[&str]) -> Outcome {
        self.run_with_input(words, b"")
    }

    /// Runs the program to its end with `input` on its stdin.
    ///
    /// # Panics
    /// It cannot be started, or does not end and close its output within a minute.
    pub fn run_with_input(&self, words: &[&str], input: &[u8]) -> Outcome {
        let mut command = self.command(words);
        finish(&mut command, input, 60)
    }

    /// Runs a command that must succeed; its output.
    pub fn ok(&self, line: &str) -> String {
        self.run(line).success()
    }

    /// Runs a command that must succeed; its output.
    pub fn ok_words(&self, words: &[&str]) -> String {
        self.run_words(words).success()
    }

    /// Runs `sh -c script` in a container of [`BOX`] with more of `run`'s flags; what it wrote.
    pub fn sh(&self, flags: &str, script: &str) -> String {
        self.sh_outcome(flags, script).success()
    }

    /// The same, however it ends.
    pub fn sh_outcome(&self, flags: &str, script: &str) -> Outcome {
        let mut words = vec!["run", "--rm"];
        words.extend(flags.split_whitespace());
        words.extend([BOX, "sh", "-c", script]);
        self.run_words(&words)
    }

    /// A command that must fail with `code` and a message on stderr that contains `needle`.
    ///
    /// # Panics
    /// It succeeds, or fails otherwise.
    pub fn fails(&self, code: i32, needle: &str, line: &str) -> Outcome {
        self.fails_words(code, needle, &line.split_whitespace().collect::<Vec<_>>())
    }

    /// The same from words.
    ///
    /// # Panics
    /// It succeeds, or fails otherwise.
    pub fn fails_words(&self, code: i32, needle: &str, words: &[&str]) -> Outcome {
        let outcome = self.run_words(words);
        assert_eq!(outcome.code, code, "{outcome:?}");
        let said = outcome.stderr.to_lowercase();
        assert!(said.contains(&needle.to_lowercase()), "stderr lacks {needle:?}: {outcome:?}");
        outcome
    }

    /// `inspect` of one object as a document.
    ///
    /// # Panics
    /// It fails or is no JSON list.
    #[must_use]
    pub fn inspect(&self, what: &str) -> Value {
        let text = self.ok_words(&["inspect", what]);
        let mut list: Value = serde_json::from_str(&text).expect("inspect writes JSON");
        list[0].take()
    }

    /// `inspect -f TEMPLATE`.
    #[must_use]
    pub fn field(&self, what: &str, template: &str) -> String {
        self.ok_words(&["inspect", "-f", template, what])
    }

    /// Waits until a template of `inspect` yields `wanted`.
    pub fn wait_for(&self, what: &str, template: &str, wanted: &str) {
        let mut last = String::new();
        wait::until(&format!("{what}'s {template} to be {wanted}"), 30, || {
            last = self.run_words(&["inspect", "-f", template, what]).text().to_owned();
            (last == wanted).then_some(())
        });
    }

    /// Loads the image [`BOX`].
    ///
    /// # Panics
    /// It cannot be loaded.
    pub fn load_box(&self) {
        let config = serde_json::json!({"Cmd": ["sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]});
        let layer = images::tar(&images::busybox_entries());
        let archive = images::docker_archive(&format!("{BOX}:latest"), &[layer], &config);
        let outcome = self.run_with_input(&["load"], &archive);
        assert_eq!(outcome.code, 0, "{outcome:?}");
    }

    /// Removes every container, network and volume.
    fn clean(&self) {
        if !self.scope.root.exists() && !self.reference {
            return;
        }
        let all = self.run("ps -aq");
        let mut words = vec!["rm", "-f", "-v"];
        words.extend(all.stdout.split_whitespace());
        if words.len() > 3 {
            self.run_words(&words);
        }
        if !self.reference {
            self.run("pod rm -f -a -t 0");
        }
        self.run("network prune -f");
        let volumes = self.run("volume ls -q");
        let mut words = vec!["volume", "rm", "-f"];
        words.extend(volumes.stdout.split_whitespace());
        if words.len() > 3 {
            self.run_words(&words);
        }
        if self.reference {
            self.run("image prune -a -f");
        } else if !self.scope.own_network {
            // No namespace takes the bridge and the firewall's table along.
            self.run("system reset --force");
        }
    }

    /// What of this host is left once everything that settles has settled.
    #[must_use]
    pub fn leaks(&self) -> crate::leaks::Difference {
        let deadline = Instant::now() + Duration::from_secs(wait::patience(3));
        loop {
            let difference = self.scope.snapshot().since(&self.before);
            if difference.is_empty() || Instant::now() > deadline {
                return difference;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.clean();
        let leaks = self.leaks();
        if !self.reference {
            sweep(&self.scope);
        }
        let judged = self.pristine && !self.reference && !std::thread::panicking();
        assert!(!judged || leaks.is_empty(), "the host is not as it was:\n{leaks}");
    }
}

/// Moves this thread to a network namespace with a loopback, an address and a default route.
fn own_network_namespace() -> netns::Namespace {
    let namespace = netns::isolate();
    for line in [
        "link set lo up",
        "link add uplink type veth peer name uplink-peer",
        "link set uplink-peer up",
        "address add 192.0.2.2/24 dev uplink",
        "link set uplink up",
        "route add default via 192.0.2.1",
    ] {
        let status = Command::new("ip").args(line.split(' ')).status().expect("iproute2 is installed");
        assert!(status.success(), "ip {line}");
    }
    namespace
}

/// Runs a command to its end and to the end of its output.
///
/// # Panics
/// It cannot be started, or does not end and close its output within `seconds`.
pub fn finish(command: &mut Command, input: &[u8], seconds: u64) -> Outcome {
    let line = format!("{command:?}");
    let started = Instant::now();
    command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{line}: {e}"));
    let writer = child.stdin.take().map(|mut pipe| {
        let input = input.to_vec();
        std::thread::spawn(move || {
            // The program may rightly stop reading early.
            let _ = pipe.write_all(&input);
        })
    });
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let deadline = started + Duration::from_secs(wait::patience(seconds));
    let Some(status) = wait_child(&mut child, deadline) else {
        let _ = child.kill();
        let _ = child.wait();
        let text = |r: &mpsc::Receiver<Vec<u8>>| {
            String::from_utf8_lossy(&r.recv_timeout(Duration::from_millis(200)).unwrap_or_default())
                .into_owned()
        };
        panic!(
            "{line}: still running after {seconds} s\nstdout: {}\nstderr: {}",
            text(&stdout),
            text(&stderr)
        );
    };
    let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(500));
    let end = |receiver: mpsc::Receiver<Vec<u8>>| {
        let bytes = receiver.recv_timeout(left());
        let bytes = bytes.unwrap_or_else(|_| panic!("{line}: ended, but something holds its output open"));
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (stdout, stderr) = (end(stdout), end(stderr));
    if let Some(writer) = writer {
        let _ = writer.join();
    }
    Outcome { code: code_of(status), stdout, stderr, took: started.elapsed(), command: line }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        let _ = sender.send(bytes);
    });
    receiver
}

/// The status of a child, or none when the deadline passes.
pub fn wait_child(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn code_of(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
