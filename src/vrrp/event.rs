//! Everything that can happen to the engine.

use core::net::IpAddr;
use std::sync::Arc;

use crate::base::{IfIndex, Name, WallTime};
use crate::model::Vrrp;
use crate::plan::{Change, Outcome, Token};
pub use crate::plan::{Link, Snapshot};
pub use crate::status::RunEnd;
use crate::status::vrrp::Summary;

/// Something that happened.
///
/// The driver's duties: `now` never goes back; the adverts that were received when [`Event::Timer`] fell due are
/// handed over before it, so that a process that was stalled hears what it missed before it decides that its
/// master is silent. [`Event::Adverts`] may come at any time, also between received adverts.
#[derive(Debug)]
pub enum Event<'a> {
    /// A packet of IP protocol 112 came in.
    Advert {
        /// Where it came from.
        rx: Rx,
        /// IPv4: from the IP header on, as a raw socket gives it. IPv6: from the VRRP header on.
        packet: &'a [u8],
    },
    /// The deadline that `Engine::deadline` gave is reached.
    Timer,
    /// The deadline that `Engine::advert_deadline` gave is reached: masters send their adverts, nothing else.
    Adverts,
    /// All links and objects: the first snapshot starts the instances; later ones replace all that single events told
    /// (after the kernel dropped some).
    Kernel(Snapshot),
    /// A link appeared or changed.
    Link(Link),
    /// A link is gone.
    LinkGone(IfIndex),
    /// An address, a route or the like was added or removed. Additions of our own need not be told, they come as
    /// [`Event::Applied`]; removals must be: with a primary address the kernel drops its secondary ones.
    Object(Change),
    /// The kernel answered one operation of an `Action::Apply`.
    Applied {
        token: Token,
        /// Position in its list.
        item: u32,
        /// The answer.
        outcome: Outcome,
    },
    /// The answer to `Action::Join`.
    Joined {
        interface: IfIndex,
        group: IpAddr,
        /// The answer.
        outcome: Outcome,
    },
    /// The socket refused an advert.
    Unsent {
        instance: InstanceId,
        destination: IpAddr,
        /// Error number, positive.
        errno: i32,
    },
    /// A run of a tracking script ended.
    Ran {
        run: RunId,
        /// How it ended.
        end: RunEnd,
    },
    /// The runner started (again): what it was asked to run before is lost.
    RunnerReady,
    /// The time of day. Told at the start, and after it was set; needed where adverts carry it (`auth_hmac`).
    TimeOfDay(WallTime),
    /// Whether the kernel's IPVS can be written. Told before the first configuration if it is known then, and whenever
    /// it changes.
    Ipvs { works: bool },
    /// The number in a `track_file`: told before the first election decision and whenever it changes. A name that the
    /// configuration does not have may be that of the next one.
    File { name: Name, value: i32 },
    /// Whether as many processes run as a `vrrp_track_process` wants, and how many do. As above.
    Process { name: Name, runs: bool, count: u32 },
    /// What the last process of this role told the supervisor. Comes before the first configuration or not at
    /// all.
    Resume(Summary),
    /// This process is there only to undo what the last one did, and is told to leave next. Comes before the first
    /// configuration or not at all: then nothing enters a state, and masters of the last process say farewell.
    Undo,
    /// The configuration to carry out from now on, checked and complete.
    Reload(Arc<Vrrp>),
    /// Leave: send priority 0, remove the addresses, answer with `Action::Done`.
    Stop {
        /// `--dont-release-vrrp`: leave addresses in place and send no priority 0.
        keep_addresses: bool,
    },
}

/// Where a packet came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rx {
    /// The interface it came in on.
    pub interface: IfIndex,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IPv6 hop limit; for IPv4 the packet itself holds the TTL and this is not looked at.
    pub hop_limit: u8,
}

/// Which instance an action belongs to; stable as long as the instance exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u32);

/// Which run of a script a result belongs to; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);
