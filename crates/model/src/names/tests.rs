// SPDX-License-Identifier: Apache-2.0
//! Vectors of every derived name, and their properties.

use proptest::prelude::*;

use super::*;

#[test]
fn host_interfaces() {
    let prefix = InterfacePrefix::default();
    let pods = [
        ("default", "nginx", "calic440f455693"),
        ("kube-system", "coredns-5d78c9869d-abcde", "cali4d5f75c480c"),
        ("a", "b", "cali69f6642c9d7"),
        ("default", "web-0", "cali0d7763386da"),
    ];
    for (namespace, pod, name) in pods {
        assert_eq!(prefix.pod_interface(namespace, pod), name);
    }
    assert_eq!(prefix.container_interface("4f1c"), "cali4f1c");
    assert_eq!(prefix.container_interface("0123456789abcdef"), "cali0123456789a");
}

#[test]
fn interface_prefixes() {
    let prefix: InterfacePrefix = " eni,cali".parse().unwrap();
    assert_eq!(prefix.as_str(), "eni");
    assert_eq!(prefix.pod_interface("a", "b"), "eni69f6642c9d7");
    for list in ["", ",cali", "a/b", "calic", "a b", "a:b", "é"] {
        let error = list.parse::<InterfacePrefix>().expect_err(list).to_string();
        assert!(error.contains("1 to 4 characters"), "{error}");
    }
}

#[test]
fn handles() {
    assert_eq!(
        container_handle("k8s-pod-network", "4f1c"),
        "k8s-pod-network.4f1c"
    );
    assert_eq!(legacy_pod_handle("default", "web-0"), "default.web-0");
    assert_eq!(effective_handle("net.4f1c\r\neth0"), "net.4f1c");
    assert_eq!(effective_handle("net.4f1c"), "net.4f1c");
    let tunnels = [
        (TunnelKind::Ipip, "ipip-tunnel-addr-n", "ipipTunnelAddress"),
        (TunnelKind::Vxlan, "vxlan-tunnel-addr-n", "vxlanTunnelAddress"),
        (
            TunnelKind::VxlanV6,
            "vxlan-v6-tunnel-addr-n",
            "vxlanV6TunnelAddress",
        ),
        (
            TunnelKind::Wireguard,
            "wireguard-tunnel-addr-n",
            "wireguardTunnelAddress",
        ),
        (
            TunnelKind::WireguardV6,
            "wireguard-v6-tunnel-addr-n",
            "wireguardV6TunnelAddress",
        ),
    ];
    for (kind, handle, attribute) in tunnels {
        assert_eq!((kind.handle("n").as_str(), kind.attribute()), (handle, attribute));
    }
}

#[test]
fn endpoint_names() {
    let cases: [(&[&str], &str); 4] = [
        (
            &["node-1", "k8s", "pod-name", "eth0"],
            "node--1-k8s-pod--name-eth0",
        ),
        (
            &["node-1", "cni", "abcdefa0123456", "eth0"],
            "node--1-cni-abcdefa0123456-eth0",
        ),
        (&["node1", "k8s", "web-0", "eth0"], "node1-k8s-web--0-eth0"),
        (&["n", "k8s", "a--b", "eth0"], "n-k8s-a----b-eth0"),
    ];
    for (segments, name) in cases {
        let named: Vec<_> = segments.iter().map(|segment| ("segment", *segment)).collect();
        assert_eq!(join_endpoint_name(&named).unwrap(), name);
        assert_eq!(split_endpoint_name(name).unwrap(), segments, "{name}");
    }
    for name in ["", "-", "a-", "-a", "a---b", "--a", "a--", "a--b-", "-----"] {
        assert_eq!(split_endpoint_name(name), None, "{name}");
    }
    for pod in ["", "-web", "web-"] {
        let error = join_endpoint_name(&[("node", "n"), ("pod", pod)]).expect_err(pod);
        assert_eq!((error.field, error.value.as_str()), ("pod", pod));
    }
}

#[test]
fn status_files() {
    assert_eq!(
        endpoint_status_file("k8s", "default/testpod1", "eth0"),
        "k8s default%2Ftestpod1 eth0"
    );
    assert_eq!(
        endpoint_status_file("a b", "c%d;e?é", "$&+=:@~"),
        "a%20b c%25d%3Be%3F%C3%A9 $&+=:@~"
    );
}

#[test]
fn kubernetes_names() {
    let (v4, v6) = (
        "10.244.166.128/26".parse().unwrap(),
        "fd00:10:244::/122".parse().unwrap(),
    );
    assert_eq!(block_object_name(&v4), "10-244-166-128-26");
    assert_eq!(block_object_name(&v6), "fd00-10-244---122");
    let owner = AffinityOwner::Host("node1".into());
    assert_eq!(affinity_object_name(&owner, &v4), "node1-10-244-166-128-26");
    assert_eq!(handle_object_name("k8s-pod-network.4F1C"), "k8s-pod-network.4f1c");
}

/// Long host names: the whole name up to 252 characters, then cut and told apart by a hash.
#[test]
fn long_affinity_names() {
    let block = "10.244.166.128/26".parse().unwrap();
    let name = |length: usize, last: char| {
        let node: String = std::iter::repeat_n('n', length - 1).chain([last]).collect();
        affinity_object_name(&AffinityOwner::Host(node), &block)
    };
    let whole = name(234, 'a');
    assert_eq!(
        (whole.len(), whole.ends_with("na-10-244-166-128-26")),
        (252, true)
    );
    let (one, other) = (name(235, 'a'), name(235, 'b'));
    assert_eq!((one.len(), other.len()), (252, 252));
    assert_ne!(one, other);
    assert!(
        one.starts_with(&format!("{}-10-244-166-128-26-", "n".repeat(222))),
        "{one}"
    );
}

proptest! {
    #[test]
    fn joined_names_split_again(segments in prop::collection::vec("[a-z]([a-z-]{0,6}[a-z])?", 1..5)) {
        let named: Vec<_> = segments.iter().map(|segment| ("segment", segment.as_str())).collect();
        prop_assert_eq!(split_endpoint_name(&join_endpoint_name(&named).unwrap()), Some(segments));
    }

    #[test]
    fn no_name_panics(name in "[a-c-]{0,16}") {
        if let Some(segments) = split_endpoint_name(&name) {
            let named: Vec<_> = segments.iter().map(|segment| ("segment", segment.as_str())).collect();
            prop_assert_eq!(join_endpoint_name(&named).unwrap(), name);
        }
    }
}
