// SPDX-License-Identifier: Apache-2.0
//! OPEN (RFC 4271 4.2 and 6.2, with capabilities and the long form of RFC 9072). What depends on who the peer should be
//! is checked by the session, not here.

use std::{net::Ipv4Addr, time::Duration};

use super::{
    capability::Capability,
    header::{begin, end, kind},
    notification::{Notification, code, open},
    reader::{Reader, Truncated},
};

/// The only version.
pub const VERSION: u8 = 4;
/// Stands in two octets for an AS number that needs four (RFC 6793).
pub const AS_TRANS: u16 = 23_456;

/// Optional parameter "capabilities" (RFC 5492).
const CAPABILITIES: u8 = 2;
/// In place of the length and of the first type: lengths have two octets (RFC 9072).
const EXTENDED: u8 = 255;

/// The first message of either side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Open {
    /// AS number as the two octets say it; [`AS_TRANS`] where it needs four.
    pub as_number: u16,
    /// Offered hold time, whole seconds; 0 or at least 3.
    pub hold_time: Duration,
    /// BGP identifier; not zero.
    pub identifier: Ipv4Addr,
    /// In the order of the message.
    pub capabilities: Vec<Capability>,
}

impl Open {
    /// The sender's AS number, in four octets if it has said so.
    pub fn true_as_number(&self) -> u32 {
        let four_octets = self.capabilities.iter().find_map(|capability| match capability {
            Capability::FourOctetAs(number) => Some(*number),
            _ => None,
        });
        four_octets.unwrap_or_else(|| self.as_number.into())
    }

    pub(super) fn read(body: &[u8]) -> Result<Self, Notification> {
        let malformed = |Truncated| Notification::new(code::OPEN, 0);
        let mut reader = Reader::new(body);
        let version = reader.u8().map_err(malformed)?;
        if version != VERSION {
            let ours = u16::from(VERSION).to_be_bytes();
            return Err(Notification::new(code::OPEN, open::VERSION).with(ours));
        }
        let as_number = reader.u16().map_err(malformed)?;
        let hold_time = reader.u16().map_err(malformed)?;
        let identifier = Ipv4Addr::from(reader.u32().map_err(malformed)?);
        if as_number == 0 {
            return Err(Notification::new(code::OPEN, open::PEER_AS));
        }
        if matches!(hold_time, 1 | 2) {
            return Err(Notification::new(code::OPEN, open::HOLD_TIME));
        }
        if identifier.is_unspecified() {
            return Err(Notification::new(code::OPEN, open::IDENTIFIER));
        }
        let message = Self {
            as_number,
            hold_time: Duration::from_secs(hold_time.into()),
            identifier,
            capabilities: read_parameters(reader)?,
        };
        // A zero in the capability is as wrong as one in the field (RFC 7607).
        if message.true_as_number() == 0 {
            return Err(Notification::new(code::OPEN, open::PEER_AS));
        }
        Ok(message)
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let mut message = begin(kind::OPEN);
        message.push(VERSION);
        message.extend(self.as_number.to_be_bytes());
        let hold_time = u16::try_from(self.hold_time.as_secs()).unwrap_or(u16::MAX);
        message.extend(hold_time.to_be_bytes());
        message.extend(self.identifier.octets());
        let mut capabilities = Vec::new();
        for capability in &self.capabilities {
            capability.write(&mut capabilities);
        }
        match (
            u8::try_from(capabilities.len()),
            u8::try_from(capabilities.len() + 2),
        ) {
            (Ok(0), _) => message.push(0),
            (Ok(length), Ok(parameters)) if parameters != EXTENDED => {
                message.extend([parameters, CAPABILITIES, length]);
            }
            _ => {
                let length = |count: usize| u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes();
                message.extend([EXTENDED, EXTENDED]);
                message.extend(length(capabilities.len() + 3));
                message.push(CAPABILITIES);
                message.extend(length(capabilities.len()));
            }
        }
        message.extend(capabilities);
        end(message)
    }
}

fn read_parameters(mut reader: Reader<'_>) -> Result<Vec<Capability>, Notification> {
    let malformed = |Truncated| Notification::new(code::OPEN, 0);
    let length = reader.u8().map_err(malformed)?;
    let mut ahead = reader;
    let extended = length == EXTENDED && ahead.u8() == Ok(EXTENDED);
    let mut parameters = if extended {
        ahead.part_u16().inspect(|_| reader = ahead)
    } else {
        reader.bytes(length.into()).map(Reader::new)
    }
    .map_err(malformed)?;
    if !reader.is_empty() {
        return Err(malformed(Truncated));
    }
    let mut capabilities = Vec::new();
    while !parameters.is_empty() {
        let kind = parameters.u8().map_err(malformed)?;
        let value = if extended {
            parameters.part_u16()
        } else {
            parameters.part_u8()
        };
        let mut value = value.map_err(malformed)?;
        if kind != CAPABILITIES {
            return Err(Notification::new(code::OPEN, open::PARAMETER));
        }
        while !value.is_empty() {
            capabilities.push(Capability::read(&mut value).map_err(malformed)?);
        }
    }
    Ok(capabilities)
}
