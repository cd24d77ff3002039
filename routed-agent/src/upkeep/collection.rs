// SPDX-License-Identifier: Apache-2.0
//! Releasing addresses of this node that no container holds any more: their container died while nobody could tell the
//! plugin, or another program has forgotten them.
//!
//! An address is released only if all of this holds, at two looks in a row, with nothing about it changed in between:
//! - its container is older than the age that GC respects;
//! - its network namespace is gone; where its path is not known, no namespace of this host has the address, and every
//!   process could be looked at;
//! - no host interface is its, and nothing is routed to it;
//! - no container runtime of this host knows it, and every runtime that is there has answered.
//!
//! At most a tenth of the node's addresses go at one look, so that a mistake of whoever is asked has time to be seen.
//! What tunnels, other nodes and other IPAM plugins have is not looked at; neither are virtual machines, whose addresses
//! move with them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use calico_ipam::{
    attachment::{Attachment, AttachmentId},
    release::{self, Cause},
    session::Session,
};
use ipam::ReleaseOption;
use model::{IpamBlock, KeyRange, Timestamp, names::WINDOWS_RESERVED_HANDLE};

use super::{
    Suspect,
    evidence::{Everywhere, Here, has_namespace},
    runtimes::{self, Known},
};

/// One in so many of a node's addresses goes at one look, at most.
const PORTION: usize = 10;

/// What is allocated under one handle on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Holder {
    /// Address, sequence number, and when it was assigned, where that is recorded.
    addresses: Vec<(IpAddr, u64, Option<Timestamp>)>,
    attachments: Vec<(AttachmentId, Attachment)>,
    /// It is not for this to judge: a tunnel's, a virtual machine's, partly another node's.
    exempt: bool,
}

impl Holder {
    /// IDs that runtimes may know its container by.
    fn containers<'h>(&'h self, handle: &'h str) -> impl Iterator<Item = &'h str> {
        let recorded = self.attachments.iter().map(|(id, _)| id.container_id.as_str());
        recorded
            .chain(AttachmentId::readings(handle).map(|(_, container)| container))
            .chain([handle])
    }

    /// Whether only the look into all namespaces tells that its own is gone.
    fn needs_search(&self) -> bool {
        self.attachments.is_empty()
            || self
                .attachments
                .iter()
                .any(|(_, attachment)| attachment.namespace_path.is_none())
    }
}

/// What one look came to.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) suspects: Vec<Suspect>,
    pub(super) collected: usize,
    pub(super) undecided: Option<String>,
}

/// What earlier looks found.
#[derive(Debug, Default)]
pub(super) struct Collector {
    /// Dead so far, by handle, and since when that is known.
    suspects: BTreeMap<String, (Holder, Instant)>,
}

impl Collector {
    /// Looks at all addresses of this node, and releases what two looks agree on.
    pub(super) fn look(
        &mut self,
        session: &Session<'_>,
        sockets: &[PathBuf],
        report: &dyn Fn(String),
    ) -> Result<Found> {
        let holders = holders(session)?;
        let here = Here::look(&session.node)?;
        let now = session.now();
        let minimum_age = session.settings.gc_minimum_age;
        let all: usize = holders.values().map(|holder| holder.addresses.len()).sum();
        let mut suspects: BTreeMap<String, Holder> = holders
            .into_iter()
            .filter(|(_, holder)| is_suspect(holder, &here, now, minimum_age))
            .collect();
        let mut found = Found::default();
        // Only now what costs more: most looks end here.
        if !suspects.is_empty() {
            match (Everywhere::look(), runtimes::ask(sockets)) {
                (Err(problem), _) | (_, Err(problem)) => {
                    // Nothing is known, so nothing has been seen twice either.
                    self.suspects.clear();
                    found.undecided = Some(format!("{problem:#}"));
                    return Ok(found);
                }
                (Ok(everywhere), Ok(known)) => {
                    found.undecided = acquit(&mut suspects, &everywhere, &known);
                }
            }
        }
        let due = self.remember(suspects, minimum_age);
        let mut budget = (all / PORTION).max(1);
        for (handle, holder) in due {
            let size = holder.addresses.len().max(1);
            // One that is larger than a tenth goes alone.
            if size > budget && found.collected > 0 || budget == 0 {
                break;
            }
            budget = budget.saturating_sub(size);
            if let Some(released) = collect(session, &handle, &holder)? {
                found.collected += released.len();
                report(format!(
                    "{} of {handle} released: the container's namespace and interface are gone, and no runtime knows it",
                    list(&released)
                ));
            }
            self.suspects.remove(&handle);
        }
        found.suspects = self
            .suspects
            .iter()
            .map(|(handle, (holder, _))| Suspect {
                handle: handle.clone(),
                addresses: holder.addresses.iter().map(|(address, ..)| *address).collect(),
            })
            .collect();
        Ok(found)
    }

    /// Takes in what this look suspects; what the last one suspected just so, the oldest first.
    fn remember(
        &mut self,
        suspects: BTreeMap<String, Holder>,
        minimum_age: Duration,
    ) -> Vec<(String, Holder)> {
        let now = Instant::now();
        let before = std::mem::take(&mut self.suspects);
        let mut due = Vec::new();
        for (handle, holder) in suspects {
            let since = match before.get(&handle) {
                Some((same, since)) if *same == holder => {
                    let undated = holder.attachments.is_empty()
                        && holder.addresses.iter().any(|(.., assigned)| assigned.is_none());
                    // Its age is not recorded: it is at least as old as the suspicion.
                    if !undated || now.duration_since(*since) >= minimum_age {
                        due.push((*since, handle.clone(), holder.clone()));
                    }
                    *since
                }
                _ => now,
            };
            self.suspects.insert(handle, (holder, since));
        }
        due.sort_by_key(|(since, ..)| *since);
        due.into_iter()
            .map(|(_, handle, holder)| (handle, holder))
            .collect()
    }
}

/// Everything of this node, by handle.
fn holders(session: &Session<'_>) -> Result<BTreeMap<String, Holder>> {
    let mut blocks = Vec::new();
    for v6 in [false, true] {
        let listing = session
            .list(&KeyRange::Blocks { v6 })
            .map_err(|problem| anyhow!("{problem}"))?;
        // A block that cannot be read hides its addresses: they stay.
        blocks.extend(listing.entries.iter().filter_map(|entry| entry.decode().ok()));
    }
    let attachments = session
        .attachments("")
        .map_err(|problem| anyhow!("{problem}"))?
        .into_iter()
        .map(|(id, attachment, _)| (id, attachment));
    Ok(grouped(&session.node, &blocks, attachments))
}

fn grouped(
    node: &str,
    blocks: &[IpamBlock],
    attachments: impl Iterator<Item = (AttachmentId, Attachment)>,
) -> BTreeMap<String, Holder> {
    let mut holders: BTreeMap<String, Holder> = BTreeMap::new();
    let mut elsewhere = BTreeSet::new();
    for block in blocks {
        for (ordinal, index) in block.allocations.iter().enumerate() {
            let Some(attribute) = index.and_then(|index| block.attributes.get(index)) else {
                continue;
            };
            let (Some(handle), Some(address)) = (&attribute.handle_id, block.address(ordinal)) else {
                continue;
            };
            if handle == WINDOWS_RESERVED_HANDLE || attribute.released_at.is_some() {
                continue;
            }
            if attribute.secondary.get("node").is_none_or(|found| found != node) {
                elsewhere.insert(handle.clone());
                continue;
            }
            let holder = holders.entry(handle.clone()).or_default();
            let sequence = block.sequence_number_for_allocation.get(&ordinal).copied();
            let assigned = attribute
                .secondary
                .get("timestamp")
                .and_then(|text| Timestamp::parse_go(text).ok());
            holder
                .addresses
                .push((address, sequence.unwrap_or_default(), assigned));
            // `type` is what tunnels have, `vmi-name` what virtual machines have.
            holder.exempt |= ["type", "vmi-name"]
                .iter()
                .any(|key| attribute.secondary.contains_key(*key));
        }
    }
    for (id, attachment) in attachments {
        let ours = attachment
            .addresses
            .iter()
            .any(|attached| attached.sequence.is_some());
        let holder = holders.entry(id.handle()).or_default();
        // Another IPAM plugin's addresses are released by its own DEL.
        holder.exempt |= !ours;
        holder.attachments.push((id, attachment));
    }
    for (handle, holder) in &mut holders {
        holder.exempt |= elsewhere.contains(handle);
    }
    holders
}

/// Whether what this namespace shows speaks against a holder.
fn is_suspect(holder: &Holder, here: &Here, now: Timestamp, minimum_age: Duration) -> bool {
    if holder.exempt {
        return false;
    }
    let is_young = |since: Timestamp| now.since(since) < minimum_age;
    let lives = |(id, attachment): &(AttachmentId, Attachment)| {
        is_young(Timestamp::from_unix(attachment.created, 0))
            || has_namespace(attachment) == Some(true)
            || here.holds(id, attachment)
    };
    let in_use = |(address, _, assigned): &(IpAddr, u64, Option<Timestamp>)| {
        here.routes(*address) || assigned.is_some_and(is_young)
    };
    !holder.attachments.iter().any(lives) && !holder.addresses.iter().any(in_use)
}

/// Leaves out whoever the other namespaces or a runtime know. The reason why some could not be judged.
fn acquit(suspects: &mut BTreeMap<String, Holder>, everywhere: &Everywhere, known: &Known) -> Option<String> {
    let mut unjudged = 0_usize;
    suspects.retain(|handle, holder| {
        let is_held = holder
            .addresses
            .iter()
            .any(|(address, ..)| everywhere.has(*address));
        if is_held || holder.containers(handle).any(|id| known.contains(id)) {
            return false;
        }
        let open = holder.needs_search() && !everywhere.hidden.is_empty();
        unjudged += usize::from(open);
        !open
    });
    let first = everywhere.hidden.first().filter(|_| unjudged > 0)?;
    Some(format!(
        "{unjudged} containers whose namespace is not recorded are left alone, since not every process may be looked at \
         ({} and {} more); the agent needs CAP_SYS_PTRACE and the host's processes for that",
        first.display(),
        everywhere.hidden.len() - 1
    ))
}

/// Releases what is allocated under a handle, if it is still as it was; `None` if it is not.
fn collect(session: &Session<'_>, handle: &str, holder: &Holder) -> Result<Option<Vec<IpAddr>>> {
    let failed = |problem: cni_plugin::Error| anyhow!("{problem}");
    let _lock = session.lock().map_err(failed)?;
    // Under the lock no container starts: what is so now stays so until it is released.
    let now = holders(session)?.remove(handle);
    let here = Here::look(&session.node)?;
    let still = now.filter(|now| now == holder);
    if still.is_none_or(|now| !is_suspect(&now, &here, session.now(), Duration::ZERO)) {
        return Ok(None);
    }
    let mut released = Vec::new();
    for (id, _) in &holder.attachments {
        let record = session.attachment(id).map_err(failed)?;
        let record = record.as_ref().map(|(attachment, entry)| (attachment, entry));
        released.extend(release::release(session, id, record, Cause::Collection).map_err(failed)?);
    }
    if holder.attachments.is_empty() {
        let options: Vec<ReleaseOption> = holder
            .addresses
            .iter()
            .map(|(address, sequence, _)| ReleaseOption {
                address: *address,
                handle: Some(handle.to_owned()),
                sequence: Some(*sequence),
            })
            .collect();
        let report = session.with_engine(|engine| engine.release_addresses(&options, "collection", None))?;
        released.extend(report.released);
    }
    Ok(Some(released))
}

fn list(addresses: &[IpAddr]) -> String {
    if addresses.is_empty() {
        return "the record".to_owned();
    }
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(", ")
}

#[cfg(test)]
mod tests {
    use model::AllocationAttribute;

    use super::*;

    /// Handle, node, further attribute.
    type Allocated<'a> = (&'a str, &'a str, Option<(&'a str, &'a str)>);

    /// A block with one address for each of these.
    fn block(allocations: &[Allocated<'_>]) -> IpamBlock {
        let mut block = IpamBlock::new("10.0.0.0/28".parse().unwrap(), None, None, 1).unwrap();
        for (ordinal, (handle, node, further)) in allocations.iter().enumerate() {
            let mut attribute = AllocationAttribute {
                handle_id: Some((*handle).to_owned()),
                ..AllocationAttribute::default()
            };
            let further = further
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            attribute.secondary = further.chain([("node".to_owned(), (*node).to_owned())]).collect();
            block.allocations[ordinal] = Some(ordinal);
            block.attributes.push(attribute);
            block.sequence_number_for_allocation.insert(ordinal, 5);
        }
        block
    }

    fn attachment(container: &str, sequence: Option<u64>, path: Option<&str>) -> (AttachmentId, Attachment) {
        let id = AttachmentId {
            node: "a".into(),
            network: "net".into(),
            container_id: container.into(),
            interface: "eth0".into(),
        };
        let attached = calico_ipam::attachment::AttachedAddress {
            address: "10.0.0.0".parse().unwrap(),
            sequence,
        };
        let attachment = Attachment {
            namespace_path: path.map(Into::into),
            addresses: vec![attached],
            ..Attachment::default()
        };
        (id, attachment)
    }

    fn judged(holders: &BTreeMap<String, Holder>) -> Vec<&str> {
        let here = Here::default();
        let now = Timestamp::from_unix(1_000_000, 0);
        let suspect = |holder: &Holder| is_suspect(holder, &here, now, Duration::from_secs(300));
        holders
            .iter()
            .filter(|(_, holder)| suspect(holder))
            .map(|(handle, _)| handle.as_str())
            .collect()
    }

    #[test]
    fn what_is_not_for_this_node_to_judge_is_left_alone() {
        let block = block(&[
            ("net.dead", "a", None),
            ("net.other", "b", None),
            ("net.shared", "a", None),
            ("net.shared", "b", None),
            ("ipip-tunnel-addr-a", "a", Some(("type", "ipipTunnelAddress"))),
            ("net.vmi.x", "a", Some(("vmi-name", "x"))),
            (WINDOWS_RESERVED_HANDLE, "a", None),
            (
                "net.young",
                "a",
                Some(("timestamp", "1970-01-12 13:45:00 +0000 UTC")),
            ),
            (
                "net.old",
                "a",
                Some(("timestamp", "1970-01-12 13:00:00 +0000 UTC")),
            ),
        ]);
        let foreign = attachment("foreign", None, Some("/run/netns/gone"));
        let holders = grouped("a", &[block], [foreign].into_iter());
        assert_eq!(judged(&holders), ["net.dead", "net.old"]);
    }

    #[test]
    fn cooling_addresses_are_free_already() {
        let mut block = block(&[("net.dead", "a", None)]);
        block.attributes[0].released_at = Some(Timestamp::from_unix(1, 0));
        assert!(grouped("a", &[block], std::iter::empty()).is_empty());
    }

    #[test]
    fn a_record_whose_addresses_are_gone_is_judged_too() {
        let left = attachment("left", Some(5), Some("/run/netns/gone"));
        let holders = grouped("a", &[], [left].into_iter());
        assert_eq!(judged(&holders), ["net.left"]);
    }

    #[test]
    fn a_live_namespace_speaks_for_its_container() {
        let own = "/proc/self/ns/net";
        let here = attachment("here", Some(5), Some(own));
        assert_eq!(
            has_namespace(&here.1),
            Some(false),
            "the number of a process is no proof"
        );
        let (id, mut local) = here;
        local.addresses[0].address = "127.0.0.1".parse().unwrap();
        assert_eq!(has_namespace(&local), Some(true));
        let holders = grouped("a", &[], [(id, local)].into_iter());
        assert_eq!(judged(&holders), [""; 0]);
    }

    #[test]
    fn a_runtime_or_another_namespace_acquits_and_hidden_processes_leave_orphans_open() {
        let names = ["net.dead", "my.net.known", "net.held"];
        let block = block(&names.map(|name| (name, "a", None)));
        let recorded = attachment("recorded", Some(5), Some("/run/netns/gone"));
        let holders = grouped("a", &[block], [recorded].into_iter());
        let known: Known = ["known".to_owned()].into_iter().collect();
        let everywhere = Everywhere::of(["10.0.0.2".parse().unwrap()], &[]);
        let mut suspects = holders.clone();
        assert_eq!(acquit(&mut suspects, &everywhere, &known), None);
        assert!(suspects.keys().eq(["net.dead", "net.recorded"]), "{suspects:?}");
        let everywhere = Everywhere::of(["10.0.0.2".parse().unwrap()], &["/proc/1/ns/net"]);
        let mut suspects = holders;
        let open = acquit(&mut suspects, &everywhere, &known).unwrap();
        assert!(
            open.starts_with("1 containers") && open.contains("/proc/1/ns/net"),
            "{open}"
        );
        assert!(
            suspects.keys().eq(["net.recorded"]),
            "its path is proof enough: {suspects:?}"
        );
    }

    #[test]
    fn two_looks_have_to_agree_in_everything() {
        let holder = |sequence| Holder {
            addresses: vec![(
                "10.0.0.1".parse().unwrap(),
                sequence,
                Some(Timestamp::from_unix(1, 0)),
            )],
            ..Holder::default()
        };
        let seen = |sequence| BTreeMap::from([("net.x".to_owned(), holder(sequence))]);
        let mut collector = Collector::default();
        assert_eq!(collector.remember(seen(1), Duration::ZERO), []);
        assert_eq!(collector.remember(seen(2), Duration::ZERO), [], "assigned anew");
        assert_eq!(collector.remember(BTreeMap::new(), Duration::ZERO), []);
        assert_eq!(
            collector.remember(seen(2), Duration::ZERO),
            [],
            "it was alive in between"
        );
        assert_eq!(collector.remember(seen(2), Duration::ZERO).len(), 1);
        let undated = Holder {
            addresses: vec![("10.0.0.1".parse().unwrap(), 1, None)],
            ..Holder::default()
        };
        let undated = || BTreeMap::from([("net.y".to_owned(), undated.clone())]);
        for _ in 0..3 {
            assert_eq!(
                collector.remember(undated(), Duration::from_secs(300)),
                [],
                "not known to be old"
            );
        }
    }
}
