// SPDX-License-Identifier: Apache-2.0
//! Errors of the layers below, as CNI errors: the one place that decides codes.
//!
//! | code | when |
//! |---|---|
//! | 4 | a variable of the environment |
//! | 7 | configuration, pools, stored objects: somebody has to change something |
//! | 11 | transient: store busy or locked, disk full, kernel busy; trying again later may work |
//! | 101 | no address is left |
//! | 102 | the address asked for cannot be had |
//! | 999 | anything else |

use cni_plugin::{Code, Error};
use datastore::StoreError;
use ipam::{AccessError, AdoptError, AssignError, AssignSpecificError, ErrorClass};

use crate::{default_pools::PoolVariableError, node_name::NodeNameError};

/// No address is left.
pub const EXHAUSTED: Code = Code::Other(101);
/// The address asked for cannot be had.
pub const REFUSED: Code = Code::Other(102);

/// What the store said.
pub fn store(error: &StoreError) -> Error {
    let code = match error {
        StoreError::Refused { .. } | StoreError::Corrupt { .. } | StoreError::ReadOnly { .. } => {
            Code::InvalidConfig
        }
        _ => Code::TryAgainLater,
    };
    Error::new(code, error.to_string())
}

/// What the engine said while reading or writing.
pub fn access(error: &AccessError) -> Error {
    Error::new(code_of(error.class()), error.to_string())
}

/// What the engine said to a request for any address.
pub fn assign(error: &AssignError) -> Error {
    Error::new(code_of(error.class()), error.to_string())
}

/// What the engine said to a request for given addresses.
pub fn assign_specific(error: &AssignSpecificError) -> Error {
    Error::new(code_of(error.class()), error.to_string())
}

/// What the engine said to the adoption of a live container's address.
pub fn adopt(error: &AdoptError) -> Error {
    match error {
        AdoptError::Access(error) => access(error),
        AdoptError::NotInPool { .. } | AdoptError::BlockOverlap { .. } => {
            Error::new(Code::InvalidConfig, error.to_string())
        }
        AdoptError::Taken { .. } => Error::new(REFUSED, error.to_string()),
    }
}

/// What the kernel said.
pub fn kernel(error: &kernel::Error) -> Error {
    let code = if error.is_transient() {
        Code::TryAgainLater
    } else {
        Code::Internal
    };
    Error::new(code, error.to_string())
}

fn code_of(class: ErrorClass) -> Code {
    match class {
        ErrorClass::TryAgain => Code::TryAgainLater,
        ErrorClass::Configuration => Code::InvalidConfig,
        ErrorClass::Exhausted => EXHAUSTED,
        ErrorClass::Refused => REFUSED,
    }
}

/// Why the node has no name.
pub fn node_name(error: &NodeNameError) -> Error {
    let code = match error {
        NodeNameError::Invalid { .. } => Code::InvalidConfig,
        NodeNameError::File { .. } => Code::TryAgainLater,
    };
    Error::new(code, error.to_string())
}

/// A variable of the default pools.
pub fn pool_variable(error: &PoolVariableError) -> Error {
    Error::new(Code::InvalidEnvironment, error.to_string())
}
