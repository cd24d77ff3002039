// SPDX-License-Identifier: Apache-2.0
//! What a store in memory holds: objects by key text, the recent changes, the journal.
//!
//! An atomic batch is one revision, as in etcd; otherwise each write is one, as in Kubernetes.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    ops::Bound,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use model::{Key, KeyRange};

use super::options::MemoryOptions;
use crate::{
    error::StoreError,
    projection::Projection,
    store::{Batch, Change, Entry, Hint, JournalEntry, JournalRecord, Listing, Revision, Write},
};

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: MemoryOptions,
    content: Mutex<Content>,
    /// Signalled after each change.
    pub(super) changed: Condvar,
}

impl Shared {
    pub(super) fn new(options: MemoryOptions) -> Self {
        Self {
            options,
            content: Mutex::new(Content::new(options)),
            changed: Condvar::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Content> {
        // Content changes in one place, after all checks: a panic elsewhere leaves it whole.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Objects = BTreeMap<Arc<str>, Arc<Object>>;

/// The objects whose key text starts with `prefix`, in key order.
fn below(objects: &Objects, prefix: String) -> impl Iterator<Item = &Arc<Object>> {
    let start = (Bound::Included(prefix.as_str()), Bound::Unbounded);
    objects
        .range::<str, _>(start)
        .take_while(move |(text, _)| text.starts_with(&prefix))
        .map(|(_, object)| object)
}

#[derive(Debug)]
struct Object {
    key: Key,
    revision: u64,
    value: String,
    /// Set for blocks.
    projection: Option<Projection>,
}

impl Object {
    fn new(key: &Key, value: &str, revision: u64) -> Self {
        Self {
            key: key.clone(),
            revision,
            value: value.to_owned(),
            projection: matches!(key, Key::Block(_)).then(|| Projection::of(value)),
        }
    }

    fn entry(&self, with_value: bool) -> Entry {
        Entry {
            key: self.key.clone(),
            revision: Revision(self.revision),
            value: if with_value {
                self.value.clone()
            } else {
                String::new()
            },
        }
    }
}

/// The content of a store in memory at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    revision: u64,
    objects: Arc<Objects>,
}

impl Snapshot {
    /// When it was taken.
    pub fn revision(&self) -> Revision {
        Revision(self.revision)
    }

    /// Every object, in key order: key, revision of its last change, JSON.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, Revision, &str)> {
        self.objects
            .values()
            .map(|object| (&object.key, Revision(object.revision), object.value.as_str()))
    }

    /// The objects of a range, in key order.
    pub fn range(&self, range: &KeyRange) -> impl Iterator<Item = (&Key, Revision, &str)> {
        below(&self.objects, range.prefix())
            .map(|object| (&object.key, Revision(object.revision), object.value.as_str()))
    }

    /// The JSON of one object.
    pub fn value(&self, key: &Key) -> Option<&str> {
        let object = self.objects.get(key.to_string().as_str())?;
        Some(&object.value)
    }
}

#[derive(Debug)]
struct Changed {
    revision: u64,
    text: Arc<str>,
    key: Key,
}

#[derive(Debug)]
pub(super) struct Content {
    options: MemoryOptions,
    revision: u64,
    objects: Arc<Objects>,
    changes: VecDeque<Changed>,
    /// Changes up to this revision may be forgotten.
    compacted: u64,
    /// Grows when the content is replaced.
    generation: u64,
    journal: VecDeque<JournalRecord>,
    journal_sequence: u64,
}

impl Content {
    fn new(options: MemoryOptions) -> Self {
        Self {
            options,
            revision: 0,
            objects: Arc::default(),
            changes: VecDeque::new(),
            compacted: 0,
            generation: 0,
            journal: VecDeque::new(),
            journal_sequence: 0,
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<Entry> {
        Some(self.objects.get(key.to_string().as_str())?.entry(true))
    }

    pub(super) fn list(&self, range: &KeyRange, hint: &Hint) -> Listing {
        let limit = self
            .options
            .hints
            .then_some(hint.limit)
            .flatten()
            .unwrap_or(usize::MAX);
        let wanted = |object: &&Arc<Object>| {
            let excluded = |projection: &Projection| self.options.hints && projection.excluded_by(hint);
            !object.projection.as_ref().is_some_and(excluded)
        };
        let entries = below(&self.objects, range.prefix())
            .filter(wanted)
            .take(limit)
            .map(|object| object.entry(!hint.keys_only))
            .collect();
        Listing {
            entries,
            revision: Revision(self.revision),
        }
    }

    /// Applies all writes or none. `done` is what an error reports as applied before.
    pub(super) fn apply(&mut self, batch: &Batch, done: usize) -> Result<Vec<Revision>, StoreError> {
        let texts: Vec<Arc<str>> = batch
            .writes
            .iter()
            .map(|write| write.key().to_string().into())
            .collect();
        for (write, text) in batch.writes.iter().zip(&texts) {
            self.check(write, text, done)?;
        }
        let next = self.revision + 1;
        let mut revisions = Vec::with_capacity(batch.writes.len());
        for (write, text) in batch.writes.iter().zip(texts) {
            match write {
                Write::Create { key, value } | Write::Update { key, value, .. } => {
                    self.put(text, Object::new(key, value, next));
                }
                Write::Delete { key, .. } => self.delete(&text, key, next),
                Write::Check { revision, .. } => {
                    revisions.push(revision.unwrap_or_default());
                    continue;
                }
            }
            revisions.push(Revision(next));
        }
        for entry in &batch.journal {
            self.record(entry);
        }
        Ok(revisions)
    }

    /// Another client changes the object of one write, without any lasting difference in content. An error is what
    /// the write then meets; otherwise the revisions tell.
    pub(super) fn interfere(
        &mut self,
        writes: &[Write],
        index: usize,
        done: usize,
    ) -> Result<(), StoreError> {
        let Some(write) = writes.get(index % writes.len().max(1)) else {
            return Ok(());
        };
        let next = self.revision + 1;
        let text: Arc<str> = write.key().to_string().into();
        if let Some(object) = self.objects.get(&text) {
            let again = Object::new(&object.key, &object.value, next);
            self.put(text, again);
            return Ok(());
        }
        let key = write.key().clone();
        let conflict = match write {
            Write::Create { .. } => StoreError::AlreadyExists { key, applied: done },
            Write::Check { revision: None, .. } => StoreError::Conflict { key, applied: done },
            _ => return Ok(()),
        };
        self.delete(&text, write.key(), next);
        Err(conflict)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            revision: self.revision,
            objects: Arc::clone(&self.objects),
        }
    }

    pub(super) fn restore(&mut self, snapshot: &Snapshot) {
        self.objects = Arc::clone(&snapshot.objects);
        self.revision = snapshot.revision;
        self.compacted = snapshot.revision;
        self.changes.clear();
        self.generation += 1;
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// The last change of each key with this prefix after `from`, in revision order; `None` when they are forgotten.
    pub(super) fn changes_since(&self, from: u64, prefix: &str) -> Option<Vec<Change>> {
        if from < self.compacted || from > self.revision {
            return None;
        }
        let mut seen = HashSet::new();
        let recent = self
            .changes
            .iter()
            .rev()
            .take_while(|change| change.revision > from);
        let mut changes: Vec<Change> = recent
            .filter(|change| change.text.starts_with(prefix) && seen.insert(&change.text))
            .map(|change| match self.objects.get(&change.text) {
                Some(object) => Change::Put(object.entry(true)),
                None => Change::Deleted {
                    key: change.key.clone(),
                    revision: Revision(change.revision),
                },
            })
            .collect();
        changes.reverse();
        Some(changes)
    }

    pub(super) fn journal(&self, limit: usize) -> Vec<JournalRecord> {
        self.journal.iter().rev().take(limit).cloned().collect()
    }

    fn check(&self, write: &Write, text: &str, done: usize) -> Result<(), StoreError> {
        let stored = self.objects.get(text).map(|object| Revision(object.revision));
        let key = || write.key().clone();
        let as_expected = match write {
            Write::Create { .. } if stored.is_some() => {
                return Err(StoreError::AlreadyExists {
                    key: key(),
                    applied: done,
                });
            }
            Write::Create { .. } => true,
            Write::Update { revision, .. } | Write::Delete { revision, .. } => stored == Some(*revision),
            Write::Check { revision, .. } => stored == *revision,
        };
        if as_expected {
            Ok(())
        } else {
            Err(StoreError::Conflict {
                key: key(),
                applied: done,
            })
        }
    }

    fn put(&mut self, text: Arc<str>, object: Object) {
        self.note_change(&text, &object.key, object.revision);
        Arc::make_mut(&mut self.objects).insert(text, Arc::new(object));
    }

    fn delete(&mut self, text: &Arc<str>, key: &Key, revision: u64) {
        self.note_change(text, key, revision);
        Arc::make_mut(&mut self.objects).remove(text);
    }

    fn note_change(&mut self, text: &Arc<str>, key: &Key, revision: u64) {
        self.revision = revision;
        self.changes.push_back(Changed {
            revision,
            text: Arc::clone(text),
            key: key.clone(),
        });
        while self.changes.len() > self.options.history {
            if let Some(forgotten) = self.changes.pop_front() {
                self.compacted = forgotten.revision;
            }
        }
    }

    fn record(&mut self, entry: &JournalEntry) {
        self.journal_sequence += 1;
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        self.journal.push_back(JournalRecord {
            sequence: self.journal_sequence,
            time_us: i64::try_from(now.as_micros()).unwrap_or(i64::MAX),
            event: entry.event.to_owned(),
            subject: entry.subject.clone(),
            handle: entry.handle.clone(),
            cause: entry.cause.clone(),
            duration: entry.duration,
        });
        while self.journal.len() > self.options.journal {
            self.journal.pop_front();
        }
    }
}
