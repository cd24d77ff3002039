// SPDX-License-Identifier: Apache-2.0
//! The MTU of a new pair: configuration, then the file that the node daemon writes, then the device that the host's
//! default route leaves by. With none of them it is left to the kernel.

use std::{fs, io};

use cni_plugin::{Code, Error};
use kernel::{Family, Netlink};

use crate::config::Config;

/// Decides the MTU; `None` leaves it to the kernel (1500).
pub fn decide(config: &Config, host: &mut Netlink) -> Result<Option<u32>, Error> {
    if config.mtu.is_some() {
        return Ok(config.mtu);
    }
    let path = config.settings.state_dir.join("mtu");
    match fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse() {
            Ok(0) => {}
            Ok(mtu) => return Ok(Some(mtu)),
            Err(_) => {
                let message = format!("MTU file {}: {:?} is not a number", path.display(), text.trim());
                return Err(Error::new(Code::InvalidConfig, message));
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if config.require_mtu_file {
                let message = format!(
                    "MTU file {} is missing and \"require_mtu_file\" is set",
                    path.display()
                );
                return Err(Error::new(Code::TryAgainLater, message).details(
                    "the node daemon writes it at start; or set \"mtu\", or \"require_mtu_file\": false",
                ));
            }
        }
        Err(error) => {
            return Err(Error::new(
                Code::TryAgainLater,
                format!("MTU file {}: {error}", path.display()),
            ));
        }
    }
    of_default_route(host).map_err(|problem| calico_ipam::error::kernel(&problem))
}

fn of_default_route(host: &mut Netlink) -> kernel::Result<Option<u32>> {
    for family in [Family::Ipv4, Family::Ipv6] {
        if let Some(index) = host.default_route_device(family)? {
            return Ok(host.link_by_index(index)?.map(|link| link.mtu));
        }
    }
    Ok(None)
}
