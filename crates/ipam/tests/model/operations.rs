// SPDX-License-Identifier: Apache-2.0
//! The operations that hosts perform at random, what each may change, and, where that is simple to say, what each
//! has to come to when nothing interferes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipam::{
    AccessError, AdoptRequest, AssignError, AssignSpecificError, Engine, HandleSearch, ReleaseOption,
};
use ipnet::IpNet;
use model::{IpPool, IpamConfig, Key, Kind, Node};

use crate::{
    random::Random,
    reference::{Permission, Reference},
    support::*,
    world::{HANDLES, NODES},
};

/// One operation.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Assign {
        node: &'static str,
        handle: String,
        v4: u32,
        v6: u32,
        all_or_nothing: bool,
    },
    Specific {
        node: &'static str,
        handle: String,
        addresses: Vec<IpAddr>,
    },
    Adopt {
        node: &'static str,
        handle: String,
        address: IpAddr,
        replace: bool,
    },
    ReleaseHandle {
        handle: String,
        thorough: bool,
    },
    Release {
        options: Vec<ReleaseOption>,
        together: bool,
    },
    ReleaseHost {
        node: &'static str,
        require_empty: bool,
    },
    ReleasePool {
        pool: IpNet,
    },
    Claim {
        node: &'static str,
        block: IpNet,
    },
}

/// What an operation came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    Assigned(Vec<(IpAddr, u64)>),
    Adopted(Vec<IpAddr>),
    Released(BTreeSet<IpAddr>),
    Done,
    Failed(String),
}

impl Outcome {
    pub(crate) fn name(&self, crashed: bool) -> &'static str {
        match self {
            _ if crashed => "crashed",
            Self::Assigned(_) => "assigned",
            Self::Adopted(_) => "adopted",
            Self::Released(_) => "released",
            Self::Done => "affinity operations",
            Self::Failed(_) => "refused or failed",
        }
    }

    /// The outcome as far as it can be foretold.
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Self::Assigned(_) | Self::Adopted(_) | Self::Done => Verdict::Success,
            Self::Released(released) => Verdict::Released(released.clone()),
            Self::Failed(_) => Verdict::Failure,
        }
    }
}

/// What an operation has to come to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Success,
    Released(BTreeSet<IpAddr>),
    Failure,
}

impl Operation {
    /// A random operation; not one that concerns `other_than`, the handle of the operation it comes in between of.
    pub(crate) fn random(random: &mut Random, reference: &Reference, other_than: Option<&str>) -> Self {
        let node = *random.pick(&NODES).unwrap();
        let mut handle = format!("net.{}", random.below(HANDLES));
        while other_than == Some(&handle) {
            handle = format!("net.{}", random.below(HANDLES));
        }
        match random.below(100) {
            0..38 => {
                let (v4, v6) = [(1, 0), (1, 0), (1, 1), (0, 1), (3, 0), (9, 2)][random.below(6)];
                let all_or_nothing = random.percent(70);
                Self::Assign {
                    node,
                    handle,
                    v4,
                    v6,
                    all_or_nothing,
                }
            }
            38..44 => {
                let mut addresses = vec![random_address(random)];
                if random.percent(30) {
                    addresses.push(random_address(random));
                }
                Self::Specific {
                    node,
                    handle,
                    addresses,
                }
            }
            44..50 => {
                let address = random_address(random);
                let other = reference
                    .holder(address)
                    .is_some_and(|held| other_than == Some(&held.handle));
                let replace = !other && random.percent(50);
                Self::Adopt {
                    node,
                    handle,
                    address,
                    replace,
                }
            }
            50..76 => {
                let used: Vec<&String> = reference.allocations().map(|(_, held)| &held.handle).collect();
                if let Some(used) = random.pick(&used)
                    && other_than != Some(*used)
                    && random.percent(80)
                {
                    handle.clone_from(used);
                }
                let thorough = random.percent(10);
                Self::ReleaseHandle { handle, thorough }
            }
            76..90 => Self::Release {
                options: random_options(random, reference, other_than),
                together: random.percent(60),
            },
            90..95 => Self::ReleaseHost {
                node,
                require_empty: random.percent(70),
            },
            95..96 => Self::ReleasePool {
                pool: net(random
                    .pick(&["10.0.0.0/25", "10.0.1.0/27", "fd00::/122"])
                    .unwrap()),
            },
            _ => Self::Claim {
                node,
                block: net(random
                    .pick(&["10.0.0.16/29", "10.0.0.40/29", "10.0.1.4/30", "fd00::4/126"])
                    .unwrap()),
            },
        }
    }

    pub(crate) fn handle(&self) -> Option<&str> {
        match self {
            Self::Assign { handle, .. }
            | Self::Specific { handle, .. }
            | Self::Adopt { handle, .. }
            | Self::ReleaseHandle { handle, .. } => Some(handle),
            _ => None,
        }
    }

    pub(crate) fn permission(&self) -> Permission {
        match self {
            Self::Assign { handle, .. } => Permission::Assign {
                handle: handle.clone(),
            },
            Self::Specific {
                handle, addresses, ..
            } => Permission::Specific {
                handle: handle.clone(),
                addresses: addresses.iter().copied().collect(),
            },
            Self::Adopt {
                handle,
                address,
                replace,
                ..
            } => Permission::Adopt {
                handle: handle.clone(),
                addresses: BTreeSet::from([*address]),
                replace: *replace,
            },
            Self::ReleaseHandle { handle, .. } => Permission::ReleaseHandle {
                handle: handle.clone(),
            },
            Self::Release { options, .. } => Permission::Release {
                addresses: options.iter().map(|option| option.address).collect(),
            },
            Self::ReleaseHost { .. } | Self::ReleasePool { .. } | Self::Claim { .. } => Permission::None,
        }
    }

    /// How many addresses it may gain.
    pub(crate) fn at_most(&self) -> usize {
        match self {
            Self::Assign { v4, v6, .. } => (v4 + v6) as usize,
            Self::Specific { addresses, .. } => addresses.len(),
            Self::Adopt { .. } => 1,
            _ => 0,
        }
    }

    pub(crate) fn run(&self, engine: &Engine<'_>) -> Outcome {
        match self {
            Self::Assign {
                node,
                handle,
                v4,
                v6,
                all_or_nothing,
            } => {
                let mut wanted = request(node, handle, *v4, *v6);
                wanted.all_or_nothing = *all_or_nothing;
                match engine.auto_assign(&wanted, &mut no_writes) {
                    Ok(assignment) => Outcome::Assigned(pairs(&assignment.addresses)),
                    Err(error) => Outcome::Failed(error_text(&error)),
                }
            }
            Self::Specific {
                node,
                handle,
                addresses,
            } => {
                let mut wanted = specific(node, handle, &[]);
                wanted.addresses.clone_from(addresses);
                match engine.assign_specific(&wanted, &mut no_writes) {
                    Ok(assigned) => Outcome::Assigned(pairs(&assigned)),
                    Err(AssignSpecificError::Access(error)) => Outcome::Failed(access_text(&error)),
                    Err(error) => Outcome::Failed(error.to_string()),
                }
            }
            Self::Adopt {
                node,
                handle,
                address,
                replace,
            } => {
                let wanted = AdoptRequest {
                    node: (*node).to_owned(),
                    handle: handle.clone(),
                    attributes: BTreeMap::new(),
                    addresses: vec![*address],
                    replace: *replace,
                    cause: "model".to_owned(),
                };
                match engine.adopt(&wanted, &mut no_writes) {
                    Ok(adopted) => Outcome::Adopted(adopted.iter().map(|one| one.assigned.address).collect()),
                    Err(error) => Outcome::Failed(error.to_string()),
                }
            }
            Self::ReleaseHandle { handle, thorough } => {
                let search = if *thorough {
                    HandleSearch::Thorough
                } else {
                    HandleSearch::Listed
                };
                match engine.release_by_handle(handle, search, "model", &mut |_| Vec::new()) {
                    Ok(report) => Outcome::Released(report.released.into_iter().collect()),
                    Err(error) => Outcome::Failed(access_text(&error)),
                }
            }
            Self::Release { options, together } => {
                let mut none = |_: &[IpAddr]| Vec::new();
                let result = if *together {
                    engine.release_addresses(options, "model", Some(&mut none))
                } else {
                    engine.release_addresses(options, "model", None)
                };
                match result {
                    Ok(report) => Outcome::Released(report.released.into_iter().collect()),
                    Err(error) => Outcome::Failed(access_text(&error)),
                }
            }
            Self::ReleaseHost { node, require_empty } => {
                done(engine.release_host_affinities(node, *require_empty, "model"))
            }
            Self::ReleasePool { pool } => done(engine.release_pool_affinities(*pool, "model")),
            Self::Claim { node, block } => done(engine.claim_affinities(&host(node), *block, "model")),
        }
    }

    /// What it has to come to when nothing interferes; `None` where that takes an engine to say.
    pub(crate) fn expect(&self, reference: &Reference, cluster: &Cluster) -> Option<Verdict> {
        let config: IpamConfig = cluster.get(&Key::IpamConfig).unwrap();
        match self {
            Self::ReleaseHandle { handle, .. } => {
                Some(Verdict::Released(reference.of_handle(handle).collect()))
            }
            // Whether a cooling address still has the sequence number of its release depends on the time.
            Self::Release { options, .. } => {
                let cooling = |option: &ReleaseOption| {
                    let mut blocks = reference.blocks.values();
                    blocks.any(|block| block.cooling.contains(&option.address))
                };
                let foretold = !options.iter().any(cooling);
                foretold.then(|| Verdict::Released(expected_release(reference, options)))
            }
            Self::Assign {
                node, v4: 1, v6: 0, ..
            } if !config.strict_affinity && config.max_blocks_per_host == 0 => {
                let node: Node = cluster.get(&Key::resource(Kind::Node, *node)).unwrap();
                let zone_b = node.metadata.labels["zone"] == "b";
                let pools = [("pool", true), ("zone", zone_b)]
                    .into_iter()
                    .filter(|(_, selected)| *selected);
                let pools =
                    pools.map(|(name, _)| cluster.get::<IpPool>(&Key::resource(Kind::IpPool, name)).unwrap());
                let pools: Vec<IpNet> = pools.filter(IpPool::enabled).map(|pool| pool.spec.cidr).collect();
                let has_free = |(cidr, block): (&IpNet, &crate::reference::Seen)| {
                    pools.iter().any(|pool| pool.contains(cidr))
                        && block.queue.iter().any(|address| !reference.is_unusable(*address))
                        && !reference.occupied.iter().any(|taken| cidr.contains(taken))
                };
                reference.blocks.iter().any(has_free).then_some(Verdict::Success)
            }
            Self::Specific { addresses, .. } if addresses.len() == 1 && !config.strict_affinity => {
                let address = addresses[0];
                let pools = ["pool", "zone", "v6"]
                    .map(|name| cluster.get::<IpPool>(&Key::resource(Kind::IpPool, name)));
                let enabled = |pool: &IpPool| pool.enabled() && pool.spec.cidr.contains(&address);
                if !pools.into_iter().flatten().any(|pool| enabled(&pool))
                    || reference.holder(address).is_some()
                {
                    return Some(Verdict::Failure);
                }
                let in_use = cluster.network.in_use.lock().unwrap().contains(&address);
                let free = reference
                    .blocks
                    .values()
                    .any(|block| block.queue.contains(&address));
                free.then_some(if in_use {
                    Verdict::Failure
                } else {
                    Verdict::Success
                })
            }
            _ => None,
        }
    }
}

/// The rules of a release by address, said once more in another way: per block all or nothing.
fn expected_release(reference: &Reference, options: &[ReleaseOption]) -> BTreeSet<IpAddr> {
    let mut released = BTreeSet::new();
    for (cidr, block) in &reference.blocks {
        let here = options.iter().filter(|option| cidr.contains(&option.address));
        let refused = |option: &&ReleaseOption| {
            let Some(held) = block.held.get(&option.address) else {
                return option.sequence.is_some_and(|sequence| sequence != 0);
            };
            option.sequence.is_some_and(|sequence| sequence != held.sequence)
                || option
                    .handle
                    .as_ref()
                    .is_some_and(|handle| *handle != held.handle)
        };
        if !here.clone().any(|option| refused(&option)) {
            released.extend(
                here.map(|option| option.address)
                    .filter(|address| block.held.contains_key(address)),
            );
        }
    }
    released
}

fn random_address(random: &mut Random) -> IpAddr {
    let text = match random.below(10) {
        0..6 => format!("10.0.0.{}", random.below(128)),
        6..8 => format!("10.0.1.{}", random.below(32)),
        8 => format!("fd00::{:x}", random.below(64)),
        _ => "10.99.0.1".to_owned(),
    };
    ip(&text)
}

fn random_options(
    random: &mut Random,
    reference: &Reference,
    other_than: Option<&str>,
) -> Vec<ReleaseOption> {
    let held: Vec<_> = reference
        .allocations()
        .filter(|(_, held)| other_than != Some(&held.handle))
        .collect();
    let mut options = Vec::new();
    for _ in 0..=random.below(3) {
        let mut option = ReleaseOption::unconditional(random_address(random));
        if let Some((address, held)) = random.pick(&held) {
            option.address = *address;
            option.handle = random.percent(60).then(|| held.handle.clone());
            option.sequence = random.percent(60).then_some(held.sequence);
        }
        match random.below(12) {
            0 => option.handle = Some("net.wrong".to_owned()),
            1 => option.sequence = Some(option.sequence.unwrap_or(7) ^ 1),
            2 => option.address = random_address(random),
            _ => {}
        }
        let foreign = reference
            .holder(option.address)
            .is_some_and(|held| other_than == Some(&held.handle));
        if !foreign && other_than.is_none_or(|_| option.sequence.is_some()) {
            options.push(option);
        }
    }
    options
}

fn pairs(assigned: &[ipam::Assigned]) -> Vec<(IpAddr, u64)> {
    assigned
        .iter()
        .map(|assigned| (assigned.address, assigned.sequence))
        .collect()
}

fn done<T, E: ToString>(result: Result<T, E>) -> Outcome {
    match result {
        Ok(_) => Outcome::Done,
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

/// Contention is a failure of the engine here: nothing in these tests can cause a hundred conflicts in a row.
fn access_text(error: &AccessError) -> String {
    assert!(!matches!(error, AccessError::Contention { .. }), "{error}");
    error.to_string()
}

fn error_text(error: &AssignError) -> String {
    match error {
        AssignError::Access(error) => access_text(error),
        other => other.to_string(),
    }
}
