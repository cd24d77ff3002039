// SPDX-License-Identifier: Apache-2.0
//! What is offered in the own OPEN, and what follows from the peer's (RFC 4271 6.2, RFC 5492).

use std::{net::Ipv4Addr, time::Duration};

use super::config::SessionConfig;
use crate::{
    family::{AFI_IPV6, Family, FamilySet},
    message::{
        AS_TRANS, AddPath, Capability, Encoding, GracefulFamily, GracefulRestart, Notification, Open,
        notification::{code, open as error},
    },
};

/// What both sides have agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The peer's BGP identifier.
    pub identifier: Ipv4Addr,
    /// The peer's AS number.
    pub peer_as: u32,
    /// Zero: neither side has to be heard.
    pub hold_time: Duration,
    /// Time between own KEEPALIVEs; zero for none.
    pub keepalive_time: Duration,
    /// The form of messages.
    pub encoding: Encoding,
    /// The peer understands ROUTE-REFRESH.
    pub route_refresh: bool,
    /// Repetitions are marked (RFC 7313).
    pub enhanced_route_refresh: bool,
    /// The peer's graceful restart, if both sides know it.
    pub peer_restart: Option<GracefulRestart>,
}

impl Default for Negotiated {
    fn default() -> Self {
        Self {
            identifier: Ipv4Addr::UNSPECIFIED,
            peer_as: 0,
            hold_time: Duration::ZERO,
            keepalive_time: Duration::ZERO,
            encoding: Encoding::default(),
            route_refresh: false,
            enhanced_route_refresh: false,
            peer_restart: None,
        }
    }
}

/// The own OPEN.
pub(super) fn offer(config: &SessionConfig) -> Open {
    let mut capabilities: Vec<Capability> = (config.families.iter())
        .map(|family| Capability::Multiprotocol(family.code()))
        .collect();
    capabilities.push(Capability::RouteRefresh);
    if config.ipv4_over_ipv6 {
        capabilities.push(Capability::ExtendedNextHop(vec![(Family::Ipv4.code(), AFI_IPV6)]));
    }
    if config.extended_message {
        capabilities.push(Capability::ExtendedMessage);
    }
    if let Some(restart) = &config.graceful_restart {
        let family = |family: Family| GracefulFamily {
            family: family.code(),
            forwarding: restart.forwarding.contains(family),
        };
        capabilities.push(Capability::GracefulRestart(GracefulRestart {
            restarted: restart.restarted,
            notification: restart.notification,
            time: restart.time,
            families: config.families.iter().map(family).collect(),
        }));
    }
    capabilities.push(Capability::FourOctetAs(config.local_as));
    let add_path: Vec<_> = Family::ALL
        .into_iter()
        .filter_map(|family| {
            let directions = match (
                config.add_path_receive.contains(family),
                config.add_path_send.contains(family),
            ) {
                (true, true) => AddPath::Both,
                (true, false) => AddPath::Receive,
                (false, true) => AddPath::Send,
                (false, false) => return None,
            };
            Some((family.code(), directions))
        })
        .collect();
    if !add_path.is_empty() {
        capabilities.push(Capability::AddPath(add_path));
    }
    capabilities.push(Capability::EnhancedRouteRefresh);
    Open {
        as_number: u16::try_from(config.local_as).unwrap_or(AS_TRANS),
        hold_time: config.hold_time,
        identifier: config.identifier,
        capabilities,
    }
}

/// What the peer's OPEN makes of the session, or why there is none.
pub(super) fn agree(config: &SessionConfig, open: &Open) -> Result<Negotiated, Notification> {
    let peer_as = open.true_as_number();
    if peer_as != config.peer_as {
        return Err(Notification::new(code::OPEN, error::PEER_AS));
    }
    let internal = peer_as == config.local_as;
    // Within an AS identifiers are unique (RFC 6286 2.2).
    if internal && open.identifier == config.identifier {
        return Err(Notification::new(code::OPEN, error::IDENTIFIER));
    }
    let offered = Offered::of(open);
    let families = offered.families.intersection(config.families);
    if families.is_empty() {
        let wanted = config.families.iter().flat_map(|family| {
            let code = family.code();
            let [high, low] = code.afi.to_be_bytes();
            [1, 4, high, low, 0, code.safi]
        });
        let notification = Notification::new(code::OPEN, error::CAPABILITY);
        return Err(notification.with(wanted.collect::<Vec<u8>>()));
    }
    let hold_time = open.hold_time.min(config.hold_time);
    let third = hold_time / 3;
    let keepalive_time = config.keepalive_time.map_or(third, |time| time.min(third));
    Ok(Negotiated {
        identifier: open.identifier,
        peer_as,
        hold_time,
        keepalive_time,
        encoding: Encoding {
            families,
            internal,
            four_octet_as: offered.four_octet_as,
            extended_message: offered.extended_message && config.extended_message,
            add_path_receive: offered.sends_paths.intersection(config.add_path_receive),
            add_path_send: offered.receives_paths.intersection(config.add_path_send),
            ipv4_over_ipv6: offered.ipv4_over_ipv6 && config.ipv4_over_ipv6,
        },
        route_refresh: offered.route_refresh,
        enhanced_route_refresh: offered.enhanced_route_refresh,
        peer_restart: offered.restart.filter(|_| config.graceful_restart.is_some()),
    })
}

/// The peer's capabilities, each once.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is offered by itself")]
struct Offered {
    families: FamilySet,
    four_octet_as: bool,
    extended_message: bool,
    ipv4_over_ipv6: bool,
    route_refresh: bool,
    enhanced_route_refresh: bool,
    sends_paths: FamilySet,
    receives_paths: FamilySet,
    restart: Option<GracefulRestart>,
}

impl Offered {
    fn of(open: &Open) -> Self {
        let mut offered = Self::default();
        let mut named_a_family = false;
        for capability in &open.capabilities {
            match capability {
                Capability::Multiprotocol(code) => {
                    named_a_family = true;
                    if let Some(family) = Family::from_code(*code) {
                        offered.families.insert(family);
                    }
                }
                Capability::RouteRefresh => offered.route_refresh = true,
                Capability::ExtendedNextHop(families) => {
                    offered.ipv4_over_ipv6 = families.contains(&(Family::Ipv4.code(), AFI_IPV6));
                }
                Capability::ExtendedMessage => offered.extended_message = true,
                Capability::GracefulRestart(restart) => offered.restart = Some(restart.clone()),
                Capability::FourOctetAs(_) => offered.four_octet_as = true,
                Capability::AddPath(families) => {
                    for (code, directions) in families {
                        let Some(family) = Family::from_code(*code) else {
                            continue;
                        };
                        if directions.sends() {
                            offered.sends_paths.insert(family);
                        }
                        if directions.receives() {
                            offered.receives_paths.insert(family);
                        }
                    }
                }
                Capability::EnhancedRouteRefresh => offered.enhanced_route_refresh = true,
                Capability::Other { .. } => {}
            }
        }
        // Who knows no multiprotocol extensions speaks IPv4 unicast (RFC 4760 8).
        if !named_a_family {
            offered.families.insert(Family::Ipv4);
        }
        offered
    }
}
