// SPDX-License-Identifier: Apache-2.0
//! Tunnel addresses: each case of the reconciliation of section 7.

mod support;

use std::net::IpAddr;

use ipam::{ReleaseOption, TunnelOutcome, TunnelRequest};
use model::{
    Key,
    ip_pool::{AllowedUse, EncapsulationMode},
    names::TunnelKind,
};
use support::*;

fn ipip_cluster() -> Cluster {
    let cluster = Cluster::with_pool(both_modes()[0], "10.0.0.0/24", 26, &["node1", "node2"]);
    cluster.edit_pool("pool", |spec| spec.ipip_mode = EncapsulationMode::CrossSubnet);
    cluster
}

fn reconcile(cluster: &Cluster, kind: TunnelKind, recorded: Option<IpAddr>) -> TunnelOutcome {
    let request = TunnelRequest {
        node: "node1".to_owned(),
        kind,
        recorded,
        cause: "tunnel".to_owned(),
    };
    cluster
        .engine()
        .reconcile_tunnel_address(&request, &mut no_writes)
        .unwrap()
}

fn assigned(outcome: &TunnelOutcome) -> IpAddr {
    match outcome {
        TunnelOutcome::Assigned(assigned) => assigned.address,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_gets_the_first_address_of_its_block_and_keeps_it() {
    let cluster = ipip_cluster();
    let address = assigned(&reconcile(&cluster, TunnelKind::Ipip, None));
    let found = cluster.engine().allocation(address).unwrap().unwrap();
    assert_eq!(found.handle.as_deref(), Some("ipip-tunnel-addr-node1"));
    let attributes: Vec<_> = found
        .attributes
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    assert_eq!(attributes, [("node", "node1"), ("type", "ipipTunnelAddress")]);
    assert_eq!(found.assigned.block.network(), address);
    assert_eq!(
        reconcile(&cluster, TunnelKind::Ipip, Some(address)),
        TunnelOutcome::Kept(address)
    );
    // A record that was lost: the old address goes before a new one is taken.
    let next = assigned(&reconcile(&cluster, TunnelKind::Ipip, None));
    assert_ne!(next, address);
    assert_eq!(cluster.counted("ipip-tunnel-addr-node1"), 1);
    cluster.check();
}

#[test]
fn pools_decide_by_mode_use_family_and_selector() {
    let cluster = ipip_cluster();
    assert_eq!(
        reconcile(&cluster, TunnelKind::Vxlan, None),
        TunnelOutcome::NotWanted
    );
    assert_eq!(
        reconcile(&cluster, TunnelKind::VxlanV6, None),
        TunnelOutcome::NotWanted
    );
    let mut six = pool("fd00::/112");
    six.vxlan_mode = EncapsulationMode::Always;
    cluster.put_pool("six", six);
    assert!(assigned(&reconcile(&cluster, TunnelKind::VxlanV6, None)).is_ipv6());
    assert!(assigned(&reconcile(&cluster, TunnelKind::Wireguard, None)).is_ipv4());
    let address = assigned(&reconcile(&cluster, TunnelKind::Ipip, None));
    cluster.edit_pool("pool", |spec| spec.allowed_uses = vec![AllowedUse::Workload]);
    assert_eq!(
        reconcile(&cluster, TunnelKind::Ipip, Some(address)),
        TunnelOutcome::NotWanted
    );
    assert_eq!(cluster.engine().allocation(address).unwrap(), None);
    cluster.edit_pool("pool", |spec| {
        spec.allowed_uses.clear();
        spec.node_selector = "zone == 'x'".to_owned();
    });
    assert_eq!(
        reconcile(&cluster, TunnelKind::Ipip, None),
        TunnelOutcome::NotWanted
    );
}

#[test]
fn an_address_in_the_wrong_pool_moves() {
    let cluster = ipip_cluster();
    let address = assigned(&reconcile(&cluster, TunnelKind::Ipip, None));
    let mut other = pool("10.1.0.0/24");
    other.ipip_mode = EncapsulationMode::Always;
    cluster.put_pool("other", other);
    cluster.edit_pool("pool", |spec| spec.ipip_mode = EncapsulationMode::Never);
    let moved = assigned(&reconcile(&cluster, TunnelKind::Ipip, Some(address)));
    assert!(net("10.1.0.0/24").contains(&moved));
    assert_eq!(cluster.engine().allocation(address).unwrap(), None);
    assert_eq!(cluster.counted("ipip-tunnel-addr-node1"), 1);
}

#[test]
fn an_address_that_is_somebody_elses_is_left_alone() {
    let cluster = ipip_cluster();
    let pod = cluster.assign_one("node1", "pod");
    let address = assigned(&reconcile(&cluster, TunnelKind::Ipip, Some(pod.address)));
    assert_ne!(address, pod.address);
    assert_eq!(cluster.counted("pod"), 1);
    // The same type on another node is another's, too.
    let mut other = reconcile(&cluster, TunnelKind::Ipip, Some(address));
    assert_eq!(other, TunnelOutcome::Kept(address));
    let request = TunnelRequest {
        node: "node2".to_owned(),
        kind: TunnelKind::Ipip,
        recorded: Some(address),
        cause: "tunnel".to_owned(),
    };
    other = cluster
        .engine()
        .reconcile_tunnel_address(&request, &mut no_writes)
        .unwrap();
    assert_ne!(assigned(&other), address);
    assert_eq!(cluster.counted("ipip-tunnel-addr-node1"), 1);
}

#[test]
fn an_address_that_was_released_is_replaced_even_while_it_cools_down() {
    for cooldown in [0, 60] {
        let cluster = ipip_cluster();
        cluster.configure(|config| config.ip_cooldown_seconds = cooldown);
        let address = assigned(&reconcile(&cluster, TunnelKind::Ipip, None));
        cluster
            .engine()
            .release_addresses(&[ReleaseOption::unconditional(address)], "test", None)
            .unwrap();
        let next = assigned(&reconcile(&cluster, TunnelKind::Ipip, Some(address)));
        assert_ne!(next, address);
        cluster.check();
    }
}

#[test]
fn an_allocation_from_before_handles_is_taken_over() {
    let cluster = ipip_cluster();
    cluster.put_affinity("node1", "10.0.0.0/26", model::AffinityState::Confirmed);
    cluster.put_block("10.0.0.0/26", Some("node1"));
    let ancient = |cluster: &Cluster| {
        let mut block = cluster.block("10.0.0.0/26").unwrap();
        block.unallocated.retain(|ordinal| *ordinal != 5);
        block.allocations[5] = Some(block.attributes.len());
        block.attributes.push(model::AllocationAttribute::default());
        cluster.put(Key::Block(net("10.0.0.0/26")), &block);
    };
    ancient(&cluster);
    assert_eq!(
        assigned(&reconcile(&cluster, TunnelKind::Ipip, Some(ip("10.0.0.5")))),
        ip("10.0.0.5")
    );
    assert_eq!(cluster.counted("ipip-tunnel-addr-node1"), 1);
    cluster.check();
    // And given up without a handle, too.
    let cluster = ipip_cluster();
    cluster.put_affinity("node1", "10.0.0.0/26", model::AffinityState::Confirmed);
    cluster.put_block("10.0.0.0/26", Some("node1"));
    ancient(&cluster);
    cluster.edit_pool("pool", |spec| spec.ipip_mode = EncapsulationMode::Never);
    assert_eq!(
        reconcile(&cluster, TunnelKind::Ipip, Some(ip("10.0.0.5"))),
        TunnelOutcome::NotWanted
    );
    assert_eq!(cluster.engine().allocation(ip("10.0.0.5")).unwrap(), None);
}

#[test]
fn load_balancer_addresses_belong_to_no_node_and_their_empty_blocks_go() {
    let cluster = Cluster::new(both_modes()[0]);
    let mut spec = pool("10.50.0.0/28");
    spec.block_size = Some(30);
    spec.allowed_uses = vec![AllowedUse::LoadBalancer];
    cluster.put_pool("lb", spec);
    let mut wanted = request("load-balancer", "lb-x", 1, 0);
    wanted.intended_use = AllowedUse::LoadBalancer;
    let assigned = cluster
        .engine()
        .auto_assign(&wanted, &mut no_writes)
        .unwrap()
        .addresses[0];
    let block = cluster.block(&assigned.block.to_string()).unwrap();
    assert_eq!(block.affinity.unwrap().to_string(), "virtual:load-balancer");
    // Calico means to delete such a block with its last address, but never gets there (section 12).
    cluster.release("lb-x");
    assert_eq!(cluster.block(&assigned.block.to_string()), None);
}
