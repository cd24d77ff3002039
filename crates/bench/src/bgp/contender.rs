// SPDX-License-Identifier: Apache-2.0
//! Who receives the routes: routed-agent and the daemons of others, each on a fresh host, with one peer.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use kernel::{Family, RouteFilter};
use model::Kind;
use serde_json::{Value, json};
use testbed::cluster::Member;
use testbed::lan::Lan;
use testbed::{Host, PATIENCE, Program, Running, eventually, peers};

use super::feed::{FEEDER, FEEDER_AS, RANGE, RECEIVER, RECEIVER_AS};
use super::store;

/// Where distributions put FRR's daemons.
const BGPD: &str = "/usr/lib/frr/bgpd";
/// How long a command line may take to answer a question about a million routes.
const ANSWER: Duration = Duration::from_secs(120);

/// Whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// Ours.
    Agent,
    /// Our speaker and its sockets alone; see [`speaker`](super::speaker).
    Speaker,
    /// BIRD 2.
    Bird,
    /// FRR's bgpd, without zebra.
    Frr,
    /// GoBGP.
    GoBgp,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contender {
    /// Whose.
    pub make: Make,
    /// It writes the routes into the kernel as well.
    pub into_kernel: bool,
}

impl fmt::Display for Contender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.make {
            Make::Agent => "routed-agent",
            Make::Speaker => "its speaker alone",
            Make::Bird => "BIRD",
            Make::Frr => "FRR",
            Make::GoBgp => "GoBGP",
        })
    }
}

impl Make {
    /// The programs it takes, and their package.
    pub fn missing(self) -> Option<String> {
        let (programs, package): (&[&str], _) = match self {
            Self::Agent | Self::Speaker => return None,
            Self::Bird => (&["bird", "birdc"], "bird2"),
            Self::Frr => (&[BGPD, "vtysh"], "frr"),
            Self::GoBgp => (&["gobgpd", "gobgp"], "gobgpd"),
        };
        let is_here = |program: &&&str| peers::find_program(program).is_some();
        let missing = programs.iter().find(|program| !is_here(program))?;
        Some(format!(
            "no program {missing}: install package {package}, or run .ci/peers"
        ))
    }
}

/// A contender that runs. It ends when this is dropped, and so does its host.
#[derive(Debug)]
pub struct Started {
    contender: Contender,
    // The process ends before its host.
    process: Option<Running>,
    on: On,
}

#[derive(Debug)]
enum On {
    Member(Box<Member>),
    Host(Box<Host>),
}

impl Contender {
    /// Starts it on a host of its own in the subnet. It will dial the feeder.
    pub fn start(self, lan: &Lan, subnet: &str, agent: Option<&Path>) -> Result<Started> {
        let address = IpNet::new(RECEIVER.into(), 24)?;
        if self.make == Make::Agent {
            let member = self.start_agent(lan, subnet, address, agent)?;
            return Ok(Started {
                contender: self,
                process: None,
                on: On::Member(Box::new(member)),
            });
        }
        let host = Host::new("receiver")?;
        lan.attach(&host, subnet, &[address], &[])?;
        let command = self.configure(&host)?;
        // Daemons write to standard output, which nobody would read.
        let log = host.folders().top().join("output");
        let process = Program::new(host.place(), "/bin/sh")
            .args(["-c", "log=$1; shift; exec \"$@\" >>\"$log\" 2>&1", "sh"])
            .args([log.as_os_str()])
            .args(command)
            .start(Stdio::inherit())?;
        Ok(Started {
            contender: self,
            process: Some(process),
            on: On::Host(Box::new(host)),
        })
    }

    /// Everything accepted; as a rule that the routes of pools are somebody else's to programme, it keeps them to itself.
    fn start_agent(self, lan: &Lan, subnet: &str, address: IpNet, agent: Option<&Path>) -> Result<Member> {
        let program = if self.into_kernel {
            "EnabledNoEncapOnly"
        } else {
            "Disabled"
        };
        let host = Member::new("receiver", &PathBuf::new())?;
        let file = host.host().folders().store();
        let mut member = host
            .with("DATASTORE_PATH", &file.display().to_string())
            .with("NO_DEFAULT_POOLS", "true")
            .with("CALICO_BGP_PROGRAM_CLUSTER_ROUTES", program)
            .with("CALICO_BGP_EBGP_MAX_PREFIXES", "2000000")
            .with("IP", &address.to_string());
        if let Some(agent) = agent {
            member.use_program(agent.to_owned());
        }
        lan.attach(member.host(), subnet, &[address], &[])?;
        // Nobody's blocks come out of the pool: it is there for what it says about routes.
        let pool =
            json!({ "cidr": RANGE, "ipipMode": "Never", "vxlanMode": "Never", "nodeSelector": "!all()" });
        store::apply(&file, Kind::IpPool, "pool", &pool)?;
        let peer = json!({ "peerIP": FEEDER.to_string(), "asNumber": FEEDER_AS });
        store::apply(&file, Kind::BgpPeer, "feeder", &peer)?;
        member.start()?;
        Ok(member)
    }

    /// Writes its configuration; the command that starts it.
    fn configure(self, host: &Host) -> Result<Vec<PathBuf>> {
        if self.make == Make::Speaker {
            let own = std::env::current_exe().context("find the running program")?;
            return Ok(vec![own, "--speaker".into()]);
        }
        let folder = host.folders().top();
        let file = |name: &str| folder.join(name);
        let config = file("config");
        let log = file("daemon.log");
        let log = log.display();
        let kernel = if self.into_kernel {
            "protocol kernel { ipv4 { import none; export all; }; }"
        } else {
            ""
        };
        let text = match self.make {
            Make::Bird => format!(
                "log \"{log}\" {{ warning, error, fatal, bug }}; router id {RECEIVER};\nprotocol device {{ }}\n{kernel}\n\
                 protocol bgp feed {{ local {RECEIVER} as {RECEIVER_AS}; neighbor {FEEDER} as {FEEDER_AS};\n\
                 connect delay time 1; connect retry time 1; ipv4 {{ import all; export none; }}; }}\n"
            ),
            Make::Frr => format!(
                "hostname receiver\nlog file {log}\nrouter bgp {RECEIVER_AS}\n bgp router-id {RECEIVER}\n\
                 no bgp ebgp-requires-policy\n no bgp network import-check\n neighbor {FEEDER} remote-as {FEEDER_AS}\n \
                 neighbor {FEEDER} timers connect 1\n"
            ),
            _ => format!(
                "[global.config]\nas = {RECEIVER_AS}\nrouter-id = \"{RECEIVER}\"\n\
                 [[neighbors]]\n[neighbors.config]\nneighbor-address = \"{FEEDER}\"\npeer-as = {FEEDER_AS}\n\
                 [neighbors.timers.config]\nconnect-retry = 1\nidle-hold-time-after-reset = 1\n\
                 [[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"ipv4-unicast\"\n"
            ),
        };
        fs::write(&config, text)?;
        let find = |name: &str| peers::find_program(name).with_context(|| format!("no program {name}"));
        let words = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
        Ok(match self.make {
            Make::Bird => [
                vec![find("bird")?],
                words(&["-f", "-c"]),
                vec![config],
                words(&["-s"]),
                vec![file("ctl")],
                words(&["-P"]),
                vec![file("pid")],
            ]
            .concat(),
            Make::Frr => [
                words(&[BGPD, "-Z", "-S", "-A", "127.0.0.1", "-f"]),
                vec![config],
                words(&["-i"]),
                vec![file("pid")],
                words(&["--vty_socket"]),
                vec![folder.to_owned()],
            ]
            .concat(),
            _ => [
                vec![find("gobgpd")?],
                words(&["--api-hosts", "127.0.0.1:50051", "--pprof-disable", "--log-plain"]),
                words(&["-l", "warn", "-t", "toml", "-f"]),
                vec![config],
            ]
            .concat(),
        })
    }
}

impl Started {
    /// Its process.
    pub fn pid(&self) -> Result<u32> {
        match (&self.on, &self.process) {
            (On::Member(member), _) => member.pid().context("the agent runs"),
            (On::Host(_), Some(process)) => Ok(process.pid()),
            (On::Host(_), None) => bail!("it runs"),
        }
    }

    fn host(&self) -> &Host {
        match &self.on {
            On::Member(member) => member.host(),
            On::Host(host) => host,
        }
    }

    /// Waits until it answers questions.
    pub fn until_ready(&self) -> Result<()> {
        let ready = eventually(PATIENCE, || self.routes().ok());
        ready
            .map(drop)
            .with_context(|| format!("{} does not start: {}", self.contender, self.log()))
    }

    /// What it has said.
    pub fn log(&self) -> String {
        let folder = self.host().folders().top();
        let files = ["daemon.log", "output", "agent.log"].map(|name| fs::read_to_string(folder.join(name)));
        files.into_iter().flatten().collect()
    }

    /// How many routes of the feeder's it uses, as it says itself; in the kernel, if that is where they are to go.
    pub fn routes(&self) -> Result<usize> {
        if self.contender.into_kernel {
            return self.in_kernel();
        }
        match (&self.on, self.contender.make) {
            (On::Member(member), _) => {
                let status = member.ask("/v1/status")?;
                let family = &status["peers"][0]["families"][0];
                let of = |name: &str| number(&family[name]).unwrap_or_default();
                Ok(of("received") - of("refused"))
            }
            (On::Host(host), Make::Speaker) => {
                let said = fs::read_to_string(host.folders().top().join("output"))?;
                let count = said.lines().last().and_then(|line| line.parse().ok());
                count.with_context(|| format!("the speaker says {said}"))
            }
            (On::Host(host), Make::Bird) => {
                let socket = host.folders().top().join("ctl");
                let text = self.ask(
                    "birdc",
                    &["-s", &socket.display().to_string(), "show", "route", "count"],
                )?;
                let line = text.lines().find(|line| line.contains(" routes for "));
                let count = line.and_then(|line| line.split(' ').next()?.parse().ok());
                count.with_context(|| format!("birdc: {text}"))
            }
            (On::Host(host), Make::Frr) => {
                let folder = host.folders().top().display().to_string();
                let command = "show bgp ipv4 unicast summary json";
                let value = self.json("vtysh", &["--vty_socket", &folder, "-c", command])?;
                Ok(number(&value["peers"][FEEDER.to_string()]["pfxRcd"]).unwrap_or_default())
            }
            (On::Host(_), _) => {
                let value = self.json("gobgp", &["-j", "global", "rib", "summary"])?;
                Ok(number(&value["num_path"]).unwrap_or_default())
            }
        }
    }

    fn in_kernel(&self) -> Result<usize> {
        let mut netlink = self.host().netlink()?;
        let filter = RouteFilter {
            family: Some(Family::Ipv4),
            ..RouteFilter::default()
        };
        let range: IpNet = RANGE.parse()?;
        let routes = netlink.routes(filter)?;
        Ok(routes
            .iter()
            .filter(|route| range.contains(&route.destination))
            .count())
    }

    fn ask(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let path = peers::find_program(program).with_context(|| format!("no program {program}"))?;
        Program::new(self.host().place(), path)
            .args(arguments)
            .succeed(ANSWER)
    }

    fn json(&self, program: &str, arguments: &[&str]) -> Result<Value> {
        let text = self.ask(program, arguments)?;
        serde_json::from_str(&text).with_context(|| format!("{program}: {text}"))
    }
}

fn number(value: &Value) -> Option<usize> {
    value.as_u64()?.try_into().ok()
}
