// SPDX-License-Identifier: Apache-2.0
//! The envelope: what creation fills in, what the kind decides, what survives.

use serde_json::{Value, json};

use super::*;
use crate::{cluster_information::ClusterInformationSpec, ip_reservation::IpReservationSpec};

type ClusterInformation = Resource<ClusterInformationSpec>;
type IpReservation = Resource<IpReservationSpec>;

#[test]
fn version_4_uuids() {
    assert_eq!(uuid_v4([0; 16]), "00000000-0000-4000-8000-000000000000");
    assert_eq!(uuid_v4([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    let counting: [u8; 16] = std::array::from_fn(|index| u8::try_from(index).unwrap());
    assert_eq!(uuid_v4(counting), "00010203-0405-4607-8809-0a0b0c0d0e0f");
}

#[test]
fn creation_fills_in_what_is_missing() {
    let mut reservation = IpReservation::new("a", IpReservationSpec::default());
    reservation
        .metadata
        .complete([0; 16], Timestamp::from_unix(1_772_359_200, 5));
    let expected = json!({
        "kind": "IPReservation",
        "apiVersion": "projectcalico.org/v3",
        "metadata": {
            "name": "a",
            "uid": "00000000-0000-4000-8000-000000000000",
            "creationTimestamp": "2026-03-01T10:00:00Z",
        },
        "spec": {},
    });
    assert_eq!(serde_json::to_value(&reservation).unwrap(), expected);
    let before = reservation.clone();
    reservation.metadata.complete([1; 16], Timestamp::from_unix(0, 0));
    assert_eq!(reservation, before, "a second time changes nothing");
}

#[test]
fn go_decoding_rules() {
    let read = |text: &str| serde_json::from_str::<ClusterInformation>(text);
    let object = read(
        r#"{"KIND":"ClusterInformation","Metadata":{"NAME":"default"},"spec":{"clusterguid":"a","clusterGUID":"b"}}"#,
    );
    let object = object.unwrap();
    assert_eq!(
        (object.metadata.name.as_str(), object.spec.cluster_guid.as_str()),
        ("default", "b"),
        "the last one wins"
    );
    for text in [
        "{}",
        r#"{"metadata":null,"spec":null,"status":null,"kind":null,"apiVersion":""}"#,
    ] {
        let object = read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(object.spec, ClusterInformationSpec::default());
        assert_eq!(object.status, None);
    }
    for (text, complaint) in [
        ("[]", "a JSON object"),
        ("7", "a JSON object"),
        (r#"{"metadata":{"labels":{"a":1}}}"#, "metadata: labels: "),
        (r#"{"spec":{"datastoreReady":"yes"}}"#, "spec: datastoreReady: "),
        (
            r#"{"metadata":{"creationTimestamp":"now"}}"#,
            "metadata: creationTimestamp: \"now\" is not an RFC 3339 time",
        ),
    ] {
        let error = read(text).expect_err(text).to_string();
        assert!(error.contains(complaint), "{text}: {error}");
    }
}

#[test]
fn unknown_members_survive_at_every_level() {
    let stored = json!({
        "kind": "ClusterInformation",
        "apiVersion": "projectcalico.org/v3",
        "metadata": {"name": "default", "finalizers": ["a/b"], "ownerReferences": [{"name": "x"}]},
        "spec": {"datastoreReady": true, "variant": "Calico", "number": 1.5, "large": 18_446_744_073_709_551_615_u64},
        "status": {"anything": [null, {}]},
        "beside": {"spec": true},
    });
    let mut object: ClusterInformation = serde_json::from_value(stored.clone()).unwrap();
    object.spec.datastore_ready = Some(false);
    let mut expected: Value = stored;
    expected["spec"]["datastoreReady"] = json!(false);
    assert_eq!(serde_json::to_value(&object).unwrap(), expected);
}

#[test]
fn keys_of_resources() {
    let object = ClusterInformation::new("default", ClusterInformationSpec::default());
    assert_eq!(object.key(), Key::resource(Kind::ClusterInformation, "default"));
    let mut strayed = object;
    strayed.metadata.namespace = Some("ns".into());
    assert_eq!(
        strayed.key(),
        Key::resource(Kind::ClusterInformation, "default"),
        "cluster-scoped all the same"
    );
}
