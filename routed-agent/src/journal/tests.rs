// SPDX-License-Identifier: Apache-2.0
//! The journal as a whole: threads, files and readers.

use std::time::Instant;

use super::*;

const LIMITS: Limits = Limits {
    sessions: 100,
    routes: 1000,
    addresses: 50,
};

fn note(recorder: &mut Recorder, kind: Kind, change: Change, object: &str) {
    let peer = Arc::new(PeerName {
        address: [10, 0, 0, 2].into(),
        name: "Mesh_10_0_0_2".into(),
    });
    recorder.record(Line::new(kind, change, object.into(), "a test".into()).of(Some(peer)));
}

fn until(wanted: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !wanted() {
        assert!(Instant::now() < deadline, "in vain");
        thread::sleep(Duration::from_millis(2));
    }
}

fn flood(recorder: &mut Recorder, count: u32) {
    for number in 0..count {
        let prefix = std::net::Ipv4Addr::from(0x0a00_0000 + (number << 8));
        note(recorder, Kind::Route, Change::Added, &format!("{prefix}/24"));
    }
    recorder.hand_on(Instant::now());
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn a_new_life_knows_the_lines_of_the_last() {
    let folder = tempfile::tempdir().unwrap();
    for life in 0..3 {
        let mut recorder = Recorder::start(folder.path(), LIMITS).unwrap();
        note(&mut recorder, Kind::Session, Change::Up, "Mesh_10_0_0_2");
        note(&mut recorder, Kind::Route, Change::Added, "192.168.1.0/26");
        recorder.hand_on(Instant::now());
        let journal = recorder.journal();
        until(|| journal.find(&Filter::default(), 100).0.len() == 2 * (life + 1));
        let (lines, _) = journal.find(&Filter::default(), 100);
        let numbers: Vec<u64> = lines.iter().map(|line| line.sequence).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    }
}

#[test]
fn questions_are_answered_by_what_they_ask_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::start(folder.path(), LIMITS).unwrap();
    note(&mut recorder, Kind::Session, Change::Up, "Mesh_10_0_0_2");
    for prefix in [
        "192.168.1.0/26",
        "192.168.1.64/26",
        "192.168.0.0/16",
        "10.9.0.0/24",
    ] {
        note(&mut recorder, Kind::Route, Change::Added, prefix);
    }
    let store = Line::new(Kind::Store, Change::Noted, "store".into(), "a test".into());
    recorder.record(store);
    recorder.hand_on(Instant::now());
    let journal = recorder.journal();
    until(|| journal.find(&Filter::default(), 100).0.len() == 6);
    let objects = |filter: Filter| -> Vec<String> {
        let (lines, _) = journal.find(&filter, 100);
        lines.iter().map(|line| line.object.to_string()).collect()
    };
    let prefix = Some("192.168.1.0/26".parse().unwrap());
    let about = objects(Filter {
        prefix,
        ..Filter::default()
    });
    assert_eq!(about, ["192.168.1.0/26", "192.168.0.0/16"]);
    for peer in ["10.0.0.2", "Mesh_10_0_0_2"] {
        let peer = Some(peer.to_owned());
        assert_eq!(
            objects(Filter {
                peer,
                ..Filter::default()
            })
            .len(),
            5
        );
    }
    let kind = Some(Kind::Store);
    assert_eq!(
        objects(Filter {
            kind,
            ..Filter::default()
        }),
        ["store"]
    );
    let since_ms = Some(u64::MAX);
    assert!(
        objects(Filter {
            since_ms,
            ..Filter::default()
        })
        .is_empty()
    );
    assert_eq!(journal.find(&Filter::default(), 2).1, 4);
}

#[test]
fn memory_is_bounded_and_a_flood_leaves_the_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::start(folder.path(), LIMITS).unwrap();
    note(&mut recorder, Kind::Session, Change::Up, "Mesh_10_0_0_2");
    flood(&mut recorder, 100_000);
    let journal = recorder.journal();
    until(|| journal.status()["sequence"] == 100_001);
    assert_eq!(journal.status()["lines"], 1001);
    drop(recorder);
    // On disk the flood is a burst and a few sums, and nothing of its number is lost.
    let (lines, broken) = Disk::new(folder.path()).read();
    let routes: u64 = lines
        .iter()
        .filter(|line| line.kind == Kind::Route)
        .map(|line| u64::from(line.count))
        .sum();
    assert_eq!((routes, broken), (100_000, 0));
    assert!(lines.len() < 2000, "{}", lines.len());
}

#[test]
fn addresses_have_a_bound_of_their_own_that_can_be_changed() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::start(folder.path(), LIMITS).unwrap();
    let mut noted = 0;
    let mut note_addresses = |recorder: &mut Recorder, count: u32| {
        for number in noted..noted + count {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + number);
            note(recorder, Kind::Addresses, Change::Added, &format!("{address}/32"));
        }
        noted += count;
        recorder.hand_on(Instant::now());
    };
    let journal = recorder.journal();
    let addresses = Filter {
        kind: Some(Kind::Addresses),
        ..Filter::default()
    };
    note_addresses(&mut recorder, 200);
    flood(&mut recorder, 2000);
    until(|| journal.status()["sequence"] == 2200);
    let (found, _) = journal.find(&addresses, 1000);
    assert_eq!(found.len(), 50);
    assert_eq!(found[49].object.to_string(), "10.0.0.199/32");
    recorder.set_limits(Limits {
        addresses: 120,
        ..LIMITS
    });
    note_addresses(&mut recorder, 200);
    until(|| journal.status()["sequence"] == 2400);
    assert_eq!(journal.find(&addresses, 1000).0.len(), 120);
}

#[test]
fn what_cannot_be_handed_on_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::start(folder.path(), LIMITS).unwrap();
    for _ in 0..QUEUE + 5 {
        let line = Line::new(
            Kind::Route,
            Change::Added,
            Object::Name("x".into()),
            "a test".into(),
        );
        recorder.record(line);
    }
    recorder.hand_on(Instant::now());
    let journal = recorder.journal();
    let lost = Filter {
        kind: Some(Kind::Agent),
        ..Filter::default()
    };
    until(|| journal.status()["sequence"] == QUEUE as u64 + 1);
    assert_eq!(journal.find(&lost, 10).0[0].count, 5);
}

#[test]
fn readers_get_every_line_and_slow_ones_are_told_what_they_have_missed() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::start(folder.path(), LIMITS).unwrap();
    let journal = recorder.journal();
    note(&mut recorder, Kind::Session, Change::Up, "Mesh_10_0_0_2");
    recorder.hand_on(Instant::now());
    until(|| journal.status()["sequence"] == 1);
    let mut reader = journal.read_along(Filter::default()).unwrap();
    let mut slow = journal.read_along(Filter::default()).unwrap();
    note(&mut recorder, Kind::Session, Change::Down, "Mesh_10_0_0_2");
    recorder.hand_on(Instant::now());
    runtime().block_on(async {
        let text = |chunk: Option<Vec<u8>>| String::from_utf8(chunk.unwrap()).unwrap();
        assert!(text(reader.next().await).contains("\"sequence\":1"));
        let line = text(reader.next().await);
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&line["kind"], &line["change"]),
            (&json!("session"), &json!("down"))
        );
        assert_eq!(
            (&line["sequence"], &line["peer"]),
            (&json!(2), &json!("10.0.0.2"))
        );
        assert_eq!(line["cause"], "a test");
        assert!(line["time"].as_str().unwrap().ends_with('Z'));
        flood(&mut recorder, 20_000);
        until(|| journal.status()["sequence"] == 20_002);
        let mut lines = Vec::new();
        while lines.len() < BACKLOG + 2 {
            lines.extend(text(slow.next().await).lines().map(str::to_owned));
        }
        let lost: Value = serde_json::from_str(&lines[1]).unwrap();
        assert_eq!(
            (&lost["kind"], &lost["lost"]),
            (&json!("lost"), &json!(20_001 - BACKLOG))
        );
        assert!(lines.last().unwrap().contains("\"sequence\":20002"));
    });
}

#[test]
fn a_flood_is_handed_on_in_few_pieces_and_nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::start(folder.path(), LIMITS).unwrap();
    let journal = recorder.journal();
    let began = Instant::now();
    assert_eq!(recorder.flush(began), None);
    // Single lines do not wait.
    for sequence in 1..4 {
        note(&mut recorder, Kind::Session, Change::Up, "Mesh_10_0_0_2");
        assert_eq!(recorder.flush(began), None);
        until(|| journal.status()["sequence"] == sequence);
    }
    let single = u32::try_from(sums::SINGLE).unwrap();
    flood_of_one_cause(&mut recorder, single + 10);
    let due = recorder.flush(began + PAUSE / 2).unwrap();
    assert_eq!(due, began + PAUSE);
    assert_eq!(recorder.flush(due), None);
    until(|| journal.status()["sequence"] == u64::from(single) + 4);
    // An end does not wait.
    flood_of_one_cause(&mut recorder, 10);
    assert!(recorder.flush(due).is_some());
    drop(recorder);
    until(|| journal.status()["sequence"] == u64::from(single) + 5);
}

fn flood_of_one_cause(recorder: &mut Recorder, count: u32) {
    let news = PrefixNews {
        kind: Kind::Route,
        change: Change::Added,
        peer: None,
        cause: "a test".into(),
    };
    for number in 0..count {
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + number);
        recorder.record_prefix(IpNet::new(address.into(), 32).unwrap(), &news);
    }
}

#[test]
fn readers_are_few() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(folder.path(), LIMITS).unwrap();
    let journal = recorder.journal();
    let mut readers: Vec<Reader> = (0..MAX_READERS)
        .map(|_| journal.read_along(Filter::default()).unwrap())
        .collect();
    assert_eq!(journal.read_along(Filter::default()).unwrap_err(), TooManyReaders);
    readers.pop();
    assert!(journal.read_along(Filter::default()).is_ok());
}
