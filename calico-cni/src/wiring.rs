// SPDX-License-Identifier: Apache-2.0
//! The pair that joins a container to its host: made, set up on both sides, and looked at again. What is set, and in
//! which order, follows Calico (interfaces, sysctls, routes), with these differences: `rp_filter` is set before the
//! link is up; the next hop is a permanent neighbour, so nothing waits for ARP; MACs are part of the creation, so
//! nothing changes them afterwards; the host side carries its attachment as its alias.

use std::{
    net::IpAddr,
    os::fd::AsFd as _,
    thread,
    time::{Duration, Instant},
};

use cni_plugin::{Code, Error};
use kernel::{
    AddrGenMode, AddressFlags, Batch, Family, Link, LinkChange, LinkId, Namespace, Netlink, PairKind,
    PairSpec, PeerSpec, Request, RouteFilter, RouteKind, sysctl,
};
use model::prefix;

use calico_ipam::{error, log::Log};

use crate::{
    further_interface, ipv6,
    plan::{GATEWAY_V6, HOST_MAC, Plan},
    step,
    undo::Undo,
};

/// The table of the host's own addresses (`RT_TABLE_LOCAL`).
const LOCAL_TABLE: u32 = 255;

/// Whether the pair was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Built {
    /// It is, and both sides are set up.
    Yes,
    /// An interface that is not the attachment's has the name on the host; nothing was done.
    NameTaken,
}

/// Makes the pair and sets up both sides. On failure nothing is left: the undo stack has the link.
pub fn build(
    plan: &Plan<'_>,
    namespace: &Namespace,
    host: &mut Netlink,
    log: &Log,
    undo: &mut Undo<'_>,
) -> Result<Built, Error> {
    let Some(link) = create(plan, namespace, host, log)? else {
        return Ok(Built::NameTaken);
    };
    let name = plan.host_interface.to_owned();
    undo.push("interface", move || {
        let mut host = Netlink::open().map_err(|problem| problem.to_string())?;
        host.delete_link_by_name(&name)
            .map(drop)
            .map_err(|problem| problem.to_string())
    });
    step::done("pair created");
    let container_index = link.peer_index.unwrap_or_default();
    let (mut container, container_index) = namespace
        .visit(|| inside(plan, container_index))
        .and_then(|result| result)
        .map_err(|problem| error::kernel(&problem).context("set up the container's interface"))?;
    step::done("container side set up");
    outside(plan, &link, host, log).map_err(|problem| {
        let failed = error::kernel(&problem).context("set up the host's interface");
        if problem.is_exists() {
            let code = error::REFUSED;
            Error { code, ..failed }
                .details("delete the host's route to the address, or ask for another address")
        } else {
            failed
        }
    })?;
    step::done("host side set up");
    wait_until_running(&mut container, container_index, log)
        .map_err(|problem| error::kernel(&problem).context("wait for the container's interface"))?;
    let own: Vec<IpAddr> = plan.addresses.iter().copied().filter(IpAddr::is_ipv6).collect();
    if !own.is_empty() {
        wait_until_local(&mut container, container_index, &own, log)
            .and_then(|()| wait_until_local(host, link.index, &[GATEWAY_V6.into()], log))
            .map_err(|problem| error::kernel(&problem).context("wait for IPv6 addresses"))?;
    }
    kernel::conntrack::delete_entries(&plan.addresses)
        .map_err(|problem| error::kernel(&problem).context("remove old connections of the address"))?;
    read_back(plan, &link, host).map(|()| Built::Yes)
}

/// Makes the pair; `None` if its name on the host is somebody else's.
fn create(
    plan: &Plan<'_>,
    namespace: &Namespace,
    host: &mut Netlink,
    log: &Log,
) -> Result<Option<Link>, Error> {
    let spec = PairSpec {
        kind: plan.device,
        name: plan.host_interface,
        mac: Some(HOST_MAC),
        mtu: plan.mtu,
        // Also one: unasked, the kernel makes one per processor, takes all but one away, and waits for RCU twice.
        queues: Some(plan.queues),
        peer: PeerSpec {
            name: plan.interface,
            namespace: Some(namespace.as_fd()),
            mac: Some(plan.mac),
        },
    };
    let failed = |problem: kernel::Error| error::kernel(&problem);
    match host.create_pair(&spec) {
        Ok(link) => Ok(Some(link)),
        Err(problem) if problem.is_exists() => {
            if interface_exists(plan.interface, namespace)? {
                if remove_own(plan, namespace, host)? {
                    log.info(format_args!("removing leftover interface {}", plan.interface));
                    return host.create_pair(&spec).map(Some).map_err(failed);
                }
                let message = format!(
                    "{} has an interface {} already that this plugin did not make",
                    namespace.path().display(),
                    plan.interface
                );
                return Err(Error::new(Code::InvalidConfig, message)
                    .details("choose another CNI_IFNAME, or run DEL of whatever made it"));
            }
            let found = host.link_by_name(plan.host_interface).map_err(failed)?;
            if found.is_some_and(|link| !plan.may_replace(link.alias.as_deref())) {
                return Ok(None);
            }
            // The name is this attachment's by record, so what has it is a leftover.
            log.info(format_args!(
                "removing leftover interface {}",
                plan.host_interface
            ));
            host.delete_link_by_name(plan.host_interface).map_err(failed)?;
            host.create_pair(&spec).map(Some).map_err(failed)
        }
        Err(problem) if plan.device == PairKind::Netkit && problem.is_unsupported() => {
            log.warning(format_args!(
                "this kernel has no netkit devices; a veth pair is made instead"
            ));
            host.create_pair(&PairSpec {
                kind: PairKind::Veth,
                ..spec
            })
            .map(Some)
            .map_err(failed)
        }
        Err(problem) => Err(failed(problem)),
    }
}

/// Removes the pair that has the interface's name in the container, if its alias on the host says that it is this
/// attachment's. Whether it was.
fn remove_own(plan: &Plan<'_>, namespace: &Namespace, host: &mut Netlink) -> Result<bool, Error> {
    let failed = |problem: kernel::Error| error::kernel(&problem);
    let look = || Netlink::open()?.link_by_name(plan.interface);
    let inside = namespace.visit(look).and_then(|result| result).map_err(failed)?;
    let Some(other_end) = inside.and_then(|inside| inside.peer_index) else {
        return Ok(false);
    };
    let link = host.link_by_index(other_end).map_err(failed)?;
    let own = link.filter(|link| link.alias.is_some() && link.alias == plan.alias);
    let Some(link) = own else { return Ok(false) };
    host.delete_link_by_name(&link.name).map_err(failed)
}

fn interface_exists(name: &str, namespace: &Namespace) -> Result<bool, Error> {
    let look = || Netlink::open()?.link_by_name(name);
    let found = namespace.visit(look).and_then(|result| result);
    found
        .map(|link| link.is_some())
        .map_err(|problem| error::kernel(&problem))
}

/// The container's side; runs in its namespace. Returns a socket there, and the interface's index.
fn inside(plan: &Plan<'_>, index: u32) -> kernel::Result<(Netlink, u32)> {
    let mut socket = Netlink::open()?;
    let interface = plan.interface;
    let index = match index {
        // Kernels before 6.2 do not say the peer's index.
        0 => socket.link_by_name(interface)?.map_or(0, |link| link.index),
        known => known,
    };
    if plan.has_v6() {
        for scope in ["all", "default", "lo"] {
            ensure(&format!("net/ipv6/conf/{scope}/disable_ipv6"), "0")?;
        }
        sysctl::write(&format!("net/ipv6/conf/{interface}/disable_ipv6"), "0")?;
        sysctl::write(&format!("net/ipv6/conf/{interface}/accept_dad"), "0")?;
    }
    let link = LinkId::named(index, interface);
    let mut batch = Batch::new();
    for address in &plan.addresses {
        let flags = if address.is_ipv6() {
            AddressFlags::NO_DAD
        } else {
            AddressFlags::default()
        };
        batch.push(Request::add_address(link, prefix::host_prefix(*address), flags));
    }
    batch.push(Request::set_link_up(link));
    for gateway in plan.gateways() {
        batch.push(Request::add_neighbour(link, gateway, HOST_MAC));
    }
    let before = batch.len();
    batch.extend(plan.container_routes(index).iter().map(Request::add_route));
    let mut is_further = false;
    for (number, outcome) in socket.apply_each(batch)?.into_iter().enumerate() {
        match outcome {
            // Another of the container's interfaces has the route, and without it the routes after it are refused.
            Err(problem) if number >= before && (is_further || problem.is_exists()) => is_further = true,
            outcome => outcome?,
        }
    }
    if is_further {
        further_interface::set_routes(plan, index, &mut socket)?;
    }
    let forwarding = if plan.allow_ip_forwarding { "1" } else { "0" };
    if plan.has_v4() {
        ensure("net/ipv4/ip_forward", forwarding)?;
    }
    if plan.has_v6() {
        ensure("net/ipv6/conf/all/forwarding", forwarding)?;
    }
    Ok((socket, index))
}

/// The side that came up first gets its carrier with the other, and until the kernel's link watch has noticed, which takes
/// a while on a busy machine, it drops what the container sends. Since Linux 6.8 asking for the link is enough to make
/// it notice; before that it is asked until it has.
fn wait_until_running(container: &mut Netlink, index: u32, log: &Log) -> kernel::Result<()> {
    const LIMIT: Duration = Duration::from_secs(1);
    const PAUSE: Duration = Duration::from_millis(1);
    let begin = Instant::now();
    while container
        .link_by_index(index)?
        .is_some_and(|link| !link.is_running())
    {
        if begin.elapsed() > LIMIT {
            log.warning(format_args!(
                "the container's interface is not running after {LIMIT:?}; going on"
            ));
            break;
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// The kernel finishes an IPv6 address in a work queue, some milliseconds later on a busy machine: only then it hears
/// solicitations for it, and packets to it are delivered instead of routed away. A first packet that comes earlier
/// waits a second for the next solicitation, or is lost.
fn wait_until_local(socket: &mut Netlink, index: u32, addresses: &[IpAddr], log: &Log) -> kernel::Result<()> {
    const LIMIT: Duration = Duration::from_secs(1);
    const PAUSE: Duration = Duration::from_micros(200);
    let filter = RouteFilter {
        family: Some(Family::Ipv6),
        interface: Some(index),
        table: Some(LOCAL_TABLE),
        ..RouteFilter::default()
    };
    let begin = Instant::now();
    loop {
        let routes = socket.routes(filter)?;
        let is_local = |address: &IpAddr| {
            let mut local = routes.iter().filter(|route| route.kind == RouteKind::Local);
            local.any(|route| route.destination.addr() == *address)
        };
        if addresses.iter().all(is_local) {
            return Ok(());
        }
        if begin.elapsed() > LIMIT {
            log.warning(format_args!(
                "IPv6 addresses are not usable after {LIMIT:?}; going on"
            ));
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
}

/// Writes a sysctl unless it has the value: a write of some takes the kernel's one networking lock.
fn ensure(path: &str, value: &str) -> kernel::Result<()> {
    if sysctl::read(path).is_ok_and(|found| found == value) {
        Ok(())
    } else {
        sysctl::write(path, value)
    }
}

/// The host's side. Everything that filters is set before the link is up.
fn outside(plan: &Plan<'_>, link: &Link, host: &mut Netlink, log: &Log) -> kernel::Result<()> {
    let name = plan.host_interface;
    let conf = plan.host_ipv4_conf();
    let change = LinkChange {
        alias: plan.alias.as_deref(),
        ipv4_conf: &conf,
        addr_gen_mode: plan.has_v6().then_some(AddrGenMode::Eui64),
        ..LinkChange::default()
    };
    let warn = |result: kernel::Result<()>| {
        if let Err(problem) = result {
            log.warning(format_args!("{problem}; going on without it"));
        }
    };
    let mut batch = Batch::new();
    if plan.has_v6() {
        // The kernel has no IPv6 settings for a device whose IPv6 is off, so that comes first.
        ensure(&format!("net/ipv6/conf/{name}/disable_ipv6"), "0")?;
        for (setting, value) in [("accept_dad", "0"), ("proxy_ndp", "1")] {
            sysctl::write(&format!("net/ipv6/conf/{name}/{setting}"), value)?;
        }
        ipv6::forward_from(name, host, log)?;
    }
    warn(
        sysctl::write(&format!("net/ipv6/conf/{name}/accept_ra"), "0").or_else(|problem| {
            // No IPv6 in this kernel: nothing to refuse.
            if problem.is_not_found() {
                Ok(())
            } else {
                Err(problem)
            }
        }),
    );
    if plan.has_v4() {
        warn(sysctl::write(&format!("net/ipv4/neigh/{name}/proxy_delay"), "0"));
    }
    batch.push(Request::change_link(link, &change));
    batch.push(Request::set_link_up(link));
    let routes = plan.host_routes(link.index);
    batch.extend(routes.iter().map(Request::add_route));
    host.apply(batch)
}

/// What was made is there: the link, and routes that lead to it and to nothing else.
fn read_back(plan: &Plan<'_>, link: &Link, host: &mut Netlink) -> Result<(), Error> {
    for address in &plan.addresses {
        let found = host
            .route_lookup(*address)
            .map_err(|problem| error::kernel(&problem))?;
        let interface = found.as_ref().and_then(|route| route.interface);
        if interface != Some(link.index) {
            let found = found.map_or_else(|| "nowhere".to_owned(), |route| route.to_string());
            let message = format!(
                "the route to {address} does not lead to {} but: {found}",
                plan.host_interface
            );
            return Err(Error::new(Code::TryAgainLater, message)
                .details("another program changes routes of this host"));
        }
    }
    Ok(())
}
