// SPDX-License-Identifier: Apache-2.0
//! Bringing the firewall's table into the kernel by `nft`, noticing that somebody has changed it, and bringing it back.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
    },
};
use serde_json::{Value, json};

use super::command::run;
use crate::nftables::{Firewall, TABLE, recreation, removal, ruleset};

/// `NFNLGRP_NFTABLES`, as a bit.
const GROUP: u32 = 1 << 6;

/// See the file's comment.
#[derive(Debug)]
pub(super) struct Wall {
    wanted: Option<Firewall>,
    /// What the kernel shows of the table while it is as it should be.
    good: Option<Value>,
    /// Where it is remembered how the kernel shows which text, for the next life: what is in order is not touched.
    memory: PathBuf,
    /// Changes of any table are announced here.
    bell: Option<OwnedFd>,
    pub(super) problem: Option<String>,
}

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Good,
    /// It was changed, and is as it should be again.
    Repaired,
}

impl Wall {
    pub(super) fn new(memory: PathBuf) -> Self {
        Self {
            wanted: None,
            good: None,
            memory,
            bell: bell().ok(),
            problem: None,
        }
    }

    /// Readable when a table has changed.
    pub(super) fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.bell.as_ref().map(AsFd::as_fd)
    }

    /// Takes announcements; whether there were any.
    pub(super) fn heard(&self) -> bool {
        let Some(bell) = &self.bell else { return false };
        let mut buffer = [0; 8192];
        let mut heard = false;
        loop {
            match recv(
                std::os::fd::AsRawFd::as_raw_fd(bell),
                &mut buffer,
                MsgFlags::MSG_DONTWAIT,
            ) {
                Ok(_) | Err(Errno::ENOBUFS) => heard = true,
                Err(_) => return heard,
            }
        }
    }

    pub(super) fn set(&mut self, firewall: &Firewall) {
        if self.wanted.as_ref() != Some(firewall) {
            self.wanted = Some(firewall.clone());
            self.good = None;
        }
    }

    /// Looks whether the table is as it should be, and makes it so.
    pub(super) fn check(&mut self) -> Look {
        let Some(wanted) = &self.wanted else {
            return Look::Good;
        };
        let is_new = self.good.is_none() && self.problem.is_none();
        if let Some(good) = &self.good
            && list().as_ref().ok() == Some(good)
        {
            return Look::Good;
        }
        let text = ruleset(wanted);
        let remembered = || recall(&self.memory, &text).filter(|good| list().as_ref().ok() == Some(good));
        let done = match self.good.take() {
            // What somebody has added besides goes with the table only.
            Some(good) => apply(&text).and_then(|()| list()).and_then(|found| {
                if found == good {
                    Ok(good)
                } else {
                    apply(&recreation(wanted)).map(|()| good)
                }
            }),
            None => remembered().map_or_else(|| apply_anew(&text, &recreation(wanted)), Ok),
        };
        match done {
            Ok(good) => {
                if is_new {
                    remember(&self.memory, &text, &good);
                }
                self.good = Some(good);
                self.problem = None;
                if is_new { Look::Good } else { Look::Repaired }
            }
            Err(problem) => {
                self.good = None;
                self.problem = Some(problem);
                Look::Good
            }
        }
    }

    pub(super) fn remove(&mut self) -> Result<(), String> {
        self.wanted = None;
        self.good = None;
        match nft(&["-f", "-"], Some(&removal())) {
            Err(problem) if problem.contains("not installed") => Ok(()),
            done => done.map(drop),
        }
    }
}

fn bell() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        flags,
        SockProtocol::NetlinkNetFilter,
    )?;
    bind(
        std::os::fd::AsRawFd::as_raw_fd(&socket),
        &NetlinkAddr::new(0, GROUP),
    )?;
    Ok(socket)
}

/// How the kernel showed this text in an earlier life of this boot.
fn recall(memory: &Path, text: &str) -> Option<Value> {
    let mut kept: Value = serde_json::from_slice(&std::fs::read(memory).ok()?).ok()?;
    (kept["text"] == text).then(|| kept["shown"].take())
}

fn remember(memory: &Path, text: &str, shown: &Value) {
    let kept = json!({ "text": text, "shown": shown });
    // Without it the next life writes a table that is in order once more.
    let _ = crate::start::write_file(memory, kept.to_string().as_bytes(), 0o600);
}

fn apply(text: &str) -> Result<(), String> {
    nft(&["-f", "-"], Some(text)).map(drop)
}

/// Applies a table that is new, and says how the kernel shows it. Somebody may change it between the two; then a second
/// time shows something else. What an earlier life, or somebody else, has left in the table besides shows, and goes.
fn apply_anew(text: &str, recreation: &str) -> Result<Value, String> {
    apply(text)?;
    let mut shown = list()?;
    if shown["nftables"].as_array().map(Vec::len) != expected_items(text) {
        apply(recreation)?;
        shown = list()?;
    }
    for _ in 0..3 {
        apply(text)?;
        let again = list()?;
        if again == shown {
            break;
        }
        shown = again;
    }
    Ok(shown)
}

/// How many items the listing of a text has: what `nft` says of itself, table, sets, chains, rules.
fn expected_items(text: &str) -> Option<usize> {
    let body = text.rsplit_once("table inet").map(|(_, body)| body)?;
    let lines = body.lines().map(str::trim);
    let is_item = |line: &&str| {
        let is_member = line.starts_with("type ") || line.starts_with("elements ") || line.starts_with('}');
        !is_member && !line.is_empty()
    };
    Some(1 + lines.filter(is_item).count())
}

/// The table, without what changes by itself.
fn list() -> Result<Value, String> {
    let text = nft(&["-j", "list", "table", "inet", TABLE], None)?;
    let mut value: Value = serde_json::from_str(&text).map_err(|problem| format!("nft -j: {problem}"))?;
    strip(&mut value);
    Ok(value)
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for changing in ["handle", "packets", "bytes", "metainfo"] {
                members.remove(changing);
            }
            members.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

fn nft(arguments: &[&str], input: Option<&str>) -> Result<String, String> {
    run("nft", arguments, input)
}
