// SPDX-License-Identifier: Apache-2.0
//! The writer's thread: waits for commands, notifications and time.

use std::{
    io::Read as _,
    os::{fd::AsFd as _, unix::net::UnixStream},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use ipnet::{IpNet, Ipv4Net};
use kernel::{Change, Monitor, MonitorOptions, Netlink};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    Command, Ownership, Report,
    devices::Devices,
    firewall::{Look, Wall},
    forward::Forward,
    openness::Openness,
    routes::OwnRoutes,
};
use crate::facts::{Facts, Ours};

/// Changes come in bursts: how long after one the ground is looked at.
const SETTLE: Duration = Duration::from_millis(20);
/// What failed is tried again after this time.
const RETRY: Duration = Duration::from_secs(1);
/// A look at everything, whatever was announced, unless told otherwise.
const FULL_CHECK: Duration = Duration::from_secs(90);
/// As good as never.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// Commands that are taken together.
const COMMANDS_AT_ONCE: usize = 256;

/// Prefixes that commands taken together concern.
#[derive(Default)]
struct Concerned {
    prefixes: Vec<IpNet>,
    commands: usize,
}

impl Concerned {
    fn add(&mut self, prefixes: Vec<IpNet>) {
        self.commands += usize::from(!prefixes.is_empty());
        if self.prefixes.is_empty() {
            self.prefixes = prefixes;
        } else {
            self.prefixes.extend(prefixes);
        }
    }

    /// A route that is written twice in one go is there already the second time, which is an error of the kernel's.
    fn once_each(mut self) -> Vec<IpNet> {
        if self.commands > 1 {
            self.prefixes.sort_unstable();
            self.prefixes.dedup();
        }
        self.prefixes
    }
}

type Reporter = Box<dyn Fn(Report) + Send>;

/// See the file's comment.
pub(super) struct Worker {
    ours: Ours,
    netlink: Netlink,
    /// By which own changes are told from others'.
    port: u32,
    monitor: Monitor,
    /// The monitor tells of neighbours and forwarding entries.
    hears_neighbours: bool,
    inbox: mpsc::Receiver<Command>,
    woken: UnixStream,
    report: Reporter,
    routes: OwnRoutes,
    devices: Devices,
    wall: Wall,
    look_at_wall: bool,
    forward: Forward,
    openness: Openness,
    facts: Option<Arc<Facts>>,
    /// When to look at the ground and at the own routes again.
    look_at: Option<Instant>,
    check_at: Instant,
    refresh: Duration,
    retry_at: Option<Instant>,
    reported: std::collections::BTreeMap<String, String>,
}

impl Worker {
    pub(super) fn open(
        ownership: Ownership,
        inbox: mpsc::Receiver<Command>,
        woken: UnixStream,
        report: Reporter,
    ) -> kernel::Result<Self> {
        // Listening comes before looking: what changes between the two is announced.
        let monitor = Monitor::open(MonitorOptions::default())?;
        let mut netlink = Netlink::open()?;
        let ours = ownership.ours();
        let memory = ownership.run_dir.join("firewall.json");
        let mut devices = Devices::default();
        devices.remember(ours.devices.iter().cloned());
        let mut routes = OwnRoutes::open(ownership)?;
        routes.list(&mut netlink)?;
        let port = routes.port()?;
        Ok(Self {
            ours,
            netlink,
            port,
            monitor,
            hears_neighbours: false,
            inbox,
            woken,
            report,
            routes,
            devices,
            wall: Wall::new(memory),
            look_at_wall: false,
            forward: Forward::default(),
            openness: Openness::default(),
            facts: None,
            look_at: Some(Instant::now()),
            check_at: Instant::now() + FULL_CHECK,
            refresh: FULL_CHECK,
            retry_at: None,
            reported: std::collections::BTreeMap::new(),
        })
    }

    pub(super) fn run(mut self) {
        loop {
            if self.look_at.is_some_and(|time| time <= Instant::now()) {
                self.look_at = None;
                self.look();
            }
            self.tend();
            match self.obey() {
                Obeyed::Nothing => {
                    self.see_to_wall();
                    self.wait();
                }
                Obeyed::Something => {}
                Obeyed::Stop => return,
            }
            self.notice();
        }
    }

    /// Looks at the firewall, after everything that packets need more.
    fn see_to_wall(&mut self) {
        self.look_at_wall |= self.wall.heard();
        if !std::mem::take(&mut self.look_at_wall) {
            return;
        }
        if self.wall.check() == Look::Repaired {
            (self.report)(Report::Repaired("nftables table inet calico".to_owned()));
        }
        let prefixes = std::slice::from_ref(&self.ours.interface_prefix);
        for report in self.forward.see_to(prefixes) {
            (self.report)(report);
        }
        self.outcome("firewall", Ok(()));
    }

    fn wait(&mut self) {
        let times = [
            self.look_at,
            Some(self.check_at),
            self.retry_at,
            self.routes.next_try(),
            self.routes.strangers.next(),
            self.openness.next_try(),
        ];
        let next = times.into_iter().flatten().min().unwrap_or(self.check_at);
        let wait = next.saturating_duration_since(Instant::now());
        let wait = PollTimeout::try_from(wait + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let mut descriptors = vec![
            PollFd::new(self.monitor.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.woken.as_fd(), PollFlags::POLLIN),
        ];
        descriptors.extend(self.wall.bell().map(|bell| PollFd::new(bell, PollFlags::POLLIN)));
        // An interrupted wait is a short one.
        let _ = poll(&mut descriptors, wait);
        let mut rung = [0; 512];
        while matches!(self.woken.read(&mut rung), Ok(count) if count == rung.len()) {}
    }

    fn obey(&mut self) -> Obeyed {
        let mut obeyed = Obeyed::Nothing;
        let mut concerned = Concerned::default();
        for _ in 0..COMMANDS_AT_ONCE {
            let command = match self.inbox.try_recv() {
                Ok(command) => command,
                Err(mpsc::TryRecvError::Empty) => break,
                Err(mpsc::TryRecvError::Disconnected) => return Obeyed::Stop,
            };
            obeyed = Obeyed::Something;
            match command {
                Command::Fixtures(fixtures) => {
                    self.wall.set(&fixtures.firewall);
                    self.look_at_wall = true;
                    self.devices.set(fixtures);
                    self.listen();
                    self.fix();
                    // New devices may be what routes were waiting for.
                    concerned.add(self.routes.to_retry());
                }
                Command::Habits(habits) => {
                    self.refresh = if habits.refresh.is_zero() {
                        NEVER
                    } else {
                        habits.refresh
                    };
                    self.check_at = Instant::now() + self.refresh;
                    self.routes.strangers.set(habits.removes_strangers);
                    if habits.removes_strangers {
                        self.look_at = Some(Instant::now());
                    }
                    if self.ours.ignored != habits.ignored {
                        self.ours.ignored = habits.ignored;
                        self.look_at = Some(Instant::now());
                    }
                }
                Command::StoreRoutes(routes) => concerned.add(self.routes.set_store(routes)),
                Command::BgpRoutes(changes) => concerned.add(self.routes.set_bgp(changes)),
                Command::Complete => {
                    self.write(std::mem::take(&mut concerned).once_each());
                    self.routes.set_complete();
                    let swept = self.routes.sweep();
                    self.outcome("routes of an earlier life", swept);
                    self.look_at = Some(Instant::now());
                }
                Command::CleanUp => {
                    let routes = self.routes.remove_all(&mut self.netlink);
                    let devices = self.devices.remove_all(&mut self.netlink);
                    let done = routes.and(devices).map_err(|problem| problem.to_string());
                    self.forward
                        .remove(std::slice::from_ref(&self.ours.interface_prefix));
                    (self.report)(Report::CleanedUp(done.and(self.wall.remove())));
                    return Obeyed::Stop;
                }
                Command::Stop => {
                    self.write(concerned.once_each());
                    return Obeyed::Stop;
                }
            }
        }
        if obeyed == Obeyed::Something {
            self.write(concerned.once_each());
            (self.report)(Report::Settled {
                routes: self.routes.in_place(),
            });
        }
        obeyed
    }

    fn write(&mut self, concerned: Vec<IpNet>) {
        if concerned.is_empty() {
            return;
        }
        let written = self.routes.write(concerned);
        self.outcome("routes", written);
    }

    /// Reports what has failed and what fails no more.
    fn outcome(&mut self, what: &str, result: kernel::Result<()>) {
        let mut failures: std::collections::BTreeMap<String, String> = self
            .routes
            .failed
            .iter()
            .map(|(prefix, problem)| (format!("route {prefix}"), problem.clone()))
            .chain(self.devices.failed.clone())
            .chain(self.forward.problems.clone())
            .chain(self.openness.failed.clone())
            .chain(
                self.wall
                    .problem
                    .clone()
                    .map(|problem| ("firewall".to_owned(), problem)),
            )
            .collect();
        if let Err(problem) = result {
            failures.insert(what.to_owned(), problem.to_string());
        }
        for (item, problem) in &failures {
            if self.reported.get(item) != Some(problem) {
                (self.report)(Report::Failed {
                    item: item.clone(),
                    problem: problem.clone(),
                });
            }
        }
        for item in self.reported.keys().filter(|item| !failures.contains_key(*item)) {
            (self.report)(Report::Failed {
                item: item.clone(),
                problem: String::new(),
            });
        }
        // What others drop is looked at when they change something.
        let is_ours = |item: &String| !item.starts_with(super::forward::CODE);
        self.retry_at = failures.keys().any(is_ours).then(|| Instant::now() + RETRY);
        self.reported = failures;
    }

    /// What is due by the clock.
    fn tend(&mut self) {
        let now = Instant::now();
        if self.retry_at.is_some_and(|time| time <= now) {
            self.look_at_wall |= self.wall.problem.is_some();
            let again = self.routes.to_retry();
            let listed = self.routes.list(&mut self.netlink);
            let done = listed.and_then(|()| self.routes.write(again));
            self.outcome("routes", done);
        }
        let others = [
            self.routes.next_try(),
            self.routes.strangers.next(),
            self.openness.next_try(),
        ];
        if self.check_at <= now || others.into_iter().flatten().any(|time| time <= now) {
            self.check_at = now + self.refresh;
            self.look_at_wall = true;
            self.check();
        }
    }

    /// Reads notifications; what is damaged is looked at when the burst is over.
    fn notice(&mut self) {
        let mut changes = Vec::new();
        if self.monitor.read(&mut changes).is_err() {
            changes.push(Change::Overflow);
        }
        for change in changes {
            let concerns = match change {
                Change::Route { port, .. } if port == self.port => false,
                Change::Route { route, deleted, .. } => {
                    let is_damage = self.routes.notice(&route, deleted);
                    is_damage || (route.table == super::routes::MAIN && !self.routes.is_ours(&route))
                }
                Change::Link { link, deleted } => {
                    self.routes.set_link(&link, deleted);
                    true
                }
                Change::Address { .. } | Change::NextHop { .. } | Change::Settings | Change::Overflow => true,
                Change::Neighbour { neighbour, .. } => self.is_tunnel(neighbour.interface),
                Change::Forwarding { entry, .. } => self.is_tunnel(entry.interface),
            };
            if concerns && self.look_at.is_none() {
                self.look_at = Some(Instant::now() + SETTLE);
            }
        }
    }

    /// Listens to neighbours where they are of interest: there are many of them.
    fn listen(&mut self) {
        let neighbours = self.devices.concerns();
        if neighbours == self.hears_neighbours {
            return;
        }
        let options = MonitorOptions {
            neighbours,
            ..MonitorOptions::default()
        };
        match Monitor::open(options) {
            Ok(monitor) => {
                self.monitor = monitor;
                self.hears_neighbours = neighbours;
                // What changed between the two was announced to nobody.
                self.look_at = Some(Instant::now());
            }
            Err(problem) => self.outcome("listening to neighbours", Err(problem)),
        }
    }

    fn is_tunnel(&self, interface: u32) -> bool {
        let mut names = self.devices.names();
        names.any(|name| self.routes.link(name) == Some(interface))
    }

    /// Looks at the own routes, then at the ground: what others have put in an own route's place is no ground.
    fn look(&mut self) {
        self.check();
        match Facts::gather(&mut self.netlink, &self.ours) {
            Ok(facts) if self.facts.as_deref() == Some(&facts) => {}
            Ok(facts) => {
                let facts = Arc::new(facts);
                self.facts = Some(Arc::clone(&facts));
                (self.report)(Report::Facts(facts));
            }
            Err(problem) => {
                self.outcome("reading the kernel's state", Err(problem));
                self.look_at = Some(Instant::now() + RETRY);
            }
        }
    }

    fn check(&mut self) {
        let now = Instant::now();
        self.fix();
        let damage = self
            .routes
            .list(&mut self.netlink)
            .and_then(|()| self.routes.repair(now));
        match damage {
            Ok(damage) => {
                for repaired in damage.repaired {
                    (self.report)(Report::Repaired(repaired));
                }
                for rival in damage.rivals {
                    (self.report)(Report::Rival(rival));
                }
                let removed = self.routes.remove_strangers(now);
                for removed in removed.iter().flatten() {
                    (self.report)(Report::Repaired(removed.clone()));
                }
                let opened = self.open_links();
                self.outcome("routes", removed.map(drop).and(opened));
            }
            Err(problem) => self.outcome("routes", Err(problem)),
        }
    }

    /// Packets that come in on links that our routes use, or from wherever the default route leads, are routed on.
    fn open_links(&mut self) -> kernel::Result<()> {
        if !self.devices.forwards() {
            return Ok(());
        }
        let (routes, facts) = (&self.routes, self.facts.as_deref());
        let used = || {
            let ground = facts.into_iter().flat_map(|facts| &facts.underlay);
            let default = ground.filter(|route| route.destination == IpNet::from(Ipv4Net::default()));
            let ways = default.flat_map(|route| &route.hops);
            let mut used = routes.links_used();
            used.extend(ways.filter_map(|hop| routes.link(&hop.device)));
            used
        };
        let damage = self.openness.see_to(&mut self.netlink, used, Instant::now())?;
        for repaired in damage.repaired {
            (self.report)(Report::Repaired(repaired));
        }
        for rival in damage.rivals {
            (self.report)(Report::Rival(rival));
        }
        Ok(())
    }

    /// Sees to devices.
    fn fix(&mut self) {
        for repaired in self.devices.reconcile(&mut self.netlink) {
            (self.report)(Report::Repaired(repaired));
        }
        match self.netlink.links() {
            Ok(links) => {
                for link in links {
                    self.routes.set_link(&link, false);
                }
            }
            Err(problem) => self.outcome("links", Err(problem)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obeyed {
    Nothing,
    Something,
    Stop,
}
