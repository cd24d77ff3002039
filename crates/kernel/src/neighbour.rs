// SPDX-License-Identifier: Apache-2.0
//! Neighbours: which MAC address an IP address has on a link (ARP and IPv6 neighbour discovery).

use std::net::IpAddr;

use crate::error::Result;
use crate::link::LinkId;
use crate::mac::MacAddress;
use crate::request::Request;
use crate::socket::Netlink;
use crate::wire::{Attributes, INET, INET6, Message, Received, family, read_address, read_u16, read_u32};

/// Bytes of `struct ndmsg`.
pub(crate) const INFO: usize = 12;
/// `NDA_DST` and `NDA_LLADDR`.
pub(crate) const ADDRESS: u16 = libc::NDA_DST;
pub(crate) const MAC: u16 = libc::NDA_LLADDR;

/// A neighbour as the kernel reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// Index of the link.
    pub interface: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its MAC address, once known.
    pub mac: Option<MacAddress>,
    /// States (`NUD_`).
    pub state: u16,
}

impl Neighbour {
    /// Stays until removed and is never asked for.
    pub fn is_permanent(&self) -> bool {
        self.state & libc::NUD_PERMANENT != 0
    }
}

impl Request {
    /// Adds a permanent neighbour; EEXIST if the address has an entry, learned ones included.
    pub fn add_neighbour<'a>(link: impl Into<LinkId<'a>>, address: IpAddr, mac: MacAddress) -> Self {
        permanent(
            "add",
            libc::NLM_F_CREATE | libc::NLM_F_EXCL,
            link.into(),
            address,
            mac,
        )
    }

    /// Adds a permanent neighbour in place of any entry of the address.
    pub fn replace_neighbour<'a>(link: impl Into<LinkId<'a>>, address: IpAddr, mac: MacAddress) -> Self {
        permanent(
            "replace",
            libc::NLM_F_CREATE | libc::NLM_F_REPLACE,
            link.into(),
            address,
            mac,
        )
    }

    /// Removes the entry of an address.
    pub fn delete_neighbour<'a>(link: impl Into<LinkId<'a>>, address: IpAddr) -> Self {
        let link = link.into();
        let mut message = Message::new(libc::RTM_DELNEIGH, 0).fixed(&info(family(address), link.index(), 0));
        message.address(ADDRESS, address);
        Self::new(message, format!("delete neighbour {address} dev {link}"))
    }
}

impl Netlink {
    /// See [`Request::add_neighbour`].
    pub fn add_neighbour<'a>(
        &mut self,
        link: impl Into<LinkId<'a>>,
        address: IpAddr,
        mac: MacAddress,
    ) -> Result<()> {
        self.execute(Request::add_neighbour(link, address, mac))
    }

    /// See [`Request::replace_neighbour`].
    pub fn replace_neighbour<'a>(
        &mut self,
        link: impl Into<LinkId<'a>>,
        address: IpAddr,
        mac: MacAddress,
    ) -> Result<()> {
        self.execute(Request::replace_neighbour(link, address, mac))
    }

    /// See [`Request::delete_neighbour`].
    pub fn delete_neighbour<'a>(&mut self, link: impl Into<LinkId<'a>>, address: IpAddr) -> Result<()> {
        self.execute(Request::delete_neighbour(link, address))
    }

    /// The neighbours of both families, of one link (by index) or of all.
    pub fn neighbours(&mut self, interface: Option<u32>) -> Result<Vec<Neighbour>> {
        let mut message = Message::new(libc::RTM_GETNEIGH, 0).fixed(&info(0, 0, 0));
        if let Some(index) = interface {
            message.number(libc::NDA_IFINDEX, index);
        }
        let listing = self.dump(
            message,
            "list neighbours",
            |neighbours: &mut Vec<Neighbour>, received| {
                let wanted =
                    |neighbour: &Neighbour| interface.is_none_or(|index| neighbour.interface == index);
                neighbours.extend(parse_neighbour(received).filter(wanted));
            },
        );
        match listing {
            // A link that is gone has none.
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(Vec::new()),
            other => other,
        }
    }
}

fn permanent(verb: &str, flags: i32, link: LinkId<'_>, address: IpAddr, mac: MacAddress) -> Request {
    let info = info(family(address), link.index(), libc::NUD_PERMANENT);
    let mut message = Message::new(libc::RTM_NEWNEIGH, flags).fixed(&info);
    message.address(ADDRESS, address);
    message.attribute(MAC, &mac.0);
    Request::new(message, format!("{verb} neighbour {address} at {mac} dev {link}"))
}

/// `struct ndmsg`.
pub(crate) fn info(family: u8, interface: u32, state: u16) -> [u8; INFO] {
    let mut bytes = [0; INFO];
    bytes[0] = family;
    bytes[4..8].copy_from_slice(&interface.to_ne_bytes());
    bytes[8..10].copy_from_slice(&state.to_ne_bytes());
    bytes
}

/// The neighbour of an `RTM_NEWNEIGH` or `RTM_DELNEIGH` message.
pub(crate) fn parse_neighbour(received: &Received<'_>) -> Option<Neighbour> {
    if !matches!(received.kind, libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH) {
        return None;
    }
    let (info, attributes) = received.body.split_at_checked(INFO)?;
    // Forwarding entries come in the same words.
    if ![INET, INET6].contains(&info[0]) {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for (kind, payload) in Attributes(attributes) {
        match kind {
            ADDRESS => address = read_address(payload),
            MAC => mac = payload.try_into().ok().map(MacAddress),
            _ => {}
        }
    }
    Some(Neighbour {
        interface: read_u32(&info[4..])?,
        address: address?,
        mac,
        state: read_u16(&info[8..])?,
    })
}
