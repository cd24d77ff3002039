// SPDX-License-Identifier: Apache-2.0
//! The interface plugin's own configuration keys, as Calico users write them, parsed once into types. What the
//! keys do, and which are accepted without effect, is listed in `docs/compatibility.md`.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use calico_ipam::settings::{Settings, unless_del};
use cni_plugin::{Call, Code, Command, Error, Fields};
use ipnet::IpNet;
use kernel::PairKind;
use model::names::InterfacePrefix;
use serde_json::Value;

use crate::{annotations::Annotations, readiness::Gate};

/// The IPAM plugin whose library half is called in process.
pub const OWN_IPAM: &str = "calico-ipam";
/// The largest MTU the kernel accepts for a pair; the smallest that IPv4 allows.
const MTU_RANGE: std::ops::RangeInclusive<u32> = 68..=65535;
const MAX_QUEUES: u32 = 4096;
/// Longest value a label can have.
const MAX_LABEL_VALUE: usize = 63;

/// Everything the configuration says about making an interface.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one switch of the configuration, under its own name"
)]
pub struct Config {
    /// Keys shared with the IPAM plugin.
    pub settings: Settings,
    /// `ipam.type`.
    pub ipam_type: String,
    /// `mtu`; `None` for 0.
    pub mtu: Option<u32>,
    /// `require_mtu_file`.
    pub require_mtu_file: bool,
    /// `num_queues`.
    pub queues: u32,
    /// `device_type`.
    pub device: PairKind,
    /// `container_settings.allow_ip_forwarding`.
    pub allow_ip_forwarding: bool,
    /// `ipam.routes`, for other IPAM plugins than ours: instead of the default routes.
    pub custom_routes: Vec<IpNet>,
    /// `include_default_routes`.
    pub include_default_routes: bool,
    /// `feature_control.ip_addrs_no_ipam`.
    pub allow_addresses_without_ipam: bool,
    /// `feature_control.floating_ips`.
    pub allow_floating_addresses: bool,
    /// `readiness_gates`.
    pub readiness_gates: Vec<Gate>,
    /// `policy_setup_timeout_seconds`; `None` for 0.
    pub policy_timeout: Option<Duration>,
    /// `endpoint_status_dir`.
    pub endpoint_status_dir: PathBuf,
    /// `policy.type` is `k8s`.
    pub kubernetes_policy: bool,
    /// `FELIX_INTERFACEPREFIX`.
    pub interface_prefix: InterfacePrefix,
    /// `runtimeConfig` `io.kubernetes.cri.pod-annotations`.
    pub annotations: Annotations,
    /// Labels of Mesos.
    pub labels: BTreeMap<String, String>,
    /// Namespace of Mesos.
    pub namespace: Option<String>,
}

impl Config {
    /// Reads the configuration of a call.
    pub fn read(call: &Call) -> Result<Self, Error> {
        let settings = Settings::read(call)?;
        let fields = call.config.fields();
        let ipam = fields.object("ipam")?;
        let ipam_type = ipam.text("type")?.ok_or_else(|| {
            Error::new(
                Code::InvalidConfig,
                "network configuration: \"ipam.type\" is missing; set \"calico-ipam\"",
            )
        })?;
        unless_del(call, require_linux(&fields))?;
        let features = match fields.object("feature_control") {
            Err(_) if call.command == Command::Del => Fields::absent(),
            read => read?,
        };
        let flag =
            |fields: &Fields<'_>, key| unless_del(call, fields.boolean(key)).map(Option::unwrap_or_default);
        let (namespace, labels) = mesos_labels(&fields);
        Ok(Self {
            ipam_type: ipam_type.to_owned(),
            mtu: unless_del(call, mtu(&fields))?,
            require_mtu_file: flag(&fields, "require_mtu_file")?,
            queues: unless_del(call, queues(&fields))?,
            device: unless_del(call, device(&fields).map(Some))?.unwrap_or(PairKind::Veth),
            allow_ip_forwarding: unless_del(call, allow_ip_forwarding(&fields))?,
            custom_routes: unless_del(call, custom_routes(&ipam))?,
            include_default_routes: flag(&fields, "include_default_routes")?,
            allow_addresses_without_ipam: flag(&features, "ip_addrs_no_ipam")?,
            allow_floating_addresses: flag(&features, "floating_ips")?,
            readiness_gates: unless_del(call, readiness_gates(&fields))?,
            policy_timeout: unless_del(call, policy_timeout(&fields))?,
            endpoint_status_dir: unless_del(call, fields.text("endpoint_status_dir"))?
                .map_or_else(|| settings.run_dir.join("endpoint-status"), PathBuf::from),
            kubernetes_policy: fields.object("policy")?.text("type")? == Some("k8s"),
            interface_prefix: interface_prefix(call)?,
            annotations: unless_del(call, annotations(call))?,
            labels,
            namespace,
            settings,
        })
    }

    /// Whether addresses come from our own IPAM.
    pub fn is_own_ipam(&self) -> bool {
        self.ipam_type == OWN_IPAM
    }
}

fn mtu(fields: &Fields<'_>) -> Result<Option<u32>, Error> {
    match (fields.unsigned("mtu")?, fields.value("mtu")) {
        (None | Some(0), _) => Ok(None),
        (Some(mtu), _) if MTU_RANGE.contains(&mtu) => Ok(Some(mtu)),
        (Some(_), value) => Err(fields.wrong(
            "mtu",
            value.unwrap_or(&Value::Null),
            "an MTU from 68 to 65535, or 0",
        )),
    }
}

fn queues(fields: &Fields<'_>) -> Result<u32, Error> {
    match (fields.integer("num_queues")?, fields.value("num_queues")) {
        (None | Some(..=0), _) => Ok(1),
        (Some(number), value) => match u32::try_from(number) {
            Ok(number) if number <= MAX_QUEUES => Ok(number),
            _ => Err(fields.wrong(
                "num_queues",
                value.unwrap_or(&Value::Null),
                "a number of queues up to 4096",
            )),
        },
    }
}

fn device(fields: &Fields<'_>) -> Result<PairKind, Error> {
    match fields.text("device_type")? {
        None | Some("veth") => Ok(PairKind::Veth),
        Some("netkit") => Ok(PairKind::Netkit),
        Some(other) => Err(fields.wrong("device_type", &other.into(), "one of \"veth\" and \"netkit\"")),
    }
}

fn allow_ip_forwarding(fields: &Fields<'_>) -> Result<bool, Error> {
    let settings = fields.object("container_settings")?;
    Ok(settings.boolean("allow_ip_forwarding")?.unwrap_or(false))
}

fn custom_routes(ipam: &Fields<'_>) -> Result<Vec<IpNet>, Error> {
    let destination = |route: &Value| {
        let Value::Object(route) = route else { return None };
        Fields::new(route, "ipam.routes").text("dst").ok()??.parse().ok()
    };
    ipam.list("routes", "a list of {\"dst\": PREFIX}", destination)
}

fn readiness_gates(fields: &Fields<'_>) -> Result<Vec<Gate>, Error> {
    let gates = fields.texts("readiness_gates")?;
    gates
        .iter()
        .map(|url| {
            Gate::parse(url)
                .ok_or_else(|| fields.wrong("readiness_gates", &url.as_str().into(), "an http:// URL"))
        })
        .collect()
}

fn policy_timeout(fields: &Fields<'_>) -> Result<Option<Duration>, Error> {
    let key = "policy_setup_timeout_seconds";
    let seconds = fields.unsigned(key)?.unwrap_or(0);
    Ok((seconds > 0).then(|| Duration::from_secs(seconds.into())))
}

fn interface_prefix(call: &Call) -> Result<InterfacePrefix, Error> {
    const VARIABLE: &str = "FELIX_INTERFACEPREFIX";
    call.environment.get(VARIABLE).map_or_else(
        || Ok(InterfacePrefix::default()),
        |text| {
            text.parse().map_err(|problem| {
                Error::new(
                    Code::InvalidEnvironment,
                    format!("environment variable {VARIABLE}: {problem}"),
                )
            })
        },
    )
}

fn annotations(call: &Call) -> Result<Annotations, Error> {
    match &call.config.runtime.pod_annotations {
        None => Ok(Annotations::default()),
        Some(map) => {
            Annotations::parse(map).map_err(|problem| Error::new(Code::InvalidConfig, problem.to_string()))
        }
    }
}

/// A dataplane other than Linux would be an external program that this plugin does not call.
fn require_linux(fields: &Fields<'_>) -> Result<(), Error> {
    match fields.object("dataplane_options")?.text("type")? {
        None | Some("linux") => Ok(()),
        Some(other) => Err(Error::new(
            Code::UnsupportedField,
            format!(
                "network configuration: \"dataplane_options.type\": {other:?} is not supported; remove it"
            ),
        )),
    }
}

/// `args."org.apache.mesos".network_info.labels.labels`: free content, so whatever has another shape is ignored.
fn mesos_labels(fields: &Fields<'_>) -> (Option<String>, BTreeMap<String, String>) {
    let pointer = "/org.apache.mesos/network_info/labels/labels";
    let listed = fields
        .value("args")
        .and_then(|args| args.pointer(pointer))
        .and_then(Value::as_array);
    let pair = |label: &Value| {
        Some((
            label.get("key")?.as_str()?.to_owned(),
            label.get("value")?.as_str()?.to_owned(),
        ))
    };
    let mut labels: BTreeMap<String, String> = listed.into_iter().flatten().filter_map(pair).collect();
    let namespace = labels
        .remove("projectcalico.org/namespace")
        .map(|namespace| sanitise_label(&namespace));
    let sanitised = labels
        .iter()
        .map(|(key, value)| (sanitise_label(key), sanitise_label(value)));
    (
        namespace.filter(|namespace| !namespace.is_empty()),
        sanitised.filter(|(key, _)| !key.is_empty()).collect(),
    )
}

/// Labels of Mesos' network information, made into what a label may be: other characters become `-`, long ones are
/// cut, and edges are trimmed to letters and digits.
fn sanitise_label(text: &str) -> String {
    let allowed =
        |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.' | '/');
    let mapped: String = text
        .chars()
        .take(MAX_LABEL_VALUE)
        .map(|character| if allowed(character) { character } else { '-' })
        .collect();
    mapped
        .trim_matches(|character: char| !character.is_ascii_alphanumeric())
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_made_valid() {
        assert_eq!(sanitise_label("a b!c"), "a-b-c");
        assert_eq!(sanitise_label("--x--"), "x");
        assert_eq!(sanitise_label(&"y".repeat(80)).len(), 63);
    }
}
