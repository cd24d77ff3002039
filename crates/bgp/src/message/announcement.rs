// SPDX-License-Identifier: Apache-2.0
//! Routes as an UPDATE groups them: by next hop.

use std::net::{IpAddr, Ipv6Addr};

use crate::family::Nlri;

/// Routes with one next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Where to send.
    pub next_hop: NextHop,
    /// What for.
    pub nlri: Vec<Nlri>,
}

/// A next hop as announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NextHop {
    /// The address; for IPv6 the global one.
    pub address: IpAddr,
    /// The link-local address that came with a global IPv6 one (RFC 2545 3).
    pub link_local: Option<Ipv6Addr>,
}

impl From<IpAddr> for NextHop {
    fn from(address: IpAddr) -> Self {
        Self {
            address,
            link_local: None,
        }
    }
}
