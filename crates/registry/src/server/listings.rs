//! Lists, a page at a time: tags, repositories, referrers, and what a search finds.

use fluyt_image::{Digest, oci};
use serde_json::{Value, json};

use super::failure::{Answered, Code, Failure};
use super::records::{Manifest, Records};
use fluyt_http::{Head, Payload, Response};

/// Entries of a page when the client does not say how many.
const PAGE: u32 = 1000;
/// Entries of a page at most.
const LARGEST_PAGE: u32 = 10_000;
/// Descriptors on one page of referrers, and bytes of their annotations: distribution-spec ("Listing Referrers") wants no
/// page to be longer than manifests may be, which is 4 MiB.
const REFERRERS: (u32, usize) = (500, 3 << 20);

/// How many entries a client wants; `None` when it leaves that to us.
fn wanted(head: &Head) -> Answered<Option<u32>> {
    let Some(text) = head.parameter("n") else { return Ok(None) };
    match text.parse::<u32>() {
        Ok(n) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(Some(n.min(LARGEST_PAGE))),
        _ => Err(Failure::new(Code::PaginationNumberInvalid, format!("n={text}: not a number of entries"))),
    }
}

/// Cuts a page from `entries`, of which there is one too many if more follow; the response and where it goes on.
fn page(path: &str, mut entries: Vec<String>, n: u32, document: &dyn Fn(Vec<String>) -> Value) -> Response {
    let more = entries.len() > n as usize;
    entries.truncate(n as usize);
    let last = entries.last().cloned();
    let mut response = Response::new(200).json(&document(entries));
    if let (true, Some(last)) = (more, last) {
        response = response.header("Link", format!("<{path}?n={n}&last={}>; rel=\"next\"", escape(&last)));
    }
    response
}

/// `GET /v2/NAME/tags/list`.
pub(crate) fn tags(records: &Records, head: &Head, repository: &str) -> Answered {
    let n = wanted(head)?.unwrap_or(PAGE);
    if !records.repository_exists(repository)? {
        return Err(Failure::new(
            Code::NameUnknown,
            format!("repository {repository} is not known to this registry"),
        )
        .detail(json!({"name": repository})));
    }
    let last = head.parameter("last").unwrap_or_default();
    let tags = if n == 0 { Vec::new() } else { records.tags(repository, last, n + 1)? };
    let path = format!("/v2/{repository}/tags/list");
    Ok(page(&path, tags, n, &|tags| json!({"name": repository, "tags": tags})))
}

/// `GET /v2/_catalog`, with the repositories that `visible` lets the client see.
pub(crate) fn catalog(records: &Records, head: &Head, visible: &dyn Fn(&str) -> bool) -> Answered {
    let n = wanted(head)?.unwrap_or(PAGE);
    let mut last = head.parameter("last").unwrap_or_default().to_owned();
    let mut found = Vec::new();
    while n > 0 && found.len() <= n as usize {
        let some = records.repositories(&last, PAGE)?;
        let Some(end) = some.last() else { break };
        last.clone_from(end);
        let room = n as usize + 1 - found.len();
        found.extend(some.into_iter().filter(|name| visible(name)).take(room));
    }
    Ok(page("/v2/_catalog", found, n, &|names| json!({"repositories": names})))
}

/// `GET /v2/NAME/referrers/DIGEST`. An unknown subject has no referrers; that is no error.
pub(crate) fn referrers(records: &Records, head: &Head, repository: &str, subject: &Digest) -> Answered {
    let kind = head.parameter("artifactType").filter(|t| !t.is_empty());
    let last = head.parameter("last").unwrap_or_default();
    let (found, more) = records.referrers(repository, subject, kind, last, REFERRERS)?;
    let next = if more { found.last().map(|m| m.digest.clone()) } else { None };
    let manifests: Vec<Value> = found.into_iter().map(descriptor).collect();
    let index = json!({"schemaVersion": 2, "mediaType": oci::OCI_INDEX, "manifests": manifests});
    let mut response = Response::new(200)
        .header("Content-Type", oci::OCI_INDEX)
        .payload(Payload::Bytes(index.to_string().into_bytes()));
    if kind.is_some() {
        response = response.header("OCI-Filters-Applied", "artifactType");
    }
    if let Some(next) = next {
        let filter = kind.map(|k| format!("&artifactType={}", escape(k))).unwrap_or_default();
        let link = format!("</v2/{repository}/referrers/{subject}?last={next}{filter}>; rel=\"next\"");
        response = response.header("Link", link);
    }
    Ok(response)
}

fn descriptor(manifest: Manifest) -> Value {
    let mut value = json!({
        "mediaType": manifest.media_type,
        "digest": manifest.digest.as_str(),
        "size": manifest.size,
    });
    if let Some(kind) = manifest.artifact_type {
        value["artifactType"] = json!(kind);
    }
    if let Some(annotations) = manifest.annotations.and_then(|a| serde_json::from_str::<Value>(&a).ok()) {
        value["annotations"] = annotations;
    }
    value
}

/// `GET /v1/search?q=TEXT&n=ENTRIES&page=NUMBER`, in the form of a hub's answer.
pub(crate) fn search(records: &Records, head: &Head, visible: &dyn Fn(&str) -> bool) -> Answered {
    let text = head.parameter("q").unwrap_or_default().to_lowercase();
    let size = wanted(head)?.unwrap_or(25).clamp(1, 100);
    let number = head.parameter("page").and_then(|p| p.parse::<u32>().ok()).unwrap_or(1).max(1);
    // What the client may not see is left out before pages are cut.
    let (_, names) = records.search(&text, 0, LARGEST_PAGE)?;
    let seen: Vec<String> = names.into_iter().filter(|name| visible(name)).collect();
    let total = seen.len();
    let skip = (number as usize - 1).saturating_mul(size as usize);
    let results: Vec<Value> = seen
        .into_iter()
        .skip(skip)
        .take(size as usize)
        .map(|name| {
            json!({"name": name, "description": "", "star_count": 0, "is_official": false, "is_automated": false})
        })
        .collect();
    let pages = total.div_ceil(size as usize);
    Ok(Response::new(200).json(&json!({
        "query": text, "num_results": total, "num_pages": pages, "page": number, "page_size": size,
        "results": results,
    })))
}

/// Encodes what must not stand in a query.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/' | b':') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
