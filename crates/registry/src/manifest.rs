//! Manifests and indexes by tag or digest, verified and stored.

use std::io::Write;

use fluyt_image::oci::{self, MAX_DOCUMENT};
use fluyt_image::{Blobs, Descriptor, Digest, Document};
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Kind, Result};
use ureq::http::Method;

use crate::http::Ask;
use crate::remote::{Remote, Scope};

/// Docker's schema 1, asked for last so that its refusal can be a clear one.
const SCHEMA1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
];

/// A document with what names it.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    pub descriptor: Descriptor,
    pub document: Document,
}

pub(crate) fn accept() -> String {
    let wanted = [oci::OCI_INDEX, oci::DOCKER_MANIFEST_LIST, oci::OCI_MANIFEST, oci::DOCKER_MANIFEST];
    format!("{}, {};q=0.1, {};q=0.1", wanted.join(", "), SCHEMA1[0], SCHEMA1[1])
}

/// The digest that a tag stands for now, without fetching the document; `None` if the registry does not say.
pub(crate) fn head(remote: &Remote, reference: &Reference) -> Result<Option<Digest>> {
    let url = remote.url(&format!("{}/manifests/{}", reference.path(), key(reference)));
    let what = format!("manifest {}", reference.familiar());
    let answer = remote.ask(Some(&Scope::pull(reference.path())), || {
        Ask::new(Method::HEAD, url.clone(), what.clone()).header("accept", accept())
    });
    let answer = answer.map_err(|e| explain(e, reference))?;
    Ok(answer.header("docker-content-digest").and_then(|d| Digest::parse(d).ok()))
}

/// What stands behind `/manifests/`: the digest if there is one, else the tag.
pub(crate) fn key(reference: &Reference) -> &str {
    reference.digest().or(reference.tag()).unwrap_or(fluyt_model::reference::DEFAULT_TAG)
}

/// Fetches what a reference names and stores it.
pub(crate) fn fetch(remote: &Remote, blobs: &Blobs, reference: &Reference) -> Result<Fetched> {
    let expected = reference.digest().map(Digest::parse).transpose()?;
    if let Some(digest) = &expected
        && blobs.has(digest)
        && let Ok(bytes) = blobs.read_small(digest, MAX_DOCUMENT)
    {
        return parsed(&bytes, digest.clone(), None, reference);
    }
    let url = remote.url(&format!("{}/manifests/{}", reference.path(), key(reference)));
    let what = format!("manifest {}", reference.familiar());
    let answer = remote
        .ask(Some(&Scope::pull(reference.path())), || {
            Ask::get(url.clone(), what.clone()).header("accept", accept())
        })
        .map_err(|e| explain(e, reference))?;
    let media_type =
        answer.header("content-type").map(|t| t.split(';').next().unwrap_or(t).trim().to_owned());
    if media_type.as_deref().is_some_and(|t| SCHEMA1.contains(&t)) {
        return Err(Error::unsupported(format!(
            "{} has a manifest of Docker's schema 1, which is not supported any more",
            reference.familiar()
        ))
        .with_hint("its publisher has to push it again with a current tool"));
    }
    let stated = answer.header("docker-content-digest").and_then(|d| Digest::parse(d).ok());
    let bytes = answer.bytes(MAX_DOCUMENT, &what)?;
    // A tag's document is named by what the registry says, if it says it; what was asked for always counts.
    let expected = expected.or(stated).unwrap_or_else(|| Digest::of(&bytes));
    let digest = store(blobs, &bytes, &expected)
        .map_err(|e| e.context(format!("registry {} sent wrong data for {what}", remote.host())))?;
    parsed(&bytes, digest, media_type, reference)
}

/// The document of a descriptor in the same repository.
pub(crate) fn fetch_child(
    remote: &Remote,
    blobs: &Blobs,
    parent: &Reference,
    child: &Descriptor,
) -> Result<Fetched> {
    let fetched = fetch(remote, blobs, &parent.with_digest(child.digest.as_str())?)?;
    if fetched.descriptor.size != child.size {
        return Err(Error::corrupt(format!(
            "{}: manifest {} is {} bytes long, its index says {}",
            parent.familiar(),
            child.digest,
            fetched.descriptor.size,
            child.size
        )));
    }
    Ok(fetched)
}

fn store(blobs: &Blobs, bytes: &[u8], expected: &Digest) -> Result<Digest> {
    if blobs.has(expected) && blobs.read_small(expected, MAX_DOCUMENT).is_ok_and(|b| b == bytes) {
        return Ok(expected.clone());
    }
    let mut ingest = blobs.ingest(Some(expected), Some(bytes.len() as u64), "")?;
    ingest.write_all(bytes).map_err(|e| ingest.write_error(e))?;
    ingest.commit()
}

fn parsed(
    bytes: &[u8],
    digest: Digest,
    media_type: Option<String>,
    reference: &Reference,
) -> Result<Fetched> {
    let document = Document::parse(bytes, &reference.familiar())?;
    let inner = match &document {
        Document::Manifest(m) => m.media_type.clone(),
        Document::Index(i) => i.media_type.clone(),
    };
    let default = match &document {
        Document::Manifest(_) => oci::OCI_MANIFEST,
        Document::Index(_) => oci::OCI_INDEX,
    };
    let known = |t: &String| oci::is_index(t) || oci::is_manifest(t);
    let media_type = inner.filter(known).or(media_type.filter(known)).unwrap_or_else(|| default.to_owned());
    Ok(Fetched { descriptor: Descriptor::new(&media_type, digest, bytes.len() as u64), document })
}

/// Docker's words for the refusals that users meet most.
pub(crate) fn explain(e: Error, reference: &Reference) -> Error {
    let (name, host) = (reference.familiar_name(), reference.domain());
    match e.kind() {
        Kind::Unauthorized | Kind::PermissionDenied => {
            let text = format!(
                "pull access denied for {name}, repository does not exist or may require 'fluyt login'"
            );
            let hint = format!("check the name; for a private repository run `fluyt login {host}` first");
            Error::new(e.kind(), text).with_hint(hint).with_source(e)
        }
        Kind::NotFound => {
            let hint = format!("check the tag; `{host}` lists tags at /v2/{}/tags/list", reference.path());
            Error::not_found(format!("manifest for {} not found", reference.familiar()))
                .with_hint(hint)
                .with_source(e)
        }
        _ => e,
    }
}
