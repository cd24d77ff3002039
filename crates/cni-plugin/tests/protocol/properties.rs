// SPDX-License-Identifier: Apache-2.0
//! Properties: results survive every version as far as it can say them, and nothing from outside panics.

use std::net::IpAddr;

use cni_plugin::{
    AddResult, Args, Dns, Environment, Interface, IpConfig, NetworkConfig, Route, SUPPORTED_VERSIONS, Version,
};
use ipnet::IpNet;
use proptest::{collection::vec, option, prelude::*};
use serde_json::{Map, Value};

use crate::recorder::{Recorder, call_reading};

/// Addresses in the form in which they are read: IPv4 never as IPv6.
fn addresses() -> impl Strategy<Value = IpAddr> {
    any::<IpAddr>().prop_map(|address| address.to_canonical())
}

fn prefixes() -> impl Strategy<Value = IpNet> {
    (addresses(), 0..=128_u8).prop_map(|(address, length)| {
        let length = if address.is_ipv4() { length % 33 } else { length };
        IpNet::new(address, length).unwrap()
    })
}

fn texts() -> impl Strategy<Value = String> {
    "[a-zé/\" ]{0,8}"
}

fn interfaces() -> impl Strategy<Value = Interface> {
    let details = (any::<u32>(), texts(), texts());
    (texts(), texts(), texts(), details).prop_map(|(name, mac, sandbox, (mtu, socket_path, pci_id))| {
        Interface {
            name,
            mac,
            mtu,
            sandbox,
            socket_path,
            pci_id,
        }
    })
}

fn routes() -> impl Strategy<Value = Route> {
    let numbers = (any::<u32>(), 0..3_u32, any::<u32>());
    let options = (option::of(0..3_u32), option::of(0..3_u32));
    (prefixes(), option::of(addresses()), numbers, options).prop_map(
        |(dst, gw, (mtu, advmss, priority), (table, scope))| Route {
            dst,
            gw,
            mtu,
            advmss,
            priority,
            table,
            scope,
        },
    )
}

fn ips() -> impl Strategy<Value = IpConfig> {
    (option::of(0..3_usize), prefixes(), option::of(addresses())).prop_map(|(interface, address, gateway)| {
        IpConfig {
            interface,
            address,
            gateway,
        }
    })
}

fn resolvers() -> impl Strategy<Value = Dns> {
    let list = || vec(texts(), 0..3);
    (list(), texts(), list(), list()).prop_map(|(nameservers, domain, search, options)| Dns {
        nameservers,
        domain,
        search,
        options,
    })
}

/// Any result.
pub(crate) fn results() -> impl Strategy<Value = AddResult> {
    (
        vec(interfaces(), 0..4),
        vec(ips(), 0..4),
        vec(routes(), 0..4),
        resolvers(),
    )
        .prop_map(|(interfaces, ips, routes, dns)| AddResult {
            interfaces,
            ips,
            routes,
            dns,
        })
}

/// A result without what version 1.1.0 added.
pub(crate) fn without_details(result: &AddResult) -> AddResult {
    let interface = |interface: &Interface| Interface {
        mtu: 0,
        socket_path: String::new(),
        pci_id: String::new(),
        ..interface.clone()
    };
    AddResult {
        interfaces: result.interfaces.iter().map(interface).collect(),
        routes: result
            .routes
            .iter()
            .map(|route| Route::new(route.dst, route.gw))
            .collect(),
        ..result.clone()
    }
}

/// What the first two versions can say of a result.
fn legacy(result: &AddResult) -> AddResult {
    let mut legacy = AddResult {
        dns: result.dns.clone(),
        ..AddResult::default()
    };
    for v4 in [true, false] {
        let Some(ip) = result.ips.iter().find(|ip| ip.address.addr().is_ipv4() == v4) else {
            continue;
        };
        legacy.ips.push(IpConfig {
            interface: None,
            ..ip.clone()
        });
        let routes = result
            .routes
            .iter()
            .filter(|route| route.dst.addr().is_ipv4() == v4);
        legacy
            .routes
            .extend(routes.map(|route| Route::new(route.dst, route.gw)));
    }
    legacy
}

/// JSON with the keys that something is looked for under, and values of every type.
fn configurations() -> impl Strategy<Value = Value> {
    const KEYS: [&str; 38] = [
        "cniVersion",
        "name",
        "type",
        "ipam",
        "dns",
        "prevResult",
        "runtimeConfig",
        "ips",
        "mac",
        "portMappings",
        "containerPort",
        "bandwidth",
        "servers",
        "searches",
        "options",
        "io.kubernetes.cri.pod-annotations",
        "cni.dev/valid-attachments",
        "cni.dev/attachments",
        "containerID",
        "ifname",
        "interfaces",
        "routes",
        "address",
        "gateway",
        "interface",
        "dst",
        "gw",
        "mtu",
        "table",
        "ip4",
        "ip6",
        "ip",
        "nameservers",
        "domain",
        "search",
        "sandbox",
        "Name",
        "DNS",
    ];
    const TEXTS: [&str; 14] = [
        "",
        "net",
        "1.1.0",
        "0.2.0",
        "0.4.0",
        "1.0",
        "9.9.9",
        "10.1.2.3/24",
        "10.1.2.3",
        "fd00::1/64",
        "::ffff:1.2.3.4/96",
        "eth0",
        "true",
        "te%%st",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        proptest::sample::select(&TEXTS[..]).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let tree = leaf.prop_recursive(4, 40, 6, |inner| {
        let member = (proptest::sample::select(&KEYS[..]), inner.clone());
        prop_oneof![
            vec(inner, 0..4).prop_map(Value::from),
            vec(member, 0..6).prop_map(|members| {
                let members = members.into_iter().map(|(key, value)| (key.to_owned(), value));
                Value::Object(members.collect::<Map<_, _>>())
            }),
        ]
    });
    // Most are valid as far as the version gate, so that what lies behind is reached.
    (tree, proptest::sample::select(&SUPPORTED_VERSIONS[..]), 0..4_u8).prop_map(
        |(mut tree, version, fate)| {
            if let (Value::Object(tree), 1..) = (&mut tree, fate) {
                tree.insert("name".to_owned(), "net".into());
                tree.insert("cniVersion".to_owned(), version.to_string().into());
            }
            tree
        },
    )
}

fn environments() -> impl Strategy<Value = Vec<(String, String)>> {
    const NAMES: [&str; 8] = [
        "CNI_COMMAND",
        "CNI_CONTAINERID",
        "CNI_NETNS",
        "CNI_IFNAME",
        "CNI_ARGS",
        "CNI_PATH",
        "CNI_NETNS_OVERRIDE",
        "OTHER",
    ];
    const VALUES: [&str; 12] = [
        "ADD",
        "DEL",
        "CHECK",
        "GC",
        "STATUS",
        "VERSION",
        "",
        "abc",
        "eth0",
        "/a:/b",
        "IP=10.0.0.1",
        "IgnoreUnknown=1",
    ];
    let value = prop_oneof![
        4 => proptest::sample::select(&VALUES[..]).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    let pair = (
        proptest::sample::select(&NAMES[..]).prop_map(str::to_owned),
        value,
    );
    let complete: Vec<(String, String)> = [
        ("CNI_CONTAINERID", "abc"),
        ("CNI_NETNS", "/nowhere"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/nowhere"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let verb = proptest::sample::select(&VALUES[..6]).prop_map(str::to_owned);
    prop_oneof![
        vec(pair, 0..8),
        verb.prop_map(move |verb| {
            let mut complete = complete.clone();
            complete.push(("CNI_COMMAND".to_owned(), verb));
            complete
        }),
    ]
}

/// Whatever the outcome, a runtime can read it.
fn stays_readable(environment: Vec<(String, String)>, stdin: &[u8]) {
    let environment: Environment = environment.into_iter().collect();
    let outcome = call_reading(&Recorder::default(), &environment, &mut &*stdin);
    if !outcome.succeeded {
        let json = outcome.json();
        assert!(json["code"].as_u64().is_some_and(|code| code > 0), "{json}");
        assert!(
            json["msg"].as_str().is_some_and(|text| !text.is_empty()),
            "{json}"
        );
        let version = json["cniVersion"].as_str().unwrap().parse::<Version>().unwrap();
        assert!(SUPPORTED_VERSIONS.contains(&version), "{json}");
    } else if !outcome.stdout.is_empty() {
        outcome.json();
    }
}

proptest! {
    #[test]
    fn results_survive_what_their_version_can_say(result in results()) {
        for version in SUPPORTED_VERSIONS {
            let printed = match result.to_json(version) {
                Ok(printed) => printed,
                Err(error) => {
                    prop_assert!(version < Version::V0_3_0 && result.ips.is_empty(), "{}", error);
                    continue;
                }
            };
            let expected = match version {
                Version::V1_1_0 => result.clone(),
                version if version < Version::V0_3_0 => legacy(&result),
                _ => without_details(&result),
            };
            // The version inside counts, not the default.
            for default in [Version::V0_1_0, Version::V1_1_0] {
                prop_assert_eq!(&AddResult::from_json(&printed, default).unwrap(), &expected);
            }
        }
    }

    #[test]
    fn no_input_panics(environment in environments(), stdin in vec(any::<u8>(), 0..200)) {
        stays_readable(environment, &stdin);
    }

    #[test]
    fn no_configuration_panics(environment in environments(), config in configurations()) {
        let text = config.to_string();
        stays_readable(environment, text.as_bytes());
        if let Ok(config) = NetworkConfig::parse(text.as_bytes()) {
            prop_assert_eq!(config.text(), text.as_bytes());
        }
    }

    #[test]
    fn no_result_panics(value in configurations()) {
        for default in SUPPORTED_VERSIONS {
            if let Ok(result) = AddResult::from_json(&value, default) {
                for version in SUPPORTED_VERSIONS {
                    let _ = result.to_json(version);
                }
            }
        }
    }

    #[test]
    fn no_arguments_panic(text in prop_oneof![any::<String>(), "[a-cI=;]{0,20}", "(IgnoreUnknown=[a-z01]{0,5};?|IP=[0-9.]{0,4};?){0,3}"]) {
        if let Ok(args) = Args::parse(&text) {
            let _ = args.value("IP");
            let known = args.require_known(&["IP"]);
            prop_assert!(known.is_ok() || !text.is_empty());
        }
    }
}
