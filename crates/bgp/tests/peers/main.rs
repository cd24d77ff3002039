// SPDX-License-Identifier: Apache-2.0
//! Messages and sessions against the speakers that are out there, on loopback: BIRD, FRR and GoBGP dial nobody here, we
//! dial them. What each has learned is asked of its own command line.

mod driver;
mod speaker;

use std::{net::Ipv4Addr, time::Duration};

use bgp::{
    Attributes, Community, Family, LargeCommunity, Nlri,
    attributes::{AsPath, Origin},
    message::{NextHop, Notification, notification::cease},
    session::{RestartOffer, SessionConfig, Waits},
};
use driver::Driver;
use speaker::{Kind, Speaker};

const LIMIT: Duration = Duration::from_secs(20);
const OUR_AS: u32 = 4_200_000_001;

fn config(peer_as: u32, local_as: u32) -> SessionConfig {
    SessionConfig {
        local_as,
        peer_as,
        identifier: Ipv4Addr::new(10, 0, 0, 9),
        hold_time: Duration::from_secs(90),
        keepalive_time: None,
        families: Family::ALL.into_iter().collect(),
        passive: false,
        graceful_restart: Some(RestartOffer {
            time: Duration::from_secs(120),
            forwarding: Family::ALL.into_iter().collect(),
            restarted: false,
            notification: false,
        }),
        add_path_receive: Family::ALL.into_iter().collect(),
        add_path_send: bgp::FamilySet::EMPTY,
        extended_message: true,
        ipv4_over_ipv6: false,
        waits: Waits::default(),
    }
}

fn nlri(prefix: &str) -> Nlri {
    Nlri::from(prefix.parse::<ipnet::IpNet>().expect("a prefix"))
}

fn attributes(local_as: u32, peer_as: u32) -> Attributes {
    Attributes {
        origin: Origin::Igp,
        as_path: if local_as == peer_as {
            AsPath::default()
        } else {
            AsPath::sequence([local_as])
        },
        local_pref: Some(2_147_482_623),
        communities: vec![Community::new(64_512, 77)],
        large_communities: vec![LargeCommunity([64_512, 1, 2])],
        ..Attributes::default()
    }
}

/// Both directions, both families, withdrawal, and an end that the peer understands.
fn exchange(kind: Kind, local_as: u32) {
    let Some(speaker) = Speaker::start(kind, local_as) else {
        return;
    };
    let mut driver = Driver::dial(config(speaker::AS, local_as), speaker.port);
    let agreed = driver.until_up(LIMIT);
    assert_eq!(agreed.peer_as, speaker::AS);
    assert!(
        agreed.encoding.four_octet_as && agreed.route_refresh,
        "{agreed:?}"
    );
    assert_eq!(agreed.encoding.internal, local_as == speaker::AS);
    assert!(
        agreed.encoding.families.contains(Family::Ipv4) && agreed.encoding.families.contains(Family::Ipv6)
    );

    // What it has is its two static routes, and then the end of each family.
    let received = driver.until_learned(&["10.50.0.0/24", "fd00:50::/64"], LIMIT);
    for (prefix, attributes) in &received {
        let expected = if local_as == speaker::AS {
            vec![]
        } else {
            vec![speaker::AS]
        };
        assert_eq!(
            attributes.as_path.numbers().collect::<Vec<_>>(),
            expected,
            "{prefix}"
        );
    }
    assert_eq!(driver.defects(), [], "{kind:?} sends nothing malformed");

    // More than one message of them.
    let many: Vec<Nlri> = (0..3000_u32)
        .map(|index| nlri(&format!("10.{}.{}.0/26", 60 + index / 256, index % 256)))
        .collect();
    let ours = attributes(local_as, speaker::AS);
    let v4 = NextHop::from(std::net::IpAddr::from([10, 0, 0, 9]));
    let v6 = NextHop::from("fd00:9::9".parse::<std::net::IpAddr>().unwrap());
    driver.announce(&ours, v4, &many);
    driver.announce(&ours, v6, &[nlri("fd00:60::/64")]);
    driver.end_of_rib();
    let shown = speaker.until_shown("10.60.0.0/26", true, LIMIT);
    assert!(
        shown.contains("64512:77") || shown.contains("(64512,77)"),
        "{shown}"
    );
    assert!(
        shown.contains("64512:1:2") || shown.contains("(64512, 1, 2)"),
        "{shown}"
    );
    speaker.until_shown("10.71.183.0/26", true, LIMIT);
    speaker.until_shown("fd00:60::/64", true, LIMIT);
    driver.withdraw(&many);
    driver.withdraw(&[nlri("fd00:60::/64")]);
    speaker.until_shown("10.71.183.0/26", false, LIMIT);
    speaker.until_shown("fd00:60::/64", false, LIMIT);

    // It answers a refresh with all of its routes again.
    driver.forget();
    driver.refresh();
    driver.until_learned(&["10.50.0.0/24", "fd00:50::/64"], LIMIT);
    driver.stop(Notification::shutdown(cease::SHUTDOWN, "thank you"));
}

#[test]
fn bird_within_an_as() {
    exchange(Kind::Bird, speaker::AS);
}

#[test]
fn bird_across() {
    exchange(Kind::Bird, OUR_AS);
}

#[test]
fn frr_within_an_as() {
    exchange(Kind::Frr, speaker::AS);
}

#[test]
fn frr_across() {
    exchange(Kind::Frr, OUR_AS);
}

#[test]
fn gobgp_within_an_as() {
    exchange(Kind::Gobgp, speaker::AS);
}

#[test]
fn gobgp_across() {
    exchange(Kind::Gobgp, OUR_AS);
}
