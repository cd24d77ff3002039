// SPDX-License-Identifier: Apache-2.0
//! Altering and deleting links.

use super::{LinkId, info};
use crate::devconf::Ipv4Conf;
use crate::error::Result;
use crate::mac::MacAddress;
use crate::request::Request;
use crate::socket::Netlink;
use crate::wire::{INET, INET6, Message};

/// `IFLA_INET_CONF`, inside `AF_INET` of `IFLA_AF_SPEC`.
const INET_CONF: u16 = 1;
/// `IFLA_INET6_ADDR_GEN_MODE`, inside `AF_INET6` of `IFLA_AF_SPEC`.
const INET6_ADDR_GEN_MODE: u16 = 8;

/// How the kernel makes a link's IPv6 link-local address (`IN6_ADDR_GEN_MODE_`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum AddrGenMode {
    /// From the MAC address (RFC 4291, appendix A).
    Eui64 = 0,
    /// None.
    None = 1,
    /// From a secret and the interface (RFC 7217).
    StablePrivacy = 2,
    /// The same with a random secret.
    Random = 3,
}

/// What to alter on a link, all in one request. The kernel applies name, MAC, MTU and alias first, then up or down,
/// then the IP settings: settings that must precede "up" belong into a request before it.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinkChange<'a> {
    /// Administratively up or down.
    pub up: Option<bool>,
    /// Hardware address.
    pub mac: Option<MacAddress>,
    /// Largest packet in bytes.
    pub mtu: Option<u32>,
    /// Free text; empty removes it.
    pub alias: Option<&'a str>,
    /// New name.
    pub name: Option<&'a str>,
    /// Per-device IPv4 settings, as in `/proc/sys/net/ipv4/conf`.
    pub ipv4_conf: &'a [(Ipv4Conf, u32)],
    /// How its IPv6 link-local address is made; refused where IPv6 is off.
    pub addr_gen_mode: Option<AddrGenMode>,
}

impl Request {
    /// Alters a link.
    pub fn change_link<'a>(link: impl Into<LinkId<'a>>, change: &LinkChange<'_>) -> Self {
        let link = link.into();
        let mut words = Vec::new();
        let up = libc::IFF_UP.cast_unsigned();
        let (flags, mask) = match change.up {
            Some(true) => (up, up),
            Some(false) => (0, up),
            None => (0, 0),
        };
        let mut message = Message::new(libc::RTM_SETLINK, 0).fixed(&info(link.index, flags, mask));
        if let Some(mac) = change.mac {
            message.attribute(libc::IFLA_ADDRESS, &mac.0);
            words.push(format!("address {mac}"));
        }
        if let Some(mtu) = change.mtu {
            message.number(libc::IFLA_MTU, mtu);
            words.push(format!("mtu {mtu}"));
        }
        if let Some(alias) = change.alias {
            message.text(libc::IFLA_IFALIAS, alias);
            words.push(format!("alias {alias:?}"));
        }
        if let Some(name) = change.name {
            message.text(libc::IFLA_IFNAME, name);
            words.push(format!("name {name}"));
        }
        if let Some(up) = change.up {
            words.push(if up { "up" } else { "down" }.into());
        }
        if !change.ipv4_conf.is_empty() || change.addr_gen_mode.is_some() {
            message.nested(libc::IFLA_AF_SPEC, |message| {
                ip_settings(message, change, &mut words);
            });
        }
        Self::new(message, format!("set link {link} {}", words.join(" ")))
    }

    /// Brings a link up.
    pub fn set_link_up<'a>(link: impl Into<LinkId<'a>>) -> Self {
        Self::change_link(
            link,
            &LinkChange {
                up: Some(true),
                ..LinkChange::default()
            },
        )
    }

    /// Takes a link down.
    pub fn set_link_down<'a>(link: impl Into<LinkId<'a>>) -> Self {
        Self::change_link(
            link,
            &LinkChange {
                up: Some(false),
                ..LinkChange::default()
            },
        )
    }

    /// Sets the hardware address.
    pub fn set_mac<'a>(link: impl Into<LinkId<'a>>, mac: MacAddress) -> Self {
        Self::change_link(
            link,
            &LinkChange {
                mac: Some(mac),
                ..LinkChange::default()
            },
        )
    }

    /// Sets the largest packet in bytes.
    pub fn set_mtu<'a>(link: impl Into<LinkId<'a>>, mtu: u32) -> Self {
        Self::change_link(
            link,
            &LinkChange {
                mtu: Some(mtu),
                ..LinkChange::default()
            },
        )
    }

    /// Sets the free text stored with a link.
    pub fn set_alias<'a>(link: impl Into<LinkId<'a>>, alias: &str) -> Self {
        Self::change_link(
            link,
            &LinkChange {
                alias: Some(alias),
                ..LinkChange::default()
            },
        )
    }

    /// Sets per-device IPv4 settings without writing to `/proc`; same effect as the sysctls of `net/ipv4/conf/LINK`.
    pub fn set_ipv4_conf<'a>(link: impl Into<LinkId<'a>>, settings: &[(Ipv4Conf, u32)]) -> Self {
        Self::change_link(
            link,
            &LinkChange {
                ipv4_conf: settings,
                ..LinkChange::default()
            },
        )
    }

    /// Sets how the IPv6 link-local address is made (`net/ipv6/conf/LINK/addr_gen_mode`).
    pub fn set_addr_gen_mode<'a>(link: impl Into<LinkId<'a>>, mode: AddrGenMode) -> Self {
        Self::change_link(
            link,
            &LinkChange {
                addr_gen_mode: Some(mode),
                ..LinkChange::default()
            },
        )
    }

    /// Deletes a link; of a pair, both ends go.
    pub fn delete_link<'a>(link: impl Into<LinkId<'a>>) -> Self {
        let link = link.into();
        let message = Message::new(libc::RTM_DELLINK, 0).fixed(&info(link.index, 0, 0));
        Self::new(message, format!("delete link {link}"))
    }

    /// Deletes the link of this name.
    pub fn delete_link_by_name(name: &str) -> Self {
        let mut message = Message::new(libc::RTM_DELLINK, 0).fixed(&info(0, 0, 0));
        message.text(libc::IFLA_IFNAME, name);
        Self::new(message, format!("delete link {name}"))
    }
}

/// One method per change of [`Request`], executed at once.
impl Netlink {
    /// See [`Request::change_link`].
    pub fn change_link<'a>(&mut self, link: impl Into<LinkId<'a>>, change: &LinkChange<'_>) -> Result<()> {
        self.execute(Request::change_link(link, change))
    }

    /// See [`Request::set_link_up`].
    pub fn set_link_up<'a>(&mut self, link: impl Into<LinkId<'a>>) -> Result<()> {
        self.execute(Request::set_link_up(link))
    }

    /// See [`Request::set_link_down`].
    pub fn set_link_down<'a>(&mut self, link: impl Into<LinkId<'a>>) -> Result<()> {
        self.execute(Request::set_link_down(link))
    }

    /// See [`Request::set_mac`].
    pub fn set_mac<'a>(&mut self, link: impl Into<LinkId<'a>>, mac: MacAddress) -> Result<()> {
        self.execute(Request::set_mac(link, mac))
    }

    /// See [`Request::set_mtu`].
    pub fn set_mtu<'a>(&mut self, link: impl Into<LinkId<'a>>, mtu: u32) -> Result<()> {
        self.execute(Request::set_mtu(link, mtu))
    }

    /// See [`Request::set_alias`].
    pub fn set_alias<'a>(&mut self, link: impl Into<LinkId<'a>>, alias: &str) -> Result<()> {
        self.execute(Request::set_alias(link, alias))
    }

    /// See [`Request::set_ipv4_conf`].
    pub fn set_ipv4_conf<'a>(
        &mut self,
        link: impl Into<LinkId<'a>>,
        settings: &[(Ipv4Conf, u32)],
    ) -> Result<()> {
        self.execute(Request::set_ipv4_conf(link, settings))
    }

    /// See [`Request::set_addr_gen_mode`].
    pub fn set_addr_gen_mode<'a>(&mut self, link: impl Into<LinkId<'a>>, mode: AddrGenMode) -> Result<()> {
        self.execute(Request::set_addr_gen_mode(link, mode))
    }

    /// Deletes a link; of a pair, both ends go. Whether it was there.
    pub fn delete_link<'a>(&mut self, link: impl Into<LinkId<'a>>) -> Result<bool> {
        self.delete(Request::delete_link(link))
    }

    /// Deletes the link of this name; of a pair, both ends go. Whether it was there.
    pub fn delete_link_by_name(&mut self, name: &str) -> Result<bool> {
        self.delete(Request::delete_link_by_name(name))
    }

    fn delete(&mut self, request: Request) -> Result<bool> {
        match self.execute(request) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn ip_settings(message: &mut Message, change: &LinkChange<'_>, words: &mut Vec<String>) {
    if !change.ipv4_conf.is_empty() {
        message.nested(u16::from(INET), |message| {
            message.nested(INET_CONF, |message| {
                for (setting, value) in change.ipv4_conf {
                    message.number(*setting as u16, *value);
                    words.push(format!("ipv4 {setting} {value}"));
                }
            });
        });
    }
    if let Some(mode) = change.addr_gen_mode {
        message.nested(u16::from(INET6), |message| {
            message.attribute(INET6_ADDR_GEN_MODE, &[mode as u8]);
        });
        words.push(format!("addr_gen_mode {}", mode as u8));
    }
}
