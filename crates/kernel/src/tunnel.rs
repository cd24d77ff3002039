// SPDX-License-Identifier: Apache-2.0
//! Tunnel devices between hosts: ipip and vxlan, made, adjusted, read back and compared with what is wanted.
//!
//! The device called `tunl0` comes into being with the ipip module, as the one that takes what no other ipip device
//! takes: it can be adjusted, but neither made (that it exists counts as success) nor deleted (the kernel says yes and
//! keeps it), and it has no local address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::error::{Error, Result};
use crate::link::{Link, info};
use crate::mac::MacAddress;
use crate::request::Request;
use crate::socket::Netlink;
use crate::wire::Message;

mod message;

use message::{ipip_data, parse_tunnel, vxlan_data};

/// The device that the ipip module makes by itself.
pub const IPIP_FALLBACK: &str = "tunl0";

/// A tunnel device as it is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelSpec<'a> {
    /// Its name; at most 15 bytes.
    pub name: &'a str,
    /// Largest packet in bytes, without the outer headers; the kernel's choice if absent.
    pub mtu: Option<u32>,
    /// Driver and its settings.
    pub kind: TunnelKind,
}

/// Driver of a tunnel, with the settings that matter here; all others are the kernel's defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelKind {
    /// IPv4 in IPv4 (RFC 2003), to any remote: the next hop of the route is the outer destination.
    Ipip(Ipip),
    /// Ethernet in UDP (RFC 7348), without a group: forwarding entries say where to.
    Vxlan(Vxlan),
}

/// Settings of an ipip device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ipip {
    /// Outer source; only packets to this address are received. Any if absent, as on [`IPIP_FALLBACK`].
    pub local: Option<Ipv4Addr>,
}

/// Settings of a vxlan device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vxlan {
    /// Network identifier (VNI), 24 bits.
    pub id: u32,
    /// UDP port of both ends.
    pub port: u16,
    /// Outer source, of either family; the route's choice if absent.
    pub local: Option<IpAddr>,
    /// Index of the link that the outer packets leave by; the route's choice if absent.
    pub parent: Option<u32>,
    /// Hardware address; the kernel's choice if absent.
    pub mac: Option<MacAddress>,
    /// Whether forwarding entries are learned from what arrives.
    pub learning: bool,
}

/// A device as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelDevice {
    /// What it has in common with all links.
    pub link: Link,
    /// Driver and settings; `None` for a device of another driver (`link.kind`).
    pub kind: Option<TunnelKind>,
    /// Settings that change what the device does and that no device wanted here has, as words: `remote 192.0.2.1`.
    pub foreign: Vec<String>,
}

/// How a device is unlike the one wanted, in words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// [`Netlink::adjust_tunnel`] does it; addresses and routes stay.
    Adjustable(String),
    /// It has to be deleted and made again; that includes everything adjustable.
    Recreate(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Adjustable(words) | Self::Recreate(words)) = self;
        formatter.write_str(words)
    }
}

impl TunnelKind {
    /// The kernel's name of the driver, which is also the name of its module.
    pub fn driver(&self) -> &'static str {
        match self {
            Self::Ipip(_) => "ipip",
            Self::Vxlan(_) => "vxlan",
        }
    }
}

impl TunnelDevice {
    /// How it is unlike `wanted`; `None` if it is not. What `wanted` leaves to the kernel is not compared, except an absent
    /// local address or parent: the device must have none.
    pub fn differs(&self, wanted: &TunnelSpec<'_>) -> Option<Difference> {
        let (mut fatal, mut adjustable) = (Vec::new(), Vec::new());
        match (self.kind, wanted.kind) {
            (Some(TunnelKind::Ipip(is)), TunnelKind::Ipip(wanted)) => {
                adjustable.extend(difference("local", is.local, wanted.local));
            }
            (Some(TunnelKind::Vxlan(is)), TunnelKind::Vxlan(wanted)) => {
                fatal.extend(difference("id", Some(is.id), Some(wanted.id)));
                fatal.extend(difference("port", Some(is.port), Some(wanted.port)));
                fatal.extend(difference("local", is.local, wanted.local));
                fatal.extend(difference("parent index", is.parent, wanted.parent));
                fatal.extend(difference("learning", Some(is.learning), Some(wanted.learning)));
                if wanted.mac.is_some() {
                    adjustable.extend(difference("MAC", self.link.mac, wanted.mac));
                }
            }
            (_, wanted) => {
                let is = self.link.kind.as_deref().unwrap_or("a physical device");
                fatal.extend(difference("driver", Some(is), Some(wanted.driver())));
            }
        }
        fatal.extend(self.foreign.iter().map(|setting| format!("has {setting}")));
        if wanted.mtu.is_some() {
            adjustable.extend(difference("MTU", Some(self.link.mtu), wanted.mtu));
        }
        if !fatal.is_empty() {
            fatal.append(&mut adjustable);
            return Some(Difference::Recreate(fatal.join(", ")));
        }
        (!adjustable.is_empty()).then(|| Difference::Adjustable(adjustable.join(", ")))
    }
}

fn difference<T: Copy + PartialEq + ToString>(
    what: &str,
    is: Option<T>,
    wanted: Option<T>,
) -> Option<String> {
    let words = |value: Option<T>| value.map_or_else(|| "none".into(), |value| value.to_string());
    (is != wanted).then(|| format!("{what} is {}, wanted {}", words(is), words(wanted)))
}

impl Request {
    /// Makes a tunnel device, which is down; EEXIST if the name is taken, or another device would take the same
    /// packets.
    pub fn create_tunnel(spec: &TunnelSpec<'_>) -> Self {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let mut message = Message::new(libc::RTM_NEWLINK, flags).fixed(&info(0, 0, 0));
        message.text(libc::IFLA_IFNAME, spec.name);
        common(&mut message, spec);
        message.nested(libc::IFLA_LINKINFO, |message| {
            message.text(libc::IFLA_INFO_KIND, spec.kind.driver());
            message.nested(libc::IFLA_INFO_DATA, |message| match &spec.kind {
                TunnelKind::Ipip(ipip) => ipip_data(message, *ipip),
                TunnelKind::Vxlan(vxlan) => vxlan_data(message, vxlan),
            });
        });
        Self::new(message, format!("create {} {}", spec.kind.driver(), spec.name))
    }

    /// Sets what can be set on a living device: MTU, MAC and, on an ipip device other than [`IPIP_FALLBACK`], the local
    /// address. The name is not changed.
    pub fn adjust_tunnel(link: &Link, spec: &TunnelSpec<'_>) -> Self {
        let mut message = Message::new(libc::RTM_NEWLINK, 0).fixed(&info(link.index, 0, 0));
        common(&mut message, spec);
        if let TunnelKind::Ipip(ipip) = spec.kind
            // The kernel refuses any setting of the fallback device, also the ones it has.
            && (link.name != IPIP_FALLBACK || ipip.local.is_some())
        {
            message.nested(libc::IFLA_LINKINFO, |message| {
                message.text(libc::IFLA_INFO_KIND, spec.kind.driver());
                message.nested(libc::IFLA_INFO_DATA, |message| ipip_data(message, ipip));
            });
        }
        Self::new(message, format!("adjust {} {}", spec.kind.driver(), link.name))
    }
}

impl Netlink {
    /// The device of this name with its settings, whatever its driver; `None` if there is none.
    pub fn tunnel(&mut self, name: &str) -> Result<Option<TunnelDevice>> {
        self.find_link_as(0, Some(name), parse_tunnel)
    }

    /// Makes a tunnel device, which is down, and returns what the kernel made of it. The module is loaded, if there is
    /// one; a kernel that lacks the driver gives an error with `is_unsupported`, which names the module.
    ///
    /// For [`IPIP_FALLBACK`] the device that exists already is returned; see what it [differs](TunnelDevice::differs).
    pub fn create_tunnel(&mut self, spec: &TunnelSpec<'_>) -> Result<TunnelDevice> {
        let driver = spec.kind.driver();
        match self.execute(Request::create_tunnel(spec)) {
            Ok(()) => {}
            Err(error) if error.is_exists() && is_fallback(spec) => {}
            Err(error) if is_unknown_driver(&error) => {
                return Err(error.explained(format!(
                    "the kernel has no {driver}: load the module {driver} (modprobe {driver}) or use a kernel with it"
                )));
            }
            Err(error) if error.is_exists() => {
                return Err(error.explained(match spec.kind {
                    TunnelKind::Ipip(_) => {
                        "the name is taken, or another ipip device has the same local address".into()
                    }
                    TunnelKind::Vxlan(Vxlan { id, port, .. }) => {
                        format!("the name is taken, or another vxlan device has VNI {id} on port {port}")
                    }
                }));
            }
            Err(error) => return Err(error),
        }
        self.tunnel(spec.name)?.ok_or_else(|| {
            Error::unusable(
                format!("create {driver} {}", spec.name),
                "the new link is gone already",
            )
        })
    }

    /// See [`Request::adjust_tunnel`]. For what [`TunnelDevice::differs`] calls adjustable.
    pub fn adjust_tunnel(&mut self, device: &TunnelDevice, spec: &TunnelSpec<'_>) -> Result<()> {
        self.execute(Request::adjust_tunnel(&device.link, spec))
            .map_err(|error| match spec.kind {
                TunnelKind::Ipip(Ipip { local: Some(_) }) if device.link.name == IPIP_FALLBACK => error
                    .explained(format!(
                        "{IPIP_FALLBACK} takes no local address: use a device of another name for that"
                    )),
                _ => error,
            })
    }

    /// Deletes a tunnel device with its addresses, routes and entries. Whether it is gone: the kernel keeps
    /// [`IPIP_FALLBACK`].
    pub fn delete_tunnel(&mut self, device: &TunnelDevice) -> Result<bool> {
        self.delete_link(&device.link)?;
        if device.link.name != IPIP_FALLBACK {
            return Ok(true);
        }
        Ok(self.link_by_index(device.link.index)?.is_none())
    }
}

/// What is no setting of the driver.
fn common(message: &mut Message, spec: &TunnelSpec<'_>) {
    if let Some(mtu) = spec.mtu {
        message.number(libc::IFLA_MTU, mtu);
    }
    if let TunnelKind::Vxlan(Vxlan { mac: Some(mac), .. }) = spec.kind {
        message.attribute(libc::IFLA_ADDRESS, &mac.0);
    }
}

fn is_fallback(spec: &TunnelSpec<'_>) -> bool {
    spec.name == IPIP_FALLBACK && matches!(spec.kind, TunnelKind::Ipip(_))
}

/// The same number also says that one setting is unknown, but then with other words.
fn is_unknown_driver(error: &Error) -> bool {
    error.errno() == Some(libc::EOPNOTSUPP)
        && error
            .kernel_message()
            .is_none_or(|words| words == "Unknown device type")
}

#[cfg(test)]
mod tests;
