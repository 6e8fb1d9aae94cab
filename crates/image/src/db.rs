//! The record file of a data root: `ROOT/db.sqlite`, shared by every process that uses the root.
//!
//! WAL mode, so readers never wait for a writer; writers wait for each other up to [`BUSY_TIMEOUT`]. Each part of
//! the program keeps its own tables and its own schema version: the thirty usable bits of SQLite's `user_version`
//! are divided into [`Part`]s, so that opening an up-to-date file costs one header read for all parts together.

use std::cell::Cell;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

/// How long a writer waits for another process's transaction.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(20);

/// The owner of a set of tables in the record file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// This crate: images, references, layers.
    Image,
    /// The engine: containers, names, networks, volumes.
    Engine,
    /// Reserved for the builder's cache.
    Build,
    /// The registry that is served: repositories, tags, links to blobs.
    Registry,
}

impl Part {
    fn shift(self) -> u32 {
        match self {
            Self::Image => 0,
            Self::Engine => 10,
            Self::Build => 20,
            Self::Registry => 25,
        }
    }

    /// The bits that the version has, in place.
    fn mask(self) -> u32 {
        let bits = match self {
            Self::Image | Self::Engine => 0x3ff,
            Self::Build | Self::Registry => 0x1f,
        };
        bits << self.shift()
    }

    fn version_in(self, user_version: u32) -> u32 {
        (user_version & self.mask()) >> self.shift()
    }
}

/// A connection to the record file of one data root.
#[derive(Debug)]
pub struct Db {
    connection: Connection,
    path: PathBuf,
    user_version: Cell<u32>,
}

impl Db {
    /// Opens `root/db.sqlite`, creating it when it is absent. The directory must exist.
    ///
    /// # Errors
    /// `Kind::Corrupt` when the file is no database; I/O errors with the path.
    pub fn open(root: &Path) -> Result<Self> {
        let path = root.join("db.sqlite");
        // It would make the file everybody's to read, and with it its log.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match Connection::open_with_flags(&path, flags) {
            Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen) => {
                let mut new = std::fs::OpenOptions::new();
                new.write(true)
                    .create(true)
                    .truncate(false)
                    .mode(0o600)
                    .open(&path)
                    .about(|| path.display().to_string())?;
                Connection::open_with_flags(&path, flags)
            }
            other => other,
        }
        .map_err(|e| db_error(&path, e))?;
        let db = Self { connection, path, user_version: Cell::new(0) };
        db.connection.busy_handler(Some(wait_turn)).map_err(|e| db.error(e))?;
        db.connection.set_prepared_statement_cache_capacity(64);
        // Commands are short-lived: if each of them emptied the log when it ends, each would wait for the disk twice.
        // The log stays instead, and whoever finds it long enough empties it.
        db.connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            .map_err(|e| db.error(e))?;
        db.connection
            .execute_batch("PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON; PRAGMA wal_autocheckpoint=256")
            .map_err(|e| db.error(e))?;
        let version = db.read_user_version()?;
        db.user_version.set(version);
        if version == 0 {
            db.enter_wal_mode()?;
        }
        Ok(db)
    }

    /// WAL mode is a property of the file. Entering it needs the file alone, and SQLite does not wait for that
    /// under the busy timeout when two processes create the file at once.
    fn enter_wal_mode(&self) -> Result<()> {
        let started = std::time::Instant::now();
        loop {
            let set = self.connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get::<_, String>(0));
            match set {
                Ok(_) => return Ok(()),
                Err(e)
                    if e.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
                        && started.elapsed() < BUSY_TIMEOUT =>
                {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(e) => return Err(self.error(e)),
            }
        }
    }

    /// Brings the tables of `part` to version `steps.len()`: step *i* leads from version *i* to *i* + 1.
    ///
    /// Steps that are still to be done run in one transaction; two processes may call this at once. Costs nothing
    /// when the version, read at [`Db::open`], is current.
    ///
    /// # Errors
    /// `Kind::Unsupported` when a newer program wrote the file.
    pub fn migrate(&self, part: Part, steps: &[&str]) -> Result<()> {
        let target = u32::try_from(steps.len()).unwrap_or(u32::MAX);
        if part.version_in(self.user_version.get()) == target {
            return Ok(());
        }
        self.write(|tx| {
            let found: u32 =
                tx.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(|e| self.error(e))?;
            let version = part.version_in(found);
            if version > target {
                return Err(Error::unsupported(format!(
                    "{}: written by a newer version of this program (schema {version}, known {target})",
                    self.path.display()
                ))
                .with_hint("use the newer program, or another data root (--root)"));
            }
            for step in steps.iter().skip(version as usize) {
                tx.execute_batch(step).map_err(|e| self.error(e))?;
            }
            let new = (found & !part.mask()) | (target << part.shift());
            tx.execute_batch(&format!("PRAGMA user_version={new}")).map_err(|e| self.error(e))?;
            self.user_version.set(new);
            Ok(())
        })
    }

    /// Runs `work` in a write transaction (`BEGIN IMMEDIATE`), committed when it returns `Ok`, else rolled back.
    ///
    /// # Errors
    /// Those of `work`; `Kind::Unavailable` when another process holds the write lock for too long.
    pub fn write<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let tx = rusqlite::Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)
            .map_err(|e| self.error(e))?;
        let value = work(&tx)?;
        tx.commit().map_err(|e| self.error(e))?;
        Ok(value)
    }

    /// Runs `work` in a read transaction: everything it reads is of one moment.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        // Prepared once: in a process that lives, parsing these words would take longer than what many reads look for.
        let begin = self.connection.prepare_cached("BEGIN DEFERRED").and_then(|mut begin| begin.execute([]));
        begin.map_err(|e| self.error(e))?;
        let _reading = Reading(&self.connection);
        work(&self.connection)
    }

    /// What this connection sees, as a number: as long as it is the same, nothing that was read has changed, whoever
    /// writes. To be asked within [`Db::read`], before what it is to stand for is read.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn version(&self) -> Result<Seen> {
        // Commits of others show in the first, this connection's own writes in the second.
        let mut statement =
            self.connection.prepare_cached("PRAGMA data_version").map_err(|e| self.error(e))?;
        let others = statement.query_row([], |row| row.get(0)).map_err(|e| self.error(e))?;
        Ok(Seen { others, own: self.connection.total_changes() })
    }

    /// The connection, for single statements; use `prepare_cached`.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Turns an error of the database library into one that names the file.
    #[must_use]
    pub fn error(&self, e: rusqlite::Error) -> Error {
        db_error(&self.path, e)
    }

    /// SQLite's own check of the whole file: an empty list when it is sound, else its findings.
    ///
    /// # Errors
    /// When the check itself cannot run.
    pub fn integrity_check(&self) -> Result<Vec<String>> {
        let mut statement = self.connection.prepare("PRAGMA integrity_check").map_err(|e| self.error(e))?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).map_err(|e| self.error(e))?;
        let found: Vec<String> = rows.collect::<rusqlite::Result<_>>().map_err(|e| self.error(e))?;
        Ok(found.into_iter().filter(|line| line != "ok").collect())
    }

    fn read_user_version(&self) -> Result<u32> {
        self.connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(|e| self.error(e))
    }
}

/// What a connection sees of the file; see [`Db::version`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    others: i64,
    own: u64,
}

/// A read transaction, which ends with this.
struct Reading<'c>(&'c Connection);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let ended = self.0.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]));
        if ended.is_err() {
            // Nothing was written, so that there is nothing to lose; a failure shows at the next beginning.
            let _ = self.0.execute_batch("ROLLBACK");
        }
    }
}

/// Waits for another process's transaction, for the `attempt`-th time; `false` when [`BUSY_TIMEOUT`] is over.
///
/// Our transactions take a fraction of a millisecond, so the first waits are as short; SQLite's own begin at a whole
/// one and soon overshoot.
fn wait_turn(attempt: i32) -> bool {
    const SHORT: Duration = Duration::from_micros(250);
    const LONG: Duration = Duration::from_millis(2);
    const MANY_SHORT: u32 = 80;
    let attempt = u32::try_from(attempt).unwrap_or(0);
    let waited = SHORT * attempt.min(MANY_SHORT) + LONG * attempt.saturating_sub(MANY_SHORT);
    std::thread::sleep(if attempt < MANY_SHORT { SHORT } else { LONG });
    waited < BUSY_TIMEOUT
}

/// Turns an error of the database library into one that names `path`; its kind follows SQLite's code.
#[must_use]
pub fn db_error(path: &Path, e: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode as C;
    let code = e.sqlite_error_code();
    let kind = match code {
        Some(C::DatabaseBusy | C::DatabaseLocked) => Kind::Unavailable,
        Some(C::DiskFull) => Kind::Exhausted,
        Some(C::PermissionDenied | C::ReadOnly | C::CannotOpen) => Kind::PermissionDenied,
        Some(C::DatabaseCorrupt | C::NotADatabase) => Kind::Corrupt,
        Some(C::ConstraintViolation) => Kind::Conflict,
        _ => Kind::Internal,
    };
    let error = Error::new(kind, path.display().to_string()).with_source(e);
    match code {
        Some(C::DatabaseCorrupt | C::NotADatabase) => {
            error.with_hint("restore the file from a backup, or move the data root away and start anew")
        }
        Some(C::DiskFull) => error.with_hint("free some disk space, then try again"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_migrate_apart_and_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path()).unwrap();
        db.migrate(Part::Engine, &["CREATE TABLE a(x)"]).unwrap();
        db.migrate(Part::Image, &["CREATE TABLE b(x)", "CREATE TABLE c(x)"]).unwrap();
        let again = Db::open(dir.path()).unwrap();
        again.migrate(Part::Image, &["CREATE TABLE b(x)", "CREATE TABLE c(x)"]).unwrap();
        again.migrate(Part::Engine, &["CREATE TABLE a(x)", "ALTER TABLE a ADD y"]).unwrap();
        let e = db_older(dir.path());
        assert_eq!(e.kind(), Kind::Unsupported);
        assert!(again.integrity_check().unwrap().is_empty());
    }

    fn db_older(root: &Path) -> Error {
        Db::open(root).unwrap().migrate(Part::Engine, &["CREATE TABLE a(x)"]).unwrap_err()
    }

    #[test]
    fn a_file_that_is_no_database_is_corrupt() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("db.sqlite"), vec![b'x'; 8192]).unwrap();
        let e = Db::open(dir.path()).unwrap_err();
        assert_eq!(e.kind(), Kind::Corrupt);
        assert!(e.chain().contains("db.sqlite"));
    }
}
