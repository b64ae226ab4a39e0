//! `vrrp_sync_group`.

use crate::config::schema::block;
use crate::config::slot::{First, Lines, One, OneList};
use crate::config::value::number::{Bool, Flag};
use crate::config::value::script::Script;
use crate::config::value::text::{ObjectName, SoleName};
use crate::config::value::tracker::{TrackEntry, TrackInterface};

block! {
    /// Instances that are master together or not at all.
    pub struct SyncGroup(SoleName) = "vrrp_sync_group" {
        /// The members, by name; they may be defined later. An instance is in one group only.
        group: OneList<ObjectName> = "group";
        /// Interfaces tracked for every member.
        track_interface: Lines<TrackInterface> = "track_interface";
        /// Scripts tracked for every member.
        track_script: Lines<TrackEntry<254>> = "track_script";
        /// Files tracked for every member.
        track_file: Lines<TrackEntry<254>> = "track_file";
        /// Processes tracked for every member.
        track_process: Lines<TrackEntry<254>> = "track_process";
        /// BFD sessions tracked for every member.
        track_bfd: Lines<TrackEntry<253>> = "track_bfd";
        /// Runs when the group becomes master.
        notify_master: First<Script> = "notify_master";
        /// Runs when the group becomes backup.
        notify_backup: First<Script> = "notify_backup";
        /// Runs when the group goes into FAULT.
        notify_fault: First<Script> = "notify_fault";
        /// Runs when the daemon stops.
        notify_stop: First<Script> = "notify_stop";
        /// Runs at every change, with the arguments GROUP, name, state and 0.
        notify: First<Script> = "notify";
        /// Mail changes of state.
        smtp_alert: One<Bool> = "smtp_alert", otherwise("smtp_alert_vrrp, else smtp_alert, else off");
        /// Old name of `sync_group_tracking_weight`.
        global_tracking: One<Flag> = "global_tracking", deprecated("use 'sync_group_tracking_weight'");
        /// Let members keep trackers with weights. Without it the weights of members are ignored, because the group
        /// changes as a whole.
        sync_group_tracking_weight: One<Flag> = "sync_group_tracking_weight";
        /// Default of `notify_priority_changes` for the members.
        notify_priority_changes: One<Bool> = "notify_priority_changes",
            otherwise("vrrp_notify_priority_changes");
    }
}
