// SPDX-License-Identifier: Apache-2.0
//! BGP by hand: messages put together byte by byte, right and wrong ones alike, and a TCP connection they go over. Nothing
//! here is the codec's of this project, which is what is being tested.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use ipnet::Ipv4Net;
use testbed::Place;

/// Message types.
pub(crate) const OPEN: u8 = 1;
pub(crate) const UPDATE: u8 = 2;
pub(crate) const NOTIFICATION: u8 = 3;
pub(crate) const KEEPALIVE: u8 = 4;

/// Attribute flags: well-known ones, optional ones that end here, optional ones that are passed on.
pub(crate) const WELL_KNOWN: u8 = 0x40;
pub(crate) const OPTIONAL: u8 = 0x80;
pub(crate) const TRANSITIVE: u8 = 0xc0;

/// How long the agent may take to answer a message.
pub(crate) const PROMPT: Duration = Duration::from_secs(5);

/// A whole message.
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(19 + body.len()).expect("a message that fits");
    let mut bytes = vec![0xff; 16];
    bytes.extend(length.to_be_bytes());
    bytes.push(kind);
    bytes.extend(body);
    bytes
}

/// A KEEPALIVE.
pub(crate) fn keepalive() -> Vec<u8> {
    message(KEEPALIVE, &[])
}

/// One capability.
pub(crate) fn capability(code: u8, value: &[u8]) -> Vec<u8> {
    [&[code, u8::try_from(value.len()).expect("a short one")], value].concat()
}

/// What an OPEN says.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) version: u8,
    pub(crate) as_number: u32,
    pub(crate) hold: u16,
    pub(crate) identifier: [u8; 4],
    /// Optional parameters as they are.
    pub(crate) parameters: Vec<u8>,
}

impl Offer {
    /// IPv4 unicast, four-octet AS numbers, route refresh.
    pub(crate) fn new(as_number: u32, hold: u16, identifier: [u8; 4]) -> Self {
        let capabilities = [
            capability(1, &[0, 1, 0, 1]),
            capability(2, &[]),
            capability(65, &as_number.to_be_bytes()),
        ];
        Self::with(as_number, hold, identifier, &capabilities.concat())
    }

    /// With certain capabilities.
    pub(crate) fn with(as_number: u32, hold: u16, identifier: [u8; 4], capabilities: &[u8]) -> Self {
        let length = u8::try_from(capabilities.len()).expect("few capabilities");
        Self {
            version: 4,
            as_number,
            hold,
            identifier,
            parameters: [&[2, length], capabilities].concat(),
        }
    }

    /// The message.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let short = u16::try_from(self.as_number).unwrap_or(23_456);
        let mut body = vec![self.version];
        body.extend(short.to_be_bytes());
        body.extend(self.hold.to_be_bytes());
        body.extend(self.identifier);
        body.push(u8::try_from(self.parameters.len()).expect("few parameters"));
        body.extend(&self.parameters);
        message(OPEN, &body)
    }
}

/// One path attribute, with a long length where it takes one.
pub(crate) fn attribute(flags: u8, kind: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(length) = u8::try_from(value.len()) {
        bytes.extend([flags, kind, length]);
    } else {
        bytes.extend([flags | 0x10, kind]);
        bytes.extend(u16::try_from(value.len()).expect("it fits").to_be_bytes());
    }
    bytes.extend(value);
    bytes
}

/// ORIGIN IGP.
pub(crate) fn origin() -> Vec<u8> {
    attribute(WELL_KNOWN, 1, &[0])
}

/// `AS_PATH` of one sequence of four-octet numbers.
pub(crate) fn as_path(numbers: &[u32]) -> Vec<u8> {
    let mut value = Vec::new();
    if !numbers.is_empty() {
        value.extend([2, u8::try_from(numbers.len()).expect("a short path")]);
        value.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
    }
    attribute(WELL_KNOWN, 2, &value)
}

/// `NEXT_HOP`.
pub(crate) fn next_hop(address: IpAddr) -> Vec<u8> {
    let IpAddr::V4(address) = address else {
        panic!("{address} is no IPv4 address");
    };
    attribute(WELL_KNOWN, 3, &address.octets())
}

/// Prefixes on the wire.
pub(crate) fn prefixes(list: &[Ipv4Net]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for prefix in list {
        bytes.push(prefix.prefix_len());
        let octets = usize::from(prefix.prefix_len().div_ceil(8));
        bytes.extend(&prefix.network().octets()[..octets]);
    }
    bytes
}

/// An UPDATE of parts that are as they are.
pub(crate) fn update(withdrawn: &[u8], attributes: &[u8], announced: &[u8]) -> Vec<u8> {
    let length = |part: &[u8]| u16::try_from(part.len()).expect("it fits").to_be_bytes();
    let body = [
        &length(withdrawn)[..],
        withdrawn,
        &length(attributes),
        attributes,
        announced,
    ];
    message(UPDATE, &body.concat())
}

/// An UPDATE that announces prefixes as it should be done.
pub(crate) fn announce(path: &[u32], hop: IpAddr, list: &[Ipv4Net]) -> Vec<u8> {
    let attributes = [origin(), as_path(path), next_hop(hop)].concat();
    update(&[], &attributes, &prefixes(list))
}

/// An UPDATE that takes prefixes back.
pub(crate) fn withdraw(list: &[Ipv4Net]) -> Vec<u8> {
    update(&prefixes(list), &[], &[])
}

/// An IPv4 prefix.
pub(crate) fn v4net(text: &str) -> Ipv4Net {
    text.parse().expect("a prefix")
}

/// The `n`th of many prefixes of 28 bits.
pub(crate) fn numbered(first: [u8; 4], number: u32) -> Ipv4Net {
    let address = u32::from(Ipv4Addr::from(first)) + number * 16;
    Ipv4Net::new(Ipv4Addr::from(address), 28).expect("a length that fits")
}

/// A NOTIFICATION.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: u8,
    pub(crate) subcode: u8,
    pub(crate) data: Vec<u8>,
}

/// A connection to the agent, from a place and an address of it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Line {
    /// Connects.
    pub(crate) fn dial(place: &Place, from: IpAddr, to: IpAddr) -> Result<Self> {
        let stream = place.run(|| -> Result<TcpStream> {
            let socket = socket2::Socket::new(
                socket2::Domain::for_address(SocketAddr::new(to, 179)),
                socket2::Type::STREAM,
                None,
            )?;
            socket.bind(&SocketAddr::new(from, 0).into())?;
            socket.connect_timeout(&SocketAddr::new(to, 179).into(), PROMPT)?;
            Ok(socket.into())
        })??;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }

    /// Connects and exchanges OPENs and KEEPALIVEs. A connection that loses against an earlier one that is about to end is
    /// made once more.
    pub(crate) fn establish(place: &Place, from: IpAddr, to: IpAddr, offer: &Offer) -> Result<Self> {
        let deadline = Instant::now() + PROMPT;
        loop {
            let mut line = Self::dial(place, from, to)?;
            match line.handshake(offer) {
                Ok(()) => return Ok(line),
                Err(problem) if Instant::now() > deadline => return Err(problem),
                Err(_) => {}
            }
        }
    }

    /// OPENs and KEEPALIVEs.
    pub(crate) fn handshake(&mut self, offer: &Offer) -> Result<()> {
        self.send(&offer.bytes())?;
        self.expect(OPEN)?;
        self.send(&keepalive())?;
        self.expect(KEEPALIVE).map(drop)
    }

    /// Sends bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("send")
    }

    /// The next message, by type and body; `None` at the end of the connection.
    pub(crate) fn next(&mut self, limit: Duration) -> Result<Option<(u8, Vec<u8>)>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(head) = self.buffer.get(..19) {
                let length = usize::from(u16::from_be_bytes([head[16], head[17]]));
                let kind = head[18];
                if self.buffer.len() >= length {
                    let rest = self.buffer.split_off(length);
                    let whole = std::mem::replace(&mut self.buffer, rest);
                    return Ok(Some((kind, whole[19..].to_vec())));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "nothing came within {limit:?}");
            self.stream.set_read_timeout(Some(left))?;
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Ok(None),
                Ok(count) => self.buffer.extend(&bytes[..count]),
                Err(problem) if problem.kind() == ErrorKind::ConnectionReset => return Ok(None),
                Err(problem) if matches!(problem.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(problem) => return Err(problem.into()),
            }
        }
    }

    /// The next message, which has to be of a type.
    pub(crate) fn expect(&mut self, kind: u8) -> Result<Vec<u8>> {
        match self.next(PROMPT)? {
            Some((found, body)) if found == kind => Ok(body),
            Some((found, body)) => bail!("message of type {found} instead of {kind}: {body:?}"),
            None => bail!("the connection was closed instead of a message of type {kind}"),
        }
    }

    /// Reads on until a NOTIFICATION comes, after which the connection has to end.
    pub(crate) fn refusal(&mut self, limit: Duration) -> Result<Refusal> {
        loop {
            let (kind, body) = self.next(limit)?.context("closed without a NOTIFICATION")?;
            if kind == NOTIFICATION {
                ensure!(body.len() >= 2, "a short NOTIFICATION: {body:?}");
                ensure!(
                    self.next(PROMPT)?.is_none(),
                    "something came after the NOTIFICATION"
                );
                return Ok(Refusal {
                    code: body[0],
                    subcode: body[1],
                    data: body[2..].to_vec(),
                });
            }
        }
    }
}
