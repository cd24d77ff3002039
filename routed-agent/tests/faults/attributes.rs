// SPDX-License-Identifier: Apache-2.0
//! Malformed UPDATEs over a session that is up, case by case, with the consequence of RFC 7606: the attribute is left out,
//! the routes count as withdrawn, or the session ends. Disabling one family is answered as the RFC allows, by ending the
//! session: each session carries one family.

use anyhow::{Context as _, Result, ensure};
use ipnet::Ipv4Net;
use serde_json::Value;

use crate::{
    polite::{until, until_row},
    stage::{AGENT_AS, AS, HOSTILE, Stage},
    wire::{
        Line, OPTIONAL, Offer, PROMPT, TRANSITIVE, WELL_KNOWN, announce, as_path, attribute, next_hop,
        numbered, origin, prefixes, update, v4net,
    },
    world::v4,
};

/// The prefix that all cases are about.
const PREFIX: &str = "20.0.5.0/24";

/// What a case is to cost (RFC 7606 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cost {
    /// Nothing is wrong.
    Nothing,
    /// The route is there without the attribute.
    Attribute,
    /// The route is gone.
    Routes,
    /// The session ends with this NOTIFICATION.
    Session(u8, u8),
}

use Cost::{Attribute, Nothing, Routes, Session};

/// One malformed message.
struct Case {
    what: String,
    message: Vec<u8>,
    cost: Cost,
}

/// The three mandatory attributes as they should be.
struct Good {
    path: Vec<u8>,
}

impl Good {
    fn of(numbers: &[u32]) -> Self {
        Self {
            path: as_path(numbers),
        }
    }

    /// With one more attribute.
    fn and(&self, more: &[u8]) -> Vec<u8> {
        Self::around(&origin(), &self.path, &next_hop(v4(HOSTILE)), more)
    }

    fn around(origin: &[u8], path: &[u8], hop: &[u8], more: &[u8]) -> Vec<u8> {
        let attributes = [origin, path, hop, more].concat();
        update(&[], &attributes, &prefixes(&[v4net(PREFIX)]))
    }

    fn with_origin(&self, origin: &[u8]) -> Vec<u8> {
        Self::around(origin, &self.path, &next_hop(v4(HOSTILE)), &[])
    }

    fn with_path(path: &[u8]) -> Vec<u8> {
        Self::around(&origin(), path, &next_hop(v4(HOSTILE)), &[])
    }

    fn with_hop(&self, hop: &[u8]) -> Vec<u8> {
        Self::around(&origin(), &self.path, hop, &[])
    }

    /// Without NLRI of its own and without `NEXT_HOP`, as with multiprotocol attributes.
    fn multiprotocol(&self, more: &[u8]) -> Vec<u8> {
        update(&[], &[&origin(), &self.path[..], more].concat(), &[])
    }
}

fn case(what: impl Into<String>, message: Vec<u8>, cost: Cost) -> Case {
    Case {
        what: what.into(),
        message,
        cost,
    }
}

/// `MP_REACH_NLRI` with a next hop and a field of prefixes as they are.
fn reach(flags: u8, afi: u8, hop: &[u8], nlri: &[u8]) -> Vec<u8> {
    let length = u8::try_from(hop.len()).expect("a short one");
    attribute(flags, 14, &[&[0, afi, 1, length], hop, &[0], nlri].concat())
}

/// `MP_UNREACH_NLRI`.
fn unreach(flags: u8, nlri: &[u8]) -> Vec<u8> {
    attribute(flags, 15, &[&[0, 1, 1], nlri].concat())
}

/// Wrong in the same way from every peer.
fn of_any_peer(numbers: &[u32]) -> Vec<Case> {
    let good = Good::of(numbers);
    let mut cases = vec![case("nothing wrong", good.and(&[]), Nothing)];
    for value in [&[][..], &[0, 0], &[3], &[255]] {
        let origin = attribute(WELL_KNOWN, 1, value);
        cases.push(case(
            format!("ORIGIN {value:?}"),
            good.with_origin(&origin),
            Routes,
        ));
    }
    for value in [
        &[0, 1, 0, 0, 0, 9][..],
        &[5, 1, 0, 0, 0, 9],
        &[2, 0],
        &[2, 2, 0, 0, 0, 9],
        &[2, 1, 0, 0, 0, 9, 2],
        &[2, 1, 0, 0],
        &[3, 1, 0, 0, 0, 9],
        &[2],
    ] {
        let path = attribute(WELL_KNOWN, 2, value);
        cases.push(case(format!("AS_PATH {value:?}"), Good::with_path(&path), Routes));
    }
    for value in [&[][..], &[10, 1, 0], &[10, 1, 0, 3, 0], &[0; 16]] {
        let hop = attribute(WELL_KNOWN, 3, value);
        cases.push(case(format!("NEXT_HOP {value:?}"), good.with_hop(&hop), Routes));
    }
    // Type, name, flags, lengths that are wrong, cost.
    for (kind, name, flags, lengths, cost) in [
        (4, "MED", OPTIONAL, &[0, 3, 5][..], Routes),
        (6, "ATOMIC_AGGREGATE", WELL_KNOWN, &[1, 4], Attribute),
        (7, "AGGREGATOR", TRANSITIVE, &[0, 6, 7, 9], Attribute),
        (8, "COMMUNITIES", TRANSITIVE, &[0, 3, 5, 6], Routes),
        (16, "EXTENDED COMMUNITIES", TRANSITIVE, &[0, 7, 9], Routes),
        (17, "AS4_PATH", TRANSITIVE, &[6], Attribute),
        (18, "AS4_AGGREGATOR", TRANSITIVE, &[8], Attribute),
        (32, "LARGE_COMMUNITY", TRANSITIVE, &[0, 4, 11, 13], Routes),
    ] {
        for length in lengths {
            let value = attribute(flags, kind, &vec![1; *length]);
            cases.push(case(format!("{name} of {length} octets"), good.and(&value), cost));
        }
    }
    cases.extend(flags(&good));
    cases.extend(twice(&good));
    cases.extend(lists(&good));
    cases.extend(multiprotocol(&good));
    cases
}

/// Optional and transitive are fixed for what is known (RFC 7606 3 c).
fn flags(good: &Good) -> Vec<Case> {
    let mut cases = Vec::new();
    for wrong in [OPTIONAL, TRANSITIVE, 0] {
        cases.push(case(
            format!("ORIGIN with flags {wrong:#x}"),
            good.with_origin(&attribute(wrong, 1, &[0])),
            Routes,
        ));
        let mut path = good.path.clone();
        path[0] = wrong;
        cases.push(case(
            format!("AS_PATH with flags {wrong:#x}"),
            Good::with_path(&path),
            Routes,
        ));
        let hop = attribute(wrong, 3, &[10, 1, 0, HOSTILE]);
        cases.push(case(
            format!("NEXT_HOP with flags {wrong:#x}"),
            good.with_hop(&hop),
            Routes,
        ));
    }
    for (kind, name, wrong, length) in [
        (4, "MED", WELL_KNOWN, 4),
        (4, "MED", TRANSITIVE, 4),
        (8, "COMMUNITIES", OPTIONAL, 4),
        (8, "COMMUNITIES", WELL_KNOWN, 4),
        (32, "LARGE_COMMUNITY", OPTIONAL, 12),
    ] {
        let value = attribute(wrong, kind, &vec![1; length]);
        cases.push(case(
            format!("{name} with flags {wrong:#x}"),
            good.and(&value),
            Routes,
        ));
    }
    let list = prefixes(&[v4net(PREFIX)]);
    let hop = [10, 1, 0, HOSTILE];
    cases.push(case(
        "MP_REACH_NLRI with the flags of a transitive one",
        good.multiprotocol(&reach(TRANSITIVE, 1, &hop, &list)),
        Routes,
    ));
    cases.push(case(
        "MP_UNREACH_NLRI with the flags of a transitive one",
        good.multiprotocol(&unreach(TRANSITIVE, &list)),
        Routes,
    ));
    cases
}

/// Of an attribute that occurs twice the first counts; twice the routes themselves is no list (RFC 7606 3 g).
fn twice(good: &Good) -> Vec<Case> {
    let list = prefixes(&[v4net(PREFIX)]);
    let hop = [10, 1, 0, HOSTILE];
    let reached = reach(OPTIONAL, 1, &hop, &list);
    let unreached = unreach(OPTIONAL, &[]);
    vec![
        case("ORIGIN twice", good.and(&origin()), Attribute),
        case(
            "ORIGIN twice, then wrong",
            good.and(&attribute(WELL_KNOWN, 1, &[7])),
            Attribute,
        ),
        case("AS_PATH twice", good.and(&good.path), Attribute),
        case(
            "NEXT_HOP twice",
            good.and(&attribute(WELL_KNOWN, 3, &[10, 1, 0, 99])),
            Attribute,
        ),
        case(
            "MP_REACH_NLRI twice",
            good.multiprotocol(&[&reached[..], &reached].concat()),
            Session(3, 1),
        ),
        case(
            "MP_UNREACH_NLRI twice",
            good.multiprotocol(&[&unreached[..], &unreached].concat()),
            Session(3, 1),
        ),
    ]
}

/// Lists, lengths and fields of prefixes that do not parse.
fn lists(good: &Good) -> Vec<Case> {
    let list = prefixes(&[v4net(PREFIX)]);
    let attributes = [origin(), good.path.clone(), next_hop(v4(HOSTILE))].concat();
    let with = |more: &[u8]| update(&[], &[&attributes, more].concat(), &list);
    let mut long_withdrawn = update(&[], &attributes, &list);
    long_withdrawn[20] = 200;
    let mut long_list = update(&[], &attributes, &list);
    long_list[21] = 0xff;
    vec![
        case("no ORIGIN", update(&[], &attributes[4..], &list), Routes),
        case("no AS_PATH", Good::with_path(&[]), Routes),
        case("no NEXT_HOP", good.with_hop(&[]), Routes),
        case("no attributes at all", update(&[], &[], &list), Routes),
        case(
            "an attribute that ends beyond the list",
            with(&[OPTIONAL, 4, 9, 0]),
            Routes,
        ),
        case("an attribute without a length", with(&[OPTIONAL, 4]), Routes),
        case("a list that ends beyond the message", long_list, Session(3, 1)),
        case(
            "withdrawn routes that end beyond the message",
            long_withdrawn,
            Session(3, 1),
        ),
        case(
            "a prefix of 33 bits",
            update(&[], &attributes, &[33, 20, 0, 5, 0, 0]),
            Session(3, 10),
        ),
        case(
            "a part of a prefix",
            update(&[], &attributes, &[24, 20, 0]),
            Session(3, 10),
        ),
        case(
            "a withdrawn prefix of 33 bits",
            update(&[33, 1, 1, 1, 1, 1], &[], &[]),
            Session(3, 10),
        ),
        case(
            "an unknown well-known attribute",
            with(&attribute(WELL_KNOWN, 99, &[1])),
            Session(3, 2),
        ),
        case(
            "an unknown attribute",
            with(&attribute(OPTIONAL, 99, &[1])),
            Nothing,
        ),
        case(
            "an unknown attribute that is passed on",
            with(&attribute(TRANSITIVE, 99, &[1; 300])),
            Nothing,
        ),
    ]
}

/// Multiprotocol attributes, whose prefixes have to be known for anything milder than an end of the session.
fn multiprotocol(good: &Good) -> Vec<Case> {
    let list = prefixes(&[v4net(PREFIX)]);
    let hop = [10, 1, 0, HOSTILE];
    let mut cases = vec![
        case(
            "routes by MP_REACH_NLRI",
            good.multiprotocol(&reach(OPTIONAL, 1, &hop, &list)),
            Nothing,
        ),
        case(
            "routes taken back by MP_UNREACH_NLRI",
            good.multiprotocol(&unreach(OPTIONAL, &list)),
            Nothing,
        ),
        case(
            "MP_REACH_NLRI of another family",
            good.and(&reach(OPTIONAL, 2, &[0xfd; 16], &[])),
            Attribute,
        ),
        case(
            "MP_REACH_NLRI, and no ORIGIN",
            {
                update(
                    &[],
                    &[&good.path[..], &reach(OPTIONAL, 1, &hop, &list)].concat(),
                    &[],
                )
            },
            Routes,
        ),
    ];
    for (what, value) in [
        (
            "MP_REACH_NLRI with a next hop of 3 octets",
            reach(OPTIONAL, 1, &[10, 1, 0], &list),
        ),
        (
            "MP_REACH_NLRI with a next hop of 16 octets",
            reach(OPTIONAL, 1, &[0xfd; 16], &list),
        ),
        ("MP_REACH_NLRI without a next hop", reach(OPTIONAL, 1, &[], &list)),
        (
            "MP_REACH_NLRI with a part of a prefix",
            reach(OPTIONAL, 1, &hop, &[24, 20, 0]),
        ),
        (
            "MP_REACH_NLRI with a prefix of 33 bits",
            reach(OPTIONAL, 1, &hop, &[33, 20, 0, 5, 0, 0]),
        ),
        ("MP_REACH_NLRI of 2 octets", attribute(OPTIONAL, 14, &[0, 1])),
        (
            "MP_REACH_NLRI with half a next hop",
            attribute(OPTIONAL, 14, &[0, 1, 1, 4, 10, 1]),
        ),
        ("MP_UNREACH_NLRI of 2 octets", attribute(OPTIONAL, 15, &[0, 1])),
        (
            "MP_UNREACH_NLRI with a part of a prefix",
            unreach(OPTIONAL, &[24, 20, 0]),
        ),
    ] {
        cases.push(case(what, good.multiprotocol(&value), Session(3, 9)));
    }
    cases
}

/// Attributes that mean something within an AS only.
fn of_internal_attributes(numbers: &[u32], internal: bool) -> Vec<Case> {
    let good = Good::of(numbers);
    let mut cases = Vec::new();
    for (kind, name, flags, lengths) in [
        (5, "LOCAL_PREF", WELL_KNOWN, &[0, 3, 5][..]),
        (9, "ORIGINATOR_ID", OPTIONAL, &[0, 3, 5]),
        (10, "CLUSTER_LIST", OPTIONAL, &[0, 3, 5]),
    ] {
        for length in lengths {
            let value = attribute(flags, kind, &vec![1; *length]);
            let cost = if internal { Routes } else { Attribute };
            cases.push(case(format!("{name} of {length} octets"), good.and(&value), cost));
        }
        let value = attribute(flags, kind, &[1; 4]);
        let cost = if internal { Nothing } else { Attribute };
        cases.push(case(format!("{name} as it should be"), good.and(&value), cost));
    }
    cases
}

/// One case after the other over one session, which is made again where it has ended.
struct Table {
    stage: Stage,
    offer: Offer,
    path: Vec<u32>,
    line: Line,
    markers: u32,
}

impl Table {
    fn open(peer_as: u32) -> Result<Option<Self>> {
        let Some(stage) = Stage::with_peer_as(peer_as, &[])? else {
            return Ok(None);
        };
        let offer = Offer::new(peer_as, 90, [10, 1, 0, HOSTILE]);
        let line = stage.establish(&offer)?;
        let path = if peer_as == AGENT_AS {
            Vec::new()
        } else {
            vec![peer_as]
        };
        Ok(Some(Self {
            stage,
            offer,
            path,
            line,
            markers: 0,
        }))
    }

    fn announce(&mut self, prefix: Ipv4Net) -> Result<()> {
        self.line.send(&announce(&self.path, v4(HOSTILE), &[prefix]))
    }

    fn routes(&self, prefix: Ipv4Net) -> Result<Vec<Value>> {
        let answer = self.stage.agent().ask(&format!("/v1/routes?prefix={prefix}"))?;
        Ok(answer["routes"].as_array().cloned().unwrap_or_default())
    }

    fn until_there(&self, prefix: Ipv4Net) -> Result<()> {
        until(self.stage.agent(), &format!("{prefix} does not arrive"), || {
            (!self.routes(prefix).ok()?.is_empty()).then_some(())
        })
    }

    /// What is sent after the case has arrived, so it has been dealt with.
    fn mark(&mut self) -> Result<()> {
        self.markers += 1;
        let marker = numbered([20, 1, 0, 0], self.markers);
        self.announce(marker)?;
        self.until_there(marker)
    }

    fn defects(&self) -> Result<u64> {
        self.stage.row()?["counters"]["defects"]
            .as_u64()
            .context("a counter")
    }

    fn run(&mut self, case: &Case) -> Result<()> {
        let prefix = v4net(PREFIX);
        let start = format!("{PREFIX} via 10.1.0.3");
        self.announce(prefix)?;
        self.stage.agent().until_route(&start)?;
        let (defects, downs) = (self.defects()?, self.stage.row()?["counters"]["downs"].clone());
        self.line.send(&case.message)?;
        if let Session(code, subcode) = case.cost {
            let refusal = self.line.refusal(PROMPT)?;
            ensure!((refusal.code, refusal.subcode) == (code, subcode), "{refusal:?}");
            until_row(self.stage.agent(), HOSTILE, |row| row["session"] != "Established")?;
            self.stage.agent().until_no_route(&start)?;
            self.line = self.stage.establish(&self.offer)?;
            return Ok(());
        }
        self.mark()?;
        let row = self.stage.row()?;
        ensure!(
            row["session"] == "Established" && row["counters"]["downs"] == downs,
            "{row:#}"
        );
        let more = u64::from(case.cost != Nothing);
        ensure!(self.defects()? == defects + more, "defects: {row:#}");
        let routes = self.routes(prefix)?;
        let is_taken_back = case.cost == Routes || case.what.contains("taken back");
        ensure!(routes.is_empty() == is_taken_back, "{routes:#?}");
        if is_taken_back {
            self.stage.agent().until_no_route(&start)
        } else {
            self.stage.agent().until_route(&start).map(drop)
        }
    }

    fn run_all(&mut self, cases: &[Case]) -> Result<()> {
        for case in cases {
            let cost = case.cost;
            self.run(case)
                .with_context(|| format!("{}, which costs {cost:?}", case.what))?;
        }
        self.stage.unharmed()
    }
}

#[test]
fn defects_of_an_external_peers_updates_cost_what_rfc_7606_says() -> Result<()> {
    let Some(mut table) = Table::open(AS)? else {
        return Ok(());
    };
    table.run_all(&of_any_peer(&[AS]))?;
    table.run_all(&of_internal_attributes(&[AS], false))?;
    // What an external peer says of the AS's own matters is not heard.
    let good = Good::of(&[AS]);
    let preferred = attribute(WELL_KNOWN, 5, &[0, 0, 9, 9]);
    table.line.send(&good.and(&preferred))?;
    table.mark()?;
    let routes = table.routes(v4net(PREFIX))?;
    ensure!(routes[0]["localPref"].is_null(), "{routes:#?}");
    Ok(())
}

#[test]
fn defects_of_an_internal_peers_updates_cost_what_rfc_7606_says() -> Result<()> {
    let Some(mut table) = Table::open(AGENT_AS)? else {
        return Ok(());
    };
    table.run_all(&of_any_peer(&[]))?;
    table.run_all(&of_internal_attributes(&[], true))
}
