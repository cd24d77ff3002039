// SPDX-License-Identifier: Apache-2.0
//! Others that drop what containers send and receive: an accept of ours cannot override a drop in another table, so it has
//! to be where the drop is. Tables of `iptables` have places for that (`DOCKER-USER`, else the head of `FORWARD`), and the
//! rules carry the comment `calico`; of others it can only be said that they drop.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Report, command::run, verdict};
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
    /// Where there are rules of ours.
    answered: Vec<Answered>,
    /// What drops and cannot be answered, by code.
    pub(super) problems: BTreeMap<String, String>,
    /// What drops and is answered, by table, and how; as reported.
    answers: BTreeMap<String, String>,
}

/// Rules of ours: the program that made them, and the chain they are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answered {
    program: &'static str,
    place: &'static str,
}

/// A base chain of others on the forward hook.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chain {
    family: String,
    table: String,
    name: String,
}

impl Forward {
    /// Looks for drops and answers them. `prefixes` are what the names of container interfaces start with. Returned is
    /// what is new: drops that are answered, and own rules that somebody had taken away.
    pub(super) fn see_to(&mut self, prefixes: &[String]) -> Vec<Report> {
        self.problems.clear();
        let listing = list(&["list", "chains"]);
        let (mut needed, mut answers, mut reports) = (Vec::new(), BTreeMap::new(), Vec::new());
        for dropping in listing
            .iter()
            .flat_map(|chains| droppings(chains, prefixes, rules))
        {
            let program = match (dropping.family.as_str(), dropping.table.as_str()) {
                ("ip", "filter") => Some("iptables"),
                ("ip6", "filter") => Some("ip6tables"),
                _ => None,
            };
            let Chain { family, table, name } = &dropping;
            let drops = format!("chain {name} of table {family} {table} drops forwarded packets");
            let done = program.map_or(Err(String::new()), |program| answer(program, prefixes));
            match done {
                Ok((answered, inserted)) => {
                    let Answered { program, place } = answered;
                    if inserted && self.answered.contains(&answered) {
                        let rules = format!("rules of {program} in {place} for containers");
                        reports.push(Report::Repaired(rules));
                    }
                    let text = format!("{drops}; {program} accepts those from and to containers in {place}");
                    answers.insert(format!("{family} {table}"), text);
                    needed.push(answered);
                }
                Err(problem) => {
                    let mut text = format!("{drops}; accept those from and to containers there");
                    if !problem.is_empty() {
                        text = format!("{text} ({problem})");
                    }
                    self.problems.insert(format!("{CODE}-{family}-{table}"), text);
                }
            }
        }
        for Answered { program, .. } in std::mem::take(&mut self.answered) {
            if !needed.iter().any(|answered| answered.program == program) {
                withdraw(program, prefixes);
            }
        }
        self.answered = needed;
        reports.extend(news(&self.answers, &answers));
        self.answers = answers;
        reports
    }

    /// Takes away what is ours, of earlier lives too.
    pub(super) fn remove(&mut self, prefixes: &[String]) {
        self.answered.clear();
        for program in ["iptables", "ip6tables"] {
            withdraw(program, prefixes);
        }
    }
}

/// What is answered otherwise than before, or no more.
fn news(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<Report> {
    let over = before.keys().filter(|table| !now.contains_key(*table));
    let over = over.map(|table| (table, String::new()));
    let new = now
        .iter()
        .filter(|(table, answer)| before.get(*table) != Some(answer));
    let new = new.map(|(table, answer)| (table, answer.clone()));
    over.chain(new)
        .map(|(table, answer)| Report::Answered {
            table: table.clone(),
            answer,
        })
        .collect()
}

fn list(what: &[&str]) -> Option<Value> {
    // Without the members of sets, which may be many and say nothing here.
    let arguments: Vec<&str> = ["-j", "-t"].iter().chain(what).copied().collect();
    serde_json::from_str(&run("nft", &arguments, None).ok()?).ok()
}

/// The rules of a base chain, and of all chains that it may lead to where it is not of iptables.
fn rules(chain: &Chain) -> Option<Value> {
    let Chain { family, table, name } = chain;
    if chain.is_of_iptables() {
        list(&["list", "chain", family, table, name])
    } else {
        list(&["list", "table", family, table])
    }
}

impl Chain {
    /// Whether there may be rules of ours in it, so that what it accepts does not count.
    fn is_of_iptables(&self) -> bool {
        matches!(self.family.as_str(), "ip" | "ip6") && self.table == "filter" && self.name == "FORWARD"
    }
}

/// Base chains of others on the forward hook that drop what containers send or receive.
fn droppings(chains: &Value, prefixes: &[String], rules: impl Fn(&Chain) -> Option<Value>) -> Vec<Chain> {
    let items = chains["nftables"].as_array().into_iter().flatten();
    let of = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let forward = items
        .map(|item| &item["chain"])
        .filter(|chain| chain["hook"] == "forward");
    let foreign = forward.filter(|chain| chain["table"] != TABLE);
    foreign
        .filter_map(|listed| {
            let chain = Chain {
                family: of(&listed["family"]),
                table: of(&listed["table"]),
                name: of(&listed["name"]),
            };
            let by_policy = listed["policy"] == "drop";
            let is_answered_anyway = by_policy && chain.is_of_iptables();
            let listing = if is_answered_anyway { None } else { rules(&chain) };
            let drops = listing.map_or(by_policy, |mut listing| {
                if chain.is_of_iptables() {
                    forget_accepting(&mut listing);
                }
                let dropped = |prefix: &String| verdict::drops(&listing, &chain.name, prefix);
                prefixes.iter().any(dropped)
            });
            drops.then_some(chain)
        })
        .collect()
}

/// Takes what accepts out of a listing.
fn forget_accepting(listing: &mut Value) {
    if let Some(items) = listing["nftables"].as_array_mut() {
        items.retain(|item| {
            let last = item["rule"]["expr"].as_array().and_then(|rule| rule.last());
            last.is_none_or(|last| last.get("accept").is_none())
        });
    }
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

/// Puts rules where they are missing; whether there were such.
fn answer(program: &'static str, prefixes: &[String]) -> Result<(Answered, bool), String> {
    let place = PLACES
        .into_iter()
        .find(|place| run(program, &["-w", "5", "-S", place], None).is_ok())
        .ok_or("no chain for it")?;
    let mut inserted = false;
    for rule in accepting(prefixes) {
        if tables(program, "-C", place, &rule).is_err() {
            tables(program, "-I", place, &rule)?;
            inserted = true;
        }
    }
    Ok((Answered { program, place }, inserted))
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
            { "chain": { "family": "ip", "table": "lenient", "name": "forward", "hook": "forward", "policy": "accept" } },
            { "chain": { "family": "inet", "table": "firewalld", "name": "filter_FORWARD", "hook": "forward", "policy": "accept" } },
            { "chain": { "family": "inet", "table": "unlisted", "name": "forward", "hook": "forward", "policy": "drop" } },
            { "chain": { "family": "inet", "table": "calico", "name": "forward", "hook": "forward", "policy": "drop" } },
            { "chain": { "family": "ip", "table": "filter", "name": "DOCKER-USER" } },
        ] });
        let rules = |chain: &Chain| {
            let rule = |expressions: Value| json!({ "rule": { "chain": chain.name, "expr": expressions } });
            let rules = match chain.table.as_str() {
                "firewalld" => vec![rule(
                    json!([{ "counter": { "packets": 1 } }, { "reject": { "type": "icmpx" } }]),
                )],
                // With an answer of ours, which stays as long as what it answers.
                "filter" => vec![
                    rule(json!([{ "accept": null }])),
                    rule(json!([{ "xt": { "type": "target", "name": "REJECT" } }])),
                ],
                "unlisted" => return None,
                _ => vec![rule(json!([{ "match": {} }, { "drop": null }]))],
            };
            let mut items = vec![json!({ "chain": { "name": chain.name, "hook": "forward" } })];
            items.extend(rules);
            Some(json!({ "nftables": items }))
        };
        let found: Vec<String> = droppings(&chains, &["cali".to_owned()], rules)
            .into_iter()
            .map(|chain| format!("{} {} {}", chain.family, chain.table, chain.name))
            .collect();
        assert_eq!(
            found,
            [
                "ip filter FORWARD",
                "ip6 filter FORWARD",
                "inet firewalld filter_FORWARD",
                "inet unlisted forward"
            ]
        );
    }
}
