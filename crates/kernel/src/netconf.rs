// SPDX-License-Identifier: Apache-2.0
//! Which links forward, as the kernel's forwarding path reads it (`RTM_GETNETCONF`): one question for all links instead of
//! a file of `/proc/sys` for each.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::socket::Netlink;
use crate::wire::{Attributes, INET, Message, Received, read_u32};

/// `struct netconfmsg`, padded.
const INFO: usize = 4;
/// `NETCONFA_IFINDEX` and `NETCONFA_FORWARDING`.
const INTERFACE: u16 = 1;
const FORWARDING: u16 = 2;

impl Netlink {
    /// Links, by index, whose `net/ipv4/conf/LINK/forwarding` is 0: IPv4 packets that come in there are not routed on,
    /// whatever holds for the host. (For IPv6 the link's own setting says only whether it behaves as a router's.)
    pub fn links_without_forwarding(&mut self) -> Result<BTreeSet<u32>> {
        let mut info = [0; INFO];
        info[0] = INET;
        let message = Message::new(libc::RTM_GETNETCONF, 0).fixed(&info);
        self.dump(
            message,
            "list links without IPv4 forwarding",
            |links: &mut BTreeSet<u32>, received| links.extend(parse_closed(received)),
        )
    }
}

/// The link of an `RTM_NEWNETCONF` message that says that it does not forward.
fn parse_closed(received: &Received<'_>) -> Option<u32> {
    if received.kind != libc::RTM_NEWNETCONF {
        return None;
    }
    let (mut interface, mut forwards) = (None, None);
    for (kind, payload) in Attributes(received.body.get(INFO..)?) {
        match kind {
            INTERFACE => interface = read_u32(payload),
            FORWARDING => forwards = read_u32(payload),
            _ => {}
        }
    }
    // `all` and `default` have negative numbers.
    let is_link = |index: &u32| i32::try_from(*index).is_ok_and(|index| index > 0);
    interface.filter(is_link).filter(|_| forwards == Some(0))
}
