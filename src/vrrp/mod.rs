//! The VRRP engine.
#![forbid(unsafe_code)]

pub mod action;
pub mod event;

pub use action::{Action, Actions};
pub use event::{Event, InstanceId, Link, RunEnd, RunId, Rx, Snapshot};
