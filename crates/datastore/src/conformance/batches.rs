// SPDX-License-Identifier: Apache-2.0
//! Several writes at once: whole or not at all, or in the given order.

use model::KeyRange;

use super::{Factory, apply, batch, check, create, delete, handle, update, value};
use crate::{
    error::StoreError,
    store::{Batch, Revision, Write},
};

pub(crate) fn an_empty_batch_changes_nothing(new: Factory<'_>) {
    let store = new();
    apply(&*store, create(&handle("a"), "1"));
    let before = store.list(&KeyRange::Handles).unwrap().revision;
    assert_eq!(store.commit(&Batch::default()).unwrap(), []);
    assert_eq!(store.list(&KeyRange::Handles).unwrap().revision, before);
}

pub(crate) fn a_batch_is_applied_in_order(new: Factory<'_>) {
    let store = new();
    let keys = ["updated", "deleted", "created", "absent", "checked"].map(handle);
    let [updated, deleted, created, absent, checked] = &keys;
    let of_updated = apply(&*store, create(updated, "1"));
    let of_deleted = apply(&*store, create(deleted, "1"));
    let of_checked = apply(&*store, create(checked, "1"));
    let writes = [
        create(created, "2"),
        update(updated, "2", of_updated),
        check(checked, Some(of_checked)),
        delete(deleted, of_deleted),
        check(absent, None),
    ];
    let revisions = store.commit(&batch(writes)).unwrap();
    assert_eq!(revisions.len(), 5);
    let changed = [revisions[0], revisions[1], revisions[3]];
    assert!(changed.is_sorted() && changed[0] > of_checked, "{revisions:?}");
    assert_eq!((revisions[2], revisions[4]), (of_checked, Revision(0)));
    assert_eq!(store.get(created).unwrap().unwrap().revision, revisions[0]);
    assert_eq!(store.get(updated).unwrap().unwrap().revision, revisions[1]);
    let some = |text: &str| Some(text.to_owned());
    let values = keys.each_ref().map(|key| value(&*store, key));
    assert_eq!(values, [some("2"), None, some("2"), None, some("1")]);
}

pub(crate) fn a_failing_write_stops_the_batch(new: Factory<'_>) {
    let failing: [fn(Revision) -> Write; 5] = [
        |_| create(&handle("present"), "2"),
        |revision| update(&handle("present"), "2", Revision(revision.0 + 1000)),
        |revision| delete(&handle("absent"), revision),
        |_| check(&handle("present"), None),
        |revision| check(&handle("absent"), Some(revision)),
    ];
    for make in failing {
        for position in 0..3 {
            let store = new();
            let revision = apply(&*store, create(&handle("present"), "1"));
            let mut writes: Vec<Write> = (0..2)
                .map(|number| create(&handle(&format!("new-{number}")), "1"))
                .collect();
            let culprit = make(revision);
            writes.insert(position, culprit.clone());
            let problem = store.commit(&batch(writes)).unwrap_err();
            let done = if store.atomic() { 0 } else { position };
            match &problem {
                StoreError::AlreadyExists { key, applied } | StoreError::Conflict { key, applied } => {
                    assert_eq!((key, *applied), (culprit.key(), done));
                }
                other => panic!("{other:?}"),
            }
            let is_create = matches!(culprit, Write::Create { .. });
            assert_eq!(
                matches!(problem, StoreError::AlreadyExists { .. }),
                is_create,
                "{culprit:?}"
            );
            let left = store.list(&KeyRange::Handles).unwrap().entries.len();
            assert_eq!(left, 1 + done, "{culprit:?} at {position}");
            assert_eq!(value(&*store, &handle("present")).unwrap(), "1");
        }
    }
}

pub(crate) fn a_key_may_be_named_once_only(new: Factory<'_>) {
    let store = new();
    let key = handle("a");
    let problem = store
        .commit(&batch([create(&key, "1"), check(&key, None)]))
        .unwrap_err();
    assert!(matches!(problem, StoreError::Refused { .. }), "{problem:?}");
    assert!(problem.to_string().contains(&key.to_string()), "{problem}");
    assert_eq!(value(&*store, &key), None);
}

pub(crate) fn a_batch_of_many_writes_is_applied(new: Factory<'_>) {
    let store = new();
    // etcd's default limit is 128 operations.
    let keys: Vec<_> = (0..100).map(|number| handle(&format!("{number:03}"))).collect();
    let revisions = store
        .commit(&batch(keys.iter().map(|key| create(key, "1"))))
        .unwrap();
    assert!(revisions.is_sorted());
    let writes = keys
        .iter()
        .zip(&revisions)
        .map(|(key, revision)| delete(key, *revision));
    store.commit(&batch(writes)).unwrap();
    assert!(store.list(&KeyRange::Handles).unwrap().entries.is_empty());
}
