// SPDX-License-Identifier: Apache-2.0
//! Results in every version against golden JSON (`testdata/cni`), and conversions between versions.

use std::{fs, path::Path};

use cni_plugin::{AddResult, Code, SUPPORTED_VERSIONS, Version};
use serde_json::{Value, json};

fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata/cni")
        .join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read(value: &Value) -> AddResult {
    AddResult::from_json(value, Version::V1_1_0).unwrap_or_else(|error| panic!("{value}: {error}"))
}

fn refused(value: &Value) -> String {
    let error = AddResult::from_json(value, Version::V1_1_0).unwrap_err();
    assert_eq!(error.code, Code::Decoding, "{error}");
    error.to_string()
}

#[test]
fn a_full_result_is_printed_as_each_version_has_it() {
    let full = read(&golden("result-full-1.1.0.json"));
    for version in SUPPORTED_VERSIONS {
        let printed = full.to_json(version).unwrap();
        assert_eq!(
            printed,
            golden(&format!("result-full-{version}.json")),
            "{version}"
        );
    }
}

#[test]
fn an_ipam_result_is_printed_as_each_version_has_it() {
    let ipam = read(&golden("result-ipam-1.1.0.json"));
    for version in SUPPORTED_VERSIONS {
        let printed = ipam.to_json(version).unwrap();
        assert_eq!(
            printed,
            golden(&format!("result-ipam-{version}.json")),
            "{version}"
        );
    }
}

#[test]
fn every_golden_result_survives_its_own_version() {
    for kind in ["full", "ipam"] {
        for version in SUPPORTED_VERSIONS {
            let stored = golden(&format!("result-{kind}-{version}.json"));
            assert_eq!(
                read(&stored).to_json(version).unwrap(),
                stored,
                "{kind} {version}"
            );
        }
    }
}

#[test]
fn conversions_between_any_two_versions_keep_what_both_can_say() {
    for kind in ["full", "ipam"] {
        for from in SUPPORTED_VERSIONS {
            let result = read(&golden(&format!("result-{kind}-{from}.json")));
            for to in SUPPORTED_VERSIONS {
                let there = read(&result.to_json(to).unwrap());
                let lower = from.min(to);
                // What is left is what the lower of the two versions can say.
                let expected = golden(&format!("result-{kind}-{lower}.json"));
                let mut back = there.to_json(lower).unwrap();
                back["cniVersion"] = lower.to_string().into();
                assert_eq!(back, expected, "{kind}: {from} to {to}");
            }
        }
    }
}

#[test]
fn the_first_two_versions_differ_in_their_number_only() {
    for (from, to) in [
        (Version::V0_1_0, Version::V0_2_0),
        (Version::V0_2_0, Version::V0_1_0),
    ] {
        for routes in [
            json!([{"dst": "0.0.0.0/0", "gw": "10.1.2.1"}]),
            json!([{"dst": "15.5.6.0/24"}]),
        ] {
            let value = json!({"cniVersion": from.to_string(), "ip4": {"ip": "10.1.2.3/24", "gateway": "10.1.2.1", "routes": routes},
                "dns": {"nameservers": ["1.2.3.4"]}});
            let mut expected = value.clone();
            expected["cniVersion"] = to.to_string().into();
            assert_eq!(read(&value).to_json(to).unwrap(), expected);
        }
    }
}

#[test]
fn the_old_form_becomes_the_new_one_in_order() {
    let old = json!({"cniVersion": "0.2.0",
        "ip6": {"ip": "fd00::2/64", "routes": [{"dst": "::/0"}]},
        "ip4": {"ip": "10.1.2.3/24", "gateway": "10.1.2.1", "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.2.254"}]},
        "dns": {"domain": "a.b"}});
    assert_eq!(
        read(&old).to_json(Version::V0_4_0).unwrap(),
        json!({"cniVersion": "0.4.0",
            "ips": [{"version": "4", "address": "10.1.2.3/24", "gateway": "10.1.2.1"}, {"version": "6", "address": "fd00::2/64"}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.2.254"}, {"dst": "::/0"}],
            "dns": {"domain": "a.b"}})
    );
}

#[test]
fn the_old_form_has_room_for_one_address_of_each_version() {
    let result = read(&json!({"interfaces": [{"name": "eth0"}],
        "ips": [{"address": "10.0.0.1/8"}, {"address": "10.0.0.2/8"}],
        "routes": [{"dst": "::/0"}, {"dst": "10.0.0.0/8", "mtu": 1400}]}));
    for version in [Version::V0_1_0, Version::V0_2_0] {
        assert_eq!(
            result.to_json(version).unwrap(),
            json!({"cniVersion": version.to_string(), "ip4": {"ip": "10.0.0.1/8", "routes": [{"dst": "10.0.0.0/8"}]}, "dns": {}})
        );
        let none = read(&json!({"interfaces": [{"name": "eth0"}]}));
        let error = none.to_json(version).unwrap_err();
        assert!(error.message.contains("address"), "{error}");
    }
}

#[test]
fn an_index_of_zero_is_printed_and_an_unknown_one_is_not() {
    for (index, expected) in [
        (json!(0), Some(0)),
        (json!(3), Some(3)),
        (json!(-1), None),
        (Value::Null, None),
    ] {
        let result = read(&json!({"ips": [{"interface": index, "address": "10.1.2.3/24"}]}));
        assert_eq!(result.ips[0].interface, expected);
        for version in SUPPORTED_VERSIONS
            .into_iter()
            .filter(|version| *version >= Version::V0_3_0)
        {
            let printed = result.to_json(version).unwrap();
            assert_eq!(
                printed["ips"][0].get("interface"),
                expected.map(Value::from).as_ref()
            );
        }
    }
    for index in [json!("0"), json!(1.5), json!({})] {
        assert!(
            refused(&json!({"ips": [{"interface": index, "address": "10.1.2.3/24"}]})).contains("interface")
        );
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    for (value, part) in [
        (json!({"ips": [{"address": 5}]}), "\"address\": 5"),
        (json!({"ips": [{"address": "10.1.2.3"}]}), "10.1.2.3"),
        (json!({"ips": [{}]}), "address"),
        (
            json!({"ips": [{"address": "10.1.2.3/24", "gateway": "x"}]}),
            "gateway",
        ),
        (json!({"ips": {}}), "ips"),
        (json!({"ips": [null]}), "ips"),
        (json!({"interfaces": [{"name": 5}]}), "name"),
        (json!({"interfaces": [{"name": "eth0", "mtu": "1500"}]}), "mtu"),
        (json!({"routes": [{"dst": "nowhere"}]}), "nowhere"),
        (
            json!({"routes": [{"dst": "0.0.0.0/0", "priority": -1}]}),
            "priority",
        ),
        (json!({"dns": []}), "dns"),
        (json!({"dns": {"search": [5]}}), "search"),
        (json!({"cniVersion": 1}), "cniVersion"),
        (json!({"cniVersion": "one"}), "one"),
        (json!({"cniVersion": "0.2.0", "ip4": {"ip": "fd00::1/64"}}), "ip4"),
        (json!({"cniVersion": "0.2.0", "ip6": []}), "ip6"),
        (json!([]), "[]"),
        (json!("text"), "text"),
    ] {
        let message = refused(&value);
        assert!(
            message.starts_with("result: ") && message.contains(part),
            "{message}"
        );
    }
}

#[test]
fn versions_nobody_knows_are_refused() {
    for version in ["0.0.1", "0.5.0", "1.0.1", "1.2.0", "2.0.0"] {
        let value = json!({"cniVersion": version});
        let error = AddResult::from_json(&value, Version::V1_1_0).unwrap_err();
        assert_eq!(error.code, Code::IncompatibleVersion);
        assert!(error.message.contains(version), "{error}");
    }
}

#[test]
fn nothing_is_an_empty_result() {
    for value in [
        Value::Null,
        json!({}),
        json!({"ips": null, "interfaces": null, "routes": null, "dns": null}),
        json!({"dns": {"nameservers": null, "domain": null}}),
    ] {
        for default in SUPPORTED_VERSIONS {
            assert_eq!(
                AddResult::from_json(&value, default).unwrap(),
                AddResult::default()
            );
        }
    }
    let empty = AddResult::default();
    for (version, expected) in [
        (Version::V0_3_0, json!({"cniVersion": "0.3.0", "dns": {}})),
        (Version::V0_4_0, json!({"cniVersion": "0.4.0", "dns": {}})),
        (Version::V1_0_0, json!({"cniVersion": "1.0.0"})),
        (Version::V1_1_0, json!({"cniVersion": "1.1.0"})),
    ] {
        assert_eq!(empty.to_json(version).unwrap(), expected);
    }
}

#[test]
fn a_result_without_version_is_read_as_the_configuration_says() {
    let old = json!({"ip4": {"ip": "10.1.2.3/24"}});
    let new = json!({"ips": [{"address": "10.1.2.3/24"}]});
    for version in SUPPORTED_VERSIONS {
        let is_old = version < Version::V0_3_0;
        let count = |value| AddResult::from_json(value, version).unwrap().ips.len();
        assert_eq!(
            (count(&old), count(&new)),
            (usize::from(is_old), usize::from(!is_old))
        );
    }
}

#[test]
fn ipv4_written_as_ipv6_is_ipv4() {
    let result = read(
        &json!({"ips": [{"address": "::ffff:10.1.2.3/120", "gateway": "::ffff:10.1.2.1"}],
        "routes": [{"dst": "::ffff:0.0.0.0/96"}, {"dst": "::/0"}]}),
    );
    assert_eq!(
        result.to_json(Version::V0_4_0).unwrap(),
        json!({"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.1.2.3/24", "gateway": "10.1.2.1"}],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}], "dns": {}})
    );
}

#[test]
fn keys_of_a_result_are_found_in_any_case() {
    let result = read(
        &json!({"CNIVersion": "0.4.0", "Interfaces": [{"Name": "eth0", "Mac": "aa:bb:cc:00:11:22"}],
        "IPs": [{"Version": "4", "Address": "10.1.2.3/24"}], "DNS": {"Nameservers": ["1.1.1.1"]}, "unknown": 1}),
    );
    assert_eq!(result.interfaces[0].mac, "aa:bb:cc:00:11:22");
    assert_eq!(result.ips.len(), 1);
    assert_eq!(result.dns.nameservers, ["1.1.1.1"]);
}
