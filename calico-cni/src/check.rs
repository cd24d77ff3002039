// SPDX-License-Identifier: Apache-2.0
//! CHECK: is everything that ADD made still there, in the store and in the kernel on both sides. What chained plugins
//! may change counts as sound: the MTU of the container's side, further routes and addresses, and its MAC address as
//! the result of the whole chain has it.

use std::net::IpAddr;

use calico_ipam::{
    attachment::Attachment,
    error,
    log::Log,
    plugin::{KNOWN_ARGS, check_allocations, missing_prev_result},
    session::Session,
};
use cni_plugin::{AddResult, Attachment as Request, Call, Code, Error};
use datastore::Entry;
use ipnet::IpNet;
use kernel::{MacAddress, Namespace, Netlink, Opened};
use model::{Key, WorkloadEndpoint};

use crate::{
    addresses,
    config::Config,
    context::Context,
    inspect::{self, Findings, Neighbours},
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
    if let Some(key) = attachment.endpoint.as_deref().and_then(|key| key.parse().ok()) {
        findings.extend(compare_endpoint(
            session.get(&key)?.as_ref(),
            &key,
            &attachment,
            request,
        ));
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
    // The kernel forgets a device's neighbours, permanent ones too, when its MAC address changes.
    let recorded_mac = attachment.mac.as_deref().and_then(|mac| mac.parse().ok());
    let neighbours = if expected_mac == recorded_mac {
        Neighbours::Needed
    } else {
        Neighbours::IfAny
    };
    let inside = context
        .namespace
        .visit(|| inspect::container_side(&plan, expected_mac, neighbours));
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

/// The endpoint has to say what policy and routes of others are made from.
fn compare_endpoint(
    stored: Option<&Entry>,
    key: &Key,
    attachment: &Attachment,
    request: &Request,
) -> Findings {
    let Some(stored) = stored else {
        return vec![format!("{key} is missing from the store")];
    };
    let spec = match stored.decode::<WorkloadEndpoint>() {
        Ok(endpoint) => endpoint.spec,
        Err(problem) => return vec![problem.to_string()],
    };
    let expected: Vec<IpAddr> = attachment
        .addresses
        .iter()
        .map(|attached| attached.address)
        .collect();
    let addresses: Vec<IpAddr> = spec.ip_networks.iter().map(IpNet::addr).collect();
    let interface = attachment.host_interface.clone().unwrap_or_default();
    [
        ("ipNetworks", addresses == expected),
        ("interfaceName", spec.interface_name == interface),
        ("containerID", spec.container_id == request.container_id.as_str()),
    ]
    .into_iter()
    .filter(|(_, holds)| !holds)
    .map(|(field, _)| format!("{key} has another {field}"))
    .collect()
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
