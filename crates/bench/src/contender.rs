// SPDX-License-Identifier: Apache-2.0
//! What is compared, and how each is asked for an ADD and a DEL: as a runtime asks, by environment and standard input.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::machine::{Container, Machine};

/// The node name our plugin is configured with.
pub const NODE: &str = "bench";
/// The network's name.
pub const NETWORK: &str = "k8s-pod-network";

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Connect the container.
    Add,
    /// Disconnect it.
    Del,
}

/// Where the programs are.
#[derive(Debug)]
pub struct Programs {
    /// Our plugin.
    pub calico: PathBuf,
    /// Our IPAM plugin.
    pub calico_ipam: PathBuf,
    /// The folder with ptp and host-local.
    peers: PathBuf,
    bare: PathBuf,
}

/// A program with its configuration.
#[derive(Debug)]
pub struct Contender {
    /// Its name in the table.
    pub name: &'static str,
    program: PathBuf,
    call: Call,
}

#[derive(Debug)]
enum Call {
    /// By the CNI: environment, and the configuration on standard input.
    Plugin {
        config: PathBuf,
        environment: Vec<(&'static str, PathBuf)>,
    },
    /// By arguments.
    Bare { batched: bool },
}

impl Programs {
    /// Finds them, and says what to do about one that is missing.
    pub fn find(bare: Option<&Path>) -> Result<Self> {
        let own = std::env::current_exe().context("find the running program")?;
        let beside = own.parent().unwrap_or(Path::new("/")).to_owned();
        let from = |variable: &str, default: PathBuf| {
            std::env::var_os(variable)
                .filter(|folder| !folder.is_empty())
                .map_or(default, PathBuf::from)
        };
        let ours = from("CALICO_BIN_DIR", beside.clone());
        let programs = Self {
            calico: ours.join("calico"),
            calico_ipam: ours.join("calico-ipam"),
            peers: from("CNI_PEER_DIR", "/usr/lib/cni".into()),
            bare: bare.map_or_else(|| beside.join("bare"), Path::to_owned),
        };
        let remedies = [
            (&programs.calico, "run `make build`, or set CALICO_BIN_DIR"),
            (&programs.calico_ipam, "run `make build`, or set CALICO_BIN_DIR"),
            (
                &programs.peers.join("ptp"),
                "install containernetworking-plugins, or set CNI_PEER_DIR",
            ),
            (
                &programs.peers.join("host-local"),
                "install containernetworking-plugins, or set CNI_PEER_DIR",
            ),
            (&programs.bare, "build all of package bench, or set --bare"),
        ];
        for (program, remedy) in remedies {
            if !program.is_file() {
                bail!("{} is missing: {remedy}", program.display());
            }
        }
        Ok(programs)
    }
}

impl Contender {
    /// Our plugin with a store of its own, as `conf/10-calico.conflist` configures it.
    pub fn ours(programs: &Programs, machine: &Machine, store: &str) -> Result<Self> {
        Self::calico("ours", &programs.calico, machine, store)
    }

    /// Our IPAM plugin by itself, as other plugins delegate to it.
    pub fn ours_ipam_alone(programs: &Programs, machine: &Machine, store: &str) -> Result<Self> {
        Self::calico("ours, IPAM alone", &programs.calico_ipam, machine, store)
    }

    /// The reference plugins that connect a container by a pair and routes.
    pub fn ptp(programs: &Programs, machine: &Machine) -> Result<Self> {
        let folder = machine.folder("ptp")?;
        let config = json!({
            "cniVersion": "1.0.0", "name": "ptp", "type": "ptp",
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": "10.200.0.0/16" }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
                "dataDir": folder.join("data"),
            },
        });
        let config = written(&folder, &config)?;
        let call = Call::Plugin {
            config,
            environment: vec![("CNI_PATH", programs.peers.clone())],
        };
        Ok(Self {
            name: "ptp + host-local",
            program: programs.peers.join("ptp"),
            call,
        })
    }

    /// The kernel operations of our ADD and DEL and nothing else: one request at a time, or all at once.
    pub fn bare(programs: &Programs, batched: bool) -> Self {
        let name = if batched { "bare, batched" } else { "bare" };
        Self {
            name,
            program: programs.bare.clone(),
            call: Call::Bare { batched },
        }
    }

    /// The same under another name.
    #[must_use]
    pub fn called(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Name of the program.
    pub fn program_name(&self) -> String {
        self.program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// The program to run for a container.
    pub fn command(&self, verb: Verb, container: &Container) -> Result<Command> {
        self.command_of(&self.program, verb, container)
    }

    /// Another program in its place, that gets the same environment and input and this program's path as its last
    /// argument.
    pub fn command_through(
        &self,
        program: &Path,
        argument: &str,
        verb: Verb,
        container: &Container,
    ) -> Result<Command> {
        let mut command = self.command_of(program, verb, container)?;
        command.arg(argument).arg(&self.program);
        Ok(command)
    }

    fn command_of(&self, program: &Path, verb: Verb, container: &Container) -> Result<Command> {
        let mut command = Command::new(program);
        command.env_clear().stdin(Stdio::null());
        match &self.call {
            Call::Plugin { config, environment } => {
                let verb = match verb {
                    Verb::Add => "ADD",
                    Verb::Del => "DEL",
                };
                command
                    .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                    .env("CNI_COMMAND", verb)
                    .env("CNI_CONTAINERID", container.id())
                    .env("CNI_NETNS", container.path())
                    .env("CNI_IFNAME", "eth0")
                    .envs(environment.iter().map(|(name, value)| (name, value)))
                    .stdin(File::open(config).with_context(|| format!("open {}", config.display()))?);
            }
            Call::Bare { batched } => {
                match verb {
                    Verb::Add => command.arg("add").args([
                        container.host_interface(),
                        container.path(),
                        "eth0".to_owned(),
                        container.address(),
                    ]),
                    Verb::Del => command.arg("del").arg(container.host_interface()),
                };
                if *batched {
                    command.arg("--batched");
                }
            }
        }
        Ok(command)
    }

    fn calico(name: &'static str, program: &Path, machine: &Machine, store: &str) -> Result<Self> {
        let folder = machine.folder(store)?;
        let config = json!({
            "cniVersion": "1.0.0", "name": NETWORK, "type": "calico",
            "datastore_type": "embedded",
            "nodename": NODE,
            "log_level": "info",
            "log_file_path": folder.join("cni.log"),
            "ipam": { "type": "calico-ipam", "assign_ipv4": "true" },
        });
        let config = written(&folder, &config)?;
        let environment = vec![
            ("CNI_PATH", program.parent().unwrap_or(Path::new("/")).to_owned()),
            ("CALICO_STATE_DIR", folder.join("state")),
            ("CALICO_RUN_DIR", folder.join("run")),
        ];
        Ok(Self {
            name,
            program: program.to_owned(),
            call: Call::Plugin { config, environment },
        })
    }
}

fn written(folder: &Path, config: &Value) -> Result<PathBuf> {
    let path = folder.join("config.json");
    fs::write(&path, config.to_string()).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}
