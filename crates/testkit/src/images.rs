//! Images made in code: busybox as a root file system, as a docker-archive and as an OCI layout.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// One entry of a layer.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A directory with its mode.
    Directory(&'static str, u32),
    /// A file with its mode and content.
    File(String, u32, Vec<u8>),
    /// A symbolic link and what it says.
    Symlink(String, String),
}

/// The root file system that tests use: busybox with every applet, users, and the directories that programs expect.
///
/// # Panics
/// busybox is not installed.
#[must_use]
pub fn busybox_entries() -> Vec<Entry> {
    let program = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists());
    let program = program.expect("busybox-static is installed");
    let mut entries = vec![];
    for (path, mode) in [
        ("bin", 0o755),
        ("dev", 0o755),
        ("etc", 0o755),
        ("home", 0o755),
        ("proc", 0o755),
        ("root", 0o700),
        ("sys", 0o755),
        ("tmp", 0o1777),
        ("usr", 0o755),
        ("usr/bin", 0o755),
        ("var", 0o755),
        ("var/www", 0o755),
    ] {
        entries.push(Entry::Directory(path, mode));
    }
    entries.push(Entry::File("bin/busybox".into(), 0o755, fs::read(program).expect("busybox can be read")));
    let applets = Command::new(program).arg("--list").output().expect("busybox lists its applets");
    for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|a| *a != "busybox") {
        entries.push(Entry::Symlink(format!("bin/{applet}"), "busybox".into()));
    }
    let mut file = |path: &str, mode: u32, text: &str| {
        entries.push(Entry::File(path.into(), mode, text.as_bytes().to_vec()));
    };
    file(
        "etc/passwd",
        0o644,
        "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33:www:/var/www:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n",
    );
    file("etc/group", 0o644, "root:x:0:\nwww:x:33:\nuser:x:1000:\nextra:x:2000:user\n");
    file("etc/not-a-program", 0o644, "words\n");
    entries
}

/// `entries` as a tar archive.
///
/// # Panics
/// A name does not fit into a tar header.
#[must_use]
pub fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(1_700_000_000);
        header.set_size(0);
        let done = match entry {
            Entry::Directory(path, mode) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(*mode);
                builder.append_data(&mut header, format!("{path}/"), std::io::empty())
            }
            Entry::File(path, mode, content) => {
                header.set_mode(*mode);
                header.set_size(content.len() as u64);
                builder.append_data(&mut header, path, content.as_slice())
            }
            Entry::Symlink(path, target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                builder.append_link(&mut header, path, target)
            }
        };
        done.expect("an entry fits into a tar header");
    }
    builder.into_inner().expect("a tar archive in memory")
}

/// Hexadecimal SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// The image configuration of `layers` (uncompressed tar archives) with `config` as its run-time part.
#[must_use]
pub fn image_config(layers: &[Vec<u8>], config: &Value) -> Value {
    let ids: Vec<String> = layers.iter().map(|l| format!("sha256:{}", sha256(l))).collect();
    let history: Vec<Value> = layers.iter().map(|_| json!({"created_by": "testkit"})).collect();
    json!({
        "architecture": "amd64", "os": "linux", "created": "2023-11-14T22:13:20Z", "config": config,
        "rootfs": {"type": "layers", "diff_ids": ids}, "history": history,
    })
}

/// What `docker save` writes: a tar archive with manifest.json.
#[must_use]
pub fn docker_archive(tag: &str, layers: &[Vec<u8>], config: &Value) -> Vec<u8> {
    let config = image_config(layers, config).to_string().into_bytes();
    let config_name = format!("{}.json", sha256(&config));
    let names: Vec<String> = layers.iter().map(|l| format!("{}/layer.tar", sha256(l))).collect();
    let manifest = json!([{"Config": config_name, "RepoTags": [tag], "Layers": names}]);
    let mut entries = vec![Entry::File(config_name, 0o644, config)];
    entries.extend(names.into_iter().zip(layers).map(|(n, l)| Entry::File(n, 0o644, l.clone())));
    entries.push(Entry::File("manifest.json".into(), 0o644, manifest.to_string().into_bytes()));
    tar(&entries)
}

/// An OCI image layout as a tar archive, its layers compressed with gzip.
#[must_use]
pub fn oci_archive(tag: &str, layers: &[Vec<u8>], config: &Value) -> Vec<u8> {
    let mut entries = vec![Entry::Directory("blobs", 0o755), Entry::Directory("blobs/sha256", 0o755)];
    let mut blob = |media_type: &str, bytes: Vec<u8>| -> Value {
        let digest = sha256(&bytes);
        let size = bytes.len();
        entries.push(Entry::File(format!("blobs/sha256/{digest}"), 0o644, bytes));
        json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size})
    };
    let descriptors: Vec<Value> =
        layers.iter().map(|l| blob("application/vnd.oci.image.layer.v1.tar+gzip", gzip(l))).collect();
    let config = image_config(layers, config).to_string().into_bytes();
    let config = blob("application/vnd.oci.image.config.v1+json", config);
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": descriptors});
    let mut manifest = blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().into_bytes());
    let short = tag.rsplit(':').next().unwrap_or(tag);
    manifest["annotations"] =
        json!({"io.containerd.image.name": tag, "org.opencontainers.image.ref.name": short});
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [manifest]});
    entries.push(Entry::File("index.json".into(), 0o644, index.to_string().into_bytes()));
    entries.push(Entry::File("oci-layout".into(), 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    tar(&entries)
}

/// `bytes` compressed.
///
/// # Panics
/// Never: memory does not fail.
#[must_use]
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("compression in memory");
    encoder.finish().expect("compression in memory")
}
