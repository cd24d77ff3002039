// SPDX-License-Identifier: Apache-2.0
//! Can one place reach another: ICMP echo, an HTTP request, a UDP datagram there and back. No program is needed for it.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

use crate::place::Place;

/// How long an answer may take. Nothing here travels further than this machine.
const LIMIT: Duration = Duration::from_secs(5);
/// What is sent; long enough to be told from anything else.
const PAYLOAD: &[u8; 16] = b"calico test bed.";

/// Sends one ICMP echo request from a place and waits for the reply: the time between them.
pub fn ping(place: &Place, address: IpAddr) -> Result<Duration> {
    ping_within(LIMIT, place, address)
}

/// The same where it may well get lost, and is to be tried again soon.
pub fn ping_within(limit: Duration, place: &Place, address: IpAddr) -> Result<Duration> {
    place
        .run(|| echo(address, limit))?
        .with_context(|| format!("ping {address} from {}", place.path().display()))
}

/// The body of the answer to `GET /`.
pub fn http(place: &Place, server: SocketAddr) -> Result<String> {
    place
        .run(|| get(server))?
        .with_context(|| format!("GET http://{server}/ from {}", place.path().display()))
}

/// Sends a datagram and expects it back: the time between.
pub fn udp(place: &Place, server: SocketAddr) -> Result<Duration> {
    place
        .run(|| datagram(server))?
        .with_context(|| format!("UDP echo of {server} from {}", place.path().display()))
}

fn get(server: SocketAddr) -> Result<String> {
    let mut connection = TcpStream::connect_timeout(&server, LIMIT)?;
    connection.set_read_timeout(Some(LIMIT))?;
    write!(
        connection,
        "GET / HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
        _ => bail!("unexpected answer {answer:?}"),
    }
}

fn datagram(server: SocketAddr) -> Result<Duration> {
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(LIMIT))?;
    let start = Instant::now();
    socket.send(PAYLOAD)?;
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer)?;
    if answer[..length] != PAYLOAD[..] {
        bail!("another datagram came back");
    }
    Ok(start.elapsed())
}

/// Message types of echo (RFC 792, RFC 4443).
struct Echo {
    request: u8,
    reply: u8,
}

const ICMP: Echo = Echo { request: 8, reply: 0 };
const ICMPV6: Echo = Echo {
    request: 128,
    reply: 129,
};

fn echo(address: IpAddr, limit: Duration) -> Result<Duration> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let (domain, protocol, kind) = match address {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, ICMP),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, ICMPV6),
    };
    let mut socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    // Connected, it receives from this address only.
    socket.connect(&SocketAddr::new(address, 0).into())?;
    let [low, high, ..] = std::process::id().to_le_bytes();
    let identifier = u16::from_le_bytes([low, high]).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
    let message = request(&kind, identifier);
    let start = Instant::now();
    socket.send(&message)?;
    let mut buffer = [0; 256];
    loop {
        let left = limit.saturating_sub(start.elapsed());
        if left.is_zero() {
            bail!("no answer within {limit:?}");
        }
        socket.set_read_timeout(Some(left))?;
        let length = match socket.read(&mut buffer) {
            Ok(length) => length,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        // IPv4 hands out its own header as well.
        let header = if address.is_ipv4() {
            usize::from(buffer[0] & 15) * 4
        } else {
            0
        };
        let reply = buffer[..length].get(header..).unwrap_or_default();
        if reply.first() == Some(&kind.reply) && reply.get(4..8) == message.get(4..8) {
            return Ok(start.elapsed());
        }
    }
}

/// An echo request. The kernel fills in the checksum of ICMPv6, ours covers ICMP.
fn request(kind: &Echo, identifier: u16) -> [u8; 24] {
    let mut message = [0; 24];
    message[0] = kind.request;
    message[4..6].copy_from_slice(&identifier.to_be_bytes());
    message[7] = 1;
    message[8..].copy_from_slice(PAYLOAD);
    let words = message
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    // 24 bytes: the sum has at most four carries, and adding them carries at most once more.
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !(folded + (folded >> 16));
    message[2..4].copy_from_slice(&checksum.to_be_bytes()[2..]);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_rfc_1071() {
        let message = request(&ICMP, 0x1234);
        let sum: u32 = message
            .chunks_exact(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        assert_eq!(
            (sum & 0xffff) + (sum >> 16),
            0xffff,
            "a sound message sums to all ones"
        );
    }
}
