// SPDX-License-Identifier: Apache-2.0
//! UPDATE (RFC 4271 4.3, RFC 4760): routes announced and withdrawn, and how defects are dealt with (RFC 7606).

use std::net::{IpAddr, Ipv6Addr};

use super::{
    Encoding,
    attribute_reader::Parsed,
    nlri,
    notification::{Notification, code, update},
    reader::Reader,
};
use crate::{
    attributes::Attributes,
    family::{Family, Nlri},
};

/// An UPDATE as received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Routes that are gone, or that count as withdrawn because of a defect.
    pub withdrawn: Vec<Nlri>,
    /// Routes, by next hop.
    pub announced: Vec<Announcement>,
    /// Of all that is announced; default where nothing is.
    pub attributes: Attributes,
    /// The message says nothing but that the first exchange of this family is complete (RFC 4724 2).
    pub end_of_rib: Option<Family>,
    /// What was wrong and did not end the session.
    pub defects: Vec<Defect>,
}

/// Routes with one next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Where to send.
    pub next_hop: NextHop,
    /// What for.
    pub nlri: Vec<Nlri>,
}

/// A next hop as announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NextHop {
    /// The address; for IPv6 the global one.
    pub address: IpAddr,
    /// The link-local address that came with a global IPv6 one (RFC 2545 3).
    pub link_local: Option<Ipv6Addr>,
}

impl From<IpAddr> for NextHop {
    fn from(address: IpAddr) -> Self {
        Self {
            address,
            link_local: None,
        }
    }
}

/// A defect that did not end the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Defect {
    /// Type of the attribute; 0 for the list of them.
    pub attribute: u8,
    /// What it cost.
    pub consequence: Consequence,
    /// What was wrong.
    pub text: &'static str,
}

/// What a defect costs (RFC 7606 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Consequence {
    /// The routes of the message count as withdrawn.
    TreatAsWithdraw,
    /// The attribute is left out.
    AttributeDiscard,
}

impl Update {
    pub(super) fn read(body: &[u8], encoding: Encoding) -> Result<Self, Notification> {
        let malformed = || Notification::new(code::UPDATE, update::ATTRIBUTE_LIST);
        let network = || Notification::new(code::UPDATE, update::NETWORK);
        let mut reader = Reader::new(body);
        let withdrawn = reader.part_u16().map_err(|_| malformed())?;
        let mut list = reader.part_u16().map_err(|_| malformed())?;
        let list = list.rest();
        let own = Family::Ipv4;
        let is_end = withdrawn.is_empty() && list.is_empty() && reader.is_empty();
        let add_path = encoding.add_path_receive.contains(own);
        let withdrawn = nlri::read_all(withdrawn, own, add_path).ok_or_else(network)?;
        let announced = nlri::read_all(reader, own, add_path).ok_or_else(network)?;
        if !encoding.families.contains(own) {
            // Nothing was agreed for this field; what else the message says still holds.
            return Ok(Self::of(Vec::new(), Vec::new(), Parsed::read(list, encoding)?));
        }
        let mut update = Self::of(withdrawn, announced, Parsed::read(list, encoding)?);
        if is_end {
            update.end_of_rib = Some(own);
        }
        Ok(update)
    }

    fn of(mut withdrawn: Vec<Nlri>, own: Vec<Nlri>, mut parsed: Parsed) -> Self {
        let nothing_else = withdrawn.is_empty() && own.is_empty() && parsed.announced.is_empty();
        let end_of_rib = parsed
            .unreachable
            .filter(|(_, is_empty)| *is_empty && nothing_else)
            .map(|(family, _)| family);
        let has_routes = !own.is_empty() || !parsed.announced.is_empty();
        if has_routes {
            parsed.check_mandatory(!own.is_empty());
        }
        let Parsed {
            attributes,
            next_hop,
            mut announced,
            withdrawn: unreachable,
            defects,
            ..
        } = parsed;
        withdrawn.extend(unreachable);
        let withdraw = defects
            .iter()
            .any(|defect| defect.consequence == Consequence::TreatAsWithdraw);
        if withdraw {
            withdrawn.extend(own);
            withdrawn.extend(announced.into_iter().flat_map(|announcement| announcement.nlri));
            return Self {
                withdrawn,
                end_of_rib,
                defects,
                ..Self::default()
            };
        }
        if let (Some(next_hop), false) = (next_hop, own.is_empty()) {
            announced.push(Announcement {
                next_hop: NextHop::from(IpAddr::V4(next_hop)),
                nlri: own,
            });
        }
        announced.retain(|announcement| !announcement.nlri.is_empty());
        Self {
            withdrawn,
            attributes: if announced.is_empty() {
                Attributes::default()
            } else {
                attributes
            },
            announced,
            end_of_rib,
            defects,
        }
    }
}
