// SPDX-License-Identifier: Apache-2.0
//! What a speaker and its peers are to be, and what it is told of the world around it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use crate::{attributes::Attributes, family::Family, policy::Policy, session::SessionConfig};

/// What a speaker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpeakerConfig {
    /// Its BGP identifier.
    pub identifier: Ipv4Addr,
    /// It reflects routes, as a member of this cluster (RFC 4456).
    pub cluster_id: Option<Ipv4Addr>,
    /// How many equally good paths share the traffic.
    pub multipath: usize,
    /// Nothing passes between it and external peers for which there is no policy (RFC 8212).
    pub policy_required: bool,
    /// It has restarted while others kept its routes: how long it waits for the peers' routes before it takes what it
    /// has for all there is (RFC 4724 4.1). `None`: it is the first start.
    pub deferral: Option<Duration>,
}

/// What a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Its session.
    pub session: SessionConfig,
    /// Its address.
    pub address: IpAddr,
    /// What is accepted from it.
    pub import: Policies,
    /// What is announced to it.
    pub export: Policies,
    /// It is a client of this reflector.
    pub client: bool,
    /// What becomes of next hops.
    pub next_hop: NextHopMode,
    /// Own address for routes of a family that is not the session's own, or where the session's is not known.
    pub own_addresses: OwnAddresses,
    /// How often the own AS may be in a received AS_PATH.
    pub own_as_allowed: usize,
    /// Most prefixes accepted of each family; the session ends beyond.
    pub prefix_limit: Option<u32>,
    /// After which time a session that ended so is begun again.
    pub limit_pause: Duration,
    /// How long after its return a peer may take to say that it has sent all its routes.
    pub stale_limit: Duration,
}

/// Policies by family; `None` for none, which accepts, unless policies are required.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// For IPv4 unicast.
    pub ipv4: Option<Arc<Policy>>,
    /// For IPv6 unicast.
    pub ipv6: Option<Arc<Policy>>,
}

impl Policies {
    pub(super) const fn of(&self, family: Family) -> Option<&Arc<Policy>> {
        match family {
            Family::Ipv4 => self.ipv4.as_ref(),
            Family::Ipv6 => self.ipv6.as_ref(),
        }
    }
}

/// The speaker's own addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct OwnAddresses {
    /// IPv4.
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6.
    pub ipv6: Option<Ipv6Addr>,
}

impl OwnAddresses {
    pub(super) fn of(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::Ipv4 => self.ipv4.map(IpAddr::V4),
            Family::Ipv6 => self.ipv6.map(IpAddr::V6),
        }
    }
}

/// What becomes of the next hop of a learned route when it is announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NextHopMode {
    /// Kept inside the AS, own address outside.
    #[default]
    Auto,
    /// Always the own address.
    Own,
    /// Always kept.
    Keep,
}

/// A route of the speaker's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origination {
    /// Its attributes, LOCAL_PREF included.
    pub attributes: Attributes,
    /// What kind it is, for policies; a number of its maker's choice.
    pub class: u32,
    /// The device that it leads to.
    pub device: Option<Arc<str>>,
}

/// What is known of a next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHopState {
    /// What it costs to get there; `None` if it cannot be reached.
    pub cost: Option<u32>,
    /// By which device.
    pub device: Option<Arc<str>>,
}

impl Default for NextHopState {
    /// Of one that nothing is known of: a multihop session has just brought it.
    fn default() -> Self {
        Self {
            cost: Some(0),
            device: None,
        }
    }
}
