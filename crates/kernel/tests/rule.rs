// SPDX-License-Identifier: Apache-2.0
//! Rules on a real kernel.

mod support;

use kernel::{Family, Request, Route, SourceRule};
use support::{in_namespace, ip, net, refused, veth};

#[test]
fn a_source_rule_decides_where_packets_of_an_address_go() {
    in_namespace(|socket| {
        let (first, second) = (veth(socket, "a", "b"), veth(socket, "c", "d"));
        for (link, address) in [(&first, "192.168.3.4/32"), (&second, "192.168.3.5/32")] {
            socket.set_link_up(link).unwrap();
            socket
                .add_address(link, net(address), kernel::AddressFlags::default())
                .unwrap();
        }
        socket
            .add_route(&Route::on_link(net("0.0.0.0/0"), first.index))
            .unwrap();
        let table = 5000;
        let mut route = Route::on_link(net("0.0.0.0/0"), second.index);
        route.table = table;
        socket.add_route(&route).unwrap();
        let rule = |source: &str, priority| SourceRule {
            source: net(source),
            table,
            priority,
        };
        let (v4, v6) = (rule("192.168.3.5/32", 100), rule("fd00::5/128", 101));
        for rule in [&v4, &v6] {
            socket.execute(Request::add_rule(rule)).unwrap();
            assert!(refused(socket.execute(Request::add_rule(rule))).is_exists());
        }
        assert_eq!(socket.source_rules(Family::Ipv4).unwrap(), [v4]);
        assert_eq!(socket.source_rules(Family::Ipv6).unwrap(), [v6]);
        let from = |source: &str| ip(&format!("route get 10.1.1.1 from {source}"))[0]["dev"].clone();
        assert_eq!(
            (from("192.168.3.4"), from("192.168.3.5")),
            ("a".into(), "c".into())
        );
        for rule in [&v4, &v6] {
            socket.execute(Request::delete_rule(rule)).unwrap();
            assert!(refused(socket.execute(Request::delete_rule(rule))).is_not_found());
        }
        assert_eq!(from("192.168.3.5"), "a");
    });
}
