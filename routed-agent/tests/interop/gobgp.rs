// SPDX-License-Identifier: Apache-2.0
//! GoBGP.

use std::{fmt::Write as _, fs, net::IpAddr};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use serde_json::Value;
use testbed::Running;

use crate::{
    daemon::{Seen, Setup, Site, Speaker},
    world::v4,
};

/// See the module.
pub(crate) struct GoBgp;

impl GoBgp {
    fn json(site: &Site, question: &[&str]) -> Result<Value> {
        let mut arguments = vec!["-j"];
        arguments.extend(question);
        let text = site.ask("gobgp", &arguments)?;
        serde_json::from_str(&text).with_context(|| format!("{question:?}: {text}"))
    }
}

fn family(ipv4: bool) -> &'static str {
    if ipv4 { "ipv4" } else { "ipv6" }
}

/// Path attributes by their numbers (RFC 4271, RFC 4456, RFC 8092).
fn attribute(path: &Value, number: u64) -> &Value {
    let attributes = path["attrs"].as_array().map(Vec::as_slice).unwrap_or_default();
    attributes
        .iter()
        .find(|found| found["type"] == number)
        .unwrap_or(&Value::Null)
}

impl Speaker for GoBgp {
    fn programs(&self) -> (&'static [&'static str], &'static str) {
        (&["gobgpd", "gobgp"], "gobgpd")
    }

    fn configure(&self, site: &Site, setup: &Setup) -> Result<()> {
        let mut text = format!(
            "[global.config]\nas = {}\nrouter-id = \"{}\"\n",
            setup.local_as,
            v4(setup.number)
        );
        if !setup.refused.is_empty() {
            text.push_str(
                "[global.apply-policy.config]\nimport-policy-list = [\"in\"]\ndefault-import-policy = \"accept-route\"\n\
                 [[policy-definitions]]\nname = \"in\"\n[[policy-definitions.statements]]\n\
                 [policy-definitions.statements.conditions.match-prefix-set]\nprefix-set = \"refused\"\n\
                 [policy-definitions.statements.actions]\nroute-disposition = \"reject-route\"\n\
                 [[defined-sets.prefix-sets]]\nprefix-set-name = \"refused\"\n",
            );
        }
        for prefix in setup.refused.iter().filter(|prefix| prefix.addr().is_ipv4()) {
            writeln!(
                text,
                "[[defined-sets.prefix-sets.prefix-list]]\nip-prefix = \"{prefix}\"\nmasklength-range = \"{}..32\"",
                prefix.prefix_len()
            )?;
        }
        for neighbour in &setup.neighbours {
            let address = neighbour.address;
            writeln!(
                text,
                "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{address}\"\npeer-as = {}",
                neighbour.peer_as
            )?;
            if let Some(password) = neighbour.password {
                writeln!(text, "auth-password = \"{password}\"")?;
            }
            if neighbour.client {
                writeln!(
                    text,
                    "[neighbors.route-reflector.config]\nroute-reflector-client = true\n\
                     route-reflector-cluster-id = \"{}\"",
                    v4(setup.number)
                )?;
            }
            writeln!(
                text,
                "[neighbors.timers.config]\nconnect-retry = 1\n\
                 [neighbors.graceful-restart.config]\nenabled = true\nrestart-time = 60\ndeferral-time = 5\n\
                 [[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{}-unicast\"\n\
                 [neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true",
                family(address.is_ipv4())
            )?;
        }
        text.push_str(&setup.more);
        fs::write(site.folder.join("gobgpd.toml"), text).context("gobgpd.toml")
    }

    fn command(&self, site: &Site, again: bool) -> Vec<String> {
        let mut command: Vec<String> = [
            "/usr/bin/env",
            "gobgpd",
            "--api-hosts",
            "127.0.0.1:50051",
            "--pprof-disable",
        ]
        .map(Into::into)
        .into();
        command.extend(["--log-plain".into(), "-l".into(), "debug".into()]);
        command.extend(["-f".into(), site.file("gobgpd.toml")]);
        if again {
            command.push("-r".into());
        }
        command
    }

    fn started(&self, site: &Site, setup: &Setup) -> Result<Option<Running>> {
        let large = format!("{}:1:2", setup.local_as);
        for prefix in &setup.routes {
            let of = family(prefix.addr().is_ipv4());
            let text = prefix.to_string();
            site.ask(
                "gobgp",
                &["global", "rib", "add", "-a", of, &text, "large-community", &large],
            )?;
        }
        let ipv4 = setup
            .neighbours
            .first()
            .is_none_or(|found| found.address.is_ipv4());
        let gobgp = [
            "/usr/bin/env",
            "gobgp",
            "monitor",
            "global",
            "rib",
            "-a",
            family(ipv4),
        ]
        .map(Into::into);
        site.start("monitor", &gobgp).map(Some)
    }

    fn answers(&self, site: &Site) -> bool {
        site.ask("gobgp", &["global"]).is_ok()
    }

    fn is_up(&self, site: &Site, neighbour: IpAddr) -> Result<bool> {
        let shown = site.ask("gobgp", &["neighbor", &neighbour.to_string()])?;
        Ok(shown.contains("BGP state = ESTABLISHED"))
    }

    fn said_restarted(&self, site: &Site, neighbour: IpAddr) -> Result<bool> {
        let shown = site.ask("gobgp", &["neighbor", &neighbour.to_string()])?;
        Ok(shown.contains("restart flag set"))
    }

    fn seen(&self, site: &Site, prefix: IpNet) -> Result<Option<Seen>> {
        let of = family(prefix.addr().is_ipv4());
        let answer = Self::json(site, &["global", "rib", "-a", of])?;
        let Some(path) = answer[prefix.to_string()]
            .as_array()
            .and_then(|paths| paths.first())
        else {
            return Ok(None);
        };
        let segments = attribute(path, 2)["as_paths"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let numbers = segments
            .iter()
            .flat_map(|segment| segment["asns"].as_array().cloned().unwrap_or_default());
        let large = attribute(path, 32)["value"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let large: Vec<String> = large
            .iter()
            .map(|value| format!("{}:{}:{}", value["ASN"], value["LocalData1"], value["LocalData2"]))
            .collect();
        let hop = match attribute(path, 14)["nexthop"].as_str() {
            Some(hop) => hop.to_owned(),
            None => attribute(path, 3)["nexthop"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        };
        let clusters = attribute(path, 10)["value"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        Ok(Some(Seen {
            next_hop: hop,
            as_path: numbers
                .filter_map(|number| number.as_u64()?.try_into().ok())
                .collect(),
            large: large.join(" "),
            originator: attribute(path, 9)["value"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            clusters: clusters
                .iter()
                .filter_map(|text| text.as_str().map(Into::into))
                .collect(),
        }))
    }

    fn refresh(&self, site: &Site, neighbour: IpAddr) -> Result<bool> {
        // It looks at what it has kept again, and never sends a ROUTE-REFRESH.
        site.ask("gobgp", &["neighbor", &neighbour.to_string(), "softresetin"])?;
        Ok(false)
    }

    fn received(&self, site: &Site, neighbour: IpAddr) -> Result<u64> {
        let answer = Self::json(site, &["neighbor", &neighbour.to_string()])?;
        answer["state"]["messages"]["received"]["update"]
            .as_u64()
            .with_context(|| format!("no count: {answer:#}"))
    }

    fn withdrawals(&self, site: &Site, prefix: IpNet) -> Result<usize> {
        let log = fs::read_to_string(site.folder.join("monitor")).unwrap_or_default();
        let of_prefix = log.lines().filter(|line| line.contains(&prefix.to_string()));
        Ok(of_prefix.filter(|line| line.contains("DELROUTE")).count())
    }

    fn keeps_own_routes(&self) -> bool {
        // They are told by its command line, after the sessions are up and often after its End-of-RIB.
        false
    }

    fn pause(&self, _site: &Site) -> Result<bool> {
        Ok(false)
    }
}
