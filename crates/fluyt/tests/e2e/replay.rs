//! The same requests to `fluyt engine` and to Docker's daemon, and their answers compared.
//!
//! ```text
//! replay/*.txt ──script──► requests ──client──► answers ──normal──► what is to be the same ──compare──► differences
//!                            (to both at once)                                     replay/differences.txt ──┘
//! ```
//! - `script`: the requests, written as data;
//! - `client`: one request and its whole answer: status, the headers that matter, documents, frames of streams;
//! - `normal`: what is different by nature (ids, times, addresses, names that are made up) becomes the same word;
//! - `compare`: places that differ, and the list of those that are known, each with its reason.
//!
//! A difference that is not listed fails the test, and so does a listed one that is no longer there. The daemon runs in
//! namespaces of its own with a data root of its own; it ends, with all that it started, when the test does.

mod client;
mod compare;
mod normal;
mod script;

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use fluyt_testkit::host::BOX;
use fluyt_testkit::{Host, images, netns, skip, wait};
use serde_json::{Value, json};

use crate::engines::Engine;
use client::{Open, ask};
use compare::{Known, differences};
use script::{Script, Step};

/// What a step was answered, ready to be compared.
struct Seen {
    /// Section, version and request, as differences name it.
    label: String,
    answer: Value,
}

/// One of the two engines.
struct Side {
    socket: PathBuf,
    /// Paths that are its own, and what stands for them.
    places: Vec<(String, &'static str)>,
    /// What was taken from answers.
    variables: BTreeMap<String, String>,
    /// Connections that stay open over several steps.
    open: BTreeMap<String, Open>,
    archives: BTreeMap<String, Vec<u8>>,
}

/// Docker's daemon in network, mount and process namespaces of its own.
struct Daemon {
    child: Child,
    cgroup: String,
}

impl Daemon {
    /// None (said as a skip) where there is none.
    fn start(host: &Host) -> Option<(Self, PathBuf)> {
        let path = |name: &str| host.scratch().join(format!("docker-{name}")).display().to_string();
        let cgroup = format!("fluyt-replay-{}", std::process::id());
        let line = format!(
            "mount -t tmpfs tmpfs /run && ip link set lo up && exec dockerd --data-root {} --exec-root {} --pidfile {} \
             -H unix://{} --storage-driver overlay2 --cgroup-parent /{cgroup}",
            path("data"),
            path("exec"),
            path("pid"),
            path("sock")
        );
        let log = std::fs::File::create(path("log")).expect("a file");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "--", "sh", "-c", &line]);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
        // It is born in the namespace of the thread that starts it.
        let network = netns::Namespace::new();
        let child = network.run(move || command.spawn().expect("unshare"));
        let mut daemon = Self { child, cgroup };
        let socket = PathBuf::from(path("sock"));
        let answers = || UnixStream::connect(&socket).is_ok();
        wait::until("dockerd to answer or to end", 60, || {
            (answers() || daemon.child.try_wait().is_ok_and(|ended| ended.is_some())).then_some(())
        });
        if answers() {
            return Some((daemon, socket));
        }
        let text = std::fs::read_to_string(path("log")).unwrap_or_default();
        skip(&format!("dockerd does not start here: {}", text.lines().last().unwrap_or_default()));
        None
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Nothing runs in its groups any more once the namespace's processes are gone.
        let groups = || -> Vec<PathBuf> {
            let entries = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
            let all = entries.map(|entry| entry.path().join(&self.cgroup));
            all.chain([Path::new("/sys/fs/cgroup").join(&self.cgroup)]).filter(|p| p.is_dir()).collect()
        };
        for _ in 0..250 {
            for group in groups() {
                for child in std::fs::read_dir(&group).into_iter().flatten().flatten() {
                    let _ = std::fs::remove_dir(child.path());
                }
                let _ = std::fs::remove_dir(group);
            }
            if groups().is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Side {
    fn new(socket: &Path, places: Vec<(String, &'static str)>) -> Self {
        let (variables, open, archives) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut side = Self { socket: socket.to_owned(), places, variables, open, archives };
        let config = json!({"Cmd": ["sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]});
        let layer = images::tar(&images::busybox_entries());
        let archive = images::docker_archive(&format!("{BOX}:latest"), &[layer], &config);
        side.archives.insert("box".to_owned(), archive);
        side
    }

    /// All sections, one after the other.
    fn play(mut self, script: &Script) -> Vec<Seen> {
        self.archives.extend(script.archives.clone());
        let load =
            Step { body: script::Body::Archive("box".to_owned()), ..Step::new("POST", "/v1.41/images/load") };
        self.plain(&load);
        let mut seen = Vec::new();
        for section in &script.sections {
            for version in &section.versions {
                self.section(section, version, &mut seen);
            }
        }
        seen
    }

    fn section(&mut self, section: &script::Section, version: &str, seen: &mut Vec<Seen>) {
        let since = now();
        self.variables = BTreeMap::from([("start".to_owned(), since.clone())]);
        for step in &section.steps {
            let label = format!("{} | {version} {} {}", section.name, step.method, step.path);
            let step = Step { path: self.fill(&step.path), ..step.clone() };
            // Requests have the section's version; `-` leaves them as they are.
            let whole = version == "-" || step.method == "END" || step.method == "INPUT";
            let path = if whole { step.path.clone() } else { format!("/v{version}{}", step.path) };
            let step = Step { path, ..step };
            let Some(answer) = self.step(&step) else { continue };
            seen.push(Seen { label, answer: normal::normal(answer, &self.places, &self.variables) });
        }
        self.open.clear();
        self.clean();
        let label = format!("{} | {version} events", section.name);
        let events = self.events(&since);
        seen.push(Seen { label, answer: normal::events(events, &self.places, &self.variables) });
    }

    /// Does a step; none if its answer is not to be compared.
    fn step(&mut self, step: &Step) -> Option<Value> {
        let body = self.body(step);
        match step.method.as_str() {
            "END" => Some(self.open.remove(&step.path).expect("a session of that name").finish()),
            "INPUT" => {
                let open = self.open.get_mut(&step.path).expect("a session of that name");
                open.input(&body);
                None
            }
            _ => {
                let answer = match &step.until {
                    None => {
                        let open = Open::new(&self.socket, step, &body);
                        if let Some(name) = &step.session {
                            self.open.insert(name.clone(), open);
                            return None;
                        }
                        open.finish()
                    }
                    Some((place, wanted)) => {
                        wait::until(&format!("{place} of {} to be {wanted}", step.path), 30, || {
                            let answer = Open::new(&self.socket, step, &body).finish();
                            let found = at(&answer["body"], place);
                            let text = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
                            (text.trim_end() == wanted).then_some(answer)
                        })
                    }
                };
                for (name, place) in &step.saves {
                    let found = at(&answer["body"], place);
                    let text = found.as_str().map(str::to_owned).unwrap_or_else(|| found.to_string());
                    self.variables.insert(name.clone(), text);
                }
                (!step.skip).then_some(answer)
            }
        }
    }

    fn fill(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in &self.variables {
            text = text.replace(&format!("${{{name}}}"), value);
        }
        text
    }

    fn body(&self, step: &Step) -> Vec<u8> {
        match &step.body {
            script::Body::None => Vec::new(),
            script::Body::Text(text) => self.fill(text).into_bytes(),
            script::Body::Archive(name) => {
                self.archives.get(name).unwrap_or_else(|| panic!("no archive {name}")).clone()
            }
        }
    }

    /// A request whose answer is its document.
    fn plain(&self, step: &Step) -> Value {
        let body = self.body(step);
        ask(&self.socket, step, &body)
    }

    /// Removes everything but the image that each section begins with.
    fn clean(&self) {
        let get = |path: &str| self.plain(&Step::new("GET", path))["body"].clone();
        let delete = |path: String| drop(self.plain(&Step::new("DELETE", &path)));
        let names = |list: Value, key: &str| -> Vec<String> {
            let list = list.as_array().cloned().unwrap_or_default();
            list.iter().filter_map(|item| item[key].as_str().map(str::to_owned)).collect()
        };
        for id in names(get("/v1.41/containers/json?all=1"), "Id") {
            delete(format!("/v1.41/containers/{id}?force=1&v=1"));
        }
        for name in names(get("/v1.41/networks"), "Name") {
            if !["bridge", "host", "none"].contains(&name.as_str()) {
                delete(format!("/v1.41/networks/{name}"));
            }
        }
        for name in names(get("/v1.41/volumes")["Volumes"].clone(), "Name") {
            delete(format!("/v1.41/volumes/{name}?force=1"));
        }
        // What others were made from goes after them.
        for _ in 0..3 {
            self.clean_images(&get("/v1.41/images/json"));
        }
    }

    fn clean_images(&self, images: &Value) {
        let delete = |path: String| drop(self.plain(&Step::new("DELETE", &path)));
        for image in images.as_array().into_iter().flatten() {
            let tags: Vec<&str> =
                image["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let base = tags.contains(&"box:latest");
            for tag in tags.iter().filter(|tag| base && **tag != "box:latest") {
                delete(format!("/v1.41/images/{tag}"));
            }
            if !base {
                delete(format!("/v1.41/images/{}?force=1", image["Id"].as_str().unwrap_or_default()));
            }
        }
    }

    /// What was told since a moment. All containers are gone, and with each everything about it has been told.
    fn events(&self, since: &str) -> Vec<Value> {
        let path = |until: &str| format!("/v1.41/events?since={since}&until={until}");
        wait::until("the end of each container to be told", 20, || {
            let answer = self.plain(&Step::new("GET", &path(&now())));
            let events = answer["body"].as_array().cloned().unwrap_or_default();
            let count = |action: &str| {
                events.iter().filter(|e| e["Type"] == "container" && e["Action"] == action).count()
            };
            (count("create") <= count("destroy")).then_some(events)
        })
    }
}

/// Seconds since 1970 with their fraction, as `since` takes them.
fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}

/// What is at a place in a document: `State.Running`, `0.Id`.
fn at<'v>(value: &'v Value, place: &str) -> &'v Value {
    place.split('.').filter(|p| !p.is_empty()).fold(value, |value, piece| match value {
        Value::Array(items) => piece.parse::<usize>().ok().and_then(|n| items.get(n)).unwrap_or(&Value::Null),
        other => &other[piece],
    })
}

fn installed(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A file of ours, or the one of its name in the directory `FLUYT_REPLAY`: for whoever writes them.
fn file(name: &str, text: &str) -> String {
    let directory = std::env::var_os("FLUYT_REPLAY").map(PathBuf::from);
    let other = directory.and_then(|dir| std::fs::read_to_string(dir.join(format!("{name}.txt"))).ok());
    other.unwrap_or_else(|| text.to_owned())
}

/// Plays a script against both. What is found is looked for a second time, on fresh engines: what was a matter of time is
/// not there twice.
fn replay(name: &str, text: &str) {
    let Some(first) = play(name, text) else { return };
    if first.is_empty() {
        return;
    }
    let Some(second) = play(name, text) else { return };
    let both: Vec<&str> = first.iter().filter(|line| second.contains(line)).map(String::as_str).collect();
    assert!(both.is_empty(), "found twice (request | place | dockerd -> ours):\n{}", both.join("\n"));
    println!("found once, and not again:\n{}", first.join("\n"));
}

/// What is not listed, and what is listed and not there any more; none where it cannot be tried.
fn play(name: &str, text: &str) -> Option<Vec<String>> {
    let host = Host::with_box(crate::PROGRAM)?;
    if host.is_reference() || !installed("dockerd") || !installed("unshare") {
        skip("needs dockerd and our engine");
        return None;
    }
    if std::env::var_os("FLUYT_VM").is_some() {
        skip("what is listed was found on the machine itself");
        return None;
    }
    let script = Script::parse(name, &file(name, text));
    let (_daemon, socket) = Daemon::start(&host)?;
    let engine = Engine::start(&host, &[]);
    let place = |path: &Path| path.display().to_string();
    let theirs = vec![
        (place(&host.scratch().join("docker-data")), "ROOT"),
        (place(&host.scratch().join("docker-exec")), "RUN"),
    ];
    let ours = vec![(place(host.root()), "ROOT"), (place(&host.scope().run()), "RUN")];
    let (theirs, ours) = (Side::new(&socket, theirs), Side::new(engine.socket(), ours));
    let (theirs, ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| theirs.play(&script));
        let ours = ours.play(&script);
        (theirs.join().expect("dockerd's answers"), ours)
    });
    let mut known = Known::parse(name, &file("differences", include_str!("replay/differences.txt")));
    let mut found = Vec::new();
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!(theirs.label, ours.label);
        found.extend(differences(&theirs.label, &theirs.answer, &ours.answer));
    }
    let (mut unlisted, gone) = known.judge(&found);
    println!("{} answers compared, {} differences, {} not listed", theirs.len(), found.len(), unlisted.len());
    unlisted.extend(gone.into_iter().map(|line| format!("listed, and not there any more: {line}")));
    Some(unlisted)
}

#[test]
fn containers_are_as_dockers() {
    replay("containers", include_str!("replay/containers.txt"));
}

#[test]
fn streams_and_commands_are_as_dockers() {
    replay("streams", include_str!("replay/streams.txt"));
}

#[test]
fn images_and_builds_are_as_dockers() {
    replay("images", include_str!("replay/images.txt"));
}

#[test]
fn networks_volumes_and_the_engine_are_as_dockers() {
    replay("objects", include_str!("replay/objects.txt"));
}
