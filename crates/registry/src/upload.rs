//! One blob from the store to a registry: not at all if it is there, mounted from another repository if that works,
//! else uploaded, in one go or, where the registry wants it or a connection broke, in pieces.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicBool, Ordering};

use fluyt_image::{Blobs, Descriptor, Outcome, Progress};
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};
use ureq::http::{Method, StatusCode};

use crate::auth::percent;
use crate::http::{Answer, Ask, Payload, join, origin};
use crate::refusal;
use crate::remote::{Remote, Scope, may_pass};

/// What is sent where.
pub(crate) struct Upload<'a> {
    pub remote: &'a Remote,
    pub repository: &'a str,
    pub scope: &'a Scope,
    pub blobs: &'a Blobs,
    pub descriptor: &'a Descriptor,
    /// Repositories of the same registry that may have the blob.
    pub mount_from: &'a [String],
    pub progress: &'a dyn Progress,
    pub item: String,
    pub stop: &'a AtomicBool,
}

/// Counts what is read from the file, and ends early when the operation was given up.
struct Watched<'a> {
    file: File,
    left: u64,
    upload: &'a Upload<'a>,
    reported: &'a mut u64,
    position: u64,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.upload.stop.load(Ordering::Relaxed) {
            return Err(std::io::Error::other("given up because another part failed"));
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.file.read(&mut buffer[..most])?;
        self.left -= n as u64;
        self.position += n as u64;
        if self.position > *self.reported {
            self.upload.progress.advance(&self.upload.item, self.position - *self.reported);
            *self.reported = self.position;
        }
        Ok(n)
    }
}

impl Upload<'_> {
    /// Makes the registry have the blob.
    ///
    /// # Errors
    /// What the registry or the network does; `Kind::NotFound` when the blob is not in the store.
    pub fn run(&self) -> Result<Outcome> {
        self.progress.begin(&self.item, Some(self.descriptor.size));
        let result = self.send();
        self.progress.finish(&self.item, *result.as_ref().unwrap_or(&Outcome::Failed));
        result
    }

    fn what(&self) -> String {
        format!("upload of blob {}", self.descriptor.digest)
    }

    fn send(&self) -> Result<Outcome> {
        if self.is_there()? {
            return Ok(Outcome::Exists);
        }
        let Some(location) = self.begin()? else { return Ok(Outcome::Exists) };
        let mut location = location;
        let (mut offset, mut failures, mut reported) = (0, 0, 0);
        loop {
            let error = match self.put(&location, offset, &mut reported)? {
                None => return Ok(Outcome::Done),
                Some(e) => e,
            };
            failures += 1;
            let hung_twice = error.kind() == Kind::Timeout && failures >= 2;
            if failures >= self.remote.settings.attempts || hung_twice || self.stop.load(Ordering::Relaxed) {
                return Err(error);
            }
            std::thread::sleep(self.remote.pause(failures));
            // Where does the registry stand? If it does not know the upload any more, from the beginning.
            match self.status(&location)? {
                Some((at, next)) if at <= self.descriptor.size => {
                    failures = if at > offset { 1 } else { failures };
                    (offset, location) = (at, next);
                }
                _ => match self.begin()? {
                    None => return Ok(Outcome::Exists),
                    Some(fresh) => (offset, location) = (0, fresh),
                },
            }
        }
    }

    fn is_there(&self) -> Result<bool> {
        let url = self.remote.url(&format!("{}/blobs/{}", self.repository, self.descriptor.digest));
        let what = format!("blob {}", self.descriptor.digest);
        let answer = self.remote.with_pauses(|| {
            self.remote.authorised(Some(self.scope), &mut Ask::new(Method::HEAD, url.clone(), what.clone()))
        })?;
        match answer.status {
            status if status.is_success() => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            // Some registries refuse to look into what does not exist yet; the upload will tell.
            StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED => Ok(false),
            _ => Err(refusal::of(answer, &what)),
        }
    }

    /// Starts an upload, or mounts the blob: `None`.
    fn begin(&self) -> Result<Option<String>> {
        let base = self.remote.url(&format!("{}/blobs/uploads/", self.repository));
        let mut started = None;
        for from in self.mount_from {
            let digest = percent(self.descriptor.digest.as_str());
            let url = format!("{base}?mount={digest}&from={}", percent(from));
            match self.start(&url) {
                Ok(None) => return Ok(None),
                // It is not there; the upload that the registry began instead serves if no other has it.
                Ok(Some(location)) => started = Some(location),
                // Not allowed to read there: then not from there.
                Err(e)
                    if matches!(e.kind(), Kind::Unauthorized | Kind::PermissionDenied | Kind::NotFound) => {}
                Err(e) => return Err(e),
            }
        }
        if started.is_some() {
            return Ok(started);
        }
        match self.start(&base)? {
            Some(location) => Ok(Some(location)),
            None => Err(self.odd("the upload was said to be done before it began")),
        }
    }

    fn odd(&self, why: &str) -> Error {
        Error::new(Kind::Unavailable, format!("registry {}: {}: {why}", self.remote.host(), self.what()))
    }

    fn start(&self, url: &str) -> Result<Option<String>> {
        let what = self.what();
        let answer = self
            .remote
            .ask(Some(self.scope), || Ask::new(Method::POST, url, what.clone()).body(Payload::Bytes(b"")))?;
        match answer.status {
            StatusCode::CREATED => Ok(None),
            StatusCode::ACCEPTED => self.location(&answer).map(Some),
            status => Err(self.odd(&format!("unexpected answer {status}"))),
        }
    }

    fn location(&self, answer: &Answer) -> Result<String> {
        let location = answer.header("location").ok_or_else(|| self.odd("the answer has no Location"))?;
        let url = join(&answer.url, location);
        // Our token must not go to other hosts, so uploads do not either; http behind a proxy that ends TLS is
        // what some registries say by mistake.
        if origin(&url) == origin(&self.remote.base) {
            return Ok(url);
        }
        let secure = url.replacen("http://", "https://", 1);
        if origin(&secure) == origin(&self.remote.base) { Ok(secure) } else { Ok(url) }
    }

    /// Sends the rest and completes the upload; `Some` is an error that may pass.
    fn put(&self, location: &str, offset: u64, reported: &mut u64) -> Result<Option<Error>> {
        let size = self.descriptor.size;
        let mut file = self.blobs.open(&self.descriptor.digest)?;
        file.seek(SeekFrom::Start(offset)).about(|| format!("blob {}", self.descriptor.digest))?;
        let left = size - offset;
        let finish = with_query(location, "digest", self.descriptor.digest.as_str());
        let mut target = finish.clone();
        if offset > 0 && left > 0 {
            // What is missing as a piece with its place; then completion without a body.
            let mut body = Watched { file, left, upload: self, reported, position: offset };
            let ask = Ask::new(Method::PATCH, location, self.what())
                .header("content-type", "application/octet-stream")
                .header("content-range", format!("{offset}-{}", size - 1));
            let answer = match self.stream(ask, &mut body, left)? {
                Ok(answer) => answer,
                Err(e) => return Ok(Some(e)),
            };
            target = with_query(&self.location(&answer)?, "digest", self.descriptor.digest.as_str());
        } else if left > 0 {
            let mut body = Watched { file, left, upload: self, reported, position: offset };
            let ask =
                Ask::new(Method::PUT, finish, self.what()).header("content-type", "application/octet-stream");
            return Ok(self.stream(ask, &mut body, left)?.err());
        }
        let ask = Ask::new(Method::PUT, target, self.what()).body(Payload::Bytes(b"")).patient();
        self.judge(self.exchange(ask)).map(Result::err)
    }

    fn stream(&self, ask: Ask<'_>, body: &mut Watched<'_>, left: u64) -> Result<Result<Answer, Error>> {
        let ask = Ask { body: Payload::Stream(body, left), ..ask }.patient();
        self.judge(self.exchange(ask))
    }

    /// Uploads go with the token only to the registry itself.
    fn exchange(&self, mut ask: Ask<'_>) -> Result<Answer> {
        if origin(&ask.url) == origin(&self.remote.base) {
            self.remote.authorised(Some(self.scope), &mut ask)
        } else {
            self.remote.http.send(&mut ask, None)
        }
    }

    /// Success, an error that may pass (inner), or one that will not (outer).
    fn judge(&self, result: Result<Answer>) -> Result<Result<Answer, Error>> {
        let answer = match result {
            Ok(answer) => answer,
            Err(e) if matches!(e.kind(), Kind::Unavailable | Kind::Timeout) => return Ok(Err(e)),
            Err(e) => return Err(e),
        };
        let status = answer.status;
        if status.is_success() {
            return Ok(Ok(answer));
        }
        let lost = matches!(
            status,
            StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::UNAUTHORIZED
        );
        let error = refusal::of(answer, &self.what());
        if may_pass(status) || lost { Ok(Err(error)) } else { Err(error) }
    }

    /// How much the registry has of an upload, and where it goes on.
    fn status(&self, location: &str) -> Result<Option<(u64, String)>> {
        let answer = match self.exchange(Ask::get(location, self.what())) {
            Ok(answer) => answer,
            Err(e) if matches!(e.kind(), Kind::Unavailable | Kind::Timeout) => return Ok(None),
            Err(e) => return Err(e),
        };
        if !matches!(answer.status, StatusCode::NO_CONTENT | StatusCode::ACCEPTED | StatusCode::OK) {
            return Ok(None);
        }
        // `0-0` means one byte by the letter and none in fact: an upload that just began says so.
        let end = answer.header("range").and_then(|r| r.rsplit_once('-')?.1.parse::<u64>().ok());
        let at = match end {
            None | Some(0) => 0,
            Some(last) => last + 1,
        };
        Ok(Some((at, self.location(&answer)?)))
    }
}

fn with_query(url: &str, name: &str, value: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}{name}={}", percent(value))
}
