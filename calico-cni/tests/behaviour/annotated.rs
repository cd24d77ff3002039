// SPDX-License-Identifier: Apache-2.0
//! Pods with annotations, policy and labels: what of it is in the kernel, the endpoint and the store.

use datastore::Store as _;
use model::{IpPool, Key, KeyRange, Kind, ip_pool::IpPoolSpec};
use serde_json::{Value, json};

use crate::{
    assert_refused, commit, forget, holds,
    host::{Answer, Host, Namespace, address, ip, is_root},
    store, stored,
};

/// ADD or DEL of a sandbox of pod `shop/web-0` with annotations.
fn run(
    host: &Host,
    verb: &str,
    sandbox: &str,
    container: &Namespace,
    annotations: &[(&str, &str)],
    change: impl Fn(&mut Value),
) -> Answer {
    let mut config = host.config(false);
    let annotations: Value = annotations
        .iter()
        .map(|(name, value)| (format!("cni.projectcalico.org/{name}"), json!(value)))
        .collect();
    config["runtimeConfig"] = json!({"io.kubernetes.cri.pod-annotations": annotations});
    change(&mut config);
    let mut command = host.command(verb, sandbox, Some(&container.path()), 0);
    command.env("CNI_ARGS", "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0");
    Host::finish(command, &config)
}

fn as_is(_: &mut Value) {}

fn endpoint(host: &Host, namespace: &str, name: &str) -> Value {
    let key = Key::namespaced(Kind::WorkloadEndpoint, namespace, name);
    let entry = stored(host, &key).unwrap_or_else(|| panic!("{key} is stored"));
    serde_json::from_str(&entry.value).expect("JSON")
}

/// A host with a store and the pool 10.66.0.0/24 named `special`.
fn host() -> Host {
    let (host, container) = (Host::new(), Namespace::new("c"));
    host.add("first", &container).ok();
    host.del("first", &container).ok();
    let spec = IpPoolSpec::new("10.66.0.0/24".parse().expect("a prefix"));
    let pool = IpPool::new("special", spec);
    let key = Key::resource(Kind::IpPool, "special");
    commit(&host, vec![datastore::Write::create(key, &pool)]);
    host
}

#[test]
fn annotations_reach_the_kernel_and_the_endpoint() {
    if !is_root() {
        return;
    }
    let (host, container) = (host(), Namespace::new("c"));
    let annotations = [
        ("ipAddrs", r#"["10.66.0.7"]"#),
        ("hwAddr", "ca:fe:ca:fe:ca:fe"),
        ("floatingIPs", r#"["203.0.113.4","2001:db8::9"]"#),
        ("allowedSourcePrefixes", r#"["8.8.0.0/16"]"#),
    ];
    let result = run(&host, "ADD", "abc", &container, &annotations, |config| {
        config["feature_control"] = json!({"floating_ips": true});
        config["policy"] = json!({"type": "k8s"});
    })
    .ok();
    assert_eq!(address(&result), "10.66.0.7");
    assert_eq!(result["interfaces"][1]["mac"], "ca:fe:ca:fe:ca:fe");
    let link = ip(&["-n", &container.0, "link", "show", "eth0"]);
    assert!(link.contains("link/ether ca:fe:ca:fe:ca:fe"), "{link}");
    let name = result["interfaces"][0]["name"].as_str().expect("text");
    let setting = format!("/proc/sys/net/ipv4/conf/{name}/rp_filter");
    let rp_filter = ip(&["netns", "exec", &host.namespace.0, "cat", &setting]);
    assert_eq!(rp_filter.trim(), "0", "other sources are let through");
    assert_eq!(
        endpoint(&host, "shop", "node--a-k8s-web--0-eth0")["spec"],
        json!({
            "orchestrator": "k8s", "node": "node-a", "containerID": "abc", "pod": "web-0", "endpoint": "eth0",
            "ipNetworks": ["10.66.0.7/32"], "profiles": ["kns.shop"], "interfaceName": name,
            "mac": "ca:fe:ca:fe:ca:fe", "allowSpoofedSourcePrefixes": ["8.8.0.0/16"],
            "ipNATs": [{"internalIP": "10.66.0.7", "externalIP": "203.0.113.4"}],
        })
    );
    run(&host, "DEL", "abc", &container, &[], as_is).ok();
    host.assert_clean("after a DEL without annotations");
}

#[test]
fn annotations_win_over_the_configuration() {
    if !is_root() {
        return;
    }
    let host = host();
    for (annotation, change, start) in [
        (
            ("ipv4pools", r#"["special"]"#),
            json!({"ipv4_pools": ["default-ipv4-ippool"]}),
            "10.66.0.",
        ),
        (("ipv4pools", r#"["10.66.0.0/24"]"#), json!({}), "10.66.0."),
        (
            ("ipFamilies", r#"["IPv6"]"#),
            json!({"assign_ipv4": true}),
            "fd00:65:",
        ),
    ] {
        let container = Namespace::new("c");
        let result = run(&host, "ADD", "abc", &container, &[annotation], |config| {
            let ipam = config["ipam"].as_object_mut().expect("an object");
            ipam.extend(change.as_object().expect("an object").clone());
        })
        .ok();
        assert_eq!(result["ips"].as_array().map(Vec::len), Some(1), "{result}");
        assert!(address(&result).starts_with(start), "{annotation:?}: {result}");
        run(&host, "DEL", "abc", &container, &[], as_is).ok();
    }
    host.assert_clean("after all DELs");
}

#[test]
fn an_address_past_ipam_is_wired_and_not_allocated() {
    if !is_root() {
        return;
    }
    let (host, container) = (host(), Namespace::new("c"));
    let annotations = [("ipAddrsNoIpam", r#"["10.66.0.9"]"#)];
    let answer = run(&host, "ADD", "abc", &container, &annotations, as_is);
    assert_refused(
        &host,
        &container,
        &answer,
        7,
        &["ipAddrsNoIpam", "ip_addrs_no_ipam"],
    );
    let allowed = |config: &mut Value| config["feature_control"] = json!({"ip_addrs_no_ipam": true});
    let result = run(&host, "ADD", "abc", &container, &annotations, allowed).ok();
    assert_eq!(address(&result), "10.66.0.9");
    let route = ip(&["-n", &host.namespace.0, "route", "get", "10.66.0.9"]);
    assert!(route.contains("dev cali"), "{route}");
    assert!(!holds(&host, "10.66.0.9"), "{:?}", host.store_state());
    let again = run(&host, "ADD", "abc", &container, &annotations, allowed).ok();
    assert_eq!(again, result, "a repeated ADD");
    run(&host, "DEL", "abc", &container, &[], as_is).ok();
    host.assert_clean("after DEL");
}

#[test]
fn what_an_annotation_may_not_ask_for_leaves_nothing() {
    if !is_root() {
        return;
    }
    let (host, container) = (host(), Namespace::new("c"));
    for (name, value) in [
        ("ipv4pools", r#"["no-such"]"#),
        ("ipv4pools", "special"),
        ("ipv6pools", r#"["no-such-six"]"#),
        ("ipAddrs", r#"["10.99.0.1"]"#),
        ("ipAddrs", r#"["10.66.0.1","10.66.0.2"]"#),
        ("ipFamilies", r#"["IPv5"]"#),
        ("floatingIPs", r#"["203.0.113.4"]"#),
        ("allowedSourcePrefixes", r#"["8.8.0.0/33"]"#),
        ("hwAddr", "01:00:5e:00:00:01"),
    ] {
        let answer = run(&host, "ADD", "abc", &container, &[(name, value)], |config| {
            config["ipam"]["assign_ipv6"] = json!(true);
        });
        let named = match value {
            r#"["no-such"]"# => "no-such",
            r#"["no-such-six"]"# => "no-such-six",
            r#"["10.99.0.1"]"# => "10.99.0.1",
            _ => name,
        };
        assert_refused(&host, &container, &answer, 7, &[named]);
    }
}

#[test]
fn the_profile_is_the_networks_without_kubernetes_policy() {
    if !is_root() {
        return;
    }
    let (host, container) = (host(), Namespace::new("c"));
    run(&host, "ADD", "abc", &container, &[], as_is).ok();
    let endpoint = endpoint(&host, "shop", "node--a-k8s-web--0-eth0");
    assert_eq!(endpoint["spec"]["profiles"], json!(["net"]));
    assert_eq!(endpoint["kind"], "WorkloadEndpoint");
    assert_eq!(endpoint["apiVersion"], "projectcalico.org/v3");
    assert_eq!(endpoint["metadata"]["name"], "node--a-k8s-web--0-eth0");
    assert_eq!(endpoint["metadata"]["namespace"], "shop");
    assert_eq!(
        endpoint["metadata"]["labels"],
        json!({"projectcalico.org/namespace": "shop", "projectcalico.org/orchestrator": "k8s"})
    );
}

#[test]
fn the_endpoint_of_a_new_sandbox_is_the_same_object() {
    if !is_root() {
        return;
    }
    let host = host();
    let (old, new) = (Namespace::new("c"), Namespace::new("c"));
    let name = "node--a-k8s-web--0-eth0";
    run(&host, "ADD", "old", &old, &[], as_is).ok();
    let before = endpoint(&host, "shop", name);
    let result = run(&host, "ADD", "new", &new, &[], as_is).ok();
    let after = endpoint(&host, "shop", name);
    for field in ["uid", "creationTimestamp"] {
        assert!(before["metadata"][field].is_string(), "{before}");
        assert_eq!(after["metadata"][field], before["metadata"][field], "{field}");
    }
    assert_eq!(after["spec"]["containerID"], "new");
    run(&host, "DEL", "old", &old, &[], as_is).ok();
    assert_eq!(
        endpoint(&host, "shop", name),
        after,
        "a late DEL changes nothing of it"
    );
    assert!(holds(&host, &address(&result)));
}

#[test]
fn labels_of_mesos_reach_the_endpoint() {
    if !is_root() {
        return;
    }
    let (host, container) = (host(), Namespace::new("c"));
    let mut config = host.config(false);
    config["args"] = json!({"org.apache.mesos": {"network_info": {"labels": {"labels": [
        {"key": "projectcalico.org/namespace", "value": "team a"},
        {"key": "rack", "value": "-r 7!"},
    ]}}}});
    host.run("ADD", "abc", Some(&container.path()), &config, 0).ok();
    let stored = endpoint(&host, "team-a", "node--a-cni-abc-eth0");
    assert_eq!(
        stored["metadata"]["labels"],
        json!({
            "rack": "r-7", "projectcalico.org/namespace": "team-a", "projectcalico.org/orchestrator": "cni",
        })
    );
    // DEL knows the endpoint by the record: runtimes leave `args` out.
    host.del("abc", &container).ok();
    host.assert_clean("after DEL");
}

#[test]
fn a_handle_counts_the_addresses_of_each_block() {
    if !is_root() {
        return;
    }
    let (host, container) = (host(), Namespace::new("c"));
    let interface = |verb: &str, name: &str| {
        let mut command = host.command(verb, "abc", Some(&container.path()), 0);
        command.env("CNI_IFNAME", name);
        Host::finish(command, &host.config(true)).ok()
    };
    let counts = || -> Vec<u64> {
        let entry = stored(&host, &Key::Handle("net.abc".to_owned())).expect("the handle");
        let value: Value = serde_json::from_str(&entry.value).expect("JSON");
        let mut blocks: Vec<String> = [false, true]
            .iter()
            .flat_map(|v6| {
                store(&host)
                    .list(&KeyRange::Blocks { v6: *v6 })
                    .expect("blocks")
                    .entries
            })
            .filter_map(|entry| {
                let block: Value = serde_json::from_str(&entry.value).ok()?;
                Some(block["cidr"].as_str()?.to_owned())
            })
            .collect();
        blocks.sort();
        let counted = value["block"].as_object().expect("blocks");
        assert_eq!(counted.keys().cloned().collect::<Vec<_>>(), blocks);
        counted.values().filter_map(Value::as_u64).collect()
    };
    interface("ADD", "eth0");
    assert_eq!(counts(), [1, 1]);
    interface("ADD", "net1");
    assert_eq!(counts(), [2, 2]);
    interface("DEL", "eth0");
    assert_eq!(counts(), [1, 1]);
    interface("DEL", "net1");
    host.assert_clean("after both");
}

#[test]
fn an_endpoint_that_is_gone_does_not_keep_del_from_the_rest() {
    if !is_root() {
        return;
    }
    let (host, container) = (host(), Namespace::new("c"));
    run(&host, "ADD", "abc", &container, &[], as_is).ok();
    let key = Key::namespaced(Kind::WorkloadEndpoint, "shop", "node--a-k8s-web--0-eth0");
    forget(&host, key);
    run(&host, "DEL", "abc", &container, &[], as_is).ok();
    host.assert_clean("after DEL");
}
