// SPDX-License-Identifier: Apache-2.0
//! Deleting a link without waiting for the kernel's housekeeping.
//!
//! `RTM_DELLINK` takes about one millisecond until the link is gone: out of its namespace, its name free, its routes
//! and neighbours flushed, everybody notified. But the request returns 15 to 30 ms later, after an RCU barrier that
//! only the freeing of memory needs (`netdev_run_todo`, which runs without the networking lock), and much later while
//! something still holds a reference. A DEL that waits spends nine tenths of its time there. So a child process does
//! the waiting, and this one goes on when the kernel announces the deletion.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, RawFd};

use nix::unistd::{ForkResult, Pid, fork};

use crate::error::{Error, Result};
use crate::link::LinkId;
use crate::request::Request;
use crate::socket::Netlink;
use crate::wire::read_u32;

/// Sequence number of the one request of the socket.
const SEQUENCE: u32 = 1;

/// A deletion whose link is gone already; a child process waits for the kernel to end its housekeeping.
#[derive(Debug)]
#[must_use = "a process that lives on has to reap the child"]
pub struct Detached {
    child: Pid,
}

impl Detached {
    /// Waits until the kernel is done, for processes that go on living: it also reaps the child.
    pub fn wait(self) -> Result<()> {
        let status = nix::sys::wait::waitpid(self.child, None);
        status
            .map(drop)
            .map_err(|errno| Error::new("wait for the end of a link's deletion", errno))
    }

    /// Leaves the child to whoever adopts it when this process ends, which is to be soon.
    pub fn leave(self) {}
}

/// Deletes a link of the calling thread's namespace and returns once it is gone; of a pair, both ends are. `None` if
/// there was none.
///
/// Everything that can be seen of the link is gone then: it is in no list, its name can be given again, and its
/// routes, addresses and neighbours went with it.
pub fn delete_link<'a>(link: impl Into<LinkId<'a>>) -> Result<Option<Detached>> {
    let link = link.into();
    let Request {
        mut message,
        operation,
    } = Request::delete_link(link);
    message.add_flags(libc::NLM_F_ACK);
    let mut socket = Netlink::open()?;
    socket.join(libc::RTNLGRP_LINK, &operation)?;
    let (descriptor, bytes) = (
        std::os::fd::AsFd::as_fd(&socket).as_raw_fd(),
        message.finish(SEQUENCE),
    );
    // SAFETY: the child touches nothing but its copies of `descriptor` and `bytes`, makes system calls only, and ends
    // with `_exit`: no lock, allocation or destructor of the parent's threads is involved.
    let child = match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => Detached { child },
        Ok(ForkResult::Child) => send_and_exit(descriptor, bytes),
        Err(errno) => return Err(Error::new(operation, errno)),
    };
    let gone = socket.wait_for(SEQUENCE, &operation, |received| {
        // The bridge module announces ports that leave a bridge in the same words, in its own family.
        received.kind == libc::RTM_DELLINK
            && received.body.first() == Some(&0)
            && received.body.get(4..).and_then(read_u32) == Some(link.index())
    });
    match gone {
        Ok(()) => Ok(Some(child)),
        // More links came and went than the socket holds: the child's end is as good, and its failure is seen below.
        Err(error) if error.errno() == Some(libc::ENOBUFS) => {
            child.wait()?;
            Netlink::open()?.delete_link(link)?;
            Ok(None)
        }
        Err(error) => {
            // The kernel refused, so the child has nothing to wait for.
            child.wait()?;
            if error.errno() == Some(libc::ENODEV) {
                Ok(None)
            } else {
                Err(error)
            }
        }
    }
}

/// The child: lets go of everything it inherited, so that nobody waits for its ends of pipes and locks, and sends.
fn send_and_exit(descriptor: RawFd, bytes: &[u8]) -> ! {
    let descriptor = descriptor.cast_unsigned();
    // SAFETY: system calls on descriptors that belong to this process alone, which has no other thread and ends here;
    // `bytes` outlives the call that reads it.
    unsafe {
        if descriptor > 0 {
            libc::close_range(0, descriptor - 1, 0);
        }
        libc::close_range(descriptor + 1, u32::MAX, 0);
        libc::send(
            descriptor.cast_signed(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_NOSIGNAL,
        );
        libc::_exit(0)
    }
}
