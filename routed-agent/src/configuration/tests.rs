// SPDX-License-Identifier: Apache-2.0
//! The whole way from sources to values, and the documentation.

use std::{fs, path::PathBuf};

use model::{
    BgpConfiguration, BgpPeer, FelixConfiguration, Node, Timestamp, bgp_configuration::BindMode,
    felix_configuration::PortRange,
};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{
    documentation,
    file::File,
    inert,
    network_form::{PasswordReference, RouterId},
    origin::{Origin, Problem, Warning},
    registry::{Changed, SECTIONS},
    words::{Backend, CrossSubnetTest, ExternalExport, RouteSource, Severity},
    *,
};

fn variables(pairs: &[(&str, &str)]) -> Variables {
    let owned = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    owned.collect()
}

fn object(name: &str, spec: Json) -> Object {
    let Json::Object(spec) = spec else {
        panic!("{spec} is no object")
    };
    Object {
        name: name.to_owned(),
        spec,
    }
}

fn of_environment(pairs: &[(&str, &str)]) -> Resolution {
    resolve(&Sources {
        environment: variables(pairs),
        ..Sources::default()
    })
}

fn of_file(text: &str) -> Resolution {
    let (file, warnings) = File::parse(text);
    assert_eq!(warnings, [], "{text}");
    resolve(&Sources {
        file,
        ..Sources::default()
    })
}

fn of_felix(spec: Json) -> Resolution {
    resolve(&Sources {
        felix: vec![object("default", spec)],
        ..Sources::default()
    })
}

fn of_bgp(name: &str, spec: Json) -> Resolution {
    resolve(&Sources {
        bgp: vec![object(name, spec)],
        ..Sources::default()
    })
}

fn texts(warnings: &[Warning]) -> Vec<String> {
    warnings.iter().map(ToString::to_string).collect()
}

fn row(configuration: &Configuration, name: &str) -> Row {
    let found = configuration
        .rows()
        .into_iter()
        .find(|row| row.setting.name == name);
    found.unwrap_or_else(|| panic!("no setting {name}"))
}

fn settings() -> Vec<Setting> {
    SECTIONS
        .iter()
        .flat_map(|(_, settings)| settings.iter().copied())
        .collect()
}

#[test]
fn each_source_goes_before_the_next() {
    let mut sources = Sources {
        environment: variables(&[("FELIX_IPINIPMTU", "1401")]),
        file: File::parse("[global]\nIpInIpMtu = 1402\n").0,
        felix: vec![
            object("node.a", json!({"ipipMTU": 1403})),
            object("rack", json!({"ipipMTU": 1404})),
            object("default", json!({"ipipMTU": 1405})),
        ],
        bgp: vec![],
    };
    let value = |sources: &Sources| {
        let mtu = resolve(sources).configuration.ipip_mtu;
        (mtu.value, mtu.origin)
    };
    assert_eq!(
        value(&sources),
        (1401, Origin::Environment("FELIX_IPINIPMTU".to_owned()))
    );
    sources.environment = Variables::default();
    let key = "IpInIpMtu".to_owned();
    assert_eq!(value(&sources), (1402, Origin::File { key, line: 2 }));
    sources.file = File::default();
    for (name, mtu) in [("node.a", 1403), ("rack", 1404), ("default", 1405)] {
        assert_eq!(
            value(&sources),
            (mtu, Origin::FelixConfiguration(name.to_owned()))
        );
        sources.felix.remove(0);
    }
    assert_eq!(value(&sources), (0, Origin::Default));
}

#[test]
fn bgp_settings_of_a_node_go_before_those_of_all_where_a_node_may_have_them() {
    let resolution = resolve(&Sources {
        environment: variables(&[]),
        file: File::parse("[BGP]\nlogSeverityScreen = debug\n[global]\nLogSeverityScreen = error\n").0,
        felix: vec![],
        bgp: vec![
            object(
                "node.a",
                json!({"listenPort": 1179, "asNumber": 1, "bindMode": "NodeIP"}),
            ),
            object(
                "default",
                json!({"listenPort": 179, "asNumber": "1.10", "bindMode": "None"}),
            ),
        ],
    });
    let configuration = &resolution.configuration;
    assert_eq!(configuration.listen_port.value, 1179);
    assert_eq!(
        configuration.listen_port.origin,
        Origin::BgpConfiguration("node.a".to_owned())
    );
    assert_eq!(configuration.as_number.value.0, 65_546);
    assert_eq!(*configuration.bind_mode, BindMode::None);
    assert_eq!(*configuration.bgp_log_severity, Severity::Debug);
    assert_eq!(*configuration.log_severity_screen, Severity::Error);
    assert_eq!(
        texts(&resolution.warnings),
        ["asNumber", "bindMode"].map(|field| format!(
            "BGPConfiguration node.a {field}: has no effect in the object of one node: move it to the object default"
        ))
    );
}

#[test]
fn a_bad_value_gives_way_to_the_next_source_and_is_named() {
    let resolution = resolve(&Sources {
        environment: variables(&[("FELIX_VXLANPORT", "eighty")]),
        file: File::parse("VXLANPort = 0").0,
        felix: vec![
            object("node.a", json!({"vxlanPort": 99_999})),
            object("default", json!({"vxlanPort": 8472})),
        ],
        bgp: vec![],
    });
    assert_eq!(resolution.configuration.vxlan_port.value, 8472);
    let rest = "cannot be used: write 1 to 65535; 8472, from FelixConfiguration default is used instead";
    assert_eq!(
        texts(&resolution.environment_errors),
        [format!("environment variable FELIX_VXLANPORT: \"eighty\" {rest}")]
    );
    assert_eq!(
        texts(&resolution.warnings),
        [
            format!("configuration file line 1, VXLANPort: \"0\" {rest}"),
            format!("FelixConfiguration node.a vxlanPort: \"99999\" {rest}"),
        ]
    );
}

#[test]
fn quotes_blanks_case_and_emptiness_of_variables() {
    for (name, value, expected) in [
        ("FELIX_IPINIPMTU", "\"1400\"", 1400),
        ("FELIX_IPINIPMTU", " '1400' ", 1400),
        ("Felix_IpInIpMtu", "1400", 1400),
        ("felix_ipinipmtu", "1400", 1400),
        ("FELIX_IPINIPMTU", "none", 0),
        ("FELIX_IPINIPMTU", "", 1300),
        ("FELIX_IPINIPMTU", "\"\"", 1300),
        ("FELIX_IPINIPMTU", "  ", 1300),
        ("felix_other", "", 1300),
    ] {
        let resolution = resolve(&Sources {
            environment: variables(&[(name, value)]),
            felix: vec![object("default", json!({"ipipMTU": 1300}))],
            ..Sources::default()
        });
        assert_eq!(
            resolution.configuration.ipip_mtu.value, expected,
            "{name}={value}"
        );
        assert_eq!(
            (resolution.warnings, resolution.environment_errors),
            (vec![], vec![])
        );
    }
    let both = of_environment(&[("felix_ipinipmtu", "1401"), ("FELIX_IPINIPMTU", "1400")]);
    assert_eq!(
        both.configuration.ipip_mtu.value, 1400,
        "the documented spelling counts"
    );
    let other = of_environment(&[("calico_ipip_device", "tunl0")]);
    assert_eq!(
        other.configuration.ipip_device.value, "ipip.calico",
        "only Felix' variables have any case"
    );
}

#[test]
fn empty_and_null_members_are_absent_and_names_have_any_case() {
    let resolution =
        of_felix(json!({"natPortRange": "", "vxlanPort": null, "IPIPMTU": "1400", "nodeSelector": ""}));
    assert_eq!(resolution.configuration.ipip_mtu.value, 1400);
    assert_eq!(resolution.configuration.vxlan_port.origin, Origin::Default);
    assert_eq!(resolution.warnings, []);
}

#[test]
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
fn what_stands_where_a_password_reference_belongs_is_never_shown() {
    let secret = "hunter2";
    let resolution = resolve(&Sources {
        environment: variables(&[("CALICO_BGP_NODE_MESH_PASSWORD", secret)]),
        file: File::parse(&format!("[bgp]\nnodeMeshPassword = {secret}")).0,
        bgp: vec![object(
            "default",
            json!({"nodeMeshPassword": {"password": secret}}),
        )],
        ..Sources::default()
    });
    let all = [texts(&resolution.environment_errors), texts(&resolution.warnings)].concat();
    assert_eq!(all.len(), 3);
    for message in all {
        assert!(
            !message.contains(secret) && message.contains("(not shown)"),
            "{message}"
        );
    }
    // Names of unknown variables are shown, their values are not.
    let unknown = of_environment(&[("FELIX_PASSWORD", secret), ("FELIX_TYPHAKEYFILE", secret)]);
    assert_eq!(unknown.warnings.len(), 2);
    assert!(!texts(&unknown.warnings).concat().contains(secret));
}

#[test]
fn names_without_effect_are_reported_where_they_ask_for_something() {
    let resolution = resolve(&Sources {
        environment: variables(&[
            ("FELIX_BPFENABLED", "true"),
            ("FELIX_WIREGUARDENABLED", "false"),
            ("FELIX_IPIPMTU", "1400"),
            ("FELIX_NONSENSE", "1"),
            ("USE_POD_CIDR", "true"),
            ("SKIP_TLS_VERIFY", "false"),
            ("HOME", "/root"),
        ]),
        file: File::parse(
            "bpfLogLevel = debug\nipipMTU = 1400\nXdpEnabled = no\n[bgp]\nlistenport = 180\nport = 1\n",
        )
        .0,
        felix: vec![object(
            "default",
            json!({"bpfEnabled": false, "floatingIPs": "Enabled", "reportingInterval": "0s", "ipipMtus": 1}),
        )],
        bgp: vec![object("default", json!({"listenPort": 179, "listenPorts": 1}))],
    });
    let bpf = "has no effect: the datapath is Linux routing, without eBPF and XDP";
    assert_eq!(
        texts(&resolution.warnings),
        [
            format!("environment variable FELIX_BPFENABLED: {bpf}"),
            "environment variable FELIX_IPIPMTU: is not known, and has no effect: write FELIX_IPINIPMTU".to_owned(),
            "environment variable FELIX_NONSENSE: is not known, and has no effect: check the spelling".to_owned(),
            "environment variable USE_POD_CIDR: has no effect: this version has the embedded datastore only"
                .to_owned(),
            format!("configuration file line 1, bpfLogLevel: {bpf}"),
            "configuration file line 2, ipipMTU: is not known, and has no effect: write IpInIpMtu".to_owned(),
            "configuration file line 6, port: is not known, and has no effect: check the spelling".to_owned(),
            "FelixConfiguration default floatingIPs: has no effect: this version does no such address translation, \
             announcement or marking"
                .to_owned(),
            "FelixConfiguration default ipipMtus: is not known, and has no effect: check the spelling".to_owned(),
            "BGPConfiguration default listenPorts: is not known, and has no effect: check the spelling".to_owned(),
        ]
    );
    assert_eq!(resolution.configuration.listen_port.value, 180);
}

#[test]
fn objects_of_other_kinds_are_looked_at_too() {
    let peer: BgpPeer = serde_json::from_value(json!({
        "metadata": {"name": "tor"},
        "spec": {"peerIP": "192.0.2.1", "asNumber": 64513, "failureDetectionMode": "BFDIfDirectlyConnected",
                 "restartMode": "", "holdTime": "9s", "ttlSecurity": 1, "filters": ["a"]}
    }))
    .unwrap();
    assert_eq!(
        texts(&inert::object_warnings(&peer)),
        [
            "BGPPeer tor spec.failureDetectionMode: has no effect: it belongs to Calico's commercial edition",
            "BGPPeer tor spec.holdTime: is not known, and has no effect: check the spelling",
        ]
    );
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": "a", "annotations": {"projectcalico.org/WireguardPublicKey": "x", "other": "y"}},
        "spec": {"bgp": {"ipv4Address": "192.0.2.1/24"}, "orchRefs": [], "wireguard": {"interfaceIPv4Address": "10.0.0.1"}}
    }))
    .unwrap();
    let fields: Vec<String> = inert::object_warnings(&node)
        .into_iter()
        .map(|warning| warning.field)
        .collect();
    assert_eq!(
        fields,
        [
            "spec.wireguard",
            "annotation projectcalico.org/WireguardPublicKey"
        ]
    );
}

#[test]
fn everything_that_the_model_declares_is_known() {
    let pool: model::IpPool = serde_json::from_value(json!({
        "metadata": {"name": "p"},
        "spec": {"cidr": "10.0.0.0/16", "blockSize": 26, "ipipMode": "Always", "vxlanMode": "Never", "natOutgoing": true,
                 "disabled": true, "disableBGPExport": true, "nodeSelector": "all()", "namespaceSelector": "all()",
                 "allowedUses": ["Tunnel"], "assignmentMode": "Manual"}
    }))
    .unwrap();
    assert_eq!(inert::object_warnings(&pool), []);
    assert_eq!(pool.spec.extra.len(), 0, "every member above is a declared one");
}

#[test]
fn settings_in_both_kinds_of_objects_must_agree() {
    let sources = |felix, bgp| Sources {
        felix: vec![object("default", json!({"ipv4NormalRoutePriority": felix}))],
        bgp: vec![object("default", json!({"ipv4NormalRoutePriority": bgp}))],
        ..Sources::default()
    };
    assert_eq!(resolve(&sources(100, 100)).warnings, []);
    let differing = resolve(&sources(100, 200));
    assert_eq!(differing.configuration.ipv4_metric(), 100);
    assert_eq!(
        texts(&differing.warnings),
        [
            "FelixConfiguration default ipv4NormalRoutePriority: 100 differs from 200 of BGPConfiguration default: set \
             both to one value; 100 is used"
        ]
    );
    let bgp_only = of_bgp("default", json!({"ipv4NormalRoutePriority": 200})).configuration;
    assert_eq!((bgp_only.ipv4_metric(), bgp_only.bgp_priority(false)), (200, 200));
    let unset = Configuration::default();
    assert_eq!((unset.ipv4_metric(), unset.ipv6_metric()), (0, 1024));
    assert_eq!(
        (unset.bgp_priority(false), unset.bgp_priority(true)),
        (1024, 1024)
    );
}

#[test]
fn cluster_routes_are_programmed_where_either_of_calicos_daemons_would() {
    for (felix, bgp, expected) in [
        ("EnabledIPIPOnly", "EnabledNoEncapOnly", (true, true)),
        ("Disabled", "Enabled", (true, true)),
        ("Enabled", "Disabled", (true, true)),
        ("Disabled", "EnabledNoEncapOnly", (false, true)),
        ("EnabledIPIPOnly", "EnabledIPIPOnly", (true, false)),
        ("Disabled", "Disabled", (false, false)),
    ] {
        let configuration = resolve(&Sources {
            felix: vec![object("default", json!({"programClusterRoutes": felix}))],
            bgp: vec![object("default", json!({"programClusterRoutes": bgp}))],
            ..Sources::default()
        })
        .configuration;
        let programmed = (
            configuration.programs_ipip(),
            configuration.programs_unencapsulated(),
        );
        assert_eq!(programmed, expected, "{felix}, {bgp}");
    }
}

#[test]
fn names_of_communities_resolve_over_all_objects() {
    let resolution = resolve(&Sources {
        bgp: vec![
            object(
                "node.a",
                json!({"prefixAdvertisements": [{"cidr": "10.0.0.0/8", "communities": ["blue", "red", "1:2:3", "green"]}],
                       "communities": [{"name": "red", "value": "64512:2"}]}),
            ),
            object(
                "default",
                json!({"communities": [{"name": "blue", "value": "64512:1"}, {"name": "red", "value": "64512:9"}],
                       "prefixAdvertisements": [{"cidr": "11.0.0.0/8", "communities": ["blue"]}]}),
            ),
        ],
        ..Sources::default()
    });
    let announced = resolution.configuration.announced_communities();
    let expected = ["64512:1", "64512:2", "1:2:3"].map(|text| text.parse().unwrap());
    assert_eq!(announced, [("10.0.0.0/8".parse().unwrap(), expected.to_vec())]);
    assert_eq!(
        texts(&resolution.warnings),
        [
            "BGPConfiguration node.a prefixAdvertisements: \"green\" is neither a name in communities nor a value such \
             as 64512:100, and is left out"
        ]
    );
}

#[test]
fn changes_are_told_apart_from_new_origins() {
    let old = of_environment(&[("FELIX_IPINIPMTU", "1400")]).configuration;
    let new = of_felix(json!({"ipipMTU": 1400, "vxlanVNI": 5, "interfacePrefix": "tap"})).configuration;
    assert_eq!(
        new.changes_since(&old),
        [
            Changed {
                name: "vxlan_vni",
                live: true
            },
            Changed {
                name: "interface_prefixes",
                live: false
            },
        ]
    );
    assert_eq!(new.changes_since(&new), []);
}

#[test]
fn the_objects_of_a_node_are_chosen_by_name_selector_and_age() {
    let felix = |name: &str, selector: &str, created: i64, mtu: u32| {
        let mut configuration = FelixConfiguration::new(name, Default::default());
        configuration.spec.node_selector = selector.to_owned();
        configuration.spec.ipip_mtu = Some(mtu);
        configuration.metadata.creation_timestamp = Some(Timestamp::from_unix(created, 0));
        configuration
    };
    let mut all = vec![
        felix("default", "", 1, 1),
        felix("node.b", "", 1, 2),
        felix("young", "rack == 'x'", 3, 3),
        felix("old", "rack == 'x'", 2, 4),
        felix("elsewhere", "rack == 'y'", 1, 5),
        felix("broken", "rack ==", 1, 6),
        felix("no-selector", "", 1, 7),
        felix("node.a", "", 9, 8),
    ];
    let names = |all: &[FelixConfiguration]| -> Vec<String> {
        let objects = sources::felix_for_node(all, "a", &[("rack", "x")]);
        objects.into_iter().map(|object| object.name).collect()
    };
    assert_eq!(names(&all), ["node.a", "old", "default"]);
    all[3].metadata.creation_timestamp = None;
    assert_eq!(names(&all), ["node.a", "young", "default"]);
    let bgp = ["default", "node.b", "node.a"].map(|name| BgpConfiguration::new(name, Default::default()));
    let names: Vec<String> = sources::bgp_for_node(&bgp, "a")
        .into_iter()
        .map(|object| object.name)
        .collect();
    assert_eq!(names, ["node.a", "default"]);
}

#[test]
fn typed_objects_keep_what_the_model_does_not_declare() {
    let configuration: FelixConfiguration = serde_json::from_value(json!({
        "metadata": {"name": "default"},
        "spec": {"routeRefreshInterval": "30s", "vxlanPort": 8472, "healthEnabled": true}
    }))
    .unwrap();
    let resolution = resolve(&Sources {
        felix: vec![Object::from(&configuration)],
        ..Sources::default()
    });
    assert_eq!(resolution.warnings, []);
    assert_eq!(resolution.configuration.route_refresh_interval.as_secs(), 30);
    assert_eq!(resolution.configuration.vxlan_port.value, 8472);
    assert!(resolution.configuration.health_enabled.value);
}

#[test]
fn the_registry_is_sound() {
    let settings = settings();
    let mut names = std::collections::HashSet::new();
    for setting in &settings {
        let own = &setting.names;
        assert!(!own.environment().is_empty(), "{} has no variable", setting.name);
        assert!(
            !own.file.is_empty() || !own.bgp.is_empty(),
            "{} has no key",
            setting.name
        );
        assert!(
            setting.description.trim().ends_with('.'),
            "{} needs a sentence",
            setting.name
        );
        let variables = own.environment();
        let keys = [
            ("file", own.file),
            ("felix", own.felix),
            ("bgp", own.bgp),
            ("name", setting.name),
        ];
        let keys = keys
            .iter()
            .filter(|(_, name)| !name.is_empty())
            .map(|(place, name)| ((*place).to_owned(), name.to_ascii_lowercase()));
        let variables = variables.iter().map(|name| ("variable".to_owned(), name.clone()));
        for key in keys.chain(variables) {
            assert!(names.insert(key.clone()), "{key:?} is used twice");
        }
    }
    for group in inert::FELIX {
        for entry in group.names {
            let (member, parameter) = inert::felix_names(entry);
            for (place, name) in [("felix", member), ("file", parameter)] {
                let key = (place.to_owned(), name.to_ascii_lowercase());
                assert!(name.is_empty() || names.insert(key), "{entry} is listed twice");
            }
        }
    }
    for group in inert::VARIABLES {
        for name in group.names {
            assert!(
                names.insert(("variable".to_owned(), (*name).to_owned())),
                "{name} is listed twice"
            );
        }
    }
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

#[test]
fn docs_are_in_step() {
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let (settings, compatibility) = (docs.join("settings.md"), docs.join("compatibility.md"));
    let page = documentation::settings_page(&Configuration::default());
    let section = documentation::inert_section();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&settings, &page).unwrap();
        let old = fs::read_to_string(&compatibility).unwrap();
        let heading = section.lines().next().unwrap();
        let (before, rest) = old.split_once(heading).unwrap_or((&old, ""));
        let after = rest.find("\n## ").map_or("", |start| &rest[start..]);
        let new = format!("{}\n\n{section}{after}", before.trim_end());
        fs::write(&compatibility, new).unwrap();
    }
    let remedy = "run UPDATE_DOCS=1 cargo test -p routed-agent docs_are_in_step";
    assert!(
        fs::read_to_string(settings).unwrap() == page,
        "docs/settings.md: {remedy}"
    );
    let text = fs::read_to_string(compatibility).unwrap();
    for line in section.lines() {
        assert!(
            text.lines().any(|found| found == line),
            "docs/compatibility.md lacks {line}: {remedy}"
        );
    }
    for setting in self::settings() {
        assert!(
            page.contains(&format!("| `{}` |", setting.name)),
            "{}",
            setting.name
        );
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
        prop_assert!(!found.value.contains(['\n', '\u{0}']));
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
