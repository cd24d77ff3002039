// SPDX-License-Identifier: Apache-2.0
//! Waiting for a file lock, but not for ever.
//!
//! flock(2) hands a lock on in the order of arrival, and knows no time limit. A second thread that waits in place of
//! the first would cost two changes of thread between one holder and the next, which under load is what everybody
//! behind waits for. So the caller waits itself, and a timer of its own thread interrupts it.
#![allow(unsafe_code)]

use std::{
    fs::{File, TryLockError},
    io,
    time::{Duration, Instant},
};

use nix::sys::{
    signal::{SaFlags, SigAction, SigEvent, SigHandler, SigSet, SigevNotify, Signal, sigaction},
    time::TimeSpec,
    timer::{Expiration, Timer, TimerSetTimeFlags},
};
use nix::time::ClockId;

/// Interrupts the wait. Ignored by default, so that a stray one hurts nobody.
const SIGNAL: Signal = Signal::SIGURG;

/// Between two interruptions: the first may come just before the wait begins.
const AGAIN: Duration = Duration::from_millis(10);

/// Takes the exclusive lock of a file; waits at most until `deadline`. `false` if it was somebody else's all the time.
/// The lock goes with the last copy of the file's descriptor.
pub fn lock_exclusive(file: &File, deadline: Instant) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => return Ok(true),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(problem)) => return Err(problem),
    }
    let _alarm = Alarm::set(deadline)?;
    loop {
        match file.lock() {
            Ok(()) => return Ok(true),
            Err(problem) if problem.kind() != io::ErrorKind::Interrupted => return Err(problem),
            Err(_) if Instant::now() >= deadline => return Ok(false),
            Err(_) => {}
        }
    }
}

/// From a time on, interrupts the system calls of the thread that set it; until it is dropped.
struct Alarm {
    _timer: Timer,
    mask: SigSet,
}

impl Alarm {
    fn set(deadline: Instant) -> io::Result<Self> {
        let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing, and nobody else handles this signal.
        unsafe { sigaction(SIGNAL, &action) }?;
        // Whoever started this process may have blocked it.
        let mask = SigSet::from(SIGNAL).thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_UNBLOCK)?;
        let notify = SigevNotify::SigevThreadId {
            signal: SIGNAL,
            thread_id: nix::unistd::gettid().as_raw(),
            si_value: 0,
        };
        let mut timer = Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(notify))?;
        // Zero would mean never.
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_nanos(1));
        let expiration =
            Expiration::IntervalDelayed(TimeSpec::from_duration(left), TimeSpec::from_duration(AGAIN));
        timer.set(expiration, TimerSetTimeFlags::empty())?;
        Ok(Self { _timer: timer, mask })
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let _ = self.mask.thread_set_mask();
    }
}

extern "C" fn nothing(_: libc::c_int) {}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    fn open(path: &std::path::Path) -> File {
        File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .unwrap()
    }

    fn in_a_minute() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_wait_ends_with_the_deadline_also_where_the_signal_was_blocked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = open(&path);
        assert!(lock_exclusive(&first, in_a_minute()).unwrap());
        let second = open(&path);
        let blocked = SigSet::from(SIGNAL);
        blocked.thread_block().unwrap();
        for wait in [0, 1, 30] {
            let begin = Instant::now();
            let wait = Duration::from_millis(wait);
            assert!(!lock_exclusive(&second, begin + wait).unwrap());
            assert!(begin.elapsed() >= wait);
        }
        assert!(
            SigSet::thread_get_mask().unwrap().contains(SIGNAL),
            "the mask is as it was"
        );
        drop(first);
        assert!(lock_exclusive(&second, in_a_minute()).unwrap());
    }

    #[test]
    fn who_waits_gets_it_when_the_holder_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = open(&path);
        assert!(lock_exclusive(&first, in_a_minute()).unwrap());
        let (sender, receiver) = mpsc::channel();
        let second = open(&path);
        let waiting = thread::spawn(move || sender.send(lock_exclusive(&second, in_a_minute()).unwrap()));
        assert!(receiver.recv_timeout(Duration::from_millis(30)).is_err());
        drop(first);
        assert!(receiver.recv_timeout(Duration::from_secs(30)).unwrap());
        waiting.join().unwrap().unwrap();
    }
}
