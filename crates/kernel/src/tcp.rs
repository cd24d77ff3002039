// SPDX-License-Identifier: Apache-2.0
//! TCP socket options of a routing protocol: MD5 signatures (RFC 2385), the TTL sent and the least one accepted
//! (GTSM, RFC 5082), and addresses the host does not have yet.
//!
//! The address family is the socket's own; a dual-stack IPv6 socket with IPv4 peers is not served.
#![allow(unsafe_code)]

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname};

use crate::error::{Error, Result};
use crate::route::Family;

/// The longest MD5 key in bytes (`TCP_MD5SIG_MAXKEYLEN`).
pub const MD5_KEY_MAX: usize = 80;
/// Bytes of `struct sockaddr_storage`, with which `struct tcp_md5sig` begins.
const ADDRESS: usize = 128;
/// Where the key's length is in `struct tcp_md5sig`: after flags and prefix length.
const KEY_LENGTH: usize = ADDRESS + 2;
/// Where the key is: after its length and an interface number.
const KEY: usize = ADDRESS + 8;
/// `IPV6_FREEBIND`.
const IPV6_FREEBIND: i32 = 78;

/// Signs all segments to and from `peer` with `key`, and drops those with another signature or none. A listener may have
/// one key for each peer; a connecting socket needs its key before it connects.
///
/// The key has 1 to [`MD5_KEY_MAX`] bytes; the peer's address is of the socket's family. A second key for the same
/// peer replaces the first, also on a live connection.
pub fn set_md5_key(socket: impl AsFd, peer: IpAddr, key: &[u8]) -> Result<()> {
    let operation = || format!("set the TCP MD5 key of peer {peer}");
    let refused = |words: String| Error::new(operation(), io::Error::new(io::ErrorKind::InvalidInput, words));
    if key.is_empty() {
        // The kernel would take it as a removal.
        return Err(refused("the key is empty".into()));
    }
    if key.len() > MD5_KEY_MAX {
        let length = key.len();
        return Err(refused(format!(
            "the key has {length} bytes, the kernel takes at most {MD5_KEY_MAX}: choose a shorter one on both sides"
        )));
    }
    let socket = socket.as_fd();
    check_family(socket, peer).map_err(|error| Error::new(operation(), error))?;
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG, &signature(peer, key))
        .map_err(|errno| Error::new(operation(), errno))
}

/// Takes the key of a peer away. Whether there was one.
pub fn remove_md5_key(socket: impl AsFd, peer: IpAddr) -> Result<bool> {
    let operation = || format!("remove the TCP MD5 key of peer {peer}");
    let socket = socket.as_fd();
    check_family(socket, peer).map_err(|error| Error::new(operation(), error))?;
    match set_option(socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG, &signature(peer, &[])) {
        Ok(()) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(Error::new(operation(), errno)),
    }
}

/// Sets the TTL (hop limit) of what the socket sends, 1 to 255; connections a listener accepts inherit it.
pub fn set_ttl(socket: impl AsFd, ttl: u8) -> Result<()> {
    set_number(
        socket.as_fd(),
        &format!("set the outgoing TTL to {ttl}"),
        (libc::IP_TTL, libc::IPV6_UNICAST_HOPS),
        ttl,
    )
}

/// Drops received segments with a TTL (hop limit) below this one, also those of the handshake (RFC 5082: a peer at most N
/// hops away that sends 255 arrives with at least 256 − N). 0 accepts all. Connections a listener accepts inherit it.
pub fn set_minimum_ttl(socket: impl AsFd, ttl: u8) -> Result<()> {
    set_number(
        socket.as_fd(),
        &format!("set the minimum TTL to {ttl}"),
        (libc::IP_MINTTL, libc::IPV6_MINHOPCOUNT),
        ttl,
    )
}

/// Lets the socket be bound to an address that the host does not have, or not yet.
pub fn set_freebind(socket: impl AsFd) -> Result<()> {
    set_number(
        socket.as_fd(),
        "allow binding to a foreign address",
        (libc::IP_FREEBIND, IPV6_FREEBIND),
        1,
    )
}

/// `struct tcp_md5sig`; an empty key removes the peer's.
fn signature(peer: IpAddr, key: &[u8]) -> [u8; KEY + MD5_KEY_MAX] {
    let mut bytes = [0; KEY + MD5_KEY_MAX];
    bytes[..2].copy_from_slice(&u16::from(crate::wire::family(peer)).to_ne_bytes());
    match peer {
        // After the port.
        IpAddr::V4(address) => bytes[4..8].copy_from_slice(&address.octets()),
        // After port and flow label.
        IpAddr::V6(address) => bytes[8..24].copy_from_slice(&address.octets()),
    }
    let length = u16::try_from(key.len()).expect("at most 80, see above");
    bytes[KEY_LENGTH..KEY_LENGTH + 2].copy_from_slice(&length.to_ne_bytes());
    bytes[KEY..KEY + key.len()].copy_from_slice(key);
    bytes
}

/// The kernel's own answer would be a bare EINVAL.
fn check_family(socket: BorrowedFd<'_>, peer: IpAddr) -> io::Result<()> {
    if family_of(socket)? == Family::of(peer) {
        return Ok(());
    }
    let words = "the socket is of the other address family";
    Err(io::Error::new(io::ErrorKind::InvalidInput, words))
}

fn family_of(socket: BorrowedFd<'_>) -> io::Result<Family> {
    let address: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    match address.family() {
        Some(AddressFamily::Inet) => Ok(Family::Ipv4),
        Some(AddressFamily::Inet6) => Ok(Family::Ipv6),
        _ => Err(Errno::EAFNOSUPPORT.into()),
    }
}

/// Sets an option that has a number at the IP level and one at the IPv6 level.
fn set_number(socket: BorrowedFd<'_>, operation: &str, names: (i32, i32), value: u8) -> Result<()> {
    let family = family_of(socket).map_err(|error| Error::new(operation, error))?;
    let (level, name) = match family {
        Family::Ipv4 => (libc::IPPROTO_IP, names.0),
        Family::Ipv6 => (libc::IPPROTO_IPV6, names.1),
    };
    set_option(socket, level, name, &i32::from(value).to_ne_bytes())
        .map_err(|errno| Error::new(operation, errno))
}

pub(crate) fn set_option(
    socket: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &[u8],
) -> std::result::Result<(), Errno> {
    let length = libc::socklen_t::try_from(value.len()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the kernel copies `length` bytes out of `value`, which lives across the call, and keeps nothing.
    let code = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), length) };
    Errno::result(code).map(drop)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn keys_of_a_wrong_length_or_family_are_named() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = "192.0.2.1".parse().unwrap();
        let error = set_md5_key(&socket, peer, &[b'x'; 81]).unwrap_err().to_string();
        assert!(
            error.contains("192.0.2.1") && error.contains("81 bytes") && error.contains("at most 80"),
            "{error}"
        );
        let error = set_md5_key(&socket, peer, b"").unwrap_err().to_string();
        assert!(error.contains("the key is empty"), "{error}");
        let error = set_md5_key(&socket, "2001:db8::1".parse().unwrap(), b"k").unwrap_err();
        assert!(error.to_string().contains("other address family"), "{error}");
        // Not a TCP socket: the kernel refuses.
        assert!(set_md5_key(&socket, peer, b"k").unwrap_err().errno().is_some());
    }

    #[test]
    fn ttls_are_set_and_read_back() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        set_ttl(&listener, 255).unwrap();
        assert_eq!(listener.ttl().unwrap(), 255);
        set_minimum_ttl(&listener, 254).unwrap();
        assert!(
            set_ttl(&listener, 0)
                .unwrap_err()
                .to_string()
                .contains("TTL to 0")
        );
    }
}
