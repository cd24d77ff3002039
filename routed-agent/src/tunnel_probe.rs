// SPDX-License-Identifier: Apache-2.0
//! Whether a tunnel carries packets: echo requests from the own tunnel address to the other node's, out of the tunnel
//! device, first small, then as large as the device lets through. The far node's kernel answers, whatever runs there.
//!
//! One thread sends, in batches, to all that wait. What fails is tried again every half a minute until it is through.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use kernel::EchoSocket;
use serde::Serialize;

use crate::encapsulation::Encapsulation;

/// How often each size is sent before it is given up.
const ATTEMPTS: u32 = 3;
/// How long answers to one attempt are waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// After which time what has failed is tried again.
const PAUSE: Duration = Duration::from_secs(30);
/// After which time a device that was not ready is looked at again.
const SOON: Duration = Duration::from_millis(500);
/// Between two requests: a thousand nodes are not to be asked in one moment.
const PACE: Duration = Duration::from_micros(500);
/// Bytes of a small packet.
const SMALL: usize = 84;

/// A tunnel to a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The node.
    pub node: String,
    /// How packets travel.
    pub encapsulation: Encapsulation,
    /// Name of the device here.
    pub device: Arc<str>,
    /// Its address.
    pub source: IpAddr,
    /// Address of the device there.
    pub destination: IpAddr,
    /// Largest packet that goes in, in bytes.
    pub mtu: u32,
    /// The node's address: where packets go on the outside.
    pub outer: IpAddr,
}

/// What became of the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Both sizes came back.
    Through,
    /// Small packets came back, large ones did not.
    LargeLost,
    /// Nothing came back.
    Blocked,
}

/// Reason codes.
pub mod code {
    /// Nothing comes back through the tunnel.
    pub const BLOCKED: &str = "tunnel-blocked";
    /// Packets of the device's size are lost.
    pub const MTU: &str = "tunnel-mtu";
}

impl Outcome {
    /// For programs; `None` if all is well.
    pub fn code(self) -> Option<&'static str> {
        match self {
            Self::Through => None,
            Self::LargeLost => Some(code::MTU),
            Self::Blocked => Some(code::BLOCKED),
        }
    }

    /// What it means and what is to be done; `None` if all is well.
    pub fn advice(self, target: &Target) -> Option<String> {
        let Target {
            node,
            device,
            outer,
            mtu,
            destination,
            ..
        } = target;
        let (what, opening) = match target.encapsulation {
            Encapsulation::Ipip => ("IP in IP", "IP protocol 4".to_owned()),
            _ => ("VXLAN", "the UDP port of VXLAN (4789 unless set)".to_owned()),
        };
        match self {
            Self::Through => None,
            Self::Blocked => Some(format!(
                "no answer from {destination} of node {node} through {device}: {what} to {outer} is dropped on the way, or that \
                 host does not answer echo requests; let {opening} pass between the nodes, or use another mode of the pool"
            )),
            Self::LargeLost => Some(format!(
                "packets of {mtu} bytes to node {node} through {device} are lost, small ones are not: the network to {outer} takes \
                 less than {} says; set a smaller {} (and restart containers), or enlarge the network's",
                "the host's interface",
                match target.encapsulation {
                    Encapsulation::Ipip => "ipipMTU (FELIX_IPINIPMTU)",
                    _ => "vxlanMTU (FELIX_VXLANMTU)",
                }
            )),
        }
    }
}

/// The running thread; it ends with this.
#[derive(Debug)]
pub struct Prober {
    orders: Option<mpsc::Sender<Vec<Target>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Prober {
    /// Starts it. Results are handed to `report` on it.
    pub fn start(report: impl Fn(Target, Outcome) + Send + 'static) -> std::io::Result<Self> {
        let (orders, inbox) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("probe".into())
            .spawn(move || live(&inbox, &report))?;
        Ok(Self {
            orders: Some(orders),
            thread: Some(thread),
        })
    }

    /// These are asked now; what was asked of their nodes before is forgotten.
    pub fn send(&self, targets: Vec<Target>) {
        if let Some(inbox) = &self.orders {
            let _ = inbox.send(targets);
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A node, and by which device.
type Key = (String, Arc<str>);

fn key(target: &Target) -> Key {
    (target.node.clone(), Arc::clone(&target.device))
}

fn live(inbox: &mpsc::Receiver<Vec<Target>>, report: &impl Fn(Target, Outcome)) {
    let mut again: BTreeMap<Key, (Instant, Target)> = BTreeMap::new();
    loop {
        let next = again.values().map(|(at, _)| *at).min();
        let received = match next {
            None => inbox.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            Some(at) => inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        let mut targets = match received {
            Ok(targets) => targets,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let now = Instant::now();
                let due = again.values().filter(|(at, _)| *at <= now);
                due.map(|(_, target)| target.clone()).collect()
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        };
        while let Ok(more) = inbox.try_recv() {
            targets.extend(more);
        }
        let mut latest: BTreeMap<Key, Target> = BTreeMap::new();
        for target in targets {
            again.remove(&key(&target));
            latest.insert(key(&target), target);
        }
        let mut groups: BTreeMap<(Arc<str>, IpAddr), Vec<Target>> = BTreeMap::new();
        for target in latest.into_values() {
            let group = (Arc::clone(&target.device), target.source);
            groups.entry(group).or_default().push(target);
        }
        for ((device, source), targets) in groups {
            match open(&device, source) {
                // Device or address are not there yet: that says nothing of the way.
                None => {
                    let at = Instant::now() + SOON;
                    again.extend(targets.into_iter().map(|target| (key(&target), (at, target))));
                }
                Some(socket) => {
                    for (target, outcome) in ask(&socket, targets) {
                        if outcome != Outcome::Through {
                            again.insert(key(&target), (Instant::now() + PAUSE, target.clone()));
                        }
                        report(target, outcome);
                    }
                }
            }
        }
    }
}

fn open(device: &str, source: IpAddr) -> Option<EchoSocket> {
    let [.., high, low] = std::process::id().to_be_bytes();
    EchoSocket::open(device, source, u16::from_be_bytes([high, low])).ok()
}

fn ask(socket: &EchoSocket, targets: Vec<Target>) -> Vec<(Target, Outcome)> {
    let small = round(socket, &targets, |_| SMALL, &(0..targets.len()).collect());
    let large = round(socket, &targets, |target| target.mtu as usize, &small);
    let outcome = |place: usize| match (small.contains(&place), large.contains(&place)) {
        (true, true) => Outcome::Through,
        (true, false) => Outcome::LargeLost,
        (false, _) => Outcome::Blocked,
    };
    let targets = targets.into_iter().enumerate();
    targets.map(|(place, target)| (target, outcome(place))).collect()
}

/// Who answers packets of a size.
fn round(
    socket: &EchoSocket,
    targets: &[Target],
    size: impl Fn(&Target) -> usize,
    asked: &BTreeSet<usize>,
) -> BTreeSet<usize> {
    let mut answered = BTreeSet::new();
    for _ in 0..ATTEMPTS {
        let open: Vec<usize> = asked.difference(&answered).copied().collect();
        if open.is_empty() {
            break;
        }
        for &place in &open {
            let Ok(number) = u16::try_from(place) else {
                continue;
            };
            // One that cannot be sent gets no answer either.
            let _ = socket.send(targets[place].destination, number, size(&targets[place]));
            thread::sleep(PACE);
        }
        let until = Instant::now() + PATIENCE;
        while answered.len() < asked.len() {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(Some(reply)) = socket.receive(left) else {
                break;
            };
            let place = usize::from(reply.number);
            let is_it = targets
                .get(place)
                .is_some_and(|target| target.destination == reply.from && reply.size >= size(target));
            if is_it {
                answered.insert(place);
            }
        }
    }
    answered
}
