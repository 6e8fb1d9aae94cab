//! Bridges, addresses, nftables, DNS: everything between a sandbox and the network.
//!
//! Two users: the engine (networks, addresses, names) and the monitor (one sandbox's links, ports and resolver). All
//! calls are synchronous and act in the caller's network namespace unless they take another one. The caller must be
//! single threaded or at least not depend on its thread's network namespace while a call runs: calls that take a
//! namespace enter it for some microseconds and come back.
//!
//! Life of a bridged sandbox, in order:
//!
//! 1. [`ensure_bridge`]: two lookups when all is as it should be, else it converges.
//! 2. [`reserve`] for each port: a bound socket that the monitor holds while the port is published.
//! 3. [`attach`]: two batches of netlink, one in each namespace.
//! 4. [`publish`]: one batch of nf_tables elements.
//! 5. [`unpublish`] at the end. Links die with their namespace and are never deleted one by one.
//!
//! [`reconcile`] does all of this for a whole data root, from a [`Desired`] state: for repair and after a reboot.
//!
//! What is absent: any daemon, any remembered state, any program run. What exists is looked at.
#![forbid(unsafe_code)]

mod addr;
mod bridge;
mod conntrack;
pub mod dns;
mod endpoint;
pub mod ipam;
mod link;
mod netns;
mod nft;
mod ports;
mod reconcile;
pub mod resolvconf;
mod routes;
mod scope;
mod sysctl;

pub use addr::{Cidr, Mac};
pub use bridge::{BridgeSpec, ensure_bridge, remove_bridge, remove_table};
pub use endpoint::{EndpointSpec, Link, MacvlanMode, Route, attach, detach, loopback_up, set_default_routes};
pub use fluyt_model::sandbox::Protocol;
pub use nft::Firewall;
pub use ports::{PortMapping, Reservation, publish, reserve, reserve_beside, unpublish};
pub use reconcile::{Desired, Observed, Plan, apply, forward_guards, observe, plan, reconcile};
pub use routes::host_routes;
pub use scope::Scope;
pub use sysctl::has_ipv6;
