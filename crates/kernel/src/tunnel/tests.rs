// SPDX-License-Identifier: Apache-2.0
//! Tunnel messages against those of netlink-packet-route, since this kernel may lack a driver; and comparisons.

use netlink_packet_core::{Emitable, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoIpTunnel, InfoKind, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage,
};

use super::*;
use crate::wire::Received;

const MAC: MacAddress = MacAddress([0x66, 1, 2, 3, 4, 5]);

fn ipip(local: Option<&str>) -> TunnelSpec<'static> {
    TunnelSpec {
        name: "ipip.calico",
        mtu: Some(1480),
        kind: TunnelKind::Ipip(Ipip {
            local: local.map(|local| local.parse().unwrap()),
        }),
    }
}

fn vxlan(local: &str) -> TunnelSpec<'static> {
    TunnelSpec {
        name: "vxlan.calico",
        mtu: Some(1450),
        kind: TunnelKind::Vxlan(Vxlan {
            id: 4096,
            port: 4789,
            local: Some(local.parse().unwrap()),
            parent: Some(3),
            mac: Some(MAC),
            learning: false,
        }),
    }
}

/// What the other implementation reads in a request.
fn read(mut request: Request) -> LinkMessage {
    let bytes = request.message.finish(1).to_vec();
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes).expect("the oracle reads it");
    match message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => link,
        other => panic!("not a link message: {other:?}"),
    }
}

/// The device of a message that the other implementation writes.
fn device(kind: InfoKind, data: InfoData, attributes: Vec<LinkAttribute>) -> TunnelDevice {
    let mut message = LinkMessage::default();
    message.header.index = 12;
    message.attributes = attributes;
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(kind),
        LinkInfo::Data(data),
    ]));
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    parse_tunnel(&Received {
        kind: libc::RTM_NEWLINK,
        flags: 0,
        sequence: 0,
        port: 0,
        body: &bytes,
    })
    .unwrap()
}

fn ipip_device(data: Vec<InfoIpTunnel>) -> TunnelDevice {
    device(
        InfoKind::IpIp,
        InfoData::IpTunnel(data),
        vec![
            LinkAttribute::IfName("ipip.calico".into()),
            LinkAttribute::Mtu(1480),
        ],
    )
}

fn vxlan_device(data: Vec<InfoVxlan>) -> TunnelDevice {
    let attributes = vec![
        LinkAttribute::IfName("vxlan.calico".into()),
        LinkAttribute::Mtu(1450),
        LinkAttribute::Address(MAC.0.to_vec()),
    ];
    device(InfoKind::Vxlan, InfoData::Vxlan(data), attributes)
}

#[test]
fn created_tunnels_are_read_by_the_oracle() {
    let message = read(Request::create_tunnel(&ipip(Some("192.0.2.1"))));
    assert_eq!(
        message.attributes,
        [
            LinkAttribute::IfName("ipip.calico".into()),
            LinkAttribute::Mtu(1480),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::IpIp),
                LinkInfo::Data(InfoData::IpTunnel(vec![
                    InfoIpTunnel::Local("192.0.2.1".parse().unwrap()),
                    InfoIpTunnel::Protocol(netlink_packet_route::IpProtocol::Ipip),
                ])),
            ]),
        ]
    );
    for (local, expected) in [
        ("192.0.2.1", InfoVxlan::Local("192.0.2.1".parse().unwrap())),
        ("2001:db8::1", InfoVxlan::Local6("2001:db8::1".parse().unwrap())),
    ] {
        let message = read(Request::create_tunnel(&vxlan(local)));
        assert_eq!(
            message.attributes,
            [
                LinkAttribute::IfName("vxlan.calico".into()),
                LinkAttribute::Mtu(1450),
                LinkAttribute::Address(MAC.0.to_vec()),
                LinkAttribute::LinkInfo(vec![
                    LinkInfo::Kind(InfoKind::Vxlan),
                    LinkInfo::Data(InfoData::Vxlan(vec![
                        InfoVxlan::Id(4096),
                        InfoVxlan::Link(3),
                        expected,
                        InfoVxlan::Learning(false),
                        InfoVxlan::Port(4789),
                    ])),
                ]),
            ]
        );
    }
}

#[test]
fn an_ipip_device_is_compared() {
    let local = |address: &str| InfoIpTunnel::Local(address.parse().unwrap());
    let remote = |address: &str| InfoIpTunnel::Remote(address.parse().unwrap());
    let wanted = ipip(Some("192.0.2.1"));
    let is = ipip_device(vec![
        InfoIpTunnel::Link(0),
        local("192.0.2.1"),
        remote("0.0.0.0"),
        InfoIpTunnel::Ttl(0),
        InfoIpTunnel::PMtuDisc(true),
    ]);
    assert_eq!(is.differs(&wanted), None);
    assert_eq!(
        is.differs(&ipip(None)),
        Some(Difference::Adjustable("local is 192.0.2.1, wanted none".into()))
    );
    // As the module makes `tunl0`.
    let fallback = ipip_device(vec![local("0.0.0.0"), remote("0.0.0.0")]);
    assert_eq!(fallback.differs(&ipip(None)), None);
    let other = ipip_device(vec![
        local("192.0.2.1"),
        remote("192.0.2.9"),
        InfoIpTunnel::Link(4),
    ]);
    assert_eq!(
        other.differs(&wanted),
        Some(Difference::Recreate(
            "has remote 192.0.2.9, has parent index 4".into()
        ))
    );
    let external = ipip_device(vec![local("192.0.2.1"), InfoIpTunnel::CollectMetadata]);
    assert_eq!(
        external.differs(&wanted).unwrap(),
        Difference::Recreate("has external".into())
    );
    assert_eq!(
        is.differs(&vxlan("192.0.2.1")).unwrap(),
        Difference::Recreate("driver is ipip, wanted vxlan, MTU is 1480, wanted 1450".into())
    );
}

#[test]
fn a_vxlan_device_is_compared() {
    let data = |change: Option<InfoVxlan>| {
        let mut data = vec![
            InfoVxlan::Id(4096),
            InfoVxlan::Link(3),
            InfoVxlan::Local("192.0.2.1".parse().unwrap()),
            InfoVxlan::Learning(false),
            InfoVxlan::Port(4789),
            InfoVxlan::CollectMetadata(false),
        ];
        // The last of two counts.
        data.extend(change);
        vxlan_device(data)
    };
    let wanted = vxlan("192.0.2.1");
    assert_eq!(data(None).differs(&wanted), None);
    for (change, words) in [
        (InfoVxlan::Id(7), "id is 7, wanted 4096"),
        (InfoVxlan::Port(8472), "port is 8472, wanted 4789"),
        (InfoVxlan::Link(0), "parent index is none, wanted 3"),
        (InfoVxlan::Learning(true), "learning is true, wanted false"),
        (
            InfoVxlan::Group("239.1.1.1".parse().unwrap()),
            "has group 239.1.1.1",
        ),
        (InfoVxlan::CollectMetadata(true), "has external"),
        (InfoVxlan::Gbp, "has gbp"),
        (
            InfoVxlan::Local6("2001:db8::1".parse().unwrap()),
            "local is 2001:db8::1, wanted 192.0.2.1",
        ),
    ] {
        assert_eq!(
            data(Some(change)).differs(&wanted),
            Some(Difference::Recreate(words.into()))
        );
    }
    let mut device = data(None);
    device.link.mtu = 1500;
    device.link.mac = Some(MacAddress([2, 0, 0, 0, 0, 1]));
    assert_eq!(
        device.differs(&wanted).unwrap().to_string(),
        "MAC is 02:00:00:00:00:01, wanted 66:01:02:03:04:05, MTU is 1500, wanted 1450"
    );
}
