// SPDX-License-Identifier: Apache-2.0
//! The benchmark itself: it runs, and `bare` leaves in the kernel what our ADD leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use bench::contender::{Contender, Programs, Verb};
use bench::invocation;
use bench::machine::{Container, Machine};
use kernel::{Link, Namespace, Netlink, Opened, RouteFilter, sysctl};

const BENCH: &str = env!("CARGO_BIN_EXE_bench");
const BARE: &str = env!("CARGO_BIN_EXE_bare");

/// What the comparison needs; a visible skip where it is missing, and a failure under CI.
fn programs() -> Option<Programs> {
    let found = match std::env::var_os("CALICO_BIN_DIR") {
        Some(_) if nix::unistd::geteuid().is_root() => Programs::find(Some(BARE.as_ref())),
        Some(_) => Err(anyhow::anyhow!("needs root")),
        None => Err(anyhow::anyhow!(
            "CALICO_BIN_DIR is not set: `make test` builds the plugins and sets it"
        )),
    };
    match found {
        Ok(programs) => Some(programs),
        Err(problem) => {
            assert!(std::env::var_os("CI").is_none(), "CI runs this: {problem:#}");
            eprintln!("SKIPPED: {problem:#}");
            None
        }
    }
}

/// Below the build folder: stores belong on a real file system.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

#[test]
fn a_small_run_measures_everything() {
    if programs().is_none() {
        return;
    }
    let folder = folder();
    let json = folder.path().join("bench.json");
    let output = Command::new(BENCH)
        .args([
            "--rounds",
            "2",
            "--burst",
            "4",
            "--addresses",
            "700",
            "--bare",
            BARE,
            "--json",
        ])
        .arg(&json)
        .arg("--folder")
        .arg(folder.path().join("stores"))
        .output()
        .unwrap();
    let (table, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{table}{errors}");
    let report: serde_json::Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let times = report["times"].as_array().unwrap();
    let names: BTreeSet<_> = times.iter().map(|row| row["who"].as_str().unwrap()).collect();
    for name in [
        "ours",
        "ptp + host-local",
        "bare",
        "bare, batched",
        "ours, 700 in use",
    ] {
        assert!(names.contains(name) && table.contains(name), "{name}: {table}");
    }
    assert!(
        times
            .iter()
            .all(|row| row["medianMicroseconds"].as_f64() > Some(0.0)),
        "{report}"
    );
    let targets = report["targets"].as_array().unwrap();
    assert_eq!(targets.len(), 9, "{report}");
    assert!(
        targets
            .iter()
            .all(|target| target["measured"].as_f64() > Some(0.0)),
        "{report}"
    );
    assert_eq!(
        fs::read_dir(folder.path().join("stores")).unwrap().count(),
        0,
        "stores are removed"
    );
}

/// Everything about a container that ADD decides, with what differs from one container to the next made equal.
#[derive(Debug, PartialEq)]
struct Connected {
    host: BTreeMap<&'static str, String>,
    container: BTreeMap<&'static str, String>,
    host_settings: BTreeMap<String, String>,
    container_settings: BTreeMap<String, String>,
}

#[test]
fn bare_leaves_what_our_add_leaves() {
    let Some(programs) = programs() else { return };
    let folder = folder();
    let compare = || {
        let mut machine = Machine::enter(folder.path()).unwrap();
        let ours = Contender::ours(&programs, &machine, "ours").unwrap();
        let expected = connected(&mut machine, &ours);
        for batched in [false, true] {
            let found = connected(&mut machine, &Contender::bare(&programs, batched));
            assert_eq!(found, expected, "batched: {batched}");
        }
    };
    // The machine is a namespace of the thread that enters it.
    thread::scope(|scope| scope.spawn(compare).join()).unwrap();
}

/// The container after ADD. Checks as well that DEL leaves nothing.
fn connected(machine: &mut Machine, contender: &Contender) -> Connected {
    let mut socket = Netlink::open().unwrap();
    let before = socket.links().unwrap();
    let container = machine.container().unwrap();
    invocation::time(contender.command(Verb::Add, &container).unwrap()).unwrap();
    let links = socket.links().unwrap();
    let link = links
        .iter()
        .find(|link| before.iter().all(|old| old.index != link.index))
        .unwrap();
    let Opened::Namespace(namespace) = Namespace::open(container.path()).unwrap() else {
        panic!("no namespace")
    };
    let (inside, container_settings) = namespace.run(|| look_inside(&container)).unwrap();
    let found = Connected {
        host: look(&mut socket, link),
        container: inside,
        host_settings: settings(&link.name, &[]),
        container_settings,
    };
    invocation::time(contender.command(Verb::Del, &container).unwrap()).unwrap();
    assert_eq!(socket.links().unwrap().len(), before.len());
    found
}

fn look_inside(container: &Container) -> (BTreeMap<&'static str, String>, BTreeMap<String, String>) {
    let mut socket = Netlink::open().unwrap();
    let link = socket.link_by_name("eth0").unwrap().unwrap();
    let settings = settings("eth0", &["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"]);
    assert!(container.path().starts_with("/run/netns/"));
    (look(&mut socket, &link), settings)
}

/// Link, addresses, routes and neighbours, without numbers and addresses of their own.
fn look(socket: &mut Netlink, link: &Link) -> BTreeMap<&'static str, String> {
    let own = |text: String| {
        let mut text = text.replace(&format!("index {}", link.index), "index N");
        for prefix in ["192.168.", "10.201."] {
            while let Some(begin) = text.find(prefix) {
                let rest = &text[begin..];
                let length = rest
                    .find(|c: char| !c.is_ascii_digit() && c != '.')
                    .unwrap_or(rest.len());
                text.replace_range(begin..begin + length, "ADDRESS");
            }
        }
        text
    };
    let addresses = socket.addresses(Some(link.index)).unwrap();
    let addresses = addresses.iter().filter(|address| address.ip().is_ipv4());
    let mut routes = socket
        .routes(RouteFilter {
            interface: Some(link.index),
            ..RouteFilter::default()
        })
        .unwrap();
    // Those of the link-local address come and go with the kernel's own pace.
    routes.retain(|route| route.destination.addr().is_ipv4());
    let neighbours = socket.neighbours(Some(link.index)).unwrap();
    let neighbours = neighbours.iter().filter(|neighbour| neighbour.is_permanent());
    let describe_route = |route: &kernel::Route| {
        own(format!(
            "{route} {:?} {:?} {:?}",
            route.kind, route.scope, route.protocol
        ))
    };
    BTreeMap::from([
        ("mtu", link.mtu.to_string()),
        ("up", link.is_up().to_string()),
        ("kind", format!("{:?}", link.kind)),
        (
            "queues",
            format!("{} {}", link.transmit_queues, link.receive_queues),
        ),
        ("has alias", link.alias.is_some().to_string()),
        (
            "host MAC",
            (link.mac == Some(kernel::MacAddress([0xee; 6]))).to_string(),
        ),
        (
            "addresses",
            own(format!(
                "{:?}",
                addresses
                    .map(|a| (a.prefix, a.scope, a.flags))
                    .collect::<Vec<_>>()
            )),
        ),
        (
            "routes",
            routes
                .iter()
                .map(describe_route)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>()
                .join("; "),
        ),
        (
            "neighbours",
            format!("{:?}", neighbours.map(|n| (n.address, n.mac)).collect::<Vec<_>>()),
        ),
    ])
}

/// All settings of a device, and some others.
fn settings(device: &str, others: &[&str]) -> BTreeMap<String, String> {
    let folders = [
        "net/ipv4/conf",
        "net/ipv6/conf",
        "net/ipv4/neigh",
        "net/ipv6/neigh",
    ];
    let files = folders.into_iter().flat_map(|folder| {
        let entries = fs::read_dir(PathBuf::from("/proc/sys").join(folder).join(device)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .map(move |name| (format!("{folder}/*/{name}"), format!("{folder}/{device}/{name}")))
            .collect::<Vec<_>>()
    });
    let others = others.iter().map(|path| ((*path).to_owned(), (*path).to_owned()));
    files
        .chain(others)
        .filter_map(|(name, path)| Some((name, sysctl::read(&path).ok()?)))
        .collect()
}
