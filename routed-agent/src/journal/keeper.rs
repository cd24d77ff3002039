// SPDX-License-Identifier: Apache-2.0
//! The journal's thread: numbers lines, keeps them in memory, writes them to disk and hands them to readers, so that the
//! agent's thread waits for none of it.

use std::{
    sync::{Arc, atomic::Ordering, mpsc},
    time::{Duration, Instant},
};

use super::{
    Batch, Shared,
    brake::Brake,
    disk::{Disk, Unwritten},
    line::{Change, Kind, Line, Object},
};

/// As good as never.
const NEVER: Duration = Duration::from_secs(3600);

/// Runs until the agent has no more to say.
pub(super) fn run(shared: &Arc<Shared>, inbox: &mpsc::Receiver<Batch>, mut disk: Disk) {
    let mut brake = Brake::new(Instant::now());
    let mut unwritten = Unwritten::default();
    let mut next = load(shared, &disk);
    loop {
        let wait = brake
            .due()
            .map_or(NEVER, |due| due.saturating_duration_since(Instant::now()));
        let mut lines = match inbox.recv_timeout(wait) {
            Ok(batch) => accept(shared, batch),
            Err(mpsc::RecvTimeoutError::Timeout) => Vec::new(),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                disk.write(brake.take().iter(), &mut unwritten);
                return;
            }
        };
        for line in &mut lines {
            line.sequence = next;
            next += 1;
        }
        let now = Instant::now();
        let mut written: Vec<Line> = if brake.due().is_some_and(|due| due <= now) {
            brake.take()
        } else {
            Vec::new()
        };
        written.extend(lines.iter().filter(|line| brake.lets_through(line, now)).cloned());
        shared.tell(lines);
        disk.write(written.iter(), &mut unwritten);
        shared.state().unwritten.clone_from(&unwritten);
    }
}

/// Takes what an earlier life has written; the number of the next line.
fn load(shared: &Shared, disk: &Disk) -> u64 {
    let (lines, broken) = disk.read();
    let next = lines.last().map_or(1, |line| line.sequence + 1);
    let mut state = shared.state();
    state.broken = broken;
    state.sequence = next - 1;
    drop(state);
    shared.keep(lines);
    next
}

fn accept(shared: &Shared, batch: Batch) -> Vec<Line> {
    let Batch { mut lines, lost } = batch;
    shared.queued.fetch_sub(lines.len(), Ordering::AcqRel);
    if lost > 0 {
        let cause = "more has changed at once than could be noted";
        let object = Object::Name("journal".into());
        let mut line = Line::new(Kind::Agent, Change::Lost, object, cause.into());
        line.count = u32::try_from(lost).unwrap_or(u32::MAX);
        lines.insert(0, line);
    }
    lines
}
