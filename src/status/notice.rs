//! Notices to programs, FIFOs and mail recipients.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::vrrp::TrackerKind;
use crate::base::Name;
use crate::model::{Command, ServiceId};

/// One event with a recipient. It is self-contained: delivering it needs no other state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Notices of one subject are delivered in order, one program at a time: a quick master-backup-master must not end
    /// with the scripts of backup and master running side by side. For example `instance VRRP1`, `group G`,
    /// `server [10.0.0.71]:tcp:80`.
    pub subject: Name,
    /// The state announced, for log lines: `MASTER`, `BACKUP`, `FAULT`, `STOP`, `DELETED`, `UP`, `DOWN`.
    pub state: Name,
    /// Programs to run in this order, arguments complete.
    pub commands: Vec<Command>,
    /// Time limit of each program; none for no limit of its own.
    pub limit: Option<Duration>,
    /// The event in one line, as keepalived words it for notify FIFOs, without its end; empty for none.
    pub line: Box<str>,
    /// Whether to write it to the notify FIFOs.
    pub to_fifo: bool,
    /// The mail to send, if one is wanted.
    pub mail: Option<MailText>,
}

/// The subject of notices about a virtual router.
#[must_use]
pub fn instance_subject(name: &str) -> Name {
    Name::from(format!("instance {name}"))
}

/// The subject of notices about adverts of lower priority that the master receives.
#[must_use]
pub fn lower_priority_subject(name: &str) -> Name {
    Name::from(format!("instance {name} lower priority"))
}

/// The subject of notices about a sync group.
#[must_use]
pub fn group_subject(name: &str) -> Name {
    Name::from(format!("group {name}"))
}

/// The subject of notices about a virtual server.
#[must_use]
pub fn service_subject(service: &ServiceId) -> Name {
    Name::from(format!("service {service}"))
}

/// The subject of notices about a real server with this name.
#[must_use]
pub fn server_subject(name: &str, service: &ServiceId) -> Name {
    Name::from(format!("server {name} of {service}"))
}

/// A mail without its envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailText {
    /// Subject without the leading `[ROUTER_ID] `.
    pub subject: String,
    /// The single line of the body.
    pub body: String,
    /// Whether it is sent before others: the state of a virtual router or the quorum of a virtual server, but not a
    /// single server's state.
    pub urgent: bool,
}

/// A report about an object that is tracked by name. It passes unchanged from the process or thread that observes the
/// object to the engines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackReport {
    pub kind: TrackerKind,
    pub name: Name,
    pub reading: Reading,
}

/// What was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reading {
    /// The number in a file.
    Number(i32),
    Condition {
        good: bool,
        /// How many processes run, for the status.
        count: Option<u32>,
    },
}

impl TrackReport {
    /// The number in a `track_file`.
    #[must_use]
    pub const fn file(name: Name, number: i32) -> Self {
        Self { kind: TrackerKind::File, name, reading: Reading::Number(number) }
    }

    /// Whether the session of a `bfd_instance` is up.
    #[must_use]
    pub const fn bfd(name: Name, up: bool) -> Self {
        let reading = Reading::Condition { good: up, count: None };
        Self { kind: TrackerKind::Bfd, name, reading }
    }
}

impl From<ProcessReport> for TrackReport {
    fn from(ProcessReport { name, runs, count }: ProcessReport) -> Self {
        let reading = Reading::Condition { good: runs, count: Some(count) };
        Self { kind: TrackerKind::Process, name, reading }
    }
}

/// The observed state of a `vrrp_track_process`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessReport {
    /// Its name.
    pub name: Name,
    /// Whether the required number of processes has been running for the configured delay.
    pub runs: bool,
    /// How many run.
    pub count: u32,
}

/// How a run of a program ended, for those whose status matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunEnd {
    /// It exited with this status.
    Exit(i32),
    /// A signal ended it.
    Signal(i32),
    /// It took longer than its timeout and was killed.
    TimedOut,
    /// It could not be started: error number.
    NotStarted(i32),
}
