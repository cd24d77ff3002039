// SPDX-License-Identifier: Apache-2.0
//! Links and pairs on a real kernel.

mod support;

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kernel::{
    AddrGenMode, Batch, LinkChange, LinkId, Namespace, Netlink, PairKind, PairSpec, PeerSpec, Request,
};
use support::{in_namespace, ip, mac, may_run, refused, veth};

#[test]
fn a_pair_spans_two_namespaces_in_one_request() {
    in_namespace(|socket| {
        let container = Namespace::create().unwrap();
        let spec = PairSpec {
            kind: PairKind::Veth,
            name: "calitest0000001",
            mac: Some(mac("ee:ee:ee:ee:ee:ee")),
            mtu: Some(1450),
            queues: Some(3),
            peer: PeerSpec {
                name: "eth0",
                namespace: Some(container.as_fd()),
                mac: Some(mac("02:00:00:00:00:07")),
            },
        };
        let link = socket.create_pair(&spec).unwrap();
        assert_eq!(
            (link.name.as_str(), link.mtu, link.mac),
            (spec.name, 1450, spec.mac)
        );
        assert_eq!((link.transmit_queues, link.receive_queues), (3, 3));
        assert_eq!(link.kind.as_deref(), Some("veth"));
        assert!(link.peer_namespace.is_some() && !link.is_up());

        let witness = &ip("link show calitest0000001")[0];
        assert_eq!(witness["address"], "ee:ee:ee:ee:ee:ee");
        assert_eq!(witness["ifindex"], link.index);
        container
            .run(|| {
                let peer = Netlink::open()
                    .unwrap()
                    .link_by_index(link.peer_index.unwrap())
                    .unwrap()
                    .unwrap();
                assert_eq!(
                    (peer.name.as_str(), peer.mtu, peer.mac),
                    ("eth0", 1450, spec.peer.mac)
                );
                assert_eq!((peer.transmit_queues, peer.receive_queues), (3, 3));
                assert_eq!(peer.peer_index, Some(link.index));
                assert_eq!(ip("link show eth0")[0]["address"], "02:00:00:00:00:07");
            })
            .unwrap();

        let error = refused(socket.create_pair(&spec));
        assert!(error.is_exists(), "{error}");
        assert!(
            error
                .to_string()
                .starts_with("create veth calitest0000001 with peer eth0: File exists (os error 17)"),
            "{error}"
        );
        drop(container);
        assert!(socket.delete_link(&link).unwrap());
        assert!(!socket.delete_link(&link).unwrap());
        assert_eq!(socket.link_by_name("calitest0000001").unwrap(), None);
    });
}

#[test]
fn netkit_in_l2_mode_or_a_clear_refusal() {
    in_namespace(|socket| {
        let peer = PeerSpec {
            name: "eth0",
            namespace: None,
            mac: None,
        };
        let spec = PairSpec {
            kind: PairKind::Netkit,
            name: "nk0",
            mac: None,
            mtu: Some(1400),
            queues: None,
            peer,
        };
        match socket.create_pair(&spec) {
            Ok(link) => {
                assert_eq!(link.kind.as_deref(), Some("netkit"));
                assert_eq!(ip("link show nk0")[0]["linkinfo"]["info_data"]["mode"], "l2");
                assert_eq!(socket.link_by_name("eth0").unwrap().unwrap().mtu, 1400);
            }
            Err(error) => assert!(error.is_unsupported(), "{error}"),
        }
    });
}

#[test]
fn changes_are_seen_and_errors_name_the_link() {
    in_namespace(|socket| {
        let link = veth(socket, "a.1", "b");
        socket.set_link_up(&link).unwrap();
        socket.set_alias(&link, "pod default/web").unwrap();
        socket.set_mtu(&link, 1300).unwrap();
        socket.set_mac(&link, mac("02:11:22:33:44:55")).unwrap();
        socket.set_addr_gen_mode(&link, AddrGenMode::None).unwrap();
        let seen = socket.link_by_name("a.1").unwrap().unwrap();
        assert!(seen.is_up());
        assert_eq!((seen.alias.as_deref(), seen.mtu), (Some("pod default/web"), 1300));
        assert_eq!(seen.mac, Some(mac("02:11:22:33:44:55")));
        assert_eq!(
            kernel::sysctl::read("net/ipv6/conf/a.1/addr_gen_mode").unwrap(),
            "1"
        );

        socket.set_link_down(&link).unwrap();
        let rename = LinkChange {
            name: Some("c"),
            ..LinkChange::default()
        };
        socket.change_link(&link, &rename).unwrap();
        assert!(!socket.link_by_index(link.index).unwrap().unwrap().is_up());
        assert_eq!(ip("link show c")[0]["ifindex"], link.index);

        let error = refused(socket.set_mtu(LinkId::named(4711, "gone"), 1500));
        assert!(
            error.is_not_found()
                && error
                    .to_string()
                    .starts_with("set link gone mtu 1500: No such device"),
            "{error}"
        );
        let error = refused(socket.set_mtu(&link, 1));
        assert_eq!(error.errno(), Some(libc::EINVAL));
        assert!(error.kernel_message().is_some(), "the kernel explains: {error}");
    });
}

#[test]
fn a_batch_goes_on_past_a_failure_and_says_which_failed() {
    in_namespace(|socket| {
        let link = veth(socket, "a", "b");
        let mut batch = Batch::new();
        batch.push(Request::set_link_up(99).described_as("set the link of nobody up"));
        batch.push(Request::set_link_up(&link));
        batch.push(Request::delete_link_by_name("nobody"));
        let results = socket.apply_each(batch.clone()).unwrap();
        assert_eq!(
            results.iter().map(Result::is_ok).collect::<Vec<_>>(),
            [false, true, false]
        );
        let words = results[2].as_ref().unwrap_err().to_string();
        assert!(words.starts_with("delete link nobody: No such device"), "{words}");
        let error = refused(socket.apply(batch));
        assert_eq!(error.operation(), "set the link of nobody up");
        assert!(socket.link_by_name("a").unwrap().unwrap().is_up());
        socket.apply(Batch::new()).unwrap();

        // More than one send takes.
        let many: Batch = (0..1000)
            .map(|number| Request::set_alias(&link, &number.to_string()))
            .collect();
        socket.apply(many).unwrap();
        assert_eq!(
            socket.link_by_name("a").unwrap().unwrap().alias.as_deref(),
            Some("999")
        );
        let many: Batch = (0..1000)
            .map(|_| Request::delete_link_by_name("nobody"))
            .collect();
        let results = socket.apply_each(many).unwrap();
        assert_eq!(results.iter().filter(|result| result.is_err()).count(), 1000);
    });
}

#[test]
fn a_thousand_links_are_listed() {
    in_namespace(|socket| {
        let names: Vec<String> = (0..1000).map(|number| format!("v{number}")).collect();
        let pairs = names.chunks(2).map(|pair| {
            let peer = PeerSpec {
                name: &pair[1],
                namespace: None,
                mac: None,
            };
            Request::create_pair(&PairSpec {
                kind: PairKind::Veth,
                name: &pair[0],
                mac: None,
                mtu: None,
                queues: None,
                peer,
            })
        });
        socket.apply(pairs.collect()).unwrap();
        let links = socket.links().unwrap();
        assert_eq!(links.len(), 1001);
        assert!(links.iter().any(|link| link.is_loopback() && link.mtu == 65536));
        assert!(
            names
                .iter()
                .all(|name| links.iter().any(|link| link.name == *name))
        );
    });
}

#[test]
fn thirty_two_threads_make_pairs_at_once() {
    if !may_run() {
        return;
    }
    let host = Namespace::create().unwrap();
    thread::scope(|scope| {
        for number in 0..32 {
            let host = &host;
            scope.spawn(move || {
                let name = format!("calip{number}");
                let mut socket = host.socket().unwrap();
                for _ in 0..5 {
                    let container = Namespace::create().unwrap();
                    let peer = PeerSpec {
                        name: "eth0",
                        namespace: Some(container.as_fd()),
                        mac: None,
                    };
                    let spec = PairSpec {
                        kind: PairKind::Veth,
                        name: &name,
                        mac: None,
                        mtu: None,
                        queues: None,
                        peer,
                    };
                    let link = socket.create_pair(&spec).unwrap();
                    let mut inside = container.socket().unwrap();
                    let peer = inside.link_by_index(link.peer_index.unwrap()).unwrap().unwrap();
                    assert_eq!((peer.name.as_str(), peer.peer_index), ("eth0", Some(link.index)));
                    inside.set_link_up(&peer).unwrap();
                    assert!(socket.delete_link(&link).unwrap());
                }
            });
        }
    });
    let left = host.socket().unwrap().links().unwrap();
    assert_eq!(
        left.iter().map(|link| link.name.as_str()).collect::<Vec<_>>(),
        ["lo"]
    );
}

#[test]
fn listings_are_whole_while_links_come_and_go() {
    if !may_run() {
        return;
    }
    let host = Namespace::create().unwrap();
    let mut socket = host.socket().unwrap();
    let staying: Vec<String> = (0..100).map(|number| format!("stays{number}")).collect();
    for name in &staying {
        veth(&mut socket, name, &format!("{name}p"));
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let churn = scope.spawn(|| {
            let mut socket = host.socket().unwrap();
            let mut made = 0;
            while !done.load(Ordering::Relaxed) {
                let link = veth(&mut socket, "goes", "goesp");
                socket.delete_link(&link).unwrap();
                made += 1;
            }
            made
        });
        let listed: Result<Vec<_>, _> = (0..200).map(|_| socket.links()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(churn.join().unwrap() > 0);
        for links in listed.unwrap() {
            let whole = staying
                .iter()
                .all(|name| links.iter().any(|link| link.name == *name));
            assert!(whole, "{links:?}");
        }
    });
}
