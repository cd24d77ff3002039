// SPDX-License-Identifier: Apache-2.0
//! CHECK: is everything that ADD made still there, in the store and in the kernel on both sides. What chained plugins
//! may change (MAC and MTU of the container's side, further routes and addresses) is compared with the result of the
//! whole chain, not with what ADD wrote.

use std::net::IpAddr;

use calico_ipam::{
    attachment::Attachment,
    error,
    log::Log,
    plugin::{KNOWN_ARGS, check_allocations, missing_prev_result},
    session::Session,
};
use cni_plugin::{AddResult, Attachment as Request, Call, Code, Error};
use kernel::{MacAddress, Namespace, Netlink, Opened};

use crate::{
    addresses,
    config::Config,
    context::Context,
    inspect::{self, Findings},
    plan::HOST_MAC,
    workload::Workload,
};

/// Serves CHECK.
pub fn check(config: &Config, log: &Log, call: &Call, request: &Request) -> Result<(), Error> {
    request.args.require_known(&KNOWN_ARGS)?;
    let result = call.config.prev_result.as_ref().ok_or_else(missing_prev_result)?;
    let session = Session::open(&config.settings, log)?;
    let workload = Workload::of(&session, config, request);
    let Some((attachment, _)) = session.attachment(&workload.id)? else {
        let message = format!(
            "CHECK: node {} has no record of {} {}",
            session.node,
            workload.id.handle(),
            workload.id.interface
        );
        return Err(Error::new(Code::Internal, message).details("run ADD, or DEL and ADD"));
    };
    let path = request
        .netns
        .as_deref()
        .unwrap_or_else(|| std::path::Path::new(""));
    let namespace = match Namespace::open(path).map_err(|problem| error::kernel(&problem))? {
        Opened::Namespace(namespace) => namespace,
        Opened::Missing | Opened::NotANamespace => {
            let message = format!("CHECK: CNI_NETNS {} is gone", path.display());
            return Err(Error::new(Code::InvalidEnvironment, message));
        }
    };
    if config.is_own_ipam() {
        let managed = attachment
            .addresses
            .iter()
            .filter(|attached| attached.sequence.is_some());
        let managed: Vec<IpAddr> = managed.map(|attached| attached.address).collect();
        check_allocations(&session, &workload.id, &managed)?;
    } else {
        addresses::run_delegate(config, call)?;
    }
    let mut findings = compare_result(result, &attachment, request);
    if let Some(key) = attachment.endpoint.as_deref().and_then(|key| key.parse().ok())
        && session.get(&key)?.is_none()
    {
        findings.push(format!("{key} is missing from the store"));
    }
    let context = Context {
        session: &session,
        config,
        call,
        request,
        workload,
        namespace,
    };
    let name = attachment.host_interface.clone().unwrap_or_default();
    let expected_mac = result_mac(result, request);
    let mtu = Some(attachment.mtu).filter(|mtu| *mtu > 0);
    let plan = context.plan(
        &name,
        expected_mac.unwrap_or(HOST_MAC),
        mtu,
        &attachment.addresses,
    );
    let mut host = Netlink::open().map_err(|problem| error::kernel(&problem))?;
    findings.extend(inspect::host_side(&plan, &mut host).map_err(|problem| error::kernel(&problem))?);
    let inside = context
        .namespace
        .visit(|| inspect::container_side(&plan, expected_mac));
    let (_, more) = inside
        .and_then(|result| result)
        .map_err(|problem| error::kernel(&problem))?;
    findings.extend(more);
    if findings.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Code::Internal,
        format!("CHECK: {}", findings.join("; ")),
    ))
}

/// The result has to be about this attachment: an interface of this name in this namespace, with these addresses.
fn compare_result(result: &AddResult, attachment: &Attachment, request: &Request) -> Findings {
    let mut findings = Findings::new();
    let sandbox = request
        .netns
        .as_deref()
        .map(|path| path.display().to_string())
        .unwrap_or_default();
    let ours = |interface: &cni_plugin::Interface| {
        interface.name == request.interface.as_str() && interface.sandbox == sandbox
    };
    if !result.interfaces.is_empty() && !result.interfaces.iter().any(ours) {
        findings.push(format!(
            "prevResult has no interface {} in {sandbox}",
            request.interface
        ));
    }
    for attached in &attachment.addresses {
        if !result.ips.iter().any(|ip| ip.address.addr() == attached.address) {
            findings.push(format!("prevResult lacks {}", attached.address));
        }
    }
    findings
}

fn result_mac(result: &AddResult, request: &Request) -> Option<MacAddress> {
    let interface = result
        .interfaces
        .iter()
        .find(|interface| interface.name == request.interface.as_str() && !interface.sandbox.is_empty())?;
    interface.mac.parse().ok()
}
