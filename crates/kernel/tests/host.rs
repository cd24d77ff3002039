// SPDX-License-Identifier: Apache-2.0
//! What is known of the host's own network, and of the far end of a pair.

mod support;

use std::os::fd::AsFd;

use kernel::{AddressFlags, Family, Namespace, Netlink, PairKind, PairSpec, PeerSpec, Route};
use support::{addr, in_namespace, net, refused, veth};

#[test]
fn own_networks_carry_the_names_of_their_links() {
    in_namespace(|socket| {
        let link = veth(socket, "uplink", "peer");
        let lo = socket.link_by_name("lo").unwrap().unwrap();
        socket.set_link_up(&lo).unwrap();
        for prefix in ["10.0.0.1/24", "fd00::1/64"] {
            socket
                .add_address(&link, net(prefix), AddressFlags::NO_DAD)
                .unwrap();
        }
        let mut networks = socket.own_networks().unwrap();
        networks.sort();
        let expected = [
            ("10.0.0.1/24", "uplink"),
            ("127.0.0.1/8", "lo"),
            ("::1/128", "lo"),
            ("fd00::1/64", "uplink"),
        ];
        assert_eq!(
            networks,
            expected.map(|(prefix, name)| (net(prefix), name.to_owned()))
        );
    });
}

#[test]
fn the_mtu_of_the_way_out_is_the_routes_or_else_the_links() {
    in_namespace(|socket| {
        assert_eq!(socket.default_route_mtu(Family::Ipv4).unwrap(), None);
        let link = veth(socket, "uplink", "peer");
        socket.set_mtu(&link, 1420).unwrap();
        socket.set_link_up(&link).unwrap();
        socket
            .add_address(&link, net("10.0.0.1/24"), AddressFlags::default())
            .unwrap();
        let default = Route::through(net("0.0.0.0/0"), addr("10.0.0.254"), link.index);
        socket.add_route(&default).unwrap();
        assert_eq!(socket.default_route_mtu(Family::Ipv4).unwrap(), Some(1420));
        assert_eq!(socket.default_route_mtu(Family::Ipv6).unwrap(), None);
        let narrow = Route {
            mtu: Some(1300),
            ..default
        };
        socket.replace_route(&narrow).unwrap();
        assert_eq!(socket.default_route_mtu(Family::Ipv4).unwrap(), Some(1300));
    });
}

#[test]
fn the_far_ends_addresses_are_read_from_here() {
    in_namespace(|socket| {
        let container = Namespace::create().unwrap();
        let spec = PairSpec {
            kind: PairKind::Veth,
            name: "calitest0000002",
            mac: None,
            mtu: None,
            queues: None,
            peer: PeerSpec {
                name: "eth0",
                namespace: Some(container.as_fd()),
                mac: None,
            },
        };
        let link = socket.create_pair(&spec).unwrap();
        let (index, number) = (link.peer_index.unwrap(), link.peer_namespace.unwrap());
        container
            .visit(|| {
                let mut inside = Netlink::open().unwrap();
                for prefix in ["10.65.0.9/32", "fd00:65::9/128"] {
                    inside
                        .add_address(index, net(prefix), AddressFlags::NO_DAD)
                        .unwrap();
                }
            })
            .unwrap();
        let mut found: Vec<_> = socket
            .addresses_in(number)
            .unwrap()
            .iter()
            .filter(|address| address.interface == index)
            .map(|address| address.prefix)
            .collect();
        found.sort();
        assert_eq!(found, [net("10.65.0.9/32"), net("fd00:65::9/128")]);
        assert!(socket.addresses(Some(link.index)).unwrap().is_empty());

        let error = refused(socket.addresses_in(4711));
        assert!(
            error
                .to_string()
                .starts_with("list addresses in namespace number 4711: "),
            "{error}"
        );
    });
}

#[test]
fn what_does_not_fit_a_message_is_refused() {
    in_namespace(|socket| {
        let error = refused(socket.link_by_name(&"x".repeat(70_000)));
        assert_eq!(error.errno(), Some(libc::EMSGSIZE), "{error}");
        let error = refused(socket.link_by_name(&"x".repeat(60_000)));
        assert!(error.errno().is_some(), "{error}");
        // The socket is still good.
        assert!(socket.link_by_name("lo").unwrap().is_some());
    });
}
