// SPDX-License-Identifier: Apache-2.0
//! `policy_setup_timeout_seconds`: waiting until the node daemon says, by a file, that an endpoint's policy is in
//! force. The time passing is a warning, not a failure, as in Calico. A file that names another interface is one
//! left by an earlier pod of the same name; Calico takes it for the answer, here it is not.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use calico_ipam::log::Log;
use model::names;
use serde_json::Value;

use crate::{config::Config, workload::Workload};

/// How often the folder is looked at: a file is a directory entry away, and inotify would need the folder to exist.
const INTERVAL: Duration = Duration::from_millis(20);

/// Waits at most `limit` for the endpoint's status file.
pub fn wait(config: &Config, workload: &Workload, host_interface: &str, limit: Duration, log: &Log) {
    let id = &workload.id;
    let name = match &workload.pod {
        Some(pod) => format!("{}/{}", pod.namespace, pod.name),
        None => id.container_id.clone(),
    };
    let file = names::endpoint_status_file(workload.orchestrator(), &name, &id.interface);
    let path = config.endpoint_status_dir.join(file);
    let deadline = Instant::now() + limit;
    while !is_programmed(&path, host_interface) {
        if Instant::now() >= deadline {
            log.warning(format_args!(
                "policy of {name} was not in force after {} s ({} is missing); going on",
                limit.as_secs(),
                path.display()
            ));
            return;
        }
        thread::sleep(INTERVAL);
    }
}

fn is_programmed(path: &Path, host_interface: &str) -> bool {
    let Ok(text) = fs::read(path) else { return false };
    let status: Option<Value> = serde_json::from_slice(&text).ok();
    let named = status
        .as_ref()
        .and_then(|status| status.get("ifaceName"))
        .and_then(Value::as_str);
    named.is_none_or(|named| named == host_interface)
}
