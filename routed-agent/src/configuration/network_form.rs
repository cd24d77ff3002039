// SPDX-License-Identifier: Apache-2.0
//! Forms of what networking is about: addresses, interfaces, AS numbers, communities, folders.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use ipnet::IpNet;
use model::{
    AsNumber,
    bgp_configuration::{NamedCommunity, PrefixAdvertisement},
    felix_configuration::PortRange,
    names::{InterfacePrefix, MAX_INTERFACE_NAME},
    prefix,
    secret::PasswordSource,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value as Json;

use super::form::Form;

/// An IPv4 address that a host can have.
#[derive(Debug)]
pub struct Address4;

impl Form for Address4 {
    type Value = Ipv4Addr;

    fn accepted() -> String {
        "an IPv4 address of a host, as in 192.0.2.1".to_owned()
    }

    fn read(text: &str) -> Option<Ipv4Addr> {
        let address: Ipv4Addr = text.parse().ok()?;
        let usable = !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast();
        usable.then_some(address)
    }

    fn write(value: &Ipv4Addr) -> String {
        value.to_string()
    }
}

/// An IPv6 address that a host can have.
#[derive(Debug)]
pub struct Address6;

impl Form for Address6 {
    type Value = Ipv6Addr;

    fn accepted() -> String {
        "an IPv6 address of a host, as in 2001:db8::1".to_owned()
    }

    fn read(text: &str) -> Option<Ipv6Addr> {
        let address: Ipv6Addr = text.parse().ok()?;
        let usable =
            !address.is_unspecified() && !address.is_multicast() && address.to_ipv4_mapped().is_none();
        usable.then_some(address)
    }

    fn write(value: &Ipv6Addr) -> String {
        value.to_string()
    }
}

/// An address or a name to listen on, by Felix' rule: 1 to 64 letters, digits and `:._+-`.
#[derive(Debug)]
pub struct Host;

impl Form for Host {
    type Value = String;

    fn accepted() -> String {
        "an address or a host name of at most 64 characters".to_owned()
    }

    fn read(text: &str) -> Option<String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":._+-".contains(&byte);
        ((1..=64).contains(&text.len()) && text.bytes().all(allowed)).then(|| text.to_owned())
    }

    fn write(value: &String) -> String {
        value.clone()
    }
}

/// A prefix, or an address for the prefix of it alone; in stored objects also `{"cidr": ...}`.
#[derive(Debug)]
pub struct Prefix;

impl Form for Prefix {
    type Value = IpNet;

    fn accepted() -> String {
        "a prefix or an address, as in 192.0.2.0/24".to_owned()
    }

    fn read(text: &str) -> Option<IpNet> {
        prefix::parse_prefix_or_address(text).map(|prefix| prefix.trunc())
    }

    fn read_json(json: &Json) -> Option<IpNet> {
        let text = match json {
            Json::Object(entry) => entry.get("cidr")?,
            other => other,
        };
        Self::read(text.as_str()?)
    }

    fn write(value: &IpNet) -> String {
        value.to_string()
    }
}

/// A range of ports that NAT uses, or none; a stored object may also say 0 for none, as Calico's default does.
#[derive(Debug)]
pub struct NatPorts;

impl Form for NatPorts {
    type Value = Option<PortRange>;

    fn accepted() -> String {
        "a range of ports, as in 32768:65535, or none".to_owned()
    }

    fn read(text: &str) -> Option<Self::Value> {
        if text == "0" || text.eq_ignore_ascii_case("none") {
            return Some(None);
        }
        let range: PortRange = text.parse().ok()?;
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
        // Port 0 would be "no translation" to the kernel.
        (plain && range.min > 0).then_some(Some(range))
    }

    fn write(value: &Self::Value) -> String {
        value.map(|range| range.to_string()).unwrap_or_default()
    }
}

/// The name of a network device.
#[derive(Debug)]
pub struct Device;

/// Whether the kernel takes it for a device, and `ip` for nothing else.
fn device_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+@".contains(&byte);
    (1..=MAX_INTERFACE_NAME).contains(&text.len())
        && text.bytes().all(allowed)
        && !matches!(text, "." | ".." | "all" | "default" | "lo")
}

impl Form for Device {
    type Value = String;

    fn accepted() -> String {
        format!("the name of a network device: 1 to {MAX_INTERFACE_NAME} letters, digits, '.', '_' and '-'")
    }

    fn read(text: &str) -> Option<String> {
        device_name(text).then(|| text.to_owned())
    }

    fn write(value: &String) -> String {
        value.clone()
    }
}

/// A pattern of device names with `*`, which alone would be all of them.
#[derive(Debug)]
pub struct DeviceGlob;

impl Form for DeviceGlob {
    type Value = String;

    fn accepted() -> String {
        "the name of a network device, with * for any characters, but not * alone".to_owned()
    }

    fn read(text: &str) -> Option<String> {
        let fits = text.len() <= MAX_INTERFACE_NAME && device_name(&text.replace('*', "x"));
        (fits && text.bytes().any(|byte| byte != b'*')).then(|| text.to_owned())
    }

    fn write(value: &String) -> String {
        value.clone()
    }
}

/// Prefixes of the host interfaces of containers; the first one names new interfaces.
#[derive(Debug)]
pub struct InterfacePrefixes;

impl Form for InterfacePrefixes {
    type Value = Vec<String>;

    fn accepted() -> String {
        "one to four characters such as cali; further ones, comma-separated, are recognised".to_owned()
    }

    fn read(text: &str) -> Option<Vec<String>> {
        let first: InterfacePrefix = text.parse().ok()?;
        let others = text.split(',').skip(1).map(str::trim);
        let others = others.map(|prefix| device_name(prefix).then(|| prefix.to_owned()));
        std::iter::once(Some(first.as_str().to_owned()))
            .chain(others)
            .collect()
    }

    fn write(value: &Vec<String>) -> String {
        value.join(",")
    }
}

/// A regular expression.
#[derive(Debug)]
pub struct Pattern;

/// Longest pattern, and most memory that its automaton may take: a pattern is somebody else's program.
const MAX_PATTERN: usize = 1024;
const MAX_AUTOMATON: usize = 1 << 20;

impl Form for Pattern {
    type Value = String;

    fn accepted() -> String {
        format!("a regular expression of at most {MAX_PATTERN} bytes")
    }

    fn read(text: &str) -> Option<String> {
        let sound = text.len() <= MAX_PATTERN
            && regex::RegexBuilder::new(text)
                .size_limit(MAX_AUTOMATON)
                .build()
                .is_ok();
        sound.then(|| text.to_owned())
    }

    fn write(value: &String) -> String {
        value.clone()
    }
}

/// An AS number that a speaker can have.
#[derive(Debug)]
pub struct As;

/// Reserved: 0 (RFC 7607), `AS_TRANS` (RFC 6793), the last of each size (RFC 7300).
const RESERVED_AS: [u32; 4] = [0, 23_456, 65_535, u32::MAX];

impl Form for As {
    type Value = AsNumber;

    fn accepted() -> String {
        "an AS number of 1 to 4294967294, or two of 16 bits as in 1.10; not 23456 or 65535".to_owned()
    }

    fn read(text: &str) -> Option<AsNumber> {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let number: AsNumber = text.parse().ok()?;
        (plain && !RESERVED_AS.contains(&number.0)).then_some(number)
    }

    fn write(value: &AsNumber) -> String {
        value.to_string()
    }
}

/// A protocol number for routes of the kernel (`rtm_protocol`).
#[derive(Debug)]
pub struct RouteProtocol;

/// Whoever owns routes by number must not choose those of the kernel, of administrators, of router advertisements and
/// of DHCP: it would remove theirs.
const FOREIGN_PROTOCOLS: [u8; 6] = [0, 1, 2, 4, 9, 16];
/// `boot`, Felix' default for routes to containers; says nothing about the others, which then have [`Self::DEFAULT`].
const BOOT: u8 = 3;

impl RouteProtocol {
    /// Felix' number for blackholes and tunnel routes.
    pub const DEFAULT: u8 = 80;
}

impl Form for RouteProtocol {
    type Value = u8;

    fn accepted() -> String {
        "3 (which means 80 here), or 5 to 255 except 9 and 16".to_owned()
    }

    fn read(text: &str) -> Option<u8> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse().ok().filter(|_| digits)? {
            BOOT => Some(Self::DEFAULT),
            number if FOREIGN_PROTOCOLS.contains(&number) => None,
            number => Some(number),
        }
    }

    fn write(value: &u8) -> String {
        value.to_string()
    }
}

/// An absolute path.
#[derive(Debug)]
pub struct AbsolutePath;

impl Form for AbsolutePath {
    type Value = PathBuf;

    fn accepted() -> String {
        "an absolute path".to_owned()
    }

    fn read(text: &str) -> Option<PathBuf> {
        (text.starts_with('/') && text.len() < 4096).then(|| PathBuf::from(text))
    }

    fn write(value: &PathBuf) -> String {
        value.display().to_string()
    }
}

/// Where a password is; never the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordReference {
    /// A key of a Kubernetes Secret in the daemon's namespace.
    Secret {
        /// Name of the Secret.
        name: String,
        /// Key in it.
        key: String,
    },
    /// The content of a file, without the line break at its end.
    File(PathBuf),
}

/// A reference to a password. Whoever takes it for the password itself must not find that in a log.
#[derive(Debug)]
pub struct Password;

impl Form for Password {
    type Value = PasswordReference;

    const SECRET: bool = true;

    fn accepted() -> String {
        "where the password is: the path of a file, or NAME/KEY of a Secret".to_owned()
    }

    fn read(text: &str) -> Option<PasswordReference> {
        if let Some(path) = AbsolutePath::read(text) {
            return Some(PasswordReference::File(path));
        }
        secret(text.split_once('/')?)
    }

    fn read_json(json: &Json) -> Option<PasswordReference> {
        let source: PasswordSource = serde_json::from_value(json.clone()).ok()?;
        let reference = source.secret_key_ref?;
        secret((&reference.name, &reference.key))
    }

    fn write(value: &PasswordReference) -> String {
        match value {
            PasswordReference::Secret { name, key } => format!("{name}/{key}"),
            PasswordReference::File(path) => path.display().to_string(),
        }
    }
}

/// Names as Kubernetes has them.
fn secret((name, key): (&str, &str)) -> Option<PasswordReference> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let sound = |text: &str| (1..=253).contains(&text.len()) && text.bytes().all(plain);
    (sound(name) && sound(key)).then(|| PasswordReference::Secret {
        name: name.to_owned(),
        key: key.to_owned(),
    })
}

/// What the router ID is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterId {
    /// A hash of the node's name.
    Hash,
    /// This one.
    Address(Ipv4Addr),
}

/// `hash`, or a router ID.
#[derive(Debug)]
pub struct RouterIdForm;

impl Form for RouterIdForm {
    type Value = RouterId;

    fn accepted() -> String {
        "an IPv4 address, or hash".to_owned()
    }

    fn read(text: &str) -> Option<RouterId> {
        if text.eq_ignore_ascii_case("hash") {
            return Some(RouterId::Hash);
        }
        Address4::read(text).map(RouterId::Address)
    }

    fn write(value: &RouterId) -> String {
        match value {
            RouterId::Hash => "hash".to_owned(),
            RouterId::Address(address) => address.to_string(),
        }
    }
}

/// Names of communities, as BGPConfiguration has them; in text as JSON.
#[derive(Debug)]
pub struct Communities;

/// Prefixes and their communities, as BGPConfiguration has them; in text as JSON.
#[derive(Debug)]
pub struct Advertisements;

/// Calico's limits of entries, and of communities of one of them.
const MAX_ENTRIES: usize = 500;
const MAX_COMMUNITIES: usize = 50;

impl Form for Communities {
    type Value = Vec<NamedCommunity>;

    fn accepted() -> String {
        format!("at most {MAX_ENTRIES} entries as in [{{\"name\": \"blue\", \"value\": \"64512:100\"}}]")
    }

    fn read(text: &str) -> Option<Self::Value> {
        Self::read_json(&serde_json::from_str(text).ok()?)
    }

    fn read_json(json: &Json) -> Option<Self::Value> {
        entries(json)
    }

    fn write(value: &Self::Value) -> String {
        json_text(value)
    }
}

impl Form for Advertisements {
    type Value = Vec<PrefixAdvertisement>;

    fn accepted() -> String {
        format!(
            "at most {MAX_ENTRIES} entries as in [{{\"cidr\": \"192.0.2.0/24\", \"communities\": [\"64512:100\"]}}], \
             with at most {MAX_COMMUNITIES} communities each"
        )
    }

    fn read(text: &str) -> Option<Self::Value> {
        Self::read_json(&serde_json::from_str(text).ok()?)
    }

    fn read_json(json: &Json) -> Option<Self::Value> {
        let found: Self::Value = entries(json)?;
        let within = |entry: &PrefixAdvertisement| entry.communities.len() <= MAX_COMMUNITIES;
        found.iter().all(within).then_some(found)
    }

    fn write(value: &Self::Value) -> String {
        json_text(value)
    }
}

fn entries<T: DeserializeOwned>(json: &Json) -> Option<Vec<T>> {
    let items = json.as_array().filter(|items| items.len() <= MAX_ENTRIES)?;
    items
        .iter()
        .map(|item| serde_json::from_value(item.clone()).ok())
        .collect()
}

fn json_text<T: Serialize>(items: &[T]) -> String {
    if items.is_empty() {
        return String::new();
    }
    serde_json::to_string(items).unwrap_or_default()
}
