//! Images of other programs: what podman, skopeo and buildah write is loaded, what is saved here is loaded by them.

use std::path::{Path, PathBuf};
use std::process::Command;

use fluyt_testkit::images::{Entry, busybox_entries, docker_archive, gzip, tar};
use fluyt_testkit::{Host, Scratch};
use serde_json::{Value, json};

use crate::{PROGRAM, ours_only};

/// Other programs with a storage of their own below one directory.
struct Others {
    scratch: Scratch,
}

impl Others {
    /// None (said as a skip) without the programs.
    fn new(needed: &[&str]) -> Option<Self> {
        for program in needed {
            if Command::new(program).arg("--version").output().is_err() {
                fluyt_testkit::skip(&format!("{program} is not installed"));
                return None;
            }
        }
        let scratch = Scratch::new("others");
        scratch.write("policy.json", r#"{"default": [{"type": "insecureAcceptAnything"}]}"#);
        Some(Self { scratch })
    }

    fn path(&self, name: &str) -> String {
        self.scratch.join(name).display().to_string()
    }

    /// Runs one that must succeed; its output.
    fn ok(&self, program: &str, words: &[&str]) -> String {
        let mut command = Command::new(program);
        let (root, run, tmp) = (self.path("storage"), self.path("storage-run"), self.path("tmp"));
        std::fs::create_dir_all(&tmp).expect("a directory");
        let policy = self.path("policy.json");
        match program {
            "podman" => {
                // crun is what Debian's podman would choose; it is never run here.
                command.args([
                    "--root",
                    &root,
                    "--runroot",
                    &run,
                    "--storage-driver",
                    "vfs",
                    "--events-backend",
                    "none",
                ]);
                command.args(["--cgroup-manager", "cgroupfs", "--tmpdir", &tmp]);
            }
            "buildah" => {
                command.args(["--root", &root, "--runroot", &run, "--storage-driver", "vfs"]);
            }
            "skopeo" => {
                command.args(["--policy", &policy, "--tmpdir", &tmp]);
            }
            other => panic!("who is {other}?"),
        }
        let output = command.args(words).env("TMPDIR", &tmp).env("HOME", &tmp).output().expect("installed");
        assert!(
            output.status.success(),
            "{program} {words:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

/// An archive of an image with two layers, a whiteout among them, and a configuration worth comparing.
fn sample(tag: &str) -> Vec<u8> {
    let mut base = busybox_entries();
    base.push(Entry::File("gone".into(), 0o644, b"gone".to_vec()));
    let upper = [
        Entry::File(".wh.gone".into(), 0o644, vec![]),
        Entry::File("second".into(), 0o4711, b"2\n".to_vec()),
        Entry::Symlink("link".into(), "second".into()),
    ];
    let config = json!({
        "Cmd": ["cat", "/link"], "Env": ["PATH=/bin", "A=b c"], "WorkingDir": "/usr", "Labels": {"l": "v"},
        "ExposedPorts": {"80/tcp": {}}, "User": "root", "StopSignal": "SIGINT", "Volumes": {"/data": {}},
    });
    docker_archive(tag, &[tar(&base), tar(&upper)], &config)
}

/// That the image is whole here: it runs, its layers are stacked rightly, its configuration has come along.
fn is_the_sample(host: &Host, name: &str) {
    assert_eq!(host.ok(&format!("run --rm {name}")), "2", "{name}");
    let script = "test -e /gone || echo gone; stat -c %a /second; pwd; echo $A";
    assert_eq!(host.ok_words(&["run", "--rm", name, "sh", "-c", script]), "gone\n4711\n/usr\nb c", "{name}");
    let config: Value =
        serde_json::from_str(&host.ok_words(&["image", "inspect", "-f", "{{json .Config}}", name]))
            .expect("JSON");
    for (key, wanted) in [
        ("Cmd", json!(["cat", "/link"])),
        ("Labels", json!({"l": "v"})),
        ("ExposedPorts", json!({"80/tcp": {}})),
        ("StopSignal", json!("SIGINT")),
        ("Volumes", json!({"/data": {}})),
    ] {
        assert_eq!(config[key], wanted, "{name}: {key}");
    }
}

fn load(host: &Host, file: &Path) -> String {
    host.ok_words(&["load", "-i", file.to_str().expect("a path")])
}

#[test]
fn what_podman_saves_is_loaded() {
    let Some(host) = Host::new(PROGRAM) else { return };
    ours_only!(host);
    let Some(others) = Others::new(&["podman"]) else { return };
    let file = others.scratch.write("in.tar", sample("example.org/sample:1"));
    others.ok("podman", &["load", "-q", "-i", file.to_str().expect("a path")]);
    let mut ids = Vec::new();
    for format in ["docker-archive", "oci-archive"] {
        let out = others.path(&format!("{format}.tar"));
        others.ok("podman", &["save", "-q", "--format", format, "-o", &out, "example.org/sample:1"]);
        for compress in ["", "gz", "zst"] {
            let said = load(&host, &compressed(Path::new(&out), compress));
            assert!(said.contains("example.org/sample:1"), "{format} {compress}: {said}");
            ids.push(host.ok("images -q --no-trunc example.org/sample:1"));
            is_the_sample(&host, "example.org/sample:1");
            host.ok("rmi example.org/sample:1");
        }
    }
    assert_eq!(ids[0], ids[1], "compression of the whole archive changes nothing");
    // Several images in one archive.
    others.ok("podman", &["tag", "example.org/sample:1", "example.org/other:2"]);
    let both = others.path("both.tar");
    others.ok("podman", &["save", "-q", "-m", "-o", &both, "example.org/sample:1", "example.org/other:2"]);
    let said = load(&host, Path::new(&both));
    assert!(said.contains("example.org/sample:1") && said.contains("example.org/other:2"), "{said}");
    is_the_sample(&host, "example.org/other:2");
    // And a directory packed by hand.
    let directory = others.path("oci-dir");
    others.ok("podman", &["save", "-q", "--format", "oci-dir", "-o", &directory, "example.org/sample:1"]);
    let packed = others.path("oci-dir.tar");
    let status = Command::new("tar").args(["-C", &directory, "-cf", &packed, "."]).status().expect("tar");
    assert!(status.success());
    host.ok("rmi example.org/sample:1 example.org/other:2");
    let said = load(&host, Path::new(&packed));
    let name = said.rsplit(' ').next().expect("an id or a name").to_owned();
    is_the_sample(&host, &name);
    assert_eq!(host.run("system fsck").code, 0);
}

/// The file compressed as a whole; itself for the empty name.
fn compressed(file: &Path, how: &str) -> PathBuf {
    let program = match how {
        "" => return file.to_owned(),
        "gz" => "gzip",
        _ => "zstd",
    };
    let out = PathBuf::from(format!("{}.{how}", file.display()));
    let sink = std::fs::File::create(&out).expect("a file");
    let status =
        Command::new(program).arg("-c").arg(file).stdout(sink).stderr(std::process::Stdio::null()).status();
    assert!(status.expect("a compressor").success());
    out
}

#[test]
fn what_skopeo_copies_is_loaded_in_every_form() {
    let Some(host) = Host::new(PROGRAM) else { return };
    ours_only!(host);
    let Some(others) = Others::new(&["skopeo"]) else { return };
    let file = others.scratch.write("in.tar", sample("example.org/sample:1"));
    let source = format!("docker-archive:{}", file.display());
    let out = others.path("out.tar");
    // An OCI archive keeps the layers' compression, a Docker archive has plain ones.
    for (target, flags) in [
        ("docker-archive", &[][..]),
        ("oci-archive", &["--dest-compress-format", "gzip"][..]),
        ("oci-archive", &["--dest-compress-format", "zstd"][..]),
        ("oci-archive", &["--dest-decompress"][..]),
        ("oci-archive", &["--dest-oci-accept-uncompressed-layers"][..]),
    ] {
        let reference = if target == "docker-archive" { "example.org/sample:1" } else { "1" };
        let destination = format!("{target}:{out}:{reference}");
        let mut words = vec!["copy", "-q"];
        words.extend(flags);
        words.extend([source.as_str(), destination.as_str()]);
        others.ok("skopeo", &words);
        let said = load(&host, Path::new(&out));
        let name = said.rsplit(' ').next().expect("a name").to_owned();
        is_the_sample(&host, &name);
        host.ok("image prune -a -f");
        std::fs::remove_file(&out).expect("removed");
    }
    assert_eq!(host.run("system fsck").code, 0);
}

#[test]
fn what_skopeo_pushes_is_pulled_in_every_form() {
    let Some(host) = Host::new(PROGRAM) else { return };
    ours_only!(host);
    let Some(others) = Others::new(&["skopeo"]) else { return };
    let Some(registry) = fluyt_testkit::registry::Registry::start() else { return };
    let file = others.scratch.write("in.tar", sample("example.org/sample:1"));
    let source = format!("docker-archive:{}", file.display());
    for (n, (format, compression)) in
        [("v2s2", "gzip"), ("oci", "gzip"), ("oci", "zstd"), ("v2s2", "")].into_iter().enumerate()
    {
        let name = format!("{}/sample/{format}{n}:1", registry.address());
        let destination = format!("docker://{name}");
        let mut words = vec!["copy", "-q", "--dest-tls-verify=false", "--format", format];
        if compression.is_empty() {
            words.push("--dest-decompress");
        } else {
            words.extend(["--dest-compress-format", compression]);
        }
        words.extend([source.as_str(), destination.as_str()]);
        others.ok("skopeo", &words);
        host.ok(&format!("pull -q {name}"));
        is_the_sample(&host, &name);
        host.ok("image prune -a -f");
    }
    // And the other way: skopeo verifies every digest of what is pushed here.
    assert_eq!(host.run_with_input(&["load"], &sample("example.org/sample:1")).code, 0);
    let name = format!("{}/sample/ours:1", registry.address());
    host.ok(&format!("tag example.org/sample:1 {name}"));
    host.ok(&format!("push -q {name}"));
    let copy = format!("dir:{}", others.path("copy"));
    others.ok("skopeo", &["copy", "-q", "--src-tls-verify=false", &format!("docker://{name}"), &copy]);
    let inspected =
        others.ok("skopeo", &["inspect", "--config", "--tls-verify=false", &format!("docker://{name}")]);
    let inspected: Value = serde_json::from_str(&inspected).expect("JSON");
    assert_eq!(inspected["config"]["StopSignal"], "SIGINT", "{inspected}");
}

#[test]
fn what_buildah_commits_is_loaded() {
    let Some(host) = Host::new(PROGRAM) else { return };
    ours_only!(host);
    let Some(others) = Others::new(&["buildah"]) else { return };
    let file = others.scratch.write("in.tar", sample("example.org/sample:1"));
    let container = others.ok("buildah", &["from", "-q", &format!("docker-archive:{}", file.display())]);
    let more = others.scratch.write("third", "3\n");
    others.ok("buildah", &["copy", "-q", &container, more.to_str().expect("a path"), "/third"]);
    others.ok("buildah", &["config", "--label", "more=1", "--cmd", "cat /third", &container]);
    for format in ["oci", "docker"] {
        let name = format!("example.org/built-{format}:1");
        others.ok("buildah", &["commit", "-q", "--format", format, &container, &name]);
        let out = others.path(&format!("{format}.tar"));
        others.ok("buildah", &["push", "-q", &name, &format!("{format}-archive:{out}:{name}")]);
        let said = load(&host, Path::new(&out));
        assert!(said.contains(&name), "{said}");
        assert_eq!(host.ok(&format!("run --rm {name}")), "3");
        assert_eq!(
            host.ok_words(&["run", "--rm", &name, "sh", "-c", "cat /link; test -e /gone || echo gone"]),
            "2\ngone"
        );
    }
}

#[test]
fn what_is_saved_here_is_loaded_by_others() {
    let Some(host) = Host::new(PROGRAM) else { return };
    ours_only!(host);
    let Some(others) = Others::new(&["podman", "skopeo"]) else { return };
    assert_eq!(host.run_with_input(&["load"], &gzip(&sample("example.org/sample:1"))).code, 0);
    // One layer more, made here.
    let id = host.ok_words(&["create", "example.org/sample:1", "sh", "-c", "echo 3 > /third; rm /second"]);
    host.ok(&format!("start -a {id}"));
    host.ok(&format!("commit {id} example.org/ours:1"));
    host.ok(&format!("rm {id}"));
    let layers = host.ok_words(&["image", "inspect", "-f", "{{json .RootFS.Layers}}", "example.org/ours:1"]);
    let out = others.path("ours.tar");
    host.ok_words(&["save", "-o", &out, "example.org/ours:1"]);
    // One archive, both forms. skopeo compares each layer with its digest and its diff id.
    for format in ["docker-archive", "oci-archive"] {
        let reference = format!("{format}:{out}");
        let inspected: Value =
            serde_json::from_str(&others.ok("skopeo", &["inspect", "--config", &reference])).expect("JSON");
        assert_eq!(inspected["rootfs"]["diff_ids"].to_string(), layers.replace(", ", ","), "{format}");
        others.ok(
            "skopeo",
            &["copy", "-q", &reference, &format!("dir:{}", others.path(&format!("copy-{format}")))],
        );
    }
    let said = others.ok("podman", &["load", "-q", "-i", &out]);
    assert!(said.contains("example.org/ours:1"), "{said}");
    let container = others.ok("podman", &["create", "--network", "none", "example.org/ours:1", "true"]);
    let tree = others.ok("podman", &["mount", &container]);
    assert_eq!(std::fs::read_to_string(Path::new(&tree).join("third")).expect("a file"), "3\n");
    for gone in ["second", "gone"] {
        assert!(!Path::new(&tree).join(gone).exists(), "{gone} was deleted");
    }
    others.ok("podman", &["umount", &container]);
    others.ok("podman", &["rm", "-f", &container]);
    others.ok("podman", &["rmi", "-f", "example.org/ours:1"]);
}
