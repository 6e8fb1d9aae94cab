//! Commands in containers whose caller may go away, or have threads: each has a keeper of its own.
//!
//! The keeper (`fluyt attend`, from the sealed executable) is the command's parent. It serves the command's streams over a
//! socket, in the frames that monitors speak, and goes on when nobody is at its other end. What is known of a command is in
//! a small file in its container's run directory, made before the command runs:
//!
//! ```text
//! RUN/CONTAINER/exec/ID    ExecRecord as JSON, rewritten in place; locked by the keeper while it lives
//! ```
//! So any process can ask about it, and a keeper that was killed is known by its lock.

use std::fs::{DirEntry, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};
use fluyt_monitor::protocol::{self, FrameKind, Reply};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::ExecOptions;
use crate::container::create::random;
use crate::container::exec::{ExecTarget, told};
use crate::container::keeper;
use crate::container::known::Known;
use crate::{Attach, Engine, seal};

/// The keeper's end of the session, if there is one.
pub(crate) const SESSION_FD: i32 = 3;
/// Over which it is told what to do, and tells how it went.
pub(crate) const CONTROL_FD: i32 = 4;
/// The command's file, locked.
pub(crate) const RECORD_FD: i32 = 5;

/// Commands that ended longer ago are forgotten when another is made.
const KEPT: Duration = Duration::from_secs(300);
/// So many are kept of one container in any case.
const ALWAYS_KEPT: usize = 8;
/// When there are so many of one container, half of them are forgotten if they have ended, however short ago.
const MOST_KEPT: usize = 512;

/// What is known of a command.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ExecRecord {
    /// 64 digits.
    pub id: String,
    /// The container's full id.
    pub container: String,
    /// What it runs.
    pub options: ExecOptions,
    /// The façade's own document, never read here.
    pub document: Value,
    /// It was told to start, with or without success.
    pub started: bool,
    /// Its process id on the host, once it runs.
    pub pid: i32,
    /// How it ended.
    pub exit_code: Option<i32>,
    /// When, ns since 1970; 0: it has not.
    pub ended: i64,
    /// What the keeper needs of the container's record.
    #[serde(default)]
    known: Option<Known>,
}

/// What the keeper is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub root: PathBuf,
    pub attached: bool,
}

/// A command that was started.
pub struct Attended {
    /// The session, if it was asked for.
    pub session: Option<Attach>,
    /// To tell its terminal a size.
    pub control: ExecControl,
    /// The keeper: a child of this process, to be collected.
    pub keeper: Child,
}

/// A line to a command's keeper.
#[derive(Debug)]
pub struct ExecControl(UnixStream);

impl ExecControl {
    /// Tells the command's terminal a size.
    ///
    /// # Errors
    /// `Unavailable`: it has ended.
    pub fn resize(&mut self, rows: u16, columns: u16) -> Result<()> {
        let ([r1, r0], [c1, c0]) = (rows.to_be_bytes(), columns.to_be_bytes());
        let mut frame = protocol::header(FrameKind::Resize, 4).to_vec();
        frame.extend_from_slice(&[r1, r0, c1, c0]);
        self.0.write_all(&frame).about(|| "the command")
    }

    /// Whether the keeper is still there.
    #[must_use]
    pub fn is_open(&self) -> bool {
        use std::os::fd::AsFd;
        let patience = crate::Patience { unless_gone: Some(self.0.as_fd()), ..crate::Patience::NONE };
        patience.is_gone().is_ok_and(|gone| !gone)
    }
}

/// A command's file.
pub(crate) struct RecordFile(pub File);

impl RecordFile {
    /// Reads it; what is just being written is read again.
    pub fn read(&self) -> Result<ExecRecord> {
        let about = || "the record of a command";
        for _ in 0..20 {
            let length = self.0.metadata().about(about)?.len();
            let mut text = vec![0; usize::try_from(length).unwrap_or(0)];
            if self.0.read_exact_at(&mut text, 0).is_ok()
                && let Ok(record) = serde_json::from_slice(&text)
            {
                return Ok(record);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(Error::corrupt("the record of a command"))
    }

    /// Replaces its text.
    pub fn write(&self, record: &ExecRecord) -> Result<()> {
        let about = || "the record of a command";
        let text = serde_json::to_vec(record).map_err(|e| Error::internal(about()).with_source(e))?;
        self.0.write_all_at(&text, 0).about(about)?;
        self.0.set_len(text.len() as u64).about(about)
    }

    /// Whether the command has ended, and its keeper, too. One that cannot be read is not known to have.
    fn is_over(&self) -> bool {
        #[derive(Deserialize)]
        struct Brief {
            started: bool,
            exit_code: Option<i32>,
        }
        let mut text = Vec::new();
        let read = (&self.0).read_to_end(&mut text);
        let found = read.ok().and_then(|_| serde_json::from_slice::<Brief>(&text).ok());
        // One that has not been started is not looked at so: whoever starts it takes the lock.
        found.is_some_and(|found| (found.started || found.exit_code.is_some()) && self.is_free())
    }

    /// Whether the keeper has gone.
    fn is_free(&self) -> bool {
        rustix::fs::flock(&self.0, FlockOperation::NonBlockingLockShared).is_ok()
    }
}

impl Engine {
    fn execs_dir(&self, container: &str) -> PathBuf {
        self.paths().run_of(container).join("exec")
    }

    /// Makes a command ready to be started in a running container; its id.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if the container does not run or is paused.
    pub fn exec_make(&self, name: &str, options: ExecOptions, document: Value) -> Result<String> {
        let target = self.exec_target(name)?;
        target.check_running()?;
        let id = fluyt_model::id::from_random(random()?);
        let dir = self.execs_dir(target.id());
        std::fs::create_dir_all(&dir).about(|| dir.display().to_string())?;
        forget_old(&dir);
        let path = dir.join(&id);
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        target.announce_made(&id, &told(&options.args));
        let record = ExecRecord {
            id: id.clone(),
            container: target.id().to_owned(),
            options,
            document,
            known: Some(target.into_known()),
            ..ExecRecord::default()
        };
        RecordFile(file.about(|| path.display().to_string())?).write(&record)?;
        Ok(id)
    }

    fn exec_file(&self, id: &str) -> Result<RecordFile> {
        let unknown = || Error::not_found(format!("No such exec instance: {id}"));
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(unknown());
        }
        let containers = std::fs::read_dir(self.paths().run()).map_err(|_| unknown())?;
        for container in containers.flatten() {
            let path = container.path().join("exec").join(id);
            match OpenOptions::new().read(true).write(true).open(&path) {
                Ok(file) => return Ok(RecordFile(file)),
                Err(e) if matches!(e.raw_os_error(), Some(2 | 20)) => {}
                Err(e) => return Err(Error::io(path.display().to_string(), e)),
            }
        }
        Err(unknown())
    }

    /// What is known of a command, also after its end; whether it runs.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn exec_look(&self, id: &str) -> Result<(ExecRecord, bool)> {
        let file = self.exec_file(id)?;
        let mut record = file.read()?;
        let over = record.started && record.exit_code.is_none() && file.is_free();
        if over {
            // The keeper may have written the end in between; if not, it was killed, and with it the command's streams.
            record = file.read()?;
            record.exit_code.get_or_insert(137);
        }
        let running = record.started && record.exit_code.is_none() && record.pid != 0;
        Ok((record, running))
    }

    /// Whether a command could be started now.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if its container does not run or is paused.
    pub fn exec_check(&self, id: &str) -> Result<()> {
        let known =
            self.exec_file(id)?.read()?.known.ok_or_else(|| Error::corrupt("the record of a command"))?;
        ExecTarget::of(self.paths().root(), known)?.check_running().map(drop)
    }

    /// The ids of a container's commands that run or are yet to be started.
    #[must_use]
    pub fn execs_of(&self, container: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.execs_dir(container)).into_iter().flatten().flatten();
        let open = |entry: &DirEntry| File::open(entry.path()).is_ok_and(|file| !RecordFile(file).is_over());
        entries.filter(open).filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// Starts a command that was made.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if it was started before, or the container does not run; `CommandNotFound`,
    /// `CommandNotExecutable`.
    pub fn exec_begin(&self, id: &str, attached: bool, size: Option<(u16, u16)>) -> Result<Attended> {
        let file = self.exec_file(id)?;
        let again = || Error::conflict(format!("Error: Exec command {id} is already running"));
        rustix::fs::flock(&file.0, FlockOperation::NonBlockingLockExclusive).map_err(|_| again())?;
        let mut record = file.read()?;
        if record.started {
            return Err(Error::conflict(format!("Error: Exec command {id} has already run")));
        }
        if let (Some(tty), Some(size)) = (&mut record.options.tty, size) {
            *tty = size;
        }
        record.started = true;
        file.write(&record)?;
        self.keep(file, attached)
    }

    fn keep(&self, file: RecordFile, attached: bool) -> Result<Attended> {
        let about = || "fluyt attend";
        let (control, theirs) = UnixStream::pair().about(about)?;
        let mut fds = vec![(OwnedFd::from(theirs), CONTROL_FD), (OwnedFd::from(file.0), RECORD_FD)];
        let mut session = None;
        if attached {
            let (ours, theirs) = UnixStream::pair().about(about)?;
            fds.push((theirs.into(), SESSION_FD));
            session = Some(ours);
        }
        let sealed = seal::find(self.paths().run()).about(about)?;
        let mut command = Command::new(format!("/proc/self/fd/{}", sealed.file.as_raw_fd()));
        command.arg0("fluyt").arg("attend").env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut keeper = fluyt_sys::spawn::with_fds(&mut command, fds).about(about)?;
        let order = Order { root: self.paths().root().to_owned(), attached };
        let mut line = serde_json::to_vec(&order).map_err(|e| Error::internal(about()).with_source(e))?;
        line.push(b'\n');
        (&control).write_all(&line).about(about)?;
        let mut answer = String::new();
        // It says one line and nothing after it: no byte is lost in the buffer.
        BufReader::new(&control).read_line(&mut answer).about(about)?;
        let outcome = serde_json::from_str::<Reply>(&answer)
            .map_err(|_| {
                Error::new(Kind::Unavailable, "the keeper of the command went away before it answered")
            })
            .and_then(Reply::into_result);
        if let Err(e) = outcome {
            let _ = keeper.wait();
            return Err(e);
        }
        let session = session.map(Attach::over);
        Ok(Attended { session, control: ExecControl(control), keeper })
    }
}

/// Forgets commands that ended a while ago: whoever wanted to know has asked. Of many, those are forgotten sooner that
/// ended first, so that what a new one costs does not grow with what has been.
fn forget_old(dir: &Path) {
    let entries: Vec<_> = std::fs::read_dir(dir).into_iter().flatten().flatten().collect();
    if entries.len() < ALWAYS_KEPT {
        return;
    }
    // What was written last is the end.
    let written = |entry: DirEntry| Some((entry.metadata().ok()?.modified().ok()?, entry));
    let mut entries: Vec<_> = entries.into_iter().filter_map(written).collect();
    entries.sort_by_key(|(time, _)| *time);
    let too_many = if entries.len() < MOST_KEPT { 0 } else { entries.len() - MOST_KEPT / 2 };
    let now = SystemTime::now();
    for (at, (time, entry)) in entries.into_iter().enumerate() {
        if at >= too_many && now.duration_since(time).is_ok_and(|age| age < KEPT) {
            return;
        }
        // Somebody else may have been quicker.
        if File::open(entry.path()).is_ok_and(|file| RecordFile(file).is_over()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The role `fluyt attend`: starts a command and stays with it. Returns this process's exit code.
#[must_use]
pub fn main() -> i32 {
    let session = fluyt_sys::task::take_inherited(SESSION_FD).map(UnixStream::from);
    let (Some(control), Some(record)) = (
        fluyt_sys::task::take_inherited(CONTROL_FD).map(UnixStream::from),
        fluyt_sys::task::take_inherited(RECORD_FD).map(File::from),
    ) else {
        return 2;
    };
    let record = RecordFile(record);
    match begin(&control, &record) {
        Ok((exec, entry)) => i32::from(keeper::serve(exec, entry, &record, session, control).is_err()),
        Err(e) => {
            tell(&control, &Reply::failed(&e));
            1
        }
    }
}

fn begin(control: &UnixStream, file: &RecordFile) -> Result<(crate::Exec, ExecRecord)> {
    let mut line = Vec::new();
    let mut byte = [0];
    // Byte by byte: what follows the line belongs to the time after.
    while (&*control).read(&mut byte).about(|| "the order")? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    let order: Order =
        serde_json::from_slice(&line).map_err(|e| Error::internal("the order").with_source(e))?;
    seal(&order.root).about(|| "running from a sealed executable")?;
    let mut record = file.read()?;
    let known = record.known.clone().ok_or_else(|| Error::corrupt("the record of a command"))?;
    let target = ExecTarget::of(&order.root, known)?;
    let started = target.exec_made(&record.id, &record.options, order.attached);
    let exec = match started {
        Ok(exec) => exec,
        Err(e) => {
            record.exit_code = Some(match e.kind() {
                Kind::CommandNotFound => 127,
                _ => 126,
            });
            record.ended = fluyt_monitor::state::now();
            file.write(&record)?;
            return Err(e);
        }
    };
    record.pid = exec.pid();
    file.write(&record)?;
    tell(control, &Reply::Ok);
    Ok((exec, record))
}

/// Whoever asked may have gone.
fn tell(mut control: &UnixStream, reply: &Reply) {
    let mut line = serde_json::to_vec(reply).unwrap_or_default();
    line.push(b'\n');
    let _ = control.write_all(&line);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(dir: &Path, id: usize, change: impl FnOnce(&mut ExecRecord)) -> File {
        let mut record = ExecRecord { id: id.to_string(), ..ExecRecord::default() };
        change(&mut record);
        let path = dir.join(format!("{id:04}"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).unwrap();
        let file = RecordFile(file);
        file.write(&record).unwrap();
        file.0
    }

    fn ended(record: &mut ExecRecord) {
        (record.started, record.exit_code, record.ended) = (true, Some(0), 1);
    }

    fn ids(dir: &Path) -> Vec<usize> {
        let names = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut ids: Vec<usize> = names.map(|name| name.parse().unwrap()).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn ended_commands_are_forgotten_by_age_and_by_number_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let long_ago = SystemTime::now() - 2 * KEPT;
        // Made and never started; running; ended; its keeper was killed.
        record(dir, 0, |_| {}).set_modified(long_ago).unwrap();
        let runs = record(dir, 1, |r| r.started = true);
        rustix::fs::flock(&runs, FlockOperation::LockExclusive).unwrap();
        runs.set_modified(long_ago).unwrap();
        record(dir, 2, ended).set_modified(long_ago).unwrap();
        record(dir, 3, |r| r.started = true).set_modified(long_ago).unwrap();
        forget_old(dir);
        assert_eq!(ids(dir), [0, 1, 2, 3], "few are kept in any case");
        for id in 4..MOST_KEPT {
            let age = Duration::from_millis((MOST_KEPT - id) as u64);
            record(dir, id, ended).set_modified(SystemTime::now() - age).unwrap();
        }
        forget_old(dir);
        let left = ids(dir);
        assert_eq!(left[..3], [0, 1, MOST_KEPT / 2], "the oldest of too many go");
        assert_eq!(left.len(), MOST_KEPT / 2 + 2);
        forget_old(dir);
        assert_eq!(ids(dir), left, "the rest waits for its time");
    }
}
