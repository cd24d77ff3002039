// SPDX-License-Identifier: Apache-2.0
//! Addresses, routes and neighbours on a real kernel.

mod support;

use std::collections::BTreeSet;

use kernel::{
    AddressFlags, Batch, Family, NextHop, Request, Route, RouteFilter, RouteKind, RouteProtocol, RouteScope,
    host, sysctl,
};
use support::{addr, in_namespace, ip, mac, net, refused, run, veth};

#[test]
fn addresses_of_both_families() {
    in_namespace(|socket| {
        let link = veth(socket, "a", "b");
        socket.set_link_up(&link).unwrap();
        socket
            .add_address(&link, net("192.168.3.4/32"), AddressFlags::default())
            .unwrap();
        socket
            .add_address(&link, net("10.1.0.5/16"), AddressFlags::default())
            .unwrap();
        socket
            .add_address(&link, net("fd00::4/128"), AddressFlags::NO_DAD)
            .unwrap();
        let listed = socket.addresses(Some(link.index)).unwrap();
        let permanent: BTreeSet<_> = listed
            .iter()
            .filter(|a| a.flags.is_permanent())
            .map(|a| a.prefix)
            .collect();
        assert!(
            permanent.is_superset(&[net("192.168.3.4/32"), net("10.1.0.5/16"), net("fd00::4/128")].into())
        );
        let added = listed
            .iter()
            .find(|address| address.ip() == addr("fd00::4"))
            .unwrap();
        assert!(!added.flags.is_tentative() && added.interface == link.index);
        let witness = &ip("addr show a")[0]["addr_info"];
        assert!(
            witness
                .as_array()
                .unwrap()
                .iter()
                .any(|a| a["local"] == "192.168.3.4" && a["broadcast"].is_null())
        );

        let error = refused(socket.add_address(&link, net("192.168.3.4/32"), AddressFlags::default()));
        assert!(
            error.is_exists() && error.to_string().starts_with("add address 192.168.3.4/32 dev a:"),
            "{error}"
        );
        socket.delete_address(&link, net("192.168.3.4/32")).unwrap();
        assert!(refused(socket.delete_address(&link, net("192.168.3.4/32"))).is_not_found());
        assert_eq!(socket.addresses(Some(4711)).unwrap(), []);
        assert!(
            socket
                .addresses(None)
                .unwrap()
                .iter()
                .any(|a| a.prefix == net("10.1.0.5/16"))
        );
    });
}

#[test]
fn the_routes_of_a_container() {
    in_namespace(|socket| {
        let link = veth(socket, "eth0", "cali0");
        let gateway = addr("169.254.1.1");
        let to_gateway = Route::on_link(net("169.254.1.1/32"), link.index);
        let default = Route {
            mtu: Some(1400),
            ..Route::through(net("0.0.0.0/0"), gateway, link.index)
        };
        let mut batch = Batch::new();
        batch.push(Request::set_link_up(&link));
        batch.push(Request::add_route(&to_gateway));
        batch.push(Request::add_route(&default));
        batch.push(Request::add_address(
            &link,
            net("192.168.3.4/32"),
            AddressFlags::default(),
        ));
        batch.push(Request::add_neighbour(&link, gateway, mac("ee:ee:ee:ee:ee:ee")));
        socket.apply(batch).unwrap();

        let filter = RouteFilter {
            interface: Some(link.index),
            table: Some(254),
            ..RouteFilter::default()
        };
        let listed = socket
            .routes(RouteFilter {
                family: Some(Family::Ipv4),
                ..filter
            })
            .unwrap();
        assert_eq!(listed, [default.clone(), to_gateway.clone()]);
        let witness = ip("route show");
        assert_eq!(
            (&witness[0]["gateway"], &witness[0]["protocol"]),
            (&"169.254.1.1".into(), &"boot".into())
        );
        assert_eq!(
            (&witness[1]["dst"], &witness[1]["scope"]),
            (&"169.254.1.1".into(), &"link".into())
        );

        let error = refused(socket.add_route(&to_gateway));
        assert!(error.is_exists(), "{error}");
        assert!(
            error
                .to_string()
                .starts_with(&format!("add route 169.254.1.1/32 dev index {}: ", link.index)),
            "{error}"
        );
        socket.replace_route(&to_gateway).unwrap();

        let neighbours = socket.neighbours(Some(link.index)).unwrap();
        let entry = neighbours
            .iter()
            .find(|neighbour| neighbour.address == gateway)
            .unwrap();
        assert!(entry.is_permanent() && entry.mac == Some(mac("ee:ee:ee:ee:ee:ee")));
        assert!(refused(socket.add_neighbour(&link, gateway, mac("ee:ee:ee:ee:ee:ee"))).is_exists());
        socket
            .replace_neighbour(&link, gateway, mac("02:00:00:00:00:01"))
            .unwrap();
        assert_eq!(ip("neigh show dev eth0")[0]["lladdr"], "02:00:00:00:00:01");
        socket.delete_neighbour(&link, gateway).unwrap();
        assert!(refused(socket.delete_neighbour(&link, gateway)).is_not_found());

        assert!(socket.delete_route(&default).unwrap());
        assert!(!socket.delete_route(&default).unwrap());
    });
}

#[test]
fn lookups_return_the_route_as_it_is_in_the_table() {
    in_namespace(|socket| {
        let link = veth(socket, "a", "b");
        assert_eq!(socket.route_lookup(addr("10.2.3.4")).unwrap(), None);
        assert_eq!(socket.default_route(Family::Ipv4).unwrap(), None);
        socket.set_link_up(&link).unwrap();
        socket
            .add_address(&link, net("10.0.0.1/24"), AddressFlags::default())
            .unwrap();
        let wide = Route {
            protocol: RouteProtocol(80),
            priority: Some(7),
            ..Route::through(net("10.2.0.0/16"), addr("10.0.0.254"), link.index)
        };
        socket.add_route(&wide).unwrap();
        assert_eq!(socket.route_lookup(addr("10.2.3.4")).unwrap(), Some(wide));
        for kind in [RouteKind::Blackhole, RouteKind::Unreachable, RouteKind::Prohibit] {
            socket
                .replace_route(&Route {
                    kind,
                    ..Route::to(net("10.3.0.0/16"))
                })
                .unwrap();
            // The kernel answers these lookups with an error: packets have no way.
            assert_eq!(socket.route_lookup(addr("10.3.0.1")).unwrap(), None, "{kind:?}");
        }
        let local = socket.route_lookup(addr("10.0.0.1")).unwrap().unwrap();
        // The table is not compared: the kernel names main for the merged tables of a namespace without rules.
        assert_eq!((local.kind, local.scope), (RouteKind::Local, RouteScope::Host));
    });
}

#[test]
fn the_way_out_of_the_host() {
    in_namespace(|socket| {
        let (first, second) = (veth(socket, "a", "b"), veth(socket, "c", "d"));
        for (link, prefix, prefix6) in [
            (&first, "10.0.0.1/24", "fd00:a::1/64"),
            (&second, "10.1.0.1/24", "fd00:c::1/64"),
        ] {
            socket.set_link_up(link).unwrap();
            socket.set_link_up(link.peer_index.unwrap()).unwrap();
            socket
                .add_address(link, net(prefix), AddressFlags::default())
                .unwrap();
            socket
                .add_address(link, net(prefix6), AddressFlags::NO_DAD)
                .unwrap();
        }
        let default = |gateway: &str, interface, priority| Route {
            priority: Some(priority),
            ..Route::through(
                if gateway.contains(':') {
                    net("::/0")
                } else {
                    net("0.0.0.0/0")
                },
                addr(gateway),
                interface,
            )
        };
        socket
            .add_route(&default("10.1.0.254", second.index, 200))
            .unwrap();
        assert_eq!(
            socket.default_route_device(Family::Ipv4).unwrap(),
            Some(second.index)
        );
        socket
            .add_route(&default("10.0.0.254", first.index, 100))
            .unwrap();
        assert_eq!(
            socket.default_route_device(Family::Ipv4).unwrap(),
            Some(first.index)
        );

        // A lookup that ends elsewhere does not hide the default route.
        socket
            .add_route(&Route {
                kind: RouteKind::Blackhole,
                ..Route::to(net("240.0.0.0/4"))
            })
            .unwrap();
        assert_eq!(
            socket.default_route_device(Family::Ipv4).unwrap(),
            Some(first.index)
        );

        assert_eq!(socket.default_route_device(Family::Ipv6).unwrap(), None);
        socket
            .add_route(&default("fd00:c::fe", second.index, 300))
            .unwrap();
        assert_eq!(
            socket.default_route_device(Family::Ipv6).unwrap(),
            Some(second.index)
        );
        assert_eq!(
            socket.gateways().unwrap(),
            [addr("10.0.0.254"), addr("10.1.0.254"), addr("fd00:c::fe")].into()
        );
        assert!(host::has_ipv6());

        // Two ways at once.
        let hop = |gateway: &str, interface| NextHop {
            gateway: Some(addr(gateway)),
            interface,
            onlink: false,
            weight: 1,
        };
        let multipath = vec![hop("10.0.0.7", first.index), hop("10.1.0.7", second.index)];
        socket
            .add_route(&Route {
                multipath: multipath.clone(),
                ..Route::to(net("10.50.0.0/16"))
            })
            .unwrap();
        let filter = RouteFilter {
            interface: Some(second.index),
            ..RouteFilter::default()
        };
        let listed = socket.routes(filter).unwrap();
        let found = listed
            .iter()
            .find(|route| route.destination == net("10.50.0.0/16"))
            .unwrap();
        assert_eq!(found.multipath, multipath);
        assert!(socket.gateways().unwrap().contains(&addr("10.1.0.7")));
    });
}

#[test]
fn router_advertisements_are_told_from_static_routes() {
    in_namespace(|socket| {
        let (learned, fixed) = (veth(socket, "a", "b"), veth(socket, "c", "d"));
        for link in [&learned, &fixed] {
            socket.set_link_up(link).unwrap();
            socket.set_link_up(link.peer_index.unwrap()).unwrap();
        }
        socket
            .add_route(&Route::through(net("::/0"), addr("fe80::1"), fixed.index))
            .unwrap();
        assert_eq!(socket.router_advertisement_devices().unwrap(), BTreeSet::new());
        run(
            "ip",
            &[
                "-6", "route", "add", "default", "metric", "1025", "via", "fe80::2", "dev", "a", "proto",
                "ra", "expires", "1800",
            ],
        );
        assert_eq!(
            socket.router_advertisement_devices().unwrap(),
            [learned.index].into()
        );
        assert_eq!(host::accept_ra("a").unwrap(), 1);
        sysctl::write("net/ipv6/conf/a/accept_ra", "2").unwrap();
        assert_eq!(host::accept_ra("a").unwrap(), 2);
        assert!(refused(host::accept_ra("nobody")).is_not_found());
    });
}

#[test]
fn listings_are_filtered() {
    in_namespace(|socket| {
        let (first, second) = (veth(socket, "a", "b"), veth(socket, "c", "d"));
        socket
            .apply([&first, &second].into_iter().map(Request::set_link_up).collect())
            .unwrap();
        let routes: Batch = (0..3000_u32)
            .map(|number| {
                let prefix = net(&format!("10.{}.{}.0/24", number / 256, number % 256));
                let mut route = Route::on_link(
                    prefix,
                    if number % 3 == 0 {
                        first.index
                    } else {
                        second.index
                    },
                );
                route.protocol = RouteProtocol(if number % 2 == 0 { 80 } else { 3 });
                route.table = if number % 5 == 0 { 1000 } else { 254 };
                Request::add_route(&route)
            })
            .collect();
        socket.apply(routes).unwrap();
        let count = |socket: &mut kernel::Netlink, filter| {
            let family = Some(Family::Ipv4);
            let listed = socket.routes(RouteFilter { family, ..filter }).unwrap();
            listed
                .iter()
                .filter(|route| route.destination.prefix_len() == 24)
                .count()
        };
        let any = RouteFilter::default();
        assert_eq!(count(socket, any), 3000);
        assert_eq!(
            count(
                socket,
                RouteFilter {
                    table: Some(1000),
                    ..any
                }
            ),
            600
        );
        assert_eq!(
            count(
                socket,
                RouteFilter {
                    protocol: Some(RouteProtocol(80)),
                    ..any
                }
            ),
            1500
        );
        assert_eq!(
            count(
                socket,
                RouteFilter {
                    interface: Some(first.index),
                    ..any
                }
            ),
            1000
        );
        let all = RouteFilter {
            interface: Some(first.index),
            table: Some(1000),
            protocol: Some(RouteProtocol(80)),
            family: None,
        };
        assert_eq!(count(socket, all), 100);
        assert_eq!(
            socket
                .routes(RouteFilter {
                    table: Some(77),
                    ..any
                })
                .unwrap(),
            []
        );
        assert_eq!(
            socket
                .routes(RouteFilter {
                    interface: Some(4711),
                    ..any
                })
                .unwrap(),
            []
        );
    });
}
