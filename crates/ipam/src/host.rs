// SPDX-License-Identifier: Apache-2.0
//! Claiming and releasing affinities by the prefix, by the host and by the pool: what operators, the agent and the
//! removal of a node or pool ask for. None of it frees an address.

use ipnet::IpNet;
use model::{AffinityOwner, Key, KeyRange, prefix};

use crate::{
    affinity::{AffinityRelease, ReleaseRules},
    candidates::BlockWalk,
    engine::Engine,
    error::{AccessError, AffinityError},
    exclusion::Exclusions,
    family::Family,
    locate::overlapping,
    operation::Operation,
    request::LOAD_BALANCER,
};

/// More blocks than this are not claimed by one call.
const MAX_BLOCKS: u32 = 4096;

/// What claiming the blocks of a prefix did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimReport {
    /// Blocks that are the owner's now.
    pub claimed: Vec<IpNet>,
    /// Blocks that are not, and why.
    pub refused: Vec<(IpNet, String)>,
}

/// What releasing several affinities did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AffinityReport {
    /// What became of each.
    pub outcomes: Vec<(AffinityOwner, IpNet, AffinityRelease)>,
    /// Those that could not be released, and why; the others went on.
    pub failed: Vec<(AffinityOwner, IpNet, String)>,
}

impl Engine<'_> {
    /// Claims every block of a prefix, which has to be inside an enabled pool.
    pub fn claim_affinities(
        &self,
        owner: &AffinityOwner,
        prefix: IpNet,
        cause: &str,
    ) -> Result<ClaimReport, AffinityError> {
        let operation = Operation::new(*self, cause);
        let prefix = prefix.trunc();
        let exclusions = Exclusions::new(&operation, owner.name());
        let mut enabled = operation.pools()?.iter().filter(|pool| pool.enabled());
        let pool = enabled.find(|pool| pool.spec.cidr.contains(&prefix));
        let pool = pool.ok_or(AffinityError::NotInPool { prefix })?;
        let length = pool.spec.effective_block_size();
        match prefix::block_count(&prefix, length) {
            0 => {
                return Err(AffinityError::SmallerThanBlock {
                    prefix,
                    pool: pool.metadata.name.clone(),
                    block_length: length,
                });
            }
            count if count > u128::from(MAX_BLOCKS) => {
                return Err(AffinityError::TooManyBlocks {
                    prefix,
                    limit: MAX_BLOCKS,
                });
            }
            _ => {}
        }
        let existing = operation.block_prefixes(Family::of(&prefix))?;
        let mut report = ClaimReport::default();
        let mut blocks: Vec<IpNet> = BlockWalk::new(prefix, length, owner.name(), 0).collect();
        blocks.sort_unstable();
        for block in blocks {
            if let Some(other) = overlapping(&existing, &block) {
                report.refused.push((
                    block,
                    format!("it overlaps block {other}, which has another size"),
                ));
            } else if let Some(occupied) = exclusions.collision(&block)? {
                report.refused.push((
                    block,
                    format!("it overlaps {} ({})", occupied.prefix, occupied.what),
                ));
            } else {
                match operation.claim(owner, block, &mut |_| Ok(true)) {
                    Ok(Some(_)) => report.claimed.push(block),
                    Ok(None) => report.refused.push((block, "it is somebody else's".to_owned())),
                    Err(AccessError::Damaged { key, defect }) => {
                        report
                            .refused
                            .push((block, format!("{key} is damaged: {defect}")));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(report)
    }

    /// Releases an owner's affinities for blocks inside a prefix.
    pub fn release_affinities(
        &self,
        owner: &AffinityOwner,
        prefix: IpNet,
        require_empty: bool,
        cause: &str,
    ) -> Result<AffinityReport, AccessError> {
        let operation = Operation::new(*self, cause);
        let mut affinities = listed(&operation, &Family::of(&prefix).affinities(owner))?;
        affinities.retain(|(_, block)| prefix.contains(block));
        Ok(release_all(&operation, affinities, require_empty))
    }

    /// Releases every affinity of a node, in both IP versions.
    pub fn release_host_affinities(
        &self,
        node: &str,
        require_empty: bool,
        cause: &str,
    ) -> Result<AffinityReport, AccessError> {
        let operation = Operation::new(*self, cause);
        let owner = AffinityOwner::Host(node.to_owned());
        let mut affinities = listed(&operation, &Family::V4.affinities(&owner))?;
        affinities.extend(listed(&operation, &Family::V6.affinities(&owner))?);
        Ok(release_all(&operation, affinities, require_empty))
    }

    /// Removes a node from IPAM: its blocks become nobody's, or go if they are empty. Its addresses stay allocated
    /// until they are released.
    pub fn remove_host(&self, node: &str, cause: &str) -> Result<AffinityReport, AccessError> {
        self.release_host_affinities(node, false, cause)
    }

    /// Releases every affinity for blocks of a pool, whoever has it: before the pool is deleted.
    pub fn release_pool_affinities(&self, pool: IpNet, cause: &str) -> Result<AffinityReport, AccessError> {
        let operation = Operation::new(*self, cause);
        let virtual_owner = AffinityOwner::Virtual(LOAD_BALANCER.to_owned());
        let mut affinities = listed(&operation, &KeyRange::HostAffinities)?;
        affinities.extend(listed(&operation, &Family::of(&pool).affinities(&virtual_owner))?);
        affinities.retain(|(_, block)| pool.contains(&block.network()));
        Ok(release_all(&operation, affinities, false))
    }
}

fn listed(operation: &Operation<'_>, range: &KeyRange) -> Result<Vec<(AffinityOwner, IpNet)>, AccessError> {
    let affinity = |key| match key {
        Key::Affinity { owner, block } => Some((owner, block)),
        _ => None,
    };
    let entries = operation.engine.store.list(range)?.entries;
    Ok(entries
        .into_iter()
        .filter_map(|entry| affinity(entry.key))
        .collect())
}

fn release_all(
    operation: &Operation<'_>,
    affinities: Vec<(AffinityOwner, IpNet)>,
    require_empty: bool,
) -> AffinityReport {
    let rules = ReleaseRules {
        require_empty,
        sequence: None,
    };
    let mut report = AffinityReport::default();
    for (owner, block) in affinities {
        match operation.release_affinity(&owner, block, rules) {
            Ok(outcome) => report.outcomes.push((owner, block, outcome)),
            Err(error) => report.failed.push((owner, block, error.to_string())),
        }
    }
    report
}
