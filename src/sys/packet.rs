//! Ethernet frames, sent and received by an `AF_PACKET` socket.

use std::io;
use std::os::fd::AsRawFd;

use socket2::{Domain, Socket, Type};

use super::bpf;
use crate::base::IfIndex;

/// Makes a packet socket receive frames of one interface with one type of payload (host order).
pub(super) fn bind(socket: &Socket, interface: IfIndex, kind: u16) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain numbers, for which zero bits are valid.
    let mut to: libc::sockaddr_ll = unsafe { core::mem::zeroed() };
    to.sll_family = super::family(libc::AF_PACKET);
    to.sll_protocol = kind.to_be();
    to.sll_ifindex = i32::try_from(interface.0).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the address is live for the call, with the length given.
    let answer = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const to).cast(), super::size::<libc::sockaddr_ll>())
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A socket that sends frames on any interface and receives nothing.
pub struct FrameSocket(Socket);

impl FrameSocket {
    /// Opens the socket.
    ///
    /// # Errors
    /// `EPERM` without the capability NET_RAW.
    pub fn open() -> io::Result<Self> {
        // Protocol 0 means that the kernel delivers no packet at all.
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)?;
        bpf::drop_all(&socket)?;
        Ok(Self(socket))
    }

    /// Sends one frame, Ethernet header included.
    ///
    /// # Errors
    /// Those of `sendto(2)`: `ENETDOWN`, `ENXIO` if the interface is gone, `ENOBUFS` if its queue is full.
    pub fn send(&self, interface: IfIndex, frame: &[u8]) -> io::Result<()> {
        // The type of the payload, from the Ethernet header, in network order as required in the address.
        let kind = match frame {
            [_, _, _, _, _, _, _, _, _, _, _, _, high, low, ..] => {
                u16::from_ne_bytes([*high, *low])
            }
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        // SAFETY: sockaddr_ll is plain numbers, for which zero bits are valid.
        let mut to: libc::sockaddr_ll = unsafe { core::mem::zeroed() };
        to.sll_family = super::family(libc::AF_PACKET);
        to.sll_protocol = kind;
        to.sll_ifindex = i32::try_from(interface.0).map_err(|_| io::ErrorKind::InvalidInput)?;
        to.sll_halen = 6;
        for (at, octet) in to.sll_addr.iter_mut().zip(frame.iter().take(6)) {
            *at = *octet;
        }
        // SAFETY: the frame and the address are live for the call, with the lengths given.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                libc::MSG_DONTWAIT,
                (&raw const to).cast(),
                super::size::<libc::sockaddr_ll>(),
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
