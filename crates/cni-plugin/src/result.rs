// SPDX-License-Identifier: Apache-2.0
//! The result of ADD: one internal form, shaped like version 1.1.0 (specification, section "Success"). Its JSON in
//! every version is in `read` and `write`; between versions it is converted as the reference library does.

mod read;
mod write;

use std::net::IpAddr;

use ipnet::IpNet;

/// What ADD made, or what an earlier plugin of the chain did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddResult {
    /// Interfaces on both sides.
    pub interfaces: Vec<Interface>,
    /// Addresses.
    pub ips: Vec<IpConfig>,
    /// Routes inside the container.
    pub routes: Vec<Route>,
    /// Name resolution.
    pub dns: Dns,
}

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its MAC address; empty if unknown.
    pub mac: String,
    /// Its MTU; 0 if unknown. From 1.1.0.
    pub mtu: u32,
    /// Path of the container's network namespace; empty on the host's side.
    pub sandbox: String,
    /// Path of a socket that stands for the interface. From 1.1.0.
    pub socket_path: String,
    /// PCI device behind it. From 1.1.0.
    pub pci_id: String,
}

/// One address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpConfig {
    /// Index into `interfaces`; `None` if unknown, as in IPAM results.
    pub interface: Option<usize>,
    /// The address with its mask; host bits are kept.
    pub address: IpNet,
    /// Gateway.
    pub gateway: Option<IpAddr>,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub dst: IpNet,
    /// Gateway.
    pub gw: Option<IpAddr>,
    /// MTU along the route; 0 if unset. From 1.1.0.
    pub mtu: u32,
    /// TCP MSS along the route; 0 if unset. From 1.1.0.
    pub advmss: u32,
    /// Metric; 0 if unset. From 1.1.0.
    pub priority: u32,
    /// Table. From 1.1.0.
    pub table: Option<u32>,
    /// Scope. From 1.1.0.
    pub scope: Option<u32>,
}

impl Route {
    /// A plain route.
    pub fn new(dst: IpNet, gw: Option<IpAddr>) -> Self {
        Self {
            dst,
            gw,
            mtu: 0,
            advmss: 0,
            priority: 0,
            table: None,
            scope: None,
        }
    }
}

/// Name resolution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Servers.
    pub nameservers: Vec<String>,
    /// Local domain.
    pub domain: String,
    /// Search list.
    pub search: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

impl Dns {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
