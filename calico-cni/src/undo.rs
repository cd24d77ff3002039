// SPDX-License-Identifier: Apache-2.0
//! One undo stack: each step of ADD leaves here what takes it back, and leaving without [`Undo::keep`] runs it all,
//! newest first. Undoing goes on past failures; what could not be undone is logged, and the attachment record
//! stays, so that DEL and GC still find the rest.

use calico_ipam::log::Log;

type Action<'a> = Box<dyn FnOnce() -> Result<(), String> + 'a>;

/// Steps to take back.
pub struct Undo<'a> {
    log: &'a Log,
    steps: Vec<(&'static str, Action<'a>)>,
}

impl<'a> Undo<'a> {
    /// Nothing done yet.
    pub fn new(log: &'a Log) -> Self {
        Self {
            log,
            steps: Vec::new(),
        }
    }

    /// The step `what` is done; `action` takes it back.
    pub fn push(&mut self, what: &'static str, action: impl FnOnce() -> Result<(), String> + 'a) {
        self.steps.push((what, Box::new(action)));
    }

    /// All went well: nothing is taken back.
    pub fn keep(mut self) {
        self.steps.clear();
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        while let Some((what, action)) = self.steps.pop() {
            match action() {
                Ok(()) => self.log.debug(format_args!("undone: {what}")),
                Err(error) => self
                    .log
                    .error(format_args!("cannot undo: {what}: {error}; DEL or GC will")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn steps_are_undone_newest_first_and_past_failures() {
        let (log, done) = (Log::default(), RefCell::new(Vec::new()));
        {
            let mut undo = Undo::new(&log);
            undo.push("assign", || {
                done.borrow_mut().push("release");
                Ok(())
            });
            undo.push("link", || Err("busy".into()));
            undo.push("route", || {
                done.borrow_mut().push("route");
                Ok(())
            });
        }
        assert_eq!(*done.borrow(), ["route", "release"]);
        let mut undo = Undo::new(&log);
        undo.push("assign", || {
            done.borrow_mut().push("never");
            Ok(())
        });
        undo.keep();
        assert_eq!(done.borrow().len(), 2);
    }
}
