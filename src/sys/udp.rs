//! UDP sockets that report the TTL of each received packet and set the TTL of each sent one.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::bpf;
use crate::base::Family;

/// Size of the receive queue: after a stall, the process still finds the packets that arrived meanwhile.
const QUEUE: usize = 1 << 20;
/// Source ports (RFC 5881 4).
const FIRST_PORT: u16 = 49_152;
/// Class selector 6, network control, in the octet of the IP header.
const CONTROL: u32 = 0xc0;

/// The source and the destination of a received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct From {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Its received TTL or hop limit; 0 if the kernel does not report it.
    pub ttl: u8,
}

/// A socket that receives the packets to a port of this host.
pub struct Listener(Socket);

impl Listener {
    /// Opens a port on all addresses of a family.
    ///
    /// # Errors
    /// `EADDRINUSE` if another program uses the port; `EAFNOSUPPORT` if the kernel lacks the family.
    pub fn open(family: Family, port: u16) -> io::Result<Self> {
        let socket = socket(family)?;
        match family {
            Family::V4 => {
                setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
                setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
            }
            Family::V6 => {
                socket.set_only_v6(true)?;
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
                setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
            }
        }
        // Needs NET_ADMIN; without it, the limit of the system applies.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &QUEUE);
        socket.bind(&SocketAddr::new(any(family), port).into())?;
        Ok(Self(socket))
    }

    /// The next packet: its source and destination, and its length; none if the queue is empty. A packet longer than
    /// the buffer is truncated.
    ///
    /// # Errors
    /// Those of `recvmsg(2)` except `EAGAIN`.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(Option<From>, usize)>> {
        let mut room = cmsg_space!(libc::in6_pktinfo, libc::c_int, libc::in_pktinfo, libc::c_int);
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let fd = self.0.as_raw_fd();
        let message = match recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut room), flags) {
            Ok(message) => message,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let source = message.address.and_then(|address| {
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        });
        let (mut destination, mut ttl) = (None, 0);
        for told in message.cmsgs().into_iter().flatten() {
            match told {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    let bits = u32::from_be(info.ipi_addr.s_addr);
                    destination = Some(IpAddr::V4(Ipv4Addr::from_bits(bits)));
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    destination = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                }
                ControlMessageOwned::Ipv4Ttl(limit) | ControlMessageOwned::Ipv6HopLimit(limit) => {
                    ttl = u8::try_from(limit).unwrap_or(0);
                }
                _ => {}
            }
        }
        let from = source.zip(destination);
        let from = from.map(|(source, destination)| From { source, destination, ttl });
        Ok(Some((from, message.bytes)))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A socket that sends to one address and port, from a port of its own.
pub struct Sender {
    socket: Socket,
    to: SocketAddr,
    ttl: Option<u8>,
}

impl Sender {
    /// Opens a port from 49152 on: the first free one, starting at the position that `place` determines. `from` need
    /// not be an address of this host yet.
    ///
    /// # Errors
    /// `EADDRINUSE` if all are in use; `EAFNOSUPPORT` if the kernel lacks the family.
    pub fn open(from: Option<IpAddr>, to: SocketAddr, place: u16) -> io::Result<Self> {
        let family = Family::of(&to.ip());
        let socket = socket(family)?;
        // Packets to this port are not part of the protocol, so they are dropped.
        bpf::drop_all(&socket)?;
        match family {
            Family::V4 => {
                socket.set_freebind_v4(true)?;
                socket.set_tos_v4(CONTROL)?;
            }
            Family::V6 => {
                socket.set_only_v6(true)?;
                socket.set_freebind_v6(true)?;
                socket.set_tclass_v6(CONTROL)?;
            }
        }
        let from = from.unwrap_or(any(family));
        let count = u16::MAX - FIRST_PORT;
        let mut ports = (0..=count).map(|n| FIRST_PORT + (place.wrapping_add(n) & count));
        loop {
            let Some(port) = ports.next() else {
                return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
            };
            match socket.bind(&SocketAddr::new(from, port).into()) {
                Ok(()) => return Ok(Self { socket, to, ttl: None }),
                Err(e) if e.kind() == io::ErrorKind::AddrInUse => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Sends a packet with this TTL or hop limit.
    ///
    /// # Errors
    /// Those of `sendto(2)`, for example if there is no route or the source address does not exist.
    pub fn send(&mut self, ttl: u8, packet: &[u8]) -> io::Result<()> {
        if self.ttl != Some(ttl) {
            match Family::of(&self.to.ip()) {
                Family::V4 => self.socket.set_ttl_v4(ttl.into())?,
                Family::V6 => self.socket.set_unicast_hops_v6(ttl.into())?,
            }
            self.ttl = Some(ttl);
        }
        self.socket.send_to(packet, &self.to.into()).map(drop)
    }
}

fn socket(family: Family) -> io::Result<Socket> {
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))
}

const fn any(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{in_namespace, ip};

    #[test]
    fn a_packet_brings_its_addresses_and_its_ttl() {
        in_namespace("sys::udp::tests::a_packet_brings_its_addresses_and_its_ttl", || {
            ip("link set lo up");
            for (family, own) in [(Family::V4, "127.0.0.1"), (Family::V6, "::1")] {
                let own: IpAddr = own.parse().unwrap();
                let listener = Listener::open(family, 3784).unwrap();
                let to = SocketAddr::new(own, 3784);
                let mut senders = [
                    Sender::open(Some(own), to, 0xffff).unwrap(),
                    Sender::open(None, to, 0xffff).unwrap(),
                ];
                let mut buffer = [0; 64];
                assert_eq!(listener.receive(&mut buffer).unwrap(), None);
                for (sender, ttl) in senders.iter_mut().zip([255, 64]) {
                    sender.send(ttl, b"packet").unwrap();
                    let (from, length) = listener.receive(&mut buffer).unwrap().unwrap();
                    assert_eq!(from, Some(From { source: own, destination: own, ttl }));
                    assert_eq!(&buffer[..length], b"packet");
                    let port = sender.socket.local_addr().unwrap().as_socket().unwrap().port();
                    assert!(port >= FIRST_PORT, "{port}");
                }
                assert!(Listener::open(family, 3784).is_err(), "somebody else's port is taken");
            }
            // A source address that this host does not have yet.
            let to: SocketAddr = "127.0.0.1:3784".parse().unwrap();
            let mut early = Sender::open(Some("10.9.9.9".parse().unwrap()), to, 7).unwrap();
            let _ = early.send(255, b"packet");
        });
    }
}
