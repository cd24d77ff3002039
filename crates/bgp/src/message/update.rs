// SPDX-License-Identifier: Apache-2.0
//! UPDATE (RFC 4271 4.3, RFC 4760): routes announced and withdrawn, and how defects are dealt with (RFC 7606).

use std::net::IpAddr;

use super::{
    announcement::{Announcement, NextHop},
    attribute_reader::Parsed,
    defect::{Consequence, Defect},
    encoding::Encoding,
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
