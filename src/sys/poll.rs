//! The parts of an event loop without a runtime: epoll, a timer with absolute deadlines, wake-ups.

use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{self, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{self, Expiration, TimerFlags, TimerSetTimeFlags};

use crate::base::Instant;

/// Waits for several descriptors at once; each has a number by which it is recognised.
pub struct Epoll(epoll::Epoll);

/// The numbers of the descriptors that are ready.
pub struct Ready {
    events: [EpollEvent; Self::ROOM],
    count: usize,
}

impl Ready {
    const ROOM: usize = 16;

    /// Nothing is ready.
    #[must_use]
    pub fn new() -> Self {
        Self { events: [EpollEvent::empty(); Self::ROOM], count: 0 }
    }

    /// The numbers, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = u64> + '_ {
        self.events.iter().take(self.count).map(EpollEvent::data)
    }
}

impl Default for Ready {
    fn default() -> Self {
        Self::new()
    }
}

impl Epoll {
    /// An empty set.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(epoll::Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// Waits also for input on `fd`, level triggered. It must be removed before it is closed.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub fn add(&self, fd: impl AsFd, key: u64) -> io::Result<()> {
        Ok(self.0.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, key))?)
    }

    /// No longer waits for `fd`.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(self.0.delete(fd)?)
    }

    /// Waits until something is ready. An interruption by a signal counts as nothing ready.
    ///
    /// # Errors
    /// Those of `epoll_wait(2)`.
    pub fn wait(&self, ready: &mut Ready) -> io::Result<()> {
        ready.count = match self.0.wait(&mut ready.events, EpollTimeout::NONE) {
            Ok(n) => n,
            Err(Errno::EINTR) => 0,
            Err(e) => return Err(e.into()),
        };
        Ok(())
    }
}

/// A timer that is set to a point in time, so that one late expiration does not shift the following ones.
pub struct Timer {
    fd: timerfd::TimerFd,
    set: Option<Instant>,
}

impl Timer {
    /// A timer that is not set.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            fd: timerfd::TimerFd::new(
                timerfd::ClockId::CLOCK_MONOTONIC,
                TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK,
            )?,
            set: None,
        })
    }

    /// Makes the descriptor ready from `at` on; `None`: never. A past point makes it ready at once. Calling this again
    /// with the same point costs nothing, unless [`Self::clear`] was called in between.
    ///
    /// # Errors
    /// Those of `timerfd_settime(2)`.
    pub fn set(&mut self, at: Option<Instant>) -> io::Result<()> {
        if self.set == at {
            return Ok(());
        }
        match at {
            // All zero would disable the timer.
            Some(at) => {
                let nanos = at.as_nanos().max(1);
                let time = TimeSpec::new(
                    libc::time_t::try_from(nanos / 1_000_000_000).unwrap_or(libc::time_t::MAX),
                    libc::c_long::try_from(nanos % 1_000_000_000).unwrap_or(0),
                );
                self.fd.set(Expiration::OneShot(time), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            }
            None => self.fd.unset()?,
        }
        self.set = at;
        Ok(())
    }

    /// Makes the descriptor not ready; the timer is no longer set.
    pub fn clear(&mut self) {
        self.set = None;
        // Never blocks; it does not matter whether it has expired.
        let _ = self.fd.wait();
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Waits until one of the descriptors has input, or the time limit has passed.
pub fn wait<'a>(all: impl IntoIterator<Item = BorrowedFd<'a>>, limit: Duration) {
    let mut all: Vec<PollFd<'_>> =
        all.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    // Never too early: a limit of less than a millisecond counts as one.
    let limit = limit.as_millis().saturating_add(1);
    let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    // An interruption counts as a timeout: the caller checks its clock.
    let _ = poll(&mut all, limit);
}

/// A wake-up call between threads.
pub struct Wake(EventFd);

impl Wake {
    /// Creates a wake-up call that is not ready.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?))
    }

    /// Makes the descriptor ready. Never waits.
    pub fn call(&self) {
        // Fails only when 2^64 calls are unanswered; the descriptor is ready then as well.
        let _ = self.0.write(1);
    }

    /// Makes the descriptor not ready.
    pub fn clear(&self) {
        let _ = self.0.read();
    }

    /// Makes the descriptor not ready; returns whether it was ready.
    #[must_use]
    pub fn take(&self) -> bool {
        self.0.read().is_ok()
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::sync::Arc;

    use super::*;
    use crate::sys::clock;

    #[test]
    fn a_timer_fires_at_its_point_and_only_then() {
        let epoll = Epoll::new().unwrap();
        let mut timer = Timer::new().unwrap();
        epoll.add(&timer, 7).unwrap();
        let at = clock::now() + Duration::from_millis(20);
        timer.set(Some(at)).unwrap();
        let mut ready = Ready::new();
        epoll.wait(&mut ready).unwrap();
        assert!(clock::now() >= at);
        assert_eq!(ready.keys().collect::<Vec<_>>(), [7]);
        // A past point is ready at once, even if it is the one that just fired.
        timer.clear();
        timer.set(Some(at)).unwrap();
        epoll.wait(&mut ready).unwrap();
        assert_eq!(ready.keys().collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn a_call_wakes_another_thread() {
        let wake = Arc::new(Wake::new().unwrap());
        let epoll = Epoll::new().unwrap();
        epoll.add(&*wake, 1).unwrap();
        let caller = {
            let wake = Arc::clone(&wake);
            std::thread::spawn(move || wake.call())
        };
        let mut ready = Ready::new();
        epoll.wait(&mut ready).unwrap();
        assert_eq!(ready.keys().count(), 1);
        wake.clear();
        caller.join().unwrap();
    }
}
