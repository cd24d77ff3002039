// SPDX-License-Identifier: Apache-2.0
//! What the tests want of any daemon: to be configured, started, asked, restarted.

use std::{fs, net::IpAddr, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use testbed::{Host, PATIENCE, Place, Program, Running, eventually, peers};

use crate::{
    bird::Bird,
    frr::Frr,
    gobgp::GoBgp,
    world::{World, v4, v6},
};

/// How long anything may take here.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Make {
    Bird,
    Frr,
    GoBgp,
}

/// A session as the daemon is to have it.
#[derive(Clone, Debug)]
pub(crate) struct Neighbour {
    pub(crate) address: IpAddr,
    pub(crate) peer_as: u32,
    pub(crate) password: Option<&'static str>,
    /// The daemon reflects for it.
    pub(crate) client: bool,
}

/// What a daemon is to be.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Of its host.
    pub(crate) number: u8,
    pub(crate) local_as: u32,
    pub(crate) neighbours: Vec<Neighbour>,
    /// Announced with large community `local_as:1:2`.
    pub(crate) routes: Vec<IpNet>,
    /// Not accepted.
    pub(crate) refused: Vec<IpNet>,
    /// More configuration in the daemon's own words.
    pub(crate) more: String,
}

/// A route as the daemon has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) next_hop: String,
    pub(crate) as_path: Vec<u32>,
    /// `a:b:c`, with spaces between.
    pub(crate) large: String,
    pub(crate) originator: String,
    pub(crate) clusters: Vec<String>,
}

/// How a daemon of some make is handled. All state is in files of its folder and in its process.
pub(crate) trait Speaker: Send + Sync {
    /// Programs and the package that has them.
    fn programs(&self) -> (&'static [&'static str], &'static str);
    /// Writes the configuration.
    fn configure(&self, at: &Site, setup: &Setup) -> Result<()>;
    /// The command line. `again`: routes of before are still in place.
    fn command(&self, at: &Site, again: bool) -> Vec<String>;
    /// After the start: whatever the configuration cannot say; what is to run beside it.
    fn started(&self, at: &Site, setup: &Setup) -> Result<Option<Running>>;
    /// Whether it answers.
    fn answers(&self, at: &Site) -> bool;
    /// Whether a session is up.
    fn is_up(&self, at: &Site, neighbour: IpAddr) -> Result<bool>;
    /// Whether the peer's last OPEN said that it had restarted.
    fn said_restarted(&self, at: &Site, neighbour: IpAddr) -> Result<bool>;
    /// A route, if there is one.
    fn seen(&self, at: &Site, prefix: IpNet) -> Result<Option<Seen>>;
    /// Asks a peer for its routes; `false` if the daemon has no way to.
    fn refresh(&self, at: &Site, neighbour: IpAddr) -> Result<bool>;
    /// Routes, or messages with routes, that it has had from a peer so far.
    fn received(&self, at: &Site, neighbour: IpAddr) -> Result<u64>;
    /// How many withdrawals its log has of a prefix.
    fn withdrawals(&self, at: &Site, prefix: IpNet) -> Result<usize>;
    /// Whether its own routes are there again before it says that it has told all it has.
    fn keeps_own_routes(&self) -> bool {
        true
    }
    /// Ends a process such that peers wait for it; `false`: it is to be killed.
    fn pause(&self, at: &Site) -> Result<bool>;
}

/// Where a daemon runs and has its files.
pub(crate) struct Site {
    pub(crate) place: Place,
    pub(crate) folder: PathBuf,
}

impl Site {
    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    pub(crate) fn ask(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let program = peers::find_program(program).with_context(|| format!("no program {program}"))?;
        Program::new(&self.place, program)
            .args(arguments)
            .succeed(PATIENCE)
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Starts a program that writes to a file.
    pub(crate) fn start(&self, log: &str, command: &[String]) -> Result<Running> {
        // Daemons write to standard output, which nobody would read.
        let script = "log=$1; shift; exec \"$@\" >>\"$log\" 2>&1";
        Program::new(&self.place, "/bin/sh")
            .args(["-c", script, "sh", &self.file(log)])
            .args(command)
            .start(Stdio::inherit())
    }
}

/// A daemon on a host.
pub(crate) struct Daemon {
    // Ends before its host.
    process: Option<Running>,
    beside: Option<Running>,
    pub(crate) site: Site,
    pub(crate) number: u8,
    setup: Setup,
    speaker: Box<dyn Speaker>,
    _host: Host,
}

impl Make {
    fn speaker(self) -> Box<dyn Speaker> {
        match self {
            Self::Bird => Box::new(Bird),
            Self::Frr => Box::new(Frr),
            Self::GoBgp => Box::new(GoBgp),
        }
    }

    /// Whether it is installed, and the tests can make namespaces; says so if not.
    pub(crate) fn is_here(self) -> bool {
        let (programs, package) = self.speaker().programs();
        let missing = programs
            .iter()
            .find(|program| peers::find_program(program).is_none());
        let all = peers::available(&[peers::Peer::Root, peers::Peer::Ipv6]);
        match missing {
            Some(program) => peers::skip(&format!(
                "no program {program}: install package {package}, or run .ci/peers"
            )),
            None => all,
        }
    }
}

impl Daemon {
    /// Starts one.
    pub(crate) fn start(world: &World, make: Make, setup: Setup) -> Result<Self> {
        let name = format!("peer{}", setup.number);
        let host = Host::new(&name)?;
        world.attach(&host, setup.number)?;
        let site = Site {
            place: host.place().clone(),
            folder: world.folder(&name)?,
        };
        let speaker = make.speaker();
        speaker.configure(&site, &setup)?;
        let mut daemon = Self {
            process: None,
            beside: None,
            site,
            number: setup.number,
            setup,
            speaker,
            _host: host,
        };
        daemon.launch(false)?;
        Ok(daemon)
    }

    fn launch(&mut self, again: bool) -> Result<()> {
        let command = self.speaker.command(&self.site, again);
        self.process = Some(self.site.start("log", &command)?);
        let up = eventually(SOON, || self.speaker.answers(&self.site).then_some(()));
        up.with_context(|| format!("{command:?} does not start: {}", self.site.log()))?;
        self.beside = self.speaker.started(&self.site, &self.setup)?;
        Ok(())
    }

    pub(crate) fn addresses(&self) -> [IpAddr; 2] {
        [v4(self.number), v6(self.number)]
    }

    /// Waits until a session is up, as the daemon says.
    pub(crate) fn until_up(&self, neighbour: IpAddr, up: bool) -> Result<()> {
        let reached = eventually(SOON, || {
            (self.speaker.is_up(&self.site, neighbour).ok()? == up).then_some(())
        });
        reached.with_context(|| format!("session with {neighbour}, up: {up}: {}", self.site.log()))
    }

    /// Whether a session is up.
    pub(crate) fn is_up(&self, neighbour: IpAddr) -> Result<bool> {
        self.speaker.is_up(&self.site, neighbour)
    }

    /// See [`Speaker::said_restarted`].
    pub(crate) fn said_restarted(&self, neighbour: IpAddr) -> Result<bool> {
        self.speaker.said_restarted(&self.site, neighbour)
    }

    /// A route, if there is one.
    pub(crate) fn seen(&self, prefix: IpNet) -> Result<Option<Seen>> {
        self.speaker.seen(&self.site, prefix)
    }

    /// Waits until a route is as wanted.
    pub(crate) fn until_seen(&self, prefix: IpNet, wanted: impl Fn(&Seen) -> bool) -> Result<Seen> {
        let mut last = String::new();
        let found = eventually(SOON, || {
            let seen = self.seen(prefix);
            last = format!("{seen:?}");
            seen.ok()?.filter(&wanted)
        });
        found.with_context(|| format!("{prefix} at {}: {last}\n{}", self.number, self.site.log()))
    }

    /// Waits until there is no such route.
    pub(crate) fn until_gone(&self, prefix: IpNet) -> Result<()> {
        let gone = eventually(SOON, || matches!(self.seen(prefix), Ok(None)).then_some(()));
        gone.with_context(|| format!("{prefix} is still at {}", self.number))
    }

    /// See [`Speaker::refresh`].
    pub(crate) fn refresh(&self, neighbour: IpAddr) -> Result<bool> {
        self.speaker.refresh(&self.site, neighbour)
    }

    /// See [`Speaker::received`].
    pub(crate) fn received(&self, neighbour: IpAddr) -> Result<u64> {
        self.speaker.received(&self.site, neighbour)
    }

    /// See [`Speaker::withdrawals`].
    pub(crate) fn withdrawals(&self, prefix: IpNet) -> Result<usize> {
        self.speaker.withdrawals(&self.site, prefix)
    }

    /// See [`Speaker::keeps_own_routes`].
    pub(crate) fn keeps_own_routes(&self) -> bool {
        self.speaker.keeps_own_routes()
    }

    /// Ends such that peers wait for it, and comes back.
    pub(crate) fn restart(&mut self, while_away: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut process = self.process.take().context("it runs")?;
        if !self.speaker.pause(&self.site)? {
            kill(Pid::from_raw(process.pid().try_into()?), Signal::SIGKILL)?;
        }
        let ended = eventually(SOON, || (!process.is_alive()).then_some(()));
        ensure!(ended.is_some(), "the daemon does not end");
        while_away()?;
        self.launch(true)
    }
}
