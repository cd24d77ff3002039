// SPDX-License-Identifier: Apache-2.0
//! The commands that show what changes and what has changed.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    net::IpAddr,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use http_body_util::BodyExt as _;
use hyper::Method;
use ipnet::IpNet;
use serde_json::Value;

use super::{begin, get};
use crate::journal::Kind;

/// What is shown; without any of these everything.
#[derive(Debug, Default, Args)]
pub(super) struct Wanted {
    /// What concerns this prefix: itself, those inside, and those that it is in.
    #[arg(long, value_name = "CIDR")]
    prefix: Option<IpNet>,
    /// What has to do with the peer of this address or name.
    #[arg(long, value_name = "ADDRESS")]
    peer: Option<String>,
    /// What is of this kind: session, selection, route, device, firewall, encapsulation, repair, refusal, kernel, store,
    /// configuration, node, agent.
    #[arg(long)]
    kind: Option<Kind>,
}

/// How it is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

impl Wanted {
    fn parameters(&self) -> Vec<(&'static str, String)> {
        let prefix = self.prefix.map(|prefix| ("prefix", prefix.to_string()));
        let peer = self.peer.clone().map(|peer| ("peer", peer));
        let kind = self.kind.map(|kind| ("kind", kind.to_string()));
        prefix.into_iter().chain(peer).chain(kind).collect()
    }
}

/// A path with parameters, whatever is in them.
fn address(path: &str, parameters: &[(&'static str, String)]) -> String {
    let mut out = path.to_owned();
    for (place, (name, value)) in parameters.iter().enumerate() {
        let _ = write!(out, "{}{name}=", if place == 0 { '?' } else { '&' });
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
                out.push(char::from(byte));
            } else {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// Shows what has changed.
pub(super) fn journal(
    socket: &Path,
    since: Option<String>,
    wanted: &Wanted,
    limit: u32,
    output: Output,
) -> Result<()> {
    let mut parameters = wanted.parameters();
    parameters.extend(since.map(|since| ("since", since)));
    parameters.push(("limit", limit.to_string()));
    let answer = get(socket, &address("/v1/journal", &parameters))?;
    let mut out = io::stdout().lock();
    if output == Output::Json {
        return until_nobody_reads(writeln!(out, "{}", serde_json::to_string_pretty(&answer)?));
    }
    let mut text = String::new();
    if let Some(count) = answer["leftOut"].as_u64().filter(|count| *count > 0) {
        let _ = writeln!(text, "({count} older lines are left out; --limit shows more)");
    }
    for line in answer["journal"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "{}", readable(line));
    }
    until_nobody_reads(out.write_all(text.as_bytes()))
}

/// A pipe that was closed by a reader who has seen enough is a good end.
fn until_nobody_reads(written: io::Result<()>) -> Result<()> {
    match written {
        Err(problem) if problem.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Shows what changes, until the agent ends or nobody reads any more.
pub(super) fn watch(socket: &Path, wanted: &Wanted, output: Output) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let path = address("/v1/changes", &wanted.parameters());
    runtime.block_on(async {
        let answer = begin(socket, Method::GET, &path).await?;
        let status = answer.status();
        let mut body = answer.into_body();
        if !status.is_success() {
            let text = body.collect().await?.to_bytes();
            bail!("{path}: {status}: {}", String::from_utf8_lossy(&text));
        }
        let mut rest = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(bytes) = frame.context("the agent has ended")?.into_data() else {
                continue;
            };
            rest.extend_from_slice(&bytes);
            let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else {
                continue;
            };
            let lines: Vec<u8> = rest.drain(..=end).collect();
            let mut out = io::stdout().lock();
            let written = if output == Output::Json {
                out.write_all(&lines)
            } else {
                out.write_all(readable_lines(&lines).as_bytes())
            };
            match written.and_then(|()| out.flush()) {
                Err(problem) if problem.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                other => other?,
            }
        }
        bail!("the agent has ended")
    })
}

fn readable_lines(lines: &[u8]) -> String {
    let mut out = String::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        if let Ok(line) = serde_json::from_slice::<Value>(line) {
            out.push_str(&readable(&line));
            out.push('\n');
        }
    }
    out
}

/// A line as people read it: time, kind, what has become of what, peer, cause.
fn readable(line: &Value) -> String {
    let text = |name: &str| line[name].as_str().unwrap_or_default();
    match text("kind") {
        "begin" => {
            return format!("{}  changes after number {}", text("time"), line["sequence"]);
        }
        "lost" => {
            return format!(
                "{}  {} lines are missing: {}",
                text("time"),
                line["lost"],
                text("cause")
            );
        }
        _ => {}
    }
    let mut out = format!(
        "{}  {:13} {:10} {}",
        text("time"),
        text("kind"),
        text("change"),
        text("object")
    );
    if let Some(count) = line["count"].as_u64() {
        let _ = write!(out, " ({count} times)");
    }
    let peer: Option<IpAddr> = text("peer").parse().ok();
    if let Some(peer) = peer {
        let _ = write!(out, " [{peer}]");
    }
    let _ = write!(out, "  {}", text("cause"));
    // What others have sent is no command to a terminal.
    out.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_are_readable() {
        let line = json!({
            "sequence": 7, "time": "2026-03-01T10:00:00.123Z", "kind": "route", "change": "added",
            "object": "192.168.1.0/26", "peer": "10.0.0.2", "cause": "BGP\u{1b}[2J next hop",
        });
        assert_eq!(
            readable(&line),
            "2026-03-01T10:00:00.123Z  route         added      192.168.1.0/26 [10.0.0.2]  BGP [2J next hop"
        );
        let lost = json!({ "kind": "lost", "time": "t", "lost": 5, "cause": "this reader was too slow" });
        assert_eq!(
            readable(&lost),
            "t  5 lines are missing: this reader was too slow"
        );
    }

    #[test]
    fn parameters_stay_parameters() {
        let parameters = [("peer", "a&b=c d".to_owned()), ("prefix", "fd00::/64".to_owned())];
        assert_eq!(
            address("/v1/changes", &parameters),
            "/v1/changes?peer=a%26b%3Dc%20d&prefix=fd00%3A%3A%2F64"
        );
    }
}
