//! What the daemon says of itself to others: views of its state, and notices of what happened.
//!
//! Everything here is plain data that can be serialised. Who fills it: the engines. Who shows it: the
//! supervisor, the runner, the operator's command.
#![forbid(unsafe_code)]

pub mod check;
pub mod daemon;
pub mod notice;
pub mod vrrp;

pub use notice::{MailText, Notice, ProcessReport, RunEnd};

/// Target of log events that others on the segment cause. When lines come too fast these are the first to be lost.
pub const PEER: &str = "evervip::peer";
