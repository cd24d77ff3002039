// SPDX-License-Identifier: Apache-2.0
//! Which prefixes no block may overlap that is claimed now: the networks of this host, and the addresses of every
//! registered node (`DESIGN.md` 3). Computed only when a block is about to be claimed or borrowed from.

use std::{cell::OnceCell, net::IpAddr};

use ipnet::IpNet;
use model::{KeyRange, Kind, Node, node::NodeSpec, prefix};

use crate::{error::AccessError, host_network::Occupied, operation::Operation};

/// The prefixes, read when first needed.
pub(crate) struct Exclusions<'o, 'a> {
    operation: &'o Operation<'a>,
    node: &'o str,
    occupied: OnceCell<Vec<Occupied>>,
}

impl<'o, 'a> Exclusions<'o, 'a> {
    /// For claims by `node`. Its own tunnel addresses are left out: they come from its own blocks, one of which may
    /// have to be created again.
    pub(crate) fn new(operation: &'o Operation<'a>, node: &'o str) -> Self {
        Self {
            operation,
            node,
            occupied: OnceCell::new(),
        }
    }

    /// The first prefix that a block overlaps.
    pub(crate) fn collision(&self, block: &IpNet) -> Result<Option<&Occupied>, AccessError> {
        if self.occupied.get().is_none() {
            let occupied = self.read()?;
            self.occupied.get_or_init(|| occupied);
        }
        Ok(self
            .occupied
            .get()
            .and_then(|all| all.iter().find(|found| prefix::overlaps(&found.prefix, block))))
    }

    fn read(&self) -> Result<Vec<Occupied>, AccessError> {
        let operation = self.operation;
        let mut occupied = operation.engine.host.occupied()?;
        for entry in operation.engine.store.list(&KeyRange::Kind(Kind::Node))?.entries {
            let read = entry.decode::<Node>().map_err(|error| AccessError::Damaged {
                defect: error.source.to_string(),
                key: error.key,
            });
            let Some(found) = operation.unless_damaged(read)? else {
                continue;
            };
            let name = &found.metadata.name;
            occupied.extend(found.spec.host_addresses().map(|address| Occupied {
                prefix: address.into(),
                what: format!("address of node {name}"),
            }));
            if name != self.node {
                occupied.extend(tunnel_addresses(&found.spec).map(|address| Occupied {
                    prefix: address.into(),
                    what: format!("tunnel address of node {name}"),
                }));
            }
        }
        Ok(occupied)
    }
}

/// The addresses of a node's tunnel devices.
fn tunnel_addresses(spec: &NodeSpec) -> impl Iterator<Item = IpAddr> {
    let ipip = spec.bgp.as_ref().and_then(|bgp| bgp.ipv4_ipip_tunnel_addr);
    let wireguard = spec.wireguard.iter();
    let wireguard =
        wireguard.flat_map(|device| [device.interface_ipv4_address, device.interface_ipv6_address]);
    let vxlan = [spec.ipv4_vxlan_tunnel_addr, spec.ipv6_vxlan_tunnel_addr];
    vxlan.into_iter().chain([ipip]).chain(wireguard).flatten()
}
