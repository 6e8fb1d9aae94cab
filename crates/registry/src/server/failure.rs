//! Refusals as the distribution specification writes them ("Error Codes"): a status, a code, a sentence, details.

use fluyt_model::{Error, Kind};
use serde_json::{Value, json};

use fluyt_http::Response;

/// The codes of the specification and those of Docker's registry that clients know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    PaginationNumberInvalid,
    RangeInvalid,
    SizeInvalid,
    TagInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
    Unavailable,
    Unknown,
}

impl Code {
    fn name(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            Self::RangeInvalid => "RANGE_INVALID",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::TagInvalid => "TAG_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unavailable => "UNAVAILABLE",
            Self::Unknown => "UNKNOWN",
        }
    }

    fn status(self) -> u16 {
        match self {
            Self::BlobUnknown | Self::BlobUploadUnknown | Self::ManifestUnknown | Self::NameUnknown => 404,
            Self::ManifestBlobUnknown => 404,
            Self::RangeInvalid => 416,
            Self::Unauthorized => 401,
            Self::Denied => 403,
            Self::Unsupported => 405,
            Self::TooManyRequests => 429,
            Self::Unavailable => 503,
            Self::Unknown => 500,
            _ => 400,
        }
    }
}

/// Why a request is refused.
#[derive(Debug)]
pub(crate) struct Failure {
    pub status: u16,
    items: Vec<(Code, String, Value)>,
    headers: Vec<(&'static str, String)>,
}

/// The result of handling a request.
pub(crate) type Answered<T = Response> = Result<T, Failure>;

impl Failure {
    /// A refusal with the status that belongs to `code`.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { status: code.status(), items: vec![(code, message.into(), Value::Null)], headers: Vec::new() }
    }

    /// The same with another status.
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// The same with details for programs.
    pub fn detail(mut self, detail: Value) -> Self {
        if let Some(last) = self.items.last_mut() {
            last.2 = detail;
        }
        self
    }

    /// The same with one more error in its list.
    pub fn and(mut self, other: Self) -> Self {
        self.items.extend(other.items);
        self
    }

    /// The same with a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The first code.
    #[cfg(test)]
    pub fn code(&self) -> Code {
        self.items.first().map_or(Code::Unknown, |item| item.0)
    }

    /// Whether the fault is this server's, so that its administrator has to hear of it.
    pub fn is_ours(&self) -> bool {
        self.status >= 500
    }

    /// What it says, in one line.
    pub fn text(&self) -> String {
        self.items.iter().map(|(_, message, _)| message.as_str()).collect::<Vec<_>>().join("; ")
    }

    /// The response.
    pub fn response(self) -> Response {
        let errors: Vec<Value> = self
            .items
            .iter()
            .map(|(code, message, detail)| {
                let mut item = json!({"code": code.name(), "message": message});
                if !detail.is_null() {
                    item["detail"] = detail.clone();
                }
                item
            })
            .collect();
        let mut response = Response::new(self.status).json(&json!({"errors": errors}));
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        response
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        let text = e.chain();
        match e.kind() {
            Kind::NotFound => Self::new(Code::BlobUnknown, text),
            Kind::Unauthorized => Self::new(Code::Unauthorized, text),
            Kind::PermissionDenied => Self::new(Code::Denied, text),
            Kind::RateLimited => Self::new(Code::TooManyRequests, text),
            Kind::Unavailable | Kind::Timeout => Self::new(Code::Unavailable, text),
            Kind::Exhausted => Self::new(Code::Unknown, text).status(507),
            _ => Self::new(Code::Unknown, text),
        }
    }
}
