// SPDX-License-Identifier: Apache-2.0
//! The IPv4 settings of one device that netlink can set (`IPV4_DEVCONF_` in the kernel's `uapi/linux/ip.h`).

use std::fmt;

/// A file of `/proc/sys/net/ipv4/conf/LINK`, by its number in `IFLA_INET_CONF`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Ipv4Conf {
    /// `forwarding`: packets that came in here are routed on.
    Forwarding = 1,
    /// `proxy_arp`: ARP requests for what is routed elsewhere are answered.
    ProxyArp = 3,
    /// `accept_redirects`.
    AcceptRedirects = 4,
    /// `send_redirects`.
    SendRedirects = 6,
    /// `rp_filter`: 0 off, 1 strict, 2 loose (RFC 3704); the kernel uses the larger of this and `conf/all`.
    RpFilter = 8,
    /// `arp_announce`.
    ArpAnnounce = 18,
    /// `arp_ignore`.
    ArpIgnore = 19,
    /// `arp_notify`: a gratuitous ARP when the link comes up.
    ArpNotify = 22,
    /// `accept_local`.
    AcceptLocal = 23,
    /// `route_localnet`: 127.0.0.0/8 may be routed.
    RouteLocalnet = 26,
}

impl Ipv4Conf {
    /// Name of the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forwarding => "forwarding",
            Self::ProxyArp => "proxy_arp",
            Self::AcceptRedirects => "accept_redirects",
            Self::SendRedirects => "send_redirects",
            Self::RpFilter => "rp_filter",
            Self::ArpAnnounce => "arp_announce",
            Self::ArpIgnore => "arp_ignore",
            Self::ArpNotify => "arp_notify",
            Self::AcceptLocal => "accept_local",
            Self::RouteLocalnet => "route_localnet",
        }
    }
}

impl fmt::Display for Ipv4Conf {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
