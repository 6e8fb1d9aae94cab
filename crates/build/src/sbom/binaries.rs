//! What compilers write into programs: Go's build information (since Go 1.18), and the list of crates that
//! `cargo auditable` puts into Rust programs.

use std::fs::File;
use std::io::Read;

use serde::Deserialize;

use super::Package;
use super::elf::Elf;

/// The longest list of crates, unpacked.
const MOST: u64 = 16 << 20;
/// How Go's information begins.
const GO_MAGIC: &[u8] = b"\xff Go buildinf:";
/// Where its texts begin.
const GO_TEXTS: usize = 32;
/// What stands before and after the list of modules.
const GO_MARK: usize = 16;

/// The packages that are in a program; none if it is no program, or says nothing.
pub fn of_program(file: &File, path: &str) -> Vec<Package> {
    let Some(elf) = Elf::open(file) else { return Vec::new() };
    let mut found = elf.section(".go.buildinfo").and_then(|bytes| go(&bytes, path)).unwrap_or_default();
    found.extend(elf.section(".dep-v0").and_then(|bytes| rust(&bytes, path)).unwrap_or_default());
    found
}

fn package(kind: &'static str, name: &str, version: &str, path: &str) -> Package {
    Package {
        kind,
        name: name.to_owned(),
        version: version.to_owned(),
        found_in: path.to_owned(),
        ..Package::default()
    }
}

/// The standard library, the main module and its dependencies.
fn go(bytes: &[u8], path: &str) -> Option<Vec<Package>> {
    // The second bit: the texts follow here, each after its length.
    if !bytes.starts_with(GO_MAGIC) || bytes.get(15)? & 2 == 0 {
        return None;
    }
    let mut rest = bytes.get(GO_TEXTS..)?;
    let version = text(&mut rest)?;
    let version = std::str::from_utf8(version).ok()?;
    let number = version.strip_prefix("go").unwrap_or(version).split(' ').next()?;
    let mut found = vec![package("golang", "stdlib", number, path)];
    let modules = text(&mut rest).unwrap_or_default();
    let modules = modules.get(GO_MARK..modules.len().saturating_sub(GO_MARK)).unwrap_or_default();
    for line in std::str::from_utf8(modules).unwrap_or_default().lines() {
        let mut fields = line.split('\t');
        let (kind, name, version) = (fields.next()?, fields.next(), fields.next().unwrap_or_default());
        let Some(name) = name else { continue };
        match kind {
            // What was built from a checkout has no version.
            "mod" | "dep" => found.push(package("golang", name, version.trim_matches(['(', ')']), path)),
            // Instead of the one before; a directory has neither name nor version of a module.
            "=>" if !version.is_empty() => {
                found.pop();
                found.push(package("golang", name, version, path));
            }
            _ => {}
        }
    }
    Some(found)
}

/// The next text, which its length in Go's variable form precedes.
fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut length = 0_usize;
    for shift in (0..35).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let (found, after) = rest.split_at_checked(length)?;
            *rest = after;
            return Some(found);
        }
    }
    None
}

#[derive(Deserialize)]
struct Audit {
    packages: Vec<Crate>,
}

#[derive(Deserialize)]
struct Crate {
    name: String,
    version: String,
    #[serde(default)]
    kind: String,
}

/// The crates that went into a program; those that only built it are not in it.
fn rust(bytes: &[u8], path: &str) -> Option<Vec<Package>> {
    let mut json = Vec::new();
    flate2::read::ZlibDecoder::new(bytes).take(MOST).read_to_end(&mut json).ok()?;
    let audit: Audit = serde_json::from_slice(&json).ok()?;
    let inside = audit.packages.iter().filter(|one| one.kind != "build");
    Some(inside.map(|one| package("cargo", &one.name, &one.version, path)).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(packages: &[Package]) -> Vec<String> {
        packages.iter().map(|p| format!("{}:{}@{}", p.kind, p.name, p.version)).collect()
    }

    fn info(version: &str, modules: &str) -> Vec<u8> {
        let mut bytes = GO_MAGIC.to_vec();
        bytes.extend([8, 2]);
        bytes.resize(GO_TEXTS, 0);
        let modules = [&[b'<'; GO_MARK][..], modules.as_bytes(), &[b'>'; GO_MARK]].concat();
        for text in [version.as_bytes(), &modules] {
            let mut length = text.len();
            while length >= 0x80 {
                bytes.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
                length >>= 7;
            }
            bytes.push(u8::try_from(length).unwrap());
            bytes.extend(text);
        }
        bytes
    }

    #[test]
    fn modules_of_go() {
        let modules = "path\texample.com/app/cmd/app\nmod\texample.com/app\t(devel)\t\n\
            dep\tgithub.com/a/b\tv1.2.3\th1:x=\ndep\tgithub.com/old/c\tv0.1.0\n=>\tgithub.com/new/c\tv0.2.0\th1:y=\n\
            dep\tgithub.com/d/d/v2\tv2.0.0\n=>\t./local\t\nbuild\tGOOS=linux\n";
        let found = go(&info("go1.21.3 X:none", modules), "/app").unwrap();
        assert_eq!(
            names(&found),
            [
                "golang:stdlib@1.21.3",
                "golang:example.com/app@devel",
                "golang:github.com/a/b@v1.2.3",
                "golang:github.com/new/c@v0.2.0",
                "golang:github.com/d/d/v2@v2.0.0"
            ]
        );
        let whole = info("go1.21.3", modules);
        for end in 0..whole.len() {
            // However much is missing: no package of a text that is cut, and no panic.
            let _ = go(&whole[..end], "/app");
        }
    }

    #[test]
    fn crates_of_rust() {
        let json = r#"{"packages":[{"name":"app","version":"0.1.0","source":"local","dependencies":[1],"root":true},
            {"name":"cc","version":"1.0.0","source":"crates.io","kind":"build"},{"name":"libc","version":"0.2.1","source":"crates.io"}]}"#;
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        zlib.write_all(json.as_bytes()).unwrap();
        let bytes = zlib.finish().unwrap();
        assert_eq!(names(&rust(&bytes, "/app").unwrap()), ["cargo:app@0.1.0", "cargo:libc@0.2.1"]);
        assert_eq!(rust(&bytes[..bytes.len() / 2], "/app"), None);
        assert_eq!(rust(b"nothing", "/app"), None);
    }

    /// Real programs, where there are any on the machine: Debian's of Go, and one with a section put in by binutils.
    #[test]
    fn sections_of_real_programs() {
        let dir = tempfile::tempdir().unwrap();
        for program in ["/usr/bin/podman", "/usr/bin/skopeo", "/usr/bin/containerd"] {
            let Ok(file) = File::open(program) else { continue };
            let found = of_program(&file, program);
            assert!(names(&found)[0].starts_with("golang:stdlib@1."), "{program}: {found:?}");
        }
        let json = br#"{"packages":[{"name":"libc","version":"0.2.1","source":"crates.io"}]}"#;
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        zlib.write_all(json).unwrap();
        let (section, program) = (dir.path().join("section"), dir.path().join("program"));
        std::fs::write(&section, zlib.finish().unwrap()).unwrap();
        let added = std::process::Command::new("objcopy")
            .arg(format!("--add-section=.dep-v0={}", section.display()))
            .arg("/bin/true")
            .arg(&program)
            .status();
        if added.is_ok_and(|status| status.success()) {
            let found = of_program(&File::open(&program).unwrap(), "/p");
            assert_eq!(names(&found), ["cargo:libc@0.2.1"]);
            // Cut anywhere, it is a program that says nothing, or what is still there.
            let whole = std::fs::read(&program).unwrap();
            for end in (0..whole.len()).step_by(997) {
                std::fs::write(&section, &whole[..end]).unwrap();
                assert!(of_program(&File::open(&section).unwrap(), "/p").len() <= 1);
            }
        }
        assert_eq!(of_program(&File::open("/bin/true").unwrap(), "/p"), []);
    }
}
