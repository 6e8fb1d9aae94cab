//! Blobs: whole and in ranges, deleted, mounted from another repository.

use fluyt_image::Digest;

use super::failure::{Answered, Code, Failure};
use super::names;
use super::records::Records;
use fluyt_http::{Head, Payload, Response};

/// The part of a blob that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    /// From the first to the last byte, inclusive.
    Range(u64, u64),
    Unsatisfiable,
}

/// Answers `GET` and `HEAD` for a blob of the repository; `None` when the repository does not have it.
pub(crate) fn get(
    records: &Records,
    head: &Head,
    repository: &str,
    digest: &Digest,
) -> Answered<Option<Response>> {
    if !records.has_blob(repository, digest)? {
        return Ok(None);
    }
    let Ok(file) = records.blobs().open(digest) else { return Ok(None) };
    let size = file.metadata().map_err(|e| fluyt_model::Error::io(format!("blob {digest}"), e))?.len();
    Ok(Some(serve(file, size, head, digest)))
}

/// The response for an open blob.
fn serve(file: std::fs::File, size: u64, head: &Head, digest: &Digest) -> Response {
    let etag = format!("\"{digest}\"");
    let common = |status| {
        Response::new(status)
            .header("Docker-Content-Digest", digest.as_str())
            .header("ETag", etag.clone())
            .header("Cache-Control", "max-age=31536000")
            .header("Accept-Ranges", "bytes")
    };
    if matches(head, "if-none-match", &etag) {
        return common(304);
    }
    let bytes = |r: Response| r.header("Content-Type", "application/octet-stream");
    // A range of another version is no use: all of it, then (RFC 9110, section 13.1.5).
    let ranged = head.header("if-range").is_none_or(|v| v == etag);
    match head.header("range").filter(|_| ranged).map_or(Part::Whole, |r| part(r, size)) {
        Part::Whole => bytes(common(200)).payload(Payload::File { file, offset: 0, length: size }),
        Part::Range(first, last) => bytes(common(206))
            .header("Content-Range", format!("bytes {first}-{last}/{size}"))
            .payload(Payload::File { file, offset: first, length: last - first + 1 }),
        Part::Unsatisfiable => {
            let text = format!("blob {digest} has {size} bytes; the range is behind its end");
            Failure::new(Code::RangeInvalid, text)
                .header("Content-Range", format!("bytes */{size}"))
                .response()
        }
    }
}

/// Whether a header of conditions has this entity tag.
pub(crate) fn matches(head: &Head, header: &str, etag: &str) -> bool {
    head.headers(header).flat_map(|v| v.split(',')).any(|t| {
        let t = t.trim();
        t == "*" || t.strip_prefix("W/").unwrap_or(t) == etag || t == etag.trim_matches('"')
    })
}

/// Reads a range (RFC 9110, section 14). What is malformed or names several ranges is passed over, as is allowed.
fn part(text: &str, size: u64) -> Part {
    let Some(range) = text.trim().strip_prefix("bytes=") else { return Part::Whole };
    let Some((first, last)) = range.split_once('-') else { return Part::Whole };
    let number = |t: &str| -> Option<u64> {
        let t = t.trim();
        if t.bytes().all(|b| b.is_ascii_digit()) && !t.is_empty() { t.parse().ok() } else { None }
    };
    match (first.trim().is_empty(), number(first), last.trim().is_empty(), number(last)) {
        (true, _, _, Some(0)) => Part::Unsatisfiable,
        (true, _, _, Some(_)) if size == 0 => Part::Unsatisfiable,
        (true, _, _, Some(n)) => Part::Range(size.saturating_sub(n), size - 1),
        (_, Some(first), ends, last) => match (ends, last) {
            (false, Some(last)) if last < first => Part::Whole,
            (false, None) => Part::Whole,
            _ if first >= size => Part::Unsatisfiable,
            (_, last) => Part::Range(first, last.unwrap_or(size - 1).min(size - 1)),
        },
        _ => Part::Whole,
    }
}

/// Takes a blob out of a repository. Its content stays until nothing needs it and a collection runs.
pub(crate) fn delete(records: &Records, repository: &str, digest: &Digest) -> Answered {
    if records.write(false, |tx| tx.unlink_blob(repository, digest))? {
        return Ok(Response::new(202).header("Docker-Content-Digest", digest.as_str()));
    }
    Err(unknown(repository, digest))
}

/// Makes a blob of another repository one of this repository's, if the content is there.
///
/// `from`: where it is said to be; without it any repository of `readable` will do.
pub(crate) fn mount(
    records: &Records,
    repository: &str,
    digest: &Digest,
    from: Option<&str>,
    readable: &dyn Fn(&str) -> bool,
) -> Answered<bool> {
    // Held before it is looked for, so that no collection comes between the look and the record.
    let lease = records.lease()?;
    lease.protect(digest)?;
    let found = match from {
        Some(from) => names::repository(from).is_ok() && readable(from) && records.has_blob(from, digest)?,
        None => records.repositories_with(digest, 100)?.iter().any(|name| readable(name)),
    };
    if !found || !lease.blobs().has(digest) {
        return Ok(false);
    }
    records.write(false, |tx| tx.link_blob(repository, digest))?;
    Ok(true)
}

/// The refusal for a blob that a repository does not have.
pub(crate) fn unknown(repository: &str, digest: &Digest) -> Failure {
    Failure::new(Code::BlobUnknown, format!("blob {digest} is not in repository {repository}"))
        .detail(serde_json::json!({"digest": digest.as_str()}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_has_them() {
        for (text, size, wanted) in [
            ("bytes=0-0", 10, Part::Range(0, 0)),
            ("bytes=2-", 10, Part::Range(2, 9)),
            ("bytes=-3", 10, Part::Range(7, 9)),
            ("bytes=-30", 10, Part::Range(0, 9)),
            ("bytes=5-99", 10, Part::Range(5, 9)),
            ("bytes=10-", 10, Part::Unsatisfiable),
            ("bytes=10-12", 10, Part::Unsatisfiable),
            ("bytes=-0", 10, Part::Unsatisfiable),
            ("bytes=0-", 0, Part::Unsatisfiable),
            ("bytes=-1", 0, Part::Unsatisfiable),
            ("bytes=5-2", 10, Part::Whole),
            ("bytes=a-b", 10, Part::Whole),
            ("bytes=1-b", 10, Part::Whole),
            ("bytes=0-1,3-4", 10, Part::Whole),
            ("items=0-1", 10, Part::Whole),
            ("bytes=99999999999999999999999-", 10, Part::Whole),
        ] {
            assert_eq!(part(text, size), wanted, "{text}");
        }
    }
}
