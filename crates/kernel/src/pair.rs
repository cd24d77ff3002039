// SPDX-License-Identifier: Apache-2.0
//! Pairs of connected links, veth or netkit: both ends made in one request, each in its own namespace.
//!
//! Setting the host end's MAC address in the request that creates it marks it as assigned by the user, which keeps
//! udev's MACAddressPolicy from replacing it.

use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::error::{Error, Result};
use crate::link::{Link, info, parse_link};
use crate::mac::MacAddress;
use crate::request::Request;
use crate::socket::Netlink;
use crate::wire::Message;

/// `VETH_INFO_PEER` and `IFLA_NETKIT_PEER_INFO` share their number.
const PEER: u16 = 1;
/// `IFLA_NETKIT_MODE`, with `NETKIT_L2`: frames with Ethernet headers, so that neighbours work as on a veth.
const NETKIT_MODE: u16 = 5;
const NETKIT_L2: u32 = 0;

/// Driver of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairKind {
    /// Virtual Ethernet; every supported kernel.
    Veth,
    /// netkit in L2 mode, this end primary, both ends forwarding; kernel 6.7 and later. `Error::is_unsupported` tells
    /// a kernel without it, and one that lets no MAC be chosen.
    Netkit,
}

impl fmt::Display for PairKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Veth => "veth",
            Self::Netkit => "netkit",
        })
    }
}

/// A pair to be created: this end in the socket's namespace, the peer where it says.
#[derive(Debug, Clone, Copy)]
pub struct PairSpec<'a> {
    /// Driver.
    pub kind: PairKind,
    /// Name of this end; at most 15 bytes.
    pub name: &'a str,
    /// MAC address of this end; the kernel's choice if absent.
    pub mac: Option<MacAddress>,
    /// Largest packet of both ends in bytes; 1500 if absent.
    pub mtu: Option<u32>,
    /// Transmit and receive queues of both ends; one each if absent.
    pub queues: Option<u32>,
    /// The other end.
    pub peer: PeerSpec<'a>,
}

/// The far end of a pair.
#[derive(Debug, Clone, Copy)]
pub struct PeerSpec<'a> {
    /// Its name in its namespace.
    pub name: &'a str,
    /// Its namespace; the socket's own if absent.
    pub namespace: Option<BorrowedFd<'a>>,
    /// Its MAC address; the kernel's choice if absent.
    pub mac: Option<MacAddress>,
}

impl Request {
    /// Creates a pair; both ends are down.
    pub fn create_pair(spec: &PairSpec<'_>) -> Self {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let mut message = Message::new(libc::RTM_NEWLINK, flags).fixed(&info(0, 0, 0));
        end(&mut message, spec, spec.name, spec.mac);
        message.nested(libc::IFLA_LINKINFO, |message| {
            message.text(
                libc::IFLA_INFO_KIND,
                match spec.kind {
                    PairKind::Veth => "veth",
                    PairKind::Netkit => "netkit",
                },
            );
            message.nested(libc::IFLA_INFO_DATA, |message| {
                if spec.kind == PairKind::Netkit {
                    message.number(NETKIT_MODE, NETKIT_L2);
                }
                message.nested(PEER, |message| {
                    message.inner_fixed(&info(0, 0, 0));
                    end(message, spec, spec.peer.name, spec.peer.mac);
                    if let Some(namespace) = spec.peer.namespace {
                        message.number(libc::IFLA_NET_NS_FD, namespace.as_raw_fd().cast_unsigned());
                    }
                });
            });
        });
        Self::new(
            message,
            format!("create {} {} with peer {}", spec.kind, spec.name, spec.peer.name),
        )
    }
}

impl Netlink {
    /// Creates a pair and returns this end; `peer_index` is the other end's index in its own namespace.
    pub fn create_pair(&mut self, spec: &PairSpec<'_>) -> Result<Link> {
        let Request {
            mut message,
            operation,
        } = Request::create_pair(spec);
        message.add_flags(libc::NLM_F_ACK | libc::NLM_F_ECHO);
        let mut created = None;
        self.ask(&mut message, &operation, |received| {
            created = parse_link(received)
                .filter(|link| link.name == spec.name)
                .or(created.take());
        })?;
        match created {
            Some(link) => Ok(link),
            // Kernels before 6.2 do not echo new links.
            None => self
                .link_by_name(spec.name)?
                .ok_or_else(|| Error::unusable(operation, "the new link is gone already")),
        }
    }
}

fn end(message: &mut Message, spec: &PairSpec<'_>, name: &str, mac: Option<MacAddress>) {
    message.text(libc::IFLA_IFNAME, name);
    if let Some(mac) = mac {
        message.attribute(libc::IFLA_ADDRESS, &mac.0);
    }
    if let Some(mtu) = spec.mtu {
        message.number(libc::IFLA_MTU, mtu);
    }
    if let Some(queues) = spec.queues {
        message.number(libc::IFLA_NUM_TX_QUEUES, queues);
        message.number(libc::IFLA_NUM_RX_QUEUES, queues);
    }
}
