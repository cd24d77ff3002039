// SPDX-License-Identifier: Apache-2.0
//! The firewall as text for `nft`: one table, `inet calico`, written as a whole in one transaction. It does
//!
//! - `natOutgoing`: containers of such a pool reach what is in no pool with the host's address;
//! - the right source for the host's own packets into a tunnel;
//! - protection of tunnels: encapsulated packets come from nodes only, and none from containers. Only packets to this
//!   node's own address are looked at, so other tunnels of the host are left alone;
//! - IPv6 source addresses of containers: only what is routed back to them (IPv4 has `rp_filter`);
//! - services: what nobody has translated is dropped or rejected instead of going round in circles.
//!
//! Everything that gets into the text is a number, a prefix, or a name that [`is_device_name`] has let through.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;

use crate::configuration::words::ServiceLoopPrevention;

/// Name of the table, and the only one that is ever touched.
pub const TABLE: &str = "calico";

/// What the firewall has to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    /// Pools whose containers reach the outside with the host's address.
    pub nat_pools: BTreeSet<IpNet>,
    /// All pools, disabled ones too: inside them nothing is translated.
    pub all_pools: BTreeSet<IpNet>,
    /// Nodes, and others from which encapsulated packets are welcome.
    pub nodes: BTreeSet<IpNet>,
    /// Traffic to nodes is not translated either.
    pub spare_nodes: bool,
    /// Translate to this address instead of that of the outgoing interface.
    pub nat_address: Option<Ipv4Addr>,
    /// Ports that translation uses.
    pub nat_ports: Option<(u16, u16)>,
    /// Tunnels of this node.
    pub tunnels: Vec<Guarded>,
    /// What the names of container interfaces start with.
    pub interface_prefixes: Vec<String>,
    /// Prefixes of services.
    pub services: BTreeSet<IpNet>,
    /// What becomes of packets to them that nobody has translated.
    pub service_loops: ServiceLoopPrevention,
}

/// A tunnel of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded {
    /// Name of its device.
    pub device: String,
    /// Its own address.
    pub address: Option<IpAddr>,
    /// The node's address.
    pub local: IpAddr,
    /// UDP port; `None`: IP in IP.
    pub port: Option<u16>,
}

/// Whether a text can be the name of a network device, and nothing else to `nft`.
pub fn is_device_name(name: &str) -> bool {
    let fits = (1..=15).contains(&name.len());
    fits && name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

const fn is_v6(prefix: &IpNet) -> bool {
    matches!(prefix, IpNet::V6(_))
}

/// Chains with what they hook into. A chain that is taken away and comes back lets packets fall in between, so chains
/// stay and only their rules are replaced.
const CHAINS: [(&str, &str); 4] = [
    (
        "postrouting",
        "type nat hook postrouting priority srcnat; policy accept;",
    ),
    ("input", "type filter hook input priority filter; policy accept;"),
    (
        "prerouting",
        "type filter hook prerouting priority raw; policy accept;",
    ),
    (
        "forward",
        "type filter hook forward priority filter; policy accept;",
    ),
];

/// Sets of prefixes, without their family.
const SETS: [&str; 4] = ["nat-pools", "all-pools", "nodes", "services"];

/// The transaction that makes rules and sets what they should be, in a table that is there or not.
pub fn ruleset(firewall: &Firewall) -> String {
    let mut text = format!("table inet {TABLE} {{\n");
    for (v6, number) in [(false, 4), (true, 6)] {
        for name in SETS {
            set(&mut text, &format!("{name}-v{number}"), v6, &BTreeSet::new());
        }
    }
    for (name, hook) in CHAINS {
        let _ = writeln!(text, "  chain {name} {{ {hook} }}");
    }
    text.push_str("}\n");
    for (name, _) in CHAINS {
        let _ = writeln!(text, "flush chain inet {TABLE} {name}");
    }
    for number in [4, 6] {
        for name in SETS {
            let _ = writeln!(text, "flush set inet {TABLE} {name}-v{number}");
        }
    }
    text + &body(firewall)
}

/// The transaction that makes the table as it should be, without anything else that may be in it.
pub fn recreation(firewall: &Firewall) -> String {
    removal() + &body(firewall)
}

fn body(firewall: &Firewall) -> String {
    let mut text = format!("table inet {TABLE} {{\n");
    for (v6, number) in [(false, 4), (true, 6)] {
        let contents = [
            &firewall.nat_pools,
            &firewall.all_pools,
            &firewall.nodes,
            &firewall.services,
        ];
        for (name, prefixes) in SETS.into_iter().zip(contents) {
            set(&mut text, &format!("{name}-v{number}"), v6, prefixes);
        }
    }
    for ((name, hook), rules) in CHAINS.into_iter().zip([postrouting, input, prerouting, forward]) {
        let _ = writeln!(text, "  chain {name} {{\n    {hook}");
        rules(&mut text, firewall);
        text.push_str("  }\n");
    }
    text + "}\n"
}

/// The transaction that removes the table, if it is there.
pub fn removal() -> String {
    format!("table inet {TABLE}\ndelete table inet {TABLE}\n")
}

fn set(text: &mut String, name: &str, v6: bool, prefixes: &BTreeSet<IpNet>) {
    let kind = if v6 { "ipv6_addr" } else { "ipv4_addr" };
    let _ = writeln!(
        text,
        "  set {name} {{\n    type {kind}; flags interval; auto-merge;"
    );
    let elements: Vec<String> = prefixes
        .iter()
        .filter(|prefix| is_v6(prefix) == v6)
        .map(|prefix| prefix.trunc().to_string())
        .collect();
    if !elements.is_empty() {
        let _ = writeln!(text, "    elements = {{ {} }}", elements.join(", "));
    }
    text.push_str("  }\n");
}

fn rule(text: &mut String, rule: &str) {
    let _ = writeln!(text, "    {rule}");
}

fn postrouting(text: &mut String, firewall: &Firewall) {
    // The host's own packets, made with an address that the other end has no tunnel for.
    for tunnel in &firewall.tunnels {
        let Some(address) = tunnel.address.filter(|_| is_device_name(&tunnel.device)) else {
            continue;
        };
        let family = if address.is_ipv6() { "ip6" } else { "ip" };
        rule(
            text,
            &format!(
                "oifname \"{}\" {family} saddr != {address} fib saddr type local masquerade",
                tunnel.device
            ),
        );
    }
    for (v6, family, number) in [(false, "ip", 4), (true, "ip6", 6)] {
        let mut condition =
            format!("{family} saddr @nat-pools-v{number} {family} daddr != @all-pools-v{number}");
        if firewall.spare_nodes {
            let _ = write!(condition, " {family} daddr != @nodes-v{number}");
        }
        let target = match firewall.nat_address.filter(|_| !v6) {
            Some(address) => format!("snat ip to {address}"),
            None => "masquerade".to_owned(),
        };
        if let Some((first, last)) = firewall.nat_ports {
            let to = if target == "masquerade" { " to " } else { "" };
            let ports = format!("meta l4proto {{ tcp, udp }} {target}{to}:{first}-{last} fully-random");
            rule(text, &format!("{condition} {ports}"));
        }
        rule(text, &format!("{condition} {target} fully-random"));
    }
}

fn input(text: &mut String, firewall: &Firewall) {
    for tunnel in &firewall.tunnels {
        let (family, number) = if tunnel.local.is_ipv6() {
            ("ip6", 6)
        } else {
            ("ip", 4)
        };
        let what = match tunnel.port {
            None => "meta l4proto 4".to_owned(),
            Some(port) => format!("udp dport {port}"),
        };
        rule(
            text,
            &format!(
                "{family} daddr {} {what} {family} saddr != @nodes-v{number} counter drop",
                tunnel.local
            ),
        );
    }
}

fn prerouting(text: &mut String, firewall: &Firewall) {
    for prefix in firewall
        .interface_prefixes
        .iter()
        .filter(|prefix| is_device_name(prefix))
    {
        let from = format!("iifname \"{prefix}*\"");
        // Addresses are looked for before a container has one, with none.
        rule(
            text,
            &format!("{from} ip6 saddr != :: fib saddr . iif oif missing counter drop"),
        );
        for tunnel in &firewall.tunnels {
            let what = match tunnel.port {
                None => "meta l4proto 4".to_owned(),
                Some(port) => format!("udp dport {port}"),
            };
            let family = if tunnel.local.is_ipv6() { "ipv6" } else { "ipv4" };
            rule(text, &format!("{from} meta nfproto {family} {what} counter drop"));
        }
    }
}

fn forward(text: &mut String, firewall: &Firewall) {
    let verdict = match firewall.service_loops {
        ServiceLoopPrevention::Drop => "drop",
        ServiceLoopPrevention::Reject => "reject",
        ServiceLoopPrevention::Disabled => return,
    };
    rule(text, &format!("ip daddr @services-v4 counter {verdict}"));
    rule(text, &format!("ip6 daddr @services-v6 counter {verdict}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> BTreeSet<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn names_that_could_say_more_than_a_name_are_left_out() {
        for name in ["eth0", "vxlan.calico", "cali", "a-b_c"] {
            assert!(is_device_name(name), "{name}");
        }
        for name in [
            "",
            "a b",
            "x\" drop; #",
            "name{",
            "0123456789abcdef",
            "é",
            "a\nb",
            "*",
        ] {
            assert!(!is_device_name(name), "{name:?}");
        }
        let firewall = Firewall {
            interface_prefixes: vec!["x\" accept".into()],
            tunnels: vec![Guarded {
                device: "x\" accept".into(),
                address: Some(IpAddr::from([10, 0, 0, 1])),
                local: IpAddr::from([10, 0, 0, 2]),
                port: None,
            }],
            ..Firewall::default()
        };
        assert!(!ruleset(&firewall).contains("accept\""), "{}", ruleset(&firewall));
    }

    #[test]
    fn each_setting_shows_in_its_rule_and_nowhere_else() {
        let mut firewall = Firewall {
            nat_pools: nets(&["192.168.0.0/16", "fd00::/64"]),
            all_pools: nets(&["192.168.0.0/16", "10.9.0.0/16", "fd00::/64"]),
            nodes: nets(&["10.0.0.1/32"]),
            ..Firewall::default()
        };
        let plain = ruleset(&firewall);
        let v4 = "ip saddr @nat-pools-v4 ip daddr != @all-pools-v4 masquerade fully-random";
        assert!(plain.contains(v4), "{plain}");
        assert!(
            plain.contains("elements = { 10.9.0.0/16, 192.168.0.0/16 }"),
            "{plain}"
        );
        assert!(!plain.contains("snat ip to"), "{plain}");
        firewall.nat_address = Some(Ipv4Addr::new(192, 0, 2, 1));
        firewall.nat_ports = Some((20_000, 30_000));
        firewall.spare_nodes = true;
        let special = ruleset(&firewall);
        for wanted in [
            "ip daddr != @nodes-v4 meta l4proto { tcp, udp } snat ip to 192.0.2.1:20000-30000 fully-random",
            "ip daddr != @nodes-v4 snat ip to 192.0.2.1 fully-random",
            "ip6 daddr != @nodes-v6 meta l4proto { tcp, udp } masquerade to :20000-30000 fully-random",
        ] {
            assert!(special.contains(wanted), "{wanted}\n{special}");
        }
    }

    #[test]
    fn what_nobody_has_translated_is_treated_as_the_setting_says() {
        let of = |service_loops| {
            ruleset(&Firewall {
                services: nets(&["10.96.0.0/12", "fd00:96::/108"]),
                service_loops,
                ..Firewall::default()
            })
        };
        let rules = |text: &str| -> Vec<String> {
            let rules = text
                .lines()
                .map(str::trim)
                .filter(|line| line.contains("daddr @services"));
            rules.map(str::to_owned).collect()
        };
        for (setting, verdict) in [
            (ServiceLoopPrevention::Drop, "drop"),
            (ServiceLoopPrevention::Reject, "reject"),
        ] {
            assert_eq!(
                rules(&of(setting)),
                ["ip daddr @services-v4", "ip6 daddr @services-v6"]
                    .map(|what| format!("{what} counter {verdict}"))
            );
        }
        let disabled = of(ServiceLoopPrevention::Disabled);
        assert!(rules(&disabled).is_empty(), "{disabled}");
        // The chain stays, so that what was in it goes.
        assert!(disabled.contains("flush chain inet calico forward"), "{disabled}");
    }
}
