// SPDX-License-Identifier: Apache-2.0
//! A whole speaker: sessions with any number of peers, what they have sent, which routes are used, what is announced to
//! whom. No sockets and no clock: the owner tells it what happens and when, does what it asks for, and takes from it
//! what waits to be sent.
//!
//! ```text
//!   peer ──► session ──► import policy ──► table: all paths ──► selection ──► changed prefixes, to the owner
//!                                             ▲                     │
//!                          own routes ────────┘                     └──► export policy ──► log of a group ──► peers
//! ```
//!
//! Events only mark what they change; [`Speaker::settle`] selects and announces, once for any number of events. The
//! same calls with the same times give the same answers, so a run that was written down can be repeated.

mod config;
mod event;
mod exporting;
mod importing;
mod lifecycle;
mod out_rib;
mod peer;
mod selecting;
mod selection;
mod status;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use hashbrown::HashMap;
use ipnet::IpNet;

pub use config::{NextHopMode, NextHopState, Origination, OwnAddresses, PeerConfig, Policies, SpeakerConfig};
pub use event::Output;
pub use peer::Counters;
pub use selection::{Selection, SelectionChange};
pub use status::{FamilyStatus, PeerStatus, RouteView};

use crate::{
    family::{Family, FamilySet},
    message::Notification,
    rib::{Interner, Path, PathFlags, PeerId, Slot, Table},
    session::{ConnectionId, Event, Time},
};
use exporting::Group;
use peer::Peer;
use selection::Selections;

/// See the module.
#[derive(Debug)]
pub struct Speaker {
    config: SpeakerConfig,
    peers: BTreeMap<PeerId, Peer>,
    tables: ByFamily<Table>,
    interner: Interner,
    origins: HashMap<IpNet, Origination>,
    own_addresses: BTreeSet<IpAddr>,
    next_hops: HashMap<IpAddr, NextHopState>,
    groups: BTreeMap<u32, Group>,
    next_group: u32,
    /// Prefixes whose selection may have changed, for the owner.
    changes: Vec<SelectionChange>,
    selections: Selections,
    timers: BTreeSet<(Time, PeerId)>,
    /// While the routes of peers are waited for after a restart: until when, and whose.
    deferral: Option<Deferral>,
    outputs: Vec<Output>,
}

#[derive(Debug)]
struct Deferral {
    /// Once it has begun.
    until: Option<Time>,
    length: Time,
    waiting: BTreeSet<(PeerId, Family)>,
}

/// One of each family.
#[derive(Debug, Default)]
struct ByFamily<T> {
    ipv4: T,
    ipv6: T,
}

impl<T> ByFamily<T> {
    const fn of(&self, family: Family) -> &T {
        match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        }
    }

    const fn of_mut(&mut self, family: Family) -> &mut T {
        match family {
            Family::Ipv4 => &mut self.ipv4,
            Family::Ipv6 => &mut self.ipv6,
        }
    }
}

impl Speaker {
    /// A speaker without peers and routes.
    pub fn new(config: SpeakerConfig) -> Self {
        let deferral = config.deferral.map(|length| Deferral {
            until: None,
            length,
            waiting: BTreeSet::new(),
        });
        Self {
            config,
            peers: BTreeMap::new(),
            tables: ByFamily::default(),
            interner: Interner::default(),
            origins: HashMap::new(),
            own_addresses: BTreeSet::new(),
            next_hops: HashMap::new(),
            groups: BTreeMap::new(),
            next_group: 0,
            changes: Vec::new(),
            selections: Selections::default(),
            timers: BTreeSet::new(),
            deferral,
            outputs: Vec::new(),
        }
    }

    /// What it is.
    pub const fn config(&self) -> &SpeakerConfig {
        &self.config
    }

    /// The first peers and routes are set. After a restart, the routes of these peers are waited for.
    pub fn begin(&mut self, now: Time) {
        if let Some(deferral) = &mut self.deferral {
            deferral.until = Some(now + deferral.length);
            if deferral.waiting.is_empty() {
                self.end_deferral();
            }
        }
    }

    /// Who it is. Sessions that are up go on as they were agreed; what is reflected changes at once.
    pub fn set_identity(&mut self, identifier: std::net::Ipv4Addr, cluster_id: Option<std::net::Ipv4Addr>) {
        if (self.config.identifier, self.config.cluster_id) == (identifier, cluster_id) {
            return;
        }
        self.config.identifier = identifier;
        self.config.cluster_id = cluster_id;
        for family in Family::ALL {
            let table = self.tables.of(family);
            let used: Vec<Slot> = table
                .slots()
                .filter(|slot| !table.entry(*slot).paths().is_empty())
                .collect();
            for slot in used {
                self.tables.of_mut(family).list(slot);
            }
        }
        for group in self.groups.values_mut() {
            group.forget_made();
        }
    }

    /// When [`Speaker::pass`] is due.
    pub fn deadline(&self) -> Option<Time> {
        let deferral = self.deferral.as_ref().and_then(|deferral| deferral.until);
        self.timers
            .first()
            .map(|(time, _)| *time)
            .into_iter()
            .chain(deferral)
            .min()
    }

    /// Time has passed.
    pub fn pass(&mut self, now: Time) {
        while let Some((time, id)) = self.timers.first().copied() {
            if time > now {
                break;
            }
            self.timers.pop_first();
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.timer = None;
            }
            self.pass_peer(id, now);
        }
        let over = self.deferral.as_ref().and_then(|deferral| deferral.until);
        if over.is_some_and(|time| time <= now) {
            self.end_deferral();
        }
    }

    /// Something has happened to a peer's session.
    pub fn handle(&mut self, id: PeerId, event: Event<'_>, now: Time) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let mut actions = std::mem::take(&mut peer.actions);
        peer.session.handle(event, now, &mut actions);
        for action in actions.drain(..) {
            self.act(id, action, now);
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.actions = actions;
        }
        self.set_timer(id);
    }

    /// The own address of a connection, before its event is told: routes of its family have it for their next hop.
    pub fn set_local_address(&mut self, id: PeerId, connection: ConnectionId, address: IpAddr) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.local_addresses.retain(|(known, _)| *known != connection);
            peer.local_addresses.push((connection, address));
            // Two at a time and one to come are all there can be.
            if peer.local_addresses.len() > 4 {
                peer.local_addresses.remove(0);
            }
        }
    }

    /// Sets or removes a route of the own.
    pub fn set_own_route(&mut self, prefix: IpNet, route: Option<Origination>) {
        let prefix = prefix.trunc();
        let family = Family::of(&prefix);
        if let Some(route) = route {
            if self.origins.get(&prefix) == Some(&route) {
                return;
            }
            let carried = self.interner.intern(route.attributes.clone(), None);
            let path = Path {
                peer: PeerId::OWN,
                number: 0,
                received: carried.clone(),
                used: Some(carried),
                flags: PathFlags::default(),
            };
            self.origins.insert(prefix, route);
            let table = self.tables.of_mut(family);
            let (slot, ..) = table.put(prefix, table.key(&prefix), path);
            table.list(slot);
        } else {
            self.origins.remove(&prefix);
            let table = self.tables.of_mut(family);
            if let Some(slot) = table.find(&prefix)
                && table.remove(slot, |path| path.peer == PeerId::OWN)
            {
                table.list(slot);
            }
        }
    }

    /// The speaker's own routes.
    pub fn own_routes(&self) -> impl Iterator<Item = (&IpNet, &Origination)> {
        self.origins.iter()
    }

    /// All own addresses: a route that would lead to one of them is not used (RFC 4271 5.1.3).
    pub fn set_own_addresses(&mut self, addresses: BTreeSet<IpAddr>) {
        if self.own_addresses != addresses {
            self.own_addresses = addresses;
            let all: Vec<PeerId> = self.peers.keys().copied().collect();
            for id in all {
                self.import_again(id);
            }
        }
    }

    /// What is known of a next hop. Until it is told, it counts as one that can be reached.
    pub fn set_next_hop(&mut self, address: IpAddr, state: NextHopState) {
        let Some(known) = self.next_hops.get_mut(&address) else {
            return;
        };
        if *known == state {
            return;
        }
        *known = state;
        for family in Family::ALL {
            let table = self.tables.of(family);
            let concerned: Vec<Slot> = table
                .slots()
                .filter(|slot| {
                    let via = |path: &Path| path.used.as_ref().and_then(|used| used.next_hop);
                    let mut paths = table.entry(*slot).paths().iter();
                    paths.any(|path| via(path).is_some_and(|next_hop| next_hop.address == address))
                })
                .collect();
            for slot in concerned {
                self.tables.of_mut(family).list(slot);
            }
        }
    }

    /// The next hops of learned routes.
    pub fn next_hops(&self) -> impl Iterator<Item = (&IpAddr, &NextHopState)> {
        self.next_hops.iter()
    }

    /// What is to be done and known, in order.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// Prefixes whose selection may have changed since the last call, after [`Speaker::settle`].
    pub fn take_changes(&mut self) -> Vec<SelectionChange> {
        std::mem::take(&mut self.changes)
    }

    /// Whether the routes of peers are still waited for after a restart.
    pub const fn is_deferring(&self) -> bool {
        self.deferral.is_some()
    }

    /// Ends all sessions. With a NOTIFICATION peers drop the routes at once; without one those that know graceful
    /// restart keep them.
    pub fn stop(&mut self, notification: Option<&Notification>, now: Time) {
        let all: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in all {
            self.handle(id, Event::Stop(notification.cloned()), now);
        }
    }

    /// Sees to it that [`Speaker::pass`] comes when a peer needs it.
    fn set_timer(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let due = peer.deadline();
        if due == peer.timer {
            return;
        }
        if let Some(time) = peer.timer {
            self.timers.remove(&(time, id));
        }
        peer.timer = due;
        if let Some(time) = due {
            self.timers.insert((time, id));
        }
    }

    fn end_deferral(&mut self) {
        if self.deferral.take().is_some() {
            for peer in self.peers.values_mut() {
                peer.session.restart_is_over();
            }
            self.outputs.push(Output::Converged);
            self.signal_all();
        }
    }

    fn no_longer_waited_for(&mut self, id: PeerId, families: FamilySet) {
        if let Some(deferral) = &mut self.deferral {
            deferral
                .waiting
                .retain(|(waiting, family)| *waiting != id || !families.contains(*family));
            if deferral.waiting.is_empty() && deferral.until.is_some() {
                self.end_deferral();
            }
        }
    }
}
