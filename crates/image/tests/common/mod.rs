//! Archives made in code, and a scratch store.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::io::Write;
use std::path::Path;

use fluyt_image::{Digest, Silent, Store};

/// A scratch data root with a store.
pub struct Scratch {
    pub dir: tempfile::TempDir,
    pub store: Store,
}

pub fn scratch() -> Scratch {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("root")).unwrap();
    Scratch { dir, store }
}

impl Scratch {
    pub fn root(&self) -> &Path {
        self.store.root()
    }

    /// Everything below the root but the record file and locks, as sorted paths.
    pub fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        for sub in ["blobs/sha256", "ingest", "leases", "layers", "l"] {
            for entry in std::fs::read_dir(self.root().join(sub)).unwrap() {
                found.push(format!("{sub}/{}", entry.unwrap().file_name().to_string_lossy()));
            }
        }
        found.sort();
        found
    }
}

/// One entry of a test archive; the name may be anything.
#[derive(Clone)]
pub struct E {
    pub name: Vec<u8>,
    pub kind: u8,
    pub mode: u32,
    pub link: Vec<u8>,
    pub data: Vec<u8>,
    pub device: (u32, u32),
    pub owner: (u32, u32),
    pub mtime: u64,
    pub pax: Vec<(String, Vec<u8>)>,
}

pub fn file(name: &str, data: &[u8]) -> E {
    entry(name, b'0', 0o644, "", data)
}

pub fn dir(name: &str) -> E {
    entry(name, b'5', 0o755, "", b"")
}

pub fn symlink(name: &str, target: &str) -> E {
    entry(name, b'2', 0o777, target, b"")
}

pub fn hardlink(name: &str, target: &str) -> E {
    entry(name, b'1', 0o644, target, b"")
}

pub fn entry(name: &str, kind: u8, mode: u32, link: &str, data: &[u8]) -> E {
    E {
        name: name.as_bytes().to_vec(),
        kind,
        mode,
        link: link.as_bytes().to_vec(),
        data: data.to_vec(),
        device: (0, 0),
        owner: (0, 0),
        mtime: 1_600_000_000,
        pax: Vec::new(),
    }
}

impl E {
    pub fn pax(mut self, key: &str, value: &[u8]) -> Self {
        self.pax.push((key.to_owned(), value.to_vec()));
        self
    }

    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    pub fn owner(mut self, uid: u32, gid: u32) -> Self {
        self.owner = (uid, gid);
        self
    }

    pub fn device(mut self, major: u32, minor: u32) -> Self {
        self.device = (major, minor);
        self
    }
}

fn octal(field: &mut [u8], value: u64) {
    let text = format!("{value:0width$o}", width = field.len() - 1);
    field[..text.len()].copy_from_slice(text.as_bytes());
}

pub fn header(e: &E, size: u64) -> [u8; 512] {
    let mut h = [0_u8; 512];
    let n = e.name.len().min(100);
    h[..n].copy_from_slice(&e.name[..n]);
    octal(&mut h[100..108], e.mode.into());
    octal(&mut h[108..116], e.owner.0.into());
    octal(&mut h[116..124], e.owner.1.into());
    octal(&mut h[124..136], size);
    octal(&mut h[136..148], e.mtime);
    h[156] = e.kind;
    let n = e.link.len().min(100);
    h[157..157 + n].copy_from_slice(&e.link[..n]);
    h[257..265].copy_from_slice(b"ustar\x0000");
    octal(&mut h[329..337], e.device.0.into());
    octal(&mut h[337..345], e.device.1.into());
    seal(&mut h);
    h
}

/// Sets the checksum.
pub fn seal(h: &mut [u8; 512]) {
    h[148..156].fill(b' ');
    let sum: u64 = h.iter().map(|b| u64::from(*b)).sum();
    octal(&mut h[148..155], sum);
}

fn padded(out: &mut Vec<u8>, data: &[u8]) {
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(512), 0);
}

pub fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut length = body + 1;
    while format!("{length}").len() + body != length {
        length += 1;
    }
    let mut out = format!("{length} {key}=").into_bytes();
    out.extend_from_slice(value);
    out.push(b'\n');
    out
}

/// An archive without the end mark.
pub fn open_tar(entries: &[E]) -> Vec<u8> {
    let mut out = Vec::new();
    for e in entries {
        let mut pax: Vec<u8> = e.pax.iter().flat_map(|(k, v)| pax_record(k, v)).collect();
        if e.name.len() > 100 {
            pax.extend(pax_record("path", &e.name));
        }
        if e.link.len() > 100 {
            pax.extend(pax_record("linkpath", &e.link));
        }
        if !pax.is_empty() {
            out.extend_from_slice(&header(&entry("pax", b'x', 0o644, "", b""), pax.len() as u64));
            padded(&mut out, &pax);
        }
        out.extend_from_slice(&header(e, e.data.len() as u64));
        padded(&mut out, &e.data);
    }
    out
}

pub fn tar(entries: &[E]) -> Vec<u8> {
    let mut out = open_tar(entries);
    out.extend_from_slice(&[0; 1024]);
    out
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A docker-archive of one image with these layers (uncompressed archives), each stored as `pack` makes it.
pub fn docker_archive(tags: &[&str], layers: &[Vec<u8>], pack: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|l| format!("{:?}", Digest::of(l).as_str())).collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","created":"2024-01-02T03:04:05Z",
        "config":{{"Cmd":["/bin/sh"],"Env":["PATH=/bin"],"Surprise":true}},
        "rootfs":{{"type":"layers","diff_ids":[{}]}},"history":[{{"created_by":"test"}}]}}"#,
        diff_ids.join(",")
    );
    let name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let mut entries = vec![file(&name, config.as_bytes())];
    let mut names = Vec::new();
    for (at, layer) in layers.iter().enumerate() {
        let name = format!("layer{at}/layer.tar");
        entries.push(file(&name, &pack(layer)));
        names.push(format!("{name:?}"));
    }
    let tags: Vec<String> = tags.iter().map(|t| format!("{t:?}")).collect();
    let manifest =
        format!(r#"[{{"Config":{name:?},"RepoTags":[{}],"Layers":[{}]}}]"#, tags.join(","), names.join(","));
    entries.push(file("manifest.json", manifest.as_bytes()));
    tar(&entries)
}

pub fn load_layers(s: &Scratch, layers: &[Vec<u8>]) -> fluyt_model::Result<fluyt_image::Image> {
    let archive = docker_archive(&["test:latest"], layers, <[u8]>::to_vec);
    s.store.load(&archive[..], None, &Silent)?;
    s.store.resolve("test")
}
