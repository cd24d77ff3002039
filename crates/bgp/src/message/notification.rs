// SPDX-License-Identifier: Apache-2.0
//! NOTIFICATION: why a session ends (RFC 4271 4.5 and 6, RFC 4486, 5492, 6608, 7313, 8538, 9003).

use std::fmt;

/// An error or a request to end; ends the session, whichever side sends it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode; 0 is "unspecific".
    pub subcode: u8,
    /// What the code asks for, often the offending field.
    pub data: Vec<u8>,
}

/// Error codes.
pub mod code {
    /// Message header error.
    pub const HEADER: u8 = 1;
    /// OPEN message error.
    pub const OPEN: u8 = 2;
    /// UPDATE message error.
    pub const UPDATE: u8 = 3;
    /// Hold timer expired.
    pub const HOLD_TIMER: u8 = 4;
    /// Finite state machine error.
    pub const FSM: u8 = 5;
    /// Cease.
    pub const CEASE: u8 = 6;
    /// ROUTE-REFRESH message error (RFC 7313).
    pub const ROUTE_REFRESH: u8 = 7;
    /// Send hold timer expired (RFC 9687).
    pub const SEND_HOLD_TIMER: u8 = 8;
}

/// Subcodes of a message header error.
pub mod header {
    /// Connection not synchronized.
    pub const NOT_SYNCHRONIZED: u8 = 1;
    /// Bad message length.
    pub const LENGTH: u8 = 2;
    /// Bad message type.
    pub const TYPE: u8 = 3;
}

/// Subcodes of an OPEN message error.
pub mod open {
    /// Unsupported version number.
    pub const VERSION: u8 = 1;
    /// Bad peer AS.
    pub const PEER_AS: u8 = 2;
    /// Bad BGP identifier.
    pub const IDENTIFIER: u8 = 3;
    /// Unsupported optional parameter.
    pub const PARAMETER: u8 = 4;
    /// Unacceptable hold time.
    pub const HOLD_TIME: u8 = 6;
    /// Unsupported capability (RFC 5492).
    pub const CAPABILITY: u8 = 7;
}

/// Subcodes of an UPDATE message error.
pub mod update {
    /// Malformed attribute list.
    pub const ATTRIBUTE_LIST: u8 = 1;
    /// Unrecognized well-known attribute.
    pub const UNKNOWN_WELL_KNOWN: u8 = 2;
    /// Attribute length error.
    pub const ATTRIBUTE_LENGTH: u8 = 5;
    /// Optional attribute error.
    pub const OPTIONAL_ATTRIBUTE: u8 = 9;
    /// Invalid network field.
    pub const NETWORK: u8 = 10;
}

/// Subcodes of a finite state machine error (RFC 6608).
pub mod fsm {
    /// Unexpected message in OpenSent.
    pub const IN_OPEN_SENT: u8 = 1;
    /// Unexpected message in OpenConfirm.
    pub const IN_OPEN_CONFIRM: u8 = 2;
    /// Unexpected message in Established.
    pub const IN_ESTABLISHED: u8 = 3;
}

/// Subcodes of Cease (RFC 4486, 8538).
pub mod cease {
    /// Maximum number of prefixes reached.
    pub const MAXIMUM_PREFIXES: u8 = 1;
    /// Administrative shutdown.
    pub const SHUTDOWN: u8 = 2;
    /// Peer de-configured.
    pub const DECONFIGURED: u8 = 3;
    /// Administrative reset.
    pub const RESET: u8 = 4;
    /// Connection rejected.
    pub const REJECTED: u8 = 5;
    /// Other configuration change.
    pub const CONFIGURATION: u8 = 6;
    /// Connection collision resolution.
    pub const COLLISION: u8 = 7;
    /// Out of resources.
    pub const RESOURCES: u8 = 8;
    /// Hard reset.
    pub const HARD_RESET: u8 = 9;
}

/// Longest shutdown communication (RFC 9003 2), in bytes.
const MAX_COMMUNICATION: usize = 255;

impl Notification {
    /// One without data.
    pub const fn new(code: u8, subcode: u8) -> Self {
        Self {
            code,
            subcode,
            data: Vec::new(),
        }
    }

    /// With data.
    #[must_use]
    pub fn with(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.data = data.into();
        self
    }

    /// Cease for an administrative shutdown or reset, with a text for the other side's operator. What is longer than
    /// RFC 9003 allows is cut at a character.
    pub fn shutdown(subcode: u8, text: &str) -> Self {
        let fits = |end: &usize| text.is_char_boundary(*end);
        let end = (0..=text.len().min(MAX_COMMUNICATION))
            .rev()
            .find(fits)
            .unwrap_or(0);
        let text = &text.as_bytes()[..end];
        let mut data = Vec::with_capacity(text.len() + 1);
        if let (Ok(length), false) = (u8::try_from(text.len()), text.is_empty()) {
            data.push(length);
            data.extend_from_slice(text);
        }
        Self::new(code::CEASE, subcode).with(data)
    }

    /// The other side's text of a shutdown or reset, made safe to print.
    pub fn communication(&self) -> Option<String> {
        let carries = self.code == code::CEASE && matches!(self.subcode, cease::SHUTDOWN | cease::RESET);
        let (length, text) = self.data.split_first().filter(|_| carries)?;
        let text = text.get(..usize::from(*length)).filter(|text| !text.is_empty())?;
        let printable = |character: char| {
            if character.is_control() {
                '\u{fffd}'
            } else {
                character
            }
        };
        Some(String::from_utf8_lossy(text).chars().map(printable).collect())
    }

    fn names(&self) -> (&'static str, &'static str) {
        let subcode = self.subcode;
        match self.code {
            code::HEADER => (
                "message header error",
                match subcode {
                    header::NOT_SYNCHRONIZED => "connection not synchronized",
                    header::LENGTH => "bad message length",
                    header::TYPE => "bad message type",
                    _ => "",
                },
            ),
            code::OPEN => (
                "OPEN message error",
                match subcode {
                    open::VERSION => "unsupported version number",
                    open::PEER_AS => "bad peer AS",
                    open::IDENTIFIER => "bad BGP identifier",
                    open::PARAMETER => "unsupported optional parameter",
                    open::HOLD_TIME => "unacceptable hold time",
                    open::CAPABILITY => "unsupported capability",
                    11 => "role mismatch",
                    _ => "",
                },
            ),
            code::UPDATE => (
                "UPDATE message error",
                match subcode {
                    update::ATTRIBUTE_LIST => "malformed attribute list",
                    update::UNKNOWN_WELL_KNOWN => "unrecognized well-known attribute",
                    3 => "missing well-known attribute",
                    4 => "attribute flags error",
                    update::ATTRIBUTE_LENGTH => "attribute length error",
                    6 => "invalid ORIGIN attribute",
                    8 => "invalid NEXT_HOP attribute",
                    update::OPTIONAL_ATTRIBUTE => "optional attribute error",
                    update::NETWORK => "invalid network field",
                    11 => "malformed AS_PATH",
                    _ => "",
                },
            ),
            code::HOLD_TIMER => ("hold timer expired", ""),
            code::FSM => (
                "finite state machine error",
                match subcode {
                    fsm::IN_OPEN_SENT => "unexpected message in OpenSent",
                    fsm::IN_OPEN_CONFIRM => "unexpected message in OpenConfirm",
                    fsm::IN_ESTABLISHED => "unexpected message in Established",
                    _ => "",
                },
            ),
            code::CEASE => (
                "cease",
                match subcode {
                    cease::MAXIMUM_PREFIXES => "maximum number of prefixes reached",
                    cease::SHUTDOWN => "administrative shutdown",
                    cease::DECONFIGURED => "peer de-configured",
                    cease::RESET => "administrative reset",
                    cease::REJECTED => "connection rejected",
                    cease::CONFIGURATION => "other configuration change",
                    cease::COLLISION => "connection collision resolution",
                    cease::RESOURCES => "out of resources",
                    cease::HARD_RESET => "hard reset",
                    10 => "BFD down",
                    _ => "",
                },
            ),
            code::ROUTE_REFRESH => ("ROUTE-REFRESH message error", ""),
            code::SEND_HOLD_TIMER => ("send hold timer expired", ""),
            _ => ("unknown error", ""),
        }
    }
}

/// As operators know it: `6/2 cease: administrative shutdown "text"`.
impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, detail) = self.names();
        write!(f, "{}/{} {name}", self.code, self.subcode)?;
        if !detail.is_empty() {
            write!(f, ": {detail}")?;
        }
        match self.communication() {
            Some(text) => write!(f, " {text:?}"),
            None => Ok(()),
        }
    }
}
