//! `manifest` and `imagetools`: lists made here and pushed, beside docker's client; indexes of several repositories.

use std::process::Command;

use fluyt_testkit::Host;
use fluyt_testkit::host::finish;
use fluyt_testkit::registry::Registry;
use fluyt_testkit::skip;
use serde_json::Value;

use crate::{host, ours_only};

/// Pushes two images with platforms of their own, to two repositories; their names.
fn two_images(host: &Host, address: &str) -> [String; 2] {
    let names = [format!("{address}/a/one:amd"), format!("{address}/b/two:arm")];
    let context = host.scratch().join("context");
    std::fs::create_dir_all(&context).expect("a directory");
    for (name, platform) in names.iter().zip(["linux/amd64", "linux/arm64"]) {
        let file = format!("FROM scratch\nCOPY Dockerfile /{}\n", platform.replace('/', "-"));
        std::fs::write(context.join("Dockerfile"), file).expect("written");
        host.ok(&format!("build -q --platform {platform} -t {name} {}", context.display()));
        host.ok(&format!("push {name}"));
    }
    names
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn lists_are_made_annotated_pushed_and_forgotten() {
    let host = host!();
    ours_only!(host);
    let Some(registry) = Registry::start() else { return };
    let [one, two] = two_images(&host, registry.address());
    let list = format!("{}/c/list:1", registry.address());
    host.fails(1, "No such manifest", &format!("manifest push {list}"));
    assert_eq!(host.run(&format!("manifest exists {list}")).code, 1);
    let said = host.ok(&format!("manifest create {list} {one} {two}"));
    assert_eq!(said, format!("Created manifest list {list}"));
    host.fails(1, "no --amend flag", &format!("manifest create {list} {one}"));
    host.ok(&format!("manifest annotate --variant v8 --os-features a,b {list} {two}"));
    host.ok(&format!("manifest exists {list}"));
    let local = host.ok(&format!("manifest inspect {list}"));
    let platform = &json(&local)["manifests"][1]["platform"];
    assert_eq!(platform["variant"], "v8");
    assert_eq!(platform["os.features"][1], "b");
    // What the list needs stays, whatever else goes.
    host.ok("image prune -a -f");
    let pushed = host.ok(&format!("manifest push --purge {list}"));
    let digest = pushed.lines().last().expect("a digest").to_owned();
    assert!(digest.starts_with("sha256:") && pushed.contains("Pushed ref"), "{pushed}");
    assert_eq!(host.ok(&format!("manifest inspect {list}")), local, "the registry has what was here");
    host.fails(1, "No such manifest", &format!("manifest rm {list}"));
    host.ok(&format!("pull --platform linux/arm64 {list}"));
    assert_eq!(host.ok_words(&["image", "inspect", "-f", "{{.Architecture}}", &list]), "arm64");
    let verbose = json(&host.ok(&format!("manifest inspect -v {list}")));
    assert_eq!(verbose[0]["Descriptor"]["platform"]["architecture"], "amd64");
    assert_eq!(verbose.as_array().map(Vec::len), Some(2));
}

#[test]
fn docker_s_client_makes_the_same_list() {
    let host = host!();
    ours_only!(host);
    let Some(registry) = Registry::start() else { return };
    let mut docker = Command::new("docker");
    let ready = docker.arg("--version").output().is_ok_and(|o| o.status.success());
    if !ready {
        return skip("docker is not installed");
    }
    let [one, two] = two_images(&host, registry.address());
    let (ours, theirs) =
        (format!("{}/ours:1", registry.address()), format!("{}/theirs:1", registry.address()));
    let home = host.scratch().join("home");
    let docker = |line: &str| {
        let mut command = Command::new("docker");
        command.args(line.split_whitespace()).env("HOME", &home).env("DOCKER_CONFIG", home.join(".docker"));
        finish(&mut command, b"", 60)
    };
    let _ = docker(&format!("manifest create --insecure {theirs} {one} {two}")).success();
    let _ = docker(&format!("manifest annotate --os-version 9 {theirs} {two}")).success();
    host.ok(&format!("manifest create {ours} {one} {two}"));
    host.ok(&format!("manifest annotate --os-version 9 {ours} {two}"));
    let their_digest = docker(&format!("manifest push --insecure {theirs}")).success();
    let our_digest = host.ok(&format!("manifest push {ours}"));
    assert_eq!(our_digest.lines().last(), their_digest.trim().lines().last(), "the same bytes");
    let mut seen = Vec::new();
    for flags in ["", "-v"] {
        let theirs = docker(&format!("manifest inspect --insecure {flags} {theirs}")).success();
        let ours = host.ok(&format!("manifest inspect {flags} {ours}"));
        assert_eq!(ours.replace("/ours:1", "/theirs:1").replace("/ours@", "/theirs@").trim(), theirs.trim());
        seen.push(ours);
    }
}

#[test]
fn podman_s_verbs_and_images_of_this_store() {
    let host = host!();
    ours_only!(host);
    let Some(registry) = Registry::start() else { return };
    let list = "example.invalid/list:1";
    host.ok(&format!("manifest create {list}"));
    host.ok("tag box 127.0.0.1:1/local:1");
    host.ok(&format!("manifest add --annotation x=y {list} 127.0.0.1:1/local:1"));
    let seen = json(&host.ok(&format!("manifest inspect {list}")));
    assert_eq!(seen["mediaType"], "application/vnd.oci.image.index.v1+json", "annotations need OCI's");
    assert_eq!(seen["manifests"][0]["annotations"]["x"], "y");
    let there = format!("{}/list:1", registry.address());
    host.ok(&format!("manifest push --all {list} docker://{there}"));
    host.ok(&format!("pull {there}"));
    assert_eq!(host.ok(&format!("run --rm {there} echo ran")), "ran");
    let [one, _] = two_images(&host, registry.address());
    host.fails(1, "is a manifest list", &format!("manifest add {list} {there}"));
    host.ok(&format!("manifest add --all {list} {there}"));
    host.ok(&format!("manifest add --arch arm --variant v7 {list} docker://{one}"));
    let digest = json(&host.ok(&format!("manifest inspect {list}")))["manifests"][0]["digest"].clone();
    host.ok(&format!("manifest remove {list} {}", digest.as_str().expect("a digest")));
    let left = json(&host.ok(&format!("manifest inspect {list}")));
    assert_eq!(left["manifests"].as_array().map(Vec::len), Some(1));
    assert_eq!(left["manifests"][0]["platform"]["variant"], "v7");
    host.ok(&format!("manifest rm {list}"));
}

#[test]
fn imagetools_makes_indexes_in_the_registry() {
    let host = host!();
    ours_only!(host);
    let (Some(registry), Some(other)) = (Registry::start(), Registry::start()) else { return };
    let [one, two] = two_images(&host, registry.address());
    let index = format!("{}/all:1", registry.address());
    let dry = json(&host.ok(&format!("imagetools create --dry-run {one} {two}")));
    assert_eq!(dry["manifests"][1]["platform"]["architecture"], "arm64");
    host.fails(1, "no tags specified", &format!("imagetools create {one}"));
    host.ok(&format!("buildx imagetools create -t {index} {one}"));
    host.ok(&format!("imagetools create --append -t {index} {two} --annotation index:org.x=1"));
    let raw = json(&host.ok(&format!("imagetools inspect --raw {index}")));
    assert_eq!(raw["annotations"]["org.x"], "1");
    assert_eq!(raw["manifests"].as_array().map(Vec::len), Some(2));
    let overview = host.ok(&format!("imagetools inspect {index}"));
    assert!(overview.contains("Platform:    linux/arm64") && overview.contains(&index), "{overview}");
    let template = "{{.Name}} {{.Manifest.digest}} {{json (index .Image \"linux/arm64\").architecture}}";
    let said = host.ok_words(&["imagetools", "inspect", "--format", template, &index]);
    assert!(said.starts_with(&format!("{index} sha256:")) && said.ends_with("\"arm64\""), "{said}");
    // To another registry, whole; and one image as it is.
    let moved = format!("{}/moved:1", other.address());
    host.ok(&format!("imagetools create -t {moved} {index}"));
    assert_eq!(json(&host.ok(&format!("imagetools inspect --raw {moved}"))), raw);
    host.ok(&format!("pull --platform linux/arm64 {moved}"));
    host.ok(&format!("imagetools create --prefer-index=false -t {moved} {one}"));
    let single = json(&host.ok(&format!("imagetools inspect --raw {moved}")));
    assert!(single.get("layers").is_some(), "{single}");
    let file = host.scratch().write("d.json", format!("{{\"digest\":{}}}", raw["manifests"][0]["digest"]));
    host.ok(&format!("imagetools create -t {index} -f {}", file.display()));
    host.fails(1, "not found", &format!("imagetools create -t {index} {}/none:1", registry.address()));
}
