//! View of the daemon as a whole: its configuration and its processes.

use serde::{Deserialize, Serialize};

use crate::base::Instant;

/// The supervisor's view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// Version of the program.
    pub version: String,
    /// Process id of the supervisor.
    pub pid: u32,
    /// Time of the view.
    pub at: Instant,
    /// When it started.
    pub since: Instant,
    /// The configuration in force; none while the first one is being read.
    pub configuration: Option<Configuration>,
    /// Whether a reload is under way.
    pub reloading: bool,
    /// Reloads that have ended.
    pub reloads: u32,
    /// How the last reload ended; none if there was none.
    pub last_reload: Option<Reload>,
    /// The other processes.
    pub processes: Vec<Process>,
}

/// A configuration in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// The file, or the pattern for several. Octets that are not UTF-8 are replaced.
    pub file: String,
    /// Number of the configuration, from 1.
    pub generation: u32,
    /// When it was read.
    pub read: Instant,
    /// Number of its errors for which something is left out.
    pub left_out: usize,
    /// The first error, or else the first warning, as one line.
    pub first_problem: Option<String>,
}

/// The end of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    pub at: Instant,
    /// Why the previous configuration stayed in force; none if the new one came into force.
    pub refused: Option<String>,
}

/// A role of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its name: `vrrp`, `checker`, `runner`, `api`.
    pub role: String,
    /// Whether the configuration needs it.
    pub wanted: bool,
    /// Its process id, if it runs.
    pub pid: Option<i32>,
    /// When this process started.
    pub since: Option<Instant>,
    /// Processes of this role started so far.
    pub starts: u32,
}
