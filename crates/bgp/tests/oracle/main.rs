// SPDX-License-Identifier: Apache-2.0
//! The codec against another one, netgauze-bgp-pkt: what this one writes the other reads as it was meant, and the other way
//! round. Each message is stated twice, once in the terms of either; neither statement is made from the other's bytes.

mod theirs;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use bgp::{
    AsPath, Attributes, Community, Family, FamilySet, LargeCommunity, Nlri, Origin,
    attributes::{Segment, SegmentKind, UnknownAttribute},
    message::{
        AddPath, Announcement, Capability, EncodedAttributes, Encoding, GracefulFamily, GracefulRestart,
        Message, NextHop, Notification, Open, RefreshSubtype, RouteRefresh, Update, announce, end_of_rib,
        frame, keepalive, withdraw,
    },
};
use ipnet::IpNet;
use proptest::prelude::*;

fn any_path() -> impl Strategy<Value = AsPath> {
    let kind = prop_oneof![3 => Just(SegmentKind::Sequence), 1 => Just(SegmentKind::Set)];
    let numbers = prop::collection::vec(1_u32.., 1..6);
    let segment = (kind, numbers).prop_map(|(kind, numbers)| Segment { kind, numbers });
    prop::collection::vec(segment, 0..4).prop_map(AsPath::new)
}

fn any_set<T: Ord + std::fmt::Debug>(item: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
    prop::collection::btree_set(item, 0..5).prop_map(|set| set.into_iter().collect())
}

prop_compose! {
    fn any_attributes()(
        origin in prop::sample::select(vec![Origin::Igp, Origin::Egp, Origin::Incomplete]),
        as_path in any_path(),
        (med, local_pref) in any::<(Option<u32>, Option<u32>)>(),
        atomic_aggregate in any::<bool>(),
        aggregator in prop::option::of((1_u32.., any::<Ipv4Addr>())),
        communities in any_set(any::<u32>().prop_map(Community)),
        large_communities in any_set(any::<[u32; 3]>().prop_map(LargeCommunity)),
        // Route targets of two-octet AS numbers: the other codec knows each kind by its name.
        extended_communities in any_set(any::<[u8; 6]>().prop_map(|rest| {
            [0, 2, rest[0], rest[1], rest[2], rest[3], rest[4], rest[5]]
        })),
        originator_id in any::<Option<Ipv4Addr>>(),
        cluster_list in prop::collection::vec(any::<Ipv4Addr>(), 0..4),
        unknown in prop::option::of((200_u8..250, prop::collection::vec(any::<u8>(), 0..300))),
    ) -> Attributes {
        let unknown = unknown.into_iter().map(|(kind, value)| UnknownAttribute { kind, value }).collect();
        Attributes {
            origin, as_path, med, local_pref, atomic_aggregate, aggregator, communities, large_communities,
            extended_communities, originator_id, cluster_list, unknown,
        }
    }
}

/// Prefixes that the other codec takes for unicast, too.
fn any_nlri(family: Family, with_path: bool) -> impl Strategy<Value = Vec<Nlri>> {
    let prefix = (any::<u128>(), 8..=family.max_length()).prop_map(move |(bits, length)| {
        let address: IpAddr = match family {
            Family::Ipv4 => {
                let octets = u32::try_from(bits >> 96).unwrap_or_default().to_be_bytes();
                Ipv4Addr::new(octets[0] % 200, octets[1], octets[2], octets[3]).into()
            }
            Family::Ipv6 => Ipv6Addr::from(bits >> 1).into(),
        };
        IpNet::new(address, length).expect("a length that fits").trunc()
    });
    let path_id = any::<u32>().prop_map(move |id| with_path.then_some(id));
    let nlri = (prefix, path_id).prop_map(|(prefix, path_id)| Nlri { prefix, path_id });
    prop::collection::vec(nlri, 1..300)
}

/// A family, prefixes of it, and whether they have path identifiers.
fn any_field() -> impl Strategy<Value = (Family, Vec<Nlri>, bool)> {
    (prop::sample::select(Family::ALL.to_vec()), any::<bool>())
        .prop_flat_map(|(family, paths)| (Just(family), any_nlri(family, paths), Just(paths)))
}

fn encoding(paths: bool, ipv4_over_ipv6: bool) -> Encoding {
    let all: FamilySet = Family::ALL.into_iter().collect();
    let paths = if paths { all } else { FamilySet::EMPTY };
    Encoding {
        families: all,
        internal: true,
        four_octet_as: true,
        add_path_receive: paths,
        add_path_send: paths,
        ipv4_over_ipv6,
        ..Encoding::default()
    }
}

fn read(bytes: &[u8], encoding: Encoding) -> Message {
    // The other codec's lengths are longer, so a message may be longer than ours, too.
    let found = frame(bytes, true).expect("a header").expect("a whole message");
    assert_eq!(found.length, bytes.len());
    Message::read(&found, encoding).expect("a sound message")
}

fn read_update(bytes: &[u8], encoding: Encoding) -> Update {
    match read(bytes, encoding) {
        Message::Update(update) => update,
        other => panic!("{other:?}"),
    }
}

fn next_hop_of(
    family: Family,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    link_local: Option<Ipv6Addr>,
    over_ipv6: bool,
) -> NextHop {
    if family == Family::Ipv4 && !over_ipv6 {
        NextHop::from(IpAddr::V4(v4))
    } else {
        NextHop {
            address: v6.into(),
            link_local,
        }
    }
}

fn any_family_code() -> impl Strategy<Value = Family> {
    prop::sample::select(Family::ALL.to_vec())
}

fn any_capability() -> impl Strategy<Value = Capability> {
    let graceful = (
        any::<(bool, bool)>(),
        0_u64..4096,
        any_set(any_family_code()),
        any::<bool>(),
    );
    let graceful = graceful.prop_map(|((restarted, notification), seconds, families, forwarding)| {
        Capability::GracefulRestart(GracefulRestart {
            restarted,
            notification,
            time: Duration::from_secs(seconds),
            families: families
                .into_iter()
                .map(|family| GracefulFamily {
                    family: family.code(),
                    forwarding,
                })
                .collect(),
        })
    });
    let directions = prop::sample::select(vec![AddPath::Receive, AddPath::Send, AddPath::Both]);
    let paths = prop::collection::vec((any_family_code(), directions), 1..3);
    let paths = paths.prop_map(|list| {
        Capability::AddPath(
            list.into_iter()
                .map(|(family, directions)| (family.code(), directions))
                .collect(),
        )
    });
    prop_oneof![
        any_family_code().prop_map(|family| Capability::Multiprotocol(family.code())),
        Just(Capability::RouteRefresh),
        Just(Capability::EnhancedRouteRefresh),
        Just(Capability::ExtendedMessage),
        Just(Capability::ExtendedNextHop(vec![(Family::Ipv4.code(), 2)])),
        (1_u32..).prop_map(Capability::FourOctetAs),
        graceful,
        paths,
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|value| Capability::Other { code: 199, value }),
    ]
}

prop_compose! {
    fn any_open()(
        as_number in 1_u16..,
        hold in prop_oneof![Just(0_u64), 3_u64..=65_535],
        // The other codec knows no others than addresses of hosts (before RFC 6286).
        identifier in (0x0100_0000_u32..0x7f00_0000).prop_map(Ipv4Addr::from),
        capabilities in prop::collection::vec(any_capability(), 0..12),
    ) -> Open {
        Open { as_number, hold_time: Duration::from_secs(hold), identifier, capabilities }
    }
}

proptest! {
    #[test]
    fn announcements_mean_the_same_to_both(
        attributes in any_attributes(),
        (family, nlri, paths) in any_field(),
        (v4, v6, link_local, over_ipv6) in any::<(Ipv4Addr, Ipv6Addr, Option<Ipv6Addr>, bool)>(),
    ) {
        let encoding = encoding(paths, over_ipv6);
        let next_hop = next_hop_of(family, v4, v6, link_local, over_ipv6);
        let encoded = EncodedAttributes::new(&attributes, encoding);
        let ours = announce(&encoded, next_hop, &nlri, encoding).expect("attributes that fit");
        let mut rest = &nlri[..];
        for bytes in ours {
            // Which prefixes fit into one message is this codec's matter.
            let count = read_update(&bytes, encoding).announced.iter().map(|found| found.nlri.len()).sum();
            let (part, more) = rest.split_at(count);
            rest = more;
            let stated = theirs::announcement(&attributes, next_hop, part);
            prop_assert_eq!(theirs::sorted(theirs::read(&bytes, paths)), theirs::sorted(stated.clone()));
            let update = read_update(&theirs::write(&stated), encoding);
            prop_assert_eq!(&update.defects, &[]);
            prop_assert_eq!(&update.attributes, &attributes);
            prop_assert_eq!(update.announced, vec![Announcement { next_hop, nlri: part.to_vec() }]);
            prop_assert_eq!(update.withdrawn, vec![]);
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn withdrawals_mean_the_same_to_both((family, nlri, paths) in any_field()) {
        let encoding = encoding(paths, false);
        let mut rest = &nlri[..];
        for bytes in withdraw(&nlri, encoding) {
            let (part, more) = rest.split_at(read_update(&bytes, encoding).withdrawn.len());
            rest = more;
            let stated = theirs::withdrawal(family, part);
            prop_assert_eq!(theirs::read(&bytes, paths), stated.clone());
            let update = read_update(&theirs::write(&stated), encoding);
            prop_assert_eq!(update.withdrawn, part.to_vec());
            prop_assert_eq!(update.announced, vec![]);
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn opens_mean_the_same_to_both(open in any_open()) {
        let stated = theirs::open(&open);
        prop_assert_eq!(theirs::read(&open.to_bytes(), false), stated.clone());
        prop_assert_eq!(read(&theirs::write(&stated), encoding(false, false)), Message::Open(open));
    }

    #[test]
    fn notifications_mean_the_same_to_both(
        subcode in 1_u8..=8, data in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let stated = theirs::cease(subcode, &data);
        let ours = Notification::new(6, subcode).with(data);
        prop_assert_eq!(theirs::read(&ours.to_bytes(), false), stated.clone());
        prop_assert_eq!(read(&theirs::write(&stated), encoding(false, false)), Message::Notification(ours));
    }
}

#[test]
fn short_messages_mean_the_same_to_both() {
    let encoding = encoding(false, false);
    assert_eq!(theirs::read(&keepalive(), false), theirs::keepalive());
    assert_eq!(
        read(&theirs::write(&theirs::keepalive()), encoding),
        Message::Keepalive
    );
    for family in Family::ALL {
        let stated = theirs::withdrawal(family, &[]);
        assert_eq!(theirs::read(&end_of_rib(family), false), stated);
        assert_eq!(
            read_update(&theirs::write(&stated), encoding).end_of_rib,
            Some(family)
        );
        for subtype in [
            RefreshSubtype::Request,
            RefreshSubtype::Begin,
            RefreshSubtype::End,
        ] {
            let ours = RouteRefresh {
                family: family.code(),
                subtype,
            };
            let stated = theirs::refresh(family, subtype);
            assert_eq!(theirs::read(&ours.to_bytes(), false), stated);
            assert_eq!(
                read(&theirs::write(&stated), encoding),
                Message::RouteRefresh(ours)
            );
        }
    }
}
