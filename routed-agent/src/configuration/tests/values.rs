// SPDX-License-Identifier: Apache-2.0
//! Values: what each form reads from each source, what it refuses, and that nothing hostile gets further.

use std::path::PathBuf;

use model::felix_configuration::PortRange;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::configuration::{
    network_form::{PasswordReference, RouterId},
    words::{Backend, CrossSubnetTest, ExternalExport, RouteSource},
};

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn every_kind_of_value_is_read_from_every_source() {
    // Setting, text, JSON, and how it is written back.
    let cases = [
        ("ipip_device", "tunl0", None, "tunl0"),
        ("ipip_enabled", "yes", Some(json!(true)), "true"),
        ("ipip_enabled", "none", None, ""),
        ("vxlan_mtu_v6", "1280", Some(json!(1280)), "1280"),
        (
            "external_nodes",
            "192.0.2.1, 198.51.100.7/24",
            Some(json!(["192.0.2.1", "198.51.100.0/24"])),
            "192.0.2.1/32,198.51.100.0/24",
        ),
        (
            "interface_prefixes",
            "cali,tap",
            Some(json!("cali,tap")),
            "cali,tap",
        ),
        (
            "route_source",
            "workloadips",
            Some(json!("WorkloadIPs")),
            "WorkloadIPs",
        ),
        ("route_protocol", "3", Some(json!(3)), "80"),
        ("route_protocol", "99", Some(json!(99)), "99"),
        (
            "ipv4_route_priority",
            "2147483646",
            Some(json!(2_147_483_646)),
            "2147483646",
        ),
        ("route_refresh_interval", "1.5", Some(json!("1500ms")), "1.5s"),
        ("route_refresh_interval", "1m30s", Some(json!("90s")), "1m30s"),
        ("route_refresh_interval", "0", Some(json!("0s")), "0s"),
        ("remove_external_routes", "T", Some(json!("true")), "true"),
        (
            "route_source_address_ipv6",
            "2001:db8::1",
            Some(json!("2001:db8::1")),
            "2001:db8::1",
        ),
        (
            "program_cluster_routes",
            "enabled",
            Some(json!("Enabled")),
            "Enabled",
        ),
        (
            "nat_port_range",
            "1024:65535",
            Some(json!("1024:65535")),
            "1024:65535",
        ),
        ("nat_port_range", "0", Some(json!(0)), ""),
        ("nat_port_range", "4000", Some(json!(4000)), "4000:4000"),
        (
            "nat_outgoing_exclusions",
            "ippoolsandhostips",
            Some(json!("IPPoolsAndHostIPs")),
            "IPPoolsAndHostIPs",
        ),
        ("as_number", "1.10", Some(json!("1.10")), "65546"),
        ("as_number", "64513", Some(json!(64_513)), "64513"),
        ("router_id", "hash", None, "hash"),
        ("router_id", "192.0.2.1", None, "192.0.2.1"),
        (
            "node_mesh_password",
            "bgp/mesh",
            Some(json!({"secretKeyRef": {"name": "bgp", "key": "mesh"}})),
            "bgp/mesh",
        ),
        ("node_mesh_password", "/etc/calico/mesh", None, "/etc/calico/mesh"),
        ("node_mesh_max_restart_time", "240", Some(json!("4m")), "4m0s"),
        ("hold_time", "0", None, "0s"),
        ("hold_time", "9", None, "9s"),
        (
            "service_cluster_ips",
            "10.96.0.0/12,fd00::/108",
            Some(json!([{"cidr": "10.96.0.0/12"}, {"cidr": "fd00::/108"}])),
            "10.96.0.0/12,fd00::/108",
        ),
        (
            "service_load_balancer_aggregation",
            "disabled",
            Some(json!("Disabled")),
            "Disabled",
        ),
        (
            "communities",
            "[{\"name\": \"x#\", \"value\": \"64512:1\"}]",
            Some(json!([{"name": "x#", "value": "64512:1"}])),
            "[{\"name\":\"x#\",\"value\":\"64512:1\"}]",
        ),
        (
            "ignored_interfaces",
            "eth*, docker0",
            Some(json!(["eth*", "docker0"])),
            "eth*,docker0",
        ),
        ("log_severity_screen", "WARN", Some(json!("Warning")), "Warning"),
        ("log_severity_file", "none", None, "None"),
        ("prometheus_host", "::", Some(json!("::")), "::"),
        ("state_directory", "/srv/a", None, "/srv/a"),
        (
            "mtu_iface_pattern",
            "^(eth|bond).*$",
            Some(json!("^(eth|bond).*$")),
            "^(eth|bond).*$",
        ),
    ];
    for (name, text, json, written) in cases {
        let setting = *settings()
            .iter()
            .find(|setting| setting.name == name)
            .expect(name);
        let variable = &setting.names.environment()[0];
        let mut resolutions = vec![(variable.clone(), of_environment(&[(variable, text)]))];
        let (section, key) = match setting.names.file {
            "" => ("[bgp]", setting.names.bgp),
            key => ("[global]", key),
        };
        let line = format!("{section}\n{key}={text}");
        resolutions.push((line.clone(), of_file(&line)));
        if let Some(json) = json {
            if setting.names.felix.is_empty() {
                let spec = json!({ setting.names.bgp: json });
                resolutions.push((spec.to_string(), of_bgp("default", spec)));
            } else {
                let spec = json!({ setting.names.felix: json });
                resolutions.push((spec.to_string(), of_felix(spec)));
            }
        }
        for (source, resolution) in resolutions {
            let found = row(&resolution.configuration, name);
            assert_eq!(found.value, written, "{source}");
            assert_ne!(found.origin, Origin::Default, "{source}");
            assert_eq!(texts(&resolution.environment_errors), [""; 0], "{source}");
            assert_eq!(texts(&resolution.warnings), [""; 0], "{source}");
        }
    }
}

#[test]
fn values_come_out_as_types() {
    let configuration = of_environment(&[
        ("CALICO_NETWORKING_BACKEND", "vxlan"),
        ("CALICO_BGP_EXTERNAL_EXPORT", "all"),
        ("CALICO_CROSS_SUBNET_TEST", "onlink"),
        ("FELIX_ROUTESOURCE", "WorkloadIPs"),
        ("FELIX_NATPORTRANGE", "1024:2047"),
        ("CALICO_ROUTER_ID", "192.0.2.9"),
        ("CALICO_BGP_NODE_MESH_PASSWORD", "/etc/calico/mesh"),
    ])
    .configuration;
    assert_eq!(*configuration.networking_backend, Backend::Vxlan);
    assert_eq!(*configuration.external_export, ExternalExport::All);
    assert_eq!(*configuration.cross_subnet_test, CrossSubnetTest::Onlink);
    assert_eq!(*configuration.route_source, RouteSource::WorkloadIps);
    assert_eq!(
        *configuration.nat_port_range,
        Some(PortRange { min: 1024, max: 2047 })
    );
    assert_eq!(
        *configuration.router_id,
        Some(RouterId::Address([192, 0, 2, 9].into()))
    );
    assert_eq!(
        *configuration.node_mesh_password,
        Some(PasswordReference::File(PathBuf::from("/etc/calico/mesh")))
    );
}

#[test]
fn bad_values_of_every_kind_are_refused() {
    let long = "x".repeat(2000);
    let backslash = "\\".repeat(2) + "(";
    let cases: &[(&str, &[&str])] = &[
        (
            "ipip_device",
            &["a/b", "a b", "sixteen-letters-", "..", "all", "lo", "ä"],
        ),
        ("ipip_enabled", &["2", "on", "truee"]),
        (
            "ipip_mtu",
            &["67", "65536", "-1", "+1400", "1400.5", "1e3", "0x500"],
        ),
        ("vxlan_mtu_v6", &["1279"]),
        (
            "mtu_iface_pattern",
            &["(", "a{1000}{1000}{1000}", &long, &backslash],
        ),
        ("vxlan_port", &["0", "65536", "18446744073709551616"]),
        ("vxlan_vni", &["0", "16777216"]),
        ("cross_subnet_test", &["masks"]),
        ("external_nodes", &["192.0.2.0/33", "one", "192.0.2.1;192.0.2.2"]),
        ("interface_prefixes", &["calico", "c/", "cali,a b", ",cali"]),
        (
            "route_protocol",
            &["0", "1", "2", "4", "9", "16", "256", "-3", "+80"],
        ),
        ("ipv4_route_priority", &["0", "2147483647"]),
        (
            "route_refresh_interval",
            &["0.5", "86401", "-1", "1h1", "99999999999999999999", "1..5"],
        ),
        (
            "route_source_address",
            &[
                "0.0.0.0",
                "224.0.0.1",
                "255.255.255.255",
                "2001:db8::1",
                "192.0.2.1/24",
            ],
        ),
        (
            "route_source_address_ipv6",
            &["::", "ff02::1", "192.0.2.1", "::ffff:192.0.2.1"],
        ),
        (
            "nat_port_range",
            &["0:100", "200:100", "1:65536", ":", "1:2:3", "+1:2"],
        ),
        (
            "as_number",
            &[
                "0",
                "23456",
                "65535",
                "4294967295",
                "4294967296",
                "1.2.3",
                "+1",
                "AS1",
            ],
        ),
        ("router_id", &["0.0.0.0", "hashed", "::1"]),
        ("node_mesh_password", &["secret", "a/b/c", "a/", "/a\u{0}b"]),
        ("node_mesh_max_restart_time", &["0", "4096", "1.5", "1500ms"]),
        ("hold_time", &["1", "2", "65536", "3.5"]),
        ("service_cluster_ips", &["10.0.0.0/40"]),
        (
            "communities",
            &[
                "blue",
                "[",
                "{}",
                "[{\"name\": \"a\"}]",
                "[{\"name\": \"a\", \"value\": \"1\"}]",
            ],
        ),
        ("prefix_advertisements", &["[{\"communities\": []}]", "[1]"]),
        ("ignored_interfaces", &["*", "**", "a/*", "sixteen-letters-"]),
        ("log_severity_screen", &["loud"]),
        ("address_journal_entries", &["99", "10000001"]),
        ("health_host", &["a b", "a/b", &long]),
        ("state_directory", &["var/lib", "~", "/a\nb", "/\u{fffd}"]),
    ];
    for (name, texts) in cases {
        let setting = *settings()
            .iter()
            .find(|setting| setting.name == *name)
            .expect(name);
        let variable = &setting.names.environment()[0];
        for text in *texts {
            let resolution = of_environment(&[(variable, text)]);
            assert_eq!(
                row(&resolution.configuration, name).origin,
                Origin::Default,
                "{variable}={text}"
            );
            let [error] = &resolution.environment_errors[..] else {
                panic!(
                    "{variable}={text}: {:?}",
                    self::texts(&resolution.environment_errors)
                );
            };
            let message = error.to_string();
            assert!(
                message.starts_with(&format!("environment variable {variable}: ")),
                "{message}"
            );
            assert!(
                message.contains(&(setting.accepted)()),
                "{message} names the accepted form"
            );
            assert!(
                message.len() < 700 && !message.contains(['\n', '\u{0}']),
                "{message}"
            );
        }
    }
    let types = [
        ("vxlanPort", json!([1])),
        ("vxlanPort", json!({})),
        ("vxlanPort", json!(1.5)),
        ("ipipEnabled", json!(1.0)),
        ("externalNodesList", json!([1])),
        ("natOutgoingAddress", json!(true)),
        ("vxlanVNI", json!(-1)),
    ];
    for (member, value) in types {
        let resolution = of_felix(json!({ member: value }));
        assert!(
            matches!(
                &resolution.warnings[..],
                [Warning { field, problem: Problem::Unusable { .. }, .. }] if field == member
            ),
            "{member}: {:?}",
            texts(&resolution.warnings)
        );
    }
}

#[test]
fn an_as_number_with_a_dot_is_text() {
    assert_eq!(
        of_bgp("default", json!({"asNumber": 1.1}))
            .configuration
            .as_number
            .origin,
        Origin::Default,
        "1.10 would be the same number"
    );
}

#[test]
fn more_entries_than_calico_allows_are_refused() {
    let entries = |count: usize| -> Vec<Json> {
        (0..count)
            .map(|number| json!({"name": format!("n{number}"), "value": "1:1"}))
            .collect()
    };
    let kept = |spec| of_bgp("default", spec).configuration.communities.origin != Origin::Default;
    assert!(kept(json!({ "communities": entries(500) })));
    assert!(!kept(json!({ "communities": entries(501) })));
    let advertisement =
        |count| json!({"prefixAdvertisements": [{"cidr": "10.0.0.0/8", "communities": vec!["1:1"; count]}]});
    let kept = |spec| of_bgp("default", spec).configuration.prefix_advertisements.origin != Origin::Default;
    assert!(kept(advertisement(50)));
    assert!(!kept(advertisement(51)));
    let list = vec!["10.0.0.0/8"; 501].join(",");
    assert_eq!(
        of_environment(&[("CALICO_ADVERTISE_CLUSTER_IPS", &list)])
            .environment_errors
            .len(),
        1
    );
}

#[test]
fn what_a_default_is_written_as_reads_as_the_default() {
    let defaults = Configuration::default();
    for row in defaults.rows() {
        assert_eq!(row.origin, Origin::Default);
        let variable = &row.setting.names.environment()[0];
        let again = of_environment(&[(variable, &row.value)]);
        assert_eq!(
            texts(&again.environment_errors),
            [""; 0],
            "{variable}={}",
            row.value
        );
        assert_eq!(again.configuration.changes_since(&defaults), [], "{variable}");
    }
}

proptest! {
    #[test]
    fn no_text_of_a_file_panics(text in "\\PC*|([\\[\\]=:#;'\"`\\\\a-zA-Z0-9 \\n\\r\\t]{0,200})") {
        let (file, warnings) = File::parse(&text);
        let resolution = resolve(&Sources { file, ..Sources::default() });
        for warning in warnings.iter().chain(&resolution.warnings) {
            prop_assert!(!warning.to_string().contains('\n'));
        }
    }

    #[test]
    fn no_value_panics_or_escapes_its_line(index in 0_usize..1000, text in "\\PC{0,40}|[\\x00-\\x7f]{0,40}|[0-9.:,/smh\\-]{0,20}") {
        let settings = settings();
        let setting = settings[index % settings.len()];
        let resolution = of_environment(&[(&setting.names.environment()[0], &text)]);
        let found = row(&resolution.configuration, setting.name);
        prop_assert!(!found.value.contains(['\n', '\0']));
        for error in &resolution.environment_errors {
            prop_assert!(!error.to_string().contains('\n'));
        }
        // What is accepted is written in a form that reads as the same value.
        let again = of_environment(&[(&setting.names.environment()[0], &found.value)]);
        if !found.value.is_empty() {
            prop_assert_eq!(again.configuration.changes_since(&resolution.configuration), []);
        }
    }

    #[test]
    fn no_member_panics(number: f64, text in "\\PC{0,20}", depth in 0_usize..4) {
        let mut value = json!([text, number, null, {"cidr": text}]);
        for _ in 0..depth {
            value = json!({"secretKeyRef": value});
        }
        let spec: serde_json::Map<String, Json> = settings().iter().flat_map(|setting| {
            [setting.names.felix, setting.names.bgp].map(|name| (name.to_owned(), value.clone()))
        }).collect();
        let object = Object { name: text, spec };
        let resolution = resolve(&Sources { felix: vec![object.clone()], bgp: vec![object], ..Sources::default() });
        prop_assert_eq!(resolution.configuration.changes_since(&Configuration::default()), []);
    }
}
