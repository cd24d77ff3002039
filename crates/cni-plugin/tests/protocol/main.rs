// SPDX-License-Identifier: Apache-2.0
//! The protocol as a runtime sees it: the dispatcher, the configuration, results in every version, and delegation.

mod configuration;
mod delegation;
mod differential;
mod dispatcher;
mod properties;
mod recorder;
mod results;
mod versions;
