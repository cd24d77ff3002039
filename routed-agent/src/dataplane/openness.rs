// SPDX-License-Identifier: Apache-2.0
//! Whether packets that come in on the links that our routes use are routed on. That the host forwards says nothing of a
//! single link, which somebody may have closed.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    time::Instant,
};

use kernel::{Ipv4Conf, Netlink};

use super::routes::{Damage, RIVAL_PAUSE, RIVAL_REPAIRS, RIVAL_WINDOW};

/// See the file's comment.
#[derive(Debug, Default)]
pub(super) struct Openness {
    repairs: HashMap<u32, VecDeque<Instant>>,
    /// Links that are left to whoever closes them again and again.
    resting: HashMap<u32, Instant>,
    /// Links that could not be opened, and why.
    pub(super) failed: BTreeMap<String, String>,
}

impl Openness {
    /// Opens closed links that are used.
    pub(super) fn see_to(
        &mut self,
        netlink: &mut Netlink,
        used: impl FnOnce() -> HashSet<u32>,
        now: Instant,
    ) -> kernel::Result<Damage> {
        self.failed.clear();
        let mut damage = Damage::default();
        let closed = netlink.links_without_forwarding()?;
        if closed.is_empty() {
            self.resting.clear();
            return Ok(damage);
        }
        let used = used();
        self.resting.retain(|link, _| closed.contains(link));
        for index in closed.into_iter().filter(|index| used.contains(index)) {
            let Some(link) = netlink.link_by_index(index)? else {
                continue;
            };
            let what = format!("forwarding of {}", link.name);
            let is_resting = self.resting.get(&index).is_some_and(|until| *until > now);
            if is_resting {
                continue;
            }
            if !self.may_repair(index, now) {
                damage.rivals.push(what);
                continue;
            }
            match netlink.set_ipv4_conf(&link, &[(Ipv4Conf::Forwarding, 1)]) {
                Ok(()) => damage.repaired.push(what),
                Err(problem) => drop(self.failed.insert(what, problem.to_string())),
            }
        }
        Ok(damage)
    }

    /// Counts a repair; `false` if there were too many, and the link is left alone for a while.
    fn may_repair(&mut self, index: u32, now: Instant) -> bool {
        self.resting.remove(&index);
        let times = self.repairs.entry(index).or_default();
        times.retain(|time| now.duration_since(*time) < RIVAL_WINDOW);
        if times.len() >= RIVAL_REPAIRS {
            times.clear();
            self.resting.insert(index, now + RIVAL_PAUSE);
            return false;
        }
        times.push_back(now);
        true
    }

    /// When a link that was left alone is tried again.
    pub(super) fn next_try(&self) -> Option<Instant> {
        self.resting.values().min().copied()
    }
}
