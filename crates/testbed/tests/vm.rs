// SPDX-License-Identifier: Apache-2.0
//! Commands and tests under a stock kernel: it has what they need, they reach nothing of this machine, and they end.

use std::env;
use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use testbed::peers::{self, Peer};
use testbed::{Host, PATIENCE, vm};

/// Emulated, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(180);
/// Set for what runs in a guest.
const INSIDE: &str = "TESTBED_VM";
/// Addresses of the two hosts, and of the devices of the tunnel between them.
const OUTER: [&str; 2] = ["192.0.2.1", "192.0.2.2"];
const INNER: [&str; 2] = ["10.9.0.1", "10.9.0.2"];
const PINGS: &str = "5";
/// What a packet of 1480 bytes has after the headers of IPv4 and ICMP; and one byte more.
const FULL: &str = "1452";
const TOO_LONG: &str = "1453";

/// No environment.
const NONE: [(&str, &str); 0] = [];

fn shell(script: &str, deadline: Duration) -> Result<vm::Output> {
    vm::run("sh", ["-c", script], NONE, deadline)
}

#[test]
fn full_size_packets_pass_an_ipip_tunnel() -> Result<()> {
    if !vm::under_ipip("full_size_packets_pass_an_ipip_tunnel")? {
        return Ok(());
    }
    let programs = [
        Peer::Root,
        Peer::Program("ip", "iproute2"),
        Peer::Program("nft", "nftables"),
        Peer::Program("ping", "iputils-ping"),
    ];
    if !peers::available(&programs) {
        return Ok(());
    }
    let hosts = [Host::new("one")?, Host::new("two")?];
    let run = |host: usize, command: &str| {
        let mut words = command.split_whitespace();
        let program = words.next().unwrap_or_default();
        hosts[host].program(program).args(words).answer(PATIENCE)
    };
    let succeed = |host: usize, command: &str| -> Result<String> {
        let answer = run(host, command)?;
        answer.checked()?;
        Ok(answer.stdout)
    };
    let there = hosts[1].name();
    succeed(
        0,
        &format!("ip link add eth0 type veth peer name eth0 netns {there}"),
    )?;
    for (host, peer) in [(0, 1), (1, 0)] {
        let (outer, inner) = (OUTER[host], INNER[host]);
        succeed(host, &format!("ip addr add {outer}/24 dev eth0"))?;
        succeed(host, "ip link set eth0 up")?;
        succeed(host, &format!("ip link add tunnel type ipip local {outer}"))?;
        succeed(host, &format!("ip addr add {inner}/32 dev tunnel"))?;
        succeed(host, "ip link set tunnel up")?;
        let (to, via) = (INNER[peer], OUTER[peer]);
        succeed(host, &format!("ip route add {to}/32 via {via} dev tunnel onlink"))?;
    }
    let link = succeed(0, "ip link show tunnel")?;
    ensure!(link.contains("mtu 1480"), "{link}");

    // What arrives from outside: IPv4 in IPv4 (protocol 4), as long as the wire allows.
    succeed(1, "nft add table ip seen")?;
    succeed(
        1,
        "nft add chain ip seen arrived { type filter hook prerouting priority -300 ; }",
    )?;
    succeed(
        1,
        "nft add rule ip seen arrived iif eth0 ip protocol 4 ip length 1500 counter",
    )?;
    let ping = |size: &str| format!("ping -c {PINGS} -i 0.2 -M do -s {size} {}", INNER[1]);
    let said = succeed(0, &ping(FULL))?;
    ensure!(said.contains(&format!(" {PINGS} received")), "{said}");
    let counted = succeed(1, "nft list table ip seen")?;
    ensure!(
        counted.contains(&format!("counter packets {PINGS} bytes 7500")),
        "{counted}"
    );
    let refused = run(0, &ping(TOO_LONG))?;
    ensure!(!refused.status.success(), "1481 bytes passed a tunnel of 1480");
    Ok(())
}

#[test]
fn the_stock_kernel_has_what_tests_need() -> Result<()> {
    let programs = [Peer::Program("ip", "iproute2"), Peer::Program("nft", "nftables")];
    if !vm::available() || !peers::available(&programs) {
        return Ok(());
    }
    let script = "set -e
        # Without an address it would be a second tunl0.
        ip link add t-ipip type ipip local 192.0.2.1
        ip link add t-vxlan type vxlan id 4096 dstport 4789
        ip link add t-vrf type vrf table 10
        for kind in dummy veth bridge wireguard; do ip link add t-$kind type $kind; done
        for family in ip ip6 inet arp bridge netdev; do nft add table $family t; done
        test $(nproc) = 2
        grep -q tunl0 /proc/net/dev";
    let output = shell(script, DEADLINE)?;
    ensure!(output.code == 0, "{}{}", output.stdout, output.stderr);
    eprintln!("boot {:?}, in all {:?}", output.boot, output.total);
    Ok(())
}

#[test]
fn a_command_is_root_and_only_its_scratch_folder_comes_back() -> Result<()> {
    if !vm::available() {
        return Ok(());
    }
    let here = env::current_dir()?;
    let trace = format!("/etc/testbed-vm-{}", std::process::id());
    let script = format!(
        "id -u; pwd; echo \"$GREETING\"; echo to-stderr >&2
         echo kept >$TESTBED_SCRATCH/file
         mknod $TESTBED_SCRATCH/device c 1 3 && test -c $TESTBED_SCRATCH/device || exit 9
         echo gone >{trace} && cat {trace}
         exit 42"
    );
    let output = vm::run("sh", ["-c", &script], [("GREETING", "it's $HOME")], DEADLINE)?;
    ensure!(output.code == 42, "{output:?}");
    assert_eq!(
        output.stdout,
        format!("0\n{}\nit's $HOME\ngone\n", here.display())
    );
    assert_eq!(output.stderr, "to-stderr\n");
    let scratch = output.scratch();
    assert_eq!(fs::read_to_string(scratch.join("file"))?, "kept\n");
    let device = fs::symlink_metadata(scratch.join("device"))?.file_type();
    assert!(device.is_file() && !device.is_char_device(), "{device:?}");
    assert!(!fs::exists(&trace)?);
    drop(output);
    assert!(!scratch.exists());
    Ok(())
}

#[test]
fn what_does_not_end_is_killed_with_its_guest() -> Result<()> {
    if !vm::available() {
        return Ok(());
    }
    let deadline = Duration::from_secs(15);
    let start = Instant::now();
    let error = shell("echo so far; sleep 1000", deadline).expect_err("it sleeps longer");
    ensure!(start.elapsed() >= deadline, "{error:#}");
    let text = format!("{error:#}");
    // On a machine so busy that the guest has not even booted, the error says that.
    ensure!(text.contains("so far") || text.contains("did not boot"), "{text}");
    assert_eq!(orphans()?, [""; 0]);
    Ok(())
}

/// Emulators whose folder is gone: those of other tests still have theirs.
fn orphans() -> Result<Vec<String>> {
    let processes = fs::read_dir("/proc")?.flatten();
    let command_lines = processes.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
    let lost = command_lines.filter(|line| {
        let mut words = line.split('\0');
        let initramfs = words.find(|word| *word == "-initrd").and_then(|_| words.next());
        initramfs.is_some_and(|path| !Path::new(path).exists())
    });
    Ok(lost.collect())
}

#[test]
fn a_test_that_fails_in_the_guest_fails() -> Result<()> {
    if env::var_os(INSIDE).is_some() || vm::has_ipip() || !vm::available() {
        return Ok(());
    }
    let error = vm::under_ipip("fails_in_a_guest").expect_err("it fails there");
    let text = format!("{error:#}");
    ensure!(text.contains("this is the guest"), "{text}");
    Ok(())
}

/// For the test above; nothing anywhere else.
#[test]
fn fails_in_a_guest() {
    assert!(env::var_os(INSIDE).is_none(), "this is the guest");
}

#[test]
fn a_name_that_no_test_has_is_an_error() -> Result<()> {
    if env::var_os(INSIDE).is_some() || vm::has_ipip() || !vm::available() {
        return Ok(());
    }
    let error = vm::under_ipip("no_such_test").expect_err("there is none");
    ensure!(format!("{error:#}").contains("no_such_test"), "{error:#}");
    Ok(())
}

#[test]
fn what_a_guest_cannot_see_is_refused() -> Result<()> {
    if !vm::available() {
        return Ok(());
    }
    let error = vm::run("/var/tmp/program", [""; 0], NONE, DEADLINE).expect_err("it is hidden");
    let text = format!("{error:#}");
    text.contains("/var/tmp").then_some(()).context(text)
}
