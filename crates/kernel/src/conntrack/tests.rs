// SPDX-License-Identifier: Apache-2.0
//! Real entries, made by UDP packets that pass an nft rule.

use std::io::Write;
use std::net::{IpAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::*;
use crate::{AddressFlags, Namespace};

/// Tracks everything; 10.0.0.99 and fd00::99 stand for 10.0.0.2 and fd00::2; packets to port 7777 are in zone 7.
const RULES: &str = "table inet test {
    chain zones { type filter hook output priority raw; udp dport 7777 ct zone set 7; }
    chain nat { type nat hook output priority -100;
        ip daddr 10.0.0.99 dnat ip to 10.0.0.2; ip6 daddr fd00::99 dnat ip6 to fd00::2; }
    chain track { type filter hook output priority 0; ct state new accept; }
}";

fn in_namespace_with_tracking(test: impl FnOnce() + Send) {
    let missing = [
        ("root", nix::unistd::geteuid().is_root()),
        ("nft", Command::new("nft").arg("-v").output().is_ok()),
    ]
    .into_iter()
    .find(|(_, there)| !there);
    if let Some((what, _)) = missing {
        assert!(std::env::var_os("CI").is_none(), "CI has {what}");
        eprintln!("SKIPPED: needs {what}");
        return;
    }
    let namespace = Namespace::create().unwrap();
    let prepared = || {
        let mut socket = Netlink::open().unwrap();
        socket.set_link_up(1).unwrap();
        for number in [1, 2, 3, 99] {
            for prefix in [format!("10.0.0.{number}/32"), format!("fd00::{number}/128")] {
                socket
                    .add_address(1, prefix.parse().unwrap(), AddressFlags::NO_DAD)
                    .unwrap();
            }
        }
        let mut nft = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        nft.stdin.take().unwrap().write_all(RULES.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success());
        test();
    };
    namespace.run(prepared).expect("the test, see above");
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// One tracked packet. Nobody listens: the entry stays, unanswered.
fn packet(from: &str, to: &str, port: u16) {
    let socket = UdpSocket::bind((address(from), 0)).unwrap();
    socket.send_to(b"x", (address(to), port)).unwrap();
}

fn traffic() {
    for (one, two, three, translated) in [
        ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.99"),
        ("fd00::1", "fd00::2", "fd00::3", "fd00::99"),
    ] {
        packet(one, two, 53); // original destination
        packet(two, one, 53); // original source
        packet(three, translated, 53); // reply source
        packet(three, two, 7777); // another zone
        packet(one, three, 53); // none of its business
        packet(three, one, 7777);
    }
}

/// The entries in which this address is named, of all.
fn naming(wanted: &str) -> (usize, u32) {
    let wanted = address(wanted);
    let mut socket = Netlink::open_protocol(libc::NETLINK_NETFILTER, "test").unwrap();
    let naming = socket.dump(list(&[wanted]), "test", |naming: &mut usize, received| {
        *naming += usize::from(deletion(received.body, &[wanted]).is_some());
    });
    (naming.unwrap(), count().unwrap())
}

#[test]
fn entries_of_an_address_go_and_others_stay() {
    in_namespace_with_tracking(|| {
        assert_eq!(delete_entries(&[address("10.0.0.2")]).unwrap(), 0);
        traffic();
        assert_eq!(count().unwrap(), 12);
        assert_eq!(
            delete_entries(&[address("10.0.0.77"), address("fd00::77")]).unwrap(),
            0
        );
        assert_eq!(delete_entries(&[address("10.0.0.2")]).unwrap(), 4);
        assert_eq!(naming("10.0.0.2"), (0, 8));
        assert_eq!(
            delete_entries(&[address("fd00::2"), address("10.0.0.2")]).unwrap(),
            4
        );
        assert_eq!(naming("fd00::2"), (0, 4));
        assert_eq!((naming("fd00::3").0, naming("10.0.0.3").0), (2, 2));
        assert_eq!(
            delete_entries(&[address("10.0.0.1"), address("fd00::1")]).unwrap(),
            4
        );
        assert_eq!(count().unwrap(), 0);
    });
}

#[test]
fn many_entries_of_one_address_go_at_once() {
    in_namespace_with_tracking(|| {
        for port in 1..=2000 {
            packet("10.0.0.1", "10.0.0.2", port);
        }
        packet("10.0.0.3", "10.0.0.1", 53);
        assert_eq!(delete_entries(&[address("10.0.0.2")]).unwrap(), 2000);
        assert_eq!(naming("10.0.0.3"), (1, 1));
    });
}

#[test]
fn a_hundred_thousand_entries_are_bounded() {
    in_namespace_with_tracking(|| {
        let from = UdpSocket::bind("10.0.0.1:0").unwrap();
        for (host, port) in (1..=100_u8).flat_map(|host| (1..=1000_u16).map(move |port| (host, port))) {
            // Refused ports answer a later packet with an error; the packets are what counts.
            let _ = from.send_to(b"x", (IpAddr::from([127, 0, 1, host]), port));
        }
        packet("10.0.0.3", "10.0.0.2", 53);
        let before = count().unwrap();
        assert!(before > 50_000, "only {before} entries");
        let start = Instant::now();
        assert_eq!(delete_entries(&[address("10.0.0.2")]).unwrap(), 1);
        let took = start.elapsed();
        eprintln!("{before} entries: searched and deleted in {took:?}");
        assert!(took.as_secs() < 5, "{took:?}");
    });
}
