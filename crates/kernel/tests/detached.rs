// SPDX-License-Identifier: Apache-2.0
//! Deletions that do not wait for the kernel's housekeeping.

mod support;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use kernel::{
    AddressFlags, Family, Namespace, Netlink, PairKind, PairSpec, PeerSpec, Route, RouteFilter, detached,
};
use support::{in_namespace, net, refused};

fn pair(socket: &mut Netlink, container: &Namespace) -> kernel::Link {
    let peer = PeerSpec {
        name: "eth0",
        namespace: Some(container.as_fd()),
        mac: None,
    };
    let spec = PairSpec {
        kind: PairKind::Veth,
        name: "cali0",
        mac: None,
        mtu: None,
        queues: None,
        peer,
    };
    let link = socket.create_pair(&spec).unwrap();
    socket.set_link_up(&link).unwrap();
    socket
        .add_address(&link, net("10.0.0.1/24"), AddressFlags::default())
        .unwrap();
    socket
        .add_route(&Route::on_link(net("192.168.7.7/32"), link.index))
        .unwrap();
    link
}

#[test]
fn nothing_is_left_when_it_returns() {
    in_namespace(|socket| {
        let container = Namespace::create().unwrap();
        let mut inside = container.socket().unwrap();
        let mut children = Vec::new();
        for _ in 0..20 {
            // The same names again at once: they are free.
            let link = pair(socket, &container);
            children.push(detached::delete_link(&link).unwrap().expect("it was there"));
            assert_eq!(socket.link_by_name("cali0").unwrap(), None);
            assert_eq!(inside.link_by_name("eth0").unwrap(), None);
            let filter = RouteFilter {
                family: Some(Family::Ipv4),
                ..RouteFilter::default()
            };
            assert_eq!(socket.routes(filter).unwrap(), []);
            assert_eq!(socket.addresses(None).unwrap(), []);
            assert!(!kernel::sysctl::exists("net/ipv4/conf/cali0/rp_filter"));
        }
        for child in children {
            child.wait().unwrap();
        }
    });
}

#[test]
fn it_does_not_wait_for_the_housekeeping() {
    in_namespace(|socket| {
        let container = Namespace::create().unwrap();
        let (mut detached, mut waiting) = (Vec::new(), Vec::new());
        for _ in 0..15 {
            let link = pair(socket, &container);
            let start = Instant::now();
            let child = detached::delete_link(&link).unwrap().unwrap();
            detached.push(start.elapsed());
            child.wait().unwrap();
            let link = pair(socket, &container);
            let start = Instant::now();
            assert!(socket.delete_link(&link).unwrap());
            waiting.push(start.elapsed());
        }
        detached.sort_unstable();
        waiting.sort_unstable();
        let (detached, waiting) = (detached[7], waiting[7]);
        eprintln!("median: gone after {detached:?}, request answered after {waiting:?}");
        assert!(detached < waiting, "{detached:?} against {waiting:?}");
    });
}

#[test]
fn what_is_not_there_and_what_may_not_go() {
    in_namespace(|socket| {
        assert!(detached::delete_link(4711).unwrap().is_none());
        let lo = socket.link_by_name("lo").unwrap().unwrap();
        let error = refused(detached::delete_link(&lo));
        assert!(
            error.is_unsupported() && error.to_string().starts_with("delete link lo: "),
            "{error}"
        );
    });
}

#[test]
fn the_child_holds_nothing_of_its_parent() {
    in_namespace(|socket| {
        let container = Namespace::create().unwrap();
        let after_the_end = (0..10).map(|_| {
            let link = pair(socket, &container);
            let (reader, writer) = std::io::pipe().unwrap();
            let child = detached::delete_link(&link).unwrap().unwrap();
            drop(writer);
            // Ends once nobody holds the writing end: a runtime reads a plugin's output like this.
            std::io::copy(&mut &reader, &mut std::io::sink()).unwrap();
            let end = Instant::now();
            child.wait().unwrap();
            end.elapsed()
        });
        let longest = after_the_end.max().unwrap();
        assert!(
            longest > Duration::from_millis(2),
            "the child was never seen alive after the end: {longest:?}"
        );
    });
}
