// SPDX-License-Identifier: Apache-2.0
//! `bare`: the kernel operations of one ADD or DEL of `calico` and nothing else, as a plain program does them: one
//! request at a time, settings through `/proc`. What our ADD takes beyond this is what everything else costs.
//!
//! Kept in step with `calico-cni/src/wiring.rs`. With `--batched` the same in as few system calls as crates/kernel can.
//!
//!     bare add HOST-INTERFACE NETNS INTERFACE ADDRESS... [--batched]
//!     bare del HOST-INTERFACE [--batched]

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use kernel::{
    AddrGenMode, AddressFlags, Batch, Ipv4Conf, Link, LinkChange, LinkId, MacAddress, Namespace, Netlink,
    Opened, PairKind, PairSpec, PeerSpec, Request, Route, detached, sysctl,
};

const HOST_MAC: MacAddress = MacAddress([0xee; 6]);
const CONTAINER_MAC: MacAddress = MacAddress([0x02, 0, 0, 0, 0, 0x02]);
const GATEWAY_V4: &str = "169.254.1.1";
const GATEWAY_V6: &str = "fe80::ecee:eeff:feee:eeee";
const MTU: u32 = 1500;

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let batched = arguments.last().is_some_and(|last| last == "--batched");
    arguments.truncate(arguments.len() - usize::from(batched));
    match run(&arguments, batched) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("bare: {problem:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String], batched: bool) -> Result<()> {
    match arguments {
        [verb, host, netns, interface, addresses @ ..] if verb == "add" && !addresses.is_empty() => {
            let addresses = addresses
                .iter()
                .map(|text| text.parse().with_context(|| format!("address {text}")));
            let addresses = addresses.collect::<Result<Vec<IpAddr>>>()?;
            Add {
                host,
                interface,
                addresses,
                batched,
            }
            .run(netns)
        }
        [verb, host] if verb == "del" => delete(host, batched),
        _ => bail!("usage: bare add HOST-INTERFACE NETNS INTERFACE ADDRESS... | bare del HOST-INTERFACE"),
    }
}

fn delete(host: &str, batched: bool) -> Result<()> {
    let mut socket = Netlink::open()?;
    if !batched {
        return Ok(socket.delete_link_by_name(host).map(drop)?);
    }
    let link = socket
        .link_by_name(host)?
        .with_context(|| format!("there is no {host}"))?;
    if let Some(housekeeping) = detached::delete_link(&link)? {
        housekeeping.leave();
    }
    Ok(())
}

struct Add<'a> {
    host: &'a str,
    interface: &'a str,
    addresses: Vec<IpAddr>,
    batched: bool,
}

impl Add<'_> {
    fn run(&self, netns: &str) -> Result<()> {
        let Opened::Namespace(namespace) = Namespace::open(netns)? else {
            bail!("{netns} is no network namespace")
        };
        let mut socket = Netlink::open()?;
        let link = socket.create_pair(&PairSpec {
            kind: PairKind::Veth,
            name: self.host,
            mac: Some(HOST_MAC),
            mtu: Some(MTU),
            queues: Some(1),
            peer: PeerSpec {
                name: self.interface,
                namespace: Some(namespace.as_fd()),
                mac: Some(CONTAINER_MAC),
            },
        })?;
        let index = link.peer_index.context("the pair has a peer")?;
        namespace.visit(|| self.inside(index))??;
        self.outside(&mut socket, &link)
    }

    fn inside(&self, index: u32) -> Result<()> {
        let mut socket = Netlink::open()?;
        let link = LinkId::named(index, self.interface);
        if self.has_v6() {
            for scope in ["all", "default", "lo", self.interface] {
                sysctl::write(&format!("net/ipv6/conf/{scope}/disable_ipv6"), "0")?;
            }
            sysctl::write(&format!("net/ipv6/conf/{}/accept_dad", self.interface), "0")?;
        }
        let mut requests = Vec::new();
        for address in &self.addresses {
            let flags = if address.is_ipv6() {
                AddressFlags::NO_DAD
            } else {
                AddressFlags::default()
            };
            requests.push(Request::add_address(link, IpNet::from(*address), flags));
        }
        requests.push(Request::set_link_up(link));
        if self.has_v4() {
            let gateway: IpAddr = GATEWAY_V4.parse()?;
            requests.push(Request::add_neighbour(link, gateway, HOST_MAC));
            requests.push(Request::add_route(&Route::on_link(gateway.into(), index)));
            requests.push(Request::add_route(&Route::through(
                "0.0.0.0/0".parse()?,
                gateway,
                index,
            )));
        }
        if self.has_v6() {
            let gateway: IpAddr = GATEWAY_V6.parse()?;
            requests.push(Request::add_neighbour(link, gateway, HOST_MAC));
            requests.push(Request::add_route(&Route::through(
                "::/0".parse()?,
                gateway,
                index,
            )));
        }
        self.send(&mut socket, requests)?;
        if self.has_v4() {
            sysctl::write("net/ipv4/ip_forward", "0")?;
        }
        if self.has_v6() {
            sysctl::write("net/ipv6/conf/all/forwarding", "0")?;
        }
        Ok(())
    }

    fn outside(&self, socket: &mut Netlink, link: &Link) -> Result<()> {
        let host = self.host;
        let settings = [
            (Ipv4Conf::RpFilter, 1),
            (Ipv4Conf::RouteLocalnet, 1),
            (Ipv4Conf::ProxyArp, 1),
            (Ipv4Conf::Forwarding, 1),
        ];
        let ipv4_conf = if self.has_v4() { &settings[..] } else { &[] };
        let mut change = LinkChange {
            alias: Some(self.host),
            ..LinkChange::default()
        };
        if self.has_v4() {
            sysctl::write(&format!("net/ipv4/neigh/{host}/proxy_delay"), "0")?;
        }
        if self.has_v6() {
            for (setting, value) in [
                ("disable_ipv6", "0"),
                ("accept_dad", "0"),
                ("proxy_ndp", "1"),
                ("forwarding", "1"),
            ] {
                sysctl::write(&format!("net/ipv6/conf/{host}/{setting}"), value)?;
            }
            change.addr_gen_mode = Some(AddrGenMode::Eui64);
        }
        sysctl::write(&format!("net/ipv6/conf/{host}/accept_ra"), "0")?;
        if self.batched {
            change.ipv4_conf = ipv4_conf;
        } else {
            for (setting, value) in ipv4_conf {
                sysctl::write(&format!("net/ipv4/conf/{host}/{setting}"), &value.to_string())?;
            }
        }
        let mut requests = vec![Request::change_link(link, &change), Request::set_link_up(link)];
        for address in &self.addresses {
            requests.push(Request::add_route(&Route::on_link(
                IpNet::from(*address),
                link.index,
            )));
        }
        self.send(socket, requests)
    }

    fn send(&self, socket: &mut Netlink, requests: Vec<Request>) -> Result<()> {
        if self.batched {
            return Ok(socket.apply(requests.into_iter().collect::<Batch>())?);
        }
        requests
            .into_iter()
            .try_for_each(|request| Ok(socket.execute(request)?))
    }

    fn has_v4(&self) -> bool {
        self.addresses.iter().any(IpAddr::is_ipv4)
    }

    fn has_v6(&self) -> bool {
        self.addresses.iter().any(IpAddr::is_ipv6)
    }
}
