// SPDX-License-Identifier: Apache-2.0
//! Why something is not as it could be: reasons with codes, for readiness and status.

use ipnet::IpNet;
use serde_json::{Value, json};

use super::core::Core;
use crate::planner::code;

impl Core {
    /// Why containers may not be reachable; empty where they should be.
    pub(super) fn not_ready(&self) -> Vec<Value> {
        let mut reasons = Vec::new();
        let mut add = |code: &str, text: String| reasons.push(json!({ "code": code, "text": text }));
        if !self.has_snapshot {
            add(
                "store-not-read",
                self.store_problem.as_ref().map_or_else(
                    || "the store has not been read yet".into(),
                    |away| away.text.clone(),
                ),
            );
        }
        if self.facts.is_none() {
            add(
                "kernel-not-read",
                "the kernel's state has not been read yet".into(),
            );
        }
        if self.has_snapshot
            && self
                .snapshot
                .nodes
                .get(&self.start.node)
                .is_none_or(|node| node.spec.bgp.is_none())
        {
            let why = self.failures.get("node address").cloned();
            add(
                "node-without-address",
                why.unwrap_or_else(|| "the Node has no address yet".into()),
            );
        }
        for (item, problem) in self.failures.iter().filter(|(item, _)| {
            ["device", "route", "forwarding"]
                .iter()
                .any(|kind| item.starts_with(kind))
        }) {
            add("kernel-refuses", format!("{item}: {problem}"));
        }
        let dropped = self
            .failures
            .iter()
            .filter(|(item, _)| item.starts_with("forward-dropped-by"));
        for (code, problem) in dropped {
            add(code, problem.clone());
        }
        reasons
    }

    /// Routes that are not programmed, and why.
    pub(super) fn refusals(&self) -> Vec<Value> {
        let view =
            |prefix: &IpNet, code: &str, text: &str| json!({ "prefix": prefix, "code": code, "text": text });
        let planned = self
            .refused()
            .map(|(prefix, refusal)| view(prefix, refusal.code, &refusal.text));
        // An own route is always preferred to the same one of a peer's, so planning never meets that.
        let own = self.snapshot.blocks_of(&self.start.node);
        let conflicts = own.filter_map(|(block, _)| {
            let paths = self.speaker.paths(&block);
            let peer = paths
                .iter()
                .filter(|path| !path.refused)
                .find_map(|path| path.peer)?;
            let name = self.peers.get(&peer).map_or("a peer", |peer| peer.name.as_str());
            let text = format!("{block} is a block of this node, and {name} announces it too");
            Some(view(&block, code::OWN_BLOCK, &text))
        });
        planned.chain(conflicts).collect()
    }
}
