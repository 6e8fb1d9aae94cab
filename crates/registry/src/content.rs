//! Documents and blobs by themselves: read whole, put, copied between repositories, found by what they refer to. For
//! indexes and signatures; images go the way of `pull` and `push`.

use std::io::Write;
use std::sync::atomic::AtomicBool;

use fluyt_image::oci::{self, MAX_DOCUMENT};
use fluyt_image::{Blobs, Descriptor, Digest, Document, Index, Progress};
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Kind, Result};
use ureq::http::{Method, StatusCode};

use crate::auth::percent;
use crate::http::{Answer, Ask, Payload, join, origin};
use crate::manifest;
use crate::push;
use crate::refusal;
use crate::registry::Registry;
use crate::remote::{Remote, Scope};
use crate::upload::Upload;

/// Indexes within indexes that are followed.
const MAX_DEPTH: usize = 4;
/// Pages of referrers that are asked for.
const MAX_PAGES: usize = 50;

/// A manifest or an index with its exact bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawDocument {
    /// Type, digest and size.
    pub descriptor: Descriptor,
    /// The bytes that have that digest.
    pub bytes: Vec<u8>,
}

impl RawDocument {
    /// What it says.
    ///
    /// # Errors
    /// `Kind::Corrupt`.
    pub fn parse(&self) -> Result<Document> {
        Document::parse(&self.bytes, self.descriptor.digest.as_str())
    }
}

/// What is given for a document that was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Its descriptor.
    pub descriptor: Descriptor,
    /// Whether the registry has listed it with its subject; if not, its pusher has to (distribution specification,
    /// "Pushing Manifests with Subject").
    pub listed: bool,
}

impl Registry {
    /// Fetches what a reference names, without keeping it.
    ///
    /// # Errors
    /// As [`Registry::pull`].
    pub fn document(&self, reference: &Reference) -> Result<RawDocument> {
        let reference = reference.clone().or_latest();
        let mut first = None;
        for place in self.places(&reference)? {
            match place.remote(self).and_then(|remote| document(&remote, &place.reference)) {
                Ok(found) => return Ok(found),
                Err(e) => first = Some(e),
            }
        }
        // The last one is the registry itself, whose word counts.
        Err(first.unwrap_or_else(|| Error::internal(format!("no place for {reference}"))))
    }

    /// As [`Registry::document`] from the registry itself; `None` when it has no such document.
    ///
    /// # Errors
    /// As [`Registry::pull`].
    pub fn find_document(&self, reference: &Reference) -> Result<Option<RawDocument>> {
        found(document(&*self.remote(reference.domain())?, reference))
    }

    /// Fetches a blob of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Registry::pull`]; `Kind::Corrupt` for content of another digest.
    pub fn blob(&self, repository: &Reference, blob: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        let mut last = None;
        for place in self.places(repository)? {
            let fetched =
                place.remote(self).and_then(|r| bytes_of_blob(&r, place.reference.path(), blob, limit));
            match fetched {
                Ok(bytes) => return Ok(bytes),
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| Error::internal(format!("no place for {repository}"))))
    }

    /// Puts a blob unless it is there.
    ///
    /// # Errors
    /// What the registry says or does.
    pub fn put_blob(&self, repository: &Reference, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let remote = self.remote(repository.domain())?;
        put_blob(&remote, repository.path(), &digest, bytes).map_err(|e| push::explain(e, repository))?;
        Ok(digest)
    }

    /// Puts a document under the tag or the digest of `reference`; without either by its digest.
    ///
    /// # Errors
    /// What the registry says or does.
    pub fn put_document(&self, reference: &Reference, media_type: &str, bytes: &[u8]) -> Result<Put> {
        let digest = Digest::of(bytes);
        let remote = self.remote(reference.domain())?;
        let name = reference.digest().or(reference.tag()).unwrap_or(digest.as_str());
        let url = remote.url(&format!("{}/manifests/{name}", reference.path()));
        let what = format!("push of manifest {}", reference.familiar());
        let answer = remote
            .ask(Some(&Scope::push(reference.path())), || {
                Ask::new(Method::PUT, url.clone(), what.clone())
                    .header("content-type", media_type)
                    .body(Payload::Bytes(bytes))
                    .patient()
            })
            .map_err(|e| push::explain(e, reference))?;
        let listed = answer.header("oci-subject").is_some();
        Ok(Put { descriptor: Descriptor::new(media_type, digest, bytes.len() as u64), listed })
    }

    /// What refers to the document `digest` of a repository; with `artifact_type` only what is of that type.
    ///
    /// Registries without that list are asked for the tag that stands for it.
    ///
    /// # Errors
    /// What the registry says or does.
    pub fn referrers(
        &self,
        repository: &Reference,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        referrers(&*self.remote(repository.domain())?, repository, digest, artifact_type)
    }

    /// Makes the repository of `to` have the document `child` of the repository of `from` and all that it names,
    /// mounted where both are in one registry.
    ///
    /// # Errors
    /// What the registries say or do.
    pub fn copy(
        &self,
        blobs: &Blobs,
        from: &Reference,
        child: &Descriptor,
        to: &Reference,
        progress: &dyn Progress,
    ) -> Result<()> {
        if from.name() == to.name() {
            return Ok(());
        }
        self.copy_tree(blobs, from, child, to, progress, 0)
    }

    fn copy_tree(
        &self,
        blobs: &Blobs,
        from: &Reference,
        child: &Descriptor,
        to: &Reference,
        progress: &dyn Progress,
        depth: usize,
    ) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::invalid(format!("index {}: indexes are nested too deeply", child.digest)));
        }
        let name = to.with_digest(child.digest.as_str())?;
        if self.holds(&name)? {
            return Ok(());
        }
        let source = self.document(&from.with_digest(child.digest.as_str())?)?;
        match source.parse()? {
            Document::Index(index) => {
                for below in &index.manifests {
                    self.copy_tree(blobs, from, below, to, progress, depth + 1)?;
                }
            }
            Document::Manifest(manifest) => {
                for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
                    // What lies at addresses of its own is in no registry.
                    if blob.urls.is_empty() {
                        self.copy_blob(blobs, from, blob, to, progress)?;
                    }
                }
            }
        }
        self.put_document(&name, &source.descriptor.media_type, &source.bytes).map(|_| ())
    }

    fn copy_blob(
        &self,
        blobs: &Blobs,
        from: &Reference,
        blob: &Descriptor,
        to: &Reference,
        progress: &dyn Progress,
    ) -> Result<()> {
        let target = self.remote(to.domain())?;
        let same = from.domain() == to.domain();
        if same && mounted(&target, from.path(), blob, to.path())? {
            return Ok(());
        }
        if !blobs.has(&blob.digest) {
            let source = self.remote(from.domain())?;
            fetch_blob(&source, from.path(), blob, blobs)?;
        }
        let upload = Upload {
            remote: &target,
            repository: to.path(),
            scope: &Scope::push(to.path()),
            blobs,
            descriptor: blob,
            mount_from: &[],
            progress,
            item: format!("Copying {}", blob.digest),
            stop: &AtomicBool::new(false),
        };
        upload.run().map(|_| ()).map_err(|e| push::explain(e, to))
    }
}

/// The manifest as it is pushed: with layers that lie here uncompressed as gzip. It is put into `blobs`.
///
/// # Errors
/// `Kind::NotFound` when a layer is not here; I/O errors.
pub fn packed_manifest(blobs: &Blobs, digest: &Digest, progress: &dyn Progress) -> Result<Digest> {
    Ok(crate::compress::manifest(blobs, digest, progress)?.unwrap_or_else(|| digest.clone()))
}

/// `None` for what is not there.
pub(crate) fn found<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == Kind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// A document of one registry, verified against its digest.
pub(crate) fn document(remote: &Remote, reference: &Reference) -> Result<RawDocument> {
    let url = remote.url(&format!("{}/manifests/{}", reference.path(), manifest::key(reference)));
    let what = format!("manifest {}", reference.familiar());
    let answer = remote
        .ask(Some(&Scope::pull(reference.path())), || {
            Ask::get(url.clone(), what.clone()).header("accept", manifest::accept())
        })
        .map_err(|e| manifest::explain(e, reference))?;
    let stated = answer.header("docker-content-digest").and_then(|d| Digest::parse(d).ok());
    let media_type =
        answer.header("content-type").map(|t| t.split(';').next().unwrap_or(t).trim().to_owned());
    let wanted = reference.digest().map(Digest::parse).transpose()?;
    let host = remote.host().to_owned();
    let bytes = answer.bytes(MAX_DOCUMENT, &what)?;
    // What was asked for counts before what the registry says; without either the bytes name themselves.
    let digest = wanted.or(stated).unwrap_or_else(|| Digest::of(&bytes));
    verify(&bytes, &digest, &host, &what)?;
    let inner = match Document::parse(&bytes, &reference.familiar())? {
        Document::Manifest(m) => m.media_type.or_else(|| Some(oci::OCI_MANIFEST.to_owned())),
        Document::Index(i) => i.media_type.or_else(|| Some(oci::OCI_INDEX.to_owned())),
    };
    let media_type = inner.or(media_type).unwrap_or_default();
    Ok(RawDocument { descriptor: Descriptor::new(&media_type, digest, bytes.len() as u64), bytes })
}

fn verify(bytes: &[u8], digest: &Digest, host: &str, what: &str) -> Result<()> {
    let mut hasher = fluyt_image::digest::Hasher::new(digest.algorithm());
    hasher.update(bytes);
    let is = hasher.finish();
    if is == *digest {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "registry {host} sent wrong data for {what}: the content has the digest {is}"
    )))
}

fn blob_answer(remote: &Remote, repository: &str, blob: &Descriptor) -> Result<(Answer, String)> {
    let url = remote.url(&format!("{repository}/blobs/{}", blob.digest));
    let what = format!("blob {}", blob.digest);
    let answer = remote.ask(Some(&Scope::pull(repository)), || Ask::get(url.clone(), what.clone()))?;
    Ok((answer, what))
}

/// A small blob of one registry, verified.
pub(crate) fn bytes_of_blob(
    remote: &Remote,
    repository: &str,
    blob: &Descriptor,
    limit: u64,
) -> Result<Vec<u8>> {
    let (answer, what) = blob_answer(remote, repository, blob)?;
    let bytes = answer.bytes(limit, &what)?;
    verify(&bytes, &blob.digest, remote.host(), &what)?;
    Ok(bytes)
}

fn fetch_blob(remote: &Remote, repository: &str, blob: &Descriptor, blobs: &Blobs) -> Result<()> {
    let (answer, what) = blob_answer(remote, repository, blob)?;
    let url = answer.url.clone();
    let mut ingest = blobs.ingest(Some(&blob.digest), Some(blob.size), "")?;
    let mut reader = answer.reader();
    let mut buffer = vec![0; 128 << 10];
    loop {
        let n = std::io::Read::read(&mut reader, &mut buffer)
            .map_err(|e| crate::http::read_error(&url, &what, e))?;
        if n == 0 {
            break;
        }
        ingest.write_all(&buffer[..n]).map_err(|e| ingest.write_error(e))?;
    }
    ingest.commit().map(|_| ())
}

/// Whether the blob is in the repository now, because it was or by mounting it from another one.
fn mounted(remote: &Remote, from: &str, blob: &Descriptor, to: &str) -> Result<bool> {
    if has_blob(remote, to, &blob.digest)? {
        return Ok(true);
    }
    let scope = Scope::push(to).and_pull(&[from.to_owned()]);
    let url = remote.url(&format!(
        "{to}/blobs/uploads/?mount={}&from={}",
        percent(blob.digest.as_str()),
        percent(from)
    ));
    let what = format!("mount of blob {}", blob.digest);
    let answer = remote
        .ask(Some(&scope), || Ask::new(Method::POST, url.clone(), what.clone()).body(Payload::Bytes(b"")));
    match answer {
        Ok(answer) if answer.status == StatusCode::CREATED => Ok(true),
        // An upload was begun instead; nobody will use it.
        Ok(answer) => {
            if let Some(location) = answer.header("location").map(|l| join(&answer.url, l))
                && origin(&location) == origin(&remote.base)
            {
                let _ = remote.authorised(Some(&scope), &mut Ask::new(Method::DELETE, location, what));
            }
            Ok(false)
        }
        Err(e) if matches!(e.kind(), Kind::Unauthorized | Kind::PermissionDenied | Kind::NotFound) => {
            Ok(false)
        }
        Err(e) => Err(e),
    }
}

fn has_blob(remote: &Remote, repository: &str, digest: &Digest) -> Result<bool> {
    let url = remote.url(&format!("{repository}/blobs/{digest}"));
    let what = format!("blob {digest}");
    let scope = Scope::push(repository);
    let answer = remote.with_pauses(|| {
        remote.authorised(Some(&scope), &mut Ask::new(Method::HEAD, url.clone(), what.clone()))
    })?;
    match answer.status {
        status if status.is_success() => Ok(true),
        // Some registries refuse to look into what does not exist yet.
        StatusCode::NOT_FOUND | StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED => Ok(false),
        _ => Err(refusal::of(answer, &what)),
    }
}

/// Puts a small blob in one go.
fn put_blob(remote: &Remote, repository: &str, digest: &Digest, bytes: &[u8]) -> Result<()> {
    if has_blob(remote, repository, digest)? {
        return Ok(());
    }
    let scope = Scope::push(repository);
    let what = format!("upload of blob {digest}");
    let url = remote.url(&format!("{repository}/blobs/uploads/"));
    let begun = remote
        .ask(Some(&scope), || Ask::new(Method::POST, url.clone(), what.clone()).body(Payload::Bytes(b"")))?;
    let odd = |why: &str| Error::new(Kind::Unavailable, format!("registry {}: {what}: {why}", remote.host()));
    let location = begun.header("location").map(|l| join(&begun.url, l));
    let location = location.ok_or_else(|| odd("the answer has no Location"))?;
    let separator = if location.contains('?') { '&' } else { '?' };
    let target = format!("{location}{separator}digest={}", percent(digest.as_str()));
    if origin(&target) != origin(&remote.base) {
        // Our token must not go to other hosts.
        let mut ask = upload(&target, &what, bytes);
        let answer = remote.http.send(&mut ask, None)?;
        return if answer.status.is_success() { Ok(()) } else { Err(refusal::of(answer, &what)) };
    }
    remote.ask(Some(&scope), || upload(&target, &what, bytes)).map(|_| ())
}

fn upload<'a>(target: &str, what: &str, bytes: &'a [u8]) -> Ask<'a> {
    Ask::new(Method::PUT, target, what)
        .header("content-type", "application/octet-stream")
        .body(Payload::Bytes(bytes))
        .patient()
}

/// See [`Registry::referrers`].
pub(crate) fn referrers(
    remote: &Remote,
    repository: &Reference,
    digest: &Digest,
    artifact_type: Option<&str>,
) -> Result<Vec<Descriptor>> {
    let fits = |d: &Descriptor| artifact_type.is_none_or(|wanted| d.artifact_type.as_deref() == Some(wanted));
    let filter = artifact_type.map(|t| format!("?artifactType={}", percent(t))).unwrap_or_default();
    let mut url = remote.url(&format!("{}/referrers/{digest}{filter}", repository.path()));
    let what = format!("referrers of {digest}");
    let scope = Scope::pull(repository.path());
    let mut all = Vec::new();
    for _ in 0..MAX_PAGES {
        let answer = match remote.ask(Some(&scope), || Ask::get(url.clone(), what.clone())) {
            Ok(answer) => answer,
            // A registry of before version 1.1 knows no such path, each in its own words.
            Err(e) if matches!(e.kind(), Kind::NotFound | Kind::Invalid | Kind::Unsupported) => {
                let tag = repository.with_tag(&fallback_tag(digest))?;
                let Some(index) = found(document(remote, &tag))? else { return Ok(Vec::new()) };
                let Document::Index(index) = index.parse()? else { return Ok(Vec::new()) };
                all.extend(index.manifests);
                break;
            }
            Err(e) => return Err(e),
        };
        let next = answer.header("link").and_then(crate::registry::next_link).map(|l| join(&answer.url, l));
        let bytes = answer.bytes(MAX_DOCUMENT, &what)?;
        let page: Index = serde_json::from_slice(&bytes).map_err(|e| {
            let text = format!("registry {}: {what}: the answer cannot be read", remote.host());
            Error::new(Kind::Unavailable, text).with_source(e)
        })?;
        all.extend(page.manifests);
        match next.filter(|n| origin(n) == origin(&remote.base)) {
            Some(next) => url = next,
            None => break,
        }
    }
    all.retain(fits);
    Ok(all)
}

/// The tag whose index lists the referrers of a digest where the registry does not.
pub(crate) fn fallback_tag(digest: &Digest) -> String {
    digest.as_str().replacen(':', "-", 1)
}
