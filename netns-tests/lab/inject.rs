//! Handmade frames, sent unchanged.

use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg, sendmsg, socket,
};

use super::frame::{Advert, sum};
use super::node::Node;
use super::timeline::Patience;
use super::{Res, fail};

/// The source address of the frames, which no machine has.
const SOURCE_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x66];

/// Sends frames out of one interface of a node.
pub struct Injector {
    node: Node,
    fd: std::sync::Arc<OwnedFd>,
    /// The address of the interface for sending.
    interface: LinkAddr,
}

/// An advert of version 2 with PASS authentication, which tests modify in one place at a time. By default it is valid
/// for the failover scenario, with a priority above that of both nodes.
#[derive(Clone, Debug)]
pub struct Forged {
    pub source: Ipv4Addr,
    pub target: Ipv4Addr,
    pub ttl: u8,
    pub protocol: u8,
    /// Version and type.
    pub kind: u8,
    pub vrid: u8,
    pub priority: u8,
    pub count: u8,
    pub auth_type: u8,
    pub interval: u8,
    pub addresses: Vec<Ipv4Addr>,
    pub password: Vec<u8>,
    /// Added to the correct checksum.
    pub checksum_error: u16,
    /// Added to the total length in the IP header.
    pub length_error: i16,
    /// Octets after the packet: padding of the frame.
    pub trailer: Vec<u8>,
    /// Number of octets kept of the VRRP packet.
    pub keep: usize,
    /// Options of the IP header, a multiple of four octets.
    pub options: Vec<u8>,
    /// Flags and offset of the fragment.
    pub fragment: u16,
}

impl Default for Forged {
    fn default() -> Self {
        Self {
            source: Ipv4Addr::new(10, 0, 0, 66),
            target: Ipv4Addr::new(224, 0, 0, 18),
            ttl: 255,
            protocol: 112,
            kind: 0x21,
            vrid: 41,
            priority: 254,
            count: 1,
            auth_type: 1,
            interval: 1,
            addresses: vec![Ipv4Addr::new(10, 0, 0, 100)],
            password: b"1066\0\0\0\0".to_vec(),
            checksum_error: 0,
            length_error: 0,
            trailer: Vec::new(),
            keep: usize::MAX,
            options: Vec::new(),
            fragment: 0,
        }
    }
}

impl Forged {
    /// The VRRP packet.
    pub fn payload(&self) -> Vec<u8> {
        let mut packet = vec![
            self.kind,
            self.vrid,
            self.priority,
            self.count,
            self.auth_type,
            self.interval,
            0,
            0,
        ];
        packet.extend(self.addresses.iter().flat_map(Ipv4Addr::octets));
        packet.extend(&self.password);
        let checksum = (!sum(&packet)).wrapping_add(self.checksum_error);
        packet[6..8].copy_from_slice(&checksum.to_be_bytes());
        packet.truncate(self.keep);
        packet
    }

    /// The whole frame.
    pub fn frame(&self) -> Vec<u8> {
        let payload = self.payload();
        let header = 20 + self.options.len();
        let length = i32::try_from(header + payload.len()).unwrap_or_default();
        let length = (length + i32::from(self.length_error)) as u16;
        let mut packet = vec![0x40 | (header / 4) as u8, 0xc0];
        packet.extend(length.to_be_bytes());
        packet.extend([0, 1]);
        packet.extend(self.fragment.to_be_bytes());
        packet.extend([self.ttl, self.protocol, 0, 0]);
        packet.extend(self.source.octets());
        packet.extend(self.target.octets());
        packet.extend(&self.options);
        let checksum = !sum(&packet);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        packet.extend(payload);
        packet.extend(&self.trailer);
        ethernet(self.target, &packet)
    }
}

impl Injector {
    pub fn new(node: &Node, interface: &'static str) -> Res<Self> {
        let (fd, address) = node.run(move || open(interface))??;
        Ok(Self { node: node.clone(), fd: std::sync::Arc::new(fd), interface: address })
    }

    /// Sends frames one after the other.
    pub fn send(&self, frames: Vec<Vec<u8>>) -> Res {
        let (fd, to) = (std::sync::Arc::clone(&self.fd), self.interface);
        self.node.run(move || -> Res {
            for frame in frames {
                let parts = [IoSlice::new(&frame)];
                sendmsg(fd.as_raw_fd(), &parts, &[], MsgFlags::empty(), Some(&to))?;
            }
            Ok(())
        })?
    }
}

impl Injector {
    /// Sends a frame repeatedly for `duration`; returns how often.
    pub fn flood(&self, frame: Vec<u8>, duration: Duration) -> Res<u64> {
        let (fd, to) = (std::sync::Arc::clone(&self.fd), self.interface);
        self.node.run(move || -> Res<u64> {
            let (end, mut sent) = (Instant::now() + duration, 0);
            while Instant::now() < end {
                for _ in 0..64 {
                    let parts = [IoSlice::new(&frame)];
                    sendmsg(fd.as_raw_fd(), &parts, &[], MsgFlags::empty(), Some(&to))?;
                    sent += 1;
                }
            }
            Ok(sent)
        })?
    }
}

/// A frame with this IPv4 packet to a multicast group.
pub fn ethernet(target: Ipv4Addr, packet: &[u8]) -> Vec<u8> {
    let [_, b, c, d] = target.octets();
    let mut frame = vec![0x01, 0x00, 0x5e, b & 0x7f, c, d];
    frame.extend(SOURCE_MAC);
    frame.extend([8, 0]);
    frame.extend(packet);
    frame
}

/// The frame of an advert over IPv4 that was sent before, to send it again; none for one over IPv6.
pub fn again(advert: &Advert) -> Option<Vec<u8>> {
    let (IpAddr::V4(source), IpAddr::V4(target)) = (advert.source, advert.target) else {
        return None;
    };
    let protocol = if advert.authentication.is_empty() { 112 } else { 51 };
    let length = 20 + advert.authentication.len() + advert.payload.len();
    let mut packet = vec![0x45, advert.tos];
    packet.extend((length as u16).to_be_bytes());
    packet.extend(advert.id.to_be_bytes());
    packet.extend([0, 0, advert.ttl, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(target.octets());
    let checksum = !sum(&packet);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(&advert.authentication);
    packet.extend(&advert.payload);
    Some(ethernet(target, &packet))
}

/// An advert of version 3 over IPv6, modified like a [`Forged`]. By default it is valid for VRID 41 and fe80::100.
#[derive(Clone, Debug)]
pub struct Forged6 {
    pub hop_limit: u8,
    /// Version and type.
    pub kind: u8,
    pub vrid: u8,
    pub count: u8,
    /// Added to the correct checksum.
    pub checksum_error: u16,
    /// Extension headers: the number of the first, then all, of which the last names protocol 112.
    pub extension: Option<(u8, Vec<u8>)>,
    /// Number of octets kept of the VRRP packet.
    pub keep: usize,
}

impl Default for Forged6 {
    fn default() -> Self {
        Self {
            hop_limit: 255,
            kind: 0x31,
            vrid: 41,
            count: 1,
            checksum_error: 0,
            extension: None,
            keep: usize::MAX,
        }
    }
}

impl Forged6 {
    /// The whole frame.
    pub fn frame(&self) -> Vec<u8> {
        let source = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x66).octets();
        let target = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12).octets();
        let address = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x100).octets();
        let mut payload = vec![self.kind, self.vrid, 254, self.count, 0, 100, 0, 0];
        payload.extend(address);
        payload.truncate(self.keep);
        let length = payload.len() as u16;
        let mut covered = [source, target].concat();
        covered.extend([0, 0, (length >> 8) as u8, length as u8, 0, 0, 0, 112]);
        covered.extend(&payload);
        let checksum = (!sum(&covered)).wrapping_add(self.checksum_error).to_be_bytes();
        if let Some(field) = payload.get_mut(6..8) {
            field.copy_from_slice(&checksum);
        }
        let (first, headers) = self.extension.clone().unwrap_or((112, Vec::new()));
        let mut frame = vec![0x33, 0x33, 0, 0, 0, 0x12];
        frame.extend(SOURCE_MAC);
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend((length + headers.len() as u16).to_be_bytes());
        frame.extend([first, self.hop_limit]);
        frame.extend(source);
        frame.extend(target);
        frame.extend(headers);
        frame.extend(payload);
        frame
    }
}

/// A packet socket and the address of the interface, learned from a frame that the kernel itself sends.
fn open(interface: &str) -> Res<(OwnedFd, LinkAddr)> {
    let index = usize::try_from(if_nametoindex(interface)?)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
    let patience = Patience::new(Duration::from_secs(5));
    while !patience.left().is_zero() {
        let prompt = UdpSocket::bind("0.0.0.0:0")?;
        prompt.set_broadcast(true)?;
        prompt
            .send_to(b"", "255.255.255.255:9")
            .or_else(|_| prompt.send_to(b"", "10.0.0.255:9"))?;
        let mut ready = [PollFd::new(std::os::fd::AsFd::as_fd(&fd), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::from(100u8))?;
        let mut buffer = [0; 64];
        let mut parts = [std::io::IoSliceMut::new(&mut buffer)];
        while let Ok(message) =
            recvmsg::<LinkAddr>(fd.as_raw_fd(), &mut parts, None, MsgFlags::empty())
        {
            if let Some(address) = message.address.filter(|address| address.ifindex() == index) {
                // From now on it is only sent to, and waits while the kernel has no room for another frame.
                fcntl(&fd, FcntlArg::F_SETFL(OFlag::empty()))?;
                return Ok((fd, address));
            }
        }
    }
    Err(fail(format!("no frame was seen on {interface}")))
}
