//! Manifests: put, got, deleted, by tag and by digest.

use std::io::Write;

use fluyt_image::Digest;
use fluyt_image::digest::{Algorithm, Hasher};
use fluyt_model::Kind;
use serde_json::json;

use super::blobs::matches;
use super::document;
use super::failure::{Answered, Code, Failure};
use super::names::{self, Key};
use super::records::{Manifest, Missing, NewManifest, Records};
use fluyt_http::{Head, Payload, Request, Response};

/// The largest manifest, as the specification recommends.
pub(crate) const MAX_MANIFEST: u64 = 4 << 20;
/// Tags that one request may set.
const MAX_TAGS: usize = 100;

/// The refusal for a manifest that is not there.
pub(crate) fn unknown(records: &Records, repository: &str, key: &Key) -> Failure {
    if matches!(records.repository_exists(repository), Ok(false)) {
        return Failure::new(
            Code::NameUnknown,
            format!("repository {repository} is not known to this registry"),
        )
        .detail(json!({"name": repository}));
    }
    Failure::new(Code::ManifestUnknown, format!("manifest {key} is not in repository {repository}"))
        .detail(json!({"name": repository, "reference": key.to_string()}))
}

/// Answers `GET` and `HEAD`; `None` when it is not there.
pub(crate) fn get(records: &Records, head: &Head, repository: &str, key: &Key) -> Answered<Option<Response>> {
    let digest = match key {
        Key::Digest(digest) => digest.clone(),
        Key::Tag(tag) => match records.tag(repository, tag)? {
            Some((digest, _)) => digest,
            None => return Ok(None),
        },
    };
    let Some(manifest) = records.manifest(repository, &digest)? else { return Ok(None) };
    let etag = format!("\"{digest}\"");
    let response = |status| {
        Response::new(status).header("Docker-Content-Digest", digest.as_str()).header("ETag", etag.clone())
    };
    if matches(head, "if-none-match", &etag) {
        return Ok(Some(response(304)));
    }
    // The content is gone although its record is here: somebody deleted files.
    let bytes = match records.blobs().read_small(&digest, manifest.size.max(MAX_MANIFEST)) {
        Err(e) if e.kind() == Kind::NotFound => return Ok(None),
        other => other?,
    };
    Ok(Some(response(200).header("Content-Type", manifest.media_type).payload(Payload::Bytes(bytes))))
}

/// Answers `PUT`. `sparse`: what it refers to may be missing; `most`: its longest form.
pub(crate) fn put(
    records: &Records,
    request: &mut Request<'_>,
    repository: &str,
    key: &Key,
    (sparse, most): (bool, u64),
) -> Answered {
    let mut tags = Vec::new();
    for tag in request.head.parameters("tag") {
        if !names::is_tag(tag) {
            return Err(Failure::new(Code::TagInvalid, format!("invalid tag {tag:?}")));
        }
        tags.push(tag.to_owned());
    }
    let tags_asked = tags.clone();
    if tags.len() > MAX_TAGS {
        return Err(Failure::new(Code::TagInvalid, format!("more than {MAX_TAGS} tags")).status(414));
    }
    if let Key::Tag(tag) = key {
        tags.push(tag.clone());
    }
    let bytes = request
        .body
        .read_all(most)
        .map_err(|e| Failure::new(Code::ManifestInvalid, format!("the manifest did not arrive: {e}")))?
        .ok_or_else(|| {
            let text = format!("the manifest is larger than {most} bytes");
            Failure::new(Code::SizeInvalid, text).status(413)
        })?;
    let stored = store(records, repository, key, &bytes, request.head.header("content-type"), &tags, sparse)?;
    let mut response = Response::new(201)
        .header("Location", format!("/v2/{repository}/manifests/{}", stored.digest))
        .header("Docker-Content-Digest", stored.digest.as_str());
    if let Some(subject) = stored.subject {
        response = response.header("OCI-Subject", subject.as_str());
    }
    for tag in tags_asked {
        response = response.header("OCI-Tag", tag);
    }
    Ok(response)
}

/// A manifest that was put.
pub(crate) struct Stored {
    pub digest: Digest,
    pub subject: Option<Digest>,
}

/// Checks, stores and records a manifest. `sparse`: what it refers to may be missing.
pub(crate) fn store(
    records: &Records,
    repository: &str,
    key: &Key,
    bytes: &[u8],
    content_type: Option<&str>,
    tags: &[String],
    sparse: bool,
) -> Answered<Stored> {
    let algorithm = match key {
        Key::Digest(digest) => digest.algorithm(),
        Key::Tag(_) => Algorithm::Sha256,
    };
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    let digest = hasher.finish();
    if let Key::Digest(wanted) = key
        && *wanted != digest
    {
        return Err(Failure::new(
            Code::DigestInvalid,
            format!("the manifest has the digest {digest}, not {wanted}"),
        ));
    }
    let document = document::read(bytes, content_type)?;
    let lease = records.lease()?;
    if !lease.blobs().has(&digest) {
        let mut ingest = lease.blobs().ingest(Some(&digest), Some(bytes.len() as u64), "")?;
        ingest.write_all(bytes).map_err(|e| ingest.write_error(e))?;
        ingest.commit()?;
    }
    let new = NewManifest {
        record: Manifest {
            digest: digest.clone(),
            media_type: document.media_type,
            size: bytes.len() as u64,
            artifact_type: document.artifact_type,
            annotations: document.annotations,
        },
        subject: document.subject.as_ref(),
        blobs: &document.blobs,
        manifests: &document.manifests,
        tags,
        sparse,
    };
    match records.write(true, |tx| tx.put_manifest(repository, &new))? {
        Ok(()) => Ok(Stored { digest, subject: document.subject }),
        Err(missing) => Err(refuse(&missing)),
    }
}

fn refuse(missing: &Missing) -> Failure {
    let mut items = missing.0.iter().take(50).map(|digest| {
        let text = format!("the manifest refers to {digest}, which is not in the repository: push it first");
        Failure::new(Code::ManifestBlobUnknown, text).detail(json!({"digest": digest.as_str()}))
    });
    let first = items.next().unwrap_or_else(|| Failure::new(Code::ManifestBlobUnknown, "a blob is missing"));
    items.fold(first, Failure::and)
}

/// Answers `DELETE`: a tag alone, or a manifest with its tags.
pub(crate) fn delete(records: &Records, repository: &str, key: &Key) -> Answered {
    let found = records.write(true, |tx| match key {
        Key::Tag(tag) => tx.remove_tag(repository, tag),
        Key::Digest(digest) => tx.remove_manifest(repository, digest),
    })?;
    if found { Ok(Response::new(202)) } else { Err(unknown(records, repository, key)) }
}
