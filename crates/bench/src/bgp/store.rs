// SPDX-License-Identifier: Apache-2.0
//! What is put into the agents' stores.

use std::path::Path;

use anyhow::{Result, bail};
use datastore::{Batch, EmbeddedStore, OpenOptions, Store as _, StoreError, Write};
use model::{Key, Kind};
use serde_json::{Value, json};

/// Creates a resource, as an operator would.
pub fn apply(store: &Path, kind: Kind, name: &str, spec: &Value) -> Result<()> {
    let store = EmbeddedStore::open(store, OpenOptions::default())?.store;
    let value = json!({
        "kind": kind.name(), "apiVersion": "projectcalico.org/v3", "metadata": { "name": name }, "spec": spec,
    });
    let write = Write::Create {
        key: Key::resource(kind, name),
        value: value.to_string(),
    };
    commit(&store, vec![write])
}

/// Makes changes together, whoever else writes meanwhile.
pub fn commit(store: &EmbeddedStore, writes: Vec<Write>) -> Result<()> {
    let batch = Batch {
        writes,
        journal: Vec::new(),
    };
    match store.commit(&batch) {
        Ok(_) => Ok(()),
        Err(StoreError::Conflict { .. }) => bail!("the agent changes what the benchmark does"),
        Err(problem) => Err(problem.into()),
    }
}
