// SPDX-License-Identifier: Apache-2.0
//! Reading path attributes, with the error handling of RFC 7606: what a defect costs depends on the attribute.
//!
//! | defect | consequence |
//! |---|---|
//! | prefixes of MP_REACH_NLRI or MP_UNREACH_NLRI, or its next hop, do not parse; either of them twice | the session ends |
//! | a well-known attribute that is not known | the session ends |
//! | ORIGIN, AS_PATH, NEXT_HOP, MED, LOCAL_PREF, any communities, ORIGINATOR_ID, CLUSTER_LIST malformed; flags wrong; the list does not parse | the routes count as withdrawn |
//! | ATOMIC_AGGREGATE, AGGREGATOR, AS4_PATH, AS4_AGGREGATOR malformed; another attribute twice | the attribute is left out |
//! | LOCAL_PREF, ORIGINATOR_ID, CLUSTER_LIST of an external peer | the attribute is left out |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    announcement::{Announcement, NextHop},
    defect::{Consequence, Defect},
    encoding::Encoding,
    nlri,
    notification::{Notification, code, update},
    open::AS_TRANS,
    reader::Reader,
};
use crate::{
    attributes::{
        AsPath, Attributes, Community, LargeCommunity, Origin, Segment, SegmentKind, UnknownAttribute,
    },
    family::{AFI_IPV4, Family, FamilyCode, Nlri},
};

/// Type codes.
pub(super) mod kind {
    pub(crate) const ORIGIN: u8 = 1;
    pub(crate) const AS_PATH: u8 = 2;
    pub(crate) const NEXT_HOP: u8 = 3;
    pub(crate) const MED: u8 = 4;
    pub(crate) const LOCAL_PREF: u8 = 5;
    pub(crate) const ATOMIC_AGGREGATE: u8 = 6;
    pub(crate) const AGGREGATOR: u8 = 7;
    pub(crate) const COMMUNITIES: u8 = 8;
    pub(crate) const ORIGINATOR_ID: u8 = 9;
    pub(crate) const CLUSTER_LIST: u8 = 10;
    pub(crate) const MP_REACH: u8 = 14;
    pub(crate) const MP_UNREACH: u8 = 15;
    pub(crate) const EXTENDED_COMMUNITIES: u8 = 16;
    pub(crate) const AS4_PATH: u8 = 17;
    pub(crate) const AS4_AGGREGATOR: u8 = 18;
    pub(crate) const LARGE_COMMUNITIES: u8 = 32;
}

/// Flags (RFC 4271 4.3).
pub(super) mod flag {
    pub(crate) const OPTIONAL: u8 = 0x80;
    pub(crate) const TRANSITIVE: u8 = 0x40;
    pub(crate) const PARTIAL: u8 = 0x20;
    pub(crate) const EXTENDED_LENGTH: u8 = 0x10;
}

/// What the attributes of a message say.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) attributes: Attributes,
    /// NEXT_HOP, for the prefixes in the message's own field.
    pub(super) next_hop: Option<Ipv4Addr>,
    pub(super) announced: Vec<Announcement>,
    pub(super) withdrawn: Vec<Nlri>,
    /// The family of an MP_UNREACH_NLRI, and whether it was empty.
    pub(super) unreachable: Option<(Family, bool)>,
    pub(super) defects: Vec<Defect>,
    seen: Seen,
    as4_path: Option<AsPath>,
    as4_aggregator: Option<(u32, Ipv4Addr)>,
}

/// Types that have occurred.
#[derive(Debug, Default)]
struct Seen([u64; 4]);

impl Seen {
    /// Whether this is the first time.
    fn first(&mut self, kind: u8) -> bool {
        let (word, bit) = (usize::from(kind / 64), 1 << (kind % 64));
        let first = self.0[word] & bit == 0;
        self.0[word] |= bit;
        first
    }

    fn contains(&self, kind: u8) -> bool {
        self.0[usize::from(kind / 64)] & 1 << (kind % 64) != 0
    }
}

/// One attribute of the list.
struct Raw<'a> {
    flags: u8,
    kind: u8,
    value: &'a [u8],
}

/// Why one attribute is not taken over.
enum Problem {
    /// The session ends.
    Fatal(Notification),
    /// Treat-as-withdraw.
    Withdraw(&'static str),
    /// Attribute discard.
    Discard(&'static str),
}

impl Parsed {
    pub(super) fn read(list: &[u8], encoding: Encoding) -> Result<Self, Notification> {
        let mut parsed = Self::default();
        let mut reader = Reader::new(list);
        while !reader.is_empty() {
            let Some(raw) = next(&mut reader) else {
                parsed.note(
                    0,
                    Consequence::TreatAsWithdraw,
                    "the list of attributes does not parse",
                );
                break;
            };
            let kind = raw.kind;
            match parsed.take(&raw, encoding) {
                Ok(()) => {}
                Err(Problem::Fatal(notification)) => return Err(notification),
                Err(Problem::Withdraw(text)) => parsed.note(kind, Consequence::TreatAsWithdraw, text),
                Err(Problem::Discard(text)) => parsed.note(kind, Consequence::AttributeDiscard, text),
            }
        }
        if !encoding.four_octet_as {
            parsed.merge_as4();
        }
        Ok(parsed)
    }

    fn note(&mut self, attribute: u8, consequence: Consequence, text: &'static str) {
        self.defects.push(Defect {
            attribute,
            consequence,
            text,
        });
    }

    /// Whether the attributes that every route must have are there (RFC 4271 5.1.1 to 5.1.3).
    pub(super) fn check_mandatory(&mut self, has_own_prefixes: bool) {
        for (kind, text, needed) in [
            (kind::ORIGIN, "ORIGIN is missing", true),
            (kind::AS_PATH, "AS_PATH is missing", true),
            (kind::NEXT_HOP, "NEXT_HOP is missing", has_own_prefixes),
        ] {
            if needed && !self.seen.contains(kind) {
                self.note(kind, Consequence::TreatAsWithdraw, text);
            }
        }
    }

    fn take(&mut self, raw: &Raw<'_>, encoding: Encoding) -> Result<(), Problem> {
        if !self.seen.first(raw.kind) {
            return Err(match raw.kind {
                kind::MP_REACH | kind::MP_UNREACH => {
                    Problem::Fatal(Notification::new(code::UPDATE, update::ATTRIBUTE_LIST))
                }
                _ => Problem::Discard("the attribute occurs twice"),
            });
        }
        if matches!(raw.kind, kind::MP_REACH | kind::MP_UNREACH) {
            // The routes that these name are to be known even where their flags are wrong: they are to be withdrawn.
            self.take_value(raw, encoding)?;
            return check_flags(raw);
        }
        check_flags(raw)?;
        self.take_value(raw, encoding)
    }

    fn take_value(&mut self, raw: &Raw<'_>, encoding: Encoding) -> Result<(), Problem> {
        let value = raw.value;
        let attributes = &mut self.attributes;
        match raw.kind {
            kind::ORIGIN => attributes.origin = read_origin(value)?,
            kind::AS_PATH => {
                let width = if encoding.four_octet_as { 4 } else { 2 };
                attributes.as_path =
                    read_as_path(value, width).ok_or(Problem::Withdraw("AS_PATH is malformed"))?;
            }
            kind::NEXT_HOP => {
                let address = exact(value).map(Ipv4Addr::from);
                self.next_hop = Some(address.ok_or(Problem::Withdraw("NEXT_HOP has not four octets"))?);
            }
            kind::MED => {
                let value = exact(value).map(u32::from_be_bytes);
                attributes.med = Some(value.ok_or(Problem::Withdraw("MED has not four octets"))?);
            }
            kind::LOCAL_PREF => {
                internal_only(encoding)?;
                let value = exact(value).map(u32::from_be_bytes);
                attributes.local_pref =
                    Some(value.ok_or(Problem::Withdraw("LOCAL_PREF has not four octets"))?);
            }
            kind::ATOMIC_AGGREGATE => {
                if !value.is_empty() {
                    return Err(Problem::Discard("ATOMIC_AGGREGATE is not empty"));
                }
                attributes.atomic_aggregate = true;
            }
            kind::AGGREGATOR => {
                let aggregator = read_aggregator(value, encoding.four_octet_as);
                attributes.aggregator =
                    Some(aggregator.ok_or(Problem::Discard("AGGREGATOR has a wrong length"))?);
            }
            kind::COMMUNITIES => {
                let all = chunks(value).ok_or(Problem::Withdraw("COMMUNITIES have a wrong length"))?;
                attributes.communities = sorted(all.map(|bytes| Community(u32::from_be_bytes(bytes))));
            }
            kind::EXTENDED_COMMUNITIES => {
                let all =
                    chunks(value).ok_or(Problem::Withdraw("EXTENDED COMMUNITIES have a wrong length"))?;
                attributes.extended_communities = sorted(all);
            }
            kind::LARGE_COMMUNITIES => {
                let all = chunks(value).ok_or(Problem::Withdraw("LARGE_COMMUNITY has a wrong length"))?;
                attributes.large_communities = sorted(all.map(read_large));
            }
            kind::ORIGINATOR_ID => {
                internal_only(encoding)?;
                let address = exact(value).map(Ipv4Addr::from);
                attributes.originator_id =
                    Some(address.ok_or(Problem::Withdraw("ORIGINATOR_ID has not four octets"))?);
            }
            kind::CLUSTER_LIST => {
                internal_only(encoding)?;
                let all = chunks(value).ok_or(Problem::Withdraw("CLUSTER_LIST has a wrong length"))?;
                attributes.cluster_list = all.map(|bytes: [u8; 4]| Ipv4Addr::from(bytes)).collect();
            }
            kind::MP_REACH => self.take_reach(value, encoding)?,
            kind::MP_UNREACH => self.take_unreach(value, encoding)?,
            kind::AS4_PATH | kind::AS4_AGGREGATOR if encoding.four_octet_as => {
                return Err(Problem::Discard(
                    "a peer with four-octet AS numbers does not send it",
                ));
            }
            kind::AS4_PATH => {
                let path = read_as_path(value, 4);
                self.as4_path = Some(path.ok_or(Problem::Discard("AS4_PATH is malformed"))?);
            }
            kind::AS4_AGGREGATOR => {
                let aggregator = read_aggregator(value, true);
                self.as4_aggregator =
                    Some(aggregator.ok_or(Problem::Discard("AS4_AGGREGATOR has a wrong length"))?);
            }
            unknown => {
                if raw.flags & flag::OPTIONAL == 0 {
                    let data = [&[raw.flags, unknown], value].concat();
                    let notification = Notification::new(code::UPDATE, update::UNKNOWN_WELL_KNOWN);
                    return Err(Problem::Fatal(notification.with(data)));
                }
                if raw.flags & flag::TRANSITIVE != 0 {
                    self.attributes.unknown.push(UnknownAttribute {
                        kind: unknown,
                        value: value.to_vec(),
                    });
                }
            }
        }
        Ok(())
    }

    /// MP_REACH_NLRI (RFC 4760 3, 2545 3, 8950 4). A family that was not agreed is ignored.
    fn take_reach(&mut self, value: &[u8], encoding: Encoding) -> Result<(), Problem> {
        let fatal =
            || Problem::Fatal(Notification::new(code::UPDATE, update::OPTIONAL_ATTRIBUTE).with(value));
        let mut reader = Reader::new(value);
        let afi = reader.u16().map_err(|_| fatal())?;
        let safi = reader.u8().map_err(|_| fatal())?;
        let next_hop = reader.part_u8().map_err(|_| fatal())?.rest();
        reader.u8().map_err(|_| fatal())?;
        let family = agreed(FamilyCode { afi, safi }, encoding)?;
        let next_hop = read_next_hop(next_hop, afi, encoding).ok_or_else(fatal)?;
        let add_path = encoding.add_path_receive.contains(family);
        let nlri = nlri::read_all(reader, family, add_path).ok_or_else(fatal)?;
        self.announced.push(Announcement { next_hop, nlri });
        Ok(())
    }

    /// MP_UNREACH_NLRI (RFC 4760 4).
    fn take_unreach(&mut self, value: &[u8], encoding: Encoding) -> Result<(), Problem> {
        let fatal =
            || Problem::Fatal(Notification::new(code::UPDATE, update::OPTIONAL_ATTRIBUTE).with(value));
        let mut reader = Reader::new(value);
        let afi = reader.u16().map_err(|_| fatal())?;
        let safi = reader.u8().map_err(|_| fatal())?;
        let family = agreed(FamilyCode { afi, safi }, encoding)?;
        let add_path = encoding.add_path_receive.contains(family);
        let nlri = nlri::read_all(reader, family, add_path).ok_or_else(fatal)?;
        self.unreachable = Some((family, nlri.is_empty()));
        self.withdrawn.extend(nlri);
        Ok(())
    }

    /// Puts the four-octet AS numbers of AS4_PATH and AS4_AGGREGATOR in place of AS_TRANS (RFC 6793 4.2.3).
    fn merge_as4(&mut self) {
        let attributes = &mut self.attributes;
        if let Some((number, _)) = attributes.aggregator
            && let Some(four_octets) = self.as4_aggregator
        {
            if number != u32::from(AS_TRANS) {
                // Somebody without four octets has aggregated since: the AS4 attributes are of before.
                return;
            }
            attributes.aggregator = Some(four_octets);
        }
        let Some(mut path) = self.as4_path.take() else {
            return;
        };
        let Some(missing) = attributes.as_path.length().checked_sub(path.length()) else {
            return;
        };
        let leading: Vec<u32> = attributes.as_path.numbers().take(missing).collect();
        path.prepend(&leading);
        attributes.as_path = path;
    }
}

fn next<'a>(reader: &mut Reader<'a>) -> Option<Raw<'a>> {
    let flags = reader.u8().ok()?;
    let kind = reader.u8().ok()?;
    let value = if flags & flag::EXTENDED_LENGTH == 0 {
        reader.part_u8()
    } else {
        reader.part_u16()
    };
    Some(Raw {
        flags,
        kind,
        value: value.ok()?.rest(),
    })
}

/// Optional and transitive are fixed for what is known (RFC 7606 3 c).
fn check_flags(raw: &Raw<'_>) -> Result<(), Problem> {
    let expected = match raw.kind {
        kind::ORIGIN | kind::AS_PATH | kind::NEXT_HOP | kind::LOCAL_PREF | kind::ATOMIC_AGGREGATE => {
            flag::TRANSITIVE
        }
        kind::MED | kind::ORIGINATOR_ID | kind::CLUSTER_LIST | kind::MP_REACH | kind::MP_UNREACH => {
            flag::OPTIONAL
        }
        kind::AGGREGATOR
        | kind::COMMUNITIES
        | kind::EXTENDED_COMMUNITIES
        | kind::LARGE_COMMUNITIES
        | kind::AS4_PATH
        | kind::AS4_AGGREGATOR => flag::OPTIONAL | flag::TRANSITIVE,
        _ => return Ok(()),
    };
    if raw.flags & (flag::OPTIONAL | flag::TRANSITIVE) == expected {
        Ok(())
    } else {
        Err(Problem::Withdraw("the attribute's flags are wrong"))
    }
}

fn internal_only(encoding: Encoding) -> Result<(), Problem> {
    if encoding.internal {
        Ok(())
    } else {
        Err(Problem::Discard("an external peer does not send it"))
    }
}

fn agreed(code: FamilyCode, encoding: Encoding) -> Result<Family, Problem> {
    Family::from_code(code)
        .filter(|family| encoding.families.contains(*family))
        .ok_or(Problem::Discard("the family was not agreed on"))
}

fn read_origin(value: &[u8]) -> Result<Origin, Problem> {
    match value {
        [0] => Ok(Origin::Igp),
        [1] => Ok(Origin::Egp),
        [2] => Ok(Origin::Incomplete),
        _ => Err(Problem::Withdraw("ORIGIN is malformed")),
    }
}

/// Segments with AS numbers of so many octets; confederations are not known here (RFC 5065 5).
fn read_as_path(value: &[u8], width: usize) -> Option<AsPath> {
    let mut reader = Reader::new(value);
    let mut segments = Vec::new();
    while !reader.is_empty() {
        let kind = match reader.u8().ok()? {
            1 => SegmentKind::Set,
            2 => SegmentKind::Sequence,
            _ => return None,
        };
        let count = reader.u8().ok().filter(|count| *count > 0)?;
        let mut numbers = Vec::with_capacity(count.into());
        for _ in 0..count {
            numbers.push(if width == 4 {
                reader.u32().ok()?
            } else {
                reader.u16().ok()?.into()
            });
        }
        // AS 0 stands for nobody (RFC 7607 2).
        if numbers.contains(&0) {
            return None;
        }
        segments.push(Segment { kind, numbers });
    }
    Some(AsPath::new(segments))
}

fn read_aggregator(value: &[u8], four_octets: bool) -> Option<(u32, Ipv4Addr)> {
    let mut reader = Reader::new(value);
    let number = if four_octets {
        reader.u32().ok()?
    } else {
        reader.u16().ok()?.into()
    };
    let address = Ipv4Addr::from(reader.u32().ok()?);
    // AS 0 makes it malformed (RFC 7607 2).
    (reader.is_empty() && number != 0).then_some((number, address))
}

fn read_large(bytes: [u8; 12]) -> LargeCommunity {
    let part = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    LargeCommunity([part(0), part(4), part(8)])
}

/// A next hop of MP_REACH_NLRI; an IPv6 one may come with a link-local one.
fn read_next_hop(value: &[u8], afi: u16, encoding: Encoding) -> Option<NextHop> {
    let v6 = |bytes: [u8; 16]| Ipv6Addr::from(bytes);
    if let Some(octets) = exact::<4>(value) {
        return (afi == AFI_IPV4).then(|| NextHop::from(IpAddr::from(octets)));
    }
    if afi == AFI_IPV4 && !encoding.ipv4_over_ipv6 {
        return None;
    }
    if let Some(octets) = exact::<16>(value) {
        return Some(NextHop::from(IpAddr::V6(v6(octets))));
    }
    let octets = exact::<32>(value)?;
    let (global, link_local) = octets.split_at(16);
    Some(NextHop {
        address: IpAddr::V6(v6(exact(global)?)),
        link_local: Some(v6(exact(link_local)?)),
    })
}

fn exact<const N: usize>(value: &[u8]) -> Option<[u8; N]> {
    value.try_into().ok()
}

/// Whole items of N octets, at least one.
fn chunks<const N: usize>(value: &[u8]) -> Option<impl Iterator<Item = [u8; N]>> {
    let (items, rest) = value.as_chunks::<N>();
    (rest.is_empty() && !items.is_empty()).then(|| items.iter().copied())
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.sort_unstable();
    items.dedup();
    items
}
