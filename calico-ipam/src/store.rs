// SPDX-License-Identifier: Apache-2.0
//! Opening the node store, and saying so when it is not the one that was closed.

use std::path::Path;

use cni_plugin::Error;
use datastore::{EmbeddedStore, OpenOptions, Opened, Provenance};

use crate::{error, log::Log};

/// Opens the store; makes it if there is none, replaces it if it is damaged.
pub(crate) fn open(path: &Path, log: &Log) -> Result<EmbeddedStore, Error> {
    let opened = EmbeddedStore::open(path, OpenOptions::default());
    let Opened { store, provenance } = opened.map_err(|problem| error::store(&problem))?;
    let path = path.display();
    match provenance {
        Provenance::Existing => {}
        Provenance::Created => log.info(format_args!("created store {path}")),
        Provenance::Replaced { moved_to, reason } => {
            let moved_to =
                moved_to.map_or_else(String::new, |to| format!("; the old file is {}", to.display()));
            log.error(format_args!(
                "store {path} was replaced by a new one: {reason}{moved_to}. Live containers are adopted from the \
                 kernel; pools and configuration of the old file have to be applied again"
            ));
        }
        Provenance::Restored { reason } | Provenance::Suspect { reason } => {
            log.warning(format_args!(
                "store {path} is not as it was left: {reason}. Live containers are checked"
            ));
        }
    }
    Ok(store)
}
