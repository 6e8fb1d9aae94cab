//! load, save, tag, rmi, images, history, inspect; hostile and broken archives.

use std::fs;
use std::path::Path;

use fluyt_testkit::host::BOX;
use fluyt_testkit::images::{Entry, busybox_entries, docker_archive, gzip, oci_archive, tar};
use fluyt_testkit::{Host, Scratch};
use serde_json::json;

use crate::{PROGRAM, host, ours_only};

#[test]
fn every_archive_form_loads() {
    let Some(host) = Host::new(PROGRAM) else { return };
    let layers = [tar(&busybox_entries()), tar(&[Entry::File("second".into(), 0o644, b"2".to_vec())])];
    let config = json!({"Cmd": ["cat", "/second"]});
    let docker = docker_archive("docker-form:1", &layers, &config);
    let outcome = host.run_with_input(&["load"], &docker);
    assert!(outcome.clone().success().contains("Loaded image: docker-form:1"), "{outcome:?}");
    assert_eq!(host.ok("run --rm docker-form:1"), "2");
    let file = host.scratch().write("image.tar.gz", gzip(&docker));
    host.ok(&format!("load -i {}", file.display()));
    if !host.is_reference() {
        let oci = oci_archive("oci-form:1", &layers, &config);
        let outcome = host.run_with_input(&["load"], &oci);
        assert!(outcome.clone().success().contains("oci-form:1"), "{outcome:?}");
        assert_eq!(host.ok("run --rm oci-form:1"), "2");
    }
}

#[test]
fn an_image_survives_save_and_load() {
    let host = host!();
    let id = host.ok("images -q --no-trunc box");
    let file = host.scratch().join("saved.tar");
    let file = file.to_str().expect("a path");
    host.ok("tag box other/name:2");
    host.ok_words(&["save", "-o", file, BOX, "other/name:2"]);
    host.ok("rmi box other/name:2");
    assert_eq!(host.ok("images -q"), "");
    host.ok(&format!("load -q -i {file}"));
    assert_eq!(host.ok("images -q --no-trunc box"), id);
    assert_eq!(host.ok("images -q --no-trunc other/name:2"), id);
    assert_eq!(host.sh("", "echo works"), "works");
}

#[test]
fn tags_and_their_removal() {
    let host = host!();
    host.ok("tag box example.org/a/b:1");
    let names = host.ok_words(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert!(names.contains("box:latest") && names.contains("example.org/a/b:1"), "{names}");
    let said = host.ok("rmi example.org/a/b:1");
    assert!(said.contains("Untagged: example.org/a/b:1") && !said.contains("Deleted"), "{said}");
    host.fails(1, "Invalid", "tag box Bad:Name:Here");
    host.fails(1, "absent", "tag absent x");
    host.fails(1, "absent", "rmi absent");
    let said = host.ok("rmi box");
    assert!(said.contains("Untagged: box:latest") && said.contains("Deleted: sha256:"), "{said}");
}

#[test]
fn an_image_in_use_stays() {
    let host = host!();
    let id = host.ok("create --name c1 box true");
    let outcome = host.fails(1, &id[..12], "rmi box");
    assert!(outcome.stderr.contains("box"), "{outcome:?}");
    host.ok("rm c1");
    host.ok("rmi box");
}

#[test]
fn images_are_found_by_any_name() {
    let host = host!();
    let id = host.ok("images -q --no-trunc box");
    let hex = id.strip_prefix("sha256:").expect("a digest").to_owned();
    for name in [BOX, "box:latest", "docker.io/library/box", "library/box", &id, &hex, &hex[..12]] {
        assert_eq!(host.ok_words(&["image", "inspect", "-f", "{{.Id}}", name]), id, "{name}");
    }
    assert_eq!(host.ok_words(&["run", "--rm", &hex[..12], "echo", "by id"]), "by id");
    let layers =
        host.ok_words(&["image", "inspect", "-f", "{{len .RootFS.Layers}} {{.Os}}/{{.Architecture}}", BOX]);
    assert_eq!(layers, "1 linux/amd64");
    let history = host.ok_words(&["history", "--format", "{{.CreatedBy}}", BOX]);
    assert_eq!(history, "testkit");
}

#[test]
fn dangling_images_are_pruned() {
    let host = host!();
    let id = host.ok("create box true");
    host.ok(&format!("commit {id} named"));
    host.ok_words(&["commit", "-m", "two", &id, "named"]);
    host.ok(&format!("rm {id}"));
    assert_eq!(host.ok("images -q -f dangling=true").lines().count(), 1);
    host.ok("image prune -f");
    assert_eq!(host.ok("images -q -f dangling=true"), "");
    assert_eq!(host.ok("images -q").lines().count(), 2);
    host.ok("image prune -a -f");
    assert_eq!(host.ok("images -q"), "");
}

#[test]
fn whiteouts_hide_and_opaque_directories_cover() {
    let Some(host) = Host::new(PROGRAM) else { return };
    let mut base = busybox_entries();
    base.push(Entry::Directory("d", 0o755));
    base.push(Entry::File("d/old".into(), 0o644, b"old".to_vec()));
    base.push(Entry::File("gone".into(), 0o644, b"gone".to_vec()));
    let upper = [
        Entry::File(".wh.gone".into(), 0o644, vec![]),
        Entry::Directory("d", 0o700),
        Entry::File("d/.wh..wh..opq".into(), 0o644, vec![]),
        Entry::File("d/new".into(), 0o644, b"new".to_vec()),
    ];
    let archive = docker_archive("layered:1", &[tar(&base), tar(&upper)], &json!({}));
    assert_eq!(host.run_with_input(&["load"], &archive).code, 0);
    let seen = host.ok_words(&[
        "run",
        "--rm",
        "layered:1",
        "sh",
        "-c",
        "ls /d; test -e /gone || echo gone; stat -c %a /d",
    ]);
    assert_eq!(seen, "new\ngone\n700");
}

/// Loads an archive that must be refused; nothing may be written outside, and the store stays usable.
fn refused(host: &Host, what: &str, archive: &[u8]) {
    let outcome = host.run_with_input(&["load"], archive);
    assert_eq!(outcome.code, 1, "{what}: {outcome:?}");
    assert!(!outcome.stderr.is_empty() && !outcome.stderr.contains("panicked"), "{what}: {outcome:?}");
    assert_eq!(host.ok("images -q"), "", "{what} leaves no image");
}

#[test]
fn hostile_layers_are_refused_and_write_nothing_outside() {
    let Some(host) = Host::new(PROGRAM) else { return };
    ours_only!(host);
    let outside = Scratch::new("outside");
    let target = outside.path().to_string_lossy().into_owned();
    let raw = |path: &str| {
        let mut header = ::std::vec![0_u8; 512];
        header[..path.len()].copy_from_slice(path.as_bytes());
        header[100..107].copy_from_slice(b"0000644");
        header[124..135].copy_from_slice(b"00000000001");
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        header.extend([b'x'; 1]);
        header.resize(1024 + 1024, 0);
        header
    };
    let up = raw(&format!("../../../../../../../..{target}/escaped"));
    refused(&host, "dots", &docker_archive("evil:1", &[up], &json!({})));
    let through = tar(&[
        Entry::Symlink("link".into(), target.clone()),
        Entry::File("link/escaped".into(), 0o644, b"x".to_vec()),
    ]);
    let outcome = host.run_with_input(&["load"], &docker_archive("evil:2", &[through], &json!({})));
    assert!(outcome.code == 0 || outcome.code == 1, "{outcome:?}");
    let absolute = raw(&format!("{target}/escaped"));
    let outcome = host.run_with_input(&["load"], &docker_archive("evil:3", &[absolute], &json!({})));
    assert!(outcome.code == 0 || outcome.code == 1, "{outcome:?}");
    assert_eq!(fs::read_dir(Path::new(&target)).expect("read").count(), 0, "something was written outside");
    assert_eq!(host.run("system fsck").code, 0);
}

#[test]
fn broken_archives_are_refused() {
    let Some(host) = Host::new(PROGRAM) else { return };
    let good = docker_archive("x:1", &[tar(&busybox_entries())], &json!({}));
    refused(&host, "garbage", b"this is no archive");
    refused(&host, "half an archive", &good[..good.len() / 2]);
    refused(&host, "half a gzip stream", &gzip(&good)[..100_000]);
    let empty = tar(&[Entry::File("manifest.json".into(), 0o644, b"[{}]".to_vec())]);
    refused(&host, "an empty manifest", &empty);
    if !host.is_reference() {
        let mut oci =
            oci_archive("x:1", &[tar(&[Entry::File("a".into(), 0o644, vec![7; 5000])])], &json!({}));
        // A byte of the first blob: its digest does not match any more.
        let at = 512 * 2 + 512 + 20;
        oci[at] ^= 0xff;
        refused(&host, "a wrong digest", &oci);
        assert_eq!(host.run("system fsck").code, 0);
    }
    host.fails(1, "/no/such/file", "load -i /no/such/file");
}
