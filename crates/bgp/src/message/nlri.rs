// SPDX-License-Identifier: Apache-2.0
//! Prefixes on the wire (RFC 4271 4.3, RFC 7911 3): a length in bits, and as many octets as that needs.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::reader::Reader;
use crate::family::{Family, Nlri};

/// Reads all prefixes of a field. `None`: it does not parse, and nothing behind the defect can be trusted.
pub(super) fn read_all(mut reader: Reader<'_>, family: Family, add_path: bool) -> Option<Vec<Nlri>> {
    let mut found = Vec::with_capacity(reader_capacity(reader, family));
    while !reader.is_empty() {
        found.push(read(&mut reader, family, add_path)?);
    }
    Some(found)
}

/// About how many prefixes a field has.
fn reader_capacity(mut reader: Reader<'_>, family: Family) -> usize {
    let each = match family {
        Family::Ipv4 => 4,
        Family::Ipv6 => 8,
    };
    reader.rest().len() / each
}

fn read(reader: &mut Reader<'_>, family: Family, add_path: bool) -> Option<Nlri> {
    let path_id = if add_path { Some(reader.u32().ok()?) } else { None };
    let length = reader.u8().ok()?;
    if length > family.max_length() {
        return None;
    }
    let octets = reader.bytes(usize::from(length).div_ceil(8)).ok()?;
    // Bits behind the length mean nothing (RFC 4271 4.3) and go.
    let prefix = match family {
        Family::Ipv4 => {
            let mut address = [0; 4];
            address[..octets.len()].copy_from_slice(octets);
            IpNet::V4(Ipv4Net::new(Ipv4Addr::from(address), length).ok()?.trunc())
        }
        Family::Ipv6 => {
            let mut address = [0; 16];
            address[..octets.len()].copy_from_slice(octets);
            IpNet::V6(Ipv6Net::new(Ipv6Addr::from(address), length).ok()?.trunc())
        }
    };
    Some(Nlri { prefix, path_id })
}

/// Bytes of a prefix on the wire.
pub(super) fn length(nlri: &Nlri, add_path: bool) -> usize {
    let identifier = if add_path { 4 } else { 0 };
    identifier + 1 + usize::from(nlri.prefix.prefix_len()).div_ceil(8)
}

/// Appends a prefix; without an identifier of its own it gets 0 where one is needed.
pub(super) fn write(nlri: &Nlri, add_path: bool, out: &mut Vec<u8>) {
    if add_path {
        out.extend(nlri.path_id.unwrap_or_default().to_be_bytes());
    }
    let count = usize::from(nlri.prefix.prefix_len()).div_ceil(8);
    out.push(nlri.prefix.prefix_len());
    match nlri.prefix {
        IpNet::V4(prefix) => out.extend(&prefix.network().octets()[..count]),
        IpNet::V6(prefix) => out.extend(&prefix.network().octets()[..count]),
    }
}
