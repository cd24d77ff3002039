// SPDX-License-Identifier: Apache-2.0
//! This node's addresses, by `IP`, `IP6` and the methods of `IP_AUTODETECTION_METHOD` and `IP6_AUTODETECTION_METHOD`, all of
//! them as in Calico; but an address that the Node already has stays as long as it is on the host, whatever else a
//! method would find today.

use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs as _, UdpSocket},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use regex::Regex;

use crate::{configuration::Variables, facts::Facts};

/// Interfaces that no method finds by itself, as in Calico.
const EXCLUDED: &str = r"^(docker|cbr|dummy|podman|virbr|lxcbr|veth|lo|br-|cali|tunl|ipip\.calico|flannel|kube-ipvs|cni|vxlan\.calico|vxlan-v6\.calico|wireguard\.cali|wg-v6\.cali|nodelocaldns)";
/// How long a name may take to be resolved.
const RESOLVING: Duration = Duration::from_secs(5);

/// What `IP` or `IP6` says.
#[derive(Clone, Debug)]
pub enum Wish {
    /// What the Node has, else (IPv4 only) by the method.
    Unset,
    /// By the method.
    Detect,
    /// Nothing is looked for; what the Node has stays.
    None,
    /// This one; without a mask, that of the interface that has it.
    Literal {
        /// The address.
        address: IpAddr,
        /// Its mask, if it came with one.
        length: Option<u8>,
    },
}

/// How an address is looked for.
#[derive(Clone, Debug)]
pub enum Method {
    /// The first that is not on an excluded interface.
    FirstFound,
    /// On an interface that matches one of these; none is excluded.
    Interface(Vec<Regex>),
    /// As the first, with these excluded as well.
    SkipInterface(Vec<Regex>),
    /// The one that packets to there go out with.
    CanReach(String),
    /// The first inside one of these; no interface is excluded.
    Cidr(Vec<IpNet>),
}

/// How one family's address is found.
#[derive(Clone, Debug)]
pub struct Finder {
    v6: bool,
    wish: Wish,
    method: Method,
    excluded: Regex,
}

impl Finder {
    /// Reads the variables of a family. Errors name variable, value and what is accepted.
    pub fn read(variables: &Variables, v6: bool) -> Result<Self> {
        let (names, method) = if v6 {
            (["IP6", "CALICO_IP6"], "IP6_AUTODETECTION_METHOD")
        } else {
            (["IP", "CALICO_IP"], "IP_AUTODETECTION_METHOD")
        };
        let wish = match variables.first(&names) {
            None => Wish::Unset,
            Some((name, text)) => parse_wish(&name, &text, v6)?,
        };
        let method = match variables.first(&[method]) {
            None => Method::FirstFound,
            Some((name, text)) => parse_method(&name, &text, v6)?,
        };
        Ok(Self {
            v6,
            wish,
            method,
            excluded: Regex::new(EXCLUDED).context("the excluded interfaces")?,
        })
    }

    /// The address; `None`: the node has none of this family. `recorded` is what the Node says.
    pub fn find(&self, facts: &Facts, recorded: Option<IpNet>) -> Result<Option<IpNet>> {
        let on_host = |wanted: IpAddr| {
            facts
                .addresses
                .iter()
                .find(|(own, _)| own.addr() == wanted)
                .map(|(own, _)| *own)
        };
        match &self.wish {
            Wish::None => Ok(recorded),
            Wish::Literal { address, length } => {
                let whole = if self.v6 { 128 } else { 32 };
                let held = on_host(*address).filter(|_| !self.v6).map(|own| own.prefix_len());
                let length = length.or(held).unwrap_or(whole);
                Ok(Some(IpNet::new(*address, length)?))
            }
            Wish::Unset if self.v6 && recorded.is_none() => Ok(None),
            Wish::Unset | Wish::Detect => {
                if let Some(kept) = recorded.and_then(|recorded| on_host(recorded.addr())) {
                    return Ok(Some(kept));
                }
                match self.detect(facts)? {
                    Some(found) => Ok(Some(found)),
                    // A stored address that is not there may come back.
                    None if recorded.is_some() => Ok(recorded),
                    None if self.v6 => Ok(None),
                    None => bail!(
                        "none found by {}; set environment variable IP to this node's address",
                        self.method.name()
                    ),
                }
            }
        }
    }

    fn detect(&self, facts: &Facts) -> Result<Option<IpNet>> {
        let skipped = match &self.method {
            Method::SkipInterface(skipped) => skipped.as_slice(),
            _ => &[],
        };
        let is_open =
            |name: &str| !self.excluded.is_match(name) && !skipped.iter().any(|skip| skip.is_match(name));
        match &self.method {
            Method::FirstFound | Method::SkipInterface(_) => Ok(self.first(facts, |name, _| is_open(name))),
            Method::Interface(wanted) => {
                Ok(self.first(facts, |name, _| wanted.iter().any(|wanted| wanted.is_match(name))))
            }
            Method::Cidr(prefixes) => Ok(self.first(facts, |_, own| {
                prefixes.iter().any(|prefix| prefix.contains(&own))
            })),
            Method::CanReach(host) => {
                let local = source_towards(host, self.v6)?;
                Ok(self.first(facts, |_, own| own == local))
            }
        }
    }

    /// The first address that fits: interfaces from the highest index down, addresses as the kernel lists them.
    fn first(&self, facts: &Facts, fits: impl Fn(&str, IpAddr) -> bool) -> Option<IpNet> {
        facts.links.iter().rev().find_map(|(index, link)| {
            let on_link = facts.addresses.iter().filter(|(_, link)| link == index);
            let mut fitting = on_link.filter(|(own, _)| {
                let own = own.addr();
                own.is_ipv6() == self.v6 && is_global(own) && fits(&link.name, own)
            });
            fitting.next().map(|(own, _)| *own)
        })
    }
}

impl Method {
    fn name(&self) -> &'static str {
        match self {
            Self::FirstFound => "first-found",
            Self::Interface(_) => "interface=",
            Self::SkipInterface(_) => "skip-interface=",
            Self::CanReach(_) => "can-reach=",
            Self::Cidr(_) => "cidr=",
        }
    }
}

fn parse_wish(name: &str, text: &str, v6: bool) -> Result<Wish> {
    match text {
        "autodetect" => return Ok(Wish::Detect),
        "none" => return Ok(Wish::None),
        _ => {}
    }
    let (address, length) = match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
        (Ok(prefix), _) => (prefix.addr(), Some(prefix.prefix_len())),
        (_, Ok(address)) => (address, None),
        _ => bail!(
            "environment variable {name}: {text:?} is no address; write for example 10.0.0.5, 10.0.0.5/24, \"autodetect\" or \"none\""
        ),
    };
    if address.is_ipv6() != v6 {
        bail!("environment variable {name}: {text:?} is of the other IP version");
    }
    if !is_global(address) {
        bail!(
            "environment variable {name}: {text:?} cannot be the address of a node: it is loopback, link-local, multicast or unspecified"
        );
    }
    Ok(Wish::Literal { address, length })
}

fn parse_method(name: &str, text: &str, v6: bool) -> Result<Method> {
    const ACCEPTED: &str = "first-found, interface=REGEX,…, skip-interface=REGEX,…, can-reach=HOST, cidr=PREFIX,… or kubernetes-internal-ip";
    let patterns = |list: &str| -> Result<Vec<Regex>> {
        let each = list.split(',').map(|pattern| {
            Regex::new(pattern.trim()).with_context(|| {
                format!("environment variable {name}: {pattern:?} is not a regular expression")
            })
        });
        each.collect()
    };
    let method = match text.split_once('=') {
        None if text == "first-found" => Method::FirstFound,
        None if text == "kubernetes-internal-ip" => bail!(
            "environment variable {name}: {text:?} needs DATASTORE_TYPE=kubernetes, which this version does not support; choose another method"
        ),
        Some((_, "")) => {
            bail!("environment variable {name}: {text:?} says nothing behind \"=\"; accepted are {ACCEPTED}")
        }
        Some(("interface", list)) => Method::Interface(patterns(list)?),
        Some(("skip-interface", list)) => Method::SkipInterface(patterns(list)?),
        Some(("can-reach", host)) => Method::CanReach(host.trim().to_owned()),
        Some(("cidr", list)) => {
            let each = list.split(',').map(|prefix| {
                prefix
                    .trim()
                    .parse::<IpNet>()
                    .with_context(|| format!("environment variable {name}: {prefix:?} is not a prefix; write for example 10.0.0.0/8"))
            });
            let prefixes: Vec<IpNet> = each.collect::<Result<_>>()?;
            if prefixes.iter().any(|prefix| prefix.addr().is_ipv6() != v6) {
                bail!("environment variable {name}: {text:?} has a prefix of the other IP version");
            }
            Method::Cidr(prefixes)
        }
        _ => bail!("environment variable {name}: {text:?} is no method; accepted are {ACCEPTED}"),
    };
    Ok(method)
}

/// Whether other hosts can know it: private ones too.
fn is_global(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !is_link_local && !address.is_loopback() && !address.is_multicast() && !address.is_unspecified()
}

/// The own address that packets to a host have. Nothing is sent.
fn source_towards(host: &str, v6: bool) -> Result<IpAddr> {
    let target = match host.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, 80),
        Err(_) => resolve(host, v6)?,
    };
    if target.is_ipv6() != v6 {
        bail!("can-reach={host}: it is of the other IP version");
    }
    let any: SocketAddr = if v6 { "[::]:0" } else { "0.0.0.0:0" }.parse()?;
    let socket = UdpSocket::bind(any)?;
    socket
        .connect(target)
        .with_context(|| format!("can-reach={host}: no route leads there"))?;
    Ok(socket.local_addr()?.ip())
}

fn resolve(host: &str, v6: bool) -> Result<SocketAddr> {
    let (answer, answered) = mpsc::channel();
    let name = host.to_owned();
    // The system's resolver has its own patience, which may be long.
    thread::spawn(move || {
        let _ = answer.send(
            (name.as_str(), 80)
                .to_socket_addrs()
                .map(Iterator::collect::<Vec<_>>),
        );
    });
    let found = answered.recv_timeout(RESOLVING).with_context(|| {
        format!(
            "can-reach={host}: the name was not resolved within {} s",
            RESOLVING.as_secs()
        )
    })?;
    let found = found.with_context(|| format!("can-reach={host}: the name cannot be resolved"))?;
    let fitting = found.into_iter().find(|target| target.is_ipv6() == v6);
    fitting.with_context(|| format!("can-reach={host}: it has no address of this IP version"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Device;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    /// Interfaces with their addresses; the first has index 1.
    fn host(links: &[(&str, &[&str])]) -> Facts {
        let mut facts = Facts::default();
        for (index, (name, addresses)) in (1..).zip(links) {
            let device = Device {
                name: (*name).into(),
                mtu: 1500,
                up: true,
                kind: None,
            };
            facts.links.insert(index, device);
            facts
                .addresses
                .extend(addresses.iter().map(|text| (text.parse().unwrap(), index)));
        }
        facts
    }

    fn usual() -> Facts {
        host(&[
            ("lo", &["127.0.0.1/8", "::1/128"]),
            (
                "eth0",
                &[
                    "169.254.3.3/16",
                    "10.0.0.5/24",
                    "10.0.0.6/24",
                    "fe80::1/64",
                    "fd00::5/64",
                ],
            ),
            ("bond0", &["172.20.1.1/16"]),
            ("docker0", &["172.17.0.1/16"]),
            ("cali123", &["10.5.5.5/32"]),
        ])
    }

    #[test]
    fn each_method_finds_what_calicos_does() {
        let table = [
            ("first-found", Some("172.20.1.1/16")),
            ("interface=eth.*", Some("10.0.0.5/24")),
            ("interface=docker0", Some("172.17.0.1/16")),
            ("interface=wlan,eth0", Some("10.0.0.5/24")),
            ("skip-interface=bond.*", Some("10.0.0.5/24")),
            ("skip-interface=bond0,eth0", None),
            ("cidr=10.0.0.6/32", Some("10.0.0.6/24")),
            ("cidr=172.17.0.0/16,10.0.0.0/8", Some("10.5.5.5/32")),
            ("cidr=192.168.0.0/16", None),
        ];
        for (method, expected) in table {
            let finder = Finder::read(&variables(&[("IP_AUTODETECTION_METHOD", method)]), false).unwrap();
            let found = finder.find(&usual(), None);
            let text = found
                .as_ref()
                .ok()
                .and_then(|found| found.map(|found| found.to_string()));
            assert_eq!(text.as_deref(), expected, "{method}: {found:?}");
        }
    }

    #[test]
    fn what_the_variable_says_goes_before_what_is_found() {
        let find = |value: &str, recorded: Option<&str>| {
            let finder = Finder::read(&variables(&[("IP", value)]), false).unwrap();
            let recorded = recorded.map(|text| text.parse().unwrap());
            finder
                .find(&usual(), recorded)
                .ok()
                .flatten()
                .map(|found| found.to_string())
        };
        assert_eq!(
            find("10.0.0.6", None).as_deref(),
            Some("10.0.0.6/24"),
            "the interface's mask"
        );
        assert_eq!(
            find("10.0.0.6/16", None).as_deref(),
            Some("10.0.0.6/16"),
            "the mask given"
        );
        assert_eq!(
            find("192.0.2.9", None).as_deref(),
            Some("192.0.2.9/32"),
            "on no interface"
        );
        assert_eq!(find("'10.0.0.6'", None).as_deref(), Some("10.0.0.6/24"), "quotes");
        assert_eq!(find("none", Some("10.0.0.6/24")).as_deref(), Some("10.0.0.6/24"));
        assert_eq!(find("none", None), None);
        assert_eq!(
            find("", Some("10.0.0.6/24")).as_deref(),
            Some("10.0.0.6/24"),
            "kept"
        );
        assert_eq!(
            find("autodetect", Some("10.0.0.6/24")).as_deref(),
            Some("10.0.0.6/24"),
            "kept while it is there"
        );
        assert_eq!(
            find("autodetect", Some("10.9.9.9/24")).as_deref(),
            Some("172.20.1.1/16"),
            "gone from the host"
        );
        assert_eq!(find("", None).as_deref(), Some("172.20.1.1/16"));
        let six = Finder::read(&variables(&[]), true).unwrap();
        assert_eq!(
            six.find(&usual(), None).unwrap(),
            None,
            "IPv6 only when asked for"
        );
        let six = Finder::read(&variables(&[("CALICO_IP6", "autodetect")]), true).unwrap();
        assert_eq!(
            six.find(&usual(), None).unwrap().unwrap().to_string(),
            "fd00::5/64"
        );
    }

    #[test]
    fn a_host_without_any_is_told_so() {
        let finder = Finder::read(&variables(&[]), false).unwrap();
        let empty = host(&[("lo", &["127.0.0.1/8"])]);
        let problem = finder.find(&empty, None).unwrap_err().to_string();
        assert!(
            problem.contains("first-found") && problem.contains("IP"),
            "{problem}"
        );
        let kept = finder.find(&empty, Some("10.0.0.5/24".parse().unwrap())).unwrap();
        assert_eq!(kept.unwrap().to_string(), "10.0.0.5/24", "it may come back");
    }

    #[test]
    fn bad_values_are_named() {
        for (name, value) in [
            ("IP", "10.0.0"),
            ("IP", "fd00::1"),
            ("IP", "127.0.0.1"),
            ("IP", "10.0.0.1/33"),
            ("IP_AUTODETECTION_METHOD", "guess"),
            ("IP_AUTODETECTION_METHOD", "interface="),
            ("IP_AUTODETECTION_METHOD", "interface=("),
            ("IP_AUTODETECTION_METHOD", "cidr=10.0.0.0"),
            ("IP_AUTODETECTION_METHOD", "cidr=fd00::/8"),
            ("IP_AUTODETECTION_METHOD", "kubernetes-internal-ip"),
        ] {
            let problem = Finder::read(&variables(&[(name, value)]), false)
                .unwrap_err()
                .to_string();
            assert!(problem.contains(name), "{name}={value}: {problem}");
        }
    }
}
