// SPDX-License-Identifier: Apache-2.0
//! Every key of the network configuration, and every environment variable, that decides where state lives, which
//! store is used, who this node is and which addresses are wanted. Read once; the rest of the program gets types.
//!
//! Precedence: configuration, then environment, then default.

use std::{path::PathBuf, time::Duration};

use cni_plugin::{Call, Code, Command, Environment, Error, Fields};
use ipam::PoolReference;

use crate::log::{Level, LogSettings};

/// Where state that outlives a boot is kept.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/calico";
/// Where state of this boot is kept.
pub const DEFAULT_RUN_DIR: &str = "/run/calico";
/// Attachments younger than this are left alone by garbage collection.
pub const DEFAULT_GC_MINIMUM_AGE: Duration = Duration::from_secs(300);

/// Settings common to `calico` and `calico-ipam`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Network name.
    pub network: String,
    /// `state_dir`, `CALICO_STATE_DIR`.
    pub state_dir: PathBuf,
    /// `run_dir`, `CALICO_RUN_DIR`.
    pub run_dir: PathBuf,
    /// `datastore_path`, `DATASTORE_PATH`: the embedded store's file.
    pub datastore_path: PathBuf,
    /// `nodename`.
    pub nodename: Option<String>,
    /// `nodename_file`.
    pub nodename_file: PathBuf,
    /// `hostname`.
    pub hostname: Option<String>,
    /// `ipam_lock_file`.
    pub lock_file: PathBuf,
    /// `gc_minimum_age_seconds`, `CALICO_GC_MINIMUM_AGE_SECONDS`.
    pub gc_minimum_age: Duration,
    /// `log_level`, `log_file_path`, `log_file_max_*`.
    pub log: LogSettings,
    /// What `ipam` asks for.
    pub addresses: AddressSettings,
    /// For the variables of default pools.
    pub environment: Environment,
}

/// The `ipam` section, for our own IPAM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressSettings {
    /// `assign_ipv4`.
    pub v4: bool,
    /// `assign_ipv6`.
    pub v6: bool,
    /// `ipv4_pools`.
    pub pools_v4: Vec<PoolReference>,
    /// `ipv6_pools`.
    pub pools_v6: Vec<PoolReference>,
}

impl Settings {
    /// Reads the settings of a call. Errors name key or variable, value and remedy.
    pub fn read(call: &Call) -> Result<Self, Error> {
        let (fields, environment) = (call.config.fields(), &call.environment);
        require_embedded(&fields, environment)?;
        let path = |key: &str, variable: &str, default: PathBuf| {
            absolute(&fields, environment, key, variable, default)
        };
        let state_dir = path("state_dir", "CALICO_STATE_DIR", DEFAULT_STATE_DIR.into())?;
        let run_dir = path("run_dir", "CALICO_RUN_DIR", DEFAULT_RUN_DIR.into())?;
        let owned = |key| fields.text(key).map(|text| text.map(str::to_owned));
        Ok(Self {
            network: call.config.name.as_str().to_owned(),
            datastore_path: path("datastore_path", "DATASTORE_PATH", state_dir.join("node.db"))?,
            nodename: owned("nodename")?,
            nodename_file: path(
                "nodename_file",
                "CALICO_NODENAME_FILE",
                state_dir.join("nodename"),
            )?,
            hostname: owned("hostname")?,
            lock_file: path("ipam_lock_file", "", run_dir.join("ipam.lock"))?,
            gc_minimum_age: unless_del(call, minimum_age(&fields, environment))?,
            log: unless_del(call, log_settings(&fields))?,
            addresses: unless_del(call, AddressSettings::read(&fields))?,
            environment: environment.clone(),
            state_dir,
            run_dir,
        })
    }

    /// A variable of the environment, for the default pools.
    pub fn variable(&self, name: &str) -> Option<String> {
        self.environment.get(name).map(str::to_owned)
    }
}

/// What DEL does not need, or can do without, must not keep it from its work: there, a value that cannot be used counts
/// as absent. ADD has refused it, and its DEL comes all the same.
pub fn unless_del<T: Default>(call: &Call, read: Result<T, Error>) -> Result<T, Error> {
    match read {
        Err(_) if call.command == Command::Del => Ok(T::default()),
        read => read,
    }
}

impl AddressSettings {
    fn read(fields: &Fields<'_>) -> Result<Self, Error> {
        let ipam = fields.object("ipam")?;
        let pools = |key| -> Result<Vec<PoolReference>, Error> {
            let references: Vec<String> = ipam.texts(key)?;
            Ok(references
                .iter()
                .map(|text| PoolReference::from(text.as_str()))
                .collect())
        };
        Ok(Self {
            v4: ipam.boolean("assign_ipv4")?.unwrap_or(true),
            v6: ipam.boolean("assign_ipv6")?.unwrap_or(false),
            pools_v4: pools("ipv4_pools")?,
            pools_v6: pools("ipv6_pools")?,
        })
    }
}

/// The plugins work on the node store alone. What a configuration for etcd or Kubernetes needs besides is not there yet:
/// such a configuration is refused instead of half followed.
fn require_embedded(fields: &Fields<'_>, environment: &Environment) -> Result<(), Error> {
    let etcd = fields.text("etcd_endpoints")?.is_some() || fields.text("etcd_discovery_srv")?.is_some();
    let variable_means_etcd = !etcd && environment.get("ETCD_ENDPOINTS").is_some();
    let kubernetes = fields.object("kubernetes")?.text("kubeconfig")?.is_some();
    let (origin, found) = match (fields.text("datastore_type")?, environment.get("DATASTORE_TYPE")) {
        (Some(found), _) => ("\"datastore_type\"", found),
        (None, Some(found)) => ("environment variable DATASTORE_TYPE", found),
        (None, None) if variable_means_etcd => ("environment variable ETCD_ENDPOINTS means etcd", "etcdv3"),
        (None, None) if etcd => ("\"etcd_endpoints\" means \"datastore_type\"", "etcdv3"),
        (None, None) if kubernetes => ("\"kubernetes.kubeconfig\" means \"datastore_type\"", "kubernetes"),
        (None, None) => return Ok(()),
    };
    let problem = match found.to_ascii_lowercase().as_str() {
        "embedded" => return Ok(()),
        "etcdv3" | "kubernetes" => "is not supported by this version yet; set \"embedded\"",
        _ => "is not a datastore; set \"embedded\"",
    };
    let (code, place) = if origin.starts_with("environment") {
        (Code::InvalidEnvironment, "")
    } else {
        (Code::InvalidConfig, "network configuration: ")
    };
    Err(Error::new(code, format!("{place}{origin}: {found:?} {problem}")))
}

fn absolute(
    fields: &Fields<'_>,
    environment: &Environment,
    key: &str,
    variable: &str,
    default: PathBuf,
) -> Result<PathBuf, Error> {
    let relative = |code, origin: String, path: &str| {
        Error::new(
            code,
            format!("{origin}: {path:?} is not an absolute path; start it with \"/\", without zero bytes"),
        )
    };
    if let Some(path) = fields.text(key)? {
        let origin = format!("network configuration: {}", fields.name(key));
        // JSON can say what no path can have.
        return if path.starts_with('/') && !path.contains('\0') {
            Ok(path.into())
        } else {
            Err(relative(Code::InvalidConfig, origin, path))
        };
    }
    match environment.get(variable) {
        Some(path) if path.starts_with('/') => Ok(path.into()),
        Some(path) => Err(relative(
            Code::InvalidEnvironment,
            format!("environment variable {variable}"),
            path,
        )),
        None => Ok(default),
    }
}

fn minimum_age(fields: &Fields<'_>, environment: &Environment) -> Result<Duration, Error> {
    const VARIABLE: &str = "CALICO_GC_MINIMUM_AGE_SECONDS";
    if let Some(seconds) = fields.unsigned("gc_minimum_age_seconds")? {
        return Ok(Duration::from_secs(seconds.into()));
    }
    match environment.get(VARIABLE).map(|text| (text, text.parse())) {
        None => Ok(DEFAULT_GC_MINIMUM_AGE),
        Some((_, Ok(seconds))) => Ok(Duration::from_secs(seconds)),
        Some((text, Err(_))) => {
            let message = format!("environment variable {VARIABLE}: {text:?} is not a number of seconds");
            Err(Error::new(Code::InvalidEnvironment, message))
        }
    }
}

fn log_settings(fields: &Fields<'_>) -> Result<LogSettings, Error> {
    Ok(LogSettings {
        level: fields.text("log_level")?.map(Level::parse).unwrap_or_default(),
        file: fields.text("log_file_path")?.map(PathBuf::from),
        max_megabytes: fields.unsigned("log_file_max_size")?.unwrap_or(100).into(),
        max_days: fields.unsigned("log_file_max_age")?.unwrap_or(30).into(),
        max_files: usize::try_from(fields.unsigned("log_file_max_count")?.unwrap_or(10)).unwrap_or(10),
    })
}
