// SPDX-License-Identifier: Apache-2.0
//! Who takes the routes: our speaker alone, BIRD, FRR, GoBGP, each with a table and nothing else; and our agent and BIRD
//! with the kernel's table behind them.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;
use testbed::{Running, peers};

use crate::stage::{FEEDER, FEEDER_AS, Site, TAKER, TAKER_AS};

/// Where distributions put FRR's daemon.
const BGPD: &str = "/usr/lib/frr/bgpd";

/// A contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taker {
    /// Our speaker and its sockets, without an agent around them.
    Speaker,
    /// BIRD 2.
    Bird,
    /// FRR's bgpd without zebra.
    Frr,
    /// GoBGP.
    GoBgp,
    /// The whole agent, routes in the kernel.
    Agent,
    /// BIRD 2 with its kernel protocol.
    BirdWithKernel,
}

impl Taker {
    /// Those with a table and nothing else.
    pub const TABLES: [Self; 4] = [Self::Speaker, Self::Bird, Self::Frr, Self::GoBgp];
    /// Those with the kernel behind them.
    pub const WITH_KERNEL: [Self; 2] = [Self::Agent, Self::BirdWithKernel];

    /// By its word on the command line.
    pub fn by_word(word: &str) -> Option<Self> {
        let words = ["speaker", "bird", "frr", "gobgp"];
        let place = words.iter().position(|known| *known == word)?;
        Some(Self::TABLES[place])
    }

    /// What it is called in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Speaker => "our speaker",
            Self::Bird => "BIRD",
            Self::Frr => "FRR",
            Self::GoBgp => "GoBGP",
            Self::Agent => "our agent, to the kernel",
            Self::BirdWithKernel => "BIRD, to the kernel",
        }
    }

    /// Writes its configuration; the command that starts it, in the foreground.
    pub fn prepare(self, site: &Site) -> Result<Vec<String>> {
        let write =
            |name: &str, text: String| fs::write(site.folder.join(name), text).context(name.to_owned());
        let found = |name: &str| -> Result<String> {
            let path =
                peers::find_program(name).with_context(|| format!("no program {name}: run .ci/peers"))?;
            Ok(path.display().to_string())
        };
        match self {
            Self::Speaker => {
                let mut program: PathBuf = std::env::current_exe()?;
                program.set_file_name("table");
                Ok(vec![program.display().to_string()])
            }
            Self::Bird | Self::BirdWithKernel => {
                let kernel = if self == Self::Bird {
                    ""
                } else {
                    "protocol kernel { ipv4 { import none; export all; }; }\n"
                };
                write(
                    "bird.conf",
                    format!(
                        "log \"{}\" {{ warning, error, fatal }}; router id {TAKER}; protocol device {{ }}\n{kernel}\
                         protocol bgp feed {{ local {TAKER} as {TAKER_AS}; neighbor {FEEDER} as {FEEDER_AS}; passive;\n\
                         ipv4 {{ import all; export none; }}; }}\n",
                        site.file("birdlog"),
                    ),
                )?;
                Ok(vec![
                    found("bird")?,
                    "-f".into(),
                    "-c".into(),
                    site.file("bird.conf"),
                    "-s".into(),
                    site.file("ctl"),
                    "-P".into(),
                    site.file("pid"),
                ])
            }
            Self::Frr => {
                write(
                    "bgpd.conf",
                    format!(
                        "hostname taker\nrouter bgp {TAKER_AS}\n bgp router-id {TAKER}\n no bgp ebgp-requires-policy\n\
                          no bgp network import-check\n neighbor {FEEDER} remote-as {FEEDER_AS}\n neighbor {FEEDER} passive\n"
                    ),
                )?;
                let mut command: Vec<String> =
                    [BGPD, "-Z", "-S", "-A", "127.0.0.1", "-f"].map(Into::into).into();
                command.extend([site.file("bgpd.conf"), "-i".into(), site.file("pid")]);
                command.extend(["--vty_socket".into(), site.folder.display().to_string()]);
                Ok(command)
            }
            Self::GoBgp => {
                write(
                    "gobgpd.toml",
                    format!(
                        "[global.config]\nas = {TAKER_AS}\nrouter-id = \"{TAKER}\"\n[[neighbors]]\n[neighbors.config]\n\
                         neighbor-address = \"{FEEDER}\"\npeer-as = {FEEDER_AS}\n[neighbors.transport.config]\npassive-mode = true\n"
                    ),
                )?;
                let mut command: Vec<String> = vec![found("gobgpd")?];
                command.extend(["--api-hosts", "127.0.0.1:50051", "--pprof-disable", "-f"].map(Into::into));
                command.push(site.file("gobgpd.toml"));
                Ok(command)
            }
            Self::Agent => {
                let folder = site.folder.display();
                let agent = std::env::current_exe()?.with_file_name("routed-agent");
                let mut command: Vec<String> = vec!["/usr/bin/env".into()];
                command.extend([
                    "NODENAME=taker".into(),
                    format!("IP={TAKER}/24"),
                    format!("AS={TAKER_AS}"),
                    "DATASTORE_TYPE=embedded".into(),
                    format!("DATASTORE_PATH={folder}/store.db"),
                    format!("CALICO_STATE_DIR={folder}"),
                    format!("CALICO_RUN_DIR={folder}"),
                    format!("CALICO_LOG_DIR={folder}"),
                    "CALICO_IPV4POOL_CIDR=192.168.0.0/16".into(),
                    "CALICO_IPV4POOL_IPIP=Never".into(),
                    "CALICO_IPV6POOL_CIDR=none".into(),
                    "CALICO_BGP_EBGP_MAX_PREFIXES=2000000".into(),
                    agent.display().to_string(),
                    "run".into(),
                ]);
                Ok(command)
            }
        }
    }

    /// How many routes it has; `None` while it does not answer.
    pub fn count(self, site: &Site, running: &Running) -> Option<u64> {
        let number = |text: &str| text.split_whitespace().find_map(|word| word.parse().ok());
        match self {
            // One line with the count, each time that it changes by itself.
            Self::Speaker => {
                let log = fs::read_to_string(site.folder.join("log")).ok()?;
                log.lines().last().map_or(Some(0), number)
            }
            Self::Bird | Self::BirdWithKernel => {
                let socket = site.file("ctl");
                let said = site
                    .ask("birdc", &["-s", &socket, "show", "route", "count"])
                    .ok()?;
                said.lines().find(|line| line.contains(" of ")).and_then(number)
            }
            Self::Frr => {
                let folder = site.folder.display().to_string();
                let said = site
                    .ask(
                        "vtysh",
                        &[
                            "--vty_socket",
                            &folder,
                            "-c",
                            "show bgp ipv4 unicast summary json",
                        ],
                    )
                    .ok()?;
                let said: Value = serde_json::from_str(&said).ok()?;
                Some(
                    said["peers"][FEEDER.to_string()]["pfxRcd"]
                        .as_u64()
                        .unwrap_or_default(),
                )
            }
            Self::GoBgp => {
                let said = site.ask("gobgp", &["global", "rib", "summary"]).ok()?;
                let line = said.lines().find(|line| line.contains("Destination"))?;
                line.replace([',', ':'], " ")
                    .split_whitespace()
                    .find_map(|word| word.parse().ok())
            }
            Self::Agent => {
                let _ = running;
                let table = testbed::view::routes(&site.place, kernel::Family::Ipv4).ok()?;
                Some(table.iter().filter(|route| route.starts_with("20.")).count() as u64)
            }
        }
    }
}
