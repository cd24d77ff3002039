// SPDX-License-Identifier: Apache-2.0
//! What is announced to whom: peers that are told the same form a group; for each group the export policy is evaluated
//! once, and messages are made once.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
    rc::Rc,
};

use ipnet::IpNet;

use super::{
    NextHopMode, Output, Speaker,
    out_rib::{GroupKey, MAX_PATHS, OutRib, Outgoing, Told},
    peer::{Member, Owed, Peer},
};
use crate::{
    attributes::{Attributes, Community},
    best_path::DEFAULT_LOCAL_PREF,
    family::{Family, FamilySet, Nlri},
    message::{EncodedAttributes, NextHop, RefreshSubtype, RouteRefresh, end_of_rib},
    policy::{Verdict, View},
    rib::{Path, PeerId, Shared, Slot},
    session::ConnectionId,
};

/// Peers that are told the same.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) key: GroupKey,
    members: BTreeSet<PeerId>,
    pub(super) rib: OutRib,
    /// What attributes have become, by where they are and whom they came from.
    made: HashMap<(usize, Option<PeerId>), Rc<Outgoing>>,
    sweep_at: usize,
}

impl Group {
    /// What was made before is made anew.
    pub(super) fn forget_made(&mut self) {
        self.made.clear();
    }
}

/// Whether a route may go to a group.
enum Passage {
    Closed,
    Open,
    /// As a reflector does it, with the identifier of whoever brought it into the AS.
    Reflected(Ipv4Addr),
}

/// Before so many are kept, unused ones are not looked for.
const FIRST_SWEEP: usize = 1024;

impl Speaker {
    /// A peer is told of a family from now on.
    pub(super) fn join(&mut self, id: PeerId, family: Family) {
        let Some(key) = self.peers.get(&id).and_then(|peer| group_key(peer, family)) else {
            return;
        };
        let known = self.groups.iter().find(|(_, group)| group.key == key);
        let number = if let Some((number, _)) = known {
            *number
        } else {
            self.next_group += 1;
            let group = Group {
                key,
                members: BTreeSet::new(),
                rib: OutRib::default(),
                made: HashMap::new(),
                sweep_at: FIRST_SWEEP,
            };
            self.groups.insert(self.next_group, group);
            self.next_group
        };
        let Some(group) = self.groups.get_mut(&number) else {
            return;
        };
        group.members.insert(id);
        // What one peer has sent itself is not kept for a group of this peer alone: with one more it has to be.
        if group.members.len() <= 2 {
            let table = self.tables.of(family);
            let has_paths = |slot: &Slot| !table.entry(*slot).paths().is_empty();
            let all: Vec<Slot> = table.slots().filter(has_paths).collect();
            if self.export_to(number, family, &all) {
                self.signal_members(number);
            }
        }
        let Some(group) = self.groups.get(&number) else {
            return;
        };
        let cursor = group.rib.start();
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.families.of_mut(family).member = Some(Member {
                group: number,
                cursor,
                owed: Owed::EndOfRib,
            });
        }
        self.signal(id);
    }

    /// A peer is told no more of a family.
    pub(super) fn leave(&mut self, id: PeerId, family: Family) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.signalled = false;
        let Some(member) = peer.families.of_mut(family).member.take() else {
            return;
        };
        if let Some(group) = self.groups.get_mut(&member.group) {
            group.members.remove(&id);
            if group.members.is_empty() {
                self.groups.remove(&member.group);
            }
        }
    }

    /// What is to be announced to a peer has changed: it may belong to another group now, and is told the difference.
    pub(super) fn regroup(&mut self, id: PeerId) {
        for family in Family::ALL {
            let Some(peer) = self.peers.get(&id) else { return };
            let Some(member) = &peer.families.of(family).member else {
                continue;
            };
            let before = member.group;
            let owed = member.owed;
            let key = group_key(peer, family);
            if key.as_ref() == self.groups.get(&before).map(|group| &group.key) {
                continue;
            }
            let told: Vec<Nlri> = self
                .groups
                .get(&before)
                .map(|group| group.rib.routes().map(|(nlri, ..)| *nlri).collect())
                .unwrap_or_default();
            self.leave(id, family);
            self.join(id, family);
            let Some(peer) = self.peers.get_mut(&id) else {
                return;
            };
            let Some((connection, agreed)) = &peer.up else {
                continue;
            };
            let Some(member) = &mut peer.families.of_mut(family).member else {
                continue;
            };
            member.owed = owed;
            let group = self.groups.get(&member.group);
            let gone: Vec<Nlri> = told
                .into_iter()
                .filter(|nlri| group.is_none_or(|group| !group.rib.has(nlri)))
                .collect();
            let messages = crate::message::withdraw(&gone, agreed.encoding).concat();
            if !messages.is_empty() {
                self.outputs.push(Output::Send(id, *connection, messages));
            }
        }
    }

    /// Announces to every group what has changed.
    pub(super) fn export(&mut self, family: Family, listed: &[Slot]) {
        if listed.is_empty() {
            return;
        }
        let groups: Vec<u32> = self
            .groups
            .iter()
            .filter(|(_, group)| group.key.family == family)
            .map(|(number, _)| *number)
            .collect();
        for number in groups {
            if self.export_to(number, family, listed) {
                self.signal_members(number);
            }
        }
    }

    fn signal_members(&mut self, number: u32) {
        let members = self.groups.get(&number).map(|group| group.members.clone());
        for id in members.unwrap_or_default() {
            self.signal(id);
        }
    }

    /// Whether there is news for the group.
    fn export_to(&mut self, number: u32, family: Family, listed: &[Slot]) -> bool {
        let Some(mut group) = self.groups.remove(&number) else {
            return false;
        };
        let mut news = false;
        let tells_several = group.key.encoding.add_path_send.contains(family);
        // Nothing goes back to where it came from.
        let only = group
            .members
            .first()
            .filter(|_| group.members.len() == 1)
            .copied();
        for slot in listed {
            if tells_several {
                let prefix = self.tables.of(family).entry(*slot).prefix;
                let wanted = self.outgoing_paths(&mut group, family, *slot);
                // Who becomes a client, or no longer is one, has another group.
                let limit = if group.key.client { MAX_PATHS } else { 1 };
                news |= group.rib.set_all(prefix, wanted, limit);
                continue;
            }
            let entry = self.tables.of(family).entry(*slot);
            let prefix = entry.prefix;
            let best = entry.best().filter(|best| Some(best.peer) != only);
            if best.is_none() && group.rib.is_empty() {
                continue;
            }
            let best = best.cloned();
            let wanted = best.and_then(|best| self.outgoing(&mut group, prefix, &best));
            if wanted.is_some() || !group.rib.is_empty() {
                news |= group.rib.set(Nlri::from(prefix), wanted);
            }
        }
        if group.made.len() > group.sweep_at {
            group.made.retain(|_, made| Rc::strong_count(made) > 1);
            group.sweep_at = FIRST_SWEEP.max(group.made.len() * 2);
        }
        let members = &group.members;
        let cursors = self
            .peers
            .iter_mut()
            .filter(|(id, _)| members.contains(id))
            .filter_map(|(_, peer)| peer.families.of_mut(family).member.as_mut())
            .filter(|member| member.group == number)
            .map(|member| &mut member.cursor);
        group.rib.compact(cursors);
        self.groups.insert(number, group);
        news
    }

    /// What a group is to be told of a prefix where it is told several paths (RFC 7911): all that can be used, the best
    /// first. Peers for which nothing is reflected need no second path; what has an identifier has the same for them.
    fn outgoing_paths(&mut self, group: &mut Group, family: Family, slot: Slot) -> Vec<Told> {
        let reflects = group.key.client && self.config.cluster_id.is_some();
        let limit = if reflects { MAX_PATHS } else { 1 };
        let prefix = self.tables.of(family).entry(slot).prefix;
        let mut told: Vec<Told> = Vec::new();
        for path in self.usable(family, slot) {
            let next = self.outgoing(group, prefix, &path);
            // Of one path that has come by several reflectors, the one that has come the shortest way will do.
            let known = |next: &Told| told.iter().any(|known| is_same_way(&known.route, &next.route));
            let next = next.filter(|next| !known(next));
            told.extend(next);
            // The best is all there is to be told even if it may not be told.
            if told.len() == limit || !reflects {
                break;
            }
        }
        told
    }

    /// What a group is to be told of a path; `None`: it is not to hear of it.
    fn outgoing(&mut self, group: &mut Group, prefix: IpNet, path: &Path) -> Option<Told> {
        let source = path.peer;
        let used = Rc::clone(path.used.as_ref()?);
        let told = |route: Rc<Outgoing>| Told {
            route,
            source,
            number: path.number,
        };
        if group.members.len() == 1 && group.members.contains(&source) {
            return None;
        }
        let reflection = match self.passage(group, source, &used) {
            Passage::Closed => return None,
            Passage::Open => None,
            Passage::Reflected(originator) => Some(originator),
        };
        let origin = self.origins.get(&prefix).filter(|_| source == PeerId::OWN);
        let via = used
            .next_hop
            .and_then(|next_hop| self.next_hops.get(&next_hop.address));
        let device = match origin {
            Some(origin) => origin.device.clone(),
            None => via.and_then(|state| state.device.clone()),
        };
        let class = origin.map(|origin| origin.class);
        let external = !group.key.encoding.internal;
        let carried = match &group.key.policy {
            None if external && self.config.policy_required => return None,
            None => used,
            Some(policy) => {
                let outcome = policy.evaluate(View {
                    prefix: &prefix,
                    attributes: &used.attributes,
                    next_hop: used.next_hop.map(|next_hop| next_hop.address),
                    class,
                    device: device.as_deref(),
                    external,
                });
                match (outcome.verdict, outcome.attributes) {
                    (Verdict::Reject, _) => return None,
                    (Verdict::Accept, Cow::Borrowed(_)) => used,
                    (Verdict::Accept, Cow::Owned(changed)) => self.interner.intern(changed, used.next_hop),
                }
            }
        };
        let key = (Rc::as_ptr(&carried) as usize, reflection.map(|_| source));
        if let Some(made) = group.made.get(&key) {
            return Some(told(Rc::clone(made)));
        }
        let made = Rc::new(make(&group.key, carried, reflection, self.config.cluster_id));
        group.made.insert(key, Rc::clone(&made));
        Some(told(made))
    }

    /// Whether a route may go to a group at all (RFC 4271 9.2.1, RFC 1997, RFC 4456 6).
    fn passage(&self, group: &Group, source: PeerId, used: &Shared) -> Passage {
        let communities = &used.attributes.communities;
        let internal = group.key.encoding.internal;
        let has = |community: Community| communities.binary_search(&community).is_ok();
        let stays = has(Community::NO_EXPORT) || has(Community::NO_EXPORT_SUBCONFED);
        if has(Community::NO_ADVERTISE) || (stays && !internal) {
            return Passage::Closed;
        }
        let from = self
            .peers
            .get(&source)
            .filter(|_| source != PeerId::OWN && internal);
        match from {
            Some(from) if from.is_internal() => {
                let reflects = self.config.cluster_id.is_some() && (from.config.client || group.key.client);
                if reflects {
                    Passage::Reflected(from.identifier)
                } else {
                    Passage::Closed
                }
            }
            _ => Passage::Open,
        }
    }

    /// Tells the owner that something waits for a peer.
    pub(super) fn signal(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(&id)
            && let Some((connection, _)) = &peer.up
            && !std::mem::replace(&mut peer.signalled, true)
        {
            self.outputs.push(Output::Ready(id, *connection));
        }
    }

    pub(super) fn signal_all(&mut self) {
        let all: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in all {
            self.signal(id);
        }
    }

    /// Takes messages with routes for a peer, about as many bytes as there is room for. `None` once there is nothing
    /// more; [`Output::Ready`] comes when there is again. To be called after [`Speaker::settle`].
    pub fn take_routes(&mut self, id: PeerId, room: usize) -> Option<(ConnectionId, Vec<u8>)> {
        let is_complete = self.deferral.is_none();
        let reflects = self.config.cluster_id.is_some();
        let peer = self.peers.get_mut(&id)?;
        let (connection, agreed) = peer.up.as_ref()?;
        let (connection, encoding) = (*connection, agreed.encoding);
        let mut out = Vec::new();
        let mut is_done = true;
        for family in encoding.families.iter() {
            let Some(member) = &mut peer.families.of_mut(family).member else {
                continue;
            };
            let Some(group) = self.groups.get_mut(&member.group) else {
                continue;
            };
            let refresh = |subtype| {
                let family = family.code();
                RouteRefresh { family, subtype }.to_bytes()
            };
            if member.owed == Owed::RefreshBegin {
                out.extend(refresh(RefreshSubtype::Begin));
                member.owed = Owed::RefreshEnd;
            }
            while out.len() < room && group.rib.has_news(member.cursor) {
                let announced = group
                    .rib
                    .next(&mut member.cursor, id, group.key.encoding, &mut out);
                peer.counters.announced_out += announced as u64;
            }
            if group.rib.has_news(member.cursor) {
                is_done = false;
                break;
            }
            match member.owed {
                // A reflector is complete only when it has heard everybody.
                Owed::EndOfRib if is_complete || !reflects => {
                    out.extend(end_of_rib(family));
                    member.owed = Owed::Nothing;
                }
                Owed::RefreshEnd => {
                    out.extend(refresh(RefreshSubtype::End));
                    member.owed = Owed::Nothing;
                }
                Owed::Nothing | Owed::RefreshBegin | Owed::EndOfRib => {}
            }
        }
        peer.signalled = !is_done;
        peer.counters.bytes_out += out.len() as u64;
        (!out.is_empty()).then_some((connection, out))
    }
}

/// Whether two routes are one path that has gone through different reflectors.
fn is_same_way(one: &Outgoing, other: &Outgoing) -> bool {
    one.next_hop == other.next_hop && {
        let mut attributes = other.attributes.clone();
        attributes.cluster_list.clone_from(&one.attributes.cluster_list);
        one.attributes == attributes
    }
}

/// What sets a peer's group apart.
fn group_key(peer: &Peer, family: Family) -> Option<GroupKey> {
    let (_, agreed) = peer.up.as_ref()?;
    let mut encoding = agreed.encoding;
    // What matters for sending only.
    encoding.add_path_receive = FamilySet::EMPTY;
    Some(GroupKey {
        family,
        encoding,
        local_as: peer.config.session.local_as,
        client: peer.config.client,
        next_hop: peer.config.next_hop,
        own_address: peer.own_address(family)?,
        policy: peer.config.export.of(family).cloned(),
    })
}

/// A route as a group is told it.
fn make(
    key: &GroupKey,
    carried: Shared,
    reflected: Option<Ipv4Addr>,
    cluster_id: Option<Ipv4Addr>,
) -> Outgoing {
    let mut attributes: Attributes = carried.attributes.clone();
    let is_own = carried.next_hop.is_none();
    let internal = key.encoding.internal;
    if internal {
        attributes.local_pref.get_or_insert(DEFAULT_LOCAL_PREF);
        if let Some(originator) = reflected {
            attributes.originator_id.get_or_insert(originator);
            attributes.cluster_list.splice(0..0, cluster_id);
        }
    } else {
        attributes.as_path.prepend(&[key.local_as]);
        attributes.local_pref = None;
        attributes.originator_id = None;
        attributes.cluster_list.clear();
        if !is_own {
            // It was meant for this AS (RFC 4271 5.1.4).
            attributes.med = None;
        }
    }
    let own = NextHop::from(key.own_address);
    let next_hop = match (carried.next_hop, key.next_hop) {
        (Some(next_hop), NextHopMode::Keep) => next_hop,
        (Some(next_hop), NextHopMode::Auto) if internal => next_hop,
        _ => own,
    };
    Outgoing {
        encoded: EncodedAttributes::new(&attributes, key.encoding),
        attributes,
        next_hop,
        made_from: carried,
    }
}
