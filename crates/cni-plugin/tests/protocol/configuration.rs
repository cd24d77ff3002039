// SPDX-License-Identifier: Apache-2.0
//! What a plugin is told of its configuration: previous results, capabilities, valid attachments, spelling.

use std::collections::BTreeMap;

use cni_plugin::{Code, NetworkConfig, RuntimeConfig, SUPPORTED_VERSIONS, ValidAttachment, Version};
use serde_json::{Value, json};

use crate::recorder::{Recorder, VERBS, call, environment};

fn with(version: &str, key: &str, value: &Value) -> String {
    json!({"cniVersion": version, "name": "net", key: value}).to_string()
}

fn parse(key: &str, value: &Value) -> NetworkConfig {
    NetworkConfig::parse(with("1.1.0", key, value).as_bytes()).unwrap()
}

/// The message of a configuration that is refused with code 7.
fn refused(key: &str, value: &Value) -> String {
    let error = NetworkConfig::parse(with("1.1.0", key, value).as_bytes()).unwrap_err();
    assert_eq!(error.code, Code::InvalidConfig, "{error}");
    error.to_string()
}

fn previous(version: Version) -> Value {
    if version < Version::V0_3_0 {
        json!({"cniVersion": version.to_string(), "ip4": {"ip": "10.1.2.3/24"}})
    } else {
        json!({"cniVersion": version.to_string(), "ips": [{"version": "4", "address": "10.1.2.3/24"}]})
    }
}

#[test]
fn previous_results_are_read_in_whatever_version_they_are() {
    for config in SUPPORTED_VERSIONS {
        for result in SUPPORTED_VERSIONS {
            let text = with(&config.to_string(), "prevResult", &previous(result));
            let config = NetworkConfig::parse(text.as_bytes()).unwrap();
            let ips = config.prev_result.unwrap().ips;
            assert_eq!(ips[0].address.to_string(), "10.1.2.3/24", "{text}");
        }
        // Without a version of its own it has the configuration's.
        for absent in [None, Some(json!("")), Some(Value::Null)] {
            let mut value = previous(config);
            match absent {
                None => drop(value.as_object_mut().unwrap().remove("cniVersion")),
                Some(absent) => value["cniVersion"] = absent,
            }
            let text = with(&config.to_string(), "prevResult", &value);
            let config = NetworkConfig::parse(text.as_bytes()).unwrap();
            assert_eq!(config.prev_result.unwrap().ips.len(), 1, "{text}");
        }
    }
}

#[test]
fn no_previous_result_is_none() {
    assert_eq!(parse("prevResult", &Value::Null).prev_result, None);
    assert_eq!(parse("other", &Value::Null).prev_result, None);
}

#[test]
fn an_unreadable_previous_result_stops_add_and_check_but_no_clean_up() {
    for (value, code, part) in [
        (json!({"cniVersion": "8.9.9"}), 1, "8.9.9"),
        (json!({"cniVersion": "0.9.0"}), 1, "0.9.0"),
        (json!({"cniVersion": "x"}), 6, "x"),
        (json!(5), 6, "5"),
        (json!({"ips": [{"address": 5}]}), 6, "address"),
    ] {
        for verb in VERBS {
            let plugin = Recorder::default();
            let outcome = call(&plugin, &environment(verb), &with("1.1.0", "prevResult", &value));
            if ["ADD", "CHECK"].contains(&verb) {
                let message = outcome.failed(code);
                assert!(
                    message.contains("prevResult") && message.contains(part),
                    "{message}"
                );
            } else {
                outcome.silent();
                assert_eq!(plugin.calls.borrow()[0].1.config.prev_result, None);
            }
        }
    }
}

#[test]
fn capabilities_have_their_shapes() {
    let config = parse(
        "runtimeConfig",
        &json!({
            "ips": ["192.168.0.1", "10.10.0.1/24", "2001:db8::1/64"],
            "mac": "c2:11:22:33:44:55",
            "dns": {"servers": ["10.96.0.10"], "searches": ["a.b"], "options": ["ndots:5"]},
            "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}],
            "bandwidth": {"ingressRate": 1, "ingressBurst": 2},
            "io.kubernetes.cri.pod-annotations": {"a": "b", "empty": null},
            "ipRanges": [[{"subnet": "10.1.2.0/24"}]], "aliases": ["x"], "cgroupPath": "/a", "deviceID": "0000:00:1f.6",
        }),
    );
    let runtime = config.runtime;
    let ips: Vec<String> = runtime.ips.iter().map(ToString::to_string).collect();
    assert_eq!(ips, ["192.168.0.1", "10.10.0.1", "2001:db8::1"]);
    assert_eq!(runtime.mac.as_deref(), Some("c2:11:22:33:44:55"));
    assert_eq!(runtime.dns.servers, ["10.96.0.10"]);
    assert_eq!(runtime.dns.searches, ["a.b"]);
    assert_eq!(runtime.dns.options, ["ndots:5"]);
    assert_eq!((runtime.port_mappings, runtime.bandwidth), (1, true));
    let annotations = BTreeMap::from([("a", "b"), ("empty", "")].map(|(k, v)| (k.to_owned(), v.to_owned())));
    assert_eq!(runtime.pod_annotations, Some(annotations));
}

#[test]
fn capitalised_and_null_capabilities_are_what_they_are() {
    // As a runtime writes them that encodes Go structures as they are.
    let config = parse(
        "RuntimeConfig",
        &json!({
            "DNS": {"Servers": ["1.1.1.1"], "Searches": null, "Options": null},
            "PortMappings": [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}],
            "bandwidth": null, "ips": null, "mac": null, "io.kubernetes.cri.pod-annotations": null,
        }),
    );
    assert_eq!(config.runtime.dns.servers, ["1.1.1.1"]);
    assert_eq!(
        (config.runtime.port_mappings, config.runtime.bandwidth),
        (1, false)
    );
    assert_eq!(config.runtime.pod_annotations, None);
    assert!(config.runtime.ips.is_empty() && config.runtime.mac.is_none());
    for absent in [json!({}), Value::Null] {
        assert_eq!(parse("runtimeConfig", &absent).runtime, RuntimeConfig::default());
    }
}

#[test]
fn capabilities_of_another_shape_are_refused_by_name() {
    for (key, value) in [
        ("ips", json!(["10.0.0.256"])),
        ("ips", json!("10.0.0.1")),
        ("ips", json!([5])),
        ("mac", json!(5)),
        ("dns", json!([])),
        ("dns", json!({"servers": "1.1.1.1"})),
        ("portMappings", json!({})),
        ("portMappings", json!([{"hostPort": 80}])),
        ("io.kubernetes.cri.pod-annotations", json!({"a": 5})),
        ("io.kubernetes.cri.pod-annotations", json!([])),
    ] {
        let message = refused("runtimeConfig", &json!({key: value}));
        assert!(message.contains(key), "{message}");
    }
    refused("runtimeConfig", &json!([]));
}

const NEW: &str = "cni.dev/valid-attachments";
const OLD: &str = "cni.dev/attachments";

#[test]
fn valid_attachments_are_unknown_none_or_some() {
    let one = json!([{"containerID": "abc", "ifname": "eth0"}]);
    let read = vec![ValidAttachment {
        container_id: "abc".to_owned(),
        interface: "eth0".to_owned(),
    }];
    let parse = |value: Value| {
        let mut config = json!({"cniVersion": "1.1.0", "name": "net"});
        config
            .as_object_mut()
            .unwrap()
            .extend(value.as_object().unwrap().clone());
        NetworkConfig::parse(config.to_string().as_bytes())
            .unwrap()
            .valid_attachments
    };
    assert_eq!(
        parse(json!({})),
        None,
        "no key: nothing is known, nothing may be removed"
    );
    assert_eq!(parse(json!({NEW: []})), Some(Vec::new()));
    assert_eq!(parse(json!({NEW: null})), Some(Vec::new()));
    assert_eq!(parse(json!({NEW: one})), Some(read.clone()));
    assert_eq!(parse(json!({OLD: one})), Some(read.clone()));
    assert_eq!(parse(json!({OLD: null})), Some(Vec::new()));
    assert_eq!(parse(json!({NEW: one, OLD: []})), Some(read), "the new key wins");
    assert_eq!(parse(json!({NEW: [], OLD: one})), Some(Vec::new()));
}

#[test]
fn unreadable_valid_attachments_are_never_an_empty_list() {
    for value in [
        json!({}),
        json!("abc"),
        json!([null]),
        json!(["abc"]),
        json!([{}]),
        json!([{"containerID": 5, "ifname": "eth0"}]),
    ] {
        for key in [NEW, OLD] {
            let plugin = Recorder::default();
            let message = call(&plugin, &environment("GC"), &with("1.1.0", key, &value)).failed(7);
            assert!(message.contains(key), "{message}");
            assert!(plugin.verbs().is_empty());
        }
    }
}

#[test]
fn keys_are_found_in_any_case_and_unknown_ones_tolerated() {
    let text = r#"{"CNIVersion": "0.4.0", "Name": "net", "Type": "test", "capabilities": {"portMappings": true},
        "args": {"cni": {"labels": []}}, "IPAM": {"Type": "host-local"}, "DNS": {"Nameservers": ["1.1.1.1"]},
        "PrevResult": {"IPs": [{"Address": "10.1.2.3/24", "Interface": 0}]}, "cni.dev/something": 1}"#;
    let config = NetworkConfig::parse(text.as_bytes()).unwrap();
    assert_eq!(config.cni_version, Version::V0_4_0);
    assert_eq!(config.name.as_str(), "net");
    assert_eq!(config.ipam_type().unwrap(), Some("host-local"));
    assert_eq!(config.dns.nameservers, ["1.1.1.1"]);
    assert_eq!(config.prev_result.as_ref().unwrap().ips[0].interface, Some(0));
    assert_eq!(config.tree()["cni.dev/something"], 1);
}

#[test]
fn the_last_of_a_repeated_key_wins() {
    let text = r#"{"name": "first", "name": "last", "cniVersion": "0.4.0", "cniVersion": "1.0.0"}"#;
    let config = NetworkConfig::parse(text.as_bytes()).unwrap();
    assert_eq!(config.name.as_str(), "last");
    assert_eq!(config.cni_version, Version::V1_0_0);
}

#[test]
fn well_known_keys_of_a_wrong_type_are_refused_by_name() {
    for (key, value) in [
        ("dns", json!([])),
        ("dns", json!({"nameservers": "1.1.1.1"})),
        ("dns", json!({"domain": 5})),
    ] {
        let message = refused(key, &value);
        assert!(message.contains("dns"), "{message}");
    }
    assert!(parse("ipam", &json!({})).ipam_type().unwrap().is_none());
    for ipam in [json!("host-local"), json!({"type": 5})] {
        assert_eq!(
            parse("ipam", &ipam).ipam_type().unwrap_err().code,
            Code::InvalidConfig
        );
    }
}
