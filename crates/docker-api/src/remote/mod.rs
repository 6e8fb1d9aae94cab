//! The operations of Docker's API over a connection to somebody's daemon: ours or dockerd.
//!
//! - [`dial`], [`tls`], [`host`], [`proxy`]: connections by unix socket, TCP, TLS and ssh;
//! - [`client`], `wire`: HTTP/1.1 over them;
//! - [`Remote`]: the operations, a file per group, each the mirror of a route of the server.
//!
//! Where the daemon is, is the caller's to say: this module reads no environment and no configuration.

mod builds;
pub mod client;
mod containers;
pub mod dial;
mod execs;
mod follow;
pub mod host;
mod images;
mod logs;
mod networks;
pub mod proxy;
mod session;
mod stat;
mod system;
pub mod tls;
mod volumes;
mod wire;

use std::sync::Arc;

use fluyt_model::Result;

use crate::api::Filters;

pub use client::Client;
pub use dial::Dialer;
pub use host::Host;

use client::Request;

/// A daemon at the other end of a connection.
#[derive(Clone)]
pub struct Remote {
    client: Arc<Client>,
}

impl Remote {
    /// Over a client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client: Arc::new(client) }
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether the daemon speaks this version of the API, or a newer one.
    fn speaks(&self, minor: u32) -> Result<bool> {
        Ok(self.client.version()? >= (1, minor))
    }
}

impl Request<'_> {
    /// Adds filters, if there are any.
    fn filters(self, filters: &Filters) -> Self {
        self.given("filters", &filters.to_json())
    }

    /// Adds a parameter when it is not empty.
    fn given(self, name: &str, value: &str) -> Self {
        self.maybe(name, Some(value).filter(|v| !v.is_empty()))
    }

    /// Adds a number when it is not zero.
    fn number(self, name: &str, value: i64) -> Self {
        if value == 0 { self } else { self.query(name, &value.to_string()) }
    }

    /// Adds a switch whose absence means something else than off.
    fn switch(self, name: &str, value: bool) -> Self {
        self.query(name, if value { "1" } else { "0" })
    }
}

/// `seconds.nanoseconds` since 1970, as `since` and `until` are sent.
fn timestamp(nanos: i64) -> String {
    format!("{}.{:09}", nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000))
}
