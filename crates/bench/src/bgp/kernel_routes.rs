// SPDX-License-Identifier: Apache-2.0
//! Routes into the kernel's table and out of it: by our writer, and by `ip -batch`.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use kernel::{Route, RouteChange, RouteWriter};
use testbed::lan::{INTERFACE, Lan};
use testbed::{Host, Program, peers};

use super::options::Options;
use super::progress;
use crate::report::{Limit, Report};
use crate::sample::Sample;

const SUBNET: &str = "lan0";
const OWN: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
/// The first of all routes, which are /28.
const FIRST: Ipv4Addr = Ipv4Addr::new(20, 0, 0, 0);
/// How long `ip` may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Measures adding and removing, both in turns.
pub fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let lan = Lan::new()?;
    lan.subnet(SUBNET, &[])?;
    let host = Host::new("routes")?;
    lan.attach(&host, SUBNET, &[IpNet::new(OWN.into(), 24)?], &[])?;
    let link = host.netlink()?.link_by_name(INTERFACE)?;
    let link = link.context("the host's link is gone")?;
    let routes = (0..options.routes)
        .map(|number| {
            let address = Ipv4Addr::from(u32::from(FIRST) + u32::try_from(number)? * 16);
            let prefix = IpNet::new(IpAddr::V4(address), 28)?;
            Ok(Route::through(prefix, GATEWAY.into(), link.index))
        })
        .collect::<Result<Vec<_>>>()?;
    let files = [batch(&host, "add", &routes)?, batch(&host, "del", &routes)?];
    let mut writer = RouteWriter::over(host.netlink()?)?;
    let mut samples: [[Sample; 2]; 2] = Default::default();
    let count = options.routes;
    progress(format_args!(
        "{count} routes into the kernel and out, {} rounds",
        options.rounds
    ));
    for round in 0..options.rounds {
        for turn in 0..2 {
            let who = (round + turn) % 2;
            for (step, sample) in samples[who].iter_mut().enumerate() {
                sample.push(if who == 0 {
                    ours(&mut writer, &routes, step == 1)?
                } else {
                    by_ip(&host, &files[step])?
                });
            }
        }
    }
    for (step, name) in ["into the kernel", "out of the kernel"].into_iter().enumerate() {
        let [own, other] = [&samples[0][step], &samples[1][step]];
        let what = format!("{count} routes {name}");
        report.times(&what, "our writer", own);
        report.times(&what, "ip -batch", other);
        report.target(
            &format!("{what}, of ip -batch"),
            own.median_ratio(other),
            Limit::Ratio(1.15),
        );
    }
    Ok(())
}

fn batch(host: &Host, verb: &str, routes: &[Route]) -> Result<PathBuf> {
    let mut text = String::new();
    for route in routes {
        writeln!(
            text,
            "route {verb} {} via {GATEWAY} dev {INTERFACE}",
            route.destination
        )?;
    }
    let file = host.folders().top().join(verb);
    fs::write(&file, text)?;
    Ok(file)
}

fn ours(writer: &mut RouteWriter, routes: &[Route], is_removal: bool) -> Result<Duration> {
    let began = Instant::now();
    let change = |route| {
        if is_removal {
            RouteChange::Delete(route)
        } else {
            RouteChange::Add(route)
        }
    };
    let failures = writer.apply(routes.iter().map(change))?;
    let took = began.elapsed();
    ensure!(failures.is_empty(), "{:?}", failures.first());
    Ok(took)
}

fn by_ip(host: &Host, file: &Path) -> Result<Duration> {
    let ip = peers::find_program("ip").context("no program ip: install package iproute2")?;
    let program = Program::new(host.place(), ip).args(["-batch".as_ref(), file.as_os_str()]);
    let began = Instant::now();
    program.succeed(LIMIT)?;
    Ok(began.elapsed())
}
