// SPDX-License-Identifier: Apache-2.0
//! Speakers in a network of memory: connections with delays, broken and half-open ones, a clock that jumps from event to
//! event. One seed gives one run; every run can be repeated.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use bgp::{
    Attributes, Family, PeerId, Speaker,
    message::Notification,
    session::{ConnectionId, Event, RestartOffer, SessionConfig, SessionState, Waits},
    speaker::{NextHopMode, Origination, Output, OwnAddresses, PeerConfig, Policies, SpeakerConfig},
};
use ipnet::IpNet;

pub(crate) const MS: Duration = Duration::from_millis(1);

/// What a node is; it is made again from this after it died.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) asn: u32,
    pub(crate) cluster: Option<Ipv4Addr>,
    /// Neighbours, and whether each is a client of this reflector.
    pub(crate) neighbours: Vec<(usize, bool)>,
    pub(crate) passive: BTreeSet<usize>,
    pub(crate) routes: BTreeSet<IpNet>,
    /// Offers to send several paths.
    pub(crate) several: bool,
}

#[derive(Debug)]
enum Happening {
    /// A connection asked for arrives, if its maker still wants it.
    Arrive {
        from: usize,
        to: usize,
        dial: u64,
    },
    Bytes {
        connection: u64,
        to: usize,
        bytes: Vec<u8>,
    },
    End {
        connection: u64,
        to: usize,
    },
    /// The node takes what waits for a peer.
    Take {
        node: usize,
        life: u64,
        peer: PeerId,
    },
    Wake {
        node: usize,
        life: u64,
    },
}

#[derive(Debug)]
struct Connection {
    ends: [usize; 2],
    open: [bool; 2],
    /// Nothing passes any more, and nobody is told.
    dead: bool,
    /// When the latest bytes arrive, by direction: they keep their order.
    latest: [Duration; 2],
}

pub(crate) struct Network {
    pub(crate) now: Duration,
    pub(crate) nodes: Vec<Node>,
    pub(crate) speakers: Vec<Option<Speaker>>,
    lives: Vec<u64>,
    queue: BTreeMap<(Duration, u64), Happening>,
    sequence: u64,
    connections: BTreeMap<u64, Connection>,
    next: u64,
    dials: BTreeMap<(usize, usize), u64>,
    pub(crate) random: u64,
    pub(crate) log: Vec<String>,
    /// Selections that were there and are not, by node and prefix.
    pub(crate) lost: Vec<(usize, IpNet)>,
    known: Vec<BTreeSet<IpNet>>,
    /// Pairs between which no connection can be made.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    pub(crate) max_delay: u64,
}

pub(crate) fn address(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(
        10,
        0,
        u8::try_from(node >> 8).expect("few"),
        u8::try_from(node & 255).expect("few"),
    )
}

pub(crate) fn peer(node: usize) -> PeerId {
    PeerId(u32::try_from(node).expect("few"))
}

impl Network {
    pub(crate) fn new(nodes: Vec<Node>, seed: u64) -> Self {
        let count = nodes.len();
        let mut network = Self {
            now: Duration::ZERO,
            speakers: (0..count).map(|_| None).collect(),
            lives: vec![0; count],
            nodes,
            queue: BTreeMap::new(),
            sequence: 0,
            connections: BTreeMap::new(),
            next: 0,
            dials: BTreeMap::new(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            log: Vec::new(),
            lost: Vec::new(),
            known: vec![BTreeSet::new(); count],
            cut: BTreeSet::new(),
            max_delay: 20,
        };
        for node in 0..count {
            network.start(node, false);
        }
        network
    }

    pub(crate) fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn schedule(&mut self, at: Duration, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), happening);
    }

    /// Starts a node, for the first time or again.
    pub(crate) fn start(&mut self, node: usize, again: bool) {
        let this = self.nodes[node].clone();
        let mut speaker = Speaker::new(SpeakerConfig {
            identifier: address(node),
            cluster_id: this.cluster,
            multipath: 16,
            policy_required: false,
            deferral: again.then_some(Duration::from_secs(30)),
        });
        speaker.set_own_addresses([IpAddr::V4(address(node))].into());
        for prefix in &this.routes {
            speaker.set_own_route(*prefix, Some(origination()));
        }
        for (other, client) in &this.neighbours {
            let config = peer_config(&this, node, *other, self.nodes[*other].asn, *client, again);
            let seed = self.random(u64::MAX);
            speaker.set_peer(peer(*other), config, seed, self.now);
        }
        speaker.begin(self.now);
        self.lives[node] += 1;
        self.speakers[node] = Some(speaker);
        self.after(node);
    }

    /// A node dies: its kernel closes its connections, or nobody is told.
    pub(crate) fn kill(&mut self, node: usize, silently: bool) {
        self.speakers[node] = None;
        self.lives[node] += 1;
        self.known[node].clear();
        self.dials.retain(|(from, _), _| *from != node);
        let concerned: Vec<u64> = (self.connections.iter())
            .filter(|(_, connection)| connection.ends.contains(&node))
            .map(|(id, _)| *id)
            .collect();
        for id in concerned {
            if silently {
                self.connections.get_mut(&id).expect("it is there").dead = true;
            } else {
                self.close(id, node);
            }
        }
    }

    /// A connection between two nodes breaks, seen by both or by neither.
    pub(crate) fn break_connections(&mut self, one: usize, other: usize, silently: bool) {
        let concerned: Vec<u64> = (self.connections.iter())
            .filter(|(_, connection)| connection.ends.contains(&one) && connection.ends.contains(&other))
            .map(|(id, _)| *id)
            .collect();
        for id in concerned {
            if silently {
                self.connections.get_mut(&id).expect("it is there").dead = true;
            } else {
                for node in [one, other] {
                    self.schedule(
                        self.now + MS,
                        Happening::End {
                            connection: id,
                            to: node,
                        },
                    );
                }
            }
        }
    }

    pub(crate) fn leave(&mut self, node: usize) {
        if let Some(speaker) = &mut self.speakers[node] {
            speaker.stop(Some(&Notification::new(6, 2)), self.now);
        }
        self.after(node);
    }

    pub(crate) fn set_route(&mut self, node: usize, prefix: IpNet, there: bool) {
        if there {
            self.nodes[node].routes.insert(prefix);
        } else {
            self.nodes[node].routes.remove(&prefix);
        }
        if let Some(speaker) = &mut self.speakers[node] {
            speaker.set_own_route(prefix, there.then(origination));
        }
        self.after(node);
    }

    /// A node begins to reflect for all its neighbours, or ends to.
    pub(crate) fn set_reflector(&mut self, node: usize, cluster: Option<Ipv4Addr>) {
        self.nodes[node].cluster = cluster;
        for (_, client) in &mut self.nodes[node].neighbours {
            *client = cluster.is_some();
        }
        let this = self.nodes[node].clone();
        let Some(speaker) = &mut self.speakers[node] else {
            return;
        };
        speaker.set_identity(address(node), cluster);
        for (other, client) in &this.neighbours {
            let config = peer_config(&this, node, *other, self.nodes[*other].asn, *client, false);
            speaker.set_peer(peer(*other), config, 1, self.now);
        }
        self.after(node);
    }

    /// How often a session of a node has come up.
    pub(crate) fn ups(&self, node: usize, other: usize) -> u64 {
        let status = self.speakers[node]
            .as_ref()
            .and_then(|speaker| speaker.peer(peer(other)));
        status.map_or(0, |status| status.counters.ups)
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > until {
                break;
            }
            let ((at, _), happening) = entry.remove_entry();
            self.now = at;
            self.happen(happening);
        }
        self.now = until;
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrive { from, to, dial } => self.arrive(from, to, dial),
            Happening::Bytes {
                connection,
                to,
                bytes,
            } => {
                let Some(found) = self.connections.get(&connection) else {
                    return;
                };
                let side = usize::from(found.ends[1] == to);
                if found.dead || !found.open[side] {
                    return;
                }
                let other = found.ends[1 - side];
                let now = self.now;
                if let Some(speaker) = &mut self.speakers[to] {
                    // Connections deliver as they please.
                    let cut = if bytes.len() > 1 {
                        bytes.len() / 2
                    } else {
                        bytes.len()
                    };
                    let (first, second) = bytes.split_at(cut);
                    speaker.handle(peer(other), Event::Received(ConnectionId(connection), first), now);
                    speaker.handle(
                        peer(other),
                        Event::Received(ConnectionId(connection), second),
                        now,
                    );
                }
                self.after(to);
            }
            Happening::End { connection, to } => {
                let Some(found) = self.connections.get_mut(&connection) else {
                    return;
                };
                let side = usize::from(found.ends[1] == to);
                if found.dead || !std::mem::take(&mut found.open[side]) {
                    return;
                }
                let other = found.ends[1 - side];
                if let Some(speaker) = &mut self.speakers[to] {
                    speaker.handle(peer(other), Event::Closed(ConnectionId(connection)), self.now);
                }
                self.after(to);
            }
            Happening::Take { node, life, peer: id } => {
                if self.lives[node] != life {
                    return;
                }
                let room = usize::try_from(self.random(5000)).expect("small") + 1;
                let Some(speaker) = &mut self.speakers[node] else {
                    return;
                };
                if let Some((connection, bytes)) = speaker.take_routes(id, room) {
                    self.send(node, connection, bytes);
                    let at = self.now + Duration::from_micros(100);
                    self.schedule(at, Happening::Take { node, life, peer: id });
                }
                self.after(node);
            }
            Happening::Wake { node, life } => {
                if self.lives[node] == life
                    && let Some(speaker) = &mut self.speakers[node]
                {
                    if speaker.deadline().is_some_and(|time| time <= self.now) {
                        speaker.pass(self.now);
                    }
                    self.after(node);
                }
            }
        }
    }

    fn arrive(&mut self, from: usize, to: usize, dial: u64) {
        if self.dials.get(&(from, to)) != Some(&dial) {
            return;
        }
        self.dials.remove(&(from, to));
        let id = self.next;
        self.next += 1;
        let is_cut = self.cut.contains(&(from.min(to), from.max(to)));
        if is_cut || self.speakers[to].is_none() {
            if let Some(speaker) = &mut self.speakers[from] {
                speaker.handle(peer(to), Event::DialFailed, self.now);
            }
            self.after(from);
            return;
        }
        self.connections.insert(
            id,
            Connection {
                ends: [from, to],
                open: [true; 2],
                dead: false,
                latest: [self.now; 2],
            },
        );
        for (node, other) in [(from, to), (to, from)] {
            let now = self.now;
            if let Some(speaker) = &mut self.speakers[node] {
                speaker.set_local_address(peer(other), ConnectionId(id), IpAddr::V4(address(node)));
                let event = if node == from {
                    Event::Dialled(ConnectionId(id))
                } else {
                    Event::Accepted(ConnectionId(id))
                };
                speaker.handle(peer(other), event, now);
            }
            self.after(node);
        }
    }

    /// Does what a node wants done.
    fn after(&mut self, node: usize) {
        let life = self.lives[node];
        let Some(speaker) = &mut self.speakers[node] else {
            return;
        };
        speaker.settle();
        let changes = speaker.take_changes();
        for change in changes {
            let prefix = change.prefix;
            let before = speaker.selection_before(&change);
            assert_eq!(before.is_some(), self.known[node].contains(&prefix), "{prefix}");
            assert_eq!(
                change.is_another(),
                before != speaker.selection_now(&change),
                "{prefix}"
            );
            assert_eq!(
                speaker.selection_now(&change),
                speaker.selection(&prefix),
                "{prefix}"
            );
            let hops: Vec<IpAddr> = speaker.next_hops_of(&change).collect();
            assert!(speaker.next_hops_to(&prefix).eq(hops), "{prefix}");
            let there = !speaker.selected(&prefix).is_empty();
            if there {
                self.known[node].insert(prefix);
            } else if self.known[node].remove(&prefix) {
                self.lost.push((node, prefix));
            }
        }
        let outputs = speaker.take_outputs();
        if let Some(deadline) = speaker.deadline() {
            let at = deadline.max(self.now);
            self.schedule(at, Happening::Wake { node, life });
        }
        for output in outputs {
            match output {
                Output::Dial(to) => {
                    let to = to.0 as usize;
                    let delay = Duration::from_millis(self.random(self.max_delay) + 1);
                    let dial = self.next;
                    self.next += 1;
                    self.dials.insert((node, to), dial);
                    self.schedule(self.now + delay, Happening::Arrive { from: node, to, dial });
                }
                Output::CancelDial(to) => {
                    self.dials.remove(&(node, to.0 as usize));
                }
                Output::Send(_, connection, bytes) => self.send(node, connection, bytes),
                Output::Close(_, connection) => self.close(connection.0, node),
                Output::Ready(id, _) => {
                    let delay = Duration::from_micros(self.random(2000));
                    self.schedule(self.now + delay, Happening::Take { node, life, peer: id });
                }
                other => self.log.push(format!("{:?} {node}: {other:?}", self.now)),
            }
        }
    }

    fn send(&mut self, node: usize, connection: ConnectionId, bytes: Vec<u8>) {
        let delay = Duration::from_millis(self.random(self.max_delay) + 1);
        let Some(found) = self.connections.get_mut(&connection.0) else {
            return;
        };
        let side = usize::from(found.ends[1] == node);
        if !found.open[side] || found.dead {
            return;
        }
        let at = (self.now + delay).max(found.latest[side]);
        found.latest[side] = at;
        let to = found.ends[1 - side];
        self.schedule(
            at,
            Happening::Bytes {
                connection: connection.0,
                to,
                bytes,
            },
        );
    }

    fn close(&mut self, id: u64, node: usize) {
        let Some(found) = self.connections.get_mut(&id) else {
            return;
        };
        let side = usize::from(found.ends[1] == node);
        found.open[side] = false;
        let to = found.ends[1 - side];
        let at = (self.now + MS).max(found.latest[side]);
        self.schedule(at, Happening::End { connection: id, to });
    }

    /// What a node has selected, own routes left out.
    pub(crate) fn learned(&self, node: usize) -> BTreeSet<IpNet> {
        let Some(speaker) = &self.speakers[node] else {
            return BTreeSet::new();
        };
        let used = speaker
            .routes()
            .filter(|route| route.used && route.peer.is_some());
        used.map(|route| route.prefix).collect()
    }

    /// The ways that a node knows to a prefix: from whom, with which identifier, to which next hop.
    pub(crate) fn ways(&self, node: usize, prefix: &IpNet) -> BTreeSet<(usize, u32, IpAddr)> {
        let paths = self.speakers[node]
            .iter()
            .flat_map(|speaker| speaker.paths(prefix));
        paths
            .filter(|path| !path.refused)
            .filter_map(|path| {
                let next_hop = path.next_hop?.address;
                Some((path.peer?.0 as usize, path.path_id, next_hop))
            })
            .collect()
    }

    /// Everything that helps to see what went wrong.
    pub(crate) fn describe(&self) -> Vec<String> {
        let mut text = self.log.clone();
        for (node, speaker) in self.speakers.iter().enumerate() {
            let Some(speaker) = speaker else { continue };
            text.extend(speaker.routes().map(|route| {
                format!(
                    "{node} has {} of {:?}, used {}, refused {}, path {}",
                    route.prefix, route.peer, route.used, route.refused, route.attributes.as_path
                )
            }));
            for id in speaker.peer_ids() {
                let told = speaker
                    .announced(id)
                    .into_iter()
                    .map(|(prefix, ..)| prefix.to_string());
                text.push(format!(
                    "{node} tells {}: {}",
                    id.0,
                    told.collect::<Vec<_>>().join(" ")
                ));
            }
        }
        text
    }

    pub(crate) fn is_up(&self, one: usize, other: usize) -> bool {
        let state = |node: usize, other: usize| Some(self.speakers[node].as_ref()?.peer(peer(other))?.state);
        [(one, other), (other, one)]
            .iter()
            .all(|(node, other)| state(*node, *other) == Some(SessionState::Established))
    }
}

pub(crate) fn origination() -> Origination {
    Origination {
        attributes: Attributes {
            local_pref: Some(2_147_482_623),
            ..Attributes::default()
        },
        class: 1,
        device: None,
    }
}

fn peer_config(
    this: &Node,
    node: usize,
    other: usize,
    peer_as: u32,
    client: bool,
    again: bool,
) -> PeerConfig {
    let families = [Family::Ipv4].into_iter().collect();
    PeerConfig {
        session: SessionConfig {
            local_as: this.asn,
            peer_as,
            identifier: address(node),
            hold_time: Duration::from_secs(90),
            keepalive_time: None,
            families,
            passive: this.passive.contains(&other),
            graceful_restart: Some(RestartOffer {
                time: Duration::from_secs(120),
                forwarding: families,
                restarted: again,
                notification: true,
            }),
            add_path_receive: families,
            add_path_send: if this.several && peer_as == this.asn {
                families
            } else {
                bgp::FamilySet::EMPTY
            },
            extended_message: true,
            ipv4_over_ipv6: false,
            waits: Waits::default(),
        },
        address: IpAddr::V4(address(other)),
        import: Policies::default(),
        export: Policies {
            ipv4: Some(Arc::new(bgp::policy::Policy::ACCEPT)),
            ipv6: None,
        },
        client,
        next_hop: NextHopMode::Auto,
        own_addresses: OwnAddresses {
            ipv4: Some(address(node)),
            ipv6: None,
        },
        own_as_allowed: 0,
        prefix_limit: Some(100_000),
        limit_pause: Duration::from_secs(60),
        stale_limit: Duration::from_secs(120),
    }
}
