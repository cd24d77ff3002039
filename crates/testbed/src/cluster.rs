// SPDX-License-Identifier: Apache-2.0
//! Hosts with routed-agents that share one embedded store, as the single-machine form of a cluster.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cni_plugin::Version;
use ipnet::IpNet;
use kernel::Family;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::cni::{NetworkList, Target};
use crate::{Container, Host, PATIENCE, Program, Running, binaries, eventually, view};

/// How long agents may take to agree on anything here.
pub const SOON: Duration = Duration::from_secs(15);

/// A host with an agent.
#[derive(Debug)]
pub struct Member {
    // The agent ends before its host.
    agent: Option<Running>,
    host: Host,
    name: String,
    program: PathBuf,
    environment: Vec<(String, String)>,
}

impl Member {
    /// A host of this name whose agent is not running yet. `store` is the embedded store's file.
    pub fn new(name: &str, store: &Path) -> Result<Self> {
        let host = Host::new(name)?;
        host.install_plugins()?;
        Ok(Self {
            agent: None,
            host,
            name: name.to_owned(),
            program: binaries::agent()?,
            environment: vec![
                ("NODENAME".to_owned(), name.to_owned()),
                ("DATASTORE_TYPE".to_owned(), "embedded".to_owned()),
                ("DATASTORE_PATH".to_owned(), store.display().to_string()),
            ],
        })
    }

    /// With a variable of the agent's and plugins' environment.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.set(name, value);
        self
    }

    /// Sets a variable for what is started from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Its node name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The agent has a mount namespace of its own from the next start on, in which the shell commands `mounts` are run
    /// before it.
    pub fn set_mounts(&mut self, mounts: &str) -> Result<()> {
        let script = self.host.folders().top().join("agent-with-mounts");
        let text = format!(
            "#!/bin/sh\nexec unshare --mount --propagation private sh -ec '{mounts}\nexec {} \"$@\"' sh \"$@\"\n",
            self.program.display()
        );
        fs::write(&script, text)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        self.program = script;
        Ok(())
    }

    /// Runs `action` on a thread of its own where the agent has its file systems.
    pub fn inside_mounts<T: Send>(&self, action: impl FnOnce() -> T + Send) -> Result<T> {
        let pid = self.pid().context("no agent is running")?;
        let mounts = File::open(format!("/proc/{pid}/ns/mnt"))?;
        thread::scope(|scope| {
            let done = scope.spawn(|| {
                // A thread that shares its working directory with others may not change its root.
                unshare(CloneFlags::CLONE_FS)?;
                setns(&mounts, CloneFlags::CLONE_NEWNS)?;
                anyhow::Ok(action())
            });
            let done = done.join();
            done.unwrap_or_else(|_| bail!("a thread inside a mount namespace panicked"))
        })
    }

    /// Runs shell commands where the agent has its file systems.
    pub fn run_beside_agent(&self, commands: &str) -> Result<String> {
        let pid = self.pid().context("no agent is running")?;
        Program::new(self.host.place(), "nsenter")
            .args(["--mount", "--target", &pid.to_string(), "sh", "-ec", commands])
            .succeed(PATIENCE)
    }

    /// Another program as its agent from now on: for upgrades.
    pub fn use_program(&mut self, program: PathBuf) {
        self.program = program;
    }

    /// A command of the agent's program.
    pub fn agent_command<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Program {
        let environment = self
            .environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        self.host.program(&self.program).args(arguments).envs(environment)
    }

    /// Starts the agent; its log goes on in the host's folder.
    pub fn start(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log_file())?;
        self.agent = Some(self.agent_command(["run"]).start(Stdio::from(log))?);
        Ok(())
    }

    /// Where the agent's log is.
    pub fn log_file(&self) -> PathBuf {
        self.host.folders().top().join("agent.log")
    }

    /// What the agent has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Ends the agent by a signal and waits for its end.
    pub fn end(&mut self, signal: Signal) -> Result<()> {
        let mut agent = self.agent.take().context("no agent is running")?;
        kill(Pid::from_raw(agent.pid().try_into()?), signal)?;
        if eventually(SOON, || (!agent.is_alive()).then_some(())).is_none() {
            bail!(
                "the agent of {} does not end by {signal}: {}",
                self.name,
                self.log()
            );
        }
        Ok(())
    }

    /// Waits until an agent that was told to end has ended.
    pub fn until_ended(&mut self) -> Result<()> {
        let agent = self.agent.as_mut().context("no agent is running")?;
        if eventually(SOON, || (!agent.is_alive()).then_some(())).is_none() {
            bail!("the agent of {} does not end: {}", self.name, self.log());
        }
        self.agent = None;
        Ok(())
    }

    /// The agent's process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.agent.as_ref().map(Running::pid)
    }

    /// Asks the agent's local API.
    pub fn ask(&self, path: &str) -> Result<Value> {
        let body = self.text(path)?;
        serde_json::from_str(&body).with_context(|| format!("{path}: {body}"))
    }

    /// What the agent's local API answers, whatever it is.
    pub fn text(&self, path: &str) -> Result<String> {
        let mut socket = self.host.folders().run().join("agent.sock");
        if let (Some(pid), Ok(inside)) = (self.pid(), socket.strip_prefix("/")) {
            // Its file systems may be its own.
            socket = Path::new("/proc").join(pid.to_string()).join("root").join(inside);
        }
        let mut stream = UnixStream::connect(&socket).with_context(|| socket.display().to_string())?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: agent\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        Ok(body.to_owned())
    }

    /// Waits until the agent says what is wanted on a path; what it says then.
    pub fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = None;
        let found = eventually(SOON, || {
            let answer = self.ask(path).ok()?;
            let good = wanted(&answer);
            last = Some(answer.clone());
            good.then_some(answer)
        });
        found.with_context(|| {
            let said = last.map(|said| format!("{said:#}")).unwrap_or_default();
            format!(
                "the agent of {} does not say what is wanted on {path}: {said}\n{}",
                self.name,
                self.log()
            )
        })
    }

    /// Waits until sessions with this many peers are up and both sides have told each other everything.
    pub fn until_peers(&self, count: usize) -> Result<Value> {
        self.until("/v1/peers", |answer| {
            let peers = answer["peers"].as_array().map(Vec::as_slice).unwrap_or_default();
            let complete = |peer: &&Value| {
                let families = peer["families"].as_array().map(Vec::as_slice).unwrap_or_default();
                peer["session"] == "Established"
                    && families
                        .iter()
                        .all(|family| family["endOfRib"] == true && family["told"] == true)
            };
            peers.iter().filter(complete).count() >= count
        })
    }

    /// Networks a container by the plugins; its addresses.
    pub fn add(&self, container: &Container) -> Result<Vec<IpAddr>> {
        self.add_with(container, &json!({"type": "calico-ipam", "assign_ipv4": "true"}))
    }

    /// Networks a container by the plugins, with a certain configuration of IPAM.
    pub fn add_with(&self, container: &Container, ipam: &Value) -> Result<Vec<IpAddr>> {
        let list =
            json!({"name": "net1", "cniVersion": "1.1.0", "plugins": [{"type": "calico", "ipam": ipam}]});
        let list = NetworkList::parse(list.to_string(), Version::V1_1_0)?;
        let runtime = self.host.cni().with_environment(self.environment.clone());
        let added = runtime.add(&list, &Target::eth0(container.id(), container.path()))?;
        Ok(added.result.ips.iter().map(|ip| ip.address.addr()).collect())
    }

    /// The routes of table main as `ip route` shows them.
    pub fn routes(&self) -> Result<Vec<String>> {
        view::routes(self.host.place(), Family::Ipv4)
    }

    /// Waits until there is a route that begins so; the whole of it.
    pub fn until_route(&self, start: &str) -> Result<String> {
        let found = eventually(SOON, || {
            self.routes()
                .ok()?
                .into_iter()
                .find(|route| route.starts_with(start))
        });
        found.with_context(|| {
            let routes = self.routes().unwrap_or_default().join("\n");
            format!("{} has no route {start:?}:\n{routes}\n{}", self.name, self.log())
        })
    }

    /// Waits until there is no route that begins so.
    pub fn until_no_route(&self, start: &str) -> Result<()> {
        let gone = || {
            let routes = self.routes().ok()?;
            routes.iter().all(|route| !route.starts_with(start)).then_some(())
        };
        eventually(SOON, gone).with_context(|| format!("{} still has route {start:?}", self.name))
    }

    /// The blocks of its node.
    pub fn blocks(&self) -> Result<Vec<IpNet>> {
        let status = self.until("/v1/status", |status| {
            status["blocks"]
                .as_array()
                .is_some_and(|blocks| !blocks.is_empty())
        })?;
        Ok(serde_json::from_value(status["blocks"].clone())?)
    }
}
