// SPDX-License-Identifier: Apache-2.0
//! Messages as bytes and back. Reading checks everything that needs no knowledge of the peer; what is wrong comes back
//! as the NOTIFICATION to send, or, in an UPDATE, as a defect that does not end the session (RFC 7606).

mod announcement;
mod attribute_reader;
mod capability;
mod defect;
mod encoding;
mod header;
mod nlri;
pub mod notification;
mod open;
mod reader;
mod route_refresh;
#[cfg(test)]
mod tests;
mod update;
mod writer;

pub use announcement::{Announcement, NextHop};
pub use capability::{AddPath, Capability, GracefulFamily, GracefulRestart};
pub use defect::{Consequence, Defect};
pub use encoding::Encoding;
pub use header::{Frame, HEADER_LENGTH, MAX_EXTENDED_LENGTH, MAX_LENGTH, frame};
pub use notification::Notification;
pub use open::{AS_TRANS, Open, VERSION};
pub use route_refresh::{RefreshSubtype, RouteRefresh};
pub use update::Update;
pub use writer::{AttributesTooLong, EncodedAttributes, announce, end_of_rib, withdraw};

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are UPDATEs, and none is kept"
)]
pub enum Message {
    /// Who the sender is and what it can.
    Open(Open),
    /// Routes.
    Update(Update),
    /// The session ends.
    Notification(Notification),
    /// The sender is alive.
    Keepalive,
    /// Routes are wanted again, or follow again.
    RouteRefresh(RouteRefresh),
}

impl Message {
    /// Reads a message that [`frame`] has found.
    pub fn read(frame: &Frame<'_>, encoding: Encoding) -> Result<Self, Notification> {
        use header::kind;
        match frame.kind {
            kind::OPEN => Open::read(frame.body).map(Self::Open),
            kind::UPDATE => Update::read(frame.body, encoding).map(Self::Update),
            kind::NOTIFICATION => {
                // Its length was checked with the header.
                let (head, data) = frame.body.split_at_checked(2).unwrap_or((&[0, 0], &[]));
                Ok(Self::Notification(Notification::new(head[0], head[1]).with(data)))
            }
            kind::KEEPALIVE => Ok(Self::Keepalive),
            _ => RouteRefresh::read(frame.body).map(Self::RouteRefresh),
        }
    }
}

impl Open {
    /// As a message.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.write()
    }
}

impl RouteRefresh {
    /// As a message.
    pub fn to_bytes(self) -> Vec<u8> {
        self.write()
    }
}

impl Notification {
    /// As a message; data that does not fit is cut.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut message = header::begin(header::kind::NOTIFICATION);
        message.extend([self.code, self.subcode]);
        let room = MAX_LENGTH - message.len();
        message.extend(self.data.iter().take(room));
        header::end(message)
    }
}

/// A KEEPALIVE.
pub fn keepalive() -> Vec<u8> {
    header::end(header::begin(header::kind::KEEPALIVE))
}
