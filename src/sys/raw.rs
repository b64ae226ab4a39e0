//! Raw sockets of IP protocol 112, or 51 in front of it: receiving adverts of many groups and interfaces, sending them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

use super::bpf;
use crate::base::{Family, IfIndex, WallTime};

/// IP protocol number of VRRP (RFC 9568 5.1.1.4).
const VRRP: i32 = 112;
/// IP protocol number of the authentication header.
const AH: i32 = 51;
/// The longest advert: an IPv4 header with options, 8 octets, 255 IPv6 addresses. Longer packets are truncated here and
/// refused by comparison with their header.
const LONGEST: u32 = 60 + 8 + 255 * 16;
/// Length of an IPv6 header in octets.
const IPV6_HEADER: u32 = 40;
/// Packets received with one call.
const BATCH: u32 = 32;
/// Buffer size for control messages: more than packet information, hop limit and time need.
const CONTROL: usize = 128;
/// Size of the receive queue in octets. A process that was stalled must find what it missed: some 5,000 adverts.
const QUEUE: usize = 4 << 20;

/// Origin and destination of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct From {
    /// The receiving interface.
    pub interface: IfIndex,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// IPv6: its hop limit. IPv4: 0; the packet is delivered with its header.
    pub hop_limit: u8,
    /// When the kernel received it, by the clock of [`clock::wall`](super::clock::wall); none if the kernel does not
    /// report it.
    pub at: Option<WallTime>,
}

/// A receiving socket of one family. It receives the groups it joined, each on the interface it was joined on, and
/// packets to this host's addresses if requested.
pub struct Receiver {
    socket: Socket,
    origin: Origin,
}

/// Determines the origin of a packet.
type Origin = fn(&libc::msghdr, &[u8]) -> Option<From>;

impl Receiver {
    /// Opens a socket without memberships. `unicast`: whether it receives packets to addresses of this host; the kernel
    /// delivers these to every such socket.
    ///
    /// # Errors
    /// `EPERM` without the capability NET_RAW; `EAFNOSUPPORT` if the kernel lacks the family.
    pub fn open(family: Family, unicast: bool) -> io::Result<Self> {
        Self::of(family, VRRP, unicast)
    }

    /// As [`Receiver::open`], for IPv4 packets with an authentication header.
    ///
    /// # Errors
    /// As [`Receiver::open`].
    pub fn open_ah(unicast: bool) -> io::Result<Self> {
        Self::of(Family::V4, AH, unicast)
    }

    fn of(family: Family, protocol: i32, unicast: bool) -> io::Result<Self> {
        let kind = Type::RAW.nonblocking().cloexec();
        let socket = Socket::new(domain(family), kind, Some(Protocol::from(protocol)))?;
        match family {
            Family::V4 => {
                socket.set_multicast_all_v4(false)?;
                setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            }
            Family::V6 => {
                socket.set_multicast_all_v6(false)?;
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
                socket.set_recv_hoplimit_v6(true)?;
            }
        }
        // Without it the waiting time of a packet is unknown, see `From::at`.
        let _ = setsockopt(&socket, sockopt::ReceiveTimestampns, &true);
        // Needs NET_ADMIN; without it the kernel's default limit applies.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &QUEUE);
        if unicast {
            bpf::cut_at(&socket, LONGEST)?;
        } else {
            bpf::multicast_cut_at(&socket, family, LONGEST)?;
        }
        let origin = match family {
            Family::V4 => |header: &libc::msghdr, _: &[u8]| origin(header, Family::V4),
            Family::V6 => |header: &libc::msghdr, _: &[u8]| origin(header, Family::V6),
        };
        Ok(Self { socket, origin })
    }

    /// Opens a socket that receives adverts to multicast groups on one interface without being a member of a group: no
    /// membership report is sent. Packets begin with the IP header, for IPv6 too; they have passed neither the kernel's
    /// checks nor a packet filter.
    ///
    /// # Errors
    /// `EPERM` without the capability NET_RAW, `ENODEV` if there is no such interface.
    pub fn overhear(family: Family, interface: IfIndex) -> io::Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking().cloexec(), None)?;
        let _ = setsockopt(&socket, sockopt::ReceiveTimestampns, &true);
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &QUEUE);
        bpf::adverts_cut_at(&socket, family, LONGEST + IPV6_HEADER)?;
        let (kind, origin): (libc::c_int, Origin) = match family {
            Family::V4 => {
                (libc::ETH_P_IP, |header, packet| frame_origin(header, packet, Family::V4))
            }
            Family::V6 => {
                (libc::ETH_P_IPV6, |header, packet| frame_origin(header, packet, Family::V6))
            }
        };
        super::packet::bind(&socket, interface, u16::try_from(kind).unwrap_or(0))?;
        Ok(Self { socket, origin })
    }

    /// The length of its queue, as the kernel counts it.
    #[cfg(test)]
    pub fn queue(&self) -> usize {
        nix::sys::socket::getsockopt(&self.socket, sockopt::RcvBuf).unwrap_or_default()
    }

    /// Sets the length of its queue in octets, at least 4 MiB.
    pub fn resize(&self, queue: usize) {
        let queue = queue.clamp(QUEUE, i32::MAX as usize);
        let _ = setsockopt(&self.socket, sockopt::RcvBufForce, &queue);
    }

    /// Receives `group` on `interface` from now on.
    ///
    /// # Errors
    /// `ENOBUFS` if this socket has the largest allowed number of memberships (`net.ipv4.igmp_max_memberships`),
    /// `EADDRINUSE` if it has this one, `ENODEV` if there is no such interface.
    pub fn join(&self, group: IpAddr, interface: IfIndex) -> io::Result<()> {
        match group {
            IpAddr::V4(group) => self
                .socket
                .join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(interface.0)),
            IpAddr::V6(group) => self.socket.join_multicast_v6(&group, interface.0),
        }
    }

    /// Stops receiving `group` on `interface`.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` or `ENODEV` if it was not a member.
    pub fn leave(&self, group: IpAddr, interface: IfIndex) -> io::Result<()> {
        match group {
            IpAddr::V4(group) => self
                .socket
                .leave_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(interface.0)),
            IpAddr::V6(group) => self.socket.leave_multicast_v6(&group, interface.0),
        }
    }

    /// Receives waiting packets, as many as fit into `batch`; returns their number, 0 if none waits.
    ///
    /// # Errors
    /// Those of `recvmmsg(2)` except `EAGAIN`.
    pub fn receive(&self, batch: &mut Batch) -> io::Result<usize> {
        batch.fill(&self.socket, self.origin)
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A reusable buffer for packets.
pub struct Batch {
    slots: Vec<Slot>,
    headers: Vec<libc::mmsghdr>,
    filled: usize,
}

// SAFETY: the pointers in it are set before each use, into memory that belongs to this value.
unsafe impl Send for Batch {}

struct Slot {
    name: libc::sockaddr_storage,
    vector: libc::iovec,
    control: Control,
    data: [u8; ROOM],
    length: usize,
    from: Option<From>,
}

/// Buffer size for one packet.
const ROOM: usize = (LONGEST + IPV6_HEADER) as usize;

/// Control messages start at the alignment of their header.
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

impl Batch {
    /// Room for 32 packets.
    #[must_use]
    pub fn new() -> Self {
        let mut slots = Vec::with_capacity(BATCH as usize);
        let mut headers = Vec::with_capacity(BATCH as usize);
        for _ in 0..BATCH {
            slots.push(Slot {
                // SAFETY: plain numbers, for which zero bits are valid.
                name: unsafe { core::mem::zeroed() },
                vector: libc::iovec { iov_base: core::ptr::null_mut(), iov_len: 0 },
                control: Control([0; CONTROL]),
                data: [0; ROOM],
                length: 0,
                from: None,
            });
            // SAFETY: numbers and pointers, for which zero bits are valid.
            headers.push(unsafe { core::mem::zeroed() });
        }
        Self { slots, headers, filled: 0 }
    }

    /// The packets received last: IPv4 from the IP header on, IPv6 from the VRRP header on unless overheard. Those
    /// without a reported interface are left out.
    pub fn packets(&self) -> impl Iterator<Item = (From, &[u8])> {
        self.slots
            .iter()
            .take(self.filled)
            .filter_map(|slot| Some((slot.from?, slot.data.get(..slot.length)?)))
    }

    fn fill(&mut self, socket: &Socket, origin: Origin) -> io::Result<usize> {
        self.filled = 0;
        for (slot, header) in self.slots.iter_mut().zip(&mut self.headers) {
            slot.vector =
                libc::iovec { iov_base: slot.data.as_mut_ptr().cast(), iov_len: slot.data.len() };
            let h = &mut header.msg_hdr;
            h.msg_name = (&raw mut slot.name).cast();
            h.msg_namelen = super::size::<libc::sockaddr_storage>();
            h.msg_iov = &raw mut slot.vector;
            h.msg_iovlen = 1;
            h.msg_control = slot.control.0.as_mut_ptr().cast();
            h.msg_controllen = CONTROL as _;
            h.msg_flags = 0;
        }
        // SAFETY: each header points into its slot, set up above with the true lengths; neither vector moves
        // before the call returns, and the kernel keeps no pointer.
        let n = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH,
                libc::MSG_DONTWAIT as _,
                core::ptr::null_mut(),
            )
        };
        let n = match usize::try_from(n) {
            Ok(n) => n,
            Err(_) => {
                let e = io::Error::last_os_error();
                return match e.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
                    _ => Err(e),
                };
            }
        };
        for (slot, header) in self.slots.iter_mut().zip(&self.headers).take(n) {
            slot.length = (header.msg_len as usize).min(ROOM);
            let packet = slot.data.get(..slot.length).unwrap_or_default();
            slot.from = origin(&header.msg_hdr, packet);
        }
        self.filled = n;
        Ok(n)
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

/// The origin of a packet from a packet socket.
fn frame_origin(header: &libc::msghdr, packet: &[u8], family: Family) -> Option<From> {
    if (header.msg_namelen as usize) < core::mem::offset_of!(libc::sockaddr_ll, sll_addr) {
        return None;
    }
    // SAFETY: msg_name points to a live sockaddr_storage, which is larger; the part read was written by the kernel.
    let name = unsafe { header.msg_name.cast::<libc::sockaddr_ll>().read() };
    let interface = IfIndex(u32::try_from(name.sll_ifindex).ok()?);
    let (source, destination, hop_limit) = match family {
        Family::V4 => {
            let at = |place: usize| {
                let octets = packet.get(place..place + 4)?;
                Some(IpAddr::from(<[u8; 4]>::try_from(octets).ok()?))
            };
            (at(12)?, at(16)?, 0)
        }
        Family::V6 => {
            let at = |place: usize| {
                let octets = packet.get(place..place + 16)?;
                Some(IpAddr::from(<[u8; 16]>::try_from(octets).ok()?))
            };
            (at(8)?, at(24)?, *packet.get(7)?)
        }
    };
    Some(From { interface, source, destination, hop_limit, at: control(header).stamp })
}

/// Reads the sender's address and the control messages of a header that the kernel filled in.
fn origin(header: &libc::msghdr, family: Family) -> Option<From> {
    let source = match family {
        Family::V4 if header.msg_namelen as usize >= size_of::<libc::sockaddr_in>() => {
            // SAFETY: msg_name points to a live sockaddr_storage, into which the kernel wrote this many octets.
            let name = unsafe { header.msg_name.cast::<libc::sockaddr_in>().read() };
            IpAddr::V4(Ipv4Addr::from_bits(u32::from_be(name.sin_addr.s_addr)))
        }
        Family::V6 if header.msg_namelen as usize >= size_of::<libc::sockaddr_in6>() => {
            // SAFETY: as above.
            let name = unsafe { header.msg_name.cast::<libc::sockaddr_in6>().read() };
            IpAddr::V6(Ipv6Addr::from(name.sin6_addr.s6_addr))
        }
        _ => return None,
    };
    let Told { interface, destination, hop_limit, stamp } = control(header);
    let interface = IfIndex(interface?);
    Some(From { interface, source, destination: destination?, hop_limit, at: stamp })
}

/// The content of control messages.
#[derive(Default)]
struct Told {
    interface: Option<u32>,
    destination: Option<IpAddr>,
    hop_limit: u8,
    stamp: Option<WallTime>,
}

/// Reads the control messages of a header that the kernel filled in.
fn control(header: &libc::msghdr) -> Told {
    let mut told = Told::default();
    let Told { interface, destination, hop_limit, stamp } = &mut told;
    // SAFETY: the header's control pointer and length describe a live buffer that the kernel filled in; the
    // walk below stays within it by the macros' own checks.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !at.is_null() {
        // SAFETY: not null, so it points to a complete header.
        let message = unsafe { at.read() };
        // SAFETY: as above.
        let data = unsafe { libc::CMSG_DATA(at) };
        // SAFETY: a plain computation.
        let room =
            (message.cmsg_len as usize).saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
        match (message.cmsg_level, message.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) if room >= size_of::<libc::in_pktinfo>() => {
                // SAFETY: the message is that long; it need not be aligned for the type.
                let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
                *interface = u32::try_from(info.ipi_ifindex).ok();
                let bits = u32::from_be(info.ipi_addr.s_addr);
                *destination = Some(IpAddr::V4(Ipv4Addr::from_bits(bits)));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if room >= size_of::<libc::in6_pktinfo>() => {
                // SAFETY: as above.
                let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
                *interface = Some(info.ipi6_ifindex);
                *destination = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) if room >= size_of::<libc::c_int>() => {
                // SAFETY: as above.
                let limit = unsafe { data.cast::<libc::c_int>().read_unaligned() };
                *hop_limit = u8::try_from(limit).unwrap_or(0);
            }
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) if room >= size_of::<libc::timespec>() => {
                // SAFETY: as above.
                let time = unsafe { data.cast::<libc::timespec>().read_unaligned() };
                *stamp = Some(WallTime {
                    secs: u64::try_from(time.tv_sec).unwrap_or(0),
                    nanos: u32::try_from(time.tv_nsec).unwrap_or(0),
                });
            }
            _ => {}
        }
        // SAFETY: `at` is a header within the buffer that `header` describes.
        at = unsafe { libc::CMSG_NXTHDR(header, at) };
    }
    told
}

/// A sending socket of one family. Receives nothing.
pub struct Sender {
    socket: Socket,
}

impl Sender {
    /// Opens the socket. IPv4 packets include their header; the kernel fills in its checksum. IPv6 packets begin with
    /// the VRRP header, whose checksum the kernel fills in; they are sent with hop limit 255.
    ///
    /// # Errors
    /// `EPERM` without the capability NET_RAW; `EAFNOSUPPORT` where the kernel lacks the family.
    pub fn open(family: Family) -> io::Result<Self> {
        let socket = Socket::new(
            domain(family),
            Type::RAW.nonblocking().cloexec(),
            Some(Protocol::from(VRRP)),
        )?;
        bpf::drop_all(&socket)?;
        // The class of control traffic (TC_PRIO_CONTROL): the first band of the usual queues.
        socket.set_priority(7)?;
        match family {
            Family::V4 => {
                socket.set_header_included_v4(true)?;
                socket.set_multicast_loop_v4(false)?;
            }
            Family::V6 => {
                socket.set_multicast_loop_v6(false)?;
                socket.set_multicast_hops_v6(255)?;
                socket.set_unicast_hops_v6(255)?;
                // Class selector 6, as for IPv4 (keepalived's).
                socket.set_tclass_v6(0xc0)?;
                // The offset of the checksum in the VRRP header.
                set_v6(&socket, libc::IPV6_CHECKSUM, 6)?;
                // A farewell is sent from the address that others know, although it was just removed. Over IPv4 the
                // included header does that.
                set_v6(&socket, libc::IPV6_FREEBIND, 1)?;
            }
        }
        Ok(Self { socket })
    }

    /// Sends one packet from `source` by `interface`; over IPv6 with this hop limit, over IPv4 with that of the header.
    /// Never waits and allocates nothing.
    ///
    /// # Errors
    /// Those of `sendmsg(2)`: `ENETDOWN`, `ENETUNREACH`, `ENODEV`, `EADDRNOTAVAIL`, `ENOBUFS`, `EAGAIN`, and
    /// `EAFNOSUPPORT` if the addresses have different families.
    pub fn send(
        &self,
        interface: IfIndex,
        source: IpAddr,
        destination: IpAddr,
        hop_limit: u8,
        packet: &[u8],
    ) -> io::Result<()> {
        let index = i32::try_from(interface.0).map_err(|_| io::ErrorKind::InvalidInput)?;
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                // SAFETY: plain numbers, for which zero bits are valid.
                let mut to: libc::sockaddr_in = unsafe { core::mem::zeroed() };
                to.sin_family = super::family(libc::AF_INET);
                to.sin_addr.s_addr = destination.to_bits().to_be();
                let info = libc::in_pktinfo {
                    ipi_ifindex: index,
                    ipi_spec_dst: libc::in_addr { s_addr: source.to_bits().to_be() },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                self.send_with(&to, (libc::IPPROTO_IP, libc::IP_PKTINFO, &info), None, packet)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                // SAFETY: plain numbers, for which zero bits are valid.
                let mut to: libc::sockaddr_in6 = unsafe { core::mem::zeroed() };
                to.sin6_family = super::family(libc::AF_INET6);
                to.sin6_addr.s6_addr = destination.octets();
                to.sin6_scope_id = interface.0;
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: source.octets() },
                    ipi6_ifindex: index as _,
                };
                let hops = (hop_limit != u8::MAX).then_some(libc::c_int::from(hop_limit));
                self.send_with(&to, (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info), hops, packet)
            }
            _ => Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
        }
    }

    /// `to` is a socket address; `info` one of the two structures of packet information; `hops` the hop limit of IPv6
    /// if it is not the socket's.
    fn send_with<A, I: Copy>(
        &self,
        to: &A,
        (level, kind, info): (i32, i32, &I),
        hops: Option<libc::c_int>,
        packet: &[u8],
    ) -> io::Result<()> {
        let mut control = Control([0; CONTROL]);
        let mut vector =
            libc::iovec { iov_base: packet.as_ptr().cast_mut().cast(), iov_len: packet.len() };
        // SAFETY: numbers and pointers, for which zero bits are valid.
        let mut header: libc::msghdr = unsafe { core::mem::zeroed() };
        header.msg_name = core::ptr::from_ref(to).cast_mut().cast();
        header.msg_namelen = super::size::<A>();
        header.msg_iov = &raw mut vector;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: plain computations; 64 octets at most, of 128.
        let (first, second) = unsafe {
            (libc::CMSG_SPACE(super::size::<I>()), libc::CMSG_SPACE(super::size::<libc::c_int>()))
        };
        header.msg_controllen = (if hops.is_some() { first + second } else { first }) as _;
        // SAFETY: the control buffer is live, aligned and holds the space computed above, so the first header
        // exists and its data has room for an `I`.
        unsafe {
            let message = libc::CMSG_FIRSTHDR(&raw const header);
            (*message).cmsg_level = level;
            (*message).cmsg_type = kind;
            (*message).cmsg_len = libc::CMSG_LEN(super::size::<I>()) as _;
            libc::CMSG_DATA(message).cast::<I>().write_unaligned(*info);
        }
        if let Some(hops) = hops {
            // SAFETY: as above: the space for a second header with a number was counted in, and lies behind the
            // first one, whose length is set.
            unsafe {
                let message =
                    libc::CMSG_NXTHDR(&raw const header, libc::CMSG_FIRSTHDR(&raw const header));
                (*message).cmsg_level = libc::IPPROTO_IPV6;
                (*message).cmsg_type = libc::IPV6_HOPLIMIT;
                (*message).cmsg_len = libc::CMSG_LEN(super::size::<libc::c_int>()) as _;
                libc::CMSG_DATA(message).cast::<libc::c_int>().write_unaligned(hops);
            }
        }
        // SAFETY: everything the header points to is live until the call returns; the kernel only reads it.
        let sent = unsafe {
            libc::sendmsg(self.socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn set_v6(socket: &Socket, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the option value is a live int of the length given.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            option,
            (&raw const value).cast(),
            super::size::<libc::c_int>(),
        )
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

const fn domain(family: Family) -> Domain {
    match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    }
}

#[cfg(test)]
mod tests;
