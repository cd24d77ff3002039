// SPDX-License-Identifier: Apache-2.0
//! Others that drop what containers send and receive: an accept of ours cannot override a drop in another table, so it has
//! to be where the drop is. Tables of `iptables` have places for that (`DOCKER-USER`, else the head of `FORWARD`), and the
//! rules carry the comment `calico`; of others it can only be said that they drop.

use std::collections::BTreeMap;

use serde_json::Value;

use super::command::run;
use crate::nftables::{TABLE, is_device_name};

/// Readiness code; the table's family and name follow.
pub(super) const CODE: &str = "forward-dropped-by";
/// What is tried to take rules away, so that a chain that never runs out of them ends it.
const REMOVALS: usize = 16;
/// Where rules may be, the best place first.
const PLACES: [&str; 2] = ["DOCKER-USER", "FORWARD"];

/// See the file's comment.
#[derive(Debug, Default)]
pub(super) struct Forward {
    /// Programs whose tables have rules of ours.
    answered: Vec<&'static str>,
    /// What drops and cannot be answered, by code.
    pub(super) problems: BTreeMap<String, String>,
}

/// A chain that drops what nobody accepts before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dropping {
    family: String,
    table: String,
    chain: String,
}

impl Forward {
    /// Looks for drops and answers them. `prefixes` are what the names of container interfaces start with.
    pub(super) fn see_to(&mut self, prefixes: &[String]) {
        self.problems.clear();
        let chains = run("nft", &["-j", "list", "chains"], None).ok();
        let chains: Option<Value> = chains.and_then(|text| serde_json::from_str(&text).ok());
        let mut needed = Vec::new();
        for dropping in chains.iter().flat_map(|chains| droppings(chains, rules)) {
            let program = match (dropping.family.as_str(), dropping.table.as_str()) {
                ("ip", "filter") => Some("iptables"),
                ("ip6", "filter") => Some("ip6tables"),
                _ => None,
            };
            let done = program.is_some_and(|program| answer(program, prefixes).is_ok());
            if let Some(program) = program.filter(|_| done) {
                needed.push(program);
            } else {
                let Dropping { family, table, chain } = dropping;
                self.problems.insert(
                    format!("{CODE}-{family}-{table}"),
                    format!("chain {chain} of table {family} {table} drops forwarded packets; accept those from and to containers there"),
                );
            }
        }
        for program in std::mem::take(&mut self.answered) {
            if !needed.contains(&program) {
                withdraw(program, prefixes);
            }
        }
        self.answered = needed;
    }

    /// Takes away what is ours, of earlier lives too.
    pub(super) fn remove(&mut self, prefixes: &[String]) {
        self.answered.clear();
        for program in ["iptables", "ip6tables"] {
            withdraw(program, prefixes);
        }
    }
}

/// The rules of a chain, as `nft` lists them.
fn rules(dropping: &Dropping) -> Option<Value> {
    let Dropping { family, table, chain } = dropping;
    let text = run("nft", &["-j", "list", "chain", family, table, chain], None).ok()?;
    serde_json::from_str(&text).ok()
}

/// Base chains of others on the forward hook that drop: by their policy, or by a rule without a condition.
fn droppings(chains: &Value, rules: impl Fn(&Dropping) -> Option<Value>) -> Vec<Dropping> {
    let items = chains["nftables"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let of = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let forward = items
        .iter()
        .map(|item| &item["chain"])
        .filter(|chain| chain["hook"] == "forward");
    let foreign = forward.filter(|chain| chain["table"] != TABLE);
    foreign
        .filter_map(|chain| {
            let dropping = Dropping {
                family: of(&chain["family"]),
                table: of(&chain["table"]),
                chain: of(&chain["name"]),
            };
            let drops =
                chain["policy"] == "drop" || rules(&dropping).is_some_and(|rules| ends_in_drop(&rules));
            drops.then_some(dropping)
        })
        .collect()
}

/// Whether a rule drops or rejects whatever comes to it.
fn ends_in_drop(listing: &Value) -> bool {
    let items = listing["nftables"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    items
        .iter()
        .filter_map(|item| item["rule"]["expr"].as_array())
        .any(|expressions| {
            let mut verdicts = expressions
                .iter()
                .filter(|expression| expression.get("counter").is_none());
            let first = verdicts.next();
            first.is_some_and(|verdict| verdict.get("drop").is_some() || verdict.get("reject").is_some())
        })
}

/// The rules that let containers' packets through.
fn accepting(prefixes: &[String]) -> Vec<Vec<String>> {
    let usable = prefixes.iter().filter(|prefix| is_device_name(prefix));
    let each = usable.flat_map(|prefix| {
        ["-i", "-o"].map(|side| {
            let words = [
                side,
                &format!("{prefix}+"),
                "-m",
                "comment",
                "--comment",
                "calico",
                "-j",
                "ACCEPT",
            ];
            words.map(str::to_owned).to_vec()
        })
    });
    each.collect()
}

fn tables(program: &str, action: &str, place: &str, rule: &[String]) -> Result<String, String> {
    let mut arguments = vec!["-w", "5", action, place];
    arguments.extend(rule.iter().map(String::as_str));
    run(program, &arguments, None)
}

fn answer(program: &str, prefixes: &[String]) -> Result<(), String> {
    let place = PLACES
        .into_iter()
        .find(|place| run(program, &["-w", "5", "-S", place], None).is_ok())
        .ok_or("no chain for it")?;
    for rule in accepting(prefixes) {
        if tables(program, "-C", place, &rule).is_err() {
            tables(program, "-I", place, &rule)?;
        }
    }
    Ok(())
}

fn withdraw(program: &str, prefixes: &[String]) {
    for place in PLACES {
        for rule in accepting(prefixes) {
            // As often as it is there.
            let mut tries = 0..REMOVALS;
            while tries.next().is_some() && tables(program, "-D", place, &rule).is_ok() {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_drops_is_found_and_what_does_not_is_left_alone() {
        let chains = json!({ "nftables": [
            { "metainfo": {} },
            { "chain": { "family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop" } },
            { "chain": { "family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "policy": "drop" } },
            { "chain": { "family": "ip6", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "accept" } },
            { "chain": { "family": "inet", "table": "firewalld", "name": "filter_FORWARD", "hook": "forward", "policy": "accept" } },
            { "chain": { "family": "inet", "table": "calico", "name": "forward", "hook": "forward", "policy": "drop" } },
            { "chain": { "family": "ip", "table": "filter", "name": "DOCKER-USER" } },
        ] });
        let rules = |dropping: &Dropping| {
            let expressions = match dropping.table.as_str() {
                "firewalld" => json!([{ "counter": { "packets": 1 } }, { "reject": { "type": "icmpx" } }]),
                _ => json!([{ "match": {} }, { "drop": null }]),
            };
            Some(json!({ "nftables": [{ "rule": { "expr": expressions } }] }))
        };
        let found: Vec<String> = droppings(&chains, rules)
            .into_iter()
            .map(|dropping| format!("{} {} {}", dropping.family, dropping.table, dropping.chain))
            .collect();
        assert_eq!(found, ["ip filter FORWARD", "inet firewalld filter_FORWARD"]);
    }
}
