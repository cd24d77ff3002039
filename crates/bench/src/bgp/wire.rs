// SPDX-License-Identifier: Apache-2.0
//! The other end of a session, as simple as it can be: says who it is, and reads messages.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bgp::Family;
use bgp::message::{
    AS_TRANS, Capability, Encoding, Frame, GracefulFamily, GracefulRestart, Message, Open, frame, keepalive,
};

/// Hold time that is offered: nobody's keepalives are to be part of a measurement.
pub const HOLD: Duration = Duration::from_secs(240);
/// How long the other side may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who this end is.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    /// AS number.
    pub as_number: u32,
    /// BGP identifier.
    pub identifier: Ipv4Addr,
}

/// The OPEN: IPv4, four-octet AS numbers, refresh, graceful restart; all of what every daemon here knows.
pub fn open(identity: Identity) -> Vec<u8> {
    let family = Family::Ipv4.code();
    let restart = GracefulRestart {
        restarted: false,
        notification: false,
        time: Duration::from_secs(120),
        families: vec![GracefulFamily {
            family,
            forwarding: true,
        }],
    };
    let capabilities = vec![
        Capability::Multiprotocol(family),
        Capability::RouteRefresh,
        Capability::FourOctetAs(identity.as_number),
        Capability::GracefulRestart(restart),
    ];
    let message = Open {
        as_number: identity.as_number.try_into().unwrap_or(AS_TRANS),
        hold_time: HOLD,
        identifier: identity.identifier,
        capabilities,
    };
    message.to_bytes()
}

/// The form of messages that follows from such an OPEN.
pub fn encoding() -> Encoding {
    Encoding {
        families: [Family::Ipv4].into_iter().collect(),
        four_octet_as: true,
        ..Encoding::default()
    }
}

/// Takes the messages that are complete out of what was received.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    taken: usize,
}

impl Inbox {
    /// Adds what was received.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message and all its bytes.
    pub fn next_message(&mut self) -> Result<Option<(Message, &[u8])>> {
        let rest = &self.bytes[self.taken..];
        let refused = |problem| anyhow::anyhow!("not BGP: {problem:?}");
        let Some(Frame { kind, body, length }) = frame(rest, false).map_err(refused)? else {
            return Ok(None);
        };
        self.taken += length;
        let message = Message::read(&Frame { kind, body, length }, encoding()).map_err(refused)?;
        Ok(Some((message, &rest[..length])))
    }
}

/// Makes a session on a connection: returns when it is Established on this side.
pub fn establish(stream: &mut TcpStream, identity: Identity) -> Result<Inbox> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&open(identity))?;
    let mut inbox = Inbox::default();
    loop {
        while let Some((message, _)) = inbox.next_message()? {
            match message {
                Message::Open(_) => stream.write_all(&keepalive())?,
                Message::Keepalive => return Ok(inbox),
                other => bail!("instead of OPEN or KEEPALIVE came {other:?}"),
            }
        }
        receive(stream, &mut inbox)?;
    }
}

/// Waits for more.
pub fn receive(stream: &mut TcpStream, inbox: &mut Inbox) -> Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let count = stream.read(&mut buffer).context("the peer is silent")?;
    if count == 0 {
        bail!("the peer has closed the connection");
    }
    inbox.extend(&buffer[..count]);
    Ok(())
}
