// SPDX-License-Identifier: Apache-2.0
//! Every setting that the daemon acts on, once: its field, form, default, names, unit, and whether it changes while the
//! daemon runs. Reading, status and documentation all come from here.

use std::{path::PathBuf, time::Duration};

use model::{
    AsNumber, Switch, bgp_configuration::BindMode, cluster_routes::ProgramClusterRoutes,
    felix_configuration::NatOutgoingExclusions,
};

use super::{
    form::{Flag, Form, HoldTime, List, Mtu, Optional, RestartTime, Seconds, Whole, Word},
    network_form::{
        AbsolutePath, Address4, Address6, Advertisements, As, Communities, Device, DeviceGlob, Host,
        InterfacePrefixes, NatPorts, Password, Pattern, Prefix, RouteProtocol, RouterIdForm,
    },
    origin::{Origin, Sourced},
    resolver::Resolver,
    setting::{Names, Setting},
    words::{Backend, CrossSubnetTest, ExternalExport, RouteSource, ServiceLoopPrevention, Severity},
};

/// Where container runtimes listen.
const RUNTIME_SOCKETS: [&str; 4] = [
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
    "/run/docker.sock",
];
/// A day, in seconds.
const DAY: u64 = 86_400;
/// Largest route priority (2^31 - 2), so that its LOCAL_PREF is at least 1.
const MAX_PRIORITY: u64 = 2_147_483_646;
/// Calico's rule for the interfaces whose MTU counts.
const MTU_PATTERN: &str = "^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)";

/// A TCP or UDP port.
type Port = Whole<u16, 1, 65_535>;
/// A route priority, smaller wins.
type Priority = Optional<Whole<u32, 1, MAX_PRIORITY>>;
/// How often or how long: at least a second, or 0 for never.
type Interval = Seconds<1, DAY>;
/// How many entries a journal keeps.
type Entries = Whole<u32, 100, 10_000_000>;

/// A setting for a status page.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which.
    pub setting: Setting,
    /// A text that reads as its value; empty where it has none.
    pub value: String,
    /// Where the value comes from.
    pub origin: Origin,
}

/// A setting with a new value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Which: the name of its field.
    pub name: &'static str,
    /// Whether it takes effect without a restart of the daemon.
    pub live: bool,
}

settings! {
    section "Encapsulation" {
        /// Device for IP in IP. `tunl0` is the kernel's own, which receives every unclaimed packet of the host.
        ipip_device: Device = "ipip.calico".to_owned(), Names::own(&["CALICO_IPIP_DEVICE"], "ipipDevice"), "", restart;
        /// Whether there is IP in IP; without a value: if a pool asks for it.
        ipip_enabled: Optional<Flag> = None, Names::felix("IpInIpEnabled", "ipipEnabled"), "", live;
        /// Whether there is VXLAN; without a value: if a pool asks for it.
        vxlan_enabled: Optional<Flag> = None, Names::felix("VXLANEnabled", "vxlanEnabled"), "", live;
        /// MTU of the IP in IP device; 0: the underlay's less 20.
        ipip_mtu: Mtu<68> = 0, Names::felix("IpInIpMtu", "ipipMTU"), "bytes", live;
        /// MTU of the VXLAN device over IPv4; 0: the underlay's less 50.
        vxlan_mtu: Mtu<68> = 0, Names::felix("VXLANMTU", "vxlanMTU"), "bytes", live;
        /// MTU of the VXLAN device over IPv6; 0: the underlay's less 70.
        vxlan_mtu_v6: Mtu<1280> = 0, Names::felix("VXLANMTUV6", "vxlanMTUV6"), "bytes", live;
        /// Interfaces whose MTU counts where the device of the node's address is not known.
        mtu_iface_pattern: Pattern = MTU_PATTERN.to_owned(), Names::felix("MTUIfacePattern", "mtuIfacePattern"), "",
            live;
        /// UDP port of VXLAN; the same on all nodes.
        vxlan_port: Port = 4789, Names::felix("VXLANPort", "vxlanPort"), "", live;
        /// VXLAN network identifier; the same on all nodes.
        vxlan_vni: Whole<u32, 1, 16_777_215> = 4096, Names::felix("VXLANVNI", "vxlanVNI"), "", live;
        /// How pools with CrossSubnet tell who is near: `mask` of the node's address, or any prefix `onlink`.
        cross_subnet_test: Word<CrossSubnetTest> = CrossSubnetTest::Mask,
            Names::own(&["CALICO_CROSS_SUBNET_TEST"], "crossSubnetTest"), "", live;
        /// Further hosts from which encapsulated packets are accepted, and that count as nodes for NAT.
        external_nodes: List<Prefix> = Vec::new(), Names::felix("ExternalNodesCIDRList", "externalNodesList"), "",
            live;
    }
    section "Routes and interfaces" {
        /// What host interfaces of containers start with; the first one names new interfaces.
        interface_prefixes: InterfacePrefixes = vec!["cali".to_owned()],
            Names::felix("InterfacePrefix", "interfacePrefix"), "", restart;
        /// Where routes of the datastore to containers of other nodes come from: blocks of Calico's IPAM, or each container's
        /// address, whatever IPAM plugin has assigned it. What BGP says of blocks comes besides.
        route_source: Word<RouteSource> = RouteSource::CalicoIpam, Names::felix("RouteSource", "routeSource"), "",
            live;
        /// Protocol number of all routes but containers' own, which have 3. Only routes with it are ever removed.
        route_protocol: RouteProtocol = RouteProtocol::DEFAULT,
            Names::felix("DeviceRouteProtocol", "deviceRouteProtocol"), "", restart;
        /// Metric of IPv4 routes, also as LOCAL_PREF to other nodes; without a value 0 in the kernel, as 1024 in BGP.
        ipv4_route_priority: Priority = None,
            Names::felix("IPv4NormalRoutePriority", "ipv4NormalRoutePriority").and_bgp("ipv4NormalRoutePriority"), "",
            live;
        /// Metric of IPv6 routes, also as LOCAL_PREF to other nodes; without a value 1024.
        ipv6_route_priority: Priority = None,
            Names::felix("IPv6NormalRoutePriority", "ipv6NormalRoutePriority").and_bgp("ipv6NormalRoutePriority"), "",
            live;
        /// Pause between full comparisons of routes with the kernel, beside repairs at once; 0: none.
        route_refresh_interval: Interval = Duration::from_secs(90),
            Names::felix("RouteRefreshInterval", "routeRefreshInterval"), "seconds", live;
        /// Whether others' routes on containers' interfaces are removed, 10 s after they were found; those that the kernel
        /// makes with addresses stay. Calico's default is true.
        remove_external_routes: Flag = false, Names::felix("RemoveExternalRoutes", "removeExternalRoutes"), "", live;
        /// Source address of the host's own IPv4 packets on our routes; without a value the kernel's choice.
        route_source_address: Optional<Address4> = None,
            Names::felix("DeviceRouteSourceAddress", "deviceRouteSourceAddress"), "", live;
        /// Source address of the host's own IPv6 packets on our routes; without a value the kernel's choice.
        route_source_address_ipv6: Optional<Address6> = None,
            Names::felix("DeviceRouteSourceAddressIPv6", "deviceRouteSourceAddressIPv6"), "", live;
        /// Cluster routes that Felix programs in Calico. Here one daemon does both parts: routes are left out only where
        /// neither this setting nor `bgp_program_cluster_routes` has them.
        program_cluster_routes: Word<ProgramClusterRoutes> = ProgramClusterRoutes::EnabledIpipOnly,
            Names::felix("ProgramClusterRoutes", "programClusterRoutes"), "", live;
        /// Cluster routes that BIRD programs in Calico; see `program_cluster_routes`.
        bgp_program_cluster_routes: Word<ProgramClusterRoutes> = ProgramClusterRoutes::EnabledNoEncapOnly,
            Names::bgp("programClusterRoutes", &["CALICO_BGP_PROGRAM_CLUSTER_ROUTES"]), "", live;
        /// Whether the host's forwarding is switched on.
        ip_forwarding: Word<Switch> = Switch::Enabled, Names::felix("IPForwarding", "ipForwarding"), "", restart;
        /// Whether IPv6 is looked after.
        ipv6_support: Flag = true, Names::felix("Ipv6Support", "ipv6Support"), "", restart;
    }
    section "NAT" {
        /// Ports that source NAT uses for TCP and UDP; without a value the kernel's choice.
        nat_port_range: NatPorts = None, Names::felix("NATPortRange", "natPortRange"), "", live;
        /// Address that source NAT uses; without a value that of the outgoing interface.
        nat_outgoing_address: Optional<Address4> = None, Names::felix("NATOutgoingAddress", "natOutgoingAddress"), "",
            live;
        /// Destinations that are not translated: those in pools, or also nodes' addresses.
        nat_outgoing_exclusions: Word<NatOutgoingExclusions> = NatOutgoingExclusions::IpPoolsOnly,
            Names::felix("NATOutgoingExclusions", "natOutgoingExclusions"), "", live;
        /// What becomes of forwarded packets to Services' prefixes that nobody has translated: `Drop`, `Reject` with ICMP
        /// port unreachable, or `Disabled`: they are left alone.
        service_loop_prevention: Word<ServiceLoopPrevention> = ServiceLoopPrevention::Drop,
            Names::felix("ServiceLoopPrevention", "serviceLoopPrevention"), "", live;
    }
    section "BGP" {
        /// `bird`: BGP; `vxlan`: no BGP, routes from the datastore; `none`: neither, nor addresses of the node.
        networking_backend: Word<Backend> = Backend::Bird,
            Names::own(&["CALICO_NETWORKING_BACKEND"], "networkingBackend"), "", restart;
        /// AS number of a node whose Node object has none.
        as_number: As = AsNumber(64_512), Names::bgp("asNumber", &["AS"]), "", live;
        /// Router ID, or `hash` of the node's name; without a value the node's IPv4 address, `hash` where it has none.
        router_id: Optional<RouterIdForm> = None, Names::own(&["CALICO_ROUTER_ID"], "routerID"), "", restart;
        /// TCP port that BGP listens on.
        listen_port: Port = 179, Names::bgp("listenPort", &["CALICO_BGP_LISTEN_PORT"]).per_node(), "", restart;
        /// Whether BGP listens on all addresses (`None`) or on the node's (`NodeIP`).
        bind_mode: Word<BindMode> = BindMode::None, Names::bgp("bindMode", &["CALICO_BGP_BIND_MODE"]), "", restart;
        /// Whether every node peers with every other.
        node_mesh: Flag = true, Names::bgp("nodeToNodeMeshEnabled", &["CALICO_BGP_NODE_MESH"]), "", live;
        /// Where the password of the mesh's sessions is (TCP MD5, RFC 2385); without a value they have none.
        /// Acted on where the BGPConfiguration has it.
        node_mesh_password: Optional<Password> = None,
            Names::bgp("nodeMeshPassword", &["CALICO_BGP_NODE_MESH_PASSWORD"]), "", live;
        /// Restart time announced to mesh peers (RFC 4724).
        node_mesh_max_restart_time: RestartTime = 120,
            Names::bgp("nodeMeshMaxRestartTime", &["CALICO_BGP_NODE_MESH_MAX_RESTART_TIME"]), "seconds", live;
        /// Restart time announced to all other peers whose BGPPeer has none (RFC 4724).
        restart_time: RestartTime = 120, Names::own(&["CALICO_BGP_RESTART_TIME"], "bgpRestartTime"), "seconds", live;
        /// Hold time offered to peers; the smaller of both ends' counts, keepalives go three times as often.
        hold_time: HoldTime = 90, Names::own(&["CALICO_BGP_HOLD_TIME"], "bgpHoldTime"), "seconds", live;
        /// Prefixes of Services' cluster addresses to announce.
        service_cluster_ips: List<Prefix> = Vec::new(),
            Names::bgp("serviceClusterIPs", &["CALICO_ADVERTISE_CLUSTER_IPS"]), "", live;
        /// Prefixes of Services' external addresses to announce.
        service_external_ips: List<Prefix> = Vec::new(),
            Names::bgp("serviceExternalIPs", &["CALICO_BGP_SERVICE_EXTERNAL_IPS"]), "", live;
        /// Prefixes of Services' load balancer addresses to announce.
        service_load_balancer_ips: List<Prefix> = Vec::new(),
            Names::bgp("serviceLoadBalancerIPs", &["CALICO_BGP_SERVICE_LOAD_BALANCER_IPS"]), "", live;
        /// Whether load balancer prefixes are announced whole, or each address for itself.
        service_load_balancer_aggregation: Word<Switch> = Switch::Enabled,
            Names::bgp("serviceLoadBalancerAggregation", &["CALICO_BGP_SERVICE_LOAD_BALANCER_AGGREGATION"]), "", live;
        /// Names for community values. Names in the node's object come first, those in `default` remain.
        communities: Communities = Vec::new(), Names::bgp("communities", &["CALICO_BGP_COMMUNITIES"]).per_node(), "",
            live;
        /// Communities of announced prefixes, by name or value.
        prefix_advertisements: Advertisements = Vec::new(),
            Names::bgp("prefixAdvertisements", &["CALICO_BGP_PREFIX_ADVERTISEMENTS"]).per_node(), "", live;
        /// Interfaces whose addresses resolve no next hop, beside `cali*` and `kube-ipvs*`.
        ignored_interfaces: List<DeviceGlob> = Vec::new(),
            Names::bgp("ignoredInterfaces", &["CALICO_BGP_IGNORED_INTERFACES"]), "", live;
        /// IPv4 address of this host that containers peer with.
        /// Not acted on yet.
        local_workload_peering_ipv4: Optional<Address4> = None,
            Names::bgp("localWorkloadPeeringIPV4", &["CALICO_BGP_LOCAL_WORKLOAD_PEERING_IPV4"]), "", live;
        /// IPv6 address of this host that containers peer with.
        /// Not acted on yet.
        local_workload_peering_ipv6: Optional<Address6> = None,
            Names::bgp("localWorkloadPeeringIPV6", &["CALICO_BGP_LOCAL_WORKLOAD_PEERING_IPV6"]), "", live;
        /// What peers of another AS are told: this node's routes (`own`), or also other nodes' as in Calico (`all`).
        external_export: Word<ExternalExport> = ExternalExport::All,
            Names::own(&["CALICO_BGP_EXTERNAL_EXPORT"], "bgpExternalExport"), "", live;
        /// Whether this node announces nothing at all.
        disable_bgp_export: Flag = false, Names::own(&["CALICO_BGP_DISABLE_EXPORT"], "bgpDisableExport"), "", live;
        /// Whether nothing passes to or from peers of another AS without a BGPFilter (RFC 8212).
        ebgp_requires_policy: Flag = false, Names::own(&["CALICO_BGP_EBGP_REQUIRES_POLICY"], "bgpEbgpRequiresPolicy"),
            "", live;
        /// Most prefixes of a family that a peer of another AS may announce; the session is closed beyond.
        ebgp_max_prefixes: Whole<u32, 1, 10_000_000> = 20_000,
            Names::own(&["CALICO_BGP_EBGP_MAX_PREFIXES"], "bgpEbgpMaxPrefixes"), "prefixes", live;
    }
    section "Addresses" {
        /// Pause between looks at whether a block should be claimed ahead or given back; 0: neither is done.
        claim_ahead_interval: Interval = Duration::from_secs(10),
            Names::own(&["CALICO_IPAM_CLAIM_AHEAD_INTERVAL"], "ipamClaimAheadInterval"), "seconds", live;
        /// Pause between looks for addresses that no container holds; 0: none.
        collection_interval: Interval = Duration::from_secs(300),
            Names::own(&["CALICO_IPAM_COLLECTION_INTERVAL"], "ipamCollectionInterval"), "seconds", live;
        /// Sockets of the container runtimes that are asked before an address is released; those that do not exist are
        /// left out.
        container_runtimes: List<AbsolutePath> = RUNTIME_SOCKETS.iter().map(PathBuf::from).collect(),
            Names::own(&["CALICO_CONTAINER_RUNTIMES"], "containerRuntimes"), "", live;
    }
    section "Logs and journals" {
        /// What standard error is told.
        log_severity_screen: Word<Severity> = Severity::Info, Names::felix("LogSeverityScreen", "logSeverityScreen"),
            "", live;
        /// What the log file is told.
        log_severity_file: Word<Severity> = Severity::Info, Names::felix("LogSeverityFile", "logSeverityFile"), "",
            live;
        /// What the log of BGP is told.
        bgp_log_severity: Word<Severity> = Severity::Info,
            Names::bgp("logSeverityScreen", &["BGP_LOGSEVERITYSCREEN"]).per_node(), "", live;
        /// Whether there are no log files.
        disable_file_logging: Flag = false, Names::own(&["CALICO_DISABLE_FILE_LOGGING"], "disableFileLogging"), "",
            restart;
        /// How many lines about this node's addresses, given out and given back, the journal keeps in memory.
        address_journal_entries: Entries = 100_000,
            Names::own(&["CALICO_ADDRESS_JOURNAL_ENTRIES"], "addressJournalEntries"), "entries", live;
        /// How many changes of routes the journal keeps in memory, and as many each of selections and of other events.
        route_journal_entries: Entries = 100_000, Names::own(&["CALICO_ROUTE_JOURNAL_ENTRIES"], "routeJournalEntries"),
            "entries", live;
        /// How many changes of sessions the journal keeps in memory.
        session_journal_entries: Entries = 10_000,
            Names::own(&["CALICO_SESSION_JOURNAL_ENTRIES"], "sessionJournalEntries"), "entries", live;
    }
    section "Health and metrics" {
        /// Whether liveness and readiness are answered by HTTP.
        health_enabled: Flag = false, Names::felix("HealthEnabled", "healthEnabled"), "", restart;
        /// Address or name of this host on which they are answered.
        health_host: Host = "localhost".to_owned(), Names::felix("HealthHost", "healthHost"), "", restart;
        /// TCP port on which they are answered.
        health_port: Port = 9099, Names::felix("HealthPort", "healthPort"), "", restart;
        /// Whether metrics are answered by HTTP.
        prometheus_enabled: Flag = false, Names::felix("PrometheusMetricsEnabled", "prometheusMetricsEnabled"), "",
            restart;
        /// Address or name of this host on which metrics are answered; without a value all.
        prometheus_host: Optional<Host> = None, Names::felix("PrometheusMetricsHost", "prometheusMetricsHost"), "",
            restart;
        /// TCP port on which metrics are answered.
        prometheus_port: Port = 9091, Names::felix("PrometheusMetricsPort", "prometheusMetricsPort"), "", restart;
    }
    section "Folders" {
        /// State that outlives a boot.
        state_directory: AbsolutePath = PathBuf::from("/var/lib/calico"),
            Names::own(&["CALICO_STATE_DIR"], "stateDir"), "", restart;
        /// Locks, the local API's socket, and what else belongs to this boot.
        run_directory: AbsolutePath = PathBuf::from("/run/calico"), Names::own(&["CALICO_RUN_DIR"], "runDir"), "",
            restart;
        /// Log files.
        log_directory: AbsolutePath = PathBuf::from("/var/log/calico"), Names::own(&["CALICO_LOG_DIR"], "logDir"), "",
            restart;
    }
}
