// SPDX-License-Identifier: Apache-2.0
//! Tunnel devices on a real kernel.

mod support;

use std::collections::BTreeSet;
use std::process::Command;

use kernel::fdb::DEFAULT_MAC;
use kernel::tunnel::IPIP_FALLBACK;
use kernel::{Change, Difference, Ipip, Monitor, MonitorOptions, Netlink, TunnelKind, TunnelSpec, Vxlan};
use support::{addr, in_namespace, ip, mac, refused, run, veth};

fn vxlan(parent: u32, local: &str) -> Vxlan {
    Vxlan {
        id: 4096,
        port: 4789,
        local: Some(local.parse().unwrap()),
        parent: Some(parent),
        mac: Some(mac("66:01:02:03:04:05")),
        learning: false,
    }
}

fn spec(kind: TunnelKind) -> TunnelSpec<'static> {
    TunnelSpec {
        name: "tunnel0",
        mtu: Some(1400),
        kind,
    }
}

#[test]
fn vxlan_devices_of_both_families() {
    in_namespace(|socket| {
        let parent = veth(socket, "eth0", "far0");
        assert_eq!(socket.tunnel("tunnel0").unwrap(), None);
        for (local, attribute) in [("192.0.2.1", "local"), ("2001:db8::1", "local6")] {
            let wanted = vxlan(parent.index, local);
            let created = socket.create_tunnel(&spec(TunnelKind::Vxlan(wanted))).unwrap();
            assert_eq!(created.kind, Some(TunnelKind::Vxlan(wanted)));
            assert_eq!(created.differs(&spec(TunnelKind::Vxlan(wanted))), None);
            let witness = &ip("link show tunnel0")[0];
            assert_eq!(
                (&witness["mtu"], &witness["address"]),
                (&1400.into(), &"66:01:02:03:04:05".into())
            );
            let data = &witness["linkinfo"]["info_data"];
            assert_eq!((&data["id"], &data["port"]), (&4096.into(), &4789.into()));
            assert_eq!((&data[attribute], &data["link"]), (&local.into(), &"eth0".into()));
            assert_eq!(data["learning"], false);

            assert!(socket.delete_tunnel(&created).unwrap());
            assert_eq!(socket.tunnel("tunnel0").unwrap(), None);
        }
    });
}

#[test]
fn mtu_and_mac_are_adjusted_in_place() {
    in_namespace(|socket| {
        let parent = veth(socket, "eth0", "far0");
        let first = vxlan(parent.index, "192.0.2.1");
        let device = socket.create_tunnel(&spec(TunnelKind::Vxlan(first))).unwrap();
        socket.set_link_up(&device.link).unwrap();
        let wanted = TunnelSpec {
            mtu: Some(1300),
            ..spec(TunnelKind::Vxlan(Vxlan {
                mac: Some(mac("66:0a:0b:0c:0d:0e")),
                ..first
            }))
        };
        let difference = device.differs(&wanted).unwrap();
        assert!(matches!(difference, Difference::Adjustable(_)), "{difference}");
        socket.adjust_tunnel(&device, &wanted).unwrap();
        let adjusted = socket.tunnel("tunnel0").unwrap().unwrap();
        assert_eq!(adjusted.differs(&wanted), None);
        assert_eq!(adjusted.link.index, device.link.index);
        assert!(adjusted.link.is_up());
    });
}

#[test]
fn wrong_devices_are_found_out() {
    in_namespace(|socket| {
        let parent = veth(socket, "eth0", "far0");
        let wanted = spec(TunnelKind::Vxlan(vxlan(parent.index, "192.0.2.1")));
        let difference = |socket: &mut Netlink, words: &str| {
            let mut arguments = vec!["link", "add", "tunnel0", "mtu", "1400"];
            arguments.extend(words.split(' '));
            run("ip", &arguments);
            let device = socket.tunnel("tunnel0").unwrap().unwrap();
            let difference = device.differs(&wanted).unwrap().to_string();
            assert!(socket.delete_tunnel(&device).unwrap());
            difference
        };
        let address = "address 66:01:02:03:04:05 type vxlan";
        assert_eq!(difference(socket, "type veth"), "driver is veth, wanted vxlan");
        assert_eq!(
            difference(
                socket,
                &format!("{address} id 9 dstport 8472 local 192.0.2.1 dev eth0 nolearning")
            ),
            "id is 9, wanted 4096, port is 8472, wanted 4789"
        );
        assert_eq!(
            difference(
                socket,
                &format!("{address} id 4096 dstport 4789 local 192.0.2.1 remote 192.0.2.9 dev eth0")
            ),
            "learning is true, wanted false, has group 192.0.2.9"
        );
        assert_eq!(
            difference(socket, &format!("{address} external dstport 4789 nolearning gbp")),
            format!(
                "id is 0, wanted 4096, local is none, wanted 192.0.2.1, parent index is none, wanted {}, has external, has gbp",
                parent.index
            )
        );

        // The name is taken; the same packets are taken.
        socket.create_tunnel(&wanted).unwrap();
        let error = refused(socket.create_tunnel(&wanted));
        assert!(
            error.is_exists() && error.to_string().starts_with("create vxlan tunnel0: "),
            "{error}"
        );
        let error = refused(socket.create_tunnel(&TunnelSpec {
            name: "tunnel1",
            ..wanted
        }));
        assert!(
            error.is_exists() && error.to_string().contains("VNI 4096"),
            "{error}"
        );
    });
}

/// Where the kernel has ipip: an own device, its adjustment, and the device of the module. Else: that it is said so.
#[test]
fn ipip_devices_or_a_clear_refusal() {
    in_namespace(|socket| {
        let ipip = |local: Option<&str>| {
            spec(TunnelKind::Ipip(Ipip {
                local: local.map(|local| local.parse().unwrap()),
            }))
        };
        let wanted = ipip(Some("192.0.2.1"));
        let device = match socket.create_tunnel(&wanted) {
            Ok(device) => device,
            Err(error) => {
                assert!(error.is_unsupported(), "{error}");
                assert!(
                    error
                        .to_string()
                        .contains("the kernel has no ipip: load the module ipip"),
                    "{error}"
                );
                eprintln!("SKIPPED: {error}");
                return;
            }
        };
        assert_eq!(device.differs(&wanted), None);
        let data = &ip("link show tunnel0")[0]["linkinfo"]["info_data"];
        assert_eq!(
            (&data["local"], &data["remote"]),
            (&"192.0.2.1".into(), &"any".into())
        );

        let moved = ipip(Some("192.0.2.2"));
        assert!(matches!(device.differs(&moved), Some(Difference::Adjustable(_))));
        socket.adjust_tunnel(&device, &moved).unwrap();
        let device = socket.tunnel("tunnel0").unwrap().unwrap();
        assert_eq!(device.differs(&moved), None);
        assert!(socket.delete_tunnel(&device).unwrap());

        let fallback = TunnelSpec {
            name: IPIP_FALLBACK,
            ..ipip(None)
        };
        let device = socket.create_tunnel(&fallback).unwrap();
        socket.adjust_tunnel(&device, &fallback).unwrap();
        let device = socket.tunnel(IPIP_FALLBACK).unwrap().unwrap();
        assert_eq!(device.differs(&fallback), None);
        let is_gone = socket.delete_tunnel(&device).unwrap();
        assert_eq!(is_gone, socket.tunnel(IPIP_FALLBACK).unwrap().is_none());
    });
}

/// What `bridge` says of a device: MAC and remote of each entry with a remote.
fn bridge_entries(device: &str) -> BTreeSet<(String, String)> {
    let output = Command::new("bridge")
        .args(["-j", "fdb", "show", "dev", device])
        .output()
        .expect("iproute2");
    assert!(output.status.success());
    let entries: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |entry: &serde_json::Value, key: &str| Some(entry[key].as_str()?.to_owned());
    let entries = entries.as_array().unwrap().iter();
    entries
        .filter_map(|entry| Some((text(entry, "mac")?, text(entry, "dst")?)))
        .collect()
}

#[test]
fn remotes_of_a_vxlan_device() {
    in_namespace(|socket| {
        let parent = veth(socket, "eth0", "far0");
        for (local, remotes) in [
            ("192.0.2.1", ["192.0.2.8", "192.0.2.9"]),
            ("2001:db8::1", ["2001:db8::8", "2001:db8::9"]),
        ] {
            let device = socket
                .create_tunnel(&spec(TunnelKind::Vxlan(vxlan(parent.index, local))))
                .unwrap();
            let link = &device.link;
            let (far, [first, second]) = (mac("66:00:00:00:00:09"), remotes.map(addr));
            let listed = |socket: &mut Netlink| -> BTreeSet<(String, String)> {
                let entries = socket.forwarding(link.index).unwrap();
                assert!(
                    entries
                        .iter()
                        .all(|entry| entry.is_permanent() && entry.interface == link.index)
                );
                entries
                    .iter()
                    .map(|entry| (entry.mac.to_string(), entry.remote.to_string()))
                    .collect()
            };
            let pairs = |pairs: &[(kernel::MacAddress, std::net::IpAddr)]| -> BTreeSet<_> {
                pairs
                    .iter()
                    .map(|(mac, remote)| (mac.to_string(), remote.to_string()))
                    .collect()
            };
            let mut monitor = Monitor::open(MonitorOptions {
                neighbours: true,
                ..MonitorOptions::default()
            })
            .unwrap();

            socket.replace_forwarding(link, far, first).unwrap();
            assert_eq!(listed(socket), pairs(&[(far, first)]));
            socket.replace_forwarding(link, far, second).unwrap();
            socket.append_forwarding(link, DEFAULT_MAC, first).unwrap();
            socket.append_forwarding(link, DEFAULT_MAC, second).unwrap();
            let expected = pairs(&[(far, second), (DEFAULT_MAC, first), (DEFAULT_MAC, second)]);
            assert_eq!(
                (listed(socket), bridge_entries("tunnel0")),
                (expected.clone(), expected)
            );

            assert!(socket.delete_forwarding(link, DEFAULT_MAC, first).unwrap());
            // Another remote stays, and the kernel does not say that there was nothing to do.
            assert!(socket.delete_forwarding(link, far, first).unwrap());
            let unknown = mac("66:00:00:00:00:01");
            assert!(!socket.delete_forwarding(link, unknown, first).unwrap());
            assert_eq!(listed(socket), pairs(&[(far, second), (DEFAULT_MAC, second)]));

            let mut changes = Vec::new();
            monitor.read(&mut changes).unwrap();
            let seen = |gone: bool, remote| {
                changes.iter().any(|change| {
                    matches!(change, Change::Forwarding { entry, deleted }
                        if *deleted == gone && entry.mac == DEFAULT_MAC && entry.remote == remote)
                })
            };
            assert!(
                seen(false, first) && seen(false, second) && seen(true, first),
                "{changes:#?}"
            );
            assert!(!seen(true, second));
            assert!(socket.delete_tunnel(&device).unwrap());
            assert_eq!(socket.forwarding(link.index).unwrap(), []);
            assert!(refused(socket.replace_forwarding(link, far, first)).is_not_found());
        }
    });
}

#[test]
fn neighbours_of_a_vxlan_device() {
    in_namespace(|socket| {
        let parent = veth(socket, "eth0", "far0");
        let device = socket
            .create_tunnel(&spec(TunnelKind::Vxlan(vxlan(parent.index, "192.0.2.1"))))
            .unwrap();
        let link = &device.link;
        socket.set_link_up(link).unwrap();
        let (first, second) = (mac("66:00:00:00:00:08"), mac("66:00:00:00:00:09"));
        for address in [addr("192.168.9.0"), addr("fd00:9::1")] {
            socket.replace_neighbour(link, address, first).unwrap();
            socket.replace_neighbour(link, address, second).unwrap();
            let listed = socket.neighbours(Some(link.index)).unwrap();
            let found = listed
                .iter()
                .find(|neighbour| neighbour.address == address)
                .unwrap();
            assert!(found.is_permanent());
            assert_eq!(found.mac, Some(second));
            assert_eq!(socket.neighbours(Some(parent.index)).unwrap(), []);
            socket.delete_neighbour(link, address).unwrap();
            let listed = socket.neighbours(Some(link.index)).unwrap();
            assert!(
                !listed
                    .iter()
                    .any(|neighbour| neighbour.address == address && neighbour.is_permanent())
            );
        }
        assert_eq!(socket.neighbours(Some(4711)).unwrap(), []);
    });
}
