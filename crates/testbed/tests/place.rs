// SPDX-License-Identifier: Apache-2.0
//! The test bed itself: hosts reach the router, containers answer, a private root hides the machine, and nothing is left.

use std::net::SocketAddr;
use std::path::Path;

use testbed::peers::{self, Peer};
use testbed::{Container, Host, PATIENCE, PORT, Router, probe, view};

type Result = anyhow::Result<()>;

#[test]
fn a_host_and_its_router_reach_each_other() -> Result {
    if !peers::available(&[Peer::Root]) {
        return Ok(());
    }
    let router = Router::new()?;
    let (one, two) = (Host::behind(&router, "one")?, Host::behind(&router, "two")?);
    for uplink in [one.uplink(), two.uplink()].into_iter().flatten() {
        for address in &uplink.addresses {
            probe::ping(router.place(), address.addr())?;
            probe::ping(one.place(), address.addr())?;
        }
    }
    let routes = view::routes(one.place(), kernel::Family::Ipv4)?;
    assert_eq!(
        routes,
        [
            "default via 10.0.1.1 dev eth0",
            "10.0.1.0/24 dev eth0 proto kernel scope link src 10.0.1.10"
        ]
    );
    let answer = one.program("uname").args(["-n"]).succeed(PATIENCE)?;
    assert_eq!(answer.trim(), "one");
    Ok(())
}

#[test]
fn a_container_answers_on_its_loopback() -> Result {
    if !peers::available(&[Peer::Root]) {
        return Ok(());
    }
    let container = Container::start("web")?;
    for loopback in ["127.0.0.1", "::1"] {
        let address = loopback.parse()?;
        container.ping(address)?;
        assert_eq!(container.http(address)?, format!("web answers {loopback}\n"));
        probe::udp(container.place(), SocketAddr::new(address, PORT))?;
    }
    Ok(())
}

#[test]
fn what_is_dropped_leaves_nothing() -> Result {
    if !peers::available(&[Peer::Root, Peer::FileSystem("overlay")]) {
        return Ok(());
    }
    let host = Host::new("gone")?.with_private_root()?;
    let container = Container::start("gone-too")?;
    // A daemon: its parent ends at once, and nobody waits for it.
    let seconds = format!("{}.5", 100_000 + std::process::id());
    let script = format!("setsid sleep {seconds} </dev/null >/dev/null 2>&1 &");
    host.program("sh").args(["-c", &script]).succeed(PATIENCE)?;
    let is_here = || is_running(&format!("sleep\0{seconds}\0"));
    assert!(testbed::eventually(PATIENCE, || is_here().then_some(())).is_some());
    let (name, folder) = (host.name().to_owned(), host.folders().top().to_owned());
    let paths = [host.place().path().to_owned(), container.path().to_owned()];
    drop((host, container));
    assert!(!folder.exists());
    for path in paths {
        assert!(!path.exists(), "{}", path.display());
    }
    let mounts = std::fs::read_to_string("/proc/mounts")?;
    assert!(!mounts.contains(&name), "{mounts}");
    assert!(!is_here());
    Ok(())
}

#[test]
fn a_private_root_hides_the_machine() -> Result {
    if !peers::available(&[Peer::Root, Peer::FileSystem("overlay")]) {
        return Ok(());
    }
    let host = Host::new("inside")?.with_private_root()?;
    std::fs::write(host.folders().networks().join("mark"), "")?;
    let script =
        "ls /etc/cni/net.d && touch /etc/only-inside /var/lib/calico/state-mark && ls /run/calico && echo $$";
    let answer = host.program("sh").args(["-c", script]).succeed(PATIENCE)?;
    assert!(answer.starts_with("mark\n"), "{answer}");
    assert!(!Path::new("/etc/only-inside").exists());
    assert!(host.folders().state().join("state-mark").exists());
    let pid: u32 = answer.lines().last().unwrap_or_default().parse()?;
    assert!(pid < 100, "a process namespace of its own counts from 1: {pid}");
    Ok(())
}

fn is_running(command_line: &str) -> bool {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = processes.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.into_iter().any(|line| line == command_line)
}
