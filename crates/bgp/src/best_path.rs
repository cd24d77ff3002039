// SPDX-License-Identifier: Apache-2.0
//! Which of several paths to a prefix is used (RFC 4271 9.1.2, RFC 4456 9): one pure function. In this order a path is
//! better that
//!
//! 1. has a next hop that can be reached;
//! 2. is not stale, kept over the restart of a peer only by long-lived graceful restart (RFC 9494 4.3);
//! 3. has the higher LOCAL_PREF, 100 where there is none;
//! 4. is of this speaker's own making;
//! 5. has the shorter AS_PATH;
//! 6. has the better ORIGIN;
//! 7. has the lower MED among those from the same neighbouring AS, 0 where there is none;
//! 8. is from an external peer;
//! 9. has the lower cost to its next hop;
//! 10. comes from the router with the lower identifier: ORIGINATOR_ID, else the peer's;
//! 11. has the shorter CLUSTER_LIST;
//! 12. is from the peer with the lower address, and of several from one peer has the lower path identifier.
//!
//! Paths that are equal up to 9 can share the traffic. MED makes "better" no order: a path can beat a second, that a
//! third, and the third the first. So the best from each neighbouring AS are found first and then compared without MED,
//! which gives the same answer whatever the order of arrival.

use std::{
    cmp::{Ordering, Reverse},
    net::{IpAddr, Ipv4Addr},
    ops::Deref,
};

use crate::attributes::{Attributes, Origin};

/// LOCAL_PREF of a path without (RFC 4271 leaves it to the speaker; 100 is what others use).
pub const DEFAULT_LOCAL_PREF: u32 = 100;

/// A path to a prefix, with what is known of whoever it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<A> {
    /// Its attributes, owned or borrowed.
    pub attributes: A,
    /// Where it came from.
    pub source: Source,
    /// Cost to its next hop; `None` if that cannot be reached.
    pub cost: Option<u32>,
    /// Kept by long-lived graceful restart only.
    pub long_stale: bool,
}

/// Where a path came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// This speaker.
    Own,
    /// A peer.
    Peer {
        /// Whether it is in the own AS.
        internal: bool,
        /// Its BGP identifier.
        identifier: Ipv4Addr,
        /// Its address.
        address: IpAddr,
        /// Identifier of the path, where the peer sends several.
        path_id: Option<u32>,
    },
}

/// What was chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The best path, by its place; `None` if none has a next hop that can be reached.
    pub best: Option<usize>,
    /// The paths that share the traffic with it, itself among them, in the order of their places.
    pub multipath: Vec<usize>,
}

/// Chooses among the paths to one prefix; at most `limit` of them share the traffic.
pub fn select<A: Deref<Target = Attributes>>(candidates: &[Candidate<A>], limit: usize) -> Selection {
    let usable: Vec<usize> = (0..candidates.len())
        .filter(|place| candidates[*place].cost.is_some())
        .collect();
    let beaten_by_med = |place: usize| {
        let this = &candidates[place];
        usable.iter().any(|other| {
            let other = &candidates[*other];
            same_neighbour(other, this)
                && before_med(other)
                    .cmp(&before_med(this))
                    .then_with(|| med(other).cmp(&med(this)))
                    == Ordering::Less
        })
    };
    let contenders: Vec<usize> = usable
        .iter()
        .copied()
        .filter(|place| !beaten_by_med(*place))
        .collect();
    let rank = |place: usize| (before_med(&candidates[place]), after_med(&candidates[place]));
    let tie = |place: usize| tie_break(&candidates[place]);
    let best = (contenders.iter().copied()).min_by(|one, other| {
        rank(*one)
            .cmp(&rank(*other))
            .then_with(|| tie(*one).cmp(&tie(*other)))
    });
    let Some(best) = best else {
        return Selection::default();
    };
    let mut sharing: Vec<usize> = contenders
        .into_iter()
        .filter(|place| rank(*place) == rank(best))
        .collect();
    // Where there are too many, those stay that would win.
    sharing.sort_by_key(|place| tie(*place));
    sharing.truncate(limit.max(1));
    sharing.sort_unstable();
    Selection {
        best: Some(best),
        multipath: sharing,
    }
}

/// The paths whose next hop can be reached: the best, then the others from better to worse. MED, which is no order, counts
/// for the best only.
pub fn order<A: Deref<Target = Attributes>>(candidates: &[Candidate<A>]) -> Vec<usize> {
    let best = select(candidates, 1).best;
    let mut usable: Vec<usize> = (0..candidates.len())
        .filter(|place| candidates[*place].cost.is_some())
        .collect();
    usable.sort_by_key(|place| {
        let this = &candidates[*place];
        (
            best != Some(*place),
            before_med(this),
            after_med(this),
            tie_break(this),
        )
    });
    usable
}

/// Steps 2 to 6; the least is the best.
fn before_med<A: Deref<Target = Attributes>>(
    candidate: &Candidate<A>,
) -> (bool, Reverse<u32>, bool, usize, Origin) {
    let attributes = &candidate.attributes;
    (
        candidate.long_stale,
        Reverse(attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF)),
        candidate.source != Source::Own,
        attributes.as_path.length(),
        attributes.origin,
    )
}

fn med<A: Deref<Target = Attributes>>(candidate: &Candidate<A>) -> u32 {
    candidate.attributes.med.unwrap_or_default()
}

/// Whether the MEDs of two paths mean the same.
fn same_neighbour<A: Deref<Target = Attributes>>(one: &Candidate<A>, other: &Candidate<A>) -> bool {
    one.attributes.as_path.neighbour() == other.attributes.as_path.neighbour()
}

/// Steps 8 and 9.
fn after_med<A: Deref<Target = Attributes>>(candidate: &Candidate<A>) -> (bool, u32) {
    let internal = matches!(candidate.source, Source::Peer { internal: true, .. });
    (internal, candidate.cost.unwrap_or(u32::MAX))
}

/// Steps 10 to 12; equal for one path only.
fn tie_break<A: Deref<Target = Attributes>>(
    candidate: &Candidate<A>,
) -> (Ipv4Addr, usize, Option<IpAddr>, Option<u32>) {
    let Attributes {
        originator_id,
        cluster_list,
        ..
    } = &*candidate.attributes;
    match candidate.source {
        Source::Own => (Ipv4Addr::UNSPECIFIED, 0, None, None),
        Source::Peer {
            identifier,
            address,
            path_id,
            ..
        } => (
            originator_id.unwrap_or(identifier),
            cluster_list.len(),
            Some(address),
            path_id,
        ),
    }
}

#[cfg(test)]
mod tests;
