// SPDX-License-Identifier: Apache-2.0
//! The whole way from sources to values, and the documentation.

use std::{fs, path::PathBuf};

use model::{
    BgpConfiguration, BgpPeer, FelixConfiguration, Node, Timestamp,
    bgp_configuration::{BgpConfigurationSpec, BindMode},
    felix_configuration::FelixConfigurationSpec,
};
use serde_json::{Value as Json, json};

mod values;

use super::{
    documentation,
    file::File,
    inert,
    origin::{Origin, Problem, Warning},
    registry::{Changed, SECTIONS},
    words::Severity,
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
        let mut configuration = FelixConfiguration::new(name, FelixConfigurationSpec::default());
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
    let bgp = ["default", "node.b", "node.a"]
        .map(|name| BgpConfiguration::new(name, BgpConfigurationSpec::default()));
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
