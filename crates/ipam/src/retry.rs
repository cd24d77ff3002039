// SPDX-License-Identifier: Apache-2.0
//! The compare-and-swap loop: read, decide, write; when somebody else was faster, wait a little and start again
//! from what is stored now. Calico's bound of 100 attempts, with the back-off that Calico lacks.

use crate::{clock::Clock, error::AccessError};

/// How often one operation is tried.
pub(crate) const ATTEMPTS: u32 = 100;

/// What one attempt came to.
pub(crate) enum Step<T> {
    /// Finished.
    Done(T),
    /// This object was changed by somebody else, or it is unknown whether our change was made: look again.
    Again(String),
}

/// Calls `attempt` (which reads everything afresh) until it is done, fails, or has been tried too often.
pub(crate) fn retry<T, E: From<AccessError>>(
    clock: &dyn Clock,
    mut attempt: impl FnMut() -> Result<Step<T>, E>,
) -> Result<T, E> {
    let mut object = String::new();
    for count in 1..=ATTEMPTS {
        match attempt()? {
            Step::Done(result) => return Ok(result),
            Step::Again(changed) => object = changed,
        }
        if count < ATTEMPTS {
            clock.back_off(count);
        }
    }
    Err(AccessError::Contention {
        object,
        attempts: ATTEMPTS,
    }
    .into())
}
