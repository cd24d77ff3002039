// SPDX-License-Identifier: Apache-2.0
//! Where an attachment's addresses come from: our IPAM in process, another IPAM plugin, or the pod's annotations.
//! Whatever the source, they are committed together with the attachment's records before the kernel is touched.

use std::{net::IpAddr, time::Duration};

use calico_ipam::{
    assign::{self, Wanted},
    attachment::AttachedAddress,
    session::Session,
};
use cni_plugin::{AddResult, Attachment as Request, Call, Code, Command, Delegate, Dns, Error, IpConfig};
use datastore::Write;
use ipam::Assigned;
use ipnet::IpNet;
use model::{Key, Kind, Node, prefix};
use serde_json::{Map, Value};

use crate::{config::Config, workload::Workload};

/// How long another IPAM plugin may take; below the patience of every runtime.
const DELEGATE_LIMIT: Duration = Duration::from_secs(60);

/// What an attachment got.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Obtained {
    /// The addresses, in the order of the result.
    pub addresses: Vec<AttachedAddress>,
    /// Resolver settings of the IPAM plugin.
    pub dns: Dns,
}

/// Makes the records of an attachment from its addresses.
pub type Records<'a> = dyn FnMut(&[AttachedAddress]) -> Vec<Write> + 'a;

/// Gets addresses from our own IPAM, or from the annotation that goes past IPAM. The caller holds the host lock.
pub fn obtain(
    session: &Session<'_>,
    config: &Config,
    workload: &Workload,
    call: &Call,
    request: &Request,
    records: &mut Records<'_>,
) -> Result<Obtained, Error> {
    let annotations = &config.annotations;
    if !annotations.addresses_without_ipam.is_empty() {
        if !config.allow_addresses_without_ipam {
            let message = "annotation cni.projectcalico.org/ipAddrsNoIpam is not allowed; set \
                           \"feature_control.ip_addrs_no_ipam\": true";
            return Err(Error::new(Code::InvalidConfig, message));
        }
        let unmanaged = |address: &IpAddr| AttachedAddress {
            address: *address,
            sequence: None,
        };
        let addresses: Vec<AttachedAddress> =
            annotations.addresses_without_ipam.iter().map(unmanaged).collect();
        session.commit(records(&addresses))?;
        return Ok(Obtained {
            addresses,
            dns: Dns::default(),
        });
    }
    let settings = &session.settings.addresses;
    let specific = if annotations.addresses.is_empty() {
        assign::requested_addresses(request.args.value("IP"), &call.config.runtime.ips)?
    } else {
        annotations.addresses.clone()
    };
    let pools = |annotated: &Option<Vec<String>>, configured: &[ipam::PoolReference]| match annotated {
        Some(names) => names
            .iter()
            .map(|name| ipam::PoolReference::from(name.as_str()))
            .collect(),
        None => configured.to_vec(),
    };
    let (v4, v6) = annotations.families.unwrap_or((settings.v4, settings.v6));
    let wanted = Wanted {
        handle: workload.id.handle(),
        attributes: workload.allocation_attributes(session.now().go_string()),
        v4,
        v6,
        pools_v4: pools(&annotations.ipv4_pools, &settings.pools_v4),
        pools_v6: pools(&annotations.ipv6_pools, &settings.pools_v6),
        specific,
    };
    let attached = |one: &Assigned| AttachedAddress {
        address: one.address,
        sequence: Some(one.sequence),
    };
    let assigned = assign::assign(session, &wanted, &mut |assigned| {
        let addresses: Vec<AttachedAddress> = assigned.iter().map(attached).collect();
        records(&addresses)
    })?;
    Ok(Obtained {
        addresses: assigned.iter().map(attached).collect(),
        dns: Dns::default(),
    })
}

/// Gets addresses from another IPAM plugin. The records are the caller's to commit.
pub fn delegate(session: &Session<'_>, config: &Config, call: &Call) -> Result<Obtained, Error> {
    if !config.annotations.addresses.is_empty() || !config.annotations.addresses_without_ipam.is_empty() {
        let message = format!(
            "annotations ipAddrs and ipAddrsNoIpam need \"ipam.type\": \"calico-ipam\", not {:?}",
            config.ipam_type
        );
        return Err(Error::new(Code::InvalidConfig, message));
    }
    let tree = substitute_pod_cidrs(call, |v6| pod_cidr(session, v6))?;
    let result = Delegate::find(call, &config.ipam_type, DELEGATE_LIMIT)?
        .config(tree)
        .add()?;
    if result.ips.is_empty() {
        let _ = release_delegate(config, call);
        let message = format!("IPAM plugin {:?} returned missing IP config", config.ipam_type);
        return Err(Error::new(Code::Internal, message));
    }
    Ok(obtained(result))
}

fn obtained(result: AddResult) -> Obtained {
    let address = |ip: &IpConfig| AttachedAddress {
        address: ip.address.addr(),
        sequence: None,
    };
    Obtained {
        addresses: result.ips.iter().map(address).collect(),
        dns: result.dns,
    }
}

/// Runs DEL of another IPAM plugin.
pub fn release_delegate(config: &Config, call: &Call) -> Result<(), Error> {
    // Which addresses a node has is not asked here: a release must not need anything.
    let any = |v6: bool| Ok(if v6 { "::/0" } else { "0.0.0.0/0" }.to_owned());
    let tree = substitute_pod_cidrs(call, any)?;
    Delegate::find(call, &config.ipam_type, DELEGATE_LIMIT)?
        .config(tree)
        .run(Command::Del)
}

/// Runs CHECK, STATUS or GC of another IPAM plugin.
pub fn run_delegate(config: &Config, call: &Call) -> Result<(), Error> {
    Delegate::find(call, &config.ipam_type, DELEGATE_LIMIT)?.run(call.command)
}

/// The configuration with `usePodCidr` and `usePodCidrIPv6` replaced, wherever host-local reads a subnet.
fn substitute_pod_cidrs(
    call: &Call,
    cidr: impl Fn(bool) -> Result<String, Error>,
) -> Result<Map<String, Value>, Error> {
    let mut tree = call.config.tree().clone();
    let Some(Value::Object(ipam)) = tree.get_mut("ipam") else {
        return Ok(tree);
    };
    let replace = |range: &mut Value| -> Result<(), Error> {
        let Some(Value::String(subnet)) = range.get_mut("subnet") else {
            return Ok(());
        };
        match subnet.to_ascii_lowercase().as_str() {
            "usepodcidr" => *subnet = cidr(false)?,
            "usepodcidripv6" => *subnet = cidr(true)?,
            _ => {}
        }
        Ok(())
    };
    if let Some(Value::Array(sets)) = ipam.get_mut("ranges") {
        for range in sets.iter_mut().filter_map(Value::as_array_mut).flatten() {
            replace(range)?;
        }
    }
    let mut section = Value::Object(std::mem::take(ipam));
    replace(&mut section)?;
    tree.insert("ipam".to_owned(), section);
    Ok(tree)
}

/// The pod prefix of this node (`status.podCIDRs` of its Node resource).
fn pod_cidr(session: &Session<'_>, v6: bool) -> Result<String, Error> {
    let key = Key::resource(Kind::Node, &session.node);
    let node: Option<Node> = session
        .get(&key)?
        .map(|entry| calico_ipam::session::decode(&entry))
        .transpose()?;
    let status = node.as_ref().and_then(|node| node.status.as_ref());
    let cidrs = status
        .and_then(|status| status.get("podCIDRs"))
        .and_then(Value::as_array);
    let cidrs = cidrs.into_iter().flatten().filter_map(Value::as_str);
    let of_family = |text: &&str| {
        text.parse::<IpNet>()
            .is_ok_and(|net| matches!(net, IpNet::V6(_)) == v6)
    };
    cidrs.clone().find(of_family).map(str::to_owned).ok_or_else(|| {
        let family = if v6 { "IPv6" } else { "IPv4" };
        let message = format!(
            "\"usePodCidr\" needs an {family} entry in status.podCIDRs of Node {}, and there is none; write the \
             prefix into \"ipam.subnet\" instead",
            session.node
        );
        Error::new(Code::InvalidConfig, message)
    })
}

/// Where the container's routes lead: everywhere, unless another IPAM plugin's configuration says otherwise.
pub fn destinations(config: &Config, addresses: &[AttachedAddress]) -> Vec<IpNet> {
    let default = |v6: bool| -> Option<IpNet> { if v6 { "::/0" } else { "0.0.0.0/0" }.parse().ok() };
    let mut destinations = Vec::new();
    if config.is_own_ipam() || config.custom_routes.is_empty() || config.include_default_routes {
        for v6 in [false, true] {
            if addresses.iter().any(|attached| attached.address.is_ipv6() == v6) {
                destinations.extend(default(v6));
            }
        }
    }
    if !config.is_own_ipam() {
        let custom = config
            .custom_routes
            .iter()
            .filter(|route| !destinations.contains(route));
        let custom: Vec<IpNet> = custom.map(IpNet::trunc).collect();
        destinations.extend(custom);
    }
    destinations
}

/// An address as results and endpoints show it.
pub fn full_prefix(address: IpAddr) -> IpNet {
    prefix::host_prefix(address)
}
