// SPDX-License-Identifier: Apache-2.0
//! What the rules of an nftables table do to forwarded packets of containers, of which nothing is known but the interface
//! they come from or go to, and that they open a connection. A rule with any other condition does not hold for all of them,
//! so it neither drops nor accepts here.

use std::collections::BTreeMap;

use serde_json::Value;

/// What becomes of a packet in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Accepted,
    Dropped,
    /// It comes out of the chain.
    Returned,
}

/// Packets of containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packets {
    From,
    To,
}

/// Whether a base chain of a table, as `nft -j list table` shows it, drops packets from or to interfaces whose names start
/// with `prefix`.
pub(super) fn drops(table: &Value, chain: &str, prefix: &str) -> bool {
    [Packets::From, Packets::To].into_iter().any(|packets| {
        let mut walk = Walk::new(table, packets, prefix);
        match walk.chain(chain) {
            Verdict::Accepted => false,
            Verdict::Dropped => true,
            Verdict::Returned => walk.drops_by_policy(chain),
        }
    })
}

struct Walk<'a> {
    packets: Packets,
    prefix: &'a str,
    chains: BTreeMap<&'a str, &'a Value>,
    rules: BTreeMap<&'a str, Vec<&'a Vec<Value>>>,
    /// Each chain is walked once, however many jumps lead to it.
    known: BTreeMap<&'a str, Verdict>,
}

impl<'a> Walk<'a> {
    fn new(table: &'a Value, packets: Packets, prefix: &'a str) -> Self {
        let mut walk = Self {
            packets,
            prefix,
            chains: BTreeMap::new(),
            rules: BTreeMap::new(),
            known: BTreeMap::new(),
        };
        for item in table["nftables"].as_array().into_iter().flatten() {
            if let Some(name) = item["chain"]["name"].as_str() {
                walk.chains.insert(name, &item["chain"]);
            }
            if let (Some(chain), Some(rule)) =
                (item["rule"]["chain"].as_str(), item["rule"]["expr"].as_array())
            {
                walk.rules.entry(chain).or_default().push(rule);
            }
        }
        walk
    }

    fn drops_by_policy(&self, chain: &str) -> bool {
        self.chains
            .get(chain)
            .is_some_and(|chain| chain["policy"] == "drop")
    }

    fn chain(&mut self, name: &str) -> Verdict {
        if let Some(known) = self.known.get(name) {
            return *known;
        }
        let Some((name, _)) = self.chains.get_key_value(name) else {
            return Verdict::Returned;
        };
        let name = *name;
        // The kernel lets no chain lead to itself; a listing might.
        self.known.insert(name, Verdict::Returned);
        let verdict = self.rules_of(name);
        self.known.insert(name, verdict);
        verdict
    }

    fn rules_of(&mut self, name: &'a str) -> Verdict {
        for rule in self.rules.get(name).cloned().unwrap_or_default() {
            let Some(last) = self.holds(rule) else { continue };
            let target = |kind: &str| last[kind]["target"].as_str();
            let is = |kind: &str| last.get(kind).is_some();
            if is("accept") {
                return Verdict::Accepted;
            } else if is("drop") || is("reject") || last["xt"]["name"] == "REJECT" {
                return Verdict::Dropped;
            } else if is("return") {
                return Verdict::Returned;
            } else if let Some(target) = target("goto") {
                return self.chain(target);
            } else if let Some(target) = target("jump") {
                match self.chain(target) {
                    Verdict::Returned => {}
                    decided => return decided,
                }
            }
        }
        Verdict::Returned
    }

    /// What a rule does, if it does it to all these packets.
    fn holds<'r>(&self, rule: &'r [Value]) -> Option<&'r Value> {
        let (last, before) = rule.split_last()?;
        let all = before.iter().all(|expression| {
            let is = |kind: &str| expression.get(kind).is_some();
            let is_comment = expression["xt"]["type"] == "match" && expression["xt"]["name"] == "comment";
            match expression.get("match") {
                Some(condition) => self.matches(condition) == Some(true),
                None => is_comment || is("counter") || is("log") || is("mangle"),
            }
        });
        all.then_some(last)
    }

    /// Whether a condition is met; `None`: by some and not by others.
    fn matches(&self, condition: &Value) -> Option<bool> {
        let right = &condition["right"];
        let right = right.get("set").unwrap_or(right);
        let values: Vec<&str> = match right.as_array() {
            Some(values) => values.iter().filter_map(Value::as_str).collect(),
            None => right.as_str().into_iter().collect(),
        };
        // The members of a named set are not listed.
        if values.is_empty() || values.iter().any(|value| value.starts_with('@')) {
            return None;
        }
        let left = &condition["left"];
        let own = match self.packets {
            Packets::From => "iifname",
            Packets::To => "oifname",
        };
        let met = if left["meta"]["key"] == own {
            self.is_own_interface(&values)?
        } else if left["ct"]["key"] == "state" {
            values.contains(&"new")
        } else {
            return None;
        };
        match condition["op"].as_str() {
            Some("==" | "in") => Some(met),
            Some("!=") => Some(!met),
            _ => None,
        }
    }

    fn is_own_interface(&self, names: &[&str]) -> Option<bool> {
        let covers_all = |name: &&str| {
            name.strip_suffix('*')
                .is_some_and(|start| self.prefix.starts_with(start))
        };
        if names.iter().any(covers_all) {
            return Some(true);
        }
        let is_one_of_them = |name: &&str| name.starts_with(self.prefix);
        (!names.iter().any(is_one_of_them)).then_some(false)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const BASE: &str = "forward";

    fn table(policy: &str, chains: &[(&str, Value)]) -> Value {
        let mut items = vec![json!({ "metainfo": {} })];
        for (name, rules) in chains {
            items.push(match *name {
                BASE => json!({ "chain": { "name": name, "hook": "forward", "policy": policy } }),
                _ => json!({ "chain": { "name": name } }),
            });
            let rules = rules.as_array().into_iter().flatten();
            items.extend(rules.map(|rule| json!({ "rule": { "chain": name, "expr": rule } })));
        }
        json!({ "nftables": items })
    }

    fn dropped(policy: &str, rules: Value) -> bool {
        drops(&table(policy, &[(BASE, rules)]), BASE, "cali")
    }

    fn interface(key: &str, names: &Value) -> Value {
        json!({ "match": { "op": "==", "left": { "meta": { "key": key } }, "right": names } })
    }

    #[test]
    fn a_policy_or_a_rule_for_everything_drops() {
        assert!(dropped("drop", json!([])));
        assert!(!dropped("accept", json!([])));
        let reject = json!({ "reject": { "type": "icmpx" } });
        assert!(dropped("accept", json!([[{ "counter": {} }, reject]])));
        assert!(dropped(
            "accept",
            json!([[{ "xt": { "type": "target", "name": "REJECT" } }]])
        ));
        let some = json!({ "match": { "op": "==", "left": { "payload": { "protocol": "tcp", "field": "dport" } }, "right": 25 } });
        assert!(!dropped("accept", json!([[some, { "drop": null }]])));
        assert!(dropped("drop", json!([[some, { "accept": null }]])));
        assert!(!dropped(
            "accept",
            json!([[{ "limit": { "rate": 5 } }, { "drop": null }]])
        ));
    }

    #[test]
    fn both_directions_have_to_be_accepted() {
        let accept = |key: &str, names: Value| json!([interface(key, &names), { "accept": null }]);
        let (from, to) = (
            accept("iifname", json!("cali*")),
            accept("oifname", json!("cali*")),
        );
        assert!(dropped("drop", json!([from])));
        assert!(dropped("drop", json!([to])));
        assert!(!dropped("drop", json!([from, to])));
        let both = json!({ "set": ["eth0", "c*"] });
        assert!(!dropped(
            "drop",
            json!([accept("iifname", both.clone()), accept("oifname", both)])
        ));
        let unless = |names: &str| json!({ "match": { "op": "!=", "left": { "meta": { "key": "iifname" } }, "right": names } });
        assert!(dropped("accept", json!([[unless("eth0"), { "drop": null }]])));
        assert!(!dropped("accept", json!([[unless("@some"), { "drop": null }]])));
        for other in ["eth0", "cali7", "calico*", "docker*", "@some"] {
            let others = json!([accept("iifname", json!(other)), accept("oifname", json!(other))]);
            assert!(dropped("drop", others), "{other}");
        }
    }

    #[test]
    fn what_concerns_established_connections_does_not_help_a_new_one() {
        let state = |names: Value| json!({ "match": { "op": "in", "left": { "ct": { "key": "state" } }, "right": names } });
        assert!(dropped(
            "drop",
            json!([[state(json!(["established", "related"])), { "accept": null }]])
        ));
        assert!(!dropped(
            "drop",
            json!([[state(json!(["established", "new"])), { "accept": null }]])
        ));
        assert!(!dropped(
            "accept",
            json!([[state(json!("invalid")), { "drop": null }]])
        ));
    }

    #[test]
    fn jumps_are_followed_as_firewalld_makes_them() {
        let zones = |rules: Value| {
            let goto = |target: &str| json!([{ "goto": { "target": target } }]);
            let jump = |target: &str| json!([{ "jump": { "target": target } }]);
            let reject = json!([{ "reject": { "type": "icmpx" } }]);
            let mut zone = rules.as_array().cloned().unwrap_or_default();
            zone.push(goto("public"));
            table(
                "accept",
                &[
                    (BASE, json!([jump("zones"), reject])),
                    ("zones", json!(zone)),
                    ("public", json!([jump("policies"), jump("public-allow"), reject])),
                    ("public-allow", json!([])),
                    ("trusted", json!([jump("policies"), [{ "accept": null }]])),
                    (
                        "policies",
                        json!([[interface("oifname", &json!("cali*")), { "jump": { "target": "containers" } }]]),
                    ),
                    ("containers", json!([[{ "accept": null }]])),
                ],
            )
        };
        assert!(drops(&zones(json!([])), BASE, "cali"));
        let trusted = json!([[interface("iifname", &json!("cali*")), { "goto": { "target": "trusted" } }]]);
        assert!(!drops(&zones(trusted.clone()), BASE, "cali"));
        assert!(drops(&zones(trusted), BASE, "eni"));
    }

    #[test]
    fn a_chain_that_leads_to_itself_ends() {
        let circle = table(
            "drop",
            &[
                (BASE, json!([[{ "jump": { "target": "a" } }]])),
                ("a", json!([[{ "goto": { "target": "a" } }]])),
            ],
        );
        assert!(drops(&circle, BASE, "cali"));
    }
}
