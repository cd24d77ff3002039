// SPDX-License-Identifier: Apache-2.0
//! One client's side of a store in memory: its plan of faults, whether it has crashed, and what it has done.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::faults::{Fault, FaultPlan, Step};
use crate::{
    error::StoreError,
    store::{Revision, Write},
};

/// How much a client has asked of its store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Single reads.
    pub gets: u64,
    /// Lists.
    pub lists: u64,
    /// Watches started.
    pub watches: u64,
    /// Batches begun.
    pub commits: u64,
    /// Objects created, updated or deleted.
    pub writes: u64,
    /// Steps refused because an object was not as expected.
    pub conflicts: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) gets: AtomicU64,
    pub(super) lists: AtomicU64,
    pub(super) watches: AtomicU64,
    commits: AtomicU64,
    writes: AtomicU64,
    conflicts: AtomicU64,
}

#[derive(Debug)]
struct Planned {
    plan: FaultPlan,
    write_steps: u64,
}

#[derive(Debug)]
pub(super) struct Client {
    planned: Mutex<Planned>,
    pub(super) crashed: AtomicBool,
    /// Grows with each restart: watches of an earlier life stay dead.
    life: AtomicU64,
    counters: Counters,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            planned: Mutex::new(Planned {
                plan: FaultPlan::none(),
                write_steps: 0,
            }),
            crashed: AtomicBool::new(false),
            life: AtomicU64::new(0),
            counters: Counters::default(),
        }
    }
}

pub(super) fn unavailable(reason: &str) -> StoreError {
    StoreError::Unavailable {
        store: "the store in memory".to_owned(),
        reason: reason.to_owned(),
    }
}

impl Client {
    pub(super) fn plan_faults(&self, plan: FaultPlan) {
        *self.planned() = Planned { plan, write_steps: 0 };
    }

    pub(super) fn crash(&self) {
        self.crashed.store(true, Ordering::SeqCst);
    }

    pub(super) fn restart(&self) {
        self.life.fetch_add(1, Ordering::SeqCst);
        self.crashed.store(false, Ordering::SeqCst);
    }

    /// Counts a read and lets the plan fail it.
    pub(super) fn read(&self, counter: impl FnOnce(&Counters) -> &AtomicU64) -> Result<(), StoreError> {
        self.check_alive()?;
        counter(&self.counters).fetch_add(1, Ordering::Relaxed);
        let fault = self.planned().plan.ask(&Step::Read);
        match fault {
            None | Some(Fault::Conflict { .. }) => Ok(()),
            Some(Fault::LostReply { .. } | Fault::Unavailable) => Err(unavailable("injected: unavailable")),
            Some(Fault::Crash { .. }) => {
                self.crash();
                Err(unavailable("injected: the client crashed"))
            }
        }
    }

    pub(super) fn begin_commit(&self) -> Result<(), StoreError> {
        self.check_alive()?;
        self.counters.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// What goes wrong with the next write step.
    pub(super) fn write_fault(&self, writes: &[Write]) -> Option<Fault> {
        let mut planned = self.planned();
        let number = planned.write_steps;
        planned.write_steps += 1;
        planned.plan.ask(&Step::Write { number, writes })
    }

    pub(super) fn count_step(&self, writes: &[Write], result: &Result<Vec<Revision>, StoreError>) {
        let checks = |write: &&Write| matches!(write, Write::Check { .. });
        if result.is_ok() {
            let changed = writes.len() - writes.iter().filter(checks).count();
            self.counters.writes.fetch_add(changed as u64, Ordering::Relaxed);
        } else {
            self.counters.conflicts.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn check_alive(&self) -> Result<(), StoreError> {
        if self.crashed.load(Ordering::SeqCst) {
            return Err(unavailable("injected: the client has crashed"));
        }
        Ok(())
    }

    pub(super) fn life(&self) -> u64 {
        self.life.load(Ordering::SeqCst)
    }

    pub(super) fn counts(&self) -> Counts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            gets: load(&self.counters.gets),
            lists: load(&self.counters.lists),
            watches: load(&self.counters.watches),
            commits: load(&self.counters.commits),
            writes: load(&self.counters.writes),
            conflicts: load(&self.counters.conflicts),
        }
    }

    fn planned(&self) -> MutexGuard<'_, Planned> {
        // A plan that panicked has failed its test already.
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
