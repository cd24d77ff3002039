// SPDX-License-Identifier: Apache-2.0
//! Socket options of a routing protocol, between two sockets of a namespace.

mod support;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use kernel::tcp;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, getsockopt, socket, sockopt,
};
use support::{addr, in_namespace};

/// How long a connection that must not come about is waited for: the first SYN and one repetition, one second later.
const REFUSAL: u16 = 1200;

/// An unconnected, non-blocking TCP socket.
fn unconnected(address: IpAddr) -> OwnedFd {
    let family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    socket(
        family,
        SockType::Stream,
        SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap()
}

/// Whether the handshake ends within `milliseconds`.
fn connects(socket: &OwnedFd, to: SocketAddr, milliseconds: u16) -> bool {
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) => return true,
        Err(errno) => assert_eq!(errno, Errno::EINPROGRESS),
    }
    let mut wanted = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    poll(&mut wanted, PollTimeout::from(milliseconds)).unwrap() == 1
        && getsockopt(socket, sockopt::SocketError).unwrap() == 0
}

#[test]
fn md5_keys_decide_who_connects() {
    in_namespace(|netlink| {
        netlink.set_link_up(1).unwrap();
        for local in [addr("127.0.0.1"), addr("::1")] {
            let listener = TcpListener::bind((local, 0)).unwrap();
            let to = listener.local_addr().unwrap();
            let key = [b'k'; tcp::MD5_KEY_MAX];
            tcp::set_md5_key(&listener, local, &key).unwrap();
            let with_key = |key: Option<&[u8]>| {
                let socket = unconnected(local);
                if let Some(key) = key {
                    tcp::set_md5_key(&socket, local, key).unwrap();
                }
                socket
            };
            assert!(
                connects(&with_key(Some(&key)), to, 5000),
                "{local}: the right key"
            );
            assert!(
                !connects(&with_key(Some(b"wrong")), to, REFUSAL),
                "{local}: another key"
            );
            assert!(!connects(&with_key(None), to, REFUSAL), "{local}: no key");

            tcp::set_md5_key(&listener, local, b"second").unwrap();
            assert!(
                connects(&with_key(Some(b"second")), to, 5000),
                "{local}: a replaced key"
            );

            assert!(tcp::remove_md5_key(&listener, local).unwrap());
            assert!(!tcp::remove_md5_key(&listener, local).unwrap());
            assert!(connects(&with_key(None), to, 5000), "{local}: no key any more");
        }
    });
}

#[test]
fn a_low_ttl_does_not_connect() {
    in_namespace(|netlink| {
        netlink.set_link_up(1).unwrap();
        for local in [addr("127.0.0.1"), addr("::1")] {
            let listener = TcpListener::bind((local, 0)).unwrap();
            let to = listener.local_addr().unwrap();
            tcp::set_ttl(&listener, 255).unwrap();
            tcp::set_minimum_ttl(&listener, 255).unwrap();
            let with_ttl = |ttl| {
                let socket = unconnected(local);
                tcp::set_ttl(&socket, ttl).unwrap();
                tcp::set_minimum_ttl(&socket, 255).unwrap();
                socket
            };
            assert!(connects(&with_ttl(255), to, 5000), "{local}: TTL 255, both ways");
            assert!(!connects(&with_ttl(254), to, REFUSAL), "{local}: TTL 254");
            // The answer of a listener that sends less is dropped by the one who connects.
            tcp::set_minimum_ttl(&listener, 0).unwrap();
            tcp::set_ttl(&listener, 64).unwrap();
            assert!(
                !connects(&with_ttl(255), to, REFUSAL),
                "{local}: TTL 64 in the answer"
            );
        }
    });
}

#[test]
fn a_foreign_address_can_be_bound_when_allowed() {
    in_namespace(|netlink| {
        netlink.set_link_up(1).unwrap();
        for foreign in ["192.0.2.7:0", "[2001:db8::7]:0"] {
            let foreign: SocketAddr = foreign.parse().unwrap();
            let socket = unconnected(foreign.ip());
            let address = SockaddrStorage::from(foreign);
            assert_eq!(bind(socket.as_raw_fd(), &address), Err(Errno::EADDRNOTAVAIL));
            tcp::set_freebind(&socket).unwrap();
            bind(socket.as_raw_fd(), &address).unwrap();
        }
    });
}
