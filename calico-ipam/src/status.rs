// SPDX-License-Identifier: Apache-2.0
//! Whether ADD could be served now, from local facts in a few milliseconds: the store opens and is not locked, its
//! folders can be written, and a pool is there. Code 50 otherwise.

use std::time::Duration;

use cni_plugin::{Code, Error};
use ipnet::IpNet;
use model::{IpPool, KeyRange, Kind};

use crate::{assign, log::Log, session::Session, settings::Settings};

/// How long to wait for other plugins: runtimes ask every few seconds.
const LOCK_LIMIT: Duration = Duration::from_secs(4);

/// Fails with code 50 if ADD could not be served.
pub fn check(settings: &Settings, log: &Log) -> Result<(), Error> {
    let unavailable = |error: Error| {
        Error {
            code: Code::NotAvailable,
            ..error
        }
        .context("calico cannot serve ADD now")
    };
    let session = Session::open(settings, log).map_err(unavailable)?;
    // The lock and the reconciliation are what the first ADD would begin with; done here, they are done.
    session.lock_within(LOCK_LIMIT).map(drop).map_err(unavailable)?;
    assign::prepare(&session).map_err(unavailable)?;
    let pools = session.list(&KeyRange::Kind(Kind::IpPool)).map_err(unavailable)?;
    let pools: Vec<IpPool> = pools
        .entries
        .iter()
        .filter_map(|entry| entry.decode().ok())
        .collect();
    let usable = |v6: bool| {
        pools
            .iter()
            .any(|pool| pool.enabled() && matches!(pool.spec.cidr, IpNet::V6(_)) == v6)
    };
    for (wanted, v6, family) in [
        (settings.addresses.v4, false, "IPv4"),
        (settings.addresses.v6, true, "IPv6"),
    ] {
        if wanted && !usable(v6) {
            let message = format!("there is no enabled {family} IPPool; create one");
            return Err(unavailable(Error::new(Code::NotAvailable, message)));
        }
    }
    Ok(())
}
