//! Descriptors on the tokio runtime.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A value that owns one descriptor for its whole life.
///
/// # Safety
/// `as_fd` returns the same descriptor each time, open until the value is dropped.
pub unsafe trait Stable: AsFd {}

// SAFETY: an OwnedFd closes its descriptor when dropped and never changes it.
unsafe impl Stable for OwnedFd {}
// SAFETY: holds one OwnedFd and never replaces it.
unsafe impl Stable for super::channel::Channel {}
// SAFETY: as above.
unsafe impl Stable for super::poll::Wake {}
// SAFETY: the referenced value lives as long as this reference.
unsafe impl<T: Stable> Stable for std::sync::Arc<T> {}
// SAFETY: a socket owns its descriptor until dropped.
unsafe impl Stable for netlink_sys::Socket {}

/// Waits for input on a descriptor, or for room for output, without blocking the thread.
pub struct Async<T: Stable>(AsyncFd<Inner<T>>);

struct Inner<T>(T);

impl<T: AsFd> AsRawFd for Inner<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl<T: Stable> Async<T> {
    /// Registers `inner`, which must be in non-blocking mode, with the runtime this is called on.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub fn new(inner: T) -> io::Result<Self> {
        Self::with(inner, Interest::READABLE | Interest::WRITABLE)
    }

    /// As [`Self::new`], but [`Self::write`] must not be called.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub fn read_only(inner: T) -> io::Result<Self> {
        Self::with(inner, Interest::READABLE)
    }

    /// As [`Self::new`], but [`Self::read`] must not be called.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub fn write_only(inner: T) -> io::Result<Self> {
        Self::with(inner, Interest::WRITABLE)
    }

    fn with(inner: T, interest: Interest) -> io::Result<Self> {
        // SAFETY: `Stable` guarantees what `register_with_interest` requires: the descriptor stays open and the same as
        // long as `inner` lives, and `inner` is reachable only by shared reference from here.
        unsafe { AsyncFd::register_with_interest(Inner(inner), interest) }
            .map(Self)
            .map_err(|e| e.into_parts().1)
    }

    /// The registered value.
    pub fn inner(&self) -> &T {
        &self.0.get_ref().0
    }

    /// Calls `take` as soon as there is input, and again whenever it returns `WouldBlock`.
    ///
    /// # Errors
    /// Those of `take`.
    pub async fn read<R>(&self, mut take: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(answer) = ready.try_io(|inner| take(&inner.get_ref().0)) {
                return answer;
            }
        }
    }

    /// Calls `put` as soon as there is room, and again whenever it returns `WouldBlock`.
    ///
    /// # Errors
    /// Those of `put`.
    pub async fn write<R>(&self, mut put: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        loop {
            let mut ready = self.0.writable().await?;
            if let Ok(answer) = ready.try_io(|inner| put(&inner.get_ref().0)) {
                return answer;
            }
        }
    }
}

impl<T: Stable> AsFd for Async<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner().as_fd()
    }
}
