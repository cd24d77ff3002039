// SPDX-License-Identifier: Apache-2.0
//! The netlink message format (RFC 3549 2.3): a header, a fixed structure, then attributes, all aligned to four bytes.
//!
//! Written and read in place: the programs send some fifteen kinds of message, and a reader that takes only what it
//! asked for cannot trip over an attribute that a newer kernel adds or lengthens. netlink-packet-route, which types
//! every attribute, is the oracle of the tests instead. Used by every netlink module; knows no subsystem.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;
/// The type bits of an attribute that are flags: nested, network byte order.
const ATTRIBUTE_FLAGS: u16 = 0xc000;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;

/// One message under construction, beginning with its header.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    bytes: Vec<u8>,
    /// A part did not fit the 16-bit length of its attribute, so the message must not be sent.
    too_long: bool,
}

impl Message {
    /// A message of this type; `flags` beyond `NLM_F_REQUEST`.
    pub(crate) fn new(kind: u16, flags: i32) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        let flags = u16::try_from(flags | libc::NLM_F_REQUEST).expect("netlink flags are 16 bits");
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        Self {
            bytes,
            too_long: false,
        }
    }

    /// Appends the fixed structure that follows the header, or a part of it.
    pub(crate) fn fixed(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Appends an attribute.
    pub(crate) fn attribute(&mut self, kind: u16, payload: &[u8]) {
        self.parts(kind, payload, &[]);
    }

    /// Appends an attribute whose payload is a 32-bit number in host byte order.
    pub(crate) fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// Appends a text with the zero byte that ends it.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        self.parts(kind, value.as_bytes(), &[0]);
    }

    /// Appends an address of either family.
    pub(crate) fn address(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.attribute(kind, &address.octets()),
            IpAddr::V6(address) => self.attribute(kind, &address.octets()),
        }
    }

    /// Appends an attribute that holds what `fill` appends.
    pub(crate) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.attribute(kind | NESTED, &[]);
        fill(self);
        self.set_length(start);
    }

    /// Appends fixed bytes inside a nested attribute (`ifinfomsg` of a peer).
    pub(crate) fn inner_fixed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends a structure that begins with its own 16-bit length (`rtnexthop`).
    pub(crate) fn sized(&mut self, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        fill(self);
        self.set_length(start);
    }

    /// Adds header flags.
    pub(crate) fn add_flags(&mut self, flags: i32) {
        let flags = u16::try_from(flags).expect("netlink flags are 16 bits");
        let old = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]);
        self.bytes[6..8].copy_from_slice(&(old | flags).to_ne_bytes());
    }

    /// Adds `NLM_F_ACK` to a finished message.
    pub(crate) fn ask_for_answer(finished: &mut [u8]) {
        if let Some(flags) = finished.get_mut(6..8) {
            let old = u16::from_ne_bytes([flags[0], flags[1]]);
            let asked = u16::try_from(libc::NLM_F_ACK).expect("netlink flags are 16 bits");
            flags.copy_from_slice(&(old | asked).to_ne_bytes());
        }
    }

    /// The finished message with its length and sequence number.
    pub(crate) fn finish(&mut self, sequence: u32) -> &[u8] {
        let length = u32::try_from(self.bytes.len()).expect("messages are below 4 GiB");
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        &self.bytes
    }

    /// Whether a part of it was too long to be expressed.
    pub(crate) fn is_too_long(&self) -> bool {
        self.too_long
    }

    fn parts(&mut self, kind: u16, first: &[u8], second: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(first);
        self.bytes.extend_from_slice(second);
        self.set_length(start);
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }

    /// Writes the length of the structure that began at `start` into its first two bytes.
    fn set_length(&mut self, start: usize) {
        match u16::try_from(self.bytes.len() - start) {
            Ok(length) => self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.too_long = true,
        }
    }
}

/// One received message: type, flags, sequence number and what follows the header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// Port of the socket whose request caused it; 0 where the kernel acted by itself.
    pub(crate) port: u32,
    pub(crate) body: &'a [u8],
}

/// The messages of one datagram; ends at the first that is cut off.
pub(crate) struct Messages<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Received<'a>;

    fn next(&mut self) -> Option<Received<'a>> {
        let length = usize::try_from(read_u32(self.0)?).ok()?;
        let (header, body) = self.0.get(..length)?.split_at_checked(HEADER)?;
        let message = Received {
            kind: read_u16(&header[4..])?,
            flags: read_u16(&header[6..])?,
            sequence: read_u32(&header[8..])?,
            port: read_u32(&header[12..])?,
            body,
        };
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some(message)
    }
}

/// The attributes of a message or of a nested attribute: type without its flag bits, payload. Ends at the first that
/// is cut off.
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(read_u16(self.0)?);
        let kind = read_u16(self.0.get(2..)?)? & !ATTRIBUTE_FLAGS;
        let payload = self.0.get(4..length)?;
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some((kind, payload))
    }
}

/// The next multiple of four.
pub(crate) const fn aligned(length: usize) -> usize {
    (length + 3) & !3
}

pub(crate) fn read_u16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

pub(crate) fn read_u32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

pub(crate) fn read_i32(bytes: &[u8]) -> Option<i32> {
    bytes.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes))
}

/// A text up to its zero byte; bytes that are not UTF-8 are replaced, since names of links may hold any.
pub(crate) fn read_text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// An address of four or sixteen bytes.
pub(crate) fn read_address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(bytes)
        .ok()
        .map(|octets| Ipv6Addr::from(octets).into())
}

/// `AF_INET` or `AF_INET6`, as one byte.
pub(crate) fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => INET,
        IpAddr::V6(_) => INET6,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the kernel keeps address families in one byte"
)]
pub(crate) const INET: u8 = libc::AF_INET as u8;
#[expect(
    clippy::cast_possible_truncation,
    reason = "the kernel keeps address families in one byte"
)]
pub(crate) const INET6: u8 = libc::AF_INET6 as u8;
