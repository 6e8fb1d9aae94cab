//! Broken input for what reads archives and documents of images: it may be refused, nothing else.
#![forbid(unsafe_code)]

use fluyt_image::layer::codec::Decoder;
use fluyt_image::layer::reader::TarReader;
use fluyt_image::layer::unpack::{extract_archive, extract_files};
use fluyt_image::{Digest, Document, ImageConfig, Limits, Platform};
use fluyt_testkit::fuzz::{ROUNDS, Target};
use fluyt_testkit::images::{Entry, gzip, tar};

const WORDS: &[&[u8]] = &[
    b"ustar\0",
    b"ustar  \0",
    b"././@LongLink",
    b"PaxHeader",
    b"12 path=../../x\n",
    b"30 mtime=99999999999999999999.9\n",
    b"20 size=-1\n",
    b"SCHILY.xattr.user.x=",
    b"GNU.sparse.map=",
    b"../",
    b"/",
    b".wh.",
    b".wh..wh..opq",
    b"\x80\0\0\0\0\0\0\0\xff\xff\xff\xff",
    b"77777777777\0",
    b"0",
    b"1",
    b"2",
    b"5",
    b"L",
    b"K",
    b"x",
    b"g",
    b"S",
    b"\0\0\0\0\0\0\0\0",
    b"\x1f\x8b\x08",
    b"\x28\xb5\x2f\xfd",
];

fn archive() -> Vec<u8> {
    tar(&[
        Entry::Directory("d", 0o755),
        Entry::File("d/f".into(), 0o644, b"content".to_vec()),
        Entry::Symlink("d/l".into(), "f".into()),
        Entry::File(format!("d/{}", "long".repeat(40)), 0o600, vec![b'x'; 600]),
        Entry::File("d/.wh.gone".into(), 0o644, Vec::new()),
    ])
}

#[test]
fn fuzz_archives() {
    let plain = archive();
    let packed = gzip(&plain);
    let pax = [&plain[..512], b"19 path=another/x\n", &plain[..]].concat();
    Target { name: "tar", seeds: &[&plain, &packed, &pax], words: WORDS, rounds: ROUNDS }.run(|input| {
        let Ok(decoder) = Decoder::detect(std::io::BufReader::new(input)) else { return };
        let mut reader = TarReader::new(std::io::BufReader::new(std::io::Read::take(decoder, 1 << 22)));
        // No archive of this size has more entries than blocks.
        for _ in 0..10_000 {
            match reader.next_entry() {
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            }
            while let Ok(chunk) = reader.chunk() {
                let n = chunk.len();
                if n == 0 {
                    break;
                }
                reader.consume(n);
            }
        }
    });
}

#[test]
fn fuzz_unpacking_stays_inside() {
    let dir = tempfile::tempdir().expect("a directory");
    let inside = dir.path().join("in");
    let names = || {
        let all = std::fs::read_dir(dir.path()).expect("read").flatten().map(|e| e.file_name());
        all.collect::<Vec<_>>()
    };
    let plain = archive();
    Target { name: "unpack", seeds: &[&plain], words: WORDS, rounds: ROUNDS / 20 }.run(|input| {
        let _ = std::fs::remove_dir_all(&inside);
        std::fs::create_dir(&inside).expect("made");
        let limits = Limits::default();
        let _ = extract_archive(input, &inside, limits);
        assert_eq!(names(), ["in"], "something was written outside");
        let _ = extract_files(input, &inside, limits);
        assert_eq!(names(), ["in"], "something was written outside");
    });
}

#[test]
fn fuzz_documents() {
    let manifest = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":9,"urls":["x"],"annotations":{"a":"b"}}],"annotations":{"c":"d"}}"#;
    let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":1,"platform":{"os":"linux","architecture":"arm","variant":"v7"}}]}"#;
    let config = br#"{"created":"2024-01-01T00:00:00Z","architecture":"amd64","os":"linux","config":{"Env":["A=b"],"Cmd":["x"],"ExposedPorts":{"80/tcp":{}},"Healthcheck":{"Test":["NONE"],"Interval":5}},"rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"history":[{"created_by":"x","empty_layer":true}]}"#;
    let words: &[&[u8]] = &[
        b"null",
        b"-1",
        b"1e999",
        b"18446744073709551616",
        b"[]",
        b"{}",
        b"\"\"",
        b"\"sha256:\"",
        b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
        b"\\ud800",
        b"\xff",
        b"\"schemaVersion\":1",
        b"true",
        b",",
        b":",
        b"\"layers\":",
        b"\"manifests\":",
        b"\"config\":",
    ];
    Target { name: "documents", seeds: &[manifest, index, config], words, rounds: ROUNDS }.run(|input| {
        if let Ok(document) = Document::parse(input, "fuzz") {
            let _ = format!("{document:?}");
        }
        if let Ok(config) = ImageConfig::parse(input, "fuzz") {
            let _ = (config.platform().to_string(), serde_json::to_vec(&config));
        }
        let text = String::from_utf8_lossy(input);
        let _ = (Digest::parse(&text), Platform::parse(&text));
    });
}
