// SPDX-License-Identifier: Apache-2.0
//! The pod annotations that change what ADD does (`cni.projectcalico.org/...`), as Calico defines them. They come
//! from the runtime (`io.kubernetes.cri.pod-annotations`). A malformed one fails ADD: to ignore it would give a
//! pod an address or a source filter that its owner did not want.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde::de::DeserializeOwned;

/// An annotation that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("annotation {name}: {value:?} {problem}")]
pub struct AnnotationError {
    /// Full name.
    pub name: String,
    /// As found.
    pub value: String,
    /// What is wrong, and what to write.
    pub problem: String,
}

/// What the annotations of a pod ask for. `None` and empty mean: not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// `ipv4pools`: names or prefixes of pools; replaces the configuration's.
    pub ipv4_pools: Option<Vec<String>>,
    /// `ipv6pools`.
    pub ipv6_pools: Option<Vec<String>>,
    /// `ipFamilies`: whether IPv4 and whether IPv6 is wanted.
    pub families: Option<(bool, bool)>,
    /// `ipAddrs`: these addresses, through IPAM; at most one per family.
    pub addresses: Vec<IpAddr>,
    /// `ipAddrsNoIpam`: these addresses, past IPAM; at most one per family.
    pub addresses_without_ipam: Vec<IpAddr>,
    /// `floatingIPs`: outside addresses that are translated to the container's.
    pub floating: Vec<IpAddr>,
    /// `allowedSourcePrefixes`: sources the container may use although they are not its own.
    pub allowed_source_prefixes: Vec<IpNet>,
    /// `hwAddr`: MAC address of the container's interface.
    pub hardware_address: Option<[u8; 6]>,
}

const PREFIX: &str = "cni.projectcalico.org/";

impl Annotations {
    /// Reads the annotations of a pod; names this plugin does not know are ignored.
    pub fn parse(map: &BTreeMap<String, String>) -> Result<Self, AnnotationError> {
        let read = |name: &str| {
            let full = format!("{PREFIX}{name}");
            map.get(&full)
                .filter(|value| !value.trim().is_empty())
                .map(|value| Found { name: full, value })
        };
        let mut parsed = Self::default();
        if let Some(found) = read("ipv4pools") {
            parsed.ipv4_pools =
                Some(found.json("a JSON list of pool names or prefixes: [\"10.0.0.0/24\", \"pool-a\"]")?);
        }
        if let Some(found) = read("ipv6pools") {
            parsed.ipv6_pools =
                Some(found.json("a JSON list of pool names or prefixes: [\"fd00:1::/64\", \"pool-b\"]")?);
        }
        if let Some(found) = read("ipFamilies") {
            parsed.families = Some(families(&found)?);
        }
        if let Some(found) = read("ipAddrs") {
            parsed.addresses = one_per_family(&found)?;
        }
        if let Some(found) = read("ipAddrsNoIpam") {
            parsed.addresses_without_ipam = one_per_family(&found)?;
            if !parsed.addresses.is_empty() {
                return Err(found.error("excludes ipAddrs: keep one of the two"));
            }
        }
        if let Some(found) = read("floatingIPs") {
            parsed.floating = found.json("a JSON list of addresses: [\"203.0.113.4\"]")?;
        }
        if let Some(found) = read("allowedSourcePrefixes") {
            parsed.allowed_source_prefixes = found.json("a JSON list of prefixes: [\"8.8.0.0/16\"]")?;
        }
        if let Some(found) = read("hwAddr") {
            let mac = parse_mac(found.value.trim());
            parsed.hardware_address = Some(mac.ok_or_else(|| {
                found.error("is not a unicast MAC address; write for example ca:fe:ca:fe:ca:fe")
            })?);
        }
        Ok(parsed)
    }
}

struct Found<'a> {
    name: String,
    value: &'a str,
}

impl Found<'_> {
    fn error(&self, problem: &str) -> AnnotationError {
        AnnotationError {
            name: self.name.clone(),
            value: self.value.to_owned(),
            problem: problem.to_owned(),
        }
    }

    fn json<T: DeserializeOwned>(&self, form: &str) -> Result<T, AnnotationError> {
        serde_json::from_str(self.value).map_err(|_| self.error(&format!("is not {form}")))
    }
}

fn families(found: &Found<'_>) -> Result<(bool, bool), AnnotationError> {
    let words: Vec<String> = found.json("a JSON list of IPv4 and IPv6: [\"IPv4\"]")?;
    let mut wanted = (false, false);
    for word in &words {
        match word.as_str() {
            "IPv4" => wanted.0 = true,
            "IPv6" => wanted.1 = true,
            _ => return Err(found.error("names a family that is neither IPv4 nor IPv6")),
        }
    }
    if words.is_empty() {
        return Err(found.error("names no family; write for example [\"IPv4\", \"IPv6\"]"));
    }
    Ok(wanted)
}

fn one_per_family(found: &Found<'_>) -> Result<Vec<IpAddr>, AnnotationError> {
    let addresses: Vec<IpAddr> = found.json("a JSON list of addresses: [\"10.0.0.1\"]")?;
    let v4 = addresses.iter().filter(|address| address.is_ipv4()).count();
    if addresses.is_empty() {
        return Err(found.error("lists no address"));
    }
    if v4 > 1 || addresses.len() - v4 > 1 {
        return Err(found.error("lists more than one address of a family"));
    }
    Ok(addresses)
}

/// A MAC address in the form `aa:bb:cc:dd:ee:ff`; `None` if it is malformed, or a group or zero address.
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        let part = parts.next()?;
        let hexadecimal = part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
        *byte = u8::from_str_radix(part, 16).ok().filter(|_| hexadecimal)?;
    }
    let usable = parts.next().is_none() && mac[0] & 1 == 0 && mac != [0; 6];
    usable.then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Annotations, AnnotationError> {
        let map = pairs
            .iter()
            .map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned()))
            .collect();
        Annotations::parse(&map)
    }

    #[test]
    fn every_annotation_is_read() {
        let parsed = parse(&[
            ("ipv4pools", r#"["10.0.0.0/24","pool-name"]"#),
            ("ipFamilies", r#"["IPv6"]"#),
            ("ipAddrs", r#"["10.0.0.1","fd00::1"]"#),
            ("floatingIPs", r#"["1.2.3.4","2001:db8::9"]"#),
            ("allowedSourcePrefixes", r#"["8.8.0.0/16"]"#),
            ("hwAddr", "ca:fe:ca:fe:ca:fe"),
            ("somethingElse", "{"),
        ])
        .unwrap();
        assert_eq!(parsed.ipv4_pools.unwrap(), ["10.0.0.0/24", "pool-name"]);
        assert_eq!(parsed.ipv6_pools, None);
        assert_eq!(parsed.families, Some((false, true)));
        assert_eq!(parsed.addresses.len(), 2);
        assert_eq!(parsed.floating.len(), 2);
        assert_eq!(parsed.allowed_source_prefixes.len(), 1);
        assert_eq!(
            parsed.hardware_address,
            Some([0xca, 0xfe, 0xca, 0xfe, 0xca, 0xfe])
        );
        assert_eq!(
            parse(&[("ipAddrs", "")]).unwrap(),
            Annotations::default(),
            "empty means not said"
        );
    }

    #[test]
    fn a_malformed_one_is_named_with_its_value() {
        for (name, value) in [
            ("ipv4pools", "pool-a"),
            ("ipv6pools", r#"{"a":1}"#),
            ("ipFamilies", r#"["IPv5"]"#),
            ("ipFamilies", "[]"),
            ("ipAddrs", r#"["10.0.0.1","10.0.0.2"]"#),
            ("ipAddrs", r#"["10.0.0"]"#),
            ("ipAddrsNoIpam", "[]"),
            ("floatingIPs", "1.2.3.4"),
            ("allowedSourcePrefixes", r#"["8.8.0.0"]"#),
            ("hwAddr", "01:00:5e:00:00:01"),
            ("hwAddr", "ca:fe:ca:fe:ca"),
            ("hwAddr", "+a:fe:ca:fe:ca:fe"),
        ] {
            let error = parse(&[(name, value)]).unwrap_err().to_string();
            assert!(
                error.contains(name) && error.contains(&format!("{value:?}")),
                "{error}"
            );
        }
        let both = parse(&[
            ("ipAddrs", r#"["10.0.0.1"]"#),
            ("ipAddrsNoIpam", r#"["10.0.0.2"]"#),
        ]);
        assert!(both.unwrap_err().to_string().contains("excludes ipAddrs"));
    }
}
