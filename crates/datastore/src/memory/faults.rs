// SPDX-License-Identifier: Apache-2.0
//! What can go wrong between a client and its store, and plans that say when: scripted, seeded or computed.
//!
//! A plan is asked once per *step*. A read is one step. A batch is one step where batches are atomic, otherwise each
//! of its writes is. Plans are deterministic: the same plan and the same operations give the same faults.

use std::{collections::BTreeMap, fmt};

use crate::store::Write;

/// Something that goes wrong with one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Somebody else changes an object first: one that exists is rewritten with the same content, one that does not
    /// is created and deleted again. The step fails with the matching conflict, unless the object already was as the
    /// write does not expect it. A read is not affected.
    Conflict {
        /// Which write of an atomic batch is concerned, modulo their number.
        write: usize,
    },
    /// The reply is lost: `StoreError::Unknown`; for a read `StoreError::Unavailable`.
    LostReply {
        /// Whether the step was carried out.
        applied: bool,
    },
    /// The store cannot be reached. Nothing of this step is carried out; where earlier writes of the batch have been,
    /// the outcome of the batch as a whole is `StoreError::Unknown`.
    Unavailable,
    /// The client dies: this and every later operation fails until [`super::MemoryStore::restart`].
    Crash {
        /// Whether the step was still carried out.
        applied: bool,
    },
}

/// What a plan is asked about.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// A get, a list, or the start of a watch.
    Read,
    /// Writes that are applied together: a whole batch, or one write where batches are not atomic.
    Write {
        /// Counts the write steps since the plan was set, from 0.
        number: u64,
        /// What is about to be written.
        writes: &'a [Write],
    },
}

/// How often a seeded plan injects each fault, in parts per 10 000 steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// [`Fault::Conflict`], of a random write.
    pub conflict: u32,
    /// [`Fault::LostReply`], applied or not with equal chance.
    pub lost_reply: u32,
    /// [`Fault::Unavailable`]; reads too.
    pub unavailable: u32,
    /// [`Fault::Crash`], before or after the step with equal chance; never at a read, where it would make no difference.
    pub crash: u32,
}

type Plan = dyn FnMut(&Step<'_>) -> Option<Fault> + Send;

/// Says which step meets which fault.
pub struct FaultPlan(Box<Plan>);

impl FaultPlan {
    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self::from_fn(|_| None)
    }

    /// Only write step `number` (from 0, counted from when the plan is set) meets a fault.
    pub fn at(number: u64, fault: Fault) -> Self {
        Self::script([(number, fault)])
    }

    /// The write steps named meet the faults given.
    pub fn script(faults: impl IntoIterator<Item = (u64, Fault)>) -> Self {
        let mut faults: BTreeMap<u64, Fault> = faults.into_iter().collect();
        Self::from_fn(move |step| match step {
            Step::Write { number, .. } => faults.remove(number),
            Step::Read => None,
        })
    }

    /// Random faults, the same for the same seed and the same steps.
    pub fn seeded(seed: u64, rates: Rates) -> Self {
        let mut random = SplitMix64(seed);
        Self::from_fn(move |step| rates.pick(step, &mut random))
    }

    /// Asks a function at each step. No lock of the store is held meanwhile, so the function may use *another* client
    /// of the same store, for example to let a second host act between two writes.
    pub fn from_fn(plan: impl FnMut(&Step<'_>) -> Option<Fault> + Send + 'static) -> Self {
        Self(Box::new(plan))
    }

    pub(super) fn ask(&mut self, step: &Step<'_>) -> Option<Fault> {
        (self.0)(step)
    }
}

impl fmt::Debug for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultPlan")
    }
}

impl Rates {
    fn pick(self, step: &Step<'_>, random: &mut SplitMix64) -> Option<Fault> {
        let mut draw = random.next() % 10_000;
        let applied = random.next().is_multiple_of(2);
        // The shares of the rates lie side by side: a miss leaves the distance into the next one.
        let mut hit = |rate: u32| match draw.checked_sub(u64::from(rate)) {
            Some(rest) => {
                draw = rest;
                false
            }
            None => true,
        };
        let write = match step {
            Step::Read => return hit(self.unavailable).then_some(Fault::Unavailable),
            Step::Write { writes, .. } => writes.len(),
        };
        if hit(self.conflict) {
            let write = usize::try_from(random.next() % write.max(1) as u64).unwrap_or(0);
            return Some(Fault::Conflict { write });
        }
        if hit(self.lost_reply) {
            return Some(Fault::LostReply { applied });
        }
        if hit(self.unavailable) {
            return Some(Fault::Unavailable);
        }
        hit(self.crash).then_some(Fault::Crash { applied })
    }
}

/// Steele, Lea, Flood: "Fast splittable pseudorandom number generators" (2014). Enough for plans, and no dependency.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
