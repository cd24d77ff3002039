// SPDX-License-Identifier: Apache-2.0
//! A host that learned its default route from router advertisements keeps it when containers with IPv6 start: a host
//! that forwards ignores advertisements, and forgets what they told it, unless it is told otherwise first.

use std::{
    net::{Ipv6Addr, SocketAddrV6},
    thread,
    time::{Duration, Instant},
};

use kernel::Namespace as KernelNamespace;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::host::{Host, Namespace, ip, is_root};

const LIMIT: Duration = Duration::from_secs(20);

/// A router advertisement (RFC 4861 4.2): a router for half an hour, nothing else. The kernel adds the checksum.
const ADVERTISEMENT: [u8; 16] = [134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];

/// Sends an advertisement from an interface of a namespace to all hosts on its link.
fn advertise(namespace: &Namespace, interface: &str) {
    let namespace = match KernelNamespace::open(namespace.path()).unwrap() {
        kernel::Opened::Namespace(namespace) => namespace,
        other => panic!("{other:?}"),
    };
    let send = || {
        let index = kernel::Netlink::open()
            .unwrap()
            .link_by_name(interface)
            .unwrap()
            .unwrap()
            .index;
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).unwrap();
        socket.set_multicast_if_v6(index).unwrap();
        socket.set_multicast_hops_v6(255).unwrap();
        let all_hosts = SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 0, 0, index);
        socket.send_to(&ADVERTISEMENT, &SockAddr::from(all_hosts))
    };
    // Fails while the interface's own address is not ready.
    let deadline = Instant::now() + LIMIT;
    while let Err(problem) = namespace.visit(send).unwrap() {
        assert!(Instant::now() < deadline, "{problem}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn default_route(host: &Host) -> String {
    ip(&[
        "-n",
        &host.namespace.0,
        "-6",
        "route",
        "show",
        "default",
        "proto",
        "ra",
    ])
}

/// Whether an advertisement is taken up: the route's life begins anew with each.
fn learns(host: &Host, router: &Namespace) -> bool {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        advertise(router, "down0");
        if default_route(host).contains("dev up0") {
            return true;
        }
        thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn the_default_route_of_advertisements_stays_and_is_learned_again() {
    if !is_root() {
        return;
    }
    let (host, router) = (Host::new(), Namespace::new("r"));
    let inside = &host.namespace.0;
    ip(&[
        "-n", inside, "link", "add", "up0", "type", "veth", "peer", "name", "down0", "netns", &router.0,
    ]);
    ip(&["-n", inside, "link", "set", "up0", "up"]);
    ip(&["-n", &router.0, "link", "set", "down0", "up"]);
    assert!(
        learns(&host, &router),
        "no route from an advertisement before any container"
    );

    let container = Namespace::new("c");
    let result = host
        .run("ADD", "abc", Some(&container.path()), &host.config(true), 0)
        .ok();
    assert_eq!(result["ips"].as_array().unwrap().len(), 2, "{result}");
    assert!(
        default_route(&host).contains("dev up0"),
        "ADD cost the host its default route"
    );

    // And the host goes on listening to routers.
    ip(&["-n", inside, "-6", "route", "del", "default", "dev", "up0"]);
    assert!(learns(&host, &router), "the host no longer hears its router");
}
