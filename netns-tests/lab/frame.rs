//! Frames on the wire, decoded independently: the product's decoder must not confirm what the product sent.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    pub const BROADCAST: Self = Self([0xff; 6]);
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([a, b, c, d, e, g]) = self;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The frames that tests examine; others are not recorded.
#[derive(Clone, Debug)]
pub enum Frame {
    Advert(Advert),
    Arp(Arp),
    /// An unsolicited neighbour advertisement.
    Neighbour(Neighbour),
    /// The first two segments of a TCP connection.
    Tcp(Tcp),
    /// A membership report or leave message: the group, and whether it is left.
    Igmp {
        from: Mac,
        source: Ipv4Addr,
    },
    /// A report of multicast listeners (IPv6).
    Mld {
        from: Mac,
    },
}

/// A packet of protocol 112.
#[derive(Clone, Debug)]
pub struct Advert {
    pub from: Mac,
    pub to: Mac,
    pub source: IpAddr,
    pub target: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    /// Identification in the IPv4 header.
    pub id: u16,
    /// The IP authentication header; empty if there is none.
    pub authentication: Vec<u8>,
    /// The content after that, without Ethernet padding.
    pub payload: Vec<u8>,
}

#[derive(Clone, Debug)]
pub struct Arp {
    pub from: Mac,
    pub to: Mac,
    /// 1 request, 2 reply.
    pub operation: u16,
    pub sender_mac: Mac,
    pub sender: Ipv4Addr,
    pub target_mac: Mac,
    pub target: Ipv4Addr,
    /// Length of the frame in octets.
    pub length: usize,
}

#[derive(Clone, Debug)]
pub struct Neighbour {
    pub from: Mac,
    pub to: Mac,
    pub hop_limit: u8,
    pub source: Ipv6Addr,
    pub target: Ipv6Addr,
    pub overrides: bool,
    pub solicited: bool,
}

#[derive(Clone, Debug)]
pub struct Tcp {
    pub source: IpAddr,
    pub source_port: u16,
    pub target: IpAddr,
    pub target_port: u16,
    /// SYN and ACK rather than SYN alone.
    pub answer: bool,
}

impl Frame {
    /// Decodes an Ethernet frame; none for a frame that no test examines.
    pub fn read(frame: &[u8]) -> Option<Self> {
        let to = Mac(array(frame, 0)?);
        let from = Mac(array(frame, 6)?);
        let body = frame.get(14..)?;
        match u16::from_be_bytes(array(frame, 12)?) {
            0x0800 => Self::ipv4(from, to, body),
            0x86dd => Self::ipv6(from, to, body),
            0x0806 => Some(Self::Arp(Arp {
                from,
                to,
                operation: u16::from_be_bytes(array(body, 6)?),
                sender_mac: Mac(array(body, 8)?),
                sender: array::<4>(body, 14)?.into(),
                target_mac: Mac(array(body, 18)?),
                target: array::<4>(body, 24)?.into(),
                length: frame.len(),
            })),
            _ => None,
        }
    }

    fn ipv4(from: Mac, to: Mac, packet: &[u8]) -> Option<Self> {
        let header = usize::from(packet.first()? & 15) * 4;
        let length = usize::from(u16::from_be_bytes(array(packet, 2)?)).min(packet.len());
        let source: Ipv4Addr = array::<4>(packet, 12)?.into();
        let target: Ipv4Addr = array::<4>(packet, 16)?.into();
        let payload = packet.get(header..length)?;
        match packet.get(9)? {
            2 => Some(Self::Igmp { from, source }),
            6 => tcp(source.into(), target.into(), payload),
            51 | 112 => {
                let room = if packet.get(9)? == &51 { 24 } else { 0 };
                Some(Self::Advert(Advert {
                    from,
                    to,
                    source: source.into(),
                    target: target.into(),
                    ttl: *packet.get(8)?,
                    tos: *packet.get(1)?,
                    id: u16::from_be_bytes(array(packet, 4)?),
                    authentication: payload.get(..room)?.to_vec(),
                    payload: payload.get(room..)?.to_vec(),
                }))
            }
            _ => None,
        }
    }

    fn ipv6(from: Mac, to: Mac, packet: &[u8]) -> Option<Self> {
        let length = usize::from(u16::from_be_bytes(array(packet, 4)?)) + 40;
        let source: Ipv6Addr = array::<16>(packet, 8)?.into();
        let target: Ipv6Addr = array::<16>(packet, 24)?.into();
        let payload = packet.get(40..length.min(packet.len()))?;
        match packet.get(6)? {
            6 => tcp(source.into(), target.into(), payload),
            58 if payload.first() == Some(&136) => {
                let flags = payload.get(4)?;
                Some(Self::Neighbour(Neighbour {
                    from,
                    to,
                    hop_limit: *packet.get(7)?,
                    source,
                    target: array::<16>(payload, 8)?.into(),
                    overrides: flags & 0x20 != 0,
                    solicited: flags & 0x40 != 0,
                }))
            }
            // After the hop-by-hop options with the router alert.
            0 if matches!(payload.get(8), Some(131 | 132 | 143)) => Some(Self::Mld { from }),
            112 => Some(Self::Advert(Advert {
                from,
                to,
                source: source.into(),
                target: target.into(),
                ttl: *packet.get(7)?,
                tos: (packet.first()? << 4) | (packet.get(1)? >> 4),
                id: 0,
                authentication: Vec::new(),
                payload: payload.to_vec(),
            })),
            _ => None,
        }
    }
}

impl Advert {
    fn octet(&self, at: usize) -> u8 {
        self.payload.get(at).copied().unwrap_or_default()
    }

    pub fn version(&self) -> u8 {
        self.octet(0) >> 4
    }

    pub fn vrid(&self) -> u8 {
        self.octet(1)
    }

    pub fn priority(&self) -> u8 {
        self.octet(2)
    }

    /// The sum of version 2: zero when the checksum in the packet is right.
    pub fn sum(&self) -> u16 {
        !sum(&self.payload)
    }
}

/// The 16-bit one's complement sum of the octets, padded with a zero.
pub fn sum(octets: &[u8]) -> u16 {
    let mut total = 0u32;
    for pair in octets.chunks(2) {
        let low = pair.get(1).copied().unwrap_or_default();
        total += u32::from(u16::from_be_bytes([pair[0], low]));
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

impl Arp {
    /// Whether this is the announcement of `address` in keepalived's form: a broadcast request for one's own address.
    pub fn announces(&self, address: Ipv4Addr) -> bool {
        self.to == Mac::BROADCAST
            && self.operation == 1
            && self.sender == address
            && self.target == address
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Advert(a) => {
                let hex: String = a.payload.iter().map(|b| format!("{b:02x}")).collect();
                write!(
                    f,
                    "VRRPv{} {} > {}, ttl {}, vrid {}, prio {}, {hex}",
                    a.version(),
                    a.source,
                    a.target,
                    a.ttl,
                    a.vrid(),
                    a.priority()
                )
            }
            Self::Arp(a) if a.sender == a.target => {
                write!(f, "gratuitous ARP {} is at {:?}, to {:?}", a.sender, a.sender_mac, a.to)
            }
            Self::Arp(a) if a.operation == 1 => {
                write!(f, "ARP who has {}, tell {}", a.target, a.sender)
            }
            Self::Arp(a) => write!(f, "ARP {} is at {:?}", a.sender, a.sender_mac),
            Self::Neighbour(n) => write!(f, "neighbour advert {} from {:?}", n.target, n.from),
            Self::Tcp(t) => write!(
                f,
                "TCP {} {}:{} > {}:{}",
                if t.answer { "SYN,ACK" } else { "SYN" },
                t.source,
                t.source_port,
                t.target,
                t.target_port
            ),
            Self::Mld { from } => write!(f, "MLD from {from:?}"),
            Self::Igmp { source, .. } => write!(f, "IGMP from {source}"),
        }
    }
}

fn tcp(source: IpAddr, target: IpAddr, segment: &[u8]) -> Option<Frame> {
    let flags = segment.get(13)?;
    (flags & 2 != 0).then_some(())?;
    Some(Frame::Tcp(Tcp {
        source,
        source_port: u16::from_be_bytes(array(segment, 0)?),
        target,
        target_port: u16::from_be_bytes(array(segment, 2)?),
        answer: flags & 0x10 != 0,
    }))
}

fn array<const N: usize>(octets: &[u8], at: usize) -> Option<[u8; N]> {
    octets.get(at..at + N)?.try_into().ok()
}
