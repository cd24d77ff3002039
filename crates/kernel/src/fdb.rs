// SPDX-License-Identifier: Apache-2.0
//! Forwarding entries of a vxlan device: behind which remote host a MAC address is (`bridge fdb ... self`).

use std::net::IpAddr;

use crate::error::Result;
use crate::link::LinkId;
use crate::mac::MacAddress;
use crate::neighbour::{ADDRESS, INFO, MAC, info};
use crate::request::Request;
use crate::socket::Netlink;
use crate::wire::{Attributes, Message, Received, read_address, read_u16, read_u32};

/// `AF_BRIDGE`, as one byte.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the kernel keeps address families in one byte"
)]
const BRIDGE: u8 = libc::AF_BRIDGE as u8;
/// Where `struct ndmsg` has its flags.
const FLAGS: usize = 10;

/// The MAC address that stands for all that has no entry, and for broadcast and multicast.
pub const DEFAULT_MAC: MacAddress = MacAddress([0; 6]);

/// A forwarding entry as the kernel reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardingEntry {
    /// Index of the vxlan link.
    pub interface: u32,
    /// Inner destination.
    pub mac: MacAddress,
    /// Outer destination: the remote host.
    pub remote: IpAddr,
    /// States (`NUD_`).
    pub state: u16,
}

impl ForwardingEntry {
    /// Stays until removed; others were learned and age.
    pub fn is_permanent(&self) -> bool {
        self.state & libc::NUD_PERMANENT != 0
    }
}

impl Request {
    /// Sends what is for `mac` to `remote`, permanently and in place of where it went before.
    pub fn replace_forwarding<'a>(link: impl Into<LinkId<'a>>, mac: MacAddress, remote: IpAddr) -> Self {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        permanent("replace", flags, link.into(), mac, remote)
    }

    /// Sends what is for `mac` to one more remote, permanently: for [`DEFAULT_MAC`] and multicast addresses only, since
    /// other addresses have one remote (the kernel ignores a second).
    pub fn append_forwarding<'a>(link: impl Into<LinkId<'a>>, mac: MacAddress, remote: IpAddr) -> Self {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_APPEND;
        permanent("append", flags, link.into(), mac, remote)
    }

    /// Removes one remote of `mac`; ENOENT if `mac` has none. The kernel says yes and does nothing where it has others only.
    pub fn delete_forwarding<'a>(link: impl Into<LinkId<'a>>, mac: MacAddress, remote: IpAddr) -> Self {
        let link = link.into();
        let message = entry(libc::RTM_DELNEIGH, 0, link, mac, remote);
        Self::new(
            message,
            format!("delete forwarding of {mac} to {remote} dev {link}"),
        )
    }
}

impl Netlink {
    /// See [`Request::replace_forwarding`].
    pub fn replace_forwarding<'a>(
        &mut self,
        link: impl Into<LinkId<'a>>,
        mac: MacAddress,
        remote: IpAddr,
    ) -> Result<()> {
        self.execute(Request::replace_forwarding(link, mac, remote))
    }

    /// See [`Request::append_forwarding`].
    pub fn append_forwarding<'a>(
        &mut self,
        link: impl Into<LinkId<'a>>,
        mac: MacAddress,
        remote: IpAddr,
    ) -> Result<()> {
        self.execute(Request::append_forwarding(link, mac, remote))
    }

    /// See [`Request::delete_forwarding`]. Whether `mac` had any remote.
    pub fn delete_forwarding<'a>(
        &mut self,
        link: impl Into<LinkId<'a>>,
        mac: MacAddress,
        remote: IpAddr,
    ) -> Result<bool> {
        match self.execute(Request::delete_forwarding(link, mac, remote)) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The entries of a vxlan link (by index) that lead to a remote, learned ones included; none if there is no such
    /// link.
    pub fn forwarding(&mut self, interface: u32) -> Result<Vec<ForwardingEntry>> {
        let mut info = info(0, 0, 0);
        info[0] = BRIDGE;
        let mut message = Message::new(libc::RTM_GETNEIGH, 0).fixed(&info);
        message.number(libc::NDA_IFINDEX, interface);
        let listing = self.dump(
            message,
            "list forwarding entries",
            |entries: &mut Vec<ForwardingEntry>, received| {
                entries.extend(parse_forwarding(received).filter(|entry| entry.interface == interface));
            },
        );
        match listing {
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(Vec::new()),
            other => other,
        }
    }
}

fn permanent(verb: &str, flags: i32, link: LinkId<'_>, mac: MacAddress, remote: IpAddr) -> Request {
    Request::new(
        entry(libc::RTM_NEWNEIGH, flags, link, mac, remote),
        format!("{verb} forwarding of {mac} to {remote} dev {link}"),
    )
}

fn entry(kind: u16, flags: i32, link: LinkId<'_>, mac: MacAddress, remote: IpAddr) -> Message {
    let mut info = info(0, link.index(), libc::NUD_PERMANENT | libc::NUD_NOARP);
    info[0] = BRIDGE;
    info[FLAGS] = libc::NTF_SELF;
    let mut message = Message::new(kind, flags).fixed(&info);
    message.attribute(MAC, &mac.0);
    message.address(ADDRESS, remote);
    message
}

/// The entry of an `RTM_NEWNEIGH` or `RTM_DELNEIGH` message; those without a remote (the device's own multicast
/// addresses, ports of a bridge) are none.
pub(crate) fn parse_forwarding(received: &Received<'_>) -> Option<ForwardingEntry> {
    if !matches!(received.kind, libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH) {
        return None;
    }
    let (info, attributes) = received.body.split_at_checked(INFO)?;
    if info[0] != BRIDGE {
        return None;
    }
    let (mut remote, mut mac) = (None, None);
    for (kind, payload) in Attributes(attributes) {
        match kind {
            ADDRESS => remote = read_address(payload),
            MAC => mac = payload.try_into().ok().map(MacAddress),
            _ => {}
        }
    }
    Some(ForwardingEntry {
        interface: read_u32(&info[4..])?,
        mac: mac?,
        remote: remote?,
        state: read_u16(&info[8..])?,
    })
}
