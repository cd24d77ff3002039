// SPDX-License-Identifier: Apache-2.0
//! A place on a host for daemons of others: the network is the host's, the file systems and processes are their own, with
//! unpacked packages as if they were installed. What runs on the host itself keeps seeing the machine's.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::host::Host;
use crate::place::Place;
use crate::private_root::PrivateRoot;
use crate::process::{PATIENCE, Program};

/// See the file's comment. Whatever was started in it ends with it.
#[derive(Debug)]
pub struct SeparateRoot {
    place: Place,
    folder: PathBuf,
    _root: PrivateRoot,
}

impl SeparateRoot {
    /// One on a host, with packages whose files are in these folders.
    pub fn on(host: &Host, packages: &[PathBuf]) -> Result<Self> {
        let root = PrivateRoot::start(host.place(), host.folders())?;
        let place = host.place().clone().with_root(root.view()?);
        let lay_over = "mount -t overlay overlay -o lowerdir=\"$1/usr:/usr\" /usr
            if [ -d \"$1/etc\" ]; then cp -a \"$1/etc/.\" /etc; fi";
        for files in packages {
            Program::new(&place, "sh")
                .args(["-ec", lay_over, "sh"])
                .args([files])
                .succeed(PATIENCE)?;
        }
        Ok(Self {
            place,
            folder: host.folders().top().to_owned(),
            _root: root,
        })
    }

    /// Where its programs run.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// A folder that is the same inside and outside, the host's.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}
