// SPDX-License-Identifier: Apache-2.0
//! What peers send, on its way into the table: loops, impossible routes, import policy, limits.

use std::{net::IpAddr, rc::Rc, sync::Arc};

use hashbrown::hash_map::Entry;
use ipnet::IpNet;

use super::{Output, Speaker, peer::Peer};
use crate::{
    attributes::Attributes,
    family::{Family, Nlri},
    message::{
        Announcement, NextHop, Notification, Update,
        notification::{cease, code},
    },
    policy::{Policy, Verdict, View},
    rib::{BATCH, Path, PathFlags, PeerId, Put, Shared},
    session::{Event, Time},
};

impl Speaker {
    pub(super) fn take_update(&mut self, id: PeerId, update: Update, now: Time) {
        // One that came with what ended the session comes too late.
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.up.is_some()) else {
            return;
        };
        peer.counters.updates_in += 1;
        peer.counters.withdrawn_in += update.withdrawn.len() as u64;
        if let Some(defect) = update.defects.first() {
            peer.counters.defects += 1;
            self.outputs.push(Output::Defect(id, *defect));
        }
        for family in Family::ALL {
            self.withdraw(id, family, &update.withdrawn);
        }
        let mut attributes = Some(update.attributes);
        let count = update.announced.len();
        for (index, announcement) in update.announced.into_iter().enumerate() {
            // Nearly always there is one.
            let own = if index + 1 == count {
                attributes.take()
            } else {
                attributes.clone()
            };
            self.take_announcement(id, own.unwrap_or_default(), &announcement, now);
        }
        if let Some(family) = update.end_of_rib {
            self.end_of_rib(id, family);
        }
    }

    /// Takes back what of these is of the family.
    fn withdraw(&mut self, id: PeerId, family: Family, withdrawn: &[Nlri]) {
        let is_of = |nlri: &Nlri| Family::of(&nlri.prefix) == family;
        let (mut count, mut count_refused) = (0, 0);
        for part in withdrawn.chunk_by(|one, other| is_of(one) == is_of(other)) {
            if !part.first().is_some_and(is_of) {
                continue;
            }
            for batch in part.chunks(BATCH) {
                let table = self.tables.of_mut(family);
                let keys = table.keys(batch);
                for (key, nlri) in keys.into_iter().zip(batch) {
                    let Some(slot) = table.find_by(key, &nlri.prefix) else {
                        continue;
                    };
                    let number = nlri.path_id.unwrap_or_default();
                    let removed = table.remove(slot, |path| {
                        let gone = path.peer == id && path.number == number;
                        count_refused += usize::from(gone && path.used.is_none());
                        gone
                    });
                    if removed {
                        count += 1;
                        table.list(slot);
                    }
                }
            }
        }
        if let Some(peer) = self.peers.get_mut(&id).filter(|_| count > 0) {
            let state = peer.families.of_mut(family);
            state.received -= count;
            state.refused -= count_refused;
        }
    }

    fn take_announcement(
        &mut self,
        id: PeerId,
        attributes: Attributes,
        announcement: &Announcement,
        now: Time,
    ) {
        let is_up = self.peers.get(&id).is_some_and(|peer| peer.up.is_some());
        let Some(first) = announcement.nlri.first().filter(|_| is_up) else {
            return;
        };
        let family = Family::of(&first.prefix);
        let next_hop = announcement.next_hop;
        let received = self.interner.intern(attributes, Some(next_hop));
        self.learn_next_hop(next_hop.address);
        let mut import = self.importer(id, family, &received);
        let (mut added, mut refused, mut was_refused) = (0, 0, 0);
        let count = announcement.nlri.len();
        for batch in announcement.nlri.chunks(BATCH) {
            let keys = self.tables.of(family).keys(batch);
            for (key, nlri) in keys.into_iter().zip(batch) {
                let used = self.import(&mut import, &nlri.prefix, &received);
                let is_refused = used.is_none();
                let path = Path {
                    peer: id,
                    number: nlri.path_id.unwrap_or_default(),
                    received: Rc::clone(&received),
                    used,
                    flags: PathFlags::default(),
                };
                let table = self.tables.of_mut(family);
                let (slot, put, before) = table.put(nlri.prefix, key, path);
                added += usize::from(put == Put::Added);
                refused += usize::from(is_refused);
                was_refused += usize::from(before);
                if put != Put::Same {
                    table.list(slot);
                }
            }
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.counters.announced_in += count as u64;
        let limit = peer.config.prefix_limit;
        let state = peer.families.of_mut(family);
        state.received += added;
        state.refused = (state.refused + refused).saturating_sub(was_refused);
        if limit.is_some_and(|limit| state.received > limit as usize) {
            self.exceed(id, family, limit.unwrap_or_default(), now);
        }
    }

    /// A peer has sent more than it may (RFC 4486 4): the session ends, and begins again after a pause.
    fn exceed(&mut self, id: PeerId, family: Family, limit: u32, now: Time) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.begin_again = Some(now + peer.config.limit_pause);
        let code = family.code();
        let mut data = code.afi.to_be_bytes().to_vec();
        data.push(code.safi);
        data.extend(limit.to_be_bytes());
        let notification = Notification::new(code::CEASE, cease::MAXIMUM_PREFIXES).with(data);
        self.outputs.push(Output::TooManyPrefixes(id, family));
        self.handle(id, Event::Stop(Some(notification)), now);
    }

    /// A next hop is of interest.
    fn learn_next_hop(&mut self, address: IpAddr) {
        if let Entry::Vacant(place) = self.next_hops.entry(address) {
            place.insert(super::NextHopState::default());
            self.outputs.push(Output::NextHop(address));
        }
    }

    fn importer(&self, id: PeerId, family: Family, received: &Shared) -> Importer {
        let Some(peer) = self.peers.get(&id) else {
            return Importer::Refuse;
        };
        if self.is_looped(peer, received) {
            return Importer::Refuse;
        }
        let external = !peer.is_internal();
        match peer.config.import.of(family) {
            None if external && self.config.policy_required => Importer::Refuse,
            None => Importer::Accept,
            Some(policy) if policy.terms.is_empty() => match policy.otherwise {
                Verdict::Accept => Importer::Accept,
                Verdict::Reject => Importer::Refuse,
            },
            Some(policy) => Importer::Policy(Arc::clone(policy), external),
        }
    }

    /// Whether a route has been here before, or leads here (RFC 4271 9.1.2 and 5.1.3, RFC 4456 8).
    fn is_looped(&self, peer: &Peer, received: &Shared) -> bool {
        let attributes = &received.attributes;
        let own_as = peer.config.session.local_as;
        let cluster = self.config.cluster_id;
        attributes.as_path.count(own_as) > peer.config.own_as_allowed
            || attributes.originator_id == Some(self.config.identifier)
            || cluster.is_some_and(|own| attributes.cluster_list.contains(&own))
            || received
                .next_hop
                .is_some_and(|next_hop| self.leads_here(next_hop))
    }

    fn leads_here(&self, next_hop: NextHop) -> bool {
        self.own_addresses.contains(&next_hop.address)
            || next_hop.address.is_unspecified()
            || next_hop.address.is_multicast()
            || next_hop.address.is_loopback()
    }

    fn import(&mut self, importer: &mut Importer, prefix: &IpNet, received: &Shared) -> Option<Shared> {
        if is_impossible(prefix) {
            return None;
        }
        match importer {
            Importer::Refuse => None,
            Importer::Accept => Some(Rc::clone(received)),
            Importer::Policy(policy, external) => {
                let next_hop = received.next_hop.map(|next_hop| next_hop.address);
                let device = next_hop.and_then(|address| self.next_hops.get(&address)?.device.clone());
                let outcome = policy.evaluate(View {
                    prefix,
                    attributes: &received.attributes,
                    next_hop,
                    class: None,
                    device: device.as_deref(),
                    external: *external,
                });
                match (outcome.verdict, outcome.attributes) {
                    (Verdict::Reject, _) => None,
                    (Verdict::Accept, std::borrow::Cow::Borrowed(_)) => Some(Rc::clone(received)),
                    (Verdict::Accept, std::borrow::Cow::Owned(changed)) => {
                        Some(self.interner.intern(changed, received.next_hop))
                    }
                }
            }
        }
    }

    /// The import policy of a peer has changed: all it has sent is judged again.
    pub(super) fn import_again(&mut self, id: PeerId) {
        for family in Family::ALL {
            let mut refused = 0;
            for slot in self.tables.of(family).slots() {
                let entry = self.tables.of(family).entry(slot);
                let prefix = entry.prefix;
                let count = entry.paths().len();
                for place in 0..count {
                    let path = &self.tables.of(family).entry(slot).paths()[place];
                    if path.peer != id {
                        continue;
                    }
                    let received = Rc::clone(&path.received);
                    let mut importer = self.importer(id, family, &received);
                    let used = self.import(&mut importer, &prefix, &received);
                    refused += usize::from(used.is_none());
                    let path = &mut self.tables.of_mut(family).entry_mut(slot).paths_mut()[place];
                    let is_same = match (&path.used, &used) {
                        (Some(one), Some(other)) => Rc::ptr_eq(one, other),
                        (None, None) => true,
                        _ => false,
                    };
                    path.used = used;
                    if !is_same {
                        self.tables.of_mut(family).list(slot);
                    }
                }
            }
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.families.of_mut(family).refused = refused;
            }
        }
    }
}

/// How the routes of one message are judged.
enum Importer {
    Refuse,
    Accept,
    Policy(Arc<Policy>, bool),
}

/// Prefixes that no route may lead to, whatever a policy says: loopback, multicast, link-local and reserved ones.
fn is_impossible(prefix: &IpNet) -> bool {
    match prefix {
        IpNet::V4(prefix) => {
            let address = prefix.network();
            prefix.prefix_len() > 0
                && (address.is_loopback()
                    || address.octets()[0] >= 224
                    || (address.octets()[0] == 0 && prefix.prefix_len() >= 8))
        }
        IpNet::V6(prefix) => {
            let address = prefix.network();
            let is_single = prefix.prefix_len() == 128 && (address.is_loopback() || address.is_unspecified());
            is_single
                || address.is_multicast()
                || (address.is_unicast_link_local() && prefix.prefix_len() >= 10)
        }
    }
}
