// SPDX-License-Identifier: Apache-2.0
//! Policy: which routes pass between the speaker and a peer, and with what changes. A policy is an ordered list of terms;
//! the first whose conditions all hold and that has a verdict decides. A term without a verdict changes the route and
//! lets the later ones go on.

use std::{borrow::Cow, fmt, net::IpAddr};

use ipnet::IpNet;

use crate::{
    attributes::{Attributes, Community, LargeCommunity},
    best_path::DEFAULT_LOCAL_PREF,
};

/// An ordered list of terms and what becomes of a route that none of them decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// In order.
    pub terms: Vec<Term>,
    /// For a route that no term decides.
    pub otherwise: Verdict,
}

impl Policy {
    /// Every route passes as it is.
    pub const ACCEPT: Self = Self {
        terms: Vec::new(),
        otherwise: Verdict::Accept,
    };
    /// No route passes.
    pub const REJECT: Self = Self {
        terms: Vec::new(),
        otherwise: Verdict::Reject,
    };
}

/// One step of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// What it is for, as an operator is told it.
    pub name: String,
    /// All of them have to hold.
    pub conditions: Vec<Condition>,
    /// Made in order where the conditions hold.
    pub changes: Vec<Change>,
    /// The end of the evaluation; `None` goes on with the next term.
    pub verdict: Option<Verdict>,
}

/// Whether a route passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It does.
    Accept,
    /// It does not.
    Reject,
}

/// Something about a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Its prefix is in one of the ranges.
    PrefixIn(Vec<PrefixRange>),
    /// Its prefix is in none of the ranges.
    PrefixNotIn(Vec<PrefixRange>),
    /// It was learned from a peer.
    Learned,
    /// It is the speaker's own, of one of these classes; what a class means is its maker's business.
    Class(Vec<u32>),
    /// Its device's name matches; a route without a device does not.
    Device(Glob),
    /// The peer that it goes to or comes from is in another AS.
    External(bool),
    /// It carries the community.
    Community(Community),
    /// It carries the large community.
    LargeCommunity(LargeCommunity),
    /// Its AS_PATH begins with these numbers.
    AsPathStart(Vec<u32>),
    /// It has this LOCAL_PREF; one without has none.
    LocalPref(u32),
}

/// Prefixes inside a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PrefixRange {
    /// The outer one.
    pub prefix: IpNet,
    /// Shortest length.
    pub min: u8,
    /// Longest length.
    pub max: u8,
}

impl PrefixRange {
    /// Only this prefix.
    pub fn exactly(prefix: IpNet) -> Self {
        let length = prefix.prefix_len();
        Self {
            prefix,
            min: length,
            max: length,
        }
    }

    /// This prefix and every one inside it.
    pub fn within(prefix: IpNet) -> Self {
        Self {
            prefix,
            min: prefix.prefix_len(),
            max: prefix.max_prefix_len(),
        }
    }

    fn holds(&self, prefix: &IpNet) -> bool {
        (self.min..=self.max).contains(&prefix.prefix_len()) && self.prefix.contains(prefix)
    }
}

/// A name with `*` for any characters and `?` for one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Glob(pub String);

impl Glob {
    /// Whether a name matches.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut at, mut read) = (0, 0);
        // Where to go on if the latest `*` has to take one character more.
        let mut again: Option<(usize, usize)> = None;
        while read < name.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    again = Some((at, read));
                    at += 1;
                }
                Some(character) if *character == b'?' || *character == name[read] => {
                    at += 1;
                    read += 1;
                }
                _ => {
                    let Some((star, taken)) = again else { return false };
                    again = Some((star, taken + 1));
                    at = star + 1;
                    read = taken + 1;
                }
            }
        }
        pattern[at..].iter().all(|character| *character == b'*')
    }
}

/// A change of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// Adds a community.
    AddCommunity(Community),
    /// Adds a large community.
    AddLargeCommunity(LargeCommunity),
    /// Puts AS numbers before the path, the first of them first.
    Prepend(Vec<u32>),
    /// Sets LOCAL_PREF.
    SetLocalPref(u32),
}

impl Change {
    fn apply(&self, attributes: &mut Attributes) {
        match self {
            Self::AddCommunity(community) => insert(&mut attributes.communities, *community),
            Self::AddLargeCommunity(community) => insert(&mut attributes.large_communities, *community),
            Self::Prepend(numbers) => attributes.as_path.prepend(numbers),
            Self::SetLocalPref(value) => attributes.local_pref = Some(*value),
        }
    }
}

/// Into a list that is ascending, without a second of the same.
fn insert<T: Ord>(list: &mut Vec<T>, item: T) {
    if let Err(at) = list.binary_search(&item) {
        list.insert(at, item);
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
        })
    }
}

/// A route as a policy sees it.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Its prefix.
    pub prefix: &'a IpNet,
    /// Its attributes.
    pub attributes: &'a Attributes,
    /// Its next hop; `None` for own ones.
    pub next_hop: Option<IpAddr>,
    /// Class of an own route; `None` for a learned one.
    pub class: Option<u32>,
    /// The device that it leads to, where known.
    pub device: Option<&'a str>,
    /// The peer is in another AS.
    pub external: bool,
}

/// What a policy makes of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// Whether it passes.
    pub verdict: Verdict,
    /// Its attributes, changed or as they were.
    pub attributes: Cow<'a, Attributes>,
    /// The term that has decided; `None`: none did.
    pub decided_by: Option<usize>,
}

impl Policy {
    /// Evaluates a route.
    pub fn evaluate<'a>(&self, route: View<'a>) -> Outcome<'a> {
        let mut attributes = Cow::Borrowed(route.attributes);
        for (place, term) in self.terms.iter().enumerate() {
            if !(term.conditions.iter()).all(|condition| condition.holds(&route, &attributes)) {
                continue;
            }
            if !term.changes.is_empty() && term.verdict != Some(Verdict::Reject) {
                let changed = attributes.to_mut();
                term.changes.iter().for_each(|change| change.apply(changed));
            }
            if let Some(verdict) = term.verdict {
                return Outcome {
                    verdict,
                    attributes,
                    decided_by: Some(place),
                };
            }
        }
        Outcome {
            verdict: self.otherwise,
            attributes,
            decided_by: None,
        }
    }
}

impl Condition {
    fn holds(&self, route: &View<'_>, attributes: &Attributes) -> bool {
        match self {
            Self::PrefixIn(ranges) => ranges.iter().any(|range| range.holds(route.prefix)),
            Self::PrefixNotIn(ranges) => !ranges.iter().any(|range| range.holds(route.prefix)),
            Self::Learned => route.class.is_none(),
            Self::Class(classes) => route.class.is_some_and(|class| classes.contains(&class)),
            Self::Device(glob) => route.device.is_some_and(|device| glob.matches(device)),
            Self::External(external) => route.external == *external,
            Self::Community(community) => attributes.communities.contains(community),
            Self::LargeCommunity(community) => attributes.large_communities.contains(community),
            Self::AsPathStart(numbers) => {
                let mut path = attributes.as_path.numbers();
                numbers.iter().all(|number| path.next() == Some(*number))
            }
            Self::LocalPref(value) => attributes.local_pref == Some(*value),
        }
    }
}

/// LOCAL_PREF of a route as it is compared.
pub fn effective_local_pref(attributes: &Attributes) -> u32 {
    attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF)
}

#[cfg(test)]
mod tests;
