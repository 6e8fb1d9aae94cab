//! The host's routes, so that no network is put where the host already sends packets.

use fluyt_model::error::Result;
use fluyt_sys::netlink::Batch;
use fluyt_sys::netlink::consts::*;

use crate::addr::Cidr;
use crate::bridge::read_ip;
use crate::link::{self, explain};

/// Every destination in the host's tables but for default routes, multicast and the kernel's table of local addresses.
///
/// # Errors
/// The kernel refuses to list them.
pub fn host_routes() -> Result<Vec<Cidr>> {
    const LOCAL_TABLE: u8 = 255;
    const UNICAST: u8 = 1;
    let mut socket = link::socket()?;
    let mut batch = Batch::new();
    batch.push("list routes", RTM_GETROUTE, NLM_F_DUMP, &[0; 12], |_| {});
    let mut routes = Vec::new();
    socket
        .query(batch, |reply| {
            let header = reply.payload.get(..12).unwrap_or_default();
            let [_, prefix, _, _, table, _, _, kind, ..] = *header else { return };
            if reply.kind != RTM_NEWROUTE || table == LOCAL_TABLE || kind != UNICAST || prefix == 0 {
                return;
            }
            let to = reply.attrs(12).find(RTA_DST).and_then(|a| read_ip(a.value));
            routes.extend(to.and_then(|to| Cidr::new(to, prefix).ok()));
        })
        .map_err(|f| explain("cannot list the host's routes", f))?;
    routes.retain(|r| !r.addr().is_multicast());
    Ok(routes)
}
