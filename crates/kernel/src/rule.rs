// SPDX-License-Identifier: Apache-2.0
//! Policy routing: packets that carry a source address look in a table of their own before the main one.

use ipnet::IpNet;

use crate::error::Result;
use crate::request::Request;
use crate::route::Family;
use crate::socket::Netlink;
use crate::wire::{Attributes, INET, INET6, Message, Received, family, read_address, read_u32};

/// Bytes of `struct fib_rule_hdr`.
const HEADER: usize = 12;
/// `FR_ACT_TO_TBL`
const TO_TABLE: u8 = 1;
/// `FRA_SRC`, `FRA_PRIORITY`, `FRA_TABLE` (`linux/fib_rules.h`)
const SOURCE: u16 = 2;
const PRIORITY: u16 = 6;
const TABLE: u16 = 15;

/// A rule that selects by source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceRule {
    /// Source addresses it applies to.
    pub source: IpNet,
    /// Table it leads to.
    pub table: u32,
    /// Its place among the rules: the smaller first, the main table is at 32766.
    pub priority: u32,
}

impl Request {
    /// Adds a rule; EEXIST if the very same is there.
    pub fn add_rule(rule: &SourceRule) -> Self {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        Self::new(
            message(libc::RTM_NEWRULE, flags, rule),
            format!("add rule from {} lookup {}", rule.source, rule.table),
        )
    }

    /// Deletes a rule; ENOENT if there is none like it.
    pub fn delete_rule(rule: &SourceRule) -> Self {
        Self::new(
            message(libc::RTM_DELRULE, 0, rule),
            format!("delete rule from {} lookup {}", rule.source, rule.table),
        )
    }
}

impl Netlink {
    /// The rules of a family that select by source and lead to a table, in the kernel's order.
    pub fn source_rules(&mut self, family: Family) -> Result<Vec<SourceRule>> {
        let mut header = [0; HEADER];
        header[0] = match family {
            Family::Ipv4 => INET,
            Family::Ipv6 => INET6,
        };
        let message = Message::new(libc::RTM_GETRULE, 0).fixed(&header);
        self.dump(message, "list rules", |rules: &mut Vec<SourceRule>, received| {
            rules.extend(parse(received));
        })
    }
}

fn message(kind: u16, flags: i32, rule: &SourceRule) -> Message {
    let mut header = [0; HEADER];
    header[0] = family(rule.source.addr());
    header[2] = rule.source.prefix_len();
    header[7] = TO_TABLE;
    let mut message = Message::new(kind, flags).fixed(&header);
    message.address(SOURCE, rule.source.network());
    message.number(PRIORITY, rule.priority);
    message.number(TABLE, rule.table);
    message
}

fn parse(received: &Received<'_>) -> Option<SourceRule> {
    if received.kind != libc::RTM_NEWRULE {
        return None;
    }
    let (header, attributes) = received.body.split_at_checked(HEADER)?;
    let (mut source, mut priority, mut table) = (None, 0, u32::from(header[4]));
    for (kind, payload) in Attributes(attributes) {
        match kind {
            SOURCE => source = read_address(payload),
            PRIORITY => priority = read_u32(payload)?,
            TABLE => table = read_u32(payload)?,
            _ => {}
        }
    }
    let source = IpNet::new(source?, header[2]).ok()?;
    (header[7] == TO_TABLE).then_some(SourceRule {
        source,
        table,
        priority,
    })
}
