// SPDX-License-Identifier: Apache-2.0
//! A named network namespace that goes when its owner goes, with every process left in it.

use anyhow::Result;
use kernel::Netlink;
use kernel::netns::{create_named, delete_named};

use crate::name;
use crate::place::Place;
use crate::process;
use crate::sweep::sweep;

/// A network namespace below `/run/netns`, with its loopback up.
#[derive(Debug)]
pub(crate) struct OwnNamespace {
    name: String,
    place: Place,
}

impl OwnNamespace {
    /// Makes one; `word` becomes part of its name.
    pub(crate) fn create(word: &str) -> Result<Self> {
        sweep();
        let name = name::unique(word);
        let permit = name::permit();
        let place = Place::new(create_named(&name)?);
        drop(permit);
        let own = Self { name, place };
        let mut netlink = own.place.netlink()?;
        loopback_up(&mut netlink)?;
        Ok(own)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }
}

impl Drop for OwnNamespace {
    fn drop(&mut self) {
        process::end_all_in(self.place.network());
        let _ = delete_named(&self.name);
    }
}

fn loopback_up(netlink: &mut Netlink) -> Result<()> {
    if let Some(loopback) = netlink.link_by_name("lo")? {
        netlink.set_link_up(&loopback)?;
    }
    Ok(())
}
