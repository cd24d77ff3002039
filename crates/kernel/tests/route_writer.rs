// SPDX-License-Identifier: Apache-2.0
//! Very many routes on a real kernel.

mod support;

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use kernel::{
    AddressFlags, Family, Netlink, NextHop, Route, RouteChange, RouteFilter, RouteKind, RouteProtocol,
    RouteWriter,
};
use nix::errno::Errno;
use support::{addr, in_namespace, ip, net, run, veth};

const BIRD: RouteProtocol = RouteProtocol(12);

/// Two links that are up, with addresses of both families.
fn links(socket: &mut Netlink) -> [u32; 2] {
    [("a", "b", 0), ("c", "d", 1)].map(|(name, peer, number)| {
        let link = veth(socket, name, peer);
        let far = socket.link_by_name(peer).unwrap().unwrap();
        socket.set_link_up(&link).unwrap();
        socket.set_link_up(&far).unwrap();
        for address in [format!("10.0.{number}.1/24"), format!("2001:db8:{number}::1/64")] {
            socket
                .add_address(&link, net(&address), AddressFlags::NO_DAD)
                .unwrap();
        }
        link.index
    })
}

fn hop(gateway: &str, interface: u32, onlink: bool, weight: u16) -> NextHop {
    NextHop {
        gateway: Some(addr(gateway)),
        interface,
        onlink,
        weight,
    }
}

/// One route of each form, of both families.
fn forms([first, second]: [u32; 2]) -> Vec<Route> {
    let form = |destination: &str| Route {
        protocol: BIRD,
        priority: Some(512),
        ..Route::to(net(destination))
    };
    vec![
        Route {
            gateway: Some(addr("10.0.0.9")),
            interface: Some(first),
            source: Some(addr("10.0.1.1")),
            mtu: Some(1400),
            ..form("172.16.1.0/26")
        },
        Route {
            gateway: Some(addr("192.0.2.9")),
            interface: Some(second),
            onlink: true,
            ..form("172.16.2.0/26")
        },
        Route {
            multipath: vec![
                hop("10.0.0.9", first, false, 1),
                hop("192.0.2.9", second, true, 5),
            ],
            ..form("172.16.3.0/26")
        },
        Route {
            kind: RouteKind::Blackhole,
            table: 1000,
            ..form("172.16.4.0/26")
        },
        Route {
            gateway: Some(addr("2001:db8:0::9")),
            interface: Some(first),
            source: Some(addr("2001:db8:1::1")),
            mtu: Some(1400),
            ..form("fd00:1::/122")
        },
        Route {
            multipath: vec![
                hop("2001:db8:0::9", first, false, 1),
                hop("2001:db8:99::9", second, true, 5),
            ],
            ..form("fd00:3::/122")
        },
        Route {
            kind: RouteKind::Blackhole,
            table: 1000,
            // The kernel puts all IPv6 routes that drop on the loopback device.
            interface: Some(1),
            ..form("fd00:4::/122")
        },
    ]
}

fn of_bird() -> RouteFilter {
    RouteFilter {
        protocol: Some(BIRD),
        ..RouteFilter::default()
    }
}

fn listed(socket: &mut Netlink) -> Vec<Route> {
    let mut routes = socket.routes(of_bird()).unwrap();
    routes.sort_by_key(|route| route.destination);
    routes
}

#[test]
fn all_forms_are_written_replaced_and_deleted() {
    in_namespace(|socket| {
        let links = links(socket);
        socket.set_link_up(1).unwrap();
        let mut writer = RouteWriter::open().unwrap();
        let routes = forms(links);
        assert_eq!(
            writer.apply(routes.iter().map(RouteChange::Add)).unwrap().len(),
            0
        );
        assert_eq!(listed(socket), routes);
        let witness = &ip("route show 172.16.3.0/26")[0];
        assert_eq!(
            (&witness["protocol"], &witness["metric"]),
            (&"bird".into(), &512.into())
        );
        let hops = &witness["nexthops"];
        assert_eq!(
            (&hops[1]["gateway"], &hops[1]["weight"], &hops[1]["flags"][0]),
            (&"192.0.2.9".into(), &5.into(), &"onlink".into())
        );

        // Another way for each, also from many ways to one and back.
        let swapped: Vec<Route> = routes
            .iter()
            .map(|route| {
                let (gateway, other) = match route.destination.addr() {
                    IpAddr::V4(_) => ("10.0.1.77", "10.0.0.77"),
                    IpAddr::V6(_) => ("2001:db8:1::77", "2001:db8:0::77"),
                };
                let same = Route {
                    protocol: BIRD,
                    priority: route.priority,
                    table: route.table,
                    ..Route::to(route.destination)
                };
                if route.multipath.is_empty() {
                    let multipath = vec![hop(gateway, links[1], false, 2), hop(other, links[0], false, 3)];
                    Route { multipath, ..same }
                } else {
                    Route {
                        gateway: Some(addr(gateway)),
                        interface: Some(links[1]),
                        ..same
                    }
                }
            })
            .collect();
        let failures = writer.apply(swapped.iter().map(RouteChange::Replace)).unwrap();
        assert!(failures.is_empty(), "{failures:?}");
        assert_eq!(listed(socket), swapped);

        assert_eq!(
            writer
                .apply(swapped.iter().map(RouteChange::Delete))
                .unwrap()
                .len(),
            0
        );
        assert_eq!(listed(socket), []);
    });
}

#[test]
fn failures_are_told_by_place_and_stop_nothing() {
    in_namespace(|socket| {
        let [link, _] = links(socket);
        let mut writer = RouteWriter::open().unwrap();
        let good: Vec<Route> = (0..5000).map(|number| many(number, link, Family::Ipv4)).collect();
        // No such link; and no way to the gateway.
        let nowhere = Route::on_link(net("172.30.0.0/16"), 4711);
        let unreachable = Route::through(net("172.30.0.0/16"), addr("203.0.113.1"), link);
        // More next hops than an attribute holds.
        let too_long = Route {
            multipath: vec![hop("10.0.0.9", link, false, 1); 5000],
            ..Route::to(net("172.30.0.0/16"))
        };
        let changes = || {
            let mut changes: Vec<RouteChange<'_>> = good.iter().map(RouteChange::Add).collect();
            changes.insert(0, RouteChange::Add(&nowhere));
            changes.insert(2500, RouteChange::Delete(&nowhere));
            changes.push(RouteChange::Replace(&unreachable));
            changes.push(RouteChange::Add(&too_long));
            changes
        };
        let failures = writer.apply(changes()).unwrap();
        let told: Vec<_> = failures
            .iter()
            .map(|failure| (failure.position, failure.error.errno()))
            .collect();
        assert_eq!(
            told,
            [
                (0, Some(Errno::ENODEV as i32)),
                (2500, Some(Errno::ESRCH as i32)),
                (5002, Some(Errno::ENETUNREACH as i32)),
                (5003, Some(Errno::EMSGSIZE as i32)),
            ]
        );
        let words = failures[2].error.to_string();
        assert!(
            words.starts_with("replace route 172.30.0.0/16 via 203.0.113.1 dev index")
                && words.contains("Nexthop has invalid gateway"),
            "{words}"
        );
        assert_eq!(listed(socket).len(), 5000);

        // Everything fails, and all of it is told.
        let failures = writer.apply(changes()).unwrap();
        assert_eq!(failures.len(), 5004);
        assert!(failures.iter().map(|failure| failure.position).eq(0..5004));
        assert!(failures[1..2500].iter().all(|failure| failure.error.is_exists()));
        assert_eq!(
            writer.apply(good.iter().map(RouteChange::Delete)).unwrap().len(),
            0
        );
        assert_eq!(listed(socket), []);
        assert_eq!(writer.apply([]).unwrap().len(), 0);
    });
}

/// One of very many routes.
fn many(number: u32, link: u32, family: Family) -> Route {
    let (destination, gateway) = match family {
        Family::Ipv4 => (
            (IpAddr::from(Ipv4Addr::from_bits(0x6400_0000 + (number << 6))), 26),
            "10.0.0.9",
        ),
        Family::Ipv6 => (
            (
                IpAddr::from(Ipv6Addr::from_bits((0xfd << 120) + (u128::from(number) << 6))),
                122,
            ),
            "2001:db8:0::9",
        ),
    };
    Route {
        protocol: BIRD,
        priority: Some(1024),
        ..Route::through(
            ipnet::IpNet::new(destination.0, destination.1).unwrap(),
            addr(gateway),
            link,
        )
    }
}

fn seconds(action: impl FnOnce()) -> f64 {
    let start = Instant::now();
    action();
    start.elapsed().max(Duration::from_micros(1)).as_secs_f64()
}

/// A measurement, best of three rounds in turn: `cargo test --release -p kernel --test route_writer -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement of half a minute"]
fn a_hundred_thousand_routes_take_no_longer_than_ip_batch() {
    const COUNT: u32 = 100_000;
    in_namespace(|socket| {
        let [link, _] = links(socket);
        for family in [Family::Ipv4, Family::Ipv6] {
            let routes: Vec<Route> = (0..COUNT).map(|number| many(number, link, family)).collect();
            let folder = tempfile::tempdir().unwrap();
            let batch = |verb: &str| {
                let mut text = String::new();
                for route in &routes {
                    let (to, via) = (route.destination, route.gateway.unwrap());
                    writeln!(text, "route {verb} {to} via {via} dev a proto 12 metric 1024").unwrap();
                }
                let path = folder.path().join(verb);
                std::fs::write(&path, text).unwrap();
                path.to_str().unwrap().to_owned()
            };
            let (add, replace, delete) = (batch("add"), batch("replace"), batch("del"));
            let mut writer = RouteWriter::open().unwrap();
            let mut best = [[f64::MAX; 4]; 3];
            let filter = RouteFilter {
                family: Some(family),
                ..of_bird()
            };
            let mut note = |who: usize, step: usize, taken: f64| best[who][step] = best[who][step].min(taken);
            for _ in 0..3 {
                note(0, 0, seconds(|| run("ip", &["-batch", &add])));
                note(0, 1, seconds(|| run("ip", &["-batch", &replace])));
                let flag = if family == Family::Ipv4 { "-4" } else { "-6" };
                note(
                    0,
                    2,
                    seconds(|| run("ip", &[flag, "route", "show", "proto", "12"])),
                );
                note(0, 3, seconds(|| run("ip", &["-batch", &delete])));
                assert_eq!(socket.routes(filter).unwrap().len(), 0);

                let verbs: [fn(&Route) -> RouteChange<'_>; 3] = [
                    |route| RouteChange::Add(route),
                    |route| RouteChange::Replace(route),
                    |route| RouteChange::Delete(route),
                ];
                for (verb, step) in verbs.into_iter().zip([0, 1, 3]) {
                    let mut failures = Vec::new();
                    note(
                        1,
                        step,
                        seconds(|| failures = writer.apply(routes.iter().map(verb)).unwrap()),
                    );
                    assert!(failures.is_empty());
                    if step == 1 {
                        let mut count = 0;
                        note(1, 2, seconds(|| count = socket.routes(filter).unwrap().len()));
                        assert_eq!(count, routes.len());
                    }
                }
                for (verb, step) in verbs.into_iter().zip([0, 1, 3]) {
                    let requests = routes.iter().map(|route| verb(route).into());
                    note(2, step, seconds(|| socket.apply(requests.collect()).unwrap()));
                }
            }
            for (step, what) in ["add", "replace", "list", "delete"].into_iter().enumerate() {
                let [ip, own, chunks] = best.map(|times| times[step]);
                eprintln!(
                    "{family:?} {what}: ip {ip:.3} s, writer {own:.3} s (ratio {:.2}), batch {:.3} s",
                    own / ip,
                    if step == 2 { own } else { chunks }
                );
                assert!(own <= ip, "{what}: slower than ip -batch");
            }
        }
    });
}
