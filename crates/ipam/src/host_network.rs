// SPDX-License-Identifier: Apache-2.0
//! What the engine asks about the host's own network. Programs answer over the kernel, tests make the answers up.
//!
//! Two rules rest on it. A block that overlaps a network of this host, or an address of a registered node, is never
//! claimed: its blackhole would cut the host off. An address that is in use here although the store says it is free
//! is never assigned: the store has been lost, restored or edited, and a container holds the address.

use std::net::IpAddr;

use ipnet::IpNet;

/// The host's own network, as far as assigning addresses has to respect it.
pub trait HostNetwork {
    /// Every prefix that no claimed block may overlap: own addresses, on-link prefixes, gateways, nameservers.
    /// Devices that carry pool addresses (`cali*`, tunnel devices) are to be left out. Asked at most once for an
    /// operation, and only when a block is about to be claimed.
    fn occupied(&self) -> Result<Vec<Occupied>, HostNetworkError>;

    /// What on this host has a route to just this address, or the address itself: for people. Asked for each address
    /// about to be assigned.
    fn in_use(&self, address: IpAddr) -> Result<Option<String>, HostNetworkError>;
}

/// One prefix that is taken, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupied {
    /// The prefix.
    pub prefix: IpNet,
    /// For people, for example `on-link prefix of eth0` or `nameserver`.
    pub what: String,
}

/// The host's network could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read this host's network: {reason}")]
pub struct HostNetworkError {
    /// What failed.
    pub reason: String,
}

/// A host without any network of its own: for tools that only release, and for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHostNetwork;

impl HostNetwork for NoHostNetwork {
    fn occupied(&self) -> Result<Vec<Occupied>, HostNetworkError> {
        Ok(Vec::new())
    }

    fn in_use(&self, _: IpAddr) -> Result<Option<String>, HostNetworkError> {
        Ok(None)
    }
}
