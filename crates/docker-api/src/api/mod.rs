//! Docker's operations as typed calls: what can be asked of an engine, whoever answers.
//!
//! [`Docker`] is implemented by [`Local`](crate::local::Local) over the engine library and by a connection to
//! somebody's socket; the command line, Compose and the HTTP server call it and cannot tell which one it is. Parameters
//! and results are plain data and the documents of [`types`](crate::types); nothing here knows JSON or HTTP, reads a
//! clock or touches a terminal.
//!
//! Long answers come in three forms:
//! - [`Follow`]: a stream of items that ends, or goes on as things happen (logs, events, stats);
//! - [`Output`]: bytes that are written when somebody takes them (archives). Errors of the object are met before;
//! - [`Progress`]: a sink that is told how a pull, a push or a build gets on.

mod builds;
mod containers;
mod execs;
mod images;
mod networks;
mod stream;
mod system;
mod volumes;

pub use builds::*;
pub use containers::*;
pub use execs::*;
pub use images::*;
pub use networks::*;
pub use stream::*;
pub use system::*;
pub use volumes::*;

/// Filters as they are asked for: several values of one name. Each operation knows which names it takes.
pub use crate::filter::Filters;

/// Everything that can be asked of an engine.
pub trait Docker:
    Containers + Execs + Images + Builds + Networks + Volumes + System + Distribution + Send + Sync
{
}

impl<T> Docker for T where
    T: Containers + Execs + Images + Builds + Networks + Volumes + System + Distribution + Send + Sync
{
}
