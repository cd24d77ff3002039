// SPDX-License-Identifier: Apache-2.0
//! One running operation: the engine it runs on, its cause and start, what it has read of the cluster's
//! configuration (each kind at most once), and how it reads, commits and journals. Every other module of the engine
//! works through it.

use std::{
    cell::{OnceCell, RefCell},
    collections::BTreeSet,
    time::Duration,
};

use datastore::{Batch, Entry, JournalEntry, Revision, StoreError, Write};
use ipnet::IpNet;
use model::{
    AffinityOwner, BlockAffinity, IpPool, IpReservation, IpamBlock, IpamConfig, IpamHandle, Key, KeyRange,
    Kind, Node, prefix,
};

use crate::{
    block, clock::Clock, engine::Engine, error::AccessError, family::Family, notice::Notice,
    reservation::Reserved,
};

/// A stored object together with the revision it was read at.
#[derive(Clone, Debug)]
pub(crate) struct Stored<T> {
    pub(crate) value: T,
    pub(crate) revision: Revision,
}

/// A line for the journal, without its duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) name: &'static str,
    pub(crate) subject: String,
    pub(crate) handle: String,
}

impl Event {
    pub(crate) fn new(name: &'static str, subject: &impl ToString, handle: impl Into<String>) -> Self {
        Self {
            name,
            subject: subject.to_string(),
            handle: handle.into(),
        }
    }
}

/// What became of a commit that did not fail outright.
pub(crate) enum Committed {
    /// Applied; the new revision of each write.
    Done(Vec<Revision>),
    /// Somebody else changed `key`; so many writes before it are applied all the same.
    Conflict { key: Key, applied: usize },
    /// The reply was lost.
    Unknown(String),
}

/// See the file's comment.
pub(crate) struct Operation<'a> {
    pub(crate) engine: Engine<'a>,
    cause: String,
    started: Duration,
    config: OnceCell<IpamConfig>,
    pools: OnceCell<Vec<IpPool>>,
    reserved: OnceCell<Reserved>,
    noticed: RefCell<BTreeSet<String>>,
}

impl<'a> Operation<'a> {
    pub(crate) fn new(engine: Engine<'a>, cause: &str) -> Self {
        Self {
            engine,
            cause: cause.to_owned(),
            started: engine.clock.monotonic(),
            config: OnceCell::new(),
            pools: OnceCell::new(),
            reserved: OnceCell::new(),
            noticed: RefCell::default(),
        }
    }

    pub(crate) fn clock(&self) -> &'a dyn Clock {
        self.engine.clock
    }

    /// Tells the caller something, once for an operation.
    pub(crate) fn notice(&self, notice: &Notice) {
        if self.noticed.borrow_mut().insert(notice.to_string()) {
            (self.engine.notices)(notice);
        }
    }

    /// Turns damage into a notice and `None`, for callers that can do without the object.
    pub(crate) fn unless_damaged<T>(&self, read: Result<T, AccessError>) -> Result<Option<T>, AccessError> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(AccessError::Damaged { key, defect }) => {
                self.notice(&Notice::Damaged { key, defect });
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The cluster's IPAM configuration, or what holds where none is stored. A damaged one is an error: guessing
    /// could break strict affinity.
    pub(crate) fn config(&self) -> Result<&IpamConfig, AccessError> {
        if let Some(config) = self.config.get() {
            return Ok(config);
        }
        let config = match self.engine.store.get(&Key::IpamConfig)? {
            Some(entry) => decode(&entry)?,
            None => IpamConfig::default(),
        };
        Ok(self.config.get_or_init(|| config))
    }

    /// How long a released address rests.
    pub(crate) fn cooldown(&self) -> Result<Duration, AccessError> {
        Ok(Duration::from_secs(self.config()?.ip_cooldown_seconds.into()))
    }

    /// Every pool, enabled or not, in name order, which is their order of preference. Damaged ones are left out.
    pub(crate) fn pools(&self) -> Result<&[IpPool], AccessError> {
        if let Some(pools) = self.pools.get() {
            return Ok(pools);
        }
        let mut pools = Vec::new();
        for entry in self.engine.store.list(&KeyRange::Kind(Kind::IpPool))?.entries {
            pools.extend(self.unless_damaged(decode_pool(&entry))?);
        }
        Ok(self.pools.get_or_init(|| pools))
    }

    /// The first pool, enabled or not, that contains a prefix.
    pub(crate) fn pool_containing(&self, prefix: &IpNet) -> Result<Option<&IpPool>, AccessError> {
        Ok(self.pools()?.iter().find(|pool| pool.spec.cidr.contains(prefix)))
    }

    /// What no automatic assignment may take. Malformed entries are left out, as Calico does.
    pub(crate) fn reserved(&self) -> Result<&Reserved, AccessError> {
        if let Some(reserved) = self.reserved.get() {
            return Ok(reserved);
        }
        let mut prefixes = Vec::new();
        for entry in self
            .engine
            .store
            .list(&KeyRange::Kind(Kind::IpReservation))?
            .entries
        {
            if let Some(reservation) = self.unless_damaged(decode::<IpReservation>(&entry))? {
                prefixes.extend(reservation.spec.prefixes());
            }
        }
        Ok(self.reserved.get_or_init(|| Reserved::new(prefixes)))
    }

    /// A Node resource.
    pub(crate) fn node(&self, name: &str) -> Result<Option<Node>, AccessError> {
        let entry = self.engine.store.get(&Key::resource(Kind::Node, name))?;
        entry.as_ref().map(decode).transpose()
    }

    /// A block, sound and with every address that has cooled down freed; `Damaged` if it is not sound.
    pub(crate) fn block(&self, cidr: IpNet) -> Result<Option<Stored<IpamBlock>>, AccessError> {
        let entry = self.engine.store.get(&Key::Block(cidr))?;
        entry.as_ref().map(|entry| self.decode_block(entry)).transpose()
    }

    /// As [`Operation::block`], of an entry at hand.
    pub(crate) fn decode_block(&self, entry: &Entry) -> Result<Stored<IpamBlock>, AccessError> {
        let mut value: IpamBlock = decode(entry)?;
        let damaged = |defect: String| AccessError::Damaged {
            key: entry.key.clone(),
            defect,
        };
        if value.key() != entry.key {
            return Err(damaged(format!(
                "cidr: {} is stored under another block's key",
                value.cidr
            )));
        }
        if let Some(defect) = value.validate(None).first() {
            return Err(damaged(defect.to_string()));
        }
        if value
            .attributes
            .iter()
            .any(|attribute| attribute.released_at.is_some())
        {
            block::normalise(&mut value, self.cooldown()?, self.clock().now());
        }
        Ok(Stored {
            value,
            revision: entry.revision,
        })
    }

    /// An affinity. An empty stored value, which old data has, is a confirmed one.
    pub(crate) fn affinity(
        &self,
        owner: &AffinityOwner,
        block: IpNet,
    ) -> Result<Option<Stored<BlockAffinity>>, AccessError> {
        let key = affinity_key(owner, block);
        let Some(entry) = self.engine.store.get(&key)? else {
            return Ok(None);
        };
        let value = BlockAffinity::from_stored(&entry.value).map_err(|error| AccessError::Damaged {
            key,
            defect: error.to_string(),
        })?;
        Ok(Some(Stored {
            value,
            revision: entry.revision,
        }))
    }

    /// A handle.
    pub(crate) fn handle(&self, id: &str) -> Result<Option<Stored<IpamHandle>>, AccessError> {
        let Some(entry) = self.engine.store.get(&Key::Handle(id.to_owned()))? else {
            return Ok(None);
        };
        Ok(Some(Stored {
            value: decode(&entry)?,
            revision: entry.revision,
        }))
    }

    /// The prefixes of all blocks of a version, damaged ones included.
    pub(crate) fn block_prefixes(&self, family: Family) -> Result<BTreeSet<IpNet>, AccessError> {
        let hint = datastore::Hint {
            keys_only: true,
            ..datastore::Hint::default()
        };
        let listing = self.engine.store.list_hinted(&family.blocks(), &hint)?;
        let prefix = |entry: Entry| match entry.key {
            Key::Block(prefix) => Some(prefix),
            _ => None,
        };
        Ok(listing.entries.into_iter().filter_map(prefix).collect())
    }

    /// Commits writes with their lines for the journal.
    pub(crate) fn commit(&self, writes: Vec<Write>, events: &[Event]) -> Result<Committed, AccessError> {
        let duration = self.clock().monotonic().saturating_sub(self.started);
        let line = |event: &Event| JournalEntry {
            event: event.name,
            subject: event.subject.clone(),
            handle: event.handle.clone(),
            cause: self.cause.clone(),
            duration,
        };
        let batch = Batch {
            writes,
            journal: events.iter().map(line).collect(),
        };
        match self.engine.store.commit(&batch) {
            Ok(revisions) => Ok(Committed::Done(revisions)),
            Err(StoreError::AlreadyExists { key, applied } | StoreError::Conflict { key, applied }) => {
                Ok(Committed::Conflict { key, applied })
            }
            Err(StoreError::Unknown { reason }) => Ok(Committed::Unknown(reason)),
            Err(error) => Err(error.into()),
        }
    }
}

/// The key of an owner's affinity for a block.
pub(crate) fn affinity_key(owner: &AffinityOwner, block: IpNet) -> Key {
    Key::Affinity {
        owner: owner.clone(),
        block,
    }
}

fn decode<T: serde::de::DeserializeOwned>(entry: &Entry) -> Result<T, AccessError> {
    entry.decode().map_err(|error| AccessError::Damaged {
        defect: error.source.to_string(),
        key: error.key,
    })
}

/// A pool whose blocks can be computed.
fn decode_pool(entry: &Entry) -> Result<IpPool, AccessError> {
    let mut pool: IpPool = decode(entry)?;
    let defect = |defect: String| AccessError::Damaged {
        key: entry.key.clone(),
        defect,
    };
    pool.spec.cidr = pool.spec.cidr.trunc();
    let length = pool.spec.effective_block_size();
    let shortest = prefix::address_bits(&pool.spec.cidr).saturating_sub(12);
    if length < shortest || length > prefix::address_bits(&pool.spec.cidr) {
        return Err(defect(format!(
            "spec.blockSize: {length} is not a block size of {}",
            pool.spec.cidr
        )));
    }
    if length < pool.spec.cidr.prefix_len() && pool.enabled() {
        return Err(defect(format!(
            "spec.blockSize: {length} is larger than the pool {}",
            pool.spec.cidr
        )));
    }
    Ok(pool)
}
