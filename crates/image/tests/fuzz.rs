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

/// One header, and its content in whole blocks.
fn member(kind: u8, name: &str, link: &str, content: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..124].copy_from_slice(b"0000000\0".repeat(2).as_slice());
    block[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    block[136..148].copy_from_slice(b"00000000000\0");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    block.extend_from_slice(content);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

/// An archive of these members whose checksums are right.
fn of(members: &[Vec<u8>]) -> Vec<u8> {
    let mut archive = members.concat();
    archive.resize(archive.len() + 1024, 0);
    checksums(&mut archive);
    archive
}

/// Puts the checksums of all headers right (POSIX.1-1988 ustar, `chksum`: the sum of all bytes, its own taken as spaces).
fn checksums(archive: &mut [u8]) {
    for block in archive.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().copied().map(u32::from).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// A pax record (POSIX.1-2001 pax, extended header): its length counts itself.
fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let length = (rest..).find(|n| n.to_string().len() + rest == *n).expect("there is one");
    format!("{length} {key}={value}\n")
}

/// What archives may have beside plain files: extended headers, long names, sparse files, links of all kinds.
fn special() -> Vec<Vec<u8>> {
    let pax = |records: &[(&str, &str)]| {
        let text: String = records.iter().map(|(key, value)| record(key, value)).collect();
        member(b'x', "PaxHeaders/x", "", text.as_bytes())
    };
    let data = [b'd'; 512];
    let mut old = member(b'S', "old-sparse", "", &data);
    // GNU's old form: pairs of offset and length from 386 on, whether more follow at 482, the real size at 483.
    old[386..410].copy_from_slice(b"00000004000\x0000000001000\x00");
    old[483..495].copy_from_slice(b"00000005000\0");
    old[257..265].copy_from_slice(b"ustar  \0");
    let map = format!("1\n2048\n512\n{}", "\0".repeat(501));
    vec![
        of(&[
            pax(&[("path", "d/by-pax"), ("mtime", "12.5"), ("size", "512"), ("SCHILY.xattr.user.x", "y")]),
            member(b'0', "short", "", &data),
            pax(&[("linkpath", "d/by-pax"), ("path", "d/hard")]),
            member(b'1', "x", "x", b""),
        ]),
        of(&[
            member(b'L', "././@LongLink", "", format!("d/{}\0", "n".repeat(300)).as_bytes()),
            member(b'K', "././@LongLink", "", format!("/{}\0", "t".repeat(300)).as_bytes()),
            member(b'2', "short", "short", b""),
            member(b'0', "after", "", b"x"),
        ]),
        of(&[old, member(b'0', "after", "", b"x")]),
        of(&[
            pax(&[
                ("GNU.sparse.size", "2560"),
                ("GNU.sparse.numblocks", "1"),
                ("GNU.sparse.offset", "2048"),
                ("GNU.sparse.numbytes", "512"),
            ]),
            member(b'0', "sparse-0.0", "", &data),
        ]),
        of(&[
            pax(&[
                ("GNU.sparse.size", "2560"),
                ("GNU.sparse.numblocks", "1"),
                ("GNU.sparse.map", "2048,512"),
                ("GNU.sparse.name", "d/sparse-0.1"),
            ]),
            member(b'0', "sparse-0.1", "", &data),
        ]),
        of(&[
            pax(&[
                ("GNU.sparse.major", "1"),
                ("GNU.sparse.minor", "0"),
                ("GNU.sparse.name", "d/sparse-1.0"),
                ("GNU.sparse.realsize", "2560"),
            ]),
            member(b'0', "sparse-1.0", "", &[map.as_bytes(), &data].concat()),
        ]),
        of(&[
            member(b'5', "d/", "", b""),
            member(b'2', "d/up", "../..", b""),
            member(b'0', "d/up/escaped", "", b"x"),
            member(b'2', "root", "/", b""),
            member(b'0', "root/escaped", "", b"x"),
            member(b'1', "d/hard", "d/up/escaped", b""),
            member(b'0', "../escaped", "", b"x"),
            member(b'3', "d/device", "", b""),
            member(b'6', "d/pipe", "", b""),
        ]),
    ]
}

#[test]
fn the_special_archives_are_read_to_their_end() {
    for (number, archive) in special().iter().enumerate() {
        let mut reader = TarReader::new(&archive[..]);
        let mut names = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap_or_else(|e| panic!("archive {number}: {e}")) {
            names.push(String::from_utf8_lossy(&entry.path).into_owned());
        }
        assert!(!names.is_empty(), "archive {number}: nothing in it");
    }
}

#[test]
fn fuzz_archives() {
    let plain = archive();
    let packed = gzip(&plain);
    let special = special();
    let seeds: Vec<&[u8]> = [&plain, &packed].into_iter().chain(&special).map(Vec::as_slice).collect();
    Target { name: "tar", seeds: &seeds, words: WORDS, rounds: ROUNDS }.run_mended(checksums, |input| {
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
    let special = special();
    let seeds: Vec<&[u8]> = [&plain].into_iter().chain(&special).map(Vec::as_slice).collect();
    Target { name: "unpack", seeds: &seeds, words: WORDS, rounds: ROUNDS / 10 }.run_mended(
        checksums,
        |input| {
            let _ = std::fs::remove_dir_all(&inside);
            std::fs::create_dir(&inside).expect("made");
            let limits = Limits::default();
            let _ = extract_archive(input, &inside, limits);
            assert_eq!(names(), ["in"], "something was written outside");
            let _ = extract_files(input, &inside, limits);
            assert_eq!(names(), ["in"], "something was written outside");
        },
    );
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
