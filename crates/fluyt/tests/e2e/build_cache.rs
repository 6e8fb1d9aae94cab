//! `build --cache-to` and `--cache-from`: what one machine built is not built again on another one.

use std::path::Path;

use fluyt_testkit::Host;
use fluyt_testkit::leaks::Scope;
use fluyt_testkit::registry::Registry;
use serde_json::Value;

use crate::{host, ours_only};

/// Another machine: a data root of its own in the same place, with the same base image.
struct Other<'a> {
    host: &'a Host,
    root: std::path::PathBuf,
}

impl<'a> Other<'a> {
    fn new(host: &'a Host, name: &str) -> Self {
        let archive = host.scratch().join("box.tar");
        if !archive.exists() {
            host.ok_words(&["save", "-o", &archive.display().to_string(), "box"]);
        }
        let other = Self { host, root: host.scratch().join(name) };
        other.ok(&["load", "-q", "-i", &archive.display().to_string()]);
        other
    }

    fn run(&self, words: &[&str]) -> fluyt_testkit::host::Outcome {
        let mut command = self.host.command(words);
        command.env("FLUYT_ROOT", &self.root);
        fluyt_testkit::host::finish(&mut command, b"", 120)
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let outcome = self.run(words);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        outcome.text().to_owned()
    }

    /// Builds; what was said.
    #[track_caller]
    fn build(&self, dir: &str, flags: &[&str]) -> String {
        let outcome = self.run(&[&["build", "--progress", "plain"], flags, &[dir]].concat());
        assert_eq!(outcome.code, 0, "{outcome:?}");
        outcome.stderr
    }
}

impl Drop for Other<'_> {
    fn drop(&mut self) {
        let outcome = self.run(&["system", "reset", "--force"]);
        let scope = Scope { root: self.root.clone(), own_network: false };
        fluyt_testkit::leaks::sweep(&scope);
        assert!(outcome.code == 0 || std::thread::panicking(), "{outcome:?}");
    }
}

const TEXT: &str = "FROM box AS tools\nRUN echo tool > /tool && date +%N > /when\n\
                    FROM box\nCOPY input /input\nRUN cat /input > /made && date +%N > /when\nCOPY --from=tools /tool /tool\n\
                    CMD cat /made /tool /when\n";

fn context(host: &Host, name: &str) -> String {
    host.scratch().write(&format!("{name}/Dockerfile"), TEXT);
    host.scratch().write(&format!("{name}/input"), "in\n");
    host.scratch().join(name).display().to_string()
}

fn build(host: &Host, dir: &str, flags: &[&str]) -> String {
    let outcome = host.run_words(&[&["build", "--progress", "plain"], flags, &[dir]].concat());
    assert_eq!(outcome.code, 0, "{outcome:?}");
    outcome.stderr
}

fn cached(said: &str) -> usize {
    said.matches(" CACHED").count()
}

#[test]
fn a_directory_carries_the_cache_to_another_machine() {
    let host = host!();
    ours_only!(host);
    let dir = context(&host, "one");
    let cache = host.scratch().join("cache");
    let to = format!("type=local,dest={},mode=max", cache.display());
    let from = format!("type=local,src={}", cache.display());
    build(&host, &dir, &["-t", "made", "--cache-to", &to]);
    let expected = host.ok("run --rm made");
    // Another checkout of the same files, with other times.
    let again = context(&host, "two");
    let other = Other::new(&host, "other");
    let said = other.build(&again, &["-t", "made", "--cache-from", &from]);
    assert_eq!(cached(&said), 4, "{said}");
    assert_eq!(other.ok(&["run", "--rm", "made"]), expected);
    // What is not the last step is known too, and only what changed is made.
    host.scratch().write("two/input", "other\n");
    let third = Other::new(&host, "third");
    let said = third.build(&again, &["-t", "made", "--cache-from", &from]);
    assert!(said.contains("[tools 2/2] RUN echo tool") && cached(&said) == 1, "{said}");
    assert!(third.ok(&["run", "--rm", "made"]).starts_with("other\ntool\n"));
    // Without a cache everything is made; a build of a cached result writes the same cache again.
    let said = Other::new(&host, "fourth").build(&again, &["--no-cache", "--cache-from", &from]);
    assert_eq!(cached(&said), 0, "{said}");
    let index = std::fs::read(cache.join("index.json")).expect("an index");
    host.scratch().write("two/input", "in\n");
    other.build(&again, &["--cache-from", &from, "--cache-to", &to]);
    assert_eq!(std::fs::read(cache.join("index.json")).expect("an index"), index);
}

#[test]
fn only_what_is_needed_is_fetched() {
    let host = host!();
    ours_only!(host);
    let text = "FROM box AS big\nRUN dd if=/dev/urandom of=/big bs=1M count=3 2>/dev/null && echo small > /small\n\
                FROM box\nCOPY --from=big /small /\nRUN cat /small > /out\n";
    host.scratch().write("lazy/Dockerfile", text);
    let dir = host.scratch().join("lazy").display().to_string();
    let cache = host.scratch().join("cache");
    let to = format!("type=local,dest={},mode=max,compression=zstd", cache.display());
    build(&host, &dir, &["--cache-to", &to]);
    let other = Other::new(&host, "other");
    let from = format!("type=local,src={}", cache.display());
    let said = other.build(&dir, &["-t", "lazy", "--cache-from", &from]);
    assert_eq!(cached(&said), 3, "{said}");
    assert_eq!(other.ok(&["run", "--rm", "lazy", "cat", "/out"]), "small");
    let biggest = |dir: &Path| {
        let sizes =
            std::fs::read_dir(dir).expect("blobs").flatten().map(|e| e.metadata().map_or(0, |m| m.len()));
        sizes.max().unwrap_or(0)
    };
    assert!(biggest(&cache.join("blobs/sha256")) > 3_000_000);
    assert!(biggest(&other.root.join("blobs/sha256")) < 3_000_000, "the big stage was fetched");
    // mode=min has no other stages.
    let small = host.scratch().join("min");
    build(&host, &dir, &["--cache-to", &format!("type=local,dest={}", small.display())]);
    assert!(biggest(&small.join("blobs/sha256")) < 3_000_000);
}

#[test]
fn a_registry_carries_the_cache() {
    let host = host!();
    ours_only!(host);
    let Some(registry) = Registry::start() else { return };
    let dir = context(&host, "one");
    let name = format!("{}/app:cache", registry.address());
    let to = format!("type=registry,ref={name},mode=max,oci-mediatypes=true,image-manifest=true");
    build(&host, &dir, &["-t", "made", "--cache-to", &to]);
    let expected = host.ok("run --rm made");
    let other = Other::new(&host, "other");
    let said = other.build(&dir, &["-t", "made", "--cache-from", &name]);
    assert_eq!(cached(&said), 4, "{said}");
    assert_eq!(other.ok(&["run", "--rm", "made"]), expected);
    // A machine that fetched only the end of it writes all of it again, also elsewhere.
    let copy = format!("{}/copy:cache", registry.address());
    let third = Other::new(&host, "third");
    let to = format!("type=registry,ref={copy},mode=max");
    third.build(&dir, &["--cache-from", &format!("type=registry,ref={name}"), "--cache-to", &to]);
    host.scratch().write("one/input", "changed\n");
    let fourth = Other::new(&host, "fourth");
    let said = fourth.build(&dir, &["--cache-from", &copy]);
    assert_eq!(cached(&said), 1, "{said}");
}

#[test]
fn an_image_carries_its_own_cache() {
    let host = host!();
    ours_only!(host);
    let Some(registry) = Registry::start() else { return };
    let dir = context(&host, "one");
    let name = format!("{}/app:1", registry.address());
    build(&host, &dir, &["-t", &name, "--cache-to", "type=inline", "--push"]);
    let id = host.ok(&format!("images -q --no-trunc {name}"));
    build(&host, &dir, &["-t", &name, "--build-arg", "BUILDKIT_INLINE_CACHE=1"]);
    assert_eq!(host.ok(&format!("images -q --no-trunc {name}")), id, "the same image again");
    let expected = host.ok(&format!("run --rm {name}"));
    let other = Other::new(&host, "other");
    let said = other.build(&dir, &["-t", "made", "--cache-from", &name]);
    assert_eq!(cached(&said), 4, "{said}");
    assert_eq!(other.ok(&["run", "--rm", "made"]), expected);
    // An image that is here need not be in a registry; one without a cache is no mistake.
    let said = build(&host, &dir, &["--cache-from", "box", "--cache-from", &name]);
    assert!(!said.contains("WARNING") || said.contains("box"), "{said}");
}

#[test]
fn a_bad_cache_is_a_warning() {
    let host = host!();
    ours_only!(host);
    let dir = context(&host, "one");
    let cache = host.scratch().join("cache");
    let to = format!("type=local,dest={},mode=max", cache.display());
    let from = format!("type=local,src={}", cache.display());
    build(&host, &dir, &["--cache-to", &to]);
    let absent = format!("type=local,src={}/absent", cache.display());
    let said = Other::new(&host, "absent").build(&dir, &["--cache-from", &absent]);
    assert!(said.contains("WARNING: it is not used") && cached(&said) == 0, "{said}");
    let said = Other::new(&host, "nowhere").build(&dir, &["--cache-from", "127.0.0.1:1/no/such:cache"]);
    assert!(said.contains("WARNING: it is not used") && cached(&said) == 0, "{said}");
    // Layers that are not what they should be are refused, and made instead.
    for entry in std::fs::read_dir(cache.join("blobs/sha256")).expect("blobs").flatten() {
        let mut bytes = std::fs::read(entry.path()).expect("a blob");
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
            std::fs::write(entry.path(), bytes).expect("damaged");
        }
    }
    let other = Other::new(&host, "damaged");
    let said = other.build(&dir, &["-t", "made", "--cache-from", &from]);
    assert!(said.contains("WARNING: it is not used any more") && cached(&said) == 0, "{said}");
    assert!(other.ok(&["run", "--rm", "made"]).starts_with("in\ntool\n"));
    std::fs::write(cache.join("index.json"), "{").expect("damaged");
    let said = Other::new(&host, "unread").build(&dir, &["--cache-from", &from]);
    assert!(said.contains("WARNING: it is not used"), "{said}");
    // A cache that cannot be written is an error, unless that was said.
    host.scratch().write("file", "");
    let to = format!("type=local,dest={}", host.scratch().join("file").display());
    host.fails_words(1, "exporting the cache", &["build", "--cache-to", &to, &dir]);
    let said = build(&host, &dir, &["--cache-to", &format!("{to},ignore-error=true")]);
    assert!(said.contains("WARNING: it was not written"), "{said}");
}

/// Replaces the document of a cache in a directory by what `change` makes of it, under right digests.
fn forge(cache: &Path, change: impl FnOnce(&mut Value)) {
    let path = |digest: &Value| {
        let digest = digest.as_str().expect("a digest");
        cache.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
    };
    let read = |path: &Path| -> Value {
        serde_json::from_slice(&std::fs::read(path).expect("a document")).expect("JSON")
    };
    let write = |value: &Value, entry: &mut Value| {
        let bytes = value.to_string().into_bytes();
        let hex = fluyt_testkit::images::sha256(&bytes);
        let hex = hex.trim_start_matches("sha256:");
        entry["digest"] = format!("sha256:{hex}").into();
        entry["size"] = bytes.len().into();
        std::fs::write(cache.join("blobs/sha256").join(hex), bytes).expect("written");
    };
    let mut index = read(&cache.join("index.json"));
    let mut manifest = read(&path(&index["manifests"][0]["digest"]));
    let mut config = read(&path(&manifest["config"]["digest"]));
    change(&mut config);
    write(&config, &mut manifest["config"]);
    write(&manifest, &mut index["manifests"][0]);
    std::fs::write(cache.join("index.json"), index.to_string()).expect("written");
}

#[test]
fn a_lying_cache_is_refused() {
    let host = host!();
    ours_only!(host);
    let dir = context(&host, "one");
    let cache = host.scratch().join("cache");
    build(&host, &dir, &["--cache-to", &format!("type=local,dest={},mode=max", cache.display())]);
    let from = format!("type=local,src={}", cache.display());
    // It states another content than its layers have; the base image's layer stays.
    forge(&cache, |config| {
        for layer in config["layers"].as_array_mut().expect("layers").iter_mut().skip(1) {
            *layer = format!("sha256:{}", "1".repeat(64)).into();
        }
    });
    let other = Other::new(&host, "other");
    let said = other.build(&dir, &["-t", "made", "--cache-from", &from]);
    assert!(said.contains("WARNING: it is not used any more") && cached(&said) == 0, "{said}");
    assert!(other.ok(&["run", "--rm", "made"]).starts_with("in\ntool\n"));
    // Its records lead nowhere.
    forge(&cache, |config| config["records"][0]["layers"] = serde_json::json!([99]));
    let said = Other::new(&host, "third").build(&dir, &["--cache-from", &from]);
    assert!(said.contains("a layer that is not there") && cached(&said) == 0, "{said}");
}

#[test]
fn a_cache_says_nothing_about_what_it_was_not_asked() {
    let host = host!();
    ours_only!(host);
    let dir = context(&host, "one");
    let caches = ["good", "evil"].map(|name| host.scratch().join(name));
    let to = |at: usize| format!("type=local,dest={},mode=max", caches[at].display());
    build(&host, &dir, &["--cache-to", &to(0)]);
    host.scratch().write("other/Dockerfile", "FROM box\nRUN echo evil > /evil\n");
    let other_dir = host.scratch().join("other").display().to_string();
    build(&host, &other_dir, &["--cache-to", &to(1)]);
    // The second cache has the keys of the first beside its own.
    let mut keys = Vec::new();
    forge(&caches[0], |config| {
        for record in config["records"].as_array().expect("records") {
            keys.extend(record["keys"].as_array().expect("keys").clone());
        }
    });
    forge(&caches[1], |config| {
        for record in config["records"].as_array_mut().expect("records") {
            record["keys"].as_array_mut().expect("keys").extend(keys.clone());
        }
    });
    let machine = Other::new(&host, "machine");
    machine.build(&other_dir, &["--cache-from", &format!("type=local,src={}", caches[1].display())]);
    let said = machine.build(&dir, &["-t", "made"]);
    assert_eq!(cached(&said), 0, "{said}");
    assert!(machine.ok(&["run", "--rm", "made"]).starts_with("in\ntool\n"));
}

#[test]
fn kinds_of_caches_that_are_not_there_are_refused() {
    let host = host!();
    ours_only!(host);
    let dir = context(&host, "one");
    for (flag, value, expected) in [
        ("--cache-to", "type=gha", "type=gha"),
        ("--cache-from", "type=s3,region=x,bucket=y", "type=s3"),
        ("--cache-to", "type=azblob,name=x", "type=azblob"),
        ("--cache-to", "type=local", "dest is required"),
        ("--cache-from", "type=local,dest=/x", "src is required"),
        ("--cache-to", "type=registry", "ref is required"),
        ("--cache-to", "type=local,dest=/x,mode=most", "unknown mode"),
        ("--cache-to", "type=local,dest=/x,compression=estargz", "estargz"),
        ("--cache-from", "type=nothing", "unknown cache type"),
        ("--cache-from", "src=/x", "type required"),
    ] {
        host.fails_words(1, expected, &["build", flag, value, &dir]);
    }
}

#[test]
fn the_cache_is_left_alone_for_stages_that_say_so() {
    let host = host!();
    ours_only!(host);
    let dir = context(&host, "one");
    build(&host, &dir, &[]);
    let said = build(&host, &dir, &["--no-cache-filter", "tools"]);
    assert!(!said.contains("#0") && cached(&said) == 3, "{said}");
    assert_eq!(cached(&build(&host, &dir, &["--no-cache"])), 0);
    assert_eq!(cached(&build(&host, &dir, &[])), 4);
}
