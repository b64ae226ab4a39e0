//! Pairs of connected sockets that carry whole messages and descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    getsockopt, recvmsg, sendmsg, socketpair, sockopt,
};

/// The most descriptors that go with one message.
pub const MOST_FDS: usize = 8;

/// One end of a pair. Messages keep their boundaries and their order; sending and receiving never wait.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// One message as it came in.
#[derive(Debug)]
pub struct Received {
    /// Octets of the message within the buffer.
    pub length: usize,
    /// What came with it.
    pub fds: Vec<OwnedFd>,
}

impl Channel {
    /// Two connected ends, both closed on exec.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        )?;
        Ok((Self(a), Self(b)))
    }

    /// The end that a process was started with, as its descriptor `number`. Closed on exec from now on.
    ///
    /// # Errors
    /// `EBADF` or `InvalidInput` when that descriptor is not one, so the process was started by somebody else.
    pub fn inherited(number: RawFd) -> io::Result<Self> {
        // SAFETY: only asks; the descriptor need not be open.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        if getsockopt(&fd, sockopt::SockType)? != SockType::SeqPacket {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        // SAFETY: it is open, and was handed to this process by number: nothing else in it owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(number) }))
    }

    /// Takes an end that was handed over. That it is one is found out at the first use.
    #[must_use]
    pub const fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// The descriptor.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// A second handle on the same end.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn duplicate(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Sends one message with the descriptors `fds`, at most [`MOST_FDS`].
    ///
    /// # Errors
    /// `WouldBlock` when the peer has not read enough of what came before, `BrokenPipe` when it is gone,
    /// `EMSGSIZE` when the message is longer than the queue.
    pub fn send(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let vector = [IoSlice::new(message)];
        let raw: Vec<RawFd>;
        let rights;
        let control: &[ControlMessage<'_>] = if fds.is_empty() {
            &[]
        } else {
            raw = fds.iter().map(AsRawFd::as_raw_fd).collect();
            rights = [ControlMessage::ScmRights(&raw)];
            &rights
        };
        loop {
            match sendmsg::<UnixAddr>(self.0.as_raw_fd(), &vector, control, flags, None) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                // A peer that is gone is one thing, whichever way the kernel puts it.
                Err(Errno::ECONNRESET | Errno::ENOTCONN) => {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Takes the next message into `buffer`; none when the peer is gone and everything it sent was taken.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; `InvalidData` when the message was longer than `buffer` or brought
    /// more descriptors than allowed: it is lost then, the next one can be taken.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        let mut control = cmsg_space!([RawFd; MOST_FDS]);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let mut vector = [IoSliceMut::new(buffer)];
        let message = loop {
            match recvmsg::<UnixAddr>(self.0.as_raw_fd(), &mut vector, Some(&mut control), flags) {
                Err(Errno::EINTR) => {}
                Err(Errno::ECONNRESET) => return Ok(None),
                other => break other?,
            }
        };
        let cut = message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC);
        let mut fds = Vec::new();
        // Descriptors come first, so that they are closed if the message is refused.
        if let Ok(list) = message.cmsgs() {
            for one in list {
                if let ControlMessageOwned::ScmRights(raw) = one {
                    fds.extend(raw.into_iter().map(|fd| {
                        // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
                        unsafe { OwnedFd::from_raw_fd(fd) }
                    }));
                }
            }
        }
        if cut {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // No message has length 0 here, so this is the end.
        if message.bytes == 0 && fds.is_empty() {
            return Ok(None);
        }
        Ok(Some(Received { length: message.bytes, fds }))
    }

    /// Waits until something can be taken, or the peer is gone. False when `limit` passed before. For processes
    /// without a runtime.
    ///
    /// # Errors
    /// Those of `poll(2)`.
    pub fn wait(&self, limit: Duration) -> io::Result<bool> {
        let end = std::time::Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(std::time::Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match nix::poll::poll(&mut fds, timeout) {
                Ok(0) if left.is_zero() => return Ok(false),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn messages_keep_their_boundaries_and_bring_descriptors() {
        let (a, b) = Channel::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        a.send(b"one", &[]).unwrap();
        a.send(b"two", &[writer.as_fd()]).unwrap();
        drop(writer);
        let mut buffer = [0; 16];
        let first = b.receive(&mut buffer).unwrap().unwrap();
        assert_eq!((&buffer[..first.length], first.fds.len()), (&b"one"[..], 0));
        let second = b.receive(&mut buffer).unwrap().unwrap();
        assert_eq!(&buffer[..second.length], b"two");
        // The pipe is open as long as the descriptor that travelled is.
        drop(second);
        assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0);
        drop(a);
        assert!(b.receive(&mut buffer).unwrap().is_none());
    }

    #[test]
    fn a_peer_that_does_not_read_stalls_nobody() {
        let (a, _b) = Channel::pair().unwrap();
        let sent = (0..100_000).take_while(|_| a.send(&[0; 1000], &[]).is_ok()).count();
        assert!((10..100_000).contains(&sent));
        let refused = a.send(&[0; 1000], &[]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_message_too_long_is_lost_alone() {
        let (a, b) = Channel::pair().unwrap();
        a.send(&[0; 100], &[]).unwrap();
        a.send(b"next", &[]).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(b.receive(&mut buffer).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(b.receive(&mut buffer).unwrap().unwrap().length, 4);
    }

    #[test]
    fn a_dead_peer_is_told() {
        let (a, b) = Channel::pair().unwrap();
        drop(b);
        assert_eq!(a.send(b"x", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
