// SPDX-License-Identifier: Apache-2.0
//! Forwarding of IPv6 from containers, without cutting the host off: a host that forwards ignores router
//! advertisements unless `accept_ra` is 2 (kernel documentation, ip-sysctl), and with them its default route.

use calico_ipam::log::Log;
use kernel::{Netlink, sysctl};

const GLOBAL: &str = "net/ipv6/conf/all/forwarding";

/// Lets packets that arrive on this interface be forwarded: by the interface's own switch where the kernel has one
/// (6.17 and later), otherwise for the whole host.
pub fn forward_from(interface: &str, host: &mut Netlink, log: &Log) -> kernel::Result<()> {
    match sysctl::write(&format!("net/ipv6/conf/{interface}/force_forwarding"), "1") {
        Err(problem) if problem.is_not_found() => {}
        other => return other,
    }
    forward_globally(host, log)?;
    sysctl::write(&format!("net/ipv6/conf/{interface}/forwarding"), "1")
}

/// The switch that keeps packets of this interface from being forwarded, if one is off.
pub fn not_forwarding(interface: &str) -> kernel::Result<Option<String>> {
    let own = format!("net/ipv6/conf/{interface}/force_forwarding");
    let switches = match sysctl::read(&own) {
        Ok(value) => return Ok((value != "1").then_some(own)),
        Err(problem) if problem.is_not_found() => {
            [GLOBAL.to_owned(), format!("net/ipv6/conf/{interface}/forwarding")]
        }
        Err(problem) => return Err(problem),
    };
    for switch in switches {
        if sysctl::read(&switch)? != "1" {
            return Ok(Some(switch));
        }
    }
    Ok(None)
}

/// Switches forwarding on for the whole host, after every interface that learned routes from router advertisements
/// has been told to go on accepting them.
fn forward_globally(host: &mut Netlink, log: &Log) -> kernel::Result<()> {
    if sysctl::read(GLOBAL)? == "1" {
        return Ok(());
    }
    for index in host.router_advertisement_devices()? {
        let Some(link) = host.link_by_index(index)? else {
            continue;
        };
        let setting = format!("net/ipv6/conf/{}/accept_ra", link.name);
        if sysctl::read(&setting)? == "1" {
            log.info(format_args!(
                "{setting} is set to 2, so that the host keeps the routes it learned there"
            ));
            sysctl::write(&setting, "2")?;
        }
    }
    log.info(format_args!(
        "{GLOBAL} is set to 1: this kernel cannot forward IPv6 for single interfaces"
    ));
    sysctl::write(GLOBAL, "1")
}
