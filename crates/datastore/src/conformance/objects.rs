// SPDX-License-Identifier: Apache-2.0
//! One object at a time: get, create, update, delete, check.

use model::{Key, Kind, LocalTable};

use super::{Factory, apply, batch, check, create, delete, handle, update, value};
use crate::{
    error::StoreError,
    store::{Entry, Revision, Store, Write},
};

fn fails_with_conflict(store: &dyn Store, write: Write) {
    let key = write.key().clone();
    match store.commit(&batch([write])) {
        Err(StoreError::Conflict {
            key: named,
            applied: 0,
        }) => assert_eq!(named, key),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn absent_objects_are_none(new: Factory<'_>) {
    let store = new();
    assert_eq!(store.get(&handle("absent")).unwrap(), None);
    assert_eq!(store.get(&Key::IpamConfig).unwrap(), None);
}

pub(crate) fn created_objects_are_read_back(new: Factory<'_>) {
    let store = new();
    let key = handle("a");
    let revision = apply(&*store, create(&key, r#"{"block":{}}"#));
    assert!(revision > Revision(0));
    let expected = Entry {
        key: key.clone(),
        revision,
        value: r#"{"block":{}}"#.to_owned(),
    };
    assert_eq!(store.get(&key).unwrap(), Some(expected));
}

pub(crate) fn creating_twice_fails(new: Factory<'_>) {
    let store = new();
    let key = handle("a");
    apply(&*store, create(&key, "1"));
    match store.commit(&batch([create(&key, "2")])) {
        Err(problem @ StoreError::AlreadyExists { applied: 0, .. }) => {
            assert!(problem.is_conflict());
            assert!(problem.to_string().contains(&key.to_string()), "{problem}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(value(&*store, &key).unwrap(), "1");
}

pub(crate) fn updates_need_the_current_revision(new: Factory<'_>) {
    let store = new();
    let key = handle("a");
    fails_with_conflict(&*store, update(&key, "0", Revision(1)));
    let first = apply(&*store, create(&key, "1"));
    let second = apply(&*store, update(&key, "2", first));
    assert!(second > first);
    for stale in [first, Revision(0), Revision(second.0 + 1), Revision(u64::MAX)] {
        fails_with_conflict(&*store, update(&key, "3", stale));
    }
    let entry = store.get(&key).unwrap().unwrap();
    assert_eq!((entry.value.as_str(), entry.revision), ("2", second));
    // The same content again is a change too.
    assert!(apply(&*store, update(&key, "2", second)) > second);
}

pub(crate) fn deletes_need_the_current_revision(new: Factory<'_>) {
    let store = new();
    let key = handle("a");
    fails_with_conflict(&*store, delete(&key, Revision(1)));
    let first = apply(&*store, create(&key, "1"));
    let second = apply(&*store, update(&key, "2", first));
    fails_with_conflict(&*store, delete(&key, first));
    apply(&*store, delete(&key, second));
    assert_eq!(store.get(&key).unwrap(), None);
    fails_with_conflict(&*store, delete(&key, second));
    fails_with_conflict(&*store, update(&key, "3", second));
    assert!(apply(&*store, create(&key, "4")) > second);
}

pub(crate) fn checks_change_nothing(new: Factory<'_>) {
    let store = new();
    let (present, absent) = (handle("present"), handle("absent"));
    let revision = apply(&*store, create(&present, "1"));
    let before = store.list(&model::KeyRange::Handles).unwrap();
    let revisions = store
        .commit(&batch([check(&present, Some(revision)), check(&absent, None)]))
        .unwrap();
    assert_eq!(revisions, [revision, Revision(0)]);
    let after = store.list(&model::KeyRange::Handles).unwrap();
    assert_eq!((before.entries, before.revision), (after.entries, after.revision));
    fails_with_conflict(&*store, check(&present, None));
    fails_with_conflict(&*store, check(&present, Some(Revision(revision.0 + 1))));
    fails_with_conflict(&*store, check(&absent, Some(revision)));
    fails_with_conflict(&*store, check(&absent, Some(Revision(0))));
}

pub(crate) fn revisions_grow(new: Factory<'_>) {
    let store = new();
    let mut last = store.list(&model::KeyRange::Handles).unwrap().revision;
    for round in 0..10 {
        let (one, other) = (handle(&format!("one-{round}")), handle("other"));
        let created = apply(&*store, create(&one, "1"));
        let entry = store.get(&other).unwrap();
        let written = match entry {
            None => apply(&*store, create(&other, "1")),
            Some(entry) => apply(&*store, update(&other, "1", entry.revision)),
        };
        let deleted = apply(&*store, delete(&one, created));
        let listed = store.list(&model::KeyRange::Handles).unwrap().revision;
        assert!(last < created && created < written && written < deleted && deleted <= listed);
        last = listed;
    }
}

pub(crate) fn any_name_and_value_is_kept_as_it_is(new: Factory<'_>) {
    let store = new();
    let names = [
        "k8s-pod-network.4f1c".to_owned(),
        "with space, quote ' and \" and %2f and \\".to_owned(),
        "\u{fc}n\u{ef}c\u{f6}d\u{e9} \u{65e5}\u{672c} \u{1f980}".to_owned(),
        "line\r\nbreak".to_owned(),
        "x".repeat(4000),
    ];
    let values = [
        "{}",
        r#"{"b":1,  "a":[ null ,1e3],"big":1772359200123456791 }"#,
        r#"{"text":"quote ' \" \\ \u0000 end"}"#,
        "{\"text\":\"\u{fc}n\u{ef}c\u{f6}d\u{e9} \u{1f980}\"}",
        " {\n} ",
    ];
    for name in &names {
        for key in [
            handle(name),
            Key::local(LocalTable::Attachment, format!("node/{name}")),
            Key::resource(Kind::IpPool, name.replace('/', "-")),
        ] {
            for text in values {
                let revision = apply(&*store, create(&key, text));
                assert_eq!(value(&*store, &key).as_deref(), Some(text), "{key}");
                apply(&*store, delete(&key, revision));
            }
        }
    }
}

pub(crate) fn large_values_are_kept(new: Factory<'_>) {
    let store = new();
    // Below the 1.5 MiB that etcd and Kubernetes take by default.
    for length in [1_000, 4_096, 65_536, 1_000_000] {
        let key = handle(&format!("large-{length}"));
        let text = format!("\"{}\"", "0123456789".repeat(length / 10));
        let revision = apply(&*store, create(&key, &text));
        assert_eq!(value(&*store, &key).as_deref(), Some(text.as_str()));
        apply(&*store, update(&key, "{}", revision));
        assert_eq!(value(&*store, &key).as_deref(), Some("{}"));
    }
}
