// SPDX-License-Identifier: Apache-2.0
//! What is settled before anything else: where state lives, which store, this node's name.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use calico_ipam::{
    log::LogSettings,
    node_name::{self, Sources},
    settings::{self, AddressSettings, Settings},
};
use cni_plugin::Environment;

use crate::{
    configuration::{Variables, file::File},
    node_address::Finder,
};

/// What a process is given and cannot change while it runs.
#[derive(Clone, Debug)]
pub struct Start {
    /// The environment, quotes removed.
    pub variables: Variables,
    /// This node's name.
    pub node: String,
    /// State that outlives a boot.
    pub state_dir: PathBuf,
    /// State of this boot.
    pub run_dir: PathBuf,
    /// The embedded store's file.
    pub datastore_path: PathBuf,
    /// How this node's addresses are found, IPv4 first.
    pub finders: [Finder; 2],
    /// AS number, where the environment gives this node one of its own.
    pub as_number: Option<u32>,
    /// Cluster ID, where the environment makes this node a route reflector.
    pub cluster_id: Option<String>,
    /// Another node may have the same address.
    pub shares_addresses: bool,
    /// The configuration file, as it was at the start.
    pub file: File,
    /// Where passwords are, in files `NAME/KEY`.
    pub secrets_dir: PathBuf,
    /// Containers younger than this are left alone by collection.
    pub gc_minimum_age: Duration,
}

impl Start {
    /// Reads the environment. `NODENAME`, else the nodename file, else `HOSTNAME`, else the host's name is the node's;
    /// the plugins find it in the file from then on.
    pub fn read(variables: Variables) -> Result<Self> {
        let path = |names: &[&str], default: PathBuf| -> Result<PathBuf> {
            match variables.first(names) {
                None => Ok(default),
                Some((name, text)) if !text.starts_with('/') || text.contains('\0') => {
                    bail!(
                        "environment variable {name}: {text:?} is not an absolute path; start it with \"/\""
                    )
                }
                Some((_, text)) => Ok(text.into()),
            }
        };
        if let Some((name, found)) = variables.first(&["DATASTORE_TYPE", "FELIX_DATASTORETYPE"])
            && !found.eq_ignore_ascii_case("embedded")
        {
            bail!(
                "environment variable {name}: {found:?} is not supported by this version yet; set \"embedded\", the only \
                 store there is"
            );
        }
        let state_dir = path(&["CALICO_STATE_DIR"], settings::DEFAULT_STATE_DIR.into())?;
        let run_dir = path(&["CALICO_RUN_DIR"], settings::DEFAULT_RUN_DIR.into())?;
        let datastore_path = path(&["DATASTORE_PATH"], state_dir.join("node.db"))?;
        let secrets_dir = path(&["CALICO_SECRETS_DIR"], "/etc/calico/secrets".into())?;
        let file_path = path(
            &["FELIX_FELIXCONFIGFILE", "CALICO_CONFIG_FILE"],
            "/etc/calico/felix.cfg".into(),
        )?;
        let file = match fs::read_to_string(&file_path) {
            Ok(text) => {
                let (file, warnings) = File::parse(&text);
                for warning in warnings {
                    tracing::warn!(target: "agent", "{}: {warning}", file_path.display());
                }
                file
            }
            Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => File::default(),
            Err(problem) => bail!("configuration file {}: {problem}", file_path.display()),
        };
        let gc_minimum_age = match variables.first(&["CALICO_GC_MINIMUM_AGE_SECONDS"]) {
            None => settings::DEFAULT_GC_MINIMUM_AGE,
            Some((name, text)) => Duration::from_secs(text.parse().map_err(|_| {
                anyhow::anyhow!("environment variable {name}: {text:?} is not a number of seconds")
            })?),
        };
        let as_number = match variables.first(&["AS", "CALICO_AS"]) {
            None => None,
            Some((name, text)) => {
                let number: model::AsNumber = text
                    .parse()
                    .map_err(|problem| anyhow::anyhow!("environment variable {name}: {problem}"))?;
                Some(number.0)
            }
        };
        let cluster_id = match variables.first(&["CALICO_ROUTE_REFLECTOR_CLUSTER_ID"]) {
            None => None,
            Some((name, text)) if text.parse::<std::net::Ipv4Addr>().is_err() => {
                bail!(
                    "environment variable {name}: {text:?} is not written as an IPv4 address; write for example 244.0.0.1"
                )
            }
            Some((_, text)) => Some(text),
        };
        let shares_addresses = variables
            .first(&["DISABLE_NODE_IP_CHECK"])
            .is_some_and(|(_, text)| text.eq_ignore_ascii_case("true"));
        let finders = [Finder::read(&variables, false)?, Finder::read(&variables, true)?];
        let nodename_file = path(&["CALICO_NODENAME_FILE"], state_dir.join("nodename"))?;
        let system = nix::unistd::gethostname().unwrap_or_default();
        let system = system.to_string_lossy().into_owned();
        let hostname = variables
            .first(&["HOSTNAME"])
            .map(|(_, text)| text.to_ascii_lowercase());
        let nodename = variables
            .first(&["NODENAME", "CALICO_NODENAME"])
            .map(|(_, text)| text);
        let sources = Sources {
            nodename: nodename.as_deref(),
            file: &nodename_file,
            hostname: hostname.as_deref(),
            system: &system,
        };
        let node = node_name::resolve(sources, true).context("this node's name")?;
        let is_there = fs::read_to_string(&nodename_file).is_ok_and(|text| text.trim() == node);
        if !is_there {
            write_file(&nodename_file, node.as_bytes(), 0o644)?;
        }
        Ok(Self {
            variables,
            node,
            state_dir,
            run_dir,
            datastore_path,
            finders,
            as_number,
            cluster_id,
            shares_addresses,
            file,
            secrets_dir,
            gc_minimum_age,
        })
    }

    /// For the library of the plugins.
    pub fn plugin_settings(&self, environment: Environment) -> Settings {
        Settings {
            network: String::new(),
            state_dir: self.state_dir.clone(),
            run_dir: self.run_dir.clone(),
            datastore_path: self.datastore_path.clone(),
            nodename: Some(self.node.clone()),
            nodename_file: self.state_dir.join("nodename"),
            hostname: None,
            lock_file: self.run_dir.join("ipam.lock"),
            gc_minimum_age: self.gc_minimum_age,
            log: LogSettings::default(),
            addresses: AddressSettings {
                v4: true,
                v6: true,
                ..AddressSettings::default()
            },
            environment,
        }
    }
}

/// Writes a file as a whole or not at all.
pub fn write_file(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let folder = path
        .parent()
        .with_context(|| format!("{} has no folder", path.display()))?;
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let mut file = fs::File::create(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        let written = file.write_all(content).and_then(|()| file.sync_all());
        let done = written.and_then(|()| fs::rename(&temporary, path));
        if done.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        done
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
