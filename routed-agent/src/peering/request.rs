// SPDX-License-Identifier: Apache-2.0
//! BGPPeers as read: who has the session, and with whom.

use std::net::IpAddr;

use model::{AsNumber, BgpPeer, FieldError, Selector, bgp_peer::ReversePeering};

use super::{
    Input, Warnings,
    cluster::{Cluster, Member, is_peerable},
};

/// A BGPPeer.
pub(super) struct Request<'a> {
    /// The BGPPeer itself.
    pub(super) peer: &'a BgpPeer,
    /// `BGPPeer` and its name.
    pub(super) object: String,
    /// Who has the session.
    pub(super) side: Side<'a>,
    /// With whom.
    pub(super) target: Target,
}

/// Which nodes have a session.
#[derive(Debug)]
pub(super) enum Side<'a> {
    /// All.
    All,
    /// One, by name.
    Node(&'a str),
    /// Some.
    Selected(Selector),
}

/// With whom.
#[derive(Debug)]
pub(super) enum Target {
    /// Whoever has this address, on this port if one is given.
    Address(IpAddr, Option<u16>),
    /// Nodes.
    Nodes(Selector),
    /// Workloads of the node itself.
    LocalWorkloads(Selector),
}

impl<'a> Request<'a> {
    /// All BGPPeers that can be read, by name.
    pub(super) fn all(input: &Input<'a>, warnings: &mut Warnings) -> Vec<Self> {
        let mut peers = input.peers.to_vec();
        peers.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        let read = |peer: &'a BgpPeer| {
            let object = format!("BGPPeer {}", peer.metadata.name);
            match Self::read(peer, &object) {
                Ok(request) => Some(request),
                Err(problem) => {
                    warnings.add(&object, &problem);
                    None
                }
            }
        };
        peers.into_iter().filter_map(read).collect()
    }

    /// Fields that exclude each other are looked at in Calico's order, in case admission let both pass.
    fn read(peer: &'a BgpPeer, object: &str) -> Result<Self, FieldError> {
        let spec = &peer.spec;
        let side = if !spec.node_selector.is_empty() {
            Side::Selected(selector("nodeSelector", &spec.node_selector)?)
        } else if spec.node.is_empty() {
            Side::All
        } else {
            Side::Node(&spec.node)
        };
        let target = if !spec.local_workload_selector.is_empty() {
            Target::LocalWorkloads(selector("localWorkloadSelector", &spec.local_workload_selector)?)
        } else if spec.peer_selector.is_empty() {
            let (address, port) = address(peer)?;
            Target::Address(address, port)
        } else {
            Target::Nodes(selector("peerSelector", &spec.peer_selector)?)
        };
        Ok(Self {
            peer,
            object: object.to_owned(),
            side,
            target,
        })
    }

    /// Whether a node has the session.
    pub(super) fn has(&self, member: &Member<'_>) -> bool {
        match &self.side {
            Side::All => true,
            Side::Node(name) => member.name == *name,
            Side::Selected(selector) => member.matches(selector),
        }
    }

    /// Whether the nodes it selects get the session from their side.
    pub(super) fn is_mirrored(&self) -> bool {
        self.peer.spec.reverse_peering != Some(ReversePeering::Manual)
    }

    /// The peer's AS number; `None` if there is none.
    pub(super) fn as_number(&self) -> Option<u32> {
        number(self.peer.spec.as_number)
    }

    /// Our AS number towards the peer; `None`: the node's.
    pub(super) fn local_as_number(&self) -> Option<u32> {
        number(self.peer.spec.local_as_number)
    }

    /// Whether a node is what an address, AS number and port mean. No AS number means the global one. A port counts
    /// where the node's is known: its own, or else the one for all.
    pub(super) fn means(
        &self,
        cluster: &Cluster<'_>,
        member: &Member<'_>,
        address: IpAddr,
        port: Option<u16>,
    ) -> bool {
        let as_number = self.as_number().unwrap_or(cluster.global_as());
        let same_port = match (port, member.listen_port) {
            (Some(wanted), Some(listening)) => wanted == listening,
            _ => true,
        };
        member.has_address(address) && member.as_number == Some(as_number) && same_port
    }
}

/// 0 stands for none.
fn number(stored: Option<AsNumber>) -> Option<u32> {
    stored.map(|number| number.0).filter(|number| *number != 0)
}

fn selector(field: &str, text: &str) -> Result<Selector, FieldError> {
    text.parse::<Selector>().map_err(|error| {
        FieldError::new(
            field,
            text,
            format!(
                "is not a selector: {} (at character {})",
                error.problem, error.position
            ),
            "write for example all() or has(rack)",
        )
    })
}

/// `peerIP`, and whether the rest of the object goes with it.
fn address(peer: &BgpPeer) -> Result<(IpAddr, Option<u16>), FieldError> {
    let Some(stored) = peer.spec.peer_ip else {
        return Err(FieldError::new(
            "peerIP",
            "",
            "is missing, and so are peerSelector and localWorkloadSelector",
            "set one of the three",
        ));
    };
    let address = stored.address.to_canonical();
    if !is_peerable(address) {
        return Err(FieldError::new(
            "peerIP",
            stored.to_string(),
            "is not an address of a host",
            "write for example 192.0.2.1, 192.0.2.1:1790 or [2001:db8::1]:1790",
        ));
    }
    match peer.spec.reachable_by.map(|gateway| gateway.to_canonical()) {
        Some(gateway) if gateway.is_ipv4() != address.is_ipv4() => Err(FieldError::new(
            "reachableBy",
            gateway.to_string(),
            "is not of peerIP's IP version",
            "set both of one IP version, or remove reachableBy",
        )),
        _ => Ok((address, stored.port)),
    }
}
