// SPDX-License-Identifier: Apache-2.0
//! Two sessions in a simulated network with a clock of its own: delays, reordered events, silent cuts, half-open
//! connections. Each scenario has a seed, which a failure names.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::*;
use crate::{
    family::{Family, FamilySet},
    message::{
        Capability, EncodedAttributes, NextHop, Open, announce, end_of_rib, notification::open as open_error,
    },
};

const SECOND: Duration = Duration::from_secs(1);

fn config(side: usize) -> SessionConfig {
    SessionConfig {
        local_as: 64_512,
        peer_as: 64_512,
        identifier: Ipv4Addr::new(10, 0, 0, u8::try_from(side).unwrap() + 1),
        hold_time: 90 * SECOND,
        keepalive_time: None,
        families: Family::ALL.into_iter().collect(),
        passive: false,
        graceful_restart: Some(RestartOffer {
            time: 120 * SECOND,
            forwarding: Family::ALL.into_iter().collect(),
            restarted: false,
            notification: false,
        }),
        add_path_receive: FamilySet::EMPTY,
        add_path_send: FamilySet::EMPTY,
        extended_message: true,
        ipv4_over_ipv6: false,
        waits: Waits::default(),
    }
}

/// Something under way to a side.
#[derive(Debug)]
enum Delivery {
    Dialled(ConnectionId),
    DialFailed,
    Accepted(ConnectionId),
    Bytes(ConnectionId, Vec<u8>),
    Closed(ConnectionId),
}

/// One end of a connection.
#[derive(Clone, Copy, Debug)]
struct End {
    mate: ConnectionId,
    /// Nothing arrives at the mate before.
    not_before: Time,
    closed: bool,
}

struct World {
    now: Time,
    sides: [Session; 2],
    seed: u64,
    random: u64,
    next: u64,
    under_way: BTreeMap<(Time, u64), (usize, Delivery)>,
    ends: BTreeMap<ConnectionId, (usize, End)>,
    /// Longest delay, in microseconds.
    delay: u64,
    /// Nothing arrives, and nothing is said about it.
    cut: bool,
    /// Dialling is refused.
    refuse: bool,
    /// What each side has said, besides bytes.
    said: [Vec<(Time, Action)>; 2],
    dials: [usize; 2],
}

impl World {
    fn new(configs: [SessionConfig; 2], seed: u64) -> Self {
        let [first, second] = configs;
        Self {
            now: Time::ZERO,
            sides: [Session::new(first, seed), Session::new(second, seed ^ 0x5555)],
            seed,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            next: 0,
            under_way: BTreeMap::new(),
            ends: BTreeMap::new(),
            delay: 2_000,
            cut: false,
            refuse: false,
            said: [Vec::new(), Vec::new()],
            dials: [0; 2],
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % bound
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn later(&mut self) -> Time {
        self.now + Duration::from_micros(self.below(self.delay) + 1)
    }

    fn send(&mut self, time: Time, side: usize, delivery: Delivery) {
        let number = self.number();
        self.under_way.insert((time, number), (side, delivery));
    }

    fn event(&mut self, side: usize, event: Event<'_>) {
        let mut actions = Vec::new();
        self.sides[side].handle(event, self.now, &mut actions);
        for action in actions {
            self.act(side, action);
        }
        let established = |connection: &&Connection| connection.state == State::Established;
        let count = self.sides[side].connections.iter().filter(established).count();
        assert!(count <= 1, "seed {}: two sessions at once", self.seed);
        assert!(
            self.sides[side].connections.len() <= 2,
            "seed {}: connections pile up",
            self.seed
        );
    }

    fn act(&mut self, side: usize, action: Action) {
        match action {
            Action::Dial => self.dial(side),
            Action::CancelDial => {}
            Action::Send(id, bytes) => self.transmit(id, &bytes),
            Action::Close(id) => self.close(id),
            other => self.said[side].push((self.now, other)),
        }
    }

    fn dial(&mut self, side: usize) {
        self.dials[side] += 1;
        let time = self.later();
        if self.cut {
            return;
        }
        if self.refuse {
            self.send(time, side, Delivery::DialFailed);
            return;
        }
        let (own, mate) = (ConnectionId(self.number()), ConnectionId(self.number()));
        // The kernels are done at about the same time; each program hears of it when it gets to it.
        let accepted = time + Duration::from_micros(self.below(500));
        let end = |mate, not_before| End {
            mate,
            not_before,
            closed: false,
        };
        // Each side's end carries when the other side's can be reached.
        self.ends.insert(own, (side, end(mate, accepted)));
        self.ends.insert(mate, (1 - side, end(own, time)));
        self.send(time, side, Delivery::Dialled(own));
        self.send(accepted, 1 - side, Delivery::Accepted(mate));
    }

    fn arrival(&mut self, id: ConnectionId) -> Option<(Time, usize, ConnectionId)> {
        let later = self.later();
        let (side, end) = self.ends.get_mut(&id)?;
        let time = later.max(end.not_before + Duration::from_nanos(1));
        end.not_before = time;
        Some((time, 1 - *side, end.mate))
    }

    fn transmit(&mut self, id: ConnectionId, bytes: &[u8]) {
        if self.cut || self.ends.get(&id).is_none_or(|(_, end)| end.closed) {
            return;
        }
        // In pieces, as TCP may.
        let at = usize::try_from(self.below(bytes.len() as u64)).unwrap();
        for piece in [&bytes[..at], &bytes[at..]] {
            if let Some((time, side, mate)) = self.arrival(id) {
                self.send(time, side, Delivery::Bytes(mate, piece.to_vec()));
            }
        }
    }

    fn close(&mut self, id: ConnectionId) {
        if let Some((_, end)) = self.ends.get_mut(&id) {
            end.closed = true;
        }
        if !self.cut
            && let Some((time, side, mate)) = self.arrival(id)
        {
            self.send(time, side, Delivery::Closed(mate));
        }
    }

    /// A side's process dies and comes back: its connections end, or, with `silently`, nobody hears of it.
    fn restart(&mut self, side: usize, silently: bool) {
        let own: Vec<ConnectionId> = (self.ends.iter())
            .filter(|(_, (of, end))| *of == side && !end.closed)
            .map(|(id, _)| *id)
            .collect();
        for id in own {
            if silently {
                self.ends.get_mut(&id).unwrap().1.closed = true;
            } else {
                self.close(id);
            }
        }
        self.under_way.retain(|_, (to, _)| *to != side);
        let seed = self.number() ^ self.seed;
        self.sides[side] = Session::new(self.sides[side].config.clone(), seed);
        self.event(side, Event::Start);
    }

    /// Goes to the next thing that happens; `false` if nothing does before `end`.
    fn step(&mut self, end: Time) -> bool {
        let deadline = |side: usize| self.sides[side].deadline().map(|time| (time, side));
        let timer = [deadline(0), deadline(1)].into_iter().flatten().min();
        let delivery = self.under_way.first_key_value().map(|((time, _), _)| *time);
        match (timer, delivery) {
            (Some((time, side)), other) if other.is_none_or(|other| time < other) && time <= end => {
                self.now = self.now.max(time);
                self.event(side, Event::Time);
            }
            (_, Some(time)) if time <= end => {
                let (_, (side, delivery)) = self.under_way.pop_first().unwrap();
                self.now = time;
                self.deliver(side, delivery);
            }
            _ => {
                self.now = end;
                return false;
            }
        }
        true
    }

    fn deliver(&mut self, side: usize, delivery: Delivery) {
        if self.cut {
            return;
        }
        match delivery {
            Delivery::Dialled(id) => self.event(side, Event::Dialled(id)),
            Delivery::DialFailed => self.event(side, Event::DialFailed),
            Delivery::Accepted(id) => self.event(side, Event::Accepted(id)),
            // What a program that knows nothing of it would answer: a reset.
            Delivery::Bytes(id, bytes) if self.is_known(side, id) => {
                self.event(side, Event::Received(id, &bytes));
            }
            Delivery::Bytes(id, _) => self.close(id),
            Delivery::Closed(id) => self.event(side, Event::Closed(id)),
        }
    }

    fn is_known(&self, side: usize, id: ConnectionId) -> bool {
        self.sides[side]
            .connections
            .iter()
            .any(|connection| connection.id == id)
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
    }

    fn start(&mut self) {
        let first = usize::try_from(self.below(2)).unwrap();
        self.event(first, Event::Start);
        let pause = Duration::from_micros(self.below(3_000));
        self.run(pause);
        self.event(1 - first, Event::Start);
    }

    fn both_up(&self) -> bool {
        self.sides
            .iter()
            .all(|session| session.state() == SessionState::Established)
    }

    /// Both are up, over the two ends of one connection and no other.
    fn assert_joined(&self, when: &str) {
        let seed = self.seed;
        assert!(
            self.both_up(),
            "seed {seed}, {when}: {:?}",
            self.sides.each_ref().map(Session::state)
        );
        let [first, second] = self.sides.each_ref().map(|session| {
            assert_eq!(session.connections.len(), 1, "seed {seed}, {when}");
            session.connections[0].id
        });
        assert_eq!(
            self.ends[&first].1.mate, second,
            "seed {seed}, {when}: two halves of different connections"
        );
    }

    fn downs(&self, side: usize) -> Vec<Down> {
        let down = |(_, action): &(Time, Action)| match action {
            Action::Down(down) => Some(down.clone()),
            _ => None,
        };
        self.said[side].iter().filter_map(down).collect()
    }

    fn failures(&self, side: usize) -> Vec<Reason> {
        let failed = |(_, action): &(Time, Action)| match action {
            Action::Failed(reason) => Some(reason.clone()),
            _ => None,
        };
        self.said[side].iter().filter_map(failed).collect()
    }
}

fn pair(seed: u64) -> World {
    World::new([config(0), config(1)], seed)
}

#[test]
fn both_dial_and_one_connection_is_left() {
    for seed in 1..1500 {
        let mut world = pair(seed);
        world.delay = [1, 200, 2_000, 400_000][usize::try_from(seed % 4).unwrap()];
        world.start();
        world.run(20 * SECOND);
        world.assert_joined("after 20 s");
        let dials = world.dials;
        world.run(600 * SECOND);
        world.assert_joined("ten minutes later");
        assert_eq!(world.dials, dials, "seed {seed}: it is not at rest");
        assert_eq!(
            (world.downs(0), world.downs(1)),
            (Vec::new(), Vec::new()),
            "seed {seed}"
        );
    }
}

#[test]
fn two_that_dial_at_once_are_up_within_a_second() {
    for seed in 1..500 {
        let mut world = pair(seed);
        world.start();
        world.run(SECOND);
        world.assert_joined("after 1 s");
    }
}

#[test]
fn of_two_connections_the_higher_identifiers_is_kept() {
    let mut decided = [0, 0];
    for seed in 1..300 {
        let mut world = pair(seed);
        // Slow enough that both dial before either hears of the other.
        world.delay = 100_000;
        world.start();
        world.run(5 * SECOND);
        world.assert_joined("after 5 s");
        let gave_up = |(_, action): &(Time, Action)| *action == Action::Failed(Reason::Collision);
        let collided = world.said.iter().flatten().any(gave_up);
        decided[usize::from(world.sides[1].connections[0].outgoing)] += u32::from(collided);
    }
    // Where the session was up before the other connection was heard of, that one went.
    let [by_lower, by_higher] = decided;
    assert!(by_higher > 10 * by_lower && by_higher > 100, "{decided:?}");
}

#[test]
fn equal_identifiers_of_two_as_numbers_are_decided_by_those() {
    for seed in 1..200 {
        let mut configs = [config(0), config(0)];
        (configs[0].local_as, configs[0].peer_as) = (64_512, 64_513);
        (configs[1].local_as, configs[1].peer_as) = (64_513, 64_512);
        let mut world = World::new(configs, seed);
        world.delay = 100_000;
        world.start();
        world.run(10 * SECOND);
        world.assert_joined("after 10 s");
    }
}

#[test]
fn a_passive_side_waits_and_is_found() {
    for seed in 1..100 {
        let mut configs = [config(0), config(1)];
        configs[0].passive = true;
        let mut world = World::new(configs, seed);
        world.start();
        world.run(5 * SECOND);
        world.assert_joined("after 5 s");
        assert_eq!(world.dials[0], 0);
        world.restart(1, false);
        world.run(10 * SECOND);
        world.assert_joined("after a restart");
        assert_eq!(world.dials[0], 0);
    }
}

#[test]
fn a_peer_that_falls_silent_is_given_up_and_found_again() {
    let mut world = pair(7);
    world.start();
    world.run(10 * SECOND);
    world.cut = true;
    let cut_at = world.now;
    world.run(300 * SECOND);
    for side in 0..2 {
        let downs = world.downs(side);
        let expected = Notification::new(code::HOLD_TIMER, 0);
        assert_eq!(downs.len(), 1);
        assert_eq!(downs[0].reason, Reason::Sent(expected));
        assert!(!downs[0].graceful, "without the N bit");
        let is_down = |(_, action): &&(Time, Action)| matches!(action, Action::Down(_));
        let at = world.said[side].iter().find(is_down).unwrap().0;
        let silence = at.saturating_sub(cut_at);
        assert!(silence > 55 * SECOND && silence <= 90 * SECOND, "{silence:?}");
        // Dialling goes on, every few seconds and not more often.
        let dials = world.dials[side];
        assert!((20..150).contains(&dials), "{dials} dials in 200 s");
    }
    world.cut = false;
    world.run(20 * SECOND);
    world.assert_joined("after the cut");
}

#[test]
fn keepalives_are_sent_in_time() {
    for (hold, keepalive) in [(90, None), (9, None), (3, None), (90, Some(5)), (0, None)] {
        let mut configs = [config(0), config(1)];
        configs[1].hold_time = hold * SECOND;
        configs[1].keepalive_time = keepalive.map(|time: u32| time * SECOND);
        let mut world = World::new(configs, 11);
        world.start();
        world.run(1000 * SECOND);
        world.assert_joined("at the end");
        assert_eq!(world.downs(0), [], "hold time {hold}");
    }
}

#[test]
fn a_stop_is_final_until_a_start_and_says_why() {
    let mut world = pair(3);
    world.start();
    world.run(5 * SECOND);
    let notification = Notification::shutdown(cease::SHUTDOWN, "maintenance");
    world.event(0, Event::Stop(Some(notification.clone())));
    world.run(60 * SECOND);
    assert_eq!(world.sides[0].state(), SessionState::Idle);
    let down = |reason, graceful| Down { reason, graceful };
    assert_eq!(world.downs(0), [down(Reason::Sent(notification.clone()), false)]);
    assert_eq!(world.downs(1), [down(Reason::Received(notification), false)]);
    // Who dials meanwhile is told that it is not wanted.
    let rejected = Notification::new(code::CEASE, cease::REJECTED);
    assert!(
        world.failures(1).contains(&Reason::Received(rejected)),
        "{:?}",
        world.failures(1)
    );
    world.event(0, Event::Start);
    world.run(20 * SECOND);
    world.assert_joined("after the start");
    // Without a word it counts as a restart.
    world.event(0, Event::Stop(None));
    world.run(SECOND);
    assert_eq!(world.downs(1).last().unwrap(), &down(Reason::Closed, true));
}

#[test]
fn a_restart_is_told_from_an_end() {
    // (own offer of the N bit, the peer's, how it ends, graceful)
    let hard = Notification::new(code::CEASE, cease::HARD_RESET);
    let reset = Notification::new(code::CEASE, cease::RESET);
    for (own, peer, ending, graceful) in [
        (false, false, Some(reset.clone()), false),
        (true, false, Some(reset.clone()), false),
        (false, true, Some(reset.clone()), false),
        (true, true, Some(reset), true),
        (true, true, Some(hard), false),
        (false, false, None, true),
    ] {
        let mut configs = [config(0), config(1)];
        configs[0].graceful_restart.as_mut().unwrap().notification = own;
        configs[1].graceful_restart.as_mut().unwrap().notification = peer;
        let mut world = World::new(configs, 5);
        world.start();
        world.run(5 * SECOND);
        world.event(1, Event::Stop(ending.clone()));
        world.run(SECOND);
        assert_eq!(world.downs(0)[0].graceful, graceful, "{own} {peer} {ending:?}");
    }
    // A peer that offers none never restarts gracefully.
    let mut configs = [config(0), config(1)];
    configs[1].graceful_restart = None;
    let mut world = World::new(configs, 5);
    world.start();
    world.run(5 * SECOND);
    world.restart(1, false);
    world.run(5 * SECOND);
    assert!(!world.downs(0)[0].graceful);
    world.assert_joined("after the restart");
}

#[test]
fn a_peer_that_lost_its_power_takes_its_place_again() {
    for seed in 1..300 {
        let mut world = pair(seed);
        world.start();
        world.run(10 * SECOND);
        world.restart(1, true);
        world.run(10 * SECOND);
        world.assert_joined("after the power loss");
        let downs = world.downs(0);
        assert_eq!(downs.len(), 1, "seed {seed}");
        assert!(downs[0].graceful, "seed {seed}: {downs:?}");
    }
}

#[test]
fn a_peer_that_is_somebody_else_never_comes_up() {
    let mut configs = [config(0), config(1)];
    configs[0].peer_as = 65_000;
    let mut world = World::new(configs, 9);
    world.start();
    world.run(120 * SECOND);
    assert!(!world.both_up());
    let expected = Notification::new(code::OPEN, open_error::PEER_AS);
    assert!(world.failures(0).contains(&Reason::Sent(expected.clone())));
    assert!(world.failures(1).contains(&Reason::Received(expected)));
    assert!(
        world.dials.iter().all(|dials| *dials < 100),
        "{:?} dials in two minutes",
        world.dials
    );
    // Two with one identifier in one AS, two without a family in common.
    for change in [
        (|config: &mut SessionConfig| config.identifier = Ipv4Addr::new(10, 0, 0, 2))
            as fn(&mut SessionConfig),
        |config| config.families = FamilySet::EMPTY,
    ] {
        let mut configs = [config(0), config(1)];
        change(&mut configs[0]);
        let mut world = World::new(configs, 9);
        world.start();
        world.run(60 * SECOND);
        assert!(!world.both_up());
    }
}

#[test]
fn dialling_pauses_longer_and_longer_but_never_long() {
    let mut world = pair(1);
    world.refuse = true;
    world.start();
    world.run(3 * SECOND);
    assert!(world.dials[0] >= 2, "the first tries come soon");
    world.run(600 * SECOND);
    let dials = world.dials[0];
    assert!((70..140).contains(&dials), "{dials} dials in 600 s");
    world.refuse = false;
    world.run(9 * SECOND);
    world.assert_joined("at last");
}

/// A session that has dialled, and its connection.
fn dialled() -> (Session, ConnectionId, Vec<Action>) {
    let (mut session, mut actions) = (Session::new(config(0), 1), Vec::new());
    let id = ConnectionId(1);
    session.handle(Event::Start, Time::ZERO, &mut actions);
    session.handle(Event::Dialled(id), Time::ZERO, &mut actions);
    actions.clear();
    (session, id, actions)
}

fn peers_open() -> Open {
    negotiation::offer(&config(1))
}

#[test]
fn a_message_out_of_its_place_ends_the_connection() {
    let update = end_of_rib(Family::Ipv4);
    let open = peers_open().to_bytes();
    let refused = |messages: &[&[u8]]| {
        let (mut session, id, mut actions) = dialled();
        for message in messages {
            session.handle(Event::Received(id, message), SECOND, &mut actions);
        }
        let sent = actions.iter().rev().find_map(|action| match action {
            Action::Failed(Reason::Sent(notification))
            | Action::Down(Down {
                reason: Reason::Sent(notification),
                ..
            }) => Some(notification.clone()),
            _ => None,
        });
        assert!(actions.contains(&Action::Close(id)), "{actions:?}");
        sent.expect("a NOTIFICATION")
    };
    let keepalive = keepalive();
    for (messages, code, subcode) in [
        (&[&keepalive[..]][..], 5, 1),
        (&[&update], 5, 1),
        (&[&open, &update], 5, 2),
        (&[&open, &open], 5, 2),
        (&[&open, &keepalive, &open], 5, 3),
        (&[b"GET / HTTP/1.1\r\n"], 1, 1),
    ] {
        let notification = refused(messages);
        assert_eq!(
            (notification.code, notification.subcode),
            (code, subcode),
            "{messages:?}"
        );
    }
}

#[test]
fn what_comes_at_once_or_byte_by_byte_is_the_same() {
    let attributes = EncodedAttributes::new(
        &crate::Attributes::default(),
        negotiation::agree(&config(0), &peers_open()).unwrap().encoding,
    );
    let next_hop = NextHop::from(std::net::IpAddr::from([10, 0, 0, 2]));
    let prefix = crate::Nlri::from("10.1.0.0/26".parse::<ipnet::IpNet>().unwrap());
    let encoding = negotiation::agree(&config(0), &peers_open()).unwrap().encoding;
    let mut stream = peers_open().to_bytes();
    stream.extend(keepalive());
    stream.extend(
        announce(&attributes, next_hop, &[prefix], encoding)
            .unwrap()
            .concat(),
    );
    stream.extend(end_of_rib(Family::Ipv4));
    let run = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut session, id, mut actions) = dialled();
        for piece in pieces {
            session.handle(Event::Received(id, piece), SECOND, &mut actions);
        }
        assert_eq!(session.state(), SessionState::Established);
        actions
    };
    let at_once = run(&mut std::iter::once(&stream[..]));
    let updates = at_once
        .iter()
        .filter(|action| matches!(action, Action::Update(_)))
        .count();
    assert_eq!(updates, 2);
    assert_eq!(run(&mut stream.chunks(1)), at_once);
}

#[test]
fn what_both_know_is_agreed_on_and_nothing_else() {
    let mut ours = config(0);
    ours.add_path_receive = Family::ALL.into_iter().collect();
    ours.ipv4_over_ipv6 = true;
    let mut theirs = config(1);
    theirs.families = [Family::Ipv6].into_iter().collect();
    theirs.add_path_send = theirs.families;
    theirs.hold_time = 30 * SECOND;
    theirs.extended_message = false;
    let agreed = negotiation::agree(&ours, &negotiation::offer(&theirs)).unwrap();
    assert_eq!(
        (agreed.hold_time, agreed.keepalive_time),
        (30 * SECOND, 10 * SECOND)
    );
    let encoding = agreed.encoding;
    assert_eq!(
        (encoding.families, encoding.add_path_receive),
        (theirs.families, theirs.families)
    );
    assert!(
        encoding.four_octet_as && encoding.internal && agreed.route_refresh && agreed.enhanced_route_refresh
    );
    assert!(!encoding.extended_message && !encoding.ipv4_over_ipv6 && encoding.add_path_send.is_empty());
    // Several paths go one way only: from the side that sends them to the side that asks.
    let other_way = negotiation::agree(&theirs, &negotiation::offer(&ours)).unwrap();
    assert_eq!(other_way.encoding.add_path_send, theirs.families);
    assert!(other_way.encoding.add_path_receive.is_empty());
    // An old speaker: no capability at all.
    let old = Open {
        capabilities: Vec::new(),
        ..negotiation::offer(&theirs)
    };
    let agreed = negotiation::agree(&ours, &old).unwrap();
    assert_eq!(agreed.encoding.families, [Family::Ipv4].into_iter().collect());
    assert!(!agreed.encoding.four_octet_as && !agreed.route_refresh && agreed.peer_restart.is_none());
    // What is needed and missing is named (RFC 5492 5).
    let other = Open {
        capabilities: vec![Capability::Multiprotocol(crate::FamilyCode { afi: 25, safi: 70 })],
        ..old
    };
    let error = negotiation::agree(&ours, &other).unwrap_err();
    assert_eq!((error.code, error.subcode), (2, 7));
    assert_eq!(error.data, [1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1]);
}

/// Anything may happen; when it stops, both find each other.
#[test]
fn whatever_happens_they_find_each_other_again() {
    for seed in 1..2500 {
        let mut world = pair(seed);
        world.delay = [50, 2_000, 300_000, 3_000_000][usize::try_from(seed % 4).unwrap()];
        world.start();
        for _ in 0..12 {
            let pause = Duration::from_millis(world.below(40_000));
            world.run(pause);
            let side = usize::try_from(world.below(2)).unwrap();
            match world.below(9) {
                0 | 1 => world.restart(side, false),
                2 => world.restart(side, true),
                3 => world.cut = !world.cut,
                4 => world.refuse = !world.refuse,
                5 => {
                    world.event(side, Event::Stop(None));
                    let pause = Duration::from_millis(world.below(10_000));
                    world.run(pause);
                    world.event(side, Event::Start);
                }
                6 => {
                    let open = world.sides[side]
                        .connections
                        .first()
                        .map(|connection| connection.id);
                    if let Some(id) = open {
                        world.event(side, Event::Received(id, b"\xff\xff\x00"));
                    }
                }
                7 => {
                    let open = world.sides[side]
                        .connections
                        .first()
                        .map(|connection| connection.id);
                    if let Some(id) = open {
                        world.close(id);
                        world.event(side, Event::Closed(id));
                    }
                }
                _ => {}
            }
        }
        (world.cut, world.refuse) = (false, false);
        // A side that believes in a session the other has lost needs its hold time to find out.
        world.run(150 * SECOND);
        world.assert_joined("when all is quiet again");
    }
}
