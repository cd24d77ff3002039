// SPDX-License-Identifier: Apache-2.0
//! Our BGP speaker with its sockets and nothing else, as a program: takes routes from the feeder and selects. What the
//! agent does besides (planning, journal, programming) shows as the difference.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use bgp::session::{ConnectionId, Event, RestartOffer, SessionConfig, Waits};
use bgp::speaker::{NextHopMode, Output, OwnAddresses, PeerConfig, Policies, SpeakerConfig};
use bgp::{Family, FamilySet, PeerId, Speaker};
use routed_agent::session_io::{Driver, PeerSocket, Sessions};

use super::feed::{FEEDER, FEEDER_AS, RECEIVER, RECEIVER_AS};

const PEER: PeerId = PeerId(1);
/// How often the count is looked at.
const LOOK: Duration = Duration::from_millis(100);

struct Table {
    speaker: RefCell<Speaker>,
    sessions: RefCell<Option<Rc<Sessions>>>,
    began: Instant,
}

impl Table {
    fn settle(&self) {
        let orders = {
            let mut speaker = self.speaker.borrow_mut();
            speaker.settle();
            speaker.take_changes();
            speaker.take_outputs()
        };
        let sessions = self.sessions.borrow();
        let Some(sessions) = sessions.as_ref() else { return };
        for order in orders {
            match order {
                Output::Dial(id) => sessions.dial(id),
                Output::CancelDial(id) => sessions.cancel_dial(id),
                Output::Send(id, connection, bytes) => sessions.send(id, connection, bytes),
                Output::Ready(id, connection) => sessions.ready(id, connection),
                Output::Close(id, connection) => sessions.close(id, connection),
                _ => {}
            }
        }
    }
}

impl Driver for Table {
    fn event(&self, peer: PeerId, event: Event<'_>) {
        self.speaker
            .borrow_mut()
            .handle(peer, event, self.began.elapsed());
        self.settle();
    }

    fn local_address(&self, peer: PeerId, connection: ConnectionId, address: IpAddr) {
        self.speaker
            .borrow_mut()
            .set_local_address(peer, connection, address);
    }

    fn take_routes(&self, peer: PeerId, room: usize) -> Option<(ConnectionId, Vec<u8>)> {
        self.speaker.borrow_mut().take_routes(peer, room)
    }

    fn peer_of(&self, address: IpAddr) -> Option<PeerId> {
        (address == IpAddr::from(FEEDER)).then_some(PEER)
    }

    fn problem(&self, text: String) {
        eprintln!("{text}");
    }
}

/// As the agent has an external peer, without policies.
fn peer() -> PeerConfig {
    let families: FamilySet = [Family::Ipv4].into_iter().collect();
    PeerConfig {
        session: SessionConfig {
            local_as: RECEIVER_AS,
            peer_as: FEEDER_AS,
            identifier: RECEIVER,
            hold_time: Duration::from_secs(90),
            keepalive_time: None,
            families,
            passive: false,
            graceful_restart: Some(RestartOffer {
                time: Duration::from_secs(120),
                forwarding: families,
                restarted: false,
                notification: true,
            }),
            add_path_receive: families,
            add_path_send: FamilySet::EMPTY,
            extended_message: true,
            ipv4_over_ipv6: false,
            waits: Waits::default(),
        },
        address: FEEDER.into(),
        import: Policies::default(),
        export: Policies::default(),
        client: false,
        next_hop: NextHopMode::Auto,
        own_addresses: OwnAddresses {
            ipv4: Some(RECEIVER),
            ipv6: None,
        },
        own_as_allowed: 0,
        prefix_limit: Some(2_000_000),
        limit_pause: Duration::from_secs(300),
        stale_limit: Duration::from_secs(360),
    }
}

/// Runs until it is killed. Says on standard output how many prefixes it has whenever that has changed.
pub fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, live())
}

async fn live() -> Result<()> {
    let mut speaker = Speaker::new(SpeakerConfig {
        identifier: RECEIVER,
        cluster_id: None,
        multipath: 16,
        policy_required: false,
        deferral: None,
    });
    speaker.set_peer(PEER, peer(), 1, Duration::ZERO);
    speaker.begin(Duration::ZERO);
    let table = Rc::new(Table {
        speaker: RefCell::new(speaker),
        sessions: RefCell::new(None),
        began: Instant::now(),
    });
    let sessions = Sessions::new(Rc::clone(&table) as Rc<dyn Driver>);
    let socket = PeerSocket {
        remote: Some(SocketAddr::from((FEEDER, 179))),
        ..PeerSocket::default()
    };
    sessions.set_peer(PEER, &socket);
    *table.sessions.borrow_mut() = Some(sessions);
    table.settle();
    let mut said = None;
    loop {
        {
            let mut speaker = table.speaker.borrow_mut();
            let now = table.began.elapsed();
            if speaker.deadline().is_some_and(|deadline| deadline <= now) {
                speaker.pass(now);
            }
        }
        table.settle();
        let count = table.speaker.borrow().prefixes(Family::Ipv4);
        if said != Some(count) {
            println!("{count}");
            said = Some(count);
        }
        tokio::time::sleep(LOOK).await;
    }
}
