//! What keeps browsers away from an engine that serves clients by TCP whom nobody has verified.
//!
//! A page from anywhere can make a browser on this machine send requests to its loopback addresses. Browsers say so with
//! an `Origin`, and where a name of the page's own leads here (DNS rebinding), `Host` has that name. No client of Docker's
//! API sends the one, and none has to send the other. Programs of this machine are not kept away: see docs/engine.md.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use fluyt_http::{Exchange, Handler, Peer, Request, Response};
use fluyt_model::Error;

/// In front of another handler.
pub struct Guard {
    rest: Arc<dyn Handler>,
    /// This machine may be called by any name.
    any_name: bool,
}

impl Guard {
    /// In front of `rest`; with `any_name` the `Host` of a request may be anything.
    pub fn new(rest: Arc<dyn Handler>, any_name: bool) -> Self {
        Self { rest, any_name }
    }

    fn refusal(&self, request: &Request<'_>) -> Option<&'static str> {
        if matches!(request.peer, Peer::Unix { .. }) {
            return None;
        }
        if request.head.header("origin").is_some() {
            return Some("requests of web pages are not served where clients have no certificates");
        }
        let known = self.any_name || request.head.headers("host").all(is_own);
        (!known).then_some("the request is for another host; use an address or localhost, or --tlsverify")
    }
}

/// Whether a `Host` is an address, or the name that no other machine can have.
fn is_own(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(address, _)| address.parse::<Ipv6Addr>().is_ok());
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name).to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    name.is_empty() || name.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
}

impl Handler for Guard {
    fn handle(&self, request: &mut Request<'_>) -> Response {
        match self.refusal(request) {
            Some(message) => Response::new(403).json(&serde_json::json!({ "message": message })),
            None => self.rest.handle(request),
        }
    }

    fn tick(&self) {
        self.rest.tick();
    }

    fn full(&self) -> Response {
        self.rest.full()
    }

    fn trouble(&self, error: &Error) {
        self.rest.trouble(error);
    }

    fn observes(&self) -> bool {
        self.rest.observes()
    }

    fn begun(&self) {
        self.rest.begun();
    }

    fn done(&self, exchange: &Exchange) {
        self.rest.done(exchange);
    }
}

#[cfg(test)]
mod tests {
    use super::is_own;

    #[test]
    fn names_of_others_are_told_apart() {
        for own in [
            "",
            "127.0.0.1:2375",
            "10.1.2.3",
            "[::1]:2375",
            "[::1]",
            "localhost",
            "LOCALHOST.:1",
            "api.moby.localhost",
        ] {
            assert!(is_own(own), "{own}");
        }
        for other in [
            "evil.example",
            "evil.example:2375",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "[x]",
            "[::1",
        ] {
            assert!(!is_own(other), "{other}");
        }
    }
}
