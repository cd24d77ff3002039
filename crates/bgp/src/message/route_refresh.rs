// SPDX-License-Identifier: Apache-2.0
//! ROUTE-REFRESH (RFC 2918, 7313): asking for all routes again, and marking where their repetition begins and ends.

use super::{
    header::{begin, end, kind},
    notification::{Notification, code},
};
use crate::family::FamilyCode;

/// A ROUTE-REFRESH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteRefresh {
    /// Which routes.
    pub family: FamilyCode,
    /// What about them.
    pub subtype: RefreshSubtype,
}

/// What a ROUTE-REFRESH says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefreshSubtype {
    /// Send them all again.
    Request,
    /// All of them follow (BoRR).
    Begin,
    /// These were all (EoRR).
    End,
    /// Reserved; to be ignored.
    Unknown(u8),
}

impl RouteRefresh {
    pub(super) fn read(body: &[u8]) -> Result<Self, Notification> {
        let Ok([high, low, subtype, safi]) = <[u8; 4]>::try_from(body) else {
            // Invalid message length (RFC 7313 5). Outbound route filters (RFC 5291) are not offered.
            return Err(Notification::new(code::ROUTE_REFRESH, 1).with(body));
        };
        let afi = u16::from_be_bytes([high, low]);
        Ok(Self {
            family: FamilyCode { afi, safi },
            subtype: match subtype {
                0 => RefreshSubtype::Request,
                1 => RefreshSubtype::Begin,
                2 => RefreshSubtype::End,
                other => RefreshSubtype::Unknown(other),
            },
        })
    }

    pub(super) fn write(self) -> Vec<u8> {
        let mut message = begin(kind::ROUTE_REFRESH);
        message.extend(self.family.afi.to_be_bytes());
        message.extend([
            match self.subtype {
                RefreshSubtype::Request => 0,
                RefreshSubtype::Begin => 1,
                RefreshSubtype::End => 2,
                RefreshSubtype::Unknown(subtype) => subtype,
            },
            self.family.safi,
        ]);
        end(message)
    }
}
