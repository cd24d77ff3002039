// SPDX-License-Identifier: Apache-2.0
//! FRR: its bgpd alone, without zebra.

use std::{fmt::Write as _, fs, net::IpAddr};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use serde_json::Value;
use testbed::Running;

use crate::{
    daemon::{Seen, Setup, Site, Speaker},
    world::v4,
};

/// Where distributions put the daemon.
const BGPD: &str = "/usr/lib/frr/bgpd";

/// See the module.
pub(crate) struct Frr;

impl Frr {
    fn ask(site: &Site, command: &str) -> Result<String> {
        let folder = site.folder.display().to_string();
        site.ask("vtysh", &["--vty_socket", &folder, "-c", command])
    }

    fn json(site: &Site, command: &str) -> Result<Value> {
        let text = Self::ask(site, command)?;
        serde_json::from_str(&text).with_context(|| format!("{command}: {text}"))
    }

    fn neighbour(site: &Site, address: IpAddr) -> Result<Value> {
        let answer = Self::json(site, &format!("show bgp neighbors {address} json"))?;
        Ok(answer[address.to_string()].clone())
    }
}

fn family(ipv4: bool) -> &'static str {
    if ipv4 { "ipv4" } else { "ipv6" }
}

fn texts(value: &Value) -> Vec<String> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter()
        .filter_map(|text| text.as_str().map(Into::into))
        .collect()
}

impl Speaker for Frr {
    fn programs(&self) -> (&'static [&'static str], &'static str) {
        (&[BGPD, "vtysh"], "frr")
    }

    fn configure(&self, site: &Site, setup: &Setup) -> Result<()> {
        let own = setup.local_as;
        let mut text = format!(
            "hostname peer\nlog file {}\ndebug bgp updates\n",
            site.file("log")
        );
        for prefix in setup.refused.iter().filter(|prefix| prefix.addr().is_ipv4()) {
            writeln!(text, "ip prefix-list refused permit {prefix} le 32")?;
        }
        writeln!(
            text,
            "route-map in deny 10\n match ip address prefix-list refused\nroute-map in permit 20\n\
             route-map own permit 10\n set large-community {own}:1:2\n\
             router bgp {own}\n bgp router-id {}\n no bgp ebgp-requires-policy\n no bgp network import-check\n\
             no bgp default ipv4-unicast\n bgp cluster-id {}\n bgp graceful-restart\n\
             bgp graceful-restart preserve-fw-state\n bgp graceful-restart select-defer-time 5",
            v4(setup.number),
            v4(setup.number),
        )?;
        for neighbour in &setup.neighbours {
            let address = neighbour.address;
            writeln!(text, " neighbor {address} remote-as {}", neighbour.peer_as)?;
            writeln!(text, " neighbor {address} timers connect 1")?;
            if let Some(password) = neighbour.password {
                writeln!(text, " neighbor {address} password {password}")?;
            }
        }
        for ipv4 in [true, false] {
            writeln!(text, " address-family {} unicast", family(ipv4))?;
            for prefix in setup
                .routes
                .iter()
                .filter(|prefix| prefix.addr().is_ipv4() == ipv4)
            {
                writeln!(text, "  network {prefix} route-map own")?;
            }
            for neighbour in setup
                .neighbours
                .iter()
                .filter(|found| found.address.is_ipv4() == ipv4)
            {
                let address = neighbour.address;
                writeln!(text, "  neighbor {address} activate")?;
                if ipv4 && !setup.refused.is_empty() {
                    writeln!(text, "  neighbor {address} route-map in in")?;
                }
                if neighbour.client {
                    writeln!(text, "  neighbor {address} route-reflector-client")?;
                }
            }
            writeln!(text, " exit-address-family")?;
        }
        text.push_str(&setup.more);
        fs::write(site.folder.join("bgpd.conf"), text).context("bgpd.conf")
    }

    fn command(&self, site: &Site, _again: bool) -> Vec<String> {
        let mut command: Vec<String> = [BGPD, "-Z", "-S", "-A", "127.0.0.1", "-f"].map(Into::into).into();
        command.extend([site.file("bgpd.conf"), "-i".into(), site.file("pid")]);
        command.extend(["--vty_socket".into(), site.folder.display().to_string()]);
        command
    }

    fn started(&self, _site: &Site, _setup: &Setup) -> Result<Option<Running>> {
        Ok(None)
    }

    fn answers(&self, site: &Site) -> bool {
        Self::ask(site, "show bgp summary").is_ok()
    }

    fn is_up(&self, site: &Site, neighbour: IpAddr) -> Result<bool> {
        Ok(Self::neighbour(site, neighbour)?["bgpState"] == "Established")
    }

    fn said_restarted(&self, site: &Site, neighbour: IpAddr) -> Result<bool> {
        Ok(Self::neighbour(site, neighbour)?["gracefulRestartInfo"]["rBit"] == true)
    }

    fn seen(&self, site: &Site, prefix: IpNet) -> Result<Option<Seen>> {
        let family = family(prefix.addr().is_ipv4());
        let answer = Self::json(site, &format!("show bgp {family} unicast {prefix} json"))?;
        let paths = answer["paths"].as_array().map(Vec::as_slice).unwrap_or_default();
        let Some(path) = paths.iter().find(|path| path["bestpath"]["overall"] == true) else {
            return Ok(None);
        };
        let hops = path["nexthops"].as_array().map(Vec::as_slice).unwrap_or_default();
        let hop = hops.iter().find(|hop| hop["used"] == true).or(hops.first());
        let numbers = path["aspath"]["string"].as_str().unwrap_or_default();
        Ok(Some(Seen {
            next_hop: hop
                .and_then(|hop| hop["ip"].as_str())
                .unwrap_or_default()
                .to_owned(),
            as_path: numbers
                .split(' ')
                .filter_map(|number| number.parse().ok())
                .collect(),
            large: path["largeCommunity"]["string"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            originator: path["originatorId"].as_str().unwrap_or_default().to_owned(),
            clusters: texts(&path["clusterList"]["list"]),
        }))
    }

    fn refresh(&self, site: &Site, neighbour: IpAddr) -> Result<bool> {
        Self::ask(
            site,
            &format!("clear bgp {} {neighbour} soft in", family(neighbour.is_ipv4())),
        )?;
        Ok(true)
    }

    fn received(&self, site: &Site, neighbour: IpAddr) -> Result<u64> {
        let answer = Self::neighbour(site, neighbour)?;
        answer["messageStats"]["updatesRecv"]
            .as_u64()
            .with_context(|| format!("no count: {answer:#}"))
    }

    fn withdrawals(&self, site: &Site, prefix: IpNet) -> Result<usize> {
        let log = site.log();
        let of_prefix = log.lines().filter(|line| line.contains(&format!(" {prefix} ")));
        // Both what peers take back and what this one takes back of other peers.
        Ok(of_prefix
            .filter(|line| line.contains("withdrawn") || line.contains("unreachable"))
            .count())
    }

    fn pause(&self, _site: &Site) -> Result<bool> {
        Ok(false)
    }
}
