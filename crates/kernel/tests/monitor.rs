// SPDX-License-Identifier: Apache-2.0
//! Notifications of a real kernel.

mod support;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use kernel::{
    AddressFlags, Batch, Change, LinkChange, Monitor, MonitorOptions, Request, Route, RouteProtocol,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use support::{addr, in_namespace, mac, net, run, veth};

/// Reads until `wanted` is among the changes, and returns all up to there.
fn read_until(monitor: &mut Monitor, wanted: impl Fn(&Change) -> bool) -> Vec<Change> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut changes = Vec::new();
    loop {
        monitor.read(&mut changes).unwrap();
        if changes.iter().any(&wanted) {
            return changes;
        }
        assert!(Instant::now() < deadline, "not announced; there was {changes:#?}");
        let mut readable = [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)];
        poll(&mut readable, PollTimeout::from(100_u16)).unwrap();
    }
}

/// The route change of this destination.
fn route_to(destination: &str, gone: bool) -> impl Fn(&Change) -> bool {
    let prefix = net(destination);
    move |change| matches!(change, Change::Route { route, deleted, .. } if route.destination == prefix && *deleted == gone)
}

#[test]
fn links_and_addresses_of_both_families_come_and_go() {
    in_namespace(|socket| {
        let mut monitor = Monitor::open(MonitorOptions::default()).unwrap();
        let link = veth(socket, "a", "b");
        let end = socket.link_by_name("b").unwrap().unwrap();
        let is_link = |link: &kernel::Link, index: u32, gone: bool, deleted: bool| {
            link.index == index && gone == deleted
        };
        read_until(
            &mut monitor,
            |change| matches!(change, Change::Link { link: seen, deleted } if is_link(seen, link.index, *deleted, false) && !seen.is_up()),
        );
        socket.set_link_up(&link).unwrap();
        socket.set_link_up(&end).unwrap();
        read_until(
            &mut monitor,
            |change| matches!(change, Change::Link { link: seen, .. } if seen.name == "a" && seen.is_up() && seen.is_running()),
        );
        for prefix in [net("10.0.0.1/24"), net("2001:db8::1/64")] {
            socket.add_address(&link, prefix, AddressFlags::NO_DAD).unwrap();
            read_until(
                &mut monitor,
                |change| matches!(change, Change::Address { address, deleted: false } if address.prefix == prefix && address.interface == link.index),
            );
            socket.delete_address(&link, prefix).unwrap();
            read_until(
                &mut monitor,
                |change| matches!(change, Change::Address { address, deleted: true } if address.prefix == prefix),
            );
        }
        let renamed = LinkChange {
            name: Some("c"),
            ..LinkChange::default()
        };
        socket.change_link(&link, &renamed).unwrap();
        read_until(
            &mut monitor,
            |change| matches!(change, Change::Link { link: seen, .. } if seen.index == link.index && seen.name == "c"),
        );
        socket.delete_link(&link).unwrap();
        let changes = read_until(
            &mut monitor,
            |change| matches!(change, Change::Link { link: seen, deleted } if is_link(seen, link.index, *deleted, true)),
        );
        assert!(!changes.contains(&Change::Overflow));
    });
}

#[test]
fn routes_say_who_made_them() {
    in_namespace(|socket| {
        let link = veth(socket, "a", "b");
        socket.set_link_up(&link).unwrap();
        let mut monitor = Monitor::open(MonitorOptions::default()).unwrap();
        let own_port = socket.port().unwrap();
        assert_ne!(own_port, 0);
        for destination in ["10.1.0.0/16", "2001:db8:1::/48"] {
            let route = Route {
                protocol: RouteProtocol(80),
                table: 1000,
                priority: Some(77),
                ..Route::on_link(net(destination), link.index)
            };
            socket.add_route(&route).unwrap();
            let changes = read_until(&mut monitor, route_to(destination, false));
            let expected = Change::Route {
                route: route.clone(),
                deleted: false,
                port: own_port,
            };
            assert!(changes.contains(&expected), "{changes:#?}");
            // Somebody else takes it away.
            run("ip", &["route", "del", destination, "table", "1000"]);
            let changes = read_until(&mut monitor, route_to(destination, true));
            let foreign = |change: &Change| {
                matches!(change, Change::Route { route: seen, deleted: true, port }
                    if *seen == route && *port != own_port && *port != 0)
            };
            assert!(changes.iter().any(foreign), "{changes:#?}");
        }
        socket.set_link_up(1).unwrap();
        run("ip", &["nexthop", "add", "id", "7", "blackhole"]);
        run("ip", &["nexthop", "del", "id", "7"]);
        let changes = read_until(&mut monitor, |change| {
            matches!(change, Change::NextHop { id: 7, deleted: true })
        });
        assert!(changes.contains(&Change::NextHop {
            id: 7,
            deleted: false
        }));
    });
}

#[test]
fn neighbours_are_read_if_asked_for() {
    in_namespace(|socket| {
        let link = veth(socket, "a", "b");
        socket.set_link_up(&link).unwrap();
        let mut without = Monitor::open(MonitorOptions::default()).unwrap();
        let mut monitor = Monitor::open(MonitorOptions {
            neighbours: true,
            ..MonitorOptions::default()
        })
        .unwrap();
        let address = addr("10.0.0.7");
        socket
            .replace_neighbour(&link, address, mac("02:00:00:00:00:07"))
            .unwrap();
        socket.delete_neighbour(&link, address).unwrap();
        read_until(
            &mut monitor,
            |change| matches!(change, Change::Neighbour { neighbour, deleted: false } if neighbour.address == address && neighbour.is_permanent()),
        );
        // Everything is announced before the request that did it is answered.
        let mut others = Vec::new();
        without.read(&mut others).unwrap();
        assert!(
            !others
                .iter()
                .any(|change| matches!(change, Change::Neighbour { .. }))
        );
    });
}

#[test]
fn what_was_lost_is_said_once_and_reading_goes_on() {
    in_namespace(|socket| {
        let link = veth(socket, "a", "b");
        socket.set_link_up(&link).unwrap();
        let mut roomy = Monitor::open(MonitorOptions::default()).unwrap();
        let mut tiny = Monitor::open(MonitorOptions {
            receive_buffer: 1,
            ..MonitorOptions::default()
        })
        .unwrap();
        assert!(tiny.receive_buffer().unwrap() < 10_000);
        assert!(roomy.receive_buffer().unwrap() >= 32 * 1024 * 1024);
        let routes: Batch = (0..2000_u32)
            .map(|number| {
                let prefix = net(&format!("10.{}.{}.0/24", number / 256, number % 256));
                Request::add_route(&Route::on_link(prefix, link.index))
            })
            .collect();
        socket.apply(routes).unwrap();

        let mut lossy = Vec::new();
        tiny.read(&mut lossy).unwrap();
        assert_eq!(
            lossy.iter().filter(|change| **change == Change::Overflow).count(),
            1
        );
        assert!(lossy.len() < 100, "{}", lossy.len());

        socket
            .add_route(&Route::on_link(net("172.16.0.0/24"), link.index))
            .unwrap();
        let after = read_until(&mut tiny, route_to("172.16.0.0/24", false));
        assert!(!after.contains(&Change::Overflow));

        let complete = read_until(&mut roomy, route_to("172.16.0.0/24", false));
        let routes = complete
            .iter()
            .filter(|change| matches!(change, Change::Route { route, .. } if route.table == 254));
        assert_eq!(routes.count(), 2001);
        assert!(!complete.contains(&Change::Overflow));
    });
}
