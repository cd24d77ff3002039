// SPDX-License-Identifier: Apache-2.0
//! Replies that are lost while the world goes on: writes that arrive late, addresses that change hands before the
//! engine looks again, assignments cut short by a release of the same handle.

mod support;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
};

use datastore::{
    Batch, Entry, Hint, JournalRecord, Listing, MemoryOptions, MemoryStore, Revision, Store, StoreError,
    Watch, Write,
    memory::{Fault, FaultPlan, Step},
};
use ipam::{HandleSearch, ReleaseOption};
use ipnet::IpNet;
use model::{AffinityState, Key, KeyRange};
use support::*;

/// A store whose write number `lose` gets no reply and arrives only before write `deliver`, or with [`Late::finish`].
struct Late<'c> {
    inner: MemoryStore,
    state: Mutex<LateState>,
    /// What others do while the reply is awaited.
    meanwhile: &'c (dyn Fn() + Sync),
}

struct LateState {
    count: u64,
    lose: u64,
    deliver: u64,
    held: Option<Batch>,
}

impl<'c> Late<'c> {
    fn new(inner: MemoryStore, lose: u64, deliver: u64, meanwhile: &'c (dyn Fn() + Sync)) -> Self {
        let state = Mutex::new(LateState {
            count: 0,
            lose,
            deliver,
            held: None,
        });
        Self {
            inner,
            state,
            meanwhile,
        }
    }

    /// Whether the write was reached at all; whatever is still on its way arrives.
    fn finish(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        if let Some(batch) = state.held.take() {
            let _late = self.inner.commit(&batch);
        }
        state.count > state.lose
    }

    fn step(&self, batch: Batch) -> Result<Vec<Revision>, StoreError> {
        let mut state = self.state.lock().unwrap();
        let number = state.count;
        state.count += 1;
        if number == state.deliver
            && let Some(held) = state.held.take()
        {
            let _late = self.inner.commit(&held);
        }
        if number == state.lose {
            state.held = Some(batch);
            drop(state);
            (self.meanwhile)();
            return Err(StoreError::Unknown {
                reason: "no reply".to_owned(),
            });
        }
        self.inner.commit(&batch)
    }
}

impl Store for Late<'_> {
    fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.inner.get(key)
    }

    fn list_hinted(&self, range: &KeyRange, hint: &Hint) -> Result<Listing, StoreError> {
        self.inner.list_hinted(range, hint)
    }

    fn applies_hints(&self) -> bool {
        self.inner.applies_hints()
    }

    fn commit(&self, batch: &Batch) -> Result<Vec<Revision>, StoreError> {
        if self.atomic() {
            return self.step(batch.clone());
        }
        let mut revisions = Vec::new();
        for (applied, write) in batch.writes.iter().enumerate() {
            let one = Batch {
                writes: vec![write.clone()],
                ..Batch::default()
            };
            match self.step(one) {
                Ok(revision) => revisions.extend(revision),
                Err(StoreError::Conflict { key, .. }) => return Err(StoreError::Conflict { key, applied }),
                Err(StoreError::AlreadyExists { key, .. }) => {
                    return Err(StoreError::AlreadyExists { key, applied });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(revisions)
    }

    fn atomic(&self) -> bool {
        self.inner.atomic()
    }

    fn watch(&self, range: &KeyRange, from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.inner.watch(range, from)
    }

    fn journal(&self, limit: usize) -> Result<Vec<JournalRecord>, StoreError> {
        self.inner.journal(limit)
    }
}

/// Two affine blocks of node1; the first, in the order of their keys, is full (handles `f` and `g`).
fn full_and_open(mode: MemoryOptions) -> (Cluster, IpNet) {
    let cluster = Cluster::with_pool(mode, "10.0.0.0/29", 30, &["node1"]);
    for block in ["10.0.0.0/30", "10.0.0.4/30"] {
        cluster.put_block(block, Some("node1"));
        cluster.put_affinity("node1", block, AffinityState::Confirmed);
    }
    cluster.assign("node1", "f", 1, 0).unwrap();
    cluster.assign("node1", "g", 3, 0).unwrap();
    (cluster, net("10.0.0.4/30"))
}

/// The write to the open block hangs; meanwhile the full block gets room, so the second attempt goes there; then the
/// hanging write arrives, at every possible moment. No address may be lost to the handle.
#[test]
fn a_late_write_is_counted() {
    for mode in both_modes() {
        for lose in 0..3 {
            for deliver in [1, 2, 3, 4, 5, 100] {
                for room in [false, true] {
                    let context = format!(
                        "lose {lose}, deliver {deliver}, room {room}, atomic {}",
                        mode.atomic
                    );
                    let (cluster, _) = full_and_open(mode);
                    let meanwhile = || {
                        if room {
                            cluster.release("f");
                        }
                    };
                    let late = Late::new(cluster.store.client(), lose, deliver, &meanwhile);
                    let result = assign_with(&cluster.engine_on(&late), "node1", "h", 1, 0);
                    let reached = late.finish();
                    let assigned = result
                        .unwrap_or_else(|error| panic!("{context}: {error}"))
                        .addresses;
                    assert_eq!(assigned.len(), 1, "{context}");
                    let found = cluster
                        .engine()
                        .allocations_by_handle("h", HandleSearch::Thorough)
                        .unwrap();
                    assert!(
                        found.iter().any(|one| one.assigned == assigned[0]),
                        "{context}: {found:?}"
                    );
                    // With transactions the handle fences the late write off; without, it may land beside ours.
                    assert!(
                        found.len() == 1 || (!mode.atomic && found.len() == 2),
                        "{context}: {found:?}"
                    );
                    cluster.check();
                    assert_eq!(cluster.release("h").released.len(), found.len(), "{context}");
                    assert_eq!(cluster.handle("h"), None, "{context}");
                    assert!(reached || lose > 0, "{context}");
                }
            }
        }
    }
}

/// A release by handle comes between the count and the block of an assignment under the same handle.
#[test]
fn an_assignment_whose_handle_is_released_meanwhile_counts_again() {
    let (cluster, _) = full_and_open(MemoryOptions::kubernetes());
    let cluster = Arc::new(cluster);
    let (client, other) = (cluster.store.client(), Arc::clone(&cluster));
    interpose(&client, 1, move || {
        assert!(other.release("h").released.is_empty());
        assert_eq!(
            other.handle("h"),
            None,
            "nothing keeps a handle that counts nothing"
        );
    });
    let assigned = assign_with(&cluster.engine_on(&client), "node1", "h", 1, 0)
        .unwrap()
        .addresses;
    cluster.check();
    assert_eq!(cluster.release("h").released, [assigned[0].address]);
}

/// The reply is lost and the write too; meanwhile another process assigns the same ordinal to the same handle and
/// attributes. Only the sequence number tells that it is not ours.
#[test]
fn an_equal_allocation_of_another_write_is_not_taken_for_our_own() {
    let (cluster, open) = full_and_open(MemoryOptions::embedded());
    cluster.assign_address("node1", "last", "10.0.0.7").unwrap();
    let cluster = Arc::new(cluster);
    let (client, other) = (cluster.store.client(), Arc::clone(&cluster));
    let mut meanwhile = Some(move || {
        other.release("last");
        let theirs = other.assign_one("node1", "h");
        assert_eq!(theirs.address, ip("10.0.0.4"));
    });
    client.plan_faults(FaultPlan::from_fn(move |step| match step {
        Step::Write { number: 0, .. } => {
            meanwhile.take().expect("the first write comes once")();
            Some(Fault::LostReply { applied: false })
        }
        _ => None,
    }));
    let ours = assign_with(&cluster.engine_on(&client), "node1", "h", 1, 0)
        .unwrap()
        .addresses[0];
    assert_eq!((ours.address, ours.block), (ip("10.0.0.5"), open));
    assert_eq!(cluster.counted("h"), 2);
    cluster.check();
}

/// The reply to a release is lost; before the engine looks again the address has gone to the same handle anew. That
/// allocation is not what was to be released.
#[test]
fn an_address_assigned_anew_before_the_release_looks_again_stays() {
    for mode in both_modes() {
        for by_handle in [false, true] {
            let cluster = Arc::new(Cluster::with_pool(mode, "10.0.0.0/30", 30, &["node1"]));
            cluster.assign_address("node1", "h", "10.0.0.1").unwrap();
            let (client, other) = (cluster.store.client(), Arc::clone(&cluster));
            let mut lost = false;
            let mut meanwhile = Some(move || {
                other.assign_address("node1", "h", "10.0.0.1").unwrap();
            });
            client.plan_faults(FaultPlan::from_fn(move |step| match step {
                Step::Write { number: 0, .. } => {
                    lost = true;
                    Some(Fault::LostReply { applied: true })
                }
                Step::Read if lost => {
                    if let Some(meanwhile) = meanwhile.take() {
                        meanwhile();
                    }
                    None
                }
                _ => None,
            }));
            let engine = cluster.engine_on(&client);
            let released = if by_handle {
                release_with(&engine, "h").unwrap().released
            } else {
                let options = [ReleaseOption::unconditional(ip("10.0.0.1"))];
                engine.release_addresses(&options, "test", None).unwrap().released
            };
            assert_eq!(released, [ip("10.0.0.1")]);
            // By handle everything was to go, and the look after the lost reply finds the new one as well.
            let left = cluster
                .engine()
                .allocations_by_handle("h", HandleSearch::Thorough)
                .unwrap();
            assert_eq!(left.len(), usize::from(!by_handle));
            cluster.check();
        }
    }
}

/// Not the owner but a borrower takes an address while the owner's block is being given back: the owner keeps it,
/// confirmed.
#[test]
fn a_release_that_stops_leaves_the_affinity_confirmed() {
    let cluster = Cluster::with_pool(
        MemoryOptions::kubernetes(),
        "10.0.0.0/30",
        30,
        &["node1", "node2"],
    );
    cluster.assign_one("node1", "h");
    cluster.release("h");
    let cluster = Arc::new(cluster);
    let (releaser, other) = (cluster.store.client(), Arc::clone(&cluster));
    interpose(&releaser, 1, move || {
        other.assign_one("node2", "borrowed");
    });
    let report = cluster
        .engine_on(&releaser)
        .release_host_affinities("node1", true, "test")
        .unwrap();
    assert_eq!(report.outcomes[0].2, ipam::AffinityRelease::InUse);
    assert_eq!(
        cluster.affinity("node1", "10.0.0.0/30"),
        Some(AffinityState::Confirmed)
    );
    cluster.check();
}

/// A write of the caller that meets a changed object fails the call, and leaves nothing of it.
#[test]
fn a_conflict_in_a_companion_fails_the_call_as_a_whole() {
    for mode in both_modes() {
        let (cluster, _) = full_and_open(mode);
        let key = Key::local(model::LocalTable::Attachment, "node1/net/h/eth0");
        cluster.put_raw(key.clone(), "{}");
        let before = cluster.store.snapshot();
        let mut create = |_: &[ipam::Assigned]| vec![Write::create(key.clone(), &1)];
        let engine = cluster.engine();
        let error = engine
            .auto_assign(&request("node1", "h", 2, 0), &mut create)
            .unwrap_err();
        assert_eq!(error.class(), ipam::ErrorClass::TryAgain);
        assert!(
            error
                .to_string()
                .contains("/calico/local/attachment/node1/net/h/eth0"),
            "{error}"
        );
        let error = engine
            .assign_specific(&specific("node1", "h", &["10.0.0.6"]), &mut create)
            .unwrap_err();
        assert!(error.to_string().contains("changed by someone else"), "{error}");
        assert_eq!(cluster.handle("h"), None);
        cluster.check();
        if mode.atomic {
            assert_eq!(
                cluster.store.snapshot().revision(),
                before.revision(),
                "nothing was written at all"
            );
            let mut stale = |_: &[IpAddr]| {
                vec![Write::Delete {
                    key: key.clone(),
                    revision: Revision(1),
                }]
            };
            engine
                .release_by_handle("f", HandleSearch::Listed, "test", &mut stale)
                .unwrap_err();
            assert_eq!(cluster.counted("f"), 1);
        }
    }
}

/// Companions go with the release even if there is nothing to release: DEL removes its record in any case.
#[test]
fn companions_of_an_empty_release_are_committed() {
    for mode in both_modes() {
        let (cluster, _) = full_and_open(mode);
        let key = Key::local(model::LocalTable::Attachment, "node1/net/x/eth0");
        for by_handle in [false, true] {
            cluster.put_raw(key.clone(), "{}");
            let revision = cluster.store.get(&key).unwrap().unwrap().revision;
            let mut delete = |_: &[IpAddr]| {
                vec![Write::Delete {
                    key: key.clone(),
                    revision,
                }]
            };
            let engine = cluster.engine();
            if by_handle {
                let report = engine
                    .release_by_handle("x", HandleSearch::Listed, "test", &mut delete)
                    .unwrap();
                assert!(!report.handle_found);
            } else {
                let options = [ReleaseOption::unconditional(ip("10.0.0.6"))];
                let report = engine
                    .release_addresses(&options, "test", Some(&mut delete))
                    .unwrap();
                assert_eq!(report.unallocated, [ip("10.0.0.6")]);
            }
            assert_eq!(cluster.store.get(&key).unwrap(), None);
        }
    }
}
