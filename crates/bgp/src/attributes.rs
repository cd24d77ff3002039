// SPDX-License-Identifier: Apache-2.0
//! Path attributes as values (RFC 4271 5, and the RFCs named at each): what a route carries besides prefix and next hop.
//! Without wire details; `message` has those.

use std::{fmt, net::Ipv4Addr};

/// The attributes of a route, next hop excepted. Immutable once built, so that many routes share one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// ORIGIN.
    pub origin: Origin,
    /// AS_PATH, with AS4_PATH merged in.
    pub as_path: AsPath,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE.
    pub atomic_aggregate: bool,
    /// AGGREGATOR: AS number and address.
    pub aggregator: Option<(u32, Ipv4Addr)>,
    /// COMMUNITIES (RFC 1997), ascending, each once.
    pub communities: Vec<Community>,
    /// LARGE_COMMUNITY (RFC 8092), ascending, each once.
    pub large_communities: Vec<LargeCommunity>,
    /// EXTENDED COMMUNITIES (RFC 4360) as they are, ascending, each once.
    pub extended_communities: Vec<[u8; 8]>,
    /// ORIGINATOR_ID (RFC 4456).
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST (RFC 4456), the latest reflector first.
    pub cluster_list: Vec<Ipv4Addr>,
    /// Optional transitive attributes that this speaker does not know, by type; they are passed on.
    pub unknown: Vec<UnknownAttribute>,
}

/// Where a route came from, best first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// From inside the originating AS.
    #[default]
    Igp,
    /// From EGP.
    Egp,
    /// By other means.
    Incomplete,
}

/// An attribute that is passed on unread.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnknownAttribute {
    /// Type code.
    pub kind: u8,
    /// Value.
    pub value: Vec<u8>,
}

/// A community: high and low half of it, as written (RFC 1997).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Community(pub u32);

impl Community {
    /// Not to be announced outside the AS (confederations are not known here).
    pub const NO_EXPORT: Self = Self(0xffff_ff01);
    /// Not to be announced at all.
    pub const NO_ADVERTISE: Self = Self(0xffff_ff02);
    /// Not to be announced to eBGP peers.
    pub const NO_EXPORT_SUBCONFED: Self = Self(0xffff_ff03);

    /// From its two halves.
    pub const fn new(high: u16, low: u16) -> Self {
        Self((high as u32) << 16 | low as u32)
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff)
    }
}

impl fmt::Debug for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A large community: global administrator and two parts of local meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LargeCommunity(pub [u32; 3]);

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [administrator, first, second] = self.0;
        write!(f, "{administrator}:{first}:{second}")
    }
}

/// AS_PATH: the latest AS first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AsPath {
    segments: Vec<Segment>,
}

/// A segment of an AS_PATH; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Segment {
    /// How its AS numbers belong together.
    pub kind: SegmentKind,
    /// At least one.
    pub numbers: Vec<u32>,
}

/// Kind of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SegmentKind {
    /// Unordered, of an aggregate (deprecated by RFC 9774).
    Set,
    /// Ordered.
    Sequence,
}

/// Longest segment: its length has one octet.
const MAX_SEGMENT: usize = 255;

impl AsPath {
    /// Of segments; empty ones are left out.
    pub fn new(segments: Vec<Segment>) -> Self {
        let mut segments = segments;
        segments.retain(|segment| !segment.numbers.is_empty());
        Self { segments }
    }

    /// A path of one sequence.
    pub fn sequence(numbers: impl Into<Vec<u32>>) -> Self {
        Self::new(vec![Segment {
            kind: SegmentKind::Sequence,
            numbers: numbers.into(),
        }])
    }

    /// Its segments.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether the route is from the own AS.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Its length for the decision process: a set counts as one (RFC 4271 9.1.2.2).
    pub fn length(&self) -> usize {
        let count = |segment: &Segment| match segment.kind {
            SegmentKind::Set => 1,
            SegmentKind::Sequence => segment.numbers.len(),
        };
        self.segments.iter().map(count).sum()
    }

    /// The AS the route was received from: the first of a leading sequence.
    pub fn neighbour(&self) -> Option<u32> {
        let first = self.segments.first()?;
        (first.kind == SegmentKind::Sequence)
            .then(|| first.numbers.first().copied())
            .flatten()
    }

    /// Every AS number, in order.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        self.segments
            .iter()
            .flat_map(|segment| segment.numbers.iter().copied())
    }

    /// How often an AS is in it.
    pub fn count(&self, number: u32) -> usize {
        self.numbers().filter(|found| *found == number).count()
    }

    /// Whether there is a set in it.
    pub fn has_set(&self) -> bool {
        self.segments
            .iter()
            .any(|segment| segment.kind == SegmentKind::Set)
    }

    /// Puts AS numbers before it, the first of them first.
    pub fn prepend(&mut self, numbers: &[u32]) {
        for number in numbers.iter().rev() {
            match self.segments.first_mut() {
                Some(first) if first.kind == SegmentKind::Sequence && first.numbers.len() < MAX_SEGMENT => {
                    first.numbers.insert(0, *number);
                }
                _ => self.segments.insert(
                    0,
                    Segment {
                        kind: SegmentKind::Sequence,
                        numbers: vec![*number],
                    },
                ),
            }
        }
    }
}

impl fmt::Display for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.segments.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            let numbers: Vec<String> = segment.numbers.iter().map(u32::to_string).collect();
            match segment.kind {
                SegmentKind::Sequence => f.write_str(&numbers.join(" "))?,
                SegmentKind::Set => write!(f, "{{{}}}", numbers.join(","))?,
            }
        }
        Ok(())
    }
}
