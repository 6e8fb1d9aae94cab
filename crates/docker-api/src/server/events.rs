//! `GET /events`.

use fluyt_http::Response;
use fluyt_model::{Error, Result};

use super::call::Call;
use super::route::{Route, get};
use super::version::ApiVersion;
use super::{compat, flow};
use crate::api::EventsOf;
use crate::types::EventMessage;

/// Its operation.
pub const ROUTES: &[Route] = &[get("/events", events)];

/// The record separator of RFC 7464.
const RECORD: u8 = 0x1e;

fn events(call: &mut Call<'_, '_>) -> Result<Response> {
    let (since, until) = (call.time("since")?, call.time("until")?);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        return Err(Error::invalid(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            call.text("since"),
            call.text("until")
        )));
    }
    let events = call.docker.events(&EventsOf { since, until, filters: call.filters()? })?;
    let version = call.version;
    let kind = media_type(call.request.head.header("accept").unwrap_or_default(), version);
    let records = kind == "application/json-seq";
    let response = Response::new(200).header("Content-Type", kind);
    Ok(flow::items(response, events, move |out, mut event: EventMessage| {
        compat::event(&mut event, version);
        if records {
            out.write_all(&[RECORD])?;
        }
        let mut line = serde_json::to_vec(&event)?;
        line.push(b'\n');
        out.write_all(&line)
    }))
}

/// The first form that the client takes; before 1.52 there was one.
fn media_type(accept: &str, version: ApiVersion) -> &'static str {
    const FORMS: [(&str, u16); 3] =
        [("application/jsonl", 53), ("application/x-ndjson", 52), ("application/json-seq", 52)];
    for wanted in accept.split(',').map(|part| part.split(';').next().unwrap_or_default().trim()) {
        if let Some((form, _)) = FORMS.iter().find(|(form, since)| *form == wanted && version.0 >= *since) {
            return form;
        }
    }
    "application/json"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_what_client_and_version_know() {
        assert_eq!(media_type("application/json-seq", ApiVersion(52)), "application/json-seq");
        assert_eq!(
            media_type("application/jsonl, application/x-ndjson;q=1", ApiVersion(52)),
            "application/x-ndjson"
        );
        assert_eq!(media_type("application/x-ndjson", ApiVersion(51)), "application/json");
        assert_eq!(media_type("*/*", ApiVersion(55)), "application/json");
    }
}
