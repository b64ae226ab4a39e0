//! What the daemon reports: views of its state, and notices of events.
//!
//! Everything here is plain data that can be serialised. The engines produce it; the supervisor, the runner and the
//! operator's command consume it.
#![forbid(unsafe_code)]

pub mod cause;
pub mod check;
pub mod daemon;
pub mod notice;
pub mod peer;
pub mod vrrp;

use serde::{Deserialize, Serialize};

pub use notice::{MailText, Notice, ProcessReport, Reading, RunEnd, TrackReport};

/// Target of log events that other routers on the segment cause. If there are too many lines, these are dropped first.
pub const PEER: &str = "evervip::peer";

/// What a process is asked to show of its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// A full view.
    State,
    /// The routers that the instances have heard.
    Peers,
    /// Why the instances are in their states.
    Causes,
}

impl Ask {
    /// Everything that can be asked.
    pub const ALL: [Self; 3] = [Self::State, Self::Peers, Self::Causes];
}
