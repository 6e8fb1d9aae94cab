//! Layers as they come out on disk, and archives that must not come out at all.

#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use common::{E, Scratch, dir, entry, file, gzip, hardlink, load_layers, open_tar, scratch, symlink, tar};
use fluyt_image::layer::unpack::extract_files;
use fluyt_image::{Image, Limits, Silent};
use fluyt_model::{Kind, Result};

fn load(layers: &[&[E]]) -> (Scratch, Result<Image>) {
    let s = scratch();
    let tars: Vec<Vec<u8>> = layers.iter().map(|l| tar(l)).collect();
    let image = load_layers(&s, &tars);
    (s, image)
}

fn layer_dir(s: &Scratch, image: &Image, at: usize) -> std::path::PathBuf {
    std::fs::canonicalize(image.layers[at].path(s.root())).unwrap()
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let n = rustix::fs::lgetxattr(path, name, &mut value).ok()?;
    value.truncate(n);
    Some(value)
}

fn is_whiteout(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
}

#[test]
fn every_kind_of_entry_comes_out_as_it_is() {
    let long = format!("long/{}/{}", "d".repeat(120), "f".repeat(200));
    let (s, image) = load(&[&[
        dir("./").mode(0o751),
        dir("bin").owner(5, 6).mode(0o2775),
        file("bin/su", b"su").mode(0o4755).owner(0, 3),
        file("./bin/plain", b"plain").owner(1000, 1001),
        symlink("link", "bin/plain").owner(7, 8),
        hardlink("hard", "bin/plain"),
        entry("null", b'3', 0o666, "", b"").device(1, 3),
        entry("loop", b'4', 0o660, "", b"").device(7, 0),
        entry("pipe", b'6', 0o600, "", b""),
        file(&long, b"x"),
        file("implied/deep/file", b"y"),
        file("caps", b"z")
            .pax("SCHILY.xattr.user.note", b"a\nb=c")
            .pax("SCHILY.xattr.security.capability", b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0")
            .pax("SCHILY.xattr.trusted.overlay.redirect", b"/etc")
            .pax("mtime", b"1234567890.123456789"),
        dir("sticky").mode(0o1777),
    ]]);
    let image = image.unwrap();
    let d = layer_dir(&s, &image, 0);
    let mode = |p: &str| d.join(p).symlink_metadata().unwrap().mode() & 0o7777;
    let owner = |p: &str| d.join(p).symlink_metadata().map(|m| (m.uid(), m.gid())).unwrap();
    assert_eq!(d.metadata().unwrap().mode() & 0o7777, 0o751);
    assert_eq!((mode("bin"), owner("bin")), (0o2775, (5, 6)));
    assert_eq!((mode("bin/su"), owner("bin/su")), (0o4755, (0, 3)));
    assert_eq!((mode("bin/plain"), owner("bin/plain")), (0o644, (1000, 1001)));
    assert_eq!(owner("link"), (7, 8));
    assert_eq!(std::fs::read_link(d.join("link")).unwrap().as_os_str().as_bytes(), b"bin/plain");
    assert_eq!(d.join("hard").metadata().unwrap().ino(), d.join("bin/plain").metadata().unwrap().ino());
    assert_eq!(d.join("null").metadata().unwrap().rdev(), rustix::fs::makedev(1, 3));
    assert!(d.join("loop").metadata().unwrap().file_type().is_block_device());
    assert!(d.join("pipe").metadata().unwrap().file_type().is_fifo());
    assert_eq!((mode("null"), mode("sticky")), (0o666, 0o1777));
    assert_eq!(std::fs::read(d.join(&long)).unwrap(), b"x");
    assert_eq!(std::fs::read(d.join("implied/deep/file")).unwrap(), b"y");
    assert_eq!(xattr(&d.join("caps"), "user.note").unwrap(), b"a\nb=c");
    assert!(xattr(&d.join("caps"), "security.capability").is_some());
    assert!(xattr(&d.join("caps"), "trusted.overlay.redirect").is_none());
    let meta = d.join("caps").metadata().unwrap();
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_234_567_890, 123_456_789));
    assert_eq!(d.join("bin").metadata().unwrap().mtime(), 1_600_000_000);
    assert_eq!(s.store.snapshot_lowers(&image).len(), 1);
    assert!(s.leftovers().iter().all(|p| !p.starts_with("ingest") && !p.starts_with("leases")));
}

#[test]
fn an_archive_that_is_no_layer_has_no_whiteouts() {
    let dir = tempfile::tempdir().unwrap();
    let names = [".wh.a", ".wh..wh..opq", ".wh..wh.plnk", ".wh.", "d/.wh.b"];
    let entries: Vec<E> = names.iter().map(|name| file(name, name.as_bytes())).collect();
    extract_files(&tar(&entries)[..], dir.path(), Limits::default()).unwrap();
    for name in names {
        assert_eq!(std::fs::read(dir.path().join(name)).unwrap(), name.as_bytes());
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 5);
    assert!(xattr(dir.path(), "trusted.overlay.opaque").is_none());
}

#[test]
fn the_extended_headers_of_an_entry_have_one_bound() {
    let long = |kind, size: usize| entry("././@LongLink", kind, 0, "", &vec![b'x'; size]);
    let dir = tempfile::tempdir().unwrap();
    let unpack = |entries: &[E]| extract_files(&tar(entries)[..], dir.path(), Limits::default());
    let e = unpack(&[long(b'L', 3 << 20), long(b'K', 3 << 20), file("a", b"")]).unwrap_err();
    assert!(e.chain().contains("extended headers"), "{}", e.chain());
    assert_eq!(e.kind(), Kind::Corrupt);
    // Each entry has all of it.
    let note = vec![b'x'; 3 << 20];
    unpack(&[file("a", b"").pax("comment", &note), file("b", b"").pax("comment", &note)]).unwrap();
}

#[test]
fn whiteouts_take_the_form_of_the_overlay() {
    let (s, image) = load(&[
        &[dir("a"), file("a/x", b"1"), file("b", b"2"), dir("c"), file("c/old", b"")],
        &[
            dir("a"),
            file("a/.wh.x", b""),
            file(".wh.b", b""),
            dir("c"),
            file("c/.wh..wh..opq", b""),
            file("c/new", b""),
            file(".wh..wh.plnk", b""),
            // Removed below and made anew here: the directory must hide the old one.
            file(".wh.d", b""),
            dir("d"),
            dir("e"),
            file(".wh.e", b""),
        ],
    ]);
    let d = layer_dir(&s, &image.unwrap(), 1);
    assert!(is_whiteout(&d.join("a/x")) && is_whiteout(&d.join("b")));
    assert_eq!(xattr(&d.join("c"), "trusted.overlay.opaque").unwrap(), b"y");
    assert!(d.join("c/new").exists() && !d.join("c/.wh..wh..opq").exists());
    for name in ["d", "e"] {
        assert!(d.join(name).is_dir());
        assert_eq!(xattr(&d.join(name), "trusted.overlay.opaque").unwrap(), b"y");
    }
    assert!(!d.join(".wh..wh.plnk").exists());
}

#[test]
fn what_a_layer_leaves_to_lower_ones_comes_from_there() {
    let base = [dir("tmp").mode(0o1777), dir("usr").owner(3, 4), file("usr/tool", b"tool").mode(0o4711)];
    let upper = [file("tmp/x", b""), hardlink("usr/alias", "usr/tool")];
    let (s, image) = load(&[&base, &upper]);
    let image = image.unwrap();
    let d = layer_dir(&s, &image, 1);
    assert_eq!(d.join("tmp").metadata().unwrap().mode() & 0o7777, 0o1777);
    assert_eq!(d.join("usr").metadata().unwrap().uid(), 3);
    assert_eq!(std::fs::read(d.join("usr/alias")).unwrap(), b"tool");
    assert_eq!(d.join("usr/alias").metadata().unwrap().mode() & 0o7777, 0o4711);
    assert_ne!(image.layers[1].key, image.layers[1].diff_id);
    assert_eq!(image.layers[0].key, image.layers[0].diff_id);
    // The same archive over another base is another layer.
    let other = common::docker_archive(
        &["other"],
        &[tar(&[dir("tmp").mode(0o700), dir("usr"), file("usr/tool", b"else")]), tar(&upper)],
        gzip,
    );
    s.store.load(&other[..], None, &Silent).unwrap();
    let other = s.store.resolve("other").unwrap();
    assert_eq!(std::fs::read(layer_dir(&s, &other, 1).join("usr/alias")).unwrap(), b"else");
    assert_eq!(std::fs::read(d.join("usr/alias")).unwrap(), b"tool");
}

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    std::fs::write(&victim, "safe").unwrap();
    let o = outside.path().to_str().unwrap();
    let v = victim.to_str().unwrap();
    let up = format!("{}{}", "../".repeat(20), &o[1..]);
    let cases: Vec<(&str, Vec<E>, &str)> = vec![
        ("absolute", vec![file(&format!("{o}/evil"), b"x")], "absolute name"),
        ("dotdot", vec![file("../evil", b"x")], "`..`"),
        ("inner dotdot", vec![dir("a"), file("a/../../evil", b"x")], "`..`"),
        ("through a link", vec![symlink("l", o), file("l/evil", b"x")], "symbolic link"),
        ("through a relative link", vec![symlink("l", &up), file("l/evil", b"x")], "symbolic link"),
        (
            "through two links",
            vec![symlink("a", "b"), symlink("b", o), file("a/evil", b"x")],
            "symbolic link",
        ),
        ("link loop", vec![symlink("a", "b"), symlink("b", "a"), file("a/evil", b"x")], "symbolic link"),
        ("proc", vec![symlink("l", "/proc/self/root/tmp"), file("l/evil", b"x")], "symbolic link"),
        ("hard link outside", vec![hardlink("h", v)], "absolute name"),
        ("hard link up", vec![hardlink("h", &format!("{up}/victim"))], "`..`"),
        (
            "hard link through a link",
            vec![symlink("l", o), hardlink("h", "l/victim")],
            "neither in this layer",
        ),
        ("hard link to a directory", vec![dir("d"), hardlink("h", "d")], "hard link to a directory"),
        ("hard link to itself", vec![hardlink("h", "h")], "itself"),
        ("hard link to nothing", vec![hardlink("h", "nothing")], "neither in this layer"),
        (
            "directory to link",
            vec![dir("d"), file("d/x", b""), symlink("d", o)],
            "directory that has content",
        ),
        ("file as directory", vec![file("f", b""), file("f/evil", b"")], "not a directory"),
        ("whiteout up", vec![file(".wh...", b"")], "whiteout of no name"),
        ("whiteout of nothing", vec![file(".wh.", b"")], "whiteout of no name"),
        ("forged whiteout", vec![entry("w", b'3', 0, "", b"").device(0, 0)], "0:0"),
        ("root as a link", vec![symlink("./", o)], "must be a directory"),
        ("huge sparse", vec![sparse_claim()], "it claims"),
        ("unknown type", vec![entry("t", b'Z', 0, "", b"")], "unknown type"),
        ("long name", vec![file(&"n".repeat(300), b"")], "name too long"),
        ("pax with NUL", vec![file("n", b"").pax("path", b"a\0b")], "NUL"),
        ("bad pax", vec![file("n", b"").pax("mtime", b"tomorrow")], "pax"),
    ];
    for (name, entries, why) in cases {
        let (s, result) = load(&[&[file("first", b"x")], &entries]);
        let e = result.err().unwrap_or_else(|| panic!("{name}: accepted"));
        let text = e.chain();
        assert!(text.to_lowercase().contains(&why.to_lowercase()), "{name}: {text}");
        assert!(text.contains("layer sha256:"), "{name}: {text}");
        assert_eq!(s.leftovers(), Vec::<String>::new(), "{name}");
        assert!(s.store.images().unwrap().is_empty());
        let left: Vec<_> =
            std::fs::read_dir(outside.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["victim"], "{name}");
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "safe");
        assert_eq!(victim.metadata().unwrap().nlink(), 1);
    }
}

fn sparse_claim() -> E {
    file("s", b"")
        .pax("GNU.sparse.map", b"0,0")
        .pax("GNU.sparse.size", b"4611686018427387904")
        .pax("GNU.sparse.name", b"s")
}

#[test]
fn damaged_archives_are_refused_and_leave_nothing() {
    let good = tar(&[file("a", &[1; 5000])]);
    let mut flipped = good.clone();
    flipped[3] ^= 1;
    let mut trailing = good.clone();
    trailing.extend_from_slice(b"more");
    let cases = [
        ("header", flipped, "checksum"),
        ("cut", good[..2000].to_vec(), "truncated"),
        ("trailing", trailing, "follows the end"),
        ("text", b"<html>no</html>".to_vec(), "truncated"),
        ("bzip2", b"BZh91AY&SY...............".to_vec(), "bzip2"),
        ("pax at the end", open_tar(&[entry("x", b'x', 0, "", b"10 a=bcde\n")]), "ends after"),
    ];
    for (name, layer, why) in cases {
        let s = scratch();
        let e = load_layers(&s, &[layer]).unwrap_err();
        assert!(e.chain().contains(why), "{name}: {}", e.chain());
        assert_eq!(s.leftovers(), Vec::<String>::new(), "{name}");
    }
    // Compressed ones: cut short, garbage after, and content that is not what the configuration states.
    for (name, pack, why) in [
        ("cut gzip", (|b: &[u8]| gzip(b)[..60].to_vec()) as fn(&[u8]) -> Vec<u8>, "truncated"),
        ("garbage", |b| [gzip(b), b"garbage".to_vec()].concat(), "damaged"),
        ("other", |_| gzip(&tar(&[file("b", b"")])), "has the digest"),
    ] {
        let s = scratch();
        let archive = common::docker_archive(&["t"], std::slice::from_ref(&good), pack);
        let e = s.store.load(&archive[..], None, &Silent).unwrap_err();
        assert_eq!(e.kind(), Kind::Corrupt, "{name}: {}", e.chain());
        assert!(e.chain().contains(why), "{name}: {}", e.chain());
        assert_eq!(s.leftovers(), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn bombs_stop_at_the_limits() {
    for (limits, layer, why) in [
        (Limits { total: 1 << 20, ..Limits::default() }, tar(&[file("a", &vec![0; 4 << 20])]), "larger than"),
        (
            Limits { entries: 2, ..Limits::default() },
            tar(&[dir("a"), dir("b"), dir("c")]),
            "more than 2 entries",
        ),
    ] {
        let mut s = scratch();
        s.store.set_limits(limits);
        let archive = common::docker_archive(&["t"], &[layer], gzip);
        let e = s.store.load(&archive[..], None, &Silent).unwrap_err();
        assert_eq!(e.kind(), Kind::Exhausted);
        assert!(e.chain().contains(why), "{}", e.chain());
        assert_eq!(s.leftovers(), Vec::<String>::new());
    }
}

#[test]
fn links_inside_the_layer_are_followed_inside_the_layer() {
    let (s, image) = load(&[&[
        dir("usr"),
        dir("usr/lib"),
        symlink("lib", "usr/lib"),
        file("lib/a.so", b"a"),
        symlink("abs", "/usr/lib"),
        file("abs/b.so", b"b"),
        symlink("up", "../../../usr"),
        file("up/c", b"c"),
        // The same name twice: the later one counts.
        file("twice", b"1"),
        file("twice", b"22"),
        symlink("twice-link", "a"),
        file("twice-link", b"f"),
    ]]);
    let d = layer_dir(&s, &image.unwrap(), 0);
    for (name, data) in
        [("usr/lib/a.so", "a"), ("usr/lib/b.so", "b"), ("usr/c", "c"), ("twice", "22"), ("twice-link", "f")]
    {
        assert_eq!(std::fs::read_to_string(d.join(name)).unwrap(), data);
    }
    assert!(d.join("twice-link").symlink_metadata().unwrap().is_file());
}

#[test]
fn sparse_files_keep_their_holes() {
    let s = scratch();
    let work = s.dir.path().join("work");
    std::fs::create_dir(&work).unwrap();
    let big = std::fs::File::create(work.join("big")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&big, b"start", 0).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&big, b"middle", 5 << 20).unwrap();
    big.set_len(64 << 20).unwrap();
    let mut layers = Vec::new();
    for format in [
        "--format=gnu",
        "--format=pax",
        "--format=pax --sparse-version=0.1",
        "--format=pax --sparse-version=0.0",
    ] {
        let out = std::process::Command::new("tar")
            .args(format.split(' '))
            .args(["-S", "-c", "-C"])
            .arg(&work)
            .arg("big")
            .output()
            .unwrap();
        assert!(out.status.success());
        layers.push(out.stdout);
    }
    let image = load_layers(&s, &layers).unwrap();
    for at in 0..layers.len() {
        let path = layer_dir(&s, &image, at).join("big");
        let meta = path.metadata().unwrap();
        assert_eq!(meta.len(), 64 << 20);
        assert!(meta.blocks() * 512 < 1 << 20, "{at}: {} blocks", meta.blocks());
        assert!(std::fs::read(&path).unwrap() == std::fs::read(work.join("big")).unwrap());
    }
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    let (s, image) = load(&[&[file("wide", b"").mode(0o777), dir("dir").mode(0o777)]]);
    let d = layer_dir(&s, &image.unwrap(), 0);
    assert_eq!(d.join("wide").metadata().unwrap().permissions().mode() & 0o7777, 0o777);
    assert_eq!(d.join("dir").metadata().unwrap().permissions().mode() & 0o7777, 0o777);
}
