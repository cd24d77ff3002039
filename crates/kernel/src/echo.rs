// SPDX-License-Identifier: Apache-2.0
//! Echo requests (RFC 792, RFC 4443 4.1) out of a given device, never fragmented: whether packets of a size get to an
//! address and back. Needs `CAP_NET_RAW`.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, recvfrom, sendto,
    setsockopt, socket, sockopt,
};

use crate::error::{Error, Result};
use crate::tcp::set_option;

const HEADER: usize = 8;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// Largest answer.
const LARGEST: usize = 65_536;

/// A socket for echo requests of one address family.
#[derive(Debug)]
pub struct EchoSocket {
    socket: OwnedFd,
    v6: bool,
    /// Tells this socket's requests from those of others.
    identifier: u16,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoReply {
    /// Who answers.
    pub from: IpAddr,
    /// The number that the request had.
    pub number: u16,
    /// Bytes of the whole packet, IP header included.
    pub size: usize,
}

impl EchoSocket {
    /// A socket that sends from an address, out of a device, with this identifier.
    pub fn open(device: &str, source: IpAddr, identifier: u16) -> Result<Self> {
        let failed = |errno: Errno| Error::new(format!("open a socket for echo requests on {device}"), errno);
        let v6 = source.is_ipv6();
        let (family, protocol) = if v6 {
            (AddressFamily::Inet6, SockProtocol::IcmpV6)
        } else {
            (AddressFamily::Inet, SockProtocol::Icmp)
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(family, SockType::Raw, flags, protocol).map_err(failed)?;
        setsockopt(&socket, sockopt::BindToDevice, &OsString::from(device)).map_err(failed)?;
        // Neither fragmented here nor kept small by what was learned before: the size is what is asked about.
        let (level, name, probe) = if v6 {
            (
                libc::IPPROTO_IPV6,
                libc::IPV6_MTU_DISCOVER,
                libc::IPV6_PMTUDISC_PROBE,
            )
        } else {
            (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)
        };
        set_option(socket.as_fd(), level, name, &probe.to_ne_bytes()).map_err(failed)?;
        bind(
            socket.as_raw_fd(),
            &SockaddrStorage::from(SocketAddr::new(source, 0)),
        )
        .map_err(failed)?;
        Ok(Self {
            socket,
            v6,
            identifier,
        })
    }

    /// Sends a request. `size` is that of the whole packet, IP header included; it is never below what the headers need.
    pub fn send(&self, to: IpAddr, number: u16, size: usize) -> Result<()> {
        let ip_header = if self.v6 { IPV6_HEADER } else { IPV4_HEADER };
        let mut packet = vec![0; size.saturating_sub(ip_header).max(HEADER)];
        packet[0] = if self.v6 { 128 } else { 8 };
        packet[4..6].copy_from_slice(&self.identifier.to_be_bytes());
        packet[6..8].copy_from_slice(&number.to_be_bytes());
        if !self.v6 {
            // The kernel sees to it for IPv6.
            let checksum = checksum(&packet);
            packet[2..4].copy_from_slice(&checksum.to_be_bytes());
        }
        let address = SockaddrStorage::from(SocketAddr::new(to, 0));
        sendto(self.socket.as_raw_fd(), &packet, &address, MsgFlags::empty())
            .map(drop)
            .map_err(|errno| Error::new(format!("send an echo request of {size} bytes to {to}"), errno))
    }

    /// Waits for the next answer to a request of this socket, at most so long; `None`: there is none.
    pub fn receive(&self, limit: Duration) -> Result<Option<EchoReply>> {
        let failed = |errno: Errno| Error::new("wait for an echo reply", errno);
        let until = std::time::Instant::now() + limit;
        let mut buffer = vec![0; LARGEST];
        loop {
            let left = until.saturating_duration_since(std::time::Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut wanted = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut wanted, timeout) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(failed(errno)),
            }
            match recvfrom::<SockaddrStorage>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((length, Some(from))) => {
                    let reply = address(&from).and_then(|from| self.read(&buffer[..length], from));
                    if reply.is_some() {
                        return Ok(reply);
                    }
                }
                // A message about an earlier packet (too big, unreachable) is no answer.
                Ok((_, None)) | Err(Errno::EAGAIN | Errno::EINTR | Errno::EMSGSIZE | Errno::EHOSTUNREACH) => {
                }
                Err(errno) => return Err(failed(errno)),
            }
        }
    }

    /// An answer to a request of this socket.
    fn read(&self, packet: &[u8], from: IpAddr) -> Option<EchoReply> {
        let (message, size) = if self.v6 {
            (packet, packet.len() + IPV6_HEADER)
        } else {
            let words = packet.first()? & 0x0f;
            (packet.get(usize::from(words) * 4..)?, packet.len())
        };
        let kind = if self.v6 { 129 } else { 0 };
        let [found, _, _, _, a, b, c, d, ..] = *message else {
            return None;
        };
        (found == kind && u16::from_be_bytes([a, b]) == self.identifier).then(|| EchoReply {
            from,
            number: u16::from_be_bytes([c, d]),
            size,
        })
    }
}

fn address(from: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = from.as_sockaddr_in().map(|from| from.ip().into());
    v4.or_else(|| from.as_sockaddr_in6().map(|from| from.ip().into()))
}

/// RFC 1071.
fn checksum(packet: &[u8]) -> u16 {
    let words = packet.chunks(2).map(|pair| match pair {
        [high, low] => u16::from_be_bytes([*high, *low]),
        [high] => u16::from_be_bytes([*high, 0]),
        _ => 0,
    });
    let mut sum: u32 = words.map(u32::from).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_rfc_1071() {
        assert_eq!(
            checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2
        );
        assert_eq!(checksum(&[0xff]), 0x00ff);
    }
}
