// SPDX-License-Identifier: Apache-2.0
//! ADD: checks, addresses and records in one commit, then the kernel, then the result. The order of steps, and what
//! takes each back, is here; how each is done is in the modules named.

mod records;

use std::{mem::ManuallyDrop, net::IpAddr};

use calico_ipam::{
    assign,
    attachment::{AttachedAddress, AttachedDns, Attachment},
    cluster, interface_record,
    log::Log,
    plugin::{KNOWN_ARGS, check_allocations, require_names},
    release::{self, Cause},
    session::Session,
};
use cni_plugin::{AddResult, Attachment as Request, Call, Code, Dns, Error, Interface, IpConfig, Route};
use datastore::{Entry, Write};
use kernel::{MacAddress, Namespace, Netlink, Opened};

use crate::{
    addresses::{self, Obtained},
    config::Config,
    context::Context,
    inspect,
    interface_name::{self, Choice},
    mtu,
    plan::{HOST_MAC, Plan},
    policy_wait, step,
    undo::Undo,
    wiring::{self, Built},
    workload::Workload,
};

/// RFC 8200 5; the kernel has no IPv6 on an interface below it.
const IPV6_MINIMUM_MTU: u32 = 1280;

/// Serves ADD.
pub fn add(config: &Config, log: &Log, call: &Call, request: &Request) -> Result<AddResult, Error> {
    request.args.require_known(&KNOWN_ARGS)?;
    require_names(request)?;
    let namespace = open_namespace(request)?;
    if !config.annotations.floating.is_empty() && !config.allow_floating_addresses {
        let message = "annotation cni.projectcalico.org/floatingIPs is not allowed; set \"feature_control.floating_ips\": true";
        return Err(Error::new(Code::InvalidConfig, message));
    }
    assign::requested_addresses(request.args.value("IP"), &call.config.runtime.ips)?;
    for gate in &config.readiness_gates {
        gate.wait()?;
    }
    // The process ends with its answer, and the kernel closes everything sooner than destructors do.
    let session = ManuallyDrop::new(Session::open(&config.settings, log)?);
    assign::prepare(&session)?;
    let workload = Workload::of(&session, config, request);
    let context = Context {
        session: &session,
        config,
        call,
        request,
        workload,
        namespace,
    };

    if let Some((attachment, entry)) = session.attachment(&context.workload.id)?
        && let Some(result) = context.repeat(&attachment, &entry)?
    {
        return Ok(result);
    }
    match context.first(false)? {
        Some(result) => Ok(result),
        // Its own name can be nobody else's.
        None => context
            .first(true)?
            .ok_or_else(|| interface_name::none_is_free(&context.workload)),
    }
}

/// Opens the container's namespace; ADD needs it.
fn open_namespace(request: &Request) -> Result<Namespace, Error> {
    let invalid = |message: String| Error::new(Code::InvalidEnvironment, message);
    let path = request
        .netns
        .as_deref()
        .ok_or_else(|| invalid("required env variables [CNI_NETNS] missing".into()))?;
    match Namespace::open(path)
        .map_err(|problem| calico_ipam::error::kernel(&problem).context("CNI_NETNS"))?
    {
        // CNI_NETNS_OVERRIDE is for plugins that work on the host itself.
        Opened::Namespace(namespace) if namespace.is_current().unwrap_or(false) => Err(invalid(format!(
            "CNI_NETNS {} is the host's own network namespace; give the container's",
            path.display()
        ))),
        Opened::Namespace(namespace) => Ok(namespace),
        Opened::Missing => Err(invalid(format!("CNI_NETNS {} does not exist", path.display()))),
        Opened::NotANamespace => Err(invalid(format!(
            "CNI_NETNS {} is no network namespace",
            path.display()
        ))),
    }
}

impl Context<'_> {
    /// The first ADD of an attachment. `None`, and nothing is done, if the name on the host was taken; `taken` says
    /// that this has happened with Calico's.
    fn first(&self, taken: bool) -> Result<Option<AddResult>, Error> {
        let Self { session, config, .. } = self;
        let mut host = Netlink::open().map_err(|problem| calico_ipam::error::kernel(&problem))?;
        let mtu = mtu::decide(config, &mut host)?;
        let mac = self.mac()?;
        let mut undo = Undo::new(session.log);
        let (choice, obtained, endpoint) = self.assign(mac, mtu, taken, &mut undo)?;
        step::done("assigned");
        // What an earlier sandbox of the pod had goes back to it: it lives on if this one does not come to life.
        let previous: Vec<Entry> = endpoint.into_iter().chain(choice.previous.clone()).collect();
        undo.push("addresses", move || {
            self.release()?;
            self.restore(&previous)
        });

        let mut plan = self.plan(&choice.name, mac, mtu, &obtained.addresses);
        plan.replaces_any = choice.is_ours;
        if let Some(mtu) = mtu.filter(|mtu| plan.has_v6() && *mtu < IPV6_MINIMUM_MTU) {
            let message = format!("an MTU of {mtu} is too small for IPv6, which needs {IPV6_MINIMUM_MTU}");
            return Err(Error::new(Code::InvalidConfig, message).details("raise \"mtu\", or do without IPv6"));
        }
        match wiring::build(&plan, &self.namespace, &mut host, session.log, &mut undo)? {
            Built::Yes => {}
            Built::NameTaken => {
                session.log.info(format_args!(
                    "{} is the interface of a container that no record knows; another name is taken",
                    choice.name
                ));
                return Ok(None);
            }
        }
        self.require_record(&choice.name)?;
        self.wait_for_policy(&plan);
        for attached in &obtained.addresses {
            session.log.info(format_args!(
                "added {} address={} interface={}",
                self.workload.id.handle(),
                attached.address,
                choice.name
            ));
        }
        if !session.settings.run_dir.join("agent.sock").exists() {
            session.log.info(format_args!(
                "no routed-agent runs here: traffic to other hosts and to the outside needs it"
            ));
        }
        undo.keep();
        Ok(Some(self.result(&plan, obtained.dns)))
    }

    /// A further ADD of an attachment that has a record: the same result if it is intact, a rebuilt interface with
    /// the same addresses if it is not. `None` if the addresses are not its own any more.
    fn repeat(&self, attachment: &Attachment, entry: &Entry) -> Result<Option<AddResult>, Error> {
        let Self {
            session,
            config: _,
            workload,
            ..
        } = self;
        let managed = attachment
            .addresses
            .iter()
            .filter(|attached| attached.sequence.is_some());
        let managed: Vec<IpAddr> = managed.map(|attached| attached.address).collect();
        let complete = attachment.host_interface.is_some() && !attachment.addresses.is_empty();
        if !complete || check_allocations(session, &workload.id, &managed).is_err() {
            session.log.warning(format_args!(
                "{}: the record of an earlier ADD does not hold; starting anew",
                workload.id.handle()
            ));
            let _lock = session.lock()?;
            release::release(session, &workload.id, Some((attachment, entry)), Cause::FailedAdd)?;
            return Ok(None);
        }
        let mut host = Netlink::open().map_err(|problem| calico_ipam::error::kernel(&problem))?;
        let name = attachment.host_interface.clone().unwrap_or_default();
        let mac = attachment.mac.as_deref().and_then(|mac| mac.parse().ok());
        let mtu = Some(attachment.mtu).filter(|mtu| *mtu > 0);
        let mut plan = self.plan(&name, mac.unwrap_or(HOST_MAC), mtu, &attachment.addresses);
        if let Some(found) = inspect::intact(&plan, mac.is_some(), &self.namespace, &mut host)? {
            session.log.info(format_args!(
                "{}: repeated ADD, nothing to do",
                workload.id.handle()
            ));
            plan.mac = found;
            return Ok(Some(self.result(&plan, attachment.dns.clone().into())));
        }
        session.log.warning(format_args!(
            "{}: the interface is gone or damaged; rebuilding it",
            workload.id.handle()
        ));
        if mac.is_none() {
            plan.mac = self.mac()?;
        }
        let mac = plan.mac.to_string();
        let rebuilt = Attachment::moved(&entry.value, self.request.netns.as_deref(), &mac);
        session.commit(vec![Write::update(entry.key.clone(), &rebuilt, entry.revision)])?;
        let failed = |problem: kernel::Error| calico_ipam::error::kernel(&problem);
        if interface_record::owned(session, &workload.id, &name)?.is_none() {
            let message = format!(
                "{name} is the interface of a later sandbox of {} now",
                workload.id.handle()
            );
            return Err(Error::new(Code::InvalidConfig, message).details("run DEL of this sandbox"));
        }
        host.delete_link_by_name(&name).map_err(failed)?;
        self.remove_own_leftover()?;
        let mut undo = Undo::new(session.log);
        if wiring::build(&plan, &self.namespace, &mut host, session.log, &mut undo)? == Built::NameTaken {
            return Err(interface_name::none_is_free(workload));
        }
        self.require_record(&name)?;
        undo.keep();
        Ok(Some(self.result(&plan, attachment.dns.clone().into())))
    }

    /// Addresses and all records, in one commit.
    fn assign<'u>(
        &'u self,
        mac: MacAddress,
        mtu: Option<u32>,
        taken: bool,
        undo: &mut Undo<'u>,
    ) -> Result<(Choice, Obtained, Option<Entry>), Error> {
        let Self {
            session,
            config,
            workload,
            ..
        } = self;
        let delegated = if config.is_own_ipam() {
            None
        } else {
            let obtained = addresses::delegate(session, config, self.call)?;
            undo.push("delegated addresses", || {
                addresses::release_delegate(config, self.call).map_err(|problem| problem.to_string())
            });
            step::done("delegated IPAM");
            Some(obtained)
        };
        session.read_ahead()?;
        let _lock = session.lock()?;
        let choice = interface_name::choose(session, workload, &config.interface_prefix, taken)?;
        let (endpoint, random) = (self.stored_endpoint()?, cluster::random()?);
        let dns = delegated.as_ref().map(|obtained| obtained.dns.clone());
        let dns = AttachedDns::from(dns.unwrap_or_default());
        let mut records = |addresses: &[AttachedAddress]| {
            self.records(&choice, (mac, mtu), addresses, &dns, endpoint.as_ref(), random)
        };
        let obtained = match delegated {
            Some(obtained) => {
                session.commit(records(&obtained.addresses))?;
                obtained
            }
            None => addresses::obtain(session, config, workload, self.call, self.request, &mut records)?,
        };
        Ok((choice, obtained, endpoint))
    }

    /// An interface of our making that lost its host side's name or was moved: the record says it is ours.
    fn remove_own_leftover(&self) -> Result<(), Error> {
        let interface = self.request.interface.as_str();
        let remove = || Netlink::open()?.delete_link_by_name(interface).map(drop);
        let removed = self.namespace.visit(remove).and_then(|result| result);
        removed.map_err(|problem| calico_ipam::error::kernel(&problem))
    }

    fn wait_for_policy(&self, plan: &Plan<'_>) {
        if let Some(limit) = self.config.policy_timeout {
            policy_wait::wait(
                self.config,
                &self.workload,
                plan.host_interface,
                limit,
                self.session.log,
            );
        }
    }

    /// The MAC address of the container's side: annotation, then `runtimeConfig.mac`, then `CNI_ARGS` MAC, else a
    /// random locally administered one.
    fn mac(&self) -> Result<MacAddress, Error> {
        if let Some(mac) = self.config.annotations.hardware_address {
            return Ok(MacAddress(mac));
        }
        let requested = self
            .call
            .config
            .runtime
            .mac
            .as_deref()
            .or_else(|| self.request.args.value("MAC"));
        if let Some(text) = requested {
            return crate::annotations::parse_mac(text)
                .map(MacAddress)
                .ok_or_else(|| {
                    let message = format!(
                        "requested MAC address {text:?} is not valid; write for example ca:fe:ca:fe:ca:fe"
                    );
                    Error::new(Code::InvalidConfig, message)
                });
        }
        // A unicast, locally administered address.
        let random = cluster::random()?;
        let mut mac = [0; 6];
        mac.copy_from_slice(&random[..6]);
        mac[0] = mac[0] & !1 | 2;
        Ok(MacAddress(mac))
    }

    fn result(&self, plan: &Plan<'_>, ipam_dns: Dns) -> AddResult {
        let sandbox = self
            .request
            .netns
            .as_deref()
            .map(|path| path.display().to_string())
            .unwrap_or_default();
        let host = Interface {
            name: plan.host_interface.to_owned(),
            mac: HOST_MAC.to_string(),
            mtu: plan.mtu.unwrap_or_default(),
            ..Interface::default()
        };
        let container = Interface {
            name: plan.interface.to_owned(),
            mac: plan.mac.to_string(),
            mtu: plan.mtu.unwrap_or_default(),
            sandbox,
            ..Interface::default()
        };
        let ip = |address: &IpAddr| IpConfig {
            interface: Some(1),
            address: addresses::full_prefix(*address),
            gateway: None,
        };
        let route = |destination: &ipnet::IpNet| {
            plan.gateway(destination)
                .map(|gateway| Route::new(*destination, Some(gateway)))
        };
        let configured = &self.call.config.dns;
        AddResult {
            interfaces: vec![host, container],
            ips: plan.addresses.iter().map(ip).collect(),
            routes: plan.destinations.iter().filter_map(route).collect(),
            dns: if configured.is_empty() {
                ipam_dns
            } else {
                configured.clone()
            },
        }
    }
}
