//! RPM's databases: in SQLite (since RPM 4.16), and `ndb` (SUSE's). Berkeley DB, of older systems, is not read.
//!
//! Either holds one *header* a package: the number of entries and the bytes of data (both four bytes, big endian), then
//! entries of tag, type, offset and count, then the data.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, OpenFlags};

use super::Package;

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const VENDOR: u32 = 1011;
const LICENSE: u32 = 1014;
const ARCHITECTURE: u32 = 1022;
const SOURCE: u32 = 1044;
/// The types of numbers of four bytes and of texts; a text of several languages begins with the one without.
const INT32: u32 = 4;
const TEXTS: [u32; 2] = [6, 9];

/// Packages of one database; a system has some thousand.
const MOST_PACKAGES: usize = 200_000;
/// The largest database that is looked at, in bytes.
const MOST_DATABASE: u64 = 1 << 30;
/// The longest header, in bytes.
const MOST_HEADER: u32 = 64 << 20;

/// The packages of a database in SQLite.
pub fn sqlite(file: &File, path: &str) -> Vec<Package> {
    let Some(copy) = Copy::of(file) else { return Vec::new() };
    // Nobody else writes to it, and nothing is made beside it.
    let address = format!("file:{}?immutable=1", copy.0.display());
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let read = || -> rusqlite::Result<Vec<Package>> {
        let database = Connection::open_with_flags(address, flags)?;
        // A plain table: a view could be a query without end.
        let plain = "SELECT count(*) FROM sqlite_schema WHERE name = 'Packages' AND type = 'table' AND sql LIKE 'CREATE TABLE%'";
        if database.query_row(plain, [], |row| row.get::<_, i64>(0))? != 1 {
            return Ok(Vec::new());
        }
        let mut statement = database.prepare("SELECT blob FROM Packages WHERE length(blob) <= ?1")?;
        let rows = statement.query_map([MOST_HEADER], |row| row.get::<_, Vec<u8>>(0))?;
        let mut found = Vec::new();
        for header in rows.take(MOST_PACKAGES) {
            found.extend(package(&header?, path));
        }
        Ok(found)
    };
    read().unwrap_or_default()
}

/// A copy of a file, for a library that takes paths: the path of an open file of an image, which SQLite would look up
/// itself, is one inside of that image, where this machine may have a file of its own.
struct Copy(PathBuf);

impl Copy {
    fn of(file: &File) -> Option<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        if file.metadata().ok()?.len() > MOST_DATABASE {
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fluyt-rpm-{}-{number}", std::process::id()));
        let mut to = File::options().write(true).create_new(true).mode(0o600).open(&path).ok()?;
        let copy = Self(path);
        let mut from = file.take(MOST_DATABASE);
        std::io::copy(&mut from, &mut to).ok()?;
        Some(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The packages of an `ndb`: pages of slots that say where in the file a header is, in blocks of sixteen bytes.
pub fn ndb(file: &File, path: &str) -> Vec<Package> {
    let mut found = Vec::new();
    let mut head = [0; 32];
    if file.read_exact_at(&mut head, 0).is_err() || &head[..4] != b"RpmP" {
        return found;
    }
    let word = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
    };
    let pages = u64::from(word(&head, 12)).min(MOST_PACKAGES as u64 / 256);
    // The first two slots are the head.
    for at in 2..pages * 256 {
        let mut slot = [0; 16];
        if file.read_exact_at(&mut slot, at * 16).is_err() {
            break;
        }
        let (number, block) = (word(&slot, 4), word(&slot, 8));
        if &slot[..4] != b"Slot" || number == 0 {
            continue;
        }
        let offset = u64::from(block) * 16;
        let mut blob = [0; 16];
        if file.read_exact_at(&mut blob, offset).is_err() || &blob[..4] != b"BlbS" || word(&blob, 4) != number
        {
            continue;
        }
        let length = word(&blob, 12);
        let there = file.metadata().map_or(0, |meta| meta.len()).saturating_sub(offset + 16);
        if length > MOST_HEADER || u64::from(length) > there {
            continue;
        }
        let mut header = vec![0; length as usize];
        if file.read_exact_at(&mut header, offset + 16).is_ok() {
            found.extend(package(&header, path));
        }
    }
    found
}

/// The package of a header.
fn package(header: &[u8], path: &str) -> Option<Package> {
    let word = |at: usize| Some(u32::from_be_bytes(header.get(at..at.checked_add(4)?)?.try_into().ok()?));
    let entries = usize::try_from(word(0)?).ok()?;
    let data = header.get(entries.checked_mul(16)?.checked_add(8)?..)?;
    let mut texts: HashMap<u32, String> = HashMap::new();
    let mut epoch = None;
    for at in (0..entries).map(|index| 8 + 16 * index) {
        let (tag, kind, offset) = (word(at)?, word(at + 4)?, usize::try_from(word(at + 8)?).ok()?);
        let Some(value) = data.get(offset..) else { continue };
        if TEXTS.contains(&kind)
            && [NAME, VERSION, RELEASE, VENDOR, LICENSE, ARCHITECTURE, SOURCE].contains(&tag)
        {
            let end = value.iter().position(|b| *b == 0)?;
            texts.insert(tag, String::from_utf8_lossy(&value[..end]).into_owned());
        } else if tag == EPOCH && kind == INT32 {
            epoch = value.get(..4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
        }
    }
    let mut take = |tag: u32| texts.remove(&tag).unwrap_or_default();
    let (name, version, release) = (take(NAME), take(VERSION), take(RELEASE));
    // Keys that signed packages are kept like packages.
    if name.is_empty() || version.is_empty() || name == "gpg-pubkey" {
        return None;
    }
    let epoch = epoch.map(|epoch| format!("{epoch}:")).unwrap_or_default();
    Some(Package {
        kind: "rpm",
        name,
        version: format!("{epoch}{version}-{release}"),
        architecture: take(ARCHITECTURE),
        source: take(SOURCE),
        license: take(LICENSE),
        maintainer: take(VENDOR),
        found_in: path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(texts: &[(u32, &str)], epoch: Option<u32>) -> Vec<u8> {
        let (mut entries, mut data) = (Vec::new(), Vec::new());
        if let Some(epoch) = epoch {
            entries.push((EPOCH, INT32, 0));
            data.extend(epoch.to_be_bytes());
        }
        for (tag, text) in texts {
            entries.push((*tag, 6, data.len()));
            data.extend([text.as_bytes(), &[0]].concat());
        }
        let number = |n: usize| u32::try_from(n).unwrap().to_be_bytes();
        let mut out = [number(entries.len()), number(data.len())].concat();
        for (tag, kind, offset) in entries {
            out.extend([tag.to_be_bytes(), kind.to_be_bytes(), number(offset), number(1)].concat());
        }
        out.extend(data);
        out
    }

    fn bash() -> Vec<u8> {
        let texts = [
            (NAME, "bash"),
            (VERSION, "5.2.15"),
            (RELEASE, "3.fc38"),
            (ARCHITECTURE, "x86_64"),
            (LICENSE, "GPL-3.0-or-later"),
            (SOURCE, "bash-5.2.15-3.fc38.src.rpm"),
            (VENDOR, "Fedora Project"),
        ];
        header(&texts, Some(1))
    }

    #[test]
    fn headers_are_packages() {
        let found = package(&bash(), "/db").unwrap();
        assert_eq!((found.name.as_str(), found.version.as_str()), ("bash", "1:5.2.15-3.fc38"));
        assert_eq!(found.source, "bash-5.2.15-3.fc38.src.rpm");
        assert_eq!(
            package(&header(&[(NAME, "gpg-pubkey"), (VERSION, "1"), (RELEASE, "2")], None), "/db"),
            None
        );
        for end in 0..bash().len() {
            let _ = package(&bash()[..end], "/db");
        }
        let mut claims = bash();
        claims[..4].copy_from_slice(&[0xff; 4]);
        assert_eq!(package(&claims, "/db"), None);
    }

    #[test]
    fn databases_of_both_kinds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rpmdb.sqlite");
        let database = Connection::open(&path).unwrap();
        database.execute("CREATE TABLE Packages(hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)", []).unwrap();
        database.execute("INSERT INTO Packages VALUES (1, ?1)", [bash()]).unwrap();
        database.execute("INSERT INTO Packages VALUES (2, x'00')", []).unwrap();
        drop(database);
        let open = File::open(&path).unwrap();
        let found = sqlite(&open, "/db");
        assert_eq!(found.len(), 1);
        // The file that is open is meant, not what is at its path.
        std::fs::rename(&path, dir.path().join("moved")).unwrap();
        std::fs::write(&path, "another").unwrap();
        assert_eq!(sqlite(&File::open(dir.path().join("moved")).unwrap(), "/db"), found);
        std::fs::rename(dir.path().join("moved"), &path).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is made beside it");
        std::fs::write(&path, "SQLite format 3\0nonsense").unwrap();
        assert_eq!(sqlite(&File::open(&path).unwrap(), "/db"), []);

        let word = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
        let mut bytes = vec![0; 4096];
        bytes[..4].copy_from_slice(b"RpmP");
        bytes[12..16].copy_from_slice(&word(1));
        for (at, number, block) in [(2, 7, 256), (3, 0, 0), (4, 8, 9999)] {
            let slot = [*b"Slot", word(number), word(block), word(2)].concat();
            bytes[at * 16..at * 16 + 16].copy_from_slice(&slot);
        }
        bytes.extend([*b"BlbS", word(7), word(1), word(bash().len())].concat());
        bytes.extend(bash());
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(ndb(&File::open(&path).unwrap(), "/db"), found);
        for end in (0..bytes.len()).step_by(7) {
            std::fs::write(&path, &bytes[..end]).unwrap();
            assert!(ndb(&File::open(&path).unwrap(), "/db").len() <= 1);
        }
    }
}
