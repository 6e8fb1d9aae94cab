//! Errors as clients get them: the one table from kinds to status codes, and the body.

use fluyt_http::{Payload, Response};
use fluyt_model::{Error, Kind};
use serde::Serialize;

/// The status code of an error.
#[must_use]
pub fn status(kind: Kind) -> u16 {
    match kind {
        Kind::NotFound => 404,
        Kind::Conflict => 409,
        Kind::Invalid | Kind::CommandNotFound | Kind::CommandNotExecutable => 400,
        Kind::PermissionDenied => 403,
        Kind::Unauthorized => 401,
        Kind::RateLimited => 429,
        Kind::Unavailable => 503,
        Kind::Unsupported => 501,
        _ => 500,
    }
}

#[derive(Serialize)]
struct Body {
    message: String,
    /// What to do next; an extension that other clients pass over.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// The response to a request that failed.
pub fn response(error: &Error) -> Response {
    let body = Body { message: error.chain(), hint: error.hint().map(str::to_owned) };
    let mut bytes = serde_json::to_vec(&body).unwrap_or_default();
    bytes.push(b'\n');
    Response::new(status(error.kind()))
        .header("Content-Type", "application/json")
        .payload(Payload::Bytes(bytes))
}
