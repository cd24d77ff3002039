// SPDX-License-Identifier: Apache-2.0
//! The verbs of `calico`, handed to one module each; STATUS and GC, which are short, are here.

use calico_ipam::{collect, log::Log, plugin::all, session::Session, settings::Settings, status};
use cni_plugin::{AddResult, Attachment as Request, Call, Error, Plugin};

use crate::{add, addresses, check, config::Config, del};

/// The name in log lines.
const COMPONENT: &str = "cni-plugin";

/// The program `calico`.
#[derive(Clone, Copy, Debug, Default)]
pub struct CalicoPlugin;

impl Plugin for CalicoPlugin {
    fn about(&self) -> String {
        format!("Calico CNI plugin {}", env!("CARGO_PKG_VERSION"))
    }

    fn add(&self, call: &Call, request: &Request) -> Result<AddResult, Error> {
        serve(call, |config, log| add::add(config, log, call, request))
    }

    fn del(&self, call: &Call, request: &Request) -> Result<(), Error> {
        serve(call, |config, log| del::del(config, log, call, request))
    }

    fn check(&self, call: &Call, request: &Request) -> Result<(), Error> {
        serve(call, |config, log| check::check(config, log, call, request))
    }

    fn status(&self, call: &Call) -> Result<(), Error> {
        serve(call, |config, log| {
            status::check(&config.settings, log)?;
            if config.is_own_ipam() {
                Ok(())
            } else {
                addresses::run_delegate(config, call)
            }
        })
    }

    fn gc(&self, call: &Call) -> Result<(), Error> {
        serve(call, |config, log| {
            // No list means that nothing is known, not that nothing is valid.
            let Some(valid) = &call.config.valid_attachments else {
                log.info(format_args!(
                    "GC without cni.dev/valid-attachments: nothing is collected"
                ));
                return Ok(());
            };
            let session = Session::open(&config.settings, log)?;
            let lock = session.lock()?;
            let mut failures = collect::collect(&session, valid, |id, attachment| {
                del::remove_interface(&session, id, attachment)
            });
            drop(lock);
            if !config.is_own_ipam() {
                failures.extend(addresses::run_delegate(config, call).err());
            }
            all(failures)
        })
    }
}

fn serve<T>(call: &Call, verb: impl FnOnce(&Config, &Log) -> Result<T, Error>) -> Result<T, Error> {
    let settings = Settings::read(call)?;
    let log = Log::open(COMPONENT, &settings.log);
    let result = Config::read(call).and_then(|config| verb(&config, &log));
    if let Err(problem) = &result {
        log.error(format_args!("{} failed: {problem}", call.command.name()));
    }
    result
}
