// SPDX-License-Identifier: Apache-2.0
//! Echo requests between two namespaces, of sizes that fit and that do not.

mod support;

use std::os::fd::AsFd as _;
use std::time::Duration;

use kernel::{EchoSocket, Namespace, Netlink, PairKind, PairSpec, PeerSpec};
use support::{addr, may_run, net, run};

const SOON: Duration = Duration::from_secs(2);

#[test]
fn sizes_that_fit_come_back_and_others_do_not() {
    if !may_run() {
        return;
    }
    let (near, far) = (Namespace::create().unwrap(), Namespace::create().unwrap());
    near.run(|| {
        let mut netlink = Netlink::open().unwrap();
        let mut there = far.socket().unwrap();
        let spec = PairSpec {
            kind: PairKind::Veth,
            name: "near",
            mac: None,
            mtu: None,
            queues: None,
            peer: PeerSpec {
                name: "far",
                namespace: Some(far.as_fd()),
                mac: None,
            },
        };
        let link = netlink.create_pair(&spec).unwrap();
        let other = there.link_by_name("far").unwrap().unwrap();
        for (socket, link, addresses) in [
            (&mut netlink, &link, ["10.0.0.1/24", "fd00::1/64"]),
            (&mut there, &other, ["10.0.0.2/24", "fd00::2/64"]),
        ] {
            for address in addresses {
                socket
                    .add_address(link, net(address), kernel::AddressFlags::NO_DAD)
                    .unwrap();
            }
            socket.set_link_up(link).unwrap();
        }
        for (own, other, small) in [("10.0.0.1", "10.0.0.2", 28), ("fd00::1", "fd00::2", 48)] {
            let socket = EchoSocket::open("near", addr(own), 77).unwrap();
            let other = addr(other);
            for (number, size) in [(1, small), (2, 1500)] {
                let reply = (0..20).find_map(|_| {
                    socket.send(other, number, size).unwrap();
                    socket.receive(Duration::from_millis(100)).unwrap()
                });
                let reply = reply.unwrap();
                assert_eq!((reply.from, reply.number, reply.size), (other, number, size));
            }
            while socket.receive(Duration::from_millis(20)).unwrap().is_some() {}
            let refused = socket.send(other, 3, 1501).unwrap_err();
            assert_eq!(
                refused.errno(),
                Some(libc::EMSGSIZE),
                "it is not fragmented: {refused}"
            );
            // What the far side cannot take does not come back.
            far.run(|| run("ip", &["link", "set", "far", "mtu", "1400"]))
                .unwrap();
            // The near end of a pair knows at once, and may say so.
            let _ = socket.send(other, 4, 1500);
            socket.send(other, 5, 1300).unwrap();
            let reply = socket.receive(SOON).unwrap().unwrap();
            assert_eq!(reply.number, 5);
            far.run(|| run("ip", &["link", "set", "far", "mtu", "1500"]))
                .unwrap();
        }
        assert!(EchoSocket::open("nowhere", addr("10.0.0.1"), 1).is_err());
    })
    .unwrap();
}
