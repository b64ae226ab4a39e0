//! The data of one service and of its servers.

use std::sync::Arc;

use crate::base::Instant;
use crate::model::{self, ServiceKey};
use crate::plan::Token;
use crate::plan::ipvs::{Destination, DestinationKey, Op};

/// One service. Its configuration is looked up by position, so that nothing is stored twice.
#[derive(Debug)]
pub(super) struct Service {
    pub key: ServiceKey,
    /// Position in the configuration; none for one that is only to be removed from the kernel.
    pub position: Option<u32>,
    /// In the order of the configuration.
    pub servers: Vec<Server>,
    /// Positions of the servers, sorted by what IPVS finds them by.
    pub by_key: Box<[u32]>,
    /// The quorum is reached.
    pub up: bool,
    pub since: Instant,
    /// What was announced last.
    pub announced: Option<bool>,
    /// Weight of the servers that are up.
    pub weight: u64,
    pub sorry: Sorry,
    /// The kernel refuses the sorry server.
    pub sorry_refused: Option<Refusal>,
    /// The quorum was not looked at yet since the start or a reload.
    pub fresh: bool,
    pub dirty: Dirty,
    /// It is to leave the kernel.
    pub leaving: bool,
    /// Servers that wait for the kernel.
    pub rising: Vec<u32>,
    pub flight: Option<Flight>,
    /// The kernel refuses the service itself, or to remove something.
    pub refused: Option<Refusal>,
    /// What the kernel holds is not what we believed: read it before the next change.
    pub stale: bool,
    pub reading: bool,
    /// Waits for a place among the writes.
    pub queued: Queued,
    /// Doublings of the time to the next attempt after a refusal.
    pub backoff: u8,
    /// A step failed on it, which is a defect: nothing is done with it any more.
    pub quarantined: bool,
}

/// Operations the kernel has not answered yet. A service has one such list at most; what changes meanwhile is
/// found by comparison when it is answered.
#[derive(Debug)]
pub(super) struct Flight {
    pub token: Token,
    pub ops: Arc<[Op]>,
    pub answered: u32,
}

/// Whether a service waits for a place among the writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Queued {
    #[default]
    No,
    /// Behind all others.
    Behind,
    /// Before all others.
    Ahead,
}

/// What the kernel refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Error number, positive.
    pub errno: i32,
    /// The settings it refused; none if it refused a removal, or the service.
    pub wanted: Option<Destination>,
    /// It is not to be asked again yet.
    pub blocks: bool,
}

/// What of a service must be compared with the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dirty {
    /// These servers, by position, and nothing else. Usually empty.
    Servers(Vec<u32>),
    /// Everything.
    All,
}

/// Where the sorry server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sorry {
    /// Not needed.
    Out,
    /// Needed, not yet in the kernel's table: the servers stay until it is.
    Coming,
    /// In service; the servers are out.
    In,
    /// No longer needed; it stays until a server is in the kernel's table.
    Leaving,
}

impl Sorry {
    /// Whether its entry is to get connections.
    pub const fn serves(self) -> bool {
        !matches!(self, Self::Out)
    }

    /// Whether the quorum asked for it.
    pub const fn wanted(self) -> bool {
        matches!(self, Self::Coming | Self::In)
    }
}

/// One real server.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub checkers: Checkers,
    /// Checks that find it bad.
    pub failed: u32,
    pub standing: Standing,
    pub since: Instant,
    /// What was announced last.
    pub announced: Option<bool>,
    /// The kernel refuses it.
    pub refused: Option<Box<Refusal>>,
}

/// Whether a server counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// No.
    Down,
    /// As soon as the kernel has taken it.
    Rising(Why),
    /// Yes.
    Up,
}

/// What brought a server up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It is so from the start.
    Start,
    /// This check succeeded.
    Check(u32),
    /// A reload, or the kernel changed its mind.
    Other,
}

/// The checks of one server: most have one.
#[derive(Clone, Debug, Default)]
pub(super) enum Checkers {
    #[default]
    None,
    One(u32),
    Many(Box<[u32]>),
}

impl Checkers {
    pub fn as_slice(&self) -> &[u32] {
        match self {
            Self::None => &[],
            Self::One(slot) => core::slice::from_ref(slot),
            Self::Many(slots) => slots,
        }
    }
}

impl From<Vec<u32>> for Checkers {
    fn from(slots: Vec<u32>) -> Self {
        match slots.as_slice() {
            [] => Self::None,
            [slot] => Self::One(*slot),
            _ => Self::Many(slots.into()),
        }
    }
}

impl Service {
    pub fn new(key: ServiceKey, position: Option<u32>, now: Instant) -> Self {
        Self {
            key,
            position,
            servers: Vec::new(),
            by_key: Box::default(),
            up: false,
            since: now,
            announced: None,
            weight: 0,
            sorry: Sorry::Out,
            sorry_refused: None,
            fresh: true,
            dirty: Dirty::All,
            leaving: false,
            rising: Vec::new(),
            flight: None,
            refused: None,
            stale: false,
            reading: false,
            queued: Queued::No,
            backoff: 0,
            quarantined: false,
        }
    }

    /// The position of a server.
    pub fn find(&self, config: &model::Service, key: &DestinationKey) -> Option<u32> {
        let at = self
            .by_key
            .binary_search_by(|position| {
                let server = config.servers.get(*position as usize);
                server.map(DestinationKey::of).cmp(&Some(*key))
            })
            .ok()?;
        self.by_key.get(at).copied()
    }

    /// Sorts the positions after the configuration changed.
    pub fn index(&mut self, config: &model::Service) {
        let mut positions: Vec<u32> = (0u32..).take(config.servers.len()).collect();
        positions
            .sort_by_key(|position| config.servers.get(*position as usize).map(DestinationKey::of));
        self.by_key = positions.into();
    }

    /// Remembers that a server must be compared with the kernel.
    pub fn touch(&mut self, server: u32) {
        if let Dirty::Servers(list) = &mut self.dirty {
            list.push(server);
        }
    }

    /// Whether the pool is open to servers: it is closed while the sorry server stands alone.
    pub fn is_open(&self) -> bool {
        self.sorry != Sorry::In
    }

    /// Whether the kernel refuses anything of it.
    pub fn is_refused(&self) -> bool {
        self.refused.is_some()
            || self.sorry_refused.is_some()
            || self.servers.iter().any(|server| server.refused.is_some())
    }
}

impl Server {
    pub fn new(now: Instant) -> Self {
        Self {
            checkers: Checkers::None,
            failed: 0,
            standing: Standing::Down,
            since: now,
            announced: None,
            refused: None,
        }
    }
}
