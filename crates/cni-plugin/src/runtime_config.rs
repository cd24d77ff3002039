// SPDX-License-Identifier: Apache-2.0
//! What a runtime adds for declared capabilities (`runtimeConfig`; CNI conventions). Some runtimes write Go's
//! capitalised field names, so keys match in any case.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde_json::Value;

use crate::{error::Error, fields::Fields, lookup::lookup};

/// The capabilities that plugins here act on; others stay in the configuration's tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// `ips`: addresses asked for, with or without a mask.
    pub ips: Vec<IpAddr>,
    /// `mac`: MAC address asked for, as written.
    pub mac: Option<String>,
    /// `dns`: resolver settings.
    pub dns: RuntimeDns,
    /// `portMappings`: how many there are; portmap acts on them.
    pub port_mappings: usize,
    /// `bandwidth`: whether there is one; bandwidth acts on it.
    pub bandwidth: bool,
    /// `io.kubernetes.cri.pod-annotations`: the pod's annotations; `None` if the runtime did not send them.
    pub pod_annotations: Option<BTreeMap<String, String>>,
}

/// The capability `dns`; its names differ from those in results.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeDns {
    /// Servers.
    pub servers: Vec<String>,
    /// Search list.
    pub searches: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

/// The key of the pod annotations, also as a capability name.
pub const POD_ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

impl RuntimeConfig {
    pub(crate) fn read(fields: &Fields<'_>) -> Result<Self, Error> {
        let dns = fields.object("dns")?;
        let annotations = match fields.value(POD_ANNOTATIONS) {
            None => None,
            Some(value @ Value::Object(map)) => {
                let pair = |(key, value): (&String, &Value)| match value {
                    Value::Null => Some((key.clone(), String::new())),
                    value => Some((key.clone(), value.as_str()?.to_owned())),
                };
                let pairs: Option<BTreeMap<_, _>> = map.iter().map(pair).collect();
                Some(pairs.ok_or_else(|| fields.wrong(POD_ANNOTATIONS, value, "a map of strings"))?)
            }
            Some(other) => return Err(fields.wrong(POD_ANNOTATIONS, other, "a map of strings")),
        };
        let address = |value: &Value| {
            let text = value.as_str()?;
            text.parse()
                .ok()
                .or_else(|| text.parse::<IpNet>().ok().map(|prefix| prefix.addr()))
        };
        let mapping = |value: &Value| {
            value
                .as_object()
                .and_then(|mapping| lookup(mapping, "containerPort"))
                .map(drop)
        };
        Ok(Self {
            ips: fields.list("ips", "a list of addresses", address)?,
            mac: fields.text("mac")?.map(str::to_owned),
            dns: RuntimeDns {
                servers: dns.texts("servers")?,
                searches: dns.texts("searches")?,
                options: dns.texts("options")?,
            },
            port_mappings: fields
                .list("portMappings", "a list of port mappings", mapping)?
                .len(),
            bandwidth: fields.value("bandwidth").is_some(),
            pod_annotations: annotations,
        })
    }
}
