// SPDX-License-Identifier: Apache-2.0
//! Giving a program its input and collecting what it prints, within a time limit. Called by `delegate`.
//!
//! Both directions are served by one loop, so neither side waits for the other's full pipe. The program's end counts,
//! not the end of its output: a daemon that it leaves behind may keep the pipes open. Whatever happens, the program
//! is reaped.

use std::{
    io::{self, Read, Write as _},
    os::fd::{AsFd, BorrowedFd},
    process::{Child, ChildStdin, ExitStatus},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, ppoll},
    sys::time::TimeSpec,
};

/// More output than this is no answer of a plugin.
const MAX_OUTPUT: usize = 16 * 1024 * 1024;
/// As much of stderr is kept for a message.
const MAX_TAIL: usize = 2000;
/// How long to wait for output before looking whether the program has ended without closing it.
const LOOK: Duration = Duration::from_millis(20);
/// The first pause between the end of the output and the end of the program, usually microseconds later.
const FIRST_LOOK: Duration = Duration::from_micros(50);
/// How long a killed program may take to end.
const REAP_LIMIT: Duration = Duration::from_secs(2);
const CHUNK: usize = 16 * 1024;
/// So many chunks empty the largest pipe that an unprivileged program can have.
const CHUNKS: usize = 65;

/// What a program did.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    /// The end of what it wrote to stderr, all of which was passed on.
    pub(crate) stderr: Vec<u8>,
}

/// Why a program did not finish. It was killed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    #[error("it did not finish within {0:?}")]
    TimedOut(Duration),
    #[error("it printed more than 16 MiB")]
    TooMuchOutput,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Serves a child whose three streams are pipes, until it ends.
pub(crate) fn exchange(mut child: Child, input: &[u8], limit: Duration) -> Result<Finished, ExchangeError> {
    let result = serve(&mut child, input, limit);
    if result.is_err() {
        let _ = child.kill();
        reap(&mut child);
    }
    result
}

fn serve(child: &mut Child, mut input: &[u8], limit: Duration) -> Result<Finished, ExchangeError> {
    let deadline = Instant::now() + limit;
    let mut stdin = child.stdin.take();
    if let Some(stdin) = &stdin {
        unblock(stdin)?;
    }
    let mut stdout = Source::new(child.stdout.take())?;
    let mut stderr = Source::new(child.stderr.take())?;
    let (mut answer, mut tail) = (Vec::new(), Vec::new());
    let mut pause = FIRST_LOOK;
    loop {
        // Asked before reading: what it printed before its end is then read below.
        let status = child.try_wait()?;
        feed(&mut stdin, &mut input)?;
        stdout.read_available(|chunk| answer.extend_from_slice(chunk))?;
        stderr.read_available(|chunk| {
            let _ = io::stderr().write_all(chunk);
            tail.extend_from_slice(chunk);
            tail.drain(..tail.len().saturating_sub(MAX_TAIL));
        })?;
        if answer.len() > MAX_OUTPUT {
            return Err(ExchangeError::TooMuchOutput);
        }
        if let Some(status) = status {
            return Ok(Finished {
                status,
                stdout: answer,
                stderr: tail,
            });
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ExchangeError::TimedOut(limit));
        }
        let look = if stdout.is_open() { LOOK } else { pause };
        wait(stdin.as_ref(), [stdout.fd(), stderr.fd()], look.min(left))?;
        if !stdout.is_open() {
            pause = (pause * 2).min(LOOK);
        }
    }
}

/// One of the program's output streams, until its end.
struct Source<R>(Option<R>);

impl<R: Read + AsFd> Source<R> {
    fn new(stream: Option<R>) -> io::Result<Self> {
        if let Some(stream) = &stream {
            unblock(stream)?;
        }
        Ok(Self(stream))
    }

    fn is_open(&self) -> bool {
        self.0.is_some()
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(AsFd::as_fd)
    }

    /// Reads what is there, bounded so that an endless writer does not keep the loop from its deadline.
    fn read_available(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let mut chunk = [0; CHUNK];
        for _ in 0..CHUNKS {
            let Some(stream) = &mut self.0 else { break };
            match stream.read(&mut chunk) {
                Ok(0) => self.0 = None,
                Ok(length) => take(&chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Writes what the pipe takes and closes it after the last byte. A program that answers without reading closes it
/// first; its answer counts.
fn feed(stdin: &mut Option<ChildStdin>, input: &mut &[u8]) -> io::Result<()> {
    while let Some(pipe) = stdin {
        if input.is_empty() {
            *stdin = None;
            break;
        }
        match pipe.write(input) {
            Ok(length) => *input = &input[length..],
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => break,
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::BrokenPipe => *stdin = None,
                _ => return Err(error),
            },
        }
    }
    Ok(())
}

/// Waits until one of the pipes can be served, at most for so long.
fn wait(
    stdin: Option<&ChildStdin>,
    sources: [Option<BorrowedFd<'_>>; 2],
    timeout: Duration,
) -> io::Result<()> {
    let readable = sources.into_iter().flatten();
    let mut pipes: Vec<PollFd<'_>> = readable.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    pipes.extend(stdin.map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)));
    match ppoll(&mut pipes, Some(TimeSpec::from_duration(timeout)), None) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn unblock(pipe: &impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(pipe, FcntlArg::F_GETFL)?);
    fcntl(pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Collects a killed child. One that even a kill does not end (it hangs in the kernel) is left to init.
fn reap(child: &mut Child) {
    let deadline = Instant::now() + REAP_LIMIT;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}
