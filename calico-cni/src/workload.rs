// SPDX-License-Identifier: Apache-2.0
//! Who a container is: its orchestrator, the names Calico derives from that, and the WorkloadEndpoint that other
//! parts of the system (policy, `calicoctl`) see. Names are Calico's (`model::names`), so that both sides agree.

use std::{collections::BTreeMap, net::IpAddr};

use calico_ipam::{
    attachment::{AttachmentId, Pod},
    plugin,
    session::Session,
};
use cni_plugin::Attachment as Request;
use model::{
    WorkloadEndpoint,
    names::{EndpointNameError, InterfacePrefix},
    prefix,
    workload_endpoint::{IpNat, WorkloadEndpointSpec},
};

use crate::{annotations::Annotations, config::Config};

/// Namespace of endpoints that no orchestrator gives one.
const DEFAULT_NAMESPACE: &str = "default";

/// The container side of one attachment, as the runtime described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Node, network, container and interface.
    pub id: AttachmentId,
    /// In Kubernetes, the pod. Namespace and name together: podman sends a name alone.
    pub pod: Option<Pod>,
    /// Namespace for endpoints outside Kubernetes, where one was given.
    pub namespace: Option<String>,
    /// Labels from the configuration (Mesos).
    pub labels: BTreeMap<String, String>,
    /// Whether profiles are those of the pod's namespace; otherwise the profile is the network's.
    pub kubernetes_policy: bool,
}

/// What ADD decided about the container, for its endpoint.
#[derive(Clone, Debug)]
pub struct Wiring<'a> {
    /// Host side of the pair.
    pub host_interface: &'a str,
    /// Container side's MAC address.
    pub mac: &'a str,
    /// The addresses.
    pub addresses: &'a [IpAddr],
    /// What the pod's annotations ask for.
    pub annotations: &'a Annotations,
}

impl Workload {
    /// The container a request is about.
    pub fn of(session: &Session<'_>, config: &Config, request: &Request) -> Self {
        Self {
            id: plugin::attachment_id(session, request),
            pod: plugin::pod(request),
            namespace: config
                .namespace
                .clone()
                .or_else(|| request.args.value("CNI_TEST_NAMESPACE").map(str::to_owned)),
            labels: config.labels.clone(),
            kubernetes_policy: config.kubernetes_policy,
        }
    }

    /// `k8s` or `cni`.
    pub fn orchestrator(&self) -> &'static str {
        if self.pod.is_some() { "k8s" } else { "cni" }
    }

    /// Namespace of the endpoint.
    pub fn endpoint_namespace(&self) -> &str {
        let pod = self.pod.as_ref().map(|pod| pod.namespace.as_str());
        pod.or(self.namespace.as_deref()).unwrap_or(DEFAULT_NAMESPACE)
    }

    /// The name Calico gives the host side: of a pod, by its namespace and name, so that a new sandbox takes over the
    /// name; of any other container, by the start of its ID.
    pub fn calico_interface(&self, prefix: &InterfacePrefix) -> String {
        match &self.pod {
            Some(pod) => prefix.pod_interface(&pod.namespace, &pod.name),
            None => prefix.container_interface(&self.id.container_id),
        }
    }

    /// A name of its own for an attachment that cannot have Calico's: a further interface or network of a container,
    /// or a container whose ID starts like another's.
    pub fn own_interface(&self, prefix: &InterfacePrefix) -> String {
        let AttachmentId {
            network,
            container_id,
            interface,
            ..
        } = &self.id;
        prefix.hashed_interface(&format!("{network}/{container_id}/{interface}"))
    }

    /// Attributes that Calico stores with each address of this container.
    pub fn allocation_attributes(&self, timestamp: String) -> BTreeMap<String, String> {
        let mut attributes = BTreeMap::from([
            ("node".to_owned(), self.id.node.clone()),
            ("timestamp".to_owned(), timestamp),
        ]);
        if let Some(pod) = &self.pod {
            attributes.insert("pod".to_owned(), pod.name.clone());
            attributes.insert("namespace".to_owned(), pod.namespace.clone());
        }
        attributes
    }

    /// The name of this container's endpoint. Fails for the few container IDs and interface names that CNI allows and
    /// endpoint names cannot hold (a dash at either end).
    pub fn endpoint_name(&self) -> Result<String, EndpointNameError> {
        self.identity_spec().name()
    }

    /// The endpoint to store.
    pub fn endpoint(&self, wiring: &Wiring<'_>) -> Result<WorkloadEndpoint, EndpointNameError> {
        let nats = wiring.annotations.floating.iter().filter_map(|floating| {
            let internal = wiring
                .addresses
                .iter()
                .find(|address| address.is_ipv4() == floating.is_ipv4())?;
            Some(IpNat {
                internal_ip: Some(*internal),
                external_ip: Some(*floating),
                ..IpNat::default()
            })
        });
        let spec = WorkloadEndpointSpec {
            interface_name: wiring.host_interface.to_owned(),
            mac: wiring.mac.to_owned(),
            ip_networks: wiring
                .addresses
                .iter()
                .map(|address| prefix::host_prefix(*address))
                .collect(),
            ip_nats: nats.collect(),
            allow_spoofed_source_prefixes: wiring.annotations.allowed_source_prefixes.clone(),
            profiles: vec![self.profile()],
            ..self.identity_spec()
        };
        let mut endpoint = WorkloadEndpoint::named(self.endpoint_namespace(), spec)?;
        let labels = &mut endpoint.metadata.labels;
        labels.extend(self.labels.clone());
        labels.insert(
            "projectcalico.org/namespace".to_owned(),
            self.endpoint_namespace().to_owned(),
        );
        labels.insert(
            "projectcalico.org/orchestrator".to_owned(),
            self.orchestrator().to_owned(),
        );
        Ok(endpoint)
    }

    fn profile(&self) -> String {
        match &self.pod {
            Some(pod) if self.kubernetes_policy => format!("kns.{}", pod.namespace),
            _ => self.id.network.clone(),
        }
    }

    fn identity_spec(&self) -> WorkloadEndpointSpec {
        WorkloadEndpointSpec {
            orchestrator: self.orchestrator().to_owned(),
            node: self.id.node.clone(),
            container_id: self.id.container_id.clone(),
            pod: self.pod.as_ref().map(|pod| pod.name.clone()).unwrap_or_default(),
            endpoint: self.id.interface.clone(),
            ..WorkloadEndpointSpec::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(pod: Option<(&str, &str)>) -> Workload {
        Workload {
            id: AttachmentId {
                node: "node-1".into(),
                network: "k8s-pod-network".into(),
                container_id: "abcdefa0123456".into(),
                interface: "eth0".into(),
            },
            pod: pod.map(|(namespace, name)| Pod {
                namespace: namespace.into(),
                name: name.into(),
            }),
            namespace: None,
            labels: BTreeMap::new(),
            kubernetes_policy: true,
        }
    }

    fn wiring(annotations: &Annotations) -> Wiring<'_> {
        const ADDRESSES: [IpAddr; 1] = [IpAddr::V4(std::net::Ipv4Addr::new(10, 9, 0, 5))];
        Wiring {
            host_interface: "calic440f455693",
            mac: "aa:bb:cc:00:11:22",
            addresses: &ADDRESSES,
            annotations,
        }
    }

    #[test]
    fn names_are_those_of_calico() {
        let prefix = InterfacePrefix::default();
        let pod = workload(Some(("default", "nginx")));
        assert_eq!(pod.calico_interface(&prefix), "calic440f455693");
        assert_eq!(pod.endpoint_name().unwrap(), "node--1-k8s-nginx-eth0");
        let plain = workload(None);
        assert_eq!(plain.calico_interface(&prefix), "caliabcdefa0123");
        assert_eq!(plain.endpoint_name().unwrap(), "node--1-cni-abcdefa0123456-eth0");
        let own = plain.own_interface(&prefix);
        assert_eq!(own.len(), 15);
        assert_ne!(
            own,
            Workload {
                id: AttachmentId {
                    interface: "eth1".into(),
                    ..plain.id.clone()
                },
                ..plain
            }
            .own_interface(&prefix)
        );
    }

    #[test]
    fn a_pod_endpoint_has_what_policy_needs() {
        let annotations = Annotations {
            floating: vec!["203.0.113.4".parse().unwrap(), "2001:db8::9".parse().unwrap()],
            ..Annotations::default()
        };
        let endpoint = workload(Some(("shop", "web-0")))
            .endpoint(&wiring(&annotations))
            .unwrap();
        assert_eq!(endpoint.metadata.namespace.as_deref(), Some("shop"));
        assert_eq!(endpoint.metadata.labels["projectcalico.org/orchestrator"], "k8s");
        assert_eq!(endpoint.spec.profiles, ["kns.shop"]);
        assert_eq!(endpoint.spec.ip_networks[0].to_string(), "10.9.0.5/32");
        assert_eq!(
            endpoint.spec.ip_nats.len(),
            1,
            "an address without a partner of its family is left out"
        );
    }

    #[test]
    fn a_plain_container_has_the_profile_of_its_network() {
        let endpoint = workload(None).endpoint(&wiring(&Annotations::default())).unwrap();
        assert_eq!(endpoint.spec.profiles, ["k8s-pod-network"]);
        assert_eq!(endpoint.metadata.namespace.as_deref(), Some("default"));
        assert!(
            !workload(None)
                .allocation_attributes("t".into())
                .contains_key("pod")
        );
    }
}
