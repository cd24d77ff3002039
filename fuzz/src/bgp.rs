// SPDX-License-Identifier: Apache-2.0
//! What a BGP peer sends: single messages in every form that may be agreed on, and whole sessions.

use std::time::Duration;

use bgp::{
    Attributes, Family, FamilySet, Nlri,
    message::{EncodedAttributes, Encoding, Message, NextHop, announce, frame, withdraw},
    session::{Action, ConnectionId, Event, RestartOffer, Session, SessionConfig, Waits},
};

fn both() -> FamilySet {
    Family::ALL.into_iter().collect()
}

/// The first byte chooses the form, the rest is a stream of messages. What is read can be written and read again.
pub fn bgp_message(data: &[u8]) {
    let Some((form, stream)) = data.split_first() else {
        return;
    };
    let bit = |number: u8| form >> number & 1 == 1;
    let add_path = if bit(3) { both() } else { FamilySet::EMPTY };
    let encoding = Encoding {
        families: both(),
        internal: bit(0),
        four_octet_as: bit(1),
        extended_message: bit(2),
        add_path_receive: add_path,
        add_path_send: add_path,
        ipv4_over_ipv6: bit(4),
    };
    let mut at = 0;
    while let Ok(Some(found)) = frame(&stream[at..], encoding.extended_message) {
        assert!(found.length > 0, "a message of no length would be read for ever");
        at += found.length;
        if let Ok(Message::Update(update)) = Message::read(&found, encoding) {
            for announcement in &update.announced {
                write_again(
                    &update.attributes,
                    announcement.next_hop,
                    &announcement.nlri,
                    encoding,
                );
            }
            for message in withdraw(&of_family(&update.withdrawn, Family::Ipv4), encoding) {
                assert!(
                    read(&message, encoding).is_some(),
                    "an own withdrawal is not read"
                );
            }
        }
    }
}

fn of_family(nlri: &[Nlri], family: Family) -> Vec<Nlri> {
    nlri.iter()
        .filter(|nlri| Family::of(&nlri.prefix) == family)
        .copied()
        .collect()
}

fn read(message: &[u8], encoding: Encoding) -> Option<bgp::message::Update> {
    let found = frame(message, encoding.extended_message).ok()??;
    assert_eq!(found.length, message.len(), "an own message is read whole");
    match Message::read(&found, encoding) {
        Ok(Message::Update(update)) => Some(update),
        _ => None,
    }
}

/// What was understood is written so that it is understood the same.
fn write_again(attributes: &Attributes, next_hop: NextHop, nlri: &[Nlri], encoding: Encoding) {
    let encoded = EncodedAttributes::new(attributes, encoding);
    // Attributes that fill a message by themselves are not announced.
    let Ok(messages) = announce(&encoded, next_hop, nlri, encoding) else {
        return;
    };
    let mut again = Vec::new();
    for message in messages {
        let update = read(&message, encoding).expect("an own message is read");
        assert_eq!(update.defects, [], "an own message has a defect");
        assert_eq!(update.attributes.communities, attributes.communities);
        assert_eq!(update.attributes.large_communities, attributes.large_communities);
        assert_eq!(update.attributes.as_path.length(), attributes.as_path.length());
        again.extend(
            update
                .announced
                .into_iter()
                .flat_map(|announcement| announcement.nlri),
        );
    }
    assert_eq!(again, nlri, "the same prefixes");
}

/// A session that is fed with anything, in any order: byte pairs choose what happens, long stretches are what the peer
/// sends.
pub fn bgp_session(data: &[u8]) {
    let config = SessionConfig {
        local_as: 64_512,
        peer_as: 64_512,
        identifier: [10, 0, 0, 1].into(),
        hold_time: Duration::from_secs(90),
        keepalive_time: None,
        families: both(),
        passive: false,
        graceful_restart: Some(RestartOffer {
            time: Duration::from_secs(120),
            forwarding: both(),
            restarted: false,
            notification: true,
        }),
        add_path_receive: both(),
        add_path_send: FamilySet::EMPTY,
        extended_message: true,
        ipv4_over_ipv6: true,
        waits: Waits::default(),
    };
    let mut session = Session::new(config, 1);
    let mut now = Duration::ZERO;
    let (mut open, mut next, mut is_up) = (Vec::new(), 0, false);
    let mut rest = data;
    while let Some((what, after)) = rest.split_first() {
        rest = after;
        let mut actions = Vec::new();
        match what % 8 {
            0 => session.handle(Event::Start, now, &mut actions),
            1 | 2 => {
                next += 1;
                open.push(ConnectionId(next));
                let event = if what % 8 == 1 {
                    Event::Accepted(ConnectionId(next))
                } else {
                    Event::Dialled(ConnectionId(next))
                };
                session.handle(event, now, &mut actions);
            }
            3 => session.handle(Event::DialFailed, now, &mut actions),
            4 => {
                if let Some(id) = open.pop() {
                    session.handle(Event::Closed(id), now, &mut actions);
                }
            }
            5 => {
                now += Duration::from_secs(u64::from(*what));
                session.handle(Event::Time, now, &mut actions);
                let due = session.deadline();
                assert!(
                    due.is_none_or(|due| due > now),
                    "what is due is done: {due:?} at {now:?}"
                );
            }
            6 => {
                let length = usize::from(*what).min(rest.len());
                let (bytes, after) = rest.split_at(length);
                rest = after;
                if let Some(id) = open.last() {
                    session.handle(Event::Received(*id, bytes), now, &mut actions);
                }
            }
            _ => session.handle(Event::Stop(None), now, &mut actions),
        }
        for action in actions {
            match action {
                Action::Send(id, bytes) => {
                    assert!(open.contains(&id) && !bytes.is_empty(), "sent on nothing");
                }
                Action::Close(id) => open.retain(|known| *known != id),
                Action::Up(..) => assert!(!std::mem::replace(&mut is_up, true), "up twice"),
                Action::Down(_) => assert!(std::mem::take(&mut is_up), "down twice"),
                Action::Update(_) | Action::RouteRefresh(_) => {
                    assert!(is_up, "routes of a session that is not up");
                }
                Action::Dial | Action::CancelDial | Action::Failed(_) => {}
            }
        }
    }
}
