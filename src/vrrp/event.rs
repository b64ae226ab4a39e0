//! Everything that can happen to the engine.

use core::net::IpAddr;
use std::sync::Arc;

use crate::base::{IfIndex, WallTime};
use crate::model::Vrrp;
use crate::plan::{Change, Outcome, Token};
pub use crate::plan::{Link, Snapshot};
pub use crate::status::RunEnd;
use crate::status::TrackReport;
use crate::status::vrrp::Summary;

/// Something that happened.
///
/// The driver's duties: `now` never goes back; the adverts that were received when [`Event::Timer`] fell due are handed
/// over before it, so that a process that was stalled processes what it missed before it decides that its master is
/// silent. [`Event::Adverts`] may come at any time, also between received adverts.
#[derive(Debug)]
pub enum Event<'a> {
    /// A packet of IP protocol 112 came in.
    Advert {
        /// Where it came from.
        rx: Rx,
        /// IPv4: from the IP header on, as a raw socket gives it. IPv6: from the VRRP header on.
        packet: &'a [u8],
    },
    /// The deadline of `Engine::deadline` is reached.
    Timer,
    /// The deadline of `Engine::advert_deadline` is reached: masters send their adverts, as many as fit into one step;
    /// nothing else happens.
    Adverts,
    /// All links and objects: the first snapshot starts the instances; later ones replace what single events reported
    /// (used after the kernel dropped events).
    Kernel(Snapshot),
    /// A link appeared or changed.
    Link(Link),
    /// A link is gone.
    LinkGone(IfIndex),
    /// An address, a route or another object was added or removed. Our own additions need not be reported, since
    /// [`Event::Applied`] does that; removals must be: together with a primary address the kernel removes its secondary
    /// ones.
    Object(Change),
    /// The kernel answered one operation of an `Action::Apply`.
    Applied {
        token: Token,
        /// Its position in the action's list.
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
    /// The runner was started (again): earlier requests are lost.
    RunnerReady,
    /// The time of day. Reported at the start and after it was set; needed if adverts carry it (`auth_hmac`).
    TimeOfDay(WallTime),
    /// Whether the kernel's IPVS can be written. Reported before the first configuration if known by then, and whenever
    /// it changes.
    Ipvs { works: bool },
    /// What was observed of an object that is tracked by name: the number in a file, whether enough processes run,
    /// whether a BFD session is up. Reported before the first election decision and whenever it changes. A name that is
    /// not configured may belong to the next configuration.
    Report(TrackReport),
    /// What the previous process of this role reported to the supervisor. Comes before the first configuration or not
    /// at all.
    Resume(Summary),
    /// This process only undoes what the previous one did, and is stopped next. Comes before the first configuration or
    /// not at all: no instance enters a state, and a farewell is sent for the masters of the previous process.
    Undo,
    /// The configuration from now on, checked and complete.
    Reload(Arc<Vrrp>),
    /// Stop: send priority 0, remove the addresses, answer with `Action::Done`.
    Stop {
        /// `--dont-release-vrrp`: leave addresses in place and send no priority 0.
        keep_addresses: bool,
    },
}

/// Where a packet came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rx {
    pub interface: IfIndex,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// IPv6 hop limit; ignored for IPv4, where the packet itself contains the TTL.
    pub hop_limit: u8,
}

/// Which instance an action belongs to; stable as long as the instance exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u32);

/// Which run of a script a result belongs to; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);
