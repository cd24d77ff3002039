// SPDX-License-Identifier: Apache-2.0
//! Building UPDATEs: the attributes of a route once, and as many messages as its prefixes need. Attributes are in
//! ascending order, except MP_REACH_NLRI, which is first (RFC 7606 5.1).

use std::net::{IpAddr, Ipv4Addr};

use super::{
    announcement::NextHop,
    attribute_reader::{flag, kind},
    encoding::Encoding,
    header::{self, begin, end},
    nlri,
    open::AS_TRANS,
};
use crate::{
    attributes::{AsPath, Attributes, Origin, SegmentKind},
    family::{Family, FamilyCode, Nlri},
};

/// The attributes of a route fill a message by themselves: it cannot be announced (RFC 4271 9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the attributes of a route need {length} bytes and do not fit into a message")]
pub struct AttributesTooLong {
    /// What they need.
    pub length: usize,
}

/// Bytes of an UPDATE besides attributes and prefixes: header and two lengths.
const FRAME: usize = header::HEADER_LENGTH + 4;

/// Attributes ready to be sent with any next hop and any prefixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedAttributes {
    /// ORIGIN and AS_PATH, which come before NEXT_HOP.
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl EncodedAttributes {
    /// Encodes attributes as a session of this kind needs them.
    pub fn new(attributes: &Attributes, encoding: Encoding) -> Self {
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        let origin = match attributes.origin {
            Origin::Igp => 0,
            Origin::Egp => 1,
            Origin::Incomplete => 2,
        };
        put(&mut head, flag::TRANSITIVE, kind::ORIGIN, &[origin]);
        let path = as_path(&attributes.as_path, encoding.four_octet_as);
        put(&mut head, flag::TRANSITIVE, kind::AS_PATH, &path);
        rest(&mut tail, attributes, encoding);
        Self { head, tail }
    }

    fn length(&self) -> usize {
        self.head.len() + self.tail.len()
    }
}

fn rest(out: &mut Vec<u8>, attributes: &Attributes, encoding: Encoding) {
    const OPTIONAL_TRANSITIVE: u8 = flag::OPTIONAL | flag::TRANSITIVE;
    if let Some(med) = attributes.med {
        put(out, flag::OPTIONAL, kind::MED, &med.to_be_bytes());
    }
    if let Some(preference) = attributes.local_pref.filter(|_| encoding.internal) {
        put(out, flag::TRANSITIVE, kind::LOCAL_PREF, &preference.to_be_bytes());
    }
    if attributes.atomic_aggregate {
        put(out, flag::TRANSITIVE, kind::ATOMIC_AGGREGATE, &[]);
    }
    let wide = |number: u32| number > u16::MAX.into();
    if let Some((number, address)) = attributes.aggregator {
        let mut value = as_number(number, encoding.four_octet_as);
        value.extend(address.octets());
        put(out, OPTIONAL_TRANSITIVE, kind::AGGREGATOR, &value);
    }
    let communities = attributes
        .communities
        .iter()
        .flat_map(|community| community.0.to_be_bytes());
    put_list(
        out,
        OPTIONAL_TRANSITIVE,
        kind::COMMUNITIES,
        &communities.collect::<Vec<_>>(),
    );
    if encoding.internal {
        if let Some(originator) = attributes.originator_id {
            put(out, flag::OPTIONAL, kind::ORIGINATOR_ID, &originator.octets());
        }
        let clusters = attributes.cluster_list.iter().flat_map(Ipv4Addr::octets);
        put_list(
            out,
            flag::OPTIONAL,
            kind::CLUSTER_LIST,
            &clusters.collect::<Vec<_>>(),
        );
    }
    let extended = attributes.extended_communities.concat();
    put_list(out, OPTIONAL_TRANSITIVE, kind::EXTENDED_COMMUNITIES, &extended);
    if !encoding.four_octet_as {
        if attributes.as_path.numbers().any(wide) {
            put(
                out,
                OPTIONAL_TRANSITIVE,
                kind::AS4_PATH,
                &as_path(&attributes.as_path, true),
            );
        }
        if let Some((number, address)) = attributes.aggregator.filter(|(number, _)| wide(*number)) {
            let value = [number.to_be_bytes(), address.octets()].concat();
            put(out, OPTIONAL_TRANSITIVE, kind::AS4_AGGREGATOR, &value);
        }
    }
    let large = attributes
        .large_communities
        .iter()
        .flat_map(|community| community.0)
        .flat_map(u32::to_be_bytes);
    put_list(
        out,
        OPTIONAL_TRANSITIVE,
        kind::LARGE_COMMUNITIES,
        &large.collect::<Vec<_>>(),
    );
    for unknown in &attributes.unknown {
        put(
            out,
            OPTIONAL_TRANSITIVE | flag::PARTIAL,
            unknown.kind,
            &unknown.value,
        );
    }
}

/// Messages that announce prefixes of one family. An IPv4 prefix with an IPv4 next hop is in the message's own field,
/// everything else in MP_REACH_NLRI.
pub fn announce(
    attributes: &EncodedAttributes,
    next_hop: NextHop,
    nlri: &[Nlri],
    encoding: Encoding,
) -> Result<Vec<Vec<u8>>, AttributesTooLong> {
    let Some(first) = nlri.first() else {
        return Ok(Vec::new());
    };
    let family = Family::of(&first.prefix);
    let own_field = match (family, next_hop.address) {
        (Family::Ipv4, IpAddr::V4(address)) => Some(address),
        _ => None,
    };
    let reach = reach_header(family, next_hop);
    // Four bytes of flags, type and length around MP_REACH_NLRI, or NEXT_HOP with its three.
    let fixed = FRAME + attributes.length() + own_field.map_or(4 + reach.len(), |_| 7);
    let add_path = encoding.add_path_send.contains(family);
    let mut messages = Vec::new();
    for prefixes in fitting(nlri, add_path, fixed, encoding)? {
        let mut message = begin(header::kind::UPDATE);
        message.extend([0, 0]);
        let total = message.len();
        message.extend([0, 0]);
        if let Some(address) = own_field {
            message.extend(&attributes.head);
            put(&mut message, flag::TRANSITIVE, kind::NEXT_HOP, &address.octets());
        } else {
            put_long(&mut message, flag::OPTIONAL, kind::MP_REACH, &[&reach, &prefixes]);
            message.extend(&attributes.head);
        }
        message.extend(&attributes.tail);
        set_length(&mut message, total);
        if own_field.is_some() {
            message.extend(prefixes);
        }
        messages.push(end(message));
    }
    Ok(messages)
}

/// Messages that withdraw prefixes of one family.
pub fn withdraw(nlri: &[Nlri], encoding: Encoding) -> Vec<Vec<u8>> {
    let Some(first) = nlri.first() else {
        return Vec::new();
    };
    let family = Family::of(&first.prefix);
    let add_path = encoding.add_path_send.contains(family);
    let fixed = FRAME + if family == Family::Ipv4 { 0 } else { 7 };
    let batches = fitting(nlri, add_path, fixed, encoding).unwrap_or_default();
    let message = |prefixes: Vec<u8>| {
        let mut message = begin(header::kind::UPDATE);
        let lengths = message.len();
        message.extend([0, 0]);
        if family == Family::Ipv4 {
            message.extend(prefixes);
            set_length(&mut message, lengths);
            message.extend([0, 0]);
        } else {
            message.extend([0, 0]);
            let FamilyCode { afi, safi } = family.code();
            let [high, low] = afi.to_be_bytes();
            put_long(
                &mut message,
                flag::OPTIONAL,
                kind::MP_UNREACH,
                &[&[high, low, safi], &prefixes],
            );
            set_length(&mut message, lengths + 2);
        }
        end(message)
    };
    batches.into_iter().map(message).collect()
}

/// The message that ends the first exchange of a family (RFC 4724 2).
pub fn end_of_rib(family: Family) -> Vec<u8> {
    let mut message = begin(header::kind::UPDATE);
    message.extend([0, 0]);
    let total = message.len();
    message.extend([0, 0]);
    if family != Family::Ipv4 {
        let FamilyCode { afi, safi } = family.code();
        let [high, low] = afi.to_be_bytes();
        put(&mut message, flag::OPTIONAL, kind::MP_UNREACH, &[high, low, safi]);
        set_length(&mut message, total);
    }
    end(message)
}

/// MP_REACH_NLRI up to its prefixes.
fn reach_header(family: Family, next_hop: NextHop) -> Vec<u8> {
    let FamilyCode { afi, safi } = family.code();
    let mut value = afi.to_be_bytes().to_vec();
    value.push(safi);
    let address = match next_hop.address {
        IpAddr::V6(address) => address,
        // IPv6 prefixes have no IPv4 next hop on the wire.
        IpAddr::V4(address) => address.to_ipv6_mapped(),
    };
    value.push(if next_hop.link_local.is_some() { 32 } else { 16 });
    value.extend(address.octets());
    value.extend(next_hop.link_local.iter().flat_map(std::net::Ipv6Addr::octets));
    value.push(0);
    value
}

/// Encoded prefixes, cut so that each lot fits into a message beside `fixed` bytes.
fn fitting(
    all: &[Nlri],
    add_path: bool,
    fixed: usize,
    encoding: Encoding,
) -> Result<Vec<Vec<u8>>, AttributesTooLong> {
    let longest = if encoding.extended_message {
        header::MAX_EXTENDED_LENGTH
    } else {
        header::MAX_LENGTH
    };
    let mut lots = Vec::new();
    let mut lot = Vec::new();
    for nlri in all {
        let length = nlri::length(nlri, add_path);
        if fixed + length > longest {
            return Err(AttributesTooLong { length: fixed });
        }
        if fixed + lot.len() + length > longest {
            lots.push(std::mem::take(&mut lot));
        }
        nlri::write(nlri, add_path, &mut lot);
    }
    lots.push(lot);
    Ok(lots)
}

fn as_path(path: &AsPath, four_octets: bool) -> Vec<u8> {
    let mut value = Vec::new();
    for segment in path.segments() {
        let kind = match segment.kind {
            SegmentKind::Set => 1,
            SegmentKind::Sequence => 2,
        };
        for numbers in segment.numbers.chunks(u8::MAX.into()) {
            value.extend([kind, u8::try_from(numbers.len()).unwrap_or(u8::MAX)]);
            value.extend(numbers.iter().flat_map(|number| as_number(*number, four_octets)));
        }
    }
    value
}

fn as_number(number: u32, four_octets: bool) -> Vec<u8> {
    if four_octets {
        number.to_be_bytes().to_vec()
    } else {
        u16::try_from(number).unwrap_or(AS_TRANS).to_be_bytes().to_vec()
    }
}

/// A list that is left out when empty.
fn put_list(out: &mut Vec<u8>, flags: u8, kind: u8, value: &[u8]) {
    if !value.is_empty() {
        put(out, flags, kind, value);
    }
}

fn put(out: &mut Vec<u8>, flags: u8, kind: u8, value: &[u8]) {
    match u8::try_from(value.len()) {
        Ok(length) => {
            out.extend([flags, kind, length]);
            out.extend(value);
        }
        Err(_) => put_long(out, flags, kind, &[value]),
    }
}

/// With a length of two octets.
fn put_long(out: &mut Vec<u8>, flags: u8, kind: u8, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.extend([flags | flag::EXTENDED_LENGTH, kind]);
    out.extend(u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    for part in parts {
        out.extend(*part);
    }
}

/// Sets the two octets at `at` to how many bytes follow them.
fn set_length(message: &mut [u8], at: usize) {
    let length = u16::try_from(message.len() - at - 2).unwrap_or(u16::MAX);
    message[at..at + 2].copy_from_slice(&length.to_be_bytes());
}
