// SPDX-License-Identifier: Apache-2.0
//! What there is to see from outside: answers to queries of the local API.

use std::{collections::BTreeSet, net::IpAddr};

use bgp::session::SessionState;
use ipnet::IpNet;
use serde_json::{Value, json};

use super::core::Core;
use crate::plan::{PlannedRoute, Way};

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Everything in short.
    Status,
    /// Peers.
    Peers,
    /// All paths, or those to one prefix.
    Routes(Option<IpNet>),
    /// What a peer is told.
    Announced(String),
    /// What should be in the kernel, and why.
    Plan,
    /// How packets get from one address to another.
    Explain {
        /// From.
        from: IpAddr,
        /// To.
        to: IpAddr,
    },
    /// Settings and where they come from.
    Configuration,
    /// For Prometheus.
    Metrics,
    /// Whether the agent works.
    Live,
    /// Whether this node's containers are reachable.
    Ready,
    /// The node leaves.
    Leave,
    /// The node leaves, and everything of ours goes.
    CleanUp,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// JSON, or text for metrics.
    pub body: Body,
}

/// What is answered.
#[derive(Clone, Debug)]
pub enum Body {
    /// JSON.
    Json(Value),
    /// Text.
    Text(String),
}

fn ok(value: Value) -> Answer {
    Answer {
        status: 200,
        body: Body::Json(value),
    }
}

fn error(status: u16, text: impl Into<String>) -> Answer {
    Answer {
        status,
        body: Body::Json(json!({ "error": text.into() })),
    }
}

/// A state as `calicoctl node status` shows it.
pub(super) fn state(state: SessionState) -> &'static str {
    match state {
        SessionState::Idle => "Idle",
        SessionState::Connect => "Connect",
        SessionState::Active => "Active",
        SessionState::OpenSent => "OpenSent",
        SessionState::OpenConfirm => "OpenConfirm",
        SessionState::Established => "Established",
    }
}

impl Core {
    /// Answers a query.
    pub(super) fn answer(&self, query: &Query) -> Answer {
        match query {
            Query::Status => ok(self.status()),
            Query::Peers => ok(json!({ "peers": self.peer_list() })),
            Query::Routes(prefix) => ok(self.route_list(prefix.as_ref())),
            Query::Announced(name) => self.announced(name),
            Query::Plan => ok(self.plan_view()),
            Query::Explain { from, to } => self.explain(*from, *to),
            Query::Configuration => ok(self.settings()),
            Query::Metrics => Answer {
                status: 200,
                body: Body::Text(self.metrics()),
            },
            Query::Live => ok(json!({ "live": true })),
            Query::Ready => {
                let reasons = self.not_ready();
                Answer {
                    status: if reasons.is_empty() { 200 } else { 503 },
                    body: Body::Json(json!({ "ready": reasons.is_empty(), "reasons": reasons })),
                }
            }
            Query::Leave | Query::CleanUp => ok(json!({ "ending": true })),
        }
    }

    /// Every setting and where its value comes from.
    fn settings(&self) -> Value {
        let rows = self.configuration.rows().into_iter().map(|row| {
            json!({ "name": row.setting.name, "value": row.value, "origin": row.origin.to_string(), "live": row.setting.live })
        });
        json!({ "settings": rows.collect::<Vec<_>>(), "warnings": self.warnings })
    }

    fn status(&self) -> Value {
        let node = self.snapshot.nodes.get(&self.start.node);
        json!({
            "node": self.start.node,
            "version": env!("CARGO_PKG_VERSION"),
            "addresses": node.map(|node| node.spec.host_addresses().collect::<BTreeSet<_>>()),
            "identifier": self.speaker.config().identifier,
            "restarted": self.restarted,
            "complete": self.complete,
            "store": self.store_problem,
            "peers": self.peer_list(),
            "blocks": self.snapshot.blocks_of(&self.start.node).map(|(block, _)| block).collect::<Vec<_>>(),
            "routes": {
                "bgp": self.bgp_routes.len(),
                "store": self.store_routes.len(),
                "refused": self.refusals(),
            },
            "devices": self.fixtures.tunnels.iter().map(|tunnel| json!({
                "name": &*tunnel.name, "mtu": tunnel.mtu, "address": tunnel.address, "local": tunnel.local, "reason": tunnel.reason,
            })).collect::<Vec<_>>(),
            "addressUpkeep": self.upkeep,
            "failures": self.failures,
            "answeredDrops": self.answered_drops,
            "rivals": self.rivals,
            "journal": self.recording.journal().status(),
            "tunnelProbes": self.probe_counts().into_iter().collect::<std::collections::BTreeMap<_, _>>(),
            "warnings": self.warnings.iter().chain(&self.peer_warnings).cloned().chain(self.tunnel_warnings()).collect::<Vec<_>>(),
        })
    }

    fn peer_list(&self) -> Vec<Value> {
        let now = self.now();
        let peers = self.peers.iter().filter_map(|(id, wanted)| {
            let status = self.speaker.peer(*id)?;
            let since = status.up_since.map(|since| now.saturating_sub(since).as_secs());
            let counters = status.counters;
            Some(json!({
                "name": wanted.name,
                "address": wanted.address,
                "port": wanted.port,
                "type": wanted.kind.to_string(),
                "node": wanted.peer_node,
                "reason": wanted.reason,
                "asNumber": wanted.peer_as,
                "localASNumber": wanted.local_as,
                "state": if status.state == SessionState::Established { "up" } else { "start" },
                "session": state(status.state),
                "upSeconds": since,
                "lastDown": status.last_down.map(|(time, reason)| json!({ "secondsAgo": (now.saturating_sub(*time)).as_secs(), "reason": reason })),
                "families": status.families.iter().map(|family| json!({
                    "family": family.family.to_string(), "received": family.received, "refused": family.refused,
                    "announced": family.announced, "endOfRib": family.end_of_rib, "told": family.told,
                    "addPath": status.negotiated.map(|agreed| json!({
                        "receive": agreed.encoding.add_path_receive.contains(family.family),
                        "send": agreed.encoding.add_path_send.contains(family.family),
                    })),
                })).collect::<Vec<_>>(),
                "holdSeconds": status.negotiated.map(|agreed| agreed.hold_time.as_secs()),
                "counters": {
                    "updatesIn": counters.updates_in, "announcedIn": counters.announced_in, "withdrawnIn": counters.withdrawn_in,
                    "announcedOut": counters.announced_out, "defects": counters.defects,
                    "ups": counters.ups, "downs": counters.downs, "failures": counters.failures,
                },
            }))
        });
        peers.collect()
    }

    fn route_list(&self, prefix: Option<&IpNet>) -> Value {
        let all = match prefix {
            Some(prefix) => self.speaker.paths(prefix),
            None => self.speaker.routes().collect(),
        };
        let routes = all.into_iter().map(|route| {
            let peer = route.peer.and_then(|id| self.peers.get(&id)).map(|peer| peer.name.as_str());
            json!({
                "prefix": route.prefix,
                "peer": peer.unwrap_or("own"),
                "nextHop": route.next_hop.map(|next_hop| next_hop.address),
                "used": route.used,
                "refused": route.refused,
                "stale": route.flags.has(bgp::PathFlags::STALE),
                "asPath": route.attributes.as_path.to_string(),
                "localPref": route.attributes.local_pref,
                "med": route.attributes.med,
                "communities": route.attributes.communities.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "largeCommunities": route.attributes.large_communities.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
        });
        json!({ "routes": routes.collect::<Vec<_>>() })
    }

    fn announced(&self, name: &str) -> Answer {
        let found = self
            .peers
            .iter()
            .find(|(_, peer)| peer.name == name || peer.address.to_string() == name);
        let Some((id, _)) = found else {
            return error(404, format!("no peer {name:?}; GET /v1/peers lists them"));
        };
        let routes = self.speaker.announced(*id).into_iter().map(|(prefix, attributes, next_hop)| {
            json!({ "prefix": prefix, "nextHop": next_hop, "localPref": attributes.local_pref, "asPath": attributes.as_path.to_string() })
        });
        ok(json!({ "routes": routes.collect::<Vec<_>>() }))
    }

    fn plan_view(&self) -> Value {
        let routes = self
            .store_routes
            .iter()
            .chain(&self.bgp_routes)
            .map(|(prefix, route)| route_view(prefix, route));
        json!({
            "routes": routes.collect::<Vec<_>>(),
            "refused": self.refusals(),
            "devices": self.fixtures.tunnels.iter().map(|tunnel| json!({
                "name": &*tunnel.name, "mtu": tunnel.mtu, "address": tunnel.address, "local": tunnel.local, "reason": tunnel.reason,
            })).collect::<Vec<_>>(),
        })
    }

    /// The planned route that a packet takes.
    pub(super) fn route_to(&self, address: IpAddr) -> Option<(IpNet, &PlannedRoute)> {
        let single = IpNet::from(address);
        let all = self.store_routes.iter().chain(&self.bgp_routes);
        let around = all.filter(|(prefix, _)| prefix.contains(&single));
        around
            .max_by_key(|(prefix, _)| prefix.prefix_len())
            .map(|(prefix, route)| (*prefix, route))
    }

    fn explain(&self, from: IpAddr, to: IpAddr) -> Answer {
        if from.is_ipv4() != to.is_ipv4() {
            return error(400, format!("{from} and {to} are of different IP versions"));
        }
        let node_of = |address: IpAddr| {
            let owner = self.snapshot.owner_of(&IpNet::from(address));
            let node = owner.map(|owner| owner.node);
            // Another IPAM plugin's address is in no block, but on a container.
            (
                node.or_else(|| self.snapshot.attached_to(address)),
                owner.map(|owner| owner.block),
            )
        };
        let owner = |address: IpAddr| {
            let (node, block) = node_of(address);
            node.map(|node| json!({ "node": node, "block": block }))
        };
        let source_here = node_of(from).0 == Some(self.start.node.as_str());
        let route = self.route_to(to);
        let found = node_of(to).0;
        let prefix = route.map_or_else(|| IpNet::from(to), |(prefix, _)| prefix);
        let next_hop = self
            .speaker
            .selected(&prefix)
            .first()
            .and_then(|path| path.next_hop)
            .map(|next_hop| next_hop.address)
            .or_else(|| Some(self.snapshot.node_address(found?, to.is_ipv6())?.addr()));
        let decision = self.with_planner(|planner| planner.decide(&prefix, next_hop).0);
        let mtu = route.and_then(|(_, route)| self.mtu_of(route));
        let outer = route.and_then(|(_, route)| self.outer_header(route));
        // Of another store's block the next hop says whose it is.
        let behind = found.or_else(|| self.snapshot.node_by_address(next_hop?));
        let tunnel = outer.as_ref().and_then(|_| self.probe_view(behind?, to));
        ok(json!({
            "from": from,
            "to": to,
            "here": self.start.node,
            "source": owner(from),
            "sourceIsHere": source_here,
            "destination": owner(to),
            "local": found == Some(self.start.node.as_str()),
            "route": route.map(|(prefix, route)| route_view(&prefix, route)),
            "refused": self.refused().find(|(refused, _)| **refused == prefix).map(|(_, refusal)| json!({ "code": refusal.code, "text": refusal.text })),
            "encapsulation": decision.as_ref().map(|decision| decision.encapsulation.to_string()),
            "because": decision.map(|decision| decision.reason),
            "mtu": mtu,
            "outerHeader": outer,
            "tunnel": tunnel,
        }))
    }

    fn mtu_of(&self, route: &PlannedRoute) -> Option<u32> {
        let Way::Via { hops, .. } = &route.way else {
            return None;
        };
        let device = &hops.first()?.device;
        let tunnel = self.fixtures.tunnels.iter().find(|tunnel| tunnel.name == *device);
        if let Some(tunnel) = tunnel {
            return Some(tunnel.mtu);
        }
        let links = self.facts.as_ref()?.links.values();
        links
            .filter(|link| link.name == *device)
            .map(|link| link.mtu)
            .next()
    }

    fn outer_header(&self, route: &PlannedRoute) -> Option<Value> {
        let Way::Via { hops, .. } = &route.way else {
            return None;
        };
        let hop = hops.first()?;
        let tunnel = self
            .fixtures
            .tunnels
            .iter()
            .find(|tunnel| tunnel.name == hop.device)?;
        let (protocol, to) = match &tunnel.kind {
            crate::plan::TunnelKind::Ipip => ("IP in IP (protocol 4)".to_owned(), hop.gateway),
            crate::plan::TunnelKind::Vxlan { id, port, .. } => {
                let peer = self
                    .fixtures
                    .vxlan_peers
                    .iter()
                    .find(|peer| Some(peer.tunnel_address) == hop.gateway);
                (
                    format!("VXLAN {id} over UDP port {port}"),
                    peer.map(|peer| peer.node_address),
                )
            }
        };
        Some(json!({ "source": tunnel.local, "destination": to, "protocol": protocol }))
    }
}

fn route_view(prefix: &IpNet, route: &PlannedRoute) -> Value {
    let way = match &route.way {
        Way::Blackhole => json!({ "type": "blackhole" }),
        Way::Container(device) => json!({ "type": "container", "device": &**device }),
        Way::Via { hops, .. } => json!({
            "type": "via",
            "hops": hops.iter().map(|hop| json!({ "gateway": hop.gateway, "device": &*hop.device })).collect::<Vec<_>>(),
        }),
    };
    json!({
        "prefix": prefix,
        "way": way,
        "encapsulation": route.encapsulation.to_string(),
        "origin": route.origin,
        "reason": &*route.reason,
    })
}
