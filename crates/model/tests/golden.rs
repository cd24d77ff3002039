// SPDX-License-Identifier: Apache-2.0
//! Stored objects in Calico's JSON, read and written back (`testdata/ipam`, whose README says where they come from).

use std::{fs, path::PathBuf};

use model::{
    AffinityState, BlockAffinity, ClusterInformation, IpPool, IpReservation, IpamBlock, IpamConfig,
    IpamHandle, Key, Kind, Node, WorkloadEndpoint,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/ipam")
}

fn text(name: &str) -> String {
    let path = folder().join(format!("{name}.json"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_str(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Reads `name` as a `T`, writes it, and compares with `expected`, member by member.
fn rewrites_to<T: DeserializeOwned + Serialize>(name: &str, expected: &str) {
    let written: Value = serde_json::from_str(&serde_json::to_string(&read::<T>(name)).unwrap()).unwrap();
    let expected_value: Value = serde_json::from_str(&text(expected)).unwrap();
    assert_eq!(written, expected_value, "{name} rewritten, against {expected}");
    // Writing is stable: what was written reads back and writes the same.
    let again: T = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(
        serde_json::to_value(&again).unwrap(),
        written,
        "{name} rewritten twice"
    );
}

fn check(name: &str) {
    match name {
        "block-fresh-null-attributes" | "block-other-case" => rewrites_to::<IpamBlock>(name, "block-fresh"),
        "block-full-null-unallocated" => rewrites_to::<IpamBlock>(name, "block-full"),
        "block-marked-deleted-string" => rewrites_to::<IpamBlock>(name, "block-marked-deleted"),
        "block-ancient" => rewrites_to::<IpamBlock>(name, "block-ancient-rewritten"),
        "affinity-empty-value" => assert_eq!(
            BlockAffinity::from_stored(&text(name)).unwrap(),
            BlockAffinity::new(AffinityState::Confirmed)
        ),
        "affinity-empty-object" | "affinity-empty-state" => {
            rewrites_to::<BlockAffinity>(name, "affinity-confirmed");
        }
        "handle-null-blocks" => rewrites_to::<IpamHandle>(name, "handle-no-blocks"),
        "pool-only-cidr" => rewrites_to::<IpPool>(name, "pool-only-cidr-rewritten"),
        "reservation" => rewrites_to::<IpReservation>(name, name),
        "node" => rewrites_to::<Node>(name, name),
        "workload-endpoint" => rewrites_to::<WorkloadEndpoint>(name, name),
        "cluster-information" => rewrites_to::<ClusterInformation>(name, name),
        _ => match name.split('-').next() {
            Some("block") => rewrites_to::<IpamBlock>(name, name),
            Some("affinity") => rewrites_to::<BlockAffinity>(name, name),
            Some("handle") => rewrites_to::<IpamHandle>(name, name),
            Some("config") => rewrites_to::<IpamConfig>(name, name),
            Some("pool") => rewrites_to::<IpPool>(name, name),
            _ => panic!("{name}: no test knows this fixture"),
        },
    }
}

#[test]
fn every_fixture_is_read_and_written_back() {
    let mut seen = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            check(path.file_stem().unwrap().to_str().unwrap());
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} fixtures found");
}

#[test]
fn sound_blocks_have_no_defects() {
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if name.starts_with("block-") {
            assert_eq!(read::<IpamBlock>(name).validate(None), [], "{name}");
        }
    }
}

#[test]
fn large_sequence_numbers_keep_every_bit() {
    let block: IpamBlock = read("block-full");
    assert_eq!(block.sequence_number, u64::MAX);
    assert_eq!(block.sequence_number_for_allocation[&0], (1 << 53) + 1);
    assert_eq!(block.sequence_number_for_allocation[&1], 1 << 63);
}

#[test]
fn what_the_fields_of_a_block_mean() {
    let block: IpamBlock = read("block-two-allocations");
    assert_eq!(block.affinity, Some("host:node1".parse().unwrap()));
    assert_eq!(
        block.affinity_claim_time.unwrap().to_string(),
        "2026-03-01T10:00:00Z"
    );
    assert_eq!(
        block.attribute(1).unwrap().handle_id.as_deref(),
        Some("k8s-pod-network.4f1c")
    );
    assert_eq!(block.attribute(1).unwrap().secondary["pod"], "web-0");
    assert_eq!(block.attribute(2), None);
    assert_eq!(block.attribute(4), None);
    assert_eq!(
        block.key().to_string(),
        "/calico/ipam/v2/assignment/ipv4/block/10.9.0.4-30"
    );
    let shifted: IpamBlock = read("block-other-case");
    assert_eq!(
        shifted.affinity_claim_time, block.affinity_claim_time,
        "an offset of two hours"
    );
    let cooling: IpamBlock = read("block-cooling");
    assert_eq!(
        cooling.attribute(0).unwrap().released_at.unwrap().to_string(),
        "2026-03-01T10:05:00Z"
    );
    assert_eq!(cooling.attribute(0).unwrap().handle_id, None);
}

#[test]
fn a_new_block_is_what_calico_writes() {
    let claimed = "2026-03-01T10:00:00.9Z".parse().unwrap();
    let owner = "host:node1".parse().unwrap();
    let sequence = 1_772_359_200_123_456_789;
    let block = IpamBlock::new(
        "10.9.0.8/30".parse().unwrap(),
        Some(owner),
        Some(claimed),
        sequence,
    )
    .unwrap();
    let expected: Value = serde_json::from_str(&text("block-fresh")).unwrap();
    assert_eq!(serde_json::to_value(&block).unwrap(), expected);
    assert_eq!(
        IpamBlock::new("10.0.0.0/19".parse().unwrap(), None, None, 1),
        None
    );
    assert_eq!(IpamBlock::new("fd00::/115".parse().unwrap(), None, None, 1), None);
}

#[test]
fn an_existing_configuration_without_automatic_blocks_forbids_them() {
    assert!(IpamConfig::default().auto_allocate_blocks, "no object");
    assert!(
        !read::<IpamConfig>("config-without-auto-allocate").auto_allocate_blocks,
        "an object without the member"
    );
    let everything: IpamConfig = read("config-everything");
    assert_eq!(everything.cooldown().as_secs(), 30);
    assert_eq!(everything.max_blocks_per_host, 4);
}

#[test]
fn pools_read_with_their_defaults() {
    let pool: IpPool = read("pool-only-cidr");
    assert_eq!(pool.spec.effective_block_size(), 122);
    assert!(pool.enabled());
    assert_eq!(pool.key(), Key::resource(Kind::IpPool, "bare"));
    assert!(!read::<IpPool>("pool-not-allocatable").enabled());
}

#[test]
fn reservations_skip_what_is_malformed() {
    let reservation: IpReservation = read("reservation");
    let prefixes: Vec<String> = reservation
        .spec
        .prefixes()
        .map(|prefix| prefix.to_string())
        .collect();
    assert_eq!(prefixes, ["10.244.0.0/30", "10.244.9.9/32", "fd00:10:244::1/128"]);
}

#[test]
fn host_addresses_of_a_node() {
    let node: Node = read("node");
    let addresses: Vec<String> = node
        .spec
        .host_addresses()
        .map(|address| address.to_string())
        .collect();
    assert_eq!(addresses, ["10.0.0.5", "2001:db8::5", "10.0.0.5", "192.0.2.7"]);
}

#[test]
fn an_endpoint_is_stored_under_the_name_its_fields_decide() {
    let endpoint: WorkloadEndpoint = read("workload-endpoint");
    assert_eq!(endpoint.spec.name().unwrap(), endpoint.metadata.name);
    let named = WorkloadEndpoint::named("default", endpoint.spec.clone()).unwrap();
    assert_eq!(
        named.key().to_string(),
        "/calico/resources/v3/projectcalico.org/workloadendpoints/default/node1-k8s-web--0-eth0"
    );
}

#[test]
fn malformed_members_are_named() {
    let cases: [(&str, &str); 9] = [
        (r#"{"cidr":"10.9.0.4/33"}"#, "cidr: "),
        ("{}", "missing field `cidr`"),
        (r#"{"cidr":"10.9.0.4/30","affinity":"node1"}"#, "affinity: "),
        (
            r#"{"cidr":"10.9.0.4/30","affinity_claim_time":"yesterday"}"#,
            "affinity_claim_time: ",
        ),
        (r#"{"cidr":"10.9.0.4/30","allocations":[-1]}"#, "allocations: "),
        (
            r#"{"cidr":"10.9.0.4/30","attributes":[{"secondary":{"node":7}}]}"#,
            "attributes: secondary: ",
        ),
        (
            r#"{"cidr":"10.9.0.4/30","sequenceNumber":"x"}"#,
            "sequenceNumber: ",
        ),
        (
            r#"{"cidr":"10.9.0.4/30","sequenceNumberForAllocation":{"x":1}}"#,
            "sequenceNumberForAllocation: ",
        ),
        (r#"{"cidr":"10.9.0.4/30","deleted":"perhaps"}"#, "deleted: "),
    ];
    for (text, expected) in cases {
        let error = serde_json::from_str::<IpamBlock>(text)
            .expect_err(text)
            .to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let error = serde_json::from_str::<IpPool>(r#"{"spec":{"cidr":"10.0.0.0/8","ipipMode":"Sometimes"}}"#);
    let error = error.expect_err("no such mode").to_string();
    assert!(
        error.contains(r#"spec: ipipMode: "Sometimes" is not one of Never, Always, CrossSubnet"#),
        "{error}"
    );
    let error = serde_json::from_str::<IpPool>(r#"{"kind":"Node","spec":{"cidr":"10.0.0.0/8"}}"#);
    let error = error.expect_err("another kind").to_string();
    assert!(
        error.contains(r#""Node" is stored where kind IPPool belongs"#),
        "{error}"
    );
}
