// SPDX-License-Identifier: Apache-2.0
//! Sessions as they should be.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use bgp::{
    Family, PeerId,
    message::{
        Notification,
        notification::{cease, code},
    },
    speaker::OwnAddresses,
};
use model::{BgpConfiguration, bgp_configuration::BgpConfigurationSpec};

use super::{Core, SocketOrder, planning::own_blocks, secrets::Read};
use crate::{
    agent::peers::{self, Common, PolicyPair},
    configuration::{
        Origin,
        words::{Backend, ExternalExport},
    },
    export_policy::{self, Exports},
    journal::Change,
    peering::{self, DEFAULT_RESTART, Password, Peer, PeerKind},
};

impl Core {
    pub(in crate::agent) fn identifier(&self) -> Ipv4Addr {
        use crate::configuration::network_form::RouterId;
        let hash = || {
            use sha2::{Digest as _, Sha256};
            let digest = Sha256::digest(self.start.node.as_bytes());
            let mut octets = [0; 4];
            octets.copy_from_slice(&digest[..4]);
            if octets[0] > 223 {
                octets[0] -= 32;
            }
            Ipv4Addr::from(octets)
        };
        match &*self.configuration.router_id {
            Some(RouterId::Address(address)) => *address,
            Some(RouterId::Hash) => hash(),
            None => match self
                .snapshot
                .node_address(&self.start.node, false)
                .map(|own| own.addr())
            {
                Some(IpAddr::V4(address)) => address,
                _ => hash(),
            },
        }
    }

    /// Sessions as they should be.
    pub(in crate::agent) fn set_peers(&mut self) {
        let own_addresses = OwnAddresses {
            ipv4: match self
                .snapshot
                .node_address(&self.start.node, false)
                .map(|own| own.addr())
            {
                Some(IpAddr::V4(address)) => Some(address),
                _ => None,
            },
            ipv6: match self
                .snapshot
                .node_address(&self.start.node, true)
                .map(|own| own.addr())
            {
                Some(IpAddr::V6(address)) => Some(address),
                _ => None,
            },
        };
        let common = Common {
            identifier: self.identifier(),
            hold_time: Duration::from_secs((*self.configuration.hold_time).into()),
            restarted: self.restarted && !self.complete,
            prefix_limit: *self.configuration.ebgp_max_prefixes,
            own_addresses,
        };
        let own = self
            .snapshot
            .nodes
            .get(&self.start.node)
            .and_then(|node| node.spec.bgp.as_ref());
        let cluster_id = own.and_then(|bgp| bgp.route_reflector_cluster_id.as_ref()?.parse().ok());
        self.speaker.set_identity(common.identifier, cluster_id);
        let wanted = self.wanted_peers();
        self.told_blocks = own_blocks(&self.snapshot, &self.start.node);
        self.policies.clear();
        let now = self.now();
        let names: BTreeSet<&str> = wanted.iter().map(|peer| peer.name.as_str()).collect();
        let gone: Vec<(String, PeerId)> = self
            .ids
            .iter()
            .filter(|(name, _)| !names.contains(name.as_str()))
            .map(|(name, id)| (name.clone(), *id))
            .collect();
        for (name, id) in gone {
            self.note_session(id, Change::Withdrawn, "not wanted any more".to_owned());
            self.ids.remove(&name);
            self.peers.remove(&id);
            self.speaker.remove_peer(id, now);
            self.orders.push(SocketOrder::Gone(id));
        }
        for peer in wanted {
            let known = self.ids.get(&peer.name).copied();
            let id = known.unwrap_or_else(|| {
                self.next_id += 1;
                PeerId(self.next_id)
            });
            self.ids.insert(peer.name.clone(), id);
            let policies = self.policies_of(&peer);
            self.orders.push(SocketOrder::Peer(id, peers::socket(&peer)));
            let config = peers::config(&peer, &common, policies);
            let seed = self.next_random();
            let text = format!("{} AS {}: {}", peer.address, peer.peer_as, peer.reason);
            let password = peer.password.clone();
            let earlier = self.peers.insert(id, peer);
            if earlier.is_some_and(|earlier| earlier.password != password) {
                self.note_password(id);
            }
            if known.is_none() {
                self.note_session(id, Change::Added, text);
            }
            self.speaker.set_peer(id, config, seed, now);
        }
    }

    /// Whether the own Node says what this start was told. Sessions before that would be of the wrong AS, or from the wrong
    /// address. What an operator changes in the Node later is not waited for.
    fn is_registered(&mut self) -> bool {
        let own = self.snapshot.nodes.get(&self.start.node);
        if let Some(bgp) = own.and_then(|node| node.spec.bgp.as_ref())
            && !self.registered
        {
            let told = self.start.as_number;
            self.registered = told.is_none_or(|number| bgp.as_number.is_some_and(|found| found.0 == number));
        }
        self.registered
    }

    /// The peers that this node should have; those whose password cannot be had wait for it.
    pub(in crate::agent) fn wanted_peers(&mut self) -> Vec<Peer> {
        if *self.configuration.networking_backend != Backend::Bird || !self.is_registered() {
            return Vec::new();
        }
        let mut configurations: Vec<BgpConfiguration> = self
            .snapshot
            .bgp_configurations
            .values()
            .map(|found| (**found).clone())
            .collect();
        if matches!(self.configuration.node_mesh.origin, Origin::Environment(_)) {
            let enabled = Some(*self.configuration.node_mesh);
            match configurations
                .iter_mut()
                .find(|found| found.metadata.name == "default")
            {
                Some(found) => found.spec.node_to_node_mesh_enabled = enabled,
                None => configurations.push(BgpConfiguration::new(
                    "default",
                    BgpConfigurationSpec {
                        node_to_node_mesh_enabled: enabled,
                        ..BgpConfigurationSpec::default()
                    },
                )),
            }
        }
        let read: RefCell<Read> = RefCell::default();
        let secret = |name: &str, key: &str| {
            let found = peers::secret(&self.start.secrets_dir, name, key);
            let chosen = self.secrets.choose(name, key, found);
            let name = (name.to_owned(), key.to_owned());
            read.borrow_mut().insert(name, chosen.clone());
            chosen
        };
        let peering = peering::peers(&peering::Input {
            node_name: &self.start.node,
            nodes: &self
                .snapshot
                .nodes
                .values()
                .map(|node| &**node)
                .collect::<Vec<_>>(),
            peers: &self
                .snapshot
                .bgp_peers
                .values()
                .map(|peer| &**peer)
                .collect::<Vec<_>>(),
            configurations: &configurations.iter().collect::<Vec<_>>(),
            workloads: &[],
            secret_namespace: "kube-system",
            secrets: &secret,
        });
        self.secrets.set(read.into_inner());
        for warning in &peering.warnings {
            if self.peer_warnings.insert(warning.clone()) {
                tracing::warn!(target: "bgp", "{warning}");
            }
        }
        self.peer_warnings = peering.warnings.into_iter().collect();
        let mut peers = peering.peers;
        let restart = Duration::from_secs((*self.configuration.restart_time).into());
        for peer in peers
            .iter_mut()
            .filter(|peer| peer.kind != PeerKind::Mesh && peer.restart == DEFAULT_RESTART)
        {
            peer.restart = restart;
        }
        peers.retain(|peer| !matches!(peer.password, Password::Missing(_)));
        self.peer_warnings.extend(self.trap(&peers));
        peers
    }

    /// With the mesh, every node knows every block; one that tells all of them to a router outside, with itself as the next
    /// hop, draws traffic for containers of others.
    pub(in crate::agent) fn trap(&self, peers: &[Peer]) -> Option<String> {
        let announces_all = *self.configuration.external_export == ExternalExport::All;
        let has_mesh = peers.iter().any(|peer| peer.kind == PeerKind::Mesh);
        let keeps =
            |peer: &&Peer| peer.next_hop == model::bgp_peer::NextHopMode::Keep || !peer.filters.is_empty();
        let external = peers.iter().find(|peer| !peer.is_internal() && !keeps(peer));
        let router = external.filter(|_| announces_all && has_mesh)?;
        Some(format!(
            "{} is told the blocks of all nodes with this node as next hop, so traffic for containers elsewhere comes here: set \
             CALICO_BGP_EXTERNAL_EXPORT=own, nextHopMode: Keep, or a BGPFilter that rejects source: RemotePeers",
            router.name
        ))
    }

    pub(in crate::agent) fn policies_of(&mut self, peer: &Peer) -> PolicyPair {
        let external = !peer.is_internal();
        let key = (peer.filters.clone(), external);
        if let Some(found) = self.policies.get(&key) {
            return found.clone();
        }
        let own = self
            .snapshot
            .nodes
            .get(&self.start.node)
            .and_then(|node| node.spec.bgp.as_ref());
        let exports = Exports {
            node: self.start.node.clone(),
            disabled: *self.configuration.disable_bgp_export,
            external_own_only: *self.configuration.external_export == ExternalExport::Own,
            communities: self.configuration.announced_communities(),
            reflector: own.is_some_and(|bgp| bgp.route_reflector_cluster_id.is_some()),
            service_prefixes: [
                &self.configuration.service_external_ips,
                &self.configuration.service_load_balancer_ips,
            ]
            .into_iter()
            .flat_map(|list| list.iter().copied())
            .collect(),
        };
        let each = |family| {
            (
                Arc::new(export_policy::import(&self.snapshot, &peer.filters, family)),
                Arc::new(export_policy::export(
                    &self.snapshot,
                    &exports,
                    &peer.filters,
                    family,
                )),
            )
        };
        let (import_v4, export_v4) = each(Family::Ipv4);
        let (import_v6, export_v6) = each(Family::Ipv6);
        let made = ([import_v4, import_v6], [export_v4, export_v6]);
        self.policies.insert(key, made.clone());
        made
    }

    pub(in crate::agent) fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// The peer that a connection from an address belongs to.
    pub(in crate::agent) fn peer_of(&self, address: IpAddr) -> Option<PeerId> {
        let found = self.peers.iter().find(|(_, peer)| peer.address == address);
        found.map(|(id, _)| *id)
    }

    /// Ends all sessions. For good: peers drop the routes at once.
    pub(in crate::agent) fn stop(&mut self, for_good: bool) {
        let now = self.now();
        let notification = for_good.then(|| Notification::new(code::CEASE, cease::SHUTDOWN));
        self.speaker.stop(notification.as_ref(), now);
        self.settle();
    }
}
