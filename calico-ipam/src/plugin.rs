// SPDX-License-Identifier: Apache-2.0
//! The IPAM plugin as a program of its own: for other interface plugins, and for Calico's own. It answers as
//! Calico's does: addresses with the mask of their block, one route per address.

use std::net::IpAddr;

use cni_plugin::{AddResult, Attachment as Request, Call, Code, ContainerId, Error, IpConfig, Plugin, Route};
use datastore::Write;
use ipam::Assigned;
use ipnet::IpNet;

use crate::{
    assign::{self, Wanted},
    attachment::{AttachedAddress, Attachment, AttachmentId, Pod},
    collect, error,
    log::Log,
    release::{self, Cause},
    session::Session,
    settings::Settings,
    status,
};

/// The name in log lines.
const COMPONENT: &str = "ipam-plugin";
/// The keys of `CNI_ARGS` that are understood; Kubernetes' are always sent with IgnoreUnknown.
pub const KNOWN_ARGS: [&str; 7] = [
    "IP",
    "MAC",
    "K8S_POD_NAMESPACE",
    "K8S_POD_NAME",
    "K8S_POD_INFRA_CONTAINER_ID",
    "K8S_POD_UID",
    "CNI_TEST_NAMESPACE",
];

/// The program `calico-ipam`.
#[derive(Clone, Copy, Debug, Default)]
pub struct IpamPlugin;

impl Plugin for IpamPlugin {
    fn about(&self) -> String {
        format!("Calico CNI IPAM {}", env!("CARGO_PKG_VERSION"))
    }

    fn add(&self, call: &Call, request: &Request) -> Result<AddResult, Error> {
        with_session(call, |session| add(session, call, request))
    }

    fn del(&self, call: &Call, request: &Request) -> Result<(), Error> {
        with_session(call, |session| {
            request.args.require_known(&KNOWN_ARGS)?;
            let id = attachment_id(session, request);
            let _lock = session.lock()?;
            let record = session.attachment(&id)?;
            let record = record.as_ref().map(|(attachment, entry)| (attachment, entry));
            release::release(session, &id, record, Cause::Del).map(drop)
        })
    }

    fn check(&self, call: &Call, request: &Request) -> Result<(), Error> {
        with_session(call, |session| {
            let result = call.config.prev_result.as_ref().ok_or_else(missing_prev_result)?;
            let addresses: Vec<IpAddr> = result.ips.iter().map(|ip| ip.address.addr()).collect();
            check_allocations(session, &attachment_id(session, request), &addresses)
        })
    }

    fn status(&self, call: &Call) -> Result<(), Error> {
        let settings = Settings::read(call)?;
        let log = Log::open(COMPONENT, &settings.log);
        status::check(&settings, &log)
    }

    fn gc(&self, call: &Call) -> Result<(), Error> {
        let Some(valid) = &call.config.valid_attachments else {
            return Ok(());
        };
        with_session(call, |session| {
            let _lock = session.lock()?;
            // Interfaces are other plugins' here; one that lives keeps its address.
            all(collect::collect(session, valid, |_, _| Ok(())))
        })
    }
}

fn with_session<T>(call: &Call, action: impl FnOnce(&Session<'_>) -> Result<T, Error>) -> Result<T, Error> {
    let settings = Settings::read(call)?;
    let log = Log::open(COMPONENT, &settings.log);
    let result = Session::open(&settings, &log).and_then(|session| action(&session));
    if let Err(problem) = &result {
        log.error(format_args!("{}: {problem}", call.command.name()));
    }
    result
}

/// The attachment a request is about.
pub fn attachment_id(session: &Session<'_>, request: &Request) -> AttachmentId {
    AttachmentId {
        node: session.node.clone(),
        network: session.settings.network.clone(),
        container_id: request.container_id.as_str().to_owned(),
        interface: request.interface.as_str().to_owned(),
    }
}

/// The pod of a request: namespace and name together, as only the two identify one.
pub fn pod(request: &Request) -> Option<Pod> {
    let value = |key| request.args.value(key).map(str::to_owned);
    Some(Pod {
        namespace: value("K8S_POD_NAMESPACE")?,
        name: value("K8S_POD_NAME")?,
    })
}

/// Refuses names of pods and namespaces that cannot be part of a key. For ADD: what it refuses, DEL never meets.
pub fn require_names(request: &Request) -> Result<(), Error> {
    for key in ["K8S_POD_NAMESPACE", "K8S_POD_NAME", "CNI_TEST_NAMESPACE"] {
        let value = request.args.value(key).filter(|value| !value.is_empty());
        if let Some(problem) = value.and_then(|value| value.parse::<ContainerId>().err()) {
            let message = format!("environment variable CNI_ARGS: {key}: {problem}");
            return Err(Error::new(Code::InvalidEnvironment, message));
        }
    }
    Ok(())
}

/// Several failures as one error.
pub fn all(failures: Vec<Error>) -> Result<(), Error> {
    let mut failures = failures.into_iter();
    let Some(first) = failures.next() else {
        return Ok(());
    };
    let others: Vec<String> = failures.map(|failure| failure.to_string()).collect();
    if others.is_empty() {
        Err(first)
    } else {
        Err(Error {
            details: others.join("; "),
            ..first
        })
    }
}

/// The error of a CHECK without the result to compare with.
pub fn missing_prev_result() -> Error {
    Error::new(
        Code::InvalidConfig,
        "network configuration: \"prevResult\" is missing; CHECK compares with it",
    )
}

/// Fails unless each address is allocated to this container.
pub fn check_allocations(
    session: &Session<'_>,
    id: &AttachmentId,
    addresses: &[IpAddr],
) -> Result<(), Error> {
    let handle = id.handle();
    for address in addresses {
        let found = session.with_engine(|engine| engine.allocation(*address));
        let found = found.map_err(|problem| error::access(&problem))?;
        let holder = found
            .filter(|allocation| !allocation.cooling)
            .and_then(|allocation| allocation.handle);
        if holder.as_deref() != Some(&handle) {
            let holder = holder.map_or_else(|| "nobody".to_owned(), |holder| format!("{holder:?}"));
            let message = format!("CHECK: {address} is allocated to {holder}, not to {handle:?}");
            return Err(Error::new(Code::Internal, message));
        }
    }
    Ok(())
}

fn add(session: &Session<'_>, call: &Call, request: &Request) -> Result<AddResult, Error> {
    request.args.require_known(&KNOWN_ARGS)?;
    require_names(request)?;
    let specific = assign::requested_addresses(request.args.value("IP"), &call.config.runtime.ips)?;
    assign::prepare(session)?;
    let id = attachment_id(session, request);
    session.read_ahead()?;
    let _lock = session.lock()?;
    if let Some((attachment, _)) = session.attachment(&id)? {
        return existing(session, &attachment, &specific);
    }
    let pod = pod(request);
    let now = session.now();
    let mut attributes = std::collections::BTreeMap::from([
        ("node".to_owned(), session.node.clone()),
        ("timestamp".to_owned(), now.go_string()),
    ]);
    if let Some(pod) = &pod {
        attributes.insert("pod".to_owned(), pod.name.clone());
        attributes.insert("namespace".to_owned(), pod.namespace.clone());
    }
    let addresses = &session.settings.addresses;
    let wanted = Wanted {
        handle: id.handle(),
        attributes,
        v4: addresses.v4,
        v6: addresses.v6,
        pools_v4: addresses.pools_v4.clone(),
        pools_v6: addresses.pools_v6.clone(),
        specific,
    };
    let assigned = assign::assign(session, &wanted, &mut |assigned| {
        let attached = |one: &Assigned| AttachedAddress {
            address: one.address,
            sequence: Some(one.sequence),
        };
        let attachment = Attachment {
            created: now.unix_seconds(),
            namespace_path: request.netns.clone(),
            pod: pod.clone(),
            addresses: assigned.iter().map(attached).collect(),
            ..Attachment::default()
        };
        vec![Write::create(id.key(), &attachment)]
    })?;
    for one in &assigned {
        session.log.info(format_args!(
            "assigned {} of block {} to {}",
            one.address, one.block, wanted.handle
        ));
    }
    Ok(result(assigned.iter().map(|one| {
        (one.address, one.block, wanted.specific.contains(&one.address))
    })))
}

/// The answer to a repeated ADD: the addresses of the first.
fn existing(session: &Session<'_>, attachment: &Attachment, specific: &[IpAddr]) -> Result<AddResult, Error> {
    let mut addresses = Vec::new();
    for attached in &attachment.addresses {
        let found = session.with_engine(|engine| engine.allocation(attached.address));
        let found = found.map_err(|problem| error::access(&problem))?.ok_or_else(|| {
            let message = format!(
                "{} of this attachment is not allocated any more; run DEL, then ADD",
                attached.address
            );
            Error::new(Code::Internal, message)
        })?;
        let exact = specific.contains(&attached.address);
        addresses.push((attached.address, found.assigned.block, exact));
    }
    Ok(result(addresses.into_iter()))
}

/// Calico's IPAM answer: the block's mask, or the full one for an address that was asked for; a route for each.
fn result(addresses: impl Iterator<Item = (IpAddr, IpNet, bool)>) -> AddResult {
    let mut result = AddResult::default();
    for (address, block, exact) in addresses {
        let length = if exact {
            block.max_prefix_len()
        } else {
            block.prefix_len()
        };
        // The length is one of this family's, so the prefix exists.
        let Ok(address) = IpNet::new(address, length) else {
            continue;
        };
        result.ips.push(IpConfig {
            interface: None,
            address,
            gateway: None,
        });
        // Calico leaves the host's bits in, which the kernel refuses from plugins that set the route as it is.
        result.routes.push(Route::new(address.trunc(), None));
    }
    result
}
