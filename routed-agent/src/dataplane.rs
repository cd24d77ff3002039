// SPDX-License-Identifier: Apache-2.0
//! The one writer of routes, devices and firewall rules: a thread of its own that makes the kernel what the plan says,
//! reads the kernel's notifications, and repairs what somebody else has changed. Only what is ours is ever removed.

mod command;
mod devices;
mod firewall;
mod forward;
mod kernel_form;
mod openness;
mod routes;
mod strangers;
mod verdict;
mod worker;

use std::{
    collections::BTreeSet,
    io::{self, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use bgp::policy::Glob;
use ipnet::IpNet;

use crate::{
    facts::{Facts, Ours},
    plan::{Fixtures, PlannedRoute},
};

/// What the writer is told.
#[derive(Debug)]
pub enum Command {
    /// Devices and all that is not a route.
    Fixtures(Arc<Fixtures>),
    /// Changes of the routes that the store alone decides; `None`: there is none any more.
    StoreRoutes(Vec<(IpNet, Option<PlannedRoute>)>),
    /// Changes of the routes that BGP decides; `None`: there is none any more.
    BgpRoutes(Vec<(IpNet, Option<PlannedRoute>)>),
    /// How to look at things from now on.
    Habits(Habits),
    /// All that there is to know is known: what is ours and not in the plan is of an earlier life and goes.
    Complete,
    /// Everything of ours goes, and then the thread ends.
    CleanUp,
    /// The thread ends and leaves everything as it is.
    Stop,
}

/// What the writer reports.
#[derive(Clone, Debug)]
pub enum Report {
    /// The ground has changed.
    Facts(Arc<Facts>),
    /// Somebody has changed what is ours, and it was put right.
    Repaired(String),
    /// Somebody changes it again and again; it is left for a while.
    Rival(String),
    /// Something could not be done; it is tried again. An empty text: it is done now.
    Failed {
        /// What.
        item: String,
        /// Why.
        problem: String,
    },
    /// Somebody else drops what containers send or receive, and is answered. An empty text: no more.
    Answered {
        /// Who: family and name of the table.
        table: String,
        /// How.
        answer: String,
    },
    /// Everything that was asked for has been tried.
    Settled {
        /// Routes that are as they should be.
        routes: usize,
    },
    /// Everything of ours is gone, or this is why not.
    CleanedUp(Result<(), String>),
}

/// How the writer looks at things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Habits {
    /// Pause between looks at everything, whatever was announced; zero: none.
    pub refresh: Duration,
    /// Devices that are no ground.
    pub ignored: Vec<Glob>,
    /// Others' routes on containers' interfaces are removed.
    pub removes_strangers: bool,
}

/// What is ours.
#[derive(Clone, Debug)]
pub struct Ownership {
    /// Protocol number of own routes.
    pub protocol: u8,
    /// Protocol numbers of predecessors whose routes are taken over.
    pub predecessors: BTreeSet<u8>,
    /// What the names of container interfaces start with.
    pub interface_prefix: String,
    /// Tunnel devices.
    pub devices: BTreeSet<String>,
    /// For what the next life in this boot is to know.
    pub run_dir: PathBuf,
}

impl Ownership {
    /// For looking at the ground.
    pub fn ours(&self) -> Ours {
        let mut protocols = self.predecessors.clone();
        protocols.insert(self.protocol);
        Ours {
            protocols,
            interface_prefix: self.interface_prefix.clone(),
            devices: self.devices.clone(),
            ignored: Vec::new(),
        }
    }
}

/// A running writer.
#[derive(Debug)]
pub struct Dataplane {
    commands: mpsc::Sender<Command>,
    bell: UnixStream,
    thread: Option<thread::JoinHandle<()>>,
}

impl Dataplane {
    /// Starts one in the caller's network namespace. Reports are handed to `report` on its thread.
    pub fn start(ownership: Ownership, report: impl Fn(Report) + Send + 'static) -> io::Result<Self> {
        let (bell, woken) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let (commands, inbox) = mpsc::channel();
        let worker = worker::Worker::open(ownership, inbox, woken, Box::new(report))
            .map_err(|problem| io::Error::other(problem.to_string()))?;
        let thread = thread::Builder::new()
            .name("dataplane".into())
            .spawn(move || worker.run())?;
        Ok(Self {
            commands,
            bell,
            thread: Some(thread),
        })
    }

    /// Tells it something.
    pub fn send(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            // A full bell rings already.
            let _ = (&self.bell).write(&[0]);
        }
    }

    /// Ends it, after everything it was told has been done.
    pub fn stop(mut self) {
        self.send(Command::Stop);
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.send(Command::Stop);
        self.join();
    }
}
