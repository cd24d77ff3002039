// SPDX-License-Identifier: Apache-2.0
//! The pools a new store starts with, as calico/node makes them: names, environment and fallbacks of Calico
//! (`CALICO_IPV4POOL_*`, `CALICO_IPV6POOL_*`, `NO_DEFAULT_POOLS`). Pure: the environment, the host's networks and
//! random bytes are handed in.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use model::{
    IpPool,
    ip_pool::{EncapsulationMode, IpPoolSpec},
    prefix,
    resource::Spec as _,
};

/// An environment variable whose value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {name}: {value:?} {problem}")]
pub struct PoolVariableError {
    name: String,
    value: String,
    problem: String,
}

/// One family's variables and defaults.
struct Family {
    pool_name: &'static str,
    prefix: &'static str,
    nat_outgoing: bool,
    has_ipip: bool,
}

const IPV4: Family = Family {
    pool_name: "default-ipv4-ippool",
    prefix: "CALICO_IPV4POOL_",
    nat_outgoing: true,
    has_ipip: true,
};
const IPV6: Family = Family {
    pool_name: "default-ipv6-ippool",
    prefix: "CALICO_IPV6POOL_",
    nat_outgoing: false,
    has_ipip: false,
};

/// Looks up an environment variable; empty means unset.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Whether default pools are wanted at all.
pub fn wanted(variable: Lookup<'_>) -> bool {
    !variable("NO_DEFAULT_POOLS").is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// The default IPv4 pool, or `None` where `CALICO_IPV4POOL_CIDR` is `none`.
///
/// Without a prefix in the environment it is 192.168.0.0/16, or the first of 172.16.0.0/16 to 172.31.0.0/16 that
/// overlaps none of `host_networks` where the first choice does; where all do, 192.168.0.0/16 after all, since no
/// block that overlaps a network of the host is ever claimed.
pub fn ipv4(variable: Lookup<'_>, host_networks: &[IpNet]) -> Result<Option<IpPool>, PoolVariableError> {
    let default = || {
        let net = |a, b| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), 16));
        let free = |candidate: &IpNet| !host_networks.iter().any(|own| prefix::overlaps(own, candidate));
        let first = net(192, 168);
        std::iter::once(first)
            .chain((16..32).map(|b| net(172, b)))
            .find(free)
            .unwrap_or(first)
    };
    pool(&IPV4, variable, default)
}

/// The default IPv6 pool, or `None` where `CALICO_IPV6POOL_CIDR` is `none`. Without a prefix in the environment it
/// is a random unique local /48 (RFC 4193).
pub fn ipv6(variable: Lookup<'_>, random: [u8; 5]) -> Result<Option<IpPool>, PoolVariableError> {
    let default = || {
        let mut bytes = [0; 16];
        bytes[0] = 0xfd;
        bytes[1..6].copy_from_slice(&random);
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from(bytes), 48))
    };
    pool(&IPV6, variable, default)
}

fn pool(
    family: &Family,
    variable: Lookup<'_>,
    default_prefix: impl FnOnce() -> IpNet,
) -> Result<Option<IpPool>, PoolVariableError> {
    let name = |suffix: &str| format!("{}{suffix}", family.prefix);
    let read = |suffix: &str| variable(&name(suffix)).filter(|value| !value.is_empty());
    let fail = |suffix: &str, value: &str, problem: &str| PoolVariableError {
        name: name(suffix),
        value: value.to_owned(),
        problem: problem.to_owned(),
    };

    let cidr = match read("CIDR") {
        Some(text) if text.eq_ignore_ascii_case("none") => return Ok(None),
        Some(text) => {
            let cidr: IpNet = text.parse().map_err(|_| {
                fail(
                    "CIDR",
                    &text,
                    "is not a prefix; write for example 10.244.0.0/16, or none",
                )
            })?;
            if matches!(cidr, IpNet::V4(_)) != family.has_ipip {
                return Err(fail("CIDR", &text, "is of the other address family"));
            }
            cidr.trunc()
        }
        None => default_prefix(),
    };
    let mut spec = IpPoolSpec::new(cidr);
    if let Some(text) = read("BLOCK_SIZE") {
        let size = text.parse().map_err(|_| {
            fail(
                "BLOCK_SIZE",
                &text,
                "is not a prefix length; write for example 26",
            )
        })?;
        spec.block_size = Some(size);
    }
    for (suffix, mode) in [("IPIP", &mut spec.ipip_mode), ("VXLAN", &mut spec.vxlan_mode)] {
        if suffix == "IPIP" && !family.has_ipip {
            continue;
        }
        if let Some(text) = read(suffix) {
            *mode = encapsulation_mode(&text)
                .ok_or_else(|| fail(suffix, &text, "is not one of Never, Always, CrossSubnet"))?;
        }
    }
    let flag = |suffix: &str, default: bool| match read(suffix) {
        None => Ok(default),
        Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(text) => Err(fail(suffix, &text, "is neither true nor false")),
    };
    spec.nat_outgoing = flag("NAT_OUTGOING", family.nat_outgoing)?;
    spec.disable_bgp_export = flag("DISABLE_BGP_EXPORT", false)?;
    spec.node_selector = read("NODE_SELECTOR").unwrap_or_else(|| "all()".to_owned());
    // Each value may be sound and the whole still not: two encapsulations, a block larger than the pool.
    spec.validate().map_err(|error| {
        fail(
            "CIDR",
            &cidr.to_string(),
            &format!("makes no valid pool: {error}"),
        )
    })?;
    // As `calicoctl` shows a pool: with what is in force, not only with what was said.
    spec.fill_defaults();
    Ok(Some(IpPool::new(family.pool_name, spec)))
}

/// The words that calico/node accepts.
fn encapsulation_mode(text: &str) -> Option<EncapsulationMode> {
    match text.to_ascii_lowercase().as_str() {
        "off" | "never" => Some(EncapsulationMode::Never),
        "always" => Some(EncapsulationMode::Always),
        "crosssubnet" | "cross-subnet" => Some(EncapsulationMode::CrossSubnet),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use model::ip_pool::AllowedUse;

    use super::*;

    fn variables<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        }
    }

    fn v4(pairs: &[(&str, &str)], host: &[&str]) -> Result<Option<IpPool>, PoolVariableError> {
        let host: Vec<IpNet> = host.iter().map(|text| text.parse().unwrap()).collect();
        ipv4(&variables(pairs), &host)
    }

    #[test]
    fn defaults_are_those_of_calico() {
        let pool = v4(&[], &["10.0.2.15/24"]).unwrap().unwrap();
        assert_eq!(pool.metadata.name, "default-ipv4-ippool");
        assert_eq!(pool.spec.cidr.to_string(), "192.168.0.0/16");
        assert_eq!(pool.spec.block_size, Some(26));
        assert_eq!(pool.spec.allowed_uses, [AllowedUse::Workload, AllowedUse::Tunnel]);
        assert!(pool.spec.nat_outgoing);
        let pool = ipv6(&variables(&[]), [1, 2, 3, 4, 5]).unwrap().unwrap();
        assert_eq!(pool.spec.cidr.to_string(), "fd01:203:405::/48");
        assert_eq!(pool.spec.effective_block_size(), 122);
        assert!(!pool.spec.nat_outgoing);
    }

    #[test]
    fn the_first_network_that_does_not_collide_is_taken() {
        let cidr = |host: &[&str]| v4(&[], host).unwrap().unwrap().spec.cidr.to_string();
        assert_eq!(cidr(&["192.168.33.11/24"]), "172.16.0.0/16");
        assert_eq!(
            cidr(&["192.168.33.11/24", "172.16.9.1/20", "172.17.0.1/16"]),
            "172.18.0.0/16"
        );
        assert_eq!(
            cidr(&["192.168.33.11/24", "172.16.0.1/12"]),
            "192.168.0.0/16",
            "nothing is free"
        );
    }

    #[test]
    fn the_environment_is_honoured() {
        let pairs = [
            ("CALICO_IPV4POOL_CIDR", "10.244.3.9/16"),
            ("CALICO_IPV4POOL_BLOCK_SIZE", "28"),
            ("CALICO_IPV4POOL_IPIP", "cross-subnet"),
            ("CALICO_IPV4POOL_VXLAN", ""),
            ("CALICO_IPV4POOL_NAT_OUTGOING", "False"),
            ("CALICO_IPV4POOL_DISABLE_BGP_EXPORT", "true"),
            ("CALICO_IPV4POOL_NODE_SELECTOR", "has(rack)"),
        ];
        let pool = v4(&pairs, &["10.244.0.1/24"]).unwrap().unwrap();
        assert_eq!(
            pool.spec.cidr.to_string(),
            "10.244.0.0/16",
            "an explicit prefix is taken even if it collides"
        );
        assert_eq!(pool.spec.block_size, Some(28));
        assert_eq!(pool.spec.ipip_mode, EncapsulationMode::CrossSubnet);
        assert!(!pool.spec.nat_outgoing && pool.spec.disable_bgp_export);
        assert_eq!(pool.spec.node_selector, "has(rack)");
        assert_eq!(v4(&[("CALICO_IPV4POOL_CIDR", "none")], &[]).unwrap(), None);
        assert!(!wanted(&variables(&[("NO_DEFAULT_POOLS", "TRUE")])));
        assert!(wanted(&variables(&[("NO_DEFAULT_POOLS", "")])));
    }

    #[test]
    fn a_bad_value_is_named_with_its_variable() {
        for (name, value) in [
            ("CALICO_IPV4POOL_CIDR", "10.244.0.0"),
            ("CALICO_IPV4POOL_CIDR", "fd00::/48"),
            ("CALICO_IPV4POOL_BLOCK_SIZE", "small"),
            ("CALICO_IPV4POOL_BLOCK_SIZE", "8"),
            ("CALICO_IPV4POOL_IPIP", "sometimes"),
            ("CALICO_IPV4POOL_NAT_OUTGOING", "perhaps"),
            ("CALICO_IPV4POOL_NODE_SELECTOR", "has(rack"),
        ] {
            let error = v4(&[(name, value)], &[]).unwrap_err().to_string();
            assert!(error.contains("CALICO_IPV4POOL_"), "{name}={value}: {error}");
        }
    }
}
