// SPDX-License-Identifier: Apache-2.0
//! BIRD 2.

use std::{fmt::Write as _, fs, net::IpAddr};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use testbed::Running;

use crate::{
    daemon::{Seen, Setup, Site, Speaker},
    world::{v4, v6},
};

/// See the module.
pub(crate) struct Bird;

/// Name of the protocol of a peer.
fn protocol(address: IpAddr) -> String {
    format!("p{}", address.to_string().replace(['.', ':'], "_"))
}

impl Bird {
    fn ask(site: &Site, question: &str) -> Result<String> {
        let socket = site.file("ctl");
        let mut arguments = vec!["-s", socket.as_str()];
        arguments.extend(question.split(' '));
        site.ask("birdc", &arguments)
    }
}

impl Speaker for Bird {
    fn programs(&self) -> (&'static [&'static str], &'static str) {
        (&["bird", "birdc"], "bird2")
    }

    fn configure(&self, site: &Site, setup: &Setup) -> Result<()> {
        let own = setup.local_as;
        // Without the kernel's routes there is nothing to find again after a restart, so that is all it takes.
        let mut text = format!(
            "log \"{}\" all; router id {}; protocol device {{ scan time 1; }} graceful restart wait 10;\n\
             function refused() {{ return net ~ [ {} ]; }}\n",
            site.file("log"),
            v4(setup.number),
            "10.255.255.255/32",
        );
        let refused: Vec<String> = setup
            .refused
            .iter()
            .filter(|prefix| prefix.addr().is_ipv4())
            .map(|prefix| format!("{prefix}+"))
            .collect();
        if !refused.is_empty() {
            text = text.replace("10.255.255.255/32", &refused.join(", "));
        }
        for (family, ipv4) in [("ipv4", true), ("ipv6", false)] {
            writeln!(text, "protocol static {{ {family};")?;
            for prefix in setup
                .routes
                .iter()
                .filter(|prefix| prefix.addr().is_ipv4() == ipv4)
            {
                writeln!(
                    text,
                    "route {prefix} blackhole {{ bgp_large_community.add(({own}, 1, 2)); }};"
                )?;
            }
            writeln!(text, "}}")?;
        }
        for neighbour in &setup.neighbours {
            let address = neighbour.address;
            let (family, local) = if address.is_ipv4() {
                ("ipv4", v4(setup.number))
            } else {
                ("ipv6", v6(setup.number))
            };
            let import = if address.is_ipv4() {
                "where !refused()"
            } else {
                "all"
            };
            let password = neighbour
                .password
                .map(|password| format!("password \"{password}\";"))
                .unwrap_or_default();
            let client = if neighbour.client { "rr client;" } else { "" };
            writeln!(
                text,
                "protocol bgp {} {{ local {local} as {own}; neighbor {address} as {}; {password} {client}\n\
                 connect delay time 1; connect retry time 1; error wait time 1, 2; graceful restart on;\n\
                 debug {{ routes, states, events }};\n\
                 {family} {{ import {import}; export all; }}; }}",
                protocol(address),
                neighbour.peer_as,
            )?;
        }
        text.push_str(&setup.more);
        fs::write(site.folder.join("bird.conf"), text).context("bird.conf")
    }

    fn command(&self, site: &Site, again: bool) -> Vec<String> {
        let mut command: Vec<String> = ["/usr/bin/env", "bird", "-f", "-c"].map(Into::into).into();
        if let Some(program) = testbed::peers::find_program("bird") {
            command = vec![program.display().to_string(), "-f".into(), "-c".into()];
        }
        command.extend([
            site.file("bird.conf"),
            "-s".into(),
            site.file("ctl"),
            "-P".into(),
            site.file("pid"),
        ]);
        if again {
            command.push("-R".into());
        }
        command
    }

    fn started(&self, _site: &Site, _setup: &Setup) -> Result<Option<Running>> {
        Ok(None)
    }

    fn answers(&self, site: &Site) -> bool {
        Self::ask(site, "show status").is_ok()
    }

    fn is_up(&self, site: &Site, neighbour: IpAddr) -> Result<bool> {
        Ok(Self::ask(site, &format!("show protocols {}", protocol(neighbour)))?.contains("Established"))
    }

    fn said_restarted(&self, site: &Site, neighbour: IpAddr) -> Result<bool> {
        let shown = Self::ask(site, &format!("show protocols all {}", protocol(neighbour)))?;
        Ok(shown.contains("Restart recovery"))
    }

    fn seen(&self, site: &Site, prefix: IpNet) -> Result<Option<Seen>> {
        let shown = match Self::ask(site, &format!("show route for {prefix} all")) {
            Ok(shown) => shown,
            Err(problem) if format!("{problem:#}").contains("Network not found") => return Ok(None),
            Err(problem) => return Err(problem),
        };
        if !shown.contains(&prefix.to_string()) {
            return Ok(None);
        }
        let after = |name: &str| {
            let line = shown.lines().find_map(|line| line.trim().strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        let large = after("BGP.large_community:");
        let large = large
            .trim_matches(['(', ')'])
            .replace(") (", "|")
            .replace(", ", ":")
            .replace('|', " ");
        Ok(Some(Seen {
            next_hop: after("BGP.next_hop:")
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned(),
            as_path: after("BGP.as_path:")
                .split(' ')
                .filter_map(|number| number.parse().ok())
                .collect(),
            large,
            originator: after("BGP.originator_id:"),
            clusters: after("BGP.cluster_list:")
                .split_whitespace()
                .map(Into::into)
                .collect(),
        }))
    }

    fn refresh(&self, site: &Site, neighbour: IpAddr) -> Result<bool> {
        Self::ask(site, &format!("reload in {}", protocol(neighbour)))?;
        Ok(true)
    }

    fn received(&self, site: &Site, neighbour: IpAddr) -> Result<u64> {
        let shown = Self::ask(site, &format!("show protocols all {}", protocol(neighbour)))?;
        let line = shown.lines().find(|line| line.contains("Import updates:"));
        let number = line.and_then(|line| line.split_whitespace().nth(2)?.parse().ok());
        number.with_context(|| format!("no count of imports: {shown}"))
    }

    fn withdrawals(&self, site: &Site, prefix: IpNet) -> Result<usize> {
        let log = site.log();
        let of_prefix = log.lines().filter(|line| line.contains(&format!(" {prefix} ")));
        Ok(of_prefix.filter(|line| line.contains("> removed")).count())
    }

    fn pause(&self, site: &Site) -> Result<bool> {
        Self::ask(site, "graceful restart")?;
        Ok(true)
    }
}
