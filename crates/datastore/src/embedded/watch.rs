// SPDX-License-Identifier: Apache-2.0
//! Watches: wait for the bell, then read the change log.
//!
//! The bell wakes every watch of every process within a fraction of a millisecond. A writer killed between commit and
//! bell leaves a change unannounced; therefore, and to notice a replaced store, the log is read once a second anyway. The
//! number of inotify instances is limited per user: without one, the log is read a hundred times a second.

use std::{
    os::fd::AsFd,
    path::PathBuf,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
};

use super::query::{Bounds, Position, Since};
use crate::{
    error::StoreError,
    store::{Watch, WatchEvent},
};

/// How often the log is read without having been told to.
const TICK: Duration = Duration::from_secs(1);
/// The same where nothing tells.
const FAST_TICK: Duration = Duration::from_millis(10);

/// Reads what has changed in a range since a position, and where that ends.
type ReadChanges = dyn Fn(Position, &Bounds) -> Result<(Since, Position), StoreError> + Send;

/// A watch of one range.
pub(super) struct EmbeddedWatch {
    read_changes: Box<ReadChanges>,
    bounds: Bounds,
    position: Position,
    listener: Listener,
}

impl EmbeddedWatch {
    pub(super) fn new(
        read_changes: Box<ReadChanges>,
        bounds: Bounds,
        position: Position,
        bell: PathBuf,
    ) -> Self {
        Self {
            read_changes,
            bounds,
            position,
            listener: Listener::new(bell),
        }
    }

    fn read(&mut self) -> Result<Option<WatchEvent>, StoreError> {
        let (since, end) = (self.read_changes)(self.position, &self.bounds)?;
        self.position = end;
        Ok(match since {
            Since::Forgotten => Some(WatchEvent::Relist),
            Since::Changes(changes) if changes.is_empty() => None,
            Since::Changes(changes) => Some(WatchEvent::Changes(changes)),
        })
    }
}

impl Watch for EmbeddedWatch {
    fn next(&mut self, timeout: Duration) -> Result<Option<WatchEvent>, StoreError> {
        let start = Instant::now();
        loop {
            // Before reading: a bell that rings from now on is heard at the next wait.
            self.listener.silence();
            if let Some(event) = self.read()? {
                return Ok(Some(event));
            }
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            self.listener.wait(left);
        }
    }
}

/// Hears the bell. Whatever fails here only makes the watch slower.
struct Listener {
    bell: PathBuf,
    inotify: Option<Inotify>,
    /// `None` while there is no bell to listen to.
    watched: Option<WatchDescriptor>,
}

impl Listener {
    fn new(bell: PathBuf) -> Self {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok();
        let mut listener = Self {
            bell,
            inotify,
            watched: None,
        };
        listener.attach();
        listener
    }

    fn attach(&mut self) {
        let events = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        self.watched = self
            .inotify
            .as_ref()
            .and_then(|inotify| inotify.add_watch(&self.bell, events).ok());
    }

    /// Forgets what has been heard.
    fn silence(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        let mut lost = self.watched.is_none();
        loop {
            match inotify.read_events() {
                Ok(events) => {
                    let gone = AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_MOVE_SELF;
                    lost |= events.iter().any(|event| event.mask.intersects(gone));
                }
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        if lost {
            self.attach();
        }
    }

    /// Returns when the bell has rung, and at the latest when it is time to look without.
    fn wait(&self, timeout: Duration) {
        let tick = if self.watched.is_some() { TICK } else { FAST_TICK };
        // Rounded up: waiting 0 ms for a part of one would be a busy loop.
        let milliseconds = timeout.min(tick).as_micros().div_ceil(1000);
        let timeout = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
        let mut descriptors: Vec<PollFd<'_>> = self
            .inotify
            .iter()
            .map(|inotify| PollFd::new(inotify.as_fd(), PollFlags::POLLIN))
            .collect();
        // EINTR: looking early does no harm.
        let _ = poll(&mut descriptors, timeout);
    }
}
