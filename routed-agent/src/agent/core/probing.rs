// SPDX-License-Identifier: Apache-2.0
//! Which tunnels are to be asked whether they carry packets, and when: once there is a route into one, again whenever the
//! session with its node comes up, and whenever something about it changes.

use std::{net::IpAddr, sync::Arc};

use bgp::PeerId;
use ipnet::IpNet;
use serde_json::{Value, json};

use super::Core;
use crate::{
    encapsulation::Encapsulation,
    journal::{Change, Kind},
    plan::{TunnelKind, Way},
    planner::Planner,
    tunnel_probe::{Outcome, Target},
};

/// A tunnel to a node, and how far its probe is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::agent) struct Probe {
    target: Target,
    state: State,
    /// What was told last.
    told: Option<Outcome>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There is no route into it yet.
    Waiting,
    Asked,
    Done(Outcome),
}

impl Core {
    /// The tunnels that there should be now; what is known of those that were there before stays known.
    pub(super) fn plan_probes(&mut self, planner: &Planner<'_>) {
        let targets: Vec<Target> = self.targets(planner).collect();
        let mut before = std::mem::take(&mut self.probes);
        for target in targets {
            let key = (target.node.clone(), target.destination.is_ipv6());
            let probe = match before.remove(&key) {
                Some(known) if known.target == target => known,
                _ => Probe {
                    target,
                    state: State::Waiting,
                    told: None,
                },
            };
            self.probes.insert(key, probe);
        }
        self.probe_waits = self.probes.values().any(|probe| probe.state == State::Waiting);
    }

    fn targets(&self, planner: &Planner<'_>) -> impl Iterator<Item = Target> {
        let fixtures = Arc::clone(&self.fixtures);
        let mut targets = Vec::new();
        for tunnel in &fixtures.tunnels {
            let Some(source) = tunnel.address else { continue };
            let v6 = source.is_ipv6();
            let wanted = match tunnel.kind {
                TunnelKind::Ipip => Encapsulation::Ipip,
                TunnelKind::Vxlan { .. } => Encapsulation::Vxlan,
            };
            for (name, node) in planner
                .snapshot
                .nodes
                .iter()
                .filter(|(name, _)| **name != self.start.node)
            {
                let destination = match (wanted, v6) {
                    (Encapsulation::Ipip, _) => {
                        node.spec.bgp.as_ref().and_then(|bgp| bgp.ipv4_ipip_tunnel_addr)
                    }
                    (_, false) => node.spec.ipv4_vxlan_tunnel_addr,
                    (_, true) => node.spec.ipv6_vxlan_tunnel_addr,
                };
                let outer = planner.snapshot.node_address(name, v6).map(|own| own.addr());
                let (Some(destination), Some(outer)) = (destination, outer) else {
                    continue;
                };
                if planner
                    .decide(&IpNet::from(destination), Some(outer))
                    .0
                    .encapsulation
                    == wanted
                {
                    targets.push(Target {
                        node: name.clone(),
                        encapsulation: wanted,
                        device: Arc::clone(&tunnel.name),
                        source,
                        destination,
                        mtu: tunnel.mtu,
                        outer,
                    });
                }
            }
        }
        targets.into_iter()
    }

    /// The session with a node is up: its tunnel is asked again.
    pub(super) fn probe_again(&mut self, id: PeerId) {
        let Some(node) = self.peers.get(&id).and_then(|peer| peer.peer_node.clone()) else {
            return;
        };
        for v6 in [false, true] {
            if let Some(probe) = self.probes.get_mut(&(node.clone(), v6)) {
                probe.state = State::Waiting;
                self.probe_waits = true;
            }
        }
    }

    /// Asks those into which there is a route.
    pub(super) fn ask_tunnels(&mut self) {
        if !std::mem::take(&mut self.probe_waits) {
            return;
        }
        let waiting = self
            .probes
            .iter()
            .filter(|(_, probe)| probe.state == State::Waiting);
        let mut due = Vec::new();
        for (key, probe) in waiting {
            if self.leads_into(&probe.target) {
                due.push(key.clone());
            } else {
                self.probe_waits = true;
            }
        }
        for key in due {
            if let Some(probe) = self.probes.get_mut(&key) {
                probe.state = State::Asked;
                self.probe_orders.push(probe.target.clone());
            }
        }
    }

    fn leads_into(&self, target: &Target) -> bool {
        let address = IpNet::from(target.destination);
        let route = match self.snapshot.owner_of(&address) {
            Some(owner) => self
                .store_routes
                .get(&owner.block)
                .or_else(|| self.bgp_routes.get(&owner.block)),
            // Another store's.
            None => self.route_to(target.destination).map(|(_, route)| route),
        };
        route.is_some_and(|route| match &route.way {
            Way::Via { hops, .. } => hops.iter().any(|hop| hop.device == target.device),
            Way::Blackhole | Way::Container(_) => false,
        })
    }

    /// A tunnel has been asked.
    pub(in crate::agent) fn take_probe(&mut self, target: &Target, outcome: Outcome) {
        let key = (target.node.clone(), target.destination.is_ipv6());
        let Some(probe) = self.probes.get_mut(&key).filter(|probe| probe.target == *target) else {
            return;
        };
        probe.state = State::Done(outcome);
        if probe.told.replace(outcome) == Some(outcome) {
            return;
        }
        let object = format!("{} to node {}", target.device, target.node);
        let (change, text) = match (outcome.code(), outcome.advice(target)) {
            (Some(code), Some(advice)) => (Change::Failed, format!("{code}: {advice}")),
            _ => (
                Change::Done,
                format!("packets of {} bytes get through, both ways", target.mtu),
            ),
        };
        self.note_item(Kind::Encapsulation, change, &object, text);
    }

    /// What is wrong with tunnels.
    pub(in crate::agent) fn tunnel_warnings(&self) -> Vec<String> {
        let failed = self.probes.values().filter_map(|probe| match probe.state {
            State::Done(outcome) => Some(format!("{}: {}", outcome.code()?, outcome.advice(&probe.target)?)),
            State::Waiting | State::Asked => None,
        });
        failed.collect()
    }

    /// How many tunnels are how.
    pub(in crate::agent) fn probe_counts(&self) -> [(&'static str, usize); 4] {
        let count =
            |wanted: &dyn Fn(State) -> bool| self.probes.values().filter(|probe| wanted(probe.state)).count();
        [
            (
                "open",
                count(&|state| matches!(state, State::Waiting | State::Asked)),
            ),
            ("through", count(&|state| state == State::Done(Outcome::Through))),
            (
                "large-lost",
                count(&|state| state == State::Done(Outcome::LargeLost)),
            ),
            ("blocked", count(&|state| state == State::Done(Outcome::Blocked))),
        ]
    }

    /// What is known of the tunnel to a node.
    pub(in crate::agent) fn probe_view(&self, node: &str, address: IpAddr) -> Option<Value> {
        let probe = self.probes.get(&(node.to_owned(), address.is_ipv6()))?;
        let outcome = match probe.state {
            State::Waiting | State::Asked => return Some(json!({ "outcome": "open" })),
            State::Done(outcome) => outcome,
        };
        Some(json!({
            "outcome": outcome, "bytes": probe.target.mtu, "code": outcome.code(), "advice": outcome.advice(&probe.target),
        }))
    }
}
