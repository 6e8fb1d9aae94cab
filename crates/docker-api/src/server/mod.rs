//! The Docker Engine API over HTTP: requests become calls of [`Docker`], and its answers become what clients expect.
//!
//! ```text
//! request ──route──► handler: decode ──► api::Docker ──► encode ──► response
//! ```
//! - `route`: paths and methods, one table per group of operations;
//! - `call`: the request at hand: parameters, body, version;
//! - `tolerant`: JSON as Go reads it;
//! - `version`: which versions there are; `compat`: how documents looked in older ones (pure);
//! - `error`: the one table from error kinds to status codes;
//! - `session`: connections that are handed over; `flow`: answers that go on; `progress`: messages while work goes on.
//!
//! Nothing here knows what an engine does; what a handler cannot decode it refuses in the words that clients know.

mod builds;
mod call;
mod compat;
mod containers;
mod error;
mod events;
mod execs;
mod flow;
mod images;
mod networks;
mod progress;
mod registry_auth;
mod route;
mod session;
mod swarm;
mod system;
mod tolerant;
mod usage;
mod version;
mod volumes;
mod websocket;

use std::sync::Arc;

use fluyt_http::{Handler, Method, Request, Response};
use fluyt_model::{Error, Kind};

use crate::api::Docker;
use call::Call;

pub use version::ApiVersion;

/// What answers the requests of an engine's socket.
pub struct Api {
    docker: Arc<dyn Docker>,
    /// Called now and then, for what has to be tidied up.
    tick: Box<dyn Fn() + Send + Sync>,
    /// Told of what no client can be told.
    trouble: Box<dyn Fn(&Error) + Send + Sync>,
}

impl Api {
    /// Serves `docker`; `tick` is called now and then, `trouble` is told of what no client can be told.
    pub fn new(
        docker: Arc<dyn Docker>,
        tick: impl Fn() + Send + Sync + 'static,
        trouble: impl Fn(&Error) + Send + Sync + 'static,
    ) -> Self {
        Self { docker, tick: Box::new(tick), trouble: Box::new(trouble) }
    }
}

/// A response with what every one says of the engine.
fn named(response: Response) -> Response {
    response
        .header("Api-Version", version::NEWEST.to_string())
        .header("Docker-Experimental", "false")
        .header("Ostype", "linux")
        .header("Server", concat!("fluyt/", env!("CARGO_PKG_VERSION"), " (linux)"))
}

impl Handler for Api {
    fn handle(&self, request: &mut Request<'_>) -> Response {
        let bodyless = request.head.method == Method::Head;
        let answered = version::split(&request.head.path)
            .map(|(version, path)| (version, path.to_owned()))
            .and_then(|(version, path)| {
                let (route, variables) = route::find(request.head.method, &path)?;
                // A filter that was left out would let everything through.
                if let Some(fault) = &request.head.query_fault {
                    return Err(Error::invalid(fault.clone()));
                }
                (route.answer)(&mut Call { docker: &self.docker, version, variables, request })
            });
        named(answered.unwrap_or_else(|e| {
            let response = error::response(&e);
            // What a HEAD is told of an error stands in its head alone.
            if bodyless { Response::new(response.status) } else { response }
        }))
    }

    fn full(&self) -> Response {
        let error = Error::new(Kind::Unavailable, "too many clients follow what happens here")
            .with_hint("end some that follow logs, events, statistics or sessions, and try again");
        named(error::response(&error))
    }

    fn tick(&self) {
        (self.tick)();
    }

    fn trouble(&self, error: &Error) {
        (self.trouble)(error);
    }
}
