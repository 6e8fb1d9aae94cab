//! What builds put out: several platforms, indexes, attestations, archives in every form, pushes; and what they need to
//! be granted.

use std::path::Path;
use std::process::Command;

use fluyt_testkit::Host;
use fluyt_testkit::host::finish;
use serde_json::Value;

use crate::served::{Served, installed, ok};
use crate::{host, ours_only};

/// A context with a Dockerfile for every platform that runs nothing.
fn context(host: &Host, name: &str, dockerfile: &str) -> String {
    host.scratch().write(&format!("{name}/Dockerfile"), dockerfile);
    host.scratch().write(&format!("{name}/file"), "content\n");
    host.scratch().join(name).display().to_string()
}

/// Builds quietly; the id.
fn build(host: &Host, dir: &str, flags: &str) -> String {
    let mut words = vec!["build", "-q"];
    words.extend(flags.split_whitespace());
    words.push(dir);
    host.ok_words(&words)
}

fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("a file");
    serde_json::from_str(&text).expect("JSON")
}

/// A blob of a layout in a directory.
fn blob(layout: &Path, digest: &Value) -> Value {
    let hex = digest.as_str().and_then(|d| d.strip_prefix("sha256:")).expect("a digest");
    json(&layout.join("blobs/sha256").join(hex))
}

const PLATFORMS: &str = "--platform linux/amd64,linux/s390x";
const EVERYWHERE: &str = "FROM --platform=$BUILDPLATFORM box AS tools\nARG BUILDPLATFORM\nRUN date +%N > /made\n\
    FROM scratch\nARG TARGETPLATFORM TARGETARCH\nLABEL arch=$TARGETARCH\nCOPY --from=tools /made /made\n\
    COPY <<EOF /platform\n$TARGETPLATFORM\nEOF\nCOPY --from=box / /\nCMD [\"cat\", \"/platform\"]\n";

#[test]
fn several_platforms_become_an_index() {
    let host = host!();
    ours_only!(host);
    // COPY --from=IMAGE is of the target platform: a stage pins it.
    let text = EVERYWHERE.replace("FROM scratch", "FROM --platform=$BUILDPLATFORM box AS base\nFROM scratch");
    let dir = context(&host, "index", &text.replace("--from=box", "--from=base"));
    let out = host.scratch().join("metadata.json");
    let layout = host.scratch().join("layout");
    let tree = host.scratch().join("tree");
    let flags = format!(
        "-t index {PLATFORMS} --metadata-file {} -o type=image -o type=oci,tar=false,dest={} -o type=local,dest={}",
        out.display(),
        layout.display(),
        tree.display()
    );
    build(&host, &dir, &flags);
    let index = json(&out);
    assert_eq!(index["image.name"], "docker.io/library/index:latest");
    assert_eq!(index["containerimage.config.digest"], Value::Null);
    let document = blob(&layout, &index["containerimage.digest"]);
    let platforms: Vec<&Value> = document["manifests"]
        .as_array()
        .expect("manifests")
        .iter()
        .map(|m| &m["platform"]["architecture"])
        .collect();
    assert_eq!(platforms, ["amd64", "s390x"]);
    // What does not depend on the platform was made once.
    let made =
        |platform: &str, name: &str| std::fs::read_to_string(tree.join(platform).join(name)).expect("a file");
    assert_eq!(made("linux_amd64", "made"), made("linux_s390x", "made"));
    assert_eq!(made("linux_s390x", "platform"), "linux/s390x\n");
    // The name stands for this machine's image; the other one is there when it is asked for.
    assert_eq!(host.ok("run --rm index"), "linux/amd64");
    assert_eq!(host.ok("run --rm --pull never --platform linux/s390x index"), "linux/s390x");
    let arch = |flags: &str| host.ok(&format!("image inspect {flags} -f {{{{.Config.Labels.arch}}}} index"));
    assert_eq!((arch(""), arch("--platform linux/s390x")), ("amd64".to_owned(), "s390x".to_owned()));
    host.fails(
        125,
        "does not provide the specified platform",
        "run --rm --pull never --platform linux/arm64 index",
    );
    // Nothing of an index goes while a name stands for it.
    host.ok("builder prune -af");
    host.ok("image prune -f");
    host.ok("tag index other");
    let archive = host.scratch().join("index.tar");
    host.ok(&format!("save -o {} other", archive.display()));
    host.ok("rmi index other");
    host.ok(&format!("load -i {}", archive.display()));
    assert_eq!(host.ok("run --rm --pull never --platform linux/s390x other"), "linux/s390x");
}

#[test]
fn commands_of_other_platforms_need_an_interpreter() {
    let host = host!();
    ours_only!(host);
    let interpreted = std::fs::read_dir("/proc/sys/fs/binfmt_misc")
        .is_ok_and(|entries| entries.flatten().any(|e| e.file_name().to_string_lossy().contains("s390x")));
    if interpreted {
        return fluyt_testkit::skip("this machine runs programs for s390x");
    }
    let dir = context(&host, "foreign", "FROM scratch\nCOPY file /\nRUN [\"/file\"]\n");
    let outcome = host.fails_words(
        1,
        "no interpreter for s390x programs is registered",
        &["build", "--platform", "linux/s390x", &dir],
    );
    assert!(outcome.stderr.contains("Dockerfile:3") && outcome.stderr.contains("hint: "), "{outcome:?}");
}

#[test]
fn attestations_are_laid_out_as_buildkit_does() {
    let host = host!();
    ours_only!(host);
    let text = "FROM box\nARG WHO\nCOPY status /var/lib/dpkg/status\n\
        RUN --mount=type=secret,id=token --network=none cat /run/secrets/token > /dev/null\n";
    let dir = context(&host, "attested", text);
    let package = "Package: thing\nStatus: install ok installed\nVersion: 1.0-1\nArchitecture: amd64\n\n";
    host.scratch().write("attested/status", package);
    host.scratch().write("token", "the-very-secret");
    let layout = host.scratch().join("layout");
    let tree = host.scratch().join("tree");
    let flags = format!(
        "-t attested --secret id=token,src={} --build-arg WHO=somebody --provenance mode=max --sbom=true \
         -o type=oci,tar=false,dest={} -o type=local,dest={} -o type=image",
        host.scratch().join("token").display(),
        layout.display(),
        tree.display()
    );
    build(&host, &dir, &flags);
    let index = blob(&layout, &json(&layout.join("index.json"))["manifests"][0]["digest"]);
    let (image, said) = (&index["manifests"][0], &index["manifests"][1]);
    assert_eq!(said["platform"], serde_json::json!({"architecture": "unknown", "os": "unknown"}));
    assert_eq!(said["annotations"]["vnd.docker.reference.type"], "attestation-manifest");
    assert_eq!(said["annotations"]["vnd.docker.reference.digest"], image["digest"]);
    let manifest = blob(&layout, &said["digest"]);
    let kinds: Vec<&Value> = manifest["layers"]
        .as_array()
        .expect("layers")
        .iter()
        .map(|layer| {
            assert_eq!(layer["mediaType"], "application/vnd.in-toto+json");
            &layer["annotations"]["in-toto.io/predicate-type"]
        })
        .collect();
    assert_eq!(kinds, ["https://spdx.dev/Document", "https://slsa.dev/provenance/v1"]);
    let sbom = blob(&layout, &manifest["layers"][0]["digest"]);
    assert_eq!(sbom["predicate"]["packages"][1]["name"], "thing");
    let provenance = blob(&layout, &manifest["layers"][1]["digest"]);
    assert_eq!(provenance["_type"], "https://in-toto.io/Statement/v0.1");
    assert_eq!(provenance["subject"][0]["name"], "pkg:docker/attested@latest?platform=linux%2Famd64");
    let digest =
        format!("sha256:{}", provenance["subject"][0]["digest"]["sha256"].as_str().expect("a digest"));
    assert_eq!(image["digest"], digest);
    let request = &provenance["predicate"]["buildDefinition"]["externalParameters"]["request"];
    assert_eq!(request["args"]["build-arg:WHO"], "somebody");
    assert_eq!(request["secrets"][0]["id"], "token");
    let text = std::fs::read_to_string(tree.join("provenance.json")).expect("a file beside the others");
    assert!(text.contains("llbDefinition") && !text.contains("the-very-secret"));
    assert!(tree.join("sbom.spdx.json").exists() && tree.join("bin/busybox").exists());
    // The least of it says nothing of arguments; and version 0.2 has other fields.
    let small = host.scratch().join("small");
    let secret = host.scratch().join("token");
    let flags = format!(
        "--secret id=token,src={} --build-arg WHO=somebody --attest type=provenance,mode=min,version=v0.2 -o {}",
        secret.display(),
        small.display()
    );
    build(&host, &dir, &flags);
    let text = std::fs::read_to_string(small.join("provenance.json")).expect("a file");
    assert!(text.contains("https://slsa.dev/provenance/v0.2") && text.contains("\"materials\""));
    assert!(!text.contains("somebody") && !text.contains("llbDefinition"));
    // What has attestations is an image like any other.
    let status = host.ok("run --rm attested cat /var/lib/dpkg/status");
    assert!(status.starts_with("Package: thing"), "{status}");
}

#[test]
fn annotations_come_where_they_belong() {
    let host = host!();
    ours_only!(host);
    let dir = context(&host, "noted", "FROM scratch\nCOPY file /\n");
    let layout = host.scratch().join("layout");
    let flags = format!(
        "{PLATFORMS} --annotation all=1 --annotation index:top=2 --annotation manifest[linux/s390x]:one=3 \
         --annotation manifest-descriptor:said=4 -o type=oci,tar=false,dest={},annotation.own=5",
        layout.display()
    );
    build(&host, &dir, &flags);
    let index = blob(&layout, &json(&layout.join("index.json"))["manifests"][0]["digest"]);
    assert_eq!(index["annotations"], serde_json::json!({"top": "2"}));
    let notes = |at: usize| blob(&layout, &index["manifests"][at]["digest"])["annotations"].clone();
    assert_eq!(notes(0), serde_json::json!({"all": "1", "own": "5"}));
    assert_eq!(notes(1), serde_json::json!({"all": "1", "one": "3", "own": "5"}));
    assert_eq!(index["manifests"][0]["annotations"]["said"], "4");
    host.fails_words(1, "index annotations not supported", &["build", "--annotation", "index:a=b", &dir]);
    host.fails_words(1, "expected key=value", &["build", "--annotation", "a", &dir]);
}

#[test]
fn privileges_of_steps_must_be_granted() {
    let host = host!();
    ours_only!(host);
    let insecure =
        context(&host, "insecure", "FROM box\nRUN --security=insecure --network=none mknod /n b 1 1\n");
    let outcome = host.fails_words(1, "security.insecure is not allowed", &["build", &insecure]);
    assert!(outcome.stderr.contains("Dockerfile:2"), "{outcome:?}");
    build(&host, &insecure, "--allow security.insecure");
    let network = context(&host, "network", "FROM box\nRUN --network=host true\n");
    host.fails_words(1, "network.host is not allowed", &["build", &network]);
    build(&host, &network, "--allow network.host");
    build(&host, &network, "--no-cache --network host");
    host.fails_words(1, "invalid entitlement", &["build", "--allow", "everything", &network]);
}

#[test]
fn archives_come_in_every_form() {
    let host = host!();
    ours_only!(host);
    let dir = context(&host, "forms", "FROM box\nCOPY file /\nCMD cat /file\n");
    let at = |name: &str| host.scratch().join(name).display().to_string();
    for (compression, kind) in [("gzip", "tar+gzip"), ("zstd", "tar+zstd"), ("uncompressed", "tar")] {
        for force in [false, true] {
            let layout = at(&format!("{compression}-{force}"));
            let flags = format!(
                "-t forms -o type=oci,tar=false,dest={layout},compression={compression},force-compression={force}"
            );
            build(&host, &dir, &flags);
            let layout = Path::new(&layout);
            let manifest = blob(layout, &json(&layout.join("index.json"))["manifests"][0]["digest"]);
            let kinds: Vec<&str> = manifest["layers"]
                .as_array()
                .expect("layers")
                .iter()
                .filter_map(|layer| {
                    layer["mediaType"].as_str()?.strip_prefix("application/vnd.oci.image.layer.v1.")
                })
                .collect();
            // The base came uncompressed and stays so if nobody forces it.
            let base = if force { kind } else { "tar" };
            assert_eq!(kinds, [base, kind], "{compression} {force}");
            if compression == "zstd" && force {
                host.ok(&format!("load -i {}", layout.display()));
                assert_eq!(host.ok("run --rm forms"), "content");
            }
        }
    }
    let docker = at("docker.tar");
    let flags = format!(
        "-t forms:d -o type=docker,dest={docker},oci-mediatypes=false -o type=tar,dest={}",
        at("f.tar")
    );
    build(&host, &dir, &flags);
    if installed("skopeo") {
        let text = ok("skopeo", &format!("inspect --raw docker-archive:{docker}"));
        assert!(text.contains("manifest.v2+json"), "{text}");
    }
    let bad = |value: &str, needle: &str| drop(host.fails_words(1, needle, &["build", "-o", value, &dir]));
    bad("type=image,compression=estargz", "estargz");
    bad("type=image,compression=zstd,oci-mediatypes=false", "conflicts with");
    bad("type=image,compresion=zstd", "unknown option");
    let twice = format!("type=docker,dest={docker}");
    host.fails_words(
        1,
        "manifest lists",
        &[
            "build",
            "--platform",
            "linux/amd64,linux/arm64",
            "-o",
            &twice,
            &context(&host, "plain", "FROM scratch\nCOPY file /\n"),
        ],
    );
}

#[test]
fn a_build_is_the_same_in_another_place() {
    let host = host!();
    ours_only!(host);
    let text = "FROM box\nWORKDIR /a/b\nCOPY file .\nRUN --network=none date +%N > now; rm now; mkdir d; ln -s d e; touch d/f; rm -r /root\n\
        RUN --network=none echo x > /etc/made; chmod 4755 /etc/made; ln /etc/made d/hard; setfattr -n user.a -v b d/f 2>/dev/null || true\n";
    let dir = context(&host, "same", text);
    let second = host.scratch().join("second").display().to_string();
    let image = host.scratch().join("box.tar").display().to_string();
    host.ok(&format!("save -o {image} box"));
    host.ok(&format!("--root {second} load -i {image}"));
    let digest = |root: &str, name: &str, more: &str| {
        let out = host.scratch().join(name);
        let line = format!(
            "{root} build -q --no-cache --build-arg SOURCE_DATE_EPOCH=1700000000 --metadata-file {} {more} {dir}",
            out.display()
        );
        host.ok(&line);
        json(&out)["containerimage.digest"].clone()
    };
    for more in ["-t same", "-o type=oci,dest=same.tar,name=same,rewrite-timestamp=true,compression=zstd"] {
        let one = digest("", "one.json", more);
        // Another second, other inodes, other times of the context.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        host.scratch().write("same/file", "content\n");
        assert_eq!(digest(&format!("--root {second}"), "two.json", more), one, "{more}");
    }
    host.ok(&format!("--root {second} system reset --force"));
}

#[test]
fn what_is_built_is_pushed_as_it_is() {
    let host = host!();
    ours_only!(host);
    let dir = context(&host, "pushed", "FROM scratch\nARG TARGETARCH\nCOPY <<EOF /arch\n$TARGETARCH\nEOF\n");
    let served = Served::start(&host, &[]);
    let address = &served.address;
    let out = host.scratch().join("metadata.json");
    let flags = format!(
        "-t {address}/all:1 {PLATFORMS} --provenance=true --metadata-file {} \
         -o type=registry,compression=uncompressed,annotation-index.a=b",
        out.display()
    );
    build(&host, &dir, &flags);
    let raw = served.ask("GET", "/v2/all/manifests/1");
    let body = raw.split_once("\r\n\r\n").expect("a body").1;
    let index: Value = serde_json::from_str(body).expect("an index");
    let digest = json(&out)["containerimage.digest"].as_str().expect("a digest").to_owned();
    assert!(raw.contains(&digest), "{raw}");
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(4));
    assert_eq!(index["annotations"]["a"], "b");
    let first = index["manifests"][0]["digest"].as_str().expect("a digest");
    assert!(served.ask("GET", &format!("/v2/all/manifests/{first}")).contains("image.layer.v1.tar\""));
    // By digest only; then the name again, from the store, with all of its platforms.
    build(&host, &dir, &format!("-o type=image,name={address}/digest,push-by-digest=true,push=true"));
    assert!(served.ask("GET", "/v2/digest/tags/list").contains("\"tags\":[]"));
    build(&host, &dir, &format!("-t {address}/again:1 {PLATFORMS} --metadata-file {}", out.display()));
    let digest = json(&out)["containerimage.digest"].as_str().expect("a digest").to_owned();
    let line = host.ok(&format!("push {address}/again:1"));
    assert!(line.contains(&digest), "{line}");
    let line = host.ok(&format!("push --platform linux/s390x {address}/again:1"));
    assert!(line.contains("digest: sha256:") && !line.contains(&digest), "{line}");
    let alone = served.ask("GET", "/v2/again/manifests/1");
    assert!(alone.contains("image.manifest.v1+json") && !alone.contains("\"manifests\""), "{alone}");
    // Others read it.
    if installed("skopeo") {
        let flags = "--tls-verify=false --override-arch s390x";
        let text = ok("skopeo", &format!("inspect {flags} docker://{address}/all:1"));
        assert!(text.contains("\"Architecture\": \"s390x\""), "{text}");
        let target = host.scratch().join("copied").display().to_string();
        ok("skopeo", &format!("copy --all --src-tls-verify=false docker://{address}/all:1 oci:{target}:x"));
    }
    host.fails_words(1, "tag is needed", &["build", "--push", &dir]);
}

#[test]
fn other_programs_load_what_is_built() {
    let host = host!();
    ours_only!(host);
    if !installed("podman") {
        return fluyt_testkit::skip("needs podman");
    }
    let dir = context(&host, "others", "FROM box\nCOPY file /\nCMD [\"cat\", \"/file\"]\n");
    let at = |name: &str| host.scratch().join(name).display().to_string();
    let flags = format!(
        "-t others:1 --sbom=true -o type=oci,dest={} -o type=docker,dest={}",
        at("oci"),
        at("docker")
    );
    build(&host, &dir, &flags);
    let podman = format!("--root {} --runroot {} --storage-driver vfs", at("podman"), at("podman-run"));
    for archive in ["oci", "docker"] {
        let mut command = Command::new("podman");
        command.args(podman.split_whitespace()).args(["load", "-q", "-i", &at(archive)]);
        let outcome = finish(&mut command, b"", 120);
        assert!(outcome.code == 0 && outcome.stdout.contains("others:1"), "{archive}: {outcome:?}");
        ok("podman", &format!("{podman} rmi -f -a"));
    }
}
