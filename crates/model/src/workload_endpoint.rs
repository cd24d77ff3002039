// SPDX-License-Identifier: Apache-2.0
//! Workload endpoints: one interface of one container, as the policy side and operators see it.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    field::FieldError,
    key::Kind,
    names::{EndpointNameError, join_endpoint_name},
    object::{EmptyIsNone, Extra},
    resource::{Resource, Spec},
};

/// A workload endpoint.
pub type WorkloadEndpoint = Resource<WorkloadEndpointSpec>;

/// `spec` of a WorkloadEndpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkloadEndpointSpec {
    /// `k8s`, `cni`, `libnetwork`, or another.
    pub orchestrator: String,
    /// The workload's name where the orchestrator is none of the three.
    pub workload: String,
    /// Calico node name.
    pub node: String,
    /// The runtime's name of the container or sandbox.
    pub container_id: String,
    /// Pod name, in Kubernetes.
    pub pod: String,
    /// Interface name inside the container.
    pub endpoint: String,
    /// Service account of the pod.
    pub service_account_name: String,
    /// Addresses, as /32 or /128.
    pub ip_networks: Vec<IpNet>,
    /// Floating addresses.
    pub ip_nats: Vec<IpNat>,
    /// Gateway; unused on Linux.
    pub ipv4_gateway: Option<IpAddr>,
    /// Gateway; unused on Linux.
    pub ipv6_gateway: Option<IpAddr>,
    /// Profiles that apply, in order.
    pub profiles: Vec<String>,
    /// Name of the host side of the veth pair.
    pub interface_name: String,
    /// MAC address of the container side.
    pub mac: String,
    /// Named ports and host ports.
    pub ports: Vec<EndpointPort>,
    /// Sources this container may use although they are not its addresses.
    pub allow_spoofed_source_prefixes: Vec<IpNet>,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(WorkloadEndpointSpec {
    "orchestrator" => orchestrator: unless_default,
    "workload" => workload: unless_default,
    "node" => node: unless_default,
    "containerID" => container_id: unless_default,
    "pod" => pod: unless_default,
    "endpoint" => endpoint: unless_default,
    "serviceAccountName" => service_account_name: unless_default,
    "ipNetworks" => ip_networks: unless_default,
    "ipNATs" => ip_nats: unless_default,
    "ipv4Gateway" => ipv4_gateway: unless_default as EmptyIsNone<IpAddr>,
    "ipv6Gateway" => ipv6_gateway: unless_default as EmptyIsNone<IpAddr>,
    "profiles" => profiles: unless_default,
    "interfaceName" => interface_name: unless_default,
    "mac" => mac: unless_default,
    "ports" => ports: unless_default,
    "allowSpoofedSourcePrefixes" => allow_spoofed_source_prefixes: unless_default,
});

/// An outside address that is translated to one of the container's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IpNat {
    /// The container's address.
    pub internal_ip: Option<IpAddr>,
    /// The outside address.
    pub external_ip: Option<IpAddr>,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(IpNat {
    "internalIP" => internal_ip: always as EmptyIsNone<IpAddr>,
    "externalIP" => external_ip: always as EmptyIsNone<IpAddr>,
});

/// A port of a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointPort {
    /// Name that policy may use.
    pub name: String,
    /// `TCP`, `UDP`, `SCTP` or a number, as Calico writes it.
    pub protocol: serde_json::Value,
    /// Inside the container.
    pub port: u16,
    /// On the host; 0 means none.
    pub host_port: u16,
    /// On this address of the host; empty means all.
    pub host_ip: String,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(EndpointPort {
    "name" => name: unless_default,
    "protocol" => protocol: always,
    "port" => port: always,
    "hostPort" => host_port: unless_default,
    "hostIP" => host_ip: unless_default,
});

impl WorkloadEndpointSpec {
    /// The name that the other fields decide; the object must be stored under it.
    pub fn name(&self) -> Result<String, EndpointNameError> {
        let node = ("node", self.node.as_str());
        let orchestrator = ("orchestrator", self.orchestrator.as_str());
        let endpoint = ("endpoint", self.endpoint.as_str());
        let workload = match self.orchestrator.as_str() {
            "k8s" => ("pod", self.pod.as_str()),
            "cni" => ("containerID", self.container_id.as_str()),
            "libnetwork" => orchestrator,
            _ => ("workload", self.workload.as_str()),
        };
        join_endpoint_name(&[node, orchestrator, workload, endpoint])
    }
}

impl WorkloadEndpoint {
    /// An endpoint with the name its fields decide.
    pub fn named(
        namespace: impl Into<String>,
        spec: WorkloadEndpointSpec,
    ) -> Result<Self, EndpointNameError> {
        let mut endpoint = Self::new(spec.name()?, spec);
        endpoint.metadata.namespace = Some(namespace.into());
        Ok(endpoint)
    }
}

impl Spec for WorkloadEndpointSpec {
    const KIND: Kind = Kind::WorkloadEndpoint;
    type Status = Extra;

    fn validate(&self) -> Result<(), FieldError> {
        for (index, network) in self.ip_networks.iter().enumerate() {
            if network.prefix_len() != network.max_prefix_len() {
                return Err(FieldError::new(
                    format!("ipNetworks[{index}]"),
                    network.to_string(),
                    "is more than one address",
                    "write /32 or /128",
                ));
            }
        }
        self.name().map(drop).map_err(|error| {
            FieldError::new(
                error.field,
                error.value,
                "cannot be part of the endpoint's name",
                "it must not be empty, nor start or end with '-'",
            )
        })
    }
}
