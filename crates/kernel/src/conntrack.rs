// SPDX-License-Identifier: Apache-2.0
//! Deleting the connections that a former holder of an address left in the connection tracking table: packets of the
//! address' next holder would follow them, past every rule for new connections.
//!
//! One pass lists the table and compares here; what matches is deleted one by one. The kernel's own filter
//! (`CTA_FILTER`, 5.8 and later) is not used: it compares one end of one direction, so it takes four passes, which
//! together cost more, and for IPv6 it is inverted up to 6.18 at least (`ctnetlink_filter_match_tuple` refuses equal
//! addresses), so that a filtered deletion takes everybody else's connections.

use std::net::IpAddr;

use crate::error::{Error, Result};
use crate::request::{Batch, Request};
use crate::socket::Netlink;
use crate::sysctl;
use crate::wire::{Attributes, INET, INET6, Message, read_address};

/// `NFNL_SUBSYS_CTNETLINK`, with `IPCTNL_MSG_CT_GET` and `IPCTNL_MSG_CT_DELETE`.
const GET: u16 = 0x0101;
const DELETE: u16 = 0x0102;
/// Bytes of `struct nfgenmsg`.
const INFO: usize = 4;
/// `CTA_TUPLE_ORIG` and `CTA_TUPLE_REPLY`: the two directions of a connection.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
/// `CTA_TUPLE_IP`, inside a direction: source and destination.
const TUPLE_IP: u16 = 1;
/// `CTA_ID` and `CTA_ZONE`: with the original direction they name one entry.
const ID: u16 = 12;
const ZONE: u16 = 18;

/// Entries in the calling thread's namespace; zero where connection tracking is not loaded.
pub fn count() -> Result<u32> {
    match sysctl::read("net/netfilter/nf_conntrack_count") {
        Ok(text) => text
            .parse()
            .map_err(|_| Error::unusable("count tracked connections", "not a number")),
        Err(error) if error.is_not_found() => Ok(0),
        Err(error) => Err(error),
    }
}

/// Deletes every entry whose original or reply direction has one of the addresses as source or destination, in all
/// zones of the calling thread's namespace, and says how many went. Costs one file read where the table is empty, and
/// loads no module then. Memory grows with what matches, not with the table.
pub fn delete_entries(addresses: &[IpAddr]) -> Result<usize> {
    if addresses.is_empty() || count()? == 0 {
        return Ok(0);
    }
    let mut socket = Netlink::open_protocol(libc::NETLINK_NETFILTER, "open netfilter netlink socket")?;
    let deletions = socket.dump(
        list(addresses),
        "list tracked connections",
        |batch: &mut Batch, received| batch.extend(deletion(received.body, addresses)),
    )?;
    let mut deleted = 0;
    for result in socket.apply_each(deletions)? {
        match result {
            Ok(()) => deleted += 1,
            // Expired in between.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(deleted)
}

/// The listing of all entries of the families in question.
fn list(addresses: &[IpAddr]) -> Message {
    let family = if addresses.iter().all(IpAddr::is_ipv4) {
        INET
    } else if addresses.iter().all(IpAddr::is_ipv6) {
        INET6
    } else {
        0
    };
    Message::new(GET, 0).fixed(&[family, 0, 0, 0])
}

/// The deletion of a listed entry, by its own name; `None` if it names none of the addresses.
fn deletion(entry: &[u8], addresses: &[IpAddr]) -> Option<Request> {
    let (info, attributes) = entry.split_at_checked(INFO)?;
    let named = Attributes(attributes)
        .filter(|(kind, _)| [ORIGINAL, REPLY].contains(kind))
        .flat_map(|(_, direction)| Attributes(direction).filter(|(kind, _)| *kind == TUPLE_IP))
        .flat_map(|(_, ends)| Attributes(ends))
        .filter_map(|(_, end)| read_address(end))
        .find(|end| addresses.contains(end))?;
    let mut message = Message::new(DELETE, 0).fixed(&[info[0], 0, 0, 0]);
    for (kind, payload) in Attributes(attributes) {
        match kind {
            ORIGINAL => message.nested(kind, |message| message.inner_fixed(payload)),
            ID | ZONE => message.attribute(kind, payload),
            _ => {}
        }
    }
    Some(Request::new(
        message,
        format!("delete a tracked connection of {named}"),
    ))
}

#[cfg(test)]
mod tests;
