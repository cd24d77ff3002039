// SPDX-License-Identifier: Apache-2.0
//! IP pools: the prefixes that blocks are cut from, and who may use them.

use ipnet::IpNet;

use crate::{
    field::{FieldError, parse_selector},
    object::{EmptyIsDefault, Extra},
    resource::Resource,
    selector::Labels,
};

mod validation;

/// An IP pool.
pub type IpPool = Resource<IpPoolSpec>;

/// `spec` of an IPPool, with Calico's defaults filled in as it is read.
#[derive(Clone, Debug, PartialEq)]
pub struct IpPoolSpec {
    /// The addresses; immutable.
    pub cidr: IpNet,
    /// Prefix length of the blocks; `None` and 0 mean [`IpPoolSpec::effective_block_size`]'s default; immutable.
    pub block_size: Option<u8>,
    /// IP in IP between nodes; IPv4 only, not together with VXLAN.
    pub ipip_mode: EncapsulationMode,
    /// VXLAN between nodes.
    pub vxlan_mode: EncapsulationMode,
    /// Source NAT for traffic that leaves the pools.
    pub nat_outgoing: bool,
    /// No new addresses from this pool, whether automatic or asked for.
    pub disabled: bool,
    /// Blocks are not announced to BGP peers.
    pub disable_bgp_export: bool,
    /// Which nodes may use it; empty means all.
    pub node_selector: String,
    /// Whose pods may use it; empty means all.
    pub namespace_selector: String,
    /// What for; empty means workloads and tunnels.
    pub allowed_uses: Vec<AllowedUse>,
    /// Whether it is used without being asked for by name or prefix.
    pub assignment_mode: AssignmentMode,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(IpPoolSpec {
    "cidr" => cidr: required,
    "blockSize" => block_size: unless_default,
    "ipipMode" => ipip_mode: always as EmptyIsDefault<EncapsulationMode>,
    "vxlanMode" => vxlan_mode: always as EmptyIsDefault<EncapsulationMode>,
    "natOutgoing" => nat_outgoing: unless_default,
    "disabled" => disabled: unless_default,
    "disableBGPExport" => disable_bgp_export: unless_default,
    "nodeSelector" => node_selector: unless_default,
    "namespaceSelector" => namespace_selector: unless_default,
    "allowedUses" => allowed_uses: unless_default,
    "assignmentMode" => assignment_mode: always as EmptyIsDefault<AssignmentMode>,
});

/// When traffic between nodes is encapsulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EncapsulationMode {
    /// Never.
    #[default]
    Never,
    /// Always.
    Always,
    /// Between nodes that do not share a subnet.
    CrossSubnet,
}

json_words!(EncapsulationMode { "Never" => Never, "Always" => Always, "CrossSubnet" => CrossSubnet });

/// What addresses of a pool may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AllowedUse {
    /// Containers.
    Workload,
    /// Tunnel devices of nodes.
    Tunnel,
    /// Services of type LoadBalancer; excludes the other two.
    LoadBalancer,
}

json_words!(AllowedUse { "Workload" => Workload, "Tunnel" => Tunnel, "LoadBalancer" => LoadBalancer });

/// Whether a pool is used without being asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AssignmentMode {
    /// Used for every request it qualifies for.
    #[default]
    Automatic,
    /// Used only when a request names it.
    Manual,
}

json_words!(AssignmentMode { "Automatic" => Automatic, "Manual" => Manual });

/// `status` of an IPPool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IpPoolStatus {
    /// Written by the pool controller in Kubernetes.
    pub conditions: Vec<Condition>,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(IpPoolStatus { "conditions" => conditions: unless_default });

/// A Kubernetes condition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Condition {
    /// For pools: `Allocatable`.
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// For pools: `OK`, `CIDROverlap`, `Terminating`, `PoolDisabled`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(Condition {
    "type" => kind: always,
    "status" => status: always,
    "reason" => reason: unless_default,
    "message" => message: unless_default,
});

impl IpPoolSpec {
    /// A pool of these addresses with every default.
    pub fn new(cidr: IpNet) -> Self {
        Self {
            cidr,
            block_size: None,
            ipip_mode: EncapsulationMode::Never,
            vxlan_mode: EncapsulationMode::Never,
            nat_outgoing: false,
            disabled: false,
            disable_bgp_export: false,
            node_selector: String::new(),
            namespace_selector: String::new(),
            allowed_uses: Vec::new(),
            assignment_mode: AssignmentMode::Automatic,
            extra: Extra::new(),
        }
    }

    /// Prefix length of the blocks: 26 in IPv4 and 122 in IPv6 unless set.
    pub fn effective_block_size(&self) -> u8 {
        let default = match self.cidr {
            IpNet::V4(_) => 26,
            IpNet::V6(_) => 122,
        };
        self.block_size.filter(|size| *size != 0).unwrap_or(default)
    }

    /// Writes the defaults into the members that are absent, as Calico's own client does before storing a pool.
    pub fn fill_defaults(&mut self) {
        self.block_size = Some(self.effective_block_size());
        if self.node_selector.is_empty() {
            ALL.clone_into(&mut self.node_selector);
        }
        if self.allowed_uses.is_empty() {
            self.allowed_uses = vec![AllowedUse::Workload, AllowedUse::Tunnel];
        }
    }

    /// Whether a node with these labels may use it. A malformed selector is an error, never "no".
    pub fn selects_node(&self, labels: &impl Labels) -> Result<bool, FieldError> {
        selects("nodeSelector", &self.node_selector, labels)
    }

    /// Whether pods of a namespace with these labels may use it. A malformed selector is an error, never "no".
    pub fn selects_namespace(&self, labels: &impl Labels) -> Result<bool, FieldError> {
        selects("namespaceSelector", &self.namespace_selector, labels)
    }

    /// Whether addresses of this pool may be used so.
    pub fn allows(&self, allowed_use: AllowedUse) -> bool {
        if self.allowed_uses.is_empty() {
            return allowed_use != AllowedUse::LoadBalancer;
        }
        self.allowed_uses.contains(&allowed_use)
    }
}

/// The selector that means the same as none.
const ALL: &str = "all()";

fn selects(field: &str, selector: &str, labels: &impl Labels) -> Result<bool, FieldError> {
    // The two forms nearly every pool has need no parser on the way of a container's start.
    if selector.is_empty() || selector == ALL {
        return Ok(true);
    }
    Ok(parse_selector(field, selector)?.matches(labels))
}

impl IpPool {
    /// Whether addresses may be assigned from it: not disabled, not being deleted, not found unusable.
    pub fn enabled(&self) -> bool {
        let unusable = |condition: &Condition| condition.kind == "Allocatable" && condition.status == "False";
        let conditions = self.status.as_ref().map_or(&[][..], |status| &status.conditions);
        !self.spec.disabled && self.metadata.deletion_timestamp.is_none() && !conditions.iter().any(unusable)
    }
}
