// SPDX-License-Identifier: Apache-2.0
//! What has happened, with time and cause: sessions, selections, routes, devices, repairs, refusals. The newest lines are in
//! memory for questions, all of them go to whoever reads along, and the disk has what a restart of the agent is not to lose.
//! All of it is bounded, and none of it is waited for by the agent's thread.

mod brake;
mod disk;
mod keeper;
mod line;
mod rings;
mod stream;
mod sums;

use std::{
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use serde_json::{Value, json};
use tokio::sync::broadcast;

pub use line::{Change, Kind, Line, Object, PeerName, time_text};
pub use rings::{Filter, Limits};
pub use stream::{Reader, TooManyReaders};
pub use sums::News as PrefixNews;

use disk::{Disk, Unwritten};
use rings::Rings;
use sums::Sums;

/// Lines that may wait for the journal's thread.
const QUEUE: usize = 250_000;
/// Lines that a reader may be behind before it misses some.
const BACKLOG: usize = 8192;
/// Between two times that lines are handed on.
const PAUSE: Duration = Duration::from_millis(5);
/// Readers at a time.
pub const MAX_READERS: usize = 16;
/// How long the last lines may take at the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Lines of one moment, and how many were lost before them.
#[derive(Debug)]
struct Batch {
    lines: Vec<Line>,
    lost: u64,
}

/// What the threads have in common.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Looking through these takes a while: whoever needs the other fields does not wait for it.
    rings: Mutex<Rings>,
    /// Lines in memory, and the number of the newest.
    kept: AtomicUsize,
    newest: AtomicU64,
    sessions: AtomicUsize,
    routes: AtomicUsize,
    addresses: AtomicUsize,
    /// Lines on their way to the journal's thread.
    queued: AtomicUsize,
    readers: AtomicUsize,
    news: broadcast::Sender<Arc<News>>,
}

/// A line on its way to readers, written once for all of them.
#[derive(Debug)]
struct News {
    line: Line,
    json: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    /// The newest line that readers were told.
    sequence: u64,
    broken: usize,
    unwritten: Unwritten,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limits(&self) -> Limits {
        Limits {
            sessions: self.sessions.load(Ordering::Relaxed),
            routes: self.routes.load(Ordering::Relaxed),
            addresses: self.addresses.load(Ordering::Relaxed),
        }
    }

    fn rings(&self) -> MutexGuard<'_, Rings> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands lines to readers, and keeps them. A reader that comes meanwhile finds each line either counted or coming.
    fn tell(&self, lines: Vec<Line>) {
        for line in &lines {
            let mut state = self.state();
            if self.news.receiver_count() > 0 {
                let mut json = Vec::with_capacity(256);
                line.write_json(&mut json);
                let line = line.clone();
                // Whoever has gone meanwhile misses nothing.
                let _ = self.news.send(Arc::new(News { line, json }));
            }
            state.sequence = line.sequence;
        }
        self.keep(lines);
    }

    fn keep(&self, lines: Vec<Line>) {
        let limits = self.limits();
        let mut rings = self.rings();
        let newest = lines.last().map(|line| line.sequence);
        for line in lines {
            rings.push(line, limits);
        }
        self.kept.store(rings.len(), Ordering::Relaxed);
        if let Some(newest) = newest {
            self.newest.store(newest, Ordering::Release);
        }
    }
}

/// The journal, for questions. Clones are the same journal.
#[derive(Clone, Debug)]
pub struct Journal {
    shared: Arc<Shared>,
}

/// The journal, for what writes it. It never waits.
#[derive(Debug)]
pub struct Recorder {
    journal: Journal,
    sender: Option<mpsc::Sender<Batch>>,
    ended: mpsc::Receiver<()>,
    pending: Vec<Line>,
    sums: Sums,
    lost: u64,
    /// When lines were handed on last.
    handed: Option<Instant>,
}

impl Recorder {
    /// Starts a journal whose files are in this folder.
    pub fn start(folder: &Path, limits: Limits) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            rings: Mutex::default(),
            kept: AtomicUsize::new(0),
            newest: AtomicU64::new(0),
            sessions: limits.sessions.into(),
            routes: limits.routes.into(),
            addresses: limits.addresses.into(),
            queued: AtomicUsize::new(0),
            readers: AtomicUsize::new(0),
            news: broadcast::Sender::new(BACKLOG),
        });
        let (sender, inbox) = mpsc::channel();
        let (ending, ended) = mpsc::sync_channel(1);
        let disk = Disk::new(folder);
        let journal = Journal {
            shared: Arc::clone(&shared),
        };
        thread::Builder::new().name("journal".into()).spawn(move || {
            keeper::run(&shared, &inbox, disk);
            let _ = ending.send(());
        })?;
        Ok(Self {
            journal,
            sender: Some(sender),
            ended,
            pending: Vec::new(),
            sums: Sums::default(),
            lost: 0,
            handed: None,
        })
    }

    /// The journal, for questions.
    pub fn journal(&self) -> Journal {
        self.journal.clone()
    }

    /// How much is kept in memory from now on.
    pub fn set_limits(&self, limits: Limits) {
        let shared = &self.journal.shared;
        shared.sessions.store(limits.sessions, Ordering::Relaxed);
        shared.routes.store(limits.routes, Ordering::Relaxed);
        shared.addresses.store(limits.addresses, Ordering::Relaxed);
    }

    /// Notes a line.
    pub fn record(&mut self, line: Line) {
        if self.pending.len() < QUEUE {
            self.pending.push(line);
        } else {
            self.lost += 1;
        }
    }

    /// Notes news of a prefix: a line of its own while there are few of them, part of a sum where there are many.
    pub fn record_prefix(&mut self, prefix: IpNet, news: &PrefixNews) {
        if let Some(line) = self.sums.add(prefix, news) {
            self.record(line);
        }
    }

    /// Hands on what was noted. What was counted because it is too much for single lines waits if that was done a moment
    /// ago, and all that comes with it: then this is to be called again at the time returned.
    pub fn flush(&mut self, now: Instant) -> Option<Instant> {
        if self.pending.is_empty() && self.sums.is_empty() {
            return None;
        }
        let due = self
            .handed
            .filter(|_| !self.sums.is_empty())
            .map(|last| last + PAUSE);
        if let Some(due) = due.filter(|due| *due > now) {
            return Some(due);
        }
        self.handed = Some(now);
        self.hand_on(now);
        None
    }

    fn hand_on(&mut self, now: Instant) {
        for line in self.sums.take(now) {
            self.record(line);
        }
        if self.pending.is_empty() {
            return;
        }
        let queued = &self.journal.shared.queued;
        let count = self.pending.len();
        if queued.load(Ordering::Acquire) + count > QUEUE {
            self.lost += count as u64;
            self.pending.clear();
            return;
        }
        queued.fetch_add(count, Ordering::AcqRel);
        let batch = Batch {
            lines: std::mem::take(&mut self.pending),
            lost: std::mem::take(&mut self.lost),
        };
        if let Some(sender) = &self.sender {
            // Without its thread there is no journal, and nobody to tell.
            let _ = sender.send(batch);
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.hand_on(Instant::now());
        self.sender = None;
        let _ = self.ended.recv_timeout(FAREWELL);
    }
}

impl Journal {
    /// The newest lines that are asked for, the oldest first, and how many older ones are left out.
    pub fn find(&self, filter: &Filter, limit: usize) -> (Vec<Line>, usize) {
        self.shared.rings().find(filter, limit)
    }

    /// How the journal does.
    pub fn status(&self) -> Value {
        let state = self.shared.state();
        let newest = self.shared.newest.load(Ordering::Acquire);
        json!({
            "lines": self.shared.kept.load(Ordering::Relaxed),
            "sequence": newest,
            "readers": self.shared.readers.load(Ordering::Relaxed),
            "unreadable": state.broken,
            "unwritten": state.unwritten.lines,
            "problem": state.unwritten.problem,
        })
    }
}

#[cfg(test)]
mod tests;
