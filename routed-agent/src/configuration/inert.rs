// SPDX-License-Identifier: Apache-2.0
//! What Calico's users may write and this version does not act on. It is never an error, and it is reported where it
//! asks for something: what says "off" asks for nothing that could be missed.

use model::{Resource, key::Kind, resource::Spec};
use serde_json::Value as Json;

use super::{
    origin::{Origin, Problem, Warning},
    sources::says_something,
};

/// Names with one reason.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Why they have no effect, continuing "has no effect: ".
    pub why: &'static str,
    /// The names.
    pub names: &'static [&'static str],
}

/// Parameters of Felix. A name is that of the member of FelixConfiguration, which is also the key of the file and, behind
/// `FELIX_`, the environment variable, in any case; `member=parameter` where the two differ, `=parameter` where
/// there is no member.
#[rustfmt::skip]
pub const FELIX: &[Group] = &[
    Group { why: "the datastore is chosen by DATASTORE_TYPE and DATASTORE_PATH, and there is no Typha", names: &[
        "=DatastoreType", "=EtcdAddr", "=EtcdCaFile", "=EtcdCertFile", "=EtcdEndpoints", "=EtcdKeyFile", "=EtcdScheme",
        "=TyphaAddr", "=TyphaCAFile", "=TyphaCN", "=TyphaCertFile", "=TyphaK8sNamespace", "=TyphaK8sServiceName",
        "=TyphaKeyFile", "=TyphaReadTimeout", "=TyphaURISAN", "=TyphaWriteTimeout",
    ] },
    Group { why: "the node's name comes from NODENAME and the nodename file", names: &["=FelixHostname"] },
    Group { why: "it steers the Go runtime or Felix' detection of features", names: &[
        "featureDetectOverride", "featureGates", "goGCThreshold", "goMaxProcs", "goMemoryLimitMB",
        "prometheusGoMetricsEnabled",
    ] },
    Group { why: "it steers processes, watchdogs and drivers that Felix has and this daemon has not", names: &[
        "cgroupV2Path", "dataplaneDriver", "dataplaneWatchdogTimeout", "healthTimeoutOverrides", "netlinkTimeout=NetlinkTimeoutSecs",
        "useInternalDataplaneDriver",
    ] },
    Group { why: "logs have a folder (CALICO_LOG_DIR) and severities for screen and file; nothing else is set", names: &[
        "logDebugFilenameRegex", "logFilePath", "logSeveritySys",
    ] },
    Group { why: "metrics are served without TLS, and have one set", names: &[
        "prometheusMetricsCAFile", "prometheusMetricsCertFile", "prometheusMetricsClientAuth", "prometheusMetricsKeyFile",
        "prometheusProcessMetricsEnabled", "prometheusWireGuardMetricsEnabled",
    ] },
    Group { why: "policy is not enforced by this version", names: &[
        "allowIPIPPacketsFromWorkloads", "allowVXLANPacketsFromWorkloads", "chainInsertMode", "defaultEndpointToHostAction",
        "disableConntrackInvalidCheck", "failsafeInboundHostPorts", "failsafeOutboundHostPorts", "interfaceExclude",
        "logActionRateLimit", "logActionRateLimitBurst", "logPrefix", "policySyncPathPrefix", "workloadSourceSpoofing",
    ] },
    Group { why: "this version does no such address translation, announcement or marking", names: &[
        "floatingIPs", "istioAmbientMode", "istioDSCPMark", "ipv4ElevatedRoutePriority", "ipv6ElevatedRoutePriority",
        "liveMigrationRouteConvergenceTime", "localSubnetL2Reachability", "localSubnetL2ReachabilityRefreshInterval",
        "sidecarAccelerationEnabled",
    ] },
    Group { why: "interfaces are followed by notifications, only table main is written, and routes are always looked after", names: &[
        "interfaceRefreshInterval", "routeSyncDisabled", "routeTableRange", "routeTableRanges",
    ] },
    Group { why: "this version writes no endpoint status files", names: &["endpointStatusPathPrefix"] },
    Group { why: "the network configuration of the plugin has require_mtu_file", names: &["requireMTUFile"] },
    Group { why: "NAT is done by nftables in a table of our own, with its own way of refreshing; iptables is not used", names: &[
        "ipsetsRefreshInterval", "iptablesBackend", "iptablesFilterAllowAction", "iptablesFilterDenyAction",
        "iptablesLockProbeInterval=IptablesLockProbeIntervalMillis", "iptablesMangleAllowAction", "iptablesMarkMask",
        "iptablesNATOutgoingInterfaceFilter", "iptablesPostWriteCheckInterval=IptablesPostWriteCheckIntervalSecs",
        "iptablesRefreshInterval", "kubeNodePortRanges", "maxIpsetSize", "nftablesFilterAllowAction",
        "nftablesFilterDenyAction", "nftablesFlowTableDataIfacePattern", "nftablesFlowTableOffload",
        "nftablesMangleAllowAction", "nftablesMarkMask", "nftablesMode", "nftablesRefreshInterval",
    ] },
    Group { why: "the datapath is Linux routing, without eBPF and XDP", names: &[
        "bpfAttachType", "bpfCTLBLogFilter", "bpfConnectTimeLoadBalancing", "bpfConnectTimeLoadBalancingEnabled",
        "bpfConntrackLogLevel", "bpfConntrackMode=BPFConntrackCleanupMode", "bpfConntrackTimeouts", "bpfDSROptoutCIDRs",
        "bpfDataIfacePattern", "bpfDisableGROForIfaces", "bpfDisableUnprivileged", "bpfEnabled", "bpfEnforceRPF",
        "bpfExcludeCIDRsFromNAT", "bpfExportBufferSizeMB", "bpfExtToServiceConnmark", "bpfExternalServiceMode",
        "bpfForceTrackPacketsFromIfaces", "bpfHostConntrackBypass", "bpfHostNetworkedNATWithoutCTLB", "bpfIPFragTimeout",
        "bpfIPFragmentReassemblyEnabled", "bpfJITHardening", "bpfKubeProxyHealthzPort",
        "bpfKubeProxyIptablesCleanupEnabled", "bpfKubeProxyMinSyncPeriod", "bpfL3IfacePattern", "bpfLogFilters",
        "bpfLogLevel", "bpfMaglevMaxEndpointsPerService", "bpfMaglevMaxServices", "bpfMapSizeConntrack",
        "bpfMapSizeConntrackCleanupQueue", "bpfMapSizeConntrackScaling", "bpfMapSizeIPSets", "bpfMapSizeIfState",
        "bpfMapSizeNATAffinity", "bpfMapSizeNATBackend", "bpfMapSizeNATFrontend", "bpfMapSizePerCpuConntrack",
        "bpfMapSizeRoute", "bpfOverlayHostSourceIP", "bpfPSNATPorts", "bpfPolicyDebugEnabled", "bpfProfiling",
        "bpfRedirectToPeer", "genericXDPEnabled", "xdpEnabled", "xdpRefreshInterval",
    ] },
    Group { why: "there is no WireGuard in this version: traffic between nodes is not encrypted", names: &[
        "wireguardEnabled", "wireguardEnabledV6", "wireguardHostEncryptionEnabled", "wireguardInterfaceName",
        "wireguardInterfaceNameV6", "wireguardKeepAlive=WireguardPersistentKeepAlive", "wireguardListeningPort",
        "wireguardListeningPortV6", "wireguardMTU", "wireguardMTUV6", "wireguardRoutingRulePriority",
        "wireguardThreadingEnabled",
    ] },
    Group { why: "there are no flow logs and no usage reports", names: &[
        "flowLogsCollectorDebugTrace", "flowLogsFlushInterval", "flowLogsGoldmaneServer", "flowLogsLocalReporter",
        "flowLogsPolicyEvaluationMode", "usageReportingEnabled",
        "usageReportingInitialDelay=UsageReportingInitialDelaySecs", "usageReportingInterval=UsageReportingIntervalSecs",
    ] },
    Group { why: "it is for OpenStack, AWS or Windows", names: &[
        "awsSrcDstCheck", "endpointReportingDelay=EndpointReportingDelaySecs", "endpointReportingEnabled", "metadataAddr",
        "metadataPort", "openstackRegion", "reportingInterval=ReportingIntervalSecs", "reportingTTL=ReportingTTLSecs",
        "windowsManageFirewallRules",
    ] },
    Group { why: "it is for tests of Felix", names: &[
        "=DebugBPFCgroupV2", "=DebugCPUProfilePath", "debugDisableLogDropping", "debugHost", "debugMemoryProfilePath",
        "=DebugPanicAfter", "debugPort", "debugSimulateCalcGraphHangAfter", "=DebugSimulateDataRace",
        "debugSimulateDataplaneApplyDelay", "debugSimulateDataplaneHangAfter",
    ] },
];

/// Other environment variables.
pub const VARIABLES: &[Group] = &[
    Group {
        why: "this version has the embedded datastore only",
        names: &[
            "KUBECONFIG",
            "CALICO_K8S_NODE_REF",
            "SKIP_TLS_VERIFY",
            "USE_POD_CIDR",
            "ETCD_ENDPOINTS",
            "ETCD_DISCOVERY_SRV",
            "ETCD_KEY_FILE",
            "ETCD_CERT_FILE",
            "ETCD_CA_CERT_FILE",
        ],
    },
    Group {
        why: "FELIX_LOGSEVERITYSCREEN holds for the start as well",
        names: &["CALICO_STARTUP_LOGLEVEL"],
    },
    Group {
        why: "the plugins need no token",
        names: &["CALICO_MANAGE_CNI"],
    },
    Group {
        why: "this version writes no endpoint status files",
        names: &["CALICO_ENDPOINT_STATUS_PATH_PREFIX"],
    },
];

/// Members and annotations of one kind of objects.
#[derive(Clone, Copy, Debug)]
pub struct Members {
    /// The kind.
    pub kind: Kind,
    /// Members of `spec` that are acted on, with all that is in them.
    pub used: &'static [&'static str],
    /// Members of `spec` that are not.
    pub inert: &'static [Group],
    /// Annotations that are not.
    pub annotations: &'static [Group],
}

/// Kinds other than FelixConfiguration and BGPConfiguration.
pub const KINDS: &[Members] = &[
    Members {
        kind: Kind::BgpPeer,
        used: &[
            "node",
            "nodeSelector",
            "peerIP",
            "asNumber",
            "localASNumber",
            "peerSelector",
            "localWorkloadSelector",
            "keepOriginalNextHop",
            "nextHopMode",
            "password",
            "sourceAddress",
            "maxRestartTime",
            "keepaliveTime",
            "numAllowedLocalASNumbers",
            "ttlSecurity",
            "reachableBy",
            "filters",
            "reversePeering",
        ],
        inert: &[Group {
            why: "it belongs to Calico's commercial edition",
            names: &["birdGatewayMode", "failureDetectionMode", "restartMode"],
        }],
        annotations: &[],
    },
    Members {
        kind: Kind::IpPool,
        used: &[
            "cidr",
            "blockSize",
            "ipipMode",
            "vxlanMode",
            "natOutgoing",
            "disabled",
            "disableBGPExport",
            "nodeSelector",
            "namespaceSelector",
            "allowedUses",
            "assignmentMode",
        ],
        inert: &[Group {
            why: "it is the form of Calico 2: write ipipMode and natOutgoing",
            names: &["ipip", "nat-outgoing"],
        }],
        annotations: &[],
    },
    Members {
        kind: Kind::Node,
        used: &[
            "bgp",
            "addresses",
            "ipv4VXLANTunnelAddr",
            "ipv6VXLANTunnelAddr",
            "vxlanTunnelMACAddr",
            "vxlanTunnelMACAddrV6",
        ],
        inert: &[
            Group {
                why: "there is no WireGuard in this version: traffic between nodes is not encrypted",
                names: &["wireguard"],
            },
            Group {
                why: "it is written for other readers",
                names: &["interfaces", "orchRefs"],
            },
        ],
        annotations: &[Group {
            why: "there is no WireGuard in this version: traffic between nodes is not encrypted",
            names: &[
                "projectcalico.org/IPv4WireguardInterfaceAddr",
                "projectcalico.org/IPv6WireguardInterfaceAddr",
                "projectcalico.org/WireguardPublicKey",
                "projectcalico.org/WireguardPublicKeyV6",
            ],
        }],
    },
];

/// The member of FelixConfiguration and Felix' parameter of an entry of [`FELIX`]; the member may be empty.
pub fn felix_names(entry: &'static str) -> (&'static str, &'static str) {
    entry.split_once('=').unwrap_or((entry, entry))
}

/// Why a parameter of Felix has no effect; `None` for one that is not listed.
pub(super) fn felix_parameter(name: &str) -> Option<&'static str> {
    felix(|(_, parameter)| parameter.eq_ignore_ascii_case(name))
}

/// Why a member of FelixConfiguration has no effect; `None` for one that is not listed.
pub(super) fn felix_member(name: &str) -> Option<&'static str> {
    felix(|(member, _)| member.eq_ignore_ascii_case(name))
}

fn felix(matches: impl Fn((&'static str, &'static str)) -> bool) -> Option<&'static str> {
    let group = FELIX
        .iter()
        .find(|group| group.names.iter().any(|entry| matches(felix_names(entry))))?;
    Some(group.why)
}

/// Whether a text asks for nothing.
pub(super) fn asks_nothing(text: &str) -> bool {
    const OFF: [&str; 10] = ["", "0", "0s", "false", "no", "n", "f", "none", "disabled", "off"];
    OFF.iter().any(|off| off.eq_ignore_ascii_case(text.trim()))
}

/// Whether a member of an object asks for nothing.
pub(super) fn member_asks_nothing(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Bool(flag) => !flag,
        Json::Number(number) => number.as_f64() == Some(0.0),
        Json::String(text) => asks_nothing(text),
        Json::Array(items) => items.is_empty(),
        Json::Object(members) => members.is_empty(),
    }
}

/// What an object of one of [`KINDS`] has and this version does not act on, and what is not known at all.
pub fn object_warnings<S: Spec>(object: &Resource<S>) -> Vec<Warning> {
    let Some(members) = KINDS.iter().find(|members| members.kind == S::KIND) else {
        return Vec::new();
    };
    let origin = || Origin::Object {
        kind: S::KIND.name(),
        name: object.metadata.name.clone(),
    };
    let warning = |field: String, problem| Warning {
        origin: origin(),
        field,
        problem,
    };
    let mut warnings = Vec::new();
    let spec = serde_json::to_value(&object.spec).unwrap_or_default();
    for (name, value) in spec.as_object().into_iter().flatten() {
        if members.used.iter().any(|used| used.eq_ignore_ascii_case(name)) || !says_something(value) {
            continue;
        }
        match reason(members.inert, name) {
            Some(_) if member_asks_nothing(value) => {}
            Some(why) => warnings.push(warning(format!("spec.{name}"), Problem::NotActedOn(why))),
            None => warnings.push(warning(format!("spec.{name}"), Problem::Unknown(None))),
        }
    }
    for name in object.metadata.annotations.keys() {
        if let Some(why) = reason(members.annotations, name) {
            warnings.push(warning(format!("annotation {name}"), Problem::NotActedOn(why)));
        }
    }
    warnings
}

fn reason(groups: &[Group], name: &str) -> Option<&'static str> {
    let listed = |group: &&Group| group.names.iter().any(|listed| listed.eq_ignore_ascii_case(name));
    groups.iter().find(listed).map(|group| group.why)
}
