//! A request's head: its method, its target taken apart, its headers.

use super::{Body, Peer};

/// A method as far as anybody here distinguishes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
    /// OPTIONS.
    Options,
    /// Any other.
    Other,
}

impl Method {
    fn of(text: &str) -> Self {
        match text {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            _ => Self::Other,
        }
    }

    /// The method as it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Other => "OTHER",
        }
    }
}

/// What stands before the body.
#[derive(Debug)]
pub struct Head {
    /// What is to be done.
    pub method: Method,
    /// The path, percent-encoding taken away.
    pub path: String,
    /// The query's pairs in their order, decoded.
    pub query: Vec<(String, String)>,
    /// What is wrong with the query, as Go's servers say it; there are no pairs then. A request of which not all can be
    /// read must not be carried out where what is left out would have limited it.
    pub query_fault: Option<String>,
    headers: Vec<(String, String)>,
    /// Whether the protocol is HTTP/1.1 and not 1.0.
    pub modern: bool,
}

/// What a head can be wrong about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Not HTTP, or headers that contradict each other.
    Syntax,
    /// The head is too long or has too many headers.
    TooLarge,
    /// The body has an encoding that is not known.
    Encoding,
}

/// Headers of one request at most.
const MAX_HEADERS: usize = 100;

impl Head {
    /// Parses what is in `bytes`: `None` if the head is not complete yet, else the head and its length.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let mut space = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut space);
        let length = match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooLarge),
            Err(_) => return Err(Malformed::Syntax),
        };
        let mut headers = Vec::with_capacity(parsed.headers.len());
        for header in parsed.headers.iter() {
            let value = String::from_utf8_lossy(header.value).trim().to_owned();
            headers.push((header.name.to_ascii_lowercase(), value));
        }
        let target = parsed.path.ok_or(Malformed::Syntax)?;
        // A proxy's form of a target: the scheme and the host are not needed.
        let target = match target.strip_prefix("http://").or_else(|| target.strip_prefix("https://")) {
            Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
            None => target,
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (query, query_fault) = match parse_query(query) {
            Ok(pairs) => (pairs, None),
            Err(fault) => (Vec::new(), Some(fault)),
        };
        let head = Self {
            method: Method::of(parsed.method.unwrap_or_default()),
            path: decode(path, false).map_err(|_| Malformed::Syntax)?,
            query,
            query_fault,
            headers,
            modern: parsed.version == Some(1),
        };
        Ok(Some((head, length)))
    }

    /// The first value of a header; its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// All values of a header.
    pub fn headers<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'h str> {
        self.headers.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The first value of a query parameter.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// All values of a query parameter.
    pub fn parameters<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'h str> {
        self.query.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Whether a header that is a list of words has this one.
    #[must_use]
    pub fn lists(&self, name: &str, word: &str) -> bool {
        self.headers(name).flat_map(|v| v.split(',')).any(|w| w.trim().eq_ignore_ascii_case(word))
    }

    /// How the body is delimited (RFC 9112, section 6).
    pub(crate) fn framing(&self) -> Result<Framing, Malformed> {
        let mut lengths = self.headers("content-length");
        let length = lengths.next();
        if let Some(encoding) = self.header("transfer-encoding") {
            // Both at once is how requests are smuggled past a proxy.
            if length.is_some() {
                return Err(Malformed::Syntax);
            }
            return if encoding.eq_ignore_ascii_case("chunked")
                && self.headers("transfer-encoding").count() == 1
            {
                Ok(Framing::Chunked)
            } else {
                Err(Malformed::Encoding)
            };
        }
        let Some(length) = length else { return Ok(Framing::Length(0)) };
        if lengths.any(|other| other != length) || !length.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Malformed::Syntax);
        }
        length.parse().map(Framing::Length).map_err(|_| Malformed::Syntax)
    }
}

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// A request: its head, its body as a stream, its peer.
pub struct Request<'a> {
    /// What stands before the body.
    pub head: Head,
    /// The body.
    pub body: Body<'a>,
    /// Who asks.
    pub peer: Peer,
    /// Whether it came through TLS.
    pub secure: bool,
}

/// The pairs of a query or of a form.
///
/// # Errors
/// What is wrong with it: an escape that is broken, or text that is no UTF-8.
pub fn parse_query(text: &str) -> Result<Vec<(String, String)>, String> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let decoded = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(name, true)?, decode(value, true)?))
    });
    decoded.collect()
}

/// Takes percent-encoding away.
fn decode(text: &str, plus_is_space: bool) -> Result<String, String> {
    if !text.contains(['%', '+']) {
        return Ok(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        out.push(match byte {
            b'%' => {
                let digits = after.get(..2).and_then(|two| {
                    let digit = |byte: u8| char::from(byte).to_digit(16);
                    u8::try_from(digit(two[0])? * 16 + digit(two[1])?).ok()
                });
                let Some(byte) = digits else {
                    let broken = String::from_utf8_lossy(&after[..after.len().min(2)]).into_owned();
                    return Err(format!("invalid URL escape {:?}", format!("%{broken}")));
                };
                rest = &after[2..];
                byte
            }
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    String::from_utf8(out).map_err(|_| format!("{text:?} is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        Head::parse(text.as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn targets_are_taken_apart() {
        let h = head("GET /v2/a%2Fb/tags/list?n=1&last=x%2by+z&n=2 HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!((h.method, h.path.as_str()), (Method::Get, "/v2/a/b/tags/list"));
        assert_eq!(h.parameter("last"), Some("x+y z"));
        assert_eq!(h.parameters("n").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(head("GET http://h/x HTTP/1.0\r\n\r\n").path, "/x");
        for (query, fault) in [
            ("a=1&b=100%", "invalid URL escape \"%\""),
            ("b=%2", "invalid URL escape \"%2\""),
            ("%zz=1", "invalid URL escape \"%zz\""),
            ("a=%ff", "\"%ff\" is not UTF-8"),
        ] {
            let h = head(&format!("GET /x?{query} HTTP/1.1\r\n\r\n"));
            assert_eq!((h.query_fault.as_deref(), h.query.len()), (Some(fault), 0), "{query}");
        }
        assert!(Head::parse(b"GET /x HTTP/1.1\r\nHost").unwrap().is_none());
        assert_eq!(Head::parse(b"\0\0\0\r\n\r\n").unwrap_err(), Malformed::Syntax);
        assert_eq!(Head::parse(b"GET /%zz HTTP/1.1\r\n\r\n").unwrap_err(), Malformed::Syntax);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200));
        assert_eq!(Head::parse(many.as_bytes()).unwrap_err(), Malformed::TooLarge);
    }

    #[test]
    fn damaged_heads_are_answers_or_refusals_but_no_panics() {
        let whole =
            b"PUT /v2/a%2Fb/manifests/x?tag=%41&tag=b+c HTTP/1.1\r\nHost: h\r\nContent-Length: 12\r\n\r\n";
        let mut state = 88_172_645_463_325_252_u64;
        let mut next = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap() % below
        };
        for _ in 0..20_000 {
            let mut bytes = whole.to_vec();
            for _ in 0..=next(4) {
                let at = next(bytes.len());
                match next(3) {
                    0 => bytes[at] = u8::try_from(next(256)).unwrap(),
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, b"%\r\n:? \0\xff"[next(8)]),
                }
            }
            if let Ok(Some((head, length))) = Head::parse(&bytes) {
                assert!(length <= bytes.len());
                let _ = head.framing();
            }
        }
    }

    #[test]
    fn bodies_are_delimited_one_way_only() {
        let framing = |headers: &str| head(&format!("PUT / HTTP/1.1\r\n{headers}\r\n")).framing();
        assert_eq!(framing(""), Ok(Framing::Length(0)));
        assert_eq!(framing("Content-Length: 7\r\n"), Ok(Framing::Length(7)));
        assert_eq!(framing("Transfer-Encoding: chunked\r\n"), Ok(Framing::Chunked));
        for bad in [
            "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 7\r\nContent-Length: 8\r\n",
            "Content-Length: +7\r\n",
            "Content-Length: 99999999999999999999999\r\n",
        ] {
            assert_eq!(framing(bad), Err(Malformed::Syntax), "{bad}");
        }
        assert_eq!(framing("Transfer-Encoding: gzip, chunked\r\n"), Err(Malformed::Encoding));
    }
}
