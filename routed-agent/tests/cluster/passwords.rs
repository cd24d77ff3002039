// SPDX-License-Identifier: Apache-2.0
//! Passwords of sessions that are up change, come and go. Agents share a store, so that what is in it changes for both at
//! once; the files of passwords are each one's own.

use std::{
    cell::Cell,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use model::Kind;
use serde_json::{Value, json};
use testbed::{PATIENCE, Program, cluster::Member, eventually, peers};

use crate::support::{Cluster, possible};

/// In seconds. TCP waits longer and longer before it sends again, so it takes about as long again as one password was the
/// other's.
const HOLD_TIME: u64 = 15;

struct Pair {
    cluster: Cluster,
    /// Prefixes announced so far.
    number: Cell<u8>,
}

impl Pair {
    fn file(&self, place: usize) -> PathBuf {
        self.cluster.folder().join(format!("secrets{place}/bgp/mesh"))
    }

    fn write(&self, place: usize, password: &str) -> Result<()> {
        Ok(fs::write(self.file(place), format!("{password}\n"))?)
    }

    fn member(&self, place: usize) -> &Member {
        &self.cluster.members[place]
    }

    fn row(&self, place: usize) -> Result<Value> {
        Ok(self.member(place).ask("/v1/peers")?["peers"][0].clone())
    }

    /// How often an agent has noted that a password has changed.
    fn changes(&self, place: usize) -> Result<usize> {
        let journal = self.member(place).ask("/v1/journal?kind=session")?;
        Ok(journal.to_string().matches("the password has changed").count())
    }

    /// Whether the open connection has this key, as the kernel says, or none.
    fn has_key(&self, place: usize, key: Option<&str>) -> Result<bool> {
        let ss = peers::find_program("ss").context("no program ss")?;
        let text = Program::new(self.member(place).host().place(), ss)
            .args(["-tnie", "state", "established"])
            .succeed(PATIENCE)?;
        // Some versions of `ss` print the key itself before everything else.
        Ok(text.contains("md5keys:") == key.is_some() && key.is_none_or(|key| text.contains(key)))
    }

    /// With or without a password, both tell each other something new and the session is the one from before.
    fn works(&self, password: Option<&str>, what: &str) -> Result<()> {
        self.number.set(self.number.get() + 1);
        let prefix = format!("10.96.{}.0/24", self.number.get());
        let mut spec = json!({ "serviceClusterIPs": [{ "cidr": prefix }] });
        if password.is_some() {
            spec["nodeMeshPassword"] = json!({ "secretKeyRef": { "name": "bgp", "key": "mesh" } });
        }
        self.cluster.apply(Kind::BgpConfiguration, "default", &spec)?;
        for place in 0..2 {
            let path = format!("/v1/routes?prefix={prefix}");
            let told = eventually(Duration::from_secs(HOLD_TIME), || {
                let routes = self.member(place).ask(&path).ok()?;
                routes.to_string().contains("Mesh_").then_some(())
            });
            told.with_context(|| {
                format!(
                    "{what}: nothing is learned: {:?}\n{}",
                    self.row(place),
                    self.member(place).log()
                )
            })?;
            let row = self.row(place)?;
            ensure!(
                row["session"] == "Established"
                    && row["counters"]["ups"] == 1
                    && row["counters"]["downs"] == 0,
                "{what}: {row:#}"
            );
            ensure!(
                self.has_key(place, password)?,
                "{what}: the connection has another key than {password:?}"
            );
        }
        Ok(())
    }
}

fn pair() -> Result<Pair> {
    let mut cluster = Cluster::new(
        &[
            ("node1", "10.1.0.11/24", "lan0"),
            ("node2", "10.1.0.12/24", "lan0"),
        ],
        false,
        &[
            ("CALICO_IPV4POOL_CIDR", "192.168.0.0/16"),
            ("CALICO_IPV4POOL_IPIP", "Never"),
            ("CALICO_BGP_HOLD_TIME", &HOLD_TIME.to_string()),
        ],
    )?;
    for place in 0..2 {
        let folder = cluster.folder().join(format!("secrets{place}"));
        fs::create_dir_all(folder.join("bgp"))?;
        fs::write(folder.join("bgp/mesh"), "first\n")?;
        cluster.members[place].set("CALICO_SECRETS_DIR", &folder.display().to_string());
    }
    cluster.start()?;
    Ok(Pair {
        cluster,
        number: Cell::new(0),
    })
}

#[test]
fn passwords_come_change_and_go_while_the_session_stays() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let pair = pair()?;
    let containers = pair.cluster.containers()?;
    pair.cluster.assert_all_reach_all(&containers)?;
    let routes = pair.member(0).routes()?;
    pair.works(None, "without one")?;
    pair.works(Some("first"), "with the first one")?;
    for (round, password) in ["second", "third"].into_iter().enumerate() {
        // One after the other, whoever is first.
        for place in [round, 1 - round] {
            let before = pair.changes(place)?;
            pair.write(place, password)?;
            let noticed = eventually(Duration::from_secs(5), || {
                (pair.changes(place).ok()? > before).then_some(())
            });
            noticed.with_context(|| format!("{password} is not noticed: {}", pair.member(place).log()))?;
        }
        pair.works(Some(password), password)?;
    }
    pair.works(None, "without one again")?;
    pair.works(Some("third"), "with one again")?;
    ensure!(
        pair.member(0).routes()? == routes,
        "{:#?}",
        pair.member(0).routes()?
    );
    for place in 0..2 {
        let log = pair.member(place).log();
        ensure!(!log.contains("password of peer"), "{log}");
        ensure!(
            !log.contains("third") && !log.contains("second"),
            "a password is in the log"
        );
    }
    Ok(())
}

#[test]
fn one_side_alone_loses_the_session_by_the_hold_time_and_says_why() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let pair = pair()?;
    pair.works(Some("first"), "with a password")?;
    pair.write(0, "other")?;
    let begin = Instant::now();
    let mut rows = Vec::new();
    let down = eventually(Duration::from_secs(3 * HOLD_TIME), || {
        rows = (0..2).map(|place| pair.row(place)).collect::<Result<_>>().ok()?;
        rows.iter()
            .all(|row| row["counters"]["downs"] == 1)
            .then_some(begin.elapsed())
    });
    let time = down.with_context(|| format!("{rows:#?}"))?;
    ensure!(time > Duration::from_secs(HOLD_TIME / 2), "{time:?}");
    for place in 0..2 {
        let row = pair.row(place)?;
        let reason = row["lastDown"]["reason"].to_string().to_lowercase();
        ensure!(reason.contains("hold"), "{row:#}");
    }
    let journal = pair.member(0).ask("/v1/journal?kind=session")?.to_string();
    ensure!(journal.contains("the password has changed"), "{journal}");
    // Half a file is no password.
    fs::write(pair.file(1), "")?;
    pair.write(1, "other")?;
    let up = eventually(Duration::from_secs(30), || {
        let rows: Vec<Value> = (0..2).map(|place| pair.row(place)).collect::<Result<_>>().ok()?;
        rows.iter().all(|row| row["counters"]["ups"] == 2).then_some(())
    });
    up.with_context(|| pair.member(0).log())
}
