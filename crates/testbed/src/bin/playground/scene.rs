// SPDX-License-Identifier: Apache-2.0
//! What the story is played with: a router, a host behind it, the network list that is shipped, and a runtime.

use std::path::Path;

use anyhow::{Context as _, Result};
use cni_plugin::Version;
use kernel::host::has_ipv6;
use serde_json::{Value, json};
use testbed::cni::{CniRuntime, NetworkList};
use testbed::{Host, Router};

/// The list an operator installs.
const LIST: &str = "conf/10-calico.conflist";

/// The stage.
pub(crate) struct Scene {
    pub(crate) host: Host,
    pub(crate) runtime: CniRuntime,
    pub(crate) list: NetworkList,
    /// What the list lacks of the shipped one, and why.
    pub(crate) omissions: Vec<String>,
    pub(crate) dual_stack: bool,
    // Dropped after the host that is linked to it.
    _router: Router,
}

impl Scene {
    /// Makes everything up to the first container.
    pub(crate) fn set() -> Result<Self> {
        let router = Router::new()?;
        let host = Host::behind(&router, "node-1")?;
        host.install_plugins()?;
        let dual_stack = host.place().run(has_ipv6)?;
        let runtime = host.cni().with_environment([
            ("CALICO_IPV6POOL_CIDR", "fd80:24e2:f998:72d6::/64"),
            // Nobody wants to wait five minutes for garbage collection.
            ("CALICO_GC_MINIMUM_AGE_SECONDS", "0"),
        ]);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(LIST);
        let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let mut tree: Value = serde_json::from_slice(&text).with_context(|| LIST.to_owned())?;
        let omissions = omit_unfit(&mut tree, &runtime)?;
        adapt(&mut tree, &host, dual_stack)?;
        Ok(Self {
            list: NetworkList::parse(tree.to_string(), Version::V1_1_0)?,
            host,
            runtime,
            omissions,
            dual_stack,
            _router: router,
        })
    }

    /// The types of the list's plugins, in order.
    pub(crate) fn plugins(&self) -> Vec<String> {
        let kind =
            |plugin: &serde_json::Map<String, Value>| plugin["type"].as_str().unwrap_or_default().to_owned();
        self.list.plugins.iter().map(kind).collect()
    }
}

/// Takes plugins out of the list that this machine does not have, or whose age would keep STATUS and GC from being shown.
fn omit_unfit(tree: &mut Value, runtime: &CniRuntime) -> Result<Vec<String>> {
    let plugins = tree["plugins"]
        .as_array_mut()
        .context("the list has no plugins")?;
    let mut omissions = Vec::new();
    plugins.retain(|plugin| {
        let kind = plugin["type"].as_str().unwrap_or_default();
        let reply = runtime.version(kind).unwrap_or_default();
        let spoken = reply["supportedVersions"].as_array().into_iter().flatten();
        let newest = spoken
            .filter_map(|version| version.as_str()?.parse::<Version>().ok())
            .max();
        // Without our own plugin there is nothing to show: its failure is reported by the first ADD.
        if kind == "calico" || newest >= Some(Version::V1_1_0) {
            return true;
        }
        omissions.push(match newest {
            None => {
                format!("without {kind}, which is not installed here (package containernetworking-plugins)")
            }
            Some(version) => {
                format!("without {kind}: the installed one is too old for STATUS and GC (CNI {version})")
            }
        });
        false
    });
    Ok(omissions)
}

/// What differs from an installed list: the log's path, and IPv6 besides IPv4.
fn adapt(tree: &mut Value, host: &Host, dual_stack: bool) -> Result<()> {
    let calico = tree["plugins"][0]
        .as_object_mut()
        .context("the list's first plugin is no object")?;
    let log = host.folders().log().join("cni.log");
    calico.insert("log_file_path".to_owned(), json!(log));
    if dual_stack {
        calico["ipam"]["assign_ipv6"] = json!("true");
    }
    Ok(())
}
