//! Capturing frames: every frame that the interfaces of a network namespace receive, with the kernel's time stamp.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType,
    recvmsg, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeSpec;

use crate::base::IfIndex;

/// The packet type of frames that an interface itself sends.
const OUTGOING: u8 = 4;

/// A socket that captures frames.
#[derive(Debug)]
pub struct Tap(OwnedFd);

/// One frame.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// When the kernel received it: time since 1970 by the time of day.
    pub at: Duration,
    /// The interface that received it.
    pub interface: IfIndex,
    /// Octets in the buffer, Ethernet header included.
    pub length: usize,
}

impl Tap {
    /// Opens the socket in the namespace of the calling thread.
    ///
    /// # Errors
    /// `EPERM` without the capability NET_RAW.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
        setsockopt(&fd, sockopt::ReceiveTimestampns, &true)?;
        Ok(Self(fd))
    }

    /// Waits for the next incoming frame, truncated to the buffer; outgoing frames are skipped.
    ///
    /// # Errors
    /// Those of `recvmsg(2)`.
    pub fn next(&self, buffer: &mut [u8]) -> io::Result<Heard> {
        loop {
            let mut space = nix::cmsg_space!(TimeSpec);
            let mut parts = [IoSliceMut::new(buffer)];
            let flags = MsgFlags::empty();
            let message =
                recvmsg::<LinkAddr>(self.0.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
            let time = message.cmsgs()?.find_map(|control| match control {
                ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
                _ => None,
            });
            let Some(port) = message.address.filter(|port| port.pkttype() != OUTGOING) else {
                continue;
            };
            return Ok(Heard {
                at: time.unwrap_or_default(),
                interface: IfIndex(u32::try_from(port.ifindex()).unwrap_or_default()),
                length: message.bytes,
            });
        }
    }
}
