// SPDX-License-Identifier: Apache-2.0
//! What ADD writes into the store beside the addresses, and how it is taken back.

use calico_ipam::{
    attachment::{AttachedAddress, AttachedDns, Attachment},
    interface_record, live,
    release::{self, Cause},
    session::Session,
};
use cni_plugin::{Code, Error};
use datastore::{Entry, Write};
use kernel::MacAddress;
use model::WorkloadEndpoint;

use crate::{context::Context, interface_name::Choice, workload::Wiring};

impl Context<'_> {
    /// The record is still there once the interface is: otherwise a DEL came in between, found no interface to remove,
    /// and nobody would ever remove this one.
    pub(super) fn require_record(&self, host_interface: &str) -> Result<(), Error> {
        let record = self.session.attachment(&self.workload.id)?;
        if record.is_some_and(|(attachment, _)| attachment.host_interface.as_deref() == Some(host_interface))
        {
            return Ok(());
        }
        let message = format!(
            "{} {} was deleted while it was being added",
            self.workload.id.handle(),
            self.workload.id.interface
        );
        Err(Error::new(Code::TryAgainLater, message))
    }

    /// The endpoint that is stored under this workload's name, if any: an earlier sandbox's of the same pod. Endpoints
    /// are not named after networks, so it can also be that of the same interface on another network.
    pub(super) fn stored_endpoint(&self) -> Result<Option<Entry>, Error> {
        let Ok(name) = self.workload.endpoint_name() else {
            return Ok(None);
        };
        let key = model::Key::namespaced(
            model::Kind::WorkloadEndpoint,
            self.workload.endpoint_namespace(),
            name,
        );
        let Some(entry) = self.session.get(&key)? else {
            return Ok(None);
        };
        // One that cannot be read is replaced.
        let Ok(stored) = entry.decode::<WorkloadEndpoint>() else {
            return Ok(Some(entry));
        };
        let id = &self.workload.id;
        let owner = interface_record::owner(self.session, &stored.spec.interface_name)?;
        let owner = owner.map(|(owner, _)| owner.attachment(&id.node));
        if let Some(owner) = owner.filter(|owner| owner.container_id == id.container_id && owner != id)
            && self.session.attachment(&owner)?.is_some()
            && live::exists(&stored.spec.interface_name)
                .map_err(|problem| calico_ipam::error::kernel(&problem))?
        {
            let message = format!(
                "container {} has interface {} on network {} already",
                id.container_id, id.interface, owner.network
            );
            return Err(Error::new(Code::InvalidConfig, message)
                .details("choose another CNI_IFNAME, or run DEL of that network"));
        }
        Ok(Some(entry))
    }

    pub(super) fn records(
        &self,
        choice: &Choice,
        (mac, mtu): (MacAddress, Option<u32>),
        attached: &[AttachedAddress],
        dns: &AttachedDns,
        stored_endpoint: Option<&Entry>,
        random: [u8; 16],
    ) -> Vec<Write> {
        let Self {
            session,
            config,
            workload,
            ..
        } = self;
        let (mac, addresses) = (
            mac.to_string(),
            attached.iter().map(|one| one.address).collect::<Vec<_>>(),
        );
        let wiring = Wiring {
            host_interface: &choice.name,
            mac: &mac,
            addresses: &addresses,
            annotations: &config.annotations,
        };
        let endpoint = match workload.endpoint(&wiring) {
            Ok(endpoint) => Some(endpoint),
            Err(problem) => {
                session
                    .log
                    .warning(format_args!("no WorkloadEndpoint is stored: {problem}"));
                None
            }
        };
        let attachment = Attachment {
            created: session.now().unix_seconds(),
            namespace_path: self.request.netns.clone(),
            pod: workload.pod.clone(),
            host_interface: Some(choice.name.clone()),
            mac: Some(mac.clone()),
            mtu: mtu.unwrap_or_default(),
            addresses: attached.to_vec(),
            delegated_ipam: (!config.is_own_ipam()).then(|| config.ipam_type.clone()),
            endpoint: endpoint.as_ref().map(|endpoint| endpoint.key().to_string()),
            dns: dns.clone(),
        };
        let mut writes = vec![Write::create(workload.id.key(), &attachment)];
        writes.extend(choice.write.clone());
        writes.extend(endpoint.map(|endpoint| write_endpoint(session, endpoint, stored_endpoint, random)));
        writes
    }

    pub(super) fn release(&self) -> Result<(), String> {
        let Self {
            session, workload, ..
        } = self;
        let release = || {
            let _lock = session.lock()?;
            let record = session.attachment(&workload.id)?;
            let record = record.as_ref().map(|(attachment, entry)| (attachment, entry));
            release::release(session, &workload.id, record, Cause::FailedAdd)
        };
        release().map(drop).map_err(|problem: Error| problem.to_string())
    }

    /// Puts records back that were an earlier sandbox's, unless somebody has made new ones.
    pub(super) fn restore(&self, previous: &[Entry]) -> Result<(), String> {
        let put_back = |entry: &Entry| {
            if self.session.get(&entry.key)?.is_some() {
                return Ok(());
            }
            let (key, value) = (entry.key.clone(), entry.value.clone());
            self.session.commit(vec![Write::Create { key, value }])
        };
        let restored: Result<(), Error> = previous.iter().try_for_each(put_back);
        restored.map_err(|problem| problem.to_string())
    }
}

/// Creates the endpoint, or replaces the one of an earlier sandbox, keeping what others added to its metadata.
fn write_endpoint(
    session: &Session<'_>,
    mut endpoint: WorkloadEndpoint,
    stored: Option<&Entry>,
    random: [u8; 16],
) -> Write {
    let key = endpoint.key();
    if let Some(entry) = stored {
        if let Ok(earlier) = entry.decode::<WorkloadEndpoint>() {
            endpoint.metadata.uid = earlier.metadata.uid;
            endpoint.metadata.creation_timestamp = earlier.metadata.creation_timestamp;
            endpoint.metadata.annotations = earlier.metadata.annotations;
        }
        return Write::update(key, &endpoint, entry.revision);
    }
    endpoint.metadata.complete(random, session.now());
    Write::create(key, &endpoint)
}
