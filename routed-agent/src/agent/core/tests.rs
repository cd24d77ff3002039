// SPDX-License-Identifier: Apache-2.0
//! Planning by difference comes to the same as planning anew.

use bgp::session::{ConnectionId, Event};
use datastore::{Change, Entry, Revision};
use model::{AffinityOwner, IpamBlock, Key, Kind, LocalTable};
use serde_json::{Value, json};

use super::*;
use crate::{
    configuration::Variables,
    facts::{Device, Hop, Underlay},
};

const NODES: [(&str, &str); 3] = [("a", "10.0.0.1/24"), ("b", "10.0.0.2/24"), ("c", "10.0.1.3/24")];

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// A host at one of the nodes' addresses.
fn ground(address: &str) -> Facts {
    let mut facts = Facts::default();
    let device = Device {
        name: "eth0".into(),
        mtu: 1500,
        up: true,
        kind: None,
    };
    facts.links.insert(2, device);
    facts.addresses.push((net(address), 2));
    let route = |destination: &str, gateway: Option<&str>| Underlay {
        destination: net(destination),
        metric: 0,
        protocol: 3,
        hops: vec![Hop {
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
            device: "eth0".into(),
        }],
    };
    facts.underlay.push(route("0.0.0.0/0", Some("10.0.0.254")));
    facts.underlay.push(route("10.0.0.0/24", None));
    facts
}

/// An agent's core, and the folder that it writes its files to.
struct Agent {
    core: Core,
    _folder: tempfile::TempDir,
}

fn agent(node: &str, address: &str) -> Agent {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().display().to_string();
    let variables = [
        ("NODENAME", node),
        ("CALICO_STATE_DIR", &state),
        ("CALICO_RUN_DIR", &state),
        ("CALICO_ADDRESS_JOURNAL_ENTRIES", "100"),
    ];
    let variables: Variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let mut core = Core::new(Start::read(variables).unwrap(), false).unwrap();
    core.take_report(Report::Facts(Arc::new(ground(address))));
    Agent {
        core,
        _folder: folder,
    }
}

/// Two agents, and what is between them.
struct Pair {
    agents: [Agent; 2],
    connections: u64,
}

impl Pair {
    fn new(snapshot: &Snapshot) -> Self {
        let mut pair = Self {
            agents: [agent("a", "10.0.0.1/24"), agent("b", "10.0.0.2/24")],
            connections: 0,
        };
        pair.see(snapshot);
        pair
    }

    fn see(&mut self, snapshot: &Snapshot) {
        for agent in &mut self.agents {
            agent.core.take_snapshot(Arc::new(snapshot.clone()));
        }
        self.exchange();
    }

    fn peer(&self, place: usize) -> PeerId {
        let wanted: IpAddr = net(NODES[1 - place].1).addr();
        self.agents[place].core.peer_of(wanted).unwrap()
    }

    fn tell(&mut self, place: usize, event: Event<'_>) {
        let peer = self.peer(place);
        let core = &mut self.agents[place].core;
        let now = core.now();
        core.speaker.handle(peer, event, now);
    }

    /// Carries bytes until neither has more to say.
    fn exchange(&mut self) {
        loop {
            let mut silent = true;
            for place in 0..2 {
                self.agents[place].core.settle();
                let orders = std::mem::take(&mut self.agents[place].core.orders);
                let peer = self.peer(place);
                for order in orders {
                    match order {
                        // One of the two dials: collisions are another test's.
                        SocketOrder::Speaker(Output::Dial(id)) if id == peer && place == 0 => {
                            self.connections += 1;
                            let connection = ConnectionId(self.connections);
                            let own = net(NODES[0].1).addr();
                            self.agents[0]
                                .core
                                .speaker
                                .set_local_address(peer, connection, own);
                            self.tell(1, Event::Accepted(connection));
                            self.tell(0, Event::Dialled(connection));
                            silent = false;
                        }
                        SocketOrder::Speaker(Output::Send(id, connection, bytes)) if id == peer => {
                            self.tell(1 - place, Event::Received(connection, &bytes));
                            silent = false;
                        }
                        _ => {}
                    }
                }
                while let Some((connection, bytes)) =
                    self.agents[place].core.speaker.take_routes(peer, 65_536)
                {
                    self.tell(1 - place, Event::Received(connection, &bytes));
                    silent = false;
                }
            }
            if silent {
                return;
            }
        }
    }

    /// All that has been planned by the first of them.
    fn planned(&self) -> Planned {
        let core = &self.agents[0].core;
        (
            core.store_routes.clone(),
            core.bgp_routes.clone(),
            core.refused()
                .map(|(prefix, refusal)| (*prefix, refusal.clone()))
                .collect(),
            core.own_routes.clone(),
        )
    }
}

type Planned = (
    Routes,
    Routes,
    BTreeMap<IpNet, Refusal>,
    BTreeMap<IpNet, Origination>,
);

fn put(snapshot: &mut Snapshot, key: Key, value: &Value) {
    let entry = Entry {
        key,
        revision: Revision(1),
        value: value.to_string(),
    };
    snapshot.apply(Change::Put(entry));
    assert!(snapshot.unreadable.is_empty(), "{:?}", snapshot.unreadable);
}

fn cluster(vxlan: bool) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let mut resource = |kind: Kind, name: &str, spec: Value| {
        let value = json!({
            "kind": kind.name(), "apiVersion": "projectcalico.org/v3", "metadata": { "name": name }, "spec": spec,
        });
        put(&mut snapshot, Key::resource(kind, name), &value);
    };
    for (place, (name, address)) in NODES.iter().enumerate() {
        let tunnel = format!("192.168.9.{place}");
        resource(
            Kind::Node,
            name,
            json!({ "bgp": { "ipv4Address": address, "asNumber": 64512 }, "ipv4VXLANTunnelAddr": tunnel }),
        );
    }
    let (ipip, vxlan) = if vxlan {
        ("Never", "CrossSubnet")
    } else {
        ("CrossSubnet", "Never")
    };
    resource(
        Kind::IpPool,
        "p",
        json!({ "cidr": "192.168.0.0/16", "blockSize": 29, "ipipMode": ipip, "vxlanMode": vxlan }),
    );
    snapshot
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

/// Something that happens all the time: claims, releases, addresses, containers.
fn change(snapshot: &mut Snapshot, random: &mut Random) {
    let block = net(&format!("192.168.1.{}/29", 8 * random.below(3)));
    let node = NODES[random.below(3)].0;
    let owner = AffinityOwner::Host(node.to_owned());
    match random.below(6) {
        0 => {
            let state = ["confirmed", "pending", "pendingDeletion"][random.below(3)];
            put(
                snapshot,
                Key::Affinity { owner, block },
                &json!({ "state": state }),
            );
        }
        1 => {
            snapshot.apply(Change::Deleted {
                key: Key::Affinity { owner, block },
                revision: Revision(1),
            });
        }
        2 | 3 => {
            let owner = [None, Some(owner)][random.below(2)].clone();
            let mut stored = IpamBlock::new(block, owner, None, 1).unwrap();
            for ordinal in 0..random.below(4) {
                let attribute = model::AllocationAttribute {
                    secondary: BTreeMap::from([("node".to_owned(), NODES[random.below(3)].0.to_owned())]),
                    ..model::AllocationAttribute::default()
                };
                stored.allocations[ordinal] = Some(stored.attributes.len());
                stored.unallocated.retain(|free| *free != ordinal);
                stored.attributes.push(attribute);
            }
            put(
                snapshot,
                Key::Block(block),
                &serde_json::to_value(&stored).unwrap(),
            );
        }
        4 => {
            snapshot.apply(Change::Deleted {
                key: Key::Block(block),
                revision: Revision(1),
            });
        }
        _ => {
            let key = Key::local(
                LocalTable::Attachment,
                format!("{node}/net/c{}/eth0", random.below(3)),
            );
            if random.below(2) == 0 {
                let address = block.hosts().nth(random.below(4)).unwrap();
                let value = json!({ "created": 1, "hostInterface": "cali1", "mtu": 0, "addresses": [{ "address": address, "sequence": 1 }] });
                put(snapshot, key, &value);
            } else {
                snapshot.apply(Change::Deleted {
                    key,
                    revision: Revision(1),
                });
            }
        }
    }
}

#[test]
fn planning_by_difference_comes_to_the_same_as_planning_anew() {
    for seed in 1..=40 {
        let mut random = Random(seed);
        let mut snapshot = cluster(seed % 2 == 0);
        let mut pair = Pair::new(&snapshot);
        for step in 1..=16 {
            for _ in 0..=random.below(3) {
                change(&mut snapshot, &mut random);
            }
            pair.see(&snapshot);
            if step % 4 == 0 {
                let anew = Pair::new(&snapshot).planned();
                assert_eq!(pair.planned(), anew, "seed {seed}, step {step}");
            }
        }
    }
}

#[test]
fn only_what_is_frequent_is_planned_by_difference() {
    let snapshot = cluster(false);
    let mut later = snapshot.clone();
    assert_eq!(later.since(&snapshot), Difference::Only(BTreeSet::new()));
    let block = net("192.168.1.0/29");
    let owner = AffinityOwner::Host("a".into());
    put(
        &mut later,
        Key::Affinity { owner, block },
        &json!({ "state": "confirmed" }),
    );
    assert_eq!(later.since(&snapshot), Difference::Only([block].into()));
    let mut renamed = later.clone();
    renamed.apply(Change::Deleted {
        key: Key::resource(Kind::Node, "c"),
        revision: Revision(2),
    });
    assert_eq!(renamed.since(&later), Difference::Anything);
    assert_eq!(renamed.node_by_address("10.0.1.3".parse().unwrap()), None);
}

#[test]
fn addresses_given_out_and_given_back_are_in_the_journal_as_many_as_the_setting_says() {
    let mut agent = agent("a", "10.0.0.1/24");
    let mut snapshot = cluster(false);
    agent.core.take_snapshot(Arc::new(snapshot.clone()));
    let prefix = net("192.168.1.0/29");
    let free = IpamBlock::new(prefix, None, None, 1).unwrap();
    let mut taken = free.clone();
    taken.attributes.push(model::AllocationAttribute {
        handle_id: Some("net.c1".into()),
        secondary: BTreeMap::from([("node".to_owned(), "a".to_owned())]),
        ..model::AllocationAttribute::default()
    });
    taken.allocations[1] = Some(0);
    taken.unallocated.retain(|ordinal| *ordinal != 1);
    for round in 0..130 {
        let block = if round % 2 == 0 { &taken } else { &free };
        put(
            &mut snapshot,
            Key::Block(prefix),
            &serde_json::to_value(block).unwrap(),
        );
        agent.core.take_snapshot(Arc::new(snapshot.clone()));
    }
    agent.core.recording.flush();
    let journal = agent.core.recording.journal();
    let filter = crate::journal::Filter {
        kind: Some(crate::journal::Kind::Addresses),
        ..crate::journal::Filter::default()
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    let lines = loop {
        let (lines, _) = journal.find(&filter, 1000);
        let last = lines.last().map(|line| (line.change, line.sequence));
        // The last of the rounds gives the address back.
        if last
            .is_some_and(|(change, sequence)| change == crate::journal::Change::Withdrawn && sequence > 130)
        {
            break lines;
        }
        assert!(Instant::now() < deadline, "{lines:?}");
        std::thread::sleep(Duration::from_millis(2));
    };
    assert_eq!(lines.len(), 100);
    assert_eq!(lines[0].object.to_string(), "192.168.1.1/32");
    assert_eq!(&*lines[0].cause, "net.c1");
}
