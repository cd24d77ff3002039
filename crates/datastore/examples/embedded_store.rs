// SPDX-License-Identifier: Apache-2.0
//! What the embedded store costs, and whether its files stay small.
//!
//! ```text
//! cargo run --release -p datastore --example embedded_store -- latency [DIRECTORY]
//! cargo run --release -p datastore --example embedded_store -- cycles [COUNT] [DIRECTORY]
//! ```
//!
//! `latency`: fresh processes that open and read, or open and write what an ADD writes, alone and beside a process that
//! keeps the store open, with no and with 50 000 addresses in use. Times are those of the process from its first line
//! to its last, in microseconds, and of the whole process as its parent sees it.
//! `cycles`: so many ADDs and DELs (1 000 000 if nothing is said), in one process after another; the size of all files at
//! the end.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use datastore::{Batch, EmbeddedStore, Hint, JournalEntry, OpenOptions, Store, Write};
use ipnet::{IpNet, Ipv4Net};
use model::{Key, KeyRange, Kind, LocalTable};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Addresses of a block.
const BLOCK: usize = 64;
/// The fill of the first block swings between these, so that block sizes are those of real nodes.
const SWING: std::ops::Range<usize> = 20..60;

fn main() -> Outcome {
    let started = Instant::now();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let argument = |index: usize| arguments.get(index).map(String::as_str);
    let directory = |index: usize| argument(index).map_or_else(env::temp_dir, PathBuf::from);
    match argument(0) {
        Some("latency") => latency(&directory(1)),
        Some("cycles") => cycles(argument(1).unwrap_or("1000000").parse()?, &directory(2)),
        Some(role @ ("nothing" | "fill" | "read" | "add" | "hold" | "run")) => {
            let path = PathBuf::from(argument(1).ok_or("which store?")?);
            let number = argument(2).unwrap_or("0").parse()?;
            play(role, &path, number)?;
            println!("{}", started.elapsed().as_micros());
            Ok(())
        }
        _ => Err("say latency or cycles".into()),
    }
}

/// What a child process does.
fn play(role: &str, path: &Path, number: usize) -> Outcome {
    match role {
        "read" => {
            let store = open(path)?;
            store.get(&Key::Handle("absent".to_owned()))?;
        }
        "fill" => fill(path, number)?,
        "add" => add(&open(path)?, number)?,
        "hold" => {
            let _store = open(path)?;
            println!("holding");
            std::io::stdin().read_to_end(&mut Vec::new())?;
        }
        "run" => {
            let store = open(path)?;
            for number in number..number + 1000 {
                add(&store, number)?;
                delete(&store, number)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn open(path: &Path) -> Outcome<EmbeddedStore> {
    Ok(EmbeddedStore::open(path, OpenOptions::default())?.store)
}

fn block_key(index: usize) -> Outcome<Key> {
    let address = u32::try_from(0x0a00_0000 + index * BLOCK)?;
    Ok(Key::Block(IpNet::V4(Ipv4Net::new(address.into(), 26)?)))
}

/// A block as Calico writes it.
fn block(index: usize, used: usize) -> Outcome<String> {
    let numbers =
        |range: std::ops::Range<usize>| range.map(|ordinal| ordinal.to_string()).collect::<Vec<_>>();
    let mut allocations = numbers(0..used);
    allocations.resize(BLOCK, "null".to_owned());
    let attributes: Vec<String> = (0..used)
        .map(|ordinal| {
            format!(
                r#"{{"handle_id":"k8s-pod-network.{:064x}","secondary":{{"namespace":"default","node":"node1","pod":"web-{ordinal}","timestamp":"2026-03-01 10:00:00.123456 +0000 UTC"}}}}"#,
                index * BLOCK + ordinal
            )
        })
        .collect();
    let sequence: Vec<String> = (0..used)
        .map(|ordinal| format!(r#""{ordinal}":1772359200123456791"#))
        .collect();
    let mut json = String::new();
    write!(
        json,
        r#"{{"cidr":"{}","affinity":"host:node1","allocations":[{}],"unallocated":[{}],"attributes":[{}],"sequenceNumber":1772359200123456791,"sequenceNumberForAllocation":{{{}}},"deleted":false}}"#,
        index,
        allocations.join(","),
        numbers(used..BLOCK).join(","),
        attributes.join(","),
        sequence.join(",")
    )?;
    Ok(json)
}

/// Handle, attachment record and endpoint of one container.
fn own_objects(number: usize) -> [(Key, String); 3] {
    // Container IDs are random: spread them over the key space.
    let id = format!(
        "{:064x}",
        (number as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    );
    let filled = |length: usize| format!(r#"{{"x":"{:>length$}"}}"#, "");
    [
        (Key::Handle(format!("k8s-pod-network.{id}")), filled(40)),
        (
            Key::local(LocalTable::Attachment, format!("node1/k8s-pod-network/{id}/eth0")),
            filled(500),
        ),
        (
            Key::namespaced(
                Kind::WorkloadEndpoint,
                "default",
                format!("node1-k8s-web--{number}-eth0"),
            ),
            filled(750),
        ),
    ]
}

fn journal(event: &'static str, number: usize) -> Vec<JournalEntry> {
    vec![JournalEntry {
        event,
        subject: "10.0.0.1".to_owned(),
        handle: format!("k8s-pod-network.{number:064x}"),
        cause: "ADD".to_owned(),
        duration: Duration::from_micros(700),
    }]
}

/// Finds a block with room and writes what an ADD writes.
fn add(store: &EmbeddedStore, number: usize) -> Outcome {
    let hint = Hint {
        affinity: Some("host:node1".to_owned()),
        with_room: true,
        limit: Some(4),
        ..Hint::default()
    };
    let listing = store.list_hinted(&KeyRange::Blocks { v6: false }, &hint)?;
    let entry = listing.entries.into_iter().next().ok_or("no block has room")?;
    let used = SWING.start + number % SWING.len();
    let mut writes = vec![Write::Update {
        key: entry.key,
        value: block(0, used)?,
        revision: entry.revision,
    }];
    writes.extend(own_objects(number).map(|(key, value)| Write::Create { key, value }));
    store.commit(&Batch {
        writes,
        journal: journal("assign", number),
    })?;
    Ok(())
}

fn delete(store: &EmbeddedStore, number: usize) -> Outcome {
    let mut writes = Vec::new();
    for (key, _) in own_objects(number) {
        let entry = store.get(&key)?.ok_or("an object of the container is missing")?;
        writes.push(Write::Delete {
            key,
            revision: entry.revision,
        });
    }
    store.commit(&Batch {
        writes,
        journal: journal("release", number),
    })?;
    Ok(())
}

/// A new store with so many addresses in use in full blocks, and one block with room.
fn fill(path: &Path, addresses: usize) -> Outcome {
    let store = open(path)?;
    let full = addresses / BLOCK;
    for index in 0..full {
        let mut writes = vec![Write::Create {
            key: block_key(index)?,
            value: block(index, BLOCK)?,
        }];
        for ordinal in 0..BLOCK {
            let objects = own_objects(1_000_000_000 + index * BLOCK + ordinal);
            writes.extend(objects.map(|(key, value)| Write::Create { key, value }));
        }
        store.commit(&Batch {
            writes,
            journal: Vec::new(),
        })?;
    }
    let writes = vec![Write::Create {
        key: block_key(full)?,
        value: block(full, SWING.start)?,
    }];
    store.commit(&Batch {
        writes,
        journal: Vec::new(),
    })?;
    Ok(())
}

/// Runs a role in a fresh process; its own time and that of the whole process.
fn measure(role: &str, path: &Path, number: usize) -> Outcome<(u128, u128)> {
    let begun = Instant::now();
    let output = Command::new(env::current_exe()?)
        .args([role.as_ref(), path.as_os_str(), number.to_string().as_ref()])
        .stderr(Stdio::inherit())
        .output()?;
    let whole = begun.elapsed().as_micros();
    let own = String::from_utf8(output.stdout)?.trim().parse()?;
    Ok((own, whole))
}

fn latency(directory: &Path) -> Outcome {
    const RUNS: usize = 1000;
    println!(
        "{:32} {:>28} {:>28}",
        "", "inside: p50   p90  mean", "whole: p50   p90  mean"
    );
    let mut number = 0;
    for addresses in [0, 50_000] {
        let folder = tempfile::tempdir_in(directory)?;
        let path = folder.path().join("node.db");
        fill(&path, addresses)?;
        for held in [false, true] {
            let mut holder = if held { Some(hold(&path)?) } else { None };
            for role in ["nothing", "read", "add"] {
                let mut inside = Vec::new();
                let mut whole = Vec::new();
                for _ in 0..RUNS {
                    number += 1;
                    let (own, process) = measure(role, &path, number)?;
                    inside.push(own);
                    whole.push(process);
                }
                let situation = if held { "held open" } else { "alone" };
                println!(
                    "{:32} {:>28} {:>28}",
                    format!("{role}, {addresses} in use, {situation}"),
                    summary(inside),
                    summary(whole)
                );
            }
            if let Some(holder) = &mut holder {
                drop(holder.stdin.take());
                holder.wait()?;
            }
        }
    }
    Ok(())
}

fn hold(path: &Path) -> Outcome<std::process::Child> {
    let mut holder = Command::new(env::current_exe()?)
        .args(["hold".as_ref(), path.as_os_str()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    holder
        .stdout
        .as_mut()
        .ok_or("no output")?
        .read_exact(&mut [0; 7])?;
    Ok(holder)
}

fn summary(mut microseconds: Vec<u128>) -> String {
    microseconds.sort_unstable();
    let count = microseconds.len();
    let mean = microseconds.iter().sum::<u128>() / count as u128;
    format!(
        "{:>6} {:>5} {mean:>5}",
        microseconds[count / 2],
        microseconds[count * 9 / 10]
    )
}

fn cycles(count: usize, directory: &Path) -> Outcome {
    let folder = tempfile::tempdir_in(directory)?;
    let path = folder.path().join("node.db");
    fill(&path, 1000)?;
    let begun = Instant::now();
    for number in (0..count).step_by(1000) {
        measure("run", &path, number)?;
        if number % (count / 10).max(1000) == 0 || number + 1000 >= count {
            println!(
                "{:>9} ADDs and DELs, {:>6.1?}: {}",
                number + 1000,
                begun.elapsed(),
                sizes(folder.path())?
            );
        }
    }
    Ok(())
}

fn sizes(directory: &Path) -> Outcome<String> {
    let mut text = String::new();
    let mut total = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let length = entry.metadata()?.len();
        total += length;
        write!(text, ", {} {length}", entry.file_name().to_string_lossy())?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a number to look at")]
    let mebibytes = total as f64 / f64::from(1 << 20);
    Ok(format!("{mebibytes:.2} MiB{text}"))
}
