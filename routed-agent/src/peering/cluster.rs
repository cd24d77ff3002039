// SPDX-License-Identifier: Apache-2.0
//! The Nodes, as peers see them: addresses, AS number, port, cluster ID.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;
use model::{AsNumber, FieldError, Node, Selector, bgp_configuration::BgpConfigurationSpec, node::NodeBgp};

use super::{Input, Warnings};

/// What the names of BGPConfigurations of one node begin with.
const NODE_PREFIX: &str = "node.";

/// All nodes, by name, and what is common to them.
pub(super) struct Cluster<'a> {
    /// BGPConfiguration `default`, or all its defaults.
    pub(super) configuration: BgpConfigurationSpec,
    members: Vec<Member<'a>>,
    by_address: HashMap<IpAddr, usize>,
}

/// A node.
#[derive(Debug)]
pub(super) struct Member<'a> {
    /// Its name.
    pub(super) name: &'a str,
    labels: &'a BTreeMap<String, String>,
    ipv4: Option<IpAddr>,
    ipv6: Option<IpAddr>,
    /// Its own, or the global one; `None` if that is no AS number.
    pub(super) as_number: Option<u32>,
    /// The port it listens on, where one is configured for it or for all.
    pub(super) listen_port: Option<u16>,
    /// It has a cluster ID, readable or not.
    pub(super) reflector: bool,
    /// The cluster ID, if readable.
    pub(super) cluster_id: Option<Ipv4Addr>,
}

/// This node, fit to have peers.
#[derive(Clone, Copy)]
pub(super) struct Own<'v, 'a> {
    /// What others see of it.
    pub(super) member: &'v Member<'a>,
    /// Its AS number.
    pub(super) as_number: u32,
}

impl Member<'_> {
    /// Its addresses.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.ipv4.into_iter().chain(self.ipv6)
    }

    /// Its address of the IP version of another address.
    pub(super) fn address_beside(&self, other: IpAddr) -> Option<IpAddr> {
        if other.is_ipv4() { self.ipv4 } else { self.ipv6 }
    }

    /// Whether this is one of its addresses.
    pub(super) fn has_address(&self, address: IpAddr) -> bool {
        self.address_beside(address) == Some(address)
    }

    /// Whether it is selected.
    pub(super) fn matches(&self, selector: &Selector) -> bool {
        selector.matches(self.labels)
    }
}

impl<'a> Cluster<'a> {
    /// Reads the nodes and their settings.
    pub(super) fn new(input: &Input<'a>, warnings: &mut Warnings) -> Self {
        let mut cluster = Self {
            configuration: BgpConfigurationSpec::default(),
            members: Vec::new(),
            by_address: HashMap::new(),
        };
        let mut node_ports = HashMap::new();
        for configuration in input.configurations {
            let name = configuration.metadata.name.as_str();
            if name == "default" {
                cluster.configuration = configuration.spec.clone();
            } else if let Some(node) = name.strip_prefix(NODE_PREFIX)
                && let Some(port) = usable_port(&configuration.spec)
            {
                node_ports.insert(node, port);
            }
        }
        let global_as = global_as(&cluster.configuration, warnings);
        let global_port = usable_port(&cluster.configuration);

        let mut nodes = input.nodes.to_vec();
        nodes.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        for node in nodes {
            let port = node_ports.get(node.metadata.name.as_str()).copied();
            let mut member = member(node, global_as, warnings);
            member.listen_port = port.or(global_port);
            cluster.add(member, warnings);
        }
        cluster
    }

    fn add(&mut self, member: Member<'a>, warnings: &mut Warnings) {
        let index = self.members.len();
        for address in member.addresses() {
            let holder = *self.by_address.entry(address).or_insert(index);
            if holder != index {
                let problem = FieldError::new(
                    if address.is_ipv4() {
                        "bgp.ipv4Address"
                    } else {
                        "bgp.ipv6Address"
                    },
                    address.to_string(),
                    format!("is Node {}'s, too", self.members[holder].name),
                    "give each node its own, or delete the Node that is gone",
                );
                warnings.add(&format!("Node {}", member.name), &problem);
            }
        }
        self.members.push(member);
    }

    /// This node; `None`, with a warning, if it cannot have peers.
    pub(super) fn own(&self, name: &str, warnings: &mut Warnings) -> Option<Own<'_, 'a>> {
        let Some(member) = self.members.iter().find(|member| member.name == name) else {
            let problem = FieldError::new(
                "name",
                name,
                "is this host, but there is no such Node",
                "create it, or name the right one; until then there are no sessions",
            );
            warnings.add(&format!("Node {name}"), &problem);
            return None;
        };
        let as_number = member.as_number?;
        Some(Own { member, as_number })
    }

    /// All nodes, by name.
    pub(super) fn members(&self) -> impl Iterator<Item = &Member<'a>> {
        self.members.iter()
    }

    /// The node that has an address; of several, the one whose name sorts first.
    pub(super) fn holder(&self, address: IpAddr) -> Option<&Member<'a>> {
        self.by_address.get(&address).map(|index| &self.members[*index])
    }

    /// The AS number of nodes without one of their own.
    pub(super) fn global_as(&self) -> u32 {
        self.configuration.effective_as_number().0
    }
}

/// What a Node says; the port is not part of it.
fn member<'a>(node: &'a Node, global_as: Option<u32>, warnings: &mut Warnings) -> Member<'a> {
    let object = format!("Node {}", node.metadata.name);
    let mut complain = |problem: FieldError| warnings.add(&object, &problem);
    let mut member = Member {
        name: &node.metadata.name,
        labels: &node.metadata.labels,
        ipv4: None,
        ipv6: None,
        as_number: global_as,
        listen_port: None,
        reflector: false,
        cluster_id: None,
    };
    let Some(bgp) = &node.spec.bgp else { return member };
    member.ipv4 = address("bgp.ipv4Address", bgp.ipv4_address, false, &mut complain);
    member.ipv6 = address("bgp.ipv6Address", bgp.ipv6_address, true, &mut complain);
    if let Some(number) = bgp.as_number {
        member.as_number = usable_as("bgp.asNumber", number, &mut complain);
    }
    member.reflector = bgp.route_reflector_cluster_id.is_some();
    member.cluster_id = cluster_id(bgp, &mut complain);
    member
}

fn address(
    field: &str,
    stored: Option<IpNet>,
    v6: bool,
    complain: &mut impl FnMut(FieldError),
) -> Option<IpAddr> {
    let address = stored?.addr().to_canonical();
    let problem = if address.is_ipv6() != v6 {
        "is of the other IP version"
    } else if !is_peerable(address) {
        "is not an address of a host"
    } else {
        return Some(address);
    };
    complain(FieldError::new(
        field,
        address.to_string(),
        problem,
        "write for example 10.0.0.5/24 to ipv4Address and 2001:db8::5/64 to ipv6Address",
    ));
    None
}

fn cluster_id(bgp: &NodeBgp, complain: &mut impl FnMut(FieldError)) -> Option<Ipv4Addr> {
    let text = bgp.route_reflector_cluster_id.as_ref()?;
    let id = text.parse().ok();
    if id.is_none() {
        complain(FieldError::new(
            "bgp.routeReflectorClusterID",
            text,
            "is not written as an IPv4 address",
            "write for example 244.0.0.1; until then the node reflects under its BGP identifier",
        ));
    }
    id
}

/// Whether a session to this address can exist at all.
pub(super) fn is_peerable(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || broadcast)
}

/// 0 is reserved (RFC 7607).
fn usable_as(field: &str, number: AsNumber, complain: &mut impl FnMut(FieldError)) -> Option<u32> {
    if number.0 == 0 {
        complain(FieldError::new(
            field,
            "0",
            "is not the AS number of anything",
            "use 1 to 4294967294; until then there are no sessions to where it applies",
        ));
        return None;
    }
    Some(number.0)
}

fn global_as(configuration: &BgpConfigurationSpec, warnings: &mut Warnings) -> Option<u32> {
    let mut complain = |problem| warnings.add("BGPConfiguration default", &problem);
    usable_as("asNumber", configuration.effective_as_number(), &mut complain)
}

/// A port that is set; Calico reads 0 as not set.
fn usable_port(configuration: &BgpConfigurationSpec) -> Option<u16> {
    configuration.listen_port.filter(|port| *port != 0)
}
