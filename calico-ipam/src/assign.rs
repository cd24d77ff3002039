// SPDX-License-Identifier: Apache-2.0
//! Getting the addresses of an attachment, with everything DEL will need in the same transaction.

use std::{collections::BTreeMap, net::IpAddr};

use cni_plugin::{Code, Error};
use datastore::Write;
use ipam::{AssignError, AssignRequest, Assigned, PoolReference, SpecificRequest};
use model::ip_pool::AllowedUse;

use crate::{cluster, error, recovery, release, session::Session};

/// Which addresses an attachment is to get.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// What they are released by.
    pub handle: String,
    /// Stored with each of them.
    pub attributes: BTreeMap<String, String>,
    /// One of IPv4.
    pub v4: bool,
    /// One of IPv6.
    pub v6: bool,
    /// Pools to take the IPv4 address from; empty for all that qualify.
    pub pools_v4: Vec<PoolReference>,
    /// Pools to take the IPv6 address from.
    pub pools_v6: Vec<PoolReference>,
    /// These addresses and no others.
    pub specific: Vec<IpAddr>,
}

/// Makes the store ready for an assignment: reconciled, not locked, nothing waiting. A few reads when it is.
pub fn prepare(session: &Session<'_>) -> Result<(), Error> {
    recovery::reconcile(session)?;
    cluster::require_ready(session)?;
    release::replay(session)
}

/// Assigns all wanted addresses or none, and commits `companions` with them. The caller holds the host lock.
pub fn assign(
    session: &Session<'_>,
    wanted: &Wanted,
    companions: &mut dyn FnMut(&[Assigned]) -> Vec<Write>,
) -> Result<Vec<Assigned>, Error> {
    if !wanted.specific.is_empty() {
        let request = SpecificRequest {
            node: session.node.clone(),
            handle: wanted.handle.clone(),
            attributes: wanted.attributes.clone(),
            addresses: wanted.specific.clone(),
            intended_use: Some(AllowedUse::Workload),
            cause: "ADD".to_owned(),
        };
        let assigned = session.with_engine(|engine| engine.assign_specific(&request, companions));
        return assigned.map_err(|problem| error::assign_specific(&problem));
    }
    if !wanted.v4 && !wanted.v6 {
        let message =
            "neither IPv4 nor IPv6 is wanted; set \"assign_ipv4\" or \"assign_ipv6\" of \"ipam\" to \"true\"";
        return Err(Error::new(Code::InvalidConfig, message));
    }
    let request = AssignRequest {
        attributes: wanted.attributes.clone(),
        v4: wanted.v4.into(),
        v6: wanted.v6.into(),
        pools_v4: wanted.pools_v4.clone(),
        pools_v6: wanted.pools_v6.clone(),
        ..AssignRequest::new(&session.node, &wanted.handle, "ADD")
    };
    let mut attempt = || session.with_engine(|engine| engine.auto_assign(&request, companions));
    let assigned = match attempt() {
        // Somebody deleted the Node; it is this host, and it is here.
        Err(AssignError::NodeUnknown { .. }) => {
            cluster::register_node(session)?;
            attempt()
        }
        other => other,
    };
    assigned
        .map(|assignment| assignment.addresses)
        .map_err(|problem| error::assign(&problem))
}

/// Reads a request for given addresses, of `CNI_ARGS` (`IP=`) or `runtimeConfig.ips`: at most one per family.
pub fn requested_addresses(argument: Option<&str>, runtime: &[IpAddr]) -> Result<Vec<IpAddr>, Error> {
    // runtimeConfig wins over CNI_ARGS, as in the reference plugins.
    let addresses = if runtime.is_empty() {
        match argument {
            None => Vec::new(),
            Some(text) => text
                .split(',')
                .map(|part| part.trim().split('/').next().unwrap_or_default().parse())
                .collect::<Result<_, _>>()
                .map_err(|_| {
                    let message = format!("environment variable CNI_ARGS: IP={text}: not an IP address");
                    Error::new(Code::InvalidEnvironment, message)
                })?,
        }
    } else {
        runtime.to_vec()
    };
    let v4 = addresses.iter().filter(|address| address.is_ipv4()).count();
    if v4 > 1 || addresses.len() - v4 > 1 {
        let message = format!(
            "more than one address of a family is requested: {addresses:?}; request one of each at most"
        );
        return Err(Error::new(Code::InvalidConfig, message));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_from_both_places() {
        let runtime: Vec<IpAddr> = vec!["10.0.0.9".parse().unwrap(), "fd00::9".parse().unwrap()];
        assert_eq!(requested_addresses(Some("10.0.0.1"), &runtime).unwrap(), runtime);
        assert_eq!(
            requested_addresses(Some("10.0.0.1/24"), &[]).unwrap(),
            ["10.0.0.1".parse::<IpAddr>().unwrap()]
        );
        assert_eq!(requested_addresses(None, &[]).unwrap(), Vec::<IpAddr>::new());
        assert!(
            requested_addresses(Some("10.0.0"), &[])
                .unwrap_err()
                .message
                .contains("IP=10.0.0")
        );
        assert!(requested_addresses(Some("10.0.0.1,10.0.0.2"), &[]).is_err());
    }
}
