// SPDX-License-Identifier: Apache-2.0
//! Settings of tunnel drivers as attributes, both ways (`linux/if_link.h`, `linux/if_tunnel.h`).

use std::net::IpAddr;

use super::{Ipip, TunnelDevice, TunnelKind, Vxlan};
use crate::link::{INFO, parse_link};
use crate::wire::{Attributes, Message, Received, read_address, read_u32};

/// `IFLA_VXLAN_`
const VXLAN_ID: u16 = 1;
const VXLAN_GROUP: u16 = 2;
const VXLAN_LINK: u16 = 3;
const VXLAN_LOCAL: u16 = 4;
const VXLAN_LEARNING: u16 = 7;
const VXLAN_PORT: u16 = 15;
const VXLAN_GROUP6: u16 = 16;
const VXLAN_LOCAL6: u16 = 17;
const VXLAN_GBP: u16 = 23;
const VXLAN_COLLECT_METADATA: u16 = 25;
const VXLAN_GPE: u16 = 27;
const VXLAN_VNIFILTER: u16 = 30;
/// `IFLA_IPTUN_`
const IPTUN_LINK: u16 = 1;
const IPTUN_LOCAL: u16 = 2;
const IPTUN_REMOTE: u16 = 3;
const IPTUN_PROTO: u16 = 9;
const IPTUN_ENCAP_TYPE: u16 = 15;
const IPTUN_COLLECT_METADATA: u16 = 19;

/// `IPPROTO_IPIP`: IPv4 in IPv4, where the driver also knows MPLS and any.
const PROTOCOL_IPIP: u8 = 4;

pub(super) fn ipip_data(message: &mut Message, ipip: Ipip) {
    // What is left out is 0, "any", also in a change.
    if let Some(local) = ipip.local {
        message.address(IPTUN_LOCAL, local.into());
    }
    message.attribute(IPTUN_PROTO, &[PROTOCOL_IPIP]);
}

pub(super) fn vxlan_data(message: &mut Message, vxlan: &Vxlan) {
    message.number(VXLAN_ID, vxlan.id);
    if let Some(parent) = vxlan.parent {
        message.number(VXLAN_LINK, parent);
    }
    if let Some(local) = vxlan.local {
        let kind = match local {
            IpAddr::V4(_) => VXLAN_LOCAL,
            IpAddr::V6(_) => VXLAN_LOCAL6,
        };
        message.address(kind, local);
    }
    message.attribute(VXLAN_LEARNING, &[u8::from(vxlan.learning)]);
    message.attribute(VXLAN_PORT, &vxlan.port.to_be_bytes());
}

/// The device of an `RTM_NEWLINK` message, of any driver.
pub(super) fn parse_tunnel(received: &Received<'_>) -> Option<TunnelDevice> {
    let link = parse_link(received)?;
    let data = inner(received.body.get(INFO..)?, libc::IFLA_LINKINFO)
        .and_then(|information| inner(information, libc::IFLA_INFO_DATA))
        .unwrap_or_default();
    let mut foreign = Vec::new();
    let kind = match link.kind.as_deref() {
        Some("ipip") => Some(TunnelKind::Ipip(parse_ipip(data, &mut foreign))),
        Some("vxlan") => {
            let vxlan = Vxlan {
                mac: link.mac,
                ..parse_vxlan(data, &mut foreign)
            };
            Some(TunnelKind::Vxlan(vxlan))
        }
        _ => None,
    };
    Some(TunnelDevice { link, kind, foreign })
}

fn inner(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(attributes)
        .find(|(kind, _)| *kind == wanted)
        .map(|(_, payload)| payload)
}

fn parse_ipip(data: &[u8], foreign: &mut Vec<String>) -> Ipip {
    let mut ipip = Ipip::default();
    for (kind, payload) in Attributes(data) {
        match kind {
            IPTUN_LOCAL => {
                ipip.local = match address(payload) {
                    Some(IpAddr::V4(local)) => Some(local),
                    _ => None,
                };
            }
            IPTUN_REMOTE => note_address(foreign, "remote", payload),
            IPTUN_LINK => {
                if let Some(parent) = read_u32(payload).filter(|index| *index != 0) {
                    foreign.push(format!("parent index {parent}"));
                }
            }
            // 0 takes MPLS too, and 137 that alone.
            IPTUN_PROTO if payload != [PROTOCOL_IPIP] && payload != [0] => {
                foreign.push(format!("inner protocol {payload:?}"));
            }
            // UDP around it (FoU, GUE).
            IPTUN_ENCAP_TYPE if payload.iter().any(|byte| *byte != 0) => foreign.push("encap".into()),
            IPTUN_COLLECT_METADATA => foreign.push("external".into()),
            _ => {}
        }
    }
    ipip
}

fn parse_vxlan(data: &[u8], foreign: &mut Vec<String>) -> Vxlan {
    let mut vxlan = Vxlan {
        id: 0,
        port: 0,
        local: None,
        parent: None,
        mac: None,
        learning: false,
    };
    for (kind, payload) in Attributes(data) {
        let is_set = payload.first().is_some_and(|value| *value != 0);
        match kind {
            VXLAN_ID => vxlan.id = read_u32(payload).unwrap_or(0),
            VXLAN_LINK => vxlan.parent = read_u32(payload).filter(|index| *index != 0),
            VXLAN_LOCAL | VXLAN_LOCAL6 => vxlan.local = address(payload),
            VXLAN_LEARNING => vxlan.learning = is_set,
            VXLAN_PORT => {
                vxlan.port = payload
                    .first_chunk()
                    .map_or(0, |bytes| u16::from_be_bytes(*bytes));
            }
            // Where what has no forwarding entry goes.
            VXLAN_GROUP | VXLAN_GROUP6 => note_address(foreign, "group", payload),
            VXLAN_COLLECT_METADATA if is_set => foreign.push("external".into()),
            VXLAN_VNIFILTER if is_set => foreign.push("vnifilter".into()),
            // Flags: being there is enough.
            VXLAN_GBP => foreign.push("gbp".into()),
            VXLAN_GPE => foreign.push("gpe".into()),
            _ => {}
        }
    }
    vxlan
}

/// An address other than "any", which is how the kernel writes none.
fn address(payload: &[u8]) -> Option<IpAddr> {
    read_address(payload).filter(|address| !address.is_unspecified())
}

fn note_address(foreign: &mut Vec<String>, what: &str, payload: &[u8]) {
    if let Some(address) = address(payload) {
        foreign.push(format!("{what} {address}"));
    }
}
