// SPDX-License-Identifier: Apache-2.0
//! Many routes, announced and taken back: the bytes of a real BIRD, recorded once and sent to each contender. So all get
//! the same messages, and the sender is never what they wait for.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bgp::message::{Message, keepalive};
use testbed::{Host, PATIENCE, Place, Program, eventually, peers};

use super::wire::{self, HOLD, Identity};

/// Where routes come from.
pub const FEEDER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
/// Where they go.
pub const RECEIVER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
/// AS of the feeder.
pub const FEEDER_AS: u32 = 64_600;
/// AS of the receiver.
pub const RECEIVER_AS: u32 = 64_512;
/// All routes are inside.
pub const RANGE: &str = "20.0.0.0/8";
/// Their length.
const LENGTH: u8 = 28;
/// How long the recording of a direction may take.
const RECORDING: Duration = Duration::from_secs(120);

/// What to announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// How many routes.
    pub routes: usize,
    /// How many of them share their attributes.
    pub alike: usize,
}

/// The bytes.
#[derive(Debug)]
pub struct Feed {
    /// UPDATEs with all routes, and End-of-RIB.
    pub announce: Vec<u8>,
    /// UPDATEs that take them back.
    pub withdraw: Vec<u8>,
    /// How many messages announce.
    pub messages: usize,
}

impl Table {
    fn configuration(self, log: &Path) -> Result<String> {
        let mut text = format!(
            "log \"{}\" {{ warning, error, fatal, bug }}; router id {FEEDER};\nprotocol device {{ }}\n\
             protocol static flood {{ ipv4;\n",
            log.display()
        );
        let base = u32::from(RANGE.parse::<ipnet::Ipv4Net>()?.network());
        let step = 1 << (32 - LENGTH);
        for number in 0..self.routes {
            let address = Ipv4Addr::from(base + u32::try_from(number)? * step);
            write!(text, "route {address}/{LENGTH} blackhole")?;
            if self.alike < self.routes {
                let class = number / self.alike;
                let (high, low) = (class >> 16, class & 0xffff);
                write!(text, " {{ bgp_community.add(({}, {low})); }}", 100 + high)?;
            }
            text.push_str(";\n");
        }
        write!(
            text,
            "}}\nprotocol bgp export4 {{ local {FEEDER} as {FEEDER_AS}; neighbor {RECEIVER} as {RECEIVER_AS}; passive yes;\n\
             ipv4 {{ import none; export all; }}; }}\n"
        )?;
        Ok(text)
    }

    /// Has a BIRD on one host announce the table and take it back, and writes down what arrives on the other.
    pub fn record(self, from: &Host, to: &Place) -> Result<Feed> {
        let folder = from.folders().top();
        let (config, socket) = (folder.join("bird.conf"), folder.join("bird.ctl"));
        fs::write(&config, self.configuration(&folder.join("bird.log"))?)?;
        let find =
            |name| peers::find_program(name).with_context(|| format!("no program {name}: package bird2"));
        let _bird = from
            .program(find("bird")?)
            .args(["-f".as_ref(), "-c".as_ref(), config.as_os_str()])
            .args(["-s".as_ref(), socket.as_os_str()])
            .args(["-P".as_ref(), folder.join("bird.pid").as_os_str()])
            .start(Stdio::inherit())?;
        let dial = || {
            to.run(|| TcpStream::connect(SocketAddr::from((FEEDER, 179))).ok())
                .ok()?
        };
        let mut stream = eventually(PATIENCE, dial).context("the feeding BIRD does not listen")?;
        let identity = Identity {
            as_number: RECEIVER_AS,
            identifier: RECEIVER,
        };
        let mut inbox = wire::establish(&mut stream, identity)?;
        let (announce, count, messages) = listen(&mut stream, &mut inbox, None)?;
        if count != self.routes {
            bail!("BIRD announced {count} routes instead of {}", self.routes);
        }
        Program::new(from.place(), find("birdc")?)
            .args([
                "-s".as_ref(),
                socket.as_os_str(),
                "disable".as_ref(),
                "flood".as_ref(),
            ])
            .succeed(PATIENCE)?;
        let (withdraw, ..) = listen(&mut stream, &mut inbox, Some(self.routes))?;
        Ok(Feed {
            announce,
            withdraw,
            messages,
        })
    }
}

/// Writes down UPDATEs until End-of-RIB, or until so many withdrawals have come: bytes, routes, messages.
fn listen(
    stream: &mut TcpStream,
    inbox: &mut wire::Inbox,
    withdrawals: Option<usize>,
) -> Result<(Vec<u8>, usize, usize)> {
    let deadline = Instant::now() + RECORDING;
    let (mut all, mut count, mut messages) = (Vec::new(), 0, 0);
    while Instant::now() < deadline {
        while let Some((message, bytes)) = inbox.next_message()? {
            let update = match message {
                Message::Update(update) => update,
                Message::Keepalive => continue,
                other => bail!("BIRD sends {other:?}"),
            };
            all.extend_from_slice(bytes);
            messages += 1;
            count += match withdrawals {
                Some(_) => update.withdrawn.len(),
                None => update.announced.iter().map(|found| found.nlri.len()).sum(),
            };
            if update.end_of_rib.is_some() || withdrawals == Some(count) {
                return Ok((all, count, messages));
            }
        }
        wire::receive(stream, inbox)?;
    }
    bail!("BIRD has not sent all within {RECORDING:?}")
}

/// The feeder that plays a feed.
#[derive(Debug)]
pub struct Player {
    listener: TcpListener,
}

/// A session with a contender.
#[derive(Debug)]
pub struct Playing {
    writer: Arc<Mutex<TcpStream>>,
}

impl Player {
    /// Listens where the recorded BIRD was.
    pub fn listen(at: &Place) -> Result<Self> {
        let listener = at.run(|| TcpListener::bind(SocketAddr::from((FEEDER, 179))))??;
        listener.set_nonblocking(true)?;
        Ok(Self { listener })
    }

    /// Waits for the contender to dial until a session is Established.
    pub fn establish(&self, limit: Duration) -> Result<Playing> {
        let accepted = eventually(limit, || self.listener.accept().ok());
        let (mut stream, _) = accepted.with_context(|| format!("nobody dialled within {limit:?}"))?;
        stream.set_nonblocking(false)?;
        let identity = Identity {
            as_number: FEEDER_AS,
            identifier: FEEDER,
        };
        wire::establish(&mut stream, identity)?;
        stream.set_read_timeout(None)?;
        let mut reader = stream.try_clone()?;
        thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while matches!(reader.read(&mut buffer), Ok(1..)) {}
        });
        let writer = Arc::new(Mutex::new(stream));
        let alive = Arc::downgrade(&writer);
        thread::spawn(move || {
            loop {
                thread::sleep(HOLD / 6);
                let Some(writer) = alive.upgrade() else { return };
                let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
                if writer.write_all(&keepalive()).is_err() {
                    return;
                }
            }
        });
        Ok(Playing { writer })
    }
}

impl Playing {
    /// Begins to send; a thread of its own does it.
    pub fn send(&self, bytes: &Arc<Vec<u8>>) {
        let (writer, bytes) = (Arc::clone(&self.writer), Arc::clone(bytes));
        thread::spawn(move || {
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            // A contender that closes fails to become complete, which is reported.
            let _ = writer.write_all(&bytes);
        });
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writer.shutdown(Shutdown::Both);
    }
}
