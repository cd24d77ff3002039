// SPDX-License-Identifier: Apache-2.0
//! The result of ADD: one internal form, shaped like version 1.1.0, and its JSON in every version, both ways
//! (specification, section "Success"; conversions as the reference library does them).

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use crate::{
    error::{Code, Error},
    fields::excerpt,
    lookup::lookup,
    version::{SUPPORTED_VERSIONS, Version},
};

/// What ADD made, or what an earlier plugin of the chain did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddResult {
    /// Interfaces on both sides.
    pub interfaces: Vec<Interface>,
    /// Addresses.
    pub ips: Vec<IpConfig>,
    /// Routes inside the container.
    pub routes: Vec<Route>,
    /// Name resolution.
    pub dns: Dns,
}

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its MAC address; empty if unknown.
    pub mac: String,
    /// Its MTU; 0 if unknown. From 1.1.0.
    pub mtu: u32,
    /// Path of the container's network namespace; empty on the host's side.
    pub sandbox: String,
    /// Path of a socket that stands for the interface. From 1.1.0.
    pub socket_path: String,
    /// PCI device behind it. From 1.1.0.
    pub pci_id: String,
}

/// One address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpConfig {
    /// Index into `interfaces`; `None` if unknown, as in IPAM results.
    pub interface: Option<usize>,
    /// The address with its mask; host bits are kept.
    pub address: IpNet,
    /// Gateway.
    pub gateway: Option<IpAddr>,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub dst: IpNet,
    /// Gateway.
    pub gw: Option<IpAddr>,
    /// MTU along the route; 0 if unset. From 1.1.0.
    pub mtu: u32,
    /// TCP MSS along the route; 0 if unset. From 1.1.0.
    pub advmss: u32,
    /// Metric; 0 if unset. From 1.1.0.
    pub priority: u32,
    /// Table. From 1.1.0.
    pub table: Option<u32>,
    /// Scope. From 1.1.0.
    pub scope: Option<u32>,
}

impl Route {
    /// A plain route.
    pub fn new(dst: IpNet, gw: Option<IpAddr>) -> Self {
        Self {
            dst,
            gw,
            mtu: 0,
            advmss: 0,
            priority: 0,
            table: None,
            scope: None,
        }
    }
}

/// Name resolution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Servers.
    pub nameservers: Vec<String>,
    /// Local domain.
    pub domain: String,
    /// Search list.
    pub search: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

impl Dns {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl AddResult {
    /// The JSON of a version. Fails only for 0.1.0 and 0.2.0, which need an address.
    pub fn to_json(&self, version: Version) -> Result<Value, Error> {
        if version < Version::V0_3_0 {
            self.to_legacy(version)
        } else {
            Ok(self.to_current(version))
        }
    }

    /// Reads a result. `default_version` holds where the text has none; `null` is an empty result.
    pub fn from_json(value: &Value, default_version: Version) -> Result<Self, Error> {
        let empty = Map::new();
        let read = match value {
            Value::Null => Self::from_object(&empty, default_version),
            Value::Object(object) => Self::from_object(object, default_version),
            other => {
                let message = format!("{} is not an object", excerpt(other));
                Err(Error::new(Code::Decoding, message))
            }
        };
        read.map_err(|error| error.context("result"))
    }

    fn from_object(object: &Map<String, Value>, default_version: Version) -> Result<Self, Error> {
        let version = match text(object, "cniVersion")? {
            "" => default_version,
            found => found
                .parse()
                .map_err(|error| Error::new(Code::Decoding, format!("\"cniVersion\": {error}")))?,
        };
        if !SUPPORTED_VERSIONS.contains(&version) {
            let message = format!("\"cniVersion\": {version} is not known; the newest known is 1.1.0");
            return Err(Error::new(Code::IncompatibleVersion, message));
        }
        if version < Version::V0_3_0 {
            Self::from_legacy(object)
        } else {
            Self::from_current(object)
        }
    }

    fn to_current(&self, version: Version) -> Value {
        let mut object = Map::new();
        object.insert("cniVersion".to_owned(), version.to_string().into());
        let has_details = version >= Version::V1_1_0;
        insert_list(
            &mut object,
            "interfaces",
            self.interfaces
                .iter()
                .map(|interface| interface.to_json(has_details)),
        );
        insert_list(
            &mut object,
            "ips",
            self.ips.iter().map(|ip| ip.to_json(version < Version::V1_0_0)),
        );
        insert_list(
            &mut object,
            "routes",
            self.routes.iter().map(|route| route.to_json(has_details)),
        );
        if version < Version::V1_0_0 || !self.dns.is_empty() {
            object.insert("dns".to_owned(), self.dns.to_json());
        }
        Value::Object(object)
    }

    fn from_current(object: &Map<String, Value>) -> Result<Self, Error> {
        Ok(Self {
            interfaces: list(object, "interfaces", Interface::from_json)?,
            ips: list(object, "ips", IpConfig::from_json)?,
            routes: list(object, "routes", Route::from_json)?,
            dns: Dns::from_json(lookup(object, "dns"))?,
        })
    }

    fn to_legacy(&self, version: Version) -> Result<Value, Error> {
        let mut object = Map::new();
        object.insert("cniVersion".to_owned(), version.to_string().into());
        for (key, v6) in [("ip4", false), ("ip6", true)] {
            let Some(ip) = self.ips.iter().find(|ip| is_v6(&ip.address) == v6) else {
                continue;
            };
            let mut family = Map::new();
            family.insert("ip".to_owned(), ip.address.to_string().into());
            insert_address(&mut family, "gateway", ip.gateway);
            let routes = self.routes.iter().filter(|route| is_v6(&route.dst) == v6);
            insert_list(&mut family, "routes", routes.map(|route| route.to_json(false)));
            object.insert(key.to_owned(), Value::Object(family));
        }
        if object.len() == 1 {
            let message = format!("a result of version {version} needs an address, and there is none");
            return Err(Error::new(Code::IncompatibleVersion, message));
        }
        object.insert("dns".to_owned(), self.dns.to_json());
        Ok(Value::Object(object))
    }

    fn from_legacy(object: &Map<String, Value>) -> Result<Self, Error> {
        let mut result = Self {
            dns: Dns::from_json(lookup(object, "dns"))?,
            ..Self::default()
        };
        for (key, v6) in [("ip4", false), ("ip6", true)] {
            let family = match lookup(object, key) {
                None | Some(Value::Null) => continue,
                Some(Value::Object(family)) => family,
                Some(other) => return Err(invalid(key, other, "an object")),
            };
            let address = prefix(family, "ip")?;
            if is_v6(&address) != v6 {
                return Err(invalid(
                    key,
                    &Value::String(address.to_string()),
                    "of this family",
                ));
            }
            result.ips.push(IpConfig {
                interface: None,
                address,
                gateway: address_field(family, "gateway")?,
            });
            result.routes.extend(list(family, "routes", Route::from_json)?);
        }
        Ok(result)
    }
}

impl Interface {
    fn to_json(&self, has_details: bool) -> Value {
        let mut object = Map::new();
        object.insert("name".to_owned(), self.name.clone().into());
        insert_text(&mut object, "mac", &self.mac);
        if has_details {
            insert_number(&mut object, "mtu", self.mtu);
        }
        insert_text(&mut object, "sandbox", &self.sandbox);
        if has_details {
            insert_text(&mut object, "socketPath", &self.socket_path);
            insert_text(&mut object, "pciID", &self.pci_id);
        }
        Value::Object(object)
    }

    fn from_json(object: &Map<String, Value>) -> Result<Self, Error> {
        let owned = |key| text(object, key).map(str::to_owned);
        Ok(Self {
            name: owned("name")?,
            mac: owned("mac")?,
            mtu: number(object, "mtu")?.unwrap_or_default(),
            sandbox: owned("sandbox")?,
            socket_path: owned("socketPath")?,
            pci_id: owned("pciID")?,
        })
    }
}

impl IpConfig {
    fn to_json(&self, has_version: bool) -> Value {
        let mut object = Map::new();
        if has_version {
            object.insert(
                "version".to_owned(),
                if is_v6(&self.address) { "6" } else { "4" }.into(),
            );
        }
        if let Some(index) = self.interface {
            object.insert("interface".to_owned(), index.into());
        }
        object.insert("address".to_owned(), self.address.to_string().into());
        insert_address(&mut object, "gateway", self.gateway);
        Value::Object(object)
    }

    fn from_json(object: &Map<String, Value>) -> Result<Self, Error> {
        let interface = match lookup(object, "interface") {
            None | Some(Value::Null) => None,
            // Some plugins write -1 for "unknown".
            Some(Value::Number(index)) if index.is_i64() || index.is_u64() => {
                index.as_u64().and_then(|index| usize::try_from(index).ok())
            }
            Some(other) => return Err(invalid("interface", other, "a whole number")),
        };
        Ok(Self {
            interface,
            address: prefix(object, "address")?,
            gateway: address_field(object, "gateway")?,
        })
    }
}

impl Route {
    fn to_json(&self, has_details: bool) -> Value {
        let mut object = Map::new();
        object.insert("dst".to_owned(), self.dst.to_string().into());
        insert_address(&mut object, "gw", self.gw);
        if has_details {
            insert_number(&mut object, "mtu", self.mtu);
            insert_number(&mut object, "advmss", self.advmss);
            insert_number(&mut object, "priority", self.priority);
            for (key, value) in [("table", self.table), ("scope", self.scope)] {
                if let Some(value) = value {
                    object.insert(key.to_owned(), value.into());
                }
            }
        }
        Value::Object(object)
    }

    fn from_json(object: &Map<String, Value>) -> Result<Self, Error> {
        Ok(Self {
            dst: prefix(object, "dst")?,
            gw: address_field(object, "gw")?,
            mtu: number(object, "mtu")?.unwrap_or_default(),
            advmss: number(object, "advmss")?.unwrap_or_default(),
            priority: number(object, "priority")?.unwrap_or_default(),
            table: number(object, "table")?,
            scope: number(object, "scope")?,
        })
    }
}

impl Dns {
    fn to_json(&self) -> Value {
        let mut object = Map::new();
        insert_list(
            &mut object,
            "nameservers",
            self.nameservers.iter().map(|text| json!(text)),
        );
        insert_text(&mut object, "domain", &self.domain);
        insert_list(&mut object, "search", self.search.iter().map(|text| json!(text)));
        insert_list(
            &mut object,
            "options",
            self.options.iter().map(|text| json!(text)),
        );
        Value::Object(object)
    }

    /// Reads a `dns` object; absent is empty.
    pub(crate) fn from_json(value: Option<&Value>) -> Result<Self, Error> {
        let object = match value {
            None | Some(Value::Null) => return Ok(Self::default()),
            Some(Value::Object(object)) => object,
            Some(other) => return Err(invalid("dns", other, "an object")),
        };
        Ok(Self {
            nameservers: texts(object, "nameservers")?,
            domain: text(object, "domain")?.to_owned(),
            search: texts(object, "search")?,
            options: texts(object, "options")?,
        })
    }
}

fn is_v6(prefix: &IpNet) -> bool {
    matches!(prefix, IpNet::V6(_))
}

fn insert_text(object: &mut Map<String, Value>, key: &str, text: &str) {
    if !text.is_empty() {
        object.insert(key.to_owned(), text.into());
    }
}

fn insert_number(object: &mut Map<String, Value>, key: &str, number: u32) {
    if number != 0 {
        object.insert(key.to_owned(), number.into());
    }
}

fn insert_address(object: &mut Map<String, Value>, key: &str, address: Option<IpAddr>) {
    if let Some(address) = address {
        object.insert(key.to_owned(), address.to_string().into());
    }
}

fn insert_list(object: &mut Map<String, Value>, key: &str, items: impl Iterator<Item = Value>) {
    let items: Vec<Value> = items.collect();
    if !items.is_empty() {
        object.insert(key.to_owned(), Value::Array(items));
    }
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Result<&'a str, Error> {
    match lookup(object, key) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(invalid(key, other, "a string")),
    }
}

fn texts(object: &Map<String, Value>, key: &str) -> Result<Vec<String>, Error> {
    match lookup(object, key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(value) => {
            let items = value
                .as_array()
                .map(|items| items.iter().map(|item| item.as_str().map(str::to_owned)));
            items
                .and_then(Iterator::collect)
                .ok_or_else(|| invalid(key, value, "a list of strings"))
        }
    }
}

fn number(object: &Map<String, Value>, key: &str) -> Result<Option<u32>, Error> {
    match lookup(object, key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
            number
                .map(Some)
                .ok_or_else(|| invalid(key, value, "a whole number from 0 to 4294967295"))
        }
    }
}

fn prefix(object: &Map<String, Value>, key: &str) -> Result<IpNet, Error> {
    let found = text(object, key)?;
    let prefix = found
        .parse()
        .map_err(|_| invalid(key, &Value::String(found.to_owned()), "an address with a mask"))?;
    Ok(unmapped(prefix))
}

/// An IPv4 prefix written as IPv6 (`::ffff:10.0.0.1/120`) as what it is.
fn unmapped(prefix: IpNet) -> IpNet {
    match (prefix.addr().to_canonical(), prefix.prefix_len().checked_sub(96)) {
        (address @ IpAddr::V4(_), Some(length)) => IpNet::new(address, length).unwrap_or(prefix),
        _ => prefix,
    }
}

fn address_field(object: &Map<String, Value>, key: &str) -> Result<Option<IpAddr>, Error> {
    match text(object, key)? {
        "" => Ok(None),
        found => match found.parse::<IpAddr>() {
            Ok(address) => Ok(Some(address.to_canonical())),
            Err(_) => Err(invalid(key, &Value::String(found.to_owned()), "an address")),
        },
    }
}

fn list<T>(
    object: &Map<String, Value>,
    key: &str,
    read: impl Fn(&Map<String, Value>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let items = match lookup(object, key) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(other) => return Err(invalid(key, other, "a list")),
    };
    let each = |item: &Value| match item {
        Value::Object(item) => read(item),
        other => Err(invalid(key, other, "a list of objects")),
    };
    items.iter().map(each).collect()
}

fn invalid(key: &str, value: &Value, expected: &str) -> Error {
    Error::new(
        Code::Decoding,
        format!("\"{key}\": {} is not {expected}", excerpt(value)),
    )
}
