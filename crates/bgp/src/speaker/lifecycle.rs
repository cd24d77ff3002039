// SPDX-License-Identifier: Apache-2.0
//! Peers come, change and go; sessions go up and down; routes of a peer that restarts are kept for a while (RFC 4724).

use super::{
    Output, PeerConfig, Speaker,
    peer::{Owed, Peer},
};
use crate::{
    family::{Family, FamilySet},
    message::{
        GracefulRestart, Notification, RefreshSubtype,
        notification::{cease, code},
    },
    rib::{Path, PathFlags, PeerId},
    session::{Action, ConnectionId, Down, Event, Negotiated, Time},
};

impl Speaker {
    /// Adds a peer or changes one. Policies, limits and next hops change while the session stays; only what was agreed
    /// at its beginning takes a new one. `seed` spreads the timers of the session.
    pub fn set_peer(&mut self, id: PeerId, config: PeerConfig, seed: u64, now: Time) {
        match self.peers.get_mut(&id) {
            None => {
                let offered = config.session.graceful_restart.is_some();
                let families = config.session.families;
                self.peers.insert(id, Peer::new(config, seed));
                let waiting = self.deferral.as_mut().filter(|deferral| deferral.until.is_none());
                if let Some(deferral) = waiting.filter(|_| offered) {
                    deferral
                        .waiting
                        .extend(families.iter().map(|family| (id, family)));
                }
                self.handle(id, Event::Start, now);
            }
            Some(peer) if peer.config == config => {}
            Some(peer) if same_session(&peer.config, &config) => {
                let before = std::mem::replace(&mut peer.config, config);
                let is_new_import = peer.config.import != before.import
                    || peer.config.own_as_allowed != before.own_as_allowed
                    || peer.config.client != before.client;
                if is_new_import {
                    self.import_again(id);
                }
                self.regroup(id);
            }
            Some(peer) => {
                peer.config = config.clone();
                self.end_session(id, cease::CONFIGURATION, now);
                if let Some(peer) = self.peers.get_mut(&id) {
                    let earlier = std::mem::replace(peer, Peer::new(config, seed));
                    peer.counters = earlier.counters;
                    peer.last_down = earlier.last_down;
                    peer.timer = earlier.timer;
                }
                self.handle(id, Event::Start, now);
            }
        }
    }

    /// Removes a peer and what it has sent.
    pub fn remove_peer(&mut self, id: PeerId, now: Time) {
        self.end_session(id, cease::DECONFIGURED, now);
        self.no_longer_waited_for(id, Family::ALL.into_iter().collect());
        if let Some(peer) = self.peers.remove(&id)
            && let Some(time) = peer.timer
        {
            self.timers.remove(&(time, id));
        }
    }

    /// Which peers there are.
    pub fn peer_ids(&self) -> impl Iterator<Item = PeerId> {
        self.peers.keys().copied()
    }

    fn end_session(&mut self, id: PeerId, subcode: u8, now: Time) {
        let notification = Notification::new(code::CEASE, subcode);
        self.handle(id, Event::Stop(Some(notification)), now);
        for family in Family::ALL {
            self.drop_paths(id, family, |_| true);
        }
    }

    pub(super) fn act(&mut self, id: PeerId, action: Action, now: Time) {
        match action {
            Action::Dial => self.outputs.push(Output::Dial(id)),
            Action::CancelDial => self.outputs.push(Output::CancelDial(id)),
            Action::Send(connection, bytes) => self.outputs.push(Output::Send(id, connection, bytes)),
            Action::Close(connection) => self.outputs.push(Output::Close(id, connection)),
            Action::Up(connection, negotiated) => self.come_up(id, connection, negotiated, now),
            Action::Update(update) => self.take_update(id, update, now),
            Action::RouteRefresh(refresh) => {
                let Some(family) = Family::from_code(refresh.family) else {
                    return;
                };
                match refresh.subtype {
                    RefreshSubtype::Request => self.repeat(id, family),
                    RefreshSubtype::Begin => self.mark_paths(id, family, PathFlags::REFRESHING),
                    RefreshSubtype::End => {
                        self.drop_paths(id, family, |path| path.flags.has(PathFlags::REFRESHING));
                    }
                    RefreshSubtype::Unknown(_) => {}
                }
            }
            Action::Down(down) => self.go_down(id, down, now),
            Action::Failed(reason) => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.counters.failures += 1;
                    peer.last_down = Some((now, reason.to_string()));
                }
                self.outputs.push(Output::Failed(id, reason));
            }
        }
    }

    fn come_up(&mut self, id: PeerId, connection: ConnectionId, negotiated: Negotiated, now: Time) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let families = negotiated.encoding.families;
        let kept = preserved(negotiated.peer_restart.as_ref());
        peer.counters.ups += 1;
        peer.identifier = negotiated.identifier;
        peer.up = Some((connection, Box::new(negotiated.clone())));
        peer.up_since = Some(now);
        if peer.stale_until.is_some() {
            peer.stale_until = Some(now + peer.config.stale_limit);
        }
        for family in Family::ALL {
            peer.families.of_mut(family).end_of_rib = false;
        }
        let has_restart = negotiated.peer_restart.is_some();
        self.outputs.push(Output::Up(id, Box::new(negotiated)));
        for family in Family::ALL {
            // What the peer does not claim to have kept is gone (RFC 4724 4.2).
            if !kept.contains(family) || !families.contains(family) {
                self.drop_paths(id, family, |path| path.flags.has(PathFlags::STALE));
            }
        }
        // Who knows no graceful restart does not say when it is done, and those families are not spoken of.
        let silent = Family::ALL
            .into_iter()
            .filter(|family| !families.contains(*family) || !has_restart);
        let silent: FamilySet = silent.collect();
        for family in families.iter() {
            self.join(id, family);
        }
        self.no_longer_waited_for(id, silent);
    }

    fn go_down(&mut self, id: PeerId, down: Down, now: Time) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.counters.downs += 1;
        peer.last_down = Some((now, down.reason.to_string()));
        peer.up_since = None;
        let negotiated = peer.up.take().map(|(_, negotiated)| negotiated);
        let restart = negotiated.and_then(|negotiated| negotiated.peer_restart);
        let kept = restart
            .as_ref()
            .filter(|restart| down.graceful && !restart.time.is_zero());
        peer.stale_until = kept.map(|restart| now + restart.time);
        let families: FamilySet = kept
            .into_iter()
            .flat_map(|restart| &restart.families)
            .filter_map(|family| Family::from_code(family.family))
            .collect();
        for family in Family::ALL {
            self.leave(id, family);
            if families.contains(family) {
                // Those that are stale from an earlier restart stay so: a peer that dies twice in a row comes back, too.
                self.mark_paths(id, family, PathFlags::STALE);
            } else {
                self.drop_paths(id, family, |_| true);
            }
        }
        self.outputs.push(Output::Down(id, down));
    }

    /// A peer has sent all its routes of a family: what it has kept from before and not sent again is gone.
    pub(super) fn end_of_rib(&mut self, id: PeerId, family: Family) {
        self.drop_paths(id, family, |path| path.flags.has(PathFlags::STALE));
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.families.of_mut(family).end_of_rib = true;
            let agreed = peer
                .up
                .as_ref()
                .map(|(_, negotiated)| negotiated.encoding.families);
            let mut agreed = agreed.unwrap_or_default().iter();
            if agreed.all(|family| peer.families.of(family).end_of_rib) {
                peer.stale_until = None;
            }
        }
        self.outputs.push(Output::EndOfRib(id, family));
        self.no_longer_waited_for(id, [family].into_iter().collect());
    }

    pub(super) fn pass_peer(&mut self, id: PeerId, now: Time) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.stale_until.is_some_and(|time| time <= now) {
            peer.stale_until = None;
            for family in Family::ALL {
                self.drop_paths(id, family, |path| path.flags.has(PathFlags::STALE));
            }
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.begin_again.is_some_and(|time| time <= now) {
            peer.begin_again = None;
            self.handle(id, Event::Start, now);
        }
        self.handle(id, Event::Time, now);
    }

    /// Repeats all routes to a peer that asks for them (RFC 2918).
    fn repeat(&mut self, id: PeerId, family: Family) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let marked = peer
            .up
            .as_ref()
            .is_some_and(|(_, agreed)| agreed.enhanced_route_refresh);
        let Some(member) = &mut peer.families.of_mut(family).member else {
            return;
        };
        let Some(group) = self.groups.get(&member.group) else {
            return;
        };
        member.cursor = group.rib.start();
        // An End-of-RIB that is still owed comes first of all, by RFC 7313 4; the repetition then is the first telling.
        if member.owed != Owed::EndOfRib {
            member.owed = if marked { Owed::RefreshBegin } else { Owed::Nothing };
        }
        self.signal(id);
    }

    pub(super) fn mark_paths(&mut self, id: PeerId, family: Family, flag: PathFlags) {
        let table = self.tables.of_mut(family);
        for slot in table.slots() {
            let paths = table.entry_mut(slot).paths_mut().iter_mut();
            for path in paths.filter(|path| path.peer == id) {
                path.flags.set(flag);
            }
        }
    }

    /// Drops paths of a peer.
    pub(super) fn drop_paths(&mut self, id: PeerId, family: Family, gone: impl Fn(&Path) -> bool) {
        let state = self.peers.get(&id).map(|peer| peer.families.of(family).received);
        if state.unwrap_or_default() == 0 {
            return;
        }
        let (mut dropped, mut refused) = (0, 0);
        for slot in self.tables.of(family).slots() {
            let removed = self.tables.of_mut(family).remove(slot, |path| {
                let is_gone = path.peer == id && gone(path);
                dropped += usize::from(is_gone);
                refused += usize::from(is_gone && path.used.is_none());
                is_gone
            });
            if removed {
                self.tables.of_mut(family).list(slot);
            }
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            let state = peer.families.of_mut(family);
            state.received -= dropped;
            state.refused -= refused;
        }
    }
}

/// Whether a session can go on with another configuration.
fn same_session(one: &PeerConfig, other: &PeerConfig) -> bool {
    let same = |one: &PeerConfig| {
        let mut session = one.session.clone();
        // It matters to the next session only.
        if let Some(restart) = &mut session.graceful_restart {
            restart.restarted = false;
        }
        (session, one.address)
    };
    same(one) == same(other)
}

/// The families whose forwarding a peer has kept up.
fn preserved(restart: Option<&GracefulRestart>) -> FamilySet {
    let families = restart.into_iter().flat_map(|restart| &restart.families);
    families
        .filter(|family| family.forwarding)
        .filter_map(|family| Family::from_code(family.family))
        .collect()
}
