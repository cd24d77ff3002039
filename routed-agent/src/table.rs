// SPDX-License-Identifier: Apache-2.0
//! Answers of the agent as people read them; the table of peers is the one that `calicoctl node status` shows.

use std::fmt::Write as _;

use serde_json::Value;

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Peers, by family, as a table.
pub(crate) fn status(status: &Value) -> String {
    let mut out = String::from("Calico process is running.\n");
    let none = Vec::new();
    let peers = status["peers"].as_array().unwrap_or(&none);
    for (title, v6) in [("IPv4", false), ("IPv6", true)] {
        let rows: Vec<[String; 5]> = peers
            .iter()
            .filter(|peer| text(&peer["address"]).contains(':') == v6)
            .map(|peer| {
                let session = text(&peer["session"]);
                let info = if session == "Established" {
                    session
                } else {
                    let reason = text(&peer["lastDown"]["reason"]);
                    if reason.is_empty() {
                        session
                    } else {
                        format!("{session} {reason}")
                    }
                };
                let since = peer["upSeconds"]
                    .as_u64()
                    .map_or_else(|| "-".to_owned(), duration);
                [
                    text(&peer["address"]),
                    text(&peer["type"]),
                    text(&peer["state"]),
                    since,
                    info,
                ]
            })
            .collect();
        let _ = writeln!(out, "\n{title} BGP status");
        if rows.is_empty() {
            let _ = writeln!(out, "No {title} peers found.");
        } else {
            out.push_str(&grid(
                ["PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO"],
                &rows,
            ));
        }
    }
    if status["store"].is_object() {
        let (what, code) = (text(&status["store"]["text"]), text(&status["store"]["code"]));
        let _ = writeln!(out, "STORE: {what} ({code}); what was known last stays in force");
    }
    for warning in status["warnings"].as_array().unwrap_or(&none) {
        let _ = writeln!(out, "WARNING: {}", text(warning));
    }
    for refused in status["routes"]["refused"].as_array().unwrap_or(&none) {
        let _ = writeln!(
            out,
            "REFUSED: {} ({})",
            text(&refused["text"]),
            text(&refused["code"])
        );
    }
    for answer in status["answeredDrops"]
        .as_object()
        .into_iter()
        .flat_map(|answers| answers.values())
    {
        let _ = writeln!(out, "ANSWERED: {}", text(answer));
    }
    if let Some(failures) = status["failures"].as_object() {
        for (item, problem) in failures {
            let _ = writeln!(out, "FAILED: {item}: {}", text(problem));
        }
    }
    out
}

fn duration(seconds: u64) -> String {
    format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

fn grid<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].len());
        cells.chain([header[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
    let line = format!("+{}+\n", dashes.join("+"));
    let mut out = line.clone();
    let heads: Vec<String> = header
        .iter()
        .zip(&widths)
        .map(|(head, width)| format!(" {head:^width$} "))
        .collect();
    let _ = writeln!(out, "|{}|", heads.join("|"));
    out.push_str(&line);
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!(" {cell:<width$} "))
            .collect();
        let _ = writeln!(out, "|{}|", cells.join("|"));
    }
    out + &line
}

/// The way from one address to another.
pub(crate) fn explain(answer: &Value) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(out, "{name:<14}{value}");
        }
    };
    line("from", text(&answer["from"]));
    line("to", text(&answer["to"]));
    line("seen from", format!("node {}", text(&answer["here"])));
    let owner = |value: &Value| {
        if value.is_null() {
            "nobody's, by the store".to_owned()
        } else {
            format!("block {} of node {}", text(&value["block"]), text(&value["node"]))
        }
    };
    line("source", owner(&answer["source"]));
    line("destination", owner(&answer["destination"]));
    let route = &answer["route"];
    if route.is_null() {
        line("route", "none".into());
    } else {
        let way = &route["way"];
        let hops = way["hops"].as_array().map(|hops| {
            let each = hops
                .iter()
                .map(|hop| format!("via {} dev {}", text(&hop["gateway"]), text(&hop["device"])));
            each.collect::<Vec<_>>().join(", ")
        });
        let how = hops.unwrap_or_else(|| format!("{} {}", text(&way["type"]), text(&way["device"])));
        line("route", format!("{} {}", text(&route["prefix"]), how.trim_end()));
        line("because", text(&route["reason"]));
    }
    line("refused", text(&answer["refused"]["text"]));
    line("encapsulation", text(&answer["encapsulation"]));
    line("because", text(&answer["because"]));
    line("MTU", text(&answer["mtu"]));
    let outer = &answer["outerHeader"];
    if !outer.is_null() {
        line(
            "outer header",
            format!(
                "{} -> {}, {}",
                text(&outer["source"]),
                text(&outer["destination"]),
                text(&outer["protocol"])
            ),
        );
    }
    let tunnel = &answer["tunnel"];
    match tunnel["outcome"].as_str() {
        Some("through") => line(
            "probed",
            format!(
                "packets of {} bytes get through, both ways",
                text(&tunnel["bytes"])
            ),
        ),
        Some("open") => line("probed", "not yet".to_owned()),
        Some(_) => line(
            "probed",
            format!("{}: {}", text(&tunnel["code"]), text(&tunnel["advice"])),
        ),
        None => {}
    }
    out
}
