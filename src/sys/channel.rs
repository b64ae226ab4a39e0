//! Pairs of connected sockets that transfer whole messages and descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, getsockopt, sendmsg,
    socketpair, sockopt,
};

/// Largest number of descriptors sent with one message.
pub const MOST_FDS: usize = 8;

/// One end of a pair. Messages keep their boundaries and their order; sending and receiving never wait.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// A received message.
#[derive(Debug)]
pub struct Received {
    /// Octets of the message within the buffer.
    pub length: usize,
    /// Its descriptors.
    pub fds: Vec<OwnedFd>,
}

impl Channel {
    /// Two connected ends, both closed on exec.
    ///
    /// # Errors
    /// If the process has no descriptor left.
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
    /// `EBADF` or `InvalidInput` if that descriptor is not a channel: the process was not started by the daemon.
    pub fn inherited(number: RawFd) -> io::Result<Self> {
        // SAFETY: only queries; the descriptor need not be open.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        if getsockopt(&fd, sockopt::SockType)? != SockType::SeqPacket {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        // SAFETY: it is open, and was passed to this process by number: nothing else in it owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(number) }))
    }

    /// Takes a received end. The first use shows whether it is one.
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
    /// If the process has no descriptor left.
    pub fn duplicate(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Sends one message with the descriptors `fds`, at most [`MOST_FDS`].
    ///
    /// # Errors
    /// `WouldBlock` if the peer has not read enough of the earlier messages, `BrokenPipe` if it is gone, `EMSGSIZE` if
    /// the message is longer than the queue.
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
                // All errors that mean a closed peer are treated alike.
                Err(Errno::ECONNRESET | Errno::ENOTCONN) => {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Receives the next message into `buffer`; none if the peer is gone and everything it sent was received.
    ///
    /// # Errors
    /// `WouldBlock` if there is no message; `InvalidData` if the message was longer than `buffer` or had more
    /// descriptors than allowed: it is lost then, and the next one can be received. If this process has reached its
    /// limit of descriptors, the message arrives without them.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        let mut control = Control([0; CONTROL]);
        let mut vector = [IoSliceMut::new(buffer)];
        // SAFETY: a structure of numbers and pointers, for which zero is a value.
        let mut header: libc::msghdr = unsafe { core::mem::zeroed() };
        header.msg_iov = vector.as_mut_ptr().cast();
        header.msg_iovlen = vector.len();
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL;
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        let length = loop {
            // SAFETY: the header names a buffer and a control buffer that live until the call returns.
            match Errno::result(unsafe {
                libc::recvmsg(self.0.as_raw_fd(), &raw mut header, flags)
            }) {
                Ok(length) => break length.unsigned_abs(),
                // The peer ended without reading all that it was sent. The kernel tells this once, and before the messages
                // that the peer had sent, which can still be received.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(e) => return Err(e.into()),
            }
        };
        // Descriptors come first, so that they are closed if the message is refused.
        let mut fds = descriptors(&header);
        let has = |flag| header.msg_flags & flag != 0;
        if has(libc::MSG_TRUNC) || (has(libc::MSG_CTRUNC) && fds.len() >= MOST_FDS) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if has(libc::MSG_CTRUNC) {
            // The limit of descriptors is reached. The receiver of the message can request them again; an incomplete
            // set is of no use, so it is closed.
            fds.clear();
            return Ok(Some(Received { length, fds }));
        }
        // No message has length 0 here, so this is the end.
        if length == 0 && fds.is_empty() {
            return Ok(None);
        }
        Ok(Some(Received { length, fds }))
    }

    /// Waits until a message can be received, or the peer is gone. False if `limit` passed before. For processes
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

/// Room for [`MOST_FDS`] descriptors behind their header.
const CONTROL: usize = size_of::<libc::cmsghdr>() + MOST_FDS * size_of::<RawFd>();

/// Control data of a message, aligned as the kernel writes it.
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// The descriptors that `recvmsg` received with a message. All of them, even if there was no room for more: those that
/// it created are open and only closed here.
fn descriptors(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the kernel has filled in this header; the macros stay within its control buffer.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: not null, so a header within the control buffer.
    while let Some(one) = unsafe { next.as_ref() } {
        if (one.cmsg_level, one.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: as above; no octet is read.
            let data: *const RawFd = unsafe { libc::CMSG_DATA(next) }.cast();
            let count =
                one.cmsg_len.saturating_sub(size_of::<libc::cmsghdr>()) / size_of::<RawFd>();
            for at in 0..count.min(MOST_FDS) {
                // SAFETY: the kernel wrote `count` numbers there, all within the buffer, and just created these
                // descriptors for us; nothing else owns them.
                fds.push(unsafe { OwnedFd::from_raw_fd(data.add(at).read_unaligned()) });
            }
        }
        // SAFETY: as for the first one.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    fds
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
        // The pipe is open as long as the transferred descriptor is.
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
    fn descriptors_of_a_refused_message_are_closed() {
        let (a, b) = Channel::pair().unwrap();
        let mut buffer = [0; 16];
        for (count, length) in [(MOST_FDS, 16), (MOST_FDS, 17), (MOST_FDS + 1, 1), (200, 1)] {
            let (mut reader, writer) = io::pipe().unwrap();
            a.send(&[0; 17][..length], &vec![writer.as_fd(); count]).unwrap();
            drop(writer);
            let received = b.receive(&mut buffer);
            assert_eq!(received.is_ok(), length <= 16 && count <= MOST_FDS, "{count}, {length}");
            drop(received);
            // Without an open writing end, reading ends at once.
            let mut ready = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
            assert_eq!(nix::poll::poll(&mut ready, PollTimeout::ZERO), Ok(1), "{count}, {length}");
            assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0);
        }
    }

    #[test]
    fn the_last_messages_of_a_peer_that_leaves_some_unread_are_received() {
        let (a, b) = Channel::pair().unwrap();
        b.send(b"unread", &[]).unwrap();
        a.send(b"one", &[]).unwrap();
        a.send(b"two", &[]).unwrap();
        drop(a);
        let mut buffer = [0; 16];
        for last in [&b"one"[..], b"two"] {
            let received = b.receive(&mut buffer).unwrap().unwrap();
            assert_eq!(&buffer[..received.length], last);
        }
        assert!(b.receive(&mut buffer).unwrap().is_none());
    }

    #[test]
    fn a_dead_peer_is_told() {
        let (a, b) = Channel::pair().unwrap();
        drop(b);
        assert_eq!(a.send(b"x", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
