//! Uploads: in one piece, in chunks, resumed after a cut or a restart of the server, cancelled.
//!
//! ```text
//!            POST                 PATCH*                  PUT ?digest=
//! (nothing) ------> under way ------------> under way ----------------> a blob of the repository
//!                       |  cut, restart: what has arrived stays
//!                       |  DELETE, wrong digest, a day without use
//!                       v
//!                    (nothing)
//! ```
//! What has arrived is a file of the content store's `ingest/`, named after the upload's id; its record says whose
//! it is. While a request works on an upload, others wait a moment for it and are then refused.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use fluyt_image::digest::{Algorithm, Hasher};
use fluyt_image::time::now;
use fluyt_image::{Digest, Ingest, Lease};
use fluyt_model::Kind;
use rusqlite::params;

use super::blobs;
use super::failure::{Answered, Code, Failure};
use super::names;
use super::records::Records;
use fluyt_http::{Body, Request, Response};

/// Room for what arrives between two writes to the file.
const PIECE: usize = 256 << 10;
/// How long a request waits for another one that works on the same upload.
const WAIT: Duration = Duration::from_secs(10);
/// After how long without use an open upload's file is closed; it is opened again when it is asked for.
const CLOSE_AFTER: Duration = Duration::from_secs(300);
/// After how long without use an upload is forgotten, in seconds.
const FORGET_AFTER: i64 = 24 * 3600;

/// The uploads under way in this process.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    open: Mutex<HashMap<String, Arc<Mutex<Upload>>>>,
}

/// An upload that a request has asked for.
#[derive(Debug)]
struct Upload {
    repository: String,
    content: Content,
    used: Instant,
}

/// Where the bytes of an upload are.
#[derive(Debug)]
enum Content {
    /// Not looked at yet.
    Closed,
    /// In this file, under this lease.
    Open(Box<(Ingest, Lease)>),
    /// It is finished.
    Gone,
}

/// One request's view of an upload.
struct Session<'a> {
    uploads: &'a Uploads,
    records: &'a Records,
    id: &'a str,
}

fn key(id: &str) -> String {
    format!("registry-upload:{id}")
}

fn unknown(id: &str) -> Failure {
    Failure::new(Code::BlobUploadUnknown, format!("upload {id} is not known to this registry"))
        .detail(serde_json::json!({"id": id}))
}

/// `POST …/blobs/uploads/`: begins an upload, or does all of it, or mounts.
pub(crate) fn begin(
    records: &Records,
    request: &mut Request<'_>,
    repository: &str,
    readable: &dyn Fn(&str) -> bool,
) -> Answered {
    let parameter = |name: &str| request.head.parameter(name);
    if let Some(mount) = parameter("mount") {
        let digest = names::digest(mount)?;
        if blobs::mount(records, repository, &digest, parameter("from"), readable)? {
            return Ok(created(repository, &digest));
        }
    } else if let Some(digest) = parameter("digest") {
        let digest = names::digest(digest)?;
        return whole(records, &mut request.body, repository, &digest);
    }
    let algorithm = match parameter("digest-algorithm") {
        None | Some("sha256") => Algorithm::Sha256,
        Some("sha512") => Algorithm::Sha512,
        Some(other) => {
            let text = format!("digest algorithm {other:?} is not supported: use sha256 or sha512");
            return Err(Failure::new(Code::DigestInvalid, text));
        }
    };
    let id = new_id()?;
    records.write(false, |tx| {
        tx.repository(repository)?;
        tx.execute(
            "INSERT INTO registry_uploads(id, repo, algorithm, touched) VALUES (?1, ?2, ?3, ?4)",
            params![id, repository, algorithm.name(), now()],
        )
    })?;
    Ok(progress(202, repository, &id, 0))
}

/// A whole blob in one request.
fn whole(records: &Records, body: &mut Body<'_>, repository: &str, digest: &Digest) -> Answered {
    let lease = records.lease()?;
    let mut ingest = lease.blobs().ingest(Some(digest), body.length(), "")?;
    receive(body, &mut ingest).map_err(|stop| stop.failure())?;
    ingest.commit().map_err(refused)?;
    records.write(false, |tx| tx.link_blob(repository, digest))?;
    Ok(created(repository, digest))
}

/// `GET`: how far an upload is.
pub(crate) fn status(uploads: &Uploads, records: &Records, repository: &str, id: &str) -> Answered {
    let session = Session { uploads, records, id };
    let size = session.with(repository, |ingest| Ok(ingest.offset()))?;
    Ok(progress(204, repository, id, size))
}

/// `PATCH`: a chunk.
pub(crate) fn chunk(
    uploads: &Uploads,
    records: &Records,
    request: &mut Request<'_>,
    repository: &str,
    id: &str,
) -> Answered {
    let session = Session { uploads, records, id };
    let size = session.with(repository, |ingest| {
        append(request, ingest, repository, id)?;
        Ok(ingest.offset())
    })?;
    Ok(progress(202, repository, id, size))
}

/// `PUT ?digest=`: the last chunk, if any, and the end.
pub(crate) fn finish(
    uploads: &Uploads,
    records: &Records,
    request: &mut Request<'_>,
    repository: &str,
    id: &str,
) -> Answered {
    let Some(digest) = request.head.parameter("digest").map(str::to_owned) else {
        return Err(Failure::new(Code::DigestInvalid, "the digest of the upload is missing: add ?digest="));
    };
    let digest = names::digest(&digest)?;
    let session = Session { uploads, records, id };
    let (ingest, lease) = session.take(repository, |ingest| {
        append(request, ingest, repository, id)?;
        ingest.expect(&digest).map_err(Failure::from)
    })?;
    let committed = ingest.commit();
    // Whether it became a blob or was wrong: there is no upload any more.
    records.write(false, |tx| {
        if committed.is_ok() {
            tx.link_blob(repository, &digest)?;
        }
        tx.execute("DELETE FROM registry_uploads WHERE id = ?1", [id])
    })?;
    drop(lease);
    committed.map_err(refused)?;
    Ok(created(repository, &digest))
}

/// `DELETE`: gives an upload up.
pub(crate) fn cancel(uploads: &Uploads, records: &Records, repository: &str, id: &str) -> Answered {
    let session = Session { uploads, records, id };
    let (mut ingest, lease) = session.take(repository, |_| Ok(()))?;
    records.write(false, |tx| tx.execute("DELETE FROM registry_uploads WHERE id = ?1", [id]))?;
    ingest.restart()?;
    // Without its record nobody finds it; dropped like this, its file goes.
    ingest.discard();
    drop(lease);
    Ok(Response::new(204))
}

/// Writes the body of a chunk behind what is there.
fn append(request: &mut Request<'_>, ingest: &mut Ingest, repository: &str, id: &str) -> Answered<()> {
    let here = ingest.offset();
    if let Some(range) = request.head.header("content-range") {
        let out_of_order = |text: String| {
            Failure::new(Code::BlobUploadInvalid, text)
                .status(416)
                .header("Location", location(repository, id))
                .header("Range", range_of(here))
                .header("Docker-Upload-UUID", id)
        };
        let Some((first, last)) = chunk_range(range) else {
            return Err(Failure::new(Code::BlobUploadInvalid, format!("malformed Content-Range {range:?}")));
        };
        if first != here {
            return Err(out_of_order(format!("the chunk begins at {first}, the upload goes on at {here}")));
        }
        if request.body.length().is_some_and(|n| n != last - first + 1) {
            let text = "the length of the chunk is not that of its Content-Range";
            return Err(Failure::new(Code::SizeInvalid, text));
        }
    }
    receive(&mut request.body, ingest).map_err(|stop| stop.failure())
}

/// Why a body did not arrive whole.
enum Stop {
    /// The client.
    Cut(std::io::Error),
    /// The disk.
    Disk(fluyt_model::Error),
}

impl Stop {
    fn failure(self) -> Failure {
        match self {
            Self::Cut(e) => Failure::new(Code::BlobUploadInvalid, format!("the upload was interrupted: {e}")),
            Self::Disk(e) => e.into(),
        }
    }
}

fn receive(body: &mut Body<'_>, ingest: &mut Ingest) -> Result<(), Stop> {
    let most = body.length().map_or(PIECE, |n| usize::try_from(n).unwrap_or(PIECE).clamp(1, PIECE));
    let mut buffer = vec![0; most];
    loop {
        // Whole pieces: a write and a round of hashing for each segment of the network would cost more.
        let mut filled = 0;
        let mut end = Ok(false);
        while filled < buffer.len() {
            match body.read(&mut buffer[filled..]) {
                Ok(0) => end = Ok(true),
                Ok(n) => {
                    filled += n;
                    continue;
                }
                Err(e) => end = Err(e),
            }
            break;
        }
        // What came before a cut counts: the client goes on behind it.
        ingest.write_all(&buffer[..filled]).map_err(|e| match e.kind() {
            std::io::ErrorKind::InvalidData => Stop::Cut(e),
            _ => Stop::Disk(ingest.write_error(e)),
        })?;
        if end.map_err(Stop::Cut)? {
            return Ok(());
        }
    }
}

fn refused(e: fluyt_model::Error) -> Failure {
    if e.kind() == Kind::Corrupt { Failure::new(Code::DigestInvalid, e.to_string()) } else { e.into() }
}

/// `FIRST-LAST`, as the specification has it, or with the unit that HTTP has: `bytes FIRST-LAST/SIZE`.
fn chunk_range(text: &str) -> Option<(u64, u64)> {
    let text = text.trim();
    let text = text.strip_prefix("bytes").map_or(text, |t| t.trim_start_matches(['=', ' ']));
    let (first, last) = text.split('/').next()?.split_once('-')?;
    let number = |t: &str| if t.bytes().all(|b| b.is_ascii_digit()) { t.parse().ok() } else { None };
    let (first, last): (u64, u64) = (number(first)?, number(last)?);
    (first <= last && last < u64::MAX).then_some((first, last))
}

fn location(repository: &str, id: &str) -> String {
    format!("/v2/{repository}/blobs/uploads/{id}")
}

/// What has arrived, as a range. There is no way to write that nothing has; Docker's registry says this.
fn range_of(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}

fn progress(status: u16, repository: &str, id: &str, size: u64) -> Response {
    Response::new(status)
        .header("Location", location(repository, id))
        .header("Range", range_of(size))
        .header("Docker-Upload-UUID", id)
}

/// The answer for a blob that is in the repository now.
fn created(repository: &str, digest: &Digest) -> Response {
    Response::new(201)
        .header("Location", format!("/v2/{repository}/blobs/{digest}"))
        .header("Docker-Content-Digest", digest.as_str())
}

/// A random id of the form of a UUID (version 4), which clients expect.
fn new_id() -> Answered<String> {
    let mut bytes = [0; 16];
    super::random(&mut bytes)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut hex = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            hex.push('-');
        }
        fluyt_image::digest::push_hex(&mut hex, &[*byte]);
    }
    Ok(hex)
}

impl Session<'_> {
    /// Runs `work` on the upload alone. What is written stays, whatever happens.
    fn with<T>(&self, repository: &str, work: impl FnOnce(&mut Ingest) -> Answered<T>) -> Answered<T> {
        let found = self.find();
        let mut upload = self.lock(&found, repository)?;
        match &mut upload.content {
            Content::Open(open) => work(&mut open.0),
            Content::Closed | Content::Gone => Err(unknown(self.id)),
        }
    }

    /// As [`Session::with`]; when that succeeded the upload is no more, and its content is handed over.
    fn take(
        &self,
        repository: &str,
        work: impl FnOnce(&mut Ingest) -> Answered<()>,
    ) -> Answered<(Ingest, Lease)> {
        let found = self.find();
        let mut upload = self.lock(&found, repository)?;
        if let Content::Open(open) = &mut upload.content {
            work(&mut open.0)?;
        }
        let Content::Open(open) = std::mem::replace(&mut upload.content, Content::Gone) else {
            return Err(unknown(self.id));
        };
        self.uploads.forget(self.id);
        Ok(*open)
    }

    /// The place of the upload among those of this process, made if there is none.
    fn find(&self) -> Arc<Mutex<Upload>> {
        let mut open = self.uploads.open.lock().unwrap_or_else(PoisonError::into_inner);
        let place = open.entry(self.id.to_owned()).or_insert_with(|| {
            let upload = Upload { repository: String::new(), content: Content::Closed, used: Instant::now() };
            Arc::new(Mutex::new(upload))
        });
        Arc::clone(place)
    }

    /// Waits for the upload while another request works on it, but not for long; opens it if it is not.
    fn lock<'u>(&self, upload: &'u Mutex<Upload>, repository: &str) -> Answered<MutexGuard<'u, Upload>> {
        let until = Instant::now() + WAIT;
        let mut guard = loop {
            match upload.try_lock() {
                Ok(guard) => break guard,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => {
                    let text = format!("another request works on upload {}", self.id);
                    return Err(Failure::new(Code::BlobUploadInvalid, text).status(409));
                }
            }
        };
        if matches!(guard.content, Content::Closed)
            && let Err(failure) = self.open(&mut guard, until)
        {
            self.uploads.forget(self.id);
            return Err(failure);
        }
        // Another repository's upload is as unknown as none: its id says nothing about rights.
        if guard.repository != repository {
            return Err(unknown(self.id));
        }
        guard.used = Instant::now();
        Ok(guard)
    }

    /// Opens the file; what is in it is hashed again. A server that is about to end may have it open for a moment longer:
    /// that is waited for until `until`.
    fn open(&self, upload: &mut Upload, until: Instant) -> Answered<()> {
        let (whose, algorithm) = self.records.upload(self.id)?.ok_or_else(|| unknown(self.id))?;
        let lease = self.records.lease()?;
        // Only an expected digest says which algorithm to compute.
        let expected =
            (algorithm == Algorithm::Sha512.name()).then(|| Hasher::new(Algorithm::Sha512).finish());
        let mut ingest = loop {
            match lease.blobs().ingest_alone(expected.as_ref(), None, &key(self.id))? {
                Some(ingest) => break ingest,
                None if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
                None => {
                    let text = "another process works on this upload";
                    return Err(Failure::new(Code::BlobUploadInvalid, text).status(409));
                }
            }
        };
        ingest.keep();
        upload.repository = whose;
        upload.content = Content::Open(Box::new((ingest, lease)));
        Ok(())
    }
}

impl Uploads {
    fn forget(&self, id: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Closes files that were not used for a while and forgets uploads that nobody goes on with.
    pub fn tidy(&self, records: &Records) -> fluyt_model::Result<()> {
        let idle: Vec<String> = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let stale = |upload: &Arc<Mutex<Upload>>| {
                // One that a request holds or waits for is in use.
                Arc::strong_count(upload) == 1
                    && upload.try_lock().is_ok_and(|u| u.used.elapsed() > CLOSE_AFTER)
            };
            let ids = open.iter().filter(|(_, u)| stale(u)).map(|(id, _)| id.clone()).collect::<Vec<_>>();
            for id in &ids {
                open.remove(id);
            }
            ids
        };
        records.write(false, |tx| {
            for id in &idle {
                tx.execute("UPDATE registry_uploads SET touched = ?2 WHERE id = ?1", params![id, now()])?;
            }
            tx.execute("DELETE FROM registry_uploads WHERE touched < ?1", [now() - FORGET_AFTER])
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_say_where_they_stand() {
        assert_eq!(chunk_range("0-9"), Some((0, 9)));
        assert_eq!(chunk_range("bytes 5-9/10"), Some((5, 9)));
        assert_eq!(chunk_range("bytes=5-9"), Some((5, 9)));
        for bad in ["", "5", "9-5", "a-b", "-5", "5-", "+1-2"] {
            assert_eq!(chunk_range(bad), None, "{bad}");
        }
    }
}
