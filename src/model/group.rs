//! Sync groups.

use serde::{Deserialize, Serialize};

use super::notify::NotifyCommands;
use super::tracker::{Tracked, TrackedInterface, TrackedScript};
use crate::base::Name;

/// A `vrrp_sync_group`: instances that are master together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncGroup {
    /// Its name, unique among groups.
    pub name: Name,
    /// Names of instances of the same configuration, each in this group only. Never empty.
    pub members: Vec<Name>,
    /// Interfaces tracked for every member.
    pub track_interfaces: Vec<TrackedInterface>,
    /// Scripts tracked for every member.
    pub track_scripts: Vec<TrackedScript>,
    /// The programs to run when the group changes its state.
    pub notify: NotifyCommands,
    /// Whether a change of state is mailed.
    pub smtp_alert: bool,
    /// Files tracked for every member.
    pub track_files: Vec<Tracked>,
    /// Processes tracked for every member.
    pub track_processes: Vec<Tracked>,
    /// BFD sessions tracked for every member.
    pub track_bfds: Vec<Tracked>,
}
