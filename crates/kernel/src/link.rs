// SPDX-License-Identifier: Apache-2.0
//! Links (network interfaces): finding and listing them here, altering and deleting them in `change`. [`pair`](crate::pair) creates
//! them.

use std::fmt;

use crate::error::Result;
use crate::mac::MacAddress;
use crate::socket::Netlink;
use crate::wire::{Attributes, Message, Received, read_i32, read_text, read_u32};

mod change;

pub use change::{AddrGenMode, LinkChange};

/// `RTEXT_FILTER_SKIP_STATS`: the counters are a third of each answer, and nobody here reads them.
const SKIP_STATISTICS: u32 = 1 << 3;
/// Bytes of `struct ifinfomsg`.
pub(crate) const INFO: usize = 16;

/// A network interface as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Number of the interface, unique in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Hardware address, if it has one of six bytes.
    pub mac: Option<MacAddress>,
    /// Largest packet in bytes, without the link header.
    pub mtu: u32,
    /// `IFF_` flags (`if.h`).
    pub flags: u32,
    /// Driver (`veth`, `bridge`, `vxlan`, ...); absent for physical devices.
    pub kind: Option<String>,
    /// The other end of a pair or the device below, as an index in the namespace of `peer_namespace`.
    pub peer_index: Option<u32>,
    /// This namespace's number for the peer's namespace, if that is another one.
    pub peer_namespace: Option<i32>,
    /// The bridge or other device it belongs to.
    pub controller: Option<u32>,
    /// The free text stored with it.
    pub alias: Option<String>,
    /// Transmit queues.
    pub transmit_queues: u32,
    /// Receive queues.
    pub receive_queues: u32,
}

impl Link {
    /// Administratively up.
    pub fn is_up(&self) -> bool {
        self.has_flag(libc::IFF_UP)
    }

    /// Up, with a carrier.
    pub fn is_running(&self) -> bool {
        self.has_flag(libc::IFF_RUNNING)
    }

    /// The loopback device.
    pub fn is_loopback(&self) -> bool {
        self.has_flag(libc::IFF_LOOPBACK)
    }

    fn has_flag(&self, flag: i32) -> bool {
        self.flags & flag.cast_unsigned() != 0
    }
}

/// A link, found by its index; where the name is known too, errors show it.
#[derive(Debug, Clone, Copy)]
pub struct LinkId<'a> {
    index: u32,
    name: Option<&'a str>,
}

impl<'a> LinkId<'a> {
    /// A link whose name is known as well.
    pub fn named(index: u32, name: &'a str) -> Self {
        Self {
            index,
            name: Some(name),
        }
    }

    /// Its index.
    pub fn index(self) -> u32 {
        self.index
    }
}

impl From<u32> for LinkId<'_> {
    fn from(index: u32) -> Self {
        Self { index, name: None }
    }
}

impl<'a> From<&'a Link> for LinkId<'a> {
    fn from(link: &'a Link) -> Self {
        Self::named(link.index, &link.name)
    }
}

impl fmt::Display for LinkId<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "index {}", self.index),
        }
    }
}

impl Netlink {
    /// The link of this name; `None` if there is none.
    pub fn link_by_name(&mut self, name: &str) -> Result<Option<Link>> {
        self.find_link_as(0, Some(name), parse_link)
    }

    /// The link of this index; `None` if there is none.
    pub fn link_by_index(&mut self, index: u32) -> Result<Option<Link>> {
        self.find_link_as(index, None, parse_link)
    }

    /// All links of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let mut message = Message::new(libc::RTM_GETLINK, 0).fixed(&[0; INFO]);
        message.number(libc::IFLA_EXT_MASK, SKIP_STATISTICS);
        self.dump(message, "list links", |links: &mut Vec<Link>, received| {
            links.extend(parse_link(received));
        })
    }

    /// A link by index or name, as `parse` reads it.
    pub(crate) fn find_link_as<T>(
        &mut self,
        index: u32,
        name: Option<&str>,
        parse: impl FnOnce(&Received<'_>) -> Option<T>,
    ) -> Result<Option<T>> {
        let operation = match name {
            Some(name) => format!("look up link {name}"),
            None => format!("look up link index {index}"),
        };
        let mut message = Message::new(libc::RTM_GETLINK, 0).fixed(&info(index, 0, 0));
        if let Some(name) = name {
            message.text(libc::IFLA_IFNAME, name);
        }
        message.number(libc::IFLA_EXT_MASK, SKIP_STATISTICS);
        match self.query(&mut message, &operation, parse) {
            Ok(link) => Ok(Some(link)),
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// `struct ifinfomsg`.
pub(crate) fn info(index: u32, flags: u32, mask: u32) -> [u8; INFO] {
    let mut bytes = [0; INFO];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&mask.to_ne_bytes());
    bytes
}

/// The link of an `RTM_NEWLINK` or `RTM_DELLINK` message.
pub(crate) fn parse_link(received: &Received<'_>) -> Option<Link> {
    if !matches!(received.kind, libc::RTM_NEWLINK | libc::RTM_DELLINK) {
        return None;
    }
    let (info, attributes) = received.body.split_at_checked(INFO)?;
    let mut link = Link {
        index: read_u32(&info[4..])?,
        name: String::new(),
        mac: None,
        mtu: 0,
        flags: read_u32(&info[8..])?,
        kind: None,
        peer_index: None,
        peer_namespace: None,
        controller: None,
        alias: None,
        transmit_queues: 1,
        receive_queues: 1,
    };
    for (kind, payload) in Attributes(attributes) {
        match kind {
            libc::IFLA_IFNAME => link.name = read_text(payload),
            libc::IFLA_ADDRESS => link.mac = payload.try_into().ok().map(MacAddress),
            libc::IFLA_MTU => link.mtu = read_u32(payload)?,
            libc::IFLA_LINK => link.peer_index = read_u32(payload),
            libc::IFLA_LINK_NETNSID => link.peer_namespace = read_i32(payload),
            libc::IFLA_MASTER => link.controller = read_u32(payload),
            libc::IFLA_IFALIAS => link.alias = Some(read_text(payload)),
            libc::IFLA_NUM_TX_QUEUES => link.transmit_queues = read_u32(payload)?,
            libc::IFLA_NUM_RX_QUEUES => link.receive_queues = read_u32(payload)?,
            libc::IFLA_LINKINFO => {
                let mut inner = Attributes(payload);
                link.kind = inner
                    .find(|(kind, _)| *kind == libc::IFLA_INFO_KIND)
                    .map(|(_, text)| read_text(text));
            }
            _ => {}
        }
    }
    Some(link)
}
