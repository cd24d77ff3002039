// SPDX-License-Identifier: Apache-2.0
//! The form of messages, which each session agrees on.

use crate::family::FamilySet;

/// What the two sides of a session have agreed about the form of their messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is agreed by itself")]
pub struct Encoding {
    /// Families whose routes are exchanged.
    pub families: FamilySet,
    /// Whether the peer is in the own AS.
    pub internal: bool,
    /// AS numbers have four octets in AS_PATH and AGGREGATOR (RFC 6793).
    pub four_octet_as: bool,
    /// Messages may have up to 65535 bytes (RFC 8654).
    pub extended_message: bool,
    /// Families whose prefixes the peer sends with path identifiers (RFC 7911).
    pub add_path_receive: FamilySet,
    /// Families whose prefixes are sent with path identifiers.
    pub add_path_send: FamilySet,
    /// IPv4 routes may have IPv6 next hops (RFC 8950).
    pub ipv4_over_ipv6: bool,
}
