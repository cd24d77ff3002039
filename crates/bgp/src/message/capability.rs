// SPDX-License-Identifier: Apache-2.0
//! Capabilities (RFC 5492): what a speaker offers in its OPEN. Unknown ones are kept and ignored.

use std::time::Duration;

use super::reader::{Reader, Truncated};
use crate::family::FamilyCode;

/// Codes (IANA capability codes).
mod code {
    pub(super) const MULTIPROTOCOL: u8 = 1;
    pub(super) const ROUTE_REFRESH: u8 = 2;
    pub(super) const EXTENDED_NEXT_HOP: u8 = 5;
    pub(super) const EXTENDED_MESSAGE: u8 = 6;
    pub(super) const GRACEFUL_RESTART: u8 = 64;
    pub(super) const FOUR_OCTET_AS: u8 = 65;
    pub(super) const ADD_PATH: u8 = 69;
    pub(super) const ENHANCED_ROUTE_REFRESH: u8 = 70;
}

/// One capability.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Capability {
    /// Routes of a family (RFC 4760).
    Multiprotocol(FamilyCode),
    /// ROUTE-REFRESH is understood (RFC 2918).
    RouteRefresh,
    /// For a family, next hops of another AFI (RFC 8950): family, next hop AFI.
    ExtendedNextHop(Vec<(FamilyCode, u16)>),
    /// Messages up to 65535 bytes (RFC 8654).
    ExtendedMessage,
    /// Graceful restart (RFC 4724, 8538).
    GracefulRestart(GracefulRestart),
    /// Four-octet AS numbers, and the own one (RFC 6793).
    FourOctetAs(u32),
    /// Several paths for a prefix (RFC 7911).
    AddPath(Vec<(FamilyCode, AddPath)>),
    /// Begin and end of a refresh are marked (RFC 7313).
    EnhancedRouteRefresh,
    /// Anything else, or one of the above with a value of a length that it cannot have.
    Other {
        /// Its code.
        code: u8,
        /// Its value.
        value: Vec<u8>,
    },
}

/// What the graceful restart capability says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GracefulRestart {
    /// The R bit: the speaker has restarted.
    pub restarted: bool,
    /// The N bit: NOTIFICATION and hold timer expiry end a session gracefully as well (RFC 8538).
    pub notification: bool,
    /// How long the session may be away; whole seconds, at most 4095.
    pub time: Duration,
    /// The families whose routes are to be kept.
    pub families: Vec<GracefulFamily>,
}

/// A family of the graceful restart capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GracefulFamily {
    /// Which.
    pub family: FamilyCode,
    /// The F bit: forwarding went on over the restart.
    pub forwarding: bool,
}

/// Directions of ADD-PATH, as the sender of the capability sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddPath {
    /// It can receive several paths.
    Receive,
    /// It can send several paths.
    Send,
    /// Both.
    Both,
}

impl AddPath {
    /// Whether it can receive several paths.
    pub const fn receives(self) -> bool {
        matches!(self, Self::Receive | Self::Both)
    }

    /// Whether it can send several paths.
    pub const fn sends(self) -> bool {
        matches!(self, Self::Send | Self::Both)
    }
}

/// Bits of the restart flags.
const RESTARTED: u16 = 0x8000;
const NOTIFICATION: u16 = 0x4000;
const TIME: u16 = 0x0fff;
/// Bit of a family's flags.
const FORWARDING: u8 = 0x80;

impl Capability {
    /// Reads one. Only a value that runs over the end of its parameter is an error.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Truncated> {
        let code = reader.u8()?;
        let value = reader.part_u8()?.rest();
        Ok(Self::known(code, value).unwrap_or_else(|| Self::Other {
            code,
            value: value.to_vec(),
        }))
    }

    fn known(code: u8, value: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(value);
        let capability = match code {
            code::MULTIPROTOCOL => {
                let afi = reader.u16().ok()?;
                let [_, safi] = reader.array().ok()?;
                Self::Multiprotocol(FamilyCode { afi, safi })
            }
            code::ROUTE_REFRESH => Self::RouteRefresh,
            code::EXTENDED_NEXT_HOP => {
                let mut families = Vec::new();
                while !reader.is_empty() {
                    let afi = reader.u16().ok()?;
                    let safi = u8::try_from(reader.u16().ok()?).ok()?;
                    families.push((FamilyCode { afi, safi }, reader.u16().ok()?));
                }
                Self::ExtendedNextHop(families)
            }
            code::EXTENDED_MESSAGE => Self::ExtendedMessage,
            code::GRACEFUL_RESTART => Self::GracefulRestart(GracefulRestart::read(&mut reader)?),
            code::FOUR_OCTET_AS => Self::FourOctetAs(reader.u32().ok()?),
            code::ADD_PATH => {
                let mut families = Vec::new();
                while !reader.is_empty() {
                    let family = read_family(&mut reader)?;
                    let directions = match reader.u8().ok()? {
                        1 => AddPath::Receive,
                        2 => AddPath::Send,
                        3 => AddPath::Both,
                        // To be ignored (RFC 7911 4).
                        _ => continue,
                    };
                    families.push((family, directions));
                }
                Self::AddPath(families)
            }
            code::ENHANCED_ROUTE_REFRESH => Self::EnhancedRouteRefresh,
            _ => return None,
        };
        reader.is_empty().then_some(capability)
    }

    /// Appends code, length and value. One with a value longer than 255 bytes cannot be sent and is left out.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let (code, value) = match self {
            Self::Multiprotocol(FamilyCode { afi, safi }) => {
                let [high, low] = afi.to_be_bytes();
                (code::MULTIPROTOCOL, vec![high, low, 0, *safi])
            }
            Self::RouteRefresh => (code::ROUTE_REFRESH, Vec::new()),
            Self::ExtendedNextHop(families) => {
                let entry = |(family, next_hop): &(FamilyCode, u16)| {
                    let parts = [family.afi, family.safi.into(), *next_hop];
                    parts.map(u16::to_be_bytes).concat()
                };
                (code::EXTENDED_NEXT_HOP, families.iter().flat_map(entry).collect())
            }
            Self::ExtendedMessage => (code::EXTENDED_MESSAGE, Vec::new()),
            Self::GracefulRestart(restart) => (code::GRACEFUL_RESTART, restart.value()),
            Self::FourOctetAs(number) => (code::FOUR_OCTET_AS, number.to_be_bytes().to_vec()),
            Self::AddPath(families) => {
                let entry = |(family, directions): &(FamilyCode, AddPath)| {
                    let directions = match directions {
                        AddPath::Receive => 1,
                        AddPath::Send => 2,
                        AddPath::Both => 3,
                    };
                    let [high, low] = family.afi.to_be_bytes();
                    [high, low, family.safi, directions]
                };
                (code::ADD_PATH, families.iter().flat_map(entry).collect())
            }
            Self::EnhancedRouteRefresh => (code::ENHANCED_ROUTE_REFRESH, Vec::new()),
            Self::Other { code, value } => (*code, value.clone()),
        };
        if let Ok(length) = u8::try_from(value.len()) {
            out.extend([code, length]);
            out.extend(value);
        }
    }
}

impl GracefulRestart {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let flags = reader.u16().ok()?;
        let mut families = Vec::new();
        while !reader.is_empty() {
            let family = read_family(reader)?;
            let forwarding = reader.u8().ok()? & FORWARDING != 0;
            families.push(GracefulFamily { family, forwarding });
        }
        Some(Self {
            restarted: flags & RESTARTED != 0,
            notification: flags & NOTIFICATION != 0,
            time: Duration::from_secs((flags & TIME).into()),
            families,
        })
    }

    fn value(&self) -> Vec<u8> {
        let mut flags = u16::try_from(self.time.as_secs()).unwrap_or(TIME).min(TIME);
        if self.restarted {
            flags |= RESTARTED;
        }
        if self.notification {
            flags |= NOTIFICATION;
        }
        let mut value = flags.to_be_bytes().to_vec();
        for GracefulFamily { family, forwarding } in &self.families {
            value.extend(family.afi.to_be_bytes());
            value.extend([family.safi, if *forwarding { FORWARDING } else { 0 }]);
        }
        value
    }
}

fn read_family(reader: &mut Reader<'_>) -> Option<FamilyCode> {
    let afi = reader.u16().ok()?;
    let safi = reader.u8().ok()?;
    Some(FamilyCode { afi, safi })
}
