// SPDX-License-Identifier: Apache-2.0
//! Reading a result of another plugin or of a runtime, in whatever version it is. Errors name key and value.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::{AddResult, Dns, Interface, IpConfig, Route};
use crate::{
    error::{Code, Error},
    fields::excerpt,
    lookup::lookup,
    version::{SUPPORTED_VERSIONS, Version},
};

impl AddResult {
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

    fn from_current(object: &Map<String, Value>) -> Result<Self, Error> {
        Ok(Self {
            interfaces: list(object, "interfaces", Interface::from_json)?,
            ips: list(object, "ips", IpConfig::from_json)?,
            routes: list(object, "routes", Route::from_json)?,
            dns: Dns::from_json(lookup(object, "dns"))?,
        })
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
            if address.addr().is_ipv6() != v6 {
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
