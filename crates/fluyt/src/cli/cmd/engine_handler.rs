//! What `fluyt engine` answers with.

use std::sync::Arc;

use fluyt_http::{Handler, Method, Payload, Request, Response};
use fluyt_model::Result;

use super::Cli;

/// What answers requests for the data root.
///
/// # Errors
/// The data root cannot be opened.
pub fn handler(_: &Cli) -> Result<Arc<dyn Handler>> {
    Ok(Arc::new(Ping))
}

/// Says that it is there.
struct Ping;

impl Handler for Ping {
    fn handle(&self, request: &mut Request<'_>) -> Response {
        match (request.head.method, request.head.path.as_str()) {
            (Method::Get | Method::Head, "/_ping") => Response::new(200)
                .header("Content-Type", "text/plain; charset=utf-8")
                .payload(Payload::Bytes(b"OK".to_vec())),
            _ => Response::new(404).json(&serde_json::json!({ "message": "page not found" })),
        }
    }

    fn trouble(&self, error: &fluyt_model::Error) {
        eprintln!("engine: {}", error.chain());
    }
}
