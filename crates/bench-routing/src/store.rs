// SPDX-License-Identifier: Apache-2.0
//! Objects put into an agent's store.

use std::path::Path;

use anyhow::Result;
use datastore::{Batch, EmbeddedStore, OpenOptions, Store as _, Write};
use model::{Key, Kind};
use serde_json::{Value, json};

/// The text of a resource.
pub fn resource(kind: Kind, name: &str, spec: &Value) -> String {
    json!({
        "kind": kind.name(), "apiVersion": "projectcalico.org/v3", "metadata": { "name": name }, "spec": spec,
    })
    .to_string()
}

/// Creates objects in a store, which is made if it is not there.
pub fn create(path: &Path, objects: impl IntoIterator<Item = (Key, String)>) -> Result<()> {
    let store = EmbeddedStore::open(path, OpenOptions::default())?.store;
    let writes: Vec<Write> = objects
        .into_iter()
        .map(|(key, value)| Write::Create { key, value })
        .collect();
    for part in writes.chunks(1000) {
        store.commit(&Batch {
            writes: part.to_vec(),
            journal: Vec::new(),
        })?;
    }
    Ok(())
}
