// SPDX-License-Identifier: Apache-2.0
//! One run's access to the node store: who this node is, the open store, the host lock, the clocks, the log. Every
//! verb of both programs starts by opening one.

use std::{cell::RefCell, time::Duration};

use cni_plugin::{Code, Error};
use datastore::{Entry, Listing, Store, Write};
use ipam::{Engine, Notice};
use model::{ClusterInformation, Key, KeyRange, Kind, LocalTable, Timestamp};

use crate::{
    attachment::{Attachment, AttachmentId},
    clock::SystemClock,
    error,
    host_lock::HostLock,
    host_network::KernelNetwork,
    log::Log,
    node_name,
    read_ahead::ReadAhead,
    settings::Settings,
    store,
};

/// How long to wait for other plugins of this host; below the patience of every runtime.
const LOCK_LIMIT: Duration = Duration::from_secs(60);

/// An open session.
pub struct Session<'a> {
    /// What was configured.
    pub settings: &'a Settings,
    /// Calico node name.
    pub node: String,
    /// The log.
    pub log: &'a Log,
    store: ReadAhead,
    clock: SystemClock,
    network: KernelNetwork,
    notices: NoticeLog<'a>,
}

impl<'a> Session<'a> {
    /// Finds the node's name and opens the store.
    pub fn open(settings: &'a Settings, log: &'a Log) -> Result<Self, Error> {
        let system = nix::unistd::gethostname()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let sources = node_name::Sources {
            nodename: settings.nodename.as_deref(),
            file: &settings.nodename_file,
            hostname: settings.hostname.as_deref(),
            system: &system,
        };
        let node = node_name::resolve(sources, true).map_err(|problem| error::node_name(&problem))?;
        let store = ReadAhead::new(store::open(&settings.datastore_path, log)?);
        Ok(Self {
            settings,
            node,
            log,
            store,
            clock: SystemClock::default(),
            network: KernelNetwork::default(),
            notices: NoticeLog {
                log,
                seen: RefCell::default(),
            },
        })
    }

    /// The store.
    pub fn store(&self) -> &dyn Store {
        &self.store
    }

    /// Which life of the store this is: it changes when the file is made, replaced or restored.
    pub fn incarnation(&self) -> String {
        self.store.embedded().incarnation().to_string()
    }

    /// Runs something with the IPAM engine.
    pub fn with_engine<T>(&self, action: impl FnOnce(&Engine<'_>) -> T) -> T {
        let notices = |notice: &Notice| self.notices.show(notice);
        action(&Engine {
            store: self.store(),
            clock: &self.clock,
            host: &self.network,
            notices: &notices,
        })
    }

    /// The time, for records.
    pub fn now(&self) -> Timestamp {
        ipam::Clock::now(&self.clock)
    }

    /// Reads what an assignment needs and what can be read before the lock. It holds until the next commit.
    pub fn read_ahead(&self) -> Result<(), Error> {
        let filled = self.store.fill(&self.node);
        filled.map_err(|problem| error::store(&problem))
    }

    /// Waits for the host lock.
    pub fn lock(&self) -> Result<HostLock, Error> {
        self.lock_within(LOCK_LIMIT)
    }

    /// Waits for the host lock, but not longer than this.
    pub fn lock_within(&self, limit: Duration) -> Result<HostLock, Error> {
        let path = &self.settings.lock_file;
        HostLock::take(path, limit).map_err(|problem| {
            let message = format!("cannot lock {}: {problem}", path.display());
            Error::new(Code::TryAgainLater, message)
        })
    }

    /// Reads one object.
    pub fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        self.store().get(key).map_err(|problem| error::store(&problem))
    }

    /// Lists a range.
    pub fn list(&self, range: &KeyRange) -> Result<Listing, Error> {
        self.store().list(range).map_err(|problem| error::store(&problem))
    }

    /// Applies a batch of writes.
    pub fn commit(&self, writes: Vec<Write>) -> Result<(), Error> {
        let batch = datastore::Batch {
            writes,
            journal: Vec::new(),
        };
        self.store()
            .commit(&batch)
            .map(drop)
            .map_err(|problem| error::store(&problem))
    }

    /// The cluster information; `None` in a new store.
    pub fn cluster_information(&self) -> Result<Option<ClusterInformation>, Error> {
        let entry = self.get(&Key::resource(Kind::ClusterInformation, "default"))?;
        entry.map(|entry| decode(&entry)).transpose()
    }

    /// The record of an attachment, with the entry it came from.
    pub fn attachment(&self, id: &AttachmentId) -> Result<Option<(Attachment, Entry)>, Error> {
        let Some(entry) = self.get(&id.key())? else {
            return Ok(None);
        };
        Ok(Some((decode(&entry)?, entry)))
    }

    /// All attachments of this node whose addresses are allocated under a handle.
    pub fn attachments_of_handle(
        &self,
        handle: &str,
    ) -> Result<Vec<(AttachmentId, Attachment, Entry)>, Error> {
        let mut attachments = Vec::new();
        for (network, container_id) in AttachmentId::readings(handle) {
            attachments.extend(self.attachments(&format!("{network}/{container_id}/"))?);
        }
        Ok(attachments)
    }

    /// All attachments of this node whose key continues with `prefix` (`<network>/`, `<network>/<container>/`).
    /// Records that cannot be read are logged and left out.
    pub fn attachments(&self, prefix: &str) -> Result<Vec<(AttachmentId, Attachment, Entry)>, Error> {
        let range = KeyRange::Local {
            table: LocalTable::Attachment,
            prefix: format!("{}/{prefix}", self.node),
        };
        let mut attachments = Vec::new();
        for entry in self.list(&range)?.entries {
            match (AttachmentId::from_key(&entry.key), entry.decode::<Attachment>()) {
                (Some(id), Ok(attachment)) => attachments.push((id, attachment, entry)),
                (_, Err(problem)) => self.log.error(format_args!("{problem}; left out")),
                (None, _) => self
                    .log
                    .error(format_args!("{}: malformed key; left out", entry.key)),
            }
        }
        Ok(attachments)
    }
}

/// Decodes a stored object that an operation cannot do without.
pub fn decode<T: serde::de::DeserializeOwned>(entry: &Entry) -> Result<T, Error> {
    entry
        .decode()
        .map_err(|problem| Error::new(Code::InvalidConfig, format!("{problem}; repair or delete it")))
}

/// Shows each notice of the engine once: retries repeat them.
struct NoticeLog<'a> {
    log: &'a Log,
    seen: RefCell<Vec<Notice>>,
}

impl NoticeLog<'_> {
    fn show(&self, notice: &Notice) {
        let mut seen = self.seen.borrow_mut();
        if !seen.contains(notice) {
            self.log.warning(format_args!("{notice}"));
            seen.push(notice.clone());
        }
    }
}
