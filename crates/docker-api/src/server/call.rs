//! The request at hand: what was asked, with which parameters, in which version.

use std::sync::Arc;

use fluyt_http::{Payload, Request, Response};
use fluyt_model::{Error, Kind, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::tolerant;
use super::version::ApiVersion;
use crate::api::{Docker, Filters};
use crate::time;

/// The longest JSON document that is taken.
const MAX_JSON: u64 = 4 << 20;

/// A request that has found its handler.
pub struct Call<'c, 'r> {
    /// Whom to ask.
    pub docker: &'c Arc<dyn Docker>,
    /// The version that the client speaks.
    pub version: ApiVersion,
    /// What stands in the places of the pattern's stars.
    pub variables: Vec<String>,
    /// The request.
    pub request: &'c mut Request<'r>,
}

impl<'r> Call<'_, 'r> {
    /// The name in the path.
    pub fn name(&self) -> &str {
        self.variables.first().map_or("", String::as_str)
    }

    /// A parameter; empty if it is not there.
    pub fn text(&self, name: &str) -> &str {
        self.request.head.parameter(name).unwrap_or_default()
    }

    /// All values of a parameter.
    pub fn texts(&self, name: &str) -> Vec<String> {
        self.request.head.parameters(name).map(str::to_owned).collect()
    }

    /// Whether a parameter is there.
    pub fn has(&self, name: &str) -> bool {
        self.request.head.parameter(name).is_some()
    }

    /// A parameter that is true or false: whatever is not one of the words for false is true.
    pub fn flag(&self, name: &str) -> bool {
        !matches!(self.text(name).trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// The same, with what holds if it is not there.
    pub fn flag_or(&self, name: &str, default: bool) -> bool {
        if self.has(name) { self.flag(name) } else { default }
    }

    /// A number.
    ///
    /// # Errors
    /// `Invalid`, in Go's words.
    pub fn number(&self, name: &str) -> Result<Option<i64>> {
        match self.text(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                Error::invalid(format!("strconv.Atoi: parsing {text:?}: invalid syntax"))
                    .with_hint(format!("the parameter {name} is a number"))
            }),
        }
    }

    /// A size of a terminal.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn size(&self) -> Result<(u16, u16)> {
        let one = |name: &str, what: &str| {
            let text = self.text(name);
            let wrong = |why: &str| Error::invalid(format!("invalid resize {what} {text:?}: {why}"));
            match text.strip_prefix('-').unwrap_or(text).parse::<u32>() {
                Ok(_) if text.starts_with('-') => Err(wrong("value out of range")),
                Ok(n) => Ok(u16::try_from(n).unwrap_or(u16::MAX)),
                Err(e) if *e.kind() == std::num::IntErrorKind::PosOverflow => {
                    Err(wrong("value out of range"))
                }
                Err(_) => Err(wrong("invalid syntax")),
            }
        };
        Ok((one("h", "height")?, one("w", "width")?))
    }

    /// A point in time, nanoseconds since 1970; `None` if it is not there.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn time(&self, name: &str) -> Result<Option<i64>> {
        match self.text(name) {
            "" => Ok(None),
            text => time::parse(text, time::now())
                .map(Some)
                .map_err(|e| Error::invalid(format!("invalid value for \"{name}\": {e}"))),
        }
    }

    /// The parameter `filters`.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn filters(&self) -> Result<Filters> {
        Filters::from_json(self.text("filters"))
    }

    /// Whether the client asks for the connection.
    pub fn upgrades(&self) -> bool {
        self.request.head.header("upgrade").is_some()
    }

    /// The JSON document in the body; `None` if there is no body.
    ///
    /// # Errors
    /// `Invalid` for anything else.
    pub fn json<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let kind = self.request.head.header("content-type").unwrap_or_default().to_owned();
        let empty = self.request.body.length() == Some(0);
        if !(empty && kind.is_empty()) {
            check_json(&kind)?;
        }
        if empty {
            return Ok(None);
        }
        let bytes = self
            .request
            .body
            .read_all(MAX_JSON)
            .map_err(|e| Error::io("the request's body", e).with_kind(Kind::Invalid))?
            .ok_or_else(|| Error::invalid(format!("the request's body is larger than {MAX_JSON} bytes")))?;
        if bytes.trim_ascii().is_empty() {
            return Err(Error::invalid("invalid JSON: got EOF while reading request body"));
        }
        let document = tolerant::parse(&bytes)?;
        serde_json::from_value(document).map_err(|e| Error::invalid("invalid JSON").with_source(e))
    }

    /// The body as it comes.
    pub fn body(&mut self) -> &mut fluyt_http::Body<'r> {
        &mut self.request.body
    }
}

/// Refuses a body that does not say that it is JSON.
fn check_json(kind: &str) -> Result<()> {
    let media = kind.split(';').next().unwrap_or_default().trim();
    if media.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Error::invalid(if media.is_empty() {
        "malformed Content-Type header (): mime: no media type".to_owned()
    } else {
        format!("unsupported Content-Type header ({kind}): must be 'application/json'")
    }))
}

/// A JSON document as a response. It ends with a line feed, as clients have always got it.
///
/// # Errors
/// The document cannot be written down: a defect.
pub fn json(status: u16, document: &impl Serialize) -> Result<Response> {
    let mut bytes = serde_json::to_vec(document).map_err(|e| Error::internal("the answer").with_source(e))?;
    bytes.push(b'\n');
    Ok(Response::new(status).header("Content-Type", "application/json").payload(Payload::Bytes(bytes)))
}

/// A response that says no more than its status.
pub fn done(status: u16) -> Result<Response> {
    Ok(Response::new(status))
}
