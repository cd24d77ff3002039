// SPDX-License-Identifier: Apache-2.0
//! The message header (RFC 4271 4.1): finding where a message ends in a stream, and the first checks (6.1).

use super::notification::{Notification, code, header};

/// Bytes of marker, length and type.
pub const HEADER_LENGTH: usize = 19;
/// Longest message (RFC 4271 4).
pub const MAX_LENGTH: usize = 4096;
/// Longest message where both sides have offered extended messages (RFC 8654); never an OPEN or KEEPALIVE.
pub const MAX_EXTENDED_LENGTH: usize = 65_535;

/// Type codes.
pub(super) mod kind {
    pub(crate) const OPEN: u8 = 1;
    pub(crate) const UPDATE: u8 = 2;
    pub(crate) const NOTIFICATION: u8 = 3;
    pub(crate) const KEEPALIVE: u8 = 4;
    pub(crate) const ROUTE_REFRESH: u8 = 5;
}

/// One message within a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Type code.
    pub kind: u8,
    /// What follows the header.
    pub body: &'a [u8],
    /// Bytes of the message with its header.
    pub length: usize,
}

/// The first message of a stream; `None` if not all of it is there yet.
pub fn frame(stream: &[u8], extended: bool) -> Result<Option<Frame<'_>>, Notification> {
    let Some(head) = stream.first_chunk::<HEADER_LENGTH>() else {
        // A wrong marker is told at once: what follows it never becomes a message.
        return if stream.iter().take(16).all(|byte| *byte == 0xff) {
            Ok(None)
        } else {
            Err(Notification::new(code::HEADER, header::NOT_SYNCHRONIZED))
        };
    };
    if head[..16] != [0xff; 16] {
        return Err(Notification::new(code::HEADER, header::NOT_SYNCHRONIZED));
    }
    let (length, kind) = (u16::from_be_bytes([head[16], head[17]]), head[18]);
    let known = matches!(kind, kind::OPEN..=kind::ROUTE_REFRESH);
    let bad_length = || Notification::new(code::HEADER, header::LENGTH).with(length.to_be_bytes());
    let size = usize::from(length);
    if size < HEADER_LENGTH || size > longest(kind, extended) {
        return Err(bad_length());
    }
    if !known {
        return Err(Notification::new(code::HEADER, header::TYPE).with([kind]));
    }
    let fits = match kind {
        kind::OPEN => size >= 29,
        kind::UPDATE | kind::ROUTE_REFRESH => size >= 23,
        kind::NOTIFICATION => size >= 21,
        _ => size == HEADER_LENGTH,
    };
    if !fits {
        return Err(bad_length());
    }
    Ok(stream.get(HEADER_LENGTH..size).map(|body| Frame {
        kind,
        body,
        length: size,
    }))
}

const fn longest(kind: u8, extended: bool) -> usize {
    if extended && !matches!(kind, kind::OPEN | kind::KEEPALIVE) {
        MAX_EXTENDED_LENGTH
    } else {
        MAX_LENGTH
    }
}

/// Begins a message; [`end`] fills in its length.
pub(super) fn begin(kind: u8) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    message.extend([0, 0, kind]);
    message
}

/// Ends a message that is no longer than a message may be.
pub(super) fn end(mut message: Vec<u8>) -> Vec<u8> {
    debug_assert!(message.len() <= MAX_EXTENDED_LENGTH);
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    message[16..18].copy_from_slice(&length.to_be_bytes());
    message
}
