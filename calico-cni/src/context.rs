// SPDX-License-Identifier: Apache-2.0
//! One attachment at work: the session, what is asked for, who the container is and where. Shared by ADD and CHECK,
//! so that CHECK compares with the very plan that ADD carries out.

use calico_ipam::{attachment::AttachedAddress, live, session::Session};
use cni_plugin::{Attachment as Request, Call};
use kernel::{MacAddress, Namespace};

use crate::{addresses, config::Config, plan::Plan, workload::Workload};

/// What ADD and CHECK work with once everything is read.
pub(crate) struct Context<'a> {
    pub(crate) session: &'a Session<'a>,
    pub(crate) config: &'a Config,
    pub(crate) call: &'a Call,
    pub(crate) request: &'a Request,
    pub(crate) workload: Workload,
    pub(crate) namespace: Namespace,
}

impl Context<'_> {
    /// What the interface of this attachment is to be.
    pub(crate) fn plan<'p>(
        &'p self,
        host_interface: &'p str,
        mac: MacAddress,
        mtu: Option<u32>,
        attached: &[AttachedAddress],
    ) -> Plan<'p> {
        Plan {
            host_interface,
            interface: self.request.interface.as_str(),
            alias: live::alias(&self.workload.id),
            mac,
            mtu,
            queues: self.config.queues,
            device: self.config.device,
            addresses: attached.iter().map(|attached| attached.address).collect(),
            destinations: addresses::destinations(self.config, attached),
            allow_ip_forwarding: self.config.allow_ip_forwarding,
            allow_other_sources: !self.config.annotations.allowed_source_prefixes.is_empty(),
            replaces_any: true,
        }
    }
}
