//! A store survives being killed at every fail point, a full disk, and damage: it opens, what was in it before is
//! whole, and the check finds nothing that contradicts its records.

#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use common::{dir, docker_archive, file, gzip, scratch, tar};
use fluyt_image::remove::nobody;
use fluyt_image::{Silent, Store};
use fluyt_model::Kind;

fn layers(seed: u8) -> Vec<Vec<u8>> {
    let shared = tar(&[dir("usr"), file("usr/shared", &[7; 40_000])]);
    let noise: Vec<u8> =
        (0..60_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed).collect();
    vec![shared, tar(&[dir("opt"), file("opt/own", &noise), file("opt/more", &[seed; 5000])])]
}

fn archive(name: &str, seed: u8) -> Vec<u8> {
    docker_archive(&[name], &layers(seed), gzip)
}

/// Runs [`child`] in a process of its own.
fn run_child(action: &str, root: &Path, file: &Path, fail_at: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--ignored", "--nocapture"])
        .env("FLUYT_TEST_ACTION", action)
        .env("FLUYT_TEST_ROOT", root)
        .env("FLUYT_TEST_FILE", file)
        .env("FLUYT_FAIL_AT", fail_at)
        .output()
        .unwrap()
}

#[test]
#[ignore = "the other half of the tests that kill a process"]
fn child() {
    let Some(action) = std::env::var_os("FLUYT_TEST_ACTION") else { return };
    let root = std::env::var_os("FLUYT_TEST_ROOT").unwrap();
    let file = std::env::var_os("FLUYT_TEST_FILE").unwrap();
    let store = Store::open(Path::new(&root)).unwrap();
    match action.to_str().unwrap() {
        "load" => drop(store.load(std::fs::File::open(file).unwrap(), None, &Silent).unwrap()),
        "remove" => drop(store.remove_image("second", false, &nobody).unwrap()),
        "full" => full_disk(Path::new(&root), Path::new(&file)),
        other => panic!("{other}"),
    }
}

const LOAD_POINTS: [&str; 11] = [
    "blob-before-sync",
    "blob-before-rename",
    "blob-after-rename",
    "blob-after-rename:2",
    "layer-extracted",
    "layer-before-rename",
    "layer-after-rename",
    "layer-after-link",
    "layer-after-record",
    "image-before-record",
    "image-after-record",
];

const REMOVE_POINTS: [&str; 6] = [
    "rmi-after-records",
    "gc-after-records",
    "gc-after-links",
    "gc-layer-moved",
    "gc-blob-removed",
    "gc-blob-removed:2",
];

/// What must hold after any crash.
fn check(root: &Path, about: &str) {
    let store = Store::open(root).unwrap();
    let report = store.fsck(&nobody, false, &Silent).unwrap();
    assert!(report.problems.is_empty(), "{about}: {:?}", report.problems);
    let first = store.resolve("first").unwrap();
    assert!(store.snapshot_lowers(&first).iter().all(|dir| dir.is_dir()), "{about}");
    assert_eq!(std::fs::read(store.snapshot_lowers(&first)[1].join("usr/shared")).unwrap(), [7; 40_000]);
}

#[test]
fn killed_anywhere_in_a_load_the_store_is_sound_and_the_load_can_be_repeated() {
    for point in LOAD_POINTS {
        let s = scratch();
        s.store.load(&archive("first", 1)[..], None, &Silent).unwrap();
        let clean = s.leftovers();
        let file = s.dir.path().join("second.tar");
        std::fs::write(&file, archive("second", 2)).unwrap();
        let out = run_child("load", s.root(), &file, point);
        assert_eq!(out.status.signal(), Some(6), "{point}: {}", String::from_utf8_lossy(&out.stderr));
        check(s.root(), point);
        // Tidying up brings back exactly what was there, unless the image was recorded already.
        s.store.collect(&nobody, Duration::ZERO).unwrap();
        check(s.root(), point);
        if s.store.resolve("second").is_err() {
            assert_eq!(s.leftovers(), clean, "{point}");
        }
        s.store.load(std::fs::File::open(&file).unwrap(), None, &Silent).unwrap();
        check(s.root(), point);
        let report = s.store.fsck(&nobody, false, &Silent).unwrap();
        assert_eq!((report.leftovers.len(), report.images), (0, 2), "{point}: {:?}", report.leftovers);
    }
}

#[test]
fn killed_in_a_load_the_load_can_be_repeated_without_tidying_up() {
    for point in LOAD_POINTS {
        let s = scratch();
        s.store.load(&archive("first", 1)[..], None, &Silent).unwrap();
        let file = s.dir.path().join("second.tar");
        std::fs::write(&file, archive("second", 2)).unwrap();
        run_child("load", s.root(), &file, point);
        s.store.load(std::fs::File::open(&file).unwrap(), None, &Silent).unwrap();
        check(s.root(), point);
        assert!(s.store.resolve("second").is_ok());
        let repaired = s.store.fsck(&nobody, true, &Silent).unwrap();
        assert!(repaired.is_sound());
        assert_eq!(s.store.fsck(&nobody, false, &Silent).unwrap().leftovers, []);
    }
}

#[test]
fn killed_anywhere_in_a_removal_the_next_one_finishes_it() {
    for point in REMOVE_POINTS {
        let s = scratch();
        s.store.load(&archive("first", 1)[..], None, &Silent).unwrap();
        let clean = s.leftovers();
        s.store.load(&archive("second", 2)[..], None, &Silent).unwrap();
        let out = run_child("remove", s.root(), Path::new("/"), point);
        assert_eq!(out.status.signal(), Some(6), "{point}: {}", String::from_utf8_lossy(&out.stderr));
        check(s.root(), point);
        assert!(s.store.resolve("second").is_err(), "{point}");
        s.store.collect(&nobody, Duration::ZERO).unwrap();
        assert_eq!(s.leftovers(), clean, "{point}");
    }
}

/// Runs in its own mount namespace, with a small file system as its root.
fn full_disk(root: &Path, file: &Path) {
    let store = Store::open(root).unwrap();
    let mut failed = 0;
    let stat = rustix::fs::statvfs(root).unwrap();
    let used = u32::try_from((stat.f_blocks - stat.f_bfree) * stat.f_frsize / 1024).unwrap();
    for more in (0..240).step_by(12).chain([3000]) {
        let kilobytes = used + more;
        resize(root, kilobytes);
        match store.load(std::fs::File::open(file).unwrap(), None, &Silent) {
            Ok(_) => {
                store.remove_image("second", false, &nobody).unwrap();
            }
            Err(e) => {
                failed += 1;
                assert!(e.chain().contains("full") || e.chain().contains("No space"), "{}", e.chain());
                assert_eq!(e.kind(), Kind::Exhausted, "{kilobytes}: {}", e.chain());
            }
        }
        resize(root, 8000);
        check(root, &format!("{kilobytes} KiB"));
        let report = store.fsck(&nobody, false, &Silent).unwrap();
        assert_eq!(report.leftovers, [], "{kilobytes}");
    }
    assert!(failed >= 5, "only {failed} loads failed");
    store.load(std::fs::File::open(file).unwrap(), None, &Silent).unwrap();
    println!("survived {failed} full disks");
}

fn resize(root: &Path, kilobytes: u32) {
    let size = format!("remount,size={kilobytes}k");
    assert!(Command::new("mount").args(["-o", &size]).arg(root).status().unwrap().success());
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("needs root for a mount namespace: skipped");
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let (first, second) = (work.path().join("first.tar"), work.path().join("second.tar"));
    std::fs::write(&first, archive("first", 1)).unwrap();
    std::fs::write(&second, archive("second", 2)).unwrap();
    let root = work.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let script = r#"mount -t tmpfs -o size=4000k tmpfs "$FLUYT_TEST_ROOT" &&
        FLUYT_TEST_ACTION=load FLUYT_TEST_FILE="$FIRST" "$0" child --exact --ignored --nocapture &&
        FLUYT_TEST_ACTION=full exec "$0" child --exact --ignored --nocapture"#;
    let out = Command::new("unshare")
        .args(["-m", "--propagation", "private", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .env("FLUYT_TEST_ROOT", &root)
        .env("FLUYT_TEST_FILE", &second)
        .env("FIRST", &first)
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && text.contains("survived"), "{text}");
}

#[test]
fn damage_is_found_and_what_can_be_is_repaired() {
    let s = scratch();
    s.store.load(&archive("first", 1)[..], None, &Silent).unwrap();
    let image = s.store.resolve("first").unwrap();
    let report = s.store.fsck(&nobody, false, &Silent).unwrap();
    assert!(report.is_sound() && report.problems.is_empty() && report.leftovers.is_empty());
    assert_eq!((report.images, report.layers, report.blobs), (1, 2, 4));

    // A lost link, a lost layer, strays: made anew or removed.
    std::fs::remove_file(image.layers[0].path(s.root())).unwrap();
    std::fs::remove_dir_all(s.root().join("layers").join(image.layers[1].key.hex())).unwrap();
    std::fs::create_dir(s.root().join("layers/stray")).unwrap();
    std::fs::write(s.root().join("blobs/sha256/stray"), "").unwrap();
    std::fs::write(s.root().join("ingest/part-dead"), "").unwrap();
    assert_eq!(s.store.fsck(&nobody, false, &Silent).unwrap().problems.len(), 2);
    let report = s.store.fsck(&nobody, true, &Silent).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.problems.len(), report.leftovers.len()), (2, 3));
    let report = s.store.fsck(&nobody, false, &Silent).unwrap();
    assert!(report.problems.is_empty() && report.leftovers.is_empty(), "{report:?}");
    check(s.root(), "repaired");

    // A damaged blob: named, removed, and the image says what to do.
    let manifest = s.store.blobs().path(&image.manifest);
    let mut bytes = std::fs::read(&manifest).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&manifest, bytes).unwrap();
    let report = s.store.fsck(&nobody, true, &Silent).unwrap();
    assert!(!report.is_sound());
    assert!(report.problems.iter().any(|p| p.object.contains(image.manifest.hex()) && p.repaired.is_some()));
    s.store.load(&archive("first", 1)[..], None, &Silent).unwrap();
    assert!(s.store.fsck(&nobody, false, &Silent).unwrap().problems.is_empty());
}

#[test]
fn what_images_take_adds_up_to_what_is_on_disk() {
    let s = scratch();
    s.store.load(&archive("first", 1)[..], None, &Silent).unwrap();
    s.store.load(&archive("second", 2)[..], None, &Silent).unwrap();
    let usage = s.store.usage(&[s.store.resolve("first").unwrap().id]).unwrap();
    let unique: u64 = usage.images.iter().map(|i| i.unique).sum();
    assert_eq!(usage.images[0].shared, usage.images[1].shared);
    assert_eq!(usage.total, unique + usage.images[0].shared);
    assert_eq!(usage.leftovers, 0);
    let second = s.store.resolve("second").unwrap().id;
    assert_eq!(usage.reclaimable, usage.images.iter().find(|i| i.id == second).unwrap().unique);
    let du = |sub: &str| {
        let out = Command::new("du").args(["-s", "-B1"]).arg(s.root().join(sub)).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        text.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let own =
        |sub: &str| std::os::unix::fs::MetadataExt::blocks(&s.root().join(sub).metadata().unwrap()) * 512;
    let on_disk = du("blobs/sha256") - own("blobs/sha256") + du("layers") - own("layers");
    assert_eq!(usage.total, on_disk);
    s.store.remove_image("second", false, &nobody).unwrap();
    assert_eq!(s.store.usage(&[]).unwrap().images.len(), 1);
}

#[test]
fn several_processes_load_the_same_image_at_once() {
    let s = scratch();
    let file = s.dir.path().join("a.tar");
    std::fs::write(&file, archive("first", 1)).unwrap();
    let (root, file) = (s.root(), file.as_path());
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(move || run_child("load", root, file, ""))).collect();
        for run in runs {
            let out = run.join().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
        }
    });
    check(s.root(), "concurrent");
    assert_eq!(s.store.fsck(&nobody, false, &Silent).unwrap().leftovers, []);
}
