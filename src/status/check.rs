//! Views of the check engine.

use core::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::base::Instant;
use crate::model::{ServiceId, ServiceKey};

/// The stored state of the checker role, so that a restarted one announces nothing twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Each service that was announced.
    pub services: Vec<ServiceSummary>,
}

/// One service in a [`Summary`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSummary {
    pub id: ServiceId,
    /// Whether it was announced as up (its quorum is reached) or as down; none if nothing was announced.
    pub announced: Option<bool>,
    /// Servers announced as down.
    pub down: Vec<SocketAddr>,
}

/// A full view of the check engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Version of this form; it increases when a field is removed or changes its meaning.
    pub schema: u32,
    /// Time of the view.
    pub at: Instant,
    /// Whether the kernel's table can be written.
    pub kernel: Kernel,
    /// The services, in the order of the configuration.
    pub services: Vec<Service>,
    /// Attempts under way.
    pub probes_running: usize,
    /// Attempts that are due and wait for others to end.
    pub probes_waiting: usize,
    pub counters: Counters,
}

/// The state of the kernel's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kernel {
    /// It is being read.
    Unknown,
    /// It can be read and written.
    Ready,
    /// It cannot be used: error number.
    Unavailable(i32),
}

/// View of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub id: ServiceId,
    /// Its key in the kernel; of a group the first one.
    pub key: ServiceKey,
    /// Whether the quorum is reached.
    pub up: bool,
    /// Since when `up` has this value.
    pub since: Instant,
    /// Weight of the servers that are up.
    pub weight: u64,
    /// Weight at which it is up.
    pub quorum: u32,
    /// Hysteresis below the quorum.
    pub hysteresis: u32,
    /// Whether the sorry server is in service.
    pub sorry: bool,
    /// The kernel refuses the service: error number.
    pub refused: Option<i32>,
    /// A step of the engine panicked on it: it is left unchanged.
    pub quarantined: bool,
    /// `ha_suspend`: its checks wait for its address to be on this host.
    pub suspended: bool,
    /// Its servers, in the order of the configuration.
    pub servers: Vec<Server>,
}

/// View of one real server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    pub address: IpAddr,
    /// Its port, as IPVS has it.
    pub port: u16,
    /// Its weight while it is up.
    pub weight: u32,
    /// Whether it counts as in service.
    pub up: bool,
    /// Since when `up` has this value.
    pub since: Instant,
    /// Its weight in the kernel's table; none if it has no entry.
    pub in_kernel: Option<u32>,
    /// The kernel refuses it: error number.
    pub refused: Option<i32>,
    pub checks: Vec<Checker>,
}

/// View of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checker {
    /// Its keyword, as in `TCP_CHECK`.
    pub kind: String,
    /// Whether it finds the server good.
    pub up: bool,
    /// Whether it has had a result.
    pub has_run: bool,
    /// Consecutive failed attempts that have not yet taken it down.
    pub failed_attempts: u32,
    /// How its last attempt ended, in words; empty before the first.
    pub last: String,
    /// When its next attempt, or the end of the one under way, is due.
    pub due: Option<Instant>,
}

/// Counters since the role started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Attempts begun.
    pub attempts: u64,
    /// Attempts that succeeded.
    pub succeeded: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Attempts that could not be made.
    pub untried: u64,
    /// Attempts repeated because the process itself was late.
    pub repeated: u64,
    /// Operations on the kernel's table that were carried out.
    pub operations: u64,
    /// Operations on the kernel's table that were refused.
    pub refused: u64,
    /// Kernel services that another program had changed and that were restored.
    pub restored: u64,
}
