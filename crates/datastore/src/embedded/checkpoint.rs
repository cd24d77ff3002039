// SPDX-License-Identifier: Apache-2.0
//! Moves the write-ahead log into the main file and records the outcome in the bell. Under the write lock only.
//!
//! The log must stay short: a process that finds nobody else at the store reads all of it before its first query. And it
//! has to be truncated, not only copied: a log that was copied but not truncated counts as not copied for the next
//! process, and grows for ever.

use std::{
    io,
    time::{Duration, SystemTime},
};

use super::{
    bell::{Bell, Record},
    failure::Failure,
    files::{self, FileIdentity},
    place::Place,
    schema::Meta,
    session::Session,
};

/// A log longer than this is moved into the main file after the commit. One frame is a page of 4096 bytes and 24 more;
/// an ADD writes about ten. Measured (fresh processes on ext4): 50 to 200 frames cost the median ADD the same within
/// noise; fewer make more of them pay the two syncs, more make all of them read longer logs.
const LONGEST_LOG: u64 = 160 * (4096 + 24);

/// A log may become so long while many processes write at once: they find its index in the shared memory and read none
/// of it, and each checkpoint would let all of them wait for the disk.
const LONGEST_LOG_OF_A_BURST: u64 = 6 * LONGEST_LOG;
/// Whether it is time. `last` is the main file after the last checkpoint.
pub(super) fn is_due(place: &Place, last: &FileIdentity) -> io::Result<bool> {
    let length = files::size(&place.paths.wal)?;
    if length <= LONGEST_LOG {
        return Ok(false);
    }
    let since_epoch = Duration::from_nanos(u64::try_from(last.changed).unwrap_or_default());
    // A clock that was set back makes it due.
    let age = (SystemTime::UNIX_EPOCH + since_epoch)
        .elapsed()
        .unwrap_or(Duration::MAX);
    Ok(age >= place.options.burst || length > LONGEST_LOG_OF_A_BURST)
}

/// Moves the log into the main file, as far as readers allow, and settles the bell. `meta` is what the database says of
/// itself now.
pub(super) fn run(place: &Place, session: &Session, bell: &Bell, meta: &Meta) -> Result<(), Failure> {
    let connection = &session.connection;
    connection.execute_batch("UPDATE meta SET checkpoints = checkpoints + 1")?;
    let mut record = Record {
        revision: meta.revision,
        salts: [0; 8],
        incarnation: meta.incarnation,
        database: FileIdentity::default(),
        checkpoints: meta.checkpoints + 1,
        in_checkpoint: true,
    };
    bell.write(&record)?;
    // Whoever reads at the moment is not waited for: the next checkpoint will do it.
    connection.busy_timeout(Duration::ZERO)?;
    let moved = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    connection.busy_timeout(place.options.patience)?;
    // Also after a failure: the main file has changed.
    record.salts = files::log_salts(&place.paths.wal)?.unwrap_or_default();
    record.database = FileIdentity::of(&place.paths.database)?.unwrap_or_default();
    record.in_checkpoint = false;
    bell.write(&record)?;
    Ok(moved?)
}
