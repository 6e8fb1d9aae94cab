//! Load, save, import, commit, remove: round trips, with other people's programs where they are installed.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::Command;

use common::{Scratch, dir, docker_archive, file, gzip, hardlink, scratch, symlink, tar};
use fluyt_image::layer::codec::Compression;
use fluyt_image::remove::nobody;
use fluyt_image::{CommitOptions, ImageUse, ImportOptions, Instruction, Removed, SaveOptions, Silent};
use fluyt_model::Kind;
use fluyt_model::reference::Reference;

fn base_layers() -> Vec<Vec<u8>> {
    vec![
        tar(&[
            dir("bin"),
            file("bin/sh", b"#!").mode(0o755),
            dir("etc"),
            file("etc/passwd", b"root"),
            dir("data"),
        ]),
        tar(&[
            dir("etc"),
            file("etc/.wh.passwd", b""),
            file("etc/group", b"g"),
            hardlink("etc/group2", "etc/group"),
        ]),
    ]
}

fn loaded(tags: &[&str]) -> Scratch {
    let s = scratch();
    s.store.load(&docker_archive(tags, &base_layers(), gzip)[..], None, &Silent).unwrap();
    s
}

fn save(s: &Scratch, names: &[&str], options: &SaveOptions) -> Vec<u8> {
    s.store.save(names, Vec::new(), options, &Silent).unwrap()
}

#[test]
fn load_then_save_then_load_gives_the_same_digests_and_bytes() {
    let first = loaded(&["a:1", "registry.test:5000/x/y:2"]);
    let image = first.store.resolve("a:1").unwrap();
    assert!(first.store.raw_config(&image.id).unwrap().contains("Surprise"));
    let archive = save(&first, &["a:1", "registry.test:5000/x/y:2"], &SaveOptions::default());
    assert_eq!(archive, save(&first, &["a:1", "registry.test:5000/x/y:2"], &SaveOptions::default()));
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        for oci_only in [false, true] {
            let options = SaveOptions { compression, oci_only, platform: None };
            let bytes = save(&first, &["a:1", "registry.test:5000/x/y:2"], &options);
            let second = scratch();
            let results = second.store.load(&bytes[..], None, &Silent).unwrap();
            let mut lines: Vec<String> = results.iter().map(ToString::to_string).collect();
            lines.sort();
            assert_eq!(lines, ["Loaded image: a:1", "Loaded image: registry.test:5000/x/y:2"]);
            let again = second.store.resolve("registry.test:5000/x/y:2").unwrap();
            assert_eq!((&again.id, &again.manifest), (&image.id, &image.manifest));
            assert_eq!(again.references, image.references);
            assert_eq!(save(&second, &["a:1", "registry.test:5000/x/y:2"], &SaveOptions::default()), archive);
        }
    }
    // By id there is no name.
    let bytes = save(&first, &[image.id.short()], &SaveOptions::default());
    let second = scratch();
    let results = second.store.load(&bytes[..], None, &Silent).unwrap();
    assert_eq!(results[0].to_string(), format!("Loaded image ID: {}", image.id));
    assert!(second.store.image(&image.id).unwrap().references.is_empty());
}

#[test]
fn an_unpacked_layout_loads_from_its_directory() {
    let first = loaded(&["a:1"]);
    let dir = first.dir.path().join("layout");
    std::fs::create_dir(&dir).unwrap();
    let bytes = save(&first, &["a:1"], &SaveOptions { oci_only: true, ..SaveOptions::default() });
    ::tar::Archive::new(&bytes[..]).unpack(&dir).unwrap();
    let second = scratch();
    second.store.load_directory(&dir, None, &Silent).unwrap();
    assert_eq!(second.store.resolve("a:1").unwrap().id, first.store.resolve("a:1").unwrap().id);
    let nothing = second.store.load_directory(&second.dir.path().join("nothing"), None, &Silent).unwrap_err();
    assert_eq!(nothing.kind(), Kind::NotFound);
}

#[test]
fn the_v1_layout_of_old_archives_loads() {
    let s = scratch();
    let (a, b) = ("a".repeat(64), "b".repeat(64));
    let layers = base_layers();
    let json_a =
        format!(r#"{{"id":"{a}","created":"2015-01-01T00:00:00Z","container_config":{{"Cmd":["x"]}}}}"#);
    let json_b = format!(
        r#"{{"id":"{b}","parent":"{a}","created":"2015-01-02T00:00:00Z","config":{{"Cmd":["sh"]}},"architecture":"amd64"}}"#
    );
    let archive = tar(&[
        dir(&a),
        file(&format!("{a}/VERSION"), b"1.0"),
        file(&format!("{a}/json"), json_a.as_bytes()),
        file(&format!("{a}/layer.tar"), &layers[0]),
        file(&format!("{b}/json"), json_b.as_bytes()),
        file(&format!("{b}/layer.tar"), &layers[1]),
        file("repositories", format!(r#"{{"old":{{"v":"{b}"}}}}"#).as_bytes()),
    ]);
    let results = s.store.load(&archive[..], None, &Silent).unwrap();
    assert_eq!(results[0].to_string(), "Loaded image: old:v");
    let image = s.store.resolve("old:v").unwrap();
    assert_eq!(image.config.config.cmd.as_deref(), Some(&["sh".to_owned()][..]));
    assert_eq!((image.layers.len(), image.config.history.len()), (2, 2));
    // A circle of parents ends.
    let circle = tar(&[
        file(&format!("{a}/json"), format!(r#"{{"parent":"{a}"}}"#).as_bytes()),
        file("repositories", format!(r#"{{"old":{{"v":"{a}"}}}}"#).as_bytes()),
    ]);
    assert!(s.store.load(&circle[..], None, &Silent).is_err());
}

#[test]
fn archives_of_images_are_checked() {
    let layers = base_layers();
    let good = docker_archive(&["a"], &layers, <[u8]>::to_vec);
    let id = "0".repeat(64);
    let blob = format!("blobs/sha256/{id}");
    for (name, bytes, why) in [
        ("nothing", tar(&[file("x", b"")]), "has no image"),
        ("text", b"hello".to_vec(), "truncated"),
        ("cut", good[..good.len() / 2 - 100].to_vec(), "truncated"),
        ("bad json", tar(&[file("manifest.json", b"{")]), "manifest.json"),
        ("no config", tar(&[file("manifest.json", br#"[{"Config":"x.json"}]"#)]), "lacks the configuration"),
        ("wrong blob", tar(&[file(&blob, b"x")]), "has the digest"),
        ("up", tar(&[file("../x", b"")]), "`..`"),
        ("link out", tar(&[symlink("a/b", "../../x")]), "outside the archive"),
        (
            "wrong config digest",
            tar(&[
                file(&format!("{id}.json"), b"{}"),
                file("manifest.json", format!(r#"[{{"Config":"{id}.json"}}]"#).as_bytes()),
            ]),
            "has the digest",
        ),
        (
            "too few layers",
            {
                let text = String::from_utf8_lossy(&good);
                assert!(text.contains("layer1/layer.tar"));
                let config = br#"{"rootfs":{"type":"layers","diff_ids":[]}}"#;
                tar(&[
                    file("c.json", config),
                    file("l.tar", &layers[0]),
                    file("manifest.json", br#"[{"Config":"c.json","Layers":["l.tar"]}]"#),
                ])
            },
            "layers length mismatch",
        ),
        ("bad name", docker_archive(&["UPPER"], &layers, <[u8]>::to_vec), "must be lowercase"),
    ] {
        let s = scratch();
        let e = s.store.load(&bytes[..], None, &Silent).unwrap_err();
        assert!(e.chain().contains(why), "{name}: {}", e.chain());
        assert_eq!(s.leftovers(), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn a_failed_load_leaves_earlier_images_alone() {
    let s = loaded(&["a:1"]);
    let before = s.leftovers();
    // Shares the first layer, then breaks.
    let layers = vec![base_layers().remove(0), tar(&[file("../x", b"")])];
    assert!(s.store.load(&docker_archive(&["b"], &layers, gzip)[..], None, &Silent).is_err());
    assert_eq!(s.leftovers(), before);
    assert!(s.store.resolve("a:1").is_ok() && s.store.resolve("b").is_err());
}

#[test]
fn names_ids_and_prefixes_find_images() {
    let s = loaded(&["a:1", "a:2", "b:1"]);
    let image = s.store.resolve("docker.io/library/a:1").unwrap();
    for name in
        [image.id.as_str(), image.id.hex(), image.id.short(), &image.id.hex()[..1], &image.id.as_str()[..10]]
    {
        assert_eq!(s.store.resolve(name).unwrap().id, image.id, "{name}");
    }
    let by_digest = format!("a@{}", image.manifest);
    assert_eq!(s.store.resolve(&by_digest).unwrap().id, image.id);
    for (name, kind) in [
        ("a", Kind::NotFound),
        ("zzz", Kind::NotFound),
        ("A", Kind::Invalid),
        (&"f".repeat(64), Kind::NotFound),
    ] {
        assert_eq!(s.store.resolve(name).unwrap_err().kind(), kind, "{name}");
    }
    assert_eq!(s.store.resolve("nope").unwrap_err().to_string(), "No such image: nope:latest");
    assert_eq!(s.store.tag("a:1", "c").unwrap().familiar(), "c:latest");
    assert_eq!(s.store.resolve("c").unwrap().id, image.id);
    assert!(s.store.tag("a:1", &by_digest).is_err());
    assert_eq!(s.store.images().unwrap().len(), 1);
}

#[test]
fn removing_follows_docker_s_rules() {
    let s = loaded(&["a:1", "a:2", "b:1"]);
    let id = s.store.resolve("a:1").unwrap().id;
    let e = s.store.remove_image(id.short(), false, &nobody).unwrap_err();
    assert_eq!(
        e.to_string(),
        format!(
            "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
            id.short()
        )
    );
    let removed = s.store.remove_image("a:1", false, &nobody).unwrap();
    assert_eq!(removed, [Removed::Untagged("a:1".into())]);
    s.store.remove_image("b:1", false, &nobody).unwrap();
    let user = |running| {
        let id = id.to_string();
        move |_: &rusqlite::Connection| {
            Ok(vec![ImageUse { container: "c".repeat(64), running, image: id.clone(), links: vec![] }])
        }
    };
    let e = s.store.remove_image("a:2", false, &user(false)).unwrap_err();
    assert!(e.to_string().starts_with(
        "conflict: unable to remove repository reference \"a:2\" (must force) - container cccccccccccc"
    ));
    let e = s.store.remove_image(id.short(), true, &user(true)).unwrap_err();
    assert!(
        e.to_string().contains("(cannot be forced) - image is being used by running container cccccccccccc")
    );
    let e = s.store.remove_image(id.short(), false, &user(false)).unwrap_err();
    assert!(e.to_string().contains("(must be forced) - image is being used by stopped container"));
    let removed = s.store.remove_image("a:2", true, &user(true)).unwrap();
    assert_eq!(removed, [Removed::Untagged("a:2".into())]);
    let removed = s.store.remove_image(id.short(), false, &nobody).unwrap();
    assert_eq!(removed.len(), 3, "{removed:?}");
    assert_eq!(s.leftovers(), Vec::<String>::new());
    assert_eq!(s.store.remove_image("a:2", false, &nobody).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn layers_of_containers_and_shared_layers_stay() {
    let s = loaded(&["a:1"]);
    let other = vec![base_layers().remove(0)];
    s.store.load(&docker_archive(&["b:1"], &other, gzip)[..], None, &Silent).unwrap();
    let a = s.store.resolve("a:1").unwrap();
    let links: Vec<String> = a.layers.iter().map(|l| l.link.clone()).collect();
    let user = {
        let links = links.clone();
        move |_: &rusqlite::Connection| {
            Ok(vec![ImageUse {
                container: "c".repeat(64),
                running: false,
                image: "sha256:gone".into(),
                links: links.clone(),
            }])
        }
    };
    s.store.remove_image("a:1", false, &user).unwrap();
    assert!(links.iter().all(|l| s.root().join("l").join(l).is_dir()));
    s.store.collect(&nobody, std::time::Duration::ZERO).unwrap();
    assert!(s.root().join("l").join(&links[0]).is_dir(), "b has it");
    assert!(!s.root().join("l").join(&links[1]).exists());
}

#[test]
fn import_and_commit_make_images() {
    let s = scratch();
    let root = tar(&[
        dir("bin"),
        file("bin/sh", b"x").mode(0o755),
        dir("old"),
        file("old/f", b"1"),
        file("gone", b""),
    ]);
    let changes =
        vec![Instruction::parse("CMD [\"/bin/sh\"]").unwrap(), Instruction::parse("ENV A=1").unwrap()];
    let options = ImportOptions {
        reference: Some(Reference::parse("base").unwrap()),
        changes,
        message: "Imported from -".into(),
        platform: None,
    };
    let base = s.store.import(&gzip(&root)[..], &options, &Silent).unwrap();
    assert_eq!(base.config.config.env, ["A=1"]);
    assert_eq!(base.repo_tags(), ["base:latest"]);

    // A writable layer: a new file, a removed one, an opaque directory.
    let upper = s.dir.path().join("upper");
    std::fs::create_dir_all(upper.join("old")).unwrap();
    std::fs::write(upper.join("new"), "new").unwrap();
    std::fs::write(upper.join("skip"), "").unwrap();
    std::fs::write(upper.join("old/g"), "2").unwrap();
    rustix::fs::setxattr(upper.join("old"), "trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty())
        .unwrap();
    let whiteout = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, upper.join("gone"), whiteout, rustix::fs::Mode::empty(), 0).unwrap();

    let lowers = s.store.snapshot_lowers(&base);
    let changes: Vec<String> = fluyt_image::rootfs::changes(&upper, &lowers)
        .unwrap()
        .iter()
        .map(|c| format!("{} {}", c.kind.letter(), c.path))
        .collect();
    assert_eq!(changes, ["D /gone", "A /new", "C /old", "D /old/f", "A /old/g", "A /skip"]);

    let options = CommitOptions {
        reference: Some(Reference::parse("new:v2").unwrap()),
        author: "me".into(),
        comment: "why".into(),
        changes: vec![Instruction::parse("LABEL x=y").unwrap()],
        omit: vec!["/skip".into()],
        ..CommitOptions::default()
    };
    let image = s.store.commit(&base, &upper, &options, &Silent).unwrap();
    assert_eq!(image.parent, Some(base.id.clone()));
    assert_eq!(image.layers.len(), 2);
    assert_eq!(image.config.config.env, ["A=1"]);
    assert_eq!(image.config.config.labels["x"], "y");
    assert_eq!(image.config.history.len(), 2);
    assert_eq!(image.config.author, "me");
    let exported = fluyt_image::rootfs::export(&s.store.snapshot_lowers(&image), Vec::new()).unwrap();
    let names = names_in(&exported);
    assert_eq!(names, ["bin/", "new", "old/", "bin/sh", "old/g"]);
    // The same layer again: nothing new on disk but the documents.
    assert_eq!(exported, fluyt_image::rootfs::export(&s.store.snapshot_lowers(&image), Vec::new()).unwrap());

    assert!(
        s.store
            .import(&b""[..], &ImportOptions::default(), &Silent)
            .unwrap_err()
            .to_string()
            .contains("empty")
    );
    assert!(
        s.store
            .import(&b"BZh9"[..], &ImportOptions::default(), &Silent)
            .unwrap_err()
            .to_string()
            .contains("damaged")
    );
}

fn names_in(archive: &[u8]) -> Vec<String> {
    ::tar::Archive::new(archive)
        .entries()
        .unwrap()
        .map(|e| e.unwrap().path().unwrap().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn copying_into_a_volume_keeps_everything() {
    let s = scratch();
    let layers = vec![
        tar(&[
            dir("var"),
            dir("var/lib"),
            dir("var/lib/db").owner(999, 998).mode(0o700),
            file("var/lib/db/a", b"a").owner(999, 998).mode(0o4755).pax("SCHILY.xattr.user.k", b"v"),
            hardlink("var/lib/db/b", "var/lib/db/a"),
            dir("var/lib/db/sub"),
            file("var/lib/db/sub/old", b""),
            symlink("data", "/var/lib/db"),
        ]),
        tar(&[
            dir("var"),
            dir("var/lib"),
            dir("var/lib/db").owner(7, 7).mode(0o750),
            dir("var/lib/db/sub"),
            file("var/lib/db/sub/.wh.old", b""),
            file("var/lib/db/sub/new", b"n"),
        ]),
    ];
    let image = common::load_layers(&s, &layers).unwrap();
    let dest = s.dir.path().join("volume");
    std::fs::create_dir(&dest).unwrap();
    assert!(s.store.copy_up(&image, "/data", &dest).unwrap());
    use std::os::unix::fs::MetadataExt;
    let meta = dest.metadata().unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (7, 7, 0o750));
    let a = dest.join("a").metadata().unwrap();
    assert_eq!((a.uid(), a.mode() & 0o7777, a.mtime()), (999, 0o4755, 1_600_000_000));
    assert_eq!(a.ino(), dest.join("b").metadata().unwrap().ino());
    assert!(dest.join("sub/new").exists() && !dest.join("sub/old").exists());
    assert_eq!(dest.join("sub").metadata().unwrap().mtime(), 1_600_000_000);
    for nothing in ["/nothing", "/data/a", "/data/a/b"] {
        assert!(!s.store.copy_up(&image, nothing, &dest).unwrap());
    }
}

fn installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success())
}

/// Archives of other programs load, and ours are read by them, with the same ids.
#[test]
fn other_programs_agree() {
    if !installed("skopeo") {
        eprintln!("skopeo is not installed: skipped");
        return;
    }
    let first = loaded(&["a:1"]);
    let image = first.store.resolve("a:1").unwrap();
    let at = |name: &str| first.dir.path().join(name).display().to_string();
    std::fs::write(at("ours.tar"), save(&first, &["a:1"], &SaveOptions::default())).unwrap();
    std::fs::write(
        at("oci.tar"),
        save(&first, &["a:1"], &SaveOptions { oci_only: true, ..SaveOptions::default() }),
    )
    .unwrap();
    let copy = |from: String, to: String| {
        let out =
            Command::new("skopeo").args(["--insecure-policy", "copy", "-q", &from, &to]).output().unwrap();
        assert!(out.status.success(), "{from} -> {to}: {}", String::from_utf8_lossy(&out.stderr));
    };
    let ours = format!("docker-archive:{}", at("ours.tar"));
    copy(ours.clone(), format!("docker-archive:{}:docker.io/library/theirs:1", at("docker.tar")));
    copy(ours.clone(), format!("oci-archive:{}:docker.io/library/theirs:2", at("oci-theirs.tar")));
    copy(ours, format!("oci:{}:docker.io/library/theirs:3", at("layout")));
    copy(format!("oci-archive:{}", at("oci.tar")), format!("dir:{}", at("dir")));
    let second = scratch();
    for name in ["docker.tar", "oci-theirs.tar"] {
        second.store.load(std::fs::File::open(at(name)).unwrap(), None, &Silent).unwrap();
    }
    second.store.load_directory(Path::new(&at("layout")), None, &Silent).unwrap();
    for name in ["theirs:1", "theirs:2", "theirs:3"] {
        let theirs = second.store.resolve(name).unwrap();
        assert_eq!(theirs.config.rootfs, image.config.rootfs, "{name}");
    }
    assert_eq!(second.store.resolve("theirs:1").unwrap().id, image.id);
}
