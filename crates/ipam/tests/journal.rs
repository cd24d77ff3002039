// SPDX-License-Identifier: Apache-2.0
//! Every change of who has what leaves a line in the journal, written with the change itself.

mod support;

use std::{cell::Cell, net::IpAddr, time::Duration};

use datastore::{Store, Write};
use ipam::{AdoptRequest, Clock, Engine, HandleSearch};
use model::Timestamp;
use support::*;

/// A millisecond passes whenever somebody looks.
struct Ticking(Cell<u64>);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix(1_772_359_200, 0)
    }

    fn monotonic(&self) -> Duration {
        self.0.set(self.0.get() + 1);
        Duration::from_millis(self.0.get())
    }

    fn back_off(&self, _: u32) {}
}

#[test]
fn changes_are_journalled_with_cause_and_duration() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/29", 30, &["node1"]);
        let clock = Ticking(Cell::new(0));
        let engine = Engine {
            clock: &clock,
            ..cluster.engine()
        };
        let mut wanted = request("node1", "net.c1", 1, 0);
        wanted.cause = "ADD".to_owned();
        let address = engine.auto_assign(&wanted, &mut no_writes).unwrap().addresses[0];
        let adopt = AdoptRequest {
            node: "node1".to_owned(),
            handle: "net.c2".to_owned(),
            attributes: wanted.attributes.clone(),
            addresses: vec![address.address],
            replace: true,
            cause: "recovery".to_owned(),
        };
        engine.adopt(&adopt, &mut no_writes).unwrap();
        let mut none = |_: &[IpAddr]| Vec::<Write>::new();
        engine
            .release_by_handle("net.c2", HandleSearch::Listed, "DEL", &mut none)
            .unwrap();
        engine.release_host_affinities("node1", true, "removal").unwrap();
        let mut lines = cluster.store.journal(10).unwrap();
        lines.reverse();
        let texts: Vec<String> = lines
            .iter()
            .map(|line| format!("{} {} {} {}", line.event, line.subject, line.handle, line.cause))
            .collect();
        assert_eq!(
            texts,
            [
                format!("claim {} host:node1 ADD", address.block),
                format!("assign {} net.c1 ADD", address.address),
                format!("adopt {} net.c2 recovery", address.address),
                format!("release {} net.c2 DEL", address.address),
                format!("unclaim {} host:node1 removal", address.block),
            ]
        );
        assert!(
            lines.iter().all(|line| line.duration >= Duration::from_millis(1)),
            "{lines:?}"
        );
    }
}

#[test]
fn what_does_not_happen_is_not_journalled() {
    let cluster = Cluster::with_pool(both_modes()[0], "10.0.0.0/30", 30, &["node1"]);
    cluster.assign("node1", "h", 4, 0).unwrap();
    let before = cluster.store.journal(100).unwrap().len();
    cluster.assign("node1", "more", 1, 0).unwrap_err();
    cluster.release("unknown");
    cluster.assign_address("node1", "h", "10.0.0.1").unwrap_err();
    assert_eq!(cluster.store.journal(100).unwrap().len(), before);
}
