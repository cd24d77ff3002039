// SPDX-License-Identifier: Apache-2.0
//! Several paths of a prefix: identifiers stay, withdrawals are of single paths.

use super::*;
use crate::{
    family::FamilySet,
    message::{Encoding, Message, frame},
    rib::Interner,
};

const LIMIT: usize = 8;

fn encoding() -> Encoding {
    let families: FamilySet = [Family::Ipv4].into_iter().collect();
    Encoding {
        families,
        internal: true,
        four_octet_as: true,
        add_path_send: families,
        // What is sent here is read here.
        add_path_receive: families,
        ..Encoding::default()
    }
}

/// A path of a peer; `by` tells one's paths apart.
fn path(source: u32, number: u32) -> Told {
    let attributes = Attributes::default();
    let next_hop = NextHop::from(std::net::IpAddr::from([10, 0, 0, u8::try_from(source).unwrap()]));
    let route = Outgoing {
        made_from: Interner::default().intern(attributes.clone(), Some(next_hop)),
        encoded: EncodedAttributes::new(&attributes, encoding()),
        attributes,
        next_hop,
    };
    Told {
        route: Rc::new(route),
        source: PeerId(source),
        number,
    }
}

fn prefix() -> IpNet {
    "192.168.1.0/26".parse().unwrap()
}

/// What is announced: source and its number, by identifier.
fn announced(rib: &OutRib) -> Vec<(u32, u32, u32)> {
    let live = rib.entries.iter().filter(|entry| entry.route.is_some());
    let mut all: Vec<_> = live
        .map(|entry| (entry.nlri.path_id.unwrap(), entry.source.0, entry.number))
        .collect();
    all.sort_unstable();
    all
}

/// What a peer reads of what comes next: identifiers announced and withdrawn.
fn read(rib: &mut OutRib, cursor: &mut Cursor, peer: u32) -> (Vec<u32>, Vec<u32>) {
    let mut bytes = Vec::new();
    while rib.has_news(*cursor) {
        rib.next(cursor, PeerId(peer), encoding(), &mut bytes);
    }
    let (mut came, mut went) = (Vec::new(), Vec::new());
    let mut rest = &bytes[..];
    while let Some(found) = frame(rest, false).unwrap() {
        let Message::Update(update) = Message::read(&found, encoding()).unwrap() else {
            panic!("only routes are sent here");
        };
        let id = |nlri: &Nlri| nlri.path_id.unwrap();
        came.extend(update.announced.iter().flat_map(|lot| lot.nlri.iter().map(id)));
        went.extend(update.withdrawn.iter().map(id));
        rest = &rest[found.length..];
    }
    came.sort_unstable();
    went.sort_unstable();
    (came, went)
}

#[test]
fn a_path_keeps_its_identifier_and_goes_alone() {
    let mut rib = OutRib::default();
    let mut cursor = rib.start();
    let (one, two, three) = (path(1, 0), path(2, 0), path(3, 0));
    assert!(rib.set_all(prefix(), vec![one.clone(), two.clone()], LIMIT));
    assert_eq!(announced(&rib), [(1, 1, 0), (2, 2, 0)]);
    assert_eq!(read(&mut rib, &mut cursor, 9), (vec![1, 2], vec![]));
    // Another order is no news.
    assert!(!rib.set_all(prefix(), vec![two.clone(), one], LIMIT));
    // The first goes, the second keeps its identifier.
    assert!(rib.set_all(prefix(), vec![two.clone()], LIMIT));
    assert_eq!(announced(&rib), [(2, 2, 0)]);
    assert_eq!(read(&mut rib, &mut cursor, 9), (vec![], vec![1]));
    // One that comes takes what is free.
    assert!(rib.set_all(prefix(), vec![three.clone(), two.clone()], LIMIT));
    assert_eq!(announced(&rib), [(1, 3, 0), (2, 2, 0)]);
    assert_eq!(read(&mut rib, &mut cursor, 9), (vec![1], vec![]));
    // A path in another's place needs no withdrawal.
    assert!(rib.set_all(prefix(), vec![two, path(4, 0)], LIMIT));
    assert_eq!(announced(&rib), [(1, 4, 0), (2, 2, 0)]);
    assert_eq!(read(&mut rib, &mut cursor, 9), (vec![1], vec![]));
    assert_eq!(rib.announced(), 2);
    assert!(rib.set_all(prefix(), Vec::new(), LIMIT));
    assert_eq!(read(&mut rib, &mut cursor, 9), (vec![], vec![1, 2]));
    assert_eq!(rib.announced(), 0);
}

#[test]
fn two_paths_of_one_peer_are_two_and_the_peer_hears_of_neither() {
    let mut rib = OutRib::default();
    let (mut other, mut itself) = (rib.start(), rib.start());
    rib.set_all(prefix(), vec![path(1, 7), path(1, 8), path(2, 7)], LIMIT);
    assert_eq!(announced(&rib), [(1, 1, 7), (2, 1, 8), (3, 2, 7)]);
    assert_eq!(read(&mut rib, &mut other, 9), (vec![1, 2, 3], vec![]));
    assert_eq!(read(&mut rib, &mut itself, 1), (vec![3], vec![]));
    // Identifier 3 was another's before it is the peer's own: it is taken back from the peer alone.
    rib.set_all(prefix(), vec![path(1, 7), path(1, 8), path(1, 9)], LIMIT);
    assert_eq!(read(&mut rib, &mut itself, 1).1, [3]);
}

#[test]
fn there_are_no_more_than_the_limit() {
    let mut rib = OutRib::default();
    let all: Vec<Told> = (1..=20).map(|source| path(source, 0)).collect();
    rib.set_all(prefix(), all.clone(), LIMIT);
    assert_eq!(announced(&rib).len(), LIMIT);
    rib.set_all(prefix(), all[12..].to_vec(), LIMIT);
    let sources: Vec<u32> = announced(&rib).iter().map(|(_, source, _)| *source).collect();
    assert_eq!(sources, [13, 14, 15, 16, 17, 18, 19, 20]);
    // To who is told one path, the best takes the place of the best before.
    let mut rib = OutRib::default();
    let mut cursor = rib.start();
    for source in [5, 3] {
        rib.set_all(prefix(), vec![path(source, 0)], 1);
        assert_eq!(announced(&rib), [(1, source, 0)]);
        assert_eq!(read(&mut rib, &mut cursor, 9), (vec![1], vec![]));
    }
}

#[test]
fn identifiers_outlive_the_tidying_of_the_log() {
    let mut rib = OutRib::default();
    let mut cursor = rib.start();
    let stays = path(2, 0);
    for round in 0..5000 {
        let mut wanted = vec![stays.clone()];
        if round % 2 == 0 {
            wanted.insert(0, path(1, 0));
        }
        rib.set_all(prefix(), wanted, LIMIT);
        read(&mut rib, &mut cursor, 9);
        rib.compact([&mut cursor].into_iter());
    }
    assert!(announced(&rib).iter().any(|(_, source, _)| *source == 2));
    assert!(rib.log.len() < 2000, "{}", rib.log.len());
    assert!(rib.entries.len() <= LIMIT);
}
