// SPDX-License-Identifier: Apache-2.0
//! News of single prefixes, on the thread that has them: a line for each while they are few; of those beyond, one line for
//! each time that lines are handed on stands for all of a kind with the same cause. A million routes of a peer cost no million lines then.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hashbrown::HashMap;
use ipnet::IpNet;

use super::line::{Change, Kind, Line, Object, PeerName};

/// So many single lines in a window.
pub(super) const SINGLE: usize = 10_000;
/// After this time there is room again.
const WINDOW: Duration = Duration::from_secs(1);

/// What lines about prefixes have in common.
#[derive(Clone, Debug)]
pub struct News {
    /// What it is about.
    pub kind: Kind,
    /// What has become of the prefix.
    pub change: Change,
    /// The peer that it has to do with.
    pub peer: Option<Arc<PeerName>>,
    /// Why.
    pub cause: Arc<str>,
}

impl News {
    fn line(self, object: Object) -> Line {
        Line::new(self.kind, self.change, object, self.cause).of(self.peer)
    }

    fn key(&self) -> Key {
        (self.kind, self.change, Arc::clone(&self.cause))
    }

    fn is_like(&self, other: &Self) -> bool {
        let causes = (&self.cause, &other.cause);
        (self.kind, self.change) == (other.kind, other.change)
            && (Arc::ptr_eq(causes.0, causes.1) || causes.0 == causes.1)
    }
}

type Key = (Kind, Change, Arc<str>);

#[derive(Debug)]
struct Sum {
    news: News,
    count: u32,
    last: IpNet,
}

/// See the file's comment.
#[derive(Debug, Default)]
pub(super) struct Sums {
    single: usize,
    since: Option<Instant>,
    places: HashMap<Key, usize>,
    counted: Vec<Sum>,
    /// The sum that was added to last.
    latest: usize,
}

impl Sums {
    /// The line for a prefix, unless it is counted only.
    pub(super) fn add(&mut self, prefix: IpNet, news: &News) -> Option<Line> {
        if self.single < SINGLE {
            self.single += 1;
            return Some(news.clone().line(Object::Prefix(prefix)));
        }
        let is_latest = self
            .counted
            .get(self.latest)
            .is_some_and(|sum| sum.news.is_like(news));
        if !is_latest {
            let next = self.counted.len();
            self.latest = *self.places.entry(news.key()).or_insert(next);
            if self.latest == next {
                self.counted.push(Sum {
                    news: news.clone(),
                    count: 0,
                    last: prefix,
                });
            }
        }
        let sum = &mut self.counted[self.latest];
        sum.count = sum.count.saturating_add(1);
        sum.last = prefix;
        None
    }

    /// Whether nothing is counted.
    pub(super) const fn is_empty(&self) -> bool {
        self.counted.is_empty()
    }

    /// What was counted since the last time.
    pub(super) fn take(&mut self, now: Instant) -> impl Iterator<Item = Line> + use<> {
        if self.single > 0 && now.duration_since(*self.since.get_or_insert(now)) >= WINDOW {
            self.single = 0;
            self.since = None;
        }
        self.places.clear();
        self.latest = 0;
        std::mem::take(&mut self.counted).into_iter().map(Sum::line)
    }
}

impl Sum {
    fn line(self) -> Line {
        let Self {
            mut news,
            count,
            last,
        } = self;
        if count == 1 {
            return news.line(Object::Prefix(last));
        }
        news.cause = format!("{count} prefixes, the last of them {last}: {}", news.cause).into();
        let mut line = news.line(Object::Name(format!("{count} prefixes").into()));
        line.count = count;
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(number: usize) -> IpNet {
        let address = std::net::Ipv4Addr::from(u32::try_from(number).unwrap() << 8);
        IpNet::new(address.into(), 24).unwrap()
    }

    fn news(change: Change, cause: &Arc<str>) -> News {
        News {
            kind: Kind::Selection,
            change,
            peer: None,
            cause: Arc::clone(cause),
        }
    }

    #[test]
    fn beyond_the_first_ones_a_pass_has_one_line_for_each_cause() {
        let began = Instant::now();
        let mut sums = Sums::default();
        let (one, other): (Arc<str>, Arc<str>) = ("it came".into(), "it went".into());
        for number in 0..SINGLE {
            let line = sums.add(prefix(number), &news(Change::Added, &one)).unwrap();
            assert_eq!((line.count, line.object), (1, Object::Prefix(prefix(number))));
        }
        assert_eq!(sums.take(began).count(), 0);
        for number in 0..3000 {
            assert_eq!(sums.add(prefix(number), &news(Change::Added, &one)), None);
            if number < 2000 {
                assert_eq!(sums.add(prefix(number), &news(Change::Withdrawn, &other)), None);
            }
        }
        assert_eq!(sums.add(prefix(9), &news(Change::Withdrawn, &one)), None);
        let lines: Vec<Line> = sums.take(began + WINDOW / 2).collect();
        let texts: Vec<_> = lines
            .iter()
            .map(|line| (line.change, line.count, &*line.cause))
            .collect();
        assert_eq!(
            texts,
            [
                (
                    Change::Added,
                    3000,
                    "3000 prefixes, the last of them 0.11.183.0/24: it came"
                ),
                (
                    Change::Withdrawn,
                    2000,
                    "2000 prefixes, the last of them 0.7.207.0/24: it went"
                ),
                (Change::Withdrawn, 1, "it came"),
            ]
        );
        assert_eq!(lines[2].object, Object::Prefix(prefix(9)));
        // There is no room yet, and a while later there is.
        assert_eq!(sums.add(prefix(1), &news(Change::Added, &one)), None);
        assert_eq!(sums.take(began + WINDOW).count(), 1);
        assert!(sums.add(prefix(1), &news(Change::Added, &one)).is_some());
    }
}
