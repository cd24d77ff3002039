// SPDX-License-Identifier: Apache-2.0
//! Whether traffic to a container on another host is encapsulated. One rule for everything (`docs/architecture.md`):
//!
//! 1. The node that the prefix belongs to, by the store, is known: its address counts.
//! 2. Else the next hop that BGP gave is a node: that node's address counts.
//! 3. Else the next hop is a router's: direct, whatever the pool says; there is nobody who could decapsulate.
//!
//! `Always` tunnels to every other node. `CrossSubnet` asks whether the local node's address *with its mask* contains
//! the other's: Calico's rule, so that both ends agree where their masks do. VXLAN goes before IPIP where a pool had
//! both, which validation refuses.

use std::fmt;

use ipnet::IpNet;
use model::ip_pool::{EncapsulationMode, IpPoolSpec};

/// How packets to another host travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encapsulation {
    /// As they are.
    Direct,
    /// IP in IP (RFC 2003).
    Ipip,
    /// VXLAN (RFC 7348).
    Vxlan,
}

impl fmt::Display for Encapsulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Ipip => "IPIP",
            Self::Vxlan => "VXLAN",
        })
    }
}

/// What a pool asks for.
pub fn of_pool(pool: &IpPoolSpec) -> (Encapsulation, EncapsulationMode) {
    if pool.vxlan_mode != EncapsulationMode::Never {
        (Encapsulation::Vxlan, pool.vxlan_mode)
    } else if pool.ipip_mode != EncapsulationMode::Never && pool.cidr.addr().is_ipv4() {
        (Encapsulation::Ipip, pool.ipip_mode)
    } else {
        (Encapsulation::Direct, EncapsulationMode::Never)
    }
}

/// The other end of a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote<'a> {
    /// A node and its address.
    Node {
        /// Its name.
        name: &'a str,
        /// Its address; `None` if it has none of the family.
        address: Option<IpNet>,
    },
    /// No node.
    Router,
}

/// A decision and the test that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What is done.
    pub encapsulation: Encapsulation,
    /// Why, with the numbers.
    pub reason: String,
}

/// Decides for one prefix. `local` is this node's address with its mask, and whatever other prefixes count as near.
pub fn decide(pool: Option<(&str, &IpPoolSpec)>, local: &[IpNet], remote: Remote<'_>) -> Decision {
    let direct = |reason: String| Decision {
        encapsulation: Encapsulation::Direct,
        reason,
    };
    let Some((pool_name, pool)) = pool else {
        return direct("the prefix is in no pool".into());
    };
    let (encapsulation, mode) = of_pool(pool);
    let field = match encapsulation {
        Encapsulation::Direct => return direct(format!("pool {pool_name} has ipipMode and vxlanMode Never")),
        Encapsulation::Ipip => format!("pool {pool_name} has ipipMode {mode:?}"),
        Encapsulation::Vxlan => format!("pool {pool_name} has vxlanMode {mode:?}"),
    };
    let Remote::Node { name, address } = remote else {
        return direct(format!(
            "{field}, but the next hop is no node: nobody there would decapsulate"
        ));
    };
    let Some(address) = address else {
        return direct(format!("{field}, but node {name} has no address of this family"));
    };
    if mode == EncapsulationMode::Always {
        return Decision {
            encapsulation,
            reason: field,
        };
    }
    let Some(own) = local.first() else {
        return direct(format!("{field}, but this node has no address of this family"));
    };
    let address = address.addr();
    if let Some(near) = local.iter().find(|near| near.contains(&address)) {
        let inside = format!("{address} of node {name} is inside {} of {near}", near.trunc());
        return direct(format!("{field}, and {inside}"));
    }
    Decision {
        encapsulation,
        reason: format!(
            "{field}, and {address} of node {name} is outside {} of {own}",
            own.trunc()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn pool(ipip: EncapsulationMode, vxlan: EncapsulationMode) -> IpPoolSpec {
        let mut pool = IpPoolSpec::new(net("192.168.0.0/16"));
        pool.ipip_mode = ipip;
        pool.vxlan_mode = vxlan;
        pool
    }

    #[test]
    fn the_one_rule_for_every_kind_of_neighbour() {
        use Encapsulation::{Direct, Ipip, Vxlan};
        use EncapsulationMode::{Always, CrossSubnet, Never};
        let near = Remote::Node {
            name: "near",
            address: Some(net("10.0.0.9/24")),
        };
        let far = Remote::Node {
            name: "far",
            address: Some(net("10.0.1.9/24")),
        };
        // A mask that differs: only the local one counts.
        let wide = Remote::Node {
            name: "wide",
            address: Some(net("10.0.1.9/16")),
        };
        let single = Remote::Node {
            name: "single",
            address: Some(net("10.0.0.7/32")),
        };
        let none = Remote::Node {
            name: "none",
            address: None,
        };
        let (v24, v16, v32) = (net("10.0.0.5/24"), net("10.0.0.5/16"), net("10.0.0.5/32"));
        for (ipip, vxlan, local, remote, expected) in [
            (Never, Never, v24, near, Direct),
            (Never, Never, v24, far, Direct),
            (Always, Never, v24, near, Ipip),
            (Always, Never, v24, far, Ipip),
            (CrossSubnet, Never, v24, near, Direct),
            (CrossSubnet, Never, v24, far, Ipip),
            (CrossSubnet, Never, v16, far, Direct),
            (CrossSubnet, Never, v24, wide, Ipip),
            (CrossSubnet, Never, v24, single, Direct),
            // A node that is alone in its subnet tunnels to everybody.
            (CrossSubnet, Never, v32, near, Ipip),
            (Never, Always, v24, near, Vxlan),
            (Never, CrossSubnet, v24, near, Direct),
            (Never, CrossSubnet, v24, far, Vxlan),
            (CrossSubnet, Never, v24, Remote::Router, Direct),
            (Always, Never, v24, Remote::Router, Direct),
            (Always, Never, v24, none, Direct),
        ] {
            let pool = pool(ipip, vxlan);
            let decision = decide(Some(("p", &pool)), &[local], remote);
            assert_eq!(
                decision.encapsulation, expected,
                "{ipip:?} {vxlan:?} {local} {remote:?}: {}",
                decision.reason
            );
        }
        let all = pool(Always, Never);
        assert_eq!(decide(None, &[v24], far).encapsulation, Direct);
        assert_eq!(
            decide(Some(("p", &pool(CrossSubnet, Never))), &[], far).encapsulation,
            Direct
        );
        assert_eq!(decide(Some(("p", &all)), &[], far).encapsulation, Ipip);
    }

    #[test]
    fn reasons_show_the_numbers() {
        let pool = pool(EncapsulationMode::CrossSubnet, EncapsulationMode::Never);
        let far = Remote::Node {
            name: "b",
            address: Some(net("10.0.1.9/24")),
        };
        assert_eq!(
            decide(Some(("default", &pool)), &[net("10.0.0.5/24")], far).reason,
            "pool default has ipipMode CrossSubnet, and 10.0.1.9 of node b is outside 10.0.0.0/24 of 10.0.0.5/24"
        );
    }

    #[test]
    fn ipip_is_for_ipv4() {
        let mut pool = IpPoolSpec::new(net("fd00::/48"));
        pool.ipip_mode = EncapsulationMode::Always;
        assert_eq!(of_pool(&pool).0, Encapsulation::Direct);
    }
}
