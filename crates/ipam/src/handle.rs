// SPDX-License-Identifier: Apache-2.0
//! Arithmetic on handles, and the write that a change of one amounts to: create, update, or delete when nothing is
//! counted any more. Counts are held at zero from below: a handle that counts too little is not made worse.

use datastore::Write;
use ipnet::IpNet;
use model::{IpamHandle, Key};

use crate::operation::Stored;

/// Counts more addresses of a block.
pub(crate) fn add(handle: &mut IpamHandle, block: IpNet, count: usize) {
    if count > 0 {
        let entry = handle.block.entry(block).or_default();
        *entry = entry.saturating_add(count);
    }
}

/// Counts fewer addresses of a block; an entry without any goes.
pub(crate) fn subtract(handle: &mut IpamHandle, block: IpNet, count: usize) {
    if let Some(entry) = handle.block.get_mut(&block) {
        *entry = entry.saturating_sub(count);
        if *entry == 0 {
            handle.block.remove(&block);
        }
    }
}

/// Counts at least so many addresses of a block.
pub(crate) fn raise(handle: &mut IpamHandle, block: IpNet, count: usize) {
    if count > 0 {
        let entry = handle.block.entry(block).or_default();
        *entry = (*entry).max(count);
    }
}

/// The write that turns the stored handle into `value`; `None` if it is that already.
pub(crate) fn write(id: &str, stored: Option<Stored<IpamHandle>>, value: &IpamHandle) -> Option<Write> {
    let key = Key::Handle(id.to_owned());
    match stored {
        Some(stored) if value.is_empty() => Some(Write::Delete {
            key,
            revision: stored.revision,
        }),
        Some(stored) if stored.value == *value => None,
        Some(stored) => Some(Write::update(key, value, stored.revision)),
        None if value.is_empty() => None,
        None => Some(Write::create(key, value)),
    }
}
