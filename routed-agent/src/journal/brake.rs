// SPDX-License-Identifier: Apache-2.0
//! Keeps floods off the disk: news of single routes are written while they are few; beyond, one line of each second stands
//! for all of the same kind from the same peer.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::line::{Change, Kind, Line, Object, PeerName};

/// So many single lines at once.
const BURST: u32 = 1000;
/// So many more each second.
const RATE: u32 = 50;
/// What is held back is summed up after this time.
pub(super) const WINDOW: Duration = Duration::from_secs(1);

/// See the file's comment.
#[derive(Debug)]
pub(super) struct Brake {
    tokens: u32,
    filled: Instant,
    held: BTreeMap<(Kind, Change, Option<Arc<PeerName>>), Line>,
    since: Option<Instant>,
}

impl Brake {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            tokens: BURST,
            filled: now,
            held: BTreeMap::new(),
            since: None,
        }
    }

    /// Whether a line is written as it is; if not, it is held back.
    pub(super) fn lets_through(&mut self, line: &Line, now: Instant) -> bool {
        if !matches!(
            line.kind,
            Kind::Route | Kind::Selection | Kind::Refusal | Kind::Repair
        ) || !matches!(line.object, Object::Prefix(_))
        {
            return true;
        }
        let seconds = u32::try_from(now.saturating_duration_since(self.filled).as_secs()).unwrap_or(u32::MAX);
        if seconds > 0 {
            self.tokens = self
                .tokens
                .saturating_add(seconds.saturating_mul(RATE))
                .min(BURST);
            self.filled = now;
        }
        if self.tokens > 0 {
            self.tokens -= 1;
            return true;
        }
        self.since.get_or_insert(now);
        let key = (line.kind, line.change, line.peer.clone());
        // The latest is the example.
        match self.held.get_mut(&key) {
            Some(held) => {
                let count = held.count.saturating_add(line.count);
                held.clone_from(line);
                held.count = count;
            }
            None => {
                self.held.insert(key, line.clone());
            }
        }
        false
    }

    /// When something held back is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + WINDOW)
    }

    /// The sums of what was held back.
    pub(super) fn take(&mut self) -> Vec<Line> {
        self.since = None;
        let mut lines: Vec<Line> = std::mem::take(&mut self.held).into_values().collect();
        lines.sort_by_key(|line| line.sequence);
        for line in lines.iter_mut().filter(|line| line.count > 1) {
            let text = format!("{} prefixes, the last of them {}", line.count, line.object);
            line.cause = format!("{text}: {}", line.cause).into();
            line.object = Object::Name(format!("{} prefixes", line.count).into());
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: Kind, change: Change, number: u32) -> Line {
        let prefix = std::net::Ipv4Addr::from(0x0a00_0000 + (number << 8));
        let object = Object::from(format!("{prefix}/24").as_str());
        Line::new(kind, change, object, "a test".into())
    }

    #[test]
    fn a_flood_becomes_a_line_for_each_kind() {
        let now = Instant::now();
        let mut brake = Brake::new(now);
        let mut through = 0;
        for number in 0..50_000 {
            through += u32::from(brake.lets_through(&line(Kind::Route, Change::Added, number), now));
            assert!(brake.lets_through(&line(Kind::Session, Change::Up, number), now));
        }
        assert_eq!(through, BURST);
        for number in 0..7 {
            assert!(!brake.lets_through(&line(Kind::Route, Change::Withdrawn, number), now));
        }
        assert_eq!(brake.due(), Some(now + WINDOW));
        let sums = brake.take();
        let counts: Vec<_> = sums.iter().map(|line| (line.change, line.count)).collect();
        assert_eq!(counts.len(), 2);
        assert!(counts.contains(&(Change::Added, 50_000 - BURST)), "{counts:?}");
        assert!(counts.contains(&(Change::Withdrawn, 7)), "{counts:?}");
        assert_eq!(brake.due(), None);
        // A quiet while later there is room again, and no more than at first.
        let later = now + Duration::from_secs(3600);
        let again = (0..2 * BURST)
            .filter(|number| brake.lets_through(&line(Kind::Route, Change::Added, *number), later))
            .count();
        assert_eq!(again, BURST as usize);
    }
}
