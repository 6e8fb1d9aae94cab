//! Forgetting tracked UDP flows to a port of the host, so that the next packet is translated anew.

use fluyt_model::error::Result;
use fluyt_sys::netlink::consts::*;
use fluyt_sys::netlink::{Attrs, Batch, Reply, Socket};

use crate::link::{explain, libc_errno};
use crate::nft::header;

/// Deletes every tracked flow whose first packet went to `port` by `protocol`.
///
/// The kernel filters the listing (Linux 5.8 and later); each flow found is deleted by its own tuple.
pub(crate) fn forget(socket: &mut Socket, protocol: u8, port: u16) -> Result<()> {
    for family in [NFPROTO_IPV4, NFPROTO_IPV6] {
        let flows = list(socket, family, protocol, port)?;
        if flows.is_empty() {
            continue;
        }
        let mut batch = Batch::new();
        for (tuple, id) in &flows {
            batch.push("forget a flow", kind(IPCTNL_MSG_CT_DELETE), 0, &header(family, 0), |m| {
                m.bytes(CTA_TUPLE_ORIG | 1 << 15, tuple).bytes(CTA_ID, id);
            });
        }
        match socket.submit(batch) {
            Err(f) if f.errno() != libc_errno::ENOENT => {
                return Err(explain(&format!("cannot forget flows to port {port}"), f));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The original tuples and ids of the flows.
fn list(socket: &mut Socket, family: u8, protocol: u8, port: u16) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    const BY_PROTOCOL_AND_PORT: u32 = 1 << 3 | 1 << 5;
    let mut batch = Batch::new();
    batch.push("list flows", kind(IPCTNL_MSG_CT_GET), NLM_F_DUMP, &header(family, 0), |m| {
        m.nest(CTA_TUPLE_ORIG, |m| {
            m.nest(CTA_TUPLE_PROTO, |m| {
                m.u8(CTA_PROTO_NUM, protocol).bytes(CTA_PROTO_DST_PORT, &port.to_be_bytes());
            });
        });
        m.nest(CTA_FILTER, |m| {
            m.u32(CTA_FILTER_ORIG_FLAGS, BY_PROTOCOL_AND_PORT).u32(CTA_FILTER_REPLY_FLAGS, 0);
        });
    });
    let mut flows = Vec::new();
    let done = socket.query(batch, |reply| flows.extend(read(&reply, protocol, port)));
    match done {
        Ok(()) => Ok(flows),
        // A kernel without connection tracking has nothing to forget.
        Err(f) if [libc_errno::EOPNOTSUPP, libc_errno::ENOENT].contains(&f.errno()) => Ok(Vec::new()),
        Err(f) => Err(explain(&format!("cannot list flows to port {port}"), f)),
    }
}

fn read(reply: &Reply<'_>, protocol: u8, port: u16) -> Option<(Vec<u8>, Vec<u8>)> {
    let tuple = reply.attrs(4).find(CTA_TUPLE_ORIG)?;
    let id = reply.attrs(4).find(CTA_ID)?;
    let proto: Attrs<'_> = tuple.nested().find(CTA_TUPLE_PROTO)?.nested();
    let same = proto.find(CTA_PROTO_NUM)?.value == [protocol]
        && proto.find(CTA_PROTO_DST_PORT)?.value == port.to_be_bytes();
    same.then(|| (tuple.value.to_vec(), id.value.to_vec()))
}

fn kind(message: u16) -> u16 {
    NFNL_SUBSYS_CTNETLINK << 8 | message
}
