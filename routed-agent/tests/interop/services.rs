// SPDX-License-Identifier: Apache-2.0
//! Service prefixes are for peers: BIRD has them with their communities, no node takes them from anybody, and packets to
//! service addresses that nobody has translated end at the first node they come to.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use anyhow::{Context as _, Result, ensure};
use datastore::{Batch, EmbeddedStore, OpenOptions, Store as _, Write};
use ipnet::IpNet;
use kernel::Family;
use model::{Key, Kind};
use serde_json::{Value, json};
use testbed::{Host, PATIENCE, Place, Program, eventually, peers, view};

use crate::{
    daemon::{Daemon, Make, Neighbour, SOON, Setup},
    support::net,
    world::{World, v4, v6},
};

const CLUSTER: &str = "10.96.0.0/16";
const CLUSTER6: &str = "fd00:96::/112";
const EXTERNAL: &str = "10.97.0.0/24";
const BALANCER: &str = "10.98.0.0/24";
/// One of a single address is for the service that has it, not for every node.
const SINGLE: &str = "10.97.1.1/32";
/// A router's route that is nobody's service.
const OUTSIDE: &str = "172.30.0.0/16";

/// Another, announced when told to.
const LATER: &str = "172.29.0.0/16";

fn apply_services(world: &World) -> Result<()> {
    let prefixes =
        |list: &[&str]| -> Vec<Value> { list.iter().map(|cidr| json!({ "cidr": cidr })).collect() };
    world.apply(
        Kind::BgpConfiguration,
        "default",
        &json!({
            "nodeToNodeMeshEnabled": false,
            "serviceClusterIPs": prefixes(&[CLUSTER, CLUSTER6]),
            "serviceExternalIPs": prefixes(&[EXTERNAL, SINGLE]),
            "serviceLoadBalancerIPs": prefixes(&[BALANCER]),
            "communities": [{ "name": "green", "value": "64512:5" }],
            "prefixAdvertisements": [
                { "cidr": CLUSTER, "communities": ["green", "64512:9:9"] },
                { "cidr": CLUSTER6, "communities": ["green"] },
                { "cidr": "10.98.0.0/16", "communities": ["64512:8"] },
            ],
        }),
    )
}

fn bird(world: &World, number: u8, local_as: u32, routes: &[&str], more: &str) -> Result<Daemon> {
    let neighbour = |address: IpAddr| Neighbour {
        address,
        peer_as: 64512,
        password: None,
        client: local_as == 64512,
    };
    let setup = Setup {
        number,
        local_as,
        neighbours: [v4(11), v4(12), v6(11)].map(neighbour).into(),
        routes: routes.iter().map(|prefix| net(prefix)).collect(),
        refused: Vec::new(),
        more: more.to_owned(),
    };
    let daemon = Daemon::start(world, Make::Bird, setup)?;
    for address in daemon.addresses() {
        let mut spec = json!({ "peerIP": address.to_string(), "asNumber": local_as });
        if address.is_ipv6() {
            spec["node"] = json!("node1");
        }
        let family = if address.is_ipv4() { "v4" } else { "v6" };
        world.apply(Kind::BgpPeer, &format!("bird{number}{family}"), &spec)?;
    }
    Ok(daemon)
}

/// The attributes of a node's path to a prefix, by BIRD's names; `None` if it has announced none.
fn path(daemon: &Daemon, from: IpAddr, prefix: &str) -> Result<Option<BTreeMap<String, String>>> {
    let protocol = format!("p{}", from.to_string().replace(['.', ':'], "_"));
    let question = format!("show route protocol {protocol} for {prefix} all");
    let control = daemon.site.file("ctl");
    let arguments = ["-s", &control].into_iter().chain(question.split(' '));
    let shown = match daemon.site.ask("birdc", &arguments.collect::<Vec<_>>()) {
        Ok(shown) => shown,
        Err(problem) if format!("{problem:#}").contains("Network not found") => return Ok(None),
        Err(problem) => return Err(problem),
    };
    let attributes = shown.lines().filter_map(|line| line.trim().split_once(": "));
    let attributes: BTreeMap<String, String> = attributes
        .filter(|(name, _)| name.starts_with("BGP."))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    // The answer may be for a shorter prefix.
    Ok((shown.contains(prefix) && !attributes.is_empty()).then_some(attributes))
}

fn until_path(daemon: &Daemon, from: IpAddr, prefix: &str) -> Result<BTreeMap<String, String>> {
    let found = eventually(SOON, || path(daemon, from, prefix).ok()?);
    found.with_context(|| format!("{prefix} from {from} at {}", daemon.number))
}

fn until_no_path(daemon: &Daemon, from: IpAddr, prefix: &str) -> Result<()> {
    let gone = eventually(SOON, || {
        matches!(path(daemon, from, prefix), Ok(None)).then_some(())
    });
    gone.with_context(|| format!("{prefix} from {from} is still at {}", daemon.number))
}

/// Each prefix with its communities, the node as next hop, and nothing that is not to be announced.
fn check_announced(daemon: &Daemon, external: bool) -> Result<()> {
    let own = v4(11);
    for (prefix, from, standard, large) in [
        (CLUSTER, own, "(64512,5)", "(64512, 9, 9)"),
        (CLUSTER6, v6(11), "(64512,5)", ""),
        (EXTERNAL, own, "", ""),
        (BALANCER, own, "(64512,8)", ""),
    ] {
        let path = until_path(daemon, from, prefix)?;
        let of = |name: &str| path.get(name).map(String::as_str).unwrap_or_default();
        ensure!(of("BGP.community") == standard, "{prefix}: {path:?}");
        ensure!(of("BGP.large_community") == large, "{prefix}: {path:?}");
        let hop = of("BGP.next_hop").split(' ').next();
        ensure!(hop == Some(&from.to_string()), "{prefix}: {path:?}");
        ensure!(
            of("BGP.as_path") == if external { "64512" } else { "" },
            "{prefix}: {path:?}"
        );
    }
    ensure!(path(daemon, own, SINGLE)?.is_none(), "{SINGLE} is a service's");
    Ok(())
}

/// No kernel has a route to a service.
fn check_kernels(world: &World) -> Result<()> {
    let services: Vec<IpNet> = [CLUSTER, CLUSTER6, EXTERNAL, BALANCER, SINGLE].map(net).into();
    for agent in &world.agents {
        for family in [Family::Ipv4, Family::Ipv6] {
            for route in view::routes(agent.host().place(), family)? {
                let parse = |word: &str| word.parse::<IpNet>().or(word.parse::<IpAddr>().map(IpNet::from));
                // The destination, behind the kind of route or first of all.
                let prefix = route.split(' ').take(2).find_map(|word| parse(word).ok());
                let inside = prefix.is_some_and(|prefix| services.iter().any(|all| all.contains(&prefix)));
                ensure!(!inside, "{} has {route}: {}", agent.name(), agent.log());
            }
        }
    }
    Ok(())
}

/// Waits until a node has heard of a prefix from a peer.
fn until_learned(world: &World, agent: usize, prefix: &str, peer: IpAddr) -> Result<()> {
    let path = format!("/v1/routes?prefix={prefix}");
    // Of names like `Global_10_1_0_2`.
    let end = format!("_{}", peer.to_string().replace('.', "_"));
    let learned = |answer: &Value| {
        let routes = answer["routes"].as_array().into_iter().flatten();
        let mut names = routes.filter_map(|route| route["peer"].as_str());
        names.any(|name| name.ends_with(&end))
    };
    world.agents[agent].until(&path, learned).map(drop)
}

/// Labels a node as Kubernetes does where load balancers are not to use it.
fn exclude(world: &World, node: &str) -> Result<()> {
    let store = EmbeddedStore::open(&world.store(), OpenOptions::default())?.store;
    let key = Key::resource(Kind::Node, node);
    let done = eventually(PATIENCE, || {
        let entry = store.get(&key).ok()??;
        let mut value: Value = serde_json::from_str(&entry.value).ok()?;
        value["metadata"]["labels"] =
            json!({ "node.kubernetes.io/exclude-from-external-load-balancers": "true" });
        let write = Write::Update {
            key: key.clone(),
            value: value.to_string(),
            revision: entry.revision,
        };
        let batch = Batch {
            writes: vec![write],
            journal: Vec::new(),
        };
        store.commit(&batch).ok()
    });
    done.context("the Node cannot be changed").map(drop)
}

#[test]
fn bird_has_service_prefixes_with_communities_and_no_node_takes_them_back() -> Result<()> {
    if !Make::Bird.is_here() {
        return Ok(());
    }
    let mut world = World::new(2, &[])?;
    apply_services(&world)?;
    // A router that has such routes of its own, of one address too, and one inside the AS, which passes on what other
    // nodes announce.
    let more_specific = ["10.96.7.0/24", "10.96.7.7/32"];
    let own = [OUTSIDE, EXTERNAL, SINGLE, more_specific[0], more_specific[1]];
    let late = format!("protocol static late {{ disabled; ipv4; route {LATER} blackhole; }}\n");
    let router = bird(&world, 2, 64600, &own, &late)?;
    let reflector = bird(&world, 3, 64512, &[], "")?;
    world.start()?;
    world.agents[0].until_peers(4)?;
    world.agents[1].until_peers(2)?;
    check_announced(&router, true)?;
    check_announced(&reflector, false)?;
    // They come back (of what both nodes announce, BIRD passes on the first's), and beside them a route that is taken.
    until_learned(&world, 1, CLUSTER, v4(3))?;
    for prefix in [EXTERNAL, SINGLE, more_specific[0], more_specific[1]] {
        until_learned(&world, 0, prefix, v4(2))?;
        until_learned(&world, 1, prefix, v4(2))?;
    }
    for agent in &world.agents {
        agent.until_route(&format!("{OUTSIDE} via {}", v4(2)))?;
    }
    check_kernels(&world)?;
    // A node that is to have no traffic of services announces none, and sends its own to no other node either.
    exclude(&world, "node2")?;
    for prefix in [CLUSTER, EXTERNAL, BALANCER] {
        until_no_path(&router, v4(12), prefix)?;
        until_no_path(&reflector, v4(12), prefix)?;
        until_learned(&world, 1, prefix, v4(3))?;
    }
    world.agents[1].until(&format!("/v1/routes?prefix={CLUSTER}"), |answer| {
        let routes = answer["routes"].as_array().into_iter().flatten();
        let used: Vec<&Value> = routes.filter(|route| route["used"] == true).collect();
        !used.is_empty() && used.iter().all(|route| route["peer"] != "own")
    })?;
    // The kernel has what was learned after that.
    let control = router.site.file("ctl");
    router.site.ask("birdc", &["-s", &control, "enable", "late"])?;
    world.agents[1].until_route(&format!("{LATER} via {}", v4(2)))?;
    check_kernels(&world)?;
    check_announced(&router, true)
}

fn ip(place: &Place, arguments: &str) -> Result<()> {
    let ip = peers::find_program("ip").context("no program ip")?;
    Program::new(place, ip)
        .args(arguments.split(' '))
        .succeed(PATIENCE)
        .map(drop)
}

fn nft(place: &Place, input: &str) -> Result<String> {
    let nft = peers::find_program("nft").context("no program nft")?;
    Program::new(place, nft)
        .args(["-f", "-"])
        .input(input)
        .succeed(PATIENCE)
}

/// Prefixes whose packets are counted where they come in: nobody's at all, and a service's of each family.
const COUNTED: [(&str, &str); 3] = [
    ("nobodys", "ip daddr 10.95.0.0/16"),
    ("services", "ip daddr 10.96.0.0/16"),
    ("services6", "ip6 daddr fd00:96::/112"),
];

fn count_incoming(place: &Place) -> Result<()> {
    let counters = COUNTED.map(|(name, _)| format!("counter {name} {{ }}\n"));
    let rules = COUNTED.map(|(name, what)| format!("{what} counter name {name}\n"));
    let table = format!(
        "table inet counts {{\n{}chain in {{\ntype filter hook prerouting priority -400;\n{}}}\n}}\n",
        counters.concat(),
        rules.concat()
    );
    nft(place, &table).map(drop)
}

/// How many packets have come in so far.
fn counted(place: &Place, name: &str) -> Result<u64> {
    let shown = nft(place, &format!("list counter inet counts {name}\n"))?;
    let mut words = shown
        .split_whitespace()
        .skip_while(|word| *word != "packets")
        .skip(1);
    let number = words.next().and_then(|word| word.parse().ok());
    number.with_context(|| format!("no count: {shown}"))
}

fn send(from: &Place, to: &str) -> Result<()> {
    let to: SocketAddr = to.parse()?;
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    from.run(|| -> Result<()> {
        let socket = UdpSocket::bind(any)?;
        socket.send_to(b"hello", to)?;
        Ok(())
    })?
}

/// A node whose default route is the router that has sent it the packet: what is nobody's goes back and forth until its
/// time to live is over.
#[test]
fn packets_to_services_that_nobody_translates_do_not_go_round() -> Result<()> {
    if !Make::Bird.is_here() {
        return Ok(());
    }
    let mut world = World::new(1, &[])?;
    apply_services(&world)?;
    let kernel = "protocol kernel { ipv4 { export where source = RTS_BGP; }; }\n\
                  protocol kernel { ipv6 { export where source = RTS_BGP; }; }\n";
    let router = bird(&world, 2, 64600, &[], kernel)?;
    let outside = Host::new("outside")?;
    world.attach(&outside, 40)?;
    let place = router.site.place.clone();
    place.run(|| -> Result<()> {
        kernel::sysctl::write("net/ipv4/ip_forward", "1")?;
        kernel::sysctl::write("net/ipv6/conf/all/forwarding", "1")?;
        Ok(())
    })??;
    for from in [world.agents[0].host().place(), outside.place()] {
        ip(from, &format!("route add default via {}", v4(2)))?;
        ip(from, &format!("-6 route add default via {}", v6(2)))?;
    }
    ip(&place, &format!("route add 10.95.0.0/16 via {}", v4(11)))?;
    world.start()?;
    world.agents[0].until_peers(2)?;
    let node = world.agents[0].host().place().clone();
    count_incoming(&place)?;
    count_incoming(&node)?;
    let routed = eventually(SOON, || {
        let [routes, routes6] = [Family::Ipv4, Family::Ipv6].map(|family| view::routes(&place, family));
        let via = |routes: &[String], prefix: &str, own: IpAddr| {
            let start = format!("{prefix} via {own} ");
            routes.iter().any(|route| route.starts_with(&start))
        };
        (via(&routes.ok()?, CLUSTER, v4(11)) && via(&routes6.ok()?, CLUSTER6, v6(11))).then_some(())
    });
    routed.with_context(|| router.site.log())?;
    send(outside.place(), "10.96.1.1:53")?;
    send(outside.place(), "[fd00:96::11]:53")?;
    // From a container of the node's, too.
    send(world.containers[0].place(), "10.96.1.1:53")?;
    send(world.containers[0].place(), "[fd00:96::11]:53")?;
    send(outside.place(), "10.95.1.1:53")?;
    // Half of 64 hops are the router's. By then the others, which were sent before, are long over.
    let around = eventually(SOON, || (counted(&place, "nobodys").ok()? >= 30).then_some(()));
    around.with_context(|| format!("packets do not go round: {:?}", counted(&place, "nobodys")))?;
    for name in ["services", "services6"] {
        let arrived = eventually(SOON, || (counted(&node, name).ok()? == 2).then_some(()));
        arrived.with_context(|| format!("{name} at the node: {:?}", counted(&node, name)))?;
        let count = counted(&place, name)?;
        ensure!(count == 1, "{name} at the router: {count}");
    }
    Ok(())
}
