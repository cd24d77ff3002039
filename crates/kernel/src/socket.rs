// SPDX-License-Identifier: Apache-2.0
//! The blocking netlink socket: requests, batches, single answers and dumps, with checked sequence numbers.
//!
//! The kernel works a request off inside `send`, so the answer is there when `send` returns; the receive timeout is a
//! guard against a lost answer only. Only the last message of a batch asks for an acknowledgement, since failures are
//! always answered: a batch that succeeds costs one `send` and one `recv`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::error::{Error, Result};
use crate::request::{Batch, Request};
use crate::wire::{Attributes, Message, Messages, Received, aligned, read_i32, read_text, read_u32};

/// How long an answer may take before the operation fails with EAGAIN.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest datagram the kernel builds for a dump.
const DATAGRAM: usize = 64 * 1024;
/// Messages per `send`: their failures, each kept with a copy of its request, fit the default receive buffer.
const CHUNK: usize = 64;
/// How often a dump is read again because the kernel reported a change in between.
const DUMP_ATTEMPTS: u32 = 20;

/// `NLMSG_ERROR`: acknowledgement or failure.
const KIND_ERROR: u16 = 2;
/// `NLMSG_DONE`: end of a dump.
const KIND_DONE: u16 = 3;
/// `NLMSGERR_ATTR_MSG`: the extended acknowledgement's text.
const ATTRIBUTE_MESSAGE: u16 = 1;

/// A netlink socket of one network namespace: the one its opening thread was in (or `netns::Namespace::socket`).
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
    strict: bool,
}

impl Netlink {
    /// A route netlink socket (links, addresses, routes, neighbours) in the calling thread's network namespace.
    pub fn open() -> Result<Self> {
        Self::open_protocol(libc::NETLINK_ROUTE, "open route netlink socket")
    }

    pub(crate) fn open_protocol(protocol: i32, operation: &str) -> Result<Self> {
        let failed = |error: io::Error| Error::new(operation, error);
        let socket = Socket::new(protocol as isize).map_err(failed)?;
        let timeout = TimeVal::seconds(ANSWER_TIMEOUT.as_secs().cast_signed());
        setsockopt(&socket, sockopt::ReceiveTimeout, &timeout).map_err(|errno| failed(errno.into()))?;
        // Better words in errors; every supported kernel has it, and nothing depends on it.
        let _ = socket.set_ext_ack(true);
        Ok(Self {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(DATAGRAM),
            strict: false,
        })
    }

    /// Does one request and waits for its acknowledgement.
    pub fn execute(&mut self, request: Request) -> Result<()> {
        let Request {
            mut message,
            operation,
        } = request;
        message.add_flags(libc::NLM_F_ACK);
        self.ask(&mut message, &operation, |_| {})
    }

    /// Does the requests in order and returns the first failure. The kernel does not stop at a failure: the requests
    /// after it have been tried too, and what succeeded stays.
    pub fn apply(&mut self, batch: Batch) -> Result<()> {
        self.apply_each(batch)?.into_iter().collect()
    }

    /// Does the requests in order and returns each one's own result; an outer error means that the results are not
    /// known.
    pub fn apply_each(&mut self, batch: Batch) -> Result<Vec<Result<()>>> {
        let mut results = Vec::with_capacity(batch.len());
        let mut requests = batch.into_requests();
        while !requests.is_empty() {
            let rest = requests.split_off(requests.len().min(CHUNK));
            self.apply_chunk(requests, &mut results)?;
            requests = rest;
        }
        Ok(results)
    }

    fn apply_chunk(&mut self, mut requests: Vec<Request>, results: &mut Vec<Result<()>>) -> Result<()> {
        let first = self.next_sequence();
        let done = results.len();
        let Some(last) = requests.last_mut() else {
            return Ok(());
        };
        last.message.add_flags(libc::NLM_F_ACK);
        let last_operation = last.operation.clone();

        let mut bytes = Vec::with_capacity(requests.len() * 128);
        let mut operations = Vec::with_capacity(requests.len());
        for Request {
            mut message,
            operation,
        } in requests
        {
            if message.is_too_long() {
                return Err(Error::refused(operation, libc::EMSGSIZE, None));
            }
            bytes.extend_from_slice(message.finish(self.take_sequence()));
            operations.push(operation);
            results.push(Ok(()));
        }
        self.exchange(&bytes, first, &last_operation, |position, errno, words| {
            if let Some(operation) = operations.get_mut(position) {
                let operation = std::mem::take(operation);
                results[done + position] = Err(Error::refused(operation, errno, words));
            }
        })
    }

    /// The sequence number of the next message.
    pub(crate) fn next_sequence(&self) -> u32 {
        self.sequence.wrapping_add(1)
    }

    /// Takes the next sequence number.
    pub(crate) fn take_sequence(&mut self) -> u32 {
        self.sequence = self.next_sequence();
        self.sequence
    }

    /// Sends finished messages, numbered from `first` to the last taken number, of which the last asks for an
    /// acknowledgement; hands over each failure, by the place of its message: error number and the kernel's words.
    pub(crate) fn exchange(
        &mut self,
        bytes: &[u8],
        first: u32,
        operation: &str,
        mut failed: impl FnMut(usize, i32, Option<String>),
    ) -> Result<()> {
        self.send(bytes, operation)?;
        let last = self.sequence;
        let count = last.wrapping_sub(first);
        loop {
            self.receive(operation)?;
            for received in Messages(&self.buffer) {
                let place = received.sequence.wrapping_sub(first);
                if received.kind != KIND_ERROR || place > count {
                    continue;
                }
                if let Some((errno, words)) = failure(&received) {
                    failed(usize::try_from(place).unwrap_or(usize::MAX), errno, words);
                }
                if received.sequence == last {
                    return Ok(());
                }
            }
        }
    }

    /// Asks the kernel to leave the request out of its failures.
    pub(crate) fn answer_briefly(&self) {
        // Kernels before 4.3 do not know how, and send it along.
        let _ = self.socket.set_cap_ack(true);
    }

    /// Sends a request whose end is marked by an acknowledgement or failure, and hands over the messages before it.
    pub(crate) fn ask(
        &mut self,
        message: &mut Message,
        operation: &str,
        mut each: impl FnMut(&Received<'_>),
    ) -> Result<()> {
        let sequence = self.send_message(message, operation)?;
        loop {
            self.receive(operation)?;
            for received in Messages(&self.buffer).filter(|received| received.sequence == sequence) {
                if received.kind == KIND_ERROR {
                    return result(&received, operation);
                }
                each(&received);
            }
        }
    }

    /// Sends a request that is answered by one message or a failure, and reads just that; `parse` says what the
    /// message means. One receive less than an acknowledgement after the answer would take.
    pub(crate) fn query<T>(
        &mut self,
        message: &mut Message,
        operation: &str,
        parse: impl FnOnce(&Received<'_>) -> Option<T>,
    ) -> Result<T> {
        let sequence = self.send_message(message, operation)?;
        loop {
            self.receive(operation)?;
            let answer = Messages(&self.buffer).find(|received| received.sequence == sequence);
            if let Some(received) = answer {
                if received.kind == KIND_ERROR {
                    result(&received, operation)?;
                }
                return parse(&received)
                    .ok_or_else(|| Error::unusable(operation, "the kernel answered something else"));
            }
        }
    }

    /// The port the kernel knows this socket by: what `Change::Route` says of the changes made through it.
    pub fn port(&mut self) -> Result<u32> {
        let failed = |error| Error::new("read the port of a netlink socket", error);
        let mut address = SocketAddr::new(0, 0);
        self.socket.get_address(&mut address).map_err(failed)?;
        if address.port_number() == 0 {
            // Not sent anything yet, which would have bound it.
            address = self.socket.bind_auto().map_err(failed)?;
        }
        Ok(address.port_number())
    }

    /// Subscribes to a group of notifications (`RTNLGRP_`).
    pub(crate) fn join(&self, group: u32, operation: &str) -> Result<()> {
        self.socket
            .add_membership(group)
            .map_err(|error| Error::new(operation, error))
    }

    /// Reads until a failure of the request with this sequence number, or its success, or a message that `accept`
    /// takes. ENOBUFS: more was announced than the socket holds, and the answer may be lost.
    pub(crate) fn wait_for(
        &mut self,
        sequence: u32,
        operation: &str,
        accept: impl Fn(&Received<'_>) -> bool,
    ) -> Result<()> {
        loop {
            self.receive(operation)?;
            for received in Messages(&self.buffer) {
                if received.kind == KIND_ERROR && received.sequence == sequence {
                    return result(&received, operation);
                }
                if accept(&received) {
                    return Ok(());
                }
            }
        }
    }

    /// Reads a whole listing, and again from an empty collection if it changed while it was read.
    pub(crate) fn dump<C: Default>(
        &mut self,
        mut message: Message,
        operation: &str,
        mut each: impl FnMut(&mut C, &Received<'_>),
    ) -> Result<C> {
        if !self.strict {
            // Lets the kernel filter; a kernel without it sends all, and every reader here filters as well.
            let _ = self.socket.set_netlink_get_strict_chk(true);
            self.strict = true;
        }
        message.add_flags(libc::NLM_F_DUMP);
        for _ in 0..DUMP_ATTEMPTS {
            let mut collected = C::default();
            if self.dump_once(&mut message, operation, &mut collected, &mut each)? {
                return Ok(collected);
            }
        }
        Err(Error::refused(
            operation,
            libc::EINTR,
            Some("the listing kept changing while it was read".into()),
        ))
    }

    /// Whether the listing is consistent.
    fn dump_once<C>(
        &mut self,
        message: &mut Message,
        operation: &str,
        collected: &mut C,
        each: &mut impl FnMut(&mut C, &Received<'_>),
    ) -> Result<bool> {
        let sequence = self.send_message(message, operation)?;
        let mut consistent = true;
        loop {
            match self.receive(operation) {
                Ok(()) => {}
                // Something of this listing is lost; the rest must still be read, and is worth nothing.
                Err(error) if error.errno() == Some(libc::ENOBUFS) => {
                    consistent = false;
                    continue;
                }
                Err(error) => return Err(error),
            }
            for received in Messages(&self.buffer) {
                if received.sequence != sequence {
                    continue;
                }
                if i32::from(received.flags) & libc::NLM_F_DUMP_INTR != 0 {
                    consistent = false;
                }
                match received.kind {
                    KIND_DONE => {
                        let code = read_i32(received.body).unwrap_or(0);
                        return if code < 0 {
                            Err(Error::refused(operation, -code, None))
                        } else {
                            Ok(consistent)
                        };
                    }
                    KIND_ERROR => {
                        return result(&received, operation).map(|()| consistent);
                    }
                    _ => each(collected, &received),
                }
            }
        }
    }

    /// Gives a message the next sequence number, sends it and returns the number.
    fn send_message(&mut self, message: &mut Message, operation: &str) -> Result<u32> {
        if message.is_too_long() {
            return Err(Error::refused(operation, libc::EMSGSIZE, None));
        }
        let sequence = self.take_sequence();
        self.send(message.finish(sequence), operation)?;
        Ok(sequence)
    }

    fn send(&self, bytes: &[u8], operation: &str) -> Result<()> {
        loop {
            match self.socket.send(bytes, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::new(operation, error)),
            }
        }
    }

    /// Reads one datagram into the buffer.
    fn receive(&mut self, operation: &str) -> Result<()> {
        self.buffer.clear();
        loop {
            match self.socket.recv(&mut self.buffer, libc::MSG_TRUNC) {
                Ok(length) if length > self.buffer.len() => {
                    return Err(Error::unusable(operation, "the kernel's answer exceeds 64 KiB"));
                }
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::new(operation, error)),
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What an `NLMSG_ERROR` message says about its request.
fn result(received: &Received<'_>, operation: &str) -> Result<()> {
    match failure(received) {
        None => Ok(()),
        Some((errno, words)) => Err(Error::refused(operation, errno, words)),
    }
}

/// Error number and words of an `NLMSG_ERROR` message; `None` for an acknowledgement.
fn failure(received: &Received<'_>) -> Option<(i32, Option<String>)> {
    // A cut-off error message cannot be told from a failure, so it counts as one.
    let code = read_i32(received.body).unwrap_or(-libc::EPROTO);
    if code == 0 {
        return None;
    }
    let flags = i32::from(received.flags);
    let words = (flags & libc::NLM_F_ACK_TLVS != 0)
        .then(|| {
            // The request follows the number, only its header when the kernel cut it off.
            let request = received.body.get(4..)?;
            let length = if flags & libc::NLM_F_CAPPED != 0 {
                16
            } else {
                read_u32(request)?
            };
            let attributes = request.get(aligned(usize::try_from(length).ok()?)..)?;
            Attributes(attributes)
                .find(|(kind, _)| *kind == ATTRIBUTE_MESSAGE)
                .map(|(_, text)| read_text(text))
        })
        .flatten();
    Some((-code, words))
}
