// SPDX-License-Identifier: Apache-2.0
//! What every backend must do, whatever holds its data. A backend calls [`conformance_tests!`] in its tests with a
//! function that makes a new, empty store; each case below then is a test of that backend.
//!
//! The cases allow what the trait leaves open: batches that are applied write by write, one revision for a whole
//! batch or one for each write, no journal, hints that are not applied.

pub(crate) mod batches;
pub(crate) mod concurrency;
pub(crate) mod journal;
pub(crate) mod lists;
pub(crate) mod objects;
pub(crate) mod watches;

use std::time::Duration;

use model::Key;

use crate::store::{Batch, Revision, Store, Write};

/// Makes a new, empty store.
pub(crate) type Factory<'a> = &'a dyn Fn() -> Box<dyn Store>;

/// Longer than anything here takes; a wait that lasts so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One test for each case, on the stores that `$factory` makes. Those of `$forgetful` remember no more than `$history`
/// changes.
macro_rules! conformance_tests {
    ($factory:expr, remembering $history:literal: $forgetful:expr) => {
        $crate::conformance::conformance_tests!(@cases $factory;
            objects: absent_objects_are_none, created_objects_are_read_back, creating_twice_fails,
                updates_need_the_current_revision, deletes_need_the_current_revision,
                checks_change_nothing, revisions_grow, any_name_and_value_is_kept_as_it_is,
                large_values_are_kept;
            lists: ranges_hold_exactly_their_keys, entries_are_in_key_order, prefixes_end_at_name_borders,
                keys_only_lists_have_keys_and_revisions, hints_never_hide_what_they_name,
                hints_follow_every_write;
            batches: an_empty_batch_changes_nothing, a_batch_is_applied_in_order,
                a_failing_write_stops_the_batch, a_key_may_be_named_once_only,
                a_batch_of_many_writes_is_applied;
            watches: a_watch_sees_everything_after_its_start, a_watch_sees_its_range_only,
                changes_of_one_key_may_be_merged_into_the_last, a_deleted_and_recreated_object_is_there,
                a_watch_without_changes_times_out, a_waiting_watch_is_woken, a_list_and_a_watch_miss_nothing,
                several_watches_see_the_same;
            journal: lines_are_kept_newest_first, a_failed_batch_leaves_no_line;
            concurrency: counting_threads_lose_nothing, one_of_many_creators_wins,
                readers_see_whole_batches;
        );

        #[test]
        fn a_watch_left_behind_is_told_to_list_again() {
            $crate::conformance::watches::a_watch_left_behind_is_told_to_list_again(&$forgetful, $history);
        }
    };
    (@cases $factory:expr; $($module:ident: $($case:ident),+;)+) => {
        $($(
            #[test]
            fn $case() {
                $crate::conformance::$module::$case(&$factory);
            }
        )+)+
    };
}
pub(crate) use conformance_tests;

/// The key of a handle: the simplest object there is.
pub(crate) fn handle(name: &str) -> Key {
    Key::Handle(name.to_owned())
}

/// A create.
pub(crate) fn create(key: &Key, value: &str) -> Write {
    Write::Create {
        key: key.clone(),
        value: value.to_owned(),
    }
}

/// An update.
pub(crate) fn update(key: &Key, value: &str, revision: Revision) -> Write {
    Write::Update {
        key: key.clone(),
        value: value.to_owned(),
        revision,
    }
}

/// A delete.
pub(crate) fn delete(key: &Key, revision: Revision) -> Write {
    Write::Delete {
        key: key.clone(),
        revision,
    }
}

/// A check.
pub(crate) fn check(key: &Key, revision: Option<Revision>) -> Write {
    Write::Check {
        key: key.clone(),
        revision,
    }
}

/// A batch without journal lines.
pub(crate) fn batch(writes: impl IntoIterator<Item = Write>) -> Batch {
    Batch {
        writes: writes.into_iter().collect(),
        journal: Vec::new(),
    }
}

/// Applies one write, which must succeed; its new revision.
pub(crate) fn apply(store: &dyn Store, write: Write) -> Revision {
    let revisions = store.commit(&batch([write])).unwrap();
    assert_eq!(revisions.len(), 1);
    revisions[0]
}

/// The value of an object, if there is one.
pub(crate) fn value(store: &dyn Store, key: &Key) -> Option<String> {
    store.get(key).unwrap().map(|entry| entry.value)
}
