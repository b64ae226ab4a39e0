//! What can happen to the engine, and what it asks for.

use core::net::IpAddr;

use crate::base::Name;
use crate::model::extras::Bfd;
use crate::wire::bfd::LENGTH;

/// Something that happened. `now` never goes back. Packets that were received when a timer fell due are handed over before
/// it, so that a process that was stalled hears what it missed before it decides that a neighbor is silent.
#[derive(Debug)]
pub enum Event<'a> {
    /// A control packet came in: the payload of a UDP datagram.
    Packet { rx: Rx, octets: &'a [u8] },
    /// The deadline that `Engine::deadline` gave is reached.
    Timer,
    /// Packets of a session can or cannot be sent.
    Sent { session: SessionId, works: bool },
    /// The sessions to have from now on. Those that stay the same are not touched.
    Reload(Vec<Bfd>),
    /// All sessions end.
    Stop,
}

/// How a packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rx {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// TTL or hop limit with which it arrived.
    pub ttl: u8,
    /// It came to the port for several hops (4784), not to that for one (3784).
    pub multihop: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A session is new: make it a socket.
    Open { session: SessionId, to: IpAddr, from: Option<IpAddr>, multihop: bool },
    /// It is gone.
    Close { session: SessionId },
    /// Send this packet with this TTL or hop limit.
    Send { session: SessionId, ttl: u8, packet: [u8; LENGTH] },
    /// Tell those who track it.
    Tell(Report),
}

/// What there is to tell of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Name of its `bfd_instance`.
    pub name: Name,
    /// Whether it is up.
    pub up: bool,
    /// Who wants to know.
    pub for_vrrp: bool,
    pub for_checker: bool,
}

/// Which session; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u32);
