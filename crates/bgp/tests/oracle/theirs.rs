// SPDX-License-Identifier: Apache-2.0
//! Messages in the other codec's terms.

use std::{collections::HashMap, net::IpAddr};

use bgp::{
    Attributes, Family, Nlri, Origin,
    attributes::SegmentKind,
    message::{AddPath, Capability, NextHop, Open, RefreshSubtype},
};
use ipnet::IpNet;
use netgauze_bgp_pkt::{
    BgpMessage,
    capabilities::{
        AddPathAddressFamily, AddPathCapability, BgpCapability, ExtendedNextHopEncoding,
        ExtendedNextHopEncodingCapability, FourOctetAsCapability, GracefulRestartAddressFamily,
        GracefulRestartCapability, MultiProtocolExtensionsCapability, UnrecognizedCapability,
    },
    community::{Community, ExtendedCommunity, LargeCommunity, TransitiveTwoOctetExtendedCommunity},
    iana::RouteRefreshSubcode,
    nlri::{Ipv4Unicast, Ipv4UnicastAddress, Ipv6Unicast, Ipv6UnicastAddress},
    notification::{BgpNotificationMessage, CeaseError},
    open::{BgpOpenMessage, BgpOpenMessageParameter},
    path_attribute::{
        Aggregator, As4Aggregator, As4PathSegment, AsPath, AsPathSegmentType, AtomicAggregate, ClusterId,
        ClusterList, Communities, ExtendedCommunities, LargeCommunities, LocalPreference, MpReach, MpUnreach,
        MultiExitDiscriminator, NextHop as TheirNextHop, Origin as TheirOrigin, Originator, PathAttribute,
        PathAttributeValue, UnknownAttribute,
    },
    route_refresh::BgpRouteRefreshMessage,
    update::BgpUpdateMessage,
    wire::deserializer::BgpParsingContext,
};
use netgauze_iana::address_family::{AddressFamily, AddressType};
use netgauze_parse_utils::{WritablePdu as _, reader::SliceReader, traits::ParseFromWithOneInput as _};

/// What it reads of a whole message; whether prefixes have path identifiers was agreed before.
pub(crate) fn read(bytes: &[u8], paths: bool) -> BgpMessage {
    let both = [AddressType::Ipv4Unicast, AddressType::Ipv6Unicast];
    let paths: HashMap<_, _> = both.into_iter().map(|family| (family, paths)).collect();
    let mut context = BgpParsingContext::new(true, HashMap::new(), paths, true, true, true, true);
    let mut reader = SliceReader::new(bytes);
    BgpMessage::parse(&mut reader, &mut context).expect("the other codec reads it")
}

/// What it writes.
pub(crate) fn write(message: &BgpMessage) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.write(&mut bytes).expect("the other codec writes it");
    bytes
}

/// The order of attributes, and how their lengths are written, mean nothing.
pub(crate) fn sorted(message: BgpMessage) -> BgpMessage {
    let BgpMessage::Update(update) = message else {
        return message;
    };
    let attributes = update.path_attributes().iter().map(|attribute| {
        let (optional, transitive) = (attribute.optional(), attribute.transitive());
        let value = attribute.value().clone();
        PathAttribute::from(optional, transitive, attribute.partial(), true, value).expect("the flags it had")
    });
    let mut attributes: Vec<PathAttribute> = attributes.collect();
    attributes.sort_by_key(|attribute| format!("{:?}", attribute.value()));
    BgpMessage::Update(BgpUpdateMessage::new(
        update.withdraw_routes().to_vec(),
        attributes,
        update.nlri().to_vec(),
    ))
}

/// Well-known, optional and ending here, or optional and passed on.
#[derive(Clone, Copy)]
enum Flags {
    WellKnown,
    Optional,
    Transitive,
}

fn attribute(flags: Flags, value: PathAttributeValue) -> PathAttribute {
    let (optional, transitive) = match flags {
        Flags::WellKnown => (false, true),
        Flags::Optional => (true, false),
        Flags::Transitive => (true, true),
    };
    // Long lengths throughout, unlike ours.
    PathAttribute::from(optional, transitive, false, true, value).expect("flags that fit")
}

fn v4(nlri: &[Nlri]) -> Box<[Ipv4UnicastAddress]> {
    let each = nlri.iter().map(|nlri| match nlri.prefix {
        IpNet::V4(prefix) => {
            let network = Ipv4Unicast::from_net(prefix).expect("a unicast prefix");
            Ipv4UnicastAddress::new(nlri.path_id, network)
        }
        IpNet::V6(prefix) => panic!("{prefix} is not IPv4"),
    });
    each.collect()
}

fn v6(nlri: &[Nlri]) -> Box<[Ipv6UnicastAddress]> {
    let each = nlri.iter().map(|nlri| match nlri.prefix {
        IpNet::V6(prefix) => {
            let network = Ipv6Unicast::from_net(prefix).expect("a unicast prefix");
            Ipv6UnicastAddress::new(nlri.path_id, network)
        }
        IpNet::V4(prefix) => panic!("{prefix} is not IPv6"),
    });
    each.collect()
}

/// The attributes of a route.
fn attributes(from: &Attributes) -> Vec<PathAttribute> {
    use Flags::{Optional, Transitive, WellKnown};
    let origin = match from.origin {
        Origin::Igp => TheirOrigin::IGP,
        Origin::Egp => TheirOrigin::EGP,
        Origin::Incomplete => TheirOrigin::Incomplete,
    };
    let segments = from.as_path.segments().iter().map(|segment| {
        let kind = match segment.kind {
            SegmentKind::Sequence => AsPathSegmentType::AsSequence,
            SegmentKind::Set => AsPathSegmentType::AsSet,
        };
        As4PathSegment::new(kind, segment.numbers.clone())
    });
    let path = AsPath::As4PathSegments(segments.collect());
    let mut all = vec![
        attribute(WellKnown, PathAttributeValue::Origin(origin)),
        attribute(WellKnown, PathAttributeValue::AsPath(path)),
    ];
    let mut add = |flags, value| all.push(attribute(flags, value));
    if let Some(med) = from.med {
        let value = MultiExitDiscriminator::new(med);
        add(Optional, PathAttributeValue::MultiExitDiscriminator(value));
    }
    if let Some(preference) = from.local_pref {
        let value = LocalPreference::new(preference);
        add(WellKnown, PathAttributeValue::LocalPreference(value));
    }
    if from.atomic_aggregate {
        add(WellKnown, PathAttributeValue::AtomicAggregate(AtomicAggregate));
    }
    if let Some((number, address)) = from.aggregator {
        let value = Aggregator::As4Aggregator(As4Aggregator::new(number, address));
        add(Transitive, PathAttributeValue::Aggregator(value));
    }
    if !from.communities.is_empty() {
        let list: Vec<_> = from
            .communities
            .iter()
            .map(|found| Community::new(found.0))
            .collect();
        add(
            Transitive,
            PathAttributeValue::Communities(Communities::new(list)),
        );
    }
    if !from.large_communities.is_empty() {
        let list = from.large_communities.iter();
        let list: Vec<_> = list
            .map(|found| LargeCommunity::new(found.0[0], found.0[1], found.0[2]))
            .collect();
        add(
            Transitive,
            PathAttributeValue::LargeCommunities(LargeCommunities::new(list)),
        );
    }
    if !from.extended_communities.is_empty() {
        let target = |octets: &[u8; 8]| {
            ExtendedCommunity::TransitiveTwoOctet(TransitiveTwoOctetExtendedCommunity::RouteTarget {
                global_admin: u16::from_be_bytes([octets[2], octets[3]]),
                local_admin: u32::from_be_bytes([octets[4], octets[5], octets[6], octets[7]]),
            })
        };
        let list: Vec<_> = from.extended_communities.iter().map(target).collect();
        add(
            Transitive,
            PathAttributeValue::ExtendedCommunities(ExtendedCommunities::new(list)),
        );
    }
    if let Some(address) = from.originator_id {
        add(Optional, PathAttributeValue::Originator(Originator::new(address)));
    }
    if !from.cluster_list.is_empty() {
        let list: Vec<_> = from.cluster_list.iter().map(|id| ClusterId::new(*id)).collect();
        add(Optional, PathAttributeValue::ClusterList(ClusterList::new(list)));
    }
    for unknown in &from.unknown {
        // What was passed on without being understood is marked (RFC 4271 5).
        let value = UnknownAttribute::new(unknown.kind, unknown.value.clone());
        let value = PathAttributeValue::UnknownAttribute(value);
        all.push(PathAttribute::from(true, true, true, true, value).expect("flags that fit"));
    }
    all
}

/// Routes with attributes and a next hop.
pub(crate) fn announcement(from: &Attributes, next_hop: NextHop, nlri: &[Nlri]) -> BgpMessage {
    let mut all = attributes(from);
    let own_field = match (nlri[0].prefix, next_hop.address) {
        (IpNet::V4(_), IpAddr::V4(address)) => {
            let value = PathAttributeValue::NextHop(TheirNextHop::new(address));
            all.push(attribute(Flags::WellKnown, value));
            v4(nlri)
        }
        (IpNet::V4(_), address @ IpAddr::V6(_)) => {
            let value = MpReach::Ipv4Unicast {
                next_hop: address,
                next_hop_local: next_hop.link_local,
                nlri: v4(nlri),
            };
            all.push(attribute(Flags::Optional, PathAttributeValue::MpReach(value)));
            Box::default()
        }
        (IpNet::V6(_), IpAddr::V6(address)) => {
            let value = MpReach::Ipv6Unicast {
                next_hop_global: address,
                next_hop_local: next_hop.link_local,
                nlri: v6(nlri),
            };
            all.push(attribute(Flags::Optional, PathAttributeValue::MpReach(value)));
            Box::default()
        }
        (IpNet::V6(_), IpAddr::V4(address)) => panic!("{address} is no next hop for IPv6"),
    };
    BgpMessage::Update(BgpUpdateMessage::new(Vec::new(), all, own_field))
}

/// Routes that are gone; none of them is the End-of-RIB.
pub(crate) fn withdrawal(family: Family, nlri: &[Nlri]) -> BgpMessage {
    let update = match family {
        Family::Ipv4 => BgpUpdateMessage::new(v4(nlri), Vec::new(), Vec::new()),
        Family::Ipv6 => {
            let value = MpUnreach::Ipv6Unicast { nlri: v6(nlri) };
            let value = PathAttributeValue::MpUnreach(value);
            let attribute = PathAttribute::from(true, false, false, !nlri.is_empty(), value);
            BgpUpdateMessage::new(Vec::new(), vec![attribute.expect("flags that fit")], Vec::new())
        }
    };
    BgpMessage::Update(update)
}

fn address_type(code: bgp::FamilyCode) -> AddressType {
    match Family::from_code(code) {
        Some(Family::Ipv4) => AddressType::Ipv4Unicast,
        Some(Family::Ipv6) => AddressType::Ipv6Unicast,
        None => panic!("{code} is not ours"),
    }
}

fn capability(from: &Capability) -> BgpCapability {
    match from {
        Capability::Multiprotocol(code) => BgpCapability::MultiProtocolExtensions(
            MultiProtocolExtensionsCapability::new(address_type(*code)),
        ),
        Capability::RouteRefresh => BgpCapability::RouteRefresh,
        Capability::EnhancedRouteRefresh => BgpCapability::EnhancedRouteRefresh,
        Capability::ExtendedMessage => BgpCapability::ExtendedMessage,
        Capability::ExtendedNextHop(list) => {
            let each = list
                .iter()
                .map(|(code, _)| ExtendedNextHopEncoding::new(address_type(*code), AddressFamily::IPv6));
            let each: Vec<_> = each.collect();
            BgpCapability::ExtendedNextHopEncoding(ExtendedNextHopEncodingCapability::new(each))
        }
        Capability::FourOctetAs(number) => BgpCapability::FourOctetAs(FourOctetAsCapability::new(*number)),
        Capability::GracefulRestart(restart) => {
            let families = restart
                .families
                .iter()
                .map(|found| GracefulRestartAddressFamily::new(found.forwarding, address_type(found.family)));
            let families: Vec<_> = families.collect();
            let seconds = u16::try_from(restart.time.as_secs()).expect("at most 4095");
            BgpCapability::GracefulRestartCapability(GracefulRestartCapability::new(
                restart.restarted,
                restart.notification,
                seconds,
                families,
            ))
        }
        Capability::AddPath(list) => {
            let families = list.iter().map(|(code, directions)| {
                let (sends, receives) = match directions {
                    AddPath::Receive => (false, true),
                    AddPath::Send => (true, false),
                    AddPath::Both => (true, true),
                };
                AddPathAddressFamily::new(address_type(*code), sends, receives)
            });
            let families: Vec<_> = families.collect();
            BgpCapability::AddPath(AddPathCapability::new(families))
        }
        Capability::Other { code, value } => {
            BgpCapability::Unrecognized(UnrecognizedCapability::new(*code, value.clone()))
        }
    }
}

/// An OPEN, with all capabilities in one parameter as ours are.
pub(crate) fn open(from: &Open) -> BgpMessage {
    let hold = u16::try_from(from.hold_time.as_secs()).expect("at most 65535");
    let capabilities: Vec<_> = from.capabilities.iter().map(capability).collect();
    let parameters = if capabilities.is_empty() {
        Vec::new()
    } else {
        vec![BgpOpenMessageParameter::new_capabilities(capabilities)]
    };
    BgpMessage::Open(BgpOpenMessage::new(
        from.as_number,
        hold,
        from.identifier,
        parameters,
    ))
}

/// A Cease.
pub(crate) fn cease(subcode: u8, data: &[u8]) -> BgpMessage {
    let value = data.to_vec().into_boxed_slice();
    let error = match subcode {
        1 => CeaseError::MaximumNumberOfPrefixesReached { value },
        2 => CeaseError::AdministrativeShutdown { value },
        3 => CeaseError::PeerDeConfigured { value },
        4 => CeaseError::AdministrativeReset { value },
        5 => CeaseError::ConnectionRejected { value },
        6 => CeaseError::OtherConfigurationChange { value },
        7 => CeaseError::ConnectionCollisionResolution { value },
        8 => CeaseError::OutOfResources { value },
        other => panic!("Cease {other}"),
    };
    BgpMessage::Notification(BgpNotificationMessage::CeaseError(error))
}

/// A KEEPALIVE.
pub(crate) const fn keepalive() -> BgpMessage {
    BgpMessage::KeepAlive
}

/// A ROUTE-REFRESH.
pub(crate) fn refresh(family: Family, subtype: RefreshSubtype) -> BgpMessage {
    let subcode = match subtype {
        RefreshSubtype::Request => RouteRefreshSubcode::NormalRequest,
        RefreshSubtype::Begin => RouteRefreshSubcode::BeginningOfRouteRefresh,
        RefreshSubtype::End => RouteRefreshSubcode::EndOfRouteRefresh,
        RefreshSubtype::Unknown(other) => panic!("subtype {other}"),
    };
    BgpMessage::RouteRefresh(BgpRouteRefreshMessage::new(address_type(family.code()), subcode))
}
