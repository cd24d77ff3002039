// SPDX-License-Identifier: Apache-2.0
//! The JSON of a result in each version. What a version has no field for is left out.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::{AddResult, Dns, Interface, IpConfig, Route};
use crate::{
    error::{Code, Error},
    version::Version,
};

impl AddResult {
    /// The JSON of a version. Fails only for 0.1.0 and 0.2.0, which need an address.
    pub fn to_json(&self, version: Version) -> Result<Value, Error> {
        if version < Version::V0_3_0 {
            self.to_legacy(version)
        } else {
            Ok(self.to_current(version))
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
