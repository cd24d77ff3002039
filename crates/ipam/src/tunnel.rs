// SPDX-License-Identifier: Apache-2.0
//! The addresses that a node takes out of pools for its own tunnel devices, by the rules of Calico's tunnel address
//! allocator: which pools count, which handle and attributes, and what to do about the address recorded so far.
//! The caller records the result in its Node resource, in the same batch through `companions`.

use std::{collections::BTreeMap, net::IpAddr};

use model::{
    IpPool, Node,
    ip_pool::{AllowedUse, EncapsulationMode},
    names::TunnelKind,
};

use crate::{
    engine::Engine,
    error::{AccessError, AssignError, AssignSpecificError},
    family::Family,
    operation::Operation,
    pool_selection::selects_node,
    release_by_handle::HandleSearch,
    request::{
        Allocation, AssignCompanions, AssignRequest, Assigned, PoolReference, ReleaseOption, SpecificRequest,
    },
};

/// A node's wish for the address of one tunnel device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelRequest {
    /// The Calico node name.
    pub node: String,
    /// Which device.
    pub kind: TunnelKind,
    /// The address that the Node resource has for it.
    pub recorded: Option<IpAddr>,
    /// For the journal.
    pub cause: String,
}

/// What became of a tunnel address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TunnelOutcome {
    /// The recorded address is right.
    Kept(IpAddr),
    /// A new address; `companions` were committed with it.
    Assigned(Assigned),
    /// No pool wants this device: nothing is allocated for it any more, and the record is to be cleared.
    NotWanted,
}

impl Engine<'_> {
    /// Sees to it that the node has an address for a tunnel device exactly if a pool wants that device.
    pub fn reconcile_tunnel_address(
        &self,
        request: &TunnelRequest,
        companions: &mut AssignCompanions<'_>,
    ) -> Result<TunnelOutcome, AssignError> {
        let operation = Operation::new(*self, &request.cause);
        let node = operation
            .node(&request.node)?
            .ok_or_else(|| AssignError::NodeUnknown {
                node: request.node.clone(),
            })?;
        let mut pools = Vec::new();
        for pool in operation.pools()? {
            if wants(pool, request.kind) && selects_node(pool, &node)? {
                pools.push(pool);
            }
        }
        let tunnel = Tunnel {
            engine: self,
            request,
            handle: request.kind.handle(&request.node),
            pools,
        };
        if tunnel.pools.is_empty() {
            tunnel.give_up()?;
            return Ok(TunnelOutcome::NotWanted);
        }
        let Some(recorded) = request.recorded else {
            tunnel.release_handle()?;
            return tunnel.assign(companions);
        };
        match self
            .allocation(recorded)?
            .filter(|allocation| !allocation.cooling)
        {
            Some(found) if tunnel.is_ours(&found) => {
                if tunnel.pools.iter().any(|pool| pool.spec.cidr.contains(&recorded)) {
                    return Ok(TunnelOutcome::Kept(recorded));
                }
                tunnel.release_handle()?;
                tunnel.assign(companions)
            }
            Some(found) if is_ancient(&found) => tunnel.take_again(&found, companions),
            // Somebody else has the address by now: leave it alone.
            Some(_) => tunnel.assign(companions),
            None => {
                tunnel.release_handle()?;
                tunnel.assign(companions)
            }
        }
    }
}

struct Tunnel<'t, 'a> {
    engine: &'t Engine<'a>,
    request: &'t TunnelRequest,
    handle: String,
    pools: Vec<&'t IpPool>,
}

impl Tunnel<'_, '_> {
    /// Exactly these two: Calico's garbage collection knows tunnel addresses by them.
    fn attributes(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("node".to_owned(), self.request.node.clone()),
            ("type".to_owned(), self.request.kind.attribute().to_owned()),
        ])
    }

    fn is_ours(&self, found: &Allocation) -> bool {
        let is = |key: &str, value: &str| found.attributes.get(key).is_some_and(|found| found == value);
        is("type", self.request.kind.attribute()) && is("node", &self.request.node)
    }

    fn assign(&self, companions: &mut AssignCompanions<'_>) -> Result<TunnelOutcome, AssignError> {
        let family = family(self.request.kind);
        let pools: Vec<PoolReference> = self
            .pools
            .iter()
            .map(|pool| PoolReference::Cidr(pool.spec.cidr))
            .collect();
        let request = AssignRequest {
            attributes: self.attributes(),
            v4: u32::from(family == Family::V4),
            v6: u32::from(family == Family::V6),
            pools_v4: if family == Family::V4 {
                pools.clone()
            } else {
                Vec::new()
            },
            pools_v6: if family == Family::V6 { pools } else { Vec::new() },
            intended_use: AllowedUse::Tunnel,
            ..AssignRequest::new(&self.request.node, &self.handle, &self.request.cause)
        };
        let assignment = self.engine.auto_assign(&request, companions)?;
        match assignment.addresses[..] {
            [assigned] => Ok(TunnelOutcome::Assigned(assigned)),
            _ => Err(AssignError::Short(assignment.shortfalls)),
        }
    }

    /// An allocation from before tunnel addresses had handles: taken over under the handle, or, if somebody is
    /// faster, replaced by a new one.
    fn take_again(
        &self,
        found: &Allocation,
        companions: &mut AssignCompanions<'_>,
    ) -> Result<TunnelOutcome, AssignError> {
        let address = found.assigned.address;
        let option = ReleaseOption {
            sequence: Some(found.assigned.sequence),
            ..ReleaseOption::unconditional(address)
        };
        self.engine
            .release_addresses(&[option], &self.request.cause, None)?;
        let request = SpecificRequest {
            node: self.request.node.clone(),
            handle: self.handle.clone(),
            attributes: self.attributes(),
            addresses: vec![address],
            intended_use: Some(AllowedUse::Tunnel),
            cause: self.request.cause.clone(),
        };
        match self.engine.assign_specific(&request, companions) {
            Ok(assigned) => match assigned[..] {
                [assigned] => Ok(TunnelOutcome::Assigned(assigned)),
                _ => self.assign(companions),
            },
            Err(AssignSpecificError::Access(error)) => Err(error.into()),
            Err(_) => self.assign(companions),
        }
    }

    fn release_handle(&self) -> Result<bool, AccessError> {
        let report = self.engine.release_by_handle(
            &self.handle,
            HandleSearch::Listed,
            &self.request.cause,
            &mut |_| Vec::new(),
        )?;
        Ok(report.handle_found)
    }

    /// Releases what the node has for a device that no pool wants: by handle, or an address from before handles.
    fn give_up(&self) -> Result<(), AccessError> {
        if self.release_handle()? {
            return Ok(());
        }
        let Some(recorded) = self.request.recorded else {
            return Ok(());
        };
        let Some(found) = self.engine.allocation(recorded)? else {
            return Ok(());
        };
        if is_ancient(&found) || found.handle.as_deref() == Some(&self.handle) {
            let option = ReleaseOption {
                address: recorded,
                handle: found.handle,
                sequence: Some(found.assigned.sequence),
            };
            self.engine
                .release_addresses(&[option], &self.request.cause, None)?;
        }
        Ok(())
    }
}

/// Neither handle nor attributes: written before tunnel addresses had them. A lease has attributes.
fn is_ancient(found: &Allocation) -> bool {
    found.handle.is_none() && found.attributes.is_empty() && !found.cooling
}

fn family(kind: TunnelKind) -> Family {
    match kind {
        TunnelKind::Ipip | TunnelKind::Vxlan | TunnelKind::Wireguard => Family::V4,
        TunnelKind::VxlanV6 | TunnelKind::WireguardV6 => Family::V6,
    }
}

/// Whether a pool gives addresses to a kind of tunnel device, its nodeSelector apart.
fn wants(pool: &IpPool, kind: TunnelKind) -> bool {
    let spec = &pool.spec;
    let mode = match kind {
        TunnelKind::Ipip => spec.ipip_mode != EncapsulationMode::Never,
        TunnelKind::Vxlan | TunnelKind::VxlanV6 => spec.vxlan_mode != EncapsulationMode::Never,
        TunnelKind::Wireguard | TunnelKind::WireguardV6 => true,
    };
    mode && Family::of(&spec.cidr) == family(kind) && pool.enabled() && spec.allows(AllowedUse::Tunnel)
}

/// Whether a node should have a tunnel address of this kind, as far as pools decide: for callers that have further
/// conditions, such as a WireGuard key.
pub fn pool_wants_tunnel(pool: &IpPool, kind: TunnelKind, node: &Node) -> bool {
    wants(pool, kind) && selects_node(pool, node).unwrap_or(false)
}
