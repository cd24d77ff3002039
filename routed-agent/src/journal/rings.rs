// SPDX-License-Identifier: Apache-2.0
//! What of the journal is in memory, for questions: the newest lines of each kind of news, so that a flood of routes does
//! not push out when a session came up.

use std::{collections::VecDeque, net::IpAddr};

use ipnet::IpNet;

use super::line::{Kind, Line, Object};

/// How many lines are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of sessions.
    pub sessions: usize,
    /// Of routes, of selections, and of everything else, each.
    pub routes: usize,
    /// Of addresses.
    pub addresses: usize,
}

/// What is asked for; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Not before, in milliseconds since the Unix epoch.
    pub since_ms: Option<u64>,
    /// About a prefix that is inside this one, or has it inside.
    pub prefix: Option<IpNet>,
    /// To do with the peer of this address or name.
    pub peer: Option<String>,
    /// Of this kind.
    pub kind: Option<Kind>,
}

impl Filter {
    /// Whether a line is asked for.
    pub fn wants(&self, line: &Line) -> bool {
        self.since_ms.is_none_or(|since| line.time_ms >= since)
            && self.kind.is_none_or(|kind| line.kind == kind)
            && self.prefix.is_none_or(|wanted| match line.object {
                Object::Prefix(prefix) => wanted.contains(&prefix) || prefix.contains(&wanted),
                Object::Name(_) => false,
            })
            && self.peer.as_ref().is_none_or(|wanted| {
                let address: Option<IpAddr> = wanted.parse().ok();
                let is_it =
                    |peer: &super::line::PeerName| Some(peer.address) == address || peer.name == *wanted;
                line.peer.as_deref().is_some_and(is_it)
            })
    }
}

/// See the file's comment.
#[derive(Debug, Default)]
pub(super) struct Rings {
    sessions: VecDeque<Line>,
    routes: VecDeque<Line>,
    selections: VecDeque<Line>,
    addresses: VecDeque<Line>,
    others: VecDeque<Line>,
}

impl Rings {
    /// Takes a line in; the oldest of its like goes where there are too many.
    pub(super) fn push(&mut self, line: Line, limits: Limits) {
        let (ring, limit) = match line.kind {
            Kind::Session => (&mut self.sessions, limits.sessions),
            Kind::Route => (&mut self.routes, limits.routes),
            Kind::Selection => (&mut self.selections, limits.routes),
            Kind::Addresses => (&mut self.addresses, limits.addresses),
            _ => (&mut self.others, limits.routes),
        };
        while ring.len() >= limit.max(1) {
            ring.pop_front();
        }
        ring.push_back(line);
    }

    /// How many lines there are.
    pub(super) fn len(&self) -> usize {
        self.all().map(VecDeque::len).sum()
    }

    /// The newest lines that are asked for, the oldest first, and how many older ones were left out.
    pub(super) fn find(&self, filter: &Filter, limit: usize) -> (Vec<Line>, usize) {
        let wanted = self.all().flatten().filter(|line| filter.wants(line));
        let mut found: Vec<&Line> = wanted.collect();
        found.sort_unstable_by_key(|line| line.sequence);
        let left_out = found.len().saturating_sub(limit);
        (found.drain(left_out..).cloned().collect(), left_out)
    }

    fn all(&self) -> impl Iterator<Item = &VecDeque<Line>> {
        [
            &self.sessions,
            &self.routes,
            &self.selections,
            &self.addresses,
            &self.others,
        ]
        .into_iter()
    }
}
