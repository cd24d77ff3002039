// SPDX-License-Identifier: Apache-2.0
//! Ranges, order, hints.

use model::{AffinityOwner, Key, KeyRange, Kind, LocalTable};

use super::{Factory, apply, batch, create, delete, handle, update};
use crate::store::{Hint, Store};

fn block(prefix: &str) -> Key {
    Key::Block(prefix.parse().unwrap())
}

fn affinity(node: &str, prefix: &str) -> Key {
    Key::host_affinity(node, prefix.parse().unwrap())
}

fn keys(store: &dyn Store, range: &KeyRange) -> Vec<Key> {
    let listing = store.list(range).unwrap();
    for entry in &listing.entries {
        assert!(entry.revision <= listing.revision);
        assert_eq!(store.get(&entry.key).unwrap().as_ref(), Some(entry));
    }
    listing.entries.into_iter().map(|entry| entry.key).collect()
}

/// One or more keys of every range, and the range.
fn everything() -> Vec<(KeyRange, Vec<Key>)> {
    let mut all: Vec<(KeyRange, Vec<Key>)> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let key = |name: &str| {
                if kind.namespaced() {
                    Key::namespaced(kind, "default", name)
                } else {
                    Key::resource(kind, name)
                }
            };
            (KeyRange::Kind(kind), vec![key("a"), key("b")])
        })
        .collect();
    let virtual_owner = AffinityOwner::Virtual("load-balancer".to_owned());
    let virtual_affinity = Key::Affinity {
        owner: virtual_owner.clone(),
        block: "10.50.0.0/28".parse().unwrap(),
    };
    all.extend([
        (
            KeyRange::Blocks { v6: false },
            vec![block("10.0.0.0/26"), block("10.0.0.64/26")],
        ),
        (
            KeyRange::Blocks { v6: true },
            vec![block("fd00::/122"), block("fd00:10:244::/122")],
        ),
        (
            KeyRange::Affinities {
                owner: virtual_owner,
                v6: false,
            },
            vec![virtual_affinity],
        ),
        (
            KeyRange::HostAffinities,
            vec![
                affinity("node1", "10.0.0.0/26"),
                affinity("node1", "fd00::/122"),
                affinity("node2", "10.0.0.64/26"),
            ],
        ),
        (KeyRange::Handles, vec![handle("a"), handle("b.c")]),
    ]);
    all.extend(LocalTable::ALL.into_iter().map(|table| {
        let range = KeyRange::Local {
            table,
            prefix: String::new(),
        };
        (
            range,
            vec![Key::local(table, "n/a"), Key::local(table, "n/b/c/d")],
        )
    }));
    all
}

pub(crate) fn ranges_hold_exactly_their_keys(new: Factory<'_>) {
    let store = new();
    let all = everything();
    for (range, expected) in &all {
        assert_eq!(keys(&*store, range), []);
        for key in expected {
            apply(&*store, create(key, "{}"));
        }
    }
    apply(&*store, create(&Key::IpamConfig, "{}"));
    for (range, expected) in &all {
        assert_eq!(keys(&*store, range).len(), expected.len(), "{range:?}");
        assert!(
            expected.iter().all(|key| keys(&*store, range).contains(key)),
            "{range:?}"
        );
    }
    let total = all.iter().map(|(_, keys)| keys.len()).sum::<usize>() + 1;
    assert_eq!(keys(&*store, &KeyRange::Everything).len(), total);
}

pub(crate) fn entries_are_in_key_order(new: Factory<'_>) {
    let store = new();
    for name in [
        "b",
        "a",
        "a.b",
        "a-b",
        "\u{e9}",
        "Z",
        "aa",
        "z",
        "\u{1f980}",
        "\u{ff5a}",
    ] {
        apply(&*store, create(&handle(name), "{}"));
    }
    for prefix in [
        "10.0.1.0/26",
        "10.0.0.128/26",
        "9.0.0.0/26",
        "10.0.0.64/26",
        "100.0.0.0/26",
    ] {
        apply(&*store, create(&block(prefix), "{}"));
    }
    for range in [
        KeyRange::Handles,
        KeyRange::Blocks { v6: false },
        KeyRange::Everything,
    ] {
        let texts: Vec<String> = keys(&*store, &range).iter().map(Key::to_string).collect();
        let mut sorted = texts.clone();
        sorted.sort();
        assert_eq!(texts, sorted, "key order is the order of the texts, byte by byte");
        assert!(texts.len() >= 5);
    }
}

pub(crate) fn prefixes_end_at_name_borders(new: Factory<'_>) {
    let store = new();
    let local = |name: &str| Key::local(LocalTable::Attachment, name);
    let all = [
        affinity("node1", "10.0.0.0/26"),
        affinity("node10", "10.0.0.64/26"),
        affinity("node1", "fd00::/122"),
        local("node1/net/a/eth0"),
        local("node1/net/b/eth0"),
        local("node10/net/a/eth0"),
        local("node1/ne"),
    ];
    for key in &all {
        apply(&*store, create(key, "{}"));
    }
    let owner = AffinityOwner::Host("node1".to_owned());
    let of = |v6| KeyRange::Affinities {
        owner: owner.clone(),
        v6,
    };
    assert_eq!(keys(&*store, &of(false)), [all[0].clone()]);
    assert_eq!(keys(&*store, &of(true)), [all[2].clone()]);
    let below = |prefix: &str| KeyRange::Local {
        table: LocalTable::Attachment,
        prefix: prefix.to_owned(),
    };
    assert_eq!(keys(&*store, &below("node1/")).len(), 3);
    assert_eq!(
        keys(&*store, &below("node1/net/")),
        [all[3].clone(), all[4].clone()]
    );
    assert_eq!(keys(&*store, &below("node1/net/b/eth0")), [all[4].clone()]);
    assert_eq!(keys(&*store, &below("node1/\u{10ffff}")), []);
    assert_eq!(keys(&*store, &below("")).len(), 4);
}

pub(crate) fn keys_only_lists_have_keys_and_revisions(new: Factory<'_>) {
    let store = new();
    for name in ["a", "b", "c"] {
        apply(&*store, create(&handle(name), "{}"));
    }
    let hint = Hint {
        keys_only: true,
        ..Hint::default()
    };
    let names = |listing: crate::store::Listing| -> Vec<_> {
        listing
            .entries
            .into_iter()
            .map(|entry| (entry.key, entry.revision))
            .collect()
    };
    let full = store.list(&KeyRange::Handles).unwrap();
    let short = store.list_hinted(&KeyRange::Handles, &hint).unwrap();
    assert_eq!(full.revision, short.revision);
    assert_eq!(names(full), names(short));
}

/// The JSON of a block, as far as hints go.
fn content(affinity: Option<&str>, room: usize) -> String {
    let affinity = affinity.map_or("null".to_owned(), |affinity| format!("\"{affinity}\""));
    let unallocated: Vec<usize> = (0..room).collect();
    format!(r#"{{"affinity":{affinity},"unallocated":{unallocated:?},"attributes":[{{"unallocated":[1]}}]}}"#)
}

/// What a hinted list of blocks returns, as the third number of each address.
fn hinted(store: &dyn Store, affinity: Option<&str>, with_room: bool, limit: Option<usize>) -> Vec<u8> {
    let hint = Hint {
        affinity: affinity.map(str::to_owned),
        with_room,
        limit,
        keys_only: false,
    };
    let listing = store.list_hinted(&KeyRange::Blocks { v6: false }, &hint).unwrap();
    let numbers = listing.entries.iter().map(|entry| match &entry.key {
        Key::Block(ipnet) => match ipnet.addr() {
            std::net::IpAddr::V4(address) => address.octets()[2],
            std::net::IpAddr::V6(_) => panic!("{}", entry.key),
        },
        key => panic!("{key}"),
    });
    numbers.collect()
}

fn assert_hinted(
    store: &dyn Store,
    affinity: Option<&str>,
    with_room: bool,
    limit: Option<usize>,
    expected: &[u8],
) {
    let found = hinted(store, affinity, with_room, limit);
    let context = format!("{affinity:?}, with room {with_room}, limit {limit:?}: {found:?}");
    if store.applies_hints() {
        assert_eq!(found, expected, "{context}");
    } else {
        assert!(expected.iter().all(|number| found.contains(number)), "{context}");
    }
}

pub(crate) fn hints_never_hide_what_they_name(new: Factory<'_>) {
    let store = new();
    let contents = [
        content(Some("host:a"), 0),
        content(Some("host:a"), 2),
        content(Some("host:b"), 1),
        content(None, 3),
        content(Some("host:a"), 64),
        "not even JSON".to_owned(),
        content(Some("virtual:a"), 1),
        content(Some("host:a"), 1),
    ];
    for (number, content) in contents.iter().enumerate() {
        apply(&*store, create(&block(&format!("10.0.{number}.0/26")), content));
    }
    apply(&*store, create(&block("fd00::/122"), &content(Some("host:a"), 5)));
    apply(&*store, create(&handle("a"), &content(Some("host:a"), 5)));
    assert_hinted(&*store, None, false, None, &[0, 1, 2, 3, 4, 5, 6, 7]);
    assert_hinted(&*store, None, true, None, &[1, 2, 3, 4, 6, 7]);
    assert_hinted(&*store, Some("host:a"), false, None, &[0, 1, 4, 7]);
    assert_hinted(&*store, Some("host:a"), true, None, &[1, 4, 7]);
    assert_hinted(&*store, Some("host:a"), true, Some(2), &[1, 4]);
    assert_hinted(&*store, Some("host:a"), true, Some(99), &[1, 4, 7]);
    assert_hinted(&*store, Some("host:b"), true, Some(1), &[2]);
    assert_hinted(&*store, Some("host:"), true, None, &[]);
    assert_hinted(&*store, None, false, Some(3), &[0, 1, 2]);
    assert_hinted(&*store, None, true, Some(1), &[1]);
    assert_hinted(&*store, None, true, Some(0), &[]);
    // On other objects these hints say nothing.
    let hint = Hint {
        affinity: Some("host:z".to_owned()),
        with_room: true,
        ..Hint::default()
    };
    assert_eq!(
        store
            .list_hinted(&KeyRange::Handles, &hint)
            .unwrap()
            .entries
            .len(),
        1
    );
}

pub(crate) fn hints_follow_every_write(new: Factory<'_>) {
    let store = new();
    let key = block("10.0.0.0/26");
    let mut revision = apply(&*store, create(&key, &content(Some("host:a"), 1)));
    assert_hinted(&*store, Some("host:a"), true, None, &[0]);
    for (affinity, room) in [
        (Some("host:a"), 0),
        (Some("host:a"), 64),
        (Some("host:b"), 64),
        (Some("host:b"), 63),
        (None, 63),
        (None, 0),
        (Some("host:a"), 0),
        (Some("host:b"), 1),
    ] {
        revision = apply(&*store, update(&key, &content(affinity, room), revision));
        for owner in ["host:a", "host:b"] {
            let owned: &[u8] = if affinity == Some(owner) { &[0] } else { &[] };
            assert_hinted(&*store, Some(owner), false, None, owned);
            assert_hinted(
                &*store,
                Some(owner),
                true,
                None,
                if room > 0 { owned } else { &[] },
            );
        }
        assert_hinted(&*store, None, true, None, if room > 0 { &[0] } else { &[] });
    }
    apply(&*store, delete(&key, revision));
    assert_hinted(&*store, Some("host:b"), true, None, &[]);
    let stale = store.commit(&batch([update(&key, &content(Some("host:b"), 1), revision)]));
    assert!(stale.is_err());
    assert_hinted(&*store, Some("host:b"), true, None, &[]);
}
