// SPDX-License-Identifier: Apache-2.0
//! Very many peers in one thread: each a real session over TCP at an address of its own, with some routes to announce and
//! nothing to decide. Which peer a connection is for, its own address says.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc as answers};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use bgp::message::{self, EncodedAttributes, Encoding, Message, Update};
use bgp::{Attributes, Family, Nlri};
use ipnet::{IpNet, Ipv4Net};
use nix::time::ClockId;
use socket2::{Domain, Protocol, Socket, Type};
use testbed::Place;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::wire::{self, Identity, Inbox};

/// AS of everybody.
pub const AS_NUMBER: u32 = 64_512;
/// LOCAL_PREF of a Calico node's blocks.
const LOCAL_PREF: u32 = 2_147_482_623;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// Between keepalives: a third of the agent's usual hold time.
const BEAT: Duration = Duration::from_secs(30);

/// A peer: where it is, and what it announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its address, which is its identifier too.
    pub address: Ipv4Addr,
    /// Its blocks.
    pub blocks: Vec<Ipv4Net>,
}

/// The peers. They end when this is dropped.
#[derive(Debug)]
pub struct Crowd {
    shared: Arc<Shared>,
    questions: Option<mpsc::UnboundedSender<answers::Sender<Duration>>>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    established: usize,
    last_established: Option<Instant>,
    /// What ended sessions.
    problems: Vec<String>,
    watched: Option<Watched>,
}

/// A change that all peers are to be told.
#[derive(Debug)]
struct Watched {
    prefix: IpNet,
    is_withdrawal: bool,
    told: BTreeSet<Ipv4Addr>,
    last: Option<Instant>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn until<T>(
        &self,
        limit: Duration,
        what: impl fmt::Display,
        mut found: impl FnMut(&State) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if let Some(found) = found(&state) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!(
                    "not within {limit:?}: {what}; {} sessions are up, and {:?}",
                    state.established,
                    state.problems
                );
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn established(&self) {
        let mut state = self.lock();
        state.established += 1;
        state.last_established = Some(Instant::now());
        self.changed.notify_all();
    }

    fn ended(&self, own: Ipv4Addr, was_up: bool, problem: &anyhow::Error) {
        let mut state = self.lock();
        state.established -= usize::from(was_up);
        state.problems.push(format!("{own}: {problem:#}"));
        self.changed.notify_all();
    }

    fn take(&self, own: Ipv4Addr, update: &Update) {
        let now = Instant::now();
        let mut state = self.lock();
        let Some(watched) = &mut state.watched else { return };
        let is_it = |nlri: &Nlri| nlri.prefix == watched.prefix;
        let has_it = if watched.is_withdrawal {
            update.withdrawn.iter().any(is_it)
        } else {
            update
                .announced
                .iter()
                .any(|announced| announced.nlri.iter().any(is_it))
        };
        if has_it && watched.told.insert(own) {
            watched.last = Some(now);
            self.changed.notify_all();
        }
    }
}

impl Crowd {
    /// Peers that wait to be dialled, in a place where all their addresses are local ones.
    pub fn listen(at: &Place, members: &[Member]) -> Result<Self> {
        let announcements = members
            .iter()
            .map(|member| Ok((member.address, announcement(member)?)))
            .collect::<Result<HashMap<_, _>>>()?;
        let listener = at.run(listener)??;
        let shared = Arc::new(Shared::default());
        let (questions, inbox) = mpsc::unbounded_channel();
        let theirs = Arc::clone(&shared);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = thread::Builder::new().name("crowd".into()).spawn(move || {
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, live(listener, theirs, Arc::new(announcements), inbox));
        })?;
        Ok(Self {
            shared,
            questions: Some(questions),
            thread: Some(thread),
        })
    }

    /// Waits until so many sessions are Established; when the last was.
    pub fn until_established(&self, count: usize, limit: Duration) -> Result<Instant> {
        let what = format!("{count} sessions");
        self.shared.until(limit, what, |state| {
            state.last_established.filter(|_| state.established == count)
        })
    }

    /// From now on it is noted when peers are told this.
    pub fn watch(&self, prefix: IpNet, is_withdrawal: bool) {
        self.shared.lock().watched = Some(Watched {
            prefix,
            is_withdrawal,
            told: BTreeSet::new(),
            last: None,
        });
    }

    /// Waits until so many peers have been told what is watched; when the last was.
    pub fn until_told(&self, count: usize, limit: Duration) -> Result<Instant> {
        self.shared.until(limit, "a change at all peers", |state| {
            let watched = state.watched.as_ref()?;
            watched.last.filter(|_| watched.told.len() == count)
        })
    }

    /// CPU time of all peers together.
    pub fn cpu(&self) -> Result<Duration> {
        let (sender, answer) = answers::channel();
        let asked = self
            .questions
            .as_ref()
            .and_then(|questions| questions.send(sender).ok());
        asked.context("the peers have ended")?;
        Ok(answer.recv()?)
    }

    /// Sessions that have ended, and why.
    pub fn problems(&self) -> Vec<String> {
        self.shared.lock().problems.clone()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.questions = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listener() -> Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 179)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// All that a member announces, and End-of-RIB.
fn announcement(member: &Member) -> Result<Vec<u8>> {
    let encoding = Encoding {
        internal: true,
        ..wire::encoding()
    };
    let attributes = Attributes {
        local_pref: Some(LOCAL_PREF),
        ..Attributes::default()
    };
    let attributes = EncodedAttributes::new(&attributes, encoding);
    let nlri: Vec<Nlri> = member
        .blocks
        .iter()
        .map(|block| Nlri {
            prefix: IpNet::V4(*block),
            path_id: None,
        })
        .collect();
    let messages = message::announce(&attributes, IpAddr::from(member.address).into(), &nlri, encoding)
        .map_err(|_| anyhow!("attributes too long"))?;
    let mut bytes = messages.concat();
    bytes.extend(message::end_of_rib(Family::Ipv4));
    Ok(bytes)
}

async fn live(
    listener: std::net::TcpListener,
    shared: Arc<Shared>,
    announcements: Arc<HashMap<Ipv4Addr, Vec<u8>>>,
    mut questions: mpsc::UnboundedReceiver<answers::Sender<Duration>>,
) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    let (shared, announcements) = (Arc::clone(&shared), Arc::clone(&announcements));
                    tokio::task::spawn_local(async move { be(stream, &shared, &announcements).await });
                }
            }
            question = questions.recv() => {
                let Some(question) = question else { return };
                let cpu = ClockId::CLOCK_THREAD_CPUTIME_ID.now().map(Duration::from);
                let _ = question.send(cpu.unwrap_or_default());
            }
        }
    }
}

/// One peer's session from beginning to end.
async fn be(mut stream: TcpStream, shared: &Shared, announcements: &HashMap<Ipv4Addr, Vec<u8>>) {
    let Ok(SocketAddr::V4(own)) = stream.local_addr() else {
        return;
    };
    let own = *own.ip();
    let Some(announcement) = announcements.get(&own) else {
        return;
    };
    let mut is_up = false;
    if let Err(problem) = talk(&mut stream, own, announcement, shared, &mut is_up).await {
        shared.ended(own, is_up, &problem);
    }
}

async fn talk(
    stream: &mut TcpStream,
    own: Ipv4Addr,
    announcement: &[u8],
    shared: &Shared,
    is_up: &mut bool,
) -> Result<()> {
    stream.set_nodelay(true)?;
    let identity = Identity {
        as_number: AS_NUMBER,
        identifier: own,
    };
    stream.write_all(&wire::open(identity)).await?;
    let mut inbox = Inbox::default();
    let mut buffer = vec![0; 16 * 1024];
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat.reset();
    loop {
        tokio::select! {
            count = stream.read(&mut buffer) => match count? {
                0 => bail!("closed by the agent"),
                count => inbox.extend(&buffer[..count]),
            },
            _ = beat.tick(), if *is_up => stream.write_all(&message::keepalive()).await?,
        }
        while let Some((message, _)) = inbox.next_message()? {
            match message {
                Message::Open(_) => stream.write_all(&message::keepalive()).await?,
                Message::Keepalive if !std::mem::replace(is_up, true) => {
                    shared.established();
                    stream.write_all(announcement).await?;
                }
                Message::Update(update) => shared.take(own, &update),
                Message::Keepalive | Message::RouteRefresh(_) => {}
                Message::Notification(notification) => bail!("told {notification:?}"),
            }
        }
    }
}
