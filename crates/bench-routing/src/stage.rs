// SPDX-License-Identifier: Apache-2.0
//! Two hosts on one subnet: a BIRD that feeds routes, and whoever takes them.

use std::{
    fmt::Write as _,
    fs,
    net::Ipv4Addr,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use testbed::{Host, PATIENCE, Place, Program, Running, eventually, lan::Lan, peers};

/// The feeder's AS and address.
pub const FEEDER_AS: u32 = 64_601;
/// See [`FEEDER_AS`].
pub const FEEDER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
/// The taker's AS and address.
pub const TAKER_AS: u32 = 64_512;
/// See [`TAKER_AS`].
pub const TAKER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);

/// How many prefixes share their attributes.
const SHARING: u32 = 8;
/// How long the feeder may take to load its routes, and a taker to start.
const SLOW: Duration = Duration::from_secs(120);

/// The subnet, with the feeder running and its session disabled.
#[derive(Debug)]
pub struct Stage {
    // Ends before its host.
    _feeder: Running,
    feeder: Site,
    lan: Lan,
    _host: Host,
    _folder: tempfile::TempDir,
}

/// Where a daemon runs and has its files.
#[derive(Clone, Debug)]
pub struct Site {
    /// Where it runs.
    pub place: Place,
    /// Its files.
    pub folder: PathBuf,
}

impl Site {
    /// A file of its folder.
    pub fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// What a program says there.
    pub fn ask(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let program = peers::find_program(program).with_context(|| format!("no program {program}"))?;
        Program::new(&self.place, program)
            .args(arguments)
            .succeed(PATIENCE)
    }

    /// Starts a program that says what it says into a file.
    pub fn start(&self, command: &[String]) -> Result<Running> {
        let script = "log=$1; shift; exec \"$@\" >>\"$log\" 2>&1";
        Program::new(&self.place, "/bin/sh")
            .args(["-c", script, "sh", &self.file("log")])
            .args(command)
            .start(Stdio::inherit())
    }
}

fn net(address: Ipv4Addr) -> Result<IpNet> {
    Ok(IpNet::new(address.into(), 24)?)
}

impl Stage {
    /// A feeder with so many routes, /32s from 20.0.0.0 on.
    pub fn new(routes: u32) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let lan = Lan::new()?;
        lan.subnet("lan0", &[])?;
        let host = Host::new("feeder")?;
        lan.attach(&host, "lan0", &[net(FEEDER)?], &[])?;
        let site = Site {
            place: host.place().clone(),
            folder: folder.path().to_owned(),
        };
        let mut text = format!(
            "log \"{}\" all; router id {FEEDER}; protocol device {{ }}\nprotocol static flood {{ ipv4;\n",
            site.file("log")
        );
        for number in 0..routes {
            let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(20, 0, 0, 0)) + number);
            // As in the Internet's table, a few prefixes share their attributes.
            let community = number / SHARING;
            let (high, low) = (community >> 16, community & 0xffff);
            writeln!(
                text,
                "route {address}/32 blackhole {{ bgp_community.add(({}, {low})); }};",
                64_000 + high
            )?;
        }
        writeln!(
            text,
            "}}\nprotocol bgp feed {{ disabled; local {FEEDER} as {FEEDER_AS}; neighbor {TAKER} as {TAKER_AS};\n\
             connect delay time 1; connect retry time 1; error wait time 1, 2; ipv4 {{ import none; export all; }}; }}"
        )?;
        fs::write(folder.path().join("bird.conf"), text)?;
        let bird = peers::find_program("bird")
            .context("no program bird: install package bird2, or run .ci/peers")?;
        let command = [
            bird.display().to_string(),
            "-f".into(),
            "-c".into(),
            site.file("bird.conf"),
            "-s".into(),
            site.file("ctl"),
            "-P".into(),
            site.file("pid"),
        ];
        let running = site.start(&command)?;
        let stage = Self {
            _feeder: running,
            feeder: site,
            lan,
            _host: host,
            _folder: folder,
        };
        let loaded = || {
            let said = stage.ask("show route count").ok()?;
            said.contains(&format!("{routes} of {routes} routes"))
                .then_some(())
        };
        eventually(SLOW, loaded).context("the feeder does not load its routes")?;
        Ok(stage)
    }

    fn ask(&self, question: &str) -> Result<String> {
        let socket = self.feeder.file("ctl");
        let mut arguments = vec!["-s", socket.as_str()];
        arguments.extend(question.split(' '));
        self.feeder.ask("birdc", &arguments)
    }

    /// A host for a taker.
    pub fn taker(&self) -> Result<Host> {
        let host = Host::new("taker")?;
        self.lan.attach(&host, "lan0", &[net(TAKER)?], &[])?;
        Ok(host)
    }

    /// Lets the feeder dial; the moment at which the session is up.
    pub fn feed(&self) -> Result<Instant> {
        self.ask("enable feed")?;
        let begin = Instant::now();
        while begin.elapsed() < SLOW {
            let said = self.ask("show protocols feed")?;
            if said.contains("Established") {
                return Ok(Instant::now());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        bail!("no session: {}", self.ask("show protocols all feed")?)
    }

    /// Takes all routes back.
    pub fn withdraw(&self) -> Result<Instant> {
        let at = Instant::now();
        self.ask("disable flood")?;
        Ok(at)
    }

    /// As it was before.
    pub fn reset(&self) -> Result<()> {
        self.ask("disable feed")?;
        self.ask("enable flood")?;
        Ok(())
    }
}
