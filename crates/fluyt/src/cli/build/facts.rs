//! What is known about a build when it is done: for provenance and for the metadata file.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use fluyt_build::attest::Attestation;
use fluyt_build::attest::provenance::{self, Facts, Options};
use fluyt_build::graph::{Id, Op};
use fluyt_build::plan::Joined;
use fluyt_build::solve::Solved;
use fluyt_image::digest::{Algorithm, Hasher};
use fluyt_image::{Descriptor, Platform, Store};
use fluyt_model::Result;
use fluyt_model::error::IoContext;

use super::context::Gathered;
use super::wanted::Wanted;

/// What is known about a build.
pub struct About {
    facts: Facts,
    epoch: Option<i64>,
    /// Somebody will read about the sources.
    told: bool,
}

impl About {
    /// Of a build that began at this time, in nanoseconds since the epoch.
    pub fn new(began: i64, wanted: &Wanted, gathered: &Gathered, plan: &Joined) -> Result<Self> {
        let git = fluyt_build::gitref::parse(&wanted.path).ok().flatten();
        let git = git.is_some_and(|git| !(git.like_a_path && Path::new(&wanted.path).exists()));
        let remote = git || wanted.path.contains("://");
        // A repository that came with an archive is the sender's, and its configuration may name programs.
        let local = gathered.context.as_deref().filter(|_| !remote && gathered.unpacked.is_none());
        let about_source = !wanted.attests.is_empty() || wanted.metadata.is_some();
        let facts = Facts {
            context: if remote { wanted.path.clone() } else { String::new() },
            context_digest: None,
            file: gathered.name.clone(),
            text: gathered.text.clone(),
            arguments: arguments(wanted),
            invocation: word()?,
            started: fluyt_model::time::rfc3339(began),
            finished: String::new(),
            machine: Platform::host(),
            fetched: BTreeMap::new(),
            vcs: local.filter(|_| about_source).map(repository).unwrap_or_default(),
        };
        let epoch = plan.goals.first().and_then(|goal| goal.epoch);
        Ok(Self { facts, epoch, told: about_source })
    }

    /// Takes over what the build met. It is finished.
    pub fn finish(&mut self, store: &Store, plan: &Joined, solved: &Solved) -> Result<()> {
        self.facts.finished = fluyt_model::time::rfc3339(now());
        for (id, vertex) in plan.graph.vertices.iter().enumerate().filter(|_| self.told) {
            if let Some(digest) = fetched(store, id, &vertex.op, solved)? {
                self.facts.fetched.insert(id, digest);
            }
        }
        Ok(())
    }

    /// The provenance of a goal.
    pub fn provenance(
        &self,
        plan: &Joined,
        goal: usize,
        options: &Options,
        layers: &[Descriptor],
    ) -> Attestation {
        provenance::attestation(plan, &plan.goals[goal], &self.facts, options, layers)
    }

    /// When it was made, for documents: RFC 3339 in whole seconds, `SOURCE_DATE_EPOCH` if that is given.
    pub fn created(&self) -> String {
        let seconds = self.epoch.unwrap_or_else(|| now() / 1_000_000_000);
        fluyt_model::time::rfc3339(seconds.saturating_mul(1_000_000_000))
    }

    /// What the build is called.
    pub fn reference(&self) -> String {
        format!("fluyt/fluyt/{}", self.facts.invocation)
    }
}

/// Nanoseconds since the epoch.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// How much provenance the metadata file has, as `BUILDX_METADATA_PROVENANCE` says.
pub fn metadata_provenance() -> Option<Options> {
    let max = match std::env::var("BUILDX_METADATA_PROVENANCE").unwrap_or_default().as_str() {
        "max" => true,
        "disabled" | "false" | "0" => return None,
        _ => false,
    };
    let file = String::new();
    Some(Options { max, v02: false, builder: String::new(), reproducible: false, file })
}

/// What was asked for, under BuildKit's keys.
fn arguments(wanted: &Wanted) -> BTreeMap<String, String> {
    let options = &wanted.options;
    let mut found = BTreeMap::new();
    for (name, value) in &options.build_args {
        found.insert(format!("build-arg:{name}"), value.clone());
    }
    for (name, value) in &options.labels {
        found.insert(format!("label:{name}"), value.clone());
    }
    if !options.target.is_empty() {
        found.insert("target".to_owned(), options.target.clone());
    }
    if options.no_cache {
        found.insert("no-cache".to_owned(), String::new());
    }
    if !options.no_cache_stages.is_empty() {
        found.insert("no-cache".to_owned(), options.no_cache_stages.join(","));
    }
    if !options.network.is_empty() {
        found.insert("force-network-mode".to_owned(), options.network.clone());
    }
    if !options.hosts.is_empty() {
        let hosts: Vec<String> =
            options.hosts.iter().map(|(name, address)| format!("{name}={address}")).collect();
        found.insert("add-hosts".to_owned(), hosts.join(","));
    }
    found
}

/// The digest of what a vertex fetched, if that can be told.
fn fetched(store: &Store, id: Id, op: &Op, solved: &Solved) -> Result<Option<(String, String)>> {
    match op {
        Op::Http(http) => {
            if let Some(digits) = http.checksum.strip_prefix("sha256:") {
                return Ok(Some(("sha256".to_owned(), digits.to_owned())));
            }
            let Some([layer]) = solved.vertices[id].as_deref() else { return Ok(None) };
            let dir = layer.path(store.root());
            // A server may have named the file: it is the only one.
            let only = || Some(std::fs::read_dir(&dir).ok()?.flatten().next()?.path());
            let path = if http.name.is_empty() { only() } else { Some(dir.join(&http.name)) };
            let Some(path) = path.filter(|path| path.is_file()) else { return Ok(None) };
            let mut file = std::fs::File::open(&path).about(|| path.display().to_string())?;
            let mut hasher = Hasher::new(Algorithm::Sha256);
            let mut buffer = vec![0; 256 * 1024];
            loop {
                let n = std::io::Read::read(&mut file, &mut buffer).about(|| path.display().to_string())?;
                if n == 0 {
                    return Ok(Some(("sha256".to_owned(), hasher.finish().hex().to_owned())));
                }
                hasher.update(&buffer[..n]);
            }
        }
        Op::Git(git) => {
            let commit = |text: &str| {
                let hex = matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit());
                hex.then(|| (if text.len() == 40 { "sha1" } else { "sha256" }.to_owned(), text.to_owned()))
            };
            Ok(commit(&git.reference).or_else(|| commit(&git.checksum)))
        }
        _ => Ok(None),
    }
}

/// Remote and commit of the repository that a context is in.
fn repository(context: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let inside = context.ancestors().any(|dir| dir.join(".git").exists());
    if !inside || std::env::var("BUILDX_GIT_INFO").is_ok_and(|value| matches!(value.as_str(), "false" | "0"))
    {
        return found;
    }
    let git = |words: &[&str]| {
        let mut command = fluyt_build::git::command();
        // Looking must not run what the repository's own configuration names.
        command.args(["--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]);
        command.arg("-C").arg(context).args(words).stdin(Stdio::null()).stderr(Stdio::null());
        let output = command.output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    if let Some(mut revision) = git(&["rev-parse", "HEAD"]) {
        if git(&["status", "--porcelain", "--ignored=no"]).is_some_and(|changes| !changes.is_empty()) {
            revision.push_str("-dirty");
        }
        found.insert("revision".to_owned(), revision);
    }
    if let Some(remote) = git(&["config", "--get", "remote.origin.url"]).filter(|remote| !remote.is_empty()) {
        found.insert("source".to_owned(), fluyt_build::attest::without_credentials(&remote));
    }
    found
}

/// A word that no other build has: 25 letters and digits.
fn word() -> Result<String> {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut bytes = [0; 25];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).about(|| "random numbers")?;
    Ok(bytes.iter().map(|byte| char::from(DIGITS[usize::from(*byte) % DIGITS.len()])).collect())
}
