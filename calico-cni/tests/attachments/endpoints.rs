// SPDX-License-Identifier: Apache-2.0
//! What is stored of a pod: the endpoint as Calico names and fills it, the handle, the allocation's attributes.

use model::{IpamBlock, Key, KeyRange, Kind};
use serde_json::{Value, json};

use datastore::Store as _;

use crate::{
    add_with,
    host::{Host, Namespace, address, is_root},
    store, stored,
};

const ARGUMENTS: &str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=u-1";

fn endpoint(host: &Host, namespace: &str, name: &str) -> Option<Value> {
    let key = Key::namespaced(Kind::WorkloadEndpoint, namespace, name);
    stored(host, &key).map(|entry| serde_json::from_str(&entry.value).unwrap())
}

#[test]
fn a_pod_has_the_endpoint_that_calico_expects() {
    if !is_root() {
        return;
    }
    let (host, container) = (Host::new(), Namespace::new("c"));
    let result = add_with(&host, "abc", &container, &host.config(true), ARGUMENTS).ok();
    let stored = endpoint(&host, "shop", "node--a-k8s-web--0-eth0").expect("the endpoint");
    let networks: Vec<&str> = result["ips"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ip| ip["address"].as_str().unwrap())
        .collect();
    let spec = &stored["spec"];
    assert_eq!(
        spec,
        &json!({
            "orchestrator": "k8s", "node": "node-a", "containerID": "abc", "pod": "web-0", "endpoint": "eth0",
            "ipNetworks": networks, "profiles": spec["profiles"],
            "interfaceName": result["interfaces"][0]["name"], "mac": result["interfaces"][1]["mac"],
        })
    );
    assert_eq!(
        stored["metadata"]["labels"]["projectcalico.org/orchestrator"],
        "k8s"
    );
    assert_eq!(
        stored["metadata"]["labels"]["projectcalico.org/namespace"],
        "shop"
    );
    // Felix and calicoctl know the interface of a pod by this hash of "shop.web-0".
    assert_eq!(result["interfaces"][0]["name"], "calia4fc3c48bd8");
    for v6 in [false, true] {
        let blocks = store(&host).list(&KeyRange::Blocks { v6 }).unwrap().entries;
        let [block] = &blocks[..] else {
            panic!("{blocks:?}")
        };
        let block: IpamBlock = block.decode().unwrap();
        let attribute = block
            .attribute(block.allocations.iter().position(Option::is_some).unwrap())
            .unwrap();
        assert_eq!(attribute.handle_id.as_deref(), Some("net.abc"));
        let secondary = json!(attribute.secondary);
        assert_eq!(
            (&secondary["node"], &secondary["namespace"], &secondary["pod"]),
            (&json!("node-a"), &json!("shop"), &json!("web-0"))
        );
    }
    host.run("DEL", "abc", None, &host.config(true), 0).ok();
    host.assert_clean("after DEL");
}

#[test]
fn a_plain_container_has_an_endpoint_of_its_network() {
    if !is_root() {
        return;
    }
    let (host, container) = (Host::new(), Namespace::new("c"));
    let result = host.add("abc", &container).ok();
    let stored = endpoint(&host, "default", "node--a-cni-abc-eth0").expect("the endpoint");
    assert_eq!(stored["spec"]["containerID"], "abc");
    assert_eq!(stored["spec"]["orchestrator"], "cni");
    assert_eq!(stored["spec"]["profiles"], json!(["net"]));
    assert_eq!(
        stored["spec"]["ipNetworks"],
        json!([format!("{}/32", address(&result))])
    );
}

#[test]
fn two_interfaces_of_a_pod_are_two_attachments() {
    if !is_root() {
        return;
    }
    let (host, container) = (Host::new(), Namespace::new("c"));
    let config = host.config(false);
    let run = |verb: &str, interface: &str| {
        let mut command = host.command(verb, "abc", Some(&container.path()), 0);
        command.env("CNI_ARGS", ARGUMENTS).env("CNI_IFNAME", interface);
        Host::finish(command, &config).ok()
    };
    let (first, second) = (run("ADD", "eth0"), run("ADD", "net1"));
    assert_ne!(address(&first), address(&second));
    assert_ne!(first["interfaces"][0]["name"], second["interfaces"][0]["name"]);
    assert_eq!(run("ADD", "net1"), second, "a repeated ADD returns the same");
    run("DEL", "eth0");
    assert!(endpoint(&host, "shop", "node--a-k8s-web--0-eth0").is_none());
    let left = endpoint(&host, "shop", "node--a-k8s-web--0-net1").expect("the other endpoint");
    assert_eq!(
        left["spec"]["ipNetworks"],
        json!([format!("{}/32", address(&second))])
    );
    let state = host.store_state();
    assert!(
        state.contains(&address(&second)) && !state.contains(&address(&first)),
        "{state:?}"
    );
    run("DEL", "net1");
    host.assert_clean("after both");
}
