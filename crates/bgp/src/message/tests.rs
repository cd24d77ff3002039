// SPDX-License-Identifier: Apache-2.0
//! Bytes and values, both ways; every class of defect of RFC 7606; what is built is read back the same.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use proptest::prelude::*;

use super::{
    notification::{cease, code},
    *,
};
use crate::{
    attributes::{
        AsPath, Attributes, Community, LargeCommunity, Origin, Segment, SegmentKind, UnknownAttribute,
    },
    family::{Family, FamilyCode, FamilySet, Nlri},
};

fn encoding() -> Encoding {
    Encoding {
        families: Family::ALL.into_iter().collect(),
        internal: true,
        four_octet_as: true,
        ..Encoding::default()
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn read(message: &[u8], encoding: Encoding) -> Result<Message, Notification> {
    let found = frame(message, encoding.extended_message)?.expect("a whole message");
    assert_eq!(found.length, message.len());
    Message::read(&found, encoding)
}

fn nlri(prefix: &str) -> Nlri {
    Nlri::from(prefix.parse::<ipnet::IpNet>().unwrap())
}

/// An UPDATE of hand-made attributes and prefixes in its own field.
fn update(attributes: &str, prefixes: &str) -> Vec<u8> {
    let (attributes, prefixes) = (bytes(attributes), bytes(prefixes));
    let mut message = header::begin(2);
    message.extend([0, 0]);
    message.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
    message.extend(attributes);
    message.extend(prefixes);
    header::end(message)
}

fn read_update(attributes: &str, prefixes: &str, encoding: Encoding) -> Result<Update, Notification> {
    match read(&update(attributes, prefixes), encoding)? {
        Message::Update(update) => Ok(update),
        other => panic!("{other:?}"),
    }
}

const ORIGIN: &str = "40 01 01 00";
const PATH: &str = "40 02 06 02 01 0000fbff";
const NEXT_HOP: &str = "40 03 04 0a000001";
const PREFIX: &str = "18 c0a801";

fn sound() -> String {
    [ORIGIN, PATH, NEXT_HOP].join(" ")
}

/// The OPEN that BIRD 2.0.12 sends as router 10.0.0.2 in AS 64511.
const BIRD_OPEN: &str = "ffffffffffffffffffffffffffffffff 003d 01 04 fbff 00f0 0a000002 20 02 1e \
    0104 0001 0001 0200 0600 4006 0078 0001 0100 4104 0000fbff 4600 4700";

#[test]
fn an_open_as_bird_sends_it() {
    let mut message = bytes(BIRD_OPEN);
    let length = u16::try_from(message.len()).unwrap();
    message[16..18].copy_from_slice(&length.to_be_bytes());
    let parameters = u8::try_from(message.len() - 29).unwrap();
    (message[28], message[30]) = (parameters, parameters - 2);
    let Message::Open(open) = read(&message, Encoding::default()).unwrap() else {
        panic!("no OPEN");
    };
    assert_eq!((open.as_number, open.true_as_number()), (64_511, 64_511));
    assert_eq!(open.hold_time, Duration::from_secs(240));
    assert_eq!(open.identifier, Ipv4Addr::new(10, 0, 0, 2));
    let ipv4 = Family::Ipv4.code();
    let restart = GracefulRestart {
        time: Duration::from_secs(120),
        families: vec![GracefulFamily {
            family: ipv4,
            forwarding: false,
        }],
        ..GracefulRestart::default()
    };
    assert_eq!(
        open.capabilities,
        [
            Capability::Multiprotocol(ipv4),
            Capability::RouteRefresh,
            Capability::ExtendedMessage,
            Capability::GracefulRestart(restart),
            Capability::FourOctetAs(64_511),
            Capability::EnhancedRouteRefresh,
            Capability::Other {
                code: 71,
                value: Vec::new()
            },
        ]
    );
    assert_eq!(open.to_bytes(), message);
}

#[test]
fn an_open_with_more_capabilities_than_one_octet_counts() {
    let value = vec![7; 200];
    let open = Open {
        as_number: AS_TRANS,
        hold_time: Duration::from_secs(90),
        identifier: Ipv4Addr::new(1, 1, 1, 1),
        capabilities: vec![
            Capability::FourOctetAs(4_200_000_001),
            Capability::Other {
                code: 200,
                value: value.clone(),
            },
            Capability::Other { code: 201, value },
        ],
    };
    let message = open.to_bytes();
    assert_eq!(message[28..30], [255, 255]);
    assert_eq!(
        read(&message, Encoding::default()),
        Ok(Message::Open(open.clone()))
    );
    assert_eq!(open.true_as_number(), 4_200_000_001);
}

#[test]
fn a_wrong_open_is_answered_as_the_rfc_says() {
    let open = |body: &str| {
        let mut message = header::begin(1);
        message.extend(bytes(body));
        read(&header::end(message), Encoding::default()).unwrap_err()
    };
    for (body, subcode, data) in [
        ("03 fbff 00f0 0a000002 00", 1, &[0, 4][..]),
        ("04 0000 00f0 0a000002 00", 2, &[]),
        ("04 fbff 00f0 00000000 00", 3, &[]),
        ("04 fbff 00f0 0a000002 03 01 01 00", 4, &[]),
        ("04 fbff 0001 0a000002 00", 6, &[]),
        ("04 fbff 0002 0a000002 00", 6, &[]),
        // A length that lies: of the parameters, of one, of a capability; something behind them.
        ("04 fbff 00f0 0a000002 01", 0, &[]),
        ("04 fbff 00f0 0a000002 02 02 01", 0, &[]),
        ("04 fbff 00f0 0a000002 04 02 02 41 04", 0, &[]),
        ("04 fbff 00f0 0a000002 00 00", 0, &[]),
        // AS 0 in the capability.
        ("04 fbff 00f0 0a000002 08 02 06 41 04 00000000", 2, &[]),
    ] {
        let expected = Notification::new(code::OPEN, subcode).with(data);
        assert_eq!(open(body), expected, "{body}");
    }
}

#[test]
fn frames_are_cut_and_refused() {
    let message = keepalive();
    assert_eq!(message.len(), 19);
    for length in 0..19 {
        assert_eq!(frame(&message[..length], false), Ok(None));
    }
    let two = [message.clone(), message.clone()].concat();
    assert_eq!(frame(&two, false).unwrap().unwrap().length, 19);
    let altered = |at: usize, value: u8| {
        let mut message = message.clone();
        message[at] = value;
        frame(&message, false).unwrap_err()
    };
    assert_eq!(altered(3, 0), Notification::new(1, 1));
    assert_eq!(altered(18, 9), Notification::new(1, 3).with([9]));
    assert_eq!(altered(18, 0), Notification::new(1, 3).with([0]));
    assert_eq!(altered(17, 18), Notification::new(1, 2).with([0, 18]));
    // A KEEPALIVE with a body; an UPDATE, OPEN and NOTIFICATION too short; anything too long.
    assert_eq!(altered(17, 20), Notification::new(1, 2).with([0, 20]));
    assert_eq!(altered(18, 2), Notification::new(1, 2).with([0, 19]));
    assert_eq!(altered(18, 1), Notification::new(1, 2).with([0, 19]));
    assert_eq!(altered(18, 3), Notification::new(1, 2).with([0, 19]));
    assert_eq!(altered(16, 0x20).code, 1);
    // Refused before all of a header is there.
    assert_eq!(frame(&[0xff, 0xfe], false).unwrap_err(), Notification::new(1, 1));
    let mut long = header::begin(2);
    long.resize(5000, 0);
    let long = header::end(long);
    assert!(frame(&long, false).is_err());
    assert!(frame(&long, true).unwrap().is_some());
}

#[test]
fn a_sound_update() {
    let update = read_update(&sound(), PREFIX, encoding()).unwrap();
    assert_eq!(update.defects, []);
    assert_eq!(
        update.announced,
        [Announcement {
            next_hop: NextHop::from(IpAddr::from([10, 0, 0, 1])),
            nlri: vec![nlri("192.168.1.0/24")],
        }]
    );
    assert_eq!(update.attributes.as_path, AsPath::sequence([64_511]));
    // Bits behind the length are nothing.
    let update = read_update(&sound(), "17 c0a8ff", encoding()).unwrap();
    assert_eq!(update.announced[0].nlri, [nlri("192.168.254.0/23")]);
}

#[test]
fn defects_that_withdraw() {
    let ipv6 = "90 0e 001a 0002 01 10 20010db8000000000000000000000001 00 20 20010db8";
    for defect in [
        // ORIGIN: value, length, flags.
        "40 01 01 03",
        "40 01 02 0000",
        "c0 01 01 00",
        // AS_PATH: kind, count, underrun, AS 0.
        "40 02 06 05 01 0000fbff",
        "40 02 06 02 02 0000fbff",
        "40 02 02 02 00",
        "40 02 06 02 01 00000000",
        "40 03 03 0a0000",
        "80 04 03 000000",
        "40 05 03 000000",
        "c0 08 03 000000",
        "c0 08 00",
        "c0 10 04 00000000",
        "c0 20 08 0000000000000000",
        "80 09 02 0000",
        "80 0a 05 0000000000",
        // The list ends within an attribute.
        "40 06",
        "c0 08 09 00000000",
    ] {
        let replaced = defect.split(' ').nth(1).unwrap();
        let rest = [ORIGIN, PATH, NEXT_HOP]
            .into_iter()
            .filter(|sound| sound.split(' ').nth(1) != Some(replaced));
        let list = [&[ipv6][..], &rest.collect::<Vec<_>>(), &[defect]]
            .concat()
            .join(" ");
        let update = read_update(&list, PREFIX, encoding()).unwrap();
        assert_eq!(update.announced, [], "{defect}");
        assert_eq!(
            update.withdrawn,
            [nlri("192.168.1.0/24"), nlri("2001:db8::/32")],
            "{defect}"
        );
        assert_eq!(update.defects.len(), 1, "{defect}: {:?}", update.defects);
        assert_eq!(update.defects[0].consequence, Consequence::TreatAsWithdraw);
    }
    for (missing, kind) in [(ORIGIN, 1), (PATH, 2), (NEXT_HOP, 3)] {
        let update = read_update(&sound().replace(missing, ""), PREFIX, encoding()).unwrap();
        assert_eq!(update.withdrawn, [nlri("192.168.1.0/24")], "{missing}");
        assert_eq!(update.defects[0].attribute, kind);
    }
}

#[test]
fn defects_that_cost_an_attribute() {
    let external = Encoding {
        internal: false,
        ..encoding()
    };
    for (attribute, encoding) in [
        ("40 06 01 00", encoding()),
        ("c0 07 06 fbff0a000001", encoding()),
        ("c0 07 08 000000000a000001", encoding()),
        ("c0 11 06 02010000fbff", encoding()),
        ("40 01 01 01", encoding()),
        ("40 05 04 00000064", external),
        ("40 05 01 00", external),
        ("80 09 04 0a000001", external),
        ("80 0a 04 0a000001", external),
    ] {
        let update = read_update(&format!("{} {attribute}", sound()), PREFIX, encoding).unwrap();
        assert_eq!(update.announced.len(), 1, "{attribute}");
        assert_eq!(
            update.attributes,
            read_update(&sound(), PREFIX, encoding).unwrap().attributes,
            "{attribute}"
        );
        assert_eq!(update.defects.len(), 1, "{attribute}");
        assert_eq!(
            update.defects[0].consequence,
            Consequence::AttributeDiscard,
            "{attribute}"
        );
    }
    // A family that was not agreed on costs its routes only.
    let only_ipv4 = Encoding {
        families: [Family::Ipv4].into_iter().collect(),
        ..encoding()
    };
    let other = "80 0f 08 0002 01 20 20010db8";
    let update = read_update(&format!("{} {other}", sound()), PREFIX, only_ipv4).unwrap();
    assert_eq!(
        (
            update.announced.len(),
            update.withdrawn.len(),
            update.defects.len()
        ),
        (1, 0, 1)
    );
}

#[test]
fn defects_that_end_the_session() {
    let reach = "80 0e 1a 0002 01 10 20010db8000000000000000000000001 00 20 20010db8";
    let twice = format!("{} {reach} {reach}", sound());
    let bad_prefix = reach.replace("20 20010db8", "81 20010db8");
    let bad_next_hop = "80 0e 0e 0002 01 04 0a000001 00 20 20010db8";
    for (attributes, prefixes, subcode) in [
        (twice.as_str(), PREFIX, 1),
        (&bad_prefix, "", 9),
        (bad_next_hop, "", 9),
        ("80 0f 04 0002 01 21", "", 9),
        ("40 63 01 00", PREFIX, 2),
        (&sound(), "21 c0a80100", 10),
        (&sound(), "18 c0a8", 10),
    ] {
        let error = read_update(attributes, prefixes, encoding()).unwrap_err();
        assert_eq!(
            (error.code, error.subcode),
            (3, subcode),
            "{attributes} {prefixes}"
        );
    }
    // Lengths that lead out of the message.
    for body in ["0005 0000", "0000 0005", "0000"] {
        let mut message = header::begin(2);
        message.extend(bytes(body));
        message.resize(message.len().max(23), 0xff);
        let error = read(&header::end(message), encoding()).unwrap_err();
        assert_eq!(error.code, 3, "{body}");
    }
}

#[test]
fn two_octet_peers_lose_no_as_number() {
    let old = Encoding {
        four_octet_as: false,
        internal: false,
        ..encoding()
    };
    let attributes = Attributes {
        as_path: AsPath::sequence([64_511, 4_200_000_001, 7]),
        aggregator: Some((4_200_000_001, Ipv4Addr::new(9, 9, 9, 9))),
        ..Attributes::default()
    };
    let encoded = EncodedAttributes::new(&attributes, old);
    let next_hop = NextHop::from(IpAddr::from([10, 0, 0, 1]));
    let messages = announce(&encoded, next_hop, &[nlri("10.0.0.0/8")], old).unwrap();
    let Message::Update(update) = read(&messages[0], old).unwrap() else {
        panic!()
    };
    assert_eq!((update.attributes, update.defects), (attributes, Vec::new()));
    // Somebody put an AS before it without touching AS4_PATH.
    let list = format!("{ORIGIN} 40 02 08 02 03 0005 5ba0 0007 {NEXT_HOP} c0 11 0a 02 02 fa56ea01 00000007");
    let update = read_update(&list, PREFIX, old).unwrap();
    assert_eq!(update.attributes.as_path.to_string(), "5 4200000001 7");
    // A longer AS4_PATH than AS_PATH is ignored.
    let list = format!("{ORIGIN} 40 02 04 02 01 5ba0 {NEXT_HOP} c0 11 0a 02 02 fa56ea01 00000007");
    let update = read_update(&list, PREFIX, old).unwrap();
    assert_eq!(update.attributes.as_path.to_string(), "23456");
}

#[test]
fn the_end_of_a_first_exchange() {
    for family in Family::ALL {
        let Message::Update(update) = read(&end_of_rib(family), encoding()).unwrap() else {
            panic!()
        };
        let expected = Update {
            end_of_rib: Some(family),
            ..Update::default()
        };
        assert_eq!(update, expected);
    }
}

#[test]
fn notifications_are_read_and_shown() {
    let shutdown = Notification::shutdown(cease::SHUTDOWN, "maintenance");
    assert_eq!(
        read(&shutdown.to_bytes(), encoding()),
        Ok(Message::Notification(shutdown.clone()))
    );
    assert_eq!(
        shutdown.to_string(),
        "6/2 cease: administrative shutdown \"maintenance\""
    );
    let long = Notification::shutdown(cease::RESET, &"\u{e9}".repeat(200));
    assert_eq!(long.communication().unwrap().len(), 254, "cut at a character");
    let hostile = Notification::new(6, 2).with(*b"\x05a\x1b[31");
    assert_eq!(hostile.communication().unwrap(), "a\u{fffd}[31");
    for lying in [&b""[..], b"\x00", b"\x09ab"] {
        assert_eq!(Notification::new(6, 2).with(lying).communication(), None);
    }
    assert_eq!(Notification::new(99, 1).to_string(), "99/1 unknown error");
    let huge = Notification::new(3, 1).with(vec![1; 10_000]).to_bytes();
    assert_eq!(huge.len(), MAX_LENGTH);
}

#[test]
fn route_refresh_both_ways() {
    for subtype in [
        RefreshSubtype::Request,
        RefreshSubtype::Begin,
        RefreshSubtype::End,
        RefreshSubtype::Unknown(9),
    ] {
        let message = RouteRefresh {
            family: Family::Ipv6.code(),
            subtype,
        };
        assert_eq!(
            read(&message.to_bytes(), encoding()),
            Ok(Message::RouteRefresh(message))
        );
    }
    let mut long = header::begin(5);
    long.extend([0, 1, 0, 1, 1]);
    assert_eq!(read(&header::end(long), encoding()).unwrap_err().code, 7);
}

#[test]
fn what_does_not_fit_is_refused_and_the_rest_is_cut() {
    let many: Vec<Nlri> = (0..5000_u32)
        .map(|index| {
            Nlri::from(ipnet::IpNet::from(
                ipnet::Ipv4Net::new(Ipv4Addr::from(0x0a00_0000 + index * 64), 26).unwrap(),
            ))
        })
        .collect();
    let encoded = EncodedAttributes::new(&Attributes::default(), encoding());
    let next_hop = NextHop::from(IpAddr::from([10, 0, 0, 1]));
    let messages = announce(&encoded, next_hop, &many, encoding()).unwrap();
    assert!(messages.iter().all(|message| message.len() <= MAX_LENGTH));
    assert_eq!(messages.len(), 7, "full messages");
    let mut found = Vec::new();
    for message in &messages {
        let Message::Update(update) = read(message, encoding()).unwrap() else {
            panic!()
        };
        found.extend(
            update
                .announced
                .into_iter()
                .flat_map(|announcement| announcement.nlri),
        );
    }
    assert_eq!(found, many);
    let withdrawn = withdraw(&many, encoding());
    assert!(withdrawn.len() == 7 && withdrawn.iter().all(|message| message.len() <= MAX_LENGTH));
    let huge = Attributes {
        communities: (0..2000).map(Community).collect(),
        ..Attributes::default()
    };
    let encoded = EncodedAttributes::new(&huge, encoding());
    assert!(announce(&encoded, next_hop, &many, encoding()).is_err());
    let extended = Encoding {
        extended_message: true,
        ..encoding()
    };
    assert_eq!(announce(&encoded, next_hop, &many, extended).unwrap().len(), 1);
}

fn any_path() -> impl Strategy<Value = AsPath> {
    let kind = prop_oneof![3 => Just(SegmentKind::Sequence), 1 => Just(SegmentKind::Set)];
    let segment =
        (kind, prop::collection::vec(1_u32.., 1..6)).prop_map(|(kind, numbers)| Segment { kind, numbers });
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
        extended_communities in any_set(any::<[u8; 8]>()),
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

fn any_nlri(family: Family, with_path: bool) -> impl Strategy<Value = Vec<Nlri>> {
    let prefix = (any::<u128>(), 0..=family.max_length()).prop_map(move |(bits, length)| {
        let address: IpAddr = match family {
            Family::Ipv4 => IpAddr::V4(Ipv4Addr::from(u32::try_from(bits >> 96).unwrap())),
            Family::Ipv6 => IpAddr::V6(bits.into()),
        };
        ipnet::IpNet::new(address, length).unwrap().trunc()
    });
    let path_id = any::<u32>().prop_map(move |id| with_path.then_some(id));
    let nlri = (prefix, path_id).prop_map(|(prefix, path_id)| Nlri { prefix, path_id });
    prop::collection::vec(nlri, 1..400)
}

proptest! {
    #[test]
    fn what_is_announced_is_read_back(
        attributes in any_attributes(),
        (family, nlri, add_path) in (prop::sample::select(vec![Family::Ipv4, Family::Ipv6]), any::<bool>())
            .prop_flat_map(|(family, add_path)| (Just(family), any_nlri(family, add_path), Just(add_path))),
        (global, link_local) in any::<(IpAddr, Option<std::net::Ipv6Addr>)>(),
        extended_message in any::<bool>(),
    ) {
        let address = match (family, global) {
            (Family::Ipv6, IpAddr::V4(address)) => IpAddr::V6(address.to_ipv6_mapped()),
            (_, address) => address,
        };
        let next_hop = NextHop { address, link_local: link_local.filter(|_| address.is_ipv6()) };
        let paths = if add_path { Family::ALL.into_iter().collect() } else { FamilySet::EMPTY };
        let encoding = Encoding {
            extended_message, add_path_send: paths, add_path_receive: paths, ipv4_over_ipv6: true, ..encoding()
        };
        let encoded = EncodedAttributes::new(&attributes, encoding);
        let mut found = Vec::new();
        for message in announce(&encoded, next_hop, &nlri, encoding).unwrap() {
            let Message::Update(update) = read(&message, encoding).unwrap() else { panic!() };
            prop_assert_eq!(&update.defects, &[]);
            prop_assert_eq!(&update.attributes, &attributes);
            for announcement in update.announced {
                prop_assert_eq!(announcement.next_hop, next_hop);
                found.extend(announcement.nlri);
            }
        }
        prop_assert_eq!(&found, &nlri);
        let mut found = Vec::new();
        for message in withdraw(&nlri, encoding) {
            let Message::Update(update) = read(&message, encoding).unwrap() else { panic!() };
            found.extend(update.withdrawn);
        }
        prop_assert_eq!(&found, &nlri);
    }

    /// Whatever comes, no panic; and what is refused is refused with a NOTIFICATION that can be sent.
    #[test]
    fn any_bytes_are_survived(body in prop::collection::vec(any::<u8>(), 0..300), kind in 1_u8..6, bits in any::<u8>()) {
        let mut message = header::begin(kind);
        message.extend(body);
        let message = header::end(message);
        let encoding = Encoding {
            internal: bits & 1 != 0,
            four_octet_as: bits & 2 != 0,
            add_path_receive: if bits & 4 != 0 { Family::ALL.into_iter().collect() } else { FamilySet::EMPTY },
            ipv4_over_ipv6: bits & 8 != 0,
            ..encoding()
        };
        let result = frame(&message, false).and_then(|found| Message::read(&found.unwrap(), encoding));
        if let Err(notification) = result {
            prop_assert!(notification.to_bytes().len() <= MAX_LENGTH);
        }
    }

    /// A sound UPDATE with a few octets altered is the more dangerous case.
    #[test]
    fn altered_updates_are_survived(
        attributes in any_attributes(),
        nlri in any_nlri(Family::Ipv6, false),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let encoded = EncodedAttributes::new(&attributes, encoding());
        let next_hop = NextHop::from(IpAddr::from([1, 2, 3, 4]));
        let mut message = announce(&encoded, next_hop, &nlri, encoding()).unwrap().remove(0);
        for (index, value) in changes {
            let at = 19 + index.index(message.len() - 19);
            message[at] = value;
        }
        let _ = read(&message, encoding());
    }

    #[test]
    fn prepending_keeps_order(path in any_path(), numbers in prop::collection::vec(1_u32.., 1..300)) {
        let mut longer = path.clone();
        longer.prepend(&numbers);
        prop_assert_eq!(longer.length(), path.length() + numbers.len());
        let expected: Vec<u32> = numbers.iter().copied().chain(path.numbers()).collect();
        prop_assert_eq!(longer.numbers().collect::<Vec<_>>(), expected);
        prop_assert!(longer.segments().iter().all(|segment| segment.numbers.len() <= 255));
    }
}

#[test]
fn families_that_are_not_ours_are_named() {
    let vpn = FamilyCode { afi: 1, safi: 128 };
    assert_eq!(vpn.to_string(), "AFI 1 SAFI 128");
    assert_eq!(Family::Ipv6.code().to_string(), "IPv6 unicast");
}
