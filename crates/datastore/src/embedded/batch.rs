// SPDX-License-Identifier: Apache-2.0
//! Applies one batch as one transaction: objects, change log, journal, and the bounds of the last two.

use std::time::SystemTime;

use model::{Key, Kind};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{
    failure::Failure,
    options::OpenOptions,
    schema::{signed, unsigned},
};
use crate::{
    error::StoreError,
    projection::Projection,
    store::{Batch, JournalEntry, Revision, Write},
};

const LAST_REVISION: &str = "SELECT max(revision) FROM changes";
const DELETE: &str = "DELETE FROM kv WHERE key = ?1 AND revision = ?2";
const LOG_CHANGE: &str = "INSERT INTO changes (revision, key) VALUES (?1, ?2)";
const CREATE: &str = "INSERT INTO kv (key, revision, affinity, room, value) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (key) DO NOTHING";
const UPDATE: &str = "UPDATE kv SET revision = ?1, value = ?2
    WHERE key = ?3 AND revision = ?4 AND +affinity IS ?5 AND +room IS ?6";
const LOG_EVENT: &str = "INSERT INTO journal (time_us, event, subject, handle, cause, duration_us)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

/// Compiles the statements of an assignment.
pub(super) fn compile(connection: &Connection) -> rusqlite::Result<()> {
    for statement in [LAST_REVISION, CREATE, UPDATE, LOG_CHANGE, LOG_EVENT] {
        connection.prepare_cached(statement)?;
    }
    Ok(())
}

/// What a batch did.
#[derive(Debug)]
pub(super) struct Applied {
    /// One for each write.
    pub(super) revisions: Vec<Revision>,
    /// The revision of the store now, if there was anything to commit.
    pub(super) committed: Option<u64>,
}

/// Applies a batch. `known` is the last revision that anybody was told of.
pub(super) fn apply(
    connection: &Connection,
    batch: &Batch,
    options: &OpenOptions,
    known: u64,
) -> Result<Applied, Failure> {
    let durable = must_survive_power_loss(batch);
    if durable {
        connection.execute_batch("PRAGMA synchronous = FULL")?;
    }
    let applied = apply_in_transaction(connection, batch, options, known);
    if durable {
        connection.execute_batch("PRAGMA synchronous = NORMAL")?;
    }
    applied
}

/// Allocations, endpoints and local records describe containers, which die with the power too: they are written without
/// waiting for the disk. Everything else is synced before the commit returns.
fn must_survive_power_loss(batch: &Batch) -> bool {
    batch.writes.iter().any(|write| match (write, write.key()) {
        (Write::Check { .. }, _) => false,
        (_, key) => match key {
            Key::Block(_) | Key::Handle(_) | Key::Local { .. } => false,
            Key::Resource { kind, .. } => *kind != Kind::WorkloadEndpoint,
            Key::Affinity { .. } | Key::IpamConfig => true,
        },
    })
}

fn apply_in_transaction(
    connection: &Connection,
    batch: &Batch,
    options: &OpenOptions,
    known: u64,
) -> Result<Applied, Failure> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let first = transaction
        .prepare_cached(LAST_REVISION)?
        .query_row([], |row| unsigned(row, 0))?;
    if first < known {
        return Err(Failure::Damaged(format!(
            "it ends at revision {first}, and {known} had been reached"
        )));
    }
    let mut writer = Writer {
        transaction: &transaction,
        revision: first,
    };
    let mut revisions = Vec::with_capacity(batch.writes.len());
    for write in &batch.writes {
        revisions.push(writer.write(write)?);
    }
    let last = writer.revision;
    record(&transaction, &batch.journal, options.journal)?;
    if last == first && batch.journal.is_empty() {
        return Ok(Applied {
            revisions,
            committed: None,
        });
    }
    forget_changes(&transaction, first, last, options.history)?;
    commit(transaction)?;
    Ok(Applied {
        revisions,
        committed: Some(last),
    })
}

fn commit(transaction: Transaction<'_>) -> Result<(), Failure> {
    transaction
        .commit()
        .map_err(|problem| match problem.sqlite_error_code() {
            // The log may hold the whole transaction all the same, and the next process to read it will believe it.
            Some(ErrorCode::SystemIoFailure) => Failure::Store(StoreError::Unknown {
                reason: problem.to_string(),
            }),
            _ => problem.into(),
        })
}

struct Writer<'a> {
    transaction: &'a Connection,
    revision: u64,
}

impl Writer<'_> {
    fn write(&mut self, write: &Write) -> Result<Revision, Failure> {
        let key = write.key();
        let text = key.to_string();
        let applied = match write {
            Write::Check { revision, .. } => {
                return if self.stored(&text)? == revision.map(|revision| revision.0) {
                    Ok(revision.unwrap_or_default())
                } else {
                    Err(conflict(key))
                };
            }
            Write::Create { value, .. } => self.create(key, &text, value)?,
            Write::Update { value, revision, .. } => self.update(key, &text, value, *revision)?,
            Write::Delete { revision, .. } => self
                .transaction
                .prepare_cached(DELETE)?
                .execute(params![text, signed(revision.0)])?,
        };
        if applied == 0 {
            return Err(match write {
                Write::Create { .. } => StoreError::AlreadyExists {
                    key: key.clone(),
                    applied: 0,
                }
                .into(),
                _ => conflict(key),
            });
        }
        self.revision += 1;
        self.transaction
            .prepare_cached(LOG_CHANGE)?
            .execute(params![signed(self.revision), text])?;
        Ok(Revision(self.revision))
    }

    fn stored(&self, text: &str) -> rusqlite::Result<Option<u64>> {
        self.transaction
            .prepare_cached("SELECT revision FROM kv WHERE key = ?1")?
            .query_row([text], |row| unsigned(row, 0))
            .optional()
    }

    /// The revision that the write being applied gets.
    fn next(&self) -> i64 {
        signed(self.revision + 1)
    }

    fn create(&self, key: &Key, text: &str, value: &str) -> rusqlite::Result<usize> {
        let (affinity, room) = projection(key, value);
        self.transaction
            .prepare_cached(CREATE)?
            .execute(params![text, self.next(), affinity, room, value])
    }

    fn update(&self, key: &Key, text: &str, value: &str, revision: Revision) -> rusqlite::Result<usize> {
        let expected = signed(revision.0);
        let (affinity, room) = projection(key, value);
        // The usual write of a block changes neither column: naming them only to compare leaves their index alone.
        let applied = self.transaction.prepare_cached(UPDATE)?.execute(params![
            self.next(),
            value,
            text,
            expected,
            affinity,
            room
        ])?;
        if applied > 0 || room.is_none() {
            return Ok(applied);
        }
        self.transaction
            .prepare_cached(
                "UPDATE kv SET revision = ?1, value = ?2, affinity = ?5, room = ?6
                 WHERE key = ?3 AND revision = ?4",
            )?
            .execute(params![self.next(), value, text, expected, affinity, room])
    }
}

/// The columns `affinity` and `room` of an object; both null for what is no block.
fn projection(key: &Key, value: &str) -> (Option<String>, Option<bool>) {
    if !matches!(key, Key::Block(_)) {
        return (None, None);
    }
    let Projection { affinity, room } = Projection::of(value);
    (affinity, Some(room > 0))
}

fn conflict(key: &Key) -> Failure {
    StoreError::Conflict {
        key: key.clone(),
        applied: 0,
    }
    .into()
}

fn record(transaction: &Connection, journal: &[JournalEntry], kept: u32) -> rusqlite::Result<()> {
    if journal.is_empty() {
        return Ok(());
    }
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let now = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
    let mut insert = transaction.prepare_cached(LOG_EVENT)?;
    let mut last = 0;
    for entry in journal {
        let JournalEntry {
            event,
            subject,
            handle,
            cause,
            duration,
        } = entry;
        let duration = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        last = insert.insert(params![now, event, subject, handle, cause, duration])?;
    }
    let first = last - i64::try_from(journal.len()).unwrap_or(0);
    if let Some(oldest) = first_kept(first, last, kept) {
        transaction
            .prepare_cached("DELETE FROM journal WHERE sequence < ?1")?
            .execute([oldest])?;
    }
    Ok(())
}

fn forget_changes(transaction: &Connection, first: u64, last: u64, kept: u32) -> rusqlite::Result<()> {
    if let Some(oldest) = first_kept(signed(first), signed(last), kept) {
        transaction
            .prepare_cached("DELETE FROM changes WHERE revision < ?1")?
            .execute([oldest])?;
    }
    Ok(())
}

/// Where a log of `kept` lines begins that has just grown from `first` to `last`. Old lines are dropped many at a time:
/// an answer comes once for every eighth of `kept` lines written.
fn first_kept(first: i64, last: i64, kept: u32) -> Option<i64> {
    let step = i64::from(kept / 8).max(1);
    (first / step != last / step).then(|| last - i64::from(kept.max(1)) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_dies_with_the_power_is_written_without_a_sync() {
        let block = "10.0.0.0/26".parse().unwrap();
        for (key, durable) in [
            (Key::Block(block), false),
            (Key::Handle("h".to_owned()), false),
            (Key::namespaced(Kind::WorkloadEndpoint, "default", "w"), false),
            (Key::local(model::LocalTable::Attachment, "n/k/c/eth0"), false),
            (Key::host_affinity("n", block), true),
            (Key::IpamConfig, true),
            (Key::resource(Kind::IpPool, "p"), true),
            (Key::resource(Kind::Node, "n"), true),
        ] {
            let delete = Write::Delete {
                key: key.clone(),
                revision: Revision(1),
            };
            let check = Write::Check {
                key: key.clone(),
                revision: None,
            };
            let batch = |write| Batch {
                writes: vec![write],
                journal: Vec::new(),
            };
            assert_eq!(must_survive_power_loss(&batch(delete)), durable, "{key}");
            assert!(!must_survive_power_loss(&batch(check)), "{key}");
        }
    }

    #[test]
    fn logs_are_cut_once_per_eighth_of_their_length() {
        assert_eq!(first_kept(0, 1, 800), None);
        assert_eq!(first_kept(99, 100, 800), Some(-699));
        assert_eq!(first_kept(100, 199, 800), None);
        assert_eq!(first_kept(1_099, 1_101, 800), Some(302));
        assert_eq!(first_kept(41, 42, 1), Some(42));
        assert_eq!(first_kept(41, 42, 0), Some(42));
    }
}
