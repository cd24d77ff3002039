// SPDX-License-Identifier: Apache-2.0
//! IP addresses of links.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::Result;
use crate::link::LinkId;
use crate::request::Request;
use crate::socket::Netlink;
use crate::wire::{Attributes, Message, Received, family, read_address, read_u32};

/// `IFA_FLAGS`: the 32-bit form of the flags.
const ATTRIBUTE_FLAGS: u16 = 8;
/// `IFA_TARGET_NETNSID`: the namespace to list, by number.
const TARGET_NAMESPACE: u16 = 10;
/// Bytes of `struct ifaddrmsg`.
const INFO: usize = 8;

/// Flags of an address (`IFA_F_`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AddressFlags(pub u32);

impl AddressFlags {
    /// IPv6: usable at once, without duplicate address detection.
    pub const NO_DAD: Self = Self(libc::IFA_F_NODAD);

    /// IPv6: duplicate address detection has not ended.
    pub fn is_tentative(self) -> bool {
        self.0 & libc::IFA_F_TENTATIVE != 0
    }

    /// Stays until removed: neither expires nor was learned.
    pub fn is_permanent(self) -> bool {
        self.0 & libc::IFA_F_PERMANENT != 0
    }
}

/// An address as the kernel reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Index of its link.
    pub interface: u32,
    /// The address itself, with the length of its on-link prefix.
    pub prefix: IpNet,
    /// Flags.
    pub flags: AddressFlags,
    /// Scope (`RT_SCOPE_`): 0 global, 253 link, 254 host.
    pub scope: u8,
}

impl Address {
    /// The address without its prefix length.
    pub fn ip(&self) -> IpAddr {
        self.prefix.addr()
    }
}

impl Request {
    /// Adds an address to a link; fails with EEXIST if it is there. IPv4 gets no broadcast address.
    pub fn add_address<'a>(link: impl Into<LinkId<'a>>, prefix: IpNet, flags: AddressFlags) -> Self {
        let link = link.into();
        let create = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let mut message = address_message(libc::RTM_NEWADDR, create, link, prefix);
        if flags != AddressFlags::default() {
            message.number(ATTRIBUTE_FLAGS, flags.0);
        }
        Self::new(message, format!("add address {prefix} dev {link}"))
    }

    /// Removes an address from a link.
    pub fn delete_address<'a>(link: impl Into<LinkId<'a>>, prefix: IpNet) -> Self {
        let link = link.into();
        let message = address_message(libc::RTM_DELADDR, 0, link, prefix);
        Self::new(message, format!("delete address {prefix} dev {link}"))
    }
}

impl Netlink {
    /// See [`Request::add_address`].
    pub fn add_address<'a>(
        &mut self,
        link: impl Into<LinkId<'a>>,
        prefix: IpNet,
        flags: AddressFlags,
    ) -> Result<()> {
        self.execute(Request::add_address(link, prefix, flags))
    }

    /// See [`Request::delete_address`].
    pub fn delete_address<'a>(&mut self, link: impl Into<LinkId<'a>>, prefix: IpNet) -> Result<()> {
        self.execute(Request::delete_address(link, prefix))
    }

    /// The addresses of both families, of one link or of all.
    pub fn addresses(&mut self, interface: Option<u32>) -> Result<Vec<Address>> {
        let mut info = [0; INFO];
        info[4..8].copy_from_slice(&interface.unwrap_or(0).to_ne_bytes());
        let message = Message::new(libc::RTM_GETADDR, 0).fixed(&info);
        let listing = self.dump(
            message,
            "list addresses",
            |addresses: &mut Vec<Address>, received| {
                addresses.extend(
                    parse_address(received).filter(|a| interface.is_none_or(|index| a.interface == index)),
                );
            },
        );
        match listing {
            // Strict checking looks the link up first; a link that is gone has no addresses.
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(Vec::new()),
            other => other,
        }
    }

    /// The addresses of another namespace, by this one's number for it (`Link::peer_namespace`): what the far end of
    /// a pair holds, without entering its namespace. EINVAL if there is no such number.
    pub fn addresses_in(&mut self, namespace: i32) -> Result<Vec<Address>> {
        let mut message = Message::new(libc::RTM_GETADDR, 0).fixed(&[0; INFO]);
        message.number(TARGET_NAMESPACE, namespace.cast_unsigned());
        let operation = format!("list addresses in namespace number {namespace}");
        self.dump(message, &operation, |addresses: &mut Vec<Address>, received| {
            addresses.extend(parse_address(received));
        })
    }
}

fn address_message(kind: u16, flags: i32, link: LinkId<'_>, prefix: IpNet) -> Message {
    let mut info = [0; INFO];
    info[0] = family(prefix.addr());
    info[1] = prefix.prefix_len();
    info[4..8].copy_from_slice(&link.index().to_ne_bytes());
    let mut message = Message::new(kind, flags).fixed(&info);
    message.address(libc::IFA_LOCAL, prefix.addr());
    message.address(libc::IFA_ADDRESS, prefix.addr());
    message
}

/// The address of an `RTM_NEWADDR` or `RTM_DELADDR` message.
pub(crate) fn parse_address(received: &Received<'_>) -> Option<Address> {
    if !matches!(received.kind, libc::RTM_NEWADDR | libc::RTM_DELADDR) {
        return None;
    }
    let (info, attributes) = received.body.split_at_checked(INFO)?;
    let mut flags = u32::from(info[2]);
    let (mut local, mut address) = (None, None);
    for (kind, payload) in Attributes(attributes) {
        match kind {
            libc::IFA_LOCAL => local = read_address(payload),
            libc::IFA_ADDRESS => address = read_address(payload),
            ATTRIBUTE_FLAGS => flags = read_u32(payload)?,
            _ => {}
        }
    }
    Some(Address {
        interface: read_u32(&info[4..])?,
        // On a point-to-point link `IFA_ADDRESS` is the other end's.
        prefix: IpNet::new(local.or(address)?, info[1]).ok()?,
        flags: AddressFlags(flags),
        scope: info[3],
    })
}
