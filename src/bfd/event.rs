//! The inputs of the engine, and the actions it requests.

use core::net::IpAddr;

use crate::base::Name;
use crate::model::extras::Bfd;
use crate::wire::bfd::LENGTH;

/// An input of the engine. `now` never decreases. Packets that were received before a timer fell due are passed on
/// before it, so that a stall of this process does not look like the silence of a neighbor.
#[derive(Debug)]
pub enum Event<'a> {
    /// A control packet was received: the payload of a UDP datagram.
    Packet { rx: Rx, octets: &'a [u8] },
    /// The time from `Engine::deadline` is reached.
    Timer,
    /// Reports whether packets of a session can be sent.
    Sent { session: SessionId, works: bool },
    /// The sessions to run from now on. Unchanged ones are unaffected.
    Reload(Vec<Bfd>),
    /// Ends all sessions.
    Stop,
}

/// How a packet was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rx {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Its received TTL or hop limit.
    pub ttl: u8,
    /// It was sent to the port for several hops (4784), not to that for one (3784).
    pub multihop: bool,
}

/// An action for the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A session was added: create its socket.
    Open { session: SessionId, to: IpAddr, from: Option<IpAddr>, multihop: bool },
    /// A session was removed: close its socket.
    Close { session: SessionId },
    /// Send this packet with this TTL or hop limit.
    Send { session: SessionId, ttl: u8, packet: [u8; LENGTH] },
    /// Pass this report to the trackers of a session.
    Tell(Report),
}

/// A report about a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Name of its `bfd_instance`.
    pub name: Name,
    /// Whether it is up.
    pub up: bool,
    /// The roles that track it.
    pub for_vrrp: bool,
    pub for_checker: bool,
}

/// Identifies a session; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u32);
