// SPDX-License-Identifier: Apache-2.0
//! Links (network interfaces): finding, listing, altering and deleting them. [`pair`](crate::pair) creates them.

use std::fmt;

use crate::devconf::Ipv4Conf;
use crate::error::{Error, Result};
use crate::mac::MacAddress;
use crate::request::Request;
use crate::socket::Netlink;
use crate::wire::{Attributes, INET, INET6, Message, Received, read_i32, read_text, read_u32};

/// `RTEXT_FILTER_SKIP_STATS`: the counters are a third of each answer, and nobody here reads them.
const SKIP_STATISTICS: u32 = 1 << 3;
/// `IFLA_INET_CONF`, inside `AF_INET` of `IFLA_AF_SPEC`.
const INET_CONF: u16 = 1;
/// `IFLA_INET6_ADDR_GEN_MODE`, inside `AF_INET6` of `IFLA_AF_SPEC`.
const INET6_ADDR_GEN_MODE: u16 = 8;
/// Bytes of `struct ifinfomsg`.
const INFO: usize = 16;

/// A network interface as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Number of the interface, unique in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Hardware address, if it has one of six bytes.
    pub mac: Option<MacAddress>,
    /// Largest packet in bytes, without the link header.
    pub mtu: u32,
    /// `IFF_` flags (`if.h`).
    pub flags: u32,
    /// Driver (`veth`, `bridge`, `vxlan`, ...); absent for physical devices.
    pub kind: Option<String>,
    /// The other end of a pair or the device below, as an index in the namespace of `peer_namespace`.
    pub peer_index: Option<u32>,
    /// This namespace's number for the peer's namespace, if that is another one.
    pub peer_namespace: Option<i32>,
    /// The bridge or other device it belongs to.
    pub controller: Option<u32>,
    /// The free text stored with it.
    pub alias: Option<String>,
    /// Transmit queues.
    pub transmit_queues: u32,
    /// Receive queues.
    pub receive_queues: u32,
}

impl Link {
    /// Administratively up.
    pub fn is_up(&self) -> bool {
        self.has_flag(libc::IFF_UP)
    }

    /// Up, with a carrier.
    pub fn is_running(&self) -> bool {
        self.has_flag(libc::IFF_RUNNING)
    }

    /// The loopback device.
    pub fn is_loopback(&self) -> bool {
        self.has_flag(libc::IFF_LOOPBACK)
    }

    fn has_flag(&self, flag: i32) -> bool {
        self.flags & flag.cast_unsigned() != 0
    }
}

/// A link, found by its index; where the name is known too, errors show it.
#[derive(Debug, Clone, Copy)]
pub struct LinkId<'a> {
    index: u32,
    name: Option<&'a str>,
}

impl<'a> LinkId<'a> {
    /// A link whose name is known as well.
    pub fn named(index: u32, name: &'a str) -> Self {
        Self {
            index,
            name: Some(name),
        }
    }

    /// Its index.
    pub fn index(self) -> u32 {
        self.index
    }
}

impl From<u32> for LinkId<'_> {
    fn from(index: u32) -> Self {
        Self { index, name: None }
    }
}

impl<'a> From<&'a Link> for LinkId<'a> {
    fn from(link: &'a Link) -> Self {
        Self::named(link.index, &link.name)
    }
}

impl fmt::Display for LinkId<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "index {}", self.index),
        }
    }
}

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
    /// The link of this name; `None` if there is none.
    pub fn link_by_name(&mut self, name: &str) -> Result<Option<Link>> {
        self.find_link(0, Some(name))
    }

    /// The link of this index; `None` if there is none.
    pub fn link_by_index(&mut self, index: u32) -> Result<Option<Link>> {
        self.find_link(index, None)
    }

    /// All links of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let mut message = Message::new(libc::RTM_GETLINK, 0).fixed(&[0; INFO]);
        message.number(libc::IFLA_EXT_MASK, SKIP_STATISTICS);
        self.dump(message, "list links", |links: &mut Vec<Link>, received| {
            links.extend(parse_link(received));
        })
    }

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

    fn find_link(&mut self, index: u32, name: Option<&str>) -> Result<Option<Link>> {
        let operation = match name {
            Some(name) => format!("look up link {name}"),
            None => format!("look up link index {index}"),
        };
        let mut message = Message::new(libc::RTM_GETLINK, libc::NLM_F_ACK).fixed(&info(index, 0, 0));
        if let Some(name) = name {
            message.text(libc::IFLA_IFNAME, name);
        }
        message.number(libc::IFLA_EXT_MASK, SKIP_STATISTICS);
        let mut found = None;
        match self.ask(&mut message, &operation, |received| found = parse_link(received)) {
            Ok(()) if found.is_none() => {
                Err(Error::unusable(operation, "the kernel answered without a link"))
            }
            Ok(()) => Ok(found),
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// `struct ifinfomsg`.
pub(crate) fn info(index: u32, flags: u32, mask: u32) -> [u8; INFO] {
    let mut bytes = [0; INFO];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&mask.to_ne_bytes());
    bytes
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

/// The link of an `RTM_NEWLINK` message.
pub(crate) fn parse_link(received: &Received<'_>) -> Option<Link> {
    if received.kind != libc::RTM_NEWLINK {
        return None;
    }
    let (info, attributes) = received.body.split_at_checked(INFO)?;
    let mut link = Link {
        index: read_u32(&info[4..])?,
        name: String::new(),
        mac: None,
        mtu: 0,
        flags: read_u32(&info[8..])?,
        kind: None,
        peer_index: None,
        peer_namespace: None,
        controller: None,
        alias: None,
        transmit_queues: 1,
        receive_queues: 1,
    };
    for (kind, payload) in Attributes(attributes) {
        match kind {
            libc::IFLA_IFNAME => link.name = read_text(payload),
            libc::IFLA_ADDRESS => link.mac = payload.try_into().ok().map(MacAddress),
            libc::IFLA_MTU => link.mtu = read_u32(payload)?,
            libc::IFLA_LINK => link.peer_index = read_u32(payload),
            libc::IFLA_LINK_NETNSID => link.peer_namespace = read_i32(payload),
            libc::IFLA_MASTER => link.controller = read_u32(payload),
            libc::IFLA_IFALIAS => link.alias = Some(read_text(payload)),
            libc::IFLA_NUM_TX_QUEUES => link.transmit_queues = read_u32(payload)?,
            libc::IFLA_NUM_RX_QUEUES => link.receive_queues = read_u32(payload)?,
            libc::IFLA_LINKINFO => {
                let mut inner = Attributes(payload);
                link.kind = inner
                    .find(|(kind, _)| *kind == libc::IFLA_INFO_KIND)
                    .map(|(_, text)| read_text(text));
            }
            _ => {}
        }
    }
    Some(link)
}
