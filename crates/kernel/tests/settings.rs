// SPDX-License-Identifier: Apache-2.0
//! Sysctls, and that setting them through netlink is the same.

mod support;

use std::collections::BTreeMap;
use std::fs;

use kernel::{Ipv4Conf, sysctl};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use support::{in_namespace, refused, veth};

const ALL: [Ipv4Conf; 10] = [
    Ipv4Conf::Forwarding,
    Ipv4Conf::ProxyArp,
    Ipv4Conf::AcceptRedirects,
    Ipv4Conf::SendRedirects,
    Ipv4Conf::RpFilter,
    Ipv4Conf::ArpAnnounce,
    Ipv4Conf::ArpIgnore,
    Ipv4Conf::ArpNotify,
    Ipv4Conf::AcceptLocal,
    Ipv4Conf::RouteLocalnet,
];

/// Every IPv4 setting of a device, or of `all`.
fn settings(device: &str) -> BTreeMap<String, String> {
    let folder = format!("/proc/sys/net/ipv4/conf/{device}");
    let names = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter_map(|name| {
            Some((
                sysctl::read(&format!("net/ipv4/conf/{device}/{name}")).ok()?,
                name,
            ))
        })
        .map(|(v, n)| (n, v))
        .collect()
}

#[test]
fn netlink_and_proc_have_the_same_effect() {
    in_namespace(|socket| {
        // Up and down: the way of a setting must not depend on it.
        for up in [false, true] {
            let (by_netlink, by_proc) = (veth(socket, "n.1", "n2"), veth(socket, "p.1", "p2"));
            if up {
                socket.set_link_up(&by_netlink).unwrap();
                socket.set_link_up(&by_proc).unwrap();
            }
            assert_eq!(settings("n.1"), settings("p.1"));
            let all = settings("all");
            for setting in ALL {
                let path = format!("net/ipv4/conf/p.1/{setting}");
                for value in ["1", "0", "1"] {
                    sysctl::write(&path, value).unwrap();
                    socket
                        .set_ipv4_conf(&by_netlink, &[(setting, value.parse().unwrap())])
                        .unwrap();
                    assert_eq!(settings("n.1"), settings("p.1"), "{setting} {value}");
                    assert_eq!(settings("n.1")[setting.name()], value, "{setting}");
                }
            }
            assert_eq!(settings("all"), all, "a device's settings are its own");
            // Several at once, as a plugin sets them.
            socket
                .set_ipv4_conf(&by_netlink, &[(Ipv4Conf::RpFilter, 2), (Ipv4Conf::Forwarding, 0)])
                .unwrap();
            assert_eq!(
                (&*settings("n.1")["rp_filter"], &*settings("n.1")["forwarding"]),
                ("2", "0")
            );
            socket.delete_link(&by_netlink).unwrap();
            socket.delete_link(&by_proc).unwrap();
        }
        let error = refused(socket.set_ipv4_conf(4711, &[(Ipv4Conf::Forwarding, 1)]));
        assert!(
            error
                .to_string()
                .starts_with("set link index 4711 ipv4 forwarding 1: No such device"),
            "{error}"
        );
    });
}

#[test]
fn a_packet_is_forwarded_or_not_by_the_netlink_setting() {
    in_namespace(|socket| {
        // The kernel's own view, which RTM_GETNETCONF shows: the same numbers the forwarding path reads.
        let link = veth(socket, "a", "b");
        for value in [1, 0] {
            socket
                .set_ipv4_conf(&link, &[(Ipv4Conf::Forwarding, value)])
                .unwrap();
            let netconf = std::process::Command::new("ip")
                .args(["-4", "netconf", "show", "dev", "a"])
                .output()
                .unwrap();
            let text = String::from_utf8(netconf.stdout).unwrap();
            assert!(
                text.contains(if value == 1 {
                    "forwarding on"
                } else {
                    "forwarding off"
                }),
                "{text}"
            );
        }
    });
}

#[test]
fn links_without_forwarding_are_listed_and_their_change_is_announced() {
    in_namespace(|socket| {
        sysctl::write("net/ipv4/ip_forward", "1").unwrap();
        let [one, other] = [("a", "b"), ("c", "d")].map(|(name, peer)| veth(socket, name, peer));
        assert_eq!(socket.links_without_forwarding().unwrap(), [].into());
        let mut monitor = kernel::Monitor::open(kernel::MonitorOptions::default()).unwrap();
        sysctl::write("net/ipv4/conf/a/forwarding", "0").unwrap();
        assert_eq!(socket.links_without_forwarding().unwrap(), [one.index].into());
        let mut changes = Vec::new();
        monitor.read(&mut changes).unwrap();
        assert_eq!(changes, [kernel::Change::Settings]);
        socket
            .set_ipv4_conf(&other, &[(Ipv4Conf::Forwarding, 0)])
            .unwrap();
        sysctl::write("net/ipv4/conf/a/forwarding", "1").unwrap();
        assert_eq!(socket.links_without_forwarding().unwrap(), [other.index].into());
        // What holds for later links is no link, nor does IPv6 count.
        sysctl::write("net/ipv4/conf/default/forwarding", "0").unwrap();
        sysctl::write("net/ipv6/conf/a/forwarding", "0").unwrap();
        assert_eq!(socket.links_without_forwarding().unwrap(), [other.index].into());
    });
}

#[test]
fn sysctls_are_written_in_place_or_refused() {
    in_namespace(|socket| {
        veth(socket, "eth0.5", "peer");
        sysctl::write("net/ipv4/conf/eth0.5/rp_filter", "2").unwrap();
        assert_eq!(sysctl::read("net/ipv4/conf/eth0.5/rp_filter").unwrap(), "2");
        assert!(sysctl::exists("net/ipv4/conf/eth0.5/rp_filter"));
        assert!(!sysctl::exists("net/ipv4/conf/eth0.6/rp_filter"));

        let error = refused(sysctl::write("net/ipv4/conf/nobody/rp_filter", "1"));
        assert!(error.is_not_found());
        assert_eq!(
            error.to_string(),
            "write 1 to sysctl net/ipv4/conf/nobody/rp_filter: No such file or directory (os error 2)"
        );
        assert_eq!(
            refused(sysctl::write("net/ipv4/conf/eth0.5/rp_filter", "many")).errno(),
            Some(libc::EINVAL)
        );
        assert!(refused(sysctl::read("net/ipv4/conf/nobody/rp_filter")).is_not_found());

        // A read-only /proc/sys, as in a container without privileges, in a mount namespace of this thread's own.
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("/proc/sys"), "/proc/sys", none, MsFlags::MS_BIND, none).unwrap();
        mount(
            none,
            "/proc/sys",
            none,
            MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY,
            none,
        )
        .unwrap();
        let error = refused(sysctl::write("net/ipv4/conf/eth0.5/rp_filter", "1"));
        assert!(error.is_read_only() && !error.is_not_found(), "{error}");
    });
}

#[test]
fn paths_never_lead_out() {
    for path in [
        "",
        "/etc/hostname",
        "../../etc/hostname",
        "net/../../../etc/hostname",
    ] {
        let error = refused(sysctl::read(path));
        assert!(
            error.to_string().ends_with("the path leads out of /proc/sys"),
            "{error}"
        );
        refused(sysctl::write(path, "1"));
        assert!(!sysctl::exists(path));
    }
    assert_eq!(sysctl::read("kernel/ostype").unwrap(), "Linux");
}
