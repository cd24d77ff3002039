// SPDX-License-Identifier: Apache-2.0
//! Claiming and releasing one block: the pair of affinity and block, and the way from every state in which a crash,
//! a race or an administrator can have left it to one that is sound again.
//!
//! | affinity | block | [`Operation::claim`] by A does |
//! |---|---|---|
//! | none | none | create both |
//! | none | A's | create the affinity, write the block |
//! | confirmed | A's | nothing: owned |
//! | pending, or pending deletion | A's | confirm, and write the block so that whoever else holds it conflicts |
//! | any | none | create the block again, if it may be created; else delete the affinity |
//! | any or none | B's, or nobody's | delete the own affinity; lost |
//!
//! In a store with transactions each line is one batch. Elsewhere the affinity is first made *pending* (or *pending
//! deletion*), then the block is written, then the affinity is confirmed (or deleted): cut off anywhere, the pair is
//! in a state of the table, and the compare-and-swap on the affinity settles who wins between a claim and a release.
//!
//! Other than Calico, a release also removes an affinity whose block is gone; there its owner would advertise it
//! for ever.

use datastore::{Revision, Write};
use ipnet::IpNet;
use model::{AffinityOwner, AffinityState, BlockAffinity, IpamBlock, Key};

use crate::{
    block,
    error::AccessError,
    notice::Notice,
    operation::{Committed, Event, Operation, Stored, affinity_key},
    retry::{Step, retry},
};

/// When a release of an affinity is to be refused.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReleaseRules {
    /// Not while an address is in use.
    pub(crate) require_empty: bool,
    /// Not if the block has been written since it had this sequence number.
    pub(crate) sequence: Option<u64>,
}

impl ReleaseRules {
    pub(crate) const EMPTY: Self = Self {
        require_empty: true,
        sequence: None,
    };
}

/// What a release of an affinity came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AffinityRelease {
    /// The affinity is gone. The block is gone too if it was empty, else nobody's.
    Released,
    /// There was no affinity.
    NotClaimed,
    /// Refused: addresses are in use.
    InUse,
    /// Refused: the block was written since the caller looked.
    Changed,
    /// The block is somebody else's; only the stale affinity was deleted.
    Stale,
    /// The owner claimed the block again meanwhile, and keeps it.
    Reclaimed,
}

impl Operation<'_> {
    /// Makes a block the owner's, with a confirmed affinity. `None`: it is somebody else's, or nobody's, or may not
    /// be created; no affinity is left then. `may_create` is asked before a block is created.
    pub(crate) fn claim(
        &self,
        owner: &AffinityOwner,
        cidr: IpNet,
        may_create: &mut dyn FnMut(&IpNet) -> Result<bool, AccessError>,
    ) -> Result<Option<Stored<IpamBlock>>, AccessError> {
        retry(self.clock(), || {
            let affinity = self.affinity(owner, cidr)?;
            let stored = self.block(cidr)?;
            let Some(mut stored) = stored else {
                if !may_create(&cidr)? {
                    return Ok(self.lose(
                        owner,
                        cidr,
                        affinity.as_ref(),
                        "its block may not be created again",
                    ));
                }
                let now = self.clock().now();
                let block = IpamBlock::new(cidr, Some(owner.clone()), Some(now), now.unix_nanos());
                let block = block.ok_or_else(|| AccessError::Damaged {
                    key: affinity_key(owner, cidr),
                    defect: format!("{cidr} cannot be a block"),
                })?;
                let write = Write::create(Key::Block(cidr), &block);
                return self.confirm(owner, affinity, block, write);
            };
            if stored.value.affinity.as_ref() != Some(owner) {
                return Ok(self.lose(owner, cidr, affinity.as_ref(), "its block is not ours"));
            }
            match affinity {
                Some(affinity) if affinity.value.state == AffinityState::Confirmed => {
                    Ok(Step::Done(Some(stored)))
                }
                affinity => {
                    block::advance(&mut stored.value);
                    let write = Write::update(Key::Block(cidr), &stored.value, stored.revision);
                    self.confirm(owner, affinity, stored.value, write)
                }
            }
        })
    }

    /// Writes the block between a pending and a confirmed affinity, or all at once.
    fn confirm(
        &self,
        owner: &AffinityOwner,
        affinity: Option<Stored<BlockAffinity>>,
        block: IpamBlock,
        block_write: Write,
    ) -> Result<Step<Option<Stored<IpamBlock>>>, AccessError> {
        let key = affinity_key(owner, block.cidr);
        let again = |key: Key| Ok(Step::Again(key.to_string()));
        let atomic = self.engine.store.atomic();
        let state = if atomic {
            AffinityState::Confirmed
        } else {
            AffinityState::Pending
        };
        let mut value = affinity
            .as_ref()
            .map(|stored| stored.value.clone())
            .unwrap_or_default();
        value.state = state;
        let affinity_write = match affinity {
            Some(stored) => Write::update(key.clone(), &value, stored.revision),
            None => Write::create(key.clone(), &value),
        };
        let event = Event::new("claim", &block.cidr, owner.to_string());
        let events = if atomic { std::slice::from_ref(&event) } else { &[] };
        let revisions = match self.commit(vec![affinity_write, block_write], events)? {
            Committed::Done(revisions) => revisions,
            Committed::Conflict { key, .. } => return again(key),
            Committed::Unknown(_) => return again(key),
        };
        let revision = nth(&revisions, 1);
        if !atomic {
            value.state = AffinityState::Confirmed;
            let write = Write::update(key.clone(), &value, nth(&revisions, 0));
            match self.commit(vec![write], &[event])? {
                Committed::Done(_) => {}
                Committed::Conflict { key, .. } => return again(key),
                Committed::Unknown(_) => return again(key),
            }
        }
        Ok(Step::Done(Some(Stored {
            value: block,
            revision,
        })))
    }

    /// Deletes the own affinity, if there is one. If that fails it stays, and goes at its next use.
    fn lose(
        &self,
        owner: &AffinityOwner,
        cidr: IpNet,
        affinity: Option<&Stored<BlockAffinity>>,
        reason: &str,
    ) -> Step<Option<Stored<IpamBlock>>> {
        if let Some(affinity) = affinity {
            let key = affinity_key(owner, cidr);
            let delete = Write::Delete {
                key: key.clone(),
                revision: affinity.revision,
            };
            match self.commit(vec![delete], &[Event::new("unclaim", &cidr, owner.to_string())]) {
                Ok(Committed::Done(_)) => self.notice(&Notice::AffinityDropped {
                    block: cidr,
                    reason: reason.to_owned(),
                }),
                Ok(Committed::Conflict { .. } | Committed::Unknown(_)) => {
                    return Step::Again(key.to_string());
                }
                Err(error) => self.notice(&Notice::Postponed {
                    step: "deleting a stale affinity",
                    object: key.to_string(),
                    reason: error.to_string(),
                }),
            }
        }
        Step::Done(None)
    }

    /// Gives a block back: deletes it if it is empty, else leaves it to nobody.
    pub(crate) fn release_affinity(
        &self,
        owner: &AffinityOwner,
        cidr: IpNet,
        rules: ReleaseRules,
    ) -> Result<AffinityRelease, AccessError> {
        let mut marked = false;
        retry(self.clock(), || {
            let Some(affinity) = self.affinity(owner, cidr)? else {
                let outcome = if marked {
                    AffinityRelease::Released
                } else {
                    AffinityRelease::NotClaimed
                };
                return Ok(Step::Done(outcome));
            };
            if marked && affinity.value.state != AffinityState::PendingDeletion {
                return Ok(Step::Done(AffinityRelease::Reclaimed));
            }
            let stored = self.block(cidr)?;
            let foreign = stored.as_ref().and_then(|stored| stored.value.affinity.as_ref());
            if foreign.is_some_and(|found| found != owner) {
                return self.delete_affinity(
                    owner,
                    cidr,
                    affinity.revision,
                    Vec::new(),
                    AffinityRelease::Stale,
                );
            }
            let already_marked = affinity.value.state == AffinityState::PendingDeletion;
            let block_write = match stored {
                None => Write::Check {
                    key: Key::Block(cidr),
                    revision: None,
                },
                Some(stored) => {
                    let ours = stored.value.affinity.is_some();
                    if ours
                        && rules
                            .sequence
                            .is_some_and(|sequence| sequence != stored.value.sequence_number)
                    {
                        self.unmark(owner, cidr, affinity, marked);
                        return Ok(Step::Done(AffinityRelease::Changed));
                    }
                    if ours && rules.require_empty && !block::is_empty(&stored.value) {
                        self.unmark(owner, cidr, affinity, marked);
                        return Ok(Step::Done(AffinityRelease::InUse));
                    }
                    abandon(stored)
                }
            };
            if self.engine.store.atomic() || (already_marked && matches!(block_write, Write::Check { .. })) {
                let writes = vec![block_write];
                return self.delete_affinity(
                    owner,
                    cidr,
                    affinity.revision,
                    writes,
                    AffinityRelease::Released,
                );
            }
            let mut value = affinity.value;
            value.state = AffinityState::PendingDeletion;
            let mark = Write::update(affinity_key(owner, cidr), &value, affinity.revision);
            match self.commit(vec![mark, block_write], &[])? {
                Committed::Done(revisions) => {
                    marked = true;
                    let revision = nth(&revisions, 0);
                    self.delete_affinity(owner, cidr, revision, Vec::new(), AffinityRelease::Released)
                }
                Committed::Conflict { key, applied } => {
                    marked |= applied > 0;
                    Ok(Step::Again(key.to_string()))
                }
                Committed::Unknown(_) => Ok(Step::Again(affinity_key(owner, cidr).to_string())),
            }
        })
    }

    /// Confirms an affinity again that this release had marked before it found a reason to stop. If that fails,
    /// the owner does it at its next use of the block.
    fn unmark(&self, owner: &AffinityOwner, cidr: IpNet, affinity: Stored<BlockAffinity>, marked: bool) {
        if marked {
            let mut value = affinity.value;
            value.state = AffinityState::Confirmed;
            let write = Write::update(affinity_key(owner, cidr), &value, affinity.revision);
            if let Err(error) = self.commit(vec![write], &[]) {
                self.notice(&Notice::Postponed {
                    step: "confirming an affinity again",
                    object: affinity_key(owner, cidr).to_string(),
                    reason: error.to_string(),
                });
            }
        }
    }

    fn delete_affinity(
        &self,
        owner: &AffinityOwner,
        cidr: IpNet,
        revision: Revision,
        mut writes: Vec<Write>,
        outcome: AffinityRelease,
    ) -> Result<Step<AffinityRelease>, AccessError> {
        let key = affinity_key(owner, cidr);
        writes.push(Write::Delete {
            key: key.clone(),
            revision,
        });
        match self.commit(writes, &[Event::new("unclaim", &cidr, owner.to_string())])? {
            Committed::Done(_) => Ok(Step::Done(outcome)),
            Committed::Conflict { key, .. } => Ok(Step::Again(key.to_string())),
            Committed::Unknown(_) => Ok(Step::Again(key.to_string())),
        }
    }
}

/// What becomes of a block that its owner gives up.
fn abandon(stored: Stored<IpamBlock>) -> Write {
    let Stored { mut value, revision } = stored;
    let key = value.key();
    if block::is_empty(&value) {
        return Write::Delete { key, revision };
    }
    value.affinity = None;
    value.affinity_claim_time = None;
    block::advance(&mut value);
    Write::update(key, &value, revision)
}

/// The new revision of one write of a batch. A store returns one for each; without it the next compare-and-swap
/// just conflicts.
fn nth(revisions: &[Revision], index: usize) -> Revision {
    revisions.get(index).copied().unwrap_or_default()
}
