// SPDX-License-Identifier: Apache-2.0
//! The messages of this crate against those of netlink-packet-route, in both directions.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{Emitable, NetlinkMessage, NetlinkPayload, Nla};
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoNetkit, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, NetkitMode,
};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteNextHopFlags,
};
use netlink_packet_route::{RouteNetlinkMessage, route};

use crate::address::AddressFlags;
use crate::link::{LinkId, parse_link};
use crate::mac::MacAddress;
use crate::pair::{PairKind, PairSpec, PeerSpec};
use crate::request::Request;
use crate::route::{NextHop, Route, RouteKind, RouteScope};
use crate::wire::Received;

const MAC: MacAddress = MacAddress([0xee; 6]);
const PEER_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 7]);

/// What the other implementation reads in a request.
fn read(mut request: Request) -> (u16, RouteNetlinkMessage) {
    let bytes = request.message.finish(1).to_vec();
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes).expect("the oracle reads it");
    assert_eq!(usize::try_from(message.header.length).unwrap(), bytes.len());
    match message.payload {
        NetlinkPayload::InnerMessage(inner) => (message.header.flags, inner),
        other => panic!("not a route message: {other:?}"),
    }
}

fn read_route(request: Request) -> RouteMessage {
    match read(request).1 {
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => route,
        other => panic!("not a route: {other:?}"),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The attributes of both ends.
fn pair(kind: PairKind) -> (Vec<LinkAttribute>, Vec<LinkAttribute>) {
    let stdin = std::io::stdin();
    let namespace: BorrowedFd<'_> = std::os::fd::AsFd::as_fd(&stdin);
    let spec = PairSpec {
        kind,
        name: "cali12345678901",
        mac: Some(MAC),
        mtu: Some(1450),
        queues: Some(4),
        peer: PeerSpec {
            name: "eth0",
            namespace: Some(namespace),
            mac: Some(PEER_MAC),
        },
    };
    let (flags, message) = read(Request::create_pair(&spec));
    let RouteNetlinkMessage::NewLink(message) = message else {
        panic!("not a new link: {message:?}")
    };
    assert_eq!(
        i32::from(flags),
        libc::NLM_F_REQUEST | libc::NLM_F_CREATE | libc::NLM_F_EXCL
    );
    let mut own = message.attributes;
    let Some(LinkAttribute::LinkInfo(info)) = own.pop() else {
        panic!("link information comes last")
    };
    let [LinkInfo::Kind(written), LinkInfo::Data(data)] = info.as_slice() else {
        panic!("{info:?}")
    };
    assert_eq!(
        *written,
        if kind == PairKind::Veth {
            InfoKind::Veth
        } else {
            InfoKind::Netkit
        }
    );
    let peer = match data {
        InfoData::Veth(InfoVeth::Peer(peer)) => peer.attributes.clone(),
        InfoData::Netkit(attributes) => match attributes.as_slice() {
            [InfoNetkit::Mode(NetkitMode::L2), InfoNetkit::Peer(peer)] => peer.attributes.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    assert_eq!(peer.last(), Some(&LinkAttribute::NetNsFd(namespace.as_raw_fd())));
    (own, peer)
}

#[test]
fn pairs_of_both_kinds() {
    for kind in [PairKind::Veth, PairKind::Netkit] {
        let (own, peer) = pair(kind);
        let end = |name: &str, mac: MacAddress| {
            vec![
                LinkAttribute::IfName(name.into()),
                LinkAttribute::Address(mac.0.to_vec()),
                LinkAttribute::Mtu(1450),
                LinkAttribute::NumTxQueues(4),
                LinkAttribute::NumRxQueues(4),
            ]
        };
        assert_eq!(own, end("cali12345678901", MAC));
        assert_eq!(peer[..5], end("eth0", PEER_MAC));
    }
}

#[test]
fn link_changes() {
    let (_, message) = read(Request::set_link_up(LinkId::named(7, "eth0")));
    let RouteNetlinkMessage::SetLink(message) = message else {
        panic!("{message:?}")
    };
    assert_eq!((message.header.index, message.header.flags), (7, LinkFlags::Up));
    assert_eq!(message.header.change_mask, LinkFlags::Up);

    let (_, message) = read(Request::delete_link_by_name("cali0"));
    let RouteNetlinkMessage::DelLink(message) = message else {
        panic!("{message:?}")
    };
    assert_eq!(message.attributes, [LinkAttribute::IfName("cali0".into())]);
}

#[test]
fn addresses_of_both_families() {
    for text in ["192.168.1.2/32", "fd00::2/128"] {
        let (_, message) = read(Request::add_address(
            3,
            text.parse().unwrap(),
            AddressFlags::NO_DAD,
        ));
        let RouteNetlinkMessage::NewAddress(message) = message else {
            panic!("{message:?}")
        };
        let address = ip(text.split('/').next().unwrap());
        assert_eq!(message.header.index, 3);
        assert_eq!(
            u32::from(message.header.prefix_len),
            if address.is_ipv4() { 32 } else { 128 }
        );
        assert_eq!(
            message.attributes,
            [
                AddressAttribute::Local(address),
                AddressAttribute::Address(address),
                AddressAttribute::Flags(netlink_packet_route::address::AddressFlags::Nodad),
            ]
        );
    }
}

#[test]
fn routes_with_everything() {
    let route = Route {
        onlink: true,
        source: Some(ip("10.0.0.1")),
        table: 1000,
        priority: Some(1024),
        mtu: Some(1400),
        advertised_mss: Some(1360),
        ..Route::through("10.1.2.0/24".parse().unwrap(), ip("169.254.1.1"), 5)
    };
    let message = read_route(Request::add_route(&route));
    assert_eq!(message.header.destination_prefix_length, 24);
    assert_eq!(message.header.protocol, route::RouteProtocol::Boot);
    assert_eq!(message.header.table, libc::RT_TABLE_COMPAT);
    assert_eq!(
        message.header.flags.bits() & u32::from(RouteNextHopFlags::Onlink.bits()),
        4
    );
    assert_eq!(
        message.attributes,
        [
            RouteAttribute::Destination(RouteAddress::Inet("10.1.2.0".parse().unwrap())),
            RouteAttribute::Gateway(RouteAddress::Inet("169.254.1.1".parse().unwrap())),
            RouteAttribute::Oif(5),
            RouteAttribute::PrefSource(RouteAddress::Inet("10.0.0.1".parse().unwrap())),
            RouteAttribute::Table(1000),
            RouteAttribute::Priority(1024),
            RouteAttribute::Metrics(vec![RouteMetric::Mtu(1400), RouteMetric::Advmss(1360)]),
        ]
    );
}

#[test]
fn routes_of_other_kinds() {
    let blackhole = Route {
        kind: RouteKind::Blackhole,
        ..Route::to("fd00:1::/122".parse().unwrap())
    };
    let message = read_route(Request::delete_route(&blackhole));
    assert_eq!(message.header.kind, route::RouteType::BlackHole);
    assert_eq!(message.header.table, libc::RT_TABLE_MAIN);

    let message = read_route(Request::replace_route(&Route::on_link(
        "10.0.0.9/32".parse().unwrap(),
        4,
    )));
    assert_eq!(message.header.scope, route::RouteScope::Link);

    let hop = |gateway, weight| NextHop {
        gateway: Some(gateway),
        interface: 2,
        onlink: false,
        weight,
    };
    let multipath = vec![hop(ip("10.0.0.1"), 1), hop(ip("fe80::1"), 3)];
    let route = Route {
        multipath,
        ..Route::to("10.9.0.0/16".parse().unwrap())
    };
    let message = read_route(Request::add_route(&route));
    let Some(RouteAttribute::MultiPath(hops)) = message.attributes.get(1) else {
        panic!("{message:?}")
    };
    assert_eq!(
        hops.iter()
            .map(|hop| (hop.interface_index, hop.hops))
            .collect::<Vec<_>>(),
        [(2, 0), (2, 2)]
    );
    assert_eq!(
        hops[0].attributes,
        [RouteAttribute::Gateway(RouteAddress::Inet(
            "10.0.0.1".parse().unwrap()
        ))]
    );
    assert!(
        matches!(hops[1].attributes.as_slice(), [RouteAttribute::Via(_)]),
        "{hops:?}"
    );
    assert_eq!(route.scope, RouteScope::Universe);
}

#[test]
fn neighbours_are_permanent() {
    let (_, message) = read(Request::replace_neighbour(9, ip("169.254.1.1"), MAC));
    let RouteNetlinkMessage::NewNeighbour(message) = message else {
        panic!("{message:?}")
    };
    assert_eq!(
        (message.header.ifindex, message.header.state),
        (9, NeighbourState::Permanent)
    );
    assert_eq!(
        message.attributes,
        [
            NeighbourAttribute::Destination(NeighbourAddress::Inet("169.254.1.1".parse().unwrap())),
            NeighbourAttribute::LinkLayerAddress(MAC.0.to_vec()),
        ]
    );
}

#[test]
fn links_written_by_the_oracle_are_read() {
    let mut message = LinkMessage::default();
    message.header.index = 12;
    message.header.flags = LinkFlags::Up | LinkFlags::Running;
    message.attributes = vec![
        LinkAttribute::IfName("cali0".into()),
        LinkAttribute::Mtu(1420),
        LinkAttribute::Address(MAC.0.to_vec()),
        LinkAttribute::Link(2),
        LinkAttribute::LinkNetNsId(5),
        LinkAttribute::IfAlias("a container".into()),
        LinkAttribute::NumTxQueues(8),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]),
    ];
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    let received = Received {
        kind: libc::RTM_NEWLINK,
        flags: 0,
        sequence: 0,
        port: 0,
        body: &bytes,
    };
    let link = parse_link(&received).unwrap();
    assert!(link.is_up() && link.is_running() && !link.is_loopback());
    assert_eq!(
        (link.index, link.name.as_str(), link.mtu, link.mac),
        (12, "cali0", 1420, Some(MAC))
    );
    assert_eq!((link.peer_index, link.peer_namespace), (Some(2), Some(5)));
    assert_eq!(
        (link.alias.as_deref(), link.kind.as_deref()),
        (Some("a container"), Some("veth"))
    );
    assert_eq!((link.transmit_queues, link.receive_queues), (8, 1));

    // Cut off anywhere, a message is refused or read in part, and never a panic.
    for length in 0..bytes.len() {
        let _ = parse_link(&Received {
            body: &bytes[..length],
            ..received
        });
    }
    assert!(
        message
            .attributes
            .iter()
            .all(|attribute| attribute.value_len() > 0)
    );
}
