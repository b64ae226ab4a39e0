//! What the daemon reports: views of its state, and notices of events.
//!
//! Everything here is plain data that can be serialised. The engines produce it; the supervisor, the runner and the
//! operator's command consume it.
#![forbid(unsafe_code)]

pub mod check;
pub mod daemon;
pub mod notice;
pub mod vrrp;

pub use notice::{MailText, Notice, ProcessReport, Reading, RunEnd, TrackReport};

/// Target of log events that other routers on the segment cause. If there are too many lines, these are dropped first.
pub const PEER: &str = "evervip::peer";
