//! The data of one service: its pool of servers, and the services of the kernel that the pool serves.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::id::{CheckerSlot, Index, ServerPosition, ServicePosition};
use super::weight::{Factors, Purpose, effective};
use crate::base::Instant;
use crate::model::{self, RealServer, ServiceId, ServiceKey};
use crate::plan::Token;
use crate::plan::ipvs::{Destination, DestinationKey, Op};

/// One service. Its configuration is looked up by position, so that nothing is stored twice.
#[derive(Debug)]
pub(super) struct Service {
    pub id: ServiceId,
    /// Position in the configuration; none for one that only has to be removed from the kernel.
    pub position: Option<ServicePosition>,
    /// One front, or those of a group, sorted by key.
    pub fronts: Vec<Front>,
    /// Its servers in the order of the configuration.
    pub servers: Vec<Server>,
    /// Positions of the servers, sorted by address.
    pub by_address: Box<[ServerPosition]>,
    /// Some servers have the same address and may share a kernel entry.
    pub twins: bool,
    /// The quorum is reached.
    pub up: bool,
    pub since: Instant,
    /// The state announced last.
    pub announced: Option<bool>,
    /// Weight of the servers that are up.
    pub weight: u64,
    pub sorry: Sorry,
    /// The quorum was not evaluated since the start or the last reload.
    pub fresh: bool,
    pub dirty: Dirty,
    /// It is to be removed from the kernel.
    pub leaving: bool,
    /// Servers that wait for the kernel.
    pub rising: Vec<ServerPosition>,
    pub flight: Option<Flight>,
    /// The kernel's state is not the known one: read it before the next change.
    pub stale: bool,
    pub reading: bool,
    /// Whether it waits for a slot to write.
    pub queued: Queued,
    /// Number of doublings of the time to the next attempt after a refusal.
    pub backoff: u8,
    /// A step on it panicked, which is a defect: it is not touched any more.
    pub quarantined: bool,
}

/// One service of the kernel.
#[derive(Debug)]
pub(super) struct Front {
    pub key: ServiceKey,
    /// It is to be removed from the kernel.
    pub leaving: bool,
    /// While it is missing in the kernel, clients are not served that were served before, or that another node could
    /// serve.
    pub counts: bool,
    /// The kernel refuses the service itself, or the removal of an entry that is no longer configured.
    pub refused: Option<Refusal>,
    /// Entries that the kernel refuses. Usually empty.
    pub refusals: BTreeMap<DestinationKey, Refusal>,
}

impl Front {
    pub const fn new(key: ServiceKey) -> Self {
        Self { key, leaving: false, counts: false, refused: None, refusals: BTreeMap::new() }
    }

    pub fn is_blocked(&self) -> bool {
        self.refused.is_some_and(|refusal| refusal.blocks)
    }

    /// Whether the kernel refuses anything of it.
    pub fn is_refused(&self) -> bool {
        self.refused.is_some() || !self.refusals.is_empty()
    }
}

/// Unanswered operations. A service has at most one such list; changes made meanwhile are found by comparison after the
/// answer.
#[derive(Debug)]
pub(super) struct Flight {
    pub token: Token,
    pub ops: Arc<[Op]>,
    pub answered: u32,
}

/// Whether a service waits for a slot to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Queued {
    #[default]
    No,
    Behind,
    Ahead,
}

/// A refusal of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Error number, positive.
    pub errno: i32,
    /// The settings it refused; none if it refused a removal, or the service.
    pub wanted: Option<Destination>,
    /// It must not be requested again yet.
    pub blocks: bool,
}

/// The part of a service that must be compared with the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dirty {
    /// These servers, by position, and nothing else. Usually empty.
    Servers(Vec<ServerPosition>),
    /// Everything.
    All,
}

/// The state of the sorry server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sorry {
    /// Not needed.
    Out,
    /// Needed, but not yet in the kernel's table: the servers stay until it is.
    Coming,
    /// In service; the servers are out.
    In,
    /// Not needed any more; it stays until a server is in the kernel's table.
    Leaving,
}

impl Sorry {
    /// Whether its entry should get connections.
    pub const fn serves(self) -> bool {
        !matches!(self, Self::Out)
    }

    /// Whether the quorum requires it.
    pub const fn wanted(self) -> bool {
        matches!(self, Self::Coming | Self::In)
    }
}

/// One real server.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub checkers: Checkers,
    /// Number of checks that find it bad.
    pub failed: u32,
    pub standing: Standing,
    pub since: Instant,
    /// The state announced last.
    pub announced: Option<bool>,
    /// Sum that its checks add to the configured weight.
    pub dynamic: i64,
    /// Its contribution to the weight of the service.
    pub counted: u32,
}

/// Whether a server counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Down,
    /// As soon as the kernel has accepted it.
    Rising(Why),
    Up,
}

/// Why a server came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It was good from the start.
    Start,
    /// This check succeeded.
    Check(CheckerSlot),
    /// A reload, or the kernel accepted it.
    Other,
}

/// The checks of one server: most have one.
#[derive(Clone, Debug, Default)]
pub(super) enum Checkers {
    #[default]
    None,
    One(CheckerSlot),
    Many(Box<[CheckerSlot]>),
}

impl Checkers {
    pub fn as_slice(&self) -> &[CheckerSlot] {
        match self {
            Self::None => &[],
            Self::One(slot) => core::slice::from_ref(slot),
            Self::Many(slots) => slots,
        }
    }
}

impl From<Vec<CheckerSlot>> for Checkers {
    fn from(slots: Vec<CheckerSlot>) -> Self {
        match slots.as_slice() {
            [] => Self::None,
            [slot] => Self::One(*slot),
            _ => Self::Many(slots.into()),
        }
    }
}

impl Service {
    pub fn new(
        id: ServiceId,
        position: Option<ServicePosition>,
        keys: &[ServiceKey],
        now: Instant,
    ) -> Self {
        let mut fronts: Vec<Front> = keys.iter().copied().map(Front::new).collect();
        fronts.sort_by_key(|front| front.key);
        Self {
            id,
            position,
            fronts,
            servers: Vec::new(),
            by_address: Box::default(),
            twins: false,
            up: false,
            since: now,
            announced: None,
            weight: 0,
            sorry: Sorry::Out,
            fresh: true,
            dirty: Dirty::All,
            leaving: false,
            rising: Vec::new(),
            flight: None,
            stale: false,
            reading: false,
            queued: Queued::No,
            backoff: 0,
            quarantined: false,
        }
    }

    pub fn front(&self, key: &ServiceKey) -> Option<&Front> {
        let at = self.fronts.binary_search_by_key(key, |front| front.key).ok()?;
        self.fronts.get(at)
    }

    pub fn front_mut(&mut self, key: &ServiceKey) -> Option<&mut Front> {
        let at = self.fronts.binary_search_by_key(key, |front| front.key).ok()?;
        self.fronts.get_mut(at)
    }

    /// Positions of the servers with this address, in the order of the configuration.
    pub fn at_address(&self, config: &model::Service, address: IpAddr) -> &[ServerPosition] {
        let of =
            |position: &ServerPosition| config.servers.get(position.index()).map(|s| s.address);
        let start = self.by_address.partition_point(|p| of(p) < Some(address));
        let rest = self.by_address.get(start..).unwrap_or_default();
        let length = rest.partition_point(|p| of(p) <= Some(address));
        rest.get(..length).unwrap_or_default()
    }

    /// Positions of the servers that share an entry of a front, in the order of the configuration.
    pub fn sharing<'s>(
        &'s self,
        config: &'s model::Service,
        front: &'s ServiceKey,
        key: &'s DestinationKey,
    ) -> impl Iterator<Item = ServerPosition> + 's {
        self.at_address(config, key.address).iter().copied().filter(move |position| {
            let server = config.servers.get(position.index());
            server.is_some_and(|server| DestinationKey::at(server, front) == *key)
        })
    }

    /// Sorts the positions after the configuration changed.
    pub fn index(&mut self, config: &model::Service) {
        let mut positions: Vec<_> = ServerPosition::first(config.servers.len()).collect();
        let of = |p: ServerPosition| config.servers.get(p.index()).map(|server| server.address);
        // Stable: servers with one address keep their order.
        positions.sort_by_key(|position| of(*position));
        self.by_address = positions.into();
        self.twins = self.by_address.windows(2).any(|pair| match pair {
            [a, b] => of(*a) == of(*b),
            _ => false,
        });
    }

    /// Updates the count after a change of a server's standing or weight.
    pub fn count(&mut self, config: &model::Service, position: ServerPosition) {
        let parts = config.servers.get(position.index());
        if let (Some(real), Some(server)) = (parts, self.servers.get_mut(position.index())) {
            let before = server.counted;
            server.counted = counted(real, server);
            let now = server.counted;
            self.weight = (self.weight + u64::from(now)).saturating_sub(u64::from(before));
        }
        if self.twins {
            self.weight = self.weight_of_entries(config);
        }
    }

    /// Counts all servers again after the configuration changed.
    pub fn recount(&mut self, config: &model::Service) {
        self.weight = 0;
        for (real, server) in config.servers.iter().zip(&mut self.servers) {
            server.counted = counted(real, server);
            self.weight += u64::from(server.counted);
        }
        if self.twins {
            self.weight = self.weight_of_entries(config);
        }
    }

    /// The weight of the servers that are up, as in the kernel: those that share an entry count once.
    pub fn weight_of_entries(&self, config: &model::Service) -> u64 {
        let key = |p: ServerPosition| {
            config.servers.get(p.index()).map(|server| DestinationKey::at(server, &config.key))
        };
        let is_up = |p: ServerPosition| {
            self.servers.get(p.index()).is_some_and(|s| s.standing == Standing::Up)
        };
        let weight = |group: &[ServerPosition]| -> u64 {
            let firsts = group.iter().enumerate().filter(|(at, p)| {
                let earlier = group.get(..*at).unwrap_or_default();
                is_up(**p) && !earlier.iter().any(|e| is_up(*e) && key(*e) == key(**p))
            });
            let counted =
                |p: ServerPosition| self.servers.get(p.index()).map_or(0, |s| u64::from(s.counted));
            firsts.map(|(_, p)| counted(*p)).sum()
        };
        let address =
            |p: ServerPosition| config.servers.get(p.index()).map(|server| server.address);
        self.by_address.chunk_by(|a, b| address(*a) == address(*b)).map(weight).sum()
    }

    /// Remembers that a server must be compared with the kernel.
    pub fn touch(&mut self, server: ServerPosition) {
        if let Dirty::Servers(list) = &mut self.dirty {
            list.push(server);
        }
    }

    /// Whether servers may be in the table: not while only the sorry server is in service.
    pub fn is_open(&self) -> bool {
        self.sorry != Sorry::In
    }

    /// Whether the kernel refuses anything of it.
    pub fn is_refused(&self) -> bool {
        self.fronts.iter().any(Front::is_refused)
    }
}

/// What a server contributes to the weight of its service.
fn counted(real: &RealServer, server: &Server) -> u32 {
    effective(Factors::of(real, server), Purpose::Quorum).unwrap_or(0)
}

impl Server {
    pub fn new(now: Instant) -> Self {
        Self {
            checkers: Checkers::None,
            failed: 0,
            standing: Standing::Down,
            since: now,
            announced: None,
            dynamic: 0,
            counted: 0,
        }
    }
}
